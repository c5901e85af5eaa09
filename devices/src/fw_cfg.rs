//! QEMU's firmware configuration device: files that the host has for the guest's firmware and kernel
//! (QEMU's `docs/specs/fw_cfg.rst`).

mod dma;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use firstlight_base::Gpa;

/// A file that the guest can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfgFile {
    /// How the guest finds it. Those of users begin with `opt/`, and then the name of somebody's domain
    /// backwards.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Files that cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FwCfgError {
    /// A file has a name that guests cannot read.
    #[error(
        "{name:?} cannot be the name of a file for the firmware: it has 1 to 55 visible ASCII characters"
    )]
    Name {
        /// Which.
        name: String,
    },
    /// Two files have the same name.
    #[error("two files for the firmware have the name {name:?}")]
    Twice {
        /// Which.
        name: String,
    },
    /// There are more files than numbers for them.
    #[error(
        "there are {count} files for the firmware, and can be {}",
        FwCfg::MOST_FILES
    )]
    Many {
        /// How many.
        count: usize,
    },
    /// A file is longer than can be said.
    #[error("the file {name:?} for the firmware has 4 GiB or more")]
    Long {
        /// Which.
        name: String,
    },
}

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    selected: u16,
    /// Where in the selected item the next byte comes from.
    offset: usize,
    /// The upper half of a command's address.
    dma_high: u32,
}

/// The numbers of items that are no user's.
const SIGNATURE: u16 = 0;
const ID: u16 = 1;
const FILE_DIR: u16 = 0x19;
/// The number of vCPUs that run, and the highest that can (QEMU's `FW_CFG_NB_CPUS`, `FW_CFG_MAX_CPUS`).
const CPUS: [u16; 2] = [0x05, 0x0f];
const FIRST_FILE: u16 = 0x20;

/// What there is: the data register, and commands in memory.
const FEATURES: u32 = 1 << 0 | 1 << 1;
/// What the register of commands reads as.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";
/// Bytes of a name, with the NUL behind it.
const NAME_LEN: usize = 56;

impl Default for FwCfg {
    /// A device without files.
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl FwCfg {
    /// So many files there are at most, as in QEMU (`FW_CFG_FILE_SLOTS_DFLT`).
    pub const MOST_FILES: usize = 0x20;
    /// How many ports it has, on machines with ports.
    pub const PORTS: u64 = 12;

    /// A device with these files.
    ///
    /// # Errors
    ///
    /// [`FwCfgError`] where a name or a size cannot be told to guests.
    pub fn new(files: Vec<FwCfgFile>) -> Result<Self, FwCfgError> {
        Self::check(&files)?;
        Ok(Self::of(files))
    }

    fn of(mut files: Vec<FwCfgFile>) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut directory = be32(files.len()).to_vec();
        let mut items = BTreeMap::new();
        for (file, number) in files.into_iter().zip(FIRST_FILE..) {
            directory.extend(be32(file.bytes.len()));
            directory.extend(number.to_be_bytes());
            directory.extend([0; 2]);
            let mut name = file.name.into_bytes();
            name.resize(NAME_LEN, 0);
            directory.extend(name);
            items.insert(number, file.bytes);
        }
        items.insert(SIGNATURE, b"QEMU".to_vec());
        items.insert(ID, FEATURES.to_le_bytes().to_vec());
        items.insert(FILE_DIR, directory);
        Self {
            items,
            selected: SIGNATURE,
            offset: 0,
            dma_high: 0,
        }
    }

    /// The same for a machine of that many vCPUs, which a PC's firmware asks for.
    #[must_use]
    pub fn with_cpus(mut self, count: u16) -> Self {
        for item in CPUS {
            self.items.insert(item, count.to_le_bytes().to_vec());
        }
        self
    }

