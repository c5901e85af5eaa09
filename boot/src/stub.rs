//! The stub: a Linux kernel, its initial ramdisk and a command line packed so that anything that
//! boots by the x86/HVM direct boot ABI boots them.
//!
//! The ABI (Xen's `docs/misc/pvh.pandoc`) knows nothing of Linux: it hands over an
//! `hvm_start_info` with a memory map, a command line and modules. The stub is a piece of machine
//! code that makes of it the zero page which the Linux boot protocol wants
//! (`Documentation/arch/x86/boot.rst`), and jumps to the kernel's own entry. The kernel needs no
//! PVH entry for that, and need not be unpacked.

mod code;

use crate::draft::PAGE;
use crate::draft::{Draft, Need, range};
use crate::parts::Kernel;
use crate::protocol::gdt::{self, Code};
use crate::protocol::zero_page::{Fields, ZeroPage};
use crate::protocol::{self, Form, Moves};
use crate::{Content, Kaslr, Piece, PlanError, Protocol, ProtocolChoice, Request, kernel};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::{Gpa, GpaRange, MIB};
use firstlight_image::{Image, SetupHeader};

/// Where the parts of the stub lie, counted from its first byte. Code comes first.
const MESSAGES: u32 = 0x600;
const GDT: u32 = 0x800;
/// What LGDT reads: two bytes for the limit, four for the base.
const GDT_POINTER: u32 = 0x840;
/// The stack grows down from here.
const STACK: u32 = 0x1000;
const ZERO_PAGE: u32 = 0x1000;
const CMDLINE: u32 = 0x2000;
/// One page that begins everything, one of pointers, and four directories for a GiB each.
const PAGE_TABLES_LEN: u32 = 0x6000;

/// Memory that every toolstack has for a kernel: above what a PC has at fixed addresses, below what
/// 32-bit code reaches and below the hole for devices.
const ROOM: GpaRange = range(MIB, 3 << 30);

/// What the stub starts, and where that is counted from the stub's first byte, modulo 2³².
struct Shape {
    start: Start,
    /// The kernel's first byte.
    kernel: u32,
    entry: u32,
    /// The packed command line, its length, and how long it may become.
    cmdline: u32,
    cmdline_len: u32,
    cmdline_room: u32,
    /// The initial ramdisk, where it is packed with the kernel.
    initrd: Option<u32>,
    page_tables: u32,
}

/// Which of the kernel's entries the stub takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// That of the 32-bit boot protocol, which a packed kernel has.
    Bits32,
    /// That of the 64-bit boot protocol, which an unpacked one has.
    Bits64,
}

/// A kernel packed with the stub: what goes into one ELF file.
#[derive(Clone, Debug)]
pub struct Package {
    pieces: Vec<Piece>,
    entry: Gpa,
    movable: Option<Movable>,
    image: String,
}

/// Where a package may be loaded beside its own addresses (the note `XEN_ELFNOTE_PHYS32_RELOC`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movable {
    /// What the address of the lowest byte is a multiple of.
    pub align: u32,
    /// The lowest address of that byte.
    pub min: u32,
    /// The highest address of the last byte.
    pub max: u32,
}

impl Package {
    /// What goes into memory, by ascending address.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Where the stub is entered: physical, for the note `XEN_ELFNOTE_PHYS32_ENTRY`.
    #[must_use]
    pub fn entry(&self) -> Gpa {
        self.entry
    }

    /// Where else all of it together may be loaded.
    #[must_use]
    pub fn movable(&self) -> Option<Movable> {
        self.movable
    }

    /// What the image is: the chain of its formats.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }
}

