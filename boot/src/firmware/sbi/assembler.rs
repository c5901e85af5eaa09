//! Writes RISC-V instructions: those that the firmware is made of, and no others.
//!
//! Encodings are those of The RISC-V Instruction Set Manual, volume I (RV32I and RV64I, chapters 2
//! and 4; Zicsr, Zifencei and A, chapters 6, 5 and 13) and volume II (privileged instructions,
//! sections 3.3 and 12.2). None of them is compressed, so that every one begins at a multiple of 4.

use alloc::vec::Vec;

/// An integer register (volume I, chapter 25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u8);

impl Register {
    /// The register x`number`.
    pub(super) const fn new(number: u8) -> Self {
        assert!(number < 32, "there are 32 integer registers");
        Self(number)
    }

    const fn bits(self) -> u32 {
        u32::from_le_bytes([self.0, 0, 0, 0])
    }
}

pub(super) const ZERO: Register = Register::new(0);
pub(super) const RA: Register = Register::new(1);
pub(super) const SP: Register = Register::new(2);
pub(super) const T0: Register = Register::new(5);
pub(super) const T1: Register = Register::new(6);
pub(super) const T2: Register = Register::new(7);
pub(super) const A0: Register = Register::new(10);
pub(super) const A1: Register = Register::new(11);
pub(super) const A2: Register = Register::new(12);
pub(super) const A3: Register = Register::new(13);
pub(super) const A6: Register = Register::new(16);
pub(super) const A7: Register = Register::new(17);
pub(super) const T3: Register = Register::new(28);
pub(super) const T4: Register = Register::new(29);
pub(super) const T5: Register = Register::new(30);
pub(super) const T6: Register = Register::new(31);

/// A control and status register (volume II, section 2.2; `stimecmp`: the extension Sstc).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Csr {
    Sstatus = 0x100,
    Sie = 0x104,
    Scounteren = 0x106,
    Stimecmp = 0x14d,
    Satp = 0x180,
    Mstatus = 0x300,
    Medeleg = 0x302,
    Mideleg = 0x303,
    Mie = 0x304,
    Mtvec = 0x305,
    Mcounteren = 0x306,
    Menvcfg = 0x30a,
    Mscratch = 0x340,
    Mepc = 0x341,
    Mcause = 0x342,
    Mip = 0x344,
    Pmpcfg0 = 0x3a0,
    Pmpaddr0 = 0x3b0,
    Pmpaddr1 = 0x3b1,
    Mvendorid = 0xf11,
    Marchid = 0xf12,
    Mimpid = 0xf13,
    Mhartid = 0xf14,
}

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equal = 0,
    NotEqual = 1,
    Less = 4,
    NotLess = 5,
    Below = 6,
    NotBelow = 7,
}

/// How much of memory an instruction reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Eight bits; read without a sign.
    Byte,
    /// 32 bits; read with their sign.
    Word,
    /// 64 bits.
    Double,
}

/// Accesses that a fence keeps in order, as its fields have them (volume I, section 2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accesses(u32);

impl Accesses {
    /// Writes of memory.
    pub(super) const WRITES: Self = Self(0b0001);
    /// Reads of memory.
    pub(super) const READS: Self = Self(0b0010);
    /// Reads and writes of memory.
    pub(super) const MEMORY: Self = Self(0b0011);
    /// Writes of memory and of devices.
    pub(super) const ALL_WRITES: Self = Self(0b0101);
    /// Everything.
    pub(super) const ALL: Self = Self(0b1111);
}

/// A place in the code, which may still have to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The code cannot be written as it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssemblerError {
    /// An instruction is to lead further than it reaches.
    #[error("the instruction at {at:#x} of the firmware does not reach {target:#x}")]
    TooFar {
        /// Where the instruction is, in bytes from the firmware's first.
        at: u64,
        /// Where it is to lead.
        target: u64,
    },
    /// An instruction leads to a place that is nowhere.
    #[error("the instruction at {at:#x} of the firmware leads nowhere")]
    Nowhere {
        /// Where the instruction is, in bytes from the firmware's first.
        at: u64,
    },
}

