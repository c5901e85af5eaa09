//! The root that guests with devices have: an ext4 image with busybox and what they try.

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::guest_program;
use crate::package;
use crate::process;
use crate::project::Project;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const DEVICES: &str = include_str!("../../../guest/devices");
const LEASE: &str = include_str!("../../../guest/lease");

/// Where the image is once it has been built.
pub(super) fn file(project: &Project, architecture: Architecture) -> Outcome<PathBuf> {
    let name = format!("root-{}.ext4", architecture.name());
    Ok(project.scratch("devices")?.join(name))
}

/// The folder that the image is made from.
pub(super) fn folder(project: &Project, architecture: Architecture) -> Outcome<PathBuf> {
    let name = format!("root-{}", architecture.name());
    Ok(project.scratch("devices")?.join(name))
}

/// Makes the image anew.
pub(super) fn build(project: &Project, cache: &Cache, architecture: Architecture) -> Outcome {
    let folder = folder(project, architecture)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).because(|| format!("cannot remove {}", folder.display()))?;
    }
    for name in "bin dev etc proc root sbin sys tmp var".split(' ') {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).because(|| format!("cannot make {}", folder.display()))?;
    }
    let busybox = package::fetch(cache, &package::busybox(architecture))?;
    let trial = guest_program::trial(project, cache, architecture)?;
    for (program, from) in [("bin/busybox", busybox), ("bin/trial", trial)] {
        put_program(&folder.join(program), &read(&from)?)?;
    }
    put_program(&folder.join("sbin/init"), DEVICES.as_bytes())?;
    put_program(&folder.join("bin/lease"), LEASE.as_bytes())?;
    symlink("busybox", folder.join("bin/sh")).because(|| "cannot make bin/sh".to_owned())?;
    make_image(&folder, &file(project, architecture)?)
}

fn make_image(folder: &Path, image: &Path) -> Outcome {
    let _ = fs::remove_file(image);
    let mke2fs = process::find("mke2fs")
        .ok_or_else(|| Failure::new("mke2fs vanished from the search path"))?;
    let mut mke2fs = Command::new(mke2fs);
    // Direct access takes blocks as large as pages.
    mke2fs
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"])
        .arg(folder);
    process::output_of(mke2fs.arg(image).arg("32M")).map(|_quiet| ())
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).because(|| format!("cannot read {}", path.display()))
}

fn put_program(path: &Path, bytes: &[u8]) -> Outcome {
    fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .because(|| format!("cannot write {}", path.display()))
}
