//! All rows that may match, for a report that looks at each of them once, in no order.
//!
//! A page of rows costs finding its place, its order, and every column of each row; a report that counts or sums over millions wants
//! none of that. Here the workers take blocks piece by piece, and the head part by part, read only the columns that were named, and
//! hand them to takers, one each, which the caller puts together in the end. What the index lets through and no row disproves by the
//! columns that are read anyway is handed over: the caller verifies.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use parking_lot::Mutex;

use super::blocks::Blocks;
use super::filter::Filter;
use super::job::{Job, PARALLEL_BLOCKS};
use super::limits::Stop;
use super::matcher::{Matcher, Visit};
use super::plan::Plan;
use super::scan::{self, Chunk};
use super::{Error, Result};
use crate::block::Block;
use crate::model::{Rows, Table};

/// Rows of a block that one worker takes at a time. (Few in tests.)
const PIECE_ROWS: u32 = if cfg!(test) { 128 } else { 131_072 };
/// Rows of a part of the head whose columns are made at a time.
const HEAD_ROWS: usize = 8_192;

/// Takes rows.
pub(super) trait Taker: Send + 'static {
    /// Takes the rows of a mask, with the columns that were asked for as they are stored. `false`: it wants no more, nor does any
    /// other.
    fn take(&mut self, batch: &RecordBatch, rows: &BooleanBuffer) -> Result<bool>;
}

/// What is left to take.
enum Piece {
    Head(usize),
    Block {
        number: usize,
        block: Block,
        plan: Option<Arc<Plan>>,
        rows: Range<u32>,
    },
}

/// What all workers need to know.
struct Work {
    table: Table,
    filter: Arc<Filter>,
    columns: Arc<[&'static str]>,
    job_range: crate::model::TimeRange,
    head: Arc<Vec<Rows>>,
    stop: Stop,
    pieces: Mutex<VecDeque<Piece>>,
}

/// A piece of a block that could not be read: the block's number, and why.
type Unread = (usize, Error);

/// Hands rows of a job to takers, as many as there are workers; gives them back. What could not be read is in the coverage.
pub(super) async fn share<T: Taker>(job: &mut Job, blocks: &Arc<Blocks>, columns: &Arc<[&'static str]>, taker: impl Fn() -> T) -> Result<Vec<T>> {
    let mut takers: Vec<T> = (0..job.workers.n_threads().max(1)).map(|_| taker()).collect();
    let mut wants_more = true;
    if !job.head.is_empty() {
        let pieces = (0..job.head.len()).map(Piece::Head).collect();
        wants_more = drive(job, columns, pieces, &mut takers).await?;
    }
    let mut number = 0;
    while wants_more && number < job.metas.len() && !job.stop.is_over() {
        let end = job.metas.len().min(number + PARALLEL_BLOCKS);
        let opened = job.open_all(blocks, number..end).await;
        number = end;
        if opened.iter().any(|(_, block)| !block.is_here()) {
            // who waits for the store keeps nobody from computing
            takers.extend((takers.len()..PARALLEL_BLOCKS).map(|_| taker()));
        }
        let pieces = plans(job, opened).await?;
        wants_more = drive(job, columns, pieces, &mut takers).await?;
    }
    job.mark_end();
    Ok(takers)
}

/// The pieces of some blocks, each block's index asked how to ask it.
async fn plans(job: &mut Job, opened: Vec<(usize, Block)>) -> Result<VecDeque<Piece>> {
    let planning = opened.into_iter().map(|(number, block)| {
        let (filter, range, stop) = (job.filter.clone(), job.range, job.stop.clone());
        move || {
            let planned = || Ok((Matcher::new(&block, &filter, &stop)?.plan(), block.rows_in(&range)?));
            (number, planned(), block)
        }
    });
    let mut pieces = VecDeque::new();
    for (number, planned, block) in job.workers.run_all(planning).await? {
        let (plan, rows): (Option<Arc<Plan>>, Range<u32>) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                let error: Error = error;
                job.coverage.incomplete(error.problem(), job.metas[number].id.as_str(), error.to_string());
                continue;
            }
        };
        let mut start = rows.start;
        while start < rows.end {
            let end = rows.end.min(start.saturating_add(PIECE_ROWS));
            pieces.push_back(Piece::Block {
                number,
                block: block.clone(),
                plan: plan.clone(),
                rows: start..end,
            });
            start = end;
        }
    }
    Ok(pieces)
}

