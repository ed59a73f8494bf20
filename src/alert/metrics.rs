//! This part's metrics.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::register;

/// One label, `outcome`, from the closed sets below.
type ByOutcome = Family<[(&'static str, &'static str); 1], Counter>;

static EVALUATIONS: LazyLock<ByOutcome> = LazyLock::new(|| register("alert_evaluations", "Evaluations of rules, by outcome: ok, error", Family::default()));

static EVALUATION_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
    register(
        "alert_evaluation_seconds",
        "Time from asking to the kept state, by evaluation",
        Histogram::new(buckets),
    )
});

static DELIVERIES: LazyLock<ByOutcome> = LazyLock::new(|| {
    let help = "Attempts to deliver a notification, by outcome: delivered, retried, failed";
    register("alert_deliveries", help, Family::default())
});

static ROWS_DROPPED: LazyLock<Counter> = LazyLock::new(|| {
    register(
        "alert_rows_dropped",
        "Evaluations that could not be written to the alerts table",
        Counter::default(),
    )
});

pub(super) fn evaluated(is_ok: bool, seconds: f64) {
    let outcome = if is_ok { "ok" } else { "error" };
    EVALUATIONS.get_or_create(&[("outcome", outcome)]).inc();
    EVALUATION_SECONDS.observe(seconds);
}

pub(super) fn delivery(outcome: super::state::Status) {
    let outcome = match outcome {
        super::state::Status::Delivered => "delivered",
        super::state::Status::Pending => "retried",
        super::state::Status::Failed => "failed",
    };
    DELIVERIES.get_or_create(&[("outcome", outcome)]).inc();
}

pub(super) fn rows_dropped(count: usize) {
    ROWS_DROPPED.inc_by(count as u64);
}
