//! The head becomes blocks: cut, build, put, commit, forget. Nothing else makes rows leave the head.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::Int64Array;

use super::replay::{LEDGER_KEY, write_states};
use super::{Ingest, Inner, LakeVisible, metrics};
use crate::block::{self, BlockMeta, BuiltBlock, Level};
use crate::catalog::{Commit, CommitKind, WalRange, block_path};
use crate::model::{Rows, Table};
use crate::wal::Lsn;

/// How often the flush loop looks at the age of the head.
const TICK: Duration = Duration::from_millis(500);
/// First and longest wait between attempts against a store that is away.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

const HOUR_NANOS: i64 = 3_600_000_000_000;
const DAY_NANOS: i64 = 24 * HOUR_NANOS;

impl Ingest {
    /// Flushes by size, number and age until `stop` resolves.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = self.inner.flush_wanted.notified() => {}
                _ = tick.tick() => {}
            }
            if self.is_flush_due() {
                // never cut short: a commit whose answer nobody waits for may still happen
                self.flush().await;
            }
        }
    }

    fn is_flush_due(&self) -> bool {
        let config = &self.inner.config;
        let head = self.inner.head.lock();
        let max_age_nanos = i64::try_from(config.flush_age_seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
        let age_nanos = head.active_since_nanos().map_or(0, |since| self.inner.clock.now_nanos().saturating_sub(since));
        head.active_bytes() >= config.flush_bytes
            || head.active_rows() >= config.flush_rows
            || (head.active_since_nanos().is_some() && age_nanos >= max_age_nanos)
    }

    /// Flushes everything acknowledged so far; returns when the catalog has it, however long the store is away.
    pub async fn flush(&self) {
        let _one_at_a_time = self.inner.flushing.lock().await;
        let (lsn, documents) = {
            let _quiescent = self.inner.publication.write().await;
            self.inner.head.lock().cut();
            (self.inner.wal.stats().last_lsn, self.inner.state_documents())
        };
        self.inner.flush_cut(lsn, documents).await;
    }
}

impl Inner {
    /// Replay's flush: nothing else is running, and `lsn` is the last frame in the head.
    pub(super) async fn flush_up_to(&self, lsn: Lsn) {
        self.head.lock().cut();
        self.flush_cut(lsn, self.state_documents()).await;
    }

    /// Builds, puts and commits what was cut at `lsn`, with the state documents as they stood then.
    async fn flush_cut(&self, lsn: Lsn, documents: bytes::Bytes) {
        let started = Instant::now();
        // an earlier commit may have happened without our knowing: what the catalog has is not committed again
        let flushed = self.catalog.snapshot().flushed_lsn(self.catalog.node());
        self.flushed_lsn.store(flushed, Ordering::Release);
        self.head.lock().forget(flushed);
        let parts: Vec<Rows> = self.head.lock().flushing_rows();
        if lsn <= flushed {
            return;
        }
        let mut adds: Vec<BlockMeta> = Vec::new();
        let mut rows_flushed = 0;
        let partitions = match partitions(parts) {
            Ok(partitions) => partitions,
            Err(error) => return self.build_failed(&error.into()),
        };
        for (table, partition_nanos, rows) in partitions {
            let built = match self.build(table, partition_nanos, rows).await {
                Ok(built) => built,
                Err(error) => return self.build_failed(&error),
            };
            rows_flushed += built.meta.n_rows;
            let Some(meta) = self.put_block(built).await else { return };
            adds.push(meta);
        }
        let attempt = || {
            let (catalog, documents) = (self.catalog.clone(), documents.clone());
            async move { catalog.put_state(documents).await }
        };
        let Some(state) = self.until_stored("the state documents", attempt).await else {
            return;
        };
        let mut commit = Commit::new(CommitKind::Flush, self.clock.now_nanos());
        commit.adds = adds;
        commit.wal = Some(WalRange { from: flushed + 1, to: lsn });
        commit.state = Some(state);
        let n_blocks = commit.adds.len();
        // the commit carries its own name: tried again after an unanswered attempt, it still happens once
        let attempt = || {
            let (catalog, commit) = (self.catalog.clone(), commit.clone());
            async move { catalog.commit(commit).await }
        };
        if self.until_stored("the catalog record", attempt).await.is_none() && !self.is_covered(lsn).await {
            return;
        }
        self.flushed_lsn.store(lsn, Ordering::Release);
        {
            let mut head = self.head.lock();
            head.forget(lsn);
            metrics::HEAD_BYTES.set(head.bytes() as i64);
        }
        self.wal.truncate_below(lsn + 1);
        self.problems.lock().remove("flush");
        metrics::FLUSHES.inc();
        metrics::FLUSHED_ROWS.inc_by(rows_flushed);
        metrics::FLUSH_SECONDS.observe(started.elapsed().as_secs_f64());
        tracing::info!(
            lsn,
            blocks = n_blocks,
            rows = rows_flushed,
            millis = started.elapsed().as_millis() as u64,
            "flushed"
        );
    }

