//! Metrics of the receivers. What became of records is the ledger's (`tracelake_ingest_records_total`).

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::decode::firehose::Tally;
use crate::telemetry::register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    receiver: &'static str,
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DaemonLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignatureLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

/// Answered calls by receiver (`awslogs`, `awsmetrics`, `xray`, `firehose`), operation of its API (`unknown` for others) and HTTP status.
static REQUESTS: LazyLock<Family<RequestLabels, Counter>> =
    LazyLock::new(|| register("receive_requests", "Answered calls by receiver, operation and HTTP status", Family::default()));
/// What daemons say of themselves in `PutTelemetryRecords`: `received`, `sent`, `spillover` (lost, queue full), `rejected`.
static DAEMON_SEGMENTS: LazyLock<Family<DaemonLabels, Counter>> = LazyLock::new(|| {
    register(
        "receive_xray_daemon_segments",
        "Segments as X-Ray daemons report them, by outcome",
        Family::default(),
    )
});
/// Requests on AWS faces that had to be signed: `verified`; turned away: `missing`, `incomplete`, `unknown_key`, `stale`
/// (its time), `scope` (its day, region or service), `wrong`, `denied` (verified, but without the right).
static SIGNATURES: LazyLock<Family<SignatureLabels, Counter>> = LazyLock::new(|| {
    register(
        "receive_signatures",
        "Requests on AWS faces that had to be signed, by what became of the signature",
        Family::default(),
    )
});
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// What deliveries of Firehose held: `subscription_event`, `control_message` (answered, and nothing kept), `metric_point`, `json`,
/// `line`, `own_copy` (an event that a delivery of this lake's own brought back, and that is not stored again).
static FIREHOSE_RECORDS: LazyLock<Family<KindLabels, Counter>> =
    LazyLock::new(|| register("receive_firehose_records", "What deliveries of Firehose held, by kind", Family::default()));
/// Datagrams taken from the socket, good or bad.
pub(super) static UDP_DATAGRAMS: LazyLock<Counter> =
    LazyLock::new(|| register("receive_xray_udp_datagrams", "X-Ray datagrams taken from the socket", Counter::default()));
/// Bytes of documents between the socket and the write path.
pub(super) static UDP_QUEUE_BYTES: LazyLock<Gauge> = LazyLock::new(|| {
    register(
        "receive_xray_udp_queue_bytes",
        "Bytes of X-Ray documents that wait for the write path",
        Gauge::default(),
    )
});

/// Logs Insights queries that ended, by status (`Complete`, `Failed`, `Cancelled`, `Timeout`).
static INSIGHTS_QUERIES: LazyLock<Family<StatusLabels, Counter>> =
    LazyLock::new(|| register("receive_insights_queries", "Logs Insights queries that ended, by status", Family::default()));

/// Counts a Logs Insights query that ended.
pub(super) fn insights_ended(status: &'static str) {
    INSIGHTS_QUERIES.get_or_create(&StatusLabels { status }).inc();
}

/// Counts an answer.
pub(super) fn answered(receiver: &'static str, operation: &'static str, status: u16) {
    REQUESTS.get_or_create(&RequestLabels { receiver, operation, status }).inc();
}

/// Counts what a daemon reports.
pub(super) fn daemon_segments(outcome: &'static str, n: u64) {
    DAEMON_SEGMENTS.get_or_create(&DaemonLabels { outcome }).inc_by(n);
}

/// Counts a request that had to be signed.
pub(super) fn signature(outcome: &'static str) {
    SIGNATURES.get_or_create(&SignatureLabels { outcome }).inc();
}

/// Counts what a delivery held.
pub(super) fn firehose(tally: &Tally) {
    for (kind, n) in [
        ("subscription_event", tally.subscription_events),
        ("control_message", tally.control_messages),
        ("metric_point", tally.metric_points),
        ("json", tally.json),
        ("line", tally.lines),
        ("own_copy", tally.own_copies),
    ] {
        FIREHOSE_RECORDS.get_or_create(&KindLabels { kind }).inc_by(n);
    }
}
