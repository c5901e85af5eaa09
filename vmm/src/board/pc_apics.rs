//! All of a PC's interrupt controllers, the local APICs among them: the hypervisor has none.

#[cfg(test)]
mod tests;

use super::timer::{Timed, Timer};
use super::{Attached, Board, InterruptControllers, Place};
use crate::RunError;
use firstlight_base::x86::Registers;
use firstlight_base::{Gpa, Irq, VcpuId, VcpuState};
use firstlight_boot::Pc;
use firstlight_devices::{
    ApicClock, ApicTime, Apics, ApicsRegisters, ApicsWindow, Chip, Effect, IoApic, LocalApic,
    PicWindow,
};
use firstlight_hv::{
    Doorbell, Hung, HvError, Interconnect, IrqLine, Kicker, LevelEvents, Message, Vcpu,
};
use firstlight_load::GuestMemory;
use rustix::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The interrupt controllers, between lines and vCPUs.
pub(crate) struct PcApics {
    works: Mutex<Works>,
    /// By the vCPUs' numbers.
    seats: Vec<Seat>,
    /// What the local APICs' timers count from.
    start: Instant,
    /// Runs out when the first of them does.
    timer: Timer,
}

struct Works {
    apics: Apics,
    /// When the timer runs out, if it does.
    alarm: Option<Duration>,
}

/// Where a vCPU's thread waits, and is called from.
struct Seat {
    kicker: OnceLock<Kicker>,
    is_called: Mutex<bool>,
    called: Condvar,
    vcpu: Mutex<Processor>,
}

/// What a vCPU's thread knows of it.
struct Processor {
    activity: Activity,
    /// Its task priority as it was when it ran last.
    class: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    Runs,
    Halted,
    /// Until another one starts it.
    AwaitsStart,
}

impl PcApics {
    /// Those of so many vCPUs.
    pub(crate) fn new(vcpus: u32) -> Result<Self, RunError> {
        let clock = ApicClock {
            bus_hz: ApicClock::KVM_BUS_HZ,
            // No vCPU is told that its timer could wait for that.
            tsc_hz: ApicClock::KVM_BUS_HZ,
        };
        let apics = Apics::new(vcpus, clock);
        let activity = |id| match VcpuId(id) {
            VcpuId::BOOT => Activity::Runs,
            _ => Activity::AwaitsStart,
        };
        Ok(Self {
            works: Mutex::new(Works {
                apics: apics.expect("a machine has far fewer vCPUs"),
                alarm: None,
            }),
            seats: (0..vcpus).map(activity).map(Seat::new).collect(),
            start: Instant::now(),
            timer: Timer::new()?,
        })
    }

    /// Attaches the registers that every vCPU sees alike.
    pub(crate) fn attach(self: &Arc<Self>, board: &mut Board) {
        let pics = PicWindow::PORTS.map(|(window, port)| (ApicsWindow::Pic(window), port));
        for (window, port) in pics {
            board.attach(Place::Ports(port, 2), Arc::new(self.window(window)));
        }
        let page = Arc::new(self.window(ApicsWindow::IoApic));
        board.attach(Place::Mmio(Pc::IOAPIC, IoApic::EXTENT), page);
        board.add_timed(Arc::<Self>::clone(self));
        board.set_controllers(Arc::<Self>::clone(self));
    }

    fn window(self: &Arc<Self>, window: ApicsWindow) -> Window {
        Window {
            apics: Arc::clone(self),
            window,
        }
    }

    /// The line `irq`.
    pub(crate) fn line(self: &Arc<Self>, irq: Irq) -> Result<Box<dyn IrqLine>, HvError> {
        match irq.0 {
            ..IoApic::PINS => Ok(Box::new(Line {
                apics: Arc::clone(self),
                irq,
            })),
            _ => Err(HvError::NoSuchLine(irq)),
        }
    }

    /// What takes devices' messages here, and all else to `hypervisor`.
    pub(crate) fn interconnect(
        self: &Arc<Self>,
        hypervisor: Arc<dyn Interconnect>,
    ) -> Arc<dyn Interconnect> {
        Arc::new(Messages {
            apics: Arc::clone(self),
            hypervisor,
        })
    }

