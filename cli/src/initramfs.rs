//! The initramfs of our own, by which a guest gets drivers, a root on a disk, or one command.

mod drivers;
mod kernel_cmdline;

use crate::args::{GuestArgs, ROOT_TAG, RootfsArg};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::kernel::Files;
use crate::progress::Progress;
use crate::pstore;
use crate::root_image;
use firstlight_image::Image;
use firstlight_initramfs::{
    Command, Console, INIT, Initramfs, InitramfsError, Peer, Root, Status, Then,
};
use firstlight_vmm::ConsoleKind;
use rustix::termios::isatty;
use std::env;
use std::io;
use std::path::Path;

/// The port of the virtio console that takes a command's status.
const STATUS_PORT: &str = "org.firstlight.status";
/// The virtio console's terminal.
const VIRTIO_CONSOLE: &str = "/dev/hvc0";
/// What a system starts with, and what an initial ramdisk does (Linux `init/main.c`).
const SYSTEM_INIT: &str = "/sbin/init";
const RAMDISK_INIT: &str = "/init";
/// Where the guest finds its first disk, and its first memory that is a file.
const FIRST_DISK: &str = "/dev/vda";
const FIRST_PMEM: &str = "/dev/pmem0";
/// What has ext4 read and write memory without a cache (Linux `Documentation/filesystems/dax.rst`).
const DIRECT: &str = "dax";

/// An initramfs, and what has the kernel start it.
#[derive(Debug)]
pub(crate) struct OwnInitramfs {
    /// Comes behind all other archives.
    pub(crate) archive: Vec<u8>,
    /// The kernel's whole command line.
    pub(crate) cmdline: String,
}

/// The initramfs that a boot of `image` needs beside what it is given, if any.
pub(crate) fn of(
    args: &GuestArgs,
    files: &Files,
    image: &Image<'_>,
    progress: Progress,
) -> Result<Option<OwnInitramfs>, Failure> {
    if !args.needs_initramfs() {
        return Ok(None);
    }
    refuse_nothing_to_start(args, files, image)?;
    let cmdline = cmdline(args, image, progress);
    refuse_other_init(&cmdline)?;
    let root = root(args, &cmdline)?;
    let architecture = image.architecture();
    let crash_log = pstore::of(args, architecture)?;
    let mut wanted = drivers::wanted(&args.devices(), root.as_ref(), architecture);
    wanted.extend(crash_log.map(|_| drivers::CRASH_LOG));
    let mut modules = drivers::modules(args, files, (image, &wanted), progress)?;
    for module in &mut modules {
        if let Some(log) = crash_log.filter(|_| module.name == drivers::CRASH_LOG) {
            module.parameters = log.parameters();
        }
    }
    let initramfs = Initramfs {
        modules,
        root,
        then: then(args, &cmdline),
        status: Status::Port(STATUS_PORT.to_owned()),
    };
    let archive = initramfs
        .build(architecture)
        .map_err(|error| cannot_make(&error))?;
    // In front, for what is behind `--` goes to the program that is started.
    let cmdline = format!("rdinit={INIT} {cmdline}").trim_end().to_owned();
    Ok(Some(OwnInitramfs { archive, cmdline }))
}

/// A command takes a program, and drivers are for whoever comes behind them.
fn refuse_nothing_to_start(
    args: &GuestArgs,
    files: &Files,
    image: &Image<'_>,
) -> Result<(), Failure> {
    let has_ramdisk = files.initrd().is_some() || !image.parts().initrds.is_empty();
    if args.has_root() || has_ramdisk {
        return Ok(());
    }
    let what = match args.runs_a_command() {
        true => {
            "there is nothing to run the command from: it takes --root, --rootfs or --initrd; --root / \
             runs one of this host's"
        }
        false => {
            "drivers alone start nothing: --modules takes --root, --rootfs, --initrd or a command"
        }
    };
    Err(Failure::new(ExitStatus::Usage, what))
}

/// The command line but for what starts our initramfs.
fn cmdline(args: &GuestArgs, image: &Image<'_>, progress: Progress) -> String {
    let of_image = image.parts().cmdline;
    if args.runs_a_command() && !progress.is_verbose() {
        args.silent_cmdline(of_image, image.architecture())
    } else {
        args.cmdline(of_image, image.architecture())
    }
}

