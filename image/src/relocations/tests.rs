use super::*;
use crate::Elf;
use crate::testing::{ElfBuilder, elf64};

fn counts(builder: &ElfBuilder) -> Option<(u64, u64, u64)> {
    let file = builder.build();
    let relocations = Elf::parse(&file).unwrap().relocations?;
    Some(relocations.counts())
}

#[test]
fn three_runs_are_those_before_linux_6_15() {
    let elf = elf64().relocations(&[&[1, 2, 3], &[4], &[5, 6]]);
    assert_eq!(counts(&elf), Some((3, 1, 2)));
    let file = elf.build();
    let relocations = Elf::parse(&file).unwrap().relocations.unwrap();
    let first = |run: Range<u64>| Reader::new(&file).u32_le(run.start).unwrap();
    assert_eq!(first(relocations.r64), 1);
    assert_eq!(first(relocations.inverse32), 4);
    assert_eq!(first(relocations.r32), 5);
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

#[test]
fn what_is_no_table_is_left_alone() {
    assert_eq!(counts(&elf64()), None);
    assert_eq!(counts(&elf64().behind(&[0; 3])), None);
    assert_eq!(counts(&elf64().behind(&[1; 8])), None);
    assert_eq!(counts(&elf64().behind(&[0; 16])), None, "four zeros");
    assert_eq!(counts(&elf64().relocations(&[&[1]]).behind(&[7])), None);
}
