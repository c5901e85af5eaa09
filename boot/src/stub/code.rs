//! The stub's instructions.
//!
//! It is entered as the direct boot ABI says: 32-bit protected mode without paging, flat segments,
//! EBX the physical address of `hvm_start_info`, everything else unknown. It works wherever it is
//! loaded: EBP holds the address of its first byte, and all else is counted from there.

use super::{GDT, GDT_POINTER, MESSAGES, PAGE_TABLES_LEN, STACK, Shape, Start, ZERO_PAGE};
use crate::loader::elf::start_info::XEN_HVM_START_MAGIC_VALUE;
use alloc::vec::Vec;

/// Fields of `hvm_start_info` (`include/public/arch-x86/hvm/start_info.h`), as instructions have
/// them: in a byte.
mod info {
    use crate::loader::elf::start_info::hvm_start_info;
    use core::mem::offset_of;

    pub(super) const VERSION: u8 = byte(offset_of!(hvm_start_info, version));
    pub(super) const MODULES: u8 = byte(offset_of!(hvm_start_info, nr_modules));
    pub(super) const MODLIST: u8 = byte(offset_of!(hvm_start_info, modlist_paddr));
    pub(super) const CMDLINE: u8 = byte(offset_of!(hvm_start_info, cmdline_paddr));
    pub(super) const RSDP: u8 = byte(offset_of!(hvm_start_info, rsdp_paddr));
    pub(super) const MEMMAP: u8 = byte(offset_of!(hvm_start_info, memmap_paddr));
    pub(super) const MEMMAP_ENTRIES: u8 = byte(offset_of!(hvm_start_info, memmap_entries));

    const fn byte(offset: usize) -> u8 {
        offset.to_le_bytes()[0]
    }
}

/// Fields of `boot_params` (`Documentation/arch/x86/zero-page.rst`), from the stub's first byte.
mod zero_page {
    use super::ZERO_PAGE;
    use crate::protocol::zero_page as page;

    pub(super) const ACPI_RSDP_ADDR: u32 = in_stub(page::ACPI_RSDP_ADDR);
    pub(super) const EXT_RAMDISK_IMAGE: u32 = in_stub(page::EXT_RAMDISK_IMAGE);
    pub(super) const EXT_RAMDISK_SIZE: u32 = in_stub(page::EXT_RAMDISK_SIZE);
    pub(super) const E820_ENTRIES: u32 = in_stub(page::E820_ENTRIES);
    pub(super) const CODE32_START: u32 = in_stub(page::CODE32_START);
    pub(super) const RAMDISK_IMAGE: u32 = in_stub(page::RAMDISK_IMAGE);
    pub(super) const RAMDISK_SIZE: u32 = in_stub(page::RAMDISK_SIZE);
    pub(super) const CMD_LINE_PTR: u32 = in_stub(page::CMD_LINE_PTR);
    pub(super) const E820_TABLE: u32 = in_stub(page::E820_TABLE);
    /// How many lines the memory map has room for.
    pub(super) const E820_MOST: u32 = number(page::E820_MAX);

    const fn in_stub(field: usize) -> u32 {
        ZERO_PAGE.saturating_add(number(field))
    }

    /// A number below 65,536.
    const fn number(number: usize) -> u32 {
        let bytes = number.to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], 0, 0])
    }
}

/// What the stub says on the first serial port before it stops.
pub(super) const TEXTS: [&str; 3] = [
    "firstlight stub: EBX points at no hvm_start_info\r\n\0",
    "firstlight stub: hvm_start_info has no memory map\r\n\0",
    "firstlight stub: a list of hvm_start_info lies above 4 GiB\r\n\0",
];

/// The registers, by their numbers in instructions (Intel SDM volume 2A, table 2-2).
#[derive(Clone, Copy)]
enum Register {
    Eax = 0,
    Ecx = 1,
    Edx = 2,
    Ebx = 3,
    Ebp = 5,
    Esi = 6,
    Edi = 7,
}

/// Conditions of jumps (SDM volume 2A, appendix B.1.4.7).
#[derive(Clone, Copy)]
enum Condition {
    AboveOrEqual = 0x3,
    Equal = 0x4,
    NotEqual = 0x5,
    BelowOrEqual = 0x6,
}

