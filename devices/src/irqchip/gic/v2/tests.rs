use super::*;
use crate::GicLine;
use firstlight_base::Irq;

const CPU_0: VcpuId = VcpuId(0);
const CPU_1: VcpuId = VcpuId(1);

const UART: GicLine = GicLine::Shared(Irq(1));
const DISK: GicLine = GicLine::Shared(Irq(40));
const TIMER: GicLine = GicLine::Private(CPU_0, Irq(11));

const UART_ID: u32 = 33;
const DISK_ID: u32 = 72;
const TIMER_ID: u32 = 27;

const GICC_CTLR: u64 = 0x00;
const GICC_PMR: u64 = 0x04;
const GICC_BPR: u64 = 0x08;
const GICC_IAR: u64 = 0x0c;
const GICC_EOIR: u64 = 0x10;
const GICC_RPR: u64 = 0x14;
const GICC_HPPIR: u64 = 0x18;
const GICC_ABPR: u64 = 0x1c;
const GICC_AIAR: u64 = 0x20;
const GICC_AEOIR: u64 = 0x24;
const GICC_AHPPIR: u64 = 0x28;
const GICC_APR: u64 = 0xd0;
const GICC_NSAPR: u64 = 0xe0;
const GICC_DIR: u64 = 0x1000;

const GICD_IGROUPR: u64 = 0x080;
const GICD_ISENABLER: u64 = 0x100;
const GICD_ICENABLER: u64 = 0x180;
const GICD_ISPENDR: u64 = 0x200;
const GICD_ICPENDR: u64 = 0x280;
const GICD_ISACTIVER: u64 = 0x300;
const GICD_ICACTIVER: u64 = 0x380;
const GICD_IPRIORITYR: u64 = 0x400;
const GICD_ITARGETSR: u64 = 0x800;
const GICD_ICFGR: u64 = 0xc00;
const GICD_SGIR: u64 = 0xf00;
const GICD_CPENDSGIR: u64 = 0xf10;
const GICD_SPENDSGIR: u64 = 0xf20;

const NOTHING: u32 = 1023;

impl GicV2 {
    /// As Linux leaves it: everything level-sensitive, at priority 0xa0 and disabled, shared
    /// interrupts for CPU 0.
    fn started(cpus: u32) -> Self {
        let mut gic = Self::new(cpus, 96).unwrap();
        for cpu in (0..cpus).map(VcpuId) {
            for id in 0..128 {
                gic.put_byte(cpu, GICD_IPRIORITYR + id, 0xa0);
            }
            gic.put_interface(cpu, GICC_PMR, 0xf0);
            gic.put_interface(cpu, GICC_CTLR, 1);
        }
        for id in 32..128 {
            gic.put_byte(CPU_0, GICD_ITARGETSR + id, 1);
        }
        gic.put(CPU_0, 0, 1);
        gic
    }

    /// With these enabled.
    fn listening(ids: &[u32]) -> Self {
        let mut gic = Self::started(2);
        for &id in ids {
            gic.set_bit(GICD_ISENABLER, id);
        }
        gic
    }

