//! Machines' own trees, beside QEMU's and read by others.

use super::std::println;
use super::{NOTHING, TOLD, arm64, machines, riscv64, tools};
use crate::firmware::fdt::{FdtError, Told, blob, tree};
use crate::platform::{
    Cpu, Gic, OperatingPoint, Platform, RiscvIrqchip, Topology, VirtArm64, VirtRiscv64,
};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node as _, Property as _};
use firstlight_base::{Gpa, GpaRange, MIB};
use proptest::prelude::*;

fn read(platform: &Platform, told: &Told<'_>) -> DeviceTree {
    let bytes = tree(platform, told).expect("a machine");
    blob::parse(&bytes).expect("what was made")
}

fn value(tree: &DeviceTree, path: &str, name: &str) -> Option<Vec<u8>> {
    let property = tree.find_node(path)?.property(name)?;
    Some(property.value().to_vec())
}

fn words(tree: &DeviceTree, path: &str, name: &str) -> Option<Vec<u32>> {
    let value = value(tree, path, name)?;
    let words = value.as_chunks().0.iter();
    Some(words.map(|word| u32::from_be_bytes(*word)).collect())
}

/// What a node is, by its last and most general `compatible` and its registers, and what is said of it.
type Devices = BTreeMap<(String, Vec<u8>), BTreeMap<String, Vec<u8>>>;

/// Devices at all depths: what they are and where, and what is said of that.
fn devices(node: &DeviceTreeNode, devices: &mut Devices) {
    let get = |name| {
        node.property(name)
            .map(|property| property.value().to_vec())
    };
    if let (Some(compatible), Some(registers)) = (get("compatible"), get("reg")) {
        let names = String::from_utf8(compatible).expect("names");
        let last = names.trim_end_matches('\0').rsplit('\0').next();
        let said = [
            "interrupts",
            "ranges",
            "bus-range",
            "clock-frequency",
            "riscv,num-ids",
        ];
        let said = said
            .into_iter()
            .filter_map(|name| Some((name.to_string(), get(name)?)));
        devices.insert((last.unwrap_or_default().into(), registers), said.collect());
    }
    for child in node.children() {
        self::devices(child, devices);
    }
}

/// Compares the devices of a machine with those of QEMU's, which has more.
fn compare_with_qemu(platform: &Platform, program: [&str; 2], machine: &str) {
    println!("{machine}");
    let Some(theirs) = tools::qemu(program, machine) else {
        return;
    };
    let theirs = blob::parse(&theirs).expect("a tree of QEMU's");
    let (mut ours, mut qemus) = (Devices::new(), Devices::new());
    devices(&read(platform, &NOTHING).root, &mut ours);
    devices(&theirs.root, &mut qemus);
    // QEMU says which processor it emulates.
    ours.retain(|(compatible, _), _| compatible != "arm,armv8" && compatible != "riscv");
    assert!(ours.len() >= 5, "{ours:?}");
    for (device, said) in ours {
        assert_eq!(qemus.get(&device), Some(&said), "{device:?}");
    }
}

#[test]
fn devices_are_where_qemu_has_them() {
    let mut old = match arm64() {
        Platform::VirtArm64(machine) => machine,
        other => panic!("{other:?}"),
    };
    old.gic = Gic::V2;
    let program = ["qemu-system-aarch64", "max"];
    compare_with_qemu(&arm64(), program, "virt,gic-version=3,its=on");
    compare_with_qemu(&Platform::VirtArm64(old), program, "virt,gic-version=2");
    let program = ["qemu-system-riscv64", "rv64"];
    compare_with_qemu(&riscv64(RiscvIrqchip::Plic), program, "virt");
    compare_with_qemu(&riscv64(RiscvIrqchip::Aia), program, "virt,aia=aplic-imsic");
}

