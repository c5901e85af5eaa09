//! The cache of unpacked images: a folder of immutable sparse files, one for each source file.
//!
//! An entry is two names. `NAME.data` is the file with the layers (see [`kept`](crate::kept)), which
//! nobody may write. `NAME` is a symbolic link whose text says what that file's inode, size and
//! times were when it was finished; a file of which that is no longer true is not looked at, but
//! made anew. NAME itself holds the same of the source file, so a lookup reads one link, opens one
//! file, and looks at none of their bytes.
//!
//! An entry is written to `NAME.new`, and gets its names when it is whole and on the disk. Whoever
//! writes holds a lock on `NAME.lock` (flock(2)); who comes second waits, and finds the entry.

mod entries;
mod place;

pub use entries::{Cleared, Entry};

use crate::kept::{self, Kept, Kind, Layer, Layers, Layout};
use crate::lease::Lease;
use crate::stamp::Stamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A folder of unpacked images.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// The most bytes on the disk.
    bound: u64,
}

/// The mode of an entry's file: not even its owner may write.
const MODE: u32 = 0o400;
const DATA: &str = "data";
const NEW: &str = "new";
const LINK: &str = "link";
const LOCK: &str = "lock";

/// What came of a file that the cache was asked for.
#[derive(Debug)]
pub struct Opened {
    /// What the file was taken apart to.
    pub layers: Layers,
    /// Whether it had been kept before.
    pub hit: bool,
    /// Why it is not kept for the next time, where it is not.
    pub note: Option<CacheError>,
}

impl Cache {
    /// The most bytes that a cache takes on the disk, unless somebody wants it otherwise.
    pub const BOUND: u64 = 4 << 30;

    /// Opens the cache in `folder`, which is made where it is missing, for this user alone.
    ///
    /// # Errors
    ///
    /// [`CacheError`] where there can be no folder, or others may write into it.
    pub fn open(folder: &Path, bound: u64) -> Result<Self, CacheError> {
        let failed = |doing| CacheError::host(doing, folder);
        let metadata = match fs::metadata(folder) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)
                    .map_err(failed("make"))?;
                fs::metadata(folder).map_err(failed("open"))?
            }
            Err(error) => return Err(failed("open")(error)),
        };
        let shared = metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0;
        if shared || !metadata.is_dir() {
            return Err(CacheError::Folder {
                folder: folder.to_path_buf(),
            });
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            bound,
        })
    }

    /// Opens the cache where the user has it: in the folder that `FIRSTLIGHT_CACHE` names, else in
    /// `firstlight/images` below `XDG_CACHE_HOME` or `~/.cache` (XDG Base Directory
    /// Specification).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`CacheError::Nowhere`].
    pub fn of_user() -> Result<Self, CacheError> {
        let folder = place::of_user(|name| std::env::var_os(name)).ok_or(CacheError::Nowhere)?;
        Self::open(&folder, Self::BOUND)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `file` is taken apart to: as it was kept, if it was and `file` has not changed since,
    /// else as `take_apart` does it, and kept for the next time.
    ///
    /// `path` is only remembered, for people. `take_apart` reads the whole of `file`. Where nothing
    /// can be kept, the result is the same, and says why.
    ///
    /// # Errors
    ///
    /// Those of `take_apart`.
    pub fn get<E>(
        &self,
        kind: Kind,
        file: &File,
        path: &Path,
        take_apart: impl FnOnce() -> Result<Vec<Layer>, E>,
    ) -> Result<Opened, E> {
        let source = match file.metadata() {
            Ok(metadata) => Stamp::of(&metadata),
            Err(error) => {
                let note = CacheError::host("look at", path)(error);
                return Ok(Opened::not_kept(take_apart()?, Some(note)));
            }
        };
        let name = self.folder.join(name(kind, &source));
        if let Some(layers) = find(&name, kind, &source) {
            return Ok(Opened::hit(layers));
        }
        let lock = match Lock::take(&name) {
            Ok(lock) => lock,
            Err(error) => {
                let note = CacheError::host("write to", &self.folder)(error);
                return Ok(Opened::not_kept(take_apart()?, Some(note)));
            }
        };
        // Somebody else may have written it while we waited.
        if let Some(layers) = find(&name, kind, &source) {
            return Ok(Opened::hit(layers));
        }
        let layers = take_apart()?;
        let unchanged = || {
            let now = file.metadata().ok();
            now.is_some_and(|now| Stamp::of(&now) == source)
        };
        // What has just changed may change again without a trace, and is not worth keeping.
        if !(source.has_settled(SystemTime::now()) && unchanged()) {
            return Ok(Opened::not_kept(layers, None));
        }
        match self.keep(&lock, kind, &source, path, &layers) {
            Ok(()) => Ok(match find(&name, kind, &source) {
                Some(found) => Opened {
                    hit: false,
                    ..Opened::hit(found)
                },
                None => Opened::not_kept(layers, None),
            }),
            Err(note) => Ok(Opened::not_kept(layers, Some(note))),
        }
    }

    fn keep(
        &self,
        lock: &Lock,
        kind: Kind,
        source: &Stamp,
        path: &Path,
        layers: &[Layer],
    ) -> Result<(), CacheError> {
        let bytes: u64 = layers.iter().map(|layer| layer.bytes().len() as u64).sum();
        // Whoever lists it may be elsewhere.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let layout = Layout::of(kind, source, &path, layers);
        let Some(layout) = layout.filter(|_| bytes <= self.bound) else {
            return Err(CacheError::TooLarge {
                bytes,
                bound: self.bound,
            });
        };
        lock.write(&layout, layers)
            .map_err(CacheError::host("write to", &self.folder))?;
        entries::shrink(&self.folder, self.bound, &lock.name)
            .map_err(CacheError::host("clean up", &self.folder))
    }
}