fn refuse_other_init(cmdline: &str) -> Result<(), Failure> {
    match kernel_cmdline::value(cmdline, "rdinit") {
        None => Ok(()),
        Some(path) => Err(Failure::new(
            ExitStatus::Usage,
            format!(
                "the kernel's command line has rdinit={path}, and --root, --rootfs, --modules and \
                 commands need rdinit={INIT}"
            ),
        )),
    }
}

/// What becomes the guest's root.
fn root(args: &GuestArgs, cmdline: &str) -> Result<Option<Root>, Failure> {
    let of_disk = args.guest_init.rootfs.as_ref();
    let of_disk = of_disk.map(|root| root_on(root, cmdline)).transpose()?;
    let shared = args.guest_init.root.as_ref();
    Ok(of_disk.or(shared.map(|_folder| Root::shared(ROOT_TAG))))
}

/// The root on a disk, or elsewhere in the guest where the command line says so.
fn root_on(wanted: &RootfsArg, cmdline: &str) -> Result<Root, Failure> {
    let RootfsArg { disk, is_pmem } = wanted;
    let value = |name| kernel_cmdline::value(cmdline, name);
    let device = value("root");
    let file_systems = value("rootfstype");
    let flags = value("rootflags");
    let mut options = flags.unwrap_or_default();
    if device.is_none() && file_systems.is_none() {
        root_image::refuse_other_than_ext4(&disk.path)?;
        if *is_pmem && flags.is_none() {
            root_image::refuse_small_blocks(&disk.path)?;
            options = DIRECT;
        }
    }
    let first = if *is_pmem { FIRST_PMEM } else { FIRST_DISK };
    let mut root = Root::ext4(device.unwrap_or(first));
    if let Some(names) = file_systems {
        root.file_systems = names.split(',').map(str::to_owned).collect();
    }
    root.read_only = disk.readonly;
    root.options = options.to_owned();
    Ok(root)
}

fn then(args: &GuestArgs, cmdline: &str) -> Then {
    if args.runs_a_command() {
        return Then::Run(Command {
            arguments: args.command.clone(),
            folder: folder(args.guest_init.root.as_deref()),
            environment: Vec::new(),
            console: console(args.devices().console),
        });
    }
    let default = match args.has_root() {
        true => SYSTEM_INIT,
        false => return Then::Init(RAMDISK_INIT.to_owned()),
    };
    let init = kernel_cmdline::value(cmdline, "init");
    Then::Init(init.unwrap_or(default).to_owned())
}

/// Where in a guest with the root `root` the folder is in which this runs.
fn folder(root: Option<&Path>) -> Option<String> {
    let root = root?.canonicalize().ok()?;
    let here = env::current_dir().ok()?;
    let below = here.strip_prefix(root).ok()?;
    Some(format!("/{}", below.to_str()?))
}

/// Ours is the guest's. What it is makes no initramfs longer or shorter.
fn console(kind: ConsoleKind) -> Console {
    let peer = |is_terminal| match is_terminal {
        true => Peer::Terminal,
        false => Peer::File,
    };
    let mut console = Console {
        input: peer(isatty(io::stdin())),
        output: peer(isatty(io::stdout())),
        ..Console::default()
    };
    if kind == ConsoleKind::Virtio {
        VIRTIO_CONSOLE.clone_into(&mut console.device);
    }
    console
}

fn cannot_make(error: &InitramfsError) -> Failure {
    let status = match error {
        InitramfsError::Architecture(_) | InitramfsError::NoDebugExit(_) => ExitStatus::Plan,
        InitramfsError::NoCommand
        | InitramfsError::NoFileSystem(_)
        | InitramfsError::ModuleName(_)
        | InitramfsError::LongPortName { .. }
        | InitramfsError::Nul { .. } => ExitStatus::Usage,
        InitramfsError::Archive(_) => ExitStatus::Host,
    };
    Failure::because(status, "cannot make the guest's initramfs", error)
}
