//! One question over one view: which rows of the head and which blocks it concerns, and the work on them.

use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use futures::StreamExt;

use super::blocks::{Blocks, Opened};
use super::coverage::{Coverage, ProblemKind};
use super::filter::Filter;
use super::limits::Stop;
use super::pool::Workers;
use super::scan::{self, Chunk};
use super::{Result, View};
use crate::block::{Block, BlockMeta};
use crate::model::{Rows, Table, TimeRange};

/// Blocks that are opened, or worked on, at once: more than there are workers, since opening one may wait for the store.
pub(super) const PARALLEL_BLOCKS: usize = 8;
/// A head of fewer rows than this is not shared among workers. (Few in tests, which have few rows.)
const SHARED_HEAD_ROWS: usize = if cfg!(test) { 8 } else { 8_192 };

/// One question over one view.
pub(super) struct Job {
    pub(super) table: Table,
    pub(super) filter: Arc<Filter>,
    pub(super) range: TimeRange,
    pub(super) stop: Stop,
    /// Who computes.
    pub(super) workers: Workers,
    /// Unflushed rows of the table, parts that overlap the range.
    pub(super) head: Arc<Vec<Rows>>,
    /// Blocks that overlap the range, newest first.
    pub(super) metas: Vec<Arc<BlockMeta>>,
    pub(super) coverage: Coverage,
}

impl Job {
    pub(super) fn new(view: &View, table: Table, filter: Filter, range: TimeRange, stop: Stop, workers: Workers) -> Self {
        let head: Vec<Rows> = view
            .head
            .iter()
            .filter(|rows| rows.table() == table && rows.overlaps(&range))
            .cloned()
            .collect();
        let metas = view.snapshot.prune(table, range);
        let mut coverage = Coverage::new(range);
        coverage.blocks_total = metas.len() as u64;
        coverage.head_rows = head.iter().map(|rows| rows.len() as u64).sum();
        coverage.lacks(&view.lost);
        Self {
            table,
            filter: Arc::new(filter),
            range,
            stop,
            workers,
            head: Arc::new(head),
            metas,
            coverage,
        }
    }

    /// Where the range is open, ends it at the first and last time there is.
    pub(super) fn close_range(&mut self) {
        let bounds = self
            .head
            .iter()
            .filter_map(Rows::time_bounds)
            .chain(self.metas.iter().map(|meta| (meta.min_time_nanos, meta.max_time_nanos)));
        let (first, last) = bounds.fold((i64::MAX, i64::MIN), |(first, last), (min, max)| (first.min(min), last.max(max)));
        let (first, last) = if first > last { (0, 0) } else { (first, last) };
        if self.range.start_nanos == i64::MIN {
            self.range.start_nanos = first.min(self.range.end_nanos);
        }
        if self.range.end_nanos == i64::MAX {
            self.range.end_nanos = last.saturating_add(1).max(self.range.start_nanos);
        }
        self.coverage.range = self.range;
    }

    /// Works on every part of the head with its matching rows; what it gave, in order.
    pub(super) async fn over_head<T, W>(&mut self, work: W) -> Result<Vec<T>>
    where
        T: Send + 'static,
        W: Fn(usize, &Rows, &BooleanBuffer) -> Result<T> + Clone + Send + 'static,
    {
        let (n_parts, n_shares) = (self.head.len(), self.head_shares());
        let pieces = (0..n_shares).map(|share| {
            // in a row, so that what they give is in the order of the parts
            let share = share * n_parts / n_shares..(share + 1) * n_parts / n_shares;
            let (head, filter, range, stop, work) = (self.head.clone(), self.filter.clone(), self.range, self.stop.clone(), work.clone());
            move || -> Result<(Vec<T>, u64)> {
                let (mut done, mut matched) = (Vec::with_capacity(share.len()), 0);
                for number in share {
                    if stop.is_over() {
                        break;
                    }
                    let rows = &head[number];
                    let found = scan::within(&filter, Chunk::Memory(rows), &scan::in_range(rows, &range))?;
                    matched += found.count_set_bits() as u64;
                    done.push(work(number, rows, &found)?);
                }
                Ok((done, matched))
            }
        });
        let mut all = Vec::with_capacity(self.head.len());
        for share in self.workers.run_all(pieces).await? {
            let (done, matched) = share?;
            all.extend(done);
            self.coverage.rows_matched_at_least += matched;
        }
        self.mark_end();
        Ok(all)
    }

