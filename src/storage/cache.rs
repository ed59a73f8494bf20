//! Objects as mapped memory: a local store's own files, or local copies of a bucket's objects.
//!
//! In: a key, and what the catalog says of its length and CRC32C. Out: [`Bytes`] over a memory map, which stay valid as
//! long as somebody holds them, even when the copy is removed to make room.
//!
//! Copies lie flat in one folder, `,` for the `/` of their keys, written to a temporary name first. A copy that
//! is longer or shorter than expected, or whose CRC32C is wrong, is thrown away and fetched once more; if it is wrong
//! again, the object itself is, and that is [`ErrorKind::Corrupt`]. What is asked for by many at a time is fetched once.
//! The least lately used copies go when the sum exceeds the bound; one object larger than the bound is kept alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{Error, ErrorKind, Key, Result, Store, metrics};

/// Bytes fetched and written at a time: what a copy costs in memory on its way.
const FETCH_BYTES: u64 = 32 << 20;
/// Objects that are fetched at once, those included that nobody waits for any more.
const MAX_FETCHES: usize = 8;
/// Ending of copies on their way; a dot in front keeps them from being taken for copies.
const TEMP_PREFIX: &str = ".new-";

/// Objects of one store as mapped memory.
#[derive(Debug)]
pub struct Cache {
    store: Arc<dyn Store>,
    dir: PathBuf,
    max_bytes: u64,
    copies: Mutex<Copies>,
    /// One lock a key that is being fetched or checked.
    flights: Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>,
    fetches: Arc<Semaphore>,
}

/// What was fetched from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Requests.
    pub gets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What lies in the folder.
#[derive(Debug, Default)]
struct Copies {
    by_key: HashMap<Key, Copy>,
    /// Ticks of use to keys, least lately used first.
    by_use: BTreeMap<u64, Key>,
    n_bytes: u64,
    last_tick: u64,
    /// Files of a local store whose CRC32C was found right.
    verified_files: HashMap<Key, u32>,
}

#[derive(Debug)]
struct Copy {
    n_bytes: u64,
    tick: u64,
    /// The CRC32C it was found to have, in this process.
    crc32c: Option<u32>,
}

impl Copies {
    fn touch(&mut self, key: &Key) {
        self.last_tick += 1;
        if let Some(copy) = self.by_key.get_mut(key) {
            self.by_use.remove(&copy.tick);
            copy.tick = self.last_tick;
            self.by_use.insert(copy.tick, key.clone());
        }
    }
    fn insert(&mut self, key: &Key, n_bytes: u64, crc32c: Option<u32>) {
        self.remove(key);
        self.last_tick += 1;
        let tick = self.last_tick;
        self.by_key.insert(key.clone(), Copy { n_bytes, tick, crc32c });
        self.by_use.insert(tick, key.clone());
        self.n_bytes += n_bytes;
    }
    fn remove(&mut self, key: &Key) {
        if let Some(copy) = self.by_key.remove(key) {
            self.by_use.remove(&copy.tick);
            self.n_bytes -= copy.n_bytes;
        }
    }
    /// Takes out the least lately used copies until the rest fits; the last one stays.
    fn make_room(&mut self, max_bytes: u64) -> Vec<Key> {
        let mut out = Vec::new();
        while self.n_bytes > max_bytes && self.by_use.len() > 1 {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            self.remove(&key);
            out.push(key);
        }
        out
    }
}

impl Cache {
    /// Opens the cache of `store` in the folder `dir`, with the copies an earlier process left there. Blocks on the disk for
    /// as long as listing that folder takes. A local store needs no folder.
    pub fn open(store: Arc<dyn Store>, dir: &Path, max_bytes: u64) -> Result<Arc<Cache>> {
        let cache = Cache {
            dir: dir.to_path_buf(),
            max_bytes,
            copies: Mutex::default(),
            flights: Mutex::default(),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            store,
        };
        if !cache.is_local() {
            cache.scan().map_err(|source| Error::io("open the cache", dir.display().to_string(), source))?;
        }
        Ok(Arc::new(cache))
    }

