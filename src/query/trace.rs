//! One trace: its spans as a tree, with its log records in it.
//!
//! Spans come from any clock and any receiver, late, twice and unfinished. Of several documents of one span a completed
//! one beats one in progress, then the one that came last wins. Parents that are missing, and circles, make a span a
//! root. Log records are those that say its ID, or got it as they came, and those that [`super::linked`] finds. Nothing recurses: a chain of a hundred thousand spans is a list like any other.

use std::collections::HashMap;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::hit::Hit;
use super::linked::{named_by, place_of};
use super::xray::kept::Piece;
use super::{Coverage, LogHit, SpanHit};
use crate::correlate::Source;
use crate::model::{TraceId, severity};

/// Bytes of a log body in the column form.
const COLUMN_BODY_BYTES: usize = 2_048;

/// A trace, its spans in depth-first display order.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its ID.
    pub trace_id: TraceId,
    /// First start of a span (without spans, first log record).
    pub start_unix_nano: i64,
    /// From there to the last end.
    pub duration_nano: i64,
    /// Services, in order of their first span, then of their first log record.
    pub services: Vec<String>,
    /// Spans and subsegments.
    pub spans: Vec<TraceSpan>,
    /// Log records, in order of time.
    pub logs: Vec<TraceLog>,
    /// What the rows keep of X-Ray documents, if that was asked for ([`super::xray::kept`]).
    pub pieces: Vec<Piece>,
    /// Spans with status ERROR.
    pub n_errors: usize,
    /// What it rests on.
    pub coverage: Coverage,
    /// How long it took.
    pub took: Duration,
}

/// A span in its place.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// The span.
    pub span: SpanHit,
    /// Index of its parent among the trace's spans.
    pub parent: Option<usize>,
    /// Steps from its root.
    pub depth: usize,
    /// Log records of it.
    pub n_logs: usize,
    /// It names a parent that is not here.
    pub missing_parent: bool,
    /// It is one of several whose parents go in a circle, or its own parent. The first of them in order of start stands without its parent; the times of
    /// none of them say anything of clocks.
    pub in_circle: bool,
    /// It starts before its parent, or, a synchronous call, ends after it: only differing clocks explain that.
    pub skewed: bool,
}

impl TraceSpan {
    /// Its `service.name`; empty if it has none.
    pub fn service(&self) -> &str {
        service_of(&self.span.resource_attributes).unwrap_or_default()
    }
}

/// A log record in its place.
#[derive(Clone, Debug)]
pub struct TraceLog {
    /// The record.
    pub log: LogHit,
    /// Index of its span among the trace's spans.
    pub span: Option<usize>,
    /// What it is of the trace by, if not by a trace ID that it says itself.
    pub link: Option<Link>,
}

/// By what a record without a trace ID of its own belongs to a trace.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// `request_id` or `span_id`.
    pub by: &'static str,
    /// Which.
    pub value: String,
}

impl Link {
    pub(super) fn new(by: Source, value: impl ToString) -> Link {
        Link {
            by: by.word(),
            value: value.to_string(),
        }
    }

    /// Of a record that got its trace ID when it came.
    fn of(log: &LogHit) -> Option<Link> {
        let by = [Source::RequestId, Source::SpanId]
            .into_iter()
            .find(|source| log.trace_id_source.as_deref() == Some(source.word()))?;
        let named = named_by(log);
        match by {
            Source::RequestId => named.request.map(|id| Link::new(by, id)),
            _ => named.span.map(|id| Link::new(by, id)),
        }
    }
}

