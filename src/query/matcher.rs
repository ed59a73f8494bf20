//! The rows of a block that match a filter, by its index where it has one; and reading rows that are known to.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBufferBuilder, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;

use super::Result;
use super::answer::Order;
use super::filter::Filter;
use super::hit::Hit;
use super::limits::Stop;
use super::plan::{Plan, plan};
use super::rows::{RowCache, RowKey};
use super::scan::{self, Chunk};
use crate::block::{self, Block};
use crate::model::Table;

/// Candidates verified at first; each further helping is twice as large, up to [`MAX_HELPING`] rows. (Few in
/// tests, so that small blocks need several.)
const FIRST_HELPING: usize = if cfg!(test) { 8 } else { 1_024 };
const MAX_HELPING: usize = if cfg!(test) { 64 } else { 65_536 };
/// Of rows that the index named one by one, so many are verified at first, or as many as are wanted if that is more.
const FIRST_NAMED: usize = FIRST_HELPING / 8;
/// About what rows take in memory that are decoded at a time.
const DECODED_BYTES: u64 = 64 << 20;
/// Rows in memory are so many times what they are in the file, as a rule.
const INFLATION: u64 = 16;
/// Rows that are decoded at a time however large they are.
const LEAST_AT_ONCE: u64 = 16;
/// Where at least one row in so many is wanted, a scan of all is cheaper than reading them one by one.
const SCAN_ABOVE_ONE_IN: usize = 8;
/// From so many rows on that would be read, all tokens of the block are looked through to leave some of them out. (Few in tests.)
const REFINE_FROM_ROWS: usize = if cfg!(test) { 16 } else { 8_192 };
/// The same where that costs little, since the tokens are at hand. Fewer are read at once.
const REFINE_FROM_ROWS_IF_CHEAP: usize = if cfg!(test) { 4 } else { 64 };

/// Rows that are tried first: where at least one in so many matches, looking through all tokens is in vain.
const TRIED_ROWS: u32 = if cfg!(test) { 8 } else { 2_048 };
const RARE_BELOW_ONE_IN: usize = 32;

/// The column of a log's text.
const BODY: &str = "body";

