//! The one thread that writes frames: take what waits, write it, sync it, answer. Nothing else touches the running segment.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::books::{Books, Reservation, Sealed};
use super::disk::{self, Disk, Failure};
use super::keeper::{self, Keeper};
use super::metrics::METRICS;
use super::segment::{self, HEADER_BYTES, Header, VERSION};
use super::{Config, Error, Frame, Lsn, Result};

/// Bytes of a group: large enough that the sync costs less than the write, small enough that the first waiter does not
/// wait for megabytes of others.
const GROUP_BYTES: u64 = 4 << 20;

/// A frame on its way. Dropping it without an answer tells the caller that the log is closed.
pub(super) struct Item {
    pub frame: Frame,
    pub answer: oneshot::Sender<Result<Lsn>>,
    /// Counts against `max_bytes` until the frame is durable.
    #[expect(dead_code, reason = "held for its drop")]
    pub reservation: Reservation,
    /// Room in the queue.
    #[expect(dead_code, reason = "held for its drop")]
    pub permit: OwnedSemaphorePermit,
}

impl Item {
    fn bytes(&self) -> u64 {
        segment::frame_bytes(self.frame.payload.len())
    }
}

/// The running segment.
struct Active {
    file: File,
    path: PathBuf,
    first_lsn: Lsn,
    /// Where the next frame goes; a multiple of 8.
    offset: u64,
    file_bytes: u64,
}

