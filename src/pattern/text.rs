//! Templates of texts that are not JSON: cut at spaces and signs, words with digits looked at.
//!
//! Literal text is copied in stretches: a text without anything to mask is copied whole.

use super::mask::{Mask, Template};
use super::{MAX_BYTES, MAX_LINES, MAX_WORDS, time};

/// What a byte can be in a word.
pub(super) mod class {
    pub(in super::super) const DIGIT: u8 = 1;
    /// `a` to `f`.
    pub(in super::super) const HEX: u8 = 2;
    /// Other letters, and every byte outside ASCII.
    pub(in super::super) const LETTER: u8 = 4;
    pub(in super::super) const SLASH: u8 = 8;
    pub(in super::super) const AT: u8 = 16;
    pub(in super::super) const COLON: u8 = 32;
    /// `.`, `-` and `_`.
    pub(in super::super) const JOINT: u8 = 64;
    pub(in super::super) const SPACE: u8 = 128;
    /// Digits and letters.
    pub(in super::super) const ALNUM: u8 = DIGIT | HEX | LETTER;
    /// What words are made of.
    pub(in super::super) const WORD: u8 = ALNUM | SLASH | AT | COLON | JOINT;
}
use class::{ALNUM, AT, COLON, DIGIT, HEX, JOINT, LETTER, SLASH, SPACE, WORD};

pub(super) static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        classes[byte] = match b {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' | b'A'..=b'F' => HEX,
            b'g'..=b'z' | b'G'..=b'Z' | 128.. => LETTER,
            b'/' => SLASH,
            b'@' => AT,
            b':' => COLON,
            b'.' | b'-' | b'_' => JOINT,
            // ESC begins an ANSI sequence, other control characters say nothing
            b' ' | 127 | 0..32 => SPACE,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

/// A word longer than this is nobody's.
const MAX_WORD_BYTES: usize = 80;
/// Words of hex digits are words up to this length.
pub(super) const MIN_HEX_DIGITS: usize = 8;
/// A quoted text longer than this is no key.
const MAX_KEY_BYTES: usize = 40;

/// Keys whose values are texts.
pub(super) fn is_text_key(key: &[u8]) -> bool {
    const KEYS: [&str; 6] = ["msg", "message", "log", "event", "error", "err"];
    key.len() <= 7 && KEYS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(key))
}

/// Keys whose values are levels.
pub(super) fn is_level_key(key: &[u8]) -> bool {
    const KEYS: [&str; 6] = ["level", "lvl", "severity", "loglevel", "log_level", "log.level"];
    key.len() <= 9 && KEYS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(key))
}

/// Methods that request lines begin with.
const METHODS: [&str; 7] = ["GET ", "POST ", "PUT ", "DELETE ", "HEAD ", "PATCH ", "OPTIONS "];

/// Writes the template of a text without white space around it.
pub(super) fn write(text: &str, out: &mut String) {
    let (text, is_cut) = first_part(text);
    let mut words_left = MAX_WORDS;
    let mut n_lines = 0;
    let mut is_whole = !is_cut;
    let mut rest = text;
    while !rest.is_empty() {
        let (line, behind) = match memchr::memchr(b'\n', rest.as_bytes()) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, ""),
        };
        rest = behind;
        let is_indented = n_lines > 0 && line.starts_with([' ', '\t']);
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if is_indented {
            if !out.ends_with(Mask::Lines.text()) {
                out.push('\n');
                out.push_str(Mask::Lines.text());
            }
            continue;
        }
        if n_lines == MAX_LINES || words_left == 0 {
            is_whole = false;
            break;
        }
        let start = out.len();
        if start > 0 {
            out.push('\n');
        }
        let line_start = out.len();
        if !write_line(line, out, &mut words_left) {
            is_whole = false;
            break;
        }
        if out.len() == line_start {
            out.truncate(start);
            continue;
        }
        n_lines += 1;
    }
    if !is_whole && !out.ends_with(Mask::More.text()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(Mask::More.text());
    }
}

/// The part of a text that is looked at, which ends with a word, and whether there is more.
pub(super) fn first_part(text: &str) -> (&str, bool) {
    if text.len() <= MAX_BYTES {
        return (text, false);
    }
    let end = text.floor_char_boundary(MAX_BYTES);
    let part = &text[..end];
    let end = part.rfind(|c: char| c.is_ascii_whitespace()).filter(|at| *at > MAX_BYTES / 2).unwrap_or(end);
    (part[..end].trim_ascii_end(), true)
}

/// Appends the template of one line, or of the text of a field; `false` where there were more words than were left.
pub(super) fn write_line(line: &str, out: &mut String, words_left: &mut usize) -> bool {
    let start = out.len();
    let mut scan = Scan {
        text: line,
        bytes: line.as_bytes(),
        at: 0,
        literal: 0,
        template: Template::new(out),
        start,
        open_quote: None,
    };
    let is_whole = scan.run(words_left);
    // white space that was no space
    let out = scan.template.out;
    let end = out.trim_end_matches(' ').len().max(start);
    out.truncate(end);
    is_whole
}

