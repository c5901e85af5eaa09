//! xz streams (the .xz file format, 1.2.1) and the older LZMA files.

use super::output::{Fault, Output};
use alloc::format;
use alloc::string::ToString;
use core::fmt::Debug;
use lzma_rust2::{LzmaReader, Read, XzReader};

/// The most memory a decoder may take beside the output, in KiB: the dictionary of `xz -9` is
/// 64 MiB, that of the kernel's build 32 MiB, and this is twice the former.
const MEMORY_KIB: u32 = 128 << 10;

/// Unpacks every stream of `stream`.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    read_all(
        &mut XzReader::new_mem_limit(stream, true, MEMORY_KIB),
        output,
    )
}

/// Unpacks the one stream of an LZMA file.
pub(super) fn unpack_lzma(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut reader = LzmaReader::new_mem_limit(stream, MEMORY_KIB, None).map_err(broken)?;
    read_all(&mut reader, output)
}

/// Unpacks the first stream of `stream`; gives what follows it.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut reader = XzReader::new_mem_limit(stream, false, MEMORY_KIB);
    read_all(&mut reader, output)?;
    Ok(reader.into_inner())
}

/// Unpacks an LZMA file; gives what follows it.
pub(super) fn first_lzma<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut reader = LzmaReader::new_mem_limit(stream, MEMORY_KIB, None).map_err(broken)?;
    read_all(&mut reader, output)?;
    let (rest, unused) = reader.into_parts();
    let behind = rest.len().saturating_add(unused.len());
    let start = stream.len().saturating_sub(behind);
    Ok(stream.get(start..).unwrap_or(&[]))
}

fn read_all(reader: &mut impl Read, output: &mut Output) -> Result<(), Fault> {
    loop {
        let written = reader.read(output.spare()?).map_err(broken)?;
        if written == 0 {
            return Ok(());
        }
        output.advance(written)?;
    }
}

/// The decoder's error; it has words for people only in quotation marks inside its `Debug`.
fn broken(error: impl Debug) -> Fault {
    const OVER_MEMORY: &str = "mem_limit_kb";
    let text = format!("{error:?}");
    if text.contains(OVER_MEMORY) {
        return Fault::broken("its dictionary is larger than 128 MiB");
    }
    match text.split('"').nth(1) {
        Some(words) => Fault::Broken(words.to_string()),
        None if text.contains("Eof") => Fault::Ends,
        None => Fault::Broken(text),
    }
}
