//! A function of the host as one on the guest's bus.

use super::events::Listener;
use super::host::{Container, Event, HostDevice, Source};
use super::{Found, VfioError};
use crate::DeviceError;
use crate::pci::{PciDevice, Pin, Signals};
use crate::reports::Reports;
use firstlight_base::{GpaRange, Irq};
use firstlight_devices::pci::{Address, HostFunction, Interrupts, Passthrough};
use firstlight_hv::{Hung, Interconnect, LevelEvents};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A function of the host that the guest has.
pub(crate) struct VfioFunction {
    /// Itself, for its thread to interrupt by.
    this: Weak<Self>,
    /// What the host's function is as, as the guest's last write has it. Taken before the chip, and held from a write to what
    /// comes of it.
    wiring: Mutex<Wiring>,
    chip: Mutex<Passthrough>,
    host: HostDevice,
    signals: Signals,
    /// The line at which its pin ends.
    irq: Irq,
    /// The addresses that the bus gives to BARs.
    windows: Vec<GpaRange>,
    /// The parts of each BAR that the guest may have mapped.
    mappable: [Vec<Range<u64>>; BARS],
    reports: Arc<Reports>,
}

/// Where on the guest's bus it is.
pub(crate) struct Place {
    /// The line at which its pin ends.
    pub(crate) irq: Irq,
    pub(crate) pin: Pin,
    /// The addresses that the bus gives to BARs.
    pub(crate) windows: Vec<GpaRange>,
}

/// What the host's function does for the guest at a time.
#[derive(Default)]
struct Wiring {
    command: u16,
    interrupts: Wired,
    /// Where each BAR that is mapped is, and what holds that.
    windows: [Option<(GpaRange, Option<Hung>)>; BARS],
    is_retired: bool,
}

/// How it interrupts, and what does that.
#[derive(Default)]
enum Wired {
    #[default]
    Nothing,
    Pin(Hung),
    Messages(Interrupts, Source, Listener),
}

impl Wired {
    const fn interrupts(&self) -> Interrupts {
        match self {
            Self::Nothing => Interrupts::Off,
            Self::Pin(_) => Interrupts::Pin,
            Self::Messages(interrupts, ..) => *interrupts,
        }
    }
}

const BARS: usize = 6;
/// The command register, and where all registers begin that decide where a function answers.
const COMMAND: u16 = 0x04;
const HEADER_END: u16 = 0x40;
/// The host's pages, of which memory is made.
const PAGE: u64 = 4096;

impl VfioFunction {
    /// Opens the function that was found.
    pub(crate) fn open(
        found: &Found,
        container: &Arc<Container>,
        (place, interconnect, reports): (Place, &Arc<dyn Interconnect>, &Arc<Reports>),
    ) -> Result<Arc<Self>, VfioError> {
        let host = HostDevice::open(found, container)?;
        let mut config = [0; 256];
        host.read_config(0, &mut config);
        let mut bars = [0; BARS];
        for (len, bar) in bars.iter_mut().zip(0..) {
            *len = host.bar_len(bar);
        }
        let Place { irq, pin, windows } = place;
        let wired = can_wire(&host, &**interconnect, irq);
        let chip = Passthrough::new(&HostFunction {
            config: &config,
            bars,
            has_pin: wired,
            can_reset: found.can_reset,
        });
        let chip = chip.map_err(|source| VfioError::Function {
            at: found.at,
            source,
        })?;
        let page = rustix::param::page_size() as u64;
        let mappable = std::array::from_fn(|bar| {
            let areas = host.mappable(u32::try_from(bar).unwrap_or(u32::MAX));
            chip.mappable(bar, &areas, page.max(PAGE))
        });
        let function = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            wiring: Mutex::default(),
            chip: Mutex::new(chip),
            host,
            signals: Signals::new(pin, interconnect),
            irq,
            windows,
            mappable,
            reports: Arc::clone(reports),
        });
        function.host.reset();
        function.settle(&mut function.wiring());
        Ok(function)
    }

    /// Makes the host's function what the guest has made of its own.
    fn settle(&self, wiring: &mut Wiring) {
        if wiring.is_retired {
            return;
        }
        if self.chip().take_reset() {
            self.start_anew(wiring);
        }
        let (command, interrupts) = {
            let chip = self.chip();
            (chip.host_command(), chip.interrupts())
        };
        if command != wiring.command {
            wiring.command = command;
            self.host.write_config(COMMAND, &command.to_le_bytes());
        }
        if interrupts != wiring.interrupts.interrupts()
            && let Err(error) = self.rewire(wiring, interrupts)
        {
            self.reports.report(Err(DeviceError::from(error).into()));
        }
        for (bar, window) in wiring.windows.iter_mut().enumerate() {
            let range = self
                .chip()
                .bar(bar)
                .filter(|range| self.is_mapped(bar, *range));
            if window.as_ref().map(|(at, _)| *at) != range {
                *window = None;
                *window = range.map(|range| (range, self.window(bar, range)));
            }
        }
        self.send_pending();
    }

    /// Whether a BAR can be mapped where it is.
    fn is_mapped(&self, bar: usize, range: GpaRange) -> bool {
        let has_parts = self
            .mappable
            .get(bar)
            .is_some_and(|parts| !parts.is_empty());
        let mut windows = self.windows.iter();
        has_parts && windows.any(|window| window.contains(range))
    }

    /// The parts of a BAR that can be, as the guest's memory; where the host refuses, the guest's accesses are exits.
    fn window(&self, bar: usize, range: GpaRange) -> Option<Hung> {
        let parts: Option<Vec<_>> = self
            .mappable
            .get(bar)?
            .iter()
            .map(|part| {
                let start = range.start().checked_add(part.start)?;
                let range = GpaRange::new(start, part.end - part.start)?;
                Some((range, part.start))
            })
            .collect();
        let memory = self.host.memory(u32::try_from(bar).ok()?, &parts?).ok()?;
        self.signals.interconnect().show(&Arc::new(memory)).ok()
    }

    /// Resets both functions. What the guest had of the host's is gone.
    fn start_anew(&self, wiring: &mut Wiring) {
        wiring.windows = Default::default();
        self.unwire(wiring);
        self.host.reset();
        self.chip().reset();
        // Written anew, whatever a reset leaves.
        wiring.command = 0;
    }

    fn unwire(&self, wiring: &mut Wiring) {
        match std::mem::take(&mut wiring.interrupts) {
            Wired::Nothing => {}
            Wired::Pin(hung) => {
                self.host.disable(Source::Pin);
                drop(hung);
            }
            Wired::Messages(_, source, listener) => {
                self.host.disable(source);
                drop(listener);
            }
        }
    }

    /// Has the host's function interrupt in another way.
    fn rewire(&self, wiring: &mut Wiring, interrupts: Interrupts) -> Result<(), VfioError> {
        self.unwire(wiring);
        wiring.interrupts = match interrupts {
            Interrupts::Off => Wired::Nothing,
            Interrupts::Pin => self.wire_pin()?,
            Interrupts::Msi => self.listen(interrupts, (Source::Msi, 1))?,
            Interrupts::MsiX(vectors) => self.listen(interrupts, (Source::MsiX, vectors))?,
        };
        Ok(())
    }

    fn wire_pin(&self) -> Result<Wired, VfioError> {
        let raise = [Event::new()?];
        let done = Event::new()?;
        let hung = wire(self.signals.interconnect(), self.irq, (&raise[0], &done))?;
        self.host.enable(Source::Pin, &raise)?;
        self.host.resample(&done)?;
        Ok(Wired::Pin(hung))
    }

    fn listen(
        &self,
        interrupts: Interrupts,
        (source, vectors): (Source, u16),
    ) -> Result<Wired, VfioError> {
        let events = (0..vectors).map(|_| Event::new());
        let events: Arc<[Event]> = events.collect::<Result<_, _>>()?;
        let this = Weak::clone(&self.this);
        let listener = Listener::start("vfio", Arc::clone(&events), move |vector| {
            if let Some(this) = this.upgrade() {
                this.raise(vector);
            }
        })?;
        self.host.enable(source, &events)?;
        Ok(Wired::Messages(interrupts, source, listener))
    }

    /// The host's function has interrupted.
    fn raise(&self, vector: u16) {
        let mut chip = self.chip();
        if let Some(message) = chip.raise(vector) {
            self.signals.send(message);
        }
    }

    fn send_pending(&self) {
        let mut chip = self.chip();
        while let Some(message) = chip.take_message() {
            self.signals.send(message);
        }
    }

    fn wiring(&self) -> MutexGuard<'_, Wiring> {
        self.wiring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chip(&self) -> MutexGuard<'_, Passthrough> {
        self.chip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the pin of a function can be wired to a line.
