//! `firstlight diff`: what would be different with another kernel.

use crate::args::{DiffArgs, DiffFormat, GuestArgs};
use crate::cache::Store;
use crate::failure::{Failure, printable};
use crate::initrd::Initrd;
use crate::json::{Hex, Span, to_text};
use crate::kernel::{self, Files};
use crate::output;
use crate::progress::Progress;
use firstlight_boot::diff::{Both, E820Change, PieceChange, PlanDiff, RegisterChange, diff};
use firstlight_boot::draw::Size;
use firstlight_boot::{BootPlan, E820Entry, Piece};
use serde::Serialize;
use std::fmt::Write;

/// Plans both boots that `args` describe and tells where they differ.
pub(crate) fn compare(args: &DiffArgs, progress: Progress) -> Result<(), Failure> {
    let before = plan(&args.guest, progress)?;
    let after = plan(&args.after(), progress)?;
    let diff = diff(&before, &after);
    let told = match args.format {
        DiffFormat::Text => text(&diff),
        DiffFormat::Json => json(&diff),
    };
    output::write(&told, args.output.as_deref())
}

fn plan(args: &GuestArgs, progress: Progress) -> Result<BootPlan, Failure> {
    let files = Files::open(args)?;
    let store = Store::open(progress);
    let opened = store.kernel(files.kernel(), args)?;
    let image = kernel::image(files.kernel(), &opened, args)?;
    let initrd = Initrd::open(&store, &files, &image, args)?;
    let request = kernel::request(args, &files, &image, initrd.as_ref())?;
    kernel::plan(files.kernel(), &image, &request)
}

fn text(diff: &PlanDiff<'_>) -> String {
    if diff.is_empty() {
        return "Both boot in the same way.\n".into();
    }
    let mut out = String::new();
    put_values(&mut out, "Image", diff.image);
    put_values(&mut out, "Protocol", diff.protocol);
    put_values(&mut out, "Command line", diff.cmdline);
    put_lines(&mut out, "Guest memory", &diff.pieces, piece_line);
    put_lines(&mut out, "Memory map (e820)", &diff.e820, |change| {
        let line = |entry: &E820Entry| format!("{}  {}", entry.range, entry.kind);
        match change {
            E820Change::Removed(entry) => format!("- {}", line(entry)),
            E820Change::Added(entry) => format!("+ {}", line(entry)),
        }
    });
    put_lines(&mut out, "Registers", &diff.registers, |change| {
        let Both { before, after } = change.value;
        format!("  {:<10}  {before:#x} → {after:#x}", change.register)
    });
    out
}

fn put_values<T: std::fmt::Display>(out: &mut String, title: &str, both: Option<Both<T>>) {
    if let Some(Both { before, after }) = both {
        let lines = [('-', before), ('+', after)];
        put_lines(out, title, &lines, |(sign, value)| {
            format!("{sign} {value}")
        });
    }
}

fn put_lines<T>(out: &mut String, title: &str, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    // Writing to a string does not fail.
    let _ = writeln!(out, "{title}");
    for item in items {
        let _ = writeln!(out, "  {}", printable(&line(item)));
    }
}

fn piece_line(change: &PieceChange<'_>) -> String {
    const NAME: usize = 28;
    let place = |piece: &Piece| format!("{}  {}", piece.range, Size(piece.range.len()));
    match change {
        PieceChange::Removed(piece) => format!("- {:<NAME$}  {}", piece.name, place(piece)),
        PieceChange::Added(piece) => format!("+ {:<NAME$}  {}", piece.name, place(piece)),
        PieceChange::Changed(Both { before, after }) => format!(
            "  {:<NAME$}  {} → {}: {}",
            after.name,
            before.range,
            after.range,
            how(before, after)
        ),
    }
}

/// In words what has become of a piece.
fn how(before: &Piece, after: &Piece) -> String {
    let mut words = Vec::new();
    let (from, to) = (before.range.start().get(), after.range.start().get());
    if from != to {
        let direction = if to > from { "up" } else { "down" };
        words.push(format!("moved {direction} by {}", Size(to.abs_diff(from))));
    }
    let (old, new) = (before.range.len(), after.range.len());
    if old != new {
        let verb = if new > old { "grew" } else { "shrank" };
        words.push(format!("{verb} by {}", Size(new.abs_diff(old))));
    }
    if words.is_empty() {
        words.push("filled differently".into());
    }
    words.join(", ")
}

fn json(diff: &PlanDiff<'_>) -> String {
    to_text(&Told {
        schema: "firstlight.diff/1",
        same: diff.is_empty(),
        image: diff.image.map(Change::of),
        protocol: diff
            .protocol
            .map(|Both { before, after }| Change::between(before.name(), after.name())),
        cmdline: diff.cmdline.map(Change::of),
        map: diff.pieces.iter().map(part).collect(),
        e820: diff.e820.iter().map(line).collect(),
        registers: diff.registers.iter().map(register).collect(),
    })
}

#[derive(Serialize)]
struct Told<'a> {
    schema: &'static str,
    same: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Change<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Change<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmdline: Option<Change<&'a str>>,
    map: Vec<Named<'a, Span>>,
    e820: Vec<Line>,
    registers: Vec<Named<'a, Hex>>,
}

/// What was, and what is instead.
#[derive(Serialize)]
struct Change<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<T>,
}

impl<T> Change<T> {
    fn between(before: T, after: T) -> Self {
        Self {
            before: Some(before),
            after: Some(after),
        }
    }

    fn of(both: Both<T>) -> Self {
        Self::between(both.before, both.after)
    }
}

#[derive(Serialize)]
struct Named<'a, T> {
    name: &'a str,
    #[serde(flatten)]
    change: Change<T>,
}

fn part<'a>(change: &'a PieceChange<'a>) -> Named<'a, Span> {
    let span = |piece: &Piece| Some(Span::of(piece.range));
    let (before, after) = match change {
        PieceChange::Removed(piece) => (span(piece), None),
        PieceChange::Added(piece) => (None, span(piece)),
        PieceChange::Changed(both) => (span(both.before), span(both.after)),
    };
    Named {
        name: &change.piece().name,
        change: Change { before, after },
    }
}

#[derive(Serialize)]
struct Line {
    change: &'static str,
    #[serde(flatten)]
    span: Span,
    #[serde(rename = "type")]
    number: u32,
    kind: String,
}

fn line(change: &E820Change) -> Line {
    let (change, entry) = match change {
        E820Change::Removed(entry) => ("removed", entry),
        E820Change::Added(entry) => ("added", entry),
    };
    Line {
        change,
        span: Span::of(entry.range),
        number: entry.kind as u32,
        kind: entry.kind.to_string(),
    }
}

fn register(change: &RegisterChange) -> Named<'static, Hex> {
    let Both { before, after } = change.value;
    Named {
        name: change.register,
        change: Change::between(Hex(before), Hex(after)),
    }
}
