//! The command line as it is typed.

mod control;
pub(crate) mod cpu;
mod device;
mod firmware;
mod guest_init;
mod virt;

use crate::args::cpu::{CpuArgs, SchedulingArgs};
use crate::exit_status::ExitStatus;
use crate::{address, memory_size};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
pub(crate) use control::{CtlArgs, CtlFormat, CtlVerb, SwapVerb};
use device::DeviceArgs;
pub(crate) use device::{PstoreArg, RootfsArg};
use firmware::FirmwareArgs;
use firstlight_base::{Gpa, GpaRange};
use firstlight_boot::platform::VirtRiscv64;
use firstlight_boot::{Hardware, Kaslr, Protocol, ProtocolChoice, Unpack};
use firstlight_image::Architecture;
use firstlight_vmm::{
    Devices, Engine, EngineChoice, Equipment, IrqchipMode, Share, Tag, VcpuPolicy,
};
use guest_init::GuestInitArgs;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use virt::VirtArgs;

/// The kernel's command line where nobody gives one. A panicking kernel resets at once instead of
/// waiting for somebody to read its last words, which the serial port has carried by then.
const DEFAULT_CMDLINE: &str = "console=ttyS0 panic=-1";
/// The same on a machine whose serial port is a PL011.
const DEFAULT_CMDLINE_ARM64: &str = "console=ttyAMA0 panic=-1";

/// What a command's guest has on its command line beside the default: so little of the kernel's
/// log comes to the console that the command is alone there. A panic is always told.
const COMMAND_CMDLINE: &str = "quiet loglevel=1";

/// The tag of the folder that is the guest's root.
pub(crate) const ROOT_TAG: &str = "firstlight.root";

/// So long a console may be silent.
const BOOT_WATCHDOG: Duration = Duration::from_secs(30);

const ABOUT: &str = "Turns a kernel file into a running guest";
const LONG_ABOUT: &str = "\
Turns a kernel file into a running guest.

Finds out what the file is (inspect), works out where every byte and every register goes (plan), \
and carries that out on KVM, or on QEMU where KVM cannot run it (boot).";

const PLAN_USAGE: &str = "firstlight plan [OPTIONS] [--kernel] <FILE> [-- <COMMAND>...]";
const DIFF_USAGE: &str = "firstlight diff [OPTIONS] <FILE> <FILE>";
const EXPORT_USAGE: &str =
    "firstlight export --format <FORMAT> --output <FILE> [OPTIONS] [--kernel] <FILE>";
const BOOT_USAGE: &str = "firstlight boot [OPTIONS] [--kernel] <FILE> [-- <COMMAND>...]";

/// What was typed. It is taken by [`parsed`](Self::parsed).
#[derive(Debug, Parser)]
#[command(name = "firstlight", version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(after_long_help = ExitStatus::table(), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// Say on standard error what is done and how long it takes
    #[arg(short, long, global = true, display_order = 900)]
    pub(crate) verbose: bool,
}

impl Cli {
    /// The same with everything where those who carry it out look for it.
    pub(crate) fn parsed(self) -> Self {
        let verb = self.verb.parsed();
        Self { verb, ..self }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Inspect(InspectArgs),
    Plan(PlanArgs),
    Diff(DiffArgs),
    Boot(BootArgs),
    Export(ExportArgs),
    Cache(CacheArgs),
    Pstore(PstoreArgs),
    Ctl(CtlArgs),
    /// Print the JSON schema of the files that --config takes
    ConfigSchema,
    Completions(CompletionsArgs),
    #[command(hide = true)]
    Man(ManArgs),
}

impl Verb {
    /// Takes the command to what the guest is asked for. It is no argument of that, because clap does
    /// not let `diff` have words behind `--` and two kernels of which one may have a name.
    fn parsed(mut self) -> Self {
        let (guest, command) = match &mut self {
            Self::Plan(args) => (&mut args.guest, &mut args.command),
            Self::Boot(args) => (&mut args.guest, &mut args.command),
            Self::Inspect(_)
            | Self::Diff(_)
            | Self::Export(_)
            | Self::Cache(_)
            | Self::Pstore(_)
            | Self::Ctl(_)
            | Self::ConfigSchema
            | Self::Completions(_)
            | Self::Man(_) => return self,
        };
        guest.command = std::mem::take(&mut command.command);
        self
    }

