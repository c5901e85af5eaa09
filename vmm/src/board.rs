//! The board of a machine: chips and other devices on a bus.

mod clock;
mod fw_cfg;
pub(crate) mod gic;
pub(crate) mod interval_timer;
mod level_line;
pub(crate) mod pc_apics;
pub(crate) mod pc_irqchip;
pub(crate) mod plic;
pub(crate) mod serial;
#[cfg(test)]
mod tests;
mod timer;

pub(crate) use level_line::LevelLine;
pub(crate) use timer::{Timed, Timer};

use crate::reports::Reports;
use crate::{Battery, ConsoleOutput, RunError, Stop};
use clock::Clock;
use firstlight_base::{Gpa, GpaRange, Irq, Port, VcpuId};
use firstlight_devices::{Bus, Chip, Effect, Interrupting, UnixTime};
use firstlight_hv::{HvError, IrqLine, Kicker, Vcpu};
use serial::{SerialChip, Uart};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything that a vCPU's thread needs to answer its guest.
pub(crate) struct Board {
    ports: Bus<Arc<dyn Attached>>,
    mmio: Bus<Arc<dyn Attached>>,
    /// The serial ports, console first.
    serial: Vec<Arc<Uart>>,
    /// What has to do something at a time: clocks that have an alarm, a watchdog.
    timed: Vec<Arc<dyn Timed>>,
    battery: Option<Arc<Battery>>,
    /// What of a PC's interrupt controllers is not the hypervisor's, where anything is.
    controllers: Option<Arc<dyn InterruptControllers>>,
    reports: Arc<Reports>,
}

/// What answers at addresses of a board, from any vCPU's thread. The bus never lets an access reach
/// beyond the addresses that it was attached to.
pub(crate) trait Attached: Send + Sync {
    /// Fills `data`, which is all ones, with what the registers from `offset` read as.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Writes the registers from `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect>;
}

/// Interrupt controllers on the board, as the threads of vCPUs see them.
pub(crate) trait InterruptControllers: Send + Sync {
    /// What makes the vCPU look for what there is for it, of what makes it return from its run.
    fn kicker(self: Arc<Self>, id: VcpuId, kicker: Kicker) -> Kicker;

    /// Gives a vCPU that is about to run the interrupt that is for it, or has it stop when it takes one. Where it is not
    /// to run, waits until somebody kicks it, and says so.
    fn deliver(&self, id: VcpuId, vcpu: &mut dyn Vcpu) -> Result<bool, HvError>;

    /// A local APIC of the hypervisor's has ended an interrupt of a level.
    fn end_of_interrupt(&self, _vector: u8) {}

    /// The vCPU waits for an interrupt; says whether any could come.
    fn halt(&self, _id: VcpuId) -> bool {
        false
    }

    /// Fills `data` with what a register of the vCPU's own reads as, where one is there.
    fn read_local(&self, _id: VcpuId, _at: Gpa, _data: &mut [u8]) -> bool {
        false
    }

    /// Writes such a register, where one is there.
    fn write_local(&self, _id: VcpuId, _at: Gpa, _data: &[u8]) -> bool {
        false
    }
}

/// A chip that needs nothing round it.
impl<C: Chip + Send> Attached for Mutex<C> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(offset, data)
    }
}

/// Where something is attached.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// At so many ports from the first.
    Ports(Port, u64),
    /// At so many addresses that are not memory.
    Mmio(Gpa, u64),
}

impl Place {
    pub(crate) const fn of(range: GpaRange) -> Self {
        Self::Mmio(range.start(), range.len())
    }
}

/// What an access is for.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// A port.
    Port(Port),
    /// An address that is not memory.
    Mmio(Gpa),
}

/// Where a machine's interrupt lines are had from.
pub(crate) type Lines<'a> = &'a dyn Fn(Irq) -> Result<Box<dyn IrqLine>, HvError>;

impl Board {
    /// A board with nothing on it.
    pub(crate) fn new(reports: &Arc<Reports>) -> Self {
        Self {
            ports: Bus::new(),
            mmio: Bus::new(),
            serial: Vec::new(),
            timed: Vec::new(),
            battery: None,
            controllers: None,
            reports: Arc::clone(reports),
        }
    }

    pub(crate) fn attach_chip(&mut self, place: Place, chip: impl Chip + Send + 'static) {
        self.attach(place, Arc::new(Mutex::new(chip)));
    }

    pub(crate) fn attach_serial(
        &mut self,
        place: Place,
        chip: impl SerialChip + 'static,
        line: Box<dyn IrqLine>,
    ) {
        let uart = Arc::new(Uart::new(chip, line, self.reports.bell()));
        self.serial.push(Arc::clone(&uart));
        self.attach(place, uart);
    }

