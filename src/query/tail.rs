//! Rows as they are acknowledged, for those who watch.
//!
//! ```text
//!  every batch ─▶ take_in: at once ─▶ a queue of a few batches ─▶ watch: matched on a thread aside ─▶ events ─▶ reader
//!                      └─ queue full: its rows are counted as dropped          └─ reader behind: counted as dropped
//! ```
//!
//! What is dropped is told in rows: those that matched and were too many, and those that nobody had the time to look at.
//! Batches are taken at once, because one that a tail has not taken stays in memory for all of them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{AsArray, UInt32Array};
use arrow::datatypes::Int64Type;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::TailEvent;
use super::filter::Filter;
use super::hit::Hit;
use super::pool::Workers;
use super::scan::{self, Chunk};
use super::{Result, metrics};
use crate::model::{Batch, Rows, Table};

/// Events come no more often than this.
const INTERVAL: Duration = Duration::from_millis(250);
/// Events that may wait for a slow reader; what comes meanwhile is dropped and counted.
const QUEUE: usize = 4;
/// Batches that may wait to be matched. (Few in tests, which publish more at once.)
const WAITING_BATCHES: usize = if cfg!(test) { 4 } else { 64 };
/// Memory of the rows of one event; further ones are dropped and counted.
const EVENT_BYTES: usize = 4 << 20;
/// Rows read whole at a time, so that large ones do not go far beyond that.
const ROWS_AT_ONCE: usize = 16;

/// `dropped` rows matched, and were more than a tail shows.
const RATE_CAP: &str = "rate cap";
/// `dropped` rows came faster than they could be matched or handed over.
const SLOW_READER: &str = "slow reader";

/// New rows that match, at most one event every 250 ms; ends when the source does. Dropping it ends the work behind it.
#[derive(Debug)]
pub struct Tail {
    events: mpsc::Receiver<TailEvent>,
}

impl Stream for Tail {
    type Item = TailEvent;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TailEvent>> {
        self.events.poll_recv(context)
    }
}

impl Tail {
    /// The next event; `None` once the source has ended.
    pub async fn next_event(&mut self) -> Option<TailEvent> {
        self.events.recv().await
    }

    /// Watches batches; must be called inside a tokio runtime. The permit is given back when the work has ended.
    pub(super) fn start(
        batches: broadcast::Receiver<Arc<Batch>>,
        table: Table,
        filter: Filter,
        rows_per_second: usize,
        workers: Workers,
        permit: OwnedSemaphorePermit,
    ) -> Tail {
        let (sender, events) = mpsc::channel(QUEUE);
        let (queue, waiting) = mpsc::channel(WAITING_BATCHES);
        let missed = Arc::new(Missed::default());
        let matching = Arc::new(Matching {
            table,
            filter,
            workers,
            rows_per_event: (rows_per_second / (1_000 / INTERVAL.as_millis() as usize)).max(1),
        });
        tokio::spawn(take_in(batches, table, queue, missed.clone()));
        tokio::spawn(async move {
            watch(waiting, matching, missed, sender).await;
            drop(permit);
        });
        Tail { events }
    }
}

/// What was not looked at since the last event.
#[derive(Debug, Default)]
struct Missed {
    rows: AtomicU64,
    batches: AtomicU64,
}