/// A line on its way.
pub(super) struct Scan<'t, 'o> {
    pub(super) text: &'t str,
    pub(super) bytes: &'t [u8],
    pub(super) at: usize,
    /// Where the text begins that was read and is not written.
    literal: usize,
    template: Template<'o>,
    /// Where the line begins in the template.
    start: usize,
    /// A quote whose inside is read like other text.
    open_quote: Option<u8>,
}

impl Scan<'_, '_> {
    fn run(&mut self, words_left: &mut usize) -> bool {
        while let Some(&byte) = self.bytes.get(self.at) {
            let class = CLASS[byte as usize];
            if class & WORD != 0 {
                if *words_left == 0 {
                    self.flush(self.at);
                    return false;
                }
                *words_left -= 1;
                self.word();
            } else if class == SPACE {
                self.space();
            } else {
                match byte {
                    b'"' | b'`' | b'\'' => self.quote(byte),
                    b'<' => self.sign_or_mask(),
                    _ => self.at += 1,
                }
            }
        }
        self.flush(self.at);
        true
    }

    pub(super) fn class_at(&self, at: usize) -> u8 {
        self.bytes.get(at).map_or(0, |byte| CLASS[*byte as usize])
    }

    /// Writes the literal text before a place.
    fn flush(&mut self, end: usize) {
        self.template.out.push_str(&self.text[self.literal..end]);
        self.literal = end;
    }

    /// Writes a mask for a part of the text, which is read with it.
    pub(super) fn mask(&mut self, mask: Mask, from: usize, to: usize) {
        self.flush(from);
        self.template.mask(mask, None);
        self.literal = to;
        self.at = self.at.max(to);
    }

