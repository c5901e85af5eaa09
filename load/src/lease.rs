//! Keeps mapped files from changing or shrinking under whoever has them mapped.
//!
//! A mapping of a file shows what is written to it, and touching what was cut off kills the
//! process. A read lease (fcntl(2), "Leases") makes the kernel hold whoever opens the file for
//! writing or cuts it short, and tell us: we make every page that is mapped our own, and only then
//! let them go on. The kernel grants a lease only where nobody has the file open for writing.
//!
//! How long the kernel holds them is `/proc/sys/fs/lease-break-time`, 45 seconds; making pages our
//! own takes a second for a gigabyte. Removing or renaming the file breaks nothing.
#![expect(
    unsafe_code,
    reason = "a signal handler, and fcntl(2) that only libc has"
)]

use libc::{c_int, c_void};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::fs::File;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize};
use std::sync::{Arc, OnceLock};

/// How many leases a process may hold, and how many ranges they may guard: beyond that, bytes are
/// copied.
const MOST_LEASES: usize = 256;
const MOST_RANGES: usize = 2048;

/// The leases that are held. The signal handler reads them, so that they are no lock's.
static LEASES: [Held; MOST_LEASES] = [const { Held::new() }; MOST_LEASES];
static RANGES: [Range; MOST_RANGES] = [const { Range::new() }; MOST_RANGES];

/// Nobody's.
const FREE: i32 = -1;
/// Somebody's, who is still filling it in.
const TAKEN: i32 = -2;

struct Held {
    /// The file's descriptor.
    file: AtomicI32,
    broken: AtomicBool,
}

/// Mapped memory of this process.
struct Range {
    /// The index of the lease that guards it.
    lease: AtomicI32,
    start: AtomicUsize,
    len: AtomicUsize,
}

impl Held {
    const fn new() -> Self {
        Self {
            file: AtomicI32::new(FREE),
            broken: AtomicBool::new(false),
        }
    }
}

impl Range {
    const fn new() -> Self {
        Self {
            lease: AtomicI32::new(FREE),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }
}

/// A file that cannot change while it is mapped.
#[derive(Debug)]
pub(crate) struct Lease {
    file: File,
    number: usize,
}

/// A range of memory that becomes the process's own before its file may change. Dropped before
/// the memory is unmapped.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Held as long as the range is guarded.
    _lease: Arc<Lease>,
    range: usize,
}

impl Lease {
    /// Takes a lease on `file`, which is open for reading only and belongs to this user; gives the
    /// file back where the host grants none.
    pub(crate) fn take(file: File) -> Result<Arc<Self>, File> {
        let Some(signal) = ready_to_be_told() else {
            return Err(file);
        };
        let free = LEASES.iter().position(|held| {
            held.file
                .compare_exchange(FREE, TAKEN, SeqCst, SeqCst)
                .is_ok()
        });
        let Some(number) = free else { return Err(file) };
        let held = &LEASES[number];
        held.broken.store(false, SeqCst);
        // The handler looks for it from here on; there is no lease to be broken yet.
        held.file.store(file.as_raw_fd(), SeqCst);
        // The signal goes to the process: whichever thread may take it.
        let process = rustix::process::getpid().as_raw_nonzero().get();
        let granted = fcntl(&file, libc::F_SETOWN, process)
            && fcntl(&file, F_SETSIG, signal)
            && fcntl(&file, libc::F_SETLEASE, libc::F_RDLCK);
        if granted {
            Ok(Arc::new(Self { file, number }))
        } else {
            held.file.store(FREE, SeqCst);
            Err(file)
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether nobody has asked to change the file so far.
    ///
    /// Memory that was mapped and guarded before this says yes is safe for as long as its guard
    /// lives.
    pub(crate) fn is_intact(&self) -> bool {
        !LEASES[self.number].broken.load(SeqCst)
    }

    /// Guards `len` bytes from `start`, where the file is going to be mapped; `None` where too
    /// much is guarded already.
    pub(crate) fn guard(self: &Arc<Self>, start: u64, len: usize) -> Option<Guard> {
        let number = i32::try_from(self.number).ok()?;
        let start = usize::try_from(start).ok()?;
        let index = RANGES.iter().position(|range| {
            range
                .lease
                .compare_exchange(FREE, TAKEN, SeqCst, SeqCst)
                .is_ok()
        })?;
        let range = &RANGES[index];
        range.start.store(start, SeqCst);
        range.len.store(len, SeqCst);
        range.lease.store(number, SeqCst);
        Some(Guard {
            _lease: Arc::clone(self),
            range: index,
        })
    }
}

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Closing the file, which comes next, gives the lease back.
        LEASES[self.number].file.store(FREE, SeqCst);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        RANGES[self.range].lease.store(FREE, SeqCst);
    }
}

