//! The README's table of what machines of each architecture have, made from the tests and the guests
//! that showed it.

use super::Checked;
use super::Verdict;
use super::boot::{Engine, OWN, SPLIT, Setting, table};
use super::devices::{
    self, BATTERY, DIRECT_ROOT, FIRMWARE, HOT_PLUG, KEPT_PANIC, PASSED_THROUGH, SLEEP, STARVED,
    SWAPPED, ServedBy, Transport,
};
use crate::architecture::Architecture;
use crate::kernel;
use crate::lab::Board;
use crate::project::Project;
use std::collections::BTreeSet;
use std::fmt::Write;

const BEGIN: &str = "<!-- What machines have: written by `cargo xtask test`. -->\n";
const END: &str = "<!-- End of what machines have. -->\n";

/// What the names of Rust tests begin with among the names of what passed.
pub(super) const UNIT: &str = "test ";

/// A line of the table.
struct Row {
    title: &'static str,
    shown_by: Evidence,
}

/// What shows something.
enum Evidence {
    /// A Rust test of this name in `vmm`, with the architecture's name in place of ARCH.
    Unit(&'static str),
    /// A Rust test of what is the same on every architecture. It is run in the labs of the others, too.
    AnyUnit(&'static str),
    /// The first guest of a kernel on the kvm engine, or one with several vCPUs.
    Boots,
    BootsWithCpus,
    /// What is tried once in a setting, by its name there.
    Setting(&'static str),
    /// What guests with devices tried, any of these.
    Tried(Transport, &'static [&'static str]),
    /// The same where another process serves them.
    TriedOf(ServedBy, &'static [&'static str]),
}

const ROWS: [Row; 43] = [
    row(
        "`arch_memory_layout`",
        Evidence::Unit("arch::tests::ARCH_arch_memory_layout"),
    ),
    row(
        "`guest_memory_layout`",
        Evidence::Unit("arch::tests::ARCH_guest_memory_layout"),
    ),
    row(
        "`get_system_allocator_config`",
        Evidence::Unit("arch::tests::ARCH_get_system_allocator_config"),
    ),
    row("`build_vm`", Evidence::Boots),
    row("`configure_vcpu`", Evidence::BootsWithCpus),
    row(
        "interrupt controllers split between KVM and this process",
        Evidence::Setting(SPLIT),
    ),
    row(
        "interrupt controllers in this process",
        Evidence::Setting(OWN),
    ),
    row("`register_pci_device`", Evidence::Setting(HOT_PLUG)),
    row(
        "`get_host_cpu_frequencies_khz`, `_max_freq_khz`, `_capacity`, `_clusters`",
        Evidence::AnyUnit("arch::host_cpu::tests::a_machine_of_two_clusters_is_told_of"),
    ),
    row("disk over PCI", Evidence::Tried(Transport::Pci, &["root"])),
    row(
        "disk over MMIO",
        Evidence::Tried(Transport::Mmio, &["root"]),
    ),
    row(
        "shared folders over PCI",
        Evidence::Tried(Transport::Pci, &["share"]),
    ),
    row(
        "shared folders over MMIO",
        Evidence::Tried(Transport::Mmio, &["share"]),
    ),
    row(
        "a folder of the host as the root",
        Evidence::Tried(Transport::Pci, &["covered"]),
    ),
    row(
        "files as persistent memory (virtio-pmem)",
        Evidence::Tried(Transport::Pci, &["pmem"]),
    ),
    row(
        "an image as memory as the root (DAX)",
        Evidence::Setting(DIRECT_ROOT),
    ),
    row(
        "network over PCI",
        Evidence::Tried(Transport::Pci, &NETWORKS),
    ),
    row(
        "network over MMIO",
        Evidence::Tried(Transport::Mmio, &NETWORKS),
    ),
    row("disk in a jail", in_jails(&["root"])),
    row("shared folders in jails", in_jails(&["share"])),
    row("network in jails", in_jails(&NETWORKS)),
    row(
        "disk that QEMU's storage daemon serves (vhost-user)",
        of_others(&["disk"]),
    ),
    row(
        "folders that virtiofsd shares (vhost-user)",
        of_others(&["share"]),
    ),
    row(
        "network that passt carries (vhost-user)",
        of_others(&["user"]),
    ),
    row(
        "console over PCI",
        Evidence::Tried(Transport::Pci, &["console"]),
    ),
    row(
        "console over MMIO",
        Evidence::Tried(Transport::Mmio, &["console"]),
    ),
    row(
        "sockets over PCI",
        Evidence::Tried(Transport::Pci, &["vsock"]),
    ),
    row(
        "sockets over MMIO",
        Evidence::Tried(Transport::Mmio, &["vsock"]),
    ),
    row(
        "random numbers over PCI",
        Evidence::Tried(Transport::Pci, &["rng"]),
    ),
    row(
        "random numbers over MMIO",
        Evidence::Tried(Transport::Mmio, &["rng"]),
    ),
    row(
        "balloon over PCI",
        Evidence::Tried(Transport::Pci, &["balloon"]),
    ),
    row(
        "balloon over MMIO",
        Evidence::Tried(Transport::Mmio, &["balloon"]),
    ),
    row(
        "files for the firmware (`fw_cfg`)",
        Evidence::Tried(Transport::Pci, &["fw_cfg"]),
    ),
    row(
        "a PCI device of the host's own (VFIO)",
        Evidence::Setting(PASSED_THROUGH),
    ),
    row("UEFI firmware in flash", Evidence::Setting(FIRMWARE)),
    row(
        "ACPI tables and SMBIOS texts of one's own",
        Evidence::Tried(Transport::Pci, &["firmware"]),
    ),
    row(
        "debug console",
        Evidence::Tried(Transport::Pci, &["debugcon"]),
    ),
    row("battery", Evidence::Setting(BATTERY)),
    row("notice of the guest's sleep", Evidence::Setting(SLEEP)),
    row("memory swapped out and in", Evidence::Setting(SWAPPED)),
    row("watchdog", Evidence::Setting(STARVED)),
    row("a panic's log", Evidence::Setting(KEPT_PANIC)),
    row(
        "a command's status",
        Evidence::Tried(Transport::Pci, &["a command's status"]),
    ),
];

const NETWORKS: [&str; 2] = ["tap", "user"];

const fn in_jails(tries: &'static [&'static str]) -> Evidence {
    Evidence::TriedOf(ServedBy::Jails, tries)
}

