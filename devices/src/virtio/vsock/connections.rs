//! Every connection between the guest and the host, and what each owes the guest (virtio 1.2,
//! sections 5.10.6.3 to 5.10.6.5).

mod connection;

use super::packet::{Header, Operation, Pair, Shutdown, SocketType};
use super::{BUFFER, GuestCid};
use alloc::collections::{BTreeMap, VecDeque};
use connection::{Connection, Owed, State};

/// Where the ports begin that the host's calls come from: above those that programs choose.
const FIRST_CALLING_PORT: u32 = 1 << 30;
/// One above the last of them.
const CALLING_PORTS_END: u32 = 1 << 31;

/// So many resets may wait for room in the guest before no more packets are taken from it.
const MAX_RESETS: usize = 256;

/// The connections of one guest.
#[derive(Debug)]
pub struct Connections {
    cid: GuestCid,
    table: BTreeMap<Pair, Connection>,
    /// Those that owe the guest something, each once.
    turns: VecDeque<Pair>,
    /// Resets of what is no connection, or no more.
    resets: VecDeque<Header>,
    next_port: u32,
}

/// What a packet from the guest asks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing.
    Nothing,
    /// The guest calls this port of the host: [`Connections::accept`] it, or
    /// [`Connections::reset`] it.
    Call(Pair),
    /// The guest has taken the host's call.
    Taken(Pair),
    /// So many bytes follow for the host; [`Connections::forwarded`] says when they have left.
    Bytes(Pair, u32),
    /// This is what the guest will do no more, once what it sent has left.
    ShutDown(Pair, Shutdown),
    /// There is no such connection any more.
    Gone(Pair),
}

/// What goes to the guest next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A packet without bytes.
    Packet(Header),
    /// The host's bytes, so many at most: [`Connections::sent`] says how many they were, or
    /// [`Connections::drained`] that there were none.
    Bytes(Pair, u32),
}

impl Connections {
    /// The most connections at a time.
    pub const MAX: usize = 1024;

    /// No connections yet of the guest `cid`.
    #[must_use]
    pub const fn new(cid: GuestCid) -> Self {
        Self {
            cid,
            table: BTreeMap::new(),
            turns: VecDeque::new(),
            resets: VecDeque::new(),
            next_port: FIRST_CALLING_PORT,
        }
    }

    /// Takes a packet from the guest, behind whose header there are `available` bytes.
    ///
    /// One that is not from this guest to the host is dropped. One that no peer would send resets
    /// its connection.
    pub fn receive(&mut self, header: &Header, available: u64) -> Received {
        let Some(pair) = header.pair_from_guest(self.cid) else {
            return Received::Nothing;
        };
        // "A VIRTIO_VSOCK_OP_RST reply MUST be sent if a packet is received with an unknown type
        // value" (section 5.10.6.4.2).
        if header.socket_type != SocketType::STREAM {
            return self.answer_with_reset(pair, header);
        }
        let Some(connection) = self.table.get_mut(&pair) else {
            return self.receive_stray(pair, header);
        };
        connection.credit.learn(header);
        let received = match header.operation {
            Operation::Reset => {
                self.forget(pair);
                Received::Gone(pair)
            }
            Operation::Request if connection.is_closing() => {
                self.forget(pair);
                self.receive_stray(pair, header)
            }
            Operation::Response if connection.is_called() => {
                connection.state = State::Open;
                Received::Taken(pair)
            }
            Operation::Bytes if connection.accepts(header.len, available) => {
                Self::take_bytes(pair, connection, header.len)
            }
            Operation::Shutdown if connection.state == State::Open => {
                connection.guest_shuts(Shutdown::from_bits_truncate(header.flags));
                if connection.is_over() {
                    return self.answer_with_reset(pair, header);
                }
                Received::ShutDown(pair, connection.guest_done)
            }
            Operation::CreditUpdate => Received::Nothing,
            Operation::CreditRequest => {
                connection.owed |= Owed::CREDIT_UPDATE;
                Received::Nothing
            }
            Operation::Request
            | Operation::Response
            | Operation::Bytes
            | Operation::Shutdown
            | Operation::Unknown(_) => return self.answer_with_reset(pair, header),
        };
        self.give_turn(pair);
        received
    }

