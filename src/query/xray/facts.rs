//! What a trace consists of, as X-Ray counts it.
//!
//! | inferred service | name | type |
//! |---|---|---|
//! | an AWS call (`aws.service`, `rpc.system` = `aws-api`, namespace `aws`) on a table or queue | the table or queue | `AWS::DynamoDB::Table`, `AWS::SQS::Queue` |
//! | another AWS call | the service | `AWS::<service>` |
//! | a database call (`db.system`) | `db.name` or the database, `@` and the host if there is one; of an X-Ray subsegment its own name | `Database::<system>` |
//! | a call of a queue (`messaging.system`) | the destination, or the host | `Queue::<system>`, `AWS::SQS::Queue`, `AWS::SNS` |
//! | any other call | `aws.remote.service`, `peer.service`, the RPC service, the host, the span's name: the first there is | `remote` |
//!
//! The attributes are those of [`names`], from which what the index is asked is made too ([`super::needs`]): nothing here reads a name from elsewhere.
//!
//! A call that begins its segment itself, as the only span of a script with instrumentation of its client alone does, is both: the segment
//! of who calls, and the call within it ([`TraceFacts::is_split`]). Of such a one that says nothing of whom it is for, nobody is inferred.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::naming;
use crate::decode::{ANNOTATIONS, TEXT_ANNOTATIONS};
use crate::model::TraceId;
use crate::query::{Attributes, SpanHit, Trace};

/// Flags of a segment, a call or a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A 4xx answer.
    pub error: bool,
    /// A 5xx answer, or another failure.
    pub fault: bool,
    /// A 429 answer.
    pub throttle: bool,
}

impl Flags {
    /// None is set.
    pub fn is_ok(self) -> bool {
        !(self.error || self.fault || self.throttle)
    }
}

/// A service as X-Ray tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `AWS::ECS::Container`, `remote`, …; empty: not known.
    pub kind: String,
    /// The AWS account; empty: not known.
    pub account_id: String,
}

impl Service {
    /// As `ServiceId` of the API.
    pub fn to_json(&self) -> Value {
        let mut out = json!({ "Name": self.name, "Names": [self.name] });
        for (key, value) in [("Type", &self.kind), ("AccountId", &self.account_id)] {
            if !value.is_empty() {
                out[key] = value.as_str().into();
            }
        }
        out
    }
}

/// A segment, or an inferred one.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its span among those of the trace.
    pub span: usize,
    /// Who.
    pub service: usize,
    /// Of a service that sends no segments.
    pub is_inferred: bool,
    /// The segment that calls it; `None` of a root.
    pub caller: Option<usize>,
    /// The span that is the call, as the caller sees it.
    pub call: Option<usize>,
}

/// The type of whoever calls from outside.
pub const CLIENT: &str = "client";

/// The client outside of a service that is called from there.
pub fn client_of(service: &Service) -> Service {
    Service {
        name: service.name.clone(),
        kind: CLIENT.into(),
        account_id: String::new(),
    }
}

/// What a trace consists of.
#[derive(Clone, Debug)]
pub struct TraceFacts<'a> {
    /// The trace.
    pub trace: &'a Trace,
    /// Its services, by name.
    pub services: Vec<Service>,
    /// Segments, then inferred ones, each in order of display.
    pub segments: Vec<Segment>,
    /// Of each span, the segment it belongs to.
    pub segment_of: Vec<usize>,
    /// The spans of each segment, its own first; none of an inferred one.
    pub spans_of: Vec<Vec<usize>>,
    /// The segment in which it begins.
    pub root: Option<usize>,
}

/// The value of an attribute.
pub fn attribute<'a>(attributes: &'a Attributes, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|name| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()))
        .filter(|value| !value.is_empty())
}

/// A value of the span itself.
pub fn of_span<'a>(span: &'a SpanHit, names: &[&str]) -> Option<&'a str> {
    attribute(&span.attributes, names)
}

