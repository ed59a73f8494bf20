//! What can be asked of a block's index.

use std::sync::Arc;

use super::RawField;

/// A test of one attribute value, for [`IndexQuery::KeyMatching`].
pub type KeyTest = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A condition on rows that the index answers.
///
/// All text is matched as stored; only [`Token`](IndexQuery::Token), [`Phrase`](IndexQuery::Phrase) and
/// [`TokenPattern`](IndexQuery::TokenPattern) look at the tokens of the table's text (`logs`: body; `spans`: name, status
/// message, exception type and message).
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
    /// Rows with an attribute, promoted span attribute or JSON body leaf of this name and value.
    KeyValue {
        /// Attribute name as sent, or path of the leaf.
        key: String,
        /// Canonical text of the value.
        value: String,
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
    /// Rows under one of these contexts, numbers into [`BlockIndex::contexts`](super::BlockIndex::contexts).
    Contexts(Vec<u32>),
    /// Rows that all of these match; without any, every row.
    And(Vec<IndexQuery>),
    /// Rows that one of these matches; without any, no row.
    Or(Vec<IndexQuery>),
    /// Rows that this does not match.
    Not(Box<IndexQuery>),
}

impl std::fmt::Debug for IndexQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IndexQuery::All => f.write_str("all"),
            IndexQuery::None => f.write_str("none"),
            IndexQuery::Token(token) => write!(f, "token({token:?})"),
            IndexQuery::Phrase(tokens) => write!(f, "phrase({tokens:?})"),
            IndexQuery::TokenPattern(pattern) => write!(f, "token~({pattern:?})"),
            IndexQuery::Term { field, value } => write!(f, "{}={value:?}", field.name()),
            IndexQuery::TermPattern { field, pattern } => write!(f, "{}~{pattern:?}", field.name()),
            IndexQuery::KeyValue { key, value } => write!(f, "[{key:?}]={value:?}"),
            IndexQuery::KeyPattern { key, pattern } => write!(f, "[{key:?}]~{pattern:?}"),
            IndexQuery::KeyExists(key) => write!(f, "exists[{key:?}]"),
            IndexQuery::KeyMatching { key, .. } => write!(f, "test[{key:?}]"),
            IndexQuery::Contexts(numbers) => write!(f, "contexts{numbers:?}"),
            IndexQuery::And(all) => f.debug_tuple("and").field(all).finish(),
            IndexQuery::Or(any) => f.debug_tuple("or").field(any).finish(),
            IndexQuery::Not(inner) => f.debug_tuple("not").field(inner).finish(),
        }
    }
}
