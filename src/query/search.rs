//! The newest rows that match, or the oldest, page by page.
//!
//! Rows are in total order by time, then `ingest_id`, newest first or oldest first; a page is the first `limit` rows behind the
//! cursor. The head is searched first, its newest parts first; then blocks, those with the newest last time first, until the
//! page is full and its last row is newer than anything the remaining blocks can hold. Overlapping blocks need no special
//! care. Oldest first is the same with the time turned round ([`Order::rank`]): blocks with the oldest first time come
//! first, and of each block the last rows. Then the rows are read whole, in order, until they are as many bytes as an answer
//! may have: there the page ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, Int64Array, UInt32Array};
use arrow::datatypes::Int64Type;

use super::answer::{Cursor, Order, SearchResponse};
use super::blocks::Blocks;
use super::filter::Filter;
use super::hit::Hit;
use super::job::{Job, PARALLEL_BLOCKS};
use super::limits::Stop;
use super::matcher::{Matcher, rows_at_once};
use super::rows::{RowCache, RowKey};
use super::scan::{self, Chunk};
use super::{Coverage, Error, ProblemKind, Result};
use crate::block::{Block, BlockMeta};
use crate::model::{Rows, TimeRange, TraceId};

/// Rows that are read whole at first, and at most, at a time. (Few in tests, so that small pages need several helpings.)
const FIRST_FETCHED: usize = if cfg!(test) { 8 } else { 128 };
const MAX_FETCHED: usize = if cfg!(test) { 64 } else { 8_192 };
/// Rows of one time that are looked through for a page's beginning. (Few in tests.)
const SAME_TIME_ROWS: usize = if cfg!(test) { 4 } else { 1_024 };
/// Rows of larger answers are not kept for whoever asks again: they would push out all others.
const MOST_KEPT_ROWS: usize = 2_048;
/// Rows that are read at a time even where those before were large.
const LEAST_FETCHED: usize = 4;
/// Blocks that are searched at once, at most: the first alone, then twice as many each time.
const MAX_WINDOW: usize = 16;
/// Of a block that is not here, so few rows are fetched as soon as they are found.
const ROWS_AT_ONCE: usize = 8;
/// What a row group costs in rows: its pages are decompressed however few rows are wanted.
const ROW_GROUP_COST: usize = 8;

impl Order {
    /// Greater for what comes sooner: of times and of `ingest_id`s alike. Its own inverse.
    fn rank(self, value: i64) -> i64 {
        match self {
            Order::NewestFirst => value,
            Order::OldestFirst => !value,
        }
    }

    /// The rank of the row that comes first of those between two times.
    fn first_rank(self, (oldest, newest): (i64, i64)) -> i64 {
        match self {
            Order::NewestFirst => newest,
            Order::OldestFirst => self.rank(oldest),
        }
    }

    /// The part of a range whose rows have at least this rank.
    fn down_to(self, range: TimeRange, rank: i64) -> TimeRange {
        match self {
            Order::NewestFirst => TimeRange::new(range.start_nanos.max(rank), range.end_nanos),
            Order::OldestFirst => TimeRange::new(range.start_nanos, range.end_nanos.min(self.rank(rank).saturating_add(1))),
        }
    }
}

/// A row's place in the order of an answer, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Ranks of its time and of its `ingest_id`.
    time: i64,
    ingest_id: i64,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Head { part: usize, row: usize },
    Block { number: usize, row: u32 },
}

/// The rows that come first of those seen so far, at most `capacity`.
struct First {
    heap: BinaryHeap<Reverse<Found>>,
    capacity: usize,
    order: Order,
    cursor: Option<Cursor>,
}

impl First {
    fn new(capacity: usize, order: Order, cursor: Option<Cursor>) -> Self {
        Self {
            heap: BinaryHeap::new(),
            capacity,
            order,
            cursor,
        }
    }

    fn offer(&mut self, (time, ingest_id): (i64, i64), place: Place) {
        if is_behind(self.order, self.cursor, time, ingest_id) {
            self.keep(Found {
                time: self.order.rank(time),
                ingest_id: self.order.rank(ingest_id),
                place,
            });
        }
    }

