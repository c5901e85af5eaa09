//! The PCI Express bus of a machine: which function answers where, and the functions' insides.

mod bus;
mod chipset;
mod intx;
mod root_port;
mod signals;
#[cfg(test)]
mod tests;
pub(crate) mod vfio;
mod virtio;
mod watchdog;

pub(crate) use bus::{Legacy, PciBus};
pub use chipset::Chipset;
pub(crate) use chipset::Lpc;
pub(crate) use intx::{Intx, Pin};
pub(crate) use root_port::RootPort;
use signals::Signals;
pub(crate) use virtio::VirtioFunction;
pub(crate) use watchdog::Watchdog;

use firstlight_base::GpaRange;
use firstlight_devices::pci::Address;

/// A function on the bus, from any vCPU's thread.
pub(crate) trait PciDevice: Send + Sync {
    /// Fills `data`, which is all ones, with what configuration space reads as from `register` on.
    fn read_config(&self, register: u16, data: &mut [u8]);

    /// Writes configuration space from `register` on. The function learns its address by that, as
    /// hardware does (PCI Express Base 5.0, section 2.2.6.2). Says whether BARs may be elsewhere now:
    /// its own, or those of what is behind it.
    fn write_config(&self, at: Address, register: u16, data: &[u8]) -> bool;

    /// Where its BARs are, with their numbers; none where it does not answer in memory.
    fn bars(&self) -> Vec<(usize, GpaRange)>;

    /// Fills `data`, which is all ones, with what is at `offset` of a BAR.
    fn read_bar(&self, bar: usize, offset: u64, data: &mut [u8]);

    /// Writes to `offset` of a BAR.
    fn write_bar(&self, bar: usize, offset: u64, data: &[u8]);

    /// The function is reset: it stops, and its registers have their first values.
    fn reset(&self);

    /// The function is taken out, or its machine ends: it stops, and does nothing from then on.
    fn retire(&self);
}
