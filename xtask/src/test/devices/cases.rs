//! The guests with devices, and what each tries.

use super::super::boot::{Engine, Setting};
use crate::architecture::Architecture;
use crate::kernel::{self, Release};

/// A guest, and what it tries.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) setting: Setting,
    pub(super) transport: Transport,
    pub(super) served_by: ServedBy,
    pub(super) ends: Ends,
    pub(super) tries: Vec<Try>,
}

/// How the guest reaches its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::test) enum Transport {
    Pci,
    Mmio,
}

/// Who serves the guest's disks, folders and cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::test) enum ServedBy {
    /// The process that runs it.
    Firstlight,
    /// A process in a jail for each.
    Jails,
    /// Programs of other projects, by vhost-user: all but its root.
    Others,
}

/// How the guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// With the status of the command that is run in it.
    Command,
    /// Its root's own init turns it off.
    System,
    /// As with a command, whose root is a folder of the host.
    Shared,
}

/// What a guest tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Try {
    Root,
    Disk,
    ReadOnly,
    Share,
    Pmem,
    Covered,
    Tap,
    User,
    Vsock,
    Rng,
    Balloon,
    FwCfg,
    Firmware,
    Debugcon,
    Watchdog,
    Console,
}

/// The status that a command ends with.
pub(super) const STATUS: i32 = 7;

impl Transport {
    /// Firstlight's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pci => "pci",
            Self::Mmio => "mmio",
        }
    }

    /// People's name for it.
    fn title(self) -> &'static str {
        match self {
            Self::Pci => "PCI",
            Self::Mmio => "MMIO",
        }
    }
}

impl Try {
    /// What the guest's script calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Disk => "disk",
            Self::ReadOnly => "readonly",
            Self::Share => "share",
            Self::Pmem => "pmem",
            Self::Covered => "covered",
            Self::Tap => "tap",
            Self::User => "user",
            Self::Vsock => "vsock",
            Self::Rng => "rng",
            Self::Balloon => "balloon",
            Self::FwCfg => "fw_cfg",
            Self::Firmware => "firmware",
            Self::Debugcon => "debugcon",
            Self::Watchdog => "watchdog",
            Self::Console => "console",
        }
    }
}

impl Ends {
    /// What is seen where it does.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Command => "a command's status",
            Self::System => "an init that turns it off",
            Self::Shared => "a command in a folder of the host",
        }
    }
}

impl Case {
    /// Whether its command prints much before it ends. On the serial port of a PC that is an interrupt for
    /// every sixteen bytes, which guests on QEMU's emulation of SVM do not survive for long.
    pub(super) fn prints(&self) -> bool {
        match self.ends {
            // Who serves disks has no part in it.
            Ends::Command => self.served_by == ServedBy::Firstlight,
            Ends::System => false,
            Ends::Shared => {
                let Setting {
                    engine,
                    architecture,
                    ..
                } = self.setting;
                (engine, architecture) != (Engine::Kvm, Architecture::X86_64)
            }
        }
    }

    /// The name of what `what` says of it.
    pub(super) fn of(&self, what: &str) -> String {
        match self.served_by {
            ServedBy::Firstlight => name(self.setting, self.transport, what),
            served_by => name_served(self.setting, served_by, what),
        }
    }
}

/// The name of a success with a device.
pub(in crate::test) fn name(setting: Setting, transport: Transport, what: &str) -> String {
    format!("{} {}: {what}", setting.name(), transport.title())
}

/// The same of a device that others serve.
pub(in crate::test) fn name_served(setting: Setting, by: ServedBy, what: &str) -> String {
    let by = match by {
        ServedBy::Firstlight => "by Firstlight",
        ServedBy::Jails => "in jails",
        ServedBy::Others => "by vhost-user",
    };
    format!("{} {by}: {what}", setting.name())
}

/// The kernel that guests of `architecture` run.
pub(super) fn release(architecture: Architecture) -> &'static Release {
    match architecture {
        Architecture::X86_64 => &kernel::DEBIAN_13,
        Architecture::Arm64 => &kernel::DEBIAN_13_ARM64,
        Architecture::Riscv64 => &kernel::DEBIAN_13_RISCV64,
    }
}

