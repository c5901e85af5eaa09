use super::*;

/// QEMU 7.2; the machine's and the hypervisor's registers and floating point left out.
const DUMP: &str = "\
CPU#0\r
 V      =   0\r
 pc       ffffffff80a0b2c4\r
 mhartid  0000000000000000\r
 mstatus  0000000a000001a2\r
 mip      0000000000000080\r
 mie      00000000000002aa\r
 stvec    ffffffff80003ed4\r
 vstvec   0000000000000001\r
 sepc     ffffffff80a0b2c4\r
 vsepc    0000000000000002\r
 scause   8000000000000005\r
 vscause  0000000000000003\r
 stval    0000000000000000\r
 satp     a000000000081c21\r
 x0/zero  0000000000000000 x1/ra    0000000000000001 x2/sp    0000000000000002 x3/gp    0000000000000003\r
 x4/tp    0000000000000004 x5/t0    0000000000000005 x6/t1    0000000000000006 x7/t2    0000000000000007\r
 x8/s0    0000000000000008 x9/s1    0000000000000009 x10/a0   000000000000000a x11/a1   000000000000000b\r
 x12/a2   000000000000000c x13/a3   000000000000000d x14/a4   000000000000000e x15/a5   000000000000000f\r
 x16/a6   0000000000000010 x17/a7   0000000000000011 x18/s2   0000000000000012 x19/s3   0000000000000013\r
 x20/s4   0000000000000014 x21/s5   0000000000000015 x22/s6   0000000000000016 x23/s7   0000000000000017\r
 x24/s8   0000000000000018 x25/s9   0000000000000019 x26/s10  000000000000001a x27/s11  000000000000001b\r
 x28/t3   000000000000001c x29/t4   000000000000001d x30/t5   000000000000001e x31/t6   000000000000001f\r
";

#[test]
fn every_register_has_its_own() {
    let read = registers(&Dump::new(DUMP)).unwrap();
    assert!(
        read.x
            .iter()
            .zip(0..)
            .all(|(value, number)| *value == number)
    );
    assert_eq!(read.pc, 0xffff_ffff_80a0_b2c4);
    assert_eq!(read.satp, 0xa000_0000_0008_1c21);
    assert_eq!(read.trap.stvec, 0xffff_ffff_8000_3ed4);
    assert_eq!(read.trap.sepc, 0xffff_ffff_80a0_b2c4);
    assert_eq!(read.trap.scause, 0x8000_0000_0000_0005);
}

#[test]
fn of_the_machines_registers_the_supervisors_part_is_seen() {
    let read = registers(&Dump::new(DUMP)).unwrap();
    assert_eq!(read.sstatus, 0x2_0000_0122);
    assert_eq!(read.sie, 0x222);
}

#[test]
fn a_dump_that_was_cut_has_no_registers() {
    for cut in 0..DUMP.find("x31/t6").unwrap() {
        assert_eq!(registers(&Dump::new(&DUMP[..cut])), None, "{cut}");
    }
}
