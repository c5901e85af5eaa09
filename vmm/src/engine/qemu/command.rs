//! QEMU's command line for a platform.

mod pc;
mod virt_arm64;
mod virt_riscv64;
mod virtio;

use super::debugger;
use crate::Devices;
use firstlight_boot::platform::VirtRiscv64;
use firstlight_boot::{Pc, Platform};
use rustix::fd::RawFd;

/// What QEMU inherits, by number.
pub(super) struct Handed {
    /// Guest RAM.
    pub(super) memory: RawFd,
    /// The ROM that the processor comes out of reset in; without one it begins where RAM does.
    pub(super) rom: Option<RawFd>,
    /// The banks of its flash, where it has any, with the firmware's first.
    pub(super) flash: Option<[RawFd; 2]>,
    /// The first serial port.
    pub(super) console: RawFd,
    /// The machine protocol.
    pub(super) monitor: RawFd,
    /// The debugger's.
    pub(super) debugger: RawFd,
    /// Where the log goes.
    pub(super) log: RawFd,
    /// The virtio console, where the terminal is joined to it.
    pub(super) virtio_console: Option<RawFd>,
    /// The port on which the guest writes a status of its own.
    pub(super) status: Option<RawFd>,
    /// The debug console.
    pub(super) debugcon: Option<RawFd>,
    /// The files that the firmware is offered, in order.
    pub(super) files: Vec<RawFd>,
    /// What serves each of the folders that are shared.
    pub(super) shares: Vec<RawFd>,
}

/// What the process may not do once the guest runs.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// How many bytes of RAM QEMU is told to have: it counts in steps of 8 KiB
/// (`softmmu/vl.c`, `set_memory_options`).
pub(super) fn ram_bytes(platform: &Platform) -> u64 {
    const STEP: u64 = 8192;
    let bytes: u64 = platform.ram().iter().map(|range| range.len()).sum();
    bytes.next_multiple_of(STEP)
}

/// The arguments. The guest is not started: it waits for the monitor's word.
pub(super) fn arguments(platform: &Platform, equipment: &Devices, handed: &Handed) -> Vec<String> {
    let Handed {
        memory,
        rom,
        flash,
        console,
        monitor,
        debugger,
        log,
        virtio_console: _,
        status: _,
        debugcon,
        files,
        shares: _,
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
        "-sandbox",
        SANDBOX,
        // A machine that has stopped stays, so that its registers can be read.
        "-action",
        "reboot=shutdown,shutdown=pause,panic=pause,watchdog=pause",
        "-rtc",
        "base=utc",
        // The log tells a triple fault from other resets.
        "-d",
        "cpu_reset",
    ]
    .map(str::to_owned)
    .into();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("-machine", machine(platform));
    for (name, value) in flash
        .iter()
        .flat_map(|banks| flash_options(platform, *banks))
    {
        option(name, value);
    }
    option("-cpu", cpu(platform));
    option("-D", format!("/proc/self/fd/{log}"));
    option("-smp", platform.cpus().to_string());
    option("-m", format!("{}k", bytes >> 10));
    option(
        "-object",
        format!("memory-backend-file,id=ram,size={bytes},mem-path=/proc/self/fd/{memory},share=on"),
    );
    match rom {
        Some(rom) => option("-bios", format!("/proc/self/fd/{rom}")),
        // A bank of flash is where it would be.
        None if flash.is_some() && !matches!(platform, Platform::VirtRiscv64(_)) => {}
        None => option("-bios", "none".to_owned()),
    }
    option("-chardev", format!("socket,id=monitor,fd={monitor}"));
    option("-mon", "chardev=monitor,mode=control".to_owned());
    option(
        "-chardev",
        format!("socket,id={},fd={debugger}", debugger::NAME),
    );
    option("-chardev", format!("socket,id=console,fd={console}"));
    if let Some(debugcon) = debugcon {
        let port = Pc::DEBUGCON;
        option("-chardev", format!("socket,id=debugcon,fd={debugcon}"));
        option(
            "-device",
            format!("isa-debugcon,iobase={port},chardev=debugcon"),
        );
    }
    for (file, fd) in equipment.files.iter().zip(files) {
        // Commas are what QEMU divides by.
        let name = file.name.replace(',', ",,");
        option("-fw_cfg", format!("name={name},file=/proc/self/fd/{fd}"));
    }
    for (name, value) in devices(platform)
        .into_iter()
        .chain(virtio::options(equipment, handed))
    {
        option(name, value);
    }
    arguments
}

