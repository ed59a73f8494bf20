//! JSON strings that are not quite Unicode.
//!
//! Some clients write half a surrogate pair (`"\ud83d"`, Python's escape of a byte it could not read) or raw bytes that
//! are not UTF-8. `serde_json` calls the whole body malformed then, and the client would drop a batch for one bad
//! character. Here each such sequence becomes one U+FFFD and the rest of the text is kept.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Visitor};

/// Text that was read leniently; borrowed from the input where it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // asking for bytes turns off serde_json's check; half a surrogate comes as its three WTF-8 bytes
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Text(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(replace_invalid(bytes)),
        }))
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_string(),
            Err(_) => replace_invalid(bytes),
        })))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_string())))
    }
}

/// One U+FFFD for each half surrogate and each run that `from_utf8_lossy` would replace.
fn replace_invalid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(is_half_surrogate) {
        out.push_str(&String::from_utf8_lossy(&rest[..at]));
        out.push(char::REPLACEMENT_CHARACTER);
        rest = &rest[at + 3..];
    }
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

fn is_half_surrogate(three: &[u8]) -> bool {
    three[0] == 0xED && (0xA0..=0xBF).contains(&three[1]) && (0x80..=0xBF).contains(&three[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &[u8]) -> String {
        serde_json::from_slice::<Text<'_>>(json).expect("text").0.into_owned()
    }

    #[test]
    fn one_bad_character_costs_one_character() {
        assert_eq!(read(br#""a\ud83db""#), "a\u{fffd}b");
        assert_eq!(read(br#""\ude00\ude00""#), "\u{fffd}\u{fffd}");
        assert_eq!(read(b"\"a\xffb\""), "a\u{fffd}b");
        assert_eq!(read(br#""\ud83d\ude00 \u00e9\n""#), "😀 é\n");
    }

    #[test]
    fn plain_text_is_borrowed_and_numbers_are_refused() {
        assert!(matches!(serde_json::from_slice::<Text<'_>>(b"\"abc\""), Ok(Text(Cow::Borrowed("abc")))));
        assert!(serde_json::from_slice::<Text<'_>>(b"1").is_err());
        assert!(serde_json::from_slice::<Text<'_>>(b"[1]").is_err());
    }
}
