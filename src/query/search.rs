//! The newest rows that match, page by page.
//!
//! Rows are in total order by time, then `ingest_id`, newest first; a page is the first `limit` rows behind the cursor.
//! The head is searched whole; then blocks, those with the newest last time first, until the page is full and its last
//! row is newer than anything the remaining blocks can hold. Overlapping blocks need no special care. Then the rows are
//! read whole, newest first, until they are as many bytes as an answer may have: there the page ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use arrow::array::{AsArray, Int64Array, UInt32Array};
use arrow::datatypes::Int64Type;

use super::answer::Cursor;
use super::blocks::{Blocks, Matcher, rows_at_once};
use super::filter::Filter;
use super::hit::Hit;
use super::job::{Job, blocking};
use super::limits::Stop;
use super::{Error, ProblemKind, Result};
use crate::block::Block;
use crate::model::{Rows, TimeRange};

/// Rows that are read whole at first, and at most, at a time. (Few in tests, so that small pages need several helpings.)
const FIRST_FETCHED: usize = if cfg!(test) { 8 } else { 128 };
const MAX_FETCHED: usize = if cfg!(test) { 64 } else { 8_192 };
/// Rows that are read at a time even where those before were large.
const LEAST_FETCHED: usize = 4;

/// A row's place in the order of an answer, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    time: i64,
    ingest_id: i64,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Head { part: usize, row: usize },
    Block { number: usize, row: u32 },
}

/// The newest rows so far, at most `capacity`.
struct Newest {
    heap: BinaryHeap<Reverse<Found>>,
    capacity: usize,
    cursor: Option<Cursor>,
}

impl Newest {
    fn offer(&mut self, found: Found) {
        if !is_behind(self.cursor, found.time, found.ingest_id) {
            return;
        }
        if self.heap.len() < self.capacity {
            self.heap.push(Reverse(found));
        } else if let Some(mut last) = self.heap.peek_mut()
            && last.0 < found
        {
            *last = Reverse(found);
        }
    }

    /// Time of the last row, once there are enough.
    fn full_down_to(&self) -> Option<i64> {
        (self.heap.len() >= self.capacity).then(|| self.heap.peek().map(|last| last.0.time)).flatten()
    }
}

/// Whether a row comes after the cursor's.
fn is_behind(cursor: Option<Cursor>, time: i64, ingest_id: i64) -> bool {
    cursor.is_none_or(|cursor| (time, ingest_id) < (cursor.time_unix_nano, cursor.ingest_id))
}

/// How large a page may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) rows: usize,
    /// Of the rows in memory; the first row is in the page whatever it takes.
    pub(super) bytes: usize,
}

/// Rows of a page.
pub(super) struct Page {
    pub(super) hits: Vec<Hit>,
    pub(super) bytes: usize,
    /// Where the next page starts, if there are more rows.
    pub(super) next: Option<Cursor>,
    /// Whether the bytes ended the page.
    pub(super) is_cut: bool,
}

