//! Metrics of the API.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::telemetry::register;

/// `path` is the route's pattern (a closed set), `status` the HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) path: String,
    pub(super) status: u16,
}

/// One histogram a route and status.
type Histograms = Family<RequestLabels, Histogram, fn() -> Histogram>;

/// Time to answer, by route and status.
pub(super) static REQUEST_SECONDS: LazyLock<Histograms> = LazyLock::new(|| {
    let family: Histograms = Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 16)));
    register("serve_request_duration_seconds", "Time to answer an API request, by route and status", family)
});
