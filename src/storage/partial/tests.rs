//! Copies of which parts are here, over a store that counts, waits and lies.

use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;

use super::*;
use crate::storage::{BucketStore, Listed, Object, Store, on_behalf_of};

const CHUNK: u32 = 256;
const N_BYTES: usize = 100_100;

/// Counts reads, lets one through for each permit, and flips a bit of a byte for so many reads of it.
#[derive(Debug)]
struct Lying {
    inner: BucketStore,
    reads: Mutex<Vec<Range<u64>>>,
    permits: Semaphore,
    wrong_byte: AtomicU64,
    lies_left: AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Lying {
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
        self.reads.lock().push(range.clone());
        tokio::task::yield_now().await;
        let _through = self.permits.acquire().await.expect("never closed");
        let bytes = self.inner.get_range(key, range.clone()).await?;
        let wrong = self.wrong_byte.load(Ordering::SeqCst);
        if range.contains(&wrong) && self.lies_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            let mut bytes = bytes.to_vec();
            bytes[(wrong - range.start) as usize] ^= 4;
            return Ok(bytes.into());
        }
        Ok(bytes)
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    fn local_path(&self, _key: &Key) -> Option<PathBuf> {
        None
    }
    fn url(&self) -> &str {
        "memory:"
    }
}

fn key(n: usize) -> Key {
    Key::parse(&format!("logs/dt=2026-11-22/hour=05/b{n}.parquet")).expect("legal")
}

