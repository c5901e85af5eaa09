//! The chips of a small virtual machine: registers in, effects out.
//!
//! A chip owns no lock, thread, file or clock. It is given what it needs and answers every access
//! the way hardware would: a hole reads all ones, a write to it is dropped. What an access means
//! for the machine as a whole comes back as an [`Effect`].
#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core
)]

extern crate alloc;

mod acpi_regs;
mod bus;
mod cfi_flash;
mod chip;
mod cmos;
mod debug_exit;
mod debugcon;
mod finisher;
mod fw_cfg;
mod goldfish_battery;
mod goldfish_rtc;
mod i8042;
mod irqchip;
pub mod pci;
mod pit;
mod pl011;
mod pl031;
mod power_management;
mod primecell;
mod pvpanic;
mod reset_control;
mod suspend_notice;
mod unix_time;
pub mod virtio;
mod words;

pub use acpi_regs::AcpiRegs;
pub use bus::{Bus, Overlap};
pub use cfi_flash::{CfiFlash, FlashBus};
pub use chip::{ByteWide, Chip, Effect, Interrupting};
pub use cmos::Cmos;
pub use debug_exit::DebugExit;
pub use debugcon::Debugcon;
pub use finisher::Finisher;
pub use fw_cfg::{FwCfg, FwCfgError, FwCfgFile};
pub use goldfish_battery::{
    BatteryHealth, BatteryState, BatteryStateError, BatteryStatus, GoldfishBattery,
};
pub use goldfish_rtc::GoldfishRtc;
pub use i8042::I8042;
pub use irqchip::{
    Affinity, AfterRun, ApicClock, ApicEvents, ApicMessage, ApicTime, Apics, ApicsRegisters,
    ApicsWindow, DeliveryMode, Destination, Ended, GeneralProtection, Gic, GicLine, GicV2, GicV3,
    IccRegister, IoApic, IoApicPin, Ipi, Lint, ListRegisters, LocalApic, PicRegisters, PicWindow,
    Pics, Plic, PlicContext, Shorthand, VirqError, Virqs,
};
pub use pit::Pit;
pub use pl011::Pl011;
pub use pl031::Pl031;
pub use power_management::PowerManagement;
pub use pvpanic::Pvpanic;
pub use reset_control::ResetControl;
pub use suspend_notice::SuspendNotice;
pub use unix_time::UnixTime;
