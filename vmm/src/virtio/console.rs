//! The console device's other half: the first port is the guest's console, and the others have names
//! by which programs in the guest find them.

mod line;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use line::ConsoleLine;
pub(crate) use status::{NAME as STATUS_PORT, StatusLine, status_port};

use super::{Backend, Io, Stopping, VirtioDevice};
use firstlight_devices::virtio::console::{Console, PortKind, Ports, QueueRole, ScreenSize};
use firstlight_devices::virtio::queue::ChainReader;
use firstlight_devices::virtio::{Device, DeviceKind, QueueError};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags};
use std::sync::Arc;

/// How many bytes go between a request and its port's other end at a time.
const CHUNK: usize = 4096;

/// What takes the bytes that come from a port.
pub(crate) type Taker = Box<dyn FnMut(&[u8]) + Send>;

/// A port of a name, and what takes the bytes that come from it.
pub(crate) struct NamedPort {
    /// How programs in the guest find it.
    pub(crate) name: String,
    /// Where its bytes go.
    pub(crate) take: Taker,
}

/// A console at the end of `line`, and ports of names.
pub(crate) fn console(line: &Arc<ConsoleLine>, named: Vec<NamedPort>) -> VirtioDevice {
    let ports = u8::try_from(1 + named.len()).expect("a console device has few ports");
    let chip = Screen {
        chip: Console::new(ports, line.size()),
        line: Arc::clone(line),
    };
    VirtioDevice::new("console", chip, ConsoleBackend::new(line, named))
}

/// What the driver sees, of which the screen's size changes.
#[derive(Debug)]
struct Screen {
    chip: Console,
    line: Arc<ConsoleLine>,
}

impl Device for Screen {
    fn kind(&self) -> DeviceKind {
        self.chip.kind()
    }

    fn features(&self) -> u64 {
        self.chip.features()
    }

    fn queue_sizes(&self) -> &[u16] {
        self.chip.queue_sizes()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut chip = self.chip.clone();
        if let Some(size) = self.line.size() {
            chip.resize(size);
        }
        chip.read_config(offset, data);
    }
}

/// The device's other half.
struct ConsoleBackend {
    line: Arc<ConsoleLine>,
    ports: Ports,
    takers: Vec<Taker>,
    is_multiport: bool,
    /// The screen's size that the driver knows.
    size: Option<ScreenSize>,
}

impl ConsoleBackend {
    fn new(line: &Arc<ConsoleLine>, named: Vec<NamedPort>) -> Self {
        let size = line.size();
        let names = named.iter().map(|port| PortKind::Named(port.name.clone()));
        Self {
            line: Arc::clone(line),
            ports: Ports::new([PortKind::Console].into_iter().chain(names), size),
            takers: named.into_iter().map(|port| port.take).collect(),
            is_multiport: false,
            size,
        }
    }

    /// Passes on what comes from a port.
    fn take(&mut self, port: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        let line = &self.line;
        let mut taker = port.checked_sub(1).map(|named| self.takers.get_mut(named));
        let mut pass_on = |bytes: &[u8]| match &mut taker {
            None => line.print(bytes),
            Some(Some(taker)) => taker(bytes),
            Some(None) => {}
        };
        let stopping = io.stopping();
        io.serve(QueueRole::Transmit(port).queue(), |request, memory| {
            read_all(request.reader(memory), stopping, &mut pass_on);
            Ok(0)
        })
    }

    /// Hears what the driver says about ports.
    fn hear(&mut self, io: &mut Io<'_>) -> Result<(), QueueError> {
        let ports = &mut self.ports;
        io.serve(QueueRole::ControlTransmit.queue(), |request, memory| {
            let mut message = [0; Ports::MESSAGE];
            if request.reader(memory).read_exact(&mut message).is_ok() {
                ports.receive(&message);
            }
            Ok(0)
        })
    }

    /// Says what there is to say about ports, as far as the driver has buffers.
    fn tell(&mut self, io: &mut Io<'_>) -> Result<(), QueueError> {
        let queue = QueueRole::ControlReceive.queue();
        let ports = &mut self.ports;
        // Buffers without room may come for ever.
        while !io.stopping().is_wanted()
            && ports.has_message()
            && give(queue, io, |room| {
                let mut message = ports.next_message().unwrap_or_default();
                message.truncate(room);
                message
            })?
        {}
        io.tell(queue)
    }

    /// Gives the guest what was typed, as far as it has buffers and listens.
    fn type_in(&self, io: &mut Io<'_>) -> Result<(), QueueError> {
        if self.is_multiport && !self.ports.is_open(0) {
            return Ok(());
        }
        let queue = QueueRole::Receive(0).queue();
        while !io.stopping().is_wanted()
            && self.line.has_input()
            && give(queue, io, |room| self.line.take_input(room.min(CHUNK)))?
        {}
        io.tell(queue)
    }
}

/// Fills a request of `queue` with what there is for so many bytes of room; false where the driver
/// has made no request.
fn give(
    queue: usize,
    io: &mut Io<'_>,
    what: impl FnOnce(usize) -> Vec<u8>,
) -> Result<bool, QueueError> {
    let memory = io.memory();
    let Some(request) = io.pop(queue)? else {
        // One may have come meanwhile.
        return match io.queue(queue) {
            Some(ring) => ring.listen(memory),
            None => Ok(false),
        };
    };
    let token = request.token();
    let mut writer = request.writer(memory);
    let room = usize::try_from(writer.room()).unwrap_or(usize::MAX);
    if room > 0 {
        // It fits, and that the request is memory was seen when it was popped.
        let _ = writer.write_all(&what(room));
    }
    let written = writer.written();
    if let Some(ring) = io.queue(queue) {
        ring.push(memory, token, written)?;
    }
    Ok(true)
}

/// Reads all bytes of a request, some at a time, unless the device is to stop: a request can have 4 GiB.
fn read_all(
    mut request: ChainReader<'_, GuestMemory>,
    stopping: Stopping<'_>,
    mut pass_on: impl FnMut(&[u8]),
) {
    let mut bytes = [0; CHUNK];
    while !request.is_empty() && !stopping.is_wanted() {
        let len = usize::try_from(request.len()).unwrap_or(CHUNK).min(CHUNK);
        let Some(bytes) = bytes.get_mut(..len) else {
            return;
        };
        if request.read_exact(bytes).is_err() {
            return;
        }
        pass_on(bytes);
    }
}

impl Backend for ConsoleBackend {
    fn started(&mut self, features: u64) {
        self.is_multiport = Console::is_multiport(features);
        self.ports.reset();
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        vec![PollFd::from_borrowed_fd(self.line.typed(), PollFlags::IN)]
    }

    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        match QueueRole::of(queue) {
            QueueRole::Transmit(port) => self.take(port, io),
            QueueRole::Receive(0) => self.type_in(io),
            // Nothing is said to ports of names.
            QueueRole::Receive(_) => Ok(()),
            QueueRole::ControlReceive => self.tell(io),
            QueueRole::ControlTransmit => {
                self.hear(io)?;
                self.tell(io)?;
                self.type_in(io)
            }
        }
    }

    fn ready(&mut self, _ready: &[PollFlags], io: &mut Io<'_>) -> Result<(), QueueError> {
        self.line.answer();
        let size = self.line.size();
        if let Some(size) = size.filter(|_| size != self.size) {
            self.size = Some(size);
            self.ports.resize(size);
            io.tell_of_configuration();
            self.tell(io)?;
        }
        self.type_in(io)
    }
}
