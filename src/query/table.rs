//! A table of the lake as SQL sees it: unflushed rows and blocks, pruned by time and by what an index answers.
//!
//! Where a statement wants the newest rows ([`wants_newest`]), the scan ([`LakeExec`]) gives rows in that order and says so to
//! the plan, which then has nothing to sort and stops reading once it has enough: each partition is the head, sorted, or
//! blocks that follow one another in time, newest first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

use super::anchor::Asker;
use super::ast::Query;
use super::blocks::Blocks;
use super::coverage::Coverage;
use super::filter::Filter;
use super::job::Job;
use super::lake_exec::{LakeExec, LakeScan, Part};
use super::limits::Stop;
use super::linked::Most;
use super::pool::Workers;
use super::pushdown::{self, Pushed};
use super::whole_maps::WholeMaps;
use super::{Error, ErrorKind, View, fields};
use crate::block::BlockMeta;
use crate::model::{Rows, Table, TimeRange};

/// With more partitions than this, blocks overlap so much that sorting is as good.
const MAX_ORDERED_PARTITIONS: usize = 32;

/// One table in one view.
#[derive(Debug)]
pub(super) struct LakeTable {
    pub(super) table: Table,
    pub(super) view: View,
    pub(super) blocks: Arc<Blocks>,
    pub(super) stop: Stop,
    pub(super) workers: Workers,
    pub(super) coverage: Arc<Mutex<Coverage>>,
    /// Blocks that could not be opened.
    pub(super) unopened: Arc<AtomicU64>,
    /// Whether the statement [`wants_newest`].
    pub(super) newest_first: Arc<AtomicBool>,
    /// What relative times in a `search` are counted from.
    pub(super) now_nanos: i64,
    /// Traces that a condition on them may mean.
    pub(super) max_anchor_traces: usize,
    /// What is read of one whose records are meant.
    pub(super) most_of_a_trace: Most,
}

