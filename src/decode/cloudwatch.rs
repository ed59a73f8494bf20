//! CloudWatch's metrics as rows, whichever way they come: `PutMetricData`, EMF in log lines, Metric Streams.
//!
//! | CloudWatch | row |
//! |---|---|
//! | metric name | `metric_name`, as it is |
//! | namespace | resource attribute [`NAMESPACE`]: dimensions have names of their own, `Namespace` among them |
//! | dimensions | attributes |
//! | unit | its UCUM unit, as Metric Streams write it ([`ucum`]); `None` is `1` |
//! | one value | a point of a gauge |
//! | a set of statistics; many values | a point of a summary: quantile 0 is the least, 1 the greatest; of many values .5, .9, .95 and .99 too, exactly |

use crate::model::{Context, MetricsBuilder, Point, PointKind, SeriesKey, SpanId, TraceId};

/// The resource attribute that holds a metric's namespace.
pub const NAMESPACE: &str = "aws.cloudwatch.namespace";
/// Points further ahead than this are not taken by CloudWatch.
pub const MAX_AHEAD_NANOS: i64 = 2 * 3_600_000_000_000;
/// Older points are not taken by CloudWatch.
pub const MAX_AGE_NANOS: i64 = 14 * 86_400_000_000_000;
/// Dimensions of one metric.
pub const MAX_DIMENSIONS: usize = 30;

/// Quantiles that are told of many values.
const QUANTILES: [f64; 6] = [0.0, 0.5, 0.9, 0.95, 0.99, 1.0];

/// CloudWatch's units and UCUM's.
#[rustfmt::skip]
pub const UNITS: [(&str, &str); 27] = [
    ("Seconds", "s"), ("Microseconds", "us"), ("Milliseconds", "ms"),
    ("Bytes", "By"), ("Kilobytes", "kBy"), ("Megabytes", "MBy"), ("Gigabytes", "GBy"), ("Terabytes", "TBy"),
    ("Bits", "bit"), ("Kilobits", "kbit"), ("Megabits", "MBit"), ("Gigabits", "GBit"), ("Terabits", "Tbit"),
    ("Percent", "%"), ("Count", "{Count}"),
    ("Bytes/Second", "By/s"), ("Kilobytes/Second", "kBy/s"), ("Megabytes/Second", "MBy/s"), ("Gigabytes/Second", "GBy/s"),
    ("Terabytes/Second", "TBy/s"), ("Bits/Second", "bit/s"), ("Kilobits/Second", "kbit/s"), ("Megabits/Second", "MBit/s"),
    ("Gigabits/Second", "GBit/s"), ("Terabits/Second", "Tbit/s"), ("Count/Second", "{Count}/s"),
    ("None", "1"),
];

/// The UCUM unit; `None` for one that CloudWatch does not have.
pub fn ucum(unit: &str) -> Option<&'static str> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ucum)| *ucum)
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// One value.
    One(f64),
    /// Count, sum and quantiles (which, value) as they were sent.
    Statistics {
        /// How many values.
        count: f64,
        /// Their sum.
        sum: f64,
        /// Quantile, value.
        quantiles: Vec<(f64, f64)>,
    },
}

impl Sample {
    /// Of values and how often each was seen; `None` of none at all.
    pub fn of_many(mut values: Vec<(f64, f64)>) -> Option<Sample> {
        values.retain(|(_, count)| *count > 0.0);
        if let [(value, 1.0)] = values[..] {
            return Some(Sample::One(value));
        }
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count: f64 = values.iter().map(|(_, count)| count).sum();
        let sum = values.iter().map(|(value, count)| value * count).sum();
        let last = values.last()?.0;
        let ranked = |which: f64| {
            let mut seen = 0.0;
            for (value, times) in &values {
                seen += times;
                if seen >= which * count {
                    return *value;
                }
            }
            last
        };
        Some(Sample::Statistics {
            count,
            sum,
            quantiles: QUANTILES.into_iter().map(|which| (which, ranked(which))).collect(),
        })
    }

    /// The greatest value, as far as it is known.
    pub fn greatest(&self) -> Option<f64> {
        match self {
            Sample::One(value) => Some(*value),
            Sample::Statistics { quantiles, .. } => quantiles.last().map(|(_, value)| *value),
        }
    }
}

/// A point to be; its dimensions are added to the builder before it.
#[derive(Clone, Debug)]
pub struct Measured<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// UCUM.
    pub unit: &'a str,
    /// When, nanoseconds since the epoch.
    pub time_unix_nano: i64,
    /// Since when, if that was told.
    pub start_time_unix_nano: Option<i64>,
    /// What.
    pub sample: &'a Sample,
    /// In which trace, if that is known: it becomes an exemplar of the greatest value.
    pub trace: Option<(TraceId, Option<SpanId>)>,
}

/// Adds a point with the dimensions that `builder` was given before.
pub fn push(builder: &mut MetricsBuilder, context: &Context, measured: &Measured<'_>) {
    let key = SeriesKey {
        name: measured.name,
        metric_type: match measured.sample {
            Sample::One(_) => "gauge",
            Sample::Statistics { .. } => "summary",
        },
        unit: measured.unit,
        description: "",
        temporality: None,
        is_monotonic: None,
    };
    builder.series(context, &key, measured.time_unix_nano);
    if let Some((trace_id, span_id)) = measured.trace {
        builder.exemplar(measured.time_unix_nano, measured.sample.greatest(), None, Some(trace_id), span_id);
    }
    builder.point(&Point {
        time_unix_nano: measured.time_unix_nano,
        start_time_unix_nano: measured.start_time_unix_nano,
        flags: 0,
        kind: match measured.sample {
            Sample::One(value) => PointKind::Double(*value),
            Sample::Statistics { count, sum, quantiles } => PointKind::Summary {
                // beyond i64, `as` cuts at its ends
                count: count.round() as i64,
                sum: Some(*sum),
                quantiles,
            },
        },
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_many_values_are_values_that_were_seen() {
        let values = (1..=100).map(|value| (f64::from(value), 1.0)).rev().collect();
        let Some(Sample::Statistics { count, sum, quantiles }) = Sample::of_many(values) else {
            panic!("statistics");
        };
        assert_eq!((count, sum), (100.0, 5_050.0));
        assert_eq!(quantiles, [(0.0, 1.0), (0.5, 50.0), (0.9, 90.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)]);
        let weighted = Sample::of_many(vec![(7.0, 98.0), (1.0, 1.0), (9.0, 1.0), (100.0, 0.0)]).expect("some");
        assert_eq!(
            weighted,
            Sample::Statistics {
                count: 100.0,
                sum: 696.0,
                quantiles: vec![(0.0, 1.0), (0.5, 7.0), (0.9, 7.0), (0.95, 7.0), (0.99, 7.0), (1.0, 9.0)],
            }
        );
        assert_eq!(weighted.greatest(), Some(9.0));
    }

    #[test]
    fn one_value_is_one_value_and_none_is_none() {
        assert_eq!(Sample::of_many(vec![(4.0, 1.0), (5.0, 0.0)]), Some(Sample::One(4.0)));
        assert_eq!(Sample::of_many(vec![(4.0, 0.0)]), None);
        assert_eq!(Sample::of_many(vec![]), None);
        assert!(matches!(Sample::of_many(vec![(4.0, 2.0)]), Some(Sample::Statistics { count: 2.0, .. })));
    }

    #[test]
    fn units_are_those_of_metric_streams() {
        assert_eq!((ucum("Kilobytes/Second"), ucum("None"), ucum("Parsecs")), (Some("kBy/s"), Some("1"), None));
    }
}
