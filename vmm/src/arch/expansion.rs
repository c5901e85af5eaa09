//! The devices that a machine has beside those of every such machine, and those that are plugged in
//! while it runs.

#[cfg(test)]
mod tests;

use super::allocation::{Allocation, Seat};
use crate::board::{Board, Lines, Place};
use crate::pci::vfio::{self, Container, Found, VfioFunction};
use crate::pci::{Chipset, Legacy, Lpc, PciBus, PciDevice, Pin, RootPort, VirtioFunction};
use crate::reports::Reports;
use crate::virtio::mmio::{Transport, Wiring};
use crate::virtio::{BalloonControl, VirtioDevice};
use crate::{DeviceError, RunError, SystemAllocator};
use firstlight_base::{GpaRange, KIB, Port};
use firstlight_boot::platform::{PciWindows, VirtioMmio};
use firstlight_devices::pci::{Address, Attachment};
use firstlight_hv::{Interconnect, VfioDeviceFd};
use firstlight_load::GuestMemory;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A machine's further devices: what is in its slots, and what can be plugged in.
pub struct Expansion {
    memory: Arc<GuestMemory>,
    interconnect: Arc<dyn Interconnect>,
    transports: Vec<Arc<Transport>>,
    bus: Option<Arc<PciBus>>,
    pub(super) balloon: Option<BalloonControl>,
    /// Who has what of the machine; held while something is plugged in or pulled out.
    allocator: Mutex<SystemAllocator>,
}

/// What a balloon counts in (virtio 1.2, section 5.5.6).
const PAGE: u64 = 4 * KIB;

/// What a machine's slots are wired to.
pub(super) struct Backplane<'a> {
    pub(super) board: &'a mut Board,
    pub(super) lines: Lines<'a>,
    pub(super) memory: &'a Arc<GuestMemory>,
    pub(super) interconnect: Arc<dyn Interconnect>,
    pub(super) chipset: Chipset,
}

/// The rows of slots of a platform.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) virtio: Option<VirtioMmio>,
    pub(super) pci: Option<PciWindows>,
    /// The ports of PCI's configuration mechanism 1, on machines with ports.
    pub(super) legacy: Option<Port>,
}

/// Why a device cannot be plugged in or pulled out.
#[derive(Debug, thiserror::Error)]
pub enum HotplugError {
    /// The machine has no bus that anything could be plugged into.
    #[error("the machine was started without slots that devices can be plugged into")]
    NoSlots,
    /// Every slot is taken.
    #[error("all {0} slots that devices can be plugged into are taken")]
    Full(usize),
    /// There is nothing.
    #[error("no device that was plugged in is at {0}")]
    Nobody(Address),
    /// The guest has no driver for the slot that could let go of what is there, or not yet.
    #[error(
        "nothing in the guest looks after the slot at {0}, and so nothing can let go of its device"
    )]
    Unserved(Address),
    /// The guest was asked before, and has not finished.
    #[error("the guest is still turning the slot at {0} on or off")]
    Busy(Address),
    /// The guest was asked, and has not let go: it has changed its mind, or its time is up.
    #[error("the guest keeps the device at {0}")]
    Kept(Address),
    /// The host failed.
    #[error(transparent)]
    Host(#[from] RunError),
}

