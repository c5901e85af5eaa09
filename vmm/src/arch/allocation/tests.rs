//! Machines of all architectures, and who has what of them.

use super::*;
use firstlight_base::MIB;
use firstlight_boot::Pc;
use firstlight_boot::platform::{Gic, RiscvIrqchip, VirtArm64, VirtRiscv64};

/// Every kind of machine, with a bus.
fn machines() -> Vec<Platform> {
    let mut pc = Pc::new(5 << 30, 4);
    pc.pci = Some(Pc::PCI);
    pc.debug_exit = Some(Pc::DEBUG_EXIT);
    (pc.battery, pc.suspend_notice) = (true, true);
    let mut machines = vec![Platform::Pc(pc)];
    for gic in [Gic::V2, Gic::V3 { its: true }] {
        let mut virt = VirtArm64::new(512 * MIB, 8);
        virt.pci = Some(virt.pci_windows());
        virt.gic = gic;
        virt.battery = true;
        machines.push(Platform::VirtArm64(virt));
    }
    for irqchip in [RiscvIrqchip::Plic, RiscvIrqchip::Aia] {
        let mut virt = VirtRiscv64::new(512 * MIB, 8);
        virt.pci = Some(virt.pci_windows());
        virt.irqchip = irqchip;
        virt.battery = true;
        machines.push(Platform::VirtRiscv64(virt));
    }
    machines
}

/// The same with all of their virtio transports.
fn with_transports(platform: &Platform) -> (Platform, usize) {
    let mut platform = platform.clone();
    let row = match &mut platform {
        Platform::Pc(pc) => pc.virtio.insert(Pc::VIRTIO),
        Platform::VirtArm64(virt) => virt.virtio.insert(VirtArm64::VIRTIO),
        Platform::VirtRiscv64(virt) => virt.virtio.insert(VirtRiscv64::VIRTIO),
    };
    let count = usize::try_from(row.count).unwrap();
    (platform, count)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("disk {number}")).collect()
}

#[test]
fn no_two_devices_of_any_machine_share_anything() {
    for platform in machines() {
        let allocation = allocate(&platform, &[], 0).unwrap();
        assert!(allocation.allocator.mmio().count() > 0);
        let (full, count) = with_transports(&platform);
        let allocation = allocate(&full, &names(count), 0).unwrap();
        assert_eq!(allocation.seats.len(), count);
    }
}

#[test]
fn a_bus_has_room_for_31_devices_and_ports_are_among_them() {
    for platform in machines() {
        let allocation = allocate(&platform, &names(29), 2).unwrap();
        let first = Address::new(0, 1, 0).unwrap();
        assert_eq!(allocation.seats.first(), Some(&Seat::Function(first)));
        let last = Address::new(0, 31, 0).unwrap();
        assert_eq!(allocation.ports.last(), Some(&last));
        assert!(allocate(&platform, &names(30), 2).is_err());
    }
}

#[test]
fn three_hundred_devices_are_refused_by_what_there_is_no_room_for() {
    for platform in machines() {
        let error = allocate(&platform, &names(300), 0).unwrap_err().to_string();
        assert!(error.contains("disk 31"), "{error}");
    }
}

#[test]
fn without_a_bus_there_is_no_place() {
    let platform = Platform::Pc(Pc::new(512 * MIB, 1));
    let error = allocate(&platform, &names(1), 0).unwrap_err().to_string();
    assert!(error.contains("disk 0"), "{error}");
    assert!(allocate(&platform, &[], 3).unwrap().ports.is_empty());
}

#[test]
fn what_goes_into_transports_has_their_registers_and_lines() {
    let mut pc = Pc::new(512 * MIB, 1);
    pc.virtio = Pc::VIRTIO.first(2);
    let allocation = allocate(&Platform::Pc(pc), &names(2), 0).unwrap();
    assert_eq!(allocation.seats, [Seat::Transport(0), Seat::Transport(1)]);
    let mut irqs = allocation.allocator.irqs();
    assert!(irqs.any(|held| held == (Irq(17), "disk 1")));
    let mut mmio = allocation.allocator.mmio();
    let registers = Pc::VIRTIO.transport(1).unwrap().0;
    assert!(mmio.any(|held| held == (registers, "disk 1")));
}