/// The guests that are tried in `setting`. Machines for x86 have room for eight devices without a bus,
/// which one of them fills.
pub(super) fn of(setting: Setting) -> Vec<Case> {
    let with = |tries: &[Try]| -> Vec<Try> {
        let tries = tries.iter().copied();
        tries.filter(|one| is_there(*one, setting)).collect()
    };
    let of_pci = [
        Try::Root,
        Try::Disk,
        Try::ReadOnly,
        Try::Share,
        Try::Pmem,
        Try::Tap,
        Try::User,
        Try::Vsock,
        Try::Rng,
        Try::Balloon,
        Try::FwCfg,
        Try::Firmware,
        Try::Debugcon,
        Try::Watchdog,
        Try::Console,
    ];
    let of_mmio = of_pci
        .iter()
        .copied()
        .filter(|one| ![Try::ReadOnly, Try::Pmem].contains(one))
        .filter(|one| *one != Try::Share || setting.engine == Engine::Qemu)
        .collect::<Vec<_>>();
    let mut cases = vec![
        Case {
            setting,
            transport: Transport::Pci,
            served_by: ServedBy::Firstlight,
            ends: Ends::Command,
            tries: with(&of_pci),
        },
        Case {
            setting,
            transport: Transport::Mmio,
            served_by: ServedBy::Firstlight,
            ends: Ends::System,
            tries: with(&of_mmio),
        },
        Case {
            setting,
            transport: Transport::Pci,
            served_by: ServedBy::Firstlight,
            ends: Ends::Shared,
            tries: vec![Try::Covered],
        },
    ];
    let served = [
        Try::Root,
        Try::Disk,
        Try::ReadOnly,
        Try::Share,
        Try::Tap,
        Try::User,
    ];
    if setting.engine == Engine::Kvm {
        cases.push(Case {
            setting,
            transport: Transport::Pci,
            served_by: ServedBy::Jails,
            ends: Ends::Command,
            tries: with(&served),
        });
    }
    if let Some(transport) = with_others(setting) {
        let tries = with(&served).into_iter();
        // The lab's files are in memory, where a folder that is listed while it is emptied is not listed whole
        // (tmpfs before Linux 6.6): virtiofsd then leaves some of them.
        let of_others = |one: &Try| match one {
            Try::ReadOnly | Try::Tap => false,
            Try::Share => setting.engine != Engine::Kvm,
            _ => true,
        };
        cases.push(Case {
            setting,
            transport,
            served_by: ServedBy::Others,
            ends: Ends::Command,
            tries: tries.filter(of_others).collect(),
        });
    }
    cases
}

/// How guests of `setting` reach devices that programs of other projects serve, which are there for x86 hosts only.
/// QEMU before version 10 crashes where such a card is on its PCI bus.
fn with_others(setting: Setting) -> Option<Transport> {
    match (setting.engine, setting.architecture) {
        (Engine::Kvm, Architecture::X86_64) => Some(Transport::Pci),
        (Engine::Kvm, _) => None,
        (Engine::Qemu | Engine::Auto, _) => Some(Transport::Mmio),
    }
}

/// Whether `setting` has what `one` takes: on the qemu engine, taps and sockets take more rights
/// than a user has, and passt is a program for the host's architecture.
fn is_there(one: Try, setting: Setting) -> bool {
    match one {
        Try::Tap | Try::Vsock => setting.engine == Engine::Kvm,
        // QEMU's machines have no addresses for it, or do not know it.
        Try::Pmem => setting.engine == Engine::Kvm,
        // QEMU's machine has no files in its own; nor have Debian's kernels for riscv64 the drivers.
        Try::FwCfg | Try::Watchdog => setting.architecture != Architecture::Riscv64,
        // A kernel finds SMBIOS tables only by EFI elsewhere, and there are no ports.
        Try::Firmware | Try::Debugcon => setting.architecture == Architecture::X86_64,
        Try::User => setting.engine != Engine::Kvm || setting.architecture == Architecture::X86_64,
        _ => true,
    }
}
