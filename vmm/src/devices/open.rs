//! Devices that have been opened on the host.

use super::{ConsoleKind, DeviceError, Devices, Net, OfferedFile, Transport};
use crate::debug_console::{DebugConsole, DebugOutput};
use crate::jail::Sandbox;
use crate::pci::Watchdog;
use crate::pci::vfio::{Found, VfioError};
use crate::reports::Reports;
use crate::suspension::OwnSuspension;
use crate::virtio::{self, BalloonControl, Carrier, ConsoleLine, Passt, PmemFile, Tap};
use crate::{RunError, Stop, VirtioDevice};
use firstlight_base::{GpaRange, KIB};
use firstlight_boot::{FirmwareFile, Platform, firmware_files};
use firstlight_devices::BatteryState;
use firstlight_devices::virtio::console::ScreenSize;
use firstlight_devices::{FwCfg, FwCfgFile};
use std::collections::HashSet;
use std::io::{self, Write};
use std::process;
use std::sync::Arc;

/// A machine's further devices, with what they are on the host, and what its threads tell the session.
pub struct OpenDevices {
    /// In the order in which the guest finds them.
    pub(crate) list: Vec<VirtioDevice>,
    /// The terminal's end of the virtio console, where the terminal is joined to it.
    pub(crate) console: Option<Arc<ConsoleLine>>,
    /// The devices of the host's, whose places are behind all of these.
    pub(crate) vfio: Vec<Found>,
    /// The guest's memory that is a file's, and that they do not reach: the host may refuse to keep it at its place.
    pub(crate) not_for_vfio: Option<GpaRange>,
    /// Its watchdog, whose place is the last.
    pub(crate) watchdog: Option<Arc<Watchdog>>,
    /// Where its debug console's bytes go.
    pub(crate) debugcon: Option<DebugOutput>,
    /// How its battery stands at first.
    pub(crate) battery: Option<BatteryState>,
    /// What its system says of its sleep.
    pub(crate) suspension: Option<OwnSuspension>,
    /// What its firmware and kernel are offered.
    pub(crate) fw_cfg: FwCfg,
    /// What becomes the guest's memory beside RAM.
    pub(crate) pmem: Vec<PmemFile>,
    /// What the balloon is controlled by.
    pub(crate) balloon: Option<BalloonControl>,
    pub(crate) reports: Arc<Reports>,
}

impl OpenDevices {
    /// No devices.
    ///
    /// # Errors
    ///
    /// [`RunError`] where the host has no descriptors left.
    pub fn none() -> Result<Self, RunError> {
        Ok(Self {
            list: Vec::new(),
            console: None,
            fw_cfg: FwCfg::default(),
            pmem: Vec::new(),
            vfio: Vec::new(),
            not_for_vfio: None,
            watchdog: None,
            debugcon: None,
            battery: None,
            suspension: None,
            balloon: None,
            reports: Reports::new()?,
        })
    }

    fn add(&mut self, device: VirtioDevice) {
        self.list.push(device);
    }
}

impl std::fmt::Debug for OpenDevices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenDevices")
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

impl Devices {
    /// Opens them on the host, for the machine that was planned for them.
    ///
    /// # Errors
    ///
    /// [`RunError`] for the first that is not to be had.
    pub fn open(&self, platform: &Platform) -> Result<OpenDevices, RunError> {
        let mut open = OpenDevices::none()?;
        open.fw_cfg = self.fw_cfg(platform)?;
        open.vfio = self.find_vfio()?;
        if self.watchdog {
            open.watchdog = Some(Watchdog::new(&open.reports)?);
        }
        if let Some(state) = self.battery {
            state.check().map_err(DeviceError::from)?;
            open.battery = Some(state);
        }
        open.suspension = self.suspend_notice.then(OwnSuspension::new);
        let debugcon = self.debugcon.as_ref();
        open.debugcon = debugcon.map(DebugConsole::open).transpose()?;
        for (disk, number) in self.disks.iter().zip(0..) {
            open.add(match self.sandbox {
                Sandbox::Off => VirtioDevice::disk(disk, number)?,
                Sandbox::On => virtio::jailed_disk(disk, number, &open.reports)?,
            });
        }
        let shares = match self.sandbox {
            Sandbox::Off => self.open_shares()?,
            Sandbox::On => self.jail_shares(&open.reports)?,
        };
        for share in shares {
            open.add(share);
        }
        for (disk, number) in self.pmems.iter().zip(0..) {
            let planned = platform.pmem().get(number).copied();
            let (device, file) = virtio::pmem(disk, number, planned)?;
            open.add(device);
            open.pmem.push(file);
        }
        for (device, number) in self.foreign.iter().zip(0..) {
            open.add(virtio::foreign(device, number)?);
        }
        for (net, number) in self.nets.iter().zip(0..) {
            let card = self.network((net, number), &open.reports)?;
            open.add(card);
        }
        if self.has_console() {
            self.open_console(&mut open)?;
        }
        if let Some(vsock) = &self.vsock {
            let device = virtio::vsock(vsock.cid, &vsock.path);
            open.add(device.map_err(DeviceError::from)?);
        }
        if self.rng {
            open.add(virtio::rng());
        }
        if self.balloon {
            let memory: u64 = platform.ram().iter().map(|range| range.len()).sum();
            let pages = u32::try_from(memory / (4 * KIB)).unwrap_or(u32::MAX);
            let (balloon, control) = virtio::balloon(pages)?;
            open.add(balloon);
            open.balloon = Some(control);
        }
        Ok(open)
    }