    /// Whether so many answers wait for the guest that it is to take some before more packets are
    /// taken from it (section 5.10.6.1).
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.resets.len() >= MAX_RESETS
    }

    /// Whether something waits to go to the guest.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        !self.resets.is_empty() || !self.turns.is_empty()
    }

    /// What goes to the guest next, for which there is room. The connections take turns.
    pub fn next_turn(&mut self) -> Option<Turn> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(Turn::Packet(reset));
        }
        while let Some(pair) = self.turns.pop_front() {
            let Some(connection) = self.table.get_mut(&pair) else {
                continue;
            };
            connection.has_turn = false;
            let turn = connection.next_turn(self.cid, pair);
            if !matches!(turn, Some(Turn::Bytes(..))) {
                self.give_turn(pair);
            }
            if turn.is_some() {
                return turn;
            }
        }
        None
    }

    /// The host calls a port of the guest; `None` where there are as many connections as can be.
    pub fn call(&mut self, guest: u32) -> Option<Pair> {
        if !self.make_room() {
            return None;
        }
        // There are more ports than connections.
        let pair = loop {
            let host = self.next_port;
            self.next_port += 1;
            if self.next_port == CALLING_PORTS_END {
                self.next_port = FIRST_CALLING_PORT;
            }
            let pair = Pair { host, guest };
            if !self.table.contains_key(&pair) {
                break pair;
            }
        };
        self.table
            .insert(pair, Connection::new(State::HostCalls, Owed::REQUEST));
        self.give_turn(pair);
        Some(pair)
    }

    /// The host takes the guest's call.
    pub fn accept(&mut self, pair: Pair) {
        if let Some(connection) = self.table.get_mut(&pair)
            && connection.state == State::GuestCalls
        {
            connection.state = State::Open;
            connection.owed |= Owed::RESPONSE;
            self.give_turn(pair);
        }
    }

    /// The host ends a connection, whatever is under way, or refuses a call.
    pub fn reset(&mut self, pair: Pair) {
        let Some(connection) = self.forget(pair) else {
            return;
        };
        // A call that the guest has not heard of needs no end.
        if !connection.owed.contains(Owed::REQUEST) {
            let reset = Header::to_guest(self.cid, pair, Operation::Reset);
            self.resets.push_back(reset);
        }
    }

    /// Whether bytes from the host are worth waiting for.
    #[must_use]
    pub fn wants_bytes(&self, pair: Pair) -> bool {
        self.table
            .get(&pair)
            .is_some_and(|connection| connection.takes_bytes())
    }

    /// The host has bytes for the guest, or their end: there will be a turn for them when the guest
    /// has room.
    pub fn has_bytes(&mut self, pair: Pair) {
        if let Some(connection) = self.table.get_mut(&pair)
            && connection.takes_bytes()
        {
            connection.owed |= Owed::BYTES;
            self.give_turn(pair);
        }
    }

    /// So many of the host's bytes go to the guest, behind this header; more may follow.
    pub fn sent(&mut self, pair: Pair, len: u32) -> Option<Header> {
        let connection = self.table.get_mut(&pair)?;
        connection.credit.send(len);
        let mut header = Header::to_guest(self.cid, pair, Operation::Bytes);
        header.len = len;
        connection.announce(&mut header);
        self.give_turn(pair);
        Some(header)
    }

    /// The host has no bytes for the guest any more, for now.
    pub fn drained(&mut self, pair: Pair) {
        if let Some(connection) = self.table.get_mut(&pair) {
            connection.owed -= Owed::BYTES;
            self.give_turn(pair);
        }
    }

    /// So many of the guest's bytes have left the host's side; whether the connection is over by
    /// that, because the guest has ended it and waited for them.
    pub fn forwarded(&mut self, pair: Pair, len: u32) -> bool {
        let Some(connection) = self.table.get_mut(&pair) else {
            return true;
        };
        connection.forward(len);
        let over = connection.is_over();
        if over {
            self.reset(pair);
        } else {
            self.give_turn(pair);
        }
        over
    }

    /// This is what the host will do no more. Where it is everything, the guest's answer is all
    /// that is waited for.
    pub fn shut_down(&mut self, pair: Pair, done: Shutdown) {
        if let Some(connection) = self.table.get_mut(&pair)
            && connection.state == State::Open
        {
            connection.host_shuts(done);
            self.give_turn(pair);
        }
    }

    /// Whether the host does nothing more with a connection, and only the guest's answer is missing.
    #[must_use]
    pub fn is_closing(&self, pair: Pair) -> bool {
        self.table.get(&pair).is_some_and(Connection::is_closing)
    }

    /// A packet of no connection: a call, or a stray.
    fn receive_stray(&mut self, pair: Pair, header: &Header) -> Received {
        if header.operation != Operation::Request || !self.make_room() {
            self.answer_with_reset(pair, header);
            return Received::Nothing;
        }
        let mut connection = Connection::new(State::GuestCalls, Owed::empty());
        connection.credit.learn(header);
        self.table.insert(pair, connection);
        Received::Call(pair)
    }

    /// Room for one more connection, if need be that of one whose end the guest has not confirmed
    /// for longest by number: "an implementation-specific amount of time" (section 5.10.6.5).
    fn make_room(&mut self) -> bool {
        if self.table.len() < Self::MAX {
            return true;
        }
        let closing = self.table.iter().find(|(_, it)| it.is_closing());
        let Some(pair) = closing.map(|(pair, _)| *pair) else {
            return false;
        };
        self.reset(pair);
        true
    }

    /// Ends a connection that there may be, and says so to whoever sent the packet, in its own
    /// socket type; but no reset is answered by another.
    fn answer_with_reset(&mut self, pair: Pair, header: &Header) -> Received {
        if header.operation != Operation::Reset {
            let mut reset = Header::to_guest(self.cid, pair, Operation::Reset);
            reset.socket_type = header.socket_type;
            self.resets.push_back(reset);
        }
        match self.forget(pair) {
            Some(_) => Received::Gone(pair),
            None => Received::Nothing,
        }
    }

    fn take_bytes(pair: Pair, connection: &mut Connection, len: u32) -> Received {
        if connection.host_done.contains(Shutdown::RECEIVE) {
            // They were on the way when the host went.
            connection.forward(len);
            return Received::Nothing;
        }
        match len {
            0 => Received::Nothing,
            1.. => Received::Bytes(pair, len),
        }
    }

    fn forget(&mut self, pair: Pair) -> Option<Connection> {
        let connection = self.table.remove(&pair)?;
        if connection.has_turn {
            self.turns.retain(|&turn| turn != pair);
        }
        Some(connection)
    }

    fn give_turn(&mut self, pair: Pair) {
        if let Some(connection) = self.table.get_mut(&pair)
            && !connection.has_turn
            && connection.is_due()
        {
            connection.has_turn = true;
            self.turns.push_back(pair);
        }
    }
}

const _: () = assert!(
    BUFFER as usize * Connections::MAX <= 64 << 20,
    "what a guest can make the host hold is bounded"
);
