use super::*;
use alloc::vec;
use firstlight_base::Reader;
use firstlight_image::testing::{bzimage, elf64};
use firstlight_image::{Codec, Limits};
use iced_x86::{
    Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, Mnemonic, OpKind, Register,
};
use proptest::prelude::*;

const XLF_KERNEL_64: u16 = 1;

fn shape(start: Start, initrd: Option<u32>) -> Shape {
    Shape {
        start,
        kernel: 0xe0_0000,
        entry: 0xe0_0200,
        cmdline: CMDLINE,
        cmdline_len: 13,
        cmdline_room: 2047,
        initrd,
        page_tables: 0x3000,
    }
}

fn decoded(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(32, code, 0, DecoderOptions::NONE)
        .into_iter()
        .collect()
}

fn shapes() -> Vec<Shape> {
    [Start::Bits32, Start::Bits64]
        .into_iter()
        .flat_map(|start| [None, Some(0x400_0000)].map(|initrd| shape(start, initrd)))
        .collect()
}

#[test]
fn every_byte_belongs_to_an_instruction_and_every_jump_lands_on_one() {
    for shape in shapes() {
        let code = code::code(&shape);
        assert!(code.len() <= MESSAGES as usize);
        let instructions = decoded(&code);
        let starts: Vec<u64> = instructions.iter().map(Instruction::ip).collect();
        for instruction in &instructions {
            assert!(!instruction.is_invalid(), "{:#x}", instruction.ip());
            if instruction.op0_kind() == OpKind::NearBranch32 {
                let target = instruction.near_branch_target();
                assert!(starts.contains(&target), "{:#x}", instruction.ip());
            }
        }
        let end = instructions.last().map(Instruction::next_ip);
        assert_eq!(end, Some(code.len() as u64));
    }
}

#[test]
fn nothing_is_addressed_but_from_the_stub_start_info_or_a_pointer_in_it() {
    let known = [
        Register::EBP,
        Register::EBX,
        Register::EAX,
        Register::EDI,
        Register::ESI,
    ];
    for shape in shapes() {
        for instruction in decoded(&code::code(&shape)) {
            if instruction.op_kinds().any(|kind| kind == OpKind::Memory) {
                let base = instruction.memory_base();
                assert!(known.contains(&base), "{base:?} at {:#x}", instruction.ip());
                assert_eq!(instruction.memory_index(), Register::None);
            }
        }
    }
}

#[test]
fn the_first_instructions_find_where_they_are_and_put_the_magic_number_back() {
    let code = code::code(&shape(Start::Bits32, None));
    let mut formatter = GasFormatter::new();
    let text: Vec<_> = decoded(&code)
        .iter()
        .take(9)
        .map(|instruction| {
            let mut text = String::new();
            formatter.format(instruction, &mut text);
            text
        })
        .collect();
    assert_eq!(
        text,
        [
            "cli",
            "cld",
            "mov (%ebx),%eax",
            "lea 4(%ebx),%esp",
            "call 0x0000000C",
            "pop %ebp",
            "mov %eax,(%ebx)",
            "sub $0xC,%ebp",
            "lea 0x1000(%ebp),%esp",
        ]
    );
}

#[test]
fn paging_is_switched_on_for_an_unpacked_kernel_only() {
    let writes_cr0 = |start| {
        decoded(&code::code(&shape(start, None)))
            .iter()
            .any(|one| one.mnemonic() == Mnemonic::Mov && one.op0_register() == Register::CR0)
    };
    assert!(!writes_cr0(Start::Bits32));
    assert!(writes_cr0(Start::Bits64));
}

fn packed(payload: &[u8]) -> Vec<u8> {
    bzimage()
        .xloadflags(XLF_KERNEL_64)
        .relocatable(true)
        .payload(Codec::Lz4Legacy, payload)
        .build()
}

fn vmlinux() -> Vec<u8> {
    elf64()
        .entry(0x100_0010)
        .segment(0x100_0000, &[0x90; 64], 0x3000)
        .build()
}

fn packaged(file: &[u8], request: &Request) -> Result<Package, PlanError> {
    let image = match request.unpack {
        crate::Unpack::Host => Image::open(file, &Limits::default()),
        crate::Unpack::Guest => Image::open_outer(file, &Limits::default()),
    };
    pack(&image.expect("the builders build images"), request)
}

fn request() -> Request {
    Request {
        cmdline: "console=ttyS0".into(),
        initrd: Some(0x1234),
        ..Request::default()
    }
}

fn stub_of(package: &Package) -> (GpaRange, &[u8]) {
    let piece = package
        .pieces()
        .iter()
        .find(|piece| piece.name == "PVH stub");
    match piece.map(|piece| (piece.range, &piece.content)) {
        Some((range, Content::Bytes(bytes))) => (range, bytes),
        other => panic!("no stub: {other:?}"),
    }
}

