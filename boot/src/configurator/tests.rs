use super::fdt::FdtBootConfigurator;
use super::linux::LinuxBootConfigurator;
use super::pvh::PvhBootConfigurator;
use super::*;
use alloc::vec;
use core::cell::RefCell;
use firstlight_base::{GpaRange, GuestMem, OutsideRam};

/// RAM from 0x1000 on.
struct Ram(RefCell<Vec<u8>>);

impl Ram {
    const START: u64 = 0x1000;

    fn of(len: usize) -> Self {
        Self(RefCell::new(vec![0; len]))
    }

    fn part(
        &self,
        at: Gpa,
        len: usize,
    ) -> core::result::Result<core::ops::Range<usize>, OutsideRam> {
        let outside = OutsideRam {
            at,
            len: len as u64,
        };
        let start = at.get().checked_sub(Self::START).ok_or(outside)?;
        let start = usize::try_from(start).unwrap();
        let end = start + len;
        (end <= self.0.borrow().len())
            .then_some(start..end)
            .ok_or(outside)
    }

    fn is_untouched(&self) -> bool {
        self.0.borrow().iter().all(|&byte| byte == 0)
    }
}

impl GuestMem for Ram {
    fn holds(&self, range: GpaRange) -> bool {
        usize::try_from(range.len()).is_ok_and(|len| self.part(range.start(), len).is_ok())
    }

