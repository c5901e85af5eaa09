//! The boards of the machines that no x86 host runs, with lines that are written down.

use super::*;
use crate::LinuxArch;
use crate::arch::{Aarch64, Riscv64};
use crate::testing::{self, Person};
use firstlight_base::MIB;
use firstlight_boot::platform::{VirtArm64, VirtRiscv64};
use firstlight_hv::script::{Record, Script};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};

/// A board and who sees its lines.
struct Bench {
    board: Board,
    script: Script,
}

impl Bench {
    fn of<A: LinuxArch>(platform: &A::Platform) -> Self {
        let script = Script::new();
        let board = testing::board::<A>(&script, platform);
        Self { board, script }
    }

    fn arm64() -> Self {
        let mut machine = VirtArm64::new(64 * MIB, 1);
        machine.battery = true;
        Self::of::<Aarch64>(&machine)
    }

    fn riscv64() -> Self {
        let mut machine = VirtRiscv64::new(64 * MIB, 1);
        machine.battery = true;
        Self::of::<Riscv64>(&machine)
    }

    fn read<const WIDTH: usize>(&self, range: GpaRange, offset: u64) -> u64 {
        let mut data = [0x55; WIDTH];
        self.board.read(access(range, offset), &mut data);
        let mut value = [0; 8];
        value[..WIDTH].copy_from_slice(&data);
        u64::from_le_bytes(value)
    }

    fn write<const WIDTH: usize>(&self, range: GpaRange, offset: u64, value: u64) -> Option<Stop> {
        let value = &value.to_le_bytes()[..WIDTH];
        self.board.write(access(range, offset), value)
    }

    /// How the line was driven.
    fn driven(&self, line: Irq) -> Vec<bool> {
        self.script
            .record()
            .into_iter()
            .filter_map(|record| match record {
                Record::Irq(irq, high) if irq == line => Some(high),
                _ => None,
            })
            .collect()
    }

    fn bell_rings(&self) -> bool {
        readable(
            self.board.reports().bell().as_fd(),
            Some(&Timespec::default()),
        )
    }

    /// Types `typed` as the session does, to a guest that reads what there is whenever the line
    /// is high; with what the guest received.
    fn types(&self, typed: &[u8], line: Irq, mut read: impl FnMut() -> Option<u8>) -> Vec<u8> {
        let mut rest = typed;
        let mut received = vec![];
        while received.len() < typed.len() {
            let taken = self.board.console().unwrap().send(rest);
            rest = &rest[taken..];
            assert!(taken > 0 && !self.bell_rings());
            assert_eq!(self.driven(line).last(), Some(&true));
            received.extend(std::iter::from_fn(&mut read));
            assert_eq!(self.driven(line).last(), Some(&false));
            assert_eq!(self.bell_rings(), !rest.is_empty());
            self.board.reports().bell().answer();
        }
        received
    }
}

fn access(range: GpaRange, offset: u64) -> Access {
    Access::Mmio(Gpa::new(range.start().get() + offset))
}

fn readable(fd: BorrowedFd<'_>, timeout: Option<&Timespec>) -> bool {
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], timeout).unwrap() == 1
}

#[test]
fn what_an_arm64_guest_writes_to_its_pl011_is_on_the_console() {
    let bench = Bench::arm64();
    let (console, person) = Person::at_a_console();
    bench.board.connect(console.output());
    for byte in *b"Booting Linux\n" {
        bench.write::<1>(VirtArm64::UART, 0, byte.into());
    }
    drop((bench, console));
    assert_eq!(person.saw(), "Booting Linux\n");
}

#[test]
fn what_a_riscv64_guest_writes_to_its_16550_is_on_the_console() {
    let bench = Bench::riscv64();
    let (console, person) = Person::at_a_console();
    bench.board.connect(console.output());
    for byte in *b"Linux version\n" {
        assert_eq!(bench.read::<1>(VirtRiscv64::UART, 5) & 0x60, 0x60);
        bench.write::<1>(VirtRiscv64::UART, 0, byte.into());
    }
    drop((bench, console));
    assert_eq!(person.saw(), "Linux version\n");
}

