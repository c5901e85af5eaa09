//! `firstlight boot`: one boot from end to end, and the next one where the guest resets.

use crate::args::cpu::check_policy;
use crate::args::{BootArgs, GuestArgs};
use crate::cache::Store;
use crate::control::{Controls, Desk, Server};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, printable};
use crate::initrd::Initrd;
use crate::kernel::{self, Files};
use crate::output::note;
use crate::progress::Progress;
use crate::pstore;
use firstlight_boot::draw::Size;
use firstlight_boot::{BootPlan, Request};
use firstlight_image::{Architecture, Image};
use firstlight_load::Sources;
use firstlight_vmm::{
    Chosen, Console, DeviceError, Ending, Engine, Equipment, HostCpus, Limits, Machine, MemoryFile,
    MemoryFilePurpose, PostMortem, RunError, Sandbox, SwapError, choose, has_landlock,
};
use rustix::system::sysinfo;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the command ends.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// With a status of ours.
    Status(ExitStatus),
    /// With the guest's own.
    Guest(u8),
    /// As the signal with this number ends a program.
    Signal(i32),
}

/// Boots what `args` describe, again and again where the guest resets, until it ends.
pub(crate) fn boot(args: &BootArgs, progress: Progress) -> Result<Outcome, Failure> {
    refuse_more_memory_than_there_is(args.guest.memory)?;
    check_policy(
        &args.policy(),
        args.guest.cpus,
        &HostCpus::new(HostCpus::SYSFS),
    )?;
    let deadline = args.timeout().map(|timeout| Instant::now() + timeout);
    let files = Files::open(&args.guest)?;
    let desk = Arc::new(Desk::default());
    let _server = args
        .api_sock
        .as_ref()
        .map(|path| Server::start(path, Arc::clone(&desk)))
        .transpose()?;
    let mut console = Console::stdio().map_err(|error| run_failed(&error))?;
    let mut engine = None;
    loop {
        let (plan, machine) = prepare(args, &files, &mut engine, &console, progress)?;
        let limits = Limits {
            timeout: deadline.map(left),
            boot_watchdog: args.boot_watchdog(),
        };
        desk.put(Controls::of(&machine));
        let ending = machine.run(&plan, &limits, &mut console);
        desk.clear();
        let ending = ending.map_err(|error| run_failed(&error))?;
        match outcome(&ending, args) {
            Some(outcome) => return Ok(outcome),
            None => say(args, "the guest resets: booting it again"),
        }
    }
}

/// Everything up to the first instruction of the guest. The files' bytes are in guest memory
/// afterwards, and nowhere else.
fn prepare(
    args: &BootArgs,
    files: &Files,
    engine: &mut Option<Chosen>,
    console: &Console,
    progress: Progress,
) -> Result<(BootPlan, Machine), Failure> {
    let store = Store::open(progress);
    let opened = store.kernel(files.kernel(), &args.guest)?;
    let image = kernel::image(files.kernel(), &opened, &args.guest)?;
    let initrd = Initrd::open(&store, files, &image, &args.guest)?;
    let request = Request {
        debug_exit: args.exit_from_guest,
        rng_seed: kernel::fresh_seed()?,
        kaslr: args
            .guest
            .kaslr(|| kernel::fresh_seed().map(u64::from_le_bytes))?,
        ..kernel::request(&args.guest, files, &image, initrd.as_ref())?
    };
    // What no engine could boot is said before an engine is looked for.
    let plan = kernel::plan(files.kernel(), &image, &request)?;
    let chosen = match engine {
        Some(chosen) => chosen,
        None => {
            let architecture = plan.platform().architecture();
            engine.insert(find_engine(args, architecture, console, progress)?)
        }
    };
    let plan = plan_for(chosen.engine, plan, files, (args, &image, &request))?;
    kernel::dump_dtb(&args.guest, &plan)?;
    let modules = files.read_modules(progress)?;
    let modules: Vec<&[u8]> = modules.iter().map(Vec::as_slice).collect();
    let sources = Sources {
        layers: &opened.layers.bytes(),
        initrd: initrd.as_ref().map_or(&[], Initrd::bytes),
        modules: &modules,
        // Not the kernel's: as it starts it touches nearly all that it has, page by page, and writes to
        // most. A page that is mapped is an exit and a fault of the host's each time; a copy lies in huge pages.
        kept: &Vec::from_iter(initrd.as_ref().and_then(Initrd::mapped)),
    };
    let equipment = Equipment {
        crash_log: pstore::file(&args.guest, image.architecture())?,
        flash_variables: flash_variables(&args.guest, &plan)?,
        ..args.equipment()
    };
    let is_jailed = equipment.devices.sandbox == Sandbox::On;
    if is_jailed && progress.is_verbose() && !has_landlock() {
        progress.say(
            "this host has no Landlock: jails are made of namespaces and forbidden calls only",
        );
    }
    let machine = progress
        .step("filling the guest's memory", || {
            chosen.engine.prepare(&plan, &sources, &equipment)
        })
        .map_err(|error| run_failed(&error))?;
    Ok((plan, machine))
}

/// Where firmware keeps what it has to remember, if that is to be kept.
fn flash_variables(args: &GuestArgs, plan: &BootPlan) -> Result<Option<MemoryFile>, Failure> {
    let Some(path) = &args.pflash else {
        return Ok(None);
    };
    let Some(flash) = plan.platform().flash() else {
        return Err(Failure::new(
            ExitStatus::Usage,
            format!(
                "--pflash is for firmware to remember by, and this is a {}",
                plan.image()
            ),
        ));
    };
    Ok(Some(MemoryFile {
        purpose: MemoryFilePurpose::FlashVariables,
        path: path.clone(),
        range: flash.variables,
        initial: plan.platform().new_variables(),
    }))
}

