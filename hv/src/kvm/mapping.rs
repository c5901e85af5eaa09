//! The memory that a vCPU shares with KVM (`struct kvm_run` and the port data behind it), and the
//! ioctl that lets the kernel write to it.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use crate::{InternalError, SbiCall};
use kvm_bindings::{
    KVM_EXIT_IO_OUT, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, kvm_run,
};
use kvm_ioctls::{Error, VcpuFd};
use rustix::fd::BorrowedFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A vCPU's file and its memory shared with the kernel.
///
/// The kernel writes to that memory only while [`run`](RunFd::run) is under way, which needs the
/// vCPU to itself; so nobody holds a slice of it then.
#[derive(Debug)]
pub(super) struct RunFd {
    fd: VcpuFd,
    shared: Arc<Shared>,
}

/// What became of a run.
#[derive(Debug)]
pub(super) enum Running {
    /// KVM stopped for this reason, `KVM_EXIT_*`.
    Stopped(u32),
    /// A signal came, or `immediate_exit` was set.
    Interrupted,
    /// KVM wants to be called again.
    Again,
}

/// A port access that KVM reports, or what is left of it.
#[derive(Clone, Debug)]
pub(super) struct PortAccess {
    pub(super) port: u16,
    pub(super) write: bool,
    /// Bytes of each access.
    width: usize,
    /// How many accesses, of which this is the first.
    count: u32,
    /// Where in the shared memory the data is.
    offset: usize,
}

impl PortAccess {
    /// What is left when the first access is done.
    pub(super) fn rest(&self) -> Option<Self> {
        (self.count > 1).then(|| Self {
            count: self.count - 1,
            offset: self.offset + self.width,
            ..self.clone()
        })
    }
}

/// A memory-mapped access that KVM reports.
#[derive(Clone, Debug)]
pub(super) struct MmioAccess {
    pub(super) at: u64,
    pub(super) write: bool,
    len: usize,
}

/// Where the part of `struct kvm_run` begins that depends on the reason of the exit.
const DETAIL: usize = offset_of!(kvm_run, __bindgen_anon_1);

impl RunFd {
    /// Takes a vCPU's file, whose shared memory has `size` bytes.
    pub(super) fn new(fd: VcpuFd, size: usize) -> Result<(Self, ImmediateExit), Error> {
        let shared = Arc::new(Shared::map(&fd, size)?);
        let immediate_exit = ImmediateExit(Arc::clone(&shared));
        Ok((Self { fd, shared }, immediate_exit))
    }

    /// The file, for everything but running.
    pub(super) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Lets the guest run until KVM stops.
    pub(super) fn run(&mut self) -> Result<Running, Error> {
        match self.fd.run() {
            Ok(_) => Ok(Running::Stopped(self.u32(offset_of!(kvm_run, exit_reason)))),
            Err(errno) => match errno.errno() {
                libc::EINTR => Ok(Running::Interrupted),
                libc::EAGAIN => Ok(Running::Again),
                _ => Err(errno),
            },
        }
    }

    /// Whether the vCPU takes an interrupt (`kvm_run.ready_for_interrupt_injection`).
    #[cfg(target_arch = "x86_64")]
    pub(super) fn takes_interrupt(&self) -> bool {
        let [ready] = self.array(offset_of!(kvm_run, ready_for_interrupt_injection));
        ready != 0
    }

    /// Whether KVM stops as soon as it does (`kvm_run.request_interrupt_window`).
    #[cfg(target_arch = "x86_64")]
    pub(super) fn stop_to_interrupt(&mut self, wanted: bool) {
        const { assert!(offset_of!(kvm_run, request_interrupt_window) == 0) };
        // SAFETY: the structure is at the beginning of the mapping, as `map` made sure; the kernel only reads this
        // byte, during `run`, which this borrow excludes, and nobody else has a reference to it.
        unsafe { self.shared.start.as_ptr().write(wanted.into()) };
    }

