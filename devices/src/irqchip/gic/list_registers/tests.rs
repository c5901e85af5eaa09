use super::*;
use crate::{Affinity, GicLine, GicV2, GicV3};
use alloc::vec::Vec;
use core::iter;
use firstlight_base::Irq;
use proptest::prelude::*;

const CPU_0: VcpuId = VcpuId(0);
const CPU_1: VcpuId = VcpuId(1);

const UART: GicLine = GicLine::Shared(Irq(1));
const DISK: GicLine = GicLine::Shared(Irq(40));
const UART_ID: u32 = 33;
const DISK_ID: u32 = 72;

const GICD_IGROUPR: u64 = 0x0080;
const GICD_ISENABLER: u64 = 0x0100;
const GICD_ICENABLER: u64 = 0x0180;
const GICD_ISPENDR: u64 = 0x0200;
const GICD_ICPENDR: u64 = 0x0280;
const GICD_ISACTIVER: u64 = 0x0300;
const GICD_ICACTIVER: u64 = 0x0380;
const GICD_IPRIORITYR: u64 = 0x0400;
const GICD_ICFGR: u64 = 0x0c00;

const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const GROUP_1: u64 = 1 << 60;
const SEES_THE_END: u64 = 1 << 41;
const BOTH_GROUPS: u64 = 3;

/// What ICH_HCR_EL2 holds beside the enable bit.
const NOT_LISTED: u64 = 1 << 2;
const NONE_PENDING: u64 = 1 << 3;
const TRAP: u64 = 1 << 14;

/// A GICv3 of two CPUs with these interrupts enabled, at priority 0xa0 and in group 1, and one
/// CPU's list registers.
struct Machine {
    gic: GicV3,
    list: ListRegisters,
    /// As the guest sees them.
    registers: Vec<u64>,
    not_listed: u64,
}

impl Machine {
    fn listening(registers: usize, ids: &[u32]) -> Self {
        let affinities = [CPU_0, CPU_1].map(Affinity::of);
        let mut gic = GicV3::new(&affinities, 96).unwrap();
        gic.write_distributor(0, &[3]);
        for cpu in 0..2 {
            gic.write_redistributor(cpu * 0x2_0000 + 0x14, &[0]);
        }
        let mut machine = Self {
            gic,
            list: ListRegisters::new(CPU_0, registers).unwrap(),
            registers: Vec::new(),
            not_listed: 0,
        };
        for &id in ids {
            machine.set_priority(id, 0xa0);
            machine.set_bit(GICD_ISENABLER, id);
        }
        // The guest enables its groups.
        machine.load();
        machine.save();
        machine
    }

    fn set_bit(&mut self, register: u64, id: u32) {
        let at = register + u64::from(id / 32) * 4;
        self.gic
            .write_distributor(at, &(1u32 << (id % 32)).to_le_bytes());
    }

    fn bit(&self, register: u64, id: u32) -> bool {
        let mut data = [0; 4];
        let at = register + u64::from(id / 32) * 4;
        self.gic.read_distributor(at, &mut data);
        u32::from_le_bytes(data) >> (id % 32) & 1 != 0
    }

    fn set_priority(&mut self, id: u32, priority: u8) {
        self.gic
            .write_distributor(GICD_IPRIORITYR + u64::from(id), &[priority]);
    }

    fn set_edge(&mut self, id: u32) {
        let at = GICD_ICFGR + u64::from(id / 16) * 4;
        let bit = 2u32 << (2 * (id % 16));
        self.gic.write_distributor(at, &bit.to_le_bytes());
    }

    fn load(&mut self) -> &[u64] {
        self.registers = self.list.load(&mut self.gic).into();
        &self.registers
    }

    fn save(&mut self) {
        let after = AfterRun {
            registers: &self.registers,
            control: self.list.control() | self.not_listed << 27,
            machine_control: BOTH_GROUPS,
        };
        self.list.save(&mut self.gic, after);
        self.not_listed = 0;
    }

    fn is_stale(&self) -> bool {
        self.list.is_stale(&self.gic)
    }

    /// The guest acknowledges this, if it is pending.
    fn acknowledge(&mut self, id: u32) -> bool {
        let pending = self.register(id).filter(|it| **it & PENDING != 0);
        pending.map(|it| *it = *it & !PENDING | ACTIVE).is_some()
    }