    fn get(&self, cpu: VcpuId, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read_distributor(cpu, offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put(&mut self, cpu: VcpuId, offset: u64, value: u32) {
        self.write_distributor(cpu, offset, &value.to_le_bytes());
    }

    fn put_byte(&mut self, cpu: VcpuId, offset: u64, value: u8) {
        self.write_distributor(cpu, offset, &[value]);
    }

    /// As CPU 0, in a register that has a bit for each interrupt.
    fn set_bit(&mut self, register: u64, id: u32) {
        self.put(CPU_0, register + u64::from(id / 32) * 4, 1 << (id % 32));
    }

    fn bit(&self, register: u64, id: u32) -> bool {
        self.get(CPU_0, register + u64::from(id / 32) * 4) >> (id % 32) & 1 != 0
    }

    fn set_edge(&mut self, id: u32) {
        let at = GICD_ICFGR + u64::from(id / 16) * 4;
        let old = self.get(CPU_0, at);
        self.put(CPU_0, at, old | 2 << (2 * (id % 16)));
    }

    fn interface(&mut self, cpu: VcpuId, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read_cpu_interface(cpu, offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put_interface(&mut self, cpu: VcpuId, offset: u64, value: u32) {
        self.write_cpu_interface(cpu, offset, &value.to_le_bytes());
    }

    fn acknowledged(&mut self, cpu: VcpuId) -> u32 {
        self.interface(cpu, GICC_IAR)
    }

    fn ended(&mut self, cpu: VcpuId, id: u32) {
        self.put_interface(cpu, GICC_EOIR, id);
    }
}

#[test]
fn a_gic_has_at_most_what_its_registers_can_tell() {
    for (cpus, shared) in [
        (0, 32),
        (9, 32),
        (1, 31),
        (1, 992),
        (1, 1024),
        (1, u32::MAX),
    ] {
        assert!(GicV2::new(cpus, shared).is_none(), "{cpus} {shared}");
    }
    for (cpus, shared, of_type) in [(1, 0, 0), (8, 64, 0xe2), (8, 960, 0xfe), (8, 988, 0xff)] {
        let gic = GicV2::new(cpus, shared).unwrap();
        assert_eq!(gic.get(CPU_0, 4), of_type);
    }
    let mut gic = GicV2::new(8, 988).unwrap();
    gic.put(CPU_0, GICD_ISENABLER + 31 * 4, u32::MAX);
    assert_eq!(gic.get(CPU_0, GICD_ISENABLER + 31 * 4), 0x0fff_ffff);
    gic.pulse(GicLine::Shared(Irq(988)));
    gic.pulse(GicLine::Shared(Irq(987)));
    assert_eq!(gic.get(CPU_0, GICD_ISPENDR + 31 * 4), 0x0800_0000);
}

#[test]
fn after_reset_nothing_is_signalled_and_only_what_cpus_send_each_other_is_enabled() {
    let mut gic = GicV2::new(2, 96).unwrap();
    for line in [UART, DISK, TIMER] {
        gic.set(line, true);
        gic.pulse(line);
    }
    for cpu in [CPU_0, CPU_1] {
        assert!(!gic.notifies(cpu) && !gic.notifies_fiq(cpu));
        assert_eq!(gic.acknowledged(cpu), NOTHING);
        assert_eq!(gic.interface(cpu, GICC_HPPIR), NOTHING);
        assert_eq!(gic.interface(cpu, GICC_RPR), 0xff);
        assert_eq!(gic.get(cpu, GICD_ISENABLER), 0xffff);
        assert_eq!(gic.get(cpu, GICD_ICFGR), 0xaaaa_aaaa);
        assert_eq!(gic.get(cpu, 0), 0);
    }
}

#[test]
fn it_says_what_it_is() {
    let mut gic = GicV2::new(2, 96).unwrap();
    assert_eq!(gic.get(CPU_0, 0x004), 0x23);
    assert_eq!(gic.get(CPU_0, 0x008), 0x43b);
    assert_eq!(gic.interface(CPU_0, 0xfc), 0x0002_043b);
    let id = [0xfe0, 0xfe4, 0xfe8, 0xfec, 0xff0, 0xff4, 0xff8, 0xffc];
    let id = id.map(|at| gic.get(CPU_0, at));
    assert_eq!(id, [0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn a_high_line_notifies_is_acknowledged_once_and_again_after_its_end() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set(UART, true);
    assert!(gic.notifies(CPU_0) && !gic.notifies(CPU_1));
    assert_eq!(gic.interface(CPU_0, GICC_HPPIR), UART_ID);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    assert!(!gic.notifies(CPU_0));
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
    assert!(gic.bit(GICD_ISPENDR, UART_ID), "active and pending");
    assert!(gic.bit(GICD_ISACTIVER, UART_ID));
    gic.ended(CPU_0, UART_ID);
    assert!(gic.notifies(CPU_0), "the line is still high");
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    gic.set(UART, false);
    assert!(!gic.bit(GICD_ISPENDR, UART_ID));
    gic.ended(CPU_0, UART_ID);
    assert!(!gic.notifies(CPU_0));
    assert!(!gic.bit(GICD_ISACTIVER, UART_ID));
}

#[test]
fn a_level_that_falls_before_it_is_acknowledged_is_no_interrupt() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set(UART, true);
    gic.set(UART, false);
    assert!(!gic.notifies(CPU_0));
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

#[test]
fn an_edge_stays_when_the_line_falls_and_comes_once() {
    let mut gic = GicV2::listening(&[DISK_ID]);
    gic.set_edge(DISK_ID);
    gic.set(DISK, true);
    gic.set(DISK, true);
    gic.set(DISK, false);
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
    assert!(!gic.bit(GICD_ISPENDR, DISK_ID));
    gic.ended(CPU_0, DISK_ID);
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

#[test]
fn edges_while_it_is_serviced_are_one_more_interrupt() {
    let mut gic = GicV2::listening(&[DISK_ID]);
    gic.set_edge(DISK_ID);
    gic.pulse(DISK);
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
    gic.pulse(DISK);
    gic.pulse(DISK);
    assert!(!gic.notifies(CPU_0));
    gic.ended(CPU_0, DISK_ID);
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
    gic.ended(CPU_0, DISK_ID);
    assert!(!gic.notifies(CPU_0));
}

#[test]
fn a_pulse_of_a_line_that_the_guest_calls_level_sensitive_is_one_interrupt() {
    let mut gic = GicV2::listening(&[DISK_ID]);
    gic.pulse(DISK);
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
    gic.ended(CPU_0, DISK_ID);
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

#[test]
fn what_comes_while_it_is_disabled_is_given_when_it_is_enabled() {
    let mut gic = GicV2::started(2);
    gic.set_edge(DISK_ID);
    gic.pulse(DISK);
    gic.set(UART, true);
    gic.set(TIMER, true);
    assert!(!gic.notifies(CPU_0));
    for (id, line) in [(DISK_ID, DISK), (UART_ID, UART), (TIMER_ID, TIMER)] {
        gic.set_bit(GICD_ISENABLER, id);
        assert!(gic.notifies(CPU_0));
        assert_eq!(gic.acknowledged(CPU_0), id);
        gic.set(line, false);
        gic.ended(CPU_0, id);
    }
    assert!(!gic.notifies(CPU_0));
}

#[test]
fn one_that_is_disabled_while_it_is_active_ends_and_waits() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set(UART, true);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    gic.set_bit(GICD_ICENABLER, UART_ID);
    gic.ended(CPU_0, UART_ID);
    assert!(!gic.bit(GICD_ISACTIVER, UART_ID) && !gic.notifies(CPU_0));
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0xff);
    gic.set_bit(GICD_ISENABLER, UART_ID);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
}

#[test]
fn disabling_the_distributor_or_the_interface_loses_nothing() {
    let mut gic = GicV2::listening(&[DISK_ID]);
    gic.set_edge(DISK_ID);
    gic.put(CPU_0, 0, 0);
    gic.pulse(DISK);
    assert!(!gic.notifies(CPU_0));
    gic.put_interface(CPU_0, GICC_CTLR, 0);
    gic.put(CPU_0, 0, 1);
    assert!(!gic.notifies(CPU_0));
    gic.put_interface(CPU_0, GICC_CTLR, 1);
    assert!(gic.notifies(CPU_0));
}

#[test]
fn what_software_latches_of_a_level_is_cleared_by_software_or_by_its_acknowledgement() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set_bit(GICD_ISPENDR, UART_ID);
    assert!(gic.notifies(CPU_0));
    gic.set_bit(GICD_ICPENDR, UART_ID);
    assert!(!gic.notifies(CPU_0));
    gic.set_bit(GICD_ISPENDR, UART_ID);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    assert!(!gic.bit(GICD_ISPENDR, UART_ID));
    gic.ended(CPU_0, UART_ID);
    // A high line is pending whatever software clears.
    gic.set(UART, true);
    gic.set_bit(GICD_ICPENDR, UART_ID);
    assert!(gic.notifies(CPU_0));
}

#[test]
fn an_interrupt_that_software_made_active_is_not_given_until_it_is_not() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set_bit(GICD_ISACTIVER, UART_ID);
    gic.set(UART, true);
    assert!(!gic.notifies(CPU_0));
    gic.set_bit(GICD_ICACTIVER, UART_ID);
    assert!(gic.notifies(CPU_0));
    assert_eq!(gic.take_ended(), Some(UART));
}

#[test]
fn a_line_that_becomes_edge_triggered_stays_pending() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set(UART, true);
    gic.set_edge(UART_ID);
    gic.set(UART, false);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
}

#[test]
fn of_equal_priorities_the_lowest_comes_first_and_otherwise_the_most_urgent() {
    let mut gic = GicV2::listening(&[TIMER_ID, UART_ID, DISK_ID]);
    for line in [DISK, UART, TIMER] {
        gic.set(line, true);
    }
    assert_eq!(gic.interface(CPU_0, GICC_HPPIR), TIMER_ID);
    gic.put_byte(CPU_0, GICD_IPRIORITYR + u64::from(DISK_ID), 0x90);
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
    assert!(
        !gic.notifies(CPU_0),
        "no priority is higher than this one's"
    );
    gic.ended(CPU_0, DISK_ID);
    gic.set(DISK, false);
    gic.put_byte(CPU_0, GICD_IPRIORITYR + u64::from(TIMER_ID), 0xb0);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
}

#[test]
fn a_priority_has_five_bits_and_belongs_to_one_cpu_where_the_interrupt_does() {
    let mut gic = GicV2::started(2);
    gic.put(CPU_1, GICD_IPRIORITYR + 24, 0x1f20_ffa7);
    assert_eq!(gic.get(CPU_1, GICD_IPRIORITYR + 24), 0x1820_f8a0);
    assert_eq!(gic.get(CPU_0, GICD_IPRIORITYR + 24), 0xa0a0_a0a0);
    gic.put_byte(CPU_1, GICD_IPRIORITYR + 33, 0x77);
    assert_eq!(gic.get(CPU_0, GICD_IPRIORITYR + 32), 0xa0a0_70a0);
}

#[test]
fn more_urgent_interrupts_preempt_and_their_ends_nest() {
    let mut gic = GicV2::listening(&[UART_ID, DISK_ID]);
    gic.put_byte(CPU_0, GICD_IPRIORITYR + u64::from(UART_ID), 0x80);
    gic.set(DISK, true);
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0xa0);
    gic.set(UART, true);
    assert!(gic.notifies(CPU_0));
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0x80);
    assert_eq!(gic.interface(CPU_0, GICC_APR), 1 << 0x10 | 1 << 0x14);
    gic.set(UART, false);
    gic.ended(CPU_0, UART_ID);
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0xa0);
    gic.set(DISK, false);
    gic.ended(CPU_0, DISK_ID);
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0xff);
}

