use super::*;
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, SpanId, TraceId, Value};

const HEX: &str = "5759e988bd862e3fe1be46a994272793";
const SPAN: &str = "53995c3f42cd8ad8";
const XRAY: &str = "1-5759e988-bd862e3fe1be46a994272793";

/// What is found in a body: trace, span.
fn trace(body: &str) -> Option<(String, Option<String>)> {
    let wanted = Wanted { trace: true, severity: false };
    let found = find(wanted, None, std::iter::empty(), Some(body)).trace;
    found.map(|(trace, _)| (trace.trace_id.to_string(), trace.span_id.map(|id| id.to_string())))
}

fn severity(body: &str) -> Option<i32> {
    let wanted = Wanted { trace: false, severity: true };
    find(wanted, None, std::iter::empty(), Some(body)).severity_number
}

fn expand(text: &str) -> String {
    text.replace("XRAY", XRAY).replace("HEX", HEX).replace("SPAN", SPAN)
}

#[test]
fn trace_ids_in_text_are_found() {
    for (body, with_span) in [
        ("XRAY", false),
        ("failed XRAY.", false),
        ("done (XRAY)", false),
        ("AWS-xray-TRACE-ID: XRAY@SPAN done", true),
        ("[AWS-xray-TRACE-ID: XRAY@SPAN] done", true),
        ("got Root=XRAY;Parent=SPAN;Sampled=1 here", true),
        ("got Self=1-67891234-12456789abcdef012345678a;Root=XRAY here", false),
        ("X-Amzn-Trace-Id: Root=XRAY;Parent=SPAN;Sampled=0", true),
        ("X-Amzn-Trace-Id: Parent=SPAN;Root=XRAY", true),
        ("header \"x-amzn-trace-id\": \"Root=XRAY;Parent=SPAN\"", true),
        (
            "REPORT RequestId: 8f5 Duration: 1 ms\tMax Memory Used: 5 MB\t\nXRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: SPAN\tSampled: true\t",
            true,
        ),
        (
            r#"h2 2026-11-22T03:12:41.1Z app/lb/50 1.2.3.4:1 10.0.0.1:80 0.0 0.0 0.0 200 200 0 57 "GET https://a.b:443/ HTTP/2.0" "curl" ECDHE TLSv1.2 arn:aws:x "Root=XRAY" "a.b" "arn" 1 2026-11-22T03:12:41Z "forward" "-""#,
            false,
        ),
        ("msg trace_id=HEX end", false),
        ("msg trace_id=HEX span_id=SPAN end", true),
        ("[traceId: HEX, spanId: SPAN] x", true),
        ("traceID=\"HEX\"", false),
        ("trace.id: 'HEX',", false),
        ("otelTraceID=HEX otelSpanID=SPAN", true),
        ("traceparent=00-HEX-SPAN-01", true),
        ("traceparent: 00-HEX-SPAN-01;", true),
        ("x-b3-traceid=HEX", false),
        ("b3: HEX-SPAN-1", true),
        ("trace headers b3: HEX-SPAN-1", true),
        ("headers={\"b3\":\"HEX-SPAN-1\"}", true),
        ("map[B3:[HEX-SPAN-1] Accept:[*/*]]", true),
        ("é request.headers.b3=HEX-SPAN-d-05e3ac9a4f6e3b90, é", true),
        ("Trace ID: HEX", false),
        ("trace id HEX", false),
        ("ctx.trace_id=HEX", false),
        ("TRACE_ID=5759E988BD862E3FE1BE46A994272793", false),
        ("escaped {\\\"trace_id\\\":\\\"HEX\\\",\\\"span_id\\\":\\\"SPAN\\\"}", true),
        ("{\"trace_id\":\"HEX\",\"cut\":\"of", false),
        ("é traceId=HEX é", false),
        ("trace_id=5759e988-bd86-2e3f-e1be-46a994272793", false),
    ] {
        // "XRAY TraceId" in Lambda's line is not the placeholder
        let body = if body.starts_with("REPORT") {
            body.replace("SPAN", SPAN)
        } else {
            expand(body)
        };
        assert_eq!(trace(&body), Some((HEX.into(), with_span.then(|| SPAN.into()))), "{body}");
    }
}

