//! Linux system calls, and their numbers.

/// A system call that init makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Chdir,
    Chroot,
    Clone,
    Close,
    Execve,
    ExitGroup,
    FinitModule,
    Getpid,
    /// On x86 alone.
    Ioperm,
    Ioctl,
    Kill,
    Mkdirat,
    Mount,
    Nanosleep,
    Openat,
    Read,
    Reboot,
    RtSigprocmask,
    Setsid,
    Socket,
    Sync,
    Unlinkat,
    Wait4,
    Write,
    Writev,
}

/// A table of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Linux `arch/x86/entry/syscalls/syscall_64.tbl`.
    X86_64,
    /// Linux `include/uapi/asm-generic/unistd.h`, for arm64 and riscv64.
    Generic,
}

impl Call {
    /// The number, where the architecture has the call.
    pub(super) const fn number(self, numbers: Numbers) -> Option<u32> {
        let (x86_64, generic) = match self {
            Self::Chdir => (80, 49),
            Self::Chroot => (161, 51),
            Self::Clone => (56, 220),
            Self::Close => (3, 57),
            Self::Execve => (59, 221),
            Self::ExitGroup => (231, 94),
            Self::FinitModule => (313, 273),
            Self::Getpid => (39, 172),
            Self::Ioperm => {
                return match numbers {
                    Numbers::X86_64 => Some(173),
                    Numbers::Generic => None,
                };
            }
            Self::Ioctl => (16, 29),
            Self::Kill => (62, 129),
            Self::Mkdirat => (258, 34),
            Self::Mount => (165, 40),
            Self::Nanosleep => (35, 101),
            Self::Openat => (257, 56),
            Self::Read => (0, 63),
            Self::Reboot => (169, 142),
            Self::RtSigprocmask => (14, 135),
            Self::Setsid => (112, 157),
            Self::Socket => (41, 198),
            Self::Sync => (162, 81),
            Self::Unlinkat => (263, 35),
            Self::Wait4 => (61, 260),
            Self::Write => (1, 64),
            Self::Writev => (20, 66),
        };
        Some(match numbers {
            Numbers::X86_64 => x86_64,
            Numbers::Generic => generic,
        })
    }
}
