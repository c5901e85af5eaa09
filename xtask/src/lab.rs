//! The lab: a machine with a real `/dev/kvm`, on any machine.
//!
//! QEMU emulates a processor with AMD's virtualisation extension, arm64's EL2, or RISC-V's H
//! extension, on which a stock Debian kernel offers KVM. In the lab of x86 the host's own files are
//! the lab's, read-only under a layer in memory; those of other architectures have nothing but
//! busybox. Folders that are shared are at the path they have here. The command's output comes
//! through a virtio port, unchanged, and its status through a file in the control folder.

use crate::architecture::Architecture;
use crate::cache::{self, Cache};
use crate::failure::{Because, Failure, Outcome};
use crate::initramfs;
use crate::kernel::{self, Kernel, Release};
use crate::process;
use crate::project::Project;
use crate::tree::{self, Tree};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs `command` in `lab`, its output on ours, and hands back the status for our own end.
pub(crate) fn command(lab: &Lab, command: &[OsString]) -> Outcome<u8> {
    let mut copied = Ok(0);
    let ending = lab.run(command, |output| {
        copied = std::io::copy(output, &mut std::io::stdout().lock());
    })?;
    copied.because(|| "cannot write the command's output".to_owned())?;
    match ending {
        Ending::Status(status) => Ok(status),
        Ending::TimedOut => {
            eprintln!("lab: no end within {} s", lab.time_limit);
            Ok(124)
        }
    }
}

/// The kernel that the lab's own machine runs.
pub(crate) fn release(architecture: Architecture) -> Release {
    match architecture {
        Architecture::X86_64 => kernel::DEBIAN_12,
        Architecture::Arm64 => kernel::DEBIAN_13_ARM64,
        Architecture::Riscv64 => kernel::DEBIAN_13_RISCV64,
    }
}

/// The kernel modules that it needs.
pub(crate) fn modules(architecture: Architecture) -> &'static [&'static str] {
    const ALL: [&str; 8] = [
        "virtio_pci",
        "virtio_console",
        "9p",
        "9pnet_virtio",
        "overlay",
        "kvm_amd",
        "tun",
        "dummy",
    ];
    match architecture {
        Architecture::X86_64 => &ALL,
        // KVM is built into it.
        Architecture::Arm64 => &["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "tun"],
        Architecture::Riscv64 => &["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "kvm"],
    }
}

/// What a lab needs beside these to hand one of its own devices to a guest.
const VFIO: [&str; 2] = ["vfio_pci", "vfio_iommu_type1"];

const INIT: &str = include_str!("../guest/lab-init");

/// Which of an architecture's machines a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Board {
    /// What new machines have: on arm64 a GICv3, on riscv64 the AIA.
    Newest,
    /// With the interrupt controller of before: a GICv2, or a PLIC, for which KVM has no
    /// counterpart. Machines for x86 are all alike.
    OlderIrqchip,
}

/// What a lab's clock goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The host's time, with two processors.
    Host,
    /// The instructions of its only processor, a nanosecond each: whatever else the host does, the
    /// same work takes the same time. Slower.
    Instructions,
}

/// A processor with AMD's virtualisation extension, but for two features of it that KVM needs for nested
/// guests only: with them, QEMU's emulation stops busy guests for good now and then, or gives them a
/// triple fault. Five-level paging is slow.
pub(crate) const X86_64_WITH_SVM: &str = "max,+svm,-la57,-vgif,-v-vmsave-vmload";

/// A machine that is ready to be started.
pub(crate) struct Lab {
    architecture: Architecture,
    /// The emulator, as one runs it.
    emulator: Vec<OsString>,
    /// The machine that it is.
    pub(crate) board: Board,
    /// What its clock goes by.
    pub(crate) clock: Clock,
    kernel: PathBuf,
    initrd: PathBuf,
    /// The longest it may run, in seconds.
    pub(crate) time_limit: u32,
    /// Its memory, in MiB.
    pub(crate) memory: u32,
    /// Folders that its command may write to.
    pub(crate) writable: Vec<PathBuf>,
    /// The disk that it has beside its own hardware, behind an IOMMU and bound to no driver.
    pub(crate) spare: Option<PathBuf>,
    /// Folders that it may read although they lie below `/tmp` or the like.
    pub(crate) readable: Vec<PathBuf>,
    /// Shows the messages of the lab's own kernel.
    pub(crate) verbose: bool,
}

