//! The firmware is run by harts that know just its instructions, in every order that chance finds.

mod instruction;
mod machine;

use super::assembler::{Condition, RA, Register, T0, ZERO};
use super::*;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use firstlight_base::MIB;
use firstlight_base::riscv64::{A0, A1, Mode};
use instruction::Instruction;
use machine::{Hart, Machine as Board, RAM_LEN, Runs};
use proptest::collection::vec as vec_of;
use proptest::prelude::*;

const KERNEL: u64 = 0x8004_0000;
const SSIP: u64 = 1 << 1;
const MIP: i64 = 0x344;
const MIE: i64 = 0x304;

const BASE: u64 = 0x10;
const TIMER: u64 = 0x5449_4d45;
const INTERRUPT: u64 = 0x73_5049;
const REMOTE_FENCE: u64 = 0x5246_4e43;
const HART_STATE: u64 = 0x48_534d;
const RESET: u64 = 0x5352_5354;
const CONSOLE: u64 = 0x4442_434e;

const NOT_SUPPORTED: i64 = -2;
const INVALID_PARAMETER: i64 = -3;
const INVALID_ADDRESS: i64 = -5;
const ALREADY_AVAILABLE: i64 = -6;

fn kernel_registers() -> Registers {
    let mut registers = Registers {
        pc: KERNEL,
        ..Registers::default()
    };
    registers.x[A1] = 0x8005_0000;
    registers
}

fn built(harts: u32, registers: &Registers) -> Vec<u8> {
    let mut platform = VirtRiscv64::new(RAM_LEN as u64, harts);
    platform.ram = vec![GpaRange::new(VirtRiscv64::RAM_BASE, RAM_LEN as u64).unwrap()];
    firmware(&platform, registers).unwrap()
}

/// A call by a supervisor.
#[derive(Clone, Copy, Debug)]
struct Call {
    extension: u64,
    function: u64,
    arguments: [u64; 3],
}

fn call(extension: u64, function: u64, arguments: [u64; 3]) -> Call {
    Call {
        extension,
        function,
        arguments,
    }
}

/// Harts whose order chance chooses.
struct Run {
    board: Board,
    chance: u64,
    /// Whose turn it is, and for how many steps.
    turn: (usize, usize),
}

impl Run {
    /// After reset: every hart at its first instruction.
    fn new(harts: u32, registers: &Registers, seed: u64) -> Self {
        Self {
            board: Board::reset(&built(harts, registers), harts as usize),
            chance: seed | 1,
            turn: (0, 0),
        }
    }

    /// The first hart at the kernel, the others parked.
    fn booted(harts: u32, seed: u64) -> Self {
        let mut run = Self::new(harts, &kernel_registers(), seed);
        run.settle();
        run
    }

    /// Every hart at the kernel.
    fn started(harts: u32, seed: u64) -> Self {
        let mut run = Self::booted(harts, seed);
        for id in 1..u64::from(harts) {
            assert_eq!(run.call(0, call(HART_STATE, 0, [id, KERNEL, 7])), (0, 0));
        }
        run.settle();
        run
    }

    fn hart(&self, id: usize) -> &Hart {
        &self.board.harts[id]
    }

    /// Marsaglia's xorshift.
    fn below(&mut self, limit: usize) -> usize {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        usize::try_from(self.chance >> 32).unwrap() % limit
    }

    /// Whose turn it is. Turns are long and short, so that a hart may do much while another one is
    /// between two instructions.
    fn next(&mut self) -> usize {
        let (mut id, mut left) = self.turn;
        if left == 0 {
            id = self.below(self.board.harts.len());
            left = 1 << self.below(8);
        }
        self.turn = (id, left - 1);
        id
    }

    /// One step of one hart, where one can take a step.
    fn step(&mut self) -> bool {
        let harts = self.board.harts.len();
        if self.board.finished.is_some() || !(0..harts).any(|id| self.board.is_ready(id)) {
            return false;
        }
        let id = self.next();
        if self.board.is_ready(id) {
            self.board.step(id);
        } else {
            self.turn.1 = 0;
        }
        true
    }

