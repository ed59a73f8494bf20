//! Reads the log: at start, to find its end and to replay it; from outside, to look into it ([`inspect`]).
//!
//! Damage is met frame by frame. Where the next bytes are not the next frame, the search goes on, eight bytes at a time,
//! for a whole frame with a later LSN that this segment may hold. If there is one, the frames between are corrupt; if
//! there is none, the frames end here: torn if this is the last segment, corrupt if the next segment starts later.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::books::{Books, Sealed};
use super::segment::{self, FRAME_HEADER_BYTES, FrameAt, HEADER_BYTES, Header, SPARE_SUFFIX, VERSION};
use super::{Config, Error, Frame, Lsn, Result, disk, keeper};

/// The search for the next whole frame checks at most this many times the segment's bytes, so that bytes made to look
/// like frames cannot hold up a start.
const SEARCH_FACTOR: u64 = 64;

/// The frames above the flushed position, in order; one segment is in memory at a time, each payload is a copy of its own.
///
/// An item is an error where a segment cannot be read at all; the iterator then goes on with the next one. The counts
/// grow while it is read and are final at its end.
pub struct Replay {
    /// Torn frames cut off the last segment (0 or 1: what follows a torn frame cannot be told apart).
    pub torn_frames_cut: u64,
    /// Frames that should be there and cannot be read.
    pub corrupt_frames: u64,
    /// Copies of the damaged segments.
    pub quarantined: Vec<PathBuf>,
    /// Where frames are missing, of what was read so far and not taken yet. None when looking from outside.
    holes: Vec<Hole>,
    /// When the last frame that could be read came.
    last_received_nanos: Option<i64>,
    /// The last LSN that replay gives, if any is left; the log goes on behind it.
    pub last_lsn: Lsn,
    after: Lsn,
    segments: VecDeque<Found>,
    current: Option<Reading>,
    /// None when looking from outside: then nothing is copied.
    books: Option<Arc<Books>>,
}

/// Frames that should be there and cannot be read: `from..to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first.
    pub from: Lsn,
    /// The one after the last.
    pub to: Lsn,
    /// When the last frame before them that can be read came, nanoseconds since the epoch.
    pub after_nanos: Option<i64>,
    /// The copy of their segment; `None` if there is none, as where all of it is missing.
    pub copy: Option<PathBuf>,
}

/// A segment's file and what its neighbour says of its end.
struct Found {
    path: PathBuf,
    first_lsn: Lsn,
    /// The LSN after the last it can hold.
    end_lsn: Lsn,
}

struct Reading {
    found: Found,
    cursor: Cursor,
    is_damaged: bool,
    /// Where a copy was put because a frame is of no use to the owner.
    copy: Option<PathBuf>,
}

/// What stands at the cursor.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Frame(FrameAt<'a>),
    /// Frames `from..to` cannot be read.
    Hole {
        from: Lsn,
        to: Lsn,
    },
    End,
}

/// Walks over one segment's bytes.
struct Cursor {
    bytes: Vec<u8>,
    at: usize,
    /// LSN of the frame that should stand at `at`.
    expected: Lsn,
    /// The LSN after the last, where known.
    end_lsn: Option<Lsn>,
}

impl Cursor {
    fn new(bytes: Vec<u8>, first_lsn: Lsn, end_lsn: Option<Lsn>) -> Self {
        Self {
            bytes,
            at: HEADER_BYTES,
            expected: first_lsn,
            end_lsn,
        }
    }

