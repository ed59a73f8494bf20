//! Graphs and series of traces that a filter lets through: of those that are read because of what it needs, as of all of the time.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::super::reread::{around_of, calls_of_spans, whole_minutes};
use super::super::table::Entity;
use super::erased::{Life, START, World};
use super::random::HOUR;
use super::*;
use crate::query::xray::expression::Id;
use crate::query::xray::{Expression, walk};

/// Of all kinds: those that need something of one span or of several, something else in each part, or nothing.
const FILTERS: [&str; 28] = [
    "",
    "ok",
    "partial",
    "fault",
    "error",
    "throttle",
    "!fault",
    "service(\"pay\")",
    "!service(\"web\")",
    "service(\"pay\") { fault }",
    "!service(\"pay\") { fault }",
    "service(\"nobody\")",
    "edge(\"web\", \"pay\")",
    "!edge(\"web\", \"pay\")",
    "edge(, \"web\")",
    "edge(id(type: \"client\"), \"web\") AND !fault",
    "user = \"alice\"",
    "user != \"alice\"",
    "user = \"nobody\"",
    "user BEGINSWITH \"b\"",
    "!(user = \"alice\" OR fault)",
    "user = \"alice\" AND !error",
    "user = \"alice\" OR duration > 2",
    "http.status = 503",
    "http.status >= 500 AND service(\"stock\")",
    "responsetime > 2",
    "annotation.tenant = \"a\"",
    "!annotation.tenant = \"a\" AND http.status != 200",
];

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// A span of a service, in OpenTelemetry's JSON.
fn sent(trace: u64, (number, parent): (u64, u64), service: &str, kind: u64, (start, took): (i64, i64), attributes: &[Value]) -> Value {
    let mut record = json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{number:016x}"), "name": format!("op-{service}"), "kind": kind,
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + took).to_string(), "attributes": attributes,
    });
    if parent > 0 {
        record["parentSpanId"] = format!("{parent:016x}").into();
    }
    json!({"resource": {"attributes": [text("service.name", service)]}, "scopeSpans": [{"spans": [record]}]})
}

/// Spans of a trace of some hour before [`START`], some of them hours later than the others.
fn random_spans(rng: &mut StdRng, trace: u64) -> Vec<Value> {
    let base = START - rng.random_range(1..7) * HOUR;
    let mut all = Vec::new();
    for number in 1..=rng.random_range(1..6u64) {
        let parent = if rng.random_bool(0.8) { rng.random_range(1..6) } else { 0 };
        let minutes = if rng.random_bool(0.2) { 240 } else { 70 };
        let start = base + rng.random_range(0..minutes * 60) * SECOND;
        let service = ["web", "pay", "stock"].choose(rng).expect("some");
        let mut attributes = Vec::new();
        if rng.random_bool(0.4) {
            let status = ["200", "404", "429", "503"].choose(rng).expect("some");
            attributes.push(json!({"key": "http.response.status_code", "value": {"intValue": status}}));
        }
        if rng.random_bool(0.2) {
            attributes.push(text("enduser.id", ["alice", "bob"].choose(rng).expect("some")));
        }
        if rng.random_bool(0.3) {
            attributes.push(text("tenant", ["a", "b"].choose(rng).expect("some")));
            attributes.push(json!({"key": "aws.xray.annotations", "value": {"arrayValue": {"values": [{"stringValue": "tenant"}]}}}));
        }
        let took = rng.random_range(0..4 * SECOND);
        all.push(sent(trace, (number, parent), service, rng.random_range(1..6), (start, took), &attributes));
    }
    all
}

fn parsed(text: &str) -> Expression {
    Expression::parse(text).expect("an expression")
}

fn id(name: &str) -> Id {
    Id {
        name: Some(name.into()),
        ..Id::default()
    }
}

/// Which traces are read.
async fn n_read(life: &Life, filter: &Expression, range: TimeRange) -> usize {
    let range = whole_minutes(range);
    let found = walk::traces_that_may_pass(&life.engine, filter, range, around_of(range), 1_000).await;
    found.expect("traces").ids.len()
}

