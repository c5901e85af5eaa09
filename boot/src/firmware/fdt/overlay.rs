//! Overlays: trees that say what is put over nodes of another (dtc's
//! `Documentation/dt-object-internal.txt`, Linux' `Documentation/devicetree/overlay-notes.rst`).

use super::blob::{self, BlobError, HANDLES};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, Property as _};

/// Why an overlay cannot be put over a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// It is no tree.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It is a tree of another kind.
    #[error("none of its nodes has an __overlay__: it is a device tree, but not an overlay")]
    NoFragments,
    /// It refers to a node by a label that no node has.
    #[error("it refers to {label}, but {}", Labelled(*.labelled))]
    NoLabel {
        /// The label.
        label: String,
        /// Whether nodes of the tree have labels.
        labelled: bool,
    },
    /// It refers to a node by a label that leads nowhere.
    #[error("it refers to {label}, which is to be the tree's {path}, but that is not there")]
    LabelAstray {
        /// The label.
        label: String,
        /// Where it leads, as far as it is shown here.
        path: String,
    },
    /// It says of a place in it that a reference is there, and none can be.
    #[error("it has no room for a phandle at {place}")]
    Place {
        /// The place, as far as it is shown here: path, property and offset.
        place: String,
    },
    /// It does not say, or not clearly, what is to be put over which node.
    #[error("its {fragment} is for no node: it has neither target nor target-path")]
    NoTarget {
        /// Where it does not.
        fragment: String,
    },
    /// A node is not there that something is to be put over.
    #[error("its {fragment} is for {target}, which is not in the tree")]
    TargetAstray {
        /// What is to be put over the node.
        fragment: String,
        /// The node, as far as it is shown here.
        target: String,
    },
    /// There are no numbers left by which nodes can refer to each other.
    #[error("there is no phandle left for it: the highest in use is {highest:#x}")]
    Handles {
        /// The highest in use.
        highest: u32,
    },
}

/// Puts the compiled overlay over `tree`, in time and memory in proportion to both.
pub(super) fn apply(tree: &mut DeviceTree, bytes: &[u8]) -> Result<(), OverlayError> {
    let mut overlay = blob::parse(bytes)?.root;
    let fragments = fragments(&overlay)?;
    let mut base = Base::of(tree)?;
    base.resolve(&mut overlay)?;
    base.renumber(&mut overlay)?;
    let mut targets = BTreeMap::new();
    for name in &fragments {
        if let Some(fragment) = overlay.child_mut(name) {
            let path = base.target(fragment)?;
            base.merge(&path, fragment)?;
            targets.insert(name.as_str(), path);
        }
    }
    base.label(&mut overlay, &targets);
    Ok(())
}

/// The node with what a fragment puts over another.
const CONTENT: &str = "__overlay__";
/// Where trees say which node has which label.
const SYMBOLS: &str = "__symbols__";
/// Where overlays say which references are to labels of the tree that they are put over.
const FIXUPS: &str = "__fixups__";
/// Where overlays say which references are to nodes of their own.
const LOCAL_FIXUPS: &str = "__local_fixups__";

/// The names of the nodes that put something over others.
fn fragments(overlay: &DeviceTreeNode) -> Result<Vec<String>, OverlayError> {
    let fragments = overlay.children().filter(|node| content(node).is_some());
    let names: Vec<String> = fragments.map(|node| node.name().to_owned()).collect();
    if names.is_empty() {
        return Err(OverlayError::NoFragments);
    }
    Ok(names)
}

fn content(fragment: &DeviceTreeNode) -> Option<&DeviceTreeNode> {
    fragment.children().find(|child| child.name() == CONTENT)
}

/// The tree that an overlay is put over.
///
/// Paths have no `/` at their end, so that of the root is empty.
struct Base<'a> {
    tree: &'a mut DeviceTree,
    /// Where nodes are, by the numbers by which others refer to them.
    paths: BTreeMap<u32, String>,
    /// The highest of these numbers.
    highest: u32,
}

