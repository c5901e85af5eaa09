//! A network card that a process in a jail serves. Who carries its frames stays here as well, so that the guest is
//! told when he has gone.

use super::{Carrier, card};
use crate::jail::Inmate;
use crate::reports::Reports;
use crate::virtio::backend::Handover;
use crate::virtio::jailed::Jailed;
use crate::virtio::{Backend, FrontEndError, Io, VirtioDevice};
use crate::{DeviceError, JailError};
use firstlight_devices::virtio::QueueError;
use rustix::event::{PollFd, PollFlags};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A network card as [`network`](super::network) makes it, served by a process in a jail.
///
/// # Errors
///
/// [`DeviceError::Jail`] where there is no such process.
pub(crate) fn jailed_network(
    (name, mac): (&str, [u8; 6]),
    carrier: impl Carrier + 'static,
    say: impl FnMut(&str) + Send + 'static,
    reports: &Arc<Reports>,
) -> Result<VirtioDevice, DeviceError> {
    let (card, link) = card(mac, carrier.offloads());
    let file = carrier.waits().try_clone_to_owned();
    let file = file.map_err(|source| JailError::Start {
        device: name.to_owned(),
        source,
    })?;
    let inmate = Inmate::Card {
        is_tap: carrier.is_tap(),
    };
    let backend = JailedCard {
        jailed: Jailed::start((name, &card), (inmate, file), reports)?,
        carrier,
        link,
        say: Box::new(say),
    };
    Ok(VirtioDevice::new(name, card, backend))
}

/// The way to a card's process, and who carries its frames.
struct JailedCard<C> {
    jailed: Jailed,
    carrier: C,
    link: Arc<AtomicBool>,
    say: Box<dyn FnMut(&str) + Send>,
}

impl<C: Carrier> Backend for JailedCard<C> {
    fn serves_elsewhere(&self) -> bool {
        self.jailed.serves_elsewhere()
    }

    fn hand_over(&mut self, queues: &Handover<'_>) -> Result<(), FrontEndError> {
        self.jailed.hand_over(queues)
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        // That nobody carries frames any more is noticed without being asked for.
        let up = self.link.load(Ordering::Relaxed);
        let carrier = PollFd::from_borrowed_fd(self.carrier.waits(), PollFlags::empty());
        let carrier = up.then_some(carrier);
        carrier.into_iter().chain(self.jailed.waits()).collect()
    }

    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        self.jailed.rung(queue, io)
    }

    fn ready(&mut self, ready: &[PollFlags], io: &mut Io<'_>) -> Result<(), QueueError> {
        let (carrier, ready) = match ready.split_first() {
            Some((carrier, rest)) if self.link.load(Ordering::Relaxed) => (*carrier, rest),
            Some(_) | None => (PollFlags::empty(), ready),
        };
        let gone = carrier.intersects(PollFlags::HUP | PollFlags::ERR);
        if gone && self.link.swap(false, Ordering::Relaxed) {
            (self.say)(&self.carrier.farewell());
            io.tell_of_configuration();
        }
        self.jailed.ready(ready, io)
    }

    fn stopped(&mut self) {
        self.jailed.stopped();
    }
}
