use super::*;
use crate::virtio::testing::{Buffer, Driver, Ram, Used, queue_at, request};
use crate::virtio::{Layout, Queue, QueueSetup};
use alloc::vec;
use alloc::vec::Vec;
use firstlight_base::Gpa;
use proptest::prelude::*;

const PORT: Port = Port {
    mac: [2, 0, 0, 0, 0, 7],
    mtu: Some(1500),
    offloads: Offloads::all(),
};

#[test]
fn the_configuration_is_the_standards() {
    let mut net = Net::new(PORT);
    let mut config = [0xff; 14];
    net.read_config(0, &mut config);
    assert_eq!(config, [2, 0, 0, 0, 0, 7, 1, 0, 1, 0, 0xdc, 5, 0xff, 0xff]);
    net.set_link(Link::Down);
    net.read_config(6, &mut config[..2]);
    assert_eq!(config[..2], [0, 0]);
    assert_eq!(net.kind().id(), 1);
    assert_eq!(net.queue_sizes(), [256, 256]);
}

#[test]
fn features_are_those_of_the_port() {
    assert_eq!(Net::new(PORT).features(), 0x1_bbab);
    let bare = Port {
        mtu: None,
        offloads: Offloads::empty(),
        ..PORT
    };
    assert_eq!(Net::new(bare).features(), 0x1_8020);
}

#[test]
fn offloads_need_one_another() {
    let net = Net::new(PORT);
    for (features, is_accepted) in [
        (Offloads::empty(), true),
        (Offloads::all(), true),
        (Offloads::CSUM | Offloads::HOST_TSO4, true),
        (Offloads::HOST_TSO4, false),
        (Offloads::GUEST_CSUM | Offloads::HOST_TSO6, false),
        (Offloads::GUEST_CSUM | Offloads::GUEST_TSO6, true),
        (Offloads::GUEST_TSO4, false),
        (Offloads::GUEST_CSUM | Offloads::GUEST_ECN, false),
        (Offloads::CSUM | Offloads::HOST_ECN, false),
    ] {
        let features = features.bits() | NetFeatures::MAC.bits();
        assert_eq!(net.accepts(features), is_accepted, "{features:#x}");
    }
}

#[test]
fn a_header_is_twelve_bytes() {
    let bytes = [1, 4, 2, 0, 3, 0, 4, 0, 5, 0, 6, 1];
    let header = Header::from_bytes(bytes);
    let expected = Header {
        flags: 1,
        segmentation: 4,
        header_len: 2,
        segment_size: 3,
        checksum_start: 4,
        checksum_offset: 5,
        buffers: 0x106,
    };
    assert_eq!(header, expected);
    assert_eq!(header.to_bytes(), bytes);
}

#[test]
fn a_frame_to_be_sent_is_gathered_from_any_buffers() {
    let frame: Vec<u8> = (0..100).collect();
    for cut in 1..frame.len() {
        let (first, second) = frame.split_at(cut);
        let (ram, chain) = request(&[first, second], &[]);
        let mut buffer = [0; MOST_BYTES];
        assert_eq!(gather(&chain, &ram, &mut buffer), Some(&frame[..]));
    }
}

#[test]
fn what_is_no_frame_is_not_sent() {
    let mut buffer = vec![0; MOST_BYTES];
    for (len, is_frame) in [
        (1, false),
        (12, false),
        (25, false),
        (26, true),
        (MOST_BYTES, true),
        (MOST_BYTES + 1, false),
    ] {
        let (ram, chain) = request(&[&vec![7; len]], &[]);
        let gathered = gather(&chain, &ram, &mut buffer);
        assert_eq!(gathered.map(<[u8]>::len), is_frame.then_some(len));
    }
    let (ram, chain) = request(&[], &[2000]);
    assert_eq!(gather(&chain, &ram, &mut buffer), None);
}

/// A receive queue and its driver.
struct Rig {
    ram: Ram,
    driver: Driver,
    queue: Queue,
    receiver: Receiver,
    offered: Vec<(u16, Buffer)>,
    next: u64,
}

const MERGE: u64 = 1 << 15;

