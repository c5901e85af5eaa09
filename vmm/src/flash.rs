//! The flash of a machine that firmware starts: what is in it, and its chips on the board.

use crate::RunError;
use crate::board::{Attached, Board, Place};
use crate::memory_file::OpenMemoryFile;
use crate::reports::Reports;
use firstlight_base::GuestMem;
use firstlight_boot::Platform;
use firstlight_boot::platform::Flash;
use firstlight_devices::{CfiFlash, Effect, FlashBus};
use firstlight_hv::{Rom, Vm};
use firstlight_load::{Backing, GuestMemory, PlaceError};
use std::sync::{Arc, Mutex, PoisonError};

/// What flash holds.
#[derive(Debug)]
pub struct FlashMemory {
    banks: Flash,
    memory: Arc<GuestMemory>,
}

impl FlashMemory {
    /// Puts `firmware` into the first bank of the platform's flash, if it has any; the other is `variables`, or
    /// as it came from the factory.
    pub(crate) fn of(
        platform: &Platform,
        firmware: &[u8],
        variables: Option<&OpenMemoryFile>,
    ) -> Result<Option<Self>, RunError> {
        let Some(banks) = platform.flash() else {
            return Ok(None);
        };
        let mut ranges = [banks.code, banks.variables];
        ranges.sort_unstable();
        let memory = GuestMemory::allocate(&ranges, Backing::Private)?;
        // Files are as long as a bank, and most of that is nothing.
        let end = firmware.iter().rposition(|&byte| byte != 0);
        let used = end.and_then(|end| firmware.get(..=end)).unwrap_or_default();
        let placed = memory.write(banks.code.start(), used);
        placed.map_err(PlaceError::from)?;
        match variables {
            Some(file) => file.share(&memory)?,
            None => {
                let placed = memory.write(banks.variables.start(), &platform.new_variables());
                placed.map_err(PlaceError::from)?;
            }
        }
        Ok(Some(Self {
            banks,
            memory: Arc::new(memory),
        }))
    }

    /// Gives it to a machine, before its vCPUs are made.
    pub(crate) fn map(self, vm: &mut impl Vm) -> Result<MappedFlash, RunError> {
        let roms = vm.map_rom(Arc::clone(&self.memory))?;
        Ok(MappedFlash { flash: self, roms })
    }
}

/// Flash that a machine has been given.
pub(crate) struct MappedFlash {
    flash: FlashMemory,
    /// For each bank, in the order of their addresses.
    roms: Vec<Arc<dyn Rom>>,
}

impl MappedFlash {
    /// Attaches its chips.
    pub(crate) fn attach(self, board: &mut Board, bus: FlashBus, reports: &Arc<Reports>) {
        let Flash { code, variables } = self.flash.banks;
        let mut banks = [(code, true), (variables, false)];
        banks.sort_unstable_by_key(|(range, _)| range.start());
        for ((range, is_readonly), rom) in banks.into_iter().zip(self.roms) {
            let bank = Bank {
                chip: Mutex::new(CfiFlash::new(range, bus, is_readonly)),
                array: Arc::clone(&self.flash.memory),
                rom,
                reports: Arc::clone(reports),
            };
            board.attach(Place::of(range), Arc::new(bank));
        }
    }
}

/// A bank on the board, and the memory that the guest reads instead where the bank shows what it holds.
struct Bank {
    chip: Mutex<CfiFlash>,
    array: Arc<GuestMemory>,
    rom: Arc<dyn Rom>,
    reports: Arc<Reports>,
}

impl Attached for Bank {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let chip = self.chip.lock().unwrap_or_else(PoisonError::into_inner);
        chip.read(offset, data, &*self.array);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut chip = self.chip.lock().unwrap_or_else(PoisonError::into_inner);
        let was_shown = chip.shows_array();
        chip.write(offset, data, &*self.array);
        let is_shown = chip.shows_array();
        if is_shown != was_shown
            && let Err(error) = self.rom.show(is_shown)
        {
            self.reports.report(Err(error.into()));
        }
        None
    }
}
