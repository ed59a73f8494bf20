//! A store that fails on purpose, for tests: before a call, after it (it happened and the answer was lost), or for good;
//! that is slow; that lists what was put a while ago; and whose reads fail, are slow, cut short or flipped.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Error, ErrorKind, Key, Listed, Result, Store};

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not reach the store.
    Before,
    /// It happens, and the answer is lost.
    After,
    /// It happens a little later: others come first.
    Slow,
}

/// What happens to one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// No answer.
    Fails,
    /// The answer comes a little later.
    Slow,
    /// Half of the answer is missing.
    Torn,
    /// One bit in the middle of the answer is another.
    Flipped,
}

impl ReadFault {
    fn spoil(self, bytes: Bytes) -> Bytes {
        let middle = bytes.len() / 2;
        match self {
            ReadFault::Torn => bytes.slice(..middle),
            ReadFault::Flipped if !bytes.is_empty() => {
                let mut bytes = bytes.to_vec();
                bytes[middle] ^= 1 << (middle % 8);
                bytes.into()
            }
            _ => bytes,
        }
    }
}

/// How much later.
const SLOW: std::time::Duration = std::time::Duration::from_millis(3);
/// Keys put lately that are remembered.
const RECENT: usize = 64;

/// Decides about the next write to a key.
type Chooser = Box<dyn FnMut(&Key) -> Option<Fault> + Send>;

/// Decides about the next read of a key, or listing of a prefix (which can fail or be slow).
type ReadChooser = Box<dyn FnMut(&str) -> Option<ReadFault> + Send>;

/// Another store, with faults.
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    choose: Mutex<Option<Chooser>>,
    choose_read: Mutex<Option<ReadChooser>>,
    /// Writes that are still let through; below zero nothing is, reads included, as after a crash.
    writes_left: AtomicI64,
    /// Of the keys put last, so many are not listed yet.
    unlisted: AtomicUsize,
    recent: Mutex<VecDeque<Key>>,
    late: Mutex<std::time::Duration>,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// No faults yet.
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            choose: Mutex::new(None),
            choose_read: Mutex::new(None),
            writes_left: AtomicI64::new(i64::MAX),
            unlisted: AtomicUsize::new(0),
            recent: Mutex::default(),
            late: Mutex::default(),
        })
    }
    /// Lets listings lack the last `n` keys that were put, from now on.
    pub(crate) fn list_without_last(&self, n: usize) {
        self.unlisted.store(n.min(RECENT), Ordering::SeqCst);
    }
    /// Says that writes may be carried out so long after they were given up; the test does that.
    pub(crate) fn writes_may_be_late(&self, by: std::time::Duration) {
        *self.late.lock() = by;
    }
    /// Asks `choose` before each write from now on.
    pub(crate) fn choose(&self, choose: impl FnMut(&Key) -> Option<Fault> + Send + 'static) {
        *self.choose.lock() = Some(Box::new(choose));
    }
    /// Asks `choose` before each read and listing from now on.
    pub(crate) fn choose_reads(&self, choose: impl FnMut(&str) -> Option<ReadFault> + Send + 'static) {
        *self.choose_read.lock() = Some(Box::new(choose));
    }
    /// Lets `n_writes` more writes and deletes through, then nothing at all.
    pub(crate) fn stop_after(&self, n_writes: i64) {
        self.writes_left.store(n_writes, Ordering::SeqCst);
    }
    /// Whether it has stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        self.writes_left.load(Ordering::SeqCst) < 0
    }
    /// Ends all faults.
    pub(crate) fn heal(&self) {
        *self.choose.lock() = None;
        *self.choose_read.lock() = None;
        self.list_without_last(0);
        self.stop_after(i64::MAX);
    }

    fn failed(key: &str) -> Error {
        Error::new(ErrorKind::Unreachable, "reach", key, "a fault on purpose")
    }
    async fn before_read(&self, key: &str) -> Result<Option<ReadFault>> {
        if self.has_stopped() {
            return Err(Self::failed(key));
        }
        let fault = self.choose_read.lock().as_mut().and_then(|choose| choose(key));
        match fault {
            Some(ReadFault::Fails) => return Err(Self::failed(key)),
            Some(ReadFault::Slow) => tokio::time::sleep(SLOW).await,
            _ => {}
        }
        Ok(fault)
    }
    fn spoilt(fault: Option<ReadFault>, bytes: Bytes) -> Bytes {
        fault.map_or(bytes.clone(), |fault| fault.spoil(bytes))
    }
    async fn before_write(&self, key: &Key) -> Result<bool> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.stop_after(-1);
            return Err(Self::failed(key.as_str()));
        }
        let fault = self.choose.lock().as_mut().and_then(|choose| choose(key));
        match fault {
            Some(Fault::Before) => Err(Self::failed(key.as_str())),
            Some(Fault::After) => Ok(true),
            Some(Fault::Slow) => {
                tokio::time::sleep(SLOW).await;
                Ok(false)
            }
            None => Ok(false),
        }
    }
    fn has_put(&self, key: &Key) {
        let mut recent = self.recent.lock();
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(key.clone());
    }
    fn answer<T>(key: &Key, lost: bool, value: T) -> Result<T> {
        if lost { Err(Self::failed(key.as_str())) } else { Ok(value) }
    }
}

#[async_trait::async_trait]
impl Store for FaultyStore {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let lost = self.before_write(key).await?;
        self.inner.put(key, bytes).await?;
        self.has_put(key);
        Self::answer(key, lost, ())
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let lost = self.before_write(key).await?;
        let created = self.inner.put_if_absent(key, bytes).await?;
        self.has_put(key);
        Self::answer(key, lost, created)
    }
    async fn get(&self, key: &Key) -> Result<Bytes> {
        let fault = self.before_read(key.as_str()).await?;
        Ok(Self::spoilt(fault, self.inner.get(key).await?))
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let fault = self.before_read(key.as_str()).await?;
        Ok(Self::spoilt(fault, self.inner.get_range(key, range).await?))
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        self.before_read(prefix).await?;
        let mut listed = self.inner.list(prefix, after).await?;
        let recent = self.recent.lock();
        let unlisted: Vec<&Key> = recent.iter().rev().take(self.unlisted.load(Ordering::SeqCst)).collect();
        listed.retain(|object| !unlisted.contains(&&object.key));
        Ok(listed)
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        let lost = self.before_write(key).await?;
        self.inner.delete(key).await?;
        Self::answer(key, lost, ())
    }
    fn late_writes(&self) -> std::time::Duration {
        *self.late.lock()
    }
    fn local_path(&self, key: &Key) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}
