//! Compressed blocks: literals, and the sequences that put them together (RFC 8878, section
//! 3.1.1.3).

use super::BLOCK_MAX;
use super::huffman::Huffman;
use super::sequence::{self, Sequence, Sequences, Table};
use alloc::vec::Vec;

/// Why a block could not be unpacked.
pub(super) enum Stop {
    /// There is no room for it.
    Full,
    /// It has this, which it must not have.
    Corrupt(&'static str),
}

/// What one block of a frame leaves for the next.
pub(super) struct Decoder {
    huffman: Option<Huffman>,
    literals_table: Option<Table>,
    offsets_table: Option<Table>,
    matches_table: Option<Table>,
    /// The distances used last, latest first.
    recent: [u32; 3],
    /// Room for literals that are unpacked before they are used.
    literals: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            huffman: None,
            literals_table: None,
            offsets_table: None,
            matches_table: None,
            recent: [1, 4, 8],
            literals: Vec::new(),
        }
    }
}

impl Decoder {
    /// Unpacks `block` into `frame`, of which the bytes before `end` are there already; gives how
    /// many it added.
    pub(super) fn unpack(
        &mut self,
        block: &[u8],
        frame: &mut [u8],
        end: usize,
    ) -> Result<usize, Stop> {
        let mut buffer = core::mem::take(&mut self.literals);
        let (literals, rest) = self
            .literals(block, &mut buffer)
            .ok_or(Stop::Corrupt("literals that make no sense"))?;
        let added = self.sequences(rest, literals, frame, end);
        self.literals = buffer;
        added
    }

    /// The block's literals, unpacked into `buffer` where they must be, and what follows them
    /// (section 3.1.1.3.1).
    fn literals<'a>(
        &mut self,
        block: &'a [u8],
        buffer: &'a mut Vec<u8>,
    ) -> Option<(&'a [u8], &'a [u8])> {
        let header = LiteralsHeader::read(block)?;
        if header.unpacked > BLOCK_MAX {
            return None;
        }
        let content = block.get(header.len..)?;
        match header.kind {
            LiteralsKind::Raw => content.split_at_checked(header.unpacked),
            LiteralsKind::Repeated => {
                let (&byte, rest) = content.split_first()?;
                buffer.clear();
                buffer.resize(header.unpacked, byte);
                Some((buffer, rest))
            }
            LiteralsKind::Compressed | LiteralsKind::Treeless => {
                let (mut packed, rest) = content.split_at_checked(header.packed)?;
                if matches!(header.kind, LiteralsKind::Compressed) {
                    let (huffman, streams) = Huffman::read(packed)?;
                    self.huffman = Some(huffman);
                    packed = streams;
                }
                buffer.resize(header.unpacked, 0);
                let huffman = self.huffman.as_ref()?;
                if header.has_four_streams {
                    huffman.decode_four(packed, buffer)?;
                } else {
                    huffman.decode(packed, buffer)?;
                }
                Some((buffer, rest))
            }
        }
    }

    /// Carries out the sequences in `bytes` (section 3.1.1.3.2).
    fn sequences(
        &mut self,
        bytes: &[u8],
        literals: &[u8],
        frame: &mut [u8],
        end: usize,
    ) -> Result<usize, Stop> {
        const TABLES: Stop = Stop::Corrupt("sequence tables that make no sense");
        let mut writer = Writer {
            literals,
            frame,
            at: end,
            most: end.saturating_add(BLOCK_MAX),
        };
        let (count, rest) =
            sequence_count(bytes).ok_or(Stop::Corrupt("no sequences and no end"))?;
        if count == 0 {
            if !rest.is_empty() {
                return Err(Stop::Corrupt("bytes behind its end"));
            }
            writer.rest()?;
            return Ok(writer.at.saturating_sub(end));
        }
        let stream = self.read_tables(rest).ok_or(TABLES)?;
        let (Some(for_literals), Some(for_offsets), Some(for_matches)) = (
            &self.literals_table,
            &self.offsets_table,
            &self.matches_table,
        ) else {
            return Err(TABLES);
        };
        let mut sequences = Sequences::new(stream, count, [for_literals, for_offsets, for_matches])
            .ok_or(Stop::Corrupt("no bits for its sequences"))?;
        let mut recent = self.recent;
        for sequence in sequences.by_ref() {
            let offset =
                distance(&sequence, &mut recent).ok_or(Stop::Corrupt("a distance of no bytes"))?;
            writer.literals(sequence.literals as usize)?;
            writer.repeat(offset as usize, sequence.len as usize)?;
        }
        sequences.bits.refill();
        if !sequences.bits.is_done() {
            return Err(Stop::Corrupt("more or fewer bits than its sequences"));
        }
        self.recent = recent;
        writer.rest()?;
        Ok(writer.at.saturating_sub(end))
    }

    /// Reads the tables' modes and descriptions; gives the sequences' bits.
    fn read_tables<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (&modes, rest) = bytes.split_first()?;
        if modes & 3 != 0 {
            return None;
        }
        let rest = Table::read(
            &sequence::LITERALS,
            modes >> 6,
            &mut self.literals_table,
            rest,
        )?;
        let rest = Table::read(
            &sequence::OFFSETS,
            modes >> 4,
            &mut self.offsets_table,
            rest,
        )?;
        Table::read(
            &sequence::MATCHES,
            modes >> 2,
            &mut self.matches_table,
            rest,
        )
    }
}