#[test]
fn a_kernel_finds_what_it_was_told() {
    let tree = read(&arm64(), &TOLD);
    let chosen = |name| value(&tree, "/chosen", name);
    assert_eq!(
        chosen("bootargs").as_deref(),
        Some(&b"console=ttyAMA0 panic=-1\0"[..])
    );
    let ends = [0x8800_0000_u64, 0x8812_3456].map(|end| Some(end.to_be_bytes().to_vec()));
    assert_eq!(["linux,initrd-start", "linux,initrd-end"].map(chosen), ends);
    assert_eq!(chosen("rng-seed"), Some(vec![7; 32]));
    assert_eq!(
        words(&tree, "/chosen", "kaslr-seed"),
        Some(vec![0x0123_4567, 0x89ab_cdef])
    );
    let console = value(&tree, "/chosen", "stdout-path").expect("a console");
    let console = String::from_utf8(console).expect("a path");
    let node = tree
        .find_node(console.trim_end_matches('\0'))
        .expect("it is there");
    assert_eq!(node.name(), "serial@9000000");
}

#[test]
fn what_was_not_told_is_not_there() {
    let tree = read(&arm64(), &NOTHING);
    let chosen = tree.find_node("/chosen").expect("it is there");
    let names: Vec<_> = chosen
        .properties()
        .map(|property| property.name().to_string())
        .collect();
    assert_eq!(names, ["stdout-path"]);
    assert!(tree.find_node("/__symbols__").is_none());
}

#[test]
fn hypervisors_are_called_past_and_told_of_their_interrupt() {
    for (el2, method, maintenance) in [
        (false, &b"hvc\0"[..], None),
        (true, b"smc\0", Some(vec![1, 9, 4])),
    ] {
        let machine = Platform::VirtArm64(VirtArm64 {
            el2,
            ..VirtArm64::new(512 * MIB, 1)
        });
        let tree = read(&machine, &NOTHING);
        assert_eq!(value(&tree, "/psci", "method").as_deref(), Some(method));
        let controller = "/interrupt-controller@8000000";
        assert_eq!(words(&tree, controller, "interrupts"), maintenance);
    }
}

#[test]
fn affinities_are_those_of_kvm() {
    let tree = read(
        &Platform::VirtArm64(VirtArm64::new(512 * MIB, 18)),
        &NOTHING,
    );
    let cpus = tree.find_node("/cpus").expect("there are some").children();
    let names: Vec<_> = cpus.map(|cpu| cpu.name().to_string()).collect();
    assert_eq!(names[15..19], ["cpu@f", "cpu@100", "cpu@101", "cpu-map"]);
    assert_eq!(words(&tree, "/cpus/cpu@101", "reg"), Some(vec![0x101]));
}

#[test]
fn harts_say_in_two_ways_what_they_are() {
    let mut machine = VirtRiscv64::new(512 * MIB, 1);
    let more = ["zba", "h", "sstc"].map(Into::into);
    machine.hart.isa.0.extend(more);
    machine.hart.cboz_block = Some(64);
    let tree = read(&Platform::VirtRiscv64(machine), &NOTHING);
    let cpu = |name| value(&tree, "/cpus/cpu@0", name);
    let isa = b"rv64imafdch_zicsr_zifencei_zba_sstc\0";
    assert_eq!(cpu("riscv,isa").as_deref(), Some(&isa[..]));
    assert_eq!(cpu("riscv,isa-base").as_deref(), Some(&b"rv64i\0"[..]));
    let extensions = b"i\0m\0a\0f\0d\0c\0zicsr\0zifencei\0zba\0h\0sstc\0";
    assert_eq!(
        cpu("riscv,isa-extensions").as_deref(),
        Some(&extensions[..])
    );
    assert_eq!(cpu("mmu-type").as_deref(), Some(&b"riscv,sv48\0"[..]));
    assert_eq!(
        words(&tree, "/cpus/cpu@0", "riscv,cboz-block-size"),
        Some(vec![64])
    );
    assert_eq!(cpu("riscv,cbom-block-size"), None);
    assert_eq!(
        words(&tree, "/cpus", "timebase-frequency"),
        Some(vec![10_000_000])
    );
}

