//! Compressed streams: recognising them, and unpacking them within limits.

#[cfg(feature = "std")]
mod bzip2;
mod gzip;
mod lz4;
mod lz4_frame;
mod lzo;
mod output;
#[cfg(not(feature = "xz-c"))]
mod xz;
#[cfg(feature = "xz-c")]
mod xz_c;
#[cfg(not(feature = "zstd-c"))]
mod zstd;
#[cfg(feature = "zstd-c")]
mod zstd_c;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use firstlight_base::Reader;
use output::{Fault, Output};
#[cfg(feature = "xz-c")]
use xz_c as xz;
#[cfg(feature = "zstd-c")]
use zstd_c as zstd;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all (`CONFIG_KERNEL_UNCOMPRESSED`).
    Stored,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz.
    Xz,
    /// The older format of the LZMA tools, without checks.
    Lzma,
    /// LZ4 in the legacy frames that the kernel's build makes.
    Lz4Legacy,
    /// LZ4 in today's frames.
    Lz4Frame,
    /// bzip2; unpacked with the crate's feature `std` only.
    Bzip2,
    /// lzop.
    Lzo,
    /// None that is known here; the stream's first bytes.
    Unknown([u8; 4]),
}

impl Codec {
    /// The codec whose magic `stream` begins with; [`Stored`](Self::Stored) for an ELF file.
    #[must_use]
    pub fn of(stream: &[u8]) -> Self {
        if is_lzma(stream) {
            return Self::Lzma;
        }
        const MAGICS: [(&[u8], Codec); 8] = [
            (b"\x7fELF", Codec::Stored),
            (b"\x1f\x8b\x08", Codec::Gzip),
            (b"\x28\xb5\x2f\xfd", Codec::Zstd),
            (b"\xfd7zXZ\0", Codec::Xz),
            (b"\x02\x21\x4c\x18", Codec::Lz4Legacy),
            (b"\x04\x22\x4d\x18", Codec::Lz4Frame),
            (b"BZh", Codec::Bzip2),
            (b"\x89LZO\0\r\n\x1a\n", Codec::Lzo),
        ];
        MAGICS
            .iter()
            .find(|(magic, _)| stream.starts_with(magic))
            .map_or_else(
                || {
                    let mut first = [0; 4];
                    for (to, from) in first.iter_mut().zip(stream) {
                        *to = *from;
                    }
                    Self::Unknown(first)
                },
                |&(_, codec)| codec,
            )
    }

    /// How many bytes one byte of a stream can become at most, roughly and upwards: a claim beyond
    /// it is not worth allocating for.
    const fn most_per_byte(self) -> u64 {
        match self {
            Self::Stored | Self::Unknown(_) => 1,
            // 258 bytes from two bits.
            Self::Gzip => 1032,
            // A block of 128 KiB from four bytes.
            Self::Zstd => 1 << 15,
            // 273 bytes from about a third of a bit.
            Self::Xz | Self::Lzma => 1 << 13,
            Self::Lz4Legacy | Self::Lz4Frame => 255,
            Self::Bzip2 => 1 << 16,
            Self::Lzo => 255,
        }
    }
}

/// Whether `stream` begins as an LZMA file does, which has no magic: the usual properties, a
/// dictionary of whole 64 KiB, and a length that is not known or below 256 GiB.
fn is_lzma(stream: &[u8]) -> bool {
    const LEN_MAX: u64 = 256 << 30;
    let len = Reader::new(stream).u64_le(5);
    stream.starts_with(b"\x5d\0\0") && len.is_ok_and(|len| len == u64::MAX || len <= LEN_MAX)
}

