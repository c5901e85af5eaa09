//! What a driver sees, and what can be said of a battery.

use super::*;
use crate::chip::tests::survives_every_access;
use alloc::string::ToString;

fn word(battery: &mut GoldfishBattery, offset: u64) -> u32 {
    let mut data = [0; 4];
    battery.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn enable(battery: &mut GoldfishBattery, changes: u32) {
    assert_eq!(battery.write(0x04, &changes.to_le_bytes()), None);
}

fn full() -> GoldfishBattery {
    GoldfishBattery::new(BatteryState::default())
}

#[test]
fn every_register_says_its_own() {
    let state = BatteryState::default();
    let words = "ac=off,status=discharging,health=cold,capacity=80,voltage=3700000,temperature=-15,\
                 charge=5,charge-full=6,current=-7,current-average=-8,cycles=9,ac-voltage=1,ac-current=2";
    let mut battery = GoldfishBattery::new(state.with(words).unwrap());
    let registers = [
        (0x08, 0),
        (0x0c, 2),
        (0x10, 6),
        (0x14, 1),
        (0x18, 80),
        (0x1c, 3_700_000),
        (0x20, (-15_i32).cast_unsigned()),
        (0x24, 5),
        (0x28, 1),
        (0x2c, 2),
        (0x30, (-7_i32).cast_unsigned()),
        (0x34, (-8_i32).cast_unsigned()),
        (0x38, 6),
        (0x3c, 0),
        (0x40, 9),
    ];
    for (offset, value) in registers {
        assert_eq!(word(&mut battery, offset), value, "{offset:#x}");
    }
}

#[test]
fn a_change_is_an_interrupt_until_the_guest_asks() {
    let mut battery = full();
    enable(&mut battery, 3);
    assert!(!battery.irq());
    let low = battery.state().with("capacity=7,status=discharging");
    battery.set_state(low.unwrap()).unwrap();
    assert!(battery.irq());
    assert_eq!(word(&mut battery, 0), 1);
    assert!(!battery.irq());
    assert_eq!((word(&mut battery, 0), word(&mut battery, 0x18)), (0, 7));
    battery.set_state(BatteryState::default()).unwrap();
    let off = battery.state().with("ac=off").unwrap();
    battery.set_state(off).unwrap();
    assert_eq!(word(&mut battery, 0), 3);
    battery.set_state(off).unwrap();
    assert!(!battery.irq(), "nothing has changed");
}

#[test]
fn what_changes_before_the_driver_listens_it_is_told_then() {
    let mut battery = full();
    let off = battery.state().with("ac=off").unwrap();
    battery.set_state(off).unwrap();
    assert!(!battery.irq());
    assert_eq!(word(&mut battery, 0), 0, "it has not asked for any");
    enable(&mut battery, 1);
    assert!(!battery.irq());
    enable(&mut battery, !0);
    assert!(battery.irq());
    assert_eq!((word(&mut battery, 4), word(&mut battery, 0)), (3, 2));
}

#[test]
fn a_guest_cannot_write_how_its_battery_stands() {
    let mut battery = full();
    survives_every_access(&mut battery, GoldfishBattery::LEN);
    assert_eq!(battery.state(), BatteryState::default());
}

#[test]
fn how_full_it_is_says_what_is_in_it_unless_that_is_said() {
    let of = |words| {
        let state = BatteryState::default().with(words).unwrap();
        (state.capacity, state.charge_uah)
    };
    assert_eq!(of("capacity=50"), (50, 1_500_000));
    assert_eq!(of("charge=1,capacity=50"), (50, 1));
    assert_eq!(of(""), (100, 3_000_000));
    let odd = BatteryState::default()
        .with("charge=1,capacity=50")
        .unwrap();
    assert_eq!(odd.with("cycles=3").unwrap().charge_uah, 1);
}

#[test]
fn what_no_battery_can_be_is_named() {
    let said = |words| {
        let state = BatteryState::default().with(words);
        state.unwrap_err().to_string()
    };
    assert_eq!(
        said("capacity=101"),
        "a battery has at most 100 percent, not 101"
    );
    assert_eq!(
        said("capacity=256"),
        "capacity is a number of percent, at most 100, not `256`"
    );
    assert!(said("colour=red").starts_with("`colour` is not known of a battery; ac, present,"));
    assert_eq!(said("ac"), "ac is on or off, not ``");
    assert!(said("ac=on,status=empty").contains("discharging"));
    for key in BatteryState::KEYS {
        assert!(said(key).starts_with(&(key.to_string() + " is ")), "{key}");
    }
    let mut battery = full();
    let wrong = BatteryState {
        capacity: 101,
        ..battery.state()
    };
    battery.set_state(wrong).unwrap_err();
    assert_eq!(battery.state(), BatteryState::default());
}

#[test]
fn what_a_battery_is_said_to_be_can_be_said_of_another() {
    let words = "capacity=7,status=not-charging,health=cold,temperature=-40,ac=off,cycles=3";
    let state = BatteryState::default().with(words).unwrap();
    let said = state.to_string();
    assert_eq!(BatteryState::default().with(&said), Ok(state));
    for key in BatteryState::KEYS {
        assert!(
            said.split(',')
                .any(|word| word.split('=').next() == Some(key)),
            "{key}: {said}"
        );
    }
}
