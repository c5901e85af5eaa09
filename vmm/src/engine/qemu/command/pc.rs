//! The x86 machine: that whose addresses [`Pc`] has.

use firstlight_boot::Pc;

/// The PIT is there for kernels that do not take their timer's frequency from the command line,
/// the PIC for those told `acpi=off`. With one I/O APIC the virtio transports have the lines of
/// [`Pc::VIRTIO`].
pub(super) fn machine(platform: &Pc) -> String {
    if platform.flash.is_some() {
        return firmwares_machine();
    }
    let pci = if platform.pci.is_some() { "on" } else { "off" };
    format!(
        "microvm,acpi=on,pic=on,pit=on,rtc=on,isa-serial=off,usb=off,ioapic2=off,pcie={pci},\
         memory-backend=ram"
    )
}

/// The machine that firmware in flash is made for, with no more on its bus than ours has.
fn firmwares_machine() -> String {
    let hole = Pc::FIRMWARE_DEVICE_HOLE.get();
    format!(
        "q35,acpi=on,pic=on,pit=on,hpet=off,smm=off,vmport=off,sata=off,smbus=off,usb=off,\
         max-ram-below-4g={hole},memory-backend=ram"
    )
}

/// Everything that QEMU emulates, and a time stamp counter that Linux trusts. QEMU's counter is
/// the host's, which is constant and the same on all vCPUs, but QEMU does not say so by itself;
/// without these two features Linux has no usable clock on a machine with two AMD processors.
/// Five-level page tables would cost time and give nothing.
pub(super) const CPU: &str = "max,x-force-features=on,invtsc=on,tsc-adjust=on,la57=off";

/// The devices that the machine does not have by itself, and its serial ports.
pub(super) fn devices(platform: &Pc) -> Vec<(&'static str, String)> {
    let mut options = vec![("-chardev", "null,id=nobody".to_owned())];
    for (index, port) in platform.serial.iter().enumerate() {
        let to = if index == 0 { "console" } else { "nobody" };
        let (base, irq) = (port.base, port.irq);
        options.push((
            "-device",
            format!("isa-serial,index={index},iobase={base},irq={irq},chardev={to}"),
        ));
    }
    options.push(("-device", format!("pvpanic,ioport={:#x}", Pc::PVPANIC.0)));
    if let Some(port) = platform.debug_exit {
        options.push(("-device", format!("isa-debug-exit,iobase={port},iosize=1")));
    }
    options
}
