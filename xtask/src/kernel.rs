//! The kernels that guests run: Debian's, unmodified, by the name of their meta packages.

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::debian::Suite;
use crate::failure::{Because, Failure, Outcome};
use crate::lab;
use crate::project::Project;
use firstlight_initramfs::modules::{self, ModuleTree};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A kernel by the name of the package that stands for it: exact versions come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// What we call it.
    pub(crate) name: &'static str,
    /// What people call it.
    pub(crate) title: &'static str,
    /// What runs it.
    pub(crate) architecture: Architecture,
    /// Debian's suite.
    pub(crate) suite: &'static str,
    /// The meta package.
    pub(crate) package: &'static str,
    /// How the kernel in the file is packed.
    pub(crate) payload: &'static str,
}

/// The kernels for x86 that are tried: every way of packing them, and every layout of their
/// relocations.
pub(crate) const RELEASES: [Release; 4] = [DEBIAN_12, DEBIAN_12_CLOUD, DEBIAN_13, DEBIAN_14];
/// The kernels that are tried on other architectures.
pub(crate) const FOREIGN_RELEASES: [Release; 5] = [
    DEBIAN_12_ARM64,
    DEBIAN_13_ARM64,
    DEBIAN_14_ARM64,
    DEBIAN_13_RISCV64,
    DEBIAN_14_RISCV64,
];
/// Linux 6.1, as installed on machines; also the lab's own kernel.
pub(crate) const DEBIAN_12: Release = Release {
    name: "debian12",
    title: "12: Linux 6.1, xz",
    architecture: Architecture::X86_64,
    suite: "bookworm",
    package: "linux-image-amd64",
    payload: "xz",
};
/// Linux 6.1 with the drivers that clouds need.
pub(crate) const DEBIAN_12_CLOUD: Release = Release {
    name: "debian12-cloud",
    title: "12 cloud: Linux 6.1, lz4",
    architecture: Architecture::X86_64,
    suite: "bookworm",
    package: "linux-image-cloud-amd64",
    payload: "lz4",
};
/// Linux 6.12, as installed on machines.
pub(crate) const DEBIAN_13: Release = Release {
    name: "debian13",
    title: "13: Linux 6.12, zstd",
    architecture: Architecture::X86_64,
    suite: "trixie",
    package: "linux-image-amd64",
    payload: "zstd",
};

/// Linux 7, from the suite that is to become Debian 14.
pub(crate) const DEBIAN_14: Release = Release {
    name: "debian14",
    title: "14: Linux 7.2, zstd",
    architecture: Architecture::X86_64,
    suite: "forky",
    package: "linux-image-amd64",
    payload: "zstd",
};

/// Linux 6.1 for arm64.
pub(crate) const DEBIAN_12_ARM64: Release = Release {
    name: "debian12-arm64",
    title: "12 arm64: Linux 6.1",
    architecture: Architecture::Arm64,
    suite: "bookworm",
    package: "linux-image-arm64",
    payload: "plain",
};
/// Linux 6.12 for arm64; also the lab's own kernel.
pub(crate) const DEBIAN_13_ARM64: Release = Release {
    name: "debian13-arm64",
    title: "13 arm64: Linux 6.12",
    suite: "trixie",
    ..DEBIAN_12_ARM64
};
/// Linux 7 for arm64.
pub(crate) const DEBIAN_14_ARM64: Release = Release {
    name: "debian14-arm64",
    title: "14 arm64: Linux 7.2",
    suite: "forky",
    ..DEBIAN_12_ARM64
};
/// Linux 6.12 for riscv64; also the lab's own kernel.
pub(crate) const DEBIAN_13_RISCV64: Release = Release {
    name: "debian13-riscv64",
    title: "13 riscv64: Linux 6.12",
    architecture: Architecture::Riscv64,
    suite: "trixie",
    package: "linux-image-riscv64",
    payload: "plain",
};
/// Linux 7 for riscv64.
pub(crate) const DEBIAN_14_RISCV64: Release = Release {
    name: "debian14-riscv64",
    title: "14 riscv64: Linux 7.2",
    suite: "forky",
    ..DEBIAN_13_RISCV64
};

/// Every kernel, or those for `architecture` alone.
pub(crate) fn releases(
    architecture: Option<Architecture>,
) -> impl Iterator<Item = &'static Release> {
    let wanted =
        move |release: &&Release| architecture.is_none_or(|one| one == release.architecture);
    RELEASES.iter().chain(&FOREIGN_RELEASES).filter(wanted)
}

/// A kernel in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The kernel's file.
    pub(crate) file: PathBuf,
    /// What `uname -r` says in it.
    pub(crate) version: String,
    /// The folder with the lab's modules, where the release has them: in `order` their names in
    /// the order in which they must be loaded. For a kernel that is [`installed`], where all are.
    pub(crate) modules: PathBuf,
}

