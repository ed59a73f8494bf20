//! SQL over one view: read-only, bounded in memory, rows and time.
//!
//! Tables are those of [`Table::ALL`], the view `metrics`, which joins each point with its series, and `ledger`, the sums of
//! where every record ended as they are now: accepted, repeated, refused, rejected or dropped, by node, receiver and signal; and of the
//! accepted ones, those that were deleted or have expired since, which no receiver is known of any more. `SHOW TABLES`,
//! `DESCRIBE logs` and `EXPLAIN …` work; whatever would change or set something is refused. Functions of ours are in
//! [`super::functions`]. The session lives for one statement; one that sorts by time, newest first, is read in that order
//! and no further than its limit ([`super::table`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DataFusionError;
use datafusion::config::Dialect;
use datafusion::datasource::ViewTable;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;

use super::answer::{SqlColumn, SqlRequest, SqlResponse};
use super::blocks::Blocks;
use super::coverage::{Coverage, ProblemKind};
use super::engine::MAX_ANSWER_BYTES;
use super::inventory::{BLOCKS, LEDGER, blocks_table, ledger_table};
use super::limits::Stop;
use super::linked::Most;
use super::pool::Workers;
use super::table::LakeTable;
use super::{Config, Error, ErrorKind, Result, View, functions, table};
use crate::ingest::LedgerEntry;
use crate::model::{Table, TimeRange};

/// What a sort keeps back for merging what it put on disk: one part in so many of a statement's memory, and at most so much.
const SORT_RESERVATION_PART: usize = 16;
const MAX_SORT_RESERVATION_BYTES: usize = 10 << 20;
/// Deepest nesting of values that is written out.
const MAX_VALUE_DEPTH: usize = 16;

/// Each point with its series; series are written once a day and flush, the latest stands.
const METRICS_VIEW: &str = "
SELECT p.time, p.time_unix_nano, p.metric_name, s.metric_type, s.unit, p.service_name,
       p.value, p.value_int, p.count, p.sum, p.min, p.max,
       s.temporality, s.is_monotonic, s.attributes, s.resource_attributes, p.series_id
FROM (
  SELECT time, time_unix_nano, metric_name, service_name, series_id, value, value_int,
         CAST(NULL AS BIGINT) AS count, CAST(NULL AS DOUBLE) AS sum, CAST(NULL AS DOUBLE) AS min, CAST(NULL AS DOUBLE) AS max
  FROM metric_points
  UNION ALL
  SELECT time, time_unix_nano, metric_name, service_name, series_id, CAST(NULL AS DOUBLE), CAST(NULL AS BIGINT), count, sum, min, max
  FROM metric_histograms
  UNION ALL
  SELECT time, time_unix_nano, metric_name, service_name, series_id, CAST(NULL AS DOUBLE), CAST(NULL AS BIGINT), count, sum, min, max
  FROM metric_exp_histograms
  UNION ALL
  SELECT time, time_unix_nano, metric_name, service_name, series_id, CAST(NULL AS DOUBLE), CAST(NULL AS BIGINT), count, sum,
         CAST(NULL AS DOUBLE), CAST(NULL AS DOUBLE)
  FROM metric_summaries
) p
LEFT JOIN (
  SELECT * FROM (
    SELECT series_id, metric_type, unit, temporality, is_monotonic, attributes, resource_attributes,
           row_number() OVER (PARTITION BY series_id ORDER BY time_unix_nano DESC, ingest_id DESC) AS newest
    FROM metric_series
  ) WHERE newest = 1
) s ON s.series_id = p.series_id";

/// A statement with all that it is run on.
pub(super) struct Statement {
    pub(super) request: SqlRequest,
    pub(super) view: View,
    pub(super) ledger: Vec<LedgerEntry>,
    pub(super) blocks: Arc<Blocks>,
    pub(super) config: Config,
    /// Where to put what memory does not hold.
    pub(super) spill: Option<PathBuf>,
    pub(super) begun: Instant,
    pub(super) stop: Stop,
    pub(super) workers: Workers,
    /// What relative times in the search language are counted from.
    pub(super) now_nanos: i64,
}