impl Expansion {
    /// Puts devices into the slots that they have, and attaches these to the board.
    pub(super) fn build(
        rows: &Rows,
        (devices, allocation): (Vec<VirtioDevice>, Allocation),
        mut backplane: Backplane<'_>,
    ) -> Result<Self, RunError> {
        let Allocation {
            allocator,
            seats,
            ports,
        } = allocation;
        let Chipset {
            host_bridge,
            lpc_bridge,
        } = mem::take(&mut backplane.chipset);
        let bus = rows
            .pci
            .map(|windows| PciBus::new(windows, host_bridge, backplane.lines));
        let mut expansion = Self {
            memory: Arc::clone(backplane.memory),
            interconnect: Arc::clone(&backplane.interconnect),
            transports: Vec::new(),
            bus: bus.transpose()?,
            balloon: None,
            allocator: Mutex::new(allocator),
        };
        assert_eq!(seats.len(), devices.len(), "every device has its place");
        for (seat, device) in seats.into_iter().zip(devices) {
            match seat {
                Seat::Transport(number) => {
                    expansion.attach_transport(rows, (number, device), &mut backplane)?;
                }
                Seat::Function(at) => expansion.insert(at, device)?,
            }
        }
        if let (Some(bus), Some((device, bridge))) = (&expansion.bus, lpc_bridge) {
            bus.insert(device, Arc::new(Lpc::new(bridge)));
        }
        expansion.attach_bus(rows, &ports, backplane.board);
        Ok(expansion)
    }

    fn attach_transport(
        &mut self,
        rows: &Rows,
        (number, device): (u32, VirtioDevice),
        backplane: &mut Backplane<'_>,
    ) -> Result<(), RunError> {
        let transport = rows.virtio.and_then(|row| row.transport(number));
        let (registers, irq) = transport.expect("places are of the platform's row");
        let wiring = Wiring {
            registers: registers.start(),
            line: (backplane.lines)(irq)?,
            interconnect: Arc::clone(&self.interconnect),
            memory: &self.memory,
        };
        let transport = Transport::new(device, wiring)?;
        self.transports.push(Arc::clone(&transport));
        backplane.board.attach(Place::of(registers), transport);
        Ok(())
    }

    /// Puts what is none of virtio's into its slot on the root bus.
    pub(super) fn put(&self, at: Address, function: Arc<dyn PciDevice>) {
        let bus = self.bus.as_ref().expect("who is on a bus has one");
        bus.insert(at.device(), function);
    }

    /// Gives the guest functions of the host, each at its place on the root bus; `hypervisor` is told of them. They reach all of
    /// the guest's RAM but for a range that is a file's.
    pub(super) fn take_from_host(
        &self,
        functions: &[(Address, Found)],
        (hypervisor, without): (Option<VfioDeviceFd>, Option<GpaRange>),
        reports: &Arc<Reports>,
    ) -> Result<(), DeviceError> {
        let container = Arc::new(Container::new(hypervisor, &self.memory)?);
        let bus = self.bus.as_ref().expect("who is on a bus has one");
        for (at, found) in functions {
            let device = at.device();
            let place = vfio::Place {
                irq: bus.irq(device),
                pin: Pin::new(bus.line(device)),
                windows: bus.bar_windows(),
            };
            let attached = (place, &self.interconnect, reports);
            let function = VfioFunction::open(found, &container, attached)?;
            bus.insert(device, function);
        }
        Ok(container.map(without)?)
    }

    fn insert(&self, at: Address, device: VirtioDevice) -> Result<(), RunError> {
        let bus = self.bus.as_ref().expect("who is on a bus has one");
        let pin = Pin::new(bus.line(at.device()));
        let place = (Attachment::RootComplex, pin);
        bus.insert(at.device(), self.function(device, place)?);
        Ok(())
    }

    fn attach_bus(&self, rows: &Rows, ports: &[Address], board: &mut Board) {
        let Some(bus) = &self.bus else {
            return;
        };
        for port in ports {
            let pin = Pin::new(bus.line(port.device()));
            let port = RootPort::new(*port, pin, &self.interconnect);
            bus.insert_port(&port);
        }
        for (range, window) in bus.windows() {
            board.attach(Place::of(range), window);
        }
        if let Some(ports) = rows.legacy {
            board.attach(Place::Ports(ports, 8), Arc::new(Legacy::new(bus)));
        }
    }

    fn function(
        &self,
        device: VirtioDevice,
        place: (Attachment, Pin),
    ) -> Result<Arc<VirtioFunction>, RunError> {
        VirtioFunction::new(device, place, &self.interconnect, &self.memory)
    }

