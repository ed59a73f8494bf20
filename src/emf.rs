//! Metrics inside log lines: CloudWatch's embedded metric format (EMF).
//!
//! In: the rows of a request, trace IDs found. Out: the same rows, and for each metric that a line declares a point for
//! each of its dimension sets ([`crate::decode::cloudwatch`] says how it looks), the line's trace ID as its exemplar. The
//! line stays what it was: a log record, with all its fields. Pure, so replay makes the same points.
//!
//! A line is EMF when its whole body is one JSON object with `_aws` that holds `CloudWatchMetrics`; also in the older form
//! of Container Insights, which has `CloudWatchMetrics` and `Timestamp` at the root. Whatever protocol brought it: the body
//! is looked at, no header is asked for.
//!
//! | what | becomes |
//! |---|---|
//! | a number | one point of a gauge |
//! | an array of numbers | one point of a summary; one of a single number a point of a gauge |
//! | a member that is missing, or of another type; a name that is empty or too long | rejected: `invalid_field` |
//! | more than [`MAX_METRICS`] metrics of a directive, [`MAX_DIMENSIONS`] dimensions of a set, [`MAX_VALUES`] values | what is over is rejected: `too_large` |
//! | points of one request that would take more memory than the lines warrant ([`MEMORY_FACTOR`], [`MAX_BYTES`]), or are too many | the same |
//! | a line above [`MAX_LINE_BYTES`] that may be EMF | counts as one point, the same |
//! | `Timestamp` older than 14 days or more than 2 hours ahead of when the line was received | rejected: `too_old`, `too_new` |
//! | no `Timestamp` | the time of the log record |
//!
//! What is rejected is counted as points ([`Decoded::rejected_points`]); the client, who sent a log line, is not told.
//!
//! Points have the resource of their line, without the log stream: a stream is one process, and would make each process's
//! metrics series of their own.
//!
//! Cost for lines that are no EMF: one search for a word in those that begin with `{`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, StringArray};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::cloudwatch::{MAX_AGE_NANOS, MAX_AHEAD_NANOS, MAX_DIMENSIONS, Measured, NAMESPACE, Sample, push, ucum};
use crate::decode::{Decoded, MAX_RECORDS, Reason, Rejections};
use crate::model::schema::RESOURCE_COLUMNS;
use crate::model::{Context, ContextBuilder, MetricsBuilder, Rows, SpanId, Table, TraceId, Value, json};

/// Metrics of one directive.
pub const MAX_METRICS: usize = 100;
/// Values of one metric in one line.
pub const MAX_VALUES: usize = 100;
/// Dimension sets of one directive; CloudWatch tells no bound.
pub const MAX_SETS: usize = 100;
/// Points may take this many times the bytes of their lines, and [`FREE_BYTES`].
pub const MEMORY_FACTOR: usize = 16;
/// What the points of one request may take in any case (8 MiB).
const FREE_BYTES: usize = 8 << 20;
/// What the points of one request may take at the most (256 MiB).
pub const MAX_BYTES: usize = if cfg!(test) { 16 << 20 } else { 256 << 20 };
/// Bytes of a line (1 MiB), CloudWatch's own for an event.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// Characters of a unit that CloudWatch does not have.
const MAX_UNIT_CHARS: usize = 64;
/// Bytes of a list of 100 numbers, however they are written.
const MAX_LIST_BYTES: usize = 8 << 10;
/// Bytes of a text of 1,024 characters, each escaped, in quotes.
const MAX_TEXT_BYTES: usize = 12 * MAX_NAME_CHARS + 2;
/// Characters of a namespace.
const MAX_NAMESPACE_CHARS: usize = 1_024;
/// Characters of a metric's name and of a dimension's value.
const MAX_NAME_CHARS: usize = 1_024;
/// Characters of a dimension's name.
const MAX_DIMENSION_NAME_CHARS: usize = 250;
/// Memory of a point beside its text.
const POINT_BYTES: usize = 160;

