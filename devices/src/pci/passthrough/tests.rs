#![expect(
    clippy::single_range_in_vec_init,
    reason = "one area is what most BARs have"
)]

use super::*;
use alloc::vec;

/// An endpoint of class NVMe, whose BAR 0 has 64 bits and 16 KiB, with these bytes further on.
fn config(more: &[(usize, &[u8])]) -> [u8; 256] {
    let mut config = [0; 256];
    let header: [(usize, &[u8]); 5] = [
        (0x00, &[0x36, 0x1b, 0x10, 0x00, 0x07, 0x05, 0x10, 0x00]),
        (0x08, &[0x02, 0x02, 0x08, 0x01]),
        (0x0e, &[0x80]),
        (0x10, &[0x04, 0xc0, 0xbd, 0xfe]),
        (0x2c, &[0xf4, 0x1a, 0x00, 0x11]),
    ];
    for (at, bytes) in header.into_iter().chain(more.iter().copied()) {
        config[at..at + bytes.len()].copy_from_slice(bytes);
    }
    config
}

const BAR_LENS: [u64; BARS] = [0x4000, 0, 0, 0, 0, 0];

fn of(config: &[u8; 256], bars: [u64; BARS]) -> Result<Passthrough, PassthroughError> {
    Passthrough::new(&HostFunction {
        config,
        bars,
        has_pin: true,
        can_reset: true,
    })
}

/// MSI-X at 0x40 with 65 vectors at 0x2000 of BAR 0, PCI Express at 0x80, power management at 0x60.
fn nvme() -> [u8; 256] {
    config(&[
        (0x34, &[0x40]),
        (
            0x40,
            &[0x11, 0x80, 0x40, 0x00, 0x00, 0x20, 0, 0, 0x00, 0x30, 0, 0],
        ),
        (0x80, &[0x10, 0x60, 0x02, 0x00, 0x21, 0x80, 0x00, 0x10]),
        (0x60, &[0x01, 0x00, 0xc3, 0xff, 0x03, 0x00, 0, 0]),
    ])
}

fn read(chip: &Passthrough, register: u16, width: usize) -> u32 {
    let mut data = [0; 4];
    let nobody =
        |_at: u16, _data: &mut [u8]| panic!("register {register:#x} is none of the host's");
    chip.config_read(register, &mut data[..width], nobody);
    u32::from_le_bytes(data)
}

fn write(chip: &mut Passthrough, register: u16, data: &[u8]) {
    chip.config_write(register, data, |_, _| {
        panic!("nothing is to reach the host")
    });
}

/// The capabilities that a guest finds, with their places.
fn list(chip: &Passthrough) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut at = read(chip, 0x34, 1);
    while at != 0 {
        let register = u16::try_from(at).unwrap();
        found.push((at, read(chip, register, 1)));
        at = read(chip, register + 1, 1);
        assert!(found.len() < 64, "the guest's own list ends");
    }
    found
}

#[test]
fn a_guest_finds_the_function_with_addresses_of_its_own() {
    let mut chip = of(&nvme(), BAR_LENS).unwrap();
    assert_eq!(read(&chip, 0, 4), 0x0010_1b36);
    assert_eq!(read(&chip, 8, 4), 0x0108_0202);
    assert_eq!(read(&chip, 0x0e, 1), 0, "one function, an endpoint");
    assert_eq!(read(&chip, 0x2c, 4), 0x1100_1af4);
    assert_eq!(read(&chip, 0x10, 4), 4, "not the host's address");
    write(&mut chip, 0x10, &[0xff; 4]);
    write(&mut chip, 0x14, &[0xff; 4]);
    assert_eq!(
        (read(&chip, 0x10, 4), read(&chip, 0x14, 4)),
        (0xffff_c004, u32::MAX)
    );
    write(&mut chip, 0x10, &0xc000_0000_u32.to_le_bytes());
    write(&mut chip, 0x14, &[0; 4]);
    assert_eq!(chip.bar(0), None);
    write(&mut chip, 4, &[2, 0]);
    assert_eq!(chip.bar(0).unwrap().start().get(), 0xc000_0000);
    assert_eq!(read(&chip, 0x30, 4), 0, "no expansion ROM");
    assert_eq!(read(&chip, 0x3d, 1), 1, "pin A");
    assert_eq!(read(&chip, 0x100, 4), 0, "no extended capabilities");
}

