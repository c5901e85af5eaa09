//! A device tree and an overlay for it, of an arm64 machine.

use crate::knobs::Knobs;
use crate::{LIMITS, Reached, Seed, Target, guest};
use firstlight_base::MIB;
use firstlight_boot::{BootPlan, Content, Overlay, PlanError, Request, plan};
use firstlight_image::Image;
use firstlight_image::testing::arm64_image;

/// The target.
pub const TARGET: Target = Target {
    name: "dtb",
    what: "device trees and overlays: another tree or a named error",
    run,
    seeds,
};

/// What the first byte says: which of the two there are, and that they are whole.
const BASE: u8 = 1;
const OVERLAY: u8 = 2;
const WHOLE: u8 = 4;

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let (flags, len) = (knobs.u8(), usize::from(knobs.u16()));
    let rest = knobs.rest();
    let (base, overlay) = rest.split_at(len.min(rest.len()));
    let blob = |bytes: &[u8]| {
        if flags & WHOLE == 0 {
            compiled(bytes)
        } else {
            bytes.to_vec()
        }
    };
    let overlay = Overlay {
        name: "one".into(),
        bytes: blob(overlay),
    };
    let request = Request {
        memory: 64 * MIB,
        dtb: (flags & BASE != 0).then(|| blob(base)),
        overlays: [overlay]
            .into_iter()
            .filter(|_| flags & OVERLAY != 0)
            .collect(),
        initrd: Some(0x1000),
        ..Request::default()
    };
    match planned(&request) {
        Ok(plan) => {
            guest::check(&plan);
            let again = Request {
                dtb: Some(tree(&plan).to_vec()),
                overlays: vec![],
                ..request
            };
            let again = planned(&again).expect("what was made is a tree");
            assert_eq!(tree(&again).len(), tree(&plan).len());
            Reached::End
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

fn planned(request: &Request) -> Result<BootPlan, PlanError> {
    let file = arm64_image().build();
    let image = Image::open(&file, &LIMITS).expect("a kernel");
    plan(&image, request)
}

fn tree(plan: &BootPlan) -> &[u8] {
    let piece = plan
        .pieces()
        .iter()
        .find(|piece| piece.name == "device tree");
    match &piece.expect("there is one").content {
        Content::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// The names that properties have, as a strings block: what is looked at, and others.
const NAMES: &[u8] = b"target\0target-path\0linux,phandle\0device_type\0\
    #address-cells\0#size-cells\0bootargs\0linux,initrd-start\0a\0gic\0uart0\0here\0";

/// A tree whose structure block that is, beside the names.
fn compiled(structure: &[u8]) -> Vec<u8> {
    const STRUCTURE_AT: usize = 56;
    let strings_at = STRUCTURE_AT + structure.len();
    let len = strings_at + NAMES.len();
    let numbers = [
        len,
        STRUCTURE_AT,
        strings_at,
        40,
        17,
        16,
        0,
        NAMES.len(),
        structure.len(),
        0,
        0,
        0,
        0,
    ];
    let number = |number: usize| u32::try_from(number).expect("it is short").to_be_bytes();
    let mut blob = 0xd00d_feed_u32.to_be_bytes().to_vec();
    blob.extend(numbers.into_iter().flat_map(number));
    blob.extend_from_slice(structure);
    blob.extend_from_slice(NAMES);
    blob
}

fn seeds() -> Vec<Seed> {
    let seed = |name: &str, flags: u8, [base, overlay]: [Vec<u8>; 2]| {
        let len = u16::try_from(base.len()).expect("it is short");
        let bytes = [&[flags], &len.to_le_bytes()[..], &base, &overlay].concat();
        Seed::new(name, bytes)
    };
    let trees = || [base(), overlay()];
    let wholes = || trees().map(|tree| compiled(&tree));
    let digging = || [base(), nodes(&["a"; 80], &[])];
    vec![
        seed("machine", 0, trees()),
        seed("base", BASE, trees()),
        seed("overlay", BASE | OVERLAY, trees()),
        seed("whole", BASE | OVERLAY | WHOLE, wholes()),
        seed("no-label-of-the-machine", OVERLAY, [vec![], unknown()]),
        seed("no-end", BASE | OVERLAY, digging()),
    ]
}

fn base() -> Vec<u8> {
    let properties = [property("#address-cells", &[0, 0, 0, 2])];
    let inside = [
        node("chosen", &[property("bootargs", b"quiet\0")]),
        node("memory@0", &[property("device_type", b"memory\0")]),
        node("gic", &[property("phandle", &[0, 0, 0, 7])]),
        node("uart", &[]),
        node(
            "__symbols__",
            &[property("gic", b"/gic\0"), property("uart0", b"/uart\0")],
        ),
        node("aliases", &[property("here", b"/uart\0")]),
    ];
    root(&[&properties[..], &inside].concat())
}

/// A fragment by label, one by path and one by a node of its own.
fn overlay() -> Vec<u8> {
    let content = |inside: &[Vec<u8>]| node("__overlay__", inside);
    let own = node(
        "own",
        &[
            property("phandle", &[0, 0, 0, 1]),
            property("a", &[0, 0, 0, 1, 0, 0, 0, 0]),
        ],
    );
    let zero = property("target", &[0; 4]);
    root(&[
        node("f0", &[property("target", &[0xff; 4]), content(&[own])]),
        node("f1", &[property("target-path", b"here\0"), content(&[])]),
        node("f2", &[property("target", &[0, 0, 0, 1]), content(&[])]),
        node("__symbols__", &[property("here", b"/f0/__overlay__/own\0")]),
        node(
            "__fixups__",
            &[property("gic", b"/f0:target:0\0/f0/__overlay__/own:a:4\0")],
        ),
        node(
            "__local_fixups__",
            &[
                nodes(&["f0", "__overlay__", "own"], &[property("a", &[0; 4])]),
                node("f2", &[zero]),
            ],
        ),
    ])
}

fn unknown() -> Vec<u8> {
    root(&[
        node(
            "f0",
            &[property("target", &[0xff; 4]), node("__overlay__", &[])],
        ),
        node("__fixups__", &[property("a", b"/f0:target:0\0")]),
    ])
}

fn root(inside: &[Vec<u8>]) -> Vec<u8> {
    let end = 9_u32.to_be_bytes();
    [&node("", inside)[..], &end].concat()
}

/// Nodes in each other.
fn nodes(names: &[&str], inside: &[Vec<u8>]) -> Vec<u8> {
    match names {
        [] => inside.concat(),
        [name, rest @ ..] => node(name, &[nodes(rest, inside)]),
    }
}

fn node(name: &str, inside: &[Vec<u8>]) -> Vec<u8> {
    let begin = 1_u32.to_be_bytes();
    let end = 2_u32.to_be_bytes();
    let name = padded(&[name.as_bytes(), b"\0"].concat());
    [&begin[..], &name, &inside.concat(), &end].concat()
}

fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let name = [name.as_bytes(), b"\0"].concat();
    let mut names = NAMES.windows(name.len());
    let offset = names.position(|known| known == name).expect("a known name");
    let words = [3, value.len(), offset];
    let words = words.map(|word| u32::try_from(word).expect("it is short").to_be_bytes());
    [words.as_flattened(), &padded(value)].concat()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