    /// The file that further options come from.
    pub(crate) fn config(&self) -> Option<&Path> {
        let guest = match self {
            Self::Plan(args) => &args.guest,
            Self::Diff(args) => &args.guest,
            Self::Boot(args) => &args.guest,
            Self::Export(args) => &args.guest,
            Self::Inspect(_)
            | Self::Cache(_)
            | Self::Pstore(_)
            | Self::Ctl(_)
            | Self::ConfigSchema
            | Self::Completions(_)
            | Self::Man(_) => return None,
        };
        guest.config.as_deref()
    }
}

/// Tell what a kernel file is and how it can be booted
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct InspectArgs {
    /// The file to look into
    pub(crate) image: PathBuf,
    /// How to tell it
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: InspectFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    Text,
    Json,
}

/// Show where every byte and every register of a boot would go, without running anything
#[derive(Debug, Args)]
#[command(args_override_self = true, override_usage = PLAN_USAGE)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    #[command(flatten)]
    command: CommandArgs,
    /// How to show it: tables, JSON, or a picture of the guest's memory
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: PlanFormat,
    /// Show who has which addresses, ports, interrupts and PCI slots instead
    #[arg(long)]
    pub(crate) devices: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    Text,
    Json,
    Svg,
}

/// Show what would be different if another kernel were booted in the same way
#[derive(Debug, Args)]
#[command(args_override_self = true, override_usage = DIFF_USAGE)]
#[command(allow_missing_positional = true)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    /// The other kernel
    #[arg(value_name = "FILE")]
    other: PathBuf,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: DiffFormat,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

