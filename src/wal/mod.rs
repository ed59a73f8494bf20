//! Log ahead: once `append` returns, the frame survives a crash.
//!
//! In: frames, opaque bytes with a small head. Out: their log positions (LSNs), and after a restart the same frames in
//! the same order. One folder belongs to one process at a time.
//!
//! ```text
//!  append ─▶ queue, bounded in bytes and frames ─▶ writer thread: all that waits, or 4 MiB ─▶ one write, one fdatasync ─▶ answers
//!                                                    ▲ next segment, zero-filled             │ covered segments
//!                                                    └──────────────── keeper thread ◀───────┘ (`truncate_below`)
//! ```
//!
//! # Promises
//!
//! - [`Wal::append`] answers `Ok` only after the `fdatasync` that covers the frame; answers come in LSN order.
//! - LSNs are consecutive. None at or below the `flushed` given to [`Wal::open`], nor below any frame found, is given again.
//! - A torn end of the last segment is cut off, counted and told. Unreadable bytes anywhere else never stop the replay and
//!   never go unsaid: the segment is copied to `quarantine/`, reading goes on at the next whole frame, and
//!   [`Replay::corrupt_frames`] says exactly how many are missing, since LSNs have no holes.
//! - A failed write or sync ends its segment, for the page cache may lie after it: the group is written again to a new
//!   segment, and only if that fails too its callers get the error. Such frames were not acknowledged, yet a crash right
//!   then may replay them. The log recovers by itself once a segment can be made again.
//! - The disk's end is met when a segment is made, not inside a group: segments are zero-filled ahead. That also spares
//!   `fdatasync` the file's metadata (measured on ext4: median 0.10 ms, against 0.16–3.6 ms when only `fallocate`d).
//!
//! # Bounds
//!
//! Frames not covered by blocks: `max_bytes`, then [`Error::Full`]. Queue: 32 MiB and 4,096 frames, then `append` waits.
//! One frame: 128 MiB, then [`Error::TooLarge`]. Free disk: `min_free_disk_bytes`, then [`Error::DiskFull`]. Files on
//! disk take up to `max_bytes`, a segment partly covered, the running one and two ready ones. Segments start at 4 MiB and
//! grow fourfold to `segment_bytes`, so that a short run does not pay for a long one.
//!
//! Knows nothing of rows, protocols, blocks or the bucket; the durable low-water mark lies in the catalog. Bytes on disk:
//! [`segment`]. Start reading at [`Wal::append`], then `writer.rs`.

mod books;
mod disk;
mod keeper;
mod metrics;
pub mod reader;
pub mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::books::{Books, Reservation};
use self::disk::{Disk, SystemDisk};
use self::keeper::Keeper;
use self::metrics::METRICS;
pub use self::reader::{Hole, Replay, inspect};
use self::writer::{Item, Writer};

/// Position in the log: frames are numbered 1, 2, 3, … for the life of a node; 0 is before the first.
pub type Lsn = u64;

/// Payload bytes of the largest frame: well above any request body we take (their cap is net's), small enough to hold twice.
pub const MAX_PAYLOAD_BYTES: usize = 128 << 20;
/// Bytes of frames that wait for the writer; at the bound `append` waits.
const QUEUE_BYTES: usize = 32 << 20;
/// Frames that wait for the writer; at the bound `append` waits.
const QUEUE_FRAMES: usize = 4096;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of a segment file (64 MiB).
    pub segment_bytes: u64,
    /// Bytes of all frames that blocks do not cover yet; at this bound `append` refuses (8 GiB).
    pub max_bytes: u64,
    /// Free bytes on the disk below which `append` refuses (512 MiB).
    pub min_free_disk_bytes: u64,
    /// Number of this node, kept in every segment so that a folder moved to another node is refused; set by the program,
    /// not by the file (0).
    #[serde(skip)]
    pub node: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_bytes: 8 << 30,
            min_free_disk_bytes: 512 << 20,
            node: 0,
        }
    }
}

/// What one `append` writes. The log does not look inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The owner's kind of payload.
    pub kind: u8,
    /// The owner's flags.
    pub flags: u8,
    /// The owner's small number.
    pub source: u16,
    /// Nanoseconds since the epoch.
    pub received_at_nanos: i64,
    /// The payload.
    pub payload: Bytes,
}

