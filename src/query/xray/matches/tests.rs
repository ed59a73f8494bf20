use std::time::Duration;

use serde_json::json;

use super::super::expression::NamedGroup;
use super::*;
use crate::model::{TimeRange, TraceId};
use crate::query::xray::documents::documents;
use crate::query::{Attributes, Coverage, Hit, SpanEventHit, Trace};

const MILLI: i64 = 1_000_000;
const START: i64 = 1_795_000_000_000_000_000;

/// A span: its number and its parent's, when it starts and what it takes in milliseconds.
struct Span(SpanHit);

fn attributes(listed: &[(&str, &str)]) -> Attributes {
    listed.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
}

impl Span {
    fn new(id: u64, parent: u64, name: &str, kind: &str, service: &str, (start, took): (i64, i64)) -> Self {
        Span(SpanHit {
            ingest_id: id as i64,
            start_time_unix_nano: START + start * MILLI,
            duration_nano: took * MILLI,
            span_id: format!("{id:016x}"),
            parent_span_id: (parent > 0).then(|| format!("{parent:016x}")),
            name: name.into(),
            kind: kind.into(),
            status_code: "UNSET".into(),
            is_root: parent == 0,
            resource_attributes: attributes(&[("service.name", service)]),
            ..SpanHit::default()
        })
    }
    fn with(mut self, listed: &[(&str, &str)]) -> Self {
        self.0.attributes.extend(attributes(listed));
        self
    }
    fn of(mut self, listed: &[(&str, &str)]) -> Self {
        self.0.resource_attributes.extend(attributes(listed));
        self
    }
    fn failed(mut self, message: &str) -> Self {
        self.0.status_code = "ERROR".into();
        self.0.status_message = Some(message.into());
        self
    }
    fn raised(mut self, kind: &str, message: &str) -> Self {
        self.0.events.push(SpanEventHit {
            time_unix_nano: START,
            name: Some("exception".into()),
            attributes: attributes(&[("exception.type", kind), ("exception.message", message)]),
        });
        self
    }
    fn running(mut self) -> Self {
        self.0.in_progress = true;
        self.0.duration_nano = 0;
        self
    }
}

fn trace(number: u8, spans: Vec<Span>) -> Trace {
    let id = TraceId::from_bytes(&[number; 16]).expect("16 bytes");
    let spans = spans.into_iter().map(|Span(mut span)| {
        span.trace_id = id.to_string();
        Hit::Span(Box::new(span))
    });
    Trace::assemble(id, spans.collect(), Vec::new(), Coverage::new(TimeRange::ALL), Duration::ZERO).expect("spans")
}

const SEGMENT: (&str, &str) = ("aws.xray.type", "segment");
const SUBSEGMENT: (&str, &str) = ("aws.xray.type", "subsegment");

