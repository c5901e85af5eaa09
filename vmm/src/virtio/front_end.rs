//! Devices that another process serves: the front end of the protocol vhost-user (QEMU
//! `docs/interop/vhost-user.rst`).
//!
//! Registers and configuration are here; the process, which is called the back end, has the guest's memory
//! and the queues. It hears doorbells by itself. What it interrupts by comes to the device's thread.

mod channel;
#[cfg(test)]
mod tests;

use super::backend::Handover;
use super::{Backend, Io, VirtioDevice};
use crate::bell::Bell;
use crate::devices::mac;
use crate::{DeviceError, Tag};
use channel::{Channel, PATIENCE, Request};
use firstlight_base::{Gpa, GpaRange, Reader};
use firstlight_devices::virtio::{Device, DeviceKind, Features, Foreign, QueueError, QueueSetup};
use firstlight_load::GuestMemory;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A device that another process serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignDevice {
    /// What it is.
    pub kind: ForeignKind,
    /// The Unix socket that the process listens on.
    pub socket: PathBuf,
}

/// What a device is that another process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignKind {
    /// A disk.
    Block,
    /// A file system, by the name by which the guest mounts it.
    Fs(Tag),
    /// A network card, with its address where it is to have a certain one.
    Net(Option<[u8; 6]>),
}