    fn keep(&mut self, found: Found) {
        if self.heap.len() < self.capacity {
            self.heap.push(Reverse(found));
        } else if let Some(mut last) = self.heap.peek_mut()
            && last.0 < found
        {
            *last = Reverse(found);
        }
    }

    /// Rank of the last row's time, once there are enough.
    fn full_down_to(&self) -> Option<i64> {
        (self.heap.len() >= self.capacity).then(|| self.heap.peek().map(|last| last.0.time)).flatten()
    }
}

/// Whether a row comes after the cursor's.
fn is_behind(order: Order, cursor: Option<Cursor>, time: i64, ingest_id: i64) -> bool {
    let rank = |time: i64, ingest_id: i64| (order.rank(time), order.rank(ingest_id));
    cursor.is_none_or(|cursor| rank(time, ingest_id) < rank(cursor.time_unix_nano, cursor.ingest_id))
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
    /// See [`SearchResponse::whole_until`].
    pub(super) whole_until: Option<i64>,
}

impl Page {
    pub(super) fn answer(self, coverage: Coverage, begun: Instant) -> SearchResponse {
        SearchResponse {
            hits: self.hits,
            next_cursor: self.next,
            whole_until: self.whole_until,
            coverage,
            took: begun.elapsed(),
        }
    }
}

/// Where the first rows of a job lie.
struct Located {
    /// In the order of the answer.
    found: Vec<Found>,
    metas: Vec<Arc<BlockMeta>>,
    opened: Arc<BTreeMap<usize, Block>>,
    /// The last of them, if there are more.
    last: Option<Cursor>,
    /// Rank of the first row that may lie in what was not looked at; `None`: all was that matters.
    unread: Option<i64>,
}

/// Finds the first `n_rows` rows of a job behind a cursor.
async fn locate(job: &mut Job, blocks: &Arc<Blocks>, order: Order, n_rows: usize, cursor: Option<Cursor>) -> Result<Located> {
    if let Some(cursor) = cursor {
        match order {
            Order::NewestFirst => job.range.end_nanos = job.range.end_nanos.min(cursor.time_unix_nano.saturating_add(1)).max(job.range.start_nanos),
            Order::OldestFirst => job.range.start_nanos = job.range.start_nanos.max(cursor.time_unix_nano).min(job.range.end_nanos),
        }
    }
    if order == Order::OldestFirst {
        job.metas.sort_by_key(|meta| meta.min_time_nanos);
    }
    let mut first = First::new(n_rows.saturating_add(1), order, cursor);
    search_head(job, &mut first).await?;
    let mut unread = job.stop.is_over().then_some(i64::MAX);
    let metas = job.metas.clone();
    let first_rank = |number: usize| metas.get(number).map(|meta| order.first_rank((meta.min_time_nanos, meta.max_time_nanos)));
    let mut opened: BTreeMap<usize, Block> = BTreeMap::new();
    let (mut number, mut window) = (0, 1);
    while number < metas.len() && !job.stop.is_over() {
        let down_to = first.full_down_to();
        // the block with the first row comes first: behind one that is too late, all are
        let matters = |meta: &BlockMeta| down_to.is_none_or(|rank| rank <= order.first_rank((meta.min_time_nanos, meta.max_time_nanos)));
        let end = number + metas[number..metas.len().min(number + window)].iter().take_while(|meta| matters(meta)).count();
        if end == number {
            job.coverage.blocks_pruned += (metas.len() - number) as u64;
            number = metas.len();
            break;
        }
        let found = search_blocks(job, blocks, number..end, &first).await?;
        let mut is_read = vec![false; end - number];
        for (block_number, block, keys) in found {
            match keys {
                Ok(keys) => {
                    is_read[block_number - number] = true;
                    job.coverage.rows_matched_at_least += keys.len() as u64;
                    for (time, ingest_id, row) in keys {
                        first.offer((time, ingest_id), Place::Block { number: block_number, row });
                    }
                    opened.insert(block_number, block);
                }
                Err(error) => job.coverage.incomplete(error.problem(), metas[block_number].id.as_str(), error.to_string()),
            }
        }
        // who stopped in the middle does not say so
        let is_over = job.stop.is_over();
        let lacking = (number..end).zip(is_read).filter(|(_, is_read)| is_over || !is_read);
        unread = unread.max(lacking.filter_map(|(number, _)| first_rank(number)).max());
        number = end;
        window = (window * 2).min(MAX_WINDOW);
    }
    // time may have ended just before blocks that do not matter
    let down_to = first.full_down_to();
    let rest = (number..metas.len()).filter_map(first_rank);
    unread = unread.max(rest.filter(|rank| down_to.is_none_or(|last| last <= *rank)).max());
    let mut found: Vec<Found> = first.heap.into_iter().map(|Reverse(found)| found).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    let has_more = found.len() > n_rows;
    if let Some(next) = found.get(n_rows) {
        // two nodes may have given rows of one time one ID: no cursor stands between those, so they come together, on the next page
        let (time, ingest_id) = (next.time, next.ingest_id);
        let is_other = |found: &Found| (found.time, found.ingest_id) != (time, ingest_id);
        let end = found[..n_rows].iter().rposition(is_other).map_or(n_rows, |at| at + 1);
        found.truncate(end);
    }
    let last = found.last().filter(|_| has_more).map(|found| Cursor {
        time_unix_nano: order.rank(found.time),
        ingest_id: order.rank(found.ingest_id),
    });
    Ok(Located {
        found,
        metas,
        opened: Arc::new(opened),
        last,
        unread,
    })
}

