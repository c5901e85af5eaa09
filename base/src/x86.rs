//! The registers of an x86 processor (Intel SDM volume 3A, sections 2.4 to 2.6 and 3.4).

use bitflags::bitflags;

bitflags! {
    /// Control register 0 (SDM volume 3A, section 2.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Cr0: u64 {
        /// Protection enable.
        const PE = 1 << 0;
        /// Monitor coprocessor.
        const MP = 1 << 1;
        /// x87 emulation.
        const EM = 1 << 2;
        /// Task switched.
        const TS = 1 << 3;
        /// Extension type; always reads 1 on processors since the 486.
        const ET = 1 << 4;
        /// Native x87 error reporting.
        const NE = 1 << 5;
        /// Write protect for supervisor accesses.
        const WP = 1 << 16;
        /// Alignment mask.
        const AM = 1 << 18;
        /// Not write-through.
        const NW = 1 << 29;
        /// Cache disable.
        const CD = 1 << 30;
        /// Paging.
        const PG = 1 << 31;
        const _ = !0;
    }

    /// Control register 4 (SDM volume 3A, section 2.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Cr4: u64 {
        /// Page size extensions.
        const PSE = 1 << 4;
        /// Physical address extension.
        const PAE = 1 << 5;
        /// Global pages.
        const PGE = 1 << 7;
        /// FXSAVE, FXRSTOR and SSE instructions.
        const OSFXSR = 1 << 9;
        /// Unmasked SIMD floating-point exceptions.
        const OSXMMEXCPT = 1 << 10;
        /// Five-level paging.
        const LA57 = 1 << 12;
        /// XSAVE and the extended control registers.
        const OSXSAVE = 1 << 18;
        const _ = !0;
    }

    /// Extended feature enable register, MSR 0xc0000080 (SDM volume 3A, section 2.2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Efer: u64 {
        /// SYSCALL and SYSRET.
        const SCE = 1 << 0;
        /// Long mode is enabled.
        const LME = 1 << 8;
        /// Long mode is active.
        const LMA = 1 << 10;
        /// Execute disable.
        const NXE = 1 << 11;
        const _ = !0;
    }
}

/// The flag register's bit 1, which always reads 1 (SDM volume 1, section 3.4.3).
pub const RFLAGS_RESERVED: u64 = 0x2;

/// A segment register with its hidden part (SDM volume 3A, sections 3.4.3 and 24.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Segment {
    /// The visible selector.
    pub selector: u16,
    /// The linear address the segment begins at.
    pub base: u64,
    /// The highest offset inside it, in bytes.
    pub limit: u32,
    /// Access rights as they stand in bits 8 to 23 of a descriptor's high word, limit bits
    /// cleared: type, S, DPL, P in the low byte, AVL, L, D/B and G in bits 12 to 15.
    pub access: u16,
}

impl Segment {
    /// An unusable segment: not present.
    pub const UNUSABLE: Self = Self {
        selector: 0,
        base: 0,
        limit: 0,
        access: 0,
    };

    /// 64-bit code, flat, execute and read, accessed.
    #[must_use]
    pub const fn code64(selector: u16) -> Self {
        Self {
            selector,
            base: 0,
            limit: u32::MAX,
            access: 0xa09b,
        }
    }

    /// 32-bit code, flat, execute and read, accessed.
    #[must_use]
    pub const fn code32(selector: u16) -> Self {
        Self {
            selector,
            base: 0,
            limit: u32::MAX,
            access: 0xc09b,
        }
    }

    /// 32-bit data, flat, read and write, accessed.
    #[must_use]
    pub const fn data32(selector: u16) -> Self {
        Self {
            selector,
            base: 0,
            limit: u32::MAX,
            access: 0xc093,
        }
    }

    /// A busy 32-bit or 64-bit task state segment at 0, as short as one may be.
    #[must_use]
    pub const fn task(selector: u16) -> Self {
        Self {
            selector,
            base: 0,
            limit: 0x67,
            access: 0x008b,
        }
    }

