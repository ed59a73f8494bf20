//! Rows that are durable in the log and not yet in a block.
//!
//! In: one request's rows with the log position they came from. Out: all of them, to queries at once and to the flush at
//! its cut. Small parts of one table are joined as they gather ([`COALESCE_PARTS`]), so that a client that sends single
//! records does not leave a million tiny columns in memory. Order inside is of no meaning.
//!
//! A joined part has rows of many log positions, and what blocks cover may end amid them (a commit of an earlier life
//! that lands late): [`Part::above`] tells by each row's `ingest_id`.

use std::collections::HashMap;

use arrow::array::UInt32Array;

use super::lsn_of;
use crate::model::{Rows, Table};
use crate::wal::Lsn;

/// So many parts below [`COALESCE_ROWS`] rows of one table are joined into one.
const COALESCE_PARTS: usize = 64;
/// A part of at least so many rows is left alone: joining it would only copy.
const COALESCE_ROWS: usize = 2_048;

/// Rows with the log positions they came from.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) first_lsn: Lsn,
    pub(super) last_lsn: Lsn,
    pub(super) rows: Rows,
    pub(super) bytes: usize,
}

impl Part {
    /// What of it lies above a log position; `None` if nothing does.
    pub(super) fn above(self, lsn: Lsn) -> Option<Part> {
        if self.last_lsn <= lsn || self.rows.is_empty() {
            return None;
        }
        if self.first_lsn > lsn {
            return Some(self);
        }
        let rows = keep(&self.rows, |ingest_id| lsn_of(ingest_id) > lsn);
        (!rows.is_empty()).then(|| Part {
            first_lsn: lsn + 1,
            last_lsn: self.last_lsn,
            bytes: rows.memory_bytes(),
            rows,
        })
    }
}

/// The rows whose `ingest_id` passes.
fn keep(rows: &Rows, passes: impl Fn(i64) -> bool) -> Rows {
    let ids = rows.ingest_ids().values();
    let kept = UInt32Array::from_iter_values((0u32..).zip(ids).filter(|(_, id)| passes(**id)).map(|(row, _)| row));
    rows.take(&kept).expect("some of the rows fit where all did")
}

/// The unflushed rows: those being flushed, up to a cut, and those that came after it.
#[derive(Debug, Default)]
pub(super) struct Head {
    flushing: Vec<Part>,
    active: Vec<Part>,
    /// Indices into `active` of small parts, by table.
    small: HashMap<Table, Vec<usize>>,
    flushing_bytes: usize,
    active_bytes: usize,
    active_rows: usize,
    /// When the oldest active row came, by the caller's clock.
    active_since_nanos: Option<i64>,
}

impl Head {
    pub(super) fn push(&mut self, lsn: Lsn, rows: Rows, now_nanos: i64) {
        if rows.is_empty() {
            return;
        }
        let table = rows.table();
        let part = Part {
            first_lsn: lsn,
            last_lsn: lsn,
            bytes: rows.memory_bytes(),
            rows,
        };
        self.active_bytes += part.bytes;
        self.active_rows += part.rows.len();
        self.active_since_nanos.get_or_insert(now_nanos);
        let is_small = part.rows.len() < COALESCE_ROWS;
        self.active.push(part);
        if is_small {
            let small = self.small.entry(table).or_default();
            small.push(self.active.len() - 1);
            if small.len() >= COALESCE_PARTS {
                self.coalesce(table);
            }
        }
    }

