//! The search language.

use super::Query;
use crate::model::Table;

/// Why a text is not a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// At which character (not byte) of the text.
    pub position: usize,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Reads a query on `table`. An empty text is every row.
pub fn parse(_text: &str, _table: Table) -> Result<Query, ParseError> {
    todo!()
}

/// Whether a name can stand before `:` without quotes.
pub(super) fn is_plain_name(_name: &str) -> bool {
    todo!()
}
