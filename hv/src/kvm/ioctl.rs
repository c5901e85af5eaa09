//! The ioctl that hands host memory to KVM: unsafe, because the guest will write there.
#![expect(unsafe_code, reason = "the guest writes to the memory it is given")]

use firstlight_load::Region;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Error, VmFd};

/// Gives the machine the memory of `region`. The caller keeps the memory for as long as anything
/// of the machine exists.
pub(super) fn set_memory_slot(vm: &VmFd, slot: u32, region: &Region) -> Result<(), Error> {
    let slot = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: region.range().start().get(),
        memory_size: region.range().len(),
        userspace_addr: region.host_address(),
    };
    // SAFETY: the host addresses are those of the region's own mapping, which is as long as its
    // range, which Rust never has a reference to, and which the machine keeps (`Machine::memory`).
    unsafe { vm.set_user_memory_region(slot) }
}
