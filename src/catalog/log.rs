//! The catalog of one node: follows the log, and writes to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Mutex, Notify};

use super::document::{self, damaged};
use super::live::{Checkpoint, Live};
use super::read::{apply, list_checkpoints, newest_checkpoint, read_record, read_state, replay_listed};
use super::record::Record;
use super::{Commit, Delete, Error, Life, NodeId, Result, Snapshot, metrics};
use crate::storage::paths::CatalogPath;
use crate::storage::{Key, Store};

/// Records between two checkpoints: bounds what a start has to read, at a few milliseconds a record.
pub(super) const CHECKPOINT_EVERY: u64 = if cfg!(test) { 8 } else { 256 };
/// Checkpoints kept: the newest, and one for a node that has just read its name.
const CHECKPOINTS_KEPT: usize = 2;
/// Races a commit may lose before it gives up; each loss is another's success.
const MAX_TRIES: usize = 100;

/// The catalog as one node sees it. Commits and refreshes of one value wait for each other; [`Catalog::snapshot`] never waits.
#[derive(Debug)]
pub struct Catalog {
    store: Arc<dyn Store>,
    node: NodeId,
    live: Mutex<Live>,
    newest: ArcSwap<Snapshot>,
    /// Those before it, as far as somebody may still read them.
    older: parking_lot::Mutex<Vec<Weak<Snapshot>>>,
    delete_seen: Notify,
    /// Whether this process has said that its node leaves: a record behind that would have every delete wait for the node again.
    leaves: AtomicBool,
    /// This process' life as the node.
    pub(super) life: Option<Life>,
}

impl Catalog {
    /// Reads the newest checkpoint and all records behind it.
    pub async fn open(store: Arc<dyn Store>, node: NodeId) -> Result<Catalog> {
        let mut live = newest_checkpoint(&*store).await?;
        let checkpoint_seq = live.seq();
        replay_listed(&*store, &mut live).await?;
        let newest = live.snapshot();
        let catalog = Catalog {
            store,
            node,
            newest: ArcSwap::new(newest),
            older: parking_lot::Mutex::default(),
            live: Mutex::new(live),
            delete_seen: Notify::new(),
            leaves: AtomicBool::new(false),
            life: None,
        };
        let snapshot = catalog.refresh().await?;
        if snapshot.seq() - checkpoint_seq >= CHECKPOINT_EVERY {
            catalog.try_checkpoint(&snapshot).await;
        }
        Ok(catalog)
    }

    /// What is live in a store, for a reader that never writes: no node, no checkpoint.
    pub async fn read(store: &dyn Store) -> Result<Arc<Snapshot>> {
        let mut live = newest_checkpoint(store).await?;
        replay_listed(store, &mut live).await?;
        while let Some(record) = read_record(store, live.seq() + 1).await? {
            apply(&mut live, record)?;
        }
        Ok(live.snapshot())
    }

    /// The node that commits here.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// What is live, as far as this node has read: up to its own last commit at least.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// Snapshots before the newest that somebody here still reads, as a long query does.
    pub fn older_in_use(&self) -> Vec<Arc<Snapshot>> {
        self.older.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes a commit happen, once, and gives a snapshot that has it (and what others committed before it).
    ///
    /// After an error that says a retry helps, it may have happened or not: commit the same value again, which finds
    /// out. After [`Error::Conflict`] and [`Error::Superseded`] it has not happened and will not.
    pub async fn commit(&self, commit: Commit) -> Result<Arc<Snapshot>> {
        let kind = commit.kind;
        let result = self.try_commit(commit).await;
        metrics::commit(kind, &result);
        let snapshot = result?;
        if snapshot.seq() % CHECKPOINT_EVERY == 0 {
            self.try_checkpoint(&snapshot).await;
        }
        Ok(snapshot)
    }

    async fn try_commit(&self, commit: Commit) -> Result<Arc<Snapshot>> {
        let mut live = self.live.lock().await;
        // from its first attempt, which may happen after its answer is lost
        if self.leaves.fetch_or(commit.leaves, Ordering::AcqRel) && !commit.leaves {
            return Err(Error::Left { node: self.node.clone() });
        }
        for tries in 0..MAX_TRIES {
            if live.has_committed(&commit.id) {
                return Ok(self.snapshot());
            }
            let incarnation = self.life.as_ref().map(Life::incarnation);
            if commit.begins.is_none() && live.is_superseded(&self.node, incarnation) {
                return Err(Error::Superseded { node: self.node.clone() });
            }
            if let Some(missed) = live.missed_by(&self.node, &commit) {
                return Err(Error::GivenUp {
                    node: self.node.clone(),
                    missed,
                });
            }
            if let Err(what) = live.check(&self.node, incarnation, &commit) {
                // it may only look so from here: somebody else may have added what it removes
                let seq = live.seq();
                self.catch_up(&mut live).await?;
                if live.seq() == seq {
                    return Err(Error::Conflict { seq, what });
                }
                continue;
            }
            let record = Record {
                v: commit.version(),
                seq: live.seq() + 1,
                node: self.node.clone(),
                incarnation: incarnation.cloned(),
                commit: commit.clone(),
            };
            let key = CatalogPath::Log(record.seq).key();
            let bytes = Bytes::from(document::seal(&record).map_err(|error| damaged(&key, error))?);
            match self.store.put_if_absent(&key, bytes.clone()).await {
                Ok(true) => {
                    self.apply(&mut live, record)?;
                    self.keep_copy(live.seq(), bytes).await;
                }
                // somebody else's, or our own of an earlier try whose answer was lost: its name tells
                Ok(false) => match read_record(&*self.store, record.seq).await? {
                    Some(winner) => {
                        if winner.commit.id == commit.id {
                            self.keep_copy(winner.seq, bytes).await;
                        } else {
                            metrics::race_lost();
                        }
                        self.apply(&mut live, winner)?;
                    }
                    // the store answered "conflict" to two at a time and took neither
                    None => tokio::time::sleep(Duration::from_millis(rand::random_range(1..=20u64 << tries.min(5)))).await,
                },
                // the answer is lost, perhaps not the record
                Err(error) => match read_record(&*self.store, record.seq).await {
                    Ok(Some(found)) => {
                        if found.commit.id == commit.id {
                            self.keep_copy(found.seq, bytes).await;
                        }
                        self.apply(&mut live, found)?;
                    }
                    _ => return Err(error.into()),
                },
            }
        }
        if live.has_committed(&commit.id) {
            return Ok(self.snapshot());
        }
        Err(Error::Contended { tries: MAX_TRIES })
    }

    /// Reads what other nodes committed since. One small request when there is nothing.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>> {
        let mut live = self.live.lock().await;
        self.catch_up(&mut live).await?;
        Ok(self.snapshot())
    }