    /// Until nothing is left for the firmware to do.
    fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the firmware does not come to an end");
    }

    /// Lets a supervisor call.
    fn begin(&mut self, id: usize, call: Call) -> Hart {
        let hart = &mut self.board.harts[id];
        assert_eq!(hart.runs, Runs::Supervisor);
        for (number, x) in hart.x.iter_mut().enumerate().skip(1) {
            *x = 0x5a5a_0000 + number as u64;
        }
        hart.x[A0..A0 + 3].copy_from_slice(&call.arguments);
        hart.x[16] = call.function;
        hart.x[17] = call.extension;
        let before = hart.clone();
        hart.trap(9);
        before
    }

    /// What the supervisor has got, everything else being as it was.
    fn end(&self, id: usize, before: &Hart) -> (i64, u64) {
        let hart = self.hart(id);
        assert_eq!(hart.runs, Runs::Supervisor);
        assert_eq!(hart.pc, before.pc + 4);
        for number in (0..32).filter(|number| ![A0, A1].contains(number)) {
            assert_eq!(hart.x[number], before.x[number], "x{number}");
        }
        (hart.x[A0].cast_signed(), hart.x[A1])
    }

    fn call(&mut self, id: usize, call: Call) -> (i64, u64) {
        let before = self.begin(id, call);
        self.settle();
        self.end(id, &before)
    }
}

fn instructions(code: &[u8]) -> Vec<Instruction> {
    let words = code.chunks_exact(4);
    assert!(words.remainder().is_empty());
    words
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .map(|word| Instruction::decode(word).unwrap_or_else(|| panic!("{word:#010x}")))
        .collect()
}

fn whole_code(harts: u32) -> Vec<u8> {
    let machine = Machine {
        harts,
        ram_end: Gpa::new(0xa000_0000),
    };
    code(&machine, &kernel_registers()).unwrap()
}

#[test]
fn the_code_is_what_a_person_has_read() {
    let listing: String = instructions(&whole_code(4))
        .iter()
        .enumerate()
        .map(|(index, instruction)| format!("{:03x} {instruction}\n", index * 4))
        .collect();
    assert_eq!(listing, include_str!("../../../tests/golden/sbi.txt"));
}

#[test]
fn every_jump_lands_in_the_code() {
    for harts in [1, 512] {
        let instructions = instructions(&whole_code(harts));
        for (here, instruction) in (0_i64..).step_by(4).zip(&instructions) {
            if let Some(distance) = instruction.leads() {
                assert_eq!(distance % 4, 0);
                let target = usize::try_from((here + distance) / 4).unwrap();
                assert!(target < instructions.len(), "{instruction} leads out");
            }
        }
    }
}

#[test]
fn the_most_harts_fill_no_more_than_what_is_kept_from_the_kernel() {
    let bytes = built(VirtRiscv64::MAX_CPUS, &kernel_registers());
    assert_eq!(bytes.len() as u64, VirtRiscv64::FIRMWARE.len());
}

#[test]
fn no_harts_are_none_and_too_many_are_too_many() {
    for harts in [0, 513, u32::MAX] {
        let platform = VirtRiscv64::new(512 * MIB, harts);
        let error = firmware(&platform, &kernel_registers()).unwrap_err();
        assert_eq!(error, FirmwareError::Harts { harts });
    }
}

#[test]
fn a_machine_without_ram_for_the_firmware_gets_none() {
    let platform = VirtRiscv64::new(0x2_0000, 1);
    let error = firmware(&platform, &kernel_registers()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the firmware at 0x080000000..0x080040000 does not lie in RAM"
    );
}

proptest! {
    #[test]
    fn the_first_hart_arrives_with_the_registers_of_the_plan(
        x in vec_of(any::<u64>(), 32),
        state in (0..u64::MAX >> 1, any::<bool>(), any::<u64>(), any::<u64>()),
    ) {
        let (pc, user, satp, bits) = state;
        let mut registers = Registers {
            pc: pc << 1,
            satp,
            sstatus: bits & 0x1_e022,
            sie: bits & 0x222,
            mode: if user { Mode::User } else { Mode::Supervisor },
            ..Registers::default()
        };
        registers.x[1..].copy_from_slice(&x[1..]);
        let mut run = Run::new(3, &registers, 1);
        run.settle();
        let hart = run.hart(0);
        prop_assert_eq!(hart.x, registers.x);
        prop_assert_eq!(hart.pc, registers.pc);
        prop_assert_eq!(hart.runs, if user { Runs::User } else { Runs::Supervisor });
        prop_assert_eq!(hart.csr(0x180), satp);
        prop_assert_eq!(hart.csr(0x100) & 0x1_e022, registers.sstatus);
        prop_assert_eq!(hart.csr(MIE), registers.sie | 8);
        prop_assert_eq!(run.hart(1).runs, Runs::Waiting);
        prop_assert_eq!(run.hart(2).runs, Runs::Waiting);
    }

    #[test]
    fn any_constant_can_be_loaded(value: u64) {
        let mut code = Assembler::default();
        code.li(RA, value);
        let bytes = code.finish().unwrap();
        let mut board = Board::reset(&bytes, 1);
        for _ in 0..bytes.len() / 4 {
            board.step(0);
        }
        prop_assert_eq!(board.harts[0].x[1], value);
    }
}

