//! Large buffers in huge pages: what is unpacked is as large as a kernel, and the host takes longer
//! to hand out its pages one by one than lz4 does to fill them.
#![expect(
    unsafe_code,
    reason = "an allocator is only to be had by an unsafe trait"
)]

use rustix::mm::{Advice, madvise};
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with large buffers in huge pages where the host has some: for a
/// program's `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LargeBuffers;

/// What is less is left to the system as it is.
const LARGE: usize = 4 << 20;
const PAGE: usize = 4096;

/// Asks for huge pages for `len` bytes at `start`, which are mapped; what shares a page with other
/// memory is left out.
fn advise(start: *mut u8, len: usize) {
    let before = start.align_offset(PAGE);
    let whole = len.saturating_sub(before) / PAGE * PAGE;
    if start.is_null() || len < LARGE || whole == 0 {
        return;
    }
    let first = start.wrapping_add(before);
    // SAFETY: the pages belong to whoever asked for the memory, and no byte of them changes.
    let advised = unsafe { madvise(first.cast(), whole, Advice::LinuxHugepage) };
    // Advice only: without huge pages the host is slower, not wrong.
    let _ = advised;
}

// SAFETY: every call goes to the system's allocator as it came, and so do its answers.
unsafe impl GlobalAlloc for LargeBuffers {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the trait's rules.
        let start = unsafe { System.alloc(layout) };
        advise(start, layout.size());
        start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let start = unsafe { System.alloc_zeroed(layout) };
        advise(start, layout.size());
        start
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let start = unsafe { System.realloc(at, layout, size) };
        advise(start, size);
        start
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_its_bytes_as_it_grows_and_begins_with_zeros_where_that_is_asked_for() {
        let layout = |len| Layout::array::<u8>(len).expect("a buffer that is not too long");
        for len in [1, LARGE - 1, LARGE, LARGE + 5000] {
            // SAFETY: the layout is not of nothing.
            let start = unsafe { LargeBuffers.alloc_zeroed(layout(len)) };
            assert!(!start.is_null());
            // SAFETY: the last of so many bytes.
            let last = unsafe { start.add(len - 1) };
            // SAFETY: it is there, and is zero or something else.
            assert_eq!(unsafe { last.read() }, 0);
            // SAFETY: it is there.
            unsafe { last.write(7) };
            // SAFETY: it came from there, with this layout, and grows.
            let start = unsafe { LargeBuffers.realloc(start, layout(len), 3 * len) };
            assert!(!start.is_null());
            // SAFETY: the buffer has become longer.
            let byte = unsafe { start.add(len - 1) };
            // SAFETY: it was written.
            assert_eq!(unsafe { byte.read() }, 7);
            // SAFETY: it came from there, with this layout.
            unsafe { LargeBuffers.dealloc(start, layout(3 * len)) };
        }
    }
}
