//! The PCI Express capability (PCIe section 7.5.3), as far as all functions have it alike.
//!
//! The link that it tells of is the slowest and narrowest one, which asks for nothing more: there
//! is no wire, and what is sent has arrived.

use super::ConfigSpace;

/// Where a function that is no bridge sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// On bus 0, without a link.
    RootComplex,
    /// Behind a port.
    Slot,
}

/// The kind of a function (PCIe section 7.5.3.2, Device/Port Type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Endpoint,
    RootPort,
    IntegratedEndpoint,
}

/// The id of the capability.
const ID: u8 = 0x10;

// Registers, as offsets from the capability (PCIe figure 7-24).
const CAPABILITIES: u8 = 0x02;
const DEVICE_CAPABILITIES: u8 = 0x04;
const DEVICE_CONTROL: u8 = 0x08;
const DEVICE_STATUS: u8 = 0x0a;
const LINK_CAPABILITIES: u8 = 0x0c;
pub(super) const LINK_CONTROL: u8 = 0x10;
pub(super) const LINK_STATUS: u8 = 0x12;
pub(super) const SLOT_CAPABILITIES: u8 = 0x14;
pub(super) const SLOT_CONTROL: u8 = 0x18;
pub(super) const SLOT_STATUS: u8 = 0x1a;
pub(super) const ROOT_CONTROL: u8 = 0x1c;
const LINK_CAPABILITIES_2: u8 = 0x2c;
const LINK_CONTROL_2: u8 = 0x30;
/// How long it is (PCIe figure 7-24).
const LEN: usize = 0x3c;

/// Version 2 of the capability, and where the kind of the function and the slot are said.
const VERSION: u16 = 2;
const KIND_SHIFT: u32 = 4;
const SLOT_IMPLEMENTED: u16 = 1 << 8;

/// Device capabilities: errors are reported by their role, as every function must since 1.1
/// (section 7.5.3.3). Payloads are 128 bytes at most.
const ROLE_BASED_ERRORS: u32 = 1 << 15;
/// Device control after reset (section 7.5.3.4): relaxed ordering, no snoop, reads of 512 bytes.
const DEVICE_CONTROL_INITIAL: u16 = 1 << 4 | 1 << 11 | 0b010 << 12;
/// All of it but what only some functions have: tags and phantom functions (bits 8 and 9),
/// auxiliary power (10), configuration retry or reset (15).
const DEVICE_CONTROL_WRITABLE: u16 = 0x78ff;
/// The errors that a function has seen, which are none.
const DEVICE_STATUS_CLEARABLE: u16 = 0x000f;

/// 2.5 GT/s, one lane (sections 7.5.3.6 and 7.5.3.8, and 7.5.3.18 for the speeds there are).
pub(super) const SPEED_AND_WIDTH: u16 = 1 | 1 << 4;
const SPEEDS: u32 = 1 << 1;
/// Link capabilities: whether the data link layer is active can be asked.
const ACTIVE_REPORTING: u32 = 1 << 20;
/// Link control: active state power management, common clock, extended synch; for a port, link
/// disable too.
const LINK_CONTROL_WRITABLE: u16 = 0b11 | 1 << 6 | 1 << 7;
pub(super) const LINK_DISABLE: u16 = 1 << 4;
/// Link control 2: the target speed.
const TARGET_SPEED: u16 = 1;

impl ConfigSpace {
    /// Adds the PCI Express capability of a function that is no bridge.
    ///
    /// # Panics
    ///
    /// Where there is no room for it.
    pub fn add_express(&mut self, attachment: Attachment) {
        match attachment {
            Attachment::RootComplex => {
                add(self, Kind::IntegratedEndpoint);
            }
            Attachment::Slot => {
                let at = add(self, Kind::Endpoint);
                add_link(self, at);
                self.define(at + LINK_STATUS, &SPEED_AND_WIDTH.to_le_bytes());
            }
        }
    }
}

/// Adds the capability of a root port with a slot, and says where it is. Nothing is in the slot.
pub(super) fn add_root_port(config: &mut ConfigSpace) -> u8 {
    let at = add(config, Kind::RootPort);
    add_link(config, at);
    let active = u32::from(SPEED_AND_WIDTH) | ACTIVE_REPORTING;
    config.define(at + LINK_CAPABILITIES, &active.to_le_bytes());
    let control = LINK_CONTROL_WRITABLE | LINK_DISABLE;
    config.make_writable(at + LINK_CONTROL, &control.to_le_bytes());
    at
}

/// What functions without a link have, too.
fn add(config: &mut ConfigSpace, kind: Kind) -> u8 {
    let at = config.add_capability(ID, &[0; LEN - 2]);
    config.define(at + CAPABILITIES, &capabilities(kind).to_le_bytes());
    config.define(at + DEVICE_CAPABILITIES, &ROLE_BASED_ERRORS.to_le_bytes());
    config.define(at + DEVICE_CONTROL, &DEVICE_CONTROL_INITIAL.to_le_bytes());
    config.make_writable(at + DEVICE_CONTROL, &DEVICE_CONTROL_WRITABLE.to_le_bytes());
    config.make_clearable(at + DEVICE_STATUS, &DEVICE_STATUS_CLEARABLE.to_le_bytes());
    at
}

const fn capabilities(kind: Kind) -> u16 {
    match kind {
        Kind::Endpoint => VERSION,
        Kind::RootPort => VERSION | 4 << KIND_SHIFT | SLOT_IMPLEMENTED,
        Kind::IntegratedEndpoint => VERSION | 9 << KIND_SHIFT,
    }
}

/// What only functions with a link have.
fn add_link(config: &mut ConfigSpace, at: u8) {
    let capabilities = u32::from(SPEED_AND_WIDTH);
    config.define(at + LINK_CAPABILITIES, &capabilities.to_le_bytes());
    config.make_writable(at + LINK_CONTROL, &LINK_CONTROL_WRITABLE.to_le_bytes());
    config.define(at + LINK_CAPABILITIES_2, &SPEEDS.to_le_bytes());
    config.define(at + LINK_CONTROL_2, &TARGET_SPEED.to_le_bytes());
    config.make_writable(at + LINK_CONTROL_2, &[0x0f]);
}
