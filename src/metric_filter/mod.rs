//! Metric filters: log events of a group that match a pattern become points of a metric.
//!
//! In: the definitions of each log group as they are now ([`Filters::set`]), from the registry of log groups; then the rows of
//! requests, trace IDs found ([`crate::ingest::Rules`]). Out: the same rows, and for each event that a filter of its group matches
//! one point, as `PutMetricData` and EMF make them ([`crate::decode::cloudwatch`]): the event's time and trace ID, the filter's unit, its
//! dimensions with the event's values. Whatever protocol brought an event into the group.
//!
//! | what | becomes |
//! |---|---|
//! | a value that is a number | that number, for each match |
//! | a value that is a field (`$.latency`, `$size`) and a number in this event | that number |
//! | … and no number, or not there | no point; rejected: `invalid_field` |
//! | a dimension that is not there in this event, or empty, or above 1,024 characters | the same |
//! | a minute with events of the request, none of which match, and a `defaultValue` | one point of that value, at the first of those events |
//! | points of one request beyond the memory that its events warrant, or [`MAX_POINTS`] | rejected: `too_large` |
//!
//! What is rejected is counted as points; the client, who sent log events, is not told.
//!
//! # Exactly once
//!
//! Filters change over time and a replay happens later. So a request's frame in the log holds the filters that it met (`bytes`, a JSON
//! list of `["GROUP", [definition, …]]`), and what is made of the frame rests on nothing else: see `ingest::rules`.
//! A filter is for all requests that are taken after its `PutMetricFilter` was acknowledged, and for none before its call began.
//! On other nodes it is known when they have learnt of it, seconds later.
//!
//! For the same reason `defaultValue` is for the minutes of one request, not for those of the group: whether any request brought a match
//! within a minute is known only when the minute is over, on all nodes, and would have to be remembered through a crash. Of the
//! usual default, 0, sums and, of values above it, maxima are the same; averages, minima and counts of samples are not, and of another
//! default the sums neither.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::decode::cloudwatch::{Measured, Sample, push, ucum};
use crate::decode::{Decoded, MAX_RECORDS, Reason, Rejections};
use crate::emf;
use crate::ingest::{RuleBook, Rules};
use crate::model::{Batch, Context, MetricsBuilder, Rows, SpanId, Table, TraceId, Value};
use crate::query::filter_pattern::{self, FilterPattern, Values};

/// Dimensions of a filter.
pub const MAX_DIMENSIONS: usize = 3;
/// Points that the events of one request make at most.
pub const MAX_POINTS: usize = 500_000;
/// What the points of one request may take in any case (8 MiB), and times the bytes of the events that match.
const FREE_BYTES: usize = 8 << 20;
const MEMORY_FACTOR: usize = 16;
/// Memory of a point beside its text.
const POINT_BYTES: usize = 160;
const MINUTE_NANOS: i64 = 60_000_000_000;
/// Characters of a dimension's value.
const MAX_DIMENSION_CHARS: usize = 1_024;
/// Minutes of one request that may get a filter's default value: a day's.
const MAX_DEFAULT_MINUTES: usize = 1_440;
/// Filters of other times that are kept ready during a replay.
const MAX_READY: usize = 64;

/// A metric filter as stored and logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// What matches.
    pub pattern: String,
    /// The metric's name.
    pub metric: String,
    /// Its namespace.
    pub namespace: String,
    /// A number, `$.field` or `$field`.
    pub value: String,
    /// What a minute is worth in which no event matches; not with dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_value: Option<f64>,
    /// CloudWatch's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Name, and the field that gives its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, String>,
    /// Name and value of dimensions that are the same for all events, such as `@aws.region`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system_dimensions: BTreeMap<String, String>,
}

/// A definition, ready to use.
#[derive(Debug)]
pub struct Filter {
    pattern: FilterPattern,
    metric: String,
    namespace: String,
    unit: &'static str,
    /// `None`: the field `value` of the event.
    number: Option<f64>,
    value: String,
    default_value: Option<f64>,
    dimensions: Vec<(String, String)>,
    system_dimensions: Vec<(String, String)>,
    values: Values,
}

