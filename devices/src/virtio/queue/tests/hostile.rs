//! What is wrong in either layout.

use super::*;
use proptest::prelude::*;

#[test]
fn a_ring_that_is_not_all_memory_does_not_start() {
    for layout in LAYOUTS {
        for event_idx in [false, true] {
            let sound = QueueSetup {
                event_idx,
                ..setup(layout, 8)
            };
            let ram = Ram::of(&[range(0, 0x8000), range(0xc000, 0x4000)]);
            assert!(Queue::start(&sound, &ram).is_ok());
            let (descriptors, driver, device) = lens(&sound);
            for end in [0x8000, 0x1_0000, !15] {
                let last = |len: u64| Gpa::new((end - len).next_multiple_of(16));
                for (wrong, part) in [
                    (
                        QueueSetup {
                            descriptors: last(descriptors - 16),
                            ..sound
                        },
                        RingPart::Descriptors,
                    ),
                    (
                        QueueSetup {
                            driver: last(driver - 2),
                            ..sound
                        },
                        RingPart::Driver,
                    ),
                    (
                        QueueSetup {
                            device: last(device - 2),
                            ..sound
                        },
                        RingPart::Device,
                    ),
                ] {
                    let error = Queue::start(&wrong, &ram).unwrap_err();
                    let names = matches!(
                        error,
                        QueueError::RingOutside { part: named, .. } if named == part
                    );
                    assert!(names, "{error} {wrong:?}");
                }
            }
        }
    }
}

#[test]
fn a_ring_over_a_hole_does_not_start() {
    let ram = Ram::of(&[range(0, 0x3000), range(0x4000, 0x4_0000)]);
    for layout in LAYOUTS {
        let over = queue_at(0x2000, 1024, layout);
        let error = Queue::start(&over, &ram).unwrap_err();
        let text = alloc::format!("{error}");
        assert_eq!(
            text,
            "the descriptors: 0x000002000..0x000006000 is not all guest memory"
        );
    }
}

#[test]
fn a_ring_that_is_not_aligned_does_not_start() {
    let ram = Ram::new(0x1_0000);
    for layout in LAYOUTS {
        let sound = setup(layout, 8);
        let driver = match layout {
            Layout::Split => 1,
            Layout::Packed => 2,
        };
        for wrong in [
            QueueSetup {
                descriptors: Gpa::new(0x1008),
                ..sound
            },
            QueueSetup {
                driver: Gpa::new(sound.driver.get() + driver),
                ..sound
            },
            QueueSetup {
                device: Gpa::new(sound.device.get() + 2),
                ..sound
            },
        ] {
            let error = Queue::start(&wrong, &ram).unwrap_err();
            assert!(matches!(error, QueueError::Misaligned { .. }), "{error}");
        }
    }
}

#[test]
fn a_size_that_is_none_does_not_start() {
    let ram = Ram::new(0x1_0000);
    for (layout, size) in [
        (Layout::Split, 0),
        (Layout::Split, 3),
        (Layout::Split, 0xffff),
        (Layout::Packed, 0),
        (Layout::Packed, 0x8001),
        (Layout::Packed, 0xffff),
    ] {
        let wrong = setup(layout, size);
        let error = QueueError::Size { size, layout };
        assert_eq!(Queue::start(&wrong, &ram).unwrap_err(), error);
    }
}

/// Offers buffers that make a chain malformed, and how it is told.
fn refused(buffers: &[Buffer]) -> [QueueError; 2] {
    LAYOUTS.map(|layout| {
        let mut rig = Rig::new(&setup(layout, 8));
        rig.ram = Ram::of(&[range(0, 0x8000), range(0x9000, 0x1000)]);
        rig.offer(buffers);
        let error = rig.pop().unwrap_err();
        assert!(rig.chain.readable().is_empty() && rig.chain.writable().is_empty());
        assert_eq!(rig.pop(), Err(error), "it is broken for good");
        assert_eq!(rig.queue.listen(&rig.ram), Err(error));
        assert_eq!(rig.queue.ignore(&rig.ram), Err(error));
        assert_eq!(rig.queue.wants_interrupt(&rig.ram), Err(error));
        assert_eq!(rig.driver.take_used(&rig.ram), None);
        error
    })
}

