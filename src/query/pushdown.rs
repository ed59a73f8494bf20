//! Conditions of SQL as a filter that narrows what is read: by time, and by what an index answers.
//!
//! What is pushed down leaves every row that the conditions leave, and perhaps more: the plan tests the rows again. A condition
//! is true, false or unknown, so that what leaves at least the rows of which `a` is true says nothing of `NOT a`; each condition
//! is therefore asked for one or the other ([`Reader::at_least`]), and `AND`, `OR` and `NOT` are only ways between the two.
//!
//! | condition | of what | is asked |
//! |---|---|---|
//! | `=` `<>` `<` `IN` `LIKE` `ILIKE` `~` `IS NOT NULL` `match` | attributes, columns that are indexed, those of the resource | of each different value |
//! | `CAST(attributes['n'] AS DOUBLE) > 5`, functions of one of these | the same | of each different value; one that is no number stays, so that its error is told (`TRY_CAST` has none) |
//! | `=` `LIKE` `ILIKE` `~` `match` | `body` of logs, and (`LIKE`, `match`) `name`, `status_message` of spans | words and pieces of words |
//! | comparisons, `IN`, `IS [NOT] NULL` | numbers, times, flags; other texts | severities of the index; others are read before the other columns are |
//! | `IS NULL`, and what else may hold of rows without a value | an attribute of a resource or of a span | the index |
//! | `search('…')`, and such alone under `OR` and `NOT` | the row | all that a search asks; exactly. The traces that a `trace:(…)` or `log:(…)` in it means are found first |
//!
//! Some conditions that stand by themselves (or under `AND`) are answered wholly: [`exact`].
//!
//! The rest (conditions on two columns) is the plan's alone.

mod exact;

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use memchr::memmem;

use super::ast::Query;
use super::conditions::{Judge, Key, ValueTest};
use super::fields::Anchors;
use super::filter::{Filter, Leaf, Map};
use super::judge::{self, Condition, literal_text, plain};
use super::table::static_name;
use super::whole_maps::promoted;
use super::{fields, functions};
use crate::block::RawField;
use crate::model::schema::{SPAN_COLUMNS, is_context_column};
use crate::model::{Table, TimeRange};

pub(super) use exact::is_exact;

/// What `attributes['name']` is in a plan.
const GET_FIELD: &str = "get_field";
/// Deepest nesting that is looked into.
const MAX_DEPTH: usize = 100;
/// Whole numbers are doubles up to here.
const MAX_EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// What conditions leave to be read.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) range: TimeRange,
    pub(super) filter: Filter,
    /// Searches that ask for the traces of rows, which are to be found first.
    pub(super) of_traces: Vec<Query>,
    /// The conditions that the filter is made of, for people.
    pub(super) told: Vec<String>,
}

/// Reads conditions that all hold. Errors in what a `search` looks for.
pub(super) fn push(table: Table, conditions: &[Expr], state: &dyn Session, now_nanos: i64) -> Result<Pushed> {
    let range = conditions
        .iter()
        .fold(TimeRange::ALL, |range, condition| range.intersect(&time_range(table, condition)));
    let reader = Reader { table, state };
    let (mut filters, mut told, mut of_traces) = (Vec::new(), Vec::new(), Vec::new());
    for condition in conditions {
        let filter = match is_search(condition) {
            true => match search(table, condition, now_nanos)? {
                Searched::Rows(filter) => Some(filter),
                Searched::Traces(query) => {
                    told.push(condition.human_display().to_string());
                    of_traces.push(query);
                    None
                }
            },
            false => exact::filter(table, condition).or_else(|| reader.at_least(condition, true, 0).filter(|_| table.is_searchable())),
        };
        if let Some(filter) = filter.filter(|filter| !matches!(filter, Filter::All)) {
            filters.push(filter);
            told.push(condition.human_display().to_string());
        }
    }
    Ok(Pushed {
        range,
        filter: Filter::and(filters),
        of_traces,
        told,
    })
}

