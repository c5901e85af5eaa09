//! What somebody wants booted, and how.

use crate::firmware::acpi::given::AcpiTable;
use crate::firmware::smbios::Smbios;
use crate::platform::{Gic, Hart, RiscvIrqchip, Topology};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use firstlight_base::{Gpa, GpaRange, MIB};

/// What is wanted of a boot, beside the kernel's image.
///
/// The [default](Self::default) is a machine of one vCPU and 512 MiB and nothing else.
#[derive(Clone, Debug)]
pub struct Request {
    /// Bytes of guest RAM.
    pub memory: u64,
    /// How many vCPUs.
    pub cpus: u32,
    /// The kernel's command line, without a NUL.
    pub cmdline: String,
    /// Bytes of the initial ramdisk, where there is one.
    pub initrd: Option<u64>,
    /// What else is put into memory for a kernel that takes modules (PVH, multiboot), in order;
    /// the initial ramdisk, where there is one, is the module before them.
    pub modules: Vec<Module>,
    /// Which version of `hvm_start_info` a PVH kernel is given.
    pub start_info: StartInfoVersion,
    /// The way in.
    pub protocol: ProtocolChoice,
    /// Who unpacks a packed kernel.
    pub unpack: Unpack,
    /// Where the kernel is to lie, lowest byte first, instead of where it prefers.
    pub load_address: Option<Gpa>,
    /// Memory that is not the guest's to use, whether RAM or not: told to it as reserved.
    pub reserved: Vec<GpaRange>,
    /// Bytes of each memory that outlives the guest (virtio-pmem), in order: its room, a multiple of
    /// [`PMEM_ALIGN`].
    pub pmem: Vec<u64>,
    /// Whether the kernel's addresses are chosen at random.
    pub kaslr: Kaslr,
    /// What the kernel is told it runs on, where that is no PC.
    pub subarch: Option<Subarch>,
    /// A device tree: on x86 for the kernel beside its ACPI tables; elsewhere the one that takes
    /// the place of the machine's own, and is told only what the boot protocol wants said in it.
    pub dtb: Option<Vec<u8>>,
    /// What is put over the machine's device tree, in order.
    pub overlays: Vec<Overlay>,
    /// Where the device tree lies.
    pub fdt_position: FdtPosition,
    /// What an x86 machine's firmware tells beside what it has to.
    pub firmware: FirmwareTables,
    /// What the machine is made of.
    pub hardware: Hardware,
    /// What the guest is told of its vCPUs, where it has a device tree.
    pub topology: Topology,
    /// Further nodes for the kernel's list of `setup_data`.
    pub setup_data: Vec<SetupData>,
    /// Whether the guest may end its machine with a status of its own choice.
    pub debug_exit: bool,
    /// Random bytes for the kernel's entropy pool; fresh for every start.
    pub rng_seed: [u8; 32],
}

/// What the size of memory that outlives the guest is a multiple of: Linux adds memory to itself in
/// subsections of 2 MiB (`include/linux/mmzone.h`, `SUBSECTION_SIZE`).
pub const PMEM_ALIGN: u64 = 2 * MIB;

impl Default for Request {
    fn default() -> Self {
        Self {
            memory: 512 * MIB,
            cpus: 1,
            cmdline: String::new(),
            initrd: None,
            modules: Vec::new(),
            start_info: StartInfoVersion::V1,
            protocol: ProtocolChoice::Auto,
            unpack: Unpack::Host,
            load_address: None,
            reserved: Vec::new(),
            pmem: Vec::new(),
            kaslr: Kaslr::Off,
            subarch: None,
            dtb: None,
            overlays: Vec::new(),
            fdt_position: FdtPosition::AfterPayload,
            firmware: FirmwareTables::default(),
            hardware: Hardware::default(),
            topology: Topology::default(),
            setup_data: Vec::new(),
            debug_exit: false,
            rng_seed: [0; 32],
        }
    }
}

/// The fields `hardware_subarch` and `hardware_subarch_data` of the Linux/x86 boot protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subarch {
    /// `hardware_subarch`: 0 is a PC, 2 Xen, 3 Intel MID, 4 CE4100.
    pub number: u32,
    /// `hardware_subarch_data`: what goes with that.
    pub data: u64,
}

/// A node of the list of `setup_data` of the Linux/x86 boot protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupData {
    /// Its type.
    pub kind: u32,
    /// Its data.
    pub bytes: Vec<u8>,
    /// Whether the node only points to its data (`SETUP_INDIRECT`), which the kernel has to know.
    pub indirect: bool,
}

/// A device tree overlay (`Documentation/devicetree/overlay-notes.rst`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// What it is called where something is wrong with it: its file.
    pub name: String,
    /// The compiled overlay.
    pub bytes: Vec<u8>,
}