#[test]
fn the_binary_point_says_what_preempts_but_not_what_comes_first() {
    let mut gic = GicV2::listening(&[UART_ID, DISK_ID]);
    gic.put_byte(CPU_0, GICD_IPRIORITYR + u64::from(DISK_ID), 0x98);
    for (point, preempts) in [(2, true), (3, true), (4, false), (7, false)] {
        gic.put_interface(CPU_0, GICC_BPR, point);
        // 0x90 and 0x98 differ in the lowest of five bits.
        gic.put_byte(CPU_0, GICD_IPRIORITYR + u64::from(UART_ID), 0x90);
        gic.set(DISK, true);
        assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
        gic.set(UART, true);
        assert_eq!(gic.notifies(CPU_0), preempts && point < 3, "{point}");
        gic.put_byte(CPU_0, GICD_IPRIORITYR + u64::from(UART_ID), 0x80);
        assert_eq!(gic.notifies(CPU_0), preempts, "{point}");
        gic.set(DISK, false);
        gic.ended(CPU_0, DISK_ID);
        gic.set(DISK, true);
        assert_eq!(gic.acknowledged(CPU_0), UART_ID, "{point}");
        gic.set(UART, false);
        gic.set(DISK, false);
        gic.ended(CPU_0, UART_ID);
    }
}

