use super::*;
use crate::GicLine;
use firstlight_base::Irq;

const CPU_0: VcpuId = VcpuId(0);
const CPU_1: VcpuId = VcpuId(1);
const CPU_2: VcpuId = VcpuId(2);

const UART: GicLine = GicLine::Shared(Irq(1));
const DISK: GicLine = GicLine::Shared(Irq(40));
const TIMER: GicLine = GicLine::Private(CPU_0, Irq(11));

const UART_ID: u32 = 33;
const DISK_ID: u32 = 72;
const TIMER_ID: u32 = 27;

const GICD_CTLR: u64 = 0x0000;
const GICD_IGROUPR: u64 = 0x0080;
const GICD_ISENABLER: u64 = 0x0100;
const GICD_ISPENDR: u64 = 0x0200;
const GICD_ISACTIVER: u64 = 0x0300;
const GICD_IPRIORITYR: u64 = 0x0400;
const GICD_ICFGR: u64 = 0x0c00;
const GICD_IROUTER: u64 = 0x6000;

const GICR_WAKER: u64 = 0x0014;
const GICR_IGROUPR0: u64 = 0x1_0080;
const GICR_ISENABLER0: u64 = 0x1_0100;
const GICR_ISPENDR0: u64 = 0x1_0200;
const GICR_ICPENDR0: u64 = 0x1_0280;
const GICR_IPRIORITYR: u64 = 0x1_0400;
const GICR_ICFGR: u64 = 0x1_0c00;

const NOTHING: u64 = 1023;

impl GicV3 {
    fn of(cpus: u32) -> Self {
        let affinities: Vec<Affinity> = (0..cpus).map(|cpu| Affinity::of(VcpuId(cpu))).collect();
        Self::new(&affinities, 96).unwrap()
    }

    /// As Linux leaves it: group 1 enabled, everything of it at priority 0xa0.
    fn started(cpus: u32) -> Self {
        let mut gic = Self::of(cpus);
        gic.put(GICD_CTLR, 0x13);
        for id in (32..128).step_by(4) {
            gic.put(GICD_IPRIORITYR + id, 0xa0a0_a0a0);
        }
        for cpu in (0..cpus).map(VcpuId) {
            gic.put_redistributor(cpu, GICR_WAKER, 0);
            for id in (0..32).step_by(4) {
                gic.put_redistributor(cpu, GICR_IPRIORITYR + id, 0xa0a0_a0a0);
            }
            gic.put_register(cpu, IccRegister::Pmr, 0xf0);
            gic.put_register(cpu, IccRegister::Igrpen1, 1);
        }
        gic
    }

    fn listening(cpus: u32, ids: &[u32]) -> Self {
        let mut gic = Self::started(cpus);
        for &id in ids {
            gic.put(GICD_ISENABLER + u64::from(id / 32) * 4, 1 << (id % 32));
        }
        gic
    }

