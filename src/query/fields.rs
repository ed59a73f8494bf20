//! What a field name means on a table, and a written test as a test of values.
//!
//! See the module's page for the rules; this is their one implementation. The result is a [`Filter`].

use std::collections::HashMap;
use std::ops::RangeInclusive;

use memchr::memmem;

use super::addresses::{Address, Network};
use super::ast::{Bound, Query, Test, Text, Wildcards};
use super::conditions::{Alike, Key, Number, NumberRange, Phrase, TokenTest, ValueTest};
use super::filter::{Filter, Leaf};
use crate::block::{Pattern, tokenizer};
use crate::model::schema::{RESOURCE_COLUMNS, SPAN_COLUMNS, is_context_column};
use crate::model::{SpanId, Table, TraceId, parse_duration_nanos, parse_time, severity};

/// Tokens of one phrase: as many as a machine word twice over has bits.
const MAX_PHRASE_TOKENS: usize = 128;
/// Other words between those of a phrase; more is hardly a phrase.
pub(super) const MAX_BETWEEN: u32 = 1_000;
/// A bare number is looked up as a decimal trace ID from so many digits on; random 64-bit IDs have 17 to 20.
const MIN_DECIMAL_TRACE_DIGITS: usize = 16;
/// Compiled size of a regular expression, bytes.
const REGEX_BYTES: usize = 1 << 20;

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

type Result<T, E = Mistake> = std::result::Result<T, E>;

