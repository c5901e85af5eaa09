//! The local APIC's model-specific registers, and how they come and go.

use super::*;

const GP: Result<u64, GeneralProtection> = Err(GeneralProtection);

impl LocalApic {
    fn x2apic(id: u32) -> Self {
        let mut apic = Self::of(id);
        apic.write_msr(BASE, BASE_X2APIC).unwrap();
        apic.write_msr(0x80f, 0x1ff).unwrap();
        apic
    }
}

#[test]
fn its_mode_changes_only_along_the_manuals_arrows() {
    const DISABLED: u64 = 0xfee0_0000;
    const INVALID: u64 = 0xfee0_0400;
    for (path, goes) in [
        (&[BASE_XAPIC][..], true),
        (&[DISABLED], true),
        (&[INVALID], false),
        (&[DISABLED, BASE_XAPIC], true),
        (&[DISABLED, BASE_X2APIC], false),
        (&[DISABLED, INVALID], false),
        (&[BASE_X2APIC, BASE_X2APIC], true),
        (&[BASE_X2APIC, BASE_XAPIC], false),
        (&[BASE_X2APIC, INVALID], false),
        (&[BASE_X2APIC, DISABLED, BASE_XAPIC, BASE_X2APIC], true),
    ] {
        let mut apic = LocalApic::of(1);
        let results: Vec<_> = path
            .iter()
            .map(|&base| apic.write_msr(BASE, base))
            .collect();
        let (last, before) = results.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok));
        assert_eq!(last.is_ok(), goes, "{path:x?}");
        let wanted = if goes { path.last() } else { None };
        if let Some(&wanted) = wanted {
            assert_eq!(apic.read_msr(BASE), Ok(wanted));
        }
    }
}

#[test]
fn reserved_bits_of_the_base_are_refused() {
    let mut apic = LocalApic::of(1);
    for bit in (0..8).chain([9]).chain(52..64) {
        let refused = apic.write_msr(BASE, BASE_XAPIC | 1 << bit);
        assert_eq!(refused, Err(GeneralProtection), "{bit}");
    }
    assert_eq!(apic.read_msr(BASE), Ok(BASE_XAPIC));
}

#[test]
fn its_registers_are_there_in_its_mode_only() {
    let mut apic = LocalApic::of(1);
    for index in 0x800..0x900 {
        assert_eq!(apic.read_msr(index), GP);
        assert!(apic.write_msr(index, 0).is_err());
    }
    apic.write_msr(BASE, BASE_X2APIC).unwrap();
    assert_eq!(apic.read_msr(0x802), Ok(1));
    assert_eq!(apic.get(ID), u32::MAX, "those in memory are gone");
    for index in [0x7ff, 0x900, 0, u32::MAX] {
        assert_eq!(apic.read_msr(index), GP);
    }
}

#[test]
fn registers_are_read_and_written_as_the_manual_has_them() {
    let read: Vec<u32> = (0x800..0x900)
        .filter(|&index| LocalApic::x2apic(1).read_msr(index).is_ok())
        .collect();
    let written: Vec<u32> = (0x800..0x900)
        .filter(|&index| LocalApic::x2apic(1).write_msr(index, 0).is_ok())
        .collect();
    let readable = [0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f]
        .into_iter()
        .chain(0x810..=0x828)
        .chain([0x830])
        .chain(0x832..=0x839)
        .chain([0x83e]);
    assert_eq!(read, readable.collect::<Vec<_>>());
    let writable = [0x808, 0x80b, 0x80f, 0x828, 0x830]
        .into_iter()
        .chain(0x832..=0x838)
        .chain([0x83e, 0x83f]);
    assert_eq!(written, writable.collect::<Vec<_>>());
}

#[test]
fn reserved_bits_are_refused() {
    let mut apic = LocalApic::x2apic(1);
    for (index, bits) in [
        (0x808, 0xff),
        (0x80b, 0),
        (0x80f, 0x13ff),
        (0x828, 0),
        (0x830, 0xffff_ffff_000c_dfff),
        (0x832, 0x0007_10ff),
        (0x833, 0x0001_17ff),
        (0x834, 0x0001_17ff),
        (0x835, 0x0001_f7ff),
        (0x836, 0x0001_f7ff),
        (0x837, 0x0001_10ff),
        (0x838, 0xffff_ffff),
        (0x83e, 0xb),
        (0x83f, 0xff),
    ] {
        for bit in 0..64 {
            let value = 1u64 << bit;
            let is_ok = apic.write_msr(index, value).is_ok();
            assert_eq!(is_ok, bits & value != 0, "{index:#x} bit {bit}");
        }
    }
}

