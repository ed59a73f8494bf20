//! SQL functions of ours.
//!
//! | function | gives |
//! |---|---|
//! | `trace_id('any spelling')` | the 32 hex digits that `trace_id` columns hold; NULL if it is no trace ID |
//! | `match(column, 'words')` | whether the text holds the words, as the search language reads them: `'reset "by peer" -proxy time*'` |
//! | `search('connection severity>=WARN')` | whether a search would find the row: the whole search language, of `logs` or `spans`, conditions on its trace included ([`with_search`]) |
//! | `bin(interval '5 minutes', time)` | the beginning of the interval a time lies in: `date_bin` by its short name |
//! | `date_trunc('hour', time)` | as ever, but hours, days and weeks of UTC times are whole-number arithmetic: DataFusion's own makes a calendar date of every row, which is most of what a histogram costs (`date_bin` does not) |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, TimestampMicrosecondArray};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionContext;

use super::ast::Query;
use super::fields;
use super::filter::{Filter, Leaf};
use crate::model::{Table, TraceId};

/// Makes the functions known to a session.
pub(super) fn register(session: &SessionContext) {
    session.register_udf(ScalarUDF::from(TraceIdFunction::new()));
    session.register_udf(ScalarUDF::from(MatchFunction::new()));
    session.register_udf(ScalarUDF::from(DateTruncFunction::new()));
    session.register_udf(datafusion::functions::datetime::date_bin().as_ref().clone().with_aliases(["bin"]));
    AMPLIFIERS.into_iter().for_each(|name| session.deregister_udf(name));
}

/// Functions that are not served: a few bytes of a statement make gigabytes, which no bound of ours sees. (As tables, `range`
/// and `generate_series` give their rows batch by batch.)
const AMPLIFIERS: [&str; 7] = ["repeat", "lpad", "rpad", "range", "generate_series", "array_repeat", "array_resize"];

/// The name of `match`.
pub(super) const MATCH: &str = "match";
/// The name of `search`.
pub(super) const SEARCH: &str = "search";

const MISPLACED: &str = "search('…') stands in WHERE over logs or spans: under AND beside any condition, under OR and NOT beside other searches alone. Where other conditions stand there, write OR and NOT into its query; put an outer join's table into a subquery";

/// Makes `search('…')` known to a session. It is no computation: a table that is asked it by itself, under `AND`, or with others of its kind under `OR` and `NOT`, answers it
/// ([`super::pushdown`]), and wherever else it is left standing it is an error that says so. To which table it belongs a column
/// tells, which the session adds where there is but one table of its kind; in a join it is written: `search(l.time, '…')`.
pub(super) fn with_search(session: &SessionContext) {
    session.register_udf(ScalarUDF::from(SearchFunction {
        signature: Signature::one_of(vec![TypeSignature::Exact(vec![DataType::Utf8]), TypeSignature::Any(2)], Volatility::Immutable),
    }));
    session.add_analyzer_rule(Arc::new(SearchedTable));
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SearchFunction {
    signature: Signature,
}

impl ScalarUDFImpl for SearchFunction {
    fn name(&self) -> &str {
        SEARCH
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{MISPLACED}")
    }
}

/// Adds the column that tells which table a `search` is about.
#[derive(Debug)]
struct SearchedTable;

impl AnalyzerRule for SearchedTable {
    fn name(&self) -> &str {
        "searched_table"
    }
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let named = plan.transform_up_with_subqueries(|node| {
            let is_filter = matches!(node, LogicalPlan::Filter(_));
            let columns: Vec<Column> = node.inputs().iter().flat_map(|input| input.schema().columns()).collect();
            node.map_expressions(|expr| {
                expr.transform_up(|expr| match expr {
                    Expr::ScalarFunction(call) if call.name() == SEARCH && !is_filter => plan_err!("{MISPLACED}"),
                    Expr::ScalarFunction(mut call) if call.name() == SEARCH && call.args.len() == 1 => {
                        call.args.insert(0, Expr::Column(searched(&columns)?));
                        Ok(Transformed::yes(Expr::ScalarFunction(call)))
                    }
                    other => Ok(Transformed::no(other)),
                })
            })
        })?;
        Ok(named.data)
    }
}

/// The time column of the one searchable table among those that a condition sees.
fn searched(columns: &[Column]) -> Result<Column> {
    let is_time = |column: &&Column| Table::ALL.iter().any(|table| table.is_searchable() && table.time_column() == column.name);
    let mut times = columns.iter().filter(is_time);
    match (times.next(), times.next()) {
        (Some(column), None) => Ok(column.clone()),
        (None, _) => plan_err!("search('…') is asked of logs or spans, and neither stands in this FROM with its time"),
        (Some(_), Some(_)) => plan_err!("search('…') may mean more than one table here: name one by any of its columns, as in search(l.time, '…')"),
    }
}

