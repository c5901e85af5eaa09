//! Shifts the virtual addresses in a kernel that is in guest memory
//! (`arch/x86/boot/compressed/misc.c`, `handle_relocations`).

use crate::memory::PAGE;
use crate::{GuestMemory, PlaceError};
use firstlight_base::Gpa;
use firstlight_boot::Relocate;

/// Shifts every place of the image's relocation table as `shift` says.
///
/// # Errors
///
/// [`PlaceError`] where the table is not in `layers`, or names a place outside the kernel. Places
/// before that one are shifted then.
pub(crate) fn relocate(
    shift: &Relocate,
    layers: &[&[u8]],
    memory: &GuestMemory,
) -> Result<(), PlaceError> {
    let runs = layers
        .get(shift.layer)
        .and_then(|layer| shift.places.runs(layer))
        .ok_or_else(|| PlaceError::OtherSource {
            piece: "the kernel's relocation table".into(),
        })?;
    let (mapping, start) = memory.mapping_of(shift.within)?;
    let kernel = Kernel { shift, start };
    kernel.make_writable(memory, &[runs.r64, runs.inverse32, runs.r32]);
    let by = shift.shift;
    let low = u32::try_from(by & u64::from(u32::MAX)).expect("masked to 32 bits");
    let mut entry = 0;
    kernel.each(&mut entry, runs.r64, size_of::<u64>(), |offset| {
        mapping.add_u64(offset, by)
    })?;
    kernel.each(&mut entry, runs.inverse32, size_of::<u32>(), |offset| {
        mapping.add_u32(offset, low.wrapping_neg())
    })?;
    kernel.each(&mut entry, runs.r32, size_of::<u32>(), |offset| {
        mapping.add_u32(offset, low)
    })
}

/// The kernel in memory.
struct Kernel<'a> {
    shift: &'a Relocate,
    /// Where in its mapping it begins.
    start: usize,
}

impl Kernel<'_> {
    /// Applies `change` to the offsets in the mapping of the places, each `size` bytes long, that
    /// `run` lists.
    fn each(
        &self,
        entry: &mut usize,
        run: &[[u8; 4]],
        size: usize,
        change: impl Fn(usize) -> bool,
    ) -> Result<(), PlaceError> {
        let most = self.shift.within.len().checked_sub(size as u64);
        for (index, place) in run.iter().enumerate() {
            let offset = self.offset(*place);
            let inside = most.is_some_and(|most| offset <= most);
            let done =
                inside && usize::try_from(offset).is_ok_and(|offset| change(self.start + offset));
            if !done {
                return Err(self.outside(*entry + index, *place));
            }
        }
        *entry += run.len();
        Ok(())
    }

    /// How far behind the kernel's first byte a place is; beyond its end where it is before it.
    fn offset(&self, place: [u8; 4]) -> u64 {
        link_address(place)
            .wrapping_add(self.shift.to_physical)
            .wrapping_sub(self.shift.within.start().get())
    }

    fn outside(&self, entry: usize, place: [u8; 4]) -> PlaceError {
        let link = link_address(place);
        PlaceError::PlaceOutside {
            entry,
            link,
            at: Gpa::new(link.wrapping_add(self.shift.to_physical)),
            kernel: self.shift.within,
        }
    }

    /// Makes private copies of the pages that will be changed, run by run of pages: a third less
    /// than the faults they would take one by one.
    fn make_writable(&self, memory: &GuestMemory, runs: &[&[[u8; 4]]]) {
        let pages = self.shift.within.len() / PAGE + 2;
        let Ok(words) = usize::try_from(pages.div_ceil(64)) else {
            return;
        };
        let Some(base) = self.shift.within.start().align_down(PAGE) else {
            return;
        };
        let into_page = self.shift.within.start().get() - base.get();
        let mut touched = vec![0_u64; words];
        for place in runs.iter().copied().flatten() {
            let page = self.offset(*place).wrapping_add(into_page) / PAGE;
            let word = usize::try_from(page / 64).ok();
            if let Some(word) = word.and_then(|word| touched.get_mut(word)) {
                *word |= 1 << (page % 64);
            }
        }
        let is_touched = |page: u64| {
            let word = usize::try_from(page / 64).ok();
            word.and_then(|word| touched.get(word))
                .is_some_and(|word| word >> (page % 64) & 1 == 1)
        };
        let mut page = 0;
        while page < pages {
            let first = page;
            while page < pages && is_touched(page) {
                page += 1;
            }
            if page > first
                && let Some(at) = base.checked_add(first * PAGE)
            {
                memory.populate(at, (page - first) * PAGE);
            }
            page += 1;
        }
    }
}

/// An entry is the lower half of an address in the upper half of the address space.
fn link_address(place: [u8; 4]) -> u64 {
    i64::from(i32::from_le_bytes(place)).cast_unsigned()
}

#[cfg(test)]
mod tests;
