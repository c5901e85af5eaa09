//! A unified kernel image as distributions make them: systemd's stub with everything in it.

use crate::cache::Cache;
use crate::failure::{Because, Outcome};
use crate::initramfs;
use crate::kernel::Kernel;
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

/// `kernel` with our initramfs and a command line in one file, which is made anew.
pub(super) fn build(project: &Project, cache: &Cache, kernel: &Kernel) -> Outcome<PathBuf> {
    let folder = project.scratch("uki")?;
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).because(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    };
    let files = [
        write("os-release", "ID=firstlight\nNAME=Firstlight\n")?,
        write("cmdline", "console=ttyS0 panic=-1\n")?,
        initramfs::build(project, cache)?,
        kernel.file.clone(),
    ];
    let image = folder.join("linux.efi");
    let mut objcopy = Command::new("objcopy");
    for ((section, address), file) in SECTIONS.iter().zip(files) {
        objcopy
            .arg("--add-section")
            .arg(format!("{section}={}", file.display()))
            .arg("--change-section-vma")
            .arg(format!("{section}={address:#x}"));
    }
    objcopy.arg(package::fetch(cache, &EFI_STUB)?).arg(&image);
    // It complains of the addresses, which only firmware cares for.
    process::output_of(&mut objcopy)?;
    Ok(image)
}
