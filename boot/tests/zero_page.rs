//! What a Linux/x86 kernel finds in its zero page and behind it.

use firstlight_base::{Gpa, GpaRange, MIB, Reader};
use firstlight_boot::{
    BootPlan, Content, E820Kind, PlanError, Request, SetupData, Subarch, Unpack, plan,
};
use firstlight_image::testing::{BzImageBuilder, bzimage, elf64};
use firstlight_image::{Image, Limits};

const E820_EXT: u32 = 1;
const DTB: u32 = 2;
const RNG_SEED: u32 = 9;
const INDIRECT: u32 = 1 << 31;

fn kernel() -> BzImageBuilder {
    bzimage()
        .xloadflags(1)
        .pref_address(0x100_0000)
        .init_size(0x10_0000)
}

/// A kernel whose `kernel_info` says that it knows types up to `most`.
fn knowing(most: u32) -> BzImageBuilder {
    let info: Vec<u8> = [0x506f_544c, 16, 16, most]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let builder = kernel().raw_payload(&info);
    let offset = Reader::new(&builder.build())
        .u32_le(0x248)
        .expect("a field");
    builder.patch(0x268, &offset.to_le_bytes())
}

/// The head of a device tree of 12 bytes.
fn tree() -> Vec<u8> {
    [0xd00d_feed, 12, 0]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect()
}

fn request() -> Request {
    Request {
        memory: 128 * MIB,
        unpack: Unpack::Guest,
        rng_seed: [7; 32],
        ..Request::default()
    }
}

fn planned(kernel: &BzImageBuilder, request: &Request) -> Result<BootPlan, PlanError> {
    let file = kernel.build();
    // A payload that is none cannot be unpacked, and need not be.
    let image = Image::open_outer(&file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

fn bytes_at(plan: &BootPlan, at: u64) -> Reader<'_> {
    let found = plan
        .pieces()
        .iter()
        .find(|piece| piece.range.start() == Gpa::new(at));
    match found.map(|piece| &piece.content) {
        Some(Content::Bytes(bytes)) => Reader::new(bytes),
        other => panic!("no bytes at {at:#x}: {other:?}"),
    }
}

fn zero_page(plan: &BootPlan) -> Reader<'_> {
    let found = plan
        .pieces()
        .iter()
        .find(|piece| piece.name == "boot_params");
    bytes_at(plan, found.expect("there is one").range.start().get())
}

/// The nodes of the list: type and data.
fn nodes(plan: &BootPlan, foreign: u64) -> Vec<(u32, Vec<u8>)> {
    let mut nodes = Vec::new();
    let mut next = zero_page(plan).u64_le(0x250).expect("a field");
    while next != 0 && next != foreign {
        let node = bytes_at(plan, next);
        let len = u64::from(node.u32_le(12).expect("a field"));
        let data = node.slice(16, len).expect("the node is whole");
        nodes.push((node.u32_le(8).expect("a field"), data.to_vec()));
        next = node.u64_le(0).expect("a field");
    }
    assert_eq!(
        next, foreign,
        "the list goes on with what the kernel brought"
    );
    nodes
}

/// A request with so many single pages reserved.
fn holes(count: u64) -> Request {
    let hole = |number| GpaRange::new(Gpa::new(0x400_0000 + number * 0x2000), 0x1000);
    Request {
        reserved: (0..count).filter_map(hole).collect(),
        ..request()
    }
}

#[test]
fn the_list_has_the_seed_the_device_tree_and_what_was_asked_for() {
    let wanted = Request {
        dtb: Some(tree()),
        setup_data: vec![SetupData {
            kind: 3,
            bytes: vec![1, 2],
            indirect: false,
        }],
        ..request()
    };
    let plan = planned(&kernel(), &wanted).unwrap();
    assert_eq!(
        nodes(&plan, 0),
        [(RNG_SEED, vec![7; 32]), (DTB, tree()), (3, vec![1, 2])]
    );
}

