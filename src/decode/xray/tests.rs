use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use serde_json::json;

use super::*;
use crate::decode::Reason;
use crate::model::{Rows, Table};

const CONTEXT: Context = Context {
    received_at_nanos: 1_767_225_700_000_000_000,
    retention_days: 0,
};

const FULL: &str = include_str!("../../../tests/fixtures/xray/full_segment.json");

fn decode(documents: &[&str]) -> Decoded {
    segments(&body_of_documents(documents.iter().copied()), &CONTEXT).expect("an array of strings")
}

/// Spans with their stored form, looked up by name.
struct Spans {
    rows: Rows,
    stored: RecordBatch,
}

impl Spans {
    fn of(documents: &[&str]) -> Spans {
        let decoded = decode(documents);
        assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        let rows = decoded.batch.rows[0].clone();
        assert_eq!(rows.table(), Table::Spans);
        let stored = rows.to_batch(None).expect("stored");
        Spans { rows, stored }
    }
    fn row(&self, name: &str) -> usize {
        let names = self.stored.column_by_name("name").expect("name").as_string::<i32>();
        (0..names.len()).find(|i| names.value(*i) == name).expect("a span of this name")
    }
    fn text(&self, name: &str, column: &str) -> Option<String> {
        let column = self.stored.column_by_name(column).expect("column").as_string::<i32>();
        let row = self.row(name);
        (!column.is_null(row)).then(|| column.value(row).to_string())
    }
    fn int(&self, name: &str, column: &str) -> Option<i64> {
        let column = self.stored.column_by_name(column).expect("column");
        let row = self.row(name);
        if column.is_null(row) {
            return None;
        }
        Some(match column.as_primitive_opt::<Int64Type>() {
            Some(column) => column.value(row),
            None => i64::from(column.as_primitive::<Int32Type>().value(row)),
        })
    }
    fn flag(&self, name: &str, column: &str) -> bool {
        self.stored.column_by_name(column).expect("column").as_boolean().value(self.row(name))
    }
    fn attributes(&self, name: &str) -> HashMap<String, String> {
        map(&self.stored.column_by_name("attributes").expect("attributes").as_map().value(self.row(name)))
    }
    fn resource(&self, name: &str, key: &str) -> Option<String> {
        self.rows.context(self.row(name)).expect("context").attribute(key).map(str::to_string)
    }
    fn nested(&self, name: &str, column: &str) -> arrow::array::StructArray {
        let list = self.stored.column_by_name(column).expect("list").as_list::<i32>().value(self.row(name));
        list.as_struct().clone()
    }
}

fn map(entries: &arrow::array::StructArray) -> HashMap<String, String> {
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    (0..entries.len()).map(|i| (keys.value(i).to_string(), values.value(i).to_string())).collect()
}

#[track_caller]
fn check(attributes: &HashMap<String, String>, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(attributes.get(*key).map(String::as_str), Some(*value), "{key} in {attributes:?}");
    }
}

