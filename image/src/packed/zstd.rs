//! Zstandard frames (RFC 8878).

use super::output::{Fault, Output};
use alloc::string::ToString;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read;

/// The widest window that is unpacked. Kernels are packed with `zstd -22 --ultra`, whose window
/// this is.
const WINDOW_MAX: u64 = 128 << 20;
/// Bytes unpacked between two looks at the limit.
const STEP: usize = 1 << 20;

/// Unpacks every frame of `stream`.
///
/// Memory beyond the output is bounded by the window; the decoder takes it as it fills it.
pub(super) fn unpack(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut rest = stream;
    while !rest.is_empty() {
        rest = first(rest, output)?;
    }
    Ok(())
}

/// Unpacks the first frame of `stream`, or skips it; gives what follows it.
pub(super) fn first<'a>(stream: &'a [u8], output: &mut Output) -> Result<&'a [u8], Fault> {
    let mut rest = stream;
    // A decoder for each frame: one that is used again takes the whole window at once.
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW_MAX);
    match decoder.init(&mut rest) {
        Ok(()) => frame(&mut decoder, &mut rest, output)?,
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
            length,
            ..
        })) => {
            let length = usize::try_from(length).or(Err(Fault::Ends))?;
            rest = rest.get(length..).ok_or(Fault::Ends)?;
        }
        Err(error) => return Err(broken(&error)),
    }
    Ok(rest)
}

fn frame(decoder: &mut FrameDecoder, rest: &mut &[u8], output: &mut Output) -> Result<(), Fault> {
    loop {
        decoder
            .decode_blocks(&mut *rest, BlockDecodingStrategy::UptoBytes(STEP))
            .map_err(|error| broken(&error))?;
        while decoder.can_collect() > 0 {
            let written = decoder
                .read(output.spare()?)
                .map_err(|error| Fault::Broken(error.to_string()))?;
            output.advance(written)?;
        }
        if decoder.is_finished() {
            break;
        }
    }
    match decoder.get_checksum_from_data() {
        Some(sum) if decoder.get_calculated_checksum() != Some(sum) => {
            Err(Fault::broken("its checksum is another"))
        }
        _ => Ok(()),
    }
}

fn broken(error: &FrameDecoderError) -> Fault {
    Fault::Broken(error.to_string())
}
