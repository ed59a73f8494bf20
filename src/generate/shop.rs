//! A simulated shop of eight services, for the demo: realistic telemetry in three protocols, and an incident.
//!
//! | service | logs | spans | hosts |
//! |---|---|---|---|
//! | frontend, search, cart, checkout | OTLP | OTLP | the second frontend's clock is 1.8 s ahead |
//! | payment | `PutLogEvents` to `/ecs/shop/payment`, JSON lines and Java stack traces | OTLP | |
//! | inventory | `PutLogEvents` to `/ecs/shop/inventory`, plain lines | X-Ray datagrams | the second's is 2.5 s behind |
//! | shipping, email | `PutLogEvents` to `/aws/lambda/…`, `START`, `END`, `REPORT` | X-Ray datagrams | |
//!
//! A request keeps one trace ID through all of them, in W3C's spelling on one side and X-Ray's on the other. From
//! `incident_after` on, for `incident_for`, the bank behind payment is slow and fails: payment logs errors, checkout
//! retries and gives up, the retry queue grows.
//!
//! [`Shop`] is a pure machine: [`Shop::advance`] gives what is due up to a time, in the same way for the same seed and
//! start. [`run`] drives it by the clock and sends.

mod services;
mod telling;
mod story;
mod metrics;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Result;
use super::otlp;
use super::send::{Counts, Sender, Targets};
use super::values::Values;
use crate::model::{Clock, Signal};

pub use services::SERVICES;

/// How often what is due is sent.
const SEND_EVERY: Duration = Duration::from_millis(250);
/// Time between two exports of metrics.
const METRICS_EVERY_NANOS: i64 = 10_000_000_000;
/// Events of one `PutLogEvents` call.
const MAX_EVENTS: usize = 1_000;
/// Instrumentation scope of what is sent.
const SCOPE: &str = "shop";

/// How the shop runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the values.
    pub seed: u64,
    /// Requests of customers a second (12); each makes about ten spans and as many log records.
    pub requests_per_second: f64,
    /// From the start to the incident (60 s).
    pub incident_after: Duration,
    /// How long it lasts (4 min).
    pub incident_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 42,
            requests_per_second: 12.0,
            incident_after: Duration::from_secs(60),
            incident_for: Duration::from_secs(240),
        }
    }
}

/// What clients have to send, gathered as they would.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// One request a service.
    pub logs: Vec<ExportLogsServiceRequest>,
    /// One request a service.
    pub traces: Vec<ExportTraceServiceRequest>,
    /// One request a service, every ten seconds.
    pub metrics: Vec<ExportMetricsServiceRequest>,
    /// By log group and stream: milliseconds and message, in order of time.
    pub events: BTreeMap<(String, String), Vec<(i64, String)>>,
    /// X-Ray documents.
    pub segments: Vec<String>,
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
enum Item {
    Log {
        service: usize,
        host: usize,
        record: LogRecord,
    },
    Span {
        service: usize,
        host: usize,
        span: Box<Span>,
    },
    Event {
        group: String,
        stream: String,
        millis: i64,
        message: String,
    },
    Segment(String),
}

/// An item and when it is sent; the number keeps equal times in order.
#[derive(Clone, Debug)]
struct Due {
    at_nanos: i64,
    number: u64,
    item: Item,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at_nanos, self.number) == (other.at_nanos, other.number)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_nanos, self.number).cmp(&(other.at_nanos, other.number))
    }
}

/// The shop at one moment.
#[derive(Debug)]
pub struct Shop {
    options: Options,
    values: Values,
    start_nanos: i64,
    next_request_nanos: i64,
    next_metrics_nanos: i64,
    number: u64,
    due: BinaryHeap<Reverse<Due>>,
    /// Log streams of the Lambda functions' instances, by service.
    streams: Vec<Vec<String>>,
    meters: metrics::Meters,
}

impl Shop {
    /// A shop that opens at `start_nanos`.
    pub fn new(options: Options, start_nanos: i64) -> Self {
        let values = Values::new(options.seed);
        let streams = services::log_streams(&values, start_nanos);
        Self {
            options,
            values,
            start_nanos,
            next_request_nanos: start_nanos,
            next_metrics_nanos: start_nanos + METRICS_EVERY_NANOS,
            number: 0,
            due: BinaryHeap::new(),
            streams,
            meters: metrics::Meters::new(start_nanos),
        }
    }

    /// Whether the bank is failing at a time.
    pub fn is_incident(&self, at_nanos: i64) -> bool {
        let since = at_nanos.saturating_sub(self.start_nanos);
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let begin = nanos(self.options.incident_after);
        since >= begin && since < begin.saturating_add(nanos(self.options.incident_for))
    }

