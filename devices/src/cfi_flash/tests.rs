//! What firmware and Linux do with a bank, and what nobody should.

use super::*;
use crate::virtio::testing::Ram;
use firstlight_base::MIB;

const BANK: GpaRange = match GpaRange::new(Gpa::new(0x400_0000), MIB) {
    Some(bank) => bank,
    None => panic!("a bank has bytes"),
};

struct Bank {
    chip: CfiFlash,
    array: Ram,
}

impl Bank {
    /// All zeros, and with a megabyte behind it that is somebody else's.
    fn new(bus: FlashBus) -> Self {
        let room = GpaRange::new(BANK.start(), 2 * MIB).unwrap();
        Self {
            chip: CfiFlash::new(BANK, bus, false),
            array: Ram::of(&[room]),
        }
    }

    fn readonly(bus: FlashBus) -> Self {
        let chip = CfiFlash::new(BANK, bus, true);
        Self {
            chip,
            ..Self::new(bus)
        }
    }

    /// A command as firmware writes it, to both chips.
    fn command(&mut self, offset: u64, command: u8) {
        self.word(offset, [command, 0, command, 0]);
    }

    fn word(&mut self, offset: u64, word: [u8; 4]) {
        self.chip.write(offset, &word, &self.array);
    }

    fn byte(&mut self, offset: u64, byte: u8) {
        self.chip.write(offset, &[byte], &self.array);
    }

    fn read(&self, offset: u64) -> [u8; 4] {
        let mut word = [0; 4];
        self.chip.read(offset, &mut word, &self.array);
        word
    }

    fn erase(&mut self, offset: u64) {
        self.command(offset, 0x20);
        self.command(offset, CONFIRM);
    }

    fn stored(&self, offset: u64) -> [u8; 4] {
        let at = BANK.start().checked_add(offset).unwrap();
        self.array.bytes(at, 4).try_into().unwrap()
    }
}

const READY_WORD: [u8; 4] = [READY, 0, READY, 0];
const REFUSED: u8 = READY | BAD_SEQUENCE;

#[test]
fn a_block_is_erased_and_a_word_of_it_stored() {
    let mut bank = Bank::new(FlashBus::Wide);
    bank.erase(0x4_0010);
    assert!(!bank.chip.shows_array());
    assert_eq!(bank.read(0x4_0000), READY_WORD);
    bank.command(0x4_0100, 0x40);
    bank.word(0x4_0100, *b"word");
    assert_eq!(bank.read(0), READY_WORD);
    bank.command(0, 0xff);
    assert!(bank.chip.shows_array());
    assert_eq!(bank.read(0x4_0100), *b"word");
    assert_eq!(bank.read(0x4_00fc), [0xff; 4]);
    assert_eq!(bank.read(0x7_fffc), [0xff; 4]);
    // The blocks round it are as they were.
    assert_eq!((bank.read(0x3_fffc), bank.read(0x8_0000)), ([0; 4], [0; 4]));
}

#[test]
fn only_an_erasure_makes_bits_one() {
    let mut bank = Bank::new(FlashBus::Wide);
    bank.erase(0);
    for word in [[0xf0; 4], [0x3c; 4]] {
        bank.command(8, 0x10);
        bank.word(8, word);
    }
    assert_eq!(bank.stored(8), [0x30; 4]);
}

#[test]
fn a_buffer_is_stored_once_it_is_confirmed() {
    let mut bank = Bank::new(FlashBus::Wide);
    bank.erase(0);
    bank.command(0, 0x50);
    bank.command(0, 0xe8);
    // Firmware asks for the buffer until it is ready.
    assert_eq!(bank.read(0), READY_WORD);
    bank.word(0, [1, 0, 1, 0]);
    bank.word(0x20, *b"one!");
    bank.word(0x24, *b"two!");
    assert_eq!(bank.stored(0x20), [0xff; 4]);
    bank.command(0, CONFIRM);
    assert_eq!((bank.stored(0x20), bank.stored(0x24)), (*b"one!", *b"two!"));
    assert_eq!(bank.read(0), READY_WORD);
}

#[test]
fn what_is_not_confirmed_is_not_done_and_is_said() {
    let mut bank = Bank::new(FlashBus::Wide);
    bank.command(0, 0x20);
    bank.command(0, 0xff);
    assert_eq!(bank.read(0)[0], REFUSED);
    bank.command(0, 0xe8);
    bank.word(0, [0; 4]);
    bank.word(0x20, *b"none");
    bank.command(0, 0xff);
    assert_eq!(bank.read(0)[0], REFUSED);
    assert_eq!(bank.stored(0x20), [0; 4]);
}