#[test]
fn constants_at_the_edges_can_be_loaded() {
    for value in
        (0..64).flat_map(|bit| [1 << bit, (1_u64 << bit) - 1, (1_u64 << bit).wrapping_neg()])
    {
        let mut code = Assembler::default();
        code.li(T0, value);
        let bytes = code.finish().unwrap();
        let mut board = Board::reset(&bytes, 1);
        for _ in 0..bytes.len() / 4 {
            board.step(0);
        }
        assert_eq!(board.harts[0].x[5], value, "{value:#x}");
    }
}

#[test]
fn what_does_not_reach_its_label_is_an_error() {
    let mut code = Assembler::default();
    let end = code.label();
    code.branch(Condition::Equal, ZERO, ZERO, end);
    for _ in 0..0x3ff {
        code.wfi();
    }
    code.bind(end);
    let error = AssemblerError::TooFar {
        at: 0,
        target: 0x1000,
    };
    assert_eq!(code.finish(), Err(error));
}

#[test]
fn the_furthest_label_is_reached_from_both_sides() {
    let mut code = Assembler::default();
    let (start, end) = (code.label(), code.label());
    code.bind(start);
    code.branch(Condition::Equal, ZERO, ZERO, end);
    for _ in 0..0x3fe {
        code.wfi();
    }
    code.bind(end);
    code.wfi();
    code.branch(Condition::Equal, ZERO, ZERO, start);
    let code = instructions(&code.finish().unwrap());
    assert_eq!(code[0].leads(), Some(0xffc));
    assert_eq!(code[0x400].leads(), Some(-0x1000));
}

#[test]
fn what_leads_nowhere_is_an_error() {
    let mut code = Assembler::default();
    let nowhere = code.label();
    code.wfi();
    code.jump(nowhere);
    assert_eq!(code.finish(), Err(AssemblerError::Nowhere { at: 4 }));
}

#[test]
fn an_address_is_told_from_wherever_it_is_asked_for() {
    let mut code = Assembler::default();
    let (ahead, back) = (code.label(), code.label());
    code.bind(back);
    code.la(RA, ahead);
    code.la(Register::new(2), back);
    code.bind(ahead);
    let bytes = code.finish().unwrap();
    let mut board = Board::reset(&bytes, 1);
    for _ in 0..4 {
        board.step(0);
    }
    assert_eq!(board.harts[0].x[1..3], [machine::RAM + 16, machine::RAM]);
}

#[test]
fn the_firmware_is_closed_to_supervisors_and_all_else_is_open() {
    let run = Run::booted(2, 1);
    for hart in &run.board.harts {
        // Naturally aligned powers of two: the ones at the end say how long (volume II, 3.7.1).
        let (closed, open) = (hart.csr(0x3b0), hart.csr(0x3b1));
        assert_eq!(closed << 2 & !0x1_ffff, VirtRiscv64::FIRMWARE.start().get());
        assert_eq!(8 << closed.trailing_ones(), VirtRiscv64::FIRMWARE.len());
        assert_eq!(open, u64::MAX);
        assert_eq!(hart.csr(0x3a0), 0b1_1111 << 8 | 0b1_1000);
    }
}

#[test]
fn supervisors_get_their_timer_and_their_traps_but_not_their_calls() {
    let run = Run::booted(2, 1);
    for hart in &run.board.harts {
        assert_eq!(hart.csr(0x302), 0xb1ff);
        assert_eq!(hart.csr(0x303), 0x222);
        assert_eq!(hart.csr(0x306), 7);
        assert_eq!(hart.csr(0x30a), 1 << 63);
        assert_eq!(
            hart.csr(0x14d),
            u64::MAX * u64::from(hart.runs == Runs::Supervisor)
        );
    }
}

