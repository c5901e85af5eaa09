//! QEMU as the engine: it supplies processors and devices, the plan supplies the rest.
//!
//! Guest RAM is a file in memory that both processes map. QEMU starts as `microvm` or `virt`
//! without firmware; in the firmware's place is a ROM that goes straight to the plan's registers.
//! How a guest ends comes from QEMU's machine protocol (`docs/interop/qmp-spec.txt` of QEMU), and
//! what it prints through a socket that is its serial port.

mod arm64;
mod command;
mod debug_socket;
mod debugger;
mod error;
mod monitor;
mod process;
mod program;
mod register_dump;
mod status_socket;
mod timer_frequency;

pub use error::QemuError;
pub(crate) use timer_frequency::cmdline;

use super::Unfit;
use crate::arch::allocate;
use crate::jail::Sandbox;
use crate::memory_file::OpenMemoryFile;
use crate::virtio::VhostUser;
use crate::{
    ConsoleKind, ConsoleOutput, Crash, CrashKind, DebugConsole, DeviceError, Devices, Equipment,
    MemoryFile, RunError, Running, Stop,
};
use command::Handed;
use debug_socket::DebugSocket;
use debugger::Debugger;
use firstlight_base::{GuestMem, VcpuId, VcpuState};
use firstlight_boot::platform::VirtRiscv64;
use firstlight_boot::{BootPlan, FirmwareTables, Hardware, Platform, reset_rom, riscv_firmware};
use firstlight_devices::{FwCfg, FwCfgFile};
use firstlight_image::Architecture;
use firstlight_load::{Backing, GuestMemory, Sources, place};
use monitor::{Event, Monitor, Reason, START_PATIENCE};
use process::Process;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::io::{Errno, pread};
use status_socket::StatusSocket;
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::Arc;

/// What holds of the guest's memory here, for `expect`.
const SHARED: &str = "the memory was allocated to be shared";

/// Finds a QEMU for guests of `architecture`, and says in one line which.
///
/// # Errors
///
/// What is missing, and what to install.
pub(crate) fn probe(architecture: Architecture) -> Result<String, Unfit> {
    if architecture == Architecture::X86_64 {
        timer_frequency::begin();
    }
    match program::find(architecture) {
        Ok(path) => Ok(format!("{} emulates the machine", path.display())),
        Err(error) => Err(Unfit::from(error.to_string())),
    }
}

/// What QEMU's emulated processors and machines have on any host. Of the extensions that QEMU 7.2
/// has, these are the ones that make kernels faster.
pub(crate) fn hardware() -> Hardware {
    let mut hardware = Hardware::default();
    let isa = &mut hardware.hart.isa.0;
    isa.extend(["sstc", "zba", "zbb", "zbs"].map(Cow::Borrowed));
    hardware
}

/// Puts the plan into shared memory and makes a machine round it. QEMU starts up meanwhile.
pub(crate) fn prepare(
    plan: &BootPlan,
    sources: &Sources<'_>,
    equipment: &Equipment,
) -> Result<Box<dyn Running>, RunError> {
    let crash_log = MemoryFile::open_if(equipment.crash_log.as_ref())?;
    let variables = MemoryFile::open_if(equipment.flash_variables.as_ref())?;
    let flash = flash_files(plan.platform(), sources.innermost(), variables.as_ref())?;
    let mut machine = QemuMachine::new(plan, &equipment.devices, flash)?;
    match plan.platform() {
        Platform::Pc(_) => {}
        Platform::VirtArm64(_) | Platform::VirtRiscv64(_) => machine.clear_memory()?,
    }
    place(plan, sources, &machine.memory)?;
    machine.place_firmware(plan)?;
    if let Some(log) = &crash_log {
        log.load(&machine.memory)?;
    }
    machine.crash_log = crash_log;
    Ok(Box::new(machine))
}

