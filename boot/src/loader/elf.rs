//! What is told to kernels that come as ELF files with a PVH entry.

pub mod start_info;
