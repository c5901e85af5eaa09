//! A guest of a few instructions that tells whether a hypervisor can run stock kernels.
//!
//! Some hosts offer a KVM without hardware virtualisation: it opens, makes machines, runs small
//! guests, and gives up in the middle of a kernel's start at an instruction that it cannot
//! emulate. The probe runs those instructions, in 64-bit mode, before a kernel has to.

use crate::{Exit, HvError, Hypervisor, InternalError, Kicker, Vcpu, Vm};
use firstlight_base::x86::{
    Cr0, Cr4, DescriptorTable, Efer, Gprs, RFLAGS_RESERVED, Registers, Segment,
};
use firstlight_base::{Gpa, GpaRange, GuestMem, KIB, Port, VcpuId, VcpuState};
use firstlight_load::{Backing, GuestMemory};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What became of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step worked: a stock kernel will run.
    Passed,
    /// A step did not.
    Failed {
        /// The step; `None` where the guest did not even get to the first.
        step: Option<Step>,
        /// What happened instead.
        instead: Instead,
    },
}

/// What the probe tries, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `lock cmpxchg16b`, with which kernels allocate memory.
    CompareExchange,
    /// `fxrstor64`.
    RestoreLegacyState,
    /// `xrstor64`, with which kernels start their floating-point unit.
    RestoreState,
    /// `int3` through an interrupt table, with which kernels test that they may patch themselves.
    Breakpoint,
}

/// What happened instead of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// The hypervisor gave up.
    GaveUp(InternalError),
    /// The instruction ran, and did something else.
    WrongResult,
    /// The guest's processor shut itself down.
    Shutdown,
    /// The guest was still at it when its time was over.
    Hung,
    /// An exit that the probe does not cause.
    Other(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("it can run stock kernels"),
            Self::Failed { step: None, .. } => f.write_str("it cannot run 64-bit code at all"),
            Self::Failed {
                step: Some(step),
                instead,
            } => write!(f, "at `{step}`, {instead}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CompareExchange => "lock cmpxchg16b",
            Self::RestoreLegacyState => "fxrstor64",
            Self::RestoreState => "xrstor64",
            Self::Breakpoint => "int3",
        })
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp(error) => fmt::Display::fmt(error, f),
            Self::WrongResult => f.write_str("the processor did something else"),
            Self::Shutdown => f.write_str("the processor shut itself down"),
            Self::Hung => f.write_str("the guest hung"),
            Self::Other(exit) => write!(f, "the guest stopped with {exit}"),
        }
    }
}

/// More than a thousand times what the probe takes.
const TIME: Duration = Duration::from_secs(1);

/// Runs the probe on `hypervisor`. It never takes much longer than a second.
///
/// # Errors
///
/// [`HvError`] where the host does not even let the probe be set up.
pub fn probe<V: Vm<Vcpu: 'static> + 'static>(
    hypervisor: &impl Hypervisor<Vm = V>,
) -> Result<Verdict, HvError> {
    let mut vm = hypervisor.create_vm()?;
    vm.map(memory()?)?;
    let mut vcpu = vm.create_vcpu(VcpuId::BOOT, 1)?;
    vcpu.set_state(&VcpuState::X86(entry()))?;
    let (done, when_done) = mpsc::channel();
    let kicker = vcpu.kicker();
    thread::spawn(move || watch(&kicker, &when_done));
    let verdict = follow(&mut vcpu, Instant::now() + TIME);
    // Nobody to take it: then it is taken apart here.
    let _ = done.send((vcpu, vm));
    verdict
}

