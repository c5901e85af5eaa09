//! The 16-bit entry of the Linux/x86 boot protocol (`Documentation/arch/x86/boot.rst`): the
//! kernel's own real-mode code asks a BIOS for everything, and enters the kernel by its 32-bit
//! entry. The BIOS is ours too.

use crate::draft::{Draft, LOW, Need, PAGE, range};
use crate::firmware::bios::{self, Bios};
use crate::parts::Parts;
use crate::protocol::linux::{self, initrd_addr_max};
use crate::protocol::zero_page::LOADFLAGS;
use crate::protocol::{Form, Gate, Moves, Way};
use crate::{Content, EntryPoint, Piece, PlanError, Protocol, Request};
use alloc::vec::Vec;
use firstlight_base::x86::{Cr0, DescriptorTable, Gprs, Registers, Segment};
use firstlight_base::{Gpa, GpaRange};
use firstlight_image::{BzImage, SetupHeader, Version};

/// The entry in the kernel's boot sector, at 0x200.
#[derive(Debug)]
pub(crate) struct Linux16;

/// The first protocol whose real-mode code may lie elsewhere than at 0x90000 and takes a pointer to
/// its command line.
const FREE: Version = Version(0x202);
/// Where older real-mode code lies.
const OLD_PLACE: GpaRange = range(0x9_0000, 0x9_a000);
/// Where in that the heap ends.
const OLD_HEAP_END: u64 = 0x9800;
/// Where its command line is put.
const OLD_CMDLINE: GpaRange = range(0x9_9800, 0x9_a000);
/// Real-mode code with heap and stack is to end here (`boot.rst`, "Memory Layout").
const END: Gpa = Gpa::new(0x9_a000);
/// Where heap and stack end, from the start of the real-mode code (`boot.rst`, "The Real-Mode
/// Kernel Header").
const HEAP_END: u64 = 0xe000;
/// `heap_end_ptr` leaves so much for the stack.
const STACK: u64 = 0x200;
const ENTRY: u64 = 0x200;

impl Gate for Linux16 {
    fn entry(&self, form: &Form<'_>) -> Result<EntryPoint, &'static str> {
        match form {
            Form::Packed { bzimage, .. } if bzimage.is_loaded_high() => {
                Ok(EntryPoint::RealMode(ENTRY))
            }
            Form::Packed { .. } => Err("it is a zImage, for which there is no room below 1 MiB"),
            Form::Vmlinux { .. } | Form::Multiboot(_) => {
                Err("the 16-bit entry belongs to the setup code of a bzImage")
            }
        }
    }

    fn moves(&self, _form: &Form<'_>) -> Moves {
        Moves::No("only its setup code is entered this way")
    }

    fn has_setup_header(&self) -> bool {
        true
    }

    fn initrd_limit(&self, header: Option<&SetupHeader>) -> Option<Gpa> {
        Some(initrd_addr_max(header))
    }

    fn cmdline_within(&self, header: Option<&SetupHeader>) -> GpaRange {
        match header {
            Some(header) if header.version() < FREE => OLD_CMDLINE,
            _ => LOW,
        }
    }

    /// The state of `boot.rst`, section "Running the Kernel".
    fn enter(
        &self,
        draft: &mut Draft,
        way: &Way<'_>,
        parts: &Parts,
        request: &Request,
    ) -> Result<Registers, PlanError> {
        let Form::Packed { bzimage, bytes, .. } = way.form else {
            return Err(PlanError::NoEntry {
                image: "ELF".into(),
                protocol: Protocol::Linux16,
                why: "the 16-bit entry belongs to the setup code of a bzImage".into(),
            });
        };
        put_bios(draft, parts, way.protocol)?;
        let place = put_setup(draft, bzimage, bytes, way, parts, request)?;
        Ok(real_mode(place))
    }
}

/// Puts what a kernel finds of a PC's BIOS that `protocol` enters.
pub(crate) fn put_bios(
    draft: &mut Draft,
    parts: &Parts,
    protocol: Protocol,
) -> Result<(), PlanError> {
    if parts.e820.len() > bios::E820_MAX {
        return Err(PlanError::MemoryMapTooLong {
            protocol,
            lines: parts.e820.len(),
            most: bios::E820_MAX,
        });
    }
    let tables = draft.bytes_at(parts.rsdp);
    let image = Bios {
        rsdp: tables,
        e820: &parts.e820,
    }
    .image();
    let len = image.high.len() as u64;
    draft.put(Piece {
        name: "interrupt vectors".into(),
        range: range(0, bios::LOW_LEN),
        content: Content::Bytes(image.low),
        why: "what real-mode code calls the BIOS through, and the BIOS's data".into(),
    })?;
    let range = GpaRange::new(bios::AT, len).expect("there is code in it");
    draft.put_firmware(Piece {
        name: "BIOS".into(),
        range,
        content: Content::Bytes(image.high),
        why: "answers the setup code, memory map and all; begins with the ACPI root pointer".into(),
    })
}

/// Where the real-mode code has been put.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: Gpa,
    /// Where heap and stack end, from there.
    heap_end: u64,
}

