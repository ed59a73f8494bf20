//! Finds the severity of a record.
//!
//! **Named values**: `level`, `lvl`, `severity`, `severity_text`, `log.level`, `loglevel`, `levelname`, of any case and with any separators, as
//! the whole path (a player's `user.level` is none). The value is a level word ([`severity::number`]), or under `level`
//! and `lvl` a number of bunyan's and pino's, 10, 20, … 60; `severity_number` is OpenTelemetry's own, 1–24. Words beat numbers.
//! Last comes the text of `log`, `message` or `msg`, read as below.
//!
//! **Text**: only its first [`HEAD_BYTES`], in the forms in which loggers begin a line:
//!
//! | form | example |
//! |---|---|
//! | syslog priority | `<3>disk failed` |
//! | klog, glog | `E1122 03:12:41.123456 1 main.go:7] no` |
//! | Ruby | `E, [2026-11-22T03:12:41 #1] ERROR -- : no` |
//! | word first, in capitals or before a colon | `ERROR no`, `error: no`, `WARN  [main] x` |
//! | word in brackets, alone or after a module | `[error] no`, `2026-11-22 … [core:warn] x` |
//! | word in capitals after a time | `2026-11-22 03:12:41,123 WARN x`, `[03:12:41 INF] x` |
//! | key and value | `time=… level=warn msg=…` |
//!
//! A word amid a sentence is none of these.

use crate::model::severity;

/// How far into a text a level word may begin.
pub const HEAD_BYTES: usize = 80;
/// Words that may stand before a level: date, time, zone, host, process, thread, request.
const MAX_WORDS: usize = 8;

/// The severity among named values.
#[derive(Debug, Default)]
pub struct Fields {
    word: Option<i32>,
    open_telemetry: Option<i32>,
    bunyan: Option<i32>,
    message: Option<i32>,
}

impl Fields {
    /// Looks at one named value.
    pub fn visit(&mut self, name: &str, value: &str) {
        if name.len() < 3 || name.len() > 16 || !matches!(name.as_bytes()[0] | 0x20, b'l' | b's' | b'm') {
            return;
        }
        let mut normal = [0u8; 16];
        let mut length = 0;
        for byte in name.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b'.')) {
            normal[length] = byte.to_ascii_lowercase();
            length += 1;
        }
        match &normal[..length] {
            b"level" | b"lvl" => {
                self.word = self.word.or_else(|| severity::number(value));
                self.bunyan = self.bunyan.or_else(|| bunyan(value));
            }
            b"severity" | b"severitytext" | b"loglevel" | b"levelname" => self.word = self.word.or_else(|| severity::number(value)),
            b"severitynumber" => {
                let number = value.parse().ok().filter(|number| (1..=24).contains(number));
                self.open_telemetry = self.open_telemetry.or(number);
            }
            _ if super::is_message(name) => self.message = self.message.or_else(|| in_text(value)),
            _ => {}
        }
    }

    /// The severity found.
    pub fn best(self) -> Option<i32> {
        self.word.or(self.open_telemetry).or(self.bunyan).or(self.message)
    }
}

/// `10` trace, `20` debug, `30` info, `40` warn, `50` error, `60` fatal.
fn bunyan(value: &str) -> Option<i32> {
    let number = value.parse::<i32>().ok().filter(|number| (10..=60).contains(number) && number % 10 == 0)?;
    Some(severity::CLASSES[(number / 10 - 1) as usize].1)
}

/// The severity that a text begins with.
pub fn in_text(text: &str) -> Option<i32> {
    let text = text.trim_ascii_start();
    let head = &text.as_bytes()[..text.len().min(HEAD_BYTES + LONGEST_WORD)];
    syslog(head)
        .or_else(|| klog(head))
        .or_else(|| first_word(head))
        .or_else(|| after_prefix(head))
        .or_else(|| key_and_value(head))
}

/// `<3>`: facility times eight plus severity.
fn syslog(head: &[u8]) -> Option<i32> {
    let rest = head.strip_prefix(b"<")?;
    let digits = rest.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || rest.get(digits) != Some(&b'>') {
        return None;
    }
    let priority = rest[..digits].iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    const NAMES: [&str; 8] = ["EMERG", "ALERT", "CRIT", "ERROR", "WARN", "NOTICE", "INFO", "DEBUG"];
    // 23 facilities: more is no priority
    (priority < 24 * 8).then(|| severity::number(NAMES[priority as usize % 8])).flatten()
}

/// `E1122 03:`: class, month and day, hour; or Ruby's `E, [`.
fn klog(head: &[u8]) -> Option<i32> {
    let (class, rest) = head.split_first()?;
    let letter = match class {
        b'D' => "DEBUG",
        b'I' => "INFO",
        b'W' => "WARN",
        b'E' => "ERROR",
        b'F' => "FATAL",
        _ => return None,
    };
    let digits = |range: std::ops::Range<usize>| rest.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let is_klog = digits(0..4) && rest.get(4) == Some(&b' ') && digits(5..7) && rest.get(7) == Some(&b':');
    (is_klog || rest.starts_with(b", [")).then(|| severity::number(letter)).flatten()
}

/// Longest of [`WORDS`].
const LONGEST_WORD: usize = 11;

