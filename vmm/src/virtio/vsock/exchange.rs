//! The exchange: connects programs on the host with programs in the guest, and carries what they say.

use super::peer::{Asked, Broken, Peer, Read, Stage};
use crate::listener::{ListenError, Listener};
use firstlight_devices::virtio::vsock::{
    Connections, GuestCid, Header, Pair, Received, Shutdown, Turn,
};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::Path;

/// The most programs on the host at a time, those among them that have not said what they want, and
/// those that have not read what a guest left behind.
const MAX_PEERS: usize = Connections::MAX;

/// So many events are served before the guest's queues are.
const EVENTS: usize = 64;

/// The number by which events tell the listener from programs.
const LISTENER: u64 = 0;

/// Programs on the host, and their connections.
pub(super) struct Exchange {
    cid: GuestCid,
    listener: Listener,
    listens: bool,
    events: OwnedFd,
    connections: Connections,
    peers: BTreeMap<u64, Peer>,
    lines: BTreeMap<Pair, u64>,
    last_number: u64,
}

impl Exchange {
    pub(super) fn new(cid: GuestCid, path: &Path) -> Result<Self, ListenError> {
        let listener = Listener::bind(path)?;
        let failed = |source: Errno| ListenError::Listen {
            path: path.to_owned(),
            source: source.into(),
        };
        let events = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        let number = EventData::new_u64(LISTENER);
        epoll::add(&events, &listener, number, EventFlags::IN).map_err(failed)?;
        Ok(Self {
            cid,
            listener,
            listens: true,
            events,
            connections: Connections::new(cid),
            peers: BTreeMap::new(),
            lines: BTreeMap::new(),
            last_number: LISTENER,
        })
    }

