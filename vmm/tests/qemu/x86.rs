//! x86 guests.

use crate::{carry_out, nothing_typed, typed, within};
use firstlight_boot::{BootPlan, Module, Protocol, ProtocolChoice, Request, Unpack, plan, stub};
use firstlight_image::testing::{bzimage, elf64};
use firstlight_image::{Architecture, Codec, Image, Limits as ImageLimits};
use firstlight_load::Sources;
use firstlight_load::export::pvh_elf;
use firstlight_vmm::{Ending, Limits};
use std::fs::File;

fn there_is_a_qemu(test: &str) -> bool {
    crate::there_is_a_qemu(Architecture::X86_64, test)
}

/// Where these guests are loaded and entered.
const LOAD: u64 = 0x100_0000;

/// An invalid opcode, without a table to handle it by: a triple fault.
const CRASH: [u8; 2] = [0x0f, 0x0b];
/// A jump to itself.
const HANG: [u8; 2] = [0xeb, 0xfe];
/// Sends back what it gets from the serial port, up to and with a byte 4; then turns itself off
/// through the ACPI sleep control register. 32-bit code.
const ECHO: [u8; 46] = [
    0x66, 0xba, 0xfd, 0x03, // next: mov dx, 0x3fd (line status)
    0xec, // empty: in al, dx
    0xa8, 0x01, // test al, 0x01 (data ready)
    0x74, 0xfb, // jz empty
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8 (data)
    0xec, // in al, dx
    0x88, 0xc4, // mov ah, al
    0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd
    0xec, // full: in al, dx
    0xa8, 0x20, // test al, 0x20 (transmitter empty)
    0x74, 0xfb, // jz full
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x88, 0xe0, // mov al, ah
    0xee, // out dx, al
    0x3c, 0x04, // cmp al, 4
    0x75, 0xdc, // jne next
    0xc6, 0x05, 0x00, 0x02, 0xa0, 0xfe, 0x34, // mov byte [0xfea00200], S5 and enable
    0xf4, // off: hlt
    0xeb, 0xfd, // jmp off
];

/// Prints the NUL-terminated string at ESI on the serial port. For 32-bit and 64-bit code alike.
const PRINT: [u8; 26] = [
    0xac, // print: lodsb
    0x84, 0xc0, // test al, al
    0x75, 0x01, // jne more
    0xc3, // ret
    0x88, 0xc4, // more: mov ah, al
    0x66, 0xba, 0xfd, 0x03, // mov dx, 0x3fd
    0xec, // full: in al, dx
    0xa8, 0x20, // test al, 0x20 (transmitter empty)
    0x74, 0xfb, // jz full
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x88, 0xe0, // mov al, ah
    0xee, // out dx, al
    0xeb, 0xe6, // jmp print
];
/// Prints the command line of every PVH module and what is in it; then turns itself off.
const MODULES: [u8; 41] = [
    0xbc, 0x00, 0x0f, 0x00, 0x01, // mov esp, LOAD + 0xf00
    0x8b, 0x4b, 0x0c, // mov ecx, [ebx + 12] (nr_modules)
    0x8b, 0x7b, 0x10, // mov edi, [ebx + 16] (modlist_paddr)
    0x8b, 0x77, 0x10, // each: mov esi, [edi + 16] (cmdline_paddr)
    0xe8, 0x16, 0x00, 0x00, 0x00, // call print
    0x8b, 0x37, // mov esi, [edi] (paddr)
    0xe8, 0x0f, 0x00, 0x00, 0x00, // call print
    0x83, 0xc7, 0x20, // add edi, 32
    0xe2, 0xec, // loop each
    0xc6, 0x05, 0x00, 0x02, 0xa0, 0xfe, 0x34, // mov byte [0xfea00200], S5 and enable
    0xf4, // off: hlt
    0xeb, 0xfd, // jmp off
];
/// Prints the command line and the initial ramdisk that the zero page at ESI tells of; then turns
/// itself off. The same bytes are 32-bit and 64-bit code.
const ZERO_PAGE: [u8; 42] = [
    0xbc, 0x00, 0x0f, 0x00, 0x01, // mov esp, LOAD + 0xf00
    0x8b, 0x9e, 0x28, 0x02, 0x00, 0x00, // mov ebx, [esi + 0x228] (cmd_line_ptr)
    0x8b, 0xbe, 0x18, 0x02, 0x00, 0x00, // mov edi, [esi + 0x218] (ramdisk_image)
    0x89, 0xde, // mov esi, ebx
    0xe8, 0x12, 0x00, 0x00, 0x00, // call print
    0x89, 0xfe, // mov esi, edi
    0xe8, 0x0b, 0x00, 0x00, 0x00, // call print
    0xb8, 0x00, 0x02, 0xa0, 0xfe, // mov eax, 0xfea00200
    0xc6, 0x00, 0x34, // mov byte [eax], S5 and enable
    0xf4, // off: hlt
    0xeb, 0xfd, // jmp off
];

