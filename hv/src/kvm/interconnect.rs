//! Messages, doorbells, lines that events raise, and memory that comes and goes in KVM (KVM API, sections 4.70
//! `KVM_SIGNAL_MSI`, 4.59 `KVM_IOEVENTFD`, 4.75 `KVM_IRQFD` and 4.35 `KVM_SET_USER_MEMORY_REGION`).

use super::{Machine, arch, ioctl, refused};
use crate::{Doorbell, Hung, HvError, Interconnect, LevelEvents, Message};
use firstlight_base::Irq;
use firstlight_load::GuestMemory;
use kvm_bindings::kvm_msi;
use rustix::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The interconnect of a machine in KVM.
#[derive(Debug)]
pub(super) struct KvmInterconnect {
    machine: Arc<Machine>,
}

impl KvmInterconnect {
    pub(super) fn new(machine: &Arc<Machine>) -> Self {
        Self {
            machine: Arc::clone(machine),
        }
    }
}

impl Interconnect for KvmInterconnect {
    fn send(&self, message: &Message) -> Result<(), HvError> {
        let [low, high] = message.halves();
        let message = kvm_msi {
            address_lo: low,
            address_hi: high,
            data: message.data,
            flags: arch::MESSAGE_FLAGS,
            devid: message.requester,
            ..kvm_msi::default()
        };
        // It says whether the guest has masked the interrupt, which is the guest's affair.
        self.machine
            .fd
            .signal_msi(message)
            .map(|_delivered| ())
            .map_err(refused("deliver a message-signalled interrupt"))
    }

    fn hang(&self, doorbell: Doorbell, event: BorrowedFd<'_>) -> Result<Hung, HvError> {
        let failed = |source| HvError::Refused {
            what: "hang a doorbell",
            source,
        };
        let event = event.try_clone_to_owned().map_err(failed)?;
        ioctl::hang_doorbell(&self.machine.fd, doorbell, &event).map_err(failed)?;
        Ok(Hung::until(Hanging {
            machine: Arc::clone(&self.machine),
            doorbell,
            event,
        }))
    }

    fn show(&self, memory: &Arc<GuestMemory>) -> Result<Hung, HvError> {
        let mut shown = Shown {
            machine: Arc::clone(&self.machine),
            memory: Arc::clone(memory),
            slots: Vec::new(),
        };
        shown.fill()?;
        Ok(Hung::until(shown))
    }

    #[cfg(target_arch = "x86_64")]
    fn announce(&self, pins: &[Option<Message>]) -> Result<(), HvError> {
        arch::announce(&self.machine.fd, pins)
    }

    fn wire(&self, irq: Irq, level: LevelEvents<'_>) -> Result<Hung, HvError> {
        let failed = |source| HvError::Refused {
            what: "let an event drive an interrupt line",
            source,
        };
        let own = |event: BorrowedFd<'_>| event.try_clone_to_owned().map_err(failed);
        let (raise, done) = (own(level.raise)?, own(level.done)?);
        // The pin of the interrupt controller, as KVM numbers them where nobody has said otherwise.
        let line = irq.0;
        ioctl::wire(&self.machine.fd, line, (&raise, &done)).map_err(failed)?;
        Ok(Hung::until(Wired {
            machine: Arc::clone(&self.machine),
            line,
            raise,
            done,
        }))
    }
}

/// Memory that the guest has until this is dropped.
#[derive(Debug)]
struct Shown {
    machine: Arc<Machine>,
    memory: Arc<GuestMemory>,
    /// Those that have been filled, in the order of the regions.
    slots: Vec<u32>,
}

impl Shown {
    fn fill(&mut self) -> Result<(), HvError> {
        for region in self.memory.regions() {
            let slot = self.machine.take_slot();
            let filled = ioctl::set_memory_slot(&self.machine.fd, slot, region);
            match filled {
                Ok(()) => self.slots.push(slot),
                Err(error) => {
                    self.machine.give_back(slot);
                    return Err(refused("map a device's memory")(error));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        for slot in &self.slots {
            match ioctl::clear_slot(&self.machine.fd, *slot) {
                Ok(()) => self.machine.give_back(*slot),
                // What the guest still has must stay.
                Err(_) => self.machine.never_unmap(&self.memory),
            }
        }
    }
}

/// Takes its line's events away when it is dropped.
#[derive(Debug)]
struct Wired {
    machine: Arc<Machine>,
    line: u32,
    raise: OwnedFd,
    done: OwnedFd,
}

impl Drop for Wired {
    fn drop(&mut self) {
        let events = (&self.raise, &self.done);
        let unwired = ioctl::unwire(&self.machine.fd, self.line, events);
        debug_assert!(unwired.is_ok(), "what is wired can be undone: {unwired:?}");
    }
}

/// Takes its doorbell down when it is dropped.
#[derive(Debug)]
struct Hanging {
    machine: Arc<Machine>,
    doorbell: Doorbell,
    event: OwnedFd,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let taken = ioctl::take_doorbell_down(&self.machine.fd, self.doorbell, &self.event);
        debug_assert!(taken.is_ok(), "what hangs can be taken down: {taken:?}");
    }
}
