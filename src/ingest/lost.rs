//! Which traces lose spans to a delete, for whoever keeps what is made of traces ([`crate::assemble`]): rows of `traces` have
//! the users, annotations and URLs of spans, and must not outlive them.
//!
//! A note is a state document, written before the spans go: a crash in between leaves a note too many, never one too few. It is
//! due once the spans are gone, the block they stood in no longer live or the flush that left them out committed, and it is kept
//! until whoever has dealt with it says so. Which rows of `traces` are too old then is an order like any delete, whose query are
//! trace IDs and revisions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use bytes::Bytes;

use super::erase::{DeleteError, RowTest};
use super::metrics::UNREADABLE_NOTES;
use super::{Ingest, Inner};
use crate::block::{self, Block, BlockId};
use crate::catalog::CommitId;
use crate::model::{Column, Rows, Table, TimeRange, TraceId};
use crate::wal::Lsn;

/// The keys of notes.
const PREFIX: &str = "erased/";
/// Traces of one note.
const TRACES_PER_NOTE: usize = 4_000;
/// Bytes of notes that wait; more spans are not deleted from blocks until some are dealt with.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// Spans that are read at a time.
const ROWS_AT_ONCE: usize = 16_384;
/// Characters of a trace ID.
const ID_CHARS: usize = 32;

/// Traces, and when the spans began that they lose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub traces: BTreeSet<TraceId>,
    /// First start, nanoseconds since the epoch.
    pub first_nanos: i64,
    /// Last start.
    pub last_nanos: i64,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Note {
    v: u32,
    first_nanos: i64,
    last_nanos: i64,
    /// IDs, one behind the other.
    traces: String,
}

impl Lost {
    fn add(&mut self, id: &str, nanos: i64) {
        let Some(id) = TraceId::from_hex(id) else { return };
        let is_first = self.traces.is_empty();
        self.first_nanos = if is_first { nanos } else { self.first_nanos.min(nanos) };
        self.last_nanos = if is_first { nanos } else { self.last_nanos.max(nanos) };
        self.traces.insert(id);
    }

    fn add_rows(&mut self, ids: &ArrayRef, times: &ArrayRef, rows: impl Iterator<Item = usize>) -> block::Result<()> {
        let (Some(ids), Some(times)) = (ids.as_string_opt::<i32>(), times.as_primitive_opt::<Int64Type>()) else {
            return Err(block::Error::Build("trace IDs and times of spans are of another type".into()));
        };
        rows.for_each(|row| self.add(ids.value(row), times.value(row)));
        Ok(())
    }

    /// Adds traces of spans of the head.
    pub(super) fn add_from(&mut self, spans: &Rows, rows: impl Iterator<Item = usize>) -> block::Result<()> {
        match (spans.column("trace_id"), spans.column(Table::Spans.time_column())) {
            (Some(Column::PerRow(ids)), Some(Column::PerRow(times))) => self.add_rows(ids, times, rows),
            _ => Err(block::Error::Build("spans lack trace IDs or times".into())),
        }
    }

    /// Those of a block's rows; none of a block of another table.
    pub(super) fn of_block(block: &Block, gone: &BooleanBuffer) -> block::Result<Lost> {
        let mut lost = Lost::default();
        if block.meta().table != Table::Spans {
            return Ok(lost);
        }
        let rows: Vec<u32> = gone.set_indices().map(|row| row as u32).collect();
        for some in rows.chunks(ROWS_AT_ONCE) {
            let batch = block.read(some, &["trace_id", Table::Spans.time_column()])?;
            lost.add_rows(batch.column(0), batch.column(1), 0..batch.num_rows())?;
        }
        Ok(lost)
    }

    fn notes(&self) -> Vec<Bytes> {
        let ids: Vec<&TraceId> = self.traces.iter().collect();
        let note = |ids: &[&TraceId]| Note {
            v: 1,
            first_nanos: self.first_nanos,
            last_nanos: self.last_nanos,
            traces: ids.iter().map(|id| id.to_string()).collect(),
        };
        let notes = ids.chunks(TRACES_PER_NOTE).map(note);
        notes.map(|note| serde_json::to_vec(&note).expect("a note has a JSON form").into()).collect()
    }

