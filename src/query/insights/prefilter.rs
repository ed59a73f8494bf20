//! What the index can say about a script: which events its leading filters can keep, and whether all of it is a count.
//!
//! Filters up to the first command that is not about single events count. Conditions on `@message` are questions about bodies;
//! those on fields of JSON ask for leaves of bodies (`$.name`), which attributes of records answer too, and in Lambda's groups, where JSON may stand inside a line, for
//! lines that hold the name. Conditions that a missing field passes (`!=`, `not`) say nothing, nor do those on fields that
//! commands before gave.

use std::sync::Arc;

use super::discover::LAMBDA_GROUPS;
use super::operators::is_leading;
use super::periods::Period;
use super::record::{self, Column};
use super::syntax::{AggregateKind, Command, Comparison, Expression, FieldName, Sought};
use super::value::{Number, Value};
use crate::model::TraceId;
use crate::model::schema::RESOURCE_COLUMNS;
use crate::query::{Bound, Query, Test, Wildcards};

/// Whole numbers beyond this are compared otherwise in the index.
const MAX_EXACT: f64 = 9e15;

/// A question that every event passes which the leading filters keep.
pub(super) fn superset(commands: &[Command]) -> Query {
    let mut given = Given::default();
    let mut query = Query::All;
    for command in commands {
        match command {
            Command::Filter(condition) => query = query.and(given.superset(condition)),
            // what order they come in does not matter
            Command::Sort(_) => {}
            command if is_leading(command) => given.add(command),
            _ => break,
        }
    }
    query
}

/// How many searches stand by themselves in a filter, or under `and`: what passes [`superset`] has been asked all of them.
pub(super) fn searches_of(condition: &Expression) -> usize {
    match condition {
        Expression::Found(_) => 1,
        Expression::And(parts) => parts.iter().map(searches_of).sum(),
        _ => 0,
    }
}

