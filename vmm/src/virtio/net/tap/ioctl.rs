//! What is asked of a tap (Linux, include/uapi/linux/if_tun.h): the only unsafe code of the network
//! card.
#![expect(unsafe_code, reason = "calling ioctl on a tap")]

use firstlight_devices::virtio::net::Header;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
#[cfg(test)]
const TUNSETPERSIST: Opcode = opcode::write::<i32>(b'T', 203);
/// What says what the host may leave to whoever reads a tap's frames.
pub(crate) const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<i32>(b'T', 216);

bitflags::bitflags! {
    /// What kind of interface it is to be, and what stands before its frames.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u16 {
        const TAP = 0x0002;
        const MULTI_QUEUE = 0x0100;
        const NO_PI = 0x1000;
        const VNET_HDR = 0x4000;
    }

    /// What the host may leave to whoever reads its frames.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct TapOffloads: u32 {
        const CSUM = 0x01;
        const TSO4 = 0x02;
        const TSO6 = 0x04;
        const TSO_ECN = 0x08;
    }
}

/// `struct ifreq` (include/uapi/linux/if.h), of which only flags are meant.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Attaches `file` to the interface `name`.
pub(super) fn attach(file: &OwnedFd, name: &str, flags: Flags) -> Result<(), Errno> {
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: flags.bits(),
        rest: [0; 22],
    };
    // The last byte stays zero.
    for (to, from) in request.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: TUNSETIFF reads a `struct ifreq`, which the request is laid out like, and writes the name
    // back into it.
    let request = unsafe { Updater::<TUNSETIFF, _>::new(&mut request) };
    // SAFETY: as just said; the request outlives the call.
    unsafe { ioctl(file, request) }
}

/// Has the interface stay when nobody has it open.
#[cfg(test)]
pub(super) fn keep(file: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: TUNSETPERSIST takes a number and no pointer.
    let keep = unsafe { IntegerSetter::<TUNSETPERSIST>::new_usize(1) };
    // SAFETY: as just said.
    unsafe { ioctl(file, keep) }
}

/// How long a network card's header is.
const HEADER_LEN: i32 = 12;
const _: () = assert!(HEADER_LEN.unsigned_abs() as usize == Header::LEN);

/// Has frames begin with a network card's header.
pub(super) fn set_header_len(file: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: TUNSETVNETHDRSZ reads an `int`.
    let len = unsafe { Setter::<TUNSETVNETHDRSZ, i32>::new(HEADER_LEN) };
    // SAFETY: as just said.
    unsafe { ioctl(file, len) }
}

/// Says what the host may leave to us.
pub(super) fn set_offloads(file: &OwnedFd, offloads: TapOffloads) -> Result<(), Errno> {
    // SAFETY: TUNSETOFFLOAD takes a number and no pointer.
    let offloads = unsafe { IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads.bits() as usize) };
    // SAFETY: as just said.
    unsafe { ioctl(file, offloads) }
}