/// What is wrong with a process that serves a device.
#[derive(Debug, thiserror::Error)]
pub enum FrontEndError {
    /// It does not listen.
    #[error("cannot connect to the back end at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has ended, or answers too late.
    #[error("the back end has gone, or does not answer within 2 seconds")]
    Lost(#[source] io::Error),
    /// What it answers is no answer.
    #[error("the back end answers message {0} of vhost-user with what is no answer")]
    Nonsense(u32),
    /// It cannot do what it takes.
    #[error("the back end has not {0}, which a device here takes")]
    Lacks(&'static str),
    /// The guest's memory cannot be handed over.
    #[error("the guest's memory has {0} pieces, more than a back end is told of")]
    ManyPieces(usize),
    /// The driver has made a queue that cannot be served.
    #[error("a queue cannot be served")]
    Broken,
    /// A queue lies where the back end has no memory.
    #[error("a queue is in no memory that the back end has")]
    Outside,
}

/// That the protocol has features (`VHOST_USER_F_PROTOCOL_FEATURES`).
const HAS_FEATURES: u64 = 1 << 30;
/// That the configuration is the back end's (`VHOST_USER_PROTOCOL_F_CONFIG`).
const HAS_CONFIG: u64 = 1 << 9;
/// The features that kinds of devices have for themselves (virtio 1.2, section 2.2), as far as those
/// here have any.
const OF_KIND: u64 = (1 << 24) - 1;
/// VIRTIO_BLK_F_MQ (section 5.2.3), and where the number of queues is then (section 5.2.4).
const BLOCK_MQ: u64 = 1 << 12;
const BLOCK_NUM_QUEUES: u64 = 34;
/// Bytes of a disk's configuration up to what came with secure erase.
const BLOCK_CONFIG: usize = 60;
/// VIRTIO_BLK_F_CONFIG_WCE: a cache that the driver switches, by writing to the configuration.
const BLOCK_CONFIG_WCE: u64 = 1 << 11;
/// What of a network card's features is the back end's, and takes no control queue (section 5.1.3): who
/// fills in checksums and cuts large packets, of bits 0, 1 and 7 to 14, and merged buffers, of bit 15.
const OF_NET: u64 = 0b1111_1111_1000_0011;
/// VIRTIO_NET_F_MAC: an address, with which the configuration begins.
const NET_MAC: u64 = 1 << 5;
/// The cards that others serve have their addresses from this number on.
const FIRST_CARD: u8 = 0x80;
/// The most queues that are made for a disk.
const MOST_QUEUES: u16 = 16;
/// The entries of each queue.
const QUEUE: u16 = 256;

/// Connects to the process that serves `device`, that of this number.
///
/// # Errors
///
/// [`DeviceError`] where it is not there, or cannot serve it.
pub(crate) fn foreign(device: &ForeignDevice, number: usize) -> Result<VirtioDevice, DeviceError> {
    let path = &device.socket;
    let socket = UnixStream::connect(path).map_err(|source| connect(path, source))?;
    Ok(attach(socket, device.kind, number)?)
}

/// Whether somebody may listen at `path`. Nobody is connected to: he might serve but once.
pub(crate) fn check(path: &Path) -> Result<(), DeviceError> {
    use std::os::unix::fs::FileTypeExt;
    let metadata = path.metadata().map_err(|source| connect(path, source))?;
    match metadata.file_type().is_socket() {
        true => Ok(()),
        false => Err(connect(path, io::ErrorKind::ConnectionRefused.into()).into()),
    }
}

fn connect(path: &Path, source: io::Error) -> FrontEndError {
    FrontEndError::Connect {
        path: path.to_owned(),
        source,
    }
}

/// A device by the process at the other end of `socket`.
fn attach(
    socket: UnixStream,
    kind: ForeignKind,
    number: usize,
) -> Result<VirtioDevice, FrontEndError> {
    let mut channel = Channel::new(socket, PATIENCE)?;
    let offered = channel.number(Request::GetFeatures)?;
    if offered & Features::VERSION_1.bits() == 0 {
        return Err(FrontEndError::Lacks("virtio 1"));
    }
    let mut has_config = false;
    if offered & HAS_FEATURES != 0 {
        let protocol = channel.number(Request::GetProtocolFeatures)? & HAS_CONFIG;
        channel.tell(Request::SetProtocolFeatures, &protocol.to_le_bytes())?;
        has_config = protocol != 0;
    }
    channel.tell(Request::SetOwner, &[])?;
    let (config, count) = match kind {
        ForeignKind::Fs(tag) => (tag.config(), 2),
        ForeignKind::Net(mac) => (mac.unwrap_or_else(|| address_of(number)).to_vec(), 2),
        ForeignKind::Block if !has_config => {
            return Err(FrontEndError::Lacks("a configuration"));
        }
        ForeignKind::Block => {
            let config = block_config(&mut channel)?;
            let count = Reader::new(&config).u16_le(BLOCK_NUM_QUEUES).unwrap_or(1);
            let is_told = offered & BLOCK_MQ != 0;
            (config, if is_told { count } else { 1 })
        }
    };
    if !(1..=MOST_QUEUES).contains(&count) {
        return Err(FrontEndError::Lacks("1 to 16 queues"));
    }
    let (device, features) = match kind {
        // The configuration is read once, and written by nobody.
        ForeignKind::Block => (DeviceKind::Block, offered & OF_KIND & !BLOCK_CONFIG_WCE),
        ForeignKind::Fs(_) => (DeviceKind::Fs, offered & OF_KIND),
        ForeignKind::Net(_) => (DeviceKind::Net, offered & OF_NET | NET_MAC),
    };
    let chip = Foreign {
        kind: device,
        features,
        // Where a packed ring stands takes more to tell than is told here.
        queue_features: Features::from_bits_truncate(offered) - Features::RING_PACKED,
        queue_sizes: vec![QUEUE; count.into()],
        config,
    };
    let name = format!("vhost-user {number}");
    let front_end = FrontEnd {
        channel: Some(channel),
        offered,
        calls: bells(count)?,
        broken: None,
        running: Vec::new(),
    };
    Ok(VirtioDevice::new(name, chip, front_end))
}

/// The address of the card that others serve of that number.
pub(crate) fn address_of(number: usize) -> [u8; 6] {
    mac(u8::try_from(number).map_or(u8::MAX, |number| FIRST_CARD.saturating_add(number)))
}

/// The configuration of a disk: where it begins, how much, no flags, and the room for it.
fn block_config(channel: &mut Channel) -> Result<Vec<u8>, FrontEndError> {
    const BEFORE: usize = 12;
    let len = u32::try_from(BLOCK_CONFIG).unwrap_or(0);
    let mut body = [0, len, 0].map(u32::to_le_bytes).as_flattened().to_vec();
    body.resize(BEFORE + BLOCK_CONFIG, 0);
    let answer = channel.ask(Request::GetConfig, &body)?;
    match answer.get(BEFORE..) {
        Some(config) if config.len() == BLOCK_CONFIG => Ok(config.to_vec()),
        _ => Err(FrontEndError::Nonsense(Request::GetConfig as u32)),
    }
}

/// Events, as many as are wanted.
fn bells(count: u16) -> Result<Vec<Bell>, FrontEndError> {
    let bells = (0..count).map(|_| Bell::new()).collect::<Result<_, _>>();
    bells.map_err(|_full| FrontEndError::Lost(io::ErrorKind::OutOfMemory.into()))
}

/// A process that serves a device, and what it interrupts by.
pub(super) struct FrontEnd {
    /// `None` when it has gone, or has said what is no answer.
    channel: Option<Channel>,
    offered: u64,
    /// An event for each queue.
    calls: Vec<Bell>,
    /// What says that a queue cannot be served, where the process is one of ours.
    broken: Option<Bell>,
    /// The queues that it serves.
    running: Vec<u32>,
}

impl Backend for FrontEnd {
    fn serves_elsewhere(&self) -> bool {
        true
    }

    fn hand_over(&mut self, queues: &Handover<'_>) -> Result<(), FrontEndError> {
        let begun = self.begin(queues);
        match begun {
            // It is the driver that is wrong, or this machine; the process has been told nothing wrong.
            Ok(()) | Err(FrontEndError::Outside | FrontEndError::ManyPieces(_)) => {}
            Err(_) => self.channel = None,
        }
        begun
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        let Some(channel) = &self.channel else {
            return Vec::new();
        };
        let calls = self
            .calls
            .iter()
            .map(|call| PollFd::new(call, PollFlags::IN));
        let socket = PollFd::new(&channel.socket, PollFlags::IN);
        let broken = self.broken.iter();
        let broken = broken.map(|broken| PollFd::new(broken, PollFlags::IN));
        [socket].into_iter().chain(broken).chain(calls).collect()
    }

    fn rung(&mut self, _queue: usize, _io: &mut Io<'_>) -> Result<(), QueueError> {
        Ok(())
    }

    fn ready(&mut self, ready: &[PollFlags], io: &mut Io<'_>) -> Result<(), QueueError> {
        let mut ready = ready.iter().map(|flags| !flags.is_empty());
        let has_word = ready.next().is_some_and(|is_ready| is_ready);
        if let Some(broken) = &self.broken
            && ready.next().is_some_and(|is_ready| is_ready)
        {
            broken.answer();
            io.break_down(&FrontEndError::Broken);
        }
        let calls = self.calls.iter().zip(0..).zip(ready);
        for ((call, queue), _) in calls.filter(|(_, is_ready)| *is_ready) {
            call.answer();
            io.interrupt(queue);
        }
        if has_word {
            // Nobody asked: it has ended, or speaks out of turn.
            self.channel = None;
            let gone = io::ErrorKind::UnexpectedEof.into();
            io.break_down(&FrontEndError::Lost(gone));
        }
        Ok(())
    }

    fn stopped(&mut self) {
        for queue in std::mem::take(&mut self.running) {
            let stopped = match &mut self.channel {
                Some(channel) => channel.ask(Request::GetVringBase, &pair(queue, 0)),
                None => return,
            };
            // Whatever it still does, it does not do it to this machine's driver any more.
            if stopped.is_err() {
                self.channel = None;
            }
        }
    }
}

impl FrontEnd {
    /// How long a process of ours may take: what it does for the guest can take the host's disks as long.
    const OWN_PATIENCE: Duration = Duration::from_secs(60);

    /// That of a process of ours, whose device's registers and configuration are `chip`.
    pub(super) fn of_our_own(socket: UnixStream, chip: &dyn Device) -> Result<Self, FrontEndError> {
        let mut channel = Channel::new(socket, Self::OWN_PATIENCE)?;
        let offered = channel.number(Request::GetFeatures)?;
        let needed = chip.features() | chip.queue_features().bits();
        if needed & !offered != 0 {
            return Err(FrontEndError::Lacks("all features"));
        }
        let count = u16::try_from(chip.queue_sizes().len()).unwrap_or(u16::MAX);
        Ok(Self {
            channel: Some(channel),
            offered,
            calls: bells(count)?,
            broken: bells(1)?.pop(),
            running: Vec::new(),
        })
    }

    /// Whether the process has gone, or has said what is no answer.
    pub(super) fn is_lost(&self) -> bool {
        self.channel.is_none()
    }

    fn begin(&mut self, queues: &Handover<'_>) -> Result<(), FrontEndError> {
        let gone = || FrontEndError::Lost(io::ErrorKind::NotConnected.into());
        let channel = self.channel.as_ref().ok_or_else(gone)?;
        let has_features = self.offered & HAS_FEATURES;
        let features = queues.start.features & self.offered | has_features;
        channel.tell(Request::SetFeatures, &features.to_le_bytes())?;
        share(channel, queues.memory)?;
        if let Some(broken) = &self.broken {
            broken.answer();
            channel.hand(Request::SetVringErr, &[0; 8], &[broken.as_fd()])?;
        }
        let setups = queues.start.queues.iter().zip(queues.bells);
        for (((setup, kick), call), queue) in setups.zip(&self.calls).zip(0_u32..) {
            let Some(setup) = setup else {
                continue;
            };
            // What rang for the last driver is not this one's.
            call.answer();
            let number = u64::from(queue).to_le_bytes();
            channel.tell(Request::SetVringNum, &pair(queue, setup.size.into()))?;
            channel.tell(Request::SetVringBase, &pair(queue, 0))?;
            let addresses = addresses(queue, setup, queues.memory)?;
            channel.tell(Request::SetVringAddr, &addresses)?;
            channel.hand(Request::SetVringCall, &number, &[call.as_fd()])?;
            channel.hand(Request::SetVringKick, &number, &[kick.as_fd()])?;
            if has_features != 0 {
                channel.tell(Request::SetVringEnable, &pair(queue, 1))?;
            }
            self.running.push(queue);
            // What the driver rang for before is in the queue.
            kick.ring();
        }
        Ok(())
    }
}

/// Hands over the guest's memory: of each piece where it is in the guest, its length, where it is here, and
/// where in its file.
fn share(channel: &Channel, memory: &GuestMemory) -> Result<(), FrontEndError> {
    let file = memory.file().ok_or(FrontEndError::Outside)?;
    let mut offset = 0;
    let mut table = Vec::new();
    let mut count = 0_u32;
    for region in memory.ram() {
        let (range, user) = (region.range(), region.host_address());
        let fields = [range.start().get(), range.len(), user, offset];
        table.extend_from_slice(fields.map(u64::to_le_bytes).as_flattened());
        offset += range.len();
        count += 1;
    }
    let files = vec![file; memory.ram().len()];
    let body = [pair(count, 0).as_slice(), &table].concat();
    channel.hand(Request::SetMemTable, &body, &files)
}

/// Where the parts of a queue are here, as the back end is told: its number, no flags, descriptors, used
/// ring, available ring, and no log.
fn addresses(
    queue: u32,
    setup: &QueueSetup,
    memory: &GuestMemory,
) -> Result<Vec<u8>, FrontEndError> {
    let here = |at: Gpa| {
        let byte = GpaRange::new(at, 1).ok_or(FrontEndError::Outside)?;
        let mut regions = memory.ram().iter();
        let region = regions.find(|region| region.range().contains(byte));
        let region = region.ok_or(FrontEndError::Outside)?;
        let offset = at.get() - region.range().start().get();
        Ok::<u64, FrontEndError>(region.host_address() + offset)
    };
    let parts = [
        here(setup.descriptors)?,
        here(setup.device)?,
        here(setup.driver)?,
        0,
    ];
    Ok([
        pair(queue, 0).as_slice(),
        parts.map(u64::to_le_bytes).as_flattened(),
    ]
    .concat())
}

fn pair(queue: u32, value: u32) -> [u8; 8] {
    (u64::from(queue) | u64::from(value) << 32).to_le_bytes()
}
