//! The head becomes blocks: cut, build, put, commit, forget. Nothing else makes rows leave the head.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::Int64Array;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tracing::Instrument as _;

use super::erase::LeftOut;
use super::repeats::REPEATS_KEY;
use super::replay::WATERMARKS_KEY;
use super::states::{self, Draft, Part};
use super::{Ingest, Inner, LakeVisible, metrics};
use crate::block::{self, BlockMeta, BuiltBlock, Level};
use crate::catalog::{Commit, CommitId, CommitKind, Intent, ORPHAN_AGE_NANOS, OpenIntent, Snapshot, WalRange, block_path};
use crate::fail_point;
use crate::model::{Rows, Table};
use crate::storage::Key;
use crate::telemetry::{SPANS, UNHEARD};
use crate::wal::Lsn;

/// How often the flush loop looks at the age of the head.
const TICK: Duration = Duration::from_millis(500);
/// First and longest wait between attempts against a store that is away.
const RETRY_MIN: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 200 });
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Age at which an attempt is given up and made anew: its objects must not be old enough for the sweep once the
/// record that names them lands.
const MAX_ATTEMPT_NANOS: i64 = ORPHAN_AGE_NANOS / 2;
/// Times that one flush looks again when the catalog contradicts it: once for a commit of an earlier life that landed
/// late, once for an intent that somebody else gave up.
const MAX_OVERTAKEN: u32 = 4;
/// Times that a flush looks for rows to hide, before it leaves them to a merge.
const HIDE_TRIES: u32 = 4;
/// Blocks of one flush that are on their way to the store at once. They are built one after the other.
const BLOCKS_AT_A_TIME: usize = 8;

impl Ingest {
    /// Flushes by size, number and age, and brings counts to the log, until `stop` resolves.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.flush_again_and_again(stop) => {}
            // also while a flush waits for the store
            () = self.keep_counts() => {}
        }
    }

    async fn flush_again_and_again(&self, stop: impl Future<Output = ()>) {
        // what was cut before a panic waits for no age
        let was_cut = !self.inner.head.lock().flushing_rows().is_empty();
        if was_cut {
            self.flush().await;
        }
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = self.inner.flush_wanted.notified() => {}
                _ = tick.tick() => {}
            }
            if self.inner.is_superseded() {
                continue;
            }
            self.inner.watermarks.publish_metrics(&self.inner.catalog.snapshot());
            self.inner.note_position();
            self.learn_of_deletes().await;
            if self.is_flush_due() {
                // never cut short: a commit whose answer nobody waits for may still happen
                self.flush().await;
            }
        }
    }

    /// Joins deletes that other nodes ordered, even if there is nothing to flush.
    async fn learn_of_deletes(&self) {
        if !self.inner.is_delete_unknown() {
            return;
        }
        let _one_at_a_time = self.inner.flushing.lock().await;
        if let Err(setback) = self.inner.join_deletes(self.inner.clock.now_nanos()).await {
            tracing::warn!(?setback, "a delete could not be joined; trying again");
        }
    }

    pub(super) fn is_flush_due(&self) -> bool {
        // what failed is tried again though nothing new comes, and not at every tick though much does
        if let Some(is_due) = self.inner.retry.is_due(self.inner.clock.now_nanos()) {
            return is_due;
        }
        if self.inner.is_delete_waiting() {
            return true;
        }
        let config = &self.inner.config;
        // frames that became few rows fill the log too
        if self.inner.wal.is_half_full() {
            return true;
        }
        let head = self.inner.head.lock();
        let max_age_nanos = i64::try_from(self.flush_age_seconds().saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
        let now_nanos = self.inner.clock.now_nanos();
        let since_nanos = match (head.active_since_nanos(), *self.inner.states_since_nanos.lock()) {
            (Some(rows), Some(states)) => Some(rows.min(states)),
            (rows, states) => rows.or(states),
        };
        head.active_bytes() >= config.flush_bytes
            || head.active_rows() >= config.flush_rows
            || since_nanos.is_some_and(|since| now_nanos.saturating_sub(since) >= max_age_nanos)
    }

    /// Flushes everything acknowledged so far; returns when the catalog has it, however long the store is away.
    pub async fn flush(&self) {
        let _one_at_a_time = self.inner.flushing.lock().await;
        let cut = {
            let _quiescent = self.inner.publication.write().await;
            self.inner.cut(self.inner.wal.stats().last_lsn)
        };
        self.inner.flush_cut(cut).await;
    }

    /// Commits the state documents, all of the ledger, and that the node leaves, unless the log holds what no block covers. Nothing is
    /// appended from then on.
    pub(super) async fn leave(&self) {
        let inner = &self.inner;
        let _one_at_a_time = inner.flushing.lock().await;
        let ledger = {
            let _quiescent = inner.publication.write().await;
            // sums that count rows which the log has yet to replay would count them twice
            let (last, flushed) = (inner.wal.stats().last_lsn, inner.flushed_lsn.load(Ordering::Acquire));
            if last > flushed {
                let first = flushed + 1;
                tracing::warn!(
                    first,
                    last,
                    "the log holds what no block covers: deletes wait for this node until it has started again"
                );
                return;
            }
            inner.has_left.store(true, Ordering::Release);
            inner.ledger.to_json()
        };
        let mut commit = Commit::new(CommitKind::State, inner.clock.now_nanos());
        commit.ledger = (!inner.ledger.is_committed(&ledger)).then_some(ledger);
        commit.leaves = true;
        let now_nanos = inner.clock.now_nanos();
        if let Err(setback) = inner.commit_with_state(commit, now_nanos).await {
            tracing::error!(?setback, "the state documents could not be stored; the log has those that matter");
        }
    }
}

