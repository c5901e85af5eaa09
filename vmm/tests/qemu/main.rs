//! Guests of a few instructions on a real QEMU, where one is installed.

mod arm64;
mod riscv64;
mod x86;

use firstlight_boot::BootPlan;
use firstlight_image::Architecture;
use firstlight_load::Sources;
use firstlight_vmm::{Console, Ending, Engine, EngineChoice, Equipment, Limits, choose};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::thread;
use std::time::Duration;

/// Whether there is a QEMU; says so where there is none.
fn there_is_a_qemu(architecture: Architecture, test: &str) -> bool {
    match choose(EngineChoice::Only(Engine::Qemu), architecture) {
        Ok(_) => true,
        Err(error) => {
            // Not by a macro: what those print is shown only where a test fails.
            let skipped = format!("SKIPPED {test}: {error}\n");
            io::stderr().write_all(skipped.as_bytes()).expect("stderr");
            false
        }
    }
}

/// Runs `plan` with `input` typed at its console; how it ends, and what it prints.
fn carry_out(
    plan: &BootPlan,
    sources: &Sources<'_>,
    limits: &Limits,
    input: File,
) -> (Ending, Vec<u8>) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut console = Console::new(OwnedFd::from(input), OwnedFd::from(writer)).expect("a console");
    let printed = thread::spawn(move || {
        let mut printed = Vec::new();
        BufReader::new(reader)
            .read_to_end(&mut printed)
            .map(|_| printed)
    });
    let machine = Engine::Qemu
        .prepare(plan, sources, &Equipment::default())
        .expect("a machine");
    let ending = machine.run(plan, limits, &mut console).expect("a run");
    drop(console);
    let printed = printed.join().expect("no panic").expect("a readable pipe");
    (ending, printed)
}

/// What somebody types who types more than any socket or FIFO on the way holds, up to and with a
/// byte 4, and where it is typed.
fn typed() -> (Vec<u8>, File) {
    let mut typed: Vec<u8> = (0..60_000_u32).map(|n| b' ' + (n % 95) as u8).collect();
    typed.push(4);
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let to_type = typed.clone();
    // A guest that does not read it all is found out by what it prints.
    thread::spawn(move || writer.write_all(&to_type));
    (typed, File::from(OwnedFd::from(reader)))
}

fn nothing_typed() -> File {
    File::open("/dev/null").expect("every system has it")
}

fn within(timeout: u64) -> Limits {
    Limits {
        timeout: Some(Duration::from_secs(timeout)),
        boot_watchdog: None,
    }
}
