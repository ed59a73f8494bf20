//! Rows become the two objects of a block.
//!
//! One thread sorts and gathers rows chunk by chunk; one encodes Parquet, one indexes. Both take each chunk in order, so
//! that row n and document n are the same row.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use tantivy::store::Compressor;
use tantivy::{Index, IndexSettings};

use super::bundle::Seconds;
use super::columns::{ColumnsWriter, is_sorted_by_time, rows_checksum};
use super::directory::ScratchDirectory;
use super::document::{self, Documents, RowDocument};
use super::pack::{Own, Packed, pack};
use super::{BlockId, BlockMeta, Error, HiddenRows, Level, Result, Settings, tokenizer};
use crate::fail_point;
use crate::model::schema::{CONTEXT_COLUMN, SCHEMA_VERSION, memory_schema};
use crate::model::{Context, Rows, Table, TimeRange, unify_contexts};
use crate::storage::Scratch;
use crate::supervise;

/// Services that a block's meta names; a block with more names none.
pub(super) const MAX_SERVICES: usize = 32;
/// Chunks that wait for a slower thread.
pub(super) const CHUNKS_IN_FLIGHT: usize = 2;
/// Bytes of a chunk by estimate: a column's text must stay under 2 GiB.
pub(super) const MAX_CHUNK_BYTES: usize = 256 << 20;

/// A block just made, not yet stored.
#[derive(Clone, Debug)]
pub struct BuiltBlock {
    /// What the catalog will say of it.
    pub meta: BlockMeta,
    /// The Parquet object.
    pub parquet: Bytes,
    /// The index object, for searchable tables.
    pub index: Option<Bytes>,
}

impl BuiltBlock {
    /// Of both objects.
    pub fn n_bytes(&self) -> u64 {
        (self.parquet.len() + self.index.as_ref().map_or(0, Bytes::len)) as u64
    }
}

/// Builds one block of all rows of `parts`, which are of `table`, in any order, and lie in the partition that starts at
/// `partition_nanos` (the caller splits). Takes up to three threads for its time; the block is named after `now_nanos`.
///
/// Errors when there is no row, when rows are of another table, and on rows that outgrow their columns.
pub fn build(table: Table, partition_nanos: i64, level: Level, parts: &[Rows], settings: &Settings, now_nanos: i64) -> Result<BuiltBlock> {
    if parts.iter().any(|part| part.table() != table) {
        return Err(Error::Build(format!("rows of another table than {}", table.name())));
    }
    let build = || Builder::new(table, parts).and_then(|builder| builder.run(partition_nanos, level, settings, now_nanos));
    // arrow panics where a column outgrows its offsets; one such block must not end the thread that flushes
    catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| Err(Error::Build(panic_text(&panic))))
}

/// The words of a caught panic.
pub(super) fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    format!("panicked: {}", supervise::panic_text(&**panic))
}

struct Builder<'a> {
    table: Table,
    parts: &'a [Rows],
    contexts: Vec<Arc<Context>>,
    /// Each part's context numbers, over `contexts`.
    ordinals: Vec<Int32Array>,
    /// (part, row) in the block's order.
    order: Vec<(u32, u32)>,
    min_time_nanos: i64,
    max_time_nanos: i64,
}

impl<'a> Builder<'a> {
    fn new(table: Table, parts: &'a [Rows]) -> Result<Self> {
        let n_rows: usize = parts.iter().map(Rows::len).sum();
        if n_rows == 0 {
            return Err(Error::Build("no rows".into()));
        }
        // one document number is tantivy's end mark
        if n_rows >= i32::MAX as usize {
            return Err(Error::Build(format!("{n_rows} rows are too many for one block")));
        }
        let (contexts, ordinals) = used_contexts(table, parts);
        let bounds = parts.iter().filter_map(Rows::time_bounds);
        let (min_time_nanos, max_time_nanos) = bounds.fold((i64::MAX, i64::MIN), |(min, max), (a, b)| (min.min(a), max.max(b)));
        Ok(Self {
            table,
            parts,
            contexts,
            ordinals,
            order: order(table, parts, n_rows)?,
            min_time_nanos,
            max_time_nanos,
        })
    }