impl<'a> Base<'a> {
    fn of(tree: &'a mut DeviceTree) -> Result<Self, OverlayError> {
        let mut paths = BTreeMap::new();
        note_paths(&tree.root, &mut String::new(), &mut paths)?;
        let highest = paths.last_key_value().map_or(0, |(&handle, _)| handle);
        Ok(Self {
            tree,
            paths,
            highest,
        })
    }

    fn node(&mut self, path: &str) -> Option<&mut DeviceTreeNode> {
        let path = if path.is_empty() { "/" } else { path };
        self.tree.find_node_mut(path)
    }

    /// Fills in the references to labels.
    fn resolve(&mut self, overlay: &mut DeviceTreeNode) -> Result<(), OverlayError> {
        let fixups = overlay.remove_child(FIXUPS).unwrap_or_default();
        let fixups: Vec<&DeviceTreeProperty> = fixups.properties().collect();
        let mut references: BTreeMap<(&str, &str), Vec<(usize, u32)>> = BTreeMap::new();
        for fixup in &fixups {
            let handle = self.labelled(fixup.name())?;
            let places = fixup.value();
            let places = places.strip_suffix(&[0]).unwrap_or(places);
            for place in places.split(|&byte| byte == 0) {
                let (path, property, offset) = parse_place(place).ok_or_else(|| no_room(place))?;
                let list = references.entry((path, property)).or_default();
                list.push((offset, handle));
            }
        }
        for ((path, name), list) in references {
            let node = path
                .split('/')
                .skip(1)
                .try_fold(&mut *overlay, |node, name| node.child_mut(name));
            node.and_then(|node| node.property_mut(name))
                .and_then(|property| refer(property, &list))
                .ok_or_else(|| no_room(format!("{path}:{name}").as_bytes()))?;
        }
        Ok(())
    }

    /// The number of the node with that label; it is given one where it has none.
    fn labelled(&mut self, label: &str) -> Result<u32, OverlayError> {
        let symbols = self.tree.root.child_mut(SYMBOLS);
        let labelled = symbols.is_some();
        let symbol = symbols.and_then(|symbols| symbols.property_mut(label));
        let path = symbol.ok_or_else(|| OverlayError::NoLabel {
            label: label.to_owned(),
            labelled,
        })?;
        let value = (&*path).value().to_vec();
        let astray = || OverlayError::LabelAstray {
            label: label.to_owned(),
            path: shown(&value),
        };
        let path = text(&value).ok_or_else(astray)?.trim_end_matches('/');
        let highest = self.highest;
        let node = self.node(path).ok_or_else(astray)?;
        if let Some(handle) = blob::handle(node)? {
            return Ok(handle);
        }
        let handle = higher(highest, 1)?;
        node.add_property(DeviceTreeProperty::new_unchecked("phandle", handle));
        self.paths.insert(handle, path.to_owned());
        self.highest = handle;
        Ok(handle)
    }

    /// Gives the overlay's nodes numbers that the tree has not, or the number that it has for the
    /// same node.
    fn renumber(&mut self, overlay: &mut DeviceTreeNode) -> Result<(), OverlayError> {
        let fixups = overlay.remove_child(LOCAL_FIXUPS).unwrap_or_default();
        let highest = self.highest;
        renumber(overlay, &fixups, &|handle| higher(highest, handle))?;
        let mut same = BTreeMap::new();
        for fragment in overlay.children() {
            let target = self.target(fragment).ok();
            let target = target.and_then(|path| self.node(&path));
            if let (Some(content), Some(target)) = (content(fragment), target) {
                compare(target, content, &mut same)?;
            }
        }
        renumber(overlay, &fixups, &|handle| {
            Ok(same.get(&handle).copied().unwrap_or(handle))
        })
    }