#[test]
fn a_buffer_that_is_not_all_memory_breaks_the_queue() {
    for (at, len) in [
        (0x7fff, 2),
        (0x7000, 0x2001),
        (0x7000, 0x3000),
        (0x8000, 0x1000),
        (0xa000, 1),
        (0xffff_ffff_ffff_ff00, 512),
        (u64::MAX, 1),
        (0, u32::MAX),
    ] {
        let outside = OutsideRam {
            at: Gpa::new(at),
            len: len.into(),
        };
        let error = QueueError::BufferOutside(outside);
        assert_eq!(refused(&[Buffer::readable(at, len)]), [error; 2]);
        let behind = [Buffer::readable(0x100, 1), Buffer::writable(at, len)];
        assert_eq!(refused(&behind), [error; 2]);
    }
}

#[test]
fn what_is_read_comes_before_what_is_written() {
    let error = QueueError::ReadableBehindWritable {
        at: Gpa::new(0x200),
    };
    for len in [0, 1] {
        let buffers = [Buffer::writable(0x100, len), Buffer::readable(0x200, len)];
        assert_eq!(refused(&buffers), [error; 2]);
    }
}

#[test]
fn a_chain_of_more_than_4_gib_breaks_the_queue() {
    /// A memory in which everything is.
    struct Everything(Ram);

    impl GuestMem for Everything {
        fn holds(&self, _range: GpaRange) -> bool {
            true
        }

        fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
            self.0.read(at, into).or(Ok(()))
        }

        fn write(&self, at: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
            self.0.write(at, from)
        }

        fn load_u16(&self, at: Gpa) -> Result<u16, OutsideRam> {
            self.0.load_u16(at)
        }

        fn store_u16(&self, at: Gpa, value: u16) -> Result<(), OutsideRam> {
            self.0.store_u16(at, value)
        }
    }

    for layout in LAYOUTS {
        for (len, is_refused) in [(1, false), (2, true)] {
            let setup = setup(layout, 8);
            let memory = Everything(Ram::new(0x1_0000));
            let mut queue = Queue::start(&setup, &memory).unwrap();
            let whole = [
                Buffer::readable(0x1000_0000, u32::MAX),
                Buffer::writable(0x1000_0000, len),
            ];
            Driver::new(&setup).offer(&memory.0, &whole).unwrap();
            let popped = queue.pop(&memory, &mut Chain::new());
            let bytes = 0x1_0000_0001;
            let error = QueueError::ChainBytes { bytes };
            let expected = if is_refused { Err(error) } else { Ok(true) };
            assert_eq!(popped, expected);
        }
    }
}

#[test]
fn a_table_is_whole_descriptors_of_buffers() {
    for layout in LAYOUTS {
        for len in [0, 1, 15, 17, 24, 0xffff_fff1] {
            let error = QueueError::IndirectLength {
                table: Gpa::new(0x8000),
                len,
            };
            assert_eq!(pop_table(layout, len, 0), Err(error));
        }
        assert_eq!(pop_table(layout, 16, 0), Ok(true));
        let nested = match layout {
            Layout::Split => Err(QueueError::IndirectNested { table: Gpa::new(0) }),
            Layout::Packed => Ok(true),
        };
        assert_eq!(pop_table(layout, 16, 4), nested);
        assert!(matches!(
            pop_table(layout, 0x1_0000, 0),
            Ok(true) | Err(QueueError::ChainLength { most: 8 })
        ));
    }
}

/// Pops a descriptor that leads to a table of `len` bytes at 0x8000, whose first descriptor has these
/// flags.
fn pop_table(layout: Layout, len: u32, flags: u16) -> Result<bool, QueueError> {
    let setup = QueueSetup {
        indirect: true,
        ..setup(layout, 8)
    };
    let mut rig = Rig::new(&setup);
    rig.offer(&[Buffer::readable(0x8000, len)]);
    let (own, inner) = match layout {
        Layout::Split => (0x100c, 0x800c),
        Layout::Packed => (0x100e, 0x800e),
    };
    let offered = rig.ram.load_u16(Gpa::new(own)).unwrap();
    rig.ram.put_u16(own, offered | 4);
    rig.ram.put_u16(inner, flags);
    rig.pop()
}

