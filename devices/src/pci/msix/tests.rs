use super::*;
use crate::pci::config::tests::survives_every_access;
use crate::pci::{Bar, BarKind, Identity};
use core::cell::RefCell;
use proptest::prelude::*;

const PLACE: MsiXPlace = MsiXPlace {
    bar: 4,
    table: 0x2000,
    pba: 0x3000,
};
/// Where message control of the only capability is.
const CONTROL_AT: u16 = 0x42;

struct Function {
    config: ConfigSpace,
    msix: MsiX,
}

impl Function {
    fn new(vectors: u16) -> Self {
        let mut config = ConfigSpace::new(&Identity {
            vendor: 1,
            device: 2,
            class: 3,
            revision: 4,
            subsystem_vendor: 5,
            subsystem: 6,
        });
        config.add_bar(4, Bar::new(BarKind::Memory64, 0x1_0000).unwrap());
        let msix = MsiX::add_to(&mut config, vectors, PLACE);
        Self { config, msix }
    }

    /// One that is enabled, and whose vectors have messages and are not masked.
    fn running(vectors: u16) -> Self {
        let mut function = Self::new(vectors);
        function.command(4);
        function.control(0x8000);
        for vector in 0..vectors {
            let at = u64::from(vector) * 16;
            function
                .msix
                .write_table(at, &(0xfee0_1000_u64).to_le_bytes());
            function
                .msix
                .write_table(at + 8, &u32::from(vector).to_le_bytes());
            function.mask(vector, 0);
        }
        function
    }

    fn command(&mut self, value: u16) {
        self.config.write(4, &value.to_le_bytes());
    }

    fn control(&mut self, value: u16) {
        self.config.write(CONTROL_AT, &value.to_le_bytes());
    }

    fn mask(&mut self, vector: u16, value: u32) {
        let at = u64::from(vector) * 16 + 12;
        self.msix.write_table(at, &value.to_le_bytes());
    }

    fn raise(&mut self, vector: u16) -> Option<u32> {
        let message = self.msix.raise(vector, &self.config)?;
        assert_eq!(message.address, 0xfee0_1000);
        Some(message.data)
    }

    fn take(&mut self) -> Vec<u32> {
        core::iter::from_fn(|| self.msix.take_message(&self.config))
            .map(|message| message.data)
            .collect()
    }

    fn pba(&self) -> u64 {
        let mut data = [0; 8];
        self.msix.read_pba(0, &mut data);
        u64::from_le_bytes(data)
    }
}

#[test]
fn the_capability_says_where_table_and_pending_bits_are() {
    let mut function = Function::new(3);
    function.control(0xffff);
    assert_eq!(function.config.walk(), [(0x11, 0x40)]);
    assert_eq!(function.config.u32_at(0x40), 0xc002_0011);
    assert_eq!(function.config.u32_at(0x44), 0x2004);
    assert_eq!(function.config.u32_at(0x48), 0x3004);
    assert_eq!((MsiX::table_len(3), MsiX::pba_len(3)), (48, 8));
    assert_eq!((MsiX::table_len(2048), MsiX::pba_len(2048)), (0x8000, 256));
    assert_eq!(MsiX::pba_len(65), 16);
}

#[test]
fn an_open_vector_sends_its_message_at_once() {
    let mut function = Function::running(2);
    assert_eq!(function.raise(1), Some(1));
    assert_eq!(function.raise(1), Some(1));
    assert_eq!((function.pba(), function.take()), (0, vec![]));
}

#[test]
fn after_reset_every_vector_is_masked() {
    let mut function = Function::new(2);
    function.command(4);
    function.control(0x8000);
    assert_eq!((function.raise(0), function.raise(1)), (None, None));
    assert_eq!(function.pba(), 3);
}

#[test]
fn a_masked_vector_is_pending_and_comes_once_when_unmasked() {
    let mut function = Function::running(2);
    function.mask(1, 1);
    assert_eq!((function.raise(1), function.raise(1)), (None, None));
    assert_eq!((function.pba(), function.take()), (2, vec![]));
    function.mask(1, 0);
    assert_eq!((function.take(), function.pba()), (vec![1], 0));
}

