//! What is given, taken back, refused and listed.

use super::*;
use firstlight_base::{GIB, MIB};
use proptest::prelude::*;

fn range(start: u64, len: u64) -> GpaRange {
    GpaRange::new(Gpa::new(start), len).unwrap()
}

fn ports(first: u16, count: u32) -> PortRange {
    PortRange::new(Port(first), count).unwrap()
}

fn pci(bus: u8, device: u8, function: u8) -> Address {
    Address::new(bus, device, function).unwrap()
}

const LOW: u64 = 0xd000_0000;

fn config() -> SystemAllocatorConfig {
    SystemAllocatorConfig {
        io: PortRange::new(Port(0xc000), 0x4000),
        low_mmio: Some(range(LOW, MIB)),
        high_mmio: Some(range(8 * GIB, GIB)),
        platform_mmio: None,
        irqs: IrqRange::new(Irq(9), 15).unwrap(),
        last_bus: 3,
    }
}

fn allocator() -> SystemAllocator {
    SystemAllocator::new(config()).unwrap()
}

#[test]
fn what_is_given_is_the_lowest_that_is_aligned() {
    let mut allocator = allocator();
    let mut low = |room| {
        allocator
            .allocate_mmio(MmioWindow::Low, room, "disk")
            .unwrap()
    };
    assert_eq!(low(Room::bar(0x1000)), range(LOW, 0x1000));
    assert_eq!(low(Room::bar(0x4000)), range(LOW + 0x4000, 0x4000));
    assert_eq!(low(Room::bar(0x1000)), range(LOW + 0x1000, 0x1000));
    let high = allocator.allocate_mmio(MmioWindow::High, Room::bar(MIB), "disk");
    assert_eq!(high, Ok(range(8 * GIB, MIB)));
    assert_eq!(
        allocator.allocate_ports(Room::bar(0x20), "disk"),
        Ok(ports(0xc000, 0x20))
    );
    assert_eq!(allocator.allocate_irq("disk"), Ok(Irq(9)));
    assert_eq!(allocator.allocate_irq("net"), Ok(Irq(10)));
}

#[test]
fn two_devices_at_one_address_are_both_named() {
    let mut allocator = allocator();
    let com1 = ports(0x3f8, 8);
    allocator.reserve_ports(com1, "serial port 1").unwrap();
    let refused = allocator.reserve_ports(ports(0x3ff, 2), "parallel port");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "ports 0x3ff-0x400 for parallel port overlaps ports 0x3f8-0x3ff, which serial port 1 has"
    );
    let ecam = range(LOW + 0x8_0000, 0x8_0000);
    allocator.reserve_mmio(ecam, "ECAM").unwrap();
    let refused = allocator.reserve_mmio(range(LOW, MIB), "frame buffer");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "0x0d0000000..0x0d0100000 for frame buffer overlaps 0x0d0080000..0x0d0100000, which ECAM \
         has"
    );
    allocator.reserve_irq(Irq(4), "serial port 1").unwrap();
    let refused = allocator.reserve_irq(Irq(4), "modem").unwrap_err();
    assert!(matches!(
        refused,
        AllocateError::Taken {
            by: Cow::Borrowed("serial port 1"),
            ..
        }
    ));
}

#[test]
fn windows_that_overlap_are_refused() {
    let config = SystemAllocatorConfig {
        platform_mmio: Some(range(8 * GIB + MIB, 2 * GIB)),
        ..config()
    };
    assert_eq!(
        SystemAllocator::new(config).unwrap_err().to_string(),
        "0x200100000..0x280100000 for window of platform MMIO overlaps 0x200000000..0x240000000, \
         which window of high MMIO has"
    );
}

#[test]
fn what_is_reserved_is_not_given() {
    let mut allocator = allocator();
    allocator
        .reserve_mmio(range(LOW - 0x1000, 0x2000), "board")
        .unwrap();
    let given = allocator.allocate_mmio(MmioWindow::Low, Room::bar(0x1000), "disk");
    assert_eq!(given, Ok(range(LOW + 0x1000, 0x1000)));
}

#[test]
fn who_finds_no_room_is_told_what_is_left() {
    let mut allocator = allocator();
    let hole = range(LOW + 0x1000, 0x1000);
    allocator.reserve_mmio(hole, "board").unwrap();
    let refused = allocator.allocate_mmio(MmioWindow::Low, Room::bar(MIB), "disk");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "no 0x100000 at a multiple of 0x100000 for disk in low MMIO: free are \
         0x0d0000000..0x0d0001000, 0x0d0002000..0x0d0100000"
    );
    let refused = allocator.allocate_mmio(MmioWindow::Platform, Room::bar(16), "clock");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "no 0x10 at a multiple of 0x10 for clock in platform MMIO: nothing is free"
    );
    for _ in 0..15 {
        allocator.allocate_irq("many").unwrap();
    }
    let refused = allocator.allocate_irq("one too many").unwrap_err();
    assert!(refused.to_string().contains("in interrupts: nothing"));
}

