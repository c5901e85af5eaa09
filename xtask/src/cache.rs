//! The folder in which downloads and what is made of them are kept, for every clone on this
//! machine.
//!
//! It is `firstlight` in the user's cache folder (XDG Base Directory Specification 0.8). Each
//! entry is a folder that is made under another name and renamed once it is complete, under a
//! lock: an entry that is there is whole, and two runs at once make it once.

use crate::failure::{Because, Failure, Outcome};
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The cache.
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's cache.
    pub(crate) fn open() -> Outcome<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            // The specification: a relative path is to be ignored.
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .ok_or_else(|| Failure::new("no cache folder: neither XDG_CACHE_HOME nor HOME"))?;
        Self::at(&base.join("firstlight"))
    }

    fn at(root: &Path) -> Outcome<Self> {
        fs::create_dir_all(root).because(|| format!("cannot make {}", root.display()))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// The folder of the cache.
    pub(crate) fn folder(&self) -> &Path {
        &self.root
    }

    /// The entry `name`, made by `make` if it is not there or was made by another `recipe`.
    pub(crate) fn entry(
        &self,
        name: &str,
        recipe: &str,
        make: impl FnOnce(&Path) -> Outcome,
    ) -> Outcome<PathBuf> {
        let entry = self.root.join(name);
        if made_by(&entry, recipe) {
            return Ok(entry);
        }
        let _lock = self.lock(name)?;
        if made_by(&entry, recipe) {
            return Ok(entry);
        }
        // What an interrupted run left; nobody else uses it, since we hold the lock.
        let new = beside(&entry, ".new");
        remove(&new)?;
        fs::create_dir_all(&new).because(|| format!("cannot make {}", new.display()))?;
        make(&new)?;
        fs::write(new.join(RECIPE), recipe).because(|| format!("cannot write {RECIPE}"))?;
        self.forget_locked(&entry)?;
        fs::rename(&new, &entry).because(|| format!("cannot name {}", entry.display()))?;
        Ok(entry)
    }

    /// Removes the entry `name`, so that it is made again.
    pub(crate) fn forget(&self, name: &str) -> Outcome {
        let _lock = self.lock(name)?;
        self.forget_locked(&self.root.join(name))
    }

    fn forget_locked(&self, entry: &Path) -> Outcome {
        let old = beside(entry, ".old");
        remove(&old)?;
        if entry.exists() {
            fs::rename(entry, &old).because(|| format!("cannot rename {}", entry.display()))?;
        }
        remove(&old)
    }

    /// Waits until nobody else holds the lock `name`, and holds it until it is dropped.
    pub(crate) fn lock(&self, name: &str) -> Outcome<File> {
        let path = beside(&self.root.join(name), ".lock");
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).because(|| format!("cannot make {}", folder.display()))?;
        let file = File::create(&path).because(|| format!("cannot open {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .because(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }
}

/// The file in an entry that tells how it was made.
const RECIPE: &str = ".recipe";

fn made_by(entry: &Path, recipe: &str) -> bool {
    fs::read_to_string(entry.join(RECIPE)).is_ok_and(|made| made == recipe)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).because(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Puts `contents` at `path` in one step: nobody ever reads half of it. What is there already is
/// not written again, so that it can be had from where nothing can be written.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> Outcome {
    if fs::read(path).is_ok_and(|there| there == contents) {
        return Ok(());
    }
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let new = beside(path, &format!(".{}-{number}.new", std::process::id()));
    fs::write(&new, contents).because(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).because(|| format!("cannot name {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("firstlight-{name}-{}", std::process::id()));
        remove(&folder).unwrap();
        folder
    }

    #[test]
    fn an_entry_is_made_once_by_many_at_a_time() {
        let root = scratch("cache-once");
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = Cache::at(&root).unwrap();
                    let entry = cache.entry("deep/thing", "1", |folder| {
                        made.fetch_add(1, Ordering::Relaxed);
                        write_whole(&folder.join("x"), b"y")
                    });
                    assert_eq!(fs::read(entry.unwrap().join("x")).unwrap(), b"y");
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
        remove(&root).unwrap();
    }

    #[test]
    fn a_failed_make_leaves_no_entry_and_a_new_recipe_makes_a_new_one() {
        let root = scratch("cache-recipe");
        let cache = Cache::at(&root).unwrap();
        cache
            .entry("thing", "1", |folder| {
                write_whole(&folder.join("half"), b"")?;
                Err(Failure::new("the download broke"))
            })
            .unwrap_err();
        assert!(!root.join("thing").exists());
        let entry = cache.entry("thing", "1", |_| Ok(())).unwrap();
        assert!(!entry.join("half").exists());
        cache
            .entry("thing", "2", |folder| {
                write_whole(&folder.join("two"), b"2")
            })
            .unwrap();
        assert!(entry.join("two").exists());
        cache.forget("thing").unwrap();
        assert!(!entry.exists());
        remove(&root).unwrap();
    }
}