/// A value of the span's resource.
pub fn of_resource<'a>(span: &'a SpanHit, names: &[&str]) -> Option<&'a str> {
    attribute(&span.resource_attributes, names)
}

/// The names under which clients send what X-Ray asks for.
pub mod names {
    /// The request's URL, or what there is of it.
    pub const URL: &[&str] = &["url.full", "http.url", "url.path", "http.target"];
    /// The request's method.
    pub const METHOD: &[&str] = &["http.request.method", "http.method"];
    /// The client's program.
    pub const USER_AGENT: &[&str] = &["user_agent.original", "http.user_agent"];
    /// The client's address.
    pub const CLIENT_IP: &[&str] = &["client.address", "http.client_ip", "net.peer.ip"];
    /// The answer's status.
    pub const STATUS: &[&str] = &["http.response.status_code", "http.status_code"];
    /// The answer's length.
    pub const LENGTH: &[&str] = &["http.response.body.size", "http.response_content_length"];
    /// Who the request is for.
    pub const USER: &[&str] = &["enduser.id", "user.id"];

    /// The service that sends a span, as AWS's instrumentation for Application Signals finds it out.
    pub const LOCAL: &[&str] = &["aws.local.service"];

    /// The AWS service that is called.
    pub const AWS_SERVICE: &[&str] = &["aws.service", "rpc.service"];
    /// Its table: a name, or a list of names.
    pub const TABLE: &[&str] = &["aws.table_name", "aws.dynamodb.table_names"];
    /// Its queue: a name, or a URL that ends in it.
    pub const AWS_QUEUE: &[&str] = &["aws.queue_url", "aws.sqs.queue.url", "messaging.destination.name"];
    /// The host that is called.
    pub const HOST: &[&str] = &["server.address", "net.peer.name", "http.host"];
    /// What kind of database is called.
    pub const DATABASE_SYSTEM: &[&str] = &["db.system.name", "db.system"];
    /// Which of its databases.
    pub const DATABASE: &[&str] = &["db.namespace", "db.name"];
    /// What kind of queue is called.
    pub const QUEUE_SYSTEM: &[&str] = &["messaging.system"];
    /// Which of its queues.
    pub const QUEUE: &[&str] = &["messaging.destination.name", "messaging.destination"];
    /// Any other service that is called.
    pub const REMOTE: &[&str] = &["aws.remote.service", "peer.service", "rpc.service", "messaging.destination.name"];
    /// All attributes that may name who is called.
    pub const CALLEES: [&[&str]; 9] = [AWS_SERVICE, TABLE, AWS_QUEUE, HOST, DATABASE_SYSTEM, DATABASE, QUEUE_SYSTEM, QUEUE, REMOTE];
}

/// The flags of one span. A throttle is an error, whether its document says so or not.
pub fn flags(span: &SpanHit) -> Flags {
    let told = |name: &str| of_span(span, &[name]).map(|value| value == "true");
    let (error, fault, throttle) = (told("aws.xray.error"), told("aws.xray.fault"), told("aws.xray.throttle"));
    if error.or(fault).or(throttle).is_some() {
        return Flags {
            error: error == Some(true) || throttle == Some(true),
            fault: fault == Some(true),
            throttle: throttle == Some(true),
        };
    }
    let status = of_span(span, names::STATUS).and_then(|status| status.parse::<u32>().ok());
    match status {
        Some(429) => Flags {
            error: true,
            throttle: true,
            fault: false,
        },
        Some(400..=499) => Flags {
            error: true,
            ..Flags::default()
        },
        Some(500..=599) => Flags {
            fault: true,
            ..Flags::default()
        },
        _ => Flags {
            fault: span.status_code == "ERROR",
            ..Flags::default()
        },
    }
}

/// Whether a span begins a segment.
pub fn is_segment(span: &SpanHit, has_parent_here: bool) -> bool {
    match of_span(span, &["aws.xray.type"]) {
        Some("segment") => true,
        Some(_) => false,
        None => !has_parent_here || matches!(span.kind.as_str(), "SERVER" | "CONSUMER"),
    }
}

