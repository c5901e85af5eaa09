//! Trees and overlays that are cut, damaged or made to do harm.

use super::std::iter;
use super::{NOTHING, TOLD, arm64};
use crate::firmware::fdt::{BlobError, Told, blob, machine, overlay, tree};
use crate::platform::{Platform, VirtArm64};
use crate::request::Overlay;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use firstlight_base::MIB;

const BEGIN: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING_HERE: u32 = 4;
const END: u32 = 9;

/// A name of up to three letters, as a structure block has it.
fn name(letters: &str) -> u32 {
    let mut bytes = [0; 4];
    bytes[..letters.len()].copy_from_slice(letters.as_bytes());
    u32::from_be_bytes(bytes)
}

/// A tree of a structure block and a strings block.
fn compiled(structure: &[u32], strings: &[u8]) -> Vec<u8> {
    const STRUCTURE_AT: u32 = 56;
    let len = u32::try_from(structure.len() * 4).expect("it is short");
    let strings_len = u32::try_from(strings.len()).expect("it is short");
    let strings_at = STRUCTURE_AT + len;
    let header = [
        0xd00d_feed,
        strings_at + strings_len,
        STRUCTURE_AT,
        strings_at,
        40,
        17,
        16,
        0,
        strings_len,
        len,
    ];
    let words = header.into_iter().chain([0; 4]);
    let words = words.chain(structure.iter().copied());
    let bytes: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    [&bytes, strings].concat()
}

/// A root with that in it.
fn rooted(inside: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let inside = inside.into_iter();
    [BEGIN, 0]
        .into_iter()
        .chain(inside)
        .chain([END_NODE, END])
        .collect()
}

fn defect(structure: &[u32], strings: &[u8]) -> BlobError {
    blob::parse(&compiled(structure, strings)).expect_err("it is wrong")
}

/// A tree with labels, and an overlay with everything that one can have.
fn victims() -> [Vec<u8>; 2] {
    let told = Told {
        overlays: &[Overlay {
            name: String::new(),
            bytes: vec![],
        }],
        ..NOTHING
    };
    let small = Platform::VirtArm64(VirtArm64::new(512 * MIB, 1));
    let base = machine(&small, &told).expect("a machine");
    let node = |name: &str, properties: &[(&str, &[u8])], children: Vec<DeviceTreeNode>| {
        let mut node = DeviceTreeNode::new(name).expect("a name");
        for &(name, value) in properties {
            node.add_property(DeviceTreeProperty::new(name, value).expect("a name"));
        }
        children.into_iter().for_each(|child| node.add_child(child));
        node
    };
    let one = 1_u32.to_be_bytes();
    let zero = 0_u32.to_be_bytes();
    let two = node(
        "two",
        &[("phandle", &one), ("a", &one), ("b", &[0; 8])],
        vec![],
    );
    let mut plugin = DeviceTree::new();
    plugin.root = node(
        "",
        &[],
        vec![
            node(
                "fragment@0",
                &[("target", &[0xff; 4])],
                vec![node("__overlay__", &[], vec![two])],
            ),
            node(
                "fragment@1",
                &[("target-path", b"/chosen\0")],
                vec![node("__overlay__", &[], vec![])],
            ),
            node(
                "fragment@2",
                &[("target", &one)],
                vec![node("__overlay__", &[("c", &[])], vec![])],
            ),
            node(
                "__symbols__",
                &[("two", b"/fragment@0/__overlay__/two\0")],
                vec![],
            ),
            node(
                "__fixups__",
                &[(
                    "gic",
                    b"/fragment@0:target:0\0/fragment@0/__overlay__/two:b:4\0",
                )],
                vec![],
            ),
            node(
                "__local_fixups__",
                &[],
                vec![
                    node(
                        "fragment@0",
                        &[],
                        vec![node(
                            "__overlay__",
                            &[],
                            vec![node("two", &[("a", &zero)], vec![])],
                        )],
                    ),
                    node("fragment@2", &[("target", &zero)], vec![]),
                ],
            ),
        ],
    );
    [base.to_dtb(), plugin.to_dtb()]
}

