//! `pattern`: texts that differ only in numbers, names and times, as one pattern each.
//!
//! A text is cut into words and signs. What is plainly of a kind (a number, a date, a time, a UUID, an address, hex digits)
//! becomes `<Kind-N>`; then patterns that are alike but for a few words become one in which those are `<Token-N>`. N counts the
//! places of a pattern from 1. The service finds its patterns otherwise, so its texts differ in detail.
//!
//! With `diff` behind it, the texts of an earlier time are cut and put together with the others, so that both times have the same
//! patterns; each has how many more texts fit it than did earlier, and what that says of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Next, Operator, Shared, copy_of};
use crate::query::insights::evaluate::{Place, Scope};
use crate::query::insights::row::Row;
use crate::query::insights::syntax::{Earlier, Expression};
use crate::query::insights::value::Value;
use crate::query::insights::{Failed, Flow};

/// Fields of its rows, and of those that are compared.
const COLUMNS: [&str; 6] = [
    "@pattern",
    "@ratio",
    "@sampleCount",
    "@severityLabel",
    "@differenceEventCount",
    "@differenceDescription",
];
/// Bytes of a text that are looked at.
const MAX_TEXT_BYTES: usize = 4_096;
/// Patterns that are held, before those that are alike become one.
const MAX_PATTERNS: usize = 20_000;
/// Patterns of one shape that are compared with each other.
const MAX_COMPARED: usize = 500;
/// Patterns are alike if so large a share of their words is the same.
const ALIKE: f64 = 0.6;

/// A word of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Word {
    Text(Arc<str>),
    /// Anything of a kind.
    Any(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    of: Expression,
    compared: Option<Earlier>,
    counts: HashMap<Vec<Word>, Counts>,
}

/// Fields of the rows.
pub(super) fn columns(is_compared: bool) -> &'static [&'static str] {
    if is_compared { &COLUMNS } else { &COLUMNS[..4] }
}

/// Texts of a pattern, in the time that is asked about and in the earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    now: u64,
    earlier: u64,
}

impl Counts {
    fn add(&mut self, more: Counts) {
        self.now += more.now;
        self.earlier += more.earlier;
    }

    fn sum(self) -> u64 {
        self.now + self.earlier
    }

    fn difference(self) -> i64 {
        self.now.cast_signed().saturating_sub(self.earlier.cast_signed())
    }

    fn description(self) -> &'static str {
        match (self.now, self.earlier) {
            (_, 0) => "new",
            (0, _) => "gone",
            (now, earlier) if now > earlier => "more",
            (now, earlier) if now < earlier => "fewer",
            _ => "same",
        }
    }
}

impl Pattern {
    pub(super) fn new(of: Expression, compared: Option<Earlier>) -> Self {
        Self {
            of,
            compared,
            counts: HashMap::new(),
        }
    }

    /// In which of the times a row lies; they may overlap.
    fn counts_of(&self, row: &Row, scope: &Scope) -> Counts {
        let (Some(earlier), Some(origin)) = (self.compared, &row.origin) else {
            return Counts { now: 1, earlier: 0 };
        };
        let time = origin.event().timestamp_millis;
        let (start, end) = earlier.range(scope.start_millis, scope.end_millis);
        Counts {
            now: u64::from((scope.start_millis..=scope.end_millis).contains(&time)),
            earlier: u64::from((start..=end).contains(&time)),
        }
    }

    fn add(&mut self, words: Vec<Word>, more: Counts, shared: &mut Shared) -> Result<(), Failed> {
        if let Some(counts) = self.counts.get_mut(&words) {
            counts.add(more);
            return Ok(());
        }
        shared.hold("pattern", pattern_bytes(&words))?;
        self.counts.insert(words, more);
        if self.counts.len() > MAX_PATTERNS {
            let before: usize = self.counts.keys().map(|words| pattern_bytes(words)).sum();
            self.counts = merge(std::mem::take(&mut self.counts)).into_iter().collect();
            let after: usize = self.counts.keys().map(|words| pattern_bytes(words)).sum();
            shared.release(before.saturating_sub(after));
            if self.counts.len() > MAX_PATTERNS / 2 {
                return Err(Failed::TooMany {
                    command: "pattern",
                    what: "patterns",
                    max: MAX_PATTERNS / 2,
                });
            }
        }
        Ok(())
    }
}

