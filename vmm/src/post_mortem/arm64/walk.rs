//! From a virtual address to a guest-physical one, as the processor's page walk does it (DDI 0487,
//! chapter D8): granules of 4, 16 and 64 KiB, address spaces of any size.

use crate::post_mortem::memory::read_u64;
use firstlight_base::arm64::System;
use firstlight_base::{Gpa, GuestMem};

/// `SCTLR_ELx.M`.
const MMU_ON: u64 = 1 << 0;
const VALID: u64 = 1 << 0;
/// The entry leads to another table, or at the last level to a page.
const TABLE: u64 = 1 << 1;
/// The address bits of an entry, as far as memory here is addressed.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// The guest-physical address of `address`; `None` where no table maps it.
pub(super) fn translate(system: &System, address: u64, memory: &impl GuestMem) -> Option<Gpa> {
    if system.sctlr & MMU_ON == 0 {
        return Some(Gpa::new(address));
    }
    let half = Half::of(system, address)?;
    let inside = |shift: u32| (1u64 << shift) - 1;
    let mut table = half.root;
    let mut from = half.bits;
    for level in (0..half.levels()).rev() {
        let shift = half.granule + half.stride() * level;
        let index = address >> shift & inside(from - shift);
        from = shift;
        let entry = read_u64(table.checked_add(index * 8)?, memory)?;
        if entry & VALID == 0 || (level == 0 && entry & TABLE == 0) {
            return None;
        }
        let output = entry & ADDRESS & !inside(half.granule);
        if level == 0 || entry & TABLE == 0 {
            let page = output & !inside(shift);
            return Some(Gpa::new(page | (address & inside(shift))));
        }
        table = output;
    }
    None
}

/// One of the two ranges of virtual addresses, and how it is translated.
struct Half {
    root: u64,
    /// How many bits of an address are translated.
    bits: u32,
    /// How many of them are the offset in a page.
    granule: u32,
}

impl Half {
    /// That of `address`, which `TCR_ELx` describes (section D19.2.154); `None` where the address is
    /// in neither.
    fn of(system: &System, address: u64) -> Option<Self> {
        const UPPER: u32 = 55;
        let System { tcr, .. } = *system;
        let upper = address >> UPPER & 1 != 0;
        let (root, unused, granule, off) = if upper {
            let granule = [None, Some(14), Some(12), Some(16)];
            (
                system.ttbr1,
                tcr >> 16,
                granule[(tcr >> 30 & 3) as usize],
                tcr >> 23,
            )
        } else {
            let granule = [Some(12), Some(16), Some(14), None];
            (
                system.ttbr0,
                tcr,
                granule[(tcr >> 14 & 3) as usize],
                tcr >> 7,
            )
        };
        let (granule, bits) = (granule?, 64 - u32::try_from(unused & 0x3f).ok()?);
        // The top byte may hold anything.
        let beyond = if upper { !address } else { address } << 8 >> 8;
        let sound = granule < bits && bits <= UPPER && beyond >> bits == 0 && off & 1 == 0;
        sound.then_some(Self {
            // An address space identifier is above, and bit 0 is none of the address.
            root: root & (ADDRESS | 0xffe),
            bits,
            granule,
        })
    }

    /// How many bits of an address a table is indexed by.
    fn stride(&self) -> u32 {
        self.granule - 3
    }

    fn levels(&self) -> u32 {
        (self.bits - self.granule).div_ceil(self.stride())
    }
}
