//! Decompression with a cap on what comes out: a small body can never become a large allocation.

use std::io::Read;

use bytes::Bytes;

use super::budget::Exhausted;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// As it is.
    Identity = 0,
    /// RFC 1952, one or more members.
    Gzip = 1,
    /// RFC 8878.
    Zstd = 2,
    /// RFC 1950 (HTTP's `deflate`).
    Deflate = 3,
}

impl Encoding {
    /// Reads a `Content-Encoding` header; `None` for an encoding we do not take. Empty means identity.
    pub fn from_header(value: &str) -> Option<Encoding> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Some(Encoding::Identity),
            "gzip" | "x-gzip" => Some(Encoding::Gzip),
            "zstd" => Some(Encoding::Zstd),
            "deflate" => Some(Encoding::Deflate),
            _ => None,
        }
    }
    /// Reads the number back, as the log stores it.
    pub fn from_u8(number: u8) -> Option<Encoding> {
        [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Deflate]
            .into_iter()
            .find(|e| *e as u8 == number)
    }
}

/// Why a body could not be inflated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It inflates to more than is allowed.
    #[error("the body inflates to more than {max_bytes} bytes")]
    TooLarge {
        /// The cap.
        max_bytes: usize,
    },
    /// There is no memory for what comes out.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// It is not what its encoding says.
    #[error("the body is not valid {encoding:?}: {source}")]
    Corrupt {
        /// The claimed encoding.
        encoding: Encoding,
        /// What the decoder says.
        source: std::io::Error,
    },
}

/// The first step of inflation, at the least.
const MIN_STEP_BYTES: usize = 16 * 1024;

/// Inflates `raw`, giving at most `max_bytes`.
pub fn inflate(encoding: Encoding, raw: &Bytes, max_bytes: usize) -> Result<Bytes, Error> {
    inflate_holding(encoding, raw, max_bytes, &mut |_| Ok(()))
}

/// The same in steps; `hold` is told before each how many bytes there may be after it, and may say no. A body without
/// encoding is shared with `raw` and takes none.
#[expect(clippy::disallowed_types, reason = "this is the capped door that the lint points to")]
pub fn inflate_holding(encoding: Encoding, raw: &Bytes, max_bytes: usize, hold: &mut dyn FnMut(usize) -> Result<(), Exhausted>) -> Result<Bytes, Error> {
    let mut out = Steps { encoding, max_bytes, hold };
    match encoding {
        Encoding::Identity if raw.len() > max_bytes => Err(Error::TooLarge { max_bytes }),
        Encoding::Identity => Ok(raw.clone()),
        Encoding::Gzip => out.read(flate2::read::MultiGzDecoder::new(&raw[..]), raw.len()),
        Encoding::Deflate => out.read(flate2::read::ZlibDecoder::new(&raw[..]), raw.len()),
        Encoding::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(&raw[..]).and_then(|mut decoder| {
                // 2^27 = 128 MiB: a frame may not ask for a larger window
                decoder.window_log_max(27)?;
                Ok(decoder)
            });
            out.read(decoder.map_err(|source| Error::Corrupt { encoding, source })?, raw.len())
        }
    }
}

struct Steps<'h> {
    encoding: Encoding,
    max_bytes: usize,
    hold: &'h mut dyn FnMut(usize) -> Result<(), Exhausted>,
}

impl Steps<'_> {
    fn read(&mut self, mut reader: impl Read, raw_bytes: usize) -> Result<Bytes, Error> {
        let mut out = Vec::new();
        // four times is usual for telemetry; then twice as many each time
        let mut step = raw_bytes.saturating_mul(4).max(MIN_STEP_BYTES);
        loop {
            let before = out.len();
            // one byte more than allowed tells that there is more
            let until = before.saturating_add(step).min(self.max_bytes.saturating_add(1));
            (self.hold)(until)?;
            out.reserve_exact(until - before);
            let source = |source| Error::Corrupt {
                encoding: self.encoding,
                source,
            };
            (&mut reader).take((until - before) as u64).read_to_end(&mut out).map_err(source)?;
            if out.len() > self.max_bytes {
                return Err(Error::TooLarge { max_bytes: self.max_bytes });
            }
            if out.len() < until {
                return Ok(out.into());
            }
            step = out.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(data: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).expect("memory");
        encoder.finish().expect("memory").into()
    }

    #[test]
    fn every_encoding_round_trips_and_a_bomb_is_refused() {
        let data = vec![7u8; 100_000];
        let zstd = Bytes::from(zstd::encode_all(&data[..], 1).expect("memory"));
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&data).expect("memory");
        let zlib = Bytes::from(zlib.finish().expect("memory"));
        for (encoding, raw) in [
            (Encoding::Gzip, gzip(&data)),
            (Encoding::Zstd, zstd),
            (Encoding::Deflate, zlib),
            (Encoding::Identity, data.clone().into()),
        ] {
            assert_eq!(inflate(encoding, &raw, 100_000).expect("fits"), data, "{encoding:?}");
            assert!(
                matches!(inflate(encoding, &raw, 99_999), Err(Error::TooLarge { max_bytes: 99_999 })),
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn what_comes_out_is_held_before_it_is_there() {
        let mut held = Vec::new();
        let raw = gzip(&vec![7; 300_000]);
        let inflated = inflate_holding(Encoding::Gzip, &raw, 1 << 20, &mut |bytes| {
            held.push(bytes);
            Ok(())
        });
        assert_eq!(inflated.expect("fits").len(), 300_000);
        assert!(held.is_sorted() && held[0] < 20_000 && *held.last().expect("steps") >= 300_000, "{held:?}");
        let refused = inflate_holding(Encoding::Gzip, &raw, 1 << 20, &mut |bytes| {
            if bytes > 100_000 {
                Err(Exhausted::Busy { max_bytes: 100_000 })
            } else {
                Ok(())
            }
        });
        assert!(matches!(refused, Err(Error::Exhausted(_))));
    }

    #[test]
    fn members_are_concatenated_and_damage_is_named() {
        let two = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(inflate(Encoding::Gzip, &two.clone().into(), 10).expect("fits"), "ab");
        for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Deflate] {
            assert!(
                matches!(inflate(encoding, &Bytes::from_static(b"no such thing"), 10), Err(Error::Corrupt { .. })),
                "{encoding:?}"
            );
        }
        assert!(matches!(
            inflate(Encoding::Gzip, &Bytes::copy_from_slice(&two[..two.len() - 3]), 10),
            Err(Error::Corrupt { .. })
        ));
    }
}