/// A QEMU process and our ends of everything it was given.
struct QemuMachine {
    platform: Platform,
    memory: Arc<GuestMemory>,
    /// What is kept of the memory when QEMU has ended.
    crash_log: Option<OpenMemoryFile>,
    process: Process,
    /// What serves the folders that are shared; their sockets end with the process.
    _shares: Vec<VhostUser>,
    monitor: Monitor,
    debugger: Debugger,
    /// What the guest prints by: its serial port, and its virtio console where the terminal is joined
    /// to it. What is typed goes to the last.
    consoles: Vec<UnixStream>,
    status: Option<StatusSocket>,
    debugcon: Option<DebugSocket>,
    /// QEMU's log, which tells a triple fault from other resets.
    log: OwnedFd,
    output: Option<ConsoleOutput>,
    /// The last input did not fit whole.
    input_waits: bool,
}

impl QemuMachine {
    fn new(
        plan: &BootPlan,
        devices: &Devices,
        flash: Option<[OwnedFd; 2]>,
    ) -> Result<Self, RunError> {
        let platform = plan.platform();
        let program = program::find(platform.architecture())?;
        let rom = rom(plan)?;
        let log = file("qemu-log", &[]).map_err(RunError::host("make QEMU's log"))?;
        let memory = GuestMemory::allocate(platform.ram(), Backing::Shared)?;
        let memory = Arc::new(memory);
        refuse_unknown(devices, platform)?;
        allocate(platform, &devices.names(), devices.hotplug_slots)?;
        devices.check()?;
        let mut shares = Vec::new();
        let mut share_sockets = Vec::new();
        for share in devices.open_shares()? {
            let (ours, theirs) = UnixStream::pair().map_err(RunError::host("make a socket"))?;
            shares.push(VhostUser::start(share, &memory, ours)?);
            share_sockets.push(theirs);
        }
        let (console, their_console) = sockets()?;
        let wants_console = devices.console == ConsoleKind::Virtio;
        let hvc = wants_console.then(sockets).transpose()?;
        let status = devices.status_port.then(sockets).transpose()?;
        let debugcon = devices.debugcon.as_ref();
        let debugcon = debugcon.map(open_debugcon).transpose()?;
        let (monitor, their_monitor) = sockets()?;
        let (debugger, their_debugger) = sockets()?;
        let ram = ram_file(&memory, platform)?;
        let their_log = copy(&log)?;
        let offered = devices.read_files()?;
        FwCfg::check(&offered).map_err(DeviceError::from)?;
        let files = offered.iter().map(handed_file);
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let handed = Handed {
            memory: ram.as_raw_fd(),
            rom: rom.as_ref().map(AsRawFd::as_raw_fd),
            flash: flash
                .as_ref()
                .map(|files| files.each_ref().map(AsRawFd::as_raw_fd)),
            console: their_console.as_raw_fd(),
            monitor: their_monitor.as_raw_fd(),
            debugger: their_debugger.as_raw_fd(),
            log: their_log.as_raw_fd(),
            virtio_console: hvc.as_ref().map(|(_, theirs)| theirs.as_raw_fd()),
            status: status.as_ref().map(|(_, theirs)| theirs.as_raw_fd()),
            debugcon: debugcon.as_ref().map(|(_, theirs)| theirs.as_raw_fd()),
            files: files.iter().map(AsRawFd::as_raw_fd).collect(),
            shares: share_sockets.iter().map(AsRawFd::as_raw_fd).collect(),
        };
        let mut inherited = vec![
            ram,
            their_console.into(),
            their_monitor.into(),
            their_debugger.into(),
            their_log,
        ];
        inherited.extend(rom);
        inherited.extend(flash.into_iter().flatten());
        inherited.extend(files);
        inherited.extend(share_sockets.into_iter().map(OwnedFd::from));
        let mut consoles = vec![console];
        if let Some((ours, theirs)) = hvc {
            consoles.push(ours);
            inherited.push(theirs.into());
        }
        let status = status.map(|(ours, theirs)| {
            inherited.push(theirs.into());
            StatusSocket::new(ours)
        });
        let debugcon = debugcon.map(|(ours, theirs)| {
            inherited.push(theirs.into());
            ours
        });
        let process = Process::start(
            &program,
            &command::arguments(platform, devices, &handed),
            inherited,
        )?;
        let mut monitor = Monitor::new(monitor);
        monitor.greet();
        Ok(Self {
            platform: platform.clone(),
            memory,
            crash_log: None,
            process,
            _shares: shares,
            monitor,
            debugger: Debugger::new(debugger),
            consoles,
            status,
            debugcon,
            log,
            output: None,
            input_waits: false,
        })
    }

