//! Kernels loaded by rust-vmm's linux-loader and by our plans: the same bytes at the same
//! addresses, or a difference that is known and wanted.
//!
//! Real kernels are looked for in the folder that `FIRSTLIGHT_KERNELS` names.

use firstlight_base::{GpaRange, MIB};
use firstlight_boot::{
    BootPlan, Content, PlanError, Protocol, ProtocolChoice, Request, Unpack, plan,
};
use firstlight_image::testing::{bzimage, elf32, elf64};
use firstlight_image::{Codec, Image, Limits};
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{self as theirs, BzImage, Elf, KernelLoader};
use std::io::Cursor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const XLF_KERNEL_64: u16 = 1 << 0;
const PT_NOTE: u32 = 4;
/// What lies in memory before anything is loaded.
const DIRT: u8 = 0xa5;

fn request() -> Request {
    Request {
        memory: 256 * MIB,
        ..Request::default()
    }
}

fn pvh() -> Request {
    Request {
        protocol: ProtocolChoice::Only(Protocol::Pvh),
        ..request()
    }
}

fn unpacked_by_the_guest() -> Request {
    Request {
        unpack: Unpack::Guest,
        ..request()
    }
}

fn memory() -> GuestMemoryMmap {
    let len = usize::try_from(256 * MIB).expect("it is not much");
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).expect("some memory")
}

/// The ranges that a plan fills from the image, with the bytes that it puts there.
fn from_image<'a>(plan: &BootPlan, image: &'a Image<'_>) -> Vec<(GpaRange, &'a [u8])> {
    let bytes = |layer: usize, offset: u64, len: u64| {
        let start = usize::try_from(offset).expect("it lies in the file");
        let len = usize::try_from(len).expect("it lies in the file");
        &image.layers()[layer].bytes()[start..][..len]
    };
    plan.pieces()
        .iter()
        .filter_map(|piece| match piece.content {
            Content::Image { layer, offset, len } => Some((piece.range, bytes(layer, offset, len))),
            Content::Bytes(_) | Content::Initrd | Content::Module(_) | Content::Window => None,
        })
        .collect()
}

fn dirty(memory: &GuestMemoryMmap, range: GpaRange) {
    let len = usize::try_from(range.len()).expect("it lies in memory");
    memory
        .write_slice(&vec![DIRT; len], GuestAddress(range.start().get()))
        .expect("it lies in memory");
}

fn read(memory: &GuestMemoryMmap, range: GpaRange) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(range.len()).expect("it lies in memory")];
    memory
        .read_slice(&mut bytes, GuestAddress(range.start().get()))
        .expect("it lies in memory");
    bytes
}

fn entry(plan: &BootPlan) -> u64 {
    let registers = plan.boot_vcpu().x86().expect("an x86 guest");
    registers.gprs.rip
}

/// Loads `file`, a vmlinux or what is packed in a bzImage, by both, and compares all that both
/// should agree on.
fn compare_elf(file: &[u8], request: &Request) -> theirs::KernelLoaderResult {
    let image = Image::open(file, &Limits::default()).expect("a kernel");
    let plan = plan(&image, request).expect("a plan");
    let memory = memory();
    let ours = from_image(&plan, &image);
    for (range, _) in &ours {
        dirty(&memory, *range);
    }
    let vmlinux = image.kernel().bytes();
    let loaded =
        Elf::load(&memory, None, &mut Cursor::new(vmlinux), None).expect("linux-loader takes it");
    for (range, bytes) in &ours {
        let found = read(&memory, *range);
        let (filled, rest) = found.split_at(bytes.len());
        assert!(filled == *bytes, "{range} is filled alike");
        // A plan's range is zero where no byte of the file fills it. They leave what was there.
        assert!(rest.iter().all(|&byte| byte == DIRT), "{range}");
    }
    let end = ours.iter().map(|(range, _)| range.end().get()).max();
    assert_eq!(Some(loaded.kernel_end), end);
    assert_eq!(loaded.setup_header, None);
    loaded
}

