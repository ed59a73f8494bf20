//! What a condition of SQL says of one value, computed as SQL does.
//!
//! An index knows the different values of a column or attribute; whoever asks it about a condition asks of each value what the
//! condition says. The common conditions are computed here ([`read`]), in the way of DataFusion to the letter, which tests compare;
//! any other with one text in it is given to DataFusion value by value ([`by_datafusion`]).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, col};
use parking_lot::Mutex;

use super::conditions::{Judge, ValueTest};
use super::functions;
use crate::block::Pattern;

/// Values whose verdict is kept where it is dear.
const MAX_KEPT: usize = 4_096;
/// The one column over which DataFusion computes.
const VALUE: &str = "value";

/// What a condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    True,
    False,
    Null,
    /// It is an error, which the statement is to end with.
    Fails,
}

impl Verdict {
    /// Whether a row of which this is said must be looked at by whoever wants rows of which the condition says `wanted`.
    fn may_be(self, wanted: bool) -> bool {
        match self {
            Verdict::True => wanted,
            Verdict::False => !wanted,
            Verdict::Null => false,
            Verdict::Fails => true,
        }
    }
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Verdict::True } else { Verdict::False }
    }
}

type OfValue = Arc<dyn Fn(&str) -> Verdict + Send + Sync>;

/// A condition on one text.
#[derive(Clone)]
pub(super) struct Condition {
    of_value: OfValue,
    /// What it says where there is no value.
    of_none: Verdict,
    /// The test that it is where it says yes, if the index has a quicker one.
    yes: Option<ValueTest>,
}

impl Condition {
    fn new(of_value: impl Fn(&str) -> Verdict + Send + Sync + 'static) -> Self {
        Self {
            of_value: Arc::new(of_value),
            of_none: Verdict::Null,
            yes: None,
        }
    }

    fn holds(of_value: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |value| of_value(value).into())
    }

    fn found_by(self, test: ValueTest) -> Self {
        Self { yes: Some(test), ..self }
    }

    fn negated(self) -> Self {
        let of_value = self.of_value;
        let opposite = |verdict| match verdict {
            Verdict::True => Verdict::False,
            Verdict::False => Verdict::True,
            other => other,
        };
        Self {
            of_value: Arc::new(move |value| opposite(of_value(value))),
            of_none: opposite(self.of_none),
            yes: None,
        }
    }

    fn negated_if(self, is_negated: bool) -> Self {
        if is_negated { self.negated() } else { self }
    }

    /// A test that passes every value of which the condition says `wanted`; `None` if it says so of rows without a value too.
    pub(super) fn test(&self, wanted: bool) -> Option<ValueTest> {
        (!self.of_none.may_be(wanted)).then(|| self.test_of_values(wanted))
    }

    /// The same, of rows that have a value.
    pub(super) fn test_of_values(&self, wanted: bool) -> ValueTest {
        if let Some(test) = self.yes.as_ref().filter(|_| wanted) {
            return test.clone();
        }
        let of_value = self.of_value.clone();
        ValueTest::By(Judge(Arc::new(move |value| of_value(value).may_be(wanted))))
    }
}

/// A literal's text.
pub(super) fn literal_text(expr: &Expr) -> Option<&str> {
    let Expr::Literal(value, _) = expr else { return None };
    value.try_as_str().flatten()
}

/// A text without what only changes how it is kept.
pub(super) fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => plain(&cast.expr),
        Expr::Alias(alias) => plain(&alias.expr),
        other => other,
    }
}