#[test]
fn capabilities_are_at_the_hosts_places_and_without_what_changes_the_host() {
    let mut chip = of(&nvme(), BAR_LENS).unwrap();
    assert_eq!(list(&chip), [(0x40, 0x11), (0x80, 0x10), (0x60, 0x01)]);
    assert_eq!(read(&chip, 0x42, 2), 64);
    assert_eq!(
        (read(&chip, 0x44, 4), read(&chip, 0x48, 4)),
        (0x2000, 0x3000)
    );
    assert_eq!(
        read(&chip, 0x82, 2),
        0x92,
        "an endpoint of the root complex"
    );
    assert_eq!(read(&chip, 0x84, 4), 0x1000_8021);
    assert_eq!(read(&chip, 0x62, 2), 3, "no wake-up");
    assert_eq!(read(&chip, 0x64, 2), 8, "on");
    write(&mut chip, 0x64, &[3, 0]);
    assert_eq!(read(&chip, 0x64, 2), 0xb);
}

#[test]
fn the_host_answers_in_memory_whatever_the_guest_has_set() {
    let mut chip = of(&nvme(), BAR_LENS).unwrap();
    assert_eq!(chip.host_command(), 0b010);
    write(&mut chip, 4, &[0xff, 0xff]);
    assert_eq!(chip.host_command(), 0b110, "no I/O, no SERR#");
    write(&mut chip, 4, &[0, 0]);
    assert_eq!(chip.host_command(), 0b010);
}

#[test]
fn a_reset_that_the_guest_asks_for_is_told_of_once() {
    let mut chip = of(&nvme(), BAR_LENS).unwrap();
    write(&mut chip, 0x88, &[0x10, 0x28]);
    assert!(!chip.take_reset());
    for data in [&[0x10, 0xa8][..], &[0x10, 0xa8, 0, 0]] {
        write(&mut chip, 0x88, data);
        assert_eq!(read(&chip, 0x88, 2), 0x2810);
        assert!(chip.take_reset() && !chip.take_reset());
    }
    write(&mut chip, 0x89, &[0x80]);
    assert!(chip.take_reset());
    let fixed = Passthrough::new(&HostFunction {
        config: &nvme(),
        bars: BAR_LENS,
        has_pin: false,
        can_reset: false,
    });
    let mut fixed = fixed.unwrap();
    assert_eq!(read(&fixed, 0x84, 4), 0x8021);
    write(&mut fixed, 0x88, &[0, 0x80]);
    assert!(!fixed.take_reset());
    assert_eq!(
        (read(&fixed, 0x3d, 1), fixed.interrupts()),
        (0, Interrupts::Off)
    );
}

#[test]
fn interrupts_come_by_what_the_guest_has_turned_on() {
    let mut chip = of(&nvme(), BAR_LENS).unwrap();
    assert_eq!(chip.interrupts(), Interrupts::Pin);
    write(&mut chip, 4, &[6, 4]);
    assert_eq!(chip.interrupts(), Interrupts::Off);
    assert_eq!(chip.raise(0), None);
    write(&mut chip, 0x42, &[0, 0x80]);
    assert_eq!(chip.interrupts(), Interrupts::MsiX(65));
    assert_eq!(chip.raise(64), None, "masked");
    let entry = [0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0];
    chip.bar_write((0, 0x2000 + 64 * 16), &entry, |_, _| {
        panic!("not the host's table")
    });
    let message = Message {
        address: 0xfee0_0000,
        data: 0x41,
    };
    assert_eq!(chip.take_message(), Some(message), "what was pending");
    assert_eq!(chip.raise(64), Some(message));
    assert_eq!(chip.raise(65), None);
    chip.reset();
    assert_eq!(chip.interrupts(), Interrupts::Pin);
}

