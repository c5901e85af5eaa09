use super::*;

#[test]
fn nothing_is_read_from_less_than_all_registers() {
    assert_eq!(parse(""), None);
}
