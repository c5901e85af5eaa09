//! Guest RAM in the host's memory.

use crate::lease::{Guard, Lease};
use crate::mapping::Mapping;
use firstlight_base::{Gpa, GpaRange, GuestMem, OutsideRam};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use std::sync::{Arc, Mutex, PoisonError};

/// Who else can map the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Nobody: private memory of this process.
    Private,
    /// Another process that is handed the file, such as QEMU.
    Shared,
}

/// Guest RAM: one host mapping for every range of guest-physical addresses.
#[derive(Debug)]
pub struct GuestMemory {
    /// Of the memory that is a file's; dropped before it is unmapped.
    guards: Mutex<Vec<Guard>>,
    regions: Vec<Region>,
    /// How many of these are RAM, and not files that were added.
    ram: usize,
    file: Option<OwnedFd>,
}

/// The size of the host's pages, on every host where KVM runs x86 guests, and of the least that
/// is mapped anywhere.
pub(crate) const PAGE: u64 = 0x1000;

/// What the host gives at once where it is asked for huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// A range of guest RAM and the host memory behind it.
#[derive(Debug)]
pub struct Region {
    range: GpaRange,
    mapping: Mapping,
}

impl Region {
    /// The guest-physical addresses.
    #[must_use]
    pub fn range(&self) -> GpaRange {
        self.range
    }

    /// Where the memory is in this process.
    #[must_use]
    pub fn host_address(&self) -> u64 {
        self.mapping.host_address()
    }
}

impl GuestMemory {
    /// Zeroed guest RAM for `ranges`, which ascend and do not overlap, as in a plan's platform.
    ///
    /// No page is touched: the host gives memory as the guest uses it.
    ///
    /// # Errors
    ///
    /// [`AllocateError`] where the host refuses.
    pub fn allocate(ranges: &[GpaRange], backing: Backing) -> Result<Self, AllocateError> {
        let bytes = ranges.iter().map(|range| range.len()).sum();
        let failed = |source| AllocateError { bytes, source };
        let file = match backing {
            Backing::Private => None,
            Backing::Shared => Some(memory_file(bytes).map_err(failed)?),
        };
        let mut offset = 0;
        let mut regions = Vec::with_capacity(ranges.len());
        for &range in ranges {
            let len = usize::try_from(range.len()).or(Err(failed(Errno::NOMEM)))?;
            let mapping = match &file {
                None => Mapping::anonymous(len),
                Some(file) => Mapping::shared(file, offset, len),
            }
            .map_err(failed)?;
            regions.push(Region { range, mapping });
            offset += range.len();
        }
        Ok(Self {
            guards: Mutex::default(),
            ram: regions.len(),
            regions,
            file,
        })
    }

