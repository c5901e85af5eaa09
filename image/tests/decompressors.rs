//! Streams that the usual tools pack, with the options of Linux' build (`scripts/Makefile.lib`).
//!
//! A tool that is not installed is skipped, and the test says so.

use firstlight_image::testing::bzimage;
use firstlight_image::{Image, Limits, UnpackError};
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// What `tool` packs `bytes` to; `None` where it is not installed.
fn pack(tool: &str, options: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(tool)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {tool} is not installed");
            return None;
        }
        Err(error) => panic!("cannot start {tool}: {error}"),
    };
    let mut stdin = child.stdin.take().expect("a pipe to the tool");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).expect("the tool reads all"));
        child.wait_with_output().expect("the tool ends")
    });
    assert!(output.status.success(), "{tool} {options:?} failed");
    Some(output.stdout)
}

/// The beginning of an ELF with machine code in it: this test.
fn program(len: usize) -> Vec<u8> {
    let path = std::env::current_exe().expect("the test has a file");
    let mut bytes = std::fs::read(path).expect("the test's file can be read");
    bytes.truncate(len);
    bytes
}

/// Unpacks `stream` as a kernel's payload, and gives what the kernel would be.
fn unpack(stream: &[u8], len: usize) -> Result<Vec<u8>, UnpackError> {
    let appended = u32::try_from(len).expect("a length of 32 bits");
    let mut payload = stream.to_vec();
    if !stream.starts_with(b"\x1f\x8b") {
        payload.extend(appended.to_le_bytes());
    }
    let file = bzimage().raw_payload(&payload).build();
    let image = Image::open_outer(&file, &Limits::default()).expect("a bzImage");
    let (_, bzimage) = image.bzimage().expect("a bzImage");
    let packed = bzimage.payload.as_ref().expect("a payload");
    packed.unpack(&file, Limits::default().unpacked)
}

#[test]
fn what_the_tools_pack_is_unpacked() {
    // More than a block of LZ4 has; the others have seen enough sooner.
    let (long, short) = (program(9 << 20), program(2 << 20));
    for (tool, options) in [
        ("gzip", &["-n", "-9"][..]),
        ("gzip", &["-n", "-1"]),
        ("zstd", &["-q", "-19"]),
        ("zstd", &["-q", "-22", "--ultra"]),
        ("zstd", &["-q", "-1", "--no-check"]),
        ("xz", &["--check=crc32", "--x86", "--lzma2=dict=32MiB"]),
        ("xz", &["-9", "--check=sha256"]),
        ("xz", &["-0", "--check=none", "--block-size=1MiB"]),
        ("lzma", &["-9"]),
        ("lz4", &["-l", "-9"]),
        ("lz4", &["-l", "-1"]),
        ("lz4", &["-9"]),
        ("lz4", &["-1", "-B4", "-BD", "-BX", "--content-size"]),
        ("lz4", &["-B5", "-BI", "--no-frame-crc"]),
        ("bzip2", &["-9"]),
        ("bzip2", &["-1"]),
        ("lzop", &["-9"]),
        ("lzop", &["-1", "--crc32"]),
        ("lzop", &["-3", "-F"]),
    ] {
        let bytes = if tool == "lz4" { &long } else { &short };
        if let Some(stream) = pack(tool, options, bytes) {
            let unpacked = unpack(&stream, bytes.len());
            assert!(unpacked.as_ref() == Ok(bytes), "{tool} {options:?}");
        }
    }
}

#[test]
fn a_stream_of_a_tool_that_is_cut_or_changed_is_told() {
    let bytes = &program(100_000)[..];
    for (tool, options) in [
        ("gzip", &["-n", "-9"][..]),
        ("zstd", &["-q", "-19"]),
        ("xz", &["--check=crc32", "--x86", "--lzma2=dict=32MiB"]),
        ("lzma", &["-9"]),
        ("lz4", &["-l", "-9"]),
        ("lz4", &["-9", "-BD"]),
        ("bzip2", &["-9"]),
        ("lzop", &["-9"]),
    ] {
        let Some(stream) = pack(tool, options, bytes) else {
            continue;
        };
        for len in (8..stream.len()).step_by(stream.len() / 50) {
            assert!(
                unpack(&stream[..len], bytes.len()).is_err(),
                "{tool} cut at {len}"
            );
            let mut changed = stream.clone();
            changed[len] ^= 0x40;
            let unpacked = unpack(&changed, bytes.len());
            // LZ4's legacy frames and LZMA's files have no checksum.
            let is_checked = tool != "lzma" && !options.contains(&"-l");
            assert!(
                !is_checked || unpacked.is_err() || unpacked.as_deref() == Ok(bytes),
                "{tool} with byte {len:#x} changed"
            );
        }
    }
}
