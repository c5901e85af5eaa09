//! The way to real mode, which leads through protected mode and back.
//!
//! A processor comes out of reset in real mode, but a machine that has run before has to be reset,
//! and the register for that lies far above what real mode reaches. The way back is that of the
//! SDM, volume 3A, section 10.9.2: segments as long as real mode's first, then the mode, then the
//! segments themselves.

use super::{
    ALIAS, BELOW_4G, Descriptors, ResetRomError, Rom, Values, Width, check_flags,
    check_narrow_gprs, enter_protected_mode, general, narrow, need, push_descriptor,
    reset_a_machine_that_has_run, usable,
};
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::x86::{Cr0, Registers, Segment};

/// How long every segment is.
const LIMIT: u32 = 0xffff;
/// The segment of the ROM's code.
const ROM: u16 = 0xf000;
/// Makes a 16-bit instruction's operand 32 bits wide.
const WIDE: u8 = 0x66;

/// The ROM for `registers`, which are those of real mode.
pub(super) fn rom(registers: &Registers) -> Result<Vec<u8>, ResetRomError> {
    check(registers)?;
    let mut entries = vec![0];
    let code16 = push_descriptor(
        &mut entries,
        Segment {
            selector: 0,
            base: ALIAS.get(),
            limit: LIMIT,
            access: 0x009b,
        },
    );
    let data16 = push_descriptor(
        &mut entries,
        Segment {
            selector: 0,
            base: 0,
            limit: LIMIT,
            access: 0x0093,
        },
    );
    let code = push_descriptor(&mut entries, Segment::code32(0));
    let data = push_descriptor(&mut entries, Segment::data32(0));
    let table = Descriptors {
        entries,
        code,
        data,
    };
    let mut rom = Rom::new();
    let values = Values::put(&mut rom, registers, &table);
    let first = rom.offset();
    enter_protected_mode(&mut rom, &values, &table);
    in_32_bits(&mut rom, registers, &values, &table);
    leave(&mut rom, registers, code16, data16);
    load_and_go(&mut rom, registers, &values);
    Ok(rom.finish(first))
}

fn check(registers: &Registers) -> Result<(), ResetRomError> {
    check_flags(registers)?;
    check_narrow_gprs(registers)?;
    let Registers { gprs, cr0, .. } = registers;
    need(
        !cr0.intersects(Cr0::PE | Cr0::PG),
        "cr0",
        cr0.bits(),
        "16-bit code is entered in real mode only",
    )?;
    need(
        registers.efer.is_empty(),
        "efer",
        registers.efer.bits(),
        "real mode does not need it",
    )?;
    let numbers = [
        ("cr0", cr0.bits()),
        ("cr2", registers.cr2),
        ("cr3", registers.cr3),
        ("cr4", registers.cr4.bits()),
        ("gdt", registers.gdt.base),
        ("idt", registers.idt.base),
    ];
    for (name, value) in general(registers).into_iter().chain(numbers) {
        need(narrow(value), name, value, BELOW_4G)?;
    }
    need(
        u16::try_from(gprs.rip).is_ok(),
        "rip",
        gprs.rip,
        "a segment has 64 KiB",
    )?;
    let [code_and_data @ .., _task, _ldt] = registers.segments();
    for (name, segment) in code_and_data {
        need(
            segment.base == u64::from(segment.selector) << 4 && segment.limit == LIMIT,
            name,
            segment.base,
            "a segment of real mode begins at 16 times its selector and has 64 KiB",
        )?;
    }
    for (name, segment) in [("tr", registers.tr), ("ldt", registers.ldt)] {
        need(
            !usable(segment) || (segment.selector == 0 && segment.base == 0),
            name,
            segment.selector.into(),
            "real mode keeps what reset gave it",
        )?;
    }
    Ok(())
}

/// What takes flat segments, or is as well done here.
fn in_32_bits(rom: &mut Rom, registers: &Registers, values: &Values, table: &Descriptors) {
    // mov ss, ax
    rom.move_eax(table.data.into());
    rom.put(&[0x8e, 0xd0]);
    reset_a_machine_that_has_run(rom);
    // mov cr4, eax; mov cr3, eax; mov cr2, eax
    rom.move_register(0, registers.cr4.bits(), Width::Bits32);
    rom.put(&[0x0f, 0x22, 0xe0]);
    rom.move_register(0, registers.cr3, Width::Bits32);
    rom.put(&[0x0f, 0x22, 0xd8]);
    rom.move_register(0, registers.cr2, Width::Bits32);
    rom.put(&[0x0f, 0x22, 0xd0]);
    // mov esp, the flags' place; popf
    rom.move_register(4, values.rflags.into(), Width::Bits32);
    rom.put(&[0x9d]);
    // lidt
    rom.put_with_memory(&[0x0f, 0x01], 3, values.idt, Width::Bits32);
}

/// Back to real mode, in the ROM's own segment.
fn leave(rom: &mut Rom, registers: &Registers, code16: u16, data16: u16) {
    // jmp code16:next; seven bytes
    let next = u32::from(rom.offset()).saturating_add(7);
    rom.put(&[0xea]);
    rom.put(&next.to_le_bytes());
    rom.put(&code16.to_le_bytes());
    // mov eax, data16; mov es, ss, ds, fs, gs
    wide_move(rom, 0, data16.into());
    for number in [0, 2, 3, 4, 5] {
        rom.put(&[0x8e, 0xc0 | number << 3]);
    }
    // mov eax, cr0's value; mov cr0, eax
    wide_move(rom, 0, registers.cr0.bits());
    rom.put(&[0x0f, 0x22, 0xc0]);
    // jmp ROM:next; five bytes
    let next = rom.offset().saturating_add(5);
    rom.put(&[0xea]);
    rom.put(&next.to_le_bytes());
    rom.put(&ROM.to_le_bytes());
}

/// The segments of real mode, the rest, and off.
fn load_and_go(rom: &mut Rom, registers: &Registers, values: &Values) {
    let segments = [
        (0, registers.es),
        (2, registers.ss),
        (3, registers.ds),
        (4, registers.fs),
        (5, registers.gs),
    ];
    for (number, segment) in segments {
        wide_move(rom, 0, segment.selector.into());
        rom.put(&[0x8e, 0xc0 | number << 3]);
    }
    // lgdt cs:[its place]
    let [low, high, ..] = values.gdt.to_le_bytes();
    rom.put(&[WIDE, 0x2e, 0x0f, 0x01, 0x16, low, high]);
    for (number, (_, value)) in (0u8..).zip(general(registers)) {
        wide_move(rom, number, value);
    }
    // jmp cs:ip
    let [low, high, ..] = registers.gprs.rip.to_le_bytes();
    rom.put(&[0xea, low, high]);
    rom.put(&registers.cs.selector.to_le_bytes());
}

/// `mov` of a constant to the general register of that number, in 16-bit code.
fn wide_move(rom: &mut Rom, number: u8, value: u64) {
    rom.put(&[WIDE]);
    rom.move_register(number, value, Width::Bits32);
}