impl Codec {
    /// Unpacks the stream that `bytes` begin with, into at most `limit` bytes, whatever follows it;
    /// gives what does.
    ///
    /// Where a codec's streams have no end of their own, the whole of `bytes` is one.
    ///
    /// # Errors
    ///
    /// As [`Packed::unpack`].
    pub fn unpack_first(self, bytes: &[u8], limit: u64) -> Result<(Vec<u8>, &[u8]), UnpackError> {
        let packed = Packed {
            codec: self,
            range: 0..bytes.len() as u64,
            unpacked_len: None,
        };
        let first = match self {
            Self::Gzip => gzip::member,
            Self::Zstd => zstd::first,
            Self::Xz => xz::first,
            Self::Lzma => xz::first_lzma,
            Self::Lz4Legacy => lz4::first,
            Self::Lz4Frame => lz4_frame::first,
            Self::Lzo => lzo::first,
            #[cfg(feature = "std")]
            Self::Bzip2 => bzip2::first,
            #[cfg(not(feature = "std"))]
            Self::Bzip2 => return Err(UnpackError::Unsupported { codec: self }),
            Self::Stored | Self::Unknown(_) => {
                return Ok((packed.unpack(bytes, limit)?, &[]));
            }
        };
        let plausible = (bytes.len() as u64).saturating_mul(self.most_per_byte());
        let fault = |fault| packed.error(fault, limit);
        let mut output = Output::new(None, plausible, limit).map_err(fault)?;
        let rest = first(bytes, &mut output).map_err(fault)?;
        Ok((output.into_bytes(), rest))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.pad("uncompressed"),
            Self::Gzip => f.pad("gzip"),
            Self::Zstd => f.pad("zstd"),
            Self::Xz => f.pad("xz"),
            Self::Lzma => f.pad("lzma"),
            Self::Lz4Legacy => f.pad("lz4"),
            Self::Lz4Frame => f.pad("lz4 (frames)"),
            Self::Bzip2 => f.pad("bzip2"),
            Self::Lzo => f.pad("lzo"),
            Self::Unknown([a, b, c, d]) => {
                write!(f, "unknown compression ({a:02x} {b:02x} {c:02x} {d:02x})")
            }
        }
    }
}

/// A compressed stream inside a layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// How it is compressed.
    pub codec: Codec,
    /// Where it is in the layer, without the length that a kernel's build appends to it.
    pub range: Range<u64>,
    /// How many bytes it is said to unpack to.
    pub unpacked_len: Option<u64>,
}

impl Packed {
    /// Unpacks the stream from `layer`, the bytes it was found in, into at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`UnpackError`] where the stream is broken, is not what it claims, or goes beyond the limit.
    pub fn unpack(&self, layer: &[u8], limit: u64) -> Result<Vec<u8>, UnpackError> {
        let codec = self.codec;
        let stream = self.stream(layer)?;
        let decode = match codec {
            Codec::Stored => stored,
            Codec::Gzip => gzip::unpack,
            Codec::Zstd => zstd::unpack,
            Codec::Xz => xz::unpack,
            Codec::Lzma => xz::unpack_lzma,
            Codec::Lz4Legacy => lz4::unpack,
            Codec::Lz4Frame => lz4_frame::unpack,
            Codec::Lzo => lzo::unpack,
            #[cfg(feature = "std")]
            Codec::Bzip2 => bzip2::unpack,
            #[cfg(not(feature = "std"))]
            Codec::Bzip2 => return Err(UnpackError::Unsupported { codec }),
            Codec::Unknown(_) => return Err(UnpackError::Unsupported { codec }),
        };
        if let Some(claimed) = self.unpacked_len
            && claimed > limit
        {
            return Err(UnpackError::ClaimOverLimit {
                codec,
                claimed,
                limit,
            });
        }
        let plausible = (stream.len() as u64).saturating_mul(codec.most_per_byte());
        let mut output = Output::new(self.unpacked_len, plausible, limit)
            .map_err(|fault| self.error(fault, limit))?;
        decode(stream, &mut output).map_err(|fault| self.error(fault, limit))?;
        let unpacked = output.into_bytes();
        match self.unpacked_len {
            Some(claimed) if claimed != unpacked.len() as u64 => {
                Err(UnpackError::ShorterThanClaim {
                    codec,
                    claimed,
                    unpacked: unpacked.len() as u64,
                })
            }
            _ => Ok(unpacked),
        }
    }