    /// The guest ends this.
    fn end(&mut self, id: u32) {
        match self.register(id) {
            Some(register) => *register &= !ACTIVE,
            None => self.not_listed += 1,
        }
    }

    fn register(&mut self, id: u32) -> Option<&mut u64> {
        let of_id = |it: &&mut u64| **it >> 62 != 0 && **it & 0xffff_ffff == u64::from(id);
        self.registers.iter_mut().find(of_id)
    }

    fn control(&self) -> u64 {
        self.list.control() & !1
    }

    fn ended(&mut self) -> Vec<GicLine> {
        iter::from_fn(|| self.gic.take_ended()).collect()
    }
}

fn value(id: u32, bits: u64) -> u64 {
    bits | GROUP_1 | 0xa0 << 48 | u64::from(id)
}

#[test]
fn there_are_one_to_sixteen() {
    assert!(ListRegisters::new(CPU_0, 0).is_none() && ListRegisters::new(CPU_0, 17).is_none());
    for count in 1..=16 {
        assert_eq!(Machine::listening(count, &[]).load().len(), count);
    }
}

#[test]
fn a_level_is_listed_with_a_maintenance_interrupt_for_its_end() {
    let mut machine = Machine::listening(2, &[UART_ID]);
    assert_eq!(machine.load(), [0, 0]);
    machine.save();
    machine.gic.set(UART, true);
    assert_eq!(machine.load(), [value(UART_ID, PENDING | SEES_THE_END), 0]);
    assert_eq!(machine.control(), 0);
    assert!(machine.acknowledge(UART_ID));
    machine.save();
    assert!(machine.bit(GICD_ISACTIVER, UART_ID));
    assert_eq!(machine.load(), [value(UART_ID, ACTIVE | SEES_THE_END), 0]);
    machine.end(UART_ID);
    machine.save();
    assert_eq!(machine.ended(), [UART]);
    assert_eq!(
        machine.load(),
        [value(UART_ID, PENDING | SEES_THE_END), 0],
        "the line is still high"
    );
    machine.acknowledge(UART_ID);
    machine.gic.set(UART, false);
    machine.end(UART_ID);
    machine.save();
    assert_eq!(machine.load(), [0, 0]);
    assert_eq!(machine.ended(), [UART]);
}

#[test]
fn an_edge_that_comes_while_one_is_active_is_listed_beside_it() {
    let mut machine = Machine::listening(2, &[DISK_ID]);
    machine.set_edge(DISK_ID);
    machine.gic.pulse(DISK);
    assert_eq!(machine.load(), [value(DISK_ID, PENDING), 0]);
    machine.acknowledge(DISK_ID);
    machine.gic.pulse(DISK);
    machine.save();
    assert_eq!(machine.load(), [value(DISK_ID, PENDING | ACTIVE), 0]);
    // The guest ends the first and acknowledges the second.
    *machine.register(DISK_ID).unwrap() = value(DISK_ID, ACTIVE);
    machine.save();
    assert_eq!(machine.ended(), [DISK]);
    assert_eq!(machine.load(), [value(DISK_ID, ACTIVE), 0]);
}

#[test]
fn group_0_is_listed_as_that() {
    let mut machine = Machine::listening(1, &[UART_ID]);
    machine.gic.write_distributor(GICD_IGROUPR + 4, &[0; 4]);
    machine.gic.set(UART, true);
    let expected = value(UART_ID, PENDING | SEES_THE_END) & !GROUP_1;
    assert_eq!(machine.load(), [expected]);
}

#[test]
fn what_was_loaded_and_not_saved_stays_loaded() {
    let mut machine = Machine::listening(1, &[UART_ID, DISK_ID]);
    machine.gic.set(UART, true);
    let first: Vec<u64> = machine.load().into();
    machine.gic.set(DISK, true);
    machine.set_priority(DISK_ID, 0);
    assert_eq!(machine.load(), first);
    machine.save();
    assert_eq!(machine.load()[0] & 0x3ff, u64::from(DISK_ID));
}

#[test]
fn of_a_register_that_is_missing_the_guest_did_nothing() {
    let mut machine = Machine::listening(2, &[UART_ID]);
    machine.set_edge(UART_ID);
    machine.gic.pulse(UART);
    machine.load();
    machine.registers.clear();
    machine.save();
    assert_eq!(machine.load(), [value(UART_ID, PENDING), 0]);
    assert_eq!(machine.ended(), []);
}

