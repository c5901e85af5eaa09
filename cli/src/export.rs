//! `firstlight export`: writes a boot to a file that others boot.

use crate::args::{ExportArgs, ExportFormat};
use crate::cache::Store;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::file::InputFile;
use crate::initrd::Initrd;
use crate::kernel::{self, Files};
use crate::progress::Progress;
use firstlight_boot::{ProtocolChoice, Request, reset_rom, stub};
use firstlight_image::Image;
use firstlight_load::Sources;
use firstlight_load::export::{self, IgvmError, PvhElfError};
use rustix::termios::isatty;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

/// Writes what `args` describe.
pub(crate) fn export(args: &ExportArgs, progress: Progress) -> Result<(), Failure> {
    refuse_terminal(args)?;
    let files = Files::open(&args.guest)?;
    let opened = Store::open(progress).kernel(files.kernel(), &args.guest)?;
    let image = kernel::image(files.kernel(), &opened, &args.guest)?;
    let initrd = Initrd::packed(&files, &image, &args.guest, progress)?;
    let request = Request {
        rng_seed: kernel::fresh_seed()?,
        ..kernel::request(&args.guest, &files, &image, initrd.as_ref())?
    };
    let modules = files.read_modules(progress)?;
    let modules: Vec<&[u8]> = modules.iter().map(Vec::as_slice).collect();
    let sources = Sources {
        layers: &opened.layers.bytes(),
        initrd: initrd.as_ref().map_or(&[], Initrd::bytes),
        modules: &modules,
        ..Sources::default()
    };
    let what = Export {
        file: files.kernel(),
        image: &image,
        request: &request,
        sources: &sources,
    };
    match args.format {
        ExportFormat::PvhElf => what.pvh_elf(&args.output, progress),
        ExportFormat::Igvm => what.igvm(&args.output, progress),
        ExportFormat::Rom => what.rom(&args.output),
    }
}

/// What is exported.
struct Export<'a> {
    file: &'a InputFile,
    image: &'a Image<'a>,
    request: &'a Request,
    sources: &'a Sources<'a>,
}

impl Export<'_> {
    fn pvh_elf(&self, output: &Path, progress: Progress) -> Result<(), Failure> {
        if let ProtocolChoice::Only(protocol) = self.request.protocol {
            let message = format!(
                "a pvh-elf file is entered by pvh, and its kernel by the stub; --protocol \
                 {protocol} says nothing about it"
            );
            return Err(Failure::new(ExitStatus::Usage, message));
        }
        let package = stub::pack(self.image, self.request).map_err(|error| {
            let what = format!("cannot pack {}", self.file.path().display());
            Failure::because(kernel::plan_status(&error), what, &error)
        })?;
        let doing = format!("writing {}", output.display());
        progress.step(&doing, || {
            write(output, |out| {
                export::pvh_elf(&package, self.sources, out).map_err(|error| match error {
                    PvhElfError::Write(error) => error,
                    PvhElfError::Place(error) => io::Error::other(error),
                })
            })
        })
    }

    fn igvm(&self, output: &Path, progress: Progress) -> Result<(), Failure> {
        let plan = kernel::plan(self.file, self.image, self.request)?;
        let bytes = progress.step("carrying the plan out", || {
            export::igvm(&plan, self.sources).map_err(|error| {
                let status = match error {
                    IgvmError::Register { .. } => ExitStatus::Plan,
                    _ => ExitStatus::Host,
                };
                Failure::because(status, "cannot make an IGVM file of the plan", &error)
            })
        })?;
        write(output, |out| out.write_all(&bytes))
    }

    fn rom(&self, output: &Path) -> Result<(), Failure> {
        let plan = kernel::plan(self.file, self.image, self.request)?;
        let rom = reset_rom(&plan).map_err(|error| {
            Failure::because(ExitStatus::Plan, "cannot make a ROM of the plan", &error)
        })?;
        write(output, |out| out.write_all(&rom))
    }
}

const STDOUT: &str = "-";

fn refuse_terminal(args: &ExportArgs) -> Result<(), Failure> {
    if args.output != Path::new(STDOUT) || !isatty(io::stdout()) {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::Usage,
        "standard output is a terminal, which is no place for a file of this kind",
    ))
}

/// Lets `fill` write to `output`. A file is there whole or not at all: it gets its name last.
fn write(
    output: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let written = if output == Path::new(STDOUT) {
        let mut stdout = io::stdout().lock();
        fill(&mut stdout).and_then(|()| stdout.flush())
    } else {
        write_file(output, fill)
    };
    written.map_err(|error| {
        let what = format!("cannot write {}", output.display());
        Failure::because(ExitStatus::Host, what, &error)
    })
}

fn write_file(
    output: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // What a link leads to is what is replaced.
    let output = &match fs::canonicalize(output) {
        Ok(path) => path,
        Err(error) if error.kind() == ErrorKind::NotFound => output.to_path_buf(),
        Err(error) => return Err(error),
    };
    match fs::metadata(output) {
        Ok(old) if old.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        // A device or a pipe takes the bytes and stays what it is.
        Ok(old) if !old.is_file() => {
            let mut file = File::options().write(true).open(output)?;
            return fill(&mut file);
        }
        _ => {}
    }
    let name = output.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut part = name.to_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = output.with_file_name(part);
    let mut file = BufWriter::new(File::create_new(&part)?);
    let written = fill(&mut file)
        .and_then(|()| file.flush())
        .and_then(|()| fs::rename(&part, output));
    if written.is_err() {
        // What is left of it is of no use, and the first error is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("firstlight-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_that_could_not_be_finished_leaves_the_old_one_and_nothing_else() {
        let folder = folder("export-fails");
        let output = folder.join("image");
        fs::write(&output, "old").unwrap();
        let failed = write_file(&output, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("enough"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&output).unwrap(), b"old");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_a_link_leads_to_is_replaced_and_the_link_stays() {
        let folder = folder("export-link");
        let (link, target) = (folder.join("link"), folder.join("target"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_file(&link, |out| out.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        fs::remove_dir_all(folder).unwrap();
    }
}