/// Memory that a pattern takes, about.
fn pattern_bytes(words: &[Word]) -> usize {
    let of_words = words.iter().map(|word| match word {
        Word::Text(text) => size_of::<Word>() + text.len() + 16,
        Word::Any(_) => size_of::<Word>(),
    });
    of_words.sum::<usize>() + 64
}

impl Operator for Pattern {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let value = Place::of(&row, &next.shared.scope).value(&self.of);
        let Some(text) = value.as_text() else { return Ok(Flow::More) };
        let counts = self.counts_of(&row, &next.shared.scope);
        self.add(words(&text), counts, next.shared)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        let merged = merge(std::mem::take(&mut self.counts));
        let total: u64 = merged.iter().map(|(_, counts)| counts.now).sum();
        let mut shown: Vec<(String, Counts)> = merged.iter().map(|(words, counts)| (show(words), *counts)).collect();
        shown.sort_by(|(a, n), (b, m)| (m.now, m.earlier).cmp(&(n.now, n.earlier)).then_with(|| a.cmp(b)));
        let is_compared = self.compared.is_some();
        let row = |(pattern, counts): (String, Counts)| {
            let mut row = Row::default();
            let severity = severity(&pattern);
            row.set(&COLUMNS[0].into(), Value::text(pattern));
            row.set(&COLUMNS[1].into(), Value::double(counts.now as f64 / total.max(1) as f64));
            row.set(&COLUMNS[2].into(), Value::Whole(counts.now.cast_signed()));
            row.set(&COLUMNS[3].into(), Value::text(severity));
            if is_compared {
                row.set(&COLUMNS[4].into(), Value::Whole(counts.difference()));
                row.set(&COLUMNS[5].into(), Value::text(counts.description()));
            }
            row
        };
        next.push_all(shown.into_iter().map(row))
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }

    fn can_absorb(&self) -> bool {
        true
    }

    fn absorb(&mut self, other: Box<dyn Operator>, shared: &mut Shared) -> Result<(), Failed> {
        for (words, counts) in copy_of::<Pattern>(other).map(|other| other.counts).unwrap_or_default() {
            self.add(words, counts, shared)?;
        }
        Ok(())
    }
}

/// The first word that names a severity.
fn severity(pattern: &str) -> &'static str {
    let words = pattern.split(|c: char| !c.is_ascii_alphabetic());
    let label = |word: &str| match word.to_ascii_uppercase().as_str() {
        "FATAL" | "CRITICAL" => Some("FATAL"),
        "ERROR" | "ERR" | "SEVERE" => Some("ERROR"),
        "WARN" | "WARNING" => Some("WARN"),
        "INFO" => Some("INFO"),
        "DEBUG" => Some("DEBUG"),
        "TRACE" => Some("TRACE"),
        _ => None,
    };
    words.filter_map(label).next().unwrap_or("NONE")
}

/// Whether a sign stands by itself: what keeps numbers, addresses and names together does not.
fn is_sign(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace() && !matches!(c, '_' | '-' | '.' | ':' | '/' | '@' | '%' | '+')
}

