//! KVM: the hypervisor of the Linux kernel.
