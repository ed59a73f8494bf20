//! Log records without a trace ID get that of the request or the span that they name.
//!
//! In: the rows of a request, in which [`super::correlate`] has found what stands in each record by itself; what they name
//! ([`names`], [`super::named`]); and what was known of those names before ([`super::book`]). Out: the same rows, with `trace_id`,
//! `trace_id_source` and `span_id` filled where the evidence is exact; and what the rows tell for those that come later.
//!
//! What tells the trace of a request ID: a span with `aws.request_id` or `faas.invocation_id` (so X-Ray's segments of Lambda, and its
//! subsegments for the requests they make), and a record that has a trace and names the request (Lambda's `REPORT` line, with its
//! `XRAY TraceId`). Of a span ID: the span, and a record that has both. Within a request (one Lambda invocation often comes in one
//! batch) the order does not matter: `START` finds the trace that `REPORT` tells. A name for which two traces are told gives none.
//!
//! The trace of a request ID that nothing has told yet may be told later: such records wait, in memory, as long as their rows do
//! ([`Found::waiting`], kept by the write path).
//!
//! Pure: what the rows become depends on nothing but these three. The write path keeps what was known beside a request's bytes in
//! the log, so a replay gives the same rows, though the book begins anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray, StringBuilder};

use super::book::{Key, Told, both};
use super::metrics::METRICS;
use super::named::{Named, RequestId, is_request_attribute, named};
use super::{Attributes, Source};
use crate::model::{Batch, Rows, SpanId, Table, TraceId};

/// Names of one request that are looked up and kept; further ones stay unknown.
pub const MAX_KNOWN: usize = 10_000;

/// What the log records of a request name: of each rows of `logs`, the records that name something.
#[derive(Debug, Default)]
pub struct Names(Vec<Vec<(usize, Named)>>);

/// What was known of names when the request came, in order; `None` of a name that two traces have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<Key, Told>);

impl Known {
    /// What a book says.
    pub fn new(told: impl IntoIterator<Item = (Key, Told)>) -> Known {
        Known(told.into_iter().collect())
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is kept in the log: for each name its kind, its bytes, and the 16 of the trace, which are zero where two traces have it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 33);
        for (key, trace) in &self.0 {
            match key {
                Key::Request(id) => {
                    out.push(1);
                    out.extend_from_slice(id.as_bytes());
                }
                Key::Span(id) => {
                    out.push(2);
                    out.extend_from_slice(id.as_bytes());
                }
            }
            out.extend_from_slice(&trace.map_or([0; 16], |trace| *trace.as_bytes()));
        }
        out
    }

    /// Reads [`Self::to_bytes`] back; `None` if they are damaged.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Known> {
        let mut take = |n: usize| bytes.split_off(..n);
        let mut known = BTreeMap::new();
        while let Some(kind) = take(1) {
            let key = match kind[0] {
                1 => Key::Request(RequestId::from_bytes(take(16)?.try_into().ok()?)),
                2 => Key::Span(SpanId::from_bytes(take(8)?)?),
                _ => return None,
            };
            // none is all zeros
            known.insert(key, TraceId::from_bytes(take(16)?));
        }
        Some(Known(known))
    }
}

fn text<'a>(rows: &'a Rows, column: &str) -> &'a StringArray {
    // the schemas have these columns and types: `Rows` is only built with them
    rows.batch().column_by_name(column).expect("a column of the table").as_string()
}

fn attributes(rows: &Rows) -> Attributes<'_> {
    Attributes::new(rows.batch().column_by_name("attributes").expect("a column of the table").as_map())
}

