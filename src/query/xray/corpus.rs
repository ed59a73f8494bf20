//! Traces that filter expressions are tried on, and the table of expressions.

use std::time::Duration;

use super::expression::{Expression, NamedGroup};
use crate::model::{TimeRange, TraceId};
use crate::query::{Attributes, Coverage, Hit, SpanEventHit, SpanHit, Trace};

pub(crate) const MILLI: i64 = 1_000_000;
pub(crate) const START: i64 = 1_795_000_000_000_000_000;

/// A span: its number and its parent's, when it starts and what it takes in milliseconds.
pub(crate) struct Span(pub(crate) SpanHit);

fn attributes(listed: &[(&str, &str)]) -> Attributes {
    listed.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect()
}

impl Span {
    pub(crate) fn new(id: u64, parent: u64, name: &str, kind: &str, service: &str, (start, took): (i64, i64)) -> Self {
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
    pub(crate) fn with(mut self, listed: &[(&str, &str)]) -> Self {
        self.0.attributes.extend(attributes(listed));
        self
    }
    pub(crate) fn of(mut self, listed: &[(&str, &str)]) -> Self {
        self.0.resource_attributes.extend(attributes(listed));
        self
    }
    pub(crate) fn failed(mut self, message: &str) -> Self {
        self.0.status_code = "ERROR".into();
        self.0.status_message = Some(message.into());
        self
    }
    pub(crate) fn raised(mut self, kind: &str, message: &str) -> Self {
        self.0.events.push(SpanEventHit {
            time_unix_nano: START,
            name: Some("exception".into()),
            attributes: attributes(&[("exception.type", kind), ("exception.message", message)]),
        });
        self
    }
    pub(crate) fn running(mut self) -> Self {
        self.0.in_progress = true;
        self.0.duration_nano = 0;
        self
    }
}

pub(crate) fn trace(number: u8, spans: Vec<Span>) -> Trace {
    let id = TraceId::from_bytes(&[number; 16]).expect("16 bytes");
    let spans = spans.into_iter().map(|Span(mut span)| {
        span.trace_id = id.to_string();
        Hit::Span(Box::new(span))
    });
    Trace::assemble(id, spans.collect(), Vec::new(), Coverage::new(TimeRange::ALL), Duration::ZERO).expect("spans")
}

pub(crate) const SEGMENT: (&str, &str) = ("aws.xray.type", "segment");
pub(crate) const SUBSEGMENT: (&str, &str) = ("aws.xray.type", "subsegment");

/// Numbered from 1; what they are is said by the expressions below.
pub(crate) fn corpus() -> Vec<Trace> {
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

/// A call's name, its attributes, and the name of who is called.
pub(crate) type Spelling = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// Who is called, in each spelling that clients have for it: the call's name, its attributes, the name of who is called.
pub(crate) const SPELLINGS: &[Spelling] = &[
    ("PutRecord", &[("aws.service", "Kinesis")], "Kinesis"),
    ("Invoke", &[("rpc.system", "aws-api"), ("rpc.service", "Lambda")], "Lambda"),
    ("PutItem", &[("aws.service", "DynamoDB"), ("aws.table_name", "carts")], "carts"),
    (
        "GetItem",
        &[
            ("rpc.system", "aws-api"),
            ("rpc.service", "DynamoDB"),
            ("aws.dynamodb.table_names", r#"["users"]"#),
        ],
        "users",
    ),
    (
        "BatchGetItem",
        &[("aws.service", "DynamoDB"), ("aws.dynamodb.table_names", r#"["users","logins"]"#)],
        "DynamoDB",
    ),
    (
        "SendMessage",
        &[("aws.service", "sqs"), ("aws.queue_url", "https://sqs.eu-west-1.amazonaws.com/1/sent")],
        "sent",
    ),
    (
        "ReceiveMessage",
        &[
            ("rpc.system", "aws-api"),
            ("rpc.service", "SQS"),
            ("aws.sqs.queue.url", "https://sqs.eu-west-1.amazonaws.com/1/got"),
        ],
        "got",
    ),
    ("named send", &[("aws.service", "SQS"), ("messaging.destination.name", "named")], "named"),
    (
        "url send",
        &[
            ("aws.service", "SQS"),
            ("messaging.destination.name", "https://sqs.eu-west-1.amazonaws.com/1/by-url"),
        ],
        "by-url",
    ),
    (
        "topic publish",
        &[("messaging.system", "kafka"), ("messaging.destination.name", "topic-new")],
        "topic-new",
    ),
    (
        "topic send",
        &[("messaging.system", "kafka"), ("messaging.destination", "topic-old")],
        "topic-old",
    ),
    ("mq send", &[("messaging.system", "rabbitmq"), ("server.address", "mq.internal")], "mq.internal"),
    ("pulsar send", &[("messaging.system", "pulsar")], "pulsar"),
    (
        "SELECT new",
        &[("db.system.name", "postgresql"), ("db.namespace", "new"), ("server.address", "db-new")],
        "new@db-new",
    ),
    (
        "SELECT old",
        &[("db.system", "mysql"), ("db.name", "old"), ("net.peer.name", "db-old")],
        "old@db-old",
    ),
    ("SELECT", &[("db.system", "mssql"), ("http.host", "db-third")], "mssql@db-third"),
    ("SELECT *", &[("db.system.name", "sqlite"), ("db.namespace", "file@disk")], "file@disk"),
    (
        "SELECT at",
        &[("db.system.name", "oracle.db"), ("db.namespace", "a@b"), ("server.address", "c@d")],
        "a@b@c@d",
    ),
    ("GET key", &[("db.system.name", "redis")], "redis"),
    ("get key", &[("db.system", "memcached")], "memcached"),
    ("POST", &[("aws.remote.service", "ledger")], "ledger"),
    ("POST 2", &[("peer.service", "stock")], "stock"),
    ("shop.v1.Price/Get", &[("rpc.service", "shop.v1.Price")], "shop.v1.Price"),
    ("queue send", &[("messaging.destination.name", "bare-queue")], "bare-queue"),
    ("GET 1", &[("server.address", "one.example")], "one.example"),
    ("GET 2", &[("net.peer.name", "two.example")], "two.example"),
    ("GET 3", &[("http.host", "three.example:8443")], "three.example:8443"),
    ("a call of nobody", &[], "a call of nobody"),
    // X-Ray's own: the database of the same name on two hosts is two
    (
        "ebdb@one.rds.amazonaws.com",
        &[SUBSEGMENT, ("aws.xray.namespace", "remote"), ("db.system", "PostgreSQL"), ("db.name", "ebdb")],
        "ebdb@one.rds.amazonaws.com",
    ),
    (
        "ebdb@two.rds.amazonaws.com",
        &[SUBSEGMENT, ("aws.xray.namespace", "remote"), ("db.system", "PostgreSQL"), ("db.name", "ebdb")],
        "ebdb@two.rds.amazonaws.com",
    ),
    (
        "pay.example",
        &[SUBSEGMENT, ("aws.xray.namespace", "remote"), ("http.host", "other")],
        "pay.example",
    ),
];

/// A trace for each of [`SPELLINGS`], of a service `caller`; the names of its call's callee. Every other call of another protocol stands in no segment.
pub(crate) fn spelled() -> Vec<(Trace, &'static str)> {
    let of = |(number, (name, attributes, called)): (usize, &Spelling)| {
        let alone = number % 2 == 1 && !attributes.is_empty() && !attributes.contains(&SUBSEGMENT);
        let call = Span::new(2, u64::from(!alone), name, "CLIENT", "caller", (1, 5)).with(attributes);
        let mut spans = vec![call];
        if !alone {
            spans.push(Span::new(1, 0, "GET /", "SERVER", "caller", (0, 10)));
        }
        (trace(100 + number as u8, spans), *called)
    };
    SPELLINGS.iter().enumerate().map(of).collect()
}

/// The groups that expressions of the table ask for.
pub(crate) fn groups() -> Vec<NamedGroup> {
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

/// Each expression of the table, and the numbers of the traces that it lets through.
pub(crate) fn table() -> Vec<(String, String, Expression)> {
    let rows = include_str!("matches/table.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |row: &str| {
        let (expected, text) = row.split_once('|').expect("traces | expression");
        let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.trim().to_string();
        let expression = Expression::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (expected, text, expression.with_groups(&groups()))
    };
    rows.map(row).collect()
}
