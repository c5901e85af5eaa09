//! What of the guest's memory can be swapped, and which of its pages are in the file. It touches no memory.

use super::userfault::PAGE;
use std::ops::Range;

/// A piece of memory that is the process's own, and which of its pages are in the file.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Addresses in this process, whole pages.
    pub(super) range: Range<u64>,
    /// Where its first page has its place in the file.
    pub(super) offset: u64,
    kept: Vec<bool>,
}

impl Piece {
    fn new(range: Range<u64>, offset: u64) -> Self {
        let pages = usize::try_from((range.end - range.start) / PAGE).unwrap_or_default();
        Self {
            range,
            offset,
            kept: vec![false; pages],
        }
    }

    fn index(&self, at: u64) -> usize {
        let at = at.clamp(self.range.start, self.range.end);
        usize::try_from((at - self.range.start) / PAGE).unwrap_or(usize::MAX)
    }

    /// The place in the file of the page at `at`.
    pub(super) fn place(&self, at: u64) -> u64 {
        self.offset + (at - self.range.start)
    }

    /// Says of the pages of `range` whether they are in the file.
    pub(super) fn set(&mut self, range: &Range<u64>, kept: bool) {
        let pages = self.index(range.start)..self.index(range.end);
        self.kept.get_mut(pages).unwrap_or_default().fill(kept);
    }

    /// The pages from `at` on that are in the file one after the other, at most `most`.
    pub(super) fn run(&self, at: u64, most: usize) -> Range<u64> {
        let pages = self.kept.iter().skip(self.index(at)).take(most);
        let len = pages.take_while(|kept| **kept).count() as u64;
        at..at + len * PAGE
    }

    /// The first page from `at` on that is in the file.
    pub(super) fn next(&self, at: u64) -> Option<u64> {
        let first = self.index(at);
        let found = self.kept.iter().skip(first).position(|kept| *kept)?;
        Some(self.range.start + (first + found) as u64 * PAGE)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.kept.iter().filter(|kept| **kept).count() as u64 * PAGE
    }
}

/// What of `wanted` is private memory without a file, by the text of `/proc/self/maps`
/// (proc_pid_maps(5)). A kept file's pages are the host's to drop already, and shared memory is another
/// process's too.
pub(super) fn private(maps: &str, wanted: &[Range<u64>]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut offset = 0;
    for mapping in maps.lines().filter_map(anonymous) {
        for range in wanted {
            let both = mapping.start.max(range.start)..mapping.end.min(range.end);
            if both.start < both.end {
                let len = both.end - both.start;
                pieces.push(Piece::new(both, offset));
                offset += len;
            }
        }
    }
    pieces
}

/// The range of a line that tells of private memory, read and written, without a file.
fn anonymous(line: &str) -> Option<Range<u64>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let access = words.next()?;
    let inode = words.nth(2)?;
    if !(access.starts_with("rw") && access.ends_with('p') && inode == "0") {
        return None;
    }
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-5000 rw-p 00000000 00:00 0 \n\
5000-6000 rw-p 00000000 fe:00 77 /cache/image\n\
6000-9000 rw-p 00000000 00:00 0 [anon:guest]\n\
9000-a000 rw-s 00000000 00:01 9 /memfd:guest\n\
a000-b000 r--p 00000000 00:00 0 \n";

    #[test]
    fn files_and_shared_memory_are_left_out() {
        let pieces = private(MAPS, &[0x2000..0x8000, 0x9000..0xb000]);
        let found: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.range.clone(), piece.offset))
            .collect();
        assert_eq!(found, [(0x2000..0x5000, 0), (0x6000..0x8000, 0x3000)]);
    }

    #[test]
    fn lines_that_are_none_are_no_memory() {
        let all = 0..0x10_0000;
        assert!(private("\n-\nx-y rw-p 0 0 0\n1000 rw-p", std::slice::from_ref(&all)).is_empty());
    }

    #[test]
    fn runs_end_where_a_page_is_not_in_the_file() {
        let mut piece = private(MAPS, std::slice::from_ref(&(0x1000..0x5000))).remove(0);
        piece.set(&(0x2000..0x4000), true);
        assert_eq!(piece.run(0x2000, 8), 0x2000..0x4000);
        assert_eq!(piece.run(0x2000, 1), 0x2000..0x3000);
        assert_eq!(piece.run(0x4000, 8), 0x4000..0x4000);
        assert_eq!(piece.next(0x1000), Some(0x2000));
        assert_eq!(piece.next(0x4000), None);
        piece.set(&(0..0x3000), false);
        assert_eq!(piece.bytes(), 0x1000);
        assert_eq!(piece.place(0x3000), 0x2000);
    }
}
