//! A trace as Jaeger's JSON, written span by span: as a tree in memory it would be many times its text.
//!
//! | here | there |
//! |---|---|
//! | resource | a process, `p1`, `p2`, …: `serviceName` and the other attributes as tags |
//! | parent | reference `CHILD_OF` |
//! | links | references `FOLLOWS_FROM` |
//! | attributes | tags, with the type that their text reads as; whole numbers beyond 2^53 are text of type `int64`, as Jaeger has them |
//! | kind, status, scope, trace state | tags `span.kind`, `otel.status_code`, `otel.status_description`, `error`, `otel.scope.name`, `w3c.tracestate` |
//! | events | logs; the event's name is the field `event` |
//! | a missing parent, a circle of parents, a clock that differs, a part in progress, a trace that is cut | warnings |

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::decode::TEXT_ANNOTATIONS;
use crate::model::{MAX_SAFE, Typed};
use crate::query::{Attributes, SpanHit, Trace, TraceSpan};

/// `SERVER` as Jaeger writes it.
pub(super) fn span_kind(kind: &str) -> String {
    kind.to_lowercase()
}

/// One trace, as text.
pub(super) fn trace(trace: &Trace) -> String {
    let mut processes: Map<String, Value> = Map::new();
    let mut numbers: HashMap<&Attributes, String> = HashMap::new();
    let mut out = format!("{{\"traceID\":{},\"spans\":[", json!(trace.trace_id.to_string()));
    for (at, placed) in trace.spans.iter().enumerate() {
        let resource = &placed.span.resource_attributes;
        let next = numbers.len() + 1;
        let process_id = numbers.entry(resource).or_insert_with(|| {
            let id = format!("p{next}");
            processes.insert(id.clone(), process(resource));
            id
        });
        if at > 0 {
            out.push(',');
        }
        out.push_str(&span(trace, placed, process_id).to_string());
    }
    let warnings: Vec<&str> = trace.coverage.problems.iter().map(|problem| problem.message.as_str()).collect();
    let warnings = if warnings.is_empty() { Value::Null } else { json!(warnings) };
    out.push_str(&format!("],\"processes\":{},\"warnings\":{warnings}}}", Value::Object(processes)));
    out
}

fn process(resource: &Attributes) -> Value {
    let service = resource.iter().find(|(key, _)| key == "service.name").map(|(_, value)| value.as_str());
    let tags: Vec<Value> = resource
        .iter()
        .filter(|(key, _)| key != "service.name")
        .map(|(key, value)| tag(key, value))
        .collect();
    json!({ "serviceName": service.unwrap_or("unknown_service"), "tags": tags })
}

/// A value with the type its text reads as: the store keeps text.
fn tag(key: &str, text: &str) -> Value {
    let (kind, value) = match Typed::of(key, text) {
        Typed::Bool(flag) => ("bool", Value::Bool(flag)),
        // JavaScript rounds longer ones: Jaeger writes them as text of that type
        Typed::Int(number) if number.unsigned_abs() > MAX_SAFE => ("int64", text.into()),
        Typed::Int(number) => ("int64", number.into()),
        Typed::Double(number) => ("float64", number.into()),
        Typed::Text => ("string", text.into()),
    };
    json!({ "key": key, "type": kind, "value": value })
}

fn text_tag(key: &str, text: &str) -> Value {
    json!({ "key": key, "type": "string", "value": text })
}

fn micros(nanos: i64) -> i64 {
    nanos.div_euclid(1_000)
}

