//! The control socket, as clients of every kind meet it.

use super::api::MAX_BODY;
use super::messages::{Fault, InstanceInfo, SwapReport};
use super::*;
use firstlight_base::{Gpa, GpaRange, GuestMem, MIB};
use firstlight_load::{Backing, GuestMemory};
use firstlight_vmm::SwapError;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The longest that a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    _folder: TempDir,
    path: PathBuf,
    desk: Arc<Desk>,
    server: Server,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let desk = Arc::new(Desk::default());
        let server = Server::start(&path, Arc::clone(&desk)).unwrap();
        Self {
            _folder: folder,
            path,
            desk,
            server,
        }
    }

    fn connect(&self) -> UnixStream {
        let client = UnixStream::connect(&self.path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// All that comes for these bytes, until the server has done with them.
    fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect();
        // One that is refused early need not have read all of it.
        let _ = client.write_all(bytes.as_ref());
        let _ = client.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = client.read_to_end(&mut said);
        String::from_utf8(said).unwrap()
    }

    /// The status and the body of the answer to one request.
    fn ask<T: DeserializeOwned>(&self, line: &str, body: &str) -> (u16, T) {
        let len = body.len();
        let said = self.say(format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
        ));
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }

    fn fault(&self, line: &str, body: &str) -> String {
        let (status, fault) = self.ask::<Fault>(line, body);
        assert_eq!(status, 400);
        fault.fault_message
    }

    fn is_well(&self) {
        let (status, info) = self.ask::<InstanceInfo>("GET /", "");
        assert_eq!((status, &*info.app_name), (200, "Firstlight"));
    }
}

#[test]
fn a_guest_says_what_it_is_and_whether_it_runs() {
    let world = World::new();
    let (_, info) = world.ask::<InstanceInfo>("GET /", "");
    assert_eq!(info.state, "Not started");
    world.desk.put(Controls::default());
    let (_, info) = world.ask::<InstanceInfo>("GET /", "");
    assert_eq!(info.state, "Running");
    world.desk.clear();
    let (_, info) = world.ask::<InstanceInfo>("GET /", "");
    assert_eq!(info.state, "Not started");
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let world = World::new();
    for line in ["GET /nowhere", "PUT /", "DELETE /firstlight/swap", "GET //"] {
        let fault = world.fault(line, "");
        assert_eq!(
            fault,
            format!("Invalid request method and/or path: {line}.")
        );
    }
}

#[test]
fn what_a_body_should_not_have_is_named() {
    let world = World::new();
    for (body, named) in [
        (
            "{\"action\":\"out\",\"how\":\"fast\"}",
            "unknown field `how`",
        ),
        ("{\"action\":\"sideways\"}", "unknown variant `sideways`"),
        ("{}", "missing field `action`"),
        ("", "EOF while parsing"),
        ("{\"action\":\"out\"} {}", "trailing characters"),
    ] {
        let fault = world.fault("PUT /firstlight/swap", body);
        assert!(fault.contains(named), "{fault}");
    }
}

#[test]
fn a_guest_without_swap_says_so() {
    let world = World::new();
    let fault = world.fault("GET /firstlight/swap", "");
    assert_eq!(fault, "The guest is not running.");
    world.desk.put(Controls::default());
    let fault = world.fault("PUT /firstlight/swap", "{\"action\":\"out\"}");
    assert!(fault.ends_with("it was started without --swap."), "{fault}");
}