/// A filter on one block.
pub(super) struct Matcher<'a> {
    block: &'a Block,
    table: Table,
    filter: &'a Filter,
    plan: Option<Arc<Plan>>,
    stop: &'a Stop,
    /// Rows that were answered before, where they are looked for.
    kept: Option<&'a RowCache>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(block: &'a Block, filter: &'a Filter, stop: &'a Stop) -> Result<Self> {
        let plan = match block.index().map(|index| plan(filter, block, index)) {
            None => None,
            Some(Ok(plan)) => Some(Arc::new(plan)),
            Some(Err(error)) => {
                scan_instead(block, error)?;
                None
            }
        };
        Ok(Self::with_plan(block, filter, plan, stop))
    }

    /// The matcher of a plan that was made of the same filter for the same block.
    pub(super) fn with_plan(block: &'a Block, filter: &'a Filter, plan: Option<Arc<Plan>>, stop: &'a Stop) -> Self {
        Self {
            block,
            table: block.meta().table,
            filter,
            plan,
            stop,
            kept: None,
        }
    }

    /// The same, which verifies rows that were answered before without reading them again.
    pub(super) fn knowing(self, kept: &'a RowCache) -> Self {
        Self { kept: Some(kept), ..self }
    }

    /// How the index is asked; `None` where the block is scanned.
    pub(super) fn plan(&self) -> Option<Arc<Plan>> {
        self.plan.clone()
    }

    /// The plan's question, if the index alone answers.
    pub(super) fn exact_query(&self) -> Option<&block::IndexQuery> {
        self.plan.as_ref().filter(|plan| plan.residual.is_none()).map(|plan| &plan.index)
    }

    /// The first `k` matching rows of a range, ascending. Ends early, with fewer, when the query is over.
    pub(super) fn first(&self, rows: Range<u32>, k: usize) -> Result<Vec<u32>> {
        if let (Some(query), Some(index)) = (self.exact_query(), self.block.index()) {
            match index.first(query, rows.clone(), k) {
                Ok(found) => return Ok(found),
                Err(error) => scan_instead(self.block, error)?,
            }
        }
        if let Some((few, residual)) = self.few(rows.clone())? {
            let mut found = self.verified(helpings(&few, k.max(FIRST_NAMED), Order::NewestFirst), k, residual)?;
            found.truncate(k);
            return Ok(found);
        }
        let mut found = Vec::new();
        let (mut at, mut helping) = (rows.start, FIRST_HELPING);
        while at < rows.end && found.len() < k && !self.stop.is_over() {
            let end = rows.end.min(at.saturating_add(helping as u32));
            // few rows are soon found where many match
            let refines = at - rows.start >= REFINE_FROM_ROWS as u32;
            let bits = self.piece(at..end, refines)?;
            let wanted = k - found.len();
            found.extend(bits.set_indices().take(wanted).map(|row| row as u32));
            at = end;
            helping = (helping * 2).min(MAX_HELPING);
        }
        Ok(found)
    }

    /// The last `k` matching rows of a range, ascending. Ends early, with fewer, when the query is over.
    pub(super) fn last(&self, rows: Range<u32>, k: usize) -> Result<Vec<u32>> {
        // an index alone is asked for much at a time: it seeks to the beginning of each piece, and reads no rows
        let (first_helping, max_helping) = match self.exact_query() {
            Some(_) => (MAX_HELPING, usize::MAX),
            None => (FIRST_HELPING, MAX_HELPING),
        };
        if let Some((few, residual)) = self.few(rows.clone())? {
            let mut found = self.verified(helpings(&few, k.max(FIRST_NAMED), Order::OldestFirst), k, residual)?;
            found.sort_unstable();
            return Ok(found.split_off(found.len().saturating_sub(k)));
        }
        let mut found: Vec<u32> = Vec::new();
        let (mut end, mut helping) = (rows.end, first_helping);
        while rows.start < end && found.len() < k && !self.stop.is_over() {
            let at = end.saturating_sub(u32::try_from(helping).unwrap_or(u32::MAX)).max(rows.start);
            let bits = self.piece(at..end, rows.end - end >= REFINE_FROM_ROWS as u32)?;
            let before = found.len();
            found.extend(bits.set_indices().map(|row| row as u32));
            // the latest first, until all are there
            found[before..].reverse();
            end = at;
            helping = helping.saturating_mul(2).min(max_helping);
        }
        found.truncate(k);
        found.reverse();
        Ok(found)
    }

    /// The matching rows of a range, as bits over the whole block. Ends early when the query is over.
    pub(super) fn all(&self, rows: Range<u32>) -> Result<BooleanBuffer> {
        if let (Some(query), Some(index)) = (self.exact_query(), self.block.index()) {
            match index.bitmap(query, rows.clone()) {
                Ok(found) => return Ok(found),
                Err(error) => scan_instead(self.block, error)?,
            }
        }
        let n_rows = self.block.meta().n_rows as usize;
        let mut out = BooleanBufferBuilder::new(n_rows);
        out.append_n(n_rows, false);
        if let Some((few, residual)) = self.few(rows.clone())? {
            let found = self.verified(few.chunks(MAX_HELPING), usize::MAX, residual)?;
            found.into_iter().for_each(|row| out.set_bit(row as usize, true));
            return Ok(out.finish());
        }
        let mut at = rows.start;
        let refines = rows.len() >= REFINE_FROM_ROWS;
        while at < rows.end && !self.stop.is_over() {
            let end = rows.end.min(at.saturating_add(MAX_HELPING as u32));
            for row in self.piece(at..end, refines)?.set_indices() {
                out.set_bit(row, true);
            }
            at = end;
        }
        Ok(out.finish())
    }

    /// How many rows of a range match.
    pub(super) fn count(&self, rows: Range<u32>) -> Result<u64> {
        if let (Some(query), Some(index)) = (self.exact_query(), self.block.index())
            && let Ok(count) = index.count(query, rows.clone())
        {
            return Ok(count);
        }
        Ok(self.all(rows)?.count_set_bits() as u64)
    }

    /// Every matching row of a range, and perhaps more, as bits over the block, by the index alone.
    pub(super) fn candidates(&self, rows: Range<u32>) -> Result<BooleanBuffer> {
        Ok(self.asked(rows.clone(), true)?.map_or_else(|| self.block.visible(rows), |(bits, _)| bits))
    }

    /// The index's candidates of a range, and what they must pass; `None` where the index does not answer.
    fn asked(&self, rows: Range<u32>, refines: bool) -> Result<Option<(BooleanBuffer, Option<&Filter>)>> {
        let (Some(plan), Some(index)) = (&self.plan, self.block.index()) else {
            return Ok(None);
        };
        let bits = match index.bitmap(&plan.index, rows.clone()) {
            Ok(bits) => bits,
            Err(error) => {
                scan_instead(self.block, error)?;
                return Ok(None);
            }
        };
        let residual = plan.residual.as_ref();
        if residual.is_none() {
            return Ok(Some((bits, None)));
        }
        let n_candidates = bits.count_set_bits();
        let is_cheap = n_candidates >= REFINE_FROM_ROWS_IF_CHEAP && plan.is_refined_cheaply(index);
        if (is_cheap || (refines && n_candidates >= REFINE_FROM_ROWS && self.is_rare(plan, &rows)?))
            && let Some(refined) = plan.refined(index)
        {
            return Ok(Some((&bits & refined, residual)));
        }
        Ok(Some((bits, residual)))
    }

    /// The few rows of a range that can match, ascending, and what they must pass, where the index can name them all: going on by
    /// helpings would make bits over the whole block for each of them.
    fn few(&self, rows: Range<u32>) -> Result<Option<(Vec<u32>, &Filter)>> {
        let (Some(plan), Some(index)) = (&self.plan, self.block.index()) else {
            return Ok(None);
        };
        let Some(residual) = &plan.residual else { return Ok(None) };
        let name = || -> block::Result<Option<Vec<u32>>> {
            // once a plan: not again for each piece of a block
            if plan.few().is_none() {
                let named = index.first(&plan.index, rows.clone(), REFINE_FROM_ROWS_IF_CHEAP)?;
                if named.len() < REFINE_FROM_ROWS_IF_CHEAP {
                    return Ok(Some(named));
                }
                plan.is_refined_cheaply(index);
            }
            let few = plan.few().flatten();
            few.map(|query| index.first(query, rows.clone(), usize::MAX)).transpose()
        };
        match name() {
            Ok(named) => Ok(named.map(|named| (named, residual))),
            Err(error) => {
                scan_instead(self.block, error)?;
                Ok(None)
            }
        }
    }

    /// The rows of some helpings, each ascending, that pass a filter; no further helping is read once there are `k`.
    fn verified<'r>(&self, helpings: impl Iterator<Item = &'r [u32]>, k: usize, filter: &Filter) -> Result<Vec<u32>> {
        let columns = with_a_column(filter.columns(self.table), self.table);
        let mut found = Vec::new();
        for helping in helpings {
            if found.len() >= k || self.stop.is_over() {
                break;
            }
            let from = found.len();
            let unknown = self.passed_of_kept(helping, &columns, filter, &mut found)?;
            if unknown.is_empty() {
                continue;
            }
            self.stop.has_read(self.block.bytes_of_rows(&unknown, &columns));
            for numbers in unknown.chunks(rows_at_once(self.block, &columns)) {
                let batch = self.block.read(numbers, &columns)?;
                let passed = scan::matches(filter, Chunk::Stored(self.table, &batch))?;
                found.extend(passed.set_indices().map(|i| numbers[i]));
            }
            found[from..].sort_unstable();
        }
        Ok(found)
    }

    /// Adds those of some rows to `found` that are kept and pass, where a kept row tells all that the filter looks at; gives those that
    /// are to be read.
    fn passed_of_kept<'r>(&self, rows: &'r [u32], columns: &[&str], filter: &Filter, found: &mut Vec<u32>) -> Result<Cow<'r, [u32]>> {
        let Some(kept) = self.kept.filter(|_| self.table == Table::Logs && columns == [BODY]) else {
            return Ok(Cow::Borrowed(rows));
        };
        let key = RowKey::of_block(&self.block.meta().id);
        let (mut known, mut unknown) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match kept.peek(key(*row)) {
                Some(hit) => known.push((*row, hit)),
                None => unknown.push(*row),
            }
        }
        // as they are stored, so that the same judges them
        for known in known.chunks(rows_at_once(self.block, columns)) {
            let bodies = known.iter().map(|(_, hit)| match &**hit {
                Hit::Log(log) => log.body.as_deref(),
                Hit::Span(_) => None,
            });
            let bodies: ArrayRef = Arc::new(bodies.collect::<StringArray>());
            let batch = RecordBatch::try_from_iter_with_nullable([(BODY, bodies, true)])?;
            let passed = scan::matches(filter, Chunk::Stored(self.table, &batch))?;
            found.extend(passed.set_indices().map(|i| known[i].0));
        }
        Ok(Cow::Owned(unknown))
    }

    /// Whether few of the index's rows match: of many, most would be read anyway. Tried once a block, on the first rows of a range.
    fn is_rare(&self, plan: &Plan, rows: &Range<u32>) -> Result<bool> {
        if let Some(is_rare) = plan.is_rare.get() {
            return Ok(*is_rare);
        }
        let tried = rows.start..rows.end.min(rows.start.saturating_add(TRIED_ROWS));
        let found = self.piece(tried.clone(), false)?.count_set_bits();
        Ok(*plan.is_rare.get_or_init(|| found * RARE_BELOW_ONE_IN < tried.len()))
    }

    /// Matching rows of a piece, as bits over the block: the index's candidates, verified.
    fn piece(&self, rows: Range<u32>, refines: bool) -> Result<BooleanBuffer> {
        let n_rows = self.block.meta().n_rows as usize;
        let (mask, filter) = match self.asked(rows.clone(), refines)? {
            Some((bits, None)) => return Ok(bits),
            Some((bits, Some(residual))) => (bits, residual),
            None => (self.block.visible(rows.clone()), self.filter),
        };
        let mut out = BooleanBufferBuilder::new(n_rows);
        out.append_n(n_rows, false);
        let wanted = mask.count_set_bits();
        let columns = with_a_column(filter.columns(self.table), self.table);
        let at_once = rows_at_once(self.block, &columns);
        if wanted * SCAN_ABOVE_ONE_IN >= rows.len() {
            self.stop.has_read(self.block.bytes_of(rows.len(), &columns));
            let mut at = rows.start as usize;
            while at < rows.end as usize && !self.stop.is_over() {
                let end = rows.end.min(at as u32 + at_once as u32);
                for batch in self.block.scan(at as u32..end, &columns)? {
                    let batch = batch?;
                    let found = scan::within(filter, Chunk::Stored(self.table, &batch), &mask.slice(at, batch.num_rows()))?;
                    found.set_indices().for_each(|row| out.set_bit(at + row, true));
                    at += batch.num_rows();
                }
            }
        } else {
            let numbers: Vec<u32> = mask.set_indices().map(|row| row as u32).collect();
            let found = self.verified(std::iter::once(numbers.as_slice()), usize::MAX, filter)?;
            found.into_iter().for_each(|row| out.set_bit(row as usize, true));
        }
        Ok(out.finish())
    }
}

