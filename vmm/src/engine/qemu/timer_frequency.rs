//! How fast the time stamp counter of a guest runs, and the word that tells Linux.
//!
//! QEMU's emulated processors count as the host's do (`cpu_get_host_ticks`). Nothing in the
//! machine says how fast that is: QEMU has no such CPUID leaf, and a machine with hardware-reduced
//! ACPI has neither HPET nor PM timer. Linux is left with timing the PIT, once, for some
//! milliseconds, and a vCPU that the host does not run just then makes it fail; it then waits for
//! ever for a tick. So it is told (`Documentation/admin-guide/kernel-parameters.txt`,
//! `tsc_early_khz`).

use std::borrow::Cow;

/// The parameter.
const WORD: &str = "tsc_early_khz";

/// Takes the first of the two samples that a frequency is made from: the later the second, the
/// better.
pub(super) fn begin() {
    counter::first_sample();
}

/// `wanted` with the word in front, unless the user has it already or this host's counter cannot
/// be read.
pub(crate) fn cmdline(wanted: &str) -> Cow<'_, str> {
    if says_already(wanted) {
        return Cow::Borrowed(wanted);
    }
    match counter::khz() {
        Some(khz) => Cow::Owned(format!("{WORD}={khz} {wanted}").trim_end().to_owned()),
        None => Cow::Borrowed(wanted),
    }
}

/// Whether the user has said how fast it is; what stands behind `--` is not the kernel's.
fn says_already(wanted: &str) -> bool {
    wanted
        .split_whitespace()
        .take_while(|&word| word != "--")
        .any(|word| word.split('=').next() == Some(WORD))
}

#[cfg(target_arch = "x86_64")]
mod counter;

/// On other hosts QEMU has another counter, whose rate says nothing.
#[cfg(not(target_arch = "x86_64"))]
mod counter {
    pub(super) fn first_sample() {}

    pub(super) fn khz() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_word_stands_in_front_where_an_init_cannot_take_it() {
        let line = cmdline("console=ttyS0 -- tsc_early_khz=1");
        let (word, rest) = line.split_once(' ').unwrap();
        let khz: u64 = word
            .strip_prefix("tsc_early_khz=")
            .unwrap()
            .parse()
            .unwrap();
        assert!((100_000..20_000_000).contains(&khz), "{khz} kHz");
        assert_eq!(rest, "console=ttyS0 -- tsc_early_khz=1");
        assert_eq!(cmdline(""), word, "the next boot is told the same");
    }

    #[test]
    fn what_the_user_says_stays() {
        assert_eq!(cmdline("tsc_early_khz=5 quiet"), "tsc_early_khz=5 quiet");
    }
}