    fn run(self, partition_nanos: i64, level: Level, settings: &Settings, now_nanos: i64) -> Result<BuiltBlock> {
        let n_rows = self.order.len() as u64;
        let checksum = rows_checksum(n_rows, self.min_time_nanos, self.max_time_nanos);
        let file = Scratch::memory().file(0).map_err(Error::Scratch)?;
        let columns = ColumnsWriter::try_new(self.table, level, &self.contexts, settings, checksum, file)?;
        let indexed = settings.index && self.table.is_searchable();
        let (parquet, index, memory_bytes) = std::thread::scope(|scope| {
            let (to_columns, chunks) = sync_channel(CHUNKS_IN_FLIGHT);
            let columns = scope.spawn(move || write_columns(columns, chunks));
            let (to_index, documents) = sync_channel(CHUNKS_IN_FLIGHT);
            let index = indexed.then(|| scope.spawn(|| self.write_index(settings, documents)));
            let fed = self.feed(settings, to_columns, index.is_some().then_some(to_index));
            // a thread that failed is why feeding stopped: its error is the one to tell
            let parquet = join(columns)?;
            let index = index.map(join).transpose()?;
            fed.map(|memory_bytes| (parquet, index, memory_bytes))
        })?;
        let times = (self.min_time_nanos, self.max_time_nanos);
        let index = index.map(|(index, raw)| {
            let time_of = |(part, row): &(u32, u32)| self.parts[*part as usize].times().value(*row as usize);
            let seconds = Seconds::new(self.order.iter().map(|at| (time_of(at), 1)), times.0, times.1);
            pack_of(index, &raw, &seconds, (n_rows, times), &self.contexts, &parquet, &Scratch::memory())
        });
        let made = Made {
            table: self.table,
            level,
            partition_nanos,
            now_nanos,
            n_rows,
            times,
            ingest_ids: self.ingest_ids(),
            memory_bytes,
            n_in_progress: self.n_in_progress(),
            n_spans_alone: self.parts.iter().map(|part| n_spans_alone(self.table, part.batch())).sum(),
            services: self.services(),
        };
        Ok(made.block(parquet, index.transpose()?))
    }

    fn ingest_ids(&self) -> (i64, i64) {
        let parts = self.parts.iter().filter(|part| !part.is_empty());
        let ids = parts.flat_map(|part| ingest_ids(part).values().iter().copied());
        ids.fold((i64::MAX, i64::MIN), |(min, max), id| (min.min(id), max.max(id)))
    }

    fn n_in_progress(&self) -> u64 {
        let of_part = |part: &Rows| {
            let column = part.batch().column_by_name("in_progress").and_then(|column| column.as_boolean_opt());
            column.map_or(0, |column| column.true_count() as u64)
        };
        self.parts.iter().map(of_part).sum()
    }

    /// Gathers rows in order and hands each chunk to both writers. Gives the memory that they take in all.
    fn feed(&self, settings: &Settings, columns: SyncSender<RecordBatch>, index: Option<SyncSender<Arc<Documents>>>) -> Result<u64> {
        let bytes: usize = self.parts.iter().map(Rows::memory_bytes).sum();
        let by_bytes = MAX_CHUNK_BYTES / (bytes / self.order.len() + 1);
        let chunk_rows = settings.chunk_rows.min(by_bytes).max(1);
        let mut memory_bytes = self.contexts.iter().map(|context| context.memory_bytes() as u64).sum();
        for rows in self.order.chunks(chunk_rows) {
            let chunk = self.gather(rows)?;
            memory_bytes += chunk.get_array_memory_size() as u64;
            if columns.send(chunk.clone()).is_err() {
                return Err(Error::Build("the Parquet writer stopped".into()));
            }
            if let (Some(index), Some(contexts)) = (&index, chunk.column_by_name(CONTEXT_COLUMN)) {
                let documents = Documents::new(self.table, &chunk, contexts.as_primitive::<Int32Type>().values())?;
                if index.send(Arc::new(documents)).is_err() {
                    return Err(Error::Build("the index writer stopped".into()));
                }
            }
        }
        Ok(memory_bytes)
    }

    /// Some rows, in memory schema.
    fn gather(&self, rows: &[(u32, u32)]) -> Result<RecordBatch> {
        let mut parts: Vec<usize> = Vec::new();
        let mut local: HashMap<u32, usize> = HashMap::new();
        let mut last = (u32::MAX, 0);
        let indices: Vec<(usize, usize)> = rows
            .iter()
            .map(|(part, row)| {
                if last.0 != *part {
                    let number = *local.entry(*part).or_insert_with(|| {
                        parts.push(*part as usize);
                        parts.len() - 1
                    });
                    last = (*part, number);
                }
                (last.1, *row as usize)
            })
            .collect();
        let schema = memory_schema(self.table);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for (index, field) in schema.fields().iter().enumerate() {
            let is_context = self.table.is_searchable() && field.name() == CONTEXT_COLUMN;
            let arrays: Vec<&dyn Array> = parts
                .iter()
                .map(|part| match is_context {
                    true => &self.ordinals[*part] as &dyn Array,
                    false => self.parts[*part].batch().column(index).as_ref(),
                })
                .collect();
            columns.push(interleave(&arrays, &indices)?);
        }
        Ok(RecordBatch::try_new(schema, columns)?)
    }

