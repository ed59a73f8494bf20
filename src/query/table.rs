//! A table of the lake as SQL sees it: unflushed rows and blocks, pruned by time and by what an index answers.
//!
//! Where a statement wants the newest rows ([`wants_newest`]), the scan ([`LakeExec`]) gives rows in that order and says so to
//! the plan, which then has nothing to sort and stops reading once it has enough: each partition is the head, sorted, or
//! blocks that follow one another in time, newest first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use memchr::memmem;
use parking_lot::Mutex;

use super::blocks::Blocks;
use super::conditions::{Key, ValueTest};
use super::coverage::Coverage;
use super::filter::{Filter, Leaf};
use super::job::Job;
use super::lake_exec::{LakeExec, LakeScan, Part};
use super::limits::Stop;
use super::pool::Workers;
use super::whole_maps::{WholeMaps, promoted};
use super::{View, functions};
use crate::block::{BlockMeta, RawField};
use crate::model::schema::{SPAN_COLUMNS, is_context_column};
use crate::model::{Rows, Table, TimeRange};

/// With more partitions than this, blocks overlap so much that sorting is as good.
const MAX_ORDERED_PARTITIONS: usize = 32;
/// What `attributes['name']` is in a plan.
const GET_FIELD: &str = "get_field";

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

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // what is pushed down only narrows what is read; the plan tests every row again
        Ok(filters.iter().map(|_| TableProviderFilterPushDown::Inexact).collect())
    }

    async fn scan(&self, _state: &dyn Session, projection: Option<&Vec<usize>>, filters: &[Expr], _limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let range = filters
            .iter()
            .fold(TimeRange::ALL, |range, filter| range.intersect(&time_range(self.table, filter)));
        let filter = Filter::and(filters.iter().filter_map(|filter| narrow(self.table, filter)).collect());
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
        self.coverage.lock().merge_scan(job.coverage);
        Ok(Arc::new(LakeExec::new(scan, partitions, orders)))
    }
}

/// Column names of all tables, kept for ever: there are few, and they are constants.
fn static_name(schema: &Schema, index: usize) -> Option<&'static str> {
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

/// The times that a filter on the time columns leaves.
fn time_range(table: Table, filter: &Expr) -> TimeRange {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => time_range(table, left).intersect(&time_range(table, right)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (a, b) = (time_range(table, left), time_range(table, right));
            TimeRange::new(a.start_nanos.min(b.start_nanos), a.end_nanos.max(b.end_nanos))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let compared = match (is_time(table, left), literal_nanos(right)) {
                (true, Some(nanos)) => Some((*op, nanos)),
                _ => match (is_time(table, right), literal_nanos(left), op.swap()) {
                    (true, Some(nanos), Some(op)) => Some((op, nanos)),
                    _ => None,
                },
            };
            compared.map_or(TimeRange::ALL, |(op, nanos)| bounds(op, nanos))
        }
        Expr::Between(between) if !between.negated && is_time(table, &between.expr) => {
            let low = literal_nanos(&between.low).map_or(TimeRange::ALL, |nanos| bounds(Operator::GtEq, nanos));
            let high = literal_nanos(&between.high).map_or(TimeRange::ALL, |nanos| bounds(Operator::LtEq, nanos));
            low.intersect(&high)
        }
        _ => TimeRange::ALL,
    }
}

/// The range of exact times that a comparison leaves. Microsecond columns are rounded down, so each end is widened by
/// what rounding can hide.
fn bounds(op: Operator, nanos: i64) -> TimeRange {
    const MICRO: i64 = 1_000;
    let (from, to) = (nanos.saturating_sub(MICRO), nanos.saturating_add(MICRO));
    match op {
        Operator::Eq => TimeRange::new(from, to),
        Operator::Gt | Operator::GtEq => TimeRange::new(from, i64::MAX),
        Operator::Lt | Operator::LtEq => TimeRange::new(i64::MIN, to),
        _ => TimeRange::ALL,
    }
}

fn is_time(table: Table, expr: &Expr) -> bool {
    match expr {
        Expr::Column(column) => {
            let exact = table.time_column();
            column.name == exact || Some(column.name.as_str()) == exact.strip_suffix("_unix_nano")
        }
        Expr::Cast(cast) => matches!(cast.field.data_type(), DataType::Timestamp(..)) && is_time(table, &cast.expr),
        _ => false,
    }
}

