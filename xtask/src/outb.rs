//! A guest's program that writes one byte to the debug-exit port.
//!
//! Cloud kernels have no `/dev/port`, and no shell can make the instruction `out`; so here is a
//! program of a few of them: `outb NUMBER` writes the number to port 0xf4. It is as small as an
//! ELF file gets (System V ABI, chapter 4: a file header, one loadable segment, the code).

/// The port, as in QEMU's `isa-debug-exit`.
const PORT: u8 = 0xf4;
/// Where the file lies in the program's memory.
const LOAD: u64 = 0x40_0000;
/// The sizes of the two headers before the code.
const HEADERS: u64 = 64 + 56;

/// The program's file.
pub(crate) fn program() -> Vec<u8> {
    let code = code();
    let size = HEADERS + code.len() as u64;
    let mut file = Vec::new();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little endian, version 1
    put(&2_u16.to_le_bytes()); // ET_EXEC
    put(&62_u16.to_le_bytes()); // EM_X86_64
    put(&1_u32.to_le_bytes()); // EV_CURRENT
    put(&(LOAD + HEADERS).to_le_bytes()); // e_entry
    put(&64_u64.to_le_bytes()); // e_phoff
    put(&0_u64.to_le_bytes()); // e_shoff
    put(&0_u32.to_le_bytes()); // e_flags
    for field in [64_u16, 56, 1, 64, 0, 0] {
        put(&field.to_le_bytes()); // e_ehsize, e_phentsize, e_phnum, e_shentsize, ...
    }
    put(&1_u32.to_le_bytes()); // PT_LOAD
    put(&5_u32.to_le_bytes()); // readable, executable
    for field in [0, LOAD, LOAD, size, size, 0x1000] {
        put(&field.to_le_bytes()); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    }
    put(&code);
    file
}

fn code() -> Vec<u8> {
    #[rustfmt::skip]
    let code = [
        0x48, 0x8b, 0x74, 0x24, 0x10,   // mov rsi, [rsp + 16]      the first argument
        0x31, 0xdb,                     // xor ebx, ebx             the number
        // next:
        0x0f, 0xb6, 0x06,               // movzx eax, byte [rsi]
        0x2c, b'0',                     // sub al, '0'
        0x3c, 9,                        // cmp al, 9
        0x77, 10,                       // ja done
        0x6b, 0xdb, 10,                 // imul ebx, ebx, 10
        0x01, 0xc3,                     // add ebx, eax
        0x48, 0xff, 0xc6,               // inc rsi
        0xeb, 0xed,                     // jmp next
        // done:
        0xbf, PORT, 0, 0, 0,            // mov edi, PORT
        0xbe, 1, 0, 0, 0,               // mov esi, 1               so many ports
        0x89, 0xf2,                     // mov edx, esi             allowed
        0xb8, 173, 0, 0, 0,             // mov eax, 173             ioperm
        0x0f, 0x05,                     // syscall
        0x85, 0xc0,                     // test eax, eax
        0x75, 4,                        // jnz refused
        0x89, 0xd8,                     // mov eax, ebx
        0xe6, PORT,                     // out PORT, al
        // refused: the port did not end the machine
        0xbf, 1, 0, 0, 0,               // mov edi, 1
        0xb8, 60, 0, 0, 0,              // mov eax, 60              exit
        0x0f, 0x05,                     // syscall
    ];
    code.to_vec()
}
