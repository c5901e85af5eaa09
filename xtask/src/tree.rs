//! Trees of Debian's packages with all that they depend on: programs that run beside this machine's
//! own, with their own libraries, whatever this machine has.

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::debian::{self, Suite};
use crate::failure::{Because, Failure, Outcome};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A tree of packages for x86-64 machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    /// What we call it.
    pub(crate) name: &'static str,
    /// Debian's suite.
    pub(crate) suite: &'static str,
    /// Packages that are in it with all that they depend on.
    pub(crate) packages: &'static [&'static str],
    /// Packages that are in it by themselves, of any architecture.
    pub(crate) alone: &'static [(Architecture, &'static str)],
    /// What the names of files begin with that are left out.
    pub(crate) without: &'static [&'static str],
}

/// A tree in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Planted {
    /// Its root.
    pub(crate) root: PathBuf,
}

/// The tree, fetched if it is not in the cache.
pub(crate) fn fetch(cache: &Cache, tree: &Tree) -> Outcome<Planted> {
    if Architecture::of_this_machine()? != Architecture::X86_64 {
        return Err(Failure::new(format!(
            "the programs of {} are for x86-64 machines",
            tree.name
        )));
    }
    let recipe = format!("{tree:?}");
    let root = cache.entry(&format!("trees/{}", tree.name), &recipe, |folder| {
        eprintln!(
            "set-up: fetching Debian's packages {} ({}), with what they need",
            tree.packages.join(", "),
            tree.suite
        );
        let debs = download(cache, tree, &folder.join("debs"))?;
        merge_usr(folder)?;
        for deb in debs {
            debian::unpack(&deb, folder)?;
        }
        fs::remove_dir_all(folder.join("debs")).because(|| "cannot remove packages".to_owned())
    })?;
    Ok(Planted { root })
}

fn download(cache: &Cache, tree: &Tree, debs: &Path) -> Outcome<Vec<PathBuf>> {
    Suite::open(cache, tree.suite, Architecture::X86_64)?
        .download_with_dependencies(tree.packages, debs)?;
    for &(architecture, package) in tree.alone {
        Suite::open(cache, tree.suite, architecture)?.download(&[package.to_owned()], debs)?;
    }
    let mut files = debian::packages_in(debs)?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        !tree.without.iter().any(|start| name.starts_with(start))
    });
    Ok(files)
}

/// Packages of before Debian's merge of `/usr` put files into `/bin` and `/lib`.
fn merge_usr(root: &Path) -> Outcome {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let folder = root.join("usr").join(name);
        fs::create_dir_all(&folder).because(|| format!("cannot make {}", folder.display()))?;
        let link = root.join(name);
        symlink(Path::new("usr").join(name), &link)
            .because(|| format!("cannot make {}", link.display()))?;
    }
    Ok(())
}

impl Planted {
    /// The words that run the program at `path` with the tree's own loader and libraries.
    pub(crate) fn program(&self, path: &str) -> Vec<OsString> {
        vec![
            self.root.join("lib64/ld-linux-x86-64.so.2").into(),
            "--library-path".into(),
            self.libraries().into(),
            self.root.join(path).into(),
        ]
    }

    /// The folder of its libraries.
    pub(crate) fn libraries(&self) -> PathBuf {
        self.root.join("usr/lib/x86_64-linux-gnu")
    }
}
