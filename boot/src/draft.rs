//! A plan in the making: pieces find a place, and none is given away twice.

use crate::platform::Pc;
use crate::{Content, Piece, PlanError};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use firstlight_base::{Gpa, GpaRange};

/// Conventional memory: what the boot protocols want low lies here.
pub(crate) const LOW: GpaRange = range(0x1000, Pc::LEGACY_HOLE.0.get());
pub(crate) const PAGE: u64 = 0x1000;

/// The pieces placed so far, and the RAM they are placed in.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    ram: Vec<GpaRange>,
    reserved: Vec<GpaRange>,
    pieces: Vec<Piece>,
}

/// What has to be placed, before it is known where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need<'a> {
    /// What it is.
    pub(crate) name: &'a str,
    /// How many bytes; not 0.
    pub(crate) len: u64,
    /// A power of two that its address is a multiple of.
    pub(crate) align: u64,
    /// Where it has to lie, every byte of it.
    pub(crate) within: GpaRange,
    /// Why there.
    pub(crate) why: &'a str,
}

impl Draft {
    /// Nothing placed yet in `ram`, from which `reserved` has been taken out; both ascending and
    /// disjoint.
    pub(crate) fn new(ram: Vec<GpaRange>, reserved: Vec<GpaRange>) -> Self {
        Self {
            ram,
            reserved,
            pieces: vec![],
        }
    }

    /// Places `piece` where it says.
    ///
    /// # Errors
    ///
    /// [`PlanError::NotRam`] and [`PlanError::Overlap`].
    pub(crate) fn put(&mut self, piece: Piece) -> Result<(), PlanError> {
        if !self.ram.iter().any(|ram| ram.contains(piece.range)) {
            let reserved = |reserved: &&GpaRange| reserved.overlaps(piece.range);
            if let Some(&other_range) = self.reserved.iter().find(reserved) {
                return Err(PlanError::Overlap {
                    name: piece.name.into(),
                    range: piece.range,
                    other: "reserved memory".into(),
                    other_range,
                });
            }
            return Err(PlanError::NotRam {
                name: piece.name.into(),
                range: piece.range,
                ram: self.ram.clone(),
            });
        }
        self.put_firmware(piece)
    }

    /// Places `piece` where it says, RAM or not: what stands for the machine's firmware.
    ///
    /// # Errors
    ///
    /// [`PlanError::Overlap`].
    pub(crate) fn put_firmware(&mut self, piece: Piece) -> Result<(), PlanError> {
        // The pieces are disjoint and in order, so what overlaps is next to where this one goes.
        let at = self
            .pieces
            .partition_point(|other| other.range.start() < piece.range.start());
        let below = at.checked_sub(1).and_then(|below| self.pieces.get(below));
        let neighbours = below.into_iter().chain(self.pieces.get(at));
        if let Some(other) = neighbours
            .into_iter()
            .find(|other| other.range.overlaps(piece.range))
        {
            return Err(PlanError::Overlap {
                name: piece.name.into(),
                range: piece.range,
                other: other.name.clone().into(),
                other_range: other.range,
            });
        }
        self.pieces.insert(at, piece);
        Ok(())
    }

    /// The lowest free place that meets `need`.
    ///
    /// # Errors
    ///
    /// [`PlanError::NoRoom`].
    pub(crate) fn lowest(&self, need: &Need<'_>) -> Result<GpaRange, PlanError> {
        self.free()
            .into_iter()
            .filter_map(|free| {
                let free = free.intersection(need.within)?;
                let place = GpaRange::new(free.start().align_up(need.align)?, need.len)?;
                free.contains(place).then_some(place)
            })
            .min_by_key(|place| place.start())
            .ok_or_else(|| self.no_room(need))
    }

    /// The highest free place that meets `need`.
    ///
    /// # Errors
    ///
    /// [`PlanError::NoRoom`].
    pub(crate) fn highest(&self, need: &Need<'_>) -> Result<GpaRange, PlanError> {
        self.free()
            .into_iter()
            .filter_map(|free| {
                let free = free.intersection(need.within)?;
                let start = free.end().checked_sub(need.len)?.align_down(need.align)?;
                let place = GpaRange::new(start, need.len)?;
                free.contains(place).then_some(place)
            })
            .min_by_key(|place| Reverse(place.start()))
            .ok_or_else(|| self.no_room(need))
    }

