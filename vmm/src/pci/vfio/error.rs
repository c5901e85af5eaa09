//! What keeps a guest from having a function of the host.

use super::HostPciAddress;
use firstlight_devices::pci::PassthroughError;
use firstlight_hv::HvError;
use std::io;

/// A function of the host that a guest cannot have.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// There is none.
    #[error("the host has no PCI function {0}; `lspci -D` lists those that it has")]
    Missing(HostPciAddress),
    /// No IOMMU keeps it to its guest.
    #[error(
        "the host has no IOMMU for the PCI function {0}: it has to be on in the firmware and in the kernel (intel_iommu=on on its \
         command line, for Intel's)"
    )]
    NoIommu(HostPciAddress),
    /// A driver of the host has it, or none.
    #[error(
        "the PCI function {at} is {bound}, and not vfio-pci, which hands it to a guest: `echo vfio-pci >{folder}/driver_override`, \
         {unbind}then `echo {at} >/sys/bus/pci/drivers_probe`",
        bound = match driver { Some(driver) => format!("bound to the driver {driver}"), None => "bound to no driver".to_owned() },
        folder = format_args!("/sys/bus/pci/devices/{at}"),
        unbind = match driver {
            Some(driver) => format!("`echo {at} >/sys/bus/pci/drivers/{driver}/unbind`, "),
            None => String::new(),
        }
    )]
    NotBound {
        /// The function.
        at: HostPciAddress,
        /// The driver that has it.
        driver: Option<String>,
    },
    /// What cannot be kept apart from it belongs to the host.
    #[error(
        "the PCI function {at} is in IOMMU group {group} together with {}, which no IOMMU can keep apart from it: all of a \
         group has to be bound to vfio-pci, or to no driver",
        others.join(", ")
    )]
    Shared {
        /// The function.
        at: HostPciAddress,
        /// The group.
        group: u32,
        /// The others that the host uses, each with its driver.
        others: Vec<String>,
    },
    /// Two devices of a guest are the same one.
    #[error("the PCI function {0} is given to the guest twice")]
    Twice(HostPciAddress),
    /// Not for this user.
    #[error("this user may not open {path}: `chown` it to who is to run guests with it")]
    Denied {
        /// The group's file, or the container's.
        path: String,
        /// What the host says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("IOMMU group {0} is in use: another guest has a device of it")]
    InUse(u32),
    /// The host's VFIO refuses.
    #[error("cannot {what}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What the host says.
        source: vfio_ioctls::VfioError,
    },
    /// No module of the kernel is there for it.
    #[error("the host has no VFIO: `modprobe vfio-pci`")]
    NoVfio(#[source] io::Error),
    /// The memory of the guest cannot be given to the device.
    #[error(
        "cannot let devices reach {bytes} bytes ({} MiB) of the guest's memory, which has to stay in memory for that; {}",
        bytes >> 20,
        match limit {
            Some(limit) => format!("this process may lock {limit} bytes (`ulimit -l`)"),
            None => "what this process may lock has no limit".to_owned(),
        }
    )]
    Locked {
        /// How much it is.
        bytes: u64,
        /// How much of memory this process may lock.
        limit: Option<u64>,
        /// What the host says.
        source: vfio_ioctls::VfioError,
    },
    /// The hypervisor refuses.
    #[error(transparent)]
    Hypervisor(#[from] HvError),
    /// It is no function that a guest can have.
    #[error("the PCI function {at} cannot be given to a guest")]
    Function {
        /// The function.
        at: HostPciAddress,
        /// Why.
        source: PassthroughError,
    },
    /// Sysfs says something strange, or nothing.
    #[error("cannot read what the host says of the PCI function {at}")]
    Sysfs {
        /// The function.
        at: HostPciAddress,
        /// Why.
        source: io::Error,
    },
    /// An event cannot be had.
    #[error("cannot make an event for interrupts")]
    Event(#[source] io::Error),
    /// Memory that has to stay where it is, is to be taken away.
    #[error(
        "a guest with a device of the host's has all of its memory at its place, since the device may write to it at any time: \
         it cannot have {0}"
    )]
    Pinned(&'static str),
}