#[test]
fn what_is_no_whole_device_tree_is_refused() {
    let with = |dtb: &[u8]| {
        let wanted = Request {
            dtb: Some(dtb.to_vec()),
            ..request()
        };
        planned(&kernel(), &wanted).map_err(|error| error.to_string())
    };
    assert!(with(&tree()).is_ok());
    let mut padded = tree();
    padded.extend([0; 4]);
    assert!(with(&padded).is_ok());
    for len in 0..tree().len() {
        let error = with(&tree()[..len]).unwrap_err();
        assert!(error.starts_with("the device tree"), "{len}: {error}");
    }
    let error = with(b"/dts-v1/; / { };").unwrap_err();
    assert!(error.contains("0xd00dfeed"), "{error}");
}

#[test]
fn a_list_that_the_kernel_brings_is_kept() {
    let kernel = kernel().patch(0x250, &0x12_3450_u64.to_le_bytes());
    let plan = planned(&kernel, &request()).unwrap();
    assert_eq!(nodes(&plan, 0x12_3450), [(RNG_SEED, vec![7; 32])]);
}

#[test]
fn the_129th_line_of_the_memory_map_and_all_behind_it_are_in_the_list() {
    let plan = planned(&kernel(), &holes(100)).unwrap();
    let map = plan.e820();
    assert!(map.len() > 200, "{}", map.len());
    assert_eq!(zero_page(&plan).u8(0x1e8), Ok(128));
    let listed = nodes(&plan, 0);
    let (_, lines) = listed
        .iter()
        .find(|(kind, _)| *kind == E820_EXT)
        .expect("there is more than the page holds");
    assert_eq!(lines.len(), (map.len() - 128) * 20);
    let read = Reader::new(lines);
    for (line, at) in map[128..].iter().zip((0..).step_by(20)) {
        assert_eq!(read.u64_le(at), Ok(line.range.start().get()));
        assert_eq!(read.u64_le(at + 8), Ok(line.range.len()));
        assert_eq!(read.u32_le(at + 16), Ok(line.kind as u32));
    }
    let page = zero_page(&plan);
    assert_eq!(
        page.u64_le(0x2d0 + 127 * 20),
        Ok(map[127].range.start().get())
    );
    assert_eq!(page.u64_le(0x2d0 + 128 * 20), Ok(0), "eddbuf begins there");
}

#[test]
fn reserved_ranges_that_meet_are_one_line() {
    let range = |start, len| GpaRange::new(Gpa::new(start), len).unwrap();
    let wanted = Request {
        reserved: vec![
            range(0x300_1000, 0x1000),
            range(0x300_0000, 0x1000),
            range(0x300_0800, 0x2000),
        ],
        ..request()
    };
    let plan = planned(&kernel(), &wanted).unwrap();
    let reserved: Vec<GpaRange> = plan
        .e820()
        .iter()
        .filter(|line| line.kind == E820Kind::Reserved)
        .map(|line| line.range)
        .collect();
    assert_eq!(
        reserved,
        [
            range(0xa_0000, 0x6_0000),
            range(0x300_0000, 0x2800),
            range(0xfeff_c000, 0x4000)
        ]
    );
}

#[test]
fn a_kernel_is_told_nothing_that_it_says_it_does_not_know() {
    let old = knowing(INDIRECT | 6);
    let plan = planned(&old, &request()).unwrap();
    assert_eq!(nodes(&plan, 0), [], "a seed came with Linux 6.0");
    let plan = planned(&knowing(INDIRECT | 9), &request()).unwrap();
    assert_eq!(nodes(&plan, 0).len(), 1);
    let asked = |kernel: &BzImageBuilder, kind, indirect| {
        let wanted = Request {
            setup_data: vec![SetupData {
                kind,
                bytes: vec![5; 40],
                indirect,
            }],
            ..request()
        };
        planned(kernel, &wanted)
    };
    assert_eq!(
        asked(&old, 7, false).unwrap_err(),
        PlanError::SetupDataUnknown {
            kind: 7,
            most: Some(INDIRECT | 6)
        }
    );
    assert!(asked(&old, 6, true).is_ok());
    assert!(asked(&knowing(6), 6, true).is_err(), "it follows no node");
    let refused = asked(&kernel(), 6, true).unwrap_err();
    assert!(refused.to_string().contains("does not say"), "{refused}");
}

