use super::*;
use firstlight_base::x86::Mode;

/// A processor after reset, as QEMU 7.2 shows it; floating-point registers left out.
const RESET: &str = "
CPU#0
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0000 00000000 0000ffff 00009300
CS =f000 ffff0000 0000ffff 00009b00
SS =0000 00000000 0000ffff 00009300
DS =0000 00000000 0000ffff 00009300
FS =0000 00000000 0000ffff 00009300
GS =0000 00000000 0000ffff 00009300
LDT=0000 00000000 0000ffff 00008200
TR =0000 00000000 0000ffff 00008b00
GDT=     00000000 0000ffff
IDT=     00000000 0000ffff
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000\x20
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000000
FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80
";

/// Debian's kernel 6.1, idle, as QEMU 7.2 shows it; floating-point registers left out.
const LINUX: &str = "
CPU#0
RAX=000000000001ad40 RBX=0000000000000000 RCX=0000000000000000 RDX=4000000000000000
RSI=0000000000000087 RDI=0000000000047e6c RBP=ffffffff82a1aa40 RSP=ffffffff82a03e90
R8 =0000000000022e80 R9 =0000000000000007 R10=00000000fffffffb R11=0000000000000001
R12=0000000000000000 R13=0000000000000000 R14=ffffffff82a1a110 R15=0000000000000000
RIP=ffffffff81a0dfeb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
ES =0000 0000000000000000 00000000 00000000
CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]
SS =0018 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
DS =0000 0000000000000000 00000000 00000000
FS =0000 0000000000000000 00000000 00000000
GS =0000 ffff88801f400000 00000000 00000000
LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT
TR =0040 fffffe0000003000 00004087 00008900 DPL=0 TSS64-avl
GDT=     fffffe0000001000 0000007f
IDT=     fffffe0000000000 00000fff
CR0=80050033 CR2=00000000004f0215 CR3=00000000050d0000 CR4=00750eb0
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000\x20
DR6=00000000ffff0ff0 DR7=0000000000000400
EFER=0000000000000d01
FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80
";

#[test]
fn a_processor_after_reset_is_read() {
    let registers = registers(&Dump::new(RESET)).unwrap();
    assert_eq!(registers.mode(), Mode::Bits16);
    assert_eq!(registers.gprs.rip, 0xfff0);
    assert_eq!(registers.gprs.rdx, 0x6_0fb1);
    assert_eq!(registers.gprs.rflags, RFLAGS_RESERVED);
    assert_eq!(
        registers.cs,
        Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            limit: 0xffff,
            access: 0x009b,
        }
    );
    assert_eq!(registers.gdt.limit, 0xffff);
    assert_eq!(registers.cr0.bits(), 0x6000_0010);
}

#[test]
fn a_running_kernel_is_read() {
    let registers = registers(&Dump::new(LINUX)).unwrap();
    assert_eq!(registers.mode(), Mode::Bits64);
    let gprs = registers.gprs;
    assert_eq!(gprs.rip, 0xffff_ffff_81a0_dfeb);
    assert_eq!(gprs.rsp, 0xffff_ffff_82a0_3e90);
    assert_eq!((gprs.r8, gprs.r9, gprs.r10), (0x2_2e80, 7, 0xffff_fffb));
    assert_eq!(gprs.rflags, 0x246);
    assert_eq!(registers.cs, Segment::code64(0x10));
    assert_eq!(registers.ss, Segment::data32(0x18));
    assert_eq!(registers.ds, Segment::UNUSABLE);
    assert_eq!(registers.gs.base, 0xffff_8880_1f40_0000);
    assert_eq!(registers.gdt.base, 0xffff_fe00_0000_1000);
    assert_eq!(registers.idt.limit, 0xfff);
    assert_eq!(registers.cr2, 0x4f_0215);
    assert_eq!(registers.cr3, 0x50d_0000);
    assert_eq!(registers.cr4.bits(), 0x75_0eb0);
    assert_eq!(
        registers.efer,
        Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE
    );
}

#[test]
fn a_task_that_is_loaded_is_busy() {
    assert_eq!(registers(&Dump::new(LINUX)).unwrap().tr.access, 0x008b);
    assert_eq!(registers(&Dump::new(RESET)).unwrap().tr.access, 0x008b);
}

#[test]
fn a_null_selector_names_no_local_table() {
    assert_eq!(registers(&Dump::new(LINUX)).unwrap().ldt, Segment::UNUSABLE);
}

#[test]
fn nothing_is_read_from_less_than_all_registers() {
    assert_eq!(registers(&Dump::new("")), None);
    for lines in 0..LINUX.lines().count() {
        let cut: Vec<&str> = LINUX.lines().take(lines).collect();
        let whole = cut.iter().any(|line| line.starts_with("EFER"));
        assert_eq!(registers(&Dump::new(&cut.join("\n"))).is_some(), whole);
    }
    assert_eq!(
        registers(&Dump::new(&LINUX.replace("00af9b00", "none"))),
        None
    );
}
