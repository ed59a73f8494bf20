//! Which blocks exist: a log of commits in the store itself, from which any node can rebuild the whole list.
//!
//! In: commits ([`Commit`]): blocks added, blocks removed, how far a node's WAL they cover. Out: snapshots
//! ([`Snapshot`]): one reader's frozen view of all live blocks.
//!
//! | object | holds |
//! |---|---|
//! | `_catalog/log/<seq>.json` | record number seq, version 1, 2 if it speaks of deletes or hidden rows, 3 if a node leaves or is given up, or one block is replaced for several deletes, 4 if a state is in parts: created with put-if-absent, never changed, never deleted |
//! | `_catalog/copy/<seq mod 1024>.json` | the record again, by the node that made it, until a record 1,024 later takes its place |
//! | `_catalog/checkpoint/<seq>.json` | everything live after record seq, each 256 records and at an orderly stop; the newest two are kept. Version 4 while a state is in parts, 3 while a node is away, 2 with deletes or hidden rows |
//! | `_catalog/state/<name>.json` | what a node wants to find again, or what has changed of it since the parts that the record names beside it; or the query of a delete; named by the record that committed it |
//! | `_catalog/state/<name>copy.json` | the same again |
//! | `_catalog/node/<node>.json` | a node's heartbeat, which says where it comes from: rewritten while it lives, deleted when it stops in order |
//!
//! Promises:
//! - a commit happens whole or not at all, on one place in one order for all nodes, and has happened when `commit` returns;
//! - `commit` of the same [`Commit`] again, after an error or a success, happens once: records carry its [`CommitId`];
//! - a commit whose `removes` are no longer live, whose `adds` exist, or whose WAL range is already covered is a
//!   [`Error::Conflict`] and does not happen; neither does a flush of a node that has not learnt of a delete under way;
//! - what is about to be put where foreign readers look is announced by an [`Intent`], so that after a crash it is
//!   found and deleted before its rows are put there again;
//! - one process at a time writes as a node: a record of one whose place another has taken does not happen ([`life`]);
//! - one node at a time leads; it takes the lead by a commit, which happens only if nobody else took it meanwhile and nothing
//!   was added to the state that is taken over;
//! - rows of a block that stays can be hidden ([`Hide`]): no answer has them, and no merge brings them back;
//! - a snapshot never changes, and the objects it names stay for a grace period after their removal.
//!
//! Records are never deleted: a node that slept would else find a low number free and fork the history. A record costs
//! one to two KiB.
//!
//! # Damage
//!
//! Every document but a heartbeat (which is written anew every few seconds, and lost does no harm) has a CRC32C, and lies in the
//! store twice ([`document`] says where). What is cut short, empty, flipped or missing is told from what is whole, read once more in case it
//! happened on the way, and then:
//!
//! - a checkpoint: the one before it is used, or none, and the records since; both give the same;
//! - a record, or a gap in the log: its copy is used. If that is of no use either, nothing is guessed and nothing skipped, since blocks
//!   would be lost or doubled. A start fails, and names the object and what to do: put a backup in its place (a record never
//!   changes), or stop another node in order that has read it: its checkpoint covers the record. A node that runs goes on answering and
//!   taking records; its flushes wait, its status says why, and it goes on by itself once the object is whole again;
//! - a state or a query: its copy is used; if that is of no use either, the start (the delete) fails and says so. Nothing is
//!   reset in silence.
//!
//! Damaged objects stay as they are, are logged and counted (`catalog_damaged_objects`), and `tracelake lake verify` lists them
//! ([`Catalog::flaws`]).
//!
//! Reads no clock, knows no rows. Start at [`Catalog::commit`].

mod node;
mod life;
mod record;
mod document;
mod snapshot;
mod deletes;
mod live;
mod metrics;
mod read;
mod log;
mod orphans;
mod heartbeat;
mod flaws;
#[cfg(test)]
mod tests;

pub use heartbeat::Peer;
pub use life::{Begin, Incarnation, Life};
pub use log::Catalog;
pub use node::NodeId;
pub use orphans::ORPHAN_AGE_NANOS;
pub use record::{Commit, CommitId, CommitKind, DeleteOrder, Erased, Forgotten, Hide, Intent, Join, Lead, WalRange};
pub use snapshot::{Away, Delete, Gone, NodeState, OpenIntent, Removed, Snapshot};