#[test]
fn sixty_four_bit_ids_are_found_under_their_names() {
    let padded = "0000000000000000e1be46a994272793";
    for body in [
        "dd.trace_id=16266516598257821587 dd.span_id=1 x",
        "[dd.service=a dd.trace_id=16266516598257821587 dd.span_id=1]",
        "traceId=e1be46a994272793",
        r#"{"dd":{"trace_id":"16266516598257821587","span_id":"1"}}"#,
        r#"{"dd.trace_id":16266516598257821587}"#,
    ] {
        assert_eq!(trace(body).map(|(trace, _)| trace).as_deref(), Some(padded), "{body}");
    }
    let found = trace("dd.trace_id=1234567890123456 dd.span_id=1311768467463790320");
    assert_eq!(
        found,
        Some((
            format!("{:032x}", 1_234_567_890_123_456u64),
            Some(format!("{:016x}", 1_311_768_467_463_790_320u64))
        )),
        "Datadog's are decimal whatever their length"
    );
}

#[test]
fn what_is_no_trace_id_in_text_is_left_alone() {
    for body in [
        "",
        "HEX",
        "md5 HEX ok",
        "etag: \"HEX\"",
        "request_id=HEX",
        "parent_trace_id=HEX",
        "trace_id=",
        "trace_id=null",
        "trace_id: 12345",
        "trace_id=00000000000000000000000000000000",
        "trace HEX",
        "traceback: HEX",
        "trace_id and HEX",
        "tracer id=HEX",
        "1-5759e988-bd862e3fe1be46a99427279",
        "11-5759e988-bd862e3fe1be46a994272793",
        "1-5759e988-bd862e3fe1be46a9942727931",
        "2026-11-22 1-2-3",
        "the trace",
        "traceparent=00-HEX",
        "b3: HEX",
        "b3=0 HEX-SPAN-1",
        "ab3: HEX-SPAN-1",
        "x-b3: HEX-SPAN-1",
        "b3HEX-SPAN-1",
        "b3 HEX-SPAN-1",
        "sha=0b3:HEX-SPAN-1",
        "table b3: md5-HEX-SPAN-1",
        "trace_id",
        "{\"links\":[{\"trace_id\":\"HEX\"}]} x",
    ] {
        // the last shows what text alone cannot know: it is not JSON
        let expected = body.starts_with("{\"links\"").then(|| (HEX.to_string(), None));
        assert_eq!(trace(&expand(body)), expected, "{body}");
    }
}