    /// Waits for QEMU to have made its machine, and makes all memory zero again: `virt` machines
    /// write a device tree of their own at the beginning or the end of RAM when they are made, and
    /// offer no way not to.
    fn clear_memory(&mut self) -> Result<(), RunError> {
        if self.monitor.wait_for_machine().is_none() {
            return Err(self.why_no_machine());
        }
        let file = self.memory.file().expect(SHARED);
        let len = command::ram_bytes(&self.platform);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(file, hole, 0, len).map_err(RunError::host("clear the guest's memory"))
    }

    /// Puts the firmware where harts come out of reset, where that is in memory.
    fn place_firmware(&self, plan: &BootPlan) -> Result<(), RunError> {
        match &self.platform {
            Platform::Pc(_) | Platform::VirtArm64(_) => Ok(()),
            Platform::VirtRiscv64(_) => {
                let firmware = riscv_firmware(plan).map_err(QemuError::Firmware)?;
                let at = VirtRiscv64::FIRMWARE.start();
                let written = self.memory.write(at, &firmware);
                written.expect("a firmware is made only where it lies in RAM");
                Ok(())
            }
        }
    }

    fn why_no_machine(&mut self) -> RunError {
        let ended = match self.monitor.next_event() {
            Some(Event::Gone) => self.ended().err(),
            _ => None,
        };
        ended.unwrap_or_else(|| QemuError::Silent(START_PATIENCE).into())
    }

    /// Takes what the guest has printed; with `all`, until nothing more is there.
    fn read_console(&mut self, all: bool) -> Result<(), RunError> {
        let Some(output) = &self.output else {
            return Ok(());
        };
        for console in &self.consoles {
            read_console(console, output, all)?;
        }
        if let Some(debugcon) = &mut self.debugcon {
            debugcon.read();
        }
        Ok(())
    }

    /// What an event means; the guest has stopped where it means something.
    fn stop(&mut self, event: Event) -> Result<Stop, RunError> {
        match event {
            Event::Panicked | Event::Shutdown(Reason::GuestPanic) => Ok(Stop::Panicked),
            Event::WatchdogFired => Ok(Stop::WatchdogFired),
            Event::Shutdown(Reason::GuestShutdown) => Ok(Stop::PowerOff),
            Event::Shutdown(Reason::GuestReset) => Ok(self.after_reset()),
            Event::Shutdown(Reason::Other(reason)) => Err(QemuError::Stopped {
                reason,
                stderr: self.process.stderr(),
            }
            .into()),
            Event::Refused(what) => Err(QemuError::Refused { what }.into()),
            Event::Gone => self.ended(),
        }
    }

    /// What it means that the process has ended.
    fn ended(&mut self) -> Result<Stop, RunError> {
        let status = self
            .process
            .wait()
            .map_err(RunError::host("wait for QEMU's end"))?;
        let stderr = self.process.stderr();
        // QEMU's own errors end it with status 1 too, but never in silence.
        match self.guests_status(status) {
            Some(stop) if stderr.is_empty() => Ok(stop),
            _ => Err(QemuError::Ended { status, stderr }.into()),
        }
    }

