//! Blocks, opened once and kept open within bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::coverage::ProblemKind;
use super::rows::RowCache;
use super::{Config, Error, Result, metrics};
use crate::block::{self, Block, BlockId, BlockMeta, PageCache, TokenCache};
use crate::catalog::{Snapshot, block_path};
use crate::storage::{self, Cache, Demand};

/// Why a block's rows are missing from an answer.
#[derive(Debug)]
pub(super) struct Unopened {
    pub(super) kind: ProblemKind,
    pub(super) message: String,
}

/// A block and, if its index could not be used, why.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) block: Block,
    pub(super) index_problem: Option<Arc<str>>,
}

/// Blocks kept open.
#[derive(Debug)]
pub(super) struct Blocks {
    cache: Arc<Cache>,
    pages: Arc<PageCache>,
    tokens: Arc<TokenCache>,
    /// Rows that were answered before.
    pub(super) rows: Arc<RowCache>,
    open: Mutex<HashMap<BlockId, Kept>>,
    /// The last record of the catalog whose removed blocks are closed.
    closed_up_to: AtomicU64,
    uses: AtomicU64,
    /// Where objects are fetched: not on the threads that compute.
    io: Option<Handle>,
    max_blocks: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    opened: Opened,
    bytes: usize,
    last_use: u64,
}

impl Blocks {
    pub(super) fn new(cache: Arc<Cache>, config: &Config) -> Self {
        Self {
            cache,
            pages: PageCache::new(config.page_cache_bytes),
            tokens: TokenCache::new(config.token_cache_bytes),
            rows: RowCache::new(config.row_cache_bytes),
            open: Mutex::default(),
            closed_up_to: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            io: Handle::try_current().ok(),
            max_blocks: config.max_open_blocks.max(1),
            max_bytes: config.open_block_bytes,
        }
    }

    /// Words of dictionaries that were decoded for questions about pieces of them.
    #[cfg(test)]
    pub(super) fn n_tokens_looked_at(&self) -> u64 {
        self.tokens.n_looked_at()
    }

    /// Closes blocks that were removed: nobody begins to read them any more, and what was read of their files counts as memory.
    pub(super) fn close_removed(&self, snapshot: &Snapshot) {
        if self.closed_up_to.fetch_max(snapshot.seq(), Ordering::Relaxed) >= snapshot.seq() {
            return;
        }
        let mut open = self.open.lock();
        for removed in snapshot.removed() {
            open.remove(&removed.meta.id);
        }
        metrics::METRICS.open_blocks.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
    }

    /// Closes every block that no question reads at this moment; those that are read close with their questions.
    pub(super) fn close_all(&self) {
        self.open.lock().clear();
        metrics::METRICS.open_blocks.set(0);
    }

    /// Blocks kept open.
    #[cfg(test)]
    pub(super) fn n_open(&self) -> usize {
        self.open.lock().len()
    }

    /// What they take.
    #[cfg(test)]
    pub(super) fn open_bytes(&self) -> usize {
        self.open.lock().values().map(|kept| kept.bytes).sum()
    }

    /// Opens a block, or finds it open, for a question.
    pub(super) async fn open(self: &Arc<Self>, meta: &Arc<BlockMeta>, demand: &Arc<Demand>) -> Result<Opened, Unopened> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        if let Some(kept) = self.open.lock().get_mut(&meta.id) {
            kept.last_use = now;
            // another snapshot may hide other rows
            return Ok(Opened {
                block: kept.opened.block.seen_as(meta).read_for(demand),
                index_problem: kept.opened.index_problem.clone(),
            });
        }
        let (blocks, of, on_behalf) = (self.clone(), meta.clone(), demand.clone());
        let opening = async move { blocks.open_anew(&of, &on_behalf).await };
        let opened = match &self.io {
            Some(io) => AbortOnDropHandle::new(io.spawn(opening)).await.unwrap_or_else(|ended| {
                Err(Unopened {
                    kind: ProblemKind::Unreachable,
                    message: format!("opening ended: {ended}"),
                })
            }),
            None => opening.await,
        }?;
        let bytes = opened.block.memory_bytes();
        let mut open = self.open.lock();
        open.insert(
            meta.id.clone(),
            Kept {
                opened: opened.clone(),
                bytes,
                last_use: now,
            },
        );
        while open.len() > self.max_blocks || (open.len() > 1 && open.values().map(|kept| kept.bytes).sum::<usize>() > self.max_bytes) {
            let Some(oldest) = open.iter().min_by_key(|(_, kept)| kept.last_use).map(|(id, _)| id.clone()) else {
                break;
            };
            open.remove(&oldest);
        }
        metrics::METRICS.open_blocks.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
        Ok(Opened {
            block: opened.block.read_for(demand),
            ..opened
        })
    }

    /// Opens a block by no more than the tail of its index.
    async fn open_anew(&self, meta: &Arc<BlockMeta>, demand: &Arc<Demand>) -> Result<Opened, Unopened> {
        let (block, index_problem) = block::open_in_parts(&self.cache, &block_path(meta), meta, demand).await?;
        let block = block.with_page_cache(&self.pages).with_token_cache(&self.tokens);
        Ok(Opened { block, index_problem })
    }
}

impl From<block::Unopened> for Unopened {
    fn from(unopened: block::Unopened) -> Self {
        match unopened {
            block::Unopened::Store(error) => Self::of_store(&error),
            block::Unopened::Block(error) => Self::of_block(&error),
            block::Unopened::Failed(_) => Self {
                kind: ProblemKind::Corrupt,
                message: unopened.to_string(),
            },
        }
    }
}

impl Unopened {
    fn of_store(error: &storage::Error) -> Self {
        let kind = match error.kind() {
            storage::ErrorKind::Corrupt | storage::ErrorKind::NotFound => ProblemKind::Corrupt,
            _ => ProblemKind::Unreachable,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }

    fn of_block(error: &block::Error) -> Self {
        Self {
            kind: match error.is_unread() {
                true => ProblemKind::Unreachable,
                false => ProblemKind::Corrupt,
            },
            message: error.to_string(),
        }
    }
}

impl From<block::Error> for Error {
    fn from(error: block::Error) -> Self {
        match error.is_unread() {
            true => Error::Unreachable(error.to_string()),
            false => Error::internal(error),
        }
    }
}
