use super::*;
use crate::board::Access;
use crate::reports::Reports;
use crate::testing::{IdleVcpu, Passed, Recorder};
use firstlight_base::Port;
use std::sync::atomic::AtomicU32;

/// A board with nothing but the irqchip, and what passes.
fn board() -> (Board, Arc<PcIrqchip>, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let irqchip = Arc::new(PcIrqchip::new(Arc::<Recorder>::clone(&recorder)));
    let mut board = Board::new(&Reports::new().unwrap());
    irqchip.attach(&mut board);
    (board, irqchip, recorder)
}

/// Writes half an entry of the I/O APIC.
fn write_entry(board: &Board, half: u8, value: u32) {
    let window = Access::Mmio(Pc::IOAPIC.checked_add(0x10).unwrap());
    board.write(Access::Mmio(Pc::IOAPIC), &u32::from(half).to_le_bytes());
    board.write(window, &value.to_le_bytes());
}

/// An interrupt of a level with this vector, to the processor with the id 0.
const LEVEL: u32 = 1 << 15;

fn message(vector: u8) -> Message {
    Message {
        address: Pc::LAPIC,
        data: LEVEL | 1 << 14 | u32::from(vector),
        requester: 0,
    }
}

#[test]
fn a_level_is_announced_sent_and_sent_again_at_its_end_while_it_lasts() {
    let (board, irqchip, recorder) = board();
    let line = irqchip.line(Irq(10)).unwrap();
    line.set(true).unwrap();
    assert_eq!(recorder.take(), []);
    write_entry(&board, 0x10 + 2 * 10, LEVEL | 0x41);
    let announced = Passed::Announced(vec![(10, message(0x41))]);
    assert_eq!(recorder.take(), [announced, Passed::Sent(message(0x41))]);
    irqchip.end_of_interrupt(0x41);
    assert_eq!(recorder.take(), [Passed::Sent(message(0x41))]);
    line.set(false).unwrap();
    irqchip.end_of_interrupt(0x41);
    assert_eq!(recorder.take(), []);
}

#[test]
fn a_pin_that_is_masked_stays_announced_for_the_interrupt_under_way() {
    const MASKED: u32 = 1 << 16;
    let (board, _irqchip, recorder) = board();
    write_entry(&board, 0x10 + 2 * 10, LEVEL | 0x41);
    let announced = [Passed::Announced(vec![(10, message(0x41))])];
    assert_eq!(recorder.take(), announced);
    write_entry(&board, 0x10 + 2 * 10, MASKED | LEVEL | 0x41);
    assert_eq!(recorder.take(), announced);
}

#[test]
fn the_timer_reaches_pin_2_and_no_line_is_beyond_the_pins() {
    let (board, irqchip, recorder) = board();
    write_entry(&board, 0x10 + 2 * 2, 0x30);
    recorder.take();
    irqchip.line(Irq(0)).unwrap().pulse().unwrap();
    let sent = Message {
        address: Pc::LAPIC,
        data: 0x30,
        requester: 0,
    };
    assert_eq!(recorder.take(), [Passed::Sent(sent)]);
    let refused = irqchip.line(Irq(24)).map(drop);
    assert!(matches!(refused, Err(HvError::NoSuchLine(Irq(24)))));
}

#[test]
fn the_8259s_interrupt_the_boot_vcpu_once_it_takes_it() {
    let (board, irqchip, _recorder) = board();
    let kicks = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&kicks);
    let kicker = Kicker::new(move || _ = counted.fetch_add(1, Ordering::Relaxed));
    Arc::clone(&irqchip).kicker(VcpuId::BOOT, kicker);
    let mut vcpu = IdleVcpu::default();
    // Vectors from 0x20, edges, no lines masked.
    for (port, byte) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)] {
        board.write(Access::Port(Port(port)), &[byte]);
    }
    let line = irqchip.line(Irq(4)).unwrap();
    line.set(true).unwrap();
    assert_eq!(kicks.load(Ordering::Relaxed), 1);
    assert!(irqchip.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert!(vcpu.stops && vcpu.vectors.is_empty());
    vcpu.takes = true;
    // Only the boot vCPU is wired to them.
    assert!(irqchip.deliver(VcpuId(1), &mut vcpu).unwrap());
    assert!(vcpu.vectors.is_empty());
    assert!(irqchip.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!((vcpu.vectors, vcpu.stops), (vec![0x24], false));
}