/// Takes every batch as it comes, and keeps those that have rows of the table as far as there is room.
async fn take_in(mut batches: broadcast::Receiver<Arc<Batch>>, table: Table, queue: mpsc::Sender<Arc<Batch>>, missed: Arc<Missed>) {
    loop {
        let batch = tokio::select! {
            () = queue.closed() => return,
            batch = batches.recv() => batch,
        };
        match batch {
            Ok(batch) => {
                let n_rows: usize = batch.rows.iter().filter(|rows| rows.table() == table).map(|rows| rows.len()).sum();
                if n_rows > 0 && queue.try_send(batch).is_err() {
                    missed.rows.fetch_add(n_rows as u64, Ordering::Relaxed);
                }
            }
            Err(broadcast::error::RecvError::Lagged(n_batches)) => {
                missed.batches.fetch_add(n_batches, Ordering::Relaxed);
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn watch(mut waiting: mpsc::Receiver<Arc<Batch>>, matching: Arc<Matching>, missed: Arc<Missed>, sender: mpsc::Sender<TailEvent>) {
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gathered = Gathered::default();
    loop {
        let has_ended = tokio::select! {
            () = sender.closed() => return,
            batch = waiting.recv() => match batch {
                Some(batch) => {
                    gathered = matching.gather_aside(batch, gathered).await;
                    false
                }
                None => true,
            },
            _ = ticks.tick() => {
                send(&sender, &mut gathered, &missed);
                false
            }
        };
        if has_ended {
            send(&sender, &mut gathered, &missed);
            return;
        }
    }
}

/// The next event so far.
#[derive(Debug, Default)]
struct Gathered {
    event: TailEvent,
    bytes: usize,
}

/// Hands the event over; if the reader is behind, its rows are counted as dropped.
fn send(sender: &mpsc::Sender<TailEvent>, gathered: &mut Gathered, missed: &Missed) {
    let Gathered { mut event, .. } = std::mem::take(gathered);
    let (rows, batches) = (missed.rows.swap(0, Ordering::Relaxed), missed.batches.swap(0, Ordering::Relaxed));
    if rows + batches > 0 {
        event.dropped += rows;
        event.missed_batches += batches;
        event.reason = Some(SLOW_READER);
    }
    if event.hits.is_empty() && event.dropped == 0 && event.missed_batches == 0 {
        return;
    }
    event.hits.sort_by_key(|hit| (hit.time_unix_nano(), hit.ingest_id()));
    if let Err(mpsc::error::TrySendError::Full(back)) = sender.try_send(event) {
        gathered.event = TailEvent {
            dropped: back.dropped + back.hits.len() as u64,
            missed_batches: back.missed_batches,
            reason: Some(SLOW_READER),
            hits: Vec::new(),
        };
    }
}

/// Which rows a tail shows.
#[derive(Debug)]
struct Matching {
    table: Table,
    filter: Filter,
    workers: Workers,
    rows_per_event: usize,
}

impl Matching {
    /// Matches on the threads where queries compute.
    async fn gather_aside(self: &Arc<Self>, batch: Arc<Batch>, mut gathered: Gathered) -> Gathered {
        let matching = self.clone();
        let work = self.workers.run(move || {
            for rows in batch.rows.iter().filter(|rows| rows.table() == matching.table) {
                if let Err(error) = matching.gather(rows, &mut gathered) {
                    metrics::failed("tail");
                    tracing::error!(%error, "a batch could not be matched for a live tail");
                }
            }
            Ok(gathered)
        });
        work.await.unwrap_or_else(|error| {
            metrics::failed("tail");
            tracing::error!(%error, "matching for a live tail failed");
            Gathered::default()
        })
    }

    fn gather(&self, rows: &Rows, gathered: &mut Gathered) -> Result<()> {
        let found = scan::matches(&self.filter, Chunk::Memory(rows))?;
        let times = rows.times().values();
        let ids = rows.batch().column_by_name("ingest_id").and_then(|ids| ids.as_primitive_opt::<Int64Type>());
        let mut numbers: Vec<u32> = found.set_indices().map(|row| row as u32).collect();
        numbers.sort_by_key(|row| (times[*row as usize], ids.map_or(0, |ids| ids.value(*row as usize))));
        let mut rest = &numbers[..];
        loop {
            let room = match gathered.bytes < EVENT_BYTES {
                true => self.rows_per_event.saturating_sub(gathered.event.hits.len()),
                false => 0,
            };
            let (next, behind) = rest.split_at(rest.len().min(room).min(ROWS_AT_ONCE));
            if next.is_empty() {
                break;
            }
            let taken = rows.take(&UInt32Array::from(next.to_vec()))?;
            let hits = Hit::from_stored(self.table, &taken.to_batch(None)?)?;
            gathered.bytes += hits.iter().map(Hit::memory_bytes).sum::<usize>();
            gathered.event.hits.extend(hits);
            rest = behind;
        }
        if !rest.is_empty() {
            gathered.event.dropped += rest.len() as u64;
            gathered.event.reason = Some(RATE_CAP);
        }
        Ok(())
    }
}
