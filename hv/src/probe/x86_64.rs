//! The probe on x86: 64-bit code with pages and an interrupt table.

use super::{Guest, Piece, Progress, Step};
use firstlight_base::x86::{
    Cr0, Cr4, DescriptorTable, Efer, Gprs, RFLAGS_RESERVED, Registers, Segment,
};
use firstlight_base::{Port, VcpuState};

/// The guest, with the steps that it announces.
pub(super) fn guest() -> Guest {
    Guest {
        steps: &STEPS,
        progress: Progress::Port(Port(0x10)),
        entry: VcpuState::X86(entry()),
        pieces: pieces(),
    }
}

const STEPS: [Step; 4] = [
    // With which kernels allocate memory.
    Step("lock cmpxchg16b"),
    Step("fxrstor64"),
    // With which kernels start their floating-point unit.
    Step("xrstor64"),
    // Through an interrupt table, with which kernels test that they may patch themselves.
    Step("int3"),
];

/// Where everything is in the guest's memory.
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

fn pieces() -> Vec<Piece> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE_PAGE: u64 = 1 << 7;
    vec![
        Piece::words(PML4, &[PDPT | PRESENT_WRITABLE]),
        Piece::words(PDPT, &[PAGE_DIRECTORY | PRESENT_WRITABLE]),
        Piece::words(PAGE_DIRECTORY, &[LARGE_PAGE | PRESENT_WRITABLE]),
        Piece::words(GDT, &[0, Segment::code64(CODE_SELECTOR).descriptor()]),
        Piece::words(IDT + 16 * BREAKPOINT, &gate(CODE + HANDLER)),
        Piece::new(CODE, &PROGRAM),
        Piece::words(WORDS, &[0; 2]),
        Piece::words(STATE, &[0; (512 + 64) / 8]),
        Piece::new(LEGACY_STATE, &0x37f_u16.to_le_bytes()),
        Piece::new(LEGACY_STATE + 24, &0x1f80_u32.to_le_bytes()),
    ]
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

    #[test]
    fn the_program_knows_where_its_data_is() {
        let holds = |bytes: &[u8]| PROGRAM.windows(bytes.len()).any(|window| window == bytes);
        for address in [WORDS, WORDS + 8, LEGACY_STATE, STATE] {
            assert!(holds(&u32::try_from(address).unwrap().to_le_bytes()));
        }
        let handler = usize::try_from(HANDLER).unwrap();
        assert_eq!(PROGRAM[handler..], [0xff, 0xc5, 0x48, 0xcf]);
    }
}
