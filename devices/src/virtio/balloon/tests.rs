//! A balloon, and pages that are claimed to be in it.

use super::*;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use proptest::prelude::*;

fn pages(numbers: &[u32]) -> Vec<(u64, u64)> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
    runs(&bytes)
        .map(|run| (run.start().get() / PAGE, run.len() / PAGE))
        .collect()
}

#[test]
fn neighbours_are_one_run_in_either_direction() {
    assert_eq!(pages(&[]), []);
    assert_eq!(pages(&[5, 6, 7]), [(5, 3)]);
    assert_eq!(pages(&[7, 6, 5]), [(5, 3)]);
    assert_eq!(pages(&[5, 7, 6, 6]), [(5, 1), (6, 2), (6, 1)]);
    let last = u64::from(u32::MAX);
    assert_eq!(pages(&[u32::MAX, 0]), [(last, 1), (0, 1)]);
}

#[test]
fn what_is_left_over_of_a_number_is_none() {
    assert_eq!(runs(&[1, 0, 0, 0, 2, 0, 0]).count(), 1);
    assert_eq!(runs(&[1, 0, 0]).count(), 0);
}

#[test]
fn no_more_is_asked_for_than_there_is() {
    let mut balloon = Balloon::new(1000);
    assert!(balloon.set_target(10));
    assert!(!balloon.set_target(10));
    assert!(balloon.set_target(u32::MAX));
    assert!(!balloon.set_target(2000));
    assert_eq!(balloon.target(), 1000);
    let mut data = [0xff; 16];
    balloon.read_config(0, &mut data);
    assert_eq!(data[..9], [0xe8, 3, 0, 0, 0, 0, 0, 0, 0xff]);
}

#[test]
fn a_driver_that_lies_about_its_pages_has_given_all_of_them() {
    let mut balloon = Balloon::new(1000);
    assert!(balloon.write_config(4, &700u32.to_le_bytes()));
    assert_eq!(balloon.actual(), 700);
    assert!(balloon.write_config(4, &u32::MAX.to_le_bytes()));
    assert_eq!(balloon.actual(), 1000);
    balloon.reset();
    assert_eq!(balloon.actual(), 0);
}

#[test]
fn only_what_the_driver_has_to_say_can_be_written() {
    let mut balloon = Balloon::new(1000);
    balloon.set_target(10);
    assert!(!balloon.write_config(0, &[0xff; 4]));
    assert!(!balloon.write_config(8, &[0xff; 8]));
    assert!(!balloon.write_config(u64::MAX - 1, &[0xff; 2]));
    assert_eq!((balloon.target(), balloon.actual()), (10, 0));
    // One that straddles writes the part that can be.
    assert!(balloon.write_config(2, &[1, 1, 1, 2, 0, 0, 1, 1]));
    assert_eq!((balloon.target(), balloon.actual()), (10, 513));
}

#[test]
fn reported_pages_come_by_either_numbering() {
    assert!(!Balloon::is_reporting(INFLATE) && !Balloon::is_reporting(DEFLATE));
    assert!(Balloon::is_reporting(2) && Balloon::is_reporting(4));
    assert_eq!(Balloon::new(0).queue_sizes().len(), 5);
}

proptest! {
    #[test]
    fn runs_are_the_pages_that_were_named(numbers in prop::collection::vec(0..40u32, 0..60)) {
        let named: BTreeSet<u64> = numbers.iter().map(|&it| u64::from(it)).collect();
        let found = pages(&numbers)
            .into_iter()
            .flat_map(|(start, len)| start..start + len);
        prop_assert_eq!(found.collect::<BTreeSet<u64>>(), named);
    }
}
