//! Building for architectures other than this machine's.
//!
//! Rust's installers offer libraries for other targets, but not every machine can have them. Debian
//! has them all: its compiler `rustc-web`, which it keeps current for browsers, with the standard
//! libraries of three architectures, and C compilers that link for them. Both are unpacked beside
//! this machine's own; only `cargo` is the one that runs us. Programs are linked statically, so that
//! they run where there is no C library.

use crate::architecture::Architecture;
use crate::cache::{self, Cache};
use crate::failure::{Because, Failure, Outcome};
use crate::process;
use crate::project::Project;
use crate::tree::{self, Planted, Tree};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const RUST: Tree = Tree {
    name: "rust",
    suite: "trixie",
    packages: &["libstd-rust-web-dev"],
    alone: &[
        // It depends on a C compiler, which the other tree has.
        (Architecture::X86_64, "rustc-web"),
        (Architecture::Arm64, "libstd-rust-web-dev"),
        (Architecture::Riscv64, "libstd-rust-web-dev"),
    ],
    without: &[],
};

const GCC: Tree = Tree {
    name: "gcc",
    suite: "bookworm",
    packages: &[
        "gcc-aarch64-linux-gnu",
        "libc6-dev-arm64-cross",
        "gcc-riscv64-linux-gnu",
        "libc6-dev-riscv64-cross",
    ],
    alone: &[],
    // Its programs call one another, with this machine's loader: so the C library is its, too.
    without: &["libc6_"],
};

/// Compilers for one architecture.
pub(crate) struct Cross {
    architecture: Architecture,
    /// What cargo is told of them.
    environment: Vec<(String, OsString)>,
    target_folder: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
}

impl Cross {
    /// Makes the compilers for `architecture` ready.
    pub(crate) fn prepare(
        project: &Project,
        cache: &Cache,
        architecture: Architecture,
    ) -> Outcome<Self> {
        let rust = tree::fetch(cache, &RUST)?;
        let gcc = tree::fetch(cache, &GCC)?;
        let folder = project.scratch("cross")?;
        let [rustc, rustdoc] = ["rustc", "rustdoc"].map(|name| (name, folder.join(name)));
        for (name, script) in [&rustc, &rustdoc] {
            write_program(script, &rust_script(&rust, name))?;
        }
        // The compiler tells how to talk to a linker by the end of its name.
        let cc = folder.join(format!("{}-linux-gnu-gcc", architecture.gnu()));
        write_program(&cc, &gcc_script(&gcc, architecture))?;

        let target = architecture.target();
        let of_cargo = |what: &str| format!("CARGO_TARGET_{}_{what}", shouted(target));
        let runner = format!(
            "{} lab --arch {} --",
            project.this_program()?.display(),
            architecture.name()
        );
        let environment = vec![
            ("RUSTC".to_owned(), rustc.1.clone().into()),
            ("RUSTDOC".to_owned(), rustdoc.1.into()),
            (of_cargo("LINKER"), cc.clone().into()),
            (of_cargo("RUNNER"), runner.into()),
            (
                of_cargo("RUSTFLAGS"),
                "--deny=warnings -Ctarget-feature=+crt-static".into(),
            ),
            (
                format!("CC_{}", target.replace('-', "_")),
                cc.clone().into(),
            ),
        ];
        Ok(Self {
            architecture,
            environment,
            target_folder: folder.join("target"),
            rustc: rustc.1,
            linker: cc,
        })
    }

    /// `cargo` with its command `verb` and `words`, for the architecture.
    pub(crate) fn cargo(&self, project: &Project, verb: &str, words: &[&str]) -> Command {
        let mut cargo = project.cargo(&[verb, "--target", self.architecture.target()]);
        cargo
            .arg("--target-dir")
            .arg(&self.target_folder)
            .args(words)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        cargo
    }

    /// The compiler itself, for programs of one file.
    pub(crate) fn rustc(&self) -> Command {
        let mut rustc = Command::new(&self.rustc);
        rustc
            .args(["--target", self.architecture.target(), "-C"])
            .arg(format!("linker={}", self.linker.display()));
        rustc
    }

    /// Builds the program of `package`, and says where it is. It shares all that it is built of with
    /// the tests.
    pub(crate) fn program(&self, project: &Project, package: &str) -> Outcome<PathBuf> {
        let words = ["--quiet", "--locked", "--package", package];
        process::run(&mut self.cargo(project, "build", &words))?;
        let folder = self.target_folder.join(self.architecture.target());
        Ok(folder.join("debug").join(package))
    }

    /// Builds the example `name` of `package`, and says where it is.
    pub(crate) fn example(&self, project: &Project, package: &str, name: &str) -> Outcome<PathBuf> {
        let words = ["--quiet", "--locked", "--package", package];
        let mut cargo = self.cargo(project, "build", &words);
        process::run(cargo.args(["--example", name]))?;
        let folder = self.target_folder.join(self.architecture.target());
        Ok(folder.join("debug/examples").join(name))
    }

    /// Builds the unit tests of `packages`, and says where their programs are.
    pub(crate) fn tests(&self, project: &Project, packages: &[&str]) -> Outcome<Vec<PathBuf>> {
        let words = ["--quiet", "--locked", "--no-run", "--message-format=json"];
        let mut cargo = self.cargo(project, "test", &words);
        cargo.arg("--lib");
        for package in packages {
            cargo.args(["--package", package]);
        }
        let programs = built(&mut cargo)?;
        if programs.is_empty() {
            return Err(Failure::new(format!("no tests in {}", packages.join(", "))));
        }
        Ok(programs)
    }

    /// Builds the bench `name` of `package`, and says where its program is.
    pub(crate) fn bench(&self, project: &Project, package: &str, name: &str) -> Outcome<PathBuf> {
        let words = ["--quiet", "--locked", "--no-run", "--message-format=json"];
        let mut cargo = self.cargo(project, "bench", &words);
        cargo.args(["--package", package, "--bench", name]);
        let program = built(&mut cargo)?.pop();
        program.ok_or_else(|| Failure::new(format!("no bench {name} in {package}")))
    }
}

/// Runs `cargo`, and reads in its messages which programs it built.
fn built(cargo: &mut Command) -> Outcome<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for line in process::output_of(cargo)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line)
            .because(|| format!("cannot read what cargo says: {line}"))?;
        programs.extend(message["executable"].as_str().map(PathBuf::from));
    }
    Ok(programs)
}

/// Runs the compiler's program `name` with the C library that it was built for.
fn rust_script(rust: &Planted, name: &str) -> String {
    let words = rust.program(&format!("usr/bin/{name}"));
    let words: Vec<String> = words.iter().map(process::quoted).collect();
    let sysroot = process::quoted(rust.root.join("usr"));
    format!(
        "#!/bin/sh\nexec {} --sysroot {sysroot} \"$@\"\n",
        words.join(" ")
    )
}

/// Runs the C compiler with the libraries that it needs.
fn gcc_script(gcc: &Planted, architecture: Architecture) -> String {
    let name = format!("usr/bin/{}-linux-gnu-gcc", architecture.gnu());
    format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={} exec {} -Wl,--sysroot={} \"$@\"\n",
        process::quoted(gcc.libraries()),
        process::quoted(gcc.root.join(name)),
        process::quoted(&gcc.root),
    )
}

fn write_program(path: &Path, text: &str) -> Outcome {
    cache::write_whole(path, text.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .because(|| format!("cannot make {} a program", path.display()))
}

/// `target` as cargo writes it in names of environment variables.
fn shouted(target: &str) -> String {
    target.to_ascii_uppercase().replace('-', "_")
}