#[test]
fn what_the_firmware_is_and_has_can_be_asked() {
    let mut run = Run::booted(1, 1);
    let mut ask = |function, argument| run.call(0, call(BASE, function, [argument, 0, 0]));
    assert_eq!(ask(0, 0), (0, 0x0200_0000));
    assert_eq!(ask(1, 0), (0, 0x464c));
    assert_eq!(ask(2, 0), (0, 1));
    for there in [
        0,
        1,
        8,
        BASE,
        TIMER,
        INTERRUPT,
        REMOTE_FENCE,
        HART_STATE,
        RESET,
        CONSOLE,
    ] {
        assert_eq!(ask(3, there), (0, 1), "{there:#x}");
    }
    for not_there in [2, 7, 9, 0x50_4d55, u64::MAX] {
        assert_eq!(ask(3, not_there), (0, 0), "{not_there:#x}");
    }
    for function in 4..7 {
        assert_eq!(ask(function, 0), (0, 0));
    }
    assert_eq!(ask(7, 0), (NOT_SUPPORTED, 0));
}

#[test]
fn what_the_firmware_has_not_is_not_supported() {
    let mut run = Run::booted(1, 1);
    for (extension, function) in [
        (0x50_4d55, 0),
        (2, 0),
        (u64::MAX, 0),
        (TIMER, 1),
        (INTERRUPT, 1),
        (REMOTE_FENCE, 3),
        (REMOTE_FENCE, u64::MAX),
        (HART_STATE, 3),
        (RESET, 1),
        (CONSOLE, 3),
    ] {
        let answer = run.call(0, call(extension, function, [0, 0, 0]));
        assert_eq!(answer, (NOT_SUPPORTED, 0), "{extension:#x} {function}");
    }
}

#[test]
fn the_timer_is_set() {
    let mut run = Run::booted(1, 1);
    assert_eq!(run.call(0, call(TIMER, 0, [1234, 0, 0])), (0, 0));
    assert_eq!(run.hart(0).csr(0x14d), 1234);
    assert_eq!(run.call(0, call(0, 9, [5678, 99, 0])), (0, 99));
    assert_eq!(run.hart(0).csr(0x14d), 5678);
}

proptest! {
    #[test]
    fn a_started_hart_begins_as_it_was_told(seed: u64, opaque: u64) {
        let mut run = Run::booted(3, seed);
        prop_assert_eq!(run.call(0, call(HART_STATE, 2, [2, 0, 0])), (0, 1));
        prop_assert_eq!(run.call(0, call(HART_STATE, 0, [2, KERNEL + 6, opaque])), (0, 0));
        let hart = run.hart(2);
        prop_assert_eq!(hart.runs, Runs::Supervisor);
        prop_assert_eq!(hart.pc, KERNEL + 6);
        let mut x = [0; 32];
        (x[A0], x[A1]) = (2, opaque);
        prop_assert_eq!(hart.x, x);
        for csr in [0x100, 0x104, 0x180] {
            prop_assert_eq!(hart.csr(csr), 0, "{:#x}", csr);
        }
        prop_assert_eq!(run.hart(1).runs, Runs::Waiting);
        prop_assert_eq!(run.call(2, call(HART_STATE, 2, [2, 0, 0])), (0, 0));
    }

    #[test]
    fn of_two_that_start_a_third_one_does(seed: u64) {
        let mut run = Run::started(3, seed);
        run.begin(2, call(HART_STATE, 1, [0, 0, 0]));
        run.settle();
        prop_assert_eq!(run.hart(2).runs, Runs::Waiting);
        let first = run.begin(0, call(HART_STATE, 0, [2, KERNEL + 10, 10]));
        let second = run.begin(1, call(HART_STATE, 0, [2, KERNEL + 11, 11]));
        run.settle();
        let answers = [run.end(0, &first).0, run.end(1, &second).0];
        let opaque = run.hart(2).x[A1];
        prop_assert_eq!(run.hart(2).pc, KERNEL + opaque);
        prop_assert_eq!(answers, match opaque {
            10 => [0, ALREADY_AVAILABLE],
            _ => [ALREADY_AVAILABLE, 0],
        });
    }

    #[test]
    fn a_stopped_hart_takes_nothing_along_and_does_fences_still(seed: u64) {
        let mut run = Run::started(2, seed);
        let hart = &mut run.board.harts[1];
        for (csr, value) in [(0x180, 0x8000_0000_0008_0050), (MIE, 0x22a), (0x300, 0xa_0006_6122)] {
            hart.csrs.insert(csr, value);
        }
        run.begin(1, call(HART_STATE, 1, [0, 0, 0]));
        run.call(0, call(INTERRUPT, 0, [2, 0, 0]));
        run.settle();
        prop_assert_eq!(run.call(0, call(HART_STATE, 2, [1, 0, 0])), (0, 1));
        prop_assert_eq!(run.hart(1).csr(MIE), 8, "nothing else wakes it");
        let fences = run.hart(1).fences;
        prop_assert_eq!(run.call(0, call(REMOTE_FENCE, 1, [2, 0, 0])), (0, 0));
        prop_assert_eq!(run.hart(1).fences, fences + 1);
        prop_assert_eq!(run.call(0, call(HART_STATE, 0, [1, KERNEL, 0])), (0, 0));
        let hart = run.hart(1);
        prop_assert_eq!((hart.csr(0x180), hart.csr(0x104), hart.csr(0x100)), (0, 0, 0));
        prop_assert_eq!(hart.csr(MIP) & SSIP, 0, "nobody has rung since");
    }
}

