//! Copies of which only parts are here: what is read is fetched first, in few large requests.
//!
//! A copy is a sparse file of the object's full length, mapped as a whole, and one bit for each chunk that is present. Chunks
//! are those of the object's [`Checksums`]: each is compared with its CRC32C before it is written and then marked; one
//! that is wrong is fetched once more, and if it is wrong again, the object is, which is [`ErrorKind::Corrupt`]. The end
//! of an object may be its *tail*, fetched before all else, in which the checksums of the rest stand; who wrote them checks it.
//!
//! - Chunks that are missing are gathered over everything that is wanted together; runs of them that lie near each other
//!   ([`MERGE_GAP_BYTES`]) come with what lies between in one request of at most [`FETCH_BYTES`], all requests at once.
//! - A chunk that is on its way is waited for, not fetched again. What has been asked for arrives even if nobody waits.
//! - Who reads one range behind the other gets more each time; of an object that is small all is fetched.
//!
//! Such copies do not outlive the process: what was present is nowhere written down. One that has become whole gets its
//! name, and is a copy like any other.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

use super::cache::{Cache, blocking, remove_if_there, temp_path};
use super::demand::{self, Demand};
use super::object::Checksums;
use super::{Error, ErrorKind, Key, Result, metrics};

/// Bytes of one request, at most; a bucket gives no more at once.
const FETCH_BYTES: u64 = 8 << 20;
/// Chunks no further apart than this come in one request: what a store gives in the time that a request takes to begin is about
/// 2.5 MiB, and a request costs money where bytes do not. (Little in tests, whose objects are small.)
const MERGE_GAP_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 4 << 20 };
/// An object of no more bytes than this is fetched whole when anything of it is missing. (None is, in tests.)
pub(super) const SMALL_BYTES: u64 = if cfg!(test) { 16 } else { 2 << 20 };
/// Reads this many chunks behind the one before are still one behind the other.
const NEAR_CHUNKS: u64 = 4;
/// How often a thread that waits looks whether anybody waits for it.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A copy of which parts are present.
pub(super) struct Partial {
    key: Key,
    n_bytes: u64,
    /// From here to the end it was present before anybody saw it.
    tail_start: u64,
    map: Arc<MmapRaw>,
    /// Its name while it has a temporary one, which is as long as something is missing. It is opened for each write: of
    /// such copies there may be more than a process may have files open.
    temp: Mutex<Option<PathBuf>>,
    cache: Weak<Cache>,
    known: OnceLock<Known>,
    way: Mutex<Way>,
    landed: Notify,
}

/// What is known as soon as the checksums are.
struct Known {
    checksums: Checksums,
    present: Box<[AtomicU64]>,
    n_present: AtomicU32,
    is_whole: AtomicBool,
}

/// What is on its way, and where the last read that had to wait ended.
#[derive(Default)]
struct Way {
    chunks: HashSet<u32>,
    last_end: u64,
    /// Such reads one behind the other.
    in_a_row: u32,
}

/// One request: its range and the chunks in it that are meant.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    range: Range<u64>,
    chunks: Vec<u32>,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Known {
    fn new(checksums: Checksums) -> Self {
        Self {
            present: (0..checksums.n_chunks().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            n_present: AtomicU32::new(0),
            is_whole: AtomicBool::new(false),
            checksums,
        }
    }
    fn has(&self, chunk: u32) -> bool {
        self.present[chunk as usize / 64].load(Ordering::Acquire) & (1 << (chunk % 64)) != 0
    }
    /// Marks a chunk whose bytes are written.
    fn mark(&self, chunk: u32) {
        self.present[chunk as usize / 64].fetch_or(1 << (chunk % 64), Ordering::Release);
        self.n_present.fetch_add(1, Ordering::Relaxed);
    }
    /// The chunks of some ranges that are not present, in order.
    fn missing(&self, ranges: &[Range<u64>]) -> Vec<u32> {
        let mut chunks: Vec<u32> = ranges.iter().flat_map(|range| self.checksums.chunks_of(range)).collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks.retain(|chunk| !self.has(*chunk));
        chunks
    }
    /// Puts chunks (in order) into requests. What `may_come` along lies between two of them.
    fn runs(&self, chunks: &[u32], may_come: impl Fn(u32) -> bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for chunk in chunks {
            let at = self.checksums.range_of(*chunk);
            match runs.last_mut() {
                Some(run) if at.start - run.range.end <= MERGE_GAP_BYTES && at.end - run.range.start <= FETCH_BYTES => {
                    let last = run.chunks.last().map_or(*chunk, |last| last + 1);
                    run.chunks.extend((last..*chunk).filter(|between| may_come(*between)));
                    run.chunks.push(*chunk);
                    run.range.end = at.end;
                }
                _ => runs.push(Run {
                    range: at,
                    chunks: vec![*chunk],
                }),
            }
        }
        runs
    }
}

/// Takes chunks off the way when their requests have ended, however they did.
struct Flight<'a> {
    partial: &'a Partial,
    chunks: Vec<u32>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut way = self.partial.way.lock();
        for chunk in &self.chunks {
            way.chunks.remove(chunk);
        }
        drop(way);
        self.partial.landed.notify_waiters();
    }
}