/// A kernel of this code, and the plan to boot it.
fn planned(code: &[u8], protocol: Protocol, memory: u64) -> (Vec<u8>, BootPlan) {
    let mut kernel = elf64().segment(LOAD, code, 0x1000);
    if protocol == Protocol::Pvh {
        kernel = kernel.pvh(0x100_0000);
    }
    let kernel = kernel.build();
    let image = Image::open(&kernel, &ImageLimits::default()).expect("it is an ELF");
    let request = Request {
        memory,
        cpus: 2,
        protocol: ProtocolChoice::Only(protocol),
        rng_seed: [7; 32],
        ..Request::default()
    };
    let plan = plan(&image, &request).expect("there is room for it");
    (kernel, plan)
}

/// Runs `code` with `input` typed at its console; how it ends, and what it prints.
fn run(
    code: &[u8],
    protocol: Protocol,
    limits: &Limits,
    input: File,
) -> (BootPlan, Ending, Vec<u8>) {
    let (kernel, plan) = planned(code, protocol, 64 << 20);
    let sources = Sources {
        layers: &[&kernel],
        ..Sources::default()
    };
    let (ending, printed) = carry_out(&plan, &sources, limits, input);
    (plan, ending, printed)
}

#[test]
fn the_first_instruction_finds_exactly_the_plans_registers() {
    if !there_is_a_qemu("registers at the entry") {
        return;
    }
    for protocol in [Protocol::Linux64, Protocol::Pvh] {
        let (plan, ending, _) = run(&CRASH, protocol, &within(50), nothing_typed());
        let Ending::Crashed(report) = ending else {
            panic!("{protocol}: {ending:?}");
        };
        let planned = plan.boot_vcpu();
        assert_eq!(report.registers.as_ref(), Some(planned), "{protocol}");
        let text = report.to_string();
        assert!(text.contains("triple fault"), "{text}");
        assert!(text.contains("ud2"), "{text}");
    }
}

#[test]
fn a_guest_that_hangs_is_found_where_it_hangs() {
    if !there_is_a_qemu("a guest that hangs") {
        return;
    }
    let (_, ending, printed) = run(&HANG, Protocol::Linux64, &within(2), nothing_typed());
    let Ending::TimedOut(Some(report)) = ending else {
        panic!("{ending:?}");
    };
    let registers = report.registers.expect("QEMU answers");
    assert_eq!(registers.pc(), LOAD);
    assert!(printed.is_empty());
}

#[test]
fn not_a_byte_that_is_typed_is_lost_or_doubled() {
    if !there_is_a_qemu("input") {
        return;
    }
    let (to_type, input) = typed();
    let (_, ending, printed) = run(&ECHO, Protocol::Pvh, &within(100), input);
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    assert!(
        printed == to_type,
        "{} of {} bytes",
        printed.len(),
        to_type.len()
    );
}

