//! One 8259A.

/// An interrupt controller of eight lines.
#[derive(Clone, Debug)]
pub(super) struct Pic {
    /// Levels of the lines.
    lines: u8,
    /// Edges that came and were not acknowledged.
    edges: u8,
    /// Lines that are a request as long as they are high.
    triggers: u8,
    mask: u8,
    in_service: u8,
    /// The line that a second controller drives, as a set.
    cascade: u8,
    /// The line of the lowest priority; the one after it has the highest.
    lowest: u32,
    /// The vector of line 0.
    base: u8,
    expects: Expects,
    /// What ICW4 chose.
    automatic_end: bool,
    fully_nested_cascade: bool,
    /// What OCW2 and OCW3 chose.
    automatic_rotation: bool,
    special_mask: bool,
    shows_in_service: bool,
    polled: bool,
}

/// No request was left to acknowledge: the line that is answered with instead (section "Interrupt
/// Sequence": "the 8259A will issue an interrupt level 7").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spurious(pub(super) u32);

/// What a write to the data register is (section "Initialization Command Words").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// The mask, of a controller that was never initialised.
    Icw1,
    Icw2(After),
    Icw3(After),
    Icw4,
    /// The mask.
    Ocw1,
}

/// Which words ICW1 says will follow ICW2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct After {
    icw3: bool,
    icw4: bool,
}

impl After {
    const fn last(self) -> Expects {
        if self.icw4 {
            Expects::Icw4
        } else {
            Expects::Ocw1
        }
    }
}

/// Command register: ICW1, or with bit 4 clear OCW3, or OCW2.
const ICW1: u8 = 1 << 4;
const OCW3: u8 = 1 << 3;
/// ICW1: ICW4 will follow; there is no cascade, and no ICW3.
const ICW1_IC4: u8 = 1 << 0;
const ICW1_SNGL: u8 = 1 << 1;
/// ICW2: the vector of line 0.
const ICW2_BASE: u8 = 0xf8;
/// ICW4: automatic end of interrupt; special fully nested mode.
const ICW4_AEOI: u8 = 1 << 1;
const ICW4_SFNM: u8 = 1 << 4;
/// OCW2: the line, and whether to end its service, look at the line, and rotate.
const OCW2_LINE: u8 = 0b111;
const OCW2_END: u8 = 1 << 5;
const OCW2_SPECIFIC: u8 = 1 << 6;
const OCW2_ROTATE: u8 = 1 << 7;
/// OCW3: which register is read, whether there is a choice of it; poll; the special mask mode and
/// whether there is a choice of it.
const OCW3_RIS: u8 = 1 << 0;
const OCW3_RR: u8 = 1 << 1;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_SMM: u8 = 1 << 5;
const OCW3_ESMM: u8 = 1 << 6;
/// The answer to a poll: there is an interrupt.
const POLL_INTERRUPT: u8 = 1 << 7;

impl Pic {
    /// One after power-on.
    pub(super) const fn new(cascade: u8) -> Self {
        Self {
            lines: 0,
            edges: 0,
            triggers: 0,
            mask: 0,
            in_service: 0,
            cascade,
            lowest: 7,
            base: 0,
            expects: Expects::Icw1,
            automatic_end: false,
            fully_nested_cascade: false,
            automatic_rotation: false,
            special_mask: false,
            shows_in_service: false,
            polled: false,
        }
    }

    /// Raises or lowers a line below 8.
    pub(super) fn set(&mut self, line: u32, high: bool) {
        let line = bit(line);
        if high {
            self.edges |= line & !self.lines & !self.triggers;
            self.lines |= line;
        } else {
            self.lines &= !line;
        }
    }

    pub(super) const fn triggers(&self) -> u8 {
        self.triggers
    }

    /// Lines that are now levels forget their edges.
    pub(super) const fn set_triggers(&mut self, levels: u8) {
        self.triggers = levels;
        self.edges &= !levels;
    }

    pub(super) const fn mask(&self) -> u8 {
        self.mask
    }

    pub(super) const fn vector(&self, line: u32) -> u8 {
        let [line, ..] = line.to_le_bytes();
        self.base | line
    }

    /// IRR.
    const fn requested(&self) -> u8 {
        self.edges | self.lines & self.triggers
    }

