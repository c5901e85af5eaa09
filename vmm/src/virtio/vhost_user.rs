//! A device of ours in a machine of QEMU's: the back end of the protocol vhost-user (QEMU
//! `docs/interop/vhost-user.rst`).
//!
//! QEMU has the registers, and tells by a socket where the driver's queues are and by which events
//! doorbells and interrupts go. Of the protocol's own features there is none but that they are asked for,
//! without which QEMU does not start. A queue that has all it needs runs, whether or not it is said to.

#[cfg(test)]
mod tests;

use super::{Backend, Interrupt, Io, Stopping, VirtioDevice};
use crate::RunError;
use crate::bell::Bell;
use crate::signals::Signals;
use firstlight_base::{Gpa, GpaRange, Reader};
use firstlight_devices::virtio::{Cause, Chain, Features, Layout, Queue, QueueSetup};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::error::Error;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A device that serves the queues of QEMU's, until QEMU closes its socket.
#[derive(Debug)]
pub(crate) struct VhostUser {
    thread: Option<JoinHandle<()>>,
}

impl VhostUser {
    /// Lets `device` serve whoever is at the other end of `socket`.
    pub(crate) fn start(
        device: VirtioDevice,
        memory: &Arc<GuestMemory>,
        socket: UnixStream,
    ) -> Result<Self, RunError> {
        let mut back_end = BackEnd::new(&device, memory, socket)?;
        let mut backend = device.backend;
        let thread = thread::Builder::new()
            .name(device.name)
            .spawn(move || {
                // They are for the thread that has the terminal to put back.
                let _left_to_others = Signals::take();
                back_end.run(&mut *backend);
            })
            .map_err(|error| RunError::host("start a thread")(error))?;
        Ok(Self {
            thread: Some(thread),
        })
    }
}

impl Drop for VhostUser {
    /// Waits for its end; QEMU has ended before.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// What a driver can be offered: no packed rings, which cannot be stopped and gone on with by a number.
const OFFERED: Features = Features::INDIRECT_DESC
    .union(Features::EVENT_IDX)
    .union(Features::VERSION_1);

/// That the protocol has features (`VHOST_USER_F_PROTOCOL_FEATURES`).
const HAS_FEATURES: u64 = 1 << 30;

/// Our half of the protocol.
struct BackEnd {
    socket: UnixStream,
    memory: Arc<GuestMemory>,
    own_features: u64,
    features: Features,
    regions: Vec<Region>,
    rings: Vec<Ring>,
    queues: Vec<Option<Queue>>,
    /// A doorbell for each queue.
    bells: Vec<Arc<Bell>>,
    calls: Calls,
}

/// A part of the guest's memory, as QEMU has it mapped.
#[derive(Clone, Copy, Debug)]
struct Region {
    guest: GpaRange,
    user: u64,
}

/// What is told of a queue before it runs.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    size: u16,
    /// Descriptors, used and available ring.
    parts: Option<[Gpa; 3]>,
    /// How far it was served before.
    next: u16,
    has_bell: bool,
}

/// What interrupts go by, for each queue.
#[derive(Debug, Default)]
struct Calls(Mutex<Vec<Option<Bell>>>);

impl Calls {
    fn set(&self, queue: usize, call: Option<OwnedFd>) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = calls.get_mut(queue) {
            *place = call.map(Bell::from);
        }
    }
}

impl Interrupt for Calls {
    fn raise(&self, cause: Cause) {
        let Cause::Queue(queue) = cause else {
            // The configuration is QEMU's.
            return;
        };
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(call)) = calls.get(usize::from(queue)) {
            call.ring();
        }
    }

    /// There is nothing that would have the driver reset the device: it finds one that does not answer.
    fn break_down(&self, _error: &dyn Error) {}
}

/// The messages that mean something to a back end without features of the protocol.
mod message {
    pub(super) const GET_FEATURES: u32 = 1;
    pub(super) const SET_FEATURES: u32 = 2;
    pub(super) const SET_MEM_TABLE: u32 = 5;
    pub(super) const SET_VRING_NUM: u32 = 8;
    pub(super) const SET_VRING_ADDR: u32 = 9;
    pub(super) const SET_VRING_BASE: u32 = 10;
    pub(super) const GET_VRING_BASE: u32 = 11;
    pub(super) const SET_VRING_KICK: u32 = 12;
    pub(super) const SET_VRING_CALL: u32 = 13;
    pub(super) const GET_PROTOCOL_FEATURES: u32 = 15;
    /// The version of the protocol, and that it is an answer.
    pub(super) const ANSWER: u32 = 1 | 1 << 2;
    /// The bytes before what is in it.
    pub(super) const HEADER: usize = 12;
    /// The longest of them has a table of eight regions.
    pub(super) const LONGEST: u32 = 8 + 8 * 32;
    /// The most descriptors that come with one.
    pub(super) const DESCRIPTORS: usize = 8;
}