#[test]
fn the_most_urgent_are_listed_and_the_rest_when_none_of_them_is_pending() {
    let ids = [40, 41, 42, 43];
    let mut machine = Machine::listening(2, &ids);
    for (id, priority) in iter::zip(ids, [0x90, 0x80, 0xa0, 0x80]) {
        machine.set_priority(id, priority);
        machine.gic.set(GicLine::Shared(Irq(id - 32)), true);
    }
    let listed = |machine: &mut Machine| -> Vec<u64> {
        machine.load().iter().map(|it| it & 0x3ff).collect()
    };
    assert_eq!(listed(&mut machine), [41, 43]);
    assert_eq!(machine.control() & NONE_PENDING, NONE_PENDING);
    assert_eq!(machine.control() & NOT_LISTED, 0);
    for id in [41, 43] {
        assert!(machine.acknowledge(id));
        machine.gic.set(GicLine::Shared(Irq(id - 32)), false);
        machine.end(id);
    }
    machine.save();
    assert_eq!(listed(&mut machine), [40, 42]);
    assert_eq!(machine.control(), 0);
}

#[test]
fn more_active_ones_than_registers_are_ended_by_their_count() {
    let ids = [40, 41, 42];
    let mut machine = Machine::listening(1, &ids);
    for (id, priority) in iter::zip(ids, [0xa0, 0x90, 0x80]) {
        machine.set_edge(id);
        machine.set_priority(id, priority);
        machine.gic.pulse(GicLine::Shared(Irq(id - 32)));
        machine.load();
        assert!(machine.acknowledge(id));
        machine.save();
    }
    machine.load();
    assert_eq!(machine.control(), NOT_LISTED | TRAP);
    for id in [42, 41] {
        machine.end(id);
    }
    machine.save();
    assert_eq!(
        machine.ended(),
        [41, 42].map(|id| GicLine::Shared(Irq(id - 32)))
    );
    assert!(machine.bit(GICD_ISACTIVER, 40));
    machine.load();
    assert_eq!(machine.control(), 0);
    machine.end(40);
    machine.save();
    assert!(!machine.bit(GICD_ISACTIVER, 40));
}

#[test]
fn one_register_is_kept_for_what_waits() {
    let ids = [40, 41, 42];
    let mut machine = Machine::listening(2, &ids);
    for id in [40, 41] {
        machine.set_bit(GICD_ISACTIVER, id);
    }
    machine.set_priority(42, 0xf0);
    machine.gic.set(GicLine::Shared(Irq(10)), true);
    let listed: Vec<u64> = machine.load().iter().map(|it| it & 0x3ff).collect();
    assert_eq!(listed, [40, 42]);
    assert_eq!(machine.control(), NOT_LISTED | TRAP);
}

#[test]
fn one_that_is_disabled_while_it_is_listed_is_taken_back_and_waits() {
    let mut machine = Machine::listening(2, &[UART_ID]);
    machine.set_edge(UART_ID);
    machine.gic.pulse(UART);
    machine.load();
    assert!(!machine.is_stale());
    machine.set_bit(GICD_ICENABLER, UART_ID);
    assert!(machine.is_stale());
    assert!(machine.bit(GICD_ISPENDR, UART_ID));
    machine.save();
    assert!(machine.bit(GICD_ISPENDR, UART_ID));
    assert_eq!(machine.load(), [0, 0]);
    machine.save();
    machine.set_bit(GICD_ISENABLER, UART_ID);
    assert_eq!(machine.load(), [value(UART_ID, PENDING), 0]);
}

#[test]
fn one_that_is_cleared_while_it_is_listed_is_gone() {
    let mut machine = Machine::listening(2, &[UART_ID]);
    machine.set_edge(UART_ID);
    machine.gic.pulse(UART);
    machine.load();
    machine.set_bit(GICD_ICPENDR, UART_ID);
    assert!(machine.is_stale() && !machine.bit(GICD_ISPENDR, UART_ID));
    machine.save();
    assert_eq!(machine.load(), [0, 0]);
}

#[test]
fn a_level_that_falls_while_it_is_listed_is_taken_back() {
    let mut machine = Machine::listening(1, &[UART_ID]);
    machine.gic.set(UART, true);
    machine.load();
    machine.gic.set(UART, false);
    assert!(machine.is_stale());
    machine.save();
    assert_eq!(machine.load(), [0]);
    assert_eq!(machine.ended(), []);
}

