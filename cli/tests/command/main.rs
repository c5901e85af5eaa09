//! The command as people run it: what they get for good files and for bad ones.

mod bad_input;
mod boot;
mod cache;
mod config;
mod devices;
mod export;
mod firmware;
mod golden;
mod initramfs;
mod kernels;
mod pstore;
mod run;
mod uki;
mod usage;