const fn of_others(tries: &'static [&'static str]) -> Evidence {
    Evidence::TriedOf(ServedBy::Others, tries)
}

const fn row(title: &'static str, shown_by: Evidence) -> Row {
    Row { title, shown_by }
}

/// Holds the README's table against the names of what passed.
pub(super) fn check(project: &Project, passed: &BTreeSet<String>) -> Checked {
    for setting in devices::settings() {
        if !devices::ran(setting, passed) {
            let name = setting.name();
            return Ok(Verdict::Skipped(format!(
                "no guest with devices ran: {name}"
            )));
        }
    }
    for architecture in Architecture::ALL {
        let mut releases = kernel::releases(Some(architecture));
        let booted = |name: &str| passed.iter().any(|passed| passed.starts_with(name));
        if !releases.any(|release| booted(&format!("kvm {} ", release.name))) {
            let name = architecture.name();
            return Ok(Verdict::Skipped(format!("no guest ran: kvm {name}")));
        }
    }
    if !passed.iter().any(|name| name.starts_with(UNIT)) {
        return Ok(Verdict::Skipped("no unit tests ran".to_owned()));
    }
    table::hold(project, (BEGIN, END), &text(passed))
}

/// A line for each row, a column for each architecture.
fn text(passed: &BTreeSet<String>) -> String {
    let mut text = String::from("| | x86_64 | aarch64 | riscv64 |\n|---|---|---|---|\n");
    for Row { title, shown_by } in &ROWS {
        let cells = Architecture::ALL.map(|architecture| cell(shown_by, architecture, passed));
        writeln!(text, "| {title} | {} |", cells.join(" | ")).expect("a String takes all");
    }
    text
}

/// By what it was seen on `architecture`.
fn cell(evidence: &Evidence, architecture: Architecture, passed: &BTreeSet<String>) -> String {
    let setting = |engine| Setting {
        engine,
        architecture,
        board: Board::Newest,
    };
    let first = || kernel::releases(Some(architecture)).next();
    let kvm = |what: String| vec![(Engine::Kvm.name(), what)];
    let candidates: Vec<(&str, String)> = match evidence {
        Evidence::Unit(test) => {
            let test = test.replace("ARCH", architecture.gnu());
            vec![("unit", format!("{UNIT}{test}"))]
        }
        Evidence::AnyUnit(test) => match architecture {
            Architecture::X86_64 => vec![("unit", format!("{UNIT}{test}"))],
            other => {
                let name = other.name();
                vec![("unit", format!("tests of firstlight_vmm for {name}"))]
            }
        },
        Evidence::Boots => first().map_or(Vec::new(), |release| {
            let way = match architecture {
                Architecture::X86_64 => "linux64",
                other => other.name(),
            };
            kvm(format!("kvm {} {way}", release.name))
        }),
        Evidence::BootsWithCpus => first().map_or(Vec::new(), |release| {
            kvm(format!("kvm {} cpus=2", release.name))
        }),
        Evidence::Setting(what) => {
            let engines = [Engine::Qemu, Engine::Kvm].into_iter();
            let name = |engine| format!("{}: {what}", setting(engine).name());
            engines
                .map(|engine| (engine.name(), name(engine)))
                .collect()
        }
        Evidence::TriedOf(served_by, tries) => {
            let engines = [Engine::Qemu, Engine::Kvm].into_iter();
            let names = engines.flat_map(|engine| {
                let name =
                    move |what: &&str| devices::name_served(setting(engine), *served_by, what);
                tries.iter().map(move |one| (engine.name(), name(one)))
            });
            names.collect()
        }
        Evidence::Tried(transport, tries) => {
            let engines = [Engine::Qemu, Engine::Kvm].into_iter();
            let names = engines.flat_map(|engine| {
                let name = move |what: &&str| devices::name(setting(engine), *transport, what);
                tries.iter().map(move |one| (engine.name(), name(one)))
            });
            names.collect()
        }
    };
    let mut seen: Vec<&str> = Vec::new();
    for (by, name) in candidates {
        if passed.contains(&name) && !seen.contains(&by) {
            seen.push(by);
        }
    }
    seen.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_names_what_it_was_seen_by() {
        let passed = [
            "test arch::tests::aarch64_arch_memory_layout",
            "kvm PCI: root",
            "qemu PCI: root",
            "kvm arm64 PCI: tap",
            "kvm debian13 linux64",
        ];
        let passed = passed.map(str::to_owned).into();
        let text = text(&passed);
        let line = |start: &str| text.lines().find(|line| line.starts_with(start));
        let layout = "| `arch_memory_layout` |  | unit |  |";
        assert_eq!(line("| `arch_memory"), Some(layout));
        assert_eq!(
            line("| disk over P"),
            Some("| disk over PCI | qemu, kvm |  |  |")
        );
        assert_eq!(
            line("| network over P"),
            Some("| network over PCI |  | kvm |  |")
        );
    }
}
