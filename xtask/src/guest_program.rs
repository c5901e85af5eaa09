//! Guests' programs that no shell can stand in for: two of a few instructions each, and one in Rust.
//!
//! `outb NUMBER` writes the number to the debug-exit port; cloud kernels have no `/dev/port`.
//! `tsc` prints the time stamp counter, which in a machine whose clock counts instructions tells
//! how many were executed since it was switched on. Each is as small as an ELF file gets (System V
//! ABI, chapter 4: a file header, one loadable segment, the code).

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::cross::Cross;
use crate::failure::Outcome;
use crate::process;
use crate::project::Project;
use std::path::PathBuf;
use std::process::Command;

/// The debug-exit port, as in QEMU's `isa-debug-exit`.
const PORT: u8 = 0xf4;
/// Where the file lies in the program's memory.
const LOAD: u64 = 0x40_0000;
/// The sizes of the two headers before the code.
const HEADERS: u64 = 64 + 56;

/// Writes its argument to the debug-exit port.
#[rustfmt::skip]
const OUTB: [u8; 56] = [
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
    0x89, 0xd8,                     // mov eax, ebx
    0xe6, PORT,                     // out PORT, al
    // the machine goes on: say so by the status
    0x89, 0xf7,                     // mov edi, esi
    0x6a, 60, 0x58,                 // mov eax, 60              exit
    0x0f, 0x05,                     // syscall
];

/// Prints the time stamp counter and a new line.
#[rustfmt::skip]
const TSC: [u8; 68] = [
    0x0f, 0x31,                     // rdtsc
    0x48, 0xc1, 0xe2, 32,           // shl rdx, 32
    0x48, 0x09, 0xd0,               // or rax, rdx
    0x48, 0x8d, 0x74, 0x24, 0xff,   // lea rsi, [rsp - 1]       the text grows downwards
    0xc6, 0x06, b'\n',              // mov byte [rsi], '\n'
    0xb9, 10, 0, 0, 0,              // mov ecx, 10
    0x41, 0xb8, 1, 0, 0, 0,         // mov r8d, 1               so many bytes
    // digit:
    0x31, 0xd2,                     // xor edx, edx
    0x48, 0xf7, 0xf1,               // div rcx
    0x80, 0xc2, b'0',               // add dl, '0'
    0x48, 0xff, 0xce,               // dec rsi
    0x88, 0x16,                     // mov [rsi], dl
    0x41, 0xff, 0xc0,               // inc r8d
    0x48, 0x85, 0xc0,               // test rax, rax
    0x75, 0xeb,                     // jnz digit
    0x44, 0x89, 0xc2,               // mov edx, r8d
    0xb8, 1, 0, 0, 0,               // mov eax, 1               write
    0x89, 0xc7,                     // mov edi, eax             to standard output
    0x0f, 0x05,                     // syscall
    0x31, 0xff,                     // xor edi, edi
    0x6a, 60, 0x58,                 // mov eax, 60              exit
    0x0f, 0x05,                     // syscall
];

/// The file of `outb`.
pub(crate) fn outb() -> Vec<u8> {
    elf(&OUTB)
}

/// The file of `tsc`.
pub(crate) fn tsc() -> Vec<u8> {
    elf(&TSC)
}

/// Compiles `trial` for guests of `architecture`, and says where it is.
pub(crate) fn trial(
    project: &Project,
    cache: &Cache,
    architecture: Architecture,
) -> Outcome<PathBuf> {
    let mut rustc = if architecture == Architecture::of_this_machine()? {
        Command::new("rustc")
    } else {
        Cross::prepare(project, cache, architecture)?.rustc()
    };
    let name = format!("trial-{}", architecture.name());
    let file = project.scratch("guest")?.join(name);
    rustc
        .args(["--edition", "2024", "--crate-name", "trial", "-Dwarnings"])
        .args(["-Copt-level=s", "-Cstrip=symbols", "-Cpanic=abort"])
        .args(["-Ctarget-feature=+crt-static", "-o"])
        .arg(&file)
        .arg(project.root().join("xtask/guest/trial.rs"));
    process::output_of(&mut rustc)?;
    Ok(file)
}

fn elf(code: &[u8]) -> Vec<u8> {
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
    put(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    /// Our machine runs the guest's program.
    #[test]
    fn the_time_stamp_counter_is_printed_and_rises() {
        if std::env::consts::ARCH != "x86_64" {
            eprintln!("skipped: this is no x86-64 machine");
            return;
        }
        let file = std::env::temp_dir().join(format!("firstlight-tsc-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o755);
        let mut open = options.open(&file).unwrap();
        open.write_all(&tsc()).unwrap();
        drop(open);
        let read = || -> u64 {
            let said = process::output_of(&mut Command::new(&file)).unwrap();
            said.strip_suffix('\n').unwrap().parse().unwrap()
        };
        let (first, second) = (read(), read());
        std::fs::remove_file(&file).unwrap();
        assert!(first < second, "{first} {second}");
    }
}
