//! Rows as they are acknowledged, for those who watch.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{AsArray, UInt32Array};
use arrow::datatypes::Int64Type;
use futures::Stream;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::TailEvent;
use super::fields::Filter;
use super::hit::Hit;
use super::scan::{self, Chunk};
use super::{Result, metrics};
use crate::model::{Batch, Table};

/// Events come no more often than this.
const INTERVAL: Duration = Duration::from_millis(250);
/// Events that may wait for a slow reader; what comes meanwhile is dropped and counted.
const QUEUE: usize = 4;

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

    /// Watches batches; must be called inside a tokio runtime.
    pub(super) fn start(batches: broadcast::Receiver<Arc<Batch>>, table: Table, filter: Filter, rows_per_second: usize) -> Tail {
        let (sender, events) = mpsc::channel(QUEUE);
        let rows_per_event = (rows_per_second / (1_000 / INTERVAL.as_millis() as usize)).max(1);
        tokio::spawn(watch(batches, table, filter, rows_per_event, sender));
        Tail { events }
    }
}

async fn watch(mut batches: broadcast::Receiver<Arc<Batch>>, table: Table, filter: Filter, rows_per_event: usize, sender: mpsc::Sender<TailEvent>) {
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut event = TailEvent::default();
    loop {
        let has_ended = tokio::select! {
            () = sender.closed() => return,
            batch = batches.recv() => match batch {
                Ok(batch) => {
                    gather(&batch, table, &filter, rows_per_event, &mut event);
                    false
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    event.dropped += missed;
                    event.reason = Some("slow reader");
                    false
                }
                Err(broadcast::error::RecvError::Closed) => true,
            },
            _ = ticks.tick() => {
                send(&sender, &mut event);
                false
            }
        };
        if has_ended {
            send(&sender, &mut event);
            return;
        }
    }
}

/// Hands the event over; if the reader is behind, its rows are counted as dropped.
fn send(sender: &mpsc::Sender<TailEvent>, event: &mut TailEvent) {
    if event.hits.is_empty() && event.dropped == 0 {
        return;
    }
    event.hits.sort_by_key(|hit| (hit.time_unix_nano(), hit.ingest_id()));
    if let Err(mpsc::error::TrySendError::Full(back)) = sender.try_send(std::mem::take(event)) {
        *event = TailEvent {
            dropped: back.dropped + back.hits.len() as u64,
            reason: Some("slow reader"),
            hits: Vec::new(),
        };
    }
}

fn gather(batch: &Batch, table: Table, filter: &Filter, rows_per_event: usize, event: &mut TailEvent) {
    for rows in batch.rows.iter().filter(|rows| rows.table() == table) {
        let gathered: Result<()> = (|| {
            let found = scan::matches(filter, Chunk::Memory(rows))?;
            let room = rows_per_event.saturating_sub(event.hits.len());
            let times = rows.times().values();
            let ids = rows.batch().column_by_name("ingest_id").and_then(|ids| ids.as_primitive_opt::<Int64Type>());
            let mut numbers: Vec<u32> = found.set_indices().map(|row| row as u32).collect();
            numbers.sort_by_key(|row| (times[*row as usize], ids.map_or(0, |ids| ids.value(*row as usize))));
            if numbers.len() > room {
                event.dropped += (numbers.len() - room) as u64;
                event.reason = Some("rate cap");
                numbers.truncate(room);
            }
            if !numbers.is_empty() {
                let taken = rows.take(&UInt32Array::from(numbers))?;
                event.hits.extend(Hit::from_stored(table, &taken.to_batch(None)?)?);
            }
            Ok(())
        })();
        if let Err(error) = gathered {
            metrics::failed("tail");
            tracing::error!(%error, "a batch could not be matched for a live tail");
        }
    }
}
