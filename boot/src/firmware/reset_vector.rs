//! What a PC's firmware has where its processors begin after a reset, as far as kernels jump there
//! themselves.
//!
//! Linux on a machine with hardware-reduced ACPI wants EFI to reset it, and where there is none,
//! it goes back to real mode and jumps to `f000:fff0` (`arch/x86/kernel/reboot.c`,
//! `arch/x86/realmode/rm/reboot.S`). On QEMU the reset ROM hides this.

use crate::platform::Pc;
use crate::{Content, Piece};
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange};

/// `f000:fff0`: 16 bytes below 1 MiB (SDM volume 3A, section 10.1.4).
const RESET_VECTOR: GpaRange = match GpaRange::new(Gpa::new(0xf_fff0), 16) {
    Some(range) => range,
    None => panic!("16 bytes are a range"),
};

/// A port below 256 is in the instruction itself.
const PORT: u8 = Pc::I8042_COMMAND.0.to_le_bytes()[0];
const _: () = assert!(Pc::I8042_COMMAND.0 < 0x100);

/// Asks the keyboard controller for a reset, and waits for it.
const CODE: [u8; 7] = [
    0xb0, 0xfe, // mov $0xfe, %al
    0xe6, PORT, // out %al, $PORT
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];

/// The piece of a plan.
pub(crate) fn piece() -> Piece {
    Piece {
        name: "reset vector".into(),
        range: RESET_VECTOR,
        content: Content::Bytes(Vec::from(CODE)),
        why: "where kernels jump to be reset: a few instructions that ask for it".into(),
    }
}
