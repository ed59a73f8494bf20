//! Which blocks are to be merged, sealed or removed: pure functions of a snapshot and the time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Config;
use crate::block::{BlockId, BlockMeta, Level};
use crate::catalog::Snapshot;
use crate::model::Table;
use crate::model::schema::HOUR_NANOS;

/// Blocks are of like size if their rows agree up to this factor; so a row is merged early once for each such factor
/// between a flush and a full block.
const SIZE_CLASS_FACTOR: u64 = 8;

/// Why blocks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    /// Into the lake.
    Seal,
    /// Fewer of the same level.
    Merge,
    /// The same block of the lake without its hidden rows.
    Rewrite,
}

impl Swap {
    pub(super) fn name(self) -> &'static str {
        match self {
            Swap::Seal => "seal",
            Swap::Merge => "merge",
            Swap::Rewrite => "rewrite",
        }
    }
}

/// Blocks of one table and partition that are to become one.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) swap: Swap,
    pub(super) level: Level,
    pub(super) partition_nanos: i64,
    pub(super) blocks: Vec<Arc<BlockMeta>>,
}

pub(super) fn nanos(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX)
}

/// When a block was made: its name says so.
pub(in crate::ingest) fn made_nanos(id: &BlockId) -> i64 {
    let millis = ulid::Ulid::from_string(id.as_str()).map_or(0, |ulid| ulid.timestamp_ms());
    i64::try_from(millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

/// All groups that are due, oldest partition of each table first.
///
/// Blocks that are `out` are in none.
pub(super) fn groups(snapshot: &Snapshot, config: &Config, lake_visible_at_once: bool, now_nanos: i64, is_out: impl Fn(&BlockId) -> bool) -> Vec<Group> {
    let mut groups = Vec::new();
    for table in Table::ALL {
        let mut partitions: BTreeMap<i64, Vec<Arc<BlockMeta>>> = BTreeMap::new();
        for meta in snapshot.blocks(table).iter().filter(|meta| !is_out(&meta.id)) {
            partitions.entry(meta.partition_nanos).or_default().push(Arc::clone(meta));
        }
        for (partition_nanos, blocks) in partitions {
            // another node is at work here, or a delete has yet to look
            let is_claimed = |meta: &Arc<BlockMeta>| snapshot.is_claimed(&meta.id) || snapshot.is_to_be_erased(&meta.id);
            if blocks.iter().any(is_claimed) {
                continue;
            }
            let partition = Partition {
                table,
                partition_nanos,
                blocks,
                config,
                now_nanos,
            };
            groups.extend(if lake_visible_at_once {
                partition.groups_of_the_lake()
            } else {
                partition.groups_of_l0()
            });
        }
    }
    groups
}

/// What a merged block is bounded by.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    rows: u64,
    parquet_bytes: u64,
    memory_bytes: u64,
}

impl Size {
    fn of(meta: &BlockMeta) -> Self {
        Self {
            rows: meta.n_rows,
            parquet_bytes: meta.parquet_bytes,
            memory_bytes: meta.merge_memory_bytes(),
        }
    }
    fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            parquet_bytes: self.parquet_bytes.saturating_add(other.parquet_bytes),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
    fn fits(self, config: &Config) -> bool {
        self.rows <= config.max_block_rows && self.parquet_bytes <= config.max_block_bytes && self.memory_bytes <= config.max_merge_memory_bytes
    }
}

/// One partition of a table, looked at now.
struct Partition<'a> {
    table: Table,
    partition_nanos: i64,
    blocks: Vec<Arc<BlockMeta>>,
    config: &'a Config,
    now_nanos: i64,
}

