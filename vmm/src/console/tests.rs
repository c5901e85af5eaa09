use super::*;
use crate::testing::Person;

#[test]
fn a_line_is_out_when_it_ends() {
    let (console, mut person) = Person::at_a_console();
    console.output().write(b"one\ntw");
    assert_eq!(person.waits_for("one\n"), "one\n");
}

#[test]
fn a_prompt_without_a_newline_is_out_when_the_timer_says_so() {
    let (console, mut person) = Person::at_a_console();
    console.output().write(b"# ");
    let mut fds = [PollFd::from_borrowed_fd(
        console.output().timer(),
        PollFlags::IN,
    )];
    poll(&mut fds, None).unwrap();
    console.output().tick().unwrap();
    assert_eq!(person.waits_for("# "), "# ");
}

#[test]
fn a_session_that_offers_more_than_is_read_is_told_to_wait_and_loses_nothing() {
    let (console, person) = Person::at_a_console();
    let output = console.output().clone();
    let line = "a line of some length\n";
    let mut lines = 0;
    while !output.is_full() {
        output.offer(line.as_bytes());
        lines += 1;
    }
    let reader = std::thread::spawn(move || person.saw());
    output.tick().unwrap();
    while let Some(backlog) = output.backlog() {
        let mut fds = [PollFd::from_borrowed_fd(backlog, PollFlags::OUT)];
        poll(&mut fds, None).unwrap();
        output.tick().unwrap();
    }
    drop((console, output));
    assert_eq!(reader.join().unwrap(), line.repeat(lines));
}

#[test]
fn a_thread_that_waits_for_the_reader_is_released() {
    let (console, person) = Person::at_a_console();
    let output = console.output().clone();
    let writer = std::thread::spawn(move || {
        output.write("x".repeat(1 << 20).as_bytes());
    });
    console.output().release();
    writer.join().unwrap();
    drop(console);
    assert!(person.saw().len() < 1 << 20);
}

#[test]
fn what_nobody_reads_any_more_takes_little_memory() {
    let (console, _person) = Person::at_a_console();
    let output = console.output();
    output.release();
    for _ in 0..100 {
        output.write(&[b'x'; 1 << 16]);
    }
    assert_eq!(output.state().waiting.len(), MOST_LEFT);
}

#[test]
fn input_that_ends_is_no_error() {
    let (mut console, mut person) = Person::at_a_console();
    person.types(b"\x01x");
    let screen = std::thread::spawn(move || person.saw());
    let mut guest = Vec::new();
    while console.input().is_some() {
        assert_eq!(console.read(&mut guest), Input::Bytes);
    }
    // No terminal, so nobody can press an escape key: the bytes are the guest's.
    assert_eq!(guest, b"\x01x");
    drop(console);
    screen.join().unwrap();
}

#[test]
fn the_last_line_is_the_last_that_is_not_empty_and_harmless_to_print() {
    let (console, person) = Person::at_a_console();
    let output = console.output();
    assert_eq!(output.last_line(), None);
    output.write(b"first\r\n\x1b[31msecond \"x\"\r\n\r\n");
    assert_eq!(output.last_line().as_deref(), Some("\\x1b[31msecond \"x\""));
    drop(console);
    person.saw();
}
