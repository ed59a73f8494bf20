//! Objects as mapped memory: a local store's own files, or local copies of a bucket's objects.
//!
//! In: a key, and what the catalog says of its length and CRC32C. Out: [`Bytes`] over a memory map, which stay valid as
//! long as somebody holds them, even when the copy is removed to make room.
//!
//! Copies lie flat in one folder, `,` for the `/` of their keys, written to a temporary name first. A copy that
//! is longer or shorter than expected, or whose CRC32C is wrong, is thrown away and fetched once more; if it is wrong
//! again, the object itself is, and that is [`ErrorKind::Corrupt`]. What is asked for by many at a time is fetched once.
//! The least lately used copies go when the sum exceeds the bound; one object larger than the bound is kept alone. They go too
//! when the disk is full before that: then who holds copies open is asked to let go ([`Cache::when_full`]), for a file that is
//! mapped keeps its room, and what could not be written is written again, once.
//!
//! Objects of which the checksums of all pieces are known need not be fetched whole: [`Cache::object`] and
//! [`Cache::object_in_chunks`] give an [`Object`], which fetches what is read of it. Of such [`partial`](super::partial)
//! copies the bytes that are present count; they go with the process.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::demand::Demand;
use super::mapped::Maps;
use super::object::{Checksums, Object};
use super::partial::{Partial, SMALL_BYTES};
use super::scratch::Scratch;
use super::{Error, ErrorKind, Key, Result, Store, metrics};

/// Bytes fetched and written at a time: what a copy costs in memory on its way.
const FETCH_BYTES: u64 = 32 << 20;
/// Bytes of a file that are compared with its checksum at a time.
const CHECKED_AT_ONCE_BYTES: usize = 256 << 10;
/// Objects that are fetched at once, those included that nobody waits for any more.
const MAX_FETCHES: usize = 8;
/// Room made on a full disk, at least: one copy would soon be followed by the next.
const ROOM_BYTES: u64 = 64 << 20;
/// How often the memory of mapped files is looked at.
const LOOK_AT_MAPS: Duration = Duration::from_secs(1);
/// Ending of copies on their way; a dot in front keeps them from being taken for copies.
const TEMP_PREFIX: &str = ".new-";

/// Objects of one store as mapped memory.
#[derive(Debug)]
pub struct Cache {
    store: Arc<dyn Store>,
    dir: PathBuf,
    max_bytes: u64,
    copies: Mutex<Copies>,
    maps: Arc<Maps>,
    /// One lock a key that is being fetched or checked.
    flights: Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>,
    fetches: Arc<Semaphore>,
    /// Closes what is open and not in use.
    when_full: OnceLock<WhenFull>,
    /// Where objects are fetched for threads that wait.
    io: Option<Handle>,
}

