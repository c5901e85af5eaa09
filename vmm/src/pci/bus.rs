//! Which function answers in configuration space and in memory.

use super::{Intx, PciDevice, RootPort};
use crate::RunError;
use crate::board::{Attached, Lines};
use firstlight_base::{Gpa, GpaRange, Irq};
use firstlight_boot::platform::PciWindows;
use firstlight_devices::pci::{Address, Cam, ConfigAddress, HostBridge};
use firstlight_devices::{ByteWide, Effect, ResetControl};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The root bus, and what is behind its ports.
pub(crate) struct PciBus {
    windows: PciWindows,
    /// Where interrupt pins end.
    lines: Vec<Arc<Intx>>,
    bridge: Mutex<HostBridge>,
    /// Where the guest has had the host bridge show configuration space, beside where it always is;
    /// 0 for nowhere.
    moved_ecam: AtomicU64,
    slots: RwLock<Slots>,
    /// Where BARs are, as the guest last placed them.
    places: RwLock<Vec<BarPlace>>,
}

/// What is in the root bus's slots.
#[derive(Default)]
struct Slots {
    /// By device number.
    devices: [Option<Arc<dyn PciDevice>>; SLOTS],
    /// Those of them that are ports.
    ports: Vec<Arc<RootPort>>,
}

/// So many devices a bus has room for.
const SLOTS: usize = 32;

struct BarPlace {
    range: GpaRange,
    bar: usize,
    device: Arc<dyn PciDevice>,
}

impl PciBus {
    /// A bus with nothing on it but its host bridge.
    pub(crate) fn new(
        windows: PciWindows,
        bridge: HostBridge,
        lines: Lines<'_>,
    ) -> Result<Arc<Self>, RunError> {
        let intx = (0..PciWindows::LINES).map(|pin| lines(windows.line(0, pin)).map(Intx::new));
        Ok(Arc::new(Self {
            windows,
            lines: intx.collect::<Result<_, _>>()?,
            bridge: Mutex::new(bridge),
            moved_ecam: AtomicU64::new(0),
            slots: RwLock::default(),
            places: RwLock::default(),
        }))
    }

    /// The line at which pin INTA of the device in a slot of the root bus ends.
    pub(crate) fn line(&self, device: u8) -> &Arc<Intx> {
        let line = usize::from(device) % self.lines.len();
        &self.lines[line]
    }

    /// The number of that line.
    pub(crate) fn irq(&self, device: u8) -> Irq {
        self.windows.line(0, u32::from(device) % PciWindows::LINES)
    }

    /// Where BARs can be.
    pub(crate) fn bar_windows(&self) -> Vec<GpaRange> {
        let windows = [Some(self.windows.memory32), self.windows.memory64];
        windows.into_iter().flatten().collect()
    }