/// The first rows of a job behind a cursor.
pub(super) async fn page(job: &mut Job, blocks: &Arc<Blocks>, order: Order, bounds: Bounds, cursor: Option<Cursor>) -> Result<Page> {
    // what is missing already may have been anywhere: lost frames of the log, traces that were not found
    let anywhere = (!job.coverage.complete).then_some(i64::MAX);
    let located = locate(job, blocks, order, bounds.rows, cursor).await?;
    let fetched = fetch(job, &located.found, &located.opened, &blocks.rows, bounds.bytes).await?;
    let unreadable = fetched.unreadable.keys().filter_map(|number| located.metas.get(*number));
    let unreadable = unreadable.map(|meta| order.first_rank((meta.min_time_nanos, meta.max_time_nanos))).max();
    let unread = anywhere.max(located.unread).max(unreadable);
    for (number, (problem, error)) in fetched.unreadable {
        job.coverage.incomplete(problem, located.metas[number].id.as_str(), error);
    }
    job.mark_end();
    let next = match fetched.is_cut {
        false => located.last,
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
        whole_until: unread.map(|rank| order.rank(rank)),
    })
}

/// Spans' places in the order of an answer, and their traces.
pub(super) type Traced = Vec<(Cursor, TraceId)>;

/// The traces of the newest spans behind a cursor, and where the next page starts: reads no other column.
pub(super) async fn traces(job: &mut Job, blocks: &Arc<Blocks>, n_rows: usize, cursor: Option<Cursor>) -> Result<(Traced, Option<Cursor>)> {
    let located = locate(job, blocks, Order::NewestFirst, n_rows, cursor).await?;
    let mut ids: Vec<Option<TraceId>> = vec![None; located.found.len()];
    let mut in_blocks: BTreeMap<usize, Vec<(u32, usize)>> = BTreeMap::new();
    for (position, found) in located.found.iter().enumerate() {
        match found.place {
            Place::Head { part, row } => {
                let column = job.head[part]
                    .batch()
                    .column_by_name("trace_id")
                    .and_then(|column| column.as_string_opt::<i32>());
                let column = column.ok_or_else(|| Error::internal("rows have no trace_id"))?;
                ids[position] = TraceId::from_hex(column.value(row));
            }
            Place::Block { number, row } => in_blocks.entry(number).or_default().push((row, position)),
        }
    }
    let pieces: Vec<_> = in_blocks
        .into_iter()
        .map(|(number, mut rows)| {
            rows.sort_unstable();
            let (opened, stop) = (located.opened.clone(), job.stop.clone());
            move || (number, traces_in_block(opened.get(&number), &rows, &stop))
        })
        .collect();
    for (number, read) in job.workers.run_all(pieces).await? {
        match read {
            Ok(read) => read.into_iter().for_each(|(position, id)| ids[position] = id),
            Err(error) => job.coverage.incomplete(error.problem(), located.metas[number].id.as_str(), error.to_string()),
        }
    }
    job.mark_end();
    let place = |found: &Found| Cursor {
        time_unix_nano: Order::NewestFirst.rank(found.time),
        ingest_id: Order::NewestFirst.rank(found.ingest_id),
    };
    let traced = located.found.iter().zip(ids).filter_map(|(found, id)| Some((place(found), id?)));
    Ok((traced.collect(), located.last))
}

