//! As much of a PC's BIOS as a kernel needs that begins in real mode.
//!
//! The code of Linux' 16-bit entry (`arch/x86/boot`) asks for the memory map and for little else;
//! what it does not get it does without. The interrupts are those of Ralf Brown's Interrupt List,
//! the memory map's that of ACPI 6.5, section 15.1. The kernel behind that code looks for the ACPI
//! root pointer from 0xe0000 on (section 5.2.5.1), so all of it lies there, the pointer first.

use crate::protocol::zero_page;
use crate::{E820Entry, E820Kind};
use alloc::vec::Vec;
use firstlight_base::{Gpa, KIB, MIB};

/// Where the code is. Above, QEMU's machine has the reset ROM.
pub(crate) const AT: Gpa = Gpa::new(0xe_0000);
/// Its segment.
const SEGMENT: u16 = 0xe000;
/// How many lines of a memory map Linux' 16-bit code has room for, and so there is here.
pub(crate) const E820_MAX: usize = zero_page::E820_MAX;
/// The interrupt vectors and the BIOS's data behind them.
pub(crate) const LOW_LEN: u64 = 0x500;
/// `sizeof` the ACPI root pointer.
const RSDP_LEN: usize = 36;

/// What there is to say of the machine.
#[derive(Debug)]
pub(crate) struct Bios<'a> {
    /// The ACPI root pointer itself.
    pub(crate) rsdp: &'a [u8],
    /// The memory map; [`E820_MAX`] lines at most.
    pub(crate) e820: &'a [E820Entry],
}

/// The two things that are put into memory.
#[derive(Debug)]
pub(crate) struct Image {
    /// From address 0: the vectors, and the BIOS's data area at 0x400.
    pub(crate) low: Vec<u8>,
    /// At [`AT`]: root pointer, code and memory map.
    pub(crate) high: Vec<u8>,
}