/// How many sequences there are, and what follows the number (section 3.1.1.3.2.1).
fn sequence_count(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match bytes {
        [255, low, high, rest @ ..] => {
            let count = u32::from(u16::from_le_bytes([*low, *high]));
            Some((count.wrapping_add(0x7f00), rest))
        }
        [high @ 128..=254, low, rest @ ..] => {
            Some((u32::from(u16::from_be_bytes([high & 0x7f, *low])), rest))
        }
        [count @ 0..128, rest @ ..] => Some((u32::from(*count), rest)),
        _ => None,
    }
}

/// The distance that a sequence means, which may be one of the recent (section 3.1.2.5, "Repeat
/// Offsets"); `None` where it is 0.
#[inline(always)]
fn distance(sequence: &Sequence, recent: &mut [u32; 3]) -> Option<u32> {
    let [first, second, third] = *recent;
    let code = sequence.offset;
    if let Some(distance) = code.checked_sub(3)
        && distance > 0
    {
        *recent = [distance, first, second];
        return Some(distance);
    }
    // Without literals the latest would only go on with the match before.
    let index = code.wrapping_add(u32::from(sequence.literals == 0));
    let distance = match index {
        1 => return Some(first),
        2 => second,
        3 => {
            *recent = [third, first, second];
            return Some(third);
        }
        _ => {
            let distance = first.checked_sub(1).filter(|&distance| distance > 0)?;
            *recent = [distance, first, second];
            return Some(distance);
        }
    };
    *recent = [distance, first, third];
    Some(distance)
}

enum LiteralsKind {
    Raw,
    Repeated,
    Compressed,
    /// With the tree of the block before.
    Treeless,
}

/// A literals section's header (section 3.1.1.3.1.1).
struct LiteralsHeader {
    kind: LiteralsKind,
    has_four_streams: bool,
    unpacked: usize,
    packed: usize,
    len: usize,
}

impl LiteralsHeader {
    fn read(block: &[u8]) -> Option<Self> {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(block.iter().take(5)) {
            *to = *from;
        }
        let word = u64::from_le_bytes(bytes);
        let field = |shift: u32, bits: u32| {
            let mask = 1_u64.wrapping_shl(bits).wrapping_sub(1);
            usize::try_from(word.wrapping_shr(shift) & mask).unwrap_or(usize::MAX)
        };
        let format = field(2, 2);
        let kind = match field(0, 2) {
            0 => LiteralsKind::Raw,
            1 => LiteralsKind::Repeated,
            2 => LiteralsKind::Compressed,
            _ => LiteralsKind::Treeless,
        };
        let header = match (&kind, format) {
            (LiteralsKind::Raw | LiteralsKind::Repeated, format) => {
                let (shift, bits, len) = match format {
                    0 | 2 => (3, 5, 1),
                    1 => (4, 12, 2),
                    _ => (4, 20, 3),
                };
                Self {
                    kind,
                    has_four_streams: false,
                    unpacked: field(shift, bits),
                    packed: 0,
                    len,
                }
            }
            (LiteralsKind::Compressed | LiteralsKind::Treeless, format) => {
                let (bits, len) = match format {
                    0 | 1 => (10, 3),
                    2 => (14, 4),
                    _ => (18, 5),
                };
                Self {
                    kind,
                    has_four_streams: format != 0,
                    unpacked: field(4, bits),
                    packed: field(bits.wrapping_add(4), bits),
                    len,
                }
            }
        };
        (block.len() >= header.len).then_some(header)
    }
}

