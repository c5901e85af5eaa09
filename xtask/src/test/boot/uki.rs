//! A unified kernel image as distributions make them: systemd's stub with everything in it.

use crate::cache::Cache;
use crate::failure::{Because, Outcome};
use crate::initramfs;
use crate::kernel::{self, Kernel};
use crate::package::{self, EFI_STUB};
use crate::process;
use crate::project::Project;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Where in memory the stub's builders put the sections (systemd's `ukify`): any places that do
/// not overlap.
const SECTIONS: [(&str, u64); 4] = [
    (".osrel", 0x2_0000),
    (".cmdline", 0x3_0000),
    (".initrd", 0x100_0000),
    (".linux", 0x1000_0000),
];

/// The kernel in it.
pub(super) fn kernel(cache: &Cache) -> Outcome<Kernel> {
    kernel::fetch(cache, &kernel::DEBIAN_13)
}

/// Where it is once it has been built.
pub(super) fn file(project: &Project) -> Outcome<PathBuf> {
    Ok(project.scratch("uki")?.join("linux.efi"))
}

/// Puts the kernel, our initramfs and a command line into one file, which is made anew.
pub(super) fn build(project: &Project, cache: &Cache) -> Outcome {
    let folder = project.scratch("uki")?;
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).because(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    };
    let files = [
        write("os-release", "ID=firstlight\nNAME=Firstlight\n")?,
        write("cmdline", "console=ttyS0 panic=-1\n")?,
        initramfs::build(project, cache, kernel::DEBIAN_13.architecture)?,
        kernel(cache)?.file,
    ];
    let mut objcopy = Command::new("objcopy");
    for ((section, address), file) in SECTIONS.iter().zip(files) {
        objcopy
            .arg("--add-section")
            .arg(format!("{section}={}", file.display()))
            .arg("--change-section-vma")
            .arg(format!("{section}={address:#x}"));
    }
    objcopy
        .arg(package::fetch(cache, &EFI_STUB)?)
        .arg(file(project)?);
    // It complains of the addresses, which only firmware cares for.
    process::output_of(&mut objcopy)?;
    Ok(())
}