/// Puts an overlay over a tree, and looks at what comes of it: nothing that this or another reader
/// would not take.
fn try_it(base: &[u8], plugin: &[u8]) -> bool {
    let name = String::new();
    let told = Told {
        base: Some(base),
        overlays: &[Overlay {
            name,
            bytes: plugin.to_vec(),
        }],
        ..TOLD
    };
    match tree(&arm64(), &told) {
        Ok(bytes) => {
            blob::parse(&bytes).expect("what was made");
            true
        }
        Err(error) => {
            assert!(!format!("{error} {error:?}").is_empty());
            false
        }
    }
}

#[test]
fn what_is_to_be_damaged_is_well() {
    let [base, plugin] = victims();
    assert!(try_it(&base, &plugin));
}

#[test]
fn a_cut_tree_is_refused_wherever_it_is_cut() {
    for victim in victims() {
        for len in 0..victim.len() {
            blob::parse(&victim[..len]).expect_err("it is cut");
        }
    }
}

#[test]
fn a_cut_tree_that_denies_it_does_no_harm() {
    let [base, plugin] = victims();
    let shortened = |victim: &[u8], len: usize| {
        let mut cut = victim[..len].to_vec();
        let len = u32::try_from(len).expect("it is short");
        cut[4..8].copy_from_slice(&len.to_be_bytes());
        cut
    };
    for len in 8..base.len() {
        assert!(!try_it(&shortened(&base, len), &plugin), "{len}");
    }
    for len in 8..plugin.len() {
        assert!(!try_it(&base, &shortened(&plugin, len)), "{len}");
    }
}

#[test]
fn a_damaged_bit_does_no_harm() {
    let [base, plugin] = victims();
    let flipped = |victim: &[u8], bit: usize| {
        let mut damaged = victim.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged
    };
    for bit in 0..plugin.len() * 8 {
        try_it(&base, &flipped(&plugin, bit));
    }
    for bit in (0..base.len() * 8).step_by(3) {
        try_it(&flipped(&base, bit), &plugin);
    }
}

#[test]
fn what_dtoolkit_reads_is_read_alike() {
    let [base, _] = victims();
    for bit in 0..base.len() * 8 {
        let mut damaged = base.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let (Ok(fdt), Ok(tree)) = (Fdt::new(&damaged), blob::parse(&damaged)) {
            assert_eq!(DeviceTree::from_fdt(&fdt), tree, "bit {bit}");
        }
    }
}

#[test]
fn a_length_is_believed_only_where_it_can_be() {
    let [base, _] = victims();
    let with = |claimed: u32| {
        let mut lying = base.clone();
        lying[4..8].copy_from_slice(&claimed.to_be_bytes());
        blob::parse(&lying)
    };
    let len = base.len();
    let claimed = u32::try_from(len + 1).expect("it is short");
    assert_eq!(with(claimed), Err(BlobError::Cut { len, claimed }));
    let len = 0x20_0001;
    assert_eq!(with(len), Err(BlobError::TooLong { len }));
    assert_eq!(with(u32::MAX), Err(BlobError::TooLong { len: u32::MAX }));
    let longer = [&base[..], b"and more"].concat();
    assert_eq!(blob::parse(&longer), blob::parse(&base));
}

#[test]
fn versions_of_old_are_refused() {
    let [mut base, _] = victims();
    base[23] = 16;
    let (version, oldest) = (16, 16);
    assert_eq!(
        blob::parse(&base),
        Err(BlobError::Version { version, oldest })
    );
}

