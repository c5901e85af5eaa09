//! Makes the small initramfs with which a guest loads what its kernel has as modules, mounts a disk
//! and goes over to it, or runs one command and hands its status on.
#![forbid(unsafe_code)]

pub mod cpio;
pub mod modules;