impl Trace {
    /// Puts spans and log records, in any order, in their places; `None` without any.
    pub(crate) fn assemble(trace_id: TraceId, spans: Vec<Hit>, logs: Vec<Hit>, coverage: Coverage, took: Duration) -> Option<Trace> {
        let spans = distinct(spans);
        let spans = in_display_order(spans);
        let numbers: HashMap<&str, usize> = spans.iter().enumerate().map(|(i, span)| (span.span.span_id.as_str(), i)).collect();
        let mut logs: Vec<LogHit> = logs
            .into_iter()
            .filter_map(|hit| match hit {
                Hit::Log(log) => Some(*log),
                Hit::Span(_) => None,
            })
            .collect();
        logs.sort_unstable_by(|one, other| place_of(one).cmp(&place_of(other)));
        logs.dedup_by(|one, other| place_of(one) == place_of(other));
        let logs: Vec<TraceLog> = logs
            .into_iter()
            .map(|log| TraceLog {
                span: log.span_id.as_deref().and_then(|id| numbers.get(id).copied()),
                link: Link::of(&log),
                log,
            })
            .collect();
        drop(numbers);
        if spans.is_empty() && logs.is_empty() {
            return None;
        }
        let mut spans = spans;
        for log in &logs {
            if let Some(span) = log.span {
                spans[span].n_logs += 1;
            }
        }
        let ends = |span: &SpanHit| span.start_time_unix_nano.saturating_add(span.duration_nano.max(0));
        let (start, end) = match spans.is_empty() {
            false => (
                spans.iter().map(|span| span.span.start_time_unix_nano).min().unwrap_or_default(),
                spans.iter().map(|span| ends(&span.span)).max().unwrap_or_default(),
            ),
            true => (
                logs.first().map(|log| log.log.time_unix_nano).unwrap_or_default(),
                logs.last().map(|log| log.log.time_unix_nano).unwrap_or_default(),
            ),
        };
        let mut services: Vec<String> = Vec::new();
        let of_spans = spans.iter().map(|span| &span.span.resource_attributes);
        for attributes in of_spans.chain(logs.iter().map(|log| &log.log.resource_attributes)) {
            if let Some(service) = service_of(attributes)
                && !services.iter().any(|s| s == service)
            {
                services.push(service.to_string());
            }
        }
        Some(Trace {
            trace_id,
            start_unix_nano: start,
            duration_nano: end.saturating_sub(start),
            services,
            n_errors: spans.iter().filter(|span| span.span.status_code == "ERROR").count(),
            spans,
            logs,
            pieces: Vec::new(),
            coverage,
            took,
        })
    }

    /// Adds log records that are of the trace by what they name.
    pub(super) fn with_linked(mut self, linked: Vec<(LogHit, Link)>) -> Trace {
        if linked.is_empty() {
            return self;
        }
        let numbers: HashMap<&str, usize> = self.spans.iter().enumerate().map(|(i, span)| (span.span.span_id.as_str(), i)).collect();
        let span_of = |log: &LogHit| named_by(log).span.and_then(|id| numbers.get(id.to_string().as_str()).copied());
        let spans: Vec<Option<usize>> = linked.iter().map(|(log, _)| span_of(log)).collect();
        for ((log, link), span) in linked.into_iter().zip(spans) {
            if let Some(span) = span {
                self.spans[span].n_logs += 1;
            }
            if let Some(service) = service_of(&log.resource_attributes)
                && !self.services.iter().any(|known| known == service)
            {
                self.services.push(service.to_string());
            }
            self.logs.push(TraceLog { log, span, link: Some(link) });
        }
        self.logs.sort_by_key(|log| (log.log.time_unix_nano, log.log.ingest_id));
        self
    }

    /// The API's answer; bodies are cut to `max_body` bytes, 0 = whole.
    pub fn to_json(&self, max_body: usize) -> serde_json::Value {
        let mut out = self.header();
        let spans: Vec<_> = self.spans.iter().map(|span| to_value(&PlacedSpan(span))).collect();
        let logs: Vec<_> = self.logs.iter().map(|log| to_value(&PlacedLog(log, max_body))).collect();
        out.insert("spans".into(), spans.into());
        out.insert("logs".into(), logs.into());
        self.finish(out)
    }