/// The filter on a table's text that words in the search language are; fields have no place in it.
pub(super) fn text_filter(words: &str) -> Result<Filter> {
    fn has_field(query: &Query) -> bool {
        match query {
            Query::All | Query::Text(_) => false,
            Query::And(parts) | Query::Or(parts) => parts.iter().any(has_field),
            Query::Not(inner) => has_field(inner),
            Query::Field { .. } | Query::Trace(_) | Query::Log(_) => true,
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

pub(super) fn text_matches(filter: &Filter, text: &str) -> bool {
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

/// `date_trunc`, quick where a unit has one length.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTruncFunction {
    builtin: Arc<ScalarUDF>,
}

impl DateTruncFunction {
    fn new() -> Self {
        Self {
            builtin: datafusion::functions::datetime::date_trunc(),
        }
    }
}

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;
const MICROS_PER_WEEK: i64 = 7 * MICROS_PER_DAY;
/// The last Monday before 1970.
const FIRST_MONDAY: i64 = -3 * MICROS_PER_DAY;

/// Width of a unit and where one begins, in microseconds. The builtin is as quick itself with shorter units, and longer ones
/// differ in length.
fn fixed_unit(name: &ColumnarValue) -> Option<(i64, i64)> {
    let ColumnarValue::Scalar(name) = name else { return None };
    match name.try_as_str().flatten()?.to_ascii_lowercase().as_str() {
        "hour" => Some((MICROS_PER_HOUR, 0)),
        "day" => Some((MICROS_PER_DAY, 0)),
        "week" => Some((MICROS_PER_WEEK, FIRST_MONDAY)),
        _ => None,
    }
}

/// The times that the builtin can truncate: it counts in nanoseconds, and refuses what is outside.
const SAFE_MICROS: std::ops::RangeInclusive<i64> = i64::MIN / 1_000 + MICROS_PER_WEEK..=i64::MAX / 1_000;

fn truncated(times: &TimestampMicrosecondArray, (width, origin): (i64, i64)) -> Option<ArrayRef> {
    if let (Some(first), Some(last)) = (min(times), max(times))
        && !(SAFE_MICROS.contains(&first) && SAFE_MICROS.contains(&last))
    {
        return None;
    }
    // what lies under a null may be any number
    let truncated: TimestampMicrosecondArray = times.unary(|time| time.wrapping_sub(time.wrapping_sub(origin).rem_euclid(width)));
    Some(Arc::new(truncated.with_timezone_opt(times.timezone())))
}

impl ScalarUDFImpl for DateTruncFunction {
    fn name(&self) -> &str {
        self.builtin.name()
    }
    fn aliases(&self) -> &[String] {
        self.builtin.aliases()
    }
    fn signature(&self) -> &Signature {
        self.builtin.signature()
    }
    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.builtin.return_type(arguments)
    }
    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.builtin.return_field_from_args(arguments)
    }
    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [unit, ColumnarValue::Array(times)] = arguments.args.as_slice()
            && let DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) = times.data_type()
            && matches!(zone.as_ref(), "UTC" | "+00:00")
            && let Some(unit) = fixed_unit(unit)
            && let Some(truncated) = truncated(times.as_primitive::<TimestampMicrosecondType>(), unit)
        {
            return Ok(ColumnarValue::Array(truncated));
        }
        self.builtin.invoke_with_args(arguments)
    }
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.builtin.output_ordering(inputs)
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.builtin.documentation()
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use proptest::strategy::Strategy as _;

    use super::*;

    fn invoke(function: &ScalarUDF, unit: &str, times: &TimestampMicrosecondArray) -> Option<ArrayRef> {
        let unit = ScalarValue::Utf8(Some(unit.into()));
        let time_field: FieldRef = Arc::new(Field::new("time", times.data_type().clone(), true));
        let arguments = ScalarFunctionArgs {
            arg_fields: vec![Arc::new(Field::new("unit", DataType::Utf8, false)), time_field.clone()],
            args: vec![ColumnarValue::Scalar(unit), ColumnarValue::Array(Arc::new(times.clone()))],
            number_rows: times.len(),
            return_field: time_field,
            config_options: Arc::new(ConfigOptions::default()),
        };
        Some(function.invoke_with_args(arguments).ok()?.into_array(times.len()).expect("an array"))
    }

    proptest::proptest! {
        #[test]
        fn date_trunc_is_the_builtin_only_quicker(
            times in proptest::collection::vec(
                proptest::option::of(proptest::prop_oneof![
                    proptest::prelude::any::<i64>(),
                    i64::MIN / 1_000..i64::MAX / 1_000,
                    -4 * MICROS_PER_WEEK..4 * MICROS_PER_WEEK,
                    (-200_000i64..200_000).prop_map(|hour| hour * MICROS_PER_HOUR),
                ]),
                0..40,
            ),
            unit in proptest::sample::select(vec!["hour", "HOUR", "day", "week", "second", "minute", "month", "quarter", "year", "millisecond", "nonsense"]),
            zone in proptest::sample::select(vec![Some("UTC"), Some("+00:00"), Some("+05:45"), None]),
        ) {
            let times = TimestampMicrosecondArray::from(times).with_timezone_opt(zone);
            let ours = invoke(&ScalarUDF::from(DateTruncFunction::new()), unit, &times);
            let builtin = invoke(&datafusion::functions::datetime::date_trunc(), unit, &times);
            proptest::prop_assert_eq!(ours, builtin);
        }
    }

    #[test]
    fn hours_days_and_weeks_of_utc_do_not_go_through_the_calendar() {
        for unit in ["hour", "Day", "WEEK"] {
            assert!(fixed_unit(&ColumnarValue::Scalar(ScalarValue::Utf8(Some(unit.into())))).is_some(), "{unit}");
        }
        let times = TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1)]);
        let weeks = truncated(&times, (MICROS_PER_WEEK, FIRST_MONDAY)).expect("times that fit");
        assert_eq!(
            weeks.as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>(),
            [Some(FIRST_MONDAY), None, Some(FIRST_MONDAY)]
        );
    }
}
