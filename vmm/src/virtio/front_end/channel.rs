//! The socket to a back end, by which it is asked and told (QEMU `docs/interop/vhost-user.rst`).

use super::FrontEndError;
use firstlight_base::Reader;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What is asked and told, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Request {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    SetMemTable = 5,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    SetVringEnable = 18,
    GetConfig = 24,
}

/// The version of the protocol, in the flags of every message.
const VERSION: u32 = 1;
/// The bits of that.
const VERSION_MASK: u32 = 0b11;
/// The flag of an answer.
const ANSWER: u32 = 1 << 2;
/// Bytes before what is in a message: request, flags, length.
const HEADER: usize = 12;
/// The longest answer that there is to what is asked here: a disk's configuration.
const LONGEST: u32 = 256;
/// The most descriptors that go with a message (`VHOST_USER_MAX_RAM_SLOTS` of old back ends).
const DESCRIPTORS: usize = 8;
/// How long a back end may take for an answer, or to read what it is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The socket to a back end.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) socket: UnixStream,
    patience: Duration,
}

impl Channel {
    /// The socket to a back end that may take so long for whatever it is told.
    pub(super) fn new(socket: UnixStream, patience: Duration) -> Result<Self, FrontEndError> {
        socket
            .set_write_timeout(Some(patience))
            .map_err(FrontEndError::Lost)?;
        Ok(Self { socket, patience })
    }

    /// Tells the back end something.
    pub(super) fn tell(&self, request: Request, body: &[u8]) -> Result<(), FrontEndError> {
        self.hand(request, body, &[])
    }

    /// Tells it something, and hands it descriptors with that.
    pub(super) fn hand(
        &self,
        request: Request,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), FrontEndError> {
        let len = u32::try_from(body.len()).expect("messages are short");
        let header = [request as u32, VERSION, len].map(u32::to_le_bytes);
        let message = [header.as_flattened(), body].concat();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(FrontEndError::ManyPieces(descriptors.len()));
        }
        let parts = [IoSlice::new(&message)];
        // A socket that nobody reads is an error here, and no signal.
        let sent = loop {
            match sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => break sent.map_err(|errno| FrontEndError::Lost(errno.into()))?,
            }
        };
        // So few bytes go into a socket whole, or the back end has not read for long.
        match sent == message.len() {
            true => Ok(()),
            false => Err(FrontEndError::Lost(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Asks the back end something, and waits for its answer.
    pub(super) fn ask(&mut self, request: Request, body: &[u8]) -> Result<Vec<u8>, FrontEndError> {
        self.tell(request, body)?;
        let deadline = Instant::now() + self.patience;
        let mut header = [0; HEADER];
        self.read(&mut header, deadline)?;
        let header = Reader::new(&header);
        let field = |at| {
            header
                .u32_le(at)
                .map_err(|_short| FrontEndError::Nonsense(request as u32))
        };
        let (answered, flags, len) = (field(0)?, field(4)?, field(8)?);
        let is_answer = flags & ANSWER != 0 && flags & VERSION_MASK == VERSION;
        if answered != request as u32 || !is_answer || len > LONGEST {
            return Err(FrontEndError::Nonsense(request as u32));
        }
        let mut answer = vec![0; usize::try_from(len).unwrap_or(0)];
        self.read(&mut answer, deadline)?;
        Ok(answer)
    }

    /// Asks for a number of 64 bits.
    pub(super) fn number(&mut self, request: Request) -> Result<u64, FrontEndError> {
        let answer = self.ask(request, &[])?;
        let number = Reader::new(&answer).u64_le(0);
        number.map_err(|_short| FrontEndError::Nonsense(request as u32))
    }

    /// However few bytes come at a time, it is over at `deadline`.
    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> Result<(), FrontEndError> {
        while !into.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(FrontEndError::Lost(io::ErrorKind::TimedOut.into()));
            }
            let timed = self.socket.set_read_timeout(Some(left));
            timed.map_err(FrontEndError::Lost)?;
            match self.socket.read(into) {
                Ok(0) => return Err(FrontEndError::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(len) => into = into.get_mut(len..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FrontEndError::Lost(error)),
            }
        }
        Ok(())
    }
}