/// Present bytes of a copy.
struct Here {
    map: Arc<MmapRaw>,
    start: usize,
    length: usize,
}

impl AsRef<[u8]> for Here {
    #[expect(unsafe_code, reason = "the one place that reads such maps; the proof stands at the call")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Partial::here` is the only one that makes this, of a range within the map that is present as a whole: of
        // the tail, which was written before the copy was shared, and of chunks whose mark was seen (acquire) and was set after
        // they were written (release). What is present is never written again: `Partial::write` skips marked chunks, and a
        // chunk is on one way at a time. The bytes beside it may be written meanwhile, through the file and not through the map;
        // no reference covers those. The map is shared, of one page cache with the file, as Linux and the BSDs have it. The file
        // is never truncated, and only we know its name; the map holds on to it when the name goes. Another program
        // that writes into our data directory breaks this, as it would break any database.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start), self.length) }
    }
}

impl Partial {
    /// An empty copy in `dir`. Blocks on the disk.
    pub(super) fn create(cache: &Arc<Cache>, dir: &Path, key: &Key, n_bytes: u64, tail_start: u64) -> io::Result<Arc<Self>> {
        let path = temp_path(dir);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let map = file.set_len(n_bytes).and_then(|()| MmapOptions::new().map_raw_read_only(&file));
        let map = match map {
            Ok(map) if map.len() as u64 >= n_bytes => map,
            failed => {
                remove_if_there(&path)?;
                return Err(failed.err().unwrap_or_else(|| io::Error::other("the map is shorter than the file")));
            }
        };
        Ok(Arc::new(Self {
            key: key.clone(),
            n_bytes,
            tail_start,
            map: Arc::new(map),
            temp: Mutex::new(Some(path)),
            cache: Arc::downgrade(cache),
            known: OnceLock::new(),
            way: Mutex::default(),
            landed: Notify::new(),
        }))
    }

    /// Writes the tail, before anybody else has the copy. Blocks on the disk.
    pub(super) fn write_tail(&self, tail: &[u8]) -> io::Result<()> {
        self.open_to_write()?.write_all_at(tail, self.tail_start)
    }

    fn open_to_write(&self) -> io::Result<File> {
        let path = self.temp.lock().clone();
        let path = path.ok_or_else(|| io::Error::other("all of it is here"))?;
        // that somebody removed the copy says nothing about the object
        File::options().write(true).open(path).map_err(|error| io::Error::other(error.to_string()))
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }
    pub(super) fn map(&self) -> &Arc<MmapRaw> {
        &self.map
    }
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
    pub(super) fn tail_start(&self) -> u64 {
        self.tail_start
    }

    /// Bytes of it that are here.
    pub(super) fn present_bytes(&self) -> u64 {
        let tail = self.n_bytes - self.tail_start;
        self.known.get().map_or(tail, |known| {
            let chunks = u64::from(known.n_present.load(Ordering::Relaxed)) * known.checksums.chunk_bytes();
            chunks.min(self.tail_start) + tail
        })
    }

    pub(super) fn check_with(&self, checksums: &Checksums) -> Result<()> {
        if checksums.n_bytes() != self.tail_start {
            return Err(self.damaged(format!(
                "its checksums cover {} bytes, and {} come before its tail",
                checksums.n_bytes(),
                self.tail_start
            )));
        }
        let known = self.known.get_or_init(|| Known::new(checksums.clone()));
        match known.checksums == *checksums {
            true => Ok(()),
            false => Err(self.damaged("it was opened with other checksums".into())),
        }
    }

    pub(super) fn read(self: &Arc<Self>, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if !self.is_here(&range)? {
            let ahead = range.start..self.read_ahead(&range)?;
            self.bring(vec![ahead])?;
        }
        self.here(&range)
    }

