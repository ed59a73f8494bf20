//! Rows that are durable in the log and not yet in a block.
//!
//! In: one request's rows with the log position they came from. Out: all of them, to queries at once and to the flush at
//! its cut. Small parts of one table are joined as they gather ([`COALESCE_PARTS`]), so that a client that sends single
//! records does not leave a million tiny columns in memory. Order inside is of no meaning.
//!
//! A joined part has rows of many log positions, and what blocks cover may end amid them (a commit of an earlier life
//! that lands late): [`Part::above`] tells by each row's `ingest_id`.
//!
//! A span in progress whose completed row has come is left out ([`Head::bury`]). That is found for what comes while both
//! are here and the completed one is the later; the flush sees the other order, and a merge what was flushed apart.
//!
//! A log record that names a request gets its trace here too, if a later request tells it ([`Head::link`], [`super::late`]).

use std::collections::{HashMap, HashSet};

use arrow::array::UInt32Array;

use super::accept::{first_ingest_id_of, lsn_of};
use super::late::Late;
use crate::block;
use crate::correlate::link::{self, Found, Link};
use crate::model::{Rows, Table};
use crate::wal::Lsn;

/// So many parts below [`COALESCE_ROWS`] rows of one table are joined into one.
const COALESCE_PARTS: usize = 64;
/// A part of at least so many rows is left alone: joining it would only copy.
const COALESCE_ROWS: usize = 2_048;

/// So many records that were told their trace are filled in, if nobody asks before.
const FILL_AT: usize = 4_096;

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
            bytes: bytes_of(&rows),
            rows,
        })
    }
}

/// Memory of a part. Requests bring their own contexts: those of small ones may well outweigh the rows.
fn bytes_of(rows: &Rows) -> usize {
    rows.memory_bytes() + rows.context_bytes()
}

/// The rows whose `ingest_id` passes.
fn keep(rows: &Rows, passes: impl Fn(i64) -> bool) -> Rows {
    let ids = rows.ingest_ids().values();
    let kept = UInt32Array::from_iter_values((0u32..).zip(ids).filter(|(_, id)| passes(**id)).map(|(row, _)| row));
    rows.take(&kept).expect("some of the rows fit where all did")
}

/// The unflushed rows: those being flushed, up to a cut, and those that came after it.
#[derive(Debug)]
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
    /// The active span in progress of each key, by its `ingest_id`.
    in_progress: HashMap<u128, i64>,
    /// Active rows that a later one replaces, and that are still here.
    superseded: HashSet<i64>,
    /// Active log records that wait to be told their trace.
    late: Late,
}

impl Head {
    /// An empty one, in which so many records may wait for their trace.
    pub(super) fn new(max_late: usize) -> Head {
        Head {
            flushing: Vec::new(),
            active: Vec::new(),
            small: HashMap::new(),
            flushing_bytes: 0,
            active_bytes: 0,
            active_rows: 0,
            active_since_nanos: None,
            in_progress: HashMap::new(),
            superseded: HashSet::new(),
            late: Late::new(max_late),
        }
    }

