//! Who has which of a machine's addresses, ports, interrupts and PCI slots.
//!
//! A machine's devices are given theirs from here before it starts, and when one is plugged in
//! later; what a device left behind can be given again. Everything has its holder's name, so that
//! two devices at one address are told apart in the error, and the whole can be listed. The
//! pools are those of crosvm's `SystemAllocator`.

mod error;
mod resource;
mod slots;
mod space;

pub use error::AllocateError;
pub use resource::{IrqRange, Pool, PortRange, Resource, Room};

use firstlight_base::{Gpa, GpaRange, Irq, Port};
use firstlight_devices::pci::Address;
use slots::Slots;
use space::{Space, Span};
use std::borrow::Cow;

/// The name of who holds something.
pub type Holder = Cow<'static, str>;

/// Where there is something to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemAllocatorConfig {
    /// I/O ports; `None` on a machine without.
    pub io: Option<PortRange>,
    /// Addresses below 4 GiB for devices on PCI; `None` where there is no bus.
    pub low_mmio: Option<GpaRange>,
    /// Addresses above 4 GiB for devices on PCI; `None` where it has none.
    pub high_mmio: Option<GpaRange>,
    /// Addresses for devices that are on no PCI bus; `None` where they have fixed ones only.
    pub platform_mmio: Option<GpaRange>,
    /// Interrupts.
    pub irqs: IrqRange,
    /// The last bus that PCI devices can be on; the first is 0.
    pub last_bus: u8,
}

/// Which window of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MmioWindow {
    /// Below 4 GiB, for devices on PCI.
    Low,
    /// Above 4 GiB, for devices on PCI.
    High,
    /// For devices that are on no PCI bus.
    Platform,
}

impl SystemAllocatorConfig {
    /// The addresses that a window has.
    #[must_use]
    pub const fn window(&self, window: MmioWindow) -> Option<GpaRange> {
        match window {
            MmioWindow::Low => self.low_mmio,
            MmioWindow::High => self.high_mmio,
            MmioWindow::Platform => self.platform_mmio,
        }
    }
}

/// What a machine has to give to its devices, and who has what of it.
#[derive(Clone, Debug)]
pub struct SystemAllocator {
    config: SystemAllocatorConfig,
    mmio: Space,
    ports: Space,
    irqs: Space,
    slots: Slots,
}

impl SystemAllocator {
    /// A machine of which nothing is given yet.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Taken`] where two of the windows have addresses in common.
    pub fn new(config: SystemAllocatorConfig) -> Result<Self, AllocateError> {
        let mut windows = Space::new(Resource::mmio);
        for window in [MmioWindow::Low, MmioWindow::High, MmioWindow::Platform] {
            if let Some(range) = config.window(window) {
                let holder = Cow::Owned(format!("window of {}", Pool::Mmio(window)));
                windows.reserve(Span::of_mmio(range), holder)?;
            }
        }
        Ok(Self {
            slots: Slots::new(config.last_bus),
            config,
            mmio: Space::new(Resource::mmio),
            ports: Space::new(Resource::ports),
            irqs: Space::new(Resource::irq),
        })
    }

    /// Where there is something to give.
    #[must_use]
    pub const fn config(&self) -> &SystemAllocatorConfig {
        &self.config
    }

    /// Gives the lowest free addresses of a window.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Exhausted`] where there are none, [`AllocateError::Room`] where what is
    /// wanted cannot be.
    pub fn allocate_mmio(
        &mut self,
        window: MmioWindow,
        room: Room,
        holder: impl Into<Holder>,
    ) -> Result<GpaRange, AllocateError> {
        let pool = Pool::Mmio(window);
        let within = self.config.window(window).map(Span::of_mmio);
        let span = self.mmio.allocate(pool, within, room, holder.into())?;
        Ok(span.into_mmio())
    }

    /// Gives these addresses, in a window or outside all of them.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Taken`] where somebody has one of them.
    pub fn reserve_mmio(
        &mut self,
        range: GpaRange,
        holder: impl Into<Holder>,
    ) -> Result<(), AllocateError> {
        self.mmio.reserve(Span::of_mmio(range), holder.into())
    }

    /// Takes addresses back, all that were given at once, and says who had them.
    ///
    /// # Errors
    ///
    /// [`AllocateError::NotGiven`] where nobody has exactly these.
    pub fn free_mmio(&mut self, range: GpaRange) -> Result<Holder, AllocateError> {
        self.mmio.free(Span::of_mmio(range))
    }

    /// Gives the lowest free ports.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Exhausted`] where there are none, [`AllocateError::Room`] where what is
    /// wanted cannot be.
    pub fn allocate_ports(
        &mut self,
        room: Room,
        holder: impl Into<Holder>,
    ) -> Result<PortRange, AllocateError> {
        let within = self.config.io.map(Span::of_ports);
        let span = self
            .ports
            .allocate(Pool::Ports, within, room, holder.into())?;
        Ok(span.into_ports())
    }

    /// Gives these ports, among those to be given or not.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Taken`] where somebody has one of them.
    pub fn reserve_ports(
        &mut self,
        range: PortRange,
        holder: impl Into<Holder>,
    ) -> Result<(), AllocateError> {
        self.ports.reserve(Span::of_ports(range), holder.into())
    }

    /// Takes ports back, all that were given at once, and says who had them.
    ///
    /// # Errors
    ///
    /// [`AllocateError::NotGiven`] where nobody has exactly these.
    pub fn free_ports(&mut self, range: PortRange) -> Result<Holder, AllocateError> {
        self.ports.free(Span::of_ports(range))
    }

