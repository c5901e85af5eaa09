//! The ROM is run by a processor that knows just its instructions, and reaches the registers it
//! was made for.

use super::*;
use firstlight_base::x86::{Cr4, Gprs, RFLAGS_RESERVED};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// A processor that runs the ROM.
struct Processor<'a> {
    rom: &'a [u8],
    registers: Registers,
    /// The descriptors that selectors name.
    table: Vec<u64>,
    /// The register of the system calls' entry.
    lstar: u64,
    /// Whether the last result was zero.
    zero: bool,
    /// Where it has written what, before it halted.
    written: Option<(u64, u64)>,
    halted: bool,
}

impl<'a> Processor<'a> {
    /// As reset leaves it (SDM volume 3A, table 10-1).
    fn reset(rom: &'a [u8]) -> Self {
        let cs = Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            limit: 0xffff,
            access: 0x009b,
        };
        let data = Segment {
            selector: 0,
            base: 0,
            limit: 0xffff,
            access: 0x0093,
        };
        let registers = Registers {
            gprs: Gprs {
                rip: 0xfff0,
                rdx: 0x600,
                rflags: RFLAGS_RESERVED,
                ..Gprs::default()
            },
            cs,
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: Segment {
                access: 0x008b,
                ..data
            },
            ldt: Segment {
                access: 0x0082,
                ..data
            },
            cr0: Cr0::from_bits_retain(0x6000_0010),
            gdt: DescriptorTable {
                base: 0,
                limit: 0xffff,
            },
            idt: DescriptorTable {
                base: 0,
                limit: 0xffff,
            },
            ..Registers::default()
        };
        Self {
            rom,
            registers,
            table: Vec::new(),
            lstar: 0,
            zero: false,
            written: None,
            halted: false,
        }
    }

    /// Runs until the code leaves the ROM; its registers then.
    fn run(mut self) -> Registers {
        for _ in 0..100 {
            if !self.in_rom() {
                assert_eq!(self.written, None, "guest memory is the plan's");
                return self.registers;
            }
            assert!(!self.halted, "the ROM halts");
            self.step();
        }
        panic!("the ROM does not end");
    }

    fn ip(&self) -> u64 {
        match self.registers.mode() {
            Mode::Bits64 => self.registers.gprs.rip,
            Mode::Bits32 | Mode::Bits16 => {
                self.registers.cs.base + (self.registers.gprs.rip & 0xffff_ffff)
            }
        }
    }

    fn in_rom(&self) -> bool {
        let ip = self.ip();
        (0xffff_0000..0x1_0000_0000).contains(&ip) || (0xf_0000..0x10_0000).contains(&ip)
    }

    fn memory(&self, address: u64, len: usize) -> u64 {
        assert!(
            (0xf_0000..0x10_0000).contains(&address) || address >= 0xffff_0000,
            "{address:#x} is not in the ROM"
        );
        let at = usize::try_from(address & 0xffff).unwrap();
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.rom[at..at + len]);
        u64::from_le_bytes(bytes)
    }

    fn step(&mut self) {
        let bits = match self.registers.mode() {
            Mode::Bits16 => 16,
            Mode::Bits32 => 32,
            Mode::Bits64 => 64,
        };
        let at = usize::try_from(self.ip() & 0xffff).unwrap();
        let rip = self.registers.gprs.rip;
        let instruction =
            Decoder::with_ip(bits, &self.rom[at..], rip, DecoderOptions::NONE).decode();
        assert!(!instruction.is_invalid(), "no instruction at {rip:#x}");
        self.registers.gprs.rip = match bits {
            16 => instruction.next_ip() & 0xffff,
            _ => instruction.next_ip(),
        };
        self.execute(&instruction);
    }

    fn execute(&mut self, instruction: &Instruction) {
        match instruction.mnemonic() {
            Mnemonic::Jmp => self.jump(instruction),
            Mnemonic::Mov => self.move_to(instruction),
            Mnemonic::Lgdt => {
                self.registers.gdt = self.table_pointer(instruction);
                self.load_table();
            }
            Mnemonic::Lidt => self.registers.idt = self.table_pointer(instruction),
            Mnemonic::Ltr => {
                let task = self.segment(self.get(instruction.op0_register()));
                assert_eq!(task.access & 0xf, 0x9, "a task that is free");
                self.registers.tr = Segment {
                    access: task.access | 2,
                    ..task
                };
            }
            Mnemonic::Lldt => {
                self.registers.ldt = self.segment(self.get(instruction.op0_register()));
            }
            Mnemonic::Rdmsr => {
                let gprs = &mut self.registers.gprs;
                assert_eq!(gprs.rcx, 0xc000_0082);
                gprs.rax = self.lstar & 0xffff_ffff;
                gprs.rdx = self.lstar >> 32;
            }
            Mnemonic::Or => {
                assert_eq!(instruction.op1_register(), Register::EDX);
                self.registers.gprs.rax |= self.registers.gprs.rdx;
                self.zero = self.get(instruction.op0_register()) == 0;
            }
            Mnemonic::Je if self.zero => {
                self.registers.gprs.rip = instruction.near_branch_target();
            }
            Mnemonic::Je => {}
            Mnemonic::Hlt => self.halted = true,
            Mnemonic::Wrmsr => {
                let gprs = &self.registers.gprs;
                assert_eq!(gprs.rcx, 0xc000_0080);
                self.registers.efer = Efer::from_bits_retain(gprs.rdx << 32 | gprs.rax);
                assert!(!self.registers.cr0.contains(Cr0::PG), "LME is set first");
            }
            Mnemonic::Popfd => self.registers.gprs.rflags = self.pop(4),
            Mnemonic::Popfq => self.registers.gprs.rflags = self.pop(8),
            other => panic!("the ROM does not need {other:?}"),
        }
    }

    fn jump(&mut self, instruction: &Instruction) {
        match instruction.code() {
            Code::Jmp_ptr1632 => {
                self.registers.gprs.rip = instruction.far_branch32().into();
                self.registers.cs = self.segment(instruction.far_branch_selector().into());
            }
            Code::Jmp_ptr1616 => {
                self.registers.gprs.rip = instruction.far_branch16().into();
                let cs = self.segment(instruction.far_branch_selector().into());
                self.registers.cs = Segment {
                    access: 0x009b,
                    ..cs
                };
            }
            Code::Jmp_rm64 => {
                self.registers.gprs.rip = self.memory(instruction.memory_displacement64(), 8);
            }
            Code::Jmp_rel16 | Code::Jmp_rel32_32 => {
                self.registers.gprs.rip = instruction.near_branch_target();
            }
            other => panic!("the ROM does not need {other:?}"),
        }
    }

    fn move_to(&mut self, instruction: &Instruction) {
        let value = match instruction.op1_kind() {
            OpKind::Register => self.get(instruction.op1_register()),
            _ => instruction.immediate(1),
        };
        if instruction.op0_kind() == OpKind::Memory {
            assert_eq!(
                instruction.memory_segment(),
                Register::SS,
                "the one that is flat"
            );
            self.written = Some((instruction.memory_displacement64(), value));
            return;
        }
        match instruction.op0_register() {
            Register::CR0 => {
                let registers = &mut self.registers;
                registers.cr0 = Cr0::from_bits_retain(value);
                let long = registers.cr0.contains(Cr0::PG) && registers.efer.contains(Efer::LME);
                assert!(!long || registers.cr4.contains(Cr4::PAE));
                registers.efer.set(Efer::LMA, long);
            }
            Register::CR2 => self.registers.cr2 = value,
            Register::CR3 => self.registers.cr3 = value,
            Register::CR4 => self.registers.cr4 = Cr4::from_bits_retain(value),
            Register::DS => self.registers.ds = self.segment(value),
            Register::ES => self.registers.es = self.segment(value),
            Register::FS => self.registers.fs = self.segment(value),
            Register::GS => self.registers.gs = self.segment(value),
            Register::SS => self.registers.ss = self.segment(value),
            general => *self.general(general) = value,
        }
    }

    /// Every value goes through the accumulator, whose upper part is 0 unless it is meant.
    fn get(&self, register: Register) -> u64 {
        match register {
            Register::AX | Register::EAX | Register::RAX => self.registers.gprs.rax,
            other => panic!("the ROM does not need {other:?}"),
        }
    }

    fn general(&mut self, register: Register) -> &mut u64 {
        let gprs = &mut self.registers.gprs;
        match register {
            Register::EAX | Register::RAX => &mut gprs.rax,
            Register::EBX | Register::RBX => &mut gprs.rbx,
            Register::ECX | Register::RCX => &mut gprs.rcx,
            Register::EDX | Register::RDX => &mut gprs.rdx,
            Register::ESI | Register::RSI => &mut gprs.rsi,
            Register::EDI | Register::RDI => &mut gprs.rdi,
            Register::ESP | Register::RSP => &mut gprs.rsp,
            Register::EBP | Register::RBP => &mut gprs.rbp,
            Register::R8 => &mut gprs.r8,
            Register::R9 => &mut gprs.r9,
            Register::R10 => &mut gprs.r10,
            Register::R11 => &mut gprs.r11,
            Register::R12 => &mut gprs.r12,
            Register::R13 => &mut gprs.r13,
            Register::R14 => &mut gprs.r14,
            Register::R15 => &mut gprs.r15,
            other => panic!("the ROM does not need {other:?}"),
        }
    }

    fn pop(&mut self, len: usize) -> u64 {
        let ss = self.registers.ss;
        assert!(
            ss.base == 0 && ss.limit >= 0xf_ffff,
            "the stack is in the ROM"
        );
        let at = self.registers.gprs.rsp;
        self.registers.gprs.rsp += len as u64;
        self.memory(at, len)
    }

    fn table_pointer(&self, instruction: &Instruction) -> DescriptorTable {
        let segment = match instruction.memory_segment() {
            Register::CS => self.registers.cs,
            _ => self.registers.ds,
        };
        let (base, len) = match self.registers.mode() {
            Mode::Bits64 => (0, 8),
            Mode::Bits32 | Mode::Bits16 => (segment.base, 4),
        };
        let at = base + instruction.memory_displacement64();
        DescriptorTable {
            limit: u16::try_from(self.memory(at, 2)).unwrap(),
            base: self.memory(at + 2, len),
        }
    }

    /// Reads a table in the ROM; that of the plan, elsewhere, must not be needed any more.
    fn load_table(&mut self) {
        let DescriptorTable { base, limit } = self.registers.gdt;
        self.table.clear();
        if (0xf_0000..0x10_0000).contains(&base) {
            let entries = (u64::from(limit) + 1) / 8;
            self.table = (0..entries).map(|n| self.memory(base + n * 8, 8)).collect();
        }
    }

    fn segment(&self, selector: u64) -> Segment {
        let selector = u16::try_from(selector).unwrap();
        if !self.registers.cr0.contains(Cr0::PE) {
            return Segment {
                selector,
                base: u64::from(selector) << 4,
                limit: 0xffff,
                access: 0x0093,
            };
        }
        if selector < 8 {
            return Segment {
                selector,
                ..Segment::UNUSABLE
            };
        }
        let entry = self.table[usize::from(selector / 8)];
        assert_ne!(entry & 1 << 47, 0, "selector {selector:#x} is present");
        let low = u32::try_from(entry & 0xffff | entry >> 32 & 0xf_0000).unwrap();
        let access = u16::try_from(entry >> 40 & 0xf0ff).unwrap();
        Segment {
            selector,
            base: entry >> 16 & 0xff_ffff | entry >> 56 << 24,
            limit: if access & 0x8000 == 0 {
                low
            } else {
                low << 12 | 0xfff
            },
            access,
        }
    }
}

