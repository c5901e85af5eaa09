use super::*;
use firstlight_base::arm64::System;
use firstlight_base::{GIB, Gpa, GpaRange, KIB, MIB};
use firstlight_load::{Backing, GuestMemory};

const RAM: u64 = GIB;

fn memory() -> GuestMemory {
    let range = GpaRange::new(Gpa::new(RAM), 2 * MIB).unwrap();
    GuestMemory::allocate(&[range], Backing::Private).unwrap()
}

fn put(memory: &GuestMemory, at: u64, entry: u64) {
    memory.write(Gpa::new(at), &entry.to_le_bytes()).unwrap();
}

/// The MMU on, with both halves of that many bits and the granules that the fields say; the tables
/// begin where RAM does.
fn system(bits: u64, tg0: u64, tg1: u64) -> System {
    System {
        sctlr: 1,
        tcr: (64 - bits) | tg0 << 14 | (64 - bits) << 16 | tg1 << 30,
        ttbr0: RAM,
        ttbr1: 0x1234 << 48 | RAM | 1,
        ..System::default()
    }
}

#[test]
fn four_levels_of_4_kib_map_a_kernel_by_pages_and_blocks() {
    let (memory, system) = (memory(), system(48, 0, 2));
    let kernel: u64 = 0xffff_8000_8000_0000;
    put(&memory, RAM + 256 * 8, (RAM + 0x1000) | 3);
    put(&memory, RAM + 0x1000 + 2 * 8, (RAM + 0x2000) | 3);
    put(&memory, RAM + 0x2000, (RAM + 0x3000) | 3);
    put(&memory, RAM + 0x3000 + 8, 0x0060_0000_4567_8703);
    put(&memory, RAM + 0x3000 + 16, 0x4567_9701);
    put(&memory, RAM + 0x2000 + 8, 0x0060_0000_5020_0701);
    let at = |address| walk::translate(&system, address, &memory);
    assert_eq!(at(kernel + 0x1234), Some(Gpa::new(0x4567_8234)));
    assert_eq!(at(kernel + 0x2000), None, "no page of the last level");
    assert_eq!(at(kernel + 0x20_1234), Some(Gpa::new(0x5020_1234)));
    assert_eq!(at(kernel + 0x40_0000), None);
    put(&memory, RAM + 0x1000 + 8, 0x8000_0701);
    assert_eq!(at(kernel - GIB + 0x1234_5678), Some(Gpa::new(0x9234_5678)));
}

#[test]
fn granules_of_16_and_64_kib_have_tables_of_their_own_sizes() {
    let memory = memory();
    // 47 bits: the first table is indexed by 11 + 11 + 11 bits.
    put(&memory, RAM + 0x7ff * 8, (RAM + 16 * KIB) | 3);
    put(&memory, RAM + 16 * KIB, (RAM + 32 * KIB) | 3);
    put(&memory, RAM + 32 * KIB + 8, 0x4567_c003);
    let address = 0xffff_fff0_0000_4321;
    let sixteen = walk::translate(&system(47, 2, 1), address, &memory);
    assert_eq!(sixteen, Some(Gpa::new(0x4567_c321)));

    let memory = self::memory();
    put(&memory, RAM + 8, (RAM + 64 * KIB) | 3);
    put(&memory, RAM + 64 * KIB, 0x6000_0001);
    let sixty_four = walk::translate(&system(42, 1, 3), (1 << 29) | 0x12_3456, &memory);
    assert_eq!(sixty_four, None, "a block is 512 MiB");
    put(&memory, RAM, (RAM + 64 * KIB) | 3);
    let table = System {
        tcr: (64 - 48) | 1 << 14,
        ..system(48, 1, 3)
    };
    let block = walk::translate(&table, 0x12_3456, &memory);
    assert_eq!(block, Some(Gpa::new(0x6012_3456)));
}

#[test]
fn an_address_beyond_either_half_is_mapped_nowhere() {
    let (memory, system) = (memory(), system(39, 0, 2));
    for address in [1 << 39, 0xffff_ff00_0000_0000, 0x0080_0000_0000_0000] {
        assert_eq!(walk::translate(&system, address, &memory), None);
    }
}

#[test]
fn a_half_that_is_switched_off_is_mapped_nowhere_and_odd_sizes_do_no_harm() {
    let memory = memory();
    put(&memory, RAM, 3);
    for tcr in 0..0x1_0000_u64 {
        for address in [0, u64::MAX] {
            let system = System {
                tcr: tcr | tcr << 16,
                ..system(48, 0, 2)
            };
            let _ = walk::translate(&system, address, &memory);
        }
    }
    let off = System {
        tcr: system(39, 0, 2).tcr | 1 << 7,
        ..system(39, 0, 2)
    };
    put(&memory, RAM, 0x4000_0701);
    assert_eq!(walk::translate(&off, 0, &memory), None);
}

#[test]
fn without_the_mmu_virtual_is_physical() {
    let at = walk::translate(&System::default(), 0x4020_0000, &memory());
    assert_eq!(at, Some(Gpa::new(0x4020_0000)));
}

#[test]
fn instructions_have_names_and_stop_where_memory_does() {
    let memory = memory();
    let end = RAM + 2 * MIB;
    memory
        .write(
            Gpa::new(end - 8),
            &[0xd503_207f_u32, 0xffff_ffff]
                .map(u32::to_le_bytes)
                .concat(),
        )
        .unwrap();
    let registers = Registers {
        pc: end - 8,
        ..Registers::default()
    };
    let code = code(&registers, &memory);
    let texts: Vec<&str> = code.instructions.iter().map(|one| &*one.text).collect();
    assert_eq!(texts, ["wfi", "(no instruction)"]);
    assert_eq!(code.instructions[1].ip, end - 4);
}

#[test]
fn an_abort_is_told_with_its_fault() {
    let told = |esr| exception::Syndrome(esr).to_string();
    assert_eq!(
        told(0x9600_0045),
        "data abort, translation fault at level 1"
    );
    assert_eq!(
        told(0x8600_000f),
        "instruction abort, permission fault at level 3"
    );
    assert_eq!(told(0x0200_0000), "undefined instruction");
    assert_eq!(told(0x6232_c061), "system register that is not there");
    assert_eq!(told(0xfc00_0000), "exception of class 0x3f");
}
