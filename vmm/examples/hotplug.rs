//! Plugs a disk into a running Linux, and pulls it out again once the guest has let go of it.
//!
//! `hotplug KERNEL INITRD DISK [CMDLINE]`: the guest's init says READY when it waits for a disk, and
//! PLUGGED when it has had its use of it; when the disk is gone, it may begin again, or turn its
//! machine off. What it prints is shown.

use firstlight_boot::{BootPlan, Hardware, Request, plan};
use firstlight_devices::pci::Address;
use firstlight_image::{Architecture, Image, Limits as ImageLimits};
use firstlight_load::{Layer, Opened, Sources};
use firstlight_vmm::arch::{Aarch64, Expansion, Riscv64, X8664};
use firstlight_vmm::{
    Console, Devices, Disk, Ending, Engine, Equipment, IrqchipMode, Limits, LinuxArch, VirtioDevice,
};
use rustix::pipe::pipe;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, thread};

/// The longest that the guest may run, and that it may take to let go of the disk.
const LIFE: Duration = Duration::from_secs(240);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [kernel, initrd, disk, cmdline @ ..] = words.as_slice() else {
        return Err("usage: hotplug KERNEL INITRD DISK [CMDLINE]".into());
    };
    let kernel = fs::read(kernel)?;
    let initrd = fs::read(initrd)?;
    let opened = Opened::without_cache(Layer::of_image(kernel, &ImageLimits::default())?);
    let image = Image::reopen(opened.layers.for_image())?;
    let equipment = Equipment {
        devices: Devices {
            hotplug_slots: 1,
            ..Devices::default()
        },
        ..Equipment::default()
    };
    let plan = planned(&image, (initrd.len() as u64, cmdline), &equipment)?;
    let sources = Sources {
        layers: &opened.layers.bytes(),
        initrd: &initrd,
        ..Sources::default()
    };
    let machine = Engine::Kvm.prepare(&plan, &sources, &equipment)?;
    let expansion = machine.expansion().ok_or("the engine has no slots")?;

    let (input, _keyboard) = pipe()?;
    let (screen, output) = pipe()?;
    let mut console = Console::new(input, output)?;
    let (architecture, disk) = (image.architecture(), disk.clone());
    let person = thread::spawn(move || {
        let pulled = attend(File::from(screen), &expansion, (architecture, &disk));
        pulled.map_err(|error| error.to_string())
    });
    let limits = Limits {
        timeout: Some(LIFE),
        boot_watchdog: None,
    };
    let ending = machine.run(&plan, &limits, &mut console);
    drop(console);
    // Without who attends it, the guest has no console either: that comes first.
    let pulled = person.join().map_err(|_panic| "nobody attends the guest")?;
    match (pulled?, ending?) {
        (1.., Ending::PowerOff) => Ok(()),
        (pulled, ending) => Err(format!("{pulled} disks went, and then {ending:?} came").into()),
    }
}

fn planned(
    image: &Image<'_>,
    (initrd, cmdline): (u64, &[PathBuf]),
    equipment: &Equipment,
) -> Result<BootPlan, Box<dyn Error>> {
    let mut hardware: Hardware = Engine::Kvm.hardware(image.architecture(), IrqchipMode::Kernel);
    equipment.devices.equip(&mut hardware);
    let console = match image.architecture() {
        Architecture::Arm64 => "ttyAMA0",
        _ => "ttyS0",
    };
    let more = cmdline.iter().map(|words| format!(" {}", words.display()));
    let request = Request {
        initrd: Some(initrd),
        cmdline: format!("console={console} panic=-1{}", more.collect::<String>()),
        hardware,
        ..Request::default()
    };
    Ok(plan(image, &request)?)
}

/// Shows what the guest prints, does what it waits for, and says how often a disk was pulled out.
fn attend(
    screen: File,
    expansion: &Expansion,
    (architecture, disk): (Architecture, &Path),
) -> Result<u32, Box<dyn Error>> {
    let mut pulled = 0;
    let mut plugged = None;
    for line in BufReader::new(screen).lines() {
        let line = line?;
        println!("{}", line.trim_end());
        match line.trim() {
            "READY" => plugged = Some(plug(expansion, architecture, disk)?),
            "PLUGGED" => {
                let port = plugged.take().ok_or("the guest has a disk of its own")?;
                expansion.unplug_within(port, PATIENCE)?;
                pulled += 1;
            }
            _ => {}
        }
    }
    Ok(pulled)
}

/// Plugs the disk in, of which nobody else may have hold.
fn plug(
    expansion: &Expansion,
    architecture: Architecture,
    disk: &Path,
) -> Result<Address, Box<dyn Error>> {
    let disk = Disk {
        path: disk.to_owned(),
        readonly: false,
    };
    let device = VirtioDevice::disk(&disk, 0)?;
    let plugged = match architecture {
        Architecture::Arm64 => Aarch64::register_pci_device(expansion, device),
        Architecture::Riscv64 => Riscv64::register_pci_device(expansion, device),
        _ => X8664::register_pci_device(expansion, device),
    };
    Ok(plugged?)
}
