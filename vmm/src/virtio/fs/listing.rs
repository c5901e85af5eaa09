//! What is in a folder.

use super::files::{Found, Reading};
use super::tree::ROOT;
use super::{Answer, Server};
use firstlight_devices::virtio::fs::{Attr, DirEntry, Entry, Listing, Name, Part, Reply};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, RawDir, SeekFrom, seek};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a list that are told at once.
const LONGEST: u64 = 128 << 10;
/// The bytes that the host tells at once.
const PIECE: usize = 4 << 10;

impl Server {
    /// What is in the folder `node`, and with `plus` all that is to be known of each.
    pub(super) fn list(
        &mut self,
        node: u64,
        part: Part,
        reply: Option<&Reply<'_>>,
        plus: bool,
    ) -> Result<Answer, Errno> {
        let room = reply.map_or(0, Reply::room);
        let most = room.min(part.size.into()).min(LONGEST);
        let mut list = Listing::new(usize::try_from(most).unwrap_or(0));
        match self.files.folder(part.handle)? {
            None => self.list_nothing(node, part.offset, &mut list, plus)?,
            Some(folder) => {
                let folder = Arc::clone(folder);
                let mut reading = self.files.take_reading(part.handle);
                let listed = reading
                    .go_to(&folder, part.offset)
                    .and_then(|()| self.list_some(node, &folder, &mut reading, (&mut list, plus)));
                self.files.put_reading(part.handle, reading);
                listed?;
            }
        }
        Ok(Answer::Bytes(list.bytes().into()))
    }

    /// Adds what fits.
    fn list_some(
        &mut self,
        node: u64,
        folder: &OwnedFd,
        reading: &mut Reading,
        (list, plus): (&mut Listing, bool),
    ) -> Result<(), Errno> {
        loop {
            if reading.waiting.is_empty() {
                reading.fill(folder)?;
            }
            let Some(found) = reading.waiting.front() else {
                return Ok(());
            };
            let name = found.name.as_c_str();
            let told = DirEntry {
                ino: self.ino_of(node, name.to_bytes(), found.ino)?,
                next: found.next,
                kind: found.kind,
                name: name.to_bytes(),
            };
            // It is none where it is `.` or `..`.
            let name = Name::new(name).ok();
            if !self.tell(node, name, &told, list, plus) {
                return match list.bytes() {
                    [] => Err(Errno::INVAL),
                    _ => Ok(()),
                };
            }
            reading.at = found.next;
            reading.waiting.pop_front();
        }
    }

    /// Adds an entry; false where it does not fit.
    fn tell(
        &mut self,
        node: u64,
        name: Option<Name<'_>>,
        told: &DirEntry<'_>,
        list: &mut Listing,
        plus: bool,
    ) -> bool {
        if !plus {
            return list.push(told);
        }
        // Before the guest knows it.
        if !list.fits_with_entry(told.name.len()) {
            return false;
        }
        let known = name.and_then(|name| self.look_up(node, name).ok());
        // What cannot be looked up is there all the same.
        let known = known.unwrap_or(Entry {
            node: 0,
            valid: Duration::ZERO,
            attr: Attr {
                ino: told.ino,
                mode: u32::from(told.kind) << 12,
                ..Attr::default()
            },
        });
        list.push_with_entry(&known, told)
    }

    fn list_nothing(
        &mut self,
        node: u64,
        offset: u64,
        list: &mut Listing,
        plus: bool,
    ) -> Result<(), Errno> {
        let ino = self.tree.attr(node)?.ino;
        for (number, name) in [(1, &b"."[..]), (2, b"..")] {
            let told = DirEntry {
                ino,
                next: number,
                kind: kind(FileType::Directory),
                name,
            };
            if number > offset && !self.tell(node, None, &told, list, plus) {
                break;
            }
        }
        Ok(())
    }

    /// What is above the shared folder has no number in the guest.
    fn ino_of(&mut self, node: u64, name: &[u8], number: u64) -> Result<u64, Errno> {
        if node == ROOT && name == b".." {
            return Ok(self.tree.attr(ROOT)?.ino);
        }
        self.tree.ino_in(node, number)
    }
}

impl Reading {
    /// Goes on at `offset`, where that is not where it has come to.
    fn go_to(&mut self, folder: &OwnedFd, offset: u64) -> Result<(), Errno> {
        if self.at != offset {
            self.waiting.clear();
            seek(folder, SeekFrom::Start(offset))?;
            self.at = offset;
        }
        Ok(())
    }

    /// Asks the host for more.
    fn fill(&mut self, folder: &OwnedFd) -> Result<(), Errno> {
        let mut buffer = [MaybeUninit::uninit(); PIECE];
        let mut entries = RawDir::new(folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            self.waiting.push_back(Found {
                ino: entry.ino(),
                next: entry.next_entry_cookie(),
                kind: kind(entry.file_type()),
                name: entry.file_name().to_owned(),
            });
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// `DT_` numbers, which are those of modes.
fn kind(kind: FileType) -> u8 {
    u8::try_from(kind.as_raw_mode() >> 12).unwrap_or(0)
}