    /// White space, control characters and ANSI sequences are one space.
    fn space(&mut self) {
        let first = self.at;
        if self.bytes[first] == b' ' && self.class_at(first + 1) != SPACE && first > 0 {
            self.at += 1;
            return;
        }
        self.flush(first);
        while self.class_at(self.at) == SPACE {
            let is_escape = self.bytes[self.at] == 0x1b && self.bytes.get(self.at + 1) == Some(&b'[');
            self.at += 1;
            if is_escape {
                let parameters = self.bytes[self.at + 1..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';')).count();
                let end = self.at + 1 + parameters;
                if self.bytes.get(end).is_some_and(u8::is_ascii_alphabetic) {
                    self.at = end + 1;
                }
            }
        }
        self.literal = self.at;
        if self.template.out.len() > self.start {
            self.template.out.push(' ');
        }
    }

    /// A mask that stands in the text already is itself.
    fn sign_or_mask(&mut self) {
        match Mask::at_start(&self.text[self.at..]) {
            Some(mask) => self.mask(mask, self.at, self.at + mask.text().len()),
            None => self.at += 1,
        }
    }

    fn quote(&mut self, quote: u8) {
        let open = self.at;
        if self.open_quote == Some(quote) {
            self.open_quote = None;
            self.at += 1;
            return;
        }
        // not an apostrophe
        let may_open = quote != b'\'' || open == 0 || self.class_at(open - 1) & ALNUM == 0;
        let Some(close) = may_open.then(|| self.closing(open + 1, quote)).flatten() else {
            self.at += 1;
            return;
        };
        let inside = &self.text[open + 1..close];
        let is_key = || is_key(inside) && self.bytes.get(close + 1) == Some(&b':') && self.begins_entry(open);
        if inside.is_empty() || is_key() {
            self.at = close + 1;
            return;
        }
        if METHODS.iter().any(|method| inside.starts_with(method)) {
            self.open_quote = Some(quote);
            self.at += 1;
            return;
        }
        self.flush(open);
        self.template.mask(Mask::Quoted, Some(char::from(quote)));
        self.at = close + 1;
        self.literal = self.at;
    }

    /// Whether an entry of a map may begin at a place.
    fn begins_entry(&self, at: usize) -> bool {
        let before = self.bytes[..at].trim_ascii_end();
        before.ends_with(b"{") || before.ends_with(b",")
    }

    /// Where a quoted text ends.
    fn closing(&self, from: usize, quote: u8) -> Option<usize> {
        let mut at = from;
        loop {
            at += memchr::memchr2(quote, b'\\', self.bytes.get(at..)?)?;
            if self.bytes[at] == b'\\' {
                at += 2;
            } else if quote == b'\'' && self.class_at(at + 1) & ALNUM != 0 {
                at += 1;
            } else {
                return Some(at);
            }
        }
    }

    /// Reads a word, and what hangs on it.
    fn word(&mut self) {
        let start = self.at;
        let mut flags = 0;
        let mut end = start;
        while let Some(&byte) = self.bytes.get(end) {
            let class = CLASS[byte as usize];
            if class & WORD == 0 {
                break;
            }
            flags |= class;
            end += 1;
        }
        self.at = end;
        let next = self.bytes.get(end).copied();
        if next == Some(b'=') && self.key(start, end) {
            return;
        }
        if flags & (DIGIT | SLASH | AT) == 0 {
            // most words
            if end - start == 3 && self.bytes[start].is_ascii_uppercase() {
                if let Some(time_end) = time::by_name(self.bytes, start) {
                    self.mask(Mask::Time, start, time_end);
                }
            } else if end - start >= MIN_HEX_DIGITS && (flags == HEX || end - start > MAX_WORD_BYTES) {
                let mask = if flags == HEX { Mask::Hex } else { Mask::Id };
                self.mask(mask, start, end);
            }
            return;
        }
        self.word_with_signs(start, end, flags);
        if flags & SLASH != 0 && self.at == end && next == Some(b'?') && self.class_at(end + 1) & WORD != 0 {
            let to = self.end_of(end + 1, |byte| matches!(byte, b'"' | b'\'' | b'`' | b')' | b']' | b'}' | b'>' | b','));
            self.mask(Mask::Any, end + 1, to);
        }
    }

    /// The next white space, or sign of some.
    fn end_of(&self, from: usize, is_end: impl Fn(u8) -> bool) -> usize {
        let length = self.bytes[from..]
            .iter()
            .take_while(|byte| CLASS[**byte as usize] != SPACE && !is_end(**byte))
            .count();
        from + length
    }

    fn word_with_signs(&mut self, start: usize, end: usize, flags: u8) {
        let mut from = start;
        if flags & AT != 0 {
            if let Some(to) = self.mail_address(start, end) {
                self.mask(Mask::Email, start, to);
                return;
            }
            // who logs in with a URL
            if flags & SLASH != 0
                && let Some(scheme) = self.text[start..end].find("://")
                && let host = start + scheme + 3
                && let Some(user) = self.bytes[host..end].iter().position(|byte| *byte == b'@')
                && !self.bytes[host..host + user].contains(&b'/')
            {
                self.mask(Mask::Any, host, host + user);
                self.at = end;
                from = host + user;
            }
        }
        if end - from > MAX_WORD_BYTES && flags & SLASH == 0 {
            self.mask(Mask::Id, from, end);
            return;
        }
        if flags & DIGIT != 0 {
            if flags & COLON != 0
                && flags & LETTER == 0
                && let Some((mask, to)) = self.network_address(from, end)
            {
                self.mask(mask, from, to);
                return;
            }
            self.pieces(from, end);
        }
    }

    /// The end of a mail address that a word is.
    fn mail_address(&self, start: usize, end: usize) -> Option<usize> {
        let word = &self.bytes[start..end];
        let at = word.iter().position(|byte| *byte == b'@')?;
        let is_of_host = |byte: &u8| CLASS[*byte as usize] & (ALNUM | JOINT) != 0;
        let length = word[at + 1..].iter().take_while(|byte| is_of_host(byte)).count();
        let host = &word[at + 1..at + 1 + length];
        // a full stop behind it is not of it
        let trailing = host.iter().rev().take_while(|byte| CLASS[**byte as usize] & JOINT != 0).count();
        let host = &host[..host.len() - trailing];
        let is_name = |part: &[u8]| !part.is_empty() && part.iter().all(is_of_host);
        let top = host.rsplit(|byte| *byte == b'.').next()?;
        let is_address = is_name(&word[..at]) && host.contains(&b'.') && top.iter().all(u8::is_ascii_alphabetic) && !top.is_empty();
        is_address.then_some(start + at + 1 + host.len())
    }

    /// Reads `key=value`; `false` where it is none.
    fn key(&mut self, start: usize, end: usize) -> bool {
        let first = self.bytes[start];
        let value = end + 1;
        let Some(&next) = self.bytes.get(value) else { return false };
        if !(first.is_ascii_alphabetic() || first == b'_') || next == b'=' || CLASS[next as usize] == SPACE {
            return false;
        }
        let key = &self.bytes[start..end];
        self.at = value;
        if is_text_key(key) || is_level_key(key) {
            if matches!(next, b'"' | b'\'') && self.closing(value + 1, next).is_some() {
                self.open_quote = Some(next);
                self.at += 1;
            }
            return true;
        }
        self.template.ends_list();
        let to = match next {
            b'[' | b'{' | b'(' | b'<' => return true,
            b'"' | b'\'' | b'`' => match self.closing(value + 1, next) {
                Some(close) => close + 1,
                None => return true,
            },
            _ => self.value_end(value),
        };
        if to > value {
            self.mask(Mask::Any, value, to);
        }
        true
    }

    /// Where a value without quotes ends: a comma is of it unless another key or a space follows.
    fn value_end(&self, from: usize) -> usize {
        let is_end = |byte: u8| matches!(byte, b'"' | b'\'' | b'`' | b')' | b']' | b'}' | b'>' | b'<' | b';' | b'|' | b'&' | b',');
        let mut at = self.end_of(from, is_end);
        while self.bytes.get(at) == Some(&b',') && self.class_at(at + 1) & WORD != 0 {
            let part = self.end_of(at + 1, |byte| is_end(byte) || byte == b'=');
            if self.bytes.get(part) == Some(&b'=') {
                break;
            }
            at = part;
        }
        at
    }
}

/// Whether a quoted text may be a key.
fn is_key(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= MAX_KEY_BYTES && bytes.all(|byte| CLASS[byte as usize] & (HEX | LETTER | JOINT) != 0)
}
