//! What firmware has for its guests: tables, a few services, and the way from reset to the kernel
//! and back.

pub(crate) mod acpi;
pub(crate) mod bios;
pub(crate) mod e820;
pub(crate) mod fdt;
pub(crate) mod reset_rom;
pub(crate) mod reset_vector;
pub(crate) mod sbi;
