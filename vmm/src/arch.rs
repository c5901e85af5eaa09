//! What depends on the architecture of host or guest.

mod host_cpu;

pub use host_cpu::{HostCpuError, HostCpus};