fn mistake<T>(message: impl Into<String>, hint: impl Into<Option<&'static str>>) -> Result<T> {
    Err(Mistake {
        message: message.into(),
        hint: hint.into().map(str::to_string),
    })
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The table's text.
    Text,
    /// Severity by class or number.
    Severity,
    /// Hex digits of a trace or span ID.
    TraceId(&'static str),
    SpanId(&'static str),
    /// A point in time; stored as nanoseconds, or as microseconds.
    Time {
        column: &'static str,
        in_micros: bool,
    },
    /// Nanoseconds, written with units.
    Duration,
    /// A number or flag of each row.
    Number(&'static str),
    /// Text of each row in a fixed set of upper-case words.
    Word(&'static str),
    /// Text of each row or context.
    Plain(&'static str),
    /// A promoted attribute: its column, and what attributes of these names say.
    Promoted {
        column: &'static str,
        keys: Vec<String>,
    },
    /// Any attribute, resource attribute or JSON body leaf.
    Attribute(String),
}

impl Field {
    /// The meaning of a name on `logs` or `spans`.
    pub(super) fn resolve(table: Table, name: &str) -> Field {
        let is_spans = table == Table::Spans;
        if let Some(attribute) = name.strip_prefix("$.").filter(|attribute| !attribute.is_empty()) {
            return Field::Attribute(attribute.to_string());
        }
        match name {
            "body" => return Field::Text,
            "trace_id" | "xray_trace_id" => return Field::TraceId("trace_id"),
            "span_id" => return Field::SpanId("span_id"),
            "trace_flags" => return Field::Number("trace_flags"),
            "dropped_attributes_count" => return Field::Number("dropped_attributes_count"),
            "ingest_id" => return Field::Number("ingest_id"),
            "scope_name" | "otel.scope.name" => return Field::Plain("scope_name"),
            "scope_version" | "otel.scope.version" => return Field::Plain("scope_version"),
            "service" => return promoted("service_name", name),
            "host" => return promoted("host_name", name),
            "log_group" => return promoted("aws_log_group", name),
            "log_stream" => return promoted("aws_log_stream", name),
            "@log_group" => return Field::Plain("aws_log_group"),
            "@log_stream" => return Field::Plain("aws_log_stream"),
            _ => {}
        }
        let own = match (is_spans, name) {
            (false, "severity" | "level") => Some(Field::Severity),
            (false, "time") => Some(Field::Time {
                column: "time_unix_nano",
                in_micros: false,
            }),
            (false, "observed_time") => Some(Field::Time {
                column: "observed_time",
                in_micros: true,
            }),
            (false, "severity_number") => Some(Field::Number("severity_number")),
            (false, "time_unix_nano") => Some(Field::Number("time_unix_nano")),
            (false, "body_type") => Some(Field::Number("body_type")),
            (false, "pattern_id") => Some(Field::Number("pattern_id")),
            (false, "trace_id_source") => Some(Field::Plain("trace_id_source")),
            (false, "severity_text") => Some(Field::Plain("severity_text")),
            (false, "event_name" | "event.name") => Some(promoted("event_name", name)),
            (true, "name") => Some(Field::Plain("name")),
            (true, "kind") => Some(Field::Word("kind")),
            (true, "status" | "status_code") => Some(Field::Word("status_code")),
            (true, "status_message") => Some(Field::Plain("status_message")),
            (true, "trace_state") => Some(Field::Plain("trace_state")),
            (true, "parent_span_id") => Some(Field::SpanId("parent_span_id")),
            (true, "duration") => Some(Field::Duration),
            (true, "duration_nano") => Some(Field::Number("duration_nano")),
            (true, "start_time_unix_nano") => Some(Field::Number("start_time_unix_nano")),
            (true, "time" | "start_time") => Some(Field::Time {
                column: "start_time_unix_nano",
                in_micros: false,
            }),
            (true, "end_time") => Some(Field::Time {
                column: "end_time",
                in_micros: true,
            }),
            (true, "is_root") => Some(Field::Number("is_root")),
            (true, "in_progress") => Some(Field::Number("in_progress")),
            (true, "exception_type" | "exception.type") => Some(promoted("exception_type", name)),
            _ => None,
        };
        if let Some(field) = own {
            return field;
        }
        // as others write it, within conditions on a trace above all
        if let Some(name) = name.strip_prefix("span.").filter(|_| is_spans)
            && let field = Field::resolve(table, name)
            && !matches!(field, Field::Attribute(_))
        {
            return field;
        }
        let span_columns = if is_spans { &SPAN_COLUMNS[..] } else { &[] };
        let of_resource = RESOURCE_COLUMNS
            .iter()
            .chain(span_columns)
            .find(|(attribute, column)| *attribute == name || *column == name);
        match of_resource {
            Some((_, column)) => promoted(column, name),
            None => Field::Attribute(name.to_string()),
        }
    }

    /// The name of the column in which the field's value stands, if in one.
    pub(super) fn column(&self) -> Option<&'static str> {
        match self {
            Field::Text | Field::Attribute(_) => None,
            Field::Severity => Some("severity_number"),
            Field::Duration => Some("duration_nano"),
            Field::TraceId(column) | Field::SpanId(column) | Field::Number(column) | Field::Word(column) | Field::Plain(column) => Some(column),
            Field::Time { column, .. } | Field::Promoted { column, .. } => Some(column),
        }
    }
}

/// A promoted column, which also has what an attribute of its own OpenTelemetry name (kept in the map when its type is
/// not the column's) or a JSON body leaf of the name as written says.
fn promoted(column: &'static str, written: &str) -> Field {
    let attribute = RESOURCE_COLUMNS
        .iter()
        .chain(&SPAN_COLUMNS)
        .chain(&[("event.name", "event_name"), ("exception.type", "exception_type")])
        .find(|(_, c)| *c == column)
        .map(|(attribute, _)| attribute.to_string());
    let mut keys: Vec<String> = attribute.into_iter().collect();
    if !keys.iter().any(|key| key == written) {
        keys.push(written.to_string());
    }
    Field::Promoted { column, keys }
}

/// A trace ID that a bare word or phrase may be.
pub(super) fn bare_trace_id(text: &str) -> Option<TraceId> {
    let text = text.trim();
    let text = match text.split_once(':') {
        Some((header, value)) if matches!(header.to_ascii_lowercase().as_str(), "x-amzn-trace-id" | "traceparent" | "b3") => value.trim(),
        _ => text,
    };
    if text.len() < MIN_DECIMAL_TRACE_DIGITS {
        return None;
    }
    TraceId::parse_any(text)
}

/// Whether a text can be searched for.
pub(super) fn check_text(text: &Text) -> Result<()> {
    phrase(text).map(|_| ())
}

/// Whether a test makes sense on a field.
pub(super) fn check(table: Table, name: &str, test: &Test) -> Result<()> {
    // relative times need a clock when the query runs; any will do to check them
    condition(table, name, test, 0).map(|_| ())
}

/// The filter that a query is on a table, at a time.
pub(super) fn compile(query: &Query, table: Table, now_nanos: i64) -> Result<Filter> {
    compile_with(query, table, now_nanos, &Anchors::new())
}

/// [`compile`], where the traces of each condition on a trace are known.
pub(super) fn compile_with(query: &Query, table: Table, now_nanos: i64, anchors: &Anchors) -> Result<Filter> {
    if !table.is_searchable() {
        return mistake(format!("{} cannot be searched", table.name()), "search logs or spans, or use SQL");
    }
    lower(query, table, (now_nanos, anchors), 0)
}

/// Of each condition on a trace, the rows of the traces that meet it.
pub(super) type Anchors = HashMap<Query, Filter>;

/// Deepest tree that is compiled: other parts build queries too.
const MAX_TREE_DEPTH: usize = 200;

fn lower(query: &Query, table: Table, at: (i64, &Anchors), depth: usize) -> Result<Filter> {
    if depth > MAX_TREE_DEPTH {
        return mistake(format!("the query nests deeper than {MAX_TREE_DEPTH} levels"), None);
    }
    let many = |parts: &[Query]| parts.iter().map(|part| lower(part, table, at, depth + 1)).collect::<Result<Vec<_>>>();
    Ok(match query {
        Query::All => Filter::All,
        Query::And(parts) => Filter::and(many(parts)?),
        Query::Or(parts) => Filter::or(many(parts)?),
        Query::Not(inner) => lower(inner, table, at, depth + 1)?.negated(),
        Query::Text(text) => {
            let words = words(text)?;
            match text {
                Text::Phrase(text) => match bare_trace_id(text) {
                    Some(id) => Filter::or(vec![Filter::leaf(Leaf::Column("trace_id", ValueTest::Is(id.to_string()))), words]),
                    None => words,
                },
                _ => words,
            }
        }
        Query::Field { name, test } => condition(table, name, test, at.0)?,
        Query::Trace(_) | Query::Log(_) => match at.1.get(query) {
            Some(rows) => rows.clone(),
            None => {
                return mistake(
                    format!("`{query}` asks for other rows than the one at hand"),
                    "ask a search, a count or an alert rule",
                );
            }
        },
    })
}

/// Rows whose text holds the words.
fn words(text: &Text) -> Result<Filter> {
    let words = Filter::leaf(Leaf::Phrase(phrase(text)?));
    // a UUID is one token, so a piece of one with its dashes is a pattern of one token too
    if let Text::Pattern(pattern) = text
        && pattern.as_str().contains('-')
        && pattern.as_str().chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '-' | '*' | '?'))
    {
        let lower = pattern.as_str().to_ascii_lowercase();
        let uuid = Phrase::new(vec![TokenTest::Like(Box::new(Pattern::new(&lower)), lower)]);
        return Ok(Filter::or(vec![words, Filter::leaf(Leaf::Phrase(uuid))]));
    }
    Ok(words)
}

/// The tokens of a text condition.
fn phrase(text: &Text) -> Result<Phrase> {
    let is = |text: &str| tokenizer::tokens(text).into_iter().map(TokenTest::Is).collect();
    let (tokens, written): (Vec<TokenTest>, _) = match text {
        Text::Phrase(text) => (is(text), text.as_str()),
        Text::Near { text, .. } => (is(text), text.as_str()),
        Text::Pattern(pattern) => (pattern_tokens(pattern), pattern.as_str()),
        Text::Alike { word, mistakes } => {
            let tokens = tokenizer::tokens(word);
            let [token] = &tokens[..] else {
                return mistake(
                    format!("`~{mistakes}` after `{word}` needs one word, and these are {}", tokens.len()),
                    "put it behind each word, or the text in quotes to search for it as it is",
                );
            };
            (vec![TokenTest::Alike(alike(token, *mistakes)?)], word.as_str())
        }
        Text::Network(text) => return Ok(Phrase::address(network(text)?)),
    };
    if tokens.is_empty() {
        return mistake(
            format!("`{written}` has no letter or digit to search for"),
            "text is searched by its words; put it in quotes together with a neighbouring word",
        );
    }
    if tokens.len() > MAX_PHRASE_TOKENS {
        return mistake(format!("a phrase of {} words is longer than {MAX_PHRASE_TOKENS}", tokens.len()), "shorten it");
    }
    if let Text::Near { text, between } = text {
        if *between > MAX_BETWEEN {
            return mistake(
                format!("`~{between}` is more than {MAX_BETWEEN} words between"),
                "use AND for words anywhere in the text",
            );
        }
        return Ok(Phrase::near(tokenizer::tokens(text), *between));
    }
    Ok(Phrase::new(tokens))
}

/// A text with at most so many mistakes.
fn alike(text: &str, mistakes: u32) -> Result<Alike> {
    let (length, mistakes) = (text.chars().count(), mistakes as usize);
    if mistakes > Alike::MAX_MISTAKES {
        return mistake(
            format!("`~{mistakes}` is more than {} mistakes", Alike::MAX_MISTAKES),
            "use `~1` or `~2`, or put the text in quotes to search for it as it is",
        );
    }
    if length <= mistakes {
        return mistake(
            format!("anything short is {text:?} with {mistakes} mistakes"),
            "allow fewer mistakes than the word has letters, or put it in quotes",
        );
    }
    if length > Alike::MAX_CHARS {
        return mistake(
            format!("a text of {length} characters is longer than the {} that `~` takes", Alike::MAX_CHARS),
            "shorten it",
        );
    }
    Ok(Alike::new(text, mistakes))
}

fn network(text: &str) -> Result<Network> {
    match Network::read(text) {
        Some(network) => Ok(network),
        None => mistake(format!("{text:?} is not a network"), "write an address and a prefix: 10.0.0.0/8, 2001:db8::/32"),
    }
}

/// Cuts a pattern as text is cut, wildcards counting as letters of the token they touch.
fn pattern_tokens(pattern: &Wildcards) -> Vec<TokenTest> {
    // letters that stand for the wildcards while the tokenizer runs; they are in no script that people write logs in,
    // and where they do occur the pattern is merely wider
    const MANY: char = '\u{A66E}';
    const ONE: char = '\u{A66B}';
    let mut stand_in = String::with_capacity(pattern.as_str().len() * 2);
    let mut characters = pattern.as_str().chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => stand_in.push(MANY),
            '?' => stand_in.push(ONE),
            '\\' => stand_in.extend(characters.next()),
            other => stand_in.push(other),
        }
    }
    let mut out: Vec<TokenTest> = tokenizer::tokens(&stand_in)
        .into_iter()
        .map(|token| {
            let glob = token.replace(MANY, "*").replace(ONE, "?");
            if glob == token {
                TokenTest::Is(token)
            } else {
                TokenTest::Like(Box::new(Pattern::new(&glob)), glob)
            }
        })
        .collect();
    // a pattern that is only wildcards says nothing about words
    if out
        .iter()
        .all(|token| matches!(token, TokenTest::Like(_, glob) if glob.chars().all(|c| c == '*')))
    {
        out.clear();
    }
    out
}