#[test]
fn a_pvh_guest_finds_every_module_with_its_command_line() {
    if !there_is_a_qemu("a_pvh_guest_finds_every_module_with_its_command_line") {
        return;
    }
    let kernel = elf64()
        .segment(LOAD, &[&MODULES[..], &PRINT].concat(), 0x1000)
        .pvh(0x100_0000)
        .build();
    let image = Image::open(&kernel, &ImageLimits::default()).expect("it is an ELF");
    let files: [&[u8]; 2] = [b"kernel of a guest\n\0", b"its ramdisk\n\0"];
    let module = |(file, cmdline): (&&[u8], &str)| Module {
        len: file.len() as u64,
        cmdline: cmdline.into(),
    };
    let request = Request {
        memory: 64 << 20,
        modules: files.iter().zip(["first: ", ""]).map(module).collect(),
        ..Request::default()
    };
    let plan = plan(&image, &request).expect("there is room for it");
    let sources = Sources {
        layers: &[&kernel],
        modules: &files,
        ..Sources::default()
    };
    let (ending, printed) = carry_out(&plan, &sources, &within(60), nothing_typed());
    assert!(matches!(ending, Ending::PowerOff), "{ending:?}");
    // Without a command line the pointer is null, and so is the first byte there.
    assert_eq!(
        String::from_utf8_lossy(&printed),
        "first: kernel of a guest\nits ramdisk\n"
    );
}

/// Packed with the stub, entered by PVH, and what the kernel then finds in the zero page.
#[test]
fn the_stub_hands_a_packed_kernel_its_command_line_and_ramdisk() {
    if !there_is_a_qemu("the_stub_hands_a_packed_kernel_its_command_line_and_ramdisk") {
        return;
    }
    let code = [&ZERO_PAGE[..], &PRINT].concat();
    let vmlinux = elf64().entry(LOAD).segment(LOAD, &code, 0x1000).build();
    let bzimage = bzimage()
        .pref_address(LOAD)
        .init_size(0x10_0000)
        .payload(Codec::Stored, &vmlinux)
        .patch(0x400, &code)
        .build();
    for unpack in [Unpack::Host, Unpack::Guest] {
        let limits = ImageLimits::default();
        let image = match unpack {
            Unpack::Host => Image::open(&bzimage, &limits),
            Unpack::Guest => Image::open_outer(&bzimage, &limits),
        };
        let image = image.expect("it is a bzImage");
        for (packed_ramdisk, packed_line, given_line, expected) in [
            (true, "packed", "given", "packed given: ramdisk\n"),
            (true, "packed", "", "packed: ramdisk\n"),
            (false, "", "given", "given: ramdisk\n"),
        ] {
            let ramdisk = b": ramdisk\n\0";
            let len = Some(ramdisk.len() as u64);
            let request = Request {
                cmdline: packed_line.into(),
                initrd: len.filter(|_| packed_ramdisk),
                unpack,
                ..Request::default()
            };
            let package = stub::pack(&image, &request).expect("there is room for it");
            let layers: Vec<&[u8]> = image.layers().iter().map(|layer| layer.bytes()).collect();
            let sources = Sources {
                layers: &layers,
                initrd: ramdisk,
                ..Sources::default()
            };
            let mut file = Vec::new();
            pvh_elf(&package, &sources, &mut file).expect("memory takes it");
            let packed = Image::open(&file, &limits).expect("it is an ELF");
            let request = Request {
                memory: 64 << 20,
                cmdline: given_line.into(),
                initrd: len.filter(|_| !packed_ramdisk),
                protocol: ProtocolChoice::Only(Protocol::Pvh),
                ..Request::default()
            };
            let plan = plan(&packed, &request).expect("there is room for it");
            let sources = Sources {
                layers: &[&file],
                initrd: ramdisk,
                ..Sources::default()
            };
            let (ending, printed) = carry_out(&plan, &sources, &within(60), nothing_typed());
            assert!(matches!(ending, Ending::PowerOff), "{unpack:?}: {ending:?}");
            assert_eq!(String::from_utf8_lossy(&printed), expected, "{unpack:?}");
        }
    }
}
