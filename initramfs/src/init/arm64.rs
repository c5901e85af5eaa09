//! The interpreter for arm64 (Arm Architecture Reference Manual, section C6.2; calls as in Linux
//! `arch/arm64/kernel/entry.S` and `syscall.c`: the number in X8, the result in X0).
//!
//! X19 is at the step that is carried out.

/// The instructions.
#[rustfmt::skip]
pub(super) const CODE: [u32; 47] = [
    0xd280_4013,  // movz x19, #0x200        DATA
    0xf2a0_0833,  // movk x19, #0x41, lsl #16
    0x9100_03e9,  // mov x9, sp              the stack as the kernel left it, for the table
    0xf800_8669,  // str x9, [x19], #8       the first step is behind it
    // step:
    0x2940_2668,  // ldp w8, w9, [x19]       the operation, and the mask of arguments
    0xa940_8660,  // ldp x0, x1, [x19, #8]   six arguments
    0xa941_8e62,  // ldp x2, x3, [x19, #24]
    0xa942_9664,  // ldp x4, x5, [x19, #40]
    0x3608_0049,  // tbz w9, #1, next        is it the address of one?
    0xf940_0000,  // ldr x0, [x0]
    0x3610_0049,  // tbz w9, #2, next
    0xf940_0021,  // ldr x1, [x1]
    0x3618_0049,  // tbz w9, #3, next
    0xf940_0042,  // ldr x2, [x2]
    0x3620_0049,  // tbz w9, #4, next
    0xf940_0063,  // ldr x3, [x3]
    0x3628_0049,  // tbz w9, #5, next
    0xf940_0084,  // ldr x4, [x4]
    0x3630_0049,  // tbz w9, #6, next
    0xf940_00a5,  // ldr x5, [x5]
    0x7110_010a,  // subs w10, w8, #1024     counts from Equal
    0x5400_00e2,  // b.hs own                no system call
    0xd400_0001,  // svc #0
    // done:
    0xf900_2660,  // str x0, [x19, #72]      the result
    0xa943_aa69,  // ldp x9, x10, [x19, #56] what comes next, and after an error
    0xb13f_fc1f,  // cmn x0, #4095           carries for -4095..=-1
    0x9a89_2153,  // csel x19, x10, x9, hs
    0x17ff_ffe9,  // b step
    // own:
    0x3400_012a,  // cbz w10, equal
    0x7100_095f,  // cmp w10, #2
    0x5400_0143,  // b.lo field
    0x5400_0180,  // b.eq multiply_add
    0x7100_115f,  // cmp w10, #4
    0x5400_0183,  // b.lo load
    0xf900_0001,  // str x1, [x0]
    0xd280_0000,  // mov x0, #0
    0x17ff_fff3,  // b done
    // equal:
    0xeb01_001f,  // cmp x0, x1
    0xda9f_03e0,  // csetm x0, ne
    0x17ff_fff0,  // b done
    // field:
    0x9ac1_2400,  // lsr x0, x0, x1
    0x8a02_0000,  // and x0, x0, x2
    0x17ff_ffed,  // b done
    // multiply_add:
    0x9b02_0020,  // madd x0, x1, x2, x0
    0x17ff_ffeb,  // b done
    // load:
    0xf940_0000,  // ldr x0, [x0]
    0x17ff_ffe9,  // b done
];
