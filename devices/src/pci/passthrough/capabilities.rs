//! The capabilities of a function of the host, as a guest sees them (PCI sections 6.7 and 6.8, PCIe section 7.5).

use super::super::ConfigSpace;
use super::super::msi::Msi;
use super::super::msix::MsiX;
use super::{BARS, HostFunction, MsiXParts, PassthroughError, bytes, u16_at, u32_at};
use alloc::vec::Vec;
use core::ops::Range;

/// Those that a guest has.
#[derive(Clone, Debug, Default)]
pub(super) struct Capabilities {
    pub(super) msi: Option<Msi>,
    pub(super) msix: Option<MsiXParts>,
    /// Where registers are the host's.
    hosts: Vec<Range<usize>>,
    /// Where PCI Express' device control is, where a reset can be asked for there.
    reset_by: Option<u16>,
}

/// The first capability's place, and where the first one can be.
const FIRST: usize = 0x34;
const LOWEST: u8 = 0x40;
const CONFIG_LEN: usize = 0x100;

// Capabilities that a guest has (PCI Code and ID Assignment Specification 1.11, chapter 2).
const POWER_MANAGEMENT: u8 = 0x01;
const MSI: u8 = 0x05;
const VENDOR: u8 = 0x09;
const EXPRESS: u8 = 0x10;
const MSIX: u8 = 0x11;

/// Power management (PCI Bus Power Management Interface Specification 1.2, section 3.2). Its version is all that is said: no
/// states between on and off, no wake-up.
const PM_LEN: usize = 8;
const PM_VERSION: u8 = 0b111;
/// Control and status: the state, and that nothing is lost by a change of it. The host's function is always on.
const PM_CONTROL: u8 = 4;
const PM_STATE: u8 = 0b11;
const PM_NO_SOFT_RESET: u8 = 1 << 3;

/// MSI: the address has 64 bits.
const MSI_64: u16 = 1 << 7;
/// MSI-X: one less than the number of vectors; the BAR in the registers for places.
const MSIX_LEN: usize = 12;
const MSIX_SIZE: u16 = 0x7ff;
const MSIX_BAR: u32 = 0b111;
/// As many vectors as a guest has at most: each takes an event of the host.
const MOST_VECTORS: u16 = 256;

/// PCI Express, up to the end of version 2, and of version 1 of a function without a link.
const EXPRESS_LEN: usize = 0x3c;
const EXPRESS_VERSION: u16 = 2;
const EXPRESS_KIND: u16 = 0xf0;
const ENDPOINT: u16 = 0 << 4;
const LEGACY_ENDPOINT: u16 = 1 << 4;
/// What a function on the root bus is, which has no link.
const INTEGRATED_ENDPOINT: u16 = 9 << 4;
const DEVICE_CAPABILITIES: usize = 4;
const FUNCTION_RESET: u32 = 1 << 28;
/// Of device capabilities: the largest payload, tags, errors by role.
const DEVICE_CAPABILITIES_SHOWN: u32 = 0b111 | 1 << 5 | 1 << 15;
const DEVICE_CONTROL: u8 = 8;
/// All of device control but auxiliary power and phantom functions; nothing of it reaches the host's function.
const DEVICE_CONTROL_WRITABLE: u16 = 0x79ff;
const RESET: u8 = 1 << 7;

impl Capabilities {
    /// Adds those of `host` that a guest may have, at the same places and in the same order. A list that leads back into itself
    /// or to where none can be ends there; of two that overlap, the guest has the first.
    pub(super) fn add_to(
        config: &mut ConfigSpace,
        host: &HostFunction<'_>,
        bars: &[u64; BARS],
    ) -> Result<Self, PassthroughError> {
        let mut capabilities = Self::default();
        let mut taken = [false; CONFIG_LEN];
        let mut visited = [false; CONFIG_LEN];
        let [mut at] = bytes(host.config, FIRST);
        loop {
            at &= !0b11;
            let place = usize::from(at);
            if at < LOWEST || visited[place] {
                return Ok(capabilities);
            }
            visited[place] = true;
            let [id, next] = bytes(host.config, place);
            let room = room(host.config, at, id).filter(|room| {
                room.end <= CONFIG_LEN
                    && !taken.iter().take(room.end).skip(room.start).any(|&it| it)
            });
            if let Some(room) = room {
                for byte in taken.iter_mut().take(room.end).skip(room.start) {
                    *byte = true;
                }
                capabilities.add(config, (host, bars), (at, id, room))?;
            }
            at = next;
        }
    }

