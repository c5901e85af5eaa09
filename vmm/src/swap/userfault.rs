//! The kernel's userfaultfd (`Documentation/admin-guide/mm/userfaultfd.rst`, `linux/userfaultfd.h`), as far as
//! swapping needs it: missing pages, removed pages, and `UFFDIO_MOVE` of Linux 6.8, which takes a page out of a
//! range in one step, so that no store to it can be lost. The crate `userfaultfd` does not have that.
#![expect(
    unsafe_code,
    reason = "ioctls that map pages, and memory that is read by address"
)]

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, UserfaultfdFlags, madvise, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::ops::Range;
use std::ptr;

/// The size of a page of every host that KVM runs on here.
pub(super) const PAGE: u64 = PAGE_LEN as u64;

/// The same, for slices.
pub(super) const PAGE_LEN: usize = 4096;

const API: u64 = 0xaa;
const EVENT_REMOVE: u64 = 1 << 3;
const MOVE: u64 = 1 << 16;
const MODE_MISSING: u64 = 1;
const MOVE_ALLOW_SRC_HOLES: u64 = 1 << 1;

const fn ioc(direction: u64, number: u64, words: u64) -> u64 {
    (direction << 30) | ((words * 8) << 16) | (API << 8) | number
}

const UFFDIO_API: u64 = ioc(3, 0x3f, 3);
const UFFDIO_REGISTER: u64 = ioc(3, 0, 4);
const UFFDIO_UNREGISTER: u64 = ioc(2, 1, 2);
const UFFDIO_WAKE: u64 = ioc(2, 2, 2);
const UFFDIO_COPY: u64 = ioc(3, 3, 5);
const UFFDIO_ZEROPAGE: u64 = ioc(3, 4, 4);
const UFFDIO_MOVE: u64 = ioc(3, 5, 5);
const UFFDIO_POISON: u64 = ioc(3, 8, 4);
const USERFAULTFD_IOC_NEW: u64 = ioc(0, 0, 0);

/// What the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody waits for the page at this address.
    Fault(u64),
    /// The content of this range is not wanted any more.
    Removed(u64, u64),
}

/// A userfaultfd.
#[derive(Debug)]
pub(super) struct Userfault(OwnedFd);

impl Userfault {
    /// One for accesses of the kernel too, which KVM's and a device's are. It tells of removed pages.
    pub(super) fn new() -> Result<Self, Errno> {
        Self::with(EVENT_REMOVE | MOVE)
    }

    fn with(features: u64) -> Result<Self, Errno> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        // SAFETY: a new descriptor; what it may do to memory is asked for in the calls below.
        let file = unsafe { rustix::mm::userfaultfd(flags) };
        let this = Self(file.or_else(|_| from_device(flags))?);
        this.call(UFFDIO_API, &mut [API, features, 0])?;
        Ok(this)
    }

    fn call<const N: usize>(&self, request: u64, words: &mut [u64; N]) -> Result<(), Errno> {
        // SAFETY: every request above takes a pointer to as many words as its number says. None of them touches
        // memory but what the caller has registered, whose content is the guest's and no Rust object's.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, words.as_mut_ptr()) };
        if result < 0 { Err(last()) } else { Ok(()) }
    }

    pub(super) fn register(&self, range: &Range<u64>) -> Result<(), Errno> {
        let len = range.end - range.start;
        self.call(UFFDIO_REGISTER, &mut [range.start, len, MODE_MISSING, 0])
    }

    /// Lets go of the range; who waited for a page of it tries again.
    pub(super) fn unregister(&self, range: &Range<u64>) -> Result<(), Errno> {
        self.call(
            UFFDIO_UNREGISTER,
            &mut [range.start, range.end - range.start],
        )
    }

    /// Puts a copy of `bytes`, whole pages, at `at`, where nothing is.
    pub(super) fn copy(&self, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let from = bytes.as_ptr().expose_provenance() as u64;
        self.call(UFFDIO_COPY, &mut [at, from, bytes.len() as u64, 0, 0])
    }

    /// Puts a page of zeros at `at`, where nothing is.
    pub(super) fn zero(&self, at: u64) -> Result<(), Errno> {
        self.call(UFFDIO_ZEROPAGE, &mut [at, PAGE, 0, 0])
    }

    /// Makes every access to the page fail as one to broken memory does.
    pub(super) fn poison(&self, at: u64) -> Result<(), Errno> {
        self.call(UFFDIO_POISON, &mut [at, PAGE, 0, 0])
    }

    pub(super) fn wake(&self, at: u64) -> Result<(), Errno> {
        self.call(UFFDIO_WAKE, &mut [at, PAGE])
    }

    /// The next event, if there is one.
    pub(super) fn next(&self) -> Option<Event> {
        loop {
            let mut message = [0_u8; 32];
            let len = rustix::io::read(&self.0, &mut message).ok()?;
            let word = |at: usize| {
                let bytes = message.get(at..at + 8)?.try_into().ok()?;
                Some(u64::from_ne_bytes(bytes))
            };
            if len != message.len() {
                return None;
            }
            match message[0] {
                0x12 => return Some(Event::Fault(word(16)?)),
                0x15 => return Some(Event::Removed(word(8)?, word(16)?)),
                _ => {}
            }
        }
    }
}

