//! The socket device against a guest that plays by the rules, and one that does not.

mod traffic;

use super::*;
use alloc::vec::Vec;

const CID: u32 = 42;
const HOST: u64 = 2;

fn connections() -> Connections {
    Connections::new(GuestCid::new(CID).unwrap())
}

fn pair(host: u32, guest: u32) -> Pair {
    Pair { host, guest }
}

/// A packet of a guest that has 1000 bytes of room.
fn packet(pair: Pair, operation: Operation) -> Header {
    Header {
        source_cid: CID.into(),
        destination_cid: HOST,
        source_port: pair.guest,
        destination_port: pair.host,
        len: 0,
        socket_type: SocketType::STREAM,
        operation,
        flags: 0,
        buffer: 1000,
        forwarded: 0,
    }
}

fn shutdown(pair: Pair, flags: Shutdown) -> Header {
    Header {
        flags: flags.bits(),
        ..packet(pair, Operation::Shutdown)
    }
}

fn bytes(pair: Pair, len: u32) -> Header {
    Header {
        len,
        ..packet(pair, Operation::Bytes)
    }
}

/// All packets that wait for the guest, of connections whose host has no bytes.
fn packets(connections: &mut Connections) -> Vec<Operation> {
    core::iter::from_fn(|| connections.next_turn())
        .map(|turn| match turn {
            Turn::Packet(header) => header.operation,
            Turn::Bytes(..) => Operation::Bytes,
        })
        .collect()
}

/// A connection that the guest called for.
fn open(connections: &mut Connections, pair: Pair) {
    let request = packet(pair, Operation::Request);
    assert_eq!(connections.receive(&request, 0), Received::Call(pair));
    connections.accept(pair);
    assert_eq!(packets(connections), [Operation::Response]);
}