    /// The API's answer with `format=columns`.
    pub fn to_columns_json(&self) -> serde_json::Value {
        use serde_json::Value;
        let service = |attributes: &super::Attributes| -> Value {
            let index = service_of(attributes).and_then(|name| self.services.iter().position(|s| s == name));
            index_or_minus_one(index).into()
        };
        let spans = |value: &dyn Fn(&TraceSpan) -> Value| Value::Array(self.spans.iter().map(value).collect());
        let logs = |value: &dyn Fn(&TraceLog) -> Value| Value::Array(self.logs.iter().map(value).collect());
        let mut out = self.header();
        out.insert(
            "spans".into(),
            serde_json::json!({
                "span_id": spans(&|s| s.span.span_id.clone().into()),
                "parent": spans(&|s| index_or_minus_one(s.parent).into()),
                "depth": spans(&|s| s.depth.into()),
                "start_offset_nano": spans(&|s| s.span.start_time_unix_nano.saturating_sub(self.start_unix_nano).into()),
                "duration_nano": spans(&|s| s.span.duration_nano.into()),
                "service": spans(&|s| service(&s.span.resource_attributes)),
                "name": spans(&|s| s.span.name.clone().into()),
                "kind": spans(&|s| s.span.kind.clone().into()),
                "status_code": spans(&|s| s.span.status_code.clone().into()),
                "n_logs": spans(&|s| s.n_logs.into()),
                "missing_parent": spans(&|s| s.missing_parent.into()),
                "in_circle": spans(&|s| s.in_circle.into()),
                "skewed": spans(&|s| s.skewed.into()),
                "in_progress": spans(&|s| s.span.in_progress.into()),
            }),
        );
        out.insert(
            "logs".into(),
            serde_json::json!({
                "id": logs(&|l| l.log.ingest_id.to_string().into()),
                "time_unix_nano": logs(&|l| l.log.time_unix_nano.to_string().into()),
                "offset_nano": logs(&|l| l.log.time_unix_nano.saturating_sub(self.start_unix_nano).into()),
                "span": logs(&|l| index_or_minus_one(l.span).into()),
                "severity": logs(&|l| severity::class(l.log.severity_number).into()),
                "service": logs(&|l| service(&l.log.resource_attributes)),
                "link": logs(&|l| l.link.as_ref().map_or(Value::Null, to_value)),
                "body": logs(&|l| {
                    let body = l.log.body.as_deref().unwrap_or_default();
                    body[..body.floor_char_boundary(COLUMN_BODY_BYTES)].into()
                }),
            }),
        );
        self.finish(out)
    }

    fn header(&self) -> serde_json::Map<String, serde_json::Value> {
        let header = serde_json::json!({
            "trace_id": self.trace_id.to_string(),
            "xray_trace_id": self.trace_id.to_xray(),
            "start_unix_nano": self.start_unix_nano.to_string(),
            "duration_nano": self.duration_nano,
            "services": self.services,
            "n_spans": self.spans.len(),
            "n_logs": self.logs.len(),
            "n_errors": self.n_errors,
        });
        match header {
            serde_json::Value::Object(header) => header,
            _ => serde_json::Map::new(),
        }
    }

    fn finish(&self, mut out: serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
        out.insert("coverage".into(), to_value(&self.coverage));
        out.insert("took_ms".into(), ((self.took.as_secs_f64() * 1e6).round() / 1e3).into());
        out.into()
    }
}

fn to_value(part: &impl Serialize) -> serde_json::Value {
    // plain data with text keys always has a JSON form
    serde_json::to_value(part).unwrap_or_default()
}

fn index_or_minus_one(index: Option<usize>) -> i64 {
    index.map_or(-1, |index| index as i64)
}

fn service_of(attributes: &super::Attributes) -> Option<&str> {
    attributes.iter().find(|(key, _)| key == "service.name").map(|(_, value)| value.as_str())
}

struct PlacedSpan<'a>(&'a TraceSpan);

impl Serialize for PlacedSpan<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        self.0.span.entries(&mut out)?;
        out.serialize_entry("parent", &index_or_minus_one(self.0.parent))?;
        out.serialize_entry("depth", &self.0.depth)?;
        out.serialize_entry("n_logs", &self.0.n_logs)?;
        out.serialize_entry("missing_parent", &self.0.missing_parent)?;
        out.serialize_entry("in_circle", &self.0.in_circle)?;
        out.serialize_entry("skewed", &self.0.skewed)?;
        out.end()
    }
}

struct PlacedLog<'a>(&'a TraceLog, usize);

impl Serialize for PlacedLog<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        self.0.log.entries(self.1, &mut out)?;
        out.serialize_entry("span", &index_or_minus_one(self.0.span))?;
        out.serialize_entry("link", &self.0.link)?;
        out.end()
    }
}

