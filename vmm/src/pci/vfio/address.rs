//! Where a function of the host is, as people write it.

use firstlight_devices::pci::Address;
use std::fmt;
use std::str::FromStr;

/// The address of a PCI function of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPciAddress {
    domain: u32,
    at: Address,
}

/// A text that is no address of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a PCI function is written 0000:00:04.0, or by its folder in sysfs")]
pub struct NoPciAddress;

/// Where sysfs has a folder for each function.
const FOLDER: &str = "/sys/";

impl FromStr for HostPciAddress {
    type Err = NoPciAddress;

    /// Takes `lspci`'s way of writing it, with or without the domain, and a folder of sysfs that is named so.
    fn from_str(text: &str) -> Result<Self, NoPciAddress> {
        let name = match text.strip_prefix(FOLDER) {
            Some(path) => path.trim_end_matches('/').rsplit('/').next(),
            None => Some(text),
        };
        name.and_then(parse).ok_or(NoPciAddress)
    }
}

fn parse(name: &str) -> Option<HostPciAddress> {
    let (rest, function) = name.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let hex = |digits: &str, most: usize| {
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fits = (1..=most).contains(&digits.len());
        (is_hex && fits).then(|| u32::from_str_radix(digits, 16).ok())?
    };
    let byte = |digits: &str, most| u8::try_from(hex(digits, most)?).ok();
    Some(HostPciAddress {
        domain: hex(domain, 8)?,
        at: Address::new(byte(bus, 2)?, byte(device, 2)?, byte(function, 1)?)?,
    })
}

impl fmt::Display for HostPciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{}", self.domain, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_as_people_write_it() {
        for (text, expected) in [
            ("0000:00:04.0", "0000:00:04.0"),
            ("00:1F.7", "0000:00:1f.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
            ("/sys/bus/pci/devices/0000:00:04.0", "0000:00:04.0"),
            (
                "/sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.1/",
                "0000:02:00.1",
            ),
        ] {
            let address: HostPciAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_not_taken() {
        for text in [
            "",
            ".",
            ":",
            "0",
            "00:04",
            "00:20.0",
            "00:04.8",
            "100:04.0",
            "00:04.00",
            "0000:00:04.0:",
            ":00:04.0",
            "+0:04.0",
            "0000:00:-4.0",
            "123456789:00:04.0",
            "/sys/",
            "/sys/bus/pci",
            "/dev/0000:00:04.0",
            "../0000:00:04.0",
        ] {
            assert_eq!(text.parse::<HostPciAddress>(), Err(NoPciAddress), "{text}");
        }
    }
}
