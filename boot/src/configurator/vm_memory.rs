//! The configurators for the memory of rust-vmm's vm-memory crate.

use super::fdt::{self, FdtBootConfigurator};
use super::linux::{self, LinuxBootConfigurator};
use super::pvh::{self, PvhBootConfigurator};
use super::target::Target;
use super::{BootParams, Result};
use crate::cmdline::Cmdline;
use crate::loader;
use ::vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// Puts boot parameters into guest memory.
pub trait BootConfigurator {
    /// Writes `params` into `guest_memory`.
    ///
    /// # Errors
    ///
    /// [`Error`](super::Error) where they would not lie in RAM; nothing is written then.
    fn write_bootparams<M>(params: &BootParams, guest_memory: &M) -> Result<()>
    where
        M: GuestMemoryBackend;
}

/// Memory of vm-memory.
struct Rust<'a, M>(&'a M);

impl<M: GuestMemoryBackend> Target for Rust<'_, M> {
    type Address = GuestAddress;

    fn holds(&self, at: GuestAddress, len: usize) -> bool {
        self.0.check_range(at, len.max(1))
    }

    fn put(&self, at: GuestAddress, bytes: &[u8]) -> bool {
        self.0.write_slice(bytes, at).is_ok()
    }
}

/// ```
/// use firstlight_boot::configurator::linux::LinuxBootConfigurator;
/// use firstlight_boot::configurator::{BootConfigurator, BootParams};
/// use firstlight_boot::loader::bootparam::boot_params;
/// use vm_memory::{Address, ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
///
/// fn machine() -> GuestMemoryMmap {
///     GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap()
/// }
///
/// fn zero_page() -> boot_params {
///     let mut page = boot_params::default();
///     page.hdr.boot_flag = 0xaa55;
///     page.hdr.header = u32::from_le_bytes(*b"HdrS");
///     page.hdr.kernel_alignment = 2 << 20;
///     page.hdr.type_of_loader = 0xff;
///     page
/// }
///
/// let memory = machine();
/// let page = zero_page();
/// let at = GuestAddress(0x7000);
/// let params = BootParams::new::<boot_params>(&page, at);
/// LinuxBootConfigurator::write_bootparams::<GuestMemoryMmap>(&params, &memory).unwrap();
/// assert_eq!(memory.read_obj::<u16>(at.unchecked_add(0x1fe)).unwrap(), 0xaa55);
/// ```
impl BootConfigurator for LinuxBootConfigurator {
    fn write_bootparams<M>(params: &BootParams, guest_memory: &M) -> Result<()>
    where
        M: GuestMemoryBackend,
    {
        linux::write(params, &Rust(guest_memory))
    }
}

/// ```
/// use firstlight_boot::configurator::pvh::PvhBootConfigurator;
/// use firstlight_boot::configurator::{BootConfigurator, BootParams};
/// use firstlight_boot::loader::elf::start_info::{hvm_memmap_table_entry, hvm_start_info};
/// use vm_memory::{Address, ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
///
/// fn machine() -> GuestMemoryMmap {
///     GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap()
/// }
///
/// fn told() -> (hvm_start_info, Vec<hvm_memmap_table_entry>) {
///     let mut info = hvm_start_info::default();
///     let ram = hvm_memmap_table_entry {
///         addr: 0,
///         size: 32 << 20,
///         type_: 1,
///         reserved: 0,
///     };
///     info.magic = 0x336e_c578;
///     info.version = 1;
///     info.memmap_entries = 1;
///     (info, vec![ram])
/// }
///
/// let memory = machine();
/// let (mut info, memmap) = told();
/// let (info_at, memmap_at) = (GuestAddress(0x2000), GuestAddress(0x3000));
/// info.memmap_paddr = memmap_at.raw_value();
///
/// let mut params = BootParams::new::<hvm_start_info>(&info, info_at);
/// params.set_sections::<hvm_memmap_table_entry>(&memmap, memmap_at);
/// PvhBootConfigurator::write_bootparams::<GuestMemoryMmap>(&params, &memory).unwrap();
/// assert_eq!(memory.read_obj::<u64>(memmap_at.unchecked_add(8)).unwrap(), 32 << 20);
/// ```
impl BootConfigurator for PvhBootConfigurator {
    fn write_bootparams<M>(params: &BootParams, guest_memory: &M) -> Result<()>
    where
        M: GuestMemoryBackend,
    {
        pvh::write(params, &Rust(guest_memory))
    }
}

/// ```
/// use firstlight_boot::configurator::fdt::FdtBootConfigurator;
/// use firstlight_boot::configurator::{BootConfigurator, BootParams};
/// use vm_memory::{Address, ByteValued, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
///
/// #[derive(Clone, Copy, Default)]
/// struct Tree([u8; 32]);
/// // SAFETY: it is an array of bytes.
/// unsafe impl ByteValued for Tree {}
///
/// let memory: GuestMemoryMmap =
///     GuestMemoryMmap::from_ranges(&[(GuestAddress(0x4000_0000), 16 << 20)]).unwrap();
/// // What ends with the last byte of RAM fits.
/// let at = GuestAddress(memory.last_addr().raw_value() - 31);
/// FdtBootConfigurator::write_bootparams::<GuestMemoryMmap>(
///     &BootParams::new::<Tree>(&Tree([0xd0; 32]), at),
///     &memory,
/// )
/// .unwrap();
/// ```
impl BootConfigurator for FdtBootConfigurator {
    fn write_bootparams<M>(params: &BootParams, guest_memory: &M) -> Result<()>
    where
        M: GuestMemoryBackend,
    {
        fdt::write(params, &Rust(guest_memory))
    }
}

/// Writes the command line with its NUL into guest memory.
///
/// ```
/// use firstlight_boot::loader::*;
/// use vm_memory::{Bytes, GuestAddress};
/// type GuestMemoryMmap = vm_memory::GuestMemoryMmap<()>;
///
/// let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
/// let mut cmdline = Cmdline::new(64).unwrap();
/// cmdline.insert("console", "ttyS0").unwrap();
/// load_cmdline(&memory, GuestAddress(0x9000), &cmdline).unwrap();
///
/// let mut found = [0xff; 14];
/// memory.read_slice(&mut found, GuestAddress(0x9000)).unwrap();
/// assert_eq!(&found, b"console=ttyS0\0");
/// ```
///
/// # Errors
///
/// [`loader::Error`]; nothing is written then.
pub fn load_cmdline<M: GuestMemoryBackend>(
    guest_mem: &M,
    guest_addr: GuestAddress,
    cmdline: &Cmdline,
) -> loader::Result<()> {
    let text = cmdline
        .as_cstring()
        .or(Err(loader::Error::InvalidCommandLine))?;
    let bytes = text.as_bytes_with_nul();
    // There is at least the NUL.
    let last = (bytes.len() as u64).saturating_sub(1);
    let last = guest_addr.0.checked_add(last);
    if last.is_none_or(|last| last > guest_mem.last_addr().0) {
        return Err(loader::Error::CommandLineOverflow);
    }
    let target = Rust(guest_mem);
    if !(target.holds(guest_addr, bytes.len()) && target.put(guest_addr, bytes)) {
        return Err(loader::Error::CommandLineCopy);
    }
    Ok(())
}