#[test]
fn annotations_that_are_text_and_read_otherwise_are_listed() {
    let segment = r#"{"name":"api","id":"53995c3f42cd8ad8","trace_id":"1-5759e988-bd862e3fe1be46a994272793","start_time":1767225600,"end_time":1767225601,
        "annotations":{"order":"12345","flag":"true","zip":"00501","word":"blue","n":5,"yes":true}}"#;
    let spans = Spans::of(&[segment]);
    let attributes = spans.attributes("api");
    let of = |key: &str| attributes.get(key).map(String::as_str);
    assert_eq!(of("aws.xray.annotations"), Some(r#"["order","flag","zip","word","n","yes"]"#));
    assert_eq!(of("aws.xray.annotations.text"), Some(r#"["order","flag"]"#));
    assert_eq!((of("order"), of("n")), (Some("12345"), Some("5")));
}

#[test]
fn a_full_segment_keeps_everything() {
    let spans = Spans::of(&[FULL]);
    assert_eq!(spans.rows.len(), 4);
    assert_eq!(spans.text("api", "trace_id").as_deref(), Some("6955b9005759e988bd862e3fe1be46a9"));
    assert_eq!(spans.text("api", "span_id").as_deref(), Some("70de5b6f19ff9a0a"));
    assert_eq!(spans.text("api", "parent_span_id").as_deref(), Some("53995c3f42cd8ad8"));
    assert_eq!(spans.int("api", "start_time_unix_nano"), Some(1_767_225_600_100_000_000));
    assert_eq!(spans.int("api", "duration_nano"), Some(250_000_000));
    assert_eq!(spans.text("api", "kind").as_deref(), Some("SERVER"));
    assert_eq!(spans.text("api", "status_code").as_deref(), Some("ERROR"));
    assert_eq!(spans.text("api", "status_message").as_deref(), Some("boom"));
    assert_eq!(spans.text("api", "exception_type").as_deref(), Some("RuntimeError"));
    assert_eq!(spans.int("api", "http_response_status_code"), Some(500));
    assert_eq!(spans.text("api", "http_request_method").as_deref(), Some("GET"));
    assert_eq!(spans.text("api", "http_route").as_deref(), Some("/o"));
    check(
        &spans.attributes("api"),
        &[
            ("aws.xray.type", "segment"),
            ("http.url", "https://x.test/o"),
            ("http.user_agent", "curl/8"),
            ("http.client_ip", "192.0.2.9"),
            ("http.method", "GET"),
            ("http.status_code", "500"),
            ("http.response_content_length", "-1"),
            ("aws.xray.x_forwarded_for", "true"),
            ("enduser.id", "u-17"),
            ("aws.xray.fault", "true"),
            ("aws.xray.throttle", "false"),
            ("aws.xray.inferred", "true"),
            ("tenant", "acme"),
            ("count", "3"),
            ("ratio", "0.5"),
            ("vip", "true"),
            ("aws.xray.annotations", r#"["tenant","count","ratio","vip","http.route"]"#),
            ("aws.xray.metadata.default", r#"{"k": [1,{"a":null}]}"#),
            ("aws.xray.metadata.ns", "\"text\""),
            ("aws.xray.surprise", "{\"a\":1}"),
            ("aws.xray.cause.working_directory", "/srv"),
            ("aws.xray.cause.paths", "[\"a.rb\"]"),
            ("aws.operation", "Invoke"),
            ("aws.xray.sampling_rule_name", "Default"),
        ],
    );
    assert!(!spans.attributes("api").contains_key("aws.xray.error"));
}

#[test]
fn the_resource_describes_the_service() {
    let spans = Spans::of(&[FULL]);
    for (key, value) in [
        ("service.name", "api"),
        ("service.version", "1.4.2"),
        ("service.namespace", "shop-env"),
        ("service.instance.id", "32"),
        ("cloud.provider", "aws"),
        ("cloud.account.id", "123456789012"),
        ("cloud.availability_zone", "us-east-1a"),
        ("host.id", "i-0a"),
        ("host.type", "m7g.large"),
        ("host.image.id", "ami-1"),
        ("container.name", "api"),
        ("container.id", "c0ffee"),
        ("aws.ecs.launchtype", "FARGATE"),
        ("aws.xray.ecs.new_key", "kept"),
        ("k8s.cluster.name", "shop"),
        ("k8s.pod.name", "api-7d"),
        ("aws.log.group.names", "/ecs/api"),
        ("aws.log.group.arns", r#"["arn:aws:logs:us-east-1:123456789012:log-group:/ecs/api"]"#),
        ("telemetry.sdk.name", "X-Ray for Go"),
        ("telemetry.sdk.version", "1.8.5"),
        ("telemetry.sdk.language", "Go"),
        ("aws.xray.auto_instrumentation", "false"),
        ("aws.xray.origin", "AWS::ECS::Container"),
        ("aws.xray.resource_arn", "arn:aws:ecs:us-east-1:123456789012:task/shop/0a1b"),
        ("aws.xray.service.runtime", "go1.25"),
    ] {
        assert_eq!(spans.resource("api", key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(
        spans.resource("inner", "service.name").as_deref(),
        Some("api"),
        "subsegments are in their segment's service"
    );
    assert_eq!(spans.rows.contexts().len(), 1);
    let lambda = Spans::of(&[include_str!("../../../tests/fixtures/xray/lambda_service.json")]);
    assert_eq!(lambda.resource("resize", "cloud.provider").as_deref(), Some("aws"));
    let plain = Spans::of(&[r#"{"name":"p","id":"1111111111111111","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1,"end_time":2}"#]);
    assert_eq!(plain.resource("p", "cloud.provider").as_deref(), Some("unknown"));
}

#[test]
fn subsegments_hang_below_the_one_that_holds_them() {
    let spans = Spans::of(&[FULL]);
    assert_eq!(spans.text("orders", "parent_span_id").as_deref(), Some("70de5b6f19ff9a0a"));
    assert_eq!(spans.text("orders", "kind").as_deref(), Some("CLIENT"));
    assert_eq!(spans.text("orders", "trace_id"), spans.text("api", "trace_id"));
    check(
        &spans.attributes("orders"),
        &[
            ("aws.xray.type", "subsegment"),
            ("aws.xray.namespace", "aws"),
            ("aws.service", "orders"),
            ("aws.operation", "GetItem"),
            ("aws.region", "us-east-1"),
            ("aws.table_name", "orders"),
            ("aws.request_id", "R1"),
            ("aws.xray.retries", "2"),
            ("aws.resource_names", "[\"orders\"]"),
            ("aws.xray.precursor_ids", "[\"00000000000000aa\"]"),
        ],
    );
    assert_eq!(spans.text("inner", "parent_span_id").as_deref(), Some("53995c3f42cd8ad1"));
    assert_eq!(spans.text("inner", "kind").as_deref(), Some("INTERNAL"));
    assert!(spans.flag("inner", "in_progress") && !spans.flag("api", "in_progress"));
    assert!(spans.stored.column_by_name("end_time").expect("end").is_null(spans.row("inner")));
    check(
        &spans.attributes("inner"),
        &[
            ("aws.xray.inprogress", "true"),
            ("aws.xray.error", "true"),
            ("aws.xray.throttle", "true"),
            ("aws.xray.cause", "0123456789abcdef"),
        ],
    );
    assert_eq!(spans.text("inner", "status_code").as_deref(), Some("ERROR"));
    let sql = spans.attributes("shop@pg.test");
    check(
        &sql,
        &[
            ("db.connection_string", "postgresql://app@pg.test:5432"),
            ("db.name", "shop"),
            ("db.system", "PostgreSQL"),
            ("db.statement", "select 1"),
            ("db.user", "app"),
            ("aws.xray.sql.preparation", "call"),
            ("aws.xray.traced", "true"),
            ("http.response_content_length", "12"),
        ],
    );
    assert_eq!(spans.int("shop@pg.test", "http_response_status_code"), Some(200), "a status in quotes");
    assert_eq!(spans.text("shop@pg.test", "status_code").as_deref(), Some("UNSET"));
}

#[test]
fn exceptions_become_events_and_links_stay_links() {
    let spans = Spans::of(&[FULL]);
    let events = spans.nested("api", "events");
    assert_eq!(events.len(), 1);
    assert_eq!(events.column_by_name("name").expect("name").as_string::<i32>().value(0), "exception");
    let time = events.column_by_name("time_unix_nano").expect("time").as_primitive::<Int64Type>().value(0);
    assert_eq!(time, 1_767_225_600_350_000_000);
    check(
        &map(&events.column_by_name("attributes").expect("attributes").as_map().value(0)),
        &[
            ("exception.type", "RuntimeError"),
            ("exception.message", "boom"),
            ("exception.stacktrace", "RuntimeError: boom\n\tat charge(a.rb: 7)\n\tat main(b.rb: 0)\n"),
            ("aws.xray.exception.id", "0123456789abcdef"),
            ("aws.xray.exception.remote", "false"),
            ("aws.xray.exception.truncated", "3"),
            ("aws.xray.exception.skipped", "1"),
            ("aws.xray.exception.cause", "fedcba9876543210"),
        ],
    );
    let links = spans.nested("api", "links");
    assert_eq!(links.len(), 2);
    let traces = links.column_by_name("trace_id").expect("trace").as_string::<i32>();
    assert_eq!(traces.value(0), "6955b9015759e988bd862e3fe1be46a9");
    assert!(traces.is_null(1), "a link to no trace keeps its text");
    let attributes = links.column_by_name("attributes").expect("attributes");
    check(&map(&attributes.as_map().value(0)), &[("aws.xray.link", "parent")]);
    check(&map(&attributes.as_map().value(1)), &[("aws.xray.link", r#"{"trace_id":"bad","id":"x"}"#)]);
}

#[test]
fn datagrams_of_the_python_sdk_become_one_tree() {
    let datagrams: [&[u8]; 8] = [
        include_bytes!("../../../tests/fixtures/xray/python_sdk_00.datagram"),
        include_bytes!("../../../tests/fixtures/xray/python_sdk_01.datagram"),
        include_bytes!("../../../tests/fixtures/xray/python_sdk_02.datagram"),
        include_bytes!("../../../tests/fixtures/xray/python_sdk_03.datagram"),
        include_bytes!("../../../tests/fixtures/xray/python_sdk_04.datagram"),
        include_bytes!("../../../tests/fixtures/xray/python_sdk_05.datagram"),
        include_bytes!("../../../tests/fixtures/xray/python_sdk_06.datagram"),
        include_bytes!("../../../tests/fixtures/xray/python_sdk_07.datagram"),
    ];
    let documents: Vec<&str> = datagrams.iter().map(|datagram| udp_document(datagram).expect("as the SDK sends it")).collect();
    let spans = Spans::of(&documents);
    assert_eq!(spans.rows.len(), 9, "seven streamed subsegments, the segment, one left in it");
    assert_eq!(spans.int("pay.test", "start_time_unix_nano"), Some(1_795_320_570_110_863_700), "digits as sent");
    assert_eq!(spans.text("pay.test", "parent_span_id"), spans.text("charge", "span_id"));
    assert_eq!(spans.text("charge", "parent_span_id"), spans.text("checkout", "span_id"));
    assert_eq!(spans.text("checkout", "parent_span_id"), None);
    assert_eq!(
        spans.resource("pay.test", "service.name").as_deref(),
        Some("checkout"),
        "from the segment in the same body"
    );
    assert_eq!(spans.text("step3", "kind").as_deref(), Some("INTERNAL"), "namespace local");
    assert_eq!(spans.text("charge", "exception_type").as_deref(), Some("ValueError"));
    assert_eq!(spans.rows.contexts().len(), 1);

    let alone = Spans::of(&documents[..1]);
    assert_eq!(alone.resource("pay.test", "service.name"), None, "the name of a call is not a service");
    assert_eq!(alone.text("pay.test", "kind").as_deref(), Some("CLIENT"));
}

#[test]
fn a_call_of_put_trace_segments_and_an_array_of_subsegments_are_read() {
    let body = serde_json::to_vec(&json!({"TraceSegmentDocuments": [FULL], "More": 1})).expect("plain data");
    assert_eq!(segments(&body, &CONTEXT).expect("valid").batch.n_rows(), 4);
    let two = r#" [{"type":"subsegment","name":"a","id":"1111111111111111","parent_id":"2222222222222222","trace_id":"6955b9005759e988bd862e3fe1be46a9","start_time":1,"end_time":2},
        {"type":"subsegment","name":"b","id":"3333333333333333","parent_id":"","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1,"in_progress":true}]"#;
    let spans = Spans::of(&[two]);
    assert_eq!(spans.text("a", "parent_span_id").as_deref(), Some("2222222222222222"));
    assert_eq!(spans.text("b", "parent_span_id"), None);
    for body in [&b"{}"[..], br#"{"TraceSegmentDocuments":null}"#] {
        assert!(matches!(segments(body, &CONTEXT), Err(Error::Invalid(_))));
    }
    for body in [&b""[..], b"[1]", b"[{}]", br#"{"TraceSegmentDocuments":[{}]}"#, b"\"x\"", b"[\"{}\""] {
        assert!(matches!(segments(body, &CONTEXT), Err(Error::Json(_))), "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(segments(b"[]", &CONTEXT).expect("nothing").batch.n_rows(), 0);
}

#[test]
fn each_rejected_document_names_its_position_and_field() {
    let good = json!({"name":"n","id":"1111111111111111","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1.5,"end_time":2.5});
    let with = |key: &str, value: serde_json::Value| {
        let mut document = good.clone();
        match value {
            serde_json::Value::Null => document.as_object_mut().expect("object").remove(key),
            value => document.as_object_mut().expect("object").insert(key.into(), value),
        };
        document.to_string()
    };
    let none = serde_json::Value::Null;
    let cases = [
        ("not json".to_string(), Reason::Malformed, "the document is not a JSON object"),
        ("7".to_string(), Reason::Malformed, "the document is not a JSON object"),
        (format!("{good} x"), Reason::Malformed, "the document is not a JSON object"),
        ("[7]".to_string(), Reason::Malformed, "the document is not a JSON object"),
        (with("name", none.clone()), Reason::InvalidField, "name: missing"),
        (with("name", json!("")), Reason::InvalidField, "name: \"\" is not a name"),
        (with("name", json!(7)), Reason::InvalidField, "name: 7 is not a name"),
        (with("id", none.clone()), Reason::InvalidSpanId, "id: missing"),
        (with("id", json!("111111111111111")), Reason::InvalidSpanId, "id: \"111111111111111\" is not 16"),
        (with("id", json!("111111111111111g")), Reason::InvalidSpanId, "id: "),
        (with("id", json!("0000000000000000")), Reason::InvalidSpanId, "id: "),
        (with("parent_id", json!("x")), Reason::InvalidSpanId, "parent_id: \"x\""),
        (with("trace_id", none.clone()), Reason::InvalidTraceId, "trace_id: missing"),
        (
            with("trace_id", json!("2-6955b900-5759e988bd862e3fe1be46a9")),
            Reason::InvalidTraceId,
            "trace_id: ",
        ),
        (with("trace_id", json!("1-0-0")), Reason::InvalidTraceId, "trace_id: "),
        (with("trace_id", json!(1)), Reason::InvalidTraceId, "trace_id: 1 is neither"),
        (with("start_time", none.clone()), Reason::InvalidTime, "start_time: missing"),
        (with("start_time", json!("1.5")), Reason::InvalidTime, "start_time: \"1.5\" is not a number"),
        (with("start_time", json!(-1)), Reason::InvalidTime, "start_time: -1"),
        (with("end_time", json!(1e300)), Reason::InvalidTime, "end_time: "),
        (with("end_time", none), Reason::InvalidTime, "end_time: missing, and in_progress is not true"),
        (with("subsegments", json!({})), Reason::InvalidField, "subsegments: not an array"),
        (with("subsegments", json!([7])), Reason::InvalidField, "subsegments[0]: not an object"),
        (
            with("subsegments", json!([{"name":"s","id":"2222222222222222","start_time":1}])),
            Reason::InvalidTime,
            "subsegments[0].end_time: missing",
        ),
    ];
    for (document, reason, message) in cases {
        let decoded = decode(&[&good.to_string(), &document]);
        assert_eq!(decoded.batch.n_rows(), 1, "{document}");
        let [rejected] = &decoded.rejected[..] else {
            panic!("{document}: {:?}", decoded.rejected)
        };
        assert_eq!((rejected.reason, rejected.index, rejected.count), (reason, Some(1), 1), "{document}");
        assert!(rejected.message.starts_with(message), "{document}: {}", rejected.message);
    }
}

#[test]
fn bounds_hold_at_and_past_their_limit() {
    let sized = |n: usize| {
        let head = r#"{"name":"n","id":"1111111111111111","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1,"end_time":2,"x":""#;
        format!("{head}{}\"}}", "a".repeat(n - head.len() - 2))
    };
    assert_eq!(decode(&[&sized(MAX_DOCUMENT_BYTES)]).batch.n_rows(), 1);
    assert_eq!(decode(&[&sized(MAX_DOCUMENT_BYTES + 1)]).rejected[0].reason, Reason::TooLarge);

    let nested = |depth: usize| {
        let level = r#""name":"n","id":"1111111111111111","start_time":1,"end_time":2"#;
        let mut document = format!("{{{level}}}");
        for _ in 2..depth {
            document = format!("{{{level},\"subsegments\":[{document}]}}");
        }
        format!("{{{level},\"trace_id\":\"1-6955b900-5759e988bd862e3fe1be46a9\",\"subsegments\":[{document}]}}")
    };
    assert_eq!(decode(&[&nested(MAX_DEPTH)]).batch.n_rows(), MAX_DEPTH);
    let rejected = &decode(&[&nested(MAX_DEPTH + 1)]).rejected;
    assert_eq!(rejected[0].reason, Reason::InvalidField);
    // JSON that is deep elsewhere is only text to us
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let document = format!(
        r#"{{"name":"n","id":"1111111111111111","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1,"end_time":2,"metadata":{{"d":{deep}}}}}"#
    );
    assert_eq!(decode(&[&document]).batch.n_rows(), 1);
}

#[test]
fn drift_never_rejects() {
    let document = r#"{"name":"n","id":"1111111111111111","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1,"end_time":2,"in_progress":true,
        "http":"h","aws":[1],"sql":7,"cause":[2],"annotations":"a","metadata":5,"links":{"l":1},"service":"s","user":{"u":1},"origin":3,"error":"yes","half":"\ud83d","big":18446744073709551616}"#;
    let spans = Spans::of(&[document]);
    check(
        &spans.attributes("n"),
        &[
            ("aws.xray.http", "h"),
            ("aws", "[1]"),
            ("aws.xray.sql", "7"),
            ("aws.xray.cause", "[2]"),
            ("aws.xray.annotations", "\"a\""),
            ("aws.xray.metadata", "5"),
            ("aws.xray.links", "{\"l\":1}"),
            ("enduser.id", "{\"u\":1}"),
            ("aws.xray.error", "yes"),
            ("aws.xray.half", "\u{fffd}"),
            ("aws.xray.big", "18446744073709551616"),
        ],
    );
    assert_eq!(spans.resource("n", "aws.xray.service").as_deref(), Some("s"));
    assert_eq!(spans.resource("n", "aws.xray.origin").as_deref(), Some("3"));
    assert_eq!(spans.text("n", "status_code").as_deref(), Some("UNSET"));
    assert!(!spans.flag("n", "in_progress"), "a document that has an end has ended");
}

#[test]
fn parents_in_a_circle_end() {
    let one = |id: &str, parent: &str| {
        format!(
            r#"{{"type":"subsegment","name":"n{id}","id":"{id}","parent_id":"{parent}","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1,"end_time":2}}"#
        )
    };
    let (a, b) = ("1111111111111111", "2222222222222222");
    assert_eq!(decode(&[&one(a, b), &one(b, a), &one(a, a)]).batch.n_rows(), 3);
}

#[test]
fn a_datagram_needs_the_daemons_header() {
    for (datagram, expected) in [
        (&b"{\"format\": \"json\", \"version\": 1}\n{}"[..], Ok("{}")),
        (b"{\"format\":\"JSON\",\"version\":1}\n {\"a\":1}\n", Ok("{\"a\":1}")),
        (b"{\"version\":1,\"format\":\"json\",\"x\":0}\r\n{}", Ok("{}")),
        (b"{\"format\": \"json\", \"version\": 1}{}", Err(DatagramError::NoHeader)),
        (b"", Err(DatagramError::NoHeader)),
        (b"\n{}", Err(DatagramError::BadHeader)),
        (b"{\"format\": \"xml\", \"version\": 1}\n{}", Err(DatagramError::BadHeader)),
        (b"{\"format\": \"json\", \"version\": 2}\n{}", Err(DatagramError::BadHeader)),
        (b"{\"format\": \"json\"}\n{}", Err(DatagramError::BadHeader)),
        (b"{\"format\": \"json\", \"version\": 1}\n \n", Err(DatagramError::Empty)),
        (b"{\"format\": \"json\", \"version\": 1}\n{\"a\":\"\xff\"}", Err(DatagramError::NotText)),
    ] {
        assert_eq!(udp_document(datagram), expected, "{}", String::from_utf8_lossy(datagram));
    }
}

#[test]
fn the_id_of_a_rejected_document_is_found() {
    assert_eq!(document_id(r#"{"id":"70de5b6f19ff9a0a"}"#).as_deref(), Some("70de5b6f19ff9a0a"));
    assert_eq!(document_id(r#"{"id":7}"#), None);
    assert_eq!(document_id("no"), None);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = segments(&body, &CONTEXT);
        let _ = udp_document(&body);
    }

    #[test]
    fn no_document_panics(text in "\\PC*") {
        let _ = segments(&body_of_documents([text.as_str()]), &CONTEXT);
    }

    #[test]
    fn a_damaged_document_never_panics(at in 0..FULL.len(), with in "[\\[\\]{}\",:0-9a-z-]{0,3}") {
        let (Some(head), Some(tail)) = (FULL.get(..at), FULL.get(at + 1..)) else { return Ok(()) };
        let document = format!("{head}{with}{tail}");
        let decoded = segments(&body_of_documents([document.as_str()]), &CONTEXT).expect("an array of strings");
        proptest::prop_assert!(decoded.batch.is_empty() != decoded.rejected.is_empty());
    }
}