#[test]
fn pins_of_pci_devices_end_at_lines_as_qemu_has_them() {
    for (platform, program, machine) in [
        (
            arm64(),
            ["qemu-system-aarch64", "max"],
            "virt,gic-version=max",
        ),
        (
            riscv64(RiscvIrqchip::Plic),
            ["qemu-system-riscv64", "rv64"],
            "virt,aia=none",
        ),
    ] {
        let Some(theirs) = tools::qemu(program, machine) else {
            return;
        };
        let theirs = blob::parse(&theirs).expect("a tree of QEMU's");
        let maps = [(read(&platform, &NOTHING), ""), (theirs, "/soc")].map(|(tree, at)| {
            let bridges = ["/pcie", "/pci"].map(|name| [at, name].concat());
            let found = bridges.into_iter().chain(["/pcie".into()]);
            let mut map = found
                .filter_map(|path| words(&tree, &path, "interrupt-map"))
                .next()
                .expect("a bridge");
            let one_line = map.len() / 16;
            // Controllers have other numbers.
            map.iter_mut()
                .skip(4)
                .step_by(one_line)
                .for_each(|handle| *handle = 0);
            map
        });
        assert_eq!(maps[0], maps[1], "{machine}");
    }
}

#[test]
fn vcpus_lie_in_the_clusters_they_were_put_into() {
    let mut machine = VirtArm64::new(512 * MIB, 4);
    machine.topology.clusters = vec![vec![3, 1]];
    let tree = read(&Platform::VirtArm64(machine), &NOTHING);
    let map = tree.find_node("/cpus/cpu-map").expect("a map");
    let handle = |number| words(&tree, &["/cpus/cpu@", number].concat(), "phandle");
    for (place, number) in [
        ("0/core0", "3"),
        ("0/core1", "1"),
        ("1/core0", "0"),
        ("1/core1", "2"),
    ] {
        let path = ["/cpus/cpu-map/cluster", place].concat();
        assert_eq!(words(&tree, &path, "cpu"), handle(number), "{path}");
    }
    assert_eq!(map.children().count(), 2);
}

#[test]
fn vcpus_that_are_not_there_are_refused() {
    let refused = |topology| {
        let mut machine = VirtRiscv64::new(512 * MIB, 2);
        machine.topology = topology;
        tree(&Platform::VirtRiscv64(machine), &NOTHING).expect_err("it is wrong")
    };
    let cpu = |number| Cpu {
        number,
        ..Cpu::default()
    };
    let (number, count) = (2, 2);
    let clusters = |clusters| Topology {
        clusters,
        cpus: vec![],
    };
    let cpus = |cpus| Topology {
        clusters: vec![],
        cpus,
    };
    let missing = FdtError::NoSuchCpu { number, count };
    assert_eq!(refused(clusters(vec![vec![0], vec![2]])), missing);
    assert_eq!(refused(cpus(vec![cpu(2)])), missing);
    let (number, what) = (1, "put into a cluster");
    let twice = FdtError::CpuTwice { number, what };
    assert_eq!(refused(clusters(vec![vec![1], vec![1]])), twice);
    let (number, what) = (0, "described");
    let twice = FdtError::CpuTwice { number, what };
    assert_eq!(refused(cpus(vec![cpu(0), cpu(0)])), twice);
}

#[test]
fn operating_points_ascend() {
    let mut machine = VirtArm64::new(512 * MIB, 1);
    let point = |hz| OperatingPoint {
        hz,
        microvolts: None,
    };
    machine.topology.cpus = vec![Cpu {
        operating_points: vec![point(2), point(2)],
        ..Cpu::default()
    }];
    let expected = FdtError::OperatingPoints {
        number: 0,
        hz: 2,
        before: 2,
    };
    assert_eq!(tree(&Platform::VirtArm64(machine), &NOTHING), Err(expected));
}

#[test]
fn a_pc_has_no_device_tree() {
    let pc = Platform::Pc(crate::Pc::new(512 * MIB, 1));
    assert_eq!(tree(&pc, &NOTHING), Err(FdtError::Pc));
}

