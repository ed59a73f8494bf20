//! Conditions on a trace: which traces meet them, before the rows of those are looked for.
//!
//! A question may say `trace:(…)` or `log:(…)`. Each becomes a set of trace IDs, found over the same view as the answer, and then a test of
//! `trace_id` like any other, which the index answers. Of logs, `trace:(trace_id:…)` alone also means those that the trace is linked to
//! ([`linked`]). Spans that stand to each other in some way are compared by their IDs alone.
//!
//! # Bounds
//!
//! A set has at most `max_traces` IDs, and [`SPANS_PER_TRACE`] times as many spans. Conditions that more traces meet are asked
//! again among the traces of the rows that all else of the question leaves, if those are few enough. Else the question is refused: a part of
//! the traces would be a wrong answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::BooleanBuffer;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::ast::{Query, Relation, Spans, Test};
use super::blocks::Blocks;
use super::coverage::Coverage;
use super::fields::{self, Anchors};
use super::filter::Filter;
use super::job::Job;
use super::limits::Stop;
use super::linked::Most;
use super::matcher::{Matcher, visit};
use super::pool::Workers;
use super::{Error, Result, View, linked};
use crate::model::{Column, Rows, Table, TimeRange, TraceId};

/// How far outside of a question's range the rest of a trace may lie.
const AROUND_NANOS: i64 = 3_600_000_000_000;
/// Spans that are held of a trace, on average.
const SPANS_PER_TRACE: usize = 40;

/// Finds out which traces are meant.
pub(super) struct Asker<'a> {
    pub(super) view: &'a View,
    pub(super) blocks: &'a Arc<Blocks>,
    pub(super) workers: &'a Workers,
    pub(super) stop: &'a Stop,
    pub(super) max_traces: usize,
    /// Of one trace whose records are meant.
    pub(super) most: Most,
    pub(super) now_nanos: i64,
}

/// What was found.
pub(super) struct Found {
    pub(super) anchors: Anchors,
    /// What that rests on, if anything was asked.
    pub(super) coverage: Option<Coverage>,
}

/// One span: its trace, itself, its parent (0 = none).
type Span = (u128, u64, u64);

/// IDs of traces, as they stand in their column.
type TraceIds = HashSet<String>;

/// There are too many to hold.
struct TooMany;

/// Traces and spans as they are found, on several threads.
struct Gathered<T> {
    set: Mutex<HashSet<T>>,
    max: usize,
    is_over: AtomicBool,
}

impl<T: std::hash::Hash + Eq> Gathered<T> {
    fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            set: Mutex::default(),
            max,
            is_over: AtomicBool::new(false),
        })
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn add(&self, found: impl Iterator<Item = T>) {
        let mut set = self.set.lock();
        for one in found {
            set.insert(one);
            if set.len() > self.max {
                self.is_over.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    fn end(&self) -> Result<HashSet<T>, TooMany> {
        match self.is_over() {
            true => Err(TooMany),
            false => Ok(std::mem::take(&mut *self.set.lock())),
        }
    }
}

/// What is read of a row.
trait FromRow: std::hash::Hash + Eq + Send + 'static {
    const COLUMNS: &'static [&'static str];
    /// The row's, if it has a trace.
    fn of(columns: &[&StringArray], row: usize) -> Option<Self>
    where
        Self: Sized;
}

fn text(column: &StringArray, row: usize) -> &str {
    if column.is_null(row) { "" } else { column.value(row) }
}

fn trace_of(column: &StringArray, row: usize) -> Option<u128> {
    u128::from_str_radix(text(column, row), 16).ok()
}

impl FromRow for u128 {
    const COLUMNS: &'static [&'static str] = &["trace_id"];
    fn of(columns: &[&StringArray], row: usize) -> Option<Self> {
        trace_of(columns[0], row)
    }
}

impl FromRow for Span {
    const COLUMNS: &'static [&'static str] = &["trace_id", "span_id", "parent_span_id"];
    fn of(columns: &[&StringArray], row: usize) -> Option<Self> {
        let id = |column: usize| u64::from_str_radix(text(columns[column], row), 16).unwrap_or_default();
        Some((trace_of(columns[0], row)?, id(1), id(2)))
    }
}

fn texts(column: &ArrayRef) -> Result<&StringArray> {
    column.as_string_opt::<i32>().ok_or_else(|| Error::internal("IDs are text"))
}

fn of_rows<T: FromRow>(rows: &Rows, found: &BooleanBuffer, gathered: &Gathered<T>) -> Result<()> {
    let mut columns = Vec::with_capacity(T::COLUMNS.len());
    for name in T::COLUMNS {
        match rows.column(name) {
            Some(Column::PerRow(array)) => columns.push(texts(array)?),
            _ => return Err(Error::internal(format!("rows have no column {name}"))),
        }
    }
    gathered.add(found.set_indices().filter_map(|row| T::of(&columns, row)));
    Ok(())
}

