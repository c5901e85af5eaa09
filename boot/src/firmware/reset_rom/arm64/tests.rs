//! The ROM is run by a processor that knows just its instructions, and reaches the registers it
//! was made for.

use super::*;

/// A processor that runs the ROM.
struct Processor<'a> {
    rom: &'a [u8],
    registers: Registers,
    /// `ELR`, `SPSR` and `TPIDR` of its level, by what `mrs` to x0 is for them.
    system: [(u32, u64); 3],
    /// The last call to PSCI: its number.
    called: Option<u64>,
}

impl<'a> Processor<'a> {
    /// As QEMU resets it.
    fn reset(rom: &'a [u8], level: &Level) -> Self {
        let system = [&level.elr, &level.spsr, &level.tpidr];
        Self {
            rom,
            registers: Registers {
                x: [0x5555; 31],
                ..Registers::default()
            },
            system: system.map(|register| (register.read(0), 0)),
            called: None,
        }
    }

    fn word(&self, at: u64) -> u64 {
        let at = usize::try_from(at).unwrap();
        u64::from(u32::from_le_bytes(self.rom[at..at + 4].try_into().unwrap()))
    }

    fn system(&mut self, read: u64) -> &mut u64 {
        let found = self
            .system
            .iter_mut()
            .find(|(mrs, _)| u64::from(*mrs) == read);
        &mut found.expect("a register that the ROM may use").1
    }

    /// Runs until it is in the kernel or PSCI has been called.
    fn run(&mut self) {
        for _ in 0..100 {
            if self.registers.pc >= LEN as u64 || self.called.is_some() {
                return;
            }
            self.step();
        }
        panic!("it runs for ever, now at {:#x}", self.registers.pc);
    }

    fn step(&mut self) {
        let here = self.registers.pc;
        let word = self.word(here);
        let number = (word & 0x1f) as usize;
        let imm19 = (word >> 5 & 0x7_ffff) * 4;
        self.registers.pc = here + 4;
        match word {
            0xd69f_03e0 => {
                let [(_, elr), (_, spsr), _] = self.system;
                self.registers.pc = elr;
                self.registers.pstate = Pstate::from_bits_retain(spsr);
            }
            0xd400_0002 | 0xd400_0003 => self.called = Some(self.registers.x[0]),
            0x9100_001f => self.registers.sp = self.registers.x[0],
            _ => match word >> 24 {
                0x14 => self.registers.pc = here + (word & 0x03ff_ffff) * 4,
                0xb4 if self.registers.x[number] == 0 => self.registers.pc = here + imm19,
                0xb4 => {}
                0x58 => {
                    let at = here + imm19;
                    assert!(at.is_multiple_of(8), "data at {at:#x} is not aligned");
                    self.registers.x[number] = self.word(at) | self.word(at + 4) << 32;
                }
                0x52 => self.registers.x[number] = word >> 5 & 0xffff,
                0x72 => self.registers.x[number] |= (word >> 5 & 0xffff) << 16,
                0xd5 if word >> 20 == 0xd53 => {
                    self.registers.x[number] = *self.system(word & !0x1f);
                }
                0xd5 => *self.system(word & !0x1f | 1 << 21) = self.registers.x[number],
                _ => panic!("{word:#010x} at {here:#x}"),
            },
        }
    }
}

fn wanted(pstate: Pstate) -> Registers {
    let mut x = [0; 31];
    for (value, number) in x.iter_mut().zip(0_u64..) {
        *value = number << 56 | 0x1234_5678_9abc;
    }
    Registers {
        x,
        sp: 0x4123_4560,
        pc: 0x4020_0000,
        pstate,
        ..Registers::default()
    }
}

#[test]
fn every_register_arrives_at_either_level() {
    for pstate in [Pstate::ENTRY_EL1, Pstate::ENTRY_EL2] {
        let wanted = wanted(pstate);
        let rom = rom(&wanted).unwrap();
        let mut processor = Processor::reset(&rom, &Level::of(pstate).unwrap());
        processor.run();
        assert_eq!(processor.registers, wanted);
        assert_eq!(processor.called, None);
    }
}

#[test]
fn every_vector_keeps_x0_and_asks_for_a_reset() {
    let wanted = wanted(Pstate::ENTRY_EL1);
    let rom = rom(&wanted).unwrap();
    for vector in 0..VECTORS {
        let mut processor = Processor::reset(&rom, &Level::of(wanted.pstate).unwrap());
        processor.registers.pc = u64::from(vector * VECTOR) * 4;
        processor.system[0].1 = 0x4020_0004;
        processor.run();
        assert_eq!(processor.called, Some(0x8400_0009), "vector {vector}");
        assert_eq!(processor.system[2].1, 0x5555, "vector {vector}");
        assert_eq!(processor.system[0].1, 0x4020_0004, "vector {vector}");
    }
}

#[test]
fn a_state_that_no_kernel_is_entered_in_is_refused() {
    for pstate in [0, 0x3c4, 0x3cd, 0x3d5] {
        let registers = wanted(Pstate::from_bits_retain(pstate));
        assert!(rom(&registers).is_err(), "{pstate:#x}");
    }
}