use crate::block::{BlockMeta, Level};
use crate::storage;
use crate::storage::paths::{BlockPath, Tier};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// The commit contradicts what is live by now; the same commit will never succeed.
    #[error("the commit contradicts record {seq}: {what}")]
    Conflict {
        /// The newest record at that time.
        seq: u64,
        /// What contradicts.
        what: String,
    },
    /// Others committed so often that our turn never came; a retry helps.
    #[error("{tries} other commits came first")]
    Contended {
        /// How often we tried.
        tries: usize,
    },
    /// A record, checkpoint, state or query cannot be read, and nor can what could take its place.
    #[error("the catalog is damaged at {key}: {why}")]
    Corrupt {
        /// The object.
        key: storage::Key,
        /// What is wrong.
        why: String,
    },
    /// Written by a newer tracelake.
    #[error("{key} has format version {found}, and this program reads {known}: use the newer program")]
    Newer {
        /// The object.
        key: storage::Key,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another process writes as this node by now. What this one acknowledged and did not flush is in its log.
    #[error("another process writes as node {node} by now")]
    Superseded {
        /// The node.
        node: NodeId,
    },
    /// This process has said that it leaves: it commits nothing more.
    #[error("node {node} stops, and has left the store: another node, or its next start, will take it")]
    Left {
        /// The node.
        node: NodeId,
    },
    /// This node was given up, and deletes have ended without it: see [`Away::GivenUp`].
    #[error(
        "node {node} was given up (`tracelake node forget`), and {missed} deletes ended without it: its log may hold rows that they meant, and nobody knows \
         their queries any more. None of what it has not flushed is taken over, and nothing was changed. To start the node again, move the folder wal of \
         its data directory away; `tracelake wal inspect` shows what is in it"
    )]
    GivenUp {
        /// The node.
        node: NodeId,
        /// How many.
        missed: u64,
    },
    /// The data directory is a copy, and another process has written as its node since.
    #[error(
        "{data_dir} is a copy that was left behind: since it was last used, a process with another copy of it has written to the store as node {node}. \
         Nothing was changed. Start the server with the other copy. If this one never acknowledged a record after it was copied, nothing of it is \
         needed; if it did, what it had not flushed is in {data_dir}/wal alone: keep that folder (`tracelake wal inspect` shows it)",
        data_dir = data_dir.display()
    )]
    LeftBehind {
        /// The folder.
        data_dir: std::path::PathBuf,
        /// Its node.
        node: NodeId,
    },
    /// A process with another copy of the data directory lives.
    #[error(
        "a process with another copy of {data_dir} is running as node {node}: its heartbeat goes on. Two that write as one node would each lose the \
         other's records, so this one does not start. To run this copy instead, stop the other one first. To run both, give this one an empty data \
         directory: it finds in the store all that was flushed",
        data_dir = data_dir.display()
    )]
    AlreadyRuns {
        /// The folder.
        data_dir: std::path::PathBuf,
        /// Its node.
        node: NodeId,
    },
    /// The node's name, or those of its lives, could not be read or written.
    #[error("names of the node in {path}: {source}")]
    Node {
        /// The file.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same call may succeed later.
    pub fn retry_helps(&self) -> bool {
        match self {
            Error::Store(error) => error.retry_helps(),
            Error::Contended { .. } => true,
            Error::Conflict { .. }
            | Error::Corrupt { .. }
            | Error::Newer { .. }
            | Error::Superseded { .. }
            | Error::Left { .. }
            | Error::GivenUp { .. }
            | Error::LeftBehind { .. }
            | Error::AlreadyRuns { .. }
            | Error::Node { .. } => false,
        }
    }
}

/// Where a block's objects lie.
pub fn block_path(meta: &BlockMeta) -> BlockPath {
    BlockPath {
        table: meta.table,
        tier: match meta.level {
            Level::L0 => Tier::L0,
            Level::Sealed => Tier::Lake,
        },
        partition_nanos: meta.partition_nanos,
        block_id: meta.id.as_str().to_string(),
    }
}
