//! A kernel file and its initial ramdisk, opened and taken apart: what `plan` and `boot` share.

use crate::args::GuestArgs;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::file::InputFile;
use crate::initrd::Initrd;
use crate::output;
use crate::progress::Progress;
use crate::pstore;
use firstlight_boot::platform::Topology;
use firstlight_boot::{
    AcpiTable, BootPlan, FirmwareTables, Hardware, Kaslr, Module, Overlay, PlanError, Request,
    Unpack,
};
use firstlight_image::{Image, ImageError, Limits, UnpackError};
use firstlight_load::{Layer, Opened};
use firstlight_vmm::{Disk, HostCpus};
use rustix::rand::{GetRandomFlags, getrandom};
use std::path::PathBuf;

/// The files of a boot, open as long as the guest may be booted again.
#[derive(Debug)]
pub(crate) struct Files {
    kernel: InputFile,
    initrd: Option<InputFile>,
    modules: Vec<InputFile>,
    dtb: Option<Vec<u8>>,
    overlays: Vec<Overlay>,
    firmware: FirmwareTables,
    topology: Topology,
}

impl Files {
    /// Opens what `args` name, and reads nothing yet but what is part of the plan: a device tree, ACPI
    /// tables, and what the host says of its processors.
    pub(crate) fn open(args: &GuestArgs) -> Result<Self, Failure> {
        let kernel = InputFile::open(args.kernel(), "kernel")?;
        let initrd = args
            .initrd
            .as_deref()
            .map(|path| InputFile::open(path, "initial ramdisk"))
            .transpose()?;
        let modules = args
            .modules
            .iter()
            .map(|module| InputFile::open(&module.file, "module"))
            .collect::<Result<_, _>>()?;
        let dtb = args
            .virt
            .dtb
            .as_deref()
            .map(|path| InputFile::open(path, "device tree")?.read())
            .transpose()?;
        let overlays = args.virt.overlays.iter().map(|path| {
            Ok(Overlay {
                name: path.display().to_string(),
                bytes: InputFile::open(path, "device tree overlay")?.read()?,
            })
        });
        let overlays = overlays.collect::<Result<_, Failure>>()?;
        Ok(Self {
            kernel,
            initrd,
            modules,
            dtb,
            overlays,
            firmware: FirmwareTables {
                acpi: acpi_tables(&args.firmware.acpi_tables)?,
                smbios: args.firmware.smbios.clone(),
            },
            topology: args
                .cpu
                .topology(args.cpus, &HostCpus::new(HostCpus::SYSFS))?,
        })
    }

    pub(crate) fn kernel(&self) -> &InputFile {
        &self.kernel
    }

    pub(crate) fn initrd(&self) -> Option<&InputFile> {
        self.initrd.as_ref()
    }

    /// The bytes of every module.
    pub(crate) fn read_modules(&self, progress: Progress) -> Result<Vec<Vec<u8>>, Failure> {
        let read = self.modules.iter().map(|module| read(module, progress));
        read.collect()
    }

    fn modules(&self, args: &GuestArgs) -> Vec<Module> {
        let lens = self.modules.iter().map(InputFile::len);
        let modules = lens.zip(&args.modules).map(|(len, module)| Module {
            len,
            cmdline: module.cmdline.clone(),
        });
        modules.collect()
    }
}

fn acpi_tables(paths: &[PathBuf]) -> Result<Vec<AcpiTable>, Failure> {
    let tables = paths.iter().map(|path| {
        let bytes = InputFile::open(path, "ACPI table")?.read()?;
        AcpiTable::new(bytes).map_err(|error| {
            let what = format!("{} cannot be an ACPI table of the guest's", path.display());
            Failure::because(ExitStatus::Usage, what, &error)
        })
    });
    tables.collect()
}

/// Reads the whole of `file`, and says so.
pub(crate) fn read(file: &InputFile, progress: Progress) -> Result<Vec<u8>, Failure> {
    let doing = format!("reading {}", file.path().display());
    progress.step(&doing, || file.read())
}

fn not_bootable(file: &InputFile, error: &ImageError) -> Failure {
    let shown = file.path().display();
    let failure = Failure::because(ExitStatus::Image, format!("cannot boot {shown}"), error);
    match error {
        ImageError::Unpack {
            source: UnpackError::Unsupported { .. },
            ..
        } => failure.with_hint("--unpack guest lets the kernel unpack itself"),
        _ => failure,
    }
}

/// Takes `bytes`, read from `file`, apart: whole, or only as far as a guest that unpacks by itself
/// needs.
pub(crate) fn layers(
    file: &InputFile,
    bytes: Vec<u8>,
    args: &GuestArgs,
    progress: Progress,
) -> Result<Vec<Layer>, Failure> {
    let limits = Limits::default();
    let layers = match args.unpack() {
        Unpack::Host => {
            let doing = format!("unpacking {}", file.path().display());
            progress.step(&doing, || {
                Layer::of(bytes, |file| {
                    Image::open_profile(file, &limits, args.profile)
                })
            })
        }
        Unpack::Guest => Layer::of(bytes, |file| {
            Image::open_outer_profile(file, &limits, args.profile)
        }),
    };
    layers.map_err(|error| not_bootable(file, &error))
}