/// Whether a span is a call of somebody, as the caller sees it.
pub fn is_call(span: &SpanHit) -> bool {
    matches!(span.kind.as_str(), "CLIENT" | "PRODUCER")
}

/// One annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation<'a> {
    /// Under which name, as it was sent.
    pub key: &'a str,
    /// As the store has it.
    pub value: &'a str,
    /// It came as text, whatever it reads as.
    pub is_text: bool,
    /// It came in an X-Ray document, whose names stay as they are.
    pub is_of_xray: bool,
}

impl<'a> Annotation<'a> {
    /// Its name as X-Ray's clients see it, of characters that X-Ray allows.
    pub fn name(self) -> Cow<'a, str> {
        match self.is_of_xray || naming::is_annotation_key(self.key) {
            true => self.key.into(),
            false => naming::annotation_key(self.key).into(),
        }
    }

    /// Whether this name means it: the one that was sent, or the one that clients see.
    pub fn is_called(self, name: &str) -> bool {
        self.key == name || self.name() == name
    }
}

/// Its annotations: what an X-Ray document has as such, or a span of another protocol lists.
pub fn annotations(span: &SpanHit) -> Vec<Annotation<'_>> {
    let listed = |name: &str| {
        let listed = of_span(span, &[name])?;
        serde_json::from_str::<Vec<String>>(listed).ok()
    };
    let Some(keys) = listed(ANNOTATIONS) else { return Vec::new() };
    let texts = listed(TEXT_ANNOTATIONS).unwrap_or_default();
    let is_of_xray = naming::is_of_xray(span);
    let of_key = |key: &String| span.attributes.iter().find(|(name, _)| name == key);
    let all = keys.iter().filter_map(of_key).map(|one| {
        let is_text = texts.contains(&one.0);
        Annotation {
            key: &one.0,
            value: &one.1,
            is_text,
            is_of_xray,
        }
    });
    all.collect()
}

/// The name of whoever sent a segment: `service.name` of its resource. Where there is none, or one that SDKs make up (`unknown_service:java`),
/// `aws.local.service` says more, of which AWS's instrumentation makes `UnknownService` where it knows none either; else the span's own name.
/// What came as an X-Ray document has the document's name.
pub(super) fn own_service(span: &SpanHit) -> &str {
    let told = of_resource(span, &["service.name"]);
    let is_made_up = told.is_none_or(|name| name.starts_with("unknown_service"));
    let local = of_span(span, names::LOCAL).filter(|local| is_made_up && *local != "UnknownService" && !naming::is_of_xray(span));
    local.or(told).unwrap_or(&span.name)
}

/// Who sent a segment.
fn sender(span: &SpanHit) -> Service {
    let kind = naming::origin(span);
    Service {
        name: own_service(span).to_string(),
        kind: kind.unwrap_or_default().to_string(),
        account_id: of_resource(span, &["cloud.account.id"]).unwrap_or_default().to_string(),
    }
}

/// Whether a subsegment calls an AWS service.
pub fn is_aws_call(span: &SpanHit) -> bool {
    of_span(span, &["aws.xray.namespace"]) == Some("aws") || of_span(span, &["rpc.system"]) == Some("aws-api") || of_span(span, &["aws.service"]).is_some()
}

/// What types of queues begin with that are not of AWS: then `messaging.system`, such as `kafka`.
pub const QUEUE: &str = "Queue::";

/// The name of an AWS service as types have it: botocore's clients, and so X-Ray's SDK for Python, send that of the endpoint (`sns`).
fn aws_name(service: &str) -> &str {
    const NAMES: [&str; 18] = [
        "DynamoDB",
        "S3",
        "SQS",
        "SNS",
        "Lambda",
        "Kinesis",
        "Firehose",
        "Events",
        "States",
        "SecretsManager",
        "SSM",
        "STS",
        "KMS",
        "RDS",
        "ECS",
        "EC2",
        "Athena",
        "Glue",
    ];
    NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(service)).unwrap_or(service)
}

