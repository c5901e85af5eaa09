//! Boot parameters made elsewhere, put into guest memory: the configurators of rust-vmm's
//! linux-loader, under its names.
//!
//! With the feature `vm-memory`, code written for linux-loader 0.14 compiles with nothing but the
//! crate's name changed: the trait `BootConfigurator` and [`BootParams`] speak of `vm-memory`'s
//! addresses and memories. Without it the configurators work for the [`GuestMem`] of this house,
//! as they do with it: by `place`.
//!
//! ```
//! # #[cfg(feature = "vm-memory")] {
//! use firstlight_boot::configurator::{BootConfigurator, BootParams};
//! use firstlight_boot::configurator::fdt::FdtBootConfigurator;
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//!
//! let memory: GuestMemoryMmap =
//!     GuestMemoryMmap::from_ranges(&[(GuestAddress(0x8000_0000), 0x10_0000)]).unwrap();
//! let tree = b"\xd0\x0d\xfe\xed and the rest of it";
//! let params = BootParams::new(tree.as_slice(), GuestAddress(0x8000_2000));
//! FdtBootConfigurator::write_bootparams(&params, &memory).unwrap();
//! assert_eq!(memory.read_obj::<u8>(GuestAddress(0x8000_2003)).unwrap(), 0xed);
//! # }
//! ```
//!
//! Some things are otherwise than in linux-loader 0.14, each because it went wrong there:
//!
//! - Every range is checked before the first byte is written, the module list too, so a refusal
//!   leaves memory as it was. There the memory map is written before the rest is looked at.
//! - What ends with the last byte of RAM fits. There the byte behind it has to be RAM too.
//! - What would span a hole between ranges of RAM is refused as being past the end of RAM. There
//!   it passes the check and is written up to the hole.
//! - A list with a gap in it holds at most [`LIST_MAX`] bytes. There an address far above the
//!   list's start is believed, and memory is taken for all that lies between.
//! - A call that fails changes nothing.
//! - The configurators exist on every host, and so do the variants of [`Error`].
//! - [`BootParams::new`] takes plain bytes as well, such as a device tree.
//!
//! One thing cannot be as there, because this crate has no unsafe code: the structures of
//! [`loader`](crate::loader) do not implement `vm_memory::ByteValued`. [`GuestValue`] stands in
//! for it here; elsewhere, `zerocopy::IntoBytes` gives their bytes to `write_slice`.

pub mod fdt;
pub mod linux;
pub mod pvh;
mod target;
#[cfg(feature = "vm-memory")]
mod vm_memory;

#[cfg(feature = "vm-memory")]
pub use vm_memory::{BootConfigurator, load_cmdline};

use crate::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use crate::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use alloc::vec::Vec;
use firstlight_base::Gpa;
#[cfg(doc)]
use firstlight_base::GuestMem;
use zerocopy::IntoBytes;

/// The most bytes that a list of sections or modules grows to.
pub const LIST_MAX: usize = 1 << 20;

/// Boot parameters and where in guest memory they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootParams<
    #[cfg(feature = "vm-memory")] A = ::vm_memory::GuestAddress,
    #[cfg(not(feature = "vm-memory"))] A,
> {
    /// What every protocol has: the zero page, `hvm_start_info`, the device tree.
    pub header: Vec<u8>,
    /// Where it goes.
    pub header_start: A,
    /// What some protocols have beside it: PVH's memory map.
    pub sections: Option<Vec<u8>>,
    /// Where they go.
    pub sections_start: Option<A>,
    /// What the guest is told of the files that it is handed: PVH's module list.
    pub modules: Option<Vec<u8>>,
    /// Where that goes.
    pub modules_start: Option<A>,
}

impl<A: GuestPhysical> BootParams<A> {
    /// `header`, to be put at `header_addr`, and nothing else.
    ///
    /// ```
    /// use firstlight_base::Gpa;
    /// use firstlight_boot::configurator::BootParams;
    /// use firstlight_boot::loader::bootparam::boot_params;
    ///
    /// let mut page = boot_params::default();
    /// page.hdr.type_of_loader = 0xff;
    /// let params = BootParams::new(&page, Gpa::new(0x7000));
    /// assert_eq!(params.header.len(), 4096);
    /// assert_eq!(params.header[0x210], 0xff);
    /// ```
    pub fn new<T: GuestValue + ?Sized>(header: &T, header_addr: A) -> Self {
        Self {
            header: header.guest_bytes().to_vec(),
            header_start: header_addr,
            sections: None,
            sections_start: None,
            modules: None,
            modules_start: None,
        }
    }

    /// Makes the sections these and no others.
    pub fn set_sections<T: GuestValue>(&mut self, sections: &[T], sections_addr: A) {
        self.sections = Some(concatenated(sections));
        self.sections_start = Some(sections_addr);
    }

    /// Adds a section at `section_addr`, over what is there already, or behind the last where none
    /// is given; returns where it goes. The first section needs an address.
    ///
    /// ```
    /// use firstlight_base::Gpa;
    /// use firstlight_boot::configurator::{BootParams, Error};
    /// use firstlight_boot::loader::elf::start_info::{hvm_memmap_table_entry, hvm_start_info};
    ///
    /// let mut params = BootParams::new(&hvm_start_info::default(), Gpa::new(0x1000));
    /// let line = hvm_memmap_table_entry::default();
    /// assert_eq!(params.add_section(&line, None), Err(Error::MissingStartAddress));
    /// assert_eq!(params.add_section(&line, Some(Gpa::new(0x2000))), Ok(Gpa::new(0x2000)));
    /// assert_eq!(params.add_section(&line, None), Ok(Gpa::new(0x2018)));
    /// assert_eq!(params.add_section(&line, Some(Gpa::new(0x1fff))), Err(Error::InvalidAddress));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::MissingStartAddress`], [`Error::InvalidAddress`] below the first section, and
    /// [`Error::Overflow`] where addresses end or the list would pass [`LIST_MAX`].
    pub fn add_section<T: GuestValue>(
        &mut self,
        section: &T,
        section_addr: Option<A>,
    ) -> Result<A> {
        let bytes = section.guest_bytes();
        add(
            &mut self.sections,
            &mut self.sections_start,
            bytes,
            section_addr,
        )
    }

