//! Files that a guest's firmware and kernel are offered.

use super::DeviceError;
use firstlight_devices::FwCfgFile;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file that a guest's firmware and kernel can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedFile {
    /// How they find it.
    pub name: String,
    /// What they find.
    pub contents: Contents,
}

/// What is in a file that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// This.
    Text(String),
    /// What is in this file of the host when the machine is made.
    File(PathBuf),
}

/// The longest that is offered; firmware reads it into memory.
const LONGEST: u64 = 64 << 20;

impl OfferedFile {
    /// The file with its contents.
    pub(crate) fn read(&self) -> Result<FwCfgFile, DeviceError> {
        let bytes = match &self.contents {
            Contents::Text(text) => text.clone().into_bytes(),
            Contents::File(path) => read(path)?,
        };
        Ok(FwCfgFile {
            name: self.name.clone(),
            bytes,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DeviceError> {
    let failed = |source: io::Error| DeviceError::ReadFile {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let len = file.take(LONGEST + 1).read_to_end(&mut bytes);
    if len.map_err(failed)? as u64 > LONGEST {
        return Err(DeviceError::LongFile {
            path: path.to_owned(),
            most: LONGEST,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_a_text_is_there() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"\0bytes").unwrap();
        let read = |contents| {
            let name = "opt/a".to_owned();
            OfferedFile { name, contents }.read().map(|file| file.bytes)
        };
        assert_eq!(read(Contents::File(path)).unwrap(), b"\0bytes");
        assert_eq!(read(Contents::Text("text".to_owned())).unwrap(), b"text");
        let error = read(Contents::File(folder.path().join("none"))).unwrap_err();
        assert!(matches!(error, DeviceError::ReadFile { .. }));
        let endless = read(Contents::File("/dev/zero".into())).unwrap_err();
        assert!(matches!(endless, DeviceError::LongFile { .. }));
    }
}