/// Numbered from 1; what they are is said by the expressions below.
fn corpus() -> Vec<Trace> {
    vec![
        // X-Ray: all is well; a table is called, which sends no segment
        trace(
            1,
            vec![
                Span::new(1, 0, "api", "SERVER", "api", (0, 500))
                    .of(&[
                        ("aws.xray.origin", "AWS::ECS::Container"),
                        ("cloud.account.id", "123456789012"),
                        ("cloud.availability_zone", "eu-west-1a"),
                        ("aws.xray.resource_arn", "arn:aws:ecs:eu-west-1:123456789012:container/x"),
                    ])
                    .with(&[
                        SEGMENT,
                        ("http.url", "http://shop.example/cart?x=1"),
                        ("http.method", "GET"),
                        ("http.user_agent", "curl/8.1"),
                        ("http.client_ip", "10.0.0.9"),
                        ("http.status_code", "200"),
                        ("enduser.id", "alice"),
                        ("tenant", "a"),
                        ("items", "5"),
                        ("vip", "true"),
                        ("shop.id", "7"),
                        ("aws.xray.annotations", r#"["tenant","items","vip","shop.id"]"#),
                    ]),
                Span::new(2, 1, "DynamoDB", "CLIENT", "api", (100, 200)).with(&[
                    SUBSEGMENT,
                    ("aws.xray.namespace", "aws"),
                    ("aws.service", "DynamoDB"),
                    ("aws.table_name", "orders"),
                    ("http.status_code", "200"),
                ]),
            ],
        ),
        // X-Ray: a fault two services down
        trace(
            2,
            vec![
                Span::new(1, 0, "api", "SERVER", "api", (0, 3_000))
                    .of(&[("aws.xray.origin", "AWS::ECS::Container")])
                    .with(&[
                        SEGMENT,
                        ("http.url", "http://shop.example/pay"),
                        ("http.method", "POST"),
                        ("http.status_code", "502"),
                        ("aws.xray.fault", "true"),
                        ("enduser.id", "bob"),
                        ("tenant", "b"),
                        ("items", "12"),
                        ("aws.xray.annotations", r#"["tenant","items"]"#),
                    ]),
                Span::new(2, 1, "checkout", "CLIENT", "api", (100, 2_800)).with(&[SUBSEGMENT, ("aws.xray.namespace", "remote"), ("aws.xray.fault", "true")]),
                Span::new(3, 2, "checkout", "SERVER", "checkout", (200, 2_500))
                    .of(&[
                        ("aws.xray.origin", "AWS::EC2::Instance"),
                        ("host.id", "i-0abc"),
                        ("cloud.availability_zone", "eu-west-1b"),
                    ])
                    .with(&[SEGMENT, ("http.status_code", "500"), ("aws.xray.fault", "true")])
                    .raised("CardError", "card declined"),
            ],
        ),
        // X-Ray: a client's error
        trace(
            3,
            vec![Span::new(1, 0, "api", "SERVER", "api", (0, 20)).with(&[
                SEGMENT,
                ("http.url", "http://shop.example/nothing"),
                ("http.method", "GET"),
                ("http.status_code", "404"),
                ("aws.xray.error", "true"),
                ("tenant", "a b"),
                ("aws.xray.annotations", r#"["tenant"]"#),
            ])],
        ),
        // X-Ray: throttled below, and the root knows nothing of it
        trace(
            4,
            vec![
                Span::new(1, 0, "api", "SERVER", "api", (0, 900)).with(&[SEGMENT, ("http.status_code", "200")]),
                Span::new(2, 1, "SQS", "CLIENT", "api", (10, 800)).with(&[
                    SUBSEGMENT,
                    ("aws.xray.namespace", "aws"),
                    ("aws.service", "SQS"),
                    ("aws.queue_url", "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"),
                    ("aws.xray.throttle", "true"),
                    ("aws.xray.error", "true"),
                ]),
            ],
        ),
        // OpenTelemetry: all is well; a database
        trace(
            5,
            vec![
                Span::new(1, 0, "GET /list", "SERVER", "frontend", (0, 80))
                    .of(&[("cloud.platform", "aws_eks")])
                    .with(&[
                        ("http.request.method", "GET"),
                        ("url.full", "https://front.example/list"),
                        ("http.response.status_code", "200"),
                    ]),
                Span::new(2, 1, "render", "INTERNAL", "frontend", (5, 60)),
                Span::new(3, 2, "SELECT shop", "CLIENT", "frontend", (10, 40)).with(&[
                    ("db.system.name", "postgresql"),
                    ("db.namespace", "shop"),
                    ("server.address", "db1"),
                ]),
            ],
        ),
        // OpenTelemetry: in progress
        trace(
            6,
            vec![
                Span::new(1, 0, "POST /slow", "SERVER", "frontend", (0, 0)).running(),
                Span::new(2, 1, "work", "INTERNAL", "frontend", (10, 4_000)),
            ],
        ),
        // OpenTelemetry: failed without a status, between two services
        trace(
            7,
            vec![
                Span::new(1, 0, "GET /cart", "SERVER", "frontend", (0, 700)).failed("no cart"),
                Span::new(2, 1, "GET", "CLIENT", "frontend", (10, 650)).failed("no cart"),
                Span::new(3, 2, "GET /cart", "SERVER", "cart", (20, 600))
                    .failed("boom")
                    .raised("KeyError", "missing key"),
            ],
        ),
        // OpenTelemetry: another's fault does not become the root's
        trace(
            8,
            vec![
                Span::new(1, 0, "GET /pay", "SERVER", "frontend", (0, 1_500)).with(&[("http.response.status_code", "200"), ("enduser.id", "carol")]),
                Span::new(2, 1, "POST", "CLIENT", "frontend", (10, 1_200)).with(&[
                    ("peer.service", "payments"),
                    ("http.response.status_code", "503"),
                    ("server.address", "payments.example"),
                ]),
            ],
        ),
    ]
}

/// The groups that expressions of the table ask for.
fn groups() -> Vec<NamedGroup> {
    let group = |name: &str, text: &str| NamedGroup {
        name: name.into(),
        arn: format!("arn:aws:xray:r:1:group/{name}/ID"),
        expression: Expression::parse(text).expect("an expression"),
    };
    vec![
        group("Default", ""),
        group("slow", "duration >= 3"),
        group("shop", "service(\"api\") AND !fault"),
        group("nested", "group.name = \"slow\""),
    ]
}

/// Expression, and the numbers of the traces.
const TABLE: &str = include_str!("table.txt");

#[test]
fn expressions_let_through_what_the_table_says() {
    let corpus = corpus();
    let facts: Vec<TraceFacts<'_>> = corpus.iter().map(TraceFacts::of).collect();
    let rows = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut n_rows, mut wrong) = (0, Vec::new());
    for row in rows {
        n_rows += 1;
        let (expected, text) = row.split_once('|').expect("traces | expression");
        let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
        let expression = Expression::parse(text.trim()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let expression = expression.with_groups(&groups());
        let found = facts.iter().zip(1..).filter(|(facts, _)| expression.holds(facts)).map(|(_, n)| n.to_string());
        let found = found.collect::<Vec<_>>().join(" ");
        if found != expected {
            wrong.push(format!("{text}: {found}, and should be {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(n_rows >= 120, "{n_rows} rows");
}

#[test]
fn a_summary_says_what_the_api_says_of_a_trace() {
    let corpus = corpus();
    let summary = |n: usize| TraceFacts::of(&corpus[n - 1]).summary();
    let first = summary(1);
    assert_eq!(first["Id"], "1-01010101-010101010101010101010101");
    assert_eq!((&first["Duration"], &first["ResponseTime"]), (&json!(0.5), &json!(0.5)));
    assert_eq!(
        first["EntryPoint"],
        json!({"Name": "api", "Names": ["api"], "Type": "AWS::ECS::Container", "AccountId": "123456789012"})
    );
    assert_eq!(first["ServiceIds"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        first["Http"],
        json!({"HttpURL": "http://shop.example/cart?x=1", "HttpMethod": "GET", "UserAgent": "curl/8.1", "ClientIp": "10.0.0.9", "HttpStatus": 200})
    );
    assert_eq!(first["Annotations"]["items"][0]["AnnotationValue"], json!({"NumberValue": 5.0}));
    assert_eq!(first["Annotations"]["vip"][0]["AnnotationValue"], json!({"BooleanValue": true}));
    assert_eq!(first["Users"][0]["UserName"], "alice");
    assert_eq!(first["AvailabilityZones"], json!([{"Name": "eu-west-1a"}]));
    assert_eq!(summary(2)["InstanceIds"], json!([{"Id": "i-0abc"}]));
    let flags = |n: usize| ["HasError", "HasFault", "HasThrottle", "IsPartial"].map(|flag| summary(n)[flag] == json!(true));
    assert_eq!(flags(1), [false; 4]);
    assert_eq!(flags(2), [false, true, false, false]);
    assert_eq!(flags(3), [true, false, false, false]);
    assert_eq!(flags(4), [false, false, true, false], "a throttle counts wherever it is, an error at the root");
    assert_eq!(flags(6), [false, false, false, true]);
    assert!(summary(6).get("ResponseTime").is_none());
    let mut cut = corpus[0].clone();
    cut.coverage.complete = false;
    assert_eq!(
        TraceFacts::of(&cut).summary()["IsPartial"],
        json!(true),
        "a trace of which an answer holds only a part says so"
    );
}

#[test]
fn spans_of_any_protocol_are_documents() {
    let corpus = corpus();
    let of = |n: usize| documents(&TraceFacts::of(&corpus[n - 1]));
    let first = of(1);
    assert_eq!(first.len(), 1);
    let body = &first[0].body;
    assert_eq!(body["trace_id"], "1-01010101-010101010101010101010101");
    assert_eq!(body["annotations"], json!({"tenant": "a", "items": 5, "vip": true, "shop.id": 7}));
    assert_eq!(body["http"]["request"]["method"], "GET");
    assert_eq!(body["http"]["response"], json!({"status": 200}));
    assert_eq!(body["subsegments"][0]["namespace"], "aws");
    assert_eq!(body["subsegments"][0]["aws"], json!({"table_name": "orders"}));
    assert!(body.get("metadata").is_none(), "{body}");
    let second = of(2);
    assert_eq!(
        second.iter().map(|document| document.body["name"].as_str()).collect::<Vec<_>>(),
        [Some("api"), Some("checkout")]
    );
    assert_eq!(second[1].body["parent_id"], second[0].body["subsegments"][0]["id"]);
    assert_eq!(
        second[1].body["cause"]["exceptions"][0],
        json!({"type": "CardError", "message": "card declined"})
    );
    let fifth = of(5);
    let select = &fifth[0].body["subsegments"][0]["subsegments"][0];
    assert_eq!(select["sql"], json!({"database_type": "postgresql", "url": "shop"}));
    assert_eq!(select["metadata"]["default"], json!({"server.address": "db1"}));
    assert_eq!(of(6)[0].body["in_progress"], json!(true));
}

#[test]
fn deep_and_wide_traces_are_documents_of_bounded_size() {
    let deep = (1..=5_000).map(|n| Span::new(n, n - 1, "step", "INTERNAL", "deep", (n as i64, 1))).collect();
    let deep = trace(9, deep);
    let written = documents(&TraceFacts::of(&deep));
    assert_eq!(written.len(), 5_000 / super::super::documents::MAX_DEPTH);
    assert!(
        written
            .iter()
            .skip(1)
            .all(|document| document.body["type"] == "subsegment" && document.body["parent_id"].is_string())
    );
    let wide = (1..=5_000)
        .map(|n| Span::new(n, u64::from(n > 1), "step", "INTERNAL", "wide", (n as i64, 1)))
        .collect();
    let wide = trace(10, wide);
    let written = documents(&TraceFacts::of(&wide));
    let below = |document: &super::super::documents::Document| document.body["subsegments"].as_array().map_or(0, Vec::len);
    assert_eq!(written.iter().map(|document| 1 + below(document)).sum::<usize>(), 5_000);
    assert!(written.iter().all(|document| below(document) <= super::super::documents::MAX_NODES));
}
