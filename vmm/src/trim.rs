//! Gives back the pages of the program that only its start needed: command line, unpacking and
//! planning are most of it, and a guest may run for months.
//!
//! Their content stays in the file, so what is needed again is mapped again (madvise(2),
//! `MADV_DONTNEED`; `Documentation/filesystems/proc.rst`, `smaps`).
#![expect(
    unsafe_code,
    reason = "unmapping pages is only safe where nothing is lost"
)]

use rustix::mm::{Advice, madvise};
use std::ffi::c_void;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::ptr;

/// Gives free heap back, and every page of program and libraries that is as it is in its file. The
/// latter needs `/proc`; without it, a megabyte or two is all that is lost.
pub(crate) fn give_back_start_up_pages() {
    give_back_free_heap();
    if let Ok(smaps) = File::open("/proc/self/smaps")
        && let Ok(mappings) = clean_file_mappings(BufReader::with_capacity(1024, smaps))
    {
        for mapping in mappings {
            unmap_pages(&mapping);
        }
    }
}

/// The C library keeps what was freed for the next allocation, which will not be as large.
fn give_back_free_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) touches only memory that is not allocated, and may be called from
    // any thread.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The mappings of files that nobody may write through and nobody has written to.
fn clean_file_mappings(smaps: impl BufRead) -> io::Result<Vec<Range<usize>>> {
    let mut clean = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        let line = line?;
        if let Some(size) = line.strip_prefix("Anonymous:") {
            // Pages that are no longer the file's: relocations, or a debugger's breakpoints.
            let untouched = size.split_ascii_whitespace().next() == Some("0");
            clean.extend(mapping.take().filter(|_| untouched));
        } else if let Some(range) = file_mapping(&line) {
            mapping = range;
        }
    }
    Ok(clean)
}

/// What a mapping's first line says: `None` for other lines, `Some(None)` for mappings that are
/// writable or no file's.
fn file_mapping(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let permissions = words.next()?;
    let inode = words.nth(2)?;
    let is_clean_file = matches!(permissions, "r-xp" | "r--p") && inode != "0";
    Some(is_clean_file.then_some(range))
}

fn unmap_pages(mapping: &Range<usize>) {
    let start: *mut c_void = ptr::with_exposed_provenance_mut(mapping.start);
    // SAFETY: the kernel says that this is a private mapping of a file, that it cannot be written
    // through and that none of its pages is a private copy. So every page that is unmapped comes
    // back with the same bytes when it is touched next, instructions being executed included.
    let advised = unsafe { madvise(start, mapping.len(), Advice::LinuxDontNeed) };
    // Locked pages stay, and nothing is lost.
    let _ = advised;
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55a0c0000000-55a0c0010000 r--p 00000000 fe:01 42                 /usr/bin/firstlight
Size:                 64 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55a0c0010000-55a0c0100000 r-xp 00010000 fe:01 42                 /usr/bin/firstlight
Anonymous:             0 kB
55a0c0100000-55a0c0110000 r--p 00100000 fe:01 42                 /usr/bin/firstlight
Anonymous:            64 kB
55a0c0110000-55a0c0120000 rw-p 00110000 fe:01 42                 /usr/bin/firstlight
Anonymous:             0 kB
7f0000000000-7f0010000000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                  [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_untouched_pages_of_files_are_given_back() {
        let mappings = clean_file_mappings(SMAPS.as_bytes()).unwrap();
        assert_eq!(
            mappings,
            [
                0x55a0_c000_0000..0x55a0_c001_0000,
                0x55a0_c001_0000..0x55a0_c010_0000
            ]
        );
    }

    #[test]
    fn the_program_goes_on_without_its_start_up_pages() {
        let text = "a constant in the program's file";
        let before = text.to_owned();
        give_back_start_up_pages();
        assert_eq!(text, before);
    }
}
