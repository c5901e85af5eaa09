//! One of an 8254's counters: what it counts, what it is asked, and its output.

/// A time, in clocks of the timer since the machine was there.
pub(super) type Clocks = u128;

/// How a counter counts (8254, "Mode Definitions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// 0: the output rises when the count has run out, and stays.
    TerminalCount,
    /// 1: the gate starts it; the output is low until it has run out.
    OneShot,
    /// 2: the output is low for the last clock of each period.
    RateGenerator,
    /// 3: the output is high for one half of each period.
    SquareWave,
    /// 4: the output is low for a clock when the count has run out.
    SoftwareStrobe,
    /// 5: the same, and the gate starts it.
    HardwareStrobe,
}

impl Mode {
    /// From bits 1 to 3 of a control word, of which the highest counts for the first two modes only.
    pub(super) fn of(control: u8) -> Self {
        match control >> 1 & 7 {
            0 => Self::TerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    const fn is_periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// Whether a rising gate starts it, and nothing else does.
    const fn is_triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// Which bytes of a count are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    Low,
    High,
    /// The low one first.
    Both,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has no count, or waits for its gate.
    Waiting,
    /// It has counted since then.
    Since(Clocks),
    /// The gate is low after so many clocks.
    Held(Clocks),
}

/// A counter.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    /// Bits 0 to 5 of the last control word, as the status tells them.
    control: u8,
    mode: Mode,
    bytes: Bytes,
    is_bcd: bool,
    /// A period, 1 to 65536 clocks.
    period: Clocks,
    /// One that begins when the one under way has ended.
    next: Option<Clocks>,
    progress: Progress,
    /// Whether it has run out in a mode in which it does so once.
    has_run_out: bool,
    /// How often its output has risen since that was last asked.
    ticks: u64,
    gate: bool,
    /// The low byte of a count of which the high one is to come.
    low: Option<u8>,
    /// Whether the high byte is read next.
    reads_high: bool,
    latched: Option<u16>,
    status: Option<u8>,
}

impl Counter {
    pub(super) fn new(gate: bool) -> Self {
        Self {
            control: 0,
            mode: Mode::TerminalCount,
            bytes: Bytes::Both,
            is_bcd: false,
            period: 1 << 16,
            next: None,
            progress: Progress::Waiting,
            has_run_out: false,
            ticks: 0,
            gate,
            low: None,
            reads_high: false,
            latched: None,
            status: None,
        }
    }

    /// Takes a control word that is for it and no command to latch.
    pub(super) fn control(&mut self, word: u8) {
        self.control = word & 0x3f;
        self.mode = Mode::of(word);
        self.bytes = match word >> 4 & 3 {
            1 => Bytes::Low,
            2 => Bytes::High,
            _ => Bytes::Both,
        };
        self.is_bcd = word & 1 != 0;
        self.progress = Progress::Waiting;
        self.next = None;
        self.low = None;
        self.reads_high = false;
        self.latched = None;
        self.status = None;
    }

    /// Takes a byte of a count.
    pub(super) fn write(&mut self, byte: u8, now: Clocks) {
        let count = match (self.bytes, self.low.take()) {
            (Bytes::Low, _) => u16::from(byte),
            (Bytes::High, _) => u16::from(byte) << 8,
            (Bytes::Both, Some(low)) => u16::from_le_bytes([low, byte]),
            (Bytes::Both, None) => {
                self.low = Some(byte);
                // "Writing the first byte disables counting."
                if self.mode == Mode::TerminalCount {
                    self.progress = Progress::Waiting;
                }
                return;
            }
        };
        self.load(count, now);
    }

    fn load(&mut self, count: u16, now: Clocks) {
        self.settle(now);
        let period = match (count, self.is_bcd) {
            (0, false) => 1 << 16,
            (0, true) => 10_000,
            (count, false) => Clocks::from(count),
            (count, true) => from_bcd(count),
        };
        let counts = self.progress != Progress::Waiting;
        if self.mode.is_triggered() || (self.mode.is_periodic() && counts) {
            self.next = Some(period);
            return;
        }
        self.period = period;
        self.has_run_out = false;
        self.progress = match self.gate {
            true => Progress::Since(now),
            false => Progress::Held(0),
        };
    }

    pub(super) fn gate(&self) -> bool {
        self.gate
    }

    /// Raises or lowers the gate.
    pub(super) fn set_gate(&mut self, gate: bool, now: Clocks) {
        self.settle(now);
        let rises = gate && !self.gate;
        let falls = !gate && self.gate;
        let starts = rises && (self.mode.is_triggered() || self.mode.is_periodic());
        let has_count = self.next.is_some() || self.progress != Progress::Waiting;
        match self.progress {
            _ if starts && has_count => {
                self.period = self.next.take().unwrap_or(self.period);
                self.has_run_out = false;
                self.progress = Progress::Since(now);
            }
            Progress::Held(clocks) if rises => {
                self.progress = Progress::Since(now.saturating_sub(clocks));
            }
            Progress::Since(start) if falls && !self.mode.is_triggered() => {
                self.progress = Progress::Held(now.saturating_sub(start));
            }
            _ => {}
        }
        self.gate = gate;
    }