#[test]
fn what_is_done_to_the_active_state_of_what_is_listed_counts() {
    let mut machine = Machine::listening(1, &[UART_ID]);
    machine.set_edge(UART_ID);
    machine.gic.pulse(UART);
    machine.load();
    machine.acknowledge(UART_ID);
    machine.set_bit(GICD_ICACTIVER, UART_ID);
    assert!(machine.is_stale());
    machine.save();
    assert!(!machine.bit(GICD_ISACTIVER, UART_ID));
    assert_eq!(machine.ended(), [UART]);
    machine.gic.pulse(UART);
    machine.load();
    machine.set_bit(GICD_ISACTIVER, UART_ID);
    machine.save();
    assert!(machine.bit(GICD_ISACTIVER, UART_ID) && machine.bit(GICD_ISPENDR, UART_ID));
}

#[test]
fn what_comes_or_becomes_more_urgent_makes_the_registers_stale() {
    let mut machine = Machine::listening(1, &[UART_ID, DISK_ID]);
    machine.load();
    machine.gic.set(DISK, true);
    assert!(machine.is_stale());
    machine.save();
    machine.load();
    assert!(!machine.is_stale());
    machine.gic.set(UART, true);
    assert!(machine.is_stale(), "it comes before the other");
    machine.save();
    machine.load();
    machine.set_priority(UART_ID, 0xb0);
    assert!(machine.is_stale());
    machine.save();
    assert_eq!(machine.load()[0] & 0x3ff, u64::from(DISK_ID));
}

#[test]
fn the_hosts_interrupt_is_listed_with_its_number_and_reported_when_it_ends() {
    let mut machine = Machine::listening(1, &[UART_ID]);
    machine.gic.pass_through(UART, Some(Irq(77)));
    machine.gic.pulse(UART);
    let hardware = 1 << 61 | 77 << 32;
    assert_eq!(machine.load(), [value(UART_ID, PENDING | hardware)]);
    machine.acknowledge(UART_ID);
    machine.end(UART_ID);
    machine.save();
    assert_eq!(machine.ended(), [UART]);
    assert_eq!(machine.load(), [0]);
    machine.save();
    // It is never pending and active at once: the host's is deactivated with it.
    machine.set_edge(UART_ID);
    machine.gic.pulse(UART);
    machine.load();
    machine.acknowledge(UART_ID);
    machine.save();
    machine.gic.pulse(UART);
    assert_eq!(machine.load(), [value(UART_ID, ACTIVE | hardware)]);
    machine.save();
    for none in [None, Some(Irq(15)), Some(Irq(1020)), Some(Irq(u32::MAX))] {
        machine.gic.pass_through(UART, none);
        assert_eq!(machine.load()[0] & 1 << 61, 0);
        machine.save();
    }
    machine
        .gic
        .pass_through(GicLine::Shared(Irq(96)), Some(Irq(77)));
}

#[test]
fn what_is_listed_for_one_cpu_is_listed_for_no_other() {
    let mut machine = Machine::listening(1, &[UART_ID]);
    let router = 0x6000 + u64::from(UART_ID) * 8;
    machine
        .gic
        .write_distributor(router, &(1u64 << 31).to_le_bytes());
    machine.gic.set(UART, true);
    machine.load();
    let mut other = ListRegisters::new(CPU_1, 1).unwrap();
    let awake = AfterRun {
        registers: &[],
        control: 0,
        machine_control: BOTH_GROUPS,
    };
    other.save(&mut machine.gic, awake);
    assert_eq!(other.load(&mut machine.gic), [0]);
    machine.gic.write_redistributor(0x14, &[2]);
    assert!(machine.is_stale(), "its CPU sleeps now");
    assert!(!other.is_stale(&machine.gic));
    machine.save();
    assert!(other.is_stale(&machine.gic));
    let expected = value(UART_ID, PENDING | SEES_THE_END);
    assert_eq!(other.load(&mut machine.gic), [expected]);
    // Whoever acknowledged it is to end it, wherever it goes meanwhile.
    let active = [value(UART_ID, ACTIVE)];
    let after = AfterRun {
        registers: &active,
        ..awake
    };
    other.save(&mut machine.gic, after);
    machine.gic.write_distributor(router, &[0; 8]);
    assert_eq!(machine.load(), [0]);
    let expected = value(UART_ID, ACTIVE | SEES_THE_END);
    assert_eq!(other.load(&mut machine.gic), [expected]);
}

