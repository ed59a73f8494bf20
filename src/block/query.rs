//! What can be asked of a block's index.

use std::ops::Range;
use std::sync::Arc;

use super::RawField;
use super::terms::{field_term, pair_term};

/// A test of one value or token.
pub type KeyTest = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A condition on rows that the index answers.
///
/// All text is matched as stored; only [`Token`](IndexQuery::Token), [`Phrase`](IndexQuery::Phrase), [`Near`](IndexQuery::Near),
/// [`TokenPattern`](IndexQuery::TokenPattern), [`TokenMatching`](IndexQuery::TokenMatching) and [`TokenWith`](IndexQuery::TokenWith) look
/// at the tokens of the table's text (`logs`: body; `spans`: name, status message, exception type and message).
#[derive(Clone)]
pub enum IndexQuery {
    /// Every row.
    All,
    /// No row.
    None,
    /// Rows whose text has this token ([`tokenizer::tokens`](super::tokenizer::tokens) makes tokens of text).
    Token(String),
    /// Rows whose text has these tokens one after the other. None: every row; one: a token.
    Phrase(Vec<String>),
    /// Rows whose text has these tokens in this order, with at most `between` other tokens among them, altogether. None:
    /// every row.
    Near {
        /// The tokens.
        tokens: Vec<String>,
        /// How many others.
        between: u32,
    },
    /// Rows with a token that passes the test, which is called once for each different token of the block.
    TokenMatching(KeyTest),
    /// Rows with a token that passes the test, which only tokens pass that hold the piece or may have been cut
    /// ([`MAYBE_CUT_BYTES`](super::MAYBE_CUT_BYTES)).
    TokenWith {
        /// In lower case, without a separator; not empty.
        piece: String,
        /// The test.
        test: KeyTest,
    },
    /// Rows with a token that the [`Pattern`](super::Pattern) `*`, `?` matches, ignoring case.
    TokenPattern(String),
    /// Rows whose field is this value.
    Term {
        /// The field.
        field: RawField,
        /// Its value, as stored.
        value: String,
    },
    /// Rows whose field matches a pattern; case matters.
    TermPattern {
        /// The field.
        field: RawField,
        /// `*` and `?`.
        pattern: String,
    },
    /// Rows whose field passes a test, which is called once for each different value.
    TermMatching {
        /// The field.
        field: RawField,
        /// The test.
        test: KeyTest,
    },
    /// Rows with an attribute, promoted span attribute or JSON body leaf of this name and value.
    KeyValue {
        /// Attribute name as sent, or path of the leaf.
        key: String,
        /// Canonical text of the value.
        value: String,
    },
    /// … with one of these values.
    KeyOneOf {
        /// Attribute name.
        key: String,
        /// Canonical texts.
        values: Vec<String>,
    },
    /// … whose value matches a pattern; case matters.
    KeyPattern {
        /// Attribute name.
        key: String,
        /// `*` and `?`.
        pattern: String,
    },
    /// … that have the key, whatever the value.
    KeyExists(String),
    /// … with a value that passes the test, which is called once for each different value (numeric ranges, regexes).
    KeyMatching {
        /// Attribute name.
        key: String,
        /// The test.
        test: KeyTest,
    },
    /// … with a value that begins as an array or object of JSON does and passes the test, called once for each.
    KeyInside {
        /// Attribute name.
        key: String,
        /// The test.
        test: KeyTest,
    },
    /// Rows under one of these contexts, numbers into [`BlockIndex::contexts`](super::BlockIndex::contexts).
    Contexts(Vec<u32>),
    /// Rows that all of these match; without any, every row.
    And(Vec<IndexQuery>),
    /// Rows that one of these matches; without any, no row.
    Or(Vec<IndexQuery>),
    /// Rows in these ranges, ascending, none touching another.
    Ranges(Vec<Range<u32>>),
    /// Rows that this does not match.
    Not(Box<IndexQuery>),
}

impl IndexQuery {
    /// Whether its answer is exact whatever the block holds, which costs no look into the dictionary: nothing in it is, or stands
    /// for, a term that may have been cut.
    pub(super) fn is_exact_anywhere(&self) -> bool {
        match self {
            IndexQuery::All | IndexQuery::None | IndexQuery::Ranges(_) | IndexQuery::Contexts(_) => true,
            IndexQuery::Token(_) | IndexQuery::Phrase(_) | IndexQuery::Near { .. } => true,
            IndexQuery::Term { field, value } => field_term(*field, value).clean,
            IndexQuery::KeyValue { key, value } => pair_term(key, value).clean,
            IndexQuery::KeyOneOf { key, values } => values.iter().all(|value| pair_term(key, value).clean),
            IndexQuery::And(parts) | IndexQuery::Or(parts) => parts.iter().all(IndexQuery::is_exact_anywhere),
            IndexQuery::Not(inner) => inner.is_exact_anywhere(),
            // these walk terms, of which some may be cut, or too many
            IndexQuery::TokenMatching(_)
            | IndexQuery::TokenWith { .. }
            | IndexQuery::TokenPattern(_)
            | IndexQuery::TermPattern { .. }
            | IndexQuery::TermMatching { .. }
            | IndexQuery::KeyPattern { .. }
            | IndexQuery::KeyExists(_)
            | IndexQuery::KeyMatching { .. }
            | IndexQuery::KeyInside { .. } => false,
        }
    }
}

impl std::fmt::Debug for IndexQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IndexQuery::All => f.write_str("all"),
            IndexQuery::None => f.write_str("none"),
            IndexQuery::Token(token) => write!(f, "token({token:?})"),
            IndexQuery::Phrase(tokens) => write!(f, "phrase({tokens:?})"),
            IndexQuery::Near { tokens, between } => write!(f, "near({tokens:?}, {between})"),
            IndexQuery::TokenMatching(_) => f.write_str("test(token)"),
            IndexQuery::TokenWith { piece, .. } => write!(f, "test(token({piece:?} within))"),
            IndexQuery::TokenPattern(pattern) => write!(f, "token~({pattern:?})"),
            IndexQuery::Term { field, value } => write!(f, "{}={value:?}", field.name()),
            IndexQuery::TermPattern { field, pattern } => write!(f, "{}~{pattern:?}", field.name()),
            IndexQuery::TermMatching { field, .. } => write!(f, "test({})", field.name()),
            IndexQuery::KeyValue { key, value } => write!(f, "[{key:?}]={value:?}"),
            IndexQuery::KeyOneOf { key, values } => write!(f, "[{key:?}] one of {}", values.len()),
            IndexQuery::KeyPattern { key, pattern } => write!(f, "[{key:?}]~{pattern:?}"),
            IndexQuery::KeyExists(key) => write!(f, "exists[{key:?}]"),
            IndexQuery::KeyMatching { key, .. } => write!(f, "test[{key:?}]"),
            IndexQuery::KeyInside { key, .. } => write!(f, "inside[{key:?}]"),
            IndexQuery::Contexts(numbers) => write!(f, "contexts{numbers:?}"),
            IndexQuery::Ranges(ranges) => write!(f, "rows{ranges:?}"),
            IndexQuery::And(all) => f.debug_tuple("and").field(all).finish(),
            IndexQuery::Or(any) => f.debug_tuple("or").field(any).finish(),
            IndexQuery::Not(inner) => f.debug_tuple("not").field(inner).finish(),
        }
    }
}
