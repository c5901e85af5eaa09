//! A kernel's modules: finding them, and putting them into the order in which they must be loaded.
//!
//! The tree is what a kernel's build installs (Linux `Documentation/kbuild/modules.rst`) and
//! `depmod(8)` adds lists to; those lists are used where they are there. What a module needs, it
//! says itself.

mod modinfo;
mod order;
mod place;

pub use modinfo::ModInfoError;
pub use place::beside;

use firstlight_image::{Architecture, Codec, Packed, UnpackError};
use modinfo::ModInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// A module as it goes into an initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with `_` wherever `-` may stand.
    pub name: String,
    /// The file, unpacked.
    pub image: Vec<u8>,
    /// What it is told, as words that are a name, an equals sign and a value.
    pub parameters: String,
}

/// The kernel that is to load modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel<'a> {
    /// What it runs on.
    pub architecture: Architecture,
    /// What `uname -r` says in it, where that is known.
    pub version: Option<&'a str>,
}

/// The modules of a kernel.
#[derive(Clone, Debug)]
pub struct ModuleTree {
    /// Without symbolic links in its path.
    folder: PathBuf,
    version: Option<String>,
    /// By names without `-`.
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

/// Why modules cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A file or a folder cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing like modules in the folder.
    #[error("there are no modules in {folder}", folder = folder.display())]
    NoModules {
        /// Which.
        folder: PathBuf,
    },
    /// The folder has modules for several kernels, and nothing says which.
    #[error(
        "{folder} has modules of several kernels: {versions}",
        folder = folder.display(), versions = versions.join(", ")
    )]
    SeveralKernels {
        /// Which.
        folder: PathBuf,
        /// Their versions.
        versions: Vec<String>,
    },
    /// The folder has modules, but none for this kernel.
    #[error(
        "{folder} has no modules of kernel {kernel}, but of {versions}",
        folder = folder.display(), versions = versions.join(", ")
    )]
    OtherKernels {
        /// Which.
        folder: PathBuf,
        /// The kernel's version.
        kernel: String,
        /// The versions of those that it has modules of.
        versions: Vec<String>,
    },
    /// The tree has more files than any kernel has modules, or folders in folders without end.
    #[error(
        "{folder} has more than {FILES_MAX} files, or folders more than {DEPTH_MAX} deep",
        folder = folder.display()
    )]
    LargeTree {
        /// Which.
        folder: PathBuf,
    },
    /// A list names a file that is none of the tree's.
    #[error("line {line} of {list} names a file outside the tree", list = list.display())]
    List {
        /// The list.
        list: PathBuf,
        /// Counted from one.
        line: usize,
    },
    /// A module is asked for that the kernel does not have.
    #[error("the kernel has no module {name}")]
    Missing {
        /// Which.
        name: String,
    },
    /// A module needs one that the kernel does not have.
    #[error("the kernel has no module {name}, which {needed_by} needs")]
    MissingDependency {
        /// Which.
        name: String,
        /// By which module.
        needed_by: String,
    },
    /// Modules need each other.
    #[error("modules need each other: {}", names.join(" needs "))]
    Loop {
        /// From the first to the first.
        names: Vec<String>,
    },
    /// Modules need modules that need modules, without end.
    #[error("{name} needs a chain of more than {CHAIN_MAX} modules")]
    LongChain {
        /// The first in the chain.
        name: String,
    },
    /// A module is a link to a file that is none of the tree's.
    #[error(
        "{path} is a link to {target}, outside the tree",
        path = path.display(), target = target.display()
    )]
    Outside {
        /// The module.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
    },
    /// A module is a folder, a pipe or the like.
    #[error("{path} is no file", path = path.display())]
    NoFile {
        /// The module.
        path: PathBuf,
    },
    /// A module's file has no bytes.
    #[error("{path} is empty", path = path.display())]
    Empty {
        /// The module.
        path: PathBuf,
    },
    /// A file is larger than any of its kind.
    #[error("{path} has more than {most} bytes", path = path.display())]
    LargeFile {
        /// The module, or the list.
        path: PathBuf,
        /// What is read at most.
        most: u64,
    },
    /// The modules are together larger than any initramfs.
    #[error("the modules up to {name} have together more than {SUM_MAX} bytes")]
    LargeSum {
        /// The one that was too much.
        name: String,
    },
    /// A module cannot be unpacked.
    #[error("cannot unpack {path}", path = path.display())]
    Unpack {
        /// The module.
        path: PathBuf,
        /// Why.
        source: UnpackError,
    },
    /// A file is no module.
    #[error("{path} is no module", path = path.display())]
    NoModule {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ModInfoError,
    },
    /// A module is for another machine than the kernel.
    #[error("{path} is for {module}, and the kernel for {kernel}", path = path.display())]
    OtherArchitecture {
        /// The module.
        path: PathBuf,
        /// What it runs on.
        module: Architecture,
        /// What the kernel runs on.
        kernel: Architecture,
    },
    /// A module is for another version of the kernel, which would not load it.
    #[error("{path} is for kernel {module}, and this is {kernel}", path = path.display())]
    OtherVersion {
        /// The module.
        path: PathBuf,
        /// The version it was compiled for.
        module: String,
        /// The kernel's version.
        kernel: String,
    },
}

