//! From a linear address to a guest-physical one, as the processor's page walk does it (SDM
//! volume 3A, chapter 4): no paging, 32-bit, PAE, 4-level and 5-level, pages of any size.

use crate::post_mortem::memory::{read_u32, read_u64};
use firstlight_base::x86::{Cr0, Cr4, Efer, Registers};
use firstlight_base::{Gpa, GuestMem};

const PRESENT: u64 = 1 << 0;
/// The entry maps a page itself (SDM volume 3A, section 4.5, "PS").
const PAGE: u64 = 1 << 7;
/// The address bits of an 8-byte entry (SDM volume 3A, table 4-15).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The guest-physical address of `linear`; `None` where no page table maps it.
pub(in crate::post_mortem) fn translate(
    registers: &Registers,
    linear: u64,
    memory: &impl GuestMem,
) -> Option<Gpa> {
    if !registers.cr0.contains(Cr0::PG) {
        return Some(Gpa::new(linear));
    }
    let long = registers.efer.contains(Efer::LMA);
    let (levels, root) = if long && registers.cr4.contains(Cr4::LA57) {
        (5, registers.cr3 & ADDRESS)
    } else if long {
        (4, registers.cr3 & ADDRESS)
    } else if registers.cr4.contains(Cr4::PAE) {
        (3, registers.cr3 & 0xffff_ffe0)
    } else {
        return translate_32(registers, linear, memory);
    };
    let mut table = root;
    for level in (1..=levels).rev() {
        let shift = 3 + 9 * level;
        let index = (linear >> shift) & 0x1ff;
        let entry = read_u64(table.checked_add(index * 8)?, memory)?;
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 1 || (entry & PAGE != 0 && (level == 2 || (level == 3 && long))) {
            let inside = (1u64 << shift) - 1;
            return Some(Gpa::new((entry & ADDRESS & !inside) | (linear & inside)));
        }
        table = entry & ADDRESS;
    }
    None
}

/// Two levels of 4-byte entries (SDM volume 3A, section 4.3).
fn translate_32(registers: &Registers, linear: u64, memory: &impl GuestMem) -> Option<Gpa> {
    let directory = registers.cr3 & 0xffff_f000;
    let entry = read_u32(directory + ((linear >> 22) & 0x3ff) * 4, memory)?;
    if entry & PRESENT == 0 {
        return None;
    }
    if entry & PAGE != 0 && registers.cr4.contains(Cr4::PSE) {
        // Bits 13 to 20 of the entry are bits 32 to 39 of the address.
        let high = ((entry >> 13) & 0xff) << 32;
        return Some(Gpa::new(
            high | (entry & 0xffc0_0000) | (linear & 0x003f_ffff),
        ));
    }
    let entry = read_u32((entry & 0xffff_f000) + ((linear >> 12) & 0x3ff) * 4, memory)?;
    (entry & PRESENT != 0).then(|| Gpa::new((entry & 0xffff_f000) | (linear & 0xfff)))
}