/// One document a span: completed beats in progress, then the later to arrive wins.
fn distinct(hits: Vec<Hit>) -> Vec<SpanHit> {
    let mut best: HashMap<String, SpanHit> = HashMap::new();
    for hit in hits {
        let Hit::Span(span) = hit else { continue };
        let rank = |span: &SpanHit| (!span.in_progress, span.ingest_id);
        match best.get_mut(&span.span_id) {
            Some(known) if rank(known) >= rank(&span) => {}
            Some(known) => *known = *span,
            None => {
                best.insert(span.span_id.clone(), *span);
            }
        }
    }
    best.into_values().collect()
}

/// Depth first; roots and siblings by start, then ID.
fn in_display_order(mut spans: Vec<SpanHit>) -> Vec<TraceSpan> {
    spans.sort_unstable_by(|a, b| a.start_time_unix_nano.cmp(&b.start_time_unix_nano).then_with(|| a.span_id.cmp(&b.span_id)));
    let numbers: HashMap<&str, usize> = spans.iter().enumerate().map(|(i, span)| (span.span_id.as_str(), i)).collect();
    let mut parents: Vec<Option<usize>> = spans
        .iter()
        .map(|span| span.parent_span_id.as_deref().and_then(|id| numbers.get(id).copied()))
        .collect();
    drop(numbers);
    let in_circle = break_circles(&mut parents);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut roots = Vec::new();
    for (i, parent) in parents.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(i),
            None => roots.push(i),
        }
    }
    // a span's number before ordering, its parent's number after, its depth
    let mut waiting: Vec<(usize, Option<usize>, usize)> = roots.into_iter().rev().map(|root| (root, None, 0)).collect();
    let mut spans: Vec<Option<SpanHit>> = spans.into_iter().map(Some).collect();
    let mut ordered: Vec<TraceSpan> = Vec::with_capacity(spans.len());
    while let Some((number, parent, depth)) = waiting.pop() {
        let Some(span) = spans[number].take() else { continue };
        let in_circle = in_circle[number];
        let missing_parent = parent.is_none() && span.parent_span_id.is_some() && !in_circle;
        let skewed = !in_circle && parent.is_some_and(|parent: usize| is_skewed(&span, &ordered[parent].span));
        let place = ordered.len();
        ordered.push(TraceSpan {
            span,
            parent,
            depth,
            n_logs: 0,
            missing_parent,
            in_circle,
            skewed,
        });
        waiting.extend(children[number].iter().rev().map(|child| (*child, Some(place), depth + 1)));
    }
    ordered
}

/// Takes the parent from one span of each circle, the first in order of start; says which spans are in one.
fn break_circles(parents: &mut [Option<usize>]) -> Vec<bool> {
    let mut in_circle = vec![false; parents.len()];
    // 0 = not seen, else the number of the walk that saw it first
    let mut seen = vec![0usize; parents.len()];
    for start in 0..parents.len() {
        let walk = start + 1;
        let mut at = start;
        while seen[at] == 0 {
            seen[at] = walk;
            match parents[at] {
                Some(parent) => at = parent,
                None => break,
            }
        }
        if seen[at] == walk && parents[at].is_some() {
            // the walk came back to itself: `at` lies on a circle, or the walk began there
            let (mut first, mut next) = (at, parents[at]);
            while let Some(number) = next.filter(|number| *number != at) {
                first = first.min(number);
                next = parents[number];
            }
            if next == Some(at) {
                let mut member = at;
                while !in_circle[member] {
                    in_circle[member] = true;
                    member = parents[member].unwrap_or(member);
                }
                parents[first] = None;
            }
        }
    }
    in_circle
}

/// Whether a child's times contradict its parent's. Messages and work that outlives its parent are not calls, so only a
/// server or internal span that ends late counts, and an unfinished parent bounds nothing.
fn is_skewed(child: &SpanHit, parent: &SpanHit) -> bool {
    if child.start_time_unix_nano < parent.start_time_unix_nano {
        return true;
    }
    if parent.in_progress || child.in_progress {
        return false;
    }
    let end = |span: &SpanHit| span.start_time_unix_nano.saturating_add(span.duration_nano.max(0));
    // a call's server side lies inside its client side
    parent.kind == "CLIENT" && child.kind == "SERVER" && end(child) > end(parent)
}
