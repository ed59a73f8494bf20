//! What happens to blocks after their flush: merged, sealed into the lake, expired, and in the end deleted.
//!
//! In: the catalog's snapshot and the time. Out: bigger blocks in fewer objects, one catalog record a swap, so that a
//! reader sees the rows of the old blocks or of the new one and never of both.
//!
//! | step | when | does |
//! |---|---|---|
//! | give up | a node died in mid-seal | withdraws its intent and deletes what it had put into the lake |
//! | expire | all rows of a block are older than `[retention]` keeps them | removes it; where only some of its log groups or services have expired, puts a block without their rows in its place ([`retention`]) |
//! | erase | deletes by query have yet to look at a block | looks, by its index, whether rows are meant, and then puts a block without them in its place |
//! | seal | the hour is over for `seal_after_seconds`, and quiet | L0 blocks become blocks of the lake |
//! | merge | a running partition has `merge_at_blocks` blocks of like size | they become one L0 block |
//! | rewrite | a block of the lake has hidden rows, and its hour's late rows are sealed, or there are none | puts a block without them in its place |
//! | delete | a block was removed `removed_grace_seconds` ago; one that was replaced in the lake, as long as a query may take ([`lake_swap_grace`]); and no report of this node that began before still reads it | deletes its objects |
//! | sweep | once a day | deletes objects that no record names, a day old at least |
//!
//! Tables that are kept by day are sealed by the hour too: what was flushed in an hour goes into the lake once that hour
//! is over, as a further file of the day.
//!
//! Promises: no row is lost or doubled, whatever step a crash falls between; a row is written three times at most on its
//! way into the lake if an hour has fewer than 64 flushes. A failed step is reported and tried again in the next round, the others
//! go on; a block whose objects are damaged is left out of every step for an hour, and told ([`quarantine`]). One merge at a time, off the runtime's threads and, as is all work on blocks, at a lower priority ([`MERGE_NICENESS`]); its inputs together stay under `max_block_rows`, `max_block_bytes` and,
//! where an index must be made anew, `max_merge_memory_bytes`. All that is read and written for this is at most `max_bytes_per_second`.
//!
//! With several nodes on one store each does this for all: the catalog lets one of them win each swap, and an open
//! intent keeps the others off its inputs. Start at [`Maintainer::run_once`]; what is chosen is decided in [`policy`].

mod erase;
mod metrics;
mod pace;
mod place;
mod policy;
mod quarantine;
mod retention;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::block::{self, Block, BlockId, BlockMeta, BuiltBlock, Level};
use crate::catalog::{self, Catalog, Commit, CommitId, CommitKind, OpenIntent, Removed, Snapshot, block_path};
use crate::fail_point;
use crate::model::Clock;
use crate::storage::{self, Cache, Scratch, Store};
use crate::supervise;

use super::Finder;
use super::erase::{Erasure, Erasures, Unread};
use super::lost::{Losses, Lost};
use erase::Looking;
use metrics::{DeleteLabels, FAILURES, OBJECTS_DELETED, SWAPS, Step, StepLabels, SwapLabels};
use pace::Pace;
use place::Points;
#[cfg(test)]
pub(super) use policy::made_nanos;
use policy::{Group, Swap};
pub use quarantine::{DamagedBlock, Quarantine};
use retention::Keeping;
pub use retention::{Config as RetentionConfig, LogGroups, Rule as RetentionRule};

