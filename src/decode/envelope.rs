//! What a request says outside its body and decoding needs: one line of JSON before the body.
//!
//! The log keeps a request's own bytes. Where headers are part of what was said, their line is put before those bytes, in
//! a way that inflating gives the line and then the body: as a member of its own before a gzip body, as it is before a
//! plain one. A body of another encoding is kept inflated.

use std::io::Write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::net::Encoding;

/// A body behind its line.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// What decoders read.
    pub plain: Bytes,
    /// What the log keeps.
    pub stored: Bytes,
    /// How `stored` is encoded.
    pub encoding: Encoding,
}

/// Puts `head` before a body: `raw` as it came, `inflated` as it is read.
pub fn seal(head: &impl Serialize, raw: &Bytes, inflated: &Bytes, encoding: Encoding) -> Result<Sealed, Error> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    let plain = Bytes::from([&line[..], inflated].concat());
    if encoding != Encoding::Gzip {
        return Ok(Sealed {
            stored: plain.clone(),
            plain,
            encoding: Encoding::Identity,
        });
    }
    let mut member = flate2::write::GzEncoder::new(Vec::with_capacity(line.len() + raw.len() + 64), flate2::Compression::fast());
    let sealed = member.write_all(&line).and_then(|()| member.finish());
    let mut stored = sealed.map_err(|error| Error::Invalid(error.to_string()))?;
    stored.extend_from_slice(raw);
    Ok(Sealed {
        plain,
        stored: stored.into(),
        encoding,
    })
}

/// The line and the body behind it.
pub(super) fn open<'a, H: Deserialize<'a>>(body: &'a [u8]) -> Result<(H, &'a [u8]), Error> {
    let end = memchr::memchr(b'\n', body).ok_or_else(|| Error::Invalid("the line before the body is missing".into()))?;
    Ok((serde_json::from_slice(&body[..end])?, &body[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::inflate;

    #[test]
    fn a_body_reads_the_same_from_the_log_as_it_did_at_first() {
        let inflated = Bytes::from_static(b"{\"a\":\n1}\n");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&inflated).expect("memory");
        let gzip = Bytes::from(gzip.finish().expect("memory"));
        let zlib = Bytes::from_static(b"not looked at again");
        let head = vec!["one\ntwo".to_string()];
        for (raw, encoding) in [(inflated.clone(), Encoding::Identity), (gzip, Encoding::Gzip), (zlib, Encoding::Deflate)] {
            let sealed = seal(&head, &raw, &inflated, encoding).expect("sealed");
            let again = inflate::inflate(sealed.encoding, &sealed.stored, 1_000).expect("inflates");
            assert_eq!(again, sealed.plain, "{encoding:?}");
            let (line, body) = open::<Vec<String>>(&again).expect("opens");
            assert_eq!((line, body), (head.clone(), &inflated[..]));
        }
        assert!(open::<Vec<String>>(b"no line").is_err() && open::<Vec<String>>(b"{}\n").is_err());
    }
}
