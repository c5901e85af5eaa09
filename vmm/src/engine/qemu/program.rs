//! Which program QEMU is, and where.

use super::QemuError;
use firstlight_image::Architecture;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Names another QEMU than the one on the `PATH`.
const VARIABLE: &str = "FIRSTLIGHT_QEMU";

/// What runs guests of an architecture.
struct Program {
    name: &'static str,
    /// What to install, as somebody is told it.
    packages: &'static str,
}

impl Program {
    fn of(architecture: Architecture) -> Option<Self> {
        let program = |name, packages| Some(Self { name, packages });
        match architecture {
            Architecture::I386 | Architecture::X86_64 => program(
                "qemu-system-x86_64",
                "qemu-system-x86 (Debian, Ubuntu, Fedora, Arch)",
            ),
            Architecture::Arm64 => program(
                "qemu-system-aarch64",
                "qemu-system-arm (Debian, Ubuntu) or qemu-system-aarch64 (Fedora, Arch)",
            ),
            Architecture::Riscv64 => program(
                "qemu-system-riscv64",
                "qemu-system-riscv (Debian 13, Fedora, Arch) or qemu-system-misc (before; Ubuntu)",
            ),
            Architecture::Arm
            | Architecture::Riscv32
            | Architecture::Loongarch64
            | Architecture::Unknown => None,
        }
    }
}

/// The program for guests of `architecture`.
///
/// # Errors
///
/// [`QemuError`] where there is none.
pub(super) fn find(architecture: Architecture) -> Result<PathBuf, QemuError> {
    let program = Program::of(architecture).ok_or(QemuError::Machine { architecture })?;
    if let Some(name) = env::var_os(VARIABLE) {
        return look_for(&name).ok_or_else(|| QemuError::NotThere {
            variable: VARIABLE,
            program: name.to_string_lossy().into_owned(),
        });
    }
    look_for(&OsString::from(program.name)).ok_or(QemuError::Missing {
        program: program.name,
        packages: program.packages,
    })
}

fn look_for(name: &OsString) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file();
    if Path::new(name).components().count() > 1 {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(is_program)
}
