//! Deletes by query, block by block: each block that was live when a delete was ordered is read, and replaced by one without
//! the rows that are meant, or found clean. What is left to do stands in the catalog ([`Delete::todo`]), so that a crash
//! costs no more than the block that was being worked on, and several nodes can share the work.

use std::sync::Arc;

use super::place::Points;
use super::{Error, Maintainer, Report, Rewritten, Step};
use crate::block::{BlockId, BlockMeta};
use crate::catalog::{Commit, CommitId, CommitKind, Delete, Erased};
use crate::fail_point;

/// Clean blocks that one record names.
const CLEAN_PER_RECORD: usize = 200;

const POINTS: Points = Points {
    announced: "delete.after_announcement",
    index_put: "delete.after_index_put",
    parquet_put: "delete.after_parquet_put",
    committed: "delete.after_erasure",
};

impl Maintainer {
    /// Works on every delete under way, the oldest first, as far as it gets.
    pub(super) async fn erase_all(&self, report: &mut Report) {
        let snapshot = self.catalog.snapshot();
        let mut under_way: Vec<(&CommitId, &Delete)> = snapshot.deletes().iter().filter(|(_, delete)| !delete.todo.is_empty()).collect();
        under_way.sort_by_key(|(id, delete)| (delete.at_nanos, *id));
        for (id, _) in under_way {
            if let Err(error) = self.erase(id, report).await {
                self.note(report, Step::Erase, &error);
            }
        }
    }

    async fn erase(&self, id: &CommitId, report: &mut Report) -> Result<(), Error> {
        // work on the delete before may have given this one other blocks
        let snapshot = self.catalog.snapshot();
        let Some(delete) = snapshot.deletes().get(id) else { return Ok(()) };
        let mut clean: Vec<BlockId> = Vec::new();
        for block in &delete.todo {
            let meta = snapshot.block(delete.order.table, block).filter(|meta| !snapshot.is_claimed(&meta.id));
            // another node is at work on it, or was: its intent ends, and then this one's turn comes
            let Some(meta) = meta else { continue };
            // damaged when it was last tried: the delete waits for it, and it is not fetched in every round
            if self.quarantine.holds(&meta.id, self.clock.now_nanos()) {
                continue;
            }
            fail_point::hit("delete.before_erasure");
            // a block that cannot be read must not keep the others; as long as it is there, the delete is not done
            let erased = self.erase_block(id, delete, meta).await;
            self.note_damage(meta, erased.as_ref().err());
            match erased {
                Ok(None) => clean.push(block.clone()),
                Ok(Some(n_rows)) => report.rows_erased += n_rows,
                Err(error) => self.note(report, Step::Erase, &error),
            }
            if clean.len() == CLEAN_PER_RECORD {
                self.commit_clean(id, std::mem::take(&mut clean)).await?;
            }
        }
        self.commit_clean(id, clean).await
    }

    /// Replaces a block by one without the rows that are meant; gives how many those were, `None` if there are none.
    async fn erase_block(&self, id: &CommitId, delete: &Delete, meta: &Arc<BlockMeta>) -> Result<Option<u64>, Error> {
        let erasure = self.erasures.of(&self.catalog, id, delete).await?;
        let input = self.read(meta).await?;
        let (merge, now_nanos) = (Arc::clone(&self.merge), self.clock.now_nanos());
        let (rewritten, lost) = tokio::task::spawn_blocking(move || merge.erase(input, &erasure, now_nanos)).await??;
        let (n_rows, built) = match rewritten {
            Rewritten::Clean => return Ok(None),
            Rewritten::Without(n_rows, built) => (n_rows, built),
        };
        // before they go: nobody could tell afterwards
        self.losses.note(&meta.id, &lost).await.map_err(Error::Losses)?;
        fail_point::hit("delete.after_note");
        let mut commit = Commit::new(CommitKind::Delete, now_nanos);
        commit.removes = vec![meta.id.clone()];
        commit.erased = vec![Erased {
            delete: id.clone(),
            rows: n_rows,
            clean: vec![],
        }];
        match built {
            Some(built) => self.put_in_place(commit, std::slice::from_ref(meta), *built, POINTS).await?,
            None => drop(self.commit(commit).await?),
        }
        tracing::info!(block = meta.id.as_str(), rows = n_rows, "rows were deleted by a query");
        Ok(Some(n_rows))
    }

    async fn commit_clean(&self, id: &CommitId, clean: Vec<BlockId>) -> Result<(), Error> {
        if clean.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new(CommitKind::Delete, self.clock.now_nanos());
        commit.erased = vec![Erased {
            delete: id.clone(),
            rows: 0,
            clean,
        }];
        self.commit(commit).await?;
        Ok(())
    }
}
