//! What clients are told, over the routers.

use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tower::ServiceExt;

use super::super::testing::{Memory, ample};
use super::*;
use crate::decode::MAX_RECORDS;
use crate::model::ManualClock;
use crate::net::Encoding;

fn receiver(config: Config) -> (Arc<Receiver>, Arc<Memory>) {
    receiver_within(config, ample())
}

fn receiver_within(config: Config, budget: Arc<Budget>) -> (Arc<Receiver>, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000_000));
    (Receiver::new(config, memory.clone(), clock, budget), memory)
}

fn one_log() -> Vec<u8> {
    let record = LogRecord {
        time_unix_nano: 1,
        ..Default::default()
    };
    let scope_logs = vec![ScopeLogs {
        log_records: vec![record],
        ..Default::default()
    }];
    logs::v1::ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs,
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

fn one_bad_span() -> Vec<u8> {
    let scope_spans = vec![ScopeSpans {
        spans: vec![Span::default()],
        ..Default::default()
    }];
    trace::v1::ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans,
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

async fn post(receiver: &Arc<Receiver>, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let router = http_router(receiver.clone()).merge(grpc_router(receiver.clone()));
    router
        .oneshot(request.body(axum::body::Body::from(body)).expect("a request"))
        .await
        .expect("routers do not fail")
}

async fn body_of(answer: Response) -> Bytes {
    http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body").to_bytes()
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[tokio::test]
async fn a_good_request_is_handed_over_as_it_came() {
    let (receiver, memory) = receiver(Config::default());
    let answer = post(&receiver, "/v1/logs", &[PROTOBUF, ("content-encoding", "gzip")], gzip(&one_log())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(body_of(answer).await.len(), 0, "partial_success is unset when everything was taken");
    {
        let accepted = memory.accepted.lock();
        assert_eq!(
            (accepted[0].0.encoding, accepted[0].0.body.as_ref()),
            (Encoding::Gzip, gzip(&one_log()).as_slice())
        );
    }
    let answer = post(&receiver, LOGS, &[GRPC, ("grpc-encoding", "gzip")], framed(1, &gzip(&one_log()))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let collected = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body");
    assert_eq!(collected.trailers().and_then(|t| t.get("grpc-status")).map(|v| v.as_bytes()), Some(&b"0"[..]));
    assert_eq!(memory.n_rows(), 2);
}

#[tokio::test]
async fn a_partial_success_says_how_many_and_why() {
    let (receiver, _memory) = receiver(Config::default());
    let answer = body_of(post(&receiver, "/v1/traces", &[PROTOBUF], one_bad_span()).await).await;
    let partial = trace::v1::ExportTraceServiceResponse::decode(answer)
        .expect("protobuf")
        .partial_success
        .expect("one span was rejected");
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("trace_id"), "{}", partial.error_message);
}

#[tokio::test]
async fn bad_input_is_told_in_the_requests_own_form_and_counted() {
    let small = Config {
        max_body_bytes: 1_000,
        max_inflated_bytes: 2_000,
    };
    let (receiver, memory) = receiver(small);
    let json = ("content-type", "application/json");
    let gzipped = ("content-encoding", "gzip");
    for (headers, body, expected) in [
        (vec![PROTOBUF], one_log()[..3].to_vec(), 400),
        (vec![PROTOBUF, gzipped], b"no gzip".to_vec(), 400),
        (vec![PROTOBUF, gzipped], gzip(&vec![0; 1 << 20]), 413),
        (vec![PROTOBUF], vec![0; 1_001], 413),
        (vec![PROTOBUF, ("content-encoding", "br")], one_log(), 415),
        (vec![("content-type", "text/plain")], one_log(), 415),
        (vec![json], b"{\"resourceLogs\": 7}".to_vec(), 400),
        (vec![json], b"{".to_vec(), 400),
    ] {
        let answer = post(&receiver, "/v1/logs", &headers, body).await;
        assert_eq!(answer.status().as_u16(), expected, "{headers:?}");
        let is_protobuf = headers[0] == PROTOBUF;
        let body = body_of(answer).await;
        if is_protobuf {
            assert!(!tonic_types::Status::decode(body).expect("a status").message.is_empty());
        } else {
            let status: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert!(!status["message"].as_str().expect("a message").is_empty());
        }
    }
    assert_eq!(memory.outcomes().rejected, 8);
    assert_eq!(
        post(&receiver, "/v1/logs", &[PROTOBUF], one_log()).await.status(),
        200,
        "the next good request works"
    );
}

#[tokio::test]
async fn grpc_tells_bad_input_by_status() {
    let small = Config {
        max_body_bytes: 1_000,
        max_inflated_bytes: 2_000,
    };
    let (receiver, _memory) = receiver(small);
    let bomb = framed(1, &gzip(&vec![0; 1 << 20]));
    for (path, headers, body, code) in [
        (LOGS, vec![GRPC], framed(0, &one_log()[..3]), Code::InvalidArgument),
        (LOGS, vec![GRPC], b"abc".to_vec(), Code::InvalidArgument),
        (LOGS, vec![GRPC], framed(1, &one_log()), Code::Internal),
        (LOGS, vec![GRPC, ("grpc-encoding", "snappy")], framed(1, &one_log()), Code::Unimplemented),
        (LOGS, vec![GRPC, ("grpc-encoding", "gzip")], bomb, Code::ResourceExhausted),
        (LOGS, vec![GRPC], framed(0, &vec![0; 2_000]), Code::ResourceExhausted),
        ("/no.such.Service/Call", vec![GRPC], framed(0, b""), Code::Unimplemented),
    ] {
        let answer = post(&receiver, path, &headers, body).await;
        assert_eq!(
            answer
                .headers()
                .get("grpc-status")
                .map(|v| v.to_str().expect("digits").parse().expect("a number")),
            Some(code as i32),
            "{path} {headers:?}"
        );
    }
}

#[tokio::test]
async fn overload_asks_for_a_retry() {
    let (receiver, memory) = receiver(Config::default());
    memory.refuse(2);
    let answer = post(&receiver, "/v1/logs", &[PROTOBUF], one_log()).await;
    assert_eq!(
        (answer.status(), answer.headers().contains_key("retry-after")),
        (StatusCode::SERVICE_UNAVAILABLE, true)
    );
    let answer = post(&receiver, LOGS, &[GRPC], framed(0, &one_log())).await;
    assert_eq!(answer.headers().get("grpc-status").map(|v| v.as_bytes()), Some(&b"14"[..]));
    assert!(answer.headers().contains_key("grpc-status-details-bin"), "RetryInfo tells the client to retry");
    assert_eq!(memory.n_rows(), 0);
    assert_eq!(post(&receiver, "/v1/logs", &[PROTOBUF], one_log()).await.status(), 200);
}

use tonic::Code;

#[tokio::test]
async fn a_small_body_that_asks_for_much_memory_is_too_large() {
    let (receiver, memory) = receiver(Config::default());
    // two bytes a span: 8 million of them are little gzip
    let spans = prost_field(1, &prost_field(2, &[0x12, 0].repeat(8 << 20)));
    let body = gzip(&spans);
    assert!(body.len() * 20 < spans.len());
    let gzipped = ("content-encoding", "gzip");
    let answer = post(&receiver, "/v1/traces", &[PROTOBUF, gzipped], body.clone()).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let said = tonic_types::Status::decode(body_of(answer).await).expect("a status").message;
    assert!(said.contains(&MAX_RECORDS.to_string()), "{said}");
    let answer = post(&receiver, TRACES, &[GRPC, ("grpc-encoding", "gzip")], framed(1, &body)).await;
    assert_eq!(answer.headers().get("grpc-status").map(|v| v.as_bytes()), Some(&b"8"[..]));
    assert!(!answer.headers().contains_key("grpc-status-details-bin"), "no RetryInfo: it would come again");
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, vec!["{}"; 2 << 20].join(","));
    let answer = post(&receiver, "/v1/logs", &[("content-type", "application/json"), gzipped], gzip(json.as_bytes())).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let reasons: Vec<_> = memory.ledger().sums().into_iter().map(|(_, signal, sums)| (signal, sums.reasons)).collect();
    let too_large = |n: u64| std::collections::BTreeMap::from([("too_large".to_string(), n)]);
    assert_eq!(reasons, [("logs".to_string(), too_large(1)), ("traces".to_string(), too_large(2))]);
}

fn prost_field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut out);
    out
}

#[tokio::test]
async fn requests_in_flight_share_one_budget() {
    let budget = Budget::new(4 << 20);
    let (receiver, memory) = receiver_within(Config::default(), budget.clone());
    // another request that is still being read or decoded
    let mut other = budget.share();
    other.hold(4 << 20).expect("free");
    let answer = post(&receiver, "/v1/logs", &[PROTOBUF], one_log()).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    let answer = post(&receiver, LOGS, &[GRPC], framed(0, &one_log())).await;
    assert_eq!(answer.headers().get("grpc-status").map(|v| v.as_bytes()), Some(&b"14"[..]));
    assert!(answer.headers().contains_key("grpc-status-details-bin"), "RetryInfo tells the client to retry");
    assert_eq!((memory.outcomes().refused, memory.outcomes().rejected), (2, 0));

    // room for a compressed body is not yet room for what is in it, and room for that not yet for what it becomes
    let gzipped = [PROTOBUF, ("content-encoding", "gzip")];
    let spans = prost_field(1, &prost_field(2, &[0x12, 0].repeat(1 << 17)));
    let body = gzip(&spans);
    for free in [body.len() + 1_000, spans.len() * 3] {
        other.hold((4 << 20) - free).expect("less");
        let answer = post(&receiver, "/v1/traces", &gzipped, body.clone()).await;
        // what needs more than all there is will never fit
        assert!(matches!(answer.status().as_u16(), 413 | 503), "{free}: {}", answer.status());
    }
    drop(other);
    assert_eq!(post(&receiver, "/v1/logs", &[PROTOBUF], one_log()).await.status(), 200);
    assert_eq!(post(&receiver, "/v1/traces", &gzipped, body).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(budget.held_bytes(), 0, "every request gave back what it held");
}

#[tokio::test]
async fn a_plain_request_between_16_and_64_mib_is_taken_by_default() {
    let defaults = super::super::Config::default();
    let (receiver, memory) = receiver_within(Config::default(), defaults.budget());
    let mut one = vec![];
    prost::encoding::string::encode(1, &"x".repeat(4_000), &mut one);
    let record = prost_field(2, &prost_field(5, &one));
    let request = prost_field(1, &prost_field(2, &record.repeat((60 << 20) / record.len())));
    assert!(request.len() > 59 << 20);
    let answer = post(&receiver, LOGS, &[GRPC], framed(0, &request)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("grpc-status"), "the status of a success comes last");
    assert!(memory.n_rows() > 10_000);
}
