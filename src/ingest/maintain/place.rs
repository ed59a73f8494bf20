//! A new block takes the place of others, in one record.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Error, Maintainer};
use crate::block::{self, Block, BlockMeta, BuiltBlock, Level, spans_in_progress};
use crate::catalog::{Commit, CommitKind, Intent, block_path};
use crate::fail_point;

/// Times that rows of the old blocks may be hidden while the new one is on its way.
const HIDDEN_TRIES: usize = 10;

/// Where the process may be let die meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Points {
    pub(super) announced: &'static str,
    pub(super) index_put: &'static str,
    pub(super) parquet_put: &'static str,
    pub(super) committed: &'static str,
}

impl Maintainer {
    /// Puts a block in the place of those that `commit` removes: `olds`, as they were read. What goes into the lake is
    /// announced first.
    pub(super) async fn put_in_place(&self, mut commit: Commit, olds: &[Arc<BlockMeta>], built: BuiltBlock, points: Points) -> Result<(), Error> {
        let path = block_path(&built.meta);
        if built.meta.level == Level::Sealed {
            let mut announced = Commit::new(CommitKind::Intent, commit.at_nanos);
            announced.intent = Some(Intent {
                outputs: vec![path.data(), path.index()],
                inputs: commit.removes.clone(),
            });
            commit.ends = Some(announced.id.clone());
            self.commit(announced).await?;
            fail_point::hit(points.announced);
        }
        // the Parquet file last: with it foreign readers see the rows
        if let Some(index) = &built.index {
            self.store.put(&path.index(), index.clone()).await?;
            fail_point::hit(points.index_put);
        }
        self.store.put(&path.data(), built.parquet.clone()).await?;
        fail_point::hit(points.parquet_put);
        commit.adds = vec![built.meta.clone()];
        // the grace of what it removes begins now, not when the rows were read
        commit.at_nanos = self.clock.now_nanos();
        self.commit_in_place(commit, olds, &built).await?;
        fail_point::hit(points.committed);
        self.cache.seed(&path.data(), built.parquet).await;
        if let Some(index) = built.index {
            self.cache.seed(&path.index(), index).await;
        }
        Ok(())
    }

    /// Commits; rows of the old blocks that were hidden since they were read are hidden in the new one from its beginning.
    async fn commit_in_place(&self, mut commit: Commit, olds: &[Arc<BlockMeta>], built: &BuiltBlock) -> Result<(), Error> {
        let mut olds = olds.to_vec();
        for _ in 0..HIDDEN_TRIES {
            let hidden = olds.iter().filter(|meta| !meta.hidden.is_empty());
            commit.saw_hidden = hidden.map(|meta| (meta.id.clone(), meta.hidden.len() as u64)).collect();
            let error = match self.commit(commit.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_lost_race() => error,
                Err(error) => return Err(error),
            };
            let Some(now) = self.as_they_are_now(&olds) else { return Err(error) };
            let more = self.hidden_since(&olds, &now, built).await?;
            for meta in &mut commit.adds {
                meta.hidden = meta.hidden.with(more.iter().copied());
            }
            olds = now;
        }
        self.commit(commit).await?;
        Ok(())
    }

    /// The same blocks, with the rows that are hidden by now; `None` if one is gone, or nothing is hidden that was not.
    fn as_they_are_now(&self, olds: &[Arc<BlockMeta>]) -> Option<Vec<Arc<BlockMeta>>> {
        let snapshot = self.catalog.snapshot();
        let now: Option<Vec<_>> = olds.iter().map(|meta| snapshot.block(meta.table, &meta.id).cloned()).collect();
        now.filter(|now| now.iter().zip(olds).any(|(now, old)| now.hidden != old.hidden))
    }

    /// The rows of a new block that stand for what was hidden in the old ones meanwhile. Only spans in progress ever are.
    async fn hidden_since(&self, olds: &[Arc<BlockMeta>], now: &[Arc<BlockMeta>], built: &BuiltBlock) -> Result<Vec<u32>, Error> {
        let mut inputs = Vec::new();
        for (old, now) in olds.iter().zip(now).filter(|(old, now)| old.hidden != now.hidden) {
            inputs.push((self.read(now).await?, old.hidden.clone()));
        }
        let (meta, parquet) = (Arc::new(built.meta.clone()), built.parquet.clone());
        let find = move || -> block::Result<Vec<u32>> {
            let mut hidden = HashSet::new();
            for (input, before) in inputs {
                let now = input.meta.hidden.clone();
                let spans = spans_in_progress(&Block::open(input.meta, input.parquet, None)?)?;
                let since = spans.into_iter().filter(|span| now.contains(span.row) && !before.contains(span.row));
                hidden.extend(since.map(|span| (span.key, span.ingest_id)));
            }
            let made = spans_in_progress(&Block::open(meta, parquet, None)?)?;
            Ok(made
                .into_iter()
                .filter(|span| hidden.contains(&(span.key, span.ingest_id)))
                .map(|span| span.row)
                .collect())
        };
        Ok(tokio::task::spawn_blocking(find).await??)
    }
}