    /// Puts a device into a free slot.
    pub(crate) fn insert(&self, device: u8, function: Arc<dyn PciDevice>) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.devices.get_mut(usize::from(device));
        let slot = slot.expect("slots are given away by who knows how many there are");
        assert!(slot.is_none(), "a slot is given away once");
        *slot = Some(function);
    }

    /// Puts a port into the free slot that it is for.
    pub(crate) fn insert_port(&self, port: &Arc<RootPort>) {
        let function: Arc<dyn PciDevice> = Arc::<RootPort>::clone(port);
        self.insert(port.address().device(), function);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.ports.push(Arc::clone(port));
    }

    /// The ports that devices can be plugged into.
    pub(crate) fn ports(&self) -> Vec<Arc<RootPort>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.ports.clone()
    }

    /// The port at an address on the root bus, where one is.
    pub(crate) fn port(&self, at: Address) -> Option<Arc<RootPort>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut ports = slots.ports.iter();
        ports.find(|port| port.address() == at).cloned()
    }

    /// Looks anew where BARs are: something has been plugged in or pulled out.
    pub(crate) fn survey(&self) {
        // Whoever looks last finds what is there last.
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let functions = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            let plugged = slots.ports.iter().filter_map(|port| port.plugged());
            let in_slots = slots.devices.iter().flatten().cloned();
            in_slots.chain(plugged).collect::<Vec<_>>()
        };
        places.clear();
        for device in functions {
            places.extend(device.bars().into_iter().map(|(bar, range)| BarPlace {
                range,
                bar,
                device: Arc::clone(&device),
            }));
        }
    }

    /// Stops everything on the bus.
    pub(crate) fn retire(&self) {
        let devices = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            slots.devices.iter().flatten().cloned().collect::<Vec<_>>()
        };
        for device in devices {
            device.retire();
        }
    }

    /// The function at an address, where there is one.
    fn function(&self, at: Address) -> Option<Arc<dyn PciDevice>> {
        if at.function() != 0 {
            return None;
        }
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if at.bus() == 0 {
            return slots.devices.get(usize::from(at.device()))?.clone();
        }
        // A port leads to one device, number 0 (PCI Express Base 5.0, section 7.3.1).
        let port = slots.ports.iter().find(|port| port.leads_to(at.bus()))?;
        (at.device() == 0).then(|| port.plugged()).flatten()
    }

    pub(crate) fn read_config(&self, at: ConfigAddress, data: &mut [u8]) {
        if is_bridge(at.function) {
            let bridge = self.bridge.lock().unwrap_or_else(PoisonError::into_inner);
            bridge.config_read(at.register, data);
        } else if let Some(function) = self.function(at.function) {
            function.read_config(at.register, data);
        }
    }

    pub(crate) fn write_config(&self, at: ConfigAddress, data: &[u8]) {
        if is_bridge(at.function) {
            let mut bridge = self.bridge.lock().unwrap_or_else(PoisonError::into_inner);
            bridge.config_write(at.register, data);
            let ecam = bridge.ecam().map_or(0, Gpa::get);
            self.moved_ecam.store(ecam, Ordering::Relaxed);
        } else if let Some(function) = self.function(at.function)
            && function.write_config(at.function, at.register, data)
        {
            self.survey();
        }
    }

    /// The BAR that holds all of an access, and the offset in it.
    fn bar(&self, at: Gpa, len: usize) -> Option<(Arc<dyn PciDevice>, usize, u64)> {
        let access = GpaRange::new(at, len as u64)?;
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let place = places.iter().find(|place| place.range.contains(access))?;
        let offset = at.get() - place.range.start().get();
        Some((Arc::clone(&place.device), place.bar, offset))
    }

    /// The register that is at an address among those of BARs, where the guest has had it shown there.
    fn moved_register(&self, at: Gpa) -> Option<ConfigAddress> {
        let start = self.moved_ecam.load(Ordering::Relaxed);
        let offset = at.get().checked_sub(start).filter(|_| start != 0)?;
        ConfigAddress::in_ecam(offset)
    }

    /// The addresses that the bus answers at in memory.
    pub(crate) fn windows(self: &Arc<Self>) -> impl Iterator<Item = (GpaRange, Arc<dyn Attached>)> {
        let ecam: Arc<dyn Attached> = Arc::new(Ecam(Arc::clone(self)));
        let ranges = [Some(self.windows.memory32), self.windows.memory64];
        let bus = Arc::clone(self);
        let bars = ranges.into_iter().flatten().map(move |range| {
            let window: Arc<dyn Attached> = Arc::new(Window {
                bus: Arc::clone(&bus),
                start: range.start(),
            });
            (range, window)
        });
        [(self.windows.ecam, ecam)].into_iter().chain(bars)
    }
}

fn is_bridge(at: Address) -> bool {
    at.bus() == 0 && at.device() == 0 && at.function() == 0
}

/// Configuration space in memory (PCI Express Base 5.0, section 7.2.2).
struct Ecam(Arc<PciBus>);

impl Attached for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(at) = ConfigAddress::in_ecam(offset) {
            self.0.read_config(at, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        if let Some(at) = ConfigAddress::in_ecam(offset) {
            self.0.write_config(at, data);
        }
        None
    }
}

/// Addresses at which BARs may be.
pub(crate) struct Window {
    bus: Arc<PciBus>,
    start: Gpa,
}

impl Attached for Window {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let Some(at) = self.start.checked_add(offset) else {
            return;
        };
        if let Some(at) = self.bus.moved_register(at) {
            self.bus.read_config(at, data);
        } else if let Some((device, bar, offset)) = self.bus.bar(at, data.len()) {
            device.read_bar(bar, offset, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let at = self.start.checked_add(offset)?;
        if let Some(at) = self.bus.moved_register(at) {
            self.bus.write_config(at, data);
        } else if let Some((device, bar, offset)) = self.bus.bar(at, data.len()) {
            device.write_bar(bar, offset, data);
        }
        None
    }
}

/// Configuration space by ports, for guests that know no other way.
pub(crate) struct Legacy {
    bus: Arc<PciBus>,
    ports: Mutex<Cam>,
    reset: Mutex<ResetControl>,
}

/// The reset control register is a byte among them, which is no access to the others.
const RESET_CONTROL: u64 = 1;

impl Legacy {
    pub(crate) fn new(bus: &Arc<PciBus>) -> Self {
        Self {
            bus: Arc::clone(bus),
            ports: Mutex::new(Cam::new()),
            reset: Mutex::default(),
        }
    }
}

impl Attached for Legacy {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (RESET_CONTROL, [byte]) = (offset, &mut *data) {
            let mut reset = self.reset.lock().unwrap_or_else(PoisonError::into_inner);
            *byte = reset.read_byte(0);
            return;
        }
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.read(offset, data, |at, data| self.bus.read_config(at, data));
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        if let (RESET_CONTROL, &[byte]) = (offset, data) {
            let mut reset = self.reset.lock().unwrap_or_else(PoisonError::into_inner);
            return reset.write_byte(0, byte);
        }
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.write(offset, data, |at, data| {
            self.bus.write_config(at, data);
            None
        })
    }
}