impl Clock {
    /// How QEMU is told.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Host => &["-smp", "2", "-accel", "tcg,thread=multi"],
            Self::Instructions => &[
                "-smp",
                "1",
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }
}

/// How a command in the lab ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, with this status.
    Status(u8),
    /// It did not, within the time limit.
    TimedOut,
}

impl Lab {
    /// Makes a lab ready: sets QEMU up, fetches the kernel, builds its initramfs.
    pub(crate) fn prepare(
        project: &Project,
        cache: &Cache,
        architecture: Architecture,
    ) -> Outcome<Self> {
        let kernel = kernel::fetch(cache, &release(architecture))?;
        Self::on(project, cache, (architecture, &kernel, ""))
    }

    /// Makes a lab of x86 ready that has an IOMMU, and behind that a disk of its own on NVMe, `spare`, which
    /// no driver of it takes.
    pub(crate) fn with_spare(project: &Project, cache: &Cache, spare: PathBuf) -> Outcome<Self> {
        let architecture = Architecture::X86_64;
        let installed = kernel::installed(cache, &release(architecture))?;
        let modules = project.scratch("lab")?.join("modules-vfio");
        if modules.exists() {
            fs::remove_dir_all(&modules)
                .because(|| format!("cannot remove {}", modules.display()))?;
        }
        let wanted = [&VFIO, self::modules(architecture)].concat();
        kernel::keep_modules(&installed, &wanted, architecture, &modules)?;
        let kernel = Kernel {
            modules,
            ..installed
        };
        let mut lab = Self::on(project, cache, (architecture, &kernel, "-vfio"))?;
        lab.spare = Some(spare);
        Ok(lab)
    }

    /// One on this kernel, with an initramfs whose name ends so.
    fn on(
        project: &Project,
        cache: &Cache,
        (architecture, kernel, name): (Architecture, &Kernel, &str),
    ) -> Outcome<Self> {
        let emulator = emulator(cache, architecture)?;
        let mut archive = initramfs::skeleton(cache, architecture)?;
        archive.program("init", INIT.as_bytes());
        archive.folder("modules");
        let entries = fs::read_dir(&kernel.modules)
            .because(|| format!("cannot list {}", kernel.modules.display()))?;
        for entry in entries {
            let path = entry
                .because(|| "cannot list the modules".to_owned())?
                .path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let contents = fs::read(&path).because(|| format!("cannot read {}", path.display()))?;
            archive.file(&format!("modules/{name}"), &contents);
        }
        let name = format!("initramfs-{}{name}.cpio", architecture.name());
        let initrd = project.scratch("lab")?.join(name);
        let archive = archive
            .finish()
            .because(|| format!("cannot make {}", initrd.display()))?;
        cache::write_whole(&initrd, &archive)?;
        Ok(Self {
            architecture,
            emulator,
            board: Board::Newest,
            clock: Clock::Host,
            kernel: kernel.file.clone(),
            initrd,
            time_limit: 600,
            memory: 2048,
            writable: vec![project.root().to_owned()],
            spare: None,
            readable: vec![project.target().to_owned(), cache.folder().to_owned()],
            verbose: false,
        })
    }

    /// Runs `command` in the lab, in the folder where we are and with our environment; hands its
    /// output to `output` as it comes.
    pub(crate) fn run(
        &self,
        command: &[OsString],
        output: impl FnOnce(&mut dyn BufRead),
    ) -> Outcome<Ending> {
        let control = Control::make()?;
        let here = std::env::current_dir().because(|| "cannot tell where we are".to_owned())?;
        control.write("command", &command_script(command, &here))?;
        let shares = self.shares()?;
        control.write("shares", &shares_table(&shares))?;

        let mut qemu = self.qemu(&control, &shares);
        let complaints = control.path("complaints");
        let stderr = if self.verbose {
            Stdio::inherit()
        } else {
            let file = fs::File::create(&complaints);
            file.because(|| format!("cannot make {}", complaints.display()))?
                .into()
        };
        let mut running = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .because(|| format!("cannot start {}", process::shown(&qemu)))?;
        let pipe = running
            .stdout
            .take()
            .ok_or_else(|| Failure::new("the lab has no output"))?;
        let mut reader = BufReader::new(pipe);
        output(&mut reader);
        // Whoever looked at the output may have seen enough; QEMU must not block on the rest.
        let mut rest = Vec::new();
        reader
            .read_to_end(&mut rest)
            .because(|| "cannot read the lab's output".to_owned())?;
        let ended = running
            .wait()
            .because(|| "cannot wait for the lab".to_owned())?;
        if let Ok(text) = fs::read_to_string(control.path("status")) {
            let status = text.trim().parse();
            return status
                .map(Ending::Status)
                .because(|| format!("the lab gave a strange status: {text:?}"));
        }
        if ended.code() == Some(TIMED_OUT) {
            return Ok(Ending::TimedOut);
        }
        Err(Failure::new(format!(
            "the lab's machine ended ({ended}) before the command did\n{}{}",
            control.last_lines("complaints"),
            control.last_lines("console"),
        )))
    }