/// Packs the Linux kernel in `image` with the command line and the initial ramdisk of `request`,
/// and the stub. How much memory there will be is not known: everything lies as low as it can.
///
/// # Errors
///
/// [`PlanError`] with the rule that is broken and the numbers that break it.
pub fn pack(image: &Image<'_>, request: &Request) -> Result<Package, PlanError> {
    let (way, start) = choose(image, request)?;
    let mut draft = Draft::new([ROOM].into(), Vec::new());
    let kernel = kernel::put(&mut draft, image, &way, &unmoved(request))?;
    let entry = kernel.entry(way.entry)?;
    if !request.modules.is_empty() {
        return Err(PlanError::NoModules {
            protocol: way.protocol,
        });
    }
    crate::planner::check_no_list(Protocol::Pvh, request)?;
    crate::planner::check_cmdline(&way, &request.cmdline)?;
    let initrd = put_initrd(&mut draft, &way, request.initrd, behind(&kernel))?;
    let room = cmdline_room(&way, &request.cmdline);
    let page_tables = page_tables(room);
    let len = match start {
        Start::Bits32 => page_tables,
        Start::Bits64 => page_tables.saturating_add(PAGE_TABLES_LEN),
    };
    let align = alignment(&way);
    let place = draft.lowest(&Need {
        name: "PVH stub",
        len: len.into(),
        align: align.map_or(PAGE, u64::from),
        within: ROOM,
        why: "",
    })?;
    let from_stub = |at: Gpa| offset(place.start(), at);
    let shape = Shape {
        start,
        kernel: from_stub(kernel.range.start()),
        entry: from_stub(entry),
        cmdline: CMDLINE,
        cmdline_len: len32(&request.cmdline),
        cmdline_room: room,
        initrd: initrd.map(|initrd| from_stub(initrd.start())),
        page_tables,
    };
    let page = ZeroPage {
        setup_header: way.form.header().map_or(&[], SetupHeader::bytes),
        fields: Fields {
            load: kernel.range.start(),
            alignment: kernel.alignment,
            randomised: false,
            cmdline: Gpa::new(0),
            initrd,
            setup_data: Gpa::new(0),
            subarch: request.subarch,
        },
        rsdp: Gpa::new(0),
        e820: &[],
    };
    draft.put(Piece {
        name: "PVH stub".into(),
        range: place,
        content: Content::Bytes(stub(&shape, &page.encode(), &request.cmdline)),
        why: "makes a zero page of hvm_start_info and enters the kernel".into(),
    })?;
    let pieces = draft.into_pieces();
    Ok(Package {
        movable: align.and_then(|align| movable(&way, align, &pieces, initrd)),
        pieces,
        entry: place.start(),
        image: image.to_string(),
    })
}

/// One file is booted many times, so what it says is not random.
fn unmoved(request: &Request) -> Request {
    Request {
        kaslr: Kaslr::Off,
        ..request.clone()
    }
}

fn behind(kernel: &Kernel) -> Gpa {
    let window = kernel.window.map_or(kernel.range, |window| window);
    kernel.range.end().max(window.end())
}

/// The 64-bit entry of an unpacked kernel, else the 32-bit entry of a packed one.
fn choose<'a>(
    image: &'a Image<'_>,
    request: &Request,
) -> Result<(protocol::Way<'a>, Start), PlanError> {
    let by = |protocol| {
        let request = Request {
            protocol: ProtocolChoice::Only(protocol),
            ..request.clone()
        };
        protocol::choose(image, &request)
    };
    match by(Protocol::Linux64) {
        Ok(way) if matches!(way.form, Form::Vmlinux { .. }) => Ok((way, Start::Bits64)),
        _ => by(Protocol::Linux32).map(|way| (way, Start::Bits32)),
    }
}

/// The lowest place `behind` everything that the kernel uses while it starts.
fn put_initrd(
    draft: &mut Draft,
    way: &protocol::Way<'_>,
    len: Option<u64>,
    behind: Gpa,
) -> Result<Option<GpaRange>, PlanError> {
    let Some(len) = len else { return Ok(None) };
    if len == 0 {
        return Err(PlanError::EmptyInitrd);
    }
    let limit = way.initrd_limit().and_then(|last| last.checked_add(1));
    let end = limit.unwrap_or(ROOM.end()).min(ROOM.end());
    let within = GpaRange::between(behind, end).unwrap_or(ROOM);
    let range = draft.lowest(&Need {
        name: "initrd",
        len,
        align: PAGE,
        within,
        why: "",
    })?;
    draft.put(Piece {
        name: "initrd".into(),
        range,
        content: Content::Initrd,
        why: "the lowest free place: how much memory there will be is not known".into(),
    })?;
    Ok(Some(range))
}

