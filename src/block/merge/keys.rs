//! The order of the rows of several blocks: each block is in order, so the next row is one of their first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::Int64Type;

use super::super::bundle::SECOND;
use super::super::columns::{is_sorted_by_time, sort_order};
use super::super::{Block, Result, Scan};
use super::Input;
use crate::model::Table;

/// Rows whose keys are read ahead of all inputs together: a name and three numbers each at most.
const READ_AHEAD_ROWS: usize = 512 * 1024;
/// Rows of an input whose keys are read at a time, within that.
const BATCH_ROWS: usize = 16 * 1024;

/// A row's place.
trait Key: Ord + Clone {
    /// The key columns of a batch, those of [`sort_order`].
    type Columns;
    fn columns(batch: &RecordBatch) -> Self::Columns;
    /// Of a row; `last` is that of the row before.
    fn of(columns: &Self::Columns, row: usize, last: Option<&Self>) -> Self;
    fn time(&self) -> i64;
    fn ingest_id(&self) -> i64;
}

/// Newest first. The bits of a number turned round sort it so, and none overflows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct NewestFirst {
    time_turned: i64,
    id_turned: i64,
}

impl Key for NewestFirst {
    type Columns = [ScalarBuffer<i64>; 2];
    fn columns(batch: &RecordBatch) -> Self::Columns {
        [0, 1].map(|at| numbers(batch, at))
    }
    fn of([times, ids]: &Self::Columns, row: usize, _: Option<&Self>) -> Self {
        Self {
            time_turned: !times[row],
            id_turned: !ids[row],
        }
    }
    fn time(&self) -> i64 {
        !self.time_turned
    }
    fn ingest_id(&self) -> i64 {
        !self.id_turned
    }
}

/// Points of metrics.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BySeries {
    metric: Arc<str>,
    series: i64,
    time: i64,
    ingest_id: i64,
}

impl Key for BySeries {
    type Columns = (StringArray, [ScalarBuffer<i64>; 3]);
    fn columns(batch: &RecordBatch) -> Self::Columns {
        (batch.column(0).as_string::<i32>().clone(), [1, 2, 3].map(|at| numbers(batch, at)))
    }
    fn of((metrics, [series, times, ids]): &Self::Columns, row: usize, last: Option<&Self>) -> Self {
        let metric = metrics.value(row);
        Self {
            // a metric's rows stand together
            metric: match last {
                Some(last) if *last.metric == *metric => Arc::clone(&last.metric),
                _ => metric.into(),
            },
            series: series[row],
            time: times[row],
            ingest_id: ids[row],
        }
    }
    fn time(&self) -> i64 {
        self.time
    }
    fn ingest_id(&self) -> i64 {
        self.ingest_id
    }
}

fn numbers(batch: &RecordBatch, column: usize) -> ScalarBuffer<i64> {
    batch.column(column).as_primitive::<Int64Type>().values().clone()
}

/// What the rows span that stay.
pub(super) struct Span {
    /// First and last time.
    pub times: (i64, i64),
    /// Least and greatest.
    pub ingest_ids: (i64, i64),
    /// A time of each second and how many rows have that second, newest first; of tables with an index, which needs it.
    pub seconds: Vec<(i64, u32)>,
}

impl Span {
    fn add(&mut self, time: i64, ingest_id: i64, with_seconds: bool) {
        self.times = (self.times.0.min(time), self.times.1.max(time));
        self.ingest_ids = (self.ingest_ids.0.min(ingest_id), self.ingest_ids.1.max(ingest_id));
        if !with_seconds {
            return;
        }
        match self.seconds.last_mut() {
            Some((last, n_rows)) if last.div_euclid(SECOND) == time.div_euclid(SECOND) => *n_rows += 1,
            _ => self.seconds.push((time, 1)),
        }
    }
}

