//! SQL functions of ours.
//!
//! | function | gives |
//! |---|---|
//! | `trace_id('any spelling')` | the 32 hex digits that `trace_id` columns hold; NULL if it is no trace ID |
//! | `match(column, 'words')` | whether the text holds the words, as the search language reads them: `'reset "by peer" -proxy time*'` |
//! | `bin(interval '5 minutes', time)` | the beginning of the interval a time lies in: `date_bin` by its short name |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

use super::ast::Query;
use super::fields;
use super::filter::{Filter, Leaf};
use crate::model::{Table, TraceId};

/// Makes the functions known to a session.
pub(super) fn register(session: &SessionContext) {
    session.register_udf(ScalarUDF::from(TraceIdFunction::new()));
    session.register_udf(ScalarUDF::from(MatchFunction::new()));
    session.register_udf(datafusion::functions::datetime::date_bin().as_ref().clone().with_aliases(["bin"]));
}

/// The name of `match`.
pub(super) const MATCH: &str = "match";

/// The filter on a table's text that words in the search language are; fields have no place in it.
pub(super) fn text_filter(words: &str) -> Result<Filter> {
    fn has_field(query: &Query) -> bool {
        match query {
            Query::All | Query::Text(_) => false,
            Query::And(parts) | Query::Or(parts) => parts.iter().any(has_field),
            Query::Not(inner) => has_field(inner),
            Query::Field { .. } => true,
        }
    }
    let query = match super::parse(words, Table::Logs) {
        Ok(query) => query,
        Err(error) => return plan_err!("match: {} (at character {} of {words:?})", error.message, error.position),
    };
    if has_field(&query) {
        return plan_err!("match takes words and phrases; put `field:value` into SQL, or the text in quotes");
    }
    match fields::compile_text(&query) {
        Ok(filter) => Ok(filter),
        Err(mistake) => plan_err!("match: {}", mistake.message),
    }
}

fn text_matches(filter: &Filter, text: &str) -> bool {
    match filter {
        Filter::All => true,
        Filter::None => false,
        Filter::And(parts) => parts.iter().all(|part| text_matches(part, text)),
        Filter::Or(parts) => parts.iter().any(|part| text_matches(part, text)),
        Filter::Not(inner) => !text_matches(inner, text),
        Filter::Leaf(leaf) => matches!(leaf.as_ref(), Leaf::Phrase(phrase) if phrase.is_in(text)),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TraceIdFunction {
    signature: Signature,
}

impl TraceIdFunction {
    fn new() -> Self {
        Self {
            signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable),
        }
    }
}

fn canonical(text: &str) -> Option<String> {
    TraceId::parse_any(text).map(|id| id.to_string())
}

impl ScalarUDFImpl for TraceIdFunction {
    fn name(&self) -> &str {
        "trace_id"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.args.as_slice() {
            [ColumnarValue::Scalar(ScalarValue::Utf8(text))] => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(text.as_deref().and_then(canonical)))),
            [ColumnarValue::Array(texts)] => {
                let Some(texts) = texts.as_string_opt::<i32>() else {
                    return exec_err!("trace_id takes text");
                };
                let ids: StringArray = texts.iter().map(|text| text.and_then(canonical)).collect();
                Ok(ColumnarValue::Array(Arc::new(ids)))
            }
            _ => exec_err!("trace_id takes one text"),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MatchFunction {
    signature: Signature,
}

impl MatchFunction {
    fn new() -> Self {
        Self {
            signature: Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for MatchFunction {
    fn name(&self) -> &str {
        MATCH
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, ColumnarValue::Scalar(ScalarValue::Utf8(Some(words)))] = arguments.args.as_slice() else {
            return exec_err!("match takes a text column and constant words: match(body, 'connection reset')");
        };
        let filter = text_filter(words)?;
        match text {
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => Ok(ColumnarValue::Scalar(ScalarValue::Boolean(
                text.as_ref().map(|text| text_matches(&filter, text)),
            ))),
            ColumnarValue::Array(texts) => {
                let texts: &ArrayRef = texts;
                let Some(texts) = texts.as_string_opt::<i32>() else {
                    return exec_err!("match takes text");
                };
                let found: BooleanArray = (0..texts.len())
                    .map(|row| texts.is_valid(row).then(|| text_matches(&filter, texts.value(row))))
                    .collect();
                Ok(ColumnarValue::Array(Arc::new(found)))
            }
            ColumnarValue::Scalar(_) => exec_err!("match takes text"),
        }
    }
}