    /// How many workers share the head: none where it is empty.
    pub(super) fn head_shares(&self) -> usize {
        match self.head.iter().map(Rows::len).sum::<usize>() {
            0 => 0,
            1..SHARED_HEAD_ROWS => 1,
            _ => self.workers.n_threads().min(self.head.len()),
        }
    }

    /// Opens blocks, several at once; what goes wrong is noted in the coverage. Gives those that could be, with their numbers.
    pub(super) async fn open_all(&mut self, blocks: &Arc<Blocks>, numbers: Range<usize>) -> Vec<(usize, Block)> {
        let metas = self.metas.clone();
        let opening = futures::stream::iter(numbers).map(|number| {
            let (meta, stop) = (&metas[number], &self.stop);
            async move { (number, open_in_time(blocks, meta, stop).await) }
        });
        let opened: Vec<_> = opening.buffered(PARALLEL_BLOCKS).collect().await;
        let mut all = Vec::with_capacity(opened.len());
        for (number, opened) in opened {
            all.extend(self.note(&metas[number], opened).map(|opened| (number, opened.block)));
        }
        all
    }

    /// Notes an opened block, or why it could not be.
    fn note(&mut self, meta: &BlockMeta, opened: Result<Opened, super::blocks::Unopened>) -> Option<Opened> {
        match opened {
            Ok(opened) => {
                self.coverage.has_opened(meta, &opened);
                Some(opened)
            }
            Err(problem) => {
                self.coverage.incomplete(problem.kind, meta.id.as_str(), problem.message);
                None
            }
        }
    }

    /// Works on every block, a few at a time, and gives each result away as it comes, in the order of the blocks; one that
    /// fails is noted in the coverage and left out.
    pub(super) async fn over_blocks<T, W>(&mut self, blocks: &Arc<Blocks>, work: W, mut take: impl FnMut(T))
    where
        T: Send + 'static,
        W: Fn(&Block, &Filter, &TimeRange, &Stop) -> Result<T> + Clone + Send + 'static,
    {
        let (metas, filter, range, stop, workers) = (self.metas.clone(), self.filter.clone(), self.range, self.stop.clone(), self.workers.clone());
        let workers = &workers;
        let mut running = futures::stream::iter(metas)
            .map(|meta| {
                let (filter, stop, work) = (filter.clone(), stop.clone(), work.clone());
                async move {
                    if stop.is_over() {
                        return (meta, None);
                    }
                    let opened = open_in_time(blocks, &meta, &stop).await;
                    let done = match &opened {
                        Ok(opened) => {
                            let block = opened.block.clone();
                            Some(workers.run(move || work(&block, &filter, &range, &stop)).await)
                        }
                        Err(_) => None,
                    };
                    (meta, Some((opened, done)))
                }
            })
            .buffered(PARALLEL_BLOCKS);
        while let Some((meta, outcome)) = running.next().await {
            // `None`: time was up before this block, see `mark_end`
            let Some((opened, done)) = outcome else { continue };
            self.note(&meta, opened);
            match done {
                Some(Ok(value)) => take(value),
                Some(Err(error)) => self.coverage.incomplete(error.problem(), meta.id.as_str(), error.to_string()),
                None => {}
            }
        }
        self.mark_end();
    }

    /// Sums up what was read, and marks the answer as partial if time was up.
    pub(super) fn mark_end(&mut self) {
        self.coverage.has_read(&self.stop);
        if self.stop.is_over() {
            self.coverage.is_late();
        }
    }
}

/// Opens a block unless time is up first.
pub(super) async fn open_in_time(blocks: &Arc<Blocks>, meta: &Arc<BlockMeta>, stop: &Stop) -> Result<Opened, super::blocks::Unopened> {
    match tokio::time::timeout(stop.remaining(), blocks.open(meta, stop.demand())).await {
        Ok(opened) => opened,
        Err(_) => Err(super::blocks::Unopened {
            kind: ProblemKind::Timeout,
            message: "time was up while the block was being fetched".into(),
        }),
    }
}
