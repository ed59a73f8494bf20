//! Builds rows of the metric tables.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, Int64Array, Int64Builder, ListArray, ListBuilder, RecordBatch, StringBuilder, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use xxhash_rust::xxh3::Xxh3Default;

use super::logs::{AttributesBuilder, append_span_id, append_trace_id, micros};
use super::rows::conform;
use super::{Context, Rows, SpanId, Table, TraceId, Value};

/// What identifies a metric stream besides its attributes.
#[derive(Clone, Copy, Debug)]
pub struct SeriesKey<'a> {
    /// Metric name.
    pub name: &'a str,
    /// `gauge`, `sum`, `histogram`, `exponential_histogram` or `summary`.
    pub metric_type: &'static str,
    /// UCUM unit.
    pub unit: &'a str,
    /// Human text.
    pub description: &'a str,
    /// `cumulative` or `delta`, where the type has one.
    pub temporality: Option<&'static str>,
    /// For sums.
    pub is_monotonic: Option<bool>,
}

/// One data point; its series comes from [`MetricsBuilder::series`].
#[derive(Clone, Debug)]
pub struct Point<'a> {
    /// When, nanoseconds since the epoch.
    pub time_unix_nano: i64,
    /// Start of what is counted; `None` if unset.
    pub start_time_unix_nano: Option<i64>,
    /// OTLP data point flags; bit 0 = no recorded value.
    pub flags: i32,
    /// The value.
    pub kind: PointKind<'a>,
}

/// The value of a [`Point`]. Counts beyond `i64` are not representable and are capped by the decoder.
#[derive(Clone, Debug)]
pub enum PointKind<'a> {
    /// Gauge or sum.
    Double(f64),
    /// Gauge or sum.
    Int(i64),
    /// Gauge or sum whose value is not there (no-recorded-value flag).
    None,
    /// Explicit buckets.
    Histogram {
        count: i64,
        sum: Option<f64>,
        min: Option<f64>,
        max: Option<f64>,
        bounds: &'a [f64],
        bucket_counts: &'a [i64],
    },
    /// Exponential buckets.
    ExpHistogram {
        count: i64,
        sum: Option<f64>,
        min: Option<f64>,
        max: Option<f64>,
        scale: i32,
        zero_count: i64,
        zero_threshold: f64,
        positive_offset: i32,
        positive_counts: &'a [i64],
        negative_offset: i32,
        negative_counts: &'a [i64],
    },
    /// Quantile, value.
    Summary {
        count: i64,
        sum: Option<f64>,
        quantiles: &'a [(f64, f64)],
    },
}

/// Columns that all point tables begin with, and `ingest_id`'s place is after the last.
#[derive(Debug, Default)]
struct Head {
    metric_name: StringBuilder,
    service_name: StringBuilder,
    series_id: Int64Builder,
    time: Int64Builder,
}

impl Head {
    fn push(&mut self, series: &CurrentSeries, time: i64) {
        self.metric_name.append_value(&series.name);
        self.service_name.append_option(series.service.as_deref());
        self.series_id.append_value(series.id);
        self.time.append_value(time);
    }
    fn len(&self) -> usize {
        self.time.values_slice().len()
    }
    fn finish(&mut self) -> Vec<ArrayRef> {
        let time = self.time.finish();
        vec![
            Arc::new(self.metric_name.finish()),
            Arc::new(self.service_name.finish()),
            Arc::new(self.series_id.finish()),
            micros(&time),
            Arc::new(time),
        ]
    }
}

#[derive(Debug, Default)]
struct PointHead {
    head: Head,
    start: Int64Builder,
    flags: Int32Builder,
}

impl PointHead {
    fn push(&mut self, series: &CurrentSeries, point: &Point<'_>) {
        self.head.push(series, point.time_unix_nano);
        self.start.append_option(point.start_time_unix_nano);
        self.flags.append_value(point.flags);
    }
    fn finish(&mut self) -> Vec<ArrayRef> {
        let mut columns = self.head.finish();
        columns.push(micros(&self.start.finish()));
        columns.push(Arc::new(self.flags.finish()));
        columns
    }
}

