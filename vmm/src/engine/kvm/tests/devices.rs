//! Virtio devices of a machine, with accesses that are played back.

use super::*;
use crate::{BatteryState, DeviceError, Devices, Disk, Transport, Wakefulness};
use firstlight_base::MIB;
use firstlight_boot::{Hardware, Request};
use firstlight_image::{Image, Limits as ImageLimits};
use std::path::Path;
use std::thread;

/// A plan for a PC that has room for `devices`.
fn planned(devices: &Devices) -> BootPlan {
    let (_, file) = plan(1);
    let image = Image::open(&file, &ImageLimits::default()).unwrap();
    let mut hardware = Hardware::default();
    devices.equip(&mut hardware);
    let request = Request {
        memory: 16 * MIB,
        hardware,
        ..Request::default()
    };
    firstlight_boot::plan(&image, &request).unwrap()
}

fn disk(path: &Path) -> Devices {
    Devices {
        disks: vec![Disk {
            path: path.into(),
            readonly: true,
        }],
        ..Devices::default()
    }
}

/// Lets the guest read at these addresses; with what it gets.
fn reads(devices: Devices, at: &[(u64, usize)]) -> Vec<Vec<u8>> {
    let read = |&(at, width): &(u64, usize)| Step::MmioRead {
        at: Gpa::new(at),
        width,
    };
    let steps = at.iter().map(read).chain([acpi_write(0, POWER_OFF)]);
    let script = Script::new().vcpu(VcpuId::BOOT, steps);
    let plan = planned(&devices);
    let equipment = Equipment {
        devices,
        ..Equipment::default()
    };
    let machine = machine(&script, &plan, &equipment).unwrap();
    let (mut console, _person) = Person::at_a_console();
    let ending = Machine::new(machine).run(&plan, &Limits::default(), &mut console);
    assert!(matches!(ending, Ok(Ending::PowerOff)), "{ending:?}");
    let answers = script.record().into_iter();
    answers
        .filter_map(|record| match record {
            Record::Answered(_, data) => Some(data),
            _ => None,
        })
        .collect()
}

fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(MIB).unwrap();
    file
}

#[test]
fn a_watchdog_is_a_function_behind_the_others() {
    let file = file();
    let ecam = Pc::PCI.ecam.start().get();
    for transport in [Transport::Pci, Transport::Mmio] {
        let devices = Devices {
            watchdog: true,
            transport,
            ..disk(file.path())
        };
        let slot = match transport {
            Transport::Pci => 2,
            Transport::Mmio => 1,
        };
        let answers = reads(devices, &[(ecam + (slot << 15), 4)]);
        assert_eq!(answers[0], [0x86, 0x80, 0xab, 0x25], "{transport:?}");
    }
}

#[test]
fn a_disk_is_a_function_on_the_bus() {
    let file = file();
    let ecam = Pc::PCI.ecam.start().get();
    let function = |device: u64, register: u64| (ecam + (device << 15) + register, 4);
    let at = [
        function(0, 0),
        function(1, 0),
        function(2, 0),
        function(1, 8),
    ];
    let answers = reads(disk(file.path()), &at);
    assert_eq!(answers[0], [0x36, 0x1b, 0x08, 0x00], "the bridge");
    assert_eq!(answers[1], [0xf4, 0x1a, 0x42, 0x10], "the disk");
    assert_eq!(answers[2], [0xff; 4], "nobody");
    assert_eq!(answers[3], [1, 0, 0x80, 0x01]);
}

#[test]
fn a_disk_is_a_transport_in_memory() {
    let file = file();
    let devices = Devices {
        transport: Transport::Mmio,
        ..disk(file.path())
    };
    let first = Pc::VIRTIO.base.get();
    let capacity = first + 0x100;
    let beyond = first + Pc::VIRTIO.stride;
    let at = [
        (first, 4),
        (first + 4, 4),
        (first + 8, 4),
        (capacity, 4),
        (beyond, 4),
    ];
    let answers = reads(devices, &at);
    assert_eq!(answers[0], *b"virt");
    assert_eq!(answers[1], [2, 0, 0, 0], "version 2");
    assert_eq!(answers[2], [2, 0, 0, 0], "a disk");
    assert_eq!(answers[3], 2048_u32.to_le_bytes(), "sectors");
    assert_eq!(answers[4], [0xff; 4], "nobody");
}

#[test]
fn without_devices_nothing_answers_where_they_would_be() {
    let at = [(Pc::PCI.ecam.start().get(), 4), (Pc::VIRTIO.base.get(), 4)];
    assert_eq!(reads(Devices::default(), &at), [[0xff; 4], [0xff; 4]]);
}

