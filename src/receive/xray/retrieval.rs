//! `StartTraceRetrieval`, `ListRetrievedTraces`, `GetRetrievedTracesGraph`, `CancelTraceRetrieval`: traces by ID, as clients of transaction search ask for them.
//!
//! A retrieval is a list of IDs and a time, good for an hour. Its token says them, so any node knows it, after a restart too: it is what the client
//! asked for, and whoever calls may ask for that. Of more than [`MAX_IN_TOKEN`] IDs the node that was asked keeps them in memory under the token, at
//! most [`MAX_RETRIEVALS`] of them; a restart forgets those, and the client starts anew. That a retrieval is cancelled is known where it was cancelled,
//! of the last [`MAX_CANCELLED`].
//!
//! Tokens are not signed: what one says is checked like any parameter. None is of more than [`MAX_SKEW_NANOS`] hence, so each expires.
//!
//! Nothing has to be fetched from afar: the traces are read when they are listed, and a retrieval is `COMPLETE` as soon as it is there.
//!
//! A page holds [`MAX_TRACES`] traces and [`MAX_SPANS`] documents; a trace of more goes on on the next page under the same ID. Its documents
//! are kept meanwhile, [`MAX_RENDERED_BYTES`] of all such traces: the pages of one trace are of one moment, and it is read once.
//! `TraceFormat` is `XRAY` (segment documents as `BatchGetTraces` has them) or `OTEL` (one document a span, as CloudWatch keeps spans).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::reads::{documents_of, once, readable};
use super::{Error, Receiver, Result, missing};
use crate::decode::{AtMost, TEXT_ANNOTATIONS};
use crate::model::{TimeRange, TraceId, Typed};
use crate::query::xray::{aside, facts};
use crate::query::{Attributes, SpanHit, Trace};

