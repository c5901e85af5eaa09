//! The firmware configuration device on the board: its chip, and the memory that its commands lie in.

use super::{Attached, Board, Place};
use firstlight_devices::{Effect, FwCfg};
use firstlight_load::GuestMemory;
use std::sync::{Arc, Mutex, PoisonError};

struct FirmwareFiles {
    chip: Mutex<FwCfg>,
    memory: Arc<GuestMemory>,
    /// Whether it is reached by ports, not by addresses.
    has_ports: bool,
}

impl Board {
    /// Attaches the device with `chip` at `place`.
    pub(crate) fn attach_fw_cfg(&mut self, place: Place, chip: FwCfg, memory: &Arc<GuestMemory>) {
        let device = FirmwareFiles {
            chip: Mutex::new(chip),
            memory: Arc::clone(memory),
            has_ports: matches!(place, Place::Ports(..)),
        };
        self.attach(place, Arc::new(device));
    }
}

impl Attached for FirmwareFiles {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut chip = self.chip.lock().unwrap_or_else(PoisonError::into_inner);
        match self.has_ports {
            true => chip.read_ports(offset, data),
            false => chip.read_registers(offset, data),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut chip = self.chip.lock().unwrap_or_else(PoisonError::into_inner);
        let command = match self.has_ports {
            true => chip.write_ports(offset, data),
            false => chip.write_registers(offset, data),
        };
        if let Some(at) = command {
            chip.carry_out(&*self.memory, at);
        }
        None
    }
}
