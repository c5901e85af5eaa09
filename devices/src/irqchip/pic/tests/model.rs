//! Whatever is done to the pair, it does what a plain telling of the data sheet does, and loses no
//! edge.

use super::*;
use alloc::collections::BTreeSet;
use alloc::vec;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u32, bool),
    /// With this ICW1 and ICW4, of the controller.
    Initialise(usize, u8, u8),
    Mask(usize, u8),
    Triggers(usize, u8),
    Command(usize, u8),
    Read(usize, u64),
    Acknowledge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0..2usize;
    let ocw2 = (any::<u8>(), 0..8u8).prop_map(|(kind, line)| kind & 0xe0 | line);
    let ocw3 = any::<u8>().prop_map(|word| word & 0x67 | 0x08);
    let step = prop_oneof![
        8 => (0..17u32, any::<bool>()).prop_map(|(line, high)| Step::Set(line, high)),
        1 => (which(), 0x10..0x14u8, any::<u8>())
            .prop_map(|(which, icw1, icw4)| Step::Initialise(which, icw1, icw4)),
        2 => (which(), any::<u8>()).prop_map(|(which, mask)| Step::Mask(which, mask)),
        1 => (which(), any::<u8>()).prop_map(|(which, levels)| Step::Triggers(which, levels)),
        4 => (which(), ocw2).prop_map(|(which, word)| Step::Command(which, word)),
        2 => (which(), ocw3).prop_map(|(which, word)| Step::Command(which, word)),
        3 => (which(), 0..2u64).prop_map(|(which, offset)| Step::Read(which, offset)),
        6 => Just(Step::Acknowledge),
    ];
    prop::collection::vec(step, 0..150)
}

/// One controller, told with sets and a list of its lines in their order of priority.
#[derive(Clone, Default)]
struct Unit {
    ready: bool,
    high: BTreeSet<u32>,
    edges: BTreeSet<u32>,
    levels: BTreeSet<u32>,
    masked: BTreeSet<u32>,
    in_service: BTreeSet<u32>,
    order: Vec<u32>,
    base: u8,
    aeoi: bool,
    sfnm: bool,
    rotates: bool,
    smm: bool,
    shows_service: bool,
    poll: bool,
}

impl Unit {
    fn requests(&self) -> BTreeSet<u32> {
        let levels: BTreeSet<u32> = self.levels.intersection(&self.high).copied().collect();
        self.edges.union(&levels).copied().collect()
    }

    fn rank(&self, line: u32) -> usize {
        self.order.iter().position(|&it| it == line).unwrap()
    }

    /// The line that is told of, where `cascade` is that of another controller.
    fn request(&self, cascade: Option<u32>) -> Option<u32> {
        let mut best = None;
        for line in self.requests().difference(&self.masked).copied() {
            let held_back = self.in_service.iter().any(|&other| {
                let hidden = self.smm && self.masked.contains(&other);
                let nests = self.sfnm && other == line && cascade == Some(line);
                !hidden && !nests && self.rank(other) <= self.rank(line)
            });
            if self.ready && !held_back && best.is_none_or(|it| self.rank(line) < self.rank(it)) {
                best = Some(line);
            }
        }
        best
    }

    fn acknowledge(&mut self, cascade: Option<u32>) -> Option<u32> {
        let line = self.request(cascade)?;
        self.edges.remove(&line);
        match (self.aeoi, self.rotates) {
            (false, _) => drop(self.in_service.insert(line)),
            (true, true) => self.lower(line),
            (true, false) => {}
        }
        Some(line)
    }

    fn lower(&mut self, line: u32) {
        while self.order.last() != Some(&line) {
            self.order.rotate_left(1);
        }
    }

    fn set(&mut self, line: u32, high: bool) {
        if !high {
            self.high.remove(&line);
        } else if self.high.insert(line) && !self.levels.contains(&line) {
            self.edges.insert(line);
        }
    }

    fn initialise(&mut self, base: u8, icw4: u8) {
        *self = Self {
            ready: true,
            high: self.high.clone(),
            levels: self.levels.clone(),
            order: (0..8).collect(),
            base,
            aeoi: icw4 & 2 != 0,
            sfnm: icw4 & 0x10 != 0,
            ..Self::default()
        };
    }

    fn command(&mut self, word: u8) {
        let named = u32::from(word & 7);
        if word & 0x18 == 0x08 {
            if word & 0x40 != 0 {
                self.smm = word & 0x20 != 0;
            }
            if word & 2 != 0 {
                self.shows_service = word & 1 != 0;
            }
            self.poll = word & 4 != 0;
            return;
        }
        // The table "OCW2" of the data sheet.
        match word >> 5 {
            0b001 => drop(self.end_highest()),
            0b011 => drop(self.in_service.remove(&named)),
            0b101 => {
                if let Some(line) = self.end_highest() {
                    self.lower(line);
                }
            }
            0b100 => self.rotates = true,
            0b000 => self.rotates = false,
            0b111 => {
                self.in_service.remove(&named);
                self.lower(named);
            }
            0b110 => self.lower(named),
            _ => {}
        }
    }

    fn end_highest(&mut self) -> Option<u32> {
        let ended = self.order.iter().copied().find(|line| {
            let hidden = self.smm && self.masked.contains(line);
            self.in_service.contains(line) && !hidden
        });
        if let Some(line) = ended {
            self.in_service.remove(&line);
        }
        ended
    }
}