impl AsFd for Userfault {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `/dev/userfaultfd`, which who may open it may use (Linux 6.1).
fn from_device(flags: UserfaultfdFlags) -> Result<OwnedFd, Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let device = File::open("/dev/userfaultfd").map_err(errno)?;
    // SAFETY: takes and gives numbers.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, flags.bits()) };
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Where pages lie between the guest's memory and the file: nobody else has their address.
#[derive(Debug)]
pub(super) struct Staging {
    start: *mut c_void,
    /// Its own, for `UFFDIO_MOVE` wants one of the range that it moves to. It tells of nothing, so that
    /// emptying the staging waits for nobody.
    userfault: Userfault,
}

// SAFETY: plain memory owned by the value.
unsafe impl Send for Staging {}

impl Staging {
    /// Its size in pages.
    pub(super) const PAGES: usize = 256;
    const LEN: usize = Self::PAGES * PAGE_LEN;

    pub(super) fn new() -> Result<Self, Errno> {
        let userfault = Userfault::with(MOVE)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), Self::LEN, access, MapFlags::PRIVATE) }?;
        let this = Self { start, userfault };
        // SAFETY: the mapping is this value's own, and advice about page sizes changes no byte.
        let _ = unsafe { madvise(start, Self::LEN, Advice::LinuxNoHugepage) };
        let from = this.address();
        this.userfault.register(&(from..from + Self::LEN as u64))?;
        Ok(this)
    }

    fn address(&self) -> u64 {
        self.start.expose_provenance() as u64
    }

    /// Takes the pages of `range` out of where they are. One that the host needs where it is, which
    /// one is that a device of the host has pinned, stays there.
    pub(super) fn take(&self, range: &Range<u64>) -> Result<(), Errno> {
        /// How often a page is tried for that somebody else is just about to change.
        const TRIES: u32 = 16;
        let (mut at, mut tries) = (range.start, 0);
        while at < range.end {
            let to = self.address() + (at - range.start);
            let mut words = [to, at, range.end - at, MOVE_ALLOW_SRC_HOLES, 0];
            match self.userfault.call(UFFDIO_MOVE, &mut words) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN | Errno::BUSY) => {
                    let moved = words[4].cast_signed();
                    if moved > 0 {
                        at += moved.cast_unsigned();
                        tries = 0;
                    } else if tries == TRIES {
                        at += PAGE;
                        tries = 0;
                    } else {
                        tries += 1;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Which pages are here.
    pub(super) fn present(&self) -> Result<Vec<bool>, Errno> {
        let start = self.address();
        present(&(start..start + Self::LEN as u64))
    }

    /// The bytes of pages that are [present](Self::present), and must be: reading others waits forever.
    pub(super) fn bytes(&self, pages: Range<usize>) -> &[u8] {
        assert!(pages.start <= pages.end && pages.end <= Self::PAGES);
        // SAFETY: the offset is within the mapping, as asserted.
        let start = unsafe { self.start.cast::<u8>().add(pages.start * PAGE_LEN) };
        // SAFETY: within the mapping, and only `take` and `clear` change it, whose caller is the same thread.
        unsafe { std::slice::from_raw_parts(start, pages.len() * PAGE_LEN) }
    }

    /// Forgets all pages.
    pub(super) fn clear(&mut self) -> Result<(), Errno> {
        // SAFETY: the mapping is this value's own, and no reference to its bytes lives.
        unsafe { madvise(self.start, Self::LEN, Advice::LinuxDontNeed) }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        let _ = unsafe { munmap(self.start, Self::LEN) };
    }
}

/// Which pages of a range of this process's memory the host has memory for (mincore(2)).
pub(super) fn present(range: &Range<u64>) -> Result<Vec<bool>, Errno> {
    let len = usize::try_from(range.end - range.start).or(Err(Errno::INVAL))?;
    let start = usize::try_from(range.start).or(Err(Errno::INVAL))?;
    let mut pages = vec![0_u8; len / PAGE_LEN];
    let start = ptr::with_exposed_provenance_mut(start);
    // SAFETY: the kernel writes a byte for each page of the range, and reads none of it.
    let result = unsafe { libc::mincore(start, len, pages.as_mut_ptr()) };
    if result < 0 {
        return Err(last());
    }
    Ok(pages.into_iter().map(|page| page & 1 != 0).collect())
}
