//! Metric points of every kind, their series and exemplars.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint, exemplar,
    number_data_point,
};

use super::{ContextMemory, Rejections, capped, context_of, decoded, time, values};
use crate::decode::{Decoded, Error, Reason};
use crate::model::{Context, MetricsBuilder, Point, PointKind, SeriesKey, SpanId, TraceId};

/// Rows of the metric tables; a point without a usable time or with impossible buckets is rejected.
pub(super) fn metrics(request: &ExportMetricsServiceRequest) -> Result<Decoded, Error> {
    let mut walk = Walk::default();
    let mut contexts = ContextMemory::default();
    for resource in &request.resource_metrics {
        for scope in resource.scope_metrics.iter().filter(|scope| !scope.metrics.is_empty()) {
            let context = context_of(resource.resource.as_ref(), scope.scope.as_ref());
            contexts.add(&context)?;
            walk.rejections.come_from(&context);
            for metric in &scope.metrics {
                walk.metric(&context, metric);
            }
        }
    }
    Ok(decoded(walk.builder.finish()?, walk.rejections))
}

#[derive(Default)]
struct Walk {
    builder: MetricsBuilder,
    rejections: Rejections,
    scratch: String,
    /// Counts of the point at hand, capped.
    counts: Vec<i64>,
    negative_counts: Vec<i64>,
    quantiles: Vec<(f64, f64)>,
}

/// What all kinds of points have.
struct Common<'a> {
    attributes: &'a [KeyValue],
    exemplars: &'a [Exemplar],
    time: u64,
    start: u64,
    flags: u32,
}

impl Walk {
    fn metric(&mut self, context: &Context, metric: &Metric) {
        let Some(data) = &metric.data else {
            return;
        };
        if metric.name.is_empty() {
            let message = || "metric.name must not be empty".to_string();
            return self.rejections.add(n_points(data), Reason::InvalidField, message);
        }
        let key = |metric_type, temporality: Option<i32>, is_monotonic| SeriesKey {
            name: &metric.name,
            metric_type,
            unit: &metric.unit,
            description: &metric.description,
            temporality: temporality.and_then(temporality_name),
            is_monotonic,
        };
        match data {
            Data::Gauge(gauge) => self.numbers(context, &key("gauge", None, None), &gauge.data_points),
            Data::Sum(sum) => {
                let key = key("sum", Some(sum.aggregation_temporality), Some(sum.is_monotonic));
                self.numbers(context, &key, &sum.data_points);
            }
            Data::Histogram(histogram) => {
                let key = key("histogram", Some(histogram.aggregation_temporality), None);
                self.histograms(context, &key, &histogram.data_points);
            }
            Data::ExponentialHistogram(histogram) => {
                let key = key("exponential_histogram", Some(histogram.aggregation_temporality), None);
                self.exp_histograms(context, &key, &histogram.data_points);
            }
            Data::Summary(summary) => self.summaries(context, &key("summary", None, None), &summary.data_points),
        }
    }

    fn numbers(&mut self, context: &Context, key: &SeriesKey<'_>, points: &[NumberDataPoint]) {
        for point in points {
            let common = Common {
                attributes: &point.attributes,
                exemplars: &point.exemplars,
                time: point.time_unix_nano,
                start: point.start_time_unix_nano,
                flags: point.flags,
            };
            let recorded = point.value.filter(|_| point.flags & DataPointFlags::NoRecordedValueMask as u32 == 0);
            let kind = match recorded {
                Some(number_data_point::Value::AsDouble(value)) => PointKind::Double(value),
                Some(number_data_point::Value::AsInt(value)) => PointKind::Int(value),
                None => PointKind::None,
            };
            if let Some(time) = self.series(context, key, &common) {
                self.builder.point(&whole(time, &common, kind));
            }
        }
    }

    fn histograms(&mut self, context: &Context, key: &SeriesKey<'_>, points: &[HistogramDataPoint]) {
        for point in points {
            let (bounds, buckets) = (point.explicit_bounds.len(), point.bucket_counts.len());
            if buckets != bounds + 1 && (buckets, bounds) != (0, 0) {
                let message = || {
                    format!(
                        "metric {:?}: bucket_counts must be one more than explicit_bounds, and are {buckets} and {bounds}",
                        key.name
                    )
                };
                self.rejections.add(1, Reason::InvalidField, message);
                continue;
            }
            let common = Common {
                attributes: &point.attributes,
                exemplars: &point.exemplars,
                time: point.time_unix_nano,
                start: point.start_time_unix_nano,
                flags: point.flags,
            };
            let Some(time) = self.series(context, key, &common) else {
                continue;
            };
            self.counts.clear();
            self.counts.extend(point.bucket_counts.iter().copied().map(capped));
            let kind = PointKind::Histogram {
                count: capped(point.count),
                sum: point.sum,
                min: point.min,
                max: point.max,
                bounds: &point.explicit_bounds,
                bucket_counts: &self.counts,
            };
            self.builder.point(&whole(time, &common, kind));
        }
    }