    fn step(&mut self) -> Step<'_> {
        if self.end_lsn.is_some_and(|end| self.expected >= end) {
            return Step::End;
        }
        // two look-ups, for a borrow returned from one branch would last over the others
        if segment::frame_at(&self.bytes, self.at).is_some_and(|frame| frame.lsn == self.expected)
            && let Some(frame) = segment::frame_at(&self.bytes, self.at)
        {
            self.at = frame.end;
            self.expected += 1;
            return Step::Frame(frame);
        }
        let from = self.expected;
        if let Some((at, lsn)) = self.search() {
            (self.at, self.expected) = (at, lsn);
            return Step::Hole { from, to: lsn };
        }
        match self.end_lsn {
            Some(end) => {
                self.expected = end;
                Step::Hole { from, to: end }
            }
            None => Step::End,
        }
    }

    /// Finds the next whole frame behind a hole: where it starts, and its LSN.
    fn search(&self) -> Option<(usize, Lsn)> {
        let rest = self.bytes.len().saturating_sub(self.at);
        let end_lsn = self.end_lsn.unwrap_or(self.expected + 1 + (rest / FRAME_HEADER_BYTES) as u64);
        let later = self.expected + 1..end_lsn;
        // a frame damaged in its payload only still tells where the next one starts, whatever the payload looks like
        let told_bytes = segment::u32_at(&self.bytes, self.at)? as usize;
        let told_at = self.at + (FRAME_HEADER_BYTES + told_bytes).next_multiple_of(8);
        if segment::frame_at(&self.bytes, told_at).is_some_and(|frame| frame.lsn == self.expected + 1 && later.contains(&frame.lsn)) {
            return Some((told_at, self.expected + 1));
        }
        let mut budget = SEARCH_FACTOR * self.bytes.len() as u64;
        for at in (self.at..self.bytes.len()).step_by(8) {
            let lsn = segment::u64_at(&self.bytes, at + 8)?;
            if !later.contains(&lsn) {
                continue;
            }
            let cost = u64::from(segment::u32_at(&self.bytes, at)?);
            if cost > (self.bytes.len() - at) as u64 || cost > budget {
                continue;
            }
            budget -= cost;
            if segment::frame_at(&self.bytes, at).is_some() {
                return Some((at, lsn));
            }
        }
        None
    }

    /// True if a frame was begun behind the last whole one.
    fn is_torn(&self, reused: bool) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let is_begun = segment::u64_at(rest, 8) == Some(self.expected);
        const ZEROS: [u8; 4096] = [0; 4096];
        is_begun || (!reused && rest.chunks(ZEROS.len()).any(|piece| *piece != ZEROS[..piece.len()]))
    }
}

/// What the last segment's end looks like.
struct Tail {
    next_lsn: Lsn,
    has_frames: bool,
    frames_end: usize,
    waiting_bytes: u64,
    is_torn: bool,
}

/// Walks the last segment to its end.
fn read_tail(bytes: Vec<u8>, first_lsn: Lsn, flushed: Lsn) -> Tail {
    let header = Header::decode(&bytes).filter(|header| header.first_lsn == first_lsn);
    // without its header, only the LSNs can tell what is old
    let reused = header.is_none_or(|header| header.reused);
    let mut cursor = Cursor::new(bytes, first_lsn, None);
    let (mut has_frames, mut waiting_bytes) = (false, 0);
    loop {
        match cursor.step() {
            Step::Frame(frame) => {
                has_frames = true;
                if frame.lsn > flushed {
                    waiting_bytes += segment::frame_bytes(frame.payload.len());
                }
            }
            Step::Hole { .. } => {}
            Step::End => break,
        }
    }
    Tail {
        next_lsn: cursor.expected,
        has_frames,
        frames_end: cursor.at.min(cursor.bytes.len()),
        waiting_bytes,
        is_torn: cursor.is_torn(reused),
    }
}

/// Segments of the folder by first LSN; each `end_lsn` is the next one's first, the last one's is `Lsn::MAX`.
fn list(dir: &Path) -> Result<Vec<Found>> {
    let failed = |e| disk::io_error("list", dir, e);
    let mut firsts = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(first_lsn) = segment::first_lsn_of(&path) {
            firsts.push((first_lsn, path));
        }
    }
    firsts.sort();
    let ends: Vec<Lsn> = firsts.iter().skip(1).map(|(first_lsn, _)| *first_lsn).chain([Lsn::MAX]).collect();
    let found = |((first_lsn, path), end_lsn)| Found { path, first_lsn, end_lsn };
    Ok(firsts.into_iter().zip(ends).map(found).collect())
}

