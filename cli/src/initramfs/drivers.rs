//! Which of a kernel's modules a guest is given: those that drive what it has.

use crate::args::GuestArgs;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::kernel::Files;
use crate::progress::Progress;
use firstlight_image::{Architecture, Image};
use firstlight_initramfs::Root;
use firstlight_initramfs::modules::{Kernel, Module, ModuleError, ModuleTree, beside};
use firstlight_vmm::{Devices, ForeignKind, Transport};
use std::path::{Path, PathBuf};

/// What writes a kernel's last words into its crash log.
pub(super) const CRASH_LOG: &str = "ramoops";

/// The drivers that a guest with `devices` needs until it can load others by itself, in the order
/// in which they are loaded. Where all of them are, Linux says in `drivers/virtio/Kconfig` and the
/// like.
pub(super) fn wanted<'a>(
    devices: &Devices,
    root: Option<&'a Root>,
    architecture: Architecture,
) -> Vec<&'a str> {
    let pluggable = devices.hotplug_slots > 0;
    let is_on_a_bus = devices.watchdog || !devices.vfio.is_empty();
    let has_pci = devices.transport == Transport::Pci || pluggable || is_on_a_bus;
    let has_device_tree = matches!(architecture, Architecture::Arm64 | Architecture::Riscv64);
    let is_there = |is: fn(&ForeignKind) -> bool| devices.foreign.iter().any(|one| is(&one.kind));
    let has_foreign_disk = is_there(|kind| matches!(kind, ForeignKind::Block));
    let has_foreign_share = is_there(|kind| matches!(kind, ForeignKind::Fs(_)));
    let has_foreign_card = is_there(|kind| matches!(kind, ForeignKind::Net(_)));
    let drivers = [
        ("pci_host_generic", has_pci && has_device_tree),
        ("virtio_pci", has_pci),
        ("virtio_mmio", devices.transport == Transport::Mmio),
        (
            "virtio_blk",
            !devices.disks.is_empty() || pluggable || has_foreign_disk,
        ),
        ("virtiofs", !devices.shares.is_empty() || has_foreign_share),
        ("virtio_pmem", !devices.pmems.is_empty()),
        ("nd_pmem", !devices.pmems.is_empty()),
        (
            "virtio_net",
            !devices.nets.is_empty() || pluggable || has_foreign_card,
        ),
        ("virtio_console", devices.has_console()),
        ("vmw_vsock_virtio_transport", devices.vsock.is_some()),
        ("virtio_rng", devices.rng),
        ("virtio_balloon", devices.balloon),
        ("i6300esb", devices.watchdog),
        ("qemu_fw_cfg", !devices.files.is_empty()),
        ("goldfish_battery", devices.battery.is_some()),
    ];
    let drivers = drivers.into_iter().filter(|(_, is_wanted)| *is_wanted);
    let mut wanted: Vec<&str> = drivers.map(|(name, _)| name).collect();
    let file_systems = root.iter().flat_map(|root| &root.file_systems);
    let overlay = root.filter(|root| root.covered).map(|_root| "overlay");
    for name in file_systems.map(String::as_str).chain(overlay) {
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    wanted
}

/// The modules of those of the `wanted` drivers that the kernel does not have built in, and what
/// they need. There are none where there is no tree of them.
pub(super) fn modules(
    args: &GuestArgs,
    files: &Files,
    (image, wanted): (&Image<'_>, &[&str]),
    progress: Progress,
) -> Result<Vec<Module>, Failure> {
    let file = files.kernel().path();
    let kernel = Kernel {
        architecture: image.architecture(),
        version: version(image),
    };
    let opened = match &args.guest_init.module_tree {
        Some(folder) => Some(open(folder, &kernel)),
        None => beside(file)
            .or_else(|| in_root(args, &kernel))
            .map(|folder| open(&folder, &kernel)),
    };
    let tree = match opened {
        Some(Err(ModuleError::NoModules { .. })) | None
            if args.guest_init.module_tree.is_none() =>
        {
            progress.say(&format!(
                "no modules are beside {}: the drivers that the guest needs must be built in",
                file.display()
            ));
            return Ok(Vec::new());
        }
        None => return Ok(Vec::new()),
        Some(opened) => opened.map_err(|error| cannot_take(&error))?,
    };
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        wanted.iter().partition(|&name| tree.knows(name));
    if unknown.contains(&CRASH_LOG) {
        return Err(Failure::new(
            ExitStatus::Image,
            format!("the kernel has no {CRASH_LOG}, which writes what --pstore keeps"),
        ));
    }
    for name in unknown {
        progress.say(&format!("the kernel has no {name}, so it is left out"));
    }
    let modules = progress
        .step("collecting modules", || tree.load_order(&known, &kernel))
        .map_err(|error| cannot_take(&error))?;
    let names: Vec<&str> = modules.iter().map(|module| &*module.name).collect();
    progress.say(&format!("the guest loads {}", listed(&names)));
    Ok(modules)
}

/// The tree of the kernel in the folder that is to be the root.
fn in_root(args: &GuestArgs, kernel: &Kernel<'_>) -> Option<PathBuf> {
    let root = args.guest_init.root.as_ref()?;
    let mut places = ["lib/modules", "usr/lib/modules"].into_iter();
    places.find_map(|place| {
        let folder = root.join(place).join(kernel.version?);
        folder.is_dir().then_some(folder)
    })
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "no modules: all is built in".to_owned(),
        names => names.join(", "),
    }
}

