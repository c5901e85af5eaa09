//! The files that a guest has numbers of.

use super::Quota;
use super::host::{self, Key};
use crate::{DeviceError, Share};
use firstlight_devices::virtio::fs::Attr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, OFlags, Statx};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::sync::Arc;

/// The number of the shared folder itself (`FUSE_ROOT_ID`).
pub(super) const ROOT: u64 = 1;

/// How far below the folder a file may be whose descriptor was given up.
const DEEPEST: usize = 1024;

/// The files that a guest knows. For as many as there are descriptors for, one is kept; the others are
/// found again by their names, and must be the same then.
pub(super) struct Tree {
    root: Arc<OwnedFd>,
    root_key: Key,
    nodes: HashMap<u64, Node>,
    ids: HashMap<Key, u64>,
    /// The next number: none is given out twice.
    next: u64,
    /// Those with descriptors, in the order in which they got them.
    held: VecDeque<u64>,
    /// The file systems that were met, in order.
    devices: Vec<(u32, u32)>,
    descriptors: OwnedFd,
    quota: Quota,
}

/// A file.
struct Node {
    key: Key,
    kind: FileType,
    /// It is a file system of the kernel's own, of which nothing is seen.
    is_hollow: bool,
    /// Where it was found last: the folder's number, and its name there.
    folder: u64,
    name: CString,
    /// How many answers have told the guest of it.
    known: u64,
    handle: Option<Arc<OwnedFd>>,
    /// The handle was used since it was last thought of giving it up.
    is_used: bool,
}

/// What a share takes of the host.
pub(crate) struct Grounds {
    /// The folder.
    pub(crate) root: OwnedFd,
    /// What this process has open, by number.
    pub(crate) descriptors: OwnedFd,
}

impl Grounds {
    /// Opens those of `share`.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] where that is no folder, or not to be had.
    pub(super) fn open(share: &Share) -> Result<Self, DeviceError> {
        let failed = |errno: Errno| DeviceError::OpenShare {
            path: share.path.clone(),
            source: errno.into(),
        };
        let wrong = |is| DeviceError::NoShare {
            path: share.path.clone(),
            is,
        };
        let root = host::root(&share.path).map_err(failed)?;
        let stat = host::stat(&root).map_err(failed)?;
        if host::kind(&stat) != FileType::Directory {
            return Err(wrong("no folder"));
        }
        if host::is_of_the_kernel(&root).map_err(failed)? {
            return Err(wrong("a file system of the kernel's own"));
        }
        let descriptors = host::descriptors().map_err(failed)?;
        // All that is needed later, for what the host has not, or does not let us have.
        host::reopen(&descriptors, &root, FOLDER).map_err(failed)?;
        if let Err(errno @ Errno::NOSYS) = host::child(&root, c"a") {
            return Err(failed(errno));
        }
        Ok(Self { root, descriptors })
    }
}

impl Tree {
    pub(super) fn new(grounds: Grounds, quota: Quota) -> Result<Self, Errno> {
        let Grounds { root, descriptors } = grounds;
        let root_key = Key::of(&host::stat(&root)?);
        Ok(Self {
            root: Arc::new(root),
            root_key,
            nodes: HashMap::new(),
            ids: HashMap::new(),
            next: ROOT + 1,
            held: VecDeque::new(),
            devices: vec![root_key.device],
            descriptors,
            quota,
        })
    }

    /// What this process has open.
    pub(super) const fn descriptors(&self) -> &OwnedFd {
        &self.descriptors
    }

    /// The guest knows nothing any more. Numbers that it had are no other file's.
    pub(super) fn forget_all(&mut self) {
        self.nodes.clear();
        self.ids.clear();
        self.held.clear();
    }