fn value(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

/// What the log records of a request name.
pub fn names(batch: &Batch) -> Names {
    let of = |rows: &Rows| {
        if rows.table() != Table::Logs {
            return Vec::new();
        }
        let (bodies, span_ids, attributes) = (text(rows, "body"), text(rows, "span_id"), attributes(rows));
        let mut found = Vec::new();
        for row in 0..rows.len() {
            let mut named = named(attributes.of(row), value(bodies, row));
            // what the sender says beats what the text names
            named.span = value(span_ids, row).and_then(SpanId::from_hex).or(named.span);
            if !named.is_nothing() {
                found.push((row, named));
            }
        }
        found
    };
    Names(batch.rows.iter().map(of).collect())
}

impl Names {
    /// The names of records that came without a trace ID, each once, at most [`MAX_KNOWN`].
    pub fn wanted(&self, batch: &Batch) -> BTreeSet<Key> {
        let mut wanted = BTreeSet::new();
        for (rows, named) in batch.rows.iter().zip(&self.0).filter(|(_, named)| !named.is_empty()) {
            let trace_ids = text(rows, "trace_id");
            for (_, named) in named.iter().filter(|(row, _)| trace_ids.is_null(*row)) {
                wanted.extend(named.request.map(Key::Request));
                wanted.extend(named.span.map(Key::Span));
                if wanted.len() >= MAX_KNOWN {
                    return wanted;
                }
            }
        }
        wanted
    }
}

/// What spans and records tell of names.
fn told(batch: &Batch, names: &Names) -> Vec<(Key, TraceId)> {
    let mut told: Vec<(Key, TraceId)> = Vec::new();
    for (rows, named) in batch.rows.iter().zip(&names.0) {
        match rows.table() {
            Table::Logs => {
                let trace_ids = text(rows, "trace_id");
                for (row, named) in named {
                    let Some(trace) = value(trace_ids, *row).and_then(TraceId::from_hex) else {
                        continue;
                    };
                    let keys = [named.request.map(Key::Request), named.span.map(Key::Span)];
                    told.extend(keys.into_iter().flatten().map(|key| (key, trace)));
                }
            }
            Table::Spans => {
                let (trace_ids, span_ids, attributes) = (text(rows, "trace_id"), text(rows, "span_id"), attributes(rows));
                for row in 0..rows.len() {
                    let Some(trace) = value(trace_ids, row).and_then(TraceId::from_hex) else {
                        continue;
                    };
                    let span = value(span_ids, row).and_then(SpanId::from_hex).map(Key::Span);
                    let requests = attributes.of(row).filter(|(name, _)| is_request_attribute(name));
                    let requests = requests.filter_map(|(_, id)| RequestId::parse(id.as_bytes()).map(Key::Request));
                    told.extend(requests.chain(span).map(|key| (key, trace)));
                }
            }
            _ => {}
        }
    }
    // neighbours mostly tell the same
    told.dedup();
    told
}

/// A record's trace, and how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    trace: TraceId,
    by: Source,
    span: Option<SpanId>,
}

impl Link {
    /// To the trace of its request, which was told after the record came.
    pub fn late(trace: TraceId) -> Link {
        Link {
            trace,
            by: Source::RequestId,
            span: None,
        }
    }
}

/// The trace of a record that names something, if `of` knows one; which of two is right, if the request and the span have different ones, nobody
/// can tell.
fn link_of(named: &Named, of: impl Fn(Key) -> Option<TraceId>) -> Option<Link> {
    let by_request = named.request.and_then(|id| of(Key::Request(id)));
    let by_span = named.span.and_then(|id| of(Key::Span(id)));
    match (by_request, by_span) {
        (Some(one), Some(other)) if one != other => None,
        (Some(trace), _) => Some(Link {
            trace,
            by: Source::RequestId,
            span: by_span.and(named.span),
        }),
        (None, Some(trace)) => Some(Link {
            trace,
            by: Source::SpanId,
            span: named.span,
        }),
        (None, None) => None,
    }
}

/// What became of the names in a request's records.
#[derive(Debug, Default)]
pub struct Found {
    /// What its rows tell of names.
    pub told: Vec<(Key, TraceId)>,
    /// Its log records without a trace that name a request and no span, by their row. A request that is known to be of two traces is left out.
    pub waiting: Vec<(usize, RequestId)>,
}