impl Filter {
    /// Reads a definition; the error says what is wrong with it.
    pub fn new(definition: &Definition) -> Result<Filter, filter_pattern::Error> {
        let pattern = FilterPattern::parse(&definition.pattern)?;
        let number = read_number(&definition.value);
        let fields = definition.dimensions.values().map(String::as_str);
        let written: Vec<&str> = fields.chain(number.is_none().then_some(definition.value.as_str())).collect();
        let values = pattern.values(&written)?;
        Ok(Filter {
            pattern,
            metric: definition.metric.clone(),
            namespace: definition.namespace.clone(),
            unit: ucum(definition.unit.as_deref().unwrap_or("None")).unwrap_or("1"),
            number,
            value: definition.value.clone(),
            default_value: definition.default_value.filter(|_| definition.dimensions.is_empty()),
            dimensions: definition.dimensions.clone().into_iter().collect(),
            system_dimensions: definition
                .system_dimensions
                .iter()
                // of two dimensions of one name it is the one that somebody wrote
                .filter(|(name, _)| !definition.dimensions.contains_key(*name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            values,
        })
    }

    /// Regular expressions in its pattern.
    pub fn n_regexes(&self) -> usize {
        self.pattern.n_regexes()
    }
}

/// A finite number.
pub fn read_number(text: &str) -> Option<f64> {
    let text = text.trim();
    // "infinity" and "nan" are numbers to Rust
    let is_numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) && text.ends_with(|c: char| c.is_ascii_digit() || c == '.');
    is_numeric.then(|| text.parse::<f64>().ok()).flatten().filter(|number| number.is_finite())
}

/// The filters of one log group.
#[derive(Debug)]
struct OfGroup {
    group: String,
    filters: Vec<Filter>,
    /// `["GROUP", [definition, …]]`
    json: String,
}

impl OfGroup {
    fn new(group: &str, definitions: &[Definition]) -> OfGroup {
        let read = |definition: &Definition| match Filter::new(definition) {
            Ok(filter) => Some(filter),
            Err(error) => {
                // it was fit when it was put: a defect of ours, or of another version
                tracing::error!(group, pattern = definition.pattern, %error, "a metric filter cannot be read and is left out");
                None
            }
        };
        OfGroup {
            group: group.to_string(),
            filters: definitions.iter().filter_map(read).collect(),
            json: serde_json::to_string(&(group, definitions)).expect("text keys and plain values"),
        }
    }
}

/// Filters of some groups, as they are at one time.
#[derive(Debug)]
struct InEffect {
    groups: Vec<Arc<OfGroup>>,
    bytes: Bytes,
}

impl InEffect {
    fn new(groups: Vec<Arc<OfGroup>>) -> InEffect {
        let parts: Vec<&str> = groups.iter().map(|group| group.json.as_str()).collect();
        let bytes = Bytes::from(format!("[{}]", parts.join(",")));
        InEffect { groups, bytes }
    }
}

impl Rules for InEffect {
    fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    fn apply(&self, mut decoded: Decoded) -> Decoded {
        let mut walk = Walk::new(&self.groups, room(&decoded.batch));
        for rows in decoded.batch.rows.iter().filter(|rows| rows.table() == Table::Logs) {
            walk.rows(rows);
        }
        for rejected in walk.rejected.finish() {
            match decoded.rejected_points.iter_mut().find(|known| known.reason == rejected.reason) {
                Some(known) => known.count += rejected.count,
                None => decoded.rejected_points.push(rejected),
            }
        }
        match walk.builder.finish() {
            Ok(made) => made.into_iter().for_each(|rows| emf::add(&mut decoded, rows)),
            Err(error) => debug_assert!(false, "columns of a bounded size: {error}"),
        }
        decoded
    }
}

/// The metric filters of all log groups.
#[derive(Debug, Default)]
pub struct Filters {
    by_group: RwLock<HashMap<String, Arc<InEffect>>>,
    /// Those of frames that were read of late.
    ready: Mutex<VecDeque<(u128, Arc<InEffect>)>>,
}

impl Filters {
    /// The filters of a group from now on; none is as good as no group.
    pub fn set(&self, group: &str, definitions: &[Definition]) {
        let made = (!definitions.is_empty()).then(|| Arc::new(InEffect::new(vec![Arc::new(OfGroup::new(group, definitions))])));
        let mut by_group = self.by_group.write();
        match made {
            Some(made) => drop(by_group.insert(group.to_string(), made)),
            None => drop(by_group.remove(group)),
        }
    }
}

impl RuleBook for Filters {
    fn in_effect(&self, batch: &Batch) -> Option<Arc<dyn Rules>> {
        let by_group = self.by_group.read();
        if by_group.is_empty() {
            return None;
        }
        let mut found: Vec<&Arc<InEffect>> = Vec::new();
        for rows in batch.rows.iter().filter(|rows| rows.table() == Table::Logs) {
            for context in rows.contexts().iter() {
                if let Some(one) = group_of(context).and_then(|group| by_group.get(group))
                    && !found.iter().any(|known| Arc::ptr_eq(known, one))
                {
                    found.push(one);
                }
            }
        }
        match found.as_slice() {
            [] => None,
            [one] => Some(Arc::clone(*one) as Arc<dyn Rules>),
            several => {
                let groups = several.iter().flat_map(|one| one.groups.iter().cloned()).collect();
                Some(Arc::new(InEffect::new(groups)))
            }
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<Arc<dyn Rules>, String> {
        let key = xxh3_128(bytes);
        let mut ready = self.ready.lock();
        if let Some((_, known)) = ready.iter().find(|(known, _)| *known == key) {
            return Ok(known.clone());
        }
        let groups: Vec<(String, Vec<Definition>)> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let groups = groups.iter().map(|(group, definitions)| Arc::new(OfGroup::new(group, definitions)));
        let read = Arc::new(InEffect::new(groups.collect()));
        ready.push_back((key, read.clone()));
        if ready.len() > MAX_READY {
            ready.pop_front();
        }
        Ok(read)
    }
}

fn group_of(context: &Context) -> Option<&str> {
    context.column("aws_log_group")
}

struct Walk<'f> {
    groups: &'f [Arc<OfGroup>],
    builder: MetricsBuilder,
    rejected: Rejections,
    left_bytes: usize,
    max_points: usize,
}

/// Points that there may be more: the rows of a request have their numbers within its place in the log, which also the metrics inside
/// its lines take.
fn room(batch: &Batch) -> usize {
    let others = batch.rows.iter().filter(|rows| rows.table() != Table::Logs).map(Rows::len);
    MAX_RECORDS.saturating_sub(others.max().unwrap_or(0)).min(MAX_POINTS)
}

/// By minute, context and time of the first event; `None` once one matched.
type FirstOfMinutes = BTreeMap<i64, Option<(i32, i64)>>;

/// Of each filter with a default value, by its group's and its own number, the minutes in which events came.
#[derive(Default)]
struct Minutes<'f>(BTreeMap<(usize, usize), (&'f Filter, FirstOfMinutes)>);

