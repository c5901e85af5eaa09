//! Interrupt controllers whose registers a guest writes as it likes, while lines rise and fall.

use crate::knobs::Knobs;
use crate::{Reached, Seed, Target};
use firstlight_base::{Irq, VcpuId};
use firstlight_devices::{
    Affinity, ApicClock, ApicTime, Apics, ApicsWindow, Chip, GicLine, GicV2, GicV3, IccRegister,
    IoApic, ListRegisters, LocalApic, PicWindow, Plic, PlicContext, Virqs,
};
use std::time::Duration;

/// The target.
pub const TARGET: Target = Target {
    name: "irqchip",
    what: "interrupt controllers that a guest writes as it likes: whoever is notified is given an interrupt",
    run,
    seeds,
};

/// Which controller the first byte says.
const APICS: u8 = 0;
const GIC_V2: u8 = 1;
const GIC_V3: u8 = 2;
const PLIC: u8 = 3;
const CONTROLLERS: u8 = 4;

/// So many processors each has.
const CPUS: u32 = 2;
/// So many lines of devices the GICs have.
const SHARED: u32 = 64;

/// What is done to it: seven bytes each.
#[derive(Clone, Copy, Debug)]
struct Action {
    /// What, and by which processor in the highest bit.
    kind: u8,
    at: u16,
    value: u32,
}

impl Action {
    fn take(knobs: &mut Knobs<'_>) -> Self {
        Self {
            kind: knobs.u8(),
            at: knobs.u16(),
            value: knobs.u32(),
        }
    }

    fn cpu(self) -> VcpuId {
        VcpuId(u32::from(self.kind >> 7))
    }

    /// Which of so many things is done.
    fn which(self, of: u8) -> u8 {
        (self.kind & 0x7f) % of
    }

    /// How many bytes an access has.
    fn width(self) -> usize {
        [4, 4, 4, 1, 2, 8, 3, 4][usize::from(self.at >> 13)]
    }

    /// The bytes of a write.
    fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let (low, high) = bytes.split_at_mut(4);
        low.copy_from_slice(&self.value.to_le_bytes());
        high.copy_from_slice(&self.value.to_be_bytes());
        bytes
    }

    /// An offset into `len` bytes, most often that of a word; one in a while is beyond them.
    fn offset(self, len: u64) -> u64 {
        let at = u64::from(self.at & 0x1fff);
        match self.width() {
            4 | 8 => at * 4 % (len + 8),
            _ => at % (len + 8),
        }
    }
}

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let controller = knobs.u8() % CONTROLLERS;
    let count = usize::from(knobs.u8());
    let actions: Vec<_> = (0..count).map(|_| Action::take(&mut knobs)).collect();
    match controller {
        APICS => apics(&actions),
        GIC_V2 => gic_v2(&actions),
        GIC_V3 => gic_v3(&actions),
        _ => plic(&actions),
    }
    Reached::End
}

fn apics(actions: &[Action]) {
    let clock = ApicClock {
        bus_hz: ApicClock::KVM_BUS_HZ,
        tsc_hz: ApicClock::KVM_BUS_HZ,
    };
    let mut apics = Apics::new(CPUS, clock).expect("there can be so many");
    let mut time = ApicTime::default();
    for &action in actions {
        let cpu = action.cpu();
        let windows = [
            (ApicsWindow::Local(cpu), LocalApic::EXTENT),
            (ApicsWindow::IoApic, IoApic::EXTENT),
            (ApicsWindow::Pic(PicWindow::First), 2),
            (ApicsWindow::Pic(PicWindow::Second), 2),
            (ApicsWindow::Pic(PicWindow::Triggers), 2),
        ];
        let bytes = action.bytes();
        match action.which(8) {
            which @ ..5 => {
                let (window, len) = windows[usize::from(which)];
                let mut registers = apics.window(window);
                let bytes = &bytes[..action.width()];
                registers.write(action.offset(len), bytes);
                registers.read(action.offset(len), &mut [0; 8][..bytes.len()]);
            }
            5 => {
                let line = Irq(u32::from(action.at) % (IoApic::PINS + 1));
                match action.value % 3 {
                    0 => apics.pulse(line),
                    level => apics.set(line, level == 1),
                }
            }
            6 => {
                time.now += Duration::from_nanos(action.value.into());
                time.tsc += u64::from(action.value);
                apics.set_time(cpu, time);
                let next = apics.deadline(cpu);
                assert!(next.is_none_or(|next| next > time.now), "it is due");
            }
            _ => {
                let index = 0x800 + u32::from(action.at & 0xff);
                let value = u64::from_le_bytes(bytes);
                let _ = apics.write_msr(cpu, index, value);
                let _ = apics.read_msr(cpu, index);
            }
        }
        // Each processor takes one that it is to be interrupted by.
        for cpu in (0..CPUS).map(VcpuId) {
            let _ = apics.take_events(cpu);
            if apics.interrupts(cpu) {
                assert!(apics.acknowledge(cpu).is_some());
            }
        }
        let kicks = std::iter::from_fn(|| apics.next_kick()).take(CPUS as usize + 1);
        assert!(kicks.count() <= CPUS as usize, "kicks without end");
    }
}