    pub(super) fn push(&mut self, lsn: Lsn, rows: Rows, now_nanos: i64) {
        if rows.is_empty() {
            return;
        }
        let table = rows.table();
        if table == Table::Spans {
            self.note_spans(&rows);
        }
        let part = Part {
            first_lsn: lsn,
            last_lsn: lsn,
            bytes: bytes_of(&rows),
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

    /// Finds which spans in progress the new rows replace. Costs one look at a column while none is in progress.
    fn note_spans(&mut self, rows: &Rows) {
        // every `spans` has these columns; without them nothing would be left out
        let has_some = block::has_spans_in_progress(rows).unwrap_or_default();
        if !has_some && self.in_progress.is_empty() {
            return;
        }
        let ids = rows.ingest_ids().values();
        let (known, superseded) = (&mut self.in_progress, &mut self.superseded);
        let noted = block::each_span(rows, |row, in_progress, key| {
            let replaced = if in_progress { known.insert(key, ids[row]) } else { known.remove(&key) };
            superseded.extend(replaced);
        });
        debug_assert!(noted.is_ok(), "{noted:?}");
    }

    /// Leaves out the rows that were replaced. Not done for each as it comes: that would copy a part for one row.
    fn bury(&mut self) {
        if self.superseded.is_empty() {
            return;
        }
        let superseded = std::mem::take(&mut self.superseded);
        for part in self.active.iter_mut().filter(|part| part.rows.table() == Table::Spans) {
            let ids = part.rows.ingest_ids().values();
            if ids.iter().any(|id| superseded.contains(id)) {
                part.rows = keep(&part.rows, |id| !superseded.contains(&id));
                part.bytes = bytes_of(&part.rows);
            }
        }
        self.active_bytes = self.active.iter().map(|part| part.bytes).sum();
        self.active_rows = self.active.iter().map(|part| part.rows.len()).sum();
    }

    /// Takes in what became of the names in the request at `lsn`, whose rows are here.
    pub(super) fn link(&mut self, lsn: Lsn, found: &Found) {
        self.late.add(first_ingest_id_of(lsn), found);
        if self.late.n_found() >= FILL_AT {
            self.fill();
        }
    }

    /// Fills in the traces that were told of late. As with [`Self::bury`], not for each as it comes.
    fn fill(&mut self) {
        let found = self.late.take_found();
        let (Some(first), Some(last)) = (found.keys().min(), found.keys().max()) else {
            return;
        };
        let ids = *first..=*last;
        for part in self.active.iter_mut().filter(|part| part.rows.table() == Table::Logs) {
            if part.last_lsn < lsn_of(*first) || part.first_lsn > lsn_of(*last) {
                continue;
            }
            let rows = part.rows.ingest_ids().values().iter().enumerate().filter(|(_, id)| ids.contains(id));
            let links: HashMap<usize, Link> = rows.filter_map(|(row, id)| Some((row, *found.get(id)?))).collect();
            if links.is_empty() {
                continue;
            }
            link::count_late(&links);
            part.rows = link::filled(&part.rows, &links);
            part.bytes = bytes_of(&part.rows);
        }
        self.active_bytes = self.active.iter().map(|part| part.bytes).sum();
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
            bytes: bytes_of(&joined),
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
        self.bury();
        self.fill();
        self.late.clear();
        self.in_progress.clear();
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

    /// All parts as a query is to see them.
    pub(super) fn visible(&mut self) -> Vec<Part> {
        self.bury();
        self.fill();
        self.parts().cloned().collect()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
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
    use crate::model::{ContextBuilder, LogRecord, LogsBuilder, SpanId, SpanRecord, SpansBuilder, TraceId, Value};

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
        let mut head = Head::new(100);
        for lsn in 1..=1_000 {
            head.push(lsn, one_row(if lsn % 2 == 0 { "even" } else { "odd" }), 5);
        }
        assert_eq!((head.rows(), head.active_rows()), (1_000, 1_000));
        assert!(head.parts().count() < 2 * COALESCE_PARTS, "{} parts", head.parts().count());
        assert_eq!(head.active_bytes(), head.parts().map(|part| part.bytes).sum::<usize>());
    }

    fn spans(lsn: Lsn, spans: &[(u8, bool)]) -> Rows {
        let mut builder = SpansBuilder::default();
        let context = builder.context(ContextBuilder::new().build());
        for (id, in_progress) in spans {
            builder.push(
                context,
                &SpanRecord {
                    start_time_unix_nano: 5,
                    end_time_unix_nano: (!in_progress).then_some(9),
                    trace_id: TraceId::from_bytes(&[7; 16]).expect("not zero"),
                    span_id: SpanId::from_bytes(&[*id; 8]).expect("not zero"),
                    parent_span_id: None,
                    trace_state: None,
                    trace_flags: None,
                    name: "n",
                    kind: "SERVER",
                    status_code: "OK",
                    status_message: None,
                    in_progress: *in_progress,
                    dropped_attributes_count: 0,
                },
            );
        }
        builder.finish().expect("rows").with_ingest_ids((lsn as i64) << 20)
    }

    /// (log position, row of the request) of all visible rows.
    fn visible(head: &mut Head) -> Vec<(u64, i64)> {
        let parts = head.visible();
        let ids = parts.iter().flat_map(|part| part.rows.ingest_ids().values().iter().copied());
        let mut all: Vec<_> = ids.map(|id| (lsn_of(id), id & 0xf_ffff)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_completed_span_hides_the_one_in_progress_even_in_a_joined_part() {
        let mut head = Head::new(100);
        head.push(1, spans(1, &[(1, true), (2, true), (3, false)]), 5);
        assert_eq!(visible(&mut head), [(1, 0), (1, 1), (1, 2)]);
        // a further beat of 2
        head.push(2, spans(2, &[(2, true)]), 5);
        assert_eq!(visible(&mut head), [(1, 0), (1, 2), (2, 0)]);
        for lsn in 3..=70 {
            head.push(lsn, spans(lsn, &[(200, false)]), 5);
        }
        head.push(71, spans(71, &[(1, false), (4, true), (4, false)]), 5);
        let left = visible(&mut head);
        assert!(!left.contains(&(1, 0)) && left.contains(&(71, 0)), "1 is completed");
        assert!(!left.contains(&(71, 1)) && left.contains(&(71, 2)), "4 is, in the same request");
        assert!(left.contains(&(2, 0)), "2 is not");
        assert_eq!(left.len(), 1 + 1 + 68 + 2);
        assert_eq!((head.rows(), head.active_rows()), (72, 72));
        assert_eq!(head.active_bytes(), head.parts().map(|part| part.bytes).sum::<usize>());
        head.cut();
        assert_eq!(head.flushing_rows().iter().map(Rows::len).sum::<usize>(), 72);
    }

    #[test]
    fn contexts_count_and_spare_room_does_not_stay() {
        let mut builder = LogsBuilder::default();
        let long = "x".repeat(100_000);
        let context = builder.context(ContextBuilder::new().attribute("k8s.note", Value::Str(&long)).build());
        builder.push(context, &LogRecord::default());
        let rows = builder.finish().expect("a row");
        let loose = rows.memory_bytes();
        let rows = rows.compacted();
        assert!(rows.memory_bytes() * 2 < loose, "{} of {loose} bytes stay", rows.memory_bytes());
        let mut head = Head::new(100);
        head.push(1, rows, 5);
        assert!(head.bytes() > 100_000, "{}", head.bytes());
    }

    #[test]
    fn a_cut_stays_visible_until_it_is_forgotten() {
        let mut head = Head::new(100);
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
