//! The initial ramdisk: the one that the image carries, and the one that is named beside it.

use crate::args::GuestArgs;
use crate::cache::{Store, chain};
use crate::failure::Failure;
use crate::file::InputFile;
use crate::initramfs::{self, OwnInitramfs};
use crate::kernel::{self, Files};
use crate::progress::Progress;
use firstlight_base::MIB;
use firstlight_boot::Unpack;
use firstlight_image::{Image, Limits, Part};
use firstlight_load::{Kept, Kind, Layer, Opened, unpack_initrd};
use std::path::Path;

/// An initial ramdisk as the guest is to get it.
#[derive(Debug)]
pub(crate) struct Initrd {
    archive: Archive,
    /// The kernel's whole command line, where it starts something of ours in the ramdisk.
    cmdline: Option<String>,
}

#[derive(Debug)]
enum Archive {
    /// Of so many bytes that it need not be read: no plan has room for it.
    TooLarge(u64),
    /// Open.
    Opened(Opened),
}

impl Initrd {
    /// The initial ramdisk of a boot, unpacked, unless that makes it so large that the guest's
    /// memory gets tight, or the guest is to unpack by itself.
    pub(crate) fn open(
        store: &Store,
        files: &Files,
        image: &Image<'_>,
        args: &GuestArgs,
    ) -> Result<Option<Self>, Failure> {
        let own = initramfs::of(args, files, image, store.progress())?;
        let given = Source::of(files, image, args);
        let given = given.map(|source| source.open(store, args)).transpose()?;
        Ok(Self::of(given, own))
    }

    /// The initial ramdisk of a boot as it is in the files.
    pub(crate) fn packed(
        files: &Files,
        image: &Image<'_>,
        args: &GuestArgs,
        progress: Progress,
    ) -> Result<Option<Self>, Failure> {
        let own = initramfs::of(args, files, image, progress)?;
        let given = Source::of(files, image, args);
        let given = given.map(|source| source.packed(progress)).transpose()?;
        Ok(Self::of(given, own))
    }

    /// What is given, and our own behind it.
    fn of(given: Option<Archive>, own: Option<OwnInitramfs>) -> Option<Self> {
        let (archive, cmdline) = match (given, own) {
            (given, None) => (given?, None),
            (None, Some(own)) => (Archive::in_memory(own.archive), Some(own.cmdline)),
            (Some(given), Some(own)) => (given.followed_by(&own.archive), Some(own.cmdline)),
        };
        Some(Self { archive, cmdline })
    }

    /// The kernel's whole command line, where it is another with this ramdisk.
    pub(crate) fn cmdline(&self) -> Option<&str> {
        self.cmdline.as_deref()
    }

    /// How many bytes the guest is to get.
    pub(crate) fn len(&self) -> u64 {
        self.archive.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.archive.bytes()
    }

    /// The file of the cache that it is in, where it is better mapped into the guest's memory than
    /// copied.
    pub(crate) fn mapped(&self) -> Option<&Kept> {
        match &self.archive {
            Archive::TooLarge(_) => None,
            Archive::Opened(opened) => {
                let is_large = self.len() >= WORTH_MAPPING;
                opened.layers.file().filter(|_| is_large)
            }
        }
    }
}

/// So large is a ramdisk that is mapped. The mapping breaks up the huge pages at both of its ends,
/// which then take as many faults as they have pages: for fewer bytes it is quicker to copy them.
const WORTH_MAPPING: u64 = 8 * MIB;

impl Archive {
    fn in_memory(bytes: Vec<u8>) -> Self {
        Self::Opened(Opened::without_cache(vec![Layer::new(bytes)]))
    }

    fn len(&self) -> u64 {
        match self {
            Self::TooLarge(len) => *len,
            Self::Opened(_) => self.bytes().len() as u64,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::TooLarge(_) => &[],
            Self::Opened(opened) => opened.layers.bytes().first().copied().unwrap_or(&[]),
        }
    }

    /// This archive with `other` behind it.
    ///
    /// A plan has one piece for the initial ramdisk, whose bytes are in one place. So what was kept
    /// unpacked in a file is copied here, and not mapped into the guest.
    fn followed_by(self, other: &[u8]) -> Self {
        match &self {
            Self::TooLarge(len) => Self::TooLarge(len.saturating_add(other.len() as u64)),
            Self::Opened(_) => {
                let first = self.bytes();
                let aligned = first.len().next_multiple_of(ALIGN);
                let mut bytes = Vec::with_capacity(aligned + other.len());
                bytes.extend_from_slice(first);
                bytes.resize(aligned, 0);
                bytes.extend_from_slice(other);
                Self::in_memory(bytes)
            }
        }
    }
}

/// Where the bytes of an initial ramdisk are.
struct Source<'a> {
    kernel: &'a InputFile,
    image: &'a Image<'a>,
    /// What the image carries.
    parts: Vec<Part>,
    /// What is named beside it, and comes behind.
    file: Option<&'a InputFile>,
}

