//! Metric points.

use super::*;

#[test]
fn every_kind_of_point_is_stored_whole() {
    let decoded = metrics(&metrics_request(every_kind()).encode_to_vec(), &CONTEXT).unwrap();
    assert_eq!(decoded.rejected, []);
    let points = table(&decoded, Table::MetricPoints);
    let values = column(&points, "value");
    assert_eq!(values.as_primitive::<Float64Type>().value(0), f64::NEG_INFINITY);
    let ints: Vec<_> = (0..3).map(|row| int64(&points, "value_int", row)).collect();
    assert_eq!(ints, [None, Some(i64::MAX), None]);
    assert!(values.is_null(2), "the flag says that no value was recorded");
    let series = table(&decoded, Table::MetricSeries);
    let temporality: Vec<_> = (0..5).map(|row| string(&series, "temporality", row)).collect();
    assert_eq!(temporality, [None, Some("cumulative".into()), Some("delta".into()), None, None]);
    let histograms = table(&decoded, Table::MetricHistograms);
    assert_eq!(int64(&histograms, "count", 0), Some(i64::MAX));
    assert_eq!(
        column(&histograms, "bucket_counts")
            .as_list::<i32>()
            .value(0)
            .as_primitive::<Int64Type>()
            .values(),
        &[1, i64::MAX]
    );
    let exemplars = table(&decoded, Table::MetricExemplars);
    assert_eq!(
        (int64(&exemplars, "time_unix_nano", 0), int64(&exemplars, "value_int", 0)),
        (Some(TIME as i64), Some(4))
    );
    assert_eq!(string(&exemplars, "trace_id", 0), Some("01".repeat(16)));
    let exponential = table(&decoded, Table::MetricExpHistograms);
    assert_eq!(
        (int32(&exponential, "scale", 0), int32(&exponential, "positive_offset", 0)),
        (Some(-3), Some(-2))
    );
    assert_eq!(int64(&table(&decoded, Table::MetricSummaries), "count", 0), Some(2));
}

#[test]
fn points_that_cannot_be_are_rejected_alone() {
    let histogram = |change: fn(&mut metrics_v1::HistogramDataPoint)| {
        let mut point = histogram_point();
        change(&mut point);
        let histogram = metrics_v1::Histogram {
            data_points: vec![point, histogram_point()],
            aggregation_temporality: 2,
        };
        metric("latency", Data::Histogram(histogram))
    };
    for (bad, reason, message) in [
        (
            histogram(|p| p.time_unix_nano = 0),
            Reason::InvalidTime,
            "metric \"latency\": time_unix_nano must be set",
        ),
        (
            histogram(|p| p.bucket_counts = vec![1]),
            Reason::InvalidField,
            "metric \"latency\": bucket_counts must be one more",
        ),
        (
            histogram(|p| p.bucket_counts = vec![]),
            Reason::InvalidField,
            "metric \"latency\": bucket_counts must be one more",
        ),
    ] {
        let decoded = metrics(&metrics_request(vec![bad]).encode_to_vec(), &CONTEXT).unwrap();
        assert_eq!(table(&decoded, Table::MetricHistograms).num_rows(), 1);
        assert_eq!((decoded.rejected[0].count, decoded.rejected[0].reason), (1, reason));
        assert!(decoded.rejected[0].message.starts_with(message), "{}", decoded.rejected[0].message);
    }
    let bucketless = histogram(|p| (p.bucket_counts, p.explicit_bounds) = (vec![], vec![]));
    let nameless = metric("", bucketless.data.clone().unwrap());
    let decoded = metrics(&metrics_request(vec![bucketless, nameless]).encode_to_vec(), &CONTEXT).unwrap();
    assert_eq!(table(&decoded, Table::MetricHistograms).num_rows(), 2);
    assert_eq!(
        (decoded.rejected[0].count, decoded.rejected[0].message.as_str()),
        (2, "metric.name must not be empty")
    );
}
