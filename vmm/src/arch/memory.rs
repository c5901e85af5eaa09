//! Where a machine has memory, and what for.

use firstlight_base::GpaRange;
use firstlight_boot::platform::{PciWindows, VirtioMmio};

/// Where a machine has memory, and where room for devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchMemoryLayout {
    /// RAM as the hypervisor maps it, ascending.
    pub ram: Vec<GpaRange>,
    /// What of it, or outside of it, is not the guest's to use: ascending, and no two meet.
    pub reserved: Vec<GpaRange>,
    /// The virtio transports.
    pub virtio: Option<VirtioMmio>,
    /// The PCI Express host bridge.
    pub pci: Option<PciWindows>,
}

/// A piece of the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestMemoryRegion {
    /// Where it is.
    pub range: GpaRange,
    /// What it is for.
    pub purpose: MemoryPurpose,
}

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryPurpose {
    /// The guest's to use.
    Ram,
    /// There, but not the guest's to use: firmware's, or kept by somebody for themselves.
    Reserved,
}

/// Cuts RAM where what is reserved begins and ends.
pub(super) fn regions(layout: &ArchMemoryLayout) -> Vec<GuestMemoryRegion> {
    let mut regions = Vec::new();
    let mut push = |range: Option<GpaRange>, purpose| {
        regions.extend(range.map(|range| GuestMemoryRegion { range, purpose }));
    };
    for &ram in &layout.ram {
        let mut next = ram.start();
        for reserved in &layout.reserved {
            if let Some(part) = reserved.intersection(ram) {
                push(GpaRange::between(next, part.start()), MemoryPurpose::Ram);
                push(Some(part), MemoryPurpose::Reserved);
                next = part.end();
            }
        }
        push(GpaRange::between(next, ram.end()), MemoryPurpose::Ram);
    }
    regions
}

/// What is to be mapped for `regions`: pieces that meet are one.
pub(crate) fn mapped(regions: &[GuestMemoryRegion]) -> Vec<GpaRange> {
    let mut mapped: Vec<GpaRange> = Vec::new();
    for region in regions {
        let joined = mapped
            .last()
            .filter(|last| last.end() == region.range.start())
            .and_then(|last| GpaRange::between(last.start(), region.range.end()));
        match (joined, mapped.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => mapped.push(region.range),
        }
    }
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::{GIB, Gpa, MIB};

    fn range(start: u64, end: u64) -> GpaRange {
        GpaRange::between(Gpa::new(start), Gpa::new(end)).unwrap()
    }

    fn layout(ram: &[GpaRange], reserved: &[GpaRange]) -> ArchMemoryLayout {
        ArchMemoryLayout {
            ram: ram.into(),
            reserved: reserved.into(),
            virtio: None,
            pci: None,
        }
    }

    #[test]
    fn what_is_reserved_is_cut_out_and_still_mapped() {
        let ram = [range(0, 3 * GIB), range(4 * GIB, 5 * GIB)];
        let reserved = [
            range(0xa_0000, 0x10_0000),
            range(3 * GIB - MIB, 4 * GIB + MIB),
        ];
        let regions = regions(&layout(&ram, &reserved));
        let ends: Vec<_> = regions
            .iter()
            .map(|region| (region.range.end().get(), region.purpose))
            .collect();
        assert_eq!(
            ends,
            [
                (0xa_0000, MemoryPurpose::Ram),
                (0x10_0000, MemoryPurpose::Reserved),
                (3 * GIB - MIB, MemoryPurpose::Ram),
                (3 * GIB, MemoryPurpose::Reserved),
                (4 * GIB + MIB, MemoryPurpose::Reserved),
                (5 * GIB, MemoryPurpose::Ram),
            ]
        );
        assert_eq!(mapped(&regions), ram);
    }

    #[test]
    fn ram_without_reservations_is_one_piece() {
        let ram = [range(GIB, 2 * GIB)];
        assert_eq!(regions(&layout(&ram, &[])).len(), 1);
    }
}
