//! Makes the small initramfs with which a guest loads what its kernel has as modules, mounts a disk
//! and goes over to it, or runs one command and hands its status on.
//!
//! It holds one program, which is made here for each guest: a list of system calls and a few dozen
//! instructions that carry it out. So nothing of the guest's architecture is needed on the host: no
//! shell, no compiler.
//!
//! ```
//! use firstlight_initramfs::{Architecture, Command, Initramfs, Status, Then};
//!
//! let initramfs = Initramfs {
//!     modules: Vec::new(),
//!     root: None,
//!     then: Then::Run(Command {
//!         arguments: vec!["uname".to_owned(), "-r".to_owned()],
//!         ..Command::default()
//!     }),
//!     status: Status::Port("org.firstlight.status".to_owned()),
//! };
//! let archive = initramfs.build(Architecture::Riscv64).unwrap();
//! assert!(archive.starts_with(b"070701"));
//! ```
#![forbid(unsafe_code)]

pub mod cpio;
mod init;
mod initramfs;
pub mod modules;

pub use firstlight_image::Architecture;
pub use initramfs::{Command, Console, INIT, Initramfs, InitramfsError, Peer, Root, Status, Then};
