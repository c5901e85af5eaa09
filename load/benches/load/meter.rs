//! What a piece of work costs this thread: time on a processor, page faults, memory of its own.

use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::fs;

/// Costs up to some moment.
#[derive(Debug)]
pub(crate) struct Meter {
    faults: f64,
    private_kib: i64,
    cpu: f64,
}

/// What something cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Microseconds of a processor's time.
    pub(crate) cpu: f64,
    /// Page faults.
    pub(crate) faults: f64,
    /// How much more memory the process has that is its own: a file's pages that it has not written
    /// to are not, though it may be the only one to map them.
    pub(crate) private_kib: i64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        // The time last, because the others take some.
        let private_kib = private_kib();
        Self {
            faults: faults(),
            private_kib,
            cpu: cpu(),
        }
    }

    pub(crate) fn so_far(&self) -> Cost {
        let cpu = cpu() - self.cpu;
        let faults = faults() - self.faults;
        Cost {
            cpu,
            faults,
            private_kib: private_kib() - self.private_kib,
        }
    }

    pub(crate) fn stop(self) -> Cost {
        self.so_far()
    }
}

impl Cost {
    pub(crate) fn median(costs: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| median(costs.iter().map(value).collect());
        let mut private: Vec<i64> = costs.iter().map(|cost| cost.private_kib).collect();
        private.sort_unstable();
        Self {
            cpu: of(|cost| cost.cpu),
            faults: of(|cost| cost.faults),
            private_kib: private.get(private.len() / 2).copied().unwrap_or_default(),
        }
    }

    /// The difference to what `other` cost.
    pub(crate) fn more_than(self, other: Self) -> Self {
        Self {
            cpu: self.cpu - other.cpu,
            faults: self.faults - other.faults,
            private_kib: self.private_kib - other.private_kib,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            faults,
            private_kib,
        } = self;
        write!(
            f,
            "{cpu:>9.1} us {faults:>7.0} faults {private_kib:>7} KiB private"
        )
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a bench are few")]
fn cpu() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

/// The thread's minor faults: the eighth number behind the name (proc_pid_stat(5)).
fn faults() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let numbers = stat.rsplit(')').next().unwrap_or_default();
    let faults = numbers.split_ascii_whitespace().nth(7);
    faults
        .and_then(|faults| faults.parse().ok())
        .unwrap_or(f64::NAN)
}

fn private_kib() -> i64 {
    smaps("Anonymous:", "self")
}

/// A number of a process's memory in KiB (proc_pid_smaps(5)).
pub(crate) fn smaps(field: &str, process: &str) -> i64 {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let value = smaps.lines().find_map(|line| line.strip_prefix(field));
    let number = value.and_then(|value| value.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
