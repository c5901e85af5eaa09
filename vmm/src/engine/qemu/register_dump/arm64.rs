//! A 64-bit Arm processor's (`aarch64_cpu_dump_state`, `target/arm/cpu.c` of QEMU). It has none of
//! the system registers.

use super::Dump;
use firstlight_base::arm64::{Pstate, Registers, System};

pub(super) fn registers(dump: &Dump) -> Option<Registers> {
    let mut x = [0; 31];
    for (value, number) in x.iter_mut().zip(0..) {
        *value = dump.number(&format!("X{number:02}"))?;
    }
    Some(Registers {
        x,
        sp: dump.number("SP")?,
        pc: dump.number("PC")?,
        pstate: Pstate::from_bits_retain(dump.number("PSTATE")?),
        system: System::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU 7.2, at the reset vector.
    const DUMP: &str = "\
CPU#0\r
 PC=0000000000000000 X00=0000000040000000 X01=0000000000000001\r
X02=0000000000000002 X03=0000000000000003 X04=0000000000000004\r
X05=0000000000000005 X06=0000000000000006 X07=0000000000000007\r
X08=0000000000000008 X09=0000000000000009 X10=000000000000000a\r
X11=000000000000000b X12=000000000000000c X13=000000000000000d\r
X14=000000000000000e X15=000000000000000f X16=0000000000000010\r
X17=0000000000000011 X18=0000000000000012 X19=0000000000000013\r
X20=0000000000000014 X21=0000000000000015 X22=0000000000000016\r
X23=0000000000000017 X24=0000000000000018 X25=0000000000000019\r
X26=000000000000001a X27=000000000000001b X28=000000000000001c\r
X29=000000000000001d X30=000000000000001e  SP=ffff800080000000\r
PSTATE=400003c5 -Z-- EL1h  BTYPE=0    FPU disabled\r
";

    #[test]
    fn every_register_has_its_own() {
        let read = registers(&Dump::new(DUMP)).unwrap();
        assert_eq!(read.x[0], 0x4000_0000);
        let rest = read.x.iter().zip(0_u64..).skip(1);
        assert!(rest.clone().all(|(value, number)| *value == number));
        assert_eq!((read.pc, read.sp), (0, 0xffff_8000_8000_0000));
        assert_eq!(read.pstate.bits(), 0x4000_03c5);
    }

    #[test]
    fn a_dump_that_was_cut_has_no_registers() {
        for cut in 0..DUMP.find("PSTATE").unwrap() {
            assert_eq!(registers(&Dump::new(&DUMP[..cut])), None, "{cut}");
        }
    }
}
