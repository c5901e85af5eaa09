//! The ROM that takes a PC from its reset vector to a plan's registers.
//!
//! A processor comes out of reset in real mode at 0xffff_fff0 (Intel SDM volume 3A, section
//! 10.1.4). The ROM ends at 4 GiB and, as on every PC, is seen once more below 1 MiB, at
//! `ALIAS`. It runs there from its second step on, because that is where a plan's page tables
//! map memory to itself. Every value comes from the ROM, segment descriptors too; guest memory is
//! not read before the kernel runs.

mod real_mode;

use super::{ResetRomError, need};
use crate::platform::Pc;
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::x86::{Cr0, DescriptorTable, Efer, Mode, Registers, Segment};
use firstlight_base::{Gpa, KIB};

/// How many bytes the ROM has.
const LEN: u64 = 64 * KIB;
/// Where the ROM runs. Guest memory at these addresses is hidden behind it, and page tables that
/// the plan starts with map them to themselves.
const ALIAS: Gpa = Gpa::new(0xf_0000);

/// The ROM whose processor arrives with the registers `registers`.
///
/// Two things cannot be chosen: a task register that they leave unusable keeps what reset
/// gave it, and `CR0.ET` reads 1.
pub(super) fn rom(registers: &Registers) -> Result<Vec<u8>, ResetRomError> {
    let width = match registers.mode() {
        Mode::Bits64 => Width::Bits64,
        Mode::Bits32 => Width::Bits32,
        Mode::Bits16 => return real_mode::rom(registers),
    };
    check(registers, width)?;
    let table = Descriptors::of(registers)?;
    let mut rom = Rom::new();
    let values = Values::put(&mut rom, registers, &table);
    let first = rom.offset();
    enter_protected_mode(&mut rom, &values, &table);
    enter_mode(&mut rom, registers, &table);
    load_tables_and_segments(&mut rom, registers, &values, width);
    load_gprs_and_go(&mut rom, registers, &values, width);
    Ok(rom.finish(first))
}

/// Puts `bytes` where they are seen at `at`, where the ROM has nothing of its own.
pub(super) fn burn(rom: &mut [u8], at: Gpa, bytes: &[u8]) {
    let offset = at.get().checked_sub(ALIAS.get());
    let offset = offset.and_then(|offset| usize::try_from(offset).ok());
    let place = offset.and_then(|offset| rom.get_mut(offset..)?.get_mut(..bytes.len()));
    let place = place.expect("tables lie in the ROM");
    assert!(
        place.iter().all(|byte| *byte == HLT),
        "the ROM's code ends before"
    );
    place.copy_from_slice(bytes);
}

/// What is where nothing else is.
const HLT: u8 = 0xf4;

/// How wide the code is that the kernel begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits32,
    Bits64,
}

const BELOW_4G: &str = "it is loaded by 32-bit code";

fn narrow(value: u64) -> bool {
    u32::try_from(value).is_ok()
}

fn check_flags(registers: &Registers) -> Result<(), ResetRomError> {
    /// What POPF sets: bits 0 to 21 but for RF and VM, and bit 1 reads 1 (SDM volume 2B, POPF).
    const POPPED: u64 = 0x3c_7fd7;
    const TRAP: u64 = 1 << 8;
    let rflags = registers.gprs.rflags;
    need(
        rflags & !POPPED == 0 && rflags & TRAP == 0 && rflags & 2 != 0,
        "rflags",
        rflags,
        "POPF sets the rest, and a trap would strike in the ROM",
    )
}

/// Only 64-bit code has eight more registers.
fn check_narrow_gprs(registers: &Registers) -> Result<(), ResetRomError> {
    let gprs = &registers.gprs;
    let wide = [
        gprs.r8, gprs.r9, gprs.r10, gprs.r11, gprs.r12, gprs.r13, gprs.r14, gprs.r15,
    ];
    need(
        wide.iter().all(|&value| value == 0),
        "r8 to r15",
        wide.into_iter().fold(0, |seen, value| seen | value),
        "only 64-bit code has them",
    )
}

