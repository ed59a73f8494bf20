//! Reads a block back, every page of it, and the checksums and copies in its index's tail, and says what is wrong: what
//! `lake verify` asks of each block.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::reader::guard;
use super::{Block, BlockIndex, BlockMeta, Error, HiddenRows, IndexQuery, RawField, Result};

/// Rows whose trace ID is looked up in the index, spread over the block.
const PROBES: usize = 64;

/// Checks lengths and checksums, opens both objects, decodes every page as a foreign reader does (with no knowledge of our
/// schema), and compares the rows with `meta` and a sample of them with the index.
///
/// Gives what is wrong, in words; nothing when all is well.
pub fn verify(meta: &Arc<BlockMeta>, parquet: &Bytes, index: Option<&Bytes>) -> Vec<String> {
    let mut flaws = Vec::new();
    let mut same_bytes = |what: &str, bytes: &Bytes, n_bytes: u64, crc32c: u32| {
        if bytes.len() as u64 != n_bytes {
            flaws.push(format!("{what}: {} bytes, the catalog says {n_bytes}", bytes.len()));
        } else if crc32c::crc32c(bytes) != crc32c {
            flaws.push(format!("{what}: its checksum is not the one in the catalog"));
        }
    };
    same_bytes("Parquet", parquet, meta.parquet_bytes, meta.parquet_crc32c);
    if let Some(index) = index {
        same_bytes("index", index, meta.index_bytes, meta.index_crc32c);
    }
    // what is hidden is there all the same
    let whole = BlockMeta {
        hidden: HiddenRows::default(),
        ..BlockMeta::clone(meta)
    };
    match Block::open(Arc::new(whole), parquet.clone(), index.cloned()) {
        Ok(block) => {
            if let (Some(index), Some(bytes)) = (block.index(), index)
                && let Err(error) = guard(meta, None, || {
                    flaws.extend(index.bundle().flaws_of_tail(bytes, parquet, meta.index_tail_bytes)?);
                    compare_with_index(&block, index, &mut flaws)
                })
            {
                flaws.push(error.to_string());
            }
        }
        Err(error) => flaws.push(error.to_string()),
    }
    // damaged pages may make a decoder panic: that is a flaw too
    if let Err(error) = guard(meta, None, || compare_with_meta(meta, parquet, &mut flaws)) {
        flaws.push(error.to_string());
    }
    flaws
}

/// Reads all columns, one batch at a time.
fn compare_with_meta(meta: &BlockMeta, parquet: &Bytes, flaws: &mut Vec<String>) -> Result<()> {
    let damaged = |error: &dyn std::fmt::Display| Error::parquet(&meta.id, error.to_string());
    let builder = ParquetRecordBatchReaderBuilder::try_new(parquet.clone()).map_err(|error| damaged(&error))?;
    let reader = builder.with_projection(ProjectionMask::all()).build().map_err(|error| damaged(&error))?;
    let is_newest_first = meta.table.is_hourly();
    let width = meta.table.partition_width_nanos();
    let (mut n_rows, mut bounds, mut before) = (0u64, None, i64::MAX);
    for batch in reader {
        let batch = batch.map_err(|error| damaged(&error))?;
        n_rows += batch.num_rows() as u64;
        let times = column(&batch, meta.table.time_column(), meta)?;
        let Some(times) = times.as_primitive_opt::<Int64Type>() else {
            return Err(damaged(&"its times are no 64-bit integers"));
        };
        for time in times.values() {
            if is_newest_first && *time > before {
                flaws.push(format!("Parquet: a row of {time} stands behind one of {before}: rows are newest first"));
                return Ok(());
            }
            before = *time;
            bounds = Some(bounds.map_or((*time, *time), |(first, last): (i64, i64)| (first.min(*time), last.max(*time))));
        }
    }
    if n_rows != meta.n_rows {
        flaws.push(format!("Parquet: {n_rows} rows, the catalog says {}", meta.n_rows));
    }
    if let Some((first, last)) = bounds {
        if (first, last) != (meta.min_time_nanos, meta.max_time_nanos) {
            flaws.push(format!(
                "Parquet: rows of {first} to {last}, the catalog says {} to {}",
                meta.min_time_nanos, meta.max_time_nanos
            ));
        }
        if first < meta.partition_nanos || last.saturating_sub(meta.partition_nanos) >= width {
            flaws.push(format!(
                "Parquet: rows of {first} to {last} lie outside the partition of {}",
                meta.partition_nanos
            ));
        }
    }
    Ok(())
}