#[test]
fn the_function_mask_holds_all_vectors_back() {
    let mut function = Function::running(3);
    function.control(0xc000);
    assert_eq!((function.raise(2), function.raise(0)), (None, None));
    assert!(function.take().is_empty());
    function.control(0x8000);
    assert_eq!(function.take(), [0, 2]);
}

#[test]
fn a_function_that_is_no_bus_master_holds_messages_back() {
    let mut function = Function::running(1);
    function.command(0);
    assert_eq!((function.raise(0), function.take()), (None, vec![]));
    function.command(4);
    assert_eq!(function.take(), [0]);
}

#[test]
fn nothing_is_raised_while_disabled_or_by_a_vector_that_there_is_not() {
    let mut function = Function::running(3);
    for vector in 3..=u16::MAX {
        assert_eq!(function.raise(vector), None);
    }
    function.control(0);
    assert_eq!(function.raise(0), None);
    function.control(0x8000);
    assert_eq!((function.take(), function.pba()), (vec![], 0));
}

#[test]
fn reserved_bits_of_the_table_stay_zero_and_beyond_its_end_are_ones() {
    let mut function = Function::new(1);
    function.msix.write_table(0, &[0xff; 32]);
    let mut data = [0; 20];
    function.msix.read_table(0, &mut data);
    assert_eq!(data[..4], [0xfc, 0xff, 0xff, 0xff]);
    assert_eq!(data[4..12], [0xff; 8]);
    assert_eq!(data[12..], [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    function.msix.read_pba(4, &mut data);
    assert_eq!(data[..6], [0, 0, 0, 0, 0xff, 0xff]);
}

#[test]
fn reset_masks_and_forgets() {
    let mut function = Function::running(2);
    function.mask(0, 1);
    assert_eq!(function.raise(0), None);
    function.msix.reset();
    assert_eq!(function.pba(), 0);
    assert_eq!((function.raise(1), function.pba()), (None, 2));
}

#[test]
fn every_access_is_survived() {
    let function = RefCell::new(Function::new(65));
    survives_every_access(
        |at, data| function.borrow().config.read(at, data),
        |at, data| function.borrow_mut().config.write(at, data),
    );
    let mut function = function.into_inner();
    for offset in (0..0x500).chain([u64::MAX - 4, u64::MAX]) {
        for width in [1, 2, 3, 4, 8, 16] {
            let mut data = [0x5a; 16];
            function.msix.read_table(offset, &mut data[..width]);
            function.msix.read_pba(offset, &mut data[..width]);
            function.msix.write_table(offset, &[0xa5; 16][..width]);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Raise(u16),
    Mask(u16, bool),
    MaskFunction(bool),
    Master(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u16).prop_map(Step::Raise),
        2 => (0..4_u16, any::<bool>()).prop_map(|(vector, is)| Step::Mask(vector, is)),
        1 => any::<bool>().prop_map(Step::MaskFunction),
        1 => any::<bool>().prop_map(Step::Master),
    ]
}

proptest! {
    /// What was raised and has not been sent is pending, and nothing is sent that was not raised.
    #[test]
    fn no_interrupt_is_lost_or_invented(steps in prop::collection::vec(step(), 0..64)) {
        let mut function = Function::running(4);
        let mut owed = [false; 4];
        for step in steps {
            match step {
                Step::Raise(vector) => {
                    let sent = function.raise(vector);
                    if let Some(owed) = owed.get_mut(usize::from(vector)) {
                        *owed |= sent.is_none();
                    } else {
                        prop_assert_eq!(sent, None);
                    }
                }
                Step::Mask(vector, is_masked) => function.mask(vector, is_masked.into()),
                Step::MaskFunction(is) => function.control(0x8000 | u16::from(is) << 14),
                Step::Master(is) => function.command(u16::from(is) << 2),
            }
            for sent in function.take() {
                prop_assert!(core::mem::take(&mut owed[sent as usize]));
            }
            let bits = owed.iter().rev().fold(0, |bits, &is| bits << 1 | u64::from(is));
            prop_assert_eq!(function.pba(), bits);
        }
        function.command(4);
        function.control(0x8000);
        for vector in 0..4 {
            function.mask(vector, 0);
        }
        function.take();
        prop_assert_eq!(function.pba(), 0);
    }
}