    fn write_index(&self, settings: &Settings, documents: Receiver<Arc<Documents>>) -> Result<(Index, ScratchDirectory)> {
        fail_point::hit("flush.before_index");
        let directory = ScratchDirectory::new(Scratch::memory());
        let mut writer = Index::builder()
            .schema(document::schema())
            .settings(index_settings())
            .tokenizers(document::tokenizers())
            .single_segment_index_writer::<RowDocument>(directory.clone(), settings.index_memory_bytes)
            .map_err(Error::index)?;
        for documents in documents {
            for row in 0..documents.len() {
                let documents = documents.clone();
                writer.add_document(RowDocument { documents, row }).map_err(Error::index)?;
            }
        }
        Ok((writer.finalize().map_err(Error::index)?, directory))
    }

    fn services(&self) -> Option<Vec<String>> {
        if self.table.is_searchable() {
            return few_services(self.contexts.iter().map(|context| context.service_name()));
        }
        let columns = self.parts.iter().filter_map(|part| part.batch().column_by_name("service_name"));
        few_services(columns.flat_map(|column| column.as_string::<i32>()))
    }
}

/// The different names, sorted, if they are few.
pub(super) fn few_services<'n>(names: impl Iterator<Item = Option<&'n str>>) -> Option<Vec<String>> {
    let mut services = BTreeSet::new();
    for name in names.flatten() {
        if !services.contains(name) {
            services.insert(name.to_string());
            if services.len() > MAX_SERVICES {
                return None;
            }
        }
    }
    Some(services.into_iter().collect())
}

/// How tantivy writes: no documents are stored.
pub(super) fn index_settings() -> IndexSettings {
    IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}

/// The bundle of an index that was written to `raw`, over so many rows, from the first time to the last.
pub(super) fn pack_of(
    index: Index,
    raw: &ScratchDirectory,
    seconds: &Seconds,
    (n_rows, bounds): (u64, (i64, i64)),
    contexts: &[Arc<Context>],
    parquet: &Bytes,
    scratch: &Scratch,
) -> Result<Packed> {
    let own = Own {
        n_rows,
        times: TimeRange {
            start_nanos: bounds.0,
            end_nanos: bounds.1,
        },
        contexts,
        seconds,
        parquet,
    };
    pack(&index, raw, &own, scratch)
}

/// What is known of a block just made, besides its objects.
pub(super) struct Made {
    pub table: Table,
    pub level: Level,
    pub partition_nanos: i64,
    pub now_nanos: i64,
    pub n_rows: u64,
    /// Of its rows, first and last.
    pub times: (i64, i64),
    /// Of its rows, least and greatest.
    pub ingest_ids: (i64, i64),
    pub memory_bytes: u64,
    pub n_in_progress: u64,
    pub n_spans_alone: Option<u64>,
    pub services: Option<Vec<String>>,
}

/// Of log records, how many have a span ID and no trace ID.
pub(super) fn n_spans_alone(table: Table, rows: &RecordBatch) -> Option<u64> {
    if table != Table::Logs {
        return None;
    }
    let (trace_ids, span_ids) = (
        rows.column_by_name("trace_id")?.logical_nulls(),
        rows.column_by_name("span_id")?.logical_nulls(),
    );
    let Some(trace_ids) = trace_ids else { return Some(0) };
    let is_alone = |row: &usize| trace_ids.is_null(*row) && span_ids.as_ref().is_none_or(|span_ids| span_ids.is_valid(*row));
    Some((0..rows.num_rows()).filter(is_alone).count() as u64)
}

