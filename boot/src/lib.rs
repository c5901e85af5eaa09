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

mod acpi;
mod bios;
pub mod cmdline;
pub mod configurator;
pub mod diff;
mod draft;
pub mod draw;
mod e820;
mod entry;
mod error;
mod gdt;
mod kaslr;
mod kernel;
mod linux;
mod linux16;
pub mod loader;
mod multiboot;
mod paging;
mod plan;
mod planner;
pub mod platform;
mod pvh;
mod request;
mod reset_rom;
mod reset_vector;
mod setup_data;
mod start_info;
pub mod stub;
mod way;
mod zero_page;

pub use entry::{Entry, EntryPoint, entries};
pub use error::PlanError;
pub use plan::{BootPlan, Content, E820Entry, E820Kind, Piece, Relocate};
pub use planner::plan;
pub use platform::Platform;
pub use request::{
    Kaslr, Module, Protocol, ProtocolChoice, Request, SetupData, StartInfoVersion, Subarch, Unpack,
};
pub use reset_rom::{ResetRomError, reset_rom};