struct WhenFull(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for WhenFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WhenFull")
    }
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
    /// Set where only parts are here.
    partial: Option<Arc<Partial>>,
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
    fn insert(&mut self, key: &Key, n_bytes: u64, crc32c: Option<u32>, partial: Option<Arc<Partial>>) {
        self.remove(key);
        self.last_tick += 1;
        let tick = self.last_tick;
        let copy = Copy {
            n_bytes,
            tick,
            crc32c,
            partial,
        };
        self.by_key.insert(key.clone(), copy);
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
            maps: Arc::default(),
            flights: Mutex::default(),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            when_full: OnceLock::new(),
            io: Handle::try_current().ok(),
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
        self.map_for(key, expect_bytes, expect_crc32c, None).await
    }

    /// [`Self::map`] for a question, which is told what this call fetched from the store.
    ///
    /// What is being fetched is fetched to its end even if nobody waits any more: an object that takes longer than a
    /// question has would never be had.
    pub async fn map_for(self: &Arc<Self>, key: &Key, expect_bytes: u64, expect_crc32c: Option<u32>, demand: Option<&Arc<Demand>>) -> Result<Bytes> {
        if self.is_local() {
            return self.map_own_file(key, expect_bytes, expect_crc32c).await;
        }
        if let Some(bytes) = self.map_copy(key, expect_bytes, expect_crc32c).await? {
            metrics::cache_lookup("hit");
            return Ok(bytes);
        }
        let slot = self.fetches.clone().acquire_owned().await;
        let (cache, name, demand) = (self.clone(), key.clone(), demand.cloned());
        let flight = tokio::spawn(async move {
            let _slot = slot;
            cache.bring(&name, expect_bytes, expect_crc32c, demand.as_ref()).await
        });
        flight.await.unwrap_or_else(|panic| Err(ended(key, &panic)))
    }

    /// An object that need not be here to be read. Its last `tail_bytes` bytes are fetched now, in one request, unless they are here;
    /// the rest can be read after [`Object::check_with`]. With `tail_bytes` 0, and if the object is small, it is mapped whole.
    pub async fn object(self: &Arc<Self>, key: &Key, expect_bytes: u64, expect_crc32c: u32, tail_bytes: u64, demand: Option<&Arc<Demand>>) -> Result<Object> {
        if tail_bytes == 0 || tail_bytes > expect_bytes || expect_bytes <= SMALL_BYTES {
            return Ok(self.map_for(key, expect_bytes, Some(expect_crc32c), demand).await?.into());
        }
        self.perhaps_partial(key, expect_bytes, expect_crc32c, expect_bytes - tail_bytes, demand).await
    }

    /// An object that need not be here to be read, of known checksums. Fetches nothing now.
    pub async fn object_in_chunks(self: &Arc<Self>, key: &Key, expect_bytes: u64, expect_crc32c: u32, checksums: &Checksums) -> Result<Object> {
        let object = self.perhaps_partial(key, expect_bytes, expect_crc32c, expect_bytes, None).await?;
        object.check_with(checksums)?;
        Ok(object)
    }

    /// The whole object if it is here, else a partial copy.
    async fn perhaps_partial(
        self: &Arc<Self>,
        key: &Key,
        expect_bytes: u64,
        expect_crc32c: u32,
        tail_start: u64,
        demand: Option<&Arc<Demand>>,
    ) -> Result<Object> {
        if self.is_local() || self.io.is_none() || expect_bytes == 0 {
            return Ok(self.map_for(key, expect_bytes, Some(expect_crc32c), demand).await?.into());
        }
        if let Some(bytes) = self.map_copy(key, expect_bytes, Some(expect_crc32c)).await? {
            metrics::cache_lookup("hit");
            return Ok(bytes.into());
        }
        let (cache, name, demand) = (self.clone(), key.clone(), demand.cloned());
        let flight = tokio::spawn(async move {
            let flight = cache.flight(&name);
            let _alone = flight.lock().await;
            if let Some(partial) = cache.partial_of(&name, expect_bytes, tail_start) {
                metrics::cache_lookup("hit");
                return Ok(Object::partial(partial));
            }
            let tail = match tail_start < expect_bytes {
                true => {
                    metrics::cache_lookup("miss");
                    cache.get_range(&name, tail_start..expect_bytes, demand.as_ref()).await?
                }
                false => Bytes::new(),
            };
            let (this, its_name) = (cache.clone(), name.clone());
            let create = move || {
                let partial = Partial::create(&this, &this.dir, &its_name, expect_bytes, tail_start)?;
                this.maps.add_partial(partial.map());
                partial.write_tail(&tail)?;
                Ok(partial)
            };
            let n_bytes = expect_bytes - tail_start;
            let partial = match blocking(&name, create.clone()).await {
                Err(error) if cache.has_made_room(&error, &name, n_bytes) => blocking(&name, create).await?,
                created => created?,
            };
            cache.keep(&name, partial.present_bytes(), None, Some(partial.clone()));
            Ok(Object::partial(partial))
        });
        flight.await.unwrap_or_else(|panic| Err(ended(key, &panic)))
    }

    fn partial_of(&self, key: &Key, n_bytes: u64, tail_start: u64) -> Option<Arc<Partial>> {
        let mut copies = self.copies.lock();
        copies.touch(key);
        let partial = copies.by_key.get(key)?.partial.clone()?;
        ((partial.n_bytes(), partial.tail_start()) == (n_bytes, tail_start)).then_some(partial)
    }

    /// Where objects are fetched for threads that wait.
    pub(super) fn io(&self) -> Option<&Handle> {
        self.io.as_ref()
    }

    /// One read of the store, within the bound on reads at once.
    pub(super) async fn get_range(&self, key: &Key, range: std::ops::Range<u64>, demand: Option<&Arc<Demand>>) -> Result<Bytes> {
        let _slot = self.fetches.acquire().await;
        self.get_range_in_slot(key, range, demand).await
    }

    async fn get_range_in_slot(&self, key: &Key, range: std::ops::Range<u64>, demand: Option<&Arc<Demand>>) -> Result<Bytes> {
        let n_bytes = range.end - range.start;
        if let Some(demand) = demand {
            demand.has_asked(self.store.gets_of(n_bytes));
        }
        let bytes = self.store.get_range(key, range).await?;
        if let Some(demand) = demand {
            demand.has_fetched(bytes.len() as u64);
        }
        if bytes.len() as u64 != n_bytes {
            return Err(wrong_length(key, n_bytes, bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// Counts bytes that a partial copy has more, and makes room for them. One that had to go and is still read is back.
    pub(super) fn has_grown(&self, partial: &Arc<Partial>, n_bytes: u64) {
        if n_bytes == 0 {
            return;
        }
        let key = partial.key();
        let mut guard = self.copies.lock();
        let copies = &mut *guard;
        let present_bytes = partial.present_bytes();
        match copies.by_key.get_mut(key) {
            Some(copy) if copy.partial.as_ref().is_some_and(|known| Arc::ptr_eq(known, partial)) => {
                let grown = present_bytes.saturating_sub(copy.n_bytes);
                copy.n_bytes += grown;
                copies.n_bytes += grown;
                copies.touch(key);
            }
            // its place was taken by another copy, perhaps a whole one
            Some(_) => {}
            None => copies.insert(key, present_bytes, None, Some(partial.clone())),
        }
        self.evict(copies);
    }

    /// Gives a partial copy that has become whole its name. Blocks on the disk.
    pub(super) fn name_whole(&self, partial: &Arc<Partial>) -> io::Result<()> {
        let mut copies = self.copies.lock();
        if let Some(copy) = copies.by_key.get_mut(partial.key())
            && copy.partial.as_ref().is_some_and(|known| Arc::ptr_eq(known, partial))
        {
            partial.rename(&copy_path(&self.dir, partial.key()))?;
            copy.partial = None;
        }
        Ok(())
    }

    async fn bring(&self, key: &Key, expect_bytes: u64, expect_crc32c: Option<u32>, demand: Option<&Arc<Demand>>) -> Result<Bytes> {
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
            let crc32c = match self.fetch(key, expect_bytes, demand).await {
                Err(error) if self.has_made_room(&error, key, expect_bytes) => self.fetch(key, expect_bytes, demand).await?,
                fetched => fetched?,
            };
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
        let write = move || {
            let mut copy = NewCopy::create(&dir)?;
            copy.append(&bytes)?;
            copy.publish(&copy_path(&dir, &name))
        };
        let written = match blocking(key, write.clone()).await {
            Err(error) if self.has_made_room(&error, key, n_bytes) => blocking(key, write).await,
            written => written,
        };
        match written {
            Ok(crc32c) => self.keep(key, n_bytes, Some(crc32c), None),
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

    /// Gives pages of mapped files back to the system, once a second, whenever there are more than `max_bytes` of them in this process's
    /// memory. They stay in the system's page cache. Ends when `stop` does.
    pub async fn keep_mapped_within(&self, max_bytes: u64, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        while tokio::time::timeout(LOOK_AT_MAPS, stop.as_mut()).await.is_err() {
            let maps = self.maps.clone();
            // a panic there is no reason to end; the next look tells again
            if let Ok(true) = tokio::task::spawn_blocking(move || maps.give_back(max_bytes)).await {
                metrics::mapped_given_back();
            }
        }
    }

    /// Where large objects are made, before they are put: files beside the copies, whose maps count like theirs.
    pub fn scratch(&self) -> Scratch {
        Scratch::in_folder(self.dir.join("scratch"), Arc::clone(&self.maps))
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
            copies.insert(&key, n_bytes, None, None);
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
        let (name, maps) = (key.clone(), self.maps.clone());
        let mapped = move || {
            let file = File::open(path)?;
            let crc32c = to_verify.map(|_| crc32c_of(&file)).transpose()?;
            Ok((maps.map_file(&file)?, crc32c))
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
                Some(copy) if copy.partial.is_none() => copy.crc32c,
                _ => return Ok(None),
            }
        };
        let (path, maps) = (copy_path(&self.dir, key), self.maps.clone());
        let mapped = blocking(key, move || {
            let file = File::open(path)?;
            let crc32c = match (known_crc32c, expect_crc32c) {
                (None, Some(_)) => Some(crc32c_of(&file)?),
                (known, _) => known,
            };
            Ok((maps.map_file(&file)?, crc32c))
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
    async fn fetch(&self, key: &Key, n_bytes: u64, demand: Option<&Arc<Demand>>) -> Result<u32> {
        let dir = self.dir.clone();
        let mut copy = blocking(key, move || NewCopy::create(&dir)).await?;
        let mut start = 0;
        while start < n_bytes {
            let end = n_bytes.min(start + FETCH_BYTES);
            let bytes = self.get_range_in_slot(key, start..end, demand).await?;
            copy = blocking(key, move || copy.append(&bytes).map(|()| copy)).await?;
            start = end;
        }
        let target = copy_path(&self.dir, key);
        let crc32c = blocking(key, move || copy.publish(&target)).await?;
        self.keep(key, n_bytes, Some(crc32c), None);
        Ok(crc32c)
    }

    /// Enters a copy, and removes others to make room.
    fn keep(&self, key: &Key, n_bytes: u64, crc32c: Option<u32>, partial: Option<Arc<Partial>>) {
        let mut copies = self.copies.lock();
        copies.insert(key, n_bytes, crc32c, partial);
        self.evict(&mut copies);
    }

    /// Removes copies to make room.
    fn evict(&self, copies: &mut Copies) {
        self.evict_down_to(copies, self.max_bytes);
    }

    fn evict_down_to(&self, copies: &mut Copies, max_bytes: u64) {
        for evicted in copies.make_room(max_bytes) {
            metrics::cache_evicted();
            // a name is removed, not the pages that somebody may have mapped
            if let Err(error) = remove_if_there(&copy_path(&self.dir, &evicted)) {
                tracing::warn!(key = %evicted, %error, "a local copy could not be removed");
            }
        }
        metrics::cache_bytes(copies.n_bytes);
    }

    /// Says what closes the copies that are open and not in use, so that they leave the disk.
    pub fn when_full(&self, close: impl Fn() + Send + Sync + 'static) {
        let _ = self.when_full.set(WhenFull(Box::new(close)));
    }

    /// Whether what failed while it wrote `n_bytes` may be done again: the disk was full, and room has been made.
    pub(super) fn has_made_room(&self, failed: &Error, key: &Key, n_bytes: u64) -> bool {
        let is_full = failed.kind() == ErrorKind::Full;
        if is_full {
            tracing::warn!(%key, error = %failed, "the disk of local copies is full: the least lately used go");
            self.make_room(n_bytes);
        }
        is_full
    }

    /// Removes the least lately used copies: enough for `n_bytes` more, and some.
    fn make_room(&self, n_bytes: u64) {
        {
            let mut copies = self.copies.lock();
            let left = copies.n_bytes.saturating_sub((2 * n_bytes).max(ROOM_BYTES));
            self.evict_down_to(&mut copies, left);
        }
        if let Some(close) = self.when_full.get() {
            close.0();
        }
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
        let path = temp_path(dir);
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

/// A new name for a copy on its way, which the next process removes.
pub(super) fn temp_path(dir: &Path) -> PathBuf {
    dir.join(format!("{TEMP_PREFIX}{}", ulid::Ulid::from_bytes(rand::random())))
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The CRC32C of a file, read and not mapped: what is read through a map counts as memory of this process as long as the map lives.
fn crc32c_of(file: &File) -> io::Result<u32> {
    let (mut crc32c, mut at) = (0, 0);
    let mut buffer = vec![0; CHECKED_AT_ONCE_BYTES];
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(crc32c),
            Ok(n_bytes) => {
                crc32c = crc32c::crc32c_append(crc32c, &buffer[..n_bytes]);
                at += n_bytes as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(key: &Key, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|source| Error::io("map", key.as_str(), source)),
        Err(ended) => Err(Error::new(ErrorKind::Other, "map", key.as_str(), ended)),
    }
}

fn ended(key: &Key, panic: &tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Other, "fetch", key.as_str(), panic.to_string())
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
mod tests;