fn condition(table: Table, name: &str, test: &Test, now: i64) -> Result<Filter> {
    // what OpenTracing had as a tag is a status now
    if let (Table::Spans, "error" | "span.error", Test::Equals(value)) = (table, name, test)
        && let "true" | "false" = value.as_str()
    {
        let is = |name: &str, value: &str| condition(table, name, &Test::Equals(value.into()), now);
        let has_failed = Filter::or(vec![is("status_code", "ERROR")?, is("$.error", "true")?]);
        return Ok(if value == "true" { has_failed } else { has_failed.negated() });
    }
    let field = Field::resolve(table, name);
    // a value is whole and to the letter anyway
    let equals;
    let test = match test {
        Test::Exact(value) if field != Field::Text => {
            equals = Test::Equals(value.clone());
            &equals
        }
        test => test,
    };
    Ok(match &field {
        Field::Text => match test {
            Test::Exists => Filter::leaf(Leaf::WholeText(ValueTest::Any)),
            Test::Equals(text) => words(&Text::Phrase(text.clone()))?,
            Test::Matches(pattern) => words(&Text::Pattern(pattern.clone()))?,
            Test::Regex(regex) => Filter::leaf(Leaf::WholeText(ValueTest::Find(compile_regex(regex)?))),
            Test::Near { text, between } => words(&Text::Near {
                text: text.clone(),
                between: *between,
            })?,
            Test::Alike { value, mistakes } => words(&Text::Alike {
                word: value.clone(),
                mistakes: *mistakes,
            })?,
            Test::Network(text) => words(&Text::Network(text.clone()))?,
            Test::Exact(text) if text.is_empty() => {
                return mistake(format!("{name} always holds the empty text"), "use `body:*` for rows that have any");
            }
            Test::Exact(text) => Filter::leaf(Leaf::WholeText(ValueTest::Holds(memmem::Finder::new(text).into_owned()))),
            Test::Range { .. } => return mistake(format!("{name} is text and has no order"), "compare a number field instead"),
        },
        Field::Severity => severities(name, test)?,
        Field::TraceId(column) => {
            let read = |text: &str| TraceId::parse_any(text).map(|id| id.to_string());
            id(column, name, test, read, "use a trace ID in any spelling, or its first digits and `*`")?
        }
        Field::SpanId(column) => {
            let read = |text: &str| SpanId::from_hex(text).map(|id| id.to_string());
            id(column, name, test, read, "use 16 hex digits, or the first of them and `*`")?
        }
        Field::Time { column, in_micros } => {
            let read = |text: &str| match parse_time(text, now) {
                Ok(nanos) => Ok(nanos),
                Err(message) => mistake(message, None),
            };
            let range = match test {
                Test::Exists => i64::MIN..=i64::MAX,
                Test::Equals(text) => read(text)?..=read(text)?,
                Test::Range { from, to } => inclusive(from, to, read)?,
                _ => return mistake(format!("{name} is a time"), "compare it: `time>=2026-11-22T05:00:00Z`, `time>-15m`"),
            };
            // a stored microsecond stands for its first nanosecond
            let range = match in_micros {
                true => ceil_div(*range.start(), 1_000)..=range.end().div_euclid(1_000),
                false => range,
            };
            Filter::leaf(Leaf::Numbers(column, vec![range]))
        }
        Field::Duration => {
            let read = |text: &str| match parse_duration_nanos(text) {
                Some(nanos) => Ok(nanos),
                None if text == "0" => Ok(0),
                None => mistake(format!("{text:?} is not a duration"), "give it a unit: 500ms, 1.5s, 2m"),
            };
            let range = match test {
                Test::Exists => i64::MIN..=i64::MAX,
                Test::Equals(text) => read(text)?..=read(text)?,
                Test::Range { from, to } => inclusive(from, to, read)?,
                _ => return mistake(format!("{name} is a duration"), "compare it: `duration>500ms`"),
            };
            Filter::leaf(Leaf::Numbers("duration_nano", vec![range]))
        }
        Field::Number(column) => match test {
            Test::Range { from, to } => Filter::leaf(Leaf::Numbers(column, vec![number_range(name, from, to)?.whole()])),
            test => Filter::leaf(Leaf::Column(column, value_test(name, test)?)),
        },
        Field::Word(column) => {
            let test = match test {
                Test::Equals(word) => Test::Equals(word.to_uppercase()),
                Test::Matches(pattern) => Test::Matches(Wildcards::new(pattern.as_str().to_uppercase())),
                Test::Alike { value, mistakes } => Test::Alike {
                    value: value.to_uppercase(),
                    mistakes: *mistakes,
                },
                test => test.clone(),
            };
            Filter::leaf(Leaf::Column(column, value_test(name, &test)?))
        }
        Field::Plain(column) if is_context_column(column) => Filter::leaf(Leaf::Value {
            column: Some(column),
            keys: Vec::new(),
            test: value_test(name, test)?,
        }),
        Field::Plain(column) => Filter::leaf(Leaf::Column(column, value_test(name, test)?)),
        Field::Promoted { column, keys } => Filter::leaf(Leaf::Value {
            column: Some(column),
            keys: keys.iter().map(|key| Key::new(key)).collect(),
            test: value_test(name, test)?,
        }),
        Field::Attribute(key) => Filter::leaf(Leaf::Value {
            column: None,
            keys: vec![Key::new(key)],
            test: value_test(name, test)?,
        }),
    })
}