/// Takes all pieces, or until one taker wants no more.
async fn drive<T: Taker>(job: &mut Job, columns: &Arc<[&'static str]>, pieces: VecDeque<Piece>, takers: &mut Vec<T>) -> Result<bool> {
    let work = Arc::new(Work {
        table: job.table,
        filter: job.filter.clone(),
        columns: columns.clone(),
        job_range: job.range,
        head: job.head.clone(),
        stop: job.stop.clone(),
        pieces: Mutex::new(pieces),
    });
    let drivers = takers.drain(..).map(|mut taker| {
        let work = work.clone();
        move || {
            let done = work.to_end(&mut taker);
            (taker, done)
        }
    });
    let mut wants_more = true;
    for (taker, done) in job.workers.run_all(drivers).await? {
        takers.push(taker);
        let (more, unread) = done?;
        wants_more &= more;
        for (number, error) in unread {
            job.coverage.incomplete(error.problem(), job.metas[number].id.as_str(), error.to_string());
        }
    }
    Ok(wants_more)
}

impl Work {
    /// Takes one piece after the other, until there is none.
    fn to_end(&self, taker: &mut impl Taker) -> Result<(bool, Vec<Unread>)> {
        let mut unread = Vec::new();
        while !self.stop.is_over() {
            let Some(piece) = self.pieces.lock().pop_front() else { break };
            let more = match piece {
                Piece::Head(part) => self.take_head(&self.head[part], taker)?,
                Piece::Block { number, block, plan, rows } => match self.take_block(&block, plan, rows, taker) {
                    Ok(more) => more,
                    Err(error) => {
                        unread.push((number, error));
                        continue;
                    }
                },
            };
            if !more {
                self.pieces.lock().clear();
                return Ok((false, unread));
            }
        }
        Ok((true, unread))
    }

    fn take_head(&self, rows: &Rows, taker: &mut impl Taker) -> Result<bool> {
        let schema = self.table.schema();
        let projection = self.columns.iter().map(|column| schema.index_of(column)).collect::<Result<Vec<_>, _>>()?;
        for start in (0..rows.len()).step_by(HEAD_ROWS) {
            let rows = rows.slice(start, HEAD_ROWS.min(rows.len() - start));
            let found = scan::within(&self.filter, Chunk::Memory(&rows), &scan::in_range(&rows, &self.job_range))?;
            if found.count_set_bits() > 0 && !taker.take(&rows.to_batch(Some(&projection))?, &found)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take_block(&self, block: &Block, plan: Option<Arc<Plan>>, rows: Range<u32>, taker: &mut impl Taker) -> Result<bool> {
        let matcher = Matcher::with_plan(block, &self.filter, plan.clone(), &self.stop);
        let found = matcher.candidates(rows.clone())?;
        let residual = match &plan {
            Some(plan) => plan.residual.as_ref(),
            None => Some(&*self.filter),
        };
        // what is read anyway may say more
        let residual = residual.filter(|filter| filter.columns(self.table).iter().all(|column| self.columns.contains(column)));
        for visited in Visit::new(block, &found, rows, &self.columns, &self.stop) {
            let (batch, mut mask) = visited?;
            if let Some(residual) = residual {
                mask = scan::within(residual, Chunk::Stored(self.table, &batch), &mask)?;
            }
            if mask.count_set_bits() > 0 && !taker.take(&batch, &mask)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
