//! What the log holds, known to all its threads: the sealed segments, the bytes that wait for blocks, the counts.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::metrics::METRICS;
use super::{Error, Lsn, Result, Stats};

/// Waiting bytes are kept in grains of at least this size: 8 GiB then take 32,768 of them.
const GRAIN_BYTES: u64 = 256 << 10;

/// A segment that is written no more.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub path: PathBuf,
    /// The LSN after its last frame.
    pub end_lsn: Lsn,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Written by this process without an error, so that its frames are all below those to come.
    pub reusable: bool,
}

/// Frames up to `last_lsn`, back to the grain before.
#[derive(Clone, Copy, Debug)]
struct Grain {
    last_lsn: Lsn,
    bytes: u64,
}

#[derive(Default)]
struct Held {
    sealed: VecDeque<Sealed>,
    grains: VecDeque<Grain>,
    low_water_lsn: Lsn,
    has_active: bool,
}

#[derive(Default)]
pub(super) struct Books {
    held: Mutex<Held>,
    pub last_lsn: AtomicU64,
    waiting_bytes: AtomicU64,
    queued_bytes: AtomicU64,
    appended_frames: AtomicU64,
    appended_bytes: AtomicU64,
    pub fsyncs: AtomicU64,
    torn_frames_cut: AtomicU64,
    corrupt_frames: AtomicU64,
    quarantined_segments: AtomicU64,
    failed_groups: AtomicU64,
    pub failing: AtomicBool,
}

impl Books {
    pub(super) fn new(flushed: Lsn) -> Self {
        let books = Self::default();
        books.held.lock().low_water_lsn = flushed + 1;
        books.last_lsn.store(flushed, Ordering::Relaxed);
        books
    }

    /// Enters a segment found at start, with the bytes of its frames that wait for blocks.
    pub(super) fn enter_found(&self, segment: Sealed, waiting_bytes: u64) {
        let last_lsn = segment.end_lsn - 1;
        self.held.lock().sealed.push_back(segment);
        self.enter_waiting(last_lsn, waiting_bytes);
    }

    pub(super) fn enter_sealed(&self, segment: Sealed) {
        let mut held = self.held.lock();
        held.sealed.push_back(segment);
        held.has_active = false;
    }

    /// Enters a group that is durable now.
    pub(super) fn enter_group(&self, last_lsn: Lsn, frames: u64, bytes: u64) {
        self.held.lock().has_active = true;
        self.enter_waiting(last_lsn, bytes);
        self.appended_frames.fetch_add(frames, Ordering::Relaxed);
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        METRICS.group_frames.observe(frames as f64);
        METRICS.appended_frames.inc_by(frames);
        METRICS.appended_bytes.inc_by(bytes);
    }

    /// Bytes of frames that blocks do not cover yet.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    fn enter_waiting(&self, last_lsn: Lsn, bytes: u64) {
        let mut held = self.held.lock();
        match held.grains.back_mut() {
            Some(grain) if grain.bytes < GRAIN_BYTES => {
                grain.last_lsn = last_lsn;
                grain.bytes += bytes;
            }
            _ => held.grains.push_back(Grain { last_lsn, bytes }),
        }
        self.last_lsn.store(last_lsn, Ordering::Release);
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        METRICS.waiting_bytes.set(waiting.cast_signed());
    }

    /// True if the mark moved.
    pub(super) fn raise_low_water(&self, lsn: Lsn) -> bool {
        let mut held = self.held.lock();
        // what is not written yet is not covered either
        let lsn = lsn.min(self.last_lsn.load(Ordering::Acquire) + 1);
        if lsn <= held.low_water_lsn {
            return false;
        }
        held.low_water_lsn = lsn;
        let mut covered = 0;
        while let Some(grain) = held.grains.pop_front_if(|grain| grain.last_lsn < lsn) {
            covered += grain.bytes;
        }
        let waiting = self.waiting_bytes.fetch_sub(covered, Ordering::Relaxed) - covered;
        METRICS.waiting_bytes.set(waiting.cast_signed());
        true
    }

    /// Hands out a segment that blocks cover whole, the oldest first.
    pub(super) fn take_covered(&self) -> Option<Sealed> {
        let mut held = self.held.lock();
        let low_water_lsn = held.low_water_lsn;
        held.sealed.pop_front_if(|segment| segment.end_lsn <= low_water_lsn)
    }

    /// True if all frames below this may be forgotten.
    pub(super) fn covers_below(&self, lsn: Lsn) -> bool {
        lsn <= self.held.lock().low_water_lsn
    }

    pub(super) fn count_torn(&self) {
        self.torn_frames_cut.fetch_add(1, Ordering::Relaxed);
        METRICS.torn_frames.inc();
    }

    pub(super) fn count_corrupt(&self, frames: u64) {
        self.corrupt_frames.fetch_add(frames, Ordering::Relaxed);
        METRICS.corrupt_frames.inc_by(frames);
    }

    pub(super) fn count_quarantined(&self) {
        self.quarantined_segments.fetch_add(1, Ordering::Relaxed);
        METRICS.quarantined_segments.inc();
    }

    pub(super) fn count_failed_group(&self) {
        self.failed_groups.fetch_add(1, Ordering::Relaxed);
        METRICS.failed_groups.inc();
    }

    pub(super) fn stats(&self) -> Stats {
        let held = self.held.lock();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            last_lsn: self.last_lsn.load(Ordering::Acquire),
            low_water_lsn: held.low_water_lsn,
            waiting_bytes: count(&self.waiting_bytes),
            queued_bytes: count(&self.queued_bytes),
            segments: held.sealed.len() as u64 + u64::from(held.has_active),
            appended_frames: count(&self.appended_frames),
            appended_bytes: count(&self.appended_bytes),
            fsyncs: count(&self.fsyncs),
            torn_frames_cut: count(&self.torn_frames_cut),
            corrupt_frames: count(&self.corrupt_frames),
            quarantined_segments: count(&self.quarantined_segments),
            failed_groups: count(&self.failed_groups),
            failing: self.failing.load(Ordering::Relaxed),
            writer_is_gone: false,
        }
    }
}

/// Room for a frame on its way, counted against `max_bytes` from `append` until it is durable or given up.
pub(super) struct Reservation {
    books: Arc<Books>,
    bytes: u64,
}

impl Reservation {
    pub(super) fn try_new(books: &Arc<Books>, bytes: u64, max_bytes: u64) -> Result<Self> {
        // counted first, so that callers at the same time cannot pass the bound together
        let queued = books.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let reservation = Self {
            books: Arc::clone(books),
            bytes,
        };
        let total = queued + books.waiting_bytes.load(Ordering::Relaxed);
        if total > max_bytes {
            return Err(Error::Full {
                bytes: total - bytes,
                max_bytes,
            });
        }
        Ok(reservation)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.books.queued_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
