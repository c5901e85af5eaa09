//! Bytes between files and guest memory, without a copy of our own between them.
#![expect(
    unsafe_code,
    reason = "the kernel reads and writes guest memory by address"
)]

use crate::GuestMemory;
use firstlight_base::{GpaRange, OutsideRam};
use libc::{c_int, iovec, off_t};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::io;

/// How many ranges one call of the kernel takes (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// `preadv` or `pwritev`.
type Transfer = unsafe extern "C" fn(c_int, *const iovec, c_int, off_t) -> isize;

impl GuestMemory {
    /// Fills `ranges`, in order, with the bytes of `file` from `offset`, and says how many there
    /// were: fewer where the file ends.
    ///
    /// # Errors
    ///
    /// [`io::Error`] where the host fails, or a range is not all guest memory ([`OutsideRam`]);
    /// what has been filled by then is unspecified.
    pub fn read_file(
        &self,
        file: impl AsFd,
        offset: u64,
        ranges: &[GpaRange],
    ) -> io::Result<usize> {
        self.transfer(libc::preadv, file.as_fd(), offset, ranges)
    }

    /// Writes the bytes of `ranges`, in order, to `file` from `offset`, and says how many that were.
    ///
    /// # Errors
    ///
    /// [`io::Error`] where the host fails, or a range is not all guest memory ([`OutsideRam`]); then
    /// some may have been written.
    pub fn write_file(
        &self,
        file: impl AsFd,
        offset: u64,
        ranges: &[GpaRange],
    ) -> io::Result<usize> {
        self.transfer(libc::pwritev, file.as_fd(), offset, ranges)
    }

    fn transfer(
        &self,
        call: Transfer,
        file: BorrowedFd<'_>,
        offset: u64,
        ranges: &[GpaRange],
    ) -> io::Result<usize> {
        let mut buffers = ranges
            .iter()
            .map(|&range| self.buffer(range))
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        let mut rest = buffers.as_mut_slice();
        let mut done = 0;
        while !rest.is_empty() {
            let at = offset.checked_add(done as u64);
            let at = at.and_then(|at| off_t::try_from(at).ok());
            let at = at.ok_or(io::ErrorKind::InvalidInput)?;
            let count = c_int::try_from(rest.len().min(MOST)).expect("MOST is less");
            // SAFETY: the buffers lie in the guest's mappings, which live as long as `self` and to
            // which no Rust reference exists; the kernel reads and writes nothing else.
            let moved = unsafe { call(file.as_raw_fd(), rest.as_ptr(), count, at) };
            match usize::try_from(moved) {
                Ok(0) => break,
                Ok(moved) => {
                    done += moved;
                    rest = without(rest, moved);
                }
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(done)
    }

    fn buffer(&self, range: GpaRange) -> Result<iovec, OutsideRam> {
        let (mapping, offset) = self.mapping_of(range)?;
        let address = mapping.host_address() + offset as u64;
        Ok(iovec {
            iov_base: address as *mut _,
            iov_len: usize::try_from(range.len()).expect("it lies in a mapping"),
        })
    }
}

/// What is left of `buffers` behind their first `len` bytes.
fn without(buffers: &mut [iovec], mut len: usize) -> &mut [iovec] {
    let mut whole = 0;
    for buffer in buffers.iter_mut() {
        if len < buffer.iov_len {
            buffer.iov_base = buffer.iov_base.cast::<u8>().wrapping_add(len).cast();
            buffer.iov_len -= len;
            break;
        }
        len -= buffer.iov_len;
        whole += 1;
    }
    &mut buffers[whole..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backing;
    use firstlight_base::{Gpa, GuestMem, MIB};
    use std::fs::File;

    fn memory() -> GuestMemory {
        let ram = [range(0, MIB), range(4 * MIB, MIB)];
        GuestMemory::allocate(&ram, Backing::Private).unwrap()
    }

    fn range(start: u64, len: u64) -> GpaRange {
        GpaRange::new(Gpa::new(start), len).unwrap()
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
        file
    }

    #[test]
    fn a_file_goes_to_scattered_memory_and_back() {
        let memory = memory();
        let ranges = [range(3, 2), range(4 * MIB + 1, 4)];
        let read = memory.read_file(file(b"0123456789"), 2, &ranges).unwrap();
        assert_eq!(read, 6);
        let mut bytes = [0; 4];
        memory.read(ranges[1].start(), &mut bytes).unwrap();
        assert_eq!(&bytes, b"4567");
        let to = file(b"");
        assert_eq!(memory.write_file(&to, 1, &ranges).unwrap(), 6);
        assert_eq!(
            std::fs::read(format!("/proc/self/fd/{}", to.as_raw_fd())).unwrap(),
            b"\x00234567"
        );
    }

    #[test]
    fn the_end_of_a_file_ends_a_read() {
        let ranges = [range(0, 4), range(16, 4)];
        assert_eq!(memory().read_file(file(b"01234"), 0, &ranges).unwrap(), 5);
        assert_eq!(memory().read_file(file(b"01234"), 9, &ranges).unwrap(), 0);
    }

    #[test]
    fn more_ranges_than_the_kernel_takes_at_once_are_no_matter() {
        let bytes: Vec<u8> = (0..3000_u32).map(|at| (at % 251) as u8).collect();
        let ranges: Vec<_> = (0..3000).map(|at| range(2 * at, 1)).collect();
        let memory = memory();
        assert_eq!(memory.read_file(file(&bytes), 0, &ranges).unwrap(), 3000);
        let mut last = [0];
        memory.read(ranges[2999].start(), &mut last).unwrap();
        assert_eq!(last[0], bytes[2999]);
    }

    #[test]
    fn what_is_not_memory_is_refused_before_anything_is_moved() {
        let to = file(b"");
        let error = memory().write_file(&to, 0, &[range(0, 4), range(2 * MIB, 4)]);
        assert!(error.unwrap_err().to_string().contains("guest memory"));
        assert_eq!(to.metadata().unwrap().len(), 0);
    }

    #[test]
    fn an_offset_beyond_what_files_have_is_refused() {
        let kind = |offset| {
            let moved = memory().write_file(file(b""), offset, &[range(0, 1)]);
            moved.unwrap_err().kind()
        };
        assert_eq!(kind(u64::MAX), io::ErrorKind::InvalidInput);
    }
}