    /// Whether the catalog has the cut after all: an attempt whose answer was lost may have made it, and then every later
    /// one is a conflict.
    async fn is_covered(&self, lsn: Lsn) -> bool {
        match self.catalog.refresh().await {
            Ok(snapshot) => snapshot.flushed_lsn(self.catalog.node()) >= lsn,
            Err(_) => false,
        }
    }

    /// The rows stay in the head and the log: the next flush, or the next start, tries again.
    fn build_failed(&self, error: &block::Error) {
        tracing::error!(%error, "a block could not be built");
        self.problems.lock().insert("flush", format!("blocks cannot be built: {error}"));
    }

    async fn build(&self, table: Table, partition_nanos: i64, rows: Vec<Rows>) -> Result<BuiltBlock, block::Error> {
        let level = match self.config.lake_visible {
            LakeVisible::All => Level::Sealed,
            LakeVisible::Sealed => Level::L0,
        };
        let (settings, now_nanos) = (self.block.clone(), self.clock.now_nanos());
        let task = tokio::task::spawn_blocking(move || block::build(table, partition_nanos, level, &rows, &settings, now_nanos));
        task.await.unwrap_or_else(|panic| Err(block::Error::Build(panic.to_string())))
    }

    /// Puts Parquet, then index; tries for as long as the store is away.
    async fn put_block(&self, built: BuiltBlock) -> Option<BlockMeta> {
        let BuiltBlock { meta, parquet, index } = built;
        let path = block_path(&meta);
        let objects = [(path.data(), Some(parquet)), (path.index(), index)];
        for (key, bytes) in objects.into_iter().filter_map(|(key, bytes)| Some((key, bytes?))) {
            self.until_stored("a block", || {
                let (store, key, bytes) = (self.store.clone(), key.clone(), bytes.clone());
                async move { store.put(&key, bytes).await }
            })
            .await?;
            self.cache.seed(&key, bytes).await;
        }
        Some(meta)
    }

    /// Tries until it succeeds, waiting longer each time, and says so in the status meanwhile. `None` when trying again
    /// cannot help: the rows stay in the head and the log, and a person has to look.
    async fn until_stored<T, E: RetryHelps, F: Future<Output = Result<T, E>>>(&self, what: &str, mut attempt: impl FnMut() -> F) -> Option<T> {
        let mut wait = RETRY_MIN;
        loop {
            let error = match attempt().await {
                Ok(done) => {
                    self.problems.lock().remove("store");
                    return Some(done);
                }
                Err(error) => error,
            };
            metrics::FLUSH_RETRIES.inc();
            if !error.retry_helps() {
                tracing::error!(%error, what, "the store refuses it for good");
                self.problems.lock().insert("store", format!("{what} cannot be stored: {error}"));
                return None;
            }
            tracing::warn!(%error, what, retry_in_millis = wait.as_millis() as u64, "the store did not take it");
            self.problems
                .lock()
                .insert("store", format!("{what} could not be stored, trying again: {error}"));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// The state documents and the ledger's sums, as one object.
    fn state_documents(&self) -> bytes::Bytes {
        let ledger = self.ledger.to_json();
        let states = self.states.lock();
        let documents = states.iter().map(|(key, value)| (key.as_str(), value.as_ref()));
        write_states(documents.chain([(LEDGER_KEY, ledger.as_slice())])).into()
    }
}

/// Errors that know whether the same call may succeed later.
trait RetryHelps: std::fmt::Display {
    fn retry_helps(&self) -> bool;
}
impl RetryHelps for crate::storage::Error {
    /// Always: even a denial passes when somebody renews the credentials, and the log holds the rows meanwhile.
    fn retry_helps(&self) -> bool {
        true
    }
}
impl RetryHelps for crate::catalog::Error {
    fn retry_helps(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Contended { .. })
    }
}

/// Splits rows by table and partition: the UTC hour of event time, or the day for tables that are kept by day.
fn partitions(parts: Vec<Rows>) -> Result<Vec<(Table, i64, Vec<Rows>)>, arrow::error::ArrowError> {
    let mut out: std::collections::BTreeMap<(Table, i64), Vec<Rows>> = std::collections::BTreeMap::new();
    for rows in parts {
        let Some((min, max)) = rows.time_bounds() else { continue };
        let table = rows.table();
        let width = if table.is_hourly() { HOUR_NANOS } else { DAY_NANOS };
        let floor = |nanos: i64| nanos.div_euclid(width).saturating_mul(width);
        if floor(min) == floor(max) {
            out.entry((table, floor(min))).or_default().push(rows);
            continue;
        }
        let mut by_partition: std::collections::BTreeMap<i64, Vec<i64>> = std::collections::BTreeMap::new();
        for (row, nanos) in rows.times().values().iter().enumerate() {
            by_partition.entry(floor(*nanos)).or_default().push(row as i64);
        }
        for (partition, indices) in by_partition {
            out.entry((table, partition)).or_default().push(rows.take(&Int64Array::from(indices))?);
        }
    }
    Ok(out.into_iter().map(|((table, partition), rows)| (table, partition, rows)).collect())
}
