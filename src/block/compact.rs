//! Blocks become one block.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;

use super::{Block, BuiltBlock, Error, Level, Result, Settings, build};
use crate::model::{Rows, Table, from_stored};

/// Builds one block of all rows of `blocks`, which are of one table and partition; `None` when no row is left.
///
/// Left out are: spans still in progress of which a completed row is among the blocks too; and of `metric_series`, all
/// but the earliest row of each series. Reads all rows into memory: the caller bounds what it merges at once.
pub fn merge(blocks: &[Arc<Block>], level: Level, partition_nanos: i64, settings: &Settings, now_nanos: i64) -> Result<Option<BuiltBlock>> {
    let Some(first) = blocks.first() else { return Ok(None) };
    let table = first.meta().table;
    let mut parts = Vec::new();
    for block in blocks {
        if block.meta().table != table || block.meta().partition_nanos != partition_nanos {
            return Err(Error::Build("blocks of different tables or partitions are not merged".into()));
        }
        for batch in block.scan(0..block.n_rows(), &[])? {
            parts.push(from_stored(table, &batch?)?);
        }
    }
    match table {
        Table::Spans => drop_superseded_spans(&mut parts)?,
        Table::MetricSeries => keep_first_of_series(&mut parts)?,
        _ => {}
    }
    if parts.iter().all(Rows::is_empty) {
        return Ok(None);
    }
    build(table, partition_nanos, level, &parts, settings, now_nanos).map(Some)
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

fn drop_superseded_spans(parts: &mut [Rows]) -> Result<()> {
    let mut waiting: HashSet<(String, String)> = HashSet::new();
    let each = |part: &Rows, visit: &mut dyn FnMut(usize, bool, &str, &str)| -> Result<()> {
        let in_progress = column(part, "in_progress")?.as_boolean();
        let (traces, spans) = (column(part, "trace_id")?.as_string::<i32>(), column(part, "span_id")?.as_string::<i32>());
        (0..part.len()).for_each(|row| visit(row, in_progress.value(row), traces.value(row), spans.value(row)));
        Ok(())
    };
    for part in parts.iter() {
        each(part, &mut |_, in_progress, trace, span| {
            if in_progress {
                waiting.insert((trace.to_string(), span.to_string()));
            }
        })?;
    }
    if waiting.is_empty() {
        return Ok(());
    }
    let mut completed: HashSet<(String, String)> = HashSet::new();
    for part in parts.iter() {
        each(part, &mut |_, in_progress, trace, span| {
            let id = (trace.to_string(), span.to_string());
            if !in_progress && waiting.contains(&id) {
                completed.insert(id);
            }
        })?;
    }
    for part in parts.iter_mut() {
        let mut rows = Vec::with_capacity(part.len());
        each(part, &mut |row, in_progress, trace, span| {
            if !in_progress || !completed.contains(&(trace.to_string(), span.to_string())) {
                rows.push(row);
            }
        })?;
        *part = keep(part, rows.into_iter())?;
    }
    Ok(())
}

fn keep_first_of_series(parts: &mut [Rows]) -> Result<()> {
    let mut first: HashMap<i64, (i64, usize, usize)> = HashMap::new();
    for (p, part) in parts.iter().enumerate() {
        let series = column(part, "series_id")?.as_primitive::<Int64Type>();
        for (row, (id, time)) in series.values().iter().zip(part.times().values()).enumerate() {
            let here = (*time, p, row);
            first.entry(*id).and_modify(|best| *best = here.min(*best)).or_insert(here);
        }
    }
    let kept: HashSet<(usize, usize)> = first.into_values().map(|(_, part, row)| (part, row)).collect();
    for (p, part) in parts.iter_mut().enumerate() {
        *part = keep(part, (0..part.len()).filter(|row| kept.contains(&(p, *row))))?;
    }
    Ok(())
}