/// What one flush is to bring into blocks.
#[derive(Debug)]
struct Cut {
    /// The last log position of it.
    lsn: Lsn,
    /// The ledger's sums at that position.
    ledger: serde_json::Value,
    /// Whether no row is but those of our own telemetry.
    is_only_ours: bool,
}

/// Why an attempt to flush ended without a commit.
#[derive(Debug)]
pub(super) enum Setback {
    /// It took so long that the sweep may take its objects: they are made again under new names.
    Outlived,
    /// The catalog contradicts: an earlier commit, of this life or the last, has happened after all.
    Overtaken(String),
    /// Blocks cannot be made of the rows.
    Build(block::Error),
    /// The store or catalog refuses for good; said already.
    Refused,
}

impl From<block::Error> for Setback {
    fn from(error: block::Error) -> Self {
        Setback::Build(error)
    }
}

/// A committed flush.
struct Flushed {
    n_blocks: usize,
    n_rows: u64,
}

impl Inner {
    /// Replay's flush: nothing else is running, and `lsn` is the last frame in the head.
    pub(super) async fn flush_up_to(&self, lsn: Lsn) {
        let cut = self.cut(lsn);
        self.flush_cut(cut).await;
    }

    /// Nothing may be published meanwhile.
    fn cut(&self, lsn: Lsn) -> Cut {
        self.head.lock().cut();
        *self.states_since_nanos.lock() = None;
        self.watermarks.cut();
        let repeats = self.repeats.to_bytes(self.clock.now_nanos());
        {
            let mut states = self.states.lock();
            states.set(WATERMARKS_KEY, Some(self.watermarks.to_json().into()));
            states.set(REPEATS_KEY, repeats.map(Bytes::from));
        }
        Cut {
            lsn,
            ledger: self.ledger.logged_to_json(),
            is_only_ours: !self.has_others_rows.swap(false, Ordering::AcqRel),
        }
    }