    /// Lets time pass until `until_nanos`; gives what clients have to send by then.
    pub fn advance(&mut self, until_nanos: i64) -> Telemetry {
        let mut telemetry = Telemetry::default();
        while self.next_request_nanos < until_nanos {
            let at = self.next_request_nanos;
            self.request(at);
            // arrivals of a Poisson process
            let gap = -self.values.unit().max(1e-12).ln() / self.options.requests_per_second.max(0.001);
            self.next_request_nanos = at.saturating_add((gap * 1e9) as i64).max(at + 1);
        }
        while self.next_metrics_nanos < until_nanos {
            let at = self.next_metrics_nanos;
            let is_incident = self.is_incident(at);
            telemetry.metrics.extend(self.meters.export(at, is_incident, &self.values));
            self.next_metrics_nanos += METRICS_EVERY_NANOS;
        }
        let mut logs: BTreeMap<usize, BTreeMap<usize, Vec<LogRecord>>> = BTreeMap::new();
        let mut spans: BTreeMap<usize, BTreeMap<usize, Vec<Span>>> = BTreeMap::new();
        while self.due.peek().is_some_and(|due| due.0.at_nanos < until_nanos) {
            let Some(Reverse(due)) = self.due.pop() else {
                break;
            };
            match due.item {
                Item::Log { service, host, record } => logs.entry(service).or_default().entry(host).or_default().push(record),
                Item::Span { service, host, span } => spans.entry(service).or_default().entry(host).or_default().push(*span),
                Item::Event {
                    group,
                    stream,
                    millis,
                    message,
                } => telemetry.events.entry((group, stream)).or_default().push((millis, message)),
                Item::Segment(document) => telemetry.segments.push(document),
            }
        }
        for (service, by_host) in logs {
            let by_resource = by_host.into_iter().map(|(host, records)| (services::resource_of(service, host), records));
            telemetry.logs.push(otlp::logs_request(by_resource.collect(), SCOPE));
        }
        for (service, by_host) in spans {
            let by_resource = by_host.into_iter().map(|(host, spans)| (services::resource_of(service, host), spans));
            telemetry.traces.push(otlp::traces_request(by_resource.collect(), SCOPE));
        }
        for events in telemetry.events.values_mut() {
            // the API refuses events out of order; clients sort before they send
            events.sort_by_key(|(millis, _)| *millis);
        }
        telemetry
    }

    /// Enters something that is sent at a time by the true clock.
    fn at(&mut self, at_nanos: i64, item: Item) {
        self.number += 1;
        self.due.push(Reverse(Due {
            at_nanos,
            number: self.number,
            item,
        }));
    }
}

impl Telemetry {
    /// Log records, events, spans, segments (their subsegments not counted) and data points.
    pub fn n_records(&self) -> u64 {
        let logs: usize = self.logs.iter().map(n_logs).sum();
        let spans: usize = self.traces.iter().map(n_spans).sum();
        let points: usize = self.metrics.iter().map(metrics::n_points).sum();
        let events: usize = self.events.values().map(Vec::len).sum();
        (logs + spans + points + events + self.segments.len()) as u64
    }
}

fn n_logs(request: &ExportLogsServiceRequest) -> usize {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.map(|scope| scope.log_records.len()).sum()
}

fn n_spans(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

/// Runs the shop by `clock` and sends what happens to `targets`, until `stop`. What cannot be sent is counted, and the
/// shop goes on.
pub async fn run(options: Options, targets: Targets, clock: Arc<dyn Clock>, stop: CancellationToken) -> Result<Counts> {
    let sender = Sender::open(targets).await?;
    let mut shop = Shop::new(options, clock.now_nanos());
    let mut ticks = tokio::time::interval(SEND_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let telemetry = shop.advance(clock.now_nanos());
        tokio::select! {
            () = stop.cancelled() => break,
            () = send(&sender, telemetry) => {}
        }
    }
    Ok(sender.counters.read())
}

/// Sends everything, each client by itself.
async fn send(sender: &Sender, telemetry: Telemetry) {
    let mut requests: Vec<(Signal, Bytes, u64)> = Vec::new();
    requests.extend(telemetry.logs.iter().map(|r| (Signal::Logs, r.encode_to_vec().into(), n_logs(r) as u64)));
    requests.extend(telemetry.traces.iter().map(|r| (Signal::Traces, r.encode_to_vec().into(), n_spans(r) as u64)));
    requests.extend(
        telemetry
            .metrics
            .iter()
            .map(|r| (Signal::Metrics, r.encode_to_vec().into(), metrics::n_points(r) as u64)),
    );
    let exports = requests.into_iter().map(|(signal, body, n)| async move {
        if let Err(message) = sender.otlp(signal, body, n, false).await {
            debug!(signal = signal.name(), message, "the shop could not export");
        }
    });
    let puts = telemetry.events.iter().map(|((group, stream), events)| async move {
        for events in events.chunks(MAX_EVENTS) {
            if let Err(message) = sender.put_log_events(group, stream, events).await {
                debug!(group, message, "the shop could not put log events");
            }
        }
    });
    let segments = async {
        for document in &telemetry.segments {
            sender.segment(document).await;
        }
    };
    futures::join!(futures::future::join_all(exports), futures::future::join_all(puts), segments);
}

#[cfg(test)]
mod tests;
