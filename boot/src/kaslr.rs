//! Kernel address space layout randomisation from outside: where a kernel that the host has
//! unpacked lies in physical memory, and how far its virtual addresses are shifted.
//!
//! A kernel that unpacks itself does both by itself (`arch/x86/boot/compressed/kaslr.c`); what is
//! chosen here are the places that it would choose from.

use crate::plan::Relocate;
use firstlight_base::{GIB, Gpa, GpaRange};
use firstlight_image::{Elf, Relocations, Segment};

/// `__START_KERNEL_map`: where the kernel's image is mapped, from physical address 0 on
/// (`arch/x86/include/asm/page_64_types.h`).
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// `KERNEL_IMAGE_SIZE` of a kernel that can be randomised: how long that mapping is.
const KERNEL_IMAGE_SIZE: u64 = GIB;

/// A stream of numbers that look random, from a seed: SplitMix64 (Steele, Lea, Flood: "Fast
/// splittable pseudorandom number generators", OOPSLA 2014). The seed is what has to be secret.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `count`, each as likely as the others; 0 where `count` is 0.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        // The rest of 2⁶⁴ by `count`: numbers below it would make the low results more likely.
        let Some(uneven) = count.wrapping_neg().checked_rem(count) else {
            return 0;
        };
        loop {
            let next = self.next();
            if next >= uneven
                && let Some(below) = next.checked_rem(count)
            {
                return below;
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// Whether `cmdline` asks for no randomisation, as Linux reads it (`cmdline_find_option_bool`).
pub(crate) fn is_forbidden(cmdline: &str) -> bool {
    cmdline
        .split_ascii_whitespace()
        .any(|word| word == "nokaslr")
}

/// Whether `cmdline` takes memory away from the kernel. What is left then is the kernel's to find
/// out, so it stays where every kernel lies.
pub(crate) fn is_memory_cut(cmdline: &str) -> bool {
    cmdline
        .split_ascii_whitespace()
        .any(|word| word.starts_with("mem=") || word.starts_with("memmap="))
}

/// The shift of a kernel's virtual addresses that `dice` choose: a multiple of `align` that leaves
/// all of it in the mapping of the kernel's image. None where the kernel is not linked to there.
///
/// `lowest` is its segment with the lowest physical address, and `range` where that and all the
/// others have been placed.
pub(crate) fn shift(
    dice: &mut Dice,
    layer: usize,
    places: Relocations,
    lowest: &Segment,
    range: GpaRange,
    align: u64,
) -> Option<Relocate> {
    let offset = lowest.vaddr.checked_sub(START_KERNEL_MAP)?;
    let room = KERNEL_IMAGE_SIZE
        .checked_sub(offset)?
        .checked_sub(range.len())?;
    let slots = room.checked_div(align)?.checked_add(1)?;
    let shift = dice.below(slots).checked_mul(align)?;
    Some(Relocate {
        layer,
        places,
        to_physical: range.start().get().wrapping_sub(lowest.vaddr),
        shift,
        within: range,
    })
}

/// The relocation table behind `elf`, in the layer whose bytes those are; none where there is
/// none, or an empty one.
pub(crate) fn places(elf: &Elf, layer: &[u8]) -> Option<Relocations> {
    let table = elf.relocations(layer)?;
    (table.counts() != (0, 0, 0)).then_some(table)
}

/// Where in `free` a thing of `len` bytes can lie that is aligned to `align`: the ranges' first
/// places, and how many follow in each.
fn slots<'a>(
    free: &'a [GpaRange],
    len: u64,
    align: u64,
) -> impl Iterator<Item = (Gpa, u64)> + use<'a> {
    free.iter().filter_map(move |free| {
        let first = free.start().align_up(align)?;
        let last = free.end().checked_sub(len)?.align_down(align)?;
        let more = last.get().checked_sub(first.get())?.checked_div(align)?;
        Some((first, more.checked_add(1)?))
    })
}

/// One of the places in `free` for `len` bytes aligned to `align`, each as likely as the others.
pub(crate) fn place(dice: &mut Dice, free: &[GpaRange], len: u64, align: u64) -> Option<Gpa> {
    let count = slots(free, len, align).fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
    let mut chosen = dice.below(count);
    for (first, count) in slots(free, len, align) {
        match chosen.checked_sub(count) {
            Some(rest) => chosen = rest,
            None => return first.checked_add(chosen.checked_mul(align)?),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::range;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut dice = Dice::new(1_234_567);
        let numbers: Vec<u64> = core::iter::repeat_with(|| dice.next()).take(3).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn every_number_comes_up_and_none_beyond() {
        let mut dice = Dice::new(0);
        let seen: BTreeSet<u64> = core::iter::repeat_with(|| dice.below(7))
            .take(200)
            .collect();
        assert_eq!(seen, (0..7).collect());
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.below(1), 0);
    }

    #[test]
    fn every_aligned_place_is_reached_in_whichever_range_it_lies() {
        let free = [
            range(0x1800, 0x5000),
            range(0x8000, 0x9000),
            range(0x9800, 0xa7ff),
        ];
        let seen: BTreeSet<u64> = (0..200)
            .filter_map(|seed| place(&mut Dice::new(seed), &free, 0x1000, 0x1000))
            .map(Gpa::get)
            .collect();
        assert_eq!(seen, BTreeSet::from([0x2000, 0x3000, 0x4000, 0x8000]));
        assert_eq!(place(&mut Dice::new(0), &free, 0x1_0000, 0x1000), None);
    }

    #[test]
    fn words_of_the_command_line_count_and_not_their_parts() {
        assert!(is_forbidden("quiet nokaslr"));
        assert!(is_forbidden("init=/x\tnokaslr -- y"));
        assert!(!is_forbidden("nokaslr=1 xnokaslr"));
        assert!(is_memory_cut("console=ttyS0 mem=64M"));
        assert!(is_memory_cut("memmap=1M!2M"));
        assert!(!is_memory_cut("hugemem=1 mem"));
    }
}
