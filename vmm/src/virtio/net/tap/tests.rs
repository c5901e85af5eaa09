//! Taps in a network of a test's own.

use super::*;
use firstlight_devices::virtio::net::Header;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io::Write;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A process that holds a network on its own.
struct Network(Child);

impl Network {
    /// A new network; nothing where we may not make one.
    fn new() -> Option<Self> {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "1000"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut network = Self(child.ok()?);
        let ours = fs::read_link("/proc/self/ns/net").ok()?;
        while network.0.try_wait().ok()?.is_none() {
            if fs::read_link(network.path()).ok()? != ours {
                return Some(network);
            }
            thread::yield_now();
        }
        None
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `test` in a network that has only `lo`, where that can be, and says so where it cannot.
fn in_a_network(test: impl FnOnce() + Send) {
    if !fs::exists(DEVICE).unwrap_or(false) {
        return skip("there is no /dev/net/tun");
    }
    let Some(network) = Network::new() else {
        return skip("no permission to make a network");
    };
    let file = File::open(network.path()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test();
        });
    });
}

/// Out loud: to stderr itself, which is not captured.
fn skip(why: &str) {
    let skipped = format!("SKIPPED tap: {why}\n");
    io::stderr().write_all(skipped.as_bytes()).unwrap();
}

/// Runs `ip` in the network of this thread.
fn ip(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.unwrap().success()
}

/// Makes an interface in the network of this thread. Not every `ip` can.
fn make(name: &str, kind: Flags) {
    let file = open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    ioctl::attach(&file, name, kind | Flags::NO_PI).unwrap();
    ioctl::keep(&file).unwrap();
}

fn wait(tap: &Tap) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(tap.waits(), PollFlags::IN)];
    let patience = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&patience)).unwrap() > 0
}

/// The next frame of this type, with its header.
fn frame_of(tap: &mut Tap, ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = vec![0; 70_000];
    loop {
        assert!(wait(tap), "no frame");
        if let Some(len) = tap.receive(&mut frame).unwrap()
            && frame[Header::LEN + 12..Header::LEN + 14] == ethertype
        {
            return frame[..len].to_vec();
        }
    }
}

/// `IFF_TUN`: it carries packets, not frames.
const TUN: Flags = Flags::from_bits_retain(1);
const ARP: [u8; 2] = [8, 6];
const IP: [u8; 2] = [8, 0];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

#[test]
fn an_interface_that_is_not_there_is_not_made() {
    in_a_network(|| {
        let error = Tap::open("nowhere").unwrap_err();
        assert!(matches!(error, TapError::Missing { .. }), "{error}");
        assert!(!ip("link show nowhere"));
    });
}

#[test]
fn a_name_that_none_can_have_is_none() {
    for name in ["", "a/b", "tap%d", "an-interface-with-a-name"] {
        let error = Tap::open(name).unwrap_err();
        assert!(matches!(error, TapError::Name { .. }), "{error}");
    }
}

#[test]
fn an_interface_that_is_no_tap_is_refused() {
    in_a_network(|| {
        make("tun0", TUN);
        for name in ["lo", "tun0"] {
            let error = Tap::open(name).unwrap_err();
            assert!(matches!(error, TapError::NoTap { .. }), "{name}: {error}");
        }
    });
}

#[test]
fn an_interface_that_somebody_uses_is_in_use() {
    in_a_network(|| {
        make("tap0", Flags::TAP);
        let first = Tap::open("tap0").unwrap();
        let error = Tap::open("tap0").unwrap_err();
        assert!(matches!(error, TapError::InUse { .. }), "{error}");
        drop(first);
        Tap::open("tap0").unwrap();
        assert!(ip("link show tap0"), "it stays");
    });
}

#[test]
fn an_interface_of_several_queues_is_used_by_one() {
    in_a_network(|| {
        make("tap0", Flags::TAP | Flags::MULTI_QUEUE);
        Tap::open("tap0").unwrap();
    });
}

#[test]
fn frames_go_both_ways_and_the_host_leaves_to_the_guest_what_it_takes() {
    for (offloads, left) in [(Offloads::empty(), 0), (Offloads::GUEST_CSUM, 1)] {
        in_a_network(|| {
            make("tap0", Flags::TAP);
            assert!(ip("addr add 192.0.2.1/24 dev tap0"));
            let mut tap = Tap::open("tap0").unwrap();
            tap.choose(offloads);
            // Nothing comes of that while it is down.
            assert_eq!(tap.send(&[0; 60]), Ok(()));
            assert!(ip("link set tap0 up"));
            let socket = UdpSocket::bind("192.0.2.1:1000").unwrap();
            socket.send_to(b"hello", "192.0.2.9:9").unwrap();
            let asked = frame_of(&mut tap, ARP);
            let request = &asked[Header::LEN..];
            let (from, theirs) = (&request[6..12], &request[22..32]);
            let mut answer = vec![0; Header::LEN];
            answer.extend(from);
            answer.extend(MAC);
            answer.extend(ARP);
            answer.extend([0, 1, 8, 0, 6, 4, 0, 2]);
            answer.extend(MAC);
            answer.extend([192, 0, 2, 9]);
            answer.extend(theirs);
            tap.send(&answer).unwrap();
            let packet = frame_of(&mut tap, IP);
            assert!(packet.ends_with(b"hello"));
            assert_eq!(packet[Header::LEN..][..6], MAC);
            assert_eq!(packet[0], left, "NEEDS_CSUM");
        });
    }
}

#[test]
fn an_interface_that_is_removed_is_lost() {
    in_a_network(|| {
        make("tap0", Flags::TAP);
        assert!(ip("link set tap0 up"));
        let mut tap = Tap::open("tap0").unwrap();
        assert!(ip("link delete tap0"));
        assert!(wait(&tap));
        let mut frame = vec![0; 70_000];
        while let Ok(Some(_)) = tap.receive(&mut frame) {}
        assert_eq!(tap.receive(&mut frame), Err(Lost));
        assert_eq!(tap.send(&[0; 60]), Err(Lost));
        assert_eq!(tap.farewell(), "the network interface tap0 has gone");
    });
}