/// What a statement over other tables is run on.
pub(super) struct Ground {
    pub(super) view: View,
    pub(super) blocks: Arc<Blocks>,
    pub(super) config: Config,
    /// Where to put what memory does not hold.
    pub(super) spill: Option<PathBuf>,
    pub(super) stop: Stop,
    pub(super) workers: Workers,
}

impl Ground {
    /// A session without tables, in which names are as they are written and nulls are less than everything, as in Spark; its
    /// statement may take so much memory, and no more than any.
    pub(super) fn spark_session(&self, max_memory_bytes: usize) -> Result<SessionContext> {
        let config = Config {
            sql_memory_bytes: self.config.sql_memory_bytes.min(max_memory_bytes),
            ..self.config.clone()
        };
        let mut settings = settings(&config, self.workers.n_threads()).with_information_schema(false);
        settings.options_mut().sql_parser.enable_ident_normalization = false;
        settings.options_mut().sql_parser.default_null_ordering = "nulls_min".into();
        let session = SessionContext::new_with_config_rt(settings, runtime(&config, self.spill.as_deref())?);
        functions::register(&session);
        Ok(session)
    }
}

/// Runs a statement; computes in the future itself, which the workers drive.
pub(super) async fn run(statement: Statement) -> Result<SqlResponse> {
    let Statement {
        request,
        view,
        ledger,
        blocks,
        config,
        spill,
        begun,
        stop,
        workers,
        now_nanos,
    } = statement;
    let limit = request.limit.clamp(1, config.max_sql_rows);
    let coverage = Arc::new(Mutex::new(Coverage::new(TimeRange::new(0, 0))));
    let unopened = Arc::new(AtomicU64::new(0));
    let newest_first = Arc::new(AtomicBool::new(false));
    let table = |table| LakeTable {
        table,
        view: view.clone(),
        blocks: blocks.clone(),
        stop: stop.clone(),
        workers: workers.clone(),
        coverage: coverage.clone(),
        unopened: unopened.clone(),
        newest_first: newest_first.clone(),
        now_nanos,
        max_anchor_traces: config.max_anchor_traces,
        most_of_a_trace: Most::of(&config),
    };
    let session = session(table, &config, spill.as_deref(), workers.n_threads()).await?;
    for (name, table) in [(LEDGER, ledger_table(&ledger)), (BLOCKS, blocks_table(&view.snapshot))] {
        session.register_table(name, Arc::new(table?)).map_err(internal)?;
    }
    let bounds = (limit, config.max_answer_bytes);
    let gathered = tokio::time::timeout(stop.remaining(), gather(&session, &request.query, bounds, &newest_first, &stop)).await;
    let Gathered { columns, rows, end } = match gathered {
        Ok(gathered) => gathered?,
        Err(_) => {
            return Err(Error::Timeout {
                seconds: config.timeout_seconds,
            });
        }
    };
    if end == End::Time && rows.is_empty() {
        return Err(Error::Timeout {
            seconds: config.timeout_seconds,
        });
    }
    // plans hold the other references; they are gone with the session
    drop(session);
    let mut coverage = coverage.lock().clone();
    match end {
        End::All | End::Rows => {}
        End::Time => coverage.incomplete(ProblemKind::Timeout, "time limit", "time was up; later rows are missing"),
        End::Bytes => {
            let message = format!("the answer ends after {} rows; select fewer columns or rows, or aggregate", rows.len());
            coverage.incomplete(ProblemKind::Limit, MAX_ANSWER_BYTES, message);
        }
    }
    if end != End::Time {
        // blocks whose turn did not come cannot have a row of this answer
        let opened = coverage.blocks_read + unopened.load(Ordering::Relaxed);
        coverage.blocks_pruned = coverage.blocks_total.saturating_sub(opened);
    }
    coverage.rows_matched_at_least = rows.len() as u64;
    coverage.has_read(&stop);
    Ok(SqlResponse {
        columns,
        n_rows: rows.len(),
        rows,
        truncated: end != End::All,
        coverage,
        took: begun.elapsed(),
    })
}

