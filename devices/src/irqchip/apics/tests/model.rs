//! Whatever processors and devices do, who is addressed gets it, and no line is lost.

use super::*;
use proptest::prelude::*;

/// A processor's ids, as its registers have them.
#[derive(Clone, Copy, Debug)]
struct Ids {
    is_x2apic: bool,
    logical: u8,
    is_flat: bool,
    is_enabled: bool,
}

fn ids() -> impl Strategy<Value = Ids> {
    let enabled = prop::bool::weighted(0.9);
    (any::<bool>(), any::<u8>(), any::<bool>(), enabled).prop_map(
        |(is_x2apic, logical, is_flat, is_enabled)| Ids {
            is_x2apic,
            logical,
            is_flat,
            is_enabled,
        },
    )
}

impl Ids {
    /// The manual's rules, one after the other, for a device's message with eight bits.
    fn is_addressed(self, id: u32, destination: u8, is_logical: bool) -> bool {
        let number = u32::from(destination);
        match (is_logical, self.is_x2apic) {
            (false, _) => destination == 0xff || number == id,
            // Of x2APIC's clusters it can name but the first.
            (true, true) => id < 16 && number >> id & 1 != 0,
            (true, false) if destination == 0xff => true,
            (true, false) if self.is_flat => self.logical & destination != 0,
            (true, false) => {
                let same_cluster = self.logical / 16 == destination / 16;
                same_cluster && self.logical & destination & 0xf != 0
            }
        }
    }
}

