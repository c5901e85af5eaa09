//! Reads what QEMU's monitor prints for `info registers -a`.

mod arm64;
mod riscv64;
mod x86;

use firstlight_base::VcpuState;
use firstlight_image::Architecture;

/// The registers of every vCPU in `text`; `None` where one is missing, and of machines that there
/// are none of.
pub(super) fn parse(architecture: Architecture, text: &str) -> Option<Vec<VcpuState>> {
    let vcpus = text.split("CPU#").skip(1);
    vcpus.map(|text| vcpu(architecture, text)).collect()
}

fn vcpu(architecture: Architecture, text: &str) -> Option<VcpuState> {
    let dump = Dump::new(text);
    match architecture {
        Architecture::X86_64 => x86::registers(&dump).map(VcpuState::X86),
        Architecture::Arm64 => arm64::registers(&dump).map(VcpuState::Arm64),
        Architecture::Riscv64 => riscv64::registers(&dump).map(VcpuState::Riscv64),
        Architecture::I386
        | Architecture::Arm
        | Architecture::Riscv32
        | Architecture::Loongarch64
        | Architecture::Unknown => None,
    }
}

/// The words of a dump.
struct Dump {
    words: Vec<String>,
}

impl Dump {
    fn new(text: &str) -> Self {
        // Short names are padded: "R8 =", "ES =".
        let text = text.replace(" =", "=");
        Self {
            words: text.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// Where the words are that belong to `name=`: the index of this word, and what follows the
    /// sign in it.
    fn find(&self, name: &str) -> Option<(usize, &str)> {
        self.words.iter().enumerate().find_map(|(index, word)| {
            let value = word.strip_prefix(name)?.strip_prefix('=')?;
            Some((index, value))
        })
    }

    /// The number behind `name=`.
    fn number(&self, name: &str) -> Option<u64> {
        hex(self.find(name)?.1)
    }

    /// The number in the word behind the word `name`.
    fn number_after(&self, name: &str) -> Option<u64> {
        let index = self.words.iter().position(|word| word == name)?;
        self.behind(index, 1)
    }

    /// The number that is `offset` words behind.
    fn behind(&self, index: usize, offset: usize) -> Option<u64> {
        hex(self.words.get(index.checked_add(offset)?)?)
    }
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}
