//! What is put into memory beside the kernel: its initial ramdisk, and modules.

use crate::draft::{Draft, Need, PAGE, range};
use crate::protocol::Way;
use crate::{Content, Module, Piece, PlanError};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use firstlight_base::{GIB, Gpa, GpaRange};

const BELOW_4_GIB: GpaRange = range(0, 4 * GIB);
const ANYWHERE: GpaRange = range(0, u64::MAX);
const LARGE_PAGE: u64 = 0x20_0000;

/// The highest RAM that the kernel allows, below 4 GiB and on a large page where that can be had:
/// there it is in nobody's way, whatever the kernel uses while it starts.
pub(crate) fn put_initrd(
    draft: &mut Draft,
    way: &Way<'_>,
    len: Option<u64>,
) -> Result<Option<GpaRange>, PlanError> {
    let Some(len) = len else { return Ok(None) };
    if len == 0 {
        return Err(PlanError::EmptyInitrd);
    }
    let within = way.initrd_limit().map_or(ANYWHERE, up_to);
    let low = within.intersection(BELOW_4_GIB).unwrap_or(within);
    let need = Need {
        name: "initrd",
        len,
        align: PAGE,
        within,
        why: "",
    };
    let range = [(LARGE_PAGE, low), (PAGE, low), (LARGE_PAGE, within)]
        .into_iter()
        .find_map(|(align, within)| {
            draft
                .highest(&Need {
                    align,
                    within,
                    ..need
                })
                .ok()
        })
        .map_or_else(|| draft.highest(&need), Ok)?;
    let why = match way.initrd_limit() {
        Some(last) => {
            format!("highest free RAM up to {last}, which the kernel sets as its limit").into()
        }
        None => Cow::Borrowed("highest free RAM; the kernel sets no limit"),
    };
    draft.put(Piece {
        name: "initrd".into(),
        range,
        content: Content::Initrd,
        why,
    })?;
    Ok(Some(range))
}

/// The highest RAM below 4 GiB, because those who are given modules are entered without paging.
pub(crate) fn put_modules(
    draft: &mut Draft,
    way: &Way<'_>,
    modules: &[Module],
) -> Result<Vec<GpaRange>, PlanError> {
    let mut ranges = Vec::with_capacity(modules.len());
    for (number, module) in modules.iter().enumerate() {
        let Some(align) = way.gate.modules() else {
            return Err(PlanError::NoModules {
                protocol: way.protocol,
            });
        };
        if module.len == 0 {
            return Err(PlanError::EmptyModule { number });
        }
        if let Some(at) = module.cmdline.find('\0') {
            return Err(PlanError::CmdlineNul { at });
        }
        let name = format!("module {number}");
        let range = draft.highest(&Need {
            name: &name,
            len: module.len,
            align,
            within: BELOW_4_GIB,
            why: "",
        })?;
        draft.put(Piece {
            name: name.into(),
            range,
            content: Content::Module(number),
            why: "highest free RAM below 4 GiB, which is all that the kernel is told in".into(),
        })?;
        ranges.push(range);
    }
    Ok(ranges)
}

fn up_to(last: Gpa) -> GpaRange {
    last.checked_add(1)
        .and_then(|end| GpaRange::between(Gpa::new(0), end))
        .unwrap_or(ANYWHERE)
}
