//! Our side of QEMU's debugger stub (Debugging with GDB, appendix E, "GDB Remote Serial
//! Protocol"): it shows system registers that the monitor does not.

use super::monitor::Monitor;
use firstlight_base::VcpuId;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What QEMU calls the connection.
pub(super) const NAME: &str = "debugger";
/// How long an answer may take; it comes within a millisecond or so.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that is asked for of a description in one request: it has to fit a packet.
const PART: usize = 0x800;
/// A description longer than this is not QEMU's.
const LONGEST: usize = 1 << 20;

/// The connection, on which nobody listens before [`Debugger::attach`].
pub(super) struct Debugger {
    socket: UnixStream,
    unread: Vec<u8>,
    attached: bool,
}

impl Debugger {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            unread: Vec::new(),
            attached: false,
        }
    }

    /// Begins to talk about that vCPU of a guest, which stands still from here on. `None` where
    /// QEMU does not take part.
    pub(super) fn attach(&mut self, monitor: &mut Monitor, vcpu: VcpuId) -> Option<()> {
        if !self.attached {
            self.socket.set_nonblocking(false).ok()?;
            self.socket.set_read_timeout(Some(PATIENCE)).ok()?;
            monitor.listen_to_debugger()?;
            // Only who understands descriptions is offered registers beyond the general ones.
            self.ask("qSupported:xmlRegisters=arm")?;
            self.attached = true;
        }
        // Threads are counted from 1, and 0 is any.
        let thread = u64::from(vcpu.0) + 1;
        (self.ask(&format!("Hg{thread:x}"))? == b"OK").then_some(())
    }

    /// The description of the registers that `file` is about.
    pub(super) fn description(&mut self, file: &str) -> Option<Description> {
        let mut text = Vec::new();
        while text.len() < LONGEST {
            let from = text.len();
            let answer = self.ask(&format!("qXfer:features:read:{file}:{from:x},{PART:x}"))?;
            let (&more, part) = answer.split_first()?;
            text.extend_from_slice(part);
            match more {
                b'm' if !part.is_empty() => {}
                b'l' => return Some(Description(String::from_utf8(text).ok()?)),
                _ => return None,
            }
        }
        None
    }

    /// The register of that number, of a guest whose byte order is little-endian.
    pub(super) fn register(&mut self, number: u32) -> Option<u64> {
        let answer = self.ask(&format!("p{number:x}"))?;
        let digits = std::str::from_utf8(&answer).ok()?;
        (digits.len() == 16).then_some(())?;
        u64::from_str_radix(digits, 16).ok().map(u64::swap_bytes)
    }

    /// What the stub answers, without frame and checksum: the socket loses nothing.
    fn ask(&mut self, request: &str) -> Option<Vec<u8>> {
        let sum = request.bytes().fold(0, u8::wrapping_add);
        let frame = format!("${request}#{sum:02x}");
        self.socket.write_all(frame.as_bytes()).ok()?;
        loop {
            let packet = self.packet()?;
            // Where it is gone, reading tells.
            let _ = self.socket.write_all(b"+");
            // It also tells when the machine stops.
            if !packet.starts_with(b"T") {
                return Some(packet);
            }
        }
    }

    /// The next packet: what is between the dollar and the hash sign.
    fn packet(&mut self) -> Option<Vec<u8>> {
        const CHECKSUM: usize = 2;
        loop {
            let start = self.unread.iter().position(|&byte| byte == b'$');
            let end = self.unread.iter().position(|&byte| byte == b'#');
            if let (Some(start), Some(end)) = (start, end)
                && self.unread.len() > end + CHECKSUM
            {
                let packet: Vec<u8> = self.unread.drain(..=end + CHECKSUM).collect();
                return packet.get(start + 1..end).map(<[u8]>::to_vec);
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(len) if len > 0 && self.unread.len() < LONGEST => {
                    self.unread.extend_from_slice(bytes.get(..len)?);
                }
                _ => return None,
            }
        }
    }
}

/// What registers there are, as XML (Debugging with GDB, appendix G, "Target Descriptions").
pub(super) struct Description(String);

impl Description {
    /// The number of the register `name`.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let tags = self.0.split('<').filter(|tag| tag.starts_with("reg "));
        let mut named = tags.filter(|tag| attribute(tag, "name") == Some(name));
        attribute(named.next()?, "regnum")?.parse().ok()
    }
}

/// The value of an attribute, which is in quotation marks of either kind.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let values = tag.split_ascii_whitespace().filter_map(|word| {
        let value = word.strip_prefix(name)?.strip_prefix('=')?;
        let mark = value.chars().next()?;
        value.get(1..)?.split(mark).next()
    });
    values.take(1).next()
}

#[cfg(test)]
mod tests;