/// Why a frame was not taken or the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log holds as much as it may; a retry helps once blocks are flushed.
    #[error("the log is full: {bytes} bytes wait for blocks, {max_bytes} allowed")]
    Full {
        /// Held now.
        bytes: u64,
        /// Allowed.
        max_bytes: u64,
    },
    /// The disk is (nearly) full; a retry helps once there is room.
    #[error("the disk under {path} is full: {free} bytes free")]
    DiskFull {
        /// The log's folder.
        path: PathBuf,
        /// Free bytes.
        free: u64,
    },
    /// A frame above what a segment can hold.
    #[error("a frame of {bytes} bytes is larger than the log takes ({max_bytes})")]
    TooLarge {
        /// Asked for.
        bytes: usize,
        /// Allowed.
        max_bytes: usize,
    },
    /// The operating system refused; the frame may not be durable and was not acknowledged.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another process holds the folder.
    #[error("{path} is in use by another process")]
    InUse {
        /// The log's folder.
        path: PathBuf,
    },
    /// A segment of a format that this program does not know; nothing was changed.
    #[error("{path} is of format version {version}; this program reads version {known}")]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The one known here.
        known: u32,
    },
    /// A segment that another node wrote: its positions mean nothing here; nothing was changed.
    #[error(
        "{path} was written by node {found:016x}, this is node {expected:016x}: the folder is another node's, or the name in node_id is not what it was. \
         Nothing in it was changed; names of nodes stand under _catalog/node/ and in every record under _catalog/log/ of the store"
    )]
    ForeignNode {
        /// The segment.
        path: PathBuf,
        /// Its node.
        found: u64,
        /// This node.
        expected: u64,
    },
    /// The writer has ended.
    #[error("the log is closed")]
    Closed,
}
/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How the log stands; one moment's view.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// The last acknowledged LSN; 0 or `flushed` before the first.
    pub last_lsn: Lsn,
    /// Frames below this may be forgotten.
    pub low_water_lsn: Lsn,
    /// Bytes of frames that blocks do not cover, rounded up a little; what `max_bytes` bounds.
    pub waiting_bytes: u64,
    /// Bytes of frames on their way to the disk.
    pub queued_bytes: u64,
    /// Segments that hold frames.
    pub segments: u64,
    /// Frames appended since the start.
    pub appended_frames: u64,
    /// Bytes written for them.
    pub appended_bytes: u64,
    /// Syncs of groups since the start.
    pub fsyncs: u64,
    /// Torn frames cut off when the log was opened.
    pub torn_frames_cut: u64,
    /// Frames that replay could not read; each was once acknowledged, or part of the last group before a power loss.
    pub corrupt_frames: u64,
    /// Segments copied to `quarantine/` since the start.
    pub quarantined_segments: u64,
    /// Groups that failed since the start, rewritten ones included.
    pub failed_groups: u64,
    /// True while the last try to write failed; the keeper tries the disk each second and clears it.
    pub failing: bool,
    /// Whether the writer has ended though nobody closed the log: a defect. Nothing is appended before a restart.
    pub writer_is_gone: bool,
}