fn read_header(path: &Path) -> Result<Option<Header>> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut bytes))
        .map_err(|e| disk::io_error("read", path, e))?;
    Ok(Header::decode(&bytes))
}

/// Refuses what we must not touch.
fn check_header(found: &Found, node: Option<u64>) -> Result<()> {
    let Some(header) = read_header(&found.path)? else { return Ok(()) };
    let path = found.path.clone();
    if header.version != VERSION {
        return Err(Error::Version {
            path,
            version: header.version,
            known: VERSION,
        });
    }
    match node {
        Some(expected) if expected != header.node => Err(Error::ForeignNode {
            path,
            found: header.node,
            expected,
        }),
        _ => Ok(()),
    }
}

/// Brings the folder in order after whatever ended the last run, and enters its segments in the books. Returns the next
/// LSN and the replay.
pub(super) fn recover(dir: &Path, config: &Config, flushed: Lsn, books: &Arc<Books>) -> Result<(Lsn, Replay)> {
    let mut segments: VecDeque<Found> = list(dir)?.into();
    for found in &segments {
        check_header(found, Some(config.node))?;
    }
    remove_spares(dir)?;
    let (mut last_lsn, mut torn_frames_cut, mut tail_bytes) = (flushed, 0, 0);
    let mut quarantined = Vec::new();
    if let Some(mut last) = segments.pop_back() {
        let bytes = std::fs::read(&last.path).map_err(|e| disk::io_error("read", &last.path, e))?;
        let tail = read_tail(bytes, last.first_lsn, flushed);
        last_lsn = last_lsn.max(tail.next_lsn - 1);
        tail_bytes = tail.waiting_bytes;
        if tail.is_torn {
            torn_frames_cut = 1;
            books.count_torn();
            tracing::warn!(path = %last.path.display(), lsn = tail.next_lsn, "the log's last frame is torn and was cut off; it was never acknowledged");
        }
        if tail.has_frames {
            cut(&last.path, tail.frames_end as u64)?;
            last.end_lsn = tail.next_lsn;
            segments.push_back(last);
        } else {
            // a segment begun and not written to; keep it if it holds bytes that are neither ours nor zeros
            if tail.is_torn
                && let (copy, true) = quarantine(&last.path)?
            {
                books.count_quarantined();
                quarantined.push(copy);
            }
            keeper::remove(&last.path);
        }
    }
    while let Some(covered) = segments.pop_front_if(|found| found.end_lsn <= flushed + 1) {
        keeper::remove(&covered.path);
    }
    disk::sync_folder(dir).map_err(|e| disk::io_error("sync", dir, e))?;
    for found in &segments {
        let file_bytes = std::fs::metadata(&found.path).map_err(|e| disk::io_error("read", &found.path, e))?.len();
        let is_last = found.end_lsn == last_lsn + 1;
        let sealed = Sealed {
            path: found.path.clone(),
            end_lsn: found.end_lsn,
            file_bytes,
            // its length and its last LSN need not be what a run without a crash leaves
            reusable: false,
        };
        books.enter_found(sealed, if is_last { tail_bytes } else { file_bytes });
    }
    let replay = Replay {
        torn_frames_cut,
        corrupt_frames: 0,
        quarantined,
        holes: Vec::new(),
        last_received_nanos: None,
        last_lsn,
        after: flushed,
        segments,
        current: None,
        books: Some(Arc::clone(books)),
    };
    Ok((last_lsn + 1, replay))
}

