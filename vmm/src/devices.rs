//! What further devices a machine is to have, as they are asked for, and what they are on the host.

mod error;
mod offered_file;
mod open;

pub use error::DeviceError;
pub use offered_file::{Contents, OfferedFile};
pub use open::OpenDevices;
pub(crate) use open::mac;

use crate::DebugConsole;
use crate::HostPciAddress;
use crate::jail::Sandbox;
use crate::virtio::{ForeignDevice, room};
use firstlight_boot::Hardware;
use firstlight_devices::BatteryState;
pub use firstlight_devices::virtio::fs::Tag;
pub use firstlight_devices::virtio::vsock::GuestCid;
use std::path::PathBuf;

/// The further devices of a machine, virtio's most of them, as they are asked for. The [default](Self::default) is none.
///
/// The plan must have room for them, which [`equip`](Self::equip) asks for.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// How the guest reaches them.
    pub transport: Transport,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// The folders of the host that it shares, in order.
    pub shares: Vec<Share>,
    /// The disks that it has as its memory (virtio-pmem), in order. The request says how much room each
    /// [takes](Disk::pmem_room).
    pub pmems: Vec<Disk>,
    /// The devices that other processes serve (vhost-user), in order.
    pub foreign: Vec<ForeignDevice>,
    /// Its network cards, in order.
    pub nets: Vec<Net>,
    /// What of the guest the terminal is joined to.
    pub console: ConsoleKind,
    /// Whether the guest can end its machine with a status of its own by a console port,
    /// `org.firstlight.status`.
    pub status_port: bool,
    /// Sockets between guest and host.
    pub vsock: Option<Vsock>,
    /// Whether it has a source of random numbers.
    pub rng: bool,
    /// Whether it gives memory back that it does not use.
    pub balloon: bool,
    /// The PCI functions of the host that it has for itself, in order.
    pub vfio: Vec<HostPciAddress>,
    /// Whether it has a watchdog, on a PCI bus.
    pub watchdog: bool,
    /// How its battery stands at first, where it has one.
    pub battery: Option<BatteryState>,
    /// Whether an x86 guest's system says when it sleeps, to [`Machine::suspension`](crate::Machine::suspension).
    pub suspend_notice: bool,
    /// Where its debug console's bytes go, where it has one: on x86.
    pub debugcon: Option<DebugConsole>,
    /// Files that its firmware and kernel can read, by QEMU's firmware configuration device.
    pub files: Vec<OfferedFile>,
    /// Where its disks, shared folders and network cards are served; what is plugged in while it runs is served by the process
    /// that runs it.
    pub sandbox: Sandbox,
    /// Into how many slots devices can be plugged while it runs; the bus for that is PCI.
    pub hotplug_slots: u8,
}

/// How a guest reaches its virtio devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// As functions on a PCI Express bus.
    #[default]
    Pci,
    /// By registers in memory, without a bus.
    Mmio,
}

/// A disk: a file, or a block device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Where it is.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub readonly: bool,
}

impl Disk {
    /// How many bytes of the guest's addresses it takes where it is memory: what a
    /// [`Request`](firstlight_boot::Request::pmem) is to have for it.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] where it is not to be had, is no disk, or can be written to and is no multiple of 2
    /// MiB.
    pub fn pmem_room(&self) -> Result<u64, DeviceError> {
        room(self)
    }
}

/// A folder of the host that the guest can mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where it is.
    pub path: PathBuf,
    /// The name by which the guest mounts it.
    pub tag: Tag,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// Whether what is in it stays as it is while the guest runs, so that the guest need not look
    /// again.
    pub is_still: bool,
}

/// A network card, by who carries its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// A program of the user's own, without any rights: passt on the kvm engine, QEMU itself on the
    /// qemu engine.
    User,
    /// A tap interface of the host, which is there already.
    Tap(String),
}

/// Sockets between guest and host (`AF_VSOCK`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vsock {
    /// The guest's address.
    pub cid: GuestCid,
    /// The Unix socket by which programs on the host reach the guest's ports; what the guest connects to
    /// has a path that begins with this one.
    pub path: PathBuf,
}

/// What of the guest the terminal is joined to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsoleKind {
    /// Its serial port.
    #[default]
    Serial,
    /// Its virtio console, `hvc0`; what it prints on its serial port is shown, too.
    Virtio,
}

