//! The host's side of sockets between guest and host.

use crate::failure::{Because, Failure, Outcome};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// The ports of guest and host, which the guest's script has, too.
const GUEST_PORT: u32 = 52;
const HOST_PORT: u32 = 53;

/// The longest that the guest may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host that waits for a guest to connect to it, and then connects to the guest.
pub(super) struct Host {
    seen: Receiver<io::Result<()>>,
}

impl Host {
    /// Listens beside `path`, which is the guest's.
    pub(super) fn listen(path: &Path) -> Outcome<Self> {
        let mut ours = path.as_os_str().to_owned();
        ours.push(format!("_{HOST_PORT}"));
        let ours = PathBuf::from(ours);
        let listener =
            UnixListener::bind(&ours).because(|| format!("cannot listen at {}", ours.display()))?;
        let (sender, seen) = mpsc::channel();
        let path = path.to_owned();
        // Where no guest comes it waits until this program ends.
        thread::spawn(move || {
            let outcome = echo(&listener).and_then(|()| call(&path));
            let _ = sender.send(outcome);
        });
        Ok(Self { seen })
    }

    /// How it went, once the guest has ended.
    pub(super) fn outcome(&self) -> Outcome {
        let seen = self.seen.try_recv();
        let seen = seen.map_err(|_silent| Failure::new("the host has not seen all of it"))?;
        seen.because(|| "the host's side".to_owned())
    }
}

/// Takes the guest's call, and sends back what comes.
fn echo(listener: &UnixListener) -> io::Result<()> {
    let (mut guest, _) = listener.accept()?;
    guest.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = vec![0; 64 << 10];
    loop {
        let len = guest.read(&mut bytes)?;
        if len == 0 {
            return Ok(());
        }
        guest.write_all(bytes.get(..len).unwrap_or(&[]))?;
    }
}

/// Calls the guest, and sees that what is sent comes back.
fn call(path: &Path) -> io::Result<()> {
    let guest = UnixStream::connect(path)?;
    guest.set_read_timeout(Some(PATIENCE))?;
    let mut sends = guest.try_clone()?;
    let mut reads = BufReader::new(guest);
    writeln!(sends, "CONNECT {GUEST_PORT}")?;
    let mut line = String::new();
    reads.read_line(&mut line)?;
    if !line.starts_with("OK ") {
        let said = format!("the answer to CONNECT is {line:?}");
        return Err(io::Error::other(said));
    }
    for number in 0..16 {
        let sent = vec![number; 32 << 10];
        let mut back = vec![0; sent.len()];
        sends.write_all(&sent)?;
        reads.read_exact(&mut back)?;
        if back != sent {
            return Err(io::Error::other(format!(
                "chunk {number} came back changed"
            )));
        }
    }
    sends.shutdown(Shutdown::Write)?;
    match reads.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more comes than was sent")),
    }
}
