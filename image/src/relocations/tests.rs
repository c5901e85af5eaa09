use super::*;
use crate::Elf;
use crate::testing::{ElfBuilder, elf64};
use alloc::vec;
use alloc::vec::Vec;

fn find(file: &[u8]) -> Option<Relocations> {
    Elf::parse(file).unwrap().relocations(file)
}

fn counts(builder: &ElfBuilder) -> Option<(u64, u64, u64)> {
    Some(find(&builder.build())?.counts())
}

fn numbers(run: &[[u8; 4]]) -> Vec<u32> {
    run.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

#[test]
fn three_runs_are_those_before_linux_6_15() {
    let elf = elf64().relocations(&[&[1, 2, 3], &[4], &[5, 6]]);
    assert_eq!(counts(&elf), Some((3, 1, 2)));
    let file = elf.build();
    let relocations = find(&file).unwrap();
    let runs = relocations.runs(&file).unwrap();
    assert_eq!(numbers(runs.r64), [1, 2, 3]);
    assert_eq!(numbers(runs.inverse32), [4]);
    assert_eq!(numbers(runs.r32), [5, 6]);
    assert_eq!(relocations.runs(&file[..file.len() - 1]), None);
}

#[test]
fn two_runs_have_no_inverse_places() {
    assert_eq!(
        counts(&elf64().relocations(&[&[1, 2, 3], &[5, 6]])),
        Some((3, 0, 2))
    );
}

#[test]
fn one_run_is_that_of_32_bit_kernels() {
    assert_eq!(counts(&elf64().relocations(&[&[5, 6]])), Some((0, 0, 2)));
}

#[test]
fn runs_may_be_empty() {
    assert_eq!(
        counts(&elf64().relocations(&[&[], &[], &[]])),
        Some((0, 0, 0))
    );
}

/// Blocks of words are compared at once: a zero is found wherever in a block it is.
#[test]
fn zeros_are_found_at_every_distance() {
    for first in (0..130).chain([1000, 5000]) {
        for second in [0, 1, 62, 63, 64, 65, 200] {
            let run = vec![7; first];
            let next = vec![9; second];
            assert_eq!(
                counts(&elf64().relocations(&[&run, &next, &[3]])),
                Some((first as u64, second as u64, 1))
            );
        }
    }
}

#[test]
fn what_is_no_table_is_left_alone() {
    assert_eq!(counts(&elf64()), None);
    assert_eq!(counts(&elf64().behind(&[0; 3])), None);
    assert_eq!(counts(&elf64().behind(&[1; 8])), None);
    assert_eq!(counts(&elf64().behind(&[0; 16])), None, "four zeros");
    assert_eq!(counts(&elf64().relocations(&[&[1]]).behind(&[7])), None);
}

/// A layer that is another one than the ELF was read from, as a lying cache could give it.
#[test]
fn a_layer_that_has_shrunk_has_no_table() {
    let file = elf64().relocations(&[&[1, 2, 3], &[5, 6]]).build();
    let elf = Elf::parse(&file).unwrap();
    for len in 0..file.len() {
        assert_eq!(elf.relocations(&file[..len]), None);
    }
}