impl Devices {
    /// What they are called, in the order in which the guest finds them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let numbered = |what: &str, count: usize| {
            let what = what.to_owned();
            (0..count).map(move |number| format!("{what} {number}"))
        };
        let single = |what: &str, is_there: bool| is_there.then(|| what.to_owned());
        numbered("disk", self.disks.len())
            .chain(numbered("share", self.shares.len()))
            .chain(numbered("pmem", self.pmems.len()))
            .chain(numbered("vhost-user", self.foreign.len()))
            .chain(numbered("net", self.nets.len()))
            .chain(single("console", self.has_console()))
            .chain(single("vsock", self.vsock.is_some()))
            .chain(single("rng", self.rng))
            .chain(single("balloon", self.balloon))
            .chain(numbered("vfio", self.vfio.len()))
            .chain(single("watchdog", self.watchdog))
            .collect()
    }

    /// Whether another process serves any of them, which has to have the guest's memory.
    pub(crate) fn are_shared(&self) -> bool {
        let is_jailed = self.sandbox == Sandbox::On;
        let jailed = self.disks.len() + self.shares.len() + self.nets.len();
        !self.foreign.is_empty() || is_jailed && jailed > 0
    }

    /// Whether the guest's memory is to be a file's, with no other file mapped into it: where another process has to have it,
    /// and where a device of the host's writes to it, which would not write to a file's page, or to one that has taken its place.
    pub(crate) fn need_one_file(&self) -> bool {
        self.are_shared() || !self.vfio.is_empty()
    }

    /// Whether there is a console device.
    #[must_use]
    pub fn has_console(&self) -> bool {
        self.console == ConsoleKind::Virtio || self.status_port
    }

    /// Asks for as much room as they need.
    pub fn equip(&self, hardware: &mut Hardware) {
        // The last of them are none of virtio's.
        let others = self.vfio.len() + usize::from(self.watchdog);
        let count = self.names().len() - others;
        hardware.debugcon = self.debugcon.is_some();
        hardware.battery = self.battery.is_some();
        hardware.suspend_notice = self.suspend_notice;
        hardware.fw_cfg = !self.files.is_empty();
        let is_on_the_root_bus = match self.transport {
            Transport::Pci => count > 0,
            Transport::Mmio => {
                hardware.virtio = u32::try_from(count).unwrap_or(u32::MAX);
                false
            }
        };
        // A slot is a bus behind a port on the root bus.
        let slots = u32::from(self.hotplug_slots);
        let has_root_bus = is_on_the_root_bus || slots > 0 || others > 0;
        hardware.pci_buses = u32::from(has_root_bus) + slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_devices_there_is_no_bus() {
        let mut hardware = Hardware::default();
        Devices::default().equip(&mut hardware);
        assert_eq!(hardware, Hardware::default());
    }

    #[test]
    fn every_device_has_a_transport_and_plugging_takes_a_bus() {
        let mut devices = Devices {
            transport: Transport::Mmio,
            nets: vec![Net::User, Net::Tap("tap0".into())],
            status_port: true,
            rng: true,
            ..Devices::default()
        };
        let mut hardware = Hardware::default();
        devices.equip(&mut hardware);
        assert_eq!((hardware.virtio, hardware.pci_buses), (4, 0));
        devices.hotplug_slots = 3;
        devices.equip(&mut hardware);
        assert_eq!((hardware.virtio, hardware.pci_buses), (4, 4));
        devices.hotplug_slots = 0;
        devices.watchdog = true;
        devices.equip(&mut hardware);
        assert_eq!((hardware.virtio, hardware.pci_buses), (4, 1));
        devices.vfio = vec!["00:04.0".parse().unwrap()];
        devices.equip(&mut hardware);
        assert_eq!((hardware.virtio, hardware.pci_buses), (4, 1));
        assert_eq!(devices.names()[4..], ["vfio 0", "watchdog"]);
        assert!(devices.need_one_file());
        devices.vfio.clear();
        devices.watchdog = false;
        devices.hotplug_slots = 3;
        devices.transport = Transport::Pci;
        let mut hardware = Hardware::default();
        devices.equip(&mut hardware);
        assert_eq!((hardware.virtio, hardware.pci_buses), (0, 4));
        devices.hotplug_slots = 0;
        devices.equip(&mut hardware);
        assert_eq!((hardware.virtio, hardware.pci_buses), (0, 1));
        assert_eq!(devices.names(), ["net 0", "net 1", "console", "rng"]);
    }
}
