//! An x86 processor's (`x86_cpu_dump_state`, `target/i386/cpu-dump.c` of QEMU).

use super::Dump;
use firstlight_base::x86::{
    Cr0, Cr4, DescriptorTable, Efer, Gprs, RFLAGS_RESERVED, Registers, Segment,
};

pub(super) fn registers(dump: &Dump) -> Option<Registers> {
    let number = |name: &str| dump.number(name);
    // In 32-bit mode the names are the short ones, and eight registers are left out.
    let general = |wide: &str, narrow: &str| number(wide).or_else(|| number(narrow));
    let upper = |name: &str| number(name).unwrap_or(0);
    Some(Registers {
        gprs: Gprs {
            rax: general("RAX", "EAX")?,
            rbx: general("RBX", "EBX")?,
            rcx: general("RCX", "ECX")?,
            rdx: general("RDX", "EDX")?,
            rsi: general("RSI", "ESI")?,
            rdi: general("RDI", "EDI")?,
            rsp: general("RSP", "ESP")?,
            rbp: general("RBP", "EBP")?,
            r8: upper("R8"),
            r9: upper("R9"),
            r10: upper("R10"),
            r11: upper("R11"),
            r12: upper("R12"),
            r13: upper("R13"),
            r14: upper("R14"),
            r15: upper("R15"),
            rip: general("RIP", "EIP")?,
            rflags: general("RFL", "EFL")? | RFLAGS_RESERVED,
        },
        cs: dump.segment("CS")?,
        ds: dump.segment("DS")?,
        es: dump.segment("ES")?,
        fs: dump.segment("FS")?,
        gs: dump.segment("GS")?,
        ss: dump.segment("SS")?,
        tr: busy(dump.segment("TR")?),
        ldt: unusable_if_null(dump.segment("LDT")?),
        gdt: dump.table("GDT")?,
        idt: dump.table("IDT")?,
        cr0: Cr0::from_bits_retain(number("CR0")?),
        cr2: number("CR2")?,
        cr3: number("CR3")?,
        cr4: Cr4::from_bits_retain(number("CR4")?),
        efer: Efer::from_bits_retain(number("EFER")?),
    })
}

/// A processor marks the task that it loads as busy; QEMU does so in memory only.
fn busy(task: Segment) -> Segment {
    const AVAILABLE: u16 = 0x89;
    const BUSY: u16 = 0x02;
    let busy = if task.access & 0xff == AVAILABLE {
        BUSY
    } else {
        0
    };
    Segment {
        access: task.access | busy,
        ..task
    }
}

/// A null selector makes the local table unusable; QEMU leaves the type that reset gave it.
fn unusable_if_null(table: Segment) -> Segment {
    if table.selector <= 3 {
        Segment {
            selector: table.selector,
            ..Segment::UNUSABLE
        }
    } else {
        table
    }
}

impl Dump {
    /// Selector, base, limit in bytes, and the descriptor's high word.
    fn segment(&self, name: &str) -> Option<Segment> {
        let (index, selector) = self.find(name)?;
        let flags = self.behind(index, 3)?;
        Some(Segment {
            selector: u16::try_from(super::hex(selector)?).ok()?,
            base: self.behind(index, 1)?,
            limit: u32::try_from(self.behind(index, 2)?).ok()?,
            access: u16::try_from(flags >> 8 & 0xf0ff).ok()?,
        })
    }

    fn table(&self, name: &str) -> Option<DescriptorTable> {
        let (index, _) = self.find(name)?;
        Some(DescriptorTable {
            base: self.behind(index, 1)?,
            limit: u16::try_from(self.behind(index, 2)?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
