//! Carries a boot plan out: allocates guest RAM and puts everything where the plan says.

mod mapping;
mod memory;
mod place;

pub use memory::{AllocateError, Backing, GuestMemory, Region};
pub use place::{PlaceError, Sources, place};