#[test]
fn only_harts_that_there_are_begin_in_ram_of_the_supervisors() {
    let mut run = Run::booted(2, 1);
    let mut start = |id, at| run.call(0, call(HART_STATE, 0, [id, at, 0]));
    assert_eq!(start(2, KERNEL), (INVALID_PARAMETER, 0));
    assert_eq!(start(u64::MAX, KERNEL), (INVALID_PARAMETER, 0));
    assert_eq!(start(0, KERNEL), (ALREADY_AVAILABLE, 0));
    for nowhere in [0, 0x8000_0000, 0x8003_fffe, 0x8008_0000, u64::MAX - 1] {
        assert_eq!(start(1, nowhere), (INVALID_ADDRESS, 0), "{nowhere:#x}");
    }
    assert_eq!(start(1, 0x8007_fffe), (0, 0));
    let status = run.call(0, call(HART_STATE, 2, [2, 0, 0]));
    assert_eq!(status, (INVALID_PARAMETER, 0));
}

/// Which harts the mask means.
fn meant([mask, base, _]: &[u64; 3], harts: usize) -> Vec<usize> {
    (0..harts)
        .filter(|&id| match (id as u64).checked_sub(*base) {
            _ if *base == u64::MAX => true,
            Some(bit @ 0..64) => mask >> bit & 1 != 0,
            _ => false,
        })
        .collect()
}

#[test]
fn masks_mean_the_harts_of_the_specification() {
    let masks: [(u64, u64); 8] = [
        (0b101, 0),
        (1, 69),
        (u64::MAX, 0),
        (u64::MAX, 6),
        (1 << 63, 6),
        (0x3f, 64),
        (0, 3),
        (0, u64::MAX),
    ];
    let mut run = Run::started(70, 1);
    for (mask, base) in masks {
        for hart in &mut run.board.harts {
            hart.csrs.insert(MIP, 0);
        }
        assert_eq!(run.call(0, call(INTERRUPT, 0, [mask, base, 0])), (0, 0));
        let rung = |id: &usize| run.hart(*id).csr(MIP) & SSIP != 0;
        let rung: Vec<usize> = (0..70).filter(rung).collect();
        assert_eq!(rung, meant(&[mask, base, 0], 70), "{mask:#x} from {base}");
    }
}

#[test]
fn masks_with_harts_that_there_are_not_ring_nobody() {
    let mut run = Run::started(3, 1);
    for (mask, base) in [
        (0b1000, 0),
        (0b10, 2),
        (1, 3),
        (u64::MAX, 0),
        (1, u64::MAX - 1),
    ] {
        for extension in [INTERRUPT, REMOTE_FENCE] {
            let answer = run.call(0, call(extension, 0, [mask, base, 0]));
            assert_eq!(answer, (INVALID_PARAMETER, 0), "{mask:#x} from {base}");
        }
    }
    assert!(run.board.harts.iter().all(|hart| hart.csr(MIP) == 0));
}