#[derive(Debug, Default)]
struct Distribution {
    count: Int64Builder,
    sum: Float64Builder,
    min: Float64Builder,
    max: Float64Builder,
}

impl Distribution {
    fn push(&mut self, count: i64, sum: Option<f64>, min: Option<f64>, max: Option<f64>) {
        self.count.append_value(count);
        self.sum.append_option(sum);
        self.min.append_option(min);
        self.max.append_option(max);
    }
    fn finish(&mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.count.finish()),
            Arc::new(self.sum.finish()),
            Arc::new(self.min.finish()),
            Arc::new(self.max.finish()),
        ]
    }
}

#[derive(Clone, Debug, Default)]
struct CurrentSeries {
    id: i64,
    name: String,
    service: Option<String>,
}

/// Columns of the metric tables being filled. For each point: its attributes with [`MetricsBuilder::attribute`], then
/// [`MetricsBuilder::series`], exemplars if any, and [`MetricsBuilder::point`].
#[derive(Debug, Default)]
pub struct MetricsBuilder {
    current: CurrentSeries,
    pending: Vec<(String, String)>,
    seen: HashSet<(i64, i64)>,

    series_id: Int64Builder,
    series_name: StringBuilder,
    series_type: StringBuilder,
    series_unit: StringBuilder,
    series_description: StringBuilder,
    series_temporality: StringBuilder,
    series_monotonic: BooleanBuilder,
    series_service: StringBuilder,
    series_resource: AttributesBuilder,
    series_attributes: AttributesBuilder,
    series_time: Int64Builder,

    points: PointHead,
    value: Float64Builder,
    value_int: Int64Builder,

    histograms: PointHead,
    histogram: Distribution,
    bounds: ListBuilder<Float64Builder>,
    bucket_counts: ListBuilder<Int64Builder>,

    exps: PointHead,
    exp: Distribution,
    scale: Int32Builder,
    zero_count: Int64Builder,
    zero_threshold: Float64Builder,
    positive_offset: Int32Builder,
    positive: ListBuilder<Int64Builder>,
    negative_offset: Int32Builder,
    negative: ListBuilder<Int64Builder>,

    summaries: PointHead,
    summary_count: Int64Builder,
    summary_sum: Float64Builder,
    quantile: Float64Builder,
    quantile_value: Float64Builder,
    quantile_offsets: Vec<i32>,

    exemplars: Head,
    exemplar_value: Float64Builder,
    exemplar_value_int: Int64Builder,
    exemplar_trace: StringBuilder,
    exemplar_span: StringBuilder,
    exemplar_attributes: AttributesBuilder,
}

/// Nanoseconds of a day.
const DAY: i64 = 86_400_000_000_000;

impl MetricsBuilder {
    /// Points pushed so far, of all kinds.
    pub fn n_points(&self) -> usize {
        self.points.head.len() + self.histograms.head.len() + self.exps.head.len() + self.summaries.head.len()
    }

    /// Rows of series so far.
    pub fn n_series(&self) -> usize {
        self.series_id.values_slice().len()
    }

    /// Adds an attribute to the data point being built; the last value of a key wins.
    pub fn attribute(&mut self, key: &str, value: Value<'_>) {
        self.pending.push((key.to_string(), value.text(&mut String::new()).to_string()));
    }

    /// Forgets the attributes added since the last point: the point turned out to be bad.
    pub fn abandon(&mut self) {
        self.pending.clear();
    }

