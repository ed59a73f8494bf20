//! Metrics of correlation.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Source;
use crate::telemetry::register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLabels {
    by: &'static str,
}

/// The metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    linked: Family<ByLabels, Counter>,
    /// IDs that were forgotten to make room.
    pub(super) forgotten: Counter,
    /// IDs that are remembered.
    pub(super) remembered: Gauge,
    /// Records that do not wait for their trace, since too many do.
    pub(super) not_awaited: Counter,
}

impl Metrics {
    /// Counts records whose trace was found, by how it was ([`Source`]).
    pub(super) fn linked(&self, by: Source, n_records: u64) {
        self.linked.get_or_create(&ByLabels { by: by.word() }).inc_by(n_records);
    }
}

/// The one registry's.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    linked: register(
        "correlate_linked_records",
        "Log records whose trace ID was found, by how: attribute, json, text, request_id, span_id",
        Family::default(),
    ),
    forgotten: register(
        "correlate_forgotten_ids",
        "Request IDs and span IDs that were forgotten to make room, [ingest] max_linked_ids",
        Counter::default(),
    ),
    remembered: register(
        "correlate_remembered_ids",
        "Request IDs and span IDs of which the trace is remembered",
        Gauge::default(),
    ),
    not_awaited: register(
        "correlate_not_awaited_records",
        "Log records that name a request and are no longer waited for to be told its trace, since half of [ingest] max_linked_ids came later",
        Counter::default(),
    ),
});