#[test]
fn logical_ids_follow_from_ids() {
    for (id, logical) in [(0, 1), (0x1f, 0x0001_8000), (0x123, 0x0012_0008)] {
        let apic = LocalApic::x2apic(id);
        assert_eq!(apic.read_msr(0x80d), Ok(logical));
        let number = u32::try_from(logical).unwrap();
        assert!(apic.is_addressed(Destination::Logical(number)));
        assert!(apic.is_addressed(Destination::Logical(number | 0xffff)));
        assert!(!apic.is_addressed(Destination::Logical(number ^ 0x0010_0000)));
        assert!(!apic.is_addressed(Destination::Logical(number & !0xffff)));
        assert!(apic.is_addressed(Destination::Logical(u32::MAX)));
        assert!(apic.is_addressed(Destination::Physical(id)));
        assert!(apic.is_addressed(Destination::Physical(u32::MAX)));
        assert!(!apic.is_addressed(Destination::Physical(0xff)));
    }
}

#[test]
fn a_command_is_one_write_of_64_bits() {
    let mut apic = LocalApic::x2apic(1);
    apic.write_msr(0x830, 0x1234_5678_0000_00fd).unwrap();
    assert_eq!(apic.read_msr(0x830), Ok(0x1234_5678_0000_00fd));
    let ipi = apic.next_ipi().unwrap();
    assert_eq!(ipi.message.destination, Destination::Physical(0x1234_5678));
    apic.write_msr(0x830, 0x0001_0003_0000_08fd).unwrap();
    let ipi = apic.next_ipi().unwrap();
    assert_eq!(ipi.message.destination, Destination::Logical(0x0001_0003));
}

#[test]
fn it_sends_to_itself_by_one_write() {
    let mut apic = LocalApic::x2apic(1);
    apic.write_msr(0x83f, 0xf1).unwrap();
    assert_eq!(apic.next_ipi(), None);
    assert_eq!(apic.acknowledge(), 0xf1);
    apic.write_msr(0x80b, 0).unwrap();
    assert_eq!(apic.pending(), None);
    apic.write_msr(0x83f, 0x0f).unwrap();
    apic.write_msr(0x828, 0).unwrap();
    assert_eq!(apic.read_msr(0x828), Ok(0x20));
}

#[test]
fn changing_over_keeps_all_but_the_commands_upper_half() {
    let mut apic = LocalApic::enabled();
    apic.put(LDR, 0x0200_0000);
    apic.put(ICR_HIGH, 0x0300_0000);
    apic.put(TPR, 0x20);
    apic.take(0x31);
    apic.write_msr(BASE, BASE_X2APIC).unwrap();
    assert_eq!(apic.read_msr(0x830), Ok(0));
    assert_eq!(apic.read_msr(0x80d), Ok(2));
    assert_eq!(apic.read_msr(0x808), Ok(0x20));
    assert_eq!(apic.pending(), Some(0x31));
}

#[test]
fn init_leaves_it_in_its_mode() {
    let mut apic = LocalApic::x2apic(5);
    apic.accept(&message(DeliveryMode::Init, 0, false));
    assert_eq!(apic.read_msr(BASE), Ok(BASE_X2APIC));
    assert_eq!(apic.read_msr(0x80f), Ok(0xff));
}

#[test]
fn every_register_and_value_is_survived() {
    for base in [0xfee0_0000, BASE_XAPIC, BASE_X2APIC] {
        let mut apic = LocalApic::of(1);
        apic.write_msr(BASE, base).unwrap();
        for index in (0x7f0..0x910).chain([0x6e0, u32::MAX]) {
            for value in [0, 1, 0x31, 0xff, 0x5555_5555, u64::MAX >> 32, u64::MAX] {
                let _ = apic.write_msr(index, value);
                let _ = apic.read_msr(index);
                let _ = (apic.next_ipi(), apic.next_end(), apic.take_events());
            }
        }
    }
}