/// Whether a condition is `search('…')`, or such alone, joined by `AND`, `OR` and `NOT`: a search holds of a row or does not, so that they mean
/// to it what they mean in the search language.
pub(super) fn is_search(condition: &Expr) -> bool {
    match condition {
        Expr::ScalarFunction(call) => call.name() == functions::SEARCH,
        Expr::Alias(alias) => is_search(&alias.expr),
        Expr::Not(inner) => is_search(inner),
        Expr::BinaryExpr(BinaryExpr {
            op: op @ (Operator::And | Operator::Or),
            ..
        }) => operands(condition, *op).into_iter().all(is_search),
        _ => false,
    }
}

/// What searches ask together.
fn searched(table: Table, condition: &Expr) -> Result<Query> {
    let each = |op| {
        operands(condition, op)
            .into_iter()
            .map(|part| searched(table, part))
            .collect::<Result<Vec<_>>>()
    };
    let words = match condition {
        Expr::Alias(alias) => return searched(table, &alias.expr),
        Expr::Not(inner) => return Ok(Query::Not(Box::new(searched(table, inner)?))),
        Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => return Ok(Query::And(each(Operator::And)?)),
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => return Ok(Query::Or(each(Operator::Or)?)),
        Expr::ScalarFunction(call) => call.args.last().and_then(literal_text),
        _ => None,
    };
    let Some(words) = words else {
        return plan_err!("search takes a query in quotes: search('connection severity>=WARN')");
    };
    match super::parse(words, table) {
        Ok(query) => Ok(query),
        Err(error) => plan_err!("search: {} (at character {} of {words:?})", error.message, error.position),
    }
}

/// What `search('…')` asks.
pub(super) enum Searched {
    Rows(Filter),
    /// Other rows too: those of the traces of a row.
    Traces(Query),
}

/// What `search('…')` asks; an error if it is no search that can be made.
pub(super) fn search(table: Table, condition: &Expr, now_nanos: i64) -> Result<Searched> {
    if !table.is_searchable() {
        return plan_err!("search is asked of logs and spans, and this is {}", table.name());
    }
    let query = searched(table, condition)?;
    let mut anchors = Anchors::new();
    query.for_each_anchor(&mut |anchor| {
        anchors.insert(anchor.clone(), Filter::None);
    });
    match fields::compile_with(&query, table, now_nanos, &anchors) {
        Ok(filter) if anchors.is_empty() => Ok(Searched::Rows(filter)),
        Ok(_) => Ok(Searched::Traces(query)),
        Err(mistake) => plan_err!("search: {}", mistake.message),
    }
}

