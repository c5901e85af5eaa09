//! Messages and doorbells in KVM (KVM API, sections 4.70 `KVM_SIGNAL_MSI` and 4.59 `KVM_IOEVENTFD`).

use super::{Machine, arch, ioctl, refused};
use crate::{Doorbell, Hung, HvError, Interconnect, Message};
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
        let address = message.address.get();
        let halves = [address, address >> 32].map(|half| half & u64::from(u32::MAX));
        let [low, high] = halves.map(|half| u32::try_from(half).expect("masked to 32 bits"));
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
