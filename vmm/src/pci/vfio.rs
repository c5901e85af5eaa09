//! Functions of the host that a guest has for itself, by the host's VFIO (Linux `Documentation/driver-api/vfio.rst`).
//!
//! A function is looked for before anything is made ([`HostPciAddress::find`]), opened when its machine is, and is then one
//! of the bus's. All of the guest's RAM is in the host's IOMMU at the guest's addresses for it: nothing else can it reach.

mod address;
mod error;
mod events;
mod found;
mod function;
mod host;

pub use address::{HostPciAddress, NoPciAddress};
pub use error::VfioError;
pub(crate) use found::Found;
pub(crate) use function::{Place, VfioFunction};
pub(crate) use host::Container;
