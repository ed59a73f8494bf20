//! The order of the rows of several blocks: each block is in order, so the next row is one of their first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::super::bundle::SECOND;
use super::super::{Block, Result, Scan};
use super::Input;
use crate::model::Table;

/// Rows whose keys are read at a time.
const BATCH_ROWS: usize = 16 * 1024;

/// A row's place: newest first. The bits of a number turned round sort it so, and none overflows.
type Key = (i64, i64);

/// What the rows span that stay.
pub(super) struct Span {
    /// First and last time.
    pub times: (i64, i64),
    /// Least and greatest.
    pub ingest_ids: (i64, i64),
    /// A time of each second and how many rows have that second, newest first.
    pub seconds: Vec<(i64, u32)>,
}

impl Span {
    fn add(&mut self, time: i64, ingest_id: i64) {
        self.times = (self.times.0.min(time), self.times.1.max(time));
        self.ingest_ids = (self.ingest_ids.0.min(ingest_id), self.ingest_ids.1.max(ingest_id));
        match self.seconds.last_mut() {
            Some((last, n_rows)) if last.div_euclid(SECOND) == time.div_euclid(SECOND) => *n_rows += 1,
            _ => self.seconds.push((time, 1)),
        }
    }
}

/// Calls `visit` with input and row of each row that stays, newest first; `None` if there are none. An input that is not in its order is
/// damaged.
pub(super) fn merge(inputs: &[Input<'_>], table: Table, mut visit: impl FnMut(u32, u32)) -> Result<Option<Span>> {
    let mut span = Span {
        times: (i64::MAX, i64::MIN),
        ingest_ids: (i64::MAX, i64::MIN),
        seconds: Vec::new(),
    };
    let mut keys = Vec::with_capacity(inputs.len());
    let mut heap = BinaryHeap::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let mut of_input = Keys::open(input, table)?;
        if let Some(key) = of_input.next()? {
            heap.push(Reverse((key, number)));
        }
        keys.push(of_input);
    }
    while let Some(Reverse((mut key, input))) = heap.pop() {
        let of_input = &mut keys[input];
        // up to where the next one begins: blocks mostly follow each other
        let end = heap.peek().map(|Reverse(next)| *next);
        loop {
            span.add(!key.0, !key.1);
            visit(input as u32, of_input.row - 1);
            match of_input.next()? {
                None => break,
                Some(next) if end.is_some_and(|end| end < (next, input)) => {
                    heap.push(Reverse((next, input)));
                    break;
                }
                Some(next) => key = next,
            }
        }
    }
    Ok((!span.seconds.is_empty()).then_some(span))
}

/// The keys of an input's rows that stay, one after the other.
struct Keys<'a> {
    input: &'a Input<'a>,
    scan: Scan,
    /// Of the batch at hand.
    times: Vec<i64>,
    ids: Vec<i64>,
    /// Within it.
    at: usize,
    /// The row behind the one that was given last.
    row: u32,
    last: Option<Key>,
}

impl<'a> Keys<'a> {
    fn open(input: &'a Input<'a>, table: Table) -> Result<Self> {
        let block: &Block = input.block;
        Ok(Self {
            input,
            scan: block.scan_by(0..block.n_rows(), &[table.time_column(), "ingest_id"], BATCH_ROWS)?,
            times: Vec::new(),
            ids: Vec::new(),
            at: 0,
            row: 0,
            last: None,
        })
    }

    fn next(&mut self) -> Result<Option<Key>> {
        loop {
            if self.at == self.times.len() && !self.read()? {
                return match self.row == self.input.block.n_rows() {
                    true => Ok(None),
                    false => Err(self.input.block.damaged("it has fewer rows than it says")),
                };
            }
            let key = (!self.times[self.at], !self.ids[self.at]);
            self.at += 1;
            self.row += 1;
            if self.last.is_some_and(|last| key < last) {
                return Err(self.input.block.damaged("its rows are not in order"));
            }
            self.last = Some(key);
            if self.input.stays(self.row as usize - 1) {
                return Ok(Some(key));
            }
        }
    }

    /// The next batch, if there is one.
    fn read(&mut self) -> Result<bool> {
        let Some(batch) = self.scan.next().transpose()? else { return Ok(false) };
        let column = |at: usize| batch.column(at).as_primitive::<Int64Type>().values();
        self.times.clear();
        self.times.extend_from_slice(column(0));
        self.ids.clear();
        self.ids.extend_from_slice(column(1));
        self.at = 0;
        Ok(true)
    }
}
