//! Reading the host's time stamp counter, and timing it against the host's clock.
#![expect(unsafe_code, reason = "reading the time stamp counter")]

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How far apart two samples are at least. Each is exact to some 50 ns, so the frequency is to
/// some 20 millionths, which a network's time corrects; a longer wait would only delay the boot.
const APART: Duration = Duration::from_millis(5);

static FIRST: OnceLock<Sample> = OnceLock::new();

/// The counter at a time.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    ticks: u64,
}

pub(super) fn first_sample() {
    FIRST.get_or_init(Sample::take);
}

/// How many thousand ticks there are in a second; always the same, once it was asked for.
pub(super) fn khz() -> Option<u64> {
    static KHZ: OnceLock<Option<u64>> = OnceLock::new();
    *KHZ.get_or_init(measure)
}

fn measure() -> Option<u64> {
    let first = FIRST.get_or_init(Sample::take);
    if let Some(rest) = APART.checked_sub(first.at.elapsed()) {
        sleep(rest);
    }
    let second = Sample::take();
    let nanoseconds = second.at.duration_since(first.at).as_nanos();
    let ticks = second.ticks.checked_sub(first.ticks)?;
    let khz = u128::from(ticks)
        .checked_mul(1_000_000)?
        .checked_div(nanoseconds)?;
    u64::try_from(khz).ok().filter(|&khz| khz > 0)
}

impl Sample {
    /// The best of some readings: that with the least time around it.
    fn take() -> Self {
        const READINGS: usize = 16;
        let reading = || {
            let before = Instant::now();
            // SAFETY: every x86-64 processor has the counter, and Linux lets programs read it
            // unless they ask not to be let (prctl(2), PR_SET_TSC).
            let ticks = unsafe { _rdtsc() };
            let around = before.elapsed();
            let sample = Self {
                at: before + around / 2,
                ticks,
            };
            (around, sample)
        };
        (0..READINGS)
            .map(|_| reading())
            .min_by_key(|&(around, _)| around)
            .map_or_else(|| reading().1, |(_, sample)| sample)
    }
}
