//! Deletes by query, block by block: each block that was live when a delete was ordered is looked at, and replaced by one without
//! the rows that are meant, or found clean. What is left to do stands in the catalog ([`Delete::todo`]), so that a crash
//! costs no more than the block that was being worked on, and several nodes can share the work.
//!
//! A block is opened once for all deletes that have yet to look at it, by the parts of its objects that tell which rows they mean: a
//! thousand deletes of streams cost no more than one, and nothing of blocks that have no such row but the ends of their indexes. Only
//! a block that has some is read whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::place::Points;
use super::{Error, MERGE_NICENESS, Maintainer, Report, Rewritten, Step};
use crate::block::{self, Block, BlockId, BlockMeta};
use crate::catalog::{Commit, CommitId, CommitKind, Delete, Erased, Snapshot, block_path};
use crate::fail_point;
use crate::ingest::erase::Erasure;
use crate::model::Table;
use crate::storage::{Cache, Demand, on_behalf_of};
use crate::supervise;

/// Clean blocks that one record names, of one delete.
const CLEAN_PER_RECORD: usize = 200;
/// Blocks that are looked at at once: most of that is waiting for the store.
const LOOKED_AT_ONCE: usize = 4;

const POINTS: Points = Points {
    announced: "delete.after_announcement",
    index_put: "delete.after_index_put",
    parquet_put: "delete.after_parquet_put",
    committed: "delete.after_erasure",
};

/// Deletes whose queries are read.
type Erasures = BTreeMap<CommitId, Arc<Erasure>>;

/// Opens a block to see which rows are meant, from a thread that may wait.
#[derive(Debug)]
pub(super) struct Looking {
    pub(super) meta: Arc<BlockMeta>,
    pub(super) cache: Arc<Cache>,
    demand: Arc<Demand>,
    pub(super) runtime: tokio::runtime::Handle,
}

impl Looking {
    fn open(&self) -> Result<Block, block::Unopened> {
        let path = block_path(&self.meta);
        let opening = block::open_in_parts(&self.cache, &path, &self.meta, &self.demand);
        Ok(self.runtime.block_on(opening)?.0.read_for(&self.demand))
    }

    /// Of each delete, whether it means a row of the block; an error, in words, if parts of it do not tell.
    pub(super) fn meant(&self, erasures: &[Arc<Erasure>]) -> Result<Vec<bool>, String> {
        let block = self.open().map_err(|error| error.to_string())?;
        let means = |erasure: &Arc<Erasure>| Ok(erasure.test.in_block(&block, &erasure.range)?.count_set_bits() > 0);
        on_behalf_of(Some(&self.demand), || erasures.iter().map(means).collect()).0
    }
}

/// A block, and the deletes that have yet to look at it.
#[derive(Debug)]
struct Task {
    meta: Arc<BlockMeta>,
    deletes: Vec<(CommitId, Arc<Erasure>)>,
}

/// Blocks found clean that no record says yet, by delete.
type Clean = BTreeMap<CommitId, Vec<BlockId>>;

impl Maintainer {
    /// Works on every delete under way, the blocks of the oldest first, as far as it gets.
    pub(super) async fn erase_all(&self, report: &mut Report) {
        let snapshot = self.catalog.snapshot();
        let mut under_way: Vec<(&CommitId, &Delete)> = snapshot.deletes().iter().filter(|(_, delete)| !delete.todo.is_empty()).collect();
        under_way.sort_by_key(|(id, delete)| (delete.at_nanos, *id));
        let (mut erasures, mut blocks, mut known) = (Erasures::new(), Vec::new(), BTreeSet::new());
        for (id, delete) in under_way {
            match self.erasures.of(&self.catalog, id, delete).await {
                Ok(erasure) => {
                    erasures.insert(id.clone(), erasure);
                    blocks.extend(delete.todo.iter().filter(|block| known.insert(*block)).map(|block| (delete.order.table, block)));
                }
                Err(error) => self.note(report, Step::Erase, &error.into()),
            }
        }
        let mut clean = Clean::new();
        for some in blocks.chunks(LOOKED_AT_ONCE) {
            self.erase_some(some, &erasures, &mut clean, report).await;
            self.commit_clean(&mut clean, CLEAN_PER_RECORD, report).await;
        }
        self.commit_clean(&mut clean, 1, report).await;
    }

    async fn erase_some(&self, blocks: &[(Table, &BlockId)], erasures: &Erasures, clean: &mut Clean, report: &mut Report) {
        // work on others, here or on another node, may have changed what is to be done
        let snapshot = self.catalog.snapshot();
        let tasks: Vec<Task> = blocks.iter().filter_map(|(table, id)| self.task(&snapshot, erasures, *table, id)).collect();
        for _ in &tasks {
            fail_point::hit("delete.before_erasure");
        }
        let found = futures::future::join_all(tasks.iter().map(|task| self.look(task))).await;
        for (task, found) in tasks.into_iter().zip(found) {
            if found.as_ref().is_some_and(|found| !found.contains(&true)) {
                task.note_clean(clean);
                continue;
            }
            // a block that cannot be read must not keep the others; as long as it is there, its deletes are not done
            let erased = self.erase_block(&task, found).await;
            self.note_damage(&task.meta, erased.as_ref().err());
            match erased {
                Ok(None) => task.note_clean(clean),
                Ok(Some(n_rows)) => report.rows_erased += n_rows,
                Err(error) => self.note(report, Step::Erase, &error),
            }
        }
    }