async fn check(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new();
    let life = world.live().await;
    let spans: Vec<Value> = (1..=rng.random_range(4..16)).flat_map(|trace| random_spans(&mut rng, trace)).collect();
    let flushed = rng.random_range(0..=spans.len());
    for (number, some) in [&spans[..flushed], &spans[flushed..]].into_iter().enumerate() {
        if !some.is_empty() {
            life.send_json(&json!({ "resourceSpans": some })).await;
        }
        // the second part stays in memory
        if number == 0 {
            life.ingest.flush().await;
        }
    }
    let graphs = Graphs::new(life.engine.clone(), None);
    for _ in 0..2 {
        let start = START - rng.random_range(0..8 * 60) * 60 * SECOND;
        let range = TimeRange::new(start, start + rng.random_range(1..150) * 60 * SECOND);
        let n_all = n_read(&life, &Expression::All, range).await;
        for text in FILTERS {
            let filter = parsed(text);
            let of_all = calls_of_spans(&life.engine, range, &Expression::All, &filter).await.expect("calls");
            let of_some = calls_of_spans(&life.engine, range, &filter, &filter).await.expect("calls");
            assert!(of_all.coverage.complete && of_some.coverage.complete, "{text}");
            assert_eq!(of_some.found, of_all.found, "{text} from {} of seed {seed}", START - start);
            assert!(of_some.found.rows().all(|(key, _)| of_some.range.contains(key.minute_nanos)), "{text}");
            assert!(n_read(&life, &filter, range).await <= n_all, "{text}");
            let entity = [Entity::Entries, Entity::Service(id("pay")), Entity::Edge(id("web"), id("stock"))];
            let entity = entity.choose(&mut rng).expect("some");
            let series = graphs.series(range, MINUTE_NANOS, entity, &filter).await.expect("a series");
            let expected = entity.series_of(&of_all.found, MINUTE_NANOS);
            assert_eq!(series.found, expected, "{text} of {entity:?} of seed {seed}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn a_graph_of_those_that_are_needed_is_that_of_all(seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(seed));
    }
}

#[tokio::test]
async fn of_a_group_of_few_traces_few_are_read_and_only_those_of_the_time() {
    let world = World::new();
    let life = world.live().await;
    let user = [text("enduser.id", "alice")];
    let mut spans = Vec::new();
    for hour in 1..=4 {
        for number in 0..20 {
            let start = START - hour * HOUR + number * SECOND;
            let trace = (hour * 100 + number) as u64;
            let attributes = if number == 7 { &user[..] } else { &[] };
            spans.push(sent(trace, (1, 0), "web", 2, (start, SECOND), attributes));
        }
    }
    // one that begins in the third hour, and says whose it is in the second
    let start = START - 3 * HOUR + 50 * 60 * SECOND;
    spans.push(sent(900, (1, 0), "late", 2, (start, SECOND), &[]));
    spans.push(sent(900, (2, 1), "late", 2, (start + 15 * 60 * SECOND, SECOND), &user));
    life.send_json(&json!({ "resourceSpans": spans })).await;
    let filter = parsed("user = \"alice\"");
    for flushed in [false, true] {
        if flushed {
            life.ingest.flush().await;
        }
        let of_hour = |hour: i64| TimeRange::new(START - hour * HOUR, START - (hour - 1) * HOUR);
        for (hour, expected) in [(4, 1), (3, 2), (2, 2), (1, 1)] {
            assert_eq!(n_read(&life, &filter, of_hour(hour)).await, expected, "hour {hour}, flushed: {flushed}");
            let told = calls_of_spans(&life.engine, of_hour(hour), &filter, &filter).await.expect("calls");
            assert_eq!((told.range, told.coverage.complete), (of_hour(hour), true));
            let requests: i64 = told.found.rows().map(|(_, figures)| figures.requests).sum();
            assert_eq!(requests, expected as i64, "hour {hour}, flushed: {flushed}");
        }
        let everything = n_read(&life, &parsed("!fault"), of_hour(3)).await;
        assert_eq!(everything, 21, "nothing is needed");
    }
}
