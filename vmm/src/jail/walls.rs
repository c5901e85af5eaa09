//! What a device's process can reach: nothing but what it was given.
//!
//! See namespaces(7), pivot_root(2), capabilities(7), landlock(7) and seccomp(2). Process numbers of the host are
//! not hidden by a namespace, which takes a process more: no system call that names one is let through.
#![expect(
    unsafe_code,
    reason = "a namespace is only to be had by an unsafe function"
)]

use super::system_calls;
use crate::virtio::Grounds;
use landlock::{
    ABI, Access, AccessFs, PathBeneath, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_move, move_mount, open_tree, unmount,
};
use rustix::process::{
    Resource, Rlimit, chdir, chroot, fchdir, getegid, geteuid, getrlimit, pivot_root, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs, unshare_unsafe,
};
use std::collections::BTreeSet;
use std::fs;
use std::io;

/// A wall cannot be put up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WallError {
    /// The host has no namespaces for it.
    #[error(
        "this host lets nobody have namespaces ({0}); --sandbox off does without them, and without all other walls"
    )]
    Namespaces(Errno),
    /// Nothing keeps it to its folder.
    #[error(
        "this host has no Landlock, and namespaces for root only: nothing would keep the process to its folder; \
         --sandbox off does without"
    )]
    NoWalls,
    /// The host refuses.
    #[error("cannot {doing}")]
    Host {
        /// What was tried, to be read after "cannot".
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// System calls cannot be forbidden.
    #[error("cannot forbid system calls")]
    SystemCalls(#[from] seccompiler::Error),
    /// The same, in the kernel's filter.
    #[error("cannot forbid system calls")]
    Filter(#[from] seccompiler::BackendError),
    /// Files cannot be forbidden.
    #[error("cannot forbid files")]
    Files(#[from] RulesetError),
}

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> WallError {
    move |source| WallError::Host {
        doing,
        source: source.into(),
    }
}

/// The walls of one kind of device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walls {
    /// What of root's rights is kept, where this is root.
    keeps: CapabilitySet,
    /// The most descriptors, where there is a most.
    descriptors: Option<u64>,
    system_calls: fn() -> BTreeSet<i64>,
    /// Whether a user namespace is good enough where there are no rights for others: it hides whose files are
    /// whose.
    hides_owners: bool,
}

impl Walls {
    /// A file that is open, and nothing else.
    pub(super) const FOR_A_DISK: Self = Self {
        keeps: CapabilitySet::empty(),
        descriptors: Some(64),
        system_calls: system_calls::of_a_disk,
        hides_owners: true,
    };

    /// Somebody who carries frames, whose other end is open.
    pub(super) const FOR_A_CARD: Self = Self {
        keeps: CapabilitySet::empty(),
        descriptors: Some(64),
        system_calls: system_calls::of_a_card,
        hides_owners: true,
    };

    /// A folder, whose files keep their owners and modes: for that, root keeps its rights over files.
    pub(super) const FOR_A_SHARE: Self = Self {
        keeps: CapabilitySet::CHOWN
            .union(CapabilitySet::DAC_OVERRIDE)
            .union(CapabilitySet::DAC_READ_SEARCH)
            .union(CapabilitySet::FOWNER)
            .union(CapabilitySet::FSETID)
            .union(CapabilitySet::MKNOD),
        descriptors: None,
        system_calls: system_calls::of_a_share,
        hides_owners: false,
    };

    #[cfg(test)]
    pub(super) const fn with_system_calls(self, system_calls: fn() -> BTreeSet<i64>) -> Self {
        Self {
            system_calls,
            ..self
        }
    }

    /// Whether there is a folder within.
    #[cfg(test)]
    pub(super) const fn have_a_folder(&self) -> bool {
        !self.hides_owners
    }

    /// Puts them up round this process, which has one thread; within is `folder`, or nothing of the host's files.
    ///
    /// # Errors
    ///
    /// [`WallError`] for the first that cannot be had. That the kernel has no Landlock is none.
    pub(super) fn put_up(&self, folder: Option<OwnedFd>) -> Result<Option<Grounds>, WallError> {
        self.limit()?;
        if let Some(folder) = &folder {
            // Its mount in the new namespace is only to be had by where this process is.
            fchdir(folder).map_err(failed("enter the folder"))?;
        }
        let has_namespaces = self.leave_namespaces()?;
        let folder = match folder {
            None => {
                empty_root()?;
                None
            }
            Some(_) if has_namespaces => Some(enter_folder()?),
            Some(root) => Some(Grounds {
                root,
                descriptors: descriptors()?,
            }),
        };
        if !forbid_files(folder.as_ref())? && !has_namespaces {
            return Err(WallError::NoWalls);
        }
        self.drop_rights()?;
        set_no_new_privs(true).map_err(failed("give up new rights"))?;
        system_calls::forbid_all_but((self.system_calls)())?;
        Ok(folder)
    }

    /// No memory of the guest's is written to a file when this dies.
    fn limit(&self) -> Result<(), WallError> {
        let exactly = |most| Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        let limited = failed("limit what is used of the host");
        setrlimit(Resource::Core, exactly(0)).map_err(limited)?;
        let Some(most) = self.descriptors else {
            return Ok(());
        };
        let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(most);
        let limited = failed("limit what is used of the host");
        setrlimit(Resource::Nofile, exactly(most.min(maximum))).map_err(limited)
    }

    /// Leaves the host's mounts, network, messages between processes and name, and says whether it has.
    fn leave_namespaces(&self) -> Result<bool, WallError> {
        let wanted = UnshareFlags::NEWNS
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS;
        match unshare(wanted) {
            Ok(()) => {}
            Err(Errno::PERM) if self.hides_owners => {
                let (user, group) = (geteuid().as_raw(), getegid().as_raw());
                unshare(wanted | UnshareFlags::NEWUSER).map_err(WallError::Namespaces)?;
                // Whoever it was is root in there, as far as mounts are concerned.
                let told = fs::write("/proc/self/setgroups", "deny")
                    .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {user} 1")))
                    .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {group} 1")));
                told.map_err(failed("say who is who in a user namespace"))?;
            }
            // Whose files are whose is more than what the namespaces are for.
            Err(Errno::PERM) => return Ok(false),
            Err(errno) => return Err(WallError::Namespaces(errno)),
        }
        // What is mounted here is nobody else's; what others mount may come into a folder that is shared.
        let propagation = match self.hides_owners {
            true => MountPropagationFlags::PRIVATE,
            false => MountPropagationFlags::DOWNSTREAM,
        };
        let propagation = propagation | MountPropagationFlags::REC;
        mount_change("/", propagation).map_err(failed("keep mounts to itself"))?;
        Ok(true)
    }

    fn drop_rights(&self) -> Result<(), WallError> {
        let has = rustix::thread::capabilities(None).map_err(failed("ask for rights"))?;
        let keeps = has.permitted & self.keeps;
        let sets = CapabilitySets {
            effective: keeps,
            permitted: keeps,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).map_err(failed("give up rights"))
    }
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: descriptors stay shared, so no other thread misses any.
    unsafe { unshare_unsafe(flags) }
}

/// A folder that every host has, on which something is mounted for as long as it is not the root.
const PLACE: &str = "/proc";

/// Makes a folder with nothing in it the root.
fn empty_root() -> Result<(), WallError> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", PLACE, "tmpfs", flags, c"size=4k,nr_inodes=2")
        .map_err(failed("make an empty root"))?;
    chdir(PLACE).map_err(failed("enter an empty root"))?;
    change_root()
}

/// Makes the folder that this process is in the root.
fn enter_folder() -> Result<Grounds, WallError> {
    let own = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    // A mount of its own, out of which no name leads.
    let descriptors = open_tree(CWD, "/proc/self/fd", own);
    let descriptors = descriptors.map_err(failed("list descriptors"))?;
    let root = open_tree(CWD, ".", own | OpenTreeFlags::AT_RECURSIVE);
    let root = root.map_err(failed("mount the folder"))?;
    let from_itself = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, PLACE, from_itself).map_err(failed("mount the folder"))?;
    fchdir(&root).map_err(failed("enter the folder"))?;
    change_root()?;
    Ok(Grounds { root, descriptors })
}

