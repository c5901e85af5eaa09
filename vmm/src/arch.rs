//! What a machine of each architecture is made of, and how it is put together.
//!
//! [`LinuxArch`] is to this house what crosvm's trait of that name is to crosvm, with the same names
//! for the same things; what are twenty parameters there is [`VmComponents`] here. It has three
//! implementations, [`X8664`], [`Aarch64`] and [`Riscv64`], and all of them are there on every host: a
//! machine is put together from a [`Platform`](firstlight_boot::Platform), which says where everything
//! is, and from a hypervisor, which decides whether it can run.

mod aarch64;
mod riscv64;
mod x86_64;

pub use aarch64::Aarch64;
pub use riscv64::Riscv64;
pub use x86_64::X8664;

use crate::RunError;
use crate::board::{Board, Lines, Place};
use crate::pci::{PciBus, Pin, RootPort, VirtioFunction};
use crate::virtio::mmio::{Transport, Wiring};
use crate::virtio::VirtioDevice;
use firstlight_base::{GpaRange, VcpuId, VcpuState};
use firstlight_boot::platform::{PciWindows, VirtioMmio};
use firstlight_hv::{Features, Hypervisor, IrqLine, Irqchip, Vcpu, Vm};
use firstlight_load::GuestMemory;
use std::sync::Arc;
