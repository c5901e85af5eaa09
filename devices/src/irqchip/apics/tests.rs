mod model;

use super::*;
use alloc::collections::BTreeSet;
use core::num::NonZeroU64;

const CLOCK: ApicClock = ApicClock {
    bus_hz: ApicClock::KVM_BUS_HZ,
    tsc_hz: NonZeroU64::new(1_000_000_000).unwrap(),
};

const BOOT: VcpuId = VcpuId(0);
const ONE: VcpuId = VcpuId(1);
const TWO: VcpuId = VcpuId(2);

/// No processors.
const NOBODY: [u32; 0] = [];

const SERIAL: Irq = Irq(4);
const DISK: Irq = Irq(20);

const LEVEL: u32 = 1 << 15;
const LOGICAL: u32 = 1 << 11;
const X2APIC: u64 = 0xfee0_0c00;

const TPR: u64 = 0x80;
const EOI: u64 = 0xb0;
const LDR: u64 = 0xd0;
const DFR: u64 = 0xe0;
const SVR: u64 = 0xf0;
const ICR: u64 = 0x300;

impl Apics {
    /// So many processors whose local APICs are enabled, and 8259As without interrupts.
    fn running(processors: u32) -> Self {
        let mut apics = Self::new(processors, CLOCK).unwrap();
        for processor in (0..processors).map(VcpuId) {
            apics.put(processor, SVR, 0x1ff);
        }
        apics
    }

    /// The same in x2APIC mode.
    fn running_x2apic(processors: u32) -> Self {
        let mut apics = Self::running(processors);
        for processor in (0..processors).map(VcpuId) {
            apics.write_msr(processor, 0x1b, X2APIC).unwrap();
        }
        apics
    }

    fn put(&mut self, processor: VcpuId, offset: u64, value: u32) {
        let mut window = self.window(ApicsWindow::Local(processor));
        assert_eq!(window.write(offset, &value.to_le_bytes()), None);
    }

    fn send_ipi(&mut self, from: VcpuId, destination: u32, low: u32) {
        self.put(from, ICR + 0x10, destination << 24);
        self.put(from, ICR, low);
    }

    fn redirect(&mut self, pin: u32, destination: u32, low: u32) {
        let mut window = self.window(ApicsWindow::IoApic);
        for (index, value) in [(1, destination << 24), (0, low)] {
            window.write(0, &(0x10 + 2 * pin + index).to_le_bytes());
            window.write(0x10, &value.to_le_bytes());
        }
    }

    fn put_pic(&mut self, window: PicWindow, offset: u64, value: u8) {
        let mut window = self.window(ApicsWindow::Pic(window));
        assert_eq!(window.write(offset, &[value]), None);
    }

    fn start_pics(&mut self) {
        self.start_pics_with(1);
    }

    /// With this ICW4.
    fn start_pics_with(&mut self, icw4: u8) {
        for (window, base) in [(PicWindow::First, 0x30), (PicWindow::Second, 0x38)] {
            self.put_pic(window, 0, 0x11);
            for word in [base, 0, icw4] {
                self.put_pic(window, 1, word);
            }
        }
    }

    fn end(&mut self, processor: VcpuId) {
        if self.write_msr(processor, 0x80b, 0).is_err() {
            self.put(processor, EOI, 0);
        }
    }

    fn kicks(&mut self) -> Vec<u32> {
        core::iter::from_fn(|| self.next_kick())
            .map(|processor| processor.0)
            .collect()
    }

    /// The processors that have this vector pending, which is then done.
    fn interrupted(&mut self, vector: u8) -> Vec<u32> {
        let processors = (0..self.locals.len()).map(|index| u32::try_from(index).unwrap());
        processors
            .filter(|&id| {
                let has = self.interrupts(VcpuId(id));
                if has {
                    assert_eq!(self.acknowledge(VcpuId(id)), Some(vector));
                    self.end(VcpuId(id));
                }
                has
            })
            .collect()
    }

    fn send_plain(&mut self, address: u64, data: u32) {
        self.send(Message { address, data });
    }
}

