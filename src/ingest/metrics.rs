//! Metrics of the write path.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::head::Head;
use crate::model::Signal;
use crate::telemetry::register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    receiver: String,
    signal: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

/// Records by receiver (`otlp`, `awslogs`, `xray`, `own`), signal, outcome (`accepted`, `repeated`, `refused`, `rejected`,
/// `dropped`) and, for the last two, reason.
static RECORDS: LazyLock<Family<RecordLabels, Counter>> =
    LazyLock::new(|| register("ingest_records", "Records by receiver, signal, outcome and reason", Family::default()));

/// Unflushed rows.
pub(super) static HEAD_ROWS: LazyLock<Gauge> = LazyLock::new(|| register("ingest_head_rows", "Rows that no block covers yet", Gauge::default()));
/// Bytes of memory of unflushed rows.
pub(super) static HEAD_BYTES: LazyLock<Gauge> = LazyLock::new(|| register("ingest_head_bytes", "Memory of rows that no block covers yet", Gauge::default()));
/// Flushes that ended in a catalog commit.
pub(super) static FLUSHES: LazyLock<Counter> = LazyLock::new(|| register("ingest_flushes", "Flushes committed to the catalog", Counter::default()));
/// Enters what the head holds.
pub(super) fn head(head: &Head) {
    HEAD_ROWS.set(head.rows() as i64);
    HEAD_BYTES.set(head.bytes() as i64);
}

/// Requests that waited for blocks as long as they may, and were then taken.
pub(super) static WAITED_IN_VAIN: LazyLock<Counter> = LazyLock::new(|| {
    register(
        "ingest_waited_in_vain",
        "Requests that waited for blocks as long as they may, and were then taken",
        Counter::default(),
    )
});
/// Requests that are no longer known though they are young enough: a repetition of one would be stored.
pub(super) static REPEATS_FORGOTTEN: LazyLock<Counter> = LazyLock::new(|| {
    register(
        "ingest_repeats_forgotten",
        "Requests forgotten before their time, since [ingest] max_remembered_requests came after them",
        Counter::default(),
    )
});
/// Notes of traces that have lost spans, which cannot be read.
pub(super) static UNREADABLE_NOTES: LazyLock<Counter> = LazyLock::new(|| {
    register(
        "ingest_unreadable_notes_of_lost_spans",
        "Notes of traces that have lost spans to a delete which cannot be read: summaries of those traces are not corrected",
        Counter::default(),
    )
});
/// Attempts to put or commit that failed and are tried again.
pub(super) static FLUSH_RETRIES: LazyLock<Counter> =
    LazyLock::new(|| register("ingest_flush_retries", "Failed attempts to put blocks or commit them", Counter::default()));
/// From cut to commit.
pub(super) static FLUSH_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    register(
        "ingest_flush_duration_seconds",
        "From the cut to the catalog commit",
        Histogram::new(exponential_buckets(0.01, 2.0, 14)),
    )
});
/// Rows in flushed blocks.
pub(super) static FLUSHED_ROWS: LazyLock<Counter<u64, AtomicU64>> =
    LazyLock::new(|| register("ingest_flushed_rows", "Rows committed in blocks", Counter::default()));
/// Frames that replay could not decode any more: a copy of their segment lies in the quarantine folder.
pub(super) static REPLAY_FAILURES: LazyLock<Counter> =
    LazyLock::new(|| register("ingest_replay_failures", "Frames that could not be decoded at replay", Counter::default()));

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatermarkLabels {
    receiver: String,
    signal: String,
    stage: &'static str,
}

/// Event time, seconds since the epoch, by receiver, signal and stage: `searchable` (the newest record), `parquet` and `lake` (all records
/// up to there are).
static WATERMARKS: LazyLock<Family<WatermarkLabels, Gauge<f64, AtomicU64>>> = LazyLock::new(|| {
    register(
        "ingest_watermark_seconds",
        "Event time up to which records are searchable, in Parquet, in the lake",
        Family::default(),
    )
});

pub(super) fn watermark(receiver: &str, signal: &str, stage: &'static str, nanos: i64) {
    let labels = WatermarkLabels {
        receiver: receiver.into(),
        signal: signal.into(),
        stage,
    };
    WATERMARKS.get_or_create(&labels).set(nanos as f64 / 1e9);
}

pub(super) fn records(receiver: &str, signal: Signal, outcome: &'static str, reason: &'static str) -> Counter {
    RECORDS
        .get_or_create(&RecordLabels {
            receiver: receiver.to_string(),
            signal: signal.name(),
            outcome,
            reason,
        })
        .clone()
}
