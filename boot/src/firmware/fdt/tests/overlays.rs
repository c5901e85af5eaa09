//! Overlays, as libfdt applies them, and such as nobody can apply.

use super::std::println;
use super::{NOTHING, arm64, tools};
use crate::firmware::fdt::{
    BlobError, FdtError, OverlayError, Told, blob, compile, machine, overlay, tree,
};
use crate::request::Overlay;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use dtoolkit::model::DeviceTree;
use dtoolkit::{Node as _, Property as _};

const NAME: &str = "one.dtbo";

fn plugin(source: &str) -> Option<Vec<u8>> {
    tools::compiled(&format!("/dts-v1/; /plugin/; {source}"))
}

/// A machine's tree with labels, and nothing told.
fn labelled() -> Vec<u8> {
    let told = Told {
        overlays: &[Overlay {
            name: String::new(),
            bytes: vec![],
        }],
        ..NOTHING
    };
    machine(&arm64(), &told).expect("a machine").to_dtb()
}

/// What becomes of the tree `base` with overlays over it.
fn over(base: &[u8], overlays: &[Vec<u8>]) -> Result<DeviceTree, OverlayError> {
    let mut tree = blob::parse(base).expect("a tree");
    for bytes in overlays {
        overlay::apply(&mut tree, bytes)?;
    }
    Ok(tree)
}

/// Compares what is made of overlays with what libfdt makes of them.
fn compare(name: &str, sources: &[&str]) {
    println!("{name}");
    let overlays: Option<Vec<_>> = sources.iter().map(|source| plugin(source)).collect();
    let Some(overlays) = overlays else { return };
    let Some(theirs) = tools::overlaid(name, &labelled(), &overlays) else {
        return;
    };
    let ours = over(&labelled(), &overlays).expect("overlays");
    assert_eq!(
        tools::decompiled_anyhow(&ours.to_dtb()),
        tools::decompiled_anyhow(&theirs)
    );
}

/// What is wrong with an overlay of a machine's tree.
fn refusal(source: &str) -> Option<OverlayError> {
    let bytes = plugin(source)?;
    let name = NAME.into();
    let told = Told {
        overlays: &[Overlay { name, bytes }],
        ..NOTHING
    };
    match tree(&arm64(), &told) {
        Err(FdtError::Overlay { name, source }) if name == NAME => Some(source),
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    }
}

#[test]
fn what_libfdt_makes_of_overlays_is_made_of_them() {
    compare(
        "labels",
        &["&uart0 { status = \"disabled\"; }; &gic { a = <&its &uart0 1 &gic>; };"],
    );
    compare(
        "paths",
        &["&{/chosen} { a = \"b\"; below { c; }; }; &{/} { model = \"another\"; new@1 { }; };"],
    );
    compare(
        "aliases",
        &["/ { fragment@7 { target-path = \"serial0\"; __overlay__ { a = <&rtc>; }; }; };"],
    );
    compare(
        "nodes-of-its-own",
        &["&{/} { one: one { b = <1 &two>; }; two: two { b = <&one &rtc>; below { }; }; };"],
    );
    compare(
        "a-node-that-it-adds",
        &["&{/} { one: one { }; }; &one { a; };"],
    );
    compare(
        "nodes-of-one-before",
        &[
            "&{/} { one: one { two: two@2 { }; }; };",
            "&two { a = <&one>; three { b = <&uart0>; }; }; &one { c; };",
        ],
    );
    compare(
        "beside",
        &["/ { other; unused { a = <&gic>; }; }; &gic { a; };"],
    );
}

#[test]
fn a_node_keeps_its_phandle() {
    let sources = (
        tools::compiled("/dts-v1/; / { y { a = <&x>; }; x: x { }; };"),
        plugin("&{/} { x: x { b; }; z { a = <&x>; }; };"),
    );
    let (Some(base), Some(plugin)) = sources else {
        return;
    };
    let tree = over(&base, &[plugin]).expect("an overlay");
    let x = tree.find_node("/x").expect("it was there");
    let handle = x.property("phandle").expect("it had one");
    for path in ["/y", "/z"] {
        let node = tree.find_node(path).expect("it is there");
        let reference = node.property("a").expect("a reference");
        assert_eq!(reference.value(), handle.value(), "{path}");
    }
    assert!(x.property("b").is_some());
}

#[test]
fn a_node_that_is_referred_to_by_label_needs_no_phandle() {
    let base = "/dts-v1/; / { x { }; __symbols__ { x = \"/x\"; }; };";
    let sources = (tools::compiled(base), plugin("&x { a = <&x>; };"));
    let (Some(base), Some(plugin)) = sources else {
        return;
    };
    let tree = over(&base, &[plugin]).expect("an overlay");
    let x = tree.find_node("/x").expect("it was there");
    let [handle, reference] = ["phandle", "a"].map(|name| x.property(name).expect("it is there"));
    assert_eq!(reference.value(), handle.value());
}