/// The stub's code for a kernel of that `shape`.
pub(super) fn code(shape: &Shape) -> Vec<u8> {
    let mut code = Code::default();
    find_oneself(&mut code);
    let failures = check_start_info(&mut code, shape);
    copy_memory_map(&mut code);
    copy_acpi_pointer(&mut code);
    join_command_lines(&mut code, shape);
    choose_ramdisk(&mut code, shape);
    load_segments(&mut code);
    if shape.start == Start::Bits64 {
        build_page_tables(&mut code, shape);
        enter_long_mode(&mut code, shape);
    }
    go(&mut code, shape);
    fail(&mut code, &failures);
    code.bytes
}

/// Only a call tells 32-bit code where it is, and a call needs a stack. The four bytes of the
/// magic number serve as one and are put back: Linux uses them so too.
fn find_oneself(code: &mut Code) {
    code.put(&[0xfa]); // cli
    code.put(&[0xfc]); // cld
    code.put(&[0x8b, 0x03]); // mov eax, [ebx]
    code.put(&[0x8d, 0x63, 0x04]); // lea esp, [ebx + 4]
    code.put(&[0xe8, 0, 0, 0, 0]); // call next
    let next = code.here();
    code.put(&[0x5d]); // next: pop ebp
    code.put(&[0x89, 0x03]); // mov [ebx], eax
    code.put(&[0x81, 0xed]); // sub ebp, next - start
    code.put(&next.to_le_bytes());
    code.with_base(&[0x8d], 4, STACK); // lea esp, [ebp + STACK]
}

/// Goes to [`fail`] with ESI at a text where there is nothing to begin with. Pointers have 64 bits,
/// of which this code can follow 32.
fn check_start_info(code: &mut Code, shape: &Shape) -> Vec<Hole> {
    let mut failures = Vec::new();
    let [no_info, no_map, too_high] = text_offsets();
    code.lea(Register::Esi, no_info);
    code.put(&[0x3d]); // cmp eax, MAGIC
    code.put(&XEN_HVM_START_MAGIC_VALUE.to_le_bytes());
    failures.push(code.jump_far_if(Condition::NotEqual));
    code.lea(Register::Esi, no_map);
    for field in [info::VERSION, info::MEMMAP_ENTRIES] {
        code.put(&[0x83, 0x7b, field, 0]); // cmp dword [ebx + field], 0
        failures.push(code.jump_far_if(Condition::Equal));
    }
    code.lea(Register::Esi, too_high);
    let lists: &[u8] = if shape.initrd.is_some() {
        &[info::MEMMAP, info::CMDLINE]
    } else {
        &[info::MEMMAP, info::CMDLINE, info::MODLIST]
    };
    for field in lists {
        code.put(&[0x83, 0x7b, field | 4, 0]); // cmp dword [ebx + field + 4], 0
        failures.push(code.jump_far_if(Condition::NotEqual));
    }
    failures
}

/// An entry has 24 bytes there and 20 here; the first 20 are the same. What does not fit is left
/// out. The legacy hole is added, as Linux' own PVH entry adds it: a toolstack need not know it.
fn copy_memory_map(code: &mut Code) {
    const LEGACY_HOLE: [u32; 5] = [0xa_0000, 0, 0x6_0000, 0, 2 /* reserved */];
    code.load(Register::Esi, info::MEMMAP);
    code.load(Register::Ecx, info::MEMMAP_ENTRIES);
    code.put(&[0x81, 0xf9]); // cmp ecx, 128
    code.put(&zero_page::E820_MOST.to_le_bytes());
    let fits = code.jump_if(Condition::BelowOrEqual);
    code.move_constant(Register::Ecx, zero_page::E820_MOST);
    code.land(fits);
    code.put(&[0x89, 0xca]); // mov edx, ecx
    code.lea(Register::Edi, zero_page::E820_TABLE);
    let each = code.here();
    code.put(&[0x51]); // each: push ecx
    code.move_constant(Register::Ecx, 5);
    code.put(&[0xf3, 0xa5]); // rep movsd
    code.put(&[0x59]); // pop ecx
    code.put(&[0x83, 0xc6, 4]); // add esi, 4
    code.loop_to(each);
    code.put(&[0x81, 0xfa]); // cmp edx, 128
    code.put(&zero_page::E820_MOST.to_le_bytes());
    let full = code.jump_if(Condition::AboveOrEqual);
    for (at, value) in [0, 4, 8, 12, 16].into_iter().zip(LEGACY_HOLE) {
        code.put(&[0xc7, 0x47, at]); // mov dword [edi + at], value
        code.put(&value.to_le_bytes());
    }
    code.put(&[0x42]); // inc edx
    code.land(full);
    code.with_base(&[0x88], 2, zero_page::E820_ENTRIES); // mov [ebp + E820_ENTRIES], dl
}