    /// What `name` stands for in the folder `folder`, which the guest knows once more.
    pub(super) fn look_up(&mut self, folder: u64, name: &CStr) -> Result<(u64, Attr), Errno> {
        if self.is_hollow(folder)? {
            return Err(Errno::NOENT);
        }
        let of = self.key(folder)?.device;
        let parent = self.folder(folder)?;
        let child = host::child(&*parent, name)?;
        let stat = host::stat(&child)?;
        let kind = host::kind(&stat);
        let key = Key::of(&stat);
        let is_hollow = key.device != of && host::is_of_the_kernel(&child)?;
        if is_hollow && kind != FileType::Directory {
            return Err(Errno::ACCESS);
        }
        let id = match self.ids.get(&key) {
            Some(&id) => id,
            None if key == self.root_key => ROOT,
            None => self.add(key, kind, is_hollow)?,
        };
        if let Some(node) = self.nodes.get_mut(&id) {
            node.known += 1;
            node.folder = folder;
            if *node.name != *name {
                name.clone_into(&mut node.name);
            }
            if node.handle.is_none() {
                self.hold(id, child);
            }
        }
        Ok((id, self.attr_from(&stat)))
    }

    fn add(&mut self, key: Key, kind: FileType, is_hollow: bool) -> Result<u64, Errno> {
        if self.nodes.len() >= self.quota.nodes {
            return Err(Errno::NFILE);
        }
        let id = self.next;
        self.next += 1;
        let node = Node {
            key,
            kind,
            is_hollow,
            folder: ROOT,
            name: CString::default(),
            known: 0,
            handle: None,
            is_used: false,
        };
        self.nodes.insert(id, node);
        self.ids.insert(key, id);
        Ok(id)
    }