    /// The descriptor that a load of this segment register would read; for code and data.
    ///
    /// The granularity bit is taken from `access`; a limit that it cannot express loses its low
    /// bits, as in a real descriptor.
    #[must_use]
    pub const fn descriptor(self) -> u64 {
        let limit = if self.access & 0x8000 != 0 {
            self.limit >> 12
        } else {
            self.limit
        } as u64;
        let access = self.access as u64;
        (limit & 0xffff)
            | ((self.base & 0xff_ffff) << 16)
            | ((access & 0xff) << 40)
            | (((limit >> 16) & 0xf) << 48)
            | ((access >> 12) << 52)
            | (((self.base >> 24) & 0xff) << 56)
    }
}

/// The place of a descriptor table (SDM volume 3A, section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DescriptorTable {
    /// Linear address of the first entry.
    pub base: u64,
    /// The highest offset inside the table: its size in bytes less 1.
    pub limit: u16,
}

/// General purpose registers, instruction pointer and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the processor's own names")]
pub struct Gprs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

impl Gprs {
    const ZERO: Self = Self {
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rsp: 0,
        rbp: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: 0,
        rflags: 0,
    };
}

/// All that a boot protocol says of a processor: the registers it is entered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the processor's own names")]
pub struct Registers {
    pub gprs: Gprs,
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: DescriptorTable,
    pub idt: DescriptorTable,
    pub cr0: Cr0,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: Cr4,
    pub efer: Efer,
}

/// What the processor fetches and how wide its operands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 16-bit code: real mode, or a 16-bit code segment.
    Bits16,
    /// 32-bit protected mode, or compatibility mode.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl Registers {
    /// What a processor has after a reset (SDM volume 3A, table 10-1): it begins 16 bytes below 4 GiB,
    /// in real mode.
    pub const RESET: Self = {
        let data = Segment {
            selector: 0,
            base: 0,
            limit: 0xffff,
            access: 0x0093,
        };
        let table = DescriptorTable {
            base: 0,
            limit: 0xffff,
        };
        Self {
            gprs: Gprs {
                rip: 0xfff0,
                rflags: RFLAGS_RESERVED,
                ..Gprs::ZERO
            },
            cs: Segment {
                selector: 0xf000,
                base: 0xffff_0000,
                access: 0x009b,
                ..data
            },
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: Segment {
                access: 0x008b,
                ..data
            },
            ldt: Segment {
                access: 0x0082,
                ..data
            },
            gdt: table,
            idt: table,
            cr0: Cr0::from_bits_retain(Cr0::CD.bits() | Cr0::NW.bits() | Cr0::ET.bits()),
            cr2: 0,
            cr3: 0,
            cr4: Cr4::empty(),
            efer: Efer::empty(),
        }
    };

    /// What a processor has that another one starts by a start-up interrupt (SDM volume 3A, section 11.4.4.1): it begins
    /// at that page, in real mode.
    #[must_use]
    pub fn started_at(page: u8) -> Self {
        let reset = Self::RESET;
        Self {
            gprs: Gprs {
                rip: 0,
                ..reset.gprs
            },
            cs: Segment {
                selector: u16::from(page) << 8,
                base: u64::from(page) << 12,
                ..reset.cs
            },
            ..reset
        }
    }

    /// Every segment register by its name: the six of code and data, then those of the task and of
    /// the local descriptor table.
    #[must_use]
    pub const fn segments(&self) -> [(&'static str, Segment); 8] {
        [
            ("cs", self.cs),
            ("ds", self.ds),
            ("es", self.es),
            ("fs", self.fs),
            ("gs", self.gs),
            ("ss", self.ss),
            ("tr", self.tr),
            ("ldt", self.ldt),
        ]
    }

    /// The mode the processor runs in.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        const LONG: u16 = 0x2000;
        const BIG: u16 = 0x4000;
        if self.efer.contains(Efer::LMA) && self.cs.access & LONG != 0 {
            Mode::Bits64
        } else if self.cr0.contains(Cr0::PE) && self.cs.access & BIG != 0 {
            Mode::Bits32
        } else {
            Mode::Bits16
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_that_every_flat_gdt_has() {
        assert_eq!(Segment::code64(0x10).descriptor(), 0x00af_9b00_0000_ffff);
        assert_eq!(Segment::code32(0x10).descriptor(), 0x00cf_9b00_0000_ffff);
        assert_eq!(Segment::data32(0x18).descriptor(), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn a_task_segment_is_counted_in_bytes() {
        let based = Segment {
            base: 0x1234_5678,
            ..Segment::task(0x20)
        };
        assert_eq!(based.descriptor(), 0x1200_8b34_5678_0067);
    }
}