#[test]
fn a_message_has_the_width_that_the_host_has() {
    for (control, data_at) in [(0x80_u8, 0x4c_u16), (0x8e, 0x4c), (0x00, 0x48)] {
        let config = config(&[(0x34, &[0x40]), (0x40, &[0x05, 0, control, 0x01])]);
        let mut chip = of(&config, BAR_LENS).unwrap();
        assert_eq!(
            read(&chip, 0x42, 2),
            u32::from(control & 0x80),
            "one vector, off"
        );
        write(&mut chip, 4, &[4, 0]);
        write(&mut chip, 0x44, &0xfee0_1000_u32.to_le_bytes());
        write(&mut chip, data_at, &[0x55, 0]);
        write(&mut chip, 0x42, &[1, 0]);
        assert_eq!(chip.interrupts(), Interrupts::Msi);
        let message = chip.raise(0).unwrap();
        assert_eq!((message.address, message.data), (0xfee0_1000, 0x55));
    }
}

#[test]
fn the_vendors_registers_are_the_hosts() {
    let config = config(&[(0x34, &[0x40]), (0x40, &[0x09, 0, 0x10, 0xab])]);
    let mut chip = of(&config, BAR_LENS).unwrap();
    let mut data = [0; 4];
    chip.config_read(0x44, &mut data, |at, data| {
        assert_eq!((at, data.len()), (0x44, 4));
        data.fill(7);
    });
    assert_eq!(data, [7; 4]);
    let mut written = None;
    chip.config_write(0x4c, &[1, 2, 3, 4], |at, data| {
        written = Some((at, data.to_vec()));
    });
    assert_eq!(written, Some((0x4c, vec![1, 2, 3, 4])));
    write(&mut chip, 0x4e, &[0; 4]);
    write(&mut chip, 0x40, &[0; 2]);
    assert_eq!(list(&chip), [(0x40, 9)], "the list is ours");
}

#[test]
fn a_list_of_capabilities_that_does_not_end_ends_here() {
    let own = config(&[(0x34, &[0x40]), (0x40, &[0x01, 0x40])]);
    assert_eq!(list(&of(&own, BAR_LENS).unwrap()), [(0x40, 1)]);
    let circle = config(&[
        (0x34, &[0x41]),
        (0x40, &[0x01, 0x62]),
        (0x60, &[0x09, 0x40, 4]),
    ]);
    assert_eq!(
        list(&of(&circle, BAR_LENS).unwrap()),
        [(0x40, 1), (0x60, 9)]
    );
    let header = config(&[(0x34, &[0x40]), (0x40, &[0x01, 0x10])]);
    assert_eq!(list(&of(&header, BAR_LENS).unwrap()), [(0x40, 1)]);
    let nowhere = config(&[(0x34, &[0xff])]);
    assert_eq!(list(&of(&nowhere, BAR_LENS).unwrap()), []);
}

#[test]
fn capabilities_that_do_not_fit_or_overlap_are_not_there() {
    for (at, capability) in [
        (0xf8, &[0x11, 0, 0, 0][..]),
        (0xc8, &[0x10, 0, 2, 0]),
        (0xf0, &[0x09, 0, 0x14]),
        (0xfc, &[0x01, 0]),
        (0x40, &[0x13, 0]),
        (0x40, &[0x03, 0]),
        (0x40, &[0x10, 0, 0x42, 0]),
    ] {
        let config = config(&[(0x34, &[u8::try_from(at).unwrap()]), (at, capability)]);
        assert_eq!(
            list(&of(&config, BAR_LENS).unwrap()),
            [],
            "{at:#x}: {capability:x?}"
        );
    }
    let overlapping = config(&[
        (0x34, &[0x40]),
        (0x40, &[0x09, 0x48, 0x10]),
        (0x48, &[0x01, 0x50]),
        (0x50, &[0x01, 0]),
    ]);
    let chip = of(&overlapping, BAR_LENS).unwrap();
    assert_eq!(list(&chip), [(0x40, 9), (0x50, 1)]);
    let last = config(&[(0x34, &[0xfc]), (0xfc, &[0x09, 0, 4, 5])]);
    assert_eq!(list(&of(&last, BAR_LENS).unwrap()), [(0xfc, 9)]);
}

