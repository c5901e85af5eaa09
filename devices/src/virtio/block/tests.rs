extern crate std;

use super::*;
use crate::virtio::queue::{Chain, ChainError};
use crate::virtio::testing::{Ram, request};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use proptest::prelude::*;

/// A mebibyte.
const DISK: Disk = Disk {
    sectors: 2048,
    access: Access::ReadWrite,
    block_size: BlockSize::Bytes512,
    serial: *b"0123456789abcdef\0\0\0\0",
};

const READ_ONLY: Disk = Disk {
    access: Access::ReadOnly,
    ..DISK
};

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

fn segment(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut segment = [0; 16];
    segment[..8].copy_from_slice(&sector.to_le_bytes());
    segment[8..12].copy_from_slice(&sectors.to_le_bytes());
    segment[12..].copy_from_slice(&flags.to_le_bytes());
    segment
}

/// What a disk makes of a request, in short.
fn meaning(disk: &Disk, readable: &[&[u8]], writable: &[u32]) -> String {
    let (ram, chain) = request(readable, writable);
    let Request { command, reply } = Request::parse(&chain, &ram, disk).unwrap();
    let status = match &command {
        Command::Refuse(status) => *status,
        _ => Status::Ok,
    };
    let written = reply.finish(&ram, status).unwrap();
    assert_eq!(status_of(&ram, &chain), status.byte());
    let named = match command {
        Command::Read { offset, ranges } => {
            format!("read {offset:#x} {:#x}", ranges.bytes())
        }
        Command::Write { offset, ranges } => {
            format!("write {offset:#x} {:#x}", ranges.bytes())
        }
        Command::Flush => "flush".into(),
        Command::Discard(segments) => format!("discard {}", shown(&segments)),
        Command::WriteZeroes(segments) => format!("zero {}", shown(&segments)),
        Command::TellSerial => "serial".into(),
        Command::Refuse(status) => format!("{status:?}"),
    };
    format!("{named}, wrote {written:#x}")
}

fn shown(segments: &Segments) -> String {
    let shown = segments.as_slice().iter().map(|segment| {
        let Segment { offset, len, .. } = segment;
        let unmap = if segment.may_unmap { " unmap" } else { "" };
        format!("{offset:#x} {len:#x}{unmap}")
    });
    shown.collect::<Vec<_>>().join(" + ")
}

fn status_of(ram: &Ram, chain: &Chain) -> u8 {
    ram.bytes(chain.writable().last().unwrap().last(), 1)[0]
}

#[test]
fn requests_say_what_is_to_be_done() {
    let two_sectors = [0; 1024];
    type Case<'a> = (&'a [&'a [u8]], &'a [u32], &'a str);
    let cases: [Case<'_>; 8] = [
        (
            &[&header(0, 3)],
            &[512, 1024, 1],
            "read 0x600 0x600, wrote 0x601",
        ),
        (
            &[&header(0, 2047)],
            &[513],
            "read 0xffe00 0x200, wrote 0x201",
        ),
        (
            &[&header(1, 2046), &two_sectors],
            &[1],
            "write 0xffc00 0x400, wrote 0x1",
        ),
        (&[&header(0, 2048)], &[1], "read 0x100000 0x0, wrote 0x1"),
        (&[&header(4, 0)], &[1], "flush, wrote 0x1"),
        (&[&header(8, 0)], &[20, 1], "serial, wrote 0x15"),
        (
            &[&header(11, 0), &segment(8, 16, 0)],
            &[1],
            "discard 0x1000 0x2000, wrote 0x1",
        ),
        (
            &[&header(13, 0), &segment(0, 1, 0), &segment(2047, 1, 1)],
            &[1],
            "zero 0x0 0x200 + 0xffe00 0x200 unmap, wrote 0x1",
        ),
    ];
    for (readable, writable, expected) in cases {
        assert_eq!(meaning(&DISK, readable, writable), expected);
    }
}

#[test]
fn a_request_may_be_cut_into_buffers_anywhere() {
    let mut bytes: Vec<u8> = header(1, 7).into();
    bytes.extend([9; 512]);
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let meaning = meaning(&DISK, &[first, second], &[1]);
        assert_eq!(meaning, "write 0xe00 0x200, wrote 0x1");
    }
    for cut in 1..512 {
        let meaning = meaning(&DISK, &[&header(0, 7)], &[cut, 513 - cut]);
        assert_eq!(meaning, "read 0xe00 0x200, wrote 0x201");
    }
}

#[test]
fn a_short_header_is_an_error_and_answered() {
    for len in 1..16 {
        let meaning = meaning(&DISK, &[&header(4, 0)[..len]], &[1]);
        assert_eq!(meaning, "IoError, wrote 0x1");
    }
    assert_eq!(meaning(&DISK, &[], &[1]), "IoError, wrote 0x1");
}

#[test]
fn without_a_place_for_the_status_there_is_no_answer() {
    let (ram, chain) = request(&[&header(4, 0)], &[]);
    let error = Request::parse(&chain, &ram, &DISK).unwrap_err();
    assert_eq!(error, ChainError::Short { wanted: 1, left: 0 });
}