    /// The bytes themselves, in `layer`, of a stream that is not compressed; it is held to the same
    /// limits as one that is.
    ///
    /// # Errors
    ///
    /// As [`unpack`](Self::unpack).
    pub(crate) fn stored<'a>(&self, layer: &'a [u8], limit: u64) -> Result<&'a [u8], UnpackError> {
        let stream = self.stream(layer)?;
        let len = stream.len() as u64;
        let codec = self.codec;
        match self.unpacked_len {
            Some(claimed) if claimed > limit => Err(UnpackError::ClaimOverLimit {
                codec,
                claimed,
                limit,
            }),
            Some(claimed) if claimed < len => Err(UnpackError::LongerThanClaim { codec, claimed }),
            Some(claimed) if claimed > len => Err(UnpackError::ShorterThanClaim {
                codec,
                claimed,
                unpacked: len,
            }),
            None if len > limit => Err(UnpackError::OverLimit { codec, limit }),
            _ => Ok(stream),
        }
    }

    fn stream<'a>(&self, layer: &'a [u8]) -> Result<&'a [u8], UnpackError> {
        self.range
            .end
            .checked_sub(self.range.start)
            .and_then(|len| Reader::new(layer).slice(self.range.start, len).ok())
            .ok_or_else(|| UnpackError::OutsideLayer {
                range: self.range.clone(),
                len: layer.len() as u64,
            })
    }

    fn error(&self, fault: Fault, limit: u64) -> UnpackError {
        let codec = self.codec;
        match fault {
            Fault::Full => match self.unpacked_len {
                Some(claimed) => UnpackError::LongerThanClaim { codec, claimed },
                None => UnpackError::OverLimit { codec, limit },
            },
            Fault::NoMemory(len) => UnpackError::NoMemory { codec, len },
            Fault::Ends => UnpackError::Ends { codec },
            Fault::Broken(what) => UnpackError::Broken { codec, what },
        }
    }
}

fn stored(stream: &[u8], output: &mut Output) -> Result<(), Fault> {
    output.append(stream)
}

/// Why a stream could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The layer is not the one that the stream was found in.
    #[error(
        "the stream at {:#x}..{:#x} is not inside the {len:#x} bytes it was found in",
        range.start, range.end
    )]
    OutsideLayer {
        /// Where the stream was.
        range: Range<u64>,
        /// Bytes in the layer.
        len: u64,
    },
    /// This codec is recognised but cannot be unpacked.
    #[error("{codec} cannot be unpacked here")]
    Unsupported {
        /// The codec.
        codec: Codec,
    },
    /// The stream says by itself that it is too long.
    #[error("the {codec} stream claims {claimed} bytes, more than the limit of {limit}")]
    ClaimOverLimit {
        /// The codec.
        codec: Codec,
        /// Bytes it is said to unpack to.
        claimed: u64,
        /// Bytes it may unpack to.
        limit: u64,
    },
    /// Unpacking was stopped at the limit.
    #[error("the {codec} stream unpacks to more than the limit of {limit} bytes")]
    OverLimit {
        /// The codec.
        codec: Codec,
        /// Bytes it may unpack to.
        limit: u64,
    },
    /// Unpacking was stopped at the claimed length.
    #[error("the {codec} stream unpacks to more than the {claimed} bytes it claims")]
    LongerThanClaim {
        /// The codec.
        codec: Codec,
        /// Bytes it is said to unpack to.
        claimed: u64,
    },
    /// The stream is whole, but shorter than it claims.
    #[error("the {codec} stream claims {claimed} bytes, but unpacks to {unpacked}")]
    ShorterThanClaim {
        /// The codec.
        codec: Codec,
        /// Bytes it is said to unpack to.
        claimed: u64,
        /// Bytes it does unpack to.
        unpacked: u64,
    },
    /// The stream's last bytes are missing.
    #[error("the {codec} stream ends early")]
    Ends {
        /// The codec.
        codec: Codec,
    },
    /// The stream is not what its format allows, or its checksum is another.
    #[error("the {codec} stream is broken: {what}")]
    Broken {
        /// The codec.
        codec: Codec,
        /// What the decoder stumbled over.
        what: String,
    },
    /// The host gave no memory.
    #[error("no memory for the {len} bytes that the {codec} stream unpacks to")]
    NoMemory {
        /// The codec.
        codec: Codec,
        /// Bytes asked for.
        len: u64,
    },
}

#[cfg(test)]
mod tests;
