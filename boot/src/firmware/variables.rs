//! A store of UEFI variables with nothing in it, as the firmware's flash comes from the factory: OVMF formats none
//! (EDK2's `OvmfPkg/Include/Fdf/VarStore.fdf.inc`; UEFI Platform Initialization Specification 1.8, volume 3, section
//! 3.2.1).

use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a block.
const BLOCK: usize = 0x1000;

/// EDK2's `gEfiSystemNvDataFvGuid`.
const NV_DATA: [u8; 16] = [
    0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50,
];
/// What may be done with the volume: all, and what is erased is ones (`EFI_FVB2`).
const ATTRIBUTES: u32 = 0x0004_feff;
/// Its header's length, with the map of its blocks.
const HEADER: u16 = 0x48;
const CHECKSUM: usize = 0x32;
const REVISION: u8 = 2;

/// EDK2's `gEfiAuthenticatedVariableGuid`, and that the store is formatted and healthy.
const VARIABLES: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];
const FORMATTED: [u8; 2] = [0x5a, 0xfe];

/// The header of the block in which updates are noted before they are made (`gEdkiiWorkingBlockSignatureGuid`): its
/// CRC, that it is valid, and how much of the block is for notes.
const WORKING_BLOCK: [u8; 32] = [
    0x2b, 0x29, 0x58, 0x9e, 0x68, 0x7c, 0x7d, 0x49, 0xa0, 0xce, 0x65, 0x00, 0xfd, 0x9f, 0x1b, 0x95,
    0x2c, 0xaf, 0x2c, 0x64, 0xfe, 0xff, 0xff, 0xff, 0xe0, 0x0f, 0, 0, 0, 0, 0, 0,
];

/// A store that takes `len` bytes; `None` where OVMF has none of that length. Half of it is variables, an
/// event log and the working block, and the other half is for the exchange of the first.
pub(crate) fn new_store(len: u64) -> Option<Vec<u8>> {
    /// Of OVMF's images of 2 and of 4 MiB.
    const KNOWN: [u64; 2] = [0x2_0000, 0x8_4000];
    let len = usize::try_from(len).ok().filter(|_| KNOWN.contains(&len))?;
    let half = len / 2;
    let working_block = half.checked_sub(BLOCK)?;
    let event_log = working_block.checked_sub(BLOCK)?;
    let mut store = vec![0xff; len];
    put(&mut store, 0, &volume_header(len));
    let variables = usize::from(HEADER);
    let room = u32::try_from(event_log.checked_sub(variables)?).ok()?;
    let header = [&VARIABLES[..], &room.to_le_bytes(), &FORMATTED, &[0; 6]].concat();
    put(&mut store, variables, &header);
    put(&mut store, working_block, &WORKING_BLOCK);
    Some(store)
}

fn volume_header(len: usize) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut header = [
        &[0; 16][..],
        &NV_DATA,
        &(len as u64).to_le_bytes(),
        b"_FVH",
        &ATTRIBUTES.to_le_bytes(),
        &HEADER.to_le_bytes(),
        // The checksum, no further header, and something reserved.
        &[0; 5],
        &[REVISION],
        &number(len / BLOCK),
        &number(BLOCK),
        &[0; 8],
    ]
    .concat();
    let sum = header.as_chunks().0.iter();
    let sum = sum.fold(0_u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes(*word))
    });
    put(&mut header, CHECKSUM, &sum.wrapping_neg().to_le_bytes());
    header
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    for (byte, &value) in into.iter_mut().skip(at).zip(bytes) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::Reader;

    #[test]
    fn a_new_store_is_what_ovmf_comes_with() {
        let store = new_store(0x8_4000).unwrap();
        let reader = Reader::new(&store);
        assert_eq!(store.len(), 0x8_4000);
        assert_eq!(reader.u64_le(0x20), Ok(0x8_4000));
        // As in OVMF_VARS_4M.fd.
        assert_eq!(reader.u16_le(0x32), Ok(0xb8af));
        assert_eq!(reader.u32_le(0x38), Ok(0x84));
        assert_eq!(reader.u32_le(0x58), Ok(0x3_ffb8));
        assert_eq!(reader.u16_le(0x5c), Ok(0xfe5a));
        assert_eq!(reader.u64_le(0x4_1018), Ok(0xfe0));
        let erased = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0xff);
        assert!(erased(&store[0x64..0x4_1000]) && erased(&store[0x4_1020..]));
        assert_eq!(new_store(0x2_0000).map(|store| store.len()), Some(0x2_0000));
        for other in [0, 0x1000, 0x10_0000, u64::MAX] {
            assert!(new_store(other).is_none());
        }
    }
}
