//! What the shop's services measure, exported every ten seconds by OTLP: a request counter, a latency histogram, the depth
//! of the order queue, an exponential histogram and, from one service with an old client, a summary.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, metric,
    number_data_point,
};

use super::super::otlp::{attribute, metrics_request};
use super::super::values::Values;
use super::services::{CHECKOUT, FRONTEND, SEARCH, resource_of};

/// Upper bounds of the latency buckets, seconds.
const BOUNDS: [f64; 8] = [0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;
/// Buckets of the exponential histogram: at scale 1 each is √2 times as wide as the one before.
const EXPONENTIAL_SCALE: i32 = 1;

/// Latencies of one service and route since the last export.
#[derive(Clone, Debug, Default)]
struct Latency {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    buckets: [u64; BOUNDS.len() + 1],
    /// By exponential bucket.
    exponential: BTreeMap<i32, u64>,
}

/// What was counted.
#[derive(Debug)]
pub(super) struct Meters {
    start_nanos: i64,
    last_nanos: i64,
    /// By service, route and status; for ever.
    requests: BTreeMap<(usize, &'static str, i64), i64>,
    /// By service and route; since the last export.
    latencies: BTreeMap<(usize, &'static str), Latency>,
    queue_depth: f64,
}

impl Meters {
    pub(super) fn new(start_nanos: i64) -> Self {
        Self {
            start_nanos,
            last_nanos: start_nanos,
            requests: BTreeMap::new(),
            latencies: BTreeMap::new(),
            queue_depth: 12.0,
        }
    }

    /// Counts one finished request of a service that exports metrics.
    pub(super) fn request(&mut self, service: usize, route: &'static str, status: i64, nanos: i64) {
        *self.requests.entry((service, route, status)).or_default() += 1;
        let seconds = nanos.max(1) as f64 / 1e9;
        let latency = self.latencies.entry((service, route)).or_default();
        latency.min = if latency.count == 0 { seconds } else { latency.min.min(seconds) };
        latency.max = latency.max.max(seconds);
        latency.count += 1;
        latency.sum += seconds;
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        latency.buckets[bucket] += 1;
        // bucket i holds (base^i, base^(i+1)] with base = 2^(2^-scale)
        let index = (seconds.log2() * f64::from(1 << EXPONENTIAL_SCALE)).ceil() as i32 - 1;
        *latency.exponential.entry(index).or_default() += 1;
    }

    /// One request for each service that has something to say.
    pub(super) fn export(&mut self, at: i64, is_incident: bool, values: &Values) -> Vec<ExportMetricsServiceRequest> {
        self.queue_depth = if is_incident {
            self.queue_depth + 220.0 + values.unit() * 60.0
        } else {
            // worked off by and by
            (self.queue_depth * 0.55).max(4.0) + values.unit() * 10.0
        };
        let latencies = std::mem::take(&mut self.latencies);
        let mut by_service: BTreeMap<usize, Vec<Metric>> = BTreeMap::new();
        let counters: Vec<(usize, NumberDataPoint)> = self.requests.iter().map(|(key, count)| (key.0, self.counter_point(at, *key, *count))).collect();
        let services: std::collections::BTreeSet<usize> = counters.iter().map(|(service, _)| *service).collect();
        for service in services {
            let data_points = counters.iter().filter(|(of, _)| *of == service).map(|(_, point)| point.clone()).collect();
            let sum = Sum {
                data_points,
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            };
            let metric = named("http.server.request.count", "{request}", "Requests served", metric::Data::Sum(sum));
            by_service.entry(service).or_default().push(metric);
        }
        for ((service, route), latency) in &latencies {
            let metrics = by_service.entry(*service).or_default();
            metrics.push(self.histogram(at, route, latency));
            if *service == FRONTEND {
                metrics.push(self.exponential_histogram(at, route, latency));
            }
        }
        let depth = NumberDataPoint {
            attributes: vec![attribute("queue", "orders")],
            time_unix_nano: unsigned(at),
            value: Some(number_data_point::Value::AsInt(self.queue_depth as i64)),
            ..NumberDataPoint::default()
        };
        let gauge = metric::Data::Gauge(Gauge { data_points: vec![depth] });
        let checkout = by_service.entry(CHECKOUT).or_default();
        checkout.push(named("queue.depth", "{message}", "Messages that wait", gauge));
        by_service.entry(SEARCH).or_default().push(self.summary(at, values));
        self.last_nanos = at;
        let requests = by_service
            .into_iter()
            .map(|(service, metrics)| metrics_request(vec![(resource_of(service, 0), metrics)], super::SCOPE));
        requests.collect()
    }

    fn counter_point(&self, at: i64, (_, route, status): (usize, &'static str, i64), count: i64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: vec![attribute("http.route", route), attribute("http.response.status_code", status)],
            start_time_unix_nano: unsigned(self.start_nanos),
            time_unix_nano: unsigned(at),
            value: Some(number_data_point::Value::AsInt(count)),
            ..NumberDataPoint::default()
        }
    }

    fn histogram(&self, at: i64, route: &str, latency: &Latency) -> Metric {
        let point = HistogramDataPoint {
            attributes: vec![attribute("http.route", route)],
            start_time_unix_nano: unsigned(self.last_nanos),
            time_unix_nano: unsigned(at),
            count: latency.count,
            sum: Some(latency.sum),
            min: Some(latency.min),
            max: Some(latency.max),
            bucket_counts: latency.buckets.to_vec(),
            explicit_bounds: BOUNDS.to_vec(),
            ..HistogramDataPoint::default()
        };
        let histogram = Histogram {
            data_points: vec![point],
            aggregation_temporality: DELTA,
        };
        named(
            "http.server.request.duration",
            "s",
            "Time to serve a request",
            metric::Data::Histogram(histogram),
        )
    }

    fn exponential_histogram(&self, at: i64, route: &str, latency: &Latency) -> Metric {
        let first = latency.exponential.keys().next().copied().unwrap_or_default();
        let last = latency.exponential.keys().next_back().copied().unwrap_or_default();
        let bucket_counts = (first..=last)
            .map(|index| latency.exponential.get(&index).copied().unwrap_or_default())
            .collect();
        let point = ExponentialHistogramDataPoint {
            attributes: vec![attribute("http.route", route)],
            start_time_unix_nano: unsigned(self.last_nanos),
            time_unix_nano: unsigned(at),
            count: latency.count,
            sum: Some(latency.sum),
            min: Some(latency.min),
            max: Some(latency.max),
            scale: EXPONENTIAL_SCALE,
            positive: Some(Buckets { offset: first, bucket_counts }),
            ..ExponentialHistogramDataPoint::default()
        };
        let histogram = ExponentialHistogram {
            data_points: vec![point],
            aggregation_temporality: DELTA,
        };
        named(
            "http.client.response.duration",
            "s",
            "Time until a customer has the answer",
            metric::Data::ExponentialHistogram(histogram),
        )
    }

    fn summary(&self, at: i64, values: &Values) -> Metric {
        let median = values.around(8.0) as f64 / 1e9;
        let quantile = |quantile, value| ValueAtQuantile { quantile, value };
        let point = SummaryDataPoint {
            start_time_unix_nano: unsigned(self.last_nanos),
            time_unix_nano: unsigned(at),
            count: 20,
            sum: median * 25.0,
            quantile_values: vec![quantile(0.5, median), quantile(0.99, median * 4.0), quantile(1.0, median * 6.0)],
            ..SummaryDataPoint::default()
        };
        let summary = metric::Data::Summary(Summary { data_points: vec![point] });
        named("jvm.gc.pause", "s", "Pauses for garbage collection", summary)
    }
}

fn named(name: &str, unit: &str, description: &str, data: metric::Data) -> Metric {
    Metric {
        name: name.into(),
        unit: unit.into(),
        description: description.into(),
        data: Some(data),
        ..Metric::default()
    }
}

fn unsigned(nanos: i64) -> u64 {
    nanos.max(0).unsigned_abs()
}

/// Data points of a request.
pub(super) fn n_points(request: &ExportMetricsServiceRequest) -> usize {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let points = |metric: &Metric| match &metric.data {
        Some(metric::Data::Gauge(data)) => data.data_points.len(),
        Some(metric::Data::Sum(data)) => data.data_points.len(),
        Some(metric::Data::Histogram(data)) => data.data_points.len(),
        Some(metric::Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(metric::Data::Summary(data)) => data.data_points.len(),
        None => 0,
    };
    scopes.flat_map(|scope| &scope.metrics).map(points).sum()
}
