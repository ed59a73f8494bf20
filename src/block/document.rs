//! A row as tantivy sees it, and the schema and tokenizers of the index.
//!
//! Two fields: `text`, tokens with positions, and `terms`, all raw values ([`super::terms`]). Nothing is stored, no norms,
//! no fast fields: rows live in Parquet, and the document number is the row number.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use tantivy::schema::document::{Document, ReferenceValue, ReferenceValueLeaf, Value};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};

use super::rowtext::RowText;
use super::terms::{TermList, TermSplitter};
use super::tokenizer::Log1;
use crate::model::Table;

/// Field `text`.
pub(super) const TEXT: Field = Field::from_field_id(0);
/// Field `terms`.
pub(super) const TERMS: Field = Field::from_field_id(1);

/// The index schema, the same for every table.
pub(super) fn schema() -> Schema {
    let indexed = |tokenizer: &str, option| {
        let indexing = TextFieldIndexing::default()
            .set_tokenizer(tokenizer)
            .set_index_option(option)
            .set_fieldnorms(false);
        TextOptions::default().set_indexing_options(indexing)
    };
    let mut builder = Schema::builder();
    let text = builder.add_text_field("text", indexed("log1", IndexRecordOption::WithFreqsAndPositions));
    let terms = builder.add_text_field("terms", indexed("terms", IndexRecordOption::Basic));
    debug_assert!(text == TEXT && terms == TERMS);
    builder.build()
}

/// The tokenizers that [`schema`] names.
pub(super) fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::new();
    tokenizers.register("log1", TextAnalyzer::builder(Log1::default()).build());
    tokenizers.register("terms", TextAnalyzer::builder(TermSplitter::default()).build());
    tokenizers
}

/// Text and terms of a run of rows, each one buffer: no allocation a row.
#[derive(Debug)]
pub(super) struct Documents {
    /// Of all rows, one behind the other; `None`: the texts are the values of the body column.
    texts: Texts,
    terms: String,
    term_ends: Vec<usize>,
}

#[derive(Debug)]
enum Texts {
    Column(arrow::array::StringArray),
    Built { text: String, ends: Vec<usize> },
}

impl Documents {
    /// Reads rows of `batch` (in memory or stored schema); row `i` stands under context `contexts[i]`.
    pub(super) fn new(table: Table, batch: &RecordBatch, contexts: &[i32]) -> Result<Self, ArrowError> {
        let rows = RowText::new(table, batch)?;
        let mut terms = String::with_capacity(batch.num_rows() * 256);
        let mut term_ends = Vec::with_capacity(batch.num_rows());
        let mut list = TermList::default();
        for (row, context) in contexts.iter().enumerate().take(batch.num_rows()) {
            list.clear();
            list.context(u32::try_from(*context).unwrap_or(u32::MAX));
            rows.for_each_field(row, &mut |field, value| list.field(field, value));
            rows.for_each_pair(row, &mut |key, value| list.pair(key, value));
            terms.push_str(list.text());
            term_ends.push(terms.len());
        }
        let texts = match rows.text_column() {
            Some(column) => Texts::Column(column.clone()),
            None => {
                let (mut text, mut ends, mut scratch) = (String::new(), Vec::with_capacity(batch.num_rows()), String::new());
                for row in 0..batch.num_rows() {
                    text.push_str(rows.text(row, &mut scratch));
                    ends.push(text.len());
                }
                Texts::Built { text, ends }
            }
        };
        Ok(Self { texts, terms, term_ends })
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.term_ends.len()
    }

    fn text(&self, row: usize) -> &str {
        match &self.texts {
            Texts::Column(column) if arrow::array::Array::is_valid(column, row) => column.value(row),
            Texts::Column(_) => "",
            Texts::Built { text, ends } => slice(text, ends, row),
        }
    }

    fn terms(&self, row: usize) -> &str {
        slice(&self.terms, &self.term_ends, row)
    }
}

fn slice<'a>(text: &'a str, ends: &[usize], row: usize) -> &'a str {
    let start = if row == 0 { 0 } else { ends[row - 1] };
    &text[start..ends[row]]
}

/// One row, borrowed from its [`Documents`].
#[derive(Clone, Debug)]
pub(super) struct RowDocument {
    pub documents: Arc<Documents>,
    pub row: usize,
}

/// A text of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(&'a str);

impl<'a> Value<'a> for Text<'a> {
    type ArrayIter = std::iter::Empty<Text<'a>>;
    type ObjectIter = std::iter::Empty<(&'a str, Text<'a>)>;
    fn as_value(&self) -> ReferenceValue<'a, Self> {
        ReferenceValue::Leaf(ReferenceValueLeaf::Str(self.0))
    }
}

impl Document for RowDocument {
    type Value<'a> = Text<'a>;
    type FieldsValuesIter<'a> = std::array::IntoIter<(Field, Text<'a>), 2>;
    fn iter_fields_and_values(&self) -> Self::FieldsValuesIter<'_> {
        [(TEXT, Text(self.documents.text(self.row))), (TERMS, Text(self.documents.terms(self.row)))].into_iter()
    }
}
