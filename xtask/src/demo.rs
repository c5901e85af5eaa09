//! The demonstration: everything from nothing to a guest's prompt.

use crate::cache::Cache;
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs::{self, MARKER};
use crate::kernel::{self, Kernel};
use crate::process;
use crate::project::Project;
use crate::tools;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Shows what Firstlight does with a stock kernel, and leaves the user in the guest.
pub(crate) fn to_a_prompt(project: &Project, cache: &Cache) -> Outcome<u8> {
    let stage = Stage::set_up(project, cache)?;
    stage.explain()?;
    println!("\n== Boot: a shell in the guest; 'exit' or Ctrl-A x ends it\n");
    let mut boot = stage.boot("fl.do=shell");
    let status = boot
        .status()
        .because(|| format!("cannot start {}", process::shown(&boot)))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

/// The same with nobody there: the guest says its line and turns itself off.
pub(crate) fn to_the_marker(project: &Project, cache: &Cache) -> Outcome<u8> {
    let stage = Stage::set_up(project, cache)?;
    stage.explain()?;
    println!("\n== Boot: to the guest's first line and its power-off\n");
    let mut boot = stage.boot("fl.do=poweroff");
    boot.args(["--timeout", "180"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut guest = boot
        .spawn()
        .because(|| format!("cannot start {}", process::shown(&boot)))?;
    let console = guest
        .stdout
        .take()
        .ok_or_else(|| Failure::new("the guest has no console"))?;
    let mut marker = None;
    for line in BufReader::new(console).split(b'\n') {
        let line = line.because(|| "cannot read the guest's console".to_owned())?;
        let text = String::from_utf8_lossy(&line);
        println!("{text}");
        if text.contains(MARKER) {
            marker = Some(text.trim().to_owned());
        }
    }
    let status = guest
        .wait()
        .because(|| "cannot wait for the guest".to_owned())?;
    match (marker, status.success()) {
        (Some(marker), true) => {
            println!("\n== Done: the guest said: {marker}");
            Ok(0)
        }
        (None, true) => Err(Failure::new(
            "the guest turned itself off without a line from its init",
        )),
        (_, false) => Err(Failure::new(format!("firstlight boot failed: {status}"))),
    }
}

/// All that the demonstration needs.
struct Stage {
    firstlight: std::path::PathBuf,
    kernel: Kernel,
    initrd: std::path::PathBuf,
}

impl Stage {
    fn set_up(project: &Project, cache: &Cache) -> Outcome<Self> {
        println!("== Set-up: tools, a Debian kernel, a small initramfs, and Firstlight itself");
        tools::install(&[tools::LINKER, tools::LIBC, tools::QEMU])?;
        let kernel = kernel::fetch(cache, &kernel::DEBIAN_13)?;
        println!("kernel:     {} ({})", kernel.file.display(), kernel.version);
        let initrd = initramfs::build(project, cache, kernel::DEBIAN_13.architecture)?;
        println!("initramfs:  {}", initrd.display());
        println!("building firstlight ...");
        let firstlight = project.firstlight()?;
        println!("firstlight: {}", firstlight.display());
        Ok(Self {
            firstlight,
            kernel,
            initrd,
        })
    }

    fn explain(&self) -> Outcome {
        println!("\n== What is this file?\n");
        process::run(show(
            Command::new(&self.firstlight)
                .arg("inspect")
                .arg(&self.kernel.file),
        ))?;
        println!("\n== Where will everything go?\n");
        process::run(show(&mut self.command("plan", "fl.do=shell")))
    }

    fn boot(&self, todo: &str) -> Command {
        let mut boot = self.command("boot", todo);
        show(&mut boot);
        boot
    }

    fn command(&self, verb: &str, todo: &str) -> Command {
        let option = |name: &str, file: &Path| [name.into(), file.as_os_str().to_owned()];
        let mut command = Command::new(&self.firstlight);
        command
            .arg(verb)
            .args(option("--kernel", &self.kernel.file))
            .args(option("--initrd", &self.initrd))
            .args(["--cmdline", &format!("console=ttyS0 quiet {todo}")])
            .args(["--memory", "512M", "--cpus", "2"]);
        command
    }
}

/// Prints the command line, so that it can be typed again.
fn show(command: &mut Command) -> &mut Command {
    println!("$ {}\n", process::shown(command));
    // What follows comes from another program: ours must be out before.
    let _ = std::io::stdout().flush();
    command
}
