//! A whole file, mapped to be read, that cannot change while it is.
#![expect(unsafe_code, reason = "a mapped file as a slice of bytes")]

use crate::lease::{Guard, Lease};
use rustix::io;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The bytes of a file on which there is a lease.
#[derive(Debug)]
pub(crate) struct View {
    guard: Option<Guard>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is memory that nobody writes to, owned by the value; nothing about it
// belongs to a thread.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Maps the first `len` bytes of the leased file, which has them; not 0. `None` where the
    /// lease is being broken already, or can guard no more.
    pub(crate) fn map(lease: &Arc<Lease>, len: usize) -> io::Result<Option<Self>> {
        // Writable, as what takes its place is where the lease is broken; nobody writes.
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let start = unsafe { mmap(ptr::null_mut(), len, access, flags, lease, 0) }?;
        let start = NonNull::new(start.cast()).expect("mmap never answers with page 0");
        let mut view = Self {
            guard: None,
            start,
            len,
        };
        // The signal handler is given the address as a number.
        let address = view.start.as_ptr().expose_provenance() as u64;
        view.guard = lease.guard(address, len);
        Ok(Some(view).filter(|view| view.guard.is_some() && lease.is_intact()))
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped for as long as this value lives. Nobody writes through the
        // mapping; the lease keeps the file as it is until memory of this process with the same
        // bytes has taken its place, so no byte ever changes and every page stays there.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.guard = None;
        // SAFETY: the mapping is owned by this value and nothing outlives it that points into it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can always be unmapped");
    }
}
