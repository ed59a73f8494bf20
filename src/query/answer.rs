//! Questions and answers; answers serialise to the API's JSON.

use std::time::Duration;

use serde::ser::{Serialize, Serializer};

use super::{Coverage, Hit, Query};
use crate::model::{Table, TimeRange, TraceId};

/// Which rows come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    NewestFirst,
    /// The oldest.
    OldestFirst,
}

/// Where a page ended; opaque to clients. Rows order by time, then `ingest_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Time of the last hit, nanoseconds.
    pub time_unix_nano: i64,
    /// Its `ingest_id`.
    pub ingest_id: i64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.time_unix_nano, self.ingest_id)
    }
}

impl std::str::FromStr for Cursor {
    type Err = super::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || super::Error::BadRequest {
            message: format!("{text:?} is not a cursor"),
            hint: Some("pass next_cursor of the previous page unchanged".into()),
        };
        let (time, id) = text.split_once('.').ok_or_else(bad)?;
        Ok(Cursor {
            time_unix_nano: time.parse().map_err(|_| bad())?,
            ingest_id: id.parse().map_err(|_| bad())?,
        })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Asks for the newest, or oldest, rows that match.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// `logs` or `spans`.
    pub table: Table,
    /// Which rows.
    pub query: Query,
    /// When.
    pub range: TimeRange,
    /// At most so many; cut to `Config::max_limit`. The page may end sooner, at `Config::max_answer_bytes`.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
    /// Which rows come first.
    pub order: Order,
}

/// One page, in the order asked for.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SearchResponse {
    /// The rows.
    pub hits: Vec<Hit>,
    /// Where the next page starts; `None` when this is the last.
    pub next_cursor: Option<Cursor>,
    /// Where not everything could be read: the first time, in the order asked for, of which rows may be missing. All rows of the page that
    /// come before are there.
    #[serde(skip)]
    pub whole_until: Option<i64>,
    /// What the page rests on.
    pub coverage: Coverage,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Record {
    /// The row.
    pub hit: Hit,
    /// What was looked at to find it.
    pub coverage: Coverage,
}

/// Asks how many rows match, over time.
#[derive(Clone, Debug)]
pub struct HistogramRequest {
    /// `logs` or `spans`.
    pub table: Table,
    /// Which rows.
    pub query: Query,
    /// When.
    pub range: TimeRange,
    /// At most so many buckets (1 to 2,000); their width is rounded up to a round one.
    pub buckets: usize,
}

/// Rows over time and severity (spans: status).
#[derive(Clone, Debug, serde::Serialize)]
pub struct Histogram {
    /// First nanosecond asked for (where the range was open: of what there is).
    #[serde(serialize_with = "number_text")]
    pub start_unix_nano: i64,
    /// First nanosecond after.
    #[serde(serialize_with = "number_text")]
    pub end_unix_nano: i64,
    /// Width of a bucket.
    #[serde(serialize_with = "number_text")]
    pub bucket_nanos: i64,
    /// What the numbers of a bucket count, in order.
    pub series: &'static [&'static str],
    /// Every bucket, empty ones too, in order of time.
    pub buckets: Vec<Bucket>,
    /// Sum of all.
    pub total: u64,
    /// What it rests on.
    pub coverage: Coverage,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
}

/// One bucket.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bucket {
    /// Its first nanosecond, a multiple of the width.
    #[serde(serialize_with = "number_text")]
    pub start_unix_nano: i64,
    /// Rows of each series.
    pub counts: Vec<u64>,
}

/// How many rows match.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Counted {
    /// Rows.
    pub count: u64,
    /// What it rests on.
    pub coverage: Coverage,
}

/// The traces of spans.
#[derive(Clone, Debug)]
pub struct SpanTraces {
    /// Place in the order of the answer and trace of each span, newest first.
    pub spans: Vec<(Cursor, TraceId)>,
    /// Where the next page starts, if there are more spans.
    pub next_cursor: Option<Cursor>,
    /// What it rests on.
    pub coverage: Coverage,
}

/// Asks how many rows match, by the values of fields and by time.
#[derive(Clone, Debug)]
pub struct CountRequest {
    /// `logs` or `spans`.
    pub table: Table,
    /// Which rows.
    pub query: Query,
    /// When.
    pub range: TimeRange,
    /// By the values of these fields together (at most 50; may be none).
    pub by: Vec<String>,
    /// By time, in buckets of so many nanoseconds; at most 10,000 over the range.
    pub bucket_nanos: Option<i64>,
    /// At most so many groups.
    pub limit: usize,
}

