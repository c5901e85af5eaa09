mod model;
mod timer;
mod x2apic;

use super::*;
use crate::Chip;
use crate::chip::tests::survives_every_access;
use alloc::vec::Vec;
use core::num::NonZeroU64;

const ID: u64 = 0x20;
const TPR: u64 = 0x80;
const PPR: u64 = 0xa0;
const EOI: u64 = 0xb0;
const LDR: u64 = 0xd0;
const DFR: u64 = 0xe0;
const SVR: u64 = 0xf0;
const ISR: u64 = 0x100;
const TMR: u64 = 0x180;
const IRR: u64 = 0x200;
const ESR: u64 = 0x280;
const ICR: u64 = 0x300;
const ICR_HIGH: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const LVT_LINT1: u64 = 0x360;
const LVT_ERROR: u64 = 0x370;

/// No vectors.
const NONE: [u32; 0] = [];

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;

const BASE: u32 = 0x1b;
const BASE_XAPIC: u64 = 0xfee0_0800;
const BASE_X2APIC: u64 = 0xfee0_0c00;

/// A bus of nanoseconds, and a time stamp counter of 3 GHz.
const CLOCK: ApicClock = ApicClock {
    bus_hz: ApicClock::KVM_BUS_HZ,
    tsc_hz: NonZeroU64::new(3_000_000_000).unwrap(),
};

