//! A kernel's command line, put together piece by piece, with the names and the rules of rust-vmm's
//! linux-loader; and what is wrong with one (`Documentation/admin-guide/kernel-parameters.rst`,
//! `lib/cmdline.c`, function `next_arg`).

mod problem;
#[cfg(test)]
mod tests;

pub use problem::{Problem, ProblemKind, problems};

use crate::configurator::GuestPhysical;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use firstlight_base::{GIB, KIB, MIB};
use firstlight_image::Image;

/// What stands between what is for the kernel and what is for init.
const SEPARATOR: &str = " -- ";

/// Why something cannot be on a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the name that linux-loader gave it"
)]
pub enum Error {
    /// A NUL would end the line early.
    #[error("a NUL would end the command line early")]
    NullTerminator,
    /// There is something for init, but nothing for the kernel.
    #[error("there is something for init, but nothing for the kernel")]
    NoBootArgsInserted,
    /// There is no room: for the NUL, or for the line that it is to be made from.
    #[error("the command line has no room")]
    InvalidCapacity,
    /// Something is no printable ASCII.
    #[error("not all of it is printable ASCII")]
    InvalidAscii,
    /// A space in a name.
    #[error("a name cannot have a space in it")]
    HasSpace,
    /// An equals sign in a name.
    #[error("a name cannot have an equals sign in it")]
    HasEquals,
    /// No value for this name.
    #[error("{0} has no value")]
    MissingVal(String),
    /// A device without registers.
    #[error("a virtio device has some registers")]
    MmioSize,
    /// It would be longer than it may be.
    #[error("the command line would be longer than it may be")]
    TooLarge,
    /// A space in a value that is not in double quotes.
    #[error("a value with a space in it has to be in double quotes")]
    NoQuoteSpace,
    /// A double quote inside a value.
    #[error("a value cannot have a double quote inside")]
    InvalidQuote,
}

/// What work on a command line ends with.
pub type Result<T> = core::result::Result<T, Error>;

/// A kernel's command line: what is for the kernel, and behind ` -- ` what is for init.
///
/// What is put in is checked, and so is the length, at once. [`problems`](Self::problems) finds
/// what these checks let pass.
///
/// ```
/// use firstlight_boot::cmdline::Cmdline;
///
/// let mut line = Cmdline::new(64).unwrap();
/// line.insert("root", "/dev/vda").unwrap();
/// line.insert_multiple("earlycon", &["uart8250", "io", "0x3f8"]).unwrap();
/// line.insert_str("quiet").unwrap();
/// line.insert_init_args("single").unwrap();
/// assert_eq!(
///     line.as_cstring().unwrap().as_bytes_with_nul(),
///     b"root=/dev/vda earlycon=uart8250,io,0x3f8 quiet -- single\0"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Cmdline {
    boot_args: String,
    init_args: String,
    capacity: usize,
}

impl Cmdline {
    /// What x86 kernels take of a command line where no header says otherwise, without its NUL
    /// (`COMMAND_LINE_SIZE` in `arch/x86/include/asm/setup.h`).
    pub const KERNEL_MAX: usize = 2047;