/// A line into a GIC.
fn line(action: Action) -> GicLine {
    match action.at % 4 {
        0 => GicLine::Private(action.cpu(), Irq(u32::from(action.at >> 2) % 17)),
        _ => GicLine::Shared(Irq(u32::from(action.at >> 2) % (SHARED + 1))),
    }
}

/// What is acknowledged where nothing is pending.
const SPURIOUS: u64 = 1023;

fn gic_v2(actions: &[Action]) {
    let mut gic = GicV2::new(CPUS, SHARED).expect("there can be so many");
    let mut virqs = Virqs::<u16, ()>::with_room_for(4);
    for &action in actions {
        let cpu = action.cpu();
        let bytes = action.bytes();
        let bytes = &bytes[..action.width()];
        let mut read = [0; 8];
        match action.which(5) {
            0 => {
                let offset = action.offset(GicV2::DISTRIBUTOR_LEN);
                gic.write_distributor(cpu, offset, bytes);
                gic.read_distributor(cpu, offset, &mut read[..bytes.len()]);
            }
            1 => {
                let offset = action.offset(GicV2::CPU_INTERFACE_LEN);
                gic.write_cpu_interface(cpu, offset, bytes);
                gic.read_cpu_interface(cpu, offset, &mut read[..bytes.len()]);
            }
            2 => match action.value % 3 {
                0 => gic.pulse(line(action)),
                level => gic.set(line(action), level == 1),
            },
            3 => {
                let channel = action.at % 5;
                let known = virqs
                    .register_passthrough(&gic, line(action), channel)
                    .is_ok();
                let taken = virqs.handle_passthrough(&mut gic, channel);
                assert!(taken || !known, "what was registered is not");
                if action.value % 4 == 0 {
                    virqs.deregister(&mut gic, line(action));
                }
            }
            _ => while virqs.next_ended(&mut gic).is_some() {},
        }
        if gic.notifies(cpu) {
            let mut id = [0; 4];
            gic.read_cpu_interface(cpu, 0xc, &mut id);
            assert_ne!(u64::from(u32::from_le_bytes(id)), SPURIOUS);
        }
    }
}

fn gic_v3(actions: &[Action]) {
    let affinities: Vec<_> = (0..CPUS).map(|cpu| Affinity::of(VcpuId(cpu))).collect();
    let mut gic = GicV3::new(&affinities, SHARED).expect("there can be so many");
    let mut lists: Vec<_> = (0..CPUS)
        .map(|cpu| ListRegisters::new(VcpuId(cpu), 4).expect("there can be four"))
        .collect();
    for &action in actions {
        let cpu = action.cpu();
        let bytes = action.bytes();
        let bytes = &bytes[..action.width()];
        let mut read = [0; 8];
        match action.which(6) {
            0 => {
                let offset = action.offset(GicV3::DISTRIBUTOR_LEN);
                gic.write_distributor(offset, bytes);
                gic.read_distributor(offset, &mut read[..bytes.len()]);
            }
            1 => {
                let offset = action.offset(gic.redistributors_len());
                gic.write_redistributor(offset, bytes);
                gic.read_redistributor(offset, &mut read[..bytes.len()]);
            }
            2 => match action.value % 3 {
                0 => gic.pulse(line(action)),
                level => gic.set(line(action), level == 1),
            },
            3 => {
                // The registers are at 0xc230 to 0xc667.
                let encoding = 0xc230 + action.at % 0x440;
                if let Some(register) = IccRegister::from_encoding(encoding) {
                    gic.write_system_register(cpu, register, action.value.into());
                    gic.read_system_register(cpu, register);
                }
            }
            4 => gic.deactivate(cpu, u32::from(action.at) % (32 + SHARED + 8)),
            _ => {
                let list = &mut lists[usize::try_from(cpu.0).expect("one of two")];
                let registers = list.load(&mut gic);
                assert!(registers.len() <= 4);
                let _ = list.is_stale(&gic);
            }
        }
        while gic.take_ended().is_some() {}
    }
}

