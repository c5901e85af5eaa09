//! Calls by the supervisor: A7 has the extension, A6 the function, A0 to A5 what it takes
//! (SBI 2.0, chapter 3).

use super::assembler::{A0, A1, A6, A7, Assembler, Condition, Csr, Label, T0, T1};
use super::routine::Routines;
use super::{Machine, console, hsm, request, reset};

/// What the firmware can be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Chapter 4.
    Base = 0x10,
    /// Chapter 6: "TIME".
    Timer = 0x5449_4d45,
    /// Chapter 7: "sPI".
    Interrupt = 0x73_5049,
    /// Chapter 8: "RFNC".
    RemoteFence = 0x5246_4e43,
    /// Chapter 9: "HSM".
    HartState = 0x48_534d,
    /// Chapter 10: "SRST".
    Reset = 0x5352_5354,
    /// Chapter 12: "DBCN".
    Console = 0x4442_434e,
    /// Chapter 5: "Set Timer".
    LegacyTimer = 0,
    /// Chapter 5: "Console Putchar".
    LegacyPutchar = 1,
    /// Chapter 5: "System Shutdown".
    LegacyShutdown = 8,
}

impl Extension {
    const ALL: [Self; 10] = [
        Self::Timer,
        Self::Interrupt,
        Self::RemoteFence,
        Self::HartState,
        Self::Base,
        Self::Reset,
        Self::Console,
        Self::LegacyTimer,
        Self::LegacyPutchar,
        Self::LegacyShutdown,
    ];

    fn put(self, code: &mut Assembler, routines: &Routines, machine: &Machine) {
        match self {
            Self::Base => base(code, routines),
            Self::Timer => timer(code, routines),
            Self::Interrupt => interrupt(code, routines, machine),
            Self::RemoteFence => remote_fence(code, routines, machine),
            Self::HartState => hsm::call(code, routines, machine),
            Self::Reset => reset::call(code, routines),
            Self::Console => console::call(code, routines, machine),
            Self::LegacyTimer => legacy_timer(code, routines),
            Self::LegacyPutchar => console::legacy_putchar(code, routines),
            Self::LegacyShutdown => reset::shut_down(code),
        }
    }
}

/// Goes to the extension that A7 has. An `ecall` has 4 bytes, and is over.
pub(super) fn dispatch(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    code.bind(routines.call);
    code.csr_read(T0, Csr::Mepc);
    code.addi(T0, T0, 4);
    code.csr_write(Csr::Mepc, T0);
    let extensions = Extension::ALL.map(|extension| (extension, code.label()));
    for (extension, label) in extensions {
        code.li(T0, extension as u64);
        code.branch(Condition::Equal, A7, T0, label);
    }
    code.jump(routines.failures.not_supported);
    for (extension, label) in extensions {
        code.bind(label);
        extension.put(code, routines, machine);
    }
}

/// Goes to the label whose place in the list is the function's number, or says that there is none.
pub(super) fn choose_function(code: &mut Assembler, routines: &Routines, functions: &[Label]) {
    for (number, &label) in (0..).zip(functions) {
        code.li(T0, number);
        code.branch(Condition::Equal, A6, T0, label);
    }
    code.jump(routines.failures.not_supported);
}

/// Goes on only with function 0, the only one that there is.
pub(super) fn only_function(code: &mut Assembler, routines: &Routines) {
    let there = code.label();
    choose_function(code, routines, &[there]);
    code.bind(there);
}

fn base(code: &mut Assembler, routines: &Routines) {
    /// Major and minor number.
    const SPECIFICATION: u64 = 2 << 24;
    /// "FL": none of those in the specification's list.
    const IMPLEMENTATION: u64 = 0x464c;
    const VERSION: u64 = 1;
    let constants = [SPECIFICATION, IMPLEMENTATION, VERSION];
    let registers = [Csr::Mvendorid, Csr::Marchid, Csr::Mimpid];
    let constants = constants.map(|value| (value, code.label()));
    let probe = code.label();
    let registers = registers.map(|csr| (csr, code.label()));
    let functions = [
        &constants.map(|(_, label)| label)[..],
        &[probe],
        &registers.map(|(_, label)| label),
    ];
    choose_function(code, routines, &functions.concat());
    for (value, label) in constants {
        code.bind(label);
        code.li(A1, value);
        code.jump(routines.value);
    }
    for (csr, label) in registers {
        code.bind(label);
        code.csr_read(A1, csr);
        code.jump(routines.value);
    }
    code.bind(probe);
    code.li(A1, 1);
    for extension in Extension::ALL {
        code.li(T0, extension as u64);
        code.branch(Condition::Equal, A0, T0, routines.value);
    }
    code.jump(routines.success);
}

fn timer(code: &mut Assembler, routines: &Routines) {
    only_function(code, routines);
    code.csr_write(Csr::Stimecmp, A0);
    code.jump(routines.success);
}

/// Leaves A1 alone, as legacy calls do.
fn legacy_timer(code: &mut Assembler, routines: &Routines) {
    code.csr_write(Csr::Stimecmp, A0);
    code.jump(routines.value);
}

fn interrupt(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    only_function(code, routines);
    request::interrupt(code, routines, machine);
    code.jump(routines.success);
}

/// Functions 0 to 2; those behind are for hypervisors, which have instructions of their own.
fn remote_fence(code: &mut Assembler, routines: &Routines, machine: &Machine) {
    const FUNCTIONS: u64 = 3;
    code.li(T1, FUNCTIONS);
    let not_supported = routines.failures.not_supported;
    code.branch(Condition::NotBelow, A6, T1, not_supported);
    request::fence(code, routines, machine);
    code.jump(routines.success);
}
