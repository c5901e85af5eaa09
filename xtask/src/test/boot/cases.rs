//! The guests that are booted, and what is expected of each.

use super::table::Shown;
use super::{Engine, Setting, uki};
use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::Outcome;
use crate::kernel::{self, Kernel, Release};
use crate::lab::Board;
use crate::package::{self, MEMTEST, XEN, XEN_SHIM};
use crate::project::Project;
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A guest and what is expected of it.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) guest: Guest,
    pub(super) engine: Engine,
    /// Further options of `firstlight boot`.
    pub(super) options: Vec<OsString>,
    /// The longest that `firstlight` lets it run, in seconds.
    pub(super) timeout: u32,
    /// What we do once it has spoken.
    pub(super) then: Then,
    pub(super) expected: Expected,
    /// The place in the table of what boots that its success fills.
    pub(super) shows: Option<Shown>,
}

/// What is booted.
#[derive(Clone)]
pub(super) enum Guest {
    /// Linux with our initramfs.
    Linux {
        kernel: Kernel,
        cpus: u32,
        /// What its init does in the end.
        todo: &'static str,
    },
    /// The same in one file, with its command line.
    Unified { file: PathBuf, kernel: Kernel },
    /// Something that only has to say who it is.
    Other { file: PathBuf },
}

/// What is done to a running guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::test) enum Then {
    /// Nothing.
    Wait,
    /// Types a line on its console each time its init listens.
    Type,
    /// Sends SIGTERM to Firstlight once these words were on its console.
    TerminateAfter(&'static str),
    /// The same with SIGKILL.
    KillAfter(&'static str),
}

/// How Firstlight is expected to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// With this status, after init's line.
    Status(i32),
    /// With status 0 and init's line, and having said that it took this engine.
    Taken(&'static str),
    /// By this signal, after the words that are waited for.
    Signal(i32),
    /// With status 124, however far the guest came.
    TimedOut,
    /// With status 0 after init's line, or with status 5, where no engine can run it.
    StatusOrNoEngine,
}

/// Long enough for a loaded machine under two layers of emulation.
const PATIENCE: u32 = 180;

/// Everything that is booted of one architecture.
pub(super) struct Guests {
    linux: Vec<(Release, Kernel)>,
    others: Option<Others>,
}

/// What is booted of x86 besides Linux as Debian packages it.
struct Others {
    xen: PathBuf,
    xen_shim: PathBuf,
    memtest: PathBuf,
    /// A unified kernel image, and the kernel in it.
    uki: (PathBuf, Kernel),
}

impl Guests {
    /// Everything, fetched where it is not in the cache.
    pub(super) fn fetch(
        project: &Project,
        cache: &Cache,
        architecture: Architecture,
    ) -> Outcome<Self> {
        let fetch = |release: &Release| Ok((*release, kernel::fetch(cache, release)?));
        let linux = kernel::releases(Some(architecture)).map(fetch);
        Ok(Self {
            linux: linux.collect::<Outcome<_>>()?,
            others: match architecture {
                Architecture::X86_64 => Some(Others {
                    xen: package::fetch(cache, &XEN)?,
                    xen_shim: package::fetch(cache, &XEN_SHIM)?,
                    memtest: package::fetch(cache, &MEMTEST)?,
                    uki: (uki::file(project)?, uki::kernel(cache)?),
                }),
                Architecture::Arm64 | Architecture::Riscv64 => None,
            },
        })
    }

    /// The kernel for what does not depend on the kernel: the quickest of them.
    fn plain(&self) -> &(Release, Kernel) {
        let plain = |(release, _): &&(Release, Kernel)| *release == kernel::DEBIAN_12_CLOUD;
        let mut linux = self.linux.iter();
        let found = linux.clone().find(plain).or(linux.next());
        found.expect("every architecture has a release")
    }
}

/// The guests that are tried in `setting`.
pub(super) fn of(guests: &Guests, setting: Setting) -> Vec<Case> {
    let engine = setting.engine;
    if engine == Engine::Auto {
        return on_this_machine(guests);
    }
    if setting.board == Board::OlderIrqchip {
        return vec![with_cpus(guests, setting, 1), with_cpus(guests, setting, 2)];
    }
    let mut cases = with_every_kernel(guests, setting);
    cases.extend(with_every_end(guests, setting));
    if let Some(others) = &guests.others {
        cases.extend(with_every_option(guests, engine));
        cases.push(unified(others, engine));
        cases.extend(other_systems(others, &guests.plain().1, engine));
    }
    if engine == Engine::Kvm {
        cases.extend(with_own_controllers(guests, setting));
        cases.push(auto_takes_kvm(guests, setting));
    }
    cases
}

/// One kernel with so many vCPUs.
fn with_cpus(guests: &Guests, setting: Setting, cpus: u32) -> Case {
    let (release, kernel) = guests.plain();
    Case {
        name: format!("{} {} cpus={cpus}", setting.name(), release.name),
        guest: linux(kernel, cpus, "poweroff"),
        ..plain(kernel, setting.engine)
    }
}

/// Every kernel by each way in that is tried in `setting`, and once with several vCPUs.
fn with_every_kernel(guests: &Guests, setting: Setting) -> Vec<Case> {
    let engine = setting.engine;
    let ways: &[&str] = match (setting.architecture, engine) {
        (Architecture::X86_64, Engine::Kvm) => &["linux64", "pvh"],
        (Architecture::X86_64, _) => &["linux64", "linux32", "linux16", "pvh"],
        (Architecture::Arm64, _) => &["arm64"],
        (Architecture::Riscv64, _) => &["riscv64"],
    };
    let cpus = match (setting.architecture, engine) {
        (Architecture::X86_64, _) | (_, Engine::Kvm) => 2,
        (Architecture::Arm64 | Architecture::Riscv64, _) => 4,
    };
    let mut cases = Vec::new();
    for (release, kernel) in &guests.linux {
        for &way in ways {
            cases.push(Case {
                name: format!("{} {} {way}", engine.name(), release.name),
                options: options(&["--protocol", way]),
                shows: Some(Shown {
                    image: format!("Debian {}", release.title),
                    way,
                    engine,
                }),
                ..plain(kernel, engine)
            });
        }
        cases.push(Case {
            name: format!("{} {} cpus={cpus}", engine.name(), release.name),
            guest: linux(kernel, cpus, "poweroff"),
            ..plain(kernel, engine)
        });
    }
    cases
}

/// What a guest is called whose local APICs only are the hypervisor's.
pub(in crate::test) const SPLIT: &str = "split interrupt controllers";
/// The same of one that has none in the hypervisor.
pub(in crate::test) const OWN: &str = "interrupt controllers of our own";

/// One kernel with two vCPUs and interrupt controllers that are not the hypervisor's, where there is a choice.
fn with_own_controllers(guests: &Guests, setting: Setting) -> Vec<Case> {
    let modes: &[(&str, &str)] = match setting.architecture {
        Architecture::X86_64 => &[("split", SPLIT), ("user", OWN)],
        Architecture::Arm64 => &[("user", OWN)],
        Architecture::Riscv64 => &[],
    };
    let modes = modes.iter().map(|(mode, what)| Case {
        name: format!("{}: {what}", setting.name()),
        options: options(&["--irqchip", mode]),
        ..with_cpus(guests, setting, 2)
    });
    modes.collect()
}

/// A unified kernel image: nothing but the file is named.
fn unified(others: &Others, engine: Engine) -> Case {
    let (file, kernel) = others.uki.clone();
    Case {
        name: format!("{} unified kernel image", engine.name()),
        shows: Some(Shown {
            image: "Unified kernel image of systemd's stub".to_owned(),
            way: "linux64",
            engine,
        }),
        guest: Guest::Unified { file, kernel },
        ..plain(&others.uki.1, engine)
    }
}

/// One kernel, and every way to end and to be spoken to.
fn with_every_end(guests: &Guests, setting: Setting) -> Vec<Case> {
    let (_, kernel) = guests.plain();
    let case = |what: &str, todo| Case {
        name: format!("{} {what}", setting.name()),
        guest: linux(kernel, 1, todo),
        ..plain(kernel, setting.engine)
    };
    vec![
        Case {
            expected: Expected::Status(34),
            ..case("panic", "panic")
        },
        Case {
            options: options(&["--no-reboot"]),
            ..case("reset, no-reboot", "reboot")
        },
        Case {
            then: Then::Type,
            ..case("console input", "echo")
        },
        Case {
            // The last of what is looked at in its line.
            then: Then::TerminateAfter(" uptime="),
            expected: Expected::Signal(Signal::TERM.as_raw()),
            ..case("SIGTERM", "idle")
        },
        Case {
            timeout: 20,
            expected: Expected::TimedOut,
            ..case("timeout", "idle")
        },
    ]
}

/// One kernel for x86, and every way to be loaded.
fn with_every_option(guests: &Guests, engine: Engine) -> Vec<Case> {
    let (_, kernel) = guests.plain();
    let case = |what: &str, todo| Case {
        name: format!("{} {what}", engine.name()),
        guest: linux(kernel, 1, todo),
        ..plain(kernel, engine)
    };
    vec![
        Case {
            options: options(&["--exit-from-guest"]),
            expected: Expected::Status(42),
            ..case("exit from guest", "exit=42")
        },
        Case {
            options: options(&["--unpack", "guest"]),
            ..case("unpacked by the guest", "poweroff")
        },
        Case {
            options: options(&["--kaslr", "off"]),
            ..case("not randomised", "poweroff")
        },
        Case {
            options: options(&["--load-address", "0x4000000"]),
            ..case("loaded at 64 MiB", "poweroff")
        },
        without_acpi(guests, engine),
    ]
}

/// Processors and interrupts are told by the MP table alone then, which Debian's smaller kernels do not
/// read; and there is nothing to be turned off by.
fn without_acpi(guests: &Guests, engine: Engine) -> Case {
    let is_whole = |(release, _): &&(Release, Kernel)| *release == kernel::DEBIAN_13;
    let (_, kernel) = guests
        .linux
        .iter()
        .find(is_whole)
        .expect("it is one of those for x86");
    Case {
        name: format!("{} without ACPI, cpus=2", engine.name()),
        guest: linux(kernel, 2, "reboot acpi=off"),
        options: options(&["--no-reboot"]),
        ..plain(kernel, engine)
    }
}

/// Guests other than Linux. They are stopped once they have said what they are known by.
fn other_systems(guests: &Others, linux: &Kernel, engine: Engine) -> Vec<Case> {
    const BANNER: &str = "Xen version 4.20";
    let xen = Other {
        image: "Xen 4.20",
        way: "multiboot",
        file: &guests.xen,
        says: BANNER,
        options: options(&["--cmdline", "console=com1 com1=115200,8n1"]),
    };
    let memtest = Other {
        image: "Memtest86+ 6.10",
        way: "linux64",
        file: &guests.memtest,
        says: "Memtest86+",
        // It measures how fast all of its memory is before it prints.
        options: options(&["--cmdline", "console=ttyS0,115200", "--memory", "64M"]),
    };
    let mut domain = OsString::from(&linux.file);
    domain.push("=console=hvc0");
    // Its PVH entry is for Xen's own guests: the first step there is a hypercall. What it says
    // comes after it has found its modules.
    let shim = Other {
        image: "Xen 4.20 shim",
        file: &guests.xen_shim,
        says: "Using scheduler",
        options: [&xen.options[..], &["--module".into(), domain]].concat(),
        ..xen.clone()
    };
    let xen_by_2 = Other {
        way: "multiboot2",
        ..xen.clone()
    };
    let others = [xen, xen_by_2, shim, memtest];
    others.into_iter().map(|other| other.on(engine)).collect()
}

/// A guest other than Linux.
#[derive(Clone)]
struct Other<'a> {
    image: &'static str,
    way: &'static str,
    file: &'a Path,
    /// What it is known by.
    says: &'static str,
    options: Vec<OsString>,
}

