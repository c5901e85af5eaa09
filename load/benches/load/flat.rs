//! Kernels whose file is what lies in memory: the `Image` of arm64 and riscv64, as it is and packed
//! as distributions do it.

use crate::meter::{Cost, Meter};
use crate::touch::What;
use crate::{Outcome, Stock, cold, kib, load, peer, steps};
use firstlight_base::{GpaRange, GuestMem};
use firstlight_boot::{BootPlan, Content, Kaslr};
use firstlight_image::{Architecture, Codec, testing};
use firstlight_load::GuestMemory;
use std::fs;
use std::path::Path;
use vm_memory::{Bytes, GuestAddress};

/// Measures with an `Image`.
pub(crate) fn measure(stock: &Stock, rounds: usize) -> Outcome {
    warm(stock, rounds)?;
    steps(stock, rounds)?;
    touches(stock, rounds)
}

/// Measures with the same, packed.
pub(crate) fn measure_packed(folder: &Path, stock: &Stock, rounds: usize) -> Outcome {
    let file = fs::read(&stock.path)?;
    for (name, packed) in packed(stock.architecture, &file) {
        let stock = Stock::prepare(folder, name, &packed)?;
        println!("-- the same, packed: {}, {} bytes", stock.is, packed.len());
        warm(&stock, rounds)?;
        cold(&stock, rounds)?;
    }
    Ok(())
}

/// The same kernel as `make install` and `CONFIG_EFI_ZBOOT` make it.
fn packed(architecture: Architecture, file: &[u8]) -> [(&'static str, Vec<u8>); 2] {
    // IMAGE_FILE_MACHINE_ARM64 and IMAGE_FILE_MACHINE_RISCV64.
    let machine = match architecture {
        Architecture::Arm64 => 0xaa64,
        _ => 0x5064,
    };
    [
        ("Image.gz", testing::pack(Codec::Gzip, file)),
        (
            "vmlinuz.efi",
            testing::zboot(machine, "zstd", Codec::Zstd, file),
        ),
    ]
}

/// B1: a kernel that is in the cache, against the peer with one that is in memory.
fn warm(stock: &Stock, rounds: usize) -> Outcome {
    println!("B1 warm load, file name to memory and registers (goal: 20 us, 24 faults, 64 KiB)");
    let (plan, memory) = load(stock, Kaslr::Off)?;
    let ram = memory.regions()[0].range().start();
    match peer::pe(&stock.path, ram) {
        Ok(_) => println!("   linux-loader takes the file"),
        Err(refusal) => println!("   linux-loader refuses the file: {refusal}"),
    }
    let mut turns_of_theirs = 0;
    if let Ok(theirs) = peer::pe(&stock.unpacked, ram) {
        compare((&plan, &memory), &theirs)?;
        turns_of_theirs = rounds;
    }
    drop(memory);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let meter = Meter::start();
        let loaded = load(stock, Kaslr::Off)?;
        ours.push(meter.stop());
        drop(loaded);
    }
    for _ in 0..turns_of_theirs {
        let meter = Meter::start();
        let loaded = peer::pe(&stock.unpacked, ram)?;
        theirs.push(meter.stop());
        drop(loaded);
    }
    print("firstlight", &ours, &theirs);
    Ok(())
}

/// B6: load, and then what a boot reads and writes of the image.
fn touches(stock: &Stock, rounds: usize) -> Outcome {
    let (plan, memory) = load(stock, Kaslr::Off)?;
    let ram = memory.regions()[0].range().start();
    drop(memory);
    let boot = stock.boot()?;
    // linux-loader may have the kernel elsewhere.
    let moved = peer::pe(&stock.unpacked, ram).map_or(Ok(0), |theirs| {
        kernel(&plan).map(|ours| theirs.kernel.get().wrapping_sub(ours.start().get()))
    })?;
    println!("B6 load and what a boot touches of the image");
    for (name, boot) in [
        ("if it only read", boot.clone().without_writes()),
        ("as it does", boot),
    ] {
        let theirs_of_it = boot.clone().moved(moved);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let meter = Meter::start();
            let (_, memory) = load(stock, Kaslr::Off)?;
            boot.touch(&memory, What::Image);
            ours.push(meter.stop());
            drop(memory);
            let meter = Meter::start();
            if let Ok(loaded) = peer::pe(&stock.unpacked, ram) {
                theirs_of_it.touch_peer(&loaded.memory, What::Image);
                theirs.push(meter.stop());
            }
        }
        print(name, &ours, &theirs);
    }
    Ok(())
}

/// Both costs, if there is a peer.
fn print(name: &str, ours: &[Cost], theirs: &[Cost]) {
    let ours = Cost::median(ours);
    println!("   {name:<21} {ours}");
    if !theirs.is_empty() {
        let theirs = Cost::median(theirs);
        println!(
            "   linux-loader, PE      {theirs}  {}",
            ratios(theirs, ours)
        );
    }
}

/// How many times as long it takes and how many times the faults it has, and what part of its
/// private memory is ours.
fn ratios(theirs: Cost, ours: Cost) -> String {
    format!(
        "{:.1} x, {:.3} x the faults, private {:.4} x",
        theirs.cpu / ours.cpu,
        theirs.faults / ours.faults,
        kib(ours.private_kib) / kib(theirs.private_kib)
    )
}

/// Sees that both have the same kernel in memory.
fn compare((plan, ours): (&BootPlan, &GuestMemory), theirs: &peer::Loaded) -> Outcome {
    let range = kernel(plan)?;
    let len = usize::try_from(range.len())?;
    let (mut here, mut there) = (vec![0; len], vec![0; len]);
    ours.read(range.start(), &mut here)?;
    let at = GuestAddress(theirs.kernel.get());
    theirs.memory.read_slice(&mut there, at)?;
    assert!(here == there, "linux-loader has other bytes in memory");
    Ok(())
}

/// Where the bytes of the file lie.
fn kernel(plan: &BootPlan) -> Outcome<GpaRange> {
    let mut pieces = plan.pieces().iter();
    let range = pieces.find_map(|piece| match piece.content {
        Content::Image { len, .. } => GpaRange::new(piece.range.start(), len),
        Content::Bytes(_) | Content::Initrd | Content::Module(_) | Content::Window => None,
    });
    Ok(range.ok_or("the plan has no kernel")?)
}