/// The newest rows of a job behind a cursor.
pub(super) async fn newest(job: &mut Job, blocks: &Blocks, bounds: Bounds, cursor: Option<Cursor>) -> Result<Page> {
    if let Some(cursor) = cursor {
        job.range.end_nanos = job.range.end_nanos.min(cursor.time_unix_nano.saturating_add(1)).max(job.range.start_nanos);
    }
    let mut newest = Newest {
        heap: BinaryHeap::new(),
        capacity: bounds.rows.saturating_add(1),
        cursor,
    };
    let capacity = newest.capacity;
    let parts = job
        .over_head(move |part, rows, found| {
            let mut own = Newest {
                heap: BinaryHeap::new(),
                capacity,
                cursor,
            };
            let (times, ids) = (rows.times().values(), ingest_ids(rows)?.values());
            for row in found.set_indices() {
                own.offer(Found {
                    time: times[row],
                    ingest_id: ids[row],
                    place: Place::Head { part, row },
                });
            }
            Ok(own.heap)
        })
        .await?;
    for Reverse(found) in parts.into_iter().flatten() {
        newest.offer(found);
    }
    let metas = job.metas.clone();
    let mut opened: BTreeMap<usize, Block> = BTreeMap::new();
    for (number, meta) in metas.iter().enumerate() {
        if job.stop.is_over() {
            break;
        }
        let down_to = newest.full_down_to();
        if down_to.is_some_and(|time| time > meta.max_time_nanos) {
            job.coverage.blocks_pruned += (metas.len() - number) as u64;
            break;
        }
        let Some(block) = job.open(blocks, meta).await.map(|opened| opened.block) else {
            continue;
        };
        let range = TimeRange::new(job.range.start_nanos.max(down_to.unwrap_or(i64::MIN)), job.range.end_nanos);
        let (filter, stop, worked_on) = (job.filter.clone(), job.stop.clone(), block.clone());
        match blocking(move || first_of_block(&worked_on, &filter, range, cursor, capacity, &stop)).await {
            Ok(keys) => {
                job.coverage.rows_matched_at_least += keys.len() as u64;
                for (time, ingest_id, row) in keys {
                    newest.offer(Found {
                        time,
                        ingest_id,
                        place: Place::Block { number, row },
                    });
                }
                opened.insert(number, block);
            }
            Err(error) => job.coverage.incomplete(ProblemKind::Corrupt, meta.id.as_str(), error.to_string()),
        }
    }
    let mut found: Vec<Found> = newest.heap.into_iter().map(|Reverse(found)| found).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    let has_more = found.len() > bounds.rows;
    found.truncate(bounds.rows);
    let last = found.last().filter(|_| has_more).map(|found| Cursor {
        time_unix_nano: found.time,
        ingest_id: found.ingest_id,
    });
    let (head, stop) = (job.head.clone(), job.stop.clone());
    let fetched = blocking(move || fetch(&found, &head, &opened, bounds.bytes, &stop)).await?;
    for (number, error) in fetched.unreadable {
        job.coverage.incomplete(ProblemKind::Corrupt, metas[number].id.as_str(), error);
    }
    job.mark_end();
    let next = match fetched.is_cut {
        false => last,
        true => fetched.hits.last().map(|hit| Cursor {
            time_unix_nano: hit.time_unix_nano(),
            ingest_id: hit.ingest_id(),
        }),
    };
    Ok(Page {
        hits: fetched.hits,
        bytes: fetched.bytes,
        next,
        is_cut: fetched.is_cut,
    })
}

fn ingest_ids(rows: &Rows) -> Result<&Int64Array> {
    rows.batch()
        .column_by_name("ingest_id")
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| Error::internal("rows have no ingest_id"))
}

/// Time, `ingest_id` and number of a block's first matching rows behind the cursor.
fn first_of_block(block: &Block, filter: &Filter, range: TimeRange, cursor: Option<Cursor>, wanted: usize, stop: &Stop) -> Result<Vec<(i64, i64, u32)>> {
    let matcher = Matcher::new(block, filter, stop)?;
    let mut rows = block.rows_in(&range)?;
    let time_column = block.meta().table.time_column();
    let mut keys = Vec::new();
    while keys.len() < wanted && !rows.is_empty() && !stop.is_over() {
        let asked = wanted - keys.len();
        let found = matcher.first(rows.clone(), asked)?;
        let Some(last) = found.last().copied() else { break };
        let batch = block.read(&found, &[time_column, "ingest_id"])?;
        stop.has_read(block.bytes_of(found.len(), &[time_column, "ingest_id"]));
        let column = |index: usize| {
            let column = batch.column(index).as_primitive_opt::<Int64Type>();
            column.ok_or_else(|| Error::internal("times and ids are whole numbers"))
        };
        let (times, ids) = (column(0)?.values(), column(1)?.values());
        for (i, row) in found.iter().enumerate() {
            if is_behind(cursor, times[i], ids[i]) {
                keys.push((times[i], ids[i], *row));
            }
        }
        if found.len() < asked {
            break;
        }
        rows.start = last + 1;
    }
    Ok(keys)
}