fn ceil_div(number: i64, by: i64) -> i64 {
    number.div_euclid(by) + i64::from(number.rem_euclid(by) != 0)
}

fn id(column: &'static str, name: &str, test: &Test, read: impl Fn(&str) -> Option<String>, hint: &'static str) -> Result<Filter> {
    let test = match test {
        Test::Equals(text) => match read(text) {
            Some(id) => ValueTest::Is(id),
            None => return mistake(format!("{text:?} is not a {}", name.replace("_id", " ID").replace('_', " ")), hint),
        },
        Test::Matches(pattern) => {
            let lower = pattern.as_str().to_lowercase();
            ValueTest::Like(Box::new(Pattern::new(&lower)), lower)
        }
        Test::Range { .. } => return mistake(format!("{name} has no order"), hint),
        test => value_test(name, test)?,
    };
    Ok(Filter::leaf(Leaf::Column(column, test)))
}

fn value_test(name: &str, test: &Test) -> Result<ValueTest> {
    Ok(match test {
        Test::Exists => ValueTest::Any,
        Test::Equals(value) | Test::Exact(value) => ValueTest::Is(value.clone()),
        Test::Matches(pattern) => ValueTest::Like(Box::new(Pattern::new(pattern.as_str())), pattern.as_str().to_string()),
        Test::Regex(regex) => ValueTest::Find(compile_regex(regex)?),
        Test::Range { from, to } => match address_range(from, to) {
            Some(Some(network)) => ValueTest::Address(network),
            Some(None) => return mistake("a range of addresses has two ends of one kind", "write both as IPv4, or both as IPv6"),
            None => ValueTest::Within(number_range(name, from, to)?),
        },
        Test::Near { .. } => {
            return mistake(
                format!("words between are allowed for in text, and {name} is compared whole"),
                "`field:word~1` allows for a mistake; `~` inside the quotes is itself",
            );
        }
        Test::Alike { value, mistakes } => ValueTest::Alike(alike(value, *mistakes)?),
        Test::Network(text) => ValueTest::Address(network(text)?),
    })
}

