//! What an initramfs is to do, and the archive that does it.

use crate::cpio::{Archive, ArchiveError};
use crate::init::{self, Interpreter};
use crate::modules::Module;
use firstlight_image::Architecture;

/// The program in the guest that does the work: what the kernel's parameter `rdinit=` must name.
pub const INIT: &str = "/firstlight/init";

/// An initramfs, as it is to be made.
///
/// All its files lie in `/firstlight`: it can be put behind another archive, whose files are then
/// there too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// The modules that are loaded first, in this order.
    pub modules: Vec<Module>,
    /// What becomes the root, if it is to be something else than the initramfs.
    pub root: Option<Root>,
    /// What comes then.
    pub then: Then,
    /// What takes a command's status.
    pub status: Status,
}

/// A root to go over to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// A device, as `/dev/vda`, or what else the file system mounts, as the tag of a folder that
    /// the host shares.
    pub source: String,
    /// What it may be, in the order in which that is tried.
    pub file_systems: Vec<String>,
    /// Whether nothing is written to it.
    pub read_only: bool,
    /// Whether it is covered: the guest can write everywhere, and that goes to its memory alone.
    pub covered: bool,
    /// The file system's own options, as `mount(8)` has them.
    pub options: String,
    /// So long it may take to come.
    pub wait_seconds: u32,
}

/// What an initramfs does when it has loaded and mounted everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// It becomes the program of that path, which gets the arguments that the kernel has for init.
    Init(String),
    /// It runs a command, hands its status on, and turns the machine off.
    Run(Command),
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Its name, which is looked for as a shell does, and its arguments.
    pub arguments: Vec<String>,
    /// The folder in which it is run, if it is there.
    pub folder: Option<String>,
    /// Variables, as `NAME=value`, beside `PATH`, `HOME` and `TERM`, or in their stead.
    pub environment: Vec<String>,
    /// Its terminal.
    pub console: Console,
}

/// A command's console, and what that is joined to outside of the machine. The
/// [default](Self::default) is the kernel's own, with a person at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// The terminal in the guest, as `/dev/hvc0`.
    pub device: String,
    /// What it reads from.
    pub input: Peer,
    /// What it writes to.
    pub output: Peer,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            device: init::CONSOLE.to_owned(),
            input: Peer::default(),
            output: Peer::default(),
        }
    }
}

/// What is at one end of a console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// A terminal: it is shown what is typed, and lines end with a carriage return, too.
    #[default]
    Terminal,
    /// A file, a pipe or another program: bytes stay as they are.
    File,
}

/// What takes a command's status. Where the command cannot be got to, that is 125.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The port of a virtio console that has this name: as a decimal number and the end of a line.
    Port(String),
    /// The device of this path, in the same way.
    Device(String),
    /// The debug-exit port of an x86 machine: as one byte.
    DebugExit,
    /// Nothing.
    Nowhere,
}

/// Why an initramfs cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitramfsError {
    /// There is no init for this architecture.
    #[error("there is no initramfs for {0}")]
    Architecture(Architecture),
    /// The architecture has no such port.
    #[error("a machine for {0} has no debug-exit port")]
    NoDebugExit(Architecture),
    /// There is no command to run.
    #[error("the command has no name")]
    NoCommand,
    /// There is no file system to mount the root as.
    #[error("the root {0} has no file system")]
    NoFileSystem(String),
    /// A module has a name that no file has.
    #[error("a module cannot have the name {0:?}")]
    ModuleName(String),
    /// A port's name is longer than is looked for.
    #[error("the port's name {name:?} is longer than {NAME_MAX} bytes")]
    LongPortName {
        /// Which.
        name: String,
    },
    /// A text ends before its last byte.
    #[error("{text:?} holds a NUL, where texts in a guest end")]
    Nul {
        /// Which.
        text: String,
    },
    /// The archive cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// The longest name of a port that is looked for, in bytes.
const NAME_MAX: usize = 128;

impl Root {
    /// An ext4 file system on `device`, to which may be written.
    #[must_use]
    pub fn ext4(device: &str) -> Self {
        Self {
            source: device.to_owned(),
            file_systems: vec!["ext4".to_owned()],
            read_only: false,
            covered: false,
            options: String::new(),
            wait_seconds: 10,
        }
    }

    /// A folder that the host shares by the name `tag`, which stays as it is: what the guest writes
    /// goes to its memory.
    #[must_use]
    pub fn shared(tag: &str) -> Self {
        Self {
            source: tag.to_owned(),
            file_systems: vec!["virtiofs".to_owned()],
            read_only: true,
            covered: true,
            options: String::new(),
            wait_seconds: 10,
        }
    }
}

impl Initramfs {
    /// The archive, for guests of `architecture`.
    ///
    /// # Errors
    ///
    /// [`InitramfsError`] where something cannot be had, or not so.
    pub fn build(&self, architecture: Architecture) -> Result<Vec<u8>, InitramfsError> {
        let interpreter =
            Interpreter::of(architecture).ok_or(InitramfsError::Architecture(architecture))?;
        if self.status == Status::DebugExit && architecture != Architecture::X86_64 {
            return Err(InitramfsError::NoDebugExit(architecture));
        }
        self.check()?;
        let mut archive = Archive::new();
        archive.folder(init::FOLDER);
        archive.program(
            INIT.trim_start_matches('/'),
            &init::file(self, &interpreter),
        );
        if self.root.is_some() {
            archive.folder(&format!("{}/{}", init::FOLDER, init::ROOT));
        }
        let modules = format!("{}/{}", init::FOLDER, init::MODULES);
        archive.folder(&modules);
        for module in &self.modules {
            archive.file(&format!("{modules}/{}.ko", module.name), &module.image);
        }
        Ok(archive.finish()?)
    }

    fn check(&self) -> Result<(), InitramfsError> {
        let mut texts = Vec::new();
        for Module {
            name, parameters, ..
        } in &self.modules
        {
            if name.is_empty() || name.contains('/') {
                return Err(InitramfsError::ModuleName(name.clone()));
            }
            texts.extend([name, parameters]);
        }
        if let Some(root) = &self.root {
            if root.file_systems.is_empty() {
                return Err(InitramfsError::NoFileSystem(root.source.clone()));
            }
            texts.extend([&root.source, &root.options]);
            texts.extend(&root.file_systems);
        }
        match &self.then {
            Then::Init(path) => texts.push(path),
            Then::Run(command) => {
                if command.arguments.first().is_none_or(String::is_empty) {
                    return Err(InitramfsError::NoCommand);
                }
                texts.extend(command.arguments.iter().chain(&command.environment));
                texts.push(&command.console.device);
                texts.extend(&command.folder);
            }
        }
        match &self.status {
            Status::Port(name) if name.len() > NAME_MAX => {
                return Err(InitramfsError::LongPortName { name: name.clone() });
            }
            Status::Port(text) | Status::Device(text) => texts.push(text),
            Status::DebugExit | Status::Nowhere => {}
        }
        match texts.into_iter().find(|text| text.contains('\0')) {
            Some(text) => Err(InitramfsError::Nul { text: text.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
