//! The write path as one story: admit, append, acknowledge; then correlate, build, put, commit, cut the log.
//!
//! In: a request's bytes and what its decoder made of them ([`Ingest::accept`]), small durable documents of other parts
//! ([`Ingest::put_state`]), and rows that tracelake writes itself ([`Ingest::accept_own`]). Out: a [`View`] in which every
//! acknowledged row stands once.
//!
//! Promises:
//! - `accept` returns [`Ack`] only when the bytes survive `kill -9` and queries see the rows. A client that hangs up
//!   half-way changes nothing: once begun, append and publication run to their end.
//! - A request that is sent again because its answer was lost adds no rows, where its protocol lets us know it ([`repeats`]).
//! - A flush cuts at one log position. All blocks of the cut, the position and the state documents are committed in one
//!   catalog record; only then are the rows forgotten here and the log cut. Rows reach Parquet exactly once.
//! - A delete by query ([`Ingest::delete`]) concerns what was acknowledged before it, here and on other nodes, and nothing
//!   that comes later; a replay does not bring rows back.
//! - Bounds: bytes in flight, bytes of the head, bytes of the log, free disk. At a bound the caller gets
//!   [`Refused::Overloaded`] at once and nothing is kept.
//! - The store may be away: acknowledgements go on until the bounds; flushes retry and say so in [`Ingest::status`].
//!
//! On start ([`Ingest::open`]) the frames above the catalog's position are decoded again, from the same bytes and
//! received time, so the same rows come back with the same ingest IDs. What rules that change over time made of them, such as metric
//! filters, comes back too: the frame holds the rules ([`rules`]), and what was known of the names in its records ([`links`]).
//!
//! `ingest_id` = log position × 2^20 + the row's number in its request: unique on a node, increasing in order of arrival.

mod accept;
mod counts;
mod erase;
mod flush;
mod give_up;
mod head;
mod late;
mod ledger;
mod links;
mod lost;
mod lost_frames;
mod maintain;
mod metrics;
mod peers;
mod repeats;
mod replay;
mod retry;
mod rules;
mod states;
mod streams;
mod supersede;
#[cfg(test)]
mod tests;
mod view;
mod watermark;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock, Semaphore, broadcast};

use crate::block;
use crate::catalog::Catalog;
use crate::correlate::book::Book;
use crate::decode::{Context, Kind};
use crate::model::{Batch, Clock, Signal};
use crate::net::{Encoding, Share};
use crate::storage::{Cache, Store};
use crate::wal::{self, Lsn, Wal};

pub use erase::{DeleteError, DeleteRequest, Finder, RowTest};
pub use give_up::{GivenUp, NotGivenUp};
pub use ledger::{Entry as LedgerEntry, Ledger, OfSender, Outcomes, SENT_KEY, Sent, add_up};
pub use lost::{Losses, Lost};
pub use lost_frames::LostFrames;
pub use maintain::{
    Config as MaintainConfig, DamagedBlock, LogGroups, Maintainer, Parts as MaintainParts, Quarantine, RetentionConfig, RetentionRule, lake_swap_grace,
};
pub use peers::{Config as NodeConfig, Duty, Facts, NodeStatus, Peers};
pub use rules::{NoRules, RuleBook, Rules};
pub use streams::StreamEvents;
pub use view::{Source, View};
pub use watermark::Progress;

use head::Head;

/// Rows of one request: the low 20 bits of `ingest_id` count them.
pub const MAX_ROWS_PER_REQUEST: usize = 1 << 20;
const _: () = assert!(crate::decode::MAX_RECORDS < MAX_ROWS_PER_REQUEST, "decoders refuse what has no number");
/// The low bits of an `ingest_id`, which number the rows of one log position.
pub const INGEST_ID_ROW_BITS: u32 = MAX_ROWS_PER_REQUEST.trailing_zeros();

/// The greatest `ingest_id` of a log position.
pub fn last_ingest_id_of(lsn: Lsn) -> i64 {
    let next = i64::try_from(lsn.saturating_add(1)).unwrap_or(i64::MAX).min(i64::MAX >> INGEST_ID_ROW_BITS);
    (next << INGEST_ID_ROW_BITS) - 1
}

