//! 64-bit RISC-V: QEMU's `virt`.

use super::memory::{ArchMemoryLayout, GuestMemoryRegion, regions};
use super::{Irqchips, LinuxArch, Wiring};
use crate::board::serial::{Ns16550, Trigger};
use crate::board::{Place, now};
use crate::{IrqchipError, IrqchipMode, RunError, SystemAllocatorConfig};
use firstlight_base::Irq;
use firstlight_boot::platform::{RiscvIrqchip, VirtRiscv64};
use firstlight_devices::{Finisher, FlashBus, GoldfishRtc};
use firstlight_hv::{Aia, Features, Irqchip};

/// The 64-bit architecture of RISC-V.
#[derive(Clone, Copy, Debug)]
pub struct Riscv64;

impl LinuxArch for Riscv64 {
    type Platform = VirtRiscv64;

    fn arch_memory_layout(virt: &VirtRiscv64) -> ArchMemoryLayout {
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

    fn get_system_allocator_config(virt: &VirtRiscv64) -> SystemAllocatorConfig {
        super::allocation::config(virt.pci.as_ref(), None, (Irq(1), VirtRiscv64::SOURCES - 1))
    }

    fn irqchip(virt: &VirtRiscv64, mode: IrqchipMode) -> Result<Irqchips, IrqchipError> {
        mode.is_kernel("riscv64")?;
        Ok(match virt.irqchip {
            RiscvIrqchip::Plic => Irqchips::Plic,
            RiscvIrqchip::Aia => Irqchips::Supplied(Irqchip::Aia(Aia {
                aplic: VirtRiscv64::APLIC,
                imsics: VirtRiscv64::IMSICS,
                sources: VirtRiscv64::SOURCES,
                identities: VirtRiscv64::IMSIC_IDENTITIES,
            })),
        })
    }

    fn vcpu_features(_virt: &VirtRiscv64) -> Features {
        Features::default()
    }

    fn wire(virt: &VirtRiscv64, wiring: &mut Wiring<'_>) -> Result<(), RunError> {
        if virt.fw_cfg {
            wiring.attach_fw_cfg(Place::of(VirtRiscv64::FW_CFG));
        }
        if virt.battery {
            wiring.attach_battery(Place::of(VirtRiscv64::BATTERY), VirtRiscv64::BATTERY_IRQ)?;
        }
        wiring.attach_flash(FlashBus::Wide);
        let Wiring { board, lines, .. } = wiring;
        board.attach_chip(Place::of(VirtRiscv64::FINISHER), Finisher);
        let chip = Ns16550::new(Trigger::Level);
        let line = lines(VirtRiscv64::UART_IRQ)?;
        board.attach_serial(Place::of(VirtRiscv64::UART), chip, line);
        let line = lines(VirtRiscv64::RTC_IRQ)?;
        board.attach_clock(Place::of(VirtRiscv64::RTC), GoldfishRtc::new(now), line)
    }
}