    /// An empty command line that takes `capacity` bytes with its NUL.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCapacity`] where that is not even the NUL.
    pub const fn new(capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::InvalidCapacity);
        }
        Ok(Self {
            boot_args: String::new(),
            init_args: String::new(),
            capacity,
        })
    }

    /// An empty command line that takes what the kernel of `image` takes: its `cmdline_size`, or
    /// [`KERNEL_MAX`](Self::KERNEL_MAX) where it has no header that says.
    #[must_use]
    pub fn for_image(image: &Image<'_>) -> Self {
        let max = match image.bzimage() {
            Some((_, bzimage)) => {
                usize::try_from(bzimage.setup.cmdline_size()).unwrap_or(usize::MAX)
            }
            None => Self::KERNEL_MAX,
        };
        Self {
            boot_args: String::new(),
            init_args: String::new(),
            capacity: max.saturating_add(1),
        }
    }

    /// A command line of `capacity` bytes with its NUL, from a whole one: what is behind the first
    /// ` -- ` outside double quotes is for init. Its characters are taken as they are;
    /// [`problems`](Self::problems) looks at them.
    ///
    /// ```
    /// use firstlight_boot::cmdline::Cmdline;
    ///
    /// let line = Cmdline::try_from("dyndbg=\"file a -- b +p\" ro -- -v", 64).unwrap();
    /// let mut longer = line.clone();
    /// longer.insert_str("quiet").unwrap();
    /// assert_eq!(
    ///     longer.as_cstring().unwrap().as_bytes(),
    ///     b"dyndbg=\"file a -- b +p\" ro quiet -- -v"
    /// );
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCapacity`] where it is longer than that.
    pub fn try_from(cmdline_raw: &str, capacity: usize) -> Result<Self> {
        let (boot_args, init_args) = split(cmdline_raw);
        let line = Self {
            boot_args: boot_args.trim().to_string(),
            init_args: init_args.trim().to_string(),
            capacity,
        };
        if line.len_with_nul() > capacity {
            return Err(Error::InvalidCapacity);
        }
        Ok(line)
    }

    /// Adds `key=val` for the kernel.
    ///
    /// # Errors
    ///
    /// [`Error`] says which rule it breaks; the line is then as it was.
    pub fn insert<T: AsRef<str>>(&mut self, key: T, val: T) -> Result<()> {
        let (key, val) = (key.as_ref(), val.as_ref());
        check_key(key)?;
        check_value(val)?;
        self.insert_str(format!("{key}={val}"))
    }

    /// Adds `key=val,val,...` for the kernel.
    ///
    /// # Errors
    ///
    /// [`Error`] says which rule it breaks; the line is then as it was.
    pub fn insert_multiple<T: AsRef<str>>(&mut self, key: T, vals: &[T]) -> Result<()> {
        let key = key.as_ref();
        check_key(key)?;
        if vals.is_empty() {
            return Err(Error::MissingVal(key.to_string()));
        }
        vals.iter().try_for_each(|val| check_value(val.as_ref()))?;
        let vals: Vec<&str> = vals.iter().map(AsRef::as_ref).collect();
        self.insert_str(format!("{key}={}", vals.join(",")))
    }

    /// Adds what `slug` says for the kernel, without the blanks around it.
    ///
    /// # Errors
    ///
    /// [`Error`] says which rule it breaks; the line is then as it was.
    pub fn insert_str<T: AsRef<str>>(&mut self, slug: T) -> Result<()> {
        let slug = slug.as_ref().trim();
        check_ascii(slug)?;
        let blank = if self.boot_args.is_empty() { "" } else { " " };
        self.check_room([blank, slug])?;
        self.boot_args.extend([blank, slug]);
        Ok(())
    }

    /// Adds what `slug` says for init, without the blanks around it.
    ///
    /// # Errors
    ///
    /// [`Error`] says which rule it breaks; the line is then as it was.
    pub fn insert_init_args<T: AsRef<str>>(&mut self, slug: T) -> Result<()> {
        let slug = slug.as_ref().trim();
        check_ascii(slug)?;
        if self.init_args.is_empty() {
            self.check_room([SEPARATOR, slug])?;
            self.init_args.push_str(slug);
        } else {
            self.check_room([" ", slug])?;
            self.init_args.extend([" ", slug]);
        }
        Ok(())
    }

    /// Adds `virtio_mmio.device=size@address:irq:id` for the kernel: a virtio device that no
    /// firmware table tells of (`CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES`).
    ///
    /// ```
    /// use firstlight_base::Gpa;
    /// use firstlight_boot::cmdline::Cmdline;
    ///
    /// let mut line = Cmdline::new(64).unwrap();
    /// line.add_virtio_mmio_device(0x200, Gpa::new(0xfeb0_0000), 16, None).unwrap();
    /// assert_eq!(
    ///     line.as_cstring().unwrap().as_bytes(),
    ///     b"virtio_mmio.device=512@0xfeb00000:16"
    /// );
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::MmioSize`] and [`Error::TooLarge`]; the line is then as it was.
    pub fn add_virtio_mmio_device<A: GuestPhysical>(
        &mut self,
        size: u64,
        baseaddr: A,
        irq: u32,
        id: Option<u32>,
    ) -> Result<()> {
        if size == 0 {
            return Err(Error::MmioSize);
        }
        let size = shortest(size);
        let id = id.map_or_else(String::new, |id| format!(":{id}"));
        let address = baseaddr.get();
        self.insert_str(format!("virtio_mmio.device={size}@{address:#x}:{irq}{id}"))
    }

    /// The whole line with its NUL, as it goes into guest memory.
    ///
    /// # Errors
    ///
    /// [`Error::NoBootArgsInserted`] where there is something for init alone, and
    /// [`Error::NullTerminator`] where [`try_from`](Self::try_from) was given a NUL.
    pub fn as_cstring(&self) -> Result<CString> {
        if self.boot_args.is_empty() && !self.init_args.is_empty() {
            return Err(Error::NoBootArgsInserted);
        }
        CString::new(self.text()).or(Err(Error::NullTerminator))
    }

    /// All that is wrong with the line, by ascending position in it; nothing where it is well.
    ///
    /// ```
    /// use firstlight_boot::cmdline::{Cmdline, ProblemKind};
    ///
    /// let line = Cmdline::try_from("root=/dev/vda quïet a=\"b", 64).unwrap();
    /// let found: Vec<_> = line
    ///     .problems()
    ///     .into_iter()
    ///     .map(|problem| (problem.at, problem.kind))
    ///     .collect();
    /// assert_eq!(
    ///     found,
    ///     [(16, ProblemKind::NotAscii), (23, ProblemKind::OpenQuote)]
    /// );
    /// ```
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        problems(self.text().as_bytes(), self.capacity.saturating_sub(1))
    }

    fn text(&self) -> String {
        if self.init_args.is_empty() {
            self.boot_args.clone()
        } else {
            [&self.boot_args, SEPARATOR, &self.init_args].concat()
        }
    }

    fn check_room(&self, more: [&str; 2]) -> Result<()> {
        let len = more
            .iter()
            .try_fold(self.len_with_nul(), |len, part| len.checked_add(part.len()));
        match len {
            Some(len) if len <= self.capacity => Ok(()),
            _ => Err(Error::TooLarge),
        }
    }

    fn len_with_nul(&self) -> usize {
        let init = match self.init_args.len() {
            0 => 0,
            len => len.saturating_add(SEPARATOR.len()),
        };
        self.boot_args.len().saturating_add(init).saturating_add(1)
    }
}