    /// Whether these files can be offered.
    ///
    /// # Errors
    ///
    /// [`FwCfgError`] as for [`new`](Self::new).
    pub fn check(files: &[FwCfgFile]) -> Result<(), FwCfgError> {
        let mut names = BTreeSet::new();
        for FwCfgFile { name, bytes } in files {
            let is_visible = name.bytes().all(|byte| byte.is_ascii_graphic());
            if name.is_empty() || name.len() >= NAME_LEN || !is_visible {
                return Err(FwCfgError::Name { name: name.clone() });
            }
            if u32::try_from(bytes.len()).is_err() {
                return Err(FwCfgError::Long { name: name.clone() });
            }
            if !names.insert(name) {
                return Err(FwCfgError::Twice { name: name.clone() });
            }
        }
        match files.len() {
            count if count > FwCfg::MOST_FILES => Err(FwCfgError::Many { count }),
            _ => Ok(()),
        }
    }

    /// Fills `data` with what the ports from `offset` read as.
    pub fn read_ports(&mut self, offset: u64, data: &mut [u8]) {
        match (offset, data) {
            (1, [byte]) => *byte = self.next_byte(),
            (4.., data) => read_dma(offset.wrapping_sub(4), data),
            _ => {}
        }
    }

    /// Writes to the ports from `offset`; the address of a command, where that begins one.
    pub fn write_ports(&mut self, offset: u64, data: &[u8]) -> Option<Gpa> {
        match (offset, data) {
            (0, &[low, high]) => self.select(u16::from_le_bytes([low, high])),
            (4.., data) => return self.write_dma(offset.wrapping_sub(4), data),
            _ => {}
        }
        None
    }

    /// Fills `data` with what the registers in memory from `offset` read as.
    pub fn read_registers(&mut self, offset: u64, data: &mut [u8]) {
        match offset {
            0 => data.iter_mut().for_each(|byte| *byte = self.next_byte()),
            16.. => read_dma(offset.wrapping_sub(16), data),
            _ => {}
        }
    }

    /// Writes to the registers in memory from `offset`; the address of a command, where that begins
    /// one.
    pub fn write_registers(&mut self, offset: u64, data: &[u8]) -> Option<Gpa> {
        match (offset, data) {
            (8, &[high, low]) => self.select(u16::from_be_bytes([high, low])),
            (16.., data) => return self.write_dma(offset.wrapping_sub(16), data),
            _ => {}
        }
        None
    }

    fn select(&mut self, item: u16) {
        self.selected = item;
        self.offset = 0;
    }

    /// What is left of the selected item; there is nothing of one that is not there.
    fn rest(&self) -> &[u8] {
        let item = self.items.get(&self.selected);
        item.and_then(|item| item.get(self.offset..)).unwrap_or(&[])
    }

    /// Behind its end, an item is zero.
    fn next_byte(&mut self) -> u8 {
        let byte = self.rest().first().copied().unwrap_or(0);
        self.skip(1);
        byte
    }

    fn skip(&mut self, len: usize) {
        self.offset = self.offset.saturating_add(len);
    }

    /// The command begins when the lower half of its address is written.
    fn write_dma(&mut self, offset: u64, data: &[u8]) -> Option<Gpa> {
        match (offset, data) {
            (0, &[a, b, c, d]) => {
                self.dma_high = u32::from_be_bytes([a, b, c, d]);
                None
            }
            (4, &[a, b, c, d]) => {
                let low = u32::from_be_bytes([a, b, c, d]);
                let high = core::mem::take(&mut self.dma_high);
                Some(Gpa::new(u64::from(high) << 32 | u64::from(low)))
            }
            (0, data) => {
                let address = <[u8; 8]>::try_from(data).ok()?;
                Some(Gpa::new(u64::from_be_bytes(address)))
            }
            _ => None,
        }
    }
}

fn be32(number: usize) -> [u8; 4] {
    let number = u32::try_from(number).expect("sizes and counts have been checked");
    number.to_be_bytes()
}

fn read_dma(offset: u64, data: &mut [u8]) {
    let offset = usize::try_from(offset).unwrap_or(DMA_SIGNATURE.len());
    for (byte, signature) in data.iter_mut().zip(DMA_SIGNATURE.iter().skip(offset)) {
        *byte = *signature;
    }
}
