//! Blocks become one block in bounded memory: rows stream from the inputs into the new Parquet object, and indexes are
//! merged, not made again.
//!
//! What is held is a chunk of rows of each input and, for each row, its input and, where there is an index, its place and its context:
//! twelve bytes, or four. The objects are made in [`Scratch`] files. Three threads work for its time: one gathers rows, one encodes
//! them, one merges the indexes, if the table has any.

mod keys;
mod postings;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, interleave};

use super::build::{CHUNKS_IN_FLIGHT, MAX_CHUNK_BYTES, MAX_SERVICES, Made, join, pack_of, panic_text, write_columns};
use super::bundle::Seconds;
use super::columns::{ColumnsWriter, rows_checksum};
use super::directory::ScratchDirectory;
use super::{Block, BlockIndex, BuiltBlock, Error, Level, Result, Scan, Settings};
use crate::model::schema::{CONTEXT_COLUMN, memory_schema};
use crate::model::{Context, Table};
use crate::storage::Scratch;
use postings::GONE;
pub(super) use postings::contexts_of_rows;

/// Bytes of rows, by estimate, that are read ahead of all inputs together.
const READ_AHEAD_BYTES: u64 = 48 << 20;
/// Rows of an input that are read at a time, within that.
const BATCH_ROWS: u64 = 8 * 1024;

/// A block to be merged.
pub(super) struct Input<'a> {
    pub block: &'a Block,
    /// Rows that go, hidden ones left out; `None`: no more than those.
    pub dropped: Option<BooleanBuffer>,
}

impl Input<'_> {
    fn stays(&self, row: usize) -> bool {
        !self.dropped.as_ref().is_some_and(|dropped| dropped.value(row)) && !self.block.meta().hidden.contains(row as u32)
    }
    fn all_stay(&self) -> bool {
        self.dropped.is_none() && self.block.meta().hidden.is_empty()
    }
}

/// Whether blocks can be merged so: their table has no index, or all of them have theirs.
pub(super) fn can_merge(table: Table, blocks: &[&Block], settings: &Settings) -> bool {
    !table.is_searchable() || (settings.index && blocks.iter().all(|block| block.index().is_some()))
}

/// Builds one block of the rows that stay; `None` when there are none. The inputs are of one table and partition, and
/// [`can_merge`]. [`Error::is_index`] when an index does not hold together: the rows may still be merged.
pub(super) fn merge(
    inputs: &[Input<'_>],
    level: Level,
    partition_nanos: i64,
    settings: &Settings,
    scratch: &Scratch,
    now_nanos: i64,
) -> Result<Option<BuiltBlock>> {
    let merge = || match Merge::new(inputs)? {
        Some(merge) => merge.run(level, partition_nanos, settings, scratch, now_nanos).map(Some),
        None => Ok(None),
    };
    let has_index = inputs.first().is_some_and(|input| input.block.meta().table.is_searchable());
    // tantivy panics on some damage; if it was arrow, reading the rows again will tell
    catch_unwind(AssertUnwindSafe(merge)).unwrap_or_else(|panic| {
        let reason = panic_text(&panic);
        Err(if has_index { Error::index(reason) } else { Error::Build(reason) })
    })
}

/// What is known of the inputs before rows are read.
struct Merge<'a> {
    table: Table,
    inputs: Vec<Known<'a>>,
    contexts: Vec<Arc<Context>>,
    /// Of each row of the new block, its input; rows of one input keep their order.
    order: Vec<u32>,
    seconds: Seconds,
    times: (i64, i64),
    ingest_ids: (i64, i64),
}

struct Known<'a> {
    input: &'a Input<'a>,
    /// `None` if its table has none.
    index: Option<KnownIndex<'a>>,
}

struct KnownIndex<'a> {
    index: &'a BlockIndex,
    /// The context of each row that stays, by its number in this block.
    contexts_of_rows: Vec<u32>,
    /// The new number of each context.
    contexts: Vec<Option<u32>>,
    /// The new number of each row.
    rows: Vec<u32>,
}

