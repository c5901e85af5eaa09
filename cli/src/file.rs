//! Files that a person names: opened without surprises, and read whole.
//!
//! Only regular files are opened at all, so that nothing waits for a writer that never comes, has
//! no end, or is set off by being opened. The size is what the file had when it was opened. It is
//! read and not mapped: a mapping of a file that somebody cuts short kills its reader.

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use firstlight_boot::draw::Size;
use rustix::fs::{FileType, Mode, OFlags, fstat, open, stat};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

/// More than any kernel or initial ramdisk has, and less than fills a machine by mistake.
const LARGEST: u64 = 2 << 30;

/// An open regular file, of a size that was fixed when it was opened.
#[derive(Debug)]
pub(crate) struct InputFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl InputFile {
    /// Opens `path` for reading.
    ///
    /// `what` is what the file is meant to be, as messages name it.
    pub(crate) fn open(path: &Path, what: &str) -> Result<Self, Failure> {
        let shown = path.display();
        let failed = |error: io::Error| {
            Failure::because(
                ExitStatus::Host,
                format!("cannot open the {what} {shown}"),
                &error,
            )
        };
        // The type is looked at before opening, because opening a device can set it off, and
        // again afterwards, because the name may have been given to another file meanwhile.
        let before = stat(path).map_err(|error| failed(error.into()))?;
        refuse_other_than_file(FileType::from_raw_mode(before.st_mode), path, what)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let stat = fstat(&file).map_err(|error| failed(error.into()))?;
        refuse_other_than_file(FileType::from_raw_mode(stat.st_mode), path, what)?;
        let len = u64::try_from(stat.st_size).unwrap_or_default();
        Ok(Self {
            path: path.to_path_buf(),
            file: File::from(file),
            len,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it had when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// All of its bytes, from the first on; it can be read again.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Failure> {
        let shown = self.path.display();
        if self.len > LARGEST {
            return Err(Failure::new(
                ExitStatus::Image,
                format!(
                    "{shown} has {} bytes ({}), more than the {} ({}) that are read of a file",
                    self.len,
                    Size(self.len),
                    LARGEST,
                    Size(LARGEST)
                ),
            ));
        }
        let failed = |error: io::Error| {
            Failure::because(ExitStatus::Host, format!("cannot read {shown}"), &error)
        };
        let mut file = &self.file;
        file.rewind().map_err(failed)?;
        let mut bytes = Vec::new();
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        bytes
            .try_reserve_exact(len)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::OutOfMemory, error)))?;
        file.take(self.len)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() == len {
            Ok(bytes)
        } else {
            let message = format!(
                "{shown} had {} bytes when it was opened and {} when it was read",
                self.len,
                bytes.len()
            );
            Err(Failure::new(ExitStatus::Host, message))
        }
    }
}

fn refuse_other_than_file(kind: FileType, path: &Path, what: &str) -> Result<(), Failure> {
    let is = match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe (FIFO)",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Symlink | FileType::Unknown => "no regular file",
    };
    Err(Failure::new(
        ExitStatus::Image,
        format!(
            "{} is {is}, and no {what} can be read from it",
            path.display()
        ),
    ))
}
