//! Host memory mappings: the only unsafe code of this crate.
//!
//! A [`Mapping`] is never seen as a Rust reference, because a running guest changes it at any
//! time; bytes are copied in and out by address.
#![expect(unsafe_code, reason = "mapping host memory and copying by address")]

use rustix::fd::AsFd;
use rustix::io::{self, Errno};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

/// An owned mapping of host memory, readable and writable, page-aligned.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    _whole: Whole,
}

/// All that was mapped: the memory and what is left over round it. Unmapped when dropped.
#[derive(Debug)]
struct Whole {
    start: NonNull<u8>,
    len: usize,
}

/// What x86, arm64 and riscv64 with pages of 4 KiB map by one entry of the second level.
const LARGE_PAGE: usize = 2 << 20;

// SAFETY: the mapping is plain memory owned by the value; nothing about it belongs to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; concurrent copies race like a guest's own stores do, and no reference into
// the memory exists that a race could invalidate.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private zeroed memory. `len` is not 0.
    ///
    /// It begins at a large page's border, as guest-physical ranges do: only so can the hypervisor
    /// map it to the guest in large pages.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let room = len.checked_add(LARGE_PAGE).ok_or(Errno::NOMEM)?;
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                room,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let Self { start, _whole, .. } = Self::of(start, room);
        let before = start.as_ptr().align_offset(LARGE_PAGE);
        Ok(Self {
            // SAFETY: the border is less than a large page away, so inside the mapping.
            start: unsafe { start.add(before) },
            len,
            _whole,
        })
    }

    /// The `len` bytes of `file` from `offset`, shared with everybody who maps it.
    pub(crate) fn shared(file: impl AsFd, offset: u64, len: usize) -> io::Result<Self> {
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                offset,
            )
        }?;
        Ok(Self::of(start, len))
    }

    fn of(start: *mut core::ffi::c_void, len: usize) -> Self {
        let start = NonNull::new(start.cast()).expect("mmap never answers with page 0");
        let _whole = Whole { start, len };
        Self { start, len, _whole }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the mapping begins in this process, for handing to the hypervisor.
    pub(crate) fn host_address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Asks for huge pages from `offset` on; a host that has none to give loses nothing.
    pub(crate) fn prefer_huge_pages(&self, offset: usize) {
        self.advise(offset, Advice::LinuxHugepage);
    }

    /// Asks for no huge page from here on, which some hosts give unasked.
    pub(crate) fn prefer_small_pages(&self) {
        self.advise(0, Advice::LinuxNoHugepage);
    }

    fn advise(&self, offset: usize, advice: Advice) {
        let Some(len) = self.len.checked_sub(offset) else {
            return;
        };
        // SAFETY: the offset is inside the mapping, or its end, as just seen.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: the range is in this mapping, and the advice changes no byte of it.
        let advised = unsafe { madvise(start.as_ptr().cast(), len, advice) };
        // Advice only: with pages of another size the guest is slower, not wrong.
        let _ = advised;
    }

    /// Puts the `len` bytes of `file` from `from` at `offset`, in place of the memory there: read
    /// from the file as they are touched, and private from the first write on. All three numbers
    /// are whole pages.
    pub(crate) fn put_file(
        &self,
        offset: usize,
        len: usize,
        file: impl AsFd,
        from: u64,
    ) -> io::Result<()> {
        let start = self.pages(offset, len)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: `pages` found the range inside this mapping, which is memory that no Rust
        // reference points into; its address stays mapped throughout.
        unsafe { mmap(start.as_ptr().cast(), len, access, flags, file, from) }?;
        Ok(())
    }

    /// Puts the `len` bytes that `file` begins with at `offset`, in place of the memory there: what
    /// is written there from then on is written to the file. Both numbers are whole pages.
    pub(crate) fn share_file(&self, offset: usize, len: usize, file: impl AsFd) -> io::Result<()> {
        let start = self.pages(offset, len)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: as in `put_file`.
        unsafe { mmap(start.as_ptr().cast(), len, access, flags, file, 0) }?;
        Ok(())
    }

    /// Puts fresh zeroed memory at `offset`, in place of what is there. Both numbers are whole
    /// pages.
    pub(crate) fn put_zeros(&self, offset: usize, len: usize) -> io::Result<()> {
        let start = self.pages(offset, len)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: as in `put_file`.
        unsafe { mmap_anonymous(start.as_ptr().cast(), len, access, flags) }?;
        Ok(())
    }

    /// Makes the pages from `offset` ready to be written, all at once: cheaper than a fault for
    /// each. Both numbers are whole pages.
    pub(crate) fn populate(&self, offset: usize, len: usize) {
        let Ok(start) = self.pages(offset, len) else {
            return;
        };
        // SAFETY: the range is in this mapping, and no byte of it changes.
        let populated = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
        // A host without it faults page by page.
        let _ = populated;
    }

    /// Gives the pages from `offset` back to the host: private ones of no file read zeros then. Both
    /// numbers are whole pages.
    pub(crate) fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        let start = self.pages(offset, len)?;
        // SAFETY: the range is in this mapping, to which no Rust reference exists.
        unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontNeed) }
    }

    /// Adds `value` to the little-endian number at `offset`, modulo 2⁶⁴; false, and nothing
    /// changed, where it does not all lie inside.
    pub(crate) fn add_u64(&self, offset: usize, value: u64) -> bool {
        if !self.holds(offset, size_of::<u64>()) {
            return false;
        }
        // SAFETY: `holds` found the whole number inside the mapping.
        let at = unsafe { self.start.add(offset) }.cast::<u64>();
        // SAFETY: as just seen; it need not be aligned.
        let old = unsafe { at.read_unaligned() };
        let new = u64::from_le(old).wrapping_add(value).to_le();
        // SAFETY: as for the read.
        unsafe { at.write_unaligned(new) };
        true
    }

    /// As [`add_u64`](Self::add_u64), for a number of 32 bits.
    pub(crate) fn add_u32(&self, offset: usize, value: u32) -> bool {
        if !self.holds(offset, size_of::<u32>()) {
            return false;
        }
        // SAFETY: `holds` found the whole number inside the mapping.
        let at = unsafe { self.start.add(offset) }.cast::<u32>();
        // SAFETY: as just seen; it need not be aligned.
        let old = unsafe { at.read_unaligned() };
        let new = u32::from_le(old).wrapping_add(value).to_le();
        // SAFETY: as for the read.
        unsafe { at.write_unaligned(new) };
        true
    }

    /// The little-endian number at `offset`, read at once and before whatever is read later; `None`
    /// where it does not all lie inside or `offset` is odd.
    pub(crate) fn load_u16(&self, offset: usize) -> Option<u16> {
        Some(u16::from_le(
            self.atomic_u16(offset)?.load(Ordering::Acquire),
        ))
    }

    /// Writes the little-endian number at `offset` at once and after whatever was written before;
    /// false, and nothing written, where it does not all lie inside or `offset` is odd.
    pub(crate) fn store_u16(&self, offset: usize, value: u16) -> bool {
        let Some(number) = self.atomic_u16(offset) else {
            return false;
        };
        number.store(value.to_le(), Ordering::Release);
        true
    }

    fn atomic_u16(&self, offset: usize) -> Option<&AtomicU16> {
        if !self.holds(offset, size_of::<u16>()) || !offset.is_multiple_of(align_of::<u16>()) {
            return None;
        }
        // SAFETY: `holds` found the whole number inside the mapping.
        let at = unsafe { self.start.add(offset) }.cast::<u16>();
        // SAFETY: it is aligned, because the mapping begins at a page, and lives as long as the
        // mapping. A guest's stores and our copies of the same bytes race with it as they do with
        // one another; of the number itself nothing is assumed.
        Some(unsafe { AtomicU16::from_ptr(at.as_ptr()) })
    }

    /// Copies `from` to `offset`; false, and nothing copied, where it does not all fit.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> bool {
        if !self.holds(offset, from.len()) {
            return false;
        }
        // SAFETY: `holds` found the whole destination inside the mapping.
        let to = unsafe { self.start.add(offset) };
        // SAFETY: both ranges are valid for that many bytes, and `from` is a Rust slice, which
        // never lies in guest memory.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
        true
    }

    /// Copies from `offset` into `into`; false, and nothing copied, where it is not all there.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        if !self.holds(offset, into.len()) {
            return false;
        }
        // SAFETY: `holds` found the whole source inside the mapping.
        let from = unsafe { self.start.add(offset) };
        // SAFETY: both ranges are valid for that many bytes, and `into` is a Rust slice, which
        // never lies in guest memory.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
        true
    }

    /// The address of `len` bytes at `offset`, which has to be inside.
    fn pages(&self, offset: usize, len: usize) -> io::Result<NonNull<u8>> {
        if !self.holds(offset, len) {
            return Err(Errno::INVAL);
        }
        // SAFETY: the offset is inside the mapping, as just seen.
        Ok(unsafe { self.start.add(offset) })
    }

    fn holds(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by this value and nothing outlives it that points into it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can always be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_begins_where_a_large_page_may_and_is_there_to_its_last_byte() {
        for len in [4096, LARGE_PAGE, LARGE_PAGE + 4096, 16 * LARGE_PAGE] {
            let mapping = Mapping::anonymous(len).unwrap();
            assert_eq!(mapping.host_address() % LARGE_PAGE as u64, 0);
            assert!(mapping.write(len - 1, &[7]));
            assert!(!mapping.write(len, &[7]));
            let mut last = [0; 2];
            assert!(mapping.read(len - 2, &mut last));
            assert_eq!(last, [0, 7]);
        }
    }
}
