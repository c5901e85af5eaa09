use super::*;
use std::thread;

const TEXT: &str = r#"<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">
<feature name="org.qemu.gdb.arm.sys.regs"><reg name="TCR_EL1" bitsize="64" regnum="153"
group="cp_regs"/><reg name='VBAR' bitsize='64' regnum='187'/><reg name="VBAR_EL2"/></feature>"#;

#[test]
fn registers_are_found_by_their_whole_name() {
    let description = Description(TEXT.to_owned());
    assert_eq!(description.number("TCR_EL1"), Some(153));
    assert_eq!(description.number("VBAR"), Some(187));
    assert_eq!(description.number("VBAR_EL2"), None, "it has no number");
    assert_eq!(description.number("TCR"), None);
}

/// A stub that answers each request with the next of `answers`, in frames.
fn stub(answers: &[&str]) -> Debugger {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let answers: Vec<String> = answers.iter().map(|text| format!("+${text}#00")).collect();
    thread::spawn(move || {
        let mut request = [0; 100];
        for answer in answers {
            let mut seen = 0;
            while !request[..seen].contains(&b'#') {
                seen = theirs.read(&mut request)?;
            }
            theirs.write_all(answer.as_bytes())?;
        }
        std::io::Result::Ok(())
    });
    Debugger::new(ours)
}

#[test]
fn a_description_comes_in_parts() {
    let mut debugger = stub(&["m<reg name=\"X\" ", "lregnum=\"7\"/>"]);
    let description = debugger.description("some.xml").unwrap();
    assert_eq!(description.number("X"), Some(7));
}

#[test]
fn a_registers_lowest_byte_comes_first() {
    let mut debugger = stub(&["bc9a785634120000", "E14"]);
    assert_eq!(debugger.register(1), Some(0x1234_5678_9abc));
    assert_eq!(debugger.register(2), None);
}

#[test]
fn nobody_waits_for_a_stub_that_is_gone() {
    let mut debugger = stub(&[]);
    assert_eq!(debugger.register(1), None);
}

#[test]
fn news_of_the_machines_stop_are_no_answer() {
    let mut debugger = stub(&["T05thread:01;#00$0100000000000000"]);
    assert_eq!(debugger.register(1), Some(1));
}