/// The traces of some rows of a block, each with its position in the answer.
fn traces_in_block(block: Option<&Block>, rows: &[(u32, usize)], stop: &Stop) -> Result<Vec<(usize, Option<TraceId>)>> {
    let block = block.ok_or_else(|| Error::internal("a block was not opened"))?;
    let numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
    stop.has_read(block.bytes_of(numbers.len(), &["trace_id"]));
    let batch = block.read(&numbers, &["trace_id"])?;
    let column = batch.column(0).as_string_opt::<i32>();
    let column = column.ok_or_else(|| Error::internal("trace IDs are text"))?;
    let id = |(nth, (_, position)): (usize, &(u32, usize))| (*position, TraceId::from_hex(column.value(nth)));
    Ok(rows.iter().enumerate().map(id).collect())
}

fn ingest_ids(rows: &Rows) -> Result<&Int64Array> {
    rows.batch()
        .column_by_name("ingest_id")
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| Error::internal("rows have no ingest_id"))
}

/// Offers the matching rows of the head. The workers share its parts; each begins with the one whose row comes first, and
/// goes on until what it has comes before anything in the parts left.
async fn search_head(job: &mut Job, first: &mut First) -> Result<()> {
    let mut parts: Vec<(i64, usize)> = Vec::with_capacity(job.head.len());
    parts.extend(
        job.head
            .iter()
            .enumerate()
            .filter_map(|(number, rows)| Some((first.order.first_rank(rows.time_bounds()?), number))),
    );
    parts.sort_unstable_by(|a, b| b.cmp(a));
    let (capacity, order, cursor) = (first.capacity, first.order, first.cursor);
    let n_shares = job.head_shares();
    let pieces: Vec<_> = (0..n_shares)
        .map(|share| {
            let parts: Vec<(i64, usize)> = parts.iter().skip(share).step_by(n_shares).copied().collect();
            let (head, filter, range, stop) = (job.head.clone(), job.filter.clone(), job.range, job.stop.clone());
            move || -> Result<(BinaryHeap<Reverse<Found>>, u64)> {
                let mut own = First::new(capacity, order, cursor);
                let mut matched = 0;
                for (rank, part) in parts {
                    let down_to = own.full_down_to();
                    if stop.is_over() || down_to.is_some_and(|last| last > rank) {
                        break;
                    }
                    let rows = &head[part];
                    let range = down_to.map_or(range, |rank| order.down_to(range, rank));
                    let found = scan::within(&filter, Chunk::Memory(rows), &scan::in_range(rows, &range))?;
                    matched += found.count_set_bits() as u64;
                    let (times, ids) = (rows.times().values(), ingest_ids(rows)?.values());
                    for row in found.set_indices() {
                        own.offer((times[row], ids[row]), Place::Head { part, row });
                    }
                }
                Ok((own.heap, matched))
            }
        })
        .collect();
    for share in job.workers.run_all(pieces).await? {
        let (heap, matched) = share?;
        job.coverage.rows_matched_at_least += matched;
        heap.into_iter().for_each(|Reverse(found)| first.keep(found));
    }
    job.mark_end();
    Ok(())
}

/// What [`first_of_block`] gives.
type Keys = Vec<(i64, i64, u32)>;

