//! One job, followed: the rows behind its checkpoint, page by page, until the destination has them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::checkpoint::{self, Checkpoint, Window};
use super::dead::{DeadLetters, Letter};
use super::envelope::{self, Encoded};
use super::lake::{Lake, Page};
use super::sink::{self, Destination, Fault, Record, Remedy, Sink, Sinks};
use super::{Subscription, Subscriptions, metrics};
use crate::aws::wait_after;
use crate::model::{Clock, Table};
use crate::query::filter_pattern::FilterPattern;
use crate::query::{Hit, Query};

/// A checkpoint that moved over nothing but other jobs' rows is kept no more often than this.
const KEEP_EVERY_NANOS: i64 = 10_000_000_000;

/// Why a row is not delivered of which no letter is kept: it came by the stream that it would go to.
pub(super) const CAME_FROM_THERE: &str = "came_from_there";

/// What is delivered, and where to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Task {
    Subscription(Subscription),
    Rows { table: Table, query: Query },
}

/// A delivery.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Its name, for people.
    pub(super) name: String,
    /// Tells it from an earlier one of that name.
    pub(super) id: String,
    pub(super) task: Task,
    pub(super) destination: Destination,
    /// Every row with this `ingest_id` or a smaller one came before it.
    pub(super) begins_after: i64,
}

impl Job {
    pub(super) fn table(&self) -> Table {
        match &self.task {
            Task::Subscription(_) => Table::Logs,
            Task::Rows { table, .. } => *table,
        }
    }

    fn looked_for(&self) -> Result<LookedFor, String> {
        Ok(match &self.task {
            Task::Subscription(one) => {
                let pattern = FilterPattern::parse(&one.pattern).map_err(|error| error.to_string())?;
                LookedFor {
                    query: Query::equals("@log_group", &one.log_group).and(pattern.prefilter()),
                    pattern: Some(pattern),
                }
            }
            Task::Rows { query, .. } => LookedFor {
                query: query.clone(),
                pattern: None,
            },
        })
    }
}

/// Which rows a job is for.
#[derive(Clone, Debug)]
struct LookedFor {
    query: Query,
    /// What events must match beside.
    pattern: Option<FilterPattern>,
}

/// How a job goes, as far as its checkpoint does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) checkpoint: Checkpoint,
    /// What went wrong last, until something goes well.
    pub(super) error: Option<String>,
    pub(super) delivered_at_nanos: Option<i64>,
}

/// What followers share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) lake: Arc<dyn Lake>,
    pub(super) sinks: Arc<dyn Sinks>,
    pub(super) known: Arc<dyn Subscriptions>,
    pub(super) dead: DeadLetters,
    pub(super) clock: Arc<dyn Clock>,
    /// Longest wait between tries.
    pub(super) longest_wait: Duration,
    pub(super) give_up_nanos: i64,
    /// What waits are multiplied with: 1, and less in tests.
    pub(super) wait_scale: f64,
}

/// It was told to stop.
#[derive(Debug)]
struct Stopped;

pub(super) struct Follower {
    pub(super) job: Job,
    pub(super) common: Arc<Common>,
    pub(super) progress: Arc<Mutex<Progress>>,
    pub(super) stop: CancellationToken,
    pub(super) kept_at_nanos: i64,
}