    /// Builds, puts and commits what was cut, until the catalog has it or trying again at once cannot help. The rows then stay in
    /// the head and the log, and the next flush takes them along: after a while it is due by that alone ([`super::retry`]).
    async fn flush_cut(&self, cut: Cut) {
        // telling of a flush of what we told would never end
        let span = match cut.is_only_ours {
            true => tracing::info_span!(target: UNHEARD, "flush"),
            false => tracing::info_span!(target: SPANS, "flush", lsn = cut.lsn),
        };
        match self.flush_all(&cut).instrument(span).await {
            true => self.retry.never(),
            false => {
                self.has_others_rows.fetch_or(!cut.is_only_ours, Ordering::AcqRel);
                self.retry.later(self.clock.now_nanos());
            }
        }
    }

    /// Whether the catalog has it all, or another process writes as this node.
    async fn flush_all(&self, cut: &Cut) -> bool {
        fail_point::hit("flush.after_cut");
        let started = Instant::now();
        let mut n_overtaken = 0;
        loop {
            // an earlier commit may have happened without our knowing: what the catalog has is not committed again
            let snapshot = self.catalog.snapshot();
            if self.find_superseded(&snapshot) {
                return true;
            }
            let flushed = snapshot.flushed_lsn(self.catalog.node());
            self.forget(flushed);
            if cut.lsn <= flushed {
                self.watermarks.committed();
                self.problems.lock().remove("flush");
                return true;
            }
            match self.try_flush(cut, flushed).await {
                Ok(Flushed { n_blocks, n_rows }) => {
                    fail_point::hit("flush.after_commit");
                    self.forget(cut.lsn);
                    fail_point::hit("flush.after_truncation");
                    self.watermarks.committed();
                    self.problems.lock().remove("flush");
                    metrics::FLUSHES.inc();
                    metrics::FLUSHED_ROWS.inc_by(n_rows);
                    metrics::FLUSH_SECONDS.observe(started.elapsed().as_secs_f64());
                    let (lsn, millis) = (cut.lsn, started.elapsed().as_millis() as u64);
                    tracing::info!(lsn, blocks = n_blocks, rows = n_rows, millis, "flushed");
                    return true;
                }
                Err(Setback::Outlived) => tracing::warn!("the store was away for so long that the blocks are made anew"),
                Err(Setback::Overtaken(what)) if n_overtaken < MAX_OVERTAKEN => {
                    n_overtaken += 1;
                    tracing::warn!(what, "the catalog has changed under the flush; looking again at what it has left to do");
                }
                Err(Setback::Overtaken(what)) => {
                    tracing::error!(what, "the catalog refuses the flush");
                    self.problems.lock().insert("flush", format!("the catalog refuses the flush: {what}"));
                    return false;
                }
                Err(Setback::Build(error)) => {
                    tracing::error!(%error, "a block could not be built");
                    self.problems.lock().insert("flush", format!("blocks cannot be built: {error}"));
                    return false;
                }
                Err(Setback::Refused) => return false,
            }
        }
    }