/// Rows, ascending, in pieces from where an order begins, each twice as large as the one before.
fn helpings(mut rows: &[u32], first: usize, order: Order) -> impl Iterator<Item = &[u32]> {
    let mut n_rows = first;
    std::iter::from_fn(move || {
        let n_now = n_rows.min(rows.len());
        let (helping, rest) = match order {
            Order::NewestFirst => rows.split_at(n_now),
            Order::OldestFirst => {
                let (rest, helping) = rows.split_at(rows.len() - n_now);
                (helping, rest)
            }
        };
        rows = rest;
        n_rows = n_rows.saturating_mul(2).min(MAX_HELPING.max(first));
        (!helping.is_empty()).then_some(helping)
    })
}

/// How many rows to decode at a time, so that large ones do not fill the memory.
pub(super) fn rows_at_once(block: &Block, columns: &[&str]) -> usize {
    let n_rows = u64::from(block.n_rows().max(1));
    let per_row = (block.bytes_of(n_rows as usize, columns) / n_rows).max(1) * INFLATION;
    (DECODED_BYTES / per_row).clamp(LEAST_AT_ONCE, MAX_HELPING as u64) as usize
}

/// Naming no column would read all of them.
fn with_a_column(mut columns: Vec<&'static str>, table: Table) -> Vec<&'static str> {
    if columns.is_empty() {
        columns.push(table.time_column());
    }
    columns
}

/// Notes that an index gave up; the rows are scanned. But if it could not be fetched, the rows cannot be either.
fn scan_instead(block: &Block, error: block::Error) -> Result<()> {
    if error.is_unread() {
        return Err(error.into());
    }
    tracing::debug!(block = block.meta().id.as_str(), %error, "the index did not answer; the block is scanned");
    Ok(())
}

/// [`Visit`]s rows and hands them over.
pub(super) fn visit(
    block: &Block,
    bits: &BooleanBuffer,
    rows: Range<u32>,
    columns: &[&'static str],
    stop: &Stop,
    seen: &mut dyn FnMut(&RecordBatch, &BooleanBuffer) -> Result<()>,
) -> Result<()> {
    for visited in Visit::new(block, bits, rows, columns, stop) {
        let (batch, mask) = visited?;
        seen(&batch, &mask)?;
    }
    Ok(())
}

/// Reads columns of the rows in some bits (bits over the block, all of them in a range), in order: batches, each with the
/// mask of the rows that are meant. Ends early when the query is over.
#[derive(Debug)]
pub(super) struct Visit {
    block: Block,
    bits: BooleanBuffer,
    columns: Vec<&'static str>,
    stop: Stop,
    rows: Range<u32>,
    at_once: u32,
    /// A scan under way, the bits of its rows, and how many of them have been handed over.
    scanning: Option<(block::Scan, BooleanBuffer, usize)>,
}

impl Visit {
    pub(super) fn new(block: &Block, bits: &BooleanBuffer, rows: Range<u32>, columns: &[&'static str], stop: &Stop) -> Self {
        let columns = with_a_column(columns.to_vec(), block.meta().table);
        Self {
            block: block.clone(),
            bits: bits.clone(),
            at_once: rows_at_once(block, &columns) as u32,
            columns,
            stop: stop.clone(),
            rows,
            scanning: None,
        }
    }

    fn next_batch(&mut self) -> Result<Option<(RecordBatch, BooleanBuffer)>> {
        loop {
            if let Some((scan, piece, offset)) = &mut self.scanning {
                if let Some(batch) = scan.next() {
                    let batch = batch?;
                    let mask = piece.slice(*offset, batch.num_rows());
                    *offset += batch.num_rows();
                    return Ok(Some((batch, mask)));
                }
                self.scanning = None;
            }
            if self.rows.is_empty() || self.stop.is_over() {
                return Ok(None);
            }
            let at = self.rows.start;
            let end = self.rows.end.min(at.saturating_add(self.at_once));
            self.rows.start = end;
            let piece = self.bits.slice(at as usize, (end - at) as usize);
            let wanted = piece.count_set_bits();
            if wanted == 0 {
                continue;
            }
            if wanted * SCAN_ABOVE_ONE_IN >= piece.len() {
                self.stop.has_read(self.block.bytes_of(piece.len(), &self.columns));
                self.scanning = Some((self.block.scan(at..end, &self.columns)?, piece, 0));
                continue;
            }
            let numbers: Vec<u32> = piece.set_indices().map(|row| row as u32 + at).collect();
            self.stop.has_read(self.block.bytes_of_rows(&numbers, &self.columns));
            let batch = self.block.read(&numbers, &self.columns)?;
            let mask = BooleanBuffer::new_set(batch.num_rows());
            return Ok(Some((batch, mask)));
        }
    }
}

impl Iterator for Visit {
    type Item = Result<(RecordBatch, BooleanBuffer)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch();
        if !matches!(next, Ok(Some(_))) {
            // nothing comes behind an error
            self.scanning = None;
            self.rows.start = self.rows.end;
        }
        next.transpose()
    }
}