/// The plan for the machine that `engine` makes, and with what it has to tell the kernel on its
/// command line where that has room for it: that makes a boot more dependable, not possible.
fn plan_for(
    engine: Engine,
    plan: BootPlan,
    files: &Files,
    (args, image, request): (&BootArgs, &Image<'_>, &Request),
) -> Result<BootPlan, Failure> {
    let offered = engine.hardware(plan.platform().architecture(), args.irqchip());
    let hardware = args.guest.hardware(offered);
    let cmdline = engine.cmdline(&plan).into_owned();
    let has_more_to_say = cmdline != request.cmdline;
    let with = |cmdline| Request {
        cmdline,
        hardware: hardware.clone(),
        ..request.clone()
    };
    let file = files.kernel();
    if has_more_to_say && let Ok(plan) = kernel::plan(file, image, &with(cmdline)) {
        return Ok(plan);
    }
    if hardware == request.hardware {
        return Ok(plan);
    }
    kernel::plan(file, image, &with(request.cmdline.clone()))
}

fn find_engine(
    args: &BootArgs,
    architecture: Architecture,
    console: &Console,
    progress: Progress,
) -> Result<Chosen, Failure> {
    let chosen = progress
        .step("probing the host", || choose(args.engine(), architecture))
        .map_err(|error| Failure::new(ExitStatus::NoEngine, error.to_string()))?;
    refuse_policy_without_threads(args, &chosen)?;
    let engine = format!("{}: {}", chosen.engine, chosen.why);
    if args.guest.runs_a_command() {
        // Whoever runs a command wants to see what that says.
        progress.say(&engine);
    } else {
        say(args, &engine);
    }
    if console.is_interactive() {
        say(args, "Ctrl-A x ends the guest, Ctrl-A h helps");
    }
    Ok(chosen)
}

/// Only where vCPUs are threads of ours can they be run in some way.
fn refuse_policy_without_threads(args: &BootArgs, chosen: &Chosen) -> Result<(), Failure> {
    if chosen.engine == Engine::Kvm || args.policy().is_default() {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::NoEngine,
        format!(
            "--cpu-affinity, --host-cpu-topology, --rt-cpus and --core-scheduling take the kvm \
             engine, and this is the {} one: {}",
            chosen.engine, chosen.why
        ),
    ))
}

/// How the command ends after `ending`; `None` where the guest is to be booted again.
fn outcome(ending: &Ending, args: &BootArgs) -> Option<Outcome> {
    let status = match ending {
        Ending::Reset if args.reboots() => return None,
        Ending::PowerOff | Ending::Reset if args.guest.runs_a_command() => {
            note("error: the guest has ended without the command's status");
            ExitStatus::NoCommandStatus
        }
        Ending::PowerOff | Ending::Reset => ExitStatus::Done,
        Ending::Left => {
            if !args.quiet {
                // The guest left the cursor wherever it was, behind a prompt most likely.
                note("\nfirstlight: you left, so the guest has ended");
            }
            ExitStatus::Done
        }
        Ending::ExitCode(code) => return Some(Outcome::Guest(*code)),
        Ending::Signalled(number) => return Some(Outcome::Signal(*number)),
        Ending::Crashed(post_mortem) => {
            report(post_mortem);
            ExitStatus::Crashed
        }
        Ending::Panicked => {
            note("error: the guest's kernel panicked");
            ExitStatus::Panicked
        }
        Ending::WatchdogFired => {
            note("error: a watchdog fired: the guest had turned it on, and no longer fed it");
            ExitStatus::Watchdog
        }
        Ending::TimedOut(post_mortem) => {
            if let Some(post_mortem) = post_mortem {
                report(post_mortem);
            }
            let seconds = args.timeout().unwrap_or_default().as_secs_f64();
            note(&format!(
                "error: the guest was still running after --timeout {seconds} seconds"
            ));
            ExitStatus::TimedOut
        }
    };
    Some(Outcome::Status(status))
}

fn report(post_mortem: &PostMortem) {
    note(printable(&post_mortem.to_string()).trim_end());
}

fn say(args: &BootArgs, what: &str) {
    if !args.quiet {
        note(&printable(&format!("firstlight: {what}")));
    }
}

/// The time left until `deadline`; never none at all, which would mean no limit.
fn left(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

/// The host would hand out the memory and kill somebody for it later.
fn refuse_more_memory_than_there_is(memory: u64) -> Result<(), Failure> {
    let host = sysinfo();
    let total = host.totalram.saturating_mul(u64::from(host.mem_unit));
    if memory <= total {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::Host,
        format!(
            "the guest is to have {memory} bytes of memory ({}), but this host has {total} ({})",
            Size(memory),
            Size(total),
        ),
    ))
}

fn run_failed(error: &RunError) -> Failure {
    let status = match error {
        RunError::Device(DeviceError::Engine { .. }) => ExitStatus::NoEngine,
        RunError::Device(error) if error.is_usage() => ExitStatus::Usage,
        RunError::Swap(SwapError::Engine { .. }) => ExitStatus::NoEngine,
        RunError::Swap(SwapError::Shared) => ExitStatus::Usage,
        RunError::Seat(_) => ExitStatus::Plan,
        RunError::MemoryFile(error) if error.is_usage() => ExitStatus::Usage,
        _ => ExitStatus::Host,
    };
    Failure::of(status, error)
}
