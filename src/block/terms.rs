//! The terms of the index, and how a value becomes one.
//!
//! All raw values (IDs, names, contexts, attributes) are terms of one field, told apart by a first byte, the tag: one
//! field costs less to feed than eight, and a tag is a range of the dictionary. An attribute is
//! `k`, its key, NUL, its value. A term is at most [`CUT_TERM_BYTES`] long: a clean one is shorter and stands for
//! exactly its value; one of exactly that length is cut, and stands for every value that begins like it. A key that is
//! too long or holds NUL or [`CUT_MARK`] is cut too, and ends in [`CUT_MARK`], which no clean key has.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use crate::model::Table;

/// Length of a term that was cut; all others are shorter.
pub(super) const CUT_TERM_BYTES: usize = 256;

/// Longest key that is not cut.
const MAX_KEY_BYTES: usize = 120;

/// Ends a cut key and fills a cut term up.
const CUT_MARK: char = '\u{1d}';

/// Tag of context numbers.
const CONTEXT_TAG: char = 'c';
/// Tag of attributes.
const KEY_TAG: char = 'k';

/// A field whose values are indexed whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawField {
    /// 32 hex digits; `logs` and `spans`.
    TraceId,
    /// 16 hex digits; `spans` only (of logs, Parquet's bloom filters tell in which row groups one can be).
    SpanId,
    /// Decimal severity number; `logs` only.
    Severity,
    /// `logs` only.
    EventName,
    /// `spans` only.
    Name,
    /// `spans` only.
    Kind,
    /// `spans` only.
    StatusCode,
}

impl RawField {
    /// Every field.
    pub const ALL: [RawField; 7] = [
        RawField::TraceId,
        RawField::SpanId,
        RawField::Severity,
        RawField::EventName,
        RawField::Name,
        RawField::Kind,
        RawField::StatusCode,
    ];

    /// The column it indexes, which is also its name in the index.
    pub fn name(self) -> &'static str {
        match self {
            RawField::TraceId => "trace_id",
            RawField::SpanId => "span_id",
            RawField::Severity => "severity_number",
            RawField::EventName => "event_name",
            RawField::Name => "name",
            RawField::Kind => "kind",
            RawField::StatusCode => "status_code",
        }
    }

    /// The field that indexes a column of `table`, if one does.
    pub fn of_column(table: Table, column: &str) -> Option<RawField> {
        RawField::ALL.into_iter().find(|field| field.name() == column && field.is_in(table))
    }

    /// First byte of its terms; part of the format.
    pub(super) fn tag(self) -> char {
        match self {
            RawField::TraceId => 't',
            RawField::SpanId => 'p',
            RawField::Severity => 's',
            RawField::EventName => 'e',
            RawField::Name => 'n',
            RawField::Kind => 'i',
            RawField::StatusCode => 'o',
        }
    }

    /// Whether the index of `table` has it.
    pub fn is_in(self, table: Table) -> bool {
        match self {
            RawField::TraceId => table.is_searchable(),
            RawField::Severity | RawField::EventName => table == Table::Logs,
            RawField::SpanId | RawField::Name | RawField::Kind | RawField::StatusCode => table == Table::Spans,
        }
    }
}

/// A term and whether it stands for its value alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TermText {
    pub text: String,
    pub clean: bool,
}

/// The term of a field's value.
pub(super) fn field_term(field: RawField, value: &str) -> TermText {
    let mut text = String::with_capacity(value.len() + 1);
    let clean = push_field_term(&mut text, field, value);
    TermText { text, clean }
}

/// The term of a context number.
pub(super) fn context_term(number: u32) -> String {
    let mut text = String::with_capacity(8);
    text.push(CONTEXT_TAG);
    text.push_str(itoa::Buffer::new().format(number));
    text
}

/// What terms of context numbers begin with.
pub(super) fn context_prefix() -> String {
    CONTEXT_TAG.to_string()
}

/// The term of an attribute.
pub(super) fn pair_term(key: &str, value: &str) -> TermText {
    let mut text = String::with_capacity(key.len() + value.len() + 2);
    let clean = push_pair_term(&mut text, key, value);
    TermText { text, clean }
}

/// What all terms of a key begin with; not clean if other keys' terms do too.
pub(super) fn key_prefix(key: &str) -> TermText {
    let mut text = String::with_capacity(key.len() + 2);
    text.push(KEY_TAG);
    let clean = push_key(&mut text, key);
    text.push('\0');
    TermText { text, clean }
}

/// The value within a term behind a prefix, without the filling of a cut one.
pub(super) fn value_of<'a>(term: &'a str, prefix: &str) -> &'a str {
    let value = term.get(prefix.len()..).unwrap_or_default();
    if is_cut(term) { value.trim_end_matches(CUT_MARK) } else { value }
}

/// Whether a term stands for more values than the one it spells.
pub(super) fn is_cut(term: &str) -> bool {
    term.len() >= CUT_TERM_BYTES
}

fn push_field_term(out: &mut String, field: RawField, value: &str) -> bool {
    let start = out.len();
    out.push(field.tag());
    out.push_str(value);
    cut(out, start)
}

fn push_pair_term(out: &mut String, key: &str, value: &str) -> bool {
    let start = out.len();
    out.push(KEY_TAG);
    let clean = push_key(out, key);
    out.push('\0');
    // no more of a huge value than can matter
    out.push_str(&value[..value.floor_char_boundary(CUT_TERM_BYTES + 4)]);
    cut(out, start) && clean
}

