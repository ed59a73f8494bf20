//! A table of the lake as SQL sees it: unflushed rows and blocks, pruned by time and by what an index answers.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use parking_lot::Mutex;

use super::blocks::{Blocks, Matcher, visit};
use super::conditions::ValueTest;
use super::coverage::{Coverage, ProblemKind};
use super::filter::{Filter, Leaf};
use super::job::Job;
use super::limits::Stop;
use super::scan::{self, Chunk};
use super::{View, functions};
use crate::block::{Block, RawField};
use crate::model::schema::is_context_column;
use crate::model::{Rows, Table, TimeRange};

/// Partitions of a scan: threads it may use.
const PARTITIONS: usize = 2;
/// Batches that wait for the plan above.
const QUEUE: usize = 2;
/// Rows of unflushed data handed over at a time.
const HEAD_BATCH_ROWS: usize = 8_192;

/// One table in one view.
#[derive(Debug)]
pub(super) struct LakeTable {
    pub(super) table: Table,
    pub(super) view: View,
    pub(super) blocks: Arc<Blocks>,
    pub(super) stop: Stop,
    pub(super) coverage: Arc<Mutex<Coverage>>,
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
        let mut job = Job::new(&self.view, self.table, filter, range, self.stop.clone());
        let all_blocks = self.view.snapshot.blocks(self.table).len() as u64;
        job.coverage.blocks_pruned = all_blocks - job.coverage.blocks_total;
        job.coverage.blocks_total = all_blocks;
        let mut parts: Vec<Part> = job.head.iter().cloned().map(Part::Head).collect();
        for meta in job.metas.clone() {
            if let Some(opened) = job.open(&self.blocks, &meta).await {
                parts.push(Part::Block(opened.block));
            }
        }
        job.close_range();
        let full = self.table.schema();
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..full.fields().len()).collect());
        let schema = Arc::new(full.project(&wanted)?);
        let mut partitions: Vec<Vec<Part>> = vec![Vec::new(); PARTITIONS.min(parts.len()).max(1)];
        let n_partitions = partitions.len();
        for (number, part) in parts.into_iter().enumerate() {
            partitions[number % n_partitions].push(part);
        }
        let streams = partitions
            .into_iter()
            .map(|parts| {
                let scan = Scan {
                    table: self.table,
                    schema: schema.clone(),
                    wanted: wanted.clone(),
                    parts: Arc::new(parts),
                    filter: job.filter.clone(),
                    range,
                    stop: self.stop.clone(),
                    coverage: self.coverage.clone(),
                };
                Arc::new(scan) as Arc<dyn PartitionStream>
            })
            .collect();
        self.coverage.lock().merge_scan(job.coverage);
        Ok(Arc::new(StreamingTableExec::try_new(schema, streams, None, None, false, None)?))
    }
}

#[derive(Clone, Debug)]
enum Part {
    Head(Rows),
    Block(Block),
}

/// One partition: its parts, one after the other.
#[derive(Clone, Debug)]
struct Scan {
    table: Table,
    schema: SchemaRef,
    wanted: Vec<usize>,
    parts: Arc<Vec<Part>>,
    filter: Arc<Filter>,
    range: TimeRange,
    stop: Stop,
    coverage: Arc<Mutex<Coverage>>,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), QUEUE);
        let (sender, scan) = (builder.tx(), self.clone());
        builder.spawn_blocking(move || {
            for part in scan.parts.iter() {
                if scan.stop.is_over() {
                    break;
                }
                // a closed channel means that the plan has enough
                let mut send = |batch: RecordBatch| sender.blocking_send(Ok(batch)).map_err(|_| super::Error::internal("enough"));
                let sent = match part {
                    Part::Head(rows) => scan.head(rows, &mut send),
                    Part::Block(block) => scan.block(block, &mut send),
                };
                if let Err(error) = sent {
                    if sender.is_closed() {
                        break;
                    }
                    let what = match part {
                        Part::Head(_) => return Err(DataFusionError::External(error.into())),
                        Part::Block(block) => block.meta().id.as_str().to_string(),
                    };
                    scan.coverage.lock().incomplete(ProblemKind::Corrupt, what, error.to_string());
                }
            }
            if scan.stop.is_over() {
                scan.coverage
                    .lock()
                    .incomplete(ProblemKind::Timeout, "time limit", "time was up; rows that were not reached are missing");
            }
            Ok(())
        });
        builder.build()
    }
}

