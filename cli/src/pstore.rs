//! `firstlight pstore`, and the crash log that a guest is given by `--pstore`.

use crate::args::{GuestArgs, PstoreArgs, PstoreFormat};
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, printable};
use crate::{json, output};
use firstlight_boot::CrashLog;
use firstlight_image::Architecture;
use firstlight_vmm::{CrashRecord, MemoryFile, MemoryFilePurpose, RecordKind, crash_records};
use serde_json::{Value, json as value};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The name and version of the JSON.
const SCHEMA: &str = "firstlight.pstore/1";

/// Where the guest's crash log lies, if it is to have one: as large as its file is already, unless that
/// is said.
pub(crate) fn of(
    args: &GuestArgs,
    architecture: Architecture,
) -> Result<Option<CrashLog>, Failure> {
    let Some(wanted) = &args.pstore else {
        return Ok(None);
    };
    let len = wanted.len.unwrap_or_else(|| {
        let len = fs::metadata(&wanted.path).map_or(0, |metadata| metadata.len());
        if len == 0 { CrashLog::DEFAULT_LEN } else { len }
    });
    let log = CrashLog::new(architecture, args.memory, len);
    log.map(Some).map_err(|error| {
        let what = format!("--pstore {}", wanted.path.display());
        Failure::because(ExitStatus::Usage, what, &error)
    })
}

/// The same with its file.
pub(crate) fn file(
    args: &GuestArgs,
    architecture: Architecture,
) -> Result<Option<MemoryFile>, Failure> {
    let log = of(args, architecture)?;
    Ok(log
        .zip(args.pstore.as_ref())
        .map(|(log, wanted)| MemoryFile {
            purpose: MemoryFilePurpose::CrashLog,
            path: wanted.path.clone(),
            range: log.range(),
            initial: Vec::new(),
        }))
}

/// Shows what dead guests' kernels left in a crash log.
pub(crate) fn pstore(args: &PstoreArgs) -> Result<(), Failure> {
    let records = crash_records(&read(&args.file)?);
    match args.format {
        PstoreFormat::Json => output::print(json::to_text(&as_json(&records))),
        PstoreFormat::Text if records.is_empty() => {
            output::note(&format!("{}: nothing was left behind", args.file.display()));
            Ok(())
        }
        PstoreFormat::Text => output::print(as_text(&records)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |status, error: &std::io::Error| {
        Failure::because(status, format!("cannot read {}", path.display()), error)
    };
    let metadata = fs::metadata(path).map_err(|error| failed(ExitStatus::Host, &error))?;
    let len = metadata.len();
    let lengths = CrashLog::MIN_LEN..=CrashLog::MAX_LEN;
    if !metadata.is_file() || !lengths.contains(&len) {
        return Err(Failure::new(
            ExitStatus::Usage,
            format!(
                "{} is no crash log: those are files of {:#x} to {:#x} bytes",
                path.display(),
                CrashLog::MIN_LEN,
                CrashLog::MAX_LEN
            ),
        ));
    }
    fs::read(path).map_err(|error| failed(ExitStatus::Host, &error))
}

fn as_text(records: &[CrashRecord]) -> String {
    let mut text = String::new();
    for record in records {
        let title = match &record.kind {
            RecordKind::Dump {
                reason,
                count,
                time,
            } => {
                let reason = printable(reason);
                format!("{reason} #{count}, {} s after 1970", time.as_secs())
            }
            RecordKind::Console => "console".to_owned(),
        };
        writeln!(text, "== {title}").expect("a String takes all");
        for line in String::from_utf8_lossy(&record.text).lines() {
            writeln!(text, "{}", printable(line)).expect("a String takes all");
        }
    }
    text
}

fn as_json(records: &[CrashRecord]) -> Value {
    let records = records.iter().map(|record| {
        let text = String::from_utf8_lossy(&record.text);
        match &record.kind {
            RecordKind::Dump {
                reason,
                count,
                time,
            } => value!({
                "kind": "dump",
                "reason": reason,
                "count": count,
                "seconds_since_1970": time.as_secs(),
                "text": text,
            }),
            RecordKind::Console => value!({ "kind": "console", "text": text }),
        }
    });
    value!({ "schema": SCHEMA, "records": records.collect::<Vec<_>>() })
}
