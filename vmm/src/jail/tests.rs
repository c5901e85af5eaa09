//! Processes of their own, which put the walls up round themselves and then try to get out.
#![expect(unsafe_code, reason = "walls are tried in children")]

use super::*;
use crate::notebook::Notebook;
use crate::virtio::Grounds;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat, openat2};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;

/// What a child says where it got as far as it was to get.
const DONE: i32 = 42;
/// What it says where this host has no walls of that kind.
const NONE: i32 = 43;

/// Has a child do `act`, and says how it ended.
fn in_a_child(act: impl FnOnce() -> i32) -> WaitStatus {
    // SAFETY: the child, which has one thread, does what is given and ends.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "there is room for a child");
    if child == 0 {
        // A panic is no way back into the other tests.
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or(1);
        // SAFETY: nothing of the parent's is torn down.
        unsafe { libc::_exit(code) };
    }
    let child = Pid::from_raw(child).unwrap();
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    status
}

/// Puts walls up in a child, and has it do `act` within.
fn within(
    walls: &Walls,
    folder: Option<OwnedFd>,
    act: impl FnOnce(Option<Grounds>) -> i32,
) -> WaitStatus {
    let walls = *walls;
    in_a_child(move || match walls.put_up(folder) {
        Ok(grounds) => act(grounds),
        Err(walls::WallError::Namespaces(_) | walls::WallError::NoWalls) => NONE,
        Err(error) => {
            eprintln!("{}", Chain(&error));
            1
        }
    })
}

/// Whether it got as far as it was to get; `false` on hosts without such walls, which is said.
fn did(status: WaitStatus) -> bool {
    match status.exit_status() {
        Some(NONE) => {
            println!("skipped: this host has no namespaces for the user");
            false
        }
        other => {
            assert_eq!(other, Some(DONE), "{status:?}");
            true
        }
    }
}

fn yes(is: bool) -> i32 {
    if is { DONE } else { 1 }
}

/// The walls of a folder without those that would end a child which tries names.
fn may_try_names(walls: Walls) -> Walls {
    walls.with_system_calls(system_calls::of_a_share)
}

#[test]
fn an_open_file_is_all_that_is_left_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, b"sector").unwrap();
    let file = File::open(&path).unwrap();
    let _ = did(within(&may_try_names(Walls::FOR_A_DISK), None, |_| {
        let mut bytes = [0; 6];
        let is_there = file.read_exact_at(&mut bytes, 0).is_ok() && &bytes == b"sector";
        let names = ["/etc/passwd", "/proc/self/exe", "/dev/null", "/..", "/"];
        let opens = |name: &&str| openat(CWD, *name, OFlags::RDONLY, Mode::empty()).is_ok();
        let makes = openat(CWD, &path, OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).is_ok();
        // An empty root can be looked at where the kernel has no Landlock.
        let found: Vec<_> = names.iter().filter(|name| opens(name)).collect();
        let only_empty = found.iter().all(|name| ["/..", "/"].contains(name));
        yes(is_there && only_empty && !makes)
    }));
}

#[test]
fn a_folder_is_all_that_is_left_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("shared");
    fs::create_dir(&inner).unwrap();
    fs::write(folder.path().join("secret"), b"secret").unwrap();
    fs::write(inner.join("file"), b"hello").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), inner.join("link")).unwrap();
    let root = open(&inner, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let _ = did(within(&Walls::FOR_A_SHARE, Some(root), |grounds| {
        let Grounds { root, descriptors } = grounds.expect("a folder");
        let read = OFlags::RDONLY;
        let opens = |folder: &OwnedFd, name: &str| {
            openat2(folder, name, read, Mode::empty(), ResolveFlags::empty()).is_ok()
        };
        let out = ["../secret", "link", "../../etc/passwd", "/etc/passwd"];
        let is_out = out.iter().any(|name| opens(&root, name))
            || [
                "../exe",
                "../../../etc/passwd",
                concat!("../root", "/etc/passwd"),
                "../environ",
            ]
            .iter()
            .any(|name| opens(&descriptors, name))
            || openat2(
                CWD,
                "/etc/passwd",
                read,
                Mode::empty(),
                ResolveFlags::empty(),
            )
            .is_ok();
        // What was found is opened again, as the file system does.
        let found = openat2(
            &root,
            "file",
            OFlags::PATH,
            Mode::empty(),
            ResolveFlags::empty(),
        );
        let again = found.is_ok_and(|found| {
            use rustix::fd::AsRawFd;
            opens(&descriptors, &found.as_raw_fd().to_string())
        });
        yes(!is_out && again)
    }));
}

#[test]
fn a_system_call_that_is_not_needed_ends_the_process() {
    for walls in [Walls::FOR_A_DISK, Walls::FOR_A_CARD, Walls::FOR_A_SHARE] {
        let folder = tempfile::tempdir().unwrap();
        let root = open(folder.path(), OFlags::PATH, Mode::empty()).unwrap();
        let root = walls.have_a_folder().then_some(root);
        let status = within(&walls, root, |_| {
            let _ = UnixStream::pair();
            DONE
        });
        if status.exit_status() != Some(NONE) {
            assert_eq!(
                status.terminating_signal(),
                Some(libc::SIGSYS),
                "{status:?}"
            );
        }
    }
}

#[test]
fn memory_that_is_a_program_ends_the_process() {
    let status = within(&Walls::FOR_A_DISK, None, |_| {
        // SAFETY: no address is asked for, and nothing is there to be run.
        let _ = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        DONE
    });
    if status.exit_status() != Some(NONE) {
        assert_eq!(
            status.terminating_signal(),
            Some(libc::SIGSYS),
            "{status:?}"
        );
    }
}

#[test]
fn a_disks_rights_are_none() {
    let _ = did(within(
        &Walls::FOR_A_DISK.with_system_calls(with_questions),
        None,
        |_| {
            let has = rustix::thread::capabilities(None).unwrap();
            yes(has.permitted.is_empty() && has.effective.is_empty())
        },
    ));
}

fn with_questions() -> std::collections::BTreeSet<i64> {
    let mut calls = system_calls::of_a_disk();
    calls.extend([libc::SYS_capget]);
    calls
}

#[test]
fn what_a_process_serves_is_read_as_it_was_said() {
    let (access, number) = (Access::ReadOnly, 3);
    for inmate in [
        Inmate::Disk { access, number },
        Inmate::Card { is_tap: true },
        Inmate::Share {
            readonly: false,
            is_still: true,
        },
    ] {
        let words = inmate.words();
        let words = words.each_ref().map(String::as_str);
        assert_eq!(Inmate::parse(words), Some(inmate));
    }
    for wrong in [
        ["disk", "yes", "0"],
        ["disk", "true", "-1"],
        ["gpu", "", ""],
        ["card", "true", "x"],
    ] {
        assert_eq!(Inmate::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn how_a_process_has_ended_is_told() {
    let said = |script: &str| {
        let notebook = Notebook::new("test").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stderr(notebook.writer().unwrap());
        let child = command.spawn().unwrap();
        Process::of("disk 0", child, notebook).bury().to_string()
    };
    let forbidden =
        "the process of disk 0 has ended, killed at a system call that its jail forbids";
    assert_eq!(said("kill -SYS $$"), forbidden);
    let told = "the process of disk 0 has ended, with status 3: no room";
    assert_eq!(said("echo no room >&2; exit 3"), told);
    assert!(said("kill -SEGV $$").ends_with("killed by signal 11"));
}
