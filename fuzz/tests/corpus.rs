//! What fuzzing has found, and what it begins with, as plain tests.

use firstlight_fuzz::{Reached, TARGETS, Target};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files in a target's corpus.
fn kept(target: &Target) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(corpus().join(target.name)) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_seed_reaches_what_it_was_made_for() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            let reached = (target.run)(&seed.bytes);
            let is_refused = seed.name.starts_with("no-");
            let expected = if is_refused {
                Reached::Refusal
            } else {
                Reached::End
            };
            assert_eq!(reached, expected, "{} of {}", seed.name, target.name);
        }
    }
}

#[test]
fn nothing_that_was_found_goes_wrong_again() {
    for target in TARGETS {
        for file in kept(&target) {
            println!("{}", file.display());
            let input = std::fs::read(&file).expect("the corpus can be read");
            (target.run)(&input);
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets: BTreeSet<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let folders: BTreeSet<_> = std::fs::read_dir(corpus())
        .expect("there is a corpus")
        .map(|entry| {
            let entry = entry.expect("the folder can be read");
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    assert_eq!(targets, folders);
}

#[test]
fn the_corpora_are_small() {
    let len: u64 = TARGETS
        .iter()
        .flat_map(kept)
        .map(|file| file.metadata().expect("the file is there").len())
        .sum();
    assert!(len < 200_000, "{len} bytes");
}