/// A message.
struct Message {
    request: u32,
    body: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What has no place in the protocol.
fn nonsense() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl BackEnd {
    fn new(
        device: &VirtioDevice,
        memory: &Arc<GuestMemory>,
        socket: UnixStream,
    ) -> Result<Self, RunError> {
        let count = device.chip.queue_sizes().len();
        let bells = (0..count).map(|_| Bell::new().map(Arc::new));
        Ok(Self {
            socket,
            memory: Arc::clone(memory),
            own_features: device.chip.features(),
            features: Features::empty(),
            regions: Vec::new(),
            rings: vec![Ring::default(); count],
            queues: (0..count).map(|_| None).collect(),
            bells: bells.collect::<Result<_, _>>()?,
            calls: Calls(Mutex::new((0..count).map(|_| None).collect())),
        })
    }

    /// Serves until QEMU closes the socket, or says what is not understood.
    fn run(&mut self, backend: &mut dyn Backend) {
        let mut chain = Chain::new();
        loop {
            let (has_message, rang) = self.wait();
            for queue in rang {
                if let Some(bell) = self.bells.get(queue) {
                    bell.answer();
                }
                self.serve(queue, backend, &mut chain);
            }
            if has_message && self.hear(backend, &mut chain).is_err() {
                return;
            }
        }
    }

    /// Whether there is a message, and which doorbells ring.
    fn wait(&self) -> (bool, Vec<usize>) {
        let running = self.queues.iter().zip(&self.bells).zip(0..);
        let running: Vec<_> = running
            .filter_map(|((queue, bell), number)| queue.as_ref().map(|_| (bell, number)))
            .collect();
        let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
        let bells = running.iter();
        fds.extend(bells.map(|(bell, _)| PollFd::new(&***bell, PollFlags::IN)));
        while let Err(error) = poll(&mut fds, None) {
            assert_eq!(
                error,
                Errno::INTR,
                "descriptors of our own can be waited for"
            );
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let has_message = ready.next().is_some_and(|is_ready| is_ready);
        let rang = running.iter().zip(ready);
        let rang = rang.filter_map(|((_, number), is_ready)| is_ready.then_some(*number));
        (has_message, rang.collect())
    }

    fn serve(&mut self, queue: usize, backend: &mut dyn Backend, chain: &mut Chain) {
        let stopping = AtomicBool::new(false);
        let mut io = Io {
            memory: &self.memory,
            queues: &mut self.queues,
            bells: &self.bells,
            interrupt: &self.calls,
            stopping: Stopping(&stopping),
            chain,
        };
        let served = backend.rung(queue, &mut io);
        if served.is_err()
            && let Some(queue) = self.queues.get_mut(queue)
        {
            // Nothing is served any more until the driver resets.
            *queue = None;
        }
    }

    /// Does what the next message says.
    fn hear(&mut self, backend: &mut dyn Backend, chain: &mut Chain) -> io::Result<()> {
        let Message {
            request,
            body,
            mut descriptors,
        } = self.receive()?;
        let body = Reader::new(&body);
        let number = || body.u64_le(0).map_err(|_short| nonsense());
        let pair = || match (body.u32_le(0), body.u32_le(4)) {
            (Ok(queue), Ok(value)) => Ok((usize::try_from(queue).unwrap_or(usize::MAX), value)),
            _ => Err(nonsense()),
        };
        match request {
            message::GET_FEATURES => {
                let all = self.own_features | OFFERED.bits() | HAS_FEATURES;
                self.answer(request, &all.to_le_bytes())?;
            }
            message::SET_FEATURES => {
                self.features = Features::from_bits_truncate(number()?);
                backend.started(number()?);
            }
            message::GET_PROTOCOL_FEATURES => self.answer(request, &[0; 8])?,
            message::SET_MEM_TABLE => self.regions = regions(body).ok_or_else(nonsense)?,
            message::SET_VRING_NUM => {
                let (queue, size) = pair()?;
                self.ring(queue)?.size = u16::try_from(size).map_err(|_large| nonsense())?;
            }
            message::SET_VRING_ADDR => {
                let (queue, _flags) = pair()?;
                let part = |at| body.u64_le(at).ok().and_then(|user| self.guest(user));
                let parts = [part(8), part(16), part(24)];
                let [Some(descriptors), Some(used), Some(available)] = parts else {
                    return Err(nonsense());
                };
                self.ring(queue)?.parts = Some([descriptors, used, available]);
            }
            message::SET_VRING_BASE => {
                let (queue, next) = pair()?;
                self.ring(queue)?.next = u16::try_from(next).map_err(|_large| nonsense())?;
            }
            message::GET_VRING_BASE => {
                let (queue, _) = pair()?;
                let next = self.stop(queue)?;
                let index = u32::try_from(queue).unwrap_or(u32::MAX).to_le_bytes();
                let answer = [index, u32::from(next).to_le_bytes()].concat();
                self.answer(request, &answer)?;
            }
            message::SET_VRING_KICK => {
                let queue = queue_of(number()?);
                let kick = descriptors.pop().ok_or_else(nonsense)?;
                self.ring(queue)?.has_bell = true;
                let place = self.bells.get_mut(queue).ok_or_else(nonsense)?;
                *place = Arc::new(Bell::from(kick));
                self.start(queue);
                // What the driver rang for before is in the queue.
                self.serve(queue, backend, chain);
            }
            message::SET_VRING_CALL => self.calls.set(queue_of(number()?), descriptors.pop()),
            // The others ask for nothing that is not so already.
            _ => {}
        }
        Ok(())
    }

    fn ring(&mut self, queue: usize) -> io::Result<&mut Ring> {
        self.rings.get_mut(queue).ok_or_else(nonsense)
    }

    /// Lets a queue run that has all it needs; one that cannot be served stays as it is.
    fn start(&mut self, queue: usize) {
        let Some(&Ring {
            size,
            parts: Some([descriptors, device, driver]),
            next,
            has_bell: true,
        }) = self.rings.get(queue)
        else {
            return;
        };
        let setup = QueueSetup {
            size,
            descriptors,
            driver,
            device,
            layout: Layout::Split,
            event_idx: self.features.contains(Features::EVENT_IDX),
            indirect: self.features.contains(Features::INDIRECT_DESC),
        };
        if let Some(place) = self.queues.get_mut(queue) {
            *place = Queue::resume(&setup, &*self.memory, next).ok();
        }
    }

    /// Stops a queue, and says how far it was served. What the guest has open stays so: it may have been
    /// paused.
    fn stop(&mut self, queue: usize) -> io::Result<u16> {
        let stopped = self.queues.get_mut(queue).ok_or_else(nonsense)?.take();
        let ring = self.ring(queue)?;
        ring.has_bell = false;
        if let Some(next) = stopped.and_then(|queue| queue.position()) {
            ring.next = next;
        }
        Ok(ring.next)
    }

    /// Where in the guest's memory QEMU's address is.
    fn guest(&self, user: u64) -> Option<Gpa> {
        self.regions.iter().find_map(|region| {
            let offset = user.checked_sub(region.user)?;
            let is_inside = offset < region.guest.len();
            is_inside.then(|| region.guest.start().checked_add(offset))?
        })
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut header = [0; message::HEADER];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(message::DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut header)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                descriptors.extend(rights);
            }
        }
        let rest = header.get_mut(received.bytes..).unwrap_or_default();
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.socket.read_exact(rest)?;
        let fields = Reader::new(&header);
        let field = |at| fields.u32_le(at).map_err(|_short| nonsense());
        let (request, len) = (field(0)?, field(8)?);
        if len > message::LONGEST {
            return Err(nonsense());
        }
        let mut body = vec![0; usize::try_from(len).unwrap_or(0)];
        self.socket.read_exact(&mut body)?;
        Ok(Message {
            request,
            body,
            descriptors,
        })
    }

    fn answer(&mut self, request: u32, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).unwrap_or(0);
        let header = [request, message::ANSWER, len].map(u32::to_le_bytes);
        let answer = [&header.concat(), body].concat();
        self.socket.write_all(&answer)
    }
}

/// The queue that an event is for; the bits above say whether there is one.
fn queue_of(number: u64) -> usize {
    usize::try_from(number & 0xff).unwrap_or(usize::MAX)
}

/// A table of regions: how many, and of each where it is in the guest, its length, where QEMU has it,
/// and where in its file.
fn regions(body: Reader<'_>) -> Option<Vec<Region>> {
    let count = u64::from(body.u32_le(0).ok()?);
    let regions = (0..count).map(|index| {
        let at = 8 + 32 * index;
        let start = Gpa::new(body.u64_le(at).ok()?);
        Some(Region {
            guest: GpaRange::new(start, body.u64_le(at + 8).ok()?)?,
            user: body.u64_le(at + 16).ok()?,
        })
    });
    regions.collect()
}