impl Asker<'_> {
    /// The traces of every condition on a trace in `query`, a question for rows of `table` within `range` that pass `beside` too.
    pub(super) async fn resolve(&self, query: &Query, table: Table, range: TimeRange, beside: &Filter) -> Result<Found> {
        let mut asked: Vec<&Query> = Vec::new();
        query.for_each_anchor(&mut |anchor| {
            if !asked.contains(&anchor) {
                asked.push(anchor);
            }
        });
        let mut found = Found {
            anchors: Anchors::new(),
            coverage: None,
        };
        // a question about all traces of the rows that are left, asked at most once
        let mut left: Option<Arc<TraceIds>> = None;
        for anchor in asked {
            if let (Table::Logs, Some(id)) = (table, named_trace(anchor)) {
                let job = |table, filter, range| Job::new(self.view, table, filter, range, self.stop.clone(), self.workers.clone());
                let (rows, rests_on) = linked::rows_of(id, self.most, job, self.blocks).await?;
                add(&mut found.coverage, rests_on);
                found.anchors.insert(anchor.clone(), rows);
                continue;
            }
            let mut answer = self.traces_of(anchor, range, None, &mut found.coverage).await?;
            if answer.is_err() {
                if left.is_none() {
                    left = self.left_by_others(query, table, range, beside, &mut found.coverage).await?;
                }
                if let Some(left) = &left {
                    answer = self.traces_of(anchor, range, Some(left), &mut found.coverage).await?;
                }
            }
            let Ok(traces) = answer else {
                return Err(Error::BadRequest {
                    message: format!("`{anchor}` means more than {} traces, or too many spans of them", self.max_traces),
                    hint: Some("narrow its conditions, the others, or the range of time; [query] max_anchor_traces is the bound".into()),
                });
            };
            found.anchors.insert(anchor.clone(), Filter::of_traces(named(traces)));
        }
        Ok(found)
    }

    /// The traces of the rows that the conditions on rows leave; `None` if those are too many, or there are no such conditions.
    async fn left_by_others(
        &self,
        query: &Query,
        table: Table,
        range: TimeRange,
        beside: &Filter,
        coverage: &mut Option<Coverage>,
    ) -> Result<Option<Arc<TraceIds>>> {
        let parts = match query {
            Query::And(parts) => &parts[..],
            one => std::slice::from_ref(one),
        };
        let is_of_rows = |part: &&Query| {
            let mut is_of_rows = !matches!(part, Query::All);
            part.for_each_anchor(&mut |_| is_of_rows = false);
            is_of_rows
        };
        let others: Vec<Query> = parts.iter().filter(is_of_rows).cloned().collect();
        let filter = Filter::and(vec![fields::compile(&Query::And(others), table, self.now_nanos)?, beside.clone()]);
        if matches!(filter, Filter::All) {
            return Ok(None);
        }
        let traces = self.gather::<u128>(table, filter, range, self.max_traces, coverage).await?;
        Ok(traces.ok().map(named))
    }

    /// The traces that one condition means; among some, if those are given.
    async fn traces_of(
        &self,
        anchor: &Query,
        range: TimeRange,
        among: Option<&Arc<TraceIds>>,
        coverage: &mut Option<Coverage>,
    ) -> Result<Result<HashSet<u128>, TooMany>> {
        let range = around(range);
        let (table, query) = match anchor {
            Query::Log(query) => (Table::Logs, query),
            Query::Trace(Spans::Where(query)) => (Table::Spans, query),
            Query::Trace(spans) => {
                let spans = self.spans_of(spans, range, among, coverage).await?;
                return Ok(spans.and_then(|spans| {
                    let traces: HashSet<u128> = spans.into_iter().map(|(trace, ..)| trace).collect();
                    if traces.len() > self.max_traces { Err(TooMany) } else { Ok(traces) }
                }));
            }
            other => return Err(Error::internal(format!("{other} is no condition on a trace"))),
        };
        let filter = self.among(query, table, among)?;
        self.gather(table, filter, range, self.max_traces, coverage).await
    }

    fn among(&self, query: &Query, table: Table, among: Option<&Arc<TraceIds>>) -> Result<Filter> {
        let filter = fields::compile(query, table, self.now_nanos)?;
        Ok(match among {
            Some(traces) => Filter::and(vec![Filter::of_traces(Arc::clone(traces)), filter]),
            None => filter,
        })
    }

    /// The spans that are meant, all of traces that are.
    fn spans_of<'s>(
        &'s self,
        spans: &'s Spans,
        range: TimeRange,
        among: Option<&'s Arc<TraceIds>>,
        coverage: &'s mut Option<Coverage>,
    ) -> BoxFuture<'s, Result<Result<HashSet<Span>, TooMany>>> {
        Box::pin(async move {
            let max_spans = self.max_traces.saturating_mul(SPANS_PER_TRACE);
            match spans {
                Spans::Where(query) => {
                    let filter = self.among(query, Table::Spans, among)?;
                    self.gather(Table::Spans, filter, range, max_spans, coverage).await
                }
                Spans::Related { left, relation, right } => {
                    let Ok(left) = self.spans_of(left, range, among, coverage).await? else {
                        return Ok(Err(TooMany));
                    };
                    // what has nothing on the left is out: often far fewer traces than the right side alone would mean
                    let traces = traces_of(&left);
                    if traces.is_empty() {
                        return Ok(Ok(HashSet::new()));
                    }
                    let traces = (traces.len() <= self.max_traces).then(|| named(traces));
                    let among = traces.as_ref().or(among);
                    let Ok(right) = self.spans_of(right, range, among, coverage).await? else {
                        return Ok(Err(TooMany));
                    };
                    if *relation != Relation::Descendant {
                        return Ok(Ok(related(&left, *relation, right)));
                    }
                    let both = traces_of(&right);
                    if both.is_empty() {
                        return Ok(Ok(HashSet::new()));
                    }
                    if both.len() > self.max_traces {
                        return Ok(Err(TooMany));
                    }
                    let all = self
                        .gather::<Span>(Table::Spans, Filter::of_traces(named(both)), range, max_spans, coverage)
                        .await?;
                    Ok(all.map(|all| below(&left, right, &all)))
                }
                Spans::Any(sides) => {
                    let mut any = HashSet::new();
                    for side in sides {
                        match self.spans_of(side, range, among, coverage).await? {
                            Ok(spans) => any.extend(spans),
                            Err(TooMany) => return Ok(Err(TooMany)),
                        }
                    }
                    Ok(if any.len() > max_spans { Err(TooMany) } else { Ok(any) })
                }
                Spans::All(sides) => {
                    let mut all: HashSet<Span> = HashSet::new();
                    let mut within: Option<HashSet<u128>> = None;
                    for side in sides {
                        let few = within.as_ref().filter(|traces| traces.len() <= self.max_traces).cloned().map(named);
                        let among = few.as_ref().or(among);
                        let Ok(spans) = self.spans_of(side, range, among, coverage).await? else {
                            return Ok(Err(TooMany));
                        };
                        let mut traces = traces_of(&spans);
                        if let Some(within) = &within {
                            traces.retain(|trace| within.contains(trace));
                        }
                        all.extend(spans);
                        all.retain(|(trace, ..)| traces.contains(trace));
                        if traces.is_empty() {
                            break;
                        }
                        within = Some(traces);
                    }
                    Ok(if all.len() > max_spans { Err(TooMany) } else { Ok(all) })
                }
            }
        })
    }

    /// What the matching rows of a table are of.
    async fn gather<T: FromRow>(
        &self,
        table: Table,
        filter: Filter,
        range: TimeRange,
        max: usize,
        coverage: &mut Option<Coverage>,
    ) -> Result<Result<HashSet<T>, TooMany>> {
        let mut job = Job::new(self.view, table, filter, range, self.stop.clone(), self.workers.clone());
        let gathered = Gathered::<T>::new(max);
        let of_head = Arc::clone(&gathered);
        job.over_head(move |_, rows, found| match of_head.is_over() {
            true => Ok(()),
            false => of_rows(rows, found, &of_head),
        })
        .await?;
        let of_blocks = Arc::clone(&gathered);
        job.over_blocks(
            self.blocks,
            move |block, filter, range, stop| {
                if of_blocks.is_over() {
                    return Ok(());
                }
                let rows = block.rows_in(range)?;
                let found = Matcher::new(block, filter, stop)?.all(rows.clone())?;
                visit(block, &found, rows, T::COLUMNS, stop, &mut |batch, mask| {
                    let columns = batch.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
                    if !of_blocks.is_over() {
                        of_blocks.add(mask.set_indices().filter_map(|row| T::of(&columns, row)));
                    }
                    Ok(())
                })
            },
            |()| {},
        )
        .await;
        add(coverage, job.coverage);
        Ok(gathered.end())
    }
}

