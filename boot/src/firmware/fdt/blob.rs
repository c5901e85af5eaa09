//! A compiled tree as somebody gives it (Devicetree Specification 0.4, chapter 5).

use super::MAX_LEN;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, Property as _};
use firstlight_base::Reader;
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// How deep nodes may lie in each other, the root counted: as deep as Linux looks
/// (`drivers/of/fdt.c`, `unflatten_dt_nodes`).
const MAX_DEPTH: usize = 63;

/// How many nodes there may be; the largest trees in Linux have some thousand.
const MAX_NODES: usize = 0x1_0000;

/// How long a name may be. The specification has 31 bytes (section 2.2.1), and many are longer.
const MAX_NAME: usize = 127;

/// How long a path may be.
const MAX_PATH: usize = 1023;

/// Why bytes are no device tree, or none that can be used. Offsets count from the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It begins with other bytes.
    #[error("it does not begin with 0xd00dfeed")]
    Magic,
    /// It ends before it says.
    #[error("it has {len:#x} bytes, but says that it has {claimed:#x}")]
    Cut {
        /// How many bytes there are.
        len: usize,
        /// How many it says there are.
        claimed: u32,
    },
    /// It is longer than what a kernel maps.
    #[error("it has {len:#x} bytes, but may have {MAX_LEN:#x}")]
    TooLong {
        /// How many bytes it says it has.
        len: u32,
    },
    /// It is of a version that is not in use.
    #[error("it is of version {version}, compatible with {oldest}, but 17 is what is in use")]
    Version {
        /// Its version.
        version: u32,
        /// The oldest version that it says it is compatible with.
        oldest: u32,
    },
    /// One of its parts is not in it.
    #[error("its {what} lies at {at:#x} with {len:#x} bytes, which is not all in it")]
    Outside {
        /// Which part.
        what: &'static str,
        /// Where it begins.
        at: u32,
        /// How many bytes it has.
        len: u32,
    },
    /// One of its parts begins where it may not.
    #[error("its {what} lies at {at:#x}, which is not a multiple of {align}")]
    Misaligned {
        /// Which part.
        what: &'static str,
        /// Where it begins.
        at: u32,
        /// What that has to be a multiple of.
        align: u32,
    },
    /// A part ends in the middle.
    #[error("its {what} ends before what begins at {at:#x} does")]
    Ends {
        /// Which part.
        what: &'static str,
        /// Where what is cut begins.
        at: u64,
    },
    /// There is something that cannot be there.
    #[error("it has {token:#x} at {at:#x}, which cannot be there")]
    Token {
        /// What is there.
        token: u32,
        /// Where.
        at: u64,
    },
    /// A name is none.
    #[error(
        "the {what} at {at:#x} has no name of up to {MAX_NAME} letters, digits and \",._+*#?-@\""
    )]
    Name {
        /// What it is the name of.
        what: &'static str,
        /// Where that begins.
        at: u64,
    },
    /// One node has two things of one name.
    #[error("the {what} at {at:#x} has the name of another in its node")]
    Twice {
        /// What has that name.
        what: &'static str,
        /// Where the later one begins.
        at: u64,
    },
    /// A node lies too deep in others.
    #[error(
        "the node at {at:#x} lies deeper than {MAX_DEPTH} levels, or has a path of more than {MAX_PATH} bytes"
    )]
    Depth {
        /// Where it begins.
        at: u64,
    },
    /// There are too many nodes.
    #[error("the node at {at:#x} is one more than {MAX_NODES}")]
    Nodes {
        /// Where it begins.
        at: u64,
    },
    /// The number by which others refer to a node has not four bytes.
    #[error("a node has a phandle of {len} bytes, not 4")]
    HandleLength {
        /// How many it has.
        len: usize,
    },
    /// The number by which others refer to a node stands for none.
    #[error("a node has the phandle {handle:#x}, which stands for no node")]
    NoHandle {
        /// The number.
        handle: u32,
    },
    /// Two nodes have one number.
    #[error("two nodes have the phandle {handle:#x}")]
    HandleTwice {
        /// The number.
        handle: u32,
    },
}

/// Reads a whole tree, in time and memory in proportion to its length.
pub(super) fn parse(bytes: &[u8]) -> Result<DeviceTree, BlobError> {
    let parts = Parts::of(bytes)?;
    let mut tree = DeviceTree::new();
    tree.memory_reservations = parts.reservations()?;
    tree.root = Walk::through(&parts).root()?;
    check_handles(&tree.root, &mut BTreeSet::new())?;
    Ok(tree)
}