/// Kicks the vCPU whenever its time is over, until the machine is handed over to be taken apart:
/// the kernel takes some milliseconds for that, which nobody else has to wait for.
fn watch<M>(kicker: &Kicker, when_done: &Receiver<M>) {
    loop {
        match when_done.recv_timeout(TIME) {
            Err(RecvTimeoutError::Timeout) => kicker.kick(),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Where the guest says which step is next, and how it ended.
const PROGRESS: Port = Port(0x10);
const DONE: u8 = 5;
const WRONG: u8 = 6;

impl Step {
    /// The step that the guest announces with `number`.
    fn numbered(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::CompareExchange),
            2 => Some(Self::RestoreLegacyState),
            3 => Some(Self::RestoreState),
            4 => Some(Self::Breakpoint),
            _ => None,
        }
    }
}

/// Runs the guest to its end.
fn follow(vcpu: &mut impl Vcpu, deadline: Instant) -> Result<Verdict, HvError> {
    let mut step = None;
    let instead = loop {
        match vcpu.run()? {
            Exit::PortWrite {
                port: PROGRESS,
                data: [DONE],
            } => return Ok(Verdict::Passed),
            Exit::PortWrite {
                port: PROGRESS,
                data: [WRONG],
            } => break Instead::WrongResult,
            Exit::PortWrite {
                port: PROGRESS,
                data: &[number],
            } if Step::numbered(number).is_some() => step = Step::numbered(number),
            Exit::Interrupted => {
                if Instant::now() >= deadline {
                    break Instead::Hung;
                }
            }
            Exit::InternalError(error) => break Instead::GaveUp(error),
            Exit::Shutdown => break Instead::Shutdown,
            exit @ (Exit::PortRead { .. }
            | Exit::PortWrite { .. }
            | Exit::MmioRead { .. }
            | Exit::MmioWrite { .. }
            | Exit::Halt
            | Exit::FailEntry { .. }
            | Exit::SystemEvent { .. }
            | Exit::Unknown(_)) => break Instead::Other(format!("{exit:?}")),
        }
    };
    Ok(Verdict::Failed { step, instead })
}

/// Where everything is in the guest's memory.
const RAM: u64 = 64 * KIB;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PAGE_DIRECTORY: u64 = 0x3000;
const IDT: u64 = 0x4000;
const GDT: u64 = 0x5000;
const CODE: u64 = 0x6000;
/// What `lock cmpxchg16b` compares with zero, and finds equal.
const WORDS: u64 = 0x7000;
const LEGACY_STATE: u64 = 0x8000;
/// An XSAVE area whose header says that every state is the initial one.
const STATE: u64 = 0x9000;
const STACK: u64 = 0xf000;
const CODE_SELECTOR: u16 = 0x8;

/// The guest. It knows the addresses above, so they are checked against it in the tests.
#[rustfmt::skip]
const PROGRAM: [u8; 0x8c] = [
    0xb8, 0x01, 0x00, 0x00, 0x00,               // mov eax, 1
    0x0f, 0xa2,                                 // cpuid
    0x89, 0xce,                                 // mov esi, ecx
    0x31, 0xed,                                 // xor ebp, ebp
    0xf7, 0xc6, 0x00, 0x20, 0x00, 0x00,         // test esi, 1 << 13 (cmpxchg16b)
    0x74, 0x28,                                 // jz 1f
    0xb0, 0x01,                                 // mov al, 1
    0xe6, 0x10,                                 // out 0x10, al
    0x31, 0xc0,                                 // xor eax, eax
    0x31, 0xd2,                                 // xor edx, edx
    0xbb, 0x11, 0x00, 0x00, 0x00,               // mov ebx, 0x11
    0xb9, 0x22, 0x00, 0x00, 0x00,               // mov ecx, 0x22
    0xf0, 0x48, 0x0f, 0xc7, 0x0c, 0x25, 0x00, 0x70, 0x00, 0x00, // lock cmpxchg16b [0x7000]
    0x75, 0x52,                                 // jne wrong
    0x83, 0x3c, 0x25, 0x08, 0x70, 0x00, 0x00, 0x22, // cmp dword ptr [0x7008], 0x22
    0x75, 0x48,                                 // jne wrong
    0xb0, 0x02,                                 // 1: mov al, 2
    0xe6, 0x10,                                 // out 0x10, al
    0x48, 0x0f, 0xae, 0x0c, 0x25, 0x00, 0x80, 0x00, 0x00, // fxrstor64 [0x8000]
    0xf7, 0xc6, 0x00, 0x00, 0x00, 0x04,         // test esi, 1 << 26 (xsave)
    0x74, 0x24,                                 // jz 2f
    0xb0, 0x03,                                 // mov al, 3
    0xe6, 0x10,                                 // out 0x10, al
    0x0f, 0x20, 0xe0,                           // mov rax, cr4
    0x0d, 0x00, 0x00, 0x04, 0x00,               // or eax, 1 << 18 (OSXSAVE)
    0x0f, 0x22, 0xe0,                           // mov cr4, rax
    0x31, 0xc9,                                 // xor ecx, ecx
    0x31, 0xd2,                                 // xor edx, edx
    0xb8, 0x03, 0x00, 0x00, 0x00,               // mov eax, 3 (x87 and SSE)
    0x0f, 0x01, 0xd1,                           // xsetbv
    0x48, 0x0f, 0xae, 0x2c, 0x25, 0x00, 0x90, 0x00, 0x00, // xrstor64 [0x9000]
    0xb0, 0x04,                                 // 2: mov al, 4
    0xe6, 0x10,                                 // out 0x10, al
    0xcc,                                       // int3
    0x83, 0xfd, 0x01,                           // cmp ebp, 1
    0x75, 0x05,                                 // jne wrong
    0xb0, 0x05,                                 // mov al, 5
    0xe6, 0x10,                                 // out 0x10, al
    0xf4,                                       // hlt
    0xb0, 0x06,                                 // wrong: mov al, 6
    0xe6, 0x10,                                 // out 0x10, al
    0xf4,                                       // hlt
    0xff, 0xc5,                                 // handler: inc ebp
    0x48, 0xcf,                                 // iretq
];
/// Where in the program the handler of `int3` begins.
const HANDLER: u64 = 0x88;

fn memory() -> Result<Arc<GuestMemory>, HvError> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE_PAGE: u64 = 1 << 7;
    let ram = GpaRange::new(Gpa::new(0), RAM).expect("64 KiB from 0");
    let memory =
        GuestMemory::allocate(&[ram], Backing::Private).map_err(|error| HvError::Refused {
            what: "have memory for the probe",
            source: error.source.into(),
        })?;
    let put = |at: u64, bytes: &[u8]| {
        let written = memory.write(Gpa::new(at), bytes);
        written.expect("everything is inside the 64 KiB");
    };
    let words = |at: u64, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        put(at, &bytes);
    };
    words(PML4, &[PDPT | PRESENT_WRITABLE]);
    words(PDPT, &[PAGE_DIRECTORY | PRESENT_WRITABLE]);
    words(PAGE_DIRECTORY, &[LARGE_PAGE | PRESENT_WRITABLE]);
    words(GDT, &[0, Segment::code64(CODE_SELECTOR).descriptor()]);
    words(IDT + 16 * BREAKPOINT, &gate(CODE + HANDLER));
    put(CODE, &PROGRAM);
    words(WORDS, &[0; 2]);
    words(STATE, &[0; (512 + 64) / 8]);
    put(LEGACY_STATE, &0x37f_u16.to_le_bytes());
    put(LEGACY_STATE + 24, &0x1f80_u32.to_le_bytes());
    Ok(Arc::new(memory))
}