/// Words that loggers print; fewer than [`severity::number`] knows, whose others (`fine`, `config`, `alert`) are too common
/// in prose. The last three are .NET's.
const WORDS: [(&str, &str); 20] = [
    ("TRACE", "TRACE"),
    ("TRC", "TRACE"),
    ("DEBUG", "DEBUG"),
    ("DBG", "DEBUG"),
    ("INFO", "INFO"),
    ("INF", "INFO"),
    ("INFORMATION", "INFO"),
    ("NOTICE", "NOTICE"),
    ("WARN", "WARN"),
    ("WARNING", "WARN"),
    ("WRN", "WARN"),
    ("ERROR", "ERROR"),
    ("ERR", "ERROR"),
    ("SEVERE", "ERROR"),
    ("CRITICAL", "CRITICAL"),
    ("CRIT", "CRITICAL"),
    ("FATAL", "FATAL"),
    ("FAIL", "ERROR"),
    ("DBUG", "DEBUG"),
    ("TRCE", "TRACE"),
];
/// How many of [`WORDS`] count anywhere; the rest only first in the line and before a colon.
const ANYWHERE: usize = 17;

/// A level word of any case.
fn word(token: &[u8], n_words: usize) -> Option<i32> {
    if token.len() < 3 || token.len() > LONGEST_WORD {
        return None;
    }
    let (_, level) = WORDS[..n_words].iter().find(|(word, _)| token.eq_ignore_ascii_case(word.as_bytes()))?;
    severity::number(level)
}

/// A level word in capitals.
fn capital_word(token: &[u8]) -> Option<i32> {
    token.iter().all(u8::is_ascii_uppercase).then(|| word(token, ANYWHERE)).flatten()
}

/// `ERROR no`, `error: no`.
fn first_word(head: &[u8]) -> Option<i32> {
    let length = head.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let token = &head[..length];
    match head.get(length) {
        Some(b':') => word(token, WORDS.len()),
        None | Some(b' ' | b'\t' | b'|' | b'\n' | b'[') => capital_word(token),
        _ => None,
    }
}

/// `level=warn`, also with a colon and quotes.
fn key_and_value(head: &[u8]) -> Option<i32> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    for at in memchr::memchr2_iter(b'=', b':', head) {
        let before = head[..at].trim_ascii_end();
        let before = before.strip_suffix(b"\"").unwrap_or(before);
        let start = before.iter().rposition(|byte| !is_name(byte)).map_or(0, |i| i + 1);
        let key = &before[start..];
        if start < HEAD_BYTES
            && [&b"level"[..], b"lvl", b"severity", b"log.level", b"loglevel"]
                .iter()
                .any(|name| key.eq_ignore_ascii_case(name))
        {
            let value = head[at + 1..].trim_ascii_start();
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let length = value.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            // a word cut off by the end of what is looked at is not read
            let is_whole = length < value.len() || head.len() < HEAD_BYTES + LONGEST_WORD;
            if is_whole && let Some(number) = std::str::from_utf8(&value[..length]).ok().and_then(severity::number) {
                return Some(number);
            }
        }
    }
    None
}

/// Level words after a time, or in brackets.
fn after_prefix(head: &[u8]) -> Option<i32> {
    let starts_with_time = starts_with_time(head);
    if !starts_with_time && head.first() != Some(&b'[') {
        return None;
    }
    let mut at = 0;
    let mut words = 0;
    let mut message_began = false;
    while at < head.len().min(HEAD_BYTES) && words < MAX_WORDS {
        let separators = head[at..].iter().take_while(|byte| is_separator(**byte)).count();
        let start = at + separators;
        let length = head[start..].iter().take_while(|byte| !is_separator(**byte)).count();
        let end = start + length;
        at = end;
        if length == 0 || start >= HEAD_BYTES {
            break;
        }
        if head[start..end] == *b":" {
            message_began = true;
            continue;
        }
        words += 1;
        let token = &head[start..end];
        let bracketed = start > 0 && head[start - 1] == b'[' && head.get(end) == Some(&b']');
        let tabbed = start > 0 && head[start - 1] == b'\t' && head.get(end) == Some(&b'\t');
        if bracketed || tabbed {
            // Apache says `[module:level]`
            let last = token.rsplit(|byte| *byte == b':').next().unwrap_or(token);
            if let Some(number) = word(last, ANYWHERE) {
                return Some(number);
            }
        }
        if starts_with_time && let Some(number) = capital_word(token.strip_suffix(b":").unwrap_or(token)) {
            return Some(number);
        }
        // `app[7]: ERROR no`: one word more, then it is prose
        if message_began {
            break;
        }
        message_began = token.ends_with(b":");
    }
    None
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'[' | b']' | b'|' | b'(' | b')' | b'\n' | b'\r')
}

/// Whether a text begins with a date, a time, epoch digits, or syslog's `Nov 22 03:`.
fn starts_with_time(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"[").unwrap_or(head);
    let token = &head[..head.iter().take_while(|byte| !is_separator(**byte)).count()];
    let digits = token.iter().filter(|byte| byte.is_ascii_digit()).count();
    let marks = token.iter().filter(|byte| matches!(byte, b':' | b'-' | b'/')).count();
    let begins_with_digit = token.first().is_some_and(u8::is_ascii_digit);
    if begins_with_digit && digits >= 6 && (marks >= 2 || digits >= 10) {
        return true;
    }
    const NAMES: [&[u8]; 19] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun",
    ];
    // `Nov 22 03:12:41` and Apache's `Sun Nov 22 03:12:41.1 2026`
    NAMES.contains(&token) && head.iter().take(20).filter(|byte| **byte == b':').count() >= 2
}
