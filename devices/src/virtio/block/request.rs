//! A disk's request (virtio 1.2 section 5.2.6): a header, data and a place for the status.

use super::{Access, Disk, MOST_SECTORS, MOST_SEGMENTS, SECTOR, SERIAL_LEN};
use crate::virtio::queue::{Chain, ChainError, ChainReader, ChainWriter, Ranges};
use firstlight_base::{Gpa, GuestMem};

/// What a driver asks of a disk.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What is to be done.
    pub command: Command<'a>,
    /// How that is answered.
    pub reply: Reply<'a>,
}

/// What is to be done. All of it is inside the disk.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    /// Fill the ranges with what the disk has from `offset`.
    Read {
        /// In bytes from the disk's first.
        offset: u64,
        /// Where it goes.
        ranges: Ranges<'a>,
    },
    /// Put what the ranges have on the disk from `offset`.
    Write {
        /// In bytes from the disk's first.
        offset: u64,
        /// Where it is.
        ranges: Ranges<'a>,
    },
    /// Keep all that was written, before this is answered.
    Flush,
    /// Give up what these segments have.
    Discard(Segments),
    /// Make these segments zeros.
    WriteZeroes(Segments),
    /// Tell the disk's serial number: [`Reply::finish_with_serial`].
    TellSerial,
    /// Nothing but to answer with this status.
    Refuse(Status),
}

/// How a request went (section 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Ok,
    /// It was not done, or not all.
    IoError,
    /// The disk does not do this.
    Unsupported,
}

impl Status {
    /// What is written into the request.
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::IoError => 1,
            Self::Unsupported => 2,
        }
    }
}

/// A part of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// In bytes from the disk's first.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// Whether what makes it zeros may give up the room it takes.
    pub may_unmap: bool,
}

/// A few parts of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    segments: [Segment; MOST_SEGMENTS],
    count: usize,
}

impl Segments {
    /// The parts, in the driver's order.
    #[must_use]
    pub fn as_slice(&self) -> &[Segment] {
        self.segments.get(..self.count).unwrap_or(&[])
    }
}

/// Where a request's answer goes.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    /// The room for data.
    room: Ranges<'a>,
    status: Gpa,
    /// How much data is written where all goes well.
    data: u64,
}

/// The types of requests.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// The header's bytes, and those of a segment.
const HEADER: usize = 16;
const SEGMENT: usize = 16;

/// A segment's flag.
const UNMAP: u32 = 1;

impl<'a> Request<'a> {
    /// The request that `chain` is.
    ///
    /// What is wrong with it is answered like any other ([`Command::Refuse`]).
    ///
    /// # Errors
    ///
    /// [`ChainError`] where there is no place for an answer.
    pub fn parse(
        chain: &'a Chain,
        memory: &'a impl GuestMem,
        disk: &Disk,
    ) -> Result<Self, ChainError> {
        let mut reply = Reply::of(chain, memory)?;
        let command = Draft {
            reader: chain.reader(memory),
            room: &reply.room,
            disk,
        }
        .command()
        .unwrap_or_else(Command::Refuse);
        reply.data = match &command {
            Command::Read { ranges, .. } => ranges.bytes(),
            Command::TellSerial => reply.room.bytes().min(SERIAL_LEN as u64),
            Command::Write { .. }
            | Command::Flush
            | Command::Discard(_)
            | Command::WriteZeroes(_)
            | Command::Refuse(_) => 0,
        };
        Ok(Self { command, reply })
    }
}

/// A request while it is read.
struct Draft<'a, 'b, M> {
    reader: ChainReader<'a, M>,
    room: &'b Ranges<'a>,
    disk: &'b Disk,
}