/// Reads the frames above `after` without changing anything, also while a process writes the log; frames being written
/// then look torn.
///
/// # Errors
///
/// [`Error::Io`], [`Error::Version`].
pub fn inspect(dir: &Path, after: Lsn) -> Result<Replay> {
    let mut segments: VecDeque<Found> = list(dir)?.into();
    for found in &segments {
        check_header(found, None)?;
    }
    let (mut last_lsn, mut torn_frames_cut) = (after, 0);
    if let Some(last) = segments.back_mut() {
        let bytes = std::fs::read(&last.path).map_err(|e| disk::io_error("read", &last.path, e))?;
        let tail = read_tail(bytes, last.first_lsn, after);
        last.end_lsn = tail.next_lsn;
        last_lsn = last_lsn.max(tail.next_lsn - 1);
        torn_frames_cut = u64::from(tail.is_torn);
    }
    segments.retain(|found| found.end_lsn > after + 1);
    let first_lsn = segments.front().map_or(after + 1, |found| found.first_lsn);
    Ok(Replay {
        torn_frames_cut,
        corrupt_frames: 0,
        quarantined: Vec::new(),
        holes: Vec::new(),
        last_received_nanos: None,
        last_lsn,
        // what was deleted before the first segment is not missing to one who only looks
        after: after.max(first_lsn - 1),
        segments,
        current: None,
        books: None,
    })
}

fn remove_spares(dir: &Path) -> Result<()> {
    let failed = |e| disk::io_error("list", dir, e);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // what they hold is unknown; even their zeros may not be durable
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(SPARE_SUFFIX)) {
            keeper::remove(&path);
        }
    }
    Ok(())
}

/// Cuts a file off and makes that durable, so that LSNs used again cannot meet what was there.
fn cut(path: &Path, bytes: u64) -> Result<()> {
    let file = File::options().write(true).open(path).map_err(|e| disk::io_error("open", path, e))?;
    file.set_len(bytes).and_then(|()| file.sync_all()).map_err(|e| disk::io_error("cut", path, e))
}