fn set_up(ids: &[Ids]) -> Apics {
    let mut apics = Apics::running(u32::try_from(ids.len()).unwrap());
    for (processor, ids) in (0..).map(VcpuId).zip(ids) {
        apics.put(processor, LDR, u32::from(ids.logical) << 24);
        apics.put(processor, DFR, if ids.is_flat { u32::MAX } else { 0 });
        apics.put(processor, SVR, 0xff | u32::from(ids.is_enabled) << 8);
        if ids.is_x2apic {
            apics.write_msr(processor, 0x1b, X2APIC).unwrap();
        }
    }
    apics
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Line(u32, bool),
    Pulse(u32),
    Redirect(u32, u32, u32),
    Register(u32, u64, u32),
    Msr(u32, u32, u64),
    Pic(u64, u8, bool),
    Acknowledge(u32),
    Send(u64, u32),
    Time(u32, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let processor = || 0..4u32;
    let line = || prop_oneof![0..6u32, 18..26u32];
    // What a guest that is not mad writes, and what one that is writes.
    let value = || prop_oneof![0x20..0x60u32, any::<u32>(), Just(0u32), Just(0x1ff)];
    let register = prop_oneof![Just(EOI), (0..0x48u64).prop_map(|number| number * 16)];
    let msr = prop_oneof![Just(0x1b), Just(0x6e0), 0x800..0x840u32];
    let wide = prop_oneof![
        Just(X2APIC),
        Just(0xfee0_0800),
        value().prop_map(u64::from),
        any::<u64>()
    ];
    let step = prop_oneof![
        6 => (line(), any::<bool>()).prop_map(|(line, high)| Step::Line(line, high)),
        2 => line().prop_map(Step::Pulse),
        3 => (0..26u32, 0..5u32, value()).prop_map(|(pin, to, low)| Step::Redirect(pin, to, low)),
        6 => (processor(), register, value())
            .prop_map(|(id, at, value)| Step::Register(id, at, value)),
        2 => (processor(), msr, wide).prop_map(|(id, index, value)| Step::Msr(id, index, value)),
        2 => (0..2u64, any::<u8>(), any::<bool>())
            .prop_map(|(offset, value, second)| Step::Pic(offset, value, second)),
        5 => processor().prop_map(Step::Acknowledge),
        2 => (0xfee0_0000..0xfee0_5000u64, value()).prop_map(|(to, data)| Step::Send(to, data)),
        1 => (processor(), any::<u64>()).prop_map(|(id, nanos)| Step::Time(id, nanos)),
    ];
    prop::collection::vec(step, 0..150)
}

impl Apics {
    fn step(&mut self, step: Step) {
        match step {
            Step::Line(line, high) => self.set(Irq(line), high),
            Step::Pulse(line) => self.pulse(Irq(line)),
            Step::Redirect(pin, to, low) => self.redirect(pin, to, low),
            Step::Register(id, at, value) => self.put(VcpuId(id), at, value),
            Step::Msr(id, index, value) => {
                let _ = self.write_msr(VcpuId(id), index, value);
                let _ = self.read_msr(VcpuId(id), index);
            }
            Step::Pic(offset, value, second) => {
                let window = if second {
                    PicWindow::Second
                } else {
                    PicWindow::First
                };
                self.put_pic(window, offset, value);
            }
            Step::Acknowledge(id) => {
                self.acknowledge(VcpuId(id));
            }
            Step::Send(address, data) => self.send_plain(address, data),
            Step::Time(id, nanos) => {
                let now = Duration::from_nanos(nanos);
                self.set_time(VcpuId(id), ApicTime { now, tsc: nanos });
            }
        }
    }
}

proptest! {
    #[test]
    fn a_device_reaches_whom_it_addresses(
        ids in prop::collection::vec(ids(), 1..24),
        destination in any::<u8>(),
        is_logical in any::<bool>(),
        lowest in any::<bool>(),
    ) {
        let mut apics = set_up(&ids);
        let address = 0xfee0_0000 | u64::from(destination) << 12 | u64::from(is_logical) << 2;
        apics.send_plain(address, 0x51 | u32::from(lowest) << 8);
        let wanted: BTreeSet<u32> = (0..)
            .zip(&ids)
            .filter(|(id, ids)| ids.is_enabled && ids.is_addressed(*id, destination, is_logical))
            .map(|(id, _)| id)
            .collect();
        let kicks: BTreeSet<u32> = apics.kicks().into_iter().collect();
        let got: BTreeSet<u32> = apics.interrupted(0x51).into_iter().collect();
        prop_assert_eq!(&kicks, &got);
        if lowest {
            prop_assert!(got.is_subset(&wanted));
            prop_assert_eq!(got.len(), wanted.len().min(1));
        } else {
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn no_access_is_too_odd(
        accesses in prop::collection::vec(
            (0..6usize, 0..0x1010u64, prop::collection::vec(any::<u8>(), 1..33), any::<bool>()),
            0..200,
        ),
    ) {
        let windows = [
            ApicsWindow::Pic(PicWindow::First),
            ApicsWindow::Pic(PicWindow::Second),
            ApicsWindow::Pic(PicWindow::Triggers),
            ApicsWindow::IoApic,
            ApicsWindow::Local(BOOT),
            ApicsWindow::Local(ONE),
        ];
        let mut apics = Apics::running(2);
        for (window, offset, mut data, writes) in accesses {
            let offset = if window < 3 { offset % 4 } else { offset };
            let mut window = apics.window(windows[window]);
            if writes {
                prop_assert_eq!(window.write(offset, &data), None);
            } else {
                window.read(offset, &mut data);
            }
            apics.pulse(Irq(u32::from(data[0]) % 26));
            apics.acknowledge(BOOT);
        }
        let kicks = apics.kicks();
        prop_assert!(kicks.len() <= 2, "{:?}", kicks);
    }

    #[test]
    fn whoever_has_something_new_is_kicked_and_no_line_is_lost(steps in steps()) {
        let mut apics = Apics::running(3);
        for step in steps {
            let before: Vec<_> = apics.locals.iter().map(LocalApic::work).collect();
            apics.step(step);
            let kicks = apics.kicks();
            for (id, (local, before)) in (0..).zip(apics.locals.iter().zip(before)) {
                let is_own = matches!(step, Step::Acknowledge(_));
                if local.calls() && local.work() != before && !is_own {
                    prop_assert!(kicks.contains(&id), "{:?} {}", step, id);
                }
            }
            prop_assert!(kicks.iter().all(|&id| id < 3));
        }
        // A guest that sets all up anew and serves all finds the line, whatever was done before.
        for processor in (0..3).map(VcpuId) {
            apics.write_msr(processor, 0x1b, 0xfee0_0000).unwrap();
            apics.write_msr(processor, 0x1b, 0xfee0_0800).unwrap();
            apics.put(processor, SVR, 0x1ff);
        }
        for pin in 0..24 {
            apics.redirect(pin, 0, 1 << 16);
        }
        apics.start_pics();
        apics.set(DISK, false);
        apics.redirect(20, 2, LEVEL | 0x61);
        apics.set(DISK, true);
        for _ in 0..3 {
            prop_assert_eq!(apics.acknowledge(TWO), Some(0x61));
            prop_assert!(!apics.interrupts(TWO));
            apics.put(TWO, EOI, 0);
        }
        apics.set(DISK, false);
        prop_assert_eq!(apics.acknowledge(TWO), Some(0x61));
        apics.put(TWO, EOI, 0);
        prop_assert!(!apics.interrupts(TWO));
    }
}
