//! The queries that were started: those that wait, run, and have ended, with their results.
//!
//! A query is a task of its own. It waits for a place (`Scheduled`), runs (`Running`, with what is known so far) and ends once:
//! `Complete`, `Failed`, `Timeout`, or `Cancelled` by a call. A panic in it is caught and is a `Failed`.
//!
//! Results are kept in memory, not on disk: for [`Config::keep_hours`], and within [`Config::max_results_bytes`]; then those that
//! nobody has asked for the longest go first. A query that is gone, also by a restart, is unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::super::answer::request_id;
use super::super::super::{aside, metrics};
use super::super::error::{Error, Result};
use crate::access::{AccessKey, Caller};
use crate::model::Clock;
use crate::query::Engine;
use crate::query::insights::{Answer, Failed, Plan, Progress, RunError, Scanned, SqlPlan, run, run_sql};
use crate::supervise;

/// Queries in SQL that are scheduled or running at once, as at AWS.
const MAX_SQL_QUERIES: usize = 15;
/// What a query takes beside its rows: text, names, books.
const QUERY_BYTES: usize = 1_024;
/// What a value takes beside its text.
const VALUE_BYTES: usize = 40;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Queries that are scheduled or running at once (100, as at AWS, and the most); at the bound `StartQuery` answers
    /// `LimitExceededException`. In SQL never more than 15, as there. Those that are scheduled hold their text alone.
    pub max_queries: usize,
    /// Of these, those that run (4); the others are `Scheduled`.
    pub max_running: usize,
    /// Memory of the rows, groups and values that one running query holds (128 MiB); one that needs more ends as `Failed`.
    pub memory_bytes: usize,
    /// Seconds after which a running query ends as `Timeout` (3,600, as at AWS).
    pub timeout_seconds: u64,
    /// Memory of the results of all queries that have ended (128 MiB); those not asked for the longest go first.
    pub max_results_bytes: usize,
    /// Hours for which results are kept (168, as at AWS).
    pub keep_hours: u32,
    /// Folder of the tables that `lookup` and `cidrlookup` ask: each a CSV file, `NAME.csv`, read when a query begins; empty: there are
    /// none.
    pub lookup_folder: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_queries: 100,
            max_running: 4,
            memory_bytes: 128 << 20,
            timeout_seconds: 3_600,
            max_results_bytes: 128 << 20,
            keep_hours: 168,
            lookup_folder: String::new(),
        }
    }
}

impl Config {
    /// How long a query may run.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=100).contains(&self.max_queries) {
            problems.push(format!("insights.max_queries: {} is not from 1 to 100", self.max_queries));
        }
        if self.max_running == 0 {
            problems.push("insights.max_running: 0 would run no query".into());
        }
        if !(1..=3_600).contains(&self.timeout_seconds) {
            problems.push(format!("insights.timeout_seconds: {} is not from 1 to 3600", self.timeout_seconds));
        }
        if !(1..=168).contains(&self.keep_hours) {
            problems.push(format!("insights.keep_hours: {} is not from 1 to 168", self.keep_hours));
        }
        problems
    }
}

/// What a query is doing, in the service's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Scheduled,
    Running,
    Complete,
    Failed,
    Cancelled,
    Timeout,
}

impl Status {
    /// As clients write it. `Unknown` is none of ours.
    pub(super) const NAMES: [&'static str; 7] = ["Scheduled", "Running", "Complete", "Failed", "Cancelled", "Timeout", "Unknown"];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn has_ended(self) -> bool {
        !matches!(self, Status::Scheduled | Status::Running)
    }
}

/// In what a query is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Cwli,
    Sql,
}

impl Language {
    /// As clients write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Language::Cwli => "CWLI",
            Language::Sql => "SQL",
        }
    }
}

/// What is run.
#[derive(Debug)]
pub(super) enum Work {
    Script(Plan),
    Sql(SqlPlan),
}

/// One row: fields and values as they are shown.
pub(super) type Row = Vec<(Arc<str>, String)>;

/// What was asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) text: String,
    pub(super) language: Language,
    /// Of the query and all that is in it.
    pub(super) groups: Vec<String>,
    /// The name of the key that asked, if it signed.
    pub(super) key: Option<String>,
}

/// One query.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    /// Grows with each query.
    pub(super) number: u64,
    pub(super) asked: Asked,
    pub(super) created_millis: i64,
    progress: Progress,
    cancel: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    status: Status,
    rows: Arc<Vec<Row>>,
    n_matched: u64,
    began_millis: Option<i64>,
    ended_millis: Option<i64>,
}

/// A query as it is now.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) rows: Arc<Vec<Row>>,
    pub(super) n_matched: u64,
    pub(super) scanned: Scanned,
    pub(super) duration_millis: i64,
}

impl Job {
    /// Whether all groups of the query are open to a caller; one that found no group is its asker's.
    pub(super) fn is_open_to(&self, caller: &Caller) -> bool {
        let is_askers = || self.asked.key.as_deref() == caller.key().map(AccessKey::name);
        !caller.is_restricted() || (self.asked.groups.iter().all(|group| caller.is_for_group(group)) && (!self.asked.groups.is_empty() || is_askers()))
    }