/// The one table that is named; a list of several names none.
pub(super) fn table_of(span: &SpanHit) -> Option<Cow<'_, str>> {
    let told = of_span(span, names::TABLE)?;
    match serde_json::from_str::<Vec<String>>(told) {
        Ok(mut tables) if tables.len() == 1 => tables.pop().filter(|table| !table.is_empty()).map(Cow::Owned),
        Ok(_) => None,
        Err(_) => Some(told.into()),
    }
}

/// Who is called by a subsegment, where no segment tells.
pub(super) fn callee(span: &SpanHit) -> Service {
    let called = |name: &str, kind: String| Service {
        name: name.to_string(),
        kind,
        account_id: of_span(span, &["aws.account_id"]).unwrap_or_default().to_string(),
    };
    if is_aws_call(span) {
        let service = of_span(span, names::AWS_SERVICE).unwrap_or(&span.name);
        let queue = of_span(span, names::AWS_QUEUE);
        return match (service.to_ascii_lowercase().as_str(), table_of(span), queue) {
            ("dynamodb", Some(table), _) => called(&table, "AWS::DynamoDB::Table".into()),
            ("sqs", _, Some(queue)) => called(queue.rsplit('/').next().unwrap_or(queue), "AWS::SQS::Queue".into()),
            _ => called(service, format!("AWS::{}", aws_name(service))),
        };
    }
    // an X-Ray subsegment is named after whom it calls
    let own = of_span(span, &["aws.xray.type"]).map(|_| span.name.as_str());
    let host = of_span(span, names::HOST);
    if let Some(system) = of_span(span, names::DATABASE_SYSTEM) {
        let kind = format!("Database::{system}");
        let database = of_span(span, names::DATABASE).unwrap_or(system);
        return match (own, host) {
            (Some(own), _) => called(own, kind),
            (None, Some(host)) => called(&format!("{database}@{host}"), kind),
            (None, None) => called(database, kind),
        };
    }
    if let Some(system) = of_span(span, names::QUEUE_SYSTEM) {
        let kind = match system {
            "aws_sqs" | "AmazonSQS" => "AWS::SQS::Queue".into(),
            "aws_sns" | "AmazonSNS" => "AWS::SNS".into(),
            system => format!("{QUEUE}{system}"),
        };
        return called(of_span(span, names::QUEUE).or(host).unwrap_or(system), kind);
    }
    let name = own.or_else(|| of_span(span, names::REMOTE)).or(host).unwrap_or(&span.name);
    called(name, "remote".into())
}

/// Whether a call says whom it is for, beside its own name.
fn names_callee(span: &SpanHit) -> bool {
    is_aws_call(span) || names::CALLEES.iter().any(|names| of_span(span, names).is_some())
}

