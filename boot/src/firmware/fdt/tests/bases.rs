//! Trees that take the place of a machine's own.

use super::{NOTHING, TOLD, arm64, riscv64, tools};
use crate::firmware::fdt::{BlobError, FdtError, Told, blob, tree};
use crate::platform::{Platform, RiscvIrqchip, VirtRiscv64};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use dtoolkit::model::DeviceTree;
use dtoolkit::{Node as _, Property as _};
use firstlight_base::{GIB, GpaRange};

/// What becomes of a tree that is given for a machine's own.
fn told(machine: &Platform, source: &str, told: &Told<'_>) -> Option<Result<DeviceTree, FdtError>> {
    let base = tools::compiled(&format!("/dts-v1/; {source}"))?;
    let base = Some(base.as_slice());
    let bytes = tree(machine, &Told { base, ..*told });
    Some(bytes.map(|bytes| blob::parse(&bytes).expect("what was made")))
}

fn value(tree: &DeviceTree, path: &str, name: &str) -> Option<Vec<u8>> {
    let property = tree.find_node(path)?.property(name)?;
    Some(property.value().to_vec())
}

/// The riscv64 machine, whose firmware's memory is reserved.
fn reserving() -> Platform {
    match riscv64(RiscvIrqchip::Plic) {
        Platform::VirtRiscv64(mut machine) => {
            let firmware = GpaRange::new(VirtRiscv64::RAM_BASE, 0x4_0000);
            machine.reserved.extend(firmware);
            Platform::VirtRiscv64(machine)
        }
        other => other,
    }
}

#[test]
fn a_tree_keeps_what_the_boot_protocol_has_no_say_in() {
    let source = "/ { #address-cells = <2>; #size-cells = <2>; model = \"mine\";
        chosen { stdout-path = \"/x\"; bootargs = \"old\"; };
        memory@0 { device_type = \"memory\"; reg = <0 0 0 1>; };
        ram { device_type = \"memory\"; };
        reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges; old { }; }; };";
    let Some(tree) = told(&reserving(), source, &TOLD) else {
        return;
    };
    let tree = tree.expect("a tree");
    assert_eq!(value(&tree, "/", "model").as_deref(), Some(&b"mine\0"[..]));
    let path = value(&tree, "/chosen", "stdout-path");
    assert_eq!(path.as_deref(), Some(&b"/x\0"[..]));
    let bootargs = value(&tree, "/chosen", "bootargs");
    assert_eq!(
        bootargs.as_deref(),
        Some(&b"console=ttyAMA0 panic=-1\0"[..])
    );
    assert!(tree.find_node("/reserved-memory/old").is_some());
    assert!(value(&tree, "/reserved-memory/reserved@80000000", "no-map").is_some());
    let names: Vec<_> = tree.root.children().map(|node| node.name()).collect();
    assert_eq!(names, ["chosen", "reserved-memory", "memory@80000000"]);
}

#[test]
fn a_tree_forgets_what_it_was_told_before() {
    let source =
        "/ { chosen { bootargs = \"old\"; linux,initrd-start = <1>; linux,initrd-end = <2>;
        kaslr-seed = <1 2>; rng-seed = <3>; }; };";
    let Some(tree) = told(&arm64(), source, &NOTHING) else {
        return;
    };
    let tree = tree.expect("a tree");
    let chosen = tree.find_node("/chosen").expect("it was there");
    let names: Vec<_> = chosen
        .properties()
        .map(|property| property.name().to_string())
        .collect();
    assert_eq!(names, ["bootargs"]);
}

#[test]
fn addresses_are_said_in_as_many_words_as_the_tree_has() {
    for (cells, register) in [
        (
            "#address-cells = <1>; #size-cells = <1>;",
            "40000000 20000000",
        ),
        ("", "0 40000000 20000000"),
        (
            "#address-cells = <3>; #size-cells = <2>;",
            "0 0 40000000 0 20000000",
        ),
    ] {
        let Some(tree) = told(&arm64(), &format!("/ {{ {cells} }};"), &NOTHING) else {
            return;
        };
        let tree = tree.expect("a tree");
        let value = value(&tree, "/memory@40000000", "reg").expect("memory");
        let words = value
            .as_chunks()
            .0
            .iter()
            .map(|word| u32::from_be_bytes(*word));
        let words: Vec<_> = words.map(|word| format!("{word:x}")).collect();
        assert_eq!(words.join(" "), register);
    }
}

#[test]
fn addresses_that_a_tree_cannot_say_are_refused() {
    for cells in [
        "#address-cells = <1>; #size-cells = <1>;",
        "#address-cells = <0>;",
        "#address-cells = <5>;",
        "#address-cells = <0xffffffff>;",
        "#address-cells;",
    ] {
        let mut machine = VirtRiscv64::new(4 * GIB, 1);
        machine.reserved.clear();
        let machine = Platform::VirtRiscv64(machine);
        match told(&machine, &format!("/ {{ {cells} }};"), &NOTHING) {
            Some(Err(FdtError::Cells { range, .. })) => assert_eq!(range.len(), 4 * GIB),
            Some(other) => panic!("{cells}: {other:?}"),
            None => return,
        }
    }
}

#[test]
fn reserved_memory_that_linux_would_not_read_is_refused() {
    let source = "/ { reserved-memory { #address-cells = <1>; #size-cells = <1>; }; };";
    if let Some(tree) = told(&reserving(), source, &NOTHING) {
        assert_eq!(tree, Err(FdtError::ReservedCells));
    }
}

#[test]
fn what_is_no_tree_is_refused_by_its_defect() {
    let base = Some(&b"\xd0\x0d\xfe\xedmore"[..]);
    let error = tree(&arm64(), &Told { base, ..NOTHING });
    let defect = BlobError::Ends {
        what: "header",
        at: 0,
    };
    assert_eq!(error, Err(FdtError::Base(defect)));
}
