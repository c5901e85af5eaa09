//! An initial ramdisk as large as distributions make them: full of kernel modules.

use crate::cache::Cache;
use crate::debian::Suite;
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs;
use crate::kernel::DEBIAN_12;
use crate::package::files_below;
use crate::process;
use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// So many MiB of modules are in it.
pub(super) const MIB: usize = 90;

/// The ramdisk, packed by the tool for `codec` as Debian's `mkinitramfs` calls it.
pub(super) fn initrd(cache: &Cache, codec: &str) -> Outcome<PathBuf> {
    let words: &[&str] = match codec {
        "xz" => &["xz", "-k", "-f", "-T0", "--check=crc32"],
        "zstd" => &["zstd", "-q", "-f", "-9"],
        "lz4" => &["lz4", "-q", "-f", "-m", "-9", "-l"],
        other => {
            return Err(Failure::new(format!(
                "nothing packs an initrd with {other}"
            )));
        }
    };
    tools::install(&[tools::XZ, tools::ZSTD, tools::LZ4])?;
    let recipe = format!("{MIB} MiB of {}, {words:?}", DEBIAN_12.package);
    let entry = cache.entry(&format!("initrds/{codec}"), &recipe, |folder| {
        let plain = folder.join("initrd");
        fs::write(&plain, archive(cache, folder)?)
            .because(|| format!("cannot write {}", plain.display()))?;
        process::run(Command::new(words[0]).args(&words[1..]).arg(&plain))?;
        fs::remove_file(&plain).because(|| format!("cannot remove {}", plain.display()))
    })?;
    let files = fs::read_dir(&entry).because(|| format!("cannot list {}", entry.display()))?;
    files
        .flatten()
        .map(|file| file.path())
        .find(|path| path.file_stem().is_some_and(|stem| stem == "initrd"))
        .ok_or_else(|| Failure::new(format!("{codec} made no file")))
}

/// The test guests' userspace and the modules, as a plain archive.
fn archive(cache: &Cache, folder: &Path) -> Outcome<Vec<u8>> {
    let suite = Suite::open(cache, DEBIAN_12.suite, DEBIAN_12.architecture)?;
    let tree = suite.unpacked(&suite.kernel_packages(DEBIAN_12.package)?, folder)?;
    let mut modules = files_below(&tree.join("lib/modules"))?;
    modules.retain(|path| path.extension().is_some_and(|extension| extension == "ko"));
    modules.sort();
    let mut archive = initramfs::userspace(cache, DEBIAN_12.architecture)?;
    archive.folder("modules");
    let mut room = MIB << 20;
    for (number, path) in modules.iter().enumerate() {
        let module = fs::read(path).because(|| format!("cannot read {}", path.display()))?;
        let part = &module[..module.len().min(room)];
        archive.file(&format!("modules/{number}.ko"), part);
        room -= part.len();
    }
    if room > 0 {
        return Err(Failure::new(format!("{room} bytes of modules are missing")));
    }
    fs::remove_dir_all(&tree).because(|| format!("cannot remove {}", tree.display()))?;
    archive
        .finish()
        .because(|| "cannot make the archive".to_owned())
}
