//! Blocks become one block.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanBufferBuilder, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;

use super::merge as streaming;
use super::{Block, BuiltBlock, Error, Level, Result, Settings, build};
use crate::model::{Rows, Table, from_stored};
use crate::storage::Scratch;

/// Builds one block of all rows of `blocks`, which are of one table and partition; `None` when no row is left.
///
/// Left out are: hidden rows; spans still in progress of which a completed or later row is among the blocks too; and of `metric_series`, all
/// but the earliest row of each series. They are merged in bounded memory, through files of `scratch` ([`super::merge`]). Only where an
/// index is wanted and missing, all rows are read, and indexed again: the caller bounds what it merges at once.
pub fn merge(blocks: &[Arc<Block>], level: Level, partition_nanos: i64, settings: &Settings, scratch: &Scratch, now_nanos: i64) -> Result<Option<BuiltBlock>> {
    let Some(first) = blocks.first() else { return Ok(None) };
    let table = first.meta().table;
    if blocks
        .iter()
        .any(|block| block.meta().table != table || block.meta().partition_nanos != partition_nanos)
    {
        return Err(Error::Build("blocks of different tables or partitions are not merged".into()));
    }
    let of: Vec<&Block> = blocks.iter().map(AsRef::as_ref).collect();
    if streaming::can_merge(table, &of, settings) {
        let dropped = match table {
            Table::Spans => superseded_spans(&of)?,
            Table::MetricSeries => later_rows_of_series(&of)?,
            _ => vec![None; of.len()],
        };
        let inputs = of.iter().zip(dropped).map(|(block, dropped)| streaming::Input { block, dropped });
        match streaming::merge(&inputs.collect::<Vec<_>>(), level, partition_nanos, settings, scratch, now_nanos) {
            Err(error) if error.is_index() => tracing::warn!(%error, "blocks are merged without their indexes"),
            result => return result,
        }
    }
    merge_rows(&of, level, partition_nanos, settings, now_nanos)
}

/// [`merge`] of a table with an index, by reading all rows and building a block of them.
pub(super) fn merge_rows(blocks: &[&Block], level: Level, partition_nanos: i64, settings: &Settings, now_nanos: i64) -> Result<Option<BuiltBlock>> {
    let Some(first) = blocks.first() else { return Ok(None) };
    let table = first.meta().table;
    let mut parts = Vec::new();
    for block in blocks {
        read_rows(block, None, &mut parts)?;
    }
    if table == Table::Spans {
        drop_superseded_spans(&mut parts)?;
    }
    if parts.iter().all(Rows::is_empty) {
        return Ok(None);
    }
    build(table, partition_nanos, level, &parts, settings, now_nanos).map(Some)
}

/// Builds the same block without hidden rows and those in `dropped` (bits over all of its rows); `None` when no row is left. A block
/// without the index that it should have has all of its rows read into memory.
pub fn rewrite(block: &Block, dropped: &BooleanBuffer, settings: &Settings, scratch: &Scratch, now_nanos: i64) -> Result<Option<BuiltBlock>> {
    let meta = block.meta();
    if streaming::can_merge(meta.table, &[block], settings) {
        let dropped = Some(dropped.clone());
        let inputs = [streaming::Input { block, dropped }];
        match streaming::merge(&inputs, meta.level, meta.partition_nanos, settings, scratch, now_nanos) {
            Err(error) if error.is_index() => tracing::warn!(%error, "a block is written anew without its index"),
            result => return result,
        }
    }
    let mut parts = Vec::new();
    read_rows(block, Some(dropped), &mut parts)?;
    if parts.iter().all(Rows::is_empty) {
        return Ok(None);
    }
    build(meta.table, meta.partition_nanos, meta.level, &parts, settings, now_nanos).map(Some)
}

/// All rows of a block but those that are hidden or dropped.
fn read_rows(block: &Block, dropped: Option<&BooleanBuffer>, parts: &mut Vec<Rows>) -> Result<()> {
    let table = block.meta().table;
    let mut at = 0;
    for batch in block.scan(0..block.n_rows(), &[])? {
        let batch = batch?;
        let rows = from_stored(table, &batch)?;
        let is_dropped = |row: usize| dropped.is_some_and(|dropped| dropped.value(at + row)) || block.meta().hidden.contains((at + row) as u32);
        parts.push(keep(&rows, (0..rows.len()).filter(|row| !is_dropped(*row)))?);
        at += batch.num_rows();
    }
    Ok(())
}