/// A range between addresses: `None` if its ends are none, `Some(None)` if they are of two kinds.
fn address_range(from: &Bound, to: &Bound) -> Option<Option<Network>> {
    let read = |bound: &Bound| match bound {
        Bound::Open => None,
        Bound::Included(text) | Bound::Excluded(text) => Some(Address::read(text).map(|address| (address, matches!(bound, Bound::Included(_))))),
    };
    match (read(from), read(to)) {
        // an end that is no address is left to be told about as a number
        (Some(None), _) | (_, Some(None)) | (None, None) => None,
        (from, to) => Some(Network::between(from.flatten(), to.flatten())),
    }
}

fn compile_regex(regex: &str) -> Result<regex::Regex> {
    match regex::RegexBuilder::new(regex).size_limit(REGEX_BYTES).build() {
        Ok(regex) => Ok(regex),
        Err(error) => mistake(format!("the regular expression cannot be read: {error}"), None),
    }
}

fn number_range(name: &str, from: &Bound, to: &Bound) -> Result<NumberRange> {
    let read = |bound: &Bound| match bound {
        Bound::Open => Ok(None),
        Bound::Included(text) | Bound::Excluded(text) => match Number::read(text) {
            Some(number) => Ok(Some((number, matches!(bound, Bound::Included(_))))),
            None => mistake(
                format!("{text:?} is not a number, and {name} is compared as one"),
                "units are known for `duration` and times only; put text in quotes to search for it",
            ),
        },
    };
    Ok(NumberRange {
        from: read(from)?,
        to: read(to)?,
    })
}

