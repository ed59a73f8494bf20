//! Deliveries: rows that go on to Firehose and Kinesis as they come in.
//!
//! ```text
//!  ingest: everything up to a log position is settled ─▶ follower, one a job ─▶ rows of the next positions (query engine)
//!                                                            ▲                        │ encode: envelope, or a JSON line a row
//!                             checkpoint: one durable put ───┘◀─── acknowledged ◀─── sink: PutRecordBatch, PutRecords
//!                                                            └──── refused, too large, too old ─▶ dead letters
//! ```
//!
//! In: jobs. A job is a subscription filter of a log group ([`Subscriptions`], from the receiver of CloudWatch Logs) or one of
//! `[[deliver.rows]]`. Out: records at a destination, a line in `DATA_DIR/deliver/dead-letters.ndjson` for what none will take,
//! sums in the ledger, in `/metrics` and in `/api/v1/status` ([`Report`]).
//!
//! # The rows are the outbox
//!
//! Every row has an `ingest_id`, its place in this node's log, and is kept by head and blocks whatever becomes of a destination.
//! So nothing is copied to a queue on disk: a follower asks the engine for the rows of the positions behind its checkpoint,
//! delivers them, and only then moves the checkpoint. The checkpoint is a state document like a log group's: durable in the log
//! ahead, restored by the same replay as the rows. A queue filled at ingest would cost each acknowledgement a second write, would
//! have to agree with the log after each crash, and would be full when a destination is away for a day; the lake is not. While a
//! destination takes what comes, all its rows are in the head, and no block is read.
//!
//! # Promises
//!
//! - A row that was acknowledged after its job began, and that matches, is delivered at least once, or is a dead letter, or was
//!   deleted or expired before. It is delivered twice only if the process dies between a destination's yes and the checkpoint (up
//!   to a page, [`PAGE_ROWS`]), if an answer was lost on its way, or where a job is changed or stopped while it tries again.
//! - Each node delivers what it took itself. One that catches up from blocks may also deliver rows of other nodes that have the
//!   same `ingest_id`s; what a node that is gone for good had not delivered stays undelivered, though not lost: it is in the lake.
//! - A stream that delivers into the same lake makes no loop: a row that came by a delivery stream does not go into the same stream, and
//!   [`crate::decode::firehose`] knows what a subscription filter of this lake sent. Both are counted and logged. (AWS only warns of such
//!   loops.) Not seen are loops over two lakes and two streams, and over a Kinesis stream that Firehose reads and unpacks on the way; one
//!   that Firehose unpacks itself stores each event a second time, and stops.
//! - Rows go out in order of event time within what is delivered together; those of a record that is tried again come later.
//! - Throttling, faults and silence are tried again, record by record where the service says which ([`crate::aws::wait_after`], at
//!   most [`Config::longest_wait_seconds`]). A wrong name or a missing right likewise, but more rarely: somebody may mend it. What
//!   could not be delivered for [`Config::give_up_hours`] becomes a dead letter once it is that old.
//! - Bounds: a page of rows in memory a job, [`sink::MAX_CALL_BYTES`] a call, [`Config::max_dead_letter_bytes`] on disk, then the
//!   oldest letters go. What waits for a destination is in the lake, bounded by its retention and by [`Config::give_up_hours`].
//!
//! Dead letters are sent again by hand ([`fn@retry`]).
//!
//! A delivery reads as a report does: it takes the place of no question that somebody waits for. Start at [`Deliveries::run`]; the
//! story of one page is `Follower::page`.

pub mod sink;
mod envelope;
mod checkpoint;
mod dead;
mod retry;
mod metrics;
mod lake;
mod follower;
mod service;
#[cfg(test)]
mod tests;

pub use envelope::control_message;
pub use lake::EngineLake;
pub use retry::{Retried, retry};
pub use service::{Deliveries, Parts, Report};

use std::collections::{BTreeMap, HashSet};

use crate::model::Table;
use sink::Destination;

