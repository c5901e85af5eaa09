//! Programs of other projects that serve guests' devices by vhost-user: QEMU's storage daemon, virtiofsd and passt.

use super::Ground;
use super::cases::Try;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::tree::{self, Planted, Tree};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Those of Debian 13: the passt of Debian 12 does not know of vhost-user.
const PROGRAMS: Tree = Tree {
    name: "vhost-user",
    suite: "trixie",
    packages: &["qemu-utils", "virtiofsd", "passt"],
    alone: &[],
    without: &[],
};

/// The programs, fetched where they are not in the cache.
pub(super) fn fetch(cache: &Cache) -> Outcome<Planted> {
    tree::fetch(cache, &PROGRAMS)
}

/// Where each listens, in the folder of a guest's files.
const DISK: &str = "disk.sock";
/// The same of the folders that are shared, in their order.
const SHARES: [&str; 2] = ["written.sock", "fixed.sock"];
/// And of the card.
const CARD: &str = "card.sock";

/// What Firstlight is told of the devices for `one`, whose sockets are in `folder`.
pub(super) fn devices(one: Try, folder: &Path) -> Vec<String> {
    let socket = |name: &str| folder.join(name).display().to_string();
    let [written, fixed] = SHARES.map(socket);
    match one {
        Try::Disk => vec![format!("block,socket={}", socket(DISK))],
        Try::Share => vec![
            format!("fs,socket={written},tag=host"),
            format!("fs,socket={fixed},tag=fixed"),
        ],
        Try::User => vec![format!("net,socket={}", socket(CARD))],
        _ => Vec::new(),
    }
}

/// The programs that serve one guest.
pub(super) struct Others {
    _running: Vec<Running>,
}

impl Others {
    /// Has a guest's disk, its folders and a card served.
    pub(super) fn start(programs: &Planted, ground: &Ground) -> Outcome<Self> {
        let [written, fixed] = SHARES;
        let running = [
            Running::start(disk(programs, ground), ground, DISK),
            Running::start(share(programs, ground, (written, &[])), ground, written),
            Running::start(
                share(programs, ground, (fixed, &["--readonly"])),
                ground,
                fixed,
            ),
            Running::start(card(programs, ground), ground, CARD),
        ];
        Ok(Self {
            _running: running.into_iter().collect::<Outcome<_>>()?,
        })
    }
}

fn disk(programs: &Planted, ground: &Ground) -> Command {
    let mut command = program(programs, "usr/bin/qemu-storage-daemon");
    let [file, socket] =
        [&ground.disk, &ground.folder.join(DISK)].map(|path| path.display().to_string());
    command
        .arg("--blockdev")
        .arg(format!("driver=file,node-name=disk,discard=unmap,filename={file}"))
        .arg("--export")
        .arg(format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path={socket}"
        ));
    command
}

/// Of a folder that goes by the name of its socket.
fn share(programs: &Planted, ground: &Ground, (socket, more): (&str, &[&str])) -> Command {
    let socket = ground.folder.join(socket);
    let mut command = program(programs, "usr/libexec/virtiofsd");
    command
        .arg("--shared-dir")
        .arg(socket.with_extension(""))
        .arg("--socket-path")
        .arg(socket)
        .args(["--sandbox", "none"])
        .args(more);
    command
}

fn card(programs: &Planted, ground: &Ground) -> Command {
    let mut command = program(programs, "usr/bin/passt");
    command
        .args(["--foreground", "--vhost-user", "--socket"])
        .arg(ground.folder.join(CARD));
    command
}

fn program(programs: &Planted, path: &str) -> Command {
    let mut words = programs.program(path).into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// A program that runs until this value is dropped.
struct Running(Child);

impl Running {
    /// Starts `command`, which is to listen at the socket of that name.
    fn start(mut command: Command, ground: &Ground, socket: &str) -> Outcome<Self> {
        let socket = ground.folder.join(socket);
        let said = socket.with_extension("said");
        let because = || format!("cannot make {}", said.display());
        let log = File::create(&said).because(because)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .because(|| format!("cannot start {}", process::shown(&command)))?;
        let mut running = Self(child);
        let start = Instant::now();
        // No program tells the world that it has begun to listen.
        while !listens(&socket)? {
            let has_ended = !matches!(running.0.try_wait(), Ok(None));
            if has_ended || start.elapsed() > PATIENCE {
                let command = process::shown(&command);
                let said = fs::read_to_string(&said).unwrap_or_default();
                return Err(Failure::new(format!("{command} does not listen\n{said}")));
            }
            thread::sleep(PAUSE);
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended with its guest.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The longest that a program may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether it does.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether somebody listens at `socket` (proc_pid_net(5): the flags are the fourth column, the path is the last).
fn listens(socket: &Path) -> Outcome<bool> {
    const LISTENS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix");
    let table = table.because(|| "cannot read the sockets that there are".to_owned())?;
    let path = socket.to_string_lossy();
    Ok(table.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.nth(3) == Some(LISTENS) && words.last() == Some(&path)
    }))
}
