//! A store that counts and times every call.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::metrics::{self, Op};
use super::{Key, Listed, Result, Store};

/// Any store, with its calls counted in this part's metrics.
#[derive(Debug)]
pub(super) struct MeteredStore<S> {
    inner: S,
}

impl<S: Store> MeteredStore<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

#[async_trait::async_trait]
impl<S: Store> Store for MeteredStore<S> {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        let (started, n_bytes) = (Instant::now(), bytes.len());
        let result = self.inner.put(key, bytes).await;
        metrics::observe(Op::Put, started, n_bytes, &result);
        result
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let (started, n_bytes) = (Instant::now(), bytes.len());
        let result = self.inner.put_if_absent(key, bytes).await;
        metrics::observe(Op::Put, started, n_bytes, &result);
        result
    }
    async fn get(&self, key: &Key) -> Result<Bytes> {
        let started = Instant::now();
        let result = self.inner.get(key).await;
        metrics::observe(Op::Get, started, result.as_ref().map_or(0, Bytes::len), &result);
        result
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let (started, n_bytes) = (Instant::now(), range.end.saturating_sub(range.start));
        let result = self.inner.get_range(key, range).await;
        metrics::observe(Op::Get, started, result.as_ref().map_or(0, Bytes::len), &result);
        metrics::more_gets(self.inner.gets_of(n_bytes) - 1);
        result
    }
    fn gets_of(&self, n_bytes: u64) -> u64 {
        self.inner.gets_of(n_bytes)
    }
    fn late_writes(&self) -> Duration {
        self.inner.late_writes()
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        let started = Instant::now();
        let result = self.inner.list(prefix, after).await;
        metrics::observe(Op::List, started, 0, &result);
        result
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        let started = Instant::now();
        let result = self.inner.delete(key).await;
        metrics::observe(Op::Delete, started, 0, &result);
        result
    }
    fn local_path(&self, key: &Key) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}