    /// What the guest wanted if it was the guest that ended QEMU with this status.
    fn guests_status(&self, status: ExitStatus) -> Option<Stop> {
        let status = status.code()?;
        match &self.platform {
            Platform::Pc(pc) => {
                pc.debug_exit?;
                exit_code(status).map(Stop::ExitCode)
            }
            Platform::VirtArm64(_) => None,
            Platform::VirtRiscv64(_) => Some(finished(status)),
        }
    }

    /// What it means that the guest was reset: it asked for it, or could not go on.
    fn after_reset(&mut self) -> Stop {
        let crash = match &self.platform {
            Platform::Pc(_) => self.has_triple_faulted().then(|| Crash {
                vcpu: VcpuId::BOOT,
                kind: CrashKind::TripleFault,
                registers: self.registers(),
                instruction: Vec::new(),
            }),
            // Firmware has its own code where the ROM is otherwise.
            Platform::VirtArm64(virt) if virt.flash.is_some() => None,
            Platform::VirtArm64(_) => arm64::crash(&mut self.monitor, &mut self.debugger),
            Platform::VirtRiscv64(_) => None,
        };
        crash.map_or(Stop::Reset, |crash| Stop::Crashed(Box::new(crash)))
    }

    /// The boot vCPU's registers, of a guest that stands still.
    fn registers(&mut self) -> Option<VcpuState> {
        match &self.platform {
            Platform::VirtArm64(_) => {
                arm64::registers(&mut self.monitor, &mut self.debugger).map(VcpuState::Arm64)
            }
            Platform::Pc(_) | Platform::VirtRiscv64(_) => {
                let architecture = self.platform.architecture();
                self.monitor.registers(architecture)?.into_iter().next()
            }
        }
    }

    /// Whether the reset that stopped the guest was a processor's shutdown. QEMU's protocol calls
    /// both `guest-reset`, its log does not (`target/i386/tcg`, `-d cpu_reset`).
    fn has_triple_faulted(&self) -> bool {
        const LINE: &[u8] = b"Triple fault\n";
        let log = contents(&self.log);
        log.windows(LINE.len()).any(|bytes| bytes == LINE)
    }
}

/// Takes what has been printed on one of the consoles.
fn read_console(
    mut console: &UnixStream,
    output: &ConsoleOutput,
    all: bool,
) -> Result<(), RunError> {
    let mut bytes = [0; 4096];
    while all || !output.is_full() {
        match console.read(&mut bytes) {
            // QEMU has closed it, which its other socket tells about.
            Ok(0) => break,
            Ok(len) => output.offer(bytes.get(..len).unwrap_or(&[])),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset => break,
                _ => return Err(RunError::host("read the guest's console")(error)),
            },
        }
    }
    Ok(())
}

/// Our end of a debug console, and QEMU's.
fn open_debugcon(console: &DebugConsole) -> Result<(DebugSocket, UnixStream), RunError> {
    let output = console.open()?;
    let (ours, theirs) = sockets()?;
    Ok((DebugSocket::new(ours, output), theirs))
}

/// The devices that QEMU cannot have: without more rights than ours, or on that machine.
fn refuse_unknown(devices: &Devices, platform: &Platform) -> Result<(), DeviceError> {
    let engine = "qemu";
    if devices.vsock.is_some() {
        let what = "sockets between guest and host";
        return Err(DeviceError::Engine { engine, what });
    }
    // `microvm` takes the device and gives it no addresses, the two `virt` do not know it (QEMU 7.2).
    if !devices.pmems.is_empty() {
        let what = "persistent memory";
        return Err(DeviceError::Engine { engine, what });
    }
    if !devices.vfio.is_empty() {
        let what = "devices of the host's for its guests";
        return Err(DeviceError::Engine { engine, what });
    }
    if devices.battery.is_some() {
        let what = "battery";
        return Err(DeviceError::Engine { engine, what });
    }
    if devices.suspend_notice {
        let what = "notice of its guest's sleep";
        return Err(DeviceError::Engine { engine, what });
    }
    if devices.sandbox == Sandbox::On {
        let what = "sandbox for its devices";
        return Err(DeviceError::Engine { engine, what });
    }
    if devices.hotplug_slots > 0 {
        let what = "slots to plug devices into while the guest runs";
        return Err(DeviceError::Engine { engine, what });
    }
    // Its device comes after the files that it would have (`hw/riscv/virt.c`, `virt_machine_done`).
    if platform.architecture() == Architecture::Riscv64 && !devices.files.is_empty() {
        let what = "files for the firmware on riscv64";
        return Err(DeviceError::Engine { engine, what });
    }
    // Its firmware is told of QEMU's own tables.
    if let Platform::Pc(pc) = platform
        && pc.flash.is_some()
        && pc.firmware != FirmwareTables::default()
    {
        let what = "further ACPI or SMBIOS tables for firmware in flash";
        return Err(DeviceError::Engine { engine, what });
    }
    Ok(())
}