    /// What is to be done with a block now; `None` while it has to be left alone.
    fn task(&self, snapshot: &Snapshot, erasures: &Erasures, table: Table, id: &BlockId) -> Option<Task> {
        // another node is at work on it, or was: its intent ends, and then this one's turn comes
        let meta = snapshot.block(table, id).filter(|meta| !snapshot.is_claimed(&meta.id))?;
        // damaged when it was last tried: its deletes wait for it, and it is not fetched in every round
        if self.quarantine.holds(id, self.clock.now_nanos()) {
            return None;
        }
        // one whose query cannot be read looks later, at what has taken the block's place by then
        let waiting = snapshot.deletes().iter().filter(|(_, delete)| delete.todo.contains(id));
        let deletes: Vec<_> = waiting.filter_map(|(id, _)| Some((id.clone(), erasures.get(id)?.clone()))).collect();
        (!deletes.is_empty()).then(|| Task {
            meta: Arc::clone(meta),
            deletes,
        })
    }

    /// Of each delete, whether it means a row of a block; `None` where parts of its objects do not tell: then it is to be read whole,
    /// which tells damage from a store that is away.
    async fn look(&self, task: &Task) -> Option<Vec<bool>> {
        let demand = Demand::new(|| false);
        let looking = Looking {
            meta: Arc::clone(&task.meta),
            cache: Arc::clone(&self.cache),
            demand: demand.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let (merge, erasures) = (Arc::clone(&self.merge), task.erasures(None));
        let looked = tokio::task::spawn_blocking(move || supervise::stepping_back(MERGE_NICENESS, || merge.look(&looking, &erasures)));
        let looked = looked.await.unwrap_or_else(|panic| Err(panic.to_string()));
        self.pace.take(demand.take_fetched().bytes).await;
        let told = |error: &String| {
            tracing::warn!(
                block = task.meta.id.as_str(),
                error,
                "parts of a block do not tell which rows are to be deleted: it is read whole"
            );
        };
        looked.inspect_err(told).ok()
    }

    /// Replaces a block by one without the rows that are meant; gives how many those were, `None` if there are none. Deletes of which a
    /// look has `found` that they mean none are not asked again.
    async fn erase_block(&self, task: &Task, found: Option<Vec<bool>>) -> Result<Option<u64>, Error> {
        let meta = &task.meta;
        self.pace.take(meta.parquet_bytes + meta.index_bytes).await;
        let input = self.read(meta).await?;
        let (merge, erasures, now_nanos) = (Arc::clone(&self.merge), task.erasures(found.as_deref()), self.clock.now_nanos());
        let runtime = tokio::runtime::Handle::current();
        let erasing = move || {
            supervise::stepping_back(MERGE_NICENESS, || {
                let _entered = runtime.enter();
                merge.erase(input, &erasures, now_nanos)
            })
        };
        let (rewritten, by_delete, lost) = tokio::task::spawn_blocking(erasing).await??;
        let (n_rows, built) = match rewritten {
            Rewritten::Clean => return Ok(None),
            Rewritten::Without(n_rows, built) => (n_rows, built),
        };
        // before they go: nobody could tell afterwards
        self.losses.note(&meta.id, &lost).await.map_err(Error::Losses)?;
        fail_point::hit("delete.after_note");
        let mut commit = Commit::new(CommitKind::Delete, now_nanos);
        commit.removes = vec![meta.id.clone()];
        let (mut by_delete, mut asked) = (by_delete.into_iter(), found.into_iter().flatten());
        let rows_of = |(id, _): &(CommitId, Arc<Erasure>)| {
            let n_rows = asked.next().unwrap_or(true).then(|| by_delete.next()).flatten();
            erased(id, n_rows.unwrap_or_default(), vec![])
        };
        commit.erased = task.deletes.iter().map(rows_of).collect();
        match built {
            Some(built) => {
                self.pace.take(built.n_bytes()).await;
                self.put_in_place(commit, std::slice::from_ref(meta), *built, POINTS).await?;
            }
            None => drop(self.commit(commit).await?),
        }
        tracing::info!(
            block = meta.id.as_str(),
            rows = n_rows,
            deletes = task.deletes.len(),
            "rows were deleted by queries"
        );
        Ok(Some(n_rows))
    }

    /// Commits the lists of at least so many blocks.
    async fn commit_clean(&self, clean: &mut Clean, at_least: usize, report: &mut Report) {
        for (id, blocks) in clean.extract_if(.., |_, blocks| blocks.len() >= at_least).collect::<Vec<_>>() {
            let mut commit = Commit::new(CommitKind::Delete, self.clock.now_nanos());
            commit.erased = vec![erased(&id, 0, blocks)];
            if let Err(error) = self.commit(commit).await {
                self.note(report, Step::Erase, &error);
            }
        }
    }
}

impl Task {
    /// What is to be asked: all, or those of which a look found that they mean something.
    fn erasures(&self, found: Option<&[bool]>) -> Vec<Arc<Erasure>> {
        let is_asked = |at: usize| found.is_none_or(|found| found.get(at).copied().unwrap_or(true));
        let deletes = self.deletes.iter().enumerate().filter(|(at, _)| is_asked(*at));
        deletes.map(|(_, (_, erasure))| erasure.clone()).collect()
    }

    fn note_clean(self, clean: &mut Clean) {
        for (id, _) in self.deletes {
            clean.entry(id).or_default().push(self.meta.id.clone());
        }
    }
}

fn erased(delete: &CommitId, rows: u64, clean: Vec<BlockId>) -> Erased {
    Erased {
        delete: delete.clone(),
        rows,
        clean,
    }
}