fn set_of(word: u8) -> BTreeSet<u32> {
    (0..8).filter(|line| word >> line & 1 != 0).collect()
}

fn word_of(set: &BTreeSet<u32>) -> u8 {
    set.iter().map(|line| 1 << line).sum()
}

struct Model {
    units: Vec<Unit>,
}

impl Model {
    fn new() -> Self {
        let unit = Unit {
            order: (0..8).collect(),
            ..Unit::default()
        };
        Self {
            units: vec![unit; 2],
        }
    }

    /// What is read, 0 where nothing is.
    fn step(&mut self, step: Step) -> u8 {
        let mut read = 0;
        match step {
            Step::Set(2 | 16, _) => {}
            Step::Set(line, high) => {
                let which = usize::try_from(line / 8).unwrap();
                self.units[which].set(line % 8, high);
            }
            Step::Initialise(which, icw1, icw4) => {
                let icw4 = if icw1 & 1 == 0 { 0 } else { icw4 };
                let unit = &mut self.units[which];
                unit.initialise(0x40, icw4);
                // The cascade is sensed anew, whichever side of it was initialised.
                self.units[0].set(2, false);
            }
            Step::Mask(which, mask) => self.units[which].masked = set_of(mask),
            Step::Triggers(which, levels) => {
                let unit = &mut self.units[which];
                unit.levels = set_of(levels & [0xf8, 0xde][which]);
                unit.edges = unit.edges.difference(&unit.levels).copied().collect();
            }
            Step::Command(which, word) => self.units[which].command(word),
            Step::Read(which, offset) => read = self.read(which, offset),
            Step::Acknowledge => read = self.acknowledge(),
        }
        let notifies = self.units[1].request(None).is_some();
        self.units[0].set(2, notifies);
        read
    }

    fn read(&mut self, which: usize, offset: u64) -> u8 {
        if self.units[which].poll {
            self.units[which].poll = false;
            let cascade = (which == 0).then_some(2);
            let line = self.units[which].acknowledge(cascade);
            if which == 1 {
                self.units[0].set(2, false);
            }
            return line.map_or(0, |line| 0x80 | u8::try_from(line).unwrap());
        }
        let unit = &self.units[which];
        match (offset, unit.shows_service) {
            (0, true) => word_of(&unit.in_service),
            (0, false) => word_of(&unit.requests()),
            _ => word_of(&unit.masked),
        }
    }

    fn acknowledge(&mut self) -> u8 {
        let mut unit = 0;
        let mut line = self.units[0].acknowledge(Some(2));
        if line == Some(2) {
            unit = 1;
            line = self.units[1].acknowledge(None);
            self.units[0].set(2, false);
        }
        self.units[unit].base | u8::try_from(line.unwrap_or(7)).unwrap()
    }
}

impl Pics {
    fn step(&mut self, step: Step) -> u8 {
        let window = |which| [PicWindow::First, PicWindow::Second][which];
        match step {
            Step::Set(line, high) => self.set(Irq(line), high),
            Step::Initialise(which, icw1, icw4) => {
                self.put(window(which), 0, icw1);
                self.put(window(which), 1, 0x47);
                if icw1 & 2 == 0 {
                    self.put(window(which), 1, 0xff);
                }
                if icw1 & 1 != 0 {
                    self.put(window(which), 1, icw4);
                }
            }
            Step::Mask(which, mask) => self.put(window(which), 1, mask),
            Step::Triggers(which, levels) => {
                let offset = u64::try_from(which).unwrap();
                self.put(PicWindow::Triggers, offset, levels);
            }
            Step::Command(which, word) => self.put(window(which), 0, word),
            Step::Read(which, offset) => return self.get(window(which), offset),
            Step::Acknowledge => return self.acknowledge(),
        }
        0
    }
}

proptest! {
    #[test]
    fn they_do_what_the_data_sheet_says(steps in steps(), fresh in any::<bool>()) {
        let mut pics = Pics::new();
        let mut model = Model::new();
        let start = [Step::Initialise(0, 0x11, 1), Step::Initialise(1, 0x11, 1)];
        let start = start.into_iter().filter(|_| !fresh);
        for step in start.chain(steps) {
            prop_assert_eq!(pics.step(step), model.step(step), "{:?}", step);
            let notifies = model.units[0].request(Some(2)).is_some();
            prop_assert_eq!(pics.notifies(), notifies, "{:?}", step);
            for (unit, model) in [&pics.first, &pics.second].into_iter().zip(&model.units) {
                let seen = (unit.mask(), unit.triggers());
                prop_assert_eq!(seen, (word_of(&model.masked), word_of(&model.levels)));
            }
        }
    }

    #[test]
    fn no_edge_is_lost(steps in steps(), line in prop_oneof![0..2u32, 3..16u32]) {
        let mut pics = Pics::new();
        for step in steps {
            pics.step(step);
        }
        // A driver that starts anew and services all finds it, whatever was done before.
        pics.initialise(1, 1);
        for offset in 0..2 {
            pics.put(PicWindow::Triggers, offset, 0);
        }
        pics.set(Irq(line), false);
        pics.pulse(Irq(line));
        let mut seen = BTreeSet::new();
        for _ in 0..32 {
            if pics.notifies() {
                seen.insert(pics.acknowledge());
                pics.put(PicWindow::Second, 0, END);
                pics.put(PicWindow::First, 0, END);
            }
        }
        prop_assert!(seen.contains(&(0x30 + u8::try_from(line).unwrap())));
        prop_assert!(!pics.notifies());
    }
}
