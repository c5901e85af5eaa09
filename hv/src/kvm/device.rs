//! Devices inside KVM, and the attributes by which they and vCPUs are set up (KVM API, sections
//! 4.79 and 4.80).

use kvm_bindings::{kvm_create_device, kvm_device_attr};
use kvm_ioctls::{DeviceFd, Error, VmFd};

/// An attribute's name: its group, and its number there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) group: u32,
    pub(super) number: u64,
}

/// A device inside KVM.
#[derive(Debug)]
pub(super) struct Device(DeviceFd);

impl Device {
    /// Puts a device of this kind into `vm`.
    pub(super) fn create(vm: &VmFd, kind: u32) -> Result<Self, Error> {
        let mut device = kvm_create_device {
            type_: kind,
            ..kvm_create_device::default()
        };
        vm.create_device(&mut device).map(Self)
    }

    /// Sets an attribute that is a number of 32 bits.
    pub(super) fn set_u32(&self, attribute: Attribute, value: u32) -> Result<(), Error> {
        with_value(attribute, &value, |attribute| {
            self.0.set_device_attr(attribute)
        })
    }

    /// Sets an attribute that is a number of 64 bits, such as an address.
    pub(super) fn set_u64(&self, attribute: Attribute, value: u64) -> Result<(), Error> {
        with_value(attribute, &value, |attribute| {
            self.0.set_device_attr(attribute)
        })
    }

    /// Does what an attribute without a value stands for.
    pub(super) fn carry_out(&self, attribute: Attribute) -> Result<(), Error> {
        self.0.set_device_attr(&without_value(attribute))
    }
}

/// Calls `set` with an attribute whose value KVM reads from `value`.
pub(super) fn with_value<T, R>(
    attribute: Attribute,
    value: &T,
    set: impl FnOnce(&kvm_device_attr) -> R,
) -> R {
    set(&kvm_device_attr {
        addr: (&raw const *value).addr() as u64,
        ..without_value(attribute)
    })
}

/// An attribute that has no value.
pub(super) fn without_value(attribute: Attribute) -> kvm_device_attr {
    kvm_device_attr {
        group: attribute.group,
        attr: attribute.number,
        ..kvm_device_attr::default()
    }
}