    pub(crate) fn attach_clock(
        &mut self,
        place: Place,
        chip: impl Interrupting + Send + 'static,
        line: Box<dyn IrqLine>,
    ) -> Result<(), RunError> {
        let clock = Arc::new(Clock::new(chip, line)?);
        self.add_timed(Arc::<Clock>::clone(&clock));
        self.attach(place, clock);
        Ok(())
    }

    pub(crate) fn attach_battery(&mut self, place: Place, battery: Battery) {
        let battery = Arc::new(battery);
        self.battery = Some(Arc::clone(&battery));
        self.attach(place, battery);
    }

    pub(crate) fn set_controllers(&mut self, controllers: Arc<dyn InterruptControllers>) {
        self.controllers = Some(controllers);
    }

    /// What of a PC's interrupt controllers is on it.
    pub(crate) fn controllers(&self) -> Option<&Arc<dyn InterruptControllers>> {
        self.controllers.as_ref()
    }

    /// The battery, where it has one.
    pub(crate) fn battery(&self) -> Option<&Arc<Battery>> {
        self.battery.as_ref()
    }

    /// Has the session wait for a device's time, too.
    pub(crate) fn add_timed(&mut self, device: Arc<dyn Timed>) {
        self.timed.push(device);
    }

    /// Attaches anything else.
    pub(crate) fn attach(&mut self, place: Place, device: Arc<dyn Attached>) {
        let attached = match place {
            Place::Ports(first, count) => self.ports.attach(u64::from(first.0), count, device),
            Place::Mmio(first, count) => self.mmio.attach(first.get(), count, device),
        };
        attached.expect("no two devices of a platform share an address");
    }

    /// Joins the console port to the console. The others have nobody at their other end.
    pub(crate) fn connect(&self, output: &ConsoleOutput) {
        if let Some(console) = self.console() {
            console.connect(output);
        }
    }

    /// Puts the guest's bytes on the console past its serial port.
    pub(crate) fn print(&self, bytes: &[u8]) {
        if let Some(console) = self.console() {
            console.print(bytes);
        }
    }

    pub(crate) fn console(&self) -> Option<&Uart> {
        self.serial.first().map(|uart| &**uart)
    }

    /// Answers a guest's read.
    pub(crate) fn read(&self, at: Access, data: &mut [u8]) {
        let (bus, at) = self.bus(at);
        bus.read(at, data, |device, offset, data| device.read(offset, data));
    }

    /// Carries a guest's write out; says so where it stops the machine.
    pub(crate) fn write(&self, at: Access, data: &[u8]) -> Option<Stop> {
        let (bus, at) = self.bus(at);
        let effect = bus.write(at, data, |device, offset, data| device.write(offset, data));
        match effect? {
            Effect::PowerOff => Some(Stop::PowerOff),
            Effect::Reset => Some(Stop::Reset),
            Effect::Panicked => Some(Stop::Panicked),
            // The crash kernel runs now; how that ends is the ending.
            Effect::CrashLoaded => None,
            Effect::Exit(code) => Some(Stop::ExitCode(code)),
        }
    }

    /// As [`read`](Self::read), of an address that means something else to each vCPU, perhaps.
    pub(crate) fn read_for(&self, vcpu: VcpuId, at: Gpa, data: &mut [u8]) {
        let own = self.controllers.as_ref();
        if !own.is_some_and(|own| own.read_local(vcpu, at, data)) {
            self.read(Access::Mmio(at), data);
        }
    }

    /// As [`write`](Self::write) likewise.
    pub(crate) fn write_for(&self, vcpu: VcpuId, at: Gpa, data: &[u8]) -> Option<Stop> {
        let own = self.controllers.as_ref();
        match own.is_some_and(|own| own.write_local(vcpu, at, data)) {
            true => None,
            false => self.write(Access::Mmio(at), data),
        }
    }

    fn bus(&self, at: Access) -> (&Bus<Arc<dyn Attached>>, u64) {
        match at {
            Access::Port(port) => (&self.ports, u64::from(port.0)),
            Access::Mmio(at) => (&self.mmio, at.get()),
        }
    }

    /// What has to do something at a time, which the session waits for.
    pub(crate) fn timed(&self) -> &[Arc<dyn Timed>] {
        &self.timed
    }

    /// Where its threads leave word for the session.
    pub(crate) fn reports(&self) -> &Reports {
        &self.reports
    }
}

/// The time for the clock chip. A host before 1970 has none.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.unwrap_or_default())
}
