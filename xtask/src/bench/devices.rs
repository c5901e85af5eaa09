//! Virtio devices, Firstlight's beside QEMU's, on real KVM and the machine whose clock counts
//! instructions.
//!
//! The disk is a file in the machine's memory and the network ends at this program, so that nothing but
//! the way through the VMM is measured. The machine has one processor: what VMM, its host's kernel and
//! guest do for a request takes turns, and its sum is what a request takes.

mod guest;
mod network;

use super::counting::{self, FINISH, FIRSTLIGHT, Files, QEMU, RESULT};
use super::peer;
use crate::cache::Cache;
use crate::failure::{Because, Outcome};
use crate::initramfs;
use crate::kernel::{self, Kernel, Release};
use crate::project::Project;
use firstlight_initramfs::modules::{self, Module, ModuleTree};
use guest::{COUNTERS, Guest, Spent};
use std::fs;
use std::process::Command;

const INIT: &str = include_str!("../../guest/bench-init");
/// The kernel of the guests.
const RELEASE: Release = kernel::DEBIAN_12_CLOUD;
/// The kernel of the machine that they run on, and what it needs.
const HOST: Release = kernel::DEBIAN_12;
const HOST_MODULES: [&str; 3] = ["kvm_amd", "tun", "vhost_vsock"];
/// The guests' drivers.
const DRIVERS: [&str; 7] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "vmw_vsock_virtio_transport",
];
/// Memory of each guest, in MiB.
const MEMORY: u32 = 256;
const KERNEL: &str = "/race/kernel";
const INITRD: &str = "/race/initramfs";
/// The disk, and its size.
const DISK: &str = "/race/disk";
const DISK_MIB: usize = 64;

/// Runs the bench and prints its tables.
pub(super) fn run(project: &Project, cache: &Cache) -> Outcome {
    println!("\n== devices: both on real KVM, on a machine whose clock counts instructions");
    let host = kernel::installed(cache, &HOST)?;
    let modules = load_order(&HOST, &host, &HOST_MODULES)?;
    let modules = modules
        .into_iter()
        .map(|module| (file(&module), module.image));
    let mut files = Files::new(project, cache, modules)?;
    let kernel = kernel::installed(cache, &RELEASE)?;
    files.copy(&kernel.file, KERNEL)?;
    files.write(INITRD, &initramfs(cache, &kernel)?);
    counting::run(cache, &host.file, (files, "devices"))
}

fn load_order(release: &Release, kernel: &Kernel, wanted: &[&str]) -> Outcome<Vec<Module>> {
    let of = modules::Kernel {
        architecture: release.architecture.of_images(),
        version: Some(&kernel.version),
    };
    ModuleTree::open(&kernel.modules, of.version)
        .and_then(|tree| tree.load_order(wanted, &of))
        .because(|| format!("cannot collect modules in {}", kernel.modules.display()))
}

fn file(module: &Module) -> String {
    format!("{}.ko", module.name)
}

/// What the guests boot into.
fn initramfs(cache: &Cache, kernel: &Kernel) -> Outcome<Vec<u8>> {
    let mut archive = initramfs::skeleton(cache, RELEASE.architecture)?;
    archive.program("init", INIT.as_bytes());
    archive.folder("modules");
    let mut order = String::new();
    for module in load_order(&RELEASE, kernel, &DRIVERS)? {
        let name = file(&module);
        archive.file(&format!("modules/{name}"), &module.image);
        order += &format!("{name}\n");
    }
    archive.file("modules/order", order.as_bytes());
    archive
        .finish()
        .because(|| "cannot make the archive".to_owned())
}

/// What a guest is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Equipment {
    Nothing,
    /// What is measured: a disk and a network card.
    DiskAndNet,
    /// Every kind of device.
    All,
}

/// A VMM that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vmm {
    Firstlight,
    Qemu,
}

impl Vmm {
    /// The peer first.
    const ALL: [Self; 2] = [Self::Qemu, Self::Firstlight];

