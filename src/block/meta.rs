//! What the catalog knows of a block without opening it.

use super::{HiddenRows, tokenizer};
use crate::model::{Table, TimeRange};

/// Rows in memory are this much larger than their Parquet file; measured on logs: 600 to 700 against 70 to 90 bytes.
const MEMORY_PER_PARQUET_BYTE: u64 = 8;
/// What a merge holds for each series while it looks for its first row.
const MEMORY_PER_SERIES: u64 = 64;

/// A block's name: unique over all nodes and time (a ULID, 26 characters), so that no node overwrites another's object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct BlockId(String);

impl BlockId {
    /// A new name, made at `now_nanos`.
    pub fn new(now_nanos: i64) -> Self {
        let millis = u64::try_from(now_nanos / 1_000_000).unwrap_or_default();
        Self(ulid::Ulid::from_parts(millis, rand::random()).to_string().to_lowercase())
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Reads a name; `None` unless it is 26 lower-case letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 26 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())).then(|| Self(text.to_string()))
    }
}

/// Where a block stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Flushed from the head, under `_l0/`: foreign readers do not look there.
    L0,
    /// In the lake, for good (until compaction or retention).
    Sealed,
}

/// One block, as its catalog record has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockMeta {
    /// Its name.
    pub id: BlockId,
    /// Its table.
    pub table: Table,
    /// L0 or sealed.
    pub level: Level,
    /// Start of its partition, nanoseconds: the UTC hour (logs, spans) or day (others) all its rows lie in.
    pub partition_nanos: i64,
    /// Rows, equal to the documents of the index.
    pub n_rows: u64,
    /// First event time, inclusive.
    pub min_time_nanos: i64,
    /// Last event time, inclusive.
    pub max_time_nanos: i64,
    /// Bytes and CRC32C of the Parquet object.
    pub parquet_bytes: u64,
    /// CRC32C of the Parquet object.
    pub parquet_crc32c: u32,
    /// Bytes of the index object; 0 = no index.
    pub index_bytes: u64,
    /// CRC32C of the index object.
    pub index_crc32c: u32,
    /// Bytes at the end of the index object that opening it reads; 0 = it has no such tail, and both objects are read whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub index_tail_bytes: u64,
    /// Bytes of memory that its rows take as Arrow columns; 0 = not known, in blocks made before this was counted.
    #[serde(default)]
    pub memory_bytes: u64,
    /// `model::schema::SCHEMA_VERSION` at its making.
    pub schema_version: u32,
    /// `block::tokenizer::VERSION` at its making.
    pub tokenizer_version: u32,
    /// First and last `ingest_id` in it.
    pub min_ingest_id: i64,
    /// Last `ingest_id`.
    pub max_ingest_id: i64,
    /// Distinct `service_name`s, sorted, if at most 32; else `None`.
    pub services: Option<Vec<String>>,
    /// Of `spans`, rows that were still in progress; 0 in blocks made before this was counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_in_progress: u64,
    /// Of `logs`, rows that have a span ID and no trace ID; none in blocks made before this was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_spans_alone: Option<u64>,
    /// Rows that no answer has, as far as the snapshot knows that this is of.
    #[serde(default, skip_serializing_if = "HiddenRows::is_empty")]
    pub hidden: HiddenRows,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl BlockMeta {
    /// Whether any row can lie in `range`.
    pub fn overlaps(&self, range: &TimeRange) -> bool {
        range.overlaps(self.min_time_nanos, self.max_time_nanos)
    }
    /// Bytes of memory that its rows take when all are read; an estimate if that was not counted.
    pub fn rows_memory_bytes(&self) -> u64 {
        match self.memory_bytes {
            0 => self.parquet_bytes.saturating_mul(MEMORY_PER_PARQUET_BYTE),
            counted => counted,
        }
    }
    /// Bytes of memory that its rows take while it is merged: none where rows stream through, which is so if there is no index to be made
    /// anew; of series, so much as each may need for its first row to be found.
    pub fn merge_memory_bytes(&self) -> u64 {
        match self.table {
            Table::MetricSeries => self.n_rows.saturating_mul(MEMORY_PER_SERIES),
            table if !table.is_searchable() => 0,
            _ if self.has_index() && self.tokenizer_version == tokenizer::VERSION => 0,
            _ => self.rows_memory_bytes(),
        }
    }
    /// Rows that answers have.
    pub fn n_visible_rows(&self) -> u64 {
        self.n_rows.saturating_sub(self.hidden.len() as u64)
    }
    /// Whether it has an index object.
    pub fn has_index(&self) -> bool {
        self.index_bytes > 0
    }
}

#[cfg(test)]
impl BlockMeta {
    /// A block of one row without an index, of which nobody reads the objects.
    pub(crate) fn example(table: Table, level: Level, (min_time_nanos, max_time_nanos): (i64, i64)) -> Self {
        Self {
            id: BlockId::new(max_time_nanos),
            table,
            level,
            partition_nanos: 0,
            n_rows: 1,
            min_time_nanos,
            max_time_nanos,
            parquet_bytes: 1,
            parquet_crc32c: 0,
            index_bytes: 0,
            index_crc32c: 0,
            index_tail_bytes: 0,
            memory_bytes: 0,
            schema_version: 1,
            tokenizer_version: tokenizer::VERSION,
            min_ingest_id: 0,
            max_ingest_id: 0,
            services: None,
            n_in_progress: 0,
            n_spans_alone: None,
            hidden: HiddenRows::default(),
        }
    }
}