#[test]
fn binary_points_have_a_smallest_value_and_group_1_can_share_group_0s() {
    let mut gic = GicV2::started(1);
    assert_eq!(gic.interface(CPU_0, GICC_BPR), 2);
    assert_eq!(gic.interface(CPU_0, GICC_ABPR), 3);
    gic.put_interface(CPU_0, GICC_BPR, 0);
    gic.put_interface(CPU_0, GICC_ABPR, 1);
    assert_eq!(gic.interface(CPU_0, GICC_BPR), 2);
    assert_eq!(gic.interface(CPU_0, GICC_ABPR), 3);
    gic.put_interface(CPU_0, GICC_ABPR, 5);
    gic.put_interface(CPU_0, GICC_CTLR, 0x11);
    gic.put_interface(CPU_0, GICC_ABPR, 6);
    assert_eq!(
        gic.interface(CPU_0, GICC_ABPR),
        3,
        "one more than the shared"
    );
    gic.put_interface(CPU_0, GICC_BPR, 7);
    assert_eq!(gic.interface(CPU_0, GICC_ABPR), 7);
    gic.put_interface(CPU_0, GICC_CTLR, 0x01);
    assert_eq!(gic.interface(CPU_0, GICC_ABPR), 5);
}

#[test]
fn the_priority_mask_hides_what_is_not_more_urgent_but_not_from_hppir() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set(UART, true);
    for (mask, notifies) in [(0, false), (0xa0, false), (0xa7, false), (0xa8, true)] {
        gic.put_interface(CPU_0, GICC_PMR, mask);
        assert_eq!(gic.interface(CPU_0, GICC_PMR), mask & 0xf8);
        assert_eq!(gic.notifies(CPU_0), notifies, "{mask:#x}");
        assert_eq!(gic.interface(CPU_0, GICC_HPPIR), UART_ID);
    }
    gic.put_interface(CPU_0, GICC_PMR, 0xa0);
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

