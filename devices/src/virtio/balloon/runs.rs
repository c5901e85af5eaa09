//! The pages of a request (virtio 1.2, section 5.5.6).

use firstlight_base::{Gpa, GpaRange};

/// How large a page is, whatever the guest's own pages are.
pub const PAGE: u64 = 4096;

/// The pages whose numbers are in `bytes`, neighbours together, in their order. What is left over of
/// a last number is none.
///
/// They are only claimed: nothing says that there is memory.
pub fn runs(bytes: &[u8]) -> impl Iterator<Item = GpaRange> + '_ {
    let (numbers, _) = bytes.as_chunks();
    let mut pages = numbers
        .iter()
        .filter_map(|number| page(u32::from_le_bytes(*number)))
        .peekable();
    core::iter::from_fn(move || {
        let mut run = pages.next()?;
        while let Some(wider) = pages.peek().and_then(|page| join(run, *page)) {
            run = wider;
            pages.next();
        }
        Some(run)
    })
}

fn page(number: u32) -> Option<GpaRange> {
    GpaRange::new(Gpa::new(u64::from(number) * PAGE), PAGE)
}

/// Both together, where one begins at the other's end.
fn join(run: GpaRange, page: GpaRange) -> Option<GpaRange> {
    if run.end() == page.start() {
        GpaRange::between(run.start(), page.end())
    } else if page.end() == run.start() {
        GpaRange::between(page.start(), run.end())
    } else {
        None
    }
}
