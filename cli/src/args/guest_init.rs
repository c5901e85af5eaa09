//! What the guest is to come up with, where that takes an initramfs of ours.

use super::device::{RootfsArg, rootfs};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::path::PathBuf;

/// The root, and drivers.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Root and drivers")]
pub(crate) struct GuestInitArgs {
    /// A disk whose ext4 file system becomes the guest's root: a raw image file or a block device;
    /// with ,readonly behind it, one that the guest cannot write to; with ,pmem, one that it has as memory
    ///
    /// It is the first disk, /dev/vda, or the first memory of --pmem, /dev/pmem0, which is mounted for direct
    /// access (dax) unless rootflags= says otherwise. A small initramfs loads the drivers that the kernel has as
    /// modules, mounts it, and starts its /sbin/init, or what init= names on the kernel's command
    /// line. root= names another device there, such as a partition, rootfstype= what it is
    /// mounted as, and rootflags= with what options. A comma in the file's name is written twice.
    #[arg(
        long,
        value_name = "IMAGE[,readonly][,pmem]",
        conflicts_with = "initrd"
    )]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| rootfs(&text)))]
    pub(crate) rootfs: Option<RootfsArg>,
    /// A folder of this host that becomes the guest's root: / for this host's own files
    ///
    /// Nothing is written to it: what the guest writes goes to its memory, and is gone when it ends. The
    /// guest sees what the user may read who runs this; proc, sysfs and the like are its own. A command
    /// is run in the folder where this runs, if that is in the root. What changes on the host
    /// meanwhile, the guest may see or not. It takes a kernel that has virtiofs and overlay, built in or
    /// as modules.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["initrd", "rootfs"])]
    pub(crate) root: Option<PathBuf>,
    /// The kernel's modules, from which the guest gets the drivers of its virtio devices: a folder
    /// like lib/modules/VERSION, or one that has it in it [default: what is beside the kernel, or in
    /// the folder of --root, for --root, --rootfs and commands]
    ///
    /// With --initrd, they are loaded before its /init is started.
    #[arg(long = "modules", value_name = "DIR")]
    pub(crate) module_tree: Option<PathBuf>,
}
