//! `log1`: how text becomes tokens, in the index, in the head, in a scan and in a query alike.
//!
//! 1. A token is a maximal run of ASCII letters and digits and of other alphanumeric characters; everything else
//!    separates, `_ . - / : @` included. Han, kana and hangul make one token a character. A UUID in its 36-character
//!    form is one token.
//! 2. Tokens are lower case by Unicode's simple mapping (one character to one). No stemming, stop words, accent folding
//!    or least length; camelCase is not split.
//! 3. A token longer than [`MAX_TOKEN_BYTES`] *is* its first [`MAX_TOKEN_BYTES`] (whole characters), in a query too.
//!
//! A change to any of this is a new [`VERSION`], which every block carries.

use tantivy::tokenizer::{Token as TantivyToken, TokenStream, Tokenizer};

/// Version of these rules.
pub const VERSION: u32 = 1;

/// Longest token, bytes.
pub const MAX_TOKEN_BYTES: usize = 128;

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Lower case, at most [`MAX_TOKEN_BYTES`].
    pub text: &'a str,
    /// Byte offset of its beginning in the text.
    pub start: usize,
    /// Byte offset of its end, uncut.
    pub end: usize,
}

/// Calls `token` for each token of `text`, in order.
pub fn for_each_token(text: &str, token: &mut dyn FnMut(Token<'_>)) {
    let mut lower = String::new();
    let mut at = 0;
    while let Some((start, end)) = next_token(text, &mut at, &mut lower) {
        token(Token { text: &lower, start, end });
    }
}

/// The tokens of a text, in order: what a query over the text must find.
pub fn tokens(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for_each_token(text, &mut |token| out.push(token.text.to_string()));
    out
}

/// Lower case as tokens are: for the pattern of one token.
pub fn lowercase(text: &str) -> String {
    text.chars().map(lower_char).collect()
}

fn lower_char(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_lowercase();
    }
    // the first of the full mapping is the simple mapping, also for the one character (U+0130) that has two
    character.to_lowercase().next().unwrap_or(character)
}

/// What a byte below 0x80 does: 0 separates, else the byte in lower case.
const ASCII: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// Finds the next token from byte `at` on and leaves it in `lower`; returns its bounds and moves `at` behind it.
#[inline]
fn next_token(text: &str, at: &mut usize, lower: &mut String) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut position = *at;
    // separators
    loop {
        let byte = *bytes.get(position)?;
        if byte < 0x80 {
            if ASCII[byte as usize] != 0 {
                break;
            }
            position += 1;
        } else {
            let character = char_at(text, position);
            if character.is_alphanumeric() {
                break;
            }
            position += character.len_utf8();
        }
    }
    let start = position;
    lower.clear();
    if bytes[start].is_ascii_hexdigit() && is_uuid_at(text, start) {
        lower.push_str(&text[start..start + 36]);
        lower.make_ascii_lowercase();
        *at = start + 36;
        return Some((start, start + 36));
    }
    while let Some(byte) = bytes.get(position) {
        if *byte >= 0x80 || ASCII[*byte as usize] == 0 {
            break;
        }
        position += 1;
    }
    lower.push_str(&text[start..position]);
    lower.make_ascii_lowercase();
    if bytes.get(position).is_some_and(|byte| *byte >= 0x80) {
        position = beyond_ascii(text, start, position, lower);
    }
    if lower.len() > MAX_TOKEN_BYTES {
        let cut = lower.floor_char_boundary(MAX_TOKEN_BYTES);
        lower.truncate(cut);
    }
    *at = position;
    Some((start, position))
}

/// Goes on with a token at its first character outside ASCII; returns its end.
#[cold]
fn beyond_ascii(text: &str, start: usize, mut position: usize, lower: &mut String) -> usize {
    for character in text[position..].chars() {
        if !character.is_alphanumeric() {
            break;
        }
        if stands_alone(character) {
            if position > start {
                break;
            }
            lower.push(character);
            return position + character.len_utf8();
        }
        lower.push(lower_char(character));
        position += character.len_utf8();
    }
    position
}

/// Whether a character is a token by itself: those of scripts without spaces between words.
pub fn stands_alone(character: char) -> bool {
    matches!(u32::from(character),
        0x1100..=0x11FF // hangul jamo
        | 0x2E80..=0x2FDF // radicals
        | 0x3005..=0x3007 | 0x3021..=0x3029 | 0x3038..=0x303B
        | 0x3041..=0x30FF // kana
        | 0x3105..=0x318F // bopomofo, hangul compatibility jamo
        | 0x31A0..=0x31FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF // Han
        | 0xA960..=0xA97F | 0xAC00..=0xD7FF // hangul
        | 0xF900..=0xFAFF
        | 0xFF66..=0xFFDC // half-width kana and hangul
        | 0x1B000..=0x1B16F
        | 0x20000..=0x3FFFD)
}

