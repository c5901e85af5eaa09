//! Where a user's cache is.

use std::ffi::OsString;
use std::path::PathBuf;

/// The folder, by the variables of the environment that `var` answers for. A variable that is
/// empty counts as not set, as does a relative `XDG_CACHE_HOME` (XDG Base Directory Specification,
/// "Basics").
pub(super) fn of_user(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let var = |name| {
        var(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let below = |folder: PathBuf| folder.join("firstlight").join("images");
    if let Some(folder) = var("FIRSTLIGHT_CACHE") {
        return Some(folder);
    }
    var("XDG_CACHE_HOME")
        .filter(|folder| folder.is_absolute())
        .or_else(|| Some(var("HOME")?.join(".cache")))
        .map(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Option<PathBuf> {
        of_user(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_variable_of_our_own_comes_first_then_those_of_xdg() {
        let home = ("HOME", "/h");
        let xdg = ("XDG_CACHE_HOME", "/x");
        let own = ("FIRSTLIGHT_CACHE", "mine");
        assert_eq!(place(&[home, xdg, own]), Some("mine".into()));
        assert_eq!(place(&[home, xdg]), Some("/x/firstlight/images".into()));
        assert_eq!(place(&[home]), Some("/h/.cache/firstlight/images".into()));
        assert_eq!(place(&[]), None);
    }

    #[test]
    fn a_variable_that_is_empty_or_relative_is_none() {
        let home = ("HOME", "/h");
        let at_home = Some("/h/.cache/firstlight/images".into());
        assert_eq!(place(&[home, ("XDG_CACHE_HOME", "")]), at_home);
        assert_eq!(place(&[home, ("XDG_CACHE_HOME", "x")]), at_home);
        assert_eq!(place(&[home, ("FIRSTLIGHT_CACHE", "")]), at_home);
    }
}
