//! Carries a boot plan out: allocates guest RAM and puts everything where the plan says.
//!
//! What a kernel's image unpacks to, and what an initial ramdisk does, is kept in a [`Cache`] of
//! files that never change, and from then on mapped where the guest is to find it: nothing is
//! unpacked again, nothing hashed and nothing copied.
//!
//! ```
//! # use firstlight_boot::{Request, plan};
//! # use firstlight_image::{Image, Limits, testing};
//! use firstlight_load::{Backing, Cache, GuestMemory, Kind, Layer, Opened, Sources, place};
//! # use std::fs::File;
//! # let folder = std::env::temp_dir().join(format!("firstlight-doc-{}", std::process::id()));
//! # std::fs::create_dir(&folder)?;
//! # let path = folder.join("vmlinuz");
//! # let kernel = testing::elf64().segment(0x100_0000, &[0xf4; 0x2_0000], 0x2_0000).build();
//! # std::fs::write(&path, kernel)?;
//!
//! let cache = Cache::open(&folder.join("images"), Cache::BOUND)?;
//! let file = File::open(&path)?;
//! let opened = cache.get(Kind::Image, &file, &path, || {
//!     let bytes = std::fs::read(&path)?;
//!     Ok::<_, Box<dyn std::error::Error>>(Layer::of_image(bytes, &Limits::default())?)
//! })?;
//! if let Some(note) = &opened.note {
//!     eprintln!("not kept for the next time: {note}");
//! }
//!
//! let image = Image::reopen(opened.layers.for_image())?;
//! let plan = plan(&image, &Request::default())?;
//! let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private)?;
//! let sources = Sources {
//!     layers: &opened.layers.bytes(),
//!     kept: &Vec::from_iter(opened.layers.file()),
//!     ..Sources::default()
//! };
//! place(&plan, &sources, &memory)?;
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod buffers;
mod cache;
mod error;
pub mod export;
mod initrd;
mod kept;
mod lease;
mod mapping;
mod memory;
mod place;
mod relocate;
mod stamp;
mod transfer;
mod view;
mod zeros;

pub use buffers::LargeBuffers;
pub use cache::{Cache, CacheError, Cleared, Entry, Opened};
pub use error::PlaceError;
pub use initrd::{InitrdError, unpack_initrd};
pub use kept::{Kept, Kind, Layer, Layers};
pub use memory::{AllocateError, Backing, GuestMemory, Region};
pub use place::{Sources, place};
