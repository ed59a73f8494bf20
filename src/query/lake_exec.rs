//! Reading a table of the lake, as a step of a SQL plan: what `EXPLAIN` shows of it, and the rows, batch by batch.
//!
//! Rows are read when the plan asks for them, on the threads that drive the plan; a plan that has enough asks no more. A block
//! is opened when its turn comes.
//!
//! `EXPLAIN` tells what is known before: the blocks that the time leaves, the rows of the head, which conditions the index is
//! asked (or, of columns that have none, are tested before other columns are read).
//! `EXPLAIN ANALYZE` adds what was done: `blocks_read`, `blocks_pruned` (by time, by the index, and because the plan had
//! enough before their turn), `rows_selected` (what index and filter left of blocks and head), `bytes_read` (an estimate,
//! as in [`Coverage`]).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, ChildrenPropertiesMode, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions};
use parking_lot::Mutex;

use super::blocks::Blocks;
use super::coverage::{Coverage, ProblemKind};
use super::filter::Filter;
use super::job::open_in_time;
use super::limits::Stop;
use super::matcher::{Matcher, Visit};
use super::plan::Plan;
use super::scan::{self, Chunk};
use super::whole_maps::WholeMaps;
use crate::block::{Block, BlockMeta};
use crate::model::{Rows, Table, TimeRange, format_time};

/// Rows of unflushed data handed over at a time.
const HEAD_BATCH_ROWS: usize = 8_192;
/// Rows looked at first, and at most at a time, where the newest are wanted. (Few in tests, which have few rows.)
const FIRST_PIECE: usize = if cfg!(test) { 8 } else { 1_024 };
const MAX_PIECE: usize = if cfg!(test) { 64 } else { 65_536 };

/// What a partition reads, one after the other.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Head(Rows),
    /// All of the head, sorted.
    NewestOfHead(Arc<[Rows]>),
    Block(Arc<BlockMeta>),
}

/// What all partitions of a scan share.
#[derive(Clone, Debug)]
pub(super) struct LakeScan {
    pub(super) table: Table,
    /// Of the rows handed over.
    pub(super) schema: SchemaRef,
    /// What is read: its columns and what its maps lack, in the stored schema, by number and name.
    pub(super) maps: WholeMaps,
    pub(super) wanted: Vec<usize>,
    pub(super) columns: Vec<&'static str>,
    pub(super) filter: Arc<Filter>,
    /// The conditions that the filter is made of, as `EXPLAIN` shows them.
    pub(super) narrowed_by: Vec<String>,
    pub(super) range: TimeRange,
    pub(super) stop: Stop,
    pub(super) coverage: Arc<Mutex<Coverage>>,
    /// Blocks that could not be opened.
    pub(super) unopened: Arc<AtomicU64>,
    pub(super) blocks: Arc<Blocks>,
    /// Whether rows are given newest first.
    pub(super) is_ordered: bool,
    /// Live blocks of the table, and those that the time leaves out.
    pub(super) n_blocks: u64,
    pub(super) pruned_by_time: u64,
    pub(super) head_rows: u64,
}

/// The step of a plan.
#[derive(Debug)]
pub(super) struct LakeExec {
    scan: Arc<LakeScan>,
    partitions: Vec<Arc<[Part]>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LakeExec {
    /// Reads `partitions`, in each of which rows come in all of `orders`.
    pub(super) fn new(scan: LakeScan, partitions: Vec<Vec<Part>>, orders: Vec<LexOrdering>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(scan.schema.clone(), orders),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            scan: Arc::new(scan),
            partitions: partitions.into_iter().map(Arc::from).collect(),
            properties: Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative)),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for LakeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scan = &self.scan;
        write!(f, "LakeExec: table={}, ", scan.table.name())?;
        write!(
            f,
            "blocks={} of {} (pruned by time: {})",
            scan.n_blocks - scan.pruned_by_time,
            scan.n_blocks,
            scan.pruned_by_time
        )?;
        write!(f, ", head_rows={}", scan.head_rows)?;
        if scan.range != TimeRange::ALL {
            let end = |nanos: i64, open: i64| if nanos == open { "open".to_string() } else { format_time(nanos) };
            write!(f, ", time={}..{}", end(scan.range.start_nanos, i64::MIN), end(scan.range.end_nanos, i64::MAX))?;
        }
        match scan.filter.as_ref() {
            Filter::All => {}
            _ => write!(f, ", narrowed by the index: [{}]", scan.narrowed_by.join(", "))?,
        }
        if scan.is_ordered {
            write!(f, ", newest first")?;
        }
        write!(f, ", partitions={}, columns=[{}]", self.partitions.len(), scan.columns.join(", "))
    }
}