    /// Names the series of the point being built, out of its resource, metric and the attributes added so far, and
    /// adds a `metric_series` row the first time this builder meets it on the point's day. Returns `series_id`:
    /// xxh3-64 over name, type, unit, temporality, resource, scope and the sorted attributes.
    pub fn series(&mut self, context: &Context, key: &SeriesKey<'_>, time_unix_nano: i64) -> i64 {
        let mut attributes = std::mem::take(&mut self.pending);
        attributes.sort_by(|a, b| a.0.cmp(&b.0));
        attributes.reverse();
        attributes.dedup_by(|a, b| a.0 == b.0);
        attributes.reverse();
        let mut hasher = Xxh3Default::new();
        let mut feed = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        feed(key.name);
        feed(key.metric_type);
        feed(key.unit);
        feed(key.temporality.unwrap_or_default());
        for (k, v) in &attributes {
            feed(k);
            feed(v);
        }
        hasher.update(&context.hash().to_le_bytes());
        let id = hasher.digest() as i64;
        self.current = CurrentSeries {
            id,
            name: key.name.to_string(),
            service: context.service_name().map(str::to_string),
        };
        if self.seen.insert((id, time_unix_nano.div_euclid(DAY))) {
            self.series_id.append_value(id);
            self.series_name.append_value(key.name);
            self.series_type.append_value(key.metric_type);
            self.series_unit.append_option((!key.unit.is_empty()).then_some(key.unit));
            self.series_description.append_option((!key.description.is_empty()).then_some(key.description));
            self.series_temporality.append_option(key.temporality);
            self.series_monotonic.append_option(key.is_monotonic);
            self.series_service.append_option(context.service_name());
            for (attribute, column) in super::schema::RESOURCE_COLUMNS {
                // service.name has its column here; the others have none in this table and stand in the map
                if let Some(value) = context.column(column).filter(|_| column != "service_name") {
                    self.series_resource.add(attribute, Value::Str(value));
                }
            }
            for (k, v) in context.resource_attributes() {
                self.series_resource.add(k, Value::Str(v));
            }
            self.series_resource.finish_row();
            for (k, v) in &attributes {
                self.series_attributes.add(k, Value::Str(v));
            }
            self.series_attributes.finish_row();
            self.series_time.append_value(time_unix_nano);
        }
        id
    }

    /// Adds an attribute to the exemplar that the next [`MetricsBuilder::exemplar`] completes.
    pub fn exemplar_attribute(&mut self, key: &str, value: Value<'_>) {
        self.exemplar_attributes.add(key, value);
    }

    /// Completes an exemplar of the current series.
    pub fn exemplar(&mut self, time_unix_nano: i64, value: Option<f64>, value_int: Option<i64>, trace_id: Option<TraceId>, span_id: Option<SpanId>) {
        self.exemplars.push(&self.current, time_unix_nano);
        self.exemplar_value.append_option(value.or(value_int.map(|v| v as f64)));
        self.exemplar_value_int.append_option(value_int);
        append_trace_id(&mut self.exemplar_trace, trace_id);
        append_span_id(&mut self.exemplar_span, span_id);
        self.exemplar_attributes.finish_row();
    }

    /// Adds a point to the current series.
    pub fn point(&mut self, point: &Point<'_>) {
        match &point.kind {
            PointKind::Double(_) | PointKind::Int(_) | PointKind::None => {
                self.points.push(&self.current, point);
                let (value, value_int) = match point.kind {
                    PointKind::Double(value) => (Some(value), None),
                    PointKind::Int(value) => (Some(value as f64), Some(value)),
                    _ => (None, None),
                };
                self.value.append_option(value);
                self.value_int.append_option(value_int);
            }
            PointKind::Histogram {
                count,
                sum,
                min,
                max,
                bounds,
                bucket_counts,
            } => {
                self.histograms.push(&self.current, point);
                self.histogram.push(*count, *sum, *min, *max);
                self.bounds.append_value(bounds.iter().copied().map(Some));
                self.bucket_counts.append_value(bucket_counts.iter().copied().map(Some));
            }
            PointKind::ExpHistogram {
                count,
                sum,
                min,
                max,
                scale,
                zero_count,
                zero_threshold,
                positive_offset,
                positive_counts,
                negative_offset,
                negative_counts,
            } => {
                self.exps.push(&self.current, point);
                self.exp.push(*count, *sum, *min, *max);
                self.scale.append_value(*scale);
                self.zero_count.append_value(*zero_count);
                self.zero_threshold.append_value(*zero_threshold);
                self.positive_offset.append_value(*positive_offset);
                self.positive.append_value(positive_counts.iter().copied().map(Some));
                self.negative_offset.append_value(*negative_offset);
                self.negative.append_value(negative_counts.iter().copied().map(Some));
            }
            PointKind::Summary { count, sum, quantiles } => {
                self.summaries.push(&self.current, point);
                self.summary_count.append_value(*count);
                self.summary_sum.append_option(*sum);
                for (quantile, value) in *quantiles {
                    self.quantile.append_value(*quantile);
                    self.quantile_value.append_value(*value);
                }
                self.quantile_offsets.push(self.quantile.values_slice().len() as i32);
            }
        }
    }