    const fn name(self) -> &'static str {
        match self {
            Self::Firstlight => "firstlight",
            Self::Qemu => "qemu microvm",
        }
    }

    fn command(self, equipment: Equipment) -> Command {
        let drivers = match equipment {
            Equipment::Nothing => "",
            Equipment::DiskAndNet | Equipment::All => " fl.drivers",
        };
        let guest = peer::Guest {
            kernel: KERNEL.into(),
            initrd: INITRD.into(),
            cmdline: format!("console=ttyS0 reboot=t panic=-1 quiet nokaslr{drivers}"),
            memory: MEMORY,
        };
        let tap = network::TAP;
        let (disk_and_net, others): (&[_], &[_]) = match self {
            Self::Firstlight => (
                &["--disk", DISK, "--net", &format!("tap={tap}")],
                &[
                    "--vsock=3,uds=/tmp/vsock",
                    "--console=virtio",
                    "--rng",
                    "--balloon",
                ],
            ),
            Self::Qemu => (
                &[
                    "-M",
                    "pcie=on",
                    "-blockdev",
                    &format!(
                        "driver=raw,node-name=disk,discard=unmap,file.driver=file,file.filename={DISK}"
                    ),
                    "-device",
                    "virtio-blk-pci,disable-legacy=on,drive=disk",
                    "-netdev",
                    &format!("tap,id=net,ifname={tap},script=no,downscript=no"),
                    "-device",
                    "virtio-net-pci,disable-legacy=on,netdev=net,romfile=",
                ],
                &[
                    "-device",
                    "vhost-vsock-pci,disable-legacy=on,guest-cid=3",
                    "-chardev",
                    "null,id=nobody",
                    "-device",
                    "virtio-serial-pci,disable-legacy=on",
                    "-device",
                    "virtconsole,chardev=nobody",
                    "-device",
                    "virtio-rng-pci,disable-legacy=on",
                    "-device",
                    "virtio-balloon-pci,disable-legacy=on,free-page-reporting=on",
                ],
            ),
        };
        let mut command = match self {
            Self::Firstlight => peer::firstlight(FIRSTLIGHT.as_ref(), &guest, "kvm"),
            Self::Qemu => {
                let mut command = peer::qemu(QEMU.as_ref(), &guest, "kvm");
                // Its threads have names then.
                command.args(["-name", "guest,debug-threads=on"]);
                command
            }
        };
        if equipment != Equipment::Nothing {
            command.args(disk_and_net);
        }
        if equipment == Equipment::All {
            command.args(others);
        }
        command
    }
}

/// Something that a guest does with a device.
struct Step {
    title: &'static str,
    /// How often it does that.
    count: u32,
    /// The bytes that it moves each time.
    bytes: u32,
    /// How it is told.
    command: &'static str,
}

impl Step {
    const fn new(title: &'static str, (count, bytes): (u32, u32), command: &'static str) -> Self {
        Self {
            title,
            count,
            bytes,
            command,
        }
    }
}

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

/// What is measured.
const STEPS: [Step; 10] = [
    Step::new(
        "read 4 KiB",
        (500, 4 * KIB),
        "$b dd if=/dev/vda of=/dev/null bs=4k count=500 iflag=direct",
    ),
    Step::new(
        "read 4 KiB, 16 at once",
        (1600, 4 * KIB),
        "for at in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do \
         $b dd if=/dev/vda of=/dev/null bs=4k skip=$((at * 1000)) count=100 iflag=direct & done; wait",
    ),
    Step::new(
        "read 64 KiB",
        (128, 64 * KIB),
        "$b dd if=/dev/vda of=/dev/null bs=64k count=128 iflag=direct",
    ),
    Step::new(
        "read 1 MiB",
        (16, MIB),
        "$b dd if=/dev/vda of=/dev/null bs=1M count=16 iflag=direct",
    ),
    Step::new(
        "read ahead, 1 MiB",
        (16, MIB),
        "$b dd if=/dev/vda of=/dev/null bs=1M count=16",
    ),
    Step::new(
        "write 4 KiB",
        (500, 4 * KIB),
        "$b dd if=/dev/zero of=/dev/vda bs=4k count=500 oflag=direct",
    ),
    Step::new(
        "write 1 MiB",
        (16, MIB),
        "$b dd if=/dev/zero of=/dev/vda bs=1M count=16 oflag=direct",
    ),
    Step::new(
        "ping and answer",
        (200, 64),
        "$b ping -A -q -c 200 192.0.2.1",
    ),
    Step::new(
        "send 1 MiB by TCP",
        (4, MIB),
        "$b dd if=/dev/zero bs=1M count=4 | $b nc 192.0.2.1 5000",
    ),
    Step::new(
        "receive 1 MiB by TCP",
        (4, MIB),
        "$b nc 192.0.2.1 5001 < /dev/null",
    ),
];

/// How often a step is carried out in one guest; the middle one counts.
const ROUNDS: usize = 3;
/// How many guests may stop in one step.
const ATTEMPTS: usize = 3;

/// The bench itself, on its machine.
pub(super) fn inside() -> Outcome {
    network::make()?;
    let full = vec![b'D'; DISK_MIB << 20];
    fs::write(DISK, full).because(|| format!("cannot write {DISK}"))?;
    let mut stopped = [0; Vmm::ALL.len()];
    // The first boot of a kernel unpacks it.
    for vmm in Vmm::ALL {
        if let Some((guest, _)) = Guest::boot(vmm.command(Equipment::Nothing))? {
            guest.end()?;
        }
    }
    boots(&mut stopped)?;
    print!(
        "{RESULT}\n{RESULT}{:<24} {:<12} {:>9} {:>8}",
        "each of", "VMM", "per s", "MiB/s"
    );
    for (title, _) in COUNTERS {
        print!(" {title:>8}");
    }
    println!(
        " {:>8} {:>8} {:>8} {:>8}",
        "switches", "VMM us", "rate", "exits"
    );
    let mut peers = None;
    for (vmm, stopped) in Vmm::ALL.iter().zip(&mut stopped) {
        let spent = steps(*vmm, stopped, peers.as_deref())?;
        peers.get_or_insert(spent);
    }
    let [theirs, ours] = stopped;
    println!(
        "{RESULT}   guests that stopped for good, and were started again: firstlight {ours}, qemu microvm {theirs}"
    );
    println!("{FINISH}");
    Ok(())
}