fn check(registers: &Registers, width: Width) -> Result<(), ResetRomError> {
    let Registers {
        gprs, cr0, efer, ..
    } = registers;
    let long = efer.contains(Efer::LME) && cr0.contains(Cr0::PG);
    need(
        efer.contains(Efer::LMA) == long,
        "efer",
        efer.bits(),
        "LMA is set exactly where LME and CR0.PG are",
    )?;
    check_flags(registers)?;
    let controls = [
        ("cr0", registers.cr0.bits()),
        ("cr3", registers.cr3),
        ("cr4", registers.cr4.bits()),
    ];
    for (name, value) in controls {
        need(narrow(value), name, value, BELOW_4G)?;
    }
    if width == Width::Bits32 {
        for (name, value) in general(registers) {
            need(narrow(value), name, value, BELOW_4G)?;
        }
        let rest = [
            ("rip", gprs.rip),
            ("cr2", registers.cr2),
            ("gdt", registers.gdt.base),
            ("idt", registers.idt.base),
        ];
        for (name, value) in rest {
            need(narrow(value), name, value, BELOW_4G)?;
        }
        check_narrow_gprs(registers)?;
        need(
            usable(registers.ss),
            "ss",
            registers.ss.selector.into(),
            "only 64-bit code goes without a stack segment",
        )?;
    }
    need(
        usable(registers.cs) && registers.cs.base == 0 && registers.cs.limit >= LAST_BYTE,
        "cs",
        registers.cs.base,
        "the ROM runs in this segment, so it begins at 0 and holds the first MiB",
    )
}

/// The offset of the ROM's last byte in a flat segment.
const LAST_BYTE: u32 = 0xf_ffff;

