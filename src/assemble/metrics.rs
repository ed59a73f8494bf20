//! This part's metrics.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::register;

static TRACES: LazyLock<Family<[(&'static str, &'static str); 1], Counter>> = LazyLock::new(|| {
    let help = "Rows of traces by outcome: new, corrected; too_large for the log and given_up after an hour of failures, which are left out";
    register("assemble_traces", help, Family::default())
});

static OPEN: LazyLock<Gauge> = LazyLock::new(|| register("assemble_open_traces", "Traces with something new that are not written yet", Gauge::default()));

static EARLY: LazyLock<Counter> = LazyLock::new(|| {
    let help = "Traces written before they were quiet, since [assemble] max_open_traces was reached";
    register("assemble_early_traces", help, Counter::default())
});

pub(super) fn wrote(written: u64, corrected: u64) {
    TRACES.get_or_create(&[("outcome", "new")]).inc_by(written - corrected);
    TRACES.get_or_create(&[("outcome", "corrected")]).inc_by(corrected);
}

pub(super) fn too_large() {
    TRACES.get_or_create(&[("outcome", "too_large")]).inc();
}

pub(super) fn given_up() {
    TRACES.get_or_create(&[("outcome", "given_up")]).inc();
}

pub(super) fn open(n: usize) {
    OPEN.set(i64::try_from(n).unwrap_or(i64::MAX));
}

pub(super) fn early(n: usize) {
    EARLY.inc_by(n as u64);
}