fn copy_acpi_pointer(code: &mut Code) {
    for half in [0, 4] {
        code.load(Register::Eax, info::RSDP | half);
        code.store(Register::Eax, zero_page::ACPI_RSDP_ADDR | u32::from(half));
    }
}

/// The packed command line, and the toolstack's behind it, as far as there is room: most of Linux'
/// parameters take the last value that they are given.
fn join_command_lines(code: &mut Code, shape: &Shape) {
    let end = shape.cmdline.saturating_add(shape.cmdline_len);
    code.load(Register::Esi, info::CMDLINE);
    code.put(&[0x85, 0xf6]); // test esi, esi
    let none = code.jump_if(Condition::Equal);
    code.put(&[0x80, 0x3e, 0]); // cmp byte [esi], 0
    let empty = code.jump_if(Condition::Equal);
    code.lea(Register::Edi, end);
    let mut room = shape.cmdline_room.saturating_sub(shape.cmdline_len);
    if shape.cmdline_len > 0 {
        code.put(&[0xb0, b' ']); // mov al, ' '
        code.put(&[0xaa]); // stosb
        room = room.saturating_sub(1);
    }
    code.move_constant(Register::Ecx, room.saturating_add(1));
    let each = code.here();
    code.put(&[0x49]); // each: dec ecx
    let full = code.jump_if(Condition::Equal);
    code.put(&[0xac]); // lodsb
    code.put(&[0xaa]); // stosb
    code.put(&[0x84, 0xc0]); // test al, al
    code.jump_back_if(Condition::NotEqual, each);
    code.land(full);
    code.put(&[0xc6, 0x07, 0]); // mov byte [edi], 0
    code.land(none);
    code.land(empty);
    code.lea(Register::Eax, shape.cmdline);
    code.store(Register::Eax, zero_page::CMD_LINE_PTR);
}

/// The packed file's own initial ramdisk, else the first module. Its size is in the zero page
/// already.
fn choose_ramdisk(code: &mut Code, shape: &Shape) {
    if let Some(initrd) = shape.initrd {
        code.lea(Register::Eax, initrd);
        code.store(Register::Eax, zero_page::RAMDISK_IMAGE);
        return;
    }
    let fields = [
        (0, zero_page::RAMDISK_IMAGE),
        (4, zero_page::EXT_RAMDISK_IMAGE),
        (8, zero_page::RAMDISK_SIZE),
        (12, zero_page::EXT_RAMDISK_SIZE),
    ];
    code.put(&[0x83, 0x7b, info::MODULES, 0]); // cmp dword [ebx + MODULES], 0
    let none = code.jump_if(Condition::Equal);
    code.load(Register::Esi, info::MODLIST);
    for (from, to) in fields {
        code.put(&[0x8b, 0x46, from]); // mov eax, [esi + from]
        code.store(Register::Eax, to);
    }
    code.land(none);
}

/// The segments of the Linux boot protocol: code at 0x10, data at 0x18.
fn load_segments(code: &mut Code) {
    const DATA: u32 = 0x18;
    const BASE: u32 = GDT_POINTER + 2;
    code.lea(Register::Eax, GDT);
    code.store(Register::Eax, BASE);
    code.with_base(&[0x0f, 0x01], 2, GDT_POINTER); // lgdt [ebp + GDT_POINTER]
    code.move_constant(Register::Eax, DATA);
    for register in [0xd8, 0xc0, 0xd0, 0xe0, 0xe8] {
        code.put(&[0x8e, register]); // mov ds, es, ss, fs, gs
    }
}

