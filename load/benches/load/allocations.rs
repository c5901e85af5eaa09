//! Counts what is allocated, and can hand out memory that is warm.
#![expect(
    unsafe_code,
    reason = "an allocator is only to be had by an unsafe trait"
)]

use firstlight_load::LargeBuffers;
use std::alloc::{GlobalAlloc, Layout};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The program's allocator, counting.
#[derive(Debug)]
pub(crate) struct Allocations {
    number: AtomicU64,
    bytes: AtomicU64,
    warm: AtomicPtr<u8>,
    warm_len: AtomicUsize,
}

/// How much was allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    number: u64,
    bytes: u64,
}

impl Allocations {
    pub(crate) const fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            warm: AtomicPtr::new(ptr::null_mut()),
            warm_len: AtomicUsize::new(0),
        }
    }

    /// Gives zeros in memory that has been touched already to whoever asks for `len` bytes of them
    /// next.
    pub(crate) fn warm_up(&self, len: usize) {
        let mut memory = vec![1_u8; len].into_boxed_slice();
        memory.fill(0);
        self.warm_len.store(len, Relaxed);
        self.warm.store(Box::leak(memory).as_mut_ptr(), Relaxed);
    }

    /// The warm memory, where it is what is wanted.
    fn take_warm(&self, layout: Layout) -> *mut u8 {
        if Layout::array::<u8>(self.warm_len.load(Relaxed)) == Ok(layout) {
            self.warm.swap(ptr::null_mut(), Relaxed)
        } else {
            ptr::null_mut()
        }
    }

    /// Since the program began.
    pub(crate) fn count(&self) -> Count {
        Count {
            number: self.number.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }

    fn note(&self, bytes: usize) {
        self.number.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl Count {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            number: self.number - before.number,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} allocations, {} bytes", self.number, self.bytes)
    }
}

// SAFETY: every call goes to the program's allocator as it came; the warm memory is from there, of
// the same layout, zeros, and given away once.
unsafe impl GlobalAlloc for Allocations {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        // SAFETY: the caller keeps the trait's rules.
        unsafe { LargeBuffers.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        let warm = self.take_warm(layout);
        if !warm.is_null() {
            return warm;
        }
        // SAFETY: as above.
        unsafe { LargeBuffers.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.note(size);
        // SAFETY: as above.
        unsafe { LargeBuffers.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { LargeBuffers.dealloc(at, layout) }
    }
}
