//! What firmware has for its guests: tables, a few services, and the way from reset to the kernel
//! and back.

pub(crate) mod acpi;
pub(crate) mod bios;
pub(crate) mod e820;
pub(crate) mod fdt;
pub(crate) mod files;
pub(crate) mod mp_table;
pub(crate) mod reset_rom;
pub(crate) mod reset_vector;
pub(crate) mod sbi;
pub(crate) mod smbios;
pub(crate) mod variables;

use crate::draft::range;
use firstlight_base::GpaRange;

/// Where a PC's kernels look for tables (MultiProcessor Specification 1.4, section 4.1; SMBIOS 3.7, section
/// 5.2), but for the start of that, where the reset ROM's code is, and the reset vector.
pub(crate) const PC_TABLES: GpaRange = range(0xf_4000, 0xf_fff0);