#[test]
fn an_error_names_only_so_many_ranges() {
    let mut allocator = allocator();
    for number in 0..128 {
        let every_other = range(LOW + number * 0x2000, 0x1000);
        allocator.reserve_mmio(every_other, "board").unwrap();
    }
    let refused = allocator.allocate_mmio(MmioWindow::Low, Room::bar(0x2000), "disk");
    let text = refused.unwrap_err().to_string();
    assert!(text.ends_with("and 120 more"), "{text}");
}

#[test]
fn nothing_at_all_and_odd_alignments_cannot_be_given() {
    let mut allocator = allocator();
    for (len, align) in [(0, 1), (16, 3), (16, 0)] {
        let refused = allocator.allocate_mmio(MmioWindow::Low, Room { len, align }, "disk");
        assert!(matches!(refused, Err(AllocateError::Room { .. })));
    }
    for len in [u64::MAX, 1 << 63] {
        let refused = allocator.allocate_mmio(
            MmioWindow::High,
            Room {
                len,
                align: 1 << 63,
            },
            "d",
        );
        assert!(matches!(refused, Err(AllocateError::Exhausted { .. })));
    }
}

#[test]
fn what_is_taken_back_can_be_given_again_and_not_taken_back_twice() {
    let mut allocator = allocator();
    let first = allocator
        .allocate_mmio(MmioWindow::Low, Room::bar(0x1000), "disk")
        .unwrap();
    assert_eq!(allocator.free_mmio(first), Ok("disk".into()));
    let again = allocator.free_mmio(first).unwrap_err();
    assert_eq!(
        again.to_string(),
        "0x0d0000000..0x0d0001000 was not given to anybody, so it cannot be taken back"
    );
    let next = allocator.allocate_mmio(MmioWindow::Low, Room::bar(0x1000), "net");
    assert_eq!(next, Ok(first));
    assert_eq!(allocator.free_irq(Irq(9)).unwrap_err().to_string(), {
        "interrupt 9 was not given to anybody, so it cannot be taken back"
    });
}

#[test]
fn a_part_of_what_was_given_is_not_taken_back() {
    let mut allocator = allocator();
    allocator
        .reserve_mmio(range(LOW, 0x2000), "frame buffer")
        .unwrap();
    for part in [range(LOW, 0x1000), range(LOW + 0x1000, 0x1000)] {
        let refused = allocator.free_mmio(part).unwrap_err().to_string();
        let whose = "; frame buffer has 0x0d0000000..0x0d0002000";
        assert!(refused.ends_with(whose), "{refused}");
    }
    assert_eq!(allocator.mmio().count(), 1);
}

#[test]
fn a_pci_device_gets_a_slot_of_its_own() {
    let mut allocator = allocator();
    allocator.reserve_pci(pci(0, 0, 0), "host bridge").unwrap();
    // A function of a device that somebody else could be given.
    allocator.reserve_pci(pci(0, 2, 3), "root port").unwrap();
    let given: Vec<_> = ["disk", "net"]
        .map(|holder| allocator.allocate_pci(0, holder).unwrap())
        .into();
    assert_eq!(given, [pci(0, 1, 0), pci(0, 3, 0)]);
    assert_eq!(allocator.allocate_pci(1, "behind it"), Ok(pci(1, 0, 0)));
    assert_eq!(allocator.free_pci(pci(0, 1, 0)), Ok("disk".into()));
    assert_eq!(allocator.allocate_pci(0, "new disk"), Ok(pci(0, 1, 0)));
    let taken = allocator.reserve_pci(pci(0, 2, 3), "other").unwrap_err();
    assert_eq!(
        taken.to_string(),
        "PCI 00:02.3 for other overlaps PCI 00:02.3, which root port has"
    );
    assert!(allocator.free_pci(pci(0, 9, 0)).is_err());
}

#[test]
fn a_pci_bus_has_32_devices_and_there_are_so_many_buses() {
    let mut allocator = allocator();
    for _ in 0..31 {
        allocator.allocate_pci(0, "disk").unwrap();
    }
    let full = allocator.allocate_pci(0, "disk 32").unwrap_err();
    assert!(full.to_string().contains("in PCI bus 00"), "{full}");
    let beyond = allocator.allocate_pci(4, "disk").unwrap_err();
    assert_eq!(
        beyond.to_string(),
        "disk cannot be at 04:00.0: the last bus is 03"
    );
}

