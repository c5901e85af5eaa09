//! The host's side of a function: its files, which only `vfio-ioctls` has, and the guest's memory in the IOMMU.
#![expect(
    unsafe_code,
    reason = "a device writes to the guest's memory, and descriptors come without an owner"
)]

use super::{Found, VfioError};
use firstlight_base::GpaRange;
use firstlight_hv::VfioDeviceFd;
use firstlight_load::GuestMemory;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::iter;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioOps, VfioRegionInfoCap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The address space that all devices of a guest have: the guest's.
pub(crate) struct Container {
    vfio: Arc<VfioContainer>,
    /// What is in the IOMMU, so that it stays as long as a device can write to it.
    memory: Arc<GuestMemory>,
}

impl Container {
    /// One that nothing is in so far; `hypervisor` is told of what comes into it.
    pub(crate) fn new(
        hypervisor: Option<VfioDeviceFd>,
        memory: &Arc<GuestMemory>,
    ) -> Result<Self, VfioError> {
        let made = VfioContainer::new(hypervisor.map(Arc::new));
        Ok(Self {
            vfio: Arc::new(made.map_err(no_container)?),
            memory: Arc::clone(memory),
        })
    }

    /// Lets the devices reach the guest's RAM, but for `without`; once the first of them is there.
    pub(crate) fn map(&self, without: Option<GpaRange>) -> Result<(), VfioError> {
        let pieces = self.memory.ram().iter().flat_map(|region| {
            let start = region.range().start();
            pieces(region.range(), without).map(move |piece| {
                let offset = piece.start().get() - start.get();
                (piece, region.host_address() + offset)
            })
        });
        for (piece, host) in pieces {
            let host = host as *mut u8;
            let len = usize::try_from(piece.len()).unwrap_or(usize::MAX);
            // SAFETY: all of it is this memory's own mapping, of which no Rust reference exists, and which stays as long as
            // this value; the kernel has unmapped it when the last device has gone, which has this value.
            let mapped = unsafe { self.vfio.vfio_dma_map(piece.start().get(), len, host) };
            mapped.map_err(|source| self.locked(source))?;
        }
        Ok(())
    }

    fn locked(&self, source: vfio_ioctls::VfioError) -> VfioError {
        VfioError::Locked {
            bytes: self.memory.ram().iter().map(|it| it.range().len()).sum(),
            limit: getrlimit(Resource::Memlock).current,
            source,
        }
    }
}

/// A range without another one.
fn pieces(range: GpaRange, without: Option<GpaRange>) -> impl Iterator<Item = GpaRange> {
    let (before, behind) = match without.filter(|hole| range.contains(*hole)) {
        None => (Some(range), None),
        Some(hole) => (
            GpaRange::between(range.start(), hole.start()),
            GpaRange::between(hole.end(), range.end()),
        ),
    };
    before.into_iter().chain(behind)
}

fn no_container(error: vfio_ioctls::VfioError) -> VfioError {
    match error {
        vfio_ioctls::VfioError::OpenContainer(source) => match source.kind() {
            io::ErrorKind::PermissionDenied => VfioError::Denied {
                path: "/dev/vfio/vfio".to_owned(),
                source,
            },
            _ => VfioError::NoVfio(source),
        },
        source => VfioError::Host {
            what: "have an address space of the host's IOMMU",
            source,
        },
    }
}

/// A function of the host that is ours.
pub(super) struct HostDevice {
    /// Before the container, which is then the last that is let go of.
    vfio: VfioDevice,
    _container: Arc<Container>,
}

/// What of it interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Pin,
    Msi,
    MsiX,
}

impl Source {
    const fn index(self) -> u32 {
        match self {
            Self::Pin => VFIO_PCI_INTX_IRQ_INDEX,
            Self::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            Self::MsiX => VFIO_PCI_MSIX_IRQ_INDEX,
        }
    }
}

impl HostDevice {
    pub(super) fn open(found: &Found, container: &Arc<Container>) -> Result<Self, VfioError> {
        let ops: Arc<dyn VfioOps> = Arc::<VfioContainer>::clone(&container.vfio);
        let opened = VfioDevice::new(&found.folder, ops, false);
        Ok(Self {
            vfio: opened.map_err(|error| not_opened(found, error))?,
            _container: Arc::clone(container),
        })
    }

    pub(super) fn read_config(&self, register: u16, data: &mut [u8]) {
        let at = u64::from(register);
        self.vfio
            .region_read(VFIO_PCI_CONFIG_REGION_INDEX, data, at);
    }

    pub(super) fn write_config(&self, register: u16, data: &[u8]) {
        let at = u64::from(register);
        self.vfio
            .region_write(VFIO_PCI_CONFIG_REGION_INDEX, data, at);
    }

    pub(super) fn bar_len(&self, bar: u32) -> u64 {
        self.vfio.get_region_size(bar)
    }

    /// Fills `data` with what is there; it stays as it is where an access has no place.
    pub(super) fn read_bar(&self, bar: u32, offset: u64, data: &mut [u8]) {
        if self.has(bar, offset, data.len()) {
            self.vfio.region_read(bar, data, offset);
        }
    }