/// What a PC's firmware tells where a user wants it told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirmwareTables {
    /// Further ACPI tables, in order.
    pub acpi: Vec<AcpiTable>,
    /// Who made the machine, where SMBIOS is to tell.
    pub smbios: Option<Smbios>,
}

/// Where the device tree lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdtPosition {
    /// At the beginning of RAM; the kernel begins behind it.
    Start,
    /// At the end of RAM.
    End,
    /// At the next multiple of 2 MiB behind the kernel and its initial ramdisk.
    AfterPayload,
}

/// What a machine is made of, where it can be one thing or another: what the engine that will run it
/// has, and what was asked for. The [default](Self::default) is what QEMU can do on any host, without
/// further devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// The interrupt controller of an arm64 machine.
    pub gic: Gic,
    /// Whether arm64 vCPUs have a performance monitoring unit.
    pub pmu: bool,
    /// Whether an arm64 kernel is entered at EL2.
    pub el2: bool,
    /// The interrupt controllers of a riscv64 machine.
    pub irqchip: RiscvIrqchip,
    /// What a riscv64 vCPU is.
    pub hart: Hart,
    /// Whether an x86 machine has a debug console.
    pub debugcon: bool,
    /// Whether there is a firmware configuration device.
    pub fw_cfg: bool,
    /// Whether there is a battery.
    pub battery: bool,
    /// Whether an x86 machine's firmware says when the system goes to sleep (suspend-to-idle).
    pub suspend_notice: bool,
    /// How many virtio transports there are in memory.
    pub virtio: u32,
    /// How many PCI Express buses there are, that of the host bridge included; without any there is no
    /// bridge.
    pub pci_buses: u32,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            gic: Gic::V3 { its: true },
            pmu: true,
            el2: false,
            irqchip: RiscvIrqchip::Plic,
            hart: Hart::default(),
            debugcon: false,
            fw_cfg: false,
            battery: false,
            suspend_notice: false,
            virtio: 0,
            pci_buses: 0,
        }
    }
}

/// A file that the kernel is handed beside its initial ramdisk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its bytes.
    pub len: u64,
    /// Its command line, without a NUL.
    pub cmdline: String,
}

/// A version of `hvm_start_info`, the structure that a PVH kernel is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StartInfoVersion {
    /// Without a memory map: for kernels that ask Xen for it. Linux needs one on any other host.
    V0 = 0,
    /// With a memory map.
    V1 = 1,
}

/// Whether the host chooses a kernel's addresses at random (kernel address space layout
/// randomisation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kaslr {
    /// Not: the kernel runs where it was linked to.
    Off,
    /// Where the image can be moved and it is the host that unpacks it; the seed decides, and has
    /// to be fresh for every start.
    Seeded(u64),
}

/// Who unpacks a packed kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// The host, before the guest runs.
    Host,
    /// The kernel's own start-up code, in the guest.
    Guest,
}

/// The way in that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolChoice {
    /// The fastest that the image offers.
    Auto,
    /// This one or none.
    Only(Protocol),
}

/// A boot protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The 64-bit entry of the Linux/x86 boot protocol (`Documentation/arch/x86/boot.rst`).
    Linux64,
    /// The 32-bit entry of the same.
    Linux32,
    /// The 16-bit entry of the same, with a BIOS for it.
    Linux16,
    /// The x86/HVM direct boot ABI (Xen's `docs/misc/pvh.pandoc`).
    Pvh,
    /// The Multiboot Specification 0.6.96.
    Multiboot,
    /// The Multiboot2 Specification 2.0.
    Multiboot2,
    /// The boot protocol of Linux for 64-bit Arm (`Documentation/arch/arm64/booting.rst`).
    Arm64,
    /// The boot protocol of Linux for RISC-V (`Documentation/arch/riscv/boot.rst`).
    Riscv64,
    /// None: firmware in flash, in which a processor begins after its reset.
    Firmware,
}

impl Protocol {
    /// Every protocol, fastest first.
    pub const ALL: [Self; 9] = [
        Self::Linux64,
        Self::Pvh,
        Self::Linux32,
        Self::Linux16,
        Self::Multiboot2,
        Self::Multiboot,
        Self::Arm64,
        Self::Riscv64,
        Self::Firmware,
    ];

    /// The name on the command line and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux64 => "linux64",
            Self::Linux32 => "linux32",
            Self::Linux16 => "linux16",
            Self::Pvh => "pvh",
            Self::Multiboot => "multiboot",
            Self::Multiboot2 => "multiboot2",
            Self::Arm64 => "arm64",
            Self::Riscv64 => "riscv64",
            Self::Firmware => "firmware",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