/// What a condition is about.
#[derive(Debug)]
enum Subject {
    /// `body` of logs.
    Body,
    /// A text whose different values an index has: the column, and the attributes under which they stand; a value of a map's, if it is.
    Values(Option<&'static str>, Vec<Key>, Option<Map>),
    /// A text column; whether an index has its values.
    Text(&'static str, Option<RawField>),
    /// A whole number, or microseconds.
    Number(&'static str),
    /// `http_response_status_code`, which is an attribute too.
    NumberOf(&'static str, Box<Key>),
    Flag(&'static str),
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    table: Table,
    state: &'a dyn Session,
}

impl Reader<'_> {
    /// A filter that leaves at least the rows of which the condition says `wanted`; `None` if there is none but all.
    fn at_least(&self, condition: &Expr, wanted: bool, depth: usize) -> Option<Filter> {
        if depth > MAX_DEPTH {
            return None;
        }
        let of = |inner: &Expr, wanted| self.at_least(inner, wanted, depth + 1);
        match condition {
            Expr::Literal(ScalarValue::Boolean(value), _) => Some(if *value == Some(wanted) { Filter::All } else { Filter::None }),
            Expr::Alias(alias) => of(&alias.expr, wanted),
            Expr::Not(inner) => of(inner, !wanted),
            Expr::IsTrue(inner) if wanted => of(inner, true),
            Expr::IsFalse(inner) if wanted => of(inner, false),
            Expr::IsNotTrue(inner) if !wanted => of(inner, true),
            Expr::IsNotFalse(inner) if !wanted => of(inner, false),
            Expr::BinaryExpr(BinaryExpr {
                op: op @ (Operator::And | Operator::Or),
                ..
            }) => {
                let parts = operands(condition, *op).into_iter().map(|part| of(part, wanted));
                match (*op == Operator::And) == wanted {
                    true => {
                        let known: Vec<Filter> = parts.flatten().collect();
                        (!known.is_empty()).then(|| Filter::and(known))
                    }
                    false => Some(Filter::or(parts.collect::<Option<Vec<_>>>()?)),
                }
            }
            Expr::Between(between) => {
                let side = |op, end: &Expr| {
                    let side = Expr::BinaryExpr(BinaryExpr::new(between.expr.clone(), op, Box::new(end.clone())));
                    of(&side, wanted != between.negated)
                };
                let (low, high) = (side(Operator::GtEq, &between.low), side(Operator::LtEq, &between.high));
                match wanted != between.negated {
                    true => {
                        let known: Vec<Filter> = [low, high].into_iter().flatten().collect();
                        (!known.is_empty()).then(|| Filter::and(known))
                    }
                    false => Some(Filter::or(vec![low?, high?])),
                }
            }
            // the range of time says it
            alone if depth == 0 && time_range(self.table, alone) != TimeRange::ALL => None,
            one => self.one(one, wanted),
        }
    }

    /// A condition without conditions inside.
    fn one(&self, condition: &Expr, wanted: bool) -> Option<Filter> {
        if let Some(filter) = self.of_number(condition, wanted) {
            return Some(filter);
        }
        if let Some((text, read)) = judge::read(condition)
            && let Some(subject) = self.subject(text)
        {
            return match subject {
                Subject::Body => of_body(condition, wanted),
                Subject::Values(column, keys, map) => self.of_values(column, keys, map, &read, wanted),
                Subject::Text(column, _) => {
                    let by_words = of_words(self.table, column, condition, wanted);
                    let by_value = self.of_column(column, &read, wanted);
                    let known: Vec<Filter> = [by_words, by_value].into_iter().flatten().collect();
                    (!known.is_empty()).then(|| Filter::and(known))
                }
                Subject::Number(_) | Subject::NumberOf(..) | Subject::Flag(_) => None,
            };
        }
        let text = self.only_text(condition)?;
        match self.subject(&text)? {
            Subject::Values(column, keys, map) => self.of_values(column, keys, map, &judge::by_datafusion(condition, &text, self.state)?, wanted),
            // IDs are as many as rows
            Subject::Text(column, Some(field)) if !matches!(field, RawField::TraceId | RawField::SpanId) => {
                self.of_column(column, &judge::by_datafusion(condition, &text, self.state)?, wanted)
            }
            _ => None,
        }
    }

    fn of_values(&self, column: Option<&'static str>, keys: Vec<Key>, map: Option<Map>, condition: &Condition, wanted: bool) -> Option<Filter> {
        match (condition.test(wanted), map) {
            (Some(test), _) => Some(Filter::leaf(Leaf::Value { column, keys, test })),
            // of a log, its body would have to be read to tell what is an attribute
            (None, Some(Map::Attributes)) if self.table == Table::Logs => None,
            (None, Some(map)) => {
                let name = keys.first()?.name.clone();
                let without = Filter::leaf(Leaf::InMap { map, name, column }).negated();
                let test = condition.test_of_values(wanted);
                Some(Filter::or(vec![without, Filter::leaf(Leaf::Value { column, keys, test })]))
            }
            // rows without a value are known of a column alone
            (None, None) if keys.is_empty() => self.of_column(column?, condition, wanted),
            (None, None) => None,
        }
    }

    fn of_column(&self, column: &'static str, condition: &Condition, wanted: bool) -> Option<Filter> {
        let leaf = |test| match is_context_column(column) {
            true => Leaf::Value {
                column: Some(column),
                keys: Vec::new(),
                test,
            },
            false => Leaf::Column(column, test),
        };
        match condition.test(wanted) {
            Some(test) => Some(Filter::leaf(leaf(test))),
            None => {
                let without = Filter::leaf(leaf(ValueTest::Any)).negated();
                Some(Filter::or(vec![without, Filter::leaf(leaf(condition.test_of_values(wanted)))]))
            }
        }
    }

    fn of_number(&self, condition: &Expr, wanted: bool) -> Option<Filter> {
        let (side, ranges) = match condition {
            Expr::Column(_) => (condition, None),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (side, op, end) = match (left.as_ref(), right.as_ref()) {
                    (side, Expr::Literal(end, _)) => (side, *op, end),
                    (Expr::Literal(end, _), side) => (side, op.swap()?, end),
                    _ => return None,
                };
                let op = if wanted { op } else { op.negate()? };
                (side, Some(beside(op, end)))
            }
            Expr::InList(list) => {
                let each = list.list.iter().map(|value| match value {
                    Expr::Literal(value, _) => beside(Operator::Eq, value),
                    _ => None,
                });
                let any: Option<Vec<_>> = each.collect();
                let is_in = list.negated != wanted;
                (list.expr.as_ref(), Some(any.filter(|_| is_in).map(|any| any.concat())))
            }
            Expr::IsNotNull(inner) if wanted => (inner.as_ref(), Some(Some(vec![i64::MIN..=i64::MAX]))),
            Expr::IsNull(inner) if !wanted => (inner.as_ref(), Some(Some(vec![i64::MIN..=i64::MAX]))),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => match self.subject(number_in(inner))? {
                Subject::Number(column) => return Some(Filter::leaf(Leaf::Numbers(column, vec![i64::MIN..=i64::MAX])).negated()),
                Subject::NumberOf(column, _) | Subject::Flag(column) => return Some(Filter::leaf(Leaf::Column(column, ValueTest::Any)).negated()),
                _ => return None,
            },
            _ => return None,
        };
        match (self.subject(number_in(side))?, ranges) {
            (Subject::Flag(column), None) => Some(Filter::leaf(Leaf::Column(column, ValueTest::Is(wanted.to_string())))),
            (Subject::Number(column), Some(ranges)) => Some(Filter::leaf(Leaf::Numbers(column, ranges?))),
            (Subject::NumberOf(column, key), Some(ranges)) => {
                let ranges = ranges?;
                let is_in = move |value: &str| value.parse::<i64>().is_ok_and(|number| ranges.iter().any(|range| range.contains(&number)));
                Some(Filter::leaf(Leaf::Value {
                    column: Some(column),
                    keys: vec![*key],
                    test: ValueTest::By(Judge(Arc::new(is_in))),
                }))
            }
            _ => None,
        }
    }

    fn subject(&self, expr: &Expr) -> Option<Subject> {
        subject(self.table, expr)
    }
}

fn subject(table: Table, expr: &Expr) -> Option<Subject> {
    match expr {
        Expr::Column(column) => {
            let schema = table.schema();
            let number = schema.index_of(&column.name).ok()?;
            let name = static_name(&schema, number)?;
            let attribute = SPAN_COLUMNS.iter().chain(&[("exception.type", "exception_type")]);
            let attribute = attribute.filter(|_| table == Table::Spans).find(|(_, column)| *column == name);
            match schema.field(number).data_type() {
                DataType::Utf8 if name == "body" => Some(Subject::Body),
                DataType::Utf8 if is_context_column(name) => Some(Subject::Values(Some(name), Vec::new(), None)),
                DataType::Utf8 => Some(match attribute {
                    Some((attribute, _)) => Subject::Values(Some(name), vec![Key::new(attribute)], None),
                    None => Subject::Text(name, RawField::of_column(table, name)),
                }),
                DataType::Int32 | DataType::Int64 => Some(match attribute {
                    Some((attribute, _)) => Subject::NumberOf(name, Box::new(Key::new(attribute))),
                    None => Subject::Number(name),
                }),
                DataType::Timestamp(..) => Some(Subject::Number(name)),
                DataType::Boolean => Some(Subject::Flag(name)),
                _ => None,
            }
        }
        Expr::ScalarFunction(call) if call.name() == GET_FIELD => {
            let [Expr::Column(map), key] = call.args.as_slice() else { return None };
            let (key, of) = (literal_text(key)?, Map::of_column(&map.name)?);
            // what the map is given from a column, a search finds there too
            let column = promoted(table, &map.name).iter().find(|(attribute, _)| *attribute == key);
            Some(Subject::Values(column.map(|(_, column)| *column), vec![Key::new(key)], Some(of)))
        }
        _ => None,
    }
}

impl Reader<'_> {
    /// The one text that a condition is about.
    fn only_text(&self, condition: &Expr) -> Option<Expr> {
        let (mut found, mut is_one) = (None, true);
        let walked = condition.apply(|node| {
            let is_text = matches!(self.subject(node), Some(Subject::Values(..) | Subject::Text(..)));
            if is_text {
                is_one &= found.as_ref().is_none_or(|known| known == node);
                found.get_or_insert_with(|| node.clone());
                return Ok(TreeNodeRecursion::Jump);
            }
            is_one &= !matches!(node, Expr::Column(_));
            Ok(TreeNodeRecursion::Continue)
        });
        found.filter(|_| is_one && walked.is_ok())
    }
}

/// The parts of a chain of one operator, however deep it is to the left.
fn operands(condition: &Expr, op: Operator) -> Vec<&Expr> {
    let (mut waiting, mut parts) = (vec![condition], Vec::new());
    while let Some(one) = waiting.pop() {
        match one {
            Expr::BinaryExpr(binary) if binary.op == op => waiting.extend([&*binary.right, &*binary.left]),
            other => parts.push(other),
        }
    }
    parts
}

/// A number without what only makes it wider.
fn number_in(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Int64 | DataType::Float64) => match plain(&cast.expr) {
            column @ Expr::Column(_) => column,
            _ => expr,
        },
        other => other,
    }
}