#[test]
fn an_arm64_guest_receives_all_that_is_typed_by_a_level() {
    let bench = Bench::arm64();
    bench.write::<4>(VirtArm64::UART, 0x2c, 0x70);
    bench.write::<4>(VirtArm64::UART, 0x38, 0x50);
    let typed: Vec<u8> = (0..200).collect();
    let received = bench.types(&typed, VirtArm64::UART_IRQ, || {
        let is_empty = bench.read::<4>(VirtArm64::UART, 0x18) & 0x10 != 0;
        (!is_empty).then(|| u8::try_from(bench.read::<4>(VirtArm64::UART, 0)).unwrap())
    });
    assert_eq!(received, typed);
}

#[test]
fn a_riscv64_guest_receives_all_that_is_typed_by_a_level() {
    let bench = Bench::riscv64();
    bench.write::<1>(VirtRiscv64::UART, 1, 1);
    let typed: Vec<u8> = (0..200).collect();
    let received = bench.types(&typed, VirtRiscv64::UART_IRQ, || {
        let has_data = bench.read::<1>(VirtRiscv64::UART, 5) & 1 != 0;
        has_data.then(|| u8::try_from(bench.read::<1>(VirtRiscv64::UART, 0)).unwrap())
    });
    assert_eq!(received, typed);
}

#[test]
fn the_line_is_driven_only_when_its_level_changes() {
    let bench = Bench::arm64();
    bench.write::<4>(VirtArm64::UART, 0x38, 0x20);
    for _ in 0..10 {
        bench.write::<4>(VirtArm64::UART, 0, 0x41);
    }
    bench.write::<4>(VirtArm64::UART, 0x44, 0x20);
    bench.write::<4>(VirtArm64::UART, 0x44, 0x20);
    assert_eq!(bench.driven(VirtArm64::UART_IRQ), [true, false]);
}

#[test]
fn input_that_waited_for_a_guest_in_loopback_comes_when_that_ends() {
    let bench = Bench::arm64();
    bench.write::<4>(VirtArm64::UART, 0x30, 0x381);
    assert_eq!(bench.board.console().unwrap().send(b"a"), 0);
    bench.read::<4>(VirtArm64::UART, 0x18);
    assert!(!bench.bell_rings());
    bench.write::<4>(VirtArm64::UART, 0x30, 0x301);
    assert!(bench.bell_rings());
    assert_eq!(bench.board.console().unwrap().send(b"a"), 1);
}

#[test]
fn a_riscv64_guest_turns_off_resets_or_fails_by_its_finisher() {
    let bench = Bench::riscv64();
    let finish = |value| bench.write::<4>(VirtRiscv64::FINISHER, 0, value);
    assert!(matches!(finish(0x5555), Some(Stop::PowerOff)));
    assert!(matches!(finish(0x7777), Some(Stop::Reset)));
    assert!(matches!(finish(0x0003_3333), Some(Stop::ExitCode(3))));
    assert!(finish(0).is_none());
}

#[test]
fn both_clocks_tell_the_hosts_time() {
    let before = now();
    let seconds = Bench::arm64().read::<4>(VirtArm64::RTC, 0);
    let nanoseconds = Bench::riscv64().read::<8>(VirtRiscv64::RTC, 0);
    let after = now();
    assert!((before.secs()..=after.secs()).contains(&seconds));
    let read = UnixTime(std::time::Duration::from_nanos(nanoseconds));
    assert!((before..=after).contains(&read));
}

