//! The plan of an arm64 or riscv64 machine.

use super::{check_bytes, check_size, transports};
use crate::draft::{Draft, Need, PAGE};
use crate::firmware::{e820, fdt};
use crate::platform::{Platform, Topology, VirtArm64, VirtRiscv64};
use crate::protocol::flat::{Kernel, Rules};
use crate::{
    BootPlan, Content, E820Entry, E820Kind, FdtPosition, Kaslr, Piece, PlanError, Protocol, Request,
};
use alloc::format;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange, MIB};

/// What the boot documents place kernels by, and the kernels' own large pages.
const LARGE_PAGE: u64 = 2 * MIB;

pub(super) fn plan(
    kernel: &Kernel,
    rules: &Rules,
    request: &Request,
) -> Result<BootPlan, PlanError> {
    check_told(rules.protocol, request)?;
    check_bytes(&request.cmdline, rules.cmdline_limit)?;
    let platform = platform(rules.protocol, request)?;
    let mut told = fdt::Told {
        bootargs: &request.cmdline,
        // Wherever that will be: a tree that is only made to be measured.
        initrd: request.initrd.and(platform.ram().first().copied()),
        rng_seed: &request.rng_seed,
        kaslr_seed: match request.kaslr {
            Kaslr::Off => None,
            Kaslr::Seeded(seed) => Some(seed),
        },
        base: request.dtb.as_deref(),
        overlays: &request.overlays,
    };
    let tree = match request.fdt_position {
        FdtPosition::AfterPayload => TreePlace::Behind,
        FdtPosition::Start => TreePlace::First(fdt::tree(&platform, &told)?.len() as u64),
        FdtPosition::End => TreePlace::Last(fdt::tree(&platform, &told)?.len() as u64),
    };
    let memory_map = memory_map(&platform);
    let usable = usable(&memory_map);
    let mut layout = Layout::survey(&platform, usable, rules, tree)?;
    let kernel_range = layout.put_kernel(kernel, request.load_address)?;
    told.initrd = match request.initrd {
        Some(len) => Some(layout.put_initrd(kernel_range, len)?),
        None => None,
    };
    let tree = layout.put_tree(fdt::tree(&platform, &told)?)?;
    Ok(BootPlan {
        boot_vcpu: (rules.enter)(&platform, kernel_range.start(), tree.start()),
        protocol: rules.protocol,
        image: kernel.image.clone(),
        cmdline: request.cmdline.clone(),
        pieces: layout.draft.into_pieces(),
        e820: memory_map,
        moved: 0,
        relocate: None,
        platform,
    })
}

/// Nothing that was asked for is left out silently.
pub(super) fn check_told(protocol: Protocol, request: &Request) -> Result<(), PlanError> {
    let untold = |what| Err(PlanError::Untold { protocol, what });
    if !request.modules.is_empty() {
        return Err(PlanError::NoModules { protocol });
    }
    if !request.setup_data.is_empty() {
        return untold("setup_data");
    }
    if request.subarch.is_some() {
        return untold("a hardware_subarch");
    }
    if request.dtb.is_some() && request.topology != Topology::default() {
        return untold("clusters, capacities or frequencies of its vCPUs beside a device tree");
    }
    if !request.firmware.acpi.is_empty() {
        return untold("ACPI tables");
    }
    if request.firmware.smbios.is_some() {
        return untold("SMBIOS tables: a kernel finds them only by EFI there");
    }
    if request.hardware.debugcon {
        return untold("a debug console: it is a port, and there are none");
    }
    if request.hardware.suspend_notice {
        return untold("a notice of its sleep, which ACPI tables tell of");
    }
    if request.debug_exit {
        return untold("a port to end its machine with a status of its own");
    }
    Ok(())
}

/// The machine of the kernels that `protocol` is for.
pub(super) fn platform(protocol: Protocol, request: &Request) -> Result<Platform, PlanError> {
    let (memory, cpus) = (request.memory, request.cpus);
    let (hardware, topology) = (&request.hardware, &request.topology);
    if protocol == Protocol::Riscv64 {
        let sizes = VirtRiscv64::MIN_MEMORY..=VirtRiscv64::MAX_MEMORY;
        check_size(request, VirtRiscv64::MAX_CPUS, sizes)?;
        let mut virt = VirtRiscv64 {
            topology: topology.clone(),
            hart: hardware.hart.clone(),
            irqchip: hardware.irqchip,
            fw_cfg: hardware.fw_cfg,
            battery: hardware.battery,
            virtio: transports(request, VirtRiscv64::VIRTIO)?,
            ..VirtRiscv64::new(memory, cpus)
        };
        virt.reserved.extend(&request.reserved);
        virt.reserved = e820::merged(virt.reserved);
        virt.pmem = pmem(request, &virt.ram, &virt.reserved)?;
        virt.pci = virt.pci_windows().with_buses(hardware.pci_buses);
        return Ok(Platform::VirtRiscv64(virt));
    }
    let sizes = VirtArm64::MIN_MEMORY..=VirtArm64::MAX_MEMORY;
    check_size(request, hardware.gic.max_cpus(), sizes)?;
    let mut virt = VirtArm64 {
        reserved: e820::merged(request.reserved.clone()),
        topology: topology.clone(),
        gic: hardware.gic,
        pmu: hardware.pmu,
        el2: hardware.el2,
        fw_cfg: hardware.fw_cfg,
        battery: hardware.battery,
        virtio: transports(request, VirtArm64::VIRTIO)?,
        ..VirtArm64::new(memory, cpus)
    };
    virt.pmem = pmem(request, &virt.ram, &virt.reserved)?;
    virt.pci = virt.pci_windows().with_buses(hardware.pci_buses);
    Ok(Platform::VirtArm64(virt))
}