    /// Keeps a descriptor of the file `id`, and gives up others where there are too many.
    fn hold(&mut self, id: u64, handle: OwnedFd) -> Arc<OwnedFd> {
        let handle = Arc::new(handle);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.handle = Some(Arc::clone(&handle));
            self.held.push_back(id);
        }
        while self.held.len() > self.quota.handles
            && let Some(oldest) = self.held.pop_front()
        {
            match self.nodes.get_mut(&oldest) {
                Some(node) if node.is_used => {
                    node.is_used = false;
                    self.held.push_back(oldest);
                }
                Some(node) => node.handle = None,
                None => {}
            }
        }
        handle
    }

    /// The guest knows the file `id` by so many answers less.
    pub(super) fn forget(&mut self, id: u64, times: u64) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.known = node.known.saturating_sub(times);
        if node.known > 0 {
            return;
        }
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        self.ids.remove(&node.key);
        // What was forgotten is passed over where it is met; but not all of it may wait there.
        if self.held.len() > 2 * self.nodes.len() + 64 {
            let nodes = &self.nodes;
            self.held.retain(|id| nodes.contains_key(id));
        }
    }

    /// Something the guest may know has that name from now on.
    pub(super) fn moved(&mut self, folder: u64, name: &CStr) {
        let found = self
            .folder(folder)
            .and_then(|parent| host::child(&*parent, name));
        let stat = found.and_then(host::stat);
        // Where it is gone already, its next use tells.
        let id = stat.ok().and_then(|stat| self.ids.get(&Key::of(&stat)));
        if let Some(node) = id.and_then(|id| self.nodes.get_mut(id)) {
            node.folder = folder;
            name.clone_into(&mut node.name);
        }
    }

    fn node(&self, id: u64) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(Errno::STALE)
    }

    fn key(&self, id: u64) -> Result<Key, Errno> {
        match id {
            ROOT => Ok(self.root_key),
            id => self.node(id).map(|node| node.key),
        }
    }

    pub(super) fn kind(&self, id: u64) -> Result<FileType, Errno> {
        match id {
            ROOT => Ok(FileType::Directory),
            id => self.node(id).map(|node| node.kind),
        }
    }

    pub(super) fn is_hollow(&self, id: u64) -> Result<bool, Errno> {
        match id {
            ROOT => Ok(false),
            id => self.node(id).map(|node| node.is_hollow),
        }
    }

    /// What stands for the file `id`.
    pub(super) fn handle(&mut self, id: u64) -> Result<Arc<OwnedFd>, Errno> {
        if id == ROOT {
            return Ok(Arc::clone(&self.root));
        }
        let node = self.nodes.get_mut(&id).ok_or(Errno::STALE)?;
        if let Some(handle) = &node.handle {
            node.is_used = true;
            return Ok(Arc::clone(handle));
        }
        self.find_again(id)
    }

    /// Goes down to the file `id` by the names by which the guest got there.
    fn find_again(&mut self, id: u64) -> Result<Arc<OwnedFd>, Errno> {
        let mut way = Vec::new();
        let mut at = id;
        let mut place = loop {
            if at == ROOT {
                break Arc::clone(&self.root);
            }
            let node = self.node(at)?;
            if let Some(handle) = &node.handle {
                break Arc::clone(handle);
            }
            if way.len() == DEEPEST {
                return Err(Errno::STALE);
            }
            way.push(at);
            at = node.folder;
        };
        while let Some(step) = way.pop() {
            let node = self.node(step)?;
            let found = host::child(&*place, &node.name).map_err(|_gone| Errno::STALE)?;
            if Key::of(&host::stat(&found)?) != node.key {
                return Err(Errno::STALE);
            }
            place = self.hold(step, found);
        }
        Ok(place)
    }

    /// What stands for the folder `id`, in which something is to be found or made.
    pub(super) fn folder(&mut self, id: u64) -> Result<Arc<OwnedFd>, Errno> {
        if self.kind(id)? != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        self.changeable(id)
    }

    /// What stands for the file `id`, if anything may be done to it.
    pub(super) fn changeable(&mut self, id: u64) -> Result<Arc<OwnedFd>, Errno> {
        if self.is_hollow(id)? {
            return Err(Errno::ROFS);
        }
        self.handle(id)
    }

    /// Opens a file with bytes in it. Whatever else there is, is opened in the guest or nowhere: a FIFO
    /// or a device of the host would be a way out of the share.
    pub(super) fn reopen(&mut self, id: u64, how: OFlags) -> Result<OwnedFd, Errno> {
        match self.kind(id)? {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        let file = self.handle(id)?;
        host::reopen(&self.descriptors, &*file, how)
    }

    pub(super) fn reopen_folder(&mut self, id: u64) -> Result<OwnedFd, Errno> {
        let folder = self.folder(id)?;
        host::reopen(&self.descriptors, &*folder, FOLDER)
    }

    /// What the file `id` is like.
    pub(super) fn attr(&mut self, id: u64) -> Result<Attr, Errno> {
        let file = self.handle(id)?;
        self.attr_of(&*file)
    }

    /// What an open file is like.
    pub(super) fn attr_of(&mut self, file: impl AsFd) -> Result<Attr, Errno> {
        let stat = host::stat(file)?;
        Ok(self.attr_from(&stat))
    }

    fn attr_from(&mut self, stat: &Statx) -> Attr {
        let ino = self.ino((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino);
        host::attr(stat, ino)
    }

    /// The number that programs in the guest see, to whom the share is one file system: two files of
    /// different ones must not have the same.
    fn ino(&mut self, device: (u32, u32), number: u64) -> u64 {
        /// More than those are not told apart.
        const MOST: usize = 0xffff;
        let known = self.devices.iter().position(|known| *known == device);
        let index = known.unwrap_or(self.devices.len());
        if index == self.devices.len() && index < MOST {
            self.devices.push(device);
        }
        number ^ ((index as u64) << 48)
    }

    /// The same for the name of a file in the folder `id`.
    pub(super) fn ino_in(&mut self, id: u64, number: u64) -> Result<u64, Errno> {
        let device = self.key(id)?.device;
        Ok(self.ino(device, number))
    }
}

/// How a folder is opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