#[test]
fn a_header_is_laid_out_as_specified() {
    let header = Header {
        source_cid: 0x0102_0304_0506_0708,
        destination_cid: 0x1112_1314_1516_1718,
        source_port: 0x2122_2324,
        destination_port: 0x3132_3334,
        len: 0x4142_4344,
        socket_type: SocketType(0x5152),
        operation: Operation::Unknown(0x6162),
        flags: 0x7172_7374,
        buffer: 0x8182_8384,
        forwarded: 0x9192_9394,
    };
    let bytes = header.emit();
    assert_eq!(bytes[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[24..28], [0x44, 0x43, 0x42, 0x41]);
    assert_eq!(bytes[28..32], [0x52, 0x51, 0x62, 0x61]);
    assert_eq!(bytes[40..], [0x94, 0x93, 0x92, 0x91]);
    assert_eq!(Header::parse(&bytes), header);
    for number in 0..=9 {
        assert_eq!(u16::from(Operation::from(number)), number);
    }
}

#[test]
fn reserved_identifiers_are_nobodys() {
    for reserved in [0, 1, 2, u32::MAX] {
        assert_eq!(GuestCid::new(reserved), None);
    }
    assert_eq!(GuestCid::new(3).map(GuestCid::get), Some(3));
}

#[test]
fn a_guests_call_is_accepted_or_refused() {
    let mut connections = connections();
    open(&mut connections, pair(52, 1000));
    let other = packet(pair(53, 1000), Operation::Request);
    assert_eq!(
        connections.receive(&other, 0),
        Received::Call(pair(53, 1000))
    );
    connections.reset(pair(53, 1000));
    assert_eq!(packets(&mut connections), [Operation::Reset]);
}

#[test]
fn a_hosts_call_is_taken_or_refused() {
    let mut connections = connections();
    let first = connections.call(80).unwrap();
    let second = connections.call(80).unwrap();
    assert_ne!(first, second);
    assert_eq!(packets(&mut connections), [Operation::Request; 2]);
    assert!(!connections.wants_bytes(first));
    let taken = connections.receive(&packet(first, Operation::Response), 0);
    assert_eq!(taken, Received::Taken(first));
    assert!(connections.wants_bytes(first));
    let refused = connections.receive(&packet(second, Operation::Reset), 0);
    assert_eq!(refused, Received::Gone(second));
    assert_eq!(packets(&mut connections), []);
}

#[test]
fn a_call_that_the_guest_has_not_heard_of_ends_without_a_word() {
    let mut connections = connections();
    let unheard = connections.call(80).unwrap();
    connections.reset(unheard);
    assert_eq!(packets(&mut connections), []);
    let heard = connections.call(80).unwrap();
    assert_eq!(packets(&mut connections), [Operation::Request]);
    connections.reset(heard);
    assert_eq!(packets(&mut connections), [Operation::Reset]);
}

#[test]
fn a_packet_with_other_addresses_is_dropped() {
    let mut connections = connections();
    let good = packet(pair(52, 1000), Operation::Request);
    for (source_cid, destination_cid) in [(41, HOST), (42, 3), (42 | 1 << 32, HOST), (42, u64::MAX)]
    {
        let header = Header {
            source_cid,
            destination_cid,
            ..good
        };
        assert_eq!(connections.receive(&header, 0), Received::Nothing);
    }
    assert!(!connections.has_turn());
}

#[test]
fn an_unknown_type_is_answered_with_a_reset_of_that_type() {
    let mut connections = connections();
    open(&mut connections, pair(52, 1000));
    let mut header = packet(pair(52, 1000), Operation::Request);
    header.socket_type = SocketType(2);
    assert_eq!(
        connections.receive(&header, 0),
        Received::Gone(pair(52, 1000))
    );
    let Some(Turn::Packet(reset)) = connections.next_turn() else {
        panic!("there is an answer");
    };
    assert_eq!(reset.operation, Operation::Reset);
    assert_eq!(reset.socket_type, SocketType(2));
    header.operation = Operation::Reset;
    assert_eq!(connections.receive(&header, 0), Received::Nothing);
    assert!(!connections.has_turn());
}

#[test]
fn a_stray_is_answered_with_a_reset_and_a_stray_reset_is_not() {
    let mut connections = connections();
    for number in [0, 2, 4, 5, 6, 7, 8, 0xffff] {
        let stray = packet(pair(52, 1000), Operation::from(number));
        assert_eq!(connections.receive(&stray, 0), Received::Nothing);
        assert_eq!(packets(&mut connections), [Operation::Reset], "{number}");
    }
    let stray = packet(pair(52, 1000), Operation::Reset);
    assert_eq!(connections.receive(&stray, 0), Received::Nothing);
    assert!(!connections.has_turn());
}

#[test]
fn what_no_peer_would_send_resets_the_connection() {
    let open_pair = pair(52, 1000);
    let violations = [
        ("unknown", packet(open_pair, Operation::Unknown(99)), 0),
        ("again", packet(open_pair, Operation::Request), 0),
        ("no call", packet(open_pair, Operation::Response), 0),
        ("beyond the chain", bytes(open_pair, 10), 9),
        ("beyond its credit", bytes(open_pair, BUFFER + 1), u64::MAX),
        ("all", bytes(open_pair, u32::MAX), u64::MAX),
    ];
    for (what, header, available) in violations {
        let mut connections = connections();
        open(&mut connections, open_pair);
        let received = connections.receive(&header, available);
        assert_eq!(received, Received::Gone(open_pair), "{what}");
        assert_eq!(packets(&mut connections), [Operation::Reset], "{what}");
    }
}

#[test]
fn bytes_and_shutdowns_before_the_connection_is_open_end_it() {
    for early in [Operation::Bytes, Operation::Shutdown] {
        let mut connections = connections();
        let called = connections.call(80).unwrap();
        packets(&mut connections);
        let received = connections.receive(&packet(called, early), 0);
        assert_eq!(received, Received::Gone(called));
        let calling = pair(52, 1000);
        connections.receive(&packet(calling, Operation::Request), 0);
        let received = connections.receive(&packet(calling, early), 0);
        assert_eq!(received, Received::Gone(calling));
        assert_eq!(packets(&mut connections), [Operation::Reset; 2]);
    }
}

#[test]
fn an_answer_to_a_call_that_was_not_heard_ends_it() {
    let mut connections = connections();
    let called = connections.call(80).unwrap();
    let received = connections.receive(&packet(called, Operation::Response), 0);
    assert_eq!(received, Received::Gone(called));
}

#[test]
fn credit_that_is_used_up_in_parts_is_used_up() {
    let mut connections = connections();
    let open_pair = pair(52, 1000);
    open(&mut connections, open_pair);
    let half = bytes(open_pair, BUFFER / 2);
    for _ in 0..2 {
        let received = connections.receive(&half, u64::MAX);
        assert_eq!(received, Received::Bytes(open_pair, BUFFER / 2));
    }
    let one = bytes(open_pair, 1);
    assert_eq!(connections.receive(&one, 1), Received::Gone(open_pair));
}

#[test]
fn the_guest_is_told_of_room_when_it_believes_half_of_it_used_up() {
    let mut connections = connections();
    let open_pair = pair(52, 1000);
    open(&mut connections, open_pair);
    connections.receive(&bytes(open_pair, BUFFER / 2 - 1), u64::MAX);
    connections.forwarded(open_pair, BUFFER / 2 - 1);
    assert!(!connections.has_turn());
    connections.receive(&bytes(open_pair, 1), u64::MAX);
    connections.forwarded(open_pair, 1);
    let Some(Turn::Packet(update)) = connections.next_turn() else {
        panic!("half of the room is new");
    };
    assert_eq!(update.operation, Operation::CreditUpdate);
    assert_eq!((update.buffer, update.forwarded), (BUFFER, BUFFER / 2));
    connections.receive(&packet(open_pair, Operation::CreditRequest), 0);
    assert_eq!(packets(&mut connections), [Operation::CreditUpdate]);
}

#[test]
fn the_host_sends_no_more_than_there_is_room_for_and_asks_once_for_more() {
    let mut connections = connections();
    let open_pair = pair(52, 1000);
    open(&mut connections, open_pair);
    connections.has_bytes(open_pair);
    assert_eq!(
        connections.next_turn(),
        Some(Turn::Bytes(open_pair, 1000)),
        "all the room there is"
    );
    let header = connections.sent(open_pair, 1000).unwrap();
    assert_eq!((header.operation, header.len), (Operation::Bytes, 1000));
    assert_eq!(packets(&mut connections), [Operation::CreditRequest]);
    let mut update = packet(open_pair, Operation::CreditUpdate);
    connections.receive(&update, 0);
    assert!(!connections.has_turn());
    update.forwarded = 300;
    connections.receive(&update, 0);
    assert_eq!(
        connections.next_turn(),
        Some(Turn::Bytes(open_pair, 300)),
        "what has become free"
    );
}

#[test]
fn a_guest_whose_numbers_make_no_sense_has_no_room() {
    for (buffer, forwarded) in [(1000, 1), (1000, u32::MAX), (0, 0)] {
        let mut connections = connections();
        let open_pair = pair(52, 1000);
        open(&mut connections, open_pair);
        let update = Header {
            buffer,
            forwarded,
            ..packet(open_pair, Operation::CreditUpdate)
        };
        connections.receive(&update, 0);
        connections.has_bytes(open_pair);
        assert_eq!(
            packets(&mut connections).contains(&Operation::Bytes),
            forwarded == u32::MAX,
            "{buffer} {forwarded:#x}"
        );
    }
}

#[test]
fn a_guest_that_ends_the_connection_gets_its_reset_when_all_has_left() {
    let mut connections = connections();
    let open_pair = pair(52, 1000);
    open(&mut connections, open_pair);
    connections.receive(&bytes(open_pair, 100), 100);
    let received = connections.receive(&shutdown(open_pair, Shutdown::SEND), 0);
    assert_eq!(received, Received::ShutDown(open_pair, Shutdown::SEND));
    // What was said stays said.
    let received = connections.receive(&shutdown(open_pair, Shutdown::RECEIVE), 0);
    assert_eq!(received, Received::ShutDown(open_pair, Shutdown::all()));
    assert!(!connections.has_turn());
    assert!(!connections.forwarded(open_pair, 99));
    assert!(connections.forwarded(open_pair, 1));
    assert_eq!(packets(&mut connections), [Operation::Reset]);
}

#[test]
fn bytes_after_the_guest_said_that_it_sends_no_more_are_a_violation() {
    let mut connections = connections();
    let open_pair = pair(52, 1000);
    open(&mut connections, open_pair);
    connections.receive(&shutdown(open_pair, Shutdown::SEND), 0);
    assert!(connections.wants_bytes(open_pair));
    let received = connections.receive(&bytes(open_pair, 1), 1);
    assert_eq!(received, Received::Gone(open_pair));
}

#[test]
fn a_host_that_went_waits_for_the_guests_reset_and_swallows_what_was_on_the_way() {
    let mut connections = connections();
    let open_pair = pair(52, 1000);
    open(&mut connections, open_pair);
    connections.shut_down(open_pair, Shutdown::all());
    connections.shut_down(open_pair, Shutdown::SEND);
    let Some(Turn::Packet(header)) = connections.next_turn() else {
        panic!("the guest is told");
    };
    assert_eq!(header.operation, Operation::Shutdown);
    assert_eq!(header.flags, Shutdown::all().bits());
    for _ in 0..100 {
        let received = connections.receive(&bytes(open_pair, BUFFER / 4), u64::MAX);
        assert_eq!(received, Received::Nothing);
    }
    assert_eq!(packets(&mut connections), [Operation::CreditUpdate]);
    let received = connections.receive(&packet(open_pair, Operation::Reset), 0);
    assert_eq!(received, Received::Gone(open_pair));
    open(&mut connections, open_pair);
}

#[test]
fn the_host_half_closes_and_still_receives() {
    let mut connections = connections();
    let open_pair = pair(52, 1000);
    open(&mut connections, open_pair);
    connections.has_bytes(open_pair);
    connections.shut_down(open_pair, Shutdown::SEND);
    assert_eq!(packets(&mut connections), [Operation::Shutdown]);
    assert!(!connections.wants_bytes(open_pair));
    let received = connections.receive(&bytes(open_pair, 10), 10);
    assert_eq!(received, Received::Bytes(open_pair, 10));
}

#[test]
fn there_is_a_most_of_connections_and_one_that_is_closing_makes_room() {
    let mut connections = connections();
    for guest in 0..u32::try_from(Connections::MAX).unwrap() {
        open(&mut connections, pair(52, guest));
    }
    assert_eq!(connections.call(80), None);
    let request = packet(pair(53, 0), Operation::Request);
    assert_eq!(connections.receive(&request, 0), Received::Nothing);
    assert_eq!(packets(&mut connections), [Operation::Reset]);
    connections.shut_down(pair(52, 7), Shutdown::all());
    assert_eq!(packets(&mut connections), [Operation::Shutdown]);
    assert_eq!(
        connections.receive(&request, 0),
        Received::Call(pair(53, 0))
    );
    assert_eq!(packets(&mut connections), [Operation::Reset]);
}

#[test]
fn a_guest_that_takes_no_answers_is_not_listened_to() {
    let mut connections = connections();
    let mut taken = 0;
    while !connections.is_clogged() {
        connections.receive(&packet(pair(52, 1000), Operation::Bytes), 0);
        taken += 1;
    }
    assert_eq!(taken, 256);
    assert_eq!(packets(&mut connections).len(), 256);
    assert!(!connections.is_clogged());
}

#[test]
fn calling_and_hanging_up_without_end_leaves_nothing_behind() {
    let mut connections = connections();
    for _ in 0..10_000 {
        let request = packet(pair(52, 1000), Operation::Request);
        assert_eq!(
            connections.receive(&request, 0),
            Received::Call(pair(52, 1000))
        );
        connections.accept(pair(52, 1000));
        let reset = packet(pair(52, 1000), Operation::Reset);
        assert_eq!(
            connections.receive(&reset, 0),
            Received::Gone(pair(52, 1000))
        );
    }
    assert!(!connections.has_turn());
}

#[test]
fn connections_take_turns() {
    let mut connections = connections();
    let both = [pair(52, 1), pair(52, 2)];
    for one in both {
        open(&mut connections, one);
    }
    for one in both {
        connections.has_bytes(one);
    }
    let mut turns = Vec::new();
    for _ in 0..4 {
        let Some(Turn::Bytes(one, _)) = connections.next_turn() else {
            panic!("both have bytes");
        };
        connections.sent(one, 1);
        turns.push(one);
    }
    assert_eq!(turns, [both[0], both[1], both[0], both[1]]);
}
