//! What is in a crash log (Linux `fs/pstore/ram_core.c` and `fs/pstore/ram.c`).

use firstlight_base::Reader;
use std::cmp::Reverse;
use std::time::Duration;

/// Something that a kernel left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashRecord {
    /// What it is.
    pub kind: RecordKind,
    /// The text, as the kernel wrote it.
    pub text: Vec<u8>,
}

/// What a kernel leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Its log when it died, or nearly so.
    Dump {
        /// Why it was written, as the kernel calls it: `Panic`, `Oops`.
        reason: String,
        /// How often that kernel had written one by then, this one included.
        count: u32,
        /// When, since 1970.
        time: Duration,
    },
    /// What it printed on its console, up to the last byte.
    Console,
}

/// All that is in a crash log, the oldest first; what is no record is passed over, for a guest can write
/// anything there.
#[must_use]
pub fn crash_records(bytes: &[u8]) -> Vec<CrashRecord> {
    let mut parts: Vec<Part> = Vec::new();
    let mut consoles = Vec::new();
    for zone in zones(bytes) {
        match Part::read(&zone) {
            Some(part) => parts.push(part),
            None => consoles.push(CrashRecord {
                kind: RecordKind::Console,
                text: zone,
            }),
        }
    }
    // The last part of a dump is written first.
    parts.sort_by_key(|part| (part.time, part.count, Reverse(part.number)));
    let mut records: Vec<CrashRecord> = Vec::new();
    for part in parts {
        let kind = RecordKind::Dump {
            reason: part.reason,
            count: part.count,
            time: part.time,
        };
        match records.last_mut().filter(|last| last.kind == kind) {
            Some(whole) => whole.text.extend(part.text),
            None => records.push(CrashRecord {
                kind,
                text: part.text,
            }),
        }
    }
    records.extend(consoles);
    records
}

/// What each zone begins with, as a number and two more: where the next byte goes, and how many there
/// are.
const SIGNATURE: u32 = 0x4347_4244;
const HEADER: usize = 12;
/// Zones begin at whole pages.
const PAGE: usize = 4096;
/// The most that a part is unpacked to; kernels write some 10 KiB.
const MOST: usize = 1 << 20;

/// The bytes of each zone that has any, oldest first: it is a ring.
fn zones(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut zones = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let zone = zone(rest);
        let len = zone.as_ref().map_or(1, |zone| HEADER + zone.len());
        at += len.next_multiple_of(PAGE);
        zones.extend(zone.filter(|zone| !zone.is_empty()));
    }
    zones
}

fn zone(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Reader::new(bytes);
    if header.u32_le(0).ok()? != SIGNATURE {
        return None;
    }
    let start = usize::try_from(header.u32_le(4).ok()?).ok()?;
    let size = usize::try_from(header.u32_le(8).ok()?).ok()?;
    let data = bytes.get(HEADER..HEADER.checked_add(size)?)?;
    let (newer, older) = data.split_at_checked(start)?;
    Some([older, newer].concat())
}

/// A part of a dump.
struct Part {
    reason: String,
    count: u32,
    /// Counted from the end of the log.
    number: u32,
    time: Duration,
    text: Vec<u8>,
}

impl Part {
    /// `====1764177611.123456-C`, a newline and the packed text, or `-D` and the text itself; that
    /// begins with `Panic#1 Part2` and a newline.
    fn read(zone: &[u8]) -> Option<Self> {
        let (header, body) = line(zone)?;
        let (time, form) = header.strip_prefix("====")?.rsplit_once('-')?;
        let (seconds, micros) = time.split_once('.')?;
        let micros = micros.parse::<u64>().ok()?;
        let time = Duration::from_secs(seconds.parse().ok()?)
            .checked_add(Duration::from_micros(micros))?;
        let text = match form {
            "C" => unpack(body)?,
            "D" => body.to_vec(),
            _ => return None,
        };
        let (title, text) = line(&text)?;
        let (reason, numbers) = title.split_once('#')?;
        let (count, number) = numbers.split_once(" Part")?;
        Some(Self {
            reason: reason.to_owned(),
            count: count.parse().ok()?,
            number: number.parse().ok()?,
            time,
            text: text.to_vec(),
        })
    }
}

