use super::*;
use firstlight_base::x86::{Cr0, Cr4, DescriptorTable, Efer, Gprs};
use firstlight_base::{Gpa, GpaRange, MIB};
use firstlight_load::{Backing, GuestMemory};

fn memory() -> GuestMemory {
    let range = GpaRange::new(Gpa::new(0), 2 * MIB).unwrap();
    GuestMemory::allocate(&[range], Backing::Private).unwrap()
}

fn registers() -> Registers {
    Registers {
        gprs: Gprs::default(),
        cs: Segment::code64(0x10),
        ds: Segment::data32(0x18),
        es: Segment::data32(0x18),
        fs: Segment::data32(0x18),
        gs: Segment::data32(0x18),
        ss: Segment::data32(0x18),
        tr: Segment::task(0x20),
        ldt: Segment::UNUSABLE,
        gdt: DescriptorTable::default(),
        idt: DescriptorTable::default(),
        cr0: Cr0::PE | Cr0::PG,
        cr2: 0,
        cr3: 0x1000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA,
    }
}

fn put(memory: &GuestMemory, at: u64, entry: u64) {
    memory.write(Gpa::new(at), &entry.to_le_bytes()).unwrap();
}

const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// Tables at 0x1000.. that map [`KERNEL`] through entry 511 and 510.
fn map_kernel(memory: &GuestMemory, directory_entry: u64) {
    put(memory, 0x1000 + 511 * 8, 0x2003);
    put(memory, 0x2000 + 510 * 8, 0x3003);
    put(memory, 0x3000, directory_entry);
}

#[test]
fn a_small_page_a_large_one_and_a_huge_one_are_found() {
    let memory = memory();
    map_kernel(&memory, 0x4003);
    put(&memory, 0x4000 + 8, 0x10_5003);
    let at = |linear| walk::translate(&registers(), linear, &memory);
    assert_eq!(at(KERNEL + 0x1234), Some(Gpa::new(0x10_5234)));
    assert_eq!(at(KERNEL + 0x2000), None);
    put(&memory, 0x3000, 0x60_0083);
    assert_eq!(at(KERNEL + 0x12_3456), Some(Gpa::new(0x72_3456)));
    put(&memory, 0x2000 + 510 * 8, 0x4000_0083);
    assert_eq!(at(KERNEL + 0x1234_5678), Some(Gpa::new(0x5234_5678)));
}

#[test]
fn five_levels_have_one_table_more() {
    let memory = memory();
    map_kernel(&memory, 0x60_0083);
    put(&memory, 0x8000 + 511 * 8, 0x1003);
    let registers = Registers {
        cr3: 0x8000,
        cr4: Cr4::PAE | Cr4::LA57,
        ..registers()
    };
    let at = walk::translate(&registers, KERNEL + 0x10, &memory);
    assert_eq!(at, Some(Gpa::new(0x60_0010)));
}

#[test]
fn without_paging_linear_is_physical() {
    let registers = Registers {
        cr0: Cr0::PE,
        ..registers()
    };
    let at = walk::translate(&registers, 0x10_0000, &memory());
    assert_eq!(at, Some(Gpa::new(0x10_0000)));
}

#[test]
fn thirty_two_bit_paging_has_entries_of_four_bytes() {
    let memory = memory();
    let registers = Registers {
        cr4: Cr4::empty(),
        efer: Efer::empty(),
        ..registers()
    };
    memory
        .write(Gpa::new(0x1000 + 0x300 * 4), &0x2003u32.to_le_bytes())
        .unwrap();
    memory
        .write(Gpa::new(0x2004), &0x5003u32.to_le_bytes())
        .unwrap();
    let at = walk::translate(&registers, 0xc000_1234, &memory);
    assert_eq!(at, Some(Gpa::new(0x5234)));
}

#[test]
fn page_tables_outside_memory_map_nothing() {
    let registers = Registers {
        cr3: 0x000f_ffff_ffff_f000,
        ..registers()
    };
    assert_eq!(walk::translate(&registers, KERNEL, &memory()), None);
}

#[test]
fn code_is_read_across_a_page_and_stops_where_nothing_is_mapped() {
    let memory = memory();
    map_kernel(&memory, 0x4003);
    put(&memory, 0x4000, 0x5003);
    put(&memory, 0x4008, 0x9003);
    memory.write(Gpa::new(0x5ffe), &[0x0f]).unwrap();
    memory.write(Gpa::new(0x9000), &[0xc7]).unwrap();
    let translate = |linear| walk::translate(&registers(), linear, &memory);
    let read = |linear, len| read_virtual(translate, linear, len, &memory);
    assert_eq!(read(KERNEL + 0xffe, 3), [0x0f, 0, 0xc7]);
    assert_eq!(read(KERNEL + 0x1ffe, 10).len(), 2);
    assert!(read(KERNEL + 0x2000, 10).is_empty());
}

#[test]
fn the_instruction_that_kvm_could_not_do_is_named() {
    let bytes = [0xf0, 0x48, 0x0f, 0xc7, 0x4d, 0x20, 0x0f];
    let decoded = code(&registers(), &bytes, &memory()).instructions;
    assert_eq!(decoded[0].text, "lock cmpxchg16b 0x20(%rbp)");
    assert_eq!(decoded[0].bytes, [0xf0, 0x48, 0x0f, 0xc7, 0x4d, 0x20]);
    assert_eq!(decoded[1].text, "(no instruction)");
    assert_eq!(decoded.len(), 2);
}

#[test]
fn real_mode_code_is_decoded_as_such_at_its_segment() {
    let memory = memory();
    memory
        .write(Gpa::new(0x1_0010), &[0xb8, 1, 0, 0xf4])
        .unwrap();
    let mut registers = Registers {
        cr0: Cr0::empty(),
        efer: Efer::empty(),
        cs: Segment {
            selector: 0x1000,
            base: 0x1_0000,
            limit: 0xffff,
            access: 0x9b,
        },
        ..registers()
    };
    registers.gprs.rip = 0x10;
    let code = code(&registers, &[], &memory);
    assert_eq!(code.at, Some(Gpa::new(0x1_0010)));
    let decoded = code.instructions;
    assert_eq!(decoded[0].text, "mov $1,%ax");
    assert_eq!(decoded[1].text, "hlt");
}