/// The number by which others refer to a node: under its name, or under that of old trees.
pub(super) fn handle(node: &DeviceTreeNode) -> Result<Option<u32>, BlobError> {
    let property = HANDLES.iter().find_map(|name| node.property(name));
    let Some(property) = property else {
        return Ok(None);
    };
    let value: [u8; 4] = property.value_as().or(Err(BlobError::HandleLength {
        len: property.value().len(),
    }))?;
    Ok(Some(u32::from_be_bytes(value)))
}

/// What the property with a node's number is called.
pub(super) const HANDLES: [&str; 2] = ["phandle", "linux,phandle"];

fn check_handles(node: &DeviceTreeNode, seen: &mut BTreeSet<u32>) -> Result<(), BlobError> {
    match handle(node)? {
        Some(handle @ (0 | u32::MAX)) => return Err(BlobError::NoHandle { handle }),
        Some(handle) if !seen.insert(handle) => return Err(BlobError::HandleTwice { handle }),
        Some(_) | None => {}
    }
    node.children()
        .try_for_each(|child| check_handles(child, seen))
}

/// What a tree begins with (section 5.2).
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: U32,
    len: U32,
    structure: U32,
    strings: U32,
    reservations: U32,
    version: U32,
    oldest: U32,
    boot_cpu: U32,
    strings_len: U32,
    structure_len: U32,
}

const STRUCTURE: &str = "structure block";
const STRINGS: &str = "strings block";
const RESERVATIONS: &str = "memory reservation block";

/// Where a tree has what. Each reader ends where its part does, and begins where the tree does.
struct Parts<'a> {
    reservations: Reader<'a>,
    reservations_at: u32,
    structure: Reader<'a>,
    structure_at: u32,
    strings: Reader<'a>,
    strings_at: u32,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let header = header(bytes)?;
        let claimed = header.len.get();
        let whole = Reader::new(bytes).slice(0, claimed.into());
        let whole = Reader::new(whole.or(Err(BlobError::Cut {
            len: bytes.len(),
            claimed,
        }))?);
        Ok(Self {
            reservations: whole,
            reservations_at: aligned(RESERVATIONS, header.reservations, 8)?,
            structure: part(whole, STRUCTURE, [header.structure, header.structure_len])?,
            structure_at: aligned(STRUCTURE, header.structure, 4)?,
            strings: part(whole, STRINGS, [header.strings, header.strings_len])?,
            strings_at: header.strings.get(),
        })
    }

    /// Addresses and lengths, up to one of zeros (section 5.3).
    fn reservations(&self) -> Result<Vec<MemoryReservation>, BlobError> {
        let mut list = Vec::new();
        let mut at = u64::from(self.reservations_at);
        loop {
            let entry: [u8; 16] = self.reservations.array(at).or(Err(BlobError::Ends {
                what: RESERVATIONS,
                at,
            }))?;
            let [address, len]: [U64; 2] = zerocopy::transmute!(entry);
            if address == 0 && len == 0 {
                return Ok(list);
            }
            list.push(MemoryReservation::new(address.get(), len.get()));
            at = at.saturating_add(16);
        }
    }
}

fn header(bytes: &[u8]) -> Result<Header, BlobError> {
    const MAGIC: [u8; 4] = 0xd00d_feed_u32.to_be_bytes();
    const VERSION: u32 = 17;
    if !bytes.starts_with(&MAGIC) {
        return Err(BlobError::Magic);
    }
    let Ok((header, _)) = Header::read_from_prefix(bytes) else {
        return Err(BlobError::Ends {
            what: "header",
            at: 0,
        });
    };
    let len = header.len.get();
    if u64::from(len) > MAX_LEN {
        return Err(BlobError::TooLong { len });
    }
    let (version, oldest) = (header.version.get(), header.oldest.get());
    if version < VERSION || oldest > VERSION {
        return Err(BlobError::Version { version, oldest });
    }
    Ok(header)
}

fn part<'a>(
    whole: Reader<'a>,
    what: &'static str,
    [at, len]: [U32; 2],
) -> Result<Reader<'a>, BlobError> {
    let (at, len) = (at.get(), len.get());
    let end = u64::from(at).saturating_add(len.into());
    let bytes = whole.slice(0, end);
    Ok(Reader::new(bytes.or(Err(BlobError::Outside {
        what,
        at,
        len,
    }))?))
}

fn aligned(what: &'static str, at: U32, align: u32) -> Result<u32, BlobError> {
    let at = at.get();
    if at.is_multiple_of(align) {
        Ok(at)
    } else {
        Err(BlobError::Misaligned { what, at, align })
    }
}

/// What a structure block consists of (section 5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;
const END: u32 = 9;

/// The way through a structure block.
struct Walk<'a> {
    parts: &'a Parts<'a>,
    at: u64,
    nodes: usize,
}