    /// Gives the lowest free interrupt.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Exhausted`] where there is none.
    pub fn allocate_irq(&mut self, holder: impl Into<Holder>) -> Result<Irq, AllocateError> {
        let within = Some(Span::of_irqs(self.config.irqs));
        let one = Room { len: 1, align: 1 };
        let span = self.irqs.allocate(Pool::Irqs, within, one, holder.into())?;
        Ok(span.into_irq())
    }

    /// Gives this interrupt, among those to be given or not.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Taken`] where somebody has it.
    pub fn reserve_irq(
        &mut self,
        irq: Irq,
        holder: impl Into<Holder>,
    ) -> Result<(), AllocateError> {
        self.irqs.reserve(Span::of_irq(irq), holder.into())
    }

    /// Takes an interrupt back, and says who had it.
    ///
    /// # Errors
    ///
    /// [`AllocateError::NotGiven`] where nobody has it.
    pub fn free_irq(&mut self, irq: Irq) -> Result<Holder, AllocateError> {
        self.irqs.free(Span::of_irq(irq))
    }

    /// Gives the first function of the lowest device on `bus` that has none in use. Device 0 of
    /// bus 0 is the host bridge's.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Exhausted`] where the bus is full, [`AllocateError::NoBus`] where it
    /// cannot be.
    pub fn allocate_pci(
        &mut self,
        bus: u8,
        holder: impl Into<Holder>,
    ) -> Result<Address, AllocateError> {
        self.slots.allocate(bus, holder.into())
    }

    /// Gives this function.
    ///
    /// # Errors
    ///
    /// [`AllocateError::Taken`] where somebody has it, [`AllocateError::NoBus`] where its bus
    /// cannot be.
    pub fn reserve_pci(
        &mut self,
        address: Address,
        holder: impl Into<Holder>,
    ) -> Result<(), AllocateError> {
        self.slots.reserve(address, holder.into())
    }

    /// Takes a function's address back, and says who had it.
    ///
    /// # Errors
    ///
    /// [`AllocateError::NotGiven`] where nobody has it.
    pub fn free_pci(&mut self, address: Address) -> Result<Holder, AllocateError> {
        self.slots.free(address)
    }

    /// All addresses that were given, ascending, with who has them.
    pub fn mmio(&self) -> impl Iterator<Item = (GpaRange, &str)> {
        self.mmio
            .taken()
            .map(|(span, holder)| (span.into_mmio(), holder))
    }

    /// All ports that were given, ascending, with who has them.
    pub fn ports(&self) -> impl Iterator<Item = (PortRange, &str)> {
        self.ports
            .taken()
            .map(|(span, holder)| (span.into_ports(), holder))
    }

    /// All interrupts that were given, ascending, with who has them.
    pub fn irqs(&self) -> impl Iterator<Item = (Irq, &str)> {
        self.irqs
            .taken()
            .map(|(span, holder)| (span.into_irq(), holder))
    }

    /// All functions on PCI, ascending, with what they are.
    pub fn pci(&self) -> impl Iterator<Item = (Address, &str)> {
        self.slots.taken()
    }

    /// All that was given: addresses, ports, interrupts and functions on PCI, each ascending.
    pub fn holdings(&self) -> impl Iterator<Item = (Resource, &str)> {
        let mmio = self.mmio();
        let ports = self.ports();
        let irqs = self.irqs();
        let pci = self.pci();
        mmio.map(|(range, holder)| (Resource::Mmio(range), holder))
            .chain(ports.map(|(range, holder)| (Resource::Ports(range), holder)))
            .chain(irqs.map(|(irq, holder)| (Resource::Irq(irq), holder)))
            .chain(pci.map(|(address, holder)| (Resource::Pci(address), holder)))
    }
}

/// What a space counts, as what it stands for.
impl Span {
    fn of_mmio(range: GpaRange) -> Self {
        Self {
            start: range.start().get(),
            end: range.end().get(),
        }
    }

    fn into_mmio(self) -> GpaRange {
        GpaRange::between(Gpa::new(self.start), Gpa::new(self.end)).expect("a span is not empty")
    }

    fn of_ports(range: PortRange) -> Self {
        let start = u64::from(range.first().0);
        Self {
            start,
            end: start + u64::from(range.count()),
        }
    }

    fn into_ports(self) -> PortRange {
        let first = u16::try_from(self.start).expect("there are only such ports in the space");
        let count = u32::try_from(self.len()).expect("there are 65536 ports");
        PortRange::new(Port(first), count).expect("a span is not empty")
    }

    fn of_irqs(range: IrqRange) -> Self {
        let start = u64::from(range.first().0);
        Self {
            start,
            end: start + u64::from(range.count()),
        }
    }

    fn of_irq(irq: Irq) -> Self {
        let start = u64::from(irq.0);
        Self {
            start,
            end: start + 1,
        }
    }

    fn into_irq(self) -> Irq {
        Irq(u32::try_from(self.start).expect("there are only such interrupts in the space"))
    }
}

impl Resource {
    fn mmio(span: Span) -> Self {
        Self::Mmio(span.into_mmio())
    }

    fn ports(span: Span) -> Self {
        Self::Ports(span.into_ports())
    }

    fn irq(span: Span) -> Self {
        if span.len() == 1 {
            return Self::Irq(span.into_irq());
        }
        let count = u32::try_from(span.len()).expect("interrupts have 32-bit numbers");
        Self::Irqs(IrqRange::new(span.into_irq(), count).expect("a span is not empty"))
    }
}

#[cfg(test)]
mod tests;