    /// One that was stopped is cancelled from then on, though its task may take a moment to end.
    pub(super) fn status(&self) -> Status {
        let status = self.state.lock().status;
        if !status.has_ended() && self.cancel.is_cancelled() {
            Status::Cancelled
        } else {
            status
        }
    }

    /// How it stands, without its rows where they are to be made first.
    fn seen(&self, now_millis: i64) -> Seen {
        let status = self.status();
        let state = self.state.lock();
        let began = state.began_millis.unwrap_or(now_millis);
        Seen {
            status,
            rows: state.rows.clone(),
            n_matched: state.n_matched,
            scanned: self.progress.scanned(),
            duration_millis: state.ended_millis.unwrap_or(now_millis).saturating_sub(began).max(0),
        }
    }
}

/// All queries.
#[derive(Debug)]
pub(in crate::receive::awslogs) struct Queries {
    config: Config,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    jobs: HashMap<String, Arc<Job>>,
    last_number: u64,
    n_unended: usize,
    /// Of these, those in SQL.
    n_unended_sql: usize,
    /// Those that have ended, and their bytes; the one used last at the end.
    ended: Vec<(String, usize)>,
    ended_bytes: usize,
}

impl Book {
    fn use_now(&mut self, id: &str) {
        if let Some(at) = self.ended.iter().position(|(known, _)| known == id) {
            let used = self.ended.remove(at);
            self.ended.push(used);
        }
    }

    fn forget(&mut self, is_too_old: impl Fn(&Job) -> bool, max_bytes: usize) {
        let mut spare = self.ended_bytes.saturating_sub(max_bytes);
        let (jobs, freed) = (&mut self.jobs, &mut 0);
        self.ended.retain(|(id, bytes)| {
            if spare == 0 && !jobs.get(id).is_none_or(|job| is_too_old(job)) {
                return true;
            }
            jobs.remove(id);
            spare = spare.saturating_sub(*bytes);
            *freed += *bytes;
            false
        });
        self.ended_bytes -= *freed;
    }
}

impl Queries {
    pub(in crate::receive::awslogs) fn new(config: Config, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(config.max_running.max(1))),
            config,
            clock,
            book: Mutex::default(),
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    fn now_millis(&self) -> i64 {
        self.clock.now_nanos().div_euclid(1_000_000)
    }

    /// Starts a query; its ID.
    pub(super) fn start(self: &Arc<Self>, asked: Asked, work: Work, engine: Engine) -> Result<String> {
        let now_millis = self.now_millis();
        let job = {
            let mut book = self.book.lock();
            if book.n_unended >= self.config.max_queries {
                return Err(Error::LimitExceeded(format!(
                    "Account maximum query concurrency limit of [{}] reached.",
                    self.config.max_queries
                )));
            }
            if asked.language == Language::Sql {
                if book.n_unended_sql >= MAX_SQL_QUERIES {
                    return Err(Error::LimitExceeded(format!(
                        "Account maximum query concurrency limit of [{MAX_SQL_QUERIES}] reached for queries in SQL."
                    )));
                }
                book.n_unended_sql += 1;
            }
            book.n_unended += 1;
            book.last_number += 1;
            let job = Arc::new(Job {
                id: request_id(),
                number: book.last_number,
                asked,
                created_millis: now_millis,
                progress: Progress::default(),
                cancel: CancellationToken::new(),
                state: Mutex::new(State {
                    status: Status::Scheduled,
                    rows: Arc::default(),
                    n_matched: 0,
                    began_millis: None,
                    ended_millis: None,
                }),
            });
            book.jobs.insert(job.id.clone(), job.clone());
            job
        };
        let id = job.id.clone();
        let queries = self.clone();
        tokio::spawn(async move {
            let (status, rows, n_matched) = match supervise::caught("insights_query", queries.work(&job, &work, &engine)).await {
                Ok(end) => end,
                Err(_) => (Status::Failed, Vec::new(), 0),
            };
            queries.end(&job, status, rows, n_matched);
        });
        Ok(id)
    }