impl Follower {
    /// Follows until it is told to stop; `settled` says how far rows may be read.
    pub(super) async fn run(mut self, mut settled: watch::Receiver<i64>) {
        let looked_for = match self.job.looked_for() {
            Ok(looked_for) => looked_for,
            Err(error) => {
                // checked before it was kept: of another version
                self.progress.lock().error = Some(error);
                return self.stop.cancelled().await;
            }
        };
        let sink = self.common.sinks.open(&self.job.destination).await;
        let Ok(mut checkpoint) = self.begin().await else { return };
        loop {
            let window = match checkpoint.window {
                Some(window) => window,
                None => {
                    let up_to = *settled.borrow_and_update();
                    if up_to <= checkpoint.done {
                        tokio::select! {
                            () = self.stop.cancelled() => return,
                            changed = settled.changed() => if changed.is_err() { return },
                        }
                        continue;
                    }
                    Window { up_to, after: None }
                }
            };
            if self.page(sink.as_ref(), &looked_for, &mut checkpoint, window).await.is_err() || self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Where an earlier life came to, or the job's beginning.
    async fn begin(&self) -> Result<Checkpoint, Stopped> {
        let key = checkpoint::key(&self.job.name);
        let kept = self.common.lake.states(&key).into_iter().find(|(name, _)| *name == key);
        let kept = kept.and_then(|(_, bytes)| {
            let read = serde_json::from_slice::<Checkpoint>(&bytes);
            let told = read.inspect_err(|error| {
                let job = &self.job.name;
                tracing::error!(job, %error, "how far a delivery came cannot be read: a filter's begins anew, and what it had delivered comes again; one of rows goes on from this start");
            });
            told.ok()
        });
        let checkpoint = match kept {
            Some(kept) if kept.job == self.job.id => kept,
            _ => {
                let mut first = Checkpoint {
                    job: self.job.id.clone(),
                    done: self.job.begins_after,
                    ..Checkpoint::default()
                };
                first.sent.signal = self.job.table().signal().name().to_string();
                self.keep(&first).await?;
                first
            }
        };
        self.progress.lock().checkpoint = checkpoint.clone();
        Ok(checkpoint)
    }

    /// One page of a window: read, encoded, delivered, and only then passed by the checkpoint.
    async fn page(&mut self, sink: &dyn Sink, looked_for: &LookedFor, checkpoint: &mut Checkpoint, window: Window) -> Result<(), Stopped> {
        let Page { hits, next } = self.read(looked_for, checkpoint.done, window).await?;
        let encoded = if hits.is_empty() {
            Encoded::default()
        } else {
            self.encode(looked_for, hits).await?
        };
        let came_from_there = encoded.came_from_there;
        let has_records = !encoded.records.is_empty() || !encoded.too_large.is_empty() || came_from_there > 0;
        let too_large = encoded
            .too_large
            .into_iter()
            .map(|record| self.letter("too_large", "the record is larger than any destination takes", record));
        let mut letters: Vec<Letter> = too_large.collect();
        let delivered = self.deliver(sink, checkpoint, encoded.records, &mut letters).await?;
        for letter in &letters {
            *checkpoint.sent.undelivered.entry(letter.reason.to_string()).or_default() += letter.record.rows;
            metrics::dead(letter.reason, letter.record.rows);
        }
        self.common.dead.write(letters, self.common.clock.now_nanos()).await;
        self.note_loop(checkpoint, came_from_there);
        checkpoint.sent.delivered += delivered;
        metrics::delivered(delivered);
        match next {
            Some(cursor) => {
                let after = Some((cursor.time_unix_nano, cursor.ingest_id));
                checkpoint.window = Some(Window { after, ..window });
            }
            None => {
                checkpoint.window = None;
                checkpoint.done = window.up_to;
            }
        }
        let now_nanos = self.common.clock.now_nanos();
        if has_records {
            self.keep(checkpoint).await?;
            self.kept_at_nanos = now_nanos;
        } else if now_nanos.saturating_sub(self.kept_at_nanos) >= KEEP_EVERY_NANOS {
            // a crash would only have it look again at rows that it has nothing to do with
            self.common.lake.put_relaxed(&checkpoint::key(&self.job.name), checkpoint.to_bytes());
            self.kept_at_nanos = now_nanos;
        }
        let mut progress = self.progress.lock();
        progress.checkpoint = checkpoint.clone();
        progress.error = progress.error.take().filter(|_| checkpoint.failing_since_nanos.is_some());
        if delivered > 0 {
            progress.delivered_at_nanos = Some(now_nanos);
        }
        Ok(())
    }

    /// Rows of the window, as soon as they can be read.
    async fn read(&self, looked_for: &LookedFor, done: i64, window: Window) -> Result<Page, Stopped> {
        let table = self.job.table();
        let mut attempts = 0;
        loop {
            let positions = done.saturating_add(1)..=window.up_to;
            let read = tokio::select! {
                () = self.stop.cancelled() => return Err(Stopped),
                read = self.common.lake.page(table, &looked_for.query, positions, window.cursor()) => read,
            };
            match read {
                Ok(page) => return Ok(page),
                Err(error) => {
                    attempts += 1;
                    self.progress.lock().error = Some(format!("rows cannot be read: {error}"));
                    self.wait(attempts, Remedy::Retry).await?;
                }
            }
        }
    }

    async fn encode(&self, looked_for: &LookedFor, hits: Vec<Hit>) -> Result<Encoded, Stopped> {
        let (job, common, pattern, node) = (self.job.clone(), self.common.clone(), looked_for.pattern.clone(), self.common.lake.node());
        let work = tokio::task::spawn_blocking(move || match (&job.task, &pattern) {
            (Task::Subscription(one), Some(pattern)) => envelope::of_subscription(one, pattern, common.known.as_ref(), &node, hits),
            _ => envelope::of_rows(&job.destination, &hits),
        });
        match work.await {
            Ok(encoded) => Ok(encoded),
            // the job begins again with its next look
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Stopped),
        }
    }

    /// Delivers records until each is taken or a letter; the rows of those that were taken.
    async fn deliver(&self, sink: &dyn Sink, checkpoint: &mut Checkpoint, records: Vec<Record>, letters: &mut Vec<Letter>) -> Result<u64, Stopped> {
        let mut calls: VecDeque<Vec<Record>> = sink::calls(records).into();
        let (mut delivered, mut attempts, mut has_succeeded) = (0, 0, false);
        while let Some(call) = calls.pop_front() {
            let (failed, fault) = match sink.put(&call).await {
                Ok(taken) => {
                    let mut failed = Vec::new();
                    let mut fault = None;
                    let n_sent = call.len();
                    for (record, result) in call.into_iter().zip(taken) {
                        match result {
                            Ok(()) => delivered += record.rows,
                            Err(why) => {
                                failed.push(record);
                                fault = Some(why);
                            }
                        }
                    }
                    if failed.len() < n_sent {
                        (has_succeeded, attempts) = (true, 0);
                    }
                    (failed, fault)
                }
                Err(fault) => (call, Some(fault)),
            };
            let Some(fault) = fault else { continue };
            match fault.remedy {
                Remedy::Nothing if failed.len() > 1 => {
                    // which of them is wrong, the destination does not say
                    let mut first = failed;
                    let second = first.split_off(first.len() / 2);
                    calls.push_front(second);
                    calls.push_front(first);
                    continue;
                }
                Remedy::Nothing => {
                    letters.extend(failed.into_iter().map(|record| self.letter("refused", &fault.message, record)));
                    continue;
                }
                Remedy::Retry | Remedy::Mend => {}
            }
            attempts += 1;
            self.note_failure(checkpoint, &fault, attempts);
            let (too_old, again): (Vec<Record>, Vec<Record>) = failed.into_iter().partition(|record| self.is_too_old(checkpoint, record));
            letters.extend(too_old.into_iter().map(|record| self.letter("too_old", &fault.message, record)));
            if !again.is_empty() {
                calls.push_front(again);
                self.wait(attempts, fault.remedy).await?;
            }
        }
        if has_succeeded {
            checkpoint.failing_since_nanos = None;
        }
        Ok(delivered)
    }

    /// Counts rows that came by the stream that they would go to.
    fn note_loop(&self, checkpoint: &mut Checkpoint, rows: u64) {
        if rows == 0 {
            return;
        }
        let known = checkpoint.sent.undelivered.entry(CAME_FROM_THERE.to_string()).or_default();
        if *known == 0 {
            let (job, destination) = (&self.job.name, &self.job.destination);
            tracing::warn!(job, %destination, rows, "rows came by the delivery stream that they would go to; they are not sent round again, and counted");
        }
        *known += rows;
        metrics::not_sent(CAME_FROM_THERE, rows);
    }

    fn note_failure(&self, checkpoint: &mut Checkpoint, fault: &Fault, attempts: u32) {
        let is_first = checkpoint.failing_since_nanos.is_none();
        if is_first {
            checkpoint.failing_since_nanos = Some(self.common.clock.now_nanos());
            // of the page itself nothing is passed yet
            self.common.lake.put_relaxed(&checkpoint::key(&self.job.name), checkpoint.to_bytes());
        }
        let mut progress = self.progress.lock();
        progress.error = Some(fault.message.clone());
        progress.checkpoint.failing_since_nanos = checkpoint.failing_since_nanos;
        drop(progress);
        let (job, destination) = (&self.job.name, &self.job.destination);
        if is_first || attempts == 1 {
            tracing::warn!(job, %destination, error = fault.message, "a destination does not take records; trying again");
        }
    }

    /// Whether it is too late for a record: it came long ago, and the destination has taken nothing for as long.
    fn is_too_old(&self, checkpoint: &Checkpoint, record: &Record) -> bool {
        let now_nanos = self.common.clock.now_nanos();
        let long_ago = |nanos: i64| now_nanos.saturating_sub(nanos) >= self.common.give_up_nanos;
        long_ago(record.newest_nanos) && checkpoint.failing_since_nanos.is_some_and(long_ago)
    }

    fn letter(&self, reason: &'static str, error: &str, record: Record) -> Letter {
        Letter {
            job: self.job.name.clone(),
            destination: self.job.destination.clone(),
            reason,
            error: error.to_string(),
            record,
        }
    }

    /// Keeps the checkpoint, for as long as that takes.
    async fn keep(&self, checkpoint: &Checkpoint) -> Result<(), Stopped> {
        let mut attempts = 0;
        while let Err(error) = self.common.lake.put(&checkpoint::key(&self.job.name), Some(checkpoint.to_bytes())).await {
            attempts += 1;
            self.progress.lock().error = Some(format!("the checkpoint cannot be kept: {error}"));
            self.wait(attempts, Remedy::Retry).await?;
        }
        Ok(())
    }

    async fn wait(&self, attempts: u32, remedy: Remedy) -> Result<(), Stopped> {
        let wait = wait_after(attempts, remedy == Remedy::Retry).min(self.common.longest_wait);
        let wait = wait.mul_f64(rand::random_range(0.8..1.2) * self.common.wait_scale);
        tokio::select! {
            () = self.stop.cancelled() => Err(Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}