const SECOND_NANOS: i64 = 1_000_000_000;
/// Between two sweeps for orphans.
const SWEEP_EVERY_NANOS: i64 = 24 * 3600 * SECOND_NANOS;
/// Age at which the intent of another node is given up: a seal takes minutes.
const INTENT_STALE_NANOS: i64 = 3600 * SECOND_NANOS;
/// The least of [`lake_swap_grace`].
const MIN_LAKE_SWAP_GRACE: Duration = Duration::from_secs(10);
/// What a grace is longer than the longest query: a query may begin with the snapshot before the removal, and nodes' clocks differ.
const QUERY_MARGIN: Duration = Duration::from_secs(1);
/// Further grace before the objects that another node removed, and has not deleted, are deleted here.
const FOREIGN_GRACE_NANOS: i64 = 3600 * SECOND_NANOS;
/// How much a merge yields to clients and queries: at 5, a core is shared about three to one, so that merges go on under full load too.
const MERGE_NICENESS: i32 = 5;
/// The least of `max_bytes_per_second`: with fewer, blocks would come faster than they could be merged, and nobody would know why.
const MIN_BYTES_PER_SECOND: u64 = 1 << 20;
/// Tries of one commit in a round; the next round finds out what became of it.
const COMMIT_TRIES: u32 = 3;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seconds between two rounds (30).
    pub every_seconds: u64,
    /// Seconds after the end of an hour at which it may be sealed (900). Rows that come later make further files.
    pub seal_after_seconds: u64,
    /// Seconds without a new block of that hour before it is sealed (300).
    pub seal_quiet_seconds: u64,
    /// Seconds that rows wait which came after their hour was sealed (86400): they make at most one further file of the hour in that time.
    pub late_seal_seconds: u64,
    /// Blocks of like size in a running hour that are merged early (8): bounds what a query of the last hour opens.
    pub merge_at_blocks: usize,
    /// Rows of a merged block (4,000,000). A merge takes 12 bytes of memory for each, of metrics 4.
    pub max_block_rows: u64,
    /// Bytes of the Parquet files that go into a merged block (256 MiB).
    pub max_block_bytes: u64,
    /// Memory of the rows that are read to be merged (512 MiB) where an index is missing or of an older version; series of metrics count
    /// with 64 bytes each. All others stream through, 48 MiB of them at a time, into files in the data directory.
    pub max_merge_memory_bytes: u64,
    /// Bytes a second that merges, seals, rewrites and deletes read and write, averaged over the objects of a block; 0 = no bound, else 1 MiB at
    /// least (128 MiB).
    pub max_bytes_per_second: u64,
    /// Seconds that the objects of removed blocks are kept for readers of an older snapshot (3600); more than a query may take.
    /// Where foreign readers look, a block that was replaced goes sooner: see [`lake_swap_grace`].
    pub removed_grace_seconds: u64,
}

/// How long a block in the lake stays that another in the lake replaces, or whose rows were deleted: until then foreign readers
/// see both, so it goes as soon as no query of ours can still read it. What a longer report of this node reads stays until that ends.
pub fn lake_swap_grace(query_timeout: Duration) -> Duration {
    (query_timeout + QUERY_MARGIN).max(MIN_LAKE_SWAP_GRACE)
}

impl Config {
    /// What is wrong with the settings, one sentence each, where a query may take `query_timeout`.
    pub fn problems(&self, query_timeout: Duration) -> Vec<String> {
        let least = query_timeout + QUERY_MARGIN;
        let is_too_short = Duration::from_secs(self.removed_grace_seconds) < least;
        let problem = || {
            let (grace, least) = (self.removed_grace_seconds, least.as_secs());
            format!(
                "[lake] removed_grace_seconds = {grace}: queries may run for [query] timeout_seconds, and would find their blocks gone; set {least} or more"
            )
        };
        let mut problems: Vec<String> = is_too_short.then(problem).into_iter().collect();
        if (1..MIN_BYTES_PER_SECOND).contains(&self.max_bytes_per_second) {
            let bytes = self.max_bytes_per_second;
            problems.push(format!(
                "[lake] max_bytes_per_second = {bytes}: merges would never catch up with what comes in; set {MIN_BYTES_PER_SECOND} (1 MiB) or more, or 0 for no bound"
            ));
        }
        problems
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            every_seconds: 30,
            seal_after_seconds: 900,
            seal_quiet_seconds: 300,
            late_seal_seconds: 86_400,
            merge_at_blocks: 8,
            max_block_rows: 4_000_000,
            max_block_bytes: 256 << 20,
            max_merge_memory_bytes: 512 << 20,
            max_bytes_per_second: 128 << 20,
            removed_grace_seconds: 3600,
        }
    }
}

