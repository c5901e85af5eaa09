//! A device of ours in a machine of QEMU's, or in a process of its own: the back end of the protocol
//! vhost-user (QEMU `docs/interop/vhost-user.rst`).
//!
//! The front end, QEMU or the process that runs the guest, has the registers, and tells by a socket where the
//! driver's queues are and by which events doorbells and interrupts go. Of the protocol's own features there
//! is none but that they are asked for, without which QEMU does not start. A queue that has all it needs runs,
//! whether or not it is said to.

#[cfg(test)]
mod tests;

use super::{Backend, Interrupt, Io, Stopping, VirtioDevice};
use crate::RunError;
use crate::bell::Bell;
use crate::signals;
use firstlight_base::{Gpa, GpaRange, Reader};
use firstlight_devices::virtio::{Cause, Chain, Features, Layout, Queue, QueueError, QueueSetup};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::error::Error;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
        let memory = Memory::Known(Arc::clone(memory));
        let mut back_end = BackEnd::new(&device, memory, socket)?;
        let mut backend = device.backend;
        let thread = thread::Builder::new()
            .name(device.name)
            .spawn(move || {
                signals::leave_to_others();
                back_end.run(&mut *backend);
            })
            .map_err(|error| RunError::host("start a thread")(error))?;
        Ok(Self {
            thread: Some(thread),
        })
    }
}