#[test]
fn groups_that_the_guest_has_disabled_are_listed_when_it_enables_them() {
    let mut machine = Machine::listening(1, &[UART_ID]);
    machine.gic.set(UART, true);
    let disabled = AfterRun {
        registers: &[],
        control: 0,
        machine_control: 1,
    };
    machine.list.save(&mut machine.gic, disabled);
    assert_eq!(machine.load(), [0]);
    assert_eq!(machine.control(), 1 << 6, "group 1's enabling is told");
    machine.save();
    assert_eq!(machine.load()[0] & 0x3ff, u64::from(UART_ID));
    assert_eq!(machine.control(), 0);
}

#[test]
fn what_cpus_send_each_other_is_listed_sender_by_sender() {
    let mut gic = GicV2::new(3, 32).unwrap();
    gic.write_distributor(CPU_0, 0, &[1]);
    for sender in [2, 1] {
        gic.write_distributor(VcpuId(sender), 0xf00, &0x0001_0005u32.to_le_bytes());
    }
    let mut list = ListRegisters::new(CPU_0, 4).unwrap();
    let mut registers = Vec::new();
    let mut expect = |gic: &mut GicV2, expected: u64| {
        let after = AfterRun {
            registers: &registers,
            control: 0,
            machine_control: BOTH_GROUPS,
        };
        list.save(gic, after);
        let loaded = list.load(gic);
        assert_eq!(loaded, [expected, 0, 0, 0]);
        // The guest acknowledges what is pending, and ends what is active.
        registers = loaded.into();
        registers[0] = if expected & PENDING == 0 {
            0
        } else {
            expected ^ (PENDING | ACTIVE)
        };
    };
    expect(&mut gic, PENDING | SEES_THE_END | 0x405);
    expect(&mut gic, ACTIVE | SEES_THE_END | 0x405);
    expect(&mut gic, PENDING | 0x805);
    // One of them sends it again.
    gic.write_distributor(VcpuId(1), 0xf00, &0x0001_0005u32.to_le_bytes());
    expect(&mut gic, ACTIVE | SEES_THE_END | 0x805);
    expect(&mut gic, PENDING | 0x405);
    expect(&mut gic, ACTIVE | 0x405);
    expect(&mut gic, 0);
}

#[test]
fn a_sender_that_takes_its_interrupt_back_does_so_while_it_is_listed() {
    let mut gic = GicV2::new(2, 32).unwrap();
    gic.write_distributor(CPU_0, 0, &[1]);
    gic.write_distributor(CPU_1, 0xf00, &0x0001_0005u32.to_le_bytes());
    let mut list = ListRegisters::new(CPU_0, 1).unwrap();
    let nothing = AfterRun {
        registers: &[],
        control: 0,
        machine_control: BOTH_GROUPS,
    };
    list.save(&mut gic, nothing);
    assert_eq!(list.load(&mut gic), [PENDING | 0x405]);
    let mut senders = [0];
    gic.read_distributor(CPU_0, 0xf25, &mut senders);
    assert_eq!(senders, [2]);
    gic.write_distributor(CPU_0, 0xf15, &[2]);
    assert!(list.is_stale(&gic));
    list.save(&mut gic, nothing);
    assert_eq!(list.load(&mut gic), [0]);
}

#[test]
fn what_is_sent_again_while_it_is_listed_is_the_same_unless_it_was_acknowledged() {
    for was_acknowledged in [false, true] {
        let mut gic = GicV2::new(2, 32).unwrap();
        gic.write_distributor(CPU_0, 0, &[1]);
        let mut list = ListRegisters::new(CPU_0, 1).unwrap();
        let after = |registers| AfterRun {
            registers,
            control: 0,
            machine_control: BOTH_GROUPS,
        };
        list.save(&mut gic, after(&[]));
        for _ in 0..2 {
            gic.write_distributor(CPU_1, 0xf00, &0x0001_0005u32.to_le_bytes());
            assert!(list.is_stale(&gic));
            list.load(&mut gic);
        }
        let active = [ACTIVE | 0x405];
        list.save(
            &mut gic,
            after(if was_acknowledged { &active } else { &[] }),
        );
        let expected = if was_acknowledged {
            ACTIVE | SEES_THE_END | 0x405
        } else {
            PENDING | 0x405
        };
        assert_eq!(list.load(&mut gic), [expected]);
    }
}