/// What each step takes with `vmm`, less what nothing takes, also as parts of what `peer` takes; `None`
/// where every guest stopped.
fn steps(
    vmm: Vmm,
    stopped: &mut usize,
    peer: Option<&[Option<Spent>]>,
) -> Outcome<Vec<Option<Spent>>> {
    let mut guest = None;
    let mut all = Vec::new();
    for (number, step) in STEPS.iter().enumerate() {
        let mut done = None;
        for _ in 0..ATTEMPTS {
            let ready = match guest.take() {
                Some(ready) => Some(ready),
                None => connected(vmm)?,
            };
            if let Some(mut ready) = ready {
                done = rounds(&mut ready, step)?;
                if done.is_some() {
                    guest = Some(ready);
                    break;
                }
                ready.end()?;
            }
            *stopped += 1;
        }
        let peer = peer.and_then(|all| all[number]);
        print_step(step, vmm, done.zip(peer.or(done)));
        all.push(done);
    }
    if let Some(guest) = guest {
        guest.end()?;
    }
    Ok(all)
}

/// A guest with a disk and a network.
fn connected(vmm: Vmm) -> Outcome<Option<Guest>> {
    const NETWORK: &str = "$b ip address add 192.0.2.2/24 dev eth0; $b ip link set eth0 up; \
                           $b ping -c 1 192.0.2.1";
    let Some((mut guest, _)) = Guest::boot(vmm.command(Equipment::DiskAndNet))? else {
        return Ok(None);
    };
    if guest.carry_out(NETWORK)?.is_none() {
        guest.end()?;
        return Ok(None);
    }
    Ok(Some(guest))
}

/// The middle one of some rounds of a step, less what nothing takes.
fn rounds(guest: &mut Guest, step: &Step) -> Outcome<Option<Spent>> {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let Some(nothing) = guest.carry_out(":")? else {
            return Ok(None);
        };
        let Some(spent) = guest.carry_out(step.command)? else {
            return Ok(None);
        };
        all.push(spent.less(&nothing));
    }
    Ok(Some(Spent::median(all)))
}

fn print_step(step: &Step, vmm: Vmm, spent: Option<(Spent, Spent)>) {
    let each = |value: f64| value / f64::from(step.count);
    print!("{RESULT}{:<24} {:<12}", step.title, vmm.name());
    let Some((spent, peers)) = spent else {
        println!(" every guest stopped");
        return;
    };
    let per_second = 1e3 / each(spent.milliseconds);
    let mib = per_second * f64::from(step.bytes) / f64::from(MIB);
    print!(" {per_second:>9.0} {mib:>8.1}");
    for count in spent.counts {
        print!(" {:>8.2}", each(count));
    }
    println!(
        " {:>8.2} {:>8.1} {:>8.2} {:>8.2}",
        each(spent.switches),
        each(spent.own_milliseconds) * 1e3,
        peers.milliseconds / spent.milliseconds,
        spent.counts[0] / peers.counts[0]
    );
}

/// Boots with everything and with nothing.
fn boots(stopped: &mut [usize; Vmm::ALL.len()]) -> Outcome {
    println!(
        "{RESULT}   1 vCPU, {MEMORY} MiB; init: ms from the start of the process, drivers loaded"
    );
    print!("{RESULT}{:<24} {:<12} {:>9}", "devices", "VMM", "init");
    for (title, _) in COUNTERS {
        print!(" {title:>8}");
    }
    println!(" {:>8} {:>8}", "threads", "files");
    for (title, equipment) in [("none", Equipment::Nothing), ("all", Equipment::All)] {
        for (vmm, stopped) in Vmm::ALL.iter().zip(&mut *stopped) {
            let mut booted = None;
            for _ in 0..ATTEMPTS {
                booted = Guest::boot(vmm.command(equipment))?;
                if booted.is_some() {
                    break;
                }
                *stopped += 1;
            }
            print!("{RESULT}{title:<24} {:<12}", vmm.name());
            let Some((guest, spent)) = booted else {
                println!(" every guest stopped");
                continue;
            };
            let has = guest.threads_and_files()?;
            guest.end()?;
            print!(" {:>9.2}", spent.milliseconds);
            for count in spent.counts {
                print!(" {count:>8.0}");
            }
            println!(" {:>8} {:>8}", has.0, has.1);
        }
    }
    Ok(())
}