    fn exp_histograms(&mut self, context: &Context, key: &SeriesKey<'_>, points: &[ExponentialHistogramDataPoint]) {
        for point in points {
            let common = Common {
                attributes: &point.attributes,
                exemplars: &point.exemplars,
                time: point.time_unix_nano,
                start: point.start_time_unix_nano,
                flags: point.flags,
            };
            let Some(time) = self.series(context, key, &common) else {
                continue;
            };
            self.counts.clear();
            self.negative_counts.clear();
            if let Some(positive) = &point.positive {
                self.counts.extend(positive.bucket_counts.iter().copied().map(capped));
            }
            if let Some(negative) = &point.negative {
                self.negative_counts.extend(negative.bucket_counts.iter().copied().map(capped));
            }
            let kind = PointKind::ExpHistogram {
                count: capped(point.count),
                sum: point.sum,
                min: point.min,
                max: point.max,
                scale: point.scale,
                zero_count: capped(point.zero_count),
                zero_threshold: point.zero_threshold,
                positive_offset: point.positive.as_ref().map_or(0, |buckets| buckets.offset),
                positive_counts: &self.counts,
                negative_offset: point.negative.as_ref().map_or(0, |buckets| buckets.offset),
                negative_counts: &self.negative_counts,
            };
            self.builder.point(&whole(time, &common, kind));
        }
    }

    fn summaries(&mut self, context: &Context, key: &SeriesKey<'_>, points: &[SummaryDataPoint]) {
        for point in points {
            let common = Common {
                attributes: &point.attributes,
                exemplars: &[],
                time: point.time_unix_nano,
                start: point.start_time_unix_nano,
                flags: point.flags,
            };
            let Some(time) = self.series(context, key, &common) else {
                continue;
            };
            self.quantiles.clear();
            self.quantiles.extend(point.quantile_values.iter().map(|q| (q.quantile, q.value)));
            let kind = PointKind::Summary {
                count: capped(point.count),
                sum: Some(point.sum),
                quantiles: &self.quantiles,
            };
            self.builder.point(&whole(time, &common, kind));
        }
    }

    /// Opens the point's series and adds its exemplars; gives the point's time, or `None` when it is rejected.
    fn series(&mut self, context: &Context, key: &SeriesKey<'_>, common: &Common<'_>) -> Option<i64> {
        let Some(at) = time(common.time) else {
            let message = || {
                format!(
                    "metric {:?}: time_unix_nano must be set and before the year 2262, and is {}",
                    key.name, common.time
                )
            };
            self.rejections.add(1, Reason::InvalidTime, message);
            return None;
        };
        for attribute in common.attributes {
            self.builder
                .attribute(&attribute.key, values::value(attribute.value.as_ref(), &mut self.scratch));
        }
        self.builder.series(context, key, at);
        for exemplar in common.exemplars {
            for attribute in &exemplar.filtered_attributes {
                let value = values::value(attribute.value.as_ref(), &mut self.scratch);
                self.builder.exemplar_attribute(&attribute.key, value);
            }
            let (value, value_int) = match exemplar.value {
                Some(exemplar::Value::AsDouble(value)) => (Some(value), None),
                Some(exemplar::Value::AsInt(value)) => (None, Some(value)),
                None => (None, None),
            };
            let trace_id = Some(&exemplar.trace_id)
                .filter(|bytes| bytes.len() == 16)
                .and_then(|bytes| TraceId::from_bytes(bytes));
            let exemplar_time = time(exemplar.time_unix_nano).unwrap_or(at);
            self.builder
                .exemplar(exemplar_time, value, value_int, trace_id, SpanId::from_bytes(&exemplar.span_id));
        }
        Some(at)
    }
}

fn whole<'a>(time_unix_nano: i64, common: &Common<'_>, kind: PointKind<'a>) -> Point<'a> {
    Point {
        time_unix_nano,
        start_time_unix_nano: time(common.start),
        // bits, not a number: all 32 are kept
        flags: common.flags as i32,
        kind,
    }
}

fn temporality_name(number: i32) -> Option<&'static str> {
    match AggregationTemporality::try_from(number) {
        Ok(AggregationTemporality::Delta) => Some("delta"),
        Ok(AggregationTemporality::Cumulative) => Some("cumulative"),
        _ => None,
    }
}

fn n_points(data: &Data) -> u64 {
    let n = match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    };
    n as u64
}
