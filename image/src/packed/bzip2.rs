//! bzip2 streams, whose format nothing but bzip2's own source describes.
//!
//! Memory beyond the output is below 4 MiB, whatever a stream says.

use super::output::{Fault, Output};
use bzip2::{Decompress, Error, Status};

/// Unpacks every stream of `stream`. What follows the last one and is no stream is not looked at,
/// as `bzip2 -d` does.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut rest = stream;
    loop {
        rest = first(rest, output)?;
        if !rest.starts_with(b"BZh") {
            return Ok(());
        }
    }
}

/// Unpacks the first stream of `stream`; gives what follows it.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut decoder = Decompress::new(false);
    let mut rest = stream;
    loop {
        let before = (decoder.total_in(), decoder.total_out());
        let status = decoder
            .decompress(rest, output.spare()?)
            .map_err(|error| broken(&error))?;
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

fn broken(error: &Error) -> Fault {
    Fault::broken(match error {
        Error::DataMagic => "it does not begin with a bzip2 header",
        Error::Data => "its data or its checksum are wrong",
        Error::Sequence | Error::Param => "the decoder could not go on",
    })
}