    /// Places `bytes`, aligned, in the lowest free place within `within`.
    ///
    /// # Errors
    ///
    /// [`PlanError::NoRoom`].
    pub(crate) fn put_lowest(
        &mut self,
        need: &Need<'static>,
        bytes: Vec<u8>,
    ) -> Result<GpaRange, PlanError> {
        let range = self.lowest(need)?;
        self.put(Piece {
            name: need.name.into(),
            range,
            content: Content::Bytes(bytes),
            why: need.why.into(),
        })?;
        Ok(range)
    }

    /// The plan's own bytes from `at` on, where a piece of such bytes begins there.
    pub(crate) fn bytes_at(&self, at: Gpa) -> &[u8] {
        let mut pieces = self.pieces.iter();
        let piece = pieces.find(|piece| piece.range.start() == at);
        match piece.map(|piece| &piece.content) {
            Some(Content::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// All pieces, by ascending address.
    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Whether all of `range` is RAM and no piece lies in it.
    pub(crate) fn is_free(&self, range: GpaRange) -> bool {
        self.ram.iter().any(|ram| ram.contains(range))
            && !self.pieces.iter().any(|piece| piece.range.overlaps(range))
    }

    /// RAM that no piece lies in, ascending.
    pub(crate) fn free(&self) -> Vec<GpaRange> {
        let mut free = vec![];
        for ram in &self.ram {
            let mut next = ram.start();
            for piece in self.pieces.iter().filter(|piece| ram.contains(piece.range)) {
                free.extend(GpaRange::between(next, piece.range.start()));
                next = piece.range.end();
            }
            free.extend(GpaRange::between(next, ram.end()));
        }
        free
    }

    fn no_room(&self, need: &Need<'_>) -> PlanError {
        let largest = self
            .free()
            .into_iter()
            .filter_map(|free| free.intersection(need.within))
            .max_by_key(|free| free.len());
        PlanError::NoRoom {
            name: String::from(need.name),
            len: need.len,
            align: need.align,
            within: need.within,
            largest,
        }
    }
}

/// A range that is not empty by the way it is written.
pub(crate) const fn range(start: u64, end: u64) -> GpaRange {
    match GpaRange::between(Gpa::new(start), Gpa::new(end)) {
        Some(range) => range,
        None => panic!("start lies below end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(len: u64, align: u64) -> Need<'static> {
        Need {
            name: "thing",
            len,
            align,
            within: range(0, 0x1_0000),
            why: "",
        }
    }

    fn draft() -> Draft {
        Draft::new(vec![range(0x1000, 0x5000), range(0x8000, 0x2_0000)], vec![])
    }

    fn piece(range: GpaRange) -> Piece {
        Piece {
            name: "piece".into(),
            range,
            content: Content::Window,
            why: "".into(),
        }
    }

    #[test]
    fn the_lowest_and_the_highest_place_are_aligned_and_inside() {
        let draft = draft();
        assert_eq!(draft.lowest(&need(0x10, 0x2000)), Ok(range(0x2000, 0x2010)));
        assert_eq!(
            draft.highest(&need(0x10, 0x1000)),
            Ok(range(0xf000, 0xf010))
        );
        assert_eq!(draft.lowest(&need(0x4000, 1)), Ok(range(0x1000, 0x5000)));
        assert_eq!(draft.lowest(&need(0x4001, 1)), Ok(range(0x8000, 0xc001)));
    }

    #[test]
    fn a_place_is_given_away_once() {
        let mut draft = draft();
        draft.put(piece(range(0x2000, 0x3000))).unwrap();
        assert_eq!(draft.lowest(&need(0x1000, 1)), Ok(range(0x1000, 0x2000)));
        assert_eq!(draft.lowest(&need(0x1001, 1)), Ok(range(0x3000, 0x4001)));
        let again = draft.put(piece(range(0x2fff, 0x3001)));
        assert!(matches!(again, Err(PlanError::Overlap { .. })), "{again:?}");
    }

    #[test]
    fn what_is_not_ram_from_end_to_end_is_refused() {
        let outside = draft().put(piece(range(0x4fff, 0x5001)));
        assert!(
            matches!(outside, Err(PlanError::NotRam { .. })),
            "{outside:?}"
        );
    }

    #[test]
    fn a_lack_of_room_tells_the_largest_that_there_is() {
        let Err(PlanError::NoRoom { largest, .. }) = draft().lowest(&need(0x1_0000, 1)) else {
            panic!("it fits");
        };
        assert_eq!(largest, Some(range(0x8000, 0x1_0000)));
    }
}