#[test]
fn there_are_at_most_4096_processors_and_none_is_well() {
    assert!(Apics::new(4097, CLOCK).is_none());
    let mut apics = Apics::new(0, CLOCK).unwrap();
    apics.set(SERIAL, true);
    apics.start_pics();
    apics.pulse(Irq(1));
    apics.set_nmi(true);
    apics.send_plain(0xfeef_f000, 0x31);
    apics.send_plain(0xfeef_f00c, 0x131);
    assert_eq!(apics.acknowledge(BOOT), None);
    assert_eq!(apics.kicks(), NOBODY);
    let mut most = Apics::new(4096, CLOCK).unwrap();
    most.write_msr(VcpuId(4095), 0x1b, X2APIC).unwrap();
    assert_eq!(most.read_msr(VcpuId(4095), 0x802), Ok(4095));
}

#[test]
fn the_8259a_pair_interrupts_the_boot_processor_as_firmware_leaves_it() {
    let mut apics = Apics::new(2, CLOCK).unwrap();
    apics.start_pics();
    apics.pulse(SERIAL);
    apics.pulse(Irq(12));
    assert_eq!(apics.kicks(), [0]);
    assert!(!apics.interrupts(ONE));
    let mut vectors = Vec::new();
    while apics.interrupts(BOOT) {
        vectors.push(apics.acknowledge(BOOT).unwrap());
        apics.put_pic(PicWindow::Second, 0, 0x20);
        apics.put_pic(PicWindow::First, 0, 0x20);
    }
    assert_eq!(vectors, [0x3c, 0x34]);
}

#[test]
fn the_8259a_pair_interrupts_whom_pin_0_says_and_every_one_of_theirs_comes() {
    let mut apics = Apics::running(2);
    apics.put(BOOT, 0x350, 1 << 16);
    apics.redirect(0, 1, 0x700);
    apics.start_pics();
    for line in [1, 3, 4, 12].map(Irq) {
        apics.pulse(line);
    }
    assert_eq!(apics.kicks(), [1]);
    let mut vectors = Vec::new();
    while apics.interrupts(ONE) {
        vectors.push(apics.acknowledge(ONE).unwrap());
        apics.put_pic(PicWindow::Second, 0, 0x20);
        apics.put_pic(PicWindow::First, 0, 0x20);
    }
    assert_eq!(vectors, [0x31, 0x3c, 0x33, 0x34]);
}

#[test]
fn pin_0_has_an_edge_for_each_acknowledgement_where_ends_are_automatic() {
    let mut apics = Apics::running(2);
    apics.put(BOOT, 0x350, 1 << 16);
    apics.redirect(0, 1, 0x700);
    apics.start_pics_with(3);
    for line in [1, 3, 12].map(Irq) {
        apics.pulse(line);
    }
    let mut vectors = Vec::new();
    while apics.interrupts(ONE) {
        vectors.push(apics.acknowledge(ONE).unwrap());
    }
    assert_eq!(vectors, [0x31, 0x3c, 0x33]);
}

#[test]
fn a_line_of_a_pc_reaches_both_and_the_timer_pin_2() {
    let mut apics = Apics::running(1);
    apics.start_pics();
    apics.redirect(0, 0, 0x50);
    apics.redirect(2, 0, 0x52);
    apics.redirect(4, 0, 0x54);
    for (line, vector, at_pic) in [(0, 0x52, 0x30), (4, 0x54, 0x34)] {
        apics.put_pic(PicWindow::First, 1, 0xff);
        apics.pulse(Irq(line));
        assert_eq!(apics.interrupted(vector), [0]);
        apics.redirect(0, 0, 1 << 16);
        apics.put(BOOT, 0x350, 0x700);
        apics.put_pic(PicWindow::First, 1, 0);
        assert_eq!(apics.acknowledge(BOOT), Some(at_pic));
        apics.put_pic(PicWindow::First, 0, 0x20);
    }
    apics.pulse(Irq(2));
    for line in [24, 1000, u32::MAX].map(Irq) {
        apics.set(line, true);
        apics.pulse(line);
    }
    assert!(!apics.interrupts(BOOT), "nobody has the cascade's line");
}