impl ExecutionPlan for LakeExec {
    fn name(&self) -> &str {
        "LakeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => Err(DataFusionError::Internal("a table has no plans below it".into())),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut scan = LakeScan::clone(&self.scan);
        let all = std::mem::replace(&mut scan.stop, self.scan.stop.counted_apart());
        let cursor = Cursor {
            scan,
            all,
            parts: self.partitions[partition].clone(),
            next: 0,
            source: None,
            done: Done::new(&self.metrics, partition),
            rows: BaselineMetrics::new(&self.metrics, partition),
        };
        // blocks whose turn does not come are pruned: those that are read are taken off
        let of_time = if partition == 0 { self.scan.pruned_by_time } else { 0 };
        let of_turn = cursor.parts.iter().filter(|part| matches!(part, Part::Block(_))).count();
        cursor
            .done
            .blocks_pruned
            .add(usize::try_from(of_time).unwrap_or(usize::MAX).saturating_add(of_turn));
        let batches = futures::stream::try_unfold(cursor, |mut cursor| async move {
            let batch = cursor.next().await?;
            Ok(batch.map(|batch| (batch, cursor)))
        });
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(self.scan.schema.clone(), batches))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What one partition did.
#[derive(Debug)]
struct Done {
    blocks_read: Count,
    blocks_pruned: Gauge,
    rows_selected: Count,
    bytes_read: Count,
}

impl Done {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let count = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            blocks_read: count("blocks_read"),
            blocks_pruned: MetricBuilder::new(metrics).gauge("blocks_pruned", partition),
            rows_selected: count("rows_selected"),
            bytes_read: count("bytes_read"),
        }
    }
}

/// Reads one partition.
struct Cursor {
    /// With an end that counts the bytes of this partition.
    scan: LakeScan,
    /// The statement's end, which counts all bytes.
    all: Stop,
    parts: Arc<[Part]>,
    next: usize,
    /// The part under way, with its number.
    source: Option<(usize, Source)>,
    done: Done,
    rows: BaselineMetrics,
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.count_bytes();
    }
}

impl Cursor {
    fn count_bytes(&self) {
        let bytes = self.scan.stop.take_read_bytes();
        self.all.has_read(bytes);
        self.done.bytes_read.add(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// The next batch; `None` at the end, and when the query is over.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some((number, mut source)) = self.source.take() {
                let timer = self.rows.elapsed_compute().timer();
                let batch = source.next(&self.scan);
                timer.done();
                self.count_bytes();
                match batch {
                    Ok(Some(batch)) => {
                        self.done.rows_selected.add(batch.num_rows());
                        self.rows.record_output(batch.num_rows());
                        self.source = Some((number, source));
                        return Ok(Some(batch));
                    }
                    Ok(None) => {}
                    Err(error) => match &self.parts[number] {
                        Part::Head(_) | Part::NewestOfHead(_) => return Err(DataFusionError::External(error.into())),
                        Part::Block(meta) => self.scan.coverage.lock().incomplete(error.problem(), meta.id.as_str(), error.to_string()),
                    },
                }
            }
            if self.scan.stop.is_over() {
                let message = "time was up; rows that were not reached are missing";
                self.scan.coverage.lock().incomplete(ProblemKind::Timeout, "time limit", message);
                return Ok(None);
            }
            let number = self.next;
            let Some(part) = self.parts.get(number) else { return Ok(None) };
            self.next += 1;
            let scan = &self.scan;
            let source = match part {
                Part::Head(rows) => Source::head(scan, rows),
                Part::NewestOfHead(parts) => Source::newest_of_head(scan, parts),
                Part::Block(meta) => {
                    let Some(block) = open(scan, meta).await else {
                        self.done.blocks_pruned.sub(1);
                        continue;
                    };
                    match Source::block(scan, &block) {
                        Ok(Some(source)) => {
                            self.done.blocks_read.add(1);
                            self.done.blocks_pruned.sub(1);
                            Ok(source)
                        }
                        Ok(None) => continue,
                        Err(error) => {
                            self.done.blocks_pruned.sub(1);
                            self.scan.coverage.lock().incomplete(error.problem(), meta.id.as_str(), error.to_string());
                            continue;
                        }
                    }
                }
            };
            self.source = Some((number, source.map_err(|error| DataFusionError::External(error.into()))?));
        }
    }
}