/// Above RAM, and below the windows that lie above memory.
fn pmem(
    request: &Request,
    ram: &[GpaRange],
    reserved: &[GpaRange],
) -> Result<Vec<GpaRange>, PlanError> {
    let above = ram.last().expect("a machine has RAM").end();
    super::pmem::place(&request.pmem, above, reserved)
}

/// What the device tree says of memory.
pub(super) fn memory_map(platform: &Platform) -> Vec<E820Entry> {
    let line = |kind| move |range| E820Entry { range, kind };
    let reserved = platform.reserved();
    let ram = platform.ram().iter();
    let mut map: Vec<_> = ram
        .flat_map(|&ram| e820::without(ram, reserved))
        .map(line(E820Kind::Ram))
        .collect();
    map.extend(reserved.iter().copied().map(line(E820Kind::Reserved)));
    map.sort_unstable_by_key(|line| line.range.start());
    map
}

/// The RAM in a memory map.
pub(super) fn usable(memory_map: &[E820Entry]) -> Vec<GpaRange> {
    let ram = memory_map.iter().filter(|line| line.kind == E820Kind::Ram);
    ram.map(|line| line.range).collect()
}

/// Where the device tree goes, and how long it is where room has to be kept for it.
#[derive(Clone, Copy)]
enum TreePlace {
    /// Behind kernel and initial ramdisk.
    Behind,
    /// At the beginning of memory.
    First(u64),
    /// At its end.
    Last(u64),
}

/// Memory being given away.
struct Layout<'a> {
    draft: Draft,
    rules: &'a Rules,
    /// Where kernel and initial ramdisk may lie.
    room: GpaRange,
    ram_base: Gpa,
    /// Where the device tree goes; `None` where that is behind the two.
    tree: Option<GpaRange>,
}

impl<'a> Layout<'a> {
    /// Keeps room for a device tree of some size at one end of memory, where it was asked for there.
    fn survey(
        platform: &Platform,
        usable: Vec<GpaRange>,
        rules: &'a Rules,
        tree: TreePlace,
    ) -> Result<Self, PlanError> {
        let ram = *platform.ram().first().expect("a machine has RAM");
        let draft = Draft::new(usable, platform.reserved().to_vec());
        let (tree, room) = match tree {
            TreePlace::Behind => (None, None),
            TreePlace::First(len) => {
                let tree = draft.lowest(&tree_need(len, ram))?;
                (Some(tree), GpaRange::between(tree.end(), ram.end()))
            }
            TreePlace::Last(len) => {
                let tree = draft.highest(&tree_need(len, ram))?;
                (Some(tree), GpaRange::between(ram.start(), tree.start()))
            }
        };
        Ok(Self {
            room: room.unwrap_or(ram),
            ram_base: ram.start(),
            draft,
            rules,
            tree,
        })
    }

    /// The lowest place that the kernel takes: one that cannot use what is below it loses least
    /// there.
    fn put_kernel(&mut self, kernel: &Kernel, asked: Option<Gpa>) -> Result<GpaRange, PlanError> {
        let start = match asked {
            Some(asked) => self.asked(kernel, asked)?,
            None => self.lowest(kernel)?,
        };
        let wraps = || PlanError::Wraps {
            name: "kernel".into(),
            at: start.get(),
            len: kernel.size,
        };
        let end = start.checked_add(kernel.size).ok_or_else(wraps)?;
        let end = end.align_up(self.rules.end_align).ok_or_else(wraps)?;
        let range = GpaRange::between(start, end).ok_or_else(wraps)?;
        self.put_parts(kernel, range)?;
        Ok(range)
    }

    fn asked(&self, kernel: &Kernel, asked: Gpa) -> Result<Gpa, PlanError> {
        let base = asked.checked_sub(kernel.text_offset);
        if base.is_some_and(|base| base.is_aligned(LARGE_PAGE)) {
            return Ok(asked);
        }
        Err(PlanError::Misplaced {
            asked,
            len: kernel.size,
            align: LARGE_PAGE,
            within: self.room,
        })
    }