/// Makes the mount that this process is in the root, and lets go of the old one.
fn change_root() -> Result<(), WallError> {
    match pivot_root(".", ".") {
        // The old one is mounted on the new one.
        Ok(()) => {
            unmount(".", UnmountFlags::DETACH).map_err(failed("let go of the host's files"))?;
        }
        // The kernel's first root cannot be put elsewhere (pivot_root(2)), but be covered.
        Err(Errno::INVAL) => {
            mount_move(".", "/").map_err(failed("change the root"))?;
            chroot(".").map_err(failed("change the root"))?;
        }
        Err(errno) => return Err(failed("change the root")(errno)),
    }
    chdir("/").map_err(failed("enter the root"))
}

fn descriptors() -> Result<OwnedFd, WallError> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    open("/proc/self/fd", flags, Mode::empty()).map_err(failed("list descriptors"))
}

/// What is asked of Landlock, of which older kernels do what they can.
const ASKED: ABI = ABI::V5;

fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(ASKED))?
        .create()
}

/// Forbids all files but those of `folder`, and says whether the kernel has Landlock for that.
fn forbid_files(folder: Option<&Grounds>) -> Result<bool, WallError> {
    let ruleset = ruleset()?;
    let ruleset = match folder {
        None => ruleset,
        Some(folder) => {
            let all = AccessFs::from_all(ASKED) & !AccessFs::Execute;
            ruleset.add_rule(PathBeneath::new(folder.root.as_fd(), all))?
        }
    };
    Ok(is_enforced(&ruleset.restrict_self()?))
}

fn is_enforced(status: &RestrictionStatus) -> bool {
    status.ruleset != RulesetStatus::NotEnforced
}

/// Whether this host's kernel has Landlock, without which a jailed device has one wall less.
#[must_use]
pub fn has_landlock() -> bool {
    // Tried by a thread that ends with it.
    let tried = std::thread::spawn(|| {
        let restricted = ruleset().and_then(RulesetCreated::restrict_self);
        restricted.is_ok_and(|status| is_enforced(&status))
    });
    tried.join().unwrap_or(false)
}