#[test]
fn memory_goes_out_and_comes_back_by_request() {
    let world = World::new();
    let range = GpaRange::new(Gpa::new(0), MIB).unwrap();
    let memory = Arc::new(GuestMemory::allocate(&[range], Backing::Private).unwrap());
    memory.write(Gpa::new(0x3000), b"precious").unwrap();
    let swap = Swap::new(Arc::clone(&memory), &std::env::temp_dir()).unwrap();
    if let Err(SwapError::Userfault(error)) = swap.page_out() {
        println!("skipped: no userfaultfd with UFFDIO_MOVE here: {error}");
        return;
    }
    swap.page_in().unwrap();
    let swap = Arc::new(swap);
    world.desk.put(Controls {
        swap: Some(Arc::downgrade(&swap)),
        ..Controls::default()
    });
    let report = |line, body| world.ask::<SwapReport>(line, body);
    let (status, out) = report("PUT /firstlight/swap", "{\"action\":\"out\"}");
    assert_eq!((status, out.out), (200, true));
    assert!(out.swapped_bytes >= 4096, "{out:?}");
    let mut bytes = [0; 8];
    memory.read(Gpa::new(0x3000), &mut bytes).unwrap();
    assert_eq!(&bytes, b"precious");
    let (_, now) = report("GET /firstlight/swap", "");
    assert_eq!((now.faults, now.out), (1, true));
    let (_, back) = report("PUT /firstlight/swap", "{\"action\":\"in\"}");
    assert_eq!((back.out, back.swapped_bytes), (false, 0));
    drop(swap);
    let fault = world.fault("GET /firstlight/swap", "");
    assert_eq!(fault, "the machine has ended");
}

#[test]
fn nonsense_is_refused_and_others_are_served() {
    let world = World::new();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let fields = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    for nonsense in [
        "\r\n\r\n\r\n\r\nfoo",
        "GET / HTTP/9.9\r\n\r\n",
        "\0\u{1}\u{2}",
        "GET /",
        "PUT /firstlight/swap HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "PUT /firstlight/swap HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "PUT /firstlight/swap HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        &long,
        &fields,
    ] {
        let said = world.say(nonsense);
        let is_refused = said.is_empty() || said.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{nonsense:.40?}: {said}");
        world.is_well();
    }
}

#[test]
fn a_body_that_is_too_long_is_not_waited_for() {
    let world = World::new();
    let said = world.say("PUT /firstlight/swap HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let chunk = "x".repeat(MAX_BODY + 1);
    let said = world.say(format!(
        "PUT /firstlight/swap HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    ));
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
}

#[test]
fn requests_behind_each_other_are_answered_in_their_order() {
    let world = World::new();
    let said = world.say("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let statuses: Vec<&str> = said
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer.get(..3).unwrap())
        .collect();
    assert_eq!(statuses, ["200", "400", "200"]);
}

#[test]
fn two_hundred_clients_are_served_beside_those_who_say_nothing() {
    let world = World::new();
    let silent: Vec<UnixStream> = (0..50).map(|_| world.connect()).collect();
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| world.is_well());
        }
    });
    drop(silent);
}

#[test]
fn the_socket_is_where_nobody_listens_any_more_and_goes_with_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    let desk = Arc::new(Desk::default());
    let server = Server::start(&path, Arc::clone(&desk)).unwrap();
    let second = Server::start(&path, Arc::clone(&desk)).unwrap_err();
    assert!(second.to_string().contains("is in use by another program"));
    let _silent = UnixStream::connect(&path).unwrap();
    drop(server);
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    let refused = Server::start(&path, desk).unwrap_err();
    assert!(refused.to_string().contains("is no socket"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_server_that_ends_ends_its_clients() {
    let world = World::new();
    let mut client = world.connect();
    write!(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut some = [0; 16];
    client.read_exact(&mut some).unwrap();
    drop(world.server);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
}

#[test]
fn a_guest_without_a_battery_and_one_that_never_says_that_it_sleeps_say_so() {
    let world = World::new();
    world.desk.put(Controls::default());
    let fault = world.fault("GET /firstlight/battery", "");
    assert!(
        fault.ends_with("it was started without --battery."),
        "{fault}"
    );
    let fault = world.fault("PATCH /firstlight/battery", "[1]");
    assert!(fault.contains("invalid type: sequence"), "{fault}");
    let fault = world.fault("GET /firstlight/suspension", "");
    assert!(fault.ends_with("without --suspend-notice."), "{fault}");
    let fault = world.fault("GET /firstlight/suspension?wait=dead", "");
    assert!(fault.starts_with("Invalid query: wait=dead."), "{fault}");
}