#[test]
fn a_level_comes_again_at_its_end_until_its_device_is_served() {
    for is_x2apic in [false, true] {
        let mut apics = if is_x2apic {
            Apics::running_x2apic(2)
        } else {
            Apics::running(2)
        };
        apics.redirect(20, 1, LEVEL | 0x61);
        apics.set(DISK, true);
        assert_eq!(apics.kicks(), [1]);
        for _ in 0..3 {
            assert_eq!(apics.acknowledge(ONE), Some(0x61));
            assert!(!apics.interrupts(ONE));
            apics.end(ONE);
        }
        assert_eq!(apics.acknowledge(ONE), Some(0x61));
        apics.set(DISK, false);
        apics.end(ONE);
        assert!(!apics.interrupts(ONE));
    }
}

#[test]
fn an_end_that_stays_with_its_processor_is_told_by_the_eoi_register() {
    let mut apics = Apics::running(1);
    apics.put(BOOT, SVR, 0x11ff);
    apics.redirect(20, 0, LEVEL | 0x61);
    apics.set(DISK, true);
    assert_eq!(apics.acknowledge(BOOT), Some(0x61));
    apics.end(BOOT);
    assert!(!apics.interrupts(BOOT));
    apics
        .window(ApicsWindow::IoApic)
        .write(0x40, &[0x61, 0, 0, 0]);
    assert_eq!(apics.acknowledge(BOOT), Some(0x61));
}

#[test]
fn devices_messages_reach_whom_they_address() {
    let mut apics = Apics::running(4);
    for (processor, logical) in [(0, 1), (1, 2), (2, 4), (3, 8)] {
        apics.put(VcpuId(processor), LDR, logical << 24);
    }
    for (address, wanted) in [
        (0xfee0_2000, &[2][..]),
        (0xfee0_4000, &[]),
        (0xfeef_f000, &[0, 1, 2, 3]),
        (0xfee0_5004, &[0, 2]),
        (0xfeef_f004, &[0, 1, 2, 3]),
        (0xfed0_2000, &[]),
    ] {
        apics.send_plain(address, 0x51);
        assert_eq!(apics.kicks(), wanted, "{address:#x}");
        assert_eq!(apics.interrupted(0x51), wanted, "{address:#x}");
    }
}

#[test]
fn clusters_are_addressed_by_their_number_and_members() {
    let mut apics = Apics::running(4);
    for (processor, logical) in [(0, 0x11), (1, 0x12), (2, 0x21), (3, 0x22)] {
        apics.put(VcpuId(processor), DFR, 0);
        apics.put(VcpuId(processor), LDR, logical << 24);
    }
    for (destination, wanted) in [
        (0x13, &[0, 1][..]),
        (0x22, &[3]),
        (0x2f, &[2, 3]),
        (0xff, &[0, 1, 2, 3]),
        (0x33, &[]),
    ] {
        apics.send_ipi(BOOT, destination, LOGICAL | 0x51);
        assert_eq!(apics.interrupted(0x51), wanted, "{destination:#x}");
    }
}

#[test]
fn x2apic_clusters_have_16_processors_each() {
    let mut apics = Apics::running_x2apic(40);
    for (destination, wanted) in [
        (0x0000_8001_u64, &[0, 15][..]),
        (0x0001_0003, &[16, 17]),
        (0x0002_0080, &[39]),
        (0x0002_0100, &[]),
        (0x0003_0001, &[]),
    ] {
        let command = destination << 32 | u64::from(LOGICAL) | 0x51;
        apics.write_msr(ONE, 0x830, command).unwrap();
        assert_eq!(apics.interrupted(0x51), wanted, "{destination:#x}");
    }
    apics.write_msr(ONE, 0x830, 0xffff_ffff_0000_0051).unwrap();
    assert_eq!(apics.interrupted(0x51).len(), 40);
    apics.send_plain(0xfeef_f000, 0x51);
    assert_eq!(apics.interrupted(0x51).len(), 40, "a device has eight bits");
}

