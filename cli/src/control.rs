//! The control socket of a running guest: HTTP/1.1 over a Unix socket, as Firecracker's tools speak it.
//!
//! [`api`] says what a request asks for and what the answer is, and touches no socket; the [`server`] carries
//! both, and the [`client`] is the other end, for `firstlight ctl`.

mod api;
mod client;
mod messages;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use client::ctl;
pub(crate) use messages::SuspensionState;
pub(crate) use server::Server;

use firstlight_vmm::{Battery, Machine, Suspension, Swap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What of the guest can be controlled while it runs. It keeps no memory of a machine that has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Controls {
    swap: Option<Weak<Swap>>,
    battery: Option<Arc<Battery>>,
    suspension: Option<Arc<Suspension>>,
}

impl Controls {
    /// Those of `machine`.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self {
            swap: machine.swap().as_ref().map(Arc::downgrade),
            battery: machine.battery(),
            suspension: machine.suspension(),
        }
    }
}

/// Where those who control find the machine that there is now: a guest that resets gets another.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<Option<Controls>>);

impl Desk {
    /// There is a machine now.
    pub(crate) fn put(&self, controls: Controls) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(controls);
    }

    /// There is none any more, and no other yet.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn now(&self) -> Option<Controls> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