/// The searches in filters.
pub(super) fn searches(commands: &[Command]) -> Vec<&Query> {
    fn gather<'e>(condition: &'e Expression, out: &mut Vec<&'e Query>) {
        match condition {
            Expression::Found(query) => out.push(query),
            Expression::And(parts) => parts.iter().for_each(|part| gather(part, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for command in commands {
        if let Command::Filter(condition) = command {
            gather(condition, &mut out);
        }
    }
    out
}

/// What a count is by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CountedBy {
    Bin(i64),
    Stream,
    Group,
}

impl CountedBy {
    /// Its field in the search language.
    pub(super) fn field(&self) -> Option<&'static str> {
        match self {
            CountedBy::Bin(_) => None,
            CountedBy::Stream => Some("@log_stream"),
            CountedBy::Group => Some("@log_group"),
        }
    }
}

/// Which command counts, exactly what, and by what, if a script is a count up to there.
pub(super) fn exact_count(commands: &[Command]) -> Option<(usize, Query, Vec<CountedBy>)> {
    let given = Given::default();
    let mut query = Query::All;
    for (place, command) in commands.iter().enumerate() {
        match command {
            Command::Filter(condition) => query = query.and(given.exact(condition)?),
            Command::Fields(items) | Command::Display(items) if items.iter().all(|item| item.is_plain) => {}
            Command::Stats(stats) => {
                let is_count = |kind: &AggregateKind| *kind == AggregateKind::Count;
                if !stats.aggregates.iter().all(|call| is_count(&call.kind) && call.of.is_none()) {
                    return None;
                }
                let mut by = Vec::new();
                for (number, item) in stats.by.iter().enumerate() {
                    let one = match (&item.expression, stats.bin) {
                        (_, Some((bin, Period::Millis(millis)))) if bin == number => CountedBy::Bin(millis),
                        (Expression::Field(field), _) if *field.name == *"@logStream" => CountedBy::Stream,
                        (Expression::Field(field), _) if *field.name == *"@log" => CountedBy::Group,
                        _ => return None,
                    };
                    if by.contains(&one) {
                        return None;
                    }
                    by.push(one);
                }
                return Some((place, query, by));
            }
            _ => return None,
        }
    }
    None
}

/// Fields that commands gave: they are not those of events.
#[derive(Default)]
struct Given {
    names: Vec<Arc<str>>,
}

/// What a field is to the index.
enum Indexed<'a> {
    Message,
    Stream,
    Log,
    /// In Lambda's lines, behind this.
    LambdaText,
    LambdaNumber(&'static str),
    Json(&'a FieldName),
}

impl Given {
    fn add(&mut self, command: &Command) {
        match command {
            Command::Fields(items) | Command::Display(items) => {
                self.names.extend(items.iter().filter(|item| !item.is_plain).map(|item| item.name.clone()));
            }
            Command::Parse { extraction, .. } => self.names.extend(extraction.names()),
            Command::Json { paths, .. } => self.names.extend(paths.iter().map(|(_, name)| name.clone())),
            _ => {}
        }
    }

    fn indexed<'a>(&self, expression: &'a Expression) -> Option<Indexed<'a>> {
        let Expression::Field(field) = expression else { return None };
        let is_given = |name: &str| self.names.iter().any(|given| **given == *name);
        if is_given(&field.name) || field.ends.iter().any(|end| is_given(&field.name[..*end])) {
            return None;
        }
        match &*field.name {
            "@message" => Some(Indexed::Message),
            "@logStream" => Some(Indexed::Stream),
            "@log" => Some(Indexed::Log),
            "@requestId" | "@type" => Some(Indexed::LambdaText),
            "@duration" | "@billedDuration" | "@initDuration" => Some(Indexed::LambdaNumber("Duration: ")),
            "@memorySize" => Some(Indexed::LambdaNumber("Memory Size: ")),
            "@maxMemoryUsed" => Some(Indexed::LambdaNumber("Max Memory Used: ")),
            name if name.starts_with('@') && !name.starts_with("@@") => None,
            _ => Some(Indexed::Json(field)),
        }
    }

    /// A question that events pass for which a condition holds.
    fn superset(&self, condition: &Expression) -> Query {
        match condition {
            Expression::And(parts) => parts.iter().map(|part| self.superset(part)).fold(Query::All, Query::and),
            Expression::Or(parts) => any(parts.iter().map(|part| self.superset(part)).collect()),
            Expression::Found(query) => Query::clone(query),
            Expression::Not(inner) => match self.exact(inner) {
                Some(query) => !query,
                None => Query::All,
            },
            Expression::Compare(Comparison::Equal, sides)
                if matches!(sides.1, Expression::Literal(Value::Whole(1) | Value::Flag(true))) && is_test(&sides.0) =>
            {
                self.superset(&sides.0)
            }
            Expression::Compare(operator, sides) => match (&sides.0, &sides.1) {
                (field, Expression::Literal(value)) => self.compared(field, *operator, value),
                (Expression::Literal(value), field) => self.compared(field, turned(*operator), value),
                _ => Query::All,
            },
            Expression::In { value, list, negated: false } => {
                let one = |item: &Expression| match item {
                    Expression::Literal(item) => self.compared(value, Comparison::Equal, item),
                    _ => Query::All,
                };
                any(list.iter().map(one).collect())
            }
            Expression::Like { negated: true, .. } => self.exact(condition).unwrap_or(Query::All),
            Expression::Like { value, sought, negated: false } => self.like(value, sought),
            Expression::Call { function, arguments, .. } => match (function.name, &arguments[..]) {
                ("ispresent", [field]) => self.exists(field),
                ("strcontains" | "startswith" | "endswith", [field, Expression::Literal(Value::Text(text))]) => self.like(field, &Sought::Text(text.clone())),
                _ => Query::All,
            },
            _ => Query::All,
        }
    }

    fn exists(&self, field: &Expression) -> Query {
        match self.indexed(field) {
            Some(Indexed::Json(field)) => json(field, &[Test::Exists]),
            Some(Indexed::LambdaNumber(label)) => body_holds(label),
            _ => Query::All,
        }
    }

    fn compared(&self, field: &Expression, operator: Comparison, value: &Value) -> Query {
        if operator == Comparison::NotEqual || value.is_null() {
            return Query::All;
        }
        let is_equality = operator == Comparison::Equal;
        let number = value.number();
        match self.indexed(field) {
            Some(Indexed::Json(field)) => json(field, &value_tests(operator, value)),
            Some(Indexed::LambdaNumber(label)) => body_holds(label),
            Some(Indexed::Message | Indexed::LambdaText) if is_equality && number.is_none() => body_holds(&value.to_string()),
            Some(Indexed::Stream) if is_equality && number.is_none() => Query::equals("@log_stream", value.to_string()),
            Some(Indexed::Log) if is_equality && number.is_none() => match value.to_string().split_once(':') {
                Some((_, group)) if !group.is_empty() => Query::equals("@log_group", group),
                _ => Query::All,
            },
            _ => Query::All,
        }
    }

    fn like(&self, value: &Expression, sought: &Sought) -> Query {
        let Some(indexed) = self.indexed(value) else { return Query::All };
        match (indexed, sought) {
            (_, Sought::Computed(_)) => Query::All,
            (Indexed::Message | Indexed::LambdaText, Sought::Text(text)) => body_holds(text),
            (Indexed::Message, Sought::Regex(regex)) => match regex.is_match("") {
                true => Query::All,
                false => field("body", Test::Regex(regex.as_str().to_string())),
            },
            (Indexed::Stream, Sought::Text(text)) => field("@log_stream", holds(text)),
            (Indexed::Stream, Sought::Regex(regex)) => field("@log_stream", Test::Regex(regex.as_str().to_string())),
            (Indexed::LambdaNumber(label), _) => body_holds(label),
            (Indexed::Json(name), Sought::Text(text)) => json(name, &or_number(holds(text))),
            (Indexed::Json(name), Sought::Regex(regex)) => json(name, &or_number(Test::Regex(regex.as_str().to_string()))),
            (Indexed::Log | Indexed::LambdaText, _) => Query::All,
        }
    }

    /// The question that exactly those events pass for which a condition holds, if the index has one.
    fn exact(&self, condition: &Expression) -> Option<Query> {
        match condition {
            Expression::And(parts) => {
                let parts: Option<Vec<Query>> = parts.iter().map(|part| self.exact(part)).collect();
                Some(parts?.into_iter().fold(Query::All, Query::and))
            }
            Expression::Or(parts) => {
                let parts: Option<Vec<Query>> = parts.iter().map(|part| self.exact(part)).collect();
                Some(any(parts?))
            }
            Expression::Not(inner) => self.exact(inner).map(|query| !query),
            Expression::Found(query) => Some(Query::clone(query)),
            Expression::Like { value, sought, negated } => {
                let query = match (self.indexed(value)?, sought) {
                    (Indexed::Message, Sought::Text(_)) | (Indexed::Stream, Sought::Text(_) | Sought::Regex(_)) => self.like(value, sought),
                    (Indexed::Message, Sought::Regex(regex)) if !regex.is_match("") => self.like(value, sought),
                    _ => return None,
                };
                Some(if *negated { !query } else { query })
            }
            Expression::Compare(operator @ (Comparison::Equal | Comparison::NotEqual), sides) => {
                let (Indexed::Stream, Expression::Literal(value)) = (self.indexed(&sides.0)?, &sides.1) else {
                    return None;
                };
                let query = stream_is(value)?;
                Some(if *operator == Comparison::NotEqual { !query } else { query })
            }
            Expression::In { value, list, negated } => {
                let Indexed::Stream = self.indexed(value)? else { return None };
                let one = |item: &Expression| match item {
                    Expression::Literal(item) => stream_is(item),
                    _ => None,
                };
                let query = any(list.iter().map(one).collect::<Option<_>>()?);
                Some(if *negated { !query } else { query })
            }
            Expression::Call { function, arguments, .. } => match (function.name, &arguments[..]) {
                ("strcontains", [field, Expression::Literal(Value::Text(text))]) => match self.indexed(field)? {
                    Indexed::Message => Some(body_holds(text)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

fn stream_is(value: &Value) -> Option<Query> {
    match value {
        Value::Text(text) if value.number().is_none() && !text.is_empty() => Some(Query::equals("@log_stream", &**text)),
        _ => None,
    }
}

/// Whether a call gives 1 or 0.
fn is_test(expression: &Expression) -> bool {
    let tests = ["ispresent", "strcontains", "startswith", "endswith"];
    matches!(expression, Expression::Call { function, .. } if tests.contains(&function.name))
}

fn turned(operator: Comparison) -> Comparison {
    match operator {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        other => other,
    }
}

fn any(parts: Vec<Query>) -> Query {
    match parts.contains(&Query::All) {
        true => Query::All,
        false => Query::Or(parts),
    }
}

fn field(name: &str, test: Test) -> Query {
    Query::Field { name: name.into(), test }
}

fn body_holds(text: &str) -> Query {
    match text.is_empty() {
        true => Query::All,
        false => field("body", Test::Exact(text.to_string())),
    }
}

/// Values that hold a text.
fn holds(text: &str) -> Test {
    let escaped: String = text
        .chars()
        .flat_map(|c| matches!(c, '*' | '?' | '\\').then_some('\\').into_iter().chain([c]))
        .collect();
    Test::Matches(Wildcards::new(format!("*{escaped}*")))
}

/// A test of texts, which numbers and flags may pass too in the form in which the language shows them.
fn or_number(test: Test) -> Vec<Test> {
    let mut tests = vec![test, Test::Regex("^-?[0-9]".into())];
    tests.extend(["true", "false"].map(|flag| Test::Equals(flag.into())));
    tests
}

/// Tests of which values pass one that compare so.
fn value_tests(operator: Comparison, value: &Value) -> Vec<Test> {
    let flags = ["true", "false"].map(|flag| Test::Equals(flag.into()));
    match (value.number(), operator) {
        (Some(number), _) if number.as_f64().abs() >= MAX_EXACT => vec![Test::Exists],
        // a text that reads as a number is before and behind words too, by its characters
        (Some(_), operator) if operator != Comparison::Equal && matches!(value, Value::Text(_)) => vec![Test::Exists],
        (Some(number), operator) => {
            let text = match number {
                Number::Whole(whole) => whole.to_string(),
                Number::Double(double) => double.to_string(),
            };
            let (included, excluded) = (|| Bound::Included(text.clone()), || Bound::Excluded(text.clone()));
            let (from, to) = match operator {
                Comparison::Equal => (included(), included()),
                Comparison::NotEqual => return vec![Test::Exists],
                Comparison::Less => (Bound::Open, excluded()),
                Comparison::LessOrEqual => (Bound::Open, included()),
                Comparison::Greater => (excluded(), Bound::Open),
                Comparison::GreaterOrEqual => (included(), Bound::Open),
            };
            let mut tests = vec![Test::Range { from, to }];
            tests.extend(flags);
            tests
        }
        (None, Comparison::Equal) => vec![Test::Equals(value.to_string())],
        (None, _) => vec![Test::Exists],
    }
}

/// Questions that rows pass which have a field of this name beside their message, and it passes one of the tests; `None`: any may.
fn beside_message(name: &str, tests: &[Test]) -> Option<Vec<Query>> {
    match (Column::of(name), tests) {
        (Some(Column::TraceId), [Test::Equals(id)]) => {
            let is_id = TraceId::parse_any(id).is_some();
            return Some(is_id.then(|| Query::equals("trace_id", id.as_str())).into_iter().collect());
        }
        (Some(_), _) => return None,
        (None, _) => {}
    }
    let mut asked = Vec::new();
    for attribute in record::attribute_names(name) {
        // of the name itself the JSON's question is the same
        asked.extend((attribute != name).then(|| format!("$.{attribute}")));
        asked.extend(
            RESOURCE_COLUMNS
                .iter()
                .any(|(promoted, _)| *promoted == attribute)
                .then(|| attribute.to_string()),
        );
    }
    let of_name = |name: String| tests.iter().map(move |test| field(&name, test.clone()));
    Some(asked.into_iter().flat_map(of_name).collect())
}

/// Events in whose JSON a field passes one of the tests, or beside whose message.
fn json(name: &FieldName, tests: &[Test]) -> Query {
    // what is a step's number here may be an item, which has no name in the index
    let is_number = |step: &&str| step.bytes().all(|b| b.is_ascii_digit());
    let written = name.name.strip_prefix("@@").map_or_else(|| name.name.to_string(), |rest| format!("@{rest}"));
    let steps: Vec<&str> = written.split('.').collect();
    let names = match steps.iter().filter(|step| is_number(step)).count() {
        0 => vec![written.clone()],
        1 => vec![
            written.clone(),
            steps.iter().filter(|step| !is_number(step)).copied().collect::<Vec<_>>().join("."),
        ],
        _ => return Query::All,
    };
    if names.iter().any(String::is_empty) {
        return Query::All;
    }
    let Some(beside) = beside_message(&written, tests) else { return Query::All };
    let mut parts: Vec<Query> = names
        .iter()
        .flat_map(|name| tests.iter().map(move |test| field(&format!("$.{name}"), test.clone())))
        .collect();
    parts.extend(beside);
    // inside of a line the index knows no fields, but the name stands there, unless it is escaped
    let in_lambda = field("@log_group", Test::Matches(Wildcards::new(format!("{LAMBDA_GROUPS}*"))));
    let last = steps.iter().rev().find(|step| !is_number(step)).copied().unwrap_or_default();
    let is_plain = last.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) && !last.is_empty();
    parts.push(match is_plain {
        true => in_lambda.and(Query::Or(vec![body_holds(last), body_holds("\\u")])),
        false => in_lambda,
    });
    Query::Or(parts)
}
