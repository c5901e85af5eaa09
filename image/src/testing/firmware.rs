//! A builder of UEFI firmware.

use super::put;
use alloc::vec;
use alloc::vec::Vec;

/// Firmware of one volume of 4 KiB, whose security core is for the machine of that number in PE files.
#[must_use]
pub fn firmware(machine: u16) -> FirmwareBuilder {
    FirmwareBuilder {
        machine: Some(machine),
        start: 0,
        is_terse: true,
    }
}

/// Firmware in the making.
#[derive(Clone, Debug)]
pub struct FirmwareBuilder {
    machine: Option<u16>,
    start: usize,
    is_terse: bool,
}

impl FirmwareBuilder {
    const LEN: usize = 0x1000;
    const HEADER: usize = 0x48;

    /// With a page before the volume, as firmware for Arm has it.
    #[must_use]
    pub fn behind_a_page(self) -> Self {
        Self {
            start: 0x1000,
            ..self
        }
    }

    /// With its security core as a PE32 image, not a terse one.
    #[must_use]
    pub fn pe32(self) -> Self {
        Self {
            is_terse: false,
            ..self
        }
    }

    /// Without a file, as a store of variables is.
    #[must_use]
    pub fn without_code(self) -> Self {
        Self {
            machine: None,
            ..self
        }
    }

    /// The firmware's bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut volume = vec![0xff; Self::LEN];
        put(&mut volume, 0, &[0; Self::HEADER]);
        put(&mut volume, 0x20, &(Self::LEN as u64).to_le_bytes());
        put(&mut volume, 0x28, b"_FVH");
        put(&mut volume, 0x30, &[Self::HEADER.to_le_bytes()[0], 0]);
        let words = volume.as_chunks::<2>().0.iter().take(Self::HEADER / 2);
        let sum = words.fold(0, |sum: u16, word| {
            sum.wrapping_add(u16::from_le_bytes(*word))
        });
        put(&mut volume, 0x32, &sum.wrapping_neg().to_le_bytes());
        if let Some(machine) = self.machine {
            put(&mut volume, Self::HEADER, &self.security_core(machine));
        }
        let mut bytes = vec![0; self.start];
        bytes.extend(volume);
        bytes
    }

    fn security_core(&self, machine: u16) -> Vec<u8> {
        let program = match self.is_terse {
            true => [b"VZ", &machine.to_le_bytes()[..]].concat(),
            false => {
                let mut pe = vec![0; 0x40];
                put(&mut pe, 0, b"MZ");
                put(&mut pe, 0x3c, &[0x40]);
                pe.extend(b"PE\0\0");
                pe.extend(machine.to_le_bytes());
                pe.extend([0; 18]);
                pe
            }
        };
        // Padding comes first, as linkers of firmware put it.
        let mut sections = vec![4, 0, 0, 0x19];
        let kind = if self.is_terse { 0x12 } else { 0x10 };
        sections.extend([low(program.len(), 4), 0, 0, kind]);
        sections.extend(program);
        let mut file = vec![0; 18];
        file.extend([3, 0, low(sections.len(), 24), 0, 0, 0]);
        file.extend(sections);
        file
    }
}

/// The low byte of a length with its header.
fn low(len: usize, header: usize) -> u8 {
    let [low, ..] = len.saturating_add(header).to_le_bytes();
    low
}
