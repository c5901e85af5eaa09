//! xz streams (the .xz file format, 1.2.1) and the older LZMA files, unpacked by the C library:
//! faster, where a compiler for C is at hand.

use super::output::{Fault, Output};
use liblzma::stream::{Action, CONCATENATED, Error, Status, Stream};

/// The most memory a decoder may take beside the output: a dictionary of 128 MiB, as without this
/// library, and what else it needs.
const MEMORY: u64 = 129 << 20;

/// Unpacks every stream of `stream`.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut decoder = Stream::new_stream_decoder(MEMORY, CONCATENATED).map_err(broken)?;
    run(&mut decoder, stream, output).map(drop)
}

/// Unpacks the one stream of an LZMA file.
pub(super) fn unpack_lzma(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    first_lzma(stream, output).map(drop)
}

/// Unpacks the first stream of `stream`; gives what follows it.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut decoder = Stream::new_stream_decoder(MEMORY, 0).map_err(broken)?;
    run(&mut decoder, stream, output)
}

/// Unpacks an LZMA file; gives what follows it.
pub(super) fn first_lzma<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut decoder = Stream::new_lzma_decoder(MEMORY).map_err(broken)?;
    run(&mut decoder, stream, output)
}

fn run<'a>(decoder: &mut Stream, stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut rest = stream;
    loop {
        let before = (decoder.total_in(), decoder.total_out());
        let status = decoder
            .process(rest, output.spare()?, Action::Finish)
            .map_err(broken)?;
        let consumed = difference(decoder.total_in(), before.0);
        let written = difference(decoder.total_out(), before.1);
        output.advance(written)?;
        rest = rest.get(consumed..).ok_or(Fault::Ends)?;
        match status {
            Status::StreamEnd => return Ok(rest),
            _ if consumed == 0 && written == 0 => return Err(Fault::Ends),
            _ => {}
        }
    }
}

fn difference(after: u64, before: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}

fn broken(error: Error) -> Fault {
    match error {
        Error::MemLimit => Fault::broken("its dictionary is larger than 128 MiB"),
        Error::Mem => Fault::NoMemory(MEMORY),
        Error::Format => Fault::broken("it does not begin with its header"),
        Error::Options | Error::UnsupportedCheck => Fault::broken("it has options not known here"),
        Error::Data | Error::NoCheck | Error::Program => {
            Fault::broken("its data or its checksum are wrong")
        }
    }
}