fn flat32() -> Registers {
    let data = Segment::data32(0x18);
    Registers {
        gprs: Gprs {
            rip: 0x100_0000,
            rsi: 0x7000,
            rflags: RFLAGS_RESERVED,
            ..Gprs::default()
        },
        cs: Segment::code32(0x10),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: Segment::task(0x20),
        gdt: DescriptorTable {
            base: 0x500,
            limit: 0x2f,
        },
        cr0: Cr0::PE | Cr0::ET,
        ..Registers::default()
    }
}

fn flat64() -> Registers {
    Registers {
        cs: Segment::code64(0x10),
        cr0: Cr0::PE | Cr0::ET | Cr0::PG,
        cr3: 0x9000,
        cr4: Cr4::PAE,
        efer: Efer::LME | Efer::LMA,
        ..flat32()
    }
}

/// As a kernel's 16-bit entry wants it.
fn real16() -> Registers {
    let data = Segment {
        selector: 0x1000,
        base: 0x1_0000,
        limit: 0xffff,
        access: 0x0093,
    };
    let none = Segment {
        selector: 0,
        base: 0,
        ..data
    };
    Registers {
        gprs: Gprs {
            rsp: 0xe000,
            rflags: RFLAGS_RESERVED,
            ..Gprs::default()
        },
        cs: Segment {
            selector: 0x1020,
            base: 0x1_0200,
            access: 0x009b,
            ..data
        },
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: Segment {
            access: 0x008b,
            ..none
        },
        ldt: Segment {
            access: 0x0082,
            ..none
        },
        idt: DescriptorTable {
            base: 0,
            limit: 0x3ff,
        },
        cr0: Cr0::ET,
        ..Registers::default()
    }
}