#[test]
fn an_unknown_label_is_named() {
    let Some(error) = refusal("&uart7 { };") else {
        return;
    };
    let labelled = true;
    let label = "uart7".into();
    assert_eq!(error, OverlayError::NoLabel { label, labelled });
}

#[test]
fn a_tree_without_labels_is_called_so() {
    let Some(plugin) = plugin("&uart0 { };") else {
        return;
    };
    let bare = tree(&arm64(), &NOTHING).expect("a machine");
    let error = over(&bare, &[plugin]).expect_err("there are no labels");
    assert_eq!(
        error.to_string(),
        "it refers to uart0, but the tree has no labels (dtc keeps them with -@)"
    );
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let Some(error) = refusal("&{/soc/i2c@1} { };") else {
        return;
    };
    let text = "its fragment@0 is for /soc/i2c@1, which is not in the tree";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_tree_that_is_no_overlay_is_called_so() {
    let Some(error) = refusal("/ { chosen { }; };") else {
        return;
    };
    assert_eq!(error, OverlayError::NoFragments);
}

#[test]
fn references_lie_where_they_can() {
    for fixups in [
        "__fixups__ { gic = \"/fragment@0:target:2\"; };",
        "__fixups__ { gic = \"/fragment@0:target\"; };",
        "__fixups__ { gic = \"/fragment@0:target:0\", \"\"; };",
        "__fixups__ { gic = \"/fragment@1:target:0\"; };",
        "__fixups__ { gic = \"/fragment@0:none:0\"; };",
        "__fixups__ { gic = \"/fragment@0:target:18446744073709551615\"; };",
        "__local_fixups__ { fragment@0 { target = <1>; }; };",
        "__local_fixups__ { fragment@0 { target = <0xffffffff>; }; };",
        "__local_fixups__ { fragment@0 { target = [00 00]; }; };",
        "__local_fixups__ { fragment@1 { target = <0>; }; };",
    ] {
        let fragment = "fragment@0 { target = <1>; __overlay__ { }; };";
        let source = format!("/ {{ {fragment} {fixups} }};");
        match refusal(&source) {
            Some(OverlayError::Place { place }) => println!("{fixups}: {place}"),
            Some(error) => panic!("{fixups}: {error}"),
            None => return,
        }
    }
}

#[test]
fn numbers_for_nodes_run_out() {
    let sources = (
        tools::compiled("/dts-v1/; / { phandle = <0xfffffffd>; };"),
        plugin("&{/} { one: one { }; two: two { }; };"),
    );
    let (Some(base), Some(plugin)) = sources else {
        return;
    };
    let error = over(&base, &[plugin]).expect_err("there is one number left");
    let highest = 0xffff_fffd;
    assert_eq!(error, OverlayError::Handles { highest });
}

#[test]
fn a_tree_that_grows_too_long_is_refused_with_the_overlay_that_made_it_so() {
    let Some(bytes) = plugin("&{/} { };") else {
        return;
    };
    let mut plugin = blob::parse(&bytes).expect("what dtc made");
    let content = plugin.find_node_mut("/fragment@0/__overlay__");
    let property = dtoolkit::model::DeviceTreeProperty::new("a", vec![1_u8; 0x1f_ff00]);
    content
        .expect("what dtc made")
        .add_property(property.expect("a name"));
    let small = Overlay {
        name: "small".into(),
        bytes,
    };
    let large = Overlay {
        name: "large".into(),
        bytes: compile(&plugin, None).expect("it is just short enough"),
    };
    let told = Told {
        overlays: &[small, large],
        ..NOTHING
    };
    match tree(&arm64(), &told) {
        Err(FdtError::TooLong { len, overlay }) => {
            assert!(len > 0x20_0000, "{len:#x}");
            assert_eq!(overlay.as_deref(), Some("large"));
        }
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    }
}

#[test]
fn overlays_cannot_dig_ever_deeper() {
    let below = "a { ".repeat(40);
    let end = "}; ".repeat(40);
    let path = "/a".repeat(40);
    let sources = (
        plugin(&format!("&{{/}} {{ {below} {end} }};")),
        plugin(&format!("&{{{path}}} {{ {below} {end} }};")),
    );
    let (Some(one), Some(two)) = sources else {
        return;
    };
    let overlays = [("one", one), ("two", two)].map(|(name, bytes)| Overlay {
        name: name.into(),
        bytes,
    });
    let told = Told {
        overlays: &overlays,
        ..NOTHING
    };
    match tree(&arm64(), &told) {
        Err(FdtError::Overlaid { name, source }) => {
            assert_eq!(name, "two");
            assert!(matches!(source, BlobError::Depth { .. }), "{source}");
        }
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    }
}