/// Loads `file`, a bzImage that the guest will unpack, by both.
fn compare_bzimage(file: &[u8]) {
    let image = Image::open_outer(file, &Limits::default()).expect("a kernel");
    let plan = plan(&image, &unpacked_by_the_guest()).expect("a plan");
    let ours = from_image(&plan, &image);
    let [(range, bytes)] = ours[..] else {
        panic!("a packed kernel is one piece: {ours:?}");
    };
    let memory = memory();
    let at = range.start().get();
    let loaded = BzImage::load(
        &memory,
        Some(GuestAddress(at)),
        &mut Cursor::new(file),
        None,
    )
    .expect("linux-loader takes it");
    assert!(read(&memory, range) == bytes, "{range} is filled alike");
    let header = loaded.setup_header.expect("a bzImage has one");
    assert_eq!(u64::from(header.code32_start), at);
    assert_eq!(loaded.kernel_load.0, at);
    // They load to the end of the file, whatever follows the kernel there.
    assert!(loaded.kernel_end >= range.end().get());
}

fn vmlinux() -> firstlight_image::testing::ElfBuilder {
    elf64()
        .entry(0x100_0100)
        .segment(0x100_0000, &[1; 0x1234], 0x2000)
        .segment(0x120_0000, &[2; 77], 0x1000)
}

#[test]
fn a_vmlinux_is_filled_alike_and_only_ours_clears_what_no_byte_fills() {
    let loaded = compare_elf(&vmlinux().build(), &request());
    // Their load address is the entry; the kernel begins 0x100 bytes below.
    assert_eq!(loaded.kernel_load.0, 0x100_0100);
    // No entry was there to ignore; it is what they begin with.
    assert_eq!(loaded.pvh_boot_cap, PvhBootCapability::PvhEntryIgnored);
}

#[test]
fn a_packed_vmlinux_is_loaded_as_they_load_the_unpacked_one() {
    let packed = bzimage()
        .xloadflags(XLF_KERNEL_64)
        .payload(Codec::Zstd, &vmlinux().build())
        .build();
    compare_elf(&packed, &request());
}

#[test]
fn both_enter_a_pvh_kernel_where_its_note_says() {
    let file = vmlinux().pvh(0x100_0200).build();
    let loaded = compare_elf(&file, &pvh());
    assert_eq!(
        loaded.pvh_boot_cap,
        PvhBootCapability::PvhEntryPresent(GuestAddress(0x100_0200))
    );
    let image = Image::open(&file, &Limits::default()).expect("a kernel");
    assert_eq!(entry(&plan(&image, &pvh()).expect("a plan")), 0x100_0200);
}

#[test]
fn a_later_note_hides_the_pvh_entry_from_them_but_not_from_us() {
    const PHYS32_ENTRY: u32 = 18;
    let mut first = Vec::new();
    for word in [4, 4, PHYS32_ENTRY] {
        first.extend(word.to_le_bytes());
    }
    first.extend(b"Xen\0");
    first.extend(0x100_0200_u32.to_le_bytes());
    let file = vmlinux()
        .program(PT_NOTE, &first)
        .note(b"GNU\0", 1, b"abcd")
        .build();
    let loaded = compare_elf(&file, &pvh());
    assert_eq!(loaded.pvh_boot_cap, PvhBootCapability::PvhEntryNotPresent);
    let image = Image::open(&file, &Limits::default()).expect("a kernel");
    assert_eq!(entry(&plan(&image, &pvh()).expect("a plan")), 0x100_0200);
}

#[test]
fn they_load_a_kernel_for_another_machine_and_we_say_that_it_is_one() {
    const EM_AARCH64: u16 = 183;
    let file = vmlinux().machine(EM_AARCH64).build();
    assert!(Elf::load(&memory(), None, &mut Cursor::new(&file), None).is_ok());
    let image = Image::open(&file, &Limits::default()).expect("an ELF");
    let refused = plan(&image, &request()).map(|plan| plan.protocol());
    assert!(
        matches!(refused, Err(PlanError::NotBootable { .. })),
        "{refused:?}"
    );
}

#[test]
fn they_read_elf32_as_elf64_and_we_plan_it() {
    let file = elf32()
        .entry(0x10_0000)
        .segment(0x10_0000, &[3; 64], 0x1000)
        .pvh(0x10_0010)
        .build();
    assert!(Elf::load(&memory(), None, &mut Cursor::new(&file), None).is_err());
    let image = Image::open(&file, &Limits::default()).expect("a kernel");
    let plan = plan(&image, &pvh()).expect("a plan");
    let [(range, bytes)] = from_image(&plan, &image)[..] else {
        panic!("it has one segment");
    };
    assert_eq!((range.start().get(), range.len()), (0x10_0000, 0x1000));
    assert_eq!(bytes, [3; 64]);
}

