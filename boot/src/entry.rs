//! The ways into an image, as facts to be told: no machine is needed for them.

use crate::planner::firmware;
use crate::protocol::flat::{self, Rules};
use crate::protocol::{self, Form, Way};
use crate::{Protocol, ProtocolChoice, Request, Unpack};
use alloc::vec::Vec;
use firstlight_base::Gpa;
use firstlight_image::Image;

/// One way into an image, and what the kernel wants there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The protocol.
    pub protocol: Protocol,
    /// Who unpacks the kernel that is entered this way.
    pub unpack: Unpack,
    /// Where it is entered.
    pub at: EntryPoint,
    /// How many bytes the command line may have, without its NUL.
    pub cmdline_limit: u64,
    /// The highest address that the last byte of the initial ramdisk may have, if there is a limit.
    pub initrd_limit: Option<Gpa>,
}

/// Where an image is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// At this address.
    Address(Gpa),
    /// So many bytes behind the address it is loaded at.
    Offset(u64),
    /// In its real-mode code, so many bytes behind where that is loaded.
    RealMode(u64),
}

/// Every way into `image`, the one that is taken by default first.
#[must_use]
pub fn entries(image: &Image<'_>) -> Vec<Entry> {
    if let Some(one) = image.firmware() {
        return firmware::entry(image, one).into_iter().collect();
    }
    if let Some(rules) = Rules::of(image.architecture()) {
        let kernel = flat::kernel(image, rules, &Request::default());
        return kernel.iter().map(|_| of_flat(rules)).collect();
    }
    let mut entries: Vec<Entry> = Vec::new();
    let auto = (ProtocolChoice::Auto, Unpack::Host);
    let only = |unpack| Protocol::ALL.map(|protocol| (ProtocolChoice::Only(protocol), unpack));
    let choices = [auto]
        .into_iter()
        .chain(only(Unpack::Host))
        .chain(only(Unpack::Guest));
    for (protocol, unpack) in choices {
        let found = protocol::choose(image, &asking(protocol, unpack)).map(|way| entry(&way));
        entries.extend(found.ok().filter(|entry| !entries.contains(entry)));
    }
    entries
}

/// A request of which only the choice of a way in is looked at.
fn asking(protocol: ProtocolChoice, unpack: Unpack) -> Request {
    Request {
        protocol,
        unpack,
        ..Request::default()
    }
}

/// The one way into a kernel that is entered at its first byte.
fn of_flat(rules: &Rules) -> Entry {
    Entry {
        protocol: rules.protocol,
        unpack: Unpack::Host,
        at: EntryPoint::Offset(0),
        cmdline_limit: rules.cmdline_limit,
        initrd_limit: None,
    }
}

fn entry(way: &Way<'_>) -> Entry {
    Entry {
        protocol: way.protocol,
        unpack: match way.form {
            Form::Packed { .. } => Unpack::Guest,
            Form::Vmlinux { .. } | Form::Multiboot(_) => Unpack::Host,
        },
        at: way.entry,
        cmdline_limit: way.cmdline_limit(),
        initrd_limit: way.initrd_limit(),
    }
}
