//! Why a vCPU stopped running.

use firstlight_base::{Gpa, Port};
use std::fmt;

/// What the guest wants, or what stopped it.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// The guest reads a port: `data` is what it gets.
    PortRead {
        /// The port.
        port: Port,
        /// 1, 2 or 4 bytes to fill.
        data: &'a mut [u8],
    },
    /// The guest writes a port.
    PortWrite {
        /// The port.
        port: Port,
        /// 1, 2 or 4 bytes.
        data: &'a [u8],
    },
    /// The guest reads an address that is not memory: `data` is what it gets.
    MmioRead {
        /// The address.
        at: Gpa,
        /// 1 to 8 bytes to fill.
        data: &'a mut [u8],
    },
    /// The guest writes an address that is not memory.
    MmioWrite {
        /// The address.
        at: Gpa,
        /// 1 to 8 bytes.
        data: &'a [u8],
    },
    /// The guest waits for an interrupt, and the machine has no interrupt controllers.
    Halt,
    /// A local APIC has ended an interrupt of this vector, which came of a level of an I/O APIC outside the
    /// hypervisor.
    EndOfInterrupt {
        /// The vector.
        vector: u8,
    },
    /// The vCPU takes an interrupt now, for which somebody [waited](crate::Vcpu::stop_to_interrupt), or may do so: its
    /// [task priority](crate::Vcpu::task_priority) is lower.
    InterruptWindow,
    /// The guest's processor shut itself down: a triple fault.
    ///
    /// On AMD processors KVM resets the vCPU before it says so, and its registers are lost.
    Shutdown,
    /// The hypervisor could not go on with the guest.
    InternalError(InternalError),
    /// The processor refused the guest's state.
    FailEntry {
        /// The hardware's reason, as the processor's manual numbers them.
        reason: u64,
    },
    /// The guest asked the hypervisor for something that concerns its whole machine, by PSCI or
    /// SBI.
    SystemEvent(SystemEvent),
    /// The guest called its supervisor execution environment for what the hypervisor leaves to
    /// its user.
    SbiCall {
        /// What it called for.
        call: SbiCall,
        /// What it gets in `a0` and `a1`: an error and a value. As it stands, that the call is
        /// not supported.
        answer: &'a mut [u64; 2],
    },
    /// The guest accessed an address that is not memory by an instruction that the processor does
    /// not describe to the hypervisor: one that loads two registers, for example (Arm DDI 0487,
    /// `ESR_EL2.ISV`).
    Undescribed {
        /// The address.
        at: Gpa,
    },
    /// The host could not do what the guest made it do, and says so with this `errno`.
    GuestFault(i32),
    /// Somebody kicked the vCPU, or a signal came for its thread.
    Interrupted,
    /// A reason that nobody here asked KVM for, by its number.
    Unknown(u32),
}

/// What a guest can ask for its whole machine (KVM API, section 5, `KVM_EXIT_SYSTEM_EVENT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemEvent {
    /// To be turned off.
    Shutdown,
    /// To be reset.
    Reset,
    /// To be known to have crashed.
    Crash,
    /// Something else, by KVM's number.
    Other(u32),
}

/// A call of a RISC-V guest (RISC-V Supervisor Binary Interface Specification 2.0, chapter 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SbiCall {
    /// The extension, from `a7`.
    pub extension: u64,
    /// The function, from `a6`.
    pub function: u64,
    /// `a0` to `a5`.
    pub arguments: [u64; 6],
}

/// What the hypervisor says of a guest that it could not go on with (KVM API, section 5,
/// `KVM_EXIT_INTERNAL_ERROR`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalError {
    /// What went wrong: `KVM_INTERNAL_ERROR_*`.
    pub suberror: u32,
    /// Whatever else the hypervisor reports; what it means depends on `suberror`.
    pub data: Vec<u64>,
    /// The bytes from the instruction on that could not be emulated, where the hypervisor has
    /// them: up to 15, so there may be more than the instruction.
    pub instruction: Vec<u8>,
}

impl InternalError {
    /// The hypervisor had to emulate an instruction and cannot.
    pub const EMULATION: u32 = 1;
    /// Two interrupts or exceptions at once.
    pub const SIMULTANEOUS_EXCEPTIONS: u32 = 2;
    /// An exception came up while another was being delivered.
    pub const DELIVERY_EVENT: u32 = 3;
    /// The processor stopped for a reason that the hypervisor does not know.
    pub const UNEXPECTED_EXIT_REASON: u32 = 4;

    /// What went wrong, in words.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self.suberror {
            Self::EMULATION => "it cannot emulate an instruction of the guest",
            Self::SIMULTANEOUS_EXCEPTIONS => "two exceptions came at once",
            Self::DELIVERY_EVENT => "it cannot deliver an event to the guest",
            Self::UNEXPECTED_EXIT_REASON => "the processor stopped for an unknown reason",
            _ => "unknown",
        }
    }
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the hypervisor gave up: {} (suberror {})",
            self.meaning(),
            self.suberror
        )?;
        if !self.instruction.is_empty() {
            f.write_str(", at the bytes")?;
            for byte in &self.instruction {
                write!(f, " {byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_error_reads_as_a_sentence_with_the_instruction() {
        let error = InternalError {
            suberror: InternalError::EMULATION,
            data: vec![],
            instruction: vec![0xf0, 0x48, 0x0f, 0xc7, 0x0f],
        };
        assert_eq!(
            error.to_string(),
            "the hypervisor gave up: it cannot emulate an instruction of the guest (suberror 1), \
             at the bytes f0 48 0f c7 0f"
        );
    }
}