    /// The host's functions that it is to have, where they can be had with all else.
    fn find_vfio(&self) -> Result<Vec<Found>, DeviceError> {
        if self.balloon && !self.vfio.is_empty() {
            return Err(VfioError::Pinned("a balloon").into());
        }
        let mut seen = HashSet::new();
        if let Some(again) = self.vfio.iter().find(|at| !seen.insert(**at)) {
            return Err(VfioError::Twice(*again).into());
        }
        let found = self.vfio.iter().map(|at| Ok(at.find()?));
        found.collect()
    }

    /// What the firmware is offered, and what it must know of its machine.
    fn fw_cfg(&self, platform: &Platform) -> Result<FwCfg, DeviceError> {
        let mut files = self.read_files()?;
        if platform.flash().is_some() {
            files.extend(self.boot_order());
        }
        if let Platform::Pc(pc) = platform
            && pc.flash.is_some()
        {
            let known = firmware_files(pc).into_iter();
            files.extend(known.map(|FirmwareFile { name, bytes }| FwCfgFile {
                name: name.to_owned(),
                bytes,
            }));
        }
        let fw_cfg = FwCfg::new(files)?;
        Ok(match u16::try_from(platform.cpus()) {
            Ok(cpus) => fw_cfg.with_cpus(cpus),
            Err(_) => fw_cfg,
        })
    }

    /// That firmware tries the disks in their order, by their paths in Open Firmware (QEMU's
    /// `docs/specs/fw_cfg.rst`); none where there are none on PCI.
    fn boot_order(&self) -> Option<FwCfgFile> {
        if self.transport != Transport::Pci || self.disks.is_empty() {
            return None;
        }
        // They are in the first slots behind the host bridge.
        let slots = (1..).take(self.disks.len());
        let paths = slots.map(|slot: usize| format!("/pci@i0cf8/scsi@{slot:x}/disk@0,0"));
        let mut text = paths.collect::<Vec<_>>().join("\n");
        text.push('\0');
        Some(FwCfgFile {
            name: "bootorder".to_owned(),
            bytes: text.into_bytes(),
        })
    }

    /// What the firmware is offered, as it is now.
    pub(crate) fn read_files(&self) -> Result<Vec<FwCfgFile>, DeviceError> {
        self.files.iter().map(OfferedFile::read).collect()
    }

    /// The folders that are shared, in order.
    pub(crate) fn open_shares(&self) -> Result<Vec<VirtioDevice>, DeviceError> {
        self.check_tags()?;
        let count = self.shares.len();
        let shares = self.shares.iter().zip(0..);
        let shares = shares.map(|(share, number)| virtio::share(share, number, count));
        shares.collect()
    }

    /// The same, each served by a process of its own.
    fn jail_shares(&self, reports: &Arc<Reports>) -> Result<Vec<VirtioDevice>, DeviceError> {
        self.check_tags()?;
        let shares = self.shares.iter().zip(0..);
        let shares = shares.map(|(share, number)| virtio::jailed_share(share, number, reports));
        shares.collect()
    }

    fn check_tags(&self) -> Result<(), DeviceError> {
        let mut tags = HashSet::new();
        match self.shares.iter().find(|share| !tags.insert(share.tag)) {
            None => Ok(()),
            Some(again) => Err(DeviceError::SameTag {
                tag: again.tag.name().to_owned(),
            }),
        }
    }

