//! The JSON mapping.

use super::*;

#[test]
fn json_is_read_as_leniently_as_receivers_read_it() {
    let body = json!({"resourceLogs": [{
        "resource": null,
        "scopeLogs": [{"scope": {"name": "s", "later": {}}, "logRecords": [{
            "timeUnixNano": 1795000000000000123u64, "observedTimeUnixNano": "1795000000000000124", "severityNumber": "9", "traceId": "ABABABABabababab0102030405060708",
            "spanId": "not hex", "flags": 1.0, "body": {"kvlistValue": {"values": [{"key": "d", "value": {"doubleValue": "Infinity"}}, {"key": "n", "value": null}]}},
            "attributes": [{"key": "b", "value": {"bytesValue": "-_8"}}, {"key": "i", "value": {"intValue": "7"}}, {"key": "j", "value": {"intValue": 8}}],
            "eventName": null, "unknown": [1, {"a": null}],
        }]}],
    }], "extra": 1});
    let batch = stored(&logs_json(body.to_string().as_bytes(), &CONTEXT).unwrap());
    assert_eq!(int64(&batch, "time_unix_nano", 0), Some(TIME as i64));
    assert_eq!(
        string(&batch, "trace_id", 0).as_deref(),
        Some("ababababababababab0102030405060708".get(2..).unwrap())
    );
    assert_eq!((string(&batch, "span_id", 0), int32(&batch, "trace_flags", 0)), (None, Some(1)));
    assert_eq!(string(&batch, "body", 0).as_deref(), Some(r#"{"d":"Infinity","n":null}"#));
    assert_eq!(map(&batch, "attributes", 0), pairs(&[("b", "+/8="), ("i", "7"), ("j", "8")]));
    assert_eq!(int32(&batch, "severity_number", 0), Some(9));
}

#[test]
fn json_of_a_wrong_type_names_the_place() {
    for (body, expected) in [
        ("", "EOF while parsing"),
        ("[]", "invalid type: sequence, expected an object at line 1 column 0"),
        (
            "{\"resourceLogs\":[[]]}",
            "resourceLogs[0]: invalid type: sequence, expected an object at line 1",
        ),
        (
            "{\"resourceLogs\":[{\"scopeLogs\":\n7}]}",
            "resourceLogs[0].scopeLogs: invalid type: integer `7`, expected a sequence at line 2 column 1",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"-1"}]}]}]}"#,
            "resourceLogs[0].scopeLogs[0].logRecords[0].timeUnixNano: -1 is out of the field's range at line 1",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"SEVERITY_NUMBER_INFO"}]}]}]}"#,
            "logRecords[0].severityNumber: invalid value: string \"SEVERITY_NUMBER_INFO\", expected an integer",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":"?"}}]}]}]}"#,
            "body.bytesValue: not base64: Invalid symbol",
        ),
        (
            r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"doubleValue":{"x":1}}}]}]}]}"#,
            "body.doubleValue: {\"x\":1} is not a number",
        ),
        ("{\"resourceLogs\":[]} x", "trailing characters at line 1"),
    ] {
        let error = logs_json(body.as_bytes(), &CONTEXT).unwrap_err().to_string();
        assert!(error.starts_with("invalid JSON: ") && error.contains(expected), "{body}: {error}");
    }
    let deep = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{}{}}}]}}]}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(10_000),
        "]}}".repeat(10_000)
    );
    let error = logs_json(deep.as_bytes(), &CONTEXT).unwrap_err().to_string();
    assert!(error.contains("recursion limit exceeded"), "{error}");
}

#[test]
fn json_and_protobuf_of_spans_and_metrics_are_equal() {
    let spans = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}, {"key": "host.cpus", "value": {"intValue": 8}}]},
        "scopeSpans": [{"scope": {"name": "lib", "version": "1.2", "attributes": [{"key": "short", "value": {"boolValue": true}}]}, "spans": [{
            "traceId": "01".repeat(16), "spanId": "02".repeat(8), "traceState": "a=b", "parentSpanId": "03".repeat(8), "flags": 257, "name": "GET /", "kind": 2,
            "startTimeUnixNano": TIME.to_string(), "endTimeUnixNano": (TIME + 1_000).to_string(),
            "attributes": [{"key": "http.route", "value": {"stringValue": "/"}}, {"key": "n", "value": {"intValue": "1"}}], "droppedAttributesCount": 1,
            "events": [
                {"timeUnixNano": TIME + 10, "name": "exception", "attributes": [{"key": "exception.type", "value": {"stringValue": "Boom"}}]},
                {"name": "timeless"},
            ],
            "links": [{"traceId": "09".repeat(16), "spanId": "08".repeat(7), "traceState": "c=d", "attributes": [{"key": "why", "value": {"stringValue": "batch"}}]}],
            "status": {"message": "no", "code": 2},
        }]}],
    }]});
    let from_json = traces_json(spans.to_string().as_bytes(), &CONTEXT).unwrap();
    let from_protobuf = traces(&spans_request(vec![full_span()]).encode_to_vec(), &CONTEXT).unwrap();
    assert_eq!(all_stored(&from_json), all_stored(&from_protobuf));

    let point = |value: serde_json::Value| {
        let mut point = json!({"timeUnixNano": TIME, "attributes": [{"key": "k", "value": {"stringValue": "v"}}]});
        point.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        point
    };
    let metrics_body = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}, {"key": "host.cpus", "value": {"intValue": "8"}}]},
        "scopeMetrics": [{"scope": {"name": "lib", "version": "1.2", "attributes": [{"key": "short", "value": {"boolValue": true}}]}, "metrics": [
            {"name": "cpu", "unit": "ms", "gauge": {"dataPoints": [point(json!({"asDouble": "-Infinity"}))]}},
            {"name": "requests", "unit": "ms", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
                point(json!({"asInt": i64::MAX.to_string()})), point(json!({"asInt": 9, "flags": 1})),
            ]}},
            {"name": "latency", "unit": "ms", "histogram": {"aggregationTemporality": 1, "dataPoints": [{
                "timeUnixNano": TIME.to_string(), "startTimeUnixNano": (TIME - 1_000).to_string(), "count": u64::MAX.to_string(), "sum": 2.5,
                "bucketCounts": ["1", u64::MAX.to_string()], "explicitBounds": [10],
                "exemplars": [{"filteredAttributes": [{"key": "e", "value": {"stringValue": "x"}}], "traceId": "01".repeat(16), "spanId": "02".repeat(8), "asInt": "4"}],
            }]}},
            {"name": "size", "unit": "ms", "exponentialHistogram": {"dataPoints": [{
                "timeUnixNano": TIME, "count": 5, "scale": -3, "zeroCount": "1", "zeroThreshold": 0.5, "positive": {"offset": -2, "bucketCounts": [1, "3"]},
            }]}},
            {"name": "old", "unit": "ms", "summary": {"dataPoints": [{"timeUnixNano": TIME, "count": 2, "sum": 3, "quantileValues": [{"quantile": 0.5, "value": 1.5}]}]}},
        ]}],
    }]});
    let from_json = metrics_json(metrics_body.to_string().as_bytes(), &CONTEXT).unwrap();
    let from_protobuf = metrics(&metrics_request(every_kind()).encode_to_vec(), &CONTEXT).unwrap();
    assert_eq!(from_json.batch.rows.len(), 6);
    assert_eq!(all_stored(&from_json), all_stored(&from_protobuf));
}
