//! Start-up: what the log holds above the catalog's position comes back into the head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock, Semaphore, broadcast};

use super::accept::{RecordCounts, permits, read_state, with_ids};
use super::erase::Erasures;
use super::ledger::{Senders, Told};
use super::lost_frames;
use super::repeats::{REPEATS_KEY, Repeats};
use super::states::{self, Documents, Part};
use super::streams::Streams;
use super::watermark::Watermarks;
use super::{COUNTS_FRAME, Error, Head, Ingest, Inner, Ledger, Parts, STATE_FRAME, TAIL_CAPACITY, counts, links, metrics, rules};
use crate::catalog::{self, Commit, CommitKind};
use crate::correlate::{book::Book, link};
use crate::decode::{Context, Kind, decode};
use crate::model::{Clock, Signal};
use crate::net::{Encoding, inflate};
use crate::wal::{Frame, Lsn, Wal};

/// No frame was larger when it was taken; only a bound for damaged ones.
const MAX_INFLATED_BYTES: usize = 1 << 30;

/// How often other nodes are told that this one lives while it replays its log.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The key under which earlier versions stored the ledger's sums with the state documents.
pub(super) const LEDGER_KEY: &str = "ledger";

/// The key under which the watermarks are stored with the state documents.
pub(super) const WATERMARKS_KEY: &str = "watermarks";

/// What start-up found in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Frames whose rows or documents came back.
    pub frames: u64,
    /// Rows that came back.
    pub rows: u64,
    /// Frames at the end that a crash cut short: they were never acknowledged.
    pub torn_frames_cut: u64,
    /// Frames that were damaged in the middle of the log: set aside in `wal/quarantine`.
    pub corrupt_frames: u64,
    /// Frames that could not be decoded any more: a copy of their segment lies in `wal/quarantine`.
    pub undecodable_frames: u64,
}