/// The guest's status in QEMU's: `isa-debug-exit` doubles it and adds 1 (`hw/misc/debugexit.c`).
fn exit_code(status: i32) -> Option<u8> {
    let status = u8::try_from(status).ok()?;
    (status & 1 == 1).then_some(status >> 1)
}

/// What the finisher of a `virt` machine ends QEMU with: 0 where the guest turned the machine off,
/// otherwise a status of the guest's (`hw/misc/sifive_test.c` of QEMU 7.2).
fn finished(status: i32) -> Stop {
    /// The greatest status; those from 128 on are the shell's.
    const MAX_STATUS: u8 = 0x7f;
    match u8::try_from(status) {
        Ok(0) => Stop::PowerOff,
        status => Stop::ExitCode(status.map_or(MAX_STATUS, |status| status.min(MAX_STATUS))),
    }
}

impl Running for QemuMachine {
    fn start(&mut self, output: &ConsoleOutput) -> Result<(), RunError> {
        self.output = Some(output.clone());
        self.monitor.begin();
        Ok(())
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        let mut console = PollFlags::empty();
        console.set(PollFlags::OUT, self.input_waits);
        let full = self.output.as_ref().is_some_and(ConsoleOutput::is_full);
        console.set(PollFlags::IN, !full);
        let mut waits = vec![PollFd::new(&self.monitor, self.monitor.interest())];
        for socket in &self.consoles {
            waits.push(PollFd::new(socket, console));
        }
        let status = self.status.as_ref().map(AsFd::as_fd);
        let debugcon = self.debugcon.as_ref().map(AsFd::as_fd);
        let further = status.into_iter().chain(debugcon);
        waits.extend(further.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        waits
    }

    fn ready(&mut self, _ready: &[PollFlags]) -> Result<Option<Stop>, RunError> {
        self.read_console(false)?;
        if let Some(status) = self.status.as_mut().and_then(StatusSocket::read) {
            // What was printed before it is in the sockets.
            self.read_console(true)?;
            return Ok(Some(Stop::ExitCode(status)));
        }
        let Some(event) = self.monitor.next_event() else {
            return Ok(None);
        };
        let stop = self.stop(event)?;
        // What was printed before the end is in the socket.
        self.read_console(true)?;
        Ok(Some(stop))
    }

    fn send_input(&mut self, bytes: &[u8]) -> Result<usize, RunError> {
        self.input_waits = false;
        let mut console = self.consoles.last().expect("there is a serial port");
        match console.write(bytes) {
            Ok(len) => {
                self.input_waits = len < bytes.len();
                Ok(len)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    self.input_waits = true;
                    Ok(0)
                }
                // Nobody reads it any more; the end of QEMU is told about elsewhere.
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(bytes.len()),
                _ => Err(RunError::host("send input to the guest")(error)),
            },
        }
    }