/// Ends that are whole numbers.
fn inclusive(from: &Bound, to: &Bound, read: impl Fn(&str) -> Result<i64>) -> Result<RangeInclusive<i64>> {
    let start = match from {
        Bound::Open => i64::MIN,
        Bound::Included(text) => read(text)?,
        Bound::Excluded(text) => read(text)?.saturating_add(1),
    };
    let end = match to {
        Bound::Open => i64::MAX,
        Bound::Included(text) => read(text)?,
        Bound::Excluded(text) => read(text)?.saturating_sub(1),
    };
    Ok(start..=end)
}

/// Numbers of a severity: a number is itself, a class name its four, `WARN2` its one, `UNSET` what is outside 1–24.
fn severity_numbers(text: &str) -> Result<Vec<RangeInclusive<i64>>> {
    if text.eq_ignore_ascii_case("UNSET") {
        return Ok(vec![i64::MIN..=0, 25..=i64::MAX]);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(vec![number..=number]);
    }
    let Some(number) = severity::number(text).map(i64::from) else {
        return mistake(
            format!("{text:?} is not a severity"),
            "use TRACE, DEBUG, INFO, WARN, ERROR, FATAL or a number from 1 to 24",
        );
    };
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        return Ok(vec![number..=number]);
    }
    let first = (number - 1) / 4 * 4 + 1;
    Ok(vec![first..=first + 3])
}

