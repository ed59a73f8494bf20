//! Small bodies that ask for much memory are refused before anything is made of them.

use super::*;
use crate::decode::{MAX_PARTS, MAX_RECORDS, decode, weigh};

/// `content` as field `number`.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 10);
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// `content` within the fields, the outermost first.
fn within(numbers: &[u32], content: Vec<u8>) -> Vec<u8> {
    numbers.iter().rev().fold(content, |content, number| field(*number, &content))
}

/// So many empty messages as field `number`.
fn empty(number: u32, n: usize) -> Vec<u8> {
    field(number, b"").repeat(n)
}

#[track_caller]
fn is_refused(kind: Kind, body: &[u8], max: usize) {
    let error = decode(kind, body, &CONTEXT).expect_err("a bomb");
    assert!(matches!(error, Error::TooMany { max: found, .. } if found == max), "{kind:?}: {error}");
    assert_eq!(error.reason(), Reason::TooLarge);
    assert!(error.to_string().contains(&max.to_string()), "{error}");
}

#[test]
fn too_many_records_are_refused() {
    let n = MAX_RECORDS + 1;
    is_refused(Kind::OtlpLogs, &within(&[1, 2], empty(2, n)), MAX_RECORDS);
    is_refused(Kind::OtlpTraces, &within(&[1, 2], empty(2, n)), MAX_RECORDS);
    for data in [5, 11] {
        is_refused(Kind::OtlpMetrics, &within(&[1, 2, 2, data], empty(1, n)), MAX_RECORDS);
    }
    // spread over many scopes, they are as many
    is_refused(Kind::OtlpTraces, &field(1, &field(2, &empty(2, 8)).repeat(n.div_ceil(8))), MAX_RECORDS);
}

#[test]
fn too_many_parts_are_refused_wherever_they_are() {
    let n = MAX_PARTS;
    for (kind, path, number) in [
        (Kind::OtlpLogs, &[1][..], 2),
        (Kind::OtlpLogs, &[1, 2, 2], 6),
        (Kind::OtlpTraces, &[1, 2, 2], 9),
        (Kind::OtlpTraces, &[1, 2, 2, 9, 2, 5], 1),
        (Kind::OtlpTraces, &[1, 1, 3], 3),
        (Kind::OtlpMetrics, &[1, 2, 2, 5, 1], 5),
    ] {
        is_refused(kind, &within(path, empty(number, n + 1)), MAX_PARTS);
    }
}

#[test]
fn json_bombs_are_refused() {
    let list = |n: usize| vec!["{}"; n].join(",");
    let records = list(MAX_RECORDS + 1);
    let logs = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#);
    is_refused(Kind::OtlpLogsJson, logs.as_bytes(), MAX_RECORDS);
    let traces = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{records}]}}]}}]}}"#);
    is_refused(Kind::OtlpTracesJson, traces.as_bytes(), MAX_RECORDS);
    let metrics = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"sum":{{"dataPoints":[{records}]}}}}]}}]}}]}}"#);
    is_refused(Kind::OtlpMetricsJson, metrics.as_bytes(), MAX_RECORDS);
    let parts = list(MAX_PARTS + 1);
    let attributes = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"attributes":[{parts}]}}]}}]}}]}}"#);
    is_refused(Kind::OtlpLogsJson, attributes.as_bytes(), MAX_PARTS);
    let resources = format!(r#"{{"resourceSpans":[{parts}]}}"#);
    is_refused(Kind::OtlpTracesJson, resources.as_bytes(), MAX_PARTS);
}

#[test]
fn a_large_resource_is_not_copied_for_each_of_many_scopes() {
    let resource = field(1, &field(1, &field(1, &vec![b'k'; 1 << 20])));
    let scope = field(2, &empty(2, 1));
    let body = field(1, &[resource, scope.repeat(1_000)].concat());
    for kind in [Kind::OtlpLogs, Kind::OtlpTraces] {
        assert!(weigh(kind, &body).expect("few parts").memory_bytes() > 1_000 << 20, "{kind:?}");
    }
    // should the copies be made all the same, as from JSON, they end here
    let large = "k".repeat(MAX_CONTEXT_BYTES / 4);
    let context = ContextBuilder::new().attribute("k", model::Value::Str(&large)).build();
    let mut memory = ContextMemory::default();
    let fits = (0..10).take_while(|_| memory.add(&context).is_ok()).count();
    assert_eq!(fits, 3);
}

#[test]
fn what_is_within_the_limits_is_taken_and_weighed_in_proportion() {
    let request = spans_request((0..5_000).map(|_| full_span()).collect());
    let body = request.encode_to_vec();
    let weight = weigh(Kind::OtlpTraces, &body).expect("light").memory_bytes();
    let structs = 5_000 * size_of::<Span>();
    assert!(weight > structs + body.len() && weight < 20 * body.len(), "{weight} for {} bytes", body.len());
    assert_eq!(decode(Kind::OtlpTraces, &body, &CONTEXT).expect("good").batch.n_rows(), 5_000);

    let request = logs_request((0..5_000).map(|_| full_record()).collect());
    let body = request.encode_to_vec();
    let weight = weigh(Kind::OtlpLogs, &body).expect("light").memory_bytes();
    assert!(weight > body.len() && weight < 6 * body.len(), "{weight} for {} bytes", body.len());
    let json = to_json(&request).to_string();
    let weight = weigh(Kind::OtlpLogsJson, json.as_bytes()).expect("light").memory_bytes();
    assert!(weight > 3 * json.len() && weight < 20 * json.len(), "{weight} for {} bytes", json.len());
    assert_eq!(decode(Kind::OtlpLogsJson, json.as_bytes(), &CONTEXT).expect("good").batch.n_rows(), 5_000);
}
