//! Jaeger's gRPC query service, `jaeger.api_v3.QueryService`, on the port of OTLP/gRPC: traces as OpenTelemetry's `TracesData`.
//!
//! | call | answers |
//! |---|---|
//! | `GetServices`, `GetOperations` | as `/jaeger/api/services` and `/operations` |
//! | `GetTrace` | one trace, by any spelling of its ID |
//! | `FindTraces` | as the search of [`super::search`], whose tags are `attributes`; `service_name` is required |
//!
//! Traces come as a stream of messages of at most [`BYTES_A_MESSAGE`] and [`SPANS_A_MESSAGE`] spans each (a larger span is a message by itself), since
//! clients take messages of up to 4 MiB; of one trace there may be several. What a bound cut stands in the trailer `tracelake-incomplete`. The messages are those of jaeger-idl, `proto/api_v3/query_service.proto`;
//! its experimental `filter`, `GetDependencies` and `FindTraceSummaries` are not known here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData, span};
use prost::Message;

use super::search::{self, Asked};
use super::{Error, Params, Result, Server, operations_as, trace_id};
use crate::decode::TEXT_ANNOTATIONS;
use crate::model::{SpanId, TimeRange, TraceId, Typed};
use crate::net::{Budget, Encoding, body};
use crate::query::{Attributes, Query, SpanHit, Trace};

/// Bytes of a request: names, IDs and attributes.
const MAX_REQUEST_BYTES: usize = 256 << 10;
const PREFIX_BYTES: usize = 5;
/// Spans of one message, and its bytes: gRPC's clients refuse more than 4 MiB, unless they are told otherwise.
const SPANS_A_MESSAGE: usize = 500;
const BYTES_A_MESSAGE: usize = 3 << 20;
/// What a member of a message costs beside its bytes, at the most: its tag and its length.
const MEMBER_BYTES: usize = 8;

#[derive(Clone, PartialEq, prost::Message)]
struct GetTraceRequest {
    #[prost(string, tag = "1")]
    trace_id: String,
}

/// `google.protobuf.Timestamp` and `Duration`, which are alike.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TraceQueryParameters {
    #[prost(string, tag = "1")]
    service_name: String,
    #[prost(string, tag = "2")]
    operation_name: String,
    #[prost(map = "string, string", tag = "3")]
    attributes: HashMap<String, String>,
    #[prost(message, optional, tag = "4")]
    start_time_min: Option<Seconds>,
    #[prost(message, optional, tag = "5")]
    start_time_max: Option<Seconds>,
    #[prost(message, optional, tag = "6")]
    duration_min: Option<Seconds>,
    #[prost(message, optional, tag = "7")]
    duration_max: Option<Seconds>,
    #[prost(int32, tag = "8")]
    search_depth: i32,
    /// An expression, which is refused: to leave it out would tell other traces than were asked for.
    #[prost(bytes = "vec", optional, tag = "10")]
    filter: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FindTracesRequest {
    #[prost(message, optional, tag = "1")]
    query: Option<TraceQueryParameters>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetServicesRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct GetServicesResponse {
    #[prost(string, repeated, tag = "1")]
    services: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetOperationsRequest {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    span_kind: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Operation {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    span_kind: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetOperationsResponse {
    #[prost(message, repeated, tag = "1")]
    operations: Vec<Operation>,
}

/// The service's calls.
pub(in crate::serve) fn router(server: Arc<Server>) -> axum::Router {
    axum::Router::new()
        .route("/jaeger.api_v3.QueryService/GetServices", post(get_services))
        .route("/jaeger.api_v3.QueryService/GetOperations", post(get_operations))
        .route("/jaeger.api_v3.QueryService/GetTrace", post(get_trace))
        .route("/jaeger.api_v3.QueryService/FindTraces", post(find_traces))
        .with_state(server)
}

/// An error as gRPC has it.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = match self.0.status {
            StatusCode::BAD_REQUEST => tonic::Code::InvalidArgument,
            StatusCode::NOT_FOUND => tonic::Code::NotFound,
            StatusCode::TOO_MANY_REQUESTS => tonic::Code::ResourceExhausted,
            StatusCode::GATEWAY_TIMEOUT => tonic::Code::DeadlineExceeded,
            StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
            StatusCode::NOT_IMPLEMENTED => tonic::Code::Unimplemented,
            _ => tonic::Code::Internal,
        };
        tonic::Status::new(code, self.0.message).into_http::<Body>()
    }
}

/// The one message of a call.
async fn read<M: Message + Default>(request: Request) -> Result<M> {
    let (head, body) = request.into_parts();
    let max_bytes = MAX_REQUEST_BYTES + PREFIX_BYTES;
    let caps = body::Caps {
        max_body_bytes: max_bytes,
        max_inflated_bytes: max_bytes,
    };
    let read = body::read(&head.headers, body, Encoding::Identity, caps, Budget::new(max_bytes).share()).await;
    let framed = read.map_err(|error| Error::bad(format!("the request cannot be read: {error}")))?.raw;
    let Some((prefix, message)) = framed.split_at_checked(PREFIX_BYTES) else {
        return Err(Error::bad("the call has no message"));
    };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 {
        return Err(Error::new(StatusCode::NOT_IMPLEMENTED, "requests of this service are taken uncompressed"));
    }
    if length != message.len() {
        return Err(Error::bad(format!("the message's length is {length}, {} bytes follow", message.len())));
    }
    M::decode(message).map_err(|error| Error::bad(format!("the message cannot be read: {error}")))
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + length);
    out.put_u8(0);
    // a message is some hundred spans of at most some MiB each
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    let written = message.encode(&mut out);
    debug_assert!(written.is_ok(), "a BytesMut grows");
    out.freeze()
}