    /// The path of the node that a fragment is for.
    fn target(&mut self, fragment: &DeviceTreeNode) -> Result<String, OverlayError> {
        let astray = |target| OverlayError::TargetAstray {
            fragment: fragment.name().to_owned(),
            target,
        };
        if let Some(target) = fragment.property("target") {
            let handle = target.value_as().unwrap_or(u32::MAX);
            let path = self.paths.get(&handle).cloned();
            return path.ok_or_else(|| astray(format!("the phandle {handle:#x}")));
        }
        let Some(target) = fragment.property("target-path") else {
            let fragment = fragment.name().to_owned();
            return Err(OverlayError::NoTarget { fragment });
        };
        let path = self.path(target.value());
        path.ok_or_else(|| astray(shown(target.value())))
    }

    /// A path that may begin with an alias, where there is a node.
    fn path(&mut self, value: &[u8]) -> Option<String> {
        let path = text(value)?.trim_end_matches('/');
        let path = match path.split_at(path.find('/').unwrap_or(path.len())) {
            ("", path) => path.to_owned(),
            (alias, rest) => {
                let aliases = self.tree.root.child_mut("aliases")?;
                let alias = &*aliases.property_mut(alias)?;
                format!("{}{rest}", text(alias.value())?.trim_end_matches('/'))
            }
        };
        self.node(&path).is_some().then_some(path)
    }

    /// Puts the content of `fragment` over the node at `path`.
    fn merge(&mut self, path: &str, fragment: &DeviceTreeNode) -> Result<(), OverlayError> {
        let path = if path.is_empty() { "/" } else { path };
        if let (Some(node), Some(content)) = (self.tree.find_node_mut(path), content(fragment)) {
            lay(node, content);
            note_paths(
                content,
                &mut path.trim_end_matches('/').to_owned(),
                &mut self.paths,
            )?;
        }
        Ok(())
    }

    /// Lets later overlays refer to what this one labels, which lies where its fragments are for.
    fn label(&mut self, overlay: &mut DeviceTreeNode, targets: &BTreeMap<&str, String>) {
        let Some(labels) = overlay.remove_child(SYMBOLS) else {
            return;
        };
        let symbols = DeviceTreeNode::new_unchecked(SYMBOLS);
        let symbols = self.tree.root.add_child_mut(symbols);
        for label in labels.properties() {
            if let Some(path) = text(label.value()).and_then(|path| moved(path, targets)) {
                symbols.add_property(DeviceTreeProperty::new_unchecked(label.name(), path));
            }
        }
    }
}

/// Where a node of an overlay lies once it is applied; `None` where it is of no fragment.
fn moved(path: &str, targets: &BTreeMap<&str, String>) -> Option<String> {
    let (fragment, rest) = path.strip_prefix('/')?.split_once('/')?;
    let rest = rest.strip_prefix(CONTENT)?;
    let path = format!("{}{rest}", targets.get(fragment)?);
    match (rest.chars().next(), path.is_empty()) {
        (None | Some('/'), false) => Some(path),
        (None, true) => Some("/".into()),
        (Some(_), _) => None,
    }
}

fn note_paths(
    node: &DeviceTreeNode,
    path: &mut String,
    paths: &mut BTreeMap<u32, String>,
) -> Result<(), BlobError> {
    if let Some(handle) = blob::handle(node)? {
        paths.insert(handle, path.clone());
    }
    let len = path.len();
    for child in node.children() {
        path.push('/');
        path.push_str(child.name());
        note_paths(child, path, paths)?;
        path.truncate(len);
    }
    Ok(())
}

/// Puts properties and nodes of `content` into `node`, over those that have their names.
fn lay(node: &mut DeviceTreeNode, content: &DeviceTreeNode) {
    for property in content.properties() {
        node.add_property(property.clone());
    }
    for child in content.children() {
        let fresh = DeviceTreeNode::new_unchecked(child.name());
        lay(node.add_child_mut(fresh), child);
    }
}

/// Finds the numbers of nodes that are both in the tree and in an overlay's content: the overlay's
/// to the tree's.
fn compare(
    node: &mut DeviceTreeNode,
    content: &DeviceTreeNode,
    same: &mut BTreeMap<u32, u32>,
) -> Result<(), BlobError> {
    if let (Some(theirs), Some(ours)) = (blob::handle(content)?, blob::handle(node)?) {
        same.insert(theirs, ours);
    }
    for child in content.children() {
        if let Some(node) = node.child_mut(child.name()) {
            compare(node, child, same)?;
        }
    }
    Ok(())
}