    /// The bytes of an object, mapped. Their length is checked against `expect_bytes` at every call, their CRC32C, if
    /// given, at the first call of this process.
    pub async fn map(self: &Arc<Self>, key: &Key, expect_bytes: u64, expect_crc32c: Option<u32>) -> Result<Bytes> {
        let mut fetched = Fetched::default();
        self.map_counted(key, expect_bytes, expect_crc32c, &mut fetched).await
    }

    /// [`Self::map`], which adds to `fetched` what this call fetched from the store.
    ///
    /// What is being fetched is fetched to its end even if nobody waits any more: an object that takes longer than a
    /// question has would never be had.
    pub async fn map_counted(self: &Arc<Self>, key: &Key, expect_bytes: u64, expect_crc32c: Option<u32>, fetched: &mut Fetched) -> Result<Bytes> {
        if self.is_local() {
            return self.map_own_file(key, expect_bytes, expect_crc32c).await;
        }
        if let Some(bytes) = self.map_copy(key, expect_bytes, expect_crc32c).await? {
            metrics::cache_lookup("hit");
            return Ok(bytes);
        }
        let slot = self.fetches.clone().acquire_owned().await;
        let (cache, name) = (self.clone(), key.clone());
        let flight = tokio::spawn(async move {
            let _slot = slot;
            let mut fetched = Fetched::default();
            (cache.bring(&name, expect_bytes, expect_crc32c, &mut fetched).await, fetched)
        });
        let (brought, its_fetched) = flight
            .await
            .unwrap_or_else(|panic| (Err(Error::new(ErrorKind::Other, "fetch", key.as_str(), panic.to_string())), Fetched::default()));
        fetched.gets += its_fetched.gets;
        fetched.bytes += its_fetched.bytes;
        brought
    }

    async fn bring(&self, key: &Key, expect_bytes: u64, expect_crc32c: Option<u32>, fetched: &mut Fetched) -> Result<Bytes> {
        let flight = self.flight(key);
        let _alone = flight.lock().await;
        // whoever flew before us may have brought it
        if let Some(bytes) = self.map_copy(key, expect_bytes, expect_crc32c).await? {
            metrics::cache_lookup("hit");
            return Ok(bytes);
        }
        metrics::cache_lookup("miss");
        let mut tries_left = 1;
        loop {
            let crc32c = self.fetch(key, expect_bytes, fetched).await?;
            if expect_crc32c.is_none_or(|expected| expected == crc32c) {
                break;
            }
            metrics::cache_lookup("corrupt");
            self.forget(key).await;
            if tries_left == 0 {
                return Err(wrong_crc(key, expect_crc32c.unwrap_or_default(), crc32c));
            }
            tries_left -= 1;
        }
        let found = self.map_copy(key, expect_bytes, expect_crc32c).await?;
        found.ok_or_else(|| Error::new(ErrorKind::Other, "map", key.as_str(), "the copy vanished as soon as it was made"))
    }

    /// Keeps a copy of what was just put, so that the first query need not fetch it. A failure costs only that.
    pub async fn seed(&self, key: &Key, bytes: Bytes) {
        if self.is_local() {
            return;
        }
        let (n_bytes, name) = (bytes.len() as u64, key.clone());
        let dir = self.dir.clone();
        let written = blocking(key, move || {
            let mut copy = NewCopy::create(&dir)?;
            copy.append(&bytes)?;
            copy.publish(&copy_path(&dir, &name))
        });
        match written.await {
            Ok(crc32c) => self.keep(key, n_bytes, Some(crc32c)),
            Err(error) => tracing::warn!(%error, "no local copy is kept"),
        }
    }

