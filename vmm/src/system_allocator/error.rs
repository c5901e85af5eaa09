//! Why something cannot be given or taken back.

use super::{Holder, Pool, Resource, Room};
use firstlight_devices::pci::Address;
use std::fmt;

/// Why something cannot be given or taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Somebody has it already, or a part of it.
    #[error("{wanted} for {holder} overlaps {taken}, which {by} has")]
    Taken {
        /// What was wanted.
        wanted: Resource,
        /// By whom.
        holder: Holder,
        /// What is given.
        taken: Resource,
        /// To whom.
        by: Holder,
    },
    /// There is nothing left that is large enough.
    #[error("no {} for {holder} in {pool}: {}", Wanted(.room), Free(.free))]
    Exhausted {
        /// Where from.
        pool: Pool,
        /// What was wanted.
        room: Room,
        /// By whom.
        holder: Holder,
        /// What is left, ascending.
        free: Vec<Resource>,
    },
    /// Nothing can be at all, or at a multiple of what is no power of two.
    #[error("{len:#x} at a multiple of {align:#x} cannot be given, as {holder} wants it of {pool}", len = .room.len, align = .room.align)]
    Room {
        /// Where from.
        pool: Pool,
        /// What was wanted.
        room: Room,
        /// By whom.
        holder: Holder,
    },
    /// Nobody has it: it was taken back before, or never given, or given as a part of more.
    #[error("{what} was not given to anybody, so it cannot be taken back{}", Part(.given.as_ref()))]
    NotGiven {
        /// What was to be taken back.
        what: Resource,
        /// What was given of it, or with it.
        given: Option<(Resource, Holder)>,
    },
    /// A PCI bus that there cannot be.
    #[error("{holder} cannot be at {at}: the last bus is {last_bus:02x}")]
    NoBus {
        /// Where it was to be.
        at: Address,
        /// Who.
        holder: Holder,
        /// The last bus.
        last_bus: u8,
    },
}

/// How many ranges an error names.
const NAMED: usize = 8;

/// Of what is counted by ones nobody has to be told that.
struct Wanted<'a>(&'a Room);

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Room { len: 1, align: 1 } => f.write_str("room"),
            Room { len, align } => write!(f, "{len:#x} at a multiple of {align:#x}"),
        }
    }
}

struct Free<'a>(&'a [Resource]);

impl fmt::Display for Free<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing is free");
        }
        let mut words = "free are";
        for resource in self.0.iter().take(NAMED) {
            write!(f, "{words} {resource}")?;
            words = ",";
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

struct Part<'a>(Option<&'a (Resource, Holder)>);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |(given, holder)| {
            write!(f, "; {holder} has {given}")
        })
    }
}