impl<'a> TraceFacts<'a> {
    /// Looks through a trace.
    pub fn of(trace: &'a Trace) -> Self {
        let mut facts = TraceFacts {
            trace,
            services: Vec::new(),
            segments: Vec::new(),
            segment_of: Vec::with_capacity(trace.spans.len()),
            spans_of: Vec::new(),
            root: None,
        };
        let mut numbers = BTreeMap::new();
        // parents stand before their children
        for (at, placed) in trace.spans.iter().enumerate() {
            let number = match placed.parent {
                Some(parent) if !is_segment(&placed.span, true) => facts.segment_of[parent],
                parent => {
                    let service = number_of(&mut numbers, sender(&placed.span));
                    facts.segments.push(Segment {
                        span: at,
                        service,
                        is_inferred: false,
                        caller: parent.map(|parent| facts.segment_of[parent]),
                        call: parent,
                    });
                    facts.spans_of.push(Vec::new());
                    facts.segments.len() - 1
                }
            };
            facts.segment_of.push(number);
            facts.spans_of[number].push(at);
        }
        // also of calls around the call: instrumentation of a client within that of a library
        let mut has_segment_below = vec![false; trace.spans.len()];
        for segment in &facts.segments {
            let mut above = segment.call;
            while let Some(at) = above.filter(|at| !has_segment_below[*at]) {
                has_segment_below[at] = true;
                above = trace.spans[at].parent.filter(|parent| facts.segment_of[*parent] == facts.segment_of[at]);
            }
        }
        for (at, placed) in trace.spans.iter().enumerate() {
            let is_own_segment = facts.segments[facts.segment_of[at]].span == at;
            let is_within = !is_own_segment || (facts.is_split(at) && names_callee(&placed.span));
            if is_call(&placed.span) && is_within && !has_segment_below[at] {
                let service = number_of(&mut numbers, callee(&placed.span));
                facts.segments.push(Segment {
                    span: at,
                    service,
                    is_inferred: true,
                    caller: Some(facts.segment_of[at]),
                    call: Some(at),
                });
                facts.spans_of.push(Vec::new());
            }
        }
        let mut services = vec![Service::default(); numbers.len()];
        for (service, number) in numbers {
            services[number] = service;
        }
        facts.services = services;
        let roots = facts.segments.iter().enumerate().filter(|(_, segment)| segment.caller.is_none());
        facts.root = roots.min_by_key(|(_, segment)| facts.span(segment).start_time_unix_nano).map(|(at, _)| at);
        facts
    }

    /// The span of a segment.
    pub fn span(&self, segment: &Segment) -> &'a SpanHit {
        &self.trace.spans[segment.span].span
    }

    /// The service of a segment.
    pub fn service(&self, segment: &Segment) -> &Service {
        &self.services[segment.service]
    }

    /// The span in which the trace begins.
    pub fn root_span(&self) -> Option<&'a SpanHit> {
        self.root.map(|root| self.span(&self.segments[root]))
    }

    /// Seconds from the first start to the last end.
    pub fn duration(&self) -> f64 {
        seconds(self.trace.duration_nano)
    }

    /// Seconds that the root took; `None` while it is in progress.
    pub fn response_time(&self) -> Option<f64> {
        let root = self.root_span().filter(|root| !root.in_progress)?;
        Some(seconds(root.duration_nano))
    }

    /// Error and fault of the root; a throttle anywhere, as the API has it.
    pub fn flags(&self) -> Flags {
        let root = self.root_span().map(flags).unwrap_or_default();
        let throttle = self.trace.spans.iter().any(|placed| flags(&placed.span).throttle);
        Flags { throttle, ..root }
    }

    /// A part is in progress, or the trace has more spans than an answer holds.
    pub fn is_partial(&self) -> bool {
        !self.trace.coverage.complete || self.trace.spans.iter().any(|placed| placed.span.in_progress)
    }

    /// Whether a span is a segment and a call within that segment at once: a call above which there is nothing here. X-Ray's own documents say what
    /// they are.
    pub fn is_split(&self, at: usize) -> bool {
        let span = &self.trace.spans[at].span;
        self.segments[self.segment_of[at]].span == at && is_call(span) && !naming::is_of_xray(span)
    }

    /// The service of the segment that a span belongs to.
    pub(super) fn service_of_span(&self, at: usize) -> &Service {
        &self.services[self.segments[self.segment_of[at]].service]
    }
}

fn number_of(numbers: &mut BTreeMap<Service, usize>, service: Service) -> usize {
    let next = numbers.len();
    *numbers.entry(service).or_insert(next)
}

/// Nanoseconds as seconds.
pub fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// An ID as X-Ray's clients write it, or any other spelling.
pub fn trace_id(text: &str) -> Option<TraceId> {
    TraceId::from_xray(text).or_else(|| TraceId::parse_any(text))
}