    /// What is shared: a tag, whether it may be written to, and the folder.
    fn shares(&self) -> Outcome<Vec<(String, bool, PathBuf)>> {
        let mut shares: Vec<(String, bool, PathBuf)> = Vec::new();
        let readable = self.readable.iter().map(|folder| (false, folder));
        let writable = self.writable.iter().map(|folder| (true, folder));
        for (may_write, folder) in readable.chain(writable) {
            if !folder.exists() {
                continue;
            }
            let folder = folder
                .canonicalize()
                .because(|| format!("no folder {}", folder.display()))?;
            if folder.to_string_lossy().contains([',', '\n']) {
                return Err(Failure::new(format!(
                    "cannot share {}: QEMU takes no comma in a folder's name",
                    folder.display()
                )));
            }
            shares.retain(|(_, _, other)| *other != folder);
            shares.push((String::new(), may_write, folder));
        }
        // A folder is mounted before what lies in it.
        shares.sort_by_key(|(_, _, folder)| folder.components().count());
        for (number, share) in shares.iter_mut().enumerate() {
            share.0 = format!("share{number}");
        }
        Ok(shares)
    }

    fn qemu(&self, control: &Control, shares: &[(String, bool, PathBuf)]) -> Command {
        // The machine must not outlive us, whatever ends us.
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "TERM", "timeout", "--kill-after=5"])
            .arg(self.time_limit.to_string())
            .args(&self.emulator)
            .args(["-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-no-reboot", "-M", self.machine()])
            .args(["-cpu", self.processor()])
            .args(self.clock.words());
        if let Some(spare) = &self.spare {
            // Before whatever is behind it.
            qemu.args(["-device", "intel-iommu,intremap=on,caching-mode=on"])
                .arg("-drive")
                .arg(format!(
                    "if=none,id=spare,format=raw,file={}",
                    spare.display()
                ))
                .args([
                    "-device",
                    &format!("nvme,drive=spare,serial=spare,addr={SPARE}"),
                ]);
        }
        qemu.arg("-m")
            .arg(self.memory.to_string())
            .args(["-chardev", "file,id=out,path=/proc/self/fd/1,append=on"])
            .args(["-device", "virtio-serial-pci"])
            .args(["-device", "virtserialport,chardev=out", "-serial"])
            .arg(if self.verbose {
                "file:/proc/self/fd/2".to_owned()
            } else {
                format!("file:{}", control.path("console").display())
            })
            .arg("-append")
            .arg(self.parameters())
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd);
        let mut share = |tag: &str, folder: &Path, may_write: bool| {
            let read_only = if may_write { "" } else { ",readonly=on" };
            qemu.arg("-fsdev").arg(format!(
                "local,id={tag},path={},security_model=none,multidevs=remap{read_only}",
                folder.display()
            ));
            qemu.arg("-device")
                .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        };
        share("control", &control.folder, true);
        if self.has_the_hosts_files() {
            share("root", Path::new("/"), false);
        }
        for (tag, may_write, folder) in shares {
            share(tag, folder, *may_write);
        }
        qemu
    }

    /// QEMU's name of the machine, with its properties.
    fn machine(&self) -> &'static str {
        match (self.architecture, self.board) {
            (Architecture::X86_64, _) => "q35",
            (Architecture::Arm64, Board::Newest) => "virt,virtualization=on,gic-version=3",
            (Architecture::Arm64, Board::OlderIrqchip) => "virt,virtualization=on,gic-version=2",
            (Architecture::Riscv64, Board::Newest) => "virt,aia=aplic-imsic,aia-guests=4",
            (Architecture::Riscv64, Board::OlderIrqchip) => "virt",
        }
    }

    /// What gives the lab its KVM, without what makes it only slower.
    fn processor(&self) -> &'static str {
        match self.architecture {
            Architecture::X86_64 => X86_64_WITH_SVM,
            // The architected way of pointer authentication is slow.
            Architecture::Arm64 => "max,pauth-impdef=on",
            // So is all that `max` has.
            Architecture::Riscv64 => "rv64,h=true",
        }
    }

    /// The command line of the lab's own kernel.
    fn parameters(&self) -> String {
        let console = self.architecture.console();
        let root = if self.has_the_hosts_files() {
            "host"
        } else {
            "busybox"
        };
        let iommu = match self.spare {
            Some(_) => " intel_iommu=on",
            None => "",
        };
        format!("console={console} panic=-1 mitigations=off lab.root={root}{iommu}")
    }

    /// Whether programs of the host run in the lab.
    fn has_the_hosts_files(&self) -> bool {
        self.architecture == Architecture::X86_64
    }
}

