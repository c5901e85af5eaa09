//! Writing an initramfs archive: the "newc" format of cpio
//! (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// An archive that grows entry by entry.
///
/// What cannot be written is left out, and makes [`finish`](Self::finish) fail.
#[derive(Debug)]
pub struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
    /// The first thing that went wrong.
    error: Option<ArchiveError>,
}

/// Why an archive cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A name or a link's target ends before its last byte.
    #[error("{text:?} holds a NUL, where names in an archive end")]
    Nul {
        /// The name, or the target.
        text: String,
    },
    /// A name or a link's target is longer than the kernel reads.
    #[error("a name of {len} bytes, which begins with {start:?}, is longer than {PATH_MAX}")]
    LongName {
        /// How it begins.
        start: String,
        /// Its length.
        len: usize,
    },
    /// A file is larger than the format can say.
    #[error("{path} has {len} bytes, and an archive holds files below 4 GiB")]
    LargeFile {
        /// The file.
        path: String,
        /// Its length.
        len: usize,
    },
}

/// The longest name that the kernel unpacks, with the NUL (Linux `init/initramfs.c`, `do_header`,
/// which skips what is longer without a word).
const PATH_MAX: usize = 4096;

/// What an entry is, beside its name and permissions.
enum Kind<'a> {
    Folder,
    File(&'a [u8]),
    Link(&'a str),
    CharacterDevice { major: u32, minor: u32 },
}

impl Default for Archive {
    fn default() -> Self {
        Self::new()
    }
}

impl Archive {
    /// An archive without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            next_inode: 1,
            error: None,
        }
    }

    /// Adds a folder; it must come before what lies in it.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, 0o755, &Kind::Folder);
    }

    /// Adds a file that may be executed.
    pub fn program(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, 0o755, &Kind::File(contents));
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, 0o644, &Kind::File(contents));
    }

    /// Adds a symbolic link to `target`.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o777, &Kind::Link(target));
    }

    /// Adds a character device.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, 0o600, &Kind::CharacterDevice { major, minor });
    }

    /// The whole archive.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] for the first entry that could not be written.
    pub fn finish(mut self) -> Result<Vec<u8>, ArchiveError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.record("TRAILER!!!", 0, (0, 0), b"");
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.bytes),
        }
    }

    fn entry(&mut self, path: &str, permissions: u32, kind: &Kind<'_>) {
        // File types as in inode(7).
        let (file_type, device, data) = match *kind {
            Kind::Folder => (0o04_0000, (0, 0), &b""[..]),
            Kind::File(contents) => (0o10_0000, (0, 0), contents),
            Kind::Link(target) => (0o12_0000, (0, 0), target.as_bytes()),
            Kind::CharacterDevice { major, minor } => (0o02_0000, (major, minor), &b""[..]),
        };
        if let Kind::Link(target) = *kind
            && let Err(error) = check_name(target)
        {
            self.error.get_or_insert(error);
            return;
        }
        self.record(path, file_type | permissions, device, data);
    }

    fn record(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let (size, name_size) = match sizes(name, data) {
            Ok(sizes) => sizes,
            Err(error) => {
                self.error.get_or_insert(error);
                return;
            }
        };
        let inode = self.next_inode;
        // There is no memory for so many.
        self.next_inode = inode.wrapping_add(1);
        let links = 1;
        // Times are zero: the same contents make the same archive.
        let fields = [
            inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The sizes that a header holds: the file's, and the name's with its NUL.
fn sizes(name: &str, data: &[u8]) -> Result<(u32, u32), ArchiveError> {
    let name_size = check_name(name)?;
    let size = u32::try_from(data.len()).ok();
    let size = size.ok_or_else(|| ArchiveError::LargeFile {
        path: name.to_owned(),
        len: data.len(),
    })?;
    Ok((size, name_size))
}

/// The length of `name` with its NUL.
fn check_name(name: &str) -> Result<u32, ArchiveError> {
    if name.contains('\0') {
        let text = name.to_owned();
        return Err(ArchiveError::Nul { text });
    }
    let too_long = || ArchiveError::LongName {
        start: name.chars().take(32).collect(),
        len: name.len(),
    };
    u32::try_from(name.len() + 1)
        .ok()
        .filter(|_| name.len() < PATH_MAX)
        .ok_or_else(too_long)
}

#[cfg(test)]
mod tests;
