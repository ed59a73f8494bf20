//! Decompression with a cap on what comes out: a small body can never become a large allocation.

use std::io::Read;

use bytes::Bytes;

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
    /// It is not what its encoding says.
    #[error("the body is not valid {encoding:?}: {source}")]
    Corrupt {
        /// The claimed encoding.
        encoding: Encoding,
        /// What the decoder says.
        source: std::io::Error,
    },
}

/// Inflates `raw`, giving at most `max_bytes`.
#[expect(clippy::disallowed_types, reason = "this is the capped door that the lint points to")]
pub fn inflate(encoding: Encoding, raw: &Bytes, max_bytes: usize) -> Result<Bytes, Error> {
    match encoding {
        Encoding::Identity if raw.len() > max_bytes => Err(Error::TooLarge { max_bytes }),
        Encoding::Identity => Ok(raw.clone()),
        Encoding::Gzip => capped(encoding, flate2::read::MultiGzDecoder::new(&raw[..]), raw.len(), max_bytes),
        Encoding::Deflate => capped(encoding, flate2::read::ZlibDecoder::new(&raw[..]), raw.len(), max_bytes),
        Encoding::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(&raw[..]).and_then(|mut decoder| {
                // 2^27 = 128 MiB: a frame may not ask for a larger window
                decoder.window_log_max(27)?;
                Ok(decoder)
            });
            capped(encoding, decoder.map_err(|source| Error::Corrupt { encoding, source })?, raw.len(), max_bytes)
        }
    }
}

fn capped(encoding: Encoding, reader: impl Read, raw_bytes: usize, max_bytes: usize) -> Result<Bytes, Error> {
    let mut out = Vec::with_capacity((raw_bytes.saturating_mul(4)).min(max_bytes));
    reader
        .take(max_bytes as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|source| Error::Corrupt { encoding, source })?;
    if out.len() > max_bytes {
        return Err(Error::TooLarge { max_bytes });
    }
    Ok(out.into())
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