/// The image whose layers were opened from `file`.
pub(crate) fn image<'a>(
    file: &InputFile,
    opened: &'a Opened,
    args: &GuestArgs,
) -> Result<Image<'a>, Failure> {
    Image::reopen_profile(opened.layers.for_image(), args.profile)
        .map_err(|error| not_bootable(file, &error))
}

/// What `args` want of a boot, with a seed of zeros, random addresses only from a given seed, and no port for the guest's own status.
pub(crate) fn request(
    args: &GuestArgs,
    files: &Files,
    image: &Image<'_>,
    initrd: Option<&Initrd>,
) -> Result<Request, Failure> {
    let crash_log = pstore::of(args, image.architecture())?;
    let given = || match image.firmware() {
        Some(_) => args.firmware_cmdline(),
        None => args.cmdline(image.parts().cmdline, image.architecture()),
    };
    let with_initrd = initrd.and_then(Initrd::cmdline).map(str::to_owned);
    let mut cmdline = with_initrd.unwrap_or_else(given);
    let mut reserved = args.reserve.clone();
    if let Some(log) = crash_log {
        // In front, for what is behind `--` is not the kernel's.
        cmdline = format!("{} {cmdline}", log.cmdline()).trim_end().to_owned();
        reserved.push(log.range());
    }
    Ok(Request {
        memory: args.memory,
        cpus: args.cpus,
        cmdline,
        initrd: initrd.map(Initrd::len),
        modules: files.modules(args),
        protocol: args.protocol(),
        unpack: args.unpack(),
        load_address: args.load_address,
        reserved,
        pmem: pmem(args)?,
        kaslr: args.kaslr_to_show(),
        dtb: files.dtb.clone(),
        overlays: files.overlays.clone(),
        fdt_position: args.virt.position(),
        firmware: files.firmware.clone(),
        hardware: args.hardware(Hardware::default()),
        topology: files.topology.clone(),
        ..Request::default()
    })
}

/// How much room each memory that is a file takes.
fn pmem(args: &GuestArgs) -> Result<Vec<u64>, Failure> {
    let disks = args.devices().pmems;
    let rooms = disks.iter().map(Disk::pmem_room);
    rooms.collect::<Result<_, _>>().map_err(|error| {
        let status = match error.is_usage() {
            true => ExitStatus::Usage,
            false => ExitStatus::Host,
        };
        Failure::of(status, &error)
    })
}

/// Plans the boot of `image`, which was found in `file`.
pub(crate) fn plan(
    file: &InputFile,
    image: &Image<'_>,
    request: &Request,
) -> Result<BootPlan, Failure> {
    firstlight_boot::plan(image, request).map_err(|error| {
        let what = format!("cannot plan the boot of {}", file.path().display());
        Failure::because(plan_status(&error), what, &error)
    })
}

/// Writes the device tree of `plan` where `args` want it.
pub(crate) fn dump_dtb(args: &GuestArgs, plan: &BootPlan) -> Result<(), Failure> {
    let Some(path) = &args.virt.dump_dtb else {
        return Ok(());
    };
    let Some(tree) = plan.device_tree() else {
        return Err(Failure::new(
            ExitStatus::Plan,
            "there is no device tree to write: an x86 machine has ACPI tables",
        ));
    };
    output::write(tree, Some(path))
}

/// Whether a boot of `image` has random addresses.
pub(crate) fn has_dice_thrown(image: &Image<'_>, request: &Request) -> bool {
    let seeded = Request {
        kaslr: Kaslr::Seeded(1),
        ..request.clone()
    };
    firstlight_boot::plan(image, &seeded)
        .is_ok_and(|plan| plan.moved() != 0 || plan.relocate().is_some())
}

pub(crate) fn plan_status(error: &PlanError) -> ExitStatus {
    match error {
        PlanError::Cpus { .. } | PlanError::Memory { .. } | PlanError::PmemLength { .. } => {
            ExitStatus::Usage
        }
        PlanError::NotBootable { .. }
        | PlanError::EntryOutside { .. }
        | PlanError::NotMapped { .. } => ExitStatus::Image,
        PlanError::Transports { .. }
        | PlanError::FirmwareTooLong { .. }
        | PlanError::FirmwareLength { .. }
        | PlanError::NoEntry { .. }
        | PlanError::Immovable { .. }
        | PlanError::Misplaced { .. }
        | PlanError::TooOld { .. }
        | PlanError::SetupDataUnknown { .. }
        | PlanError::NoDeviceTree { .. }
        | PlanError::DeviceTree(_)
        | PlanError::Untold { .. }
        | PlanError::CmdlineTooLong { .. }
        | PlanError::CmdlineNul { .. }
        | PlanError::EmptyInitrd
        | PlanError::NoModules { .. }
        | PlanError::EmptyModule { .. }
        | PlanError::MemoryMapTooLong { .. }
        | PlanError::Wraps { .. }
        | PlanError::NotRam { .. }
        | PlanError::Overlap { .. }
        | PlanError::NoRoom { .. } => ExitStatus::Plan,
    }
}

/// Random bytes of the host: for the guest's entropy pool, for the kernel's addresses.
pub(crate) fn fresh_seed<const N: usize>() -> Result<[u8; N], Failure> {
    let mut seed = [0; N];
    // Up to 256 bytes come whole once the host's own pool is filled (getrandom(2)).
    getrandom(&mut seed[..], GetRandomFlags::empty())
        .map_err(|error| Failure::because(ExitStatus::Host, "cannot get random bytes", &error))?;
    Ok(seed)
}
