//! Keeps mapped files from changing or shrinking under whoever has them mapped.
//!
//! A mapping of a file shows what is written to it, and touching what was cut off kills the
//! process: even pages that were written to, and so private, go when their file is cut. A read
//! lease (fcntl(2), "Leases") makes the kernel hold whoever opens the file for writing or cuts it
//! short, and tell us by a signal: we put memory of our own with the same bytes in the place of
//! every mapping, and only then let them go on. The kernel grants a lease only where nobody has
//! the file open for writing.
//!
//! Nothing may write to the memory while it is replaced, so every other thread of the process is
//! stopped meanwhile, by the same signal: a vCPU leaves its guest for it and goes on afterwards.
//!
//! How long the kernel holds them is `/proc/sys/fs/lease-break-time`, 45 seconds; copying takes a
//! second for a gigabyte. Removing or renaming the file breaks nothing.
#![expect(
    unsafe_code,
    reason = "a signal handler, and fcntl(2) that only libc has"
)]

use libc::{c_int, c_void};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::fs::File;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize};
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
/// the memory is unmapped, and made only for memory that is mapped or about to be.
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
        (install_handler(signal) && unblock(signal)).then_some(signal)
    })
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

/// Whether a thread replaces memory, and how many others wait for it: the upper half counts how
/// often that has begun and ended, so is odd in between; the lower half counts who waits.
static STATE: AtomicU64 = AtomicU64::new(0);
const ROUND: u64 = 1 << 32;

fn round_of(state: u64) -> u64 {
    state / ROUND
}

/// The signal handler. The first thread to come here looks after the leases that are being broken,
/// every other waits for it. Only system calls and atomics are used (signal-safety(7)), and errno
/// is left as it was.
extern "C" fn a_lease_breaks(signal: c_int) {
    // SAFETY: errno is the thread's own, and always there.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let mut state = STATE.load(SeqCst);
    loop {
        let round = round_of(state);
        let replaces = round % 2 == 1;
        let next = if replaces {
            state + 1
        } else {
            (round + 1) * ROUND
        };
        match STATE.compare_exchange(state, next, SeqCst, SeqCst) {
            Err(now) => state = now,
            Ok(_) if replaces => {
                while round_of(STATE.load(SeqCst)) == round {
                    pause_a_moment();
                }
                break;
            }
            Ok(_) => {
                serve_broken_leases(signal);
                STATE.store((round + 2) * ROUND, SeqCst);
                break;
            }
        }
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

fn serve_broken_leases(signal: c_int) {
    let is_broken = |held: &Held| {
        let file = held.file.load(SeqCst);
        file >= 0 && !is_held(file)
    };
    let mut stopped = false;
    for (number, held) in LEASES.iter().enumerate() {
        // One that could not be served before is tried again.
        if !is_broken(held) {
            continue;
        }
        // Said first: who maps more after this sees it, who mapped before is in the ranges.
        held.broken.store(true, SeqCst);
        if !stopped {
            stop_others(signal);
            stopped = true;
        }
        if replace_all(number) {
            // SAFETY: takes numbers; should the descriptor be another file's by now, there is no
            // lease of ours on it to give up.
            unsafe { libc::fcntl(held.file.load(SeqCst), libc::F_SETLEASE, libc::F_UNLCK) };
        }
    }
}

/// Waits until every other thread waits. One that lets no signal through is not waited for longer
/// than a few seconds: none that writes to a guest's memory is known to.
fn stop_others(signal: c_int) {
    const ROUNDS: usize = 5000;
    for round in 0..ROUNDS {
        // Again from time to time, for threads that are new.
        let others = for_each_other_thread(|process, thread| {
            if round % 100 == 0 {
                // SAFETY: takes numbers; a thread that has ended is no thread of this process.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
            }
        });
        if STATE.load(SeqCst) % ROUND >= others {
            return;
        }
        pause_a_moment();
    }
}

/// Calls `act` with the numbers of this process and of each of its other threads
/// (proc_pid_task(5)); gives how many they are. Without `/proc`, none is found.
fn for_each_other_thread(act: impl Fn(i32, i32)) -> u64 {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let this = rustix::thread::gettid().as_raw_nonzero().get();
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::open(c"/proc/self/task", flags, rustix::fs::Mode::empty()) else {
        return 0;
    };
    let mut others = 0;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let mut entries = rustix::fs::RawDir::new(&folder, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        let number = name.iter().try_fold(0_i32, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| i32::from(digit - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        });
        if let Some(thread) = number.filter(|thread| *thread != this) {
            act(process, thread);
            others += 1;
        }
    }
    others
}

fn pause_a_moment() {
    let moment = rustix::thread::Timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    // Woken early is as good.
    let _ = rustix::thread::nanosleep(&moment);
}

/// Whether the lease on `file` is there and nobody waits for its end.
fn is_held(file: c_int) -> bool {
    // SAFETY: takes and gives numbers.
    unsafe { libc::fcntl(file, F_GETLEASE) == libc::F_RDLCK }
}

/// Puts this process's own memory in the place of all that lease `number` guards; false where
/// there is none. The lease is kept then, and the kernel goes on holding whoever wants to write,
/// for a while.
fn replace_all(number: usize) -> bool {
    let mut all = true;
    for range in &RANGES {
        if usize::try_from(range.lease.load(SeqCst)) == Ok(number) {
            all &= replace(range.start.load(SeqCst), range.len.load(SeqCst));
        }
    }
    all
}

/// Puts fresh memory with the same bytes in the place of `len` bytes from `start`, whole pages.
/// Other threads are stopped, so that nobody maps, unmaps or writes meanwhile.
fn replace(start: usize, len: usize) -> bool {
    const PAGE: usize = 4096;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: no address is asked for, so no existing mapping is touched.
    let fresh = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, -1, 0) };
    if fresh == libc::MAP_FAILED {
        return false;
    }
    let old: *mut c_void = ptr::with_exposed_provenance_mut(start);
    for offset in (0..len).step_by(PAGE) {
        // SAFETY: the guard's range is mapped until the guard is dropped, which a stopped thread
        // does not, and the file is as long as it was, for its lease is still held.
        let from = unsafe { old.cast::<u8>().add(offset) };
        // SAFETY: the fresh memory is as long.
        let to = unsafe { fresh.cast::<u8>().add(offset) };
        let rest = PAGE.min(len - offset);
        // SAFETY: as above; nobody writes to either meanwhile.
        unsafe { ptr::copy_nonoverlapping(from, to, rest) };
    }
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: what was mapped at the address gives way to memory with the same bytes and access, so
    // that whoever has the address, the hypervisor included, finds what was there.
    let moved = unsafe { libc::mremap(fresh, len, len, how, old) };
    moved == old
}