fn column<'a>(part: &'a Rows, name: &str) -> Result<&'a dyn Array> {
    let found = part.batch().column_by_name(name);
    found
        .map(AsRef::as_ref)
        .ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")).into())
}

fn keep(part: &Rows, rows: impl Iterator<Item = usize>) -> Result<Rows> {
    let rows = UInt32Array::from_iter_values(rows.map(|row| row as u32));
    if rows.len() == part.len() {
        return Ok(part.clone());
    }
    Ok(part.take(&rows)?)
}

/// What a span is told by.
pub(crate) fn span_key(trace_id: &str, span_id: &str) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    hasher.update(trace_id.as_bytes());
    hasher.update(&[0]);
    hasher.update(span_id.as_bytes());
    hasher.digest128()
}

/// Calls `visit` with row, whether it is in progress, and the span's key. Rows are of `spans`.
pub(crate) fn each_span(part: &Rows, mut visit: impl FnMut(usize, bool, u128)) -> Result<()> {
    let in_progress = column(part, "in_progress")?.as_boolean();
    let (traces, spans) = (column(part, "trace_id")?.as_string::<i32>(), column(part, "span_id")?.as_string::<i32>());
    (0..part.len()).for_each(|row| visit(row, in_progress.value(row), span_key(traces.value(row), spans.value(row))));
    Ok(())
}

/// A row of a block that is a span in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanInProgress {
    /// See [`each_span`].
    pub(crate) key: u128,
    pub(crate) row: u32,
    pub(crate) ingest_id: i64,
}

/// The spans in progress of a block of `spans`, hidden ones too.
pub(crate) fn spans_in_progress(block: &Block) -> Result<Vec<SpanInProgress>> {
    let mut rows: Vec<u32> = Vec::new();
    let mut at = 0;
    for batch in block.scan(0..block.n_rows(), &["in_progress"])? {
        let batch = batch?;
        let in_progress = batch.column(0).as_boolean();
        rows.extend((0..in_progress.len()).filter(|row| in_progress.value(*row)).map(|row| (at + row) as u32));
        at += batch.num_rows();
    }
    let ids = block.read(&rows, &["trace_id", "span_id", "ingest_id"])?;
    let (traces, spans) = (ids.column(0).as_string::<i32>(), ids.column(1).as_string::<i32>());
    let ingest_ids = ids.column(2).as_primitive::<Int64Type>();
    let span = |(i, row): (usize, u32)| SpanInProgress {
        key: span_key(traces.value(i), spans.value(i)),
        row,
        ingest_id: ingest_ids.value(i),
    };
    Ok(rows.into_iter().enumerate().map(span).collect())
}

/// Which of the rows of spans in progress stays: of each span the last to arrive, and none once it is completed.
#[derive(Default)]
struct LastInProgress(HashMap<u128, Option<i64>>);