impl DiffArgs {
    /// The boot of the other kernel.
    pub(crate) fn after(&self) -> GuestArgs {
        GuestArgs {
            file: None,
            kernel: Some(self.other.clone()),
            ..self.guest.clone()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    Text,
    Json,
}

/// Write a boot to a file that others boot, instead of booting it
#[derive(Debug, Args)]
#[command(args_override_self = true, override_usage = EXPORT_USAGE)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    /// What kind of file
    #[arg(long, value_enum)]
    pub(crate) format: ExportFormat,
    /// Where to write it; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// Show or remove what is kept unpacked of kernels and initial ramdisks
///
/// It is in the folder that the variable FIRSTLIGHT_CACHE names, else in firstlight/images below
/// XDG_CACHE_HOME or ~/.cache. Guests that run from it go on when it is cleared.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) verb: CacheVerb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum CacheVerb {
    /// Tell what is kept, and how much room it takes
    List,
    /// Remove everything that is kept
    Clear,
}

/// Show what the kernels of dead guests left behind in the file of --pstore
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PstoreArgs {
    /// The file
    pub(crate) file: PathBuf,
    /// How to show it
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: PstoreFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PstoreFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Linux kernel, initial ramdisk and command line as one ELF file with a PVH entry
    ///
    /// Whoever boots it decides about memory, processors and devices, and may add to the command
    /// line.
    PvhElf,
    /// The whole plan, registers included, as an IGVM file for a native x64 platform
    Igvm,
    /// What takes a processor from reset to the plan's registers: on x86 the 64 KiB that end at
    /// 4 GiB, on arm64 what begins at 0
    Rom,
}

/// Boot a kernel with its serial console on this terminal
///
/// Standard input and output are the guest's serial console. On a terminal, Ctrl-A x ends the
/// guest and Ctrl-A h lists what else there is.
///
/// With a command behind --, that is run in the guest instead of a system, and its exit status is
/// this one's: `firstlight boot vmlinuz --root / -- uname -a` runs this host's own
/// uname under another kernel.
#[derive(Debug, Args)]
#[command(args_override_self = true, override_usage = BOOT_USAGE)]
#[command(after_long_help = ExitStatus::table())]
pub(crate) struct BootArgs {
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    #[command(flatten)]
    command: CommandArgs,
    /// What runs the guest; auto takes KVM where it passes a probe, else QEMU
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineArg,
    /// End the guest after this many seconds, with status 124; 0 is never
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    timeout: Duration,
    /// Say what the guest is doing when its console is still silent after so many seconds; 0 is
    /// never [default: 30, and never where a command is run]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    boot_watchdog: Option<Duration>,
    /// End, with status 0, when the guest resets; otherwise it is booted again, unless a command is
    /// run
    #[arg(long)]
    pub(crate) no_reboot: bool,
    /// Let the guest end its machine with a status of its own, which is handed on
    ///
    /// The guest writes one byte, 0 to 127, to I/O port 0xf4.
    #[arg(long)]
    pub(crate) exit_from_guest: bool,
    /// Say nothing but errors on standard error
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Let others control the guest while it runs, by a Unix socket at this path: `firstlight ctl`, and
    /// whatever speaks HTTP
    ///
    /// Nobody may connect but this user. The socket's file goes with the guest.
    #[arg(long, value_name = "PATH")]
    pub(crate) api_sock: Option<PathBuf>,
    /// The folder to swap the guest's memory to, when `firstlight ctl swap out` says so
    ///
    /// It takes the kvm engine and Linux 6.8 as the host, with root's rights or /dev/userfaultfd. The file has no name,
    /// and goes with the guest however that ends.
    #[arg(long, value_name = "DIR", requires = "api_sock")]
    swap: Option<PathBuf>,
    /// Who is the guest's interrupt controllers, on the kvm engine: kernel for KVM; on x86 also split for KVM with the
    /// local APICs and this process with 8259s, I/O APIC and timer; on x86 and arm64 also user for this process with all
    #[arg(long, value_enum, value_name = "MODE", default_value = "kernel")]
    irqchip: IrqchipArg,
    #[command(flatten)]
    scheduling: SchedulingArgs,
}

/// `--irqchip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IrqchipArg {
    Kernel,
    Split,
    User,
}

impl IrqchipArg {
    fn mode(self) -> IrqchipMode {
        match self {
            Self::Kernel => IrqchipMode::Kernel,
            Self::Split => IrqchipMode::Split,
            Self::User => IrqchipMode::User,
        }
    }
}

impl BootArgs {
    pub(crate) fn engine(&self) -> EngineChoice {
        match self.engine {
            EngineArg::Auto => EngineChoice::Auto,
            EngineArg::Kvm => EngineChoice::Only(Engine::Kvm),
            EngineArg::Qemu => EngineChoice::Only(Engine::Qemu),
        }
    }

    /// How the vCPUs are run.
    pub(crate) fn policy(&self) -> VcpuPolicy {
        self.scheduling.policy(&self.guest.cpu, self.guest.cpus)
    }

    pub(crate) fn irqchip(&self) -> IrqchipMode {
        self.irqchip.mode()
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        (!self.timeout.is_zero()).then_some(self.timeout)
    }

    /// What the machine is given beside its plan and the files that memory of it is kept in.
    pub(crate) fn equipment(&self) -> Equipment {
        Equipment {
            devices: self.guest.devices(),
            policy: self.policy(),
            swap: self.swap.clone(),
            irqchip: self.irqchip(),
            ..Equipment::default()
        }
    }

    pub(crate) fn boot_watchdog(&self) -> Option<Duration> {
        let unless_given = match self.guest.runs_a_command() {
            // How much a command says, and when, is its own affair.
            true => Duration::ZERO,
            false => BOOT_WATCHDOG,
        };
        let patience = self.boot_watchdog.unwrap_or(unless_given);
        (!patience.is_zero()).then_some(patience)
    }

