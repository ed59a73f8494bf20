//! The tables: their columns, order, types and field IDs, as they stand in Parquet and as SQL sees them.
//!
//! Rules (reference: engine.md §3.1): snake case of OpenTelemetry's names; no unsigned types, no dictionary or enum
//! logical types, no nanosecond timestamps (Spark refuses them): event time is `time` in microseconds UTC for tools and
//! `time_unix_nano` BIGINT exact. IDs are lower-case hex. MAP fields use the specification's `key_value/key/value`.
//! No column is called like a partition key (`dt`, `hour`). Every field, nested ones too, carries a `PARQUET:field_id`;
//! IDs are append-only: a new column takes the next free number, a removed one is never reused.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::Signal;

/// Version of the column layout, written into every Parquet file and catalog record.
///
/// Version 2 added `trace_id_source` and `pattern_id` to `logs` and `xray_document` to `spans`; files of version 1 have nulls there.
/// Version 3 added `node` to `traces`.
pub const SCHEMA_VERSION: u32 = 3;

/// Nanoseconds of an hour.
pub const HOUR_NANOS: i64 = 3_600_000_000_000;

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Log records.
    Logs,
    /// Spans and X-Ray (sub)segments.
    Spans,
    /// One row a metric series, day and flush.
    MetricSeries,
    /// Points of gauges and sums.
    MetricPoints,
    /// Points of explicit-bucket histograms.
    MetricHistograms,
    /// Points of exponential histograms.
    MetricExpHistograms,
    /// Points of summaries.
    MetricSummaries,
    /// Exemplars of any metric point.
    MetricExemplars,
    /// Evaluations and notifications of alert rules.
    Alerts,
    /// One summary a trace, and a further one whenever it turns out to be more: the greatest `revision` counts.
    Traces,
    /// Requests by minute, caller, callee, operation and time; rows add up, and take back.
    ServiceEdges,
}

impl Table {
    /// Every table, in the order that documentation and listings use.
    pub const ALL: [Table; 11] = [
        Table::Logs,
        Table::Spans,
        Table::MetricSeries,
        Table::MetricPoints,
        Table::MetricHistograms,
        Table::MetricExpHistograms,
        Table::MetricSummaries,
        Table::MetricExemplars,
        Table::Alerts,
        Table::Traces,
        Table::ServiceEdges,
    ];

    /// The name in SQL, in object keys and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Table::Logs => "logs",
            Table::Spans => "spans",
            Table::MetricSeries => "metric_series",
            Table::MetricPoints => "metric_points",
            Table::MetricHistograms => "metric_histograms",
            Table::MetricExpHistograms => "metric_exp_histograms",
            Table::MetricSummaries => "metric_summaries",
            Table::MetricExemplars => "metric_exemplars",
            Table::Alerts => "alerts",
            Table::Traces => "traces",
            Table::ServiceEdges => "service_edges",
        }
    }

    /// Reads [`Table::name`].
    pub fn from_name(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Whether blocks are partitioned by hour under the day (`dt=…/hour=…`); the others by day alone.
    pub fn is_hourly(self) -> bool {
        matches!(self, Table::Logs | Table::Spans)
    }

    /// Whether blocks carry a tantivy index and rows carry a [`super::Context`].
    pub fn is_searchable(self) -> bool {
        self.is_hourly()
    }

    /// Whether a row is a record that a client sent; series and exemplars only come along with points.
    pub fn holds_records(self) -> bool {
        !matches!(self, Table::MetricSeries | Table::MetricExemplars) && !self.is_derived()
    }

    /// Whether its rows are made of the rows of other tables.
    pub fn is_derived(self) -> bool {
        matches!(self, Table::Traces | Table::ServiceEdges)
    }

    /// What its records are to the ledger; rows that tracelake writes itself count as logs.
    pub fn signal(self) -> Signal {
        match self {
            Table::Logs | Table::Alerts => Signal::Logs,
            Table::Spans | Table::Traces | Table::ServiceEdges => Signal::Traces,
            Table::MetricSeries
            | Table::MetricPoints
            | Table::MetricHistograms
            | Table::MetricExpHistograms
            | Table::MetricSummaries
            | Table::MetricExemplars => Signal::Metrics,
        }
    }

    /// Nanoseconds of event time that one partition holds: an hour, or a day.
    pub fn partition_width_nanos(self) -> i64 {
        if self.is_hourly() { HOUR_NANOS } else { 24 * HOUR_NANOS }
    }

    /// Start of the partition that an event time lies in, nanoseconds.
    pub fn partition_of(self, nanos: i64) -> i64 {
        let width = self.partition_width_nanos();
        nanos.div_euclid(width).saturating_mul(width)
    }

    /// The exact event-time column, nanoseconds, by which rows are placed in an hour, pruned and (logs, spans) sorted
    /// newest first.
    pub fn time_column(self) -> &'static str {
        match self {
            Table::Spans => "start_time_unix_nano",
            _ => "time_unix_nano",
        }
    }

    /// The columns as stored in Parquet and seen by SQL.
    pub fn schema(self) -> SchemaRef {
        SCHEMAS[self as usize].clone()
    }
}

