//! A script's way through the engine: its events fetched helping by helping and pushed into its steps, or counted by the index alone.
//!
//! 1. The scripts inside it run first, one after the other, each the same way; what their answers take counts against the one bound of memory.
//! 2. A script that is nothing but a count is asked of the index ([`Engine::count_groups`]). Where that cannot be exact (too many groups,
//!    a stream of which only some rows are in scope, an index that is away) its rows are read after all.
//! 3. A script that only gathers (`… | stats`, `pattern`) is indifferent to order: the workers share its events, read no more of them
//!    than the columns it needs ([`shares`](super::shares)), and each feeds a copy of the steps, which are put together.
//! 4. Else pages of rows come from [`Engine::search_for_report`], in the order that the steps want; what the index lets through is
//!    verified by the [`Scope`] and by the steps themselves, which compute on the threads of reports.
//!
//! An answer never lacks rows: if one cannot be read, the run fails. A page that takes longer than `[query] timeout_seconds` is asked
//! for again over half of its time, so that only the run's own time limit, which is the caller's, ends a long run. A run that is
//! dropped leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::shares::{Needs, Share};
use super::{Answer, Context, Event, Failed, Flow, IndexCount, Limits, Memory, Pipeline, Script};
use crate::model::{Table, TimeRange};
use crate::query::{CountGroup, CountRequest, Coverage, Cursor, Engine, Error, ErrorKind, Extent, Hit, Order, Query, SearchRequest};

/// Rows asked for at a time.
const HELPING: usize = if cfg!(test) { 64 } else { 10_000 };
/// Rows asked for first where a few may be enough; four times as many each time.
const FIRST_HELPING: usize = if cfg!(test) { 4 } else { 256 };
/// Between tries while all places of the engine are taken.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });
/// Rows that are shared out at a time, about: between, the answer so far is put together.
pub(super) const SLICE_ROWS: u64 = if cfg!(test) { 500 } else { 4_000_000 };
/// What an inner query may take, as the service has it.
const INNER_TIME: Duration = Duration::from_secs(30);
/// The first slice is so much shorter than the longest.
const FIRST_SLICE_SHARE: u64 = 16;
/// No page is asked for over less time than this: where that is too long, trying is in vain.
const LEAST_SLICE_NANOS: i64 = 1_000_000;
/// Values at least as long may have been cut by the index.
const MAYBE_CUT_BYTES: usize = 509;
/// Bins that are counted at once.
const BINS_AT_ONCE: i64 = if cfg!(test) { 3 } else { 9_000 };
/// Groups of a count that are held.
const MAX_COUNTED_GROUPS: usize = 500_000;
/// The fields by which a count is also made, so that each group can be verified.
const OF_STREAM: [&str; 2] = ["@log_group", "@log_stream"];

/// Whose events a script sees.
pub trait Scope: std::fmt::Debug + Send + Sync {
    /// Every row of the scope passes it; others may.
    fn query(&self) -> Query;
    /// The event that a row is; `None` if it is not of the scope.
    fn event(&self, hit: Hit) -> Option<Event>;
    /// Whether all rows of a stream are of the scope, or none; `None` if that depends on the row.
    fn has(&self, group: &str, stream: &str) -> Option<bool>;
    /// Whether a row of a stream is, which came in at a time.
    fn shows(&self, group: &str, stream: &str, ingestion_millis: i64) -> bool;
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The script.
    pub script: Script,
    /// Over whose events.
    pub scope: Arc<dyn Scope>,
    /// The range of time, in milliseconds, both inclusive, and what else a script may ask; no answers yet.
    pub context: Context,
    /// Bounds.
    pub limits: Limits,
    /// Of [`Script::subscripts`], in their order.
    pub first: Vec<Plan>,
}

/// How far a run has come. Cheap to read while it goes on.
#[derive(Debug, Default)]
pub struct Progress {
    events_scanned: AtomicU64,
    bytes_scanned: AtomicU64,
    events_there: AtomicU64,
    bytes_there: AtomicU64,
    wants_partial: AtomicBool,
    partial: Mutex<Arc<Answer>>,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Events that were read, or that the index counted.
    pub events: u64,
    /// Bytes that were read of blocks; of events in memory, those of their messages.
    pub bytes: u64,
    /// About how many rows lie in the range that were not looked at.
    pub events_skipped: u64,
    /// About how many bytes of blocks.
    pub bytes_skipped: u64,
}

