//! How far a job has come: one small state document, `deliver/` and the job's key.
//!
//! It begins with the sums that the ledger shows ([`crate::ingest::Sent`]). What jobs that are no more had delivered is added up
//! under `deliver/ended/SIGNAL`.

use serde::{Deserialize, Serialize};

use crate::ingest::{SENT_KEY, Sent};
use crate::query::Cursor;

/// Where a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// What became of its rows.
    #[serde(flatten)]
    pub(super) sent: Sent,
    /// Which job: of another, the document is none.
    pub(super) job: String,
    /// Every row with this `ingest_id` or a smaller one is done.
    pub(super) done: i64,
    /// What is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<Window>,
    /// Since when its destination has taken nothing, nanoseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failing_since_nanos: Option<i64>,
}

/// Rows that are delivered page by page, in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    /// The last `ingest_id` of it.
    pub(super) up_to: i64,
    /// The last row that is done: its time and `ingest_id`. None: not one is.
    pub(super) after: Option<(i64, i64)>,
}

impl Window {
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.after.map(|(time_unix_nano, ingest_id)| Cursor { time_unix_nano, ingest_id })
    }
}

impl Checkpoint {
    pub(super) fn to_bytes(&self) -> bytes::Bytes {
        serde_json::to_vec(self).expect("a checkpoint has text keys and plain values").into()
    }
}

/// Where a job's checkpoint lies. Names may hold anything, so the key has their hash.
pub(super) fn key(job: &str) -> String {
    format!("{SENT_KEY}{:032x}", xxhash_rust::xxh3::xxh3_128(job.as_bytes()))
}

/// Where the sums of jobs that are no more lie.
pub(super) fn ended_key(signal: &str) -> String {
    format!("{SENT_KEY}ended/{signal}")
}