impl Opened {
    /// What was taken apart without a cache.
    #[must_use]
    pub fn without_cache(layers: Vec<Layer>) -> Self {
        Self::not_kept(layers, None)
    }

    fn hit(layers: Layers) -> Self {
        Self {
            layers,
            hit: true,
            note: None,
        }
    }

    fn not_kept(layers: Vec<Layer>, note: Option<CacheError>) -> Self {
        Self {
            layers: Layers::in_memory(layers),
            hit: false,
            note,
        }
    }
}

/// The name of what `source` is taken apart to. The letter and the number keep kinds and versions
/// from each other.
fn name(kind: Kind, source: &Stamp) -> String {
    let letter = match kind {
        Kind::Image => 'k',
        Kind::Initrd => 'i',
    };
    format!("{letter}{}-{source}", kept::VERSION)
}

/// The entry `name`, if it is there and as it was when it was finished.
fn find(name: &Path, kind: Kind, source: &Stamp) -> Option<Layers> {
    let finished = fs::read_link(name).ok()?;
    let file = open_data(&name.with_extension(DATA)).ok()?;
    // The lease first: what is seen afterwards stays.
    let lease = Lease::take(file);
    match lease {
        Ok(lease) => {
            let len = len_if_unchanged(lease.file(), &finished)?;
            Kept::map(lease, len, kind, source).map(Layers::kept)
        }
        Err(file) => {
            let len = len_if_unchanged(&file, &finished)?;
            let layers = kept::read(&file, len, kind, source)?;
            // What changed while it was read is not what was kept.
            len_if_unchanged(&file, &finished)?;
            Some(Layers::in_memory(layers))
        }
    }
}

/// How long an entry's file is, if it is this user's and all that `finished` says of it is true.
fn len_if_unchanged(file: &File, finished: &Path) -> Option<u64> {
    let metadata = file.metadata().ok()?;
    let ours = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o7777 == MODE;
    let stamp = Stamp::of(&metadata);
    let unchanged = finished.as_os_str() == stamp.without_device().as_str();
    (metadata.is_file() && ours && unchanged).then_some(stamp.size)
}

fn open_data(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// The right to write an entry. What was not finished is removed.
#[derive(Debug)]
struct Lock {
    name: PathBuf,
    file: File,
}

impl Lock {
    /// Waits until nobody else writes the entry.
    fn take(name: &Path) -> io::Result<Self> {
        let path = name.with_extension(LOCK);
        loop {
            let file: File = rustix::fs::open(
                &path,
                rustix::fs::OFlags::RDONLY
                    | rustix::fs::OFlags::CREATE
                    | rustix::fs::OFlags::NOFOLLOW
                    | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::from_raw_mode(0o600),
            )?
            .into();
            loop {
                match flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Whoever held the lock has removed the file.
            let locked = file.metadata()?;
            match fs::symlink_metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Self {
                        name: name.to_path_buf(),
                        file,
                    });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the entry, and gives it its names.
    fn write(&self, layout: &Layout, layers: &[Layer]) -> io::Result<()> {
        // Beyond this limit, a write ends the process by a signal.
        if let Some(most) = getrlimit(Resource::Fsize).current
            && most < layout.len
        {
            return Err(Errno::FBIG.into());
        }
        let new = self.name.with_extension(NEW);
        // Whoever began before us is no more.
        remove(&new)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.set_len(layout.len)?;
        file.write_all_at(&layout.header, 0)?;
        // What is not written are holes in a file that is so long already.
        for ((start, parts), layer) in layout.offsets.iter().zip(&layout.parts).zip(layers) {
            let index = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            for part in parts {
                let range = index(part.start)..index(part.end);
                let bytes = layer.bytes().get(range).unwrap_or(&[]);
                file.write_all_at(bytes, part.start)?;
            }
        }
        file.set_permissions(Permissions::from_mode(MODE))?;
        // A host that crashes must not leave a file of the right length with zeros in it.
        file.sync_data()?;
        drop(file);
        let data = self.name.with_extension(DATA);
        fs::rename(&new, &data)?;
        // The times that say whether it was changed: renaming was the last change.
        let finished = Stamp::of(&fs::symlink_metadata(&data)?).without_device();
        let link = self.name.with_extension(LINK);
        remove(&link)?;
        symlink(finished, &link)?;
        fs::rename(&link, &self.name)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock's name goes while the lock is held, and the lock itself with the file.
        for ending in [NEW, LINK, LOCK] {
            let _ = remove(&self.name.with_extension(ending));
        }
        let _ = &self.file;
    }
}

/// Removes a file that may be there or not.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Why nothing is kept.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// There is no place for a cache.
    #[error("there is no folder for unpacked images: neither XDG_CACHE_HOME nor HOME is set")]
    Nowhere,
    /// The folder is not this user's alone.
    #[error("{} is no folder of this user that only they can write to", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
    },
    /// What was unpacked is more than all that may be kept.
    #[error("{bytes} bytes are more than the {bound} that the cache may have")]
    TooLarge {
        /// What was unpacked.
        bytes: u64,
        /// What may be kept.
        bound: u64,
    },
    /// The host failed.
    #[error("cannot {doing} {}", path.display())]
    Host {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

impl CacheError {
    fn host(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Host {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }
}