#[test]
fn trace_ids_in_json_bodies_are_found() {
    for (body, with_span) in [
        (r#"{"trace_id":"HEX","span_id":"SPAN"}"#, true),
        (r#"{"spanId":"SPAN","traceId":"HEX"}"#, true),
        (r#"{"trace":{"id":"HEX"},"span":{"id":"SPAN"}}"#, true),
        (r#"{"trace.id":"HEX"}"#, false),
        (r#"{"msg":"x","ctx":{"TraceID":"HEX"}}"#, false),
        (r#"{"xray_trace_id":"XRAY"}"#, false),
        (r#"{"X-Amzn-Trace-Id":"Root=XRAY;Parent=SPAN"}"#, true),
        (r#"{"env":{"_X_AMZN_TRACE_ID":"Root=XRAY;Parent=SPAN;Sampled=1"}}"#, true),
        (r#"{"request":{"headers":{"traceparent":"00-HEX-SPAN-01"}}}"#, true),
        (r#"{"headers":{"b3":"HEX-SPAN-1"}}"#, true),
        (r#"{"headers":{"X-B3-TraceId":"HEX","X-B3-SpanId":"SPAN"}}"#, true),
        (
            r#"{"logging.googleapis.com/trace":"projects/p/traces/HEX","logging.googleapis.com/spanId":"SPAN"}"#,
            true,
        ),
        (r#"{"x-cloud-trace-context":"HEX/6023947403358210776;o=1"}"#, true),
        (r#"{"links":[{"trace_id":"11111111111111111111111111111111"}],"trace_id":"HEX"}"#, false),
        (r#"{"a":{"trace_id":"11111111111111111111111111111111"},"trace_id":"HEX"}"#, false),
        (r#"{"trace_id":"","message":"REPORT traceId=HEX"}"#, false),
        (r#"{"otelTraceID":"HEX","otelSpanID":"SPAN"}"#, true),
        (r#"{"message":"got Root=XRAY;Parent=SPAN"}"#, true),
        (r#"{"any":"XRAY"}"#, false),
        (r#"{"msg":"trace_id=11111111111111111111111111111111","trace_id":"HEX"}"#, false),
    ] {
        assert_eq!(trace(&expand(body)), Some((HEX.into(), with_span.then(|| SPAN.into()))), "{body}");
    }
    for body in [
        r#"{"hash":"HEX"}"#,
        r#"{"trace_id":null}"#,
        r#"{"trace_id":"0"}"#,
        r#"{"trace_id":42}"#,
        r#"{"trace":"HEX"}"#,
        r#"{"stacktrace":"HEX"}"#,
        r#"{"span_id":"SPAN"}"#,
        r#"{"b3":"hello"}"#,
        r#"{"links":[{"trace_id":"HEX"}]}"#,
        r#"{"parent":{"trace_id":"HEX","span_id":"SPAN"}}"#,
        r#"{"parent_trace_id":"HEX"}"#,
    ] {
        assert_eq!(trace(&expand(body)), None, "{body}");
    }
}

#[test]
fn severities_in_text_are_found() {
    for (body, expected) in [
        ("<3>disk failed", 17),
        ("<13>Nov 22 03:12:41 host app: x", 10),
        ("E1122 03:12:41.123456       1 main.go:7] no", 17),
        ("I1122 03:12:41.123456       1 main.go:7] yes", 9),
        ("E, [2026-11-22T03:12:41.1 #1] ERROR -- : no", 17),
        ("ERROR no", 17),
        ("ERROR", 17),
        ("  WARN  [main] x", 13),
        ("INFO:root:x", 9),
        ("error: no such file", 17),
        ("Warning: deprecated", 13),
        ("fail: App.Startup[0]", 17),
        ("[ERROR] no", 17),
        ("[error] no", 17),
        ("[main] [DEBUG] x", 5),
        ("[ERROR]\t2026-11-22T03:12:41.1Z\tid\tno", 17),
        ("2026-11-22T03:12:41.123Z WARN slow", 13),
        ("2026-11-22T03:12:41.123Z\t8f507cfc-6e3e-11e9-a923-1681be663d3e\tINFO\tx", 9),
        ("2026-11-22T03:12:41.123Z\tinfo\tmain.go:3\tx", 9),
        ("2026-11-22 03:12:41,123 [main] FATAL x", 21),
        ("2026-11-22 03:12:41.123  INFO 1 --- [main] c.e.App : up", 9),
        ("2026-11-22 03:12:41.123 | ERROR    | mod:fn:1 - no", 17),
        ("2026/11/22 03:12:41 [error] 31#31: *1 open() failed", 17),
        ("2026-11-22 03:12:41.1 UTC [7] ERROR:  no relation", 17),
        ("[Sun Nov 22 03:12:41.1 2026] [core:warn] [pid 1] x", 13),
        ("Nov 22 03:12:41 host app[7]: ERROR no", 17),
        ("[03:12:41 INF] up", 9),
        ("03:12:41.123 [main] DEBUG c.e.App - x", 5),
        ("1795000000.123 DEBUG x", 5),
        ("time=\"2026-11-22T03:12:41Z\" level=warning msg=\"x\"", 13),
        ("ts=1 level=error msg=x", 17),
        ("lvl=info x", 9),
        ("{\"level\":\"error\",\"cut\":\"of", 17),
        (r#"{"msg":"x","level":"warn"}"#, 13),
        (r#"{"severity":"CRITICAL"}"#, 18),
        (r#"{"log":{"level":"debug"}}"#, 5),
        (r#"{"log.level":"ERROR"}"#, 17),
        (r#"{"Level":"Information"}"#, 9),
        (r#"{"levelname":"WARNING","level":10}"#, 13),
        (r#"{"level":30,"time":1,"msg":"x"}"#, 9),
        (r#"{"level":60}"#, 21),
        (r#"{"severityNumber":14}"#, 14),
        (r#"{"message":"no level here"}"#, 0),
        (r#"{"log":"2026-11-22T03:12:41Z ERROR no\n","stream":"stderr"}"#, 17),
        (r#"{"log":"{\"level\":\"warn\",\"msg\":\"x\"}"}"#, 13),
        (r#"{"message":"[ERROR] no","level":"info"}"#, 9),
    ] {
        assert_eq!(severity(body).unwrap_or(0), expected, "{body}");
    }
}

#[test]
fn what_is_no_severity_is_left_alone() {
    for body in [
        "",
        "an ERROR occurred",
        "user saw [the error] page",
        "Error handling improved",
        "errors: 0",
        "INFORMED the user",
        "information desk",
        "<999>x",
        "<b>bold</b>",
        "E11 is a road",
        "E1122 is a road",
        "2026-11-22 the user pressed: the big ERROR button",
        "200 users hit ERROR pages",
        "level=high",
        "water_level=error",
        "levels=error",
        "[config] loaded",
        "[main] ERROR was printed by someone",
        "GET /error 200",
        "fail safe",
        r#"{"user":{"level":"error"}}"#,
        r#"{"level":7}"#,
        r#"{"level":45}"#,
        r#"{"level":null}"#,
        r#"{"severity":"DEFAULT"}"#,
        r#"{"severityNumber":99}"#,
    ] {
        assert_eq!(severity(body), None, "{body}");
    }
    let far = format!("2026-11-22T03:12:41Z {} ERROR x", "y".repeat(HEAD));
    assert_eq!(severity(&far), None, "beyond the beginning nothing counts");
}

const HEAD: usize = severity::HEAD_BYTES;

struct Row<'a> {
    record: LogRecord<'a>,
    attributes: Vec<(&'a str, &'a str)>,
}

fn row<'a>(body: &'a str) -> Row<'a> {
    Row {
        record: LogRecord {
            body: Some(body),
            ..Default::default()
        },
        attributes: vec![],
    }
}

fn batch(rows: &[Row<'_>]) -> Batch {
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    for row in rows {
        for (key, value) in &row.attributes {
            builder.attribute(key, Value::Str(value));
        }
        builder.push(context, &row.record);
    }
    Batch {
        rows: vec![builder.finish().unwrap()],
    }
}

type Columns = Vec<(Option<String>, Option<String>, i32)>;

fn columns(batch: &Batch) -> Columns {
    let rows = batch.rows[0].batch();
    let text = |name: &str, row: usize| {
        let column = rows.column_by_name(name).unwrap().as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_string())
    };
    let numbers = rows.column_by_name("severity_number").unwrap().as_primitive::<Int32Type>();
    (0..rows.num_rows())
        .map(|row| (text("trace_id", row), text("span_id", row), numbers.value(row)))
        .collect()
}

#[test]
fn only_what_is_missing_is_filled() {
    let other = "11111111111111111111111111111111";
    let body = expand("ERROR trace_id=HEX span_id=SPAN");
    let mut named = row(&body);
    named.record.trace_id = TraceId::from_hex(other);
    named.record.severity_number = 9;
    let mut with_span = row(&body);
    with_span.record.span_id = SpanId::from_hex("2222222222222222");
    let mut with_text = row("INFO x");
    with_text.record.severity_text = Some("Warn");
    let mut with_attributes = row(&body);
    with_attributes.attributes = vec![("level", "debug"), ("X-Amzn-Trace-Id", "Root=1-11111111-111111111111111111111111")];
    let plain = row("hello");
    let bodyless = Row {
        record: LogRecord::default(),
        attributes: vec![("trace_id", HEX)],
    };
    let sent = batch(&[named, with_span, with_text, with_attributes, plain, bodyless, row(&body)]);
    let once = correlate(sent.clone());
    let some = |text: &str| Some(text.to_string());
    assert_eq!(
        columns(&once),
        [
            (some(other), None, 9),
            (some(HEX), some("2222222222222222"), 17),
            (None, None, 13),
            (some(other), None, 5),
            (None, None, 0),
            (some(HEX), None, 0),
            (some(HEX), some(SPAN), 17),
        ]
    );
    for (index, field) in once.rows[0].batch().schema().fields().iter().enumerate() {
        if !["trace_id", "trace_id_source", "span_id", "severity_number", "pattern_id"].contains(&field.name().as_str()) {
            assert_eq!(once.rows[0].batch().column(index), sent.rows[0].batch().column(index), "{}", field.name());
        }
    }
    assert_eq!(columns(&correlate(once.clone())), columns(&once), "twice is once");
}

#[test]
fn how_a_trace_id_was_found_is_said() {
    let source = |attributes: &[(&str, &str)], body: &str| {
        let wanted = Wanted { trace: true, severity: false };
        let body = expand(body);
        find(wanted, None, attributes.iter().copied(), Some(&body))
            .trace
            .map(|(_, source)| source.word())
    };
    for (body, expected) in [
        (r#"{"trace_id":"HEX"}"#, Some("json")),
        (r#"{"ctx":{"traceparent":"00-HEX-SPAN-01"}}"#, Some("json")),
        (r#"{"message":"got trace_id=HEX"}"#, Some("text")),
        (r#"{"any":"XRAY"}"#, Some("text")),
        (r#"{"message":"got trace_id=HEX","trace_id":"HEX"}"#, Some("json")),
        ("Root=XRAY", Some("text")),
        ("trace_id=HEX", Some("text")),
        ("nothing", None),
    ] {
        assert_eq!(source(&[], body), expected, "{body}");
        assert_eq!(source(&[("X-Amzn-Trace-Id", &expand("Root=XRAY"))], body), Some("attribute"), "{body}");
    }
    assert_eq!(source(&[("message", &expand("x trace_id=HEX"))], "x"), Some("text"));
    let mut named = row("x");
    named.record.trace_id = TraceId::from_hex(HEX);
    let text = expand("trace_id=HEX");
    let once = correlate(batch(&[named, row(&text), row("x")]));
    let sources = once.rows[0]
        .batch()
        .column_by_name("trace_id_source")
        .expect("a column")
        .as_string::<i32>()
        .clone();
    assert_eq!(sources.iter().collect::<Vec<_>>(), [None, Some("text"), None], "the sender's own has no source");
}

/// `Root=…` and what stands for it are of the trace; what else looks like IDs in these lines is not.
#[test]
fn access_logs_of_load_balancers_and_gateways_tell_their_trace() {
    let alb = |kind: &str, target: &str, header: &str| {
        format!(
            r#"{kind} 2026-11-22T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 {target} 0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:443/?id=1-2 HTTP/1.1" "curl/7.46.0 (1-2)" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "{header}" "www.example.com" "arn:aws:acm:us-east-2:123456789012:certificate/12345678-1234-1234-1234-123456789012" 1 2026-11-22T22:22:48.364000Z "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1234abcd5678ef90"#
        )
    };
    let old = alb("http", "10.0.0.1:80", "Root=XRAY").split(" \"www").next().unwrap_or_default().to_string();
    for line in [
        alb("http", "10.0.0.1:80", "Root=XRAY"),
        alb("https", "10.0.0.1:80", "Self=1-67891234-12456789abcdef012345678a;Root=XRAY"),
        alb("h2", "-", "Root=XRAY;Self=1-67891234-12456789abcdef012345678a"),
        alb("grpcs", "10.0.0.1:80", "Root=XRAY;Parent=SPAN;Sampled=1"),
        alb("ws", "10.0.0.1:80", "Root=XRAY;CalledFrom=app"),
        alb("wss", "-", "Root=XRAY;Lineage=a87bd80c:1|68fd508a:5"),
        // an old file ends here
        old,
        // API Gateway: CLF, JSON, XML and CSV, as the console proposes them, with $context.xrayTraceId
        r#"192.0.2.1 - - [22/Nov/2026:22:23:00 +0000] "GET /pets HTTP/1.1" 200 2 8f507cfc-6e3e-11e9-a923-1681be663d3e XRAY"#.into(),
        r#"{ "requestId":"8f507cfc-6e3e-11e9-a923-1681be663d3e", "ip": "192.0.2.1", "requestTime":"22/Nov/2026:22:23:00 +0000", "routeKey":"GET /pets", "status":"200", "xrayTraceId":"XRAY" }"#.into(),
        r#"{"requestId":"8f507cfc-6e3e-11e9-a923-1681be663d3e","trace":"XRAY","extendedRequestId":"JKJaXmPLvHcESHA="}"#.into(),
        r#"<request id="8f507cfc-6e3e-11e9-a923-1681be663d3e"> <ip>192.0.2.1</ip> <status>200</status> <xrayTraceId>XRAY</xrayTraceId> </request>"#.into(),
        "192.0.2.1,-,-,22/Nov/2026:22:23:00 +0000,GET,/pets,HTTP/1.1,200,2,8f507cfc-6e3e-11e9-a923-1681be663d3e,XRAY".into(),
        // its execution log
        "(8f507cfc-6e3e-11e9-a923-1681be663d3e) X-ray Tracing ID : XRAY".into(),
        // CloudFront and AppSync
        "2026-11-22\t22:23:00\tIAD89-C1\t2390282\t192.0.2.1\tGET\td1.cloudfront.net\t/\t200\t-\tcurl\t-\t-\tMiss\tx-amzn-trace-id=Root=XRAY".into(),
        r#"{"logType":"RequestSummary","requestId":"8f507cfc-6e3e-11e9-a923-1681be663d3e","graphQLAPIId":"x","xrayTraceId":"XRAY"}"#.into(),
    ] {
        let line = expand(&line);
        let expected = line.contains("Parent=").then(|| SPAN.to_string());
        assert_eq!(trace(&line), Some((HEX.into(), expected)), "{line}");
    }
    for line in [
        // the network load balancer knows no traces
        "tls 2.0 2026-11-20T02:59:40 net/my-network-loadbalancer/c6e77e28c25b2234 g3d4b5e8bb8464cd 72.21.218.154:51341 172.100.100.185:443 5 2 98 246 - arn:aws:acm:us-east-2:671290407336:certificate/2a108f19-aded-46b0-8493-c63eb1ef4a99 - ECDHE-RSA-AES128-SHA tlsv12 - my-network-loadbalancer-c6e77e28c25b2234.elb.us-east-2.amazonaws.com - - - 2026-11-20T02:59:30".to_string(),
        alb("http", "10.0.0.1:80", "-"),
        r#"192.0.2.1 - - [22/Nov/2026:22:23:00 +0000] "GET /pets HTTP/1.1" 200 2 8f507cfc-6e3e-11e9-a923-1681be663d3e"#.into(),
        r#"{"requestId":"8f507cfc-6e3e-11e9-a923-1681be663d3e","xrayTraceId":"-"}"#.into(),
    ] {
        assert_eq!(trace(&line), None, "{line}");
    }
}

#[test]
fn lambdas_platform_events_tell_their_trace() {
    let tracing = r#""tracing":{"spanId":"SPAN","type":"X-Amzn-Trace-Id","value":"Root=XRAY;Parent=1111111111111111;Sampled=1"}"#;
    for kind in ["platform.start", "platform.runtimeDone", "platform.report"] {
        let line = format!(r#"{{"time":"2026-11-22T03:12:41.1Z","type":"{kind}","record":{{"requestId":"8f507cfc-6e3e-11e9-a923-1681be663d3e",{tracing}}}}}"#);
        assert_eq!(trace(&expand(&line)).map(|(trace, _)| trace).as_deref(), Some(HEX), "{kind}");
    }
}

#[test]
fn a_slice_of_rows_is_read_at_its_own_place() {
    let body = expand("ERROR trace_id=HEX");
    let mut second = row("x");
    second.attributes = vec![("trace_id", HEX), ("level", "info")];
    let sent = batch(&[row(&body), second, row("y")]);
    let slice = Batch {
        rows: vec![sent.rows[0].slice(1, 2)],
    };
    assert_eq!(columns(&correlate(slice)), [(Some(HEX.into()), None, 9), (None, None, 0)]);
}

#[test]
fn rows_that_lack_nothing_are_not_copied() {
    let mut full = row("ERROR x");
    full.record.severity_number = 9;
    full.record.trace_id = TraceId::from_hex(HEX);
    // a pattern is what no sender has
    let sent = correlate(batch(&[full]));
    let out = correlate(sent.clone());
    for (before, after) in sent.rows[0].batch().columns().iter().zip(out.rows[0].batch().columns()) {
        assert!(Arc::ptr_eq(before, after));
    }
}

proptest::proptest! {
    #[test]
    fn no_record_panics_and_twice_is_once(
        body in "(\\PC{0,20}|1-|trace_?[iI]d|[=:;\"@ ]|Root=|Parent=|traceparent|[0-9a-f]{8}|[0-9a-f]{16}|-|\\[|\\]|level|ERROR|2026-11-22T03:12:41Z|\\{|\\}){0,12}",
        key in "(dd\\.|x-b3-)?(trace|span)[_.]?[iI][dD]|level|\\PC{0,9}",
        value in "\\PC{0,40}|[0-9a-f]{32}|[0-9]{1,20}",
    ) {
        let mut record = row(&body);
        record.attributes = vec![(&key, &value)];
        let once = correlate(batch(&[record, row(&body), row(&value)]));
        proptest::prop_assert_eq!(columns(&correlate(once.clone())), columns(&once));
        let _ = severity::in_text(&body);
        let _ = trace_id::in_text(&body);
    }
}

#[test]
fn rows_with_a_text_have_its_pattern() {
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    for body in [Some("took 5 ms"), Some("took 17 ms"), None, Some(" "), Some("gave up")] {
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: 1,
                body,
                ..Default::default()
            },
        );
    }
    let batch = Batch {
        rows: vec![builder.finish().expect("rows")],
    };
    let once = correlate(batch);
    let ids = once.rows[0].batch().column_by_name("pattern_id").expect("a column").clone();
    let id = |text: &str| Miner::default().id(text).map(PatternId::get);
    let expected = vec![id("took <num> ms"), id("took <num> ms"), None, None, id("gave up")];
    assert_eq!(ids.as_primitive::<Int64Type>(), &Int64Array::from(expected));
    let twice = correlate(once.clone());
    assert_eq!(twice.rows[0].batch(), once.rows[0].batch());
}