    /// Makes the modules these and no others.
    pub fn set_modules<T: GuestValue>(&mut self, modules: &[T], modules_addr: A) {
        self.modules = Some(concatenated(modules));
        self.modules_start = Some(modules_addr);
    }

    /// Adds a module as [`add_section`](Self::add_section) adds a section.
    ///
    /// # Errors
    ///
    /// As [`add_section`](Self::add_section).
    pub fn add_module<T: GuestValue>(&mut self, module: &T, module_addr: Option<A>) -> Result<A> {
        let bytes = module.guest_bytes();
        add(
            &mut self.modules,
            &mut self.modules_start,
            bytes,
            module_addr,
        )
    }
}

fn concatenated<T: GuestValue>(values: &[T]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.guest_bytes())
        .copied()
        .collect()
}

/// Puts `bytes` into `list`, which begins at `start`, so that they come to lie at `at` or behind
/// what is there.
fn add<A: GuestPhysical>(
    list: &mut Option<Vec<u8>>,
    start: &mut Option<A>,
    bytes: &[u8],
    at: Option<A>,
) -> Result<A> {
    let first = start.or(at).ok_or(Error::MissingStartAddress)?;
    let len = list.as_ref().map_or(0, Vec::len);
    let offset = match at {
        Some(at) => {
            let offset = at
                .get()
                .checked_sub(first.get())
                .ok_or(Error::InvalidAddress)?;
            usize::try_from(offset).or(Err(Error::Overflow))?
        }
        None => len,
    };
    let at = first
        .get()
        .checked_add(offset as u64)
        .ok_or(Error::Overflow)?;
    let end = offset
        .checked_add(bytes.len())
        .filter(|&end| end <= LIST_MAX.max(len))
        .ok_or(Error::Overflow)?;
    let list = list.get_or_insert_default();
    list.resize(end.max(len), 0);
    if let Some(room) = list.get_mut(offset..end) {
        room.copy_from_slice(bytes);
    }
    *start = Some(first);
    Ok(A::from_u64(at))
}

/// A value that goes into guest memory as it is: its bytes are what the guest reads.
///
/// With the feature `vm-memory`, every `vm_memory::ByteValued` is one.
pub trait GuestValue {
    /// Its bytes, as they lie in this program's memory.
    fn guest_bytes(&self) -> &[u8];
}

#[cfg(feature = "vm-memory")]
impl<T: ::vm_memory::ByteValued> GuestValue for T {
    fn guest_bytes(&self) -> &[u8] {
        self.as_slice()
    }
}

impl GuestValue for [u8] {
    fn guest_bytes(&self) -> &[u8] {
        self
    }
}

macro_rules! guest_values {
    ($($name:ty),+ $(,)?) => {
        $(
            impl GuestValue for $name {
                fn guest_bytes(&self) -> &[u8] {
                    self.as_bytes()
                }
            }
        )+
    };
}

guest_values!(
    boot_e820_entry,
    boot_params,
    hvm_memmap_table_entry,
    hvm_modlist_entry,
    hvm_start_info,
    setup_header,
);

/// A guest-physical address: [`Gpa`], and with the feature `vm-memory` its `GuestAddress`.
pub trait GuestPhysical: Copy {
    /// The address `bytes` above zero.
    fn from_u64(bytes: u64) -> Self;
    /// The address as a number of bytes above zero.
    fn get(self) -> u64;
}

impl GuestPhysical for Gpa {
    fn from_u64(bytes: u64) -> Self {
        Self::new(bytes)
    }

    fn get(self) -> u64 {
        Self::get(self)
    }
}

#[cfg(feature = "vm-memory")]
impl GuestPhysical for ::vm_memory::GuestAddress {
    fn from_u64(bytes: u64) -> Self {
        Self(bytes)
    }

    fn get(self) -> u64 {
        self.0
    }
}

/// Why boot parameters could not be put together, or into guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the name that linux-loader gave it"
)]
pub enum Error {
    /// Those of the Linux/x86 boot protocol.
    #[error("cannot write the zero page")]
    Linux(#[from] linux::Error),
    /// Those of PVH.
    #[error("cannot write what a PVH guest is told")]
    Pvh(#[from] pvh::Error),
    /// A device tree.
    #[error("cannot write the device tree")]
    Fdt(#[from] fdt::Error),
    /// The first section or module comes without an address.
    #[error("the first of a list has to say where the list begins")]
    MissingStartAddress,
    /// There is no such address, or no sense in so long a list.
    #[error("the list would end above the last address, or be longer than {LIST_MAX} bytes")]
    Overflow,
    /// The address lies below the first section or module.
    #[error("the address lies below the beginning of the list")]
    InvalidAddress,
}

/// What a configurator's work ends with.
pub type Result<T> = core::result::Result<T, Error>;

#[cfg(test)]
mod tests;