/// What one statement may take of memory and disk.
fn runtime(config: &Config, spill: Option<&Path>) -> Result<Arc<RuntimeEnv>> {
    let disk = match spill.filter(|_| config.sql_spill_bytes > 0) {
        // its files lie in a folder of its own, which goes with it
        Some(folder) => DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![folder.to_path_buf()]))
            .with_max_temp_directory_size(config.sql_spill_bytes),
        None => DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
    };
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(config.sql_memory_bytes)))
        .with_disk_manager_builder(disk)
        .build_arc()
        .map_err(internal)
}

fn settings(config: &Config, n_threads: usize) -> SessionConfig {
    SessionConfig::new()
        .with_target_partitions(n_threads)
        .with_sort_spill_reservation_bytes((config.sql_memory_bytes / SORT_RESERVATION_PART).min(MAX_SORT_RESERVATION_BYTES))
        .with_default_catalog_and_schema("tracelake", "public")
}

async fn session(provider: impl Fn(Table) -> LakeTable, config: &Config, spill: Option<&Path>, n_threads: usize) -> Result<SessionContext> {
    let runtime = runtime(config, spill)?;
    let mut settings = settings(config, n_threads).with_information_schema(true);
    // the generic dialect keeps `match (…) against` for itself
    settings.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    // of `x IS TRUE` the planner says that it is never null, and its plan that it may be: an aggregate over it was refused as a fault
    settings.options_mut().execution.skip_physical_aggregate_schema_check = true;
    let session = SessionContext::new_with_config_rt(settings, runtime);
    for table in Table::ALL {
        session.register_table(table.name(), Arc::new(provider(table))).map_err(internal)?;
    }
    functions::register(&session);
    functions::with_search(&session);
    let plan = session.state().create_logical_plan(METRICS_VIEW).await.map_err(internal)?;
    session
        .register_table("metrics", Arc::new(ViewTable::new(plan, Some(METRICS_VIEW.to_string()))))
        .map_err(internal)?;
    Ok(session)
}

struct Gathered {
    columns: Vec<SqlColumn>,
    rows: Vec<Vec<Value>>,
    end: End,
}

/// What ended the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    All,
    Rows,
    Bytes,
    Time,
}

/// Rows of an answer and their memory.
#[derive(Default)]
struct Answer {
    rows: Vec<Vec<Value>>,
    bytes: usize,
}

async fn gather(session: &SessionContext, query: &str, (limit, max_bytes): (usize, usize), newest_first: &AtomicBool, stop: &Stop) -> Result<Gathered> {
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = session.sql_with_options(query, read_only).await.map_err(client)?;
    newest_first.store(table::wants_newest(frame.logical_plan()), Ordering::Relaxed);
    let schema = frame.schema().inner().clone();
    let columns = schema
        .fields()
        .iter()
        .map(|field| SqlColumn {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
        })
        .collect();
    let frame = match frame.logical_plan() {
        // a plan that is shown stands above everything else
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => frame,
        // one row more than asked for tells whether there are more
        _ => frame.limit(0, Some(limit.saturating_add(1))).map_err(client)?,
    };
    let mut stream = frame.execute_stream().await.map_err(client)?;
    let mut answer = Answer::default();
    let end = loop {
        let batch = match tokio::time::timeout(stop.remaining(), stream.next()).await {
            Ok(Some(batch)) => batch.map_err(client)?,
            Ok(None) => break End::All,
            Err(_) => break End::Time,
        };
        if let Some(end) = answer.append(&batch, limit, max_bytes)? {
            break end;
        }
    };
    Ok(Gathered {
        columns,
        rows: answer.rows,
        end,
    })
}

pub(super) fn internal(error: DataFusionError) -> Error {
    Error::internal(error)
}

/// Whether what was to be spilled found no room.
fn is_disk_full(error: &DataFusionError) -> bool {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull)
        {
            return true;
        }
        at = error.source();
    }
    // some layers keep no more of an error than its text: that of ENOSPC
    error.to_string().contains("(os error 28)")
}