fn can_wire(host: &HostDevice, interconnect: &dyn Interconnect, irq: Irq) -> bool {
    let events = Event::new().and_then(|raise| Ok((raise, Event::new()?)));
    let wired = events.and_then(|(raise, done)| wire(interconnect, irq, (&raise, &done)));
    host.interrupts(Source::Pin) > 0 && wired.is_ok()
}

fn wire(
    interconnect: &dyn Interconnect,
    irq: Irq,
    (raise, done): (&Event, &Event),
) -> Result<Hung, VfioError> {
    use rustix::fd::AsFd;

    let level = LevelEvents {
        raise: raise.as_fd(),
        done: done.as_fd(),
    };
    Ok(interconnect.wire(irq, level)?)
}

impl PciDevice for VfioFunction {
    fn read_config(&self, register: u16, data: &mut [u8]) {
        let chip = self.chip();
        chip.config_read(register, data, |at, data| self.host.read_config(at, data));
    }

    fn write_config(&self, at: Address, register: u16, data: &[u8]) -> bool {
        let mut wiring = self.wiring();
        self.signals.answers_at(at);
        self.chip().config_write(register, data, |at, data| {
            self.host.write_config(at, data);
        });
        self.settle(&mut wiring);
        register < HEADER_END
    }

    fn bars(&self) -> Vec<(usize, GpaRange)> {
        let chip = self.chip();
        let bars = (0..BARS).filter_map(|bar| Some((bar, chip.bar(bar)?)));
        bars.collect()
    }

    fn read_bar(&self, bar: usize, offset: u64, data: &mut [u8]) {
        let chip = self.chip();
        chip.bar_read((bar, offset), data, |offset, data| {
            if let Ok(bar) = u32::try_from(bar) {
                self.host.read_bar(bar, offset, data);
            }
        });
    }

    fn write_bar(&self, bar: usize, offset: u64, data: &[u8]) {
        let mut chip = self.chip();
        chip.bar_write((bar, offset), data, |offset, data| {
            if let Ok(bar) = u32::try_from(bar) {
                self.host.write_bar(bar, offset, data);
            }
        });
        drop(chip);
        self.send_pending();
    }

    fn reset(&self) {
        let mut wiring = self.wiring();
        if !wiring.is_retired {
            self.start_anew(&mut wiring);
            self.settle(&mut wiring);
        }
    }

    fn retire(&self) {
        let mut wiring = self.wiring();
        if !wiring.is_retired {
            self.start_anew(&mut wiring);
            // No bus master: it writes to no memory any more.
            self.host.write_config(COMMAND, &[0; 2]);
            wiring.is_retired = true;
        }
    }
}
