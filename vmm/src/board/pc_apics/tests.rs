use super::*;
use crate::board::Access;
use crate::reports::Reports;
use crate::testing::{IdleVcpu, Recorder};
use firstlight_base::Port;
use std::thread;

const OTHER: VcpuId = VcpuId(1);

/// A board of a machine with two vCPUs and nothing but the controllers.
fn board() -> (Board, Arc<PcApics>) {
    let apics = Arc::new(PcApics::new(2).unwrap());
    let mut board = Board::new(&Reports::new().unwrap());
    apics.attach(&mut board);
    (board, apics)
}

/// Writes a register of a vCPU's local APIC.
fn write_local(board: &Board, id: VcpuId, offset: u64, value: u32) {
    let at = Pc::LAPIC.checked_add(offset).unwrap();
    assert!(board.write_for(id, at, &value.to_le_bytes()).is_none());
}

fn read_local(board: &Board, id: VcpuId, offset: u64) -> u32 {
    let mut data = [0; 4];
    board.read_for(id, Pc::LAPIC.checked_add(offset).unwrap(), &mut data);
    u32::from_le_bytes(data)
}

/// A message that interrupts a processor with an edge.
fn message(id: VcpuId, vector: u8) -> Message {
    Message {
        address: Pc::LAPIC.checked_add(u64::from(id.0) << 12).unwrap(),
        data: vector.into(),
        requester: 0,
    }
}

const SPURIOUS: u64 = 0xf0;
const ENABLED: u32 = 0x1ff;
const COMMAND: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const END: u64 = 0xb0;

#[test]
fn each_vcpu_has_its_own_local_apic_at_the_same_place() {
    let (board, _apics) = board();
    assert_eq!(read_local(&board, VcpuId::BOOT, 0x20), 0);
    assert_eq!(read_local(&board, OTHER, 0x20), 1 << 24);
    // Beside it is nothing.
    let mut beside = [0; 4];
    let after = Pc::LAPIC.checked_add(LocalApic::EXTENT).unwrap();
    board.read_for(OTHER, after, &mut beside);
    assert_eq!(beside, [0xff; 4]);
}

