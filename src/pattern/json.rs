//! Templates of bodies that are one JSON object: its keys as they stand, values masked, texts and levels kept.
//!
//! Read leniently and in one go: what is no JSON after all is read as text.

use super::mask::Mask;
use super::text::{self, CLASS, class};
use super::{MAX_BYTES, MAX_JSON_DEPTH, MAX_WORDS};

/// A level longer than this is none.
const MAX_LEVEL_BYTES: usize = 16;

/// Memory for texts with escapes.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    text: String,
}

/// Why reading ended early.
enum Stop {
    /// It is no JSON.
    Malformed,
    /// The text that is looked at ended.
    End,
    /// There were enough keys.
    Enough,
}

struct Reader<'t, 'o> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    out: &'o mut String,
    scratch: &'o mut Scratch,
    words_left: usize,
    /// Objects that are begun.
    depth: usize,
    /// Where the entry began that is being written.
    entry: usize,
}

/// A string as it stands there, without its quotes.
#[derive(Clone, Copy)]
struct Raw<'t> {
    text: &'t str,
    has_escapes: bool,
}

/// Writes the template of a body without white space around it; `false` (and anything written) if it is not one JSON object.
pub(super) fn write(body: &str, out: &mut String, scratch: &mut Scratch) -> bool {
    if !(body.starts_with('{') && body.ends_with('}')) {
        return false;
    }
    let text = &body[..body.floor_char_boundary(MAX_BYTES)];
    let is_cut = text.len() < body.len();
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        out,
        scratch,
        words_left: MAX_WORDS,
        depth: 0,
        entry: 0,
    };
    match reader.object() {
        Ok(()) => reader.at == text.len() && !is_cut,
        Err(Stop::Malformed) => false,
        Err(Stop::End) if !is_cut => false,
        Err(Stop::End | Stop::Enough) => {
            reader.out.truncate(reader.entry);
            reader.out.push_str(Mask::More.text());
            (0..reader.depth).for_each(|_| reader.out.push('}'));
            true
        }
    }
}

impl<'t> Reader<'t, '_> {
    fn next(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::End)
    }

    fn skip_space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn expect(&mut self, sign: u8) -> Result<(), Stop> {
        self.skip_space();
        if self.next()? != sign {
            return Err(Stop::Malformed);
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn object(&mut self) -> Result<(), Stop> {
        self.expect(b'{')?;
        self.out.push('{');
        self.depth += 1;
        self.entry = self.out.len();
        if self.next()? == b'}' {
            return self.end_object();
        }
        // the last entry whose key has digits, and where it ends
        let mut last: Option<(usize, usize)> = None;
        let mut is_first = true;
        loop {
            self.skip_space();
            let start = self.out.len();
            if !is_first {
                self.out.push(',');
            }
            self.entry = self.out.len();
            if self.text[self.at..].starts_with(Mask::More.text()) {
                self.at += Mask::More.text().len();
                self.out.push_str(Mask::More.text());
                self.skip_space();
                if self.next()? != b'}' {
                    return Err(Stop::Malformed);
                }
                return self.end_object();
            }
            if self.words_left == 0 {
                return Err(Stop::Enough);
            }
            self.words_left -= 1;
            let entry = self.entry;
            let has_digits = self.pair()?;
            let is_repeated = last.is_some_and(|(from, to)| has_digits && self.out[from..to] == self.out[entry..]);
            if is_repeated {
                // a map by number or name: one of its entries stands for all
                self.out.truncate(start);
            } else {
                last = has_digits.then_some((entry, self.out.len()));
                is_first = false;
            }
            self.entry = self.out.len();
            self.skip_space();
            match self.next()? {
                b',' => self.at += 1,
                b'}' => return self.end_object(),
                _ => return Err(Stop::Malformed),
            }
        }
    }

    fn end_object(&mut self) -> Result<(), Stop> {
        self.at += 1;
        self.depth -= 1;
        self.out.push('}');
        Ok(())
    }

    /// A key and its value; whether the key has digits.
    fn pair(&mut self) -> Result<bool, Stop> {
        let key = self.string()?;
        let has_digits = key.text.bytes().any(|byte| byte.is_ascii_digit() || byte == b'<') && !key.has_escapes;
        self.out.push('"');
        match has_digits {
            true => {
                text::write_line(key.text, self.out, &mut { MAX_WORDS });
            }
            false => self.out.push_str(key.text),
        }
        self.out.push_str("\":");
        self.expect(b':')?;
        match self.next()? {
            b'{' if self.depth < MAX_JSON_DEPTH => {
                let entry = self.entry;
                self.object()?;
                self.entry = entry;
            }
            b'{' | b'[' => {
                self.skip_nested()?;
                self.out.push_str(Mask::Any.text());
            }
            b'"' => {
                let value = self.string()?;
                if text::is_text_key(key.text.as_bytes()) {
                    self.kept(value)?;
                } else if text::is_level_key(key.text.as_bytes()) && is_level(value.text) {
                    self.out.push('"');
                    self.out.push_str(value.text);
                    self.out.push('"');
                } else {
                    self.out.push_str(Mask::Any.text());
                }
            }
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b'{' | b'[' | b'"' | b':') || byte.is_ascii_whitespace();
                let start = self.at;
                self.at += self.bytes[start..].iter().take_while(|byte| !is_end(byte)).count();
                let value = &self.text[start..self.at];
                if value.is_empty() {
                    return Err(Stop::Malformed);
                }
                let is_number_of_level = text::is_level_key(key.text.as_bytes()) && value.len() <= 2 && value.bytes().all(|byte| byte.is_ascii_digit());
                self.out.push_str(if is_number_of_level { value } else { Mask::Any.text() });
            }
        }
        Ok(has_digits)
    }

    /// Writes the template of a text inside quotes.
    fn kept(&mut self, value: Raw<'_>) -> Result<(), Stop> {
        self.out.push('"');
        if !value.has_escapes {
            if !text::write_line(value.text.trim_ascii(), self.out, &mut self.words_left) {
                self.out.push_str(" <...>");
            }
        } else {
            let unescaped: String = serde_json::from_str(&format!("\"{}\"", value.text)).map_err(|_| Stop::Malformed)?;
            self.scratch.text.clear();
            text::write(unescaped.trim_ascii(), &mut self.scratch.text);
            for character in self.scratch.text.chars() {
                match character {
                    '"' => self.out.push_str("\\\""),
                    '\\' => self.out.push_str("\\\\"),
                    '\n' => self.out.push_str("\\n"),
                    other => self.out.push(other),
                }
            }
        }
        self.out.push('"');
        Ok(())
    }

    fn string(&mut self) -> Result<Raw<'t>, Stop> {
        if self.next()? != b'"' {
            return Err(Stop::Malformed);
        }
        let start = self.at + 1;
        let mut end = start;
        let mut has_escapes = false;
        loop {
            end += self.bytes.get(end..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)).ok_or(Stop::End)?;
            if self.bytes[end] == b'"' {
                break;
            }
            has_escapes = true;
            end += 2;
        }
        self.at = end + 1;
        Ok(Raw {
            text: &self.text[start..end],
            has_escapes,
        })
    }

    /// Passes over a list or an object.
    fn skip_nested(&mut self) -> Result<(), Stop> {
        let mut depth = 0usize;
        loop {
            match self.next()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

fn is_level(text: &str) -> bool {
    text.len() <= MAX_LEVEL_BYTES && text.bytes().all(|byte| CLASS[byte as usize] & (class::HEX | class::LETTER) != 0)
}