/// The kernel of `release`, fetched if it is not in the cache.
pub(crate) fn fetch(cache: &Cache, release: &Release) -> Outcome<Kernel> {
    let wanted = modules_of(release);
    let recipe = format!("{} {} {wanted:?}", release.suite, release.package);
    let entry = cache.entry(&entry_name(release), &recipe, |folder| {
        eprintln!(
            "set-up: fetching Debian's package {} ({})",
            release.package, release.suite
        );
        let suite = Suite::open(cache, release.suite, release.architecture)?;
        let mut packages = suite.kernel_packages(release.package)?;
        if wanted.is_empty() {
            packages.retain(|name| !name.starts_with("linux-modules-"));
        }
        let tree = suite.unpacked(&packages, folder)?;
        let (file, version) = find_kernel(&tree)?;
        fs::rename(&file, folder.join("vmlinuz")).because(|| "cannot move vmlinuz".to_owned())?;
        fs::write(folder.join("version"), &version)
            .because(|| "cannot write the version".to_owned())?;
        if !wanted.is_empty() {
            let kernel = Kernel {
                file,
                version,
                modules: tree.clone(),
            };
            keep_modules(
                &kernel,
                wanted,
                release.architecture,
                &folder.join("modules"),
            )?;
        }
        fs::remove_dir_all(&tree).because(|| format!("cannot remove {}", tree.display()))
    })?;
    let version = fs::read_to_string(entry.join("version"))
        .because(|| format!("cannot read the version in {}", entry.display()))?;
    Ok(Kernel {
        file: entry.join("vmlinuz"),
        version,
        modules: entry.join("modules"),
    })
}

/// The kernel of `release` as its package installs it, with all modules beside it; fetched if it is
/// not in the cache.
pub(crate) fn installed(cache: &Cache, release: &Release) -> Outcome<Kernel> {
    let recipe = format!("{} {}", release.suite, release.package);
    let name = format!("{}-installed", entry_name(release));
    let entry = cache.entry(&name, &recipe, |folder| {
        eprintln!(
            "set-up: fetching Debian's package {} ({}), with its modules",
            release.package, release.suite
        );
        let suite = Suite::open(cache, release.suite, release.architecture)?;
        let packages = suite.kernel_packages(release.package)?;
        suite.unpacked(&packages, folder)?;
        Ok(())
    })?;
    let tree = entry.join("tree");
    let (file, version) = find_kernel(&tree)?;
    Ok(Kernel {
        file,
        version,
        modules: tree,
    })
}

/// A folder in which every kernel goes by the name that its package gives it, `vmlinuz-VERSION`, or
/// `vmlinux-VERSION` for riscv64.
pub(crate) fn folder(project: &Project, cache: &Cache) -> Outcome<PathBuf> {
    let folder = project.scratch("kernels")?;
    for release in releases(None) {
        let kernel = fetch(cache, release)?;
        let name = match release.architecture {
            Architecture::X86_64 | Architecture::Arm64 => "vmlinuz",
            Architecture::Riscv64 => "vmlinux",
        };
        let link = folder.join(format!("{name}-{}", kernel.version));
        let there = fs::read_link(&link).is_ok_and(|there| there == kernel.file);
        if !there {
            let _ = fs::remove_file(&link);
            symlink(&kernel.file, &link).because(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(folder)
}

/// Forgets the kernel of `release`, so that the newest is fetched next time.
pub(crate) fn forget(cache: &Cache, release: &Release) -> Outcome {
    cache.forget(&entry_name(release))
}

/// The same of the kernel that is [`installed`].
pub(crate) fn forget_installed(cache: &Cache, release: &Release) -> Outcome {
    cache.forget(&format!("{}-installed", entry_name(release)))
}

fn entry_name(release: &Release) -> String {
    format!("kernels/{}", release.name)
}

/// Each lab runs on one of these kernels, with the modules that it needs.
fn modules_of(release: &Release) -> &'static [&'static str] {
    if *release == lab::release(release.architecture) {
        lab::modules(release.architecture)
    } else {
        &[]
    }
}

/// Copies the modules `wanted` of a `kernel` that is [`installed`] into `folder`, with all that they
/// need, and writes their names in the order of loading into `folder`'s file `order`.
pub(crate) fn keep_modules(
    kernel: &Kernel,
    wanted: &[&str],
    architecture: Architecture,
    folder: &Path,
) -> Outcome {
    let of_kernel = modules::Kernel {
        architecture: architecture.of_images(),
        version: Some(&kernel.version),
    };
    let modules = ModuleTree::open(&kernel.modules, of_kernel.version)
        .and_then(|tree| tree.load_order(wanted, &of_kernel))
        .because(|| {
            let tree = kernel.modules.display();
            format!("cannot collect the modules in {tree}")
        })?;
    fs::create_dir_all(folder).because(|| format!("cannot make {}", folder.display()))?;
    let mut list = String::new();
    for module in modules {
        let name = format!("{}.ko", module.name);
        let to = folder.join(&name);
        fs::write(&to, &module.image).because(|| format!("cannot write {}", to.display()))?;
        list.push_str(&name);
        list.push('\n');
    }
    let to = folder.join("order");
    fs::write(&to, list).because(|| format!("cannot write {}", to.display()))
}

/// The kernel in an unpacked package, and its version.
fn find_kernel(tree: &Path) -> Outcome<(PathBuf, String)> {
    const NAMES: [&str; 2] = ["vmlinuz", "vmlinux"];
    let names = |folder: &Path| -> Vec<(PathBuf, String)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|e| (e.path(), e.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    for (path, name) in names(&tree.join("boot")) {
        if let Some(version) = NAMES.iter().find_map(|start| name.strip_prefix(start)) {
            let version = version.trim_start_matches('-');
            return Ok((path, version.to_owned()));
        }
    }
    // Newer packages keep it beside the modules.
    for (path, version) in names(&tree.join("usr/lib/modules")) {
        let mut files = NAMES.iter().map(|name| path.join(name));
        if let Some(file) = files.find(|file| file.is_file()) {
            return Ok((file, version));
        }
    }
    Err(Failure::new("the kernel package holds no vmlinuz"))
}
