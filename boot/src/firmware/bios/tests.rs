use super::*;
use crate::draft::range;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

fn lines() -> [E820Entry; 3] {
    let line = |range, kind| E820Entry { range, kind };
    [
        line(range(0, 0x9_f000), E820Kind::Ram),
        line(range(0x9_f000, 0xa_0000), E820Kind::AcpiTables),
        line(range(0x10_0000, 0x2000_0000), E820Kind::Ram),
    ]
}

fn image() -> Image {
    Bios {
        rsdp: b"RSD PTR and so on, as long as it ought to be",
        e820: &lines(),
    }
    .image()
}

/// The instructions at a vector's handler.
fn code(image: &Image, vector: usize, count: usize) -> Vec<Instruction> {
    let at = vector * 4;
    let offset = u16::from_le_bytes([image.low[at], image.low[at + 1]]);
    let segment = u16::from_le_bytes([image.low[at + 2], image.low[at + 3]]);
    assert_eq!(segment, SEGMENT);
    let bytes = &image.high[usize::from(offset)..];
    let mut decoder = Decoder::with_ip(16, bytes, offset.into(), DecoderOptions::NONE);
    (0..count).map(|_| decoder.decode()).collect()
}

fn mnemonics(code: &[Instruction]) -> Vec<Mnemonic> {
    code.iter().map(Instruction::mnemonic).collect()
}

#[test]
fn the_root_pointer_is_first_and_whole() {
    assert_eq!(
        &image().high[..RSDP_LEN],
        b"RSD PTR and so on, as long as it oug"
    );
}

#[test]
fn what_nobody_answers_is_told_by_the_carry_flag() {
    for vector in [0x13, 0x16, 0x1a, 0x80] {
        let code = code(&image(), vector, 5);
        let expected = [
            Mnemonic::Push,
            Mnemonic::Mov,
            Mnemonic::Or,
            Mnemonic::Pop,
            Mnemonic::Iret,
        ];
        assert_eq!(mnemonics(&code), expected);
        let or = code[2];
        assert_eq!(
            (or.memory_displacement32(), or.immediate(1)),
            (6, 0x41),
            "carry and zero of the flags behind BP, IP and CS"
        );
    }
}

#[test]
fn every_vector_leads_into_the_code() {
    let image = image();
    let code = RSDP_LEN.next_multiple_of(16)..image.high.len();
    for vector in image.low[..1024].as_chunks::<4>().0 {
        let offset = u16::from_le_bytes([vector[0], vector[1]]);
        assert!(code.contains(&usize::from(offset)), "{offset:#x}");
    }
    assert_eq!(code.end as u64 & !0xffff, 0, "the segment holds it");
}

#[test]
fn conventional_memory_is_told_twice() {
    let image = image();
    assert_eq!(image.low.len(), 0x415);
    assert_eq!(image.low[0x413..], 636_u16.to_le_bytes());
    let code = code(&image, 0x12, 2);
    assert_eq!(mnemonics(&code), [Mnemonic::Mov, Mnemonic::Iret]);
    assert_eq!(code[0].immediate(1), 636);
}

#[test]
fn a_program_that_fails_stops() {
    let code = code(&image(), 6, 3);
    assert_eq!(
        mnemonics(&code),
        [Mnemonic::Cli, Mnemonic::Hlt, Mnemonic::Jmp]
    );
    assert_eq!(code[2].near_branch16(), code[1].ip16());
}

/// A processor that knows what interrupt 0x15 needs of one.
struct Processor<'a> {
    image: &'a Image,
    eax: u32,
    ebx: u32,
    ecx: u32,
    edx: u32,
    carry: bool,
    copied: Vec<u8>,
}

