//! Traces made by hand: what they say of calls.

mod alone;
mod erased;
mod group;
mod many;
mod nodes;
mod random;

use std::time::Duration;

use super::*;
use crate::model::{TimeRange, TraceId};
use crate::query::xray::TraceFacts;
use crate::query::{Coverage, Hit, SpanHit, Trace};

pub(super) const SECOND: i64 = 1_000_000_000;

/// A span of a service; `number` is its ID.
pub(super) fn span(number: u64, parent: Option<u64>, service: &str, kind: &str, start: i64, duration: i64) -> SpanHit {
    SpanHit {
        ingest_id: number as i64,
        span_id: format!("{number:016x}"),
        parent_span_id: parent.map(|parent| format!("{parent:016x}")),
        trace_id: "0".repeat(31) + "1",
        name: format!("op-{service}"),
        kind: kind.into(),
        status_code: "UNSET".into(),
        start_time_unix_nano: start,
        duration_nano: duration,
        resource_attributes: vec![("service.name".into(), service.into())],
        ..SpanHit::default()
    }
}

fn with(mut span: SpanHit, attributes: &[(&str, &str)]) -> SpanHit {
    span.attributes = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    span
}

pub(super) fn assemble(spans: Vec<SpanHit>) -> Trace {
    let id = TraceId::from_hex(&("0".repeat(31) + "1")).expect("an ID");
    let spans = spans.into_iter().map(|span| Hit::Span(Box::new(span))).collect();
    Trace::assemble(id, spans, Vec::new(), Coverage::new(TimeRange::ALL), Duration::ZERO).expect("a trace")
}

fn calls(spans: Vec<SpanHit>) -> Calls {
    Calls::of(&TraceFacts::of(&assemble(spans)))
}

/// `client/type>server/type operation: requests e f t | caller's e f t, waited, took`.
fn outline(calls: &Calls) -> Vec<String> {
    let line = |(key, f): (&CallKey, &Figures)| {
        let client = key.client.as_ref().map_or("-".to_string(), |client| format!("{}/{}", client.name, client.kind));
        let server = format!("{}/{}", key.server.name, key.server.kind);
        let (callee, caller) = ([f.errors, f.faults, f.throttles], [f.caller_errors, f.caller_faults, f.caller_throttles]);
        format!(
            "{client}>{server} {}: {} {callee:?} {caller:?} {} {}",
            key.operation,
            f.requests,
            f.caller_nanos / SECOND,
            f.callee_nanos / SECOND
        )
    };
    calls.rows().map(line).collect()
}

#[test]
fn each_segment_is_a_request_as_both_sides_saw_it() {
    let told = calls(vec![
        span(1, None, "web", "SERVER", 0, 10 * SECOND),
        with(span(2, Some(1), "web", "CLIENT", SECOND, 8 * SECOND), &[("http.response.status_code", "429")]),
        with(
            span(3, Some(2), "pay", "SERVER", 2 * SECOND, 5 * SECOND),
            &[("http.response.status_code", "500")],
        ),
        with(
            span(4, Some(3), "pay", "CLIENT", 3 * SECOND, SECOND),
            &[("db.system", "postgresql"), ("db.name", "ledger")],
        ),
    ]);
    assert_eq!(
        outline(&told),
        [
            "pay/>ledger/Database::postgresql op-pay: 1 [0, 0, 0] [0, 0, 0] 1 0",
            "web/>pay/ op-pay: 1 [0, 1, 0] [1, 0, 1] 8 5",
            "web/client>web/ op-web: 1 [0, 0, 0] [0, 0, 0] 0 10",
        ]
    );
}

#[test]
fn queues_and_aws_services_are_known_by_whatever_name_a_client_sends() {
    let called = |attributes: &[(&str, &str)]| {
        let told = calls(vec![
            span(1, None, "web", "SERVER", 0, SECOND),
            with(span(2, Some(1), "web", "PRODUCER", 0, SECOND), attributes),
        ]);
        let graph = ServiceGraph::of(&told);
        let node = graph.nodes.iter().find(|node| node.service.name != "web").expect("who is called");
        format!("{} {} {}", node.service.name, node.service.kind, node.kind())
    };
    assert_eq!(
        called(&[("messaging.system", "kafka"), ("messaging.destination.name", "orders")]),
        "orders Queue::kafka queue"
    );
    assert_eq!(
        called(&[("messaging.system", "aws_sqs"), ("messaging.destination.name", "orders")]),
        "orders AWS::SQS::Queue queue"
    );
    assert_eq!(called(&[("aws.service", "sns")]), "sns AWS::SNS queue");
    assert_eq!(
        called(&[("rpc.system", "aws-api"), ("rpc.service", "BedrockRuntime")]),
        "BedrockRuntime AWS::BedrockRuntime aws"
    );
}