/// Rows that are read and delivered together.
pub const PAGE_ROWS: usize = 2_500;
/// Jobs that `[[deliver.rows]]` may name.
const MAX_ROWS_JOBS: usize = 100;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Another address than AWS' own for Firehose and Kinesis, such as a test server's; empty: AWS, or what
    /// `AWS_ENDPOINT_URL_FIREHOSE`, `AWS_ENDPOINT_URL_KINESIS` and `AWS_ENDPOINT_URL` say.
    pub endpoint_url: String,
    /// Region of the requests; empty: the one in a destination's ARN, or what the AWS chain says.
    pub region: String,
    /// Milliseconds between two looks for new rows (500).
    pub every_millis: u64,
    /// Longest wait, in seconds, between two tries at a destination that is away (60).
    pub longest_wait_seconds: u64,
    /// Hours for which a delivery is tried (24, as at AWS); then it is a dead letter.
    pub give_up_hours: u64,
    /// Bytes of dead letters kept (256 MiB); then the older half goes.
    pub max_dead_letter_bytes: u64,
    /// Rows that are delivered by a query, each as one line of JSON (none).
    pub rows: Vec<RowsConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint_url: String::new(),
            region: String::new(),
            every_millis: 500,
            longest_wait_seconds: 60,
            give_up_hours: 24,
            max_dead_letter_bytes: 256 << 20,
            rows: Vec::new(),
        }
    }
}

/// One of `[[deliver.rows]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowsConfig {
    /// Its name, for ever: another name is another delivery, which begins with what comes from then on.
    pub name: String,
    /// `logs` (default) or `spans`.
    pub table: String,
    /// Which rows, in the search language; empty: all.
    pub query: String,
    /// Name of the Firehose stream.
    pub stream: String,
    /// Instead of `[deliver] endpoint_url`.
    pub endpoint_url: String,
    /// Instead of `[deliver] region`.
    pub region: String,
}

impl RowsConfig {
    fn table(&self) -> Option<Table> {
        match self.table.as_str() {
            "" | "logs" => Some(Table::Logs),
            "spans" => Some(Table::Spans),
            _ => None,
        }
    }
}

impl Config {
    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, value) in [("every_millis", self.every_millis), ("longest_wait_seconds", self.longest_wait_seconds)] {
            if value == 0 {
                problems.push(format!("[deliver] {key} must be positive"));
            }
        }
        if self.rows.len() > MAX_ROWS_JOBS {
            problems.push(format!("[deliver] rows: at most {MAX_ROWS_JOBS} are taken"));
        }
        let mut names = HashSet::new();
        for (number, rows) in self.rows.iter().enumerate() {
            let mut wrong = |what: String| problems.push(format!("[deliver] rows[{number}]: {what}"));
            let is_name = |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            if !is_name(&rows.name) {
                wrong(format!("name {:?} is not 1 to 64 letters, digits, dots, hyphens or underscores", rows.name));
            } else if !names.insert(&rows.name) {
                wrong(format!("name {:?} is given twice", rows.name));
            }
            if !is_name(&rows.stream) {
                wrong(format!("stream {:?} is not the name of a Firehose stream", rows.stream));
            }
            match rows.table() {
                None => wrong(format!("table {:?} is neither logs nor spans", rows.table)),
                Some(table) => {
                    if let Err(error) = crate::query::parse(&rows.query, table) {
                        wrong(format!("query: {error}"));
                    }
                }
            }
        }
        problems
    }
}

/// A log position of one node: what came later has a greater one.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Position {
    /// Whose log.
    pub node: String,
    /// Where in it.
    pub lsn: u64,
}

/// A subscription filter of a log group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The group.
    pub log_group: String,
    /// Unique in the group.
    pub name: String,
    /// When a filter of this name was made, milliseconds since the epoch: one that is made again is another.
    pub created_millis: i64,
    /// Which events: a filter pattern.
    pub pattern: String,
    /// Where to.
    pub destination: Destination,
    /// Whether records are spread at random over shards; otherwise a stream's go to one.
    pub is_random: bool,
    /// Whether events of this account and region are to be sent; those that come while they are not are passed by.
    pub is_for_us: bool,
    /// What each event says beside its text: names such as `@aws.region`, and what they are here.
    pub system_fields: BTreeMap<String, String>,
    /// From where on, on the node where it was made; elsewhere from where it is heard of.
    pub since: Position,
}

/// Who knows the subscription filters and the log groups that they are of.
pub trait Subscriptions: Send + Sync + std::fmt::Debug {
    /// All that there are.
    fn subscriptions(&self) -> Vec<Subscription>;
    /// Whether events that came to a stream at a time are there: the stream may have been deleted since.
    fn shows(&self, log_group: &str, log_stream: &str, ingestion_millis: i64) -> bool;
    /// The account of the events.
    fn account_id(&self) -> &str;
}
