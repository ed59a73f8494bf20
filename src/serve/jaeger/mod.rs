//! Jaeger's query API, `/jaeger/api`, as Jaeger UI and Grafana's Jaeger data source call it.
//!
//! | path | answer |
//! |---|---|
//! | `GET /services` | services that sent spans in the last two days |
//! | `GET /services/{service}/operations` | the names of its spans |
//! | `GET /operations?service=&spanKind=` | names with kinds |
//! | `GET /traces/{id}` | one trace, by any spelling of its ID |
//! | `GET /traces?traceID=…` | several |
//! | `GET /traces?service=&operation=&tag=k:v&tags={…}&start=&end=&lookback=&minDuration=&maxDuration=&limit=` | traces of which one span is all of that, those with the newest such span first ([`search`]) |
//! | `GET /dependencies?endTs=&lookback=` | calls between services ([`dependencies`]) |
//!
//! Times are microseconds since the epoch (`endTs` and `lookback` of dependencies: milliseconds), durations Go's (`1.2s`, `500ms`).
//! Answers are `{"data","total","limit","offset","errors"}`; what went wrong is `errors: [{"code","msg"}]` with that status. Where blocks
//! cannot be read that is 503: a list that lacks something would look whole. What a bound cut stands in `errors` beside the data, and in the
//! `warnings` of a trace. How a span is written is said in [`json`]. The same by
//! gRPC: [`grpc`].

mod dependencies;
mod grpc;
mod json;
mod search;

pub(super) use grpc::router as grpc_router;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Path, Query as QueryString, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};

use super::Server;
use crate::model::{Table, TimeRange, TraceId};
use crate::query::{self, Coverage, ErrorKind, ProblemKind, Query, Trace};

/// Services and operations are those of so long.
const LOOKBACK_NANOS: i64 = 2 * 86_400_000_000_000;
/// Services, or operations of one.
const MAX_NAMES: usize = 10_000;
/// Traces asked for by ID in one request.
const MAX_IDS: usize = 100;
/// Traces that are read together.
const TRACES_AT_ONCE: usize = 50;

/// All routes.
pub(super) fn router(server: Arc<Server>) -> axum::Router {
    axum::Router::new()
        .route("/services", get(services))
        .route("/services/{service}/operations", get(operations_of))
        .route("/operations", get(operations))
        .route("/traces", get(traces))
        .route("/traces/{id}", get(trace))
        .route("/dependencies", get(dependencies::dependencies))
        .fallback(|| async { Error::new(StatusCode::NOT_FOUND, "there is no such path") })
        .with_state(server)
}

/// An error on its way to the client.
#[derive(Debug)]
struct Error {
    status: StatusCode,
    message: String,
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let errors = json!([{ "code": self.status.as_u16(), "msg": self.message }]);
        let body = json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors });
        (self.status, Json(body)).into_response()
    }
}

