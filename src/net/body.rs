//! Reads a request body under its caps and out of the budget that all requests share.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;

use super::budget::{Exhausted, Share};
use super::inflate::{self, Encoding};

/// Caps of one face.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Bytes on the wire.
    pub max_body_bytes: usize,
    /// Bytes after inflation.
    pub max_inflated_bytes: usize,
}

/// A body in memory, as it came.
#[derive(Debug)]
pub struct Body {
    /// As it came.
    pub raw: Bytes,
    /// How `raw` is encoded.
    pub encoding: Encoding,
    /// What it holds of the budget: `raw`, and the inflated body when there is one.
    pub share: Share,
    max_inflated_bytes: usize,
}

impl Body {
    /// The inflated body; shares memory with `raw` when there is no encoding. Takes its time for a large one.
    pub fn inflate(&mut self) -> Result<Bytes, Error> {
        let Self {
            raw,
            encoding,
            share,
            max_inflated_bytes,
        } = self;
        let mut hold = |bytes: usize| share.hold(raw.len().saturating_add(bytes));
        Ok(inflate::inflate_holding(*encoding, raw, *max_inflated_bytes, &mut hold)?)
    }

    /// The inflated body if it has at most `max_bytes`; `None` if it has more, which takes no time to tell.
    pub fn inflate_small(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Error> {
        let max_bytes = max_bytes.min(self.max_inflated_bytes);
        if self.raw.len() > max_bytes {
            return Ok(None);
        }
        match inflate::inflate(self.encoding, &self.raw, max_bytes) {
            Ok(inflated) => {
                if self.encoding != Encoding::Identity {
                    self.share.hold_also(inflated.len())?;
                }
                Ok(Some(inflated))
            }
            Err(inflate::Error::TooLarge { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
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
    /// There is no memory for it.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
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
    /// Whether the body was above a cap, on the wire, inflated or in the memory it takes.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Error::TooLarge { .. } | Error::Inflate(inflate::Error::TooLarge { .. })) || matches!(self.exhausted(), Some(Exhausted::TooLarge { .. }))
    }

    /// Whether other requests hold the memory that the body needs: a retry helps.
    pub fn is_busy(&self) -> bool {
        matches!(self.exhausted(), Some(Exhausted::Busy { .. }))
    }

    /// Whether the client was slow, or the connection broke: a retry may help.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Error::Broken(_) | Error::TimedOut)
    }

    fn exhausted(&self) -> Option<&Exhausted> {
        match self {
            Error::Exhausted(exhausted) | Error::Inflate(inflate::Error::Exhausted(exhausted)) => Some(exhausted),
            _ => None,
        }
    }
}

/// How a body is encoded, by its headers.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Error> {
    let Some(value) = headers.get(http::header::CONTENT_ENCODING) else {
        return Ok(Encoding::Identity);
    };
    let text = value.to_str().unwrap_or("?");
    Encoding::from_header(text).ok_or_else(|| Error::UnknownEncoding(text.to_string()))
}

/// Reads a body as it came, holding at most the caps' bytes, and each of them in `share` from the moment it is here.
pub async fn read<B>(headers: &HeaderMap, body: B, encoding: Encoding, caps: Caps, mut share: Share) -> Result<Body, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let collected = tokio::time::timeout(BODY_TIMEOUT, collect(headers, body, caps.max_body_bytes, &mut share)).await;
    Ok(Body {
        raw: collected.map_err(|_| Error::TimedOut)??,
        encoding,
        share,
        max_inflated_bytes: caps.max_inflated_bytes,
    })
}

async fn collect<B>(headers: &HeaderMap, mut body: B, max_bytes: usize, share: &mut Share) -> Result<Bytes, Error>
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
        // What was announced is not held yet: a client that sends nothing more takes no memory, and must not keep
        // others from it.
        share.hold(so_far + data.len())?;
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

    use super::super::budget::Budget;
    use super::*;

    const CAPS: Caps = Caps {
        max_body_bytes: 10,
        max_inflated_bytes: 20,
    };

    fn full(text: &'static str) -> Full<Bytes> {
        Full::new(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_cap() {
        let budget = Budget::new(10);
        let headers = HeaderMap::new();
        let read = |text: &'static str| read(&headers, full(text), Encoding::Identity, CAPS, budget.share());
        let mut body = read("0123456789").await.expect("fits");
        assert_eq!(body.inflate().expect("plain"), "0123456789");
        assert_eq!(budget.held_bytes(), 10);
        assert!(read("0").await.expect_err("all is held").is_busy());
        drop(body);
        assert!(read("0123456789a").await.expect_err("over").is_too_large());
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn an_unknown_encoding_and_a_false_length_are_told() {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", "br".parse().expect("header"));
        assert!(matches!(encoding(&headers), Err(Error::UnknownEncoding(_))));
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "11".parse().expect("header"));
        let read = read(&headers, full(""), Encoding::Identity, CAPS, Budget::new(10).share());
        assert!(read.await.expect_err("announced too much").is_too_large());
    }

    #[tokio::test]
    async fn inflation_holds_what_it_makes_and_a_large_body_is_left_for_later() {
        let budget = Budget::new(1 << 20);
        let caps = Caps {
            max_body_bytes: 1 << 20,
            max_inflated_bytes: 1 << 20,
        };
        let zstd = Bytes::from(zstd::encode_all(&vec![7u8; 500_000][..], 1).expect("memory"));
        let mut body = read(&HeaderMap::new(), Full::new(zstd.clone()), Encoding::Zstd, caps, budget.share())
            .await
            .expect("small");
        assert_eq!(budget.held_bytes(), zstd.len());
        assert_eq!(body.inflate_small(1_000).expect("well encoded"), None);
        assert_eq!(budget.held_bytes(), zstd.len());
        assert_eq!(body.inflate().expect("well encoded").len(), 500_000);
        assert!(budget.held_bytes() >= 500_000);
        let mut second = read(&HeaderMap::new(), Full::new(zstd), Encoding::Zstd, caps, budget.share())
            .await
            .expect("small");
        assert!(second.inflate().expect_err("no room for a second").is_busy());
        drop((body, second));
        assert_eq!(budget.held_bytes(), 0);
    }
}