#[test]
fn an_alarm_wakes_the_session_and_raises_the_line_until_it_is_cleared() {
    let bench = Bench::riscv64();
    let [clock] = bench.board.timed() else {
        panic!("one clock");
    };
    let at = bench.read::<8>(VirtRiscv64::RTC, 0) + 20_000_000;
    bench.write::<4>(VirtRiscv64::RTC, 0x0c, at >> 32);
    bench.write::<4>(VirtRiscv64::RTC, 0x08, at & 0xffff_ffff);
    bench.write::<4>(VirtRiscv64::RTC, 0x10, 1);
    while bench.driven(VirtRiscv64::RTC_IRQ).is_empty() {
        assert!(readable(clock.fd(), None));
        clock.ring();
    }
    assert!(bench.read::<8>(VirtRiscv64::RTC, 0) >= at);
    bench.write::<4>(VirtRiscv64::RTC, 0x1c, 1);
    assert_eq!(bench.driven(VirtRiscv64::RTC_IRQ), [true, false]);
    assert!(!readable(clock.fd(), Some(&Timespec::default())), "stopped");
}

#[test]
fn a_later_alarm_replaces_an_earlier_and_a_masked_one_does_not_wake() {
    let bench = Bench::arm64();
    let [clock] = bench.board.timed() else {
        panic!("one clock");
    };
    bench.write::<4>(VirtArm64::RTC, 0x10, 1);
    bench.write::<4>(VirtArm64::RTC, 0x08, 1000);
    bench.write::<4>(VirtArm64::RTC, 0x04, 1000);
    assert_eq!(bench.driven(VirtArm64::RTC_IRQ), [true]);
    bench.write::<4>(VirtArm64::RTC, 0x1c, 1);
    for alarm in [2000, 0] {
        bench.write::<4>(VirtArm64::RTC, 0x04, alarm);
        assert!(!readable(clock.fd(), Some(&Timespec::default())));
    }
    assert_eq!(bench.driven(VirtArm64::RTC_IRQ), [true, false]);
}

#[test]
fn a_battery_that_is_set_interrupts_until_the_guest_has_asked() {
    for (bench, range, line) in [
        (Bench::arm64(), VirtArm64::BATTERY, VirtArm64::BATTERY_IRQ),
        (
            Bench::riscv64(),
            VirtRiscv64::BATTERY,
            VirtRiscv64::BATTERY_IRQ,
        ),
    ] {
        bench.write::<4>(range, 0x04, 3);
        let battery = bench.board.battery().unwrap();
        let low = battery.get().with("capacity=9,status=discharging,ac=off");
        let low = low.unwrap();
        battery.set(low).unwrap();
        assert_eq!(battery.get(), low);
        assert_eq!(bench.driven(line), [true]);
        assert_eq!(bench.read::<4>(range, 0x00), 3);
        assert_eq!(bench.driven(line), [true, false]);
        battery.set(low).unwrap();
        assert_eq!(bench.driven(line), [true, false], "nothing has changed");
        assert_eq!(bench.read::<4>(range, 0x18), 9);
        assert_eq!(bench.read::<4>(range, 0x44), 0xffff_ffff);
    }
}

#[test]
fn every_width_of_every_register_of_the_virt_boards_is_survived() {
    for (bench, ranges) in [
        (
            Bench::arm64(),
            [VirtArm64::UART, VirtArm64::RTC, VirtArm64::BATTERY],
        ),
        (
            Bench::riscv64(),
            [VirtRiscv64::UART, VirtRiscv64::RTC, VirtRiscv64::BATTERY],
        ),
    ] {
        for range in ranges {
            for offset in (0..0x60).chain([range.len() - 4, range.len() - 1]) {
                for value in [0, 1, 0x5555_5555_5555_5555, u64::MAX] {
                    assert!(bench.write::<1>(range, offset, value).is_none());
                    assert!(bench.write::<4>(range, offset, value).is_none());
                    assert!(bench.write::<8>(range, offset, value).is_none());
                    bench.read::<1>(range, offset);
                    bench.read::<2>(range, offset);
                    bench.read::<8>(range, offset);
                }
            }
        }
    }
}