/// What the supervisors of some harts do next to each other.
fn calls(harts: u32) -> impl Strategy<Value = Vec<Vec<Call>>> {
    let masks = prop_oneof![
        (0..1_u64 << harts).prop_map(|mask| [mask, 0, 0]),
        Just([0, u64::MAX, 0]),
    ];
    let one = (masks, 0..4_u64).prop_map(|(arguments, kind)| match kind {
        0 => call(INTERRUPT, 0, arguments),
        function => call(REMOTE_FENCE, function - 1, arguments),
    });
    vec_of(vec_of(one, 0..5), harts as usize)
}

/// A call that has not ended.
struct Pending {
    call: Call,
    before: Hart,
    /// How many fences each hart had done when it began.
    fences: Vec<u32>,
}

/// What a supervisor does on one hart.
struct Supervisor {
    /// The calls that it has still to make, the next one last.
    calls: Vec<Call>,
    pending: Option<Pending>,
    /// When an interrupt was last asked for.
    rung_at: u32,
    /// When one last came.
    interrupted_at: u32,
}

impl Supervisor {
    fn new(calls: Vec<Call>) -> Self {
        Self {
            calls,
            pending: None,
            rung_at: 0,
            interrupted_at: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.calls.is_empty() && self.pending.is_none()
    }
}

/// The supervisors of all harts: each calls when chance lets it.
struct Supervisors {
    run: Run,
    harts: Vec<Supervisor>,
}

impl Supervisors {
    /// Until all have done their calls.
    fn run(&mut self) {
        for now in 1.. {
            assert!(now < 1_000_000, "somebody waits for ever");
            let id = self.run.next();
            if self.run.board.is_ready(id) && self.run.below(8) != 0 {
                self.run.board.step(id);
                self.take_interrupt(id, now);
            } else if self.run.hart(id).runs == Runs::Supervisor {
                self.end(id);
                self.begin(id, now);
            }
            if self.harts.iter().all(Supervisor::is_done) {
                return self.run.settle();
            }
        }
    }

    fn take_interrupt(&mut self, id: usize, now: u32) {
        let csrs = &mut self.run.board.harts[id].csrs;
        if csrs.remove(&MIP).is_some_and(|pending| pending & SSIP != 0) {
            self.harts[id].interrupted_at = now;
        }
    }

    fn begin(&mut self, id: usize, now: u32) {
        let Some(call) = self.harts[id].calls.pop() else {
            return;
        };
        if call.extension == INTERRUPT {
            for other in meant(&call.arguments, self.harts.len()) {
                self.harts[other].rung_at = now;
            }
        }
        let fences = self.run.board.harts.iter().map(|hart| hart.fences);
        self.harts[id].pending = Some(Pending {
            call,
            fences: fences.collect(),
            before: self.run.begin(id, call),
        });
    }

    /// A fence is over when every hart that was meant has done one since it was called for.
    fn end(&mut self, id: usize) {
        let Some(ended) = self.harts[id].pending.take() else {
            return;
        };
        assert_eq!(self.run.end(id, &ended.before), (0, 0));
        if ended.call.extension == REMOTE_FENCE {
            for other in meant(&ended.call.arguments, self.harts.len()) {
                assert!(self.run.hart(other).fences > ended.fences[other]);
            }
        }
    }

