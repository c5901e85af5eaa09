//! Small kernels that could be booted, and what is wrong with the others.

use firstlight_image::Codec;
use firstlight_image::testing::{BzImageBuilder, ElfBuilder, bzimage, elf64};

/// An ELF kernel of one segment at 16 MiB that would do nothing for ever.
pub(crate) fn vmlinux() -> ElfBuilder {
    let code = [0xf4, 0xeb, 0xfd];
    elf64()
        .segment(0x100_0000, &code, 0x20_0000)
        .pvh(0x100_0000)
}

/// The same in a bzImage.
pub(crate) fn vmlinuz() -> BzImageBuilder {
    bzimage()
        .kernel_version("6.1.0-test (somebody@somewhere) #1")
        .payload(Codec::Zstd, &vmlinux().build())
}