    /// The register CR8 (`kvm_run.cr8`).
    #[cfg(target_arch = "x86_64")]
    pub(super) fn task_priority(&self) -> u8 {
        let [class] = self.array(offset_of!(kvm_run, cr8));
        class
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn set_task_priority(&mut self, class: u8) {
        let cr8 = u64::from(class & 0xf).to_ne_bytes();
        self.slice(offset_of!(kvm_run, cr8), cr8.len())
            .copy_from_slice(&cr8);
    }

    /// The levels of the lines of the vCPU's own parts (`kvm_run.s.regs.device_irq_level`).
    #[cfg(target_arch = "aarch64")]
    pub(super) fn device_levels(&self) -> u64 {
        self.u64(offset_of!(kvm_run, s))
    }

    /// The vector of the interrupt that has ended (`kvm_run.eoi`).
    pub(super) fn ended_vector(&self) -> u8 {
        let [vector] = self.array(DETAIL);
        vector
    }

    /// The port access that KVM stopped for (`kvm_run.io`).
    pub(super) fn port_access(&self) -> PortAccess {
        let [direction, width] = self.array(DETAIL);
        PortAccess {
            port: u16::from_ne_bytes(self.array(DETAIL + 2)),
            write: u32::from(direction) == KVM_EXIT_IO_OUT,
            width: width.into(),
            count: self.u32(DETAIL + 4),
            offset: usize::try_from(self.u64(DETAIL + 8)).unwrap_or(usize::MAX),
        }
    }

    /// The data of the first access of `access`.
    pub(super) fn port_data(&mut self, access: &PortAccess) -> &mut [u8] {
        self.slice(access.offset, access.width)
    }

    /// The memory-mapped access that KVM stopped for (`kvm_run.mmio`).
    pub(super) fn mmio_access(&self) -> MmioAccess {
        const DATA: usize = 8;
        let [write] = self.array(DETAIL + 20);
        MmioAccess {
            at: self.u64(DETAIL),
            write: write != 0,
            len: DATA.min(self.u32(DETAIL + 16) as usize),
        }
    }

    /// The data of `access`.
    pub(super) fn mmio_data(&mut self, access: &MmioAccess) -> &mut [u8] {
        self.slice(DETAIL + 8, access.len)
    }

    /// What KVM could not do (`kvm_run.internal`, `kvm_run.emulation_failure`).
    pub(super) fn internal_error(&self) -> InternalError {
        const MOST: usize = 16;
        const DATA: usize = DETAIL + 8;
        let suberror = self.u32(DETAIL);
        let count = MOST.min(self.u32(DETAIL + 4) as usize);
        let data: Vec<u64> = (0..count).map(|index| self.u64(DATA + 8 * index)).collect();
        let flags = data.first().copied().unwrap_or(0);
        let has_bytes = suberror == KVM_INTERNAL_ERROR_EMULATION
            && flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
        let instruction = if has_bytes {
            // The length and up to 15 bytes, behind the flags.
            let [len, bytes @ ..]: [u8; 16] = self.array(DATA + 8);
            bytes[..bytes.len().min(len.into())].to_vec()
        } else {
            Vec::new()
        };
        InternalError {
            suberror,
            data,
            instruction,
        }
    }

    /// Why the processor refused the guest's state (`kvm_run.fail_entry`).
    pub(super) fn fail_entry_reason(&self) -> u64 {
        self.u64(DETAIL)
    }

    /// What the guest asked for (`kvm_run.system_event`).
    pub(super) fn system_event(&self) -> u32 {
        self.u32(DETAIL)
    }

    /// The address that the guest accessed (`kvm_run.arm_nisv`).
    pub(super) fn undescribed_address(&self) -> u64 {
        self.u64(DETAIL + 8)
    }

    /// What the guest called for (`kvm_run.riscv_sbi`).
    pub(super) fn sbi_call(&self) -> SbiCall {
        SbiCall {
            extension: self.u64(DETAIL),
            function: self.u64(DETAIL + 8),
            arguments: std::array::from_fn(|index| self.u64(DETAIL + 16 + 8 * index)),
        }
    }

    /// What it is answered.
    pub(super) fn sbi_answer(&mut self) -> &mut [u64; 2] {
        const ANSWER: usize = DETAIL + 64;
        const { assert!(ANSWER.is_multiple_of(align_of::<u64>())) };
        let start = self.shared.at(ANSWER, size_of::<[u64; 2]>());
        // SAFETY: `at` found all bytes inside the mapping, which lives as long as this value and
        // begins at a page, so that the words are aligned; the kernel writes there only during
        // `run`, which this borrow excludes.
        unsafe { start.cast::<[u64; 2]>().as_mut() }
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.array(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.array(offset))
    }

    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let from = self.shared.at(offset, N);
        // SAFETY: `at` found all N bytes inside the mapping; the kernel writes there only during
        // `run`, which borrows this value mutably, and a byte array has no alignment to keep.
        unsafe { from.cast::<[u8; N]>().read() }
    }

    fn slice(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.shared.at(offset, len);
        // SAFETY: `at` found all bytes inside the mapping, which lives as long as this value; the
        // kernel writes there only during `run`, which this borrow excludes, and `ImmediateExit`
        // only to a byte before `exit_reason`, which `at` keeps out of.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }
}

/// The flag that makes a vCPU's run return at once; settable while the vCPU runs.
#[derive(Debug)]
pub(super) struct ImmediateExit(Arc<Shared>);

impl ImmediateExit {
    pub(super) fn set(&self, on: bool) {
        // A swap and no store: who clears the flag then sees whatever was done before it was set.
        self.0.immediate_exit().swap(on.into(), Ordering::SeqCst);
    }
}

/// The mapping itself.
#[derive(Debug)]
struct Shared {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory owned by the value; nothing about it belongs to a thread.
unsafe impl Send for Shared {}
// SAFETY: through a shared reference only the atomic `immediate_exit` byte can be reached from
// outside `RunFd`, which is the only one to touch the rest.
unsafe impl Sync for Shared {}

impl Shared {
    fn map(fd: &VcpuFd, len: usize) -> Result<Self, Error> {
        assert!(
            len >= size_of::<kvm_run>(),
            "KVM says how large its structure is"
        );
        // SAFETY: the vCPU's file is open for as long as `fd` is borrowed.
        let file = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .map_err(|errno| Error::new(errno.raw_os_error()))?;
        let start = NonNull::new(start.cast()).expect("mmap never answers with page 0");
        Ok(Self { start, len })
    }

    /// The address of `len` bytes at `offset`, which KVM gave.
    fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(
            inside && offset >= offset_of!(kvm_run, exit_reason),
            "KVM speaks of data inside its own structure"
        );
        // SAFETY: the offset is inside the mapping, as just seen.
        unsafe { self.start.add(offset) }
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        const OFFSET: usize = offset_of!(kvm_run, immediate_exit);
        // SAFETY: the structure is at the beginning of the mapping, as `map` made sure.
        let byte = unsafe { self.start.add(OFFSET) };
        // SAFETY: a byte is always aligned, lives as long as the mapping, and this process only
        // ever touches it atomically; the kernel only reads it.
        unsafe { AtomicU8::from_ptr(byte.as_ptr()) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by this value and nothing outlives it that points into it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can always be unmapped");
    }
}