fn add(coverage: &mut Option<Coverage>, more: Coverage) {
    match coverage {
        None => *coverage = Some(more),
        Some(coverage) => coverage.merge(more),
    }
}

/// The trace that a condition names: `trace:(trace_id:…)`.
fn named_trace(anchor: &Query) -> Option<TraceId> {
    let Query::Trace(Spans::Where(query)) = anchor else { return None };
    match &**query {
        Query::Field { name, test: Test::Equals(id) } if name == "trace_id" => TraceId::parse_any(id),
        _ => None,
    }
}

/// A range with as much before and behind it as a trace may reach.
fn around(range: TimeRange) -> TimeRange {
    TimeRange::new(range.start_nanos.saturating_sub(AROUND_NANOS), range.end_nanos.saturating_add(AROUND_NANOS))
}

fn traces_of(spans: &HashSet<Span>) -> HashSet<u128> {
    spans.iter().map(|(trace, ..)| *trace).collect()
}

fn named(traces: HashSet<u128>) -> Arc<TraceIds> {
    Arc::new(traces.into_iter().map(|trace| format!("{trace:032x}")).collect())
}

/// The spans of the right side that have one of the left side as parent, or beside them.
fn related(left: &HashSet<Span>, relation: Relation, mut right: HashSet<Span>) -> HashSet<Span> {
    if relation == Relation::Child {
        let parents: HashSet<(u128, u64)> = left.iter().map(|(trace, span, _)| (*trace, *span)).collect();
        right.retain(|(trace, _, parent)| *parent != 0 && parents.contains(&(*trace, *parent)));
        return right;
    }
    // of each parent, one of its children on the left, and whether there is another
    let mut children: HashMap<(u128, u64), (u64, bool)> = HashMap::new();
    for (trace, span, parent) in left.iter().filter(|(_, _, parent)| *parent != 0) {
        let (one, others) = children.entry((*trace, *parent)).or_insert((*span, false));
        *others |= one != span;
    }
    right.retain(|(trace, span, parent)| children.get(&(*trace, *parent)).is_some_and(|(one, others)| one != span || *others));
    right
}