#[test]
fn a_packed_kernel_is_filled_alike() {
    compare_bzimage(&bzimage().payload(Codec::Gzip, &vmlinux().build()).build());
}

#[test]
fn what_follows_a_packed_kernel_in_its_file_is_loaded_by_them_only() {
    let packed = bzimage().payload(Codec::Gzip, &vmlinux().build());
    let signature = [0x5a; 600];
    let signed = packed.clone().behind(&signature).build();
    compare_bzimage(&signed);
    let at = Some(GuestAddress(0x100_0000));
    let end = |file: &[u8]| {
        BzImage::load(&memory(), at, &mut Cursor::new(file), None)
            .expect("linux-loader takes it")
            .kernel_end
    };
    assert_eq!(end(&signed), end(&packed.build()) + 600);
}

#[test]
fn our_plan_keeps_the_room_that_a_packed_kernel_unpacks_in_and_they_do_not() {
    let file = bzimage()
        .init_size(0x40_0000)
        .payload(Codec::Gzip, &vmlinux().build())
        .build();
    let image = Image::open_outer(&file, &Limits::default()).expect("a kernel");
    let plan = plan(&image, &unpacked_by_the_guest()).expect("a plan");
    let (range, _) = from_image(&plan, &image)[0];
    let room = range.start().get() + 0x40_0000;
    let window = plan
        .pieces()
        .iter()
        .filter(|piece| piece.content == Content::Window)
        .map(|piece| piece.range.end().get())
        .max();
    assert_eq!(window, Some(room));
    let at = Some(GuestAddress(range.start().get()));
    let loaded =
        BzImage::load(&memory(), at, &mut Cursor::new(&file), None).expect("linux-loader takes it");
    assert!(loaded.kernel_end < room);
}

#[test]
fn without_a_place_they_take_1_mib_and_we_where_the_kernel_prefers_to_run() {
    let file = bzimage()
        .pref_address(0x200_0000)
        .payload(Codec::Gzip, &vmlinux().build())
        .build();
    let image = Image::open_outer(&file, &Limits::default()).expect("a kernel");
    let plan = plan(&image, &unpacked_by_the_guest()).expect("a plan");
    assert_eq!(from_image(&plan, &image)[0].0.start().get(), 0x200_0000);
    let loaded = BzImage::load(&memory(), None, &mut Cursor::new(&file), None)
        .expect("linux-loader takes it");
    assert_eq!(loaded.kernel_load.0, MIB);
    // They hold the place in the header against a lower limit, not the place that they use.
    let refused = BzImage::load(
        &memory(),
        Some(GuestAddress(0x200_0000)),
        &mut Cursor::new(&file),
        Some(GuestAddress(0x20_0000)),
    );
    assert!(matches!(
        refused,
        Err(theirs::Error::InvalidKernelStartAddress)
    ));
}

#[test]
fn real_kernels_are_filled_alike() {
    let Some(folder) = std::env::var_os("FIRSTLIGHT_KERNELS") else {
        eprintln!("skipped for real kernels: FIRSTLIGHT_KERNELS names no folder");
        return;
    };
    for entry in std::fs::read_dir(folder).expect("FIRSTLIGHT_KERNELS names a folder") {
        let path = entry.expect("the folder can be read").path();
        if !path.to_string_lossy().ends_with("-amd64") {
            continue;
        }
        println!("{}", path.display());
        let file = std::fs::read(&path).expect("the kernel can be read");
        compare_bzimage(&file);
        compare_elf(&file, &request());
        let loaded = compare_elf(&file, &pvh());
        let image = Image::open(&file, &Limits::default()).expect("a kernel");
        let ours = crate::entry(&plan(&image, &pvh()).expect("a plan"));
        assert_eq!(
            loaded.pvh_boot_cap,
            PvhBootCapability::PvhEntryPresent(GuestAddress(ours))
        );
    }
}
