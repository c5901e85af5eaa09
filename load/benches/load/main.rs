//! What loading costs, beside linux-loader in the same run: `cargo xtask bench load`.
//!
//! Times are the thread's own time on a processor, medians of runs that take turns; faults and
//! private memory are the process's. Every ratio is to the peer of the same run, since times of one
//! machine mean little on another. The goals are those of the project's performance reference.

mod allocations;
mod flat;
mod guests;
mod meter;
mod peer;
mod touch;

use allocations::Allocations;
use firstlight_base::Gpa;
use firstlight_boot::{BootPlan, Kaslr, Request, plan};
use firstlight_image::{Architecture, Format, Image, Limits, Packed, testing};
use firstlight_load::{Backing, Cache, GuestMemory, Kind, Layer, Opened, Sources, place};
use meter::{Cost, Meter, median};
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{env, process};
use touch::{Boot, What};

#[global_allocator]
static ALLOCATOR: Allocations = Allocations::new();

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What the guests have.
pub(crate) const MEMORY: u64 = 512 << 20;
/// How many runs a median is taken of, where nobody says.
const ROUNDS: usize = 31;
const INITRD: usize = 100 << 20;

fn main() -> Outcome {
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    if let [role, rest @ ..] = words.as_slice()
        && let Some(role) = role.strip_prefix("--as=")
    {
        return guests::be(role, rest);
    }
    let (rounds, kernels) = match words.as_slice() {
        [first, rest @ ..] if first.starts_with("--rounds=") => {
            (first.trim_start_matches("--rounds=").parse()?, rest)
        }
        all => (ROUNDS, all),
    };
    if kernels.is_empty() {
        println!("skipped: no kernel was named; `cargo xtask bench load` does");
        return Ok(());
    }
    let folder = env::temp_dir().join(format!("firstlight-bench-{}", process::id()));
    fs::create_dir(&folder)?;
    let done = measure(&folder, kernels, rounds);
    fs::remove_dir_all(&folder)?;
    done
}

fn measure(folder: &Path, kernels: &[String], rounds: usize) -> Outcome {
    let mut small = Vec::new();
    for (index, kernel) in kernels.iter().enumerate() {
        let folder = folder.join("kernel");
        fs::create_dir(&folder)?;
        let stock = Stock::prepare(&folder, "vmlinuz", &fs::read(kernel)?)?;
        println!("\n== load: {kernel}, {}", stock.is);
        small = smallest(stock.architecture);
        match stock.architecture {
            Architecture::Arm64 | Architecture::Riscv64 => {
                flat::measure(&stock, rounds)?;
                // Packing takes an emulated machine minutes, and one is like another.
                if index + 1 == kernels.len() {
                    flat::measure_packed(&folder, &stock, rounds)?;
                }
            }
            _ => of_a_pc(&stock, rounds)?,
        }
        fs::remove_dir_all(&folder)?;
    }
    println!("\n== load: an initial ramdisk of {} MiB", INITRD >> 20);
    initrd(folder, &small, rounds)
}

fn of_a_pc(stock: &Stock, rounds: usize) -> Outcome {
    warm(stock, rounds)?;
    cold(stock, rounds)?;
    kaslr(stock)?;
    touches(stock)?;
    guests::share(stock)?;
    parsers(stock, rounds)
}

/// A kernel of one page, for what does not depend on the kernel.
fn smallest(architecture: Architecture) -> Vec<u8> {
    match architecture {
        Architecture::Arm64 => testing::arm64_image().build(),
        Architecture::Riscv64 => testing::riscv_image().build(),
        _ => testing::elf64()
            .entry(0x100_0000)
            .segment(0x100_0000, &[0xf4], 1)
            .build(),
    }
}