    /// Forgets an object, because it is deleted. Bytes that somebody holds stay valid.
    pub async fn forget(&self, key: &Key) {
        {
            let mut copies = self.copies.lock();
            copies.verified_files.remove(key);
            copies.remove(key);
            metrics::cache_bytes(copies.n_bytes);
        }
        if !self.is_local() {
            let path = copy_path(&self.dir, key);
            let _ = blocking(key, move || remove_if_there(&path)).await;
        }
    }

    /// Bytes of the copies.
    pub fn n_bytes(&self) -> u64 {
        self.copies.lock().n_bytes
    }

    fn is_local(&self) -> bool {
        // a store is local for all keys or for none
        self.store.local_path(&super::paths::probe_key("x")).is_some()
    }

    fn scan(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let metadata = entry.metadata()?;
            if name.starts_with(TEMP_PREFIX) {
                remove_if_there(&entry.path())?;
            } else if let Some(key) = Key::parse(&name.replace(',', "/"))
                && metadata.is_file()
            {
                found.push((metadata.modified()?, key, metadata.len()));
            }
        }
        // of the uses before a restart only the first is known: when the copy was made
        found.sort();
        let mut copies = self.copies.lock();
        for (_, key, n_bytes) in found {
            copies.insert(&key, n_bytes, None);
        }
        for key in copies.make_room(self.max_bytes) {
            remove_if_there(&copy_path(&self.dir, &key))?;
        }
        metrics::cache_bytes(copies.n_bytes);
        Ok(())
    }

    async fn map_own_file(&self, key: &Key, expect_bytes: u64, expect_crc32c: Option<u32>) -> Result<Bytes> {
        let path = self.store.local_path(key).unwrap_or_default();
        let verified = self.copies.lock().verified_files.get(key).copied();
        let to_verify = expect_crc32c.filter(|expected| verified != Some(*expected));
        let name = key.clone();
        let mapped = move || {
            let bytes = map_file(&path)?;
            let crc32c = to_verify.map(|_| crc32c::crc32c(&bytes));
            Ok((bytes, crc32c))
        };
        let (bytes, crc32c) = blocking(&name, mapped).await?;
        if bytes.len() as u64 != expect_bytes {
            return Err(wrong_length(key, expect_bytes, bytes.len() as u64));
        }
        if let (Some(expected), Some(found)) = (to_verify, crc32c) {
            if expected != found {
                metrics::cache_lookup("corrupt");
                return Err(wrong_crc(key, expected, found));
            }
            self.copies.lock().verified_files.insert(key.clone(), found);
        }
        Ok(bytes)
    }

    /// The copy, if there is a good one; a bad one is removed.
    async fn map_copy(&self, key: &Key, expect_bytes: u64, expect_crc32c: Option<u32>) -> Result<Option<Bytes>> {
        let known_crc32c = {
            let mut copies = self.copies.lock();
            copies.touch(key);
            match copies.by_key.get(key) {
                Some(copy) => copy.crc32c,
                None => return Ok(None),
            }
        };
        let path = copy_path(&self.dir, key);
        let mapped = blocking(key, move || {
            let bytes = map_file(&path)?;
            let crc32c = match (known_crc32c, expect_crc32c) {
                (None, Some(_)) => Some(crc32c::crc32c(&bytes)),
                (known, _) => known,
            };
            Ok((bytes, crc32c))
        });
        let (bytes, crc32c) = match mapped.await {
            Ok(found) => found,
            // removed to make room between the two, or by a person
            Err(error) if error.is_not_found() => {
                self.copies.lock().remove(key);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if bytes.len() as u64 == expect_bytes && (expect_crc32c.is_none() || crc32c == expect_crc32c) {
            if let Some(copy) = self.copies.lock().by_key.get_mut(key) {
                copy.crc32c = crc32c;
            }
            return Ok(Some(bytes));
        }
        tracing::warn!(%key, "a local copy is damaged and is fetched again");
        metrics::cache_lookup("corrupt");
        self.forget(key).await;
        Ok(None)
    }

    /// Fetches an object into the folder; gives its CRC32C.
    async fn fetch(&self, key: &Key, n_bytes: u64, fetched: &mut Fetched) -> Result<u32> {
        let dir = self.dir.clone();
        let mut copy = blocking(key, move || NewCopy::create(&dir)).await?;
        let mut start = 0;
        while start < n_bytes {
            let end = n_bytes.min(start + FETCH_BYTES);
            fetched.gets += self.store.gets_of(end - start);
            let bytes = self.store.get_range(key, start..end).await?;
            fetched.bytes += bytes.len() as u64;
            copy = blocking(key, move || copy.append(&bytes).map(|()| copy)).await?;
            start = end;
        }
        let target = copy_path(&self.dir, key);
        let crc32c = blocking(key, move || copy.publish(&target)).await?;
        self.keep(key, n_bytes, Some(crc32c));
        Ok(crc32c)
    }

    /// Enters a copy, and removes others to make room.
    fn keep(&self, key: &Key, n_bytes: u64, crc32c: Option<u32>) {
        let mut copies = self.copies.lock();
        copies.insert(key, n_bytes, crc32c);
        for evicted in copies.make_room(self.max_bytes) {
            metrics::cache_evicted();
            // a name is removed, not the pages that somebody may have mapped
            if let Err(error) = remove_if_there(&copy_path(&self.dir, &evicted)) {
                tracing::warn!(key = %evicted, %error, "a local copy could not be removed");
            }
        }
        metrics::cache_bytes(copies.n_bytes);
    }

    fn flight(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(key).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(key.clone(), Arc::downgrade(&flight));
        flight
    }
}

/// A copy on its way; removed again if it does not arrive.
struct NewCopy {
    file: File,
    path: PathBuf,
    crc32c: u32,
}

impl NewCopy {
    fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("{TEMP_PREFIX}{}", ulid::Ulid::from_bytes(rand::random())));
        Ok(Self {
            file: File::create_new(&path)?,
            path,
            crc32c: 0,
        })
    }
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        self.file.write_all(bytes)
    }
    /// Gives the copy its name. Not synced: after a power loss its length or CRC32C is wrong, and it is fetched again.
    fn publish(self, target: &Path) -> io::Result<u32> {
        fs::rename(&self.path, target)?;
        Ok(self.crc32c)
    }
}