/// Resource attributes that have a column of their own in `logs` and `spans`: (attribute, column).
///
/// A promoted value lives only in its column, not in `resource_attributes`.
pub const RESOURCE_COLUMNS: [(&str, &str); 11] = [
    ("service.name", "service_name"),
    ("service.namespace", "service_namespace"),
    ("service.version", "service_version"),
    ("deployment.environment.name", "deployment_environment_name"),
    ("host.name", "host_name"),
    ("k8s.namespace.name", "k8s_namespace_name"),
    ("k8s.pod.name", "k8s_pod_name"),
    ("k8s.container.name", "k8s_container_name"),
    ("cloud.region", "cloud_region"),
    ("aws.log.group.names", "aws_log_group"),
    ("aws.log.stream.names", "aws_log_stream"),
];

/// Span attributes that have a column of their own: (attribute, column). `http_response_status_code` is INT32, the
/// others are strings; a value of another type stays in the map.
///
/// A promoted value lives only in its column. The names that earlier semantic conventions used
/// ([`LEGACY_SPAN_COLUMNS`]) fill the column too but also stay in the map under the name the client sent.
pub const SPAN_COLUMNS: [(&str, &str); 11] = [
    ("http.request.method", "http_request_method"),
    ("http.route", "http_route"),
    ("http.response.status_code", "http_response_status_code"),
    ("url.path", "url_path"),
    ("rpc.service", "rpc_service"),
    ("rpc.method", "rpc_method"),
    ("db.system.name", "db_system_name"),
    ("db.query.summary", "db_query_summary"),
    ("messaging.destination.name", "messaging_destination_name"),
    ("peer.service", "peer_service"),
    ("server.address", "server_address"),
];

/// Older names of [`SPAN_COLUMNS`]: (attribute, column).
pub const LEGACY_SPAN_COLUMNS: [(&str, &str); 5] = [
    ("http.method", "http_request_method"),
    ("http.status_code", "http_response_status_code"),
    ("http.target", "url_path"),
    ("db.system", "db_system_name"),
    ("net.peer.name", "server_address"),
];

/// Columns of `logs` and `spans` whose value comes from the row's [`super::Context`].
pub const SCOPE_COLUMNS: [&str; 2] = ["scope_name", "scope_version"];

/// In memory, rows of `logs` and `spans` have this INT32 column, the number of their context, in place of the
/// [`RESOURCE_COLUMNS`], [`SCOPE_COLUMNS`] and `resource_attributes`.
pub const CONTEXT_COLUMN: &str = "context";

/// Whether a column of `logs` or `spans` is kept in the context rather than in each row.
pub fn is_context_column(name: &str) -> bool {
    name == "resource_attributes" || SCOPE_COLUMNS.contains(&name) || RESOURCE_COLUMNS.iter().any(|(_, column)| *column == name)
}

/// The row-level columns of a searchable table in memory: its schema without the context columns, and
/// [`CONTEXT_COLUMN`] at the end. For other tables, the schema itself.
pub fn memory_schema(table: Table) -> SchemaRef {
    MEMORY_SCHEMAS[table as usize].clone()
}