impl<'f> Minutes<'f> {
    fn note(&mut self, place: (usize, usize), filter: &'f Filter, time_unix_nano: i64, ordinal: i32, is_match: bool) {
        let (_, minutes) = self.0.entry(place).or_insert_with(|| (filter, BTreeMap::new()));
        let minute = time_unix_nano.div_euclid(MINUTE_NANOS);
        if minutes.len() >= MAX_DEFAULT_MINUTES && !minutes.contains_key(&minute) {
            return;
        }
        let first = minutes.entry(minute).or_insert(Some((ordinal, time_unix_nano)));
        *first = first.filter(|_| !is_match).map(|known| match time_unix_nano < known.1 {
            true => (ordinal, time_unix_nano),
            false => known,
        });
    }

    /// Filter, context and time of each point to be made.
    fn without_match(self) -> impl Iterator<Item = (&'f Filter, i32, i64)> {
        let of_filter = |(filter, minutes): (&'f Filter, FirstOfMinutes)| {
            let firsts = minutes.into_values().flatten();
            firsts.map(move |(ordinal, time)| (filter, ordinal, time))
        };
        self.0.into_values().flat_map(of_filter)
    }
}

/// What is known of an event beside its text.
struct Around<'r> {
    context: &'r Context,
    time_unix_nano: i64,
    trace: Option<(TraceId, Option<SpanId>)>,
}

