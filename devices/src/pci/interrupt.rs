//! What an interrupt of a function comes out as.

/// A message-signalled interrupt: a write of `data` to `address` (PCI section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Where it is written to.
    pub address: u64,
    /// What is written.
    pub data: u32,
}

/// What is to be done for an interrupt that a function raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Raised {
    /// Nothing: it is masked, disabled or already there.
    Nothing,
    /// This is to be sent.
    Message(Message),
    /// The function's interrupt pin has this level.
    Line(bool),
}
