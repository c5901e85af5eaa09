//! What is fuzzed, and how: one module for each target, which tests and libFuzzer's programs share.
//!
//! A target takes any bytes and must come back: without a panic, without more memory than it is
//! allowed, and with every promise kept that its answer makes. `cargo xtask fuzz` looks for bytes
//! that break one. What led it deep into a parser is kept in `corpus/` and run with every `cargo
//! test`; `--keep` chooses those inputs anew. An input that went wrong is put there by hand once it
//! is mended, under a name that begins with `fixed-`, and stays.

pub mod cmdline;
pub mod container;
pub mod dtb;
pub mod elf;
mod guest;
pub mod initrd;
pub mod inspect;
pub mod irqchip;
mod knobs;
pub mod multiboot;
pub mod plan;
pub mod relocations;
pub mod uki;
pub mod unpack;
pub mod virtqueue;

use firstlight_image::Limits;

/// Something that takes bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its program and its corpus.
    pub name: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// Gives it the bytes.
    pub run: fn(&[u8]) -> Reached,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Seed>,
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    inspect::TARGET,
    unpack::TARGET,
    initrd::TARGET,
    elf::TARGET,
    relocations::TARGET,
    multiboot::TARGET,
    uki::TARGET,
    container::TARGET,
    plan::TARGET,
    cmdline::TARGET,
    dtb::TARGET,
    virtqueue::TARGET,
    irqchip::TARGET,
];

/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It is not for this target at all.
    Nothing,
    /// It was refused.
    Refusal,
    /// It was taken, and all that follows from it was looked at.
    End,
}

/// An input to begin with.
#[derive(Clone, Debug)]
pub struct Seed {
    /// What it is, as a file's name; what begins with `no-` is refused, and should be.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Seed {
    fn new(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.into(),
        }
    }
}

/// How far images are unpacked here: far enough to see limits at work, and no further.
const LIMITS: Limits = Limits {
    unpacked: 1 << 20,
    depth: 4,
};

/// Gives `input` to `target` for libFuzzer, which need not remember what is for another target.
#[cfg(feature = "libfuzzer")]
#[must_use]
pub fn drive(target: &Target, input: &[u8]) -> libfuzzer_sys::Corpus {
    match (target.run)(input) {
        Reached::Nothing => libfuzzer_sys::Corpus::Reject,
        Reached::Refusal | Reached::End => libfuzzer_sys::Corpus::Keep,
    }
}