/// Reads a condition of a common kind on one text: that text, and what is said of its values.
pub(super) fn read(expr: &Expr) -> Option<(&Expr, Condition)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (literal_text(left), literal_text(right)) {
            (None, Some(text)) => Some((plain(left), compared(*op, text)?)),
            (Some(text), None) => Some((plain(right), compared(op.swap()?, text)?)),
            _ => compared_as_number(left, *op, right).or_else(|| compared_as_number(right, op.swap()?, left)),
        },
        Expr::Like(like) if like.escape_char.is_none() => {
            let pattern = literal_text(&like.pattern)?;
            let condition = match like.case_insensitive {
                false => {
                    let glob = glob_of(pattern)?;
                    let pattern = Pattern::new(&glob);
                    let test = ValueTest::Like(Box::new(pattern.clone()), glob);
                    Condition::holds(move |value| pattern.matches(value)).found_by(test)
                }
                true => regex_condition(regex_of_like(pattern)?),
            };
            Some((plain(&like.expr), condition.negated_if(like.negated)))
        }
        Expr::InList(list) => {
            let any: Vec<String> = list.list.iter().map(|value| literal_text(value).map(str::to_string)).collect::<Option<_>>()?;
            let any: std::collections::HashSet<String> = any.into_iter().collect();
            let any = Arc::new(any);
            let test = match any.len() {
                1 => ValueTest::Is(any.iter().next()?.clone()),
                _ => ValueTest::OneOf(any.clone()),
            };
            let condition = Condition::holds(move |value| any.contains(value)).found_by(test);
            Some((plain(&list.expr), condition.negated_if(list.negated)))
        }
        Expr::IsNotNull(inner) => Some((plain(inner), is_not_null())),
        Expr::IsNull(inner) => Some((plain(inner), is_not_null().negated())),
        Expr::ScalarFunction(call) if call.name() == functions::MATCH => {
            let [text, words] = call.args.as_slice() else { return None };
            let filter = functions::text_filter(literal_text(words)?).ok()?;
            Some((plain(text), Condition::holds(move |value| functions::text_matches(&filter, value))))
        }
        _ => None,
    }
}

fn is_not_null() -> Condition {
    Condition {
        of_none: Verdict::False,
        ..Condition::holds(|_| true).found_by(ValueTest::Any)
    }
}

fn is_of(op: Operator, order: Ordering) -> bool {
    match op {
        Operator::Eq => order.is_eq(),
        Operator::NotEq => order.is_ne(),
        Operator::Lt => order.is_lt(),
        Operator::LtEq => order.is_le(),
        Operator::Gt => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    )
}

/// A text beside an operator and a literal.
fn compared(op: Operator, text: &str) -> Option<Condition> {
    let owned = text.to_string();
    match op {
        Operator::Eq => Some(Condition::holds(move |value| value == owned).found_by(ValueTest::Is(text.to_string()))),
        op if is_comparison(op) => Some(Condition::holds(move |value| is_of(op, value.cmp(owned.as_str())))),
        Operator::RegexMatch => Some(regex_condition(regex::Regex::new(text).ok()?)),
        Operator::RegexNotMatch => Some(regex_condition(regex::Regex::new(text).ok()?).negated()),
        Operator::RegexIMatch => Some(regex_condition(regex::Regex::new(&format!("(?i){text}")).ok()?)),
        Operator::RegexNotIMatch => Some(regex_condition(regex::Regex::new(&format!("(?i){text}")).ok()?).negated()),
        _ => None,
    }
}

fn regex_condition(regex: regex::Regex) -> Condition {
    let test = ValueTest::Find(regex.clone());
    Condition::holds(move |value| regex.is_match(value)).found_by(test)
}

/// A text that is read as a number, beside an operator and a number.
fn compared_as_number<'e>(side: &'e Expr, op: Operator, other: &Expr) -> Option<(&'e Expr, Condition)> {
    let Expr::Literal(number, _) = other else { return None };
    let (text, target, otherwise) = match side {
        Expr::Cast(cast) => (&cast.expr, cast.field.data_type(), Verdict::Fails),
        Expr::TryCast(cast) => (&cast.expr, cast.field.data_type(), Verdict::Null),
        _ => return None,
    };
    if !is_comparison(op) {
        return None;
    }
    let condition = match (target, number) {
        (DataType::Float64, ScalarValue::Float64(Some(end))) => {
            // DataFusion takes -0 for 0 on both sides
            let end = *end + 0.0;
            let order = move |number: f64| (number + 0.0).total_cmp(&end);
            Condition::new(move |value| Float64Type::parse(value).map_or(otherwise, |number| is_of(op, order(number)).into()))
        }
        (DataType::Int64, ScalarValue::Int64(Some(end))) => {
            let end = *end;
            Condition::new(move |value| Int64Type::parse(value).map_or(otherwise, |number| is_of(op, number.cmp(&end)).into()))
        }
        _ => return None,
    };
    Some((plain(text), condition))
}