/// Where the kernel looks for the next archive (`buffer-format.rst`).
const ALIGN: usize = 4;

impl<'a> Source<'a> {
    /// None where there is no initial ramdisk. Beside a root that is named, the image's own would
    /// only take memory: nothing in it is started.
    fn of(files: &'a Files, image: &'a Image<'a>, args: &GuestArgs) -> Option<Self> {
        let parts = match args.has_root() {
            true => Vec::new(),
            false => image.parts().initrds,
        };
        let file = files.initrd();
        (file.is_some() || !parts.is_empty()).then_some(Self {
            kernel: files.kernel(),
            image,
            parts,
            file,
        })
    }

    fn len(&self) -> u64 {
        let parts = self.parts.iter().map(|part| self.image.part(part).len());
        let aligned = parts.map(|len| len.next_multiple_of(ALIGN) as u64);
        aligned.chain(self.file.map(InputFile::len)).sum()
    }

    /// The file that is read, as people are told.
    fn shown(&self) -> &Path {
        self.file.unwrap_or(self.kernel).path()
    }

    /// The parts one after the other.
    fn read(&self, progress: Progress) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            bytes.extend_from_slice(self.image.part(part));
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        }
        match self.file {
            None => Ok(bytes),
            Some(file) if bytes.is_empty() => kernel::read(file, progress),
            Some(file) => {
                bytes.extend_from_slice(&kernel::read(file, progress)?);
                Ok(bytes)
            }
        }
    }

    /// Unpacked, or as it is where that is better.
    fn open(&self, store: &Store, args: &GuestArgs) -> Result<Archive, Failure> {
        let progress = store.progress();
        if self.len() > args.memory {
            return Ok(Archive::TooLarge(self.len()));
        }
        if args.unpack() == Unpack::Guest {
            return self.packed(progress);
        }
        let unpacked = Archive::Opened(self.unpacked(store)?);
        // The guest unpacks it once more, to files, while the archive is still there.
        if unpacked.len() > args.memory / 4 && unpacked.len() > self.len() {
            progress.say("the initial ramdisk is left packed, for the guest's memory is small");
            return self.packed(progress);
        }
        Ok(unpacked)
    }

    fn packed(&self, progress: Progress) -> Result<Archive, Failure> {
        self.read(progress).map(Archive::in_memory)
    }

    /// What comes from one file is kept by that file's name.
    fn unpacked(&self, store: &Store) -> Result<Opened, Failure> {
        let unpack = || {
            let bytes = self.read(store.progress())?;
            let plain = self.unpack(&bytes, store.progress());
            Ok(vec![Layer::new(plain.unwrap_or(bytes))])
        };
        match (self.file, self.parts.as_slice()) {
            (Some(file), []) => store.get(Kind::Initrd, file, unpack),
            (None, _) if self.image.profile() == 0 => store.get(Kind::Initrd, self.kernel, unpack),
            (Some(_) | None, _) => unpack().map(Opened::without_cache),
        }
    }

    /// The ramdisk with everything in it unpacked; `None` where it is to be left as it is.
    fn unpack(&self, bytes: &[u8], progress: Progress) -> Option<Vec<u8>> {
        let shown = self.shown().display();
        let limit = Limits::default().unpacked;
        progress
            .step(&format!("unpacking {shown}"), || {
                unpack_initrd(bytes, limit)
            })
            .unwrap_or_else(|error| {
                let why = chain(&error);
                progress.say(&format!("{shown} is left as it is: {why}"));
                None
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_load::Cache;
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::thread;
    use std::time::Duration;

    /// A ramdisk of so many bytes, from the cache.
    fn kept(folder: &Path, len: u64) -> Initrd {
        let path = folder.join(len.to_string());
        let bytes = vec![7; usize::try_from(len).unwrap()];
        fs::write(&path, &bytes).unwrap();
        // A file that has just changed is not kept.
        thread::sleep(Duration::from_millis(30));
        let cache = Cache::open(&folder.join("cache"), Cache::BOUND).unwrap();
        let file = File::open(&path).unwrap();
        let opened = cache.get(Kind::Initrd, &file, &path, || {
            Ok::<_, Failure>(vec![Layer::new(bytes)])
        });
        Initrd {
            archive: Archive::Opened(opened.unwrap()),
            cmdline: None,
        }
    }

    #[test]
    fn a_small_ramdisk_is_copied_and_a_large_one_is_mapped() {
        let name = format!("firstlight-initrd-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        let small = kept(&folder, WORTH_MAPPING - 1);
        assert!(small.mapped().is_none());
        let large = kept(&folder, WORTH_MAPPING);
        let Archive::Opened(opened) = &large.archive else {
            panic!("it is open");
        };
        // There are hosts without leases.
        assert_eq!(large.mapped().is_some(), opened.layers.file().is_some());
        fs::remove_dir_all(&folder).unwrap();
    }
}