impl Walk<'_> {
    fn new(groups: &[Arc<OfGroup>], max_points: usize) -> Walk<'_> {
        Walk {
            groups,
            builder: MetricsBuilder::default(),
            rejected: Rejections::default(),
            left_bytes: FREE_BYTES,
            max_points,
        }
    }

    fn rows(&mut self, rows: &Rows) {
        let column = |name: &str| -> &StringArray { rows.batch().column_by_name(name).expect("a column of logs").as_string() };
        let (bodies, trace_ids, span_ids) = (column("body"), column("trace_id"), column("span_id"));
        let Some(ordinals) = rows.ordinals() else { return };
        let groups = self.groups;
        let of_context = |context: &Arc<Context>| groups.iter().position(|one| Some(one.group.as_str()) == group_of(context));
        let by_ordinal: Vec<Option<usize>> = rows.contexts().iter().map(of_context).collect();
        // a resource for each context and namespace
        let mut resources: HashMap<(i32, &str), Arc<Context>> = HashMap::new();
        let mut minutes = Minutes::default();
        for row in 0..rows.len() {
            let ordinal = ordinals.value(row);
            let Some(Some(group)) = usize::try_from(ordinal).ok().and_then(|ordinal| by_ordinal.get(ordinal)) else {
                continue;
            };
            if bodies.is_null(row) {
                continue;
            }
            let body = bodies.value(row);
            for (number, filter) in groups[*group].filters.iter().enumerate() {
                let is_match = filter.pattern.matches(body);
                if filter.default_value.is_some() {
                    minutes.note((*group, number), filter, rows.times().value(row), ordinal, is_match);
                }
                if !is_match {
                    continue;
                }
                let trace_id = trace_ids.is_valid(row).then(|| TraceId::from_hex(trace_ids.value(row))).flatten();
                let span_id = span_ids.is_valid(row).then(|| SpanId::from_hex(span_ids.value(row))).flatten();
                let resource = resources
                    .entry((ordinal, filter.namespace.as_str()))
                    .or_insert_with(|| emf::measured_by(&rows.contexts()[ordinal as usize], &filter.namespace));
                let around = Around {
                    context: resource,
                    time_unix_nano: rows.times().value(row),
                    trace: trace_id.map(|trace_id| (trace_id, span_id)),
                };
                self.left_bytes = self.left_bytes.saturating_add(MEMORY_FACTOR * body.len());
                if let Err((reason, message)) = self.point(filter, body, &around) {
                    self.reject(reason, message);
                }
            }
        }
        for (filter, ordinal, time_unix_nano) in minutes.without_match() {
            let resource = resources
                .entry((ordinal, filter.namespace.as_str()))
                .or_insert_with(|| emf::measured_by(&rows.contexts()[ordinal as usize], &filter.namespace));
            let around = Around {
                context: resource,
                time_unix_nano,
                trace: None,
            };
            let Some(number) = filter.default_value else { continue };
            if let Err((reason, message)) = self.push(filter, number, 0, &around) {
                self.reject(reason, message);
            }
        }
    }

    fn point(&mut self, filter: &Filter, body: &str, around: &Around<'_>) -> Result<(), (Reason, &'static str)> {
        let values = match (filter.number, filter.dimensions.is_empty()) {
            (Some(_), true) => BTreeMap::new(),
            _ => filter.pattern.take(&filter.values, body),
        };
        let number = filter.number.or_else(|| read_number(values.get(&filter.value)?));
        let number = number.ok_or((Reason::InvalidField, "metric filter: the value is no number in this event"))?;
        let mut dimension_bytes = 0;
        for (name, field) in &filter.dimensions {
            let value = values
                .get(field)
                .filter(|value| !value.is_empty() && value.chars().count() <= MAX_DIMENSION_CHARS);
            let Some(value) = value else {
                self.builder.abandon();
                return Err((Reason::InvalidField, "metric filter: a dimension has no value in this event"));
            };
            dimension_bytes += name.len() + value.len() + 48;
            self.builder.attribute(name, Value::Str(value));
        }
        self.push(filter, number, dimension_bytes, around)
    }

    /// A point of a filter; of its attributes the builder has those that are taken from the event.
    fn push(&mut self, filter: &Filter, number: f64, mut dimension_bytes: usize, around: &Around<'_>) -> Result<(), (Reason, &'static str)> {
        for (name, value) in &filter.system_dimensions {
            dimension_bytes += name.len() + value.len() + 48;
            self.builder.attribute(name, Value::Str(value));
        }
        if self.left_bytes < POINT_BYTES + dimension_bytes || self.builder.n_points() >= self.max_points {
            self.builder.abandon();
            return Err((Reason::TooLarge, "metric filter: the points of the request take too much memory"));
        }
        let n_series = self.builder.n_series();
        let sample = Sample::One(number);
        let measured = Measured {
            name: &filter.metric,
            unit: filter.unit,
            time_unix_nano: around.time_unix_nano,
            start_time_unix_nano: None,
            sample: &sample,
            trace: around.trace,
        };
        push(&mut self.builder, around.context, &measured);
        let is_new = self.builder.n_series() > n_series;
        let series_bytes = if is_new {
            dimension_bytes + around.context.memory_bytes()
        } else {
            dimension_bytes / 8
        };
        self.left_bytes = self.left_bytes.saturating_sub(POINT_BYTES + filter.metric.len() + series_bytes);
        Ok(())
    }

    fn reject(&mut self, reason: Reason, message: &'static str) {
        self.rejected.add(None, 1, reason, || message.into());
    }
}

#[cfg(test)]
mod tests;
