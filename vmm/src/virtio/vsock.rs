//! The socket device's other half: Unix sockets on the host, by the protocol that users of
//! Firecracker and Cloud Hypervisor know.
//!
//! A program on the host connects to the device's socket, writes `CONNECT <port>` and a newline, and
//! reads `OK <its own port>` and a newline when the guest has accepted; otherwise the connection is
//! closed. A program in the guest that connects to port P of the host reaches the Unix socket whose
//! path is the device's with `_P` behind it.

mod exchange;
mod peer;
#[cfg(test)]
mod tests;

use super::{Backend, Io, VirtioDevice};
use crate::listener::ListenError;
use exchange::Exchange;
use firstlight_devices::virtio::queue::{ChainReader, ChainWriter};
use firstlight_devices::virtio::vsock::{BUFFER, GuestCid, Header, RECEIVE, TRANSMIT, Vsock};
use firstlight_devices::virtio::{Chain, QueueError};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags};
use std::path::Path;

/// A socket device of the guest `cid`, whose sockets on the host are at `path` and at paths that begin
/// with it.
///
/// # Errors
///
/// [`ListenError`] where the host's socket cannot be there.
pub(crate) fn vsock(cid: GuestCid, path: &Path) -> Result<VirtioDevice, ListenError> {
    let backend = VsockBackend::new(cid, path)?;
    Ok(VirtioDevice::new("vsock", Vsock::new(cid), backend))
}

/// The device's other half.
struct VsockBackend {
    exchange: Exchange,
    /// A buffer of the guest's that nothing has been put into yet.
    spare: Chain,
    has_spare: bool,
    /// A packet's bytes on their way.
    bytes: Box<[u8]>,
}

/// So many packets are carried in one direction before those in the other are.
const TURN: usize = 64;

/// So often both directions are served before anybody looks at anything else.
const ROUNDS: usize = 16;

/// Whether there may be more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

impl VsockBackend {
    fn new(cid: GuestCid, path: &Path) -> Result<Self, ListenError> {
        Ok(Self {
            exchange: Exchange::new(cid, path)?,
            spare: Chain::new(),
            has_spare: false,
            bytes: vec![0; BUFFER as usize].into_boxed_slice(),
        })
    }

    /// Takes what the guest has sent and gives it what waits for it, until there is neither, or there
    /// was much of it.
    fn carry(&mut self, io: &mut Io<'_>) -> Result<(), QueueError> {
        let mut more = More::Yes;
        for _ in 0..ROUNDS {
            if more == More::No {
                break;
            }
            let taken = self.take_packets(io)?;
            let given = self.give_packets(io)?;
            more = taken.or(given);
        }
        if more == More::Yes {
            // The rest is for the next time.
            io.ring(TRANSMIT);
        }
        io.tell(TRANSMIT)?;
        io.tell(RECEIVE)
    }

    /// Takes packets from the guest, unless it does not take the answers.
    fn take_packets(&mut self, io: &mut Io<'_>) -> Result<More, QueueError> {
        let memory = io.memory();
        if let Some(queue) = io.queue(TRANSMIT) {
            queue.ignore(memory)?;
        }
        for _ in 0..TURN {
            if self.exchange.is_clogged() {
                // The doorbell of the buffers for the answers is the next to ring.
                return Ok(More::No);
            }
            let Some(chain) = io.pop(TRANSMIT)? else {
                return listen(io, TRANSMIT);
            };
            let token = chain.token();
            self.take_packet(chain.reader(memory));
            if let Some(queue) = io.queue(TRANSMIT) {
                queue.push(memory, token, 0)?;
            }
        }
        Ok(More::Yes)
    }

    /// A packet too short for its header is none.
    fn take_packet(&mut self, mut packet: ChainReader<'_, GuestMemory>) {
        let mut header = [0; Header::LEN];
        if packet.read_exact(&mut header).is_err() {
            return;
        }
        let header = Header::parse(&header);
        let Some((pair, len)) = self.exchange.take_packet(&header, packet.len()) else {
            return;
        };
        // The credit that the guest was given is what the buffer holds.
        let bytes = self.bytes.get_mut(..len as usize);
        match bytes.map(|bytes| (packet.read_exact(bytes), bytes)) {
            Some((Ok(()), bytes)) => self.exchange.take_bytes(pair, bytes),
            Some((Err(_), _)) | None => self.exchange.reset(pair),
        }
    }

    /// Gives the guest what waits for it, as far as it has buffers. Its doorbell for these is of
    /// interest where it has none only.
    fn give_packets(&mut self, io: &mut Io<'_>) -> Result<More, QueueError> {
        let memory = io.memory();
        if let Some(queue) = io.queue(RECEIVE) {
            queue.ignore(memory)?;
        }
        for _ in 0..TURN {
            let Some(queue) = io.queue(RECEIVE).filter(|_| self.exchange.has_turn()) else {
                return Ok(More::No);
            };
            if !self.has_spare {
                self.has_spare = queue.pop(memory, &mut self.spare)?;
            }
            if !self.has_spare {
                return listen(io, RECEIVE);
            }
            let writer = self.spare.writer(memory);
            if let Some(written) = give_packet(&mut self.exchange, writer, &mut self.bytes) {
                self.has_spare = false;
                queue.push(memory, self.spare.token(), written)?;
            }
        }
        Ok(More::Yes)
    }
}

impl More {
    fn or(self, other: Self) -> Self {
        match self {
            Self::Yes => Self::Yes,
            Self::No => other,
        }
    }
}

/// Waits for the driver's doorbell, unless it has come meanwhile.
fn listen(io: &mut Io<'_>, queue: usize) -> Result<More, QueueError> {
    let memory = io.memory();
    let Some(queue) = io.queue(queue) else {
        return Ok(More::No);
    };
    let came = queue.listen(memory)?;
    Ok(if came { More::Yes } else { More::No })
}

/// Puts the next packet into a buffer, and says how many bytes that was; nothing where there was no
/// packet after all.
fn give_packet(
    exchange: &mut Exchange,
    mut buffer: ChainWriter<'_, GuestMemory>,
    bytes: &mut [u8],
) -> Option<u32> {
    let room = buffer.room().checked_sub(Header::LEN as u64);
    let Some(room) = room.filter(|room| *room > 0) else {
        // Nothing useful fits in there: it goes back empty.
        return Some(0);
    };
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let len = bytes.len().min(room);
    let bytes = bytes.get_mut(..len)?;
    let (header, len) = exchange.next_packet(bytes)?;
    let bytes = bytes.get(..len)?;
    // Both fit, as just seen; that the buffer is memory was seen when it was popped.
    let _ = buffer.write_all(&header.emit());
    let _ = buffer.write_all(bytes);
    Some(buffer.written())
}

impl Backend for VsockBackend {
    fn waits(&self) -> Vec<PollFd<'_>> {
        vec![PollFd::from_borrowed_fd(
            self.exchange.events(),
            PollFlags::IN,
        )]
    }

    fn rung(&mut self, _queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        self.carry(io)
    }

    fn ready(&mut self, _ready: &[PollFlags], io: &mut Io<'_>) -> Result<(), QueueError> {
        self.exchange.serve_events();
        self.carry(io)
    }

    fn stopped(&mut self) {
        self.has_spare = false;
        self.exchange.guest_has_gone();
    }
}