/// A kernel file, unpacked to a cache and to a file for the peer.
pub(crate) struct Stock {
    pub(crate) path: PathBuf,
    is: String,
    architecture: Architecture,
    pub(crate) unpacked: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Stock {
    /// What another process has prepared.
    pub(crate) fn of_guest(path: PathBuf, unpacked: PathBuf, cache: PathBuf) -> Self {
        Self {
            path,
            is: String::new(),
            architecture: Architecture::Unknown,
            unpacked,
            cache,
        }
    }

    /// Makes `file` one of that name in `folder`, so that no other filesystem has a part in this.
    fn prepare(folder: &Path, name: &str, file: &[u8]) -> Outcome<Self> {
        let image = Image::open(file, &Limits::default())?;
        let stock = Self {
            path: folder.join(name),
            is: image.to_string(),
            architecture: image.architecture(),
            unpacked: folder.join(format!("{name}.unpacked")),
            cache: folder.join("cache"),
        };
        fs::write(&stock.path, file)?;
        fs::write(&stock.unpacked, image.kernel().bytes())?;
        settle();
        // The first finds nothing.
        let opened = open(&stock)?;
        assert!(opened.note.is_none(), "{:?}", opened.note);
        Ok(stock)
    }

    /// What a boot of it touches.
    pub(crate) fn boot(&self) -> Outcome<Boot> {
        let opened = open(self)?;
        let image = Image::reopen(opened.layers.for_image())?;
        let plan = plan(&image, &request(Kaslr::Off))?;
        Ok(Boot::of(&image, &plan))
    }
}

/// Waits until a change of a file would be seen by its time.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}

/// Everything from the name of a file to its layers.
fn open(stock: &Stock) -> Outcome<Opened> {
    let cache = Cache::open(&stock.cache, Cache::BOUND)?;
    let file = File::open(&stock.path)?;
    cache.get(Kind::Image, &file, &stock.path, || {
        Ok(Layer::of_image(fs::read(&stock.path)?, &Limits::default())?)
    })
}

pub(crate) fn request(kaslr: Kaslr) -> Request {
    Request {
        memory: MEMORY,
        cmdline: "console=ttyS0 reboot=t panic=-1".to_owned(),
        kaslr,
        ..Request::default()
    }
}

/// All that a boot does before there is a virtual machine.
pub(crate) fn load(stock: &Stock, kaslr: Kaslr) -> Outcome<(BootPlan, GuestMemory)> {
    let opened = open(stock)?;
    fill(&opened, &request(kaslr))
}

fn fill(opened: &Opened, request: &Request) -> Outcome<(BootPlan, GuestMemory)> {
    let image = Image::reopen(opened.layers.for_image())?;
    let plan = plan(&image, request)?;
    let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private)?;
    let sources = Sources {
        layers: &opened.layers.bytes(),
        kept: &Vec::from_iter(opened.layers.file()),
        ..Sources::default()
    };
    place(&plan, &sources, &memory)?;
    Ok((plan, memory))
}

/// B1: a kernel that is in the cache, against the peer with one that is in memory.
fn warm(stock: &Stock, rounds: usize) -> Outcome {
    let (mut ours, mut elf, mut bzimage) = (Vec::new(), Vec::new(), Vec::new());
    // In turns of several, so that each finds its own code and tables in the processor's caches.
    for _ in 0..3 {
        for _ in 0..rounds {
            let meter = Meter::start();
            let loaded = load(stock, Kaslr::Off)?;
            ours.push(meter.stop());
            drop(loaded);
        }
        for _ in 0..5 {
            let meter = Meter::start();
            let loaded = peer::elf(&stock.unpacked)?;
            elf.push(meter.stop());
            drop(loaded);
        }
        for _ in 0..5 {
            let meter = Meter::start();
            let loaded = peer::bzimage(&stock.path)?;
            bzimage.push(meter.stop());
            drop(loaded);
        }
    }
    let (ours, elf, bzimage) = (
        Cost::median(&ours),
        Cost::median(&elf),
        Cost::median(&bzimage),
    );
    println!("B1 warm load, file name to memory and registers (goal: 20 us, 24 faults, 64 KiB)");
    println!("   firstlight            {ours}");
    println!(
        "   linux-loader, ELF     {elf}  {:.0} x (goal: 500)",
        elf.cpu / ours.cpu
    );
    println!(
        "   linux-loader, bzImage {bzimage}  {:.0} x (goal: 100)",
        bzimage.cpu / ours.cpu
    );
    steps(stock, rounds)
}