    fn read(&self, at: Gpa, into: &mut [u8]) -> core::result::Result<(), OutsideRam> {
        let part = self.part(at, into.len())?;
        into.copy_from_slice(&self.0.borrow()[part]);
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> core::result::Result<(), OutsideRam> {
        let part = self.part(at, from.len())?;
        self.0.borrow_mut()[part].copy_from_slice(from);
        Ok(())
    }

    fn load_u16(&self, at: Gpa) -> core::result::Result<u16, OutsideRam> {
        let mut bytes = [0; 2];
        self.read(at, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, at: Gpa, value: u16) -> core::result::Result<(), OutsideRam> {
        self.write(at, &value.to_le_bytes())
    }
}

fn module(paddr: u64) -> hvm_modlist_entry {
    hvm_modlist_entry {
        paddr,
        ..hvm_modlist_entry::default()
    }
}

fn pvh(header: u64, memmap: u64, modules: u64) -> BootParams<Gpa> {
    let mut params = BootParams::new(
        &hvm_start_info {
            magic: 1,
            ..hvm_start_info::default()
        },
        Gpa::new(header),
    );
    let line = hvm_memmap_table_entry {
        addr: 2,
        ..hvm_memmap_table_entry::default()
    };
    params.set_sections(&[line, line], Gpa::new(memmap));
    params.set_modules(&[module(3)], Gpa::new(modules));
    params
}

#[test]
fn every_part_of_a_pvh_guests_news_goes_where_it_is_told() {
    let ram = Ram::of(0x1000);
    PvhBootConfigurator::place(&pvh(0x1000, 0x1100, 0x1200), &ram).unwrap();
    let bytes = ram.0.borrow();
    assert_eq!((bytes[0], bytes[0x100], bytes[0x118]), (1, 2, 2));
    assert_eq!(bytes[0x200], 3);
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 4);
}

#[test]
fn a_refusal_leaves_memory_as_it_was() {
    let ram = Ram::of(0x1000);
    for (params, error) in [
        (pvh(0x1fc9, 0x1100, 0x1200), pvh::Error::StartInfoPastRamEnd),
        (
            pvh(0x1000, 0x1fd1, 0x1200),
            pvh::Error::MemmapTablePastRamEnd,
        ),
        (pvh(0x1000, 0x1100, 0x1fe1), pvh::Error::ModulesSetup),
        (pvh(0xfff, 0x1100, 0x1200), pvh::Error::StartInfoPastRamEnd),
        (
            pvh(u64::MAX, 0x1100, 0x1200),
            pvh::Error::StartInfoPastRamEnd,
        ),
    ] {
        assert_eq!(PvhBootConfigurator::place(&params, &ram), Err(error.into()));
        assert!(ram.is_untouched());
    }
}

#[test]
fn a_pvh_guest_needs_a_memory_map_and_every_list_its_address() {
    let ram = Ram::of(0x1000);
    let place = |params: &BootParams<Gpa>| PvhBootConfigurator::place(params, &ram);
    let mut params = pvh(0x1000, 0x1100, 0x1200);
    params.modules_start = None;
    assert_eq!(
        place(&params),
        Err(pvh::Error::ModulesAddressMissing.into())
    );
    params.sections_start = None;
    assert_eq!(
        place(&params),
        Err(pvh::Error::MemmapTableAddressMissing.into())
    );
    params.sections = None;
    assert_eq!(place(&params), Err(pvh::Error::MemmapTableMissing.into()));
    assert!(ram.is_untouched());
}

#[test]
fn what_ends_with_the_last_byte_of_ram_fits() {
    let ram = Ram::of(0x1000);
    let page = boot_params::default();
    assert_eq!(
        LinuxBootConfigurator::place(&BootParams::new(&page, Gpa::new(0x1000)), &ram),
        Ok(())
    );
    assert_eq!(
        LinuxBootConfigurator::place(&BootParams::new(&page, Gpa::new(0x1001)), &ram),
        Err(linux::Error::ZeroPagePastRamEnd.into())
    );
    let tree = [0xd0_u8; 16];
    assert_eq!(
        FdtBootConfigurator::place(&BootParams::new(&tree[..], Gpa::new(0x1ff0)), &ram),
        Ok(())
    );
    assert_eq!(
        FdtBootConfigurator::place(&BootParams::new(&tree[..], Gpa::new(0x1ff1)), &ram),
        Err(fdt::Error::FDTPastRamEnd.into())
    );
}

#[test]
fn a_list_grows_to_where_its_next_element_goes_and_no_element_is_lost() {
    let mut params = BootParams::new(&module(0), Gpa::new(0));
    let at = |at| Some(Gpa::new(at));
    assert_eq!(
        params.add_module(&module(1), at(0x2000)),
        Ok(Gpa::new(0x2000))
    );
    assert_eq!(
        params.add_module(&module(2), at(0x2040)),
        Ok(Gpa::new(0x2040))
    );
    assert_eq!(params.add_module(&module(3), None), Ok(Gpa::new(0x2060)));
    assert_eq!(
        params.add_module(&module(4), at(0x2000)),
        Ok(Gpa::new(0x2000))
    );
    let list = params.modules.unwrap();
    assert_eq!(list.len(), 0x80);
    assert_eq!((list[0], list[0x20], list[0x40], list[0x60]), (4, 0, 2, 3));
    assert_eq!(params.modules_start, at(0x2000));
}

#[test]
fn an_address_out_of_all_proportion_takes_no_memory() {
    let mut params = BootParams::new(&module(0), Gpa::new(0));
    let mut far = |address| params.add_section(&module(1), Some(Gpa::new(address)));
    assert_eq!(far(0x1000), Ok(Gpa::new(0x1000)));
    assert_eq!(far(u64::MAX), Err(Error::Overflow));
    assert_eq!(far(1 << 40), Err(Error::Overflow));
    assert_eq!(far(0x1000 + LIST_MAX as u64 - 31), Err(Error::Overflow));
    let last = Gpa::new(0x1000 + LIST_MAX as u64 - 32);
    assert_eq!(far(last.get()), Ok(last));
    assert_eq!(params.sections.unwrap().len(), LIST_MAX);
}

#[test]
fn a_list_at_the_end_of_all_addresses_does_not_wrap() {
    let mut params = BootParams::new(&module(0), Gpa::new(0));
    params.set_sections(&[module(1)], Gpa::new(u64::MAX - 31));
    assert_eq!(params.add_section(&module(2), None), Err(Error::Overflow));
    assert_eq!(params.sections.as_ref().map(Vec::len), Some(32));
}

#[test]
fn a_call_that_fails_changes_nothing() {
    let mut params = BootParams::new(&module(0), Gpa::new(0));
    let before = params.clone();
    assert_eq!(
        params.add_section(&module(1), None),
        Err(Error::MissingStartAddress)
    );
    assert_eq!(params, before);
    assert!(GpaRange::new(params.header_start, params.header.len() as u64).is_some());
}