/// Messages one after the other, each made when its turn comes; then the trailers.
fn answer(messages: impl Iterator<Item = Bytes> + Send + 'static, lacks: &[String]) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    if !lacks.is_empty() {
        trailers.extend(in_a_header(&lacks.join("; ")).map(|lacks| (HeaderName::from_static("tracelake-incomplete"), lacks)));
    }
    let frames = messages.map(Frame::data).chain(std::iter::once_with(move || Frame::trailers(trailers)));
    let mut answer = Response::new(Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))));
    let headers = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// A text as a header may have it: what is not of ASCII is `?`.
fn in_a_header(text: &str) -> Option<HeaderValue> {
    let ascii: String = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    HeaderValue::from_str(&ascii).ok()
}

async fn get_services(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Failure> {
    read::<GetServicesRequest>(request).await?;
    let told = server.jaeger_values(&Query::All, &["service"]).await?;
    let services = told.data.into_iter().flatten().flatten().collect();
    Ok(answer(std::iter::once(framed(&GetServicesResponse { services })), &told.lacks))
}

async fn get_operations(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Failure> {
    let asked: GetOperationsRequest = read(request).await?;
    let told = operations_as(&server, &asked.service, &asked.span_kind, |name, span_kind| Operation { name, span_kind }).await?;
    let operations = told.data;
    Ok(answer(std::iter::once(framed(&GetOperationsResponse { operations })), &told.lacks))
}

async fn get_trace(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Failure> {
    let asked: GetTraceRequest = read(request).await?;
    let id = trace_id(&asked.trace_id)?;
    let found = server.engine.spans_of_trace(id).await.map_err(Error::from)?;
    let found = found.ok_or_else(|| Error::new(StatusCode::NOT_FOUND, "trace not found"))?;
    let lacks = super::lacks(&found.coverage)?;
    Ok(answer(messages(vec![found]), &lacks))
}

async fn find_traces(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Failure> {
    let asked: FindTracesRequest = read(request).await?;
    let asked = asked.query.unwrap_or_default();
    if asked.filter.is_some() {
        return Err(Error::new(
            StatusCode::NOT_IMPLEMENTED,
            "query.filter is not known here: ask by service_name and attributes",
        )
        .into());
    }
    let (sought, range, limit) = asked.read()?;
    let (ids, mut lacks) = search::find(&server, &sought, range, limit).await?;
    let told = super::read_with(&server, &ids, async |trace| Ok(with_bytes(trace))).await?;
    lacks.extend(told.lacks);
    for trace in &told.data {
        lacks.extend(super::lacks(&trace.coverage)?);
    }
    Ok(answer(messages(told.data), &lacks))
}

impl TraceQueryParameters {
    /// As the parameters of the HTTP API: they mean the same.
    fn read(&self) -> Result<(Asked, TimeRange, usize)> {
        let nanos = |time: Seconds| time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos));
        let (Some(start), Some(end)) = (self.start_time_min, self.start_time_max) else {
            return Err(Error::bad("start_time_min and start_time_max are required"));
        };
        if nanos(start) >= nanos(end) {
            return Err(Error::bad("start_time_max should be after start_time_min"));
        }
        let mut params = vec![
            ("service".to_string(), self.service_name.clone()),
            ("operation".to_string(), self.operation_name.clone()),
        ];
        params.push(("tags".into(), serde_json::json!(self.attributes).to_string()));
        for (name, duration) in [("minDuration", self.duration_min), ("maxDuration", self.duration_max)] {
            // zero is what an unset one reads as
            let duration = duration.map(nanos).filter(|nanos| *nanos > 0);
            params.extend(duration.map(|nanos| (name.to_string(), format!("{nanos}ns"))));
        }
        let limit = match self.search_depth {
            0 => search::DEFAULT_LIMIT,
            depth => usize::try_from(depth)
                .map_err(|_| Error::bad("search_depth should not be negative"))?
                .min(search::MAX_LIMIT),
        };
        Ok((Asked::of(&Params(params))?, TimeRange::new(nanos(start), nanos(end)), limit))
    }
}

/// A trace, and the memory that its spans take, about.
fn with_bytes(trace: Trace) -> (Trace, usize) {
    let bytes = trace.spans.iter().map(|placed| placed.span.memory_bytes()).sum();
    (trace, bytes)
}

/// The traces, each message made when its turn comes.
fn messages(traces: Vec<Trace>) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut waiting = traces.into_iter();
    // a trace, and how many of its spans went already
    let mut current: Option<(Trace, usize)> = None;
    std::iter::from_fn(move || {
        if current.as_ref().is_none_or(|(trace, n_gone)| *n_gone >= trace.spans.len()) {
            current = Some((waiting.find(|trace| !trace.spans.is_empty())?, 0));
        }
        let (trace, n_gone) = current.as_mut()?;
        let (message, n_spans) = data(trace.trace_id, trace.spans[*n_gone..].iter().map(|placed| &placed.span));
        *n_gone += n_spans;
        Some(framed(&message))
    })
}

/// Spans by their resource and scope, as many as a message may hold, but at least one; and how many those are.
fn data<'s>(trace: TraceId, spans: impl Iterator<Item = &'s SpanHit>) -> (TracesData, usize) {
    let mut numbers: HashMap<(&Attributes, &Option<String>), usize> = HashMap::new();
    let mut resource_spans: Vec<ResourceSpans> = Vec::new();
    let (mut n_spans, mut n_bytes) = (0, 0);
    for hit in spans.take(SPANS_A_MESSAGE) {
        let span = span_of(trace, hit);
        let known = numbers.get(&(&hit.resource_attributes, &hit.scope_name)).copied();
        let group = known.is_none().then(|| group_of(hit));
        // what holds a group of spans has a length too, of up to so many bytes
        n_bytes += span.encoded_len() + MEMBER_BYTES + group.as_ref().map_or(0, |group| group.encoded_len() + 3 * MEMBER_BYTES);
        if n_spans > 0 && n_bytes > BYTES_A_MESSAGE {
            break;
        }
        n_spans += 1;
        let number = known.unwrap_or(resource_spans.len());
        if let Some(group) = group {
            numbers.insert((&hit.resource_attributes, &hit.scope_name), number);
            resource_spans.push(group);
        }
        resource_spans[number].scope_spans[0].spans.push(span);
    }
    (TracesData { resource_spans }, n_spans)
}