/// The first matching rows of each of some blocks, which the workers share.
async fn search_blocks(job: &mut Job, blocks: &Arc<Blocks>, numbers: Range<usize>, first: &First) -> Result<Vec<(usize, Block, Result<Keys>)>> {
    let opened = job.open_all(blocks, numbers).await;
    let wanted = Wanted {
        range: first.full_down_to().map_or(job.range, |rank| first.order.down_to(job.range, rank)),
        order: first.order,
        cursor: first.cursor,
        n_rows: first.capacity,
    };
    // those that wait for the store wait together
    let is_here = opened.iter().all(|(_, block)| block.is_here());
    let share = if is_here { opened.len().div_ceil(job.workers.n_threads()).max(1) } else { 1 };
    let pieces: Vec<_> = opened
        .chunks(share)
        .map(|share| {
            let (share, filter, kept, stop) = (share.to_vec(), job.filter.clone(), blocks.rows.clone(), job.stop.clone());
            move || -> Vec<(usize, Block, Result<Keys>)> {
                let search = |(number, block): (usize, Block)| {
                    let keys = wanted.of_block(&block, &filter, &kept, &stop);
                    (number, block, keys)
                };
                share.into_iter().map(search).collect()
            }
        })
        .collect();
    Ok(job.workers.run_all(pieces).await?.into_iter().flatten().collect())
}

/// Which rows of a block are wanted, beside that they match.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    range: TimeRange,
    order: Order,
    cursor: Option<Cursor>,
    n_rows: usize,
}

impl Wanted {
    /// Time, `ingest_id` and number of a block's first matching rows behind the cursor.
    fn of_block(&self, block: &Block, filter: &Filter, kept: &RowCache, stop: &Stop) -> Result<Keys> {
        let matcher = Matcher::new(block, filter, stop)?.knowing(kept);
        let mut rows = block.rows_in(&self.range)?;
        if let Some(cursor) = self.cursor {
            let border = border(block, cursor, self.order)?;
            match self.order {
                Order::NewestFirst => rows.start = rows.start.max(border).min(rows.end),
                Order::OldestFirst => rows.end = rows.end.min(border).max(rows.start),
            }
        }
        let time_column = block.meta().table.time_column();
        let mut keys = Vec::new();
        while keys.len() < self.n_rows && !rows.is_empty() && !stop.is_over() {
            let asked = self.n_rows - keys.len();
            let found = match self.order {
                Order::NewestFirst => matcher.first(rows.clone(), asked)?,
                Order::OldestFirst => matcher.last(rows.clone(), asked)?,
            };
            let (Some(lowest), Some(highest)) = (found.first().copied(), found.last().copied()) else {
                break;
            };
            if found.len() <= ROWS_AT_ONCE && !block.is_here() {
                // so few are read whole soon: fetched together they take fewer requests
                block.want(&found, &[])?;
            }
            let batch = block.read(&found, &[time_column, "ingest_id"])?;
            stop.has_read(block.bytes_of(found.len(), &[time_column, "ingest_id"]));
            let column = |index: usize| {
                let column = batch.column(index).as_primitive_opt::<Int64Type>();
                column.ok_or_else(|| Error::internal("times and ids are whole numbers"))
            };
            let (times, ids) = (column(0)?.values(), column(1)?.values());
            for (i, row) in found.iter().enumerate() {
                if is_behind(self.order, self.cursor, times[i], ids[i]) {
                    keys.push((times[i], ids[i], *row));
                }
            }
            if found.len() < asked {
                break;
            }
            match self.order {
                Order::NewestFirst => rows.start = highest + 1,
                Order::OldestFirst => rows.end = lowest,
            }
        }
        Ok(keys)
    }
}

