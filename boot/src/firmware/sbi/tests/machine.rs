//! A machine that runs the firmware: harts that know just its instructions, one of them taking a
//! step at a time, and of the devices what the firmware uses. Supervisors are the tests' own.

use super::instruction::Instruction;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

pub(super) const RAM: u64 = 0x8000_0000;
pub(super) const RAM_LEN: usize = 0x8_0000;

const MSTATUS: i64 = 0x300;
const MIE: i64 = 0x304;
const MTVEC: i64 = 0x305;
const MEPC: i64 = 0x341;
const MCAUSE: i64 = 0x342;
const MHARTID: i64 = 0xf14;
const MPP: u64 = 3 << 11;
const MACHINE_SOFTWARE: u64 = 1 << 3;

/// What runs on a hart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    Firmware,
    /// The same, having executed `wfi`.
    Waiting,
    Supervisor,
    User,
}

#[derive(Clone, Debug)]
pub(super) struct Hart {
    pub(super) x: [u64; 32],
    pub(super) pc: u64,
    pub(super) runs: Runs,
    pub(super) csrs: BTreeMap<i64, u64>,
    /// How many fences of translation it has done.
    pub(super) fences: u32,
    reserved: Option<u64>,
}

impl Hart {
    pub(super) fn csr(&self, number: i64) -> u64 {
        let (number, mask) = part(number);
        self.csrs.get(&number).copied().unwrap_or(0) & mask
    }

    fn set_csr(&mut self, number: i64, value: u64) {
        assert_ne!(number, MHARTID, "a hart's id is its own");
        let (number, mask) = part(number);
        let value = self.csr(number) & !mask | value & mask;
        self.csrs.insert(number, value);
    }

    /// Enters the firmware, as a trap does.
    pub(super) fn trap(&mut self, cause: u64) {
        assert_eq!(self.runs, Runs::Supervisor, "the firmware has a trap");
        self.csrs.insert(MEPC, self.pc);
        self.csrs.insert(MCAUSE, cause);
        let status = self.csr(MSTATUS) & !MPP | 1 << 11;
        self.csrs.insert(MSTATUS, status);
        self.pc = self.csr(MTVEC);
        self.runs = Runs::Firmware;
    }
}

/// Which bits of which register a CSR is: `sstatus` and `sie` are parts of others (volume II,
/// sections 12.1.1 and 12.1.3).
fn part(number: i64) -> (i64, u64) {
    match number {
        0x100 => (MSTATUS, 0xd_e762),
        0x104 => (MIE, 0x222),
        other => (other, u64::MAX),
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) ram: Vec<u8>,
    pub(super) harts: Vec<Hart>,
    /// The CLINT's bells.
    pub(super) msip: Vec<bool>,
    /// What the serial port has sent.
    pub(super) sent: Vec<u8>,
    /// What it has received.
    pub(super) received: Vec<u8>,
    /// How often it will say that it cannot send yet.
    pub(super) busy: u32,
    /// What was written to the finisher.
    pub(super) finished: Option<u64>,
}

impl Machine {
    /// As reset leaves it, with the firmware loaded.
    pub(super) fn reset(firmware: &[u8], harts: usize) -> Self {
        let mut ram = firmware.to_vec();
        ram.resize(RAM_LEN, 0xaa);
        let hart = |id: usize| Hart {
            x: [0; 32],
            pc: RAM,
            runs: Runs::Firmware,
            csrs: BTreeMap::from([(MHARTID, id as u64), (MSTATUS, 0xa_0000_0000)]),
            fences: 0,
            reserved: None,
        };
        Self {
            ram,
            harts: (0..harts).map(hart).collect(),
            msip: vec![false; harts],
            sent: Vec::new(),
            received: Vec::new(),
            busy: 0,
            finished: None,
        }
    }

    /// Whether the hart can go on by itself.
    pub(super) fn is_ready(&self, id: usize) -> bool {
        let hart = &self.harts[id];
        match hart.runs {
            Runs::Firmware => true,
            Runs::Waiting | Runs::Supervisor => {
                self.msip[id] && hart.csr(MIE) & MACHINE_SOFTWARE != 0
            }
            Runs::User => false,
        }
    }

    /// An instruction of the firmware, or a trap into it.
    pub(super) fn step(&mut self, id: usize) {
        assert!(self.is_ready(id));
        let hart = &mut self.harts[id];
        match hart.runs {
            Runs::Supervisor => return hart.trap(1 << 63 | 3),
            Runs::Waiting => hart.runs = Runs::Firmware,
            Runs::Firmware | Runs::User => {}
        }
        let pc = hart.pc;
        let word = u32::try_from(self.load(pc, 4)).unwrap();
        let instruction = Instruction::decode(word);
        let instruction = instruction.unwrap_or_else(|| panic!("{word:#010x} at {pc:#x}"));
        self.harts[id].pc = pc + 4;
        self.execute(id, pc, &instruction);
        self.harts[id].x[0] = 0;
    }

