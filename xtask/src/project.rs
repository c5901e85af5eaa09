//! The project's own folders and programs.

use crate::failure::{Because, Failure, Outcome};
use crate::process;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This clone.
pub(crate) struct Project {
    root: PathBuf,
    target: PathBuf,
}

impl Project {
    /// Finds the clone that this program was built from.
    pub(crate) fn find() -> Outcome<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or_else(|| Failure::new("xtask lies in no workspace"))?
            .to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder).unwrap_or_else(|_| root.join("target")),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The clone's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A folder of our own beside what cargo builds.
    pub(crate) fn scratch(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.target.join("xtask").join(name);
        std::fs::create_dir_all(&folder).because(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// `cargo` with `args`, in the clone's root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(args).current_dir(&self.root);
        cargo
    }

    /// Builds `firstlight` as it is shipped, and says where it is.
    pub(crate) fn firstlight(&self) -> Outcome<PathBuf> {
        let words = ["build", "--quiet", "--release", "--package", "firstlight"];
        process::run(&mut self.cargo(&words))?;
        Ok(self.built_firstlight())
    }

    /// Where `firstlight` is once it has been built.
    pub(crate) fn built_firstlight(&self) -> PathBuf {
        self.target.join("release/firstlight")
    }

    /// Builds the example `name` of `package`, and says where it is.
    pub(crate) fn example(&self, package: &str, name: &str) -> Outcome<PathBuf> {
        let words = ["build", "--quiet", "--package", package, "--example", name];
        process::run(&mut self.cargo(&words))?;
        Ok(self.target.join("debug/examples").join(name))
    }

    /// The program that is running. Its file may have been replaced by a newer build, which has
    /// the same name.
    pub(crate) fn this_program(&self) -> Outcome<PathBuf> {
        std::env::current_exe()
            .map(|path| {
                let name = path.to_string_lossy();
                PathBuf::from(name.trim_end_matches(" (deleted)"))
            })
            .because(|| format!("cannot find the program built in {}", self.target.display()))
    }
}
