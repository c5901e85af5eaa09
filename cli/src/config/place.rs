//! Paths in a file, which begin at the file's own folder.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// `value` with its relative paths made to begin at `folder`. Which parts are paths is said by what
/// the help calls the value: `FILE`, `FILE[=TEXT]`, `IMAGE[,readonly]`, `DIR[:TAG][,readonly]`, `CID[,uds=PATH]`.
pub(super) fn anchored(folder: &Path, value_name: &str, value: &str) -> OsString {
    let name = value_name.replace(['[', ']'], "");
    let Some((head, options)) = name.split_once(',') else {
        return match name.split_once('=') {
            Some((head, _)) if is_path(head) => before_sign('=', folder, value),
            None if is_path(&name) => joined(folder, value),
            _ => value.into(),
        };
    };
    let keys = options.split(',').filter_map(|option| {
        let (key, value) = option.split_once('=')?;
        is_path(value).then_some(key)
    });
    let keys: Vec<&str> = keys.collect();
    let mut out = OsString::new();
    for (number, part) in value.split(',').enumerate() {
        if number > 0 {
            out.push(",");
        }
        match part.split_once('=') {
            Some((key, path)) if number > 0 && keys.contains(&key) => {
                out.push(format!("{key}="));
                out.push(joined(folder, path));
            }
            _ if number == 0 && is_path(head) => out.push(joined(folder, part)),
            _ if number == 0 && head.split_once(':').is_some_and(|(head, _)| is_path(head)) => {
                out.push(before_sign(':', folder, part));
            }
            _ => out.push(part),
        }
    }
    out
}

fn is_path(name: &str) -> bool {
    ["FILE", "PATH", "DIR", "IMAGE"].contains(&name)
}

/// The path ends at the first `sign` that is not written twice; so must those of the folder be.
fn before_sign(sign: char, folder: &Path, value: &str) -> OsString {
    let mut doubled = Vec::new();
    for &byte in folder.as_os_str().as_bytes() {
        doubled.push(byte);
        if char::from(byte) == sign {
            doubled.push(byte);
        }
    }
    joined(Path::new(&OsString::from_vec(doubled)), value)
}

fn joined(folder: &Path, path: &str) -> OsString {
    // Neither nothing nor standard input is in a folder.
    if ["", "-"].contains(&path) {
        return OsStr::new(path).to_owned();
    }
    folder.join(path).into_os_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_files_folder_and_nothing_else_does() {
        for (name, value, anchored_there) in [
            ("FILE", "vmlinuz", "/vm/vmlinuz"),
            ("FILE", "a,b=c", "/vm/a,b=c"),
            ("FILE", "../vmlinuz", "/vm/../vmlinuz"),
            ("FILE", "/boot/vmlinuz", "/boot/vmlinuz"),
            ("FILE", "", ""),
            ("FILE", "-", "-"),
            ("FILE[=TEXT]", "xen=dom0 a=b", "/vm/xen=dom0 a=b"),
            ("PATH[,readonly]", "disk,readonly", "/vm/disk,readonly"),
            ("PATH[,readonly]", "/disk", "/disk"),
            ("IMAGE[,readonly]", "root", "/vm/root"),
            ("FILE[,size=SIZE]", "log,size=1M", "/vm/log,size=1M"),
            ("NAME,file=FILE", "opt/a,file=b", "opt/a,file=/vm/b"),
            ("NAME,file=FILE", "opt/a,string=b", "opt/a,string=b"),
            ("DIR", "modules", "/vm/modules"),
            ("DIR[:TAG][,readonly]", "src:s,ro", "/vm/src:s,ro"),
            ("CID[,uds=PATH]", "3,uds=sock", "3,uds=/vm/sock"),
            ("CID[,uds=PATH]", "3,uds=/run/sock", "3,uds=/run/sock"),
            ("CID[,uds=PATH]", "3", "3"),
            (
                "TYPE,socket=PATH[,tag=TAG]",
                "fs,socket=s,tag=t",
                "fs,socket=/vm/s,tag=t",
            ),
            ("TEXT", "console=ttyS0,115200", "console=ttyS0,115200"),
            ("user|tap=NAME|none", "tap=tap0", "tap=tap0"),
        ] {
            let anchored = anchored(Path::new("/vm"), name, value);
            assert_eq!(anchored, anchored_there, "{name} {value}");
        }
    }

    #[test]
    fn a_file_in_the_current_folder_leaves_paths_as_they_are() {
        assert_eq!(anchored(Path::new(""), "FILE", "vmlinuz"), "vmlinuz");
    }

    #[test]
    fn an_equals_sign_in_the_folder_stays_a_part_of_the_path() {
        let anchored = anchored(Path::new("a=b"), "FILE[=TEXT]", "c=d");
        assert_eq!(anchored, "a==b/c=d");
    }
}