impl Processor<'_> {
    fn call(image: &Image, eax: u32, ebx: u32, ecx: u32, edx: u32) -> Processor<'_> {
        let mut processor = Processor {
            image,
            eax,
            ebx,
            ecx,
            edx,
            carry: true,
            copied: Vec::new(),
        };
        processor.run();
        processor
    }

    fn run(&mut self) {
        use iced_x86::{OpKind, Register};
        let at = 0x15 * 4;
        let mut ip = u16::from_le_bytes([self.image.low[at], self.image.low[at + 1]]);
        let (mut equal, mut below) = (false, false);
        let mut source = 0;
        for _ in 0..100 {
            let bytes = &self.image.high[usize::from(ip)..];
            let instruction = Decoder::with_ip(16, bytes, ip.into(), DecoderOptions::NONE).decode();
            ip = instruction.next_ip16();
            let operand = || match instruction.op1_kind() {
                OpKind::Register => self.get(instruction.op1_register()),
                _ => u32::try_from(instruction.immediate(1) & 0xffff_ffff).unwrap(),
            };
            match instruction.mnemonic() {
                Mnemonic::Cmp => {
                    let (left, right) = (self.get(instruction.op0_register()), operand());
                    (equal, below) = (left == right, left < right);
                }
                Mnemonic::Je if equal => ip = instruction.near_branch16(),
                Mnemonic::Jne if !equal => ip = instruction.near_branch16(),
                Mnemonic::Jb if below => ip = instruction.near_branch16(),
                Mnemonic::Jae if !below => ip = instruction.near_branch16(),
                Mnemonic::Je | Mnemonic::Jne | Mnemonic::Jb | Mnemonic::Jae => {}
                Mnemonic::Jmp => ip = instruction.near_branch16(),
                Mnemonic::Push | Mnemonic::Pop | Mnemonic::Cld => {}
                Mnemonic::Lea => {
                    assert_eq!(instruction.memory_base(), Register::BX);
                    source = instruction.memory_displacement32() + self.ebx;
                }
                Mnemonic::Movsw => {
                    assert!(instruction.has_rep_prefix());
                    let from = usize::try_from(source).unwrap();
                    let len = usize::try_from(self.ecx & 0xffff).unwrap() * 2;
                    self.copied = self.image.high[from..from + len].to_vec();
                    self.ecx &= !0xffff;
                }
                Mnemonic::Add => {
                    let sum = self.get(instruction.op0_register()) + operand();
                    self.set(instruction.op0_register(), sum);
                }
                Mnemonic::Xor => self.set(instruction.op0_register(), 0),
                Mnemonic::Mov if instruction.op0_register() == Register::BP => {}
                Mnemonic::Mov => {
                    let value = operand();
                    self.set(instruction.op0_register(), value);
                }
                Mnemonic::And => self.carry = false,
                Mnemonic::Or => self.carry = true,
                Mnemonic::Iret => return,
                other => panic!("the BIOS does not need {other:?}"),
            }
        }
        panic!("the BIOS does not answer");
    }

    fn get(&self, register: iced_x86::Register) -> u32 {
        use iced_x86::Register;
        match register {
            Register::EAX => self.eax,
            Register::AX => self.eax & 0xffff,
            Register::AH => self.eax >> 8 & 0xff,
            Register::EBX => self.ebx,
            Register::BX => self.ebx & 0xffff,
            Register::ECX => self.ecx,
            Register::EDX => self.edx,
            other => panic!("the BIOS does not need {other:?}"),
        }
    }

    fn set(&mut self, register: iced_x86::Register, value: u32) {
        use iced_x86::Register;
        let low = |old: u32| old & !0xffff | value & 0xffff;
        match register {
            Register::EAX => self.eax = value,
            Register::AX => self.eax = low(self.eax),
            Register::AH => self.eax = self.eax & !0xff00 | (value & 0xff) << 8,
            Register::BX => self.ebx = low(self.ebx),
            Register::CX => self.ecx = low(self.ecx),
            Register::ECX => self.ecx = value,
            Register::DX => self.edx = low(self.edx),
            other => panic!("the BIOS does not need {other:?}"),
        }
    }
}

const SMAP: u32 = 0x534d_4150;

#[test]
fn the_memory_map_is_told_line_by_line() {
    let image = image();
    let mut next = 0;
    let mut told = Vec::new();
    loop {
        let answer = Processor::call(&image, 0xe820, next, 24, SMAP);
        assert!(!answer.carry);
        assert_eq!((answer.eax, answer.ecx), (SMAP, 20));
        told.extend(answer.copied);
        next = answer.ebx;
        if next == 0 {
            break;
        }
    }
    assert_eq!(told, zero_page::encode_e820(&lines()));
}

#[test]
fn a_wrong_question_after_the_map_is_refused() {
    for (ebx, ecx, edx) in [
        (60, 20, SMAP),
        (0x1_0000, 20, SMAP),
        (0, 19, SMAP),
        (0, 20, 0),
    ] {
        let image = image();
        let answer = Processor::call(&image, 0xe820, ebx, ecx, edx);
        assert!(answer.carry);
        assert_eq!(answer.eax, 0x8620);
        assert_eq!(answer.copied, []);
    }
}

#[test]
fn older_questions_after_memory_get_sizes() {
    let image = image();
    let answer = Processor::call(&image, 0xe801, 0, 0, 0);
    assert!(!answer.carry);
    let (below, above) = (15 * 1024, (512 - 16) * 16);
    assert_eq!((answer.eax, answer.ebx), (below, above));
    assert_eq!((answer.ecx, answer.edx), (below, above));
    let answer = Processor::call(&image, 0x8800, 0, 0, 0);
    assert_eq!((answer.carry, answer.eax), (false, below));
}

#[test]
fn address_line_20_is_open_and_nothing_else_is_known() {
    let image = image();
    let answer = Processor::call(&image, 0x2401, 0, 0, 0);
    assert_eq!((answer.carry, answer.eax), (false, 0x0001));
    for function in [0x2400, 0x5300, 0xe980, 0xec00, 0xc000] {
        let answer = Processor::call(&image, function, 0, 0, 0);
        assert!(answer.carry, "{function:#x}");
        assert_eq!(answer.eax >> 8, 0x86);
    }
}