/// Whole numbers, or microseconds, that a comparison with a literal leaves, and perhaps some beside its end.
fn beside(op: Operator, end: &ScalarValue) -> Option<Vec<RangeInclusive<i64>>> {
    let (low, high, is_exact) = match end {
        ScalarValue::Int8(Some(n)) => (i64::from(*n), i64::from(*n), true),
        ScalarValue::Int16(Some(n)) => (i64::from(*n), i64::from(*n), true),
        ScalarValue::Int32(Some(n)) => (i64::from(*n), i64::from(*n), true),
        ScalarValue::Int64(Some(n)) => (*n, *n, true),
        ScalarValue::Float64(Some(n)) if !n.is_nan() => {
            // beyond, several whole numbers are one double
            let margin = if n.abs() < MAX_EXACT_DOUBLE { 1.0 } else { n.abs() / 1e15 };
            ((n.floor() - margin) as i64, (n.ceil() + margin) as i64, false)
        }
        literal => {
            let micros = nanos_of(literal).filter(|_| !matches!(literal, ScalarValue::Int64(_)))?.div_euclid(1_000);
            (micros.saturating_sub(1), micros.saturating_add(1), false)
        }
    };
    Some(match op {
        Operator::Eq => vec![low..=high],
        Operator::Gt | Operator::GtEq => vec![low..=i64::MAX],
        Operator::Lt | Operator::LtEq => vec![i64::MIN..=high],
        Operator::NotEq if is_exact => {
            let (below, above) = (low.checked_sub(1).map(|end| i64::MIN..=end), high.checked_add(1).map(|start| start..=i64::MAX));
            below.into_iter().chain(above).collect()
        }
        _ => return None,
    })
}

