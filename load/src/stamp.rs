//! What tells one content of a file from another without looking at it: which file it is, its
//! size, and when it was changed last (inode(7)).

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// A file as it was at some moment. Whatever is done to its bytes changes one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
}

/// Seconds since 1970 and nanoseconds, as the filesystem keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

impl Stamp {
    /// Bytes of [`to_bytes`](Self::to_bytes).
    pub(crate) const LEN: u64 = 48;

    pub(crate) fn of(file: &Metadata) -> Self {
        let time = |seconds, nanoseconds: i64| Time {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        Self {
            dev: file.dev(),
            ino: file.ino(),
            size: file.size(),
            mtime: time(file.mtime(), file.mtime_nsec()),
            ctime: time(file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether another change than the last would get another time.
    ///
    /// Filesystems take the time of the last tick of the kernel's clock, 10 ms at most ago, or
    /// keep whole seconds, or even numbers of them: what was changed less than that ago may be
    /// changed again without a trace.
    pub(crate) fn has_settled(&self, now: SystemTime) -> bool {
        const TICK: Duration = Duration::from_millis(20);
        const COARSE: Duration = Duration::from_secs(3);
        let last = self.mtime.max(self.ctime);
        let coarse = self.mtime.nanoseconds == 0 && self.ctime.nanoseconds == 0;
        let wait = if coarse { COARSE } else { TICK };
        last.as_system_time()
            .and_then(|last| now.duration_since(last).ok())
            .is_some_and(|age| age > wait)
    }

    pub(crate) fn to_bytes(&self) -> [u8; 48] {
        let numbers = [
            self.dev.to_le_bytes(),
            self.ino.to_le_bytes(),
            self.size.to_le_bytes(),
            self.mtime.to_bytes(),
            self.ctime.to_bytes(),
        ];
        let mut bytes = [0; 48];
        for (to, from) in bytes.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&from);
        }
        bytes[40..44].copy_from_slice(&self.mtime.nanoseconds.to_le_bytes());
        bytes[44..].copy_from_slice(&self.ctime.nanoseconds.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; 48]) -> Self {
        let number = |index: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[index * 8..][..8]);
            u64::from_le_bytes(eight)
        };
        let nanoseconds = number(5);
        let time = |seconds: u64, nanoseconds: u64| Time {
            seconds: seconds.cast_signed(),
            nanoseconds: u32::try_from(nanoseconds & u64::from(u32::MAX)).unwrap_or(0),
        };
        Self {
            dev: number(0),
            ino: number(1),
            size: number(2),
            mtime: time(number(3), nanoseconds),
            ctime: time(number(4), nanoseconds >> 32),
        }
    }

    /// What is remembered of a file in the cache itself: the device's number is not, for it may
    /// be another after the next start of the host.
    pub(crate) fn without_device(&self) -> String {
        let Self {
            ino,
            size,
            mtime,
            ctime,
            ..
        } = self;
        format!("{ino:x}-{size:x}-{mtime}-{ctime}")
    }
}

impl Time {
    fn as_system_time(self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.seconds).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, self.nanoseconds))
    }

    fn to_bytes(self) -> [u8; 8] {
        self.seconds.to_le_bytes()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.dev, self.without_device())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}_{:x}", self.seconds, self.nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_from_its_bytes() {
        let time = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds,
        };
        let stamp = Stamp {
            dev: 0xfe01,
            ino: 42,
            size: 1 << 40,
            mtime: time(-1, 999_999_999),
            ctime: time(1 << 33, 5),
        };
        assert_eq!(Stamp::from_bytes(&stamp.to_bytes()), stamp);
        assert_eq!(
            stamp.to_string(),
            "fe01-2a-10000000000-ffffffffffffffff_3b9ac9ff-200000000_5"
        );
    }
}