/// Opens a block; what goes wrong is noted.
async fn open(scan: &LakeScan, meta: &Arc<BlockMeta>) -> Option<Block> {
    let opened = open_in_time(&scan.blocks, meta, &scan.stop).await;
    let mut coverage = scan.coverage.lock();
    match opened {
        Ok(opened) => {
            coverage.has_opened(meta, &opened);
            Some(opened.block)
        }
        Err(problem) => {
            scan.unopened.fetch_add(1, Ordering::Relaxed);
            coverage.incomplete(problem.kind, meta.id.as_str(), problem.message);
            None
        }
    }
}

/// A part being read.
enum Source {
    Head {
        rows: Rows,
        found: BooleanBuffer,
        at: usize,
    },
    /// Matching rows of the head, newest first.
    NewestOfHead {
        parts: Arc<[Rows]>,
        /// Time, `ingest_id`, part and row.
        order: Vec<(i64, i64, usize, u32)>,
        at: usize,
        piece: usize,
    },
    Block(Visit),
    /// Matching rows of a block in its own order, which is newest first, in pieces that grow: whoever wants few rows stops
    /// before the rest is read.
    NewestOfBlock {
        block: Block,
        plan: Option<Arc<Plan>>,
        /// What the index answers alone it answers once.
        all: Option<BooleanBuffer>,
        rows: Range<u32>,
        piece: usize,
        visit: Option<Visit>,
    },
}

impl Source {
    fn head(scan: &LakeScan, rows: &Rows) -> super::Result<Self> {
        Ok(Source::Head {
            rows: rows.clone(),
            found: scan.found_in_head(rows)?,
            at: 0,
        })
    }

