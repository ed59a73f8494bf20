//! Reads a request body under its caps.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;

use super::inflate::{self, Encoding};

/// Caps of one face.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Bytes on the wire.
    pub max_body_bytes: usize,
    /// Bytes after inflation.
    pub max_inflated_bytes: usize,
}

/// A body in memory: as it came, and inflated.
#[derive(Clone, Debug)]
pub struct Body {
    /// As it came.
    pub raw: Bytes,
    /// Inflated; shares memory with `raw` when there is no encoding.
    pub inflated: Bytes,
    /// How `raw` is encoded.
    pub encoding: Encoding,
}

/// How long a client may take over one body before its connection is given back.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More bytes on the wire than the face takes.
    #[error("the body is larger than {max_bytes} bytes")]
    TooLarge {
        /// The cap.
        max_bytes: usize,
    },
    /// An encoding we do not take.
    #[error("content encoding {0:?} is not supported: use gzip, zstd, deflate or identity")]
    UnknownEncoding(String),
    /// Inflation failed or went over its cap.
    #[error(transparent)]
    Inflate(#[from] inflate::Error),
    /// The client went away or broke the framing.
    #[error("the body could not be read: {0}")]
    Broken(String),
    /// The client was too slow.
    #[error("the body did not arrive within {} seconds", BODY_TIMEOUT.as_secs())]
    TimedOut,
}

impl Error {
    /// Whether the body was above a cap, on the wire or inflated.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Error::TooLarge { .. } | Error::Inflate(inflate::Error::TooLarge { .. }))
    }
}

/// Reads and inflates a body, holding at most the caps' bytes.
pub async fn read<B>(headers: &HeaderMap, body: B, caps: Caps) -> Result<Body, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let encoding = match headers.get(http::header::CONTENT_ENCODING) {
        None => Encoding::Identity,
        Some(value) => {
            let text = value.to_str().unwrap_or("?");
            Encoding::from_header(text).ok_or_else(|| Error::UnknownEncoding(text.to_string()))?
        }
    };
    let raw = tokio::time::timeout(BODY_TIMEOUT, collect(headers, body, caps.max_body_bytes))
        .await
        .map_err(|_| Error::TimedOut)??;
    let inflated = inflate::inflate(encoding, &raw, caps.max_inflated_bytes)?;
    Ok(Body { raw, inflated, encoding })
}

async fn collect<B>(headers: &HeaderMap, mut body: B, max_bytes: usize) -> Result<Bytes, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let announced = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max_bytes) {
        return Err(Error::TooLarge { max_bytes });
    }
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| Error::Broken(e.to_string()))?.into_data() else {
            continue;
        };
        let so_far = first.as_ref().map_or(0, Bytes::len) + joined.len();
        if so_far + data.len() > max_bytes {
            return Err(Error::TooLarge { max_bytes });
        }
        // a body that comes in one piece is not copied
        match (&first, joined.is_empty()) {
            (None, true) => first = Some(data),
            (Some(_), _) => {
                joined.reserve(announced.unwrap_or(0).max(data.len() * 2));
                joined.extend_from_slice(&first.take().unwrap_or_default());
                joined.extend_from_slice(&data);
            }
            (None, false) => joined.extend_from_slice(&data),
        }
    }
    Ok(first.unwrap_or_else(|| joined.freeze()))
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    const CAPS: Caps = Caps {
        max_body_bytes: 10,
        max_inflated_bytes: 20,
    };

    #[tokio::test]
    async fn a_body_is_read_up_to_its_cap() {
        let read = |text: &'static str| async move { read(&HeaderMap::new(), Full::new(Bytes::from_static(text.as_bytes())), CAPS).await };
        assert_eq!(read("0123456789").await.expect("fits").inflated, "0123456789");
        assert!(read("0123456789a").await.expect_err("over").is_too_large());
    }

    #[tokio::test]
    async fn an_unknown_encoding_and_a_false_length_are_told() {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", "br".parse().expect("header"));
        assert!(matches!(read(&headers, Full::new(Bytes::new()), CAPS).await, Err(Error::UnknownEncoding(_))));
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "11".parse().expect("header"));
        assert!(
            read(&headers, Full::new(Bytes::new()), CAPS)
                .await
                .expect_err("announced too much")
                .is_too_large()
        );
    }
}
