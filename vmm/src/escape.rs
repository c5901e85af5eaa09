//! The keys that talk to Firstlight and not to the guest: `Ctrl-A`, then one more.

/// Ctrl-A as terminals send it.
const PREFIX: u8 = 0x01;

/// Takes the escape keys out of what is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EscapeParser {
    prefixed: bool,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The guest gets this byte.
    Guest(u8),
    /// Nothing yet, or nothing at all.
    Nothing,
    /// The person wants to leave.
    Leave,
    /// The person wants to know the keys.
    Help,
}

impl EscapeParser {
    /// What `byte` means after the bytes before it.
    pub(crate) fn key(&mut self, byte: u8) -> Key {
        if !self.prefixed {
            if byte != PREFIX {
                return Key::Guest(byte);
            }
            self.prefixed = true;
            return Key::Nothing;
        }
        self.prefixed = false;
        match byte {
            b'x' | b'X' => Key::Leave,
            b'h' | b'H' | b'?' => Key::Help,
            PREFIX => Key::Guest(PREFIX),
            _ => Key::Nothing,
        }
    }
}

/// What `Ctrl-A h` prints.
pub(crate) const HELP: &str = "Ctrl-A x  end the guest and leave\n\
     Ctrl-A h  this help\n\
     Ctrl-A Ctrl-A  send Ctrl-A to the guest\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(typed: &[u8]) -> Vec<Key> {
        let mut parser = EscapeParser::default();
        typed
            .iter()
            .map(|&byte| parser.key(byte))
            .filter(|key| *key != Key::Nothing)
            .collect()
    }

    #[test]
    fn ordinary_keys_are_the_guests() {
        assert_eq!(
            keys(b"x\x03\xff"),
            [Key::Guest(b'x'), Key::Guest(3), Key::Guest(0xff)]
        );
    }

    #[test]
    fn the_prefix_and_x_leave_even_in_two_pieces() {
        let mut parser = EscapeParser::default();
        assert_eq!(parser.key(PREFIX), Key::Nothing);
        assert_eq!(parser.key(b'x'), Key::Leave);
    }

    #[test]
    fn the_prefix_twice_is_the_guests_own() {
        assert_eq!(keys(b"\x01\x01x"), [Key::Guest(PREFIX), Key::Guest(b'x')]);
    }

    #[test]
    fn an_unknown_escape_reaches_nobody_and_ends_the_prefix() {
        assert_eq!(keys(b"\x01qx"), [Key::Guest(b'x')]);
        assert_eq!(keys(b"\x01h"), [Key::Help]);
    }
}
