//! The network card's other half: frames between its queues and whoever carries them.

mod jailed;
mod passt;
mod stream;
mod tap;
#[cfg(test)]
mod tests;

pub(crate) use jailed::jailed_network;
pub(crate) use passt::Passt;
pub use passt::PasstError;
pub use tap::TapError;
pub(crate) use tap::{SET_OFFLOADS, Tap};

use super::{Backend, Io, VirtioDevice};
use firstlight_devices::virtio::net::{
    Link, MOST_BYTES, Net, Offloads, Placed, Port, RECEIVE, Receiver, TRANSMIT, gather,
};
use firstlight_devices::virtio::{Chain, Device, DeviceKind, QueueError};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who carries a network card's frames. Every frame begins with the header that a network card's
/// frames begin with (virtio 1.2, section 5.1.6), either way. Nothing here waits for anything.
pub(crate) trait Carrier: Send {
    /// What the driver may leave to it, and it to the driver.
    fn offloads(&self) -> Offloads;

    /// What of that the driver has chosen.
    fn choose(&mut self, offloads: Offloads);

    /// What is readable when a frame has come.
    fn waits(&self) -> BorrowedFd<'_>;

    /// Takes a frame from the guest. Not while something is [`left`](Self::is_behind) of another.
    fn send(&mut self, frame: &[u8]) -> Result<(), Lost>;

    /// Whether something is left of a frame that was taken.
    fn is_behind(&self) -> bool;

    /// Goes on with what is left of a frame.
    fn flush(&mut self) -> Result<(), Lost>;

    /// The next frame for the guest, and how long it is; `None` where there is none for now.
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, Lost>;

    /// Whether it is a tap interface.
    fn is_tap(&self) -> bool;

    /// Why it is lost, where it is.
    fn farewell(&mut self) -> String;
}

/// Nobody carries the frames any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// So many frames are carried in one direction before anybody looks at anything else.
const TURN: usize = 256;

/// The device's other half.
pub(crate) struct NetBackend<C> {
    carrier: C,
    receiver: Receiver,
    /// A frame from the carrier that the driver has no room for yet, with its length.
    frame: Box<[u8]>,
    held: usize,
    /// Whether the driver has made no room for more, so that its doorbell is waited for.
    no_room: bool,
    /// A frame on its way from the driver, and its request.
    sent: Box<[u8]>,
    chain: Chain,
    link: Arc<AtomicBool>,
    say: Box<dyn FnMut(&str) + Send>,
}

/// A network card that `carrier` carries the frames of, with this address. What there is to say of
/// the carrier's end goes to `say`.
pub(crate) fn network(
    name: &str,
    mac: [u8; 6],
    carrier: impl Carrier + 'static,
    say: impl FnMut(&str) + Send + 'static,
) -> VirtioDevice {
    let (card, link) = card(mac, carrier.offloads());
    VirtioDevice::new(name, card, NetBackend::new(carrier, link, Box::new(say)))
}

/// What the driver sees of a card, and whether its cable is in.
fn card(mac: [u8; 6], offloads: Offloads) -> (Card, Arc<AtomicBool>) {
    let port = Port {
        mac,
        mtu: None,
        offloads,
    };
    let link = Arc::new(AtomicBool::new(true));
    (Card::new(port, &link), link)
}

/// The card that is to be served in this process, by what it inherited.
pub(crate) fn network_of(file: OwnedFd, is_tap: bool) -> VirtioDevice {
    // Its address and the state of its cable are told elsewhere.
    match is_tap {
        true => network("card", [0; 6], Tap::of(file), |_| {}),
        false => network("card", [0; 6], Passt::of(file), |_| {}),
    }
}

impl<C: Carrier> NetBackend<C> {
    fn new(carrier: C, link: Arc<AtomicBool>, say: Box<dyn FnMut(&str) + Send>) -> Self {
        Self {
            carrier,
            receiver: Receiver::new(0),
            frame: vec![0; MOST_BYTES].into_boxed_slice(),
            held: 0,
            no_room: false,
            sent: vec![0; MOST_BYTES].into_boxed_slice(),
            chain: Chain::new(),
            link,
            say,
        }
    }

    fn is_up(&self) -> bool {
        self.link.load(Ordering::Relaxed)
    }

