//! The 16-bit entry: what lies in conventional memory, and what the kernel's own real-mode code
//! finds in its header.

use firstlight_base::x86::{Cr0, Mode, Registers};
use firstlight_base::{Gpa, GpaRange, MIB, Reader};
use firstlight_boot::{
    BootPlan, Content, Piece, PlanError, Protocol, ProtocolChoice, Request, plan,
};
use firstlight_image::testing::{BzImageBuilder, bzimage, elf64};
use firstlight_image::{Image, Limits};

fn request() -> Request {
    Request {
        memory: 128 * MIB,
        cmdline: "console=ttyS0".into(),
        protocol: ProtocolChoice::Only(Protocol::Linux16),
        ..Request::default()
    }
}

fn planned(kernel: &BzImageBuilder, request: &Request) -> Result<BootPlan, PlanError> {
    let file = kernel.build();
    let image = Image::open_outer(&file, &Limits::default()).expect("the builders build images");
    plan(&image, request)
}

fn registers(plan: &BootPlan) -> Registers {
    let registers = plan.boot_vcpu().x86().expect("an x86 guest");
    *registers
}

fn piece<'a>(plan: &'a BootPlan, name: &str) -> &'a Piece {
    let found = plan.pieces().iter().find(|piece| piece.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:#?}", plan.pieces()))
}

fn bytes<'a>(plan: &'a BootPlan, name: &str) -> Reader<'a> {
    match &piece(plan, name).content {
        Content::Bytes(bytes) => Reader::new(bytes),
        other => panic!("{name} has no bytes of its own: {other:?}"),
    }
}

fn range(start: u64, end: u64) -> GpaRange {
    GpaRange::between(Gpa::new(start), Gpa::new(end)).expect("start lies below end")
}

#[test]
fn the_setup_code_begins_in_real_mode_in_one_segment() {
    let plan = planned(&bzimage().loadflags(1), &request()).unwrap();
    let registers = registers(&plan);
    let setup = piece(&plan, "setup code").range;
    let segment = u16::try_from(setup.start().get() >> 4).unwrap();
    assert_eq!(registers.mode(), Mode::Bits16);
    assert!(!registers.cr0.contains(Cr0::PE));
    assert_eq!(registers.cs.selector, segment + 0x20);
    assert_eq!(registers.cs.base, setup.start().get() + 0x200);
    assert_eq!(registers.gprs.rip, 0);
    let data = [
        registers.ds,
        registers.es,
        registers.fs,
        registers.gs,
        registers.ss,
    ];
    for data in data {
        assert_eq!((data.selector, data.base), (segment, setup.start().get()));
    }
    assert_eq!(registers.idt.base, 0);
    assert_eq!(registers.gprs.rflags, 2, "interrupts are off");
    let heap = piece(&plan, "setup code's heap and stack").range;
    assert_eq!(heap.start(), setup.end());
    assert_eq!(
        heap.end().get(),
        setup.start().get() + registers.gprs.rsp,
        "the stack grows down from the end"
    );
    assert!(heap.end() <= Gpa::new(0x9_a000));
}

#[test]
fn the_header_has_what_real_mode_code_reads_there() {
    let wanted = Request {
        initrd: Some(0x1234),
        ..request()
    };
    let plan = planned(&bzimage().loadflags(1), &wanted).unwrap();
    let header = bytes(&plan, "setup code");
    let at = |name: &str| piece(&plan, name).range.start().get();
    assert_eq!(header.u8(0x210), Ok(0xff), "or the ramdisk is ignored");
    assert_eq!(header.u8(0x211), Ok(0x81), "loaded high, with a heap");
    assert_eq!(
        header.u32_le(0x214).map(u64::from),
        Ok(at("kernel, packed"))
    );
    assert_eq!(header.u32_le(0x218).map(u64::from), Ok(at("initrd")));
    assert_eq!(header.u32_le(0x21c), Ok(0x1234));
    assert_eq!(header.u16_le(0x224), Ok(0xe000 - 0x200));
    assert_eq!(header.u32_le(0x228).map(u64::from), Ok(at("command line")));
    assert_eq!(header.u16_le(0x1fa), Ok(0x0f04), "no menu of video modes");
    assert_eq!(
        header.u64_le(0x250),
        Ok(at("setup_data: random seed")),
        "a seed reaches the kernel this way too"
    );
}