/// Whether a statement sorts by a time column, newest first.
pub(super) fn wants_newest(plan: &LogicalPlan) -> bool {
    let is_time_column = |name: &str| {
        let of_table = |table: &Table| table.time_column() == name || table.time_column().strip_suffix("_unix_nano") == Some(name);
        Table::ALL.iter().any(of_table)
    };
    let mut wants = false;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Sort(sort) = node
            && let Some(first) = sort.expr.first()
            && let Expr::Column(column) = &first.expr
        {
            wants |= !first.asc && is_time_column(&column.name);
        }
        Ok(if wants { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.is_ok() && wants
}

/// The orders in which rows stand where the newest come first, as far as `schema` has the columns.
fn newest_first_orders(table: Table, schema: &Schema) -> Vec<LexOrdering> {
    let exact = table.time_column();
    let micros = exact.strip_suffix("_unix_nano").unwrap_or(exact);
    let options = SortOptions {
        descending: true,
        nulls_first: true,
    };
    let order = |columns: &[&str]| {
        let present = columns.iter().map_while(|name| Some((*name, schema.index_of(name).ok()?)));
        LexOrdering::new(present.map(|(name, index)| PhysicalSortExpr::new(Arc::new(Column::new(name, index)), options)))
    };
    [order(&[exact, "ingest_id"]), order(&[micros, exact, "ingest_id"])]
        .into_iter()
        .flatten()
        .collect()
}

/// Head and blocks as partitions in each of which rows can be given newest first; `None` if there would be too many.
fn in_order(head: &[Rows], metas: &[Arc<BlockMeta>]) -> Option<Vec<Vec<Part>>> {
    let mut partitions: Vec<Vec<Part>> = Vec::new();
    // the first time of each partition's last block
    let mut ends: Vec<i64> = Vec::new();
    let mut metas = metas.to_vec();
    metas.sort_by_key(|meta| std::cmp::Reverse(meta.max_time_nanos));
    for meta in metas {
        let end = meta.min_time_nanos;
        match ends.iter().position(|end| *end > meta.max_time_nanos) {
            Some(number) => {
                partitions[number].push(Part::Block(meta));
                ends[number] = end;
            }
            None => {
                partitions.push(vec![Part::Block(meta)]);
                ends.push(end);
            }
        }
    }
    if !head.is_empty() {
        partitions.push(vec![Part::NewestOfHead(head.into())]);
    }
    (partitions.len() <= MAX_ORDERED_PARTITIONS).then_some(partitions)
}

impl LakeTable {
    /// Rows that pass a filter, and a search that asks for their traces. A broad condition on traces is asked among those of the rows that
    /// all else leaves.
    async fn of_traces(&self, query: &Query, range: TimeRange, beside: Filter, rests_on: &mut Vec<Coverage>) -> super::Result<Filter> {
        let asker = Asker {
            view: &self.view,
            blocks: &self.blocks,
            workers: &self.workers,
            stop: &self.stop,
            max_traces: self.max_anchor_traces,
            most: self.most_of_a_trace,
            now_nanos: self.now_nanos,
        };
        let found = asker.resolve(query, self.table, range, &beside).await?;
        rests_on.extend(found.coverage);
        let searched = fields::compile_with(query, self.table, self.now_nanos, &found.anchors)?;
        Ok(Filter::and(vec![beside, searched]))
    }
}

/// What a search did wrong is what the statement did wrong.
fn of_search(error: Error) -> DataFusionError {
    match (error.kind(), error.hint()) {
        (ErrorKind::BadQuery, Some(hint)) => DataFusionError::Plan(format!("search: {error} ({hint})")),
        (ErrorKind::BadQuery, None) => DataFusionError::Plan(format!("search: {error}")),
        _ => DataFusionError::External(Box::new(error)),
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = |filter: &&Expr| match pushdown::is_search(filter) {
            // it means what it means to a search, row by row
            true => pushdown::search(self.table, filter, self.now_nanos).map(|_| TableProviderFilterPushDown::Exact),
            false if pushdown::is_exact(self.table, filter) => Ok(TableProviderFilterPushDown::Exact),
            // what else is pushed down only narrows what is read; the plan tests every row again
            false => Ok(TableProviderFilterPushDown::Inexact),
        };
        filters.iter().map(pushed).collect()
    }

    async fn scan(&self, state: &dyn Session, projection: Option<&Vec<usize>>, filters: &[Expr], _limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let Pushed {
            range,
            mut filter,
            of_traces,
            told,
        } = pushdown::push(self.table, filters, state, self.now_nanos)?;
        let mut rests_on = Vec::new();
        for query in &of_traces {
            filter = self.of_traces(query, range, filter, &mut rests_on).await.map_err(of_search)?;
        }
        let mut job = Job::new(&self.view, self.table, filter, range, self.stop.clone(), self.workers.clone());
        let all_blocks = self.view.snapshot.blocks(self.table).len() as u64;
        job.coverage.blocks_pruned = all_blocks - job.coverage.blocks_total;
        job.coverage.blocks_total = all_blocks;
        job.close_range();
        let full = self.table.schema();
        let mut wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..full.fields().len()).collect());
        let schema = Arc::new(full.project(&wanted)?);
        let maps = WholeMaps::complete(self.table, &full, &mut wanted);
        // searchable tables are those whose blocks are sorted by time alone
        let mut orders = match self.table.is_searchable() && self.newest_first.load(Ordering::Relaxed) {
            true => newest_first_orders(self.table, &schema),
            false => Vec::new(),
        };
        let ordered = match orders.is_empty() {
            true => None,
            false => in_order(&job.head, &job.metas),
        };
        let is_ordered = ordered.is_some();
        let mut partitions = ordered.unwrap_or_else(|| {
            orders.clear();
            let parts = job.head.iter().cloned().map(Part::Head).chain(job.metas.iter().cloned().map(Part::Block));
            let n_partitions = self.workers.n_threads().min(job.head.len() + job.metas.len()).max(1);
            let mut partitions = vec![Vec::new(); n_partitions];
            for (number, part) in parts.enumerate() {
                partitions[number % n_partitions].push(part);
            }
            partitions
        });
        if partitions.is_empty() {
            partitions.push(Vec::new());
        }
        let pruned_by_time = job.coverage.blocks_pruned;
        let scan = LakeScan {
            table: self.table,
            schema,
            maps,
            columns: wanted.iter().filter_map(|i| static_name(&full, *i)).collect(),
            wanted,
            filter: job.filter.clone(),
            narrowed_by: told,
            range,
            stop: self.stop.clone(),
            coverage: self.coverage.clone(),
            unopened: self.unopened.clone(),
            blocks: self.blocks.clone(),
            is_ordered,
            n_blocks: all_blocks,
            pruned_by_time,
            head_rows: job.coverage.head_rows,
        };
        let mut coverage = self.coverage.lock();
        coverage.merge_scan(job.coverage);
        rests_on.into_iter().for_each(|found| coverage.rests_on(found));
        drop(coverage);
        Ok(Arc::new(LakeExec::new(scan, partitions, orders)))
    }
}

/// Column names of all tables, kept for ever: there are few, and they are constants.
pub(super) fn static_name(schema: &Schema, index: usize) -> Option<&'static str> {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
        let names = Table::ALL
            .iter()
            .flat_map(|table| table.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>());
        names.map(|name| &*Box::leak(name.into_boxed_str())).collect()
    });
    NAMES.get(schema.field(index).name().as_str()).copied()
}