fn plic(actions: &[Action]) {
    const SOURCES: u32 = 95;
    let mut plic = Plic::new(SOURCES, CPUS).expect("there can be so many");
    for &action in actions {
        let context = PlicContext(action.cpu().0);
        let bytes = action.bytes();
        let bytes = &bytes[..action.width()];
        let source = Irq(u32::from(action.at) % (SOURCES + 2));
        let base = [0, 0x2000, 0x20_0000][usize::from(action.which(4) % 3)];
        match action.which(4) {
            which @ ..3 => {
                let offset = base + action.offset(0x1080);
                plic.write(offset, bytes);
                if which < 2 {
                    plic.read(offset, &mut [0; 8][..bytes.len()]);
                }
            }
            _ => match action.value % 3 {
                0 => plic.pulse(source),
                level => plic.set(source, level == 1),
            },
        }
        if plic.notifies(context) {
            let mut claimed = [0; 4];
            let claim = 0x20_0004 + 0x1000 * u64::from(context.0);
            plic.read(claim, &mut claimed);
            assert_ne!(claimed, [0; 4], "it notified");
        }
    }
}

/// A seed's action.
fn action(kind: u8, at: u16, value: u32) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(at.to_le_bytes());
    bytes.extend(value.to_le_bytes());
    bytes
}

fn seeds() -> Vec<Seed> {
    let seed = |name: &str, controller: u8, actions: &[Vec<u8>]| {
        let count = u8::try_from(actions.len()).expect("a handful");
        let mut bytes = vec![controller, count];
        bytes.extend(actions.concat());
        Seed::new(name, bytes)
    };
    vec![
        seed(
            "apics-io-apic",
            APICS,
            &[
                action(0, 0xf0 / 4, 0x1ff),
                action(1, 0, 0x12),
                action(1, 4, 0xa041),
                action(5, 1, 1),
                action(0, 0xb0 / 4, 0),
                action(5, 1, 2),
            ],
        ),
        seed(
            "apics-timer",
            APICS,
            &[
                action(0, 0xf0 / 4, 0x1ff),
                action(0, 0x320 / 4, 0x2_0061),
                action(0, 0x380 / 4, 1000),
                action(6, 0, 5_000),
            ],
        ),
        seed(
            "gic-v2",
            GIC_V2,
            &[
                action(0, 0, 1),
                action(0, 0x104 / 4, !0),
                action(0, 0x820 / 4, 0x0101_0101),
                action(1, 0, 1),
                action(1, 1, 0xf0),
                action(2, 1 | 1 << 2, 1),
                action(1, 4, 33),
                action(3, 2 | 2 << 2, 1),
                action(4, 0, 0),
            ],
        ),
        seed(
            "gic-v3",
            GIC_V3,
            &[
                action(0, 0, 0x13),
                action(0, 0x84 / 4, !0),
                action(0, 0x104 / 4, !0),
                action(3, 0x436, 1),
                action(3, 0, 0xf0),
                action(2, 1 | 1 << 2, 1),
                action(5, 0, 0),
                action(3, 0x430, 0),
            ],
        ),
        seed(
            "plic",
            PLIC,
            &[
                action(0, 1, 1),
                action(1, 0, 2),
                action(3, 1, 1),
                action(2, 1, 1),
            ],
        ),
    ]
}
