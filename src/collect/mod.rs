//! The collector: pulls existing log groups out of CloudWatch Logs, or another tracelake, and keeps their events.
//!
//! In: `[[collect.sources]]`: which log groups and streams, from when. Out: the events as rows, in log groups and streams of the same
//! names, which exist then; [`Board`], how far each source is, for `/api/v1/status`.
//!
//! # How
//!
//! `FilterLogEvents`, page by page, over one window of time after another. A *backfill* window begins where the one before ended,
//! and is made longer or shorter by how much was in it. Once a group is near now it is *followed*: every `poll_seconds` a window from
//! `overlap_seconds` before the last one's end to now, so that what comes late is found; and, where `late_seconds` is set, every so often twice that time is read
//! again beside it, for what came later still (senders that were offline). Groups of a source take turns, one request
//! at a time, at most `max_requests_per_second`.
//!
//! # What is promised
//!
//! - **At least once**: the position of a group moves on when its window was read to the last page and all of it is durable. An error
//!   that may pass (throttling, 5xx, no connection, we are full ourselves) is tried again, after waits that double up to
//!   [`LONGEST_WAIT`]; one that does not pass is shown, and the group has its turn again a minute later.
//! - **Nothing twice**: an event is known by its stream and `eventId`, which its row has as an attribute. Of the window under
//!   way, the IDs are in memory; before a window is read, those that the store has already of that time are asked of our own query
//!   engine ([`seen`]). Rows are durable before they are seen, and seen once they are durable, so the answer is exact: after `kill -9`,
//!   and when the checkpoint is older than what was stored. An answer that may lack rows is waited for.
//! - **Bounds**: one page, and the IDs of one window ([`MAX_WINDOW_EVENTS`] and a page, unless one second has more).
//! - What comes later than `late_seconds`, or without it `overlap_seconds`, after its time is not found while following. Rows of the time that
//!   is read again, and rows of a window under way, that are
//!   deleted here are pulled again.
//!
//! Checkpoints are state documents `collect/SOURCE/GROUP`. Of several nodes on one store only the one that leads collects ([`Home::leads`]),
//! so that a source may stand in the settings of all. Checkpoints stay with their node: one that takes the lead begins where it was
//! itself, or at the source's beginning, and what is kept is known; but not what a node that died had not flushed, which comes twice if that
//! node comes back. A source that is this server itself would feed on its own rows.
//!
//! In the ledger its receiver is `collect`; events that were fetched again are counted on the board and in metrics alone.

mod board;
mod config;
mod group;
mod lake;
mod metrics;
mod remote;
mod seen;
mod worker;
#[cfg(test)]
mod tests;

pub use board::{Board, GroupStatus, SourceStatus, Stage};
pub use config::{Config, SourceConfig};
pub use lake::Lake;
pub use remote::Aws;
pub use worker::Collector;

use std::time::Duration;

/// The receiver's name in the ledger.
pub const RECEIVER: &str = "collect";
/// Wait after a first failure, doubled with each further one.
pub const FIRST_WAIT: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });
/// The longest of them.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A window of backfill with more events than this is cut shorter.
pub const MAX_WINDOW_EVENTS: usize = 200_000;

/// What a call to the other side gives when it fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// In the words of whoever said it.
    pub message: String,
    /// What kind.
    pub kind: FaultKind,
}

/// What to do about a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Too many requests: wait, and try again.
    Throttled,
    /// It may pass: wait, and try again.
    Passing,
    /// The log group is not there (any more).
    Gone,
    /// Somebody must mend something first.
    Lasting,
}

/// An event as the other side gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// `eventId`.
    pub id: String,
    /// Its stream.
    pub stream: String,
    /// Milliseconds since the epoch.
    pub millis: i64,
    /// Its text.
    pub message: String,
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Some events, maybe none.
    pub events: Vec<Pulled>,
    /// Of the next page; `None` behind the last.
    pub next: Option<String>,
}

/// The other side.
#[async_trait::async_trait]
pub trait Remote: Send + Sync + std::fmt::Debug {
    /// Names of log groups that begin so.
    async fn groups(&self, prefix: &str, token: Option<&str>) -> Result<(Vec<String>, Option<String>), Fault>;
    /// Events of a group from one millisecond to another, both included.
    async fn page(&self, group: &str, from_millis: i64, to_millis: i64, token: Option<&str>) -> Result<Page, Fault>;
    /// The region that events are from; empty where nobody says.
    async fn region(&self) -> String;
}

/// Our side.
#[async_trait::async_trait]
pub trait Home: Send + Sync + std::fmt::Debug {
    /// Keys ([`seen::key`]) of the events of a group that are kept already, of a time, both ends included. The error says why it
    /// cannot be told now.
    async fn kept(&self, group: &str, from_millis: i64, to_millis: i64) -> Result<Vec<(u128, i64)>, String>;
    /// Makes events durable, [`crate::decode::awslogs::MAX_EVENTS`] at the most, all or none. The error says why they are not; a retry helps.
    async fn keep(&self, group: &str, region: &str, events: &[&Pulled]) -> Result<(), String>;
    /// What was saved under a key.
    fn checkpoint(&self, key: &str) -> Option<bytes::Bytes>;
    /// Saves.
    async fn save(&self, key: &str, value: bytes::Bytes) -> Result<(), String>;
    /// Whether this node is the one that collects, of all on the store.
    fn leads(&self) -> bool;
    /// Now.
    fn now_millis(&self) -> i64;
}
