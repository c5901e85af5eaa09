//! Mounting the root that the guest is to have, and going over to it.

use super::call::Call;
use super::command::WRITABLE;
use super::program::Place;
use super::program::Value;
use super::{FOLDER, Init, OF_THE_KERNEL, ROOT, linux};
use crate::initramfs::Root;

/// Where the layers of a covered root are, in our folder, and what they are called.
const LAYERS: &str = "layers";
const UPPER: &str = "upper";
const WORK: &str = "work";
/// The file system that puts them together.
const OVERLAY: &str = "overlay";

/// `include/uapi/asm-generic/errno-base.h`
const ENODEV: u64 = 19;

impl Init {
    /// Mounts the root at its place in our folder.
    pub(super) fn mount_root(&mut self, root: &Root) {
        let source = self.program.text(&root.source);
        if root.source.starts_with('/') {
            self.await_device(root, source);
        }
        let place = self.program.text(&format!("/{FOLDER}/{ROOT}"));
        let options = self.program.text(&root.options);
        let flags = if root.read_only { linux::MS_RDONLY } else { 0 };
        let (again, mounted) = (self.program.here(), self.program.label());
        let mut last = None;
        for kind in &root.file_systems {
            let kind = self.program.text(kind);
            let mount = [source, place, kind].map(Into::into);
            let mount = [&mount[..], &[flags.into(), options.into()]].concat();
            let mount = self.program.call(Call::Mount, &mount);
            self.program.then(mount, mounted);
            last = Some(mount);
        }
        let last = last.expect("a root has a file system");
        let text = format!(
            "cannot mount {} as {}",
            root.source,
            root.file_systems.join(" or ")
        );
        let failed = self.complaint(last, text, self.end);
        if root.source.starts_with('/') {
            self.program.jump(failed);
        } else {
            // A driver that is not there does not come.
            self.program.if_equal(last, Value::minus(ENODEV), failed);
            // What has no device, as a folder that the host shares, is asked for again and again.
            let patience = self.patience(root.wait_seconds);
            self.retry(again, patience, failed);
        }
        self.program.bind(mounted);
        if root.covered {
            self.cover_root();
        }
    }

    /// Puts a layer of the guest's memory over the mounted root (Linux
    /// `Documentation/filesystems/overlayfs.rst`). Where the kernel cannot do that, the root is only read,
    /// but for what every system writes to.
    fn cover_root(&mut self) {
        let nothing = || Value::from(0);
        let root = format!("/{FOLDER}/{ROOT}");
        let layers = format!("/{FOLDER}/{LAYERS}");
        self.mount_made_up("tmpfs", &layers);
        for layer in [UPPER, WORK] {
            let layer = self.program.text(&format!("{layers}/{layer}"));
            self.make_folder(layer);
        }
        let options = format!("lowerdir={root},upperdir={layers}/{UPPER},workdir={layers}/{WORK}");
        let [kind, options, place] = [OVERLAY, &options, &root].map(|text| self.program.text(text));
        let (covered, bare) = (self.program.label(), self.program.label());
        let mount = [kind, place, kind].map(Into::into);
        let mount = [&mount[..], &[nothing(), options.into()]].concat();
        let mount = self.program.call(Call::Mount, &mount);
        self.program.then(mount, covered);
        let text = "the root is read-only, for it cannot be covered by an overlay".to_owned();
        let failed = self.complaint(mount, text, bare);
        self.program.jump(failed);
        self.program.bind(bare);
        for place in WRITABLE {
            self.mount_made_up("tmpfs", &format!("{root}{place}"));
        }
        self.program.bind(covered);
    }

    /// Waits until the device can be opened: devices come some time after their drivers.
    fn await_device(&mut self, root: &Root, source: Place) {
        let (again, there) = (self.program.here(), self.program.label());
        let flags = (linux::O_RDONLY | linux::O_CLOEXEC).into();
        let open = [linux::AT_FDCWD, source.into(), flags];
        let file = self.program.call(Call::Openat, &open);
        self.program.then(file, there);
        let text = format!("no {} within {} s", root.source, root.wait_seconds);
        let failed = self.complaint(file, text, self.end);
        let patience = self.patience(root.wait_seconds);
        self.retry(again, patience, failed);
        self.program.bind(there);
        self.program.call(Call::Close, &[file.into()]);
    }

    /// Makes the mounted root the only one that anybody sees, with the kernel's file systems in it
    /// where it has the folders for them (as `switch_root(8)` does).
    pub(super) fn switch_to_root(&mut self) {
        let (nothing, this) = (0.into(), self.program.text("."));
        for (_, place) in OF_THE_KERNEL {
            let to = self.program.text(&format!("/{FOLDER}/{ROOT}{place}"));
            let place = self.program.text(place);
            self.make_folder(to);
            let to_move = [place.into(), to.into(), nothing, linux::MS_MOVE.into()];
            self.program.call(Call::Mount, &to_move);
        }
        let place = self.program.text(&format!("/{FOLDER}/{ROOT}"));
        let top = self.program.text("/");
        let what = || "cannot go over to the root".to_owned();
        let step = self.program.call(Call::Chdir, &[place.into()]);
        self.stop(step, what());
        let to_move = [this.into(), top.into(), nothing, linux::MS_MOVE.into()];
        let step = self.program.call(Call::Mount, &to_move);
        self.stop(step, what());
        let step = self.program.call(Call::Chroot, &[this.into()]);
        self.stop(step, what());
        self.program.call(Call::Chdir, &[top.into()]);
    }

    /// Lets the disk be clean when the machine is turned off, if nothing has files open for writing.
    pub(super) fn remount_root_read_only(&mut self) {
        let (nothing, top) = (0.into(), self.program.text("/"));
        let flags = (linux::MS_REMOUNT | linux::MS_RDONLY).into();
        let remount = [nothing, top.into(), nothing, flags];
        self.program.call(Call::Mount, &remount);
    }
}