impl<'a> Walk<'a> {
    fn through(parts: &'a Parts<'a>) -> Self {
        Self {
            parts,
            at: parts.structure_at.into(),
            nodes: 0,
        }
    }

    /// The root, behind which there is nothing.
    fn root(mut self) -> Result<DeviceTreeNode, BlobError> {
        let root = match self.token()? {
            (BEGIN_NODE, at) => match self.node_name(at)? {
                "" => self.node("", at, Depth::default())?,
                _ => return Err(BlobError::Name { what: "root", at }),
            },
            (token, at) => return Err(BlobError::Token { token, at }),
        };
        match self.token()? {
            (END, _) => Ok(root),
            (token, at) => Err(BlobError::Token { token, at }),
        }
    }

    /// The rest of a node that began at `at`: properties, then the nodes below.
    fn node(&mut self, name: &str, at: u64, above: Depth) -> Result<DeviceTreeNode, BlobError> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(BlobError::Nodes { at });
        }
        let depth = above.below(name).ok_or(BlobError::Depth { at })?;
        let mut node = DeviceTreeNode::new_unchecked(name);
        loop {
            match self.token()? {
                (PROPERTY, at) if node.children().next().is_none() => {
                    let (name, value) = self.property(at)?;
                    if node.property_mut(name).is_some() {
                        let what = "property";
                        return Err(BlobError::Twice { what, at });
                    }
                    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
                }
                (BEGIN_NODE, at) => {
                    let name = match self.node_name(at)? {
                        "" => return Err(BlobError::Name { what: "node", at }),
                        name => name,
                    };
                    if node.child_mut(name).is_some() {
                        return Err(BlobError::Twice { what: "node", at });
                    }
                    node.add_child(self.node(name, at, depth)?);
                }
                (END_NODE, _) => return Ok(node),
                (token, at) => return Err(BlobError::Token { token, at }),
            }
        }
    }

    /// A property's name and value, after its token at `at`.
    fn property(&mut self, at: u64) -> Result<(&'a str, &'a [u8]), BlobError> {
        let len = self.word()?;
        let offset = self.word()?;
        let value = self.bytes(len.into())?;
        let name_at = u64::from(self.parts.strings_at).saturating_add(offset.into());
        let name = self.parts.strings.tail(name_at).ok().and_then(name);
        match name {
            Some("") | None => Err(BlobError::Name {
                what: "property",
                at,
            }),
            Some(name) => Ok((name, value)),
        }
    }

    /// The name of the node at `at`, after its token.
    fn node_name(&mut self, at: u64) -> Result<&'a str, BlobError> {
        let tail = self.parts.structure.tail(self.at).ok();
        let name = tail
            .and_then(name)
            .ok_or(BlobError::Name { what: "node", at })?;
        // With its NUL.
        self.bytes((name.len() as u64).saturating_add(1))?;
        Ok(name)
    }

    /// The next token that means something, and where it is.
    fn token(&mut self) -> Result<(u32, u64), BlobError> {
        loop {
            let at = self.at;
            match self.word()? {
                NOTHING => {}
                token => return Ok((token, at)),
            }
        }
    }

    fn word(&mut self) -> Result<u32, BlobError> {
        let at = self.at;
        self.bytes(4)?;
        self.parts.structure.u32_be(at).or(Err(ends(at)))
    }

    /// So many bytes, behind which the next begin at a multiple of four.
    fn bytes(&mut self, len: u64) -> Result<&'a [u8], BlobError> {
        let at = self.at;
        let bytes = self.parts.structure.slice(at, len).or(Err(ends(at)))?;
        self.at = at.saturating_add(len.next_multiple_of(4));
        Ok(bytes)
    }
}

/// How deep a node lies.
#[derive(Clone, Copy, Default)]
struct Depth {
    levels: usize,
    path: usize,
}

impl Depth {
    /// That of a node below, where it may be there.
    fn below(self, name: &str) -> Option<Self> {
        let levels = self.levels.saturating_add(1);
        let path = self.path.saturating_add(name.len()).saturating_add(1);
        (levels <= MAX_DEPTH && path <= MAX_PATH).then_some(Self { levels, path })
    }
}

const fn ends(at: u64) -> BlobError {
    let what = STRUCTURE;
    BlobError::Ends { what, at }
}

/// The name that bytes begin with, up to a NUL: of what dtc takes, which is more than the
/// specification has (tables 2.1 and 2.2).
fn name(bytes: &[u8]) -> Option<&str> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b",._+*#?-@".contains(byte);
    let len = bytes
        .iter()
        .take(MAX_NAME.saturating_add(1))
        .position(|&byte| byte == 0)?;
    let name = bytes.get(..len).filter(|name| name.iter().all(fits))?;
    str::from_utf8(name).ok()
}