fn column(batch: &RecordBatch, name: &str, meta: &BlockMeta) -> Result<ArrayRef> {
    let found = batch.column_by_name(name).cloned();
    found.ok_or_else(|| Error::parquet(&meta.id, format!("it has no column {name}")))
}

/// A row's trace ID must lead the index to that row: row n is document n.
fn compare_with_index(block: &Block, index: &BlockIndex, flaws: &mut Vec<String>) -> Result<()> {
    let step = (block.n_rows() as usize).div_ceil(PROBES).max(1);
    let rows: Vec<u32> = (0..block.n_rows()).step_by(step).collect();
    let probes = block.read(&rows, &["trace_id"])?;
    let Some(ids) = probes.column(0).as_string_opt::<i32>() else {
        return Ok(());
    };
    for (row, id) in rows.iter().zip(ids.iter()) {
        let Some(id) = id else { continue };
        let query = IndexQuery::Term {
            field: RawField::TraceId,
            value: id.to_string(),
        };
        if index.first(&query, *row..*row + 1, 1)?.is_empty() {
            flaws.push(format!("index: row {row} is of trace {id}, document {row} is not"));
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Level, Settings, build};
    use crate::model::{LogRecord, LogsBuilder, Rows, Table, TraceId};

    fn rows(first_trace: u8) -> Rows {
        let mut builder = LogsBuilder::with_capacity(10);
        let context = builder.context(crate::model::ContextBuilder::new().build());
        for number in 0..10u8 {
            builder.push(
                context,
                &LogRecord {
                    time_unix_nano: i64::from(number),
                    trace_id: TraceId::from_bytes(&[first_trace + number; 16]),
                    body: Some("a line"),
                    ..LogRecord::default()
                },
            );
        }
        builder.finish().expect("rows").with_ingest_ids(1 << 20)
    }

    #[test]
    fn a_whole_block_has_no_flaw_and_any_damage_is_told() {
        let built = build(Table::Logs, 0, Level::L0, &[rows(1)], &Settings::default(), 0).expect("a block");
        let index = built.index.clone().expect("an index");
        let meta = Arc::new(built.meta.clone());
        assert_eq!(verify(&meta, &built.parquet, Some(&index)), Vec::<String>::new());
        assert_eq!(verify(&meta, &built.parquet, None), Vec::<String>::new());

        let flipped = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            Bytes::from(bytes)
        };
        let flaws = verify(&meta, &flipped(&built.parquet), Some(&index));
        assert!(flaws.iter().any(|flaw| flaw.contains("checksum")), "{flaws:?}");
        let flaws = verify(&meta, &built.parquet, Some(&flipped(&index)));
        assert!(flaws.iter().any(|flaw| flaw.contains("index: its checksum")), "{flaws:?}");
        let flaws = verify(&meta, &built.parquet.slice(..100), Some(&index));
        assert!(flaws.iter().any(|flaw| flaw.contains("100 bytes")), "{flaws:?}");

        // the index of other rows that look the same from outside
        let other = build(Table::Logs, 0, Level::L0, &[rows(100)], &Settings::default(), 0).expect("a block");
        let other_index = other.index.expect("an index");
        let mut mixed = built.meta.clone();
        (mixed.index_bytes, mixed.index_crc32c) = (other.meta.index_bytes, other.meta.index_crc32c);
        let flaws = verify(&Arc::new(mixed), &built.parquet, Some(&other_index));
        assert!(flaws.iter().any(|flaw| flaw.contains("document 0 is not")), "{flaws:?}");
        assert!(flaws.iter().any(|flaw| flaw.contains("checksums are of another Parquet object")), "{flaws:?}");

        let mut wrong = built.meta.clone();
        wrong.index_tail_bytes -= 1;
        let flaws = verify(&Arc::new(wrong), &built.parquet, Some(&index));
        assert!(flaws.len() == 1 && flaws[0].contains("its tail is"), "{flaws:?}");

        let mut wrong = built.meta;
        wrong.partition_nanos = wrong.table.partition_width_nanos();
        let flaws = verify(&Arc::new(wrong), &built.parquet, Some(&index));
        assert!(flaws.iter().any(|flaw| flaw.contains("outside the partition")), "{flaws:?}");
    }
}