    /// Whether the guest is booted again when it resets.
    pub(crate) fn reboots(&self) -> bool {
        !self.no_reboot && !self.guest.runs_a_command()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineArg {
    Auto,
    Kvm,
    Qemu,
}

/// What a guest is there for, where that is one thing alone.
#[derive(Debug, Args)]
#[command(next_help_heading = None::<&str>)]
struct CommandArgs {
    /// A command that is run in the guest, and what it is given; its exit status is handed on
    ///
    /// It is run in the root of --root or --rootfs, or in the initial ramdisk, without any init of these, by the
    /// first user, on the guest's console. When it ends, the machine is turned off. A command that a
    /// signal ends has status 128 and the signal's number, one that is not found 127, one that cannot
    /// be run 126; where the guest does not come so far, or ends without the command, it is 125.
    /// Where standard input or output is no terminal, bytes come and go as they are: what is typed is
    /// not echoed, and lines end with a newline alone. The end of the input is not told to the command.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What is booted and on what machine.
#[derive(Clone, Debug, Args)]
pub(crate) struct GuestArgs {
    /// The kernel
    #[arg(value_name = "FILE", required_unless_present = "kernel")]
    file: Option<PathBuf>,
    /// The kernel, by name
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    kernel: Option<PathBuf>,
    /// A file with further options, in TOML or JSON: each under its long name, without the hyphens
    /// in front
    ///
    /// What is given here as well counts here. Relative paths in the file begin at its folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The initial ramdisk
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// A file that a kernel entered by PVH or multiboot is handed beside its initial ramdisk, and
    /// behind an equals sign its command line; may be given several times
    ///
    /// An equals sign in the file's name is written twice.
    #[arg(long = "module", value_name = "FILE[=TEXT]", action = ArgAction::Append)]
    #[arg(value_parser = OsStringValueParser::new().map(ModuleArg::from))]
    pub(crate) modules: Vec<ModuleArg>,
    /// The kernel's command line [default: console=ttyS0 panic=-1, on arm64 console=ttyAMA0
    /// panic=-1]
    ///
    /// The kernel gets it exactly as it is written here. On the qemu engine a word goes in front:
    /// tsc_early_khz=, the speed of a clock that the kernel cannot measure dependably there. Where a
    /// root, drivers or a command are asked for, rdinit= does. With a command, quiet loglevel=1 is
    /// behind the default, unless --verbose wants to see the kernel's log.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// Guest memory, in bytes or with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = memory_size::parse, default_value = "512M")]
    pub(crate) memory: u64,
    /// How many vCPUs
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = value_parser!(u32).range(1..=i64::from(VirtRiscv64::MAX_CPUS)))]
    pub(crate) cpus: u32,
    /// The boot protocol the kernel is entered by; auto takes the fastest it offers
    #[arg(long, value_enum, default_value = "auto")]
    protocol: ProtocolArg,
    /// Who unpacks a packed kernel; the host is several times faster
    #[arg(long, value_enum, default_value = "host")]
    unpack: UnpackArg,
    /// Which profile of a unified kernel image is booted; inspect lists them, and 0 is the first
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) profile: usize,
    /// Where the kernel is to lie, in hexadecimal behind 0x or with K, M, G or T
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    pub(crate) load_address: Option<Gpa>,
    /// Guest memory to keep everything off and to tell the guest as reserved, e.g. 1M-2M or
    /// 0x100000+64K; may be repeated
    #[arg(long, value_name = "RANGE", value_parser = address::parse_range)]
    #[arg(action = clap::ArgAction::Append)]
    pub(crate) reserve: Vec<GpaRange>,
    /// Whether a kernel that the host unpacks gets random addresses
    ///
    /// One that unpacks itself sees to that itself. The word nokaslr on the kernel's command line
    /// switches both off.
    #[arg(long, value_enum, default_value = "on")]
    kaslr: KaslrArg,
    /// The number that the random addresses come from, instead of a fresh one
    ///
    /// Without it a plan is shown with the kernel where it was linked to.
    #[arg(long, value_name = "N")]
    kaslr_seed: Option<u64>,
    /// Keep in this file what the guest's kernel says when it dies, for `firstlight pstore`; it is made
    /// if it is not there [default size: 1M]
    ///
    /// It is a piece of the guest's memory, which Linux writes to by its driver ramoops. A guest with a
    /// root, drivers or a command of ours loads that; others must have it built in, or load it. A comma
    /// in the file's name is written twice.
    #[arg(long, value_name = "FILE[,size=SIZE]")]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| device::pstore(&text)))]
    pub(crate) pstore: Option<PstoreArg>,
    /// Keep in this file what firmware has to remember (UEFI's variables); it is made if it is not there
    ///
    /// It is a bank of the machine's flash, as long as that: 64 MiB on arm64, which is what Debian's
    /// AAVMF_VARS.fd has, 32 MiB on riscv64, 528 KiB with a PC's OVMF_CODE_4M.fd. Without it, firmware forgets when its guest ends or resets.
    #[arg(long, value_name = "FILE")]
    pub(crate) pflash: Option<PathBuf>,
    /// The words behind `--`, of those that take any: see `Verb::parsed`.
    #[arg(skip)]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) cpu: CpuArgs,
    #[command(flatten)]
    pub(crate) guest_init: GuestInitArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    pub(crate) firmware: FirmwareArgs,
    #[command(flatten)]
    pub(crate) virt: VirtArgs,
}

