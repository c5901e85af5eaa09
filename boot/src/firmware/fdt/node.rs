//! A node of a machine's own tree while it is being written.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, ToPropertyValue};
use firstlight_base::{Gpa, GpaRange};

/// A node, what is below it, and by which labels overlays may refer to that.
pub(super) struct Node {
    inner: DeviceTreeNode,
    labels: Vec<Label>,
}

/// A label, and the path from a node to the one that has it.
struct Label {
    name: String,
    path: String,
}

impl Node {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            inner: DeviceTreeNode::new_unchecked(name),
            labels: Vec::new(),
        }
    }

    /// A node that is named for the address of its first register.
    pub(super) fn at(name: &str, address: Gpa) -> Self {
        Self::new(format!("{name}@{:x}", address.get()))
    }

    pub(super) fn set(mut self, name: &str, value: impl ToPropertyValue) -> Self {
        let property = DeviceTreeProperty::new_unchecked(name, value);
        self.inner.add_property(property);
        self
    }

    /// A property that says something by being there.
    pub(super) fn flag(self, name: &str) -> Self {
        self.set(name, [0_u8; 0])
    }

    pub(super) fn texts(self, name: &str, texts: &[&str]) -> Self {
        self.set(name, texts)
    }

    pub(super) fn compatible(self, with: &[&str]) -> Self {
        self.texts("compatible", with)
    }

    /// How many cells an address and a length have below this node.
    pub(super) fn cells(self, address: u32, size: u32) -> Self {
        self.set("#address-cells", address).set("#size-cells", size)
    }

    /// Registers, by addresses and lengths of two cells each.
    pub(super) fn registers(self, ranges: &[GpaRange]) -> Self {
        let numbers = ranges
            .iter()
            .flat_map(|range| [range.start().get(), range.len()]);
        let bytes: Vec<u8> = numbers.flat_map(u64::to_be_bytes).collect();
        self.set("reg", bytes)
    }

    /// Lets other nodes and overlays refer to this one.
    pub(super) fn label(mut self, name: impl Into<String>, handle: u32) -> Self {
        self.labels.push(Label {
            name: name.into(),
            path: String::new(),
        });
        self.set("phandle", handle)
    }

    pub(super) fn with(mut self, child: Self) -> Self {
        let name = child.inner.name().to_owned();
        self.labels
            .extend(child.labels.into_iter().map(|label| Label {
                path: format!("/{name}{}", label.path),
                ..label
            }));
        self.inner.add_child(child.inner);
        self
    }

    pub(super) fn with_all(self, children: impl IntoIterator<Item = Self>) -> Self {
        children.into_iter().fold(self, Self::with)
    }

    /// The node that says where those with labels are (`/__symbols__`).
    pub(super) fn symbols(&self) -> Self {
        self.labels
            .iter()
            .fold(Self::new("__symbols__"), |symbols, label| {
                symbols.set(&label.name, label.path.as_str())
            })
    }

    pub(super) fn into_inner(self) -> DeviceTreeNode {
        self.inner
    }
}
