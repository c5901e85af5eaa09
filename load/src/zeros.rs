//! Zero pages: a third to a half of an unpacked kernel, and worth nothing.

/// Block by block, because the compiler makes wide instructions of a loop without a way out.
pub(crate) fn is_zero(page: &[u8]) -> bool {
    let (blocks, rest) = page.as_chunks::<64>();
    let or = |bytes: &[u8]| bytes.iter().fold(0, |or, byte| or | byte);
    blocks.iter().all(|block| or(block) == 0) && or(rest) == 0
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