const STREAM: &str = "aws.log.stream.names";
const TOO_MUCH: Objection = (Reason::TooLarge, "EMF: the points of the request take too much memory");
const MARK: &str = "CloudWatchMetrics";
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

/// Adds the metrics that log lines hold: see the module's page.
pub fn extract(mut decoded: Decoded, received_at_nanos: i64) -> Decoded {
    let made_already = decoded.batch.rows.iter().filter(|rows| rows.table() != Table::Logs).map(Rows::len);
    let mut walk = Walk::new(received_at_nanos, MAX_RECORDS.saturating_sub(made_already.max().unwrap_or(0)));
    for rows in decoded.batch.rows.iter().filter(|rows| rows.table() == Table::Logs) {
        walk.rows(rows);
    }
    decoded.rejected_points.extend(walk.rejected.finish());
    match walk.builder.finish() {
        Ok(made) => made.into_iter().for_each(|rows| add(&mut decoded, rows)),
        Err(error) => debug_assert!(false, "columns of a bounded size: {error}"),
    }
    decoded
}

/// Adds rows to a request's: one entry a table.
pub(crate) fn add(decoded: &mut Decoded, made: Rows) {
    let known = decoded.batch.rows.iter_mut().find(|rows| rows.table() == made.table());
    match known {
        None => decoded.batch.rows.push(made),
        Some(rows) => match Rows::concat(made.table(), &[rows.clone(), made]) {
            Ok(both) => *rows = both,
            Err(error) => debug_assert!(false, "columns of a bounded size: {error}"),
        },
    }
}

/// Whether a body may be EMF; cheap, and right for nearly all that are not.
fn may_be_emf(body: &str) -> bool {
    body.trim_ascii_start().starts_with('{') && FINDER.find(body.as_bytes()).is_some() && json::looks_like_object(body)
}

/// `_aws`, or the root in the older form.
#[derive(Deserialize)]
struct Aws<'a> {
    #[serde(rename = "Timestamp")]
    timestamp: Option<Millis>,
    #[serde(rename = "CloudWatchMetrics", borrow)]
    directives: Vec<Directive<'a>>,
}

#[derive(Deserialize)]
struct Directive<'a> {
    #[serde(rename = "Namespace", borrow)]
    namespace: Cow<'a, str>,
    #[serde(rename = "Dimensions", default, borrow)]
    dimensions: Vec<Vec<Cow<'a, str>>>,
    #[serde(rename = "Metrics", default, borrow)]
    metrics: Vec<Definition<'a>>,
}

#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(rename = "Name", borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "Unit", default, borrow)]
    unit: Option<Cow<'a, str>>,
}

/// Milliseconds since the epoch, as a number or, in the older form, as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Millis {
    Number(f64),
    Text(String),
}

impl Millis {
    fn nanos(&self) -> Option<i64> {
        let millis = match self {
            Millis::Number(number) => *number,
            Millis::Text(text) => text.trim().parse().ok()?,
        };
        // 2^63 ns is the year 2262
        (millis > 0.0 && millis < 9.2e12).then(|| (millis as i64).saturating_mul(1_000_000))
    }
}

/// A metric's member.
#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    One(f64),
    Many(Vec<f64>),
}

/// The members of a line, by name.
type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Why a part of a line makes no points.
type Objection = (Reason, &'static str);

/// A line's members, and what was read of them: directives may name the same ones again and again.
struct Line<'a> {
    members: &'a Members<'a>,
    samples: HashMap<&'a str, Result<Sample, Objection>>,
    /// `None` is no text, or too long a one.
    texts: HashMap<&'a str, Option<String>>,
}

/// What is known of a line beside its text.
struct Around<'r> {
    context: &'r Arc<Context>,
    ordinal: i32,
    time_unix_nano: i64,
    trace: Option<(TraceId, Option<SpanId>)>,
}