fn span(trace: &Trace, placed: &TraceSpan, process_id: &str) -> Value {
    let span = &placed.span;
    let mut warnings = Vec::new();
    if placed.missing_parent {
        warnings.push(format!("its parent {} is not here", span.parent_span_id.as_deref().unwrap_or_default()));
    }
    if placed.in_circle && placed.parent.is_none() {
        warnings.push(format!(
            "its parent {} is below it: their parents go in a circle",
            span.parent_span_id.as_deref().unwrap_or_default()
        ));
    }
    if placed.skewed {
        warnings.push("its times contradict its parent's: their clocks differ".into());
    }
    if span.in_progress {
        warnings.push("it is in progress".into());
    }
    let logs = span.events.iter().map(|event| {
        let name = event.name.as_deref().filter(|name| !name.is_empty()).map(|name| text_tag("event", name));
        let fields: Vec<Value> = name.into_iter().chain(event.attributes.iter().map(|(key, value)| tag(key, value))).collect();
        json!({ "timestamp": micros(event.time_unix_nano), "fields": fields })
    });
    json!({
        "traceID": trace.trace_id.to_string(),
        "spanID": span.span_id,
        "flags": 1,
        "operationName": span.name,
        "references": references(trace, span),
        "startTime": micros(span.start_time_unix_nano),
        "duration": micros(span.duration_nano),
        "tags": tags(span),
        "logs": logs.collect::<Vec<_>>(),
        "processID": process_id,
        "warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) },
    })
}

fn references(trace: &Trace, span: &SpanHit) -> Vec<Value> {
    let reference = |kind: &str, trace_id: &str, span_id: &str| json!({ "refType": kind, "traceID": trace_id, "spanID": span_id });
    let own_id = trace.trace_id.to_string();
    let parent = span.parent_span_id.as_deref().map(|parent| reference("CHILD_OF", &own_id, parent));
    let links = span.links.iter().filter_map(|link| {
        let trace_id = link.trace_id.as_deref().unwrap_or(&own_id);
        Some(reference("FOLLOWS_FROM", trace_id, link.span_id.as_deref()?))
    });
    parent.into_iter().chain(links).collect()
}

