//! 64-bit Arm: QEMU's `virt`.

use super::memory::{ArchMemoryLayout, GuestMemoryRegion, regions};
use super::{Irqchips, LinuxArch, Wiring};
use crate::board::{Place, now};
use crate::{IrqchipError, IrqchipMode, RunError, SystemAllocatorConfig};
use firstlight_base::Irq;
use firstlight_boot::platform::{Gic, VirtArm64};
use firstlight_devices::{FlashBus, Pl011, Pl031};
use firstlight_hv::{Features, Irqchip};

/// The 64-bit architecture of Arm.
#[derive(Clone, Copy, Debug)]
pub struct Aarch64;

impl LinuxArch for Aarch64 {
    type Platform = VirtArm64;

    fn arch_memory_layout(virt: &VirtArm64) -> ArchMemoryLayout {
        ArchMemoryLayout {
            ram: virt.ram.clone(),
            reserved: virt.reserved.clone(),
            virtio: virt.virtio,
            pci: virt.pci,
        }
    }

    fn guest_memory_layout(layout: &ArchMemoryLayout) -> Vec<GuestMemoryRegion> {
        regions(layout)
    }

    fn get_system_allocator_config(virt: &VirtArm64) -> SystemAllocatorConfig {
        super::allocation::config(virt.pci.as_ref(), None, (Irq(0), 224))
    }

    fn irqchip(virt: &VirtArm64, mode: IrqchipMode) -> Result<Irqchips, IrqchipError> {
        match (mode, virt.gic) {
            (IrqchipMode::Kernel, _) => {}
            (IrqchipMode::User, Gic::V2) => return Ok(Irqchips::Gic),
            (IrqchipMode::User, Gic::V3 { .. }) => return Err(IrqchipError::Gic),
            (IrqchipMode::Split, _) => {
                return Err(IrqchipError::Hypervisor {
                    architecture: "arm64",
                });
            }
        }
        Ok(Irqchips::Supplied(match virt.gic {
            Gic::V2 => Irqchip::GicV2 {
                distributor: VirtArm64::GIC_DISTRIBUTOR.start(),
                cpu_interface: VirtArm64::GICV2_CPU.start(),
            },
            Gic::V3 { its } => Irqchip::GicV3 {
                distributor: VirtArm64::GIC_DISTRIBUTOR.start(),
                redistributors: VirtArm64::GICV3_REDISTRIBUTORS.start(),
                its: its.then(|| VirtArm64::GICV3_ITS.start()),
            },
        }))
    }

    fn vcpu_features(virt: &VirtArm64) -> Features {
        Features {
            pmu: virt.pmu,
            el2: virt.el2,
        }
    }

    fn wire(virt: &VirtArm64, wiring: &mut Wiring<'_>) -> Result<(), RunError> {
        if virt.fw_cfg {
            wiring.attach_fw_cfg(Place::of(VirtArm64::FW_CFG));
        }
        if virt.battery {
            wiring.attach_battery(Place::of(VirtArm64::BATTERY), VirtArm64::BATTERY_IRQ)?;
        }
        wiring.attach_flash(FlashBus::Wide);
        let Wiring { board, lines, .. } = wiring;
        let line = lines(VirtArm64::UART_IRQ)?;
        board.attach_serial(Place::of(VirtArm64::UART), Pl011::new(), line);
        let line = lines(VirtArm64::RTC_IRQ)?;
        board.attach_clock(Place::of(VirtArm64::RTC), Pl031::new(now), line)
    }
}
