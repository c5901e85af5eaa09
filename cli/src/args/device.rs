//! The virtio devices that a machine is to have.

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum, value_parser};
use firstlight_vmm::{Devices, Disk, Transport};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Disks and whatever else the guest is to find beside its machine's own devices.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Devices")]
pub(crate) struct DeviceArgs {
    /// A disk: a raw image file or a block device; with ,readonly behind it, one that the guest
    /// cannot write to. May be given several times, and the guest finds them in that order
    ///
    /// A comma in the file's name is written twice.
    #[arg(long = "disk", value_name = "FILE[,readonly]", action = ArgAction::Append)]
    #[arg(value_parser = OsStringValueParser::new().try_map(disk))]
    disks: Vec<Disk>,
    /// Give the guest a source of random numbers
    #[arg(long)]
    rng: bool,
    /// How the guest reaches these devices: as functions on a PCI Express bus, or by registers in
    /// memory
    #[arg(long, value_enum, default_value = "pci", value_name = "TRANSPORT")]
    virtio: TransportArg,
    /// Into how many PCI slots devices can be plugged while the guest runs
    #[arg(long, value_name = "N", default_value = "0", value_parser = value_parser!(u8).range(..=16))]
    hotplug_slots: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransportArg {
    Pci,
    Mmio,
}

impl DeviceArgs {
    /// What was asked for.
    pub(crate) fn devices(&self) -> Devices {
        Devices {
            transport: match self.virtio {
                TransportArg::Pci => Transport::Pci,
                TransportArg::Mmio => Transport::Mmio,
            },
            disks: self.disks.clone(),
            rng: self.rng,
            hotplug_slots: self.hotplug_slots,
        }
    }
}

/// A file's name up to a single comma, and the words behind it.
fn split(text: &OsString) -> (PathBuf, Vec<String>) {
    let mut name = Vec::new();
    let mut bytes = text.as_bytes();
    let words = loop {
        match bytes {
            [b',', b',', rest @ ..] => {
                name.push(b',');
                bytes = rest;
            }
            [b',', rest @ ..] => break String::from_utf8_lossy(rest).into_owned(),
            [byte, rest @ ..] => {
                name.push(*byte);
                bytes = rest;
            }
            [] => return (OsString::from_vec(name).into(), Vec::new()),
        }
    };
    let words = words.split(',').map(str::to_owned).collect();
    (OsString::from_vec(name).into(), words)
}

fn disk(text: OsString) -> Result<Disk, String> {
    let (path, words) = split(&text);
    if path.as_os_str().is_empty() {
        return Err("the file's name is missing".to_owned());
    }
    let mut disk = Disk {
        path,
        readonly: false,
    };
    for word in words {
        match word.as_str() {
            "readonly" | "ro" => disk.readonly = true,
            "" => {}
            other => return Err(format!("`{other}` is not known; a disk can be `readonly`")),
        }
    }
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, bool), String> {
        let disk = disk(text.into())?;
        Ok((disk.path.display().to_string(), disk.readonly))
    }

    #[test]
    fn a_disk_is_a_file_and_may_be_read_only() {
        assert_eq!(parsed("a.img"), Ok(("a.img".into(), false)));
        assert_eq!(parsed("a.img,readonly"), Ok(("a.img".into(), true)));
        assert_eq!(parsed("a,,b.img,ro"), Ok(("a,b.img".into(), true)));
    }

    #[test]
    fn what_is_not_known_of_a_disk_is_refused() {
        assert!(parsed("a.img,reedonly").unwrap_err().contains("reedonly"));
        assert!(parsed("").is_err());
        assert!(parsed(",readonly").is_err());
    }
}