#[test]
fn without_devices_nothing_more_is_made_than_memory_irqchip_and_vcpus() {
    let made = |devices: Devices| {
        let script = Script::new();
        let plan = planned(&devices);
        let equipment = Equipment {
            devices,
            ..Equipment::default()
        };
        let _machine = machine(&script, &plan, &equipment).unwrap();
        (plan, script.record())
    };
    let (plan, record) = made(Devices::default());
    let platform = plan.platform();
    assert_eq!((platform.pci(), platform.virtio()), (None, None));
    let expected = [
        Record::Map(platform.ram().to_vec()),
        Record::CreateIrqchip(Irqchip::Pc),
        Record::CreateVcpus(1, Features::default()),
    ];
    assert_eq!(record, expected);

    // No device is a slot of memory.
    let file = file();
    let (_, record) = made(disk(file.path()));
    assert_eq!(record[..3], expected);
}

#[test]
fn what_is_no_disk_is_refused_before_anything_is_made() {
    let devices = disk(Path::new("/"));
    let plan = planned(&devices);
    let equipment = Equipment {
        devices,
        ..Equipment::default()
    };
    let script = Script::new();
    let refused = machine(&script, &plan, &equipment).err();
    assert!(
        matches!(refused, Some(RunError::Device(DeviceError::NoDisk { .. }))),
        "{refused:?}"
    );
    assert!(script.record().is_empty());
}

#[test]
fn a_battery_stands_as_it_is_given_and_set() {
    let devices = Devices {
        battery: Some(BatteryState::default().with("capacity=42").unwrap()),
        ..Devices::default()
    };
    let at = Pc::BATTERY.start().get();
    let answers = reads(devices, &[(at + 0x18, 4), (at + 0x0c, 4), (at + 0x44, 4)]);
    assert_eq!(answers, [[42, 0, 0, 0], [4, 0, 0, 0], [0xff; 4]]);
}

#[test]
fn no_machine_is_made_with_a_battery_that_cannot_be() {
    let wrong = BatteryState {
        capacity: 101,
        ..BatteryState::default()
    };
    let devices = Devices {
        battery: Some(wrong),
        ..Devices::default()
    };
    let plan = planned(&devices);
    let equipment = Equipment {
        devices,
        ..Equipment::default()
    };
    let refusal = machine(&Script::new(), &plan, &equipment).err().unwrap();
    assert!(matches!(&refusal, RunError::Device(error) if error.is_usage()));
}

#[test]
fn a_guest_says_that_it_sleeps_and_nobody_waits_for_one_that_has_ended() {
    let devices = Devices {
        suspend_notice: true,
        ..Devices::default()
    };
    let plan = planned(&devices);
    let equipment = Equipment {
        devices,
        ..Equipment::default()
    };
    let port = Pc::SUSPEND_NOTICE;
    let read = || Step::PortRead { port, width: 1 };
    let steps = [
        port_write(port, 1),
        read(),
        port_write(port, 0),
        read(),
        port_write(port, 1),
        acpi_write(0, POWER_OFF),
    ];
    let script = Script::new().vcpu(VcpuId::BOOT, steps);
    let machine = Machine::new(machine(&script, &plan, &equipment).unwrap());
    let suspension = machine.suspension().unwrap();
    assert_eq!(suspension.now(), Wakefulness::Awake);
    let waiting = Arc::clone(&suspension);
    let waiter = thread::spawn(move || {
        let patience = Duration::from_secs(60);
        waiting.wait_for(Wakefulness::Ended, patience)
    });
    let (mut console, _person) = Person::at_a_console();
    let ending = machine.run(&plan, &Limits::default(), &mut console);
    assert!(matches!(ending, Ok(Ending::PowerOff)), "{ending:?}");
    assert_eq!(waiter.join().unwrap(), Wakefulness::Ended);
    assert!(!suspension.is_suspended());
    let answers = script
        .record()
        .into_iter()
        .filter_map(|record| match record {
            Record::Answered(_, data) => Some(data),
            _ => None,
        });
    assert_eq!(answers.collect::<Vec<_>>(), [[1], [0]]);
}

#[test]
fn a_machine_that_was_not_asked_for_them_has_neither() {
    let machine = machine(
        &Script::new(),
        &planned(&Devices::default()),
        &Equipment::default(),
    );
    let machine = Machine::new(machine.unwrap());
    assert!(machine.battery().is_none() && machine.suspension().is_none());
}