impl LocalApic {
    fn get(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put(&mut self, offset: u64, value: u32) {
        assert_eq!(self.write(offset, &value.to_le_bytes()), None);
    }

    fn of(id: u32) -> Self {
        Self::new(id, CLOCK)
    }

    /// Enabled by software, with all open.
    fn enabled() -> Self {
        let mut apic = Self::of(1);
        apic.put(SVR, 0x1ff);
        apic
    }

    fn take(&mut self, vector: u8) {
        self.accept(&fixed(vector, false));
    }

    fn take_level(&mut self, vector: u8) {
        self.accept(&fixed(vector, true));
    }

    /// The vectors whose bits are set in eight registers.
    fn vectors(&mut self, first: u64) -> Vec<u32> {
        let words: Vec<u32> = (0..8).map(|at| self.get(first + at * 16)).collect();
        let is_set =
            |vector: &u32| words[usize::try_from(vector / 32).unwrap()] >> (vector % 32) & 1;
        (0..256).filter(|vector| is_set(vector) != 0).collect()
    }

    fn ends(&mut self) -> Vec<u8> {
        core::iter::from_fn(|| self.next_end()).collect()
    }

    fn errors(&mut self) -> u32 {
        self.put(ESR, 0);
        self.get(ESR)
    }
}

fn fixed(vector: u8, level: bool) -> ApicMessage {
    message(DeliveryMode::Fixed, vector, level)
}

fn message(mode: DeliveryMode, vector: u8, level: bool) -> ApicMessage {
    ApicMessage {
        vector,
        mode,
        level,
        destination: Destination::Physical(1),
    }
}

#[test]
fn after_reset_it_is_there_and_disabled_by_software() {
    let mut boot = LocalApic::of(0);
    assert_eq!(boot.read_msr(BASE), Ok(0xfee0_0900));
    let mut apic = LocalApic::of(3);
    assert_eq!(apic.read_msr(BASE), Ok(BASE_XAPIC));
    assert_eq!(apic.get(ID), 0x0300_0000);
    assert_eq!(apic.get(0x30), 0x0105_0014);
    assert_eq!((apic.get(SVR), apic.get(DFR)), (0xff, u32::MAX));
    for lvt in (LVT_TIMER..=LVT_ERROR).step_by(16) {
        assert_eq!(apic.get(lvt), MASKED);
    }
    boot.take(0x31);
    assert_eq!(boot.pending(), None);
    assert!(!boot.accepts_vectors());
}

#[test]
fn a_vector_is_requested_then_in_service_then_done() {
    let mut apic = LocalApic::enabled();
    apic.take(0x31);
    assert!(apic.calls());
    assert_eq!(apic.vectors(IRR), [0x31]);
    assert_eq!(apic.pending(), Some(0x31));
    assert_eq!(apic.acknowledge(), 0x31);
    assert_eq!(
        (apic.vectors(IRR), apic.vectors(ISR)),
        ([].into(), [0x31].into())
    );
    assert!(!apic.calls());
    apic.put(EOI, 0);
    assert_eq!(apic.vectors(ISR), NONE);
    assert_eq!(apic.ends(), [], "it was an edge");
}

#[test]
fn one_more_of_a_vector_in_service_is_kept_and_no_second() {
    let mut apic = LocalApic::enabled();
    for _ in 0..3 {
        apic.take(0x31);
    }
    assert_eq!(apic.acknowledge(), 0x31);
    apic.take(0x31);
    apic.take(0x31);
    assert_eq!(apic.pending(), None);
    apic.put(EOI, 0);
    assert_eq!(apic.acknowledge(), 0x31);
    apic.put(EOI, 0);
    assert_eq!(apic.pending(), None);
}

#[test]
fn classes_nest_and_one_class_does_not_interrupt_itself() {
    let mut apic = LocalApic::enabled();
    apic.take(0x41);
    assert_eq!(apic.acknowledge(), 0x41);
    for vector in [0x4f, 0x31] {
        apic.take(vector);
        assert_eq!(apic.pending(), None);
    }
    apic.take(0x50);
    assert_eq!(apic.acknowledge(), 0x50);
    assert_eq!(apic.vectors(ISR), [0x41, 0x50]);
    apic.put(EOI, 0);
    assert_eq!(apic.vectors(ISR), [0x41], "the highest is done");
    apic.put(EOI, 0);
    assert_eq!(apic.acknowledge(), 0x4f);
}

#[test]
fn the_processors_priority_is_the_higher_of_the_tasks_and_the_services() {
    let mut apic = LocalApic::enabled();
    apic.take(0x51);
    apic.acknowledge();
    for (task, priority) in [(0, 0x50), (0x4f, 0x50), (0x53, 0x53), (0x67, 0x67)] {
        apic.put(TPR, task);
        assert_eq!(apic.get(PPR), priority, "{task:#x}");
    }
    apic.put(EOI, 0);
    assert_eq!(apic.get(PPR), 0x67);
}

#[test]
fn a_task_holds_back_its_class_and_those_below() {
    let mut apic = LocalApic::enabled();
    apic.put(TPR, 0x4f);
    apic.take(0x4f);
    assert_eq!(apic.pending(), None);
    apic.take(0x50);
    assert_eq!(apic.pending(), Some(0x50));
    apic.put(TPR, 0xff);
    apic.take(0xff);
    assert_eq!(apic.pending(), None);
    apic.put(TPR, 0xffff_ff00);
    assert_eq!(apic.get(TPR), 0);
    assert_eq!(apic.pending(), Some(0xff));
}

#[test]
fn what_is_gone_when_it_is_acknowledged_is_the_spurious_vector() {
    let mut apic = LocalApic::enabled();
    apic.put(SVR, 0x1ef);
    apic.take(0x31);
    apic.put(TPR, 0x30);
    assert_eq!(apic.acknowledge(), 0xef);
    assert_eq!(apic.vectors(ISR), NONE);
    assert_eq!(apic.vectors(IRR), [0x31]);
}

#[test]
fn ends_of_levels_are_told_and_of_edges_are_not() {
    let mut apic = LocalApic::enabled();
    apic.take_level(0x31);
    assert_eq!(apic.vectors(TMR), [0x31]);
    apic.take(0x41);
    for told in [Vec::new(), [0x31].into()] {
        apic.acknowledge();
        apic.put(EOI, 0x55);
        assert_eq!(apic.ends(), told);
    }
    apic.take(0x31);
    assert_eq!(apic.vectors(TMR), NONE, "an edge takes the level's place");
}

#[test]
fn ends_stay_with_the_processor_where_software_wants_that() {
    let mut apic = LocalApic::enabled();
    apic.put(SVR, 0x11ff);
    assert_eq!(apic.get(SVR), 0x11ff);
    apic.take_level(0x31);
    apic.acknowledge();
    apic.put(EOI, 0);
    assert_eq!(apic.ends(), []);
}

#[test]
fn ends_of_what_was_never_raised_change_nothing() {
    let mut apic = LocalApic::enabled();
    apic.take_level(0x31);
    for _ in 0..300 {
        apic.put(EOI, 0);
        apic.end_of_interrupt();
    }
    assert_eq!(apic.ends(), []);
    assert_eq!(apic.pending(), Some(0x31));
}

#[test]
fn vectors_below_16_are_errors_of_who_receives_and_of_who_sends() {
    let mut apic = LocalApic::enabled();
    apic.put(LVT_ERROR, 0xfe);
    for vector in 0..16 {
        apic.take(vector);
    }
    assert_eq!(apic.vectors(IRR), [0xfe]);
    assert_eq!(apic.get(ESR), 0, "not before it is asked for");
    assert_eq!(apic.errors(), 0x40);
    assert_eq!(apic.errors(), 0);
    apic.put(ICR, 0x0f);
    assert_eq!(apic.next_ipi(), None);
    assert_eq!(apic.errors(), 0x20);
}

#[test]
fn an_error_interrupt_whose_vector_is_illegal_is_no_endless_error() {
    let mut apic = LocalApic::enabled();
    apic.put(LVT_ERROR, 0x05);
    apic.put(ICR, 0x0f);
    assert_eq!(apic.vectors(IRR), NONE);
    assert_eq!(apic.errors(), 0x60);
}

#[test]
fn registers_that_are_not_there_are_errors() {
    let missing = [0x00, 0x10, 0x40, 0x2f0, 0x3f0, 0x400, 0xff0];
    for offset in missing {
        let mut apic = LocalApic::enabled();
        assert_eq!(apic.get(offset), 0);
        assert_eq!(apic.errors(), 0x80, "{offset:#x}");
        apic.put(offset, 1);
        assert_eq!(apic.errors(), 0x80, "{offset:#x}");
    }
    let mut apic = LocalApic::enabled();
    for offset in [0x90, 0xc0] {
        assert_eq!(apic.get(offset), 0, "of processors with an APIC bus");
    }
    assert_eq!(apic.errors(), 0);
}

#[test]
fn what_is_only_read_is_not_written() {
    let mut apic = LocalApic::enabled();
    apic.take_level(0x31);
    let offsets = (0..0x40)
        .map(|number| number * 16)
        .filter(|&at| matches!(at, ID | 0x30 | PPR | ISR..ESR | 0x390));
    for offset in offsets {
        let before = apic.get(offset);
        apic.put(offset, !before);
        assert_eq!(apic.get(offset), before, "{offset:#x}");
    }
}

#[test]
fn only_what_can_be_written_of_a_register_is() {
    let mut apic = LocalApic::enabled();
    for (offset, bits) in [
        (LDR, 0xff00_0000),
        (ICR, 0x000c_cfff),
        (ICR_HIGH, 0xff00_0000),
        (0x330, 0x0001_07ff),
        (0x340, 0x0001_07ff),
        (LVT_LINT0, 0x0001_a7ff),
        (LVT_LINT1, 0x0001_a7ff),
        (LVT_ERROR, 0x0001_00ff),
        (LVT_TIMER, 0x0007_00ff),
        (0x3e0, 0xb),
        (SVR, 0x13ff),
    ] {
        apic.put(offset, u32::MAX);
        assert_eq!(apic.get(offset), bits, "{offset:#x}");
    }
    apic.put(DFR, 0);
    assert_eq!(apic.get(DFR), 0x0fff_ffff);
}

#[test]
fn disabled_by_software_it_keeps_what_it_has_and_masks_its_own() {
    let mut apic = LocalApic::enabled();
    apic.put(LVT_LINT0, 0x31);
    apic.take(0x41);
    apic.put(SVR, 0xff);
    assert_eq!(apic.get(LVT_LINT0), MASKED | 0x31);
    apic.put(LVT_LINT0, 0x31);
    assert_eq!(apic.get(LVT_LINT0), MASKED | 0x31);
    apic.take(0x51);
    assert_eq!(apic.acknowledge(), 0x41);
    assert_eq!(apic.pending(), None, "it accepts no more");
    apic.accept(&message(DeliveryMode::Nmi, 0, false));
    assert!(apic.take_events().nmi);
    apic.put(ICR, 0x41);
    assert!(apic.next_ipi().is_some(), "it still sends");
    apic.put(SVR, 0x1ff);
    assert_eq!(
        apic.get(LVT_LINT0),
        MASKED | 0x31,
        "it is for software to unmask"
    );
}

#[test]
fn events_are_taken_once() {
    let mut apic = LocalApic::of(1);
    for mode in [DeliveryMode::Nmi, DeliveryMode::Nmi, DeliveryMode::Smi] {
        apic.accept(&message(mode, 0, false));
    }
    apic.accept(&message(DeliveryMode::StartUp, 0x9a, false));
    assert!(apic.calls());
    let events = apic.take_events();
    let wanted = ApicEvents {
        init: false,
        start: Some(0x9a),
        smi: true,
        nmi: true,
    };
    assert_eq!(events, wanted);
    assert_eq!(apic.take_events(), ApicEvents::default());
    assert!(!apic.calls());
}

#[test]
fn init_resets_all_but_the_id_and_the_base_and_start_comes_after_it() {
    let mut apic = LocalApic::enabled();
    apic.put(LDR, 0x0200_0000);
    apic.take(0x31);
    apic.take(0x41);
    apic.acknowledge();
    apic.accept(&message(DeliveryMode::StartUp, 0x10, false));
    apic.accept(&message(DeliveryMode::Init, 0, false));
    apic.accept(&message(DeliveryMode::StartUp, 0x9a, false));
    let events = apic.take_events();
    assert_eq!((events.init, events.start), (true, Some(0x9a)));
    assert_eq!(
        (apic.vectors(IRR), apic.vectors(ISR)),
        ([].into(), [].into())
    );
    assert_eq!((apic.get(SVR), apic.get(LDR)), (0xff, 0));
    assert_eq!(apic.get(ID), 0x0100_0000);
    assert_eq!(apic.read_msr(BASE), Ok(BASE_XAPIC));
}

#[test]
fn commands_are_what_linux_starts_processors_with() {
    let mut apic = LocalApic::enabled();
    apic.put(ICR_HIGH, 0x0200_0000);
    apic.put(ICR, 0xc500);
    let ipi = apic.next_ipi().unwrap();
    assert_eq!(ipi.shorthand, None);
    assert_eq!(ipi.message.mode, DeliveryMode::Init);
    assert_eq!(ipi.message.destination, Destination::Physical(2));
    apic.put(ICR, 0x8500);
    assert_eq!(apic.next_ipi(), None, "INIT level de-assert");
    apic.put(ICR, 0x069a);
    let ipi = apic.next_ipi().unwrap();
    assert_eq!(
        (ipi.message.mode, ipi.message.vector),
        (DeliveryMode::StartUp, 0x9a)
    );
    assert_eq!(apic.get(ICR), 0x069a, "and is idle at once");
    assert_eq!(apic.next_ipi(), None);
}

#[test]
fn commands_have_shorthands_modes_and_destinations() {
    let mut apic = LocalApic::enabled();
    apic.put(ICR_HIGH, 0xff00_0000);
    for (bits, shorthand) in [
        (0, None),
        (1, Some(Shorthand::Itself)),
        (2, Some(Shorthand::All)),
        (3, Some(Shorthand::Others)),
    ] {
        apic.put(ICR, bits << 18 | 0xfd);
        let ipi = apic.next_ipi().unwrap();
        assert_eq!(ipi.shorthand, shorthand);
        assert_eq!(ipi.message.destination, Destination::Physical(u32::MAX));
    }
    apic.put(ICR, 1 << 11 | 0xfd);
    let ipi = apic.next_ipi().unwrap();
    assert_eq!(ipi.message.destination, Destination::Logical(0xff));
    for mode in [3, 7] {
        apic.put(ICR, mode << 8 | 0xfd);
        assert_eq!(apic.next_ipi(), None, "reserved");
    }
    for mode in [5, 6] {
        for shorthand in [1, 2] {
            apic.put(ICR, shorthand << 18 | mode << 8);
            assert_eq!(apic.next_ipi(), None, "nobody resets itself");
        }
    }
}

#[test]
fn lint0_passes_the_8259a_and_lint1_non_maskable_interrupts() {
    let mut apic = LocalApic::of(0);
    apic.set_lint(Lint::Lint0, true);
    assert!(!apic.wants_ext_int());
    apic.enter_virtual_wire_mode();
    assert!(apic.wants_ext_int() && apic.calls());
    apic.ext_int_acknowledged();
    assert!(apic.wants_ext_int(), "the pin is still high");
    apic.set_lint(Lint::Lint0, false);
    assert!(!apic.wants_ext_int());
    apic.set_lint(Lint::Lint1, true);
    apic.set_lint(Lint::Lint1, true);
    assert!(apic.take_events().nmi);
    assert!(!apic.take_events().nmi);
    apic.put(LVT_LINT1, MASKED | 0x400);
    apic.set_lint(Lint::Lint1, false);
    apic.set_lint(Lint::Lint1, true);
    assert!(!apic.take_events().nmi);
}

#[test]
fn a_message_of_the_8259a_stays_until_they_were_asked() {
    let mut apic = LocalApic::enabled();
    apic.accept(&message(DeliveryMode::ExtInt, 0, false));
    assert!(apic.wants_ext_int() && apic.calls());
    apic.ext_int_acknowledged();
    assert!(!apic.wants_ext_int());
}

#[test]
fn pins_have_vectors_by_edges() {
    for (lint, lvt) in [(Lint::Lint0, LVT_LINT0), (Lint::Lint1, LVT_LINT1)] {
        let mut apic = LocalApic::enabled();
        apic.put(lvt, 0x31);
        apic.set_lint(lint, true);
        apic.set_lint(lint, true);
        assert_eq!(apic.acknowledge(), 0x31);
        assert_eq!(apic.pending(), None);
        apic.put(EOI, 0);
        assert_eq!((apic.pending(), apic.ends()), (None, [].into()));
    }
}

#[test]
fn a_level_at_lint0_lasts() {
    let mut apic = LocalApic::enabled();
    apic.set_lint(Lint::Lint0, true);
    apic.put(LVT_LINT0, LEVEL | 0x31);
    assert_eq!(apic.get(LVT_LINT0), LEVEL | REMOTE_IRR | 0x31);
    for _ in 0..2 {
        assert_eq!(apic.acknowledge(), 0x31);
        assert_eq!(apic.pending(), None);
        apic.put(EOI, 0);
    }
    apic.set_lint(Lint::Lint0, false);
    assert_eq!(apic.acknowledge(), 0x31);
    apic.put(EOI, 0);
    assert_eq!(apic.pending(), None);
    assert_eq!(apic.get(LVT_LINT0), LEVEL | 0x31);
}

#[test]
fn a_level_at_lint1_is_an_edge() {
    let mut apic = LocalApic::enabled();
    apic.put(LVT_LINT1, LEVEL | 0x31);
    apic.set_lint(Lint::Lint1, true);
    assert_eq!(apic.acknowledge(), 0x31);
    apic.put(EOI, 0);
    assert_eq!(apic.pending(), None);
}

#[test]
fn logical_ids_are_flat_or_in_clusters() {
    let mut apic = LocalApic::enabled();
    let addressed = |apic: &LocalApic, id| apic.is_addressed(Destination::Logical(id));
    apic.put(LDR, 0x2400_0000);
    for (id, flat, cluster) in [
        (0x04, true, false),
        (0x20, true, false),
        (0x24, true, true),
        (0x2f, true, true),
        (0x2b, true, false),
        (0x14, true, false),
        (0x12, false, false),
        (0xff, true, true),
        (0x124, false, false),
        (u32::MAX, true, true),
    ] {
        apic.put(DFR, u32::MAX);
        assert_eq!(addressed(&apic, id), flat, "{id:#x}");
        apic.put(DFR, 0);
        assert_eq!(addressed(&apic, id), cluster, "{id:#x}");
        apic.put(DFR, 0x7000_0000);
        let everybody = matches!(id, 0xff | u32::MAX);
        assert_eq!(addressed(&apic, id), everybody, "no model");
    }
}

#[test]
fn physical_ids_are_its_own_or_everybodys() {
    let apic = LocalApic::enabled();
    for (id, is_mine) in [
        (1, true),
        (0, false),
        (0xff, true),
        (u32::MAX, true),
        (0x101, false),
    ] {
        assert_eq!(
            apic.is_addressed(Destination::Physical(id)),
            is_mine,
            "{id:#x}"
        );
    }
}

#[test]
fn disabled_by_its_base_it_is_not_there_and_forgets() {
    let mut apic = LocalApic::enabled();
    apic.take(0x31);
    apic.write_msr(BASE, 0xfee0_0000).unwrap();
    assert_eq!(apic.get(ID), u32::MAX);
    apic.put(SVR, 0x1ff);
    assert!(!apic.is_addressed(Destination::Physical(1)));
    for mode in [DeliveryMode::Fixed, DeliveryMode::Init, DeliveryMode::Nmi] {
        apic.accept(&message(mode, 0x31, false));
    }
    assert!(!apic.calls());
    // The pins are INTR and NMI.
    apic.set_lint(Lint::Lint0, true);
    assert!(apic.wants_ext_int());
    apic.set_lint(Lint::Lint1, true);
    assert!(apic.take_events().nmi);
    apic.write_msr(BASE, BASE_XAPIC).unwrap();
    assert_eq!(apic.get(SVR), 0xff);
    assert_eq!(apic.vectors(IRR), NONE);
    assert!(!apic.wants_ext_int());
}

#[test]
fn a_million_messages_are_one_interrupt_a_vector() {
    let mut apic = LocalApic::enabled();
    for number in 0..1_000_000u32 {
        let [vector, ..] = number.to_le_bytes();
        apic.take_level(vector);
    }
    let mut seen = 0;
    while apic.pending().is_some() {
        apic.acknowledge();
        apic.put(EOI, 0);
        seen += 1;
    }
    assert_eq!(seen, 240);
    assert_eq!(apic.ends().len(), 240);
}

#[test]
fn every_access_is_survived() {
    for base in [BASE_XAPIC, BASE_X2APIC, 0xfee0_0000] {
        let mut apic = LocalApic::enabled();
        apic.write_msr(BASE, base).unwrap();
        survives_every_access(&mut apic, LocalApic::EXTENT);
    }
}