impl Rig {
    fn new(layout: Layout, features: u64) -> Self {
        let setup: QueueSetup = queue_at(0x1000, 16, layout);
        let ram = Ram::new(0x20_0000);
        Self {
            driver: Driver::new(&setup),
            queue: Queue::start(&setup, &ram).unwrap(),
            ram,
            receiver: Receiver::new(features),
            offered: Vec::new(),
            next: 0x1_0000,
        }
    }

    fn offer(&mut self, len: u32) {
        let buffer = Buffer::writable(self.next, len);
        self.next += u64::from(len) + 1;
        let id = self.driver.offer(&self.ram, &[buffer]).unwrap();
        self.offered.push((id, buffer));
    }

    fn put(&mut self, frame: &[u8]) -> Placed {
        let Self {
            queue,
            receiver,
            ram,
            ..
        } = self;
        receiver.put(queue, ram, frame).unwrap()
    }

    /// The next frame that the driver finds.
    fn take(&mut self) -> Option<Vec<u8>> {
        let (mut frame, buffers) = self.take_buffer()?;
        for _ in 1..buffers {
            let (bytes, _) = self.take_buffer().expect("all of a frame is there at once");
            frame.extend(bytes);
        }
        Some(frame)
    }

    /// What is in the next buffer that came back, and how many its header would say.
    fn take_buffer(&mut self) -> Option<(Vec<u8>, u16)> {
        let Used { id, written } = self.driver.take_used(&self.ram)?;
        let (offered, buffer) = self.offered.remove(0);
        assert_eq!(id, offered, "buffers come back in order");
        let bytes = self.ram.bytes(buffer.at, usize::try_from(written).unwrap());
        let buffers = bytes
            .get(10..12)
            .map_or(0, |bytes| u16::from_le_bytes(bytes.try_into().unwrap()));
        Some((bytes, buffers))
    }
}

fn frame(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// The same as the driver finds it.
fn in_buffers(frame: &[u8], buffers: u16) -> Vec<u8> {
    let mut found = frame.to_vec();
    found[10..12].copy_from_slice(&buffers.to_le_bytes());
    found
}

const LAYOUTS: [Layout; 2] = [Layout::Split, Layout::Packed];

#[test]
fn a_frame_goes_into_one_buffer_where_it_fits() {
    for layout in LAYOUTS {
        for features in [0, MERGE] {
            let mut rig = Rig::new(layout, features);
            assert_eq!(rig.put(&frame(100)), Placed::NoRoom);
            rig.offer(100);
            rig.offer(2000);
            for len in [100, 1514] {
                assert_eq!(rig.put(&frame(len)), Placed::Delivered);
                assert_eq!(rig.take(), Some(in_buffers(&frame(len), 1)));
            }
            assert_eq!(rig.put(&frame(100)), Placed::NoRoom);
        }
    }
}

#[test]
fn a_frame_is_spread_over_buffers_that_may_be_merged() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(layout, MERGE);
        for len in [100, 50, 1, 1000] {
            rig.offer(len);
        }
        assert_eq!(rig.put(&frame(152)), Placed::Delivered);
        assert_eq!(rig.take(), Some(in_buffers(&frame(152), 4)));
        for len in [100, 51] {
            rig.offer(len);
        }
        assert_eq!(rig.put(&frame(151)), Placed::Delivered);
        assert_eq!(rig.take(), Some(in_buffers(&frame(151), 2)));
    }
}

#[test]
fn buffers_that_are_too_few_wait_for_more() {
    let mut rig = Rig::new(Layout::Split, MERGE);
    rig.offer(100);
    rig.offer(100);
    assert_eq!(rig.put(&frame(300)), Placed::NoRoom);
    assert_eq!(rig.driver.take_used(&rig.ram), None);
    rig.offer(100);
    rig.offer(100);
    assert_eq!(rig.put(&frame(300)), Placed::Delivered);
    assert_eq!(rig.take(), Some(in_buffers(&frame(300), 3)));
    assert_eq!(rig.put(&frame(80)), Placed::Delivered);
    assert_eq!(rig.take(), Some(in_buffers(&frame(80), 1)));
}