impl Ingest {
    /// Opens the log, restores the state documents and the ledger, and replays what no block covers. If that is more
    /// than the head may hold, blocks are flushed on the way. The flush loop is not running yet: see [`Ingest::run`].
    pub async fn open(parts: Parts) -> Result<Ingest, Error> {
        let Parts {
            config,
            wal: wal_config,
            block,
            data_dir,
            store,
            cache,
            catalog,
            finder,
            rules,
            clock,
        } = parts;
        // nothing in the folder is touched that another process may have to answer for
        catalog.may_begin().await.map_err(of_life)?;
        let mut snapshot = catalog.snapshot();
        if !snapshot.nodes().contains_key(catalog.node()) {
            // from here on a delete that another node orders waits for this one's rows too
            snapshot = catalog.commit(Commit::new(CommitKind::State, clock.now_nanos())).await?;
        }
        let flushed = snapshot.flushed_lsn(catalog.node());
        let ledger = Ledger::new(config.max_sources);
        let mut states = Documents::default();
        let mut committed_state = Vec::new();
        for (key, bytes) in catalog.read_state().await? {
            committed_state.push(Part {
                key,
                bytes: bytes.len() as u64,
                up_to: states.load(states::read(&bytes).map_err(Error::State)?),
            });
        }
        if let Some(sums) = states.get(LEDGER_KEY).cloned() {
            states.set(LEDGER_KEY, None);
            ledger.restore(&sums).map_err(Error::State)?;
        }
        if let Some(sums) = snapshot.nodes().get(catalog.node()).and_then(|node| node.ledger.as_ref()) {
            ledger.restore(sums.to_string().as_bytes()).map_err(Error::State)?;
            ledger.note_committed(sums.clone());
        }
        let watermarks = Watermarks::new(config.max_sources);
        if let Some(json) = states.get(WATERMARKS_KEY) {
            watermarks.restore(json).map_err(Error::State)?;
        }
        let repeats = Repeats::new(config.repeat_window_seconds, config.max_remembered_requests);
        if let Some(bytes) = states.get(REPEATS_KEY) {
            repeats.restore(bytes);
        }
        let book = Book::new(config.max_linked_ids);
        let head = Mutex::new(Head::new(config.max_linked_ids));
        let (wal, frames) = Wal::open(&data_dir.join("wal"), &wal_config, flushed)?;
        // the log is ours alone now: it tells of no process in another place
        catalog.begin(wal.stats().last_lsn, clock.now_nanos()).await.map_err(of_life)?;
        beat(&catalog, &*clock).await;
        let mut beaten = Instant::now();
        let in_flight = Arc::new(Semaphore::new(permits(config.max_in_flight_bytes) as usize));
        let mut inner = Inner {
            config,
            block,
            store,
            cache,
            catalog,
            clock,
            wal,
            head,
            states: Arc::new(Mutex::new(states)),
            state_lsns: Mutex::default(),
            committed_state: Mutex::new(committed_state),
            committing_state: tokio::sync::Mutex::new(()),
            states_since_nanos: Mutex::default(),
            notes_losses: AtomicBool::new(false),
            unreadable_notes: Mutex::default(),
            early_flush_seconds: AtomicU64::new(u64::MAX),
            known: Mutex::default(),
            duty: tokio::sync::watch::Sender::default(),
            superseded: tokio::sync::watch::Sender::default(),
            rules,
            ledger,
            watermarks,
            repeats,
            quarantine: Arc::default(),
            book,
            has_others_rows: AtomicBool::new(true),
            in_flight,
            publication: RwLock::new(()),
            tail: broadcast::channel(TAIL_CAPACITY).0,
            flush_wanted: Notify::new(),
            has_room: Notify::new(),
            draining: AtomicBool::new(false),
            retry: Default::default(),
            has_left: AtomicBool::new(false),
            counts_have_ended: AtomicBool::new(false),
            lost_frames: Default::default(),
            flushing: tokio::sync::Mutex::new(()),
            problems: Mutex::default(),
            replay: Report::default(),
            replayed_streams: Mutex::default(),
            flushed_lsn: AtomicU64::new(flushed),
            erasures: Erasures::new(finder),
            positions: Mutex::default(),
            spans_in_progress: Default::default(),
        };
        inner.note_received(flushed)?;
        let (mut report, mut streams) = (Report::default(), Streams::default());
        let mut lost = lost_frames::Found::default();
        let mut frames = frames;
        while let Some(frame) = frames.next() {
            let (lsn, frame) = frame?;
            inner.found_holes(&mut lost, frames.take_holes(), frame.received_at_nanos);
            if beaten.elapsed() >= BEAT_EVERY {
                beat(&inner.catalog, &*inner.clock).await;
                beaten = Instant::now();
            }
            if let Err(error) = inner.replay_frame(lsn, &frame, &mut report, &mut streams) {
                // decoded once, before it was acknowledged: a defect of ours, or a log of a newer program; never a client's
                report.undecodable_frames += 1;
                metrics::REPLAY_FAILURES.inc();
                let copy = frames.set_aside()?;
                tracing::error!(lsn, error, copy = %copy.display(), "a frame of the log cannot be decoded; a copy of its segment is kept");
                // the others have no records
                if ![STATE_FRAME, COUNTS_FRAME].contains(&frame.kind) {
                    inner.found_undecodable(&mut lost, lsn, frame.received_at_nanos, &error, &copy);
                }
            }
            if inner.head.lock().active_bytes() >= inner.config.flush_bytes {
                inner.note_lost_frames(&lost);
                inner.flush_up_to(lsn).await;
            }
        }
        inner.found_holes(&mut lost, frames.take_holes(), inner.clock.now_nanos());
        inner.note_lost_frames(&lost);
        report.torn_frames_cut = frames.torn_frames_cut;
        report.corrupt_frames = frames.corrupt_frames;
        if report != Report::default() {
            tracing::info!(?report, "replayed the log");
        }
        // what comes from here on is later than any delete that is known
        inner.note_position();
        inner.replay = report;
        *inner.replayed_streams.lock() = streams.finish();
        Ok(Ingest { inner: Arc::new(inner) })
    }
}

