//! What a PC's firmware is to tell its guest beside what it has to.

use clap::{ArgAction, Args};
use firstlight_boot::{Smbios, SmbiosText};
use std::path::PathBuf;

/// Tables that a user gives.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Firmware tables (x86)")]
pub(crate) struct FirmwareArgs {
    /// A file with one ACPI table to add to the machine's own; may be given several times
    ///
    /// Its length and checksum must be right, and it must be none that the machine makes itself: DSDT,
    /// FACP, FACS, APIC, MCFG. Further devices are described by an SSDT.
    #[arg(long = "acpi-table", value_name = "FILE", action = ArgAction::Append)]
    pub(crate) acpi_tables: Vec<PathBuf>,
    /// Say by SMBIOS who made the machine: manufacturer, product, version, serial, uuid, sku and family
    ///
    /// Linux shows it in /sys/class/dmi/id. A comma in a value is written twice.
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = smbios)]
    pub(crate) smbios: Option<Smbios>,
}

fn smbios(text: &str) -> Result<Smbios, String> {
    let mut system = Smbios::default();
    for word in words(text) {
        let known =
            "`KEY=VALUE` is wanted, of manufacturer, product, version, serial, uuid, sku, family";
        let (key, value) = word.split_once('=').ok_or(known)?;
        let place = match key {
            "manufacturer" => &mut system.manufacturer,
            "product" => &mut system.product,
            "version" => &mut system.version,
            "serial" => &mut system.serial,
            "sku" => &mut system.sku,
            "family" => &mut system.family,
            "uuid" => {
                system.uuid = Some(uuid(value).ok_or_else(|| {
                    format!("`{value}` is no UUID: 32 hexadecimal digits, in groups of 8, 4, 4, 4 and 12")
                })?);
                continue;
            }
            _ => return Err(format!("`{key}` is not known: {known}")),
        };
        *place = Some(SmbiosText::new(value).ok_or_else(|| {
            let most = SmbiosText::MOST;
            format!("the {key} must be 1 to {most} visible ASCII characters or spaces")
        })?);
    }
    Ok(system)
}

/// What single commas divide.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(sign) = rest.next() {
        let ends = sign == ',' && rest.next_if_eq(&',').is_none();
        match words.last_mut() {
            Some(word) if !ends => word.push(sign),
            _ => words.push(String::new()),
        }
    }
    words
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    let lens: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    if lens != [8, 4, 4, 4, 12] || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smbios_is_said_by_keys() {
        let text = SmbiosText::new;
        let uuid = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        let system = Smbios {
            manufacturer: text("A, B=C"),
            serial: text("7"),
            uuid: Some(uuid),
            ..Smbios::default()
        };
        let words = "manufacturer=A,, B=C,serial=7,uuid=00112233-4455-6677-8899-aabbccddeeFF";
        assert_eq!(smbios(words), Ok(system));
    }

    #[test]
    fn what_smbios_cannot_say_is_refused() {
        for (wrong, word) in [
            ("", "KEY=VALUE"),
            ("serial", "KEY=VALUE"),
            ("colour=red", "colour"),
            ("serial=", "1 to 255"),
            ("serial=\u{e4}", "1 to 255"),
            ("uuid=00112233445566778899aabbccddeeff", "32 hexadecimal"),
            (
                "uuid=00112233-4455-6677-8899-aabbccddee+f",
                "32 hexadecimal",
            ),
        ] {
            let said = smbios(wrong).unwrap_err();
            assert!(said.contains(word), "{wrong}: {said}");
        }
        let long = format!("serial={}", "x".repeat(256));
        assert!(smbios(&long).is_err());
    }
}
