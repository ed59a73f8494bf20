//! Our own logs and metrics: set-up, and the one registry in which each part's `metrics.rs` enters its own.
//!
//! Metrics are called `tracelake_<part>_<what>_<unit>`, counters end in `_total` (the encoder adds it). Labels come from
//! closed sets. Logs go to standard error; standard output belongs to answers.

mod capture;

use std::sync::{LazyLock, Mutex, PoisonError};

use prometheus_client::registry::{Metric, Registry};
use tokio::sync::mpsc;

pub use capture::{Captured, FieldValue, Fields, Place, SPANS, UNHEARD};

use capture::Capture;

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

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether our own log lines, request and flush spans, and metrics are kept like anybody's, as `service:tracelake`
    /// (false).
    pub self_ingest: bool,
    /// Log lines and spans that are kept a second; more are dropped and counted (200).
    pub max_records_per_second: u64,
    /// Log lines and spans that may wait to be kept; more are dropped and counted (4,096).
    pub queue_records: usize,
    /// Seconds between two readings of our own metrics that are kept (60); 0 = none.
    pub metrics_every_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            self_ingest: false,
            max_records_per_second: 200,
            queue_records: 4_096,
            metrics_every_seconds: 60,
        }
    }
}

/// What was caught since the start, until somebody takes it.
static CAPTURED: Mutex<Option<mpsc::Receiver<Captured>>> = Mutex::new(None);

/// Sends our own log to standard error, filtered by `RUST_LOG` or else `filter`, as text or as JSON lines. If `config` says
/// so, lines that pass the filter, and spans of the target [`SPANS`], are caught too: see [`captured`].
pub fn init(filter: &str, json: bool, config: &Config) {
    use tracing_subscriber::prelude::*;
    use tracing_subscriber::{EnvFilter, fmt};
    let passes = |spans: &str| {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
        let directives = [SPANS, UNHEARD].map(|target| format!("{target}={spans}"));
        // our own words, which parse
        directives
            .iter()
            .filter_map(|directive| directive.parse().ok())
            .fold(filter, EnvFilter::add_directive)
    };
    let capture = config.self_ingest.then(|| {
        let (capture, queue) = Capture::new(config);
        *CAPTURED.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        capture.with_filter(passes("info"))
    });
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let shown = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let shown = if json { shown.json().boxed() } else { shown.boxed() };
    std::panic::set_hook(Box::new(log_panic));
    // a second call, in tests, keeps the first set-up
    let _ = tracing_subscriber::registry().with(shown.with_filter(passes("off"))).with(capture).try_init();
}

/// Every panic is a line of the log, with its place, wherever it is caught.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
    let thread = std::thread::current();
    let (message, place) = (panic.payload_as_str().unwrap_or("?"), panic.location().map(ToString::to_string));
    tracing::error!(place, thread = thread.name(), backtrace, "a panic: {message}");
}

/// What is caught of our own log lines and spans; to the first who asks, if [`init`] was told to catch them.
pub fn captured() -> Option<mpsc::Receiver<Captured>> {
    CAPTURED.lock().unwrap_or_else(PoisonError::into_inner).take()
}
