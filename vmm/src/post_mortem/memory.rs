//! Guest memory as page walks and decoders read it.

use firstlight_base::{Gpa, GuestMem};

/// No page is smaller on any architecture.
const SMALL_PAGE: u64 = 1 << 12;

/// Up to `len` bytes from the virtual address `from`, as far as `translate` maps pages to memory.
pub(super) fn read_virtual(
    translate: impl Fn(u64) -> Option<Gpa>,
    from: u64,
    len: usize,
    memory: &impl GuestMem,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    let mut from = from;
    while bytes.len() < len {
        let left_in_page = SMALL_PAGE - from % SMALL_PAGE;
        let part = usize::try_from(left_in_page).map_or(len, |left| left.min(len - bytes.len()));
        let Some(at) = translate(from) else {
            break;
        };
        let mut page = vec![0; part];
        if memory.read(at, &mut page).is_err() {
            break;
        }
        bytes.extend_from_slice(&page);
        from = from.wrapping_add(part as u64);
    }
    bytes
}

/// The 8 bytes at `at`.
pub(super) fn read_u64(at: u64, memory: &impl GuestMem) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(Gpa::new(at), &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// The 4 bytes at `at`.
pub(super) fn read_u32(at: u64, memory: &impl GuestMem) -> Option<u64> {
    let mut bytes = [0; 4];
    memory.read(Gpa::new(at), &mut bytes).ok()?;
    Some(u64::from(u32::from_le_bytes(bytes)))
}
