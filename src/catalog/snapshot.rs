//! One reader's frozen view of which blocks are live, and how a record changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CommitId, Intent, NodeId};
use crate::block::{BlockId, BlockMeta};
use crate::model::{Table, TimeRange};
use crate::storage::Key;
use crate::wal::Lsn;

/// What the catalog keeps of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeState {
    /// The last position of its WAL that blocks cover; 0 = none.
    pub flushed_lsn: Lsn,
    /// The object that holds its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Key>,
}

/// A block that a record removed: its objects are kept for a grace period.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Removed {
    /// The block.
    pub meta: Arc<BlockMeta>,
    /// Who removed it, and has to delete its objects.
    pub node: NodeId,
    /// When, nanoseconds since the epoch.
    pub at_nanos: i64,
}

/// An intent whose end no record has yet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OpenIntent {
    /// What it is.
    pub intent: Intent,
    /// Whose.
    pub node: NodeId,
    /// Since when, nanoseconds since the epoch.
    pub at_nanos: i64,
    /// Whether it is given up, and its outputs are being deleted.
    pub is_withdrawn: bool,
}

/// All live blocks after one record. Never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) seq: u64,
    /// By `Table::ALL`'s order; each newest `max_time_nanos` first, then by name.
    pub(super) tables: [Arc<Vec<Arc<BlockMeta>>>; Table::ALL.len()],
    pub(super) nodes: Arc<BTreeMap<NodeId, NodeState>>,
    pub(super) removed: Arc<Vec<Removed>>,
    pub(super) intents: Arc<BTreeMap<CommitId, OpenIntent>>,
}

impl Snapshot {
    /// The number of the record; 0 = an empty catalog.
    pub fn seq(&self) -> u64 {
        self.seq
    }
    /// A table's blocks, those with the newest `max_time_nanos` first.
    pub fn blocks(&self, table: Table) -> &[Arc<BlockMeta>] {
        &self.tables[table as usize]
    }
    /// All blocks, table by table.
    pub fn all_blocks(&self) -> impl Iterator<Item = &Arc<BlockMeta>> {
        self.tables.iter().flat_map(|blocks| blocks.iter())
    }
    /// A live block by its name; looks through all of its table.
    pub fn block(&self, table: Table, id: &BlockId) -> Option<&Arc<BlockMeta>> {
        self.blocks(table).iter().find(|meta| meta.id == *id)
    }
    /// The blocks of `table` in which a row of `range` can be, newest `max_time_nanos` first.
    pub fn prune(&self, table: Table, range: TimeRange) -> Vec<Arc<BlockMeta>> {
        let blocks = self.blocks(table);
        let first_too_old = blocks.partition_point(|meta| meta.max_time_nanos >= range.start_nanos);
        blocks[..first_too_old].iter().filter(|meta| meta.overlaps(&range)).cloned().collect()
    }
    /// The last WAL position of `node` that blocks cover; 0 = none: replay starts behind it.
    pub fn flushed_lsn(&self, node: &NodeId) -> Lsn {
        self.nodes.get(node).map_or(0, |state| state.flushed_lsn)
    }
    /// Where the state of `node` lies.
    pub fn state(&self, node: &NodeId) -> Option<&Key> {
        self.nodes.get(node).and_then(|state| state.state.as_ref())
    }
    /// Every node that ever committed.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeState> {
        &self.nodes
    }
    /// Blocks removed lately, oldest removal first.
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }
    /// Intents that have not ended.
    pub fn intents(&self) -> &BTreeMap<CommitId, OpenIntent> {
        &self.intents
    }
}