/// Lets `device` serve whoever is at the other end of `socket`, and hands over the guest's memory by that, until he
/// closes it or says what is not understood.
pub(crate) fn serve(device: VirtioDevice, socket: UnixStream) -> Result<(), RunError> {
    let nothing = GuestMemory::of_files(&[]).map_err(RunError::host("have no memory"))?;
    let mut back_end = BackEnd::new(&device, Memory::Handed(nothing), socket)?;
    let mut backend = device.backend;
    back_end.run(&mut *backend);
    Ok(())
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

/// What one can be offered whose queues begin anew each time.
const OFFERED_ANEW: Features = OFFERED.union(Features::RING_PACKED);

/// That the protocol has features (`VHOST_USER_F_PROTOCOL_FEATURES`).
const HAS_FEATURES: u64 = 1 << 30;

/// Our half of the protocol.
struct BackEnd {
    socket: UnixStream,
    memory: Memory,
    own_features: u64,
    features: Features,
    regions: Vec<Region>,
    rings: Vec<Ring>,
    queues: Vec<Option<Queue>>,
    /// A doorbell for each queue.
    bells: Vec<Arc<Bell>>,
    calls: Calls,
}

/// The guest's memory.
enum Memory {
    /// It is this process's as well: QEMU's guest can be paused, and its devices go on where they stopped.
    Known(Arc<GuestMemory>),
    /// What the front end has handed over: a device that stops is one that was reset.
    Handed(GuestMemory),
}

impl Memory {
    fn get(&self) -> &GuestMemory {
        match self {
            Self::Known(memory) => memory,
            Self::Handed(memory) => memory,
        }
    }
}

/// A part of the guest's memory, as the front end has it mapped.
#[derive(Clone, Copy, Debug)]
struct Region {
    guest: GpaRange,
    user: u64,
    /// Where it is in its file.
    offset: u64,
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

/// What interrupts go by, for each queue, and behind those what says that a queue cannot be served.
#[derive(Debug, Default)]
struct Calls(Mutex<Vec<Option<Bell>>>);

impl Calls {
    fn new(queues: usize) -> Self {
        Self(Mutex::new((0..=queues).map(|_| None).collect()))
    }

    fn all(&self) -> MutexGuard<'_, Vec<Option<Bell>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, queue: usize, call: Option<OwnedFd>) -> io::Result<()> {
        let mut calls = self.all();
        let (_, calls) = calls.split_last_mut().ok_or_else(nonsense)?;
        *calls.get_mut(queue).ok_or_else(nonsense)? = call.map(Bell::from);
        Ok(())
    }

    fn set_error(&self, event: Option<OwnedFd>) {
        if let Some(last) = self.all().last_mut() {
            *last = event.map(Bell::from);
        }
    }
}

impl Interrupt for Calls {
    fn raise(&self, cause: Cause) {
        let Cause::Queue(queue) = cause else {
            // The configuration is the front end's.
            return;
        };
        if let Some(Some(call)) = self.all().get(usize::from(queue)) {
            call.ring();
        }
    }

    /// Where the front end has given nothing to be told by, the driver finds a device that does not answer.
    fn break_down(&self, _error: &dyn Error) {
        if let Some(Some(broken)) = self.all().last() {
            broken.ring();
        }
    }
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
    pub(super) const SET_VRING_ERR: u32 = 14;
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

/// What a wait found.
struct Woken {
    has_message: bool,
    /// The queues whose doorbells ring.
    rang: Vec<usize>,
    /// What the device waits for, in its order.
    ready: Vec<PollFlags>,
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
    fn new(device: &VirtioDevice, memory: Memory, socket: UnixStream) -> Result<Self, RunError> {
        let count = device.chip.queue_sizes().len();
        let bells = (0..count).map(|_| Bell::new().map(Arc::new));
        Ok(Self {
            socket,
            memory,
            own_features: device.chip.features(),
            features: Features::empty(),
            regions: Vec::new(),
            rings: vec![Ring::default(); count],
            queues: (0..count).map(|_| None).collect(),
            bells: bells.collect::<Result<_, _>>()?,
            calls: Calls::new(count),
        })
    }

    /// Serves until the front end closes the socket, or says what is not understood.
    fn run(&mut self, backend: &mut dyn Backend) {
        let mut chain = Chain::new();
        loop {
            let woken = self.wait(backend);
            for queue in woken.rang {
                if let Some(bell) = self.bells.get(queue) {
                    bell.answer();
                }
                self.serve(&mut chain, |io| backend.rung(queue, io));
            }
            if woken.ready.iter().any(|ready| !ready.is_empty()) {
                self.serve(&mut chain, |io| backend.ready(&woken.ready, io));
            }
            if woken.has_message {
                if self.hear(backend).is_err() {
                    return;
                }
                // Whatever was left for the message is gone on with.
                for (_, bell) in self
                    .queues
                    .iter()
                    .zip(&self.bells)
                    .filter(|(queue, _)| queue.is_some())
                {
                    bell.ring();
                }
            }
        }
    }

    /// Waits for something to do.
    fn wait(&self, backend: &dyn Backend) -> Woken {
        let running = self.queues.iter().zip(&self.bells).zip(0..);
        let running: Vec<_> = running
            .filter_map(|((queue, bell), number)| queue.as_ref().map(|_| (bell, number)))
            .collect();
        let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
        let bells = running.iter();
        fds.extend(bells.map(|(bell, _)| PollFd::new(&***bell, PollFlags::IN)));
        if !running.is_empty() {
            fds.extend(backend.waits());
        }
        while let Err(error) = poll(&mut fds, None) {
            assert_eq!(
                error,
                Errno::INTR,
                "descriptors of our own can be waited for"
            );
        }
        let mut ready = fds.iter().map(PollFd::revents);
        let has_message = ready.next().is_some_and(|ready| !ready.is_empty());
        let rang = running.iter().zip(ready.by_ref());
        let rang = rang.filter_map(|((_, number), ready)| (!ready.is_empty()).then_some(*number));
        Woken {
            has_message,
            rang: rang.collect(),
            ready: ready.collect(),
        }
    }

    /// Lets the device serve, and looks at messages when it has.
    fn serve(
        &mut self,
        chain: &mut Chain,
        serve: impl FnOnce(&mut Io<'_>) -> Result<(), QueueError>,
    ) {
        let mut io = Io {
            memory: self.memory.get(),
            queues: &mut self.queues,
            bells: &self.bells,
            interrupt: &self.calls,
            stopping: Stopping::Message(self.socket.as_fd()),
            chain,
        };
        if let Err(error) = serve(&mut io) {
            // Nothing is served any more until the driver resets.
            self.queues.fill_with(|| None);
            self.calls.break_down(&error);
        }
    }

    /// Does what the next message says.
    fn hear(&mut self, backend: &mut dyn Backend) -> io::Result<()> {
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
                let offered = match self.memory {
                    Memory::Known(_) => OFFERED,
                    Memory::Handed(_) => OFFERED_ANEW,
                };
                let all = self.own_features | offered.bits() | HAS_FEATURES;
                self.answer(request, &all.to_le_bytes())?;
            }
            message::SET_FEATURES => {
                self.features = Features::from_bits_truncate(number()?);
                backend.started(number()?);
            }
            message::GET_PROTOCOL_FEATURES => self.answer(request, &[0; 8])?,
            message::SET_MEM_TABLE => {
                self.regions = regions(body).ok_or_else(nonsense)?;
                if let Memory::Handed(memory) = &mut self.memory {
                    // Where they are is over.
                    self.queues.fill_with(|| None);
                    *memory = map(&self.regions, &descriptors)?;
                }
            }
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
                let has_stopped = self.queues.iter().all(Option::is_none);
                if has_stopped && matches!(self.memory, Memory::Handed(_)) {
                    backend.stopped();
                }
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
                // What the driver rang for before is in the queue, and looked at behind this.
                self.start(queue);
            }
            message::SET_VRING_CALL => self.calls.set(queue_of(number()?), descriptors.pop())?,
            message::SET_VRING_ERR => self.calls.set_error(descriptors.pop()),
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
            layout: match self.features.contains(Features::RING_PACKED) {
                true => Layout::Packed,
                false => Layout::Split,
            },
            event_idx: self.features.contains(Features::EVENT_IDX),
            indirect: self.features.contains(Features::INDIRECT_DESC),
        };
        if let Some(place) = self.queues.get_mut(queue) {
            *place = Queue::resume(&setup, self.memory.get(), next).ok();
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

    /// Where in the guest's memory the front end's address is.
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

/// Maps what was handed over: a file for each region.
fn map(regions: &[Region], files: &[OwnedFd]) -> io::Result<GuestMemory> {
    if regions.len() != files.len() {
        return Err(nonsense());
    }
    let pieces = regions.iter().zip(files);
    let pieces: Vec<_> = pieces
        .map(|(region, file)| (region.guest, file.as_fd(), region.offset))
        .collect();
    Ok(GuestMemory::of_files(&pieces)?)
}

/// A table of regions: how many, and of each where it is in the guest, its length, where the front end has it,
/// and where in its file.
fn regions(body: Reader<'_>) -> Option<Vec<Region>> {
    let count = u64::from(body.u32_le(0).ok()?);
    let regions = (0..count).map(|index| {
        let at = 8 + 32 * index;
        let start = Gpa::new(body.u64_le(at).ok()?);
        Some(Region {
            guest: GpaRange::new(start, body.u64_le(at + 8).ok()?)?,
            user: body.u64_le(at + 16).ok()?,
            offset: body.u64_le(at + 24).ok()?,
        })
    });
    regions.collect()
}