#[test]
fn all_that_was_given_can_be_listed_in_order() {
    let mut allocator = allocator();
    allocator.reserve_irq(Irq(4), "serial port 1").unwrap();
    allocator
        .reserve_ports(ports(0x3f8, 8), "serial port 1")
        .unwrap();
    allocator.allocate_pci(0, "disk").unwrap();
    allocator
        .allocate_mmio(MmioWindow::High, Room::bar(0x4000), "disk".to_owned())
        .unwrap();
    allocator
        .reserve_mmio(range(0xfec0_0000, 0x1000), "I/O APIC")
        .unwrap();
    let lines: Vec<String> = allocator
        .holdings()
        .map(|(what, holder)| format!("{what}: {holder}"))
        .collect();
    assert_eq!(
        lines,
        [
            "0x0fec00000..0x0fec01000: I/O APIC",
            "0x200000000..0x200004000: disk",
            "ports 0x3f8-0x3ff: serial port 1",
            "interrupt 4: serial port 1",
            "PCI 00:01.0: disk",
        ]
    );
}

#[test]
fn ranges_end_with_the_last_port_and_the_last_interrupt() {
    assert_eq!(PortRange::new(Port(0xffff), 2), None);
    assert_eq!(PortRange::new(Port(0), 0), None);
    let all = ports(0, 1 << 16);
    assert_eq!((all.last(), all.count()), (Port(0xffff), 1 << 16));
    assert_eq!(IrqRange::new(Irq(u32::MAX), 2), None);
    let last = IrqRange::new(Irq(u32::MAX), 1).unwrap();
    assert_eq!(last.last(), Irq(u32::MAX));
    let mut allocator = SystemAllocator::new(SystemAllocatorConfig {
        io: Some(all),
        irqs: last,
        ..config()
    })
    .unwrap();
    assert_eq!(allocator.allocate_irq("last"), Ok(Irq(u32::MAX)));
    assert_eq!(allocator.allocate_ports(Room::bar(1 << 16), "x"), Ok(all));
}

/// Something that is done to the addresses.
#[derive(Clone, Debug)]
enum Move {
    Allocate { len: u64, align: u32, high: bool },
    Reserve { start: u64, len: u64 },
    Free(prop::sample::Index),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let allocate = (1..0x3_0000_u64, 0..18_u32, any::<bool>());
    let allocate = allocate.prop_map(|(len, align, high)| Move::Allocate { len, align, high });
    let reserve = (LOW - 0x1000..LOW + 2 * MIB, 1..0x8000_u64);
    let reserve = reserve.prop_map(|(start, len)| Move::Reserve { start, len });
    let free = any::<prop::sample::Index>().prop_map(Move::Free);
    prop::collection::vec(prop_oneof![3 => allocate, 1 => reserve, 2 => free], 0..120)
}

proptest! {
    #[test]
    fn no_two_ever_have_an_address_in_common(moves in moves()) {
        let mut allocator = allocator();
        let mut held: Vec<GpaRange> = Vec::new();
        for step in moves {
            match step {
                Move::Allocate { len, align, high } => {
                    let window = if high { MmioWindow::High } else { MmioWindow::Low };
                    let room = Room { len, align: 1 << align };
                    match allocator.allocate_mmio(window, room, "x") {
                        Ok(range) => {
                            prop_assert!(range.start().is_aligned(room.align));
                            prop_assert_eq!(range.len(), len);
                            let window = allocator.config().window(window).unwrap();
                            prop_assert!(window.contains(range));
                            prop_assert!(!held.iter().any(|other| other.overlaps(range)));
                            held.push(range);
                        }
                        Err(AllocateError::Exhausted { free, .. }) => {
                            for gap in free {
                                let Resource::Mmio(gap) = gap else { panic!("{gap}") };
                                prop_assert!(!held.iter().any(|other| other.overlaps(gap)));
                                let start = gap.start().align_up(room.align).unwrap();
                                let range = GpaRange::new(start, len).unwrap();
                                prop_assert!(!gap.contains(range), "there was room");
                            }
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                Move::Reserve { start, len } => {
                    let range = range(start, len);
                    let free = !held.iter().any(|other| other.overlaps(range));
                    prop_assert_eq!(allocator.reserve_mmio(range, "x").is_ok(), free);
                    if free {
                        held.push(range);
                    }
                }
                Move::Free(index) if !held.is_empty() => {
                    let range = held.swap_remove(index.index(held.len()));
                    prop_assert!(allocator.free_mmio(range).is_ok());
                    prop_assert!(allocator.free_mmio(range).is_err());
                }
                Move::Free(_) => {}
            }
            held.sort_unstable();
            prop_assert!(allocator.mmio().map(|(range, _)| range).eq(held.iter().copied()));
        }
        for range in held {
            allocator.free_mmio(range).unwrap();
        }
        // All of the room is there again.
        let whole = Room { len: MIB, align: 1 };
        prop_assert_eq!(
            allocator.allocate_mmio(MmioWindow::Low, whole, "all"),
            Ok(config().low_mmio.unwrap())
        );
    }
}