    /// What is readable when [`serve_events`](Self::serve_events) is due.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    pub(super) fn is_clogged(&self) -> bool {
        self.connections.is_clogged()
    }

    pub(super) fn has_turn(&self) -> bool {
        self.connections.has_turn()
    }

    /// Takes a packet from the guest, behind whose header there are `available` bytes; with the
    /// connection that so many of them are for.
    pub(super) fn take_packet(&mut self, header: &Header, available: u64) -> Option<(Pair, u32)> {
        // The host may have descriptors again.
        self.listen(self.peers.len() < MAX_PEERS);
        match self.connections.receive(header, available) {
            Received::Nothing => {}
            Received::Call(pair) => self.connect(pair),
            Received::Taken(pair) => {
                let written = self.peer_of(pair).map(|peer| peer.confirm(pair));
                self.account(pair, written);
            }
            Received::Bytes(pair, len) => return Some((pair, len)),
            Received::ShutDown(pair, done) => {
                if let Some(peer) = self.peer_of(pair) {
                    peer.guest_shuts(done);
                }
                self.watch(pair);
            }
            Received::Gone(pair) => self.hang_up(pair),
        }
        None
    }

    /// Takes a packet's bytes.
    pub(super) fn take_bytes(&mut self, pair: Pair, bytes: &[u8]) {
        let written = self.peer_of(pair).map(|peer| peer.write(bytes));
        self.account(pair, written);
    }

    /// Ends a connection, whatever is under way.
    pub(super) fn reset(&mut self, pair: Pair) {
        self.connections.reset(pair);
        self.hang_up(pair);
    }

    /// The next packet for the guest, whose bytes are read into `bytes`; and how many they are.
    pub(super) fn next_packet(&mut self, bytes: &mut [u8]) -> Option<(Header, usize)> {
        while let Some(turn) = self.connections.next_turn() {
            let (pair, most) = match turn {
                Turn::Packet(header) => return Some((header, 0)),
                Turn::Bytes(pair, most) => (pair, most),
            };
            let most = bytes.len().min(most as usize);
            let room = bytes.get_mut(..most).unwrap_or_default();
            if let Some(packet) = self.read(pair, room) {
                return Some(packet);
            }
        }
        None
    }

    /// Serves programs that are ready for something, and those that come.
    pub(super) fn serve_events(&mut self) {
        let now = Timespec::default();
        let mut events = Vec::with_capacity(EVENTS);
        let room = rustix::buffer::spare_capacity(&mut events);
        // Interrupted, it is asked again.
        let _ = epoll::wait(&self.events, room, Some(&now));
        for event in events {
            let (number, flags) = (event_number(event), event.flags);
            if number == LISTENER {
                self.accept();
            } else {
                self.serve_peer(number, flags);
            }
        }
    }

    /// The guest's driver has let go of the device: no connection is left. Programs can still read
    /// what the guest sent.
    pub(super) fn guest_has_gone(&mut self) {
        self.connections = Connections::new(self.cid);
        let pairs: Vec<_> = self.lines.keys().copied().collect();
        for pair in pairs {
            self.hang_up(pair);
        }
    }

    /// Connects the guest with the program that serves the port it calls.
    fn connect(&mut self, pair: Pair) {
        let socket = self.listener.connect_to(pair.host);
        match socket {
            Ok(socket) if self.peers.len() < MAX_PEERS => {
                let number = self.add(Peer::new(socket, Stage::Talking(pair)));
                let Some(number) = number else {
                    return self.connections.reset(pair);
                };
                self.lines.insert(pair, number);
                self.connections.accept(pair);
                self.watch(pair);
            }
            Ok(_) | Err(_) => self.connections.reset(pair),
        }
    }

    /// Takes programs that want to talk, as many as there may be.
    fn accept(&mut self) {
        while self.peers.len() < MAX_PEERS {
            match self.listener.accept() {
                Ok(socket) => {
                    if let Some(number) = self.add(Peer::new(socket, Stage::Asking)) {
                        self.watch_number(number);
                    }
                }
                Err(Errno::AGAIN) => return,
                // One that has gone meanwhile, or a host without descriptors.
                Err(_) => break,
            }
        }
        self.listen(false);
    }

    /// Waits for programs, or lets them wait.
    fn listen(&mut self, listens: bool) {
        if self.listens != listens {
            self.listens = listens;
            let flags = if listens {
                EventFlags::IN
            } else {
                EventFlags::empty()
            };
            let number = EventData::new_u64(LISTENER);
            let modified = epoll::modify(&self.events, &self.listener, number, flags);
            debug_assert_eq!(modified, Ok(()), "what was added can be changed");
        }
    }

    fn serve_peer(&mut self, number: u64, flags: EventFlags) {
        let Some(peer) = self.peers.get_mut(&number) else {
            return;
        };
        let gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        match peer.stage {
            Stage::Asking => self.serve_asking(number),
            Stage::Calling(pair) if gone => self.reset(pair),
            Stage::Calling(_) => {}
            Stage::Talking(pair) if gone => self.program_has_gone(pair),
            Stage::Talking(pair) => {
                if flags.contains(EventFlags::OUT) {
                    let flushed = peer.flush();
                    self.account(pair, Some(flushed));
                }
                if flags.contains(EventFlags::IN) {
                    self.connections.has_bytes(pair);
                }
                self.watch(pair);
            }
            Stage::Draining => {
                if gone || peer.flush().is_err() || !peer.is_behind() {
                    self.remove(number);
                }
            }
        }
    }

    /// A program says which port of the guest it wants.
    fn serve_asking(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else {
            return;
        };
        let pair = match peer.ask() {
            Asked::NotYet => return,
            Asked::Port(port) => self.connections.call(port),
            Asked::Nonsense => None,
        };
        let Some(pair) = pair else {
            return self.remove(number);
        };
        peer.stage = Stage::Calling(pair);
        self.lines.insert(pair, number);
        self.watch(pair);
    }

    /// A program has closed its socket. What it wrote before goes to the guest; nobody will read what
    /// the guest wrote.
    fn program_has_gone(&mut self, pair: Pair) {
        let Some(peer) = self.peer_of(pair) else {
            return;
        };
        peer.watched = None;
        if let Some(peer) = self.lines.get(&pair).and_then(|it| self.peers.get(it)) {
            let deleted = epoll::delete(&self.events, peer.socket());
            debug_assert_eq!(deleted, Ok(()), "what was added can be taken out");
        }
        self.stop_writing(pair);
        self.connections.has_bytes(pair);
    }

    /// Reads what a program has written, for its turn.
    fn read(&mut self, pair: Pair, room: &mut [u8]) -> Option<(Header, usize)> {
        let peer = self.peer_of(pair)?;
        let gone = peer.watched.is_none();
        match peer.read(room) {
            Read::Bytes(len) => {
                let header = self.connections.sent(pair, u32::try_from(len).ok()?);
                if len < room.len() && !gone {
                    self.connections.drained(pair);
                    self.watch(pair);
                }
                return header.map(|header| (header, len));
            }
            Read::Nothing if !gone => {
                self.connections.drained(pair);
                self.watch(pair);
            }
            Read::Nothing | Read::End if gone => {
                self.shut_down(pair, Shutdown::all());
            }
            Read::Nothing | Read::End => self.shut_down(pair, Shutdown::SEND),
        }
        None
    }

    /// After something was written to a program: so much room has the guest again.
    fn account(&mut self, pair: Pair, written: Option<Result<u32, Broken>>) {
        match written {
            Some(Ok(len)) => {
                if self.connections.forwarded(pair, len) {
                    self.hang_up(pair);
                } else {
                    self.watch(pair);
                }
            }
            Some(Err(Broken)) => self.stop_writing(pair),
            // It has gone for good, and the guest was told.
            None => {}
        }
    }

    /// A program does not read any more, but what it has written goes to the guest.
    fn stop_writing(&mut self, pair: Pair) {
        if let Some(peer) = self.peer_of(pair) {
            peer.discard();
        }
        // All that was held for it.
        if self.connections.forwarded(pair, u32::MAX) {
            self.hang_up(pair);
        } else {
            self.shut_down(pair, Shutdown::RECEIVE);
        }
    }

    /// This is what a program does no more.
    fn shut_down(&mut self, pair: Pair, done: Shutdown) {
        self.connections.shut_down(pair, done);
        if self.connections.is_closing(pair) {
            self.hang_up(pair);
        } else {
            self.watch(pair);
        }
    }

    /// A connection has ended: the program reads what is left for it, and then its end.
    fn hang_up(&mut self, pair: Pair) {
        let Some(number) = self.lines.remove(&pair) else {
            return;
        };
        match self.peers.get_mut(&number) {
            Some(peer) if peer.is_behind() && peer.watched.is_some() => {
                peer.stage = Stage::Draining;
                self.watch_number(number);
            }
            Some(_) | None => self.remove(number),
        }
    }

    fn peer_of(&mut self, pair: Pair) -> Option<&mut Peer> {
        let number = self.lines.get(&pair)?;
        self.peers.get_mut(number)
    }

    /// Knows a program by a number from now on; nothing where the host cannot watch it.
    fn add(&mut self, peer: Peer) -> Option<u64> {
        self.last_number += 1;
        let number = EventData::new_u64(self.last_number);
        epoll::add(&self.events, peer.socket(), number, EventFlags::empty()).ok()?;
        self.peers.insert(self.last_number, peer);
        Some(self.last_number)
    }

    fn remove(&mut self, number: u64) {
        // Closing a socket takes it out of what is watched.
        self.peers.remove(&number);
        self.listen(true);
    }

    fn watch(&mut self, pair: Pair) {
        if let Some(&number) = self.lines.get(&pair) {
            self.watch_number(number);
        }
    }

    /// Waits for what is of use now. That a program goes is always noticed.
    fn watch_number(&mut self, number: u64) {
        let Some(peer) = self.peers.get_mut(&number) else {
            return;
        };
        let reads = match peer.stage {
            Stage::Asking => true,
            Stage::Talking(pair) => self.connections.wants_bytes(pair),
            Stage::Calling(_) | Stage::Draining => false,
        };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, reads);
        flags.set(EventFlags::OUT, peer.is_behind());
        if peer.watched.is_some_and(|watched| watched != flags) {
            peer.watched = Some(flags);
            let data = EventData::new_u64(number);
            let modified = epoll::modify(&self.events, peer.socket(), data, flags);
            debug_assert_eq!(modified, Ok(()), "what was added can be changed");
        }
    }
}

fn event_number(event: Event) -> u64 {
    let data = event.data;
    data.u64()
}