/// The largest file that is read, packed or not: the largest of Debian's, with all its symbols,
/// has about 30 MiB.
const SIZE_MAX: u64 = 256 << 20;
/// The largest list of modules that is read: the largest of Debian's has about 2 MiB.
const LIST_MAX: u64 = 32 << 20;
/// The most bytes of all modules that are loaded.
const SUM_MAX: usize = 512 << 20;
/// The most files in a tree: Debian's kernels have some 4,500.
const FILES_MAX: usize = 200_000;
/// The most folders in each other.
const DEPTH_MAX: usize = 64;
/// The most modules of which each needs the next.
const CHAIN_MAX: usize = 64;

/// How the names of modules end.
const ENDINGS: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

impl ModuleTree {
    /// Opens the modules in `folder`, of the kernel of that `version`.
    ///
    /// The folder is `lib/modules/VERSION` itself, or has that or `usr/lib/modules/VERSION` in it,
    /// or is any folder with modules in it.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] where there are none, or those of several kernels.
    pub fn open(folder: &Path, version: Option<&str>) -> Result<Self, ModuleError> {
        let tree = place::tree(folder, version)?;
        let folder =
            fs::canonicalize(&tree.folder).map_err(|source| cannot_read(folder, source))?;
        let files = match listed_files(&folder)? {
            Some(files) if !files.is_empty() => files,
            _ => files_below(&folder)?,
        };
        let built_in: BTreeSet<String> = read_list(&folder.join("modules.builtin"))?
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        if files.is_empty() && built_in.is_empty() {
            return Err(ModuleError::NoModules { folder });
        }
        Ok(Self {
            folder,
            version: tree.version,
            files,
            built_in,
        })
    }

