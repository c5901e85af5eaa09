//! Works out where every byte and every register of a booting kernel goes.
//!
//! [`plan`] takes an opened image and a [`Request`] and returns a [`BootPlan`]: what lies where in
//! guest memory, why, what the firmware tables say, and what the boot vCPU's registers hold. It
//! opens no file and writes no guest memory; `firstlight-load` carries the plan out.
#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::indexing_slicing
)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

extern crate alloc;

pub mod cmdline;
pub mod configurator;
mod crash_log;
pub mod diff;
mod draft;
pub mod draw;
mod entry;
mod error;
mod firmware;
mod kaslr;
mod kernel;
pub mod loader;
mod modules;
mod parts;
mod plan;
mod planner;
pub mod platform;
mod protocol;
mod request;
pub mod stub;

pub use crash_log::{CrashLog, CrashLogError};
pub use entry::{Entry, EntryPoint, entries};
pub use error::PlanError;
pub use firmware::acpi::given::{AcpiTable, AcpiTableError};
pub use firmware::fdt::{BlobError, FdtError, OverlayError};
pub use firmware::files::{FirmwareFile, firmware_files};
pub use firmware::reset_rom::{ResetRomError, reset_rom};
pub use firmware::sbi::{AssemblerError, FirmwareError, riscv_firmware};
pub use firmware::smbios::{Smbios, SmbiosText};
pub use plan::{BootPlan, Content, E820Entry, E820Kind, Piece, Relocate};
pub use planner::plan;
pub use platform::{Pc, Platform};
pub use request::{
    FdtPosition, FirmwareTables, Hardware, Kaslr, Module, Overlay, PMEM_ALIGN, Protocol,
    ProtocolChoice, Request, SetupData, StartInfoVersion, Subarch, Unpack,
};
