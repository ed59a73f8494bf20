//! What queries do, counted.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::telemetry::register;

/// `kind`: `search`, `search_for_report`, `histogram`, `count`, `count_by`, `facets`, `trace`, `record`, `sql`, `tail`;
/// `outcome`: `complete`, `partial`, `bad_query`, `busy`, `failed`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Labels {
    pub(super) kind: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
}

/// `workers`: `interactive`, `batch`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Workers {
    pub(super) workers: &'static str,
}

/// This part's metrics.
pub(super) struct Metrics {
    pub(super) queries: Family<Labels, Counter>,
    pub(super) seconds: Family<Kind, Histogram>,
    pub(super) open_blocks: Gauge,
    pub(super) row_cache_hits: Counter,
    pub(super) row_cache_misses: Counter,
    pub(super) row_cache_bytes: Gauge,
    pub(super) work: Family<Workers, Gauge>,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    queries: register("query_queries", "Queries answered, by kind and outcome", Family::default()),
    seconds: register(
        "query_seconds",
        "Time from question to answer, waiting included",
        Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 8))),
    ),
    work: register(
        "query_work",
        "Pieces of work that queries have on the threads that compute, running or queued",
        Family::default(),
    ),
    row_cache_hits: register("query_row_cache_hits", "Rows of blocks that answers found kept", Counter::default()),
    row_cache_misses: register("query_row_cache_misses", "Rows of blocks that were read for an answer", Counter::default()),
    row_cache_bytes: register("query_row_cache_bytes", "Bytes of answered rows kept", Gauge::default()),
    open_blocks: register("query_open_blocks", "Blocks kept open for queries", Gauge::default()),
});

/// Counts work of a kind that failed.
pub(super) fn failed(kind: &'static str) {
    METRICS.queries.get_or_create(&Labels { kind, outcome: "failed" }).inc();
}
