//! What a query takes from a bucket of which this machine has no copy.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::*;
use crate::storage::{BucketStore, Key, Listed, Result};

/// A bucket that counts what is read of it.
#[derive(Debug)]
struct Counting {
    inner: BucketStore,
    gets: AtomicU64,
    bytes: AtomicU64,
    under_way: AtomicU64,
    most_at_once: AtomicU64,
}

impl Counting {
    fn new() -> Arc<Counting> {
        Arc::new(Counting {
            inner: BucketStore::in_memory(""),
            gets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
        })
    }
}

#[async_trait::async_trait]
impl Store for Counting {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        self.inner.put(key, bytes).await
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        self.inner.put_if_absent(key, bytes).await
    }
    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(range.end - range.start, Ordering::SeqCst);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        // a bucket is not quick: whoever else wants something asks meanwhile
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let read = self.inner.get_range(key, range).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        read
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    fn local_path(&self, _: &Key) -> Option<PathBuf> {
        None
    }
    fn url(&self) -> &str {
        "memory:"
    }
}

async fn search(lake: &Lake, query: &str, limit: usize) -> Coverage {
    let request = SearchRequest {
        table: Table::Logs,
        query: parse(query, Table::Logs).expect("a query"),
        range: TimeRange::ALL,
        limit,
        cursor: None,
    };
    let coverage = lake.engine.search(&request).await.expect("an answer").coverage;
    assert!(coverage.complete, "{coverage:?}");
    coverage
}

/// Twelve blocks in a row, eight of them with an index; and the bytes of all their objects.
async fn cold_lake(store: &Arc<Counting>) -> (Lake, u64) {
    let lake = Lake::over(store.clone(), tempfile::tempdir().expect("a temporary folder"), Config::default()).await;
    let rows = fixture_logs();
    let piece = rows.len() / 12;
    let mut bytes = 0;
    for number in 0..12 {
        let meta = lake.block(&rows.slice(number * piece, piece), number % 3 > 0).await;
        bytes += meta.parquet_bytes + meta.index_bytes;
    }
    (lake, bytes)
}

#[tokio::test]
async fn a_cold_search_fetches_each_object_once_and_several_at_a_time() {
    let store = Counting::new();
    let (lake, bytes) = cold_lake(&store).await;
    let cold = search(&lake, "nosuchword", 10).await;
    assert_eq!((cold.blocks_read, cold.store_gets, cold.store_bytes), (12, 12 + 8, bytes));
    assert_eq!((store.gets.load(Ordering::SeqCst), store.bytes.load(Ordering::SeqCst)), (20, bytes));
    let at_once = store.most_at_once.load(Ordering::SeqCst);
    assert!((4..=16).contains(&at_once), "{at_once}");
    let warm = search(&lake, "nosuchword", 10).await;
    assert_eq!((warm.store_gets, warm.store_bytes), (0, 0));
}

#[tokio::test]
async fn the_newest_row_costs_the_newest_block() {
    let store = Counting::new();
    let (lake, _) = cold_lake(&store).await;
    let newest = search(&lake, "*", 1).await;
    assert!(newest.blocks_read == 1 && newest.store_gets <= 2, "{newest:?}");
    let answer = lake
        .engine
        .sql(&SqlRequest {
            query: "select count(*) from logs".into(),
            limit: 10,
        })
        .await
        .expect("rows");
    assert_eq!(answer.coverage.store_gets + newest.store_gets, 20);
}
