//! How the story is told: a call's frame becomes a span or a segment, and lines of log, in its service's protocol.

use chrono::DateTime;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span};
use serde_json::{Value, json};

use super::super::otlp::{Attribute, any, attribute};
use super::services::{SERVICES, Speech, log_group};
use super::{Item, Shop};
use crate::model::{SpanId, TraceId, severity};

pub(super) const MILLI: i64 = 1_000_000;

/// A span's kind, by OTLP's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Server = 2,
    Client = 3,
    Producer = 4,
}

/// A span while it runs.
pub(super) struct Frame {
    pub(super) trace: TraceId,
    pub(super) service: usize,
    pub(super) host: usize,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) start: i64,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed.
    pub(super) error: Option<String>,
    /// Type, message and stack trace.
    pub(super) exception: Option<(String, String, String)>,
    /// X-Ray: calls that it made itself.
    pub(super) subsegments: Vec<Value>,
}

impl Frame {
    pub(super) fn set(&mut self, key: &'static str, value: impl Into<Attribute>) {
        self.attributes.push((key, value.into()));
    }

    pub(super) fn skew(&self) -> i64 {
        SERVICES[self.service].hosts[self.host].1 * MILLI
    }
}

impl Shop {
    /// Begins a span on any host of a service.
    pub(super) fn enter(&mut self, trace: TraceId, service: usize, parent: Option<SpanId>, kind: Kind, name: &str, at: i64) -> Frame {
        let host = self.values.range(0, SERVICES[service].hosts.len() as i64 - 1) as usize;
        self.start(trace, service, host, parent, kind, name, at)
    }

    /// Begins a call that `caller` makes to a peer.
    pub(super) fn enter_client(&mut self, caller: &Frame, name: &str, peer: &'static str, at: i64) -> Frame {
        let mut frame = self.start(caller.trace, caller.service, caller.host, Some(caller.id), Kind::Client, name, at);
        frame.set("peer.service", peer);
        frame.set("server.address", peer);
        frame
    }

    #[expect(clippy::too_many_arguments, reason = "a span has that many parts")]
    pub(super) fn start(&mut self, trace: TraceId, service: usize, host: usize, parent: Option<SpanId>, kind: Kind, name: &str, at: i64) -> Frame {
        // `bytes` is never all zero
        let id = SpanId::from_bytes(&self.values.bytes::<8>()).expect("the bytes are eight and not all zero");
        Frame {
            trace,
            service,
            host,
            id,
            parent,
            kind,
            name: name.to_string(),
            start: at,
            attributes: Vec::new(),
            error: None,
            exception: None,
            subsegments: Vec::new(),
        }
    }

    /// A query that begins soon after the span; gives its end.
    pub(super) fn database(&mut self, frame: &mut Frame, system: &'static str, summary: &'static str, median_millis: f64) -> i64 {
        let at = frame.start + self.values.around(0.7);
        self.call_database(frame, system, summary, at, median_millis)
    }

    pub(super) fn call_database(&mut self, frame: &mut Frame, system: &'static str, summary: &'static str, at: i64, median_millis: f64) -> i64 {
        let end = at + self.values.around(median_millis);
        let mut query = self.start(frame.trace, frame.service, frame.host, Some(frame.id), Kind::Client, summary, at);
        if SERVICES[frame.service].speech.is_xray() {
            let operation = summary.split(' ').next().unwrap_or(summary);
            frame.subsegments.push(json!({
                "name": "DynamoDB", "id": query.id.to_string(), "namespace": "aws",
                "start_time": seconds(at + frame.skew()), "end_time": seconds(end + frame.skew()),
                "aws": {"operation": operation, "table_name": "stock", "region": "eu-west-1", "request_id": self.values.hex(32).to_uppercase()},
                "http": {"response": {"status": 200}},
            }));
            return end;
        }
        query.set("db.system.name", system);
        query.set("db.query.summary", summary);
        self.leave(query, end);
        end
    }

    /// Ends a server span and counts it.
    pub(super) fn served(&mut self, mut frame: Frame, end: i64, route: &'static str, status: i64) {
        frame.set("http.response.status_code", status);
        self.meters.request(frame.service, route, status, end - frame.start);
        self.leave(frame, end);
    }