    /// Whether what they are on the host is to be had, for whoever else opens it afterwards.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] for the first that is not.
    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        // All at once, for a guest cannot have one twice.
        let disks = self.disks.iter().zip(0..);
        let disks = disks.map(|(disk, number)| VirtioDevice::disk(disk, number));
        let _held = disks.collect::<Result<Vec<_>, _>>()?;
        for device in &self.foreign {
            virtio::check_back_end(&device.socket)?;
        }
        for net in &self.nets {
            if let Net::Tap(name) = net {
                Tap::open(name)?;
            }
        }
        Ok(())
    }

    fn network(
        &self,
        (net, number): (&Net, u8),
        reports: &Arc<Reports>,
    ) -> Result<VirtioDevice, DeviceError> {
        match net {
            Net::Tap(name) => self.card((Tap::open(name)?, number), reports),
            Net::User => {
                let mut passt = Passt::start()?;
                passt.check()?;
                self.card((passt, number), reports)
            }
        }
    }

    fn card(
        &self,
        (carrier, number): (impl Carrier + 'static, u8),
        reports: &Arc<Reports>,
    ) -> Result<VirtioDevice, DeviceError> {
        let say = move |why: &str| {
            let text = format!("\r\nfirstlight: net {number} has lost its link: {why}\r\n");
            // Nobody can be told that stderr is broken, and the guest goes on.
            let _ = io::stderr().write_all(text.as_bytes());
        };
        let (name, mac) = (format!("net {number}"), mac(number));
        match self.sandbox {
            Sandbox::Off => Ok(virtio::network(&name, mac, carrier, say)),
            Sandbox::On => virtio::jailed_network((&name, mac), carrier, say, reports),
        }
    }

    fn open_console(&self, open: &mut OpenDevices) -> Result<(), RunError> {
        let is_terminals = self.console == ConsoleKind::Virtio;
        let size = is_terminals.then_some(USUAL_SIZE);
        let line = ConsoleLine::new(size, open.reports.bell())?;
        let reports = Arc::clone(&open.reports);
        let ended = move |status| reports.report(Ok(Stop::ExitCode(status)));
        let named = self.status_port.then(|| virtio::status_port(ended));
        open.add(virtio::console(&line, named.into_iter().collect()));
        open.console = is_terminals.then_some(line);
        Ok(())
    }
}

/// What a console is taken for until the terminal says what it has.
const USUAL_SIZE: ScreenSize = ScreenSize {
    columns: 80,
    rows: 24,
};

/// An address that no maker gives out, and that no other card of this host's guests has.
pub(crate) fn mac(number: u8) -> [u8; 6] {
    /// Given out locally, to one card.
    const LOCAL: u8 = 0x02;
    let [a, b, c, _] = process::id().to_le_bytes();
    [LOCAL, 0xf1, c, b, a, number]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;

    #[test]
    fn a_device_of_the_hosts_takes_no_balloon_and_is_given_once() {
        let at: crate::HostPciAddress = "0000:00:04.0".parse().unwrap();
        let mut devices = Devices {
            vfio: vec![at],
            balloon: true,
            ..Devices::default()
        };
        let refused = devices.find_vfio().unwrap_err();
        assert!(matches!(refused, DeviceError::Vfio(VfioError::Pinned(_))));
        assert!(refused.is_usage() && refused.to_string().contains("a balloon"));
        devices.balloon = false;
        devices.vfio.push(at);
        let refused = devices.find_vfio().unwrap_err();
        assert!(matches!(refused, DeviceError::Vfio(VfioError::Twice(again)) if again == at));
        devices.vfio = vec!["ffff:ff:1f.7".parse().unwrap()];
        let refused = devices.find_vfio().unwrap_err();
        assert!(matches!(refused, DeviceError::Vfio(VfioError::Missing(_))));
        assert!(!refused.is_usage());
        devices.vfio.clear();
        assert!(devices.find_vfio().unwrap().is_empty());
    }

    #[test]
    fn firmware_tries_the_disks_in_their_order() {
        let disk = Disk {
            path: "a".into(),
            readonly: true,
        };
        let mut devices = Devices {
            disks: vec![disk.clone(), disk],
            ..Devices::default()
        };
        let order = devices.boot_order().unwrap();
        assert_eq!(order.name, "bootorder");
        let expected = b"/pci@i0cf8/scsi@1/disk@0,0\n/pci@i0cf8/scsi@2/disk@0,0\0";
        assert_eq!(order.bytes, expected);
        devices.transport = Transport::Mmio;
        assert_eq!(devices.boot_order(), None);
        devices.transport = Transport::Pci;
        devices.disks.clear();
        assert_eq!(devices.boot_order(), None);
    }
}