    /// Whether a hart has not got an interrupt since one was asked for.
    fn misses_an_interrupt(&self, id: usize) -> bool {
        let hart = self.run.hart(id);
        let supervisor = &self.harts[id];
        let comes = hart.csr(MIP) & SSIP != 0 || supervisor.interrupted_at > supervisor.rung_at;
        hart.runs == Runs::Supervisor && supervisor.rung_at != 0 && !comes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn fences_and_interrupts_arrive_whatever_the_order(
        seed: u64,
        last_one_stops: bool,
        mut calls in (2..6_u32).prop_flat_map(calls),
    ) {
        let harts = calls.len();
        let mut run = Run::started(u32::try_from(harts).unwrap(), seed);
        if last_one_stops {
            run.begin(harts - 1, call(HART_STATE, 1, [0, 0, 0]));
            calls[harts - 1].clear();
        }
        let harts = calls.into_iter().map(Supervisor::new).collect();
        let mut supervisors = Supervisors { run, harts };
        supervisors.run();
        for id in 0..supervisors.harts.len() {
            prop_assert!(!supervisors.misses_an_interrupt(id), "hart {}", id);
        }
    }

    #[test]
    fn harts_that_wait_for_the_serial_port_do_fences(seed: u64) {
        let mut run = Run::started(2, seed);
        run.board.busy = 200;
        let writes = run.begin(0, call(CONSOLE, 2, [u64::from(b'x'), 0, 0]));
        for _ in 0..40 {
            run.board.step(0);
        }
        prop_assert_eq!(&run.board.sent, b"");
        let fences = run.begin(1, call(REMOTE_FENCE, 1, [1, 0, 0]));
        while run.hart(1).runs != Runs::Supervisor {
            run.step();
        }
        prop_assert_eq!(run.end(1, &fences), (0, 0));
        prop_assert_eq!(&run.board.sent, b"", "the port is still busy");
        run.settle();
        prop_assert_eq!(run.end(0, &writes), (0, 0));
        prop_assert_eq!(&run.board.sent, b"x");
    }
}

#[test]
fn the_console_writes_and_reads() {
    let mut run = Run::booted(1, 1);
    let at = usize::try_from(KERNEL - machine::RAM).unwrap();
    run.board.ram[at..at + 5].copy_from_slice(b"hello");
    run.board.busy = 3;
    assert_eq!(run.call(0, call(CONSOLE, 0, [5, KERNEL, 0])), (0, 5));
    assert_eq!(run.call(0, call(CONSOLE, 0, [0, KERNEL, 0])), (0, 0));
    assert_eq!(run.call(0, call(CONSOLE, 2, [0x121, 0, 0])), (0, 0));
    assert_eq!(run.call(0, call(1, 0, [0x3f, 99, 0])), (0, 99));
    assert_eq!(run.board.sent, b"hello!?");
    run.board.received = b"abcd".to_vec();
    assert_eq!(run.call(0, call(CONSOLE, 1, [3, KERNEL, 0])), (0, 3));
    assert_eq!(run.call(0, call(CONSOLE, 1, [3, KERNEL + 3, 0])), (0, 1));
    assert_eq!(run.board.ram[at..at + 5], *b"abcdo");
}

#[test]
fn the_console_touches_no_memory_but_the_supervisors() {
    let mut run = Run::booted(1, 1);
    run.board.received = b"secret".to_vec();
    for (len, low, high) in [
        (1, 0x8003_ffff, 0),
        (2, 0x8007_ffff, 0),
        (1, 0x1000_0000, 0),
        (1, KERNEL, 1),
        (u64::MAX, KERNEL, 0),
        (1 << 63, KERNEL, 0),
    ] {
        for function in [0, 1] {
            let answer = run.call(0, call(CONSOLE, function, [len, low, high]));
            assert_eq!(answer, (INVALID_PARAMETER, 0), "{len:#x} at {low:#x}");
        }
    }
    assert_eq!(run.board.sent, b"");
    assert_eq!(run.call(0, call(CONSOLE, 1, [1, 0x8007_ffff, 0])), (0, 1));
}

#[test]
fn the_machine_is_ended_and_reset() {
    for (call, finish) in [
        (call(RESET, 0, [0, 0, 0]), 0x5555),
        (call(RESET, 0, [0, 1, 0]), 0x1_3333),
        (call(RESET, 0, [1, 0, 0]), 0x7777),
        (call(RESET, 0, [2, 1, 0]), 0x7777),
        (call(8, 0, [0, 0, 0]), 0x5555),
    ] {
        let mut run = Run::booted(1, 1);
        run.begin(0, call);
        run.settle();
        assert_eq!(run.board.finished, Some(finish), "{call:?}");
    }
}

#[test]
fn there_are_three_ways_and_two_reasons_to_reset() {
    let mut run = Run::booted(1, 1);
    for (way, reason) in [(3, 0), (0, 2), (u64::MAX, 0), (1, u64::MAX)] {
        let answer = run.call(0, call(RESET, 0, [way, reason, 0]));
        assert_eq!(answer, (INVALID_PARAMETER, 0));
    }
    assert_eq!(run.board.finished, None);
}

#[test]
fn a_trap_that_cannot_be_ends_the_machine() {
    for cause in [2, 7, 1 << 63 | 7] {
        let mut run = Run::booted(1, 1);
        run.board.harts[0].trap(cause);
        run.settle();
        assert_eq!(run.board.finished, Some(0x2_3333), "{cause:#x}");
    }
}
