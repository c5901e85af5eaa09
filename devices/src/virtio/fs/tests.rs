//! Requests as drivers make them, and as none should.

use super::*;
use crate::virtio::testing::request;
use alloc::vec::Vec;
use core::time::Duration;

const LOOKUP: u32 = 1;
const BATCH_FORGET: u32 = 42;

/// A request about node 7, with `body` behind its header.
fn bytes(opcode: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEADER + body.len()).unwrap();
    let mut bytes = Vec::new();
    bytes.extend(len.to_le_bytes());
    bytes.extend(opcode.to_le_bytes());
    bytes.extend(99_u64.to_le_bytes());
    bytes.extend(7_u64.to_le_bytes());
    bytes.extend([1000_u32, 100, 1, 0].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend(body);
    bytes
}

/// What is asked for, told as text.
fn told(bytes: &[u8]) -> Option<alloc::string::String> {
    let (ram, chain) = request(&[bytes], &[16]);
    let mut buffer = Vec::new();
    let request = Request::gather(&chain, &ram, &mut buffer).unwrap()?;
    Some(alloc::format!("{:?}", request.operation))
}

#[test]
fn a_tag_has_up_to_36_bytes() {
    assert_eq!(Tag::new(""), None);
    assert_eq!(Tag::new("a\0b"), None);
    assert_eq!(Tag::new(&"x".repeat(37)), None);
    let fs = Fs::new(Tag::new(&"x".repeat(36)).unwrap());
    let mut config = [0xff; 44];
    fs.read_config(0, &mut config);
    assert_eq!(config[..36], [b'x'; 36]);
    assert_eq!(config[36..], [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let fs = Fs::new(Tag::new("root").unwrap());
    let mut config = [0xff; 6];
    fs.read_config(0, &mut config);
    assert_eq!(&config, b"root\0\0");
    assert_eq!((fs.kind().id(), fs.queue_sizes().len()), (26, 2));
}

#[test]
fn a_request_says_whose_it_is_and_of_what() {
    let (ram, chain) = request(&[&bytes(LOOKUP, b"name\0")], &[16]);
    let mut buffer = Vec::new();
    let request = Request::gather(&chain, &ram, &mut buffer).unwrap().unwrap();
    assert_eq!(
        (request.unique, request.node, request.uid, request.gid),
        (99, 7, 1000, 100)
    );
    let name = Name::new(c"name").unwrap();
    assert_eq!(request.operation, Ok(Operation::Lookup(name)));
}

#[test]
fn names_that_lead_elsewhere_are_none() {
    for name in [&b"\0"[..], b".\0", b"..\0", b"/\0", b"a/b\0", b"../a\0"] {
        assert_eq!(told(&bytes(LOOKUP, name)).unwrap(), "Err(Malformed)");
    }
    // What is behind a NUL is not looked at, and without one there is no name.
    assert!(told(&bytes(LOOKUP, b"a\0/b")).unwrap().contains("\"a\""));
    assert_eq!(told(&bytes(LOOKUP, b"abc")).unwrap(), "Err(Malformed)");
    let long = [&[b'a'; 256][..], b"\0"].concat();
    assert_eq!(told(&bytes(LOOKUP, &long)).unwrap(), "Err(LongName)");
    assert!(told(&bytes(LOOKUP, &long[1..])).unwrap().starts_with("Ok"));
}

/// A body that is enough for every operation, and how much of it each needs.
#[test]
fn a_request_that_is_cut_anywhere_is_refused() {
    let mut body = Vec::from([0; 88]);
    body.extend(b"name\0other\0");
    for opcode in 0..64 {
        let whole = told(&bytes(opcode, &body)).unwrap();
        for len in 0..body.len() {
            let cut = told(&bytes(opcode, &body[..len])).unwrap();
            let is_known = !whole.contains("Unknown");
            assert_eq!(is_known, !cut.contains("Unknown"), "{opcode} at {len}");
        }
        // One that says that it is longer or shorter than it is.
        let mut lies = bytes(opcode, &body);
        for lie in [0, 39, 40, u32::MAX] {
            lies[..4].copy_from_slice(&lie.to_le_bytes());
            assert_eq!(told(&lies).unwrap(), "Err(Malformed)");
        }
    }
    let header = bytes(LOOKUP, &[]);
    for len in 1..header.len() {
        assert_eq!(told(&header[..len]), None);
    }
}

#[test]
fn what_is_forgotten_is_as_much_as_is_there() {
    let one = |node: u64, times: u64| [node.to_le_bytes(), times.to_le_bytes()].concat();
    let of = |count: u32| {
        let count = [count.to_le_bytes(), [0; 4]].concat();
        bytes(BATCH_FORGET, &[count, one(2, 3), one(4, 5)].concat())
    };
    for (count, expected) in [(0, 0), (1, 1), (2, 2)] {
        let (ram, chain) = request(&[&of(count)], &[]);
        let mut buffer = Vec::new();
        let request = Request::gather(&chain, &ram, &mut buffer).unwrap().unwrap();
        let Ok(Operation::ForgetAll(all)) = request.operation else {
            panic!("{request:?}");
        };
        let all: Vec<_> = all.each().collect();
        assert_eq!(all, [(2, 3), (4, 5)][..expected]);
    }
    for count in [3, u32::MAX] {
        assert_eq!(told(&of(count)).unwrap(), "Err(Malformed)");
    }
}

#[test]
fn only_a_write_may_be_long() {
    let long = Vec::from([0; 20 << 10]);
    assert_eq!(told(&bytes(LOOKUP, &long)).unwrap(), "Err(Malformed)");
    let (ram, chain) = request(&[&bytes(16, &long)], &[]);
    let mut buffer = Vec::new();
    let request = Request::gather(&chain, &ram, &mut buffer).unwrap().unwrap();
    assert!(matches!(request.operation, Ok(Operation::Write(_))));
    let data = |size| Request::data(&chain, &ram, size).map(|data| data.bytes());
    let there = u32::try_from(long.len()).unwrap() - 40;
    assert_eq!(data(there), Ok(there.into()));
    assert!(data(there + 1).is_err());
}

#[test]
fn an_answer_is_a_header_and_what_fits_behind_it() {
    let (ram, chain) = request(&[], &[10, 10]);
    let reply = Reply::of(&chain, &ram, 99).unwrap().unwrap();
    assert_eq!(reply.room(), 4);
    assert_eq!(reply.finish(&ram, b"abcd"), Ok(20));
    let first = chain.writable()[0].start();
    let second = chain.writable()[1].start();
    assert_eq!(ram.bytes(first, 10), [20, 0, 0, 0, 0, 0, 0, 0, 99, 0]);
    assert_eq!(ram.bytes(second, 10), *b"\0\0\0\0\0\0abcd");
    assert_eq!(reply.finish(&ram, b"abcde"), Ok(16));
    assert_eq!(ram.bytes(first, 5), [16, 0, 0, 0, 0_u8.wrapping_sub(22)]);
    assert_eq!(reply.finish_filled(&ram, 100), Ok(20));
    let (ram, chain) = request(&[], &[15]);
    assert!(Reply::of(&chain, &ram, 99).unwrap().is_none());
}

#[test]
fn answers_are_as_long_as_linux_has_them() {
    let attr = Attr::default();
    let entry = Entry {
        node: 1,
        valid: Duration::from_millis(1500),
        attr,
    };
    assert_eq!(attr.to_bytes(entry.valid).len(), 104);
    assert_eq!(entry.to_bytes().len(), 128);
    assert_eq!(entry.to_bytes_opened(1, OpenFlags::KEEP_CACHE).len(), 144);
    assert_eq!(StatFs::default().to_bytes().len(), 80);
    let init = InitReply {
        max_readahead: 0,
        flags: InitFlags::MAX_PAGES,
        max_write: 1 << 20,
    };
    let init = init.to_bytes();
    assert_eq!((init.len(), &init[28..30]), (64, &[0, 1][..]));
}

#[test]
fn a_list_has_no_more_than_fits() {
    let entry = DirEntry {
        ino: 1,
        next: 2,
        kind: 8,
        name: b"ninebytes",
    };
    let mut list = Listing::new(80);
    assert!(list.push(&entry) && list.push(&entry));
    assert_eq!(list.bytes().len(), 80);
    assert!(!list.push(&entry) && list.bytes().len() == 80);
    let known = Entry {
        node: 0,
        valid: Duration::ZERO,
        attr: Attr::default(),
    };
    assert!(!Listing::new(167).push_with_entry(&known, &entry));
    assert!(Listing::new(168).push_with_entry(&known, &entry));
}
