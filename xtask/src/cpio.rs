//! Writing an initramfs archive: the "newc" format of cpio
//! (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// An archive that grows entry by entry.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
}

/// What an entry is, beside its name and permissions.
enum Kind<'a> {
    Folder,
    File(&'a [u8]),
    Link(&'a str),
    CharacterDevice { major: u32, minor: u32 },
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            next_inode: 1,
        }
    }

    /// Adds a folder; it must come before what lies in it.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, 0o755, &Kind::Folder);
    }

    /// Adds a file that may be executed.
    pub(crate) fn program(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, 0o755, &Kind::File(contents));
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, 0o644, &Kind::File(contents));
    }

    /// Adds a symbolic link to `target`.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o777, &Kind::Link(target));
    }

    /// Adds a character device.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, 0o600, &Kind::CharacterDevice { major, minor });
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.record("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, permissions: u32, kind: &Kind<'_>) {
        // File types as in inode(7).
        let (file_type, device, data) = match *kind {
            Kind::Folder => (0o04_0000, (0, 0), &b""[..]),
            Kind::File(contents) => (0o10_0000, (0, 0), contents),
            Kind::Link(target) => (0o12_0000, (0, 0), target.as_bytes()),
            Kind::CharacterDevice { major, minor } => (0o02_0000, (major, minor), &b""[..]),
        };
        self.record(path, file_type | permissions, device, data);
    }

    fn record(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        let size = u32::try_from(data.len()).expect("the format holds files of less than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        let inode = self.next_inode;
        self.next_inode += 1;
        let links = 1;
        // Times are zero: the same contents make the same archive.
        let fields = [
            inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new();
        archive.folder("dev");
        archive.character_device("dev/console", 5, 1);
        archive.program("init", b"#!/bin/sh\n");
        archive.file("note", b"odd");
        archive.link("sh", "bin/busybox");
        archive.finish()
    }

    #[test]
    fn every_record_begins_at_a_multiple_of_four() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        let begins: Vec<usize> = (0..bytes.len() - 6)
            .filter(|&at| &bytes[at..at + 6] == b"070701")
            .collect();
        assert_eq!(begins.len(), 6);
        assert!(begins.iter().all(|at| at % 4 == 0), "{begins:?}");
    }

    #[test]
    fn a_file_is_laid_out_as_the_format_says() {
        let mut archive = Archive::new();
        archive.file("note", b"odd");
        let bytes = archive.finish();
        let header = "070701\
            00000001000081A400000000000000000000000100000000000000030000000000000000\
            00000000000000000000000500000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(&bytes[110..120], b"note\0\0odd\0");
    }

    #[test]
    fn the_cpio_tool_reads_the_same() {
        let Ok(mut cpio) = Command::new("cpio")
            .args(["--list", "--verbose", "--quiet", "--numeric-uid-gid"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            eprintln!("skipped: there is no cpio on this machine");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        let seen: Vec<Vec<&str>> = listing
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let modes: Vec<&str> = seen.iter().map(|words| words[0]).collect();
        assert_eq!(
            modes,
            [
                "drwxr-xr-x",
                "crw-------",
                "-rwxr-xr-x",
                "-rw-r--r--",
                "lrwxrwxrwx"
            ]
        );
        assert_eq!(seen[1][4..6], ["5,", "1"]);
        assert_eq!(seen[2][4], "10");
        assert_eq!(seen[4][8..], ["sh", "->", "bin/busybox"]);
    }
}
