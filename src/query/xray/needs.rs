//! What of a filter expression can be asked of the index: conditions that some span of each trace meets that the expression lets through.
//!
//! An expression is about traces, the index knows spans. `service("api") { fault }` needs a span that may be of a service `api`, and it needs one
//! that has a fault; they need not be the same span. Each such need finds all traces of the answer, with others between them, so the one that
//! fewest spans meet is looked through, and the traces of those spans are read and asked. Needs may be wider than the expression, never
//! narrower; the tests hold that against the table of expressions, in the head and in blocks.

use super::expression::{CauseKind, Expression, Flag, Id, Keyword, Number, Operator, Test, TextOf, Value};
use super::facts::names;
use super::naming;
use crate::decode::ANNOTATIONS;
use crate::model::Table;
use crate::query::{Bound, Query, Test as SpanTest, Wildcards, fields};

impl Expression {
    /// Queries over spans, each of which some span of every trace matches that this holds of; none, if nothing can be asked.
    pub fn needs(&self) -> Vec<Query> {
        self.needs_of(true)
    }

    /// `of_trace`: it is asked of the whole trace, not of a segment or a call.
    fn needs_of(&self, of_trace: bool) -> Vec<Query> {
        match self {
            Expression::All | Expression::Not(_) | Expression::RootCauseJson(..) => Vec::new(),
            Expression::And(parts) => parts.iter().flat_map(|part| part.needs_of(of_trace)).collect(),
            Expression::Or(parts) => {
                // of each part one; a part of which nothing can be asked lets anything through
                let firsts: Option<Vec<Query>> = parts.iter().map(|part| part.needs_of(of_trace).into_iter().next()).collect();
                firsts.map(Query::Or).into_iter().collect()
            }
            Expression::Condition(keyword, test) => condition(keyword, test, of_trace).into_iter().collect(),
            Expression::Service(id, inner) => of_service(id).into_iter().chain(inner.needs_of(false)).collect(),
            Expression::Edge(from, to, inner) => of_service(from).into_iter().chain(of_service(to)).chain(inner.needs_of(false)).collect(),
            Expression::RootCause(CauseKind::Fault, ..) => vec![flagged(Flag::Fault)],
            Expression::RootCause(CauseKind::Error, ..) => vec![flagged(Flag::Error)],
            Expression::RootCause(CauseKind::ResponseTime, ..) => Vec::new(),
        }
    }
}

fn field(name: &str, test: SpanTest) -> Query {
    Query::Field { name: name.into(), test }
}

/// One of these attributes passes.
fn any_of(names: &[&str], test: &SpanTest) -> Query {
    Query::Or(names.iter().map(|name| field(name, test.clone())).collect())
}

/// A literal in a pattern.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn between(from: i64, to: i64) -> SpanTest {
    SpanTest::Range {
        from: Bound::Included(from.to_string()),
        to: Bound::Included(to.to_string()),
    }
}

fn flagged(flag: Flag) -> Query {
    let yes = SpanTest::Equals("true".into());
    let (told, from, to) = match flag {
        Flag::Error => ("aws.xray.error", 400, 499),
        Flag::Throttle => ("aws.xray.throttle", 429, 429),
        _ => ("aws.xray.fault", 500, 599),
    };
    let mut any = vec![field(told, yes.clone()), any_of(names::STATUS, &between(from, to))];
    if flag == Flag::Error {
        // of documents that tell a throttle alone
        any.push(field("aws.xray.throttle", yes));
    }
    if flag == Flag::Fault {
        any.push(field("status", SpanTest::Equals("ERROR".into())));
    }
    Query::Or(any)
}

/// A span that may be of a service of this name, or may call one.
fn of_name(name: &str) -> Query {
    let is = |name: &str| SpanTest::Equals(name.into());
    let ends = |with: &str| SpanTest::Matches(Wildcards::new(format!("*{}", escaped(with))));
    let mut callees: Vec<&str> = names::CALLEES.concat();
    callees.sort_unstable();
    callees.dedup();
    let mut any = vec![
        field("service", is(name)),
        field("name", is(name)),
        any_of(names::LOCAL, &is(name)),
        any_of(&callees, &is(name)),
    ];
    // a database at a host; where one of them has an `@` too, all that is sure is how the host ends
    if let Some((database, host)) = name.rsplit_once('@') {
        let host = if database.contains('@') { ends(host) } else { is(host) };
        any.push(any_of(names::HOST, &host));
    }
    // the end of a URL
    any.push(any_of(names::AWS_QUEUE, &ends(name)));
    Query::Or(any)
}

