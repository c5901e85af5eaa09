//! Room for a dying kernel's last words (Linux `Documentation/admin-guide/ramoops.rst`).

use crate::platform::{Pc, VirtArm64, VirtRiscv64};
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use firstlight_base::{Gpa, GpaRange, MIB};
use firstlight_image::Architecture;

/// A piece of guest memory that outlives the guest, into which Linux writes its log when it dies: its
/// driver is `ramoops`.
///
/// To be reserved by the [request](crate::Request::reserved), and told to the driver by its
/// [parameters](Self::parameters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashLog(GpaRange);

/// There can be no such crash log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrashLogError {
    /// The driver takes no such size.
    #[error(
        "a crash log of {len:#x} bytes cannot be; it has a power of two, and {:#x} to {:#x}",
        CrashLog::MIN_LEN,
        CrashLog::MAX_LEN
    )]
    Length {
        /// The size.
        len: u64,
    },
    /// The guest has little memory.
    #[error("a crash log of {len:#x} bytes is more than half of the memory that it can lie in")]
    NoRoom {
        /// The size.
        len: u64,
    },
    /// There are no machines of that architecture.
    #[error("there is no machine for {0}")]
    Architecture(Architecture),
}

impl CrashLog {
    /// The least: four records.
    pub const MIN_LEN: u64 = 0x1_0000;
    /// The most.
    pub const MAX_LEN: u64 = 64 * MIB;
    /// What serves most.
    pub const DEFAULT_LEN: u64 = MIB;
    /// The log is divided into so many records, the last of which has the console's output where the
    /// kernel is built for that.
    const RECORDS: u64 = 8;
    /// To be mapped as memory is that nobody writes behind the processors' caches.
    const CACHED: u32 = 2;

    /// The last `len` bytes of the lowest RAM that a machine with `memory` bytes has.
    ///
    /// # Errors
    ///
    /// [`CrashLogError`] where there is no such machine, or no room.
    pub fn new(architecture: Architecture, memory: u64, len: u64) -> Result<Self, CrashLogError> {
        if !len.is_power_of_two() || !(Self::MIN_LEN..=Self::MAX_LEN).contains(&len) {
            return Err(CrashLogError::Length { len });
        }
        let ram = match architecture {
            Architecture::X86_64 | Architecture::I386 => Pc::new(memory, 1).ram,
            Architecture::Arm64 => VirtArm64::new(memory, 1).ram,
            Architecture::Riscv64 => VirtRiscv64::new(memory, 1).ram,
            other => return Err(CrashLogError::Architecture(other)),
        };
        let no_room = CrashLogError::NoRoom { len };
        let lowest = ram.first().ok_or_else(|| no_room.clone())?;
        if lowest.len() / 2 < len {
            return Err(no_room);
        }
        let end = lowest.end().align_down(len);
        let start = end.and_then(|end| end.checked_sub(len));
        let range = start.and_then(|start: Gpa| GpaRange::new(start, len));
        range.map(Self).ok_or(no_room)
    }

    /// Where it is.
    #[must_use]
    pub const fn range(self) -> GpaRange {
        self.0
    }

    /// What the driver is told, as its parameters are written where it is loaded.
    #[must_use]
    pub fn parameters(self) -> String {
        self.told("")
    }

    /// The same as words of a kernel's command line, for those that have the driver built in, and for
    /// programs that look there when they load it.
    #[must_use]
    pub fn cmdline(self) -> String {
        self.told("ramoops.")
    }

    fn told(self, prefix: &str) -> String {
        let (at, len) = (self.0.start().get(), self.0.len());
        let record = len / Self::RECORDS;
        let mut text = format!("{prefix}mem_address={at:#x}");
        for (name, value) in [
            ("mem_size", len),
            ("mem_type", Self::CACHED.into()),
            ("record_size", record),
            ("console_size", record),
        ] {
            write!(text, " {prefix}{name}={value:#x}").expect("a String takes all");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::GIB;

    #[test]
    fn it_lies_at_the_end_of_the_lowest_ram() {
        let at = |architecture, memory| {
            let log = CrashLog::new(architecture, memory, MIB).unwrap();
            assert_eq!(log.range().len(), MIB);
            log.range().end().get()
        };
        assert_eq!(at(Architecture::X86_64, 512 * MIB), 512 * MIB);
        assert_eq!(at(Architecture::X86_64, 8 * GIB), 3 * GIB);
        assert_eq!(at(Architecture::X86_64, 512 * MIB + 4096), 512 * MIB);
        assert_eq!(at(Architecture::Arm64, 8 * GIB), 9 * GIB);
        assert_eq!(at(Architecture::Riscv64, 512 * MIB), 2 * GIB + 512 * MIB);
    }

    #[test]
    fn the_driver_is_told_where_it_is() {
        let log = CrashLog::new(Architecture::X86_64, 512 * MIB, MIB).unwrap();
        assert_eq!(
            log.parameters(),
            "mem_address=0x1ff00000 mem_size=0x100000 mem_type=0x2 record_size=0x20000 \
             console_size=0x20000"
        );
        assert!(log.cmdline().starts_with("ramoops.mem_address=0x1ff00000 "));
        assert_eq!(log.cmdline().matches("ramoops.").count(), 5);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refusal = |architecture, memory, len| {
            let error = CrashLog::new(architecture, memory, len).unwrap_err();
            alloc::string::ToString::to_string(&error)
        };
        for len in [0, 4096, 0x8000, 3 * MIB, 128 * MIB, u64::MAX] {
            let said = refusal(Architecture::X86_64, GIB, len);
            assert!(
                said.contains("a power of two, and 0x10000 to 0x4000000"),
                "{said}"
            );
        }
        let said = refusal(Architecture::X86_64, 2 * MIB, 2 * MIB);
        assert!(said.contains("more than half"), "{said}");
        let said = refusal(Architecture::Loongarch64, GIB, MIB);
        assert!(said.contains("no machine for"), "{said}");
    }
}