/// What a maintainer is made of.
#[derive(Debug)]
pub struct Parts {
    /// When and how much.
    pub config: Config,
    /// How long rows are kept.
    pub retention: RetentionConfig,
    /// What the log groups themselves say of that.
    pub log_groups: Arc<dyn LogGroups>,
    /// Whether flushes go straight into the lake (`lake_visible = all`): then blocks of the lake are merged.
    pub lake_visible_at_once: bool,
    /// How long a query may take: blocks that it may read stay for longer.
    pub query_timeout: Duration,
    /// How long a report may take, which is the longest there is: blocks that one under way here may read stay until it ends.
    pub report_timeout: Duration,
    /// How blocks are written.
    pub block: block::Settings,
    /// Which blocks exist.
    pub catalog: Arc<Catalog>,
    /// Where they lie.
    pub store: Arc<dyn Store>,
    /// Local copies of them.
    pub cache: Arc<Cache>,
    /// Where damaged blocks are noted.
    pub quarantine: Arc<Quarantine>,
    /// Tells which rows a delete means.
    pub finder: Arc<dyn Finder>,
    /// Is told which traces lose spans.
    pub losses: Arc<dyn Losses>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Blocks that were sealed or merged away, and those made of them.
    pub blocks_replaced: usize,
    /// Blocks made.
    pub blocks_made: usize,
    /// Blocks removed by retention.
    pub blocks_expired: usize,
    /// Rows that retention took from blocks that stay.
    pub rows_expired: u64,
    /// Rows deleted by queries.
    pub rows_erased: u64,
    /// Objects of removed blocks deleted.
    pub objects_deleted: usize,
    /// Objects deleted that no record names.
    pub orphans_deleted: usize,
    /// What failed and will be tried again, in words.
    pub problems: Vec<String>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] storage::Error),
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Block(#[from] block::Error),
    #[error(transparent)]
    Query(#[from] Unread),
    #[error("which traces lose spans could not be noted: {0}")]
    Losses(String),
    #[error("the work on a block ended early: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether another node or step was faster: nothing is wrong.
    fn is_lost_race(&self) -> bool {
        matches!(self, Error::Catalog(catalog::Error::Conflict { .. }))
    }

    /// Whether an object is damaged or gone: trying again does not help, and other blocks can do without it.
    fn is_damage(&self) -> bool {
        match self {
            Error::Store(error) => matches!(error.kind(), storage::ErrorKind::Corrupt | storage::ErrorKind::NotFound),
            Error::Block(error) => matches!(error, block::Error::Parquet { .. }),
            _ => false,
        }
    }
}

/// A block's objects, as the merge wants them.
#[derive(Debug)]
struct Input {
    meta: Arc<BlockMeta>,
    parquet: Bytes,
    index: Option<Bytes>,
}

/// Makes one block of many, or of one without some rows; CPU-heavy.
trait Merge: Send + Sync + std::fmt::Debug {
    fn merge(&self, inputs: Vec<Input>, level: Level, partition_nanos: i64, now_nanos: i64) -> block::Result<Option<BuiltBlock>>;
    /// Of each delete, whether it means a row of a block; an error, in words, if that cannot be told without reading all of it.
    fn look(&self, looking: &Looking, erasures: &[Arc<Erasure>]) -> Result<Vec<bool>, String>;
    /// Also tells how many rows each delete took, and which traces lose spans.
    fn erase(&self, input: Input, erasures: &[Arc<Erasure>], now_nanos: i64) -> block::Result<(Rewritten, Vec<u64>, Lost)>;
    fn expire(&self, input: Input, keeping: &Keeping, age_days: u32, now_nanos: i64) -> block::Result<Rewritten>;
}

/// What became of a block.
#[derive(Debug)]
enum Rewritten {
    /// It has no row that is to go.
    Clean,
    /// So many rows are left out; `None` when none are left.
    Without(u64, Option<Box<BuiltBlock>>),
}

/// The real one.
#[derive(Debug)]
struct BlockMerge {
    settings: block::Settings,
    scratch: Scratch,
}

impl Merge for BlockMerge {
    fn merge(&self, inputs: Vec<Input>, level: Level, partition_nanos: i64, now_nanos: i64) -> block::Result<Option<BuiltBlock>> {
        let blocks = inputs.into_iter().map(|input| open(input).map(Arc::new)).collect::<block::Result<Vec<_>>>()?;
        block::merge(&blocks, level, partition_nanos, &self.settings, &self.scratch, now_nanos)
    }

    fn look(&self, looking: &Looking, erasures: &[Arc<Erasure>]) -> Result<Vec<bool>, String> {
        looking.meant(erasures)
    }

    fn erase(&self, input: Input, erasures: &[Arc<Erasure>], now_nanos: i64) -> block::Result<(Rewritten, Vec<u64>, Lost)> {
        let block = open(input)?;
        let mut all = BooleanBuffer::new_unset(block.n_rows() as usize);
        let mut n_rows = Vec::with_capacity(erasures.len());
        for erasure in erasures {
            let meant = erasure.test.in_block(&block, &erasure.range).map_err(block::Error::Build)?;
            // a row that several mean is the first one's
            let before = all.count_set_bits();
            all = &all | &meant;
            n_rows.push((all.count_set_bits() - before) as u64);
        }
        Ok((self.without(&block, &all, now_nanos)?, n_rows, Lost::of_block(&block, &all)?))
    }

    fn expire(&self, input: Input, keeping: &Keeping, age_days: u32, now_nanos: i64) -> block::Result<Rewritten> {
        let block = open(input)?;
        let expired = keeping.expired_rows(&block, age_days)?;
        self.without(&block, &expired, now_nanos)
    }
}

impl BlockMerge {
    fn without(&self, block: &Block, gone: &BooleanBuffer, now_nanos: i64) -> block::Result<Rewritten> {
        match gone.count_set_bits() as u64 {
            0 => Ok(Rewritten::Clean),
            n_rows => {
                let built = block::rewrite(block, gone, &self.settings, &self.scratch, now_nanos)?;
                Ok(Rewritten::Without(n_rows, built.map(Box::new)))
            }
        }
    }
}

fn open(input: Input) -> block::Result<Block> {
    match Block::open(Arc::clone(&input.meta), input.parquet.clone(), input.index) {
        // the rows are whole, and are indexed anew
        Err(error) if error.is_index() => {
            tracing::warn!(block = input.meta.id.as_str(), %error, "read without its index");
            Block::open(input.meta, input.parquet, None)
        }
        result => result,
    }
}

const MERGE_POINTS: Points = Points {
    announced: "merge.after_announcement",
    index_put: "merge.after_index_put",
    parquet_put: "merge.after_parquet_put",
    committed: "merge.after_commit",
};

/// Keeps the blocks of a store few, big, and no older than wanted.
#[derive(Debug)]
pub struct Maintainer {
    config: Config,
    retention: retention::Retention,
    lake_visible_at_once: bool,
    lake_swap_grace: Duration,
    /// What is read here stays at most so long.
    longest_read: Duration,
    makes_indexes: bool,
    merge: Arc<dyn Merge>,
    catalog: Arc<Catalog>,
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    clock: Arc<dyn Clock>,
    erasures: Erasures,
    losses: Arc<dyn Losses>,
    quarantine: Arc<Quarantine>,
    pace: Pace,
    /// Rounds are one at a time.
    round: tokio::sync::Mutex<()>,
    /// Of the removed blocks that the snapshot remembers, those whose objects are deleted.
    deleted: Mutex<HashSet<BlockId>>,
    /// Open intents that are being given up, and since when, nanoseconds since the epoch.
    giving_up: Mutex<HashMap<CommitId, i64>>,
    last_sweep_nanos: Mutex<Option<i64>>,
}

impl Maintainer {
    /// A maintainer; does nothing until it is run.
    pub fn new(parts: Parts) -> Self {
        let merge = Arc::new(BlockMerge {
            settings: parts.block.clone(),
            scratch: parts.cache.scratch(),
        });
        Self::with_merge(parts, merge)
    }

    fn with_merge(parts: Parts, merge: Arc<dyn Merge>) -> Self {
        Self {
            pace: Pace::new(parts.config.max_bytes_per_second),
            config: parts.config,
            retention: retention::Retention::new(parts.retention, parts.log_groups),
            lake_visible_at_once: parts.lake_visible_at_once,
            lake_swap_grace: lake_swap_grace(parts.query_timeout),
            // whoever reads a removed block began before its removal
            longest_read: parts.query_timeout.max(parts.report_timeout),
            makes_indexes: parts.block.index,
            merge,
            catalog: parts.catalog,
            store: parts.store,
            cache: parts.cache,
            clock: parts.clock,
            erasures: Erasures::new(parts.finder),
            losses: parts.losses,
            quarantine: parts.quarantine,
            round: tokio::sync::Mutex::default(),
            deleted: Mutex::default(),
            giving_up: Mutex::default(),
            last_sweep_nanos: Mutex::default(),
        }
    }

    /// Does a round every so often until `stop` resolves; a round under way is then left where it is, which is safe at any step.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let rounds = async {
            loop {
                self.run_once().await;
                let mut wait = Duration::from_secs(self.config.every_seconds.max(1));
                if self.is_something_leaving_the_lake() {
                    wait = wait.min(self.lake_swap_grace);
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.catalog.delete_ordered() => {}
                }
            }
        };
        tokio::select! {
            () = stop => {}
            () = rounds => {}
        }
    }

    /// One round: every step once, in the order of the table above; deletes that come meanwhile between two swaps too.
    pub async fn run_once(&self) -> Report {
        let _one_at_a_time = self.round.lock().await;
        let mut report = Report::default();
        if let Err(error) = self.catalog.refresh().await {
            self.note(&mut report, Step::Refresh, &error.into());
            return report;
        }
        self.give_up_stale_intents(&mut report).await;
        self.expire(&mut report).await;
        self.erase_all(&mut report).await;
        self.swap_all(&mut report).await;
        self.delete_removed(&mut report).await;
        self.sweep(&mut report).await;
        report
    }

    async fn give_up_stale_intents(&self, report: &mut Report) {
        let snapshot = self.catalog.snapshot();
        let now_nanos = self.clock.now_nanos();
        self.giving_up.lock().retain(|id, _| snapshot.intents().contains_key(id));
        let is_stale = |open: &OpenIntent| {
            if open.node == *self.catalog.node() {
                // no seal of ours is under way: rounds are one at a time; a flush looks after its own
                !open.intent.inputs.is_empty()
            } else {
                open.at_nanos < now_nanos - INTENT_STALE_NANOS
            }
        };
        for (id, open) in snapshot.intents().iter().filter(|(_, open)| is_stale(open)) {
            if let Err(error) = self.give_up(id, open).await {
                self.note(report, Step::GiveUp, &error);
            }
        }
    }

    /// Withdraws an intent, so that no record can name its outputs any more; deletes them; and only then ends it, which sets
    /// its inputs free. A crash in between leaves it open, and it is given up again. A put that was given up on may be carried out late:
    /// until that is past, each round deletes again, so that foreign readers never see the outputs beside what is made of the inputs next.
    async fn give_up(&self, id: &CommitId, open: &OpenIntent) -> Result<(), Error> {
        let began_nanos = self.clock.now_nanos();
        let first_nanos = *self.giving_up.lock().entry(id.clone()).or_insert(began_nanos);
        if !open.is_withdrawn {
            self.commit(Commit::withdrawing(id, began_nanos)).await?;
        }
        for key in &open.intent.outputs {
            self.store.delete(key).await?;
            self.cache.forget(key).await;
        }
        let late_nanos = i64::try_from(self.store.late_writes().as_nanos()).unwrap_or(i64::MAX);
        if began_nanos.saturating_sub(first_nanos) < late_nanos {
            return Ok(());
        }
        self.commit(Commit::ending(id, self.clock.now_nanos())).await?;
        Ok(())
    }

    fn groups_due(&self) -> VecDeque<Group> {
        let (snapshot, now_nanos) = (self.catalog.snapshot(), self.clock.now_nanos());
        self.quarantine.keep_live(&snapshot);
        let is_out = |id: &BlockId| self.quarantine.holds(id, now_nanos);
        policy::groups(&snapshot, &self.config, self.lake_visible_at_once, now_nanos, is_out).into()
    }

    /// The deletes that have blocks to be looked at.
    fn deletes_to_do(&self) -> HashSet<CommitId> {
        let snapshot = self.catalog.snapshot();
        let to_do = snapshot.deletes().iter().filter(|(_, delete)| !delete.todo.is_empty());
        to_do.map(|(id, _)| id.clone()).collect()
    }

    /// Swaps what is due. A delete that is ordered meanwhile has its turn before the next swap: there may be many, and each may take minutes.
    async fn swap_all(&self, report: &mut Report) {
        let (mut groups, mut tried) = (self.groups_due(), self.deletes_to_do());
        // a swap that failed is tried again in the next round, not in this one
        let mut failed: HashSet<BlockId> = HashSet::new();
        loop {
            let to_do = self.deletes_to_do();
            if !to_do.is_subset(&tried) {
                tried.extend(to_do);
                // the order may have overtaken a swap, whose intent would keep it off the blocks
                self.give_up_stale_intents(report).await;
                self.erase_all(report).await;
                // other blocks stand in the place of some
                groups = self.groups_due();
                groups.retain(|group| !group.blocks.iter().any(|meta| failed.contains(&meta.id)));
            }
            let Some(group) = groups.pop_front() else { break };
            let now_nanos = self.clock.now_nanos();
            match self.swap(&group, report).await {
                Ok((0, 0)) => failed.extend(group.blocks.iter().map(|meta| meta.id.clone())),
                Ok((n_replaced, n_made)) => {
                    report.blocks_replaced += n_replaced;
                    report.blocks_made += n_made;
                    SWAPS.get_or_create(&SwapLabels { swap: group.swap.name() }).inc();
                }
                Err(error) => {
                    if let Error::Block(block::Error::Parquet { block, .. }) = &error
                        && let Some(meta) = group.blocks.iter().find(|meta| meta.id.as_str() == block)
                    {
                        self.quarantine.put(meta, error.to_string(), now_nanos);
                    }
                    failed.extend(group.blocks.iter().map(|meta| meta.id.clone()));
                    self.note(report, Step::of(group.swap), &error);
                }
            }
        }
    }

    /// Makes one block of a group's and puts it in their place; gives how many blocks went, and how many that made (0 if no row was left).
    /// Damaged blocks stay where they are: the others must not wait for them.
    async fn swap(&self, group: &Group, report: &mut Report) -> Result<(usize, usize), Error> {
        let mut inputs = Vec::with_capacity(group.blocks.len());
        for meta in &group.blocks {
            self.pace.take(meta.parquet_bytes + meta.index_bytes).await;
            match self.read(meta).await {
                Ok(input) => {
                    self.quarantine.release(&meta.id);
                    inputs.push(input);
                }
                Err(error) if error.is_damage() => {
                    self.quarantine.put(meta, error.to_string(), self.clock.now_nanos());
                    self.note(report, Step::of(group.swap), &error);
                }
                Err(error) => return Err(error),
            }
        }
        let least = if group.swap == Swap::Merge { 2 } else { 1 };
        if inputs.len() < least {
            return Ok((0, 0));
        }
        self.bound(&mut inputs);
        let blocks: Vec<Arc<BlockMeta>> = inputs.iter().map(|input| Arc::clone(&input.meta)).collect();
        let blocks = &blocks[..];
        let (merge, level, partition_nanos, now_nanos) = (Arc::clone(&self.merge), group.level, group.partition_nanos, self.clock.now_nanos());
        let runtime = tokio::runtime::Handle::current();
        let merging = move || {
            supervise::stepping_back(MERGE_NICENESS, || {
                let _entered = runtime.enter();
                merge.merge(inputs, level, partition_nanos, now_nanos)
            })
        };
        let built = tokio::task::spawn_blocking(merging).await??;
        fail_point::hit("merge.after_build");
        // from here on the blocks may be gone: every commit says so by a conflict
        let removes: Vec<BlockId> = blocks.iter().map(|meta| meta.id.clone()).collect();
        let mut commit = Commit::new(
            match group.swap {
                Swap::Seal => CommitKind::Seal,
                Swap::Merge | Swap::Rewrite => CommitKind::Merge,
            },
            now_nanos,
        );
        commit.removes = removes;
        let Some(built) = built else {
            self.commit(commit).await?;
            return Ok((blocks.len(), 0));
        };
        self.pace.take(built.n_bytes()).await;
        self.put_in_place(commit, blocks, built, MERGE_POINTS).await?;
        Ok((blocks.len(), 1))
    }

    /// Where an index that should be there cannot be merged, rows are read into memory: only as many blocks as may be, one at least.
    /// The next round takes the others.
    fn bound(&self, inputs: &mut Vec<Input>) {
        let streams = |input: &Input| match input.meta.table.is_searchable() {
            true => self.makes_indexes && (input.index.is_some() || !input.meta.has_index()),
            false => true,
        };
        if inputs.iter().all(streams) {
            return;
        }
        let mut bytes = 0u64;
        let fits = inputs.iter().take_while(|input| {
            bytes = bytes.saturating_add(input.meta.rows_memory_bytes());
            bytes <= self.config.max_merge_memory_bytes
        });
        let n_fit = fits.count().max(1);
        inputs.truncate(n_fit);
    }

    async fn read(&self, meta: &Arc<BlockMeta>) -> Result<Input, Error> {
        let path = block_path(meta);
        let parquet = self.cache.map(&path.data(), meta.parquet_bytes, Some(meta.parquet_crc32c)).await?;
        let index = match meta.has_index() {
            true => self.cache.map(&path.index(), meta.index_bytes, Some(meta.index_crc32c)).await,
            false => {
                return Ok(Input {
                    meta: Arc::clone(meta),
                    parquet,
                    index: None,
                });
            }
        };
        let index = match index {
            Ok(bytes) => Some(bytes),
            Err(error) if error.retry_helps() => return Err(error.into()),
            // the rows are whole: an index that is damaged or gone is made anew
            Err(error) => {
                tracing::warn!(block = meta.id.as_str(), %error, "merged without its index");
                None
            }
        };
        Ok(Input {
            meta: Arc::clone(meta),
            parquet,
            index,
        })
    }

    async fn delete_removed(&self, report: &mut Report) {
        let snapshot = self.catalog.snapshot();
        let now_nanos = self.clock.now_nanos();
        let in_use = self.catalog.older_in_use();
        let known: HashSet<&BlockId> = snapshot.removed().iter().map(|removed| &removed.meta.id).collect();
        self.deleted.lock().retain(|id| known.contains(id));
        for removed in snapshot.removed() {
            let mut grace_nanos = policy::nanos(self.config.removed_grace_seconds);
            if removed.leaves_the_lake {
                grace_nanos = grace_nanos.min(policy::nanos(self.lake_swap_grace.as_secs()));
            }
            if removed.node != *self.catalog.node() {
                grace_nanos = grace_nanos.saturating_add(FOREIGN_GRACE_NANOS);
            }
            let is_due = |grace_nanos: i64| removed.at_nanos.saturating_add(grace_nanos) <= now_nanos;
            if !is_due(grace_nanos) || self.deleted.lock().contains(&removed.meta.id) {
                continue;
            }
            let is_read = |snapshot: &Arc<Snapshot>| snapshot.block(removed.meta.table, &removed.meta.id).is_some();
            if !is_due(policy::nanos(self.longest_read.as_secs())) && in_use.iter().any(is_read) {
                continue;
            }
            match self.delete_block(&removed.meta).await {
                Ok(n_objects) => {
                    report.objects_deleted += n_objects;
                    self.deleted.lock().insert(removed.meta.id.clone());
                }
                Err(error) => self.note(report, Step::Delete, &error),
            }
        }
    }

    /// Whether a block of this node is to go soon, that foreign readers still see.
    fn is_something_leaving_the_lake(&self) -> bool {
        let (snapshot, deleted) = (self.catalog.snapshot(), self.deleted.lock());
        let is_leaving = |removed: &Removed| removed.leaves_the_lake && removed.node == *self.catalog.node() && !deleted.contains(&removed.meta.id);
        snapshot.removed().iter().any(is_leaving)
    }

    async fn delete_block(&self, meta: &BlockMeta) -> Result<usize, Error> {
        let path = block_path(meta);
        let mut keys = vec![path.data()];
        keys.extend(meta.has_index().then(|| path.index()));
        for key in &keys {
            self.store.delete(key).await?;
            self.cache.forget(key).await;
            fail_point::hit("removal.after_first_object");
        }
        fail_point::hit("removal.after_last_object");
        OBJECTS_DELETED.get_or_create(&DeleteLabels { reason: "removed" }).inc_by(keys.len() as u64);
        Ok(keys.len())
    }

    async fn sweep(&self, report: &mut Report) {
        let now_nanos = self.clock.now_nanos();
        let is_due = self.last_sweep_nanos.lock().is_none_or(|last| last + SWEEP_EVERY_NANOS <= now_nanos);
        if !is_due {
            return;
        }
        match self.try_sweep(now_nanos).await {
            Ok(n_objects) => {
                report.orphans_deleted += n_objects;
                *self.last_sweep_nanos.lock() = Some(now_nanos);
            }
            Err(error) => self.note(report, Step::Sweep, &error),
        }
    }

    async fn try_sweep(&self, now_nanos: i64) -> Result<usize, Error> {
        let orphans = self.catalog.orphans(now_nanos).await?;
        for orphan in &orphans {
            tracing::info!(key = %orphan.key, bytes = orphan.n_bytes, "deleted: no record names it");
            self.store.delete(&orphan.key).await?;
            self.cache.forget(&orphan.key).await;
        }
        OBJECTS_DELETED.get_or_create(&DeleteLabels { reason: "orphan" }).inc_by(orphans.len() as u64);
        Ok(orphans.len())
    }

    /// Commits, with a few tries. What it says last may be wrong in one way: a record whose answer was lost may be there.
    /// That is found out in the next round.
    async fn commit(&self, commit: Commit) -> Result<Arc<Snapshot>, Error> {
        for one_try in 1..COMMIT_TRIES {
            match self.catalog.commit(commit.clone()).await {
                Err(error) if error.retry_helps() => tokio::time::sleep(Duration::from_millis(20 << one_try)).await,
                result => return Ok(result?),
            }
        }
        Ok(self.catalog.commit(commit).await?)
    }

    /// A damaged block is left alone for a while; one that could be read is no damaged one any more.
    fn note_damage(&self, meta: &Arc<BlockMeta>, error: Option<&Error>) {
        match error {
            None => self.quarantine.release(&meta.id),
            Some(error) if error.is_damage() => self.quarantine.put(meta, error.to_string(), self.clock.now_nanos()),
            Some(_) => {}
        }
    }

    fn note(&self, report: &mut Report, step: Step, error: &Error) {
        if error.is_lost_race() {
            tracing::debug!(step = step.name(), %error, "somebody was faster");
            return;
        }
        tracing::warn!(step = step.name(), %error, "maintenance step failed; the next round tries again");
        FAILURES.get_or_create(&StepLabels { step: step.name() }).inc();
        report.problems.push(format!("{}: {error}", step.name()));
    }
}