/// Rows that were read whole.
#[derive(Default)]
struct Fetched {
    hits: Vec<Hit>,
    bytes: usize,
    /// The bytes ended before the rows did.
    is_cut: bool,
    /// Numbers of blocks whose rows could not be read, and why.
    unreadable: BTreeMap<usize, String>,
}

/// Why some rows could not be read.
enum Unread {
    Head(Error),
    Block(usize, Error),
}

/// Reads the rows, whole, in the order of `found`, until they take `max_bytes`; at least one.
///
/// They come in helpings, so that rows which are not in the answer in the end are never in memory all at once.
fn fetch(found: &[Found], head: &[Rows], opened: &BTreeMap<usize, Block>, max_bytes: usize, stop: &Stop) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    let mut helping = opened.values().map(|block| rows_at_once(block, &[])).fold(FIRST_FETCHED, usize::min);
    let mut rest = found;
    while !rest.is_empty() {
        let n_rows = helping.min(rest.len());
        let hits = match read(&rest[..n_rows], head, opened, &fetched.unreadable, stop) {
            Ok(hits) => hits,
            // rows so large that together they are more than a column can hold come one by one
            Err(Unread::Block(..)) if n_rows > 1 => {
                helping = n_rows / 2;
                continue;
            }
            Err(Unread::Block(number, error)) => {
                fetched.unreadable.insert(number, error.to_string());
                continue;
            }
            Err(Unread::Head(error)) => return Err(error),
        };
        for hit in hits.into_iter().flatten() {
            let bytes = hit.memory_bytes();
            if !fetched.hits.is_empty() && fetched.bytes.saturating_add(bytes) > max_bytes {
                fetched.is_cut = true;
                return Ok(fetched);
            }
            fetched.bytes += bytes;
            fetched.hits.push(hit);
        }
        rest = &rest[n_rows..];
        let average = (fetched.bytes / fetched.hits.len().max(1)).max(1);
        let room = max_bytes.saturating_sub(fetched.bytes) / average;
        helping = (n_rows * 2).min(MAX_FETCHED).min(room.max(LEAST_FETCHED));
    }
    Ok(fetched)
}

/// One helping; `None` in place of the rows of unreadable blocks.
fn read(
    found: &[Found],
    head: &[Rows],
    opened: &BTreeMap<usize, Block>,
    unreadable: &BTreeMap<usize, String>,
    stop: &Stop,
) -> Result<Vec<Option<Hit>>, Unread> {
    let mut in_head: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
    let mut in_blocks: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
    for (position, found) in found.iter().enumerate() {
        match found.place {
            Place::Head { part, row } => in_head.entry(part).or_default().push((position, row as u32)),
            Place::Block { number, row } => in_blocks.entry(number).or_default().push((position, row)),
        }
    }
    let mut hits: Vec<Option<Hit>> = vec![None; found.len()];
    let mut place = |rows: &[(usize, u32)], read: Vec<Hit>| {
        for ((position, _), hit) in rows.iter().zip(read) {
            hits[*position] = Some(hit);
        }
    };
    for (part, rows) in in_head {
        let numbers = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        let taken = head[part].take(&numbers).and_then(|taken| taken.to_batch(None)).map_err(Error::from);
        place(
            &rows,
            taken.and_then(|batch| Hit::from_stored(head[part].table(), &batch)).map_err(Unread::Head)?,
        );
    }
    for (number, mut rows) in in_blocks {
        let Some(block) = opened.get(&number).filter(|_| !unreadable.contains_key(&number)) else {
            continue;
        };
        rows.sort_unstable_by_key(|(_, row)| *row);
        let numbers: Vec<u32> = rows.iter().map(|(_, row)| *row).collect();
        let batch = block.read(&numbers, &[]).map_err(Error::from);
        stop.has_read(block.bytes_of(numbers.len(), &[]));
        place(
            &rows,
            batch
                .and_then(|batch| Hit::from_stored(block.meta().table, &batch))
                .map_err(|error| Unread::Block(number, error))?,
        );
    }
    Ok(hits)
}
