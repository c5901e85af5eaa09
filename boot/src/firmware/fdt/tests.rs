//! Trees of all sorts of machines, as this project and others read them.

extern crate std;

mod bases;
mod hostile;
mod machines;
mod overlays;
mod tools;

use super::{Told, tree};
use crate::platform::{
    Cpu, Gic, OperatingPoint, Platform, RiscvIrqchip, Topology, VirtArm64, VirtRiscv64,
};
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange, MIB};

const NOTHING: Told<'_> = Told {
    bootargs: "",
    initrd: None,
    rng_seed: &[],
    kaslr_seed: None,
    base: None,
    overlays: &[],
};

const TOLD: Told<'_> = Told {
    bootargs: "console=ttyAMA0 panic=-1",
    initrd: GpaRange::new(Gpa::new(0x8800_0000), 0x12_3456),
    rng_seed: &[7; 32],
    kaslr_seed: Some(0x0123_4567_89ab_cdef),
    ..NOTHING
};

fn topology() -> Topology {
    let points = |hz: &[u64]| -> Vec<_> {
        hz.iter()
            .map(|&hz| OperatingPoint {
                hz,
                microvolts: (hz > 1_000_000_000).then_some(900_000),
            })
            .collect()
    };
    Topology {
        clusters: vec![vec![0, 2], vec![], vec![3]],
        cpus: vec![
            Cpu {
                number: 2,
                capacity: Some(1024),
                operating_points: points(&[800_000_000, 2_400_000_000]),
            },
            Cpu {
                number: 0,
                capacity: Some(512),
                operating_points: points(&[800_000_000]),
            },
            Cpu {
                number: 3,
                capacity: None,
                operating_points: points(&[800_000_000]),
            },
        ],
    }
}

/// An arm64 machine with all that it can have.
fn arm64() -> Platform {
    let mut machine = VirtArm64::new(512 * MIB, 2);
    machine.fw_cfg = true;
    machine.virtio = Some(VirtArm64::VIRTIO);
    machine.pci = Some(machine.pci_windows());
    Platform::VirtArm64(machine)
}

/// The same of riscv64.
fn riscv64(irqchip: RiscvIrqchip) -> Platform {
    let mut machine = VirtRiscv64::new(512 * MIB, 2);
    machine.fw_cfg = true;
    machine.virtio = Some(VirtRiscv64::VIRTIO);
    machine.pci = Some(machine.pci_windows());
    machine.irqchip = irqchip;
    Platform::VirtRiscv64(machine)
}

/// Every kind of machine.
fn machines() -> Vec<Platform> {
    let mut machines = vec![];
    for gic in [Gic::V2, Gic::V3 { its: false }, Gic::V3 { its: true }] {
        for (el2, pmu) in [(false, true), (true, false)] {
            let mut machine = VirtArm64::new(512 * MIB, 5);
            machine.virtio = Some(VirtArm64::VIRTIO).filter(|_| pmu);
            machine.pci = Some(machine.pci_windows()).filter(|_| pmu);
            machine.battery = pmu;
            machine.topology = topology();
            (machine.gic, machine.el2, machine.pmu) = (gic, el2, pmu);
            machines.push(Platform::VirtArm64(machine));
        }
    }
    for irqchip in [RiscvIrqchip::Plic, RiscvIrqchip::Aia] {
        for full in [false, true] {
            let mut machine = VirtRiscv64::new(512 * MIB, 5);
            machine.virtio = Some(VirtRiscv64::VIRTIO).filter(|_| full);
            machine.pci = Some(machine.pci_windows()).filter(|_| full);
            machine.battery = full;
            machine.topology = topology();
            machine.irqchip = irqchip;
            machine.hart.cbom_block = full.then_some(64);
            machine.reserved = GpaRange::new(VirtRiscv64::RAM_BASE, 0x4_0000)
                .into_iter()
                .collect();
            machines.push(Platform::VirtRiscv64(machine));
        }
    }
    machines
}

#[test]
fn dtc_has_nothing_to_say_of_any_machine() {
    for machine in machines() {
        for told in [NOTHING, TOLD] {
            let tree = tree(&machine, &told).expect("a machine");
            let Some(text) = tools::decompiled(&tree) else {
                return;
            };
            let again = tools::compiled(&text).expect("it is there");
            assert_eq!(tools::decompiled_anyhow(&again).expect("it is there"), text);
        }
    }
}

#[test]
fn a_battery_is_told_of_where_there_is_one() {
    let is_told = |machine: &Platform| {
        let tree = tree(machine, &NOTHING).expect("a machine");
        let name = b"google,goldfish-battery\0";
        tree.windows(name.len()).any(|bytes| bytes == name)
    };
    let mut arm64 = VirtArm64::new(512 * MIB, 1);
    let mut riscv64 = VirtRiscv64::new(512 * MIB, 1);
    for is_there in [false, true] {
        (arm64.battery, riscv64.battery) = (is_there, is_there);
        assert_eq!(is_told(&Platform::VirtArm64(arm64.clone())), is_there);
        assert_eq!(is_told(&Platform::VirtRiscv64(riscv64.clone())), is_there);
    }
}