/// `F_SETSIG` (`include/uapi/asm-generic/fcntl.h`), which libc does not name on every C library.
const F_SETSIG: c_int = 10;
/// `F_GETLEASE`, the same.
const F_GETLEASE: c_int = 1025;

fn fcntl(file: &File, command: c_int, argument: c_int) -> bool {
    // SAFETY: the commands used here take a number, and the descriptor is open.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    result == 0
}

/// Sees to it that this process is told by a signal, and can do what is to be done then; the
/// signal's number.
fn ready_to_be_told() -> Option<c_int> {
    static READY: OnceLock<Option<c_int>> = OnceLock::new();
    *READY.get_or_init(|| {
        let signal = libc::SIGRTMAX() - 1;
        (can_populate() && install_handler(signal) && unblock(signal)).then_some(signal)
    })
}

/// Whether the kernel makes pages private on request (`MADV_POPULATE_WRITE`, Linux 5.14).
fn can_populate() -> bool {
    // SAFETY: a range without a byte; the kernel only looks whether it knows the advice.
    unsafe { libc::madvise(ptr::null_mut(), 0, libc::MADV_POPULATE_WRITE) == 0 }
}

/// Handles `signal`, unless somebody else does already.
fn install_handler(signal: c_int) -> bool {
    // SAFETY: the C structure's all-zero value is a valid one: default action, no flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(c_int) = a_lease_breaks;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the handler does only what a signal handler may (signal-safety(7)).
    let result = unsafe { libc::sigaction(signal, &raw const action, &raw mut before) };
    if result != 0 {
        return false;
    }
    if before.sa_sigaction != libc::SIG_DFL {
        // SAFETY: puts back what was there.
        unsafe { libc::sigaction(signal, &raw const before, ptr::null_mut()) };
        return false;
    }
    true
}

/// Lets the calling thread take the signal, so that there is one that does.
fn unblock(signal: c_int) -> bool {
    // SAFETY: the C structure's all-zero value is the empty set on Linux.
    let mut set: libc::sigset_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the set is this function's own, and the number is a signal's.
    let added = unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: the set is read only, and the old one is not wanted.
    let unblocked =
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
    added == 0 && unblocked == 0
}

/// The signal handler: for every lease that is being broken, makes all that it guards private, and
/// gives it up. It uses atomics, madvise(2) and fcntl(2) only.
///
/// A range that is unmapped meanwhile may belong to something else by then. Making pages of it
/// writable-present changes none of its bytes, so that at worst some memory is used for nothing.
extern "C" fn a_lease_breaks(_signal: c_int) {
    // SAFETY: errno is the thread's own, and always there.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    for (number, held) in LEASES.iter().enumerate() {
        let file = held.file.load(SeqCst);
        if file < 0 || is_held(file) {
            continue;
        }
        // Said first: who maps more after this sees it, who mapped before is in the ranges.
        held.broken.store(true, SeqCst);
        if make_private(number) {
            // SAFETY: takes numbers; should the descriptor be another file's by now, there is no
            // lease of ours on it to give up, or one whose ranges were just looked after.
            unsafe { libc::fcntl(file, libc::F_SETLEASE, libc::F_UNLCK) };
        }
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Whether the lease on `file` is there and nobody waits for its end.
fn is_held(file: c_int) -> bool {
    // SAFETY: takes and gives numbers.
    unsafe { libc::fcntl(file, F_GETLEASE) == libc::F_RDLCK }
}

/// Whether every page that lease `number` guards is this process's own now. Without memory for
/// that, the lease is kept, and the kernel goes on holding whoever wants to write, for a while.
fn make_private(number: usize) -> bool {
    let mut all = true;
    for range in &RANGES {
        if usize::try_from(range.lease.load(SeqCst)) != Ok(number) {
            continue;
        }
        let start: *mut c_void = ptr::with_exposed_provenance_mut(range.start.load(SeqCst));
        let len = range.len.load(SeqCst);
        loop {
            // SAFETY: the advice changes no byte, whatever is mapped there.
            let done = unsafe { libc::madvise(start, len, libc::MADV_POPULATE_WRITE) } == 0;
            let error = Errno::from_io_error(&std::io::Error::last_os_error());
            if !done && matches!(error, Some(Errno::INTR | Errno::AGAIN)) {
                continue;
            }
            all &= done;
            break;
        }
    }
    all
}
