//! CloudWatch Metric Streams: JSON, and OpenTelemetry 0.7 and 1.0.
//!
//! All three give the same rows ([`crate::decode::cloudwatch`]), whatever names the OpenTelemetry forms add: there the
//! metric is called `amazonaws.com/NAMESPACE/NAME`, and 0.7 has its dimensions as labels (field 1 of a point), 1.0 as
//! one attribute `Dimensions` (field 7). The two are told apart by what is there. Metrics that are no summaries are
//! nobody's Metric Stream and go the way of OTLP.
//!
//! Of the statistics that only JSON has, `p99` and the like are quantiles; others (`TM(25%:75%)`, `IQM`) are points of a
//! gauge of the metric's name, told apart by the attribute [`STATISTIC`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde::Deserialize;

use super::super::cloudwatch::{Measured, NAMESPACE, Sample, push, ucum};
use super::super::{Error, Reason, otlp};
use super::{Walk, nanos_of_millis};
use crate::decode;
use crate::model::{self, Rows, Value};

/// The attribute that names a further statistic.
pub(super) const STATISTIC: &str = "aws.cloudwatch.statistic";

/// Memory of a label of 0.7, which OTLP's own weight does not know; each begins with a byte 0x0a.
const LABEL_BYTES: usize = 2 * size_of::<Label>() + 32;
/// Memory of a message beside its parts.
const MESSAGE_BYTES: usize = size_of::<Request>() + size_of::<&[u8]>() + 32;
/// Memory of columns that hold next to nothing.
const BATCH_BYTES: usize = 8 << 10;

/// One object of the JSON form.
#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    account_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    region: Option<Cow<'a, str>>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    metric_name: Cow<'a, str>,
    #[serde(borrow, default)]
    dimensions: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    timestamp: Option<f64>,
    #[serde(borrow)]
    value: BTreeMap<Cow<'a, str>, f64>,
    #[serde(borrow, default)]
    unit: Option<Cow<'a, str>>,
}