    /// Counts what has passed until `now`.
    fn settle(&mut self, now: Clocks) {
        let Progress::Since(start) = self.progress else {
            return;
        };
        let clocks = now.saturating_sub(start);
        if !self.mode.is_periodic() {
            if !self.has_run_out && clocks >= self.end() {
                self.has_run_out = true;
                self.ticks = self.ticks.saturating_add(1);
            }
            return;
        }
        let mut begun = start;
        if let Some(next) = self.next.filter(|_| clocks >= self.period) {
            begun += self.period;
            self.ticks = self.ticks.saturating_add(1);
            self.period = next;
            self.next = None;
        }
        let periods = now.saturating_sub(begun) / self.period;
        self.ticks = self
            .ticks
            .saturating_add(u64::try_from(periods).unwrap_or(u64::MAX));
        self.progress = Progress::Since(begun + periods * self.period);
    }

    /// When its output rises in a mode in which it does so once, from the start on.
    fn end(&self) -> Clocks {
        let strobes = matches!(self.mode, Mode::SoftwareStrobe | Mode::HardwareStrobe);
        self.period + Clocks::from(strobes)
    }

    /// How many clocks it has counted.
    fn clocks(&self, now: Clocks) -> Option<Clocks> {
        match self.progress {
            Progress::Waiting => None,
            Progress::Since(start) => Some(now.saturating_sub(start)),
            Progress::Held(clocks) => Some(clocks),
        }
    }

    /// The level of its output.
    pub(super) fn output(&mut self, now: Clocks) -> bool {
        self.settle(now);
        let Some(clocks) = self.clocks(now) else {
            return self.mode != Mode::TerminalCount;
        };
        let is_held = matches!(self.progress, Progress::Held(_));
        match self.mode {
            Mode::TerminalCount | Mode::OneShot => clocks >= self.period,
            Mode::RateGenerator => is_held || clocks % self.period != self.period - 1,
            Mode::SquareWave => is_held || clocks % self.period < self.period.div_ceil(2),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => clocks != self.period,
        }
    }

    /// How often its output has risen since this was last asked.
    pub(super) fn take_ticks(&mut self, now: Clocks) -> u64 {
        self.settle(now);
        core::mem::take(&mut self.ticks)
    }

    /// When its output rises next, if it does with nothing done to it.
    pub(super) fn next_tick(&mut self, now: Clocks) -> Option<Clocks> {
        self.settle(now);
        match self.progress {
            Progress::Since(start) if self.mode.is_periodic() => Some(start + self.period),
            Progress::Since(start) if !self.has_run_out => Some(start + self.end()),
            _ => None,
        }
    }

    /// Keeps the count as it is until it has been read.
    pub(super) fn latch(&mut self, now: Clocks) {
        if self.latched.is_none() {
            self.latched = Some(self.count(now));
        }
    }

    /// The same of the status (8254, "Read-Back Command").
    pub(super) fn latch_status(&mut self, now: Clocks) {
        const OUTPUT: u8 = 1 << 7;
        const NULL_COUNT: u8 = 1 << 6;
        let output = if self.output(now) { OUTPUT } else { 0 };
        let waits = self.progress == Progress::Waiting || self.next.is_some();
        let null = if waits { NULL_COUNT } else { 0 };
        self.status.get_or_insert(output | null | self.control);
    }

    pub(super) fn read(&mut self, now: Clocks) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let count = self.latched.unwrap_or_else(|| self.count(now));
        let [low, high] = count.to_le_bytes();
        let is_high = match self.bytes {
            Bytes::Low => false,
            Bytes::High => true,
            Bytes::Both => self.reads_high,
        };
        self.reads_high = self.bytes == Bytes::Both && !is_high;
        if !self.reads_high {
            self.latched = None;
        }
        if is_high { high } else { low }
    }

    fn count(&mut self, now: Clocks) -> u16 {
        self.settle(now);
        let clocks = self.clocks(now).unwrap_or(0);
        let whole = if self.is_bcd { 10_000 } else { 1 << 16 };
        let left = match self.mode {
            Mode::RateGenerator => self.period - clocks % self.period,
            // It counts by two, and twice.
            Mode::SquareWave => {
                let even = self.period & !1;
                let into = clocks % self.period * 2;
                even.max(2) - into % even.max(2)
            }
            _ => (self.period + whole - clocks % whole) % whole,
        };
        // What is left of a whole round shows as none.
        let left = u16::try_from(left % whole).unwrap_or(0);
        if self.is_bcd { to_bcd(left) } else { left }
    }
}

/// Four decimal digits; what is no digit counts as it stands.
fn from_bcd(count: u16) -> Clocks {
    let digit = |at: u32| Clocks::from(count >> (4 * at) & 0xf) * Clocks::pow(10, at);
    (0..4).map(digit).sum()
}

fn to_bcd(count: u16) -> u16 {
    let digit = |at: u32| (count / 10_u16.pow(at) % 10) << (4 * at);
    (0..4).map(digit).sum()
}
