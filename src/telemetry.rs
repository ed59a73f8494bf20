//! Our own logs and metrics: set-up, and the one registry in which each part's `metrics.rs` enters its own.
//!
//! Metrics are called `tracelake_<part>_<what>_<unit>`, counters end in `_total` (the encoder adds it). Labels come from
//! closed sets. Logs go to standard error; standard output belongs to answers.

use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus_client::registry::{Metric, Registry};

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(|| Mutex::new(Registry::with_prefix("tracelake")));

/// Enters a metric under `tracelake_<name>` and gives it back; for the `static`s of a part's `metrics.rs`.
pub fn register<M: Metric + Clone>(name: &str, help: &str, metric: M) -> M {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
    metric
}

/// All metrics in the OpenMetrics text form that Prometheus scrapes.
pub fn render() -> String {
    let mut out = String::new();
    // writing to a String cannot fail
    let _ = prometheus_client::encoding::text::encode(&mut out, &REGISTRY.lock().unwrap_or_else(PoisonError::into_inner));
    out
}

/// Sends our own log to standard error, filtered by `RUST_LOG` or else `filter`, as text or as JSON lines.
pub fn init(filter: &str, json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // a second call, in tests, keeps the first set-up
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