#[test]
fn what_is_not_all_on_the_disk_is_refused() {
    for (sector, bytes) in [
        (2048, 512),
        (2047, 1024),
        (2049, 0),
        (1 << 55, 512),
        ((1 << 55) - 1, 512),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (0, 2049 * 512),
    ] {
        let read = meaning(&DISK, &[&header(0, sector)], &[bytes, 1]);
        let refused = if bytes == 0 {
            "IoError, wrote 0x1"
        } else {
            "IoError, wrote 0x0"
        };
        assert_eq!(read, refused, "{sector:#x} {bytes:#x}");
        let data = alloc::vec![0; usize::try_from(bytes).unwrap()];
        let write = meaning(&DISK, &[&header(1, sector), &data], &[1]);
        assert_eq!(write, "IoError, wrote 0x1");
    }
}

#[test]
fn buffers_that_are_inside_one_by_one_are_counted_together() {
    let sector = [0; 512];
    let beyond = header(1, 2046);
    let readable = [&beyond[..], &sector, &sector, &sector];
    assert_eq!(meaning(&DISK, &readable, &[1]), "IoError, wrote 0x1");
    let inside = header(1, 2045);
    let readable = [&inside[..], &sector, &sector, &sector];
    assert_eq!(
        meaning(&DISK, &readable, &[1]),
        "write 0xffa00 0x600, wrote 0x1"
    );
}

#[test]
fn parts_of_sectors_are_refused() {
    for bytes in [1, 511, 513, 1000] {
        let data = alloc::vec![0; usize::try_from(bytes).unwrap()];
        let read = meaning(&DISK, &[&header(0, 0)], &[bytes, 1]);
        assert_eq!(read, "IoError, wrote 0x0");
        let write = meaning(&DISK, &[&header(1, 0), &data], &[1]);
        assert_eq!(write, "IoError, wrote 0x1");
    }
}

#[test]
fn a_disk_that_can_be_read_only_is_not_written() {
    let data = [0; 512];
    for (kind, data, expected) in [
        (1, &data[..], "IoError, wrote 0x1"),
        (11, &segment(0, 1, 0), "Unsupported, wrote 0x1"),
        (13, &segment(0, 1, 0), "Unsupported, wrote 0x1"),
        (4, &[], "flush, wrote 0x1"),
    ] {
        assert_eq!(
            meaning(&READ_ONLY, &[&header(kind, 0), data], &[1]),
            expected
        );
    }
    let read = meaning(&READ_ONLY, &[&header(0, 0)], &[513]);
    assert_eq!(read, "read 0x0 0x200, wrote 0x201");
}

#[test]
fn requests_of_other_types_are_unsupported() {
    // SCSI commands, lifetimes and secure erasing among them.
    for kind in (0..32).filter(|kind| ![0, 1, 4, 8, 11, 13].contains(kind)) {
        let meaning = meaning(&DISK, &[&header(kind, 0), &[0; 64]], &[64, 1]);
        assert_eq!(meaning, "Unsupported, wrote 0x0");
    }
    let top = meaning(&DISK, &[&header(0x8000_0000, 0)], &[1]);
    assert_eq!(top, "Unsupported, wrote 0x1");
}

#[test]
fn segments_are_whole_few_and_on_the_disk() {
    let many: Vec<u8> = (0..17).flat_map(|_| segment(0, 1, 0)).collect();
    for kind in [11, 13] {
        for wrong in [
            &[][..],
            &many[..15],
            &many[..17],
            &many,
            &segment(2048, 1, 0),
            &segment(2040, 9, 0),
            &segment(u64::MAX, 1, 0),
            &segment(1 << 55, 1, 0),
            &segment(0, u32::MAX, 0),
            &segment(0, (1 << 22) + 1, 0),
        ] {
            let meaning = meaning(&DISK, &[&header(kind, 0), wrong], &[1]);
            assert_eq!(meaning, "IoError, wrote 0x1", "{kind} {wrong:x?}");
        }
        let sixteen = meaning(&DISK, &[&header(kind, 0), &many[..256]], &[1]);
        assert!(sixteen.ends_with("0x0 0x200, wrote 0x1"));
        for flags in [2, 0x8000_0000, u32::MAX] {
            let data = segment(0, 1, flags);
            let meaning = meaning(&DISK, &[&header(kind, 0), &data], &[1]);
            assert_eq!(meaning, "Unsupported, wrote 0x1");
        }
    }
    let unmap = meaning(&DISK, &[&header(11, 0), &segment(0, 1, 1)], &[1]);
    assert_eq!(unmap, "Unsupported, wrote 0x1");
}

#[test]
fn the_largest_segment_is_one_of_2_gib() {
    let large = Disk {
        sectors: u64::MAX / 512,
        ..DISK
    };
    let data = segment((1 << 55) - (1 << 23), 1 << 22, 0);
    let meaning = meaning(&large, &[&header(11, 0), &data], &[1]);
    assert_eq!(meaning, "discard 0xffffffff00000000 0x80000000, wrote 0x1");
}

