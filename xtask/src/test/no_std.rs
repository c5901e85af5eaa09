//! The crates that must do without the standard library.

use super::{Checked, Verdict, whole_output};
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::project::Project;
use std::fs;
use std::path::Path;
use std::process::Command;

const CRATES: [&str; 4] = [
    "firstlight-base",
    "firstlight-image",
    "firstlight-boot",
    "firstlight-devices",
];

/// Builds the crates, and all that they depend on, where there is no `std` to be had.
pub(super) fn check(project: &Project) -> Checked {
    let mut cargo = project.cargo(&["check", "--locked"]);
    for package in CRATES {
        cargo.args(["--package", package]);
    }
    // Macros need not be fast here: nothing is unpacked.
    cargo.args(["--config", "profile.dev.package.'*'.opt-level=0"]);
    let folder = project.scratch("no-std")?;
    cargo.arg("--target-dir").arg(folder.join("build"));
    let remark = if let Some(target) = bare_target() {
        cargo.args(["--target", &target]);
        format!("(for {target})")
    } else {
        let host = host_target()?;
        let sysroot = folder.join("sysroot");
        without_std(&host, &sysroot)?;
        // With a target given, build scripts and macros are built with the whole library.
        cargo
            .args(["--target", &host])
            .env("RUSTFLAGS", format!("--sysroot={}", sysroot.display()));
        format!("(for {host} with nothing but core and alloc)")
    };
    whole_output(&mut cargo)?;
    Ok(Verdict::Passed(remark))
}

/// An installed target without an operating system.
fn bare_target() -> Option<String> {
    let installed =
        process::output_of(Command::new("rustup").args(["target", "list", "--installed"])).ok()?;
    let mut targets = installed.lines();
    targets
        .find(|target| target.contains("-none"))
        .map(str::to_owned)
}

fn host_target() -> Outcome<String> {
    let said = process::output_of(rustc().arg("-vV"))?;
    said.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("rustc does not tell what it was built for"))
}

/// Makes `folder` a toolchain's library folder that holds `core` and `alloc` alone.
fn without_std(target: &str, folder: &Path) -> Outcome {
    let sysroot = process::output_of(rustc().args(["--print", "sysroot"]))?;
    let library = format!("lib/rustlib/{target}/lib");
    let from = Path::new(sysroot.trim_end()).join(&library);
    let to = folder.join(&library);
    if to.exists() {
        fs::remove_dir_all(&to).because(|| format!("cannot remove {}", to.display()))?;
    }
    fs::create_dir_all(&to).because(|| format!("cannot make {}", to.display()))?;
    let entries = fs::read_dir(&from).because(|| format!("cannot list {}", from.display()))?;
    for entry in entries {
        let path = entry
            .because(|| format!("cannot list {}", from.display()))?
            .path();
        let name = path.file_name().unwrap_or_default();
        let is_wanted = ["libcore-", "liballoc-", "libcompiler_builtins-"]
            .iter()
            .any(|start| name.to_string_lossy().starts_with(start));
        if is_wanted {
            let link = to.join(name);
            std::os::unix::fs::symlink(&path, &link)
                .because(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(())
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}