/// What of the warm load takes how long.
pub(crate) fn steps(stock: &Stock, rounds: usize) -> Outcome {
    let mut parts = [const { Vec::new() }; 5];
    for _ in 0..rounds {
        let mut part = 0;
        let mut next = |cost: Cost| {
            parts[part].push(cost);
            part += 1;
        };
        let meter = Meter::start();
        let opened = open(stock)?;
        next(meter.stop());
        let meter = Meter::start();
        let image = Image::reopen(opened.layers.for_image())?;
        next(meter.stop());
        let meter = Meter::start();
        let plan = plan(&image, &request(Kaslr::Off))?;
        next(meter.stop());
        let meter = Meter::start();
        let memory = GuestMemory::allocate(plan.platform().ram(), Backing::Private)?;
        next(meter.stop());
        let layers = opened.layers.bytes();
        let kept = Vec::from_iter(opened.layers.file());
        let sources = Sources {
            layers: &layers,
            kept: &kept,
            ..Sources::default()
        };
        let meter = Meter::start();
        place(&plan, &sources, &memory)?;
        next(meter.stop());
    }
    let names = ["cache", "reopen", "plan", "allocate", "place"];
    for (name, costs) in names.iter().zip(&parts) {
        println!("     {name:<19} {}", Cost::median(costs));
    }
    Ok(())
}

/// B2: nothing in the cache, against the decompressor alone.
pub(crate) fn cold(stock: &Stock, rounds: usize) -> Outcome {
    const ENOUGH: usize = 5;
    let bytes = fs::read(&stock.path)?;
    let image = Image::open(&bytes, &Limits::default())?;
    let Some((packed, payload)) = payload(&image) else {
        return Ok(());
    };
    let unpacked_len = image.kernel().bytes().len();
    let (mut raw, mut ours, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.min(ENOUGH) {
        // With a byte to spare, as it asks for.
        ALLOCATOR.warm_up(unpacked_len + 1);
        let meter = Meter::start();
        let unpacked = payload.unpack(packed, Limits::default().unpacked)?;
        raw.push(meter.stop());
        drop(unpacked);
        let meter = Meter::start();
        let layers = Layer::of_image(fs::read(&stock.path)?, &Limits::default())?;
        let loaded = fill(&Opened::without_cache(layers), &request(Kaslr::Off))?;
        ours.push(meter.stop());
        drop(loaded);
        Cache::open(&stock.cache, Cache::BOUND)?.clear()?;
        let meter = Meter::start();
        let loaded = load(stock, Kaslr::Off)?;
        kept.push(meter.stop());
        drop(loaded);
    }
    let (raw, ours, kept) = (Cost::median(&raw), Cost::median(&ours), Cost::median(&kept));
    println!("B2 cold load (goal: 1.10 x the decompressor into warm memory)");
    println!("   {:<21} {raw}", payload.codec);
    println!(
        "   without a cache       {ours}  {:.2} x",
        ours.cpu / raw.cpu
    );
    println!(
        "   into the cache        {kept}  {:.2} x",
        kept.cpu / raw.cpu
    );
    Ok(())
}

/// What of `image` is packed, and the layer that it is in.
fn payload<'a>(image: &'a Image<'_>) -> Option<(&'a [u8], &'a Packed)> {
    image.layers().iter().find_map(|layer| {
        let payload = match layer.format() {
            Format::BzImage(bzimage) => bzimage.payload.as_ref(),
            Format::Zboot(zboot) => Some(&zboot.payload),
            Format::Packed(packed) => Some(packed),
            Format::Arm64(_)
            | Format::Riscv(_)
            | Format::Elf(_)
            | Format::Multiboot(_)
            | Format::Uki(_)
            | Format::UImage(_)
            | Format::Android(_)
            | Format::Firmware(_)
            | Format::Other(_) => None,
        };
        Some((layer.bytes(), payload?))
    })
}