fn of_service(id: &Id) -> Option<Query> {
    id.name.as_deref().filter(|name| !name.is_empty()).map(of_name)
}

/// A test of a text as one of a span's values, perhaps a wider one.
fn of_text(test: &Test) -> Option<SpanTest> {
    let Value::Text(text) = &test.value else { return None };
    if text.is_empty() {
        return Some(SpanTest::Exists);
    }
    let like = |pattern: String| Some(SpanTest::Matches(Wildcards::new(pattern)));
    match test.operator {
        Operator::Equal => Some(SpanTest::Equals(text.clone())),
        Operator::Contains => like(format!("*{}*", escaped(text))),
        Operator::BeginsWith => like(format!("{}*", escaped(text))),
        Operator::EndsWith => like(format!("*{}", escaped(text))),
        _ => Some(SpanTest::Exists),
    }
}

/// The whole numbers around what a test lets through.
fn of_number(test: &Test) -> Option<SpanTest> {
    let Value::Number(asked) = test.value else { return None };
    let (below, above) = (
        Bound::Included((asked.floor() as i64).to_string()),
        Bound::Included((asked.ceil() as i64).to_string()),
    );
    let (from, to) = match test.operator {
        Operator::Equal => (below, above),
        Operator::Less | Operator::LessOrEqual => (Bound::Open, above),
        Operator::Greater | Operator::GreaterOrEqual => (below, Bound::Open),
        _ => return Some(SpanTest::Exists),
    };
    Some(SpanTest::Range { from, to })
}

fn condition(keyword: &Keyword, test: &Test, of_trace: bool) -> Option<Query> {
    let is_set = (test.value == Value::Boolean(true)) == (test.operator == Operator::Equal);
    match keyword {
        Keyword::Flag(flag @ (Flag::Error | Flag::Fault | Flag::Throttle)) if is_set => Some(flagged(*flag)),
        Keyword::Flag(_) | Keyword::Group(_) => None,
        Keyword::Number(Number::HttpStatus) => Some(any_of(names::STATUS, &of_number(test)?)),
        Keyword::Number(Number::ResponseTime) => at_least(test),
        // of a trace it is more than any of its spans takes
        Keyword::Number(Number::Duration) if !of_trace => at_least(test),
        Keyword::Number(_) => None,
        Keyword::Annotation(key) => {
            let test = match &test.value {
                Value::Text(_) => of_text(test)?,
                Value::Number(_) => of_number(test)?,
                Value::Boolean(_) => SpanTest::Exists,
            };
            let attribute = field(&format!("$.{key}"), test.clone());
            // a column has what is promoted: those names have a dot. Other columns of the same name are something else, with types of their own
            let mut any = vec![attribute];
            if key.contains('.') && fields::check(Table::Spans, key, &test).is_ok() {
                any.push(field(key, test));
            }
            // of a key that clients are told in other characters than it has, all that is known is that its span lists it
            any.extend(naming::other_keys(key).map(|regex| field(&format!("$.{ANNOTATIONS}"), SpanTest::Regex(regex))));
            Some(Query::Or(any))
        }
        Keyword::Text(text) => {
            let names: &[&str] = match text {
                TextOf::Url => names::URL,
                TextOf::Method => names::METHOD,
                TextOf::UserAgent => names::USER_AGENT,
                TextOf::ClientIp => names::CLIENT_IP,
                TextOf::User => names::USER,
                TextOf::AvailabilityZone => &["cloud.availability_zone"],
                TextOf::InstanceId => &["host.id"],
                TextOf::ResourceArn => &["aws.xray.resource_arn", "cloud.resource_id"],
                TextOf::Name => return name_is(test),
                TextOf::Type | TextOf::Message => return None,
            };
            Some(any_of(names, &of_text(test)?))
        }
    }
}

fn name_is(test: &Test) -> Option<Query> {
    match (&test.value, test.operator) {
        (Value::Text(name), Operator::Equal) if !name.is_empty() => Some(of_name(name)),
        _ => None,
    }
}

/// Spans that take as long as is asked for, in nanoseconds; a little less counts, as seconds are rounded.
fn at_least(test: &Test) -> Option<Query> {
    let Value::Number(seconds) = test.value else { return None };
    let is_lower_bound = matches!(test.operator, Operator::Equal | Operator::Greater | Operator::GreaterOrEqual);
    let nanos = (seconds * 1e9 * (1.0 - 1e-9)) as i64 - 1;
    let test = SpanTest::Range {
        from: Bound::Included(nanos.to_string()),
        to: Bound::Open,
    };
    (is_lower_bound && nanos > 0).then(|| field("duration_nano", test))
}