    /// The request that the INT pin tells of: the highest that is not masked, unless one as high is
    /// in service. "Before normal operation can begin" there must have been all of the
    /// initialisation.
    ///
    /// In special mask mode a line that is in service and masked holds back no other. In special
    /// fully nested mode the cascade does not hold back itself: the second controller has told of
    /// one that is higher than what it has in service.
    pub(super) fn request(&self) -> Option<u32> {
        if self.expects != Expects::Ocw1 {
            return None;
        }
        let requests = self.requested() & !self.mask;
        let in_service = self.unhidden_in_service();
        let line = self.highest(requests | in_service)?;
        let nests = self.fully_nested_cascade && self.cascade & bit(line) != 0;
        let free = in_service & bit(line) == 0 || nests;
        (free && requests & bit(line) != 0).then_some(line)
    }

    const fn unhidden_in_service(&self) -> u8 {
        if self.special_mask {
            self.in_service & !self.mask
        } else {
            self.in_service
        }
    }

    /// The line of the highest priority in the set.
    const fn highest(&self, set: u8) -> Option<u32> {
        let first = (self.lowest + 1) % 8;
        match set.rotate_right(first).trailing_zeros() {
            8 => None,
            place => Some((place + first) % 8),
        }
    }

    /// Takes the request into service.
    pub(super) fn acknowledge(&mut self) -> Result<u32, Spurious> {
        let line = self.request().ok_or(Spurious(7))?;
        self.edges &= !bit(line);
        if !self.automatic_end {
            self.in_service |= bit(line);
        } else if self.automatic_rotation {
            self.lowest = line;
        }
        Ok(line)
    }

    /// The answer to a poll command, if there was one.
    pub(super) fn poll(&mut self) -> Option<u8> {
        if !self.polled {
            return None;
        }
        self.polled = false;
        Some(self.acknowledge().map_or(0, |line| {
            let [line, ..] = line.to_le_bytes();
            POLL_INTERRUPT | line
        }))
    }

    /// What the command register reads as.
    pub(super) const fn status(&self) -> u8 {
        if self.shows_in_service {
            self.in_service
        } else {
            self.requested()
        }
    }

    /// Writes the command register.
    pub(super) fn command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.initialise(value);
        } else if value & OCW3 != 0 {
            self.choose(value);
        } else {
            self.end(value);
        }
    }

    /// ICW1. Edges are forgotten: "following initialization, an interrupt request (IR) input must
    /// make a low-to-high transition to generate an interrupt". All but the cascade, which is
    /// sensed anew, so that it does not matter which of the two is initialised first.
    const fn initialise(&mut self, icw1: u8) {
        let Self {
            lines,
            triggers,
            cascade,
            ..
        } = *self;
        *self = Self {
            lines: lines & !cascade,
            triggers,
            expects: Expects::Icw2(After {
                icw3: icw1 & ICW1_SNGL == 0,
                icw4: icw1 & ICW1_IC4 != 0,
            }),
            ..Self::new(cascade)
        };
    }

    /// OCW3.
    const fn choose(&mut self, ocw3: u8) {
        if ocw3 & OCW3_ESMM != 0 {
            self.special_mask = ocw3 & OCW3_SMM != 0;
        }
        if ocw3 & OCW3_RR != 0 {
            self.shows_in_service = ocw3 & OCW3_RIS != 0;
        }
        self.polled = ocw3 & OCW3_POLL != 0;
    }

    /// OCW2.
    fn end(&mut self, ocw2: u8) {
        let has = |bit| ocw2 & bit != 0;
        let named = u32::from(ocw2 & OCW2_LINE);
        if has(OCW2_END) {
            let line = if has(OCW2_SPECIFIC) {
                Some(named)
            } else {
                // "An IS bit that is masked by an IMR bit will not be cleared by a non-specific EOI
                // if the 8259A is in the Special Mask Mode".
                self.highest(self.unhidden_in_service())
            };
            if let Some(line) = line {
                self.in_service &= !bit(line);
                if has(OCW2_ROTATE) {
                    self.lowest = line;
                }
            }
        } else if !has(OCW2_SPECIFIC) {
            self.automatic_rotation = has(OCW2_ROTATE);
        } else if has(OCW2_ROTATE) {
            self.lowest = named;
        }
    }

    /// Writes the data register.
    pub(super) const fn data(&mut self, value: u8) {
        match self.expects {
            Expects::Icw1 | Expects::Ocw1 => self.mask = value,
            Expects::Icw2(after) => {
                self.base = value & ICW2_BASE;
                self.expects = if after.icw3 {
                    Expects::Icw3(after)
                } else {
                    after.last()
                };
            }
            Expects::Icw3(after) => self.expects = after.last(),
            Expects::Icw4 => {
                self.automatic_end = value & ICW4_AEOI != 0;
                self.fully_nested_cascade = value & ICW4_SFNM != 0;
                self.expects = Expects::Ocw1;
            }
        }
    }
}

const fn bit(line: u32) -> u8 {
    1 << (line % 8)
}