#[test]
fn a_call_within_a_call_calls_no_other_service_if_one_answers() {
    // a library's client span around that of its HTTP client, and work in between
    let told = calls(vec![
        span(1, None, "web", "SERVER", 0, 10 * SECOND),
        span(2, Some(1), "web", "CLIENT", SECOND, 8 * SECOND),
        span(3, Some(2), "web", "INTERNAL", SECOND, 8 * SECOND),
        with(span(4, Some(3), "web", "CLIENT", SECOND, 7 * SECOND), &[("server.address", "pay.local")]),
        span(5, Some(4), "pay", "SERVER", 2 * SECOND, 5 * SECOND),
    ]);
    assert_eq!(
        outline(&told),
        [
            "web/>pay/ op-pay: 1 [0, 0, 0] [0, 0, 0] 7 5",
            "web/client>web/ op-web: 1 [0, 0, 0] [0, 0, 0] 0 10",
        ]
    );
}

#[test]
fn work_that_nobody_asked_for_has_no_client_and_what_is_in_progress_no_time() {
    let mut job = span(1, None, "cron", "INTERNAL", 61 * SECOND, 0);
    job.in_progress = true;
    let told = calls(vec![job]);
    assert_eq!(outline(&told), ["->cron/ op-cron: 1 [0, 0, 0] [0, 0, 0] 0 0"]);
    let (key, _) = told.rows().next().expect("a row");
    assert_eq!((key.minute_nanos, key.callee_class, key.caller_class), (60 * SECOND, None, None));
    assert!(ServiceGraph::of(&told).nodes[0].statistics.latency.is_empty());
}

#[test]
fn a_subsegment_of_xray_is_named_by_its_operation() {
    let told = calls(vec![
        with(
            span(1, None, "api", "SERVER", 0, SECOND),
            &[("aws.xray.type", "segment"), ("http.request.method", "POST")],
        ),
        with(
            span(2, Some(1), "api", "CLIENT", 0, SECOND),
            &[
                ("aws.xray.type", "subsegment"),
                ("aws.service", "DynamoDB"),
                ("aws.table_name", "orders"),
                ("aws.operation", "PutItem"),
            ],
        ),
    ]);
    let operations: Vec<_> = told.rows().map(|(key, _)| (key.server.name.as_str(), key.operation.as_str())).collect();
    assert_eq!(operations, [("orders", "PutItem"), ("api", "POST")]);
}

#[test]
fn odd_traces_are_counted_without_harm() {
    // circles, doubles, missing parents, 500 levels, hostile times
    let mut spans: Vec<SpanHit> = (1..=500).map(|i| span(i, (i > 1).then(|| i - 1), "deep", "SERVER", i as i64, 1)).collect();
    spans.push(span(1_000, Some(1_001), "ring", "SERVER", i64::MAX, i64::MAX));
    spans.push(span(1_001, Some(1_000), "ring", "CLIENT", i64::MIN, i64::MIN));
    spans.push(span(2_000, Some(9_999), "lost", "SERVER", 0, 1));
    spans.push(span(2_000, Some(9_999), "lost", "SERVER", 0, 2));
    let told = calls(spans);
    let requests: i64 = told.rows().map(|(_, figures)| figures.requests).sum();
    assert_eq!(requests, 500 + 2 + 1);
    ServiceGraph::of(&told).to_json(60.0);
}

#[test]
fn calls_are_taken_back_without_remainder_and_read_back_as_written() {
    let before = calls(vec![span(1, None, "a", "SERVER", 0, SECOND)]);
    let after = calls(vec![span(1, None, "a", "SERVER", 0, SECOND), span(2, Some(1), "a", "CLIENT", 0, SECOND)]);
    let mut sum = before.clone();
    sum.add(&after.since(&before));
    assert_eq!(sum, after);
    assert!(after.since(&after).is_empty());
    sum.add(&Calls::default().since(&after));
    assert!(sum.is_empty());
    for one in [&before, &after, &after.since(&before), &Calls::default()] {
        assert_eq!(Calls::from_json(&one.to_json()).as_ref(), Some(one));
    }
    for bad in ["", "{}", "[[1]]", "[[0,null,[\"a\",\"\",\"\"],\"op\",null,null,[1]]]"] {
        assert_eq!(Calls::from_json(bad), None, "{bad}");
    }
}
