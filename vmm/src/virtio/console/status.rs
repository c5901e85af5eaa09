//! The port by which a guest ends its machine with a status: it writes the number and a newline.

use super::NamedPort;

/// How programs in the guest find the port.
pub(crate) const NAME: &str = "org.firstlight.status";

/// The port, and what is to be done with the status.
pub(crate) fn status_port(mut ended: impl FnMut(u8) + Send + 'static) -> NamedPort {
    let mut line = StatusLine::default();
    NamedPort {
        name: NAME.to_owned(),
        take: Box::new(move |bytes| {
            for &byte in bytes {
                if let Some(status) = line.read(byte) {
                    ended(status);
                }
            }
        }),
    }
}

/// The line that is being written: a number so far, or nothing that is one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum StatusLine {
    /// Nothing was written yet.
    #[default]
    Empty,
    /// This number was.
    Number(u8),
    /// What was written is no status.
    NoNumber,
}

impl StatusLine {
    /// Reads on; the status, where a line ends that is one.
    pub(crate) fn read(&mut self, byte: u8) -> Option<u8> {
        let digit = char::from(byte).to_digit(10).map(u8::try_from);
        *self = match (&*self, digit) {
            (Self::Number(number), _) if byte == b'\n' => {
                let status = *number;
                *self = Self::Empty;
                return Some(status);
            }
            (_, _) if byte == b'\n' => Self::Empty,
            // Terminals and editors put them there.
            (_, _) if byte == b'\r' || byte == b' ' => return None,
            (Self::Empty, Some(Ok(digit))) => Self::Number(digit),
            (Self::Number(number), Some(Ok(digit))) => number
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(digit))
                .map_or(Self::NoNumber, Self::Number),
            (_, _) => Self::NoNumber,
        };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn said(words: &str) -> Vec<u8> {
        let (ended, statuses) = mpsc::channel();
        let mut port = status_port(move |status| ended.send(status).unwrap());
        for byte in words.bytes() {
            (port.take)(&[byte]);
        }
        drop(port);
        statuses.iter().collect()
    }

    #[test]
    fn a_status_is_a_number_and_a_newline() {
        assert_eq!(said("0\n"), [0]);
        assert!(said("7").is_empty());
        assert_eq!(said("007\r\n"), [7]);
        assert_eq!(said(" 255 \n"), [255]);
        assert_eq!(said("1\n2\n"), [1, 2]);
    }

    #[test]
    fn what_is_no_status_is_passed_over() {
        assert!(said("256\n").is_empty());
        assert!(said("-1\n").is_empty());
        assert!(said("\n\n").is_empty());
        assert!(said("status 3\n").is_empty());
        assert_eq!(said("1000000000000000000000000001\n4\n"), [4]);
    }
}
