//! This part's metrics.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::sink::Service;
use crate::telemetry::register;

static CALLS: LazyLock<Family<[(&'static str, &'static str); 2], Counter>> = LazyLock::new(|| {
    let help = "Calls to a destination, by service (firehose, kinesis) and outcome: taken, partial, failed (tried again), refused";
    register("deliver_calls", help, Family::default())
});

static ROWS: LazyLock<Family<[(&'static str, &'static str); 2], Counter>> = LazyLock::new(|| {
    let help = "Rows by outcome (delivered, dead_letter, not_sent) and reason: of dead letters refused, too_large, too_old; not sent came_from_there";
    register("deliver_rows", help, Family::default())
});

static FAILING: LazyLock<Gauge> = LazyLock::new(|| {
    register(
        "deliver_failing_jobs",
        "Deliveries whose destination does not take records now",
        Gauge::default(),
    )
});

static LETTERS_LOST: LazyLock<Counter> = LazyLock::new(|| {
    let help = "Dead letters that could not be written";
    register("deliver_dead_letters_lost", help, Counter::default())
});

pub(super) fn called(service: Service, outcome: &'static str) {
    CALLS.get_or_create(&[("service", service.name()), ("outcome", outcome)]).inc();
}

pub(super) fn delivered(rows: u64) {
    ROWS.get_or_create(&[("outcome", "delivered"), ("reason", "")]).inc_by(rows);
}

pub(super) fn dead(reason: &'static str, rows: u64) {
    ROWS.get_or_create(&[("outcome", "dead_letter"), ("reason", reason)]).inc_by(rows);
}

pub(super) fn not_sent(reason: &'static str, rows: u64) {
    ROWS.get_or_create(&[("outcome", "not_sent"), ("reason", reason)]).inc_by(rows);
}

pub(super) fn letter_lost() {
    LETTERS_LOST.inc();
}

pub(super) fn failing(jobs: usize) {
    FAILING.set(i64::try_from(jobs).unwrap_or(i64::MAX));
}