/// The banks of flash. A RISC-V machine would have its harts begin in the first, not in the firmware for
/// machine mode, if that bank were a file (`hw/riscv/virt.c` of QEMU 7.2, `virt_machine_done`).
fn flash_options(
    platform: &Platform,
    [code, variables]: [RawFd; 2],
) -> [(&'static str, String); 2] {
    let drive = |unit: u8, fd: RawFd, is_readonly: &str| {
        let drive = format!(
            "if=pflash,unit={unit},format=raw,readonly={is_readonly},file=/proc/self/fd/{fd},\
             file.locking=off"
        );
        ("-drive", drive)
    };
    let code = match platform {
        Platform::VirtRiscv64(_) => {
            let at = VirtRiscv64::FLASH.code.start().get();
            let loader = format!("loader,addr={at:#x},file=/proc/self/fd/{code},force-raw=on");
            ("-device", loader)
        }
        Platform::Pc(_) | Platform::VirtArm64(_) => drive(0, code, "on"),
    };
    [code, drive(1, variables, "off")]
}

fn machine(platform: &Platform) -> String {
    match platform {
        Platform::Pc(pc) => pc::machine(pc),
        Platform::VirtArm64(virt) => virt_arm64::machine(virt),
        Platform::VirtRiscv64(virt) => virt_riscv64::machine(virt),
    }
}

fn cpu(platform: &Platform) -> String {
    match platform {
        Platform::Pc(_) => pc::CPU.to_owned(),
        Platform::VirtArm64(virt) => virt_arm64::cpu(virt),
        Platform::VirtRiscv64(virt) => virt_riscv64::cpu(virt),
    }
}

/// What the machine does not have by itself, and what its serial port is connected to.
fn devices(platform: &Platform) -> Vec<(&'static str, String)> {
    match platform {
        Platform::Pc(pc) => pc::devices(pc),
        Platform::VirtArm64(_) | Platform::VirtRiscv64(_) => {
            vec![("-serial", "chardev:console".to_owned())]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Tag;
    use crate::{Disk, ForeignDevice, ForeignKind, Net, Transport};
    use firstlight_base::{GIB, MIB};
    use firstlight_boot::platform::{Gic, VirtArm64};

    const HANDED: Handed = Handed {
        memory: 10,
        rom: Some(11),
        flash: None,
        console: 12,
        monitor: 13,
        debugger: 14,
        log: 15,
        virtio_console: None,
        status: None,
        debugcon: None,
        files: Vec::new(),
        shares: Vec::new(),
    };

    fn line(platform: &Platform) -> String {
        arguments(platform, &Devices::default(), &HANDED).join(" ")
    }

    #[test]
    fn addresses_are_those_of_the_platform() {
        let line = line(&Platform::Pc(Pc::new(512 * MIB, 2)));
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
        assert!(line(&Platform::Pc(platform)).contains("isa-debug-exit,iobase=0x0f4,iosize=1"));
    }

    #[test]
    fn the_debug_console_is_where_the_platform_has_it() {
        let platform = Platform::Pc(Pc::new(64 * MIB, 1));
        let handed = Handed {
            debugcon: Some(17),
            ..HANDED
        };
        let line = arguments(&platform, &Devices::default(), &handed).join(" ");
        assert!(line.contains("socket,id=debugcon,fd=17"));
        assert!(line.contains("isa-debugcon,iobase=0x402,chardev=debugcon"));
    }

    #[test]
    fn both_sides_of_the_device_hole_are_counted_and_odd_pages_rounded_up() {
        let ram_bytes = |memory| ram_bytes(&Platform::Pc(Pc::new(memory, 1)));
        assert_eq!(ram_bytes(5 * GIB), 5 * GIB);
        assert_eq!(ram_bytes(64 * MIB + 4096), 64 * MIB + 8192);
    }

    #[test]
    fn an_arm_machine_has_the_interrupt_controller_and_levels_of_the_platform() {
        let mut platform = VirtArm64::new(512 * MIB, 4);
        let line_of = |platform: &VirtArm64| line(&Platform::VirtArm64(platform.clone()));
        let line = line_of(&platform);
        assert!(line.contains("virt,gic-version=3,its=on,virtualization=off,"));
        assert!(line.contains("pmu=on"));
        assert!(line.contains("-serial chardev:console"));
        platform.gic = Gic::V2;
        platform.el2 = true;
        platform.pmu = false;
        let line = line_of(&platform);
        assert!(line.contains("virt,gic-version=2,virtualization=on,"));
        assert!(line.contains("pmu=off"));
    }

    #[test]
    fn a_riscv_hart_has_the_extensions_of_the_platform() {
        let mut platform = VirtRiscv64::new(512 * MIB, 4);
        platform.hart.isa.0.extend(["sstc".into(), "zba".into()]);
        let line = line(&Platform::VirtRiscv64(platform));
        let cpu = "-cpu rv64,h=off,v=off,zba=on,zbb=off,zbc=off,zbs=off,sstc=on,";
        assert!(line.contains(cpu), "{line}");
        assert!(line.contains("virt,aclint=off,aia=none,"));
    }

    #[test]
    fn devices_that_others_serve_are_reached_by_their_sockets() {
        let mut platform = Pc::new(64 * MIB, 1);
        platform.pci = Some(Pc::PCI);
        let of = |kind, socket: &str| ForeignDevice {
            kind,
            socket: socket.into(),
        };
        let tag = Tag::new("a,b").unwrap();
        let mut devices = Devices {
            foreign: vec![
                of(ForeignKind::Block, "/run/a,b"),
                of(ForeignKind::Fs(tag), "/run/fs"),
                of(ForeignKind::Net(Some([2, 0, 0, 0, 0, 0x1a])), "/run/net"),
            ],
            ..Devices::default()
        };
        let line = |platform: &Pc, devices: &Devices| {
            arguments(&Platform::Pc(platform.clone()), devices, &HANDED).join(" ")
        };
        let on_the_bus = line(&platform, &devices);
        for part in [
            "socket,id=foreign0,path=/run/a,,b",
            "vhost-user-blk-pci,disable-legacy=on,bus=pcie.0,addr=0x1,chardev=foreign0",
            "vhost-user-fs-pci,bus=pcie.0,addr=0x2,chardev=foreign1,tag=a,,b",
            "socket,id=foreign2,path=/run/net -netdev vhost-user,id=foreignnet2,chardev=foreign2",
            "addr=0x3,netdev=foreignnet2,mac=02:00:00:00:00:1a",
        ] {
            assert!(on_the_bus.contains(part), "{part} in {on_the_bus}");
        }
        devices.transport = Transport::Mmio;
        platform.pci = None;
        let in_memory = line(&platform, &devices);
        assert!(in_memory.contains("vhost-user-blk,bus=virtio-mmio-bus.0,chardev=foreign0"));
        assert!(in_memory.contains("vhost-user-fs-device,bus=virtio-mmio-bus.1,"));
    }

    #[test]
    fn devices_are_in_the_slots_in_which_kvm_has_them() {
        let mut platform = Pc::new(64 * MIB, 1);
        platform.pci = Some(Pc::PCI);
        let mut devices = Devices {
            disks: vec![Disk {
                path: "a,b.img".into(),
                readonly: true,
            }],
            nets: vec![Net::Tap("tap0".to_owned())],
            status_port: true,
            ..Devices::default()
        };
        let handed = Handed {
            status: Some(16),
            ..HANDED
        };
        let line = |platform: Pc, devices: &Devices| {
            arguments(&Platform::Pc(platform), devices, &handed).join(" ")
        };
        let on_the_bus = line(platform.clone(), &devices);
        for part in [
            "pcie=on",
            r#""filename":"a,b.img""#,
            r#""read-only":true"#,
            "virtio-blk-pci,disable-legacy=on,bus=pcie.0,addr=0x1,drive=disk0",
            "tap,id=net0,ifname=tap0,script=no,downscript=no",
            "virtio-net-pci,disable-legacy=on,bus=pcie.0,addr=0x2,netdev=net0",
            "virtio-serial-pci,disable-legacy=on,bus=pcie.0,addr=0x3,id=ports",
            "socket,id=status,fd=16",
            "virtserialport,nr=1,name=org.firstlight.status,bus=ports.0,chardev=status",
        ] {
            assert!(on_the_bus.contains(part), "{part} in {on_the_bus}");
        }
        devices.watchdog = true;
        let on_the_bus = line(platform.clone(), &devices);
        assert!(on_the_bus.contains("i6300esb,bus=pcie.0,addr=0x4"));
        devices.transport = Transport::Mmio;
        let in_memory = line(platform.clone(), &devices);
        assert!(in_memory.contains("i6300esb,bus=pcie.0,addr=0x1"));
        devices.watchdog = false;
        platform.pci = None;
        let in_memory = line(platform, &devices);
        assert!(in_memory.contains("pcie=off"));
        assert!(in_memory.contains("virtio-blk-device,bus=virtio-mmio-bus.0"));
        assert!(in_memory.contains("virtio-mmio.force-legacy=false"));
    }

    #[test]
    fn firmware_is_where_a_processor_begins_and_a_hart_comes_to_it_later() {
        let handed = Handed {
            flash: Some([20, 21]),
            rom: None,
            ..HANDED
        };
        let line = |platform| arguments(&platform, &Devices::default(), &handed).join(" ");
        let arm64 = line(Platform::VirtArm64(VirtArm64::new(512 * MIB, 1)));
        assert!(arm64.contains("if=pflash,unit=0,format=raw,readonly=on,file=/proc/self/fd/20"));
        assert!(arm64.contains("if=pflash,unit=1,format=raw,readonly=off,file=/proc/self/fd/21"));
        assert!(!arm64.contains("-bios"));
        let flash = Pc::flash(0x37_c000).expect("what OVMF has");
        let pc = Platform::Pc(Pc::with_flash(512 * MIB, 1, flash));
        let disks = Devices {
            disks: vec![Disk {
                path: "a".into(),
                readonly: true,
            }],
            ..Devices::default()
        };
        let pc = arguments(&pc, &disks, &handed).join(" ");
        assert!(pc.contains("-machine q35,"));
        assert!(pc.contains("max-ram-below-4g=2147483648,"));
        assert!(pc.contains("if=pflash,unit=0,") && pc.contains("if=pflash,unit=1,"));
        assert!(pc.contains("drive=disk0,serial=firstlight-0,bootindex=0"));
        assert!(!pc.contains("-bios"));
        let riscv64 = line(Platform::VirtRiscv64(VirtRiscv64::new(512 * MIB, 1)));
        assert!(riscv64.contains("loader,addr=0x20000000,file=/proc/self/fd/20,force-raw=on"));
        assert!(riscv64.contains("if=pflash,unit=1,"));
        assert!(riscv64.contains("-bios none"));
    }
}
