//! A PC's interrupt controllers but for the local APICs: they are the hypervisor's, and take messages.

#[cfg(test)]
mod tests;

use super::{Attached, Board, InterruptControllers, Place};
use firstlight_base::{Gpa, Irq, VcpuId};
use firstlight_boot::Pc;
use firstlight_devices::{Chip, Effect, IoApic, IoApicPin, PicWindow, Pics};
use firstlight_hv::{HvError, Interconnect, IrqLine, Kicker, Message, Vcpu};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Two 8259s and an I/O APIC, between lines and local APICs.
pub(crate) struct PcIrqchip {
    works: Mutex<Works>,
    interconnect: Arc<dyn Interconnect>,
    /// Whether the 8259s ask for the boot vCPU, which is the one that they reach.
    asks: AtomicBool,
    /// What makes that vCPU look.
    boot_vcpu: OnceLock<Kicker>,
}

#[derive(Default)]
struct Works {
    pics: Pics,
    io_apic: IoApic,
    /// What was announced of each pin.
    announced: [Option<Message>; IoApic::PINS as usize],
}

impl PcIrqchip {
    pub(crate) fn new(interconnect: Arc<dyn Interconnect>) -> Self {
        Self {
            works: Mutex::default(),
            interconnect,
            asks: AtomicBool::new(false),
            boot_vcpu: OnceLock::new(),
        }
    }

    /// Attaches its registers.
    pub(crate) fn attach(self: &Arc<Self>, board: &mut Board) {
        for (window, port) in PicWindow::PORTS {
            let registers = PicPorts {
                irqchip: Arc::clone(self),
                window,
            };
            board.attach(Place::Ports(port, 2), Arc::new(registers));
        }
        let registers = IoApicPage(Arc::clone(self));
        board.attach(Place::Mmio(Pc::IOAPIC, IoApic::EXTENT), Arc::new(registers));
        board.set_controllers(Arc::<Self>::clone(self));
    }

    /// The line `irq`, which reaches the 8259 and the I/O APIC where there is one of this number.
    pub(crate) fn line(self: &Arc<Self>, irq: Irq) -> Result<Box<dyn IrqLine>, HvError> {
        match irq.0 {
            ..IoApic::PINS => Ok(Box::new(Line {
                irqchip: Arc::clone(self),
                irq,
            })),
            _ => Err(HvError::NoSuchLine(irq)),
        }
    }

    /// Carries on what became of the works. What the host refuses is lost, as by a broken wire.
    fn settle(&self, works: &mut Works) {
        if works.io_apic.take_changed() {
            works.announce(&*self.interconnect);
        }
        while let Some(message) = works.io_apic.next_message() {
            let _ = self.interconnect.send(&of_chip(message.to_msi()));
        }
        let asks = works.pics.notifies();
        let asked = self.asks.swap(asks, Ordering::AcqRel);
        if let Some(vcpu) = self.boot_vcpu.get().filter(|_| asks && !asked) {
            vcpu.kick();
        }
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InterruptControllers for PcIrqchip {
    fn kicker(self: Arc<Self>, id: VcpuId, kicker: Kicker) -> Kicker {
        if id == VcpuId::BOOT {
            // A machine is started once.
            let _ = self.boot_vcpu.set(kicker.clone());
        }
        kicker
    }

    fn deliver(&self, id: VcpuId, vcpu: &mut dyn Vcpu) -> Result<bool, HvError> {
        if id != VcpuId::BOOT {
            return Ok(true);
        }
        if self.asks.load(Ordering::Acquire) && vcpu.takes_interrupt() {
            let mut works = self.works();
            // The line may have fallen since.
            if works.pics.notifies() {
                vcpu.interrupt(works.pics.acknowledge())?;
            }
            self.settle(&mut works);
        }
        vcpu.stop_to_interrupt(self.asks.load(Ordering::Acquire));
        Ok(true)
    }

    fn end_of_interrupt(&self, vector: u8) {
        let mut works = self.works();
        works.io_apic.end_of_interrupt(vector);
        self.settle(&mut works);
    }
}

impl Works {
    /// Tells the hypervisor what the pins send. An interrupt of a pin that is masked now may still have to end.
    fn announce(&mut self, interconnect: &dyn Interconnect) {
        for (number, announced) in (0..).zip(&mut self.announced) {
            let route = self.io_apic.route(IoApicPin(number));
            *announced = route
                .map(|message| of_chip(message.to_msi()))
                .or(*announced);
        }
        let _ = interconnect.announce(&self.announced);
    }
}

fn of_chip(message: firstlight_devices::pci::Message) -> Message {
    Message {
        address: Gpa::new(message.address),
        data: message.data,
        requester: 0,
    }
}

/// The ports of the 8259s.
struct PicPorts {
    irqchip: Arc<PcIrqchip>,
    window: PicWindow,
}

impl Attached for PicPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut works = self.irqchip.works();
        works.pics.window(self.window).read(offset, data);
        self.irqchip.settle(&mut works);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut works = self.irqchip.works();
        let effect = works.pics.window(self.window).write(offset, data);
        self.irqchip.settle(&mut works);
        effect
    }
}

/// The I/O APIC's registers.
struct IoApicPage(Arc<PcIrqchip>);

impl Attached for IoApicPage {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.0.works().io_apic.read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut works = self.0.works();
        let effect = works.io_apic.write(offset, data);
        self.0.settle(&mut works);
        effect
    }
}

/// An interrupt line.
struct Line {
    irqchip: Arc<PcIrqchip>,
    irq: Irq,
}

impl Line {
    fn drive(&self, drive: impl FnOnce(&mut Works, Option<IoApicPin>)) {
        let mut works = self.irqchip.works();
        drive(&mut works, IoApicPin::of_line(self.irq));
        self.irqchip.settle(&mut works);
    }
}

impl IrqLine for Line {
    fn pulse(&self) -> Result<(), HvError> {
        self.drive(|works, pin| {
            works.pics.pulse(self.irq);
            if let Some(pin) = pin {
                works.io_apic.pulse(pin);
            }
        });
        Ok(())
    }

    fn set(&self, high: bool) -> Result<(), HvError> {
        self.drive(|works, pin| {
            works.pics.set(self.irq, high);
            if let Some(pin) = pin {
                works.io_apic.set(pin, high);
            }
        });
        Ok(())
    }
}
