//! From a virtual address to a guest-physical one, as a hart's page walk does it (The RISC-V
//! Instruction Set Manual, volume II, sections 12.3 to 12.6 and chapter 13): Sv39, Sv48 and Sv57,
//! pages of any size.

use crate::post_mortem::memory::read_u64;
use firstlight_base::{Gpa, GuestMem};

const VALID: u64 = 1 << 0;
/// Read, write and execute: an entry with any of them maps a page.
const LEAF: u64 = 0b1110;
/// The entry is one of 16 that map 64 KiB together ("Svnapot").
const NAPOT: u64 = 1 << 63;
const NAPOT_SHIFT: u32 = 16;
const PAGE_SHIFT: u32 = 12;
/// How many bits of an address a table is indexed by.
const STRIDE: u32 = 9;
/// The number of the first page that an entry or `satp` tells.
const PAGE_NUMBER: u64 = (1 << 44) - 1;

/// The guest-physical address of `address` under `satp`; `None` where no table maps it.
pub(super) fn translate(satp: u64, address: u64, memory: &impl GuestMem) -> Option<Gpa> {
    let levels = match satp >> 60 {
        0 => return Some(Gpa::new(address)),
        8 => 3,
        9 => 4,
        10 => 5,
        _ => return None,
    };
    let bits = PAGE_SHIFT + STRIDE * levels;
    if !is_sign_extended(address, bits) {
        return None;
    }
    let mut table = (satp & PAGE_NUMBER) << PAGE_SHIFT;
    for level in (0..levels).rev() {
        let shift = PAGE_SHIFT + STRIDE * level;
        let index = address >> shift & ((1 << STRIDE) - 1);
        let entry = read_u64(table.checked_add(index * 8)?, memory)?;
        if entry & VALID == 0 {
            return None;
        }
        table = (entry >> 10 & PAGE_NUMBER) << PAGE_SHIFT;
        if entry & LEAF != 0 {
            let shift = if entry & NAPOT != 0 {
                NAPOT_SHIFT
            } else {
                shift
            };
            let inside = (1u64 << shift) - 1;
            return Some(Gpa::new((table & !inside) | (address & inside)));
        }
    }
    None
}

/// Whether all bits from the highest of `bits` on are equal.
fn is_sign_extended(address: u64, bits: u32) -> bool {
    let above = address >> (bits - 1);
    above == 0 || above == u64::MAX >> (bits - 1)
}
