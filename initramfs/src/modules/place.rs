//! Where a kernel's modules are.

use super::{ModuleError, cannot_read};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder that a tree of modules begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) folder: PathBuf,
    /// The kernel's version, where the folder has its name.
    pub(super) version: Option<String>,
}

/// The folders of a system that have a folder for each kernel.
const PLACES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// The tree of the kernel `version`, or of the only one, in `folder` or below it.
pub(super) fn tree(folder: &Path, version: Option<&str>) -> Result<Tree, ModuleError> {
    if is_tree(folder) {
        return Ok(Tree {
            folder: folder.to_owned(),
            version: named_version(folder),
        });
    }
    let mut found = versions(folder, is_tree)?;
    for place in PLACES {
        for (version, path) in versions(&folder.join(place), |_| true)? {
            found.entry(version).or_insert(path);
        }
    }
    let names = || found.keys().cloned().collect();
    let folder = folder.to_owned();
    match (version, found.len()) {
        (_, 0) => Ok(Tree {
            folder,
            version: None,
        }),
        (Some(version), _) => match found.get(version) {
            Some(path) => Ok(Tree {
                folder: path.clone(),
                version: Some(version.to_owned()),
            }),
            None => Err(ModuleError::OtherKernels {
                folder,
                kernel: version.to_owned(),
                versions: names(),
            }),
        },
        (None, 1) => {
            let only = found.into_iter().next();
            Ok(only.map_or(
                Tree {
                    folder,
                    version: None,
                },
                |(version, folder)| Tree {
                    folder,
                    version: Some(version),
                },
            ))
        }
        (None, _) => Err(ModuleError::SeveralKernels {
            folder,
            versions: names(),
        }),
    }
}

/// The tree of modules that belongs to the `kernel` file by where that lies, if there is one.
///
/// `boot/vmlinuz-VERSION` belongs to `lib/modules/VERSION` or `usr/lib/modules/VERSION` beside
/// `boot`, and `lib/modules/VERSION/vmlinuz` to the folder it is in. A link counts as what it leads
/// to.
#[must_use]
pub fn beside(kernel: &Path) -> Option<PathBuf> {
    let kernel = fs::canonicalize(kernel).ok()?;
    let folder = kernel.parent()?;
    if is_tree(folder) {
        return Some(folder.to_owned());
    }
    let name = kernel.file_name()?.to_str()?;
    // vmlinuz-6.1.0-50-amd64, vmlinux-..., Image-...: versions begin with a digit.
    let (_, version) = name
        .match_indices('-')
        .map(|(at, _)| name.split_at(at + 1))
        .find(|(_, version)| version.starts_with(|first: char| first.is_ascii_digit()))?;
    let system = folder.parent()?;
    PLACES
        .iter()
        .map(|place| system.join(place).join(version))
        .find(|tree| tree.is_dir())
}

/// The version in `.../modules/VERSION`.
fn named_version(folder: &Path) -> Option<String> {
    let modules = folder.parent()?.file_name()?;
    let version = folder.file_name()?.to_str()?;
    (modules == "modules").then(|| version.to_owned())
}

/// Whether `folder` has the lists of a tree of modules.
fn is_tree(folder: &Path) -> bool {
    ["modules.dep", "modules.builtin"]
        .iter()
        .any(|list| folder.join(list).is_file())
}

/// The folders in `folder`, by their names, that are as wanted; none where there is no `folder`.
fn versions(
    folder: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<BTreeMap<String, PathBuf>, ModuleError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(cannot_read(folder, source)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|source| cannot_read(folder, source))?.path();
        if let Some(name) = path.file_name()
            && path.is_dir()
            && wanted(&path)
        {
            found.insert(name.to_string_lossy().into_owned(), path);
        }
    }
    Ok(found)
}