#[test]
fn a_buffer_takes_no_more_than_it_holds_and_of_one_block() {
    let mut bank = Bank::new(FlashBus::Wide);
    bank.command(0, 0xe8);
    bank.word(0, [0, 4, 0, 4]);
    assert_eq!(bank.read(0)[0], REFUSED);
    bank.command(0, 0x50);
    bank.command(0, 0xe8);
    bank.word(0, [0; 4]);
    bank.word(0x4_0000, [0; 4]);
    assert_eq!(bank.read(0)[0], REFUSED);
}

#[test]
fn drivers_find_the_bank_by_its_table() {
    let mut bank = Bank::new(FlashBus::Wide);
    bank.command(0x55 * 4, 0x98);
    let at = |address: u64| {
        let [a, b, c, d] = bank.read(address * 4);
        assert_eq!([a, b], [c, d]);
        assert_eq!(b, 0);
        u64::from(a)
    };
    assert_eq!(
        [0x10, 0x11, 0x12].map(at),
        [b'Q', b'R', b'Y'].map(u64::from)
    );
    let blocks = at(0x2d) + (at(0x2e) << 8) + 1;
    let block = (at(0x2f) + (at(0x30) << 8)) << 8;
    // Of each of two chips.
    assert_eq!((1 << at(0x27), blocks * block), (MIB / 2, MIB / 2));
    assert_eq!(2 * block, FlashBus::Wide.block());
    let primary = at(0x15);
    assert_eq!(
        [0, 1, 2].map(|byte| at(primary + byte)),
        [b'P', b'R', b'I'].map(u64::from)
    );
    bank.command(0, 0x90);
    assert_eq!(bank.read(0), [0x89, 0, 0x89, 0]);
    assert_eq!(bank.read(4), [0x18, 0, 0x18, 0]);
}

#[test]
fn a_readonly_bank_says_that_it_is_locked() {
    let mut bank = Bank::readonly(FlashBus::Wide);
    bank.erase(0);
    assert_eq!(bank.read(0)[0], READY | ERASE_FAILED | LOCKED);
    bank.command(0, 0x50);
    bank.command(0, 0x40);
    bank.word(0, [0xff; 4]);
    assert_eq!(bank.read(0)[0], READY | PROGRAM_FAILED | LOCKED);
    assert_eq!(bank.stored(0), [0; 4]);
}

#[test]
fn firmware_for_pcs_knows_it_by_an_empty_status() {
    let mut bank = Bank::new(FlashBus::Narrow);
    bank.byte(7, 0x50);
    assert_ne!(bank.read(7)[0], 0x50);
    bank.byte(7, 0x70);
    assert_eq!(bank.read(7)[0], 0);
    bank.byte(7, 0xff);
    assert!(bank.chip.shows_array());
    bank.byte(0x1000, 0x20);
    bank.byte(0x1000, CONFIRM);
    bank.byte(0x1001, 0x10);
    bank.byte(0x1001, 0x5a);
    assert_eq!(bank.stored(0x1000), [0xff, 0x5a, 0xff, 0xff]);
    assert_eq!(bank.stored(0xffc), [0; 4]);
}

#[test]
fn nothing_that_is_written_reaches_beyond_the_bank() {
    // A generator of the 64-bit numbers that Knuth's MMIX has.
    let mut state = 1_u64;
    let mut draw = |most: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let commands = [
        0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xe8, 0xff, 0xd0, 1, 0,
    ];
    for bus in [FlashBus::Narrow, FlashBus::Wide] {
        let mut bank = Bank::new(bus);
        for _ in 0..20_000 {
            let offset = match draw(4) {
                0 => MIB - draw(16),
                1 => u64::MAX - draw(16),
                _ => draw(2 * MIB),
            };
            let command = commands[usize::try_from(draw(13)).unwrap()];
            let width = usize::try_from(draw(9)).unwrap();
            bank.chip.write(offset, &[command; 8][..width], &bank.array);
            let mut data = [0; 8];
            bank.chip.read(offset, &mut data[..width], &bank.array);
        }
        let behind = BANK.end();
        let len = usize::try_from(MIB).unwrap();
        assert!(bank.array.bytes(behind, len).iter().all(|&byte| byte == 0));
    }
}