    pub(super) fn want(self: &Arc<Self>, ranges: &[Range<u64>]) -> Result<()> {
        let known = self.known()?;
        match known.missing(ranges).is_empty() {
            true => Ok(()),
            false => self.bring(ranges.to_vec()),
        }
    }

    fn known(&self) -> Result<&Known> {
        let known = self.known.get();
        known.ok_or_else(|| Error::new(ErrorKind::Other, "read", self.key.as_str(), "its checksums are not known yet"))
    }

    fn is_here(&self, range: &Range<u64>) -> Result<bool> {
        if range.start >= self.tail_start {
            return Ok(true);
        }
        let known = self.known()?;
        Ok(known.checksums.chunks_of(range).all(|chunk| known.has(chunk)))
    }

    /// Bytes that are present.
    fn here(&self, range: &Range<u64>) -> Result<Bytes> {
        if range.end > self.n_bytes || !self.is_here(range)? {
            return Err(Error::new(ErrorKind::Other, "read", self.key.as_str(), "what was fetched is not here"));
        }
        Ok(Bytes::from_owner(Here {
            map: self.map.clone(),
            start: range.start as usize,
            length: (range.end - range.start) as usize,
        }))
    }

    /// Where to end a read that has to wait: the further, the more of them came one behind the other.
    fn read_ahead(&self, range: &Range<u64>) -> Result<u64> {
        let chunk_bytes = self.known()?.checksums.chunk_bytes();
        let mut way = self.way.lock();
        let begins_near = way.last_end <= range.start + chunk_bytes && range.start <= way.last_end + NEAR_CHUNKS * chunk_bytes;
        let follows = way.last_end > 0 && range.end > way.last_end && begins_near;
        way.in_a_row = if follows { way.in_a_row + 1 } else { 0 };
        let ahead = match way.in_a_row {
            0 => 0,
            n => chunk_bytes.checked_shl(2 * n).unwrap_or(FETCH_BYTES).min(FETCH_BYTES),
        };
        way.last_end = range.end.max((range.end + ahead).min(self.tail_start));
        Ok(way.last_end)
    }