    /// One attempt: new blocks, under new names, of all that was cut and that no block covers.
    async fn try_flush(&self, cut: &Cut, flushed: Lsn) -> Result<Flushed, Setback> {
        let began_nanos = self.clock.now_nanos();
        self.give_up_intents(began_nanos).await?;
        self.join_deletes(began_nanos).await?;
        let parts: Vec<Rows> = self.head.lock().flushing_rows();
        let parts = off_the_runtime(move || without_superseded(parts)).await?;
        let LeftOut { parts, erased, lost } = self.without_deleted(parts, flushed, began_nanos).await?;
        self.note_lost(&lost, cut.lsn);
        let spans: Vec<Rows> = parts.iter().filter(|rows| rows.table() == Table::Spans).cloned().collect();
        let partitions = off_the_runtime(move || partitions(parts)).await?;
        let one_build = tokio::sync::Mutex::new(());
        let mut intent = None;
        let adds: Vec<BlockMeta> = match self.config.lake_visible {
            LakeVisible::Sealed => {
                let puts = futures::stream::iter(partitions).map(|partition| {
                    let one_build = &one_build;
                    async move {
                        let built = self.build_in_turn(one_build, partition).await?;
                        self.put_block(built, began_nanos).await
                    }
                });
                puts.buffer_unordered(BLOCKS_AT_A_TIME).try_collect().await?
            }
            LakeVisible::All => {
                // foreign readers see each as it is put: what a crash leaves half done must be found again
                let mut built = Vec::with_capacity(partitions.len());
                for partition in partitions {
                    built.push(self.build_in_turn(&one_build, partition).await?);
                }
                if !built.is_empty() {
                    intent = Some(self.announce(&built, began_nanos).await?);
                    fail_point::hit("flush.after_announcement");
                }
                let puts = futures::stream::iter(built).map(|built| async move { self.put_block(built, began_nanos).await });
                puts.buffer_unordered(BLOCKS_AT_A_TIME).try_collect().await?
            }
        };
        let flushed_now = Flushed {
            n_blocks: adds.len(),
            n_rows: adds.iter().map(|meta| meta.n_rows).sum(),
        };
        let mut commit = Commit::new(CommitKind::Flush, self.clock.now_nanos());
        commit.ends = intent;
        commit.adds = adds;
        commit.erased = erased;
        commit.wal = Some(WalRange {
            from: flushed + 1,
            to: cut.lsn,
        });
        commit.ledger = Some(cut.ledger.clone());
        self.commit_hiding(commit, &spans, began_nanos).await?;
        Ok(flushed_now)
    }

    /// Commits a flush that hides the rows which its spans replace. If a merge has taken the place of their blocks meanwhile,
    /// they are looked for again; the new blocks stay as they are.
    async fn commit_hiding(&self, mut commit: Commit, spans: &[Rows], began_nanos: i64) -> Result<(), Setback> {
        for _ in 1..HIDE_TRIES {
            commit.hides = self.superseded_by(spans).await;
            match self.commit_with_state(commit.clone(), began_nanos).await {
                Err(Setback::Overtaken(what)) if !commit.hides.is_empty() => tracing::debug!(what, "looking again for what the new spans replace"),
                result => return result,
            }
        }
        // a merge finds the rest
        commit.hides.clear();
        self.commit_with_state(commit, began_nanos).await
    }

    /// Announces objects that are about to be put into the lake.
    async fn announce(&self, built: &[BuiltBlock], began_nanos: i64) -> Result<CommitId, Setback> {
        let mut commit = Commit::new(CommitKind::Intent, self.clock.now_nanos());
        let keys = built.iter().flat_map(|built| {
            let path = block_path(&built.meta);
            [path.data(), path.index()]
        });
        commit.intent = Some(Intent {
            outputs: keys.collect(),
            inputs: vec![],
        });
        let id = commit.id.clone();
        self.commit(commit, began_nanos).await?;
        Ok(id)
    }

    /// Takes back what an attempt, of this life or the last, announced and did not commit: withdrawn, no record can name
    /// its objects any more; they are deleted, before their rows are put again.
    async fn give_up_intents(&self, began_nanos: i64) -> Result<(), Setback> {
        let snapshot = self.catalog.snapshot();
        let is_ours = |open: &OpenIntent| open.node == *self.catalog.node() && open.intent.inputs.is_empty();
        let ours: Vec<(CommitId, OpenIntent)> = snapshot
            .intents()
            .iter()
            .filter(|(_, open)| is_ours(open))
            .map(|(id, open)| (id.clone(), open.clone()))
            .collect();
        for (id, open) in &ours {
            if !open.is_withdrawn {
                self.commit(Commit::withdrawing(id, self.clock.now_nanos()), began_nanos).await?;
            }
            for key in &open.intent.outputs {
                let attempt = || {
                    let (store, key) = (self.store.clone(), key.clone());
                    async move { store.delete(&key).await }
                };
                self.until_stored("the end of a block that was given up", began_nanos, attempt).await?;
                self.cache.forget(key).await;
            }
            self.commit(Commit::ending(id, self.clock.now_nanos()), began_nanos).await?;
        }
        Ok(())
    }