#[test]
fn with_eoi_mode_the_end_drops_the_priority_and_dir_deactivates() {
    let mut gic = GicV2::listening(&[UART_ID, DISK_ID]);
    gic.put_interface(CPU_0, GICC_CTLR, 0x201);
    assert_eq!(gic.interface(CPU_0, GICC_CTLR), 0x201);
    gic.set(UART, true);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    gic.ended(CPU_0, UART_ID);
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0xff);
    assert!(gic.bit(GICD_ISACTIVER, UART_ID) && !gic.notifies(CPU_0));
    assert_eq!(gic.take_ended(), None);
    gic.set(DISK, true);
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID, "its priority is free");
    gic.ended(CPU_0, DISK_ID);
    gic.put_interface(CPU_0, GICC_DIR, UART_ID);
    assert_eq!(gic.take_ended(), Some(UART));
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
}

#[test]
fn without_eoi_mode_dir_does_nothing() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set(UART, true);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    gic.put_interface(CPU_0, GICC_DIR, UART_ID);
    assert!(gic.bit(GICD_ISACTIVER, UART_ID));
}

#[test]
fn the_end_of_what_was_never_active_or_is_no_interrupt_changes_nothing() {
    let mut gic = GicV2::listening(&[UART_ID]);
    for id in [
        0,
        UART_ID,
        DISK_ID,
        127,
        128,
        1019,
        1020,
        1022,
        1023,
        u32::MAX,
    ] {
        gic.ended(CPU_0, id);
        gic.put_interface(CPU_0, GICC_AEOIR, id);
        gic.put_interface(CPU_0, GICC_DIR, id);
    }
    assert_eq!(gic.take_ended(), None);
    gic.set(UART, true);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    gic.ended(CPU_0, NOTHING);
    gic.ended(CPU_0, 500);
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0xa0);
    assert!(gic.bit(GICD_ISACTIVER, UART_ID));
}

#[test]
fn the_owner_is_told_once_of_each_line_that_was_deactivated() {
    let mut gic = GicV2::listening(&[TIMER_ID, UART_ID]);
    for _ in 0..3 {
        for (line, id) in [(TIMER, TIMER_ID), (UART, UART_ID)] {
            gic.pulse(line);
            assert_eq!(gic.acknowledged(CPU_0), id);
            gic.ended(CPU_0, id);
        }
    }
    assert_eq!(gic.take_ended(), Some(TIMER));
    assert_eq!(gic.take_ended(), Some(UART));
    assert_eq!(gic.take_ended(), None);
    gic.put(CPU_0, GICD_SGIR, 0x0200_0003);
    assert_eq!(gic.acknowledged(CPU_0), 3);
    gic.ended(CPU_0, 3);
    assert_eq!(gic.take_ended(), None, "no line leads to it");
}

#[test]
fn private_lines_are_each_cpus_own() {
    let mut gic = GicV2::started(2);
    gic.put(CPU_1, GICD_ISENABLER, 1 << TIMER_ID);
    gic.set(TIMER, true);
    assert!(!gic.notifies(CPU_0) && !gic.notifies(CPU_1));
    gic.set(GicLine::Private(CPU_1, Irq(11)), true);
    assert!(!gic.notifies(CPU_0) && gic.notifies(CPU_1));
    assert_eq!(gic.acknowledged(CPU_1), TIMER_ID);
    // There is no such CPU, and no such line.
    gic.set(GicLine::Private(VcpuId(2), Irq(11)), true);
    gic.set(GicLine::Private(CPU_0, Irq(16)), true);
    gic.pulse(GicLine::Private(CPU_0, Irq(u32::MAX)));
    gic.pulse(GicLine::Shared(Irq(u32::MAX)));
    assert!(!gic.notifies(VcpuId(2)) && !gic.notifies(CPU_0));
}