fn bytes() -> Bytes {
    (0..N_BYTES as u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect::<Vec<u8>>()
        .into()
}

struct World {
    store: Arc<Lying>,
    cache: Arc<Cache>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new(max_bytes: u64) -> World {
        let store = Arc::new(Lying {
            inner: BucketStore::in_memory(""),
            reads: Mutex::default(),
            permits: Semaphore::new(1_000),
            wrong_byte: AtomicU64::new(0),
            lies_left: AtomicUsize::new(0),
        });
        for n in 0..3 {
            store.put(&key(n), bytes()).await.expect("put");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(store.clone() as Arc<dyn Store>, dir.path(), max_bytes).expect("opens");
        World { store, cache, dir }
    }
    fn reopen(&mut self) {
        self.cache = Cache::open(self.store.clone() as Arc<dyn Store>, self.dir.path(), u64::MAX).expect("opens");
    }
    async fn object(&self, n: usize) -> Object {
        let sums = Checksums::of(&bytes(), CHUNK);
        let name = key(n);
        let object = self.cache.object_in_chunks(&name, N_BYTES as u64, crc32c::crc32c(&bytes()), &sums);
        object.await.expect("an object")
    }
    fn n_reads(&self) -> usize {
        self.store.reads.lock().len()
    }
    fn n_files(&self) -> usize {
        fs::read_dir(self.dir.path()).expect("exists").count()
    }
}

async fn read(object: &Object, range: Range<u64>) -> Result<Bytes> {
    let object = object.clone();
    tokio::task::spawn_blocking(move || object.read(range)).await.expect("no panic")
}

async fn want(object: &Object, ranges: Vec<Range<u64>>) -> Result<()> {
    let object = object.clone();
    tokio::task::spawn_blocking(move || object.want(&ranges)).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_is_what_the_object_has_and_is_fetched_once() {
    let world = World::new(u64::MAX).await;
    let (object, whole) = (world.object(0).await, bytes());
    assert_eq!(world.n_reads(), 0, "opening fetches nothing");
    let mut at = 7u64;
    for length in [0u64, 1, 255, 256, 257, 3_000, 100].into_iter().cycle().take(200) {
        at = (at * 31 + length + 11) % (N_BYTES as u64 - length);
        assert_eq!(read(&object, at..at + length).await.expect("bytes"), whole[at as usize..(at + length) as usize]);
    }
    let (n_reads, n_bytes) = (world.n_reads(), world.cache.n_bytes());
    at = 7;
    for length in [0u64, 1, 255, 256, 257, 3_000, 100].into_iter().cycle().take(200) {
        at = (at * 31 + length + 11) % (N_BYTES as u64 - length);
        read(&object, at..at + length).await.expect("bytes");
    }
    assert_eq!((world.n_reads(), world.cache.n_bytes()), (n_reads, n_bytes));
    assert!(n_bytes < N_BYTES as u64, "{n_bytes}");
    let fetched: u64 = world.store.reads.lock().iter().map(|range| range.end - range.start).sum();
    assert!(fetched >= n_bytes);
    assert!(read(&object, N_BYTES as u64 - 1..N_BYTES as u64 + 1).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_near_comes_in_one_request() {
    let world = World::new(u64::MAX).await;
    let object = world.object(0).await;
    want(&object, vec![50_000..50_010, 0..10, 1_100..1_200, 300..301]).await.expect("fetched");
    let mut reads = world.store.reads.lock().clone();
    reads.sort_by_key(|range| range.start);
    assert_eq!(reads, [0..1_280, 49_920..50_176]);
    // what came along is here too
    assert_eq!(read(&object, 512..1_024).await.expect("bytes"), bytes()[512..1_024]);
    assert_eq!(world.n_reads(), 2);
    assert_eq!(world.cache.n_bytes(), 1_280 + 256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_want_a_chunk_fetch_it_once() {
    let world = World::new(u64::MAX).await;
    let object = world.object(0).await;
    let held_up = world.store.permits.acquire_many(1_000).await.expect("never closed");
    let reads: Vec<_> = (0..10u64).map(|n| (object.clone(), n * 10..n * 10 + 300)).collect();
    let reads: Vec<_> = reads
        .into_iter()
        .map(|(object, range)| tokio::task::spawn_blocking(move || (object.read(range.clone()), range)))
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(held_up);
    for read in reads {
        let (found, range) = read.await.expect("no panic");
        assert_eq!(found.expect("bytes"), bytes()[range.start as usize..range.end as usize]);
    }
    let mut chunks: Vec<u64> = world
        .store
        .reads
        .lock()
        .iter()
        .flat_map(|range| (range.start / 256)..range.end.div_ceil(256))
        .collect();
    let n_chunks = chunks.len();
    chunks.sort_unstable();
    chunks.dedup();
    assert_eq!(chunks.len(), n_chunks, "no chunk twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_chunk_is_fetched_once_more_and_then_named() {
    let world = World::new(u64::MAX).await;
    for wrong in [0, 255, 256, 60_000, N_BYTES as u64 - 1] {
        let object = world.object(0).await;
        world.store.wrong_byte.store(wrong, Ordering::SeqCst);
        world.store.lies_left.store(1, Ordering::SeqCst);
        let before = world.n_reads();
        let around = wrong.saturating_sub(600)..(wrong + 600).min(N_BYTES as u64);
        assert_eq!(
            read(&object, around.clone()).await.expect("bytes"),
            bytes()[around.start as usize..around.end as usize]
        );
        assert_eq!(world.n_reads(), before + 2, "byte {wrong} came wrong once");
        world.cache.forget(&key(0)).await;
    }
    let object = world.object(1).await;
    world.store.wrong_byte.store(5_000, Ordering::SeqCst);
    world.store.lies_left.store(usize::MAX, Ordering::SeqCst);
    let before = world.n_reads();
    let demand = Demand::new(|| false);
    let (of, on) = (object.clone(), demand.clone());
    let failed = tokio::task::spawn_blocking(move || on_behalf_of(Some(&on), || of.read(4_000..6_000)).0)
        .await
        .expect("no panic");
    assert_eq!(failed.expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert_eq!(world.n_reads(), before + 2);
    assert_eq!((demand.take_fetched().gets, demand.take_damaged().len()), (2, 1));
    // those beside it are good
    assert_eq!(read(&object, 4_000..4_800).await.expect("bytes"), bytes()[4_000..4_800]);
    assert_eq!(read(&object, 5_200..6_000).await.expect("bytes"), bytes()[5_200..6_000]);
    assert_eq!(world.n_reads(), before + 2);
    assert_eq!(world.n_files(), 1, "of the one that was forgotten no file is left while nobody holds it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_no_more_gets_no_bytes_but_the_next_does() {
    let world = World::new(u64::MAX).await;
    let object = world.object(0).await;
    let held_up = world.store.permits.acquire_many(1_000).await.expect("never closed");
    let of = object.clone();
    let late = tokio::task::spawn_blocking(move || on_behalf_of(Some(&Demand::new(|| true)), || of.read(0..10)).0).await;
    assert_eq!(late.expect("no panic").expect_err("too late").kind(), ErrorKind::Unreachable);
    drop(held_up);
    assert_eq!(read(&object, 0..10).await.expect("bytes"), bytes()[..10]);
    assert_eq!(world.n_reads(), 1, "what was asked for arrived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_had_to_go_is_still_read_and_counted_again() {
    let world = World::new(3_000).await;
    let (first, second) = (world.object(0).await, world.object(1).await);
    let held = read(&first, 0..2_000).await.expect("bytes");
    read(&second, 0..2_000).await.expect("bytes");
    assert_eq!(world.cache.n_bytes(), 2_048, "the first had to go");
    assert_eq!(held, bytes()[..2_000]);
    let n_reads = world.n_reads();
    assert_eq!(read(&first, 0..2_000).await.expect("bytes"), bytes()[..2_000]);
    assert_eq!(world.n_reads(), n_reads, "its bytes stay as long as somebody has it");
    read(&first, 40_000..40_001).await.expect("bytes");
    assert!(world.cache.n_bytes() <= 3_000, "{}", world.cache.n_bytes());
    assert_eq!(held, bytes()[..2_000]);
    drop((first, second));
    world.cache.forget(&key(0)).await;
    world.cache.forget(&key(1)).await;
    assert_eq!((world.cache.n_bytes(), world.n_files()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_becomes_whole_outlives_the_process_and_others_do_not() {
    let mut world = World::new(u64::MAX).await;
    let (whole, part) = (world.object(0).await, world.object(1).await);
    read(&part, 0..10).await.expect("bytes");
    let all = 0..N_BYTES as u64;
    want(&whole, vec![all]).await.expect("fetched");
    let n_reads = world.n_reads();
    // it is a copy like any other now
    let mapped = world.cache.map(&key(0), N_BYTES as u64, Some(crc32c::crc32c(&bytes()))).await.expect("maps");
    assert_eq!((mapped, world.n_reads()), (bytes(), n_reads));
    drop((whole, part));
    world.reopen();
    assert_eq!((world.cache.n_bytes(), world.n_files()), (N_BYTES as u64, 1));
    assert!(world.object(0).await.whole().is_some() && world.object(1).await.whole().is_none());
    assert_eq!(world.n_reads(), n_reads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_on_and_on_takes_few_requests() {
    let world = World::new(u64::MAX).await;
    let object = world.object(0).await;
    for at in (0..N_BYTES as u64 - 100).step_by(100) {
        read(&object, at..at + 100).await.expect("bytes");
    }
    assert!(world.n_reads() <= 8, "{}", world.n_reads());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_comes_first_and_vouches_for_the_rest() {
    let world = World::new(u64::MAX).await;
    let (n, crc32c) = (N_BYTES as u64, crc32c::crc32c(&bytes()));
    let name = key(0);
    let open = || world.cache.object(&name, n, crc32c, 5_000, None);
    let object = open().await.expect("an object");
    assert_eq!(*world.store.reads.lock(), vec![n - 5_000..n]);
    assert_eq!(read(&object, n - 5_000..n).await.expect("bytes"), bytes()[N_BYTES - 5_000..]);
    assert!(read(&object, n - 5_001..n).await.is_err(), "nothing vouches for the rest yet");
    assert!(object.check_with(&Checksums::of(&bytes()[..N_BYTES - 5_001], CHUNK)).is_err());
    object.check_with(&Checksums::of(&bytes()[..N_BYTES - 5_000], CHUNK)).expect("fits");
    assert_eq!(read(&object, 0..n).await.expect("bytes"), bytes());
    assert_eq!(open().await.expect("an object").whole(), Some(&bytes()), "all of it is here now");
    assert_eq!(world.n_reads(), 2);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_holds_no_file_open_and_one_that_is_removed_is_no_damage() {
    let world = World::new(u64::MAX).await;
    let object = world.object(0).await;
    read(&object, 0..10).await.expect("bytes");
    let here = world.dir.path().to_path_buf();
    let open = fs::read_dir("/proc/self/fd").expect("a list").flatten();
    assert!(!open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.starts_with(&here)));
    for file in fs::read_dir(&here).expect("exists").flatten() {
        fs::remove_file(file.path()).expect("removed");
    }
    assert_eq!(read(&object, 0..10).await.expect("still here"), bytes()[..10]);
    assert_eq!(read(&object, 50_000..50_010).await.expect_err("nowhere to put it").kind(), ErrorKind::Other);
}
