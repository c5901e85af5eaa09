//! The virtio devices that a machine is to have.

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum, value_parser};
use firstlight_vmm::{
    BatteryState, ConsoleKind, Contents, DebugConsole, Devices, Disk, ForeignDevice, ForeignKind,
    GuestCid, HostPciAddress, Net, OfferedFile, Sandbox, Share, Tag, Transport, Vsock,
};
use std::ffi::{OsStr, OsString};
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
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| disk(&text)))]
    disks: Vec<Disk>,
    /// A folder of this host that the guest can mount by the tag [default: share0 for the first that has
    /// none, then share1 and so on]; with ,readonly behind it, one that the guest cannot write to. May be
    /// given several times
    ///
    /// In the guest, `mount -t virtiofs TAG /mnt` mounts it. The guest reads and writes what the user
    /// may who runs this. A colon or comma in the folder's name is written twice.
    #[arg(long = "share", value_name = "DIR[:TAG][,readonly]", action = ArgAction::Append)]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| share(&text)))]
    shares: Vec<ShareArg>,
    /// A raw image file or a block device that the guest has as memory (virtio-pmem), /dev/pmem0 for the
    /// first: what it reads there it reads in the host's own cache, with no copy in its own. With ,readonly
    /// behind it, what the guest writes there is gone when it ends. May be given several times
    ///
    /// A file that can be written has a multiple of 2 MiB. In the guest, `mount -o dax` reads and writes
    /// files without a cache, where the file system is ext4 or XFS with blocks of 4096 bytes. It takes the
    /// kvm engine. A comma in the file's name is written twice.
    #[arg(long = "pmem", value_name = "FILE[,readonly]", action = ArgAction::Append)]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| disk(&text)))]
    pmems: Vec<Disk>,
    /// A device that another process serves, which listens on the Unix socket at the path, by the protocol
    /// vhost-user: block for a disk, fs for a folder that the guest mounts by the tag, net for a network card.
    /// May be given several times
    ///
    /// A card has the address of ,mac=ADDRESS, or one that no other guest here has.
    /// The process has all of the guest's memory: it is trusted as this one is. When it ends, the guest is
    /// told that the device needs to be reset. A comma cannot be in the path.
    #[arg(long = "vhost-user", value_name = "TYPE,socket=PATH[,tag=TAG][,mac=MAC]", action = ArgAction::Append)]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| foreign(&text)))]
    foreign: Vec<ForeignDevice>,
    /// A network card: user for a network of the guest's own behind this host, without any rights;
    /// tap=NAME for an interface of this host that is there already; none for none. May be given
    /// several times
    ///
    /// Without it the guest has no network. On the kvm engine, user takes the program passt.
    #[arg(long = "net", value_name = "user|tap=NAME|none", action = ArgAction::Append)]
    #[arg(value_parser = network)]
    nets: Vec<NetArg>,
    /// Sockets between the guest, whose number this is, and programs on this host, which find them at
    /// the path [default: vsock.sock in the folder where this runs]
    ///
    /// To connect to a port of the guest's, connect to the Unix socket at the path and write CONNECT,
    /// a space, the port and a newline; what comes back is OK, and then what the guest sends. What
    /// the guest connects to at port N of number 2 is the Unix socket at the path with _N behind it.
    #[arg(long, value_name = "CID[,uds=PATH]")]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| vsock(&text)))]
    vsock: Option<Vsock>,
    /// What of the guest the terminal is joined to: its serial port, or its virtio console, hvc0
    #[arg(long, value_enum, default_value = "serial")]
    console: ConsoleArg,
    /// Give the guest a source of random numbers
    #[arg(long)]
    rng: bool,
    /// Let the guest give memory back that it does not use
    #[arg(long)]
    balloon: bool,
    /// Give the guest a PCI function of this host for itself, by its address, such as 0000:00:04.0, or its folder
    /// in sysfs; may be given several times
    ///
    /// The function is bound to the driver vfio-pci, and this host has an IOMMU. All of the guest's memory stays at its
    /// place in this host's memory, which goes against what this process may lock (`ulimit -l`); there is no balloon and no swap
    /// file. It takes the kvm engine.
    #[arg(long = "vfio", value_name = "FUNCTION", action = ArgAction::Append)]
    #[arg(conflicts_with = "balloon")]
    vfio: Vec<HostPciAddress>,
    /// Give the guest a watchdog: once it has turned that on, and no longer feeds it, it is ended with
    /// status 36
    ///
    /// It is that of Intel's 6300ESB, on a PCI bus; Linux' driver is i6300esb.
    #[arg(long)]
    watchdog: bool,
    /// Give the guest a battery and mains power: a full one, or one that stands as is said, and otherwise as
    /// a full one does
    ///
    /// Said is capacity=PERCENT, status=unknown|charging|discharging|not-charging|full, ac=on|off,
    /// present=on|off, health=unknown|good|overheat|dead|over-voltage|failure|cold, in microvolts voltage and
    /// ac-voltage, in microamperes current, current-average and ac-current, in microampere-hours charge and
    /// charge-full, temperature in tenths of a degree Celsius, and cycles. It is the Goldfish emulator's, of
    /// which Linux' driver is goldfish_battery. It takes the kvm engine.
    #[arg(long, value_name = "KEY=VALUE,...", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(value_parser = battery)]
    battery: Option<BatteryState>,
    /// Say when an x86 guest's system goes to sleep with nothing turned off (suspend-to-idle), and when it
    /// has woken
    ///
    /// Its ACPI tables have a device for that, which Linux tells. It takes the kvm engine.
    #[arg(long)]
    suspend_notice: bool,
    /// Give an x86 guest a debug console: what it writes to port 0x402 goes to the end of this file, or to
    /// standard error for -
    ///
    /// Bytes come as they are written, before the guest has any driver; reading the port gives 0xe9.
    #[arg(long, value_name = "FILE")]
    debugcon: Option<PathBuf>,
    /// Offer the guest's firmware and kernel a file, with what is in a file of the host, or with the text
    /// of NAME,string=TEXT; may be given several times
    ///
    /// NAME begins with opt/, and a domain's name backwards. Linux shows it in
    /// /sys/firmware/qemu_fw_cfg/by_name/NAME/raw, by its driver qemu_fw_cfg.
    #[arg(long = "fw-cfg", value_name = "NAME,file=FILE", action = ArgAction::Append)]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| offered_file(&text)))]
    files: Vec<OfferedFile>,
    /// Serve each disk, shared folder and network card by a process of its own that can reach nothing else of this host
    ///
    /// It takes the kvm engine. Such a process has the guest's memory, the one file, folder or network, no rights but those
    /// over the files of a folder where root runs this, and no system calls but those that it takes.
    #[arg(long, value_enum, default_value = "off")]
    sandbox: SandboxArg,
    /// How the guest reaches these devices: as functions on a PCI Express bus, or by registers in
    /// memory
    #[arg(long, value_enum, default_value = "pci", value_name = "TRANSPORT")]
    virtio: TransportArg,
    /// Into how many PCI slots devices can be plugged while the guest runs
    #[arg(long, value_name = "N", default_value = "0", value_parser = value_parser!(u8).range(..=16))]
    hotplug_slots: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SandboxArg {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransportArg {
    Pci,
    Mmio,
}

/// A battery as it is typed.
fn battery(text: &str) -> Result<BatteryState, String> {
    let state = BatteryState::default().with(text);
    state.map_err(|error| error.to_string())
}

/// A network card as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NetArg {
    None,
    Card(Net),
}