impl LastInProgress {
    /// A row in progress; all of them come before [`Self::complete`].
    fn add(&mut self, span: u128, ingest_id: i64) {
        let last = self.0.entry(span).or_insert(Some(ingest_id));
        *last = (*last).max(Some(ingest_id));
    }
    /// A completed row.
    fn complete(&mut self, span: u128) {
        if let Some(last) = self.0.get_mut(&span) {
            *last = None;
        }
    }
    fn is_it(&self, span: u128, ingest_id: i64) -> bool {
        self.0.get(&span) == Some(&Some(ingest_id))
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of each block of `spans`, the rows in progress that another row of the blocks replaces, if any: see [`drop_superseded_spans`].
fn superseded_spans(blocks: &[&Block]) -> Result<Vec<Option<BooleanBuffer>>> {
    let mut last = LastInProgress::default();
    let mut in_progress = Vec::with_capacity(blocks.len());
    for block in blocks {
        let mut spans = spans_in_progress(block)?;
        spans.retain(|span| !block.meta().hidden.contains(span.row));
        spans.iter().for_each(|span| last.add(span.key, span.ingest_id));
        in_progress.push(spans);
    }
    if last.is_empty() {
        return Ok(vec![None; blocks.len()]);
    }
    for block in blocks {
        let mut at = 0;
        for batch in block.scan(0..block.n_rows(), &["in_progress", "trace_id", "span_id"])? {
            let batch = batch?;
            let (running, traces, spans) = (
                batch.column(0).as_boolean(),
                batch.column(1).as_string::<i32>(),
                batch.column(2).as_string::<i32>(),
            );
            for row in (0..batch.num_rows()).filter(|row| !running.value(*row) && !block.meta().hidden.contains(at + *row as u32)) {
                last.complete(span_key(traces.value(row), spans.value(row)));
            }
            at += batch.num_rows() as u32;
        }
    }
    let of_block = |(block, spans): (&&Block, Vec<SpanInProgress>)| {
        let mut gone = BooleanBufferBuilder::new(block.n_rows() as usize);
        gone.append_n(block.n_rows() as usize, false);
        let superseded = spans.iter().filter(|span| !last.is_it(span.key, span.ingest_id));
        superseded.for_each(|span| gone.set_bit(span.row as usize, true));
        Some(gone.finish())
    };
    Ok(blocks.iter().zip(in_progress).map(of_block).collect())
}

/// Whether any row of `spans` is still in progress; few are, and what has none needs no look at its IDs.
pub(crate) fn has_spans_in_progress(part: &Rows) -> Result<bool> {
    Ok(column(part, "in_progress")?.as_boolean().true_count() > 0)
}

/// Leaves out, of all `parts` together, the rows of spans in progress that a later row replaces: a completed one, or, of
/// several in progress, the last to arrive.
pub(crate) fn drop_superseded_spans(parts: &mut [Rows]) -> Result<()> {
    let mut last = LastInProgress::default();
    for part in parts.iter() {
        if !has_spans_in_progress(part)? {
            continue;
        }
        let ids = part.ingest_ids().values();
        each_span(part, |row, in_progress, key| {
            if in_progress {
                last.add(key, ids[row]);
            }
        })?;
    }
    if last.is_empty() {
        return Ok(());
    }
    for part in parts.iter() {
        each_span(part, |_, in_progress, key| {
            if !in_progress {
                last.complete(key);
            }
        })?;
    }
    for part in parts.iter_mut() {
        if !has_spans_in_progress(part)? {
            continue;
        }
        let mut rows = Vec::with_capacity(part.len());
        let ids = part.ingest_ids().values();
        each_span(part, |row, in_progress, key| {
            if !in_progress || last.is_it(key, ids[row]) {
                rows.push(row);
            }
        })?;
        *part = keep(part, rows.into_iter())?;
    }
    Ok(())
}

/// Of each block of `metric_series`, the rows that are not the earliest of their series; of two of one time, the one of the block named
/// first stays. Holds some 50 bytes for each series.
fn later_rows_of_series(blocks: &[&Block]) -> Result<Vec<Option<BooleanBuffer>>> {
    let mut first: HashMap<i64, (i64, u32, u32)> = HashMap::new();
    for (number, block) in (0..).zip(blocks) {
        let mut row = 0;
        for batch in block.scan(0..block.n_rows(), &["series_id", "time_unix_nano"])? {
            let batch = batch?;
            let (series, times) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
            for (id, time) in series.values().iter().zip(times.values()) {
                if !block.meta().hidden.contains(row) {
                    let here = (*time, number, row);
                    first.entry(*id).and_modify(|best| *best = here.min(*best)).or_insert(here);
                }
                row += 1;
            }
        }
    }
    let all_but_first = |block: &&Block| {
        let mut gone = BooleanBufferBuilder::new(block.n_rows() as usize);
        gone.append_n(block.n_rows() as usize, true);
        gone
    };
    let mut gone: Vec<BooleanBufferBuilder> = blocks.iter().map(all_but_first).collect();
    for (_, number, row) in first.into_values() {
        gone[number as usize].set_bit(row as usize, false);
    }
    Ok(gone.into_iter().map(|mut gone| Some(gone.finish())).collect())
}
