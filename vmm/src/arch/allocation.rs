//! Who has which addresses, ports, lines and slots of a machine, decided before anything is made.

use super::{Aarch64, LinuxArch, Riscv64, X8664};
use crate::system_allocator::{
    AllocateError, IrqRange, MmioWindow, Pool, PortRange, Room, SystemAllocator,
    SystemAllocatorConfig,
};
use firstlight_base::{Irq, Port};
use firstlight_boot::draw::{Place, devices};
use firstlight_boot::platform::PciWindows;
use firstlight_boot::{Pc, Platform};
use firstlight_devices::pci::Address;

/// Everything that a machine gives to its devices, and where the further ones are.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// Who has what.
    pub allocator: SystemAllocator,
    /// Where the further devices are, in order.
    pub(crate) seats: Vec<Seat>,
    /// The ports on the root bus that devices can be plugged in behind.
    pub(crate) ports: Vec<Address>,
}

/// Where a virtio device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// The transport in memory of that number.
    Transport(u32),
    /// The function on the root bus.
    Function(Address),
}

/// Gives `platform`'s own devices what they have, and the further ones of these names a place each, in
/// order: a transport in memory where the platform has any, else a slot on its PCI bus.
///
/// # Errors
///
/// [`AllocateError`] for the first that there is no place for.
pub fn allocate(
    platform: &Platform,
    names: &[String],
    hotplug_slots: u8,
) -> Result<Allocation, AllocateError> {
    let config = match platform {
        Platform::Pc(pc) => X8664::get_system_allocator_config(pc),
        Platform::VirtArm64(virt) => Aarch64::get_system_allocator_config(virt),
        Platform::VirtRiscv64(virt) => Riscv64::get_system_allocator_config(virt),
    };
    let mut allocation = Allocation {
        allocator: SystemAllocator::new(config)?,
        seats: Vec::new(),
        ports: Vec::new(),
    };
    allocation.reserve(platform)?;
    for (name, number) in names.iter().zip(0..) {
        let seat = allocation.seat(platform, name, number)?;
        allocation.seats.push(seat);
    }
    for slot in (1..=hotplug_slots).filter(|_| platform.pci().is_some()) {
        let holder = format!("port of slot {slot}");
        let port = allocation.allocator.allocate_pci(0, holder)?;
        allocation.ports.push(port);
    }
    Ok(allocation)
}

impl Allocation {
    /// Takes the place of what is behind all virtio devices.
    pub(super) fn last_function(&mut self) -> Option<Address> {
        let last = self.seats.pop_if(|seat| matches!(seat, Seat::Function(_)));
        match last? {
            Seat::Function(at) => Some(at),
            Seat::Transport(_) => None,
        }
    }

    /// Takes the places of what is behind all that are left, the last of which is `others`' last.
    pub(super) fn last_functions<T>(&mut self, others: Vec<T>) -> Vec<(Address, T)> {
        let from_behind = others.into_iter().rev();
        let placed = from_behind.map_while(|other| Some((self.last_function()?, other)));
        let mut placed: Vec<_> = placed.collect();
        placed.reverse();
        placed
    }

    /// What every such machine has, where it has it. What is given out itself is not given away here.
    fn reserve(&mut self, platform: &Platform) -> Result<(), AllocateError> {
        let config = self.allocator.config();
        let windows = [MmioWindow::Low, MmioWindow::High].map(|window| config.window(window));
        let row = platform.virtio().and_then(|row| row.whole());
        let given_out: Vec<_> = windows.into_iter().chain([row]).flatten().collect();
        for device in devices(platform) {
            let holder = device.name;
            match device.place {
                Place::Memory(range) if given_out.contains(&range) => continue,
                Place::Memory(range) => self.allocator.reserve_mmio(range, holder)?,
                Place::Ports(first, count) => {
                    let ports = PortRange::new(first, count.into());
                    let ports = ports.expect("a device's ports are ports");
                    self.allocator.reserve_ports(ports, holder)?;
                }
            }
            let pins = platform.pci().map(|windows| windows.irq);
            if let Some(irq) = device.irq.filter(|irq| Some(*irq) != pins) {
                self.allocator.reserve_irq(irq, holder)?;
            }
        }
        let Some(windows) = platform.pci() else {
            return Ok(());
        };
        if let Platform::Pc(Pc { flash: Some(_), .. }) = platform {
            let lpc = Address::new(0, Pc::LPC_BRIDGE, 0).expect("a device of the root bus");
            self.allocator.reserve_pci(lpc, "LPC bridge")?;
        }
        for (pin, letter) in (0..PciWindows::LINES).zip('A'..) {
            let line = windows.line(0, pin);
            self.allocator
                .reserve_irq(line, format!("PCI pin INT{letter}"))?;
        }
        Ok(())
    }

    fn seat(
        &mut self,
        platform: &Platform,
        name: &str,
        number: u32,
    ) -> Result<Seat, AllocateError> {
        let transport = platform.virtio().and_then(|row| row.transport(number));
        if let Some((registers, irq)) = transport {
            self.allocator.reserve_mmio(registers, name.to_owned())?;
            self.allocator.reserve_irq(irq, name.to_owned())?;
            return Ok(Seat::Transport(number));
        }
        if platform.pci().is_none() {
            return Err(AllocateError::Exhausted {
                pool: Pool::Pci { bus: 0 },
                room: Room { len: 1, align: 1 },
                holder: name.to_owned().into(),
                free: Vec::new(),
            });
        }
        let function = self.allocator.allocate_pci(0, name.to_owned())?;
        Ok(Seat::Function(function))
    }
}

/// A machine's windows, and lines up to a number.
pub(super) fn config(
    pci: Option<&PciWindows>,
    io: Option<(Port, u32)>,
    (first, count): (Irq, u32),
) -> SystemAllocatorConfig {
    SystemAllocatorConfig {
        io: io.map(|(first, count)| PortRange::new(first, count).expect("ports of a PC")),
        low_mmio: pci.map(|windows| windows.memory32),
        high_mmio: pci.and_then(|windows| windows.memory64),
        platform_mmio: None,
        irqs: IrqRange::new(first, count).expect("a machine has interrupt lines"),
        last_bus: pci
            .and_then(|windows| u8::try_from(windows.buses() - 1).ok())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
