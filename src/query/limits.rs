//! The bounds of queries, and the gate that holds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Priority;
use super::{Error, Result};
use crate::storage::Demand;

/// A day: no question takes longer.
const MAX_TIMEOUT_SECONDS: u64 = 86_400;

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Searches, counts, traces and the like that run at once (4).
    pub max_concurrent: usize,
    /// SQL statements, and facets over many rows, that run at once beside them (2).
    pub max_concurrent_batch: usize,
    /// Queries of each kind that wait for a place; more are refused as busy (64).
    pub max_queued: usize,
    /// Seconds a query may take, waiting for a place included; then it answers with what it has (30).
    pub timeout_seconds: u64,
    /// Hits of one page (10,000).
    pub max_limit: usize,
    /// Rows of one SQL answer (100,000).
    pub max_sql_rows: usize,
    /// Memory of the rows of one answer (64 MiB): a page, a trace or a SQL answer ends there, and says so.
    pub max_answer_bytes: usize,
    /// Memory of one SQL statement (256 MiB); what sorts and groups more goes on in files under the data directory.
    pub sql_memory_bytes: usize,
    /// Bytes of those files, of one statement (4 GiB); 0 = none: then a statement that needs more memory fails.
    pub sql_spill_bytes: u64,
    /// Spans of one trace that are shown (100,000).
    pub max_trace_spans: usize,
    /// Log records of one trace that are shown (20,000).
    pub max_trace_logs: usize,
    /// Traces that one `trace:(…)` or `log:(…)` of a question may mean (50,000), with 40 spans each on average; more are an error.
    pub max_anchor_traces: usize,
    /// Groups of one count (100,000); rows of further groups are summed up as "other".
    pub max_groups: usize,
    /// Blocks kept open (512).
    pub max_open_blocks: usize,
    /// Heap bytes of open blocks, mapped files not counted (128 MiB).
    pub open_block_bytes: usize,
    /// Pages of blocks kept decompressed for reads of single rows (64 MiB).
    pub page_cache_bytes: usize,
    /// Tokens of blocks kept for questions about pieces of words (64 MiB), once one has looked through them: a quarter for charts that say
    /// where to look, the rest for whole texts; of a block whose tokens take more than half of that rest the chart alone.
    pub token_cache_bytes: usize,
    /// Rows of blocks kept as they were answered, for whoever asks again (16 MiB).
    pub row_cache_bytes: usize,
    /// Threads that compute for searches, and as many for SQL; 0 = as many as there are cores (0).
    pub threads: usize,
    /// Live tails at once (16); more are refused.
    pub max_tails: usize,
    /// Log lines or spans a live tail shows a second (1,000).
    pub tail_rows_per_second: usize,
}

impl Config {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.max_limit == 0 || self.max_sql_rows == 0 {
            problems.push("[query] max_limit and max_sql_rows must be positive".into());
        }
        if !(1..=MAX_TIMEOUT_SECONDS).contains(&self.timeout_seconds) {
            problems.push(format!("[query] timeout_seconds must be from 1 to {MAX_TIMEOUT_SECONDS}"));
        }
        problems
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_concurrent: 4,
            max_concurrent_batch: 2,
            max_queued: 64,
            timeout_seconds: 30,
            max_limit: 10_000,
            max_sql_rows: 100_000,
            max_answer_bytes: 64 << 20,
            sql_memory_bytes: 256 << 20,
            sql_spill_bytes: 4 << 30,
            max_trace_spans: 100_000,
            max_trace_logs: 20_000,
            max_anchor_traces: 50_000,
            max_groups: 100_000,
            max_open_blocks: 512,
            open_block_bytes: 128 << 20,
            page_cache_bytes: 64 << 20,
            token_cache_bytes: 64 << 20,
            row_cache_bytes: 16 << 20,
            threads: 0,
            max_tails: 16,
            tail_rows_per_second: 1_000,
        }
    }
}

