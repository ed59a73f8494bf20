//! Log groups as tables of a session, and a statement's run over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, TableReference};
use datafusion::datasource::ViewTable;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, cast, ident, lit, try_cast};
use datafusion::prelude::{SQLOptions, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use parking_lot::Mutex;

use super::super::record::Named;
use super::super::value::Value;
use super::super::{Failed, Limits, Scope};
use super::fields::{Belongs, BelongsFunction, FieldsFunction, Misfits, PointerFunction, structure};
use super::{RunError, SqlRow, SqlSource};
use crate::model::{Table, TimeRange};
use crate::query::linked::Most;
use crate::query::sql::{Ground, client, internal};
use crate::query::table::LakeTable;
use crate::query::{Coverage, ProblemKind, Result};

/// Columns that every event has.
const SYSTEM: [&str; 7] = ["@timestamp", "@message", "@logStream", "@log", "@ingestionTime", "@ptr", "@aws.account"];
/// The column with all fields.
const FIELDS: &str = "#fields";
/// More groups than this are not asked for by name.
const MAX_ASKED_BY_NAME: usize = 200;
/// What a value takes beside its text.
const VALUE_BYTES: usize = 40;
const TIME_FORMAT: &str = "%Y-%m-%d %H:%M:%S%.3f";

pub(super) fn is_system(name: &str) -> bool {
    SYSTEM.contains(&name)
}

/// A table of a statement.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) source: SqlSource,
    pub(super) scope: Arc<dyn Scope>,
    pub(super) groups: Vec<String>,
    pub(super) account: Arc<str>,
    /// What is named of records.
    pub(super) named: Option<Arc<Named>>,
    /// Its fields and their types, by name.
    pub(super) fields: Vec<(Arc<str>, DataType)>,
    pub(super) misfits: Misfits,
}

impl View {
    /// The events as a view over the rows of `logs`.
    fn table(&self, session: &SessionContext, logs: LakeTable, range: TimeRange) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        let exact = || ident("time_unix_nano");
        let mut wanted = exact().gt_eq(lit(range.start_nanos)).and(exact().lt(lit(range.end_nanos)));
        wanted = match self.groups.len() <= MAX_ASKED_BY_NAME {
            true => wanted.and(ident("aws_log_group").in_list(self.groups.iter().map(lit).collect(), false)),
            false => wanted.and(ident("aws_log_group").is_not_null()),
        };
        let of_event = || vec![ident("aws_log_group"), ident("aws_log_stream")];
        let belongs = Belongs {
            scope: self.scope.clone(),
            range,
        };
        let place = || [of_event(), vec![ident("observed_time"), exact()]].concat();
        wanted = wanted.and(ScalarUDF::from(BelongsFunction::new(&self.name, belongs.clone())).call(place()));
        let mut frame = session.read_table(Arc::new(logs))?.filter(wanted)?;
        let pointer = ScalarUDF::from(PointerFunction::new());
        let log = datafusion::functions::string::expr_fn::concat(vec![lit(format!("{}:", self.account)), ident("aws_log_group")]);
        let mut columns = vec![ident("time").alias(SYSTEM[0]), ident("body").alias(SYSTEM[1])];
        if !self.fields.is_empty() {
            let function = FieldsFunction::new(&self.name, structure(&self.fields), self.named.clone(), belongs, self.misfits.clone());
            let fields = ScalarUDF::from(function);
            let all = [
                "time",
                "body",
                "aws_log_group",
                "aws_log_stream",
                "observed_time",
                "time_unix_nano",
                "ingest_id",
            ];
            let of_record = self.named.iter().flat_map(|named| &named.columns).map(|column| ident(*column));
            let arguments = [place(), ["body", "trace_id", "span_id"].map(ident).to_vec(), of_record.collect()].concat();
            frame = frame.select(all.map(ident).into_iter().chain([fields.call(arguments).alias(FIELDS)]).collect::<Vec<_>>())?;
            columns.extend(self.fields.iter().map(|(name, _)| get_field(ident(FIELDS), name.to_string()).alias(&**name)));
        }
        columns.extend([
            ident("aws_log_stream").alias(SYSTEM[2]),
            log.alias(SYSTEM[3]),
            datafusion::functions::core::expr_fn::coalesce(vec![ident("observed_time"), ident("time")]).alias(SYSTEM[4]),
            pointer.call([vec![exact(), ident("ingest_id")], of_event()].concat()).alias(SYSTEM[5]),
            lit(&*self.account).alias(SYSTEM[6]),
        ]);
        frame = frame.select(columns)?;
        if let SqlSource::Indexed { field, values } = &self.source {
            let has = match values.is_empty() {
                true => ident(field).is_not_null(),
                false => cast(ident(field), DataType::Utf8).in_list(values.iter().map(lit).collect(), false),
            };
            frame = frame.filter(has)?;
        }
        Ok(Arc::new(ViewTable::new(frame.into_unoptimized_plan(), None)))
    }
}