    fn execute(&mut self, id: usize, pc: u64, instruction: &Instruction) {
        let Instruction {
            name,
            rd,
            rs1,
            rs2,
            value,
        } = *instruction;
        let (a, b) = (self.harts[id].x[rs1], self.harts[id].x[rs2]);
        let constant = value.cast_unsigned();
        let address = a.wrapping_add(constant);
        let target = pc.wrapping_add(constant);
        let word = |value: u64| (value.cast_signed() << 32 >> 32).cast_unsigned();
        let result = match name {
            "lui" => constant,
            "auipc" => target,
            "addi" => address,
            "addiw" => word(address),
            "andi" => a & constant,
            "slli" => a << constant,
            "srli" => a >> constant,
            "add" => a.wrapping_add(b),
            "sub" => a.wrapping_sub(b),
            "subw" => word(a.wrapping_sub(b)),
            "or" => a | b,
            "srl" => a >> (b & 63),
            "lbu" => self.load(address, 1),
            "lw" => word(self.load(address, 4)),
            "ld" => self.load(address, 8),
            "sb" => return self.store(address, 1, b),
            "sw" => return self.store(address, 4, b),
            "sd" => return self.store(address, 8, b),
            "beq" => return self.branch(id, a == b, target),
            "bne" => return self.branch(id, a != b, target),
            "blt" => return self.branch(id, a.cast_signed() < b.cast_signed(), target),
            "bge" => return self.branch(id, a.cast_signed() >= b.cast_signed(), target),
            "bltu" => return self.branch(id, a < b, target),
            "bgeu" => return self.branch(id, a >= b, target),
            "jal" | "jalr" => {
                self.harts[id].pc = if name == "jal" { target } else { address };
                pc + 4
            }
            "csrrw" | "csrrs" | "csrrc" => self.access_csr(id, instruction),
            "amoadd.w.aqrl" | "amoswap.w.aqrl" => {
                let old = word(self.load(a, 4));
                let new = if name == "amoswap.w.aqrl" { 0 } else { old };
                self.store(a, 4, new.wrapping_add(b));
                old
            }
            "lr.w.aq" => {
                self.harts[id].reserved = Some(a);
                word(self.load(a, 4))
            }
            "sc.w.rl" => {
                let failed = self.harts[id].reserved != Some(a);
                if !failed {
                    self.store(a, 4, b);
                }
                failed.into()
            }
            "sfence.vma" => {
                self.harts[id].fences += 1;
                return;
            }
            "fence" | "fence.i" | "pause" => return,
            "wfi" => {
                self.harts[id].runs = Runs::Waiting;
                return;
            }
            "mret" => return self.leave(id),
            other => panic!("{other}"),
        };
        self.harts[id].x[rd] = result;
    }

    fn branch(&mut self, id: usize, taken: bool, target: u64) {
        if taken {
            self.harts[id].pc = target;
        }
    }

    fn access_csr(&mut self, id: usize, instruction: &Instruction) -> u64 {
        let hart = &mut self.harts[id];
        let bits = hart.x[instruction.rs1];
        let old = hart.csr(instruction.value);
        match instruction.name {
            "csrrw" => hart.set_csr(instruction.value, bits),
            _ if instruction.rs1 == 0 => {}
            "csrrs" => hart.set_csr(instruction.value, old | bits),
            _ => hart.set_csr(instruction.value, old & !bits),
        }
        old
    }

    fn leave(&mut self, id: usize) {
        let hart = &mut self.harts[id];
        hart.pc = hart.csr(MEPC);
        hart.runs = match hart.csr(MSTATUS) & MPP {
            0x800 => Runs::Supervisor,
            0 => Runs::User,
            _ => panic!("the firmware enters itself"),
        };
    }

    pub(super) fn load(&mut self, address: u64, len: usize) -> u64 {
        match address {
            0x1000_0005 => {
                let ready = u64::from(self.busy == 0) << 5;
                self.busy = self.busy.saturating_sub(1);
                ready | u64::from(!self.received.is_empty())
            }
            0x1000_0000 => self.received.remove(0).into(),
            _ => {
                let mut bytes = [0; 8];
                bytes[..len].copy_from_slice(self.place(address, len));
                u64::from_le_bytes(bytes)
            }
        }
    }

    fn store(&mut self, address: u64, len: usize, value: u64) {
        match address {
            0x1000_0000 => self.sent.push(value.to_le_bytes()[0]),
            0x0010_0000 => self.finished = Some(value),
            0x0200_0000..0x0200_4000 => {
                assert_eq!((address % 4, len), (0, 4));
                let id = usize::try_from((address - 0x0200_0000) / 4).unwrap();
                self.msip[id] = value & 1 != 0;
            }
            _ => {
                let bytes = value.to_le_bytes();
                self.place(address, len).copy_from_slice(&bytes[..len]);
                for hart in &mut self.harts {
                    hart.reserved.take_if(|reserved| *reserved == address);
                }
            }
        }
    }

    fn place(&mut self, address: u64, len: usize) -> &mut [u8] {
        assert_eq!(address % len as u64, 0, "{address:#x} is not aligned");
        let at = usize::try_from(address.wrapping_sub(RAM)).unwrap();
        let there = self.ram.get_mut(at..).and_then(|rest| rest.get_mut(..len));
        there.unwrap_or_else(|| panic!("there is nothing at {address:#x}"))
    }
}