#[test]
fn what_cpus_send_each_other_is_given_once_for_each_sender() {
    let mut gic = GicV2::started(4);
    for sender in [3, 1, 3] {
        gic.put(VcpuId(sender), GICD_SGIR, 0x0001_0005);
    }
    assert_eq!(gic.get(CPU_0, GICD_SPENDSGIR + 4), 0x0a00);
    assert!(gic.bit(GICD_ISPENDR, 5));
    assert_eq!(gic.interface(CPU_0, GICC_HPPIR), 0x405);
    assert_eq!(gic.acknowledged(CPU_0), 0x405);
    assert!(!gic.notifies(CPU_0));
    gic.ended(CPU_0, 0x405);
    assert_eq!(gic.acknowledged(CPU_0), 0xc05);
    gic.ended(CPU_0, 0xc05);
    assert!(!gic.notifies(CPU_0));
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

#[test]
fn sgir_reaches_those_that_it_names() {
    let lists = [
        (0x00ff_0001, 0b1111),
        (0x0004_0001, 0b0100),
        (0x0000_0001, 0b0000),
        (0x0100_0001, 0b1101),
        (0x02ff_0001, 0b0010),
        (0x03ff_0001, 0b0000),
    ];
    for (value, reached) in lists {
        let mut gic = GicV2::started(4);
        gic.put(CPU_1, GICD_SGIR, value);
        let notified = (0..4).filter(|&cpu| gic.notifies(VcpuId(cpu)));
        let notified = notified.fold(0, |mask, cpu| mask | 1 << cpu);
        assert_eq!(notified, reached, "{value:#x}");
    }
}

#[test]
fn the_senders_registers_set_and_clear_and_the_pending_ones_only_show() {
    let mut gic = GicV2::started(2);
    gic.put(CPU_0, GICD_SPENDSGIR + 8, 0x0300);
    assert_eq!(gic.get(CPU_0, GICD_CPENDSGIR + 8), 0x0300);
    assert_eq!(gic.get(CPU_1, GICD_CPENDSGIR + 8), 0);
    gic.put_byte(CPU_0, GICD_CPENDSGIR + 9, 0x01);
    assert_eq!(gic.get(CPU_0, GICD_SPENDSGIR + 8), 0x0200);
    gic.put(CPU_0, GICD_ICPENDR, u32::MAX);
    assert!(gic.bit(GICD_ISPENDR, 9) && gic.notifies(CPU_0));
    gic.put_byte(CPU_0, GICD_CPENDSGIR + 9, 0xff);
    assert!(!gic.bit(GICD_ISPENDR, 9) && !gic.notifies(CPU_0));
    gic.put(CPU_0, GICD_ISPENDR, 0xffff);
    assert_eq!(gic.get(CPU_0, GICD_ISPENDR), 0);
    // There are no such senders.
    gic.put(CPU_0, GICD_SPENDSGIR, 0xfcfc_fcfc);
    assert!(!gic.notifies(CPU_0));
}

#[test]
fn a_shared_interrupt_notifies_its_targets_and_the_first_has_it() {
    let mut gic = GicV2::listening(&[UART_ID]);
    assert_eq!(gic.get(CPU_0, GICD_ITARGETSR), 0x0101_0101);
    assert_eq!(gic.get(CPU_1, GICD_ITARGETSR + 28), 0x0202_0202);
    gic.put(CPU_1, GICD_ITARGETSR, 0);
    assert_eq!(gic.get(CPU_1, GICD_ITARGETSR), 0x0202_0202);
    gic.put_byte(CPU_0, GICD_ITARGETSR + u64::from(UART_ID), 0xff);
    assert_eq!(gic.get(CPU_0, GICD_ITARGETSR + 32), 0x0101_0301);
    gic.set(UART, true);
    assert!(gic.notifies(CPU_0) && gic.notifies(CPU_1));
    assert_eq!(gic.acknowledged(CPU_1), UART_ID);
    assert!(!gic.notifies(CPU_0));
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
    gic.put_byte(CPU_0, GICD_ITARGETSR + u64::from(UART_ID), 0x01);
    gic.ended(CPU_1, UART_ID);
    assert!(gic.notifies(CPU_0) && !gic.notifies(CPU_1), "it moved");
    gic.put_byte(CPU_0, GICD_ITARGETSR + u64::from(UART_ID), 0x00);
    assert!(!gic.notifies(CPU_0));
}

#[test]
fn where_there_is_one_cpu_it_is_every_interrupts_target() {
    let mut gic = GicV2::started(1);
    gic.put(CPU_0, GICD_ITARGETSR + 32, u32::MAX);
    assert_eq!(gic.get(CPU_0, GICD_ITARGETSR + 32), 0);
    assert_eq!(gic.get(CPU_0, GICD_ITARGETSR), 0);
    gic.set_bit(GICD_ISENABLER, UART_ID);
    gic.set(UART, true);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
}

#[test]
fn group_1_needs_its_own_registers_or_ack_ctl() {
    let mut gic = GicV2::listening(&[UART_ID]);
    gic.set_bit(GICD_IGROUPR, UART_ID);
    gic.set(UART, true);
    assert!(!gic.notifies(CPU_0), "the group is disabled");
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
    gic.put(CPU_0, 0, 3);
    gic.put_interface(CPU_0, GICC_CTLR, 3);
    assert!(gic.notifies(CPU_0));
    assert_eq!(gic.interface(CPU_0, GICC_HPPIR), 1022);
    assert_eq!(gic.acknowledged(CPU_0), 1022);
    assert_eq!(gic.interface(CPU_0, GICC_AHPPIR), UART_ID);
    assert_eq!(gic.interface(CPU_0, GICC_AIAR), UART_ID);
    assert_eq!(gic.interface(CPU_0, GICC_NSAPR), 1 << 0x14);
    gic.ended(CPU_0, UART_ID);
    assert!(gic.bit(GICD_ISACTIVER, UART_ID), "not group 0's");
    gic.put_interface(CPU_0, GICC_AEOIR, UART_ID);
    assert!(!gic.bit(GICD_ISACTIVER, UART_ID));
    gic.put_interface(CPU_0, GICC_CTLR, 7);
    assert_eq!(gic.interface(CPU_0, GICC_HPPIR), UART_ID);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
    gic.ended(CPU_0, UART_ID);
    assert_eq!(gic.interface(CPU_0, GICC_RPR), 0xff);
}

#[test]
fn group_0_has_the_fiq_line_where_the_guest_wants_that() {
    let mut gic = GicV2::listening(&[UART_ID, DISK_ID]);
    gic.put(CPU_0, 0, 3);
    gic.put_interface(CPU_0, GICC_CTLR, 0xb);
    gic.set_bit(GICD_IGROUPR, DISK_ID);
    gic.set(UART, true);
    assert!(gic.notifies_fiq(CPU_0) && !gic.notifies(CPU_0));
    assert_eq!(gic.interface(CPU_0, GICC_AIAR), NOTHING);
    gic.set(UART, false);
    gic.set(DISK, true);
    assert!(!gic.notifies_fiq(CPU_0) && gic.notifies(CPU_0));
}

#[test]
fn a_million_pulses_are_one_interrupt() {
    let mut gic = GicV2::listening(&[DISK_ID]);
    for _ in 0..1_000_000 {
        gic.pulse(DISK);
        gic.set(UART, true);
        gic.set(UART, false);
    }
    assert_eq!(gic.acknowledged(CPU_0), DISK_ID);
    gic.ended(CPU_0, DISK_ID);
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

/// What `gic_dist_init`, `gic_cpu_init` and `gic_handle_irq` of Linux's irq-gic.c do.
#[test]
fn linux_starts_it_and_services_interrupts_by_it() {
    let mut gic = GicV2::new(2, 96).unwrap();
    let lines = ((gic.get(CPU_0, 4) & 0x1f) + 1) * 32;
    assert_eq!(lines, 128);
    gic.put(CPU_0, 0, 0);
    let mask = gic.get(CPU_0, GICD_ITARGETSR) & 0xff;
    assert_eq!(mask, 1);
    for id in (32..u64::from(lines)).step_by(4) {
        gic.put(CPU_0, GICD_ITARGETSR + id, mask * 0x0101_0101);
        gic.put(CPU_0, GICD_IPRIORITYR + id, 0xa0a0_a0a0);
    }
    for id in (32..u64::from(lines)).step_by(16) {
        gic.put(CPU_0, GICD_ICFGR + id / 4, 0);
    }
    for id in (32..u64::from(lines)).step_by(32) {
        gic.put(CPU_0, GICD_ICACTIVER + id / 8, u32::MAX);
        gic.put(CPU_0, GICD_ICENABLER + id / 8, u32::MAX);
    }
    gic.put(CPU_0, 0, 1);
    for cpu in [CPU_0, CPU_1] {
        gic.put(cpu, GICD_ICACTIVER, u32::MAX);
        gic.put(cpu, GICD_ICENABLER, 0xffff_0000);
        gic.put(cpu, GICD_ISENABLER, 0x0000_ffff);
        for id in (0..32).step_by(4) {
            gic.put(cpu, GICD_IPRIORITYR + id, 0xa0a0_a0a0);
        }
        gic.put_interface(cpu, GICC_PMR, 0xf0);
        gic.put_interface(cpu, GICC_APR, 0);
        let bypass = gic.interface(cpu, GICC_CTLR) & 0x1e0;
        gic.put_interface(cpu, GICC_CTLR, bypass | 1);
    }
    gic.set_bit(GICD_ISENABLER, UART_ID);
    gic.set(UART, true);
    gic.put(CPU_1, GICD_SGIR, 1 << 16 | 2);
    let mut handled = [0; 2];
    for number in &mut handled {
        assert!(gic.notifies(CPU_0));
        *number = gic.acknowledged(CPU_0);
        gic.set(UART, *number != UART_ID);
        gic.ended(CPU_0, *number);
    }
    assert_eq!(handled, [0x402, UART_ID]);
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

#[test]
fn bytes_reach_only_themselves_in_every_register() {
    let mut gic = GicV2::started(2);
    gic.put_byte(CPU_0, GICD_ISENABLER + 5, 0x80);
    assert_eq!(gic.get(CPU_0, GICD_ISENABLER + 4), 0x8000);
    gic.put(CPU_0, GICD_ICFGR + 8, 0xaaaa_aaaa);
    gic.put_byte(CPU_0, GICD_ICFGR + 9, 0);
    assert_eq!(gic.get(CPU_0, GICD_ICFGR + 8), 0xaaaa_00aa);
    gic.put(CPU_0, GICD_IGROUPR + 4, u32::MAX);
    gic.put_byte(CPU_0, GICD_IGROUPR + 7, 0);
    assert_eq!(gic.get(CPU_0, GICD_IGROUPR + 4), 0x00ff_ffff);
    let mut half = [0; 2];
    gic.read_distributor(CPU_0, GICD_IGROUPR + 6, &mut half);
    assert_eq!(half, [0xff, 0x00]);
}

#[test]
fn a_cpu_that_is_not_there_reads_ones_and_writes_nothing() {
    let mut gic = GicV2::listening(&[UART_ID]);
    let nobody = VcpuId(2);
    gic.set(UART, true);
    assert_eq!(gic.get(nobody, 0), u32::MAX);
    assert_eq!(gic.acknowledged(nobody), u32::MAX);
    gic.put(nobody, 0, 0);
    gic.put(VcpuId(u32::MAX), GICD_SGIR, 0x0100_0001);
    gic.put_interface(nobody, GICC_CTLR, 0);
    assert_eq!(gic.acknowledged(CPU_0), UART_ID);
}

#[test]
fn every_register_and_width_is_survived() {
    let mut gic = GicV2::new(3, 64).unwrap();
    let offsets = (0..GicV2::DISTRIBUTOR_LEN + 16).chain([u64::MAX - 15]);
    for offset in offsets {
        for width in [1, 2, 3, 4, 8, 16] {
            for value in [0, 1, 0x55, 0x80, 0xff] {
                let cpu = VcpuId(u32::try_from(offset % 4).unwrap());
                let mut data = [value; 16];
                gic.write_distributor(cpu, offset, &data[..width]);
                gic.read_distributor(cpu, offset, &mut data[..width]);
                assert!(data[width..].iter().all(|&byte| byte == value));
                if offset >= GicV2::DISTRIBUTOR_LEN || cpu.0 == 3 {
                    assert!(data[..width].iter().all(|&byte| byte == 0xff));
                }
            }
        }
    }
    let offsets = (0..0x110).chain(0xff0..0x1010).chain(0x1ff0..0x2010);
    for offset in offsets.chain([u64::MAX - 15]) {
        for width in [1, 2, 3, 4, 8, 16] {
            for value in [0, 1, 0x55, 0x80, 0xff] {
                let cpu = VcpuId(u32::try_from(offset % 4).unwrap());
                let mut data = [value; 16];
                gic.pulse(UART);
                gic.write_cpu_interface(cpu, offset, &data[..width]);
                gic.read_cpu_interface(cpu, offset, &mut data[..width]);
                if offset >= GicV2::CPU_INTERFACE_LEN || cpu.0 == 3 {
                    assert!(data[..width].iter().all(|&byte| byte == 0xff));
                }
                assert!(cpu.0 < 3 || !gic.notifies(cpu));
            }
        }
    }
}
