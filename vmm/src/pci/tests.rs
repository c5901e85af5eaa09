//! A bus with a port, and a card that is plugged into it.

use super::*;
use crate::board::Attached;
use firstlight_base::{Gpa, Irq, MIB};
use firstlight_boot::platform::PciWindows;
use firstlight_devices::pci::{Bar, BarKind, ConfigAddress, ConfigSpace, HostBridge, Identity};
use firstlight_hv::script::{Record, Script};
use firstlight_hv::{HvError, Hypervisor, IrqLine, Vm};
use std::sync::{Arc, Mutex};

const ECAM: u64 = 0x3000_0000;
const MEMORY: u64 = 0x1000_0000;
const WINDOWS: PciWindows = PciWindows {
    ecam: GpaRange::new(Gpa::new(ECAM), 16 * MIB).unwrap(),
    ports: None,
    memory32: GpaRange::new(Gpa::new(MEMORY), 16 * MIB).unwrap(),
    memory64: None,
    irq: Irq(16),
};

/// The port, and what is in its slot once the guest has numbered the bus behind it.
const PORT: Address = Address::new(0, 1, 0).unwrap();
const SLOT: Address = Address::new(5, 0, 0).unwrap();
/// The line of its pin.
const LINE: Irq = Irq(17);

// Registers that all have, that bridges have, and those of the port's capabilities.
const COMMAND: u16 = 0x04;
const BAR_0: u16 = 0x10;
const BUS_NUMBERS: u16 = 0x18;
const BRIDGE_CONTROL: u16 = 0x3e;
const SLOT_CONTROL: u16 = 0x58;
const SLOT_STATUS: u16 = 0x5a;
const MSI: u16 = 0x7c;

const CARD: u16 = 0x1234;
const NOBODY: u16 = 0xffff;
/// Button and link are listened to, and the power is on or off.
const ON: u16 = 0x1121;
const OFF: u16 = 0x1721;

/// A card with 4 KiB of registers, all of which read as it was told.
struct Card {
    config: Mutex<ConfigSpace>,
    value: Mutex<u8>,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    at: Option<Address>,
    resets: u32,
    retired: bool,
}

impl Card {
    fn new() -> Arc<Self> {
        let mut config = ConfigSpace::new(&Identity {
            vendor: CARD,
            device: 1,
            class: 0xff_0000,
            revision: 0,
            subsystem_vendor: 0,
            subsystem: 0,
        });
        config.add_bar(0, Bar::new(BarKind::Memory32, 0x1000).unwrap());
        Arc::new(Self {
            config: Mutex::new(config),
            value: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap()
    }
}

impl PciDevice for Card {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        self.config.lock().unwrap().read(register, data);
    }

    fn write_config(&self, at: Address, register: u16, data: &[u8]) -> bool {
        self.seen.lock().unwrap().at = Some(at);
        self.config.lock().unwrap().write(register, data);
        true
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        let bar = self.config.lock().unwrap().bar(0);
        bar.map(|range| (0, range)).into_iter().collect()
    }

    fn read_bar(&self, bar: usize, offset: u64, data: &mut [u8]) {
        assert!(bar == 0 && offset + (data.len() as u64) <= 0x1000);
        data.fill(*self.value.lock().unwrap());
    }

    fn write_bar(&self, bar: usize, offset: u64, data: &[u8]) {
        assert!(bar == 0 && offset + (data.len() as u64) <= 0x1000);
        *self.value.lock().unwrap() = data[0];
    }

    fn reset(&self) {
        self.seen.lock().unwrap().resets += 1;
        self.config.lock().unwrap().reset();
    }

    fn retire(&self) {
        self.seen.lock().unwrap().retired = true;
    }
}

/// A bus with a port on it, from where the guest is.
struct Bench {
    script: Script,
    bus: Arc<PciBus>,
    port: Arc<RootPort>,
    memory: Arc<dyn Attached>,
}

impl Bench {
    fn new() -> Self {
        let script = Script::new();
        let vm = script.create_vm().unwrap();
        let lines = |irq| -> Result<Box<dyn IrqLine>, HvError> { Ok(Box::new(vm.irq_line(irq)?)) };
        let bus = PciBus::new(WINDOWS, HostBridge::new(), &lines).unwrap();
        let pin = Pin::new(bus.line(PORT.device()));
        let port = RootPort::new(PORT, pin, &vm.interconnect());
        bus.insert_port(&port);
        let mut windows = bus.windows();
        let memory = windows.find(|(range, _)| range.start() == Gpa::new(MEMORY));
        let (_, memory) = memory.unwrap();
        drop(windows);
        Self {
            script,
            bus,
            port,
            memory,
        }
    }

