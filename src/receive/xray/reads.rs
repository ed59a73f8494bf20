//! What X-Ray's clients read of whole traces: `BatchGetTraces`; and what reading traces takes ([`super::summaries`]).

use std::collections::HashSet;

use axum::body::Body;
use axum::http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, Receiver, Result, missing};
use crate::decode::AtMost;
use crate::model::TraceId;
use crate::query::xray::{TraceFacts, aside, documents, facts, walk};
use crate::query::{self, Trace};

/// Traces of one `BatchGetTraces`, as the service has it.
const MAX_TRACE_IDS: usize = 5;
/// Bytes of the documents of one answer, about: what the service gives of one trace, for each of five.
const MAX_DOCUMENT_BYTES: usize = 32 << 20;
const NANOS_A_SECOND: f64 = 1e9;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchGetTraces {
    trace_ids: Option<AtMost<String, 100>>,
    next_token: Option<String>,
}

impl From<query::Error> for Error {
    fn from(error: query::Error) -> Self {
        match error.kind() {
            query::ErrorKind::BadQuery | query::ErrorKind::NotFound => Error::InvalidRequest(error.to_string()),
            query::ErrorKind::Busy | query::ErrorKind::Timeout | query::ErrorKind::Unavailable => Error::Throttled {
                message: error.to_string(),
                retry_after: super::BUSY_RETRY_AFTER,
            },
            query::ErrorKind::Internal => Error::Internal(error.to_string()),
        }
    }
}

pub(super) fn nanos(seconds: Option<f64>, member: &str) -> Result<i64> {
    let seconds = seconds.ok_or_else(|| missing(member))?;
    // i64 saturates
    Ok((seconds * NANOS_A_SECOND) as i64)
}

impl Receiver {
    /// `BatchGetTraces`.
    pub(super) async fn batch_get_traces(&self, request: Request<Body>) -> Result<Value> {
        let call: BatchGetTraces = self.call(request).await?;
        let ids = call.trace_ids.ok_or_else(|| missing("traceIds"))?;
        let ids = ids.all().map_err(|_| too_many_ids())?;
        if ids.len() > MAX_TRACE_IDS {
            return Err(too_many_ids());
        }
        super::one_page(call.next_token.as_deref())?;
        let (mut traces, mut unprocessed) = (Vec::new(), Vec::new());
        let mut bytes_left = MAX_DOCUMENT_BYTES;
        for text in once(ids, |text| facts::trace_id(text)) {
            let found = match facts::trace_id(&text) {
                Some(id) => self.engine()?.documents_of_trace(id).await?.map(readable).transpose()?,
                None => None,
            };
            let Some(trace) = found else {
                unprocessed.push(Value::from(text));
                continue;
            };
            let (value, n_bytes) = aside(trace, move |trace| batch_trace(trace, bytes_left)).await?;
            bytes_left = bytes_left.saturating_sub(n_bytes);
            traces.push(value);
        }
        Ok(json!({ "Traces": traces, "UnprocessedTraceIds": unprocessed }))
    }
}

/// Each trace once, where it was named first, in whatever spelling; what is no ID stays as it is.
pub(super) fn once<T>(ids: Vec<T>, id_of: impl Fn(&T) -> Option<TraceId>) -> Vec<T> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|one| id_of(one).is_none_or(|id| seen.insert(id))).collect()
}

pub(super) fn unreadable() -> Error {
    Error::Throttled {
        message: "not all spans of that time can be read at the moment".into(),
        retry_after: super::BUSY_RETRY_AFTER,
    }
}

/// A trace all of which was read, or as much as an answer may hold; of another nothing is said.
pub(super) fn readable(trace: Trace) -> Result<Trace> {
    walk::whole_or_cut(trace).map_err(|_| unreadable())
}

fn too_many_ids() -> Error {
    Error::InvalidRequest(format!("Exceeding maximum query size: {MAX_TRACE_IDS}"))
}

/// The ID and the text of each document of a trace.
fn texts(facts: &TraceFacts<'_>) -> impl Iterator<Item = (String, String)> {
    documents::documents(facts).into_iter().map(|document| (document.id, document.text))
}

/// The same of a trace by itself.
pub(super) fn documents_of(trace: &Trace) -> Vec<(String, String)> {
    texts(&TraceFacts::of(trace)).collect()
}

/// A trace of `BatchGetTraces` with as many documents as there is room for, and their bytes.
fn batch_trace(trace: &Trace, max_bytes: usize) -> (Value, usize) {
    let facts = TraceFacts::of(trace);
    let (mut segments, mut n_bytes, mut is_cut) = (Vec::new(), 0, !trace.coverage.complete);
    for (id, body) in texts(&facts) {
        if n_bytes + body.len() > max_bytes {
            is_cut = true;
            break;
        }
        n_bytes += body.len();
        segments.push(json!({ "Id": id, "Document": body }));
    }
    let value = json!({
        "Id": trace.trace_id.to_xray(),
        "Duration": facts.duration(),
        "LimitExceeded": is_cut,
        "Segments": segments,
    });
    (value, n_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::TimeRange;
    use crate::query::{Coverage, Problem, ProblemKind};

    #[test]
    fn a_trace_that_is_named_twice_is_answered_once() {
        let named = ["1-5759e988-bd862e3fe1be46a994272793", "no ID", "5759e988bd862e3fe1be46a994272793", "no ID"];
        let others = ["1-5759e988-bd862e3fe1be46a994272794", named[0]];
        let asked: Vec<&str> = named.into_iter().chain(others).collect();
        assert_eq!(once(asked, |text| facts::trace_id(text)), [named[0], "no ID", "no ID", others[0]]);
    }

    #[test]
    fn a_trace_that_cannot_be_read_is_no_answer_and_one_that_is_cut_is() {
        let with = |kinds: &[ProblemKind]| {
            let mut coverage = Coverage::new(TimeRange::ALL);
            coverage.complete = kinds.is_empty();
            let problem = |kind: &ProblemKind| Problem {
                kind: *kind,
                what: String::new(),
                message: String::new(),
            };
            coverage.problems = kinds.iter().map(problem).collect();
            readable(Trace {
                trace_id: TraceId::from_bytes(&[1; 16]).expect("16 bytes"),
                start_unix_nano: 0,
                duration_nano: 0,
                services: vec![],
                spans: vec![],
                logs: vec![],
                pieces: vec![],
                n_errors: 0,
                coverage,
                took: Duration::ZERO,
            })
        };
        assert!(with(&[]).is_ok());
        assert!(with(&[ProblemKind::Limit]).is_ok());
        for kind in [ProblemKind::Unreachable, ProblemKind::Corrupt, ProblemKind::Timeout] {
            assert!(matches!(with(&[ProblemKind::Limit, kind]), Err(Error::Throttled { .. })), "{kind:?}");
        }
    }
}