/// Lets so many queries run, so many wait, and refuses the rest; batch queries take no interactive one's place.
#[derive(Debug)]
pub(super) struct Gate {
    interactive: Places,
    batch: Places,
}

impl Gate {
    pub(super) fn new(config: &Config) -> Self {
        let places = |running: usize| Places {
            running: Arc::new(Semaphore::new(running.max(1))),
            waiting: AtomicUsize::new(0),
            max_queued: config.max_queued,
        };
        Self {
            interactive: places(config.max_concurrent),
            batch: places(config.max_concurrent_batch),
        }
    }

    /// Waits for a place until `patience` is over.
    pub(super) async fn enter(&self, priority: Priority, patience: Duration) -> Result<OwnedSemaphorePermit> {
        match priority {
            Priority::Interactive => self.interactive.enter(patience).await,
            Priority::Batch => self.batch.enter(patience).await,
        }
    }
}

/// The places of queries of one priority.
#[derive(Debug)]
struct Places {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_queued: usize,
}

/// Counts one waiting query until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Places {
    /// Waits for a place until `patience` is over.
    async fn enter(&self, patience: Duration) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let ahead = self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(&self.waiting);
        if ahead >= self.max_queued {
            return Err(Error::Busy { queued: ahead });
        }
        let permit = tokio::time::timeout(patience, self.running.clone().acquire_owned()).await;
        drop(waiting);
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Error::Busy { queued: ahead + 1 }),
        }
    }
}

/// When and why a query's work ends early, and what it has read. Cheap to clone; the work on other threads looks at it
/// between batches.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    cancelled: Arc<AtomicBool>,
    deadline: Instant,
    read_bytes: Arc<AtomicU64>,
    demand: Arc<Demand>,
}

/// Cancels the work of a query whose future is dropped.
#[derive(Debug)]
pub(super) struct StopGuard(Arc<AtomicBool>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stop {
    pub(super) fn after(patience: Duration) -> (Stop, StopGuard) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let deadline = Instant::now() + patience;
        let ended = cancelled.clone();
        let stop = Stop {
            cancelled: cancelled.clone(),
            deadline,
            read_bytes: Arc::default(),
            demand: Demand::new(move || ended.load(Ordering::Relaxed) || Instant::now() >= deadline),
        };
        (stop, StopGuard(cancelled))
    }

    /// Whether the work must end: nobody waits for it, or its time is up.
    pub(super) fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }

    /// Notes (an estimate of) bytes read from a block.
    pub(super) fn has_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The same end, for a part of the work whose bytes are counted by themselves.
    pub(super) fn counted_apart(&self) -> Stop {
        Stop {
            read_bytes: Arc::default(),
            ..self.clone()
        }
    }

    /// The bytes noted since this was last asked.
    pub(super) fn take_read_bytes(&self) -> u64 {
        self.read_bytes.swap(0, Ordering::Relaxed)
    }

    /// On whose behalf the work reads objects.
    pub(super) fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_busy_and_a_free_place_is_taken() {
        let gate = Gate::new(&Config {
            max_concurrent: 1,
            max_concurrent_batch: 1,
            max_queued: 0,
            ..Config::default()
        });
        let first = gate.enter(Priority::Interactive, Duration::ZERO).await.expect("a free place");
        assert!(matches!(
            gate.enter(Priority::Interactive, Duration::from_secs(1)).await,
            Err(Error::Busy { .. })
        ));
        let batch = gate.enter(Priority::Batch, Duration::ZERO).await.expect("a place of its own");
        assert!(matches!(gate.enter(Priority::Batch, Duration::from_secs(1)).await, Err(Error::Busy { .. })));
        drop(first);
        assert!(gate.enter(Priority::Interactive, Duration::ZERO).await.is_ok());
        drop(batch);
    }

    #[test]
    fn a_dropped_guard_stops_the_work() {
        let (stop, guard) = Stop::after(Duration::from_secs(60));
        assert!(!stop.is_over());
        drop(guard);
        assert!(stop.is_over());
    }
}