fn tags(span: &SpanHit) -> Vec<Value> {
    // what the store notes beside annotations is no attribute that was sent
    let sent = span.attributes.iter().filter(|(key, _)| key != TEXT_ANNOTATIONS);
    let mut tags: Vec<Value> = sent.map(|(key, value)| tag(key, value)).collect();
    let has = |key: &str| span.attributes.iter().any(|(own, _)| own == key);
    let kind = span_kind(&span.kind);
    if !kind.is_empty() && kind != "unspecified" {
        tags.push(text_tag("span.kind", &kind));
    }
    if span.status_code != "UNSET" && !span.status_code.is_empty() {
        tags.push(text_tag("otel.status_code", &span.status_code));
    }
    if span.status_code == "ERROR" && !has("error") {
        tags.push(json!({ "key": "error", "type": "bool", "value": true }));
    }
    for (key, value) in [
        ("otel.status_description", &span.status_message),
        ("otel.scope.name", &span.scope_name),
        ("w3c.tracestate", &span.trace_state),
    ] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            tags.push(text_tag(key, value));
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TimeRange, TraceId};
    use crate::query::{Coverage, ProblemKind, SpanEventHit, SpanLinkHit};

    fn attributes(listed: &[(&str, &str)]) -> Attributes {
        listed.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
    }

    #[test]
    fn a_trace_has_the_shape_that_jaegers_clients_read() {
        let placed = |id: &str, parent: Option<&str>, service: &str, missing_parent: bool| TraceSpan {
            span: SpanHit {
                span_id: id.into(),
                parent_span_id: parent.map(str::to_string),
                name: format!("op {id}"),
                kind: "SERVER".into(),
                status_code: "UNSET".into(),
                start_time_unix_nano: 1_795_000_000_000_001_999,
                duration_nano: 2_500,
                resource_attributes: attributes(&[("service.name", service), ("host.id", "i-1")]),
                ..SpanHit::default()
            },
            parent: None,
            depth: 0,
            n_logs: 0,
            missing_parent,
            in_circle: false,
            skewed: false,
        };
        let mut first = placed("00000000000000aa", None, "api", false);
        first.span.status_code = "ERROR".into();
        first.span.status_message = Some("boom".into());
        first.span.attributes = attributes(&[
            ("n", "5"),
            ("share", "0.5"),
            ("vip", "true"),
            ("name", "x"),
            ("big", "18446744073709551615"),
            ("safe", "-9007199254740991"),
            ("long", "9007199254740992"),
            ("version", "1.10"),
            (TEXT_ANNOTATIONS, r#"["n"]"#),
        ]);
        first.span.events = vec![SpanEventHit {
            time_unix_nano: 1_795_000_000_000_003_000,
            name: Some("exception".into()),
            attributes: attributes(&[("exception.type", "E")]),
        }];
        first.span.links = vec![SpanLinkHit {
            trace_id: Some("f".repeat(32)),
            span_id: Some("00000000000000cc".into()),
            attributes: vec![],
        }];
        let mut whole = Trace {
            trace_id: TraceId::from_bytes(&[1; 16]).expect("an ID"),
            start_unix_nano: 0,
            duration_nano: 1,
            services: vec![],
            spans: vec![
                first,
                placed("00000000000000bb", Some("00000000000000aa"), "db", true),
                placed("00000000000000dd", None, "api", false),
            ],
            logs: vec![],
            pieces: vec![],
            n_errors: 0,
            coverage: Coverage::new(TimeRange::ALL),
            took: std::time::Duration::ZERO,
        };
        let read = |whole: &Trace| serde_json::from_str::<Value>(&trace(whole)).expect("JSON");
        let told = read(&whole);
        assert_eq!(told["traceID"], "01".repeat(16));
        assert_eq!(told["warnings"], Value::Null);
        assert_eq!(
            told["processes"],
            json!({
                "p1": {"serviceName": "api", "tags": [{"key": "host.id", "type": "string", "value": "i-1"}]},
                "p2": {"serviceName": "db", "tags": [{"key": "host.id", "type": "string", "value": "i-1"}]},
            })
        );
        let spans = told["spans"].as_array().expect("a list");
        assert_eq!(
            spans.iter().map(|span| span["processID"].as_str()).collect::<Vec<_>>(),
            [Some("p1"), Some("p2"), Some("p1")]
        );
        let first = &spans[0];
        assert_eq!((&first["startTime"], &first["duration"]), (&json!(1_795_000_000_000_001i64), &json!(2)));
        assert_eq!(
            first["references"],
            json!([{"refType": "FOLLOWS_FROM", "traceID": "f".repeat(32), "spanID": "00000000000000cc"}])
        );
        let of = |key: &str| {
            first["tags"]
                .as_array()
                .and_then(|tags| tags.iter().find(|tag| tag["key"] == key))
                .map(|tag| (tag["type"].clone(), tag["value"].clone()))
        };
        for (key, kind, value) in [
            ("n", "int64", json!(5)),
            ("share", "float64", json!(0.5)),
            ("vip", "bool", json!(true)),
            ("name", "string", json!("x")),
            ("big", "string", json!("18446744073709551615")),
            ("safe", "int64", json!(-9_007_199_254_740_991i64)),
            ("long", "int64", json!("9007199254740992")),
            ("version", "string", json!("1.10")),
            ("error", "bool", json!(true)),
            ("span.kind", "string", json!("server")),
            ("otel.status_code", "string", json!("ERROR")),
            ("otel.status_description", "string", json!("boom")),
        ] {
            assert_eq!(of(key), Some((json!(kind), value)), "{key}");
        }
        assert_eq!(of(TEXT_ANNOTATIONS), None);
        assert_eq!(
            first["logs"],
            json!([{"timestamp": 1_795_000_000_000_003i64, "fields": [{"key": "event", "type": "string", "value": "exception"}, {"key": "exception.type", "type": "string", "value": "E"}]}])
        );
        assert_eq!(first["warnings"], Value::Null);
        assert_eq!(spans[1]["references"][0]["refType"], "CHILD_OF");
        assert_eq!(spans[1]["warnings"], json!(["its parent 00000000000000aa is not here"]));
        whole.spans[1].missing_parent = false;
        whole.spans[1].in_circle = true;
        let circle = "its parent 00000000000000aa is below it: their parents go in a circle";
        assert_eq!(read(&whole)["spans"][1]["warnings"], json!([circle]));
        whole.coverage.incomplete(ProblemKind::Limit, "spans of a trace", "the trace has more");
        assert_eq!(read(&whole)["warnings"], json!(["the trace has more"]));
    }
}