/// Tells the other nodes that this one lives, which its log holds up for a while: nobody gives it up meanwhile.
async fn beat(catalog: &catalog::Catalog, clock: &dyn Clock) {
    if let Err(error) = catalog.beat(clock.now_nanos()).await {
        tracing::debug!(%error, "other nodes could not be told that this one starts");
    }
}

/// Keeps apart what the store failed at, which is tried again, and what a person has to decide.
fn of_life(error: catalog::Error) -> Error {
    match error {
        catalog::Error::LeftBehind { .. } | catalog::Error::AlreadyRuns { .. } | catalog::Error::GivenUp { .. } => Error::NotTheNode(error),
        other => Error::Catalog(other),
    }
}

impl Inner {
    /// Brings back what a frame holds, or says why it cannot.
    fn replay_frame(&self, lsn: Lsn, frame: &Frame, report: &mut Report, streams: &mut Streams) -> Result<(), String> {
        if frame.kind == STATE_FRAME {
            let (key, value) = read_state(&frame.payload).ok_or("it is no state document")?;
            self.publish_state(lsn, key, value);
            report.frames += 1;
            return Ok(());
        }
        if frame.kind == COUNTS_FRAME {
            self.ledger.replay(&counts::read(&frame.payload)?);
            self.note_state_waits();
            report.frames += 1;
            return Ok(());
        }
        let kind = Kind::from_u8(frame.kind).ok_or_else(|| format!("its kind, {}, is unknown", frame.kind))?;
        let (known, flags, payload) = links::take(frame.flags, &frame.payload).ok_or("what was known of its names is damaged")?;
        let parts = rules::parts(flags, &payload).ok_or("the rules before its body are cut short")?;
        let encoding = Encoding::from_u8(parts.encoding).ok_or_else(|| format!("its encoding, {}, is unknown", parts.encoding))?;
        let rules = parts.rules.and_then(|bytes| {
            let read = self.rules.read(&bytes);
            // the records come back without what the rules made of them
            read.inspect_err(|error| tracing::error!(lsn, error, "the rules in a frame of the log cannot be read"))
                .ok()
        });
        let context = Context {
            received_at_nanos: frame.received_at_nanos,
            retention_days: i32::from(frame.source),
        };
        let body = inflate::inflate(encoding, &parts.body, MAX_INFLATED_BYTES).map_err(|error| error.to_string())?;
        let decoded = decode(kind, &body, &context).map_err(|error| error.to_string())?;
        let names = link::names(&decoded.batch);
        let (decoded, found) = self.completed(decoded, frame.received_at_nanos, rules.as_deref(), (&names, &known));
        let (receiver, signal) = kind.origin();
        if kind != Kind::Own {
            self.watermarks.observe(receiver, &decoded.batch, frame.received_at_nanos);
        }
        if let Some(identity) = decoded.identity {
            self.repeats.note(identity, frame.received_at_nanos);
        }
        RecordCounts::of(&decoded.batch, signal).accepted(&self.ledger, receiver);
        self.ledger.accepted_of(receiver, &Senders::of(&decoded.batch));
        if kind.writes_streams() {
            streams.observe(&decoded.batch, frame.received_at_nanos);
        }
        self.count_rejected(receiver, signal, &decoded.rejected, Told::InFrame);
        self.count_rejected(receiver, Signal::Metrics, &decoded.rejected_points, Told::InFrame);
        let batch = with_ids(lsn, decoded.batch);
        report.frames += 1;
        report.rows += batch.n_rows() as u64;
        let mut head = self.head.lock();
        for rows in batch.rows {
            head.push(lsn, rows, self.clock.now_nanos());
        }
        head.link(lsn, &found);
        Ok(())
    }
}