    /// The rows of every table that has any; `ingest_id` is 0 everywhere.
    pub fn finish(&mut self) -> Result<Vec<Rows>, ArrowError> {
        self.seen.clear();
        let mut out = Vec::new();
        let mut add = |table: Table, mut columns: Vec<ArrayRef>| -> Result<(), ArrowError> {
            let n_rows = columns[0].len();
            if n_rows == 0 {
                return Ok(());
            }
            columns.push(Arc::new(Int64Array::from(vec![0i64; n_rows])));
            let schema = table.schema();
            let columns = columns
                .iter()
                .zip(schema.fields())
                .map(|(column, field)| conform(column, field.data_type()))
                .collect::<Result<_, _>>()?;
            out.push(Rows::try_new(table, RecordBatch::try_new(schema, columns)?, Arc::from([]))?);
            Ok(())
        };
        let schema = Table::MetricSeries.schema();
        let map_type = schema.field_with_name("attributes")?.data_type().clone();
        let resource_type = schema.field_with_name("resource_attributes")?.data_type().clone();
        let time = self.series_time.finish();
        add(
            Table::MetricSeries,
            vec![
                Arc::new(self.series_id.finish()),
                Arc::new(self.series_name.finish()),
                Arc::new(self.series_type.finish()),
                Arc::new(self.series_unit.finish()),
                Arc::new(self.series_description.finish()),
                Arc::new(self.series_temporality.finish()),
                Arc::new(self.series_monotonic.finish()),
                Arc::new(self.series_service.finish()),
                self.series_resource.finish(&resource_type)?,
                self.series_attributes.finish(&map_type)?,
                micros(&time),
                Arc::new(time),
            ],
        )?;
        let mut columns = self.points.finish();
        columns.extend([Arc::new(self.value.finish()) as ArrayRef, Arc::new(self.value_int.finish())]);
        add(Table::MetricPoints, columns)?;

        let mut columns = self.histograms.finish();
        columns.extend(self.histogram.finish());
        columns.extend([Arc::new(self.bounds.finish()) as ArrayRef, Arc::new(self.bucket_counts.finish())]);
        add(Table::MetricHistograms, columns)?;

        let mut columns = self.exps.finish();
        columns.extend(self.exp.finish());
        columns.extend([
            Arc::new(self.scale.finish()) as ArrayRef,
            Arc::new(self.zero_count.finish()),
            Arc::new(self.zero_threshold.finish()),
            Arc::new(self.positive_offset.finish()),
            Arc::new(self.positive.finish()),
            Arc::new(self.negative_offset.finish()),
            Arc::new(self.negative.finish()),
        ]);
        add(Table::MetricExpHistograms, columns)?;

        let mut columns = self.summaries.finish();
        columns.extend([
            Arc::new(self.summary_count.finish()) as ArrayRef,
            Arc::new(self.summary_sum.finish()),
            self.quantiles()?,
        ]);
        add(Table::MetricSummaries, columns)?;

        let mut columns = self.exemplars.finish();
        let attributes_type = Table::MetricExemplars.schema().field_with_name("attributes")?.data_type().clone();
        columns.extend([
            Arc::new(self.exemplar_value.finish()) as ArrayRef,
            Arc::new(self.exemplar_value_int.finish()),
            Arc::new(self.exemplar_trace.finish()),
            Arc::new(self.exemplar_span.finish()),
            self.exemplar_attributes.finish(&attributes_type)?,
        ]);
        add(Table::MetricExemplars, columns)?;
        Ok(out)
    }

