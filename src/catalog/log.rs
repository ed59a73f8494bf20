//! The catalog of one node: follows the log, and writes to it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Commit, NodeId, Result, Snapshot};
use crate::storage::{Key, Store};

/// The catalog as one node sees it.
#[derive(Debug)]
pub struct Catalog {
    node: NodeId,
}

impl Catalog {
    /// Reads the newest checkpoint and all records behind it.
    pub async fn open(_store: Arc<dyn Store>, node: NodeId) -> Result<Catalog> {
        Ok(Catalog { node })
    }
    /// The node that commits here.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
    /// What is live, as far as this node has read.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!()
    }
    /// Makes a commit happen, once, and gives the snapshot after it (and after what others committed meanwhile).
    pub async fn commit(&self, _commit: Commit) -> Result<Arc<Snapshot>> {
        todo!()
    }
    /// Reads what other nodes committed since.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>> {
        todo!()
    }
    /// Writes a state object; name its key in a [`Commit`], which makes it this node's state.
    pub async fn put_state(&self, _bytes: Bytes) -> Result<Key> {
        todo!()
    }
    /// Reads this node's last committed state; `None` before the first.
    pub async fn read_state(&self) -> Result<Option<Bytes>> {
        todo!()
    }
}