impl Progress {
    /// What was read so far.
    pub fn scanned(&self) -> Scanned {
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let (events, bytes) = (of(&self.events_scanned), of(&self.bytes_scanned));
        Scanned {
            events,
            bytes,
            events_skipped: of(&self.events_there).saturating_sub(events),
            bytes_skipped: of(&self.bytes_there).saturating_sub(bytes),
        }
    }

    /// The answer as far as it is known, as of a moment ago: a new one is made after the next helping.
    pub fn partial(&self) -> Arc<Answer> {
        self.wants_partial.store(true, Ordering::Relaxed);
        self.partial.lock().clone()
    }

    pub(super) fn has_there(&self, extent: &Extent) {
        self.events_there.fetch_add(extent.rows, Ordering::Relaxed);
        self.bytes_there.fetch_add(extent.bytes, Ordering::Relaxed);
    }

    pub(super) fn has_scanned(&self, events: u64, bytes: u64) {
        self.events_scanned.fetch_add(events, Ordering::Relaxed);
        self.bytes_scanned.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Why a run has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The script came to a bound.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Not everything could be read.
    #[error("not everything could be read: {0}")]
    Unread(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// This room's results.
type Result<T, E = RunError> = std::result::Result<T, E>;

/// Runs a plan to its end.
pub async fn run(engine: &Engine, plan: &Plan, progress: &Progress) -> Result<Answer> {
    run_plan(engine, plan, progress, &Memory::default(), true).await
}

fn run_plan<'a>(engine: &'a Engine, plan: &'a Plan, progress: &'a Progress, memory: &'a Memory, is_whole: bool) -> BoxFuture<'a, Result<Answer>> {
    async move {
        let mut context = plan.context.clone();
        context.memory = memory.clone();
        for (subplan, subscript) in plan.first.iter().zip(plan.script.subscripts()) {
            let answer = tokio::time::timeout(INNER_TIME, run_plan(engine, subplan, progress, memory, false)).await;
            let seconds = INNER_TIME.as_secs();
            let answer = answer.map_err(|_| Failed::InnerTime { seconds })??;
            context.answers.push(if subscript.is_set { answer.into_set()? } else { answer });
        }
        let range = range_of(&context);
        if let Some(count) = plan.script.index_count()
            && let Some(groups) = count_by_index(engine, plan, &count, range, progress).await?
        {
            progress.has_there(&engine.extent(Table::Logs, range));
            return Ok(count.answer(groups, context, plan.limits)?);
        }
        let mut pipeline = plan.script.pipeline(context, plan.limits);
        let _ends_its_work = StopsWhenDropped(pipeline.stopper());
        // what is shared out has not been asked a search
        let can_share = pipeline.can_share() && !plan.script.has_search();
        let needs = Needs::of(plan.script.wanted.as_deref()).filter(|_| can_share);
        for range in ranges_of(range, pipeline.earlier()) {
            progress.has_there(&engine.extent(Table::Logs, range));
            pipeline = match needs.clone() {
                Some(needs) => share_rows(engine, plan, pipeline, needs, range, progress, is_whole).await?,
                None => {
                    let walk = Walk::new(range, pipeline.wants().order);
                    read_rows(engine, plan, pipeline, walk, progress, is_whole).await?
                }
            };
        }
        Ok(engine.compute_for_report(move || Ok(pipeline.finish())).await??)
    }
    .boxed()
}

/// Ends the work on other threads of a run that is dropped.
struct StopsWhenDropped(Arc<AtomicBool>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A range, and an earlier one if there is one, each time in one of them only.
fn ranges_of(range: TimeRange, earlier: Option<(i64, i64)>) -> Vec<TimeRange> {
    let nanos = |millis: i64| millis.saturating_mul(1_000_000);
    match earlier {
        None => vec![range],
        Some((start, end)) => {
            let end = nanos(end.saturating_add(1)).min(range.start_nanos);
            vec![range, TimeRange::new(nanos(start), end)]
        }
    }
}

/// From the first millisecond to the end of the last one.
pub(super) fn range_of(context: &Context) -> TimeRange {
    let nanos = |millis: i64| millis.saturating_mul(1_000_000);
    TimeRange::new(nanos(context.start_millis), nanos(context.end_millis.saturating_add(1)))
}

/// A bin's first millisecond, the values of a group, and how many events.
type Group = (Option<i64>, Vec<Option<String>>, u64);

/// What the index counts; `None` where rows must be read.
async fn count_by_index(engine: &Engine, plan: &Plan, count: &IndexCount, range: TimeRange, progress: &Progress) -> Result<Option<Vec<Group>>> {
    let extent = engine.extent(Table::Logs, range);
    let range = range.intersect(&TimeRange::new(extent.first_nanos, extent.last_nanos.saturating_add(1)));
    let mut groups: BTreeMap<(Option<i64>, Vec<Option<String>>), u64> = BTreeMap::new();
    let mut n_events = 0;
    for range in pieces_of(range, count.bin_millis.map(|millis| millis.saturating_mul(1_000_000))) {
        let Some(found) = count_of_range(engine, plan, count, range, progress).await? else {
            return Ok(None);
        };
        for mut group in found {
            let is_cut = |value: &Option<String>| value.as_ref().is_some_and(|text| text.len() >= MAYBE_CUT_BYTES);
            if group.values.iter().any(is_cut) {
                return Ok(None);
            }
            let of_stream = group.values.split_off(count.by.len());
            let [Some(log_group), Some(log_stream)] = &of_stream[..] else { continue };
            match plan.scope.has(log_group, log_stream) {
                Some(true) => {
                    n_events += group.count;
                    let start_millis = group.start_unix_nano.map(|nanos| nanos.div_euclid(1_000_000));
                    *groups.entry((start_millis, group.values)).or_default() += group.count;
                }
                Some(false) => {}
                None => return Ok(None),
            }
        }
        if groups.len() > MAX_COUNTED_GROUPS {
            return Ok(None);
        }
    }
    progress.has_scanned(n_events, 0);
    Ok(Some(groups.into_iter().map(|((start, values), count)| (start, values, count)).collect()))
}

/// A range in pieces of no more bins than one count may have, each of which begins with a bin.
fn pieces_of(range: TimeRange, bin_nanos: Option<i64>) -> Vec<TimeRange> {
    let Some(width) = bin_nanos.map(|bin| bin.saturating_mul(BINS_AT_ONCE)) else {
        return vec![range];
    };
    let mut pieces = Vec::new();
    let mut left = range;
    // so many bins have no room anyway, and the last piece has too many of them
    while pieces.len() < MAX_COUNTED_GROUPS / BINS_AT_ONCE as usize && left.start_nanos < left.end_nanos {
        let end = left.start_nanos.div_euclid(width).saturating_add(1).saturating_mul(width).min(left.end_nanos);
        pieces.push(TimeRange::new(left.start_nanos, end));
        left.start_nanos = end;
    }
    if left.start_nanos < left.end_nanos {
        pieces.push(left);
    }
    pieces
}

/// Groups by the fields of a count and by stream; `None` where the index does not tell them exactly.
async fn count_of_range(engine: &Engine, plan: &Plan, count: &IndexCount, range: TimeRange, progress: &Progress) -> Result<Option<Vec<CountGroup>>> {
    let request = CountRequest {
        table: Table::Logs,
        query: plan.scope.query().and(count.query.clone()),
        range,
        by: count.by.iter().chain(&OF_STREAM).map(|name| (*name).to_string()).collect(),
        bucket_nanos: count.bin_millis.map(|millis| millis.saturating_mul(1_000_000)),
        limit: usize::MAX,
    };
    let answer = loop {
        match engine.count_groups(&request).await {
            Ok(answer) => break answer,
            Err(error) if error.kind() == ErrorKind::Busy => tokio::time::sleep(BUSY_PAUSE).await,
            // too many bins, too little time: rows may do it
            Err(error) => {
                tracing::debug!(%error, "the index does not count this; rows are read");
                return Ok(None);
            }
        }
    };
    progress.has_scanned(0, answer.coverage.bytes_read);
    Ok((answer.coverage.complete && answer.other == 0).then_some(answer.groups))
}

/// Where in a range of time a run is, and how much of it is asked for at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    order: Order,
    /// What is left.
    left: TimeRange,
    /// At most so much of it at once; `None`: all.
    width_nanos: Option<i64>,
    /// Never more than this.
    widest_nanos: i64,
    /// Within the slice that is asked for.
    cursor: Option<Cursor>,
}

impl Walk {
    pub(super) fn new(range: TimeRange, order: Order) -> Self {
        Self {
            order,
            left: range,
            width_nanos: None,
            widest_nanos: i64::MAX,
            cursor: None,
        }
    }

    /// The same in slices of about so many rows each, if those of an extent lie evenly; the first ones are shorter, so that whoever
    /// waits sees soon what is found.
    pub(super) fn in_slices_of(self, rows: u64, extent: &Extent) -> Self {
        let slices_of = |rows: u64| i64::try_from(extent.rows / rows.max(1)).unwrap_or(i64::MAX);
        let n_first = slices_of(rows / FIRST_SLICE_SHARE);
        let there = extent.last_nanos.saturating_sub(extent.first_nanos);
        if n_first < 2 || there <= 0 {
            return self;
        }
        let widest = (there / slices_of(rows).max(1)).max(LEAST_SLICE_NANOS);
        let left = self.left.intersect(&TimeRange::new(extent.first_nanos, extent.last_nanos.saturating_add(1)));
        Self {
            left,
            width_nanos: Some((there / n_first).max(LEAST_SLICE_NANOS)),
            widest_nanos: widest,
            ..self
        }
    }

    /// What is asked for next; `None` when nothing is left.
    pub(super) fn slice(&self) -> Option<TimeRange> {
        let TimeRange { start_nanos, end_nanos } = self.left;
        if start_nanos >= end_nanos {
            return None;
        }
        let width = self.width_nanos.unwrap_or(i64::MAX);
        Some(match self.order {
            Order::NewestFirst => TimeRange::new(start_nanos.max(end_nanos.saturating_sub(width)), end_nanos),
            Order::OldestFirst => TimeRange::new(start_nanos, end_nanos.min(start_nanos.saturating_add(width))),
        })
    }

    /// A page of the slice was read, and ended at the cursor; without one, the slice is done.
    pub(super) fn has_read(&mut self, slice: TimeRange, next: Option<Cursor>) {
        self.cursor = next;
        if next.is_some() {
            return;
        }
        match self.order {
            Order::NewestFirst => self.left.end_nanos = slice.start_nanos,
            Order::OldestFirst => self.left.start_nanos = slice.end_nanos,
        }
        // what follows may be quicker
        self.width_nanos = self.width_nanos.map(|width| width.saturating_mul(2).min(self.widest_nanos));
    }

    /// Time was up for a page of the slice: less of it next time. `false` if that is in vain.
    pub(super) fn narrow(&mut self, slice: TimeRange, extent: &Extent) -> bool {
        // what was read already is left behind, and what is empty
        let (mut first, mut end) = (
            extent.first_nanos.max(slice.start_nanos),
            extent.last_nanos.saturating_add(1).min(slice.end_nanos),
        );
        match self.order {
            Order::NewestFirst => end = self.cursor.map_or(end, |cursor| end.min(cursor.time_unix_nano.saturating_add(1))),
            Order::OldestFirst => first = self.cursor.map_or(first, |cursor| first.max(cursor.time_unix_nano)),
        }
        let width = end.saturating_sub(first) / 2;
        if width < LEAST_SLICE_NANOS {
            return false;
        }
        match self.order {
            Order::NewestFirst => self.left.end_nanos = end,
            Order::OldestFirst => self.left.start_nanos = first,
        }
        self.width_nanos = Some(width);
        true
    }
}

/// Pushes what there is into the steps.
async fn read_rows(engine: &Engine, plan: &Plan, mut pipeline: Pipeline, mut walk: Walk, progress: &Progress, is_whole: bool) -> Result<Pipeline> {
    let query = plan.scope.query().and(plan.script.prefilter());
    let mut helping = if pipeline.wants().may_stop_early { FIRST_HELPING } else { HELPING };
    while let Some(slice) = walk.slice() {
        let request = SearchRequest {
            table: Table::Logs,
            query: query.clone(),
            range: slice,
            limit: helping,
            cursor: walk.cursor,
            order: walk.order,
        };
        let page = match engine.search_for_report(&request).await {
            Ok(page) => page,
            Err(error) if error.kind() == ErrorKind::Busy => {
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if !page.coverage.complete {
            progress.has_scanned(0, page.coverage.bytes_read);
            if page.coverage.is_time_up() && walk.narrow(slice, &engine.extent(Table::Logs, slice)) {
                continue;
            }
            return Err(RunError::Unread(why(&page.coverage)));
        }
        walk.has_read(slice, page.next_cursor);
        let (scope, wants_partial) = (plan.scope.clone(), is_whole && progress.wants_partial.swap(false, Ordering::Relaxed));
        let (hits, coverage) = (page.hits, page.coverage);
        let compute = move || {
            let (n_events, mut message_bytes, mut flow) = (hits.len() as u64, 0, Flow::More);
            for hit in hits {
                let Some(event) = scope.event(hit) else { continue };
                message_bytes += event.message.len() as u64;
                match pipeline.push(event) {
                    Ok(Flow::More) => {}
                    Ok(Flow::Enough) => {
                        flow = Flow::Enough;
                        break;
                    }
                    Err(failed) => return Ok(Err(failed)),
                }
            }
            let partial = wants_partial.then(|| pipeline.partial());
            Ok(Ok((pipeline, flow, partial, n_events, message_bytes)))
        };
        let (pushed, flow, partial, n_events, message_bytes) = engine.compute_for_report(compute).await??;
        pipeline = pushed;
        // rows in memory cost no block
        let bytes = if coverage.blocks_read == 0 { message_bytes } else { coverage.bytes_read };
        progress.has_scanned(n_events, bytes);
        if let Some(partial) = partial {
            *progress.partial.lock() = Arc::new(partial);
        }
        if flow == Flow::Enough {
            break;
        }
        helping = (helping * 4).min(HELPING);
    }
    Ok(pipeline)
}

/// Feeds the events to copies of the steps, slice by slice, and puts together what they gathered.
async fn share_rows(
    engine: &Engine,
    plan: &Plan,
    mut pipeline: Pipeline,
    needs: Needs,
    range: TimeRange,
    progress: &Progress,
    is_whole: bool,
) -> Result<Pipeline> {
    let query = plan.scope.query().and(plan.script.prefilter());
    let columns = needs.columns();
    let mut walk = Walk::new(range, Order::NewestFirst).in_slices_of(SLICE_ROWS, &engine.extent(Table::Logs, range));
    let mut was_replaced = false;
    while let Some(slice) = walk.slice() {
        let share = || Share::new(pipeline.share(), plan.scope.clone(), needs.clone());
        let (shares, coverage) = match engine.share_for_report(&query, slice, &columns, share).await {
            Ok(shared) => shared,
            Err(error) if error.kind() == ErrorKind::Busy => {
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(failed) = shares.iter().find_map(|share| share.failed.clone()) {
            return Err(failed.into());
        }
        let (n_events, message_bytes) = shares
            .iter()
            .fold((0, 0), |(n, bytes), share| (n + share.n_events, bytes + share.message_bytes));
        if !coverage.complete {
            progress.has_scanned(0, coverage.bytes_read);
            // what these shares gathered is gathered again
            if !std::mem::replace(&mut was_replaced, true) && engine.lacks_what_was_replaced(&coverage) {
                continue;
            }
            if coverage.is_time_up() && walk.narrow(slice, &engine.extent(Table::Logs, slice)) {
                continue;
            }
            return Err(RunError::Unread(why(&coverage)));
        }
        was_replaced = false;
        walk.has_read(slice, None);
        let wants_partial = is_whole && progress.wants_partial.swap(false, Ordering::Relaxed);
        let compute = move || {
            for share in shares {
                if let Err(failed) = pipeline.absorb(share.pipeline) {
                    return Ok(Err(failed));
                }
            }
            let partial = wants_partial.then(|| pipeline.partial());
            Ok(Ok((pipeline, partial)))
        };
        let (absorbed, partial) = engine.compute_for_report(compute).await??;
        pipeline = absorbed;
        progress.has_scanned(n_events, if coverage.blocks_read == 0 { message_bytes } else { coverage.bytes_read });
        if let Some(partial) = partial {
            *progress.partial.lock() = Arc::new(partial);
        }
    }
    Ok(pipeline)
}

pub(super) fn why(coverage: &Coverage) -> String {
    coverage
        .problems
        .first()
        .map_or_else(|| "it was not said why".into(), |problem| problem.message.clone())
}

#[cfg(test)]
mod tests;