fn reached(registers: Registers) -> Registers {
    let rom = rom(&registers).unwrap();
    assert_eq!(rom.len() as u64, LEN);
    Processor::reset(&rom).run()
}

fn refused(registers: Registers) -> &'static str {
    match rom(&registers).unwrap_err() {
        ResetRomError::Register { register, .. } => register,
        other @ ResetRomError::Riscv64 => panic!("{other}"),
    }
}

#[test]
fn the_states_of_the_boot_protocols_are_reached() {
    assert_eq!(reached(flat32()), flat32());
    assert_eq!(reached(flat64()), flat64());
    assert_eq!(reached(real16()), real16());
}

#[test]
fn real_mode_has_every_register_too_and_segments_as_it_knows_them() {
    let wanted = Registers {
        gprs: Gprs {
            rax: 0x1111_1111,
            rbx: 0x2222_2222,
            rcx: 0x3333_3333,
            rdx: 0x4444_4444,
            rsi: 0x5555_5555,
            rdi: 0x6666_6666,
            rbp: 0x8888_8888,
            rip: 0x1234,
            ..real16().gprs
        },
        gdt: DescriptorTable {
            base: 0x12_3456,
            limit: 7,
        },
        cr2: 0x1234_5678,
        cr3: 0x9000,
        ..real16()
    };
    assert_eq!(reached(wanted), wanted);
    let protected = Registers {
        cr0: Cr0::PE,
        ..real16()
    };
    assert_eq!(refused(protected), "cr0", "16-bit protected mode");
    let unreal = Segment {
        limit: u32::MAX,
        ..real16().ds
    };
    let wanted = Registers {
        ds: unreal,
        ..real16()
    };
    assert_eq!(refused(wanted), "ds");
    let elsewhere = Segment {
        base: 0x1_0010,
        ..real16().ss
    };
    let wanted = Registers {
        ss: elsewhere,
        ..real16()
    };
    assert_eq!(refused(wanted), "ss");
}

