//! The interpreter for x86-64 (Intel SDM volume 2; calls as in the System V ABI, AMD64 supplement,
//! section A.2.1).
//!
//! RBX is at the step that is carried out. A system call leaves it alone.

/// The instructions.
#[rustfmt::skip]
pub(super) const CODE: [u8; 152] = [
    0xbb, 0, 0x02, 0x41, 0,                   // mov ebx, 0x410200       DATA: the table is at an address of 32 bits
    0x48, 0x89, 0x23,                         // mov [rbx], rsp          the stack as the kernel left it, for the table
    0x48, 0x83, 0xc3, 0x08,                   // add rbx, 8              the first step
    // step:
    0xb9, 0x06, 0, 0, 0,                      // mov ecx, 6              six arguments, the last one first
    // each:
    0x48, 0x8b, 0x04, 0xcb,                   // mov rax, [rbx + rcx*8]  the argument
    0x0f, 0xa3, 0x4b, 0x04,                   // bt [rbx + 4], ecx       is it the address of one?
    0x73, 0x03,                               // jnc plain
    0x48, 0x8b, 0,                            // mov rax, [rax]
    // plain:
    0x50,                                     // push rax
    0xe2, 0xf0,                               // loop each
    0x5f,                                     // pop rdi                 where the kernel takes them from
    0x5e,                                     // pop rsi
    0x5a,                                     // pop rdx
    0x41, 0x5a,                               // pop r10
    0x41, 0x58,                               // pop r8
    0x41, 0x59,                               // pop r9
    0x8b, 0x03,                               // mov eax, [rbx]          the operation
    0x2d, 0, 0x04, 0, 0,                      // sub eax, 1024
    0x73, 0x1f,                               // jae own                 no system call
    0x05, 0, 0x04, 0, 0,                      // add eax, 1024
    0x0f, 0x05,                               // syscall
    // done:
    0x48, 0x89, 0x43, 0x48,                   // mov [rbx + 72], rax     the result
    0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff,       // cmp rax, -4095
    0x73, 0x06,                               // jae failed              -4095..=-1
    0x48, 0x8b, 0x5b, 0x38,                   // mov rbx, [rbx + 56]     what comes next
    0xeb, 0xc0,                               // jmp step
    // failed:
    0x48, 0x8b, 0x5b, 0x40,                   // mov rbx, [rbx + 64]     what comes next after an error
    0xeb, 0xba,                               // jmp step
    // own: eax counts from Equal
    0x74, 0x18,                               // je equal
    0xff, 0xc8,                               // dec eax
    0x74, 0x1f,                               // je field
    0xff, 0xc8,                               // dec eax
    0x74, 0x28,                               // je multiply_add
    0xff, 0xc8,                               // dec eax
    0x74, 0x2e,                               // je load
    0xff, 0xc8,                               // dec eax
    0x74, 0x2f,                               // je store
    0x89, 0xf8,                               // mov eax, edi
    0xe6, 0xf4,                               // out 0xf4, al            DebugExit
    // nothing:
    0x31, 0xc0,                               // xor eax, eax
    0xeb, 0xce,                               // jmp done
    // equal:
    0x48, 0x39, 0xf7,                         // cmp rdi, rsi
    0x74, 0xf7,                               // je nothing
    0x48, 0x83, 0xc8, 0xff,                   // or rax, -1
    0xeb, 0xc3,                               // jmp done
    // field:
    0x89, 0xf1,                               // mov ecx, esi
    0x48, 0x89, 0xf8,                         // mov rax, rdi
    0x48, 0xd3, 0xe8,                         // shr rax, cl
    0x48, 0x21, 0xd0,                         // and rax, rdx
    0xeb, 0xb6,                               // jmp done
    // multiply_add:
    0x48, 0x0f, 0xaf, 0xf2,                   // imul rsi, rdx
    0x48, 0x8d, 0x04, 0x37,                   // lea rax, [rdi + rsi]
    0xeb, 0xac,                               // jmp done
    // load:
    0x48, 0x8b, 0x07,                         // mov rax, [rdi]
    0xeb, 0xa7,                               // jmp done
    // store:
    0x48, 0x89, 0x37,                         // mov [rdi], rsi
    0xeb, 0xd0,                               // jmp nothing
];