    /// Writes a state object and its copy; name its key in a [`Commit`], which makes it this node's state, or the last part of it.
    pub async fn put_state(&self, bytes: Bytes) -> Result<Key> {
        let key = document::name_of(&bytes);
        let copy = async {
            match document::copy_of(&key) {
                Some(copy) => self.store.put(&copy, bytes.clone()).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(self.store.put(&key, bytes.clone()), copy)?;
        Ok(key)
    }

    /// Reads all parts of this node's last committed state, oldest first; none before the first.
    pub async fn read_state(&self) -> Result<Vec<(Key, Bytes)>> {
        let keys = self.snapshot().nodes().get(&self.node).map(|node| node.states().cloned().collect());
        let keys: Vec<Key> = keys.unwrap_or_default();
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            let bytes = self.read_state_at(&key).await?;
            parts.push((key, bytes));
        }
        Ok(parts)
    }

    /// The query of a delete that has not ended.
    pub async fn query_of(&self, delete: &Delete) -> Result<String> {
        let key = &delete.order.query;
        let bytes = self.read_state_at(key).await?;
        serde_json::from_slice::<Query>(&bytes)
            .map(|query| query.query)
            .map_err(|error| damaged(key, error))
    }

    /// Writes the query of a delete that is about to be ordered.
    pub async fn put_query(&self, query: &str) -> Result<Key> {
        self.put_state(serde_json::json!({ "v": 1, "query": query }).to_string().into()).await
    }

    /// Resolves when a delete was ordered, here or on another node, since it was last asked; one waits at a time.
    pub async fn delete_ordered(&self) {
        self.delete_seen.notified().await;
    }

    /// Reads a part of the last committed state of any node, by the key that a snapshot gives.
    pub async fn read_state_at(&self, key: &Key) -> Result<Bytes> {
        read_state(&*self.store, key).await
    }

    async fn catch_up(&self, live: &mut Live) -> Result<()> {
        while let Some(record) = read_record(&*self.store, live.seq() + 1).await? {
            self.apply(live, record)?;
        }
        Ok(())
    }

    fn apply(&self, live: &mut Live, record: Record) -> Result<()> {
        let orders_delete = record.commit.delete.is_some();
        apply(live, record)?;
        let snapshot = live.snapshot();
        metrics::live(&snapshot);
        let before = Arc::downgrade(&self.newest.swap(snapshot));
        let mut older = self.older.lock();
        older.retain(|snapshot| snapshot.strong_count() > 0);
        older.push(before);
        drop(older);
        if orders_delete {
            self.delete_seen.notify_one();
        }
        Ok(())
    }

    /// Writes a record that has happened a second time. A failure costs no more than that one.
    async fn keep_copy(&self, seq: u64, bytes: Bytes) {
        if let Err(error) = self.store.put(&CatalogPath::copy_of_record(seq).key(), bytes).await {
            tracing::warn!(seq, %error, "the copy of a record could not be written; the record itself is there");
        }
    }

    /// Leaves a checkpoint behind at an orderly stop: the next start then needs no record before it.
    pub async fn leave_checkpoint(&self) {
        let snapshot = self.snapshot();
        if snapshot.seq() > 0 {
            self.try_checkpoint(&snapshot).await;
        }
    }

    /// Writes a checkpoint and removes all but the newest ones. A failure costs the next start some reading.
    async fn try_checkpoint(&self, snapshot: &Snapshot) {
        if let Err(error) = self.checkpoint(snapshot).await {
            tracing::warn!(seq = snapshot.seq(), %error, "no checkpoint could be written; the log itself is complete");
        }
    }

    async fn checkpoint(&self, snapshot: &Snapshot) -> Result<()> {
        let key = CatalogPath::Checkpoint(snapshot.seq()).key();
        let bytes = document::seal(&Checkpoint::of(snapshot)).map_err(|error| damaged(&key, error))?;
        self.store.put(&key, bytes.into()).await?;
        for old in list_checkpoints(&*self.store).await?.iter().skip(CHECKPOINTS_KEPT) {
            self.store.delete(&CatalogPath::Checkpoint(*old).key()).await?;
        }
        Ok(())
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }
}

/// The object that holds a delete's query.
#[derive(serde::Deserialize)]
struct Query {
    query: String,
}