    fn lowest(&self, kernel: &Kernel) -> Result<Gpa, PlanError> {
        // What lies below the kernel up to a large page is nobody's.
        let odd = kernel.text_offset % LARGE_PAGE;
        let whole = kernel.text_offset.saturating_sub(odd);
        let from = self.ram_base.get().saturating_add(whole);
        let len = kernel.size.saturating_add(odd);
        let align = self.rules.end_align;
        let need = Need {
            name: "kernel",
            len: len.checked_next_multiple_of(align).unwrap_or(len),
            align: LARGE_PAGE,
            within: GpaRange::between(self.room.start().max(Gpa::new(from)), self.room.end())
                .unwrap_or(self.room),
            why: "",
        };
        let base = self.draft.lowest(&need)?.start();
        Ok(Gpa::new(base.get().saturating_add(odd)))
    }

    fn put_parts(&mut self, kernel: &Kernel, range: GpaRange) -> Result<(), PlanError> {
        let mut next = range.start();
        for (number, part) in kernel.parts.iter().enumerate() {
            let at = Gpa::new(range.start().get().saturating_add(part.at));
            self.put_window(next, at)?;
            let Some(taken) = GpaRange::new(at, part.len) else {
                continue;
            };
            let whole = kernel.parts.len() == 1;
            let name = if whole {
                "kernel".into()
            } else {
                format!("kernel segment {number}").into()
            };
            self.draft.put(Piece {
                name,
                range: taken,
                content: Content::Image {
                    layer: kernel.layer,
                    offset: part.offset,
                    len: part.len,
                },
                why: "text_offset behind the lowest multiple of 2 MiB that it fits at".into(),
            })?;
            next = taken.end();
        }
        self.put_window(next, range.end())
    }

    fn put_window(&mut self, from: Gpa, to: Gpa) -> Result<(), PlanError> {
        let Some(range) = GpaRange::between(from, to) else {
            return Ok(());
        };
        self.draft.put(Piece {
            name: "start-up window".into(),
            range,
            content: Content::Window,
            why: "what the kernel zeroes and keeps for itself (image_size)".into(),
        })
    }

    /// The lowest place behind the kernel, on a large page where that can be had.
    fn put_initrd(&mut self, kernel: GpaRange, len: u64) -> Result<GpaRange, PlanError> {
        if len == 0 {
            return Err(PlanError::EmptyInitrd);
        }
        let window = self.rules.initrd_window.and_then(|window| {
            let start = kernel.start().align_down(GIB)?;
            GpaRange::new(start, window)
        });
        let within = match window {
            Some(window) => window.intersection(self.room).unwrap_or(self.room),
            None => self.room,
        };
        let need = Need {
            name: "initrd",
            len,
            align: LARGE_PAGE,
            within,
            why: "",
        };
        let low = || {
            self.draft.lowest(&Need {
                align: PAGE,
                ..need
            })
        };
        let range = self.draft.lowest(&need).or_else(|_| low())?;
        let why = match self.rules.initrd_window {
            Some(_) => "lowest free RAM, in the 32 GiB that the kernel wants to find it in",
            None => "lowest free RAM",
        };
        self.draft.put(Piece {
            name: "initrd".into(),
            range,
            content: Content::Initrd,
            why: why.into(),
        })?;
        Ok(range)
    }

    /// Where room was kept for it, or else behind kernel and initial ramdisk.
    fn put_tree(&mut self, tree: Vec<u8>) -> Result<GpaRange, PlanError> {
        let len = tree.len() as u64;
        let (range, why) = match self.tree {
            Some(range) => (range, "where it was asked for"),
            None => {
                let need = tree_need(len, self.room);
                let behind = self.draft.lowest(&need);
                let anywhere = || self.draft.lowest(&Need { align: 8, ..need });
                let why = "the lowest free multiple of 2 MiB, which the kernel maps it by";
                (behind.or_else(|_| anywhere())?, why)
            }
        };
        put_tree_at(&mut self.draft, range, tree, why)?;
        Ok(range)
    }
}

/// Puts a device tree at `range`, for a reason.
pub(super) fn put_tree_at(
    draft: &mut Draft,
    range: GpaRange,
    tree: Vec<u8>,
    why: &'static str,
) -> Result<(), PlanError> {
    draft.put(Piece {
        name: "device tree".into(),
        range,
        content: Content::Bytes(tree),
        why: why.into(),
    })
}

/// A device tree is mapped by large pages, two at most.
pub(super) fn tree_need(len: u64, within: GpaRange) -> Need<'static> {
    Need {
        name: "device tree",
        len,
        align: LARGE_PAGE,
        within,
        why: "",
    }
}