    /// Ends a span: it is sent when it ends, as exporters and the X-Ray SDKs do.
    pub(super) fn leave(&mut self, frame: Frame, end: i64) {
        let skew = frame.skew();
        if SERVICES[frame.service].speech.is_xray() {
            let document = segment(&frame, Some(end));
            self.at(end, Item::Segment(document.to_string()));
            return;
        }
        let mut events = Vec::new();
        if let Some((kind, message, stack)) = &frame.exception {
            events.push(span::Event {
                time_unix_nano: unsigned(end + skew),
                name: "exception".into(),
                attributes: vec![
                    attribute("exception.type", kind.as_str()),
                    attribute("exception.message", message.as_str()),
                    attribute("exception.stacktrace", stack.as_str()),
                ],
                ..span::Event::default()
            });
        }
        let span = Span {
            trace_id: frame.trace.as_bytes().to_vec(),
            span_id: frame.id.as_bytes().to_vec(),
            parent_span_id: frame.parent.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
            flags: 1,
            name: frame.name,
            kind: frame.kind as i32,
            start_time_unix_nano: unsigned(frame.start + skew),
            end_time_unix_nano: unsigned(end + skew),
            attributes: frame.attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
            events,
            status: frame.error.map(|message| Status { message, code: 2 }),
            ..Span::default()
        };
        let (service, host) = (frame.service, frame.host);
        self.at(
            end,
            Item::Span {
                service,
                host,
                span: Box::new(span),
            },
        );
    }

    // --- log lines --------------------------------------------------------------------------------------------------

    /// A line of the service in the span, in the service's own manner.
    pub(super) fn log(&mut self, frame: &Frame, at: i64, severity: &'static str, body: String, attributes: Vec<KeyValue>) {
        match SERVICES[frame.service].speech {
            Speech::Otlp => {
                let record = log_record(at + frame.skew(), severity, body, attributes, Some(frame));
                let (service, host) = (frame.service, frame.host);
                self.at(at, Item::Log { service, host, record });
            }
            Speech::EcsJson => self.log_json(frame, at, severity, "c.s.payment.Application", &body, &[]),
            Speech::EcsPlain | Speech::Lambda => {
                let time = utc(at + frame.skew(), "%Y-%m-%d %H:%M:%S%.3f");
                let line = format!("{time} {severity:<5} {body} AWS-XRAY-TRACE-ID: {}@{}", frame.trace.to_xray(), frame.id);
                self.event(frame, at, line);
            }
        }
    }

    /// A JSON line as logstash-logback-encoder writes it, with W3C's spelling of the IDs.
    pub(super) fn log_json(&mut self, frame: &Frame, at: i64, severity: &str, logger: &str, message: &str, fields: &[(&str, Value)]) {
        let mut line = json!({
            "@timestamp": utc(at + frame.skew(), "%Y-%m-%dT%H:%M:%S%.3fZ"), "level": severity, "logger": logger,
            "thread": format!("http-nio-8080-exec-{}", self.values.range(1, 20)), "message": message,
            "trace_id": frame.trace.to_string(), "span_id": frame.id.to_string(),
        });
        for (key, value) in fields {
            line[*key] = value.clone();
        }
        self.event(frame, at, line.to_string());
    }

    /// A stack trace as log4j's pattern layout writes it, with X-Ray's spelling of the ID.
    pub(super) fn log_stack(&mut self, frame: &Frame, at: i64, message: &str, stack: &str) {
        let time = utc(at + frame.skew(), "%Y-%m-%d %H:%M:%S%.3f");
        let (trace, id) = (frame.trace.to_xray(), frame.id);
        let line = format!("{time} ERROR [http-nio-8080-exec-7] c.s.payment.BankClient - AWS-XRAY-TRACE-ID: {trace}@{id} - {message}\n{stack}");
        self.event(frame, at, line);
    }

    /// The access log of the frontend, and the request's attributes on its span.
    pub(super) fn respond(&mut self, page: &mut Frame, method: &'static str, path: &'static str, status: i64, at: i64) {
        let client = self.values.public_ip();
        page.set("http.request.method", method);
        page.set("http.route", path);
        page.set("url.path", path);
        page.set("client.address", client.clone());
        let (user, bytes, agent) = (self.values.user(), self.values.range(200, 60_000), self.values.range(120, 140));
        let time = utc(at + page.skew(), "%d/%b/%Y:%H:%M:%S +0000");
        let body = format!(
            "{client} - {user} [{time}] \"{method} {path} HTTP/1.1\" {status} {bytes} \"https://shop.example.com/\" \"Mozilla/5.0 (X11; Linux x86_64; rv:{agent}.0)\""
        );
        let severity = match status {
            500.. => "ERROR",
            400.. => "WARN",
            _ => "INFO",
        };
        let attributes = vec![attribute("http.response.status_code", status), attribute("log.format", "combined")];
        self.log(page, at, severity, body, attributes);
    }