/// Puts literals and repeated bytes behind each other.
struct Writer<'a> {
    /// Literals not used yet.
    literals: &'a [u8],
    frame: &'a mut [u8],
    /// Where in the frame the next byte goes.
    at: usize,
    /// How far the block may go.
    most: usize,
}

/// Short copies move this many bytes, whatever they need, where there is room behind them.
const SHORT: usize = 16;

impl Writer<'_> {
    #[inline(always)]
    fn literals(&mut self, len: usize) -> Result<(), Stop> {
        let end = self.end(len)?;
        if len <= SHORT
            && let Some(from) = self.literals.first_chunk::<SHORT>()
            && let Some(to) = self
                .frame
                .get_mut(self.at..)
                .and_then(|room| room.first_chunk_mut())
        {
            *to = *from;
        } else {
            let from = self.literals.get(..len).ok_or(Self::TOO_MANY)?;
            self.frame
                .get_mut(self.at..end)
                .ok_or(Stop::Full)?
                .copy_from_slice(from);
        }
        self.literals = self.literals.get(len..).ok_or(Self::TOO_MANY)?;
        self.at = end;
        Ok(())
    }

    const TOO_MANY: Stop = Stop::Corrupt("sequences for more literals than it has");

    #[inline(always)]
    fn repeat(&mut self, offset: usize, len: usize) -> Result<(), Stop> {
        let end = self.end(len)?;
        let from = self
            .at
            .checked_sub(offset)
            .ok_or(Stop::Corrupt("a distance to before the frame"))?;
        if offset >= SHORT && end.saturating_add(SHORT) <= self.frame.len() {
            let mut from = from;
            let mut to = self.at;
            while to < end {
                let Some(bytes) = self
                    .frame
                    .get(from..)
                    .and_then(<[u8]>::first_chunk::<SHORT>)
                    .copied()
                else {
                    return Err(Stop::Full);
                };
                let Some(room) = self
                    .frame
                    .get_mut(to..)
                    .and_then(<[u8]>::first_chunk_mut::<SHORT>)
                else {
                    return Err(Stop::Full);
                };
                *room = bytes;
                from = from.wrapping_add(SHORT);
                to = to.wrapping_add(SHORT);
            }
        } else {
            self.repeat_near(from, end)?;
        }
        self.at = end;
        Ok(())
    }

    /// Repeats bytes that may overlap with what they become: twice as many each time.
    #[inline(never)]
    fn repeat_near(&mut self, from: usize, end: usize) -> Result<(), Stop> {
        let pattern = self.frame.get_mut(from..end).ok_or(Stop::Full)?;
        let mut there = self.at.saturating_sub(from);
        while there < pattern.len() {
            let (have, room) = pattern.split_at_mut_checked(there).ok_or(Stop::Full)?;
            let len = have.len().min(room.len());
            let (Some(to), Some(from)) = (room.get_mut(..len), have.get(..len)) else {
                return Err(Stop::Full);
            };
            to.copy_from_slice(from);
            there = there.saturating_add(len);
        }
        Ok(())
    }

    /// The literals that no sequence uses come last.
    fn rest(&mut self) -> Result<(), Stop> {
        self.literals(self.literals.len())
    }

    #[inline(always)]
    fn end(&self, len: usize) -> Result<usize, Stop> {
        let end = self.at.saturating_add(len);
        if end > self.most {
            return Err(Stop::Corrupt("more than 128 KiB in it"));
        }
        Ok(end)
    }
}
