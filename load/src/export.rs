//! Carries a plan out into a file instead of memory, for somebody else to boot.

mod igvm;
mod pvh_elf;

pub use self::igvm::{IgvmError, igvm};
pub use self::pvh_elf::{PvhElfError, pvh_elf};
