//! Which nodes live: each rewrites an object of its own every few seconds. How long a node is silent is the difference of two
//! times that the store itself gave, so that the nodes' own clocks do not matter.

use std::time::Duration;

use super::{Catalog, NodeId, Result};
use crate::storage::paths::CatalogPath;

/// Another node that has a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeId,
    /// How long before our own heartbeat its last one was.
    pub silent: Duration,
}

impl Catalog {
    /// Says that this node lives, and gives the others, in order of name; a node that is not among them is gone. `None`: the
    /// listing lags behind and says nothing. One small write and one listing.
    pub async fn beat(&self, now_nanos: i64) -> Result<Option<Vec<Peer>>> {
        let key = CatalogPath::Node(self.node().to_string()).key();
        let mut body = serde_json::json!({ "v": 1, "node": self.node(), "at_nanos": now_nanos });
        if let Some(life) = &self.life {
            (body["incarnation"], body["place"]) = (life.incarnation().as_str().into(), life.place().into());
        }
        self.store().put(&key, body.to_string().into()).await?;
        let listed = self.store().list(CatalogPath::NODE_PREFIX, None).await?;
        let Some(ours) = listed.iter().find(|object| object.key == key) else {
            return Ok(None);
        };
        let others = listed
            .iter()
            .filter(|object| object.key != key)
            .filter_map(|object| match CatalogPath::parse(&object.key) {
                Some(CatalogPath::Node(name)) => Some(Peer {
                    node: NodeId::parse(&name)?,
                    silent: Duration::from_nanos(ours.modified_nanos.saturating_sub(object.modified_nanos).max(0).unsigned_abs()),
                }),
                _ => None,
            });
        Ok(Some(others.collect()))
    }

    /// Takes a heartbeat away: this node's when it stops in order, or that of a node that is gone for long.
    pub async fn end_heartbeat(&self, node: &NodeId) -> Result<()> {
        Ok(self.store().delete(&CatalogPath::Node(node.to_string()).key()).await?)
    }
}