impl Walk<'_> {
    /// Whether it was one.
    pub(super) fn metric_stream_json(&mut self, text: &str) -> Result<bool, Error> {
        let Ok(metric) = serde_json::from_str::<Json<'_>>(text) else {
            return Ok(false);
        };
        let Some(time_unix_nano) = metric.timestamp.and_then(nanos_of_millis) else {
            self.rejected_points.add(None, 1, Reason::InvalidTime, || {
                format!("metric {:?}: timestamp must be milliseconds since the epoch", metric.metric_name)
            });
            return Ok(true);
        };
        let statistic = |name: &str| metric.value.get(name).copied();
        let (Some(count), Some(sum)) = (statistic("count"), statistic("sum")) else {
            self.rejected_points.add(None, 1, Reason::InvalidField, || {
                format!("metric {:?}: value must have count and sum", metric.metric_name)
            });
            return Ok(true);
        };
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_string();
        let context = self.metric_context([text(&metric.account_id), text(&metric.region), metric.namespace.to_string()]);
        let unit = metric.unit.as_deref().unwrap_or("None");
        let mut measured = Measured {
            name: &metric.metric_name,
            unit: ucum(unit).unwrap_or(unit),
            time_unix_nano,
            start_time_unix_nano: None,
            sample: &Sample::One(0.0),
            trace: None,
        };
        let mut quantiles: Vec<(f64, f64)> = Vec::new();
        let mut others: Vec<(&str, f64)> = Vec::new();
        for (name, value) in &metric.value {
            match &**name {
                "count" | "sum" => {}
                "min" => quantiles.push((0.0, *value)),
                "max" => quantiles.push((1.0, *value)),
                name => match percentile(name) {
                    Some(quantile) => quantiles.push((quantile, *value)),
                    None => others.push((name, *value)),
                },
            }
        }
        // each of the others has all of it again
        let dimension_bytes: usize = metric.dimensions.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        let series_bytes = dimension_bytes + 2 * metric.metric_name.len() + unit.len() + context.memory_bytes();
        self.other_bytes = self.other_bytes.saturating_add(series_bytes.saturating_mul(1 + others.len()));
        self.hold_also(0)?;
        quantiles.sort_by(|a, b| a.0.total_cmp(&b.0));
        let sample = Sample::Statistics { count, sum, quantiles };
        measured.sample = &sample;
        for (name, value) in &metric.dimensions {
            self.metrics.attribute(name, Value::Str(value));
        }
        push(&mut self.metrics, &context, &measured);
        self.made_one()?;
        self.tally.metric_points += 1;
        for (statistic, value) in others {
            for (name, value) in &metric.dimensions {
                self.metrics.attribute(name, Value::Str(value));
            }
            self.metrics.attribute(STATISTIC, Value::Str(statistic));
            push(
                &mut self.metrics,
                &context,
                &Measured {
                    sample: &Sample::One(value),
                    ..measured.clone()
                },
            );
            self.made_one()?;
            self.tally.metric_points += 1;
        }
        Ok(true)
    }

    fn metric_context(&mut self, key: [String; 3]) -> Arc<model::Context> {
        if let Some(context) = self.measured.get(&key) {
            return context.clone();
        }
        let [account, region, namespace] = &key;
        let mut resource = self.resource(Some(account), Some(region));
        resource.attribute(NAMESPACE, Value::Str(namespace));
        let context = resource.build();
        self.other_bytes += context.memory_bytes();
        self.measured.insert(key, context.clone());
        context
    }

    /// Whether a record was one or more OTLP messages, each behind its length.
    pub(super) fn metric_stream_otlp(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        let Some(messages) = delimited(bytes) else { return Ok(false) };
        // text that happens to be framed so is text still
        if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
            return Ok(false);
        }
        let mut bytes_of_all = 0usize;
        for message in &messages {
            match otlp::weigh_metrics(message) {
                Ok(bytes) => bytes_of_all = bytes_of_all.saturating_add(bytes + MESSAGE_BYTES + LABEL_BYTES * memchr::memchr_iter(0x0a, message).count()),
                Err(error @ Error::TooMany { .. }) => return Err(error),
                Err(_) => return Ok(false),
            }
        }
        self.hold_also(bytes_of_all)?;
        let Ok(requests) = messages.iter().map(|message| Request::decode(*message)).collect::<Result<Vec<_>, _>>() else {
            return Ok(false);
        };
        for (message, request) in messages.iter().zip(requests) {
            if !request.is_of_metric_stream() {
                let context = decode::Context {
                    received_at_nanos: self.received_nanos,
                    retention_days: 0,
                };
                let decoded = otlp::metrics(message, &context)?;
                self.tally.metric_points += decoded
                    .batch
                    .rows
                    .iter()
                    .filter(|rows| rows.table().holds_records())
                    .map(|rows| rows.len() as u64)
                    .sum::<u64>();
                self.n_otlp += decoded.batch.rows.iter().map(Rows::len).max().unwrap_or(0);
                self.other_bytes += decoded.batch.memory_bytes() + BATCH_BYTES * decoded.batch.rows.len();
                self.otlp.extend(decoded.batch.rows);
                self.made_one()?;
                decoded
                    .rejected
                    .into_iter()
                    .for_each(|more| self.rejected_points.add(more.sender.as_ref(), more.count, more.reason, || more.message));
                continue;
            }
            for resource_metrics in request.resource_metrics {
                self.metric_stream_resource(resource_metrics)?;
            }
        }
        Ok(true)
    }

    fn metric_stream_resource(&mut self, resource_metrics: ResourceMetrics) -> Result<(), Error> {
        let mut contexts: HashMap<String, Arc<model::Context>> = HashMap::new();
        let attributes = resource_metrics.resource.map(|resource| resource.attributes).unwrap_or_default();
        for metric in resource_metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            for point in metric.summary.iter().flat_map(|summary| &summary.data_points) {
                let named = Named::of(point, &metric.name);
                let Some(time_unix_nano) = i64::try_from(point.time_unix_nano).ok().filter(|nanos| *nanos > 0) else {
                    self.rejected_points.add(None, 1, Reason::InvalidTime, || {
                        format!("metric {:?}: time_unix_nano must be set and before the year 2262", metric.name)
                    });
                    continue;
                };
                let context = match contexts.get(named.namespace) {
                    Some(context) => context.clone(),
                    None => {
                        let mut resource = self.resource(None, None);
                        for attribute in &attributes {
                            resource.attribute(&attribute.key, Value::Str(text(attribute.value.as_ref())));
                        }
                        if !named.namespace.is_empty() {
                            resource.attribute(NAMESPACE, Value::Str(named.namespace));
                        }
                        let context = resource.build();
                        self.other_bytes += context.memory_bytes();
                        self.hold_also(0)?;
                        contexts.insert(named.namespace.to_string(), context.clone());
                        context
                    }
                };
                for (name, value) in &named.dimensions {
                    self.metrics.attribute(name, Value::Str(value));
                }
                let sample = Sample::Statistics {
                    count: point.count as f64,
                    sum: point.sum,
                    quantiles: point.quantile_values.iter().map(|value| (value.quantile, value.value)).collect(),
                };
                let measured = Measured {
                    name: named.name,
                    unit: &metric.unit,
                    time_unix_nano,
                    start_time_unix_nano: i64::try_from(point.start_time_unix_nano).ok().filter(|nanos| *nanos > 0),
                    sample: &sample,
                    trace: None,
                };
                // its row has the name again; that of its series the unit and the resource too
                let n_series = self.metrics.n_series();
                self.other_bytes += named.name.len();
                self.hold_also(metric.unit.len())?;
                push(&mut self.metrics, &context, &measured);
                if self.metrics.n_series() > n_series {
                    self.other_bytes += named.name.len() + metric.unit.len() + context.memory_bytes();
                }
                self.made_one()?;
                self.tally.metric_points += 1;
            }
        }
        Ok(())
    }
}