/// The log's kind for state documents; above all of [`Kind`].
pub const STATE_FRAME: u8 = 200;

/// The log's kind for what the ledger counts beside other frames.
pub const COUNTS_FRAME: u8 = 201;

/// How long an overloaded client is asked to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a request waits at most at [`Config::pace_bytes`]; exporters give up after ten seconds.
const MAX_PACE: Duration = Duration::from_secs(if cfg!(test) { 600 } else { 2 });

/// Tail readers that fall this many batches behind miss some, and are told how many.
const TAIL_CAPACITY: usize = 1_024;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of request bodies that may be on their way to the log at once (128 MiB).
    pub max_in_flight_bytes: usize,
    /// Memory of unflushed rows at which requests are refused (768 MiB).
    pub max_head_bytes: usize,
    /// Memory of unflushed rows at which acknowledgements wait for blocks, up to two seconds each (144 MiB): who sends
    /// as fast as it is answered then sends as fast as blocks are built. Nobody waits while the store is away.
    pub pace_bytes: usize,
    /// Memory of unflushed rows at which they are flushed (64 MiB).
    pub flush_bytes: usize,
    /// Rows at which they are flushed (1,000,000).
    pub flush_rows: usize,
    /// Age, in seconds, of the oldest unflushed row at which it is flushed (600).
    pub flush_age_seconds: u64,
    /// Age, in days, up to which OTLP and X-Ray records are taken (30); older ones, and those more than two hours in the
    /// future, are rejected. Each hour of event time is a block of its own: this bounds the blocks of a flush. 0 = any
    /// time is taken, for bringing in history. CloudWatch Logs has its own 14 days.
    pub max_age_days: u16,
    /// Sources (service or log group, by receiver and signal) whose progress is told apart in `/api/v1/status` (1,000).
    pub max_sources: usize,
    /// Seconds for which a request that was acknowledged is known when it comes again (900): it is a success, and adds no rows.
    /// Concerns `PutLogEvents` (same stream, events and sequence token) and Firehose (same `requestId` and records). 0 = off.
    pub repeat_window_seconds: u64,
    /// Requests that are known so at the most (100,000, about 10 MB); then the oldest are forgotten first.
    pub max_remembered_requests: usize,
    /// Request IDs, and as many span IDs, of which the trace is remembered for log records that name them and no trace (100,000 of each,
    /// at most 20 MB); then those that were not asked for lately are forgotten. As many unflushed records that name a request wait for what tells
    /// its trace (20 MB). 0 = such records are linked within their request alone.
    pub max_linked_ids: usize,
    /// Whether blocks go into the lake at once (`all`) or when their hour is sealed (`sealed`).
    pub lake_visible: LakeVisible,
}

/// When foreign readers see rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LakeVisible {
    /// Once their hour is over, quiet and merged: no row is ever seen twice.
    Sealed,
    /// With each flush; while an hour's blocks are merged a foreign reader may see rows twice for seconds.
    All,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight_bytes: 128 << 20,
            max_head_bytes: 768 << 20,
            pace_bytes: 144 << 20,
            flush_bytes: 64 << 20,
            flush_rows: 1_000_000,
            flush_age_seconds: 600,
            max_age_days: 30,
            max_sources: 1_000,
            // longer than SDKs, drivers and agents go on trying, but where a server is away
            repeat_window_seconds: 900,
            // a hundred a second in that time
            max_remembered_requests: 100_000,
            max_linked_ids: 100_000,
            lake_visible: LakeVisible::Sealed,
        }
    }
}

/// One decoded request and where it came from.
#[derive(Debug)]
pub struct Received {
    /// `otlp`, `awslogs`, `xray`, …: the ledger's and the metrics' name.
    pub receiver: &'static str,
    /// What it carries.
    pub signal: Signal,
    /// What the body is.
    pub kind: Kind,
    /// What decoding knew besides the body.
    pub context: Context,
    /// The body as it came.
    pub body: Bytes,
    /// How `body` is encoded.
    pub encoding: Encoding,
    /// What was received before is no earlier one of this request: what it brought has been deleted by then. `i64::MIN` where nothing
    /// is deleted so.
    pub repeats_since_nanos: i64,
    /// What the request holds of the receivers' memory: given back once its rows are in the head.
    pub share: Option<Share>,
}