static SCHEMAS: LazyLock<Vec<SchemaRef>> = LazyLock::new(|| Table::ALL.into_iter().map(build).collect());

static MEMORY_SCHEMAS: LazyLock<Vec<SchemaRef>> = LazyLock::new(|| {
    Table::ALL
        .into_iter()
        .map(|table| {
            if !table.is_searchable() {
                return table.schema();
            }
            let mut fields: Vec<Arc<Field>> = table
                .schema()
                .fields()
                .iter()
                .filter(|field| !is_context_column(field.name()))
                .cloned()
                .collect();
            fields.push(Arc::new(Field::new(CONTEXT_COLUMN, DataType::Int32, false)));
            Arc::new(Schema::new(fields))
        })
        .collect()
});

/// `TIMESTAMP(MICROS, UTC)`.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// `MAP<string, string>` with the specification's field names; the IDs are set by [`with_ids`].
fn string_map() -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

/// One column before its field ID is set.
fn col(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field::new(name, data_type, nullable)
}

fn text(name: &str) -> Field {
    col(name, DataType::Utf8, true)
}

fn build(table: Table) -> SchemaRef {
    let mut columns = Vec::new();
    let resource = || RESOURCE_COLUMNS.iter().map(|(_, column)| text(column)).collect::<Vec<_>>();
    match table {
        Table::Logs => {
            columns.extend([
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                col("observed_time", timestamp(), true),
                text("trace_id"),
                text("span_id"),
                col("trace_flags", DataType::Int32, true),
                col("severity_number", DataType::Int32, false),
                text("severity_text"),
                text("event_name"),
                text("body"),
                col("body_type", DataType::Int32, false),
            ]);
            columns.extend(resource());
            columns.extend([
                text("scope_name"),
                text("scope_version"),
                col("resource_attributes", string_map(), false),
                col("attributes", string_map(), false),
                col("dropped_attributes_count", DataType::Int32, false),
                col("ingest_id", DataType::Int64, false),
                // since version 2
                text("trace_id_source"),
                col("pattern_id", DataType::Int64, true),
            ]);
        }
        Table::Spans => {
            columns.extend([
                col("start_time", timestamp(), false),
                col("start_time_unix_nano", DataType::Int64, false),
                col("end_time", timestamp(), true),
                col("duration_nano", DataType::Int64, false),
                col("trace_id", DataType::Utf8, false),
                col("span_id", DataType::Utf8, false),
                text("parent_span_id"),
                text("trace_state"),
                col("trace_flags", DataType::Int32, true),
                col("name", DataType::Utf8, false),
                col("kind", DataType::Utf8, false),
                col("status_code", DataType::Utf8, false),
                text("status_message"),
                col("is_root", DataType::Boolean, false),
                col("in_progress", DataType::Boolean, false),
            ]);
            columns.extend(resource());
            columns.extend(SPAN_COLUMNS.iter().map(|(_, column)| match *column {
                "http_response_status_code" => col(column, DataType::Int32, true),
                _ => text(column),
            }));
            let event = Fields::from(vec![
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                text("name"),
                col("attributes", string_map(), false),
            ]);
            let link = Fields::from(vec![
                text("trace_id"),
                text("span_id"),
                text("trace_state"),
                col("attributes", string_map(), false),
            ]);
            columns.extend([
                text("exception_type"),
                text("scope_name"),
                text("scope_version"),
                col("resource_attributes", string_map(), false),
                col("attributes", string_map(), false),
                col("events", list(DataType::Struct(event)), false),
                col("links", list(DataType::Struct(link)), false),
                col("dropped_attributes_count", DataType::Int32, false),
                col("ingest_id", DataType::Int64, false),
                // since version 2
                text("xray_document"),
            ]);
        }
        Table::MetricSeries => {
            columns.extend([
                col("series_id", DataType::Int64, false),
                col("metric_name", DataType::Utf8, false),
                col("metric_type", DataType::Utf8, false),
                text("unit"),
                text("description"),
                text("temporality"),
                col("is_monotonic", DataType::Boolean, true),
                text("service_name"),
                col("resource_attributes", string_map(), false),
                col("attributes", string_map(), false),
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                col("ingest_id", DataType::Int64, false),
            ]);
        }
        Table::MetricPoints | Table::MetricHistograms | Table::MetricExpHistograms | Table::MetricSummaries => {
            columns.extend([
                col("metric_name", DataType::Utf8, false),
                text("service_name"),
                col("series_id", DataType::Int64, false),
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                col("start_time", timestamp(), true),
                col("flags", DataType::Int32, false),
            ]);
            let distribution = [
                col("count", DataType::Int64, false),
                col("sum", DataType::Float64, true),
                col("min", DataType::Float64, true),
                col("max", DataType::Float64, true),
            ];
            match table {
                Table::MetricPoints => columns.extend([col("value", DataType::Float64, true), col("value_int", DataType::Int64, true)]),
                Table::MetricHistograms => {
                    columns.extend(distribution);
                    columns.extend([
                        col("bounds", list(DataType::Float64), false),
                        col("bucket_counts", list(DataType::Int64), false),
                    ]);
                }
                Table::MetricExpHistograms => {
                    columns.extend(distribution);
                    columns.extend([
                        col("scale", DataType::Int32, false),
                        col("zero_count", DataType::Int64, false),
                        col("zero_threshold", DataType::Float64, false),
                        col("positive_offset", DataType::Int32, false),
                        col("positive_counts", list(DataType::Int64), false),
                        col("negative_offset", DataType::Int32, false),
                        col("negative_counts", list(DataType::Int64), false),
                    ]);
                }
                _ => {
                    let quantile = Fields::from(vec![col("quantile", DataType::Float64, false), col("value", DataType::Float64, false)]);
                    columns.extend([
                        col("count", DataType::Int64, false),
                        col("sum", DataType::Float64, true),
                        col("quantiles", list(DataType::Struct(quantile)), false),
                    ]);
                }
            }
            columns.push(col("ingest_id", DataType::Int64, false));
        }
        Table::MetricExemplars => {
            columns.extend([
                col("metric_name", DataType::Utf8, false),
                text("service_name"),
                col("series_id", DataType::Int64, false),
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                col("value", DataType::Float64, true),
                col("value_int", DataType::Int64, true),
                text("trace_id"),
                text("span_id"),
                col("attributes", string_map(), false),
                col("ingest_id", DataType::Int64, false),
            ]);
        }
        Table::Alerts => {
            columns.extend([
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                col("rule", DataType::Utf8, false),
                col("group_key", DataType::Utf8, false),
                col("state", DataType::Utf8, false),
                col("value", DataType::Float64, true),
                col("threshold", DataType::Float64, true),
                col("window_start", timestamp(), false),
                col("window_end", timestamp(), false),
                col("notified", DataType::Boolean, false),
                text("reason"),
                text("link"),
                col("ingest_id", DataType::Int64, false),
            ]);
        }
        Table::Traces => {
            columns.extend([
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                col("duration_nano", DataType::Int64, false),
                col("response_time_nano", DataType::Int64, true),
                col("trace_id", DataType::Utf8, false),
                col("revision", DataType::Int32, false),
                text("root_service"),
                text("root_name"),
                col("services", list(DataType::Utf8), false),
                col("has_error", DataType::Boolean, false),
                col("has_fault", DataType::Boolean, false),
                col("has_throttle", DataType::Boolean, false),
                col("is_partial", DataType::Boolean, false),
                text("http_method"),
                text("http_url"),
                col("http_status_code", DataType::Int32, true),
                text("user_agent"),
                text("client_ip"),
                col("users", list(DataType::Utf8), false),
                col("annotations", string_map(), false),
                col("span_count", DataType::Int32, false),
                col("error_count", DataType::Int32, false),
                col("missing_parents", DataType::Int32, false),
                col("log_count", DataType::Int64, false),
                col("worst_severity", DataType::Int32, false),
                col("calls", DataType::Utf8, false),
                col("digest", DataType::Int64, false),
                col("ingest_id", DataType::Int64, false),
                // since version 3
                text("node"),
            ]);
        }
        Table::ServiceEdges => {
            columns.extend([
                col("time", timestamp(), false),
                col("time_unix_nano", DataType::Int64, false),
                text("client_name"),
                text("client_type"),
                text("client_account"),
                col("server_name", DataType::Utf8, false),
                col("server_type", DataType::Utf8, false),
                col("server_account", DataType::Utf8, false),
                col("operation", DataType::Utf8, false),
                col("caller_class", DataType::Int32, true),
                col("callee_class", DataType::Int32, true),
            ]);
            let sums = [
                "requests",
                "errors",
                "faults",
                "throttles",
                "caller_errors",
                "caller_faults",
                "caller_throttles",
                "caller_nano",
                "callee_nano",
            ];
            columns.extend(sums.map(|name| col(name, DataType::Int64, false)));
            columns.push(col("ingest_id", DataType::Int64, false));
        }
    }
    let mut next_nested = 1000;
    let columns: Vec<Field> = columns
        .into_iter()
        .enumerate()
        .map(|(i, field)| with_ids(field, i as i32 + 1, &mut next_nested))
        .collect();
    Arc::new(Schema::new(columns))
}