impl Partition<'_> {
    fn at_level(&self, level: Level) -> Vec<Arc<BlockMeta>> {
        self.blocks.iter().filter(|meta| meta.level == level).cloned().collect()
    }

    fn is_over(&self) -> bool {
        let end_nanos = self.partition_nanos.saturating_add(self.table.partition_width_nanos());
        self.has_passed(end_nanos, self.config.seal_after_seconds)
    }

    fn has_passed(&self, since_nanos: i64, seconds: u64) -> bool {
        since_nanos.saturating_add(nanos(seconds)) <= self.now_nanos
    }

    /// Seals what is due; of the rest, merges what is much. A span that is completed late is in a late row, and the row that it
    /// replaces is hidden in a block of the lake: both change there in one round, so that foreign readers count it once.
    fn groups_of_l0(&self) -> Vec<Group> {
        let l0 = self.at_level(Level::L0);
        let (mut due, waiting): (Vec<_>, Vec<_>) = match self.table.is_hourly() {
            true if self.is_hour_due(&l0) => (l0, Vec::new()),
            true => (Vec::new(), l0),
            false => l0.into_iter().partition(|meta| self.is_flush_hour_over(meta)),
        };
        if waiting.is_empty() {
            due.extend(self.with_hidden_rows());
        }
        let seals = self.fill(due).into_iter().map(|blocks| self.seal_of(blocks));
        let merges = self.like_sizes(waiting, self.config.merge_at_blocks.max(2));
        let merges = merges.into_iter().map(|blocks| self.group(Swap::Merge, Level::L0, blocks));
        seals.chain(merges).collect()
    }

    /// Everything is in the lake at once: keeps its files few, and without hidden rows.
    fn groups_of_the_lake(&self) -> Vec<Group> {
        // what was flushed before the setting changed
        let seals = self.fill(self.at_level(Level::L0)).into_iter().map(|blocks| self.seal_of(blocks));
        let sealed = self.at_level(Level::Sealed);
        let is_quiet = sealed.iter().all(|meta| self.has_passed(made_nanos(&meta.id), self.config.seal_quiet_seconds));
        let at_least = if self.is_over() && is_quiet { 2 } else { self.config.merge_at_blocks.max(2) };
        let merges = self.like_sizes(sealed, at_least);
        let is_merged: HashSet<BlockId> = merges.iter().flatten().map(|meta| meta.id.clone()).collect();
        let rewrites = self
            .with_hidden_rows()
            .filter(|meta| !is_merged.contains(&meta.id))
            .map(|meta| self.seal_of(vec![meta]));
        let rewrites: Vec<Group> = rewrites.collect();
        let merges = merges.into_iter().map(|blocks| self.group(Swap::Merge, Level::Sealed, blocks));
        seals.chain(merges).chain(rewrites).collect()
    }

    /// Blocks of the lake in which foreign readers see rows that no answer has. One that was made lately waits: more of its rows
    /// may be hidden soon.
    fn with_hidden_rows(&self) -> impl Iterator<Item = Arc<BlockMeta>> {
        let is_due = |meta: &&Arc<BlockMeta>| {
            meta.level == Level::Sealed && !meta.hidden.is_empty() && self.has_passed(made_nanos(&meta.id), self.config.seal_quiet_seconds)
        };
        self.blocks.iter().filter(is_due).cloned()
    }

    /// Blocks of which one of the lake is made.
    fn seal_of(&self, blocks: Vec<Arc<BlockMeta>>) -> Group {
        let swap = match blocks.iter().any(|meta| meta.level == Level::L0) {
            true => Swap::Seal,
            false => Swap::Rewrite,
        };
        self.group(swap, Level::Sealed, blocks)
    }

    /// Whether the L0 blocks of an hour are to be sealed.
    fn is_hour_due(&self, l0: &[Arc<BlockMeta>]) -> bool {
        let made = |meta: &Arc<BlockMeta>| made_nanos(&meta.id);
        let (Some(oldest), Some(newest)) = (l0.iter().map(made).min(), l0.iter().map(made).max()) else {
            return false;
        };
        if !self.is_over() {
            return false;
        }
        let last_seal = self.at_level(Level::Sealed).iter().map(made).max();
        // rows that came after the seal wait for more of their kind; those that the seal left behind, cut short, do not
        let is_late = last_seal.is_some_and(|last_seal| last_seal < oldest);
        let is_quiet = self.has_passed(newest, self.config.seal_quiet_seconds);
        (is_quiet && !is_late) || self.has_passed(oldest, self.config.late_seal_seconds)
    }

    /// Whether the hour in which a block was flushed is over.
    fn is_flush_hour_over(&self, meta: &Arc<BlockMeta>) -> bool {
        let flush_hour = made_nanos(&meta.id).div_euclid(HOUR_NANOS).saturating_mul(HOUR_NANOS);
        self.has_passed(flush_hour.saturating_add(HOUR_NANOS), self.config.seal_after_seconds)
    }

    fn group(&self, swap: Swap, level: Level, blocks: Vec<Arc<BlockMeta>>) -> Group {
        Group {
            swap,
            level,
            partition_nanos: self.partition_nanos,
            blocks,
        }
    }

    /// Groups of blocks next to each other in time, each as large as a block may be.
    fn fill(&self, mut blocks: Vec<Arc<BlockMeta>>) -> Vec<Vec<Arc<BlockMeta>>> {
        blocks.sort_by(|a, b| (a.min_time_nanos, &a.id).cmp(&(b.min_time_nanos, &b.id)));
        let mut groups: Vec<Vec<Arc<BlockMeta>>> = Vec::new();
        let mut total = Size::default();
        for meta in blocks {
            let size = Size::of(&meta);
            total = total.and(size);
            match groups.last_mut() {
                Some(group) if total.fits(self.config) => group.push(meta),
                _ => {
                    total = size;
                    groups.push(vec![meta]);
                }
            }
        }
        groups
    }

    /// Groups of at least `at_least` blocks of like size; full ones are left alone.
    fn like_sizes(&self, blocks: Vec<Arc<BlockMeta>>, at_least: usize) -> Vec<Vec<Arc<BlockMeta>>> {
        let mut classes: BTreeMap<u32, Vec<Arc<BlockMeta>>> = BTreeMap::new();
        for meta in blocks {
            let size = Size::of(&meta);
            if size.and(size).fits(self.config) {
                classes.entry(meta.n_rows.max(1).ilog(SIZE_CLASS_FACTOR)).or_default().push(meta);
            }
        }
        let large_enough = classes.into_values().filter(|class| class.len() >= at_least);
        let groups = large_enough.flat_map(|class| self.fill(class));
        groups.filter(|group| group.len() >= 2).collect()
    }
}