/// A row before which (oldest first: from which on) none is behind the cursor: of the rows of its time, which stand by
/// `ingest_id`, there may be many.
fn border(block: &Block, cursor: Cursor, order: Order) -> Result<u32> {
    let of_its_time = TimeRange::new(cursor.time_unix_nano, cursor.time_unix_nano.saturating_add(1));
    if !block.meta().overlaps(&of_its_time) {
        // the range of time alone says which rows are behind it
        return Ok(match order {
            Order::NewestFirst => 0,
            Order::OldestFirst => block.n_rows(),
        });
    }
    let mut rows = block.rows_in(&of_its_time)?;
    while rows.len() > SAME_TIME_ROWS {
        let middle = rows.start + (rows.end - rows.start) / 2;
        let batch = block.read(&[middle], &["ingest_id"])?;
        let ids = batch.column(0).as_primitive_opt::<Int64Type>();
        let id = ids.ok_or_else(|| Error::internal("ids are whole numbers"))?.value(0);
        let is_before = match order {
            Order::NewestFirst => id < cursor.ingest_id,
            Order::OldestFirst => id <= cursor.ingest_id,
        };
        if is_before {
            rows.end = middle;
        } else {
            rows.start = middle + 1;
        }
    }
    Ok(match order {
        Order::NewestFirst => rows.start,
        Order::OldestFirst => rows.end,
    })
}

/// Rows that were read whole.
#[derive(Default)]
struct Fetched {
    hits: Vec<Hit>,
    bytes: usize,
    /// The bytes ended before the rows did.
    is_cut: bool,
    /// Numbers of blocks whose rows could not be read, and why.
    unreadable: BTreeMap<usize, (ProblemKind, String)>,
}

/// Why some rows could not be read.
enum Unread {
    Head(Error),
    Block(usize, Error),
}