#[test]
fn what_comes_beside_what_is_listed_is_not_left_to_chance() {
    let mut machine = Machine::listening(2, &[DISK_ID]);
    machine.set_edge(DISK_ID);
    machine.gic.pulse(DISK);
    machine.load();
    machine.acknowledge(DISK_ID);
    machine.save();
    machine.load();
    machine.gic.pulse(DISK);
    assert!(machine.is_stale(), "nothing tells of the end of an edge");
    machine.save();
    machine.load();
    assert!(!machine.is_stale());
    // More than there is room for, of which the control register does not know yet.
    let mut machine = Machine::listening(1, &[UART_ID, DISK_ID]);
    machine.gic.set(UART, true);
    machine.load();
    assert_eq!(machine.control(), 0);
    machine.gic.set(DISK, true);
    assert!(machine.is_stale());
    machine.save();
    machine.load();
    assert_eq!(machine.control() & NONE_PENDING, NONE_PENDING);
    assert!(!machine.is_stale());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pulse,
    Load,
    Acknowledge,
    End,
    Save,
    Enable(bool),
    Priority(u8),
}

proptest! {
    /// However what comes, what the guest does and what its other CPUs do overlap, the guest
    /// acknowledges after everything that came, and nothing that did not.
    #[test]
    fn nothing_is_lost_between_load_and_save(
        steps in prop::collection::vec(
            prop_oneof![
                3 => Just(Step::Pulse),
                3 => Just(Step::Load),
                4 => Just(Step::Acknowledge),
                3 => Just(Step::End),
                3 => Just(Step::Save),
                1 => any::<bool>().prop_map(Step::Enable),
                1 => any::<u8>().prop_map(Step::Priority),
            ],
            0..100,
        ),
        is_edge in any::<bool>(),
    ) {
        let mut machine = Machine::listening(1, &[DISK_ID]);
        if is_edge {
            machine.set_edge(DISK_ID);
        }
        let last = [
            Step::Save,
            Step::Enable(true),
            Step::Load,
            Step::End,
            Step::Acknowledge,
            Step::Save,
            Step::Load,
            Step::End,
            Step::Save,
            Step::Load,
            Step::Acknowledge,
        ];
        machine.registers.clear();
        let (mut came, mut seen, mut unseen) = (0, 0, false);
        for step in steps.into_iter().chain(last) {
            match step {
                Step::Pulse => {
                    machine.gic.pulse(DISK);
                    came += 1;
                    unseen = true;
                }
                Step::Load if machine.registers.is_empty() => drop(machine.load().to_vec()),
                Step::Load => {}
                Step::Acknowledge => {
                    if machine.register(DISK_ID).is_some_and(|it| *it & ACTIVE == 0) {
                        assert!(machine.acknowledge(DISK_ID));
                        seen += 1;
                        unseen = false;
                    }
                }
                Step::End => {
                    if let Some(register) = machine.register(DISK_ID) {
                        *register &= !ACTIVE;
                    }
                }
                Step::Save => {
                    machine.save();
                    machine.registers.clear();
                }
                Step::Enable(true) => machine.set_bit(GICD_ISENABLER, DISK_ID),
                Step::Enable(false) => machine.set_bit(GICD_ICENABLER, DISK_ID),
                Step::Priority(priority) => machine.set_priority(DISK_ID, priority),
            }
        }
        prop_assert!(!unseen);
        prop_assert!(seen <= came, "{} of {}", seen, came);
        prop_assert!(came == 0 || seen > 0);
    }

    #[test]
    fn whatever_the_registers_come_back_as_is_survived(
        values in prop::collection::vec(any::<u64>(), 0..20),
        control in any::<u64>(),
        machine_control in any::<u64>(),
    ) {
        let mut machine = Machine::listening(4, &[UART_ID, DISK_ID]);
        machine.gic.set(UART, true);
        machine.gic.pulse(DISK);
        for _ in 0..3 {
            machine.load();
            prop_assert!(!machine.is_stale());
            let after = AfterRun { registers: &values, control, machine_control };
            machine.list.save(&mut machine.gic, after);
            let mut nobodys = ListRegisters::new(VcpuId(u32::MAX), 4).unwrap();
            prop_assert_eq!(nobodys.load(&mut machine.gic), [0; 4]);
            nobodys.save(&mut machine.gic, after);
        }
        prop_assert!(machine.ended().len() <= 2);
    }
}