/// Runs a statement over its tables.
pub(super) async fn run(
    ground: Ground,
    statement: Box<ast::Statement>,
    views: Vec<View>,
    range: TimeRange,
    limits: Limits,
) -> Result<Result<(Vec<SqlRow>, Coverage), RunError>> {
    let coverage = Arc::new(Mutex::new(Coverage::new(TimeRange::new(0, 0))));
    let newest_first = Arc::new(AtomicBool::new(false));
    let session = ground.spark_session(limits.max_memory_bytes)?;
    for view in &views {
        let logs = LakeTable {
            table: Table::Logs,
            view: ground.view.clone(),
            blocks: ground.blocks.clone(),
            stop: ground.stop.clone(),
            workers: ground.workers.clone(),
            coverage: coverage.clone(),
            unopened: Arc::new(AtomicU64::new(0)),
            newest_first: newest_first.clone(),
            // these statements have no `search`
            now_nanos: 0,
            max_anchor_traces: 0,
            most_of_a_trace: Most::default(),
        };
        let table = view.table(&session, logs, range).map_err(internal)?;
        session.register_table(TableReference::bare(view.name.as_str()), table).map_err(internal)?;
    }
    let gathering = gather(&session, statement, limits, &newest_first);
    let gathered = match tokio::time::timeout(ground.stop.remaining(), gathering).await {
        Ok(gathered) => gathered?,
        Err(_) => {
            coverage.lock().incomplete(ProblemKind::Timeout, "time limit", "time was up");
            Ok(Vec::new())
        }
    };
    // plans hold the other references; they are gone with the session
    drop(session);
    let mut coverage = coverage.lock().clone();
    coverage.has_read(&ground.stop);
    Ok(gathered.map(|rows| (rows, coverage)).map_err(RunError::Failed))
}

async fn gather(session: &SessionContext, statement: Box<ast::Statement>, limits: Limits, newest_first: &AtomicBool) -> Result<Result<Vec<SqlRow>, Failed>> {
    let plan = session.state().statement_to_plan(Statement::Statement(statement)).await.map_err(client)?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(client)?;
    let plan = numbers_from_texts(plan).map_err(client)?;
    newest_first.store(wants_newest(&plan), Ordering::Relaxed);
    let frame = session.execute_logical_plan(plan).await.map_err(client)?;
    let frame = frame.limit(0, Some(limits.default_limit)).map_err(client)?;
    let names: Vec<Arc<str>> = frame.schema().fields().iter().map(|field| Arc::from(field.name().as_str())).collect();
    let mut stream = frame.execute_stream().await.map_err(client)?;
    let (mut rows, mut bytes): (Vec<SqlRow>, usize) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(client)?;
        for row in 0..batch.num_rows() {
            let mut shown = SqlRow::new();
            for (name, column) in names.iter().zip(batch.columns()) {
                if let Some(value) = value(column, row)? {
                    bytes += value.len() + VALUE_BYTES;
                    shown.push((name.clone(), value));
                }
            }
            rows.push(shown);
            if bytes > limits.max_memory_bytes {
                return Ok(Err(Failed::Memory {
                    command: "SELECT",
                    max_bytes: limits.max_memory_bytes,
                }));
            }
        }
    }
    Ok(Ok(rows))
}

/// Whether a statement sorts by the event's time, newest first.
fn wants_newest(plan: &LogicalPlan) -> bool {
    let mut wants = false;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Sort(sort) = node
            && let Some(first) = sort.expr.first()
            && let Expr::Column(column) = &first.expr
        {
            wants |= !first.asc && column.name == SYSTEM[0];
        }
        Ok(if wants { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.is_ok() && wants
}

/// A value as it is shown; `None` where there is none.
fn value(column: &ArrayRef, row: usize) -> Result<Option<String>> {
    let double = |number: f64| match Value::double(number) {
        Value::Null => number.to_string(),
        shown => shown.to_string(),
    };
    Ok(match column.data_type() {
        _ if column.is_null(row) => None,
        DataType::Null => None,
        DataType::Float64 => Some(double(column.as_primitive::<Float64Type>().value(row))),
        DataType::Float32 => Some(double(f64::from(column.as_primitive::<Float32Type>().value(row)))),
        _ => {
            let options = FormatOptions::default()
                .with_timestamp_format(Some(TIME_FORMAT))
                .with_timestamp_tz_format(Some(TIME_FORMAT));
            Some(ArrayFormatter::try_new(column, &options)?.value(row).to_string())
        }
    })
}

/// Lets comparisons of a text with a number compare numbers, as Spark does; DataFusion would compare texts, in which 9 is more than 10.
fn numbers_from_texts(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        node.map_expressions(|expr| expr.transform_up(|expr| Ok(compared_as_numbers(expr, &schema))))
    })?;
    Ok(rewritten.data)
}

fn compared_as_numbers(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let of = |expr: &Expr| expr.get_type(schema).ok();
    let is_text = |expr: &Expr| of(expr).is_some_and(|kind| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View));
    let is_number = |expr: &Expr| of(expr).is_some_and(|kind| kind.is_numeric());
    let number = |expr: Box<Expr>| Box::new(try_cast(*expr, DataType::Float64));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(
                op,
                Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
            ) =>
        {
            match (is_text(&left), is_text(&right)) {
                (true, false) if is_number(&right) => Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: number(left), op, right })),
                (false, true) if is_number(&left) => Transformed::yes(Expr::BinaryExpr(BinaryExpr {
                    left,
                    op,
                    right: number(right),
                })),
                _ => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            }
        }
        Expr::Between(between) if is_text(&between.expr) && is_number(&between.low) && is_number(&between.high) => Transformed::yes(Expr::Between(Between {
            expr: number(between.expr),
            ..between
        })),
        Expr::InList(list) if is_text(&list.expr) && !list.list.is_empty() && list.list.iter().all(is_number) => Transformed::yes(Expr::InList(InList {
            expr: number(list.expr),
            ..list
        })),
        other => Transformed::no(other),
    }
}
