//! Kernel files to be unpacked and kept.

use firstlight_image::{Codec, ImageError, Limits, testing};
use firstlight_load::Layer;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A file in a folder of its own, which is removed afterwards.
#[derive(Debug)]
pub(crate) struct Source {
    folder: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Source {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let folder = TempDir::new().expect("a folder for files that are not kept");
        let path = folder.path().join("vmlinuz");
        fs::write(&path, bytes).expect("room for a small file");
        settle(&path);
        Self {
            folder,
            path,
            bytes: bytes.to_vec(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn take_apart(&self) -> Result<Vec<Layer>, ImageError> {
        let bytes = fs::read(&self.path).expect("the source is there");
        Layer::of_image(bytes, &Limits::default())
    }
}

/// Waits until a change of the file would be seen by its time.
pub(crate) fn settle(path: &Path) {
    let changed = fs::metadata(path).and_then(|file| file.modified());
    let _ = changed.expect("the file is there");
    // There is no event for this but time.
    thread::sleep(Duration::from_millis(25));
}

/// A bzImage with a kernel in it: code with zeros inside, in parts that do not begin or end at
/// pages, each kernel another.
pub(crate) fn kernel(seed: u8) -> Vec<u8> {
    let mut text = noise(seed, 0x12_3456);
    text.extend(vec![0; 0x14_0000]);
    text.extend(noise(seed ^ 0x55, 0x4_5678));
    let data = noise(seed ^ 0xaa, 0x3_0001);
    let elf = testing::elf64()
        .entry(0x100_0000)
        .segment(0x100_0000, &text, text.len() as u64 + 0x5_0000)
        .segment(0x140_1000, &data, 0x5_0000)
        .segment(0x160_0123, &data, data.len() as u64)
        .build();
    testing::bzimage().payload(Codec::Gzip, &elf).build()
}

/// Bytes that do not repeat.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) << 32 | 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
