//! The real `passt`, where it is installed.

use super::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;

/// A running `passt`; nothing, said out loud, where there is none or it cannot run here.
fn passt() -> Option<Passt> {
    match Passt::start() {
        Ok(passt) => Some(passt),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

/// Out loud: to stderr itself, which is not captured.
fn skip(why: &str) {
    let skipped = format!("SKIPPED passt: {why}\n");
    io::stderr().write_all(skipped.as_bytes()).unwrap();
}

fn wait(passt: &Passt) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(passt.waits(), PollFlags::IN)];
    let patience = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&patience)).unwrap() > 0
}

const MAC: [u8; 6] = [0x52, 0, 0, 0, 0, 2];

/// A request for an address (RFC 2131, DHCPDISCOVER), with the header of a network card.
fn discover() -> Vec<u8> {
    let mut bootp = vec![1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78];
    bootp.resize(28, 0);
    bootp.extend(MAC);
    bootp.resize(236, 0);
    bootp.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    bootp.resize(300, 0);
    let mut udp = vec![0, 68, 0, 67];
    udp.extend(308u16.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(bootp);
    let mut ip = vec![0x45, 0];
    ip.extend(328u16.to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
    let words = ip
        .chunks(2)
        .map(|it| u32::from(it[0]) << 8 | u32::from(it[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(folded).unwrap();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![0; Header::LEN];
    frame.extend([0xff; 6]);
    frame.extend(MAC);
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(udp);
    frame
}

#[test]
fn a_guest_is_given_an_address() {
    let Some(mut passt) = passt() else {
        return;
    };
    passt.send(&discover()).unwrap();
    let mut frame = vec![0xff; 70_000];
    loop {
        if !wait(&passt) {
            panic!("no answer: {}", passt.process.as_ref().unwrap().said());
        }
        match passt.receive(&mut frame) {
            Ok(None) => {}
            // It may announce routes before it answers.
            Ok(Some(len)) => {
                let frame = &frame[Header::LEN..len];
                let is_offer = frame[..6] == MAC && frame[12..14] == [8, 0] && frame[23] == 17;
                if is_offer {
                    // BOOTREPLY, with our number.
                    assert_eq!(frame[42], 2);
                    assert_eq!(frame[46..50], [0x12, 0x34, 0x56, 0x78]);
                    break;
                }
            }
            Err(Lost) => {
                return skip(&passt.farewell());
            }
        }
    }
    passt.check().unwrap();
}

#[test]
fn its_end_is_noticed() {
    let Some(mut passt) = passt() else {
        return;
    };
    let id = rustix::process::Pid::from_raw(
        i32::try_from(passt.process.as_ref().unwrap().id()).unwrap(),
    )
    .unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
    assert!(wait(&passt));
    let mut frame = vec![0; 70_000];
    assert_eq!(passt.receive(&mut frame), Err(Lost));
    assert!(passt.farewell().starts_with("passt has ended"));
    // It may take a moment from its sockets' end to its own.
    while passt.check().is_ok() {
        std::thread::yield_now();
    }
    assert!(matches!(passt.check(), Err(PasstError::Ended { .. })));
}

#[test]
fn it_ends_with_us() {
    let Some(passt) = passt() else {
        return;
    };
    let process = format!("/proc/{}", passt.process.as_ref().unwrap().id());
    assert!(std::fs::exists(&process).unwrap());
    drop(passt);
    assert!(!std::fs::exists(&process).unwrap());
}
