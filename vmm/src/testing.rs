//! What several modules' tests need: a plan for a guest of no importance, a board, a console
//! of pipes.

use crate::arch::Wiring;
use crate::board::Board;
use crate::reports::Reports;
use crate::{Console, LinuxArch};
use firstlight_base::{MIB, VcpuState};
use firstlight_boot::{BootPlan, Request};
use firstlight_devices::BatteryState;
use firstlight_hv::script::Script;
use firstlight_hv::{
    Doorbell, Exit, Hung, HvError, Hypervisor, Interconnect, IrqLine, Kicker, Message,
    OwnInterrupts, Vcpu, Vm,
};
use firstlight_image::testing::elf64;
use firstlight_image::{Image, Limits};
use firstlight_load::{Backing, GuestMemory};
use rustix::fd::BorrowedFd;
use rustix::pipe::pipe;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

/// A plan for a machine with `cpus` vCPUs, and the image it is for.
pub(crate) fn plan(cpus: u32) -> (BootPlan, Vec<u8>) {
    let file = elf64()
        .segment(0x10_0000, &[0xf4], 0x1000)
        .pvh(0x10_0000)
        .build();
    let image = Image::open(&file, &Limits::default()).unwrap();
    let request = Request {
        memory: 16 * MIB,
        cpus,
        cmdline: "console=ttyS0".to_owned(),
        debug_exit: true,
        ..Request::default()
    };
    let plan = firstlight_boot::plan(&image, &request).unwrap();
    (plan, file)
}

/// The board of a machine whose lines `script` writes down.
pub(crate) fn board<A: LinuxArch>(script: &Script, platform: &A::Platform) -> Board {
    let vm = script.create_vm().unwrap();
    let lines = |irq| -> Result<Box<dyn IrqLine>, HvError> { Ok(Box::new(vm.irq_line(irq)?)) };
    let mut board = Board::new(&Reports::new().unwrap());
    let mut wiring = Wiring {
        board: &mut board,
        lines: &lines,
        debugcon: None,
        battery: Some(BatteryState::default()),
        suspension: None,
        fw_cfg: None,
        flash: None,
        reports: &Reports::new().unwrap(),
        memory: &Arc::new(GuestMemory::allocate(&[], Backing::Private).unwrap()),
    };
    A::wire(platform, &mut wiring).unwrap();
    board
}

/// The far ends of a console of pipes.
pub(crate) struct Person {
    keyboard: Option<File>,
    screen: File,
}

impl Person {
    /// A console and the person at it.
    pub(crate) fn at_a_console() -> (Console, Self) {
        let (input, keyboard) = pipe().unwrap();
        let (screen, output) = pipe().unwrap();
        let person = Self {
            keyboard: Some(keyboard.into()),
            screen: screen.into(),
        };
        (Console::new(input, output).unwrap(), person)
    }

    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.keyboard.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// What has been on the screen, once nobody writes any more.
    pub(crate) fn saw(mut self) -> String {
        self.keyboard = None;
        let mut seen = String::new();
        self.screen.read_to_string(&mut seen).unwrap();
        seen
    }

    /// Reads until `text` has appeared, and returns all that was read.
    pub(crate) fn waits_for(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen).contains(text) {
            self.screen.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        String::from_utf8(seen).unwrap()
    }

    /// Goes away: nobody reads the screen any more.
    pub(crate) fn leaves(self) {}
}

/// A vCPU that writes down what becomes of it. It takes an interrupt at a time, where the test lets it.
#[derive(Default)]
pub(crate) struct IdleVcpu {
    pub(crate) takes: bool,
    pub(crate) stops: bool,
    pub(crate) class: u8,
    pub(crate) own: OwnInterrupts,
    pub(crate) vectors: Vec<u8>,
    pub(crate) unmaskable: u32,
    pub(crate) states: Vec<VcpuState>,
}

impl Vcpu for IdleVcpu {
    fn set_state(&mut self, state: &VcpuState) -> Result<(), HvError> {
        self.states.push(state.clone());
        Ok(())
    }

    fn state(&self) -> Result<VcpuState, HvError> {
        unimplemented!("nobody asks")
    }

    fn run(&mut self) -> Result<Exit<'_>, HvError> {
        Ok(Exit::Interrupted)
    }

    fn kicker(&self) -> Kicker {
        Kicker::new(|| ())
    }

    fn takes_interrupt(&self) -> bool {
        self.takes
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), HvError> {
        self.takes = false;
        self.vectors.push(vector);
        Ok(())
    }

    fn interrupt_unmaskably(&mut self) -> Result<(), HvError> {
        self.unmaskable += 1;
        Ok(())
    }

    fn own_interrupts(&self) -> OwnInterrupts {
        self.own
    }

    fn task_priority(&self) -> u8 {
        self.class
    }

    fn set_task_priority(&mut self, class: u8) {
        self.class = class;
    }

    fn stop_to_interrupt(&mut self, wanted: bool) {
        self.stops = wanted;
    }

    fn interrupt_pin(&self) -> Result<Box<dyn IrqLine>, HvError> {
        Err(HvError::NoPin)
    }
}

/// What passed between a machine's devices and its processors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Sent(Message),
    /// What was said of each pin that sends something.
    Announced(Vec<(usize, Message)>),
}

/// An interconnect that writes down what passes.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Passed>>);

impl Recorder {
    pub(crate) fn take(&self) -> Vec<Passed> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Interconnect for Recorder {
    fn send(&self, message: &Message) -> Result<(), HvError> {
        self.0.lock().unwrap().push(Passed::Sent(*message));
        Ok(())
    }

    fn hang(&self, _doorbell: Doorbell, _event: BorrowedFd<'_>) -> Result<Hung, HvError> {
        Ok(Hung::until(()))
    }

    fn announce(&self, pins: &[Option<Message>]) -> Result<(), HvError> {
        let pins = pins.iter().enumerate();
        let pins = pins.filter_map(|(number, message)| Some((number, (*message)?)));
        let announced = Passed::Announced(pins.collect());
        self.0.lock().unwrap().push(announced);
        Ok(())
    }
}