/// Copies a segment into `quarantine/`, under a name of its own; and whether no copy of the same bytes was there.
fn quarantine(path: &Path) -> Result<(PathBuf, bool)> {
    let bytes = std::fs::read(path).map_err(|e| disk::io_error("read", path, e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir = path.parent().unwrap_or(Path::new("")).join("quarantine");
    std::fs::create_dir_all(&dir).map_err(|e| disk::io_error("make", &dir, e))?;
    let copy = dir.join(format!("{name}.{:08x}", crc32c::crc32c(&bytes)));
    if copy.exists() {
        return Ok((copy, false));
    }
    std::fs::write(&copy, &bytes)
        .and_then(|()| File::open(&copy)?.sync_all())
        .map_err(|e| disk::io_error("write", &copy, e))?;
    Ok((copy, true))
}

impl Replay {
    /// Enters a hole in the counts, as far as it is above the flushed position.
    fn count_hole(&mut self, from: Lsn, to: Lsn) -> bool {
        let frames = to.saturating_sub(from.max(self.after + 1));
        self.corrupt_frames += frames;
        if let Some(books) = &self.books {
            books.count_corrupt(frames);
        }
        frames > 0
    }

    /// Tells the owner of a hole, as far as it is above the flushed position.
    fn enter_hole(&mut self, from: Lsn, to: Lsn, copy: Option<PathBuf>) {
        if self.books.is_some() {
            self.holes.push(Hole {
                from: from.max(self.after + 1),
                to,
                after_nanos: self.last_received_nanos,
                copy,
            });
        }
    }

    /// Where frames are missing that should have come before the one given last; after the end, all that are left.
    pub fn take_holes(&mut self) -> Vec<Hole> {
        std::mem::take(&mut self.holes)
    }

    fn open_next(&mut self, found: Found) -> Result<()> {
        let bytes = match std::fs::read(&found.path) {
            Ok(bytes) => bytes,
            // the owner has flushed past it while replaying
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.books.as_ref().is_some_and(|books| books.covers_below(found.end_lsn)) => {
                self.after = self.after.max(found.end_lsn - 1);
                return Ok(());
            }
            Err(e) => {
                self.count_hole(found.first_lsn, found.end_lsn);
                self.after = self.after.max(found.end_lsn - 1);
                return Err(disk::io_error("read", &found.path, e));
            }
        };
        let header = Header::decode(&bytes).filter(|header| header.first_lsn == found.first_lsn);
        let cursor = Cursor::new(bytes, found.first_lsn, Some(found.end_lsn));
        let is_damaged = header.is_none();
        // only the log's beginning can be missing here: a hole between two segments counts as the first one's end
        if self.count_hole(self.after + 1, found.first_lsn) {
            let (from, to) = (self.after + 1, found.first_lsn - 1);
            self.enter_hole(from, to + 1, None);
            tracing::error!(from, to, "frames are missing before the log's first segment");
            self.after = to;
        }
        self.current = Some(Reading {
            found,
            cursor,
            is_damaged,
            copy: None,
        });
        Ok(())
    }

    /// For a frame given last that its owner cannot use: keeps a copy of its segment in `quarantine/`, and gives its path.
    pub fn set_aside(&mut self) -> Result<PathBuf> {
        let Some(reading) = &mut self.current else { return Ok(PathBuf::new()) };
        if let Some(copy) = &reading.copy {
            return Ok(copy.clone());
        }
        let (copy, is_new) = quarantine(&reading.found.path)?;
        reading.copy = Some(copy.clone());
        if let Some(books) = self.books.as_ref().filter(|_| is_new) {
            self.quarantined.push(copy.clone());
            books.count_quarantined();
        }
        Ok(copy)
    }

    /// Ends the current segment; a damaged one is copied away.
    fn close_current(&mut self) -> Result<()> {
        let Some(reading) = self.current.take() else { return Ok(()) };
        self.after = self.after.max(reading.found.end_lsn - 1);
        if !reading.is_damaged || self.books.is_none() {
            return Ok(());
        }
        let (copy, is_new) = quarantine(&reading.found.path)?;
        tracing::error!(segment = %reading.found.path.display(), corrupt_frames = self.corrupt_frames, "a segment of the log is damaged; a copy lies in quarantine/");
        if let Some(books) = self.books.as_ref().filter(|_| is_new) {
            self.quarantined.push(copy);
            books.count_quarantined();
        }
        Ok(())
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("torn_frames_cut", &self.torn_frames_cut)
            .field("corrupt_frames", &self.corrupt_frames)
            .field("quarantined", &self.quarantined)
            .field("last_lsn", &self.last_lsn)
            .finish_non_exhaustive()
    }
}

impl Iterator for Replay {
    type Item = Result<(Lsn, Frame)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(reading) = &mut self.current else {
                let found = self.segments.pop_front()?;
                if let Err(error) = self.open_next(found) {
                    return Some(Err(error));
                }
                continue;
            };
            match reading.cursor.step() {
                Step::Frame(at) if at.lsn > self.after => {
                    self.last_received_nanos = Some(at.received_at_nanos);
                    let frame = Frame {
                        kind: at.kind,
                        flags: at.flags,
                        source: at.source,
                        received_at_nanos: at.received_at_nanos,
                        payload: Bytes::copy_from_slice(at.payload),
                    };
                    return Some(Ok((at.lsn, frame)));
                }
                Step::Frame(at) => self.last_received_nanos = Some(at.received_at_nanos),
                Step::Hole { from, to } => {
                    let is_damage = self.count_hole(from, to);
                    if let Some(reading) = &mut self.current {
                        reading.is_damaged |= is_damage;
                    }
                    if is_damage && self.books.is_some() {
                        match self.set_aside() {
                            Ok(copy) => self.enter_hole(from, to, Some(copy)),
                            Err(error) => return Some(Err(error)),
                        }
                    }
                }
                Step::End => {
                    if let Err(error) = self.close_current() {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}