/// Gives nodes other numbers, and says so where `fixups` has it that others refer to them.
fn renumber(
    node: &mut DeviceTreeNode,
    fixups: &DeviceTreeNode,
    number: &dyn Fn(u32) -> Result<u32, OverlayError>,
) -> Result<(), OverlayError> {
    renumber_nodes(node, number)?;
    renumber_references(node, fixups, number)
}

fn renumber_nodes(
    node: &mut DeviceTreeNode,
    number: &dyn Fn(u32) -> Result<u32, OverlayError>,
) -> Result<(), OverlayError> {
    for name in HANDLES {
        if let Some(property) = node.property_mut(name)
            && let Ok(handle) = (&*property).value_as()
        {
            property.set_value(number(handle)?);
        }
    }
    node.children_mut()
        .try_for_each(|child| renumber_nodes(child, number))
}

fn renumber_references(
    node: &mut DeviceTreeNode,
    fixups: &DeviceTreeNode,
    number: &dyn Fn(u32) -> Result<u32, OverlayError>,
) -> Result<(), OverlayError> {
    for fixup in fixups.properties() {
        let name = fixup.name();
        let property = node.property_mut(name);
        let property = property.ok_or_else(|| no_room(name.as_bytes()))?;
        let mut value = (&*property).value().to_vec();
        for offset in fixup.value().chunks(4) {
            let cell = offset.try_into().ok().map(u32::from_be_bytes);
            let cell = cell.and_then(|offset| cell_mut(&mut value, offset.try_into().ok()?));
            let cell = cell.ok_or_else(|| no_room(name.as_bytes()))?;
            *cell = number(u32::from_be_bytes(*cell))?.to_be_bytes();
        }
        property.set_value(value);
    }
    for fixup in fixups.children() {
        let child = node.child_mut(fixup.name());
        let child = child.ok_or_else(|| no_room(fixup.name().as_bytes()))?;
        renumber_references(child, fixup, number)?;
    }
    Ok(())
}

/// A number as far above `highest`; the last one stands for no node.
fn higher(highest: u32, by: u32) -> Result<u32, OverlayError> {
    let handle = highest.checked_add(by).filter(|&handle| handle < u32::MAX);
    handle.ok_or(OverlayError::Handles { highest })
}

/// Path, property and offset, between colons.
fn parse_place(place: &[u8]) -> Option<(&str, &str, usize)> {
    let mut parts = str::from_utf8(place).ok()?.rsplitn(3, ':');
    let offset = parts.next()?.parse().ok()?;
    let property = parts.next()?;
    let path = parts.next()?;
    Some((path, property, offset))
}

/// Writes numbers of nodes into a property, at offsets.
fn refer(property: &mut DeviceTreeProperty, list: &[(usize, u32)]) -> Option<()> {
    let mut value = (&*property).value().to_vec();
    for &(offset, handle) in list {
        *cell_mut(&mut value, offset)? = handle.to_be_bytes();
    }
    property.set_value(value);
    Some(())
}

fn cell_mut(value: &mut [u8], offset: usize) -> Option<&mut [u8; 4]> {
    value.get_mut(offset..)?.first_chunk_mut()
}

/// A property's value, where it is one text.
fn text(value: &[u8]) -> Option<&str> {
    let text = value.strip_suffix(&[0])?;
    str::from_utf8(text)
        .ok()
        .filter(|text| !text.contains('\0'))
}

fn no_room(place: &[u8]) -> OverlayError {
    OverlayError::Place {
        place: shown(place),
    }
}

/// The beginning of something that came from outside, fit to be printed.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    let start = text.get(..80).unwrap_or(text);
    start.escape_ascii().to_string()
}

struct Labelled(bool);

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 {
            "no node of the tree has that label"
        } else {
            "the tree has no labels (dtc keeps them with -@)"
        })
    }
}
