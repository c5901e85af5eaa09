//! x86 guests of a few instructions on a real KVM, where there is one. It need not be one that could
//! run a kernel: that is tested with kernels.

use firstlight_base::{MIB, Port};
use firstlight_boot::{BootPlan, Pc, ProtocolChoice, Request, plan};
use firstlight_image::testing::elf64;
use firstlight_image::{Image, Limits as ImageLimits};
use firstlight_load::Sources;
use firstlight_vmm::{
    Console, CrashKind, Ending, Engine, Equipment, Limits, Machine, PostMortem, Progress, Reason,
};
use rustix::pipe::pipe;
use std::env::consts::ARCH;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Where these guests are loaded, and entered in 32-bit mode.
const ENTRY: u32 = 0x100_0000;

/// The 32-bit code of a guest in the making.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn new() -> Self {
        Self::default()
    }

    /// `mov $value, %al; mov $port, %edx; out %al, %dx`
    fn port(mut self, port: Port, value: u8) -> Self {
        self.0.extend([0xb0, value, 0xba]);
        self.0.extend(u32::from(port.0).to_le_bytes());
        self.0.push(0xee);
        self
    }

    /// `movb $value, register`
    fn acpi(mut self, register: u64, value: u8) -> Self {
        let at = Pc::ACPI_REGS.get() + register;
        let at = u32::try_from(at).expect("the registers lie below 4 GiB");
        self.0.extend([0xc6, 0x05]);
        self.0.extend(at.to_le_bytes());
        self.0.push(value);
        self
    }

    fn print(self, text: &str) -> Self {
        text.bytes()
            .fold(self, |code, byte| code.port(Pc::COM1.base, byte))
    }

    fn power_off(self) -> Self {
        self.acpi(0, 0x20 | Pc::ACPI_S5 << 2)
    }

    /// Any instructions.
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// `hlt`, without an interrupt that could end it; and again.
    fn halt(self) -> Self {
        self.raw(&[0xf4, 0xeb, 0xfd])
    }
}

fn there_is_a_kvm(test: &str) -> bool {
    if ARCH != "x86_64" {
        return false;
    }
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &opened {
        // Not by a macro: what those print is shown only where a test fails.
        let skipped = format!("SKIPPED {test}: /dev/kvm: {error}\n");
        io::stderr().write_all(skipped.as_bytes()).expect("stderr");
    }
    opened.is_ok()
}

fn planned(code: Code, cpus: u32) -> (Vec<u8>, BootPlan) {
    let kernel = elf64()
        .segment(u64::from(ENTRY), &code.halt().0, 0x1000)
        .pvh(ENTRY)
        .build();
    let image = Image::open(&kernel, &ImageLimits::default()).expect("it is an ELF");
    let request = Request {
        memory: 32 * MIB,
        cpus,
        cmdline: "quiet".to_owned(),
        protocol: ProtocolChoice::Only(firstlight_boot::Protocol::Pvh),
        debug_exit: true,
        ..Request::default()
    };
    let plan = plan(&image, &request).expect("there is room for it");
    (kernel, plan)
}

/// Runs a guest, and ends it after a while if it does not end itself; with what it printed.
fn run(code: Code, cpus: u32, typed: &[u8], timeout: Duration) -> (Ending, String) {
    let (kernel, plan) = planned(code, cpus);
    let sources = Sources {
        layers: &[&kernel],
        ..Sources::default()
    };
    let machine = Engine::Kvm.prepare(&plan, &sources, &Equipment::default());
    let machine = machine.expect("KVM makes a small machine");
    run_machine(machine, &plan, typed, timeout)
}

fn run_machine(
    machine: Machine,
    plan: &BootPlan,
    typed: &[u8],
    timeout: Duration,
) -> (Ending, String) {
    let (input, keyboard) = pipe().expect("there are descriptors left");
    let (screen, output) = pipe().expect("there are descriptors left");
    let mut keyboard = File::from(keyboard);
    keyboard.write_all(typed).expect("a pipe takes this much");
    let mut console = Console::new(input, output).expect("there are descriptors left");
    let limits = Limits {
        timeout: Some(timeout),
        boot_watchdog: None,
    };
    let ending = machine.run(plan, &limits, &mut console);
    let ending = ending.expect("the host does not fail");
    drop(console);
    let mut seen = String::new();
    let read = File::from(screen).read_to_string(&mut seen);
    read.expect("the guest prints text");
    (ending, seen)
}