fn words(text: &str) -> Vec<Word> {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut rest = &text[..end];
    let mut words = Vec::new();
    while let Some(first) = rest.chars().next() {
        let is_space = first.is_whitespace();
        let length = match is_sign(first) {
            true => first.len_utf8(),
            false => rest.find(|c: char| c.is_whitespace() != is_space || is_sign(c)).unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(length.max(first.len_utf8()));
        rest = behind;
        if is_space || is_sign(first) {
            words.push(Word::Text(word.into()));
            continue;
        }
        // signs around a word are not of it
        let core = word.trim_matches(|c: char| !c.is_alphanumeric());
        let at = word.find(core).unwrap_or(0);
        let (before, after) = (&word[..at], &word[at + core.len()..]);
        for part in [before, core, after] {
            match kind(part) {
                _ if part.is_empty() => {}
                Some(kind) => words.push(Word::Any(kind)),
                None => words.push(Word::Text(part.into())),
            }
        }
    }
    words
}

/// What a word plainly is.
fn kind(word: &str) -> Option<&'static str> {
    let bytes = word.as_bytes();
    if !bytes.iter().any(u8::is_ascii_digit) {
        return None;
    }
    let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    let only = |signs: &str| word.chars().all(|c| c.is_ascii_digit() || signs.contains(c));
    if bytes.len() == 36 && [8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-') {
        return Some("UUID");
    }
    if word.parse::<IpAddr>().is_ok() {
        return Some("IP");
    }
    if word.bytes().filter(|b| *b == b'-').count() >= 2 && bytes.len() >= 8 && only("-:.TZ+/") {
        return Some(if word.contains(':') { "Timestamp" } else { "Date" });
    }
    if word.contains(':') && only(":.,") {
        return Some("Time");
    }
    if word.parse::<f64>().is_ok() || only(".,") {
        return Some("Number");
    }
    if bytes.len() >= 8 && is_hex(bytes) || word.strip_prefix("0x").is_some_and(|digits| is_hex(digits.as_bytes())) {
        return Some("Hex");
    }
    // a number and its unit
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if unit.len() < word.len() && unit.len() <= 3 && unit.chars().all(char::is_alphabetic) {
        return Some("Number");
    }
    // names that differ by their digits
    Some("Token").filter(|_| bytes.iter().filter(|b| b.is_ascii_digit()).count() * 2 >= bytes.len() || word.len() > 16)
}

/// Patterns of which those that are alike are one.
fn merge(counts: HashMap<Vec<Word>, Counts>) -> Vec<(Vec<Word>, Counts)> {
    let mut all: Vec<(Vec<Word>, Counts)> = counts.into_iter().collect();
    // the most frequent first, and always in the same order
    all.sort_by_cached_key(|(words, counts)| (std::cmp::Reverse(counts.sum()), show(words)));
    let mut shapes: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut merged: Vec<(Vec<Word>, Counts)> = Vec::new();
    for (words, counts) in all {
        let alike = shapes.entry(words.len()).or_default();
        let found = alike.iter().take(MAX_COMPARED).copied().find(|at| are_alike(&merged[*at].0, &words));
        match found {
            Some(at) => {
                let (pattern, of_all) = &mut merged[at];
                of_all.add(counts);
                for (place, word) in pattern.iter_mut().zip(words) {
                    if *place != word {
                        *place = Word::Any("Token");
                    }
                }
            }
            None => {
                alike.push(merged.len());
                merged.push((words, counts));
            }
        }
    }
    merged
}

/// Of as many words, signs and spaces the same, most of the other words too.
fn are_alike(a: &[Word], b: &[Word]) -> bool {
    let is_mark = |word: &Word| matches!(word, Word::Text(text) if !text.chars().any(char::is_alphanumeric));
    let (mut n_words, mut n_same) = (0usize, 0usize);
    for (a, b) in a.iter().zip(b) {
        if is_mark(a) || is_mark(b) {
            if a != b {
                return false;
            }
            continue;
        }
        n_words += 1;
        n_same += usize::from(a == b);
    }
    n_words > 0 && n_same as f64 >= ALIKE * n_words as f64 && n_same > 0
}

fn show(words: &[Word]) -> String {
    let mut out = String::new();
    let mut n = 0;
    for word in words {
        match word {
            Word::Text(text) => out.push_str(text),
            Word::Any(kind) => {
                n += 1;
                out.push_str(&format!("<{kind}-{n}>"));
            }
        }
    }
    out
}