/// A shared folder as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ShareArg {
    path: PathBuf,
    tag: Option<Tag>,
    readonly: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ConsoleArg {
    Serial,
    Virtio,
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
            shares: self.shares(),
            pmems: self.pmems.clone(),
            foreign: self.foreign.clone(),
            nets: self.nets(),
            console: match self.console {
                ConsoleArg::Serial => ConsoleKind::Serial,
                ConsoleArg::Virtio => ConsoleKind::Virtio,
            },
            status_port: false,
            vsock: self.vsock.clone(),
            rng: self.rng,
            balloon: self.balloon,
            vfio: self.vfio.clone(),
            watchdog: self.watchdog,
            battery: self.battery,
            suspend_notice: self.suspend_notice,
            debugcon: self.debugcon.as_ref().map(|path| match path.to_str() {
                Some("-") => DebugConsole::Stderr,
                _ => DebugConsole::File(path.clone()),
            }),
            files: self.files.clone(),
            sandbox: match self.sandbox {
                SandboxArg::On => Sandbox::On,
                SandboxArg::Off => Sandbox::Off,
            },
            hotplug_slots: self.hotplug_slots,
        }
    }
}

impl DeviceArgs {
    /// What it shares; where no tag was typed, each has one by its place.
    fn shares(&self) -> Vec<Share> {
        let mut unnamed = 0..;
        let shares = self.shares.iter().map(|share| Share {
            path: share.path.clone(),
            tag: share.tag.unwrap_or_else(|| {
                let number = unnamed.next().unwrap_or(0);
                Tag::new(&format!("share{number}")).expect("a short tag")
            }),
            readonly: share.readonly,
            is_still: false,
        });
        shares.collect()
    }