/// The same tree, written by vm-fdt.
fn written_by_vm_fdt(tree: &DeviceTree) -> Vec<u8> {
    fn write(writer: &mut vm_fdt::FdtWriter, node: &DeviceTreeNode) {
        let open = writer.begin_node(node.name()).expect("a name");
        for property in node.properties() {
            writer
                .property(property.name(), property.value())
                .expect("a property");
        }
        node.children().for_each(|child| write(writer, child));
        writer.end_node(open).expect("it was begun");
    }
    let mut writer = vm_fdt::FdtWriter::new().expect("a writer");
    write(&mut writer, &tree.root);
    writer.finish().expect("a tree")
}

#[test]
fn other_writers_and_readers_mean_the_same_by_it() {
    for machine in machines() {
        let bytes = tree(&machine, &TOLD).expect("a machine");
        let ours = blob::parse(&bytes).expect("what was made");
        let fdt = Fdt::new(&bytes).expect("what was made");
        assert_eq!(DeviceTree::from_fdt(&fdt), ours);
        let theirs = written_by_vm_fdt(&ours);
        assert_eq!(blob::parse(&theirs), Ok(ours));
    }
}

proptest! {
    #[test]
    fn every_machine_has_a_tree_that_says_what_it_is(
        memory in 4_u64..0x10_0000,
        cpus in 1_u32..=64,
        (initrd, reserved) in (0_u64..0x1000, 0_u64..0x1000),
        seed: u64,
        is_arm64: bool,
    ) {
        let memory = memory * MIB;
        let base = if is_arm64 { VirtArm64::RAM_BASE } else { VirtRiscv64::RAM_BASE };
        let range = |page: u64| GpaRange::new(Gpa::new(base.get() + page * 0x1000), 0x1000 + page);
        let reserved: Vec<_> = range(reserved).into_iter().collect();
        let machine = if is_arm64 {
            let mut machine = VirtArm64::new(memory, cpus);
            machine.pci = Some(machine.pci_windows());
            machine.reserved = reserved;
            Platform::VirtArm64(machine)
        } else {
            let mut machine = VirtRiscv64::new(memory, cpus);
            machine.pci = Some(machine.pci_windows());
            machine.reserved = reserved;
            Platform::VirtRiscv64(machine)
        };
        let seed_bytes = seed.to_le_bytes();
        let told = Told {
            initrd: range(initrd),
            kaslr_seed: Some(seed),
            rng_seed: &seed_bytes,
            ..NOTHING
        };
        let bytes = tree(&machine, &told).expect("a machine");
        let other = Told { initrd: range(0), kaslr_seed: Some(1), rng_seed: &[0; 8], ..NOTHING };
        prop_assert_eq!(bytes.len(), tree(&machine, &other).expect("a machine").len());

        let fdt = Fdt::new(&bytes).expect("what was made");
        let all = fdt.cpus().expect("/cpus");
        prop_assert_eq!(all.cpus().count(), cpus as usize);
        let register = fdt.memory().expect("/memory").reg().expect("a register").expect("one").next();
        let register = register.expect("one");
        prop_assert_eq!(register.address::<u64>(), Ok(base.get()));
        prop_assert_eq!(register.size::<u64>(), Ok(memory));
        let chosen = fdt.chosen().expect("/chosen");
        let end = chosen.property("linux,initrd-end").expect("an end").value_as::<u64>();
        prop_assert_eq!(end, Ok(range(initrd).expect("a range").end().get()));
        let kept = fdt.find_node("/reserved-memory").expect("it is there");
        let kept = kept.children().next().expect("one range");
        prop_assert!(kept.property("no-map").is_some());
        let register: Vec<_> = kept.property("reg").expect("a register").value().to_vec();
        let expected = &machine.reserved()[0];
        let expected = [expected.start().get(), expected.len()].map(u64::to_be_bytes);
        prop_assert_eq!(&register[..], expected.as_flattened());
    }
}
