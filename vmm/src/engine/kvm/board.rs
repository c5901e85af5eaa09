//! The board: the plan's platform as chips on a bus, what the vCPUs' threads report, and the bell
//! that wakes the session.

#[cfg(test)]
mod tests;

use super::clock::Clock;
use super::plic::Plic;
use super::serial::{Ns16550, SerialChip, Trigger, Uart};
use crate::{ConsoleOutput, RunError, Stop};
use firstlight_base::{Gpa, GpaRange, Irq, Port};
use firstlight_boot::platform::{VirtArm64, VirtRiscv64};
use firstlight_boot::{Pc, Platform};
use firstlight_devices::{
    AcpiRegs, Bus, Chip, Cmos, DebugExit, Effect, Finisher, GoldfishRtc, I8042, Interrupting,
    Pl011, Pl031, Pvpanic, UnixTime,
};
use firstlight_hv::{HvError, IrqLine};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything that a vCPU's thread needs to answer its guest.
pub(super) struct Board<L: IrqLine> {
    ports: Bus<Slot<L>>,
    mmio: Bus<Slot<L>>,
    /// The serial ports, console first.
    serial: Vec<Arc<Uart<L>>>,
    /// The clocks that have an alarm.
    clocks: Vec<Arc<Clock<L>>>,
    bell: Arc<Bell>,
    report: Mutex<Option<Result<Stop, RunError>>>,
    stopping: AtomicBool,
}

/// What is attached to a bus.
enum Slot<L: IrqLine> {
    Uart(Arc<Uart<L>>),
    Clock(Arc<Clock<L>>),
    Plic(Arc<Plic>),
    Chip(Mutex<Box<dyn Chip + Send>>),
}

/// Where a chip is attached.
#[derive(Clone, Copy)]
enum Place {
    /// At so many ports from the first.
    Ports(Port, u64),
    /// At so many addresses that are not memory.
    Mmio(Gpa, u64),
}

impl Place {
    const fn of(range: GpaRange) -> Self {
        Self::Mmio(range.start(), range.len())
    }
}

/// What an access is for.
#[derive(Clone, Copy)]
pub(super) enum Access {
    /// A port.
    Port(Port),
    /// An address that is not memory.
    Mmio(Gpa),
}

impl<L: IrqLine> Board<L> {
    /// Attaches what the platform has where the platform has it.
    pub(super) fn wire(
        platform: &Platform,
        irq_line: impl Fn(Irq) -> Result<L, HvError>,
    ) -> Result<Self, RunError> {
        let mut board = Self {
            ports: Bus::new(),
            mmio: Bus::new(),
            serial: Vec::new(),
            clocks: Vec::new(),
            bell: Arc::new(Bell::new()?),
            report: Mutex::new(None),
            stopping: AtomicBool::new(false),
        };
        match platform {
            Platform::Pc(pc) => board.wire_pc(pc, irq_line)?,
            Platform::VirtArm64(_) => board.wire_virt_arm64(irq_line)?,
            Platform::VirtRiscv64(_) => board.wire_virt_riscv64(irq_line)?,
        }
        Ok(board)
    }

    fn wire_pc(
        &mut self,
        pc: &Pc,
        irq_line: impl Fn(Irq) -> Result<L, HvError>,
    ) -> Result<(), RunError> {
        for port in &pc.serial {
            let chip = Ns16550::new(Trigger::Edge);
            let place = Place::Ports(port.base, Ns16550::REGISTERS);
            self.attach_serial(place, chip, irq_line(port.irq)?);
        }
        self.attach_chip(Place::Ports(Pc::CMOS, 2), Cmos::new(now));
        self.attach_chip(Place::Ports(Pc::I8042_COMMAND, 1), I8042);
        self.attach_chip(Place::Ports(Pc::PVPANIC, 1), Pvpanic);
        if let Some(port) = pc.debug_exit {
            self.attach_chip(Place::Ports(port, 1), DebugExit);
        }
        let power = AcpiRegs::new(Pc::ACPI_S5, Pc::ACPI_RESET_VALUE);
        self.attach_chip(Place::Mmio(Pc::ACPI_REGS, 3), power);
        Ok(())
    }

    fn wire_virt_arm64(
        &mut self,
        irq_line: impl Fn(Irq) -> Result<L, HvError>,
    ) -> Result<(), RunError> {
        let line = irq_line(VirtArm64::UART_IRQ)?;
        self.attach_serial(Place::of(VirtArm64::UART), Pl011::new(), line);
        let line = irq_line(VirtArm64::RTC_IRQ)?;
        self.attach_clock(Place::of(VirtArm64::RTC), Pl031::new(now), line)
    }

    fn wire_virt_riscv64(
        &mut self,
        irq_line: impl Fn(Irq) -> Result<L, HvError>,
    ) -> Result<(), RunError> {
        self.attach_chip(Place::of(VirtRiscv64::FINISHER), Finisher);
        let chip = Ns16550::new(Trigger::Level);
        let line = irq_line(VirtRiscv64::UART_IRQ)?;
        self.attach_serial(Place::of(VirtRiscv64::UART), chip, line);
        let line = irq_line(VirtRiscv64::RTC_IRQ)?;
        self.attach_clock(Place::of(VirtRiscv64::RTC), GoldfishRtc::new(now), line)
    }