#[test]
fn a_frame_that_fits_into_nothing_is_dropped_and_the_next_is_not() {
    let mut rig = Rig::new(Layout::Split, 0);
    rig.offer(100);
    rig.offer(2000);
    assert_eq!(rig.put(&frame(101)), Placed::Dropped);
    assert_eq!(rig.put(&frame(100)), Placed::Delivered);
    assert_eq!(rig.take(), Some(in_buffers(&frame(100), 1)));

    let mut rig = Rig::new(Layout::Packed, MERGE);
    for _ in 0..16 {
        rig.offer(100);
    }
    assert_eq!(rig.put(&frame(1601)), Placed::Dropped);
    assert_eq!(rig.put(&frame(1600)), Placed::Delivered);
    assert_eq!(rig.take(), Some(in_buffers(&frame(1600), 16)));
}

#[test]
fn a_frame_of_no_length_that_frames_have_is_dropped() {
    let mut rig = Rig::new(Layout::Split, MERGE);
    for _ in 0..10 {
        rig.offer(10_000);
    }
    assert_eq!(rig.put(&frame(11)), Placed::Dropped);
    assert_eq!(rig.put(&frame(MOST_BYTES + 1)), Placed::Dropped);
    assert_eq!(rig.put(&frame(MOST_BYTES)), Placed::Delivered);
    assert_eq!(rig.take(), Some(in_buffers(&frame(MOST_BYTES), 7)));
}

#[test]
fn buffers_without_room_are_given_back_with_a_frame() {
    let mut rig = Rig::new(Layout::Split, MERGE);
    rig.offer(60);
    let unwritable = Buffer::readable(0x8000, 100);
    let id = rig.driver.offer(&rig.ram, &[unwritable]).unwrap();
    rig.offered.push((id, unwritable));
    rig.offer(60);
    assert_eq!(rig.put(&frame(100)), Placed::Delivered);
    assert_eq!(rig.take(), Some(in_buffers(&frame(100), 3)));
}

#[test]
fn there_is_room_as_soon_as_a_buffer_is_offered() {
    let mut rig = Rig::new(Layout::Split, MERGE);
    let Rig {
        queue,
        receiver,
        ram,
        ..
    } = &mut rig;
    assert_eq!(receiver.has_room(queue, ram), Ok(false));
    rig.offer(100);
    let Rig {
        queue,
        receiver,
        ram,
        ..
    } = &mut rig;
    assert_eq!(receiver.has_room(queue, ram), Ok(true));
    assert_eq!(receiver.has_room(queue, ram), Ok(true));
    assert_eq!(rig.put(&frame(100)), Placed::Delivered);
}

#[test]
fn a_broken_queue_takes_no_frame() {
    let mut rig = Rig::new(Layout::Split, MERGE);
    rig.ram.put_u16(0x1102, 0x7fff);
    let Rig {
        queue,
        receiver,
        ram,
        ..
    } = &mut rig;
    assert!(receiver.put(queue, ram, &[0; 100]).is_err());
    assert!(receiver.has_room(queue, ram).is_err());
}

proptest! {
    /// Frames come in order and whole, or the driver has no room for them.
    #[test]
    fn every_frame_comes_whole_and_in_order(
        steps in proptest::collection::vec((12..400_u32, 12..1500_usize, any::<bool>()), 0..60),
        is_packed in any::<bool>(),
        merges in any::<bool>(),
    ) {
        let layout = if is_packed { Layout::Packed } else { Layout::Split };
        let mut rig = Rig::new(layout, if merges { MERGE } else { 0 });
        for (room, len, offers) in steps {
            if offers && rig.offered.len() < 16 {
                rig.offer(room);
            }
            let sent = frame(len);
            match rig.put(&sent) {
                Placed::Delivered => {
                    let mut found = rig.take().unwrap();
                    found[10..12].copy_from_slice(&sent[10..12]);
                    prop_assert_eq!(found, sent);
                }
                Placed::NoRoom | Placed::Dropped => {
                    prop_assert_eq!(rig.driver.take_used(&rig.ram), None);
                }
            }
        }
        prop_assert_eq!(rig.ram.bytes(Gpa::new(0), 0x1000), vec![0; 0x1000]);
    }
}