/// IDs that a token says: the API's tokens have up to 1,020 characters.
const MAX_IN_TOKEN: usize = 45;
/// What tokens begin with that say their retrieval.
const TOLD: &str = "r1.";
/// Retrievals that are remembered; beyond, the one that was stored first is forgotten.
const MAX_RETRIEVALS: usize = 1_000;
/// Cancellations of retrievals that their tokens say; as above.
const MAX_CANCELLED: usize = 10_000;
/// How far the clock of the node that a retrieval was started at may be ahead of ours.
const MAX_SKEW_NANOS: i64 = 300_000_000_000;
/// How long one is good for.
const KEPT_NANOS: i64 = 3_600_000_000_000;
/// Traces of one retrieval.
const MAX_TRACE_IDS: usize = 100;
/// Traces on one page.
const MAX_TRACES: usize = 5;
/// Documents on one page.
const MAX_SPANS: usize = 100;
/// Documents of traces that go on on a further page.
const MAX_RENDERED_BYTES: usize = 64 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartTraceRetrieval {
    trace_ids: Option<AtMost<String, MAX_TRACE_IDS>>,
    start_time: Option<f64>,
    end_time: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retrieved {
    retrieval_token: Option<String>,
    trace_format: Option<Format>,
    next_token: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Format {
    #[default]
    Xray,
    Otel,
}

#[derive(Clone, Debug, PartialEq)]
struct Retrieval {
    ids: Vec<TraceId>,
    range: TimeRange,
    started_nanos: i64,
    is_cancelled: bool,
}

impl Retrieval {
    /// The token that says it; `None` if it is too long. No two are the same.
    fn token(&self) -> Option<String> {
        if self.ids.len() > MAX_IN_TOKEN {
            return None;
        }
        let mut bytes = rand::random::<[u8; 8]>().to_vec();
        for number in [self.started_nanos, self.range.start_nanos, self.range.end_nanos] {
            bytes.extend(number.to_be_bytes());
        }
        self.ids.iter().for_each(|id| bytes.extend(id.as_bytes()));
        Some(format!("{TOLD}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What a token says; `None` if that is not such a one.
    fn told(token: &str) -> Option<Retrieval> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(TOLD)?).ok()?;
        let (numbers, ids) = bytes.get(8..)?.split_at_checked(24)?;
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|bytes| i64::from_be_bytes(*bytes));
        let (started_nanos, start, end) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let (ids, []) = ids.as_chunks::<16>() else { return None };
        Some(Retrieval {
            ids: ids.iter().map(|id| TraceId::from_bytes(id)).collect::<Option<_>>()?,
            range: TimeRange::new(start, end),
            started_nanos,
            is_cancelled: false,
        })
        .filter(|told| told.ids.len() <= MAX_IN_TOKEN)
    }
}

/// The documents of one trace: ID and text of each.
type Documents = Arc<Vec<(String, String)>>;

/// A trace that goes on on a further page.
#[derive(Debug)]
struct Rendered {
    /// The retrieval's token, the trace's place in it, how it is written.
    of: (String, usize, Format),
    seconds: f64,
    documents: Documents,
    bytes: usize,
}

/// What was stored last, by name.
#[derive(Debug)]
struct LastStored<K, V> {
    by_name: HashMap<K, V>,
    /// In the order in which they were stored.
    names: VecDeque<K>,
}

impl<K, V> Default for LastStored<K, V> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            names: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> LastStored<K, V> {
    /// Stores one, without those that are not good any more; of more than `most`, those stored first go, whatever they say of themselves.
    fn store(&mut self, name: K, value: V, most: usize, is_good: impl Fn(&V) -> bool) {
        self.by_name.retain(|_, value| is_good(value));
        if self.by_name.insert(name.clone(), value).is_none() {
            self.names.retain(|known| *known != name && self.by_name.contains_key(known));
            self.names.push_back(name);
        }
        while self.by_name.len() > most
            && let Some(first) = self.names.pop_front()
        {
            self.by_name.remove(&first);
        }
    }
}

/// The retrievals that are remembered, by token; and the last traces that were listed in part.
#[derive(Debug, Default)]
pub(super) struct Retrievals {
    known: Mutex<LastStored<String, Retrieval>>,
    /// Those that their tokens say and that were cancelled here, by a digest of the token; when they started.
    cancelled: Mutex<LastStored<u128, i64>>,
    rendered: Mutex<VecDeque<Rendered>>,
}

impl Retrievals {
    fn start(&self, retrieval: Retrieval) -> String {
        if let Some(token) = retrieval.token() {
            return token;
        }
        let token = super::super::answer::request_id();
        let now_nanos = retrieval.started_nanos;
        let is_good = |known: &Retrieval| is_good(known.started_nanos, now_nanos);
        self.known.lock().store(token.clone(), retrieval, MAX_RETRIEVALS, is_good);
        token
    }

    fn find(&self, token: &str, now_nanos: i64) -> Result<Retrieval> {
        let known = self.known.lock().by_name.get(token).cloned();
        let told = || {
            let is_cancelled = self.cancelled.lock().by_name.contains_key(&digest(token));
            Retrieval::told(token).map(|told| Retrieval { is_cancelled, ..told })
        };
        let found = known.or_else(told).filter(|found| is_good(found.started_nanos, now_nanos));
        found.ok_or_else(|| unknown(token))
    }

    fn cancel(&self, token: &str, now_nanos: i64) -> Result<()> {
        let started_nanos = self.find(token, now_nanos)?.started_nanos;
        match self.known.lock().by_name.get_mut(token) {
            Some(known) => known.is_cancelled = true,
            None => {
                let is_good = |started: &i64| is_good(*started, now_nanos);
                self.cancelled.lock().store(digest(token), started_nanos, MAX_CANCELLED, is_good);
            }
        }
        Ok(())
    }

    /// Takes the documents that were kept of a trace.
    fn take(&self, of: &(String, usize, Format)) -> Option<(f64, Documents)> {
        let mut rendered = self.rendered.lock();
        let at = rendered.iter().position(|kept| kept.of == *of)?;
        rendered.remove(at).map(|kept| (kept.seconds, kept.documents))
    }

    /// Keeps a trace's documents for the next page; of too many, those that were asked for longest ago go.
    fn keep(&self, of: (String, usize, Format), seconds: f64, documents: Documents) {
        let bytes = documents.iter().map(|(id, text)| id.len() + text.len() + 48).sum();
        let mut rendered = self.rendered.lock();
        rendered.push_back(Rendered { of, seconds, documents, bytes });
        while rendered.iter().map(|kept| kept.bytes).sum::<usize>() > MAX_RENDERED_BYTES {
            rendered.pop_front();
        }
    }
}

/// Whether a retrieval that was started then is good now.
fn is_good(started_nanos: i64, now_nanos: i64) -> bool {
    let age_nanos = now_nanos.saturating_sub(started_nanos);
    (-MAX_SKEW_NANOS..KEPT_NANOS).contains(&age_nanos)
}

/// What stands for a token in the list of those cancelled.
fn digest(token: &str) -> u128 {
    xxh3_128(token.as_bytes())
}

fn unknown(token: &str) -> Error {
    Error::NotFound {
        message: "The retrieval token is unknown or has expired.".into(),
        resource: token.chars().take(100).collect(),
    }
}

/// Where a page begins: a trace, and a document of it.
fn read_token(text: &str) -> Option<(usize, usize)> {
    let (trace, document) = text.split_once('.')?;
    Some((trace.parse().ok()?, document.parse().ok()?))
}

impl Receiver {
    /// `StartTraceRetrieval`.
    pub(super) async fn start_trace_retrieval(&self, request: Request<Body>) -> Result<Value> {
        let call: StartTraceRetrieval = self.call(request).await?;
        let ids = call.trace_ids.ok_or_else(|| missing("traceIds"))?;
        let ids = ids
            .all()
            .map_err(|n| Error::InvalidRequest(format!("{n} trace IDs in one call, at most {MAX_TRACE_IDS} are taken")))?;
        let id = |text: &String| facts::trace_id(text).ok_or_else(|| Error::InvalidRequest(format!("{text:?} is not a trace ID")));
        let start = call.start_time.ok_or_else(|| missing("startTime"))?;
        let end = call.end_time.ok_or_else(|| missing("endTime"))?;
        if start > end {
            return Err(Error::InvalidRequest("StartTime must not be after EndTime".into()));
        }
        let token = self.retrievals.start(Retrieval {
            ids: once(ids.iter().map(id).collect::<Result<_>>()?, |id| Some(*id)),
            // both ends count; i64 saturates
            range: TimeRange::new((start * 1e9) as i64, ((end * 1e9) as i64).saturating_add(1)),
            started_nanos: self.clock.now_nanos(),
            is_cancelled: false,
        });
        Ok(json!({ "RetrievalToken": token }))
    }

    /// `CancelTraceRetrieval`.
    pub(super) async fn cancel_trace_retrieval(&self, request: Request<Body>) -> Result<Value> {
        let call: Retrieved = self.call(request).await?;
        let token = call.retrieval_token.ok_or_else(|| missing("retrievalToken"))?;
        self.retrievals.cancel(&token, self.clock.now_nanos())?;
        Ok(json!({}))
    }

    /// `GetRetrievedTracesGraph`: of the traces whole, as `GetTraceGraph` draws them.
    pub(super) async fn get_retrieved_traces_graph(&self, request: Request<Body>) -> Result<Value> {
        let call: Retrieved = self.call(request).await?;
        let token = call.retrieval_token.ok_or_else(|| missing("retrievalToken"))?;
        let retrieval = self.retrievals.find(&token, self.clock.now_nanos())?;
        if retrieval.is_cancelled {
            return Ok(json!({ "RetrievalStatus": "CANCELLED", "Services": [] }));
        }
        let mut graph = self.graph_of_traces(&retrieval.ids, call.next_token.as_deref()).await?;
        let services = graph["Services"].take();
        let with_links = |service: &Value| json!({ "Service": service, "Links": [] });
        graph["Services"] = services.as_array().into_iter().flatten().map(with_links).collect();
        graph["RetrievalStatus"] = "COMPLETE".into();
        Ok(graph)
    }

    /// `ListRetrievedTraces`.
    pub(super) async fn list_retrieved_traces(&self, request: Request<Body>) -> Result<Value> {
        let call: Retrieved = self.call(request).await?;
        let token = call.retrieval_token.ok_or_else(|| missing("retrievalToken"))?;
        let retrieval = self.retrievals.find(&token, self.clock.now_nanos())?;
        let format = call.trace_format.unwrap_or_default();
        let mut out = json!({ "RetrievalStatus": "COMPLETE", "TraceFormat": if format == Format::Xray { "XRAY" } else { "OTEL" }, "Traces": [] });
        if retrieval.is_cancelled {
            out["RetrievalStatus"] = "CANCELLED".into();
            return Ok(out);
        }
        let begin = call.next_token.as_deref().map_or(Some((0, 0)), read_token);
        let (mut at, mut skipped) = begin.ok_or_else(|| Error::InvalidRequest("NextToken is not one of this call's".into()))?;
        let (mut traces, mut room) = (Vec::new(), MAX_SPANS);
        while at < retrieval.ids.len() && traces.len() < MAX_TRACES && room > 0 {
            let id = retrieval.ids[at];
            let of = (token.clone(), at, format);
            let kept = if skipped > 0 { self.retrievals.take(&of) } else { None };
            let (seconds, documents) = match kept {
                Some(kept) => kept,
                None => match self.render(id, retrieval.range, format).await? {
                    Some(rendered) => rendered,
                    None => {
                        (at, skipped) = (at + 1, 0);
                        continue;
                    }
                },
            };
            let page = documents.iter().skip(skipped).take(room);
            let spans: Vec<Value> = page.map(|(id, document)| json!({ "Id": id, "Document": document })).collect();
            room -= spans.len();
            skipped += spans.len();
            traces.push(json!({ "Id": id.to_xray(), "Duration": seconds, "Spans": spans }));
            match skipped >= documents.len() {
                true => (at, skipped) = (at + 1, 0),
                false => self.retrievals.keep(of, seconds, documents),
            }
        }
        out["Traces"] = traces.into();
        if at < retrieval.ids.len() {
            out["NextToken"] = format!("{at}.{skipped}").into();
        }
        Ok(out)
    }
}

impl Receiver {
    /// A trace's duration and documents; `None` if nothing of it is in the time.
    async fn render(&self, id: TraceId, range: TimeRange, format: Format) -> Result<Option<(f64, Documents)>> {
        let found = match format {
            Format::Xray => self.engine()?.documents_of_trace(id).await?,
            Format::Otel => self.engine()?.spans_of_trace(id).await?,
        };
        let found = found.map(readable).transpose()?;
        let Some(trace) = found.filter(|trace| is_in(trace, range)) else {
            return Ok(None);
        };
        let rendered = aside(trace, move |trace| {
            let documents = match format {
                Format::Xray => documents_of(trace),
                Format::Otel => trace
                    .spans
                    .iter()
                    .map(|placed| (placed.span.span_id.clone(), otel_document(&placed.span).to_string()))
                    .collect(),
            };
            (facts::seconds(trace.duration_nano), Arc::new(documents))
        });
        Ok(Some(rendered.await?))
    }
}

/// Whether a part of it lies in a time frame.
fn is_in(trace: &Trace, range: TimeRange) -> bool {
    trace.start_unix_nano < range.end_nanos && trace.start_unix_nano.saturating_add(trace.duration_nano.max(0)) >= range.start_nanos
}

fn object(attributes: &Attributes) -> Value {
    // what the store notes beside annotations is no attribute that was sent
    let sent = attributes.iter().filter(|(key, _)| key != TEXT_ANNOTATIONS);
    Value::Object(sent.map(|(key, value)| (key.clone(), Typed::json(key, value))).collect())
}

/// A span as CloudWatch keeps it in the log group `aws/spans`.
fn otel_document(span: &SpanHit) -> Value {
    let end = span.start_time_unix_nano.saturating_add(span.duration_nano.max(0));
    let events = span.events.iter().map(|event| {
        json!({
            "timeUnixNano": event.time_unix_nano,
            "name": event.name.as_deref().unwrap_or_default(),
            "attributes": object(&event.attributes),
        })
    });
    let links = span.links.iter().map(|link| {
        json!({
            "traceId": link.trace_id.as_deref().unwrap_or_default(),
            "spanId": link.span_id.as_deref().unwrap_or_default(),
            "attributes": object(&link.attributes),
        })
    });
    let mut out = json!({
        "resource": { "attributes": object(&span.resource_attributes) },
        "scope": { "name": span.scope_name.as_deref().unwrap_or_default() },
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": span.start_time_unix_nano,
        "attributes": object(&span.attributes),
        "status": { "code": span.status_code },
        "events": events.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
    });
    if let Some(parent) = &span.parent_span_id {
        out["parentSpanId"] = parent.as_str().into();
    }
    if let Some(message) = &span.status_message {
        out["status"]["message"] = message.as_str().into();
    }
    if !span.in_progress {
        out["endTimeUnixNano"] = end.into();
        out["durationNano"] = span.duration_nano.into();
    }
    out
}

#[cfg(test)]
mod tests;