/// The log; a cheap handle. Dropping the last one drains and ends the threads (which may take the time of one sync).
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    config: Config,
    books: Arc<Books>,
    keeper: Arc<Keeper>,
    queue_bytes: Arc<Semaphore>,
    /// None once closed. Calls in flight hold a clone; the writer ends when the last one is gone.
    sender: Mutex<Option<mpsc::Sender<Item>>>,
    /// Becomes true when the writer has ended.
    ended: watch::Receiver<bool>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Opens the folder, making it if need be; `flushed` is the last LSN that blocks cover, and replay gives only frames
    /// above it. Blocks the thread on the disk: the last segment is read whole, of the others only the header.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], [`Error::Version`], [`Error::ForeignNode`], [`Error::Io`]. Damage is no error: see [`Replay`].
    pub fn open(dir: &Path, config: &Config, flushed: Lsn) -> Result<(Self, Replay)> {
        Self::open_on(Arc::new(SystemDisk), dir, config, flushed)
    }

    fn open_on(disk: Arc<dyn Disk>, dir: &Path, config: &Config, flushed: Lsn) -> Result<(Self, Replay)> {
        let books = Arc::new(Books::new(flushed));
        let lock = disk::lock_folder(dir)?;
        let (next_lsn, replay) = reader::recover(dir, config, flushed, &books)?;
        let keeper = Keeper::start(Arc::clone(&disk), dir, config, Arc::clone(&books))?;
        let (sender, receiver) = mpsc::channel(QUEUE_FRAMES);
        let (on_end, ended) = watch::channel(false);
        let writer = Writer::new(disk, dir, config, Arc::clone(&books), Arc::clone(&keeper), next_lsn);
        let its_keeper = Arc::clone(&keeper);
        let writer = std::thread::Builder::new()
            .name("wal-writer".into())
            .spawn(move || {
                writer.run(receiver);
                its_keeper.stop();
                // nobody touches the folder any more: free it, then say so
                drop(lock);
                let _ = on_end.send(true);
            })
            .map_err(|source| {
                keeper.stop();
                disk::io_error("start the writer of", dir, source)
            })?;
        let inner = Inner {
            dir: dir.to_path_buf(),
            config: config.clone(),
            books,
            keeper,
            queue_bytes: Arc::new(Semaphore::new(QUEUE_BYTES)),
            sender: Mutex::new(Some(sender)),
            ended,
            writer: Mutex::new(Some(writer)),
        };
        Ok((Self { inner: Arc::new(inner) }, replay))
    }

    /// Appends a frame and returns its position once it is durable. Waits while the queue is full.
    ///
    /// If the future is dropped before its end, the frame may or may not be written.
    ///
    /// # Errors
    ///
    /// The frame was not acknowledged: [`Error::Full`], [`Error::DiskFull`] and [`Error::Io`] may be retried,
    /// [`Error::TooLarge`] and [`Error::Closed`] not.
    pub async fn append(&self, frame: Frame) -> Result<Lsn> {
        let started = Instant::now();
        let inner = &*self.inner;
        if frame.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Error::TooLarge {
                bytes: frame.payload.len(),
                max_bytes: MAX_PAYLOAD_BYTES,
            });
        }
        let bytes = segment::frame_bytes(frame.payload.len());
        let reservation = Reservation::try_new(&inner.books, bytes, inner.config.max_bytes)?;
        let permits = u32::try_from(bytes.min(QUEUE_BYTES as u64)).expect("32 MiB fit in u32");
        let permit = Arc::clone(&inner.queue_bytes).acquire_many_owned(permits).await.map_err(|_| Error::Closed)?;
        // a clone of its own, so that the lock is not held while the queue is full
        let sender = inner.sender.lock().clone().ok_or(Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let item = Item {
            frame,
            answer,
            reservation,
            permit,
        };
        sender.send(item).await.map_err(|_| Error::Closed)?;
        drop(sender);
        // the writer answers every item it takes; no answer means that it is gone
        let lsn = answered.await.map_err(|_| Error::Closed)??;
        METRICS.append_seconds.observe(started.elapsed().as_secs_f64());
        Ok(lsn)
    }

    /// Says that frames below `lsn` are covered by blocks: segments that hold no other are deleted or used again, in the
    /// background. Never goes back; positions not yet written are left out.
    pub fn truncate_below(&self, lsn: Lsn) {
        if self.inner.books.raise_low_water(lsn) {
            self.inner.keeper.wake_to_collect();
        }
    }

    /// How the log stands.
    pub fn stats(&self) -> Stats {
        Stats {
            writer_is_gone: self.inner.ended.has_changed().is_err() && self.inner.sender.lock().is_some(),
            ..self.inner.books.stats()
        }
    }

    /// Whether half of what it may hold waits for blocks.
    pub fn is_half_full(&self) -> bool {
        self.inner.books.waiting_bytes() > self.inner.config.max_bytes / 2
    }

    /// The log's folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Takes no more frames, writes those that wait, trims the running segment and ends the threads. May be called again.
    pub async fn close(&self) {
        self.inner.stop_taking();
        let mut ended = self.inner.ended.clone();
        // an error means that the sender is gone, so the writer too
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Inner {
    fn stop_taking(&self) {
        self.queue_bytes.close();
        self.sender.lock().take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop_taking();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!(dir = %self.dir.display(), "the log's writer panicked");
        }
        self.keeper.stop();
    }
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.inner.dir)
            .field("last_lsn", &self.inner.books.last_lsn.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
