//! One commit, as it is asked for and as it is written.

use std::collections::BTreeMap;

use crate::block::{BlockId, BlockMeta};
use crate::model::{Table, TimeRange};
use crate::storage::Key;
use crate::wal::Lsn;

use super::{Begin, Incarnation, NodeId};

/// Newest version of records and checkpoints that this program reads. What says nothing that an older version does not know is
/// written as that, so that an older program goes on reading it.
pub(super) const FORMAT_VERSION: u32 = 4;
/// The version that knows deletes by query and hidden rows.
pub(super) const VERSION_OF_DELETES: u32 = 2;
/// The version that knows nodes that are away, and blocks that are replaced for several deletes at once.
pub(super) const VERSION_OF_LEAVING: u32 = 3;

/// Why a commit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitKind {
    /// Rows of the head became blocks.
    Flush,
    /// L0 blocks of a running hour became fewer L0 blocks.
    Merge,
    /// L0 blocks of a finished hour became blocks of the lake.
    Seal,
    /// Blocks grew too old.
    Retention,
    /// Nothing but a node's state.
    State,
    /// Objects are about to be put into the lake, or will not be after all.
    Intent,
    /// Rows are deleted by a query: the order, or work on it.
    Delete,
}

impl CommitKind {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            CommitKind::Flush => "flush",
            CommitKind::Merge => "merge",
            CommitKind::Seal => "seal",
            CommitKind::Retention => "retention",
            CommitKind::State => "state",
            CommitKind::Intent => "intent",
            CommitKind::Delete => "delete",
        }
    }
}

/// The positions of a node's WAL that a flush covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WalRange {
    /// First position covered; above what the catalog has as flushed for this node.
    pub from: Lsn,
    /// Last position covered.
    pub to: Lsn,
}

/// What a node is about to put into the lake, where foreign readers see it before any record names it. While it is
/// open, nobody else may claim the same inputs. If the node dies, whoever ends the intent knows what to delete, so that
/// the rows do not stand in the lake twice once they are sealed again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Intent {
    /// The objects.
    pub outputs: Vec<Key>,
    /// The blocks that they will replace; none if they are a flush's.
    pub inputs: Vec<BlockId>,
}

/// An order to delete rows by a query. What it concerns is fixed by its place in the log: all rows of the blocks that are
/// live there, and of each node's log the rows up to its cut ([`Join`]). Later rows are not concerned, whatever they say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeleteOrder {
    /// Of which table.
    pub table: Table,
    /// First event time, nanoseconds since the epoch, inclusive.
    pub start_nanos: i64,
    /// Last event time, exclusive.
    pub end_nanos: i64,
    /// The object that holds the query: it may name a person, and records are kept for ever. Dropped when the delete ends.
    pub query: Key,
    /// The cut of the node that gives the order: its rows up to this position of its WAL are concerned.
    pub lsn: Lsn,
}

impl DeleteOrder {
    /// The event times it concerns.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.start_nanos, self.end_nanos)
    }
}

/// A node has learnt of a delete.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Join {
    /// The delete.
    pub delete: CommitId,
    /// Up to this position of its WAL the node leaves out the rows that are meant; 0 = it has none.
    pub lsn: Lsn,
}

/// Work done on a delete.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Erased {
    /// The delete.
    pub delete: CommitId,
    /// Rows that this commit leaves out: of the block it replaces, or of the head it flushes.
    #[serde(default)]
    pub rows: u64,
    /// Blocks that have no row that is meant, and stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clean: Vec<BlockId>,
}

/// The lead, as it was when it was taken. If it has changed since, or the leader's state, the commit does not happen: what
/// was taken over would not be all there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lead {
    /// Who led; `None`: nobody ever did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NodeId>,
    /// That node's state, which was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_state: Option<Key>,
}

/// A state that is given up, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Forgotten {
    /// Whose.
    pub node: NodeId,
    /// Which.
    pub state: Key,
}

/// Rows of a block that no answer has from now on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hide {
    /// The block, which stays as it is.
    pub block: BlockId,
    /// Numbers of its rows.
    pub rows: Vec<u32>,
}

/// A commit's name: makes trying again safe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CommitId(String);