impl<'a> Merge<'a> {
    fn new(inputs: &'a [Input<'a>]) -> Result<Option<Self>> {
        let Some(first) = inputs.first() else { return Ok(None) };
        let table = first.block.meta().table;
        let mut known = Vec::with_capacity(inputs.len());
        let mut contexts = Vec::new();
        let mut numbers: HashMap<u128, u32> = HashMap::new();
        let mut n_rows = 0;
        for input in inputs {
            n_rows += input.block.n_rows() as usize;
            if !table.is_searchable() {
                known.push(Known { input, index: None });
                continue;
            }
            let index = input.block.index().ok_or_else(|| Error::index("there is none"))?;
            let mut contexts_of_rows = index.contexts_of_rows()?;
            let rows = vec![GONE; contexts_of_rows.len()];
            if !input.all_stay() {
                let mut row = 0..;
                contexts_of_rows.retain(|_| row.next().is_some_and(|row| input.stays(row)));
            }
            let mut renumbered: Vec<Option<u32>> = vec![None; index.contexts().len()];
            for context in &contexts_of_rows {
                let context = *context as usize;
                if renumbered[context].is_none() {
                    let context_of_row = &index.contexts()[context];
                    let new = *numbers.entry(context_of_row.hash()).or_insert_with(|| {
                        contexts.push(Arc::clone(context_of_row));
                        contexts.len() as u32 - 1
                    });
                    renumbered[context] = Some(new);
                }
            }
            let index = KnownIndex {
                index,
                contexts_of_rows,
                contexts: renumbered,
                rows,
            };
            known.push(Known { input, index: Some(index) });
        }
        if n_rows >= i32::MAX as usize {
            return Err(Error::Build(format!("{n_rows} rows are too many for one block")));
        }
        let mut order = Vec::with_capacity(n_rows);
        let Some(span) = keys::merge(inputs, table, |input, row| {
            if let Some(index) = &mut known[input as usize].index {
                index.rows[row as usize] = order.len() as u32;
            }
            order.push(input);
        })?
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            table,
            inputs: known,
            contexts,
            order,
            seconds: Seconds::new(span.seconds.iter().copied(), span.times.0, span.times.1),
            times: span.times,
            ingest_ids: span.ingest_ids,
        }))
    }

    fn run(self, level: Level, partition_nanos: i64, settings: &Settings, scratch: &Scratch, now_nanos: i64) -> Result<BuiltBlock> {
        let n_rows = self.order.len() as u64;
        let checksum = rows_checksum(n_rows, self.times.0, self.times.1);
        let has_index = self.table.is_searchable();
        let expected_bytes = self.inputs.iter().map(|known| known.input.block.meta().parquet_bytes as usize).sum();
        let file = scratch.file(expected_bytes).map_err(Error::Scratch)?;
        let columns = ColumnsWriter::try_new(self.table, level, &self.contexts, settings, checksum, file)?;
        let (parquet, index, fed) = std::thread::scope(|scope| {
            let (to_columns, chunks) = sync_channel(CHUNKS_IN_FLIGHT);
            let columns = scope.spawn(move || write_columns(columns, chunks));
            let index = has_index.then(|| scope.spawn(|| self.merge_indexes(scratch)));
            let fed = self.feed(settings, READ_AHEAD_BYTES, |chunk| {
                let stopped = |_| Error::Build("the Parquet writer stopped".into());
                to_columns.send(chunk).map_err(stopped)
            });
            drop(to_columns);
            // a thread that failed is why feeding stopped: its error is the one to tell
            let parquet = join(columns)?;
            let index = index.map(join).transpose().map_err(|error| match error {
                // a panic: see `merge`
                Error::Build(reason) => Error::index(reason),
                error => error,
            });
            Ok::<_, Error>((parquet, index?, fed?))
        })?;
        let pack = |(index, raw)| pack_of(index, &raw, &self.seconds, (n_rows, self.times), &self.contexts, &parquet, scratch);
        let index = index.map(pack).transpose()?;
        tracing::debug!(
            table = self.table.name(),
            rows = n_rows,
            inputs = self.inputs.len(),
            rows_held = fed.most_rows_held,
            "merged"
        );
        let made = Made {
            table: self.table,
            level,
            partition_nanos,
            now_nanos,
            n_rows,
            times: self.times,
            ingest_ids: self.ingest_ids,
            memory_bytes: fed.memory_bytes,
            n_in_progress: fed.n_in_progress,
            n_spans_alone: (self.table == Table::Logs).then_some(fed.n_spans_alone),
            services: match has_index {
                true => super::build::few_services(self.contexts.iter().map(|context| context.service_name())),
                false => fed.services.few(),
            },
        };
        Ok(made.block(parquet, index))
    }

    fn merge_indexes(&self, scratch: &Scratch) -> Result<(tantivy::Index, ScratchDirectory)> {
        let inputs: Vec<postings::Input<'_>> = self
            .inputs
            .iter()
            .filter_map(|known| known.index.as_ref())
            .map(|known| {
                let (text, terms) = known.index.readers();
                postings::Input {
                    text,
                    terms,
                    rows: &known.rows,
                    contexts: &known.contexts,
                }
            })
            .collect();
        postings::merge(&inputs, self.order.len() as u32, scratch)
    }

    /// Reads rows in order and hands them on chunk by chunk.
    fn feed(&self, settings: &Settings, read_ahead_bytes: u64, mut hand_on: impl FnMut(RecordBatch) -> Result<()>) -> Result<Fed> {
        let blocks = || self.inputs.iter().map(|known| known.input.block);
        let bytes: u64 = blocks().map(|block| block.meta().rows_memory_bytes()).sum();
        let rows: u64 = blocks().map(|block| u64::from(block.n_rows())).sum();
        let row_bytes = bytes / rows.max(1) + 1;
        let chunk_rows = settings.chunk_rows.min(MAX_CHUNK_BYTES / row_bytes as usize).max(1);
        let ahead = read_ahead_bytes / row_bytes / self.inputs.len() as u64;
        let batch_rows = ahead.clamp(1, BATCH_ROWS) as usize;
        let schema = memory_schema(self.table);
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .filter(|name| *name != CONTEXT_COLUMN)
            .collect();
        let windows = self.inputs.iter().map(|known| Window::open(known.input, &names, batch_rows));
        let mut windows = windows.collect::<Result<Vec<_>>>()?;
        let mut fed = Fed {
            memory_bytes: self.contexts.iter().map(|context| context.memory_bytes() as u64).sum(),
            ..Fed::default()
        };
        let mut next_rows = vec![0u32; self.inputs.len()];
        let mut rows: Vec<(u32, u32)> = Vec::with_capacity(chunk_rows.min(self.order.len()));
        for inputs in self.order.chunks(chunk_rows) {
            rows.clear();
            for input in inputs {
                let next = &mut next_rows[*input as usize];
                rows.push((*input, *next));
                *next += 1;
            }
            let chunk = self.gather(&rows, &mut windows)?;
            let n_held: usize = windows.iter().map(Window::n_held).sum();
            fed.most_rows_held = fed.most_rows_held.max(n_held + chunk.num_rows());
            fed.memory_bytes += chunk.get_array_memory_size() as u64;
            let in_progress = chunk.column_by_name("in_progress").and_then(|column| column.as_boolean_opt());
            fed.n_in_progress += in_progress.map_or(0, |column| column.true_count() as u64);
            fed.n_spans_alone += super::build::n_spans_alone(self.table, &chunk).unwrap_or(0);
            if let Some(services) = chunk.column_by_name("service_name").and_then(|column| column.as_string_opt::<i32>()) {
                fed.services.add(services.iter().flatten());
            }
            hand_on(chunk)?;
        }
        Ok(fed)
    }

    /// Some rows, in memory schema; behind those that were gathered before. A row is told by its input and its number among those of it
    /// that stay.
    fn gather(&self, rows: &[(u32, u32)], windows: &mut [Window]) -> Result<RecordBatch> {
        // of each input, the first and last row
        let mut bounds: Vec<Option<(u32, u32)>> = vec![None; windows.len()];
        for (input, row) in rows {
            let bounds = &mut bounds[*input as usize];
            *bounds = Some((bounds.map_or(*row, |(first, _)| first), *row));
        }
        let mut batches: Vec<&RecordBatch> = Vec::new();
        // of each input, its batches: where they begin, and their place among all
        let mut places: Vec<Vec<(u32, usize)>> = Vec::with_capacity(windows.len());
        for (window, bounds) in windows.iter_mut().zip(bounds) {
            let mut starts = Vec::new();
            if let Some((first, last)) = bounds {
                window.move_to(first, last)?;
                for (start, batch) in &window.batches {
                    starts.push((*start, batches.len()));
                    batches.push(batch);
                }
            }
            places.push(starts);
        }
        let indices: Vec<(usize, usize)> = rows
            .iter()
            .map(|(input, row)| {
                let starts = &places[*input as usize];
                let (start, batch) = starts[starts.partition_point(|(start, _)| start <= row) - 1];
                (batch, (row - start) as usize)
            })
            .collect();
        let schema = memory_schema(self.table);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            if field.name() == CONTEXT_COLUMN {
                let contexts = rows.iter().map(|(input, row)| {
                    let index = self.inputs[*input as usize].index.as_ref();
                    // a row that stays has a context that does
                    index
                        .and_then(|index| index.contexts[index.contexts_of_rows[*row as usize] as usize])
                        .unwrap_or_default() as i32
                });
                columns.push(Arc::new(Int32Array::from_iter_values(contexts)));
                continue;
            }
            // the windows' columns are in the order of this schema
            let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(columns.len()).as_ref()).collect();
            columns.push(interleave(&arrays, &indices)?);
        }
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// What feeding found out.
#[derive(Default)]
struct Fed {
    memory_bytes: u64,
    n_in_progress: u64,
    n_spans_alone: u64,
    services: Services,
    /// In the windows and the chunk made of them.
    most_rows_held: usize,
}

