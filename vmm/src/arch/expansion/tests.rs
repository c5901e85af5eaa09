//! A disk is plugged into a machine and let go of, by a guest that does what its driver would.

use super::super::allocation;
use super::*;
use crate::reports::Reports;
use crate::{DeviceError, Disk};
use firstlight_base::{Gpa, GpaRange, Irq, MIB};
use firstlight_devices::pci::ConfigAddress;
use firstlight_hv::script::Script;
use firstlight_hv::{HvError, Hypervisor, IrqLine, Vm};
use firstlight_load::Backing;
use std::path::Path;
use std::thread;

const WINDOWS: PciWindows = PciWindows {
    ecam: GpaRange::new(Gpa::new(0x3000_0000), 16 * MIB).unwrap(),
    ports: None,
    memory32: GpaRange::new(Gpa::new(0x1000_0000), 16 * MIB).unwrap(),
    memory64: None,
    irq: Irq(16),
};

const PORT: Address = Address::new(0, 1, 0).unwrap();
/// Who is at the other end of the root bus.
const OTHER: Address = Address::new(0, 31, 0).unwrap();
const SLOT_CONTROL: u16 = 0x58;
const SLOT_STATUS: u16 = 0x5a;

/// A machine with a slot.
fn machine() -> Expansion {
    let vm = Script::new().create_vm().unwrap();
    let lines = |irq| -> Result<Box<dyn IrqLine>, HvError> { Ok(Box::new(vm.irq_line(irq)?)) };
    let ram = GpaRange::new(Gpa::new(0), MIB).unwrap();
    let rows = Rows {
        virtio: None,
        pci: Some(WINDOWS),
        legacy: None,
    };
    let config = allocation::config(Some(&WINDOWS), None, (Irq(0), 32));
    let allocation = Allocation {
        allocator: SystemAllocator::new(config).unwrap(),
        seats: Vec::new(),
        ports: vec![PORT],
    };
    let backplane = Backplane {
        board: &mut Board::new(&Reports::new().unwrap()),
        lines: &lines,
        memory: &Arc::new(GuestMemory::allocate(&[ram], Backing::Private).unwrap()),
        interconnect: vm.interconnect(),
        chipset: Chipset::default(),
    };
    Expansion::build(&rows, (Vec::new(), allocation), backplane).unwrap()
}

fn disk(path: &Path) -> Result<VirtioDevice, DeviceError> {
    let disk = Disk {
        path: path.to_owned(),
        readonly: false,
    };
    VirtioDevice::disk(&disk, 0)
}

/// The guest's driver writes slot control.
fn control(machine: &Expansion, value: u16) {
    set(machine, SLOT_CONTROL, value);
}

fn set(machine: &Expansion, register: u16, value: u16) {
    let bus = machine.bus.as_ref().unwrap();
    bus.write_config(of_port(register), &value.to_le_bytes());
}

/// The guest's driver waits for the button.
fn wait_for_button(machine: &Expansion) {
    let bus = machine.bus.as_ref().unwrap();
    let mut status = [0; 2];
    while status[0] & 1 == 0 {
        bus.read_config(of_port(SLOT_STATUS), &mut status);
        thread::yield_now();
    }
}

fn of_port(register: u16) -> ConfigAddress {
    ConfigAddress {
        function: PORT,
        register,
    }
}

const ON: u16 = 0x1121;
const BLINKING: u16 = 0x1221;
const OFF: u16 = 0x1721;

#[test]
fn a_disk_that_the_guest_has_let_go_of_is_free_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let machine = machine();
    control(&machine, OFF);
    for _ in 0..2 {
        let device = disk(file.path()).unwrap();
        assert!(!machine.is_plugged(PORT));
        assert_eq!(machine.plug(device).unwrap(), PORT);
        control(&machine, ON);
        assert!(machine.unplug(PORT).is_ok());
        control(&machine, BLINKING);
        assert!(machine.is_plugged(PORT));
        assert!(disk(file.path()).is_err(), "the guest still has it");
        control(&machine, OFF);
        assert!(!machine.is_plugged(PORT));
    }
    assert!(disk(file.path()).is_ok());
}

#[test]
fn who_cannot_let_go_is_not_asked() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let machine = machine();
    for nobody in [PORT, OTHER] {
        let refused = machine.unplug(nobody);
        assert!(matches!(refused, Err(HotplugError::Nobody(at)) if at == nobody));
    }
    assert_eq!(machine.plug(disk(file.path()).unwrap()).unwrap(), PORT);
    let refused = machine.unplug(PORT);
    assert!(matches!(refused, Err(HotplugError::Unserved(PORT))));
    control(&machine, BLINKING);
    let refused = machine.unplug(PORT);
    assert!(matches!(refused, Err(HotplugError::Busy(PORT))));
    control(&machine, ON);
    assert!(machine.unplug(PORT).is_ok());
    let refused = machine.unplug(PORT);
    assert!(matches!(refused, Err(HotplugError::Busy(PORT))));
    assert!(machine.is_plugged(PORT) && !machine.is_plugged(OTHER));
}

/// A machine whose guest has just begun to bring a disk up, and has heard of it.
fn with_a_disk(file: &Path) -> Expansion {
    let machine = machine();
    control(&machine, OFF);
    machine.plug(disk(file).unwrap()).unwrap();
    set(&machine, SLOT_STATUS, 0xffff);
    machine
}

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn who_waits_asks_when_the_disk_is_up_and_goes_on_when_it_is_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let machine = with_a_disk(file.path());
    thread::scope(|scope| {
        let out = scope.spawn(|| machine.unplug_within(PORT, LONG));
        control(&machine, ON);
        wait_for_button(&machine);
        control(&machine, BLINKING);
        control(&machine, OFF);
        assert!(out.join().unwrap().is_ok());
        assert!(disk(file.path()).is_ok());
    });
}

#[test]
fn who_waits_learns_that_the_guest_has_changed_its_mind() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let machine = with_a_disk(file.path());
    control(&machine, ON);
    thread::scope(|scope| {
        let out = scope.spawn(|| machine.unplug_within(PORT, LONG));
        wait_for_button(&machine);
        control(&machine, BLINKING);
        control(&machine, ON);
        assert!(matches!(out.join().unwrap(), Err(HotplugError::Kept(PORT))));
    });
}

#[test]
fn who_waits_does_not_wait_for_ever() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let machine = with_a_disk(file.path());
    let short = Duration::from_millis(1);
    let late = machine.unplug_within(PORT, short);
    assert!(matches!(late, Err(HotplugError::Busy(PORT))));
    control(&machine, ON);
    let kept = machine.unplug_within(PORT, short);
    assert!(matches!(kept, Err(HotplugError::Kept(PORT))));
    thread::scope(|scope| {
        set(&machine, SLOT_STATUS, 0xffff);
        control(&machine, BLINKING);
        control(&machine, ON);
        let out = scope.spawn(|| machine.unplug_within(PORT, LONG));
        wait_for_button(&machine);
        machine.retire();
        assert!(out.join().unwrap().is_ok(), "the machine has ended");
        assert!(disk(file.path()).is_ok());
    });
}

#[test]
fn a_machine_has_as_many_slots_as_it_was_given() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let other = tempfile::NamedTempFile::new().unwrap();
    other.as_file().set_len(4096).unwrap();
    let machine = machine();
    assert_eq!(machine.plug(disk(file.path()).unwrap()).unwrap(), PORT);
    let refused = machine.plug(disk(other.path()).unwrap());
    assert!(matches!(refused, Err(HotplugError::Full(1))));
    assert!(disk(other.path()).is_ok(), "what was refused is let go of");
}