    /// Carries what the driver sends, as far as the carrier takes it.
    fn transmit(&mut self, io: &mut Io<'_>) -> Result<(), QueueError> {
        let memory = io.memory();
        let Some(queue) = io.queue(TRANSMIT.into()) else {
            return Ok(());
        };
        let mut lost = false;
        let mut left = TURN;
        queue.ignore(memory)?;
        // A carrier that is behind is waited for, not the doorbell.
        while left > 0 && (!self.carrier.is_behind() || lost || !self.is_up()) {
            left -= 1;
            if !queue.pop(memory, &mut self.chain)? {
                if queue.listen(memory)? {
                    continue;
                }
                break;
            }
            let frame = gather(&self.chain, memory, &mut self.sent);
            if let Some(frame) = frame.filter(|_| !lost && self.link.load(Ordering::Relaxed)) {
                lost = self.carrier.send(frame) == Err(Lost);
            }
            queue.push(memory, self.chain.token(), 0)?;
        }
        if left == 0 {
            // The rest is for the next turn.
            io.ring(TRANSMIT.into());
        }
        io.tell(TRANSMIT.into())?;
        if lost {
            self.lose(io);
        }
        Ok(())
    }

    /// Carries what has come to the driver, as far as it has room.
    fn receive(&mut self, io: &mut Io<'_>) -> Result<(), QueueError> {
        let memory = io.memory();
        let Some(queue) = io.queue(RECEIVE.into()) else {
            // Frames wait, and are not waited for.
            self.no_room = true;
            return Ok(());
        };
        self.no_room = false;
        let mut lost = false;
        let mut left = TURN;
        queue.ignore(memory)?;
        while left > 0 {
            left -= 1;
            let has_room = self.receiver.has_room(queue, memory)?;
            if has_room && self.held == 0 {
                match self.carrier.receive(&mut self.frame) {
                    Ok(Some(len)) => self.held = len,
                    Ok(None) => break,
                    Err(Lost) => {
                        lost = true;
                        break;
                    }
                }
            }
            let frame = self.frame.get(..self.held).unwrap_or(&[]);
            if has_room && self.receiver.put(queue, memory, frame)? != Placed::NoRoom {
                self.held = 0;
            } else if !queue.listen(memory)? {
                self.no_room = true;
                break;
            }
        }
        if left == 0 {
            // Frames may have come that nothing is readable for any more.
            io.ring(RECEIVE.into());
        }
        io.tell(RECEIVE.into())?;
        if lost {
            self.lose(io);
        }
        Ok(())
    }

    /// The guest's cable is pulled out: its driver hears of it, and everything else goes on.
    fn lose(&mut self, io: &Io<'_>) {
        if self.link.swap(false, Ordering::Relaxed) {
            (self.say)(&self.carrier.farewell());
            io.tell_of_configuration();
        }
    }
}

impl<C: Carrier> Backend for NetBackend<C> {
    fn started(&mut self, features: u64) {
        self.receiver = Receiver::new(features);
        self.carrier.choose(Offloads::from_bits_truncate(features));
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        if !self.is_up() {
            return Vec::new();
        }
        // That nobody carries frames any more is noticed without being asked for.
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.no_room);
        flags.set(PollFlags::OUT, self.carrier.is_behind());
        vec![PollFd::from_borrowed_fd(self.carrier.waits(), flags)]
    }

    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        if queue == usize::from(TRANSMIT) {
            self.transmit(io)
        } else if self.is_up() {
            self.receive(io)
        } else {
            Ok(())
        }
    }

    fn ready(&mut self, ready: &[PollFlags], io: &mut Io<'_>) -> Result<(), QueueError> {
        let ready = ready.first().copied().unwrap_or(PollFlags::empty());
        if self.carrier.is_behind() && ready.intersects(PollFlags::OUT | PollFlags::ERR) {
            if self.carrier.flush() == Err(Lost) {
                self.lose(io);
            }
            self.transmit(io)?;
        }
        let gone = ready.intersects(PollFlags::HUP | PollFlags::ERR);
        if self.is_up() && (gone || ready.contains(PollFlags::IN)) {
            self.receive(io)?;
        }
        if gone && self.no_room {
            // What is left of its frames, the driver has no room for.
            self.lose(io);
        }
        Ok(())
    }

    fn stopped(&mut self) {
        self.held = 0;
        self.no_room = false;
    }
}

/// What the driver sees: a card whose cable the backend can pull out.
#[derive(Debug)]
struct Card {
    plugged: Net,
    pulled: Net,
    link: Arc<AtomicBool>,
}

impl Card {
    fn new(port: Port, link: &Arc<AtomicBool>) -> Self {
        let mut pulled = Net::new(port);
        pulled.set_link(Link::Down);
        Self {
            plugged: Net::new(port),
            pulled,
            link: Arc::clone(link),
        }
    }

    fn now(&self) -> &Net {
        if self.link.load(Ordering::Relaxed) {
            &self.plugged
        } else {
            &self.pulled
        }
    }
}

impl Device for Card {
    fn kind(&self) -> DeviceKind {
        self.now().kind()
    }

    fn features(&self) -> u64 {
        self.now().features()
    }

    fn accepts(&self, features: u64) -> bool {
        self.now().accepts(features)
    }

    fn queue_sizes(&self) -> &[u16] {
        self.now().queue_sizes()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.now().read_config(offset, data);
    }
}
