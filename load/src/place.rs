//! Puts what a plan says where it says so. Decides nothing.

use crate::GuestMemory;
use firstlight_base::{Gpa, GuestMem, OutsideRam};
use firstlight_boot::{BootPlan, Content, Piece};

/// Where the bytes come from that a plan does not carry itself.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The image's layers, the file itself first.
    pub layers: &'a [&'a [u8]],
    /// The initial ramdisk; empty where the plan has none.
    pub initrd: &'a [u8],
    /// The request's modules.
    pub modules: &'a [&'a [u8]],
}

/// Puts every piece of `plan` into `memory`, which is fresh: what no piece fills is already zero.
///
/// # Errors
///
/// [`PlaceError`] where memory or sources are not those that the plan was made for.
pub fn place(
    plan: &BootPlan,
    sources: &Sources<'_>,
    memory: &GuestMemory,
) -> Result<(), PlaceError> {
    plan.pieces().iter().try_for_each(|piece| {
        let bytes = content(piece, sources)?;
        write_nonzero(memory, piece.range.start(), bytes)?;
        Ok(())
    })
}

fn content<'a>(piece: &'a Piece, sources: &Sources<'a>) -> Result<&'a [u8], PlaceError> {
    let bytes = match &piece.content {
        Content::Bytes(bytes) => Some(bytes.as_slice()),
        Content::Image { layer, offset, len } => sources
            .layers
            .get(*layer)
            .and_then(|layer| part(layer, *offset, *len)),
        Content::Initrd => Some(sources.initrd),
        Content::Module(number) => sources.modules.get(*number).copied(),
        Content::Window => Some([].as_slice()),
    };
    bytes
        .filter(|bytes| bytes.len() as u64 <= piece.range.len())
        .ok_or_else(|| PlaceError::OtherSource {
            piece: piece.name.to_string(),
        })
}

fn part(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

/// Writes what is not zero: a third to a half of an unpacked kernel is zero pages, and memory that
/// is never touched costs nothing.
fn write_nonzero(memory: &GuestMemory, at: Gpa, bytes: &[u8]) -> Result<(), OutsideRam> {
    const PAGE: usize = 4096;
    let mut offset = 0;
    for page in bytes.chunks(PAGE) {
        if !is_zero(page) {
            let to = at.checked_add(offset).ok_or(OutsideRam {
                at,
                len: bytes.len() as u64,
            })?;
            memory.write(to, page)?;
        }
        offset += page.len() as u64;
    }
    Ok(())
}

/// Block by block, because the compiler makes wide instructions of a loop without a way out.
fn is_zero(page: &[u8]) -> bool {
    let (blocks, rest) = page.as_chunks::<64>();
    let or = |bytes: &[u8]| bytes.iter().fold(0, |or, byte| or | byte);
    blocks.iter().all(|block| or(block) == 0) && or(rest) == 0
}

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The plan was made for another image or ramdisk than this.
    #[error(
        "{piece} is not in the files that are there: they have changed since the plan was made"
    )]
    OtherSource {
        /// The piece's name.
        piece: String,
    },
    /// The plan was made for other memory than this.
    #[error(transparent)]
    OutsideRam(#[from] OutsideRam),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_zero_only_where_each_of_its_bytes_is() {
        for len in [1, 63, 64, 65, 4096] {
            let mut page = vec![0; len];
            assert!(is_zero(&page));
            for at in [0, len / 2, len - 1] {
                page[at] = 1;
                assert!(!is_zero(&page), "byte {at} of {len}");
                page[at] = 0;
            }
        }
    }
}
