//! Spans in progress that were flushed before they were completed: the flush that brings the completed one hides the rows
//! that it replaces, in the same catalog record, so that no answer counts a span twice. Merges drop hidden rows.
//!
//! Looked for in live blocks of the same hour, by trace and span ID, and only in those that have spans in progress; what
//! each has is remembered. A block that cannot be read now is left alone: the next merge finds the same rows. So is a row
//! in progress that comes after its completion was flushed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Inner;
use super::flush::off_the_runtime;
use crate::block::{self, Block, BlockId, BlockMeta, SpanInProgress, each_span, spans_in_progress};
use crate::catalog::{Hide, block_path};
use crate::model::{Rows, Table, TimeRange};

/// Rows that one record hides; further ones wait for a merge.
const MAX_HIDDEN_PER_RECORD: usize = 50_000;
/// Spans in progress that are remembered, over all blocks.
const MAX_REMEMBERED: usize = 500_000;

/// What live blocks have of spans in progress, as far as it was looked at.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<HashMap<BlockId, Arc<Vec<SpanInProgress>>>>);

/// A block and its spans in progress that are not hidden.
#[derive(Debug)]
struct Candidate {
    meta: Arc<BlockMeta>,
    spans: Arc<Vec<SpanInProgress>>,
}

impl Inner {
    /// The rows of live blocks that these new spans replace.
    pub(super) async fn superseded_by(&self, spans: &[Rows]) -> Vec<Hide> {
        let snapshot = self.catalog.snapshot();
        let has_some = |meta: &&Arc<BlockMeta>| meta.n_in_progress > meta.hidden.len() as u64;
        let meets_new = |meta: &&Arc<BlockMeta>| {
            let end_nanos = meta.partition_nanos.saturating_add(Table::Spans.partition_width_nanos());
            let hour = TimeRange::new(meta.partition_nanos, end_nanos);
            spans.iter().any(|rows| rows.overlaps(&hour))
        };
        let metas: Vec<Arc<BlockMeta>> = snapshot.blocks(Table::Spans).iter().filter(has_some).filter(meets_new).cloned().collect();
        let mut candidates = Vec::with_capacity(metas.len());
        for meta in metas {
            match self.in_progress_of(&meta).await {
                Ok(spans) => candidates.push(Candidate { meta, spans }),
                Err(error) => tracing::warn!(block = meta.id.as_str(), error, "its spans in progress are not known; a merge looks again"),
            }
        }
        if candidates.is_empty() {
            return Vec::new();
        }
        let spans = spans.to_vec();
        let found = off_the_runtime(move || replaced(&spans, &candidates)).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "spans in progress could not be compared; a merge does so again");
            Vec::new()
        })
    }

    async fn in_progress_of(&self, meta: &Arc<BlockMeta>) -> Result<Arc<Vec<SpanInProgress>>, String> {
        if let Some(known) = self.spans_in_progress.0.lock().get(&meta.id) {
            return Ok(Arc::clone(known));
        }
        let path = block_path(meta);
        let parquet = self.cache.map(&path.data(), meta.parquet_bytes, Some(meta.parquet_crc32c)).await;
        let (parquet, of) = (parquet.map_err(|error| error.to_string())?, Arc::clone(meta));
        let read = off_the_runtime(move || spans_in_progress(&Block::open(of, parquet, None)?)).await;
        let found = Arc::new(read.map_err(|error| error.to_string())?);
        let snapshot = self.catalog.snapshot();
        let mut known = self.spans_in_progress.0.lock();
        known.insert(meta.id.clone(), Arc::clone(&found));
        if known.values().map(|spans| spans.len()).sum::<usize>() > MAX_REMEMBERED {
            known.retain(|id, _| snapshot.block(Table::Spans, id).is_some());
            if known.values().map(|spans| spans.len()).sum::<usize>() > MAX_REMEMBERED {
                known.clear();
            }
        }
        Ok(found)
    }
}

/// A completed span replaces every row in progress of its ID and hour; one in progress, those that came before it.
fn replaced(new: &[Rows], candidates: &[Candidate]) -> block::Result<Vec<Hide>> {
    let mut waiting: HashMap<(i64, u128), Vec<(usize, SpanInProgress)>> = HashMap::new();
    for (number, candidate) in candidates.iter().enumerate() {
        for span in candidate.spans.iter().filter(|span| !candidate.meta.hidden.contains(span.row)) {
            waiting.entry((candidate.meta.partition_nanos, span.key)).or_default().push((number, *span));
        }
    }
    let mut found: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let mut left = MAX_HIDDEN_PER_RECORD;
    for rows in new {
        let (times, ids) = (rows.times().values(), rows.ingest_ids().values());
        each_span(rows, |row, in_progress, key| {
            let hour = Table::Spans.partition_of(times[row]);
            let Some(spans) = waiting.get_mut(&(hour, key)) else { return };
            spans.retain(|(number, span)| {
                let is_replaced = (!in_progress || span.ingest_id < ids[row]) && left > 0;
                if is_replaced {
                    left -= 1;
                    found.entry(*number).or_default().push(span.row);
                }
                !is_replaced
            });
        })?;
    }
    let hide = |(number, mut rows): (usize, Vec<u32>)| {
        rows.sort_unstable();
        Hide {
            block: candidates[number].meta.id.clone(),
            rows,
        }
    };
    Ok(found.into_iter().map(hide).collect())
}