#[test]
fn a_real_mode_machine_that_has_run_is_reset_too() {
    let rom = rom(&real16()).unwrap();
    let mut processor = Processor::reset(&rom);
    processor.lstar = 1;
    while !processor.halted {
        processor.step();
    }
    assert_eq!(processor.written, Some((0xfea0_0202, 0x42)));
}

#[test]
fn a_kernel_that_jumps_to_the_reset_vector_is_reset_and_not_entered_again() {
    let rom = rom(&flat64()).unwrap();
    let mut processor = Processor::reset(&rom);
    processor.lstar = 0xffff_ffff_8100_0000;
    while !processor.halted {
        processor.step();
    }
    assert_eq!(processor.written, Some((0xfea0_0202, 0x42)));
}

#[test]
fn every_register_gets_its_own_value() {
    let gprs = Gprs {
        rax: 0x1111_1111_1111_1111,
        rbx: 0x2222_2222_2222_2222,
        rcx: 0x3333_3333_3333_3333,
        rdx: 0x4444_4444_4444_4444,
        rsi: 0x5555_5555_5555_5555,
        rdi: 0x6666_6666_6666_6666,
        rsp: 0x7777_7777_7777_7777,
        rbp: 0x8888_8888_8888_8888,
        r8: 0x9999_9999_9999_9999,
        r9: 0xaaaa_aaaa_aaaa_aaaa,
        r10: 0xbbbb_bbbb_bbbb_bbbb,
        r11: 0xcccc_cccc_cccc_cccc,
        r12: 0xdddd_dddd_dddd_dddd,
        r13: 0xeeee_eeee_eeee_eeee,
        r14: 0xffff_ffff_ffff_ffff,
        r15: 0x0123_4567_89ab_cdef,
        rip: 0xffff_ffff_8100_0000,
        rflags: 0x246,
    };
    let registers = Registers {
        gprs,
        ds: Segment::data32(0x28),
        es: Segment::data32(0x30),
        fs: Segment {
            base: 0x1234_5678,
            ..Segment::data32(0x38)
        },
        gs: Segment::UNUSABLE,
        ss: Segment::data32(0x40),
        tr: Segment {
            base: 0x9_8000,
            ..Segment::task(0x50)
        },
        gdt: DescriptorTable {
            base: 0xffff_8000_0000_1000,
            limit: 0x7f,
        },
        idt: DescriptorTable {
            base: 0xffff_8000_0000_2000,
            limit: 0xfff,
        },
        cr0: flat64().cr0 | Cr0::WP | Cr0::NE,
        cr2: 0xdead_beef_0000_0001,
        cr4: Cr4::PAE | Cr4::PGE | Cr4::OSFXSR,
        efer: flat64().efer | Efer::NXE | Efer::SCE,
        ..flat64()
    };
    assert_eq!(reached(registers), registers);
}