    /// Lets `work` be done to the works, and calls whom it concerns; not `own`, who looks by itself.
    fn work<T>(&self, own: Option<VcpuId>, work: impl FnOnce(&mut Apics) -> T) -> T {
        let mut works = self.works();
        if let Some(id) = own {
            works.apics.set_time(id, self.time());
        }
        let done = work(&mut works.apics);
        self.settle(&mut works, own);
        done
    }

    fn settle(&self, works: &mut Works, own: Option<VcpuId>) {
        while let Some(id) = works.apics.next_kick() {
            if let Some(seat) = self.seat(id).filter(|_| Some(id) != own) {
                seat.call();
            }
        }
        let deadlines = self.vcpus().filter_map(|id| works.apics.deadline(id));
        let first = deadlines.min();
        if first != works.alarm {
            works.alarm = first;
            let now = self.time().now;
            self.timer.set(first.map(|first| first.saturating_sub(now)));
        }
    }

    fn vcpus(&self) -> impl Iterator<Item = VcpuId> {
        (0..).map(VcpuId).take(self.seats.len())
    }

    fn seat(&self, id: VcpuId) -> Option<&Seat> {
        self.seats.get(usize::try_from(id.0).ok()?)
    }

    fn time(&self) -> ApicTime {
        ApicTime {
            now: self.start.elapsed(),
            tsc: 0,
        }
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far into a local APIC's page an access is.
    fn offset(at: Gpa) -> Option<u64> {
        let offset = at.get().checked_sub(Pc::LAPIC.get())?;
        (offset < LocalApic::EXTENT).then_some(offset)
    }
}

impl InterruptControllers for PcApics {
    fn kicker(self: Arc<Self>, id: VcpuId, kicker: Kicker) -> Kicker {
        if let Some(seat) = self.seat(id) {
            // A machine is started once.
            let _ = seat.kicker.set(kicker);
        }
        Kicker::new(move || {
            if let Some(seat) = self.seat(id) {
                seat.call();
            }
        })
    }

    fn deliver(&self, id: VcpuId, vcpu: &mut dyn Vcpu) -> Result<bool, HvError> {
        let Some(seat) = self.seat(id) else {
            return Ok(true);
        };
        let mut processor = seat.vcpu.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = self.work(Some(id), |works| processor.attend((works, id), vcpu))?;
        drop(processor);
        if !runs {
            seat.wait();
        }
        Ok(runs)
    }

    fn halt(&self, id: VcpuId) -> bool {
        if let Some(seat) = self.seat(id) {
            let mut processor = seat.vcpu.lock().unwrap_or_else(PoisonError::into_inner);
            processor.activity = Activity::Halted;
        }
        true
    }

    fn read_local(&self, id: VcpuId, at: Gpa, data: &mut [u8]) -> bool {
        let Some(offset) = Self::offset(at) else {
            return false;
        };
        self.work(Some(id), |works| {
            works.window(ApicsWindow::Local(id)).read(offset, data);
        });
        true
    }

    fn write_local(&self, id: VcpuId, at: Gpa, data: &[u8]) -> bool {
        let Some(offset) = Self::offset(at) else {
            return false;
        };
        self.work(Some(id), |works| {
            works.window(ApicsWindow::Local(id)).write(offset, data);
        });
        true
    }
}

/// Where the task priority is among a local APIC's registers.
const TASK_PRIORITY: u64 = 0x80;

impl Processor {
    /// Does what has come for the vCPU, which is about to run; says whether it does.
    fn attend(
        &mut self,
        (works, id): (&mut Apics, VcpuId),
        vcpu: &mut dyn Vcpu,
    ) -> Result<bool, HvError> {
        let events = works.take_events(id);
        if events.init {
            self.activity = Activity::AwaitsStart;
        }
        if self.activity == Activity::AwaitsStart {
            let Some(page) = events.start else {
                return Ok(false);
            };
            vcpu.set_state(&VcpuState::X86(Registers::started_at(page)))?;
            self.activity = Activity::Runs;
        }
        if events.nmi {
            vcpu.interrupt_unmaskably()?;
            self.activity = Activity::Runs;
        }
        self.share_priority(works.window(ApicsWindow::Local(id)), vcpu);
        let mut interrupts = works.interrupts(id);
        if interrupts {
            self.activity = Activity::Runs;
        }
        if interrupts && vcpu.takes_interrupt() {
            if let Some(vector) = works.acknowledge(id) {
                vcpu.interrupt(vector)?;
            }
            interrupts = works.interrupts(id);
        }
        vcpu.stop_to_interrupt(interrupts);
        Ok(self.activity == Activity::Runs)
    }

