use super::*;
use crate::testing::firmware;
use crate::{Image, ImageError, Limits};
use alloc::string::ToString;

const ARM64: u16 = 0xaa64;

fn opened(bytes: &[u8]) -> Result<Image<'_>, ImageError> {
    Image::open(bytes, &Limits::default())
}

fn only(firmware: &Firmware) -> Range<u64> {
    assert_eq!(firmware.volumes.len(), 1);
    firmware.volumes[0].clone()
}

#[test]
fn firmware_runs_on_what_its_first_code_is_for() {
    for (machine, architecture) in [
        (0x8664, Architecture::X86_64),
        (ARM64, Architecture::Arm64),
        (0x5064, Architecture::Riscv64),
    ] {
        for file in [firmware(machine).build(), firmware(machine).pe32().build()] {
            let image = opened(&file).unwrap();
            assert_eq!(image.architecture(), architecture);
            assert_eq!(only(image.firmware().unwrap()), 0..0x1000);
        }
    }
}

#[test]
fn a_page_may_come_before_the_volume() {
    let file = firmware(ARM64).behind_a_page().build();
    let image = opened(&file).unwrap();
    assert_eq!(image.to_string(), "UEFI firmware, arm64");
    assert_eq!(only(image.firmware().unwrap()), 0x1000..0x2000);
}

#[test]
fn volumes_that_follow_are_counted() {
    let mut file = firmware(ARM64).without_code().build();
    file.extend(firmware(ARM64).build());
    let image = opened(&file).unwrap();
    assert_eq!(image.firmware().unwrap().volumes.len(), 2);
    assert_eq!(image.architecture(), Architecture::Arm64);
}

#[test]
fn a_store_of_variables_is_no_firmware() {
    let file = firmware(ARM64).without_code().build();
    let refusal = opened(&file).unwrap_err().to_string();
    assert!(refusal.contains("a store of variables"), "{refusal}");
}

#[test]
fn a_volume_says_where_it_is_broken() {
    let whole = firmware(ARM64).build();
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = whole.clone();
        change(&mut file);
        Firmware::parse(&file).unwrap_err()
    };
    let cut = broken(&|file| file.truncate(0xfff));
    assert_eq!(
        cut,
        FirmwareVolumeError::Outside {
            at: 0,
            len: 0x1000,
            file: 0xfff
        }
    );
    let changed = broken(&|file| file[0x10] ^= 1);
    assert_eq!(changed, FirmwareVolumeError::Checksum { at: 0 });
    let small = broken(&|file| file[0x20..0x28].fill(0));
    assert!(matches!(small, FirmwareVolumeError::Lengths { len: 0, .. }));
}

#[test]
fn no_cut_and_no_changed_byte_is_trouble() {
    let whole = firmware(ARM64).pe32().build();
    for len in 0x2c..whole.len() {
        assert!(Firmware::parse(&whole[..len]).is_err());
    }
    // What behind the header is changed makes it no other volume.
    for at in 0x48..0x100 {
        for value in [0, 1, 3, 0x10, 0x7f, 0xff] {
            let mut file = whole.clone();
            file[at] = value;
            assert_eq!(only(&Firmware::parse(&file).unwrap()), 0..0x1000);
        }
    }
}