struct Walk {
    received_at_nanos: i64,
    builder: MetricsBuilder,
    rejected: Rejections,
    /// The contexts of points, by the number of their line's and their namespace.
    contexts: HashMap<(i32, String), Arc<Context>>,
    /// What points may still take, for the lines so far and at all.
    left_bytes: usize,
    left_of_all: usize,
    /// How many there may still be: each row of a request has a number.
    left_points: usize,
}

impl Walk {
    fn new(received_at_nanos: i64, left_points: usize) -> Walk {
        Walk {
            received_at_nanos,
            builder: MetricsBuilder::default(),
            rejected: Rejections::default(),
            contexts: HashMap::new(),
            left_bytes: FREE_BYTES,
            left_of_all: MAX_BYTES,
            left_points,
        }
    }

    fn has_left(&self, bytes: usize) -> bool {
        self.left_points > 0 && bytes <= self.left_bytes.min(self.left_of_all)
    }

    fn take(&mut self, bytes: usize) {
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
        self.left_of_all = self.left_of_all.saturating_sub(bytes);
    }

    fn rows(&mut self, rows: &Rows) {
        let column = |name: &str| -> &StringArray { rows.batch().column_by_name(name).expect("a column of logs").as_string() };
        let (bodies, trace_ids, span_ids) = (column("body"), column("trace_id"), column("span_id"));
        let Some(ordinals) = rows.ordinals() else { return };
        for row in 0..rows.len() {
            if bodies.is_null(row) || !may_be_emf(bodies.value(row)) {
                continue;
            }
            if bodies.value(row).len() > MAX_LINE_BYTES {
                self.reject(1, (Reason::TooLarge, "EMF: a line has more than 1 MiB"));
                continue;
            }
            let Some(context) = rows.context(row) else { continue };
            let trace_id = trace_ids.is_valid(row).then(|| TraceId::from_hex(trace_ids.value(row))).flatten();
            let span_id = span_ids.is_valid(row).then(|| SpanId::from_hex(span_ids.value(row))).flatten();
            let around = Around {
                context,
                ordinal: ordinals.value(row),
                time_unix_nano: rows.times().value(row),
                trace: trace_id.map(|trace_id| (trace_id, span_id)),
            };
            self.line(bodies.value(row), &around);
        }
    }