/// B5: what random addresses cost more.
fn kaslr(stock: &Stock) -> Outcome {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut touched_without, mut touched_with) = (Vec::new(), Vec::new());
    let boot = stock.boot()?;
    for round in 0..9 {
        for (kaslr, load_only, touched) in [
            (Kaslr::Off, &mut without, &mut touched_without),
            (Kaslr::Seeded(round), &mut with, &mut touched_with),
        ] {
            let moved = moved(stock, &boot, kaslr)?;
            let meter = Meter::start();
            let (_, memory) = load(stock, kaslr)?;
            load_only.push(meter.so_far());
            moved.touch(&memory, What::All);
            touched.push(meter.stop());
        }
    }
    let (without, with) = (Cost::median(&without), Cost::median(&with));
    let (before, after) = (Cost::median(&touched_without), Cost::median(&touched_with));
    println!("B5 random addresses (goal: 500 us, 300 pages)");
    println!("   load without          {without}");
    println!(
        "   load with             {with}  {:+.0} us",
        with.cpu - without.cpu
    );
    println!("   and a boot without    {before}");
    println!(
        "   and a boot with       {after}  {:+.0} us, {:+} pages",
        after.cpu - before.cpu,
        (after.private_kib - before.private_kib) / 4
    );
    Ok(())
}

/// B6: load, and then what a boot reads and writes.
fn touches(stock: &Stock) -> Outcome {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut shifted = Vec::new();
    let boot = stock.boot()?;
    for round in 0..9 {
        let meter = Meter::start();
        let (_, memory) = load(stock, Kaslr::Off)?;
        boot.touch(&memory, What::All);
        ours.push(meter.stop());
        drop(memory);
        let kaslr = Kaslr::Seeded(round);
        let moved = moved(stock, &boot, kaslr)?;
        let meter = Meter::start();
        let (_, memory) = load(stock, kaslr)?;
        moved.touch(&memory, What::All);
        shifted.push(meter.stop());
        drop(memory);
        let meter = Meter::start();
        let memory = peer::elf(&stock.unpacked)?;
        boot.touch_peer(&memory, What::All);
        theirs.push(meter.stop());
    }
    let theirs = Cost::median(&theirs);
    println!("B6 load and what a boot touches (goal: 3 x, private memory 0.7 x)");
    println!("   linux-loader, ELF     {theirs}");
    for (name, costs) in [("as linked", &ours), ("random addresses", &shifted)] {
        let ours = Cost::median(costs);
        println!(
            "   {name:<21} {ours}  {:.1} x, {:.0} x the faults, private {:.2} x",
            theirs.cpu / ours.cpu,
            theirs.faults / ours.faults,
            kib(ours.private_kib) / kib(theirs.private_kib)
        );
    }
    Ok(())
}

/// The boot of a kernel where `kaslr` puts it.
fn moved(stock: &Stock, boot: &Boot, kaslr: Kaslr) -> Outcome<Boot> {
    let opened = open(stock)?;
    let image = Image::reopen(opened.layers.for_image())?;
    let by = plan(&image, &request(kaslr))?.moved();
    Ok(boot.clone().moved(by))
}

#[expect(clippy::cast_precision_loss, reason = "kibibytes of memory are few")]
fn kib(kib: i64) -> f64 {
    kib as f64
}

