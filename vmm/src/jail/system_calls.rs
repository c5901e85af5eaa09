//! The system calls that a device's process may make. Any other ends it at once.
//!
//! They are those that all architectures have (Linux `include/uapi/asm-generic/unistd.h`).

use super::walls::WallError;
use crate::virtio::SET_OFFLOADS;
use libc::{PROT_EXEC, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;

/// What every device takes: its socket, events, its memory and its end.
const OF_ALL: [c_long; 26] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sendto,
    libc::SYS_sigaltstack,
    libc::SYS_write,
];

/// What a disk takes.
const OF_A_DISK: [c_long; 7] = [
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
];

/// What a shared folder takes beside that.
const OF_A_SHARE: [c_long; 19] = [
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_geteuid,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// Those of a disk.
pub(super) fn of_a_disk() -> BTreeSet<i64> {
    OF_ALL.into_iter().chain(OF_A_DISK).collect()
}

/// Those of a network card.
pub(super) fn of_a_card() -> BTreeSet<i64> {
    OF_ALL.into_iter().chain([libc::SYS_ioctl]).collect()
}

/// Those of a shared folder.
pub(super) fn of_a_share() -> BTreeSet<i64> {
    of_a_disk().into_iter().chain(OF_A_SHARE).collect()
}

/// Ends this thread's process at the first system call that is none of `calls`.
pub(super) fn forbid_all_but(calls: BTreeSet<i64>) -> Result<(), WallError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        calls.into_iter().map(|call| (call, Vec::new())).collect();
    // Of devices, only a tap is told what it may leave to the guest.
    if let Some(rule) = rules.get_mut(&libc::SYS_ioctl) {
        let request = u64::from(SET_OFFLOADS);
        rule.push(SeccompRule::new(vec![SeccompCondition::new(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            request,
        )?])?);
    }
    // What is in memory is no program.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![without_programs()?]);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::try_from(ARCH)?,
    )?;
    let program = BpfProgram::try_from(filter)?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// The third argument of either lets nobody run what is there.
fn without_programs() -> Result<SeccompRule, BackendError> {
    let bits = u64::from(PROT_EXEC.unsigned_abs());
    SeccompRule::new(vec![SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(bits),
        0,
    )?])
}