    /// Has ranges fetched, and waits for them on this thread.
    fn bring(self: &Arc<Self>, ranges: Vec<Range<u64>>) -> Result<()> {
        let gone = || Error::new(ErrorKind::Other, "read", self.key.as_str(), "the cache that fetches it is closed");
        let cache = self.cache.upgrade().ok_or_else(gone)?;
        let io = cache.io().ok_or_else(gone)?.clone();
        let demand = demand::current();
        let (sender, receiver) = sync_channel(1);
        let (this, on_behalf) = (self.clone(), demand.clone());
        io.spawn(async move {
            let brought = this.ensure(&cache, &ranges, on_behalf.as_ref()).await;
            // nobody may wait any more
            let _ = sender.send(brought);
        });
        waiting(|| {
            loop {
                match receiver.recv_timeout(LOOK_UP) {
                    Ok(brought) => return brought,
                    Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                    Err(RecvTimeoutError::Timeout) if demand.as_ref().is_some_and(|demand| demand.is_over()) => {
                        let why = "time was up while it was being fetched";
                        return Err(Error::new(ErrorKind::Unreachable, "read", self.key.as_str(), why));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    }

    /// Fetches what is missing of some ranges and on nobody else's way; waits for the rest.
    async fn ensure(self: &Arc<Self>, cache: &Arc<Cache>, ranges: &[Range<u64>], demand: Option<&Arc<Demand>>) -> Result<()> {
        let known = self.known()?;
        loop {
            // from here on no landing is missed
            let landed = self.landed.notified();
            let (runs, waits) = self.take_missing(known, ranges);
            if runs.is_empty() {
                if !waits {
                    return Ok(());
                }
                landed.await;
                continue;
            }
            metrics::cache_lookup("miss");
            let flight = Flight {
                partial: self,
                chunks: runs.iter().flat_map(|run| run.chunks.iter().copied()).collect(),
            };
            // all of them end, so that none writes what it has no claim to any more
            let fetched = futures::future::join_all(runs.into_iter().map(|run| self.fetch(cache, run, demand))).await;
            drop(flight);
            fetched.into_iter().collect::<Result<()>>()?;
            if !waits {
                return Ok(());
            }
        }
    }

    /// Puts what is missing on the way; and whether something else that is missing is on it already.
    fn take_missing(&self, known: &Known, ranges: &[Range<u64>]) -> (Vec<Run>, bool) {
        let mut way = self.way.lock();
        let mut missing = known.missing(ranges);
        if self.tail_start <= SMALL_BYTES && !missing.is_empty() {
            let all = 0..self.tail_start;
            missing = known.missing(std::slice::from_ref(&all));
        }
        let n_missing = missing.len();
        missing.retain(|chunk| !way.chunks.contains(chunk));
        let waits = missing.len() < n_missing;
        let runs = known.runs(&missing, |chunk| !known.has(chunk) && !way.chunks.contains(&chunk));
        way.chunks.extend(runs.iter().flat_map(|run| run.chunks.iter().copied()));
        (runs, waits)
    }

    /// One request, and another where chunks of it came wrong.
    async fn fetch(self: &Arc<Self>, cache: &Arc<Cache>, mut run: Run, demand: Option<&Arc<Demand>>) -> Result<()> {
        let mut tries_left = 1;
        loop {
            let bytes = cache.get_range(&self.key, run.range.clone(), demand).await?;
            let (this, start, chunks) = (self.clone(), run.range.start, run.chunks);
            let n_bytes = bytes.len() as u64;
            let write = move || this.write(start, &bytes, &chunks);
            let (written, wrong) = match blocking(&self.key, write.clone()).await {
                Err(error) if cache.has_made_room(&error, &self.key, n_bytes) => blocking(&self.key, write).await?,
                written => written?,
            };
            cache.has_grown(self, written);
            self.name_if_whole(cache).await;
            let (Some(first), Some(last)) = (wrong.first(), wrong.last()) else {
                return Ok(());
            };
            metrics::cache_lookup("corrupt");
            let checksums = &self.known()?.checksums;
            run.range = checksums.range_of(*first).start..checksums.range_of(*last).end;
            if tries_left == 0 {
                let why = format!("of its bytes {} to {} the CRC32C is wrong", run.range.start, run.range.end);
                if let Some(demand) = demand {
                    demand.has_found_damaged(self.key.as_str(), why.clone());
                }
                return Err(self.damaged(why));
            }
            run.chunks = wrong;
            tries_left -= 1;
        }
    }

    /// Writes those of some chunks that are right; gives their bytes, and the chunks that are wrong.
    fn write(&self, start: u64, bytes: &[u8], chunks: &[u32]) -> io::Result<(u64, Vec<u32>)> {
        let known = self.known().map_err(io::Error::other)?;
        let (mut written, mut wrong) = (0, Vec::new());
        let mut file = None;
        for &chunk in chunks {
            if known.has(chunk) {
                continue;
            }
            let at = known.checksums.range_of(chunk);
            let piece = bytes.get((at.start - start) as usize..(at.end - start) as usize);
            match piece.filter(|piece| known.checksums.is_right(chunk, piece)) {
                Some(piece) => {
                    let file = match &file {
                        Some(file) => file,
                        None => file.insert(self.open_to_write()?),
                    };
                    file.write_all_at(piece, at.start)?;
                    known.mark(chunk);
                    written += piece.len() as u64;
                }
                None => wrong.push(chunk),
            }
        }
        Ok((written, wrong))
    }

    /// A copy that has become whole may stay for the next process.
    async fn name_if_whole(self: &Arc<Self>, cache: &Arc<Cache>) {
        let Ok(known) = self.known() else { return };
        if known.n_present.load(Ordering::Relaxed) < known.checksums.n_chunks() || known.is_whole.swap(true, Ordering::Relaxed) {
            return;
        }
        let (cache, this) = (cache.clone(), self.clone());
        let named = blocking(&self.key, move || cache.name_whole(&this)).await;
        if let Err(error) = named {
            tracing::debug!(%error, "a copy that has become whole is not kept for the next process");
        }
    }

    /// Gives it its name. Blocks on the disk.
    pub(super) fn rename(&self, target: &Path) -> io::Result<()> {
        let mut temp = self.temp.lock();
        if let Some(path) = temp.as_ref() {
            fs::rename(path, target)?;
            *temp = None;
        }
        Ok(())
    }

    fn damaged(&self, why: String) -> Error {
        Error::new(ErrorKind::Corrupt, "read", self.key.as_str(), why)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = self.temp.get_mut() {
            let _ = remove_if_there(path);
        }
    }
}

/// Waits; a worker of a runtime lets others go on meanwhile.
fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

#[cfg(test)]
mod tests;