const LONG: Duration = Duration::from_secs(60);

fn crash(code: Code) -> Box<PostMortem> {
    match run(code, 1, b"", LONG) {
        (Ending::Crashed(post_mortem), _) => post_mortem,
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_prints_and_turns_itself_off() {
    if !there_is_a_kvm("a_guest_prints_and_turns_itself_off") {
        return;
    }
    for cpus in [1, 2, 5] {
        let (ending, seen) = run(Code::new().print("hello\n").power_off(), cpus, b"", LONG);
        assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
        assert_eq!(seen, "hello\n");
    }
}

/// Writes its address to each page from 4 MiB to 8 MiB, and finds it there again and again.
fn counts_its_pages() -> Code {
    let next = [0x81, 0xc7, 0, 0x10, 0, 0, 0x81, 0xff, 0, 0, 0x80, 0];
    Code::new()
        .raw(&[0xbf, 0, 0, 0x40, 0]) // mov $0x400000, %edi
        .raw(&[0x89, 0x3f]) // mov %edi, (%edi)
        .raw(&next) // add $0x1000, %edi; cmp $0x800000, %edi
        .raw(&[0x72, 0xf0]) // jb, to the store
        .raw(&[0xb9, 200, 0, 0, 0]) // mov $200, %ecx
        .raw(&[0xbf, 0, 0, 0x40, 0]) // mov $0x400000, %edi
        .raw(&[0x39, 0x3f, 0x74, 2, 0x0f, 0x0b]) // cmp %edi, (%edi); je, over it; ud2
        .raw(&next)
        .raw(&[0x72, 0xec]) // jb, to the comparison
        .raw(&[0x49, 0x75, 0xe4]) // dec %ecx; jne, to the second mov
        .print("all there\n")
        .power_off()
}

#[test]
fn a_guest_whose_memory_goes_out_and_in_finds_all_of_it() {
    if !there_is_a_kvm("a_guest_whose_memory_goes_out_and_in_finds_all_of_it") {
        return;
    }
    let (kernel, plan) = planned(counts_its_pages(), 1);
    let sources = Sources {
        layers: &[&kernel],
        ..Sources::default()
    };
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let equipment = Equipment {
        swap: Some(folder.path().to_owned()),
        ..Equipment::default()
    };
    let machine = Engine::Kvm.prepare(&plan, &sources, &equipment);
    let machine = machine.expect("KVM makes a small machine");
    let swap = machine.swap().expect("it was asked for");
    // Even its first instruction is out.
    match swap.page_out() {
        Ok(status) => assert_eq!(status.resident, 0, "{status:?}"),
        Err(error) => {
            let skipped = format!("SKIPPED swapping on KVM: {error}\n");
            io::stderr().write_all(skipped.as_bytes()).expect("stderr");
            return;
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut faults = 0;
            while !over.load(Ordering::Relaxed) {
                faults += swap.page_out().expect("there is room").faults;
                swap.page_in().expect("the file can be read");
            }
            faults
        });
        let (ending, seen) = run_machine(machine, &plan, b"", LONG);
        over.store(true, Ordering::Relaxed);
        assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
        assert_eq!(seen, "all there\n");
        assert!(swapping.join().expect("it does not panic") > 0);
    });
}

#[test]
fn every_way_a_guest_can_end_its_machine_is_told_apart() {
    if !there_is_a_kvm("every_way_a_guest_can_end_its_machine_is_told_apart") {
        return;
    }
    let by = |code| run(code, 1, b"", LONG).0;
    let ending = by(Code::new().acpi(2, Pc::ACPI_RESET_VALUE));
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
    let ending = by(Code::new().port(Pc::I8042_COMMAND, 0xfe));
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
    let ending = by(Code::new().port(Pc::PVPANIC, 1));
    assert!(matches!(ending, Ending::Panicked), "{ending:?}");
    let ending = by(Code::new().port(Pc::DEBUG_EXIT, 3));
    assert!(matches!(ending, Ending::ExitCode(3)), "{ending:?}");
}

#[test]
fn a_jump_into_the_firmware_resets() {
    if !there_is_a_kvm("a_jump_into_the_firmware_resets") {
        return;
    }
    // mov $0xffff0, %eax; jmp *%eax: the code there is the same in 16 and 32 bits.
    let jump = [0xb8, 0xf0, 0xff, 0x0f, 0x00, 0xff, 0xe0];
    let (ending, _) = run(Code::new().raw(&jump), 1, b"", LONG);
    assert!(matches!(ending, Ending::Reset), "{ending:?}");
}

