//! What firmware and kernels do with the device, and what hostile ones may try.

use super::*;
use alloc::string::ToString;
use alloc::vec;
use core::cell::RefCell;
use firstlight_base::{GpaRange, GuestMem, OutsideRam};

struct Ram(RefCell<Vec<u8>>);

impl Ram {
    fn new() -> Self {
        Self(RefCell::new(vec![0xee; 0x1_0000]))
    }

    fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        self.0.borrow()[at..at + len].to_vec()
    }

    /// Puts a command at 0x100, carries it out, and says what is left in its first word.
    fn command(&self, device: &mut FwCfg, control: u32, len: u32, address: u64) -> u32 {
        let mut command = control.to_be_bytes().to_vec();
        command.extend(len.to_be_bytes());
        command.extend(address.to_be_bytes());
        self.write(Gpa::new(0x100), &command).unwrap();
        device.carry_out(self, Gpa::new(0x100));
        u32::from_be_bytes(self.bytes(0x100, 4).try_into().unwrap())
    }
}

impl GuestMem for Ram {
    fn holds(&self, range: GpaRange) -> bool {
        range.end().get() <= self.0.borrow().len() as u64
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        let len = into.len() as u64;
        let start = usize::try_from(at.get()).unwrap();
        let ram = self.0.borrow();
        let bytes = ram.get(start..).and_then(|ram| ram.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(OutsideRam { at, len })?);
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        let len = from.len() as u64;
        let start = usize::try_from(at.get()).unwrap();
        let mut ram = self.0.borrow_mut();
        let bytes = ram
            .get_mut(start..)
            .and_then(|ram| ram.get_mut(..from.len()));
        bytes.ok_or(OutsideRam { at, len })?.copy_from_slice(from);
        Ok(())
    }

    fn load_u16(&self, at: Gpa) -> Result<u16, OutsideRam> {
        Err(OutsideRam { at, len: 2 })
    }

    fn store_u16(&self, at: Gpa, _value: u16) -> Result<(), OutsideRam> {
        Err(OutsideRam { at, len: 2 })
    }
}

fn file(name: &str, bytes: &[u8]) -> FwCfgFile {
    FwCfgFile {
        name: name.to_string(),
        bytes: bytes.to_vec(),
    }
}

fn device() -> FwCfg {
    let files = vec![file("opt/b", b"second"), file("opt/a", b"first")];
    FwCfg::new(files).unwrap()
}

/// The item, read byte by byte from the ports.
fn by_ports(device: &mut FwCfg, item: u16, len: usize) -> Vec<u8> {
    assert_eq!(device.write_ports(0, &item.to_le_bytes()), None);
    let mut bytes = vec![0xff; len];
    for byte in &mut bytes {
        device.read_ports(1, core::slice::from_mut(byte));
    }
    bytes
}

#[test]
fn a_guest_finds_the_device_and_its_files() {
    let mut device = device();
    assert_eq!(by_ports(&mut device, SIGNATURE, 4), b"QEMU");
    assert_eq!(by_ports(&mut device, ID, 4), [3, 0, 0, 0]);
    let directory = by_ports(&mut device, FILE_DIR, 4 + 2 * 64);
    assert_eq!(directory[..4], [0, 0, 0, 2]);
    for (entry, name, len, item) in [
        (&directory[4..68], "opt/a", 5, 0x20),
        (&directory[68..], "opt/b", 6, 0x21),
    ] {
        assert_eq!(entry[..8], [0, 0, 0, len, 0, item, 0, 0]);
        assert_eq!(&entry[8..8 + name.len()], name.as_bytes());
        assert!(entry[8 + name.len()..].iter().all(|&byte| byte == 0));
    }
    assert_eq!(by_ports(&mut device, 0x20, 7), b"first\0\0");
    assert_eq!(by_ports(&mut device, 0x21, 6), b"second");
    assert_eq!(by_ports(&mut device, 0x4000, 2), [0, 0]);
}

#[test]
fn registers_in_memory_are_big_endian_and_as_wide_as_one_likes() {
    let mut device = device();
    assert_eq!(device.write_registers(8, &0x21_u16.to_be_bytes()), None);
    let mut bytes = [0; 8];
    device.read_registers(0, &mut bytes[..4]);
    device.read_registers(0, &mut bytes[4..]);
    assert_eq!(&bytes, b"second\0\0");
}

