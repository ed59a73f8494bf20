//! Blocks that cannot be read, as their objects are damaged or gone: left as they are, named, and kept out of the work on others.
//!
//! Nothing is thrown away: an object may be put back from a version or a copy that the bucket keeps. So a block is tried again after
//! [`RETRY_NANOS`], and whoever asks meanwhile is told by the answer's coverage. It is known to this process alone: the next one finds out
//! as soon as it works on the block.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;

use crate::block::{BlockId, BlockMeta};
use crate::catalog::Snapshot;
use crate::model::Table;
use crate::telemetry::register;

/// After so long a block is tried again.
const RETRY_NANOS: i64 = 3_600_000_000_000;

/// A block that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedBlock {
    /// Which.
    pub block: BlockId,
    /// Of which table.
    pub table: Table,
    /// Rows that it has.
    pub rows: u64,
    /// What is wrong.
    pub reason: String,
    /// When that was found last.
    #[serde(rename = "found_unix_nano", serialize_with = "as_text")]
    pub found_nanos: i64,
}

fn as_text<S: serde::Serializer>(nanos: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(nanos)
}

/// The damaged blocks that this process came upon.
#[derive(Debug, Default)]
pub struct Quarantine {
    blocks: Mutex<BTreeMap<BlockId, DamagedBlock>>,
}

impl Quarantine {
    /// All, in order of their names.
    pub fn blocks(&self) -> Vec<DamagedBlock> {
        self.blocks.lock().values().cloned().collect()
    }

    /// Whether a block is not to be tried yet.
    pub(super) fn holds(&self, id: &BlockId, now_nanos: i64) -> bool {
        let blocks = self.blocks.lock();
        blocks
            .get(id)
            .is_some_and(|damaged| now_nanos < damaged.found_nanos.saturating_add(RETRY_NANOS))
    }

    pub(super) fn put(&self, meta: &Arc<BlockMeta>, reason: String, now_nanos: i64) {
        let damaged = DamagedBlock {
            block: meta.id.clone(),
            table: meta.table,
            rows: meta.n_visible_rows(),
            reason,
            found_nanos: now_nanos,
        };
        let mut blocks = self.blocks.lock();
        blocks.insert(meta.id.clone(), damaged);
        count(&blocks);
    }

    /// It could be read again.
    pub(super) fn release(&self, id: &BlockId) {
        let mut blocks = self.blocks.lock();
        blocks.remove(id);
        count(&blocks);
    }

    /// Forgets blocks that are live no more.
    pub(super) fn keep_live(&self, snapshot: &Snapshot) {
        let mut blocks = self.blocks.lock();
        blocks.retain(|id, damaged| snapshot.block(damaged.table, id).is_some());
        count(&blocks);
    }
}

fn count(blocks: &BTreeMap<BlockId, DamagedBlock>) {
    DAMAGED_BLOCKS.set(i64::try_from(blocks.len()).unwrap_or(i64::MAX));
}

static DAMAGED_BLOCKS: LazyLock<Gauge> = LazyLock::new(|| {
    register(
        "maintain_damaged_blocks",
        "Blocks whose objects are damaged or gone, as far as this process came upon them",
        Gauge::default(),
    )
});