/// Calls `visit` with input and row of each row that stays, in the table's order; `None` if there are none. An input that is not in that
/// order is damaged.
pub(super) fn merge(inputs: &[Input<'_>], table: Table, visit: impl FnMut(u32, u32)) -> Result<Option<Span>> {
    match is_sorted_by_time(table) {
        true => merge_by::<NewestFirst>(inputs, table, visit),
        false => merge_by::<BySeries>(inputs, table, visit),
    }
}

fn merge_by<K: Key>(inputs: &[Input<'_>], table: Table, mut visit: impl FnMut(u32, u32)) -> Result<Option<Span>> {
    let with_seconds = table.is_searchable();
    let mut span = Span {
        times: (i64::MAX, i64::MIN),
        ingest_ids: (i64::MAX, i64::MIN),
        seconds: Vec::new(),
    };
    let mut has_rows = false;
    let batch_rows = (READ_AHEAD_ROWS / inputs.len().max(1)).clamp(1, BATCH_ROWS);
    let mut keys = Vec::with_capacity(inputs.len());
    let mut heap = BinaryHeap::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let mut of_input = Keys::<K>::open(input, table, batch_rows)?;
        if let Some(key) = of_input.next()? {
            heap.push(Reverse((key, number)));
        }
        keys.push(of_input);
    }
    while let Some(Reverse((mut key, input))) = heap.pop() {
        has_rows = true;
        let of_input = &mut keys[input];
        // up to where the next one begins: blocks mostly follow each other
        let end = heap.peek().map(|Reverse(next)| next.clone());
        loop {
            span.add(key.time(), key.ingest_id(), with_seconds);
            visit(input as u32, of_input.row - 1);
            match of_input.next()? {
                None => break,
                Some(next) if end.as_ref().is_some_and(|(end, of)| (end, *of) < (&next, input)) => {
                    heap.push(Reverse((next, input)));
                    break;
                }
                Some(next) => key = next,
            }
        }
    }
    Ok(has_rows.then_some(span))
}

/// The keys of an input's rows that stay, one after the other.
struct Keys<'a, K: Key> {
    input: &'a Input<'a>,
    scan: Scan,
    /// Of the batch at hand.
    columns: Option<K::Columns>,
    n_rows: usize,
    /// Within it.
    at: usize,
    /// The row behind the one that was given last.
    row: u32,
    last: Option<K>,
}

impl<'a, K: Key> Keys<'a, K> {
    fn open(input: &'a Input<'a>, table: Table, batch_rows: usize) -> Result<Self> {
        let block: &Block = input.block;
        let names: Vec<&str> = sort_order(table).into_iter().map(|(name, _)| name).collect();
        Ok(Self {
            input,
            scan: block.scan_by(0..block.n_rows(), &names, batch_rows)?,
            columns: None,
            n_rows: 0,
            at: 0,
            row: 0,
            last: None,
        })
    }

    fn next(&mut self) -> Result<Option<K>> {
        loop {
            if self.at == self.n_rows && !self.read()? {
                return match self.row == self.input.block.n_rows() {
                    true => Ok(None),
                    false => Err(self.input.block.damaged("it has fewer rows than it says")),
                };
            }
            let Some(columns) = &self.columns else { return Ok(None) };
            let key = K::of(columns, self.at, self.last.as_ref());
            self.at += 1;
            self.row += 1;
            if self.last.as_ref().is_some_and(|last| key < *last) {
                return Err(self.input.block.damaged("its rows are not in order"));
            }
            self.last = Some(key.clone());
            if self.input.stays(self.row as usize - 1) {
                return Ok(Some(key));
            }
        }
    }

    /// The next batch, if there is one.
    fn read(&mut self) -> Result<bool> {
        let Some(batch) = self.scan.next().transpose()? else { return Ok(false) };
        self.columns = Some(K::columns(&batch));
        self.n_rows = batch.num_rows();
        self.at = 0;
        Ok(true)
    }
}
