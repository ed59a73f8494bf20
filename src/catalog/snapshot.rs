//! One reader's frozen view of which blocks are live, and how a record changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{CommitId, DeleteOrder, Incarnation, Intent, NodeId};
use crate::block::{BlockId, BlockMeta};
use crate::model::{Table, TimeRange};
use crate::storage::Key;
use crate::wal::Lsn;

/// What the catalog keeps of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeState {
    /// The last position of its WAL that blocks cover; 0 = none.
    pub flushed_lsn: Lsn,
    /// The object that holds its state, or what has changed of it since the last of `state_parts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Key>,
    /// The objects to which `state` says the changes, oldest first; each but the first says the changes to those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_parts: Vec<Key>,
    /// What it had counted with its last flush.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<serde_json::Value>,
    /// The life that writes as it: the last that began. `None`: one that does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Why no delete waits for what its log may hold; `None`: each does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<Away>,
}

/// Why no delete waits for a node. It ends with the node's next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Away {
    /// It stopped, and blocks cover all of its log.
    Left {
        /// When, nanoseconds since the epoch.
        at_nanos: i64,
    },
    /// It was given up with all that its log holds.
    GivenUp {
        /// When, nanoseconds since the epoch.
        at_nanos: i64,
        /// Deletes that have ended since, and mean rows that its log may hold. Their queries are forgotten, so what that log holds
        /// must never come back: only without it does the node begin again.
        missed: u64,
    },
}

impl NodeState {
    /// All objects that together are its state, oldest first; the last one names the whole.
    pub fn states(&self) -> impl Iterator<Item = &Key> {
        self.state_parts.iter().chain(&self.state)
    }

    /// Deletes that have ended without a node that was given up: see [`Away::GivenUp`].
    pub fn missed(&self) -> u64 {
        match self.away {
            Some(Away::GivenUp { missed, .. }) => missed,
            _ => 0,
        }
    }

    /// Whether its log may hold rows of a delete which it knows by this cut.
    fn is_behind(&self, cut: Option<&Lsn>) -> bool {
        cut.is_none_or(|lsn| self.flushed_lsn < *lsn)
    }
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
    /// Whether it lay in the lake, and others took its place there or its rows were deleted: foreign readers should not
    /// see it for long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves_the_lake: bool,
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

/// Rows of one table that were accepted and are gone for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Gone {
    /// By a delete.
    pub deleted: u64,
    /// By retention.
    pub expired: u64,
}

/// A delete by query, under way or ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Delete {
    /// What is to go.
    pub order: DeleteOrder,
    /// Who took the order.
    pub node: NodeId,
    /// When, nanoseconds since the epoch.
    pub at_nanos: i64,
    /// Blocks whose rows are still to be looked at.
    pub todo: BTreeSet<BlockId>,
    /// Of each node that knows of it, the last WAL position whose rows are concerned.
    pub cuts: BTreeMap<NodeId, Lsn>,
    /// Rows gone so far.
    #[serde(default)]
    pub n_rows: u64,
    /// Blocks looked at so far.
    #[serde(default)]
    pub n_blocks: u64,
    /// When nothing was left to do, on no node, nanoseconds since the epoch. Then its query is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_nanos: Option<i64>,
}

impl Delete {
    /// Whether it is under way, and the catalog does not have how far it concerns a node's log.
    pub fn is_unknown_to(&self, node: &NodeId) -> bool {
        self.ended_at_nanos.is_none() && !self.cuts.contains_key(node)
    }
}

/// All live blocks after one record. Never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) seq: u64,
    /// By `Table::ALL`'s order; each newest `max_time_nanos` first, then by name.
    pub(super) tables: [Arc<Vec<Arc<BlockMeta>>>; Table::ALL.len()],
    pub(super) nodes: Arc<BTreeMap<NodeId, NodeState>>,
    pub(super) leader: Option<NodeId>,
    pub(super) removed: Arc<Vec<Removed>>,
    pub(super) intents: Arc<BTreeMap<CommitId, OpenIntent>>,
    pub(super) deletes: Arc<BTreeMap<CommitId, Delete>>,
    pub(super) gone: Arc<BTreeMap<Table, Gone>>,
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
    /// The life that writes as `node`.
    pub fn incarnation(&self, node: &NodeId) -> Option<&Incarnation> {
        self.nodes.get(node)?.incarnation.as_ref()
    }
    /// Where the state of `node` lies; its name is that of all its parts ([`NodeState::states`]).
    pub fn state(&self, node: &NodeId) -> Option<&Key> {
        self.nodes.get(node).and_then(|state| state.state.as_ref())
    }
    /// Every node that ever committed.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeState> {
        &self.nodes
    }
    /// The one node that does for all what must be done once: evaluates alert rules and tells people. `None`: nobody has
    /// taken the lead yet. It leads until another takes the lead, which that one does once this one is silent.
    pub fn leader(&self) -> Option<&NodeId> {
        self.leader.as_ref()
    }
    /// Blocks removed lately, oldest removal first.
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }
    /// Intents that have not ended.
    pub fn intents(&self) -> &BTreeMap<CommitId, OpenIntent> {
        &self.intents
    }
    /// Deletes under way, and the last of those that ended.
    pub fn deletes(&self) -> &BTreeMap<CommitId, Delete> {
        &self.deletes
    }
    /// Rows that were accepted and are gone for good, since the catalog was made, by table and over all nodes.
    pub fn gone(&self) -> &BTreeMap<Table, Gone> {
        &self.gone
    }
    /// Whether a delete has yet to look at a block: nobody else replaces it meanwhile.
    pub fn is_to_be_erased(&self, id: &BlockId) -> bool {
        self.deletes.values().any(|delete| delete.todo.contains(id))
    }
    /// Whether somebody has announced to replace a block.
    pub fn is_claimed(&self, id: &BlockId) -> bool {
        self.intents.values().any(|open| open.intent.inputs.contains(id))
    }
    /// Nodes whose logs may still hold rows that a delete means: they have not learnt of it, or not flushed up to their cut. Those
    /// that left with nothing in their logs, or were given up, are not among them.
    pub fn nodes_behind<'a>(&'a self, delete: &'a Delete) -> impl Iterator<Item = &'a NodeId> {
        let is_behind = |(node, state): &(&NodeId, &NodeState)| state.away.is_none() && state.is_behind(delete.cuts.get(*node));
        self.nodes.iter().filter(is_behind).map(|(node, _)| node)
    }
    /// Deletes that ended without `node`, which was given up: see [`Away::GivenUp`].
    pub fn missed_deletes(&self, node: &NodeId) -> u64 {
        self.nodes.get(node).map_or(0, NodeState::missed)
    }
    /// Given-up nodes whose logs may hold rows of a delete.
    pub(super) fn given_up_behind(&self, delete: &Delete) -> Vec<NodeId> {
        let is_behind = |(node, state): &(&NodeId, &NodeState)| matches!(state.away, Some(Away::GivenUp { .. })) && state.is_behind(delete.cuts.get(*node));
        self.nodes.iter().filter(is_behind).map(|(node, _)| node.clone()).collect()
    }
}