impl From<query::Error> for Error {
    fn from(error: query::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::BadQuery => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => {
                tracing::error!(%error, "a query failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

/// The members of a query string, some of which may come again and again.
#[derive(Debug, Default)]
struct Params(Vec<(String, String)>);

impl Params {
    /// One that says something.
    fn get(&self, name: &str) -> Option<&str> {
        let is_it = |(key, value): &&(String, String)| key == name && !value.is_empty();
        self.0.iter().find(is_it).map(|(_, value)| value.as_str())
    }
    /// All of a name.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let is_it = move |(key, value): &&(String, String)| key == name && !value.is_empty();
        self.0.iter().filter(is_it).map(|(_, value)| value.as_str())
    }
    fn number(&self, name: &str) -> Result<Option<i64>> {
        let read = |text: &str| {
            text.parse()
                .map_err(|_| Error::bad(format!("unable to parse param '{name}': {text:?} is no number")))
        };
        self.get(name).map(read).transpose()
    }
}

type Asked = QueryString<Vec<(String, String)>>;

/// What is told, and what that lacks, in words.
#[derive(Debug)]
struct Told<T> {
    data: Vec<T>,
    lacks: Vec<String>,
}

impl<T> Told<T> {
    fn whole(data: Vec<T>) -> Self {
        Self { data, lacks: Vec::new() }
    }
}

impl<T: std::fmt::Display> IntoResponse for Told<T> {
    /// An answer of which nothing is on another page.
    fn into_response(self) -> Response {
        let mut body = String::from("{\"data\":[");
        for (at, one) in self.data.iter().enumerate() {
            body.push_str(if at > 0 { "," } else { "" });
            // writing to a string does not fail
            let _ = write!(body, "{one}");
        }
        let errors: Vec<Value> = self.lacks.iter().map(|lack| json!({ "code": 206, "msg": lack })).collect();
        let errors = if errors.is_empty() { Value::Null } else { Value::from(errors) };
        let _ = write!(body, "],\"total\":{},\"limit\":0,\"offset\":0,\"errors\":{errors}}}", self.data.len());
        ([(http::header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// What a bound cut, in words; an error if something could not be read.
fn lacks(coverage: &Coverage) -> Result<Vec<String>> {
    let unread = coverage.problems.iter().find(|problem| problem.kind != ProblemKind::Limit);
    match unread {
        _ if coverage.complete => Ok(Vec::new()),
        Some(problem) => Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, format!("{}: {}", problem.what, problem.message))),
        None => Ok(coverage.problems.iter().map(|problem| problem.message.clone()).collect()),
    }
}

impl Server {
    /// The last two days, and what is on its way.
    fn jaeger_range(&self) -> TimeRange {
        let now = self.clock.now_nanos();
        TimeRange::new(now.saturating_sub(LOOKBACK_NANOS), now.saturating_add(3_600_000_000_000))
    }

    /// Values that fields of spans have together, in order.
    async fn jaeger_values(&self, query: &Query, fields: &[&str]) -> Result<Told<Vec<Option<String>>>> {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_string()).collect();
        let counted = self.engine.count_by(Table::Spans, query, self.jaeger_range(), &fields, MAX_NAMES).await?;
        let mut lacks = lacks(&counted.coverage)?;
        if counted.other > 0 {
            lacks.push(format!("there are more; the {MAX_NAMES} with the most spans are listed"));
        }
        let mut data: Vec<_> = counted.groups.into_iter().map(|(values, _)| values).collect();
        data.sort_unstable();
        Ok(Told { data, lacks })
    }
}

async fn services(State(server): State<Arc<Server>>) -> Result<Told<Value>> {
    Ok(names(server.jaeger_values(&Query::All, &["service"]).await?))
}

fn names(values: Told<Vec<Option<String>>>) -> Told<Value> {
    Told {
        data: values.data.into_iter().flatten().flatten().map(Value::from).collect(),
        lacks: values.lacks,
    }
}

fn of_service(service: &str) -> Query {
    Query::equals("service", service)
}

async fn operations_of(State(server): State<Arc<Server>>, Path(service): Path<String>) -> Result<Told<Value>> {
    Ok(names(server.jaeger_values(&of_service(&service), &["name"]).await?))
}

async fn operations(State(server): State<Arc<Server>>, QueryString(asked): Asked) -> Result<Told<Value>> {
    let asked = Params(asked);
    let service = asked.get("service").ok_or_else(|| Error::bad("parameter 'service' is required"))?;
    let kind = asked.get("spanKind").unwrap_or_default();
    operations_as(&server, service, kind, |name, kind| json!({ "name": name, "spanKind": kind })).await
}

/// The names of a service's spans with their kinds; of one kind, unless that is empty.
async fn operations_as<T>(server: &Server, service: &str, kind: &str, make: impl Fn(String, String) -> T) -> Result<Told<T>> {
    let kind = kind.to_lowercase();
    let values = server.jaeger_values(&of_service(service), &["name", "kind"]).await?;
    let shown = values.data.into_iter().filter_map(|values| {
        let mut values = values.into_iter();
        let (name, its_kind) = (values.next()??, json::span_kind(&values.next()??));
        let is_asked_for = kind.is_empty() || kind == its_kind;
        is_asked_for.then(|| make(name, its_kind))
    });
    Ok(Told {
        data: shown.collect(),
        lacks: values.lacks,
    })
}

fn trace_id(text: &str) -> Result<TraceId> {
    // Jaeger leaves zeros in front away
    let padded = match text.len() {
        1..=31 if text.bytes().all(|b| b.is_ascii_hexdigit()) => TraceId::from_hex(&format!("{text:0>32}")),
        _ => None,
    };
    padded
        .or_else(|| TraceId::parse_any(text))
        .ok_or_else(|| Error::bad(format!("{text:?} is not a trace ID")))
}

async fn trace(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Result<Told<String>> {
    let found = server.engine.spans_of_trace(trace_id(&id)?).await?;
    let found = found.ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "trace not found"))?;
    Ok(Told::whole(vec![told(found).await?]))
}

async fn traces(State(server): State<Arc<Server>>, QueryString(asked): Asked) -> Result<Told<String>> {
    let asked = Params(asked);
    let ids: Vec<TraceId> = asked.all("traceID").map(trace_id).collect::<Result<_>>()?;
    if ids.is_empty() {
        return search::search(&server, &asked).await;
    }
    if ids.len() > MAX_IDS {
        return Err(Error::bad(format!("{} trace IDs in one request, at most {MAX_IDS} are taken", ids.len())));
    }
    read(&server, &ids).await
}

/// Traces of an answer, each written as soon as it is read.
async fn read(server: &Server, ids: &[TraceId]) -> Result<Told<String>> {
    let written = async |trace: Trace| {
        let text = told(trace).await?;
        let length = text.len();
        Ok((text, length))
    };
    read_with(server, ids, written).await
}

/// As many traces as may be in one answer, as `make` makes them, with their bytes.
async fn read_with<T>(server: &Server, ids: &[TraceId], make: impl AsyncFn(Trace) -> Result<(T, usize)>) -> Result<Told<T>> {
    let (max_spans, max_bytes) = (server.engine.config().max_trace_spans, server.engine.config().max_answer_bytes);
    let (mut out, mut n_spans, mut n_bytes) = (Told::whole(Vec::new()), 0, 0);
    let mut waiting: Vec<&[TraceId]> = ids.chunks(TRACES_AT_ONCE).rev().collect();
    while let Some(some) = waiting.pop() {
        let found = match (server.engine.spans_of_traces(some).await?, some) {
            (Some(found), _) => found,
            // of the largest a part
            (None, [id]) => server.engine.spans_of_trace(*id).await?.into_iter().collect(),
            (None, many) => {
                let (first, second) = many.split_at(many.len() / 2);
                waiting.extend([second, first]);
                continue;
            }
        };
        for trace in found {
            n_spans += trace.spans.len();
            if (n_spans > max_spans || n_bytes > max_bytes) && !out.data.is_empty() {
                out.lacks.push(format!(
                    "{} of {} traces are shown: all together are more than one answer may hold",
                    out.data.len(),
                    ids.len()
                ));
                return Ok(out);
            }
            let (made, bytes) = make(trace).await?;
            n_bytes += bytes;
            out.data.push(made);
        }
    }
    Ok(out)
}

async fn told(trace: Trace) -> Result<String> {
    let told = tokio::task::spawn_blocking(move || json::trace(&trace)).await;
    told.map_err(|ended| Error::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the work on a trace ended: {ended}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_may_lack_zeros_in_front() {
        let id = |text: &str| trace_id(text).map(|id| id.to_string()).ok();
        assert_eq!(id("5b8aa5a2d2c872e8321cf37308d69df2").as_deref(), Some("5b8aa5a2d2c872e8321cf37308d69df2"));
        assert_eq!(id("72e8321cf37308d6").as_deref(), Some("000000000000000072e8321cf37308d6"));
        assert_eq!(id("1-5b8aa5a2-d2c872e8321cf37308d69df2").as_deref(), Some("5b8aa5a2d2c872e8321cf37308d69df2"));
        assert_eq!(id("what"), None);
    }

    #[test]
    fn parameters_may_come_again_and_empty_ones_say_nothing() {
        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
        let params = Params(vec![pair("tag", "a:1"), pair("limit", ""), pair("tag", "b:2"), pair("start", "x")]);
        assert_eq!(params.all("tag").collect::<Vec<_>>(), ["a:1", "b:2"]);
        assert_eq!(params.get("limit"), None);
        assert!(params.number("start").is_err());
        assert_eq!(params.number("end").expect("none"), None);
    }
}
