//! The ioctl that hands host memory to KVM, unsafe because the guest will write there, and those
//! that `kvm-ioctls` lacks.
#![expect(unsafe_code, reason = "what the kernel does with memory and files")]

use crate::Doorbell;
use firstlight_load::Region;
use kvm_bindings::{
    KVM_IRQFD_FLAG_DEASSIGN, KVM_IRQFD_FLAG_RESAMPLE, KVM_MEM_READONLY, kvm_ioeventfd,
    kvm_ioeventfd_flag_nr_datamatch, kvm_ioeventfd_flag_nr_deassign, kvm_irqfd,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Error, VmFd};
use rustix::fd::OwnedFd;
use std::io;
use std::os::fd::AsRawFd;

/// Gives the machine the memory of `region`. The caller keeps the memory for as long as anything
/// of the machine exists.
pub(super) fn set_memory_slot(vm: &VmFd, slot: u32, region: &Region) -> Result<(), Error> {
    set_slot(vm, slot, region, 0)
}

/// As [`set_memory_slot`], to be read only.
pub(super) fn set_rom_slot(vm: &VmFd, slot: u32, region: &Region) -> Result<(), Error> {
    set_slot(vm, slot, region, KVM_MEM_READONLY)
}

fn set_slot(vm: &VmFd, slot: u32, region: &Region, flags: u32) -> Result<(), Error> {
    let slot = kvm_userspace_memory_region {
        slot,
        flags,
        guest_phys_addr: region.range().start().get(),
        memory_size: region.range().len(),
        userspace_addr: region.host_address(),
    };
    // SAFETY: the host addresses are those of the region's own mapping, which is as long as its
    // range, which Rust never has a reference to, and which the machine keeps (`Machine::memory`).
    unsafe { vm.set_user_memory_region(slot) }
}

/// Takes the memory of `slot` from the machine.
pub(super) fn clear_slot(vm: &VmFd, slot: u32) -> Result<(), Error> {
    let slot = kvm_userspace_memory_region {
        slot,
        ..kvm_userspace_memory_region::default()
    };
    // SAFETY: a slot without a byte of memory lets the guest reach none of the host's.
    unsafe { vm.set_user_memory_region(slot) }
}

/// Lets writes to `doorbell` count up `event`.
pub(super) fn hang_doorbell(vm: &VmFd, doorbell: Doorbell, event: &OwnedFd) -> io::Result<()> {
    ioeventfd(vm, doorbell, event, 0)
}

/// Undoes [`hang_doorbell`].
pub(super) fn take_doorbell_down(vm: &VmFd, doorbell: Doorbell, event: &OwnedFd) -> io::Result<()> {
    ioeventfd(vm, doorbell, event, 1 << kvm_ioeventfd_flag_nr_deassign)
}

fn ioeventfd(vm: &VmFd, doorbell: Doorbell, event: &OwnedFd, flags: u32) -> io::Result<()> {
    // _IOW(KVMIO, 0x79, struct kvm_ioeventfd)
    const KVM_IOEVENTFD: libc::Ioctl = 0x4040_ae79;
    let only = doorbell
        .value
        .map_or(0, |_value| 1 << kvm_ioeventfd_flag_nr_datamatch);
    let request = kvm_ioeventfd {
        datamatch: doorbell.value.unwrap_or(0),
        addr: doorbell.at.get(),
        len: doorbell.width,
        fd: event.as_raw_fd(),
        flags: flags | only,
        ..kvm_ioeventfd::default()
    };
    // SAFETY: the structure is the one that this ioctl reads; the kernel writes nothing, and keeps a
    // reference of its own to the event.
    let result = unsafe { libc::ioctl(vm.as_raw_fd(), KVM_IOEVENTFD, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the first event raise the level-triggered line `line`, and the second one tell of its end.
pub(super) fn wire(vm: &VmFd, line: u32, events: (&OwnedFd, &OwnedFd)) -> io::Result<()> {
    irqfd(vm, line, events, KVM_IRQFD_FLAG_RESAMPLE)
}

/// Undoes [`wire`].
pub(super) fn unwire(vm: &VmFd, line: u32, events: (&OwnedFd, &OwnedFd)) -> io::Result<()> {
    irqfd(vm, line, events, KVM_IRQFD_FLAG_DEASSIGN)
}

fn irqfd(vm: &VmFd, line: u32, (raise, done): (&OwnedFd, &OwnedFd), flags: u32) -> io::Result<()> {
    // _IOW(KVMIO, 0x76, struct kvm_irqfd)
    const KVM_IRQFD: libc::Ioctl = 0x4020_ae76;
    let request = kvm_irqfd {
        fd: raise.as_raw_fd().cast_unsigned(),
        gsi: line,
        flags,
        resamplefd: done.as_raw_fd().cast_unsigned(),
        ..kvm_irqfd::default()
    };
    // SAFETY: the structure is the one that this ioctl reads; the kernel writes nothing, and keeps
    // references of its own to the events.
    let result = unsafe { libc::ioctl(vm.as_raw_fd(), KVM_IRQFD, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the vCPU an interrupt: on x86 one with this vector, on riscv64 `KVM_INTERRUPT_SET` or `KVM_INTERRUPT_UNSET`
/// of its external one (KVM API, section 4.16).
#[cfg(any(target_arch = "x86_64", target_arch = "riscv64"))]
pub(super) fn interrupt(vcpu: &impl AsRawFd, irq: u32) -> io::Result<()> {
    use kvm_bindings::kvm_interrupt;

    // _IOW(KVMIO, 0x86, struct kvm_interrupt)
    const KVM_INTERRUPT: libc::Ioctl = 0x4004_ae86;
    let interrupt = kvm_interrupt { irq };
    // SAFETY: the structure is the one that this ioctl reads; the kernel writes nothing.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_INTERRUPT, &raw const interrupt) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether `vm` could have a device of this kind, `KVM_DEV_TYPE_*` (KVM API, section 4.79).
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
pub(super) fn can_have_device(vm: &VmFd, kind: u32) -> bool {
    use kvm_bindings::{KVM_CREATE_DEVICE_TEST, kvm_create_device};

    // _IOWR(KVMIO, 0xe0, struct kvm_create_device)
    const KVM_CREATE_DEVICE: libc::Ioctl = 0xc00c_aee0;
    let mut device = kvm_create_device {
        type_: kind,
        fd: 0,
        flags: KVM_CREATE_DEVICE_TEST,
    };
    // SAFETY: the structure is the one that this ioctl reads and writes. With the flag the kernel
    // creates nothing and hands out no file.
    let result = unsafe { libc::ioctl(vm.as_raw_fd(), KVM_CREATE_DEVICE, &raw mut device) };
    result == 0
}

/// Another handle on the vCPU's file.
#[cfg(target_arch = "riscv64")]
pub(super) fn duplicate(vcpu: &kvm_ioctls::VcpuFd) -> io::Result<std::fs::File> {
    use std::os::fd::BorrowedFd;

    // SAFETY: the vCPU's file is open for as long as `vcpu` is borrowed.
    let file = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
    Ok(file.try_clone_to_owned()?.into())
}