/// How the planner's complaint of `BETWEEN` over types that do not compare begins.
const NO_COMMON_TYPE: &str = "Failed to coerce types";

/// What a statement did wrong; our own faults stay ours.
pub(super) fn client(error: DataFusionError) -> Error {
    if is_disk_full(&error) {
        return Error::Unreachable(
            "the disk of the data directory is full: there is no room for what the statement puts there because its memory does not hold it".into(),
        );
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(message) => Error::BadRequest {
            message: format!("the statement needs more memory than it may have: {message}"),
            hint: Some("narrow the time range, select fewer columns, or aggregate in steps".into()),
        },
        DataFusionError::External(inner) if inner.downcast_ref::<Error>().is_some_and(|inner| inner.kind() == ErrorKind::Unavailable) => {
            Error::Unreachable(inner.to_string())
        }
        // a mistake in a statement, though it comes as a fault of the planner's
        DataFusionError::Internal(message) if message.starts_with(NO_COMMON_TYPE) => Error::BadRequest {
            message: message.lines().next().unwrap_or_default().trim_end_matches('.').to_string(),
            hint: Some("cast one side, as in CAST(x AS TIMESTAMP)".into()),
        },
        DataFusionError::Internal(_) | DataFusionError::External(_) | DataFusionError::IoError(_) | DataFusionError::ExecutionJoin(_) => Error::internal(error),
        root => {
            let message = root.strip_backtrace();
            let refused = ["DDL not supported", "DML not supported", "Statement not supported"]
                .iter()
                .any(|m| message.contains(m));
            Error::BadRequest {
                message: if refused { format!("SQL here is read-only: {message}") } else { message },
                hint: Some("SHOW TABLES and DESCRIBE logs list what there is".into()),
            }
        }
    }
}

impl Answer {
    /// Adds rows up to the bounds; says which one they went beyond. One row is taken whatever it takes.
    fn append(&mut self, batch: &RecordBatch, limit: usize, max_bytes: usize) -> Result<Option<End>> {
        for row in 0..batch.num_rows() {
            if self.rows.len() >= limit {
                return Ok(Some(End::Rows));
            }
            let values = batch.columns().iter().map(|column| value(column, row, 0)).collect::<Result<Vec<_>>>()?;
            let bytes = size_of::<Vec<Value>>() + values.iter().map(memory_bytes).sum::<usize>();
            if !self.rows.is_empty() && self.bytes.saturating_add(bytes) > max_bytes {
                return Ok(Some(End::Bytes));
            }
            self.bytes += bytes;
            self.rows.push(values);
        }
        Ok(None)
    }
}

/// Memory of a value, about.
fn memory_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(memory_bytes).sum(),
            Value::Object(members) => members.iter().map(|(key, value)| size_of::<String>() + key.len() + memory_bytes(value)).sum(),
        }
}

/// A value as JSON: 64-bit integers, decimals, times and what JSON has no form for are text.
fn value(array: &ArrayRef, row: usize, depth: usize) -> Result<Value> {
    if array.is_null(row) || depth > MAX_VALUE_DEPTH {
        return Ok(Value::Null);
    }
    let double = |number: f64| match serde_json::Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    };
    let list = |items: ArrayRef| {
        (0..items.len())
            .map(|i| value(&items, i, depth + 1))
            .collect::<Result<Vec<_>>>()
            .map(Value::Array)
    };
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string().into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string().into(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::Float32 => double(f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::List(_) => list(array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            let mut out = serde_json::Map::new();
            for (field, column) in fields.iter().zip(columns.columns()) {
                out.insert(field.name().clone(), value(column, row, depth + 1)?);
            }
            Value::Object(out)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let mut out = serde_json::Map::new();
            for entry in 0..entries.len() {
                let key = match value(entries.column(0), entry, depth + 1)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                out.insert(key, value(entries.column(1), entry, depth + 1)?);
            }
            Value::Object(out)
        }
        _ => {
            let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));
            ArrayFormatter::try_new(array, &options)?.value(row).to_string().into()
        }
    })
}