#[test]
fn processors_above_255_are_reached_in_their_mode() {
    let mut apics = Apics::running_x2apic(300);
    apics.write_msr(ONE, 0x830, 0x12b_0000_0051).unwrap();
    assert_eq!(apics.interrupted(0x51), [299]);
    apics.write_msr(ONE, 0x830, 0xff_0000_0051).unwrap();
    assert_eq!(apics.interrupted(0x51), [255], "that one, and not all");
    apics.send_plain(0x0000_0100_fee2_b000, 0x52);
    assert_eq!(apics.interrupted(0x52), [299]);
}

#[test]
fn shorthands_are_seen_from_who_sends() {
    let mut apics = Apics::running(3);
    for (shorthand, wanted) in [(1, &[1][..]), (2, &[0, 1, 2]), (3, &[0, 2])] {
        apics.send_ipi(ONE, 0, shorthand << 18 | 0xfd);
        assert_eq!(apics.kicks(), wanted);
        assert_eq!(apics.interrupted(0xfd), wanted);
    }
    apics.send_ipi(ONE, 2, 0xfd);
    assert_eq!(apics.interrupted(0xfd), [2]);
    apics.send_ipi(ONE, 0xff, 0xfd);
    assert_eq!(apics.interrupted(0xfd), [0, 1, 2]);
}

#[test]
fn the_lowest_priority_takes_turns_among_the_least_busy() {
    let mut apics = Apics::running(4);
    for processor in (0..4).map(VcpuId) {
        apics.put(processor, LDR, 1 << (24 + processor.0));
    }
    let one_of_all = |apics: &mut Apics| {
        apics.send_plain(0xfee0_f00c, 0x51);
        apics.interrupted(0x51)
    };
    let taken: Vec<u32> = (0..6).flat_map(|_| one_of_all(&mut apics)).collect();
    assert_eq!(taken, [0, 1, 2, 3, 0, 1]);
    apics.put(TWO, TPR, 0x20);
    apics.put(BOOT, SVR, 0xff);
    let taken: Vec<u32> = (0..4).flat_map(|_| one_of_all(&mut apics)).collect();
    assert_eq!(taken, [3, 1, 3, 1], "neither the busy nor the disabled");
    apics.send_plain(0xfee0_500c, 0x51);
    apics.put(TWO, TPR, 0);
    assert_eq!(apics.interrupted(0x51), [2], "the only one that can");
}

#[test]
fn a_processor_starts_another() {
    let mut apics = Apics::new(2, CLOCK).unwrap();
    apics.send_ipi(BOOT, 1, 0xc500);
    assert_eq!(apics.kicks(), [1]);
    assert!(apics.take_events(ONE).init);
    apics.send_ipi(BOOT, 1, 0x8500);
    assert_eq!(apics.kicks(), NOBODY);
    apics.send_ipi(BOOT, 1, 0x0699);
    assert_eq!(apics.kicks(), [1]);
    let events = apics.take_events(ONE);
    assert_eq!((events.init, events.start), (false, Some(0x99)));
    assert_eq!(apics.take_events(BOOT), ApicEvents::default());
}

#[test]
fn all_others_are_started_at_once() {
    let mut apics = Apics::new(3, CLOCK).unwrap();
    apics.send_ipi(BOOT, 0, 3 << 18 | 0xc500);
    apics.send_ipi(BOOT, 0, 3 << 18 | 0x0699);
    assert_eq!(apics.kicks(), [1, 2]);
    for processor in [ONE, TWO] {
        let events = apics.take_events(processor);
        assert_eq!((events.init, events.start), (true, Some(0x99)));
    }
}

#[test]
fn non_maskable_interrupts_come_by_their_line_by_pins_and_by_processors() {
    let mut apics = Apics::running(2);
    apics.set_nmi(true);
    apics.set_nmi(true);
    assert_eq!(apics.kicks(), [0], "the others' LINT1 is masked");
    assert!(apics.take_events(BOOT).nmi && !apics.take_events(ONE).nmi);
    apics.send_ipi(BOOT, 0, 3 << 18 | 0x400);
    assert!(!apics.take_events(BOOT).nmi && apics.take_events(ONE).nmi);
    apics.redirect(20, 1, 0x400);
    apics.pulse(DISK);
    assert!(!apics.take_events(BOOT).nmi && apics.take_events(ONE).nmi);
}