/// The pattern of `LIKE` in our spelling; `None` of one with escapes.
pub(super) fn glob_of(pattern: &str) -> Option<String> {
    let mut glob = String::with_capacity(pattern.len());
    for character in pattern.chars() {
        match character {
            '\\' => return None,
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '*' | '?' => glob.extend(['\\', character]),
            other => glob.push(other),
        }
    }
    Some(glob)
}

/// The pattern of `ILIKE` as the regular expression that DataFusion makes of it; `None` of one with escapes.
pub(super) fn regex_of_like(pattern: &str) -> Option<regex::Regex> {
    let inner = pattern.strip_prefix('%').unwrap_or(pattern);
    let mut regex = String::from(if inner.len() == pattern.len() { "(?is)^" } else { "(?is)" });
    let inner = inner.strip_suffix('%').map_or((inner, "$"), |inner| (inner, ""));
    for character in inner.0.chars() {
        match character {
            '\\' => return None,
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push_str(inner.1);
    regex::Regex::new(&regex).ok()
}

/// Any condition on one text, `subject`: what DataFusion says of each value. `None` where that is too dear or cannot be.
pub(super) fn by_datafusion(expr: &Expr, subject: &Expr, state: &dyn Session) -> Option<Condition> {
    let is_dear = |node: &Expr| match node {
        Expr::Column(_) | Expr::Literal(..) | Expr::Cast(_) | Expr::TryCast(_) | Expr::Between(_) | Expr::InList(_) | Expr::Not(_) | Expr::Case(_) => false,
        Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::IsTrue(_) | Expr::IsFalse(_) | Expr::IsNotTrue(_) | Expr::IsNotFalse(_) => false,
        Expr::IsUnknown(_) | Expr::IsNotUnknown(_) | Expr::Negative(_) => false,
        // a pattern would be read again for each value
        Expr::BinaryExpr(binary) => !(is_comparison(binary.op) || binary.op.is_numerical_operators() || binary.op.is_logic_operator()),
        Expr::ScalarFunction(call) => call.name() == functions::MATCH || call.name().starts_with("regex"),
        _ => true,
    };
    let of_value = expr
        .clone()
        .transform_down(|node| {
            Ok(match node == *subject {
                true => Transformed::new(col(VALUE), true, datafusion::common::tree_node::TreeNodeRecursion::Jump),
                false => Transformed::no(node),
            })
        })
        .ok()?
        .data;
    let is_other = |node: &Expr| is_dear(node) || matches!(node, Expr::Column(column) if column.name != VALUE);
    if of_value.is_volatile() || of_value.exists(|node| Ok(is_other(node))).unwrap_or(true) {
        return None;
    }
    let schema = Arc::new(Schema::new(vec![Field::new(VALUE, DataType::Utf8, true)]));
    let computed = state.create_physical_expr(of_value, &DFSchema::try_from(schema.clone()).ok()?).ok()?;
    let verdict = move |value: Option<&str>| {
        let column: ArrayRef = Arc::new(StringArray::from(vec![value]));
        let said = RecordBatch::try_new(schema.clone(), vec![column])
            .map_err(Into::into)
            .and_then(|batch| computed.evaluate(&batch))
            .and_then(|said| said.into_array(1));
        match said.as_ref().ok().and_then(|said| said.as_boolean_opt()) {
            Some(said) if said.is_valid(0) => said.value(0).into(),
            Some(_) => Verdict::Null,
            None => Verdict::Fails,
        }
    };
    let of_none = verdict(None);
    let kept: Mutex<HashMap<String, Verdict>> = Mutex::default();
    let of_value = move |value: &str| {
        if let Some(known) = kept.lock().get(value) {
            return *known;
        }
        let said = verdict(Some(value));
        let mut kept = kept.lock();
        if kept.len() < MAX_KEPT {
            kept.insert(value.to_string(), said);
        }
        said
    };
    Some(Condition {
        of_none,
        ..Condition::new(of_value)
    })
}