/// The vector of `int3`.
const BREAKPOINT: u64 = 3;

/// A 64-bit interrupt gate (Intel SDM volume 3A, figure 6-8) to a handler below 4 GiB.
fn gate(handler: u64) -> [u64; 2] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
    let selector = u64::from(CODE_SELECTOR) << 16;
    let offset = handler & 0xffff | (handler & 0xffff_0000) << 32;
    [offset | selector | PRESENT_INTERRUPT_GATE, 0]
}

fn entry() -> Registers {
    let data = Segment::data32(0);
    Registers {
        gprs: Gprs {
            rip: CODE,
            rsp: STACK,
            rflags: RFLAGS_RESERVED,
            ..Gprs::default()
        },
        cs: Segment::code64(CODE_SELECTOR),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: Segment::task(0),
        ldt: Segment::UNUSABLE,
        gdt: DescriptorTable {
            base: GDT,
            limit: 0xf,
        },
        idt: DescriptorTable {
            base: IDT,
            limit: 0xfff,
        },
        cr0: Cr0::PE | Cr0::MP | Cr0::ET | Cr0::NE | Cr0::WP | Cr0::PG,
        cr2: 0,
        cr3: PML4,
        cr4: Cr4::PAE | Cr4::OSFXSR,
        efer: Efer::LME | Efer::LMA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{self, Script};

    fn announces(number: u8) -> script::Step {
        script::Step::PortWrite {
            port: PROGRESS,
            data: vec![number],
        }
    }

    fn verdict(steps: Vec<script::Step>) -> Verdict {
        probe(&Script::new().vcpu(VcpuId::BOOT, steps)).unwrap()
    }

    #[test]
    fn the_program_knows_where_its_data_is() {
        let holds = |bytes: &[u8]| PROGRAM.windows(bytes.len()).any(|window| window == bytes);
        for address in [WORDS, WORDS + 8, LEGACY_STATE, STATE] {
            assert!(holds(&u32::try_from(address).unwrap().to_le_bytes()));
        }
        let handler = usize::try_from(HANDLER).unwrap();
        assert_eq!(PROGRAM[handler..], [0xff, 0xc5, 0x48, 0xcf]);
    }

    #[test]
    fn a_guest_that_gets_to_its_end_has_passed() {
        let steps = (1..=DONE).map(announces).collect();
        assert_eq!(verdict(steps), Verdict::Passed);
    }

    #[test]
    fn a_failure_names_the_step_and_the_instruction() {
        let error = InternalError {
            suberror: InternalError::EMULATION,
            data: vec![],
            instruction: vec![0xf0, 0x48],
        };
        let failed = verdict(vec![announces(1), script::Step::InternalError(error)]);
        assert_eq!(
            failed.to_string(),
            "at `lock cmpxchg16b`, the hypervisor gave up: it cannot emulate an instruction of \
             the guest (suberror 1), at the bytes f0 48"
        );
        assert_eq!(
            verdict(vec![announces(4), announces(WRONG)]).to_string(),
            "at `int3`, the processor did something else"
        );
        assert_eq!(
            verdict(vec![script::Step::Shutdown]).to_string(),
            "it cannot run 64-bit code at all"
        );
    }

    #[test]
    fn a_guest_that_hangs_ends_all_the_same() {
        let hung = verdict(vec![announces(3), script::Step::Compute]);
        let step = Some(Step::RestoreState);
        let instead = Instead::Hung;
        assert_eq!(hung, Verdict::Failed { step, instead });
    }

    #[test]
    fn a_host_that_fails_is_no_verdict() {
        let script = Script::new().vcpu(VcpuId::BOOT, [script::Step::HostFails]);
        assert!(probe(&script).is_err());
    }
}