    /// Attaches the PLIC that the lines of a RISC-V machine go into.
    pub(super) fn attach_plic(&mut self, plic: Arc<Plic>) {
        self.attach(Place::of(VirtRiscv64::PLIC), Slot::Plic(plic));
    }

    fn attach_chip(&mut self, place: Place, chip: impl Chip + Send + 'static) {
        self.attach(place, Slot::Chip(Mutex::new(Box::new(chip))));
    }

    fn attach_serial(&mut self, place: Place, chip: impl SerialChip + 'static, line: L) {
        let uart = Arc::new(Uart::new(chip, line, &self.bell));
        self.serial.push(Arc::clone(&uart));
        self.attach(place, Slot::Uart(uart));
    }

    fn attach_clock(
        &mut self,
        place: Place,
        chip: impl Interrupting + Send + 'static,
        line: L,
    ) -> Result<(), RunError> {
        let clock = Arc::new(Clock::new(chip, line)?);
        self.clocks.push(Arc::clone(&clock));
        self.attach(place, Slot::Clock(clock));
        Ok(())
    }

    fn attach(&mut self, place: Place, slot: Slot<L>) {
        let attached = match place {
            Place::Ports(first, count) => self.ports.attach(u64::from(first.0), count, slot),
            Place::Mmio(first, count) => self.mmio.attach(first.get(), count, slot),
        };
        attached.expect("no two chips of a platform share an address");
    }

    /// Joins the console port to the console. The others have nobody at their other end.
    pub(super) fn connect(&self, output: &ConsoleOutput) {
        if let Some(console) = self.console() {
            console.connect(output);
        }
    }

    /// Puts the guest's bytes on the console past its serial port.
    pub(super) fn print(&self, bytes: &[u8]) {
        if let Some(console) = self.console() {
            console.print(bytes);
        }
    }

    pub(super) fn console(&self) -> Option<&Uart<L>> {
        self.serial.first().map(|uart| &**uart)
    }

    /// Answers a guest's read.
    pub(super) fn read(&self, at: Access, data: &mut [u8]) {
        let (bus, at) = self.bus(at);
        bus.read(at, data, |slot, offset, data| match slot {
            Slot::Uart(uart) => uart.read(offset, data),
            Slot::Clock(clock) => clock.read(offset, data),
            Slot::Plic(plic) => plic.read(offset, data),
            Slot::Chip(chip) => chip
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .read(offset, data),
        });
    }

    /// Carries a guest's write out; says so where it stops the machine.
    pub(super) fn write(&self, at: Access, data: &[u8]) -> Option<Stop> {
        let (bus, at) = self.bus(at);
        let effect = bus.write(at, data, |slot, offset, data| match slot {
            Slot::Uart(uart) => {
                uart.write(offset, data);
                None
            }
            Slot::Clock(clock) => {
                clock.write(offset, data);
                None
            }
            Slot::Plic(plic) => {
                plic.write(offset, data);
                None
            }
            Slot::Chip(chip) => chip
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(offset, data),
        });
        match effect? {
            Effect::PowerOff => Some(Stop::PowerOff),
            Effect::Reset => Some(Stop::Reset),
            Effect::Panicked => Some(Stop::Panicked),
            // The crash kernel runs now; how that ends is the ending.
            Effect::CrashLoaded => None,
            Effect::Exit(code) => Some(Stop::ExitCode(code)),
        }
    }

    fn bus(&self, at: Access) -> (&Bus<Slot<L>>, u64) {
        match at {
            Access::Port(port) => (&self.ports, u64::from(port.0)),
            Access::Mmio(at) => (&self.mmio, at.get()),
        }
    }

    /// The clocks that have an alarm, which the session waits for.
    pub(super) fn clocks(&self) -> &[Arc<Clock<L>>] {
        &self.clocks
    }

    /// What wakes the session.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Tells the session how the machine stopped. The first to say so is right; the others'
    /// vCPUs stop because of it.
    pub(super) fn report(&self, report: Result<Stop, RunError>) {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(report);
        self.stop();
        self.bell.ring();
    }

    /// What has been reported, once.
    pub(super) fn take_report(&self) -> Option<Result<Stop, RunError>> {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Lets no vCPU run again.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// The time for the clock chip. A host before 1970 has none.
fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.unwrap_or_default())
}

/// Wakes the session: an event that threads raise and the session waits for.
pub(super) struct Bell(OwnedFd);

impl Bell {
    fn new() -> Result<Self, RunError> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Self)
            .map_err(RunError::host("create an event"))
    }

    pub(super) fn ring(&self) {
        // Fails only where the counter is full, and then the bell rings.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Silences it.
    pub(super) fn answer(&self) {
        let mut count = [0; 8];
        // Nothing to read where it has been answered before.
        let _ = rustix::io::read(&self.0, &mut count);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