    fn add(
        &mut self,
        config: &mut ConfigSpace,
        (host, bars): (&HostFunction<'_>, &[u64; BARS]),
        (at, id, room): (u8, u8, Range<usize>),
    ) -> Result<(), PassthroughError> {
        let place = usize::from(at);
        match id {
            POWER_MANAGEMENT => add_power_management(config, host.config, at),
            MSI if self.msi.is_none() => {
                let is_64 = u16_at(host.config, place + 2) & MSI_64 != 0;
                self.msi = Some(Msi::place_in(config, at, is_64));
            }
            MSIX if self.msix.is_none() => self.msix = Some(msix(config, (host, bars), at)?),
            EXPRESS => {
                let can_reset = add_express(config, host, at);
                let control = u16::from(at + DEVICE_CONTROL);
                self.reset_by = self.reset_by.or(can_reset.then_some(control));
            }
            VENDOR => {
                let header = room.start + 2;
                let body = host.config.get(header..room.end).unwrap_or_default();
                config.place_capability(at, VENDOR, body);
                self.hosts.push(header..room.end);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether all of these registers are the host's.
    pub(super) fn are_hosts(&self, register: u16, len: usize) -> bool {
        let start = usize::from(register);
        let end = start.saturating_add(len);
        let mut hosts = self.hosts.iter();
        len > 0 && hosts.any(|range| range.start <= start && end <= range.end)
    }

    /// Whether what is written to these registers asks for a reset of the function.
    pub(super) fn asks_for_reset(&self, register: u16, data: &[u8]) -> bool {
        let high = self.reset_by.map(|control| control + 1);
        let at = high.and_then(|high| high.checked_sub(register));
        let byte = at.and_then(|at| data.get(usize::from(at)));
        byte.is_some_and(|byte| byte & RESET != 0)
    }
}

/// What a capability that a guest may have takes.
fn room(config: &[u8; CONFIG_LEN], at: u8, id: u8) -> Option<Range<usize>> {
    let at = usize::from(at);
    let len = match id {
        POWER_MANAGEMENT => PM_LEN,
        MSI => Msi::len(u16_at(config, at + 2) & MSI_64 != 0),
        MSIX => MSIX_LEN,
        EXPRESS => EXPRESS_LEN,
        VENDOR => {
            let [len] = bytes(config, at + 2);
            usize::from(len).max(3)
        }
        _ => return None,
    };
    // A capability ends with a whole register.
    Some(at..(at + len).next_multiple_of(4))
}

fn add_power_management(config: &mut ConfigSpace, host: &[u8; CONFIG_LEN], at: u8) {
    let [version] = bytes(host, usize::from(at) + 2);
    let mut body = [0; PM_LEN - 2];
    body[0] = version & PM_VERSION;
    config.place_capability(at, POWER_MANAGEMENT, &body);
    config.define(at + PM_CONTROL, &[PM_NO_SOFT_RESET]);
    config.make_writable(at + PM_CONTROL, &[PM_STATE]);
}

fn msix(
    config: &mut ConfigSpace,
    (host, bars): (&HostFunction<'_>, &[u64; BARS]),
    at: u8,
) -> Result<MsiXParts, PassthroughError> {
    let place = usize::from(at);
    let vectors = (u16_at(host.config, place + 2) & MSIX_SIZE) + 1;
    let [table, pba] = [4, 8].map(|register| u32_at(host.config, place + register));
    let part = |register: u32, len: u32| {
        let bar = usize::try_from(register & MSIX_BAR).ok()?;
        let start = u64::from(register & !MSIX_BAR);
        let end = start + u64::from(len);
        (end <= *bars.get(bar)?).then_some((bar, start..end))
    };
    // The host's table is as long as it says, whatever the guest has of it.
    let parts = part(table, MsiX::table_len(vectors)).zip(part(pba, MsiX::pba_len(vectors)));
    let (table_at, pending) = parts.ok_or(PassthroughError::MsiX {
        vectors,
        table,
        pba,
    })?;
    let chip = MsiX::place_in(config, at, vectors.min(MOST_VECTORS), (table, pba));
    Ok(MsiXParts {
        chip,
        table: table_at,
        pending,
    })
}

/// Says whether the guest can ask for a reset by it.
fn add_express(config: &mut ConfigSpace, host: &HostFunction<'_>, at: u8) -> bool {
    let place = usize::from(at);
    let kind = u16_at(host.config, place + 2) & EXPRESS_KIND;
    if ![ENDPOINT, LEGACY_ENDPOINT, INTEGRATED_ENDPOINT].contains(&kind) {
        return false;
    }
    let devices = u32_at(host.config, place + DEVICE_CAPABILITIES);
    let can_reset = host.can_reset && devices & FUNCTION_RESET != 0;
    let mut shown = devices & DEVICE_CAPABILITIES_SHOWN;
    if can_reset {
        shown |= FUNCTION_RESET;
    }
    config.place_capability(at, EXPRESS, &[0; EXPRESS_LEN - 2]);
    let capabilities = EXPRESS_VERSION | INTEGRATED_ENDPOINT;
    config.define(at + 2, &capabilities.to_le_bytes());
    config.define(at + 4, &shown.to_le_bytes());
    let control = u16_at(host.config, place + usize::from(DEVICE_CONTROL));
    let initial = control & DEVICE_CONTROL_WRITABLE & !(u16::from(RESET) << 8);
    config.define(at + DEVICE_CONTROL, &initial.to_le_bytes());
    let writable = DEVICE_CONTROL_WRITABLE & !(u16::from(RESET) << 8);
    config.make_writable(at + DEVICE_CONTROL, &writable.to_le_bytes());
    can_reset
}