    fn get(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read_distributor(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put(&mut self, offset: u64, value: u32) {
        self.write_distributor(offset, &value.to_le_bytes());
    }

    fn route_to(&mut self, id: u32, router: u64) {
        self.write_distributor(GICD_IROUTER + u64::from(id) * 8, &router.to_le_bytes());
    }

    fn redistributor(&self, cpu: VcpuId, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.read_redistributor(u64::from(cpu.0) * 0x2_0000 + offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put_redistributor(&mut self, cpu: VcpuId, offset: u64, value: u32) {
        let at = u64::from(cpu.0) * 0x2_0000 + offset;
        self.write_redistributor(at, &value.to_le_bytes());
    }

    fn register(&mut self, cpu: VcpuId, register: IccRegister) -> u64 {
        self.read_system_register(cpu, register).unwrap()
    }

    fn put_register(&mut self, cpu: VcpuId, register: IccRegister, value: u64) {
        assert!(self.write_system_register(cpu, register, value));
    }

    fn acknowledged(&mut self, cpu: VcpuId) -> u64 {
        self.register(cpu, IccRegister::Iar1)
    }

    fn ended(&mut self, cpu: VcpuId, id: u64) {
        self.put_register(cpu, IccRegister::Eoir1, id);
    }

    fn notified(&self) -> Vec<u32> {
        let cpus = 0..self.cpus();
        cpus.filter(|&cpu| self.notifies(VcpuId(cpu))).collect()
    }
}

#[test]
fn a_gic_has_at_most_what_its_registers_can_tell_and_cpus_differ() {
    let many: Vec<Affinity> = (0..513).map(Affinity).collect();
    assert!(GicV3::new(&many, 32).is_none());
    assert!(GicV3::new(&many[..512], 32).is_some());
    assert!(GicV3::new(&[], 32).is_none());
    assert!(GicV3::new(&many[..1], 33).is_none());
    assert!(GicV3::new(&many[..1], 1020).is_none());
    assert!(GicV3::new(&[Affinity(1), Affinity(0), Affinity(1)], 32).is_none());
}

#[test]
fn it_says_what_it_is() {
    let gic = GicV3::of(3);
    assert_eq!(gic.get(GICD_CTLR), 0x50);
    assert_eq!(gic.get(0x4), 0x0548_0003);
    assert_eq!(gic.get(0x8), 0x43b);
    assert_eq!(gic.get(0xffe8), 0x3b);
    assert_eq!(gic.redistributors_len(), 0x6_0000);
    for (cpu, low) in [(CPU_0, 0), (CPU_1, 0x100), (CPU_2, 0x210)] {
        assert_eq!(gic.redistributor(cpu, 0xffe8), 0x3b);
        assert_eq!(gic.redistributor(cpu, 0x0), 0);
        assert_eq!(gic.redistributor(cpu, 0x4), 0x43b);
        assert_eq!(gic.redistributor(cpu, 0x8), low);
        assert_eq!(gic.redistributor(cpu, 0xc), cpu.0);
    }
    let mut typer = [0; 8];
    GicV3::new(&[Affinity(0x0403_0201)], 32)
        .unwrap()
        .read_redistributor(8, &mut typer);
    assert_eq!(u64::from_le_bytes(typer), 0x0403_0201_0000_0010);
}

#[test]
fn after_reset_cpus_sleep_and_nothing_is_signalled() {
    let mut gic = GicV3::of(2);
    for line in [UART, DISK, TIMER] {
        gic.set(line, true);
        gic.pulse(line);
    }
    for cpu in [CPU_0, CPU_1] {
        assert!(!gic.notifies(cpu) && !gic.notifies_fiq(cpu));
        assert_eq!(gic.acknowledged(cpu), NOTHING);
        assert_eq!(gic.redistributor(cpu, GICR_WAKER), 0b110);
        assert_eq!(gic.redistributor(cpu, GICR_IGROUPR0), u32::MAX);
        assert_eq!(gic.redistributor(cpu, GICR_ICFGR), 0xaaaa_aaaa);
        gic.put_redistributor(cpu, GICR_WAKER, 0b100);
        assert_eq!(gic.redistributor(cpu, GICR_WAKER), 0);
    }
}

#[test]
fn control_registers_keep_what_they_have() {
    let mut gic = GicV3::of(1);
    gic.put(GICD_CTLR, u32::MAX);
    assert_eq!(gic.get(GICD_CTLR), 0x53);
    gic.put(GICD_CTLR, 0);
    assert_eq!(gic.get(GICD_CTLR), 0x50);
    for (register, written, read) in [
        (IccRegister::Sre, 0, 7),
        (IccRegister::Ctlr, u64::MAX, 0x4_8403),
        (IccRegister::Ctlr, 0, 0x4_8400),
        (IccRegister::Pmr, 0xff, 0xf8),
        (IccRegister::Bpr0, 0, 2),
        (IccRegister::Bpr1, 0, 3),
        (IccRegister::Bpr1, 0xff, 7),
        (IccRegister::Igrpen0, u64::MAX, 1),
        (IccRegister::Igrpen1, 2, 0),
        (IccRegister::Ap0r0, u64::MAX, 0xffff_ffff),
        (IccRegister::Ap1r0, 0x10, 0x10),
    ] {
        gic.put_register(CPU_0, register, written);
        assert_eq!(gic.register(CPU_0, register), read, "{register:?}");
    }
    assert_eq!(gic.register(CPU_0, IccRegister::Rpr), 0);
}

#[test]
fn registers_that_only_read_or_only_write_are_undefined_the_other_way() {
    let mut gic = GicV3::of(1);
    for register in [
        IccRegister::Iar0,
        IccRegister::Iar1,
        IccRegister::Hppir0,
        IccRegister::Hppir1,
        IccRegister::Rpr,
    ] {
        assert!(!gic.write_system_register(CPU_0, register, 0));
    }
    for register in [
        IccRegister::Eoir0,
        IccRegister::Eoir1,
        IccRegister::Dir,
        IccRegister::Sgi0r,
        IccRegister::Sgi1r,
        IccRegister::Asgi1r,
    ] {
        assert_eq!(gic.read_system_register(CPU_0, register), None);
    }
}

#[test]
fn instructions_name_the_registers() {
    let encoding = |crn: u16, crm: u16, op2: u16| 0b11 << 14 | crn << 7 | crm << 3 | op2;
    let named = |crn, crm, op2| IccRegister::from_encoding(encoding(crn, crm, op2));
    assert_eq!(named(4, 6, 0), Some(IccRegister::Pmr));
    assert_eq!(named(12, 12, 0), Some(IccRegister::Iar1));
    assert_eq!(named(12, 11, 5), Some(IccRegister::Sgi1r));
    assert_eq!(named(12, 9, 0), Some(IccRegister::Ap1r0));
    assert_eq!(named(12, 9, 1), None);
    assert_eq!(named(12, 10, 0), None);
    let all = (0..=u16::MAX).filter_map(IccRegister::from_encoding);
    assert_eq!(all.count(), 20);
}

#[test]
fn a_high_line_notifies_is_acknowledged_once_and_again_after_its_end() {
    let mut gic = GicV3::listening(2, &[UART_ID]);
    gic.set(UART, true);
    assert_eq!(gic.notified(), [0]);
    assert_eq!(gic.register(CPU_0, IccRegister::Hppir1), 33);
    assert_eq!(gic.acknowledged(CPU_0), 33);
    assert_eq!(gic.register(CPU_0, IccRegister::Rpr), 0xa0);
    assert_eq!(gic.get(GICD_ISACTIVER + 4), 2);
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
    gic.ended(CPU_0, 33);
    assert_eq!(gic.take_ended(), Some(UART));
    assert_eq!(gic.acknowledged(CPU_0), 33);
    gic.set(UART, false);
    gic.ended(CPU_0, 33);
    assert!(gic.notified().is_empty());
    assert_eq!(gic.register(CPU_0, IccRegister::Rpr), 0xff);
}

#[test]
fn private_interrupts_are_in_redistributors_and_not_in_the_distributor() {
    let mut gic = GicV3::started(2);
    gic.put(GICD_ISENABLER, u32::MAX);
    gic.put(GICD_IPRIORITYR + 24, 0);
    assert_eq!(gic.get(GICD_ISENABLER), 0);
    assert_eq!(gic.get(GICD_IPRIORITYR + 24), 0);
    assert_eq!(gic.redistributor(CPU_1, GICR_ISENABLER0), 0xffff);
    gic.set(TIMER, true);
    gic.put_redistributor(CPU_1, GICR_ISENABLER0, 1 << TIMER_ID);
    assert!(gic.notified().is_empty());
    gic.put_redistributor(CPU_0, GICR_ISENABLER0, 1 << TIMER_ID);
    assert_eq!(gic.notified(), [0]);
    gic.put_redistributor(CPU_0, GICR_IPRIORITYR + 24, 0x4fff_ffff);
    assert_eq!(gic.redistributor(CPU_0, GICR_IPRIORITYR + 24), 0x48f8_f8f8);
    // Shared interrupts are not in there.
    gic.put_redistributor(CPU_0, GICR_ISENABLER0 + 4, u32::MAX);
    assert_eq!(gic.redistributor(CPU_0, GICR_ISENABLER0 + 4), 0);
    assert_eq!(gic.get(GICD_ISENABLER + 4), 0);
}

#[test]
fn a_pending_bit_of_what_cpus_send_each_other_can_be_written() {
    let mut gic = GicV3::started(2);
    gic.put_redistributor(CPU_1, GICR_ISPENDR0, 1 << 4);
    assert_eq!(gic.notified(), [1]);
    gic.put_redistributor(CPU_1, GICR_ICPENDR0, 1 << 4);
    assert!(gic.notified().is_empty());
}

#[test]
fn a_route_is_an_affinity_in_words_or_in_double_words() {
    let mut gic = GicV3::new(&[Affinity(0), Affinity(0x0403_0201)], 96).unwrap();
    let at = GICD_IROUTER + u64::from(UART_ID) * 8;
    gic.route_to(UART_ID, u64::MAX);
    let mut router = [0; 8];
    gic.read_distributor(at, &mut router);
    assert_eq!(u64::from_le_bytes(router), 0xff_80ff_ffff);
    gic.put(at, 0x0003_0201);
    assert_eq!((gic.get(at), gic.get(at + 4)), (0x0003_0201, 0xff));
    gic.put(at + 4, 0x04);
    gic.put(GICD_CTLR, 2);
    gic.put(GICD_ISENABLER + 4, 2);
    gic.set(UART, true);
    for cpu in [CPU_0, CPU_1] {
        gic.put_register(cpu, IccRegister::Pmr, 0xf0);
        gic.put_register(cpu, IccRegister::Igrpen1, 1);
    }
    assert_eq!(gic.notified(), [1], "asleep, but its power is not ours");
    gic.put(at + 4, 0x05);
    assert!(gic.notified().is_empty(), "there is no such CPU");
    gic.route_to(UART_ID, 0);
    assert_eq!(gic.notified(), [0]);
    // Private interrupts have no route.
    gic.route_to(TIMER_ID, u64::MAX);
    assert_eq!(gic.get(GICD_IROUTER + u64::from(TIMER_ID) * 8), 0);
}

#[test]
fn what_any_cpu_can_take_is_given_to_one_that_can_take_it_now() {
    let mut gic = GicV3::listening(3, &[UART_ID, DISK_ID]);
    gic.route_to(UART_ID, 1 << 31);
    gic.route_to(DISK_ID, 1 << 31);
    gic.set(UART, true);
    gic.set(DISK, true);
    assert_eq!(gic.notified(), [0]);
    assert_eq!(gic.acknowledged(CPU_1), NOTHING);
    assert_eq!(gic.acknowledged(CPU_0), 33);
    assert_eq!(gic.notified(), [1], "the first is busy");
    gic.put_redistributor(CPU_1, GICR_WAKER, 0b10);
    assert_eq!(gic.notified(), [2], "the second sleeps");
    gic.put_register(CPU_2, IccRegister::Igrpen1, 0);
    assert!(gic.notified().is_empty(), "nobody takes it");
    assert_eq!(gic.get(GICD_ISPENDR + 8), 1 << 8);
    gic.ended(CPU_0, 33);
    gic.set(UART, false);
    assert_eq!(gic.notified(), [0]);
    gic.put_register(CPU_0, IccRegister::Pmr, 0xa0);
    gic.put_register(CPU_2, IccRegister::Igrpen1, 1);
    assert_eq!(gic.notified(), [2]);
    assert_eq!(gic.acknowledged(CPU_2), 72);
}

#[test]
fn cpus_send_interrupts_by_affinity() {
    let of_four = |aff0: u32| Affinity(0x0403_0200 | aff0);
    let affinities = [
        Affinity(0),
        Affinity(0x0000_0100),
        of_four(0x00),
        of_four(0x0f),
        of_four(0x1f),
    ];
    let base = 4 << 48 | 3 << 32 | 2 << 16 | 7 << 24;
    for (value, reached) in [
        (1, &[0][..]),
        (1 << 16 | 0xffff, &[1]),
        (base | 0x8001, &[2, 3]),
        (base | 0x7ffe, &[]),
        (base | 1 << 44 | 0x8000, &[4]),
        (1 << 40 | base | 0xffff, &[0, 2, 3, 4]),
        (5 << 48, &[]),
    ] {
        let mut gic = GicV3::new(&affinities, 32).unwrap();
        gic.put(GICD_CTLR, 2);
        for cpu in (0..5).map(VcpuId) {
            gic.put_register(cpu, IccRegister::Pmr, 0xf0);
            gic.put_register(cpu, IccRegister::Igrpen1, 1);
        }
        gic.put_register(CPU_1, IccRegister::Sgi1r, value);
        assert_eq!(gic.notified(), reached, "{value:#x}");
        let id = value >> 24 & 0xf;
        for &cpu in reached {
            assert_eq!(gic.acknowledged(VcpuId(cpu)), id);
            gic.ended(VcpuId(cpu), id);
            assert_eq!(gic.acknowledged(VcpuId(cpu)), NOTHING);
        }
    }
}

#[test]
fn group_0s_register_sends_only_to_group_0() {
    let mut gic = GicV3::started(2);
    gic.put_redistributor(CPU_0, GICR_IGROUPR0, !1);
    for register in [IccRegister::Sgi0r, IccRegister::Asgi1r] {
        gic.put_register(CPU_1, register, 1 << 24 | 1);
        assert_eq!(gic.redistributor(CPU_0, GICR_ISPENDR0), 0);
        gic.put_register(CPU_1, register, 1);
        assert_eq!(gic.redistributor(CPU_0, GICR_ISPENDR0), 1);
        gic.put_redistributor(CPU_0, GICR_ICPENDR0, 1);
    }
}

#[test]
fn group_0_has_the_fiq_line_and_its_own_registers() {
    let mut gic = GicV3::listening(1, &[UART_ID]);
    gic.put(GICD_IGROUPR + 4, !2);
    gic.set(UART, true);
    assert!(!gic.notifies_fiq(CPU_0));
    gic.put_register(CPU_0, IccRegister::Igrpen0, 1);
    assert!(gic.notifies_fiq(CPU_0) && !gic.notifies(CPU_0));
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
    assert_eq!(gic.register(CPU_0, IccRegister::Hppir1), NOTHING);
    assert_eq!(gic.register(CPU_0, IccRegister::Hppir0), 33);
    assert_eq!(gic.register(CPU_0, IccRegister::Iar0), 33);
    assert_eq!(gic.register(CPU_0, IccRegister::Ap0r0), 1 << 0x14);
    gic.ended(CPU_0, 33);
    assert_eq!(gic.register(CPU_0, IccRegister::Rpr), 0xa0, "not group 1's");
    gic.put_register(CPU_0, IccRegister::Eoir0, 33);
    assert_eq!(gic.register(CPU_0, IccRegister::Rpr), 0xff);
    assert!(gic.notifies_fiq(CPU_0));
}

#[test]
fn with_eoi_mode_the_end_drops_the_priority_and_dir_deactivates() {
    let mut gic = GicV3::listening(1, &[UART_ID]);
    gic.set(UART, true);
    assert_eq!(gic.acknowledged(CPU_0), 33);
    gic.put_register(CPU_0, IccRegister::Dir, 33);
    assert_eq!(gic.get(GICD_ISACTIVER + 4), 2, "the mode is off");
    gic.put_register(CPU_0, IccRegister::Ctlr, 2);
    gic.ended(CPU_0, 33);
    assert_eq!(gic.register(CPU_0, IccRegister::Rpr), 0xff);
    assert_eq!(gic.take_ended(), None);
    assert!(gic.notified().is_empty());
    gic.put_register(CPU_0, IccRegister::Dir, 33);
    assert_eq!(gic.take_ended(), Some(UART));
    assert_eq!(gic.notified(), [0]);
}

#[test]
fn the_end_of_what_was_never_active_changes_nothing() {
    let mut gic = GicV3::listening(1, &[UART_ID]);
    for id in [0, 33, 72, 127, 128, 1019, 1020, 1023, 8192, u64::MAX] {
        for register in [IccRegister::Eoir0, IccRegister::Eoir1, IccRegister::Dir] {
            gic.put_register(CPU_0, register, id);
        }
    }
    assert_eq!(gic.take_ended(), None);
    gic.set(UART, true);
    assert_eq!(gic.acknowledged(CPU_0), 33);
    gic.ended(CPU_0, NOTHING);
    gic.ended(CPU_0, 0x1_0000_0000 - 1);
    assert_eq!(gic.register(CPU_0, IccRegister::Rpr), 0xa0);
}

#[test]
fn group_1s_binary_point_says_what_preempts() {
    let mut gic = GicV3::listening(1, &[UART_ID, DISK_ID]);
    for (bpr1, cbpr, preempts) in [(3, 0, true), (4, 0, true), (5, 0, true), (6, 0, false)] {
        gic.put_register(CPU_0, IccRegister::Bpr1, bpr1);
        gic.put_register(CPU_0, IccRegister::Ctlr, cbpr);
        gic.set(DISK, true);
        assert_eq!(gic.acknowledged(CPU_0), 72);
        gic.put(GICD_IPRIORITYR + 32, 0xa0a0_80a0);
        gic.set(UART, true);
        assert_eq!(gic.notified().len(), usize::from(preempts), "{bpr1}");
        gic.set(UART, false);
        gic.set(DISK, false);
        gic.ended(CPU_0, 72);
    }
    gic.put_register(CPU_0, IccRegister::Bpr0, 5);
    gic.put_register(CPU_0, IccRegister::Ctlr, 1);
    assert_eq!(gic.register(CPU_0, IccRegister::Bpr1), 6);
}

/// What `gic_init_bases`, `gic_populate_rdist`, `gic_cpu_init` and `gic_handle_irq` of Linux's
/// irq-gic-v3.c do.
#[test]
fn linux_starts_it_and_services_interrupts_by_it() {
    let mut gic = GicV3::of(2);
    assert_eq!(gic.get(0xffe8) & 0xf0, 0x30);
    let lines = u64::from(((gic.get(0x4) & 0x1f) + 1) * 32);
    gic.put(GICD_CTLR, 0);
    for id in (32..lines).step_by(32) {
        gic.put(GICD_IGROUPR + id / 8, u32::MAX);
        gic.put(0x380 + id / 8, u32::MAX);
        gic.put(0x180 + id / 8, u32::MAX);
    }
    for id in (32..lines).step_by(16) {
        gic.put(GICD_ICFGR + id / 4, 0);
    }
    for id in (32..lines).step_by(4) {
        gic.put(GICD_IPRIORITYR + id, 0xa0a0_a0a0);
    }
    gic.put(GICD_CTLR, 0x13);
    assert_eq!(gic.get(GICD_CTLR) >> 31, 0, "no write is under way");
    for id in 32..128 {
        gic.route_to(id, 0);
    }
    for cpu in [CPU_0, CPU_1] {
        assert_eq!(gic.redistributor(cpu, 0xffe8) & 0xf0, 0x30);
        assert_eq!(gic.redistributor(cpu, 0xc), cpu.0);
        let waker = gic.redistributor(cpu, GICR_WAKER);
        gic.put_redistributor(cpu, GICR_WAKER, waker & !2);
        assert_eq!(gic.redistributor(cpu, GICR_WAKER) & 4, 0);
        gic.put_redistributor(cpu, GICR_IGROUPR0, u32::MAX);
        for id in (0..32).step_by(4) {
            gic.put_redistributor(cpu, GICR_IPRIORITYR + id, 0xa0a0_a0a0);
        }
        assert_eq!(gic.register(cpu, IccRegister::Sre) & 1, 1);
        gic.put_register(cpu, IccRegister::Pmr, 0xf0);
        gic.put_register(cpu, IccRegister::Bpr1, 0);
        gic.put_register(cpu, IccRegister::Ctlr, 0);
        gic.put_register(cpu, IccRegister::Ap1r0, 0);
        gic.put_register(cpu, IccRegister::Igrpen1, 1);
    }
    gic.put(GICD_ISENABLER + 4, 2);
    gic.set(UART, true);
    gic.put_register(CPU_1, IccRegister::Sgi1r, 2 << 24 | 1);
    for expected in [2, 33] {
        assert!(gic.notifies(CPU_0));
        assert_eq!(gic.acknowledged(CPU_0), expected);
        gic.set(UART, expected != 33);
        gic.ended(CPU_0, expected);
    }
    assert_eq!(gic.acknowledged(CPU_0), NOTHING);
}

#[test]
fn every_register_and_width_is_survived() {
    let mut gic = GicV3::of(2);
    let near = |at: u64| at.saturating_sub(9)..at + 9;
    let distributor = (0..0xd00).chain(near(0x6100)).chain(near(0x6400));
    let distributor = distributor.chain(near(0xffd0)).chain(near(0x1_0000));
    let redistributors = (0..0x20).chain(0x1_0000..0x1_0400).chain(near(0x1_0c04));
    let redistributors = redistributors.chain(near(0x2_0000)).chain(near(0x4_0000));
    let redistributors: Vec<u64> = redistributors.chain([u64::MAX - 15]).collect();
    for width in [1, 2, 3, 4, 8, 16] {
        for value in [0, 1, 0x55, 0x80, 0xff] {
            for offset in distributor.clone().chain([u64::MAX - 15]) {
                let mut data = [value; 16];
                gic.write_distributor(offset, &data[..width]);
                gic.read_distributor(offset, &mut data[..width]);
                let beyond = offset >= GicV3::DISTRIBUTOR_LEN;
                assert!(!beyond || data[..width].iter().all(|&byte| byte == 0xff));
            }
            for &offset in &redistributors {
                let mut data = [value; 16];
                gic.write_redistributor(offset, &data[..width]);
                gic.read_redistributor(offset, &mut data[..width]);
                let beyond = offset >= gic.redistributors_len();
                assert!(!beyond || data[..width].iter().all(|&byte| byte == 0xff));
            }
        }
    }
    for register in (0..=u16::MAX).filter_map(IccRegister::from_encoding) {
        for value in [0, 1, 33, 1023, 0x5555_5555_5555_5555, u64::MAX] {
            for cpu in [CPU_0, CPU_1, CPU_2, VcpuId(u32::MAX)] {
                gic.pulse(UART);
                gic.write_system_register(cpu, register, value);
                gic.read_system_register(cpu, register);
                assert!(cpu < CPU_2 || !gic.notifies(cpu));
            }
        }
    }
}