#[test]
fn a_package_is_kernel_stub_and_ramdisk_each_in_its_place() {
    for (unpack, name) in [
        (crate::Unpack::Host, "kernel segment 0"),
        (crate::Unpack::Guest, "kernel, packed"),
    ] {
        let wanted = Request {
            unpack,
            ..request()
        };
        let package = packaged(&packed(&vmlinux()), &wanted).unwrap();
        let names: Vec<_> = package.pieces().iter().map(|piece| &*piece.name).collect();
        assert_eq!(names.first(), Some(&"PVH stub"), "{names:?}");
        assert!(
            names.contains(&name) && names.contains(&"initrd"),
            "{names:?}"
        );
        assert_eq!(package.entry(), stub_of(&package).0.start());
        for (one, next) in package.pieces().iter().zip(package.pieces().iter().skip(1)) {
            assert!(one.range.end() <= next.range.start(), "{one:?} {next:?}");
        }
    }
}

#[test]
fn the_zero_page_has_the_header_the_ramdisks_size_and_no_memory_map_yet() {
    let package = packaged(&packed(&vmlinux()), &request()).unwrap();
    let (_, stub) = stub_of(&package);
    let page = Reader::new(&stub[0x1000..0x2000]);
    assert_eq!(page.slice(0x202, 4), Ok(b"HdrS".as_slice()));
    assert_eq!(page.u32_le(0x21c), Ok(0x1234));
    assert_eq!(page.u8(0x1e8), Ok(0));
    assert_ne!(
        page.u8(0x210),
        Ok(0),
        "Linux ignores the ramdisk of loader 0"
    );
    assert_eq!(&stub[0x2000..], b"console=ttyS0\0");
}

#[test]
fn what_is_moved_keeps_the_kernels_alignment() {
    let package = packaged(&packed(&vmlinux()), &request()).unwrap();
    let movable = package.movable().unwrap();
    let lowest = package.pieces()[0].range.start();
    assert_eq!(u64::from(movable.min), lowest.get());
    assert!(lowest.is_aligned(movable.align.into()));
    let alone = packaged(&vmlinux(), &request()).unwrap();
    assert_eq!(alone.movable(), None, "nobody knows what a bare ELF can do");
}

#[test]
fn modules_beside_the_ramdisk_and_long_command_lines_are_refused() {
    let modules = Request {
        modules: vec![crate::Module {
            len: 1,
            cmdline: String::new(),
        }],
        ..request()
    };
    let refused = packaged(&packed(&vmlinux()), &modules);
    assert!(
        matches!(refused, Err(PlanError::NoModules { .. })),
        "{refused:?}"
    );
    let tree = Request {
        dtb: Some(vec![0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 8]),
        ..request()
    };
    let refused = packaged(&packed(&vmlinux()), &tree);
    assert!(
        matches!(refused, Err(PlanError::Untold { .. })),
        "{refused:?}"
    );
    let long = Request {
        cmdline: "x".repeat(2048),
        ..request()
    };
    let refused = packaged(&packed(&vmlinux()), &long);
    assert!(
        matches!(refused, Err(PlanError::CmdlineTooLong { .. })),
        "{refused:?}"
    );
}

proptest! {
    /// Nobody plans again before a package is booted, so it has to be sound as it is.
    #[test]
    fn a_package_is_disjoint_below_3_gib_and_free_where_its_kernel_starts(
        pref in prop_oneof![Just(0x10_0000_u64), Just(0x100_0000), any::<u32>().prop_map(u64::from)],
        init_size in prop_oneof![1..0x800_0000_u32, any::<u32>()],
        align_log2 in 12..26_u32,
        relocatable in any::<bool>(),
        initrd in proptest::option::of(1..(1_u64 << 33)),
        text in "[a-z ]{0,40}",
    ) {
        let file = bzimage()
            .xloadflags(XLF_KERNEL_64)
            .relocatable(relocatable)
            .kernel_alignment(1 << align_log2)
            .pref_address(pref)
            .init_size(init_size)
            .build();
        let wanted = Request {
            unpack: crate::Unpack::Guest,
            cmdline: text,
            initrd,
            ..Request::default()
        };
        let Ok(image) = Image::open_outer(&file, &Limits::default()) else { return Ok(()) };
        let Ok(package) = pack(&image, &wanted) else { return Ok(()) };
        let pieces = package.pieces();
        for piece in pieces {
            prop_assert!(ROOM.contains(piece.range), "{:?}", piece);
        }
        for (one, next) in pieces.iter().zip(pieces.iter().skip(1)) {
            prop_assert!(one.range.end() <= next.range.start(), "{:?} {:?}", one, next);
        }
        let kernel = pieces.iter().find(|piece| piece.name == "kernel, packed");
        let start = kernel.map(|piece| piece.range.start().get());
        let runs = start.map(|start| start.max(pref)..start.max(pref) + u64::from(init_size));
        let runs = runs.expect("there is a kernel");
        for piece in pieces.iter().filter(|piece| !piece.name.contains("window")) {
            let (from, to) = (piece.range.start().get(), piece.range.end().get());
            let free = to <= runs.start || runs.end <= from || piece.name == "kernel, packed";
            prop_assert!(free, "{:?} in {:#x?}", piece, runs);
        }
        if let Some(movable) = package.movable() {
            prop_assert_eq!(pieces[0].range.start().get(), u64::from(movable.min));
            prop_assert_eq!(u64::from(movable.min) % u64::from(movable.align), 0);
        }
    }
}