    /// Commits. The commit carries its own name: tried again after an unanswered attempt, it still happens once.
    pub(super) async fn commit(&self, commit: Commit, began_nanos: i64) -> Result<(), Setback> {
        let attempt = || {
            let (catalog, commit) = (self.catalog.clone(), commit.clone());
            async move { catalog.commit(commit).await }
        };
        self.until_stored("the catalog record", began_nanos, attempt).await?;
        Ok(())
    }

    /// Commits the documents alone, if the catalog does not have them already, together with what else `commit` says. The ledger
    /// stays as the last flush left it: what it has counted since is counted again from the log after a crash.
    pub(super) async fn share(&self, commit: Commit) -> Result<(), String> {
        let began_nanos = self.clock.now_nanos();
        self.commit_with_state(commit, began_nanos).await.map_err(|setback| format!("{setback:?}"))
    }

    /// Puts what has changed of the state documents, and commits it together with what else `commit` says; does nothing if that is
    /// nothing and the catalog has the documents.
    async fn commit_with_state(&self, mut commit: Commit, began_nanos: i64) -> Result<(), Setback> {
        let _in_order = self.committing_state.lock().await;
        loop {
            let parts = self.parts_of_state();
            if !states::has_changed(&self.states, &parts) {
                let says_nothing = commit.kind == CommitKind::State && commit.ledger.is_none() && commit.lead.is_none() && commit.forgets.is_empty();
                return match says_nothing && !commit.leaves {
                    true => Ok(()),
                    false => self.commit_and_note(commit, began_nanos).await,
                };
            }
            let draft = self.draft_of_state(parts).await?;
            let attempt = || {
                let (catalog, bytes) = (self.catalog.clone(), draft.bytes.clone());
                async move { catalog.put_state(bytes).await }
            };
            let key = self.until_stored("the state documents", began_nanos, attempt).await?;
            commit.state = Some(key.clone());
            commit.state_parts = draft.parts.iter().map(|part| part.key.clone()).collect();
            match self.commit_and_note(commit.clone(), began_nanos).await {
                // another node has taken the parts over meanwhile, and may delete them: all is written once more
                Err(Setback::Overtaken(_)) if !draft.parts.is_empty() && self.parts_of_state().is_empty() => {}
                Err(setback) => return Err(setback),
                Ok(()) => {
                    *self.committed_state.lock() = states::committed(&self.states, draft, key);
                    return Ok(());
                }
            }
        }
    }

    async fn commit_and_note(&self, commit: Commit, began_nanos: i64) -> Result<(), Setback> {
        let ledger = commit.ledger.clone();
        if commit.kind == CommitKind::Flush {
            fail_point::hit("flush.before_commit");
        }
        self.commit(commit, began_nanos).await?;
        if let Some(ledger) = ledger {
            self.ledger.note_committed(ledger);
        }
        Ok(())
    }

    /// The parts of our state, if they are those that the catalog has: not so if another node has taken over our facts and forgotten
    /// them, or the answer to a commit was lost.
    fn parts_of_state(&self) -> Vec<Part> {
        let parts = self.committed_state.lock().clone();
        let snapshot = self.catalog.snapshot();
        let is_kept = parts.last().is_some_and(|last| snapshot.state(self.catalog.node()) == Some(&last.key));
        if is_kept { parts } else { Vec::new() }
    }

    /// Whether another process is known to write as this node.
    pub(super) fn is_superseded(&self) -> bool {
        *self.superseded.borrow()
    }

    /// Whether another process writes as this node by now; if so, nothing is taken or flushed here any more, and nothing forgotten:
    /// the positions that the catalog has are another log's.
    pub(super) fn find_superseded(&self, snapshot: &Snapshot) -> bool {
        if !self.catalog.is_superseded(snapshot) {
            return false;
        }
        self.draining.store(true, Ordering::Release);
        if !self.superseded.send_replace(true) {
            let node = self.catalog.node().as_str();
            let why = match snapshot.missed_deletes(self.catalog.node()) {
                0 => format!("another process writes as node {node} by now"),
                missed => format!("node {node} was given up (`tracelake node forget`), and {missed} deletes ended without it"),
            };
            tracing::error!(node, why, "this process stops, and its log stays as it is");
            self.problems.lock().insert("superseded", why);
        }
        true
    }