    /// Another process's guest memory, in pieces: where each is in the guest, its file, and where it begins
    /// in that.
    ///
    /// The files have to stay as long as they are, as long as this value is there.
    ///
    /// # Errors
    ///
    /// [`Errno::INVAL`] where the pieces do not ascend or are no whole pages, or a file is too
    /// short; what the host says where it refuses.
    pub fn of_files(pieces: &[(GpaRange, BorrowedFd<'_>, u64)]) -> Result<Self, Errno> {
        let mut regions: Vec<Region> = Vec::with_capacity(pieces.len());
        for &(range, file, offset) in pieces {
            let is_behind = match regions.last() {
                Some(last) => last.range.end() <= range.start(),
                None => true,
            };
            let numbers = [range.start().get(), range.len(), offset];
            let is_whole = numbers.iter().all(|number| number.is_multiple_of(PAGE));
            let end = offset.checked_add(range.len()).ok_or(Errno::INVAL)?;
            let size = u64::try_from(fstat(file)?.st_size).or(Err(Errno::INVAL))?;
            if !is_behind || !is_whole || end > size {
                return Err(Errno::INVAL);
            }
            let len = usize::try_from(range.len()).or(Err(Errno::NOMEM))?;
            let mapping = Mapping::shared(file, offset, len)?;
            regions.push(Region { range, mapping });
        }
        Ok(Self {
            guards: Mutex::default(),
            ram: regions.len(),
            regions,
            file: None,
        })
    }

    /// A device's memory, in pieces: where each is in the guest, and where in the device's `file` it begins.
    ///
    /// Nobody but a guest may touch it: what the device's driver has there at a time, it alone knows.
    ///
    /// # Errors
    ///
    /// [`Errno::INVAL`] where the pieces do not ascend or are no whole pages; what the host says where it
    /// refuses.
    pub fn of_device((pieces, file): (&[(GpaRange, u64)], BorrowedFd<'_>)) -> Result<Self, Errno> {
        let mut regions: Vec<Region> = Vec::with_capacity(pieces.len());
        for &(range, offset) in pieces {
            let is_behind = match regions.last() {
                Some(last) => last.range.end() <= range.start(),
                None => true,
            };
            let numbers = [range.start().get(), range.len(), offset];
            if !is_behind || !numbers.iter().all(|number| number.is_multiple_of(PAGE)) {
                return Err(Errno::INVAL);
            }
            let len = usize::try_from(range.len()).or(Err(Errno::NOMEM))?;
            let mapping = Mapping::shared(file, offset, len)?;
            regions.push(Region { range, mapping });
        }
        Ok(Self {
            guards: Mutex::default(),
            ram: 0,
            regions,
            file: None,
        })
    }

    /// Lets the host give memory in huge pages from here on, but for the first of them: what a boot
    /// needs there is a few small things, which are not worth the time that zeroing it takes.
    ///
    /// [`place`](crate::place()) does it, before it copies what is large.
    pub fn prefer_huge_pages(&self) {
        for region in &self.regions {
            let first = if region.range.start().get() == 0 {
                HUGE_PAGE
            } else {
                0
            };
            region.mapping.prefer_huge_pages(first);
        }
    }

    /// Has the host give memory in small pages from here on, until huge ones are preferred.
    pub(crate) fn prefer_small_pages(&self) {
        for region in &self.regions {
            region.mapping.prefer_small_pages();
        }
    }

    /// Whether the memory can be files' that are mapped where the guest is to find them.
    pub(crate) fn takes_files(&self) -> bool {
        self.file.is_none()
    }

    /// Maps `len` bytes of the leased file from offset `from` at `at`, all three whole pages;
    /// false, and nothing mapped, where that cannot be.
    pub(crate) fn put_file(&self, at: Gpa, len: u64, lease: &Arc<Lease>, from: u64) -> bool {
        let Some((mapping, offset, len)) = self.pages(at, len) else {
            return false;
        };
        let address = mapping.host_address() + offset as u64;
        // Guarded first: whoever breaks the lease from here on waits for this range as well.
        let Some(guard) = lease.guard(address, len) else {
            return false;
        };
        if mapping.put_file(offset, len, lease, from).is_err() {
            return false;
        }
        self.guards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(guard);
        true
    }

    /// Lets `range` be the memory of `file`, whose first bytes the guest finds there: what it writes is
    /// in the file at once, whatever becomes of us. The file has to stay as long as that. Who else has
    /// [shared](Backing::Shared) memory does not find it there.
    ///
    /// # Errors
    ///
    /// [`Errno`] where the range is not whole pages of one piece of guest memory, or the host refuses.
    pub fn share_file(&self, range: GpaRange, file: impl AsFd) -> Result<(), Errno> {
        let pages = self.pages(range.start(), range.len());
        let (mapping, offset, len) = pages.ok_or(Errno::INVAL)?;
        mapping.share_file(offset, len, file)
    }

    /// Adds `range`, which lies behind all that is there, as the memory of `file`: its first `len` bytes are
    /// the file's, and zeros follow. What the guest writes is in a [shared](Backing::Shared) file at once, up to
    /// the end of a page behind `len`; it changes no [private](Backing::Private) one.
    ///
    /// The file has to be as long as that as long as this value is there.
    ///
    /// # Errors
    ///
    /// [`Errno`] where the range lies elsewhere, is shorter than `len`, or the host refuses.
    pub fn add_file(
        &mut self,
        range: GpaRange,
        (file, len): (impl AsFd, u64),
        backing: Backing,
    ) -> Result<(), Errno> {
        let last = self.regions.last().map(Region::range);
        let is_behind = last.is_none_or(|last| last.end() <= range.start());
        let pages = len.checked_next_multiple_of(PAGE).ok_or(Errno::INVAL)?;
        if !is_behind || pages > range.len() {
            return Err(Errno::INVAL);
        }
        let size = |len: u64| usize::try_from(len).or(Err(Errno::NOMEM));
        let mapping = Mapping::anonymous(size(range.len())?)?;
        match backing {
            Backing::Shared => mapping.share_file(0, size(pages)?, file)?,
            Backing::Private => mapping.put_file(0, size(pages)?, file, 0)?,
        }
        self.regions.push(Region { range, mapping });
        Ok(())
    }

    /// Puts fresh zeroed memory at `at`; both numbers are whole pages.
    pub(crate) fn put_zeros(&self, at: Gpa, len: u64) -> Result<(), Errno> {
        let (mapping, offset, len) = self.pages(at, len).ok_or(Errno::INVAL)?;
        mapping.put_zeros(offset, len)
    }

    /// Makes the pages of `len` bytes from `at` ready to be written.
    pub(crate) fn populate(&self, at: Gpa, len: u64) {
        if let Some((mapping, offset, len)) = self.pages(at, len) {
            mapping.populate(offset, len);
        }
    }

    /// Gives the whole pages of `range` back to the host; the guest finds zeros there, or what a file
    /// has there that was mapped.
    ///
    /// # Errors
    ///
    /// [`Errno`] where the range is not all guest memory, or the host refuses.
    pub fn discard(&self, range: GpaRange) -> Result<(), Errno> {
        let (Some(start), Some(end)) = (range.start().align_up(PAGE), range.end().align_down(PAGE))
        else {
            return Err(Errno::INVAL);
        };
        let Some(whole) = GpaRange::between(start, end) else {
            return Ok(());
        };
        let (mapping, offset, len) = self.pages(start, whole.len()).ok_or(Errno::INVAL)?;
        mapping.discard(offset, len)
    }

    /// The mapping that holds all of `range`, and where in it the range begins.
    pub(crate) fn mapping_of(&self, range: GpaRange) -> Result<(&Mapping, usize), OutsideRam> {
        let outside = OutsideRam {
            at: range.start(),
            len: range.len(),
        };
        let len = usize::try_from(range.len()).or(Err(outside))?;
        self.find(range.start(), len)
    }

    fn pages(&self, at: Gpa, len: u64) -> Option<(&Mapping, usize, usize)> {
        let len = usize::try_from(len).ok()?;
        let (mapping, offset) = self.find(at, len).ok()?;
        (offset as u64)
            .is_multiple_of(PAGE)
            .then_some((mapping, offset, len))
    }

    /// The ranges with the host memory behind them, ascending.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Those that are RAM, without the files that were added.
    #[must_use]
    pub fn ram(&self) -> &[Region] {
        self.regions.get(..self.ram).unwrap_or_default()
    }

    /// The file behind [`Backing::Shared`] memory: the ranges of [RAM](Self::ram) one after the other from
    /// offset 0.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The region that holds `len` bytes from `at`, and the offset of `at` in it.
    fn find(&self, at: Gpa, len: usize) -> Result<(&Mapping, usize), OutsideRam> {
        let outside = OutsideRam {
            at,
            len: len as u64,
        };
        self.regions
            .iter()
            .find_map(|region| {
                let offset = at.get().checked_sub(region.range.start().get())?;
                let offset = usize::try_from(offset).ok()?;
                let end = offset.checked_add(len)?;
                (end <= region.mapping.len()).then_some((&region.mapping, offset))
            })
            .ok_or(outside)
    }
}

impl GuestMem for GuestMemory {
    fn holds(&self, range: GpaRange) -> bool {
        self.mapping_of(range).is_ok()
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        let (mapping, offset) = self.find(at, into.len())?;
        let read = mapping.read(offset, into);
        assert!(read, "find() answers with an offset that holds");
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        let (mapping, offset) = self.find(at, from.len())?;
        let written = mapping.write(offset, from);
        assert!(written, "find() answers with an offset that holds");
        Ok(())
    }

    fn load_u16(&self, at: Gpa) -> Result<u16, OutsideRam> {
        let (mapping, offset) = self.find(at, size_of::<u16>())?;
        mapping.load_u16(offset).ok_or(outside_u16(at))
    }

    fn store_u16(&self, at: Gpa, value: u16) -> Result<(), OutsideRam> {
        let (mapping, offset) = self.find(at, size_of::<u16>())?;
        let stored = mapping.store_u16(offset, value);
        stored.then_some(()).ok_or(outside_u16(at))
    }
}

const fn outside_u16(at: Gpa) -> OutsideRam {
    let len = size_of::<u16>() as u64;
    OutsideRam { at, len }
}

fn memory_file(bytes: u64) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("guest-ram", flags)?;
    ftruncate(&file, bytes)?;
    // Whoever is handed it cannot take it away under this process, which would end by a signal.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// The host has no memory for the guest.
#[derive(Debug, thiserror::Error)]
#[error("the host refuses {bytes} bytes ({} MiB) of memory for the guest", bytes >> 20)]
pub struct AllocateError {
    /// How many bytes were asked for.
    pub bytes: u64,
    /// What the host said.
    pub source: Errno,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::ftruncate;

    const LEN: u64 = 4 * PAGE;

    fn range(start: u64, len: u64) -> GpaRange {
        GpaRange::new(Gpa::new(start), len).expect("a range")
    }

    #[test]
    fn memory_in_pieces_of_a_file_is_the_other_processs_own() {
        let ranges = [range(0, LEN), range(0x10_0000, LEN)];
        let memory = GuestMemory::allocate(&ranges, Backing::Shared).unwrap();
        let file = memory.file().unwrap();
        let pieces = [(ranges[0], file, 0), (ranges[1], file, LEN)];
        let other = GuestMemory::of_files(&pieces).unwrap();
        memory.write(Gpa::new(0x10_0004), b"here").unwrap();
        let mut bytes = [0; 4];
        other.read(Gpa::new(0x10_0004), &mut bytes).unwrap();
        assert_eq!(&bytes, b"here");
        assert!(other.read(Gpa::new(LEN), &mut bytes).is_err());
    }

    #[test]
    fn memory_that_a_file_has_not_is_refused() {
        let memory = GuestMemory::allocate(&[range(0, LEN)], Backing::Shared).unwrap();
        let file = memory.file().unwrap();
        let of = |pieces: &[_]| GuestMemory::of_files(pieces).map(drop);
        assert_eq!(of(&[]), Ok(()));
        for pieces in [
            &[(range(0, LEN + PAGE), file, 0)][..],
            &[(range(0, LEN), file, PAGE)],
            &[(range(0, LEN), file, u64::MAX - PAGE + 1)],
            &[(range(0, PAGE), file, 1)],
            &[(range(1, PAGE), file, 0)],
            &[(range(0, PAGE - 1), file, 0)],
            &[(range(0, LEN), file, 0), (range(PAGE, PAGE), file, 0)],
        ] {
            assert_eq!(of(pieces), Err(Errno::INVAL), "{pieces:?}");
        }
    }

    #[test]
    fn nobody_who_has_the_memory_can_make_it_shorter() {
        let memory = GuestMemory::allocate(&[range(0, LEN)], Backing::Shared).unwrap();
        let file = memory.file().unwrap();
        for len in [0, LEN - PAGE, LEN + PAGE] {
            assert_eq!(ftruncate(file, len), Err(Errno::PERM));
        }
        assert_eq!(ftruncate(file, LEN), Ok(()));
    }
}
