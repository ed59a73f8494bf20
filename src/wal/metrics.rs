//! The log's metrics; no labels, for a process has one log.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::telemetry::register;

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::register);

pub(super) struct Metrics {
    pub append_seconds: Histogram,
    pub fsync_seconds: Histogram,
    pub group_frames: Histogram,
    pub appended_frames: Counter,
    pub appended_bytes: Counter,
    pub waiting_bytes: Gauge,
    pub torn_frames: Counter,
    pub corrupt_frames: Counter,
    pub quarantined_segments: Counter,
    pub failed_groups: Counter,
}

impl Metrics {
    fn register() -> Self {
        // 50 µs (a sync that the disk's cache takes) to 6.5 s (a stalled volume)
        let seconds = || Histogram::new(exponential_buckets(50e-6, 2.0, 18));
        Self {
            append_seconds: register("wal_append_seconds", "Time from append to its durable answer", seconds()),
            fsync_seconds: register("wal_fsync_seconds", "Time of one fdatasync of a group", seconds()),
            group_frames: register(
                "wal_group_frames",
                "Frames written and synced together",
                Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            ),
            appended_frames: register("wal_appended_frames", "Frames made durable", Counter::default()),
            appended_bytes: register("wal_appended_bytes", "Bytes of frames made durable", Counter::default()),
            waiting_bytes: register("wal_waiting_bytes", "Bytes of frames that blocks do not cover yet", Gauge::default()),
            torn_frames: register("wal_torn_frames", "Torn frames cut off at start", Counter::default()),
            corrupt_frames: register("wal_corrupt_frames", "Frames that replay could not read", Counter::default()),
            quarantined_segments: register("wal_quarantined_segments", "Segments copied to quarantine", Counter::default()),
            failed_groups: register(
                "wal_failed_groups",
                "Groups whose write or sync failed, rewritten ones included",
                Counter::default(),
            ),
        }
    }
}
