//! The segments that kernels are entered with.
//!
//! The Linux/x86 boot protocol wants code at selector 0x10 and data at 0x18; PVH leaves the
//! selectors open and gets the same. The task segment is there because PVH asks for one and
//! because hardware virtualisation cannot be entered without.

use crate::PlanError;
use crate::draft::{Draft, LOW, Need};
use alloc::vec::Vec;
use firstlight_base::Gpa;
use firstlight_base::x86::{Cr0, DescriptorTable, Gprs, Registers, Segment};

const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// The flat code segments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code {
    /// 32-bit protected mode.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl Code {
    const fn segment(self) -> Segment {
        match self {
            Self::Bits32 => Segment::code32(CODE),
            Self::Bits64 => Segment::code64(CODE),
        }
    }
}

/// The table: null, unused, code, data, and a task segment that is 16 bytes in long mode.
pub(crate) fn table(code: Code) -> Vec<u8> {
    [
        0,
        0,
        code.segment().descriptor(),
        Segment::data32(DATA).descriptor(),
        Segment::task(TASK).descriptor(),
        0,
    ]
    .into_iter()
    .flat_map(u64::to_le_bytes)
    .collect()
}

/// Points the segment registers of `registers` at such a table at `at`.
pub(crate) fn load(registers: Registers, at: Gpa, code: Code) -> Registers {
    const LIMIT: u16 = 6 * 8 - 1;
    let data = Segment::data32(DATA);
    Registers {
        cs: code.segment(),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: Segment::task(TASK),
        gdt: DescriptorTable {
            base: at.get(),
            limit: LIMIT,
        },
        ..registers
    }
}

/// Puts the table, and points the segment registers of `registers` at it.
pub(crate) fn put(
    draft: &mut Draft,
    registers: Registers,
    code: Code,
) -> Result<Registers, PlanError> {
    let table = table(code);
    let need = Need {
        name: "GDT",
        len: table.len() as u64,
        align: 16,
        within: LOW,
        why: "the segments that the kernel is entered with",
    };
    let placed = draft.put_lowest(&need, table)?;
    Ok(load(registers, placed.start(), code))
}

/// Protected mode without paging; everything but the general registers is still to be loaded.
pub(crate) fn protected_mode(gprs: Gprs) -> Registers {
    Registers {
        gprs,
        cr0: Cr0::PE | Cr0::ET,
        ..Registers::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_name_the_descriptors_that_the_boot_protocol_wants() {
        let bytes = table(Code::Bits64);
        let descriptor = |selector: u16| {
            let at = usize::from(selector);
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        assert_eq!(descriptor(0x10), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(0x18), 0x00cf_9300_0000_ffff);
        assert_eq!(descriptor(0x20), 0x0000_8b00_0000_0067);
        assert_eq!(bytes.len(), 48);
    }
}
