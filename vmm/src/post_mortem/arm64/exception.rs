//! Why an exception was taken (DDI 0487, section D19.2.40, "ESR_EL1").

use std::fmt;

/// What `ESR_ELx` holds.
pub(super) struct Syndrome(pub(super) u64);

impl Syndrome {
    /// The exception class: bits 26 to 31.
    const fn class(&self) -> u64 {
        self.0 >> 26 & 0x3f
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class();
        match class {
            0x00 => f.write_str("undefined instruction"),
            0x07 => f.write_str("floating-point or vector instruction while these are off"),
            0x0e => f.write_str("illegal execution state"),
            0x11 | 0x15 => f.write_str("system call"),
            0x12 | 0x16 => f.write_str("call to a hypervisor"),
            0x13 | 0x17 => f.write_str("call to secure firmware"),
            0x18 => f.write_str("system register that is not there"),
            0x20 | 0x21 => write!(f, "instruction abort, {}", Fault(self.0)),
            0x22 => f.write_str("program counter that is not aligned"),
            0x24 | 0x25 => write!(f, "data abort, {}", Fault(self.0)),
            0x26 => f.write_str("stack pointer that is not aligned"),
            0x2f => f.write_str("SError"),
            0x3c => f.write_str("breakpoint instruction"),
            _ => write!(f, "exception of class {class:#x}"),
        }
    }
}

/// The status code of an abort: bits 0 to 5.
struct Fault(u64);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0 & 0x3f;
        let level = code & 3;
        match code {
            0x00..=0x03 => write!(f, "address size fault at level {level}"),
            0x04..=0x07 => write!(f, "translation fault at level {level}"),
            0x08..=0x0b => write!(f, "access flag fault at level {level}"),
            0x0c..=0x0f => write!(f, "permission fault at level {level}"),
            0x10 => f.write_str("nothing answers at the address"),
            0x21 => f.write_str("address that is not aligned"),
            _ => write!(f, "status {code:#x}"),
        }
    }
}