#[test]
fn an_indirect_node_points_to_its_data() {
    let wanted = Request {
        setup_data: vec![SetupData {
            kind: 6,
            bytes: vec![5; 40],
            indirect: true,
        }],
        ..request()
    };
    let plan = planned(&knowing(INDIRECT | 6), &wanted).unwrap();
    let listed = nodes(&plan, 0);
    let [(INDIRECT, data)] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    let data = Reader::new(data);
    assert_eq!(data.u32_le(0), Ok(INDIRECT | 6));
    assert_eq!(data.u64_le(8), Ok(40));
    let at = data.u64_le(16).unwrap();
    assert_eq!(bytes_at(&plan, at).slice(0, 40), Ok(&[5; 40][..]));
}

#[test]
fn a_kernel_before_the_list_gets_none_and_says_what_is_missing() {
    let old = bzimage().version(0x208).loadflags(1);
    let by_32 = Request {
        protocol: firstlight_boot::ProtocolChoice::Only(firstlight_boot::Protocol::Linux32),
        ..request()
    };
    let plan = planned(&old, &by_32).unwrap();
    assert_eq!(zero_page(&plan).u64_le(0x250), Ok(0));
    let wanted = Request {
        dtb: Some(tree()),
        ..by_32
    };
    let refused = planned(&old, &wanted).unwrap_err();
    assert!(refused.to_string().contains("2.09"), "{refused}");
}

#[test]
fn a_protocol_without_a_setup_header_refuses_what_it_cannot_tell() {
    let file = elf64()
        .segment(0x100_0000, &[0; 64], 64)
        .pvh(0x100_0020)
        .build();
    let image = Image::open(&file, &Limits::default()).unwrap();
    let wanted = Request {
        dtb: Some(tree()),
        ..request()
    };
    let refused = plan(&image, &wanted).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a kernel that is entered by pvh cannot be given a device tree"
    );
}

#[test]
fn a_machine_that_is_no_pc_is_told() {
    let wanted = Request {
        subarch: Some(Subarch {
            number: 2,
            data: 0x1234_5678_9abc,
        }),
        ..request()
    };
    let plan = planned(&kernel(), &wanted).unwrap();
    assert_eq!(zero_page(&plan).u32_le(0x23c), Ok(2));
    assert_eq!(zero_page(&plan).u64_le(0x240), Ok(0x1234_5678_9abc));
}

#[test]
fn the_flag_that_the_unpacking_code_sets_is_cleared_for_it() {
    let plan = planned(&kernel().loadflags(0x03), &request()).unwrap();
    assert_eq!(zero_page(&plan).u8(0x211), Ok(0x01));
}

#[test]
fn a_kernel_without_init_size_gets_room_for_what_it_unpacks_to() {
    let old = bzimage()
        .version(0x205)
        .loadflags(1)
        .raw_payload(&[1; 4096]);
    let by_32 = Request {
        protocol: firstlight_boot::ProtocolChoice::Only(firstlight_boot::Protocol::Linux32),
        ..request()
    };
    let plan = planned(&old, &by_32).unwrap();
    let kernel = plan
        .pieces()
        .iter()
        .find(|piece| piece.name == "kernel, packed")
        .unwrap();
    let window = plan
        .pieces()
        .iter()
        .find(|piece| piece.name == "start-up window")
        .unwrap();
    assert_eq!(kernel.range.start(), Gpa::new(0x10_0000));
    assert_eq!(kernel.range.end(), window.range.start());
    let room = window.range.end().get() - kernel.range.start().get();
    assert!(room >= 9 * kernel.range.len() + 8 * MIB, "{room:#x}");
}
