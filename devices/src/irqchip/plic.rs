//! The platform-level interrupt controller of RISC-V (RISC-V Platform-Level Interrupt Controller
//! Specification 1.0.0).
//!
//! Every source has a gateway: it forwards one request, and no other until that one has been
//! completed. A request once forwarded stays, whatever becomes of the line. At completion a line
//! that is still high is a request again, and so is a pulse that came meanwhile, once, however
//! many there were.
//!
//! Nothing is allocated after it was made.

mod ids;
#[cfg(test)]
mod tests;

use crate::words::Words;
use crate::{Chip, Effect};
use alloc::vec::Vec;
use core::cmp::Reverse;
use firstlight_base::Irq;
use ids::Ids;

/// A PLIC.
#[derive(Debug)]
pub struct Plic {
    /// Those that there are.
    sources: Ids,
    priorities: Vec<u32>,
    /// Whose line is high.
    high: Ids,
    /// Whose line was pulsed while its gateway was closed.
    pulsed: Ids,
    /// Whose gateway is closed: its request was forwarded and not completed.
    closed: Ids,
    /// Whose request was forwarded and not claimed.
    pending: Ids,
    contexts: Vec<Context>,
}

/// A processor in one of its modes, as the PLIC counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlicContext(pub u32);

#[derive(Clone, Debug)]
struct Context {
    enabled: Ids,
    threshold: u32,
}

/// The registers (chapter "Memory Map").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Priority(Irq),
    /// 32 sources.
    Pending(u64),
    /// 32 sources for a context.
    Enable(PlicContext, u64),
    Threshold(PlicContext),
    Claim(PlicContext),
}

impl Register {
    fn at(offset: u64) -> Option<Self> {
        let small = |number: u64| u32::try_from(number).ok();
        Some(match offset {
            ..PENDING => Self::Priority(Irq(small(offset / 4)?)),
            PENDING..PENDING_END => Self::Pending((offset - PENDING) / 4),
            PENDING_END..ENABLE => return None,
            ENABLE..CONTEXTS => {
                let at = offset - ENABLE;
                let context = PlicContext(small(at / ENABLE_LEN)?);
                Self::Enable(context, at % ENABLE_LEN / 4)
            }
            CONTEXTS.. => {
                let at = offset - CONTEXTS;
                let context = PlicContext(small(at / CONTEXT_LEN)?);
                match at % CONTEXT_LEN {
                    0 => Self::Threshold(context),
                    4 => Self::Claim(context),
                    _ => return None,
                }
            }
        })
    }
}

const PENDING: u64 = 0x1000;
const PENDING_END: u64 = 0x1080;
const ENABLE: u64 = 0x2000;
const ENABLE_LEN: u64 = 0x80;
const CONTEXTS: u64 = 0x20_0000;
const CONTEXT_LEN: u64 = 0x1000;

/// The priorities that there are: 3 bits, as QEMU's `virt` has them (`VIRT_PLIC_NUM_PRIORITIES`).
/// Priority 0 is "never".
const PRIORITIES: u32 = 0x7;

impl Plic {
    /// The most sources, number 0 not counted.
    pub const MAX_SOURCES: u32 = 1023;
    /// The most contexts.
    pub const MAX_CONTEXTS: u32 = 15_872;

    /// A PLIC after reset, with sources from 1 to `sources`; nothing for more than there can be.
    #[must_use]
    pub fn new(sources: u32, contexts: u32) -> Option<Self> {
        if sources > Self::MAX_SOURCES || contexts > Self::MAX_CONTEXTS {
            return None;
        }
        let context = Context {
            enabled: Ids::NONE,
            threshold: 0,
        };
        Some(Self {
            sources: (1..=sources).collect(),
            priorities: (0..=sources).map(|_| 0).collect(),
            high: Ids::NONE,
            pulsed: Ids::NONE,
            closed: Ids::NONE,
            pending: Ids::NONE,
            contexts: (0..contexts).map(|_| context.clone()).collect(),
        })
    }

    /// How many bytes of addresses it takes.
    #[must_use]
    pub fn extent(&self) -> u64 {
        CONTEXTS + self.contexts.len() as u64 * CONTEXT_LEN
    }

    /// Raises or lowers a source's line. A source that is not there has none.
    pub fn set(&mut self, source: Irq, high: bool) {
        if self.sources.contains(source.0) {
            self.high.set(source.0, high);
            self.forward(source.0);
        }
    }