#[test]
fn commands_are_announced_and_begin_with_the_lower_half() {
    let mut device = device();
    let mut signature = [0; 8];
    device.read_ports(4, &mut signature[..4]);
    device.read_ports(8, &mut signature[4..]);
    assert_eq!(&signature, b"QEMU CFG");
    assert_eq!(device.write_ports(4, &[0, 0, 0, 1]), None);
    let at = device.write_ports(8, &[0x80, 0, 0, 0]);
    assert_eq!(at, Some(Gpa::new(0x1_8000_0000)));
    assert_eq!(device.write_ports(8, &[0, 0, 1, 0]), Some(Gpa::new(0x100)));
    let at = device.write_registers(16, &0x1234_5678_9abc_u64.to_be_bytes());
    assert_eq!(at, Some(Gpa::new(0x1234_5678_9abc)));
}

#[test]
fn a_command_selects_skips_and_reads() {
    let (mut device, ram) = (device(), Ram::new());
    let select = 0x0020_0008;
    assert_eq!(ram.command(&mut device, select | 4, 2, 0), 0);
    assert_eq!(ram.command(&mut device, 2, 2, 0x800), 0);
    assert_eq!(ram.bytes(0x800, 3), [b'r', b's', 0xee]);
    assert_eq!(ram.command(&mut device, 2, 0x2000, 0x1000), 0);
    assert_eq!(ram.bytes(0x1000, 2), [b't', 0]);
    assert!(ram.bytes(0x1001, 0x1fff).iter().all(|&byte| byte == 0));
    assert_eq!(ram.bytes(0x3000, 1), [0xee]);
    assert_eq!(ram.command(&mut device, 0x0021_0008, 0, 0), 0);
    assert_eq!(ram.command(&mut device, 2, 6, 0x800), 0);
    assert_eq!(ram.bytes(0x800, 6), b"second");
}

#[test]
fn what_cannot_be_done_is_an_error_and_harms_nobody() {
    let (mut device, ram) = (device(), Ram::new());
    assert_eq!(
        ram.command(&mut device, 0x0020_0018, 4, 0x800),
        1,
        "a write"
    );
    assert_eq!(ram.bytes(0x800, 4), [0xee; 4]);
    assert_eq!(ram.command(&mut device, 0x0020_000a, 4, 0xffff), 1);
    assert_eq!(ram.command(&mut device, 2, u32::MAX, 0x800), 1);
    assert_eq!(ram.command(&mut device, 2, 8, u64::MAX - 3), 1);
    assert_eq!(ram.command(&mut device, 4, u32::MAX, 0), 0);
    assert_eq!(ram.command(&mut device, 4, u32::MAX, 0), 0);
    assert_eq!(ram.command(&mut device, 2, 4, 0x800), 0);
    assert_eq!(ram.bytes(0x800, 4), [0; 4]);
    for at in [0xffff, 0x1_0000, u64::MAX, u64::MAX - 15] {
        device.carry_out(&ram, Gpa::new(at));
    }
}

#[test]
fn every_access_is_survived() {
    let mut device = device();
    for offset in 0..32 {
        for len in 0..=16 {
            let mut data = vec![0xff; len];
            device.read_ports(offset, &mut data);
            device.read_registers(offset, &mut data);
            let _ = device.write_ports(offset, &data);
            let _ = device.write_registers(offset, &data);
        }
    }
}

#[test]
fn files_that_cannot_be_told_of_are_refused() {
    let refusal = |files| FwCfg::new(files).unwrap_err().to_string();
    for name in ["", "opt/a b", "opt/\u{e4}", &"x".repeat(56)] {
        let said = refusal(vec![file(name, b"")]);
        assert!(said.contains("1 to 55 visible"), "{said}");
    }
    FwCfg::new(vec![file(&"x".repeat(55), b"")]).unwrap();
    let said = refusal(vec![file("opt/a", b""), file("opt/a", b"x")]);
    assert!(said.contains("the name \"opt/a\""), "{said}");
    let many: Vec<_> = (0..33)
        .map(|number| file(&number.to_string(), b""))
        .collect();
    assert_eq!(
        refusal(many),
        "there are 33 files for the firmware, and can be 32"
    );
}
