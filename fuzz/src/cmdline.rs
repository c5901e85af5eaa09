//! A command line: taken whole, grown, and looked at for what is wrong with it.

use crate::knobs::Knobs;
use crate::{Reached, Seed, Target};
use firstlight_boot::cmdline::{Cmdline, ProblemKind, problems};

/// The target.
pub const TARGET: Target = Target {
    name: "cmdline",
    what: "command lines: taken whole, grown, and what is wrong with them",
    run,
    seeds,
};

fn run(input: &[u8]) -> Reached {
    let mut knobs = Knobs::new(input);
    let capacity = usize::from(knobs.u8());
    let bytes = knobs.rest();
    let found = problems(bytes, capacity);
    assert!(found.is_sorted_by_key(|problem| problem.at));
    for problem in &found {
        assert!(problem.at + problem.len <= bytes.len());
        assert!(!problem.to_string().is_empty());
    }
    let has = |kind: ProblemKind| found.iter().any(|problem| problem.kind == kind);
    assert_eq!(has(ProblemKind::Nul), bytes.contains(&0));
    assert_eq!(has(ProblemKind::NotAscii), !bytes.is_ascii());
    let Ok(text) = str::from_utf8(bytes) else {
        return Reached::Refusal;
    };
    let Ok(mut line) = Cmdline::try_from(text, capacity) else {
        return Reached::Refusal;
    };
    grow(&mut line, text);
    let problems = line.problems();
    match line.as_cstring() {
        Ok(line) => {
            assert!(line.as_bytes().len() < capacity);
            let again = Cmdline::try_from(&line.to_string_lossy(), capacity);
            assert!(again.is_ok(), "it fits where it came from");
            Reached::End
        }
        Err(_)
            if problems
                .iter()
                .any(|problem| problem.kind == ProblemKind::Nul) =>
        {
            Reached::Refusal
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Reached::Refusal
        }
    }
}

/// Adds parts of `text` in every way there is.
fn grow(line: &mut Cmdline, text: &str) {
    for word in text.split(' ').take(8) {
        let before = line.clone();
        let done = match word.split_once('=') {
            Some((key, value)) => line.insert(key, value),
            None if word.starts_with('-') => line.insert_init_args(word),
            None => line.insert_str(word),
        };
        if done.is_err() {
            assert_eq!(*line, before, "what is refused changes nothing");
        }
    }
}

fn seeds() -> Vec<Seed> {
    let seed = |name, line: &str| Seed::new(name, [&[200], line.as_bytes()].concat());
    vec![
        seed("plain", "console=ttyS0 root=/dev/vda ro quiet"),
        seed("init", "a b=c -- -d --e"),
        seed("quotes", "dyndbg=\"file a -- b +p\" x -- y"),
        seed("wrong", "=1 a\tb \u{e4} \"open"),
    ]
}