/// `p99.9`
fn percentile(name: &str) -> Option<f64> {
    // moved in decimal: 99.9 / 100 is a little more than .999
    let quantile: f64 = format!("{}e-2", name.strip_prefix('p')?).parse().ok()?;
    (0.0..=1.0).contains(&quantile).then_some(quantile)
}

/// Messages, each behind its length as a varint, and nothing else; each begins with a field 1 of bytes.
fn delimited(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
        let message = rest.get(..length)?;
        if message.first() != Some(&0x0a) {
            return None;
        }
        messages.push(message);
        rest = &rest[length..];
    }
    (!messages.is_empty()).then_some(messages)
}

/// A point's names, as 0.7 or 1.0 have them.
struct Named<'a> {
    namespace: &'a str,
    name: &'a str,
    dimensions: Vec<(&'a str, &'a str)>,
}

impl<'a> Named<'a> {
    fn of(point: &'a SummaryPoint, metric_name: &'a str) -> Named<'a> {
        let mut named = Named {
            namespace: "",
            name: metric_name,
            dimensions: Vec::new(),
        };
        let labels = point.labels.iter().map(|label| (&*label.key, &*label.value));
        for (key, value) in labels {
            match key {
                // a dimension may be called so too: the first is the stream's own
                "Namespace" if named.namespace.is_empty() => named.namespace = value,
                "MetricName" if named.name == metric_name => named.name = value,
                _ => named.dimensions.push((key, value)),
            }
        }
        for attribute in &point.attributes {
            let value = attribute.value.as_ref();
            match (&*attribute.key, value.and_then(|value| value.value.as_ref())) {
                ("Namespace", _) => named.namespace = text(value),
                ("MetricName", _) => named.name = text(value),
                ("Dimensions", Some(Any::KvlistValue(list))) => {
                    named
                        .dimensions
                        .extend(list.values.iter().map(|entry| (&*entry.key, text(entry.value.as_ref()))));
                }
                (key, _) => named.dimensions.push((key, text(value))),
            }
        }
        named
    }
}

fn text(value: Option<&AnyValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text,
        _ => "",
    }
}

/// `ExportMetricsServiceRequest`, as much of 0.7 and 1.0 as Metric Streams use: the numbers of the fields that both have
/// are the same.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) unit: String,
    #[prost(message, optional, tag = "11")]
    pub(super) summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<SummaryPoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SummaryPoint {
    /// 0.7 alone.
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(fixed64, tag = "2")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    pub(super) count: u64,
    #[prost(double, tag = "5")]
    pub(super) sum: f64,
    #[prost(message, repeated, tag = "6")]
    pub(super) quantile_values: Vec<Quantile>,
    /// 1.0 alone.
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Quantile {
    #[prost(double, tag = "1")]
    pub(super) quantile: f64,
    #[prost(double, tag = "2")]
    pub(super) value: f64,
}

impl Request {
    fn is_of_metric_stream(&self) -> bool {
        let scopes = self.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).all(|metric| metric.summary.is_some())
    }
}