/// Sets `PARQUET:field_id` on a field and, counting on from `next_nested`, on all fields beneath it.
fn with_ids(field: Field, id: i32, next_nested: &mut i32) -> Field {
    let mut nested = |child: &Arc<Field>| {
        let id = *next_nested;
        *next_nested += 1;
        Arc::new(with_ids(child.as_ref().clone(), id, next_nested))
    };
    let data_type = match field.data_type() {
        DataType::List(child) => DataType::List(nested(child)),
        DataType::Map(child, sorted) => DataType::Map(nested(child), *sorted),
        DataType::Struct(children) => DataType::Struct(children.iter().map(&mut nested).collect()),
        other => other.clone(),
    };
    let metadata = HashMap::from([("PARQUET:field_id".to_string(), id.to_string())]);
    field.with_data_type(data_type).with_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_the_hour_or_day_that_a_time_lies_in() {
        let at = 30 * HOUR_NANOS + 5;
        assert_eq!(
            (Table::Logs.partition_of(at), Table::MetricPoints.partition_of(at)),
            (30 * HOUR_NANOS, 24 * HOUR_NANOS)
        );
        assert_eq!((Table::Spans.partition_of(-1), Table::Alerts.partition_of(-1)), (-HOUR_NANOS, -24 * HOUR_NANOS));
        for table in Table::ALL {
            let start = table.partition_of(at);
            assert_eq!(table.partition_of(start), start);
            assert_eq!(table.partition_of(start + table.partition_width_nanos() - 1), start);
            assert_eq!(table.partition_of(start + table.partition_width_nanos()), start + table.partition_width_nanos());
        }
    }

    #[test]
    fn schemas_follow_the_rules_for_foreign_readers() {
        fn check(table: Table, field: &Field, ids: &mut Vec<i32>) {
            ids.push(field.metadata()["PARQUET:field_id"].parse().expect("a number"));
            assert_eq!(field.name().to_lowercase(), *field.name());
            assert!(!["dt", "hour"].contains(&field.name().as_str()));
            match field.data_type() {
                DataType::List(child) | DataType::Map(child, _) => check(table, child, ids),
                DataType::Struct(children) => children.iter().for_each(|child| check(table, child, ids)),
                DataType::Utf8 | DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Boolean => {}
                DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {}
                other => panic!("{table:?}.{} is {other}", field.name()),
            }
        }
        for table in Table::ALL {
            let mut ids = Vec::new();
            table.schema().fields().iter().for_each(|field| check(table, field, &mut ids));
            let n = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), n, "{table:?} uses a field ID twice");
            assert!(table.schema().column_with_name(table.time_column()).is_some());
            assert_eq!(Table::from_name(table.name()), Some(table));
        }
    }
}
