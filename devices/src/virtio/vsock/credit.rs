//! How many bytes each side of a connection may still send (virtio 1.2, section 5.10.6.3).

use super::Header;

/// How many bytes from the guest the host's side of a connection holds at most.
pub const BUFFER: u32 = 64 << 10;

/// Both directions of a connection, counted modulo 2³².
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    /// How many bytes the guest's side holds at most.
    guest_buffer: u32,
    /// How many have left that.
    guest_forwarded: u32,
    /// How many were sent to it.
    sent: u32,
    /// How many came from the guest.
    received: u32,
    /// How many of those have left the host's side.
    forwarded: u32,
    /// How many of those the guest knows of.
    announced: u32,
}

impl Credit {
    pub(super) const fn new() -> Self {
        Self {
            guest_buffer: 0,
            guest_forwarded: 0,
            sent: 0,
            received: 0,
            forwarded: 0,
            announced: 0,
        }
    }

    /// Takes what a packet from the guest says about its side's room.
    pub(super) const fn learn(&mut self, header: &Header) {
        self.guest_buffer = header.buffer;
        self.guest_forwarded = header.forwarded;
    }

    /// How many bytes the guest has room for; none where its numbers make no sense.
    pub(super) const fn room(&self) -> u32 {
        let on_the_way = self.sent.wrapping_sub(self.guest_forwarded);
        self.guest_buffer.saturating_sub(on_the_way)
    }

    /// So many bytes are sent to the guest.
    pub(super) const fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }

    /// So many bytes come from the guest; false where it was not given the credit for them.
    pub(super) const fn receive(&mut self, len: u32) -> bool {
        if len > BUFFER - self.held() {
            return false;
        }
        self.received = self.received.wrapping_add(len);
        true
    }

    /// How many bytes from the guest are on the host's side; never more than [`BUFFER`].
    pub(super) const fn held(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// So many of the bytes that are held have left the host's side.
    pub(super) const fn forward(&mut self, len: u32) {
        let held = self.held();
        let len = if len < held { len } else { held };
        self.forwarded = self.forwarded.wrapping_add(len);
    }

    /// Whether the guest is worth telling about room that it does not know of: it believes that
    /// half of it is used up.
    pub(super) const fn is_worth_announcing(&self) -> bool {
        self.forwarded != self.announced && self.received.wrapping_sub(self.announced) >= BUFFER / 2
    }

    /// Writes the host's side into a packet to the guest.
    pub(super) const fn announce(&mut self, header: &mut Header) {
        header.buffer = BUFFER;
        header.forwarded = self.forwarded;
        self.announced = self.forwarded;
    }
}
