//! The local APIC's timer (Intel SDM volume 3, section "APIC Timer").
//!
//! What is kept is when the count is next zero, so that no period adds to another's lateness.

use core::num::NonZeroU64;
use core::time::Duration;

/// What the timer's counters count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicClock {
    /// Counts of the initial count a second, before they are divided.
    pub bus_hz: NonZeroU64,
    /// Counts of the time stamp counter a second.
    pub tsc_hz: NonZeroU64,
}

impl ApicClock {
    /// What the timer counts on KVM: nanoseconds (`APIC_BUS_CYCLE_NS`).
    pub const KVM_BUS_HZ: NonZeroU64 = NonZeroU64::new(1_000_000_000).expect("it is not zero");
}

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApicTime {
    /// Since any moment that stays the same; it does not go back.
    pub now: Duration,
    /// The guest's time stamp counter.
    pub tsc: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Timer {
    clock: ApicClock,
    time: ApicTime,
    mode: TimerMode,
    initial: u32,
    divide: u32,
    /// When the count is next zero, in undivided counts; nothing once it has stopped.
    zero: Option<u128>,
    /// Zero where there is none.
    tsc_deadline: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
}

const NANOS: u128 = 1_000_000_000;
/// The divide configuration register's bits (figure "Divide Configuration Register").
const DIVIDE: u32 = 0b1011;
/// How many times a second a periodic timer interrupts at most: more often than that it skips
/// zeros, as it would were it not heard in time (KVM's `min_timer_period_us`).
const MOST_HZ: u64 = 5_000;

impl Timer {
    /// One after reset: stopped.
    pub(super) const fn new(clock: ApicClock, time: ApicTime) -> Self {
        Self {
            clock,
            time,
            mode: TimerMode::OneShot,
            initial: 0,
            divide: 0,
            zero: None,
            tsc_deadline: 0,
        }
    }

    /// As after reset, at the time that it is.
    pub(super) const fn reset(&self) -> Self {
        Self::new(self.clock, self.time)
    }

    /// Says what time it is.
    pub(super) fn set_time(&mut self, time: ApicTime) {
        self.time = ApicTime {
            now: self.time.now.max(time.now),
            tsc: time.tsc,
        };
    }

    /// Whether the count has become zero since this was asked; once, however often it has.
    pub(super) fn expires(&mut self) -> bool {
        match self.mode {
            TimerMode::TscDeadline => {
                let expires = (1..=self.time.tsc).contains(&self.tsc_deadline);
                if expires {
                    self.tsc_deadline = 0;
                }
                expires
            }
            TimerMode::OneShot => {
                let expires = self.zero.is_some_and(|zero| zero <= self.counts());
                if expires {
                    self.zero = None;
                }
                expires
            }
            TimerMode::Periodic => {
                let Some(late) = self.zero.and_then(|zero| self.counts().checked_sub(zero)) else {
                    return false;
                };
                let stride = self.stride();
                let skipped = (late / stride + 1).saturating_mul(stride);
                self.zero = self.zero.map(|zero| zero.saturating_add(skipped));
                true
            }
        }
    }

    /// When it is to be asked whether it expires, if ever.
    pub(super) fn deadline(&self) -> Option<Duration> {
        if self.mode == TimerMode::TscDeadline {
            let left = self.tsc_deadline.saturating_sub(self.time.tsc);
            let left = (u128::from(left) * NANOS).div_ceil(self.clock.tsc_hz.get().into());
            let at = self.time.now.saturating_add(nanos(left));
            return (self.tsc_deadline != 0).then_some(at);
        }
        let hz = self.clock.bus_hz.get().into();
        let zero = self.zero?;
        Some(nanos(zero.saturating_mul(NANOS).div_ceil(hz)))
    }

    /// Undivided counts up to now.
    fn counts(&self) -> u128 {
        let hz = u128::from(self.clock.bus_hz.get());
        self.time.now.as_nanos().saturating_mul(hz) / NANOS
    }

    /// The undivided counts of a period, at least one.
    fn period(&self) -> u128 {
        (u128::from(self.initial) * self.divisor()).max(1)
    }

    /// The whole periods between two interrupts.
    fn stride(&self) -> u128 {
        let period = self.period();
        let least = u128::from(self.clock.bus_hz.get() / MOST_HZ);
        period * least.div_ceil(period).max(1)
    }

    /// By how much counts are divided: 2 for 0, and so on to 128 for 6; 1 for 7.
    const fn divisor(&self) -> u128 {
        let value = self.divide & 0b11 | (self.divide & 0b1000) >> 1;
        1 << ((value + 1) % 8)
    }

    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }

    /// The count goes on from where it is.
    pub(super) fn set_divide(&mut self, value: u32) {
        let count = u128::from(self.current());
        self.divide = value & DIVIDE;
        let left = count * self.divisor();
        let counts = self.counts();
        self.zero = self.zero.map(|_| counts.saturating_add(left));
    }

    /// The mode of a local vector table entry. "A write to the LVT Timer Register that changes the
    /// timer mode disarms the local APIC timer" between counting and deadlines.
    pub(super) fn set_mode(&mut self, mode: TimerMode) {
        let deadlines = |mode| mode == TimerMode::TscDeadline;
        if deadlines(mode) != deadlines(self.mode) {
            self.initial = 0;
            self.zero = None;
            self.tsc_deadline = 0;
        }
        self.mode = mode;
    }

    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }

    /// Starts to count, or stops with zero. "In TSC-deadline mode, writes to the initial-count
    /// register are ignored".
    pub(super) fn set_initial(&mut self, count: u32) {
        if self.mode == TimerMode::TscDeadline {
            return;
        }
        self.initial = count;
        let first = match self.mode {
            TimerMode::Periodic => self.stride(),
            TimerMode::OneShot | TimerMode::TscDeadline => self.period(),
        };
        self.zero = (count != 0).then(|| self.counts().saturating_add(first));
    }

    /// The current count.
    pub(super) fn current(&self) -> u32 {
        let Some(left) = self.zero.and_then(|zero| zero.checked_sub(self.counts())) else {
            return 0;
        };
        let left = match self.mode {
            TimerMode::Periodic => left.saturating_sub(1) % self.period() + 1,
            TimerMode::OneShot | TimerMode::TscDeadline => left,
        };
        u32::try_from(left.div_ceil(self.divisor())).unwrap_or(u32::MAX)
    }

    pub(super) const fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Arms the timer, or disarms it with zero. In other modes "the IA32_TSC_DEADLINE MSR reads
    /// zero and writes are ignored".
    pub(super) fn set_tsc_deadline(&mut self, deadline: u64) {
        if self.mode == TimerMode::TscDeadline {
            self.tsc_deadline = deadline;
        }
    }
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}
