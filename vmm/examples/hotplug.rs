//! Plugs a disk into a running Linux, and pulls it out again once the guest has let go of it.
//!
//! `hotplug KERNEL INITRD DISK`: the guest's init says READY when it waits for a disk, PLUGGED when it
//! has found it, and PULLED when it is gone; it may then begin again, or turn its machine off. What it
//! prints is shown.

use firstlight_boot::{BootPlan, Hardware, Request, plan};
use firstlight_devices::pci::Address;
use firstlight_image::{Architecture, Image, Limits as ImageLimits};
use firstlight_load::{Layer, Opened, Sources};
use firstlight_vmm::arch::{Expansion, X8664};
use firstlight_vmm::{
    Console, Devices, Disk, Ending, Engine, Equipment, Limits, LinuxArch, VirtioDevice,
};
use rustix::pipe::pipe;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [kernel, initrd, disk] = words.as_slice() else {
        return Err("usage: hotplug KERNEL INITRD DISK".into());
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
    let plan = planned(&image, initrd.len() as u64, &equipment)?;
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
    let disk = disk.clone();
    let person = thread::spawn(move || attend(File::from(screen), &expansion, &disk));
    let limits = Limits {
        timeout: Some(Duration::from_secs(240)),
        boot_watchdog: None,
    };
    let ending = machine.run(&plan, &limits, &mut console)?;
    drop(console);
    let seen = person.join().map_err(|_panic| "nobody attends the guest")?;
    match (ending, seen) {
        (Ending::PowerOff, Ok(Seen::Pulled)) => Ok(()),
        (ending, seen) => Err(format!("the guest ended by {ending:?}, and {seen:?}").into()),
    }
}

fn planned(
    image: &Image<'_>,
    initrd: u64,
    equipment: &Equipment,
) -> Result<BootPlan, Box<dyn Error>> {
    let mut hardware: Hardware = Engine::Kvm.hardware(image.architecture());
    equipment.devices.equip(&mut hardware);
    let console = match image.architecture() {
        Architecture::Arm64 => "ttyAMA0",
        _ => "ttyS0",
    };
    let request = Request {
        initrd: Some(initrd),
        cmdline: format!("console={console} panic=-1"),
        hardware,
        ..Request::default()
    };
    Ok(plan(image, &request)?)
}

/// How far the guest came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Ready,
    Plugged,
    Pulled,
}

/// Shows what the guest prints, and does what it waits for.
fn attend(screen: File, expansion: &Arc<Expansion>, disk: &Path) -> Result<Seen, String> {
    let mut seen = Seen::Nothing;
    let mut at: Option<Address> = None;
    for line in BufReader::new(screen).lines() {
        let line = line.map_err(|error| error.to_string())?;
        println!("{}", line.trim_end());
        match (seen, line.trim()) {
            (Seen::Nothing | Seen::Pulled, "READY") => {
                at = Some(plug(expansion, disk)?);
                seen = Seen::Ready;
            }
            (Seen::Ready, "PLUGGED") => {
                let at = at.ok_or("plugged in before")?;
                expansion.unplug(at).map_err(|error| error.to_string())?;
                if expansion.unplug(at).is_ok() {
                    return Err("to be asked twice would change the guest's mind".to_owned());
                }
                seen = Seen::Plugged;
            }
            (Seen::Plugged, "PULLED") => {
                let at = at.ok_or("plugged in before")?;
                // The guest's driver is gone; that the slot has no power follows.
                while expansion.is_plugged(at) {
                    thread::sleep(Duration::from_millis(10));
                }
                seen = Seen::Pulled;
            }
            _ => {}
        }
    }
    Ok(seen)
}

/// Plugs the disk in, of which nobody else may have hold.
fn plug(expansion: &Expansion, disk: &Path) -> Result<Address, String> {
    let disk = Disk {
        path: disk.to_owned(),
        readonly: false,
    };
    let disk = VirtioDevice::disk(&disk, 0).map_err(|error| error.to_string())?;
    X8664::register_pci_device(expansion, disk).map_err(|error| error.to_string())
}