/// The resource and the scope of a span, with no span yet.
fn group_of(hit: &SpanHit) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource {
            attributes: key_values(&hit.resource_attributes),
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: hit.scope_name.clone().map(|name| InstrumentationScope {
                name,
                ..InstrumentationScope::default()
            }),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn span_of(trace: TraceId, hit: &SpanHit) -> Span {
    let id = |text: Option<&str>| text.and_then(SpanId::from_hex).map_or(Vec::new(), |id| id.as_bytes().to_vec());
    let time = |nanos: i64| u64::try_from(nanos).unwrap_or(0);
    let kind = span::SpanKind::from_str_name(&format!("SPAN_KIND_{}", hit.kind)).unwrap_or_default();
    let code = match hit.status_code.as_str() {
        "OK" => 1,
        "ERROR" => 2,
        _ => 0,
    };
    let event = |event: &crate::query::SpanEventHit| span::Event {
        time_unix_nano: time(event.time_unix_nano),
        name: event.name.clone().unwrap_or_default(),
        attributes: key_values(&event.attributes),
        ..span::Event::default()
    };
    let link = |link: &crate::query::SpanLinkHit| span::Link {
        trace_id: link
            .trace_id
            .as_deref()
            .and_then(TraceId::from_hex)
            .map_or(Vec::new(), |id| id.as_bytes().to_vec()),
        span_id: id(link.span_id.as_deref()),
        attributes: key_values(&link.attributes),
        ..span::Link::default()
    };
    Span {
        trace_id: trace.as_bytes().to_vec(),
        span_id: id(Some(&hit.span_id)),
        trace_state: hit.trace_state.clone().unwrap_or_default(),
        parent_span_id: id(hit.parent_span_id.as_deref()),
        name: hit.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: time(hit.start_time_unix_nano),
        end_time_unix_nano: time(hit.start_time_unix_nano.saturating_add(hit.duration_nano.max(0))),
        attributes: key_values(&hit.attributes),
        events: hit.events.iter().map(event).collect(),
        links: hit.links.iter().map(link).collect(),
        status: Some(Status {
            message: hit.status_message.clone().unwrap_or_default(),
            code,
        }),
        ..Span::default()
    }
}

/// Attributes with the types that their text reads as: the store keeps text.
fn key_values(attributes: &Attributes) -> Vec<KeyValue> {
    let value = |key: &str, text: &str| match Typed::of(key, text) {
        Typed::Bool(flag) => any_value::Value::BoolValue(flag),
        Typed::Int(number) => any_value::Value::IntValue(number),
        Typed::Double(number) => any_value::Value::DoubleValue(number),
        Typed::Text => any_value::Value::StringValue(text.to_string()),
    };
    let pair = |(key, text): &(String, String)| KeyValue {
        key: key.clone(),
        value: Some(AnyValue { value: Some(value(key, text)) }),
        ..KeyValue::default()
    };
    attributes.iter().filter(|(key, _)| key != TEXT_ANNOTATIONS).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Coverage, Hit};

    #[test]
    fn spans_stand_by_resource_and_scope_with_the_types_of_their_text() {
        let attributes = |listed: &[(&str, &str)]| -> Attributes { listed.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect() };
        let hit = |id: &str, service: &str, scope: Option<&str>| SpanHit {
            span_id: id.into(),
            kind: "SERVER".into(),
            status_code: "ERROR".into(),
            start_time_unix_nano: 5,
            duration_nano: 7,
            scope_name: scope.map(str::to_string),
            resource_attributes: attributes(&[("service.name", service)]),
            attributes: attributes(&[
                ("n", "5"),
                ("share", "0.5"),
                ("vip", "true"),
                ("name", "x"),
                ("list", "[1]"),
                (TEXT_ANNOTATIONS, "[]"),
            ]),
            ..SpanHit::default()
        };
        let hits = [
            hit("00000000000000aa", "api", None),
            hit("00000000000000bb", "api", Some("lib")),
            hit("00000000000000cc", "api", None),
            hit("00000000000000dd", "db", None),
        ];
        let (told, n_spans) = data(TraceId::from_bytes(&[1; 16]).expect("an ID"), hits.iter());
        assert_eq!(n_spans, 4);
        let ids: Vec<Vec<u8>> = told
            .resource_spans
            .iter()
            .map(|one| one.scope_spans[0].spans.iter().map(|span| span.span_id[7]).collect())
            .collect();
        assert_eq!(ids, [vec![0xaa, 0xcc], vec![0xbb], vec![0xdd]]);
        let span = &told.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.kind, span.start_time_unix_nano, span.end_time_unix_nano), (2, 5, 12));
        assert_eq!((span.trace_id.as_slice(), span.parent_span_id.len()), (&[1; 16][..], 0));
        let values: Vec<_> = span.attributes.iter().filter_map(|one| one.value.as_ref()?.value.clone()).collect();
        let text = |text: &str| any_value::Value::StringValue(text.into());
        assert_eq!(
            values,
            [
                any_value::Value::IntValue(5),
                any_value::Value::DoubleValue(0.5),
                any_value::Value::BoolValue(true),
                text("x"),
                text("[1]")
            ]
        );
    }

    /// Traces of some spans each, of which each has an attribute of so many bytes.
    fn traces(n_spans: &[usize], n_bytes: usize) -> Vec<Trace> {
        let trace = |(number, n_spans): (usize, &usize)| {
            let spans = (0..*n_spans).map(|span| {
                Hit::Span(Box::new(SpanHit {
                    span_id: format!("{:016x}", span + 1),
                    attributes: vec![("long".into(), "x".repeat(n_bytes))],
                    // each of its own
                    resource_attributes: vec![("host".into(), format!("{span}{}", "y".repeat(n_bytes)))],
                    ..SpanHit::default()
                }))
            });
            let id = TraceId::from_bytes(&[number as u8 + 1; 16]).expect("an ID");
            Trace::assemble(id, spans.collect(), Vec::new(), Coverage::new(TimeRange::ALL), std::time::Duration::ZERO).expect("a trace")
        };
        n_spans.iter().enumerate().map(trace).collect()
    }

    #[test]
    fn messages_are_small_enough_for_clients_and_have_all_spans() {
        for (n_spans, n_bytes) in [(&[700, 3][..], 20_000), (&[1_201, 1], 10), (&[2, 1], 5 << 20)] {
            let told: Vec<TracesData> = messages(traces(n_spans, n_bytes))
                .map(|message| {
                    let read = TracesData::decode(&message[PREFIX_BYTES..]).expect("a message");
                    let spans = read.resource_spans.iter().map(|one| one.scope_spans[0].spans.len()).sum::<usize>();
                    assert!(spans <= SPANS_A_MESSAGE && spans > 0);
                    assert!(
                        message.len() <= BYTES_A_MESSAGE + PREFIX_BYTES || spans == 1,
                        "{spans} spans, {} bytes",
                        message.len()
                    );
                    read
                })
                .collect();
            let spans = told.iter().flat_map(|one| &one.resource_spans).flat_map(|one| &one.scope_spans[0].spans);
            let ids: std::collections::BTreeSet<_> = spans.map(|span| (span.trace_id.clone(), span.span_id.clone())).collect();
            assert_eq!(ids.len(), n_spans.iter().sum::<usize>());
        }
    }

    #[test]
    fn a_trace_counts_with_its_bytes() {
        let whole = traces(&[3], 20_000).remove(0);
        assert!((120_000..130_000).contains(&with_bytes(whole).1));
    }

    #[test]
    fn a_zero_duration_is_unset_and_no_operation_stands_for_all() {
        let seconds = |seconds: i64, nanos: i32| Some(Seconds { seconds, nanos });
        let asked = |least: Option<Seconds>, most: Option<Seconds>| {
            let parameters = TraceQueryParameters {
                service_name: "api".into(),
                operation_name: "all".into(),
                start_time_min: seconds(1, 0),
                start_time_max: seconds(2, 0),
                duration_min: least,
                duration_max: most,
                ..TraceQueryParameters::default()
            };
            parameters.read().expect("a question").0.text()
        };
        assert_eq!(asked(seconds(0, 0), seconds(0, 0)), "service:api name:all");
        assert_eq!(asked(seconds(0, 5), seconds(0, 0)), "service:api name:all duration_nano>=5");
    }

    #[test]
    fn what_is_lacking_is_told_in_whatever_letters() {
        assert_eq!(in_a_header("größer; 5 of 7").expect("a value"), "gr??er; 5 of 7");
    }

    #[tokio::test]
    async fn a_call_has_one_message_of_the_length_that_it_says() {
        let asked = GetTraceRequest { trace_id: "ab".into() };
        let call = async |bytes: Vec<u8>| read::<GetTraceRequest>(Request::new(Body::from(bytes))).await.map_err(|error| error.status);
        let whole = framed(&asked).to_vec();
        assert_eq!(call(whole.clone()).await, Ok(asked));
        assert_eq!(call(whole[..whole.len() - 1].to_vec()).await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(call(vec![0, 0]).await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(call(vec![0; MAX_REQUEST_BYTES + PREFIX_BYTES + 1]).await, Err(StatusCode::BAD_REQUEST));
        let mut compressed = whole;
        compressed[0] = 1;
        assert_eq!(call(compressed).await, Err(StatusCode::NOT_IMPLEMENTED));
    }
}
