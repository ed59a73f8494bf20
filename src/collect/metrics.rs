//! This part's metrics.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::telemetry::register;

/// One label, `outcome`, from the closed sets below.
type ByOutcome = Family<[(&'static str, &'static str); 1], Counter>;

static REQUESTS: LazyLock<ByOutcome> = LazyLock::new(|| {
    register(
        "collect_requests",
        "Requests to CloudWatch Logs, by outcome: ok, throttled, failed",
        Family::default(),
    )
});

static EVENTS: LazyLock<ByOutcome> = LazyLock::new(|| {
    let help = "Events that were fetched, by outcome: kept, known (kept before), left_out (of other log streams or times)";
    register("collect_events", help, Family::default())
});

pub(super) fn request(outcome: &'static str) {
    REQUESTS.get_or_create(&[("outcome", outcome)]).inc();
}

pub(super) fn events(outcome: &'static str, n: usize) {
    EVENTS.get_or_create(&[("outcome", outcome)]).inc_by(n as u64);
}
