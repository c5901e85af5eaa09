use super::*;

/// A monitor and the other end of its line.
fn connected() -> (Monitor, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Monitor::new(ours), theirs)
}

fn says(mut qemu: &UnixStream, text: &str) {
    qemu.write_all(text.as_bytes()).unwrap();
}

fn end_of(text: &str) -> Vec<Event> {
    let (mut monitor, qemu) = connected();
    says(&qemu, text);
    drop(qemu);
    std::iter::from_fn(|| monitor.next_event()).collect()
}

/// What QEMU 7.2 says until a guest that it was told to run turns itself off.
const A_RUN: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "#,
    r#""capabilities": ["oob"]}}"#,
    "\r\n{\"return\": {}}\r\n",
    r#"{"timestamp": {"seconds": 1763681334, "microseconds": 7}, "event": "RESUME"}"#,
    "\r\n{\"return\": {}}\r\n",
);

#[test]
fn a_run_ends_with_the_reason_that_qemu_gives() {
    let shutdown = |reason: &str| {
        let event = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "#;
        let data = format!(r#""data": {{"guest": true, "reason": "{reason}"}}}}"#);
        let events = end_of(&format!("{A_RUN}{event}{data}\r\n"));
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[1], Event::Gone);
        events[0].clone()
    };
    assert_eq!(
        shutdown("guest-shutdown"),
        Event::Shutdown(Reason::GuestShutdown)
    );
    assert_eq!(shutdown("guest-reset"), Event::Shutdown(Reason::GuestReset));
    assert_eq!(shutdown("guest-panic"), Event::Shutdown(Reason::GuestPanic));
    assert_eq!(
        shutdown("host-error"),
        Event::Shutdown(Reason::Other("host-error".to_owned()))
    );
}

#[test]
fn a_panic_is_told_before_the_machine_stops() {
    let panicked = r#"{"event": "GUEST_PANICKED", "data": {"action": "pause"}}"#;
    let events = end_of(&format!("{A_RUN}{panicked}\n{{\"event\": \"STOP\"}}\n"));
    assert_eq!(events, [Event::Panicked, Event::Gone]);
}

#[test]
fn a_refused_request_is_an_event_that_carries_qemus_words() {
    let error = r#"{"error": {"class": "GenericError", "desc": "no bootable device"}}"#;
    assert_eq!(
        end_of(&format!("{error}\n")),
        [Event::Refused("no bootable device".to_owned()), Event::Gone]
    );
}

#[test]
fn lines_come_in_pieces_and_noise_is_not_listened_to() {
    let (mut monitor, qemu) = connected();
    says(&qemu, "no protocol\n{\"event\": \"SHUT");
    assert_eq!(monitor.next_event(), None);
    says(&qemu, "DOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n");
    assert_eq!(
        monitor.next_event(),
        Some(Event::Shutdown(Reason::GuestReset))
    );
    assert_eq!(monitor.next_event(), None);
}

#[test]
fn a_watchdog_is_told_before_the_machine_stops() {
    let fired = r#"{"event": "WATCHDOG", "data": {"action": "pause"}}"#;
    let events = end_of(&format!("{A_RUN}{fired}\n{{\"event\": \"STOP\"}}\n"));
    assert_eq!(events, [Event::WatchdogFired, Event::Gone]);
}

#[test]
fn an_event_that_comes_with_an_answer_ends_the_next_wait_at_once() {
    let (mut monitor, qemu) = connected();
    says(
        &qemu,
        "{\"event\": \"GUEST_PANICKED\"}\n{\"return\": 5, \"id\": 1}\n",
    );
    assert_eq!(monitor.interest(), PollFlags::IN);
    assert_eq!(monitor.ask("stop", &json!({}), PATIENCE), Some(json!(5)));
    assert!(monitor.interest().contains(PollFlags::OUT));
    assert_eq!(monitor.next_event(), Some(Event::Panicked));
    assert_eq!(monitor.interest(), PollFlags::IN);
}

#[test]
fn nobody_waits_for_an_answer_from_a_process_that_is_gone() {
    let (mut monitor, qemu) = connected();
    drop(qemu);
    assert_eq!(monitor.registers(Architecture::Arm64), None);
    assert_eq!(monitor.next_event(), Some(Event::Gone));
}

#[test]
fn the_guest_is_let_go_in_one_breath() {
    let (mut monitor, qemu) = connected();
    monitor.greet();
    monitor.begin();
    drop(monitor);
    let mut said = String::new();
    (&qemu).read_to_string(&mut said).unwrap();
    assert_eq!(
        said,
        "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"cont\"}\n"
    );
}