/// The eight registers that code of either width has, in the order of their numbers in
/// instructions (SDM volume 2A, table 2-2).
fn general(registers: &Registers) -> [(&'static str, u64); 8] {
    let gprs = &registers.gprs;
    [
        ("rax", gprs.rax),
        ("rcx", gprs.rcx),
        ("rdx", gprs.rdx),
        ("rbx", gprs.rbx),
        ("rsp", gprs.rsp),
        ("rbp", gprs.rbp),
        ("rsi", gprs.rsi),
        ("rdi", gprs.rdi),
    ]
}

/// Whether a segment register holds something: an unusable one is not present.
fn usable(segment: Segment) -> bool {
    const PRESENT: u16 = 0x80;
    segment.access & PRESENT != 0
}

/// The ROM's own descriptor table: every segment of the plan at its selector, and behind them the
/// two that lead there.
struct Descriptors {
    entries: Vec<u64>,
    code: u16,
    data: u16,
}

impl Descriptors {
    fn of(registers: &Registers) -> Result<Self, ResetRomError> {
        let mut entries = vec![0];
        for (name, segment) in registers.segments() {
            if usable(segment) {
                put_descriptor(&mut entries, name, segment)?;
            } else {
                let null = segment.selector <= 3;
                need(
                    null,
                    name,
                    segment.selector.into(),
                    "an unusable segment has a null selector",
                )?;
            }
        }
        let code = push_descriptor(&mut entries, Segment::code32(0));
        let data = push_descriptor(&mut entries, Segment::data32(0));
        Ok(Self {
            entries,
            code,
            data,
        })
    }
}

fn put_descriptor(
    entries: &mut Vec<u64>,
    name: &'static str,
    segment: Segment,
) -> Result<(), ResetRomError> {
    /// Code and data have this bit; system segments do not.
    const CODE_OR_DATA: u16 = 0x10;
    const BUSY: u64 = 1 << 41;
    const GRANULAR: u16 = 0x8000;
    /// More selectors than this make no difference but to the ROM's size.
    const LAST_SELECTOR: u16 = 0xff8;
    let Segment {
        selector, limit, ..
    } = segment;
    need(
        (8..=LAST_SELECTOR).contains(&selector) && selector % 8 == 0,
        name,
        selector.into(),
        "selectors from 0x8 to 0xff8 in the global table at level 0 can be loaded",
    )?;
    need(
        u32::try_from(segment.base).is_ok(),
        name,
        segment.base,
        "a descriptor has 32 bits for the base",
    )?;
    let expressed = if segment.access & GRANULAR != 0 {
        limit & 0xfff == 0xfff
    } else {
        limit <= 0xf_ffff
    };
    need(
        expressed,
        name,
        limit.into(),
        "a descriptor has 20 bits for the limit",
    )?;
    let system = segment.access & CODE_OR_DATA == 0;
    // Loading the task register takes a task that is not busy, and makes it so.
    let descriptor = if name == "tr" {
        segment.descriptor() & !BUSY
    } else {
        segment.descriptor()
    };
    // In long mode a system segment's base continues in a second descriptor.
    let parts: &[u64] = if system {
        &[descriptor, 0]
    } else {
        &[descriptor]
    };
    for (index, &part) in (usize::from(selector / 8)..).zip(parts) {
        if entries.len() <= index {
            entries.resize(index.saturating_add(1), 0);
        }
        let entry = entries
            .get_mut(index)
            .expect("the table has just been made long enough");
        need(
            *entry == 0 || *entry == part,
            name,
            selector.into(),
            "another register has the same selector for another segment",
        )?;
        *entry = part;
    }
    Ok(())
}

fn push_descriptor(entries: &mut Vec<u64>, segment: Segment) -> u16 {
    let selector = entries.len().saturating_mul(8);
    entries.push(segment.descriptor());
    u16::try_from(selector).expect("a table that ends at selector 0xff8 has room for two more")
}

/// Where the ROM keeps what its instructions read from memory.
struct Values {
    own_table: u32,
    gdt: u32,
    idt: u32,
    rflags: u32,
    rip: u32,
}

impl Values {
    fn put(rom: &mut Rom, registers: &Registers, table: &Descriptors) -> Self {
        let entries = rom.here();
        for entry in &table.entries {
            rom.put(&entry.to_le_bytes());
        }
        let limit = usize::from(table.data).saturating_add(7);
        let own = DescriptorTable {
            base: entries.into(),
            limit: u16::try_from(limit).expect("the table has some 500 entries at most"),
        };
        Self {
            own_table: rom.put_table_pointer(own),
            gdt: rom.put_table_pointer(registers.gdt),
            idt: rom.put_table_pointer(registers.idt),
            rflags: rom.put(&registers.gprs.rflags.to_le_bytes()),
            rip: rom.put(&registers.gprs.rip.to_le_bytes()),
        }
    }
}

/// From real mode, at the top of the address space, to flat 32-bit code in the alias.
fn enter_protected_mode(rom: &mut Rom, values: &Values, table: &Descriptors) {
    /// Protection on, caches on; ET cannot be cleared.
    const CR0: u32 = 0x11;
    let [low, high, ..] = values.own_table.to_le_bytes();
    // o32 lgdt cs:[disp16]: offsets in the ROM and in the alias are the same 16 bits.
    rom.put(&[0x66, 0x2e, 0x0f, 0x01, 0x16, low, high]);
    // mov eax, CR0; mov cr0, eax
    rom.put(&[0x66, 0xb8]);
    rom.put(&CR0.to_le_bytes());
    rom.put(&[0x0f, 0x22, 0xc0]);
    rom.put(&[0x66]);
    rom.jump_far_to_next(table.code);
}

/// Sets what makes the mode, and takes the plan's code segment.
fn enter_mode(rom: &mut Rom, registers: &Registers, table: &Descriptors) {
    const IA32_EFER: u32 = 0xc000_0080;
    let low = |value: u64| u32::try_from(value & 0xffff_ffff).expect("32 bits are left");
    // The stack segment of reset ends below the ROM.
    rom.move_eax(table.data.into());
    rom.put(&[0x8e, 0xd0]);
    reset_a_machine_that_has_run(rom);
    // mov cr4, eax; mov cr3, eax
    rom.move_eax(low(registers.cr4.bits()));
    rom.put(&[0x0f, 0x22, 0xe0]);
    rom.move_eax(low(registers.cr3));
    rom.put(&[0x0f, 0x22, 0xd8]);
    // The processor itself sets LMA. A processor without long mode has no such register.
    let efer = registers.efer.difference(Efer::LMA).bits();
    if efer != 0 {
        // mov ecx, IA32_EFER; mov edx, high half; wrmsr
        rom.put(&[0xb9]);
        rom.put(&IA32_EFER.to_le_bytes());
        rom.put(&[0xba]);
        rom.put(&low(efer >> 32).to_le_bytes());
        rom.move_eax(low(efer));
        rom.put(&[0x0f, 0x30]);
    }
    rom.move_eax(low(registers.cr0.bits()));
    rom.put(&[0x0f, 0x22, 0xc0]);
    rom.jump_far_to_next(registers.cs.selector);
}

/// Asks for a reset where a kernel has jumped to the reset vector to be reset, as Linux does on a
/// machine with hardware-reduced ACPI but no EFI (`arch/x86/kernel/reboot.c`). Memory is not what
/// it was then. `IA32_LSTAR` tells: reset clears it, every 64-bit kernel puts the entry of its
/// system calls there, and a jump leaves it alone.
fn reset_a_machine_that_has_run(rom: &mut Rom) {
    const IA32_LSTAR: u32 = 0xc000_0082;
    const RESET_REGISTER: u64 = Pc::ACPI_REGS.get() + 2;
    // mov ecx, IA32_LSTAR; rdmsr; or eax, edx; je behind the reset
    rom.put(&[0xb9]);
    rom.put(&IA32_LSTAR.to_le_bytes());
    rom.put(&[0x0f, 0x32, 0x09, 0xd0, 0x74, 11]);
    // mov byte ptr ss:[RESET_REGISTER], ACPI_RESET_VALUE
    let [a, b, c, d, ..] = RESET_REGISTER.to_le_bytes();
    rom.put(&[0x36, 0xc6, 0x05, a, b, c, d, Pc::ACPI_RESET_VALUE]);
    // hlt; jmp to it
    rom.put(&[0xf4, 0xeb, 0xfd]);
}

/// Loads everything else that takes a table or the stack to load.
fn load_tables_and_segments(rom: &mut Rom, registers: &Registers, values: &Values, width: Width) {
    // mov rax, cr2's value; mov cr2, rax
    rom.move_register(0, registers.cr2, width);
    rom.put(&[0x0f, 0x22, 0xd0]);
    // mov rsp, the flags' place; popf: reading is all that the stack is used for.
    rom.move_register(4, values.rflags.into(), width);
    rom.put(&[0x9d]);
    // lidt
    rom.put_with_memory(&[0x0f, 0x01], 3, values.idt, width);
    // ltr ax; lldt ax
    if usable(registers.tr) {
        rom.move_eax(registers.tr.selector.into());
        rom.put(&[0x0f, 0x00, 0xd8]);
    }
    rom.move_eax(registers.ldt.selector.into());
    rom.put(&[0x0f, 0x00, 0xd0]);
    // mov es, ss, ds, fs, gs
    let segments = [
        (0, registers.es),
        (2, registers.ss),
        (3, registers.ds),
        (4, registers.fs),
        (5, registers.gs),
    ];
    for (number, segment) in segments {
        rom.move_eax(segment.selector.into());
        rom.put(&[0x8e, 0xc0 | number << 3]);
    }
    // lgdt, last: the plan's own table need not hold what was loaded.
    rom.put_with_memory(&[0x0f, 0x01], 2, values.gdt, width);
}

/// Loads the general registers, without touching the flags, and leaves.
fn load_gprs_and_go(rom: &mut Rom, registers: &Registers, values: &Values, width: Width) {
    let gprs = &registers.gprs;
    for (number, (_, value)) in (0u8..).zip(general(registers)) {
        rom.move_register(number, value, width);
    }
    match width {
        // jmp rel32, which reaches every 32-bit address
        Width::Bits32 => rom.put_relative(&[0xe9], gprs.rip),
        Width::Bits64 => {
            let wide = [
                gprs.r8, gprs.r9, gprs.r10, gprs.r11, gprs.r12, gprs.r13, gprs.r14, gprs.r15,
            ];
            for (number, value) in (8u8..).zip(wide) {
                rom.move_register(number, value, width);
            }
            // jmp [rip's place]
            rom.put_with_memory(&[0xff], 4, values.rip, width);
        }
    }
}

/// The ROM's bytes as they are written, from its start.
struct Rom {
    bytes: Vec<u8>,
}

impl Rom {
    fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// How far the next byte is from the ROM's start.
    fn offset(&self) -> u16 {
        u16::try_from(self.bytes.len()).expect("table and code are some 5 KiB at most")
    }

    /// The address of the next byte.
    fn here(&self) -> u32 {
        let base = u32::try_from(ALIAS.get()).expect("the alias is below 1 MiB");
        base | u32::from(self.offset())
    }

    /// Adds `bytes` and says where.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        let here = self.here();
        self.bytes.extend_from_slice(bytes);
        here
    }

    /// What LGDT and LIDT read, in the form of 64-bit mode, which begins like that of 32-bit mode.
    fn put_table_pointer(&mut self, table: DescriptorTable) -> u32 {
        let here = self.put(&table.limit.to_le_bytes());
        self.put(&table.base.to_le_bytes());
        here
    }

    /// `jmp selector:next`, the offset 32 bits wide; in 16-bit code a 0x66 goes before it.
    fn jump_far_to_next(&mut self, selector: u16) {
        const LEN: u32 = 7;
        let next = self.here().saturating_add(LEN);
        self.put(&[0xea]);
        self.put(&next.to_le_bytes());
        self.put(&selector.to_le_bytes());
    }

    /// `mov eax, value`
    fn move_eax(&mut self, value: u32) {
        self.put(&[0xb8]);
        self.put(&value.to_le_bytes());
    }

    /// `mov` of a constant to the general register of that number.
    fn move_register(&mut self, number: u8, value: u64, width: Width) {
        /// REX.W, and REX.B for the registers from 8 on.
        const WIDE: u8 = 0x48;
        match width {
            Width::Bits64 => {
                self.put(&[WIDE | number >> 3, 0xb8 | number & 7]);
                self.put(&value.to_le_bytes());
            }
            Width::Bits32 => {
                let [a, b, c, d, ..] = value.to_le_bytes();
                self.put(&[0xb8 | number & 7, a, b, c, d]);
            }
        }
    }

    /// An instruction whose operand is at `address` in the ROM; `extension` is the middle field
    /// of its ModR/M byte. 32-bit code reads it through the code segment, which is known flat.
    fn put_with_memory(&mut self, opcode: &[u8], extension: u8, address: u32, width: Width) {
        let modrm = 0x05 | extension << 3;
        match width {
            Width::Bits64 => {
                self.put(opcode);
                self.put_relative(&[modrm], address.into());
            }
            Width::Bits32 => {
                self.put(&[0x2e]);
                self.put(opcode);
                self.put(&[modrm]);
                self.put(&address.to_le_bytes());
            }
        }
    }

    /// `bytes`, and behind them how far `target` is from the byte after that number.
    fn put_relative(&mut self, bytes: &[u8], target: u64) {
        self.put(bytes);
        let next = u64::from(self.here()).wrapping_add(4);
        let [a, b, c, d, ..] = target.wrapping_sub(next).to_le_bytes();
        self.put(&[a, b, c, d]);
    }

    /// Fills the ROM up and puts the reset vector's jump to the code at `first`.
    fn finish(self, first: u16) -> Vec<u8> {
        const VECTOR: u16 = 0xfff0;
        const JUMP_LEN: u16 = 3;
        let len = usize::try_from(LEN).expect("64 KiB");
        let mut bytes = self.bytes;
        bytes.resize(VECTOR.into(), HLT);
        let next = VECTOR.wrapping_add(JUMP_LEN);
        let [low, high] = first.wrapping_sub(next).to_le_bytes();
        bytes.extend([0xe9, low, high]);
        bytes.resize(len, HLT);
        bytes
    }
}

#[cfg(test)]
mod tests;