    /// Carries the task priority over: from the vCPU's CR8, where the guest has changed that, and else to it.
    fn share_priority(&mut self, mut local: ApicsRegisters<'_>, vcpu: &mut dyn Vcpu) {
        let class = vcpu.task_priority();
        if class != self.class {
            local.write(TASK_PRIORITY, &u32::from(class << 4).to_le_bytes());
        }
        let mut priority = [0; 4];
        local.read(TASK_PRIORITY, &mut priority);
        let [priority, ..] = priority;
        self.class = priority >> 4;
        vcpu.set_task_priority(self.class);
    }
}

impl Seat {
    fn new(activity: Activity) -> Self {
        Self {
            kicker: OnceLock::new(),
            is_called: Mutex::new(false),
            called: Condvar::new(),
            vcpu: Mutex::new(Processor { activity, class: 0 }),
        }
    }

    /// Has the vCPU's thread look what there is for it.
    fn call(&self) {
        *self.is_called() = true;
        self.called.notify_one();
        if let Some(kicker) = self.kicker.get() {
            kicker.kick();
        }
    }

    /// Waits until somebody calls, or has done so since this was last waited for.
    fn wait(&self) {
        let called = self.called.wait_while(self.is_called(), |called| !*called);
        *called.unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn is_called(&self) -> MutexGuard<'_, bool> {
        self.is_called
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timed for PcApics {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn ring(&self) {
        let time = self.time();
        // It has run out, or is about to be wound up again.
        self.works().alarm = None;
        self.work(None, |works| {
            for id in self.vcpus() {
                works.set_time(id, time);
            }
        });
    }
}

/// Registers that every vCPU sees alike.
struct Window {
    apics: Arc<PcApics>,
    window: ApicsWindow,
}

impl Attached for Window {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let read = |works: &mut Apics| works.window(self.window).read(offset, data);
        self.apics.work(None, read);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let write = |works: &mut Apics| works.window(self.window).write(offset, data);
        self.apics.work(None, write)
    }
}

/// An interrupt line.
struct Line {
    apics: Arc<PcApics>,
    irq: Irq,
}

impl IrqLine for Line {
    fn pulse(&self) -> Result<(), HvError> {
        self.apics.work(None, |works| works.pulse(self.irq));
        Ok(())
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        self.apics.work(None, |works| works.set(self.irq, high));
        Ok(())
    }
}

/// The interconnect of a machine whose local APICs are here.
struct Messages {
    apics: Arc<PcApics>,
    hypervisor: Arc<dyn Interconnect>,
}

impl Interconnect for Messages {
    fn send(&self, message: &Message) -> Result<(), HvError> {
        let message = firstlight_devices::pci::Message {
            address: message.address.get(),
            data: message.data,
        };
        self.apics.work(None, |works| works.send(message));
        Ok(())
    }

    fn hang(&self, doorbell: Doorbell, event: BorrowedFd<'_>) -> Result<Hung, HvError> {
        self.hypervisor.hang(doorbell, event)
    }

    fn show(&self, memory: &Arc<GuestMemory>) -> Result<Hung, HvError> {
        self.hypervisor.show(memory)
    }

    fn wire(&self, irq: Irq, level: LevelEvents<'_>) -> Result<Hung, HvError> {
        self.hypervisor.wire(irq, level)
    }
}
