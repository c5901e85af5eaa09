//! Interrupts that are registered before they are raised: who raises one is told when the guest is done with it.
//!
//! There are two kinds. One that is acknowledged belongs to a device of ours: what was registered with it comes back each
//! time the guest has ended an interrupt of it. One that is passed through belongs to a device of the host's, whose own
//! interrupt waits behind a channel, a number or whatever else the host has for that: the channel comes back when the
//! guest has ended it, so that the host lets the next one come.
//!
//! Nothing is lost that was taken: an interrupt that comes while the guest has it disabled or masked is there when it is
//! enabled. Where a call says no, nobody has registered what it is for. Room is taken once, for as many as there are to be.

#[cfg(test)]
mod tests;

use super::gic::{Gic, GicLine};
use alloc::vec::Vec;
use thiserror::Error;

/// The registered interrupts of a guest on a [`Gic`]: passed through from channels `C`, or acknowledged by an `A`.
#[derive(Clone, Debug)]
pub struct Virqs<C, A> {
    /// By their lines.
    registered: Vec<Virq<C, A>>,
    /// So many there may be.
    most: usize,
}

#[derive(Clone, Debug)]
struct Virq<C, A> {
    line: GicLine,
    kind: Kind<C, A>,
}

#[derive(Clone, Debug)]
enum Kind<C, A> {
    Acknowledged(A),
    PassedThrough(C),
}

/// An interrupt that the guest is done with.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<'a, C, A> {
    /// Of a device of ours, with what was registered.
    Acknowledged(GicLine, &'a mut A),
    /// Of a device of the host's: its next one may come.
    PassedThrough(C),
}

/// Why an interrupt cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VirqError {
    /// The interrupt controller has no such line.
    #[error("the interrupt controller has no such line")]
    NoSuchLine,
    /// The line is registered.
    #[error("the line is registered already")]
    LineTaken,
    /// The channel is.
    #[error("the channel is registered already")]
    ChannelTaken,
    /// There are as many as there is room for.
    #[error("there is room for {most} interrupts")]
    Full {
        /// So many.
        most: usize,
    },
}

impl<C: Copy + PartialEq, A> Virqs<C, A> {
    /// No interrupts, and room for `most`.
    #[must_use]
    pub fn with_room_for(most: usize) -> Self {
        Self {
            registered: Vec::with_capacity(most),
            most,
        }
    }

    /// Registers a line of a device of ours.
    ///
    /// # Errors
    ///
    /// [`VirqError`] where the line is not there or taken, or there is no room.
    pub fn register(&mut self, gic: &Gic, line: GicLine, answer: A) -> Result<(), VirqError> {
        self.insert(gic, line, Kind::Acknowledged(answer))
    }

    /// Registers a line for what comes by `channel`.
    ///
    /// # Errors
    ///
    /// As of [`register`](Self::register), and where the channel is taken.
    pub fn register_passthrough(
        &mut self,
        gic: &Gic,
        line: GicLine,
        channel: C,
    ) -> Result<(), VirqError> {
        if self.line_of(channel).is_some() {
            return Err(VirqError::ChannelTaken);
        }
        self.insert(gic, line, Kind::PassedThrough(channel))
    }

    /// Registers the line no more, and lowers it; says whether it was registered. What the guest has been interrupted by
    /// stays its own affair.
    pub fn deregister(&mut self, gic: &mut Gic, line: GicLine) -> bool {
        let Ok(at) = self.find(line) else {
            return false;
        };
        self.registered.remove(at);
        gic.set(line, false);
        true
    }

    /// Raises and lowers a registered line: one interrupt.
    #[must_use]
    pub fn inject(&self, gic: &mut Gic, line: GicLine) -> bool {
        let is_registered = self.find(line).is_ok();
        if is_registered {
            gic.pulse(line);
        }
        is_registered
    }

    /// Raises or lowers a registered line.
    #[must_use]
    pub fn set_level(&self, gic: &mut Gic, line: GicLine, high: bool) -> bool {
        let is_registered = self.find(line).is_ok();
        if is_registered {
            gic.set(line, high);
        }
        is_registered
    }

    /// An interrupt of the host's has come by `channel`: its line is high until the guest has ended it.
    #[must_use]
    pub fn handle_passthrough(&self, gic: &mut Gic, channel: C) -> bool {
        let line = self.line_of(channel);
        if let Some(line) = line {
            gic.set(line, true);
        }
        line.is_some()
    }

    /// What the guest is done with since this was asked; to be asked, until there is nothing, after everything that the
    /// guest did to the GIC.
    pub fn next_ended(&mut self, gic: &mut Gic) -> Option<Ended<'_, C, A>> {
        let at = loop {
            let line = gic.take_ended()?;
            // Others may have ended what nobody registered, or not any more.
            if let Ok(at) = self.find(line) {
                break at;
            }
        };
        let Virq { line, kind } = self.registered.get_mut(at)?;
        Some(match kind {
            Kind::Acknowledged(answer) => Ended::Acknowledged(*line, answer),
            Kind::PassedThrough(channel) => {
                gic.set(*line, false);
                Ended::PassedThrough(*channel)
            }
        })
    }

    fn insert(&mut self, gic: &Gic, line: GicLine, kind: Kind<C, A>) -> Result<(), VirqError> {
        if !gic.has(line) {
            return Err(VirqError::NoSuchLine);
        }
        let Err(at) = self.find(line) else {
            return Err(VirqError::LineTaken);
        };
        if self.registered.len() == self.most {
            return Err(VirqError::Full { most: self.most });
        }
        self.registered.insert(at, Virq { line, kind });
        Ok(())
    }

    fn find(&self, line: GicLine) -> Result<usize, usize> {
        self.registered
            .binary_search_by_key(&line, |virq| virq.line)
    }

    fn line_of(&self, channel: C) -> Option<GicLine> {
        let virq = self.registered.iter().find(|virq| match &virq.kind {
            Kind::PassedThrough(own) => *own == channel,
            Kind::Acknowledged(_) => false,
        });
        virq.map(|virq| virq.line)
    }
}