    /// The last position of our log that blocks cover.
    pub(super) fn flushed_by_us(&self, snapshot: &Snapshot) -> Lsn {
        match self.catalog.is_superseded(snapshot) {
            true => self.flushed_lsn.load(Ordering::Acquire),
            false => snapshot.flushed_lsn(self.catalog.node()),
        }
    }

    /// Blocks cover everything up to `lsn`.
    fn forget(&self, lsn: Lsn) {
        self.flushed_lsn.store(lsn, Ordering::Release);
        {
            let mut head = self.head.lock();
            head.forget(lsn);
            metrics::head(&head);
        }
        self.state_lsns.lock().retain(|_, set| *set > lsn);
        self.has_room.notify_waiters();
        self.wal.truncate_below(lsn + 1);
    }

    /// Builds a block while no other is being built: each takes three threads and an index's memory.
    async fn build_in_turn(&self, one_build: &tokio::sync::Mutex<()>, (table, partition_nanos, rows): Partition) -> Result<BuiltBlock, Setback> {
        let _turn = one_build.lock().await;
        let level = match self.config.lake_visible {
            LakeVisible::All => Level::Sealed,
            LakeVisible::Sealed => Level::L0,
        };
        let now_nanos = self.clock.now_nanos();
        let build = |settings: block::Settings| {
            let rows = rows.clone();
            off_the_runtime(move || block::build(table, partition_nanos, level, &rows, &settings, now_nanos))
        };
        match build(self.block.clone()).await {
            // whatever its index cannot be made of, its rows are whole: they must not keep all others out of the store
            Err(error) if self.block.index && table.is_searchable() && !error.is_of_disk() => {
                tracing::error!(table = table.name(), partition_nanos, %error, "a block cannot be built with its index: it is built without, and scanned");
                let without = block::Settings {
                    index: false,
                    ..self.block.clone()
                };
                Ok(build(without).await?)
            }
            built => Ok(built?),
        }
    }

    /// Puts both objects; tries for as long as the store is away.
    async fn put_block(&self, built: BuiltBlock, began_nanos: i64) -> Result<BlockMeta, Setback> {
        let BuiltBlock { meta, parquet, index } = built;
        let path = block_path(&meta);
        let put = async |key: Key, bytes: Bytes| -> Result<(), Setback> {
            let attempt = || {
                let (store, key, bytes) = (self.store.clone(), key.clone(), bytes.clone());
                async move { store.put(&key, bytes).await }
            };
            self.until_stored("a block", began_nanos, attempt).await?;
            self.cache.seed(&key, bytes).await;
            Ok(())
        };
        if let Some(index) = index {
            put(path.index(), index).await?;
            fail_point::hit("flush.after_index_put");
        }
        // the Parquet file last: with it foreign readers see the rows, where they look already
        put(path.data(), parquet).await?;
        fail_point::hit("flush.after_parquet_put");
        Ok(meta)
    }

