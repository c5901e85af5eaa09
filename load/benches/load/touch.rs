//! What a boot of Linux reads and writes up to its init, page by page, as it was counted once: of its
//! image it writes to half (alternatives, return thunks, data), or two thirds on arm64, of other
//! memory to 24 MiB (the map of pages, slabs).

use firstlight_base::{Gpa, GuestMem};
use firstlight_boot::{BootPlan, Content, Piece};
use firstlight_image::{Architecture, Image};
use firstlight_load::GuestMemory;
use std::collections::BTreeSet;
use std::hint::black_box;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Of each segment of the kernel, in thousandths: 3121 of 6179 pages of text and constants, 372 of
/// 1560 of data, all 52 of per-CPU data, 2107 of 3508 of what is for the start and of zeros.
/// Counted with Debian's cloud kernel, whose memory at init's first line was compared with its ELF.
const WRITTEN: [u64; 4] = [505, 238, 1000, 601];
/// The same of a kernel whose per-CPU data is not a segment of its own.
const WRITTEN_WITHOUT_PER_CPU: [u64; 3] = [505, 238, 601];
/// The same of an `Image`, which is one piece: 6151 of 9212 pages for arm64, 3538 of 7610 for
/// riscv64. Counted with Debian's Linux 6.12, whose memory at init's first line was compared with its
/// file.
const WRITTEN_OF_ARM64: [u64; 1] = [667];
const WRITTEN_OF_RISCV64: [u64; 1] = [464];
/// Of the pages with places in the relocation table, one in so many is not written to: 293 of 3327.
const LEFT_ALONE: usize = 11;
/// Pages elsewhere.
const OTHERS: u64 = 6000;
const PAGE: u64 = 0x1000;

/// The pages that a boot touches, and whether it writes to them.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    image: Vec<(Gpa, bool)>,
    others: Vec<(Gpa, bool)>,
}

impl Boot {
    /// Of the kernel that `plan` puts where it was linked to run.
    pub(crate) fn of(image: &Image<'_>, plan: &BootPlan) -> Self {
        let relocated = relocated(image);
        let pieces = plan.pieces().iter();
        let pieces: Vec<&Piece> = pieces
            .filter(|piece| matches!(piece.content, Content::Image { .. }))
            .collect();
        let written = match image.architecture() {
            Architecture::Arm64 => WRITTEN_OF_ARM64.as_slice(),
            Architecture::Riscv64 => &WRITTEN_OF_RISCV64,
            _ if pieces.len() == WRITTEN_WITHOUT_PER_CPU.len() => &WRITTEN_WITHOUT_PER_CPU,
            _ => &WRITTEN,
        };
        let image = pieces
            .into_iter()
            .zip(written.iter().cycle())
            .flat_map(|(piece, thousandths)| pages(piece, *thousandths, &relocated))
            .collect();
        let start = plan.platform().ram()[0].start().get() + (256 << 20);
        let other = |page| (Gpa::new(start + page * PAGE), true);
        let others = (0..OTHERS).map(other).collect();
        Self { image, others }
    }

    /// One that reads the same and writes nothing.
    pub(crate) fn without_writes(mut self) -> Self {
        for (_, written) in self.image.iter_mut().chain(&mut self.others) {
            *written = false;
        }
        self
    }

    /// The same boot of a kernel that lies so much higher.
    pub(crate) fn moved(mut self, by: u64) -> Self {
        for (at, _) in &mut self.image {
            *at = Gpa::new(at.get().wrapping_add(by));
        }
        self
    }

    /// Reads and writes what a boot does in our memory, of the image alone or of all.
    pub(crate) fn touch(&self, memory: &GuestMemory, what: What) {
        self.each(what, |at, write| {
            let mut byte = [0];
            memory
                .read(at, &mut byte)
                .expect("the plan is for this memory");
            // What nobody looks at would not be read.
            black_box(&mut byte);
            if write {
                memory
                    .write(at, &byte)
                    .expect("the plan is for this memory");
            }
        });
    }

    /// The same in the peer's.
    pub(crate) fn touch_peer(&self, memory: &GuestMemoryMmap, what: What) {
        self.each(what, |at, write| {
            let at = GuestAddress(at.get());
            let byte: u8 = black_box(memory.read_obj(at).expect("the same memory"));
            if write {
                memory.write_obj(byte, at).expect("the same memory");
            }
        });
    }

    fn each(&self, what: What, mut touch: impl FnMut(Gpa, bool)) {
        let others = match what {
            What::Image => &[][..],
            What::All => &self.others,
        };
        for &(at, write) in self.image.iter().chain(others) {
            touch(at, write);
        }
    }
}

/// How much of what a boot touches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// The kernel's image.
    Image,
    /// And the memory that the kernel takes as it starts.
    All,
}

/// The pages of `piece`: so many `thousandths` are written to, those with relocations first, and
/// others at even distances.
fn pages(piece: &Piece, thousandths: u64, relocated: &BTreeSet<u64>) -> Vec<(Gpa, bool)> {
    let first = piece.range.start().get() / PAGE;
    let last = piece.range.end().get() / PAGE;
    let count = usize::try_from((last - first) * thousandths / 1000).unwrap_or(0);
    let here = relocated.range(first..last).copied().enumerate();
    let mut written: BTreeSet<u64> = here
        .filter(|(index, _)| index % LEFT_ALONE != 0)
        .map(|(_, page)| page)
        .take(count)
        .collect();
    let others: Vec<u64> = (first..last)
        .filter(|page| !relocated.contains(page))
        .collect();
    let wanted = count - written.len();
    let chosen = (0..wanted.min(others.len())).map(|index| others[index * others.len() / wanted]);
    written.extend(chosen);
    let page = |page| (Gpa::new(page * PAGE), written.contains(&page));
    (first..last).map(page).collect()
}

/// The pages, by number, of the places in the kernel's relocation table.
fn relocated(image: &Image<'_>) -> BTreeSet<u64> {
    let table = image.relocations();
    let runs = table.and_then(|table| table.runs(image.kernel().bytes()));
    let runs = runs.map(|runs| [runs.r64, runs.inverse32, runs.r32]);
    let places = runs.into_iter().flatten().flatten();
    // The kernel's own addresses begin 2 GiB below the end, and are the physical ones above that.
    places
        .map(|place| u64::from(u32::from_le_bytes(*place) & 0x7fff_ffff) / PAGE)
        .collect()
}