    /// Joins the small parts of a table. On an arithmetic overflow of a column they stay as they are.
    fn coalesce(&mut self, table: Table) {
        let Some(indices) = self.small.remove(&table) else { return };
        let rows: Vec<Rows> = indices.iter().map(|index| self.active[*index].rows.clone()).collect();
        let Ok(joined) = Rows::concat(table, &rows) else { return };
        let first_lsn = indices.iter().map(|index| self.active[*index].first_lsn).min().unwrap_or_default();
        let last_lsn = indices.iter().map(|index| self.active[*index].last_lsn).max().unwrap_or_default();
        self.active_bytes -= indices.iter().map(|index| self.active[*index].bytes).sum::<usize>();
        let mut index = 0;
        self.active.retain(|_| {
            index += 1;
            indices.binary_search(&(index - 1)).is_err()
        });
        let part = Part {
            first_lsn,
            last_lsn,
            bytes: joined.memory_bytes(),
            rows: joined,
        };
        self.active_bytes += part.bytes;
        self.active.push(part);
        // positions have shifted: find the small parts of every table again
        self.small.clear();
        for (index, part) in self.active.iter().enumerate() {
            if part.rows.len() < COALESCE_ROWS {
                self.small.entry(part.rows.table()).or_default().push(index);
            }
        }
    }

    /// Everything acknowledged so far becomes what the flush works on; queries still see it. Nothing may be pushed
    /// between reading the cut's log position and this call.
    pub(super) fn cut(&mut self) {
        self.flushing.append(&mut self.active);
        self.flushing_bytes += self.active_bytes;
        self.active_bytes = 0;
        self.active_rows = 0;
        self.active_since_nanos = None;
        self.small.clear();
    }

    /// What was cut and is not forgotten yet.
    pub(super) fn flushing_rows(&self) -> Vec<Rows> {
        self.flushing.iter().map(|part| part.rows.clone()).collect()
    }

    /// Blocks cover the rows up to `lsn` now: forgets them.
    pub(super) fn forget(&mut self, lsn: Lsn) {
        let cut = std::mem::take(&mut self.flushing);
        self.flushing = cut.into_iter().filter_map(|part| part.above(lsn)).collect();
        self.flushing_bytes = self.flushing.iter().map(|part| part.bytes).sum();
    }

    /// All parts, for a view.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.flushing.iter().chain(&self.active)
    }

    pub(super) fn bytes(&self) -> usize {
        self.flushing_bytes + self.active_bytes
    }
    pub(super) fn rows(&self) -> usize {
        self.parts().map(|part| part.rows.len()).sum()
    }
    pub(super) fn active_bytes(&self) -> usize {
        self.active_bytes
    }
    pub(super) fn active_rows(&self) -> usize {
        self.active_rows
    }
    pub(super) fn active_since_nanos(&self) -> Option<i64> {
        self.active_since_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Value};

    fn one_row(service: &str) -> Rows {
        let mut builder = LogsBuilder::default();
        let context = builder.context(ContextBuilder::new().attribute("service.name", Value::Str(service)).build());
        builder.push(
            context,
            &LogRecord {
                body: Some("x"),
                ..Default::default()
            },
        );
        builder.finish().expect("a row")
    }

    #[test]
    fn single_records_are_joined_and_none_is_lost() {
        let mut head = Head::default();
        for lsn in 1..=1_000 {
            head.push(lsn, one_row(if lsn % 2 == 0 { "even" } else { "odd" }), 5);
        }
        assert_eq!((head.rows(), head.active_rows()), (1_000, 1_000));
        assert!(head.parts().count() < 2 * COALESCE_PARTS, "{} parts", head.parts().count());
        assert_eq!(head.active_bytes(), head.parts().map(|part| part.bytes).sum::<usize>());
    }

    #[test]
    fn a_cut_stays_visible_until_it_is_forgotten() {
        let mut head = Head::default();
        head.push(1, one_row("a"), 5);
        head.push(2, one_row("b"), 6);
        head.cut();
        assert_eq!(head.flushing_rows().len(), 2);
        head.push(3, one_row("c"), 7);
        assert_eq!((head.rows(), head.active_rows(), head.active_since_nanos()), (3, 1, Some(7)));
        head.forget(2);
        assert_eq!((head.rows(), head.bytes()), (1, head.active_bytes()));
    }
}