    fn quantiles(&mut self) -> Result<ArrayRef, ArrowError> {
        let schema = Table::MetricSummaries.schema();
        let DataType::List(element) = schema.field_with_name("quantiles")?.data_type() else {
            return Err(ArrowError::SchemaError("quantiles is a list".into()));
        };
        let DataType::Struct(fields) = element.data_type() else {
            return Err(ArrowError::SchemaError("quantiles is a list of structs".into()));
        };
        let items = StructArray::try_new(
            fields.clone(),
            vec![Arc::new(self.quantile.finish()), Arc::new(self.quantile_value.finish())],
            None,
        )?;
        let mut offsets = vec![0];
        offsets.append(&mut self.quantile_offsets);
        Ok(Arc::new(ListArray::try_new(
            element.clone(),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Arc::new(items),
            None,
        )?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::super::ContextBuilder;
    use super::*;

    #[test]
    fn every_kind_of_point_has_its_table_and_one_series_row() {
        let mut builder = MetricsBuilder::default();
        let context = ContextBuilder::new()
            .attribute("service.name", Value::Str("api"))
            .attribute("host.name", Value::Str("h"))
            .build();
        let key = |name: &'static str, metric_type| SeriesKey {
            name,
            metric_type,
            unit: "s",
            description: "",
            temporality: None,
            is_monotonic: None,
        };
        let kinds = [
            (key("g", "gauge"), PointKind::Double(f64::NAN)),
            (key("g", "gauge"), PointKind::Int(i64::MIN)),
            (
                key("h", "histogram"),
                PointKind::Histogram {
                    count: 3,
                    sum: Some(1.0),
                    min: None,
                    max: None,
                    bounds: &[1.0],
                    bucket_counts: &[1, 2],
                },
            ),
            (
                key("e", "exponential_histogram"),
                PointKind::ExpHistogram {
                    count: 1,
                    sum: None,
                    min: None,
                    max: None,
                    scale: 3,
                    zero_count: 0,
                    zero_threshold: 0.0,
                    positive_offset: -1,
                    positive_counts: &[1],
                    negative_offset: 0,
                    negative_counts: &[],
                },
            ),
            (
                key("s", "summary"),
                PointKind::Summary {
                    count: 2,
                    sum: Some(2.0),
                    quantiles: &[(0.5, 1.0), (1.0, 2.0)],
                },
            ),
        ];
        for (key, kind) in kinds {
            builder.attribute("b", Value::Int(1));
            builder.attribute("a", Value::Int(1));
            builder.attribute("b", Value::Int(2));
            builder.series(&context, &key, 5);
            builder.exemplar(5, None, Some(4), TraceId::from_bytes(&[1; 16]), None);
            builder.point(&Point {
                time_unix_nano: 5,
                start_time_unix_nano: None,
                flags: 0,
                kind,
            });
        }
        assert_eq!(builder.n_points(), 5);
        let tables: Vec<(Table, usize)> = builder.finish().expect("rows").iter().map(|rows| (rows.table(), rows.len())).collect();
        assert_eq!(
            tables,
            [
                (Table::MetricSeries, 4),
                (Table::MetricPoints, 2),
                (Table::MetricHistograms, 1),
                (Table::MetricExpHistograms, 1),
                (Table::MetricSummaries, 1),
                (Table::MetricExemplars, 5)
            ]
        );
        assert!(builder.finish().expect("nothing left").is_empty());
    }

    #[test]
    fn attribute_order_does_not_make_a_series() {
        let mut builder = MetricsBuilder::default();
        let context = ContextBuilder::new().build();
        let key = SeriesKey {
            name: "m",
            metric_type: "sum",
            unit: "",
            description: "",
            temporality: Some("delta"),
            is_monotonic: Some(true),
        };
        builder.attribute("a", Value::Int(1));
        builder.attribute("b", Value::Int(2));
        let one = builder.series(&context, &key, 0);
        builder.attribute("b", Value::Int(2));
        builder.attribute("a", Value::Int(1));
        assert_eq!(builder.series(&context, &key, 0), one);
        builder.attribute("a", Value::Int(1));
        assert_ne!(builder.series(&context, &key, 0), one);
        let rows = builder.finish().expect("rows");
        let attributes = rows[0].batch().column_by_name("attributes").expect("column").clone();
        assert_eq!(attributes.as_map().value(0).column(0).as_string::<i32>().value(0), "a");
    }
}