impl Drop for NewCopy {
    fn drop(&mut self) {
        let _ = remove_if_there(&self.path);
    }
}

fn copy_path(dir: &Path, key: &Key) -> PathBuf {
    dir.join(key.as_str().replace('/', ","))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Maps a whole file.
#[expect(unsafe_code, reason = "the one place that maps files; the proof stands at the call")]
fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: a map is sound while nobody changes or truncates the file. Both kinds of files that come here get their name
    // by rename or link only after they are whole, and are never opened for writing again: objects are immutable, and
    // replacing or deleting one changes the name, while the map holds on to the old inode. Another program that
    // writes into our data directory in place breaks this, as it would break any database.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

async fn blocking<T: Send + 'static>(key: &Key, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|source| Error::io("map", key.as_str(), source)),
        Err(ended) => Err(Error::new(ErrorKind::Other, "map", key.as_str(), ended)),
    }
}

fn wrong_length(key: &Key, expected: u64, found: u64) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "map",
        key.as_str(),
        format!("it has {found} bytes, and should have {expected}"),
    )
}

fn wrong_crc(key: &Key, expected: u32, found: u32) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "map",
        key.as_str(),
        format!("its CRC32C is {found:08x}, and should be {expected:08x}"),
    )
}

#[cfg(test)]
mod tests {
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
        let asked = tokio::time::timeout(std::time::Duration::from_millis(50), cache.map(&key(1), 1000, crc(1))).await;
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
}