    /// Plugs a device into a free slot, and says which port that is behind.
    pub(crate) fn plug(&self, device: VirtioDevice) -> Result<Address, HotplugError> {
        let _one = self.allocator();
        let bus = self.bus.as_ref().ok_or(HotplugError::NoSlots)?;
        let ports = bus.ports();
        if ports.is_empty() {
            return Err(HotplugError::NoSlots);
        }
        let free = ports.iter().find(|port| port.plugged().is_none());
        let port = free.ok_or(HotplugError::Full(ports.len()))?;
        let function = self.function(device, (Attachment::Slot, port.pin()))?;
        port.plug(function);
        bus.survey();
        Ok(port.address())
    }

    /// Asks the guest to let go of the device in the slot behind the port at `port`, and does not wait
    /// for it, as [`unplug_within`](Self::unplug_within) does: Linux thinks it over for five seconds. The
    /// device is pulled out as soon as the guest has let go, and then [`is_plugged`](Self::is_plugged)
    /// says so.
    ///
    /// # Errors
    ///
    /// [`HotplugError::Nobody`] where nothing was plugged in there; [`HotplugError::Unserved`] where the
    /// guest would not hear; [`HotplugError::Busy`] where it has been asked already, and while it
    /// brings the device up.
    pub fn unplug(&self, port: Address) -> Result<(), HotplugError> {
        let _one = self.allocator();
        let bus = self.bus.as_ref().ok_or(HotplugError::NoSlots)?;
        let there = bus.port(port).ok_or(HotplugError::Nobody(port))?;
        there.request_unplug()?;
        bus.survey();
        Ok(())
    }

    /// Asks the guest to let go of the device in the slot behind the port at `port`, once it has brought
    /// that up, and waits until the device is out, or the machine has ended; but no longer than `limit`.
    ///
    /// # Errors
    ///
    /// Those of [`unplug`](Self::unplug), [`HotplugError::Busy`] only where the guest was until `limit`;
    /// [`HotplugError::Kept`] where it has not let go.
    pub fn unplug_within(&self, port: Address, limit: Duration) -> Result<(), HotplugError> {
        let start = Instant::now();
        let bus = self.bus.as_ref().ok_or(HotplugError::NoSlots)?;
        let there = bus.port(port).ok_or(HotplugError::Nobody(port))?;
        there.wait_while_busy(limit);
        self.unplug(port)?;
        there.wait_while_busy(limit.saturating_sub(start.elapsed()));
        match there.plugged() {
            None => Ok(()),
            Some(_) => Err(HotplugError::Kept(port)),
        }
    }

    /// Whether a device is in the slot behind the port at `port`. Where none is any more, it has
    /// stopped, and its files are closed.
    #[must_use]
    pub fn is_plugged(&self, port: Address) -> bool {
        let port = self.bus.as_ref().and_then(|bus| bus.port(port));
        port.is_some_and(|port| port.plugged().is_some())
    }

    /// Asks the guest to give so many bytes of its memory back, in pages of 4 KiB, and says whether it
    /// has what it takes for that.
    pub fn inflate_balloon(&self, bytes: u64) -> bool {
        let Some(balloon) = &self.balloon else {
            return false;
        };
        balloon.set_target(u32::try_from(bytes / PAGE).unwrap_or(u32::MAX));
        true
    }

    /// How many bytes of its memory the guest was asked for, and how many it says that it has given;
    /// `None` without a balloon.
    #[must_use]
    pub fn balloon(&self) -> Option<(u64, u64)> {
        let bytes = |pages| u64::from(pages) * PAGE;
        let balloon = self.balloon.as_ref()?;
        Some((bytes(balloon.target()), bytes(balloon.actual())))
    }

    fn allocator(&self) -> MutexGuard<'_, SystemAllocator> {
        self.allocator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all devices, for good.
    pub(crate) fn retire(&self) {
        for transport in &self.transports {
            transport.retire();
        }
        if let Some(bus) = &self.bus {
            bus.retire();
        }
    }
}

impl std::fmt::Debug for Expansion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expansion").finish_non_exhaustive()
    }
}
