//! The calls of RISC-V guests that KVM leaves to us (RISC-V Supervisor Binary Interface
//! Specification 2.0): their consoles.

use crate::board::Board;
use firstlight_base::{Gpa, GuestMem};
use firstlight_hv::SbiCall;

/// What a call can be answered with (chapter 3).
const SUCCESS: i64 = 0;
const NOT_SUPPORTED: i64 = -2;
const INVALID_PARAM: i64 = -3;

/// The console of SBI 0.1, of whose answers only the first counts (chapter 5).
const LEGACY_PUTCHAR: u64 = 1;
const LEGACY_GETCHAR: u64 = 2;
/// The debug console (chapter 12).
const DEBUG_CONSOLE: u64 = 0x4442_434e;
const WRITE: u64 = 0;
const READ: u64 = 1;
const WRITE_BYTE: u64 = 2;

/// The most bytes that one call writes: the guest asks again for the rest.
const MOST: u64 = 4096;

/// Carries a call out, and says what the guest gets. Output goes to the console; there is no input,
/// which is for whoever has the serial port.
pub(super) fn answer(call: &SbiCall, board: &Board, memory: &impl GuestMem) -> [u64; 2] {
    let [first, low, high, ..] = call.arguments;
    let (error, value) = match (call.extension, call.function) {
        (LEGACY_PUTCHAR, _) | (DEBUG_CONSOLE, WRITE_BYTE) => {
            board.print(&first.to_le_bytes()[..1]);
            (SUCCESS, 0)
        }
        (LEGACY_GETCHAR, _) => (-1, 0),
        (DEBUG_CONSOLE, WRITE) if high == 0 => match read(first.min(MOST), low, memory) {
            Some(text) => {
                board.print(&text);
                (SUCCESS, text.len() as u64)
            }
            None => (INVALID_PARAM, 0),
        },
        (DEBUG_CONSOLE, WRITE) => (INVALID_PARAM, 0),
        (DEBUG_CONSOLE, READ) => (SUCCESS, 0),
        _ => (NOT_SUPPORTED, 0),
    };
    [error.cast_unsigned(), value]
}

/// `len` bytes of the guest's, no more than [`MOST`].
fn read(len: u64, at: u64, memory: &impl GuestMem) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    memory.read(Gpa::new(at), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Riscv64;
    use crate::testing;
    use crate::testing::Person;
    use firstlight_base::{GpaRange, MIB};
    use firstlight_boot::platform::VirtRiscv64;
    use firstlight_hv::script::Script;
    use firstlight_load::{Backing, GuestMemory};

    /// Makes calls of `extension`, with function and arguments; with the answers and the console.
    fn calls(extension: u64, calls: &[(u64, [u64; 3])]) -> (Vec<[u64; 2]>, String) {
        let board = testing::board::<Riscv64>(&Script::new(), &VirtRiscv64::new(MIB, 1));
        let range = GpaRange::new(VirtRiscv64::RAM_BASE, MIB).unwrap();
        let memory = GuestMemory::allocate(&[range], Backing::Private).unwrap();
        memory.write(range.start(), b"hello\n").unwrap();
        let (console, person) = Person::at_a_console();
        board.connect(console.output());
        let answers = calls
            .iter()
            .map(|&(function, [first, second, third])| {
                let call = SbiCall {
                    extension,
                    function,
                    arguments: [first, second, third, 0, 0, 0],
                };
                answer(&call, &board, &memory)
            })
            .collect();
        drop((board, console));
        (answers, person.saw())
    }

    #[test]
    fn the_debug_console_prints_what_is_in_memory_and_single_bytes() {
        let at = VirtRiscv64::RAM_BASE.get();
        let (answers, seen) = calls(
            DEBUG_CONSOLE,
            &[
                (WRITE_BYTE, [0x41, 0, 0]),
                (WRITE, [6, at, 0]),
                (READ, [6, at, 0]),
            ],
        );
        assert_eq!(answers, [[0, 0], [0, 6], [0, 0]]);
        assert_eq!(seen, "Ahello\n");
    }

    #[test]
    fn what_is_not_in_memory_is_not_printed() {
        let at = VirtRiscv64::RAM_BASE.get();
        let wrong = [INVALID_PARAM.cast_unsigned(), 0];
        let (answers, seen) = calls(
            DEBUG_CONSOLE,
            &[
                (WRITE, [6, 0, 0]),
                (WRITE, [6, at, 1]),
                (WRITE, [u64::MAX, at + MIB - 4, 0]),
            ],
        );
        assert_eq!(answers, [wrong; 3]);
        assert_eq!(seen, "");
    }

    #[test]
    fn one_call_prints_no_more_than_it_says() {
        let at = VirtRiscv64::RAM_BASE.get();
        let (answers, seen) = calls(DEBUG_CONSOLE, &[(WRITE, [u64::MAX, at, 0])]);
        assert_eq!(answers, [[0, MOST]]);
        assert_eq!(seen.len() as u64, MOST);
    }

    #[test]
    fn the_console_of_old_prints_and_has_no_input() {
        let line = b"B\n".map(|byte| (0, [byte.into(), 0, 0]));
        let (answers, seen) = calls(LEGACY_PUTCHAR, &line);
        assert_eq!((answers, seen.as_str()), (vec![[0; 2]; 2], "B\n"));
        let (answers, _) = calls(LEGACY_GETCHAR, &[(0, [0; 3])]);
        assert_eq!(answers[0][0], u64::MAX);
    }

    #[test]
    fn nothing_else_is_supported() {
        let none = [NOT_SUPPORTED.cast_unsigned(), 0];
        let (answers, _) = calls(DEBUG_CONSOLE, &[(3, [0; 3])]);
        assert_eq!(answers, [none]);
        let (answers, _) = calls(0x0900_0000, &[(0, [0; 3])]);
        assert_eq!(answers, [none]);
    }
}