/// Puts the boot sector and the setup code with what the loader writes into their header.
fn put_setup(
    draft: &mut Draft,
    bzimage: &BzImage,
    file: &[u8],
    way: &Way<'_>,
    parts: &Parts,
    request: &Request,
) -> Result<Place, PlanError> {
    let setup = &bzimage.setup;
    let len = setup.setup_len();
    if len > OLD_HEAP_END.saturating_sub(STACK) {
        return Err(PlanError::NotBootable {
            image: "bzImage".into(),
            why: "its setup code leaves no room for a stack in its segment".into(),
        });
    }
    let place = if setup.version() < FREE {
        Place {
            start: OLD_PLACE.start(),
            heap_end: OLD_HEAP_END,
        }
    } else {
        let room = draft.lowest(&Need {
            name: "setup code with its heap and stack",
            len: HEAP_END,
            align: PAGE,
            within: range(LOW.start().get(), END.get()),
            why: "",
        })?;
        Place {
            start: room.start(),
            heap_end: HEAP_END,
        }
    };
    let fields = linux::fields(draft, way, parts, request)?;
    let mut code: Vec<u8> = file
        .get(..usize::try_from(len).unwrap_or(usize::MAX))
        .unwrap_or(file)
        .to_vec();
    fields.write(&mut code, usize::try_from(setup.end()).unwrap_or(0));
    write_real_mode_fields(&mut code, setup.version(), place, parts.cmdline.start());
    let end = place.start.get().saturating_add(place.heap_end);
    let file = range(place.start.get(), place.start.get().saturating_add(len));
    draft.put(Piece {
        name: "setup code".into(),
        range: file,
        content: Content::Bytes(code),
        why: "the kernel's real-mode code, in one segment of conventional memory".into(),
    })?;
    if let Some(rest) = GpaRange::between(file.end(), Gpa::new(end)) {
        draft.put(Piece {
            name: "setup code's heap and stack".into(),
            range: rest,
            content: Content::Window,
            why: "behind the setup code, in its segment".into(),
        })?;
    }
    Ok(place)
}

/// What only real-mode code reads of its header.
fn write_real_mode_fields(code: &mut [u8], version: Version, place: Place, cmdline: Gpa) {
    const HEAP_SINCE: Version = Version(0x201);
    const CAN_USE_HEAP: u8 = 1 << 7;
    const HEAP_END_PTR: usize = 0x224;
    const VID_MODE: usize = 0x1fa;
    /// "Leave it as it is" (`arch/x86/boot/video.h`, `VIDEO_CURRENT_MODE`): there is no screen, and
    /// nobody to choose another mode from the menu that would be shown instead.
    const CURRENT_MODE: u16 = 0x0f04;
    const OLD_CMDLINE_MAGIC: (usize, u16) = (0x20, 0xa33f);
    const OLD_CMDLINE_OFFSET: usize = 0x22;
    const SETUP_MOVE_SIZE: usize = 0x212;
    let mut word = |at: usize, value: u64| {
        let value = u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
        if let Some(place) = code.get_mut(at..at.saturating_add(2)) {
            place.copy_from_slice(&value);
        }
    };
    word(VID_MODE, CURRENT_MODE.into());
    if version < FREE {
        let offset = cmdline.get().saturating_sub(place.start.get());
        word(OLD_CMDLINE_MAGIC.0, OLD_CMDLINE_MAGIC.1.into());
        word(OLD_CMDLINE_OFFSET, offset);
        word(SETUP_MOVE_SIZE, OLD_PLACE.len());
    }
    if version >= HEAP_SINCE {
        word(HEAP_END_PTR, place.heap_end.saturating_sub(STACK));
        if let Some(flags) = code.get_mut(LOADFLAGS) {
            *flags |= CAN_USE_HEAP;
        }
    }
}

/// Real mode as reset leaves it, but for where it is.
fn real_mode(place: Place) -> Registers {
    const VECTORS: u16 = 0x3ff;
    let reset = Registers::RESET;
    let selector = u16::try_from(place.start.get() >> 4).expect("it lies below 1 MiB");
    let data = Segment {
        selector,
        base: place.start.get(),
        ..reset.ds
    };
    Registers {
        gprs: Gprs {
            rip: 0,
            rsp: place.heap_end,
            ..reset.gprs
        },
        cs: Segment {
            selector: selector.saturating_add(0x20),
            base: place.start.get().saturating_add(ENTRY),
            ..reset.cs
        },
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        idt: DescriptorTable {
            base: 0,
            limit: VECTORS,
        },
        cr0: Cr0::ET,
        ..reset
    }
}
