//! The interpreter for riscv64 (The RISC-V Instruction Set Manual, volume I, RV64I and M; calls as in
//! Linux `arch/riscv/kernel/traps.c`: the number in A7, the result in A0).
//!
//! S1 is at the step that is carried out.

/// The instructions; none of them is compressed.
#[rustfmt::skip]
pub(super) const CODE: [u32; 62] = [
    0x0041_04b7,  // lui s1, 0x410           DATA
    0x2004_8493,  // addi s1, s1, 0x200
    0x0024_b023,  // sd sp, 0(s1)            the stack as the kernel left it, for the table
    0x0084_8493,  // addi s1, s1, 8          the first step
    // step:
    0x0004_e883,  // lwu a7, 0(s1)           the operation
    0x0044_e283,  // lwu t0, 4(s1)           the mask of arguments
    0x0084_b503,  // ld a0, 8(s1)            six arguments
    0x0104_b583,  // ld a1, 16(s1)
    0x0184_b603,  // ld a2, 24(s1)
    0x0204_b683,  // ld a3, 32(s1)
    0x0284_b703,  // ld a4, 40(s1)
    0x0304_b783,  // ld a5, 48(s1)
    0x0022_f313,  // andi t1, t0, 2          is it the address of one?
    0x0003_0463,  // beqz t1, next
    0x0005_3503,  // ld a0, 0(a0)
    0x0042_f313,  // andi t1, t0, 4
    0x0003_0463,  // beqz t1, next
    0x0005_b583,  // ld a1, 0(a1)
    0x0082_f313,  // andi t1, t0, 8
    0x0003_0463,  // beqz t1, next
    0x0006_3603,  // ld a2, 0(a2)
    0x0102_f313,  // andi t1, t0, 16
    0x0003_0463,  // beqz t1, next
    0x0006_b683,  // ld a3, 0(a3)
    0x0202_f313,  // andi t1, t0, 32
    0x0003_0463,  // beqz t1, next
    0x0007_3703,  // ld a4, 0(a4)
    0x0402_f313,  // andi t1, t0, 64
    0x0003_0463,  // beqz t1, next
    0x0007_b783,  // ld a5, 0(a5)
    0xc008_8293,  // addi t0, a7, -1024      counts from Equal
    0x0202_d263,  // bgez t0, own            no system call
    0x0000_0073,  // ecall
    // done:
    0x04a4_b423,  // sd a0, 72(s1)           the result
    0xffff_f2b7,  // lui t0, 0xfffff         -4096
    0x00a2_e663,  // bltu t0, a0, failed     -4095..=-1
    0x0384_b483,  // ld s1, 56(s1)           what comes next
    0xf7df_f06f,  // j step
    // failed:
    0x0404_b483,  // ld s1, 64(s1)           what comes next after an error
    0xf75f_f06f,  // j step
    // own:
    0x0202_8463,  // beqz t0, equal
    0xfff2_8293,  // addi t0, t0, -1
    0x0202_8863,  // beqz t0, field
    0xfff2_8293,  // addi t0, t0, -1
    0x0202_8a63,  // beqz t0, multiply_add
    0xfff2_8293,  // addi t0, t0, -1
    0x0202_8c63,  // beqz t0, load
    0x00b5_3023,  // sd a1, 0(a0)
    0x0000_0513,  // li a0, 0
    0xfc1f_f06f,  // j done
    // equal:
    0x40b5_0533,  // sub a0, a0, a1
    0x00a0_3533,  // snez a0, a0
    0x40a0_0533,  // neg a0, a0
    0xfb1f_f06f,  // j done
    // field:
    0x00b5_5533,  // srl a0, a0, a1
    0x00c5_7533,  // and a0, a0, a2
    0xfa5f_f06f,  // j done
    // multiply_add:
    0x02c5_85b3,  // mul a1, a1, a2
    0x00b5_0533,  // add a0, a0, a1
    0xf99f_f06f,  // j done
    // load:
    0x0005_3503,  // ld a0, 0(a0)
    0xf91f_f06f,  // j done
];