/// Different names, as long as they are few.
#[derive(Default)]
struct Services(BTreeSet<String>);

impl Services {
    fn add<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        for name in names {
            if self.0.len() <= MAX_SERVICES && !self.0.contains(name) {
                self.0.insert(name.to_string());
            }
        }
    }
    fn few(self) -> Option<Vec<String>> {
        super::build::few_services(self.0.iter().map(|name| Some(name.as_str())))
    }
}

/// The rows of an input that are in memory: a few batches that move on. Only rows that stay, numbered from 0.
struct Window<'a> {
    input: &'a Input<'a>,
    scan: Scan,
    /// Of the block, behind those that were read.
    next_row: usize,
    /// Behind those that were read.
    next: u32,
    batches: VecDeque<(u32, RecordBatch)>,
}

impl<'a> Window<'a> {
    fn open(input: &'a Input<'a>, columns: &[&str], batch_rows: usize) -> Result<Self> {
        Ok(Self {
            input,
            scan: input.block.scan_by(0..input.block.n_rows(), columns, batch_rows)?,
            next_row: 0,
            next: 0,
            batches: VecDeque::new(),
        })
    }

    /// Holds rows `first..=last` and none in batches before; never moves back.
    fn move_to(&mut self, first: u32, last: u32) -> Result<()> {
        while self.next <= last {
            let (start, batch) = (self.next, self.read()?);
            self.next += batch.num_rows() as u32;
            if self.next > first && batch.num_rows() > 0 {
                self.batches.push_back((start, batch));
            }
        }
        while self.batches.front().is_some_and(|(start, batch)| start + (batch.num_rows() as u32) <= first) {
            self.batches.pop_front();
        }
        Ok(())
    }

    /// What stays of the next batch: rows that go, and there may be many, are not held until those around them are wanted.
    fn read(&mut self) -> Result<RecordBatch> {
        let next = self.scan.next();
        let batch = next.unwrap_or_else(|| Err(Error::Build("a block has fewer rows than it says".into())))?;
        let rows = self.next_row..self.next_row + batch.num_rows();
        self.next_row = rows.end;
        if self.input.all_stay() {
            return Ok(batch);
        }
        let stays = BooleanArray::new(BooleanBuffer::from_iter(rows.map(|row| self.input.stays(row))), None);
        match stays.true_count() == batch.num_rows() {
            true => Ok(batch),
            false => Ok(filter_record_batch(&batch, &stays)?),
        }
    }

    fn n_held(&self) -> usize {
        self.batches.iter().map(|(_, batch)| batch.num_rows()).sum()
    }
}

#[cfg(test)]
mod tests;