/// The character at a byte offset that is known to be a boundary inside `text`.
fn char_at(text: &str, position: usize) -> char {
    text[position..].chars().next().unwrap_or(' ')
}

/// Whether a UUID stands at `start`, where a token begins, and no character of a word follows it.
#[inline]
fn is_uuid_at(text: &str, start: usize) -> bool {
    let Some(bytes) = text.as_bytes().get(start..start + 36) else {
        return false;
    };
    bytes[8] == b'-'
        && bytes[13] == b'-'
        && bytes[18] == b'-'
        && bytes[23] == b'-'
        && bytes
            .iter()
            .enumerate()
            .all(|(i, byte)| matches!(i, 8 | 13 | 18 | 23) || byte.is_ascii_hexdigit())
        && !text[start + 36..].chars().next().is_some_and(char::is_alphanumeric)
}

/// The rules as a tantivy tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct Log1 {
    token: TantivyToken,
}

/// Tokens of one text.
pub(super) struct Log1Stream<'a> {
    text: &'a str,
    at: usize,
    token: &'a mut TantivyToken,
}

impl Tokenizer for Log1 {
    type TokenStream<'a> = Log1Stream<'a>;
    fn token_stream<'a>(&'a mut self, text: &'a str) -> Log1Stream<'a> {
        self.token.reset();
        Log1Stream {
            text,
            at: 0,
            token: &mut self.token,
        }
    }
}

impl TokenStream for Log1Stream<'_> {
    fn advance(&mut self) -> bool {
        let Some((start, end)) = next_token(self.text, &mut self.at, &mut self.token.text) else {
            return false;
        };
        self.token.offset_from = start;
        self.token.offset_to = end;
        self.token.position = self.token.position.wrapping_add(1);
        true
    }
    fn token(&self) -> &TantivyToken {
        self.token
    }
    fn token_mut(&mut self) -> &mut TantivyToken {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> String {
        tokens(text).join("|")
    }

    #[test]
    fn everything_but_letters_and_digits_separates() {
        assert_eq!(joined("GET /api/v1_x.y-z:8080@Host [a]=b"), "get|api|v1|x|y|z|8080|host|a|b");
        assert_eq!(joined(""), "");
        assert_eq!(joined("  \t—…"), "");
    }

    #[test]
    fn letters_of_any_script_are_lower_cased_one_to_one() {
        assert_eq!(joined("ÄÖÜ Straße ΣΊΣΥΦΟΣ İstanbul aÉb"), "äöü|straße|σίσυφοσ|istanbul|aéb");
        assert_eq!(joined("日本語abcカタ 한국 a漢b"), "日|本|語|abc|カ|タ|한|국|a|漢|b");
        assert_eq!(lowercase("AÉ*?"), "aé*?");
    }

    #[test]
    fn a_uuid_is_one_token_unless_a_word_goes_on() {
        let uuid = "123E4567-e89b-12d3-A456-426614174000";
        assert_eq!(joined(&format!("id={uuid},")), format!("id|{}", uuid.to_lowercase()));
        assert_eq!(joined(&format!("{uuid}-x")), format!("{}|x", uuid.to_lowercase()));
        assert_eq!(joined(&format!("{uuid}9")), "123e4567|e89b|12d3|a456|4266141740009");
        assert_eq!(joined(&format!("{uuid}é")), "123e4567|e89b|12d3|a456|426614174000é");
        assert_eq!(joined(&format!("x{uuid}")), "x123e4567|e89b|12d3|a456|426614174000");
    }

    #[test]
    fn a_long_token_is_its_first_128_bytes() {
        let mut found = Vec::new();
        for_each_token(&format!("a {} b", "x".repeat(300)), &mut |token| {
            found.push((token.text.len(), token.start, token.end));
        });
        assert_eq!(found, [(1, 0, 1), (128, 2, 302), (1, 303, 304)]);
        assert_eq!(tokens(&format!("x{}", "é".repeat(100)))[0].len(), 127);
    }

    proptest::proptest! {
        #[test]
        fn tokens_are_what_the_rules_say(text in "(\\PC|[a-fA-F0-9-_ İß漢ア]){0,60}") {
            let mut last = 0;
            for_each_token(&text, &mut |token| {
                assert!(token.start >= last && token.end > token.start && token.text.len() <= MAX_TOKEN_BYTES);
                assert!(text[last..token.start].chars().all(|c| !c.is_alphanumeric()));
                assert_eq!(lowercase(&text[token.start..token.end]), token.text);
                last = token.end;
            });
            assert!(text[last..].chars().all(|c| !c.is_alphanumeric()));
            // the same through tantivy, and again over what came out
            let mut analyzer = Log1::default();
            let mut stream = analyzer.token_stream(&text);
            let mut streamed = Vec::new();
            while stream.advance() {
                streamed.push(stream.token().text.clone());
            }
            assert_eq!(tokens(&text), streamed);
        }
    }
}
