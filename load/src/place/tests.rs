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
