//! The first userspace of test guests: a static busybox and a script.

use crate::architecture::Architecture;
use crate::cache::{self, Cache};
use crate::failure::{Because, Outcome};
use crate::guest_program;
use crate::package;
use crate::project::Project;
use firstlight_initramfs::cpio::Archive;
use std::fs;
use std::path::PathBuf;

/// What the script says first; no command line contains it, so only the guest can have said it.
pub(crate) const MARKER: &str = "FIRSTLIGHT-INIT";

const INIT: &str = include_str!("../guest/init");

/// Builds the initramfs of test guests for `architecture`.
pub(crate) fn build(
    project: &Project,
    cache: &Cache,
    architecture: Architecture,
) -> Outcome<PathBuf> {
    let archive = userspace(cache, architecture)?;
    let name = format!("initramfs-{}.cpio", architecture.name());
    let file = project.scratch("guest")?.join(name);
    let archive = archive
        .finish()
        .because(|| format!("cannot make {}", file.display()))?;
    cache::write_whole(&file, &archive)?;
    Ok(file)
}

/// The first userspace of test guests, to which more may be added.
pub(crate) fn userspace(cache: &Cache, architecture: Architecture) -> Outcome<Archive> {
    let mut archive = skeleton(cache, architecture)?;
    archive.program("init", INIT.as_bytes());
    if architecture == Architecture::X86_64 {
        archive.program("bin/outb", &guest_program::outb());
        archive.program("bin/tsc", &guest_program::tsc());
    }
    Ok(archive)
}

/// What every initramfs here begins with: the folders that are mounted on, the console that the
/// kernel opens for init, and busybox.
pub(crate) fn skeleton(cache: &Cache, architecture: Architecture) -> Outcome<Archive> {
    let busybox = package::fetch(cache, &package::busybox(architecture))?;
    let program = fs::read(&busybox).because(|| format!("cannot read {}", busybox.display()))?;
    let mut archive = Archive::new();
    for folder in ["bin", "dev", "proc", "root", "sys", "tmp"] {
        archive.folder(folder);
    }
    archive.character_device("dev/console", 5, 1);
    archive.program("bin/busybox", &program);
    archive.link("bin/sh", "busybox");
    Ok(archive)
}
