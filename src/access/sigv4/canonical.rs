//! The canonical request: the one text of which client and server take the hash.
//!
//! ```text
//! POST                                     method
//! /                                        path, normalised, each segment encoded once more
//! a=1&b=2                                  query, encoded, sorted; without the signature
//! host:example.com:7070                    signed headers: trimmed, spaces folded, duplicates joined by commas
//! x-amz-date:20150830T123600Z
//!
//! host;x-amz-date                          their names
//! e3b0c442…                                the body's hash
//! ```

use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::claim::Claim;

/// Everything but RFC 3986's unreserved characters.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same in a path.
const RESERVED_IN_PATH: AsciiSet = RESERVED.remove(b'/');

/// The canonical request; header values are bytes, and need not be UTF-8.
pub(super) fn request(head: &Parts, claim: &Claim, payload_hash: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    for line in [
        head.method.as_str(),
        &canonical_path(head.uri.path()),
        &canonical_query(head.uri.query().unwrap_or_default()),
    ] {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    for name in &claim.signed_headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        header(head, name, &mut out);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(claim.signed_headers.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload_hash.as_bytes());
    out
}

/// A header's values, trimmed, spaces folded, joined by commas; nothing for one that is not there.
fn header(head: &Parts, name: &str, out: &mut Vec<u8>) {
    let mut is_first = true;
    for value in head.headers.get_all(name) {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        let words = value.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for (i, word) in words.enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
    }
    // HTTP/2 has it in the request line
    if is_first && (name == "host" || name == ":authority") {
        let host = head.headers.get(http::header::HOST).map(http::HeaderValue::as_bytes);
        let host = host.or_else(|| head.uri.authority().map(|authority| authority.as_str().as_bytes()));
        out.extend_from_slice(host.unwrap_or_default().trim_ascii());
    }
}

/// A path as it came: dot segments and doubled slashes taken out (RFC 3986, 5.2.4), then encoded: what is encoded
/// already is encoded twice, as all services but S3 have it.
pub fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut normal = format!("/{}", segments.join("/"));
    if path.ends_with('/') && !segments.is_empty() {
        normal.push('/');
    }
    percent_encode(normal.as_bytes(), &RESERVED_IN_PATH).to_string()
}

/// A query as it came: each name and value decoded and encoded anew, sorted by name and value, without
/// `X-Amz-Signature`.
pub fn canonical_query(query: &str) -> String {
    let anew = |text: &str| {
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&decoded, &RESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (anew(name), anew(value))
        })
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort_unstable();
    let texts: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    texts.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_encoded_once_more() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/a/..", "/"),
            ("/a/../..", "/"),
            ("/a/b/../../", "/"),
            ("//a//b//", "/a/b/"),
            ("/./a", "/a"),
            ("/a%20b", "/a%2520b"),
            ("/a b", "/a%20b"),
            ("/-._~aZ0", "/-._~aZ0"),
            ("/a:b@c", "/a%3Ab%40c"),
            ("/ሴ", "/%E1%88%B4"),
        ] {
            assert_eq!(canonical_path(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_sorted_and_encoded_in_one_way() {
        for (query, expected) in [
            ("", ""),
            ("b=1&a=2", "a=2&b=1"),
            ("a=2&a=1", "a=1&a=2"),
            ("a=1&A=2", "A=2&a=1"),
            ("a", "a="),
            ("a=b=c", "a=b%3Dc"),
            ("a=%2f", "a=%2F"),
            ("a=/", "a=%2F"),
            ("a=%7E~", "a=~~"),
            ("a=1+2", "a=1%2B2"),
            ("a=1%202", "a=1%202"),
            ("a=%zz", "a=%25zz"),
            ("&&a=1&", "a=1"),
            ("%ff=1", "%FF=1"),
            ("X-Amz-Signature=abc&a=1", "a=1"),
        ] {
            assert_eq!(canonical_query(query), expected, "{query}");
        }
    }
}
