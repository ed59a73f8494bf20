//! Whole copies.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::storage::{BucketStore, LocalStore};

fn key(n: usize) -> Key {
    Key::parse(&format!("logs/dt=2026-11-22/hour=05/b{n}.parquet")).expect("legal")
}

fn object(n: usize) -> Bytes {
    vec![n as u8; 1000].into()
}

fn crc(n: usize) -> Option<u32> {
    Some(crc32c::crc32c(&object(n)))
}

/// Counts reads, and lets one through for each permit.
#[derive(Debug)]
struct Counting(BucketStore, AtomicUsize, Semaphore);

#[async_trait::async_trait]
impl Store for Counting {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        self.0.put(key, bytes).await
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        self.0.put_if_absent(key, bytes).await
    }
    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.0.get(key).await
    }
    async fn get_range(&self, key: &Key, range: std::ops::Range<u64>) -> Result<Bytes> {
        self.1.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let _through = self.2.acquire().await.expect("never closed");
        self.0.get_range(key, range).await
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<super::super::Listed>> {
        self.0.list(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.delete(key).await
    }
    fn local_path(&self, _key: &Key) -> Option<PathBuf> {
        None
    }
    fn url(&self) -> &str {
        self.0.url()
    }
}

async fn bucket() -> Arc<Counting> {
    let store = Counting(BucketStore::in_memory(""), AtomicUsize::new(0), Semaphore::new(100));
    for n in 0..10 {
        store.put(&key(n), object(n)).await.expect("put");
    }
    Arc::new(store)
}

fn open(store: &Arc<Counting>, dir: &Path, max_bytes: u64) -> Arc<Cache> {
    Cache::open(Arc::clone(store) as Arc<dyn Store>, dir, max_bytes).expect("opens")
}

#[tokio::test]
async fn many_who_ask_at_once_fetch_once_and_a_restart_keeps_the_copy() {
    let (store, dir) = (bucket().await, tempfile::tempdir().expect("a directory"));
    let cache = open(&store, dir.path(), 5000);
    let one = key(1);
    let asks = (0..20).map(|_| cache.map(&one, 1000, crc(1)));
    for bytes in futures::future::join_all(asks).await {
        assert_eq!(bytes.expect("maps"), object(1));
    }
    assert_eq!(store.1.load(Ordering::SeqCst), 1);
    let reopened = open(&store, dir.path(), 5000);
    assert_eq!(reopened.n_bytes(), 1000);
    assert_eq!(reopened.map(&key(1), 1000, crc(1)).await.expect("maps"), object(1));
    assert_eq!(store.1.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_takes_longer_than_a_question_has_is_there_for_the_next() {
    let (store, dir) = (bucket().await, tempfile::tempdir().expect("a directory"));
    let cache = open(&store, dir.path(), 5000);
    let held_up = store.2.acquire_many(100).await.expect("never closed");
    let asked = tokio::time::timeout(Duration::from_millis(50), cache.map(&key(1), 1000, crc(1))).await;
    assert!(asked.is_err(), "time was up");
    drop(held_up);
    assert_eq!(cache.map(&key(1), 1000, crc(1)).await.expect("maps"), object(1));
    assert_eq!(store.1.load(Ordering::SeqCst), 1, "fetched once");
}

#[tokio::test]
async fn the_least_lately_used_copy_makes_room_and_its_bytes_stay_valid() {
    let (store, dir) = (bucket().await, tempfile::tempdir().expect("a directory"));
    let cache = open(&store, dir.path(), 3000);
    let held = cache.map(&key(0), 1000, crc(0)).await.expect("maps");
    for n in [1, 2, 1, 3, 1, 4] {
        cache.map(&key(n), 1000, crc(n)).await.expect("maps");
    }
    assert_eq!(cache.n_bytes(), 3000);
    let fetched = store.1.load(Ordering::SeqCst);
    cache.map(&key(1), 1000, crc(1)).await.expect("maps");
    assert_eq!(store.1.load(Ordering::SeqCst), fetched, "1 was used lately");
    cache.map(&key(0), 1000, crc(0)).await.expect("maps");
    assert_eq!(store.1.load(Ordering::SeqCst), fetched + 1, "0 was not");
    assert_eq!(held, object(0));
    assert_eq!(fs::read_dir(dir.path()).expect("exists").count(), 3);
    // one that is larger than the bound is kept alone
    let small = open(&store, &dir.path().join("small"), 10);
    small.map(&key(1), 1000, crc(1)).await.expect("maps");
    small.map(&key(2), 1000, crc(2)).await.expect("maps");
    assert_eq!(small.n_bytes(), 1000);
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_again_and_a_damaged_object_is_named() {
    let (store, dir) = (bucket().await, tempfile::tempdir().expect("a directory"));
    open(&store, dir.path(), 5000).map(&key(1), 1000, crc(1)).await.expect("maps");
    for damaged in [vec![9u8; 1000], vec![1u8; 999], Vec::new()] {
        let path = copy_path(dir.path(), &key(1));
        fs::write(&path, damaged).expect("written");
        let cache = open(&store, dir.path(), 5000);
        assert_eq!(cache.map(&key(1), 1000, crc(1)).await.expect("maps"), object(1));
    }
    store.put(&key(1), object(2)).await.expect("put");
    let cache = open(&store, &dir.path().join("new"), 5000);
    let fetched = store.1.load(Ordering::SeqCst);
    assert_eq!(cache.map(&key(1), 1000, crc(1)).await.expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert_eq!(store.1.load(Ordering::SeqCst), fetched + 2, "fetched once more");
    assert_eq!(cache.n_bytes(), 0);
    assert!(cache.map(&key(77), 1000, None).await.expect_err("absent").is_not_found());
    assert_eq!(fs::read_dir(dir.path().join("new")).expect("exists").count(), 0, "nothing half fetched stays");
}

#[tokio::test]
async fn what_is_seeded_is_not_fetched_and_what_is_forgotten_is() {
    let (store, dir) = (bucket().await, tempfile::tempdir().expect("a directory"));
    let cache = open(&store, dir.path(), 5000);
    cache.seed(&key(1), object(1)).await;
    assert_eq!(cache.map(&key(1), 1000, crc(1)).await.expect("maps"), object(1));
    assert_eq!(store.1.load(Ordering::SeqCst), 0);
    cache.forget(&key(1)).await;
    assert_eq!(cache.n_bytes(), 0);
    cache.map(&key(1), 1000, crc(1)).await.expect("maps");
    assert_eq!(store.1.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_local_store_maps_its_own_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(LocalStore::open(&dir.path().join("store")).expect("opens"));
    store.put(&key(1), object(1)).await.expect("put");
    let cache = Cache::open(Arc::clone(&store) as Arc<dyn Store>, &dir.path().join("cache"), 10).expect("opens");
    let held = cache.map(&key(1), 1000, crc(1)).await.expect("maps");
    assert_eq!(cache.map(&key(1), 1000, crc(2)).await.expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert_eq!(cache.map(&key(1), 999, None).await.expect_err("damaged").kind(), ErrorKind::Corrupt);
    store.delete(&key(1)).await.expect("deleted");
    cache.forget(&key(1)).await;
    assert!(cache.map(&key(1), 1000, crc(1)).await.expect_err("absent").is_not_found());
    assert_eq!(held, object(1));
    assert!(!dir.path().join("cache").exists());
}
