//! A program on the host at the other end of a socket, and what waits for it.

use firstlight_devices::virtio::vsock::{Pair, Shutdown};
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use std::collections::VecDeque;

/// How long the line may be by which a program says what it wants.
const LONGEST_LINE: usize = 32;

/// How far a program on the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not said which port it wants.
    Asking,
    /// The guest has not answered.
    Calling(Pair),
    /// It talks with a program in the guest.
    Talking(Pair),
    /// The guest's side has gone; what it left behind is still to be read.
    Draining,
}

/// A program on the host.
#[derive(Debug)]
pub(super) struct Peer {
    socket: OwnedFd,
    pub(super) stage: Stage,
    line: Vec<u8>,
    /// What has not been written yet.
    waiting: VecDeque<u8>,
    /// How many of its first bytes are our own words, not the guest's.
    own_words: usize,
    /// What the guest does no more.
    guest_done: Shutdown,
    /// What is waited for; `None` where nothing is any more, because the program has gone.
    pub(super) watched: Option<EventFlags>,
}

/// What a program asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It has not finished.
    NotYet,
    /// A port of the guest.
    Port(u32),
    /// Nothing that can be had.
    Nonsense,
}

/// What reading found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// None for now.
    Nothing,
    /// None any more.
    End,
}

/// The program does not read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Peer {
    pub(super) fn new(socket: OwnedFd, stage: Stage) -> Self {
        Self {
            socket,
            stage,
            line: Vec::new(),
            waiting: VecDeque::new(),
            own_words: 0,
            guest_done: Shutdown::empty(),
            watched: Some(EventFlags::empty()),
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether something waits to be written.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Reads on in the line by which the program says what it wants, and no further: what follows
    /// is the guest's.
    pub(super) fn ask(&mut self) -> Asked {
        let mut bytes = [0; LONGEST_LINE];
        let room = LONGEST_LINE - self.line.len();
        let Some(room) = bytes.get_mut(..room).filter(|room| !room.is_empty()) else {
            return Asked::Nonsense;
        };
        let there = match self.receive(room, RecvFlags::PEEK) {
            Read::Bytes(len) => len,
            Read::Nothing => return Asked::NotYet,
            Read::End => return Asked::Nonsense,
        };
        let there = room.get_mut(..there).unwrap_or_default();
        let end = there.iter().position(|&byte| byte == b'\n');
        let ours = end.map_or(there.len(), |end| end + 1);
        let ours = there.get_mut(..ours).unwrap_or_default();
        if self.receive(ours, RecvFlags::empty()) != Read::Bytes(ours.len()) {
            return Asked::Nonsense;
        }
        self.line.extend_from_slice(ours);
        match end {
            Some(_) => parse_line(&self.line).map_or(Asked::Nonsense, Asked::Port),
            None if self.line.len() == LONGEST_LINE => Asked::Nonsense,
            None => Asked::NotYet,
        }
    }

    /// Says that the guest has accepted, and what the program's own port is.
    pub(super) fn confirm(&mut self, pair: Pair) -> Result<u32, Broken> {
        self.stage = Stage::Talking(pair);
        let words = format!("OK {}\n", pair.host);
        self.own_words = words.len();
        self.waiting.extend(words.bytes());
        self.flush()
    }

    /// Writes the guest's bytes, as far as the program reads them; how many of the guest's have left.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<u32, Broken> {
        if self.is_behind() {
            self.waiting.extend(bytes);
            return Ok(0);
        }
        let written = send(&self.socket, bytes)?;
        self.waiting.extend(bytes.get(written..).unwrap_or(&[]));
        Ok(small(written))
    }

    /// Writes what waits, as far as the program reads it; how many of the guest's bytes have left.
    pub(super) fn flush(&mut self) -> Result<u32, Broken> {
        let mut flushed = 0;
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            let written = send(&self.socket, first)?;
            if written == 0 {
                break;
            }
            self.waiting.drain(..written);
            let own = self.own_words.min(written);
            self.own_words -= own;
            flushed += written - own;
        }
        self.finish();
        Ok(small(flushed))
    }

    /// Throws away what waits: nobody will read it.
    pub(super) fn discard(&mut self) {
        self.waiting.clear();
        self.own_words = 0;
    }

    /// This is what the guest does no more: the program is told when it has all that came before.
    pub(super) fn guest_shuts(&mut self, done: Shutdown) {
        self.guest_done |= done;
        if self.guest_done.contains(Shutdown::RECEIVE) {
            // Fails only where the program has gone.
            let _ = net::shutdown(&self.socket, net::Shutdown::Read);
        }
        self.finish();
    }

    fn finish(&self) {
        if self.guest_done.contains(Shutdown::SEND) && !self.is_behind() {
            let _ = net::shutdown(&self.socket, net::Shutdown::Write);
        }
    }

    /// Reads what the program has written.
    pub(super) fn read(&self, into: &mut [u8]) -> Read {
        self.receive(into, RecvFlags::empty())
    }

    fn receive(&self, into: &mut [u8], flags: RecvFlags) -> Read {
        loop {
            return match net::recv(&self.socket, &mut *into, flags) {
                Ok((0, _)) => Read::End,
                Ok((len, _)) => Read::Bytes(len),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Read::Nothing,
                // One that went without reading what was written to it.
                Err(_) => Read::End,
            };
        }
    }
}

/// Writes what goes without waiting.
fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Broken> {
    loop {
        return match net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(len) => Ok(len),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(0),
            Err(_) => Err(Broken),
        };
    }
}

/// The port in `CONNECT <port>`.
fn parse_line(line: &[u8]) -> Option<u32> {
    let mut words = str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (command, port) = (words.next()?, words.next()?);
    (command.eq_ignore_ascii_case("connect") && words.next().is_none())
        .then(|| port.parse().ok())?
}

/// A number of bytes that wait, of which there are never more than the guest has credit for.
fn small(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
