//! The devices that a machine has beside those of every such machine, and those that are plugged in
//! while it runs.

use crate::RunError;
use crate::board::{Board, Lines, Place};
use crate::pci::{PciBus, Pin, RootPort, SLOTS, VirtioFunction};
use crate::virtio::VirtioDevice;
use crate::virtio::mmio::{Transport, Wiring};
use firstlight_base::Port;
use firstlight_boot::platform::{PciWindows, VirtioMmio};
use firstlight_devices::pci::{Address, Attachment};
use firstlight_hv::Interconnect;
use firstlight_load::GuestMemory;
use std::sync::{Arc, Mutex, PoisonError};

/// A machine's further devices: what is in its slots, and what can be plugged in.
pub struct Expansion {
    memory: Arc<GuestMemory>,
    interconnect: Arc<dyn Interconnect>,
    transports: Vec<Arc<Transport>>,
    bus: Option<Arc<PciBus>>,
    /// One plugs or pulls at a time.
    plugging: Mutex<()>,
}

/// What a machine's slots are wired to.
pub(super) struct Backplane<'a> {
    pub(super) board: &'a mut Board,
    pub(super) lines: Lines<'a>,
    pub(super) memory: &'a Arc<GuestMemory>,
    pub(super) interconnect: Arc<dyn Interconnect>,
}

/// The rows of slots of a platform.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) virtio: Option<VirtioMmio>,
    pub(super) pci: Option<PciWindows>,
    /// The ports of PCI's configuration mechanism 1, on machines with ports.
    pub(super) legacy: Option<Port>,
    pub(super) hotplug_slots: u8,
}

/// A device that no slot is left for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    /// More devices than slots.
    #[error("{wanted} devices were asked for, and this machine has room for {room} ({what})")]
    Room {
        /// How many were asked for.
        wanted: usize,
        /// How many there can be.
        room: usize,
        /// What they were to go into.
        what: &'static str,
    },
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
    /// The host failed.
    #[error(transparent)]
    Host(#[from] RunError),
}

impl Rows {
    /// Where `count` devices go, as numbers of slots: of the row of transports where there is one, else
    /// of the root bus. There the bridge has the first slot, and what is plugged in the last.
    pub(super) fn seats(&self, count: usize) -> Result<std::ops::Range<u8>, SeatError> {
        let (first, room, what) = match (self.virtio, self.pci) {
            (Some(row), _) => {
                let room = usize::try_from(row.count).unwrap_or(usize::MAX);
                (0, room, "virtio transports")
            }
            (None, Some(_)) => {
                let room = SLOTS - 1 - usize::from(self.hotplug_slots).min(SLOTS - 1);
                (1, room, "slots of the PCI bus")
            }
            (None, None) => (0, 0, "it was planned without any"),
        };
        let wanted = count;
        let room_error = SeatError::Room { wanted, room, what };
        let count = u8::try_from(count).ok().filter(|_| wanted <= room);
        let count = count.ok_or(room_error)?;
        Ok(first..first + count)
    }

    /// The slots of the root bus that ports are in.
    fn ports(&self) -> std::ops::Range<u8> {
        let slots = u8::try_from(SLOTS).expect("a bus has 32 slots");
        slots - self.hotplug_slots.min(slots - 1)..slots
    }
}

impl Expansion {
    /// Puts `devices` into the machine's slots and attaches these to the board.
    pub(super) fn build(
        rows: &Rows,
        devices: Vec<VirtioDevice>,
        mut backplane: Backplane<'_>,
    ) -> Result<Self, RunError> {
        let seats = rows.seats(devices.len())?;
        let mut expansion = Self {
            memory: Arc::clone(backplane.memory),
            interconnect: Arc::clone(&backplane.interconnect),
            transports: Vec::new(),
            bus: None,
            plugging: Mutex::default(),
        };
        let mut seated = seats.zip(devices);
        if let Some(row) = rows.virtio {
            expansion.attach_transports(&row, &mut seated, &mut backplane)?;
        }
        if let Some(windows) = rows.pci {
            expansion.attach_bus(rows, windows, &mut seated, &mut backplane)?;
        }
        Ok(expansion)
    }

    fn attach_transports(
        &mut self,
        row: &VirtioMmio,
        devices: impl Iterator<Item = (u8, VirtioDevice)>,
        backplane: &mut Backplane<'_>,
    ) -> Result<(), RunError> {
        for (number, device) in devices {
            let transport = row.transport(number.into());
            let (registers, irq) = transport.expect("seats are of the row");
            let wiring = Wiring {
                registers: registers.start(),
                line: (backplane.lines)(irq)?,
                interconnect: Arc::clone(&self.interconnect),
                memory: &self.memory,
            };
            let transport = Transport::new(device, wiring)?;
            self.transports.push(Arc::clone(&transport));
            backplane.board.attach(Place::of(registers), transport);
        }
        Ok(())
    }

    fn attach_bus(
        &mut self,
        rows: &Rows,
        windows: PciWindows,
        devices: impl Iterator<Item = (u8, VirtioDevice)>,
        backplane: &mut Backplane<'_>,
    ) -> Result<(), RunError> {
        let bus = PciBus::new(windows, backplane.lines)?;
        for (slot, device) in devices {
            let pin = Pin::new(bus.line(slot));
            bus.insert(slot, self.function(device, (Attachment::RootComplex, pin))?);
        }
        for slot in rows.ports() {
            let pin = Pin::new(bus.line(slot));
            bus.insert_port(slot, &RootPort::new(slot, pin, &self.interconnect));
        }
        for (range, window) in bus.windows() {
            backplane.board.attach(Place::of(range), window);
        }
        if let Some(ports) = rows.legacy {
            let legacy = Arc::new(crate::pci::Legacy::new(&bus));
            backplane.board.attach(Place::Ports(ports, 8), legacy);
        }
        self.bus = Some(bus);
        Ok(())
    }

    fn function(
        &self,
        device: VirtioDevice,
        place: (Attachment, Pin),
    ) -> Result<Arc<VirtioFunction>, RunError> {
        VirtioFunction::new(device, place, &self.interconnect, &self.memory)
    }

    /// Plugs a device into a free slot.
    pub(crate) fn plug(&self, device: VirtioDevice) -> Result<Address, HotplugError> {
        let _one = self.plugging.lock().unwrap_or_else(PoisonError::into_inner);
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
        Ok(port.slot_address())
    }

    /// Pulls the device out of the slot behind the port at `port`.
    ///
    /// # Errors
    ///
    /// [`HotplugError::Nobody`] where nothing was plugged in there.
    pub fn unplug(&self, port: Address) -> Result<(), HotplugError> {
        let _one = self.plugging.lock().unwrap_or_else(PoisonError::into_inner);
        let bus = self.bus.as_ref().ok_or(HotplugError::NoSlots)?;
        let ports = bus.ports();
        let port_there = ports.iter().find(|other| other.slot_address() == port);
        let pulled = port_there.and_then(|port| port.unplug());
        bus.survey();
        pulled.map(|_device| ()).ok_or(HotplugError::Nobody(port))
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