    fn read(bytes: &[u8]) -> Option<Lost> {
        let note: Note = serde_json::from_slice(bytes).ok()?;
        let ids = (0..note.traces.len() / ID_CHARS).map(|n| TraceId::from_hex(note.traces.get(n * ID_CHARS..(n + 1) * ID_CHARS)?));
        Some(Lost {
            traces: ids.collect::<Option<_>>()?,
            first_nanos: note.first_nanos,
            last_nanos: note.last_nanos,
        })
    }
}

/// Is told which traces lose spans, before they do.
#[async_trait]
pub trait Losses: Send + Sync + std::fmt::Debug {
    /// Notes that a block is about to lose spans; the note survives a crash. If it fails, in words, the block stays as it is.
    async fn note(&self, block: &BlockId, lost: &Lost) -> Result<(), String>;
}

#[async_trait]
impl Losses for Ingest {
    async fn note(&self, block: &BlockId, lost: &Lost) -> Result<(), String> {
        if !self.inner.notes_losses.load(Ordering::Relaxed) {
            return Ok(());
        }
        let waiting: usize = self.states(PREFIX).iter().map(|(_, note)| note.len()).sum();
        if waiting > MAX_WAITING_BYTES {
            return Err("the summaries of too many traces wait to be corrected for deletes; the rest follows".into());
        }
        for (number, note) in lost.notes().into_iter().enumerate() {
            let noted = self.put_state(&format!("{PREFIX}block/{}/{number}", block.as_str()), Some(note)).await;
            noted.map_err(|refused| refused.to_string())?;
        }
        Ok(())
    }
}

impl Inner {
    /// Notes which traces lose spans to a flush; the flush's own record commits it.
    pub(super) fn note_lost(&self, lost: &Lost, flushed_up_to: Lsn) {
        if !self.notes_losses.load(Ordering::Relaxed) || lost.traces.is_empty() {
            return;
        }
        self.note_state_waits();
        let mut states = self.states.lock();
        for (number, note) in lost.notes().into_iter().enumerate() {
            states.set(format!("{PREFIX}flush/{flushed_up_to}/{number}"), Some(note));
        }
    }
}

impl Ingest {
    /// From now on it is noted which traces lose spans: someone deals with the notes.
    pub fn note_losses(&self) {
        self.inner.notes_losses.store(true, Ordering::Relaxed);
    }

    /// The notes whose spans are gone, each with its key.
    pub fn lost(&self) -> Vec<(String, Lost)> {
        let notes = self.states(PREFIX);
        if notes.is_empty() {
            return Vec::new();
        }
        let catalog = self.catalog();
        let snapshot = catalog.snapshot();
        let flushed = snapshot.flushed_lsn(catalog.node());
        let is_due = |key: &str| match key.strip_prefix(PREFIX).map(|key| key.split('/').collect::<Vec<_>>()).as_deref() {
            Some(["block", id, _]) => !snapshot.blocks(Table::Spans).iter().any(|meta| meta.id.as_str() == *id),
            Some(["flush", lsn, _]) => lsn.parse::<Lsn>().is_ok_and(|lsn| lsn <= flushed),
            _ => false,
        };
        let due = notes.into_iter().filter(|(key, _)| is_due(key));
        due.filter_map(|(key, note)| match Lost::read(&note) {
            Some(lost) => Some((key, lost)),
            None => {
                // the notes are looked at again and again
                if self.inner.unreadable_notes.lock().insert(key.clone()) {
                    tracing::error!(
                        key,
                        "a note of traces that have lost spans to a delete cannot be read: their summaries keep what those spans said. The note stays"
                    );
                    UNREADABLE_NOTES.inc();
                }
                None
            }
        })
        .collect()
    }

    /// A note was dealt with.
    pub async fn forget_lost(&self, key: &str) -> Result<(), String> {
        self.put_state(key, None).await.map_err(|refused| refused.to_string())
    }

