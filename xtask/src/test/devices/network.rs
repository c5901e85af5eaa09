//! The host's side of guests' networks: interfaces, and a server with one page.

use crate::architecture::Architecture;
use crate::failure::{Because, Outcome};
use crate::process;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The tap interface in the lab.
pub(super) const TAP: &str = "firstlight0";

/// Gives the lab a tap with an address, and, where passt runs, a way to an outside that is not
/// there: passt takes its addresses from the interface with the default route.
pub(super) fn make_in_the_lab(architecture: Architecture) -> Outcome {
    let tap = match architecture {
        Architecture::X86_64 => "ip tuntap add dev firstlight0 mode tap",
        Architecture::Arm64 | Architecture::Riscv64 => "tunctl -t firstlight0",
    };
    let of_all = [
        tap,
        "ip address add 192.0.2.1/24 dev firstlight0",
        "ip link set firstlight0 up",
    ];
    let of_passt = [
        "ip link add outside0 type dummy",
        "ip address add 198.51.100.2/24 dev outside0",
        "ip link set outside0 up",
        "ip route add default via 198.51.100.1 dev outside0",
    ];
    let of_passt = of_passt
        .iter()
        .filter(|_| architecture == Architecture::X86_64);
    for line in of_all.iter().chain(of_passt) {
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        process::output_of(Command::new(program).args(words))?;
    }
    Ok(())
}

/// A web server with one page, which is glad to get that page back.
pub(super) struct Server {
    /// Where it listens.
    pub(super) port: u16,
}

impl Server {
    /// Starts one on `address`, which runs until this program ends.
    pub(super) fn start(address: Ipv4Addr) -> Outcome<Self> {
        let failed = || "cannot listen for guests".to_owned();
        let listener = TcpListener::bind((address, 0)).because(failed)?;
        let port = listener.local_addr().because(failed)?.port();
        thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                // A guest that asks nothing, or goes away, tells of that itself.
                thread::spawn(move || answer(guest));
            }
        });
        Ok(Self { port })
    }
}

/// What `yes firstlight | head -c 1000000` prints.
fn page() -> Vec<u8> {
    const LINE: &[u8] = b"firstlight\n";
    LINE.iter().copied().cycle().take(1_000_000).collect()
}

/// The longest that a guest may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

fn answer(guest: TcpStream) -> io::Result<()> {
    guest.set_read_timeout(Some(PATIENCE))?;
    let mut asked = BufReader::new(guest);
    let mut line = String::new();
    asked.read_line(&mut line)?;
    let sends = line.starts_with("POST ");
    let mut len = 0;
    while line.trim_end() != "" {
        line.clear();
        asked.read_line(&mut line)?;
        let header = line.to_ascii_lowercase();
        if let Some(text) = header.strip_prefix("content-length:") {
            len = text.trim().parse().unwrap_or(0);
        }
    }
    let body = if sends {
        let mut sent = Vec::new();
        asked.by_ref().take(len).read_to_end(&mut sent)?;
        match sent == page() {
            true => b"just so".to_vec(),
            false => format!("changed: {} bytes", sent.len()).into_bytes(),
        }
    } else {
        page()
    };
    let mut guest = asked.into_inner();
    let header = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    guest.write_all(header.as_bytes())?;
    guest.write_all(&body)
}