    fn examine(&mut self) -> Option<VcpuState> {
        self.monitor.pause()?;
        let registers = self.registers();
        self.monitor.resume()?;
        registers
    }

    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn end(self: Box<Self>) -> Result<(), RunError> {
        let Self {
            process,
            memory,
            crash_log,
            ..
        } = *self;
        drop(process);
        if let Some(log) = crash_log {
            log.save(&memory)?;
        }
        Ok(())
    }
}

/// The ROM that the boot vCPU comes out of reset in, where it does so in one.
fn rom(plan: &BootPlan) -> Result<Option<OwnedFd>, RunError> {
    match plan.platform() {
        platform if platform.flash().is_some() => Ok(None),
        Platform::Pc(_) | Platform::VirtArm64(_) => {
            let rom = reset_rom(plan).map_err(QemuError::Rom)?;
            let rom = file("reset-rom", &rom);
            rom.map(Some)
                .map_err(RunError::host("make the reset ROM's file"))
        }
        Platform::VirtRiscv64(_) => Ok(None),
    }
}

/// What the banks of a machine's flash are, where it has any: files as long as they are themselves.
fn flash_files(
    platform: &Platform,
    firmware: &[u8],
    variables: Option<&OpenMemoryFile>,
) -> Result<Option<[OwnedFd; 2]>, RunError> {
    let Some(banks) = platform.flash() else {
        return Ok(None);
    };
    let bank = |bytes, len| {
        let file = file("flash", bytes).and_then(|file| ftruncate(&file, len).map(|()| file));
        file.map_err(RunError::host("make QEMU's flash"))
    };
    let code = bank(firmware, banks.code.len())?;
    let variables = match variables {
        Some(kept) => copy(kept.file())?,
        None => bank(&platform.new_variables(), banks.variables.len())?,
    };
    Ok(Some([code, variables]))
}

/// A file that the firmware is offered, for QEMU to read.
fn handed_file(offered: &FwCfgFile) -> Result<OwnedFd, RunError> {
    file("fw_cfg", &offered.bytes).map_err(RunError::host("hand a file to QEMU"))
}

/// A file in memory that begins with `bytes`.
fn file(name: &str, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or(&[]);
    }
    Ok(file)
}

/// What is in a file in memory, from its start.
fn contents(file: &OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(len) = pread(file, &mut bytes, all.len() as u64)
        && len > 0
    {
        all.extend_from_slice(bytes.get(..len).unwrap_or(&[]));
    }
    all
}

/// The guest's memory as a file of the size that QEMU makes of it.
fn ram_file(memory: &GuestMemory, platform: &Platform) -> Result<OwnedFd, RunError> {
    let file = memory.file().expect(SHARED);
    let grown = command::ram_bytes(platform);
    ftruncate(file, grown).map_err(RunError::host("size the guest's memory"))?;
    copy(&file)
}

fn copy(fd: &impl AsFd) -> Result<OwnedFd, RunError> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(RunError::host("copy a descriptor for QEMU"))
}

/// Our end, which never blocks, and QEMU's.
fn sockets() -> Result<(UnixStream, UnixStream), RunError> {
    let sockets = || {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((ours, theirs))
    };
    sockets().map_err(RunError::host::<io::Error>("make a socket for QEMU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_status_is_half_of_qemus() {
        assert_eq!(exit_code(1), Some(0));
        assert_eq!(exit_code(85), Some(42));
        assert_eq!(exit_code(255), Some(127));
        assert_eq!(exit_code(0), None);
        assert_eq!(exit_code(256), None);
    }

    #[test]
    fn a_finisher_ends_qemu_with_what_the_guest_wrote() {
        assert!(matches!(finished(0), Stop::PowerOff));
        assert!(matches!(finished(42), Stop::ExitCode(42)));
        assert!(matches!(finished(255), Stop::ExitCode(127)));
    }

    #[test]
    fn a_file_in_memory_holds_what_was_put_in() {
        let bytes: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(contents(&file("test", &bytes).unwrap()), bytes);
        assert!(contents(&file("test", &[]).unwrap()).is_empty());
    }
}