#[test]
fn the_serial_number_is_told_as_far_as_there_is_room() {
    for (room, expected) in [(0, ""), (5, "01234"), (20, "0123456789abcdef\0\0\0\0")] {
        let (ram, chain) = request(&[&header(8, 0)], &[room, 1]);
        let Request { command, reply } = Request::parse(&chain, &ram, &DISK).unwrap();
        assert!(matches!(command, Command::TellSerial));
        let written = reply.finish_with_serial(&ram, &DISK).unwrap();
        assert_eq!(written, room + 1);
        if let [data, _] = chain.writable() {
            assert_eq!(ram.bytes(data.start(), expected.len()), expected.as_bytes());
        }
        assert_eq!(status_of(&ram, &chain), 0);
    }
    let (ram, chain) = request(&[&header(8, 0)], &[30, 1]);
    let parsed = Request::parse(&chain, &ram, &DISK).unwrap();
    let written = parsed.reply.finish_with_serial(&ram, &DISK).unwrap();
    assert_eq!(written, 20, "what is behind it was not written");
    assert_eq!(ram.bytes(chain.writable()[0].start(), 30)[20..], [0x55; 10]);
}

#[test]
fn the_status_goes_to_the_last_byte_only() {
    let (ram, chain) = request(&[&header(0, 0)], &[512, 512, 1]);
    let parsed = Request::parse(&chain, &ram, &DISK).unwrap();
    assert_eq!(parsed.reply.finish(&ram, Status::IoError), Ok(0));
    for &data in &chain.writable()[..2] {
        assert_eq!(ram.bytes(data.start(), 512), [0x55; 512]);
    }
    assert_eq!(status_of(&ram, &chain), 1);
}

#[test]
fn the_configuration_is_the_standards() {
    let mut config = [0xff; 64];
    Block::new(DISK).read_config(0, &mut config);
    let number = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
    assert_eq!(config[..8], 2048_u64.to_le_bytes());
    assert_eq!(number(8), 0, "no largest buffer");
    assert_eq!(number(12), 254);
    assert_eq!(number(20), 512);
    assert_eq!(config[24..28], [3, 0, 8, 0]);
    assert_eq!(number(28), 0);
    assert_eq!(config[34..36], [1, 0]);
    assert_eq!([36, 40, 44].map(number), [1 << 22, 16, 8]);
    assert_eq!([48, 52, 56].map(number), [1 << 22, 16, 1]);
    assert_eq!(number(60), u32::MAX, "it ends");

    let large = Disk {
        block_size: BlockSize::Bytes4096,
        ..DISK
    };
    let mut block = Block::new(large);
    block.read_config(0, &mut config);
    assert_eq!(config[20..22], [0, 16]);
    assert_eq!(config[24..28], [0, 0, 1, 0]);
    block.resize(4096);
    block.read_config(0, &mut config);
    assert_eq!(config[..8], 4096_u64.to_le_bytes());
    assert!(!block.write_config(0, &[0; 8]));
    assert_eq!(block.disk().sectors, 4096);
}

#[test]
fn features_follow_from_whether_it_can_be_written() {
    assert_eq!(Block::new(DISK).features(), 0x6644);
    assert_eq!(Block::new(READ_ONLY).features(), 0x0664);
    assert_eq!(Block::new(DISK).kind().id(), 2);
    assert_eq!(Block::new(DISK).queue_sizes(), [256]);
}

proptest! {
    /// Whatever is asked, it is on the disk, or it is refused.
    #[test]
    fn nothing_beyond_the_disk_is_asked_for(
        kind in prop_oneof![Just(0_u32), Just(1), Just(11), Just(13), any::<u32>()],
        sector in prop_oneof![0..4096_u64, any::<u64>()],
        sectors in prop_oneof![0..4096_u64, any::<u64>()],
        data in proptest::collection::vec(any::<u8>(), 0..64),
        sized in 0..4_usize,
        room in 1..0x2000_u32,
    ) {
        let mut data = data;
        data.resize(data.len() + 512 * sized, 0);
        let (ram, chain) = request(&[&header(kind, sector), &data], &[room]);
        let disk = Disk { sectors, ..DISK };
        let parsed = Request::parse(&chain, &ram, &disk).unwrap();
        let is_inside = |offset: u64, len: u64| {
            u128::from(offset) + u128::from(len) <= u128::from(sectors) * 512
        };
        match &parsed.command {
            Command::Read { offset, ranges } | Command::Write { offset, ranges } => {
                prop_assert!(is_inside(*offset, ranges.bytes()));
                let bytes: u64 = ranges.clone().map(|range| range.len()).sum();
                prop_assert_eq!(bytes, ranges.bytes());
            }
            Command::Discard(segments) | Command::WriteZeroes(segments) => {
                for segment in segments.as_slice() {
                    prop_assert!(is_inside(segment.offset, segment.len));
                }
            }
            Command::Flush | Command::TellSerial | Command::Refuse(_) => {}
        }
        let written = parsed.reply.finish(&ram, Status::Ok).unwrap();
        prop_assert!(u64::from(written) <= u64::from(room));
    }
}
