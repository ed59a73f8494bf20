//! Log streams of events that come other ways than `PutLogEvents`: through the collector, or in deliveries of Firehose.
//!
//! Reads show the events of streams that exist. Nobody makes those streams by call, so they are made, and their groups, before their
//! events are stored ([`Registry::make_streams`]); when they are, it is noted as for every stream ([`arrived`], [`Registry::accept`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use futures::future::try_join_all;
use tracing::Instrument;

use super::super::answer::BUSY_RETRY_AFTER;
use super::error::{Error, Result};
use super::registry::{Registry, Written};
use super::wire::{CreateLogGroup, CreateLogStream};
use crate::decode::Decoded;
use crate::decode::awslogs::EVENT_OVERHEAD_BYTES;
use crate::ingest::{Ack, Received, Refused};
use crate::model::{Batch, Table};

/// Streams that are made at a time: each waits for the disk.
const AT_ONCE: usize = 32;

impl Registry {
    /// Makes a group and streams that are not there. Those beyond a bound, or of a name that no call could make, are left out with a
    /// warning: their events are found by search all the same. Fails while nothing can be stored.
    pub async fn make_streams(&self, group: &str, streams: impl IntoIterator<Item = &str>, now_millis: i64) -> Result<()> {
        let missing: Vec<&str> = streams.into_iter().filter(|stream| self.facts_of(group, stream).is_err()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let call = CreateLogGroup {
            log_group_name: Some(group.to_string()),
            ..CreateLogGroup::default()
        };
        if !made(self.create_log_group(&call, now_millis).await, group, "")? {
            return Ok(());
        }
        for some in missing.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|stream| self.make_stream(group, stream, now_millis))).await?;
        }
        Ok(())
    }

    /// Makes those that events name which are about to be acknowledged, to its end even if nobody waits for it any more: what is durable
    /// and what we answer from must not part.
    pub async fn make_streams_of(self: &Arc<Self>, arrived: &Arrived, now_millis: i64) -> Result<()> {
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (group, stream) in arrived.keys().filter(|(group, stream)| self.facts_of(group, stream).is_err()) {
            missing.entry(group.clone()).or_default().push(stream.clone());
        }
        if missing.is_empty() {
            return Ok(());
        }
        let registry = self.clone();
        let task = tokio::spawn(async move {
            for (group, streams) in &missing {
                registry.make_streams(group, streams.iter().map(String::as_str), now_millis).await?;
            }
            Ok(())
        });
        task.await.unwrap_or_else(|panic| Err(Error::Internal(panic.to_string())))
    }

    /// Hands a request over whose events are for these streams, and notes that they came: to its end even if its client hangs up, since
    /// nobody would note it later. Of one that came again, when its events were is noted once more, and not how many bytes they have, nor when it came.
    pub async fn accept(self: &Arc<Self>, received: Received, decoded: Decoded, mut streams: Arrived) -> std::result::Result<Ack, Refused> {
        let registry = self.clone();
        let work = async move {
            let ack = registry.intake().accept(received, decoded).await?;
            if ack.is_repeat {
                // it may have been for an earlier stream of that name
                streams.retain(|(group, stream), _| registry.shows_all(group, stream) == Some(true));
            }
            for ((group, stream), written) in &streams {
                match ack.is_repeat {
                    true => registry.repeated(group, stream, written),
                    false => registry.written(group, stream, written),
                }
            }
            Ok(ack)
        };
        tokio::spawn(work.in_current_span()).await.unwrap_or_else(|panic| {
            Err(Refused::Overloaded {
                retry_after: BUSY_RETRY_AFTER,
                message: format!("internal error: {panic}"),
            })
        })
    }

    async fn make_stream(&self, group: &str, stream: &str, now_millis: i64) -> Result<()> {
        let call = CreateLogStream {
            log_group_name: Some(group.to_string()),
            log_stream_name: Some(stream.to_string()),
        };
        made(self.create_log_stream(&call, now_millis).await, group, stream).map(|_| ())
    }
}

/// Whether it is there now.
fn made(result: Result<()>, group: &str, stream: &str) -> Result<bool> {
    match result {
        Ok(()) | Err(Error::AlreadyExists(_)) => Ok(true),
        Err(Error::LimitExceeded(error) | Error::InvalidParameter(error)) => {
            tracing::warn!(group, stream, error, "a log stream of events that came cannot be made: reads do not show them");
            Ok(false)
        }
        // its group was deleted meanwhile, and the events with it
        Err(Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What requests bring to streams, by log group and log stream.
pub type Arrived = BTreeMap<(String, String), Written>;

/// What log records bring to the groups and streams that they name; records that name none bring nothing.
pub fn arrived(batch: &Batch, received_millis: i64) -> Arrived {
    let mut streams = Arrived::new();
    for rows in batch.rows.iter().filter(|rows| rows.table() == Table::Logs) {
        let (Some(ordinals), Some(bodies)) = (rows.ordinals(), rows.batch().column_by_name("body")) else {
            continue;
        };
        let bodies = bodies.as_string::<i32>();
        let mut by_context: Vec<Option<Written>> = vec![None; rows.contexts().len()];
        for (row, (ordinal, time)) in ordinals.values().iter().zip(rows.times().values()).enumerate() {
            let Some(written) = by_context.get_mut(*ordinal as usize) else { continue };
            let event_millis = time.div_euclid(1_000_000);
            let event = Written {
                first_event_millis: event_millis,
                last_event_millis: event_millis,
                received_millis,
                bytes: (bodies.value(row).len() + EVENT_OVERHEAD_BYTES) as u64,
            };
            written.get_or_insert(Written { bytes: 0, ..event }).add(&event);
        }
        for (context, written) in rows.contexts().iter().zip(by_context) {
            if let (Some(group), Some(stream), Some(written)) = (context.column("aws_log_group"), context.column("aws_log_stream"), written) {
                let of_stream = streams.entry((group.to_string(), stream.to_string()));
                of_stream.and_modify(|known| known.add(&written)).or_insert(written);
            }
        }
    }
    streams
}