#[test]
fn who_has_nothing_new_is_not_kicked() {
    let mut apics = Apics::running(2);
    apics.send_plain(0xfee0_1000, 0x51);
    apics.send_plain(0xfee0_1000, 0x51);
    assert_eq!(apics.kicks(), [1]);
    apics.send_plain(0xfee0_1000, 0x51);
    apics.send_plain(0xfee0_1000, 0x41);
    assert_eq!(apics.kicks(), NOBODY, "the higher one is still to be taken");
    apics.send_plain(0xfee0_1000, 0x61);
    assert_eq!(apics.kicks(), [1]);
    apics.put(BOOT, TPR, 0xf0);
    apics.send_plain(0xfee0_0000, 0x51);
    assert_eq!(apics.kicks(), NOBODY);
    apics.put(BOOT, TPR, 0);
    assert_eq!(apics.kicks(), [0]);
}

#[test]
fn timers_are_the_processors_own() {
    let mut apics = Apics::running(2);
    apics.put(ONE, 0x3e0, 0xb);
    apics.put(ONE, 0x320, 0xec);
    apics.put(ONE, 0x380, 500);
    assert_eq!(
        (apics.deadline(BOOT), apics.deadline(VcpuId(7))),
        (None, None)
    );
    let now = apics.deadline(ONE).unwrap();
    for processor in [BOOT, ONE, VcpuId(7)] {
        apics.set_time(processor, ApicTime { now, tsc: 0 });
    }
    assert_eq!(apics.kicks(), [1]);
    assert_eq!(apics.interrupted(0xec), [1]);
}

#[test]
fn processors_that_are_not_there_have_nothing() {
    let mut apics = Apics::running(2);
    for processor in [VcpuId(2), VcpuId(u32::MAX)] {
        assert!(!apics.interrupts(processor));
        assert_eq!(apics.acknowledge(processor), None);
        assert_eq!(apics.take_events(processor), ApicEvents::default());
        assert_eq!(apics.read_msr(processor, 0x1b), Err(GeneralProtection));
        assert_eq!(apics.write_msr(processor, 0x1b, 0), Err(GeneralProtection));
        let mut data = [0; 4];
        let mut window = apics.window(ApicsWindow::Local(processor));
        window.read(0x20, &mut data);
        assert_eq!(data, [0xff; 4]);
        assert_eq!(window.write(SVR, &[0xff; 4]), None);
    }
}

#[test]
fn a_million_pulses_and_messages_stay_a_few_interrupts() {
    let mut apics = Apics::running(2);
    apics.start_pics();
    for pin in 0..24 {
        let level = if pin % 2 == 0 { LEVEL } else { 0 };
        apics.redirect(pin, pin % 2, level | (0x40 + pin));
    }
    for number in 0..1_000_000 {
        apics.pulse(Irq(number % 24));
        apics.send_plain(0xfeef_f000, number % 256);
    }
    let mut seen = 0;
    for processor in [BOOT, ONE] {
        while apics.interrupts(processor) {
            apics.acknowledge(processor);
            for window in [PicWindow::Second, PicWindow::First] {
                apics.put_pic(window, 0, 0x20);
            }
            apics.end(processor);
            seen += 1;
            assert!(seen < 1_000);
        }
    }
    assert!(seen >= 480);
    assert!(apics.kicks().len() <= 2);
}

#[test]
fn every_access_is_survived() {
    let mut apics = Apics::running(2);
    let windows = [
        (ApicsWindow::Pic(PicWindow::First), 2),
        (ApicsWindow::Pic(PicWindow::Second), 2),
        (ApicsWindow::Pic(PicWindow::Triggers), 2),
        (ApicsWindow::IoApic, IoApic::EXTENT),
        (ApicsWindow::Local(BOOT), LocalApic::EXTENT),
        (ApicsWindow::Local(ONE), LocalApic::EXTENT),
    ];
    for (window, len) in windows {
        crate::chip::tests::survives_every_access(&mut apics.window(window), len);
    }
}