    /// A line in the service's log stream.
    pub(super) fn event(&mut self, frame: &Frame, at: i64, message: String) {
        let stream = self.streams[frame.service][frame.host].clone();
        let group = log_group(frame.service);
        let millis = (at + frame.skew()).div_euclid(MILLI);
        self.at(
            at,
            Item::Event {
                group,
                stream,
                millis,
                message,
            },
        );
    }

    pub(super) fn java_stack(&mut self, exception: &str, message: &str) -> String {
        let mut stack = format!("{exception}: {message}");
        for (class, method) in [
            ("com.shop.payment.BankClient", "post"),
            ("com.shop.payment.BankClient", "charge"),
            ("com.shop.payment.RetryTemplate", "lambda$execute$0"),
            ("com.shop.payment.ChargeService", "charge"),
            ("com.shop.payment.ChargeController", "create"),
            ("org.springframework.web.method.support.InvocableHandlerMethod", "doInvoke"),
            ("org.springframework.web.servlet.DispatcherServlet", "doDispatch"),
            ("java.base/java.lang.Thread", "run"),
        ] {
            let file = class.rsplit('.').next().unwrap_or(class);
            stack.push_str(&format!("\n\tat {class}.{method}({file}.java:{})", self.values.range(30, 700)));
        }
        stack.push_str(
            "\nCaused by: java.io.IOException: connection reset by peer\n\tat java.base/sun.nio.ch.SocketDispatcher.read0(Native Method)\n\t... 14 more",
        );
        stack
    }
}

/// The X-Ray document of a span; without an end, in progress.
pub(super) fn segment(frame: &Frame, end: Option<i64>) -> Value {
    let service = &SERVICES[frame.service];
    let skew = frame.skew();
    let mut document = json!({
        "name": service.name, "id": frame.id.to_string(), "trace_id": frame.trace.to_xray(), "start_time": seconds(frame.start + skew),
    });
    if let Some(parent) = frame.parent {
        document["parent_id"] = parent.to_string().into();
    }
    match end {
        Some(end) => document["end_time"] = seconds(end + skew).into(),
        None => document["in_progress"] = true.into(),
    }
    let text = |key: &str| {
        frame.attributes.iter().find(|(name, _)| *name == key).and_then(|(_, value)| match value {
            Attribute::Text(text) => Some(text.clone()),
            _ => None,
        })
    };
    if let Some(method) = text("http.request.method") {
        let url = format!("http://{}:8080{}", service.name, text("url.path").unwrap_or_default());
        document["http"] = json!({"request": {"method": method, "url": url}, "response": {"status": 200}});
    }
    document["origin"] = match service.speech {
        Speech::Lambda => "AWS::Lambda::Function".into(),
        _ => "AWS::ECS::Fargate".into(),
    };
    document["service"] = json!({"version": service.version});
    let mut aws = json!({"account_id": "123456789012", "cloudwatch_logs": [{"log_group": log_group(frame.service)}]});
    if let Some(request_id) = text("aws.request_id") {
        aws["request_id"] = request_id.into();
    }
    document["aws"] = aws;
    document["annotations"] = json!({"environment": "demo", "host": service.hosts[frame.host].0});
    if !frame.subsegments.is_empty() {
        document["subsegments"] = frame.subsegments.clone().into();
    }
    document
}

pub(super) fn log_record(at: i64, severity_text: &'static str, body: String, attributes: Vec<KeyValue>, frame: Option<&Frame>) -> LogRecord {
    LogRecord {
        time_unix_nano: unsigned(at),
        observed_time_unix_nano: unsigned(at + MILLI),
        severity_number: severity::number(severity_text).unwrap_or_default(),
        severity_text: severity_text.into(),
        body: Some(any(body)),
        attributes,
        flags: u32::from(frame.is_some()),
        trace_id: frame.map(|frame| frame.trace.as_bytes().to_vec()).unwrap_or_default(),
        span_id: frame.map(|frame| frame.id.as_bytes().to_vec()).unwrap_or_default(),
        ..LogRecord::default()
    }
}

pub(super) fn unsigned(nanos: i64) -> u64 {
    nanos.max(0).unsigned_abs()
}

/// Seconds as X-Ray's SDKs write them.
pub(super) fn seconds(nanos: i64) -> f64 {
    (nanos / 1_000) as f64 / 1e6
}

pub(super) fn utc(nanos: i64, format: &str) -> String {
    DateTime::from_timestamp_nanos(nanos).format(format).to_string()
}
