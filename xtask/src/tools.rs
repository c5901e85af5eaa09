//! Programs that a task needs and this machine may lack.

use crate::failure::{Failure, Outcome};
use crate::process;
use std::path::Path;
use std::process::Command;

/// Something a task needs, and the Debian package it comes in.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    /// The program's name, or a whole path.
    pub(crate) file: &'static str,
    package: &'static str,
    what_for: &'static str,
}

/// The emulator of the qemu engine.
pub(crate) const QEMU: Tool = Tool {
    file: "qemu-system-x86_64",
    package: "qemu-system-x86",
    what_for: "runs guests where KVM cannot",
};
/// The same for arm64.
pub(crate) const QEMU_ARM64: Tool = Tool {
    file: "qemu-system-aarch64",
    package: "qemu-system-arm",
    what_for: "runs arm64 guests",
};
/// The same for riscv64.
pub(crate) const QEMU_RISCV64: Tool = Tool {
    file: "qemu-system-riscv64",
    package: "qemu-system-misc",
    what_for: "runs riscv64 guests",
};
/// The linker that Rust calls.
pub(crate) const LINKER: Tool = Tool {
    file: "cc",
    package: "gcc",
    what_for: "links Rust programs",
};
/// The C library's development files, which that linker needs.
pub(crate) const LIBC: Tool = Tool {
    file: "/usr/include/stdio.h",
    package: "libc6-dev",
    what_for: "links Rust programs",
};
/// The compiler that libFuzzer is built with.
pub(crate) const CXX: Tool = Tool {
    file: "c++",
    package: "g++",
    what_for: "builds libFuzzer",
};
/// The reference reader of the archives we write.
pub(crate) const CPIO: Tool = Tool {
    file: "cpio",
    package: "cpio",
    what_for: "checks the initramfs writer",
};
/// What packs the initial ramdisks of a bench.
pub(crate) const XZ: Tool = Tool {
    file: "xz",
    package: "xz-utils",
    what_for: "packs a bench's initrd",
};
/// The same.
pub(crate) const ZSTD: Tool = Tool {
    file: "zstd",
    package: "zstd",
    what_for: "packs a bench's initrd",
};
/// The same.
pub(crate) const LZ4: Tool = Tool {
    file: "lz4",
    package: "lz4",
    what_for: "packs a bench's initrd",
};
/// What a kernel's modules are built by.
pub(crate) const MAKE: Tool = Tool {
    file: "make",
    package: "make",
    what_for: "builds the battery's driver",
};
/// The reference reader of the SMBIOS tables we write.
pub(crate) const DMIDECODE: Tool = Tool {
    file: "dmidecode",
    package: "dmidecode",
    what_for: "checks the SMBIOS tables",
};
/// The reference reader of the ACPI tables we write.
pub(crate) const IASL: Tool = Tool {
    file: "iasl",
    package: "acpica-tools",
    what_for: "checks the ACPI tables",
};
/// The reference reader of the device trees we write; `fdtoverlay` comes with it.
pub(crate) const DTC: Tool = Tool {
    file: "dtc",
    package: "device-tree-compiler",
    what_for: "checks the device trees",
};
/// What makes the roots of guests.
pub(crate) const MKE2FS: Tool = Tool {
    file: "mke2fs",
    package: "e2fsprogs",
    what_for: "makes ext4 file systems, and repairs them",
};
/// What makes the disks that firmware starts.
pub(crate) const MTOOLS: Tool = Tool {
    file: "mcopy",
    package: "mtools",
    what_for: "makes FAT file systems",
};
/// What the kvm engine gives guests a network of the user's with.
pub(crate) const PASST: Tool = Tool {
    file: "passt",
    package: "passt",
    what_for: "carries guests' networks",
};
/// What the lab's own network is made with.
pub(crate) const IP: Tool = Tool {
    file: "ip",
    package: "iproute2",
    what_for: "makes networks in the lab",
};
/// Signatures of Debian's archive, which Ubuntu does not install by itself.
pub(crate) const DEBIAN_KEYS: Tool = Tool {
    file: "/usr/share/keyrings/debian-archive-keyring.gpg",
    package: "debian-archive-keyring",
    what_for: "checks the signatures of Debian's packages",
};
/// Where Debian's archive is, for machines that are not Debian.
pub(crate) const DEBIAN_MIRRORS: Tool = Tool {
    file: "/usr/share/python-apt/templates/Debian.info",
    package: "python-apt-common",
    what_for: "tells where Debian's archive is",
};

impl Tool {
    /// Whether this machine has it.
    pub(crate) fn is_here(self) -> bool {
        if self.file.starts_with('/') {
            Path::new(self.file).exists()
        } else {
            process::find(self.file).is_some()
        }
    }
}

/// Installs what is missing of `tools`, with apt, after saying so.
pub(crate) fn install(tools: &[Tool]) -> Outcome {
    let missing: Vec<Tool> = tools.iter().copied().filter(|t| !t.is_here()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("set-up: this machine lacks");
    for tool in &missing {
        eprintln!("  {:<24} {}", tool.package, tool.what_for);
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if process::find("apt-get").is_none() {
        return Err(Failure::new(format!(
            "there is no apt-get here; install what the packages {} hold and start again",
            packages.join(", ")
        )));
    }
    eprintln!("set-up: installing with apt: {}", packages.join(" "));
    process::output_of(as_root(&["apt-get", "--quiet", "update"])?.env("LC_ALL", "C"))?;
    let mut words = vec![
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--quiet",
        "--yes",
        // Another apt may be at work, as on a machine that has just started.
        "--option=DPkg::Lock::Timeout=300",
        "--no-install-recommends",
        "install",
    ];
    words.extend(&packages);
    process::output_of(as_root(&words)?.env("LC_ALL", "C"))?;
    match missing.iter().find(|tool| !tool.is_here()) {
        None => Ok(()),
        Some(tool) => Err(Failure::new(format!(
            "{} is not there although {} is installed",
            tool.file, tool.package
        ))),
    }
}

fn as_root(words: &[&str]) -> Outcome<Command> {
    let mut command;
    if rustix::process::geteuid().is_root() {
        command = Command::new(words[0]);
        command.args(&words[1..]);
    } else if process::find("sudo").is_some() {
        command = Command::new("sudo");
        command.args(words);
    } else {
        return Err(Failure::new(format!(
            "this needs root, and there is no sudo; run as root: {}",
            words.join(" ")
        )));
    }
    Ok(command)
}