impl Other<'_> {
    fn on(self, engine: Engine) -> Case {
        Case {
            name: format!("{} {} {}", engine.name(), self.image, self.way),
            guest: Guest::Other {
                file: self.file.to_owned(),
            },
            engine,
            options: [options(&["--protocol", self.way]), self.options].concat(),
            timeout: PATIENCE,
            then: Then::TerminateAfter(self.says),
            expected: Expected::Signal(Signal::TERM.as_raw()),
            shows: Some(Shown {
                image: self.image.to_owned(),
                way: self.way,
                engine,
            }),
        }
    }
}

/// In the lab, KVM passes the probe.
fn auto_takes_kvm(guests: &Guests, setting: Setting) -> Case {
    Case {
        name: format!("{} taken by auto", setting.name()),
        expected: Expected::Taken("kvm"),
        ..plain(&guests.plain().1, Engine::Auto)
    }
}

/// On any machine, some engine is found; and KVM alone either works or is refused.
fn on_this_machine(guests: &Guests) -> Vec<Case> {
    let (_, kernel) = guests.plain();
    vec![
        Case {
            name: "auto finds an engine".into(),
            guest: linux(kernel, 2, "poweroff"),
            ..plain(kernel, Engine::Auto)
        },
        Case {
            name: "kvm works or is refused".into(),
            expected: Expected::StatusOrNoEngine,
            ..plain(kernel, Engine::Kvm)
        },
    ]
}

/// A guest with one vCPU that says its line and turns itself off.
fn plain(kernel: &Kernel, engine: Engine) -> Case {
    Case {
        name: String::new(),
        guest: linux(kernel, 1, "poweroff"),
        engine,
        options: Vec::new(),
        timeout: PATIENCE,
        then: Then::Wait,
        expected: Expected::Status(0),
        shows: None,
    }
}

fn linux(kernel: &Kernel, cpus: u32, todo: &'static str) -> Guest {
    Guest::Linux {
        kernel: kernel.clone(),
        cpus,
        todo,
    }
}

fn options(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