/// Owns the running segment and the next LSN.
pub(super) struct Writer {
    dir: PathBuf,
    node: u64,
    min_free_disk_bytes: u64,
    disk: Arc<dyn Disk>,
    books: Arc<Books>,
    keeper: Arc<Keeper>,
    /// None before the first frame and after a failure.
    active: Option<Active>,
    next_lsn: Lsn,
    /// A group's bytes; kept to spare its allocation.
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, config: &Config, books: Arc<Books>, keeper: Arc<Keeper>, next_lsn: Lsn) -> Self {
        Self {
            dir: dir.to_path_buf(),
            node: config.node,
            min_free_disk_bytes: config.min_free_disk_bytes,
            disk,
            books,
            keeper,
            active: None,
            next_lsn,
            buffer: Vec::new(),
        }
    }

    /// Runs until all senders are gone and the queue is empty.
    pub(super) fn run(mut self, mut receiver: mpsc::Receiver<Item>) {
        while let Some(first) = receiver.blocking_recv() {
            let mut bytes = first.bytes();
            let mut items = VecDeque::from([first]);
            while bytes < GROUP_BYTES
                && let Ok(next) = receiver.try_recv()
            {
                bytes += next.bytes();
                items.push_back(next);
            }
            self.write_items(items);
        }
        self.finish();
    }

    /// Writes the items as one group, or as several where a segment ends between them.
    fn write_items(&mut self, mut items: VecDeque<Item>) {
        if let Err(failure) = self.check_disk() {
            self.books.count_failed_group();
            return self.refuse(items, &failure);
        }
        while let Some(first) = items.front() {
            if self.room() < first.bytes()
                && let Err(failure) = self.start_segment(first.bytes())
            {
                self.books.count_failed_group();
                return self.refuse(items, &failure);
            }
            let group = self.take_fitting(&mut items);
            if let Err(failure) = self.write_group(&group) {
                self.refuse(group, &failure);
                return self.refuse(items, &failure);
            }
            self.acknowledge(group);
        }
    }

    fn check_disk(&self) -> Result<(), Failure> {
        match self.disk.free_bytes(&self.dir) {
            Ok(free) if free < self.min_free_disk_bytes => {
                let error = io::Error::new(io::ErrorKind::StorageFull, "less is free than wal.min_free_disk_bytes");
                Err(Failure::new("append in", &self.dir, error))
            }
            // a file system that cannot tell is asked by writing
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Bytes that the running segment still takes.
    fn room(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.file_bytes - active.offset)
    }

    /// Takes the items from the front that the running segment has room for; the first one fits.
    fn take_fitting(&self, items: &mut VecDeque<Item>) -> VecDeque<Item> {
        let mut room = self.room();
        let n_fitting = items
            .iter()
            .take_while(|item| room.checked_sub(item.bytes()).map(|left| room = left).is_some())
            .count();
        let rest = items.split_off(n_fitting);
        std::mem::replace(items, rest)
    }

    /// After `Ok`, the group is durable at `next_lsn` and on. A first failure is met by a second try in a new segment.
    fn write_group(&mut self, group: &VecDeque<Item>) -> Result<(), Failure> {
        self.buffer.clear();
        for (lsn, item) in (self.next_lsn..).zip(group) {
            segment::encode_frame(lsn, &item.frame, &mut self.buffer);
        }
        let Err(failure) = self.write_buffer() else { return Ok(()) };
        tracing::error!(action = failure.action, path = %failure.path.display(), error = %failure.error, "the log gives up a segment and writes its last group again to a new one");
        self.books.count_failed_group();
        self.give_up_segment();
        self.start_segment(self.buffer.len() as u64)?;
        let written = self.write_buffer();
        if written.is_err() {
            self.give_up_segment();
        }
        written
    }

    fn write_buffer(&mut self) -> Result<(), Failure> {
        let Some(active) = &mut self.active else {
            return Err(Failure::new("write to", &self.dir, io::ErrorKind::NotFound.into()));
        };
        self.disk
            .write_all_at(&active.file, &self.buffer, active.offset)
            .map_err(|e| Failure::new("write to", &active.path, e))?;
        let started = Instant::now();
        self.disk.sync_data(&active.file).map_err(|e| Failure::new("sync", &active.path, e))?;
        METRICS.fsync_seconds.observe(started.elapsed().as_secs_f64());
        self.books.fsyncs.fetch_add(1, Ordering::Relaxed);
        active.offset += self.buffer.len() as u64;
        Ok(())
    }

    fn acknowledge(&mut self, group: VecDeque<Item>) {
        let first_lsn = self.next_lsn;
        self.next_lsn += group.len() as u64;
        self.books.enter_group(self.next_lsn - 1, group.len() as u64, self.buffer.len() as u64);
        self.books.failing.store(false, Ordering::Relaxed);
        for (lsn, answer) in (first_lsn..).zip(give_back_room(group)) {
            // nobody listens if the caller gave up; the frame is durable all the same
            let _ = answer.send(Ok(lsn));
        }
        // one huge frame must not pin its size for ever
        self.buffer.clear();
        self.buffer.shrink_to(2 * GROUP_BYTES as usize);
    }

    fn refuse(&self, items: VecDeque<Item>, failure: &Failure) {
        self.books.failing.store(true, Ordering::Relaxed);
        self.keeper.watch_disk();
        let free = self.disk.free_bytes(&self.dir).unwrap_or(0);
        for answer in give_back_room(items) {
            let error: Error = failure.to_error(&self.dir, free);
            let _ = answer.send(Err(error));
        }
    }

    /// Ends the running segment, if any, and starts one with room for `needed` bytes of frames. After `Ok` its name is
    /// durable; its header becomes so with the first group.
    fn start_segment(&mut self, needed: u64) -> Result<(), Failure> {
        if let Some(active) = self.active.take() {
            self.seal(active, true);
        }
        let spare = self.keeper.take(needed + HEADER_BYTES as u64)?;
        let path = self.dir.join(segment::file_name(self.next_lsn));
        let header = Header {
            version: VERSION,
            first_lsn: self.next_lsn,
            node: self.node,
            reused: spare.reused,
        };
        let named = self
            .disk
            .write_all_at(&spare.file, &header.encode(), 0)
            .and_then(|()| std::fs::rename(&spare.path, &path))
            .and_then(|()| disk::sync_folder(&self.dir));
        if let Err(error) = named {
            keeper::remove(&spare.path);
            keeper::remove(&path);
            return Err(Failure::new("start", &path, error));
        }
        self.active = Some(Active {
            file: spare.file,
            path,
            first_lsn: self.next_lsn,
            offset: HEADER_BYTES as u64,
            file_bytes: spare.bytes,
        });
        Ok(())
    }

    /// Hands a segment over to the books. One without a frame is left to be replaced by the next of the same name.
    fn seal(&self, active: Active, reusable: bool) {
        if active.first_lsn == self.next_lsn {
            return;
        }
        self.books.enter_sealed(Sealed {
            path: active.path,
            end_lsn: self.next_lsn,
            file_bytes: active.file_bytes,
            reusable,
        });
    }

    /// After a failed write or sync: what was acknowledged stays, what came after is cut off as well as the disk lets us
    /// (if it does not, replay stops at the next segment's first LSN).
    fn give_up_segment(&mut self) {
        let Some(active) = self.active.take() else { return };
        if active.first_lsn == self.next_lsn {
            return keeper::remove(&active.path);
        }
        if let Err(error) = active.file.set_len(active.offset) {
            tracing::warn!(path = %active.path.display(), %error, "cannot cut a segment that was given up");
        }
        self.seal(active, false);
    }

    /// Orderly end: the running segment gives back the room it did not need, so that the next start finds nothing torn.
    fn finish(mut self) {
        let Some(active) = self.active.take() else { return };
        if active.first_lsn == self.next_lsn {
            return keeper::remove(&active.path);
        }
        if let Err(error) = active.file.set_len(active.offset).and_then(|()| active.file.sync_all()) {
            tracing::warn!(path = %active.path.display(), %error, "cannot trim the log's last segment");
        }
    }
}

/// Drops all of the items but their answers, so that whoever is answered finds the room of the whole group given back.
fn give_back_room(items: VecDeque<Item>) -> Vec<oneshot::Sender<Result<Lsn>>> {
    items.into_iter().map(|item| item.answer).collect()
}
