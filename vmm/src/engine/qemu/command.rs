//! QEMU's command line for a platform.

use firstlight_boot::Pc;
use rustix::fd::RawFd;

/// What QEMU inherits, by number.
pub(super) struct Handed {
    /// Guest RAM.
    pub(super) memory: RawFd,
    /// The ROM at the reset vector.
    pub(super) rom: RawFd,
    /// The first serial port.
    pub(super) console: RawFd,
    /// The machine protocol.
    pub(super) monitor: RawFd,
    /// Where the log goes.
    pub(super) log: RawFd,
}

/// The machine: that whose addresses [`Pc`] has. The PIT is there for kernels that do not
/// take their timer's frequency from the command line, the PIC for those told `acpi=off`.
const MACHINE: &str =
    "microvm,acpi=on,pic=on,pit=on,rtc=on,isa-serial=off,usb=off,memory-backend=ram";

/// Everything that QEMU emulates, and a time stamp counter that Linux trusts. QEMU's counter is
/// the host's, which is constant and the same on all vCPUs, but QEMU does not say so by itself;
/// without these two features Linux has no usable clock on a machine with two AMD processors.
/// Five-level page tables would cost time and give nothing.
const CPU: &str = "max,x-force-features=on,invtsc=on,tsc-adjust=on,la57=off";

/// What the process may not do once the guest runs.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// How many bytes of RAM QEMU is told to have: it counts in steps of 8 KiB
/// (`softmmu/vl.c`, `set_memory_options`).
pub(super) fn ram_bytes(platform: &Pc) -> u64 {
    const STEP: u64 = 8192;
    let bytes: u64 = platform.ram.iter().map(|range| range.len()).sum();
    bytes.next_multiple_of(STEP)
}

/// The arguments. The guest is not started: it waits for the monitor's word.
pub(super) fn arguments(platform: &Pc, handed: &Handed) -> Vec<String> {
    let Handed {
        memory,
        rom,
        console,
        monitor,
        log,
    } = handed;
    let bytes = ram_bytes(platform);
    let mut arguments: Vec<String> = [
        "-no-user-config",
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-accel",
        "tcg",
        "-machine",
        MACHINE,
        "-cpu",
        CPU,
        "-sandbox",
        SANDBOX,
        // A machine that has stopped stays, so that its registers can be read.
        "-action",
        "reboot=shutdown,shutdown=pause,panic=pause",
        "-rtc",
        "base=utc",
        // The log tells a triple fault from other resets.
        "-d",
        "cpu_reset",
    ]
    .map(str::to_owned)
    .into();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("-D", format!("/proc/self/fd/{log}"));
    option("-smp", platform.cpus.to_string());
    option("-m", format!("{}k", bytes >> 10));
    option(
        "-object",
        format!("memory-backend-file,id=ram,size={bytes},mem-path=/proc/self/fd/{memory},share=on"),
    );
    option("-bios", format!("/proc/self/fd/{rom}"));
    option("-chardev", format!("socket,id=monitor,fd={monitor}"));
    option("-mon", "chardev=monitor,mode=control".to_owned());
    option("-chardev", format!("socket,id=console,fd={console}"));
    option("-chardev", "null,id=nobody".to_owned());
    for (index, port) in platform.serial.iter().enumerate() {
        let to = if index == 0 { "console" } else { "nobody" };
        let (base, irq) = (port.base, port.irq);
        option(
            "-device",
            format!("isa-serial,index={index},iobase={base},irq={irq},chardev={to}"),
        );
    }
    option("-device", format!("pvpanic,ioport={:#x}", Pc::PVPANIC.0));
    if let Some(port) = platform.debug_exit {
        option("-device", format!("isa-debug-exit,iobase={port},iosize=1"));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::{GIB, MIB};

    const HANDED: Handed = Handed {
        memory: 10,
        rom: 11,
        console: 12,
        monitor: 13,
        log: 14,
    };

    fn line(platform: &Pc) -> String {
        arguments(platform, &HANDED).join(" ")
    }

    #[test]
    fn addresses_are_those_of_the_platform() {
        let line = line(&Pc::new(512 * MIB, 2));
        assert!(line.contains("isa-serial,index=0,iobase=0x3f8,irq=4,chardev=console"));
        assert!(line.contains("pvpanic,ioport=0x505"));
        assert!(line.contains("-smp 2"));
        assert!(line.contains("-m 524288k"));
        assert!(line.contains("size=536870912,mem-path=/proc/self/fd/10,share=on"));
        assert!(!line.contains("isa-debug-exit"));
    }

    #[test]
    fn the_guest_gets_the_debug_exit_port_where_the_platform_has_it() {
        let mut platform = Pc::new(64 * MIB, 1);
        platform.debug_exit = Some(Pc::DEBUG_EXIT);
        assert!(line(&platform).contains("isa-debug-exit,iobase=0x0f4,iosize=1"));
    }

    #[test]
    fn both_sides_of_the_device_hole_are_counted_and_odd_pages_rounded_up() {
        assert_eq!(ram_bytes(&Pc::new(5 * GIB, 1)), 5 * GIB);
        assert_eq!(ram_bytes(&Pc::new(64 * MIB + 4096, 1)), 64 * MIB + 8192);
    }
}
