//! What an expression gives for a row.
//!
//! What is missing spreads through arithmetic and functions. Comparisons with it do not hold; `!=`, `not like` and `not in`
//! are the opposite of `=`, `like` and `in`, so they do.

use std::cmp::Ordering;
use std::collections::HashSet;

use smallvec::SmallVec;

use super::functions::Arguments;
use super::row::Row;
use super::syntax::{Arithmetic, Comparison, Expression, Sought};
use super::value::{Compared, Number, Value};

/// What is the same for all rows.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) start_millis: i64,
    pub(super) end_millis: i64,
    pub(super) now_millis: i64,
    /// Values of each subscript's answer, by [`key`], where `in` asks for them.
    pub(super) sets: Vec<HashSet<String>>,
}

/// A value as it is looked up among others, numbers among the texts of the same form: two texts that differ are two values, as they are to `=`.
/// None of what is missing.
pub(super) fn key(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        // a number, before it is shown
        Value::Time(millis) => Some(millis.to_string()),
        other => Some(other.to_string()),
    }
}

/// Where an expression is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) row: &'a Row,
    /// Of the group at hand.
    pub(super) aggregates: &'a [Value],
    pub(super) scope: &'a Scope,
}

impl<'a> Place<'a> {
    pub(super) fn of(row: &'a Row, scope: &'a Scope) -> Self {
        Self { row, aggregates: &[], scope }
    }

    pub(super) fn holds(&self, condition: &Expression) -> bool {
        match condition {
            Expression::And(parts) => parts.iter().all(|part| self.holds(part)),
            Expression::Or(parts) => parts.iter().any(|part| self.holds(part)),
            Expression::Not(inner) => !self.holds(inner),
            Expression::Compare(operator, sides) => compares(*operator, &self.value(&sides.0), &self.value(&sides.1)),
            Expression::In { value, list, negated } => {
                let value = self.value(value);
                let is_it = |item: &Expression| value.compare(&self.value(item)) == Compared::As(Ordering::Equal);
                list.iter().any(is_it) != *negated
            }
            Expression::InAnswer { value, subscript, negated } => {
                let set = self.scope.sets.get(*subscript);
                let found = key(&self.value(value)).is_some_and(|key| set.is_some_and(|set| set.contains(&key)));
                found != *negated
            }
            Expression::Like { value, sought, negated } => self.is_like(value, sought) != *negated,
            other => self.value(other).holds(),
        }
    }

    fn is_like(&self, value: &Expression, sought: &Sought) -> bool {
        let value = self.value(value);
        let Some(text) = value.as_text() else { return false };
        match sought {
            Sought::Text(sought) => text.contains(&**sought),
            Sought::Regex(regex) => regex.is_match(&text),
            Sought::Computed(sought) => self.value(sought).as_text().is_some_and(|sought| text.contains(&*sought)),
        }
    }

    pub(super) fn value(&self, expression: &Expression) -> Value {
        match expression {
            Expression::Literal(value) => value.clone(),
            Expression::Field(field) => self.row.get(field),
            Expression::Found(_) => Value::Flag(true),
            Expression::Aggregate(number) => self.aggregates.get(*number).cloned().unwrap_or_default(),
            Expression::Negative(inner) => match self.value(inner).number() {
                Some(Number::Whole(whole)) => whole.checked_neg().map_or_else(|| Value::double(-(whole as f64)), Value::Whole),
                Some(Number::Double(double)) => Value::double(-double),
                None => Value::Null,
            },
            Expression::Arithmetic(operator, sides) => match (self.value(&sides.0).number(), self.value(&sides.1).number()) {
                (Some(left), Some(right)) => calculate(*operator, left, right),
                _ => Value::Null,
            },
            Expression::Call {
                function,
                arguments,
                period,
                regex,
            } => {
                let values: SmallVec<[Value; 4]> = arguments.iter().map(|argument| self.value(argument)).collect();
                (function.call)(&Arguments {
                    values: &values,
                    period: *period,
                    regex: regex.as_ref(),
                    scope: self.scope,
                })
            }
            condition => Value::Flag(self.holds(condition)),
        }
    }
}

fn compares(operator: Comparison, left: &Value, right: &Value) -> bool {
    let compared = left.compare(right);
    let order = match compared {
        Compared::As(order) => order,
        Compared::Alike => {
            return matches!(operator, Comparison::NotEqual | Comparison::LessOrEqual | Comparison::GreaterOrEqual);
        }
        Compared::Differ | Compared::Missing => return operator == Comparison::NotEqual,
    };
    match operator {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

/// Exact where both are whole and the result fits; what has no result (a division by zero) has no value.
fn calculate(operator: Arithmetic, left: Number, right: Number) -> Value {
    let exact = match (left, right) {
        (Number::Whole(a), Number::Whole(b)) => match operator {
            Arithmetic::Add => a.checked_add(b),
            Arithmetic::Subtract => a.checked_sub(b),
            Arithmetic::Multiply => a.checked_mul(b),
            Arithmetic::Divide => a.checked_rem(b).filter(|rest| *rest == 0).and_then(|_| a.checked_div(b)),
            Arithmetic::Remainder => a.checked_rem(b),
            Arithmetic::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        },
        _ => None,
    };
    if let Some(whole) = exact {
        return Value::Whole(whole);
    }
    let (a, b) = (left.as_f64(), right.as_f64());
    Value::double(match operator {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Remainder => a % b,
        Arithmetic::Power => a.powf(b),
    })
}