#[test]
fn bars_that_cannot_be_are_refused() {
    let at_five = config(&[(0x24, &[0x04])]);
    for (config, bars, index) in [
        (config(&[]), [8, 0, 0, 0, 0, 0], 0),
        (config(&[]), [0x3000, 0, 0, 0, 0, 0], 0),
        (config(&[]), [u64::MAX, 0, 0, 0, 0, 0], 0),
        (config(&[]), [0, 0, 1 << 32, 0, 0, 0], 2),
        (at_five, [0, 0, 0, 0, 0, 0x1000], 5),
    ] {
        match of(&config, bars) {
            Err(PassthroughError::Bar { index: wrong, .. }) => assert_eq!(wrong, index),
            other => panic!("{bars:x?}: {other:?}"),
        }
    }
    let huge = of(&config(&[]), [1 << 63, 0x1000, 0, 0, 0, 0]).unwrap();
    assert_eq!(
        huge.bar_lens(),
        [1 << 63, 0, 0, 0, 0, 0],
        "the upper half is no BAR"
    );
    let ports = of(&config(&[(0x10, &[0x01])]), [0x20, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(ports.bar_lens(), [0; BARS]);
    assert_eq!(read(&ports, 0x10, 4), 0);
}

#[test]
fn a_bridge_is_refused() {
    for header in [1, 2, 0x7f, 0x81] {
        let config = config(&[(0x0e, &[header])]);
        let refused = of(&config, BAR_LENS).map(drop);
        assert_eq!(refused, Err(PassthroughError::Header(header & 0x7f)));
    }
}

#[test]
fn a_table_of_vectors_that_is_not_in_its_bar_is_refused() {
    for (table, pba) in [
        (0x4000_u32, 0x3000_u32),
        (0x3ff8, 0x3000),
        (0xffff_fff8, 0x3000),
        (0x2001, 0x3000),
        (0x2006, 0x3000),
        (0x2007, 0x3000),
        (0x2000, 0x4000),
        (0x2000, 0x3002),
    ] {
        let mut config = nvme();
        config[0x44..0x48].copy_from_slice(&table.to_le_bytes());
        config[0x48..0x4c].copy_from_slice(&pba.to_le_bytes());
        let refused = of(&config, BAR_LENS).map(drop);
        let expected = PassthroughError::MsiX {
            vectors: 65,
            table,
            pba,
        };
        assert_eq!(refused, Err(expected));
    }
}

#[test]
fn a_guest_has_no_more_vectors_than_events_are_made_for() {
    let mut config = nvme();
    config[0x42..0x44].copy_from_slice(&0x7ff_u16.to_le_bytes());
    config[0x48..0x4c].copy_from_slice(&0x1_0000_u32.to_le_bytes());
    config[0x44..0x48].copy_from_slice(&0x8000_u32.to_le_bytes());
    let big = of(&config, [0x2_0000, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(read(&big, 0x42, 2), 255);
    let whole = big.mappable(0, &[0..0x2_0000], 0x1000);
    assert_eq!(
        whole,
        [0..0x8000, 0x1_1000..0x2_0000],
        "the host's whole table stays hidden"
    );
}

#[test]
fn what_can_be_mapped_is_whole_pages_without_msi_x() {
    let chip = of(&nvme(), BAR_LENS).unwrap();
    assert_eq!(chip.mappable(0, &[0..0x4000], 0x1000), [0..0x2000]);
    let expected: [Range<u64>; 0] = [];
    assert_eq!(chip.mappable(0, &[0..0x4000], 0x1_0000), expected);
    assert_eq!(chip.mappable(1, &[0..0x4000], 0x1000), expected);
    assert_eq!(chip.mappable(9, &[0..0x4000], 0x1000), expected);
    assert_eq!(
        chip.mappable(0, &[0x800..0x1800, 0x2800..u64::MAX], 0x1000),
        expected
    );
    assert_eq!(
        chip.mappable(0, &[u64::MAX - 1..u64::MAX], 0x1000),
        expected
    );
    let plain = of(&config(&[]), BAR_LENS).unwrap();
    assert_eq!(
        plain.mappable(0, &[0..0x1000, 0x2000..u64::MAX], 0x1000),
        [0..0x1000, 0x2000..0x4000]
    );
}

#[test]
fn accesses_to_the_table_do_not_reach_the_host() {
    let mut chip = of(&nvme(), BAR_LENS).unwrap();
    for offset in [0x1ffd, 0x2000, 0x2404, 0x240f, 0x2ffe, 0x3000, 0x300f] {
        for len in [1, 2, 4, 8, 16] {
            let touches = |start: u64, end: u64| offset < end && start < offset + len;
            let is_ours = touches(0x2000, 0x2410) || touches(0x3000, 0x3010);
            let mut is_hosts = false;
            let mut data = [0xff; 16];
            let data = &mut data[..usize::try_from(len).unwrap()];
            chip.bar_read((0, offset), data, |_, _| is_hosts = true);
            assert_eq!(is_hosts, !is_ours, "{offset:#x}, {len}");
            is_hosts = false;
            chip.bar_write((0, offset), data, |_, _| is_hosts = true);
            assert_eq!(is_hosts, !is_ours, "{offset:#x}, {len}");
        }
    }
    let mut others = 0;
    chip.bar_read((2, 0x2000), &mut [0; 4], |_, _| others += 1);
    assert_eq!(others, 1);
}

#[test]
fn every_configuration_space_and_access_is_survived() {
    let mut seed = 1_u32;
    let mut random = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_le_bytes()[3]
    };
    for _ in 0..2000 {
        let mut config = [0; 256];
        config.fill_with(|| random() & 0x3f);
        config[0x0e] = 0;
        config[0x34] = 0x40 + random() / 2;
        let bars = core::array::from_fn(|_| 1 << (4 + random() % 16));
        let Ok(mut chip) = of(&config, bars) else {
            continue;
        };
        list_or_host(&chip);
        for register in (0..0x110).chain([0xfff, 0x1000, u16::MAX]) {
            for len in [0, 1, 2, 4, 8] {
                chip.config_write(register, &[0xa5; 8][..len], |_, _| {});
                chip.config_read(register, &mut [0; 8][..len], |_, _| {});
            }
        }
        for bar in 0..8 {
            chip.bar_write((bar, u64::MAX), &[1; 4], |_, _| {});
            chip.bar_read((bar, 0), &mut [0; 16], |_, _| {});
            assert!(chip.mappable(bar, &[0..u64::MAX], 4096).len() <= 3);
        }
        chip.raise(u16::MAX);
        chip.take_message();
        chip.reset();
    }
}

/// The guest's list ends, whoever answers.
fn list_or_host(chip: &Passthrough) {
    let byte = |at: u16| {
        let mut data = [0];
        chip.config_read(at, &mut data, |_, _| panic!("the list is ours"));
        data[0]
    };
    let mut at = byte(0x34);
    for _ in 0..64 {
        if at == 0 {
            return;
        }
        at = byte(u16::from(at) + 1);
    }
    panic!("a list without an end");
}