/// What the kernel can be moved by a multiple of, where it can be moved at all.
fn alignment(way: &protocol::Way<'_>) -> Option<u32> {
    let align = match way.form {
        Form::Packed { bzimage, .. } if bzimage.setup.relocatable_kernel() => {
            bzimage.setup.kernel_alignment()
        }
        Form::Packed { .. } | Form::Vmlinux { bzimage: None, .. } | Form::Multiboot(_) => None,
        Form::Vmlinux { .. } => match way.gate.moves(&way.form) {
            Moves::To { align, .. } => u32::try_from(align).ok(),
            Moves::No(_) => None,
        },
    };
    align.filter(|align| align.is_power_of_two())
}

/// Upwards all can move together, as long as the initial ramdisk stays where the kernel takes it.
fn movable(
    way: &protocol::Way<'_>,
    align: u32,
    pieces: &[Piece],
    initrd: Option<GpaRange>,
) -> Option<Movable> {
    let lowest = pieces.first()?.range.start();
    let limit = way.initrd_limit().filter(|_| initrd.is_some());
    let last = limit.map_or(u64::from(u32::MAX), Gpa::get);
    // What is moved by a multiple of the alignment has it afterwards if it had it before.
    lowest.is_aligned(align.into()).then_some(Movable {
        align,
        min: u32::try_from(lowest.get()).ok()?,
        max: u32::try_from(last).unwrap_or(u32::MAX),
    })
}

/// How far `to` lies behind `from`, modulo 2³².
fn offset(from: Gpa, to: Gpa) -> u32 {
    let distance = to.get().wrapping_sub(from.get());
    u32::try_from(distance & u64::from(u32::MAX)).expect("32 bits are left")
}

/// How long the command line may become when the toolstack adds to it.
fn cmdline_room(way: &protocol::Way<'_>, cmdline: &str) -> u32 {
    const MOST: u32 = 0xffff;
    let limit = u32::try_from(way.cmdline_limit()).unwrap_or(MOST).min(MOST);
    limit.max(len32(cmdline))
}

fn len32(cmdline: &str) -> u32 {
    u32::try_from(cmdline.len()).expect("no kernel takes a command line of 4 GiB")
}

/// Behind a command line of `room` bytes, its NUL, and the one that the stub may write behind that.
fn page_tables(room: u32) -> u32 {
    const PAGE: u32 = 0x1000;
    CMDLINE
        .saturating_add(room)
        .saturating_add(2)
        .next_multiple_of(PAGE)
}

/// The stub's bytes up to the end of its command line; what follows it writes itself.
fn stub(shape: &Shape, zero_page: &[u8], cmdline: &str) -> Vec<u8> {
    let code = code::code(shape);
    assert!(
        code.len() as u64 <= u64::from(MESSAGES),
        "code has its room"
    );
    let table = gdt::table(match shape.start {
        Start::Bits32 => Code::Bits32,
        Start::Bits64 => Code::Bits64,
    });
    let limit = u16::try_from(table.len().saturating_sub(1)).expect("a table of 48 bytes");
    let mut stub = code;
    let mut at = |offset: u32, bytes: &[u8]| {
        let offset = usize::try_from(offset).expect("an offset in a few pages");
        assert!(stub.len() <= offset, "each part has its room");
        stub.resize(offset, 0);
        stub.extend_from_slice(bytes);
    };
    at(MESSAGES, code::TEXTS.concat().as_bytes());
    at(GDT, &table);
    at(GDT_POINTER, &limit.to_le_bytes());
    at(ZERO_PAGE, zero_page);
    at(CMDLINE, cmdline.as_bytes());
    stub.push(0);
    stub
}

#[cfg(test)]
mod tests;
