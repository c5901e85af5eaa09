//! Lets a Linux sleep and wakes it, and empties its battery while it runs.
//!
//! `power KERNEL INITRD [CMDLINE]`: when the guest's init says BATTERY, its battery is set to what a laptop
//! pulled from the wall has; when the guest sleeps, it is woken by a key. What it prints is shown.

use firstlight_boot::{Hardware, Request, plan};
use firstlight_image::{Image, Limits as ImageLimits};
use firstlight_load::{Layer, Opened, Sources};
use firstlight_vmm::{
    Battery, BatteryState, Console, Devices, Ending, Engine, Equipment, Limits, Suspension,
    Wakefulness,
};
use rustix::pipe::pipe;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

/// The longest that the guest may run.
const LIFE: Duration = Duration::from_secs(240);
/// What its battery is set to.
const UNPLUGGED: &str = "capacity=42,status=discharging,ac=off";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [kernel, initrd, cmdline @ ..] = words.as_slice() else {
        return Err("usage: power KERNEL INITRD [CMDLINE]".into());
    };
    let (kernel, initrd) = (fs::read(kernel)?, fs::read(initrd)?);
    let opened = Opened::without_cache(Layer::of_image(kernel, &ImageLimits::default())?);
    let image = Image::reopen(opened.layers.for_image())?;
    let equipment = Equipment {
        devices: Devices {
            battery: Some(BatteryState::default()),
            suspend_notice: true,
            ..Devices::default()
        },
        ..Equipment::default()
    };
    let mut hardware: Hardware = Engine::Kvm.hardware(image.architecture());
    equipment.devices.equip(&mut hardware);
    let more = cmdline.iter().map(|words| format!(" {}", words.display()));
    let request = Request {
        initrd: Some(initrd.len() as u64),
        cmdline: format!("console=ttyS0 panic=-1{}", more.collect::<String>()),
        hardware,
        ..Request::default()
    };
    let plan = plan(&image, &request)?;
    let sources = Sources {
        layers: &opened.layers.bytes(),
        initrd: &initrd,
        ..Sources::default()
    };
    let machine = Engine::Kvm.prepare(&plan, &sources, &equipment)?;
    let battery = machine.battery().ok_or("the engine has no battery")?;
    let suspension = machine
        .suspension()
        .ok_or("the engine is not told of sleep")?;

    let (input, keyboard) = pipe()?;
    let (screen, output) = pipe()?;
    let mut console = Console::new(input, output)?;
    let viewer = thread::spawn(move || {
        let shown = attend(File::from(screen), &battery);
        shown.map_err(|error| error.to_string())
    });
    let waker = thread::spawn(move || wake(&suspension, File::from(keyboard)));
    let limits = Limits {
        timeout: Some(LIFE),
        boot_watchdog: None,
    };
    let ending = machine.run(&plan, &limits, &mut console);
    drop(console);
    viewer.join().map_err(|_panic| "nobody saw the guest")??;
    let woken = waker.join().map_err(|_panic| "nobody woke the guest")?;
    match (woken, ending?) {
        (true, Ending::PowerOff) => Ok(()),
        (woken, ending) => Err(format!("woken: {woken}, and then {ending:?} came").into()),
    }
}

/// Shows what the guest prints, and sets its battery when it asks for that.
fn attend(screen: File, battery: &Arc<Battery>) -> Result<(), Box<dyn Error>> {
    for line in BufReader::new(screen).lines() {
        let line = line?;
        println!("{}", line.trim_end());
        if line.trim() == "BATTERY" {
            battery.set(battery.get().with(UNPLUGGED)?)?;
        }
    }
    Ok(())
}

/// Presses a key when the guest sleeps, and says whether that woke it.
fn wake(suspension: &Suspension, mut keyboard: File) -> bool {
    if suspension.wait_for(Wakefulness::Suspended, LIFE) != Wakefulness::Suspended {
        return false;
    }
    let pressed = keyboard.write_all(b"\n").is_ok();
    let is_awake = suspension.wait_for(Wakefulness::Awake, LIFE) == Wakefulness::Awake;
    // Held open: a console without a keyboard would tell the guest's end.
    let _ = suspension.wait_for(Wakefulness::Ended, LIFE);
    pressed && is_awake
}