#[test]
fn a_message_waits_until_the_vcpu_takes_it_and_for_the_end_of_the_one_before() {
    let (board, apics) = board();
    let interconnect = apics.interconnect(Arc::new(Recorder::default()));
    let mut vcpu = IdleVcpu::default();
    write_local(&board, VcpuId::BOOT, SPURIOUS, ENABLED);
    interconnect.send(&message(VcpuId::BOOT, 0x51)).unwrap();
    interconnect.send(&message(VcpuId::BOOT, 0x41)).unwrap();
    assert!(apics.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert!(vcpu.stops && vcpu.vectors.is_empty());
    vcpu.takes = true;
    assert!(apics.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!((&vcpu.vectors[..], vcpu.stops), (&[0x51][..], false));
    write_local(&board, VcpuId::BOOT, END, 0);
    vcpu.takes = true;
    assert!(apics.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!(vcpu.vectors, [0x51, 0x41]);
}

#[test]
fn a_task_priority_of_either_kind_holds_interrupts_back() {
    let (board, apics) = board();
    let interconnect = apics.interconnect(Arc::new(Recorder::default()));
    let mut vcpu = IdleVcpu {
        takes: true,
        class: 4,
        ..IdleVcpu::default()
    };
    write_local(&board, VcpuId::BOOT, SPURIOUS, ENABLED);
    interconnect.send(&message(VcpuId::BOOT, 0x41)).unwrap();
    assert!(apics.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert!(vcpu.vectors.is_empty() && !vcpu.stops);
    assert_eq!(read_local(&board, VcpuId::BOOT, TASK_PRIORITY), 0x40);
    write_local(&board, VcpuId::BOOT, TASK_PRIORITY, 0x30);
    assert!(apics.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!((&vcpu.vectors[..], vcpu.class), (&[0x41][..], 3));
}

#[test]
fn a_vcpu_waits_until_another_starts_it_where_that_says() {
    let (board, apics) = board();
    let waiter = Arc::clone(&apics);
    let waiting = thread::spawn(move || {
        let mut vcpu = IdleVcpu::default();
        let mut waited = 0;
        while !waiter.deliver(OTHER, &mut vcpu).unwrap() {
            waited += 1;
        }
        (vcpu.states, waited)
    });
    write_local(&board, VcpuId::BOOT, COMMAND_HIGH, 1 << 24);
    // INIT, then start-up at the page 0x9a.
    write_local(&board, VcpuId::BOOT, COMMAND, 0x4500);
    write_local(&board, VcpuId::BOOT, COMMAND, 0x469a);
    let (states, waited) = waiting.join().unwrap();
    assert_eq!(states, [VcpuState::X86(Registers::started_at(0x9a))]);
    assert!(waited <= 2, "{waited}");
}

#[test]
fn a_vcpu_that_halts_waits_for_an_interrupt_and_what_is_unmaskable_wakes_it_too() {
    let (board, apics) = board();
    write_local(&board, VcpuId::BOOT, SPURIOUS, ENABLED);
    let interconnect = apics.interconnect(Arc::new(Recorder::default()));
    for (data, vectors, unmaskable) in [(0x41, vec![0x41], 0), (0x400, vec![], 1)] {
        assert!(apics.halt(VcpuId::BOOT));
        let waiter = Arc::clone(&apics);
        let waiting = thread::spawn(move || {
            let mut vcpu = IdleVcpu {
                takes: true,
                ..IdleVcpu::default()
            };
            while !waiter.deliver(VcpuId::BOOT, &mut vcpu).unwrap() {}
            (vcpu.vectors, vcpu.unmaskable)
        });
        let message = Message {
            data,
            ..message(VcpuId::BOOT, 0)
        };
        interconnect.send(&message).unwrap();
        assert_eq!(waiting.join().unwrap(), (vectors, unmaskable));
        write_local(&board, VcpuId::BOOT, END, 0);
    }
}

#[test]
fn a_kick_brings_back_a_vcpu_that_waits() {
    let (_board, apics) = board();
    let kicker = Arc::clone(&apics).kicker(OTHER, Kicker::new(|| ()));
    let waiter = Arc::clone(&apics);
    let waiting = thread::spawn(move || waiter.deliver(OTHER, &mut IdleVcpu::default()).unwrap());
    kicker.kick();
    assert!(!waiting.join().unwrap());
}

#[test]
fn the_timer_of_a_local_apic_rings() {
    const LVT_TIMER: u64 = 0x320;
    const DIVIDE: u64 = 0x3e0;
    const BY_ONE: u32 = 0b1011;
    const INITIAL: u64 = 0x380;
    let (board, apics) = board();
    let mut vcpu = IdleVcpu {
        takes: true,
        ..IdleVcpu::default()
    };
    write_local(&board, VcpuId::BOOT, SPURIOUS, ENABLED);
    write_local(&board, VcpuId::BOOT, LVT_TIMER, 0x61);
    write_local(&board, VcpuId::BOOT, DIVIDE, BY_ONE);
    write_local(&board, VcpuId::BOOT, INITIAL, 1000);
    let timer = rustix::event::PollFd::new(&apics.timer, rustix::event::PollFlags::IN);
    rustix::event::poll(&mut [timer], None).unwrap();
    apics.ring();
    assert!(apics.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!(vcpu.vectors, [0x61]);
}

#[test]
fn the_8259s_interrupt_the_boot_vcpu_as_firmware_leaves_them() {
    let (board, apics) = board();
    for (port, byte) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)] {
        board.write(Access::Port(Port(port)), &[byte]);
    }
    apics.line(Irq(4)).unwrap().set(true).unwrap();
    let mut vcpu = IdleVcpu {
        takes: true,
        ..IdleVcpu::default()
    };
    assert!(apics.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!(vcpu.vectors, [0x24]);
}