/// What is packed by deflate, without a header; an unfinished one is read as far as it goes.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    match miniz_oxide::inflate::decompress_to_vec_with_limit(bytes, MOST) {
        Ok(text) => Some(text),
        Err(error) => Some(error.output).filter(|text| !text.is_empty()),
    }
}

/// The first line, and what is behind it.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    Some((str::from_utf8(line).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec;

    /// A zone of two pages whose ring has been written to as far as `start`.
    fn zone(start: usize, data: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_le_bytes().to_vec();
        for number in [start, data.len()] {
            bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        bytes.extend(data);
        bytes.resize(2 * PAGE, 0);
        bytes
    }

    fn part(form: char, text: &str) -> Vec<u8> {
        let mut data = format!("====1764177611.000500-{form}\n").into_bytes();
        match form {
            'C' => data.extend(compress_to_vec(text.as_bytes(), 6)),
            _ => data.extend(text.as_bytes()),
        }
        zone(data.len(), &data)
    }

    fn dump(reason: &str, count: u32, text: &str) -> CrashRecord {
        CrashRecord {
            kind: RecordKind::Dump {
                reason: reason.to_owned(),
                count,
                time: Duration::new(1_764_177_611, 500_000),
            },
            text: text.into(),
        }
    }

    #[test]
    fn the_parts_of_a_dump_are_one_record() {
        let log = [
            part('C', "Panic#2 Part1\nthe end\n"),
            part('D', "Panic#2 Part2\nthe middle\n"),
            part('C', "Panic#2 Part3\nthe beginning\n"),
            part('D', "Oops#1 Part1\nbefore\n"),
        ]
        .concat();
        let records = crash_records(&log);
        let whole = "the beginning\nthe middle\nthe end\n";
        assert_eq!(
            records,
            [dump("Oops", 1, "before\n"), dump("Panic", 2, whole)]
        );
    }

    #[test]
    fn a_console_is_a_ring() {
        let log = zone(4, b"new\nold\n");
        let console = CrashRecord {
            kind: RecordKind::Console,
            text: b"old\nnew\n".to_vec(),
        };
        assert_eq!(crash_records(&log), [console]);
    }

    #[test]
    fn an_empty_log_has_nothing() {
        assert_eq!(crash_records(&[]), []);
        assert_eq!(crash_records(&vec![0; 1 << 20]), []);
        assert_eq!(crash_records(&zone(0, b"")), []);
    }

    #[test]
    fn what_is_cut_off_or_made_up_harms_nobody() {
        let text = format!("Panic#1 Part1\n{}", "so it ends\n".repeat(100));
        let log = [part('C', &text), part('D', &text)].concat();
        for end in 0..log.len() {
            assert!(crash_records(&log[..end]).len() <= 2);
        }
        for at in 0..256 {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut log = log.clone();
                log[at] = byte;
                assert!(crash_records(&log).len() <= 2);
            }
        }
        for (start, size) in [(u32::MAX, 1), (1, u32::MAX), (2, 1), (u32::MAX, u32::MAX)] {
            let mut log = zone(1, b"x");
            log[4..8].copy_from_slice(&start.to_le_bytes());
            log[8..12].copy_from_slice(&size.to_le_bytes());
            assert_eq!(crash_records(&log), []);
        }
    }

    #[test]
    fn a_bomb_is_unpacked_so_far_and_no_further() {
        let mut data = b"====1.0-C\n".to_vec();
        data.extend(compress_to_vec(&vec![b'x'; 64 << 20], 9));
        assert!(unpack(&data[10..]).unwrap().len() <= MOST);
    }
}
