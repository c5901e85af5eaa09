use super::*;
use proptest::prelude::*;

fn fixed(vector: u8, destination: Destination) -> ApicMessage {
    ApicMessage {
        vector,
        mode: DeliveryMode::Fixed,
        level: false,
        destination,
    }
}

fn message(address: u64, data: u32) -> Option<ApicMessage> {
    ApicMessage::from_msi(Message { address, data })
}

#[test]
fn an_edge_to_one_processor_is_the_plainest_message() {
    let plain = fixed(0x31, Destination::Physical(2));
    let msi = plain.to_msi();
    assert_eq!((msi.address, msi.data), (0xfee0_2000, 0x31));
    assert_eq!(ApicMessage::from_msi(msi), Some(plain));
}

#[test]
fn modes_levels_and_logical_ids_have_their_bits() {
    let lowest = ApicMessage {
        mode: DeliveryMode::LowestPriority,
        level: true,
        ..fixed(0x51, Destination::Logical(0xff))
    };
    let msi = lowest.to_msi();
    assert_eq!((msi.address, msi.data), (0xfeef_f00c, 0xc151));
    assert_eq!(ApicMessage::from_msi(msi), Some(lowest));
}

#[test]
fn the_redirection_hint_asks_for_the_lowest_priority() {
    let hinted = message(0xfee0_1008, 0x31).unwrap();
    assert_eq!(hinted.mode, DeliveryMode::LowestPriority);
    let nmi = message(0xfee0_1008, 0x431).unwrap();
    assert_eq!(nmi.mode, DeliveryMode::Nmi);
}

#[test]
fn what_goes_to_memory_or_is_of_a_reserved_mode_is_no_interrupt() {
    for address in [0, 0xfed0_0000, 0xfef0_0000, 0xfec0_0000] {
        assert_eq!(message(address, 0x31), None);
    }
    for mode in [3, 6] {
        assert_eq!(message(0xfee0_0000, mode << 8 | 0x31), None);
    }
}

#[test]
fn only_a_vector_that_is_kept_comes_of_a_level() {
    assert!(message(0xfee0_0000, 0xc031).unwrap().level);
    assert!(message(0xfee0_0000, 0x8031).unwrap().level);
    assert!(!message(0xfee0_0000, 0xc431).unwrap().level);
}

#[test]
fn destinations_above_255_come_in_either_way() {
    let wanted = Destination::Physical(0x1234);
    let high = message(0x0000_1200_fee3_4000, 0x31).unwrap();
    assert_eq!(high.destination, wanted);
    let extended = message(0xfee3_4000 | 0x12 << 5, 0x31).unwrap();
    assert_eq!(extended.destination, wanted);
    assert_eq!(high.to_msi().address, 0x0000_1200_fee3_4000);
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was_sent(
        vector in any::<u8>(),
        mode in 0..8u32,
        level in any::<bool>(),
        number in any::<u32>(),
        is_logical in any::<bool>(),
    ) {
        let Some(mode) = DeliveryMode::of_device(mode) else {
            return Ok(());
        };
        let sent = ApicMessage {
            vector,
            mode,
            level: level && mode.has_end(),
            destination: Destination::new(number, is_logical),
        };
        prop_assert_eq!(ApicMessage::from_msi(sent.to_msi()), Some(sent));
    }

    #[test]
    fn no_message_is_too_odd(address in any::<u64>(), data in any::<u32>()) {
        for address in [address, address & !0xfff0_0000 | 0xfee0_0000] {
            if let Some(got) = message(address, data) {
                prop_assert_eq!(ApicMessage::from_msi(got.to_msi()), Some(got));
            }
        }
    }
}
