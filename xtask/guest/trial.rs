//! What a test guest does that no shell can. It is compiled by itself, linked statically.
//!
//! `trial page ADDRESS:PORT` fetches the page of the server there and sends it back. (A static
//! busybox crashes where it looks a name up, even if that is an address.)
//!
//! `trial vsock GUEST_PORT HOST_PORT` connects to the host's port and sees that what it sends comes
//! back, then sends back whatever the host sends to the guest's port.
//!
//! `trial blocks NAME FILE` writes blocks that are full of their numbers, from 1 on, and prints
//! `FIRSTLIGHT-WROTE NAME NUMBER` when each is there to stay. It does not end.
#![expect(unsafe_code, reason = "the standard library has no AF_VSOCK")]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["vsock", guest, host] => match (guest.parse(), host.parse()) {
            (Ok(guest), Ok(host)) => vsock(guest, host),
            _ => Err(Error::other("a port is a number")),
        },
        ["page", server] => page(server),
        ["blocks", name, file] => blocks(name, file),
        _ => Err(Error::other("what?")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("trial {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// The longest that a server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

fn page(server: &str) -> io::Result<()> {
    const LINE: &[u8] = b"firstlight\n";
    let expected: Vec<u8> = LINE.iter().copied().cycle().take(1_000_000).collect();
    let fetched = asked(server, "GET", &[])?;
    if fetched != expected {
        let message = format!("the page came changed: {} bytes", fetched.len());
        return Err(Error::other(message));
    }
    let answer = asked(server, "POST", &fetched)?;
    if answer != b"just so" {
        return Err(Error::other(String::from_utf8_lossy(&answer)));
    }
    Ok(())
}

/// What the server answers (RFC 1945).
fn asked(server: &str, method: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let address: SocketAddr = server.parse().map_err(Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let len = body.len();
    write!(
        stream,
        "{method} / HTTP/1.0\r\nContent-Length: {len}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = b"\r\n\r\n";
    let end = answer.windows(end.len()).position(|window| window == end);
    let end = end.ok_or_else(|| Error::other("the answer has no end of its header"))?;
    Ok(answer.split_off(end + 4))
}

/// The size of a block, in bytes.
const BLOCK: usize = 4096;

fn blocks(name: &str, file: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)?;
    let mut place = 0;
    for number in 1_u64.. {
        let block = number.to_le_bytes().repeat(BLOCK / 8);
        file.write_all_at(&block, place)?;
        file.sync_all()?;
        println!("FIRSTLIGHT-WROTE {name} {number}");
        place += BLOCK as u64;
    }
    Ok(())
}

/// So much is sent before it is waited for.
const CHUNK: usize = 32 << 10;
/// So often.
const CHUNKS: u8 = 16;

fn vsock(guest: u32, host: u32) -> io::Result<()> {
    // The host takes it that this port is open when it has been connected to.
    let listener = stream()?;
    let any = Address::of(CID_ANY, guest);
    // SAFETY: the address is as long as is said, and is there until the call returns.
    checked(unsafe { bind(listener.as_raw_fd(), &raw const any, Address::LEN) })?;
    // SAFETY: the descriptor is a socket's.
    checked(unsafe { listen(listener.as_raw_fd(), 1) })?;

    let mut socket = stream()?;
    let address = Address::of(CID_HOST, host);
    // SAFETY: as for `bind`.
    checked(unsafe { connect(socket.as_raw_fd(), &raw const address, Address::LEN) })?;
    let mut back = vec![0; CHUNK];
    for number in 0..CHUNKS {
        let sent = vec![number; CHUNK];
        socket.write_all(&sent)?;
        socket.read_exact(&mut back)?;
        if back != sent {
            return Err(Error::other(format!("chunk {number} came back changed")));
        }
    }
    drop(socket);

    let nowhere = std::ptr::null_mut();
    // SAFETY: the descriptor is a socket's, and null asks for no address.
    let accepted = unsafe { accept(listener.as_raw_fd(), nowhere, nowhere.cast()) };
    let mut accepted = owned(accepted)?;
    loop {
        let len = accepted.read(&mut back)?;
        if len == 0 {
            return Ok(());
        }
        accepted.write_all(back.get(..len).unwrap_or(&[]))?;
    }
}

/// A new socket. A file has all that is needed of one.
fn stream() -> io::Result<File> {
    const AF_VSOCK: c_int = 40;
    const SOCK_STREAM: c_int = 1;
    // SAFETY: the call takes numbers only.
    owned(unsafe { socket(AF_VSOCK, SOCK_STREAM, 0) })
}

fn owned(result: c_int) -> io::Result<File> {
    checked(result)?;
    // SAFETY: the kernel has just given us the descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) }.into())
}

fn checked(result: c_int) -> io::Result<()> {
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// An address of vsock(7).
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

/// Any guest's own number, and the host's (vsock(7)).
const CID_ANY: u32 = u32::MAX;
const CID_HOST: u32 = 2;

impl Address {
    const LEN: u32 = 16;

    fn of(cid: u32, port: u32) -> Self {
        Self {
            family: 40,
            reserved: 0,
            port,
            cid,
            flags: 0,
            zero: [0; 3],
        }
    }
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(socket: c_int, address: *const Address, len: u32) -> c_int;
    fn listen(socket: c_int, backlog: c_int) -> c_int;
    fn connect(socket: c_int, address: *const Address, len: u32) -> c_int;
    fn accept(socket: c_int, address: *mut Address, len: *mut u32) -> c_int;
}
