//! Counts what is allocated.
#![expect(
    unsafe_code,
    reason = "an allocator is only to be had by an unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The system's allocator, counting.
#[derive(Debug)]
pub(crate) struct Allocations {
    number: AtomicU64,
    bytes: AtomicU64,
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

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Allocations {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        // SAFETY: the caller keeps the trait's rules.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.note(size);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}