/// How many rows match, by groups.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CountResponse {
    /// Rows of all groups, listed or not.
    pub count: u64,
    /// Width of a bucket, if rows were counted by time.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_number_text")]
    pub bucket_nanos: Option<i64>,
    /// The fields, as they were asked for.
    pub by: Vec<String>,
    /// The groups with most rows: in order of time where counted by time, then most rows first, then by value. A bucket or
    /// value that no row has is not listed.
    pub groups: Vec<CountGroup>,
    /// Rows of groups that are not listed.
    pub other: u64,
    /// What it rests on.
    pub coverage: Coverage,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
}

/// Rows that have the same values, in the same bucket of time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CountGroup {
    /// The bucket's first nanosecond, a multiple of its width, if rows were counted by time.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_number_text")]
    pub start_unix_nano: Option<i64>,
    /// Values in the order of the fields; `None` = the rows have none.
    pub values: Vec<Option<String>>,
    /// Rows.
    pub count: u64,
}

/// How many rows match, by the values of fields.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CountedBy {
    /// Values (in the order of the fields; `None` = the row has none) and rows, most rows first, then by value.
    pub groups: Vec<(Vec<Option<String>>, u64)>,
    /// Rows of groups that are not listed.
    pub other: u64,
    /// What it rests on.
    pub coverage: Coverage,
}

/// Asks for the values that fields of matching rows have.
#[derive(Clone, Debug)]
pub struct FacetsRequest {
    /// `logs` or `spans`.
    pub table: Table,
    /// Which rows.
    pub query: Query,
    /// When.
    pub range: TimeRange,
    /// Which fields (at most 50).
    pub fields: Vec<String>,
    /// At most so many values of each.
    pub limit: usize,
}

/// Values of fields.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Facets {
    /// In the order asked for.
    pub facets: Vec<Facet>,
    /// What they rest on.
    pub coverage: Coverage,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
}

/// Values of one field, most rows first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Facet {
    /// The field as it was asked for.
    pub field: String,
    /// Its values.
    pub values: Vec<FacetValue>,
    /// Matching rows without it.
    pub missing: u64,
    /// Whether there are more values than listed.
    pub truncated: bool,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FacetValue {
    /// As stored; severities by class.
    pub value: String,
    /// Matching rows that have it.
    pub count: u64,
}

/// A read-only SQL statement.
#[derive(Clone, Debug)]
pub struct SqlRequest {
    /// The statement.
    pub query: String,
    /// At most so many rows; cut to `Config::max_sql_rows`.
    pub limit: usize,
}

/// Rows of a SQL statement.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SqlResponse {
    /// The columns.
    pub columns: Vec<SqlColumn>,
    /// The rows: 64-bit integers and timestamps as text, NaN and infinities as text.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// How many there are.
    pub n_rows: usize,
    /// Whether a limit cut more rows off: the request's, or (the coverage says so) `Config::max_answer_bytes` or the time.
    pub truncated: bool,
    /// What they rest on.
    pub coverage: Coverage,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
}

/// One column of a SQL answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SqlColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// What a live tail shows at a time.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct TailEvent {
    /// New rows, oldest first.
    pub hits: Vec<Hit>,
    /// Rows not shown since the last event: with `rate cap` they matched, with `slow reader` some were not looked at.
    pub dropped: u64,
    /// Requests of which it is not known how many rows they had: the server was too busy to take them.
    pub missed_batches: u64,
    /// Why, if any were: `rate cap` or `slow reader`.
    pub reason: Option<&'static str>,
}

pub(super) fn number_text<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn optional_number_text<S: Serializer>(number: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => serializer.collect_str(number),
        None => serializer.serialize_none(),
    }
}

/// Milliseconds with microseconds behind the point.
pub(super) fn millis<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1e6).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let cursor = Cursor {
            time_unix_nano: -5,
            ingest_id: i64::MAX,
        };
        assert_eq!(cursor.to_string().parse::<Cursor>().ok(), Some(cursor));
        for bad in ["", "1", "1.x", "1.2.3", "99999999999999999999.1"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
