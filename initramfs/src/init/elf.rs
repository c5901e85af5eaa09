//! The file that holds a program and its interpreter: as small as an ELF file gets (System V ABI,
//! chapters 4 and 5: a file header, two loadable segments, what is in them).

use super::call::Numbers;
use super::program::Program;
use super::{arm64, riscv64, x86_64};
use firstlight_image::Architecture;

/// What carries programs out on an architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// `e_machine`
    machine: u16,
    code: Vec<u8>,
    numbers: Numbers,
}

impl Interpreter {
    /// The one for `architecture`, where there is one.
    pub(crate) fn of(architecture: Architecture) -> Option<Self> {
        let words = |code: &[u32]| code.iter().flat_map(|word| word.to_le_bytes()).collect();
        match architecture {
            Architecture::X86_64 => Some(Self {
                machine: 62,
                code: x86_64::CODE.to_vec(),
                numbers: Numbers::X86_64,
            }),
            Architecture::Arm64 => Some(Self {
                machine: 183,
                code: words(&arm64::CODE),
                numbers: Numbers::Generic,
            }),
            Architecture::Riscv64 => Some(Self {
                machine: 243,
                code: words(&riscv64::CODE),
                numbers: Numbers::Generic,
            }),
            Architecture::I386
            | Architecture::Arm
            | Architecture::Riscv32
            | Architecture::Loongarch64
            | Architecture::Unknown => None,
        }
    }

    /// The file of `program`.
    pub(super) fn file(&self, program: &Program) -> Vec<u8> {
        let mut file = Vec::new();
        let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
        put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little endian, version 1
        put(&2_u16.to_le_bytes()); // ET_EXEC
        put(&self.machine.to_le_bytes());
        put(&1_u32.to_le_bytes()); // EV_CURRENT
        put(&(LOAD + HEADERS).to_le_bytes()); // e_entry
        put(&64_u64.to_le_bytes()); // e_phoff
        put(&0_u64.to_le_bytes()); // e_shoff
        put(&0_u32.to_le_bytes()); // e_flags
        for field in [64_u16, 56, 2, 64, 0, 0] {
            put(&field.to_le_bytes()); // e_ehsize, e_phentsize, e_phnum, e_shentsize, ...
        }
        let data = program.image(DATA, self.numbers);
        let code_end = HEADERS + self.code.len() as u64;
        assert!(code_end <= DATA_IN_FILE, "the code ends before the data");
        for (flags, from, address, size) in [
            (READ | EXECUTE, 0, LOAD, code_end),
            (READ | WRITE, DATA_IN_FILE, DATA, data.len() as u64),
        ] {
            put(&1_u32.to_le_bytes()); // PT_LOAD
            put(&flags.to_le_bytes());
            for field in [from, address, address, size, size, PAGE] {
                put(&field.to_le_bytes()); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
            }
        }
        put(&self.code);
        file.resize(DATA_IN_FILE_LEN, 0);
        file.extend_from_slice(&data);
        file
    }
}

/// Where the file lies in the program's memory.
const LOAD: u64 = 0x40_0000;
/// The sizes of the headers before the code.
const HEADERS: u64 = 64 + 2 * 56;
/// Where the data begin in the file.
const DATA_IN_FILE: u64 = 0x200;
const DATA_IN_FILE_LEN: usize = 0x200;
/// The largest pages that a kernel of these architectures has.
const PAGE: u64 = 0x1_0000;
/// Where the data lie in memory; the interpreters' code has this number, too.
const DATA: u64 = LOAD + PAGE + DATA_IN_FILE;

/// `PF_X`, `PF_W` and `PF_R`
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;