#[test]
fn a_triple_fault_is_a_crash() {
    if !there_is_a_kvm("a_triple_fault_is_a_crash") {
        return;
    }
    // ud2, without an interrupt table.
    let post_mortem = crash(Code::new().print("on the way\n").raw(&[0x0f, 0x0b]));
    let Reason::Crashed(_, kind) = &post_mortem.reason else {
        panic!("{post_mortem}");
    };
    assert_eq!(*kind, CrashKind::TripleFault);
    assert_eq!(post_mortem.last_line.as_deref(), Some("on the way"));
    assert_eq!(post_mortem.progress, Progress::Printing);
}

#[test]
fn what_nobody_claims_reads_all_ones() {
    if !there_is_a_kvm("what_nobody_claims_reads_all_ones") {
        return;
    }
    // mov $0xcf8, %edx; in %dx, %eax; cmp $-1, %eax; jne +7
    let read = [0xba, 0xf8, 0x0c, 0, 0, 0xed, 0x83, 0xf8, 0xff, 0x75, 0x08];
    let code = Code::new().raw(&read).port(Pc::DEBUG_EXIT, 1);
    let (ending, _) = run(code, 1, b"", LONG);
    assert!(matches!(ending, Ending::ExitCode(1)), "{ending:?}");
}

#[test]
fn string_output_loses_no_byte() {
    if !there_is_a_kvm("string_output_loses_no_byte") {
        return;
    }
    // mov $text, %esi; mov $len, %ecx; mov $0x3f8, %edx; cld; rep outsb
    let text = b"rep outsb sends them all\n";
    let text_at = ENTRY + 0x800;
    let mut string = vec![0xbe];
    string.extend(text_at.to_le_bytes());
    string.push(0xb9);
    string.extend(
        u32::try_from(text.len())
            .expect("a short text")
            .to_le_bytes(),
    );
    string.extend([0xba, 0xf8, 0x03, 0, 0, 0xfc, 0xf3, 0x6e]);
    let mut code = Code::new().raw(&string).power_off().halt();
    code.0.resize(0x800, 0);
    code.0.extend(text);
    let (ending, seen) = run(code, 1, b"", LONG);
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    assert_eq!(seen.as_bytes(), text);
}

#[test]
fn typed_text_longer_than_the_fifo_comes_back_whole() {
    if !there_is_a_kvm("typed_text_longer_than_the_fifo_comes_back_whole") {
        return;
    }
    // next: mov $0x3fd, %edx; wait: in %dx, %al; test $1, %al; jz wait; mov $0x3f8, %edx;
    // in %dx, %al; out %al, %dx; cmp $4, %al; jne next
    let echo = [
        0xba, 0xfd, 0x03, 0, 0, 0xec, 0xa8, 0x01, 0x74, 0xfb, 0xba, 0xf8, 0x03, 0, 0, 0xec, 0xee,
        0x3c, 0x04, 0x75, 0xeb,
    ];
    let typed = format!("{}\x04", "0123456789".repeat(300));
    let code = Code::new().raw(&echo).power_off();
    let (ending, seen) = run(code, 2, typed.as_bytes(), LONG);
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    assert_eq!(seen, typed);
}

#[test]
fn a_silent_guest_is_examined_where_it_hangs() {
    if !there_is_a_kvm("a_silent_guest_is_examined_where_it_hangs") {
        return;
    }
    // A jump to itself, and a halt that nothing ends.
    for hang in [&[0xeb, 0xfe][..], &[0xf4, 0xeb, 0xfd]] {
        let code = Code::new().raw(&[0x90]).raw(hang);
        let (ending, _) = run(code, 1, b"", Duration::from_millis(300));
        let Ending::TimedOut(Some(post_mortem)) = ending else {
            panic!("{ending:?}");
        };
        let registers = post_mortem
            .registers
            .as_ref()
            .expect("a running vCPU is readable");
        let rip = registers.pc();
        assert!((0x100_0001..0x100_0004).contains(&rip), "{rip:#x}");
        assert_eq!(post_mortem.progress, Progress::StartUp);
        assert_eq!(post_mortem.at.map(firstlight_base::Gpa::get), Some(rip));
        let text = post_mortem.to_string();
        assert!(text.contains("no console= at all"), "{text}");
        assert!(text.contains("kernel segment 0 + 0x"), "{text}");
    }
}