/// A condition on the body of logs, by words and pieces of words.
fn of_body(condition: &Expr, wanted: bool) -> Option<Filter> {
    let holds = |text: &str| match text.is_empty() {
        true => None,
        false => Some(Filter::leaf(Leaf::WholeText(ValueTest::Holds(memmem::Finder::new(text).into_owned())))),
    };
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if wanted => {
            let text = literal_text(right).or_else(|| literal_text(left))?;
            let regex = match op {
                Operator::Eq => return holds(text),
                // a text has no order of left and right, a regular expression has
                Operator::RegexMatch => regex::Regex::new(literal_text(right)?).ok()?,
                Operator::RegexIMatch => regex::Regex::new(&format!("(?i){}", literal_text(right)?)).ok()?,
                _ => return None,
            };
            Some(Filter::leaf(Leaf::WholeText(ValueTest::Find(regex))))
        }
        Expr::InList(list) if wanted && !list.negated => {
            let any = list.list.iter().map(|text| holds(literal_text(text)?));
            Some(Filter::or(any.collect::<Option<Vec<_>>>()?))
        }
        Expr::Like(like) if wanted && !like.negated => match like.case_insensitive {
            false => holds_pieces(literal_text(&like.pattern)?),
            true => Some(Filter::leaf(Leaf::WholeText(ValueTest::Find(judge::regex_of_like(literal_text(
                &like.pattern,
            )?)?)))),
        },
        Expr::ScalarFunction(call) if call.name() == functions::MATCH => {
            let words = functions::text_filter(literal_text(call.args.last()?)?).ok()?;
            // rows without a body are among them where words are not to be there
            Some(if wanted { words } else { words.negated() })
        }
        _ => None,
    }
}

