//! Registers between our words and KVM's.

use firstlight_base::x86::{Cr0, Cr4, DescriptorTable, Efer, Gprs, Registers, Segment};
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

pub(super) fn general(gprs: &Gprs) -> kvm_regs {
    let &Gprs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    } = gprs;
    kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    }
}

/// Puts what a boot protocol speaks of into `into`, and leaves the rest of it alone.
pub(super) fn put_special(from: &Registers, into: &mut kvm_sregs) {
    into.cs = segment(from.cs);
    into.ds = segment(from.ds);
    into.es = segment(from.es);
    into.fs = segment(from.fs);
    into.gs = segment(from.gs);
    into.ss = segment(from.ss);
    into.tr = segment(from.tr);
    into.ldt = segment(from.ldt);
    into.gdt = table(from.gdt);
    into.idt = table(from.idt);
    into.cr0 = from.cr0.bits();
    into.cr2 = from.cr2;
    into.cr3 = from.cr3;
    into.cr4 = from.cr4.bits();
    into.efer = from.efer.bits();
}

pub(super) fn read(general: &kvm_regs, special: &kvm_sregs) -> Registers {
    let &kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    } = general;
    Registers {
        gprs: Gprs {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rsp,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
        },
        cs: from_segment(&special.cs),
        ds: from_segment(&special.ds),
        es: from_segment(&special.es),
        fs: from_segment(&special.fs),
        gs: from_segment(&special.gs),
        ss: from_segment(&special.ss),
        tr: from_segment(&special.tr),
        ldt: from_segment(&special.ldt),
        gdt: from_table(&special.gdt),
        idt: from_table(&special.idt),
        cr0: Cr0::from_bits_retain(special.cr0),
        cr2: special.cr2,
        cr3: special.cr3,
        cr4: Cr4::from_bits_retain(special.cr4),
        efer: Efer::from_bits_retain(special.efer),
    }
}

/// The fields of a descriptor's access rights, with the bit each begins at in
/// [`Segment::access`] (Intel SDM volume 3A, section 3.4.5).
const TYPE: u32 = 0;
const SYSTEM: u32 = 4;
const PRIVILEGE: u32 = 5;
const PRESENT: u32 = 7;
const AVAILABLE: u32 = 12;
const LONG: u32 = 13;
const BIG: u32 = 14;
const GRANULAR: u32 = 15;

fn segment(from: Segment) -> kvm_segment {
    let bit = |at: u32| u8::from(from.access >> at & 1 != 0);
    let [low, _] = from.access.to_le_bytes();
    kvm_segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        type_: low & 0xf,
        present: bit(PRESENT),
        dpl: low >> PRIVILEGE & 3,
        db: bit(BIG),
        s: bit(SYSTEM),
        l: bit(LONG),
        g: bit(GRANULAR),
        avl: bit(AVAILABLE),
        unusable: 1 - bit(PRESENT),
        padding: 0,
    }
}

fn from_segment(from: &kvm_segment) -> Segment {
    let usable = from.unusable == 0;
    let field = |value: u8, mask: u8, at: u32| u16::from(value & mask) << at;
    let access = field(from.type_, 0xf, TYPE)
        | field(from.s, 1, SYSTEM)
        | field(from.dpl, 3, PRIVILEGE)
        | field(from.present, 1, PRESENT)
        | field(from.avl, 1, AVAILABLE)
        | field(from.l, 1, LONG)
        | field(from.db, 1, BIG)
        | field(from.g, 1, GRANULAR);
    Segment {
        selector: from.selector,
        base: from.base,
        limit: from.limit,
        access: if usable {
            access
        } else {
            access & !(1 << PRESENT)
        },
    }
}

fn table(from: DescriptorTable) -> kvm_dtable {
    kvm_dtable {
        base: from.base,
        limit: from.limit,
        padding: [0; 3],
    }
}

fn from_table(from: &kvm_dtable) -> DescriptorTable {
    DescriptorTable {
        base: from.base,
        limit: from.limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_base::x86::RFLAGS_RESERVED;

    #[test]
    fn segments_survive_the_way_to_kvm_and_back() {
        for wanted in [
            Segment::code64(0x10),
            Segment::code32(0x10),
            Segment::data32(0x18),
            Segment::task(0x20),
            Segment::UNUSABLE,
            Segment {
                selector: 0x33,
                base: 0x1234,
                limit: 0xffff,
                access: 0x10f3,
            },
        ] {
            assert_eq!(from_segment(&segment(wanted)), wanted);
        }
        let code = segment(Segment::code64(0x10));
        assert_eq!(
            (code.type_, code.s, code.present, code.l, code.db, code.g),
            (0xb, 1, 1, 1, 0, 1)
        );
        assert_eq!(segment(Segment::UNUSABLE).unusable, 1);
    }

    #[test]
    fn special_registers_that_no_protocol_speaks_of_stay() {
        let wanted = Registers {
            gprs: Gprs {
                rip: 0x100_0000,
                rflags: RFLAGS_RESERVED,
                ..Gprs::default()
            },
            cs: Segment::code64(0x10),
            ds: Segment::data32(0x18),
            es: Segment::data32(0x18),
            fs: Segment::UNUSABLE,
            gs: Segment::UNUSABLE,
            ss: Segment::data32(0x18),
            tr: Segment::task(0x20),
            ldt: Segment::UNUSABLE,
            gdt: DescriptorTable {
                base: 0x500,
                limit: 0x27,
            },
            idt: DescriptorTable::default(),
            cr0: Cr0::PE | Cr0::PG,
            cr2: 1,
            cr3: 0x9000,
            cr4: Cr4::PAE,
            efer: Efer::LME | Efer::LMA,
        };
        let mut special = kvm_sregs {
            apic_base: 0xfee0_0900,
            cr8: 3,
            ..kvm_sregs::default()
        };
        put_special(&wanted, &mut special);
        assert_eq!((special.apic_base, special.cr8), (0xfee0_0900, 3));
        assert_eq!(read(&general(&wanted.gprs), &special), wanted);
    }
}
