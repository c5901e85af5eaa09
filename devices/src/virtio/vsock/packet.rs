//! What stands before every packet's bytes (virtio 1.2, section 5.10.6).

use super::GuestCid;

/// The host's context identifier (section 5.10.4).
const HOST_CID: u64 = 2;

/// The two ports of a connection, which name it: the rest of both addresses never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The port on the host.
    pub host: u32,
    /// The port in the guest.
    pub guest: u32,
}

/// A kind of socket (section 5.10.6.2), known to us or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketType(pub u16);

impl SocketType {
    /// Bytes in order, without boundaries: the one kind that there is here.
    pub const STREAM: Self = Self(1);
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks for a connection.
    Request,
    /// Grants it.
    Response,
    /// Refuses it, or ends it whatever is under way.
    Reset,
    /// Says what its sender will do no more.
    Shutdown,
    /// Brings bytes.
    Bytes,
    /// Says how much room there is.
    CreditUpdate,
    /// Asks how much room there is.
    CreditRequest,
    /// Something that nobody has specified.
    Unknown(u16),
}

impl From<u16> for Operation {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Bytes,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            unknown => Self::Unknown(unknown),
        }
    }
}

impl From<Operation> for u16 {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Request => 1,
            Operation::Response => 2,
            Operation::Reset => 3,
            Operation::Shutdown => 4,
            Operation::Bytes => 5,
            Operation::CreditUpdate => 6,
            Operation::CreditRequest => 7,
            Operation::Unknown(number) => number,
        }
    }
}

bitflags::bitflags! {
    /// What one side of a connection will do no more (section 5.10.6.5). Once said, it stays so.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Shutdown: u32 {
        /// It receives no more bytes.
        const RECEIVE = 1 << 0;
        /// It sends no more bytes.
        const SEND = 1 << 1;
    }
}

/// The header of a packet, `struct virtio_vsock_hdr`, as its sender claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sends it.
    pub source_cid: u64,
    /// Whom it is for.
    pub destination_cid: u64,
    /// The sender's port.
    pub source_port: u32,
    /// The other one's port.
    pub destination_port: u32,
    /// How many bytes follow.
    pub len: u32,
    /// Between what kind of sockets.
    pub socket_type: SocketType,
    /// What it is for.
    pub operation: Operation,
    /// What this means depends on the operation.
    pub flags: u32,
    /// How many bytes the sender's side of the connection holds at most.
    pub buffer: u32,
    /// How many bytes have left that, modulo 2³².
    pub forwarded: u32,
}

impl Header {
    /// How many bytes it takes.
    pub const LEN: usize = 44;

    /// The header in `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let mut rest = Fields(bytes);
        Self {
            source_cid: u64::from_le_bytes(rest.take()),
            destination_cid: u64::from_le_bytes(rest.take()),
            source_port: u32::from_le_bytes(rest.take()),
            destination_port: u32::from_le_bytes(rest.take()),
            len: u32::from_le_bytes(rest.take()),
            socket_type: SocketType(u16::from_le_bytes(rest.take())),
            operation: u16::from_le_bytes(rest.take()).into(),
            flags: u32::from_le_bytes(rest.take()),
            buffer: u32::from_le_bytes(rest.take()),
            forwarded: u32::from_le_bytes(rest.take()),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields: [&[u8]; 10] = [
            &self.source_cid.to_le_bytes(),
            &self.destination_cid.to_le_bytes(),
            &self.source_port.to_le_bytes(),
            &self.destination_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.socket_type.0.to_le_bytes(),
            &u16::from(self.operation).to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buffer.to_le_bytes(),
            &self.forwarded.to_le_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// A packet from the host to the guest's end of `pair`, without bytes or credit.
    #[must_use]
    pub(super) const fn to_guest(cid: GuestCid, pair: Pair, operation: Operation) -> Self {
        Self {
            source_cid: HOST_CID,
            destination_cid: cid.get(),
            source_port: pair.host,
            destination_port: pair.guest,
            len: 0,
            socket_type: SocketType::STREAM,
            operation,
            flags: 0,
            buffer: 0,
            forwarded: 0,
        }
    }

    /// The connection that a packet from the guest is about; `None` where it is not from the guest
    /// `cid` or not to the host.
    pub(super) const fn pair_from_guest(&self, cid: GuestCid) -> Option<Pair> {
        if self.source_cid != cid.get() || self.destination_cid != HOST_CID {
            return None;
        }
        Some(Pair {
            host: self.destination_port,
            guest: self.source_port,
        })
    }
}

/// The fields that follow, lowest first.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes; zeros beyond the end.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.0.split_first_chunk() else {
            return [0; N];
        };
        self.0 = rest;
        *first
    }
}