/// Fills in what is known of names, by the rows themselves or before. Gives what the rows tell, for a book, and which of them may be told their
/// trace by later ones. A request has one entry of rows a table at most.
pub fn link(batch: Batch, names: &Names, known: &Known) -> (Batch, Found) {
    let told = told(&batch, names);
    let lacks_trace = |(rows, named): (&Rows, &Vec<(usize, Named)>)| {
        let trace_ids = text(rows, "trace_id");
        named.iter().any(|(row, _)| trace_ids.is_null(*row))
    };
    let with_names = batch.rows.iter().zip(&names.0).filter(|(_, named)| !named.is_empty());
    if !with_names.clone().any(lacks_trace) {
        let waiting = Vec::new();
        return (batch, Found { told, waiting });
    }
    let mut traces: HashMap<Key, Told> = known.0.iter().map(|(key, told)| (*key, *told)).collect();
    for (key, trace) in &told {
        traces
            .entry(*key)
            .and_modify(|found| *found = both(*found, Some(*trace)))
            .or_insert(Some(*trace));
    }
    let mut waiting = Vec::new();
    let linked = batch.rows.iter().zip(&names.0).map(|(rows, named)| {
        if named.is_empty() {
            return rows.clone();
        }
        let trace_ids = text(rows, "trace_id");
        let mut links = HashMap::new();
        for (row, named) in named.iter().filter(|(row, _)| trace_ids.is_null(*row)) {
            match link_of(named, |key| traces.get(&key).copied().flatten()) {
                Some(link) => _ = links.insert(*row, link),
                None => waiting.extend(waits(named, &traces).map(|request| (*row, request))),
            }
        }
        filled(rows, &links)
    });
    let rows = linked.collect();
    (Batch { rows }, Found { told, waiting })
}

/// The request whose trace a record waits for.
fn waits(named: &Named, traces: &HashMap<Key, Told>) -> Option<RequestId> {
    named
        .request
        .filter(|request| named.span.is_none() && !traces.contains_key(&Key::Request(*request)))
}

/// Counts records that were told their trace by later ones.
pub fn count_late(links: &HashMap<usize, Link>) {
    for link in links.values() {
        METRICS.linked(link.by, 1);
    }
}

/// Counts records that are no longer waited for to be told their trace, since many came later.
pub fn count_not_awaited(n_records: u64) {
    METRICS.not_awaited.inc_by(n_records);
}

/// Rows of `logs` in which some that lack a trace have one now.
pub fn filled(rows: &Rows, links: &HashMap<usize, Link>) -> Rows {
    if links.is_empty() {
        return rows.clone();
    }
    let fill = |rows: &Rows, name: &str, append: &dyn Fn(&Link, &mut StringBuilder)| {
        let column = text(rows, name);
        let mut out = StringBuilder::with_capacity(column.len(), column.len() * 16);
        for row in 0..column.len() {
            match links.get(&row) {
                Some(link) if column.is_null(row) => append(link, &mut out),
                _ => out.append_option(value(column, row)),
            }
        }
        rows.with_column(name, Arc::new(out.finish()))
    };
    let rows = fill(rows, "trace_id", &|link, out| out.append_value(link.trace.hex(&mut [0; 32])));
    let rows = fill(&rows, "trace_id_source", &|link, out| out.append_value(link.by.word()));
    if links.values().all(|link| link.span.is_none()) {
        return rows;
    }
    fill(&rows, "span_id", &|link, out| match link.span {
        Some(id) => out.append_value(id.hex(&mut [0; 16])),
        None => out.append_null(),
    })
}

/// Counts the records of a request whose trace was found.
pub fn count(batch: &Batch) {
    for rows in batch.rows.iter().filter(|rows| rows.table() == Table::Logs) {
        let sources = text(rows, "trace_id_source");
        if sources.null_count() == sources.len() {
            continue;
        }
        let mut counts = [0u64; Source::ALL.len()];
        for word in sources.iter().flatten() {
            Source::ALL
                .iter()
                .zip(&mut counts)
                .filter(|(source, _)| source.word() == word)
                .for_each(|(_, n)| *n += 1);
        }
        let counted = Source::ALL.into_iter().zip(counts).filter(|(_, n)| *n > 0);
        counted.for_each(|(source, n)| METRICS.linked(source, n));
    }
}

#[cfg(test)]
mod tests;