impl PartialEq for Cmdline {
    /// Whether kernels would read the same, whatever else there is room for.
    fn eq(&self, other: &Self) -> bool {
        self.as_cstring() == other.as_cstring()
    }
}

impl TryFrom<Cmdline> for Vec<u8> {
    type Error = Error;

    /// The line with its NUL, as [`Cmdline::as_cstring`] gives it.
    fn try_from(cmdline: Cmdline) -> Result<Self> {
        cmdline.as_cstring().map(CString::into_bytes_with_nul)
    }
}

/// What is before and behind the first separator outside double quotes.
fn split(line: &str) -> (&str, &str) {
    line.match_indices(SEPARATOR)
        .filter_map(|(at, _)| Some((line.get(..at)?, line.get(at..)?.strip_prefix(SEPARATOR)?)))
        .find(|(before, _)| before.matches('"').count().is_multiple_of(2))
        .unwrap_or((line, ""))
}

fn check_ascii(text: &str) -> Result<()> {
    if text.bytes().all(is_printable) {
        Ok(())
    } else {
        Err(Error::InvalidAscii)
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

fn check_key(key: &str) -> Result<()> {
    check_ascii(key)?;
    if key.contains(' ') {
        return Err(Error::HasSpace);
    }
    if key.contains('=') {
        return Err(Error::HasEquals);
    }
    Ok(())
}

fn check_value(value: &str) -> Result<()> {
    check_ascii(value)?;
    let ends = (value.starts_with('"'), value.ends_with('"'));
    let inner = value.get(1..value.len().saturating_sub(1));
    if inner.is_some_and(|inner| inner.contains('"')) {
        return Err(Error::InvalidQuote);
    }
    let is_quoted = value.len() >= 2 && ends == (true, true);
    if value.contains(' ') && !is_quoted {
        return Err(Error::NoQuoteSpace);
    }
    Ok(())
}

/// `size` in the largest unit that is exact.
fn shortest(size: u64) -> String {
    [(GIB, "G"), (MIB, "M"), (KIB, "K")]
        .into_iter()
        .filter(|&(unit, _)| size.is_multiple_of(unit))
        .find_map(|(unit, name)| Some(format!("{}{name}", size.checked_div(unit)?)))
        .unwrap_or_else(|| size.to_string())
}