impl<'a, M: GuestMem> Draft<'a, '_, M> {
    /// What is to be done; or why that is not.
    fn command(mut self) -> Result<Command<'a>, Status> {
        let mut header = [0; HEADER];
        self.read(&mut header)?;
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([a, b, c, d]) {
            IN => {
                let ranges = self.room.clone();
                let offset = self.extent(sector, ranges.bytes())?;
                Ok(Command::Read { offset, ranges })
            }
            OUT => {
                self.may_write()?;
                let bytes = self.reader.len();
                let offset = self.extent(sector, bytes)?;
                let ranges = self.reader.ranges(bytes).or(Err(Status::IoError))?;
                Ok(Command::Write { offset, ranges })
            }
            FLUSH => Ok(Command::Flush),
            GET_ID => Ok(Command::TellSerial),
            // A disk that cannot be written does not offer these.
            DISCARD if self.disk.access == Access::ReadWrite => {
                self.segments(0).map(Command::Discard)
            }
            WRITE_ZEROES if self.disk.access == Access::ReadWrite => {
                self.segments(UNMAP).map(Command::WriteZeroes)
            }
            _ => Err(Status::Unsupported),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<(), Status> {
        self.reader.read_exact(into).or(Err(Status::IoError))
    }

    /// "A device MUST set the status byte to VIRTIO_BLK_S_IOERR for a write request if the
    /// VIRTIO_BLK_F_RO feature if offered" (section 5.2.6.2).
    fn may_write(&self) -> Result<(), Status> {
        match self.disk.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Status::IoError),
        }
    }

    /// Where on the disk so many bytes from `sector` begin, if they are whole sectors of it.
    fn extent(&self, sector: u64, bytes: u64) -> Result<u64, Status> {
        let left = self.disk.sectors.checked_sub(sector);
        if left.is_some_and(|left| bytes / SECTOR <= left) && bytes.is_multiple_of(SECTOR) {
            return sector.checked_mul(SECTOR).ok_or(Status::IoError);
        }
        Err(Status::IoError)
    }

    /// The segments that the data is, each with no other flags than these.
    fn segments(&mut self, flags: u32) -> Result<Segments, Status> {
        let count = self.reader.len() / SEGMENT as u64;
        let count = usize::try_from(count).or(Err(Status::IoError))?;
        let is_whole = self.reader.len().is_multiple_of(SEGMENT as u64);
        if !is_whole || !(1..=MOST_SEGMENTS).contains(&count) {
            return Err(Status::IoError);
        }
        let mut segments = [Segment::default(); MOST_SEGMENTS];
        for segment in segments.iter_mut().take(count) {
            *segment = self.segment(flags)?;
        }
        Ok(Segments { segments, count })
    }

    fn segment(&mut self, known: u32) -> Result<Segment, Status> {
        let mut bytes = [0; SEGMENT];
        self.read(&mut bytes)?;
        let [sector @ .., a, b, c, d, e, f, g, h] = bytes;
        let sectors = u32::from_le_bytes([a, b, c, d]);
        let flags = u32::from_le_bytes([e, f, g, h]);
        if flags & !known != 0 {
            return Err(Status::Unsupported);
        }
        if sectors > MOST_SECTORS {
            return Err(Status::IoError);
        }
        let len = u64::from(sectors) * SECTOR;
        Ok(Segment {
            offset: self.extent(u64::from_le_bytes(sector), len)?,
            len,
            may_unmap: flags & UNMAP != 0,
        })
    }
}

impl<'a> Reply<'a> {
    /// The status is the last byte that can be written; what is before it is for data.
    fn of(chain: &'a Chain, memory: &'a impl GuestMem) -> Result<Self, ChainError> {
        let writer = chain.writer(memory);
        let short = ChainError::Short { wanted: 1, left: 0 };
        let status = chain.writable().last().ok_or(short)?.last();
        let room = writer.ranges(writer.room().checked_sub(1).ok_or(short)?)?;
        Ok(Self {
            room,
            status,
            data: 0,
        })
    }

    /// Answers with `status`, and says how much of the request was written, for the queue.
    ///
    /// # Errors
    ///
    /// [`ChainError`] where the place is no longer memory.
    pub fn finish(&self, memory: &impl GuestMem, status: Status) -> Result<u32, ChainError> {
        memory.write(self.status, &[status.byte()])?;
        // The queue is told of the bytes from the first that are written. With data missing before
        // the status, these are none.
        let written = match status {
            Status::Ok => self.data,
            Status::IoError | Status::Unsupported => 0,
        };
        let is_all = written == self.room.bytes();
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        Ok(written.saturating_add(is_all.into()))
    }

    /// Answers with the disk's serial number, as far as there is room (section 5.2.6.1).
    ///
    /// # Errors
    ///
    /// [`ChainError`] where the place is no longer memory.
    pub fn finish_with_serial(
        &self,
        memory: &impl GuestMem,
        disk: &Disk,
    ) -> Result<u32, ChainError> {
        let mut writer = ChainWriter::over(memory, self.room.clone());
        let len = usize::try_from(self.data).unwrap_or(SERIAL_LEN);
        writer.write_all(disk.serial.get(..len).unwrap_or(&disk.serial))?;
        self.finish(memory, Status::Ok)
    }
}
