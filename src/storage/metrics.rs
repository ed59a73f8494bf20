//! What this part counts: calls to the store by kind and outcome, their bytes and seconds; hits and misses of the cache.

use std::sync::LazyLock;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Result;
use crate::telemetry::register;

/// Kinds of calls.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Put,
    Get,
    List,
    Delete,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get",
            Op::List => "list",
            Op::Delete => "delete",
        }
    }
}

/// `outcome` is `ok` or the name of an [`ErrorKind`](super::ErrorKind); a record that is not there yet is `not_found`
/// and no failure: followers of the catalog ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    op: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabels {
    op: &'static str,
}

/// `outcome`: `hit`, `miss`, or `corrupt` (a copy that was thrown away).
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    outcome: &'static str,
}

static REQUESTS: LazyLock<Family<RequestLabels, Counter>> =
    LazyLock::new(|| register("storage_requests", "Calls to the store, by kind and outcome", Family::default()));
static REQUEST_SECONDS: LazyLock<Family<OpLabels, Histogram>> = LazyLock::new(|| {
    let buckets = || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]);
    register(
        "storage_request_seconds",
        "Time of a call to the store",
        Family::new_with_constructor(buckets as fn() -> Histogram),
    )
});
static REQUEST_BYTES: LazyLock<Family<OpLabels, Counter>> =
    LazyLock::new(|| register("storage_request_bytes", "Bytes of objects written and read", Family::default()));
static CACHE_LOOKUPS: LazyLock<Family<CacheLabels, Counter>> =
    LazyLock::new(|| register("storage_cache_lookups", "Objects asked of the local cache, by outcome", Family::default()));
static CACHE_EVICTIONS: LazyLock<Counter> = LazyLock::new(|| register("storage_cache_evictions", "Local copies removed to make room", Counter::default()));
static CACHE_BYTES: LazyLock<Gauge> = LazyLock::new(|| register("storage_cache_bytes", "Bytes of local copies", Gauge::default()));

static MAPPED_BYTES: LazyLock<Gauge> = LazyLock::new(|| register("storage_mapped_bytes", "Bytes of mapped files in this process's memory", Gauge::default()));
static MAPPED_GIVEN_BACK: LazyLock<Counter> = LazyLock::new(|| {
    register(
        "storage_mapped_given_back",
        "Times that pages of mapped files were given back to the system, for there were too many",
        Counter::default(),
    )
});

/// Counts one call that began at `started`.
pub(super) fn observe<T>(op: Op, started: Instant, n_bytes: usize, result: &Result<T>) {
    let outcome = match result {
        Ok(_) => "ok",
        Err(error) => error.kind().name(),
    };
    let op = op.name();
    REQUESTS.get_or_create(&RequestLabels { op, outcome }).inc();
    REQUEST_SECONDS.get_or_create(&OpLabels { op }).observe(started.elapsed().as_secs_f64());
    if result.is_ok() {
        REQUEST_BYTES.get_or_create(&OpLabels { op }).inc_by(n_bytes as u64);
    }
}

/// Counts the requests of one read beyond its first.
pub(super) fn more_gets(n: u64) {
    if n > 0 {
        let (op, outcome) = (Op::Get.name(), "ok");
        REQUESTS.get_or_create(&RequestLabels { op, outcome }).inc_by(n);
    }
}

/// Counts one look into the cache.
pub(super) fn cache_lookup(outcome: &'static str) {
    CACHE_LOOKUPS.get_or_create(&CacheLabels { outcome }).inc();
}

/// Counts one copy removed for room.
pub(super) fn cache_evicted() {
    CACHE_EVICTIONS.inc();
}

/// Says how many bytes the cache holds.
pub(super) fn cache_bytes(n_bytes: u64) {
    CACHE_BYTES.set(i64::try_from(n_bytes).unwrap_or(i64::MAX));
}

/// Says how much of mapped files is in memory.
pub(super) fn mapped_bytes(n_bytes: u64) {
    MAPPED_BYTES.set(n_bytes.try_into().unwrap_or(i64::MAX));
}

/// Counts one time that pages were given back.
pub(super) fn mapped_given_back() {
    MAPPED_GIVEN_BACK.inc();
}