    /// Its cards; `none` takes away those that were given before.
    fn nets(&self) -> Vec<Net> {
        let mut nets = Vec::new();
        for net in &self.nets {
            match net {
                NetArg::None => nets.clear(),
                NetArg::Card(card) => nets.push(card.clone()),
            }
        }
        nets
    }
}

/// A file's name up to a single comma, and the words behind it.
fn split(text: &OsStr) -> (PathBuf, Vec<String>) {
    let (name, words) = split_once(text, b',');
    let words = words.map(|words| {
        let words = words.to_string_lossy();
        words.split(',').map(str::to_owned).collect()
    });
    (name, words.unwrap_or_default())
}

/// A file's name up to a single `sign`, and what is behind that.
fn split_once(text: &OsStr, sign: u8) -> (PathBuf, Option<&OsStr>) {
    let mut name = Vec::new();
    let mut bytes = text.as_bytes();
    let behind = loop {
        match bytes {
            [a, b, rest @ ..] if *a == sign && *b == sign => {
                name.push(sign);
                bytes = rest;
            }
            [a, rest @ ..] if *a == sign => break Some(OsStr::from_bytes(rest)),
            [byte, rest @ ..] => {
                name.push(*byte);
                bytes = rest;
            }
            [] => break None,
        }
    };
    (OsString::from_vec(name).into(), behind)
}

/// A disk as it is typed.
pub(super) fn disk(text: &OsStr) -> Result<Disk, String> {
    let (path, words) = split(text);
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

/// The image of a root as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RootfsArg {
    pub(crate) disk: Disk,
    /// Whether the guest has it as memory.
    pub(crate) is_pmem: bool,
}

pub(super) fn rootfs(text: &OsStr) -> Result<RootfsArg, String> {
    let (path, words) = split(text);
    if path.as_os_str().is_empty() {
        return Err("the image's name is missing".to_owned());
    }
    let readonly = false;
    let mut root = RootfsArg {
        disk: Disk { path, readonly },
        is_pmem: false,
    };
    for word in words {
        match word.as_str() {
            "readonly" | "ro" => root.disk.readonly = true,
            "pmem" => root.is_pmem = true,
            "" => {}
            other => {
                return Err(format!(
                    "`{other}` is not known; a root can be `readonly` and `pmem`"
                ));
            }
        }
    }
    Ok(root)
}

fn offered_file(text: &OsStr) -> Result<OfferedFile, String> {
    let wanted = "a file for the firmware is `NAME,file=FILE` or `NAME,string=TEXT`";
    let bytes = text.as_bytes();
    let comma = bytes.iter().position(|&byte| byte == b',').ok_or(wanted)?;
    let (name, contents) = bytes.split_at(comma);
    let name = str::from_utf8(name).or(Err(wanted))?;
    if !name.starts_with("opt/") {
        return Err(format!(
            "`{name}` does not begin with `opt/`: other names are the machine's own"
        ));
    }
    let contents = if let Some(path) = contents.strip_prefix(b",file=") {
        Contents::File(OsStr::from_bytes(path).into())
    } else {
        let text = contents.strip_prefix(b",string=").ok_or(wanted)?;
        Contents::Text(str::from_utf8(text).or(Err(wanted))?.to_owned())
    };
    Ok(OfferedFile {
        name: name.to_owned(),
        contents,
    })
}

fn share(text: &OsStr) -> Result<ShareArg, String> {
    let (name, words) = split(text);
    let (path, tag) = split_once(name.as_os_str(), b':');
    if path.as_os_str().is_empty() {
        return Err("the folder's name is missing".to_owned());
    }
    let tag = tag.map(|tag| {
        let tag = tag.to_str().and_then(Tag::new);
        tag.ok_or_else(|| format!("a tag is a text of 1 to {} bytes", Tag::LEN))
    });
    let mut share = ShareArg {
        path,
        tag: tag.transpose()?,
        readonly: false,
    };
    for word in words {
        match word.as_str() {
            "readonly" | "ro" => share.readonly = true,
            "" => {}
            other => return Err(format!("`{other}` is not known; a share can be `readonly`")),
        }
    }
    Ok(share)
}

/// The file of a crash log as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PstoreArg {
    pub(crate) path: PathBuf,
    /// How many bytes it is to have, where that is said.
    pub(crate) len: Option<u64>,
}