impl GuestArgs {
    pub(crate) fn kernel(&self) -> &PathBuf {
        self.kernel
            .as_ref()
            .or(self.file.as_ref())
            .expect("one of the two is required")
    }

    /// The kernel's command line: as it was given, or that of the image, or one that serves most.
    pub(crate) fn cmdline(&self, of_image: Option<String>, architecture: Architecture) -> String {
        let given = self.cmdline.clone().or(of_image);
        given.unwrap_or_else(|| default_cmdline(architecture).to_owned())
    }

    /// What was given for firmware, which takes no command line.
    pub(crate) fn firmware_cmdline(&self) -> String {
        self.cmdline.clone().unwrap_or_default()
    }

    /// The same, with which the kernel says nothing on the console where that is our choice.
    pub(crate) fn silent_cmdline(
        &self,
        of_image: Option<String>,
        architecture: Architecture,
    ) -> String {
        let is_ours = self.cmdline.is_none() && of_image.is_none();
        let cmdline = self.cmdline(of_image, architecture);
        match is_ours {
            true => format!("{cmdline} {COMMAND_CMDLINE}"),
            false => cmdline,
        }
    }

    /// What is asked for of a machine that would otherwise have what `offered` says.
    pub(crate) fn hardware(&self, offered: Hardware) -> Hardware {
        let mut hardware = self.virt.hardware(offered);
        self.devices().equip(&mut hardware);
        hardware
    }

    /// The virtio devices of the machine: those that were asked for, with the root as the first disk or
    /// memory, and what a command's status comes by.
    pub(crate) fn devices(&self) -> Devices {
        let mut devices = self.device.devices();
        if let Some(root) = self.guest_init.rootfs.clone() {
            let list = match root.is_pmem {
                true => &mut devices.pmems,
                false => &mut devices.disks,
            };
            list.insert(0, root.disk);
        }
        let root = self.guest_init.root.as_ref().map(|path| Share {
            path: path.clone(),
            tag: Tag::new(ROOT_TAG).expect("a short tag"),
            readonly: true,
            is_still: true,
        });
        devices.shares.splice(0..0, root);
        devices.status_port |= self.runs_a_command();
        devices
    }

    /// Whether the guest is there for one command.
    pub(crate) fn runs_a_command(&self) -> bool {
        !self.command.is_empty()
    }