    /// Tries until it succeeds, waiting longer each time, and says so in the status meanwhile; but no longer than what
    /// was put since `began_nanos` is safe from the sweep.
    pub(super) async fn until_stored<T, E: Remedy, F: Future<Output = Result<T, E>>>(
        &self,
        what: &str,
        began_nanos: i64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Setback> {
        let mut wait = RETRY_MIN;
        loop {
            if self.clock.now_nanos().saturating_sub(began_nanos) > MAX_ATTEMPT_NANOS {
                return Err(Setback::Outlived);
            }
            let error = match attempt().await {
                Ok(done) => {
                    self.problems.lock().remove("store");
                    return Ok(done);
                }
                Err(error) => error,
            };
            metrics::FLUSH_RETRIES.inc();
            if error.is_overtaken() {
                return Err(Setback::Overtaken(error.to_string()));
            }
            if error.is_superseded() {
                self.find_superseded(&self.catalog.snapshot());
                return Err(Setback::Refused);
            }
            if !error.retry_helps() {
                tracing::error!(%error, what, "the store refuses it for good");
                self.problems.lock().insert("store", format!("{what} cannot be stored: {error}"));
                return Err(Setback::Refused);
            }
            tracing::warn!(%error, what, retry_in_millis = wait.as_millis() as u64, "the store did not take it");
            self.problems
                .lock()
                .insert("store", format!("{what} could not be stored, trying again: {error}"));
            self.has_room.notify_waiters();
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// What is to be written of the state documents. There may be hundreds of thousands: nobody waits for more than a few of them.
    async fn draft_of_state(&self, parts: Vec<Part>) -> Result<Draft, block::Error> {
        let documents = self.states.clone();
        off_the_runtime(move || states::draft(&documents, parts).map_err(|error| block::Error::Build(error.to_string()))).await
    }
}

/// Runs what takes a processor for long where that blocks nobody.
pub(super) async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T, block::Error> + Send + 'static) -> Result<T, block::Error> {
    let task = tokio::task::spawn_blocking(work);
    task.await.unwrap_or_else(|panic| Err(block::Error::Build(panic.to_string())))
}

/// Errors that know what to do about them.
pub(super) trait Remedy: std::fmt::Display {
    /// Whether the same call may succeed later.
    fn retry_helps(&self) -> bool;
    /// Whether to look again at what the catalog has.
    fn is_overtaken(&self) -> bool;
    /// Whether another process writes as this node by now.
    fn is_superseded(&self) -> bool {
        false
    }
}
impl Remedy for crate::storage::Error {
    /// Always: even a denial passes when somebody renews the credentials, and the log holds the rows meanwhile.
    fn retry_helps(&self) -> bool {
        true
    }
    fn is_overtaken(&self) -> bool {
        false
    }
}
impl Remedy for crate::catalog::Error {
    fn retry_helps(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Contended { .. })
    }
    fn is_overtaken(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
    fn is_superseded(&self) -> bool {
        matches!(self, Self::Superseded { .. } | Self::GivenUp { .. })
    }
}

/// A completed span replaces its row in progress, in whatever order they came.
fn without_superseded(parts: Vec<Rows>) -> block::Result<Vec<Rows>> {
    let (mut spans, others): (Vec<Rows>, Vec<Rows>) = parts.into_iter().partition(|rows| rows.table() == Table::Spans);
    block::drop_superseded_spans(&mut spans)?;
    spans.extend(others);
    Ok(spans)
}

/// Rows of one table and the partition that starts at so many nanoseconds.
type Partition = (Table, i64, Vec<Rows>);

/// Splits rows by table and partition: the UTC hour of event time, or the day for tables that are kept by day.
fn partitions(parts: Vec<Rows>) -> block::Result<Vec<Partition>> {
    let mut out: std::collections::BTreeMap<(Table, i64), Vec<Rows>> = std::collections::BTreeMap::new();
    for rows in parts {
        let Some((min, max)) = rows.time_bounds() else { continue };
        let table = rows.table();
        let first = table.partition_of(min);
        if first == table.partition_of(max) {
            out.entry((table, first)).or_default().push(rows);
            continue;
        }
        let mut by_partition: std::collections::BTreeMap<i64, Vec<i64>> = std::collections::BTreeMap::new();
        for (row, nanos) in rows.times().values().iter().enumerate() {
            by_partition.entry(table.partition_of(*nanos)).or_default().push(row as i64);
        }
        for (partition, indices) in by_partition {
            out.entry((table, partition)).or_default().push(rows.take(&Int64Array::from(indices))?);
        }
    }
    Ok(out.into_iter().map(|((table, partition), rows)| (table, partition, rows)).collect())
}