    /// An error, in words, while so many orders of [`Self::delete_old_traces`] are under way that none is taken.
    pub fn has_room_for_old_traces(&self) -> Result<(), String> {
        self.has_room_for_delete(Table::Traces).map_err(|error| error.to_string())
    }

    /// Orders rows of `traces` that lie in a time to be deleted: of each trace those with a revision below the given one.
    pub async fn delete_old_traces(&self, below: &[(TraceId, i32)], range: TimeRange) -> Result<CommitId, DeleteError> {
        let lines: Vec<String> = below.iter().map(|(id, revision)| format!("{id} {revision}")).collect();
        self.order(Table::Traces, &lines.join("\n"), range).await
    }
}

/// Rows of `traces` below a revision.
#[derive(Debug)]
pub(super) struct OldTraces(HashMap<String, i32>);

impl OldTraces {
    /// Reads what [`Ingest::delete_old_traces`] wrote.
    pub(super) fn read(query: &str) -> Result<Arc<dyn RowTest>, String> {
        let line = |line: &str| {
            let (id, revision) = line.split_once(' ')?;
            Some((TraceId::from_hex(id)?.to_string(), revision.parse().ok()?))
        };
        let below = query.lines().map(line).collect::<Option<_>>().ok_or("it is no list of traces and revisions")?;
        Ok(Arc::new(OldTraces(below)))
    }

    fn test(&self, ids: &ArrayRef, revisions: &ArrayRef, times: &ArrayRef, range: &TimeRange) -> Result<BooleanBuffer, String> {
        let (Some(ids), Some(revisions)) = (ids.as_string_opt::<i32>(), revisions.as_primitive_opt::<Int32Type>()) else {
            return Err("trace IDs and revisions are of another type".into());
        };
        let times = times.as_primitive_opt::<Int64Type>().ok_or("times of traces are of another type")?;
        Ok(BooleanBuffer::collect_bool(ids.len(), |row| {
            range.contains(times.value(row)) && self.0.get(ids.value(row)).is_some_and(|below| revisions.value(row) < *below)
        }))
    }
}

impl RowTest for OldTraces {
    fn in_rows(&self, rows: &Rows, range: &TimeRange) -> Result<BooleanBuffer, String> {
        let column = |name: &str| match rows.column(name) {
            Some(Column::PerRow(column)) => Ok(column),
            _ => Err(format!("rows of traces lack {name}")),
        };
        self.test(column("trace_id")?, column("revision")?, column(Table::Traces.time_column())?, range)
    }

    fn in_block(&self, block: &Block, range: &TimeRange) -> Result<BooleanBuffer, String> {
        let mut found = arrow::array::BooleanBufferBuilder::new(block.n_rows() as usize);
        let columns = ["trace_id", "revision", Table::Traces.time_column()];
        for batch in block.scan(0..block.n_rows(), &columns).map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            found.append_buffer(&self.test(batch.column(0), batch.column(1), batch.column(2), range)?);
        }
        let found = found.finish();
        match found.len() == block.n_rows() as usize {
            true => Ok(found),
            false => Err("the block has fewer rows than it says".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back_as_they_were() {
        let mut lost = Lost::default();
        for n in 1..=TRACES_PER_NOTE as u128 + 7 {
            lost.add(&format!("{n:032x}"), 1_000 - n as i64);
        }
        lost.add("no ID", 5);
        let read: Vec<Lost> = lost.notes().iter().map(|note| Lost::read(note).expect("a note")).collect();
        assert_eq!(read.len(), 2);
        let all: BTreeSet<TraceId> = read.iter().flat_map(|lost| lost.traces.iter().copied()).collect();
        assert_eq!(all, lost.traces);
        assert!(
            read.iter()
                .all(|one| (one.first_nanos, one.last_nanos) == (1_000 - TRACES_PER_NOTE as i64 - 7, 999))
        );
        assert!(Lost::default().notes().is_empty() && Lost::read(b"{}").is_none());
        assert!(OldTraces::read("").is_ok() && OldTraces::read("x 1").is_err() && OldTraces::read(&format!("{:032x} 3", 7)).is_ok());
    }
}