impl Made {
    pub(super) fn block(self, parquet: Bytes, index: Option<Packed>) -> BuiltBlock {
        let (index, index_tail_bytes) = index.map_or((None, 0), |packed| (Some(packed.bytes), packed.tail_bytes));
        let meta = BlockMeta {
            id: BlockId::new(self.now_nanos),
            table: self.table,
            level: self.level,
            partition_nanos: self.partition_nanos,
            n_rows: self.n_rows,
            min_time_nanos: self.times.0,
            max_time_nanos: self.times.1,
            parquet_bytes: parquet.len() as u64,
            parquet_crc32c: crc32c::crc32c(&parquet),
            index_bytes: index.as_ref().map_or(0, |index| index.len() as u64),
            index_crc32c: index.as_ref().map_or(0, |index| crc32c::crc32c(index)),
            index_tail_bytes,
            memory_bytes: self.memory_bytes,
            schema_version: SCHEMA_VERSION,
            tokenizer_version: tokenizer::VERSION,
            min_ingest_id: self.ingest_ids.0,
            max_ingest_id: self.ingest_ids.1,
            services: self.services,
            n_in_progress: self.n_in_progress,
            n_spans_alone: self.n_spans_alone,
            hidden: HiddenRows::default(),
        };
        BuiltBlock { meta, parquet, index }
    }
}

pub(super) fn write_columns(mut writer: ColumnsWriter, chunks: Receiver<RecordBatch>) -> Result<Bytes> {
    for chunk in chunks {
        writer.write(&chunk)?;
    }
    writer.finish()
}

pub(super) fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| Err(Error::Build(panic_text(&panic))))
}

fn ingest_ids(part: &Rows) -> &arrow::array::Int64Array {
    part.batch()
        .column_by_name("ingest_id")
        .expect("every memory schema has ingest_id, and Rows checked it")
        .as_primitive::<Int64Type>()
}

/// One list of the contexts that rows really name, and each part's numbers into it.
fn used_contexts(table: Table, parts: &[Rows]) -> (Vec<Arc<Context>>, Vec<Int32Array>) {
    if !table.is_searchable() {
        return (Vec::new(), Vec::new());
    }
    let (contexts, ordinals) = unify_contexts(parts);
    let mut numbers = vec![-1i32; contexts.len()];
    let mut used = Vec::new();
    let ordinals = ordinals
        .iter()
        .map(|part| {
            Int32Array::from_iter_values(part.values().iter().map(|old| {
                let number = &mut numbers[*old as usize];
                if *number < 0 {
                    *number = used.len() as i32;
                    used.push(contexts[*old as usize].clone());
                }
                *number
            }))
        })
        .collect();
    (used, ordinals)
}

/// The rows of all parts in the table's order.
fn order(table: Table, parts: &[Rows], n_rows: usize) -> Result<Vec<(u32, u32)>> {
    fn sorted<K: Ord>(parts: &[Rows], n_rows: usize, mut key: impl FnMut(usize, usize) -> K) -> Vec<(u32, u32)> {
        let mut keyed: Vec<(K, (u32, u32))> = Vec::with_capacity(n_rows);
        for (p, part) in parts.iter().enumerate() {
            keyed.extend((0..part.len()).map(|row| (key(p, row), (p as u32, row as u32))));
        }
        // stable: it runs through what is in order already, and rows are mostly
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        keyed.into_iter().map(|(_, at)| at).collect()
    }
    let times: Vec<&[i64]> = parts.iter().map(|part| part.times().values().as_ref()).collect();
    let ids: Vec<&[i64]> = parts.iter().map(|part| ingest_ids(part).values().as_ref()).collect();
    if is_sorted_by_time(table) {
        return Ok(sorted(parts, n_rows, |part, row| (!times[part][row], !ids[part][row])));
    }
    let column = |part: &'_ Rows, name: &str| {
        let found = part.batch().column_by_name(name).cloned();
        found.ok_or_else(|| Error::Build(format!("no column {name}")))
    };
    let names: Vec<ArrayRef> = parts.iter().map(|part| column(part, "metric_name")).collect::<Result<_>>()?;
    let names: Vec<_> = names.iter().map(|names| names.as_string::<i32>()).collect();
    let different: BTreeSet<&str> = names.iter().flat_map(|names| names.iter().flatten()).collect();
    let ranks: HashMap<&str, u32> = different.into_iter().zip(0..).collect();
    let series: Vec<ArrayRef> = parts.iter().map(|part| column(part, "series_id")).collect::<Result<_>>()?;
    let series: Vec<&[i64]> = series.iter().map(|ids| ids.as_primitive::<Int64Type>().values().as_ref()).collect();
    Ok(sorted(parts, n_rows, |part, row| {
        let rank = ranks.get(names[part].value(row)).copied().unwrap_or(0);
        (rank, series[part][row], times[part][row], ids[part][row])
    }))
}
