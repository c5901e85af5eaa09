//! What a disk holds that is to be a root: looked at before a guest finds out.

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::file::InputFile;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The superblock's magic of ext4, and of ext2 and ext3, which its driver mounts, too (Linux
/// `Documentation/filesystems/ext4/super.rst`: a block of 1 KiB at 1 KiB, `s_magic`).
const EXT4: (usize, &[u8]) = (0x438, &[0x53, 0xef]);

/// What else is known by a few bytes at some offset. Partition tables come last: their signature is
/// also that of many a boot sector.
const OTHERS: [(usize, &[u8], &str); 14] = [
    (0, b"QFI\xfb", "a qcow2 image; raw ones can be disks"),
    (0, b"KDMV", "a VMDK image; raw ones can be disks"),
    (0, b"vhdxfile", "a VHDX image; raw ones can be disks"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"070701", "a cpio archive, which --initrd takes"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0x400, &[0xe2, 0xe1, 0xf5, 0xe0], "an EROFS file system"),
    (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
    (0x200, b"EFI PART", "a disk with partitions (GPT)"),
    (0x1000, b"EFI PART", "a disk with partitions (GPT)"),
    (
        0x1fe,
        &[0x55, 0xaa],
        "a disk with partitions (MBR), or a boot sector",
    ),
];

/// As many bytes as all of these are in.
const LOOKED_AT: u64 = 0x1_1000;

/// Fails unless the image or block device at `path` holds an ext4 file system from its first byte on.
pub(crate) fn refuse_other_than_ext4(path: &Path) -> Result<(), Failure> {
    let beginning = beginning(path)?;
    let has = |offset: usize, magic: &[u8]| {
        let end = offset + magic.len();
        beginning.get(offset..end) == Some(magic)
    };
    if has(EXT4.0, EXT4.1) {
        return Ok(());
    }
    let mut known = OTHERS.iter();
    let known = known.find(|(offset, magic, _)| has(*offset, magic));
    let is = match known {
        Some((_, _, is)) => format!("it is {is}"),
        None if beginning.is_empty() => "it is empty".to_owned(),
        None => "at 0x438, where its magic 0xef53 would be, is something else".to_owned(),
    };
    let message = format!("{} has no ext4 file system: {is}", path.display());
    let hint =
        "in --cmdline, root=/dev/vda1 names a partition, and rootfstype= another file system";
    Err(Failure::new(ExitStatus::Image, message).with_hint(hint))
}

/// Where ext4 says how large its blocks are: 1 KiB, so often doubled (`s_log_block_size`).
const EXT4_LOG_BLOCK_SIZE: usize = 0x418;
/// The one size that direct access takes: that of a page.
const DIRECT_LOG_BLOCK_SIZE: u8 = 2;

/// Fails where the ext4 file system at `path` has other blocks than direct access (DAX) takes.
pub(crate) fn refuse_small_blocks(path: &Path) -> Result<(), Failure> {
    let beginning = beginning(path)?;
    match beginning.get(EXT4_LOG_BLOCK_SIZE) {
        Some(&DIRECT_LOG_BLOCK_SIZE) => Ok(()),
        Some(&log @ 0..=6) => {
            let message = format!(
                "{} has an ext4 file system with blocks of {} bytes, and direct access (dax) takes 4096",
                path.display(),
                1024_u32 << log
            );
            let hint =
                "mke2fs -b 4096 makes such; rootflags=dax=never in --cmdline mounts it without dax";
            Err(Failure::new(ExitStatus::Image, message).with_hint(hint))
        }
        _ => Err(Failure::new(
            ExitStatus::Image,
            format!(
                "{}: its ext4 file system does not say how large its blocks are",
                path.display()
            ),
        )),
    }
}

fn beginning(path: &Path) -> Result<Vec<u8>, Failure> {
    let is_device = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
    let read = |file: &File| {
        let mut bytes = Vec::new();
        file.take(LOOKED_AT).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match is_device {
        true => File::open(path).and_then(|device| read(&device)),
        false => read(InputFile::open(path, "root's image")?.file()),
    };
    bytes.map_err(|error: io::Error| {
        let what = format!("cannot read {}", path.display());
        Failure::because(ExitStatus::Host, what, &error)
    })
}
