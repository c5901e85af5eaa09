//! One connection: how far it is, and what it owes the guest.

use super::super::credit::Credit;
use super::super::packet::{Header, Operation, Pair, Shutdown};
use super::super::{BUFFER, GuestCid};
use super::Turn;

/// A connection, from the first call to the last reset.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) credit: Credit,
    pub(super) owed: Owed,
    /// What the guest does no more.
    pub(super) guest_done: Shutdown,
    /// What the host does no more.
    pub(super) host_done: Shutdown,
    /// Whether it is in the row of those that owe something.
    pub(super) has_turn: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The host waits for the guest's answer.
    HostCalls,
    /// The guest waits for the host's answer.
    GuestCalls,
    /// There is a connection.
    Open,
}

bitflags::bitflags! {
    /// What the guest is to be sent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Owed: u8 {
        const REQUEST = 1 << 0;
        const RESPONSE = 1 << 1;
        const CREDIT_UPDATE = 1 << 2;
        const CREDIT_REQUEST = 1 << 3;
        /// The host's bytes, which it has.
        const BYTES = 1 << 4;
        const SHUTDOWN = 1 << 5;
        /// No debt: the guest was asked for room and has not said anything since.
        const CREDIT_ASKED = 1 << 6;
    }
}

/// What is a packet of its own, in the order in which they go out.
const PACKETS: [(Owed, Operation); 5] = [
    (Owed::REQUEST, Operation::Request),
    (Owed::RESPONSE, Operation::Response),
    (Owed::CREDIT_UPDATE, Operation::CreditUpdate),
    (Owed::CREDIT_REQUEST, Operation::CreditRequest),
    (Owed::SHUTDOWN, Operation::Shutdown),
];

impl Connection {
    pub(super) const fn new(state: State, owed: Owed) -> Self {
        Self {
            state,
            credit: Credit::new(),
            owed,
            guest_done: Shutdown::empty(),
            host_done: Shutdown::empty(),
            has_turn: false,
        }
    }

    /// Whether the guest has been called and not answered.
    pub(super) fn is_called(&self) -> bool {
        self.state == State::HostCalls && !self.owed.contains(Owed::REQUEST)
    }

    /// Whether only the guest's last reset is missing.
    pub(super) fn is_closing(&self) -> bool {
        self.host_done.is_all()
    }

    /// Whether the guest does nothing more, and all that it sent has left: a reset is what it waits
    /// for then.
    pub(super) fn is_over(&self) -> bool {
        self.guest_done.is_all() && self.credit.held() == 0
    }

    /// Whether the guest may send `len` bytes now, of which it has `available`.
    pub(super) fn accepts(&mut self, len: u32, available: u64) -> bool {
        self.state == State::Open
            && !self.guest_done.contains(Shutdown::SEND)
            && u64::from(len) <= available
            && self.credit.receive(len)
    }

    /// Whether the host may have bytes for the guest that nobody has asked for yet.
    pub(super) fn takes_bytes(&self) -> bool {
        self.state == State::Open
            && !self.guest_done.contains(Shutdown::RECEIVE)
            && !self.host_done.contains(Shutdown::SEND)
            && !self.owed.contains(Owed::BYTES)
    }

    pub(super) fn guest_shuts(&mut self, done: Shutdown) {
        self.guest_done |= done;
        if self.guest_done.contains(Shutdown::RECEIVE) {
            self.owed -= Owed::BYTES;
        }
    }

    pub(super) fn host_shuts(&mut self, done: Shutdown) {
        if !self.host_done.contains(done) {
            self.host_done |= done;
            self.owed |= Owed::SHUTDOWN;
        }
        if self.host_done.contains(Shutdown::SEND) {
            self.owed -= Owed::BYTES;
        }
    }

    pub(super) fn forward(&mut self, len: u32) {
        self.credit.forward(len);
        if self.credit.is_worth_announcing() {
            self.owed |= Owed::CREDIT_UPDATE;
        }
    }

    /// Whether something can go to the guest now.
    pub(super) fn is_due(&mut self) -> bool {
        if self.credit.room() > 0 {
            self.owed -= Owed::CREDIT_REQUEST | Owed::CREDIT_ASKED;
        } else if self.owed.contains(Owed::BYTES) && !self.owed.contains(Owed::CREDIT_ASKED) {
            self.owed |= Owed::CREDIT_REQUEST | Owed::CREDIT_ASKED;
        }
        PACKETS.iter().any(|(debt, _)| self.owed.contains(*debt)) || self.has_bytes_to_send()
    }

    fn has_bytes_to_send(&self) -> bool {
        self.owed.contains(Owed::BYTES) && self.credit.room() > 0
    }

    pub(super) fn next_turn(&mut self, cid: GuestCid, pair: Pair) -> Option<Turn> {
        if let Some((debt, operation)) = PACKETS.iter().find(|(debt, _)| self.owed.contains(*debt))
        {
            self.owed -= *debt;
            let mut header = Header::to_guest(cid, pair, *operation);
            if *operation == Operation::Shutdown {
                header.flags = self.host_done.bits();
            }
            self.announce(&mut header);
            return Some(Turn::Packet(header));
        }
        self.has_bytes_to_send()
            .then(|| Turn::Bytes(pair, self.credit.room().min(BUFFER)))
    }

    /// Every packet says how much room there is.
    pub(super) fn announce(&mut self, header: &mut Header) {
        self.credit.announce(header);
        self.owed -= Owed::CREDIT_UPDATE;
    }
}