    /// One whose guest has numbered the bus behind the port, and has a driver for the slot.
    fn served() -> Self {
        let bench = Self::new();
        bench.set_32(PORT, BUS_NUMBERS, 0x0005_0500);
        bench.set(PORT, SLOT_CONTROL, OFF);
        bench
    }

    /// One with a card that the guest has turned on and placed.
    fn in_use() -> (Self, Arc<Card>) {
        let bench = Self::served();
        let card = bench.plug();
        bench.turn_on();
        bench.place(SLOT, MEMORY);
        (bench, card)
    }

    fn plug(&self) -> Arc<Card> {
        let card = Card::new();
        let device: Arc<dyn PciDevice> = Arc::<Card>::clone(&card);
        self.port.plug(device);
        self.bus.survey();
        card
    }

    fn turn_on(&self) {
        self.set(PORT, SLOT_STATUS, 0xffff);
        self.set(PORT, SLOT_CONTROL, ON);
        self.set(PORT, SLOT_STATUS, 0xffff);
    }

    fn place(&self, function: Address, at: u64) {
        self.set_32(function, BAR_0, u32::try_from(at).unwrap());
        self.set(function, COMMAND, 0x6);
    }

    fn get(&self, function: Address, register: u16) -> u16 {
        let mut data = [0xff; 2];
        let at = ConfigAddress { function, register };
        self.bus.read_config(at, &mut data);
        u16::from_le_bytes(data)
    }

    fn set(&self, function: Address, register: u16, value: u16) {
        let at = ConfigAddress { function, register };
        self.bus.write_config(at, &value.to_le_bytes());
    }

    fn set_32(&self, function: Address, register: u16, value: u32) {
        let at = ConfigAddress { function, register };
        self.bus.write_config(at, &value.to_le_bytes());
    }

    /// What is read at an address in memory.
    fn load(&self, at: u64) -> u16 {
        let mut data = [0xff; 2];
        self.memory.read(at - MEMORY, &mut data);
        u16::from_le_bytes(data)
    }

    fn store(&self, at: u64, value: u8) {
        assert!(self.memory.write(at - MEMORY, &[value; 2]).is_none());
    }