/// The tree in `folder`, if it is of `kernel`. A module says so, too, but perhaps none is read.
fn open(folder: &Path, kernel: &Kernel<'_>) -> Result<ModuleTree, ModuleError> {
    let tree = ModuleTree::open(folder, kernel.version)?;
    match (tree.version(), kernel.version) {
        (Some(of_tree), Some(of_kernel)) if of_tree != of_kernel => {
            Err(ModuleError::OtherKernels {
                folder: folder.to_owned(),
                kernel: of_kernel.to_owned(),
                versions: vec![of_tree.to_owned()],
            })
        }
        _ => Ok(tree),
    }
}

/// What `uname -r` says in the kernel, where the image's headers or its banner tell.
fn version<'a>(image: &'a Image<'_>) -> Option<&'a str> {
    let text = image.kernel_version();
    let text = text.or_else(|| banner(image.kernel().bytes()))?;
    text.split_whitespace().next()
}

/// What follows `Linux version ` in a kernel (Linux `init/version-timestamp.c`), up to what is no
/// text.
fn banner(kernel: &[u8]) -> Option<&str> {
    const BEGIN: &[u8] = b"Linux version ";
    /// The longest version there is (`include/uapi/linux/utsname.h`).
    const LONGEST: usize = 64;
    let mut banners = kernel.windows(BEGIN.len() + LONGEST).filter_map(|window| {
        let text = window.strip_prefix(BEGIN)?;
        text.first()?.is_ascii_digit().then_some(text)
    });
    let text = banners.next()?;
    let end = text.iter().position(|byte| !byte.is_ascii_graphic());
    str::from_utf8(text.get(..end?)?).ok()
}

/// Wrong is the folder that was named, or the host, or a module in it.
fn cannot_take(error: &ModuleError) -> Failure {
    let status = match error {
        ModuleError::Read { .. } => ExitStatus::Host,
        ModuleError::NoModules { .. }
        | ModuleError::SeveralKernels { .. }
        | ModuleError::OtherKernels { .. }
        | ModuleError::OtherArchitecture { .. }
        | ModuleError::OtherVersion { .. } => ExitStatus::Usage,
        ModuleError::LargeTree { .. }
        | ModuleError::List { .. }
        | ModuleError::Missing { .. }
        | ModuleError::MissingDependency { .. }
        | ModuleError::Loop { .. }
        | ModuleError::LongChain { .. }
        | ModuleError::Outside { .. }
        | ModuleError::NoFile { .. }
        | ModuleError::Empty { .. }
        | ModuleError::LargeFile { .. }
        | ModuleError::LargeSum { .. }
        | ModuleError::Unpack { .. }
        | ModuleError::NoModule { .. } => ExitStatus::Image,
    };
    Failure::because(
        status,
        "cannot take drivers from the kernel's modules",
        error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_vmm::{Disk, Net, Share, Tag};

    fn disk() -> Disk {
        Disk {
            path: "a".into(),
            readonly: false,
        }
    }

    #[test]
    fn every_device_has_its_driver_and_no_other_is_wanted() {
        let mut devices = Devices {
            disks: vec![disk()],
            status_port: true,
            ..Devices::default()
        };
        let x86 = |devices: &Devices| wanted(devices, None, Architecture::X86_64);
        let expected = ["virtio_pci", "virtio_blk", "virtio_console"];
        assert_eq!(x86(&devices), expected);
        devices.transport = Transport::Mmio;
        devices.disks.clear();
        devices.nets = vec![Net::User];
        devices.rng = true;
        devices.balloon = true;
        let expected = [
            "virtio_mmio",
            "virtio_net",
            "virtio_console",
            "virtio_rng",
            "virtio_balloon",
        ];
        assert_eq!(x86(&devices), expected);
    }

    #[test]
    fn what_can_be_plugged_later_has_its_driver_from_the_start() {
        let devices = Devices {
            transport: Transport::Mmio,
            hotplug_slots: 1,
            ..Devices::default()
        };
        let root = Root::ext4("/dev/vda");
        let wanted = wanted(&devices, Some(&root), Architecture::Arm64);
        let expected = [
            "pci_host_generic",
            "virtio_pci",
            "virtio_mmio",
            "virtio_blk",
            "virtio_net",
            "ext4",
        ];
        assert_eq!(wanted, expected);
    }

    #[test]
    fn a_root_that_is_shared_has_its_file_system_and_an_overlay() {
        let devices = Devices {
            shares: vec![Share {
                path: "/".into(),
                tag: Tag::new("root").unwrap(),
                readonly: true,
                is_still: true,
            }],
            ..Devices::default()
        };
        let root = Root::shared("root");
        let wanted = wanted(&devices, Some(&root), Architecture::X86_64);
        assert_eq!(wanted, ["virtio_pci", "virtiofs", "overlay"]);
    }

    #[test]
    fn memory_that_is_a_file_has_two_drivers() {
        let devices = Devices {
            pmems: vec![disk()],
            ..Devices::default()
        };
        let root = Root::ext4("/dev/pmem0");
        let wanted = wanted(&devices, Some(&root), Architecture::X86_64);
        assert_eq!(wanted, ["virtio_pci", "virtio_pmem", "nd_pmem", "ext4"]);
    }

    #[test]
    fn a_version_is_found_in_the_banner_and_not_in_its_format() {
        let mut kernel = b"..Linux version %s..Linux version 6.1.0-9-arm64 (a@b) (gcc".to_vec();
        kernel.resize(256, 0);
        assert_eq!(banner(&kernel), Some("6.1.0-9-arm64"));
        for len in 0..60 {
            assert_eq!(banner(kernel.get(..len).unwrap_or(&[])), None);
        }
    }

    #[test]
    fn a_version_without_an_end_is_none() {
        let kernel = [&b"Linux version "[..], &[b'6'; 256]].concat();
        assert_eq!(banner(&kernel), None);
    }
}