fn push_key(out: &mut String, key: &str) -> bool {
    let end = key.find(['\0', CUT_MARK]).unwrap_or(key.len()).min(key.floor_char_boundary(MAX_KEY_BYTES));
    out.push_str(&key[..end]);
    if end < key.len() {
        out.push(CUT_MARK);
    }
    end == key.len()
}

/// Cuts and fills the term that begins at `start` if it is too long.
fn cut(out: &mut String, start: usize) -> bool {
    if out.len() - start < CUT_TERM_BYTES {
        return true;
    }
    let end = out.floor_char_boundary(start + CUT_TERM_BYTES);
    out.truncate(end);
    while out.len() < start + CUT_TERM_BYTES {
        out.push(CUT_MARK);
    }
    false
}

/// The terms of one row as one text, made to be cut apart by [`TermSplitter`]: each term behind its length in two
/// characters of seven bits.
#[derive(Debug, Default)]
pub(super) struct TermList {
    text: String,
}

impl TermList {
    pub(super) fn clear(&mut self) {
        self.text.clear();
    }
    pub(super) fn text(&self) -> &str {
        &self.text
    }
    pub(super) fn field(&mut self, field: RawField, value: &str) {
        self.framed(|text| push_field_term(text, field, value));
    }
    pub(super) fn context(&mut self, number: u32) {
        self.framed(|text| {
            text.push(CONTEXT_TAG);
            text.push_str(itoa::Buffer::new().format(number));
            true
        });
    }
    pub(super) fn pair(&mut self, key: &str, value: &str) {
        self.framed(|text| push_pair_term(text, key, value));
    }
    fn framed(&mut self, push: impl FnOnce(&mut String) -> bool) {
        let start = self.text.len();
        self.text.push_str("\0\0");
        push(&mut self.text);
        let length = self.text.len() - start - 2;
        // both characters are below 128, so the text stays UTF-8
        let high = char::from((length >> 7) as u8 & 0x7f);
        let low = char::from(length as u8 & 0x7f);
        self.text.replace_range(start..start + 2, high.encode_utf8(&mut [0; 4]));
        self.text.insert(start + 1, low);
    }
}

/// Cuts a [`TermList`] into its terms, as a tantivy tokenizer.
#[derive(Clone, Debug, Default)]
pub(super) struct TermSplitter {
    token: Token,
}

/// Terms of one row.
pub(super) struct TermStream<'a> {
    rest: &'a str,
    token: &'a mut Token,
}

impl Tokenizer for TermSplitter {
    type TokenStream<'a> = TermStream<'a>;
    fn token_stream<'a>(&'a mut self, text: &'a str) -> TermStream<'a> {
        self.token.reset();
        TermStream {
            rest: text,
            token: &mut self.token,
        }
    }
}

impl TokenStream for TermStream<'_> {
    fn advance(&mut self) -> bool {
        let [high, low, ..] = self.rest.as_bytes() else { return false };
        let end = 2 + ((usize::from(*high) << 7) | usize::from(*low));
        let Some(term) = self.rest.get(2..end) else { return false };
        self.token.text.clear();
        self.token.text.push_str(term);
        self.token.position = self.token.position.wrapping_add(1);
        self.rest = &self.rest[end..];
        true
    }
    fn token(&self) -> &Token {
        self.token
    }
    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(list: &TermList) -> Vec<String> {
        let mut splitter = TermSplitter::default();
        let mut stream = splitter.token_stream(list.text());
        let mut out = Vec::new();
        while stream.advance() {
            out.push(stream.token().text.clone());
        }
        out
    }

    #[test]
    fn a_term_is_cut_only_when_it_must_be() {
        let clean = pair_term("a.b", "x\0y\u{1d}");
        assert_eq!((clean.text.as_str(), clean.clean), ("ka.b\0x\0y\u{1d}", true));
        assert!(pair_term("k", &"v".repeat(252)).clean);
        let long = pair_term("k", &"v".repeat(253));
        assert!(!long.clean && long.text.len() == CUT_TERM_BYTES && is_cut(&long.text));
        assert_eq!(pair_term("k", &"v".repeat(9999)).text, long.text);
        let odd = pair_term("k", &"é".repeat(200));
        assert!(odd.text.len() == CUT_TERM_BYTES && value_of(&odd.text, "kk\0").chars().all(|c| c == 'é'));
        let key = pair_term("a\0b", "v");
        assert_eq!((key.text.as_str(), key.clean), ("ka\u{1d}\0v", false));
        assert!(!key.text.starts_with(&key_prefix("a").text));
        assert!(!key_prefix(&"k".repeat(121)).clean && key_prefix(&"k".repeat(120)).clean);
    }

    proptest::proptest! {
        #[test]
        fn a_list_gives_back_its_terms(pairs in proptest::collection::vec(("\\PC{0,200}", "(\\PC|[\0\u{1d}]){0,400}"), 0..6)) {
            let mut list = TermList::default();
            for (key, value) in &pairs {
                list.pair(key, value);
                list.context(7);
                list.field(RawField::Name, value);
            }
            let expected: Vec<String> = pairs
                .iter()
                .flat_map(|(key, value)| [pair_term(key, value).text, context_term(7), field_term(RawField::Name, value).text])
                .collect();
            proptest::prop_assert_eq!(split(&list), expected);
        }
    }
}