/// An identity map of the first 4 GiB in 2 MiB pages (SDM volume 3A, section 4.5).
#[expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in the stub, which has a few pages"
)]
fn build_page_tables(code: &mut Code, shape: &Shape) {
    const PRESENT_WRITABLE: u32 = 0x3;
    const LARGE: u32 = 0x83;
    const LARGE_PAGE: u32 = 0x20_0000;
    const DIRECTORIES: u32 = 4;
    let [top, pointers, first] = [0, 0x1000, 0x2000].map(|offset| shape.page_tables + offset);
    code.lea(Register::Edi, top);
    code.put(&[0x31, 0xc0]); // xor eax, eax
    code.move_constant(Register::Ecx, 2 * 0x1000 / 4);
    code.put(&[0xf3, 0xab]); // rep stosd
    code.lea(Register::Eax, pointers | PRESENT_WRITABLE);
    code.store(Register::Eax, top);
    for number in 0..DIRECTORIES {
        code.lea(Register::Eax, (first + number * 0x1000) | PRESENT_WRITABLE);
        code.store(Register::Eax, pointers + number * 8);
    }
    // EDI is at the first directory now.
    code.move_constant(Register::Eax, LARGE);
    code.put(&[0x31, 0xd2]); // xor edx, edx
    code.move_constant(Register::Ecx, (PAGE_TABLES_LEN - 0x2000) / 8);
    let each = code.here();
    code.put(&[0x89, 0x07]); // each: mov [edi], eax
    code.put(&[0x89, 0x57, 4]); // mov [edi + 4], edx
    code.put(&[0x05]); // add eax, LARGE_PAGE
    code.put(&LARGE_PAGE.to_le_bytes());
    code.put(&[0x83, 0xc7, 8]); // add edi, 8
    code.loop_to(each);
}

/// The order of SDM volume 3A, section 10.8.5. The code segment is changed by [`go`].
fn enter_long_mode(code: &mut Code, shape: &Shape) {
    const CR4_PAE: u32 = 1 << 5;
    const IA32_EFER: u32 = 0xc000_0080;
    const EFER_LME: u32 = 1 << 8;
    const CR0_PG: u32 = 1 << 31;
    code.put(&[0x0f, 0x20, 0xe0]); // mov eax, cr4
    code.put(&[0x0d]); // or eax, CR4_PAE
    code.put(&CR4_PAE.to_le_bytes());
    code.put(&[0x0f, 0x22, 0xe0]); // mov cr4, eax
    code.lea(Register::Eax, shape.page_tables);
    code.put(&[0x0f, 0x22, 0xd8]); // mov cr3, eax
    code.move_constant(Register::Ecx, IA32_EFER);
    code.put(&[0x0f, 0x32]); // rdmsr
    code.put(&[0x0d]); // or eax, EFER_LME
    code.put(&EFER_LME.to_le_bytes());
    code.put(&[0x0f, 0x30]); // wrmsr
    code.put(&[0x0f, 0x20, 0xc0]); // mov eax, cr0
    code.put(&[0x0d]); // or eax, CR0_PG
    code.put(&CR0_PG.to_le_bytes());
    code.put(&[0x0f, 0x22, 0xc0]); // mov cr0, eax
}

/// Into the kernel, ESI at the zero page and the other registers 0. The far return takes the code
/// segment, and with it, in long mode, 64-bit code.
fn go(code: &mut Code, shape: &Shape) {
    const CODE: u8 = 0x10;
    code.lea(Register::Eax, shape.kernel);
    code.store(Register::Eax, zero_page::CODE32_START);
    code.lea(Register::Eax, shape.entry);
    code.put(&[0x6a, CODE]); // push CODE
    code.put(&[0x50]); // push eax
    code.lea(Register::Esi, ZERO_PAGE);
    for register in [
        Register::Eax,
        Register::Ecx,
        Register::Edx,
        Register::Ebx,
        Register::Ebp,
        Register::Edi,
    ] {
        let number = register as u8;
        code.put(&[0x31, 0xc0 | number << 3 | number]); // xor register, register
    }
    code.put(&[0xcb]); // retf
}

/// Says the text at ESI on the first serial port, and stops. Where there is no port, it reads as
/// one that is ready.
fn fail(code: &mut Code, failures: &[Hole]) {
    const LINE_STATUS: u16 = 0x3fd;
    const DATA: u8 = 0xf8;
    const STATUS: u8 = 0xfd;
    const TRANSMITTER_EMPTY: u8 = 0x20;
    for &failure in failures {
        code.land(failure);
    }
    let each = code.here();
    code.put(&[0xac]); // each: lodsb
    code.put(&[0x84, 0xc0]); // test al, al
    let end = code.jump_if(Condition::Equal);
    code.put(&[0x88, 0xc4]); // mov ah, al
    code.put(&[0x66, 0xba]); // mov dx, LINE_STATUS
    code.put(&LINE_STATUS.to_le_bytes());
    let wait = code.here();
    code.put(&[0xec]); // wait: in al, dx
    code.put(&[0xa8, TRANSMITTER_EMPTY]); // test al, TRANSMITTER_EMPTY
    code.jump_back_if(Condition::Equal, wait);
    code.put(&[0xb2, DATA]); // mov dl, the data port's low half
    code.put(&[0x88, 0xe0]); // mov al, ah
    code.put(&[0xee]); // out dx, al
    code.put(&[0xb2, STATUS]); // mov dl, the status port's low half
    code.jump_back(each);
    code.land(end);
    let stop = code.here();
    code.put(&[0xf4]); // stop: hlt
    code.jump_back(stop);
}

