use super::*;
use crate::GicV2;
use firstlight_base::{Irq, VcpuId};
use proptest::prelude::*;

const TIMER: GicLine = GicLine::Private(VcpuId::BOOT, Irq(11));
const UART: GicLine = GicLine::Shared(Irq(1));
const UART_ID: u32 = 33;

/// A GIC of one CPU, with every interrupt enabled and level-sensitive, as after reset.
fn gic() -> GicV2 {
    let mut gic = GicV2::new(1, 64).unwrap();
    let cpu = VcpuId::BOOT;
    let words = [(0x000, 1), (0x100, !0), (0x104, !0), (0x108, !0)];
    for (offset, value) in words {
        gic.write_distributor(cpu, offset, &u32::to_le_bytes(value));
    }
    for (offset, value) in [(0, 1_u32), (4, 0xf0)] {
        gic.write_cpu_interface(cpu, offset, &value.to_le_bytes());
    }
    gic
}

/// Lets the guest serve what is pending, if anything is.
fn serve(gic: &mut GicV2) -> Option<u32> {
    let mut data = [0; 4];
    gic.read_cpu_interface(VcpuId::BOOT, 0xc, &mut data);
    gic.write_cpu_interface(VcpuId::BOOT, 0x10, &data);
    Some(u32::from_le_bytes(data)).filter(|id| *id < 1020)
}

fn enable(gic: &mut GicV2, id: u32, on: bool) {
    let offset = if on { 0x100 } else { 0x180 } + u64::from(id / 32) * 4;
    let bit = 1_u32 << (id % 32);
    gic.write_distributor(VcpuId::BOOT, offset, &bit.to_le_bytes());
}

#[test]
fn what_is_registered_comes_back_when_the_guest_is_done() {
    let mut gic = gic();
    let mut virqs = Virqs::<u32, &str>::with_room_for(2);
    virqs.register(&gic, UART, "the UART").unwrap();
    assert!(virqs.inject(&mut gic, UART));
    assert_eq!(virqs.next_ended(&mut gic), None);
    assert_eq!(serve(&mut gic), Some(UART_ID));
    let ended = Some(Ended::Acknowledged(UART, &mut "the UART"));
    assert_eq!(virqs.next_ended(&mut gic), ended);
    assert_eq!(virqs.next_ended(&mut gic), None);
    assert_eq!(serve(&mut gic), None);
}

#[test]
fn what_comes_while_the_guest_has_it_disabled_is_there_once_it_is_enabled() {
    let mut gic = gic();
    let mut virqs = Virqs::<u32, ()>::with_room_for(1);
    virqs.register(&gic, UART, ()).unwrap();
    enable(&mut gic, UART_ID, false);
    assert!(virqs.inject(&mut gic, UART));
    assert_eq!(serve(&mut gic), None);
    enable(&mut gic, UART_ID, true);
    assert_eq!(serve(&mut gic), Some(UART_ID));
}

#[test]
fn an_interrupt_of_the_hosts_is_high_until_it_is_ended_and_then_its_channel_is_told_of() {
    let mut gic = gic();
    let mut virqs = Virqs::<u32, ()>::with_room_for(1);
    virqs.register_passthrough(&gic, UART, 5).unwrap();
    for _ in 0..2 {
        assert!(virqs.handle_passthrough(&mut gic, 5));
        assert_eq!(serve(&mut gic), Some(UART_ID));
        assert_eq!(virqs.next_ended(&mut gic), Some(Ended::PassedThrough(5)));
        // Until the host's device asks again, it does not interrupt.
        assert_eq!(serve(&mut gic), None);
    }
}

#[test]
fn a_no_means_that_nobody_registered_it() {
    let mut gic = gic();
    let mut virqs = Virqs::<u32, ()>::with_room_for(2);
    assert!(!virqs.inject(&mut gic, UART));
    assert!(!virqs.set_level(&mut gic, UART, true));
    assert!(!virqs.handle_passthrough(&mut gic, 5));
    assert!(!virqs.deregister(&mut gic, UART));
    assert_eq!(serve(&mut gic), None);
}

#[test]
fn lines_and_channels_are_had_once_and_only_where_they_are() {
    let mut gic = gic();
    let mut virqs = Virqs::<u32, ()>::with_room_for(2);
    virqs.register(&gic, TIMER, ()).unwrap();
    let taken = virqs.register_passthrough(&gic, TIMER, 1);
    assert_eq!(taken, Err(VirqError::LineTaken));
    virqs.register_passthrough(&gic, UART, 1).unwrap();
    let another = GicLine::Shared(Irq(2));
    let taken = virqs.register_passthrough(&gic, another, 1);
    assert_eq!(taken, Err(VirqError::ChannelTaken));
    let full = virqs.register(&gic, another, ());
    assert_eq!(full, Err(VirqError::Full { most: 2 }));
    for line in [
        GicLine::Shared(Irq(64)),
        GicLine::Shared(Irq(u32::MAX)),
        GicLine::Private(VcpuId::BOOT, Irq(16)),
        GicLine::Private(VcpuId(1), Irq(11)),
    ] {
        let refused = virqs.register(&gic, line, ());
        assert_eq!(refused, Err(VirqError::NoSuchLine));
    }
    assert!(virqs.deregister(&mut gic, TIMER));
    assert_eq!(virqs.register(&gic, another, ()), Ok(()));
}

#[test]
fn the_end_of_what_is_registered_no_more_is_nobodys() {
    let mut gic = gic();
    let mut virqs = Virqs::<u32, ()>::with_room_for(1);
    virqs.register_passthrough(&gic, UART, 5).unwrap();
    assert!(virqs.handle_passthrough(&mut gic, 5));
    let mut data = [0; 4];
    gic.read_cpu_interface(VcpuId::BOOT, 0xc, &mut data);
    assert!(virqs.deregister(&mut gic, UART));
    gic.write_cpu_interface(VcpuId::BOOT, 0x10, &data);
    assert_eq!(virqs.next_ended(&mut gic), None);
    // Its line has fallen.
    assert_eq!(serve(&mut gic), None);
}

proptest! {
    /// However interrupts come, are served and disabled: each one of the host's that came is told the end of, once.
    #[test]
    fn every_interrupt_of_the_hosts_ends(steps in prop::collection::vec((0..4_u8, 0..8_u32), 1..200)) {
        let mut gic = gic();
        let mut virqs = Virqs::<u32, ()>::with_room_for(8);
        for channel in 0..8 {
            let line = GicLine::Shared(Irq(channel));
            virqs.register_passthrough(&gic, line, channel).unwrap();
        }
        let (mut came, mut ended) = ([0_u32; 8], [0_u32; 8]);
        let everything = steps.into_iter().chain((0..8).map(|id| (2, id))).chain([(1, 0); 8]);
        for (what, channel) in everything {
            let at = channel as usize;
            match what {
                // A host lets the next one come when the one before has ended.
                0 if came[at] == ended[at] => {
                    prop_assert!(virqs.handle_passthrough(&mut gic, channel));
                    came[at] += 1;
                }
                0 => {}
                1 => _ = serve(&mut gic),
                what => enable(&mut gic, 32 + channel, what == 2),
            }
            while let Some(Ended::PassedThrough(channel)) = virqs.next_ended(&mut gic) {
                ended[channel as usize] += 1;
            }
        }
        prop_assert_eq!(came, ended);
    }
}
