//! Reads the instructions that the firmware is made of, by itself: it shares no number with what
//! writes them.

use core::fmt;

/// An instruction, and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) name: &'static str,
    pub(super) rd: usize,
    pub(super) rs1: usize,
    pub(super) rs2: usize,
    /// The constant in it; of one that accesses a CSR, that one's number.
    pub(super) value: i64,
}

impl Instruction {
    pub(super) fn decode(word: u32) -> Option<Self> {
        let field = |from: u32, len: u32| word >> from & !(u32::MAX << len);
        let signed = |from: u32| i64::from(word.cast_signed() >> from);
        let (funct3, funct7) = (field(12, 3), field(25, 7));
        let immediate = signed(20);
        let (name, value) = match (field(0, 7), funct3) {
            (0x37, _) => ("lui", signed(12) << 12),
            (0x17, _) => ("auipc", signed(12) << 12),
            (0x13, 0) => ("addi", immediate),
            (0x13, 7) => ("andi", immediate),
            (0x13, 1) if funct7 >> 1 == 0 => ("slli", i64::from(field(20, 6))),
            (0x13, 5) if funct7 >> 1 == 0 => ("srli", i64::from(field(20, 6))),
            (0x1b, 0) => ("addiw", immediate),
            (0x33, 0) if funct7 == 0 => ("add", 0),
            (0x33, 0) if funct7 == 0x20 => ("sub", 0),
            (0x33, 5) if funct7 == 0 => ("srl", 0),
            (0x33, 6) if funct7 == 0 => ("or", 0),
            (0x3b, 0) if funct7 == 0x20 => ("subw", 0),
            (0x03, 2) => ("lw", immediate),
            (0x03, 3) => ("ld", immediate),
            (0x03, 4) => ("lbu", immediate),
            (0x23, 0) => ("sb", store_offset(word)),
            (0x23, 2) => ("sw", store_offset(word)),
            (0x23, 3) => ("sd", store_offset(word)),
            (0x63, 0) => ("beq", branch_offset(word)),
            (0x63, 1) => ("bne", branch_offset(word)),
            (0x63, 4) => ("blt", branch_offset(word)),
            (0x63, 5) => ("bge", branch_offset(word)),
            (0x63, 6) => ("bltu", branch_offset(word)),
            (0x63, 7) => ("bgeu", branch_offset(word)),
            (0x6f, _) => ("jal", jump_offset(word)),
            (0x67, 0) => ("jalr", immediate),
            (0x73, 1) => ("csrrw", i64::from(field(20, 12))),
            (0x73, 2) => ("csrrs", i64::from(field(20, 12))),
            (0x73, 3) => ("csrrc", i64::from(field(20, 12))),
            (0x2f, 2) => match (field(27, 5), field(25, 2)) {
                (0, 3) => ("amoadd.w.aqrl", 0),
                (1, 3) => ("amoswap.w.aqrl", 0),
                (2, 2) if field(20, 5) == 0 => ("lr.w.aq", 0),
                (3, 1) => ("sc.w.rl", 0),
                _ => return None,
            },
            _ => match word {
                0x0100_000f => ("pause", 0),
                0x0000_100f => ("fence.i", 0),
                0x1200_0073 => ("sfence.vma", 0),
                0x1050_0073 => ("wfi", 0),
                0x3020_0073 => ("mret", 0),
                _ if word & 0xf00f_ffff == 0x0f => ("fence", i64::from(field(20, 8))),
                _ => return None,
            },
        };
        Some(Self {
            name,
            rd: field(7, 5) as usize,
            rs1: field(15, 5) as usize,
            rs2: field(20, 5) as usize,
            value,
        })
    }

    /// How far away it leads, where it is a branch or a jump to a known place.
    pub(super) fn leads(&self) -> Option<i64> {
        matches!(
            self.name,
            "beq" | "bne" | "blt" | "bge" | "bltu" | "bgeu" | "jal"
        )
        .then_some(self.value)
    }
}

fn store_offset(word: u32) -> i64 {
    i64::from(word.cast_signed() >> 25) << 5 | i64::from(word >> 7 & 0x1f)
}

fn branch_offset(word: u32) -> i64 {
    i64::from(word.cast_signed() >> 31) << 12
        | i64::from(word >> 7 & 1) << 11
        | i64::from(word >> 25 & 0x3f) << 5
        | i64::from(word >> 8 & 0xf) << 1
}

fn jump_offset(word: u32) -> i64 {
    i64::from(word.cast_signed() >> 31) << 20
        | i64::from(word >> 12 & 0xff) << 12
        | i64::from(word >> 20 & 1) << 11
        | i64::from(word >> 21 & 0x3ff) << 1
}

/// As assemblers write it, but for abbreviations.
impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, .. } = *self;
        let [rd, rs1, rs2] = [self.rd, self.rs1, self.rs2].map(|number| NAMES[number]);
        match name {
            "lui" | "auipc" => write!(f, "{name} {rd}, {:#x}", value >> 12 & 0xf_ffff),
            "addi" | "addiw" | "andi" | "slli" | "srli" => {
                write!(f, "{name} {rd}, {rs1}, {value}")
            }
            "add" | "sub" | "subw" | "or" | "srl" => write!(f, "{name} {rd}, {rs1}, {rs2}"),
            "lw" | "ld" | "lbu" | "jalr" => write!(f, "{name} {rd}, {value}({rs1})"),
            "sw" | "sd" | "sb" => write!(f, "{name} {rs2}, {value}({rs1})"),
            "jal" => write!(f, "{name} {rd}, {value:+}"),
            "csrrw" | "csrrs" | "csrrc" => write!(f, "{name} {rd}, {}, {rs1}", csr(value)),
            "lr.w.aq" => write!(f, "{name} {rd}, ({rs1})"),
            "sc.w.rl" | "amoadd.w.aqrl" | "amoswap.w.aqrl" => {
                write!(f, "{name} {rd}, {rs2}, ({rs1})")
            }
            "fence" => write!(f, "{name} {:#06b}, {:#06b}", value >> 4, value & 0xf),
            "pause" | "fence.i" | "sfence.vma" | "wfi" | "mret" => f.write_str(name),
            _ => write!(f, "{name} {rs1}, {rs2}, {value:+}"),
        }
    }
}

const NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6",
];

fn csr(number: i64) -> &'static str {
    match number {
        0x100 => "sstatus",
        0x104 => "sie",
        0x106 => "scounteren",
        0x14d => "stimecmp",
        0x180 => "satp",
        0x300 => "mstatus",
        0x302 => "medeleg",
        0x303 => "mideleg",
        0x304 => "mie",
        0x305 => "mtvec",
        0x306 => "mcounteren",
        0x30a => "menvcfg",
        0x340 => "mscratch",
        0x341 => "mepc",
        0x342 => "mcause",
        0x344 => "mip",
        0x3a0 => "pmpcfg0",
        0x3b0 => "pmpaddr0",
        0x3b1 => "pmpaddr1",
        0xf11 => "mvendorid",
        0xf12 => "marchid",
        0xf13 => "mimpid",
        0xf14 => "mhartid",
        other => panic!("the firmware has no business with CSR {other:#x}"),
    }
}