/// A condition on one of the columns that make the text of spans.
fn of_words(table: Table, column: &str, condition: &Expr, wanted: bool) -> Option<Filter> {
    if !wanted || table != Table::Spans || !["name", "status_message"].contains(&column) {
        return None;
    }
    match condition {
        Expr::Like(like) if !like.negated && !like.case_insensitive => holds_pieces(literal_text(&like.pattern)?),
        // what is not in the column may be in the rest of the text
        Expr::ScalarFunction(call) if call.name() == functions::MATCH => {
            let words = functions::text_filter(literal_text(call.args.last()?)?).ok()?;
            (!has_negation(&words)).then_some(words)
        }
        _ => None,
    }
}

/// The texts that a pattern of `LIKE` has between its signs; `None` where that says nothing.
fn holds_pieces(pattern: &str) -> Option<Filter> {
    if pattern.contains('\\') {
        return None;
    }
    let pieces = pattern.split(['%', '_']).filter(|piece| !piece.is_empty());
    let holds = |piece: &str| Filter::leaf(Leaf::WholeText(ValueTest::Holds(memmem::Finder::new(piece).into_owned())));
    let all: Vec<Filter> = pieces.map(holds).collect();
    (!all.is_empty()).then(|| Filter::and(all))
}

fn has_negation(filter: &Filter) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(has_negation),
        Filter::Not(_) => true,
        _ => false,
    }
}