    /// Raises and lowers a source's line: one interrupt, also where an earlier one is being
    /// serviced.
    pub fn pulse(&mut self, source: Irq) {
        if self.sources.contains(source.0) {
            self.pulsed.set(source.0, true);
            self.forward(source.0);
        }
    }

    /// Whether `context` is notified of an interrupt: the level of its external interrupt line. To
    /// be asked after everything that was done to the PLIC.
    #[must_use]
    pub fn notifies(&self, context: PlicContext) -> bool {
        self.context(context).is_some_and(|context| {
            self.highest(context)
                .is_some_and(|source| self.priority(source) > context.threshold)
        })
    }

    /// An open gateway forwards a request and closes.
    fn forward(&mut self, source: u32) {
        let asserted = self.high.contains(source) || self.pulsed.contains(source);
        if asserted && !self.closed.contains(source) {
            self.pulsed.set(source, false);
            self.closed.set(source, true);
            self.pending.set(source, true);
        }
    }

    /// The pending source that `context` would be given: of the highest priority, and of those the
    /// lowest.
    fn highest(&self, context: &Context) -> Option<u32> {
        self.pending
            .both(&context.enabled)
            .filter(|&source| self.priority(source) > 0)
            .max_by_key(|&source| (self.priority(source), Reverse(source)))
    }

    /// Gives the context the highest pending source, or 0: "the claim operation is not affected by
    /// the setting of the priority threshold register" (chapter "Interrupt Claim Process").
    fn claim(&mut self, context: PlicContext) -> u32 {
        let source = self
            .context(context)
            .and_then(|context| self.highest(context))
            .unwrap_or(0);
        self.pending.set(source, false);
        source
    }

    /// Opens the source's gateway: "If the completion ID does not match an interrupt source that is
    /// currently enabled for the target, the completion is silently ignored" (chapter "Interrupt
    /// Completion"). Who claimed it does not matter; a request that nobody claimed stays.
    fn complete(&mut self, context: PlicContext, source: u32) {
        let enabled = self
            .context(context)
            .is_some_and(|context| context.enabled.contains(source));
        if enabled && !self.pending.contains(source) {
            self.closed.set(source, false);
            self.forward(source);
        }
    }

    fn priority(&self, source: u32) -> u32 {
        slot(source).map_or(0, |index| self.priorities.get(index).map_or(0, |it| *it))
    }

    fn context(&self, PlicContext(number): PlicContext) -> Option<&Context> {
        self.contexts.get(slot(number)?)
    }

    fn context_mut(&mut self, PlicContext(number): PlicContext) -> Option<&mut Context> {
        self.contexts.get_mut(slot(number)?)
    }

    fn read_word(&mut self, offset: u64) -> u32 {
        match Register::at(offset) {
            Some(Register::Priority(source)) => self.priority(source.0),
            Some(Register::Pending(word)) => self.pending.word(word),
            Some(Register::Enable(context, word)) => self
                .context(context)
                .map_or(0, |context| context.enabled.word(word)),
            Some(Register::Threshold(context)) => {
                self.context(context).map_or(0, |context| context.threshold)
            }
            Some(Register::Claim(context)) => self.claim(context),
            None => 0,
        }
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        match Register::at(offset) {
            Some(Register::Priority(Irq(source))) if self.sources.contains(source) => {
                if let Some(priority) = slot(source).and_then(|at| self.priorities.get_mut(at)) {
                    *priority = value & PRIORITIES;
                }
            }
            Some(Register::Enable(context, word)) => {
                let sources = self.sources.word(word);
                if let Some(context) = self.context_mut(context) {
                    context.enabled.set_word(word, value & sources);
                }
            }
            Some(Register::Threshold(context)) => {
                if let Some(context) = self.context_mut(context) {
                    context.threshold = value & PRIORITIES;
                }
            }
            Some(Register::Claim(context)) => self.complete(context, value),
            Some(Register::Priority(_) | Register::Pending(_)) | None => {}
        }
    }

    fn words(&self) -> Words {
        Words { len: self.extent() }
    }
}

fn slot(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}

impl Chip for Plic {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        self.words().read(offset, data, |at| self.read_word(at));
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        self.words().write(offset, data, |at, value| {
            self.write_word(at, value);
            None
        })
    }
}
