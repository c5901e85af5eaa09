//! Single files out of Debian's packages: what guests run beside Linux kernels.

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::debian::Suite;
use crate::failure::{Because, Failure, Outcome};
use std::fs;
use std::path::{Path, PathBuf};

/// A file in a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packaged {
    /// What we call it.
    pub(crate) name: &'static str,
    /// What the package is built for.
    pub(crate) architecture: Architecture,
    /// Debian's suite.
    pub(crate) suite: &'static str,
    /// The package.
    pub(crate) package: &'static str,
    /// How its path in the package ends.
    pub(crate) path: &'static str,
}

/// The static busybox that guests' userspace consists of.
pub(crate) fn busybox(architecture: Architecture) -> Packaged {
    let (name, suite) = match architecture {
        Architecture::X86_64 => ("busybox", "bookworm"),
        Architecture::Arm64 => ("busybox-arm64", "bookworm"),
        // The first suite that has this architecture.
        Architecture::Riscv64 => ("busybox-riscv64", "trixie"),
    };
    Packaged {
        name,
        architecture,
        suite,
        package: "busybox-static",
        path: "bin/busybox",
    }
}
/// The Xen hypervisor, gzipped, with the headers of both versions of Multiboot.
pub(crate) const XEN: Packaged = Packaged {
    name: "xen.gz",
    architecture: Architecture::X86_64,
    suite: "trixie",
    package: "xen-hypervisor-4.20-amd64",
    path: "boot/xen-4.20-amd64.gz",
};
/// The Xen hypervisor built as a guest that is entered by PVH.
pub(crate) const XEN_SHIM: Packaged = Packaged {
    name: "xen-shim",
    architecture: Architecture::X86_64,
    suite: "trixie",
    package: "xen-utils-4.20",
    path: "boot/xen-shim",
};
/// A memory tester that is entered as a Linux kernel is.
pub(crate) const MEMTEST: Packaged = Packaged {
    name: "memtest86+",
    architecture: Architecture::X86_64,
    suite: "bookworm",
    package: "memtest86+",
    path: "boot/memtest86+x64.bin",
};

/// UEFI firmware for machines with flash.
pub(crate) const fn firmware(architecture: Architecture) -> Packaged {
    let (name, package, path) = match architecture {
        Architecture::X86_64 => ("OVMF_CODE_4M.fd", "ovmf", "share/OVMF/OVMF_CODE_4M.fd"),
        Architecture::Arm64 => (
            "AAVMF_CODE.fd",
            "qemu-efi-aarch64",
            "share/AAVMF/AAVMF_CODE.no-secboot.fd",
        ),
        Architecture::Riscv64 => (
            "RISCV_VIRT_CODE.fd",
            "qemu-efi-riscv64",
            "share/qemu-efi-riscv64/RISCV_VIRT_CODE.fd",
        ),
    };
    Packaged {
        name,
        // It is in packages for all of them.
        architecture,
        suite: "trixie",
        package,
        path,
    }
}

/// What unified kernel images are made round.
pub(crate) const EFI_STUB: Packaged = Packaged {
    name: "linuxx64.efi.stub",
    architecture: Architecture::X86_64,
    suite: "trixie",
    package: "systemd-boot-efi",
    path: "boot/efi/linuxx64.efi.stub",
};

/// The file, fetched if it is not in the cache.
pub(crate) fn fetch(cache: &Cache, file: &Packaged) -> Outcome<PathBuf> {
    let debian = file.architecture.debian();
    let recipe = format!("{} {debian} {} {}", file.suite, file.package, file.path);
    let entry = cache.entry(&format!("files/{}", file.name), &recipe, |folder| {
        eprintln!(
            "set-up: fetching Debian's package {} ({})",
            file.package, file.suite
        );
        let suite = Suite::open(cache, file.suite, file.architecture)?;
        let tree = suite.unpacked(&[file.package.to_owned()], folder)?;
        let mut files = files_below(&tree)?.into_iter();
        let found = files
            .find(|path| path.ends_with(file.path))
            .ok_or_else(|| {
                Failure::new(format!("the package {} has no {}", file.package, file.path))
            })?;
        fs::rename(&found, folder.join(file.name))
            .because(|| format!("cannot move {}", found.display()))?;
        fs::remove_dir_all(&tree).because(|| format!("cannot remove {}", tree.display()))
    })?;
    Ok(entry.join(file.name))
}

/// Every regular file below `folder`.
pub(crate) fn files_below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let list = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).because(list)? {
        let entry = entry.because(list)?;
        let kind = entry.file_type().because(list)?;
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}