#[test]
fn each_32_bit_register_gets_its_own_value() {
    let gprs = Gprs {
        rax: 0x2bad_b002,
        rbx: 0x2222_2222,
        rcx: 0x3333_3333,
        rdx: 0x4444_4444,
        rsi: 0x5555_5555,
        rdi: 0x6666_6666,
        rsp: 0x7777_7777,
        rbp: 0x8888_8888,
        rip: 0xfff0_0000,
        rflags: 0x202,
        ..Gprs::default()
    };
    let registers = Registers {
        gprs,
        cr2: 0x1234_5678,
        cr4: Cr4::PSE,
        idt: DescriptorTable {
            base: 0xdead_0000,
            limit: 0x7ff,
        },
        ..flat32()
    };
    assert_eq!(reached(registers), registers);
}

#[test]
fn a_processor_without_a_task_keeps_the_one_of_reset() {
    let registers = Registers {
        tr: Segment::UNUSABLE,
        ..flat32()
    };
    assert_eq!(reached(registers).tr.selector, 0);
    assert_eq!(reached(registers).tr.access, 0x008b);
}

#[test]
fn what_the_rom_has_no_way_to_is_refused_by_name() {
    let flat_real_mode = Registers {
        gprs: Gprs {
            rip: 0x10,
            ..flat32().gprs
        },
        cr0: Cr0::ET,
        cs: Segment {
            access: 0x009b,
            ..Segment::code32(0x10)
        },
        ..flat32()
    };
    assert_eq!(refused(flat_real_mode), "cs");
    let high_tables = Registers {
        cr3: 1 << 32,
        ..flat64()
    };
    assert_eq!(refused(high_tables), "cr3");
    let half_long = Registers {
        efer: Efer::LMA,
        ..flat32()
    };
    assert_eq!(refused(half_long), "efer");
    let two_meanings = Registers {
        ds: Segment::data32(0x10),
        ..flat64()
    };
    assert_eq!(refused(two_meanings), "ds");
    let over_the_task = Registers {
        gs: Segment::data32(0x28),
        ..flat64()
    };
    assert_eq!(refused(over_the_task), "tr");
    let local = Registers {
        es: Segment::data32(0x1c),
        ..flat64()
    };
    assert_eq!(refused(local), "es");
    let trapping = Registers {
        gprs: Gprs {
            rflags: 0x102,
            ..flat64().gprs
        },
        ..flat64()
    };
    assert_eq!(refused(trapping), "rflags");
    let wide = Registers {
        gprs: Gprs {
            r9: 1,
            ..flat32().gprs
        },
        ..flat32()
    };
    assert_eq!(refused(wide), "r8 to r15");
}