    /// How the port's line was driven.
    fn driven(&self) -> Vec<bool> {
        let record = self.script.record().into_iter();
        record
            .filter_map(|record| match record {
                Record::Irq(LINE, high) => Some(high),
                _ => None,
            })
            .collect()
    }
}

fn at(bus: u8, device: u8, function: u8) -> Address {
    Address::new(bus, device, function).unwrap()
}

#[test]
fn configuration_space_is_where_bus_device_and_function_say() {
    let (bench, card) = Bench::in_use();
    assert_eq!(bench.get(at(0, 0, 0), 0), 0x1b36, "the host bridge");
    assert_eq!(bench.get(PORT, 0), 0x1b36);
    assert_eq!(bench.get(SLOT, 0), CARD);
    for nobody in [
        at(0, 2, 0),
        at(0, 1, 1),
        at(5, 1, 0),
        at(5, 0, 1),
        at(6, 0, 0),
    ] {
        assert_eq!(bench.get(nobody, 0), NOBODY, "{nobody}");
        bench.set(nobody, COMMAND, 0);
    }
    assert_eq!(card.seen().at, Some(SLOT));
}

#[test]
fn what_is_behind_a_port_follows_the_number_of_its_bus() {
    let (bench, card) = Bench::in_use();
    bench.set_32(PORT, BUS_NUMBERS, 0x0007_0700);
    assert_eq!(bench.get(SLOT, 0), NOBODY);
    let elsewhere = at(7, 0, 0);
    assert_eq!(bench.get(elsewhere, 0), CARD);
    bench.set(elsewhere, COMMAND, 0x6);
    assert_eq!(card.seen().at, Some(elsewhere), "it learns where it is");
}

#[test]
fn a_bar_answers_where_the_guest_has_placed_it() {
    let (bench, _card) = Bench::in_use();
    bench.store(MEMORY + 8, 0x5a);
    assert_eq!(bench.load(MEMORY + 0xffe), 0x5a5a);
    assert_eq!(bench.load(MEMORY + 0xfff), NOBODY, "half of it is outside");
    bench.place(SLOT, MEMORY + 0x3000);
    assert_eq!(bench.load(MEMORY), NOBODY);
    assert_eq!(bench.load(MEMORY + 0x3000), 0x5a5a);
    bench.set(SLOT, COMMAND, 0);
    assert_eq!(bench.load(MEMORY + 0x3000), NOBODY);
}

#[test]
fn what_is_plugged_answers_once_its_slot_has_power() {
    let bench = Bench::served();
    let _card = bench.plug();
    assert_eq!(bench.get(PORT, SLOT_STATUS), 0x49);
    assert_eq!(bench.driven(), [true]);
    assert_eq!(bench.get(SLOT, 0), NOBODY);
    bench.turn_on();
    assert_eq!(bench.driven().last(), Some(&false));
    assert_eq!(bench.get(SLOT, 0), CARD);
}

#[test]
fn what_has_been_let_go_of_is_out_and_answers_nowhere() {
    let (bench, card) = Bench::in_use();
    assert!(bench.port.request_unplug().is_ok());
    assert_eq!(bench.get(PORT, SLOT_STATUS), 0x41);
    assert_eq!((bench.get(SLOT, 0), card.seen().retired), (CARD, false));
    bench.set(PORT, SLOT_CONTROL, OFF);
    assert!(card.seen().retired && bench.port.plugged().is_none());
    assert_eq!(bench.get(SLOT, 0), NOBODY);
    assert_eq!(bench.load(MEMORY), NOBODY);
    bench.store(MEMORY, 1);
    assert_eq!(*card.value.lock().unwrap(), 0);
    assert_eq!(Arc::strong_count(&card), 1, "nobody else has it");

    let next = bench.plug();
    bench.turn_on();
    assert_eq!((bench.get(SLOT, 0), next.seen().retired), (CARD, false));
}

#[test]
fn power_off_without_a_request_resets_the_card_and_leaves_it_in() {
    let (bench, card) = Bench::in_use();
    bench.set(PORT, SLOT_CONTROL, OFF);
    assert_eq!((card.seen().resets, card.seen().retired), (1, false));
    assert_eq!(bench.get(SLOT, 0), NOBODY);
    assert_eq!(bench.load(MEMORY), NOBODY);
    bench.set(PORT, SLOT_CONTROL, ON);
    assert_eq!(bench.get(SLOT, 0), CARD);
    bench.set(PORT, SLOT_CONTROL, OFF);
    assert!(bench.port.request_unplug().is_ok(), "nobody need be asked");
    assert!(card.seen().retired && bench.port.plugged().is_none());
}

#[test]
fn a_reset_of_the_secondary_bus_resets_what_is_on_it() {
    let (bench, card) = Bench::in_use();
    bench.set(PORT, BRIDGE_CONTROL, 0x40);
    assert_eq!(card.seen().resets, 1);
    assert_eq!((bench.get(SLOT, 0), bench.load(MEMORY)), (NOBODY, NOBODY));
    bench.set(PORT, BRIDGE_CONTROL, 0);
    assert_eq!((bench.get(SLOT, 0), bench.load(MEMORY)), (CARD, NOBODY));
    bench.place(SLOT, MEMORY);
    assert_eq!(bench.load(MEMORY), 0);
}

#[test]
fn messages_carry_the_address_of_the_port() {
    let bench = Bench::served();
    bench.set_32(PORT, MSI + 4, 0xfee0_0000);
    bench.set(PORT, MSI + 12, 0x41);
    bench.set(PORT, MSI + 2, 1);
    bench.set(PORT, COMMAND, 0x4);
    bench.plug();
    let message = Record::Message(firstlight_hv::Message {
        address: Gpa::new(0xfee0_0000),
        data: 0x41,
        requester: PORT.routing_id().into(),
    });
    assert_eq!(bench.script.record().last(), Some(&message));
    assert_eq!(bench.driven(), [false; 0]);
}

#[test]
fn a_bus_that_retires_stops_what_is_behind_its_ports() {
    let (bench, card) = Bench::in_use();
    bench.bus.retire();
    assert!(card.seen().retired);
}