/// The times that a filter on the time columns leaves.
fn time_range(table: Table, filter: &Expr) -> TimeRange {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => time_range(table, left).intersect(&time_range(table, right)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (a, b) = (time_range(table, left), time_range(table, right));
            TimeRange::new(a.start_nanos.min(b.start_nanos), a.end_nanos.max(b.end_nanos))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let compared = match (time(table, left), literal_nanos(right)) {
                (Some(time), Some(nanos)) => Some((*op, nanos, time)),
                _ => match (time(table, right), literal_nanos(left), op.swap()) {
                    (Some(time), Some(nanos), Some(op)) => Some((op, nanos, time)),
                    _ => None,
                },
            };
            compared.map_or(TimeRange::ALL, |(op, nanos, time)| bounds(op, nanos, time.hidden_nanos))
        }
        Expr::Between(between) if !between.negated => {
            let Some(time) = time(table, &between.expr) else { return TimeRange::ALL };
            let side = |op, end| literal_nanos(end).map_or(TimeRange::ALL, |nanos| bounds(op, nanos, time.hidden_nanos));
            side(Operator::GtEq, &between.low).intersect(&side(Operator::LtEq, &between.high))
        }
        _ => TimeRange::ALL,
    }
}

/// The range of exact times that a comparison leaves; each end is widened by what rounding can hide.
fn bounds(op: Operator, nanos: i64, hidden_nanos: i64) -> TimeRange {
    let (from, to) = (nanos.saturating_sub(hidden_nanos), nanos.saturating_add(hidden_nanos));
    match op {
        Operator::Eq => TimeRange::new(from, to),
        Operator::Gt | Operator::GtEq => TimeRange::new(from, i64::MAX),
        Operator::Lt | Operator::LtEq => TimeRange::new(i64::MIN, to),
        _ => TimeRange::ALL,
    }
}

/// The time of rows as an expression has it.
struct Time {
    data_type: DataType,
    /// It lies less than this beside the exact time, before or behind: microseconds are rounded down, casts to coarser units towards 1970.
    hidden_nanos: i64,
}

/// The time of rows, if an expression is nothing else: one of its columns, or one under casts that move it by no more than their unit.
fn time(table: Table, expr: &Expr) -> Option<Time> {
    match expr {
        Expr::Column(column) => {
            let exact = table.time_column();
            let is_time = column.name == exact || Some(column.name.as_str()) == exact.strip_suffix("_unix_nano");
            let data_type = table.schema().field_with_name(&column.name).ok().filter(|_| is_time)?.data_type().clone();
            let hidden_nanos = unit_nanos(TimeUnit::Microsecond);
            Some(Time { data_type, hidden_nanos })
        }
        Expr::Cast(cast) => {
            let inner = time(table, &cast.expr)?;
            let DataType::Timestamp(unit, zone) = cast.field.data_type() else {
                return None;
            };
            let is_utc = |zone: &Option<Arc<str>>| zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "+00:00"));
            let is_kept = match &inner.data_type {
                // a time without a zone is read as one of the new zone's clocks, and the other way round
                DataType::Timestamp(_, from) => (from.is_some() && zone.is_some()) || (is_utc(from) && is_utc(zone)),
                // whole numbers are read as if they were of the unit
                DataType::Int64 => *unit == TimeUnit::Nanosecond && is_utc(zone),
                _ => false,
            };
            let hidden_nanos = match unit {
                TimeUnit::Second | TimeUnit::Millisecond => inner.hidden_nanos.saturating_add(unit_nanos(*unit)),
                TimeUnit::Microsecond | TimeUnit::Nanosecond => inner.hidden_nanos,
            };
            is_kept.then(|| Time {
                data_type: cast.field.data_type().clone(),
                hidden_nanos,
            })
        }
        _ => None,
    }
}

fn unit_nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

fn literal_nanos(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    nanos_of(value)
}

fn nanos_of(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampSecond(Some(t), _) => t.checked_mul(1_000_000_000),
        ScalarValue::TimestampMillisecond(Some(t), _) => t.checked_mul(1_000_000),
        ScalarValue::TimestampMicrosecond(Some(t), _) => t.checked_mul(1_000),
        ScalarValue::TimestampNanosecond(Some(t), _) | ScalarValue::Int64(Some(t)) => Some(*t),
        _ => None,
    }
}
