//! What every architecture says of its machines. The README's table counts these.

use super::*;
use crate::{MmioWindow, SystemAllocator};
use firstlight_base::{GpaRange, MIB};
use firstlight_boot::Pc;
use firstlight_boot::platform::{VirtArm64, VirtRiscv64};

/// The memory of the machines here.
const MEMORY: u64 = 512 * MIB;

fn x86_64() -> Pc {
    let mut pc = Pc::new(MEMORY, 4);
    pc.pci = Some(Pc::PCI);
    pc
}

fn aarch64() -> VirtArm64 {
    let mut virt = VirtArm64::new(MEMORY, 4);
    virt.pci = Some(virt.pci_windows());
    virt
}

fn riscv64() -> VirtRiscv64 {
    let mut virt = VirtRiscv64::new(MEMORY, 4);
    virt.pci = Some(virt.pci_windows());
    virt
}

/// RAM is all there, in order, and the windows of the bus are elsewhere.
fn check_arch_memory_layout<A: LinuxArch>(platform: &A::Platform) {
    let layout = A::arch_memory_layout(platform);
    let sum: u64 = layout.ram.iter().map(|ram| ram.len()).sum();
    assert!(sum <= MEMORY && sum > MEMORY - MIB, "{sum:#x}");
    assert!(layout.ram.is_sorted_by(|a, b| a.end() <= b.start()));
    let pci = layout.pci.expect("the machine has a bus");
    let windows = [Some(pci.ecam), Some(pci.memory32), pci.memory64];
    for window in windows.into_iter().flatten() {
        let mut ram = layout.ram.iter();
        assert!(ram.all(|ram| ram.intersection(window).is_none()));
    }
}

/// The pieces are in order, for one thing each, and make up all that is mapped.
fn check_guest_memory_layout<A: LinuxArch>(platform: &A::Platform) {
    let layout = A::arch_memory_layout(platform);
    let regions = A::guest_memory_layout(&layout);
    assert!(regions.is_sorted_by(|a, b| a.range.end() <= b.range.start()));
    let len = |ranges: &[GpaRange]| -> u64 { ranges.iter().map(|range| range.len()).sum() };
    assert_eq!(len(&mapped(&regions)), len(&layout.ram));
    for region in &regions {
        let is_cut_out = |reserved: &GpaRange| reserved.intersection(region.range).is_some();
        let is_reserved = layout.reserved.iter().any(is_cut_out);
        let purpose = match is_reserved {
            true => MemoryPurpose::Reserved,
            false => MemoryPurpose::Ram,
        };
        assert_eq!(region.purpose, purpose, "{region:?}");
    }
}

/// There is a window for BARs, and one of 64 bits where the bus has that; they are away from memory,
/// and no two overlap.
fn check_get_system_allocator_config<A: LinuxArch>(platform: &A::Platform) {
    let config = A::get_system_allocator_config(platform);
    let layout = A::arch_memory_layout(platform);
    let low = config.window(MmioWindow::Low);
    assert!(low.is_some(), "{config:?}");
    let windows = [low, config.window(MmioWindow::High)];
    for window in windows.into_iter().flatten() {
        let mut ram = layout.ram.iter();
        assert!(ram.all(|ram| ram.intersection(window).is_none()));
    }
    SystemAllocator::new(config).expect("no two windows overlap");
}

#[test]
fn x86_64_arch_memory_layout() {
    check_arch_memory_layout::<X8664>(&x86_64());
}

#[test]
fn x86_64_guest_memory_layout() {
    check_guest_memory_layout::<X8664>(&x86_64());
}

#[test]
fn x86_64_get_system_allocator_config() {
    check_get_system_allocator_config::<X8664>(&x86_64());
}

#[test]
fn aarch64_arch_memory_layout() {
    check_arch_memory_layout::<Aarch64>(&aarch64());
}

#[test]
fn aarch64_guest_memory_layout() {
    check_guest_memory_layout::<Aarch64>(&aarch64());
}

#[test]
fn aarch64_get_system_allocator_config() {
    check_get_system_allocator_config::<Aarch64>(&aarch64());
}

#[test]
fn riscv64_arch_memory_layout() {
    check_arch_memory_layout::<Riscv64>(&riscv64());
}

#[test]
fn riscv64_guest_memory_layout() {
    check_guest_memory_layout::<Riscv64>(&riscv64());
}

#[test]
fn riscv64_get_system_allocator_config() {
    check_get_system_allocator_config::<Riscv64>(&riscv64());
}