    /// Whether the guest needs an initramfs of ours.
    pub(crate) fn needs_initramfs(&self) -> bool {
        let GuestInitArgs {
            rootfs,
            root,
            module_tree,
        } = &self.guest_init;
        self.runs_a_command() || rootfs.is_some() || root.is_some() || module_tree.is_some()
    }

    /// Whether the guest's root is something else than its initial ramdisk.
    pub(crate) fn has_root(&self) -> bool {
        self.guest_init.rootfs.is_some() || self.guest_init.root.is_some()
    }

    pub(crate) fn cmdline_is_default(&self) -> bool {
        self.cmdline.is_none()
    }

    pub(crate) fn protocol(&self) -> ProtocolChoice {
        match self.protocol {
            ProtocolArg::Auto => ProtocolChoice::Auto,
            ProtocolArg::Linux64 => ProtocolChoice::Only(Protocol::Linux64),
            ProtocolArg::Linux32 => ProtocolChoice::Only(Protocol::Linux32),
            ProtocolArg::Linux16 => ProtocolChoice::Only(Protocol::Linux16),
            ProtocolArg::Pvh => ProtocolChoice::Only(Protocol::Pvh),
            ProtocolArg::Multiboot => ProtocolChoice::Only(Protocol::Multiboot),
            ProtocolArg::Multiboot2 => ProtocolChoice::Only(Protocol::Multiboot2),
            ProtocolArg::Arm64 => ProtocolChoice::Only(Protocol::Arm64),
            ProtocolArg::Riscv64 => ProtocolChoice::Only(Protocol::Riscv64),
            ProtocolArg::Firmware => ProtocolChoice::Only(Protocol::Firmware),
        }
    }

    /// What the kernel's addresses come from; `fresh` makes a seed where one is needed.
    pub(crate) fn kaslr<E>(&self, fresh: impl FnOnce() -> Result<u64, E>) -> Result<Kaslr, E> {
        match (self.kaslr, self.kaslr_seed) {
            (KaslrArg::Off, _) => Ok(Kaslr::Off),
            (KaslrArg::On, Some(seed)) => Ok(Kaslr::Seeded(seed)),
            (KaslrArg::On, None) => fresh().map(Kaslr::Seeded),
        }
    }

    /// The same for a plan that nobody boots: without a seed nothing is random.
    pub(crate) fn kaslr_to_show(&self) -> Kaslr {
        match (self.kaslr, self.kaslr_seed) {
            (KaslrArg::On, Some(seed)) => Kaslr::Seeded(seed),
            (KaslrArg::On, None) | (KaslrArg::Off, _) => Kaslr::Off,
        }
    }

    /// Whether a boot has random addresses that the plan does not show.
    pub(crate) fn kaslr_is_untold(&self) -> bool {
        self.kaslr == KaslrArg::On && self.kaslr_seed.is_none()
    }

    pub(crate) fn unpack(&self) -> Unpack {
        match self.unpack {
            UnpackArg::Host => Unpack::Host,
            UnpackArg::Guest => Unpack::Guest,
        }
    }
}

fn default_cmdline(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Arm64 => DEFAULT_CMDLINE_ARM64,
        Architecture::I386
        | Architecture::X86_64
        | Architecture::Arm
        | Architecture::Riscv32
        | Architecture::Riscv64
        | Architecture::Loongarch64
        | Architecture::Unknown => DEFAULT_CMDLINE,
    }
}

/// A module as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleArg {
    pub(crate) file: PathBuf,
    pub(crate) cmdline: String,
}

