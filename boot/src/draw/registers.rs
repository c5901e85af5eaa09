//! The registers that a plan sets, by the names that the processors' manuals give them.

use alloc::vec::Vec;
use firstlight_base::x86::Segment;
use firstlight_base::{VcpuState, arm64, riscv64, x86};

/// Everything that `state` says of a processor, by name.
#[must_use]
pub fn named(state: &VcpuState) -> Vec<(&'static str, u64)> {
    match state {
        VcpuState::X86(registers) => x86(registers),
        VcpuState::Arm64(registers) => arm64(registers),
        VcpuState::Riscv64(registers) => riscv64(registers),
    }
}

/// The registers of an x86 processor that are one number each.
#[must_use]
pub fn general(registers: &x86::Registers) -> [(&'static str, u64); 23] {
    let gprs = &registers.gprs;
    [
        ("rip", gprs.rip),
        ("rflags", gprs.rflags),
        ("rax", gprs.rax),
        ("rbx", gprs.rbx),
        ("rcx", gprs.rcx),
        ("rdx", gprs.rdx),
        ("rsi", gprs.rsi),
        ("rdi", gprs.rdi),
        ("rsp", gprs.rsp),
        ("rbp", gprs.rbp),
        ("r8", gprs.r8),
        ("r9", gprs.r9),
        ("r10", gprs.r10),
        ("r11", gprs.r11),
        ("r12", gprs.r12),
        ("r13", gprs.r13),
        ("r14", gprs.r14),
        ("r15", gprs.r15),
        ("cr0", registers.cr0.bits()),
        ("cr2", registers.cr2),
        ("cr3", registers.cr3),
        ("cr4", registers.cr4.bits()),
        ("efer", registers.efer.bits()),
    ]
}

fn x86(registers: &x86::Registers) -> Vec<(&'static str, u64)> {
    let mut named = Vec::from(general(registers));
    named.extend([
        ("gdt.base", registers.gdt.base),
        ("gdt.limit", registers.gdt.limit.into()),
        ("idt.base", registers.idt.base),
        ("idt.limit", registers.idt.limit.into()),
    ]);
    let segments = [
        (registers.cs, ["cs", "cs.base", "cs.limit", "cs.access"]),
        (registers.ds, ["ds", "ds.base", "ds.limit", "ds.access"]),
        (registers.es, ["es", "es.base", "es.limit", "es.access"]),
        (registers.fs, ["fs", "fs.base", "fs.limit", "fs.access"]),
        (registers.gs, ["gs", "gs.base", "gs.limit", "gs.access"]),
        (registers.ss, ["ss", "ss.base", "ss.limit", "ss.access"]),
        (registers.tr, ["tr", "tr.base", "tr.limit", "tr.access"]),
        (
            registers.ldt,
            ["ldt", "ldt.base", "ldt.limit", "ldt.access"],
        ),
    ];
    for (segment, names) in segments {
        let Segment {
            selector,
            base,
            limit,
            access,
        } = segment;
        let values = [selector.into(), base, limit.into(), access.into()];
        named.extend(names.into_iter().zip(values));
    }
    named
}

fn arm64(registers: &arm64::Registers) -> Vec<(&'static str, u64)> {
    const X: [&str; 31] = [
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
        "x27", "x28", "x29", "x30",
    ];
    let mut named = Vec::from([
        ("pc", registers.pc),
        ("pstate", registers.pstate.bits()),
        ("sp", registers.sp),
    ]);
    named.extend(X.into_iter().zip(registers.x));
    named
}

/// By the names of the calling convention (The RISC-V Instruction Set Manual, volume I, chapter
/// 25), which debuggers show.
fn riscv64(registers: &riscv64::Registers) -> Vec<(&'static str, u64)> {
    const X: [&str; 32] = [
        "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
        "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
        "t5", "t6",
    ];
    let mut named = Vec::from([
        ("pc", registers.pc),
        ("satp", registers.satp),
        ("sstatus", registers.sstatus),
        ("sie", registers.sie),
    ]);
    named.extend(X.into_iter().zip(registers.x).skip(1));
    named
}
