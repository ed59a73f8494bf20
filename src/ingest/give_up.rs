//! Gives up a node whose disk is lost: deletes no longer wait for what its log holds.

use std::time::Duration;

use super::Ingest;
use crate::catalog::{self, Away, Commit, CommitKind, NodeId};

/// Looks at the heartbeats, where the store's listing lags behind.
const LOOKS: u32 = 3;

/// A node that was given up, now or earlier.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GivenUp {
    /// Its name.
    pub node: NodeId,
    /// Whether it had stopped with nothing left in its log: then nothing is lost, and nothing waited for it.
    pub had_left: bool,
    /// The last position of its log that blocks cover. What it acknowledged behind that is lost.
    pub flushed_lsn: crate::wal::Lsn,
    /// Seconds since its last heartbeat; none if it has no heartbeat any more.
    pub silent_seconds: Option<u64>,
}

/// Why a node was not given up.
#[derive(Debug, thiserror::Error)]
pub enum NotGivenUp {
    /// It is the one that was asked.
    #[error("{0} is the node that answers here: ask another one")]
    Itself(NodeId),
    /// There is no such node.
    #[error("{0:?} is no node that ever wrote to this store; /api/v1/status names the nodes")]
    Unknown(String),
    /// It lives.
    #[error("node {node} lives, or did {silent_seconds} s ago: only one that is silent for longer than [node] lease_seconds ({lease_seconds}) is given up")]
    Alive {
        /// Which.
        node: NodeId,
        /// Since its last heartbeat.
        silent_seconds: u64,
        /// After which it is taken for gone.
        lease_seconds: u64,
    },
    /// The store's listing lags behind.
    #[error("the store does not list the nodes' heartbeats as they are; try again")]
    NotListed,
    /// The store or catalog did not take it; it may have happened all the same.
    #[error("it could not be stored, or its answer was lost: {0}")]
    Catalog(#[from] catalog::Error),
}

impl Ingest {
    /// Gives up a node with all that its log holds: from now on no delete waits for it. Should it come back after all, it goes on with its
    /// log if no delete has ended without it; else only without what it had not flushed ([`Away::GivenUp`]).
    ///
    /// # Errors
    ///
    /// [`NotGivenUp`]: among others while its heartbeat is fresh.
    pub async fn give_up(&self, name: &str) -> Result<GivenUp, NotGivenUp> {
        let (catalog, clock) = (&self.inner.catalog, &self.inner.clock);
        let node = NodeId::parse(name).ok_or_else(|| NotGivenUp::Unknown(name.to_string()))?;
        if node == *catalog.node() {
            return Err(NotGivenUp::Itself(node));
        }
        let mut looks = 1;
        let peers = loop {
            match catalog.beat(clock.now_nanos()).await? {
                Some(peers) => break peers,
                None if looks == LOOKS => return Err(NotGivenUp::NotListed),
                None => looks += 1,
            }
        };
        let silent = peers.iter().find(|peer| peer.node == node).map(|peer| peer.silent);
        let lease = self.inner.known.lock().lease;
        if let Some(silent) = silent.filter(|silent| *silent < lease) {
            return Err(NotGivenUp::Alive {
                node,
                silent_seconds: silent.as_secs(),
                lease_seconds: lease.as_secs(),
            });
        }
        let before = catalog.refresh().await?;
        let Some(state) = before.nodes().get(&node) else {
            return Err(NotGivenUp::Unknown(name.to_string()));
        };
        if state.away.is_none() {
            let mut commit = Commit::new(CommitKind::State, clock.now_nanos());
            commit.gives_up = Some(node.clone());
            catalog.commit(commit).await?;
            tracing::warn!(%node, flushed_lsn = state.flushed_lsn, "a node is given up: what it acknowledged behind that position of its log is lost");
        }
        Ok(GivenUp {
            had_left: matches!(state.away, Some(Away::Left { .. })),
            flushed_lsn: state.flushed_lsn,
            silent_seconds: silent.as_ref().map(Duration::as_secs),
            node,
        })
    }
}