#[test]
fn parts_lie_where_they_may() {
    let whole = compiled(&rooted([]), b"");
    for (field, value) in [
        (2, 58_u32),
        (2, 0xffff_fffc),
        (3, 80),
        (4, 44),
        (4, 48),
        (8, 9),
        (9, 0x1000),
    ] {
        let mut bytes = whole.clone();
        bytes[field * 4..][..4].copy_from_slice(&value.to_be_bytes());
        match blob::parse(&bytes) {
            Err(
                BlobError::Outside { .. } | BlobError::Misaligned { .. } | BlobError::Ends { .. },
            ) => {}
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn nothing_may_be_where_it_cannot_be() {
    let property = [PROPERTY, 0, 0];
    for structure in [
        vec![END],
        vec![END_NODE],
        vec![BEGIN, 0, END],
        vec![BEGIN, 0, END_NODE, END_NODE],
        vec![BEGIN, 0, END_NODE, BEGIN, 0, END_NODE, END],
        vec![BEGIN, 0, 7, END_NODE, END],
        rooted([BEGIN, name("a"), END_NODE].into_iter().chain(property)),
    ] {
        let error = defect(&structure, b"a\0");
        assert!(
            matches!(error, BlobError::Token { .. }),
            "{structure:?}: {error}"
        );
    }
}

#[test]
fn nops_are_passed_over_however_many() {
    let nops = |count| iter::repeat_n(NOTHING_HERE, count);
    let inside = [BEGIN, name("a"), END_NODE];
    let flood: Vec<u32> = nops(1000)
        .chain(rooted(nops(0x7_0000).chain(inside)))
        .collect();
    let flooded = blob::parse(&compiled(&flood, b"")).expect("a tree");
    let bare = blob::parse(&compiled(&rooted(inside), b"")).expect("a tree");
    assert_eq!(flooded, bare);
}

#[test]
fn nodes_lie_as_deep_as_linux_looks() {
    let nested = |levels: usize| {
        let below = iter::repeat_n([BEGIN, name("a")], levels - 1).flatten();
        rooted(below.chain(iter::repeat_n(END_NODE, levels - 1)))
    };
    assert!(blob::parse(&compiled(&nested(63), b"")).is_ok());
    let at = 56 + 63 * 8;
    assert_eq!(defect(&nested(64), b""), BlobError::Depth { at });
    assert_eq!(defect(&nested(50_000), b""), BlobError::Depth { at });
}

#[test]
fn a_path_has_an_end() {
    let long = "x".repeat(127);
    let mut root = DeviceTree::new();
    let mut node = DeviceTreeNode::new_unchecked(long.as_str());
    for _ in 0..8 {
        let mut above = DeviceTreeNode::new_unchecked(long.as_str());
        above.add_child(node);
        node = above;
    }
    root.root.add_child(node);
    let error = blob::parse(&root.to_dtb()).expect_err("it is long");
    assert!(matches!(error, BlobError::Depth { .. }), "{error}");
}

#[test]
fn there_are_only_so_many_nodes() {
    let nodes = |count: u32| {
        let node = |number: u32| {
            let mut name = format!("{number:07x}").into_bytes();
            name.push(0);
            let words = name
                .as_chunks()
                .0
                .iter()
                .map(|word| u32::from_be_bytes(*word));
            [BEGIN]
                .into_iter()
                .chain(words.collect::<Vec<_>>())
                .chain([END_NODE])
        };
        compiled(&rooted((0..count).flat_map(node)), b"")
    };
    assert!(blob::parse(&nodes(0xffff)).is_ok());
    let error = blob::parse(&nodes(0x1_0000)).expect_err("one more");
    assert!(matches!(error, BlobError::Nodes { .. }), "{error}");
}

#[test]
fn names_are_names() {
    for letters in ["\x1b[m", "a/b", "a b", "\u{fc}", ""] {
        let node = rooted([BEGIN, name(letters), END_NODE]);
        let error = defect(&node, b"");
        assert!(
            matches!(error, BlobError::Name { .. }),
            "{letters:?}: {error}"
        );
        let strings = format!("{letters}\0");
        let error = defect(&rooted([PROPERTY, 0, 0]), strings.as_bytes());
        assert!(
            matches!(error, BlobError::Name { .. }),
            "{letters:?}: {error}"
        );
    }
    for offset in [2, u32::MAX] {
        let error = defect(&rooted([PROPERTY, 0, offset]), b"a");
        assert!(matches!(error, BlobError::Name { .. }), "{offset}: {error}");
    }
    let long = [&[b'a'; 128][..], b"\0"].concat();
    let error = defect(&rooted([PROPERTY, 0, 0]), &long);
    assert!(matches!(error, BlobError::Name { .. }), "{error}");
    assert!(blob::parse(&compiled(&rooted([PROPERTY, 0, 1]), &long)).is_ok());
}

#[test]
fn a_node_has_one_of_each_name() {
    let twice = rooted([PROPERTY, 0, 0, PROPERTY, 0, 0]);
    let what = "property";
    assert_eq!(defect(&twice, b"a\0"), BlobError::Twice { what, at: 76 });
    let node = [BEGIN, name("a"), END_NODE];
    let twice = rooted(node.into_iter().chain(node));
    let what = "node";
    assert_eq!(defect(&twice, b""), BlobError::Twice { what, at: 76 });
}

#[test]
fn phandles_are_of_one_node_each() {
    let handle = |node: &str, handle: u32| [BEGIN, name(node), PROPERTY, 4, 0, handle, END_NODE];
    let phandle = b"phandle\0";
    for none in [0, u32::MAX] {
        let error = defect(&rooted(handle("a", none)), phandle);
        assert_eq!(error, BlobError::NoHandle { handle: none });
    }
    let both = rooted(handle("a", 5).into_iter().chain(handle("b", 5)));
    assert_eq!(defect(&both, phandle), BlobError::HandleTwice { handle: 5 });
    let short = rooted([PROPERTY, 2, 0, 0]);
    assert_eq!(defect(&short, phandle), BlobError::HandleLength { len: 2 });
}

/// What takes time in proportion to the square of its length takes minutes here.
#[test]
fn the_largest_overlays_are_applied_in_passing() {
    let count = 20_000_u32;
    let mut plugin = DeviceTree::new();
    let mut places = Vec::new();
    for number in 0..count {
        let mut fragment = DeviceTreeNode::new_unchecked(format!("f{number}"));
        let target = DeviceTreeProperty::new_unchecked("target", [0xff_u8; 4]);
        fragment.add_property(target);
        fragment.add_child(DeviceTreeNode::new_unchecked("__overlay__"));
        plugin.root.add_child(fragment);
        places.extend(format!("/f{number}:target:0\0").into_bytes());
    }
    let mut fixups = DeviceTreeNode::new_unchecked("__fixups__");
    fixups.add_property(DeviceTreeProperty::new_unchecked("gic", places));
    plugin.root.add_child(fixups);
    let [base, _] = victims();
    let mut tree = blob::parse(&base).expect("a tree");
    overlay::apply(&mut tree, &plugin.to_dtb()).expect("an overlay");
}

#[test]
fn many_references_in_one_property_are_filled_in_in_passing() {
    let mut plugin = DeviceTree::new();
    let mut fragment = DeviceTreeNode::new_unchecked("f");
    fragment.add_property(DeviceTreeProperty::new_unchecked("target-path", "/"));
    let mut content = DeviceTreeNode::new_unchecked("__overlay__");
    let len = 0x4_0000;
    content.add_property(DeviceTreeProperty::new_unchecked("a", vec![0_u8; len]));
    fragment.add_child(content);
    plugin.root.add_child(fragment);
    let places = (0..len)
        .step_by(4)
        .map(|at| format!("/f/__overlay__:a:{at}\0"));
    let places: String = places.collect();
    let mut fixups = DeviceTreeNode::new_unchecked("__fixups__");
    fixups.add_property(DeviceTreeProperty::new_unchecked(
        "gic",
        places.into_bytes(),
    ));
    plugin.root.add_child(fixups);
    let [base, _] = victims();
    let mut tree = blob::parse(&base).expect("a tree");
    overlay::apply(&mut tree, &plugin.to_dtb()).expect("an overlay");
    let mut properties = dtoolkit::Node::properties(&tree.root);
    let filled = properties.find(|property| dtoolkit::Property::name(property) == "a");
    let filled = filled.expect("it was put there");
    let value = dtoolkit::Property::value(&filled);
    assert!(
        value
            .as_chunks()
            .0
            .iter()
            .all(|cell| *cell == 1_u32.to_be_bytes())
    );
}