impl Received {
    /// A body as it is, that holds no share of the receivers' memory.
    pub fn plain(kind: Kind, context: Context, body: impl Into<Bytes>) -> Self {
        let (receiver, signal) = kind.origin();
        Self {
            receiver,
            signal,
            kind,
            context,
            body: body.into(),
            encoding: Encoding::Identity,
            repeats_since_nanos: i64::MIN,
            share: None,
        }
    }
}

/// The records are durable, and queries see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Where in the log; 0 if nothing was appended.
    pub lsn: Lsn,
    /// Whether the records were there already, from the same request.
    pub is_repeat: bool,
}

/// The request was turned away whole.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A bound is reached; a retry helps.
    #[error("overloaded: {message}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
        /// Which bound.
        message: String,
    },
    /// More than any retry can bring in.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The server is stopping; another or a later one will take it.
    #[error("the server is draining")]
    Draining,
}

impl Refused {
    fn overloaded(message: impl Into<String>) -> Self {
        Self::Overloaded {
            retry_after: RETRY_AFTER,
            message: message.into(),
        }
    }
}

/// Why the write path could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error("cannot open the log: {0}")]
    Wal(#[from] wal::Error),
    /// The store or cache.
    #[error("cannot read the store: {0}")]
    Storage(#[from] crate::storage::Error),
    /// The catalog.
    #[error("cannot open the catalog: {0}")]
    Catalog(#[from] crate::catalog::Error),
    /// This process may not write as its node.
    #[error(transparent)]
    NotTheNode(crate::catalog::Error),
    /// The stored state documents are damaged.
    #[error("the state documents in the store are damaged: {0}")]
    State(#[source] serde_json::Error),
    /// Own rows could not be encoded.
    #[error("cannot encode own rows: {0}")]
    Columns(#[from] arrow::error::ArrowError),
}

/// What the write path is made of.
#[derive(Debug)]
pub struct Parts {
    /// Bounds and flush policy.
    pub config: Config,
    /// The log's bounds.
    pub wal: wal::Config,
    /// How blocks are written.
    pub block: block::Settings,
    /// The log's folder is `data_dir/wal`.
    pub data_dir: PathBuf,
    /// Where blocks go.
    pub store: Arc<dyn Store>,
    /// Local copies of them.
    pub cache: Arc<Cache>,
    /// Which blocks exist.
    pub catalog: Arc<Catalog>,
    /// Tells which rows a delete means.
    pub finder: Arc<dyn Finder>,
    /// What else is made of log records.
    pub rules: Arc<dyn RuleBook>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The write path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    block: block::Settings,
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    wal: Wal,
    head: Mutex<Head>,
    /// Small durable documents of other parts (log groups, alert states), by key.
    states: Arc<Mutex<states::Documents>>,
    /// The frame that set each document last, of those since the last flush.
    state_lsns: Mutex<HashMap<String, Lsn>>,
    /// What of the state documents the catalog has.
    committed_state: Mutex<Vec<states::Part>>,
    /// Held from reading the documents until their commit, so that older ones never replace newer ones.
    committing_state: tokio::sync::Mutex<()>,
    /// Since when a document waits for a flush.
    states_since_nanos: Mutex<Option<i64>>,
    /// Whether someone deals with traces that lose spans.
    notes_losses: AtomicBool,
    /// Notes of traces that have lost spans which cannot be read, and were told.
    unreadable_notes: Mutex<BTreeSet<String>>,
    rules: Arc<dyn RuleBook>,
    ledger: Ledger,
    watermarks: watermark::Watermarks,
    repeats: Arc<repeats::Repeats>,
    quarantine: Arc<Quarantine>,
    /// The traces of request IDs and span IDs.
    book: Book,
    /// Whether rows wait that are not of our own telemetry.
    has_others_rows: AtomicBool,
    /// Age at which rows are flushed for other nodes; `u64::MAX` while there are none.
    early_flush_seconds: AtomicU64,
    known: Mutex<peers::Known>,
    duty: tokio::sync::watch::Sender<Duty>,
    /// Whether another process writes as this node by now.
    superseded: tokio::sync::watch::Sender<bool>,
    in_flight: Arc<Semaphore>,
    /// Held shared from before an append until its rows are in the head; the flush takes it alone to find a moment in
    /// which the log and the head agree.
    publication: RwLock<()>,
    tail: broadcast::Sender<Arc<Batch>>,
    flush_wanted: Notify,
    /// Told when rows have left the head, or the store is found to be away.
    has_room: Notify,
    draining: AtomicBool,
    /// Frames of the log that were lost.
    lost_frames: lost_frames::Shown,
    /// When a flush that failed is due again.
    retry: retry::Retry,
    /// Whether the catalog is told that nothing is in the log: nothing is appended any more. Set while nobody publishes.
    has_left: AtomicBool,
    /// Whether no frame says counts any more: they go into the record with which the node leaves.
    counts_have_ended: AtomicBool,
    /// Keeps flushes one at a time.
    flushing: tokio::sync::Mutex<()>,
    problems: Mutex<BTreeMap<&'static str, String>>,
    /// Of log streams in what was replayed.
    replayed_streams: Mutex<Vec<StreamEvents>>,
    replay: replay::Report,
    flushed_lsn: AtomicU64,
    erasures: erase::Erasures,
    positions: Mutex<erase::Positions>,
    spans_in_progress: supersede::Remembered,
}

/// Figures for `/api/v1/status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// The log.
    pub wal: wal::Stats,
    /// The last log position that blocks cover.
    pub flushed_lsn: Lsn,
    /// Unflushed rows.
    pub head_rows: usize,
    /// Their memory.
    pub head_bytes: usize,
    /// Whether the log or the catalog has all that the ledger has counted: else a crash would lose the last second of what was refused,
    /// rejected or dropped.
    pub counts_are_durable: bool,
    /// What is wrong now, in words.
    pub problems: Vec<String>,
    /// What start-up found in the log.
    pub replay: replay::Report,
}

impl Ingest {
    /// Sets a small document in memory; the next flush stores it. For figures that may fall back a little in a crash.
    pub fn put_state_relaxed(&self, key: &str, value: Bytes) {
        self.inner.note_state_waits();
        self.inner.states.lock().set(key, Some(value));
    }

    /// The documents whose key starts with `prefix`, in order of key.
    pub fn states(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let states = self.inner.states.lock();
        states.under(prefix).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The last position of the log.
    pub fn last_lsn(&self) -> Lsn {
        self.inner.wal.stats().last_lsn
    }

    /// The greatest `ingest_id` such that every acknowledged row with it, or a smaller one, is in every view from now on, and none
    /// comes later. Requests that are on their way to the log are waited for, as a flush does.
    pub async fn settled_ingest_id(&self) -> i64 {
        let _quiescent = self.inner.publication.write().await;
        last_ingest_id_of(self.last_lsn())
    }

    /// [`Self::settled_ingest_id`] for who asks again and again, and was told `before` the last time.
    pub async fn settled_ingest_id_since(&self, before: i64) -> i64 {
        match last_ingest_id_of(self.last_lsn()) == before {
            // nothing was appended, so nobody need be held up
            true => before,
            false => self.settled_ingest_id().await,
        }
    }

    /// Blocks that are damaged, as far as work on them has shown.
    pub fn quarantine(&self) -> &Arc<Quarantine> {
        &self.inner.quarantine
    }

    /// What the log that was replayed says of log streams; the first who asks has it.
    pub fn take_replayed_streams(&self) -> Vec<StreamEvents> {
        std::mem::take(&mut *self.inner.replayed_streams.lock())
    }

    /// Where every record ended.
    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    /// What receivers whose protocol has no bound of its own tell the decoder as
    /// [`Context::retention_days`].
    pub fn max_age_days(&self) -> i32 {
        i32::from(self.inner.config.max_age_days)
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.inner.catalog
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Figures and problems.
    pub fn status(&self) -> Status {
        let (head_rows, head_bytes) = {
            let head = self.inner.head.lock();
            (head.rows(), head.bytes())
        };
        Status {
            wal: self.inner.wal.stats(),
            flushed_lsn: self.inner.flushed_lsn.load(Ordering::Acquire),
            head_rows,
            head_bytes,
            counts_are_durable: self.inner.ledger.is_durable(),
            problems: self.inner.problems.lock().values().cloned().collect(),
            replay: self.inner.replay,
        }
    }

    /// Resolves once another process writes as this node ([`crate::catalog::Life`]), and says what to do. Nothing is taken or
    /// flushed from then on; what was acknowledged and not flushed stays in the log.
    pub async fn superseded(&self) -> String {
        let mut superseded = self.inner.superseded.subscribe();
        if superseded.wait_for(|is_superseded| *is_superseded).await.is_err() {
            // the sender lives as long as we do
            return std::future::pending().await;
        }
        let (node, wal) = (self.inner.catalog.node(), self.inner.wal.dir().display());
        let (last_lsn, flushed) = (self.inner.wal.stats().last_lsn, self.inner.flushed_lsn.load(Ordering::Acquire));
        let missed = self.inner.catalog.snapshot().missed_deletes(node);
        if missed > 0 {
            return format!(
                "node {node} was given up (`tracelake node forget`) while this process was silent, and {missed} deletes ended without it: this process \
                 stops, so that no row that they meant comes back. What it acknowledged and did not flush (log positions {} to {last_lsn}) is in {wal} \
                 alone; `tracelake wal inspect` shows it. To start the node again, move that folder away",
                flushed + 1
            );
        }
        format!(
            "another process, with another copy of this data directory, has begun to write as node {node} while this one was silent: this one stops, so \
             that neither drops the other's records. Find the other process and decide which of the two is to run. What this one acknowledged and did not \
             flush (log positions {} to {last_lsn}) is in {wal}: keep that folder, and do not start a server on it; `tracelake wal inspect` shows it",
            flushed + 1
        )
    }

    /// How far each source has come, by name.
    pub fn progress(&self) -> Vec<Progress> {
        self.inner.watermarks.progress(&self.inner.catalog.snapshot())
    }

    /// Stops taking requests, waits for those under way, flushes everything and closes the log. What cannot be flushed
    /// within `deadline` stays in the log for the next start.
    pub async fn drain(&self, deadline: Duration) {
        self.inner.draining.store(true, Ordering::Release);
        let flush = async {
            // the sums of a node that cannot flush in time; what comes behind them would keep it from leaving
            self.log_counts().await;
            self.end_counts();
            if self.inner.is_superseded() {
                // the node, its documents and its heartbeat are another's
                return;
            }
            self.flush().await;
            self.leave().await;
            // others need not wait until it is silent
            if let Err(error) = self.inner.catalog.end_heartbeat(self.inner.catalog.node()).await {
                tracing::debug!(%error, "the heartbeat stays");
            }
            self.inner.catalog.leave_checkpoint().await;
        };
        if tokio::time::timeout(deadline, flush).await.is_err() {
            tracing::warn!(
                seconds = deadline.as_secs(),
                "the log and the store did not take the last rows and counts in time; what is in the log stays there for the next start"
            );
        }
        self.inner.wal.close().await;
    }
}

impl Source for Ingest {
    fn view(&self) -> View {
        // The order matters: a flush first commits, then forgets. Reading the head before the snapshot, every row is in
        // one of them, and those in both are told by their log position.
        let parts = self.inner.head.lock().visible();
        let snapshot = self.inner.catalog.snapshot();
        let flushed = self.inner.flushed_by_us(&snapshot);
        let head = parts.into_iter().filter_map(|part| Some(part.above(flushed)?.rows)).collect();
        View {
            head,
            snapshot,
            lost: self.inner.lost_frames.get(),
        }
    }

    fn ledger(&self) -> Vec<LedgerEntry> {
        let nodes = self.nodes();
        let of_nodes = nodes.iter().flat_map(|node| ledger::entries(node.node.as_str(), &node.sums));
        let documents = self.states(SENT_KEY);
        let sent = ledger::sent_entries(self.inner.catalog.node().as_str(), documents.iter().map(|(_, bytes)| bytes.as_ref()));
        of_nodes.chain(ledger::gone_entries(self.inner.catalog.snapshot().gone())).chain(sent).collect()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.inner.tail.subscribe()
    }
}
