//! The file system device (virtio 1.2 section 5.11): its personality, and the requests that its driver
//! makes, which are those of Linux' FUSE (`include/uapi/linux/fuse.h`).
//!
//! A [`Request`] is what the driver asks, with every name and number looked at; a [`Reply`] is where
//! the answer goes. What files there are is the business of whoever answers.

mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use reply::{Attr, DirEntry, Entry, InitReply, Listing, OpenFlags, Reply, StatFs, Time};
pub use request::{
    Access, Creation, Forgotten, HEADER, InitFlags, Name, Operation, Part, Rename, Request, Room,
    Setting, SettingTime, Wrong,
};

use super::device::{Device, DeviceKind, read_bytes};
use alloc::vec::Vec;

/// The queue of what must not wait behind other requests: a driver forgets by it.
pub const HIGH_PRIORITY: usize = 0;
/// The queue of requests.
pub const REQUESTS: usize = 1;

/// The entries of each queue. One request may have a descriptor for each page of its data.
const QUEUE: u16 = 512;

/// The name by which a driver finds the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; Tag::LEN]);

impl Tag {
    /// The most bytes that it has (section 5.11.4).
    pub const LEN: usize = 36;

    /// The tag `name`; `None` where that is empty, too long, or has a NUL in it.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() || name.contains('\0') {
            return None;
        }
        let mut tag = [0; Self::LEN];
        tag.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self(tag))
    }

    /// The configuration of a file system of that name with one queue of requests (section 5.11.4).
    #[must_use]
    pub fn config(&self) -> Vec<u8> {
        let requests = 1_u32.to_le_bytes();
        self.0.into_iter().chain(requests).collect()
    }

    /// Its text.
    #[must_use]
    pub fn name(&self) -> &str {
        let bytes = self.0.split(|&byte| byte == 0).next();
        let text = bytes.and_then(|bytes| core::str::from_utf8(bytes).ok());
        // It was made of one.
        text.unwrap_or_default()
    }
}

/// A shared file system, as its driver sees it.
#[derive(Debug)]
pub struct Fs {
    tag: Tag,
}

impl Fs {
    /// A file system of that name.
    #[must_use]
    pub const fn new(tag: Tag) -> Self {
        Self { tag }
    }
}

impl Device for Fs {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Fs
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE, QUEUE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&self.tag.config(), offset, data);
    }
}