#[test]
fn a_table_that_was_not_negotiated_or_has_a_successor_breaks_the_queue() {
    for layout in LAYOUTS {
        for (indirect, error) in [
            (false, QueueError::IndirectRefused),
            (true, QueueError::IndirectNext),
        ] {
            let mut rig = Rig::new(&QueueSetup {
                indirect,
                ..setup(layout, 8)
            });
            rig.offer(&[Buffer::readable(0x8000, 16), Buffer::readable(0x8000, 16)]);
            let flags = match layout {
                Layout::Split => 0x100c,
                Layout::Packed => 0x100e,
            };
            let offered = rig.ram.load_u16(Gpa::new(flags)).unwrap();
            rig.ram.put_u16(flags, offered | 4);
            assert_eq!(rig.pop(), Err(error));
        }
    }
}

#[test]
fn buffers_before_a_table_belong_to_its_request_in_split_rings_only() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&QueueSetup {
            indirect: true,
            ..setup(layout, 8)
        });
        rig.offer(&[Buffer::readable(0x9000, 5), Buffer::writable(0x8000, 16)]);
        let flags = match layout {
            Layout::Split => 0x101c,
            Layout::Packed => 0x101e,
        };
        let offered = rig.ram.load_u16(Gpa::new(flags)).unwrap();
        rig.ram.put_u16(flags, offered | 4);
        rig.ram.put_u64(0x8000, 0xa000);
        rig.ram.put_u16(0x8008, 7);
        if layout == Layout::Packed {
            assert_eq!(rig.pop(), Err(QueueError::IndirectBehindOthers));
            continue;
        }
        assert_eq!(rig.pop(), Ok(true));
        assert_eq!(rig.chain.readable(), [range(0x9000, 5), range(0xa000, 7)]);
    }
}

#[test]
fn a_request_goes_back_once() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(&setup(layout, 8));
        let id = rig.offer(&[Buffer::readable(0x8000, 1)]);
        assert_eq!(rig.pop(), Ok(true));
        let token = rig.chain.token();
        rig.push(token, 0);
        let error = QueueError::NotUnderWay { id };
        assert_eq!(rig.queue.push(&rig.ram, token, 0), Err(error));
    }
}

proptest! {
    /// Whatever is in memory, everything comes to an end, and no more requests come than fit.
    #[test]
    fn a_ring_of_any_bytes_gives_requests_in_memory_or_an_error(
        bytes in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 3 => 0..8_u8, 1 => any::<u8>()], 0x200),
        size in 0..4_u32,
        is_packed in any::<bool>(),
        event_idx in any::<bool>(),
        indirect in any::<bool>(),
    ) {
        let layout = if is_packed { Layout::Packed } else { Layout::Split };
        let ram = Ram::of(&[range(0, 0x200), range(0x400, 0x100)]);
        ram.write(Gpa::new(0), &bytes).unwrap();
        let setup = QueueSetup { event_idx, indirect, ..queue_at(0x40, 1 << size, layout) };
        let mut queue = Queue::start(&setup, &ram).unwrap();
        let mut chain = Chain::new();
        let mut outcome = Ok(());
        for turn in 0..40 {
            match queue.pop(&ram, &mut chain) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            let descriptors = chain.readable().len() + chain.writable().len();
            prop_assert!(descriptors <= usize::from(setup.size));
            let mut reader = chain.reader(&ram);
            let mut read = alloc::vec![0; usize::try_from(reader.len()).unwrap()];
            prop_assert!(reader.read_exact(&mut read).is_ok());
            // Every other one is given back.
            if turn % 2 == 1 {
                let pushed = queue.push(&ram, chain.token(), 1);
                prop_assert!(pushed.is_ok());
            }
            let asked = queue.wants_interrupt(&ram);
            prop_assert!(asked.is_ok());
        }
        if let Err(error) = outcome {
            let text = alloc::format!("{error}");
            prop_assert!(!text.is_empty());
            prop_assert_eq!(queue.pop(&ram, &mut chain), Err(error));
        }
    }
}