/// The spans of the right side that lie below one of the left side; `all` are the spans of their traces. Circles of parents have no end,
/// and are walked once.
fn below(left: &HashSet<Span>, mut right: HashSet<Span>, all: &HashSet<Span>) -> HashSet<Span> {
    let left: HashSet<(u128, u64)> = left.iter().map(|(trace, span, _)| (*trace, *span)).collect();
    let parents: HashMap<(u128, u64), u64> = all.iter().map(|(trace, span, parent)| ((*trace, *span), *parent)).collect();
    // of a span, whether it is on the left or below one that is
    let mut known: HashMap<(u128, u64), bool> = HashMap::new();
    let mut way: Vec<(u128, u64)> = Vec::new();
    let mut is_on_or_below = |mut span: (u128, u64)| {
        way.clear();
        let answer = loop {
            if let Some(known) = known.get(&span) {
                break *known;
            }
            if left.contains(&span) {
                known.insert(span, true);
                break true;
            }
            // until it is known better: so a circle ends
            known.insert(span, false);
            way.push(span);
            match parents.get(&span) {
                Some(parent) if *parent != 0 => span.1 = *parent,
                _ => break false,
            }
        };
        way.drain(..).for_each(|span| {
            known.insert(span, answer);
        });
        answer
    };
    right.retain(|(trace, _, parent)| *parent != 0 && is_on_or_below((*trace, *parent)));
    right
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_lies_below_is_what_every_way_up_says(
            parents in proptest::collection::vec(0..12u64, 1..12),
            left in proptest::collection::vec(any::<bool>(), 12),
            right in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let all: HashSet<Span> = (1..).zip(&parents).map(|(span, parent)| (7, span, *parent)).collect();
            let side = |chosen: &[bool]| all.iter().filter(|(_, span, _)| chosen[*span as usize - 1]).copied().collect::<HashSet<Span>>();
            let (left, right) = (side(&left), side(&right));
            let is_left = |span: u64| left.iter().any(|(_, left, _)| *left == span);
            let expected: HashSet<Span> = right
                .iter()
                .filter(|(_, _, parent)| {
                    let mut at = *parent;
                    (0..=parents.len()).any(|_| {
                        let here = is_left(at);
                        at = parents.get((at as usize).wrapping_sub(1)).copied().unwrap_or(0);
                        here
                    })
                })
                .copied()
                .collect();
            prop_assert_eq!(below(&left, right.clone(), &all), expected);
            let children: HashSet<Span> = right.iter().filter(|(_, _, parent)| is_left(*parent)).copied().collect();
            prop_assert_eq!(related(&left, Relation::Child, right.clone()), children);
            let beside = |(_, span, parent): &&Span| *parent != 0 && left.iter().any(|(_, other, of)| of == parent && other != span);
            let siblings: HashSet<Span> = right.iter().filter(beside).copied().collect();
            prop_assert_eq!(related(&left, Relation::Sibling, right.clone()), siblings);
        }
    }
}
