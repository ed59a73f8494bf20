//! What this part counts: the page cache and the token cache.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::register;

/// This part's metrics.
pub(super) struct Metrics {
    pub(super) page_cache_hits: Counter,
    pub(super) page_cache_misses: Counter,
    pub(super) page_cache_bytes: Gauge,
    pub(super) token_cache_bytes: Gauge,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    page_cache_hits: register("block_page_cache_hits", "Parquet pages that point reads found decompressed", Counter::default()),
    page_cache_misses: register(
        "block_page_cache_misses",
        "Parquet pages that point reads had to decompress",
        Counter::default(),
    ),
    page_cache_bytes: register("block_page_cache_bytes", "Bytes of decompressed Parquet pages kept", Gauge::default()),
    token_cache_bytes: register(
        "block_token_cache_bytes",
        "Bytes of blocks' tokens kept for questions about pieces of words",
        Gauge::default(),
    ),
});