impl Bios<'_> {
    pub(crate) fn image(&self) -> Image {
        let mut code = Code::behind(self.rsdp.get(..RSDP_LEN).unwrap_or(self.rsdp));
        let stop = code.here();
        stop_here(&mut code);
        let hardware = code.here();
        end_of_interrupt(&mut code);
        let yes = code.here();
        answer(&mut code, Answer::Yes);
        let no = code.here();
        answer(&mut code, Answer::No);
        let video = code.here();
        print(&mut code, no);
        let equipment = code.here();
        // xor ax, ax; iret: no devices that 0x11 could name.
        code.put(&[0x31, 0xc0, 0xcf]);
        let memory = code.here();
        // mov ax, KiB of conventional memory; iret
        code.put(&[0xb8]).word(self.conventional()).put(&[0xcf]);
        let system = code.here();
        self.system_services(&mut code, yes, no);
        let handler = |vector: u8| match vector {
            // Errors of the program itself: nothing here mends them.
            0..8 => stop,
            8..16 | 0x70..0x78 => hardware,
            0x10 => video,
            0x11 => equipment,
            0x12 => memory,
            0x15 => system,
            _ => no,
        };
        Image {
            low: self.vectors_and_data(handler),
            high: code.bytes,
        }
    }

    /// A far pointer for each interrupt, and what programs read without asking.
    fn vectors_and_data(&self, handler: impl Fn(u8) -> u16) -> Vec<u8> {
        /// KiB of conventional memory, in the data area.
        const BASE_MEMORY: usize = 0x413;
        let mut low: Vec<u8> = (0..=u8::MAX)
            .flat_map(|vector| [handler(vector), SEGMENT])
            .flat_map(u16::to_le_bytes)
            .collect();
        low.resize(BASE_MEMORY, 0);
        low.extend(self.conventional().to_le_bytes());
        low
    }

    /// Interrupt 0x15.
    fn system_services(&self, code: &mut Code, yes: u16, no: u16) {
        // cmp ax, 0xe820; je map
        code.put(&[0x3d]).word(0xe820);
        let map = code.forward(JE);
        // cmp ax, 0xe801; je sizes
        code.put(&[0x3d]).word(0xe801);
        let sizes = code.forward(JE);
        // cmp ah, 0x88; je size
        code.put(&[0x80, 0xfc, 0x88]);
        let size = code.forward(JE);
        // cmp ax, 0x2401; je a20: the gate for address line 20 is always open.
        code.put(&[0x3d]).word(0x2401);
        let a20 = code.forward(JE);
        // unknown: mov ah, 0x86; jmp no
        let unknown = code.here();
        code.put(&[0xb4, 0x86]).jump(no);
        code.land(a20);
        // mov ah, 0; jmp yes
        code.put(&[0xb4, 0x00]).jump(yes);
        code.land(size);
        // mov ax, KiB from 1 MiB on; jmp yes
        let (below_16, above_16) = self.extended();
        code.put(&[0xb8]).word(below_16).jump(yes);
        code.land(sizes);
        // mov ax, KiB from 1 to 16 MiB; mov bx, 64 KiB from 16 MiB on; the same in cx and dx
        code.put(&[0xb8]).word(below_16);
        code.put(&[0xbb]).word(above_16);
        // mov cx, ax; mov dx, bx; jmp yes
        code.put(&[0x89, 0xc1, 0x89, 0xda]).jump(yes);
        code.land(map);
        self.memory_map(code, yes, unknown);
    }

    /// Function 0xe820: the line that EBX stands for, which is how far it is from the first; EBX
    /// is then the next, and 0 behind the last.
    fn memory_map(&self, code: &mut Code, yes: u16, unknown: u16) {
        const SMAP: u32 = 0x534d_4150;
        const LINE: u8 = 20;
        let lines = zero_page::encode_e820(self.e820.get(..E820_MAX).unwrap_or(self.e820));
        let len = u16::try_from(lines.len()).expect("128 lines of 20 bytes");
        // cmp edx, 'SMAP'; jne unknown
        code.put(&[0x66, 0x81, 0xfa]).put(&SMAP.to_le_bytes());
        code.back(JNE, unknown);
        // cmp ecx, 20; jb unknown
        code.put(&[0x66, 0x83, 0xf9, LINE]).back(JB, unknown);
        // cmp ebx, len; jae unknown
        code.put(&[0x66, 0x81, 0xfb])
            .put(&u32::from(len).to_le_bytes());
        code.back(JAE, unknown);
        // push si; push di; push ds; push cs; pop ds
        code.put(&[0x56, 0x57, 0x1e, 0x0e, 0x1f]);
        // lea si, [bx + lines]
        code.put(&[0x8d, 0xb7]);
        let table = code.reserve_word();
        // mov cx, 10; cld; rep movsw
        code.put(&[0xb9]).word(u16::from(LINE / 2));
        code.put(&[0xfc, 0xf3, 0xa5]);
        // pop ds; pop di; pop si
        code.put(&[0x1f, 0x5f, 0x5e]);
        // add bx, 20; cmp bx, len; jb more
        code.put(&[0x83, 0xc3, LINE, 0x81, 0xfb]).word(len);
        let more = code.forward(JB);
        // xor bx, bx
        code.put(&[0x31, 0xdb]);
        code.land(more);
        // mov ecx, 20; mov eax, edx, which is 'SMAP'; jmp yes
        code.put(&[0x66, 0xb9])
            .put(&u32::from(LINE).to_le_bytes())
            .put(&[0x66, 0x89, 0xd0])
            .jump(yes);
        code.fill_in(table);
        code.put(&lines);
    }

    /// KiB from 0 on.
    fn conventional(&self) -> u16 {
        let end = self.ram_from(Gpa::new(0)).min(0xa_0000);
        u16::try_from(end / KIB).unwrap_or(u16::MAX)
    }

    /// KiB from 1 MiB up to 16 MiB, and from there on units of 64 KiB.
    fn extended(&self) -> (u16, u16) {
        const BORDER: u64 = 16 * MIB;
        let end = self.ram_from(Gpa::new(MIB));
        let below = end.min(BORDER).saturating_sub(MIB) / KIB;
        let above = end.saturating_sub(BORDER) / (64 * KIB);
        let word = |number| u16::try_from(number).unwrap_or(u16::MAX);
        (word(below), word(above))
    }

    /// Where the RAM ends that begins at `start`; 0 where there is none.
    fn ram_from(&self, start: Gpa) -> u64 {
        self.e820
            .iter()
            .find(|line| line.kind == E820Kind::Ram && line.range.start() == start)
            .map_or(0, |line| line.range.end().get())
    }
}

