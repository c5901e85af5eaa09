//! What a process says that was started here, kept in memory: what it complains of, and how often, may be the
//! guest's to decide.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much of what it says is kept.
const MOST_SAID: usize = 4096;

/// A file in memory of so many zeros, which no writer makes longer.
#[derive(Debug)]
pub(crate) struct Notebook(File);

impl Notebook {
    /// One of that name, which is shown where open files are listed.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(name, flags)?;
        ftruncate(&file, MOST_SAID as u64)?;
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self(file.into()))
    }

    /// What the process writes to.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// What it has said, in one line, of those lines that are `wanted`.
    pub(crate) fn said(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut said = [0; MOST_SAID];
        // What cannot be read was not said.
        let _ = self.0.read_at(&mut said, 0);
        let len = said.iter().position(|&byte| byte == 0);
        let said = said.get(..len.unwrap_or(MOST_SAID)).unwrap_or(&[]);
        complaints(&String::from_utf8_lossy(said), wanted)
    }
}

/// On one line, and nothing in it that a terminal obeys: the guest may have put it there.
fn complaints(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| wanted(line))
        .collect();
    let harmless = |sign: char| {
        if sign.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            sign
        }
    };
    lines.join("; ").chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn complaints_without_end_take_no_memory() {
        let mut notebook = Notebook::new("test").unwrap().0;
        while notebook.write_all(b"no route\n").is_ok() {}
        assert!(notebook.write_all(&[b'x'; 2 * MOST_SAID]).is_err());
        assert_eq!(notebook.metadata().unwrap().len(), MOST_SAID as u64);
        let mut said = [0; 9];
        notebook.read_exact_at(&mut said, 0).unwrap();
        assert_eq!(&said, b"no route\n");
        assert!(notebook.read(&mut said).is_ok());
    }

    #[test]
    fn complaints_are_one_line_that_no_terminal_obeys() {
        let said = "Don't say this.\nname \x1b[2Jevil\r\n \u{9b}x\n";
        let said = complaints(said, |line| !line.contains("Don't"));
        assert_eq!(said, "name \u{fffd}[2Jevil; \u{fffd}x");
    }
}
