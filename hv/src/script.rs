//! A hypervisor that plays back exits and records what was done to it.
