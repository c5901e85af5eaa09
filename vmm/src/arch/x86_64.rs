//! x86-64: a PC.

use super::memory::{ArchMemoryLayout, GuestMemoryRegion, regions};
use super::{Chipset, Irqchips, LinuxArch, Wiring};
use crate::board::serial::{Ns16550, Trigger};
use crate::board::{Place, now};
use crate::{IrqchipError, IrqchipMode, RunError, SystemAllocatorConfig};
use firstlight_base::{GpaRange, Irq, Port};
use firstlight_boot::Pc;
use firstlight_devices::pci::{HostBridge, LpcBridge};
use firstlight_devices::{
    AcpiRegs, Cmos, DebugExit, Debugcon, FlashBus, FwCfg, I8042, PowerManagement, Pvpanic,
    SuspendNotice,
};
use firstlight_hv::{Features, Irqchip};
use std::time::{Duration, Instant};

/// The architecture of PCs.
#[derive(Clone, Copy, Debug)]
pub struct X8664;

impl LinuxArch for X8664 {
    type Platform = Pc;

    const PCI_CONFIG: Option<Port> = Some(Pc::PCI_CONFIG);

    fn arch_memory_layout(pc: &Pc) -> ArchMemoryLayout {
        let (start, end) = Pc::LEGACY_HOLE;
        let mut reserved = pc.reserved.clone();
        reserved.extend(GpaRange::between(start, end));
        reserved.sort_unstable();
        ArchMemoryLayout {
            ram: pc.ram.clone(),
            reserved,
            virtio: pc.virtio,
            pci: pc.pci,
        }
    }

    fn guest_memory_layout(layout: &ArchMemoryLayout) -> Vec<GuestMemoryRegion> {
        regions(layout)
    }

    fn get_system_allocator_config(pc: &Pc) -> SystemAllocatorConfig {
        super::allocation::config(pc.pci.as_ref(), Some((Port(0), 0x1_0000)), (Irq(0), 24))
    }

    fn irqchip(_pc: &Pc, mode: IrqchipMode) -> Result<Irqchips, IrqchipError> {
        Ok(match mode {
            IrqchipMode::Kernel => Irqchips::Supplied(Irqchip::Pc),
            IrqchipMode::Split => Irqchips::Supplied(Irqchip::LocalApics),
            IrqchipMode::User => Irqchips::Apics,
        })
    }

    fn chipset(pc: &Pc) -> Chipset {
        if pc.flash.is_none() {
            return Chipset::default();
        }
        let lpc = LpcBridge::new(Pc::POWER_MANAGEMENT.0);
        Chipset {
            host_bridge: HostBridge::q35(),
            lpc_bridge: Some((Pc::LPC_BRIDGE, lpc)),
        }
    }

    fn vcpu_features(_pc: &Pc) -> Features {
        Features::default()
    }

    fn wire(pc: &Pc, wiring: &mut Wiring<'_>) -> Result<(), RunError> {
        if pc.fw_cfg {
            wiring.attach_fw_cfg(Place::Ports(Pc::FW_CFG, FwCfg::PORTS));
        }
        wiring.attach_flash(FlashBus::Narrow);
        if pc.battery {
            wiring.attach_battery(Place::of(Pc::BATTERY), Pc::BATTERY_IRQ)?;
        }
        let debugcon = wiring.debugcon.take();
        let suspension = wiring.suspension.take().filter(|_| pc.suspend_notice);
        let Wiring { board, lines, .. } = wiring;
        for port in &pc.serial {
            let chip = Ns16550::new(Trigger::Edge);
            let place = Place::Ports(port.base, Ns16550::REGISTERS);
            board.attach_serial(place, chip, lines(port.irq)?);
        }
        board.attach_chip(Place::Ports(Pc::CMOS, 2), Cmos::new(now));
        board.attach_chip(Place::Ports(Pc::PVPANIC, 1), Pvpanic);
        if let Some(port) = pc.debug_exit {
            board.attach_chip(Place::Ports(port, 1), DebugExit);
        }
        if let Some(mut output) = debugcon {
            let chip = Debugcon::new(move |byte| output.say(&[byte]));
            board.attach_chip(Place::Ports(Pc::DEBUGCON, 1), chip);
        }
        if let Some(suspension) = suspension {
            let chip = SuspendNotice::new(move |is_suspended| suspension.tell(is_suspended));
            board.attach_chip(Place::Ports(Pc::SUSPEND_NOTICE, 1), chip);
        }
        if pc.flash.is_some() {
            let start = Instant::now();
            let chip = PowerManagement::new(move || start.elapsed());
            let ports = Place::Ports(
                Pc::POWER_MANAGEMENT,
                PowerManagement::<fn() -> Duration>::PORTS,
            );
            board.attach_chip(ports, chip);
        } else {
            board.attach_chip(Place::Ports(Pc::I8042_COMMAND, 1), I8042);
        }
        let power = AcpiRegs::new(Pc::ACPI_S5, Pc::ACPI_RESET_VALUE);
        board.attach_chip(Place::Mmio(Pc::ACPI_REGS, 3), power);
        Ok(())
    }
}