/// Says nothing more.
fn stop_here(code: &mut Code) {
    // cli; hlt; jmp to the hlt
    code.put(&[0xfa, 0xf4, 0xeb, 0xfd]);
}

/// Interrupts that nobody asked for.
fn end_of_interrupt(code: &mut Code) {
    // push ax; mov al, 0x20; out 0xa0, al; out 0x20, al; pop ax; iret
    code.put(&[0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf]);
}

/// How a service ends: the caller's flags say.
#[derive(Clone, Copy)]
enum Answer {
    Yes,
    No,
}

fn answer(code: &mut Code, answer: Answer) {
    const CARRY: u8 = 1 << 0;
    /// Zero: no key has been pressed (interrupt 0x16).
    const ZERO: u8 = 1 << 6;
    // push bp; mov bp, sp
    code.put(&[0x55, 0x89, 0xe5]);
    match answer {
        // and byte [bp + 6], !CARRY: above BP, IP and CS are the flags.
        Answer::Yes => code.put(&[0x80, 0x66, 0x06, !CARRY]),
        // or byte [bp + 6], CARRY | ZERO
        Answer::No => code.put(&[0x80, 0x4e, 0x06, CARRY | ZERO]),
    };
    // pop bp; iret
    code.put(&[0x5d, 0xcf]);
}

/// Interrupt 0x10: there is no screen, so what is printed goes to the console, which is the first
/// serial port.
fn print(code: &mut Code, no: u16) {
    // cmp ah, 0x0e; jne no
    code.put(&[0x80, 0xfc, 0x0e]).back(JNE, no);
    // push dx; push ax; mov dx, its line status register
    code.put(&[0x52, 0x50, 0xba]).word(0x3fd);
    // in al, dx; test al, 0x20 (it takes a byte); jz to the in
    code.put(&[0xec, 0xa8, 0x20, 0x74, 0xfb]);
    // pop ax; mov dl, low byte of its data register; out dx, al; pop dx; iret
    code.put(&[0x58, 0xb2, 0xf8, 0xee, 0x5a, 0xcf]);
}

/// Conditional jumps with a distance of 8 bits.
const JB: u8 = 0x72;
const JAE: u8 = 0x73;
const JE: u8 = 0x74;
const JNE: u8 = 0x75;

/// A jump or a reference to what is not there yet.
struct Open(usize);

/// 16-bit code as it is written.
struct Code {
    bytes: Vec<u8>,
}

impl Code {
    /// Begins behind `bytes`, aligned.
    fn behind(bytes: &[u8]) -> Self {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        Self { bytes }
    }

    fn here(&self) -> u16 {
        u16::try_from(self.bytes.len()).expect("some 3 KiB")
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn word(&mut self, word: u16) -> &mut Self {
        self.put(&word.to_le_bytes())
    }

    /// A jump to `target`, which is not far.
    fn back(&mut self, jump: u8, target: u16) {
        const LEN: i32 = 2;
        let next = i32::from(self.here()).saturating_add(LEN);
        let distance = i32::from(target).saturating_sub(next);
        let distance = i8::try_from(distance).expect("the code is short");
        self.put(&[jump]).put(&distance.to_le_bytes());
    }

    /// jmp target
    fn jump(&mut self, target: u16) {
        const LEN: u16 = 3;
        let next = self.here().saturating_add(LEN);
        self.put(&[0xe9]).word(target.wrapping_sub(next));
    }

    /// A jump to where [`Self::land`] is told of it.
    fn forward(&mut self, jump: u8) -> Open {
        self.put(&[jump, 0]);
        Open(self.bytes.len().saturating_sub(1))
    }

    fn land(&mut self, Open(at): Open) {
        let from = at.saturating_add(1);
        let distance = self.bytes.len().saturating_sub(from);
        let distance = i8::try_from(distance).expect("the code is short");
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte = distance.to_le_bytes()[0];
        }
    }

    /// Room for an address that [`Self::fill_in`] puts there.
    fn reserve_word(&mut self) -> Open {
        self.put(&[0, 0]);
        Open(self.bytes.len().saturating_sub(2))
    }

    fn fill_in(&mut self, Open(at): Open) {
        let here = self.here().to_le_bytes();
        let end = at.saturating_add(here.len());
        if let Some(word) = self.bytes.get_mut(at..end) {
            word.copy_from_slice(&here);
        }
    }
}

#[cfg(test)]
mod tests;