    /// Waits, runs, and gives how it ended.
    async fn work(&self, job: &Job, work: &Work, engine: &Engine) -> (Status, Vec<Row>, u64) {
        let place = tokio::select! {
            () = job.cancel.cancelled() => return (Status::Cancelled, Vec::new(), 0),
            place = self.places.acquire() => place,
        };
        {
            let mut state = job.state.lock();
            state.status = Status::Running;
            state.began_millis = Some(self.now_millis());
        }
        let running = async {
            match work {
                Work::Script(plan) => {
                    let answer = run(engine, plan, &job.progress).await?;
                    let n_matched = answer.n_matched;
                    Ok((rendered(Arc::new(answer)).await, n_matched))
                }
                Work::Sql(plan) => {
                    let rows = run_sql(engine, plan, &job.progress).await?;
                    let n_matched = rows.len() as u64;
                    Ok((rows, n_matched))
                }
            }
        };
        let running = tokio::time::timeout(self.config.patience(), running);
        let ended = tokio::select! {
            () = job.cancel.cancelled() => None,
            ended = running => Some(ended),
        };
        drop(place);
        match ended {
            Some(Ok(Ok((rows, n_matched)))) => (Status::Complete, rows, n_matched),
            Some(Ok(Err(error))) => {
                match &error {
                    RunError::Failed(Failed::Memory { .. } | Failed::TooMany { .. } | Failed::InnerTime { .. }) => {
                        tracing::info!(query = job.id, %error, "a query failed")
                    }
                    _ => tracing::warn!(query = job.id, %error, "a query failed"),
                }
                (Status::Failed, Vec::new(), 0)
            }
            Some(Err(_)) => self.as_far(job, Status::Timeout).await,
            None => self.as_far(job, Status::Cancelled).await,
        }
    }

    /// The end of a query that was cut short: what was known last.
    async fn as_far(&self, job: &Job, status: Status) -> (Status, Vec<Row>, u64) {
        let partial = job.progress.partial();
        let n_matched = partial.n_matched;
        (status, rendered(partial).await, n_matched)
    }

    fn end(&self, job: &Job, mut status: Status, mut rows: Vec<Row>, n_matched: u64) {
        let value_bytes = |row: &Row| row.iter().map(|(_, value)| value.len() + VALUE_BYTES).sum::<usize>();
        let mut bytes = QUERY_BYTES + job.asked.text.len() + rows.iter().map(value_bytes).sum::<usize>();
        if bytes > self.config.max_results_bytes {
            let max_bytes = self.config.max_results_bytes;
            tracing::info!(
                query = job.id,
                bytes,
                max_bytes,
                "a query failed: its results take more than insights.max_results_bytes"
            );
            (status, rows, bytes) = (Status::Failed, Vec::new(), QUERY_BYTES);
        }
        if job.cancel.is_cancelled() {
            // as the call was told
            status = Status::Cancelled;
        }
        metrics::insights_ended(status.name());
        let now_millis = self.now_millis();
        {
            let mut state = job.state.lock();
            state.status = status;
            state.rows = Arc::new(rows);
            state.n_matched = n_matched;
            state.ended_millis = Some(now_millis);
        }
        let mut book = self.book.lock();
        book.n_unended -= 1;
        book.n_unended_sql -= usize::from(job.asked.language == Language::Sql);
        book.ended.push((job.id.clone(), bytes));
        book.ended_bytes += bytes;
        self.tidy(&mut book, now_millis);
    }

    fn tidy(&self, book: &mut Book, now_millis: i64) {
        let since = now_millis.saturating_sub(i64::from(self.config.keep_hours) * 3_600_000);
        book.forget(|job| job.created_millis < since, self.config.max_results_bytes);
    }

    /// A query that is open to the caller, which is thereby used.
    pub(super) fn find(&self, id: &str, caller: &Caller) -> Result<Arc<Job>> {
        let mut book = self.book.lock();
        self.tidy(&mut book, self.now_millis());
        let job = book.jobs.get(id).filter(|job| job.is_open_to(caller)).cloned().ok_or(Error::QueryNotFound)?;
        book.use_now(id);
        Ok(job)
    }

    /// How a query stands, with the rows that are known.
    pub(super) async fn see(&self, job: &Job) -> Seen {
        let mut seen = job.seen(self.now_millis());
        if seen.status == Status::Running {
            let partial = job.progress.partial();
            seen.n_matched = partial.n_matched;
            seen.rows = Arc::new(rendered(partial).await);
        }
        seen
    }

    /// How a query stands, but for its rows.
    pub(super) fn glance(&self, job: &Job) -> Seen {
        job.seen(self.now_millis())
    }

    /// Ends a query; [`Error::InvalidParameter`] if it has ended.
    pub(super) fn stop(&self, job: &Job) -> Result<()> {
        if job.status().has_ended() {
            return Err(Error::InvalidParameter("The specified query is not running.".into()));
        }
        job.cancel.cancel();
        Ok(())
    }

    /// All that are open to the caller, newest first, of those older than number `before`.
    pub(super) fn list(&self, caller: &Caller, before: Option<u64>) -> Vec<Arc<Job>> {
        let mut book = self.book.lock();
        self.tidy(&mut book, self.now_millis());
        let open = |job: &&Arc<Job>| job.is_open_to(caller) && before.is_none_or(|before| job.number < before);
        let mut jobs: Vec<Arc<Job>> = book.jobs.values().filter(open).cloned().collect();
        jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.number));
        jobs
    }
}

/// The rows of an answer as they are shown.
async fn rendered(answer: Arc<Answer>) -> Vec<Row> {
    let render = move || answer.rows.iter().map(|row| row.rendered()).collect();
    aside(render).await
}

#[cfg(test)]
mod tests;