/// B14: what finding out what an image is costs, once it is unpacked.
fn parsers(stock: &Stock, rounds: usize) -> Outcome {
    let layers = open(stock)?;
    let (mut reopen, mut relocations) = (Vec::new(), Vec::new());
    let mut counted = None;
    for _ in 0..rounds {
        let before = ALLOCATOR.count();
        let meter = Meter::start();
        let image = Image::reopen(layers.layers.for_image())?;
        reopen.push(meter.stop());
        let parsed = ALLOCATOR.count();
        let Format::Elf(elf) = image.kernel().format() else {
            return Ok(());
        };
        let meter = Meter::start();
        let table = elf.relocations(image.kernel().bytes());
        relocations.push(meter.stop());
        counted = Some((parsed.since(before), ALLOCATOR.count().since(parsed), table));
    }
    let (reopen, relocations) = (Cost::median(&reopen), Cost::median(&relocations));
    println!("B14 parsers (goal: 20 us, nothing allocated that grows with the input)");
    if let Some((parsing, searching, table)) = counted {
        println!("   headers and ELF       {reopen}  {parsing}");
        let entries = table.map_or(0, |table| {
            let (r64, inverse32, r32) = table.counts();
            r64 + inverse32 + r32
        });
        println!("   {entries:>7} relocations   {relocations}  {searching}");
    }
    Ok(())
}

/// B8: what a large initial ramdisk that is in the cache costs more, against reading it.
fn initrd(folder: &Path, kernel: &[u8], rounds: usize) -> Outcome {
    let path = folder.join("initrd");
    fs::write(&path, large_archive())?;
    let cache = Cache::open(&folder.join("cache"), Cache::BOUND)?;
    settle();
    let open = || {
        let file = File::open(&path)?;
        cache.get(Kind::Initrd, &file, &path, || {
            Ok::<_, Box<dyn Error>>(vec![Layer::new(fs::read(&path)?)])
        })
    };
    let image = Image::open(kernel, &Limits::default())?;
    let len = open()?.layers.bytes()[0].len() as u64;
    let plan = |initrd| {
        let request = request(Kaslr::Off);
        plan(&image, &Request { initrd, ..request })
    };
    let (without, with) = (plan(None)?, plan(Some(len))?);
    let (mut ours, mut none, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let sources = Sources {
            layers: &[kernel],
            ..Sources::default()
        };
        let memory = GuestMemory::allocate(without.platform().ram(), Backing::Private)?;
        let meter = Meter::start();
        place(&without, &sources, &memory)?;
        none.push(meter.stop());
        drop(memory);
        let memory = GuestMemory::allocate(with.platform().ram(), Backing::Private)?;
        let meter = Meter::start();
        let opened = open()?;
        let sources = Sources {
            initrd: opened.layers.bytes()[0],
            kept: &Vec::from_iter(opened.layers.file()),
            ..sources
        };
        place(&with, &sources, &memory)?;
        drop(opened);
        ours.push(meter.stop());
        drop(memory);
        if theirs.len() < 9 {
            let memory = peer::memory(Gpa::new(0))?;
            let meter = Meter::start();
            peer::read_initrd(&memory, &path)?;
            theirs.push(meter.stop());
        }
    }
    let none = Cost::median(&none);
    let (ours, theirs) = (Cost::median(&ours).more_than(none), Cost::median(&theirs));
    println!("B8 more than without it (goal: 10 us, 0 bytes copied, 1000 x)");
    println!("   firstlight            {ours}");
    println!(
        "   vm-memory, read()     {theirs}  {:.0} x",
        theirs.cpu / ours.cpu
    );
    Ok(())
}

/// An archive of one file, no page of which is zero.
fn large_archive() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()
    };
    let mut archive = Vec::with_capacity(INITRD);
    while archive.len() < INITRD {
        archive.extend(next());
    }
    archive
}

/// The middle of some numbers.
pub(crate) fn middle(values: impl Iterator<Item = f64>) -> f64 {
    median(values.collect())
}