/// Instructions as they are written, from the first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    words: Vec<u32>,
    /// For each label, the index of the instruction that it stands before.
    labels: Vec<Option<usize>>,
    references: Vec<Reference>,
}

/// An instruction that leads to a label.
#[derive(Clone, Copy, Debug)]
struct Reference {
    /// Its index; of a pair, the first one's.
    at: usize,
    to: Label,
    form: Form,
}

/// How an instruction holds the distance to a label.
#[derive(Clone, Copy, Debug)]
enum Form {
    Branch,
    Jump,
    /// `auipc` and `addi`.
    Pair,
}

impl Assembler {
    /// A label that stands nowhere yet.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len().wrapping_sub(1))
    }

    /// Lets `label` stand before the next instruction.
    pub(super) fn bind(&mut self, label: Label) {
        let here = self.words.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            assert_eq!(place.replace(here), None, "a label stands in one place");
        }
    }

    /// A label before the next instruction.
    pub(super) fn here(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// The code.
    ///
    /// # Errors
    ///
    /// [`AssemblerError`] where an instruction cannot lead to its label.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, AssemblerError> {
        for reference in core::mem::take(&mut self.references) {
            self.resolve(reference)?;
        }
        Ok(self.words.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    fn resolve(&mut self, reference: Reference) -> Result<(), AssemblerError> {
        let address = |index: usize| u64::try_from(index).map_or(u64::MAX, |at| at << 2);
        let at = address(reference.at);
        let target = self.labels.get(reference.to.0).copied().flatten();
        let target = address(target.ok_or(AssemblerError::Nowhere { at })?);
        let distance = i32::try_from(target.wrapping_sub(at).cast_signed())
            .ok()
            .filter(|&distance| reference.form.reaches(distance))
            .ok_or(AssemblerError::TooFar { at, target })?;
        let words = reference.form.words(distance);
        for (word, bits) in self.words.iter_mut().skip(reference.at).zip(words) {
            *word |= bits;
        }
        Ok(())
    }

    /// Loads any constant. The top bits come first, and each further step appends up to 12.
    pub(super) fn li(&mut self, to: Register, value: u64) {
        let value = value.cast_signed();
        let low = low_12(value);
        if value == low {
            return self.addi(to, ZERO, low);
        }
        if let Ok(narrow) = i32::try_from(value) {
            self.put(upper(to, narrow) | 0x37); // lui
            if low != 0 {
                self.put(immediate(low, to, 0, to) | 0x1b); // addiw
            }
            return;
        }
        let high = value.wrapping_sub(low) >> 12;
        let zeros = high.trailing_zeros();
        self.li(to, (high >> zeros).cast_unsigned());
        self.slli(to, to, zeros.wrapping_add(12));
        if low != 0 {
            self.addi(to, to, low);
        }
    }

    /// Loads the address of `label`.
    pub(super) fn la(&mut self, to: Register, label: Label) {
        self.refer(label, Form::Pair);
        self.put(upper(to, 0) | 0x17); // auipc
        self.addi(to, to, 0);
    }

    /// `value` has 12 bits and a sign.
    pub(super) fn addi(&mut self, to: Register, from: Register, value: i64) {
        self.put(immediate(value, from, 0, to) | 0x13);
    }

    /// `value` has 12 bits and a sign.
    pub(super) fn andi(&mut self, to: Register, from: Register, value: i64) {
        self.put(immediate(value, from, 7, to) | 0x13);
    }

    /// Fewer than 64 bits to the left.
    pub(super) fn slli(&mut self, to: Register, from: Register, bits: u32) {
        self.put(immediate(i64::from(bits), from, 1, to) | 0x13);
    }

    /// Fewer than 64 bits to the right, without a sign.
    pub(super) fn srli(&mut self, to: Register, from: Register, bits: u32) {
        self.put(immediate(i64::from(bits), from, 5, to) | 0x13);
    }

    pub(super) fn add(&mut self, to: Register, a: Register, b: Register) {
        self.put(three(0, b, a, 0, to) | 0x33);
    }

    pub(super) fn sub(&mut self, to: Register, a: Register, b: Register) {
        self.put(three(0x20, b, a, 0, to) | 0x33);
    }

    /// In 32 bits.
    pub(super) fn subw(&mut self, to: Register, a: Register, b: Register) {
        self.put(three(0x20, b, a, 0, to) | 0x3b);
    }

    pub(super) fn or(&mut self, to: Register, a: Register, b: Register) {
        self.put(three(0, b, a, 6, to) | 0x33);
    }

    /// To the right, without a sign.
    pub(super) fn srl(&mut self, to: Register, from: Register, bits: Register) {
        self.put(three(0, bits, from, 5, to) | 0x33);
    }

    /// `offset` has 12 bits and a sign.
    pub(super) fn load(&mut self, width: Width, to: Register, base: Register, offset: i64) {
        let funct3 = match width {
            Width::Byte => 4, // lbu
            Width::Word => 2,
            Width::Double => 3,
        };
        self.put(immediate(offset, base, funct3, to) | 0x03);
    }

    /// `offset` has 12 bits and a sign.
    pub(super) fn store(&mut self, width: Width, from: Register, base: Register, offset: i64) {
        let funct3 = match width {
            Width::Byte => 0,
            Width::Word => 2,
            Width::Double => 3,
        };
        let offset = bits_of(offset);
        let low = Register((offset & 0x1f).to_le_bytes()[0]);
        self.put(three(offset >> 5, from, base, funct3, low) | 0x23);
    }

    pub(super) fn branch(&mut self, condition: Condition, a: Register, b: Register, to: Label) {
        self.refer(to, Form::Branch);
        self.put(three(0, b, a, condition as u32, ZERO) | 0x63);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.refer(to, Form::Jump);
        self.put(upper(ZERO, 0) | 0x6f); // jal
    }

    /// A jump that leaves the address of what follows in RA.
    pub(super) fn call(&mut self, to: Label) {
        self.refer(to, Form::Jump);
        self.put(upper(RA, 0) | 0x6f); // jal
    }

    pub(super) fn ret(&mut self) {
        self.put(immediate(0, RA, 0, ZERO) | 0x67); // jalr
    }

    /// `csrr`
    pub(super) fn csr_read(&mut self, to: Register, csr: Csr) {
        self.csr(csr, ZERO, 2, to);
    }

    /// `csrw`
    pub(super) fn csr_write(&mut self, csr: Csr, from: Register) {
        self.csr(csr, from, 1, ZERO);
    }

    /// `csrrw`
    pub(super) fn csr_swap(&mut self, to: Register, csr: Csr, from: Register) {
        self.csr(csr, from, 1, to);
    }

    /// `csrs`
    pub(super) fn csr_set(&mut self, csr: Csr, bits: Register) {
        self.csr(csr, bits, 2, ZERO);
    }

    /// `csrc`
    pub(super) fn csr_clear(&mut self, csr: Csr, bits: Register) {
        self.csr(csr, bits, 3, ZERO);
    }

    fn csr(&mut self, csr: Csr, from: Register, funct3: u32, to: Register) {
        self.put((csr as u32) << 20 | three(0, ZERO, from, funct3, to) | 0x73);
    }

    /// `amoadd.w`, ordered with all that goes before and comes behind.
    pub(super) fn amo_add(&mut self, to: Register, value: Register, address: Register) {
        self.put(three(3, value, address, 2, to) | 0x2f);
    }

    /// `amoswap.w`, ordered with all that goes before and comes behind.
    pub(super) fn amo_swap(&mut self, to: Register, value: Register, address: Register) {
        self.put(three(0x01 << 2 | 3, value, address, 2, to) | 0x2f);
    }

    /// `lr.w.aq`
    pub(super) fn load_reserved(&mut self, to: Register, address: Register) {
        self.put(three(0x02 << 2 | 2, ZERO, address, 2, to) | 0x2f);
    }

    /// `sc.w.rl`: `to` becomes 0 where `value` was stored.
    pub(super) fn store_conditional(&mut self, to: Register, value: Register, address: Register) {
        self.put(three(0x03 << 2 | 1, value, address, 2, to) | 0x2f);
    }

    /// Keeps `before` in front of `after`, as other harts and devices see it.
    pub(super) fn fence(&mut self, before: Accesses, after: Accesses) {
        self.put(before.0 << 24 | after.0 << 20 | 0x0f);
    }

    /// Of the extension Zihintpause: a fence that keeps nothing in order.
    pub(super) fn pause(&mut self) {
        self.put(Accesses::WRITES.0 << 24 | 0x0f);
    }

    pub(super) fn fence_i(&mut self) {
        self.put(0x0000_100f);
    }

    /// For all addresses of all address spaces.
    pub(super) fn sfence_vma(&mut self) {
        self.put(0x1200_0073);
    }

    pub(super) fn wfi(&mut self) {
        self.put(0x1050_0073);
    }

    pub(super) fn mret(&mut self) {
        self.put(0x3020_0073);
    }

    fn refer(&mut self, to: Label, form: Form) {
        let at = self.words.len();
        self.references.push(Reference { at, to, form });
    }

    fn put(&mut self, word: u32) {
        self.words.push(word);
    }
}

impl Form {
    fn reaches(self, distance: i32) -> bool {
        match self {
            Self::Branch => (-0x1000..0x1000).contains(&distance),
            Self::Jump => (-0x10_0000..0x10_0000).contains(&distance),
            // What `addi` adds has a sign.
            Self::Pair => distance < i32::MAX - 0x7ff,
        }
    }

    /// What is put into the instruction, or into both.
    fn words(self, distance: i32) -> [u32; 2] {
        let bits = distance.cast_unsigned();
        let field = |from: u32, len: u32, to: u32| (bits >> from & !(u32::MAX << len)) << to;
        match self {
            Self::Branch => [
                field(12, 1, 31) | field(5, 6, 25) | field(1, 4, 8) | field(11, 1, 7),
                0,
            ],
            Self::Jump => [
                field(20, 1, 31) | field(1, 10, 21) | field(11, 1, 20) | field(12, 8, 12),
                0,
            ],
            Self::Pair => [
                distance.wrapping_add(0x800).cast_unsigned() & 0xffff_f000,
                field(0, 12, 20),
            ],
        }
    }
}

/// The lowest 12 bits, as a number with a sign.
const fn low_12(value: i64) -> i64 {
    value << 52 >> 52
}

/// The fields of an instruction with three registers.
const fn three(funct7: u32, rs2: Register, rs1: Register, funct3: u32, rd: Register) -> u32 {
    funct7 << 25 | rs2.bits() << 20 | rs1.bits() << 15 | funct3 << 12 | rd.bits() << 7
}

/// Those of one with two registers and 12 bits.
fn immediate(value: i64, rs1: Register, funct3: u32, rd: Register) -> u32 {
    bits_of(value) << 20 | three(0, ZERO, rs1, funct3, rd)
}

/// Those of one with one register and the upper 20 bits of `value`, to which the sign of the lower
/// 12 is added.
const fn upper(rd: Register, value: i32) -> u32 {
    value.wrapping_add(0x800).cast_unsigned() & 0xffff_f000 | rd.bits() << 7
}

/// What an instruction holds in 12 bits.
fn bits_of(value: i64) -> u32 {
    assert_eq!(low_12(value), value, "12 bits and a sign");
    let [low, high, ..] = value.to_le_bytes();
    u32::from_le_bytes([low, high & 0xf, 0, 0])
}