/// Reads the rows, whole, in the order of `found`, until they take `max_bytes`; at least one.
///
/// They come in helpings, so that rows which are not in the answer in the end are never in memory all at once.
async fn fetch(job: &Job, found: &[Found], opened: &Arc<BTreeMap<usize, Block>>, kept: &Arc<RowCache>, max_bytes: usize) -> Result<Fetched> {
    let kept = Some(kept).filter(|_| found.len() <= MOST_KEPT_ROWS);
    let mut fetched = Fetched::default();
    let mut helping = opened
        .values()
        .map(|block| rows_at_once(block, Hit::columns(block.meta().table)))
        .fold(FIRST_FETCHED, usize::min);
    let mut rest = found;
    while !rest.is_empty() {
        let n_rows = helping.min(rest.len());
        let hits = match read(job, &rest[..n_rows], opened, kept, &fetched.unreadable).await? {
            Ok(hits) => hits,
            // rows so large that together they are more than a column can hold come one by one
            Err(Unread::Block(..)) if n_rows > 1 => {
                helping = n_rows / 2;
                continue;
            }
            Err(Unread::Block(number, error)) => {
                fetched.unreadable.insert(number, (error.problem(), error.to_string()));
                continue;
            }
            Err(Unread::Head(error)) => return Err(error),
        };
        for hit in hits.into_iter().flatten() {
            let bytes = hit.memory_bytes();
            if !fetched.hits.is_empty() && fetched.bytes.saturating_add(bytes) > max_bytes {
                fetched.is_cut = true;
                // as in `locate`
                let key = |hit: &Hit| (hit.time_unix_nano(), hit.ingest_id());
                let end = fetched.hits.iter().rposition(|one| key(one) != key(&hit)).map(|at| at + 1);
                fetched.hits.truncate(end.unwrap_or(usize::MAX));
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

/// A row of an answer that lies in a block: where, in the order in which rows are best read, and its position in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InBlock {
    number: usize,
    group: usize,
    row: u32,
    position: usize,
}

/// One helping; `None` in place of the rows of unreadable blocks. Those of blocks are shared among the workers.
async fn read(
    job: &Job,
    found: &[Found],
    opened: &Arc<BTreeMap<usize, Block>>,
    kept: Option<&Arc<RowCache>>,
    unreadable: &BTreeMap<usize, (ProblemKind, String)>,
) -> Result<Result<Vec<Option<Hit>>, Unread>> {
    let mut in_head: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
    let mut in_blocks: Vec<InBlock> = Vec::new();
    for (position, found) in found.iter().enumerate() {
        match found.place {
            Place::Head { part, row } => in_head.entry(part).or_default().push((position, row as u32)),
            Place::Block { number, row } => {
                if let Some(block) = opened.get(&number).filter(|_| !unreadable.contains_key(&number)) {
                    let group = block.group_of(row);
                    in_blocks.push(InBlock { number, group, row, position });
                }
            }
        }
    }
    let mut hits: Vec<Option<Hit>> = vec![None; found.len()];
    for (part, rows) in in_head {
        let numbers = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        let rows_of_part = &job.head[part];
        let taken = rows_of_part.take(&numbers).and_then(|taken| taken.to_batch(None)).map_err(Error::from);
        let read = match taken.and_then(|batch| Hit::from_stored(rows_of_part.table(), &batch)) {
            Ok(read) => read,
            Err(error) => return Ok(Err(Unread::Head(error))),
        };
        rows.iter().zip(read).for_each(|((position, _), hit)| hits[*position] = Some(hit));
    }
    if let Some(kept) = kept {
        in_blocks.retain(|wanted| {
            let key = opened.get(&wanted.number).map(|block| RowKey::of_block(&block.meta().id)(wanted.row));
            let found = key.and_then(|key| kept.get(key));
            let is_missing = found.is_none();
            hits[wanted.position] = found;
            is_missing
        });
    }
    in_blocks.sort_unstable();
    let is_here = opened.values().all(Block::is_here);
    let n_shares = if is_here { job.workers.n_threads() } else { PARALLEL_BLOCKS };
    let pieces: Vec<_> = shares(&in_blocks, n_shares)
        .into_iter()
        .map(|share| {
            let (share, opened, kept, stop) = (share.to_vec(), opened.clone(), kept.cloned(), job.stop.clone());
            move || read_share(&share, &opened, kept.as_deref(), &stop)
        })
        .collect();
    for share in job.workers.run_all(pieces).await? {
        match share {
            Ok(read) => read.into_iter().for_each(|(position, hit)| hits[position] = Some(hit)),
            Err(unread) => return Ok(Err(unread)),
        }
    }
    Ok(Ok(hits))
}

/// Cuts rows into at most `n_shares` shares of about as many row groups each: a row group costs its pages, however few rows
/// are wanted of it. One that is wanted much more than others is cut too.
fn shares(rows: &[InBlock], n_shares: usize) -> Vec<&[InBlock]> {
    let cost = |before: Option<&InBlock>, row: &InBlock| match before {
        Some(before) if (before.number, before.group) == (row.number, row.group) => 1,
        _ => ROW_GROUP_COST,
    };
    let costs: Vec<usize> = rows.iter().enumerate().map(|(i, row)| cost(i.checked_sub(1).map(|i| &rows[i]), row)).collect();
    let total: usize = costs.iter().sum();
    let mut shares = Vec::with_capacity(n_shares);
    let (mut start, mut spent) = (0, 0);
    for (i, cost) in costs.iter().enumerate() {
        spent += cost;
        if spent * n_shares >= total * (shares.len() + 1) {
            shares.push(&rows[start..=i]);
            start = i + 1;
        }
    }
    if start < rows.len() {
        shares.push(&rows[start..]);
    }
    shares
}

/// Reads rows of blocks, in the order of blocks and rows; each with its position in the answer.
fn read_share(rows: &[InBlock], opened: &BTreeMap<usize, Block>, kept: Option<&RowCache>, stop: &Stop) -> Result<Vec<(usize, Hit)>, Unread> {
    let mut hits = Vec::with_capacity(rows.len());
    for of_block in rows.chunk_by(|a, b| a.number == b.number) {
        let number = of_block[0].number;
        let Some(block) = opened.get(&number) else { continue };
        let numbers: Vec<u32> = of_block.iter().map(|row| row.row).collect();
        let table = block.meta().table;
        let columns = Hit::columns(table);
        stop.has_read(block.bytes_of(numbers.len(), columns));
        let batch = block.read(&numbers, columns).map_err(Error::from);
        let read = batch.and_then(|batch| Hit::from_stored(table, &batch));
        let read = read.map_err(|error| Unread::Block(number, error))?;
        if let Some(kept) = kept {
            let key = RowKey::of_block(&block.meta().id);
            of_block.iter().zip(&read).for_each(|(wanted, hit)| kept.keep(key(wanted.row), hit));
        }
        hits.extend(of_block.iter().map(|row| row.position).zip(read));
    }
    Ok(hits)
}
