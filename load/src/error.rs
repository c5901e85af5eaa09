//! Why a plan could not be carried out.

use firstlight_base::{Gpa, GpaRange, OutsideRam};
use rustix::io::Errno;

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The plan was made for another image or ramdisk than this.
    #[error(
        "{piece} is not in the files that are there: they have changed since the plan was made"
    )]
    OtherSource {
        /// The piece's name.
        piece: String,
    },
    /// The plan was made for other memory than this.
    #[error(transparent)]
    OutsideRam(#[from] OutsideRam),
    /// The image's relocation table names a place that is not in the kernel.
    #[error(
        "entry {entry} of the kernel's relocation table, {link:#x}, is at {at}, outside the kernel \
         at {kernel}"
    )]
    PlaceOutside {
        /// Which entry of the table, counted over all of its runs.
        entry: usize,
        /// The entry: the place's virtual address as it was linked.
        link: u64,
        /// Where that would be in the guest's memory.
        at: Gpa,
        /// Where the kernel is.
        kernel: GpaRange,
    },
    /// The host gave no memory.
    #[error("the host gives no memory for what was to be mapped")]
    Memory(#[source] Errno),
}