pub(super) fn pstore(text: &OsStr) -> Result<PstoreArg, String> {
    let (path, words) = split(text);
    if path.as_os_str().is_empty() {
        return Err("the file has no name".to_owned());
    }
    let mut len = None;
    for word in words {
        len = match word.split_once('=') {
            Some(("size", size)) => Some(crate::memory_size::parse(size)?),
            _ => return Err(format!("`{word}` is not known; `size=SIZE` is")),
        };
    }
    Ok(PstoreArg { path, len })
}

fn foreign(text: &OsStr) -> Result<ForeignDevice, String> {
    let wanted = "a device that another process serves is `block,socket=PATH`, \
                  `fs,socket=PATH,tag=TAG` or `net,socket=PATH[,mac=ADDRESS]`";
    let mut words = text.as_bytes().split(|&byte| byte == b',');
    let kind = words.next();
    let (mut socket, mut tag, mut mac) = (None, None, None);
    for word in words {
        if let Some(path) = word
            .strip_prefix(b"socket=")
            .filter(|path| !path.is_empty())
        {
            socket = Some(PathBuf::from(OsStr::from_bytes(path)));
        } else if let Some(text) = word.strip_prefix(b"tag=") {
            let text = str::from_utf8(text).ok().and_then(Tag::new);
            let text = text.ok_or_else(|| format!("a tag is a text of 1 to {} bytes", Tag::LEN));
            tag = Some(text?);
        } else if let Some(text) = word.strip_prefix(b"mac=") {
            let text = str::from_utf8(text).ok().and_then(card_address);
            mac = Some(text.ok_or("a card's address is one card's, as in 02:00:00:00:00:01")?);
        } else {
            let word = String::from_utf8_lossy(word);
            return Err(format!("`{word}` is not known; {wanted}"));
        }
    }
    let kind = match (kind, tag, mac) {
        (Some(b"block"), None, None) => ForeignKind::Block,
        (Some(b"fs"), Some(tag), None) => ForeignKind::Fs(tag),
        (Some(b"net"), None, mac) => ForeignKind::Net(mac),
        _ => return Err(wanted.to_owned()),
    };
    let socket = socket.ok_or(wanted)?;
    Ok(ForeignDevice { kind, socket })
}

/// The address of a single card, which has the lowest bit of its first byte clear (IEEE 802, section 8.2).
fn card_address(text: &str) -> Option<[u8; 6]> {
    let bytes = text.split(':').map(|byte| {
        let is_byte = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_byte.then(|| u8::from_str_radix(byte, 16).ok())?
    });
    let address: [u8; 6] = bytes.collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let [first, ..] = address;
    (first & 1 == 0 && address != [0; 6]).then_some(address)
}

fn network(text: &str) -> Result<NetArg, String> {
    match text.split_once('=') {
        None if text == "none" => Ok(NetArg::None),
        None if text == "user" => Ok(NetArg::Card(Net::User)),
        Some(("tap", name)) if !name.is_empty() => Ok(NetArg::Card(Net::Tap(name.to_owned()))),
        _ => Err("a network is `user`, `tap=NAME` or `none`".to_owned()),
    }
}

