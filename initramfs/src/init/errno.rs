//! The texts of the kernel's errors.

use super::call::Call;
use super::program::{Done, Operation, Place, Program, Word};

/// Those that a guest's start may meet (Linux `include/uapi/asm-generic/errno-base.h` and
/// `errno.h`).
const NAMES: [(u8, &str); 27] = [
    (1, "operation not permitted"),
    (2, "no such file or directory"),
    (5, "input/output error"),
    (6, "no such device or address"),
    (7, "argument list too long"),
    (8, "exec format error"),
    (11, "resource temporarily unavailable"),
    (12, "out of memory"),
    (13, "permission denied"),
    (15, "block device required"),
    (16, "device or resource busy"),
    (17, "file exists"),
    (19, "no such device, or file system unknown to the kernel"),
    (20, "not a directory"),
    (21, "is a directory"),
    (22, "invalid argument, or no such file system there"),
    (26, "text file busy"),
    (28, "no space left on device"),
    (30, "read-only file system"),
    (38, "function not implemented"),
    (40, "too many symbolic links"),
    (74, "bad message"),
    (95, "operation not supported"),
    (117, "the file system needs cleaning"),
    (123, "no medium found"),
    (126, "required key not available"),
    (127, "key has expired"),
];

/// How many texts there are, by their numbers.
const TEXTS: u8 = 128;
/// The bytes of an `iovec`.
const IOVEC: u64 = 16;

/// The texts, as a table of `iovec` (`writev(2)`); the first is for numbers without one.
pub(super) fn texts(program: &mut Program) -> Place {
    let text = |number: u8| match NAMES.iter().find(|(other, _)| *other == number) {
        Some((_, name)) => format!("{name} (error {number})\n"),
        None if number == 0 => "an unusual error\n".to_owned(),
        None => format!("error {number}\n"),
    };
    lines(program, (0..TEXTS).map(text))
}

/// Writes the text of the error `number` to the console.
pub(super) fn say(program: &mut Program, texts: Place, number: Done) {
    let (usual, said) = (program.label(), program.label());
    let high = [number.into(), 7.into(), u64::MAX.into()];
    let high = program.step(Operation::Field, &high);
    program.if_equal(high, 0, usual);
    program.call(Call::Writev, &[2.into(), texts.into(), 1.into()]);
    program.jump(said);
    program.bind(usual);
    write_line(program, 2.into(), texts, number.into());
    program.bind(said);
}

/// A table of `iovec` for `lines`.
pub(super) fn lines(program: &mut Program, lines: impl Iterator<Item = String>) -> Place {
    let mut words = Vec::new();
    for line in lines {
        words.push(Word::Address(program.text(&line)));
        words.push(Word::Number(line.len() as u64));
    }
    program.words(&words)
}

/// Writes the line of that `number` in a table to an open `file`.
pub(super) fn write_line(
    program: &mut Program,
    file: super::Value,
    table: Place,
    number: super::Value,
) -> Done {
    let line = [table.into(), number, IOVEC.into()];
    let line = program.step(Operation::MultiplyAdd, &line);
    program.call(Call::Writev, &[file, line.into(), 1.into()])
}
