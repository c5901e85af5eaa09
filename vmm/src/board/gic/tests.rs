use super::*;
use crate::reports::Reports;
use crate::testing::IdleVcpu;
use firstlight_hv::script::{Record, Script};
use firstlight_hv::{Features, Hypervisor, Vm};

/// A board with a GIC of two vCPUs, whose pins `script` writes down.
fn board(script: &Script) -> (Board, Arc<Gic>) {
    let vm = script.create_vm().unwrap();
    let vcpus = vm.create_vcpus(2, Features::default()).unwrap();
    let pins = vcpus.iter().map(|vcpu| vcpu.interrupt_pin().unwrap());
    let gic = Arc::new(Gic::new(pins.collect()).unwrap());
    let mut board = Board::new(&Reports::new().unwrap());
    gic.attach(&mut board);
    (board, gic)
}

fn write(board: &Board, id: VcpuId, (start, offset): (Gpa, u64), value: u32) {
    let at = start.checked_add(offset).unwrap();
    assert!(board.write_for(id, at, &value.to_le_bytes()).is_none());
}

fn read(board: &Board, id: VcpuId, (start, offset): (Gpa, u64)) -> u32 {
    let mut data = [0; 4];
    board.read_for(id, start.checked_add(offset).unwrap(), &mut data);
    u32::from_le_bytes(data)
}

const DISTRIBUTOR: Gpa = VirtArm64::GIC_DISTRIBUTOR.start();
const CPU: Gpa = VirtArm64::GICV2_CPU.start();
const ACKNOWLEDGE: (Gpa, u64) = (CPU, 0xc);
const END: (Gpa, u64) = (CPU, 0x10);
const NONE: u32 = 1023;

/// Lets the interrupt `id` through to the vCPU, as Linux does.
fn enable(board: &Board, vcpu: VcpuId, id: u32) {
    write(board, vcpu, (DISTRIBUTOR, 0), 1);
    write(board, vcpu, (CPU, 0), 1);
    write(board, vcpu, (CPU, 4), 0xf0);
    let word = u64::from(id / 32) * 4;
    write(board, vcpu, (DISTRIBUTOR, 0x100 + word), 1 << (id % 32));
    let targets = DISTRIBUTOR.checked_add(0x800 + u64::from(id)).unwrap();
    assert!(board.write_for(vcpu, targets, &[1 << vcpu.0]).is_none());
}

fn pins(script: &Script) -> Vec<Record> {
    let record = script.record();
    let pin = |record: &Record| matches!(record, Record::Pin(..));
    record.into_iter().filter(pin).collect()
}

#[test]
fn a_level_of_a_device_drives_the_pin_of_its_vcpu_until_it_is_served() {
    let script = Script::new();
    let (board, gic) = board(&script);
    let other = VcpuId(1);
    enable(&board, other, 33);
    let line = gic.line(Irq(1)).unwrap();
    line.set(true).unwrap();
    assert_eq!(pins(&script), [Record::Pin(other, true)]);
    assert_eq!(read(&board, VcpuId::BOOT, ACKNOWLEDGE), NONE);
    assert_eq!(read(&board, other, ACKNOWLEDGE), 33);
    line.set(false).unwrap();
    write(&board, other, END, 33);
    assert_eq!(read(&board, other, ACKNOWLEDGE), NONE);
    let whole = [Record::Pin(other, true), Record::Pin(other, false)];
    assert_eq!(pins(&script), whole);
}

#[test]
fn a_vcpu_s_own_timer_interrupts_it() {
    let script = Script::new();
    let (board, gic) = board(&script);
    enable(&board, VcpuId::BOOT, 27);
    let mut vcpu = IdleVcpu::default();
    assert!(gic.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!(pins(&script), []);
    vcpu.own.virtual_timer = true;
    assert!(gic.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    assert_eq!(pins(&script), [Record::Pin(VcpuId::BOOT, true)]);
    assert_eq!(read(&board, VcpuId::BOOT, ACKNOWLEDGE), 27);
    vcpu.own.virtual_timer = false;
    assert!(gic.deliver(VcpuId::BOOT, &mut vcpu).unwrap());
    write(&board, VcpuId::BOOT, END, 27);
    assert_eq!(read(&board, VcpuId::BOOT, ACKNOWLEDGE), NONE);
}

#[test]
fn there_are_256_lines_and_eight_vcpus() {
    let script = Script::new();
    let (_board, gic) = board(&script);
    assert!(gic.line(Irq(255)).is_ok());
    let refused = gic.line(Irq(256)).map(drop);
    assert!(matches!(refused, Err(HvError::NoSuchLine(Irq(256)))));
    let vm = script.create_vm().unwrap();
    let vcpus = vm.create_vcpus(9, Features::default()).unwrap();
    let pins = vcpus.iter().map(|vcpu| vcpu.interrupt_pin().unwrap());
    assert!(Gic::new(pins.collect()).is_none());
}