    fn line(&mut self, body: &str, around: &Around<'_>) {
        // what is no JSON after all is a line like any other
        let Ok(members) = serde_json::from_str::<Members<'_>>(body.trim_ascii()) else {
            return;
        };
        let declared = match members.get("_aws") {
            // of an object that says something else
            Some(aws) if !aws.get().contains(MARK) => return,
            Some(aws) => serde_json::from_str::<Aws<'_>>(aws.get()),
            // a word like any other where it is no list
            None if members.get(MARK).is_some_and(|list| list.get().starts_with('[')) => serde_json::from_str(body),
            None => return,
        };
        let Ok(aws) = declared else {
            return self.reject(1, (Reason::InvalidField, "EMF: the metric directives are not of their form"));
        };
        self.left_bytes = self.left_bytes.saturating_add(MEMORY_FACTOR * body.len());
        let mut line = Line {
            members: &members,
            samples: HashMap::new(),
            texts: HashMap::new(),
        };
        let time_unix_nano = match &aws.timestamp {
            None => Some(around.time_unix_nano),
            Some(millis) => millis.nanos(),
        };
        for directive in &aws.directives {
            let Err((n, objection)) = self.directive(directive, &mut line, time_unix_nano, around) else {
                continue;
            };
            self.reject(n, objection);
        }
    }

    /// What is wrong with a directive as a whole, and how many metrics it had.
    fn directive(&mut self, directive: &Directive<'_>, line: &mut Line<'_>, time_unix_nano: Option<i64>, around: &Around<'_>) -> Result<(), (u64, Objection)> {
        let whole = |objection: Objection| (directive.metrics.len() as u64, objection);
        let Some(time_unix_nano) = time_unix_nano else {
            return Err(whole((Reason::InvalidTime, "EMF: Timestamp is not milliseconds since the epoch")));
        };
        if time_unix_nano < self.received_at_nanos.saturating_sub(MAX_AGE_NANOS) {
            return Err(whole((Reason::TooOld, "EMF: Timestamp is older than 14 days")));
        }
        if time_unix_nano > self.received_at_nanos.saturating_add(MAX_AHEAD_NANOS) {
            return Err(whole((Reason::TooNew, "EMF: Timestamp is more than 2 hours in the future")));
        }
        if !fits(&directive.namespace, MAX_NAMESPACE_CHARS) {
            return Err(whole((Reason::InvalidField, "EMF: Namespace must have 1 to 1024 characters")));
        }
        // no list of sets is one set of none
        let no_set = [Vec::new()];
        let sets: &[Vec<Cow<'_, str>>] = if directive.dimensions.is_empty() { &no_set } else { &directive.dimensions };
        let metrics = &directive.metrics[..directive.metrics.len().min(MAX_METRICS)];
        let n_over = (directive.metrics.len() - metrics.len()) as u64 * sets.len().min(MAX_SETS) as u64;
        self.reject(n_over, (Reason::TooLarge, "EMF: a directive has more than 100 metrics"));
        let n_sets_over = sets.len().saturating_sub(MAX_SETS) as u64;
        self.reject(
            n_sets_over * metrics.len() as u64,
            (Reason::TooLarge, "EMF: a directive has more than 100 dimension sets"),
        );
        let sets = &sets[..sets.len().min(MAX_SETS)];
        let n_points = (metrics.len() * sets.len()) as u64;
        let context_bytes = around.context.memory_bytes() + directive.namespace.len();
        if n_points == 0 {
            return Ok(());
        }
        if !self.contexts.contains_key(&(around.ordinal, directive.namespace.to_string())) {
            // a line may name many namespaces, and each makes a copy of its resource
            if !self.has_left(context_bytes) {
                return Err((n_points, TOO_MUCH));
            }
            self.take(context_bytes);
        }
        let context = self.context(&directive.namespace, around);
        let samples: Vec<Result<Sample, Objection>> = metrics.iter().map(|metric| line.sample(metric)).collect();
        for set in sets {
            if !self.has_left(POINT_BYTES) {
                self.reject(metrics.len() as u64, TOO_MUCH);
                continue;
            }
            let dimensions = match line.dimensions(set) {
                Ok(dimensions) => dimensions,
                Err(objection) => {
                    self.reject(metrics.len() as u64, objection);
                    continue;
                }
            };
            let dimension_bytes: usize = dimensions.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
            for (metric, sample) in metrics.iter().zip(&samples) {
                let sample = match sample {
                    Ok(sample) => sample,
                    Err(objection) => {
                        self.reject(1, *objection);
                        continue;
                    }
                };
                // a point's text is copied while it is made, and kept once a series
                if !self.has_left(POINT_BYTES + dimension_bytes) {
                    self.reject(1, TOO_MUCH);
                    continue;
                }
                let unit = unit(metric);
                for (name, value) in &dimensions {
                    self.builder.attribute(name, Value::Str(value));
                }
                let n_series = self.builder.n_series();
                let measured = Measured {
                    name: &metric.name,
                    unit: ucum(unit).unwrap_or(unit),
                    time_unix_nano,
                    start_time_unix_nano: None,
                    sample,
                    trace: around.trace,
                };
                push(&mut self.builder, &context, &measured);
                let is_new = self.builder.n_series() > n_series;
                let series_bytes = if is_new {
                    dimension_bytes + context.memory_bytes() + metric.name.len() + unit.len()
                } else {
                    dimension_bytes / 8
                };
                self.take(POINT_BYTES + metric.name.len() + series_bytes);
                self.left_points = self.left_points.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// The line's resource with the namespace, without the log stream.
    fn context(&mut self, namespace: &str, around: &Around<'_>) -> Arc<Context> {
        let key = (around.ordinal, namespace.to_string());
        self.contexts.entry(key).or_insert_with(|| measured_by(around.context, namespace)).clone()
    }

    fn reject(&mut self, count: u64, (reason, message): Objection) {
        self.rejected.add(None, count, reason, || message.into());
    }
}

/// The resource of the points that a line makes: the line's with a namespace, without the log stream.
pub(crate) fn measured_by(line: &Context, namespace: &str) -> Arc<Context> {
    let mut resource = ContextBuilder::new();
    for (attribute, column) in RESOURCE_COLUMNS {
        if let Some(value) = line.column(column).filter(|_| attribute != STREAM) {
            resource.attribute(attribute, Value::Str(value));
        }
    }
    for (name, value) in line.resource_attributes() {
        resource.attribute(name, Value::Str(value));
    }
    resource.attribute(NAMESPACE, Value::Str(namespace));
    resource.build()
}

fn fits(text: &str, max_chars: usize) -> bool {
    !text.is_empty() && (text.len() <= max_chars || text.chars().count() <= max_chars)
}

fn unit<'a>(metric: &'a Definition<'_>) -> &'a str {
    metric.unit.as_deref().filter(|unit| !unit.is_empty()).unwrap_or("None")
}

impl<'a> Line<'a> {
    /// What a metric's member holds.
    fn sample(&mut self, metric: &Definition<'_>) -> Result<Sample, Objection> {
        if !fits(&metric.name, MAX_NAME_CHARS) {
            return Err((Reason::InvalidField, "EMF: a metric's name must have 1 to 1024 characters"));
        }
        if !fits(unit(metric), MAX_UNIT_CHARS) {
            return Err((Reason::InvalidField, "EMF: a metric's unit must have at most 64 characters"));
        }
        let Some((name, member)) = self.members.get_key_value(&*metric.name) else {
            return Err(NO_NUMBER);
        };
        self.samples.entry(name).or_insert_with(|| sample(member.get())).clone()
    }

    /// The names and values of a set.
    fn dimensions<'l>(&'l mut self, set: &'l [Cow<'_, str>]) -> Result<Vec<(&'l str, &'l str)>, Objection> {
        if set.len() > MAX_DIMENSIONS {
            return Err((Reason::TooLarge, "EMF: a dimension set has more than 30 dimensions"));
        }
        for name in set {
            if let Some((name, member)) = self.members.get_key_value(&**name) {
                self.texts.entry(name).or_insert_with(|| text(member.get()));
            }
        }
        let texts = &self.texts;
        let one = |name: &'l Cow<'_, str>| {
            let value = texts.get(&**name).and_then(Option::as_deref);
            let value = value.filter(|_| fits(name, MAX_DIMENSION_NAME_CHARS));
            value
                .map(|value| (&**name, value))
                .ok_or((Reason::InvalidField, "EMF: a dimension's member must be text of 1 to 1024 characters"))
        };
        set.iter().map(one).collect()
    }
}

const NO_NUMBER: Objection = (Reason::InvalidField, "EMF: a metric's member must be a number or an array of numbers");
const TOO_MANY_VALUES: Objection = (Reason::TooLarge, "EMF: a metric has more than 100 values");

fn sample(member: &str) -> Result<Sample, Objection> {
    if member.starts_with('[') && member.len() > MAX_LIST_BYTES {
        return Err(TOO_MANY_VALUES);
    }
    match serde_json::from_str::<Target>(member).map_err(|_| NO_NUMBER)? {
        Target::One(value) => Ok(Sample::One(value)),
        Target::Many(values) if values.len() > MAX_VALUES => Err(TOO_MANY_VALUES),
        Target::Many(values) => {
            let sample = Sample::of_many(values.into_iter().map(|value| (value, 1.0)).collect());
            sample.ok_or((Reason::InvalidField, "EMF: a metric has no values"))
        }
    }
}

fn text(member: &str) -> Option<String> {
    let is_short = member.starts_with('"') && member.len() <= MAX_TEXT_BYTES;
    let text: String = is_short.then(|| serde_json::from_str(member).ok()).flatten()?;
    fits(&text, MAX_NAME_CHARS).then_some(text)
}

#[cfg(test)]
mod tests;