    /// The kernel's version, where the tree is named by it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether `name` is a module, or built into the kernel.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        let name = canonical(name);
        self.files.contains_key(&name) || self.built_in.contains(&name)
    }

    /// The modules `wanted` and all they need, each behind what it needs. Those that are built into
    /// the kernel are left out.
    ///
    /// # Errors
    ///
    /// [`ModuleError`] where one is not there, cannot be read, or is not for this kernel.
    pub fn load_order(
        &self,
        wanted: &[&str],
        kernel: &Kernel<'_>,
    ) -> Result<Vec<Module>, ModuleError> {
        order::of(self, wanted, kernel)
    }

    /// The module in `path`, unpacked.
    fn read(&self, path: &Path) -> Result<Vec<u8>, ModuleError> {
        let path = path.to_owned();
        let target = fs::canonicalize(&path).map_err(|source| cannot_read(&path, source))?;
        if !target.starts_with(&self.folder) {
            return Err(ModuleError::Outside { path, target });
        }
        let file = read_file(&target, SIZE_MAX)?;
        if file.is_empty() {
            return Err(ModuleError::Empty { path });
        }
        let codec = match Codec::of(&file) {
            Codec::Stored => return Ok(file),
            codec @ (Codec::Gzip | Codec::Zstd | Codec::Xz) => codec,
            Codec::Lzma
            | Codec::Lz4Legacy
            | Codec::Lz4Frame
            | Codec::Bzip2
            | Codec::Lzo
            | Codec::Unknown(_) => {
                let source = ModInfoError::NoElf;
                return Err(ModuleError::NoModule { path, source });
            }
        };
        let packed = Packed {
            codec,
            range: 0..file.len() as u64,
            unpacked_len: None,
        };
        packed
            .unpack(&file, SIZE_MAX)
            .map_err(|source| ModuleError::Unpack { path, source })
    }
}

/// The modules that `modules.dep` names, where there is one: `PATH: PATH PATH ...`.
fn listed_files(folder: &Path) -> Result<Option<BTreeMap<String, PathBuf>>, ModuleError> {
    let list = folder.join("modules.dep");
    let Some(text) = read_list(&list)? else {
        return Ok(None);
    };
    let mut files = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let path = Path::new(line.split(':').next().unwrap_or_default());
        let inside = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            let line = number;
            return Err(ModuleError::List { list, line });
        }
        if let Some(name) = module_name(path) {
            files.insert(name, folder.join(path));
        }
    }
    Ok(Some(files))
}

/// Every module below `folder`, by its name; links to other folders are not followed.
///
/// Where there are two of a name, one in `updates` comes before any other, as it does for
/// `depmod(8)`.
fn files_below(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ModuleError> {
    let mut files = BTreeMap::<String, PathBuf>::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    let mut seen = 0;
    let too_large = || ModuleError::LargeTree {
        folder: folder.to_owned(),
    };
    while let Some((from, depth)) = folders.pop() {
        for entry in fs::read_dir(&from).map_err(|source| cannot_read(&from, source))? {
            let entry = entry.map_err(|source| cannot_read(&from, source))?;
            seen += 1;
            if seen > FILES_MAX || depth > DEPTH_MAX {
                return Err(too_large());
            }
            let path = entry.path();
            let kind = entry
                .file_type()
                .map_err(|source| cannot_read(&path, source))?;
            if kind.is_dir() {
                folders.push((path, depth + 1));
            } else if let Some(name) = module_name(&path) {
                let rank =
                    |path: &Path| (!path.starts_with(folder.join("updates")), path.to_owned());
                match files.get(&name) {
                    Some(other) if rank(other) < rank(&path) => {}
                    _ => {
                        files.insert(name, path);
                    }
                }
            }
        }
    }
    Ok(files)
}

/// The module's name that `path` ends with, if it ends as modules do.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    ENDINGS
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .map(canonical)
}

/// Module names do not tell `-` from `_`.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The text of a list that may be missing.
fn read_list(path: &Path) -> Result<Option<String>, ModuleError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let bytes = read_file(path, LIST_MAX)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The bytes of a file, which are `most` at most.
fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, ModuleError> {
    let what = |source| cannot_read(path, source);
    let path = path.to_owned();
    // Opening a pipe could take for ever.
    let metadata = fs::metadata(&path).map_err(what)?;
    if !metadata.is_file() {
        return Err(ModuleError::NoFile { path });
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(what)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(what)?;
    if bytes.len() as u64 > most {
        return Err(ModuleError::LargeFile { path, most });
    }
    Ok(bytes)
}

fn cannot_read(path: &Path, source: io::Error) -> ModuleError {
    let path = path.to_owned();
    ModuleError::Read { path, source }
}

#[cfg(test)]
mod tests;