/// Where the spare disk is on the lab's PCI bus: device and function.
pub(crate) const SPARE: &str = "10.0";

/// QEMU for the lab of `architecture`, as one runs it.
pub(crate) fn emulator(cache: &Cache, architecture: Architecture) -> Outcome<Vec<OsString>> {
    let tree = tree::fetch(cache, &QEMU)?;
    let mut words = tree.program(&format!("usr/bin/qemu-system-{}", architecture.gnu()));
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        words.extend(["-L".into(), tree.root.join(firmware).into()]);
    }
    Ok(words)
}

/// QEMU 11, whatever this machine has. QEMU 7.2 is caught in a storm of interrupts where a riscv64
/// machine with an IMSIC has guests; and its emulation of SVM lets a guest set XCR0 without a word
/// to KVM, which then tells the guest a size of its registers that is not true any more. QEMU 10.0 loses
/// an interrupt now and then that comes while its emulation of SVM enters or leaves a guest, which then
/// runs on that processor for good.
const QEMU: Tree = Tree {
    name: "qemu",
    suite: "forky",
    packages: &["qemu-system-x86", "qemu-system-arm", "qemu-system-riscv"],
    alone: &[],
    without: &[],
};

/// The status with which `timeout` says that time ran out.
const TIMED_OUT: i32 = 124;

/// What the lab's init reads to mount the shares: tag, mode, path.
fn shares_table(shares: &[(String, bool, PathBuf)]) -> String {
    let line = |(tag, may_write, folder): &(String, bool, PathBuf)| {
        let mode = if *may_write { "rw" } else { "ro" };
        format!("{tag} {mode} {}\n", folder.display())
    };
    shares.iter().map(line).collect()
}

/// The shell script that is `command`, in the folder `here` and with our environment.
fn command_script(command: &[OsString], here: &Path) -> String {
    let mut script = String::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        // The lab has a temporary folder of its own.
        if is_name && name != "TMPDIR" {
            script += &format!("export {name}={}\n", process::quoted(value));
        }
    }
    script += &format!("cd {} 2>/dev/null || cd /\n", process::quoted(here));
    let words: Vec<String> = command.iter().map(process::quoted).collect();
    script + &format!("exec {}\n", words.join(" "))
}

/// The folder through which the command goes into the lab and its status comes out.
struct Control {
    folder: PathBuf,
}

impl Control {
    fn make() -> Outcome<Self> {
        let said = process::output_of(Command::new("mktemp").args([
            "--directory",
            "--tmpdir",
            "firstlight-lab.XXXXXXXXXX",
        ]))?;
        let folder = PathBuf::from(said.trim_end());
        if folder.to_string_lossy().contains(',') {
            return Err(Failure::new(format!(
                "cannot use {}: QEMU takes no comma in a folder's name",
                folder.display()
            )));
        }
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Outcome {
        let path = self.path(name);
        fs::write(&path, text).because(|| format!("cannot write {}", path.display()))
    }

    fn last_lines(&self, name: &str) -> String {
        let text = fs::read(self.path(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        last.iter().map(|line| format!("  {line}\n")).collect()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_words_and_its_folder() {
        let command = [
            "printf".into(),
            "%s|".into(),
            "it's  two".into(),
            "$x".into(),
        ];
        let script = command_script(&command, Path::new("/usr/lib"));
        let said = process::output_of(Command::new("sh").args(["-c", &script])).unwrap();
        assert_eq!(said, "it's  two|$x|");
        let script = command_script(&["pwd".into()], Path::new("/usr/share"));
        let said = process::output_of(Command::new("sh").args(["-c", &script])).unwrap();
        assert_eq!(said, "/usr/share\n");
    }
}