fn severities(name: &str, test: &Test) -> Result<Filter> {
    let ranges = match test {
        Test::Exists => vec![1..=24],
        Test::Equals(text) => severity_numbers(text)?,
        Test::Matches(pattern) => {
            let pattern = Pattern::new(&pattern.as_str().to_uppercase());
            severity::CLASSES
                .iter()
                .filter(|(class, _)| pattern.matches(class))
                .map(|(_, first)| i64::from(*first)..=i64::from(*first) + 3)
                .collect()
        }
        Test::Range { from, to } => {
            let read = |bound: &Bound, open: i64, included: fn(&RangeInclusive<i64>) -> i64, excluded: fn(&RangeInclusive<i64>) -> i64| match bound {
                Bound::Open => Ok(open),
                Bound::Included(text) => Ok(included(&severity_numbers(text)?[0])),
                Bound::Excluded(text) => Ok(excluded(&severity_numbers(text)?[0])),
            };
            let start = read(from, 1, |range| *range.start(), |range| range.end().saturating_add(1))?;
            let end = read(to, 24, |range| *range.end(), |range| range.start().saturating_sub(1))?;
            vec![start.max(1)..=end.min(24)]
        }
        _ => return mistake(format!("{name} is a severity"), "compare it: `severity>=WARN`"),
    };
    Ok(Filter::leaf(Leaf::Numbers("severity_number", ranges)))
}

/// The filter that a query of words alone is on any text.
pub(super) fn compile_text(query: &Query) -> Result<Filter> {
    let many = |parts: &[Query]| parts.iter().map(compile_text).collect::<Result<Vec<_>>>();
    Ok(match query {
        Query::All => Filter::All,
        Query::And(parts) => Filter::and(many(parts)?),
        Query::Or(parts) => Filter::or(many(parts)?),
        Query::Not(inner) => compile_text(inner)?.negated(),
        Query::Text(text) => words(text)?,
        Query::Field { name, .. } => return mistake(format!("{name} is a field, not a word"), None),
        Query::Trace(_) | Query::Log(_) => return mistake(format!("{query} asks for a trace, not for a word"), None),
    })
}