#[test]
fn a_kernel_that_is_moved_is_told_so_by_code32_start() {
    let kernel = bzimage()
        .loadflags(1)
        .pref_address(0x100_0000)
        .init_size(0x10_0000);
    let wanted = Request {
        load_address: Some(Gpa::new(0x400_0000)),
        ..request()
    };
    let plan = planned(&kernel, &wanted).unwrap();
    assert_eq!(bytes(&plan, "setup code").u32_le(0x214), Ok(0x400_0000));
}

#[test]
fn acpi_is_found_where_kernels_look_for_it() {
    let plan = planned(&bzimage().loadflags(1), &request()).unwrap();
    let bios = piece(&plan, "BIOS").range;
    assert_eq!(bios.start(), Gpa::new(0xe_0000));
    assert!(bios.end() <= Gpa::new(0xf_0000), "QEMU has its ROM there");
    let pointer = bytes(&plan, "BIOS").slice(0, 36).unwrap();
    assert_eq!(Ok(pointer), bytes(&plan, "ACPI tables").slice(0, 36));
    assert!(pointer.starts_with(b"RSD PTR "));
}

#[test]
fn nothing_lies_over_the_interrupt_vectors() {
    let plan = planned(&bzimage().loadflags(1), &request()).unwrap();
    assert_eq!(piece(&plan, "interrupt vectors").range, range(0, 0x500));
}

#[test]
fn kernels_before_2_02_have_all_of_it_at_0x90000() {
    let old = bzimage().version(0x201).loadflags(1);
    let plan = planned(&old, &request()).unwrap();
    let setup = bytes(&plan, "setup code");
    assert_eq!(piece(&plan, "setup code").range.start(), Gpa::new(0x9_0000));
    assert_eq!(
        piece(&plan, "command line").range.start(),
        Gpa::new(0x9_9800)
    );
    assert_eq!(setup.u16_le(0x20), Ok(0xa33f));
    assert_eq!(setup.u16_le(0x22), Ok(0x9800));
    assert_eq!(setup.u16_le(0x224), Ok(0x9600));
    let file = old.build();
    let end = 0x202 + u64::from(file[0x201]);
    let behind = usize::try_from(end).unwrap();
    let len = file.len().min(0x400) - behind;
    assert_eq!(
        setup.slice(end, len as u64),
        Ok(&file[behind..behind + len]),
        "what newer headers have there is code here"
    );
}

#[test]
fn a_memory_map_that_real_mode_code_has_no_room_for_is_refused() {
    let hole = |number: u64| GpaRange::new(Gpa::new(0x400_0000 + number * 0x2000), 0x1000);
    let wanted = Request {
        reserved: (0..100).filter_map(hole).collect(),
        ..request()
    };
    let refused = planned(&bzimage().loadflags(1), &wanted);
    assert!(
        matches!(refused, Err(PlanError::MemoryMapTooLong { most: 128, .. })),
        "{refused:?}"
    );
}

#[test]
fn what_has_no_setup_code_or_too_much_is_refused_by_name() {
    let zimage = planned(&bzimage().loadflags(0), &request()).unwrap_err();
    assert!(zimage.to_string().contains("zImage"), "{zimage}");
    let long = bzimage().loadflags(1).setup_sects(120);
    let long = planned(&long, &request()).unwrap_err();
    assert!(long.to_string().contains("stack"), "{long}");
    let elf = elf64().entry(MIB).segment(MIB, &[1], 0x1000).build();
    let image = Image::open(&elf, &Limits::default()).unwrap();
    let elf = plan(&image, &request()).unwrap_err();
    assert!(elf.to_string().contains("setup code"), "{elf}");
}