impl From<OsString> for ModuleArg {
    fn from(text: OsString) -> Self {
        let mut file = Vec::new();
        let mut bytes = text.as_bytes();
        loop {
            match bytes {
                [b'=', b'=', rest @ ..] => {
                    file.push(b'=');
                    bytes = rest;
                }
                [b'=', rest @ ..] => {
                    bytes = rest;
                    break;
                }
                [byte, rest @ ..] => {
                    file.push(*byte);
                    bytes = rest;
                }
                [] => break,
            }
        }
        Self {
            file: OsString::from_vec(file).into(),
            cmdline: String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProtocolArg {
    Auto,
    Linux64,
    Linux32,
    Linux16,
    Pvh,
    Multiboot,
    Multiboot2,
    Arm64,
    Riscv64,
    Firmware,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KaslrArg {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UnpackArg {
    Host,
    Guest,
}

/// Print the completions for a shell, to be sourced by it
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, of a command where one is named
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command
    pub(crate) command: Option<String>,
}

/// The whole command line as clap knows it.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

fn seconds(text: &str) -> Result<Duration, String> {
    /// Some thirty years: longer than anybody waits, and far from where clocks overflow.
    const MOST: f64 = 1e9;
    let seconds: f64 = text
        .parse()
        .map_err(|error| format!("{text:?} is no number of seconds: {error}"))?;
    if seconds > MOST {
        return Err(format!("{text} seconds are more than {MOST}"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(words: &[&str]) -> BootArgs {
        let words = ["firstlight", "boot"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().parsed().verb {
            Verb::Boot(boot) => boot,
            other => panic!("not a boot: {other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn a_kernel_is_named_with_or_without_its_option() {
        assert_eq!(boot(&["vmlinuz"]).guest.kernel(), "vmlinuz");
        assert_eq!(boot(&["--kernel", "vmlinuz"]).guest.kernel(), "vmlinuz");
    }

    #[test]
    fn two_kernels_are_compared_with_the_same_options() {
        let words = ["firstlight", "diff", "a", "b", "--memory", "1G"];
        let Verb::Diff(args) = Cli::try_parse_from(words).unwrap().verb else {
            panic!("not a comparison");
        };
        assert_eq!(
            (args.guest.kernel(), args.guest.memory),
            (&"a".into(), 1 << 30)
        );
        assert_eq!(
            (args.after().kernel(), args.after().memory),
            (&"b".into(), 1 << 30)
        );
        assert!(Cli::try_parse_from(["firstlight", "diff", "a"]).is_err());
        let swapped = Cli::try_parse_from(["firstlight", "diff", "--kernel", "a", "b"]);
        assert!(swapped.is_ok_and(|cli| matches!(cli.verb, Verb::Diff(_))));
    }

    #[test]
    fn the_help_names_the_default_command_line() {
        let mut command = command();
        command.build();
        let boot = command.find_subcommand_mut("boot").unwrap();
        let help = boot.render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(DEFAULT_CMDLINE) && help.contains(DEFAULT_CMDLINE_ARM64));
    }

    #[test]
    fn the_last_of_repeated_options_counts() {
        let args = boot(&["k", "--memory", "1G", "--cpus", "2", "--memory", "2G"]);
        assert_eq!((args.guest.memory, args.guest.cpus), (2 << 30, 2));
    }

    #[test]
    fn no_seconds_are_no_limit() {
        let args = boot(&["k", "--timeout", "0", "--boot-watchdog", "0"]);
        assert_eq!((args.timeout(), args.boot_watchdog()), (None, None));
        let args = boot(&["k", "--timeout", "1.5"]);
        assert_eq!(args.timeout(), Some(Duration::from_millis(1500)));
        assert_eq!(args.boot_watchdog(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_command_is_all_that_is_behind_two_hyphens() {
        for words in [
            &["k", "--cpus", "2", "--", "ls", "-l", "--", "--help"][..],
            &[
                "--cpus", "2", "--kernel", "k", "--", "ls", "-l", "--", "--help",
            ],
        ] {
            let guest = boot(words).guest;
            assert_eq!((guest.kernel(), guest.cpus), (&"k".into(), 2));
            assert_eq!(guest.command, ["ls", "-l", "--", "--help"]);
        }
        assert!(Cli::try_parse_from(["firstlight", "boot", "--", "ls"]).is_err());
        assert!(Cli::try_parse_from(["firstlight", "boot", "k", "ls"]).is_err());
        assert!(!boot(&["k", "--"]).guest.needs_initramfs());
    }

    #[test]
    fn a_guest_with_a_command_is_not_booted_again_and_may_be_silent() {
        let args = boot(&["k", "--", "sleep", "60"]);
        assert_eq!((args.reboots(), args.boot_watchdog()), (false, None));
        let devices = args.equipment().devices;
        assert!(devices.status_port && devices.disks.is_empty());
        let args = boot(&["k", "--boot-watchdog=9", "--", "sleep", "60"]);
        assert_eq!(args.boot_watchdog(), Some(Duration::from_secs(9)));
        assert!(boot(&["k"]).reboots() && !boot(&["k", "--no-reboot"]).reboots());
    }

    #[test]
    fn the_root_is_the_first_disk() {
        let args = boot(&["k", "--disk", "a", "--rootfs", "b,readonly", "--disk", "c"]);
        let disks = args.equipment().devices.disks;
        let disks = disks.iter().map(|disk| (disk.path.to_str(), disk.readonly));
        let expected = [(Some("b"), true), (Some("a"), false), (Some("c"), false)];
        assert_eq!(Vec::from_iter(disks), expected);
    }

    #[test]
    fn a_root_that_is_memory_is_the_first_of_that() {
        let devices = boot(&["k", "--pmem", "a", "--rootfs", "b,pmem"])
            .guest
            .devices();
        let paths = devices.pmems.iter().map(|disk| disk.path.to_str());
        assert_eq!(Vec::from_iter(paths), [Some("b"), Some("a")]);
        assert!(devices.disks.is_empty());
    }

    #[test]
    fn only_a_default_command_line_is_made_silent() {
        let silent = |words: &[&str], of_image: Option<&str>| {
            let of_image = of_image.map(str::to_owned);
            boot(words)
                .guest
                .silent_cmdline(of_image, Architecture::X86_64)
        };
        let default = "console=ttyS0 panic=-1 quiet loglevel=1";
        assert_eq!(silent(&["k"], None), default);
        assert_eq!(silent(&["k"], Some("a")), "a");
        assert_eq!(silent(&["k", "--cmdline", "b"], Some("a")), "b");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["soon", "-1", "inf", "NaN", "1e10", ""] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
        assert_eq!(seconds("1e9"), Ok(Duration::from_secs(1_000_000_000)));
    }

    #[test]
    fn a_module_is_a_file_and_what_follows_its_first_single_equals_sign() {
        let args = boot(&["k", "--module", "a b", "--module", "c==d=x=y ==z"]);
        let module = |file: &str, cmdline: &str| ModuleArg {
            file: file.into(),
            cmdline: cmdline.into(),
        };
        assert_eq!(
            args.guest.modules,
            [module("a b", ""), module("c=d", "x=y ==z")]
        );
    }

    #[test]
    fn a_command_line_may_begin_with_a_hyphen_or_be_empty() {
        let cmdline = |words: &[&str]| {
            let guest = boot(words).guest;
            guest.cmdline(Some("of the image".into()), Architecture::X86_64)
        };
        assert_eq!(cmdline(&["k", "--cmdline", "-- init"]), "-- init");
        assert_eq!(cmdline(&["k", "--cmdline", ""]), "");
        assert_eq!(cmdline(&["k"]), "of the image");
    }

    #[test]
    fn the_default_command_line_names_the_machines_serial_port() {
        let cmdline = |architecture| boot(&["k"]).guest.cmdline(None, architecture);
        assert_eq!(cmdline(Architecture::X86_64), "console=ttyS0 panic=-1");
        assert_eq!(cmdline(Architecture::Arm64), "console=ttyAMA0 panic=-1");
        assert_eq!(cmdline(Architecture::Riscv64), "console=ttyS0 panic=-1");
    }
}
