//! Commands that lie in the guest's memory, and move whole pieces of items there.

use super::FwCfg;
use firstlight_base::{Gpa, GuestMem, OutsideRam};

/// Bits of a command's first word; the number of an item is in its upper half.
const ERROR: u32 = 1 << 0;
const READ: u32 = 1 << 1;
const SKIP: u32 = 1 << 2;
const SELECT: u32 = 1 << 3;
const WRITE: u32 = 1 << 4;

/// A command: a word of these bits, a length and an address, all big-endian.
const COMMAND_LEN: usize = 16;
/// So many zeros are written at once.
const CHUNK: usize = 4096;

/// What a command asks for.
struct Command {
    control: u32,
    len: u32,
    address: Gpa,
}

impl Command {
    fn read(memory: &impl GuestMem, at: Gpa) -> Result<Self, OutsideRam> {
        let mut bytes = [0; COMMAND_LEN];
        memory.read(at, &mut bytes)?;
        let [a, b, c, d, e, f, g, h, address @ ..] = bytes;
        Ok(Self {
            control: u32::from_be_bytes([a, b, c, d]),
            len: u32::from_be_bytes([e, f, g, h]),
            address: Gpa::new(u64::from_be_bytes(address)),
        })
    }
}

impl FwCfg {
    /// Carries the command at `at` out, and says in its first word how that went: 0 is well. Nobody is
    /// told of one that is not in memory.
    pub fn carry_out(&mut self, memory: &impl GuestMem, at: Gpa) {
        let done = Command::read(memory, at).and_then(|command| self.obey(memory, &command));
        let told = match done {
            Ok(()) => 0_u32,
            Err(_) => ERROR,
        };
        let _ = memory.write(at, &told.to_be_bytes());
    }

    fn obey(&mut self, memory: &impl GuestMem, command: &Command) -> Result<(), OutsideRam> {
        let Command {
            control,
            len,
            address,
        } = *command;
        if control & SELECT != 0 {
            let [high, low, ..] = control.to_be_bytes();
            self.select(u16::from_be_bytes([high, low]));
        }
        let count = usize::try_from(len).unwrap_or(usize::MAX);
        if control & READ != 0 {
            self.copy(memory, address, count)?;
        } else if control & WRITE != 0 {
            // No item can be written.
            return Err(OutsideRam {
                at: address,
                len: len.into(),
            });
        } else if control & SKIP == 0 {
            return Ok(());
        }
        self.skip(count);
        Ok(())
    }

    /// Copies `count` bytes to `to`: those of the item, and zeros behind its end.
    fn copy(&self, memory: &impl GuestMem, to: Gpa, count: usize) -> Result<(), OutsideRam> {
        let rest = self.rest();
        let (bytes, _) = rest.split_at(count.min(rest.len()));
        memory.write(to, bytes)?;
        let mut done = bytes.len();
        while done < count {
            let outside = OutsideRam {
                at: to,
                len: count as u64,
            };
            let at = to.checked_add(done as u64).ok_or(outside)?;
            let zeros = CHUNK.min(count.saturating_sub(done));
            memory.write(at, [0; CHUNK].get(..zeros).unwrap_or_default())?;
            done = done.saturating_add(zeros);
        }
        Ok(())
    }
}
