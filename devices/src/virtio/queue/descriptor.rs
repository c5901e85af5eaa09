//! Descriptors, and the tables of them (virtio 1.2 sections 2.7.5 and 2.8.13).

use super::QueueError;
use firstlight_base::{Gpa, GuestMem, OutsideRam};

/// A descriptor's bytes.
pub(super) const LEN: u64 = 16;

bitflags::bitflags! {
    /// A descriptor's flags. Only a packed ring has the last two (section 2.8.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u16 {
        const NEXT = 1 << 0;
        const WRITE = 1 << 1;
        const INDIRECT = 1 << 2;
        const AVAILABLE = 1 << 7;
        const USED = 1 << 15;
    }
}

/// A descriptor's numbers in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) at: Gpa,
    pub(super) len: u32,
    /// The flags, or in a packed ring the buffer's number.
    pub(super) third: u16,
    /// The next descriptor's number, or in a packed ring the flags.
    pub(super) fourth: u16,
}

/// A table of descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    at: Gpa,
    len: u32,
}

impl Table {
    /// The `len` descriptors from `at`.
    pub(super) const fn new(at: Gpa, len: u32) -> Self {
        Self { at, len }
    }

    /// The table that a descriptor with `flags` leads to, if it may where indirect descriptors
    /// `are_negotiated`.
    pub(super) fn behind(
        descriptor: &Descriptor,
        flags: Flags,
        are_negotiated: bool,
    ) -> Result<Self, QueueError> {
        if !are_negotiated {
            return Err(QueueError::IndirectRefused);
        }
        if flags.contains(Flags::NEXT) {
            return Err(QueueError::IndirectNext);
        }
        let &Descriptor { at, len, .. } = descriptor;
        let whole = u64::from(len).is_multiple_of(LEN) && len > 0;
        match u32::try_from(u64::from(len) / LEN) {
            Ok(entries) if whole => Ok(Self { at, len: entries }),
            _ => Err(QueueError::IndirectLength { table: at, len }),
        }
    }

    /// How many descriptors there are.
    pub(super) const fn len(self) -> u32 {
        self.len
    }

    /// The descriptor of this number.
    pub(super) fn get(self, memory: &impl GuestMem, index: u32) -> Result<Descriptor, QueueError> {
        let Self { at, len } = self;
        if index >= len {
            return Err(QueueError::Index { index, len });
        }
        let mut bytes = [0; 16];
        at.checked_add(LEN * u64::from(index))
            .and_then(|entry| memory.read(entry, &mut bytes).ok())
            .ok_or(QueueError::BufferOutside(OutsideRam {
                at,
                len: LEN * u64::from(len),
            }))?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, third @ .., m, n] = bytes;
        Ok(Descriptor {
            at: Gpa::new(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            len: u32::from_le_bytes([i, j, k, l]),
            third: u16::from_le_bytes(third),
            fourth: u16::from_le_bytes([m, n]),
        })
    }
}
