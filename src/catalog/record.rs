//! One commit, as it is asked for and as it is written.

use crate::block::{BlockId, BlockMeta};
use crate::storage::Key;
use crate::wal::Lsn;

use super::NodeId;

/// Version of records and checkpoints that this program writes and reads.
pub(super) const FORMAT_VERSION: u32 = 1;

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

/// A commit's name: makes trying again safe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CommitId(String);

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
            intent: None,
            withdraws: None,
            ends: None,
        }
    }
}

/// A commit with its number and its author: what `_catalog/log/<seq>.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Record {
    /// [`FORMAT_VERSION`].
    pub v: u32,
    /// Its number, as in its key.
    pub seq: u64,
    /// Who made it.
    pub node: NodeId,
    /// What it changes.
    #[serde(flatten)]
    pub commit: Commit,
}
