//! The thread beside the writer: makes the next segment ahead, deletes or recycles covered ones, tries a failing disk.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::books::{Books, Sealed};
use super::disk::{self, Disk, Failure};
use super::segment::SPARE_SUFFIX;
use super::{Config, Result};
use crate::supervise;

/// The first segment of a run: a short run then writes few zeros.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;
/// Each segment is this many times the one before, up to `segment_bytes`.
const GROWTH: u64 = 4;
/// Files kept ready at most; beyond one, only used ones are kept.
const MAX_READY: usize = 2;
/// Zeros are written in pieces of this size, each synced, so that groups do not wait behind a flood of them.
const ZERO_PIECE_BYTES: usize = 4 << 20;
/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A file ready to become a segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub file: File,
    pub path: PathBuf,
    pub bytes: u64,
    pub reused: bool,
}

struct State {
    ready: VecDeque<Spare>,
    /// The keeper is making a spare; the writer waits for it rather than making a second one.
    is_making: bool,
    /// The last try failed; the writer then tries itself and tells its callers why.
    has_failed: bool,
    must_collect: bool,
    must_stop: bool,
    next_bytes: u64,
    /// Number in the next spare's name.
    serial: u64,
}

pub(super) struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
    dir: PathBuf,
    segment_bytes: u64,
    min_free_disk_bytes: u64,
    disk: Arc<dyn Disk>,
    books: Arc<Books>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(super) fn start(disk: Arc<dyn Disk>, dir: &Path, config: &Config, books: Arc<Books>) -> Result<Arc<Self>> {
        let keeper = Arc::new(Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                is_making: false,
                has_failed: false,
                must_collect: true,
                must_stop: false,
                next_bytes: FIRST_SEGMENT_BYTES.min(config.segment_bytes),
                serial: 0,
            }),
            changed: Condvar::new(),
            dir: dir.to_path_buf(),
            segment_bytes: config.segment_bytes,
            min_free_disk_bytes: config.min_free_disk_bytes,
            disk,
            books,
            thread: Mutex::new(None),
        });
        let myself = Arc::clone(&keeper);
        let thread = std::thread::Builder::new()
            .name("wal-keeper".into())
            .spawn(move || {
                while let Err(panic) = catch_unwind(AssertUnwindSafe(|| myself.run())) {
                    supervise::note("wal_keeper", &*panic);
                    myself.recover();
                }
            })
            .map_err(|e| disk::io_error("start the keeper of", dir, e))?;
        *keeper.thread.lock() = Some(thread);
        Ok(keeper)
    }

    /// After a panic: the writer is not to wait for a segment that nobody makes. The disk is tried before the next one.
    fn recover(&self) {
        let mut state = self.state.lock();
        (state.is_making, state.has_failed, state.must_collect) = (false, true, true);
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the thread and removes what was made ahead. May be called again.
    pub(super) fn stop(&self) {
        self.state.lock().must_stop = true;
        self.changed.notify_all();
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.join().is_err() {
            tracing::error!(dir = %self.dir.display(), "the log's keeper panicked");
        }
        self.collect();
        for spare in self.state.lock().ready.drain(..) {
            remove(&spare.path);
        }
    }

    pub(super) fn wake_to_collect(&self) {
        self.state.lock().must_collect = true;
        self.changed.notify_all();
    }

    /// Gives the writer a file with room for `needed` bytes, made now if none is ready.
    pub(super) fn take(&self, needed: u64) -> Result<Spare, Failure> {
        let mut state = self.state.lock();
        while state.is_making && state.ready.is_empty() && state.next_bytes >= needed {
            self.changed.wait(&mut state);
        }
        if let Some(at) = state.ready.iter().position(|spare| spare.bytes >= needed)
            && let Some(spare) = state.ready.remove(at)
        {
            self.changed.notify_all();
            return Ok(spare);
        }
        let bytes = self.next_size(&mut state).max(needed.next_multiple_of(4096));
        let path = self.next_path(&mut state);
        drop(state);
        let made = self.make(&path, bytes, &|| false);
        self.state.lock().has_failed = made.is_err();
        self.changed.notify_all();
        made
    }

    #[cfg(test)]
    pub(super) fn is_making(&self) -> bool {
        self.state.lock().is_making
    }

    fn run(&self) {
        let mut state = self.state.lock();
        let mut try_again_at = None;
        while !state.must_stop {
            if std::mem::take(&mut state.must_collect) {
                MutexGuard::unlocked(&mut state, || self.collect());
            } else if state.ready.is_empty() && !state.has_failed {
                let path = self.next_path(&mut state);
                let bytes = state.next_bytes;
                state.is_making = true;
                let made = MutexGuard::unlocked(&mut state, || self.make(&path, bytes, &|| self.state.lock().must_stop));
                state.is_making = false;
                match made {
                    Ok(spare) => {
                        self.next_size(&mut state);
                        state.ready.push_back(spare);
                    }
                    Err(failure) => {
                        state.has_failed = true;
                        if !state.must_stop {
                            let Failure { action, path, error } = failure;
                            tracing::warn!(action, path = %path.display(), %error, "the log cannot make its next segment; trying on");
                        }
                    }
                }
                self.changed.notify_all();
            } else if state.has_failed || self.books.failing.load(Ordering::Relaxed) {
                let deadline = *try_again_at.get_or_insert_with(|| Instant::now() + RETRY_AFTER);
                if Instant::now() < deadline {
                    self.changed.wait_until(&mut state, deadline);
                    continue;
                }
                try_again_at = None;
                if MutexGuard::unlocked(&mut state, || self.disk_works()) {
                    state.has_failed = false;
                    self.books.failing.store(false, Ordering::Relaxed);
                }
            } else {
                self.changed.wait(&mut state);
            }
        }
    }

    /// Wakes the keeper to try the disk until it works.
    pub(super) fn watch_disk(&self) {
        // under the lock, or it comes between the keeper's look at the disk and its wait, and is lost
        let _state = self.state.lock();
        self.changed.notify_all();
    }

    fn next_path(&self, state: &mut State) -> PathBuf {
        state.serial += 1;
        self.dir.join(format!("{}{SPARE_SUFFIX}", state.serial))
    }

    /// The size of the segment to be made now; the next one is larger.
    fn next_size(&self, state: &mut State) -> u64 {
        let bytes = state.next_bytes;
        state.next_bytes = bytes.saturating_mul(GROWTH).min(self.segment_bytes);
        bytes
    }

    /// Makes a file of zeros whose room on the disk is taken; leaves nothing behind if it fails.
    fn make(&self, path: &Path, bytes: u64, must_stop: &dyn Fn() -> bool) -> Result<Spare, Failure> {
        self.check_room(bytes)?;
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .and_then(|file| self.fill(&file, bytes, must_stop).map(|()| file));
        match made {
            Ok(file) => Ok(Spare {
                file,
                path: path.to_path_buf(),
                bytes,
                reused: false,
            }),
            Err(error) => {
                remove(path);
                Err(Failure::new("make", path, error))
            }
        }
    }

    fn fill(&self, file: &File, bytes: u64, must_stop: &dyn Fn() -> bool) -> io::Result<()> {
        self.disk.allocate(file, bytes)?;
        let zeros = vec![0; ZERO_PIECE_BYTES.min(usize::try_from(bytes).unwrap_or(usize::MAX))];
        let mut offset = 0;
        while offset < bytes {
            if must_stop() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let piece = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(zeros.len());
            self.disk.write_all_at(file, &zeros[..piece], offset)?;
            self.disk.sync_data(file)?;
            offset += piece as u64;
        }
        // the size too, so that later syncs have no metadata to write
        file.sync_all()
    }

    /// Refuses to take room that would bring the disk below its bound.
    fn check_room(&self, bytes: u64) -> Result<(), Failure> {
        match self.disk.free_bytes(&self.dir) {
            Ok(free) if free < self.min_free_disk_bytes.saturating_add(bytes) => {
                let error = io::Error::new(io::ErrorKind::StorageFull, "the disk has less free than wal.min_free_disk_bytes");
                Err(Failure::new("make a segment in", &self.dir, error))
            }
            // a file system that cannot tell is asked by writing
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn disk_works(&self) -> bool {
        let path = self.dir.join("probe");
        let tried = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(|file| {
            self.disk.write_all_at(&file, &[0; 4096], 0)?;
            self.disk.sync_data(&file)
        });
        remove(&path);
        tried.is_ok() && self.check_room(0).is_ok()
    }

    /// Deletes covered segments, or keeps them as spares.
    fn collect(&self) {
        while let Some(segment) = self.books.take_covered() {
            match self.recycle(&segment) {
                Some(spare) => {
                    self.state.lock().ready.push_back(spare);
                    self.changed.notify_all();
                }
                None => remove(&segment.path),
            }
        }
    }

    /// None if the file is not worth keeping. A crash may bring its old name back; it is then covered and deleted.
    fn recycle(&self, segment: &Sealed) -> Option<Spare> {
        let path = {
            let mut state = self.state.lock();
            let is_wanted = segment.reusable && segment.file_bytes == self.segment_bytes && state.ready.len() < MAX_READY && !state.must_stop;
            is_wanted.then(|| self.next_path(&mut state))?
        };
        self.check_room(0).ok()?;
        let file = OpenOptions::new().read(true).write(true).open(&segment.path).ok()?;
        std::fs::rename(&segment.path, &path).ok()?;
        Some(Spare {
            file,
            path,
            bytes: segment.file_bytes,
            reused: true,
        })
    }
}

/// Removes a file; if that fails it only takes room, and the next start tries again.
pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file of the log");
    }
}
