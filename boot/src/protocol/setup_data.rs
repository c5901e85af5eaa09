//! The list of `setup_data`: what a Linux/x86 kernel is told that has no room in the zero page
//! (`Documentation/arch/x86/boot.rst`, field `setup_data`).

use crate::draft::{Draft, LOW, Need};
use crate::loader::bootparam::{SETUP_DTB, SETUP_E820_EXT, SETUP_INDIRECT, SETUP_RNG_SEED};
use crate::protocol::zero_page;
use crate::{E820Entry, PlanError, Request, SetupData};
use alloc::vec::Vec;
use firstlight_base::Gpa;
use firstlight_image::{BzImage, Version};

/// The protocol that has the list.
const SINCE: Version = Version(0x209);
/// Every node lies where it is mapped from the kernel's first instruction on, and where neither
/// KASLR nor the kernel's allocator takes it for free.
const WHY: &str = "conventional memory, where KASLR and the kernel's allocator keep off it";

/// Puts the list that `request` and a memory map of `e820` make for a kernel that came in
/// `bzimage`; returns where it begins, 0 if there is none.
pub(crate) fn put(
    draft: &mut Draft,
    bzimage: Option<&BzImage>,
    request: &Request,
    e820: &[E820Entry],
) -> Result<Gpa, PlanError> {
    let beyond = e820.get(zero_page::E820_MAX..).unwrap_or_default();
    let mut list = List::of(bzimage);
    if list.is_unknown() {
        return list.refuse_all(request, beyond);
    }
    for data in request.setup_data.iter().rev() {
        list.put_own(draft, data)?;
    }
    if !beyond.is_empty() {
        let lines = zero_page::encode_e820(beyond);
        list.put(draft, "setup_data: memory map", SETUP_E820_EXT, &lines)?;
    }
    if let Some(dtb) = &request.dtb {
        check_tree(dtb)?;
        list.put(draft, "setup_data: device tree", SETUP_DTB, dtb)?;
    }
    if list.knows(SETUP_RNG_SEED) {
        let seed = &request.rng_seed;
        list.put(draft, "setup_data: random seed", SETUP_RNG_SEED, seed)?;
    }
    Ok(list.first)
}

/// Linux takes a tree without a look at how much of it there is.
fn check_tree(dtb: &[u8]) -> Result<(), PlanError> {
    /// Devicetree Specification 0.4, section 5.2; its numbers are big-endian.
    const MAGIC: u32 = 0xd00d_feed;
    let mut words = dtb
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_be_bytes(*word));
    let (magic, len) = (words.next(), words.next());
    let whole = len.is_some_and(|len| len as usize <= dtb.len());
    if magic == Some(MAGIC) && whole {
        return Ok(());
    }
    Err(PlanError::NoDeviceTree {
        len: dtb.len(),
        claimed: len.filter(|_| magic == Some(MAGIC)),
    })
}

/// The list, put from its end on.
struct List {
    version: Option<Version>,
    /// The highest type that the kernel knows, where it says so.
    most: Option<u32>,
    first: Gpa,
}

impl List {
    /// What the kernel itself brings stays at the end.
    fn of(bzimage: Option<&BzImage>) -> Self {
        Self {
            version: bzimage.map(|bzimage| bzimage.setup.version()),
            most: bzimage
                .and_then(|bzimage| bzimage.kernel_info)
                .map(|info| info.setup_type_max),
            first: Gpa::new(bzimage.map_or(0, |bzimage| bzimage.setup.setup_data())),
        }
    }

    /// Whether the kernel is too old to look for the list.
    fn is_unknown(&self) -> bool {
        self.version.is_some_and(|version| version < SINCE)
    }

    fn refuse_all(&self, request: &Request, beyond: &[E820Entry]) -> Result<Gpa, PlanError> {
        let wanted = request.dtb.is_some() || !request.setup_data.is_empty() || !beyond.is_empty();
        match self.version {
            Some(version) if wanted => Err(PlanError::TooOld {
                what: "setup_data",
                version,
                since: SINCE,
            }),
            _ => Ok(Gpa::new(0)),
        }
    }

    /// Whether a node of `kind` means something to the kernel, as far as one can know.
    fn knows(&self, kind: u32) -> bool {
        match self.most {
            Some(most) if kind & SETUP_INDIRECT != 0 => {
                most & SETUP_INDIRECT != 0 && kind & !SETUP_INDIRECT <= most & !SETUP_INDIRECT
            }
            Some(most) => kind <= most & !SETUP_INDIRECT,
            // Only a kernel that says so follows a node to its data.
            None => kind & SETUP_INDIRECT == 0,
        }
    }

    fn put_own(&mut self, draft: &mut Draft, data: &SetupData) -> Result<(), PlanError> {
        if !data.indirect {
            return self.put(draft, "setup_data: as asked for", data.kind, &data.bytes);
        }
        let kind = data.kind | SETUP_INDIRECT;
        if !self.knows(kind) {
            return Err(self.refused(kind));
        }
        let len = data.bytes.len() as u64;
        let placed = draft.put_lowest(
            &Need {
                name: "what a setup_data points to",
                len: len.max(1),
                align: 16,
                within: LOW,
                why: WHY,
            },
            data.bytes.clone(),
        )?;
        // struct setup_indirect
        let mut node = Vec::new();
        node.extend(kind.to_le_bytes());
        node.extend(0_u32.to_le_bytes());
        node.extend(len.to_le_bytes());
        node.extend(placed.start().get().to_le_bytes());
        self.put(draft, "setup_data: as asked for", SETUP_INDIRECT, &node)
    }

    /// Puts a node in front of the others (`struct setup_data`).
    fn put(
        &mut self,
        draft: &mut Draft,
        name: &'static str,
        kind: u32,
        data: &[u8],
    ) -> Result<(), PlanError> {
        if !self.knows(kind) {
            return Err(self.refused(kind));
        }
        let mut node = Vec::with_capacity(data.len().saturating_add(16));
        node.extend(self.first.get().to_le_bytes());
        node.extend(kind.to_le_bytes());
        node.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
        node.extend(data);
        let need = Need {
            name,
            len: node.len() as u64,
            align: 8,
            within: LOW,
            why: WHY,
        };
        self.first = draft.put_lowest(&need, node)?.start();
        Ok(())
    }

    fn refused(&self, kind: u32) -> PlanError {
        PlanError::SetupDataUnknown {
            kind,
            most: self.most,
        }
    }
}