fn literal_nanos(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::TimestampSecond(Some(t), _) => t.checked_mul(1_000_000_000),
        ScalarValue::TimestampMillisecond(Some(t), _) => t.checked_mul(1_000_000),
        ScalarValue::TimestampMicrosecond(Some(t), _) => t.checked_mul(1_000),
        ScalarValue::TimestampNanosecond(Some(t), _) | ScalarValue::Int64(Some(t)) => Some(*t),
        _ => None,
    }
}

fn literal_text(expr: &Expr) -> Option<&str> {
    let Expr::Literal(value, _) = expr else { return None };
    value.try_as_str().flatten()
}

/// A filter that leaves at least the rows that `expr` leaves and that an index can answer; `None` if there is none.
fn narrow(table: Table, expr: &Expr) -> Option<Filter> {
    if !table.is_searchable() {
        return None;
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => match (narrow(table, left), narrow(table, right)) {
            (Some(a), Some(b)) => Some(Filter::and(vec![a, b])),
            (one, other) => one.or(other),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => Some(Filter::or(vec![narrow(table, left)?, narrow(table, right)?])),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (field, value) = match (literal_text(left), literal_text(right)) {
                (None, Some(value)) => (left.as_ref(), value),
                (Some(value), None) => (right.as_ref(), value),
                _ => return None,
            };
            equals(table, field, value)
        }
        Expr::InList(list) if !list.negated => {
            let any = list.list.iter().map(|value| equals(table, &list.expr, literal_text(value)?));
            Some(Filter::or(any.collect::<Option<Vec<_>>>()?))
        }
        Expr::Like(like) if !like.negated && !like.case_insensitive && like.escape_char.is_none() => match (&*like.expr, literal_text(&like.pattern)) {
            (Expr::Column(column), Some(pattern)) if table == Table::Logs && column.name == "body" => holds_pieces(pattern),
            _ => None,
        },
        Expr::ScalarFunction(call) if call.name() == functions::MATCH => match call.args.as_slice() {
            // only `body` of logs is exactly the text that is indexed
            [Expr::Column(column), words] if table == Table::Logs && column.name == "body" => match functions::text_filter(literal_text(words)?) {
                // NULL is not the absence of a word: a negation would keep rows without body
                Ok(filter) if !has_negation(&filter) => Some(filter),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// The texts that a pattern of `LIKE` has between its signs; `None` where that says nothing.
fn holds_pieces(pattern: &str) -> Option<Filter> {
    if pattern.contains('\\') {
        return None;
    }
    let pieces = pattern.split(['%', '_']).filter(|piece| !piece.is_empty());
    let holds = |piece: &str| Filter::leaf(Leaf::WholeText(ValueTest::Holds(memmem::Finder::new(piece).into_owned())));
    let all: Vec<Filter> = pieces.map(holds).collect();
    (!all.is_empty()).then(|| Filter::and(all))
}

fn has_negation(filter: &Filter) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(has_negation),
        Filter::Not(_) => true,
        _ => false,
    }
}

/// A field that is a text: a column, or an attribute.
fn equals(table: Table, field: &Expr, value: &str) -> Option<Filter> {
    let test = ValueTest::Is(value.to_string());
    let of = |column: Option<&'static str>, key: Option<&str>| {
        let keys = key.map(Key::new).into_iter().collect();
        Some(Filter::leaf(Leaf::Value {
            column,
            keys,
            test: test.clone(),
        }))
    };
    let of_spans = |key: &str| {
        SPAN_COLUMNS
            .iter()
            .find(|(attribute, column)| table == Table::Spans && (*attribute == key || *column == key))
    };
    match field {
        Expr::Column(column) => {
            let column = column.name.as_str();
            if is_context_column(column) && column != "resource_attributes" {
                return of(Some(static_name(&table.schema(), table.schema().index_of(column).ok()?)?), None);
            }
            if let Some((attribute, column)) = of_spans(column) {
                return of(Some(column), Some(attribute));
            }
            let field = RawField::of_column(table, column)?;
            Some(Filter::leaf(Leaf::Column(field.name(), test)))
        }
        Expr::ScalarFunction(call) if call.name() == GET_FIELD => {
            let [Expr::Column(map), key] = call.args.as_slice() else { return None };
            let key = literal_text(key).filter(|_| ["attributes", "resource_attributes"].contains(&map.name.as_str()))?;
            // what the map is given from a column, a search finds there too
            let column = promoted(table, &map.name)
                .iter()
                .find(|(attribute, _)| *attribute == key)
                .map(|(_, column)| *column);
            of(column, Some(key))
        }
        _ => None,
    }
}
