//! What a replayed log says of log streams: when their events were and came, and how many bytes. What a client was told of them is
//! stored with the next flush only; after a crash the frames that are still in the log tell it again.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};

use crate::decode::awslogs::EVENT_OVERHEAD_BYTES;
use crate::model::{Batch, Column, Rows, Table};

/// Frames received within this are told together.
const TOGETHER_NANOS: i64 = 10_000_000_000;

/// Events of one log stream that came at about the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvents {
    /// Its log group.
    pub log_group: String,
    /// Its name.
    pub log_stream: String,
    /// Time of the earliest event.
    pub first_nanos: i64,
    /// Time of the latest.
    pub last_nanos: i64,
    /// When the first of them came.
    pub first_received_nanos: i64,
    /// When the last of them came.
    pub last_received_nanos: i64,
    /// Bytes of texts, each with the overhead that CloudWatch Logs counts.
    pub bytes: u64,
}

/// Those of a log, while it is replayed.
#[derive(Debug, Default)]
pub(super) struct Streams(BTreeMap<(String, String, i64), StreamEvents>);

impl Streams {
    /// A frame that was received then has these rows.
    pub(super) fn observe(&mut self, batch: &Batch, received_nanos: i64) {
        for rows in batch.rows.iter().filter(|rows| rows.table() == Table::Logs && !rows.is_empty()) {
            self.observe_rows(rows, received_nanos);
        }
    }

    fn observe_rows(&mut self, rows: &Rows, received_nanos: i64) {
        let Some(ordinals) = rows.ordinals() else { return };
        let bodies = match rows.column("body") {
            Some(Column::PerRow(column)) => column.as_string_opt::<i32>(),
            _ => None,
        };
        // one look at the names of a context, not one a row
        let mut of_context: Vec<Option<(i64, i64, u64)>> = vec![None; rows.contexts().len()];
        for (row, (ordinal, time)) in ordinals.values().iter().zip(rows.times().values()).enumerate() {
            let Some(sum) = usize::try_from(*ordinal).ok().and_then(|ordinal| of_context.get_mut(ordinal)) else {
                continue;
            };
            let text = bodies.filter(|bodies| bodies.is_valid(row)).map_or(0, |bodies| bodies.value(row).len());
            let bytes = (text + EVENT_OVERHEAD_BYTES) as u64;
            *sum = Some(sum.map_or((*time, *time, bytes), |(first, last, all)| (first.min(*time), last.max(*time), all + bytes)));
        }
        for (context, sum) in rows.contexts().iter().zip(of_context) {
            let names = (context.column("aws_log_group"), context.column("aws_log_stream"));
            let ((Some(group), Some(stream)), Some((first_nanos, last_nanos, bytes))) = (names, sum) else {
                continue;
            };
            let key = (group.to_string(), stream.to_string(), received_nanos.div_euclid(TOGETHER_NANOS));
            let events = self.0.entry(key).or_insert_with(|| StreamEvents {
                log_group: group.into(),
                log_stream: stream.into(),
                first_nanos,
                last_nanos,
                first_received_nanos: received_nanos,
                last_received_nanos: received_nanos,
                bytes: 0,
            });
            events.first_nanos = events.first_nanos.min(first_nanos);
            events.last_nanos = events.last_nanos.max(last_nanos);
            events.first_received_nanos = events.first_received_nanos.min(received_nanos);
            events.last_received_nanos = events.last_received_nanos.max(received_nanos);
            events.bytes += bytes;
        }
    }

    pub(super) fn finish(self) -> Vec<StreamEvents> {
        self.0.into_values().collect()
    }
}