fn vsock(text: &OsStr) -> Result<Vsock, String> {
    let (cid, words) = split(text);
    let cid = cid.to_str().and_then(|cid| cid.parse().ok());
    let cid = cid.and_then(GuestCid::new);
    let cid = cid.ok_or("a guest's number is from 3 to 4294967294")?;
    let mut path = PathBuf::from("vsock.sock");
    for word in words {
        match word.split_once('=') {
            Some(("uds", to)) if !to.is_empty() => path = to.into(),
            _ => return Err(format!("`{word}` is not known; `uds=PATH` is")),
        }
    }
    Ok(Vsock { cid, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, bool), String> {
        let disk = disk(text.as_ref())?;
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

    #[test]
    fn a_battery_is_full_but_for_what_is_said() {
        let full = BatteryState::default();
        assert_eq!(battery(""), Ok(full));
        assert_eq!(battery("capacity=80,ac=off").unwrap().capacity, 80);
        for wrong in ["capacity=101", "capacity", "80", "status=empty"] {
            assert!(battery(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_root_may_be_memory_and_only_read() {
        let parsed = |text: &str| {
            let root = rootfs(text.as_ref())?;
            let path = root.disk.path.display().to_string();
            Ok((path, root.disk.readonly, root.is_pmem))
        };
        let is = |path: &str, readonly, is_pmem| -> Result<_, String> {
            Ok((path.to_owned(), readonly, is_pmem))
        };
        assert_eq!(parsed("a"), is("a", false, false));
        assert_eq!(parsed("a,pmem"), is("a", false, true));
        assert_eq!(parsed("a,,b,pmem,ro"), is("a,b", true, true));
        for wrong in ["", ",pmem", "a,dax"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_firmware_is_offered_a_file_or_a_text() {
        let parsed = |text: &str| offered_file(text.as_ref());
        let offered = |contents| {
            let name = "opt/org.test/a".to_owned();
            Ok(OfferedFile { name, contents })
        };
        let file = Contents::File("a,b=c".into());
        assert_eq!(parsed("opt/org.test/a,file=a,b=c"), offered(file));
        let text = Contents::Text("a,file=b".to_owned());
        assert_eq!(parsed("opt/org.test/a,string=a,file=b"), offered(text));
        for wrong in ["", "opt/a", "opt/a,b", "bootorder,string=a", ",file=a"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_a_folder_and_may_have_a_tag() {
        let parsed = |text: &str| {
            let share = share(text.as_ref())?;
            let path = share.path.display().to_string();
            let tag = share.tag.map(|tag| tag.name().to_owned());
            Ok((path, tag.unwrap_or_default(), share.readonly))
        };
        let is = |path: &str, tag: &str, readonly| -> Result<_, String> {
            Ok((path.to_owned(), tag.to_owned(), readonly))
        };
        assert_eq!(parsed("."), is(".", "", false));
        assert_eq!(parsed("/a,ro"), is("/a", "", true));
        assert_eq!(parsed("/a:src,readonly"), is("/a", "src", true));
        assert_eq!(parsed("/a::b,,c:d:e"), is("/a:b,c", "d:e", false));
        let longest = "x".repeat(36);
        assert_eq!(parsed(&format!("a:{longest}")), is("a", &longest, false));
        for wrong in [
            "",
            ":a",
            ",ro",
            "a:",
            "a,writable",
            &format!("a:{longest}x"),
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_crash_log_is_a_file_and_may_have_a_size() {
        let parsed = |text: &str| pstore(text.as_ref()).map(|log| (log.path, log.len));
        assert_eq!(parsed("log"), Ok(("log".into(), None)));
        assert_eq!(parsed("a,,b,size=64K"), Ok(("a,b".into(), Some(0x1_0000))));
        for wrong in ["", ",size=1M", "log,size=", "log,size=x", "log,1M"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_serves_a_device_is_named_by_its_socket() {
        let parsed = |text: &str| foreign(text.as_ref());
        let of = |kind, socket: &str| {
            let socket = socket.into();
            Ok(ForeignDevice { kind, socket })
        };
        assert_eq!(parsed("block,socket=/a=b"), of(ForeignKind::Block, "/a=b"));
        let fs = ForeignKind::Fs(Tag::new("t").unwrap());
        assert_eq!(parsed("fs,tag=t,socket=s"), of(fs, "s"));
        let net = "net,socket=s";
        assert_eq!(parsed(net), of(ForeignKind::Net(None), "s"));
        let card = ForeignKind::Net(Some([2, 0, 0, 0, 0xab, 1]));
        assert_eq!(parsed("net,socket=s,mac=02:00:00:00:Ab:01"), of(card, "s"));
        for wrong in [
            "",
            "02:0:0:0:0:1",
            "03:00:00:00:00:01",
            "00:00:00:00:00:00",
            "02:00:00:00:00:+1",
        ] {
            assert!(parsed(&format!("{net},mac={wrong}")).is_err(), "{wrong}");
        }
        for wrong in [
            "",
            "block",
            "block,socket=",
            "block,socket=s,tag=t",
            "fs,socket=s",
            "fs,socket=s,tag=",
            "gpu,socket=s",
            "block,socket=s,queues=2",
            "block,socket=s,mac=02:00:00:00:00:01",
            "net",
            "net,socket=s,tag=t",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_is_one_of_three() {
        assert_eq!(network("user"), Ok(NetArg::Card(Net::User)));
        let tap = Net::Tap("tap0".into());
        assert_eq!(network("tap=tap0"), Ok(NetArg::Card(tap)));
        assert_eq!(network("none"), Ok(NetArg::None));
        for wrong in ["", "tap", "tap=", "bridge", "user=1"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_guest_has_a_number_of_its_own_and_a_socket() {
        let parsed = |text: &str| vsock(text.as_ref()).map(|vsock| (vsock.cid, vsock.path));
        let cid = |number| GuestCid::new(number).unwrap();
        assert_eq!(parsed("3"), Ok((cid(3), "vsock.sock".into())));
        assert_eq!(parsed("9,uds=/a/b"), Ok((cid(9), "/a/b".into())));
        for wrong in ["", "2", "4294967295", "x", "3,path=/a", "3,uds="] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