impl Scan {
    fn head(&self, rows: &Rows, send: &mut dyn FnMut(RecordBatch) -> super::Result<()>) -> super::Result<()> {
        let mask = scan::in_range(rows, &self.range);
        let found = match self.filter.as_ref() {
            Filter::All => mask,
            filter => scan::within(filter, Chunk::Memory(rows), &mask)?,
        };
        let mut at = 0;
        while at < rows.len() {
            let length = HEAD_BATCH_ROWS.min(rows.len() - at);
            let here = found.slice(at, length);
            if here.count_set_bits() > 0 {
                let batch = rows.slice(at, length).to_batch(Some(&self.wanted))?;
                self.hand_over(&batch, &here, send)?;
            }
            at += length;
        }
        Ok(())
    }

    fn block(&self, block: &Block, send: &mut dyn FnMut(RecordBatch) -> super::Result<()>) -> super::Result<()> {
        let rows = block.rows_in(&self.range)?;
        let n_rows = block.meta().n_rows as usize;
        let found = match self.filter.as_ref() {
            Filter::All => BooleanBuffer::collect_bool(n_rows, |row| rows.contains(&(row as u32))),
            filter => Matcher::new(block, filter, &self.stop)?.all(rows.clone())?,
        };
        let full = self.table.schema();
        // the projection's names live as long as the schema does; `visit` wants names that live for ever
        let columns: Vec<&'static str> = self.wanted.iter().filter_map(|i| static_name(&full, *i)).collect();
        visit(block, &found, rows, &columns, &self.stop, &mut |batch, mask| self.hand_over(batch, mask, send))
    }

    /// Sends the masked rows with exactly the columns that were asked for.
    fn hand_over(&self, batch: &RecordBatch, mask: &BooleanBuffer, send: &mut dyn FnMut(RecordBatch) -> super::Result<()>) -> super::Result<()> {
        let n_rows = mask.count_set_bits();
        if n_rows == 0 {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        if self.wanted.is_empty() {
            return send(RecordBatch::try_new_with_options(self.schema.clone(), Vec::new(), &options)?);
        }
        let batch = match n_rows == batch.num_rows() {
            true => batch.clone(),
            false => filter_record_batch(batch, &BooleanArray::new(mask.clone(), None))?,
        };
        send(RecordBatch::try_new_with_options(self.schema.clone(), batch.columns().to_vec(), &options)?)
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
            let ((Expr::Column(column), other) | (other, Expr::Column(column))) = (left.as_ref(), right.as_ref()) else {
                return None;
            };
            equals(table, &column.name, literal_text(other)?)
        }
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = list.expr.as_ref() else { return None };
            let any = list
                .list
                .iter()
                .map(|value| equals(table, &column.name, literal_text(value)?))
                .collect::<Option<Vec<_>>>()?;
            Some(Filter::or(any))
        }
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

fn has_negation(filter: &Filter) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().any(has_negation),
        Filter::Not(_) => true,
        _ => false,
    }
}

fn equals(table: Table, column: &str, value: &str) -> Option<Filter> {
    let test = ValueTest::Is(value.to_string());
    if is_context_column(column) && column != "resource_attributes" {
        let name = static_name(&table.schema(), table.schema().index_of(column).ok()?)?;
        return Some(Filter::leaf(Leaf::Value {
            column: Some(name),
            keys: Vec::new(),
            test,
        }));
    }
    let field = RawField::of_column(table, column)?;
    Some(Filter::leaf(Leaf::Column(field.name(), test)))
}
