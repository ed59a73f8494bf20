//! What a query reads: unflushed rows and the catalog's snapshot, taken together.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{LedgerEntry, LostFrames};
use crate::catalog::Snapshot;
use crate::model::{Batch, Rows};

/// Head and blocks at one moment: every acknowledged row is in exactly one of the two.
#[derive(Clone, Debug)]
pub struct View {
    /// Rows that no block covers yet, of all tables, with their ingest IDs.
    pub head: Arc<[Rows]>,
    /// The blocks.
    pub snapshot: Arc<Snapshot>,
    /// Frames of this node's log, and of other nodes', whose records are lost, as far as no person has acknowledged it.
    pub lost: Arc<[LostFrames]>,
}

/// Where queries get their views; [`super::Ingest`] is one, tests bring their own.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// The present view.
    fn view(&self) -> View;
    /// Where every record ended, over all nodes.
    fn ledger(&self) -> Vec<LedgerEntry> {
        Vec::new()
    }
    /// Every batch from now on, as it is acknowledged; a slow reader is told how many it missed.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>>;
}
