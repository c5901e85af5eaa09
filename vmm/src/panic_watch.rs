//! Reads along on the console for what Linux says when it panics and when it restarts.
//!
//! A panicked kernel resets, crashes or goes silent, and so do others; only what it said tells
//! them apart. The texts are those of `kernel/panic.c`, `kernel/reboot.c` and
//! `arch/x86/kernel/reboot.c`, which print them at a level that `quiet` does not hide.

/// A panic's first line.
const PANIC: &[u8] = b"Kernel panic - not syncing";
/// A panic's last line; the kernel then waits for ever, or for `panic=` seconds.
const PANIC_END: &[u8] = b"---[ end Kernel panic";
/// What an orderly end says. A panic never says it: its restart takes another way.
const ORDERLY: [&[u8]; 4] = [
    b"reboot: Restarting system",
    b"reboot: machine restart",
    b"reboot: Power down",
    b"reboot: System halted",
];

/// Bytes of a line that are kept: the texts come after a time stamp, not behind long lines.
const LINE: usize = 128;

/// What the console's last lines say about the kernel's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing of the kind.
    Nothing,
    /// The kernel panicked. A reset, crash or power-off that follows is the panic's.
    Panic,
    /// The kernel panicked and has nothing more to say: the panic's last line is the console's.
    PanicEnd,
    /// The system is being restarted or turned off in order.
    Orderly,
}

/// The state of reading along.
#[derive(Debug)]
pub(crate) struct PanicWatch {
    line: [u8; LINE],
    len: usize,
    said: Said,
}

impl Default for PanicWatch {
    fn default() -> Self {
        Self {
            line: [0; LINE],
            len: 0,
            said: Said::Nothing,
        }
    }
}

impl PanicWatch {
    /// Reads `bytes`, which come after all those before.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ => {
                    if let Some(slot) = self.line.get_mut(self.len) {
                        *slot = byte;
                        self.len += 1;
                    }
                }
            }
        }
    }

    /// What has been said, complete lines and the one in the making.
    pub(crate) fn said(&self) -> Said {
        match meaning(self.unfinished()) {
            Some(said) => said,
            None if self.said == Said::PanicEnd && self.len > 0 => Said::Panic,
            None => self.said,
        }
    }

    fn end_line(&mut self) {
        let meaning = meaning(self.unfinished());
        self.said = match (meaning, self.said) {
            (Some(said), _) => said,
            (None, Said::PanicEnd) if self.len > 0 => Said::Panic,
            (None, said) => said,
        };
        self.len = 0;
    }

    fn unfinished(&self) -> &[u8] {
        self.line.get(..self.len).unwrap_or(&[])
    }
}

fn meaning(line: &[u8]) -> Option<Said> {
    let has = |text: &[u8]| line.windows(text.len()).any(|window| window == text);
    if has(PANIC_END) {
        Some(Said::PanicEnd)
    } else if has(PANIC) {
        Some(Said::Panic)
    } else if ORDERLY.iter().any(|text| has(text)) {
        Some(Said::Orderly)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(console: &str) -> Said {
        let mut watch = PanicWatch::default();
        watch.read(console.as_bytes());
        watch.said()
    }

    const PANIC_LINES: &str = "[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    0.9] CPU: 0\r\n";
    const END_LINE: &str =
        "[    0.9] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---\r\n";

    #[test]
    fn a_panic_is_seen_whatever_comes_in_one_piece() {
        assert_eq!(said(PANIC_LINES), Said::Panic);
        let mut watch = PanicWatch::default();
        for byte in PANIC_LINES.bytes() {
            watch.read(&[byte]);
        }
        assert_eq!(watch.said(), Said::Panic);
    }

    #[test]
    fn the_last_line_of_a_panic_counts_while_it_is_the_consoles_last() {
        let console = format!("{PANIC_LINES}{END_LINE}");
        assert_eq!(said(&console), Said::PanicEnd);
        assert_eq!(said(&format!("{console}\r\n")), Said::PanicEnd);
        assert_eq!(said(&format!("{console}# ")), Said::Panic);
        assert_eq!(said(&format!("{console}# ls\r\n")), Said::Panic);
    }

    #[test]
    fn an_old_panic_shown_again_does_not_outlive_an_orderly_restart() {
        let console = format!("{PANIC_LINES}{END_LINE}# reboot\r\n");
        assert_eq!(
            said(&format!("{console}[   9.0] reboot: Restarting system\r\n")),
            Said::Orderly
        );
    }

    #[test]
    fn the_text_is_found_before_its_line_ends() {
        assert_eq!(said("[ 1.0] reboot: machine restart"), Said::Orderly);
    }

    #[test]
    fn a_line_without_end_is_cut_and_does_not_grow() {
        let mut watch = PanicWatch::default();
        watch.read(&[b'a'; 10 * LINE]);
        watch.read(PANIC);
        assert_eq!(watch.said(), Said::Nothing);
        watch.read(b"\n");
        watch.read(PANIC);
        assert_eq!(watch.said(), Said::Panic);
    }
}
