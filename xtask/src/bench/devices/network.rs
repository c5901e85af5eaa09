//! The other end of the guests' network.

use crate::failure::{Because, Outcome};
use crate::process;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

/// The interface.
pub(super) const TAP: &str = "tap0";

/// Makes the interface, and listens where guests send to and receive from.
pub(super) fn make() -> Outcome {
    for line in [
        "ip link set lo up",
        "tunctl -t tap0",
        "ip address add 192.0.2.1/24 dev tap0",
        "ip link set tap0 up",
    ] {
        process::output_of(Command::new("/bin/busybox").args(line.split(' ')))?;
    }
    listen(5000, |mut guest| {
        let mut buffer = vec![0; 1 << 20];
        while guest.read(&mut buffer)? > 0 {}
        Ok(())
    })?;
    listen(5001, |mut guest| {
        let buffer = vec![0; 1 << 20];
        (0..4).try_for_each(|_| guest.write_all(&buffer))
    })
}

fn listen(port: u16, serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> Outcome {
    let listener =
        TcpListener::bind(("192.0.2.1", port)).because(|| format!("cannot listen on {port}"))?;
    thread::spawn(move || {
        for guest in listener.incoming().flatten() {
            // A guest that goes away is not waited for.
            let _ = serve(guest);
        }
    });
    Ok(())
}