/// Where the texts lie, one behind the other.
fn text_offsets() -> [u32; 3] {
    let mut next = MESSAGES;
    TEXTS.map(|text| {
        let at = next;
        next = next.saturating_add(u32::try_from(text.len()).expect("a line of text"));
        at
    })
}

/// A jump whose distance is still to be written.
#[derive(Clone, Copy)]
struct Hole {
    /// Where the distance is to be written.
    at: usize,
    /// In how many bytes.
    len: usize,
}

/// Instructions as they are written, from the stub's first byte.
#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
}

impl Code {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How far the next byte is from the stub's first.
    fn here(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("the stub has some hundred bytes")
    }

    /// An instruction whose operands are `[ebp + offset]` and the register `number`.
    fn with_base(&mut self, opcode: &[u8], number: u8, offset: u32) {
        const EBP_AND_32_BITS: u8 = 0x85;
        self.put(opcode);
        self.put(&[EBP_AND_32_BITS | number << 3]);
        self.put(&offset.to_le_bytes());
    }

    /// `lea register, [ebp + offset]`
    fn lea(&mut self, register: Register, offset: u32) {
        self.with_base(&[0x8d], register as u8, offset);
    }

    /// `mov [ebp + offset], register`
    fn store(&mut self, register: Register, offset: u32) {
        self.with_base(&[0x89], register as u8, offset);
    }

    /// `mov register, [ebx + field]`
    fn load(&mut self, register: Register, field: u8) {
        const EBX_AND_8_BITS: u8 = 0x43;
        self.put(&[0x8b, EBX_AND_8_BITS | (register as u8) << 3, field]);
    }

    /// `mov register, value`
    fn move_constant(&mut self, register: Register, value: u32) {
        self.put(&[0xb8 | register as u8]);
        self.put(&value.to_le_bytes());
    }

    /// A jump over less than 128 bytes.
    fn jump_if(&mut self, condition: Condition) -> Hole {
        self.put(&[0x70 | condition as u8, 0]);
        Hole {
            at: self.bytes.len().saturating_sub(1),
            len: 1,
        }
    }

    /// A jump over any distance.
    fn jump_far_if(&mut self, condition: Condition) -> Hole {
        self.put(&[0x0f, 0x80 | condition as u8, 0, 0, 0, 0]);
        Hole {
            at: self.bytes.len().saturating_sub(4),
            len: 4,
        }
    }

    /// Lets `hole` lead to the next instruction.
    fn land(&mut self, hole: Hole) {
        let from = hole.at.saturating_add(hole.len);
        let distance = self.bytes.len().saturating_sub(from);
        assert!(hole.len == 4 || distance < 128, "short jumps are short");
        let distance = u32::try_from(distance).expect("the stub has some hundred bytes");
        let to = self.bytes.iter_mut().skip(hole.at).take(hole.len);
        for (to, from) in to.zip(distance.to_le_bytes()) {
            *to = from;
        }
    }

    /// `loop`: counts ECX down and jumps back where it is not 0.
    fn loop_to(&mut self, target: u32) {
        self.back(0xe2, target);
    }

    fn jump_back_if(&mut self, condition: Condition, target: u32) {
        self.back(0x70 | condition as u8, target);
    }

    fn jump_back(&mut self, target: u32) {
        self.back(0xeb, target);
    }

    /// A jump of two bytes to `target`, which lies less than 128 bytes before its end.
    fn back(&mut self, opcode: u8, target: u32) {
        let distance = self.here().saturating_add(2).saturating_sub(target);
        assert!(distance <= 128, "short jumps are short");
        let [distance, ..] = distance.wrapping_neg().to_le_bytes();
        self.put(&[opcode, distance]);
    }
}