impl CommitId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a commit changes. Build it once and, if `commit` fails with an error that a retry may help, commit the same
/// value again: it happens once. Objects of a failed commit must not be deleted: it may have happened, or may happen
/// yet; the sweep takes what really stays behind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Commit {
    /// Its name.
    pub id: CommitId,
    /// Why.
    pub kind: CommitKind,
    /// When it was made, nanoseconds since the epoch: from here the grace of what it removes is counted.
    pub at_nanos: i64,
    /// Blocks that are live from now on; their objects must be in the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<BlockMeta>,
    /// Blocks that are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removes: Vec<BlockId>,
    /// What of the committing node's WAL is covered by the `adds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalRange>,
    /// The committing node's state from now on: see [`super::Catalog::put_state`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Key>,
    /// States that `state` says only the changes to, oldest first; all are the node's until then ([`NodeState::states`]). Only with `state`.
    ///
    /// [`NodeState::states`]: super::NodeState::states
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_parts: Vec<Key>,
    /// What the committing node has counted so far, for all nodes to sum up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<serde_json::Value>,
    /// The committing process begins to write as its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<Begin>,
    /// The committing node takes the lead: see [`super::Snapshot::leader`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<Lead>,
    /// The committing node stops, and its log holds nothing that blocks do not cover: no delete waits for it until it commits again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
    /// A node that is given up with all that its log holds: no delete waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives_up: Option<NodeId>,
    /// States of nodes that are gone, all of whose facts are in this commit's own: nobody needs them any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgets: Vec<Forgotten>,
    /// An intent that is open from now on, under the name of this commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// An open intent that will not be fulfilled: from now on nothing can, and its outputs may be deleted. It keeps
    /// its inputs until that is done and a commit ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraws: Option<CommitId>,
    /// The open intent that ends with this commit: fulfilled, if the commit removes or adds blocks, and then it must not be
    /// withdrawn; else it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<CommitId>,
    /// An order to delete rows, under the name of this commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<DeleteOrder>,
    /// Deletes that the committing node knows from now on. Until it does, its flushes are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Join>,
    /// Work on deletes. With `removes`, the one block removed is replaced by the `adds`, or by nothing, for all that are named; with
    /// `wal`, rows that the flush left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erased: Vec<Erased>,
    /// Rows to hide, of blocks that stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hides: Vec<Hide>,
    /// How many rows were hidden of those `removes` that had any, when the `adds` were made of them. If more are by now, they
    /// would come back, and the commit is refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub saw_hidden: BTreeMap<BlockId, u64>,
}

impl Commit {
    /// An empty commit with a new name, made at `now_nanos`.
    pub fn new(kind: CommitKind, now_nanos: i64) -> Self {
        Self {
            id: CommitId(ulid::Ulid::from_bytes(rand::random()).to_string().to_lowercase()),
            kind,
            at_nanos: now_nanos,
            adds: Vec::new(),
            removes: Vec::new(),
            wal: None,
            state: None,
            state_parts: Vec::new(),
            ledger: None,
            begins: None,
            lead: None,
            leaves: false,
            gives_up: None,
            forgets: Vec::new(),
            intent: None,
            withdraws: None,
            ends: None,
            delete: None,
            joins: Vec::new(),
            erased: Vec::new(),
            hides: Vec::new(),
            saw_hidden: BTreeMap::new(),
        }
    }

    /// Gives an intent up: no record can name its outputs any more, which are then to be deleted, and the intent to be
    /// ended ([`Commit::ending`]).
    pub fn withdrawing(intent: &CommitId, now_nanos: i64) -> Self {
        let mut commit = Self::new(CommitKind::Intent, now_nanos);
        commit.withdraws = Some(intent.clone());
        commit
    }

    /// Ends an intent that is withdrawn and whose outputs are deleted: its inputs are free.
    pub fn ending(intent: &CommitId, now_nanos: i64) -> Self {
        let mut commit = Self::new(CommitKind::Intent, now_nanos);
        commit.ends = Some(intent.clone());
        commit
    }

    /// The oldest version in which this can be said.
    pub(super) fn version(&self) -> u32 {
        let is_plain = self.delete.is_none() && self.joins.is_empty() && self.erased.is_empty() && self.kind != CommitKind::Delete;
        let hides_nothing = self.hides.is_empty() && self.saw_hidden.is_empty() && self.adds.iter().all(|meta| meta.hidden.is_empty());
        // one block that is replaced for several deletes at once
        let is_for_several = self.wal.is_none() && self.erased.len() > 1;
        let says = [
            // who does not know it would take the changes for all
            (!self.state_parts.is_empty(), FORMAT_VERSION),
            // who does not know it would see a delete under way that has ended, or look again for some of several
            (self.leaves || self.gives_up.is_some() || is_for_several, VERSION_OF_LEAVING),
            (!is_plain || !hides_nothing, VERSION_OF_DELETES),
        ];
        says.iter().find(|(is_said, _)| *is_said).map_or(1, |(_, version)| *version)
    }
}

/// A commit with its number and its author: what `_catalog/log/<seq>.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Record {
    /// See [`Commit::version`].
    pub v: u32,
    /// Its number, as in its key.
    pub seq: u64,
    /// Who made it.
    pub node: NodeId,
    /// Which of its lives; `None` in records of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// What it changes.
    #[serde(flatten)]
    pub commit: Commit,
}