    fn newest_of_head(scan: &LakeScan, parts: &Arc<[Rows]>) -> super::Result<Self> {
        let mut order: Vec<(i64, i64, usize, u32)> = Vec::new();
        for (number, rows) in parts.iter().enumerate() {
            let found = scan.found_in_head(rows)?;
            let (times, ids) = (rows.times().values(), rows.ingest_ids().values());
            order.extend(found.set_indices().map(|row| (times[row], ids[row], number, row as u32)));
        }
        order.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Source::NewestOfHead {
            parts: parts.clone(),
            order,
            at: 0,
            piece: FIRST_PIECE,
        })
    }

    /// `None` of a block without matching rows, as far as its index knows.
    fn block(scan: &LakeScan, block: &Block) -> super::Result<Option<Self>> {
        let rows = block.rows_in(&scan.range)?;
        let matcher = Matcher::new(block, &scan.filter, &scan.stop)?;
        let all = match (scan.filter.as_ref(), matcher.exact_query()) {
            (Filter::All, _) => Some(block.visible(rows.clone())),
            (_, None) if scan.is_ordered => None,
            _ => Some(matcher.all(rows.clone())?),
        };
        if all.as_ref().is_some_and(|found| found.count_set_bits() == 0) {
            return Ok(None);
        }
        Ok(Some(match all {
            Some(found) if !scan.is_ordered => Source::Block(Visit::new(block, &found, rows, &scan.columns, &scan.stop)),
            all => Source::NewestOfBlock {
                block: block.clone(),
                plan: matcher.plan(),
                all,
                rows,
                piece: FIRST_PIECE,
                visit: None,
            },
        }))
    }

    /// The next rows of the part, with exactly the columns that were asked for.
    fn next(&mut self, scan: &LakeScan) -> super::Result<Option<RecordBatch>> {
        match self {
            Source::Head { rows, found, at } => {
                while *at < rows.len() && !scan.stop.is_over() {
                    let length = HEAD_BATCH_ROWS.min(rows.len() - *at);
                    let (start, here) = (*at, found.slice(*at, length));
                    *at += length;
                    if here.count_set_bits() > 0 {
                        return scan.project(&rows.slice(start, length).to_batch(Some(&scan.wanted))?, &here);
                    }
                }
                Ok(None)
            }
            Source::NewestOfHead { parts, order, at, piece } => {
                if *at >= order.len() || scan.stop.is_over() {
                    return Ok(None);
                }
                let end = order.len().min(*at + *piece);
                let batch = rows_of_parts(parts, &order[*at..end], &scan.wanted)?;
                *at = end;
                *piece = (*piece * 2).min(HEAD_BATCH_ROWS);
                scan.project(&batch, &BooleanBuffer::new_set(batch.num_rows()))
            }
            Source::Block(visit) => scan.next_of(visit),
            Source::NewestOfBlock {
                block,
                plan,
                all,
                rows,
                piece,
                visit,
            } => loop {
                if let Some(under_way) = visit
                    && let Some(batch) = scan.next_of(under_way)?
                {
                    return Ok(Some(batch));
                }
                *visit = None;
                if rows.start >= rows.end || scan.stop.is_over() {
                    return Ok(None);
                }
                let end = rows.end.min(rows.start.saturating_add(*piece as u32));
                let here = rows.start..end;
                let found = match all {
                    Some(all) => all.clone(),
                    None => Matcher::with_plan(block, &scan.filter, plan.clone(), &scan.stop).all(here.clone())?,
                };
                *visit = Some(Visit::new(block, &found, here, &scan.columns, &scan.stop));
                rows.start = end;
                *piece = (*piece * 2).min(MAX_PIECE);
            },
        }
    }
}

/// Rows of several parts of the head in a given order.
fn rows_of_parts(parts: &[Rows], order: &[(i64, i64, usize, u32)], wanted: &[usize]) -> super::Result<RecordBatch> {
    let mut by_part: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
    for (position, (_, _, part, row)) in order.iter().enumerate() {
        by_part.entry(*part).or_default().push((position, *row));
    }
    let mut batches = Vec::with_capacity(by_part.len());
    let mut places = vec![(0, 0); order.len()];
    for (part, rows) in by_part {
        for (i, (position, _)) in rows.iter().enumerate() {
            places[*position] = (batches.len(), i);
        }
        let numbers = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        batches.push(parts[part].take(&numbers)?.to_batch(Some(wanted))?);
    }
    if wanted.is_empty() {
        let options = RecordBatchOptions::new().with_row_count(Some(order.len()));
        return Ok(RecordBatch::try_new_with_options(batches[0].schema(), Vec::new(), &options)?);
    }
    Ok(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &places)?)
}

impl LakeScan {
    fn found_in_head(&self, rows: &Rows) -> super::Result<BooleanBuffer> {
        let mask = scan::in_range(rows, &self.range);
        match self.filter.as_ref() {
            Filter::All => Ok(mask),
            filter => scan::within(filter, Chunk::Memory(rows), &mask),
        }
    }

    fn next_of(&self, visit: &mut Visit) -> super::Result<Option<RecordBatch>> {
        for visited in visit {
            let (batch, mask) = visited?;
            if let Some(batch) = self.project(&batch, &mask)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The masked rows with exactly the columns that were asked for; `None` without any.
    fn project(&self, batch: &RecordBatch, mask: &BooleanBuffer) -> super::Result<Option<RecordBatch>> {
        let n_rows = mask.count_set_bits();
        if n_rows == 0 {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        if self.wanted.is_empty() {
            return Ok(Some(RecordBatch::try_new_with_options(self.schema.clone(), Vec::new(), &options)?));
        }
        let batch = match n_rows == batch.num_rows() {
            true => batch.clone(),
            false => filter_record_batch(batch, &BooleanArray::new(mask.clone(), None))?,
        };
        Ok(Some(RecordBatch::try_new_with_options(
            self.schema.clone(),
            self.maps.columns(&batch)?,
            &options,
        )?))
    }
}