    pub(super) fn write_bar(&self, bar: u32, offset: u64, data: &[u8]) {
        if self.has(bar, offset, data.len()) {
            self.vfio.region_write(bar, data, offset);
        }
    }

    fn has(&self, bar: u32, offset: u64, len: usize) -> bool {
        let end = offset.checked_add(len as u64);
        end.is_some_and(|end| end <= self.bar_len(bar))
    }

    /// Which parts of a BAR can be mapped.
    pub(super) fn mappable(&self, bar: u32) -> Vec<Range<u64>> {
        if self.vfio.get_region_flags(bar) & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return Vec::new();
        }
        for capability in self.vfio.get_region_caps(bar) {
            if let VfioRegionInfoCap::SparseMmap(sparse) = capability {
                let areas = sparse.areas.iter();
                let ranges = areas.map(|area| area.offset..area.offset.saturating_add(area.size));
                return ranges.collect();
            }
        }
        iter::once(0..self.bar_len(bar)).collect()
    }

    /// The guest's view of parts of a BAR: where they are in the guest, and in the BAR.
    pub(super) fn memory(
        &self,
        bar: u32,
        parts: &[(GpaRange, u64)],
    ) -> Result<GuestMemory, rustix::io::Errno> {
        let first = self.vfio.get_region_offset(bar);
        let offset = |(range, offset): &(GpaRange, u64)| (*range, first.saturating_add(*offset));
        let parts: Vec<_> = parts.iter().map(offset).collect();
        GuestMemory::of_device((&parts, borrowed(&self.vfio)))
    }

    /// How many interrupts of this kind it has.
    pub(super) fn interrupts(&self, source: Source) -> u32 {
        let info = self.vfio.get_irq_info(source.index());
        info.map_or(0, |info| info.count)
    }

    /// Lets it raise these events, by their numbers.
    pub(super) fn enable(&self, source: Source, events: &[Event]) -> Result<(), VfioError> {
        let events = events.iter().map(|event| &event.0).collect();
        let enabled = self.vfio.enable_irq(source.index(), events);
        enabled.map_err(|source| VfioError::Host {
            what: "have a device's interrupts",
            source,
        })
    }

    /// Lets it interrupt by its pin again each time the event is raised.
    pub(super) fn resample(&self, event: &Event) -> Result<(), VfioError> {
        let index = Source::Pin.index();
        let set = self.vfio.set_irq_resample_fd(index, vec![&event.0]);
        set.map_err(|source| VfioError::Host {
            what: "tell a device that its interrupt was served",
            source,
        })
    }

    pub(super) fn disable(&self, source: Source) {
        // Nobody hears of the events any more.
        let _ = self.vfio.disable_irq(source.index());
    }

    /// Gives it the state that it has after power-on, where it can be reset by itself.
    pub(super) fn reset(&self) {
        self.vfio.reset();
    }
}

fn not_opened(found: &Found, error: vfio_ioctls::VfioError) -> VfioError {
    match error {
        vfio_ioctls::VfioError::OpenGroup(source, _) => match source.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => VfioError::Denied {
                path: format!("/dev/vfio/{}", found.group),
                source,
            },
            Some(libc::EBUSY) => VfioError::InUse(found.group),
            _ => VfioError::NoVfio(source),
        },
        source => VfioError::Host {
            what: "open a device of the host",
            source,
        },
    }
}

/// An event, as `vfio-ioctls` takes them.
pub(super) struct Event(EventFd);

impl Event {
    pub(super) fn new() -> Result<Self, VfioError> {
        EventFd::new(EFD_NONBLOCK | libc::EFD_CLOEXEC)
            .map(Self)
            .map_err(VfioError::Event)
    }

    /// Says whether it was raised, and lowers it.
    pub(super) fn take(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrowed(&self.0)
    }
}

/// A descriptor whose owner stays as long as it is borrowed.
fn borrowed(owner: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: both types that this is called for keep their file open as long as they are, and they are borrowed.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::Gpa;

    fn range(start: u64, len: u64) -> GpaRange {
        GpaRange::new(Gpa::new(start), len).unwrap()
    }

    #[test]
    fn memory_that_is_a_files_is_left_out() {
        let of = |without| pieces(range(0x1000, 0x9000), without).collect::<Vec<_>>();
        assert_eq!(of(None), [range(0x1000, 0x9000)]);
        assert_eq!(of(Some(range(0x1_0000, 0x1000))), [range(0x1000, 0x9000)]);
        let around = [range(0x1000, 0x3000), range(0x5000, 0x5000)];
        assert_eq!(of(Some(range(0x4000, 0x1000))), around);
        assert_eq!(of(Some(range(0x1000, 0x1000))), [range(0x2000, 0x8000)]);
        assert_eq!(of(Some(range(0x9000, 0x1000))), [range(0x1000, 0x8000)]);
        assert_eq!(of(Some(range(0x1000, 0x9000))), []);
    }
}
