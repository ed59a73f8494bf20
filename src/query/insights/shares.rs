//! Events of a script that only gathers, from the columns that it needs: shared among the workers, in no order.
//!
//! Of an event, only what the script names is made: a place in an answer (`@ptr`) or a trace's ID costs its column, and most scripts
//! name neither. Scripts that name fields of an event's entity, or may name any, are not for here. Of an event's record, the columns are
//! read that can hold what is named ([`Named`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use super::record::Named;
use super::run::Scope;
use super::{Event, Failed, Flow, Pipeline};
use crate::model::EventId;
use crate::query::Result;
use crate::query::report::Taker;
use crate::query::typed::{numbers, text_at, texts};

/// Columns that are read of every event.
const OF_ALL: [&str; 5] = ["time_unix_nano", "observed_time", "body", "aws_log_group", "aws_log_stream"];

/// What a script needs of events, beside message, time, group and stream.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    pointer: bool,
    trace: bool,
    record: Option<Arc<Named>>,
}

impl Needs {
    /// Of the fields that a script may ask for; `None` where that is more than columns tell.
    pub(super) fn of(wanted: Option<&HashSet<Arc<str>>>) -> Option<Needs> {
        let wanted = wanted?;
        if wanted.iter().any(|name| name.starts_with("@entity")) {
            return None;
        }
        let record = Named::of(wanted).map(Arc::new);
        Some(Needs {
            pointer: wanted.contains("@ptr"),
            trace: wanted.contains("@xrayTraceId") || wanted.contains("@xraySegmentId") || record.as_ref().is_some_and(|named| named.has_trace()),
            record,
        })
    }

    /// All fields that are found in messages, and the trace's; of records those that are named.
    pub(super) fn fields(record: Option<Arc<Named>>) -> Needs {
        Needs {
            pointer: false,
            trace: true,
            record,
        }
    }

    /// The columns of `logs` that are read.
    pub(super) fn columns(&self) -> Arc<[&'static str]> {
        let mut columns = OF_ALL.to_vec();
        if self.pointer {
            columns.push("ingest_id");
        }
        if self.trace {
            columns.extend(["trace_id", "span_id"]);
        }
        for column in self.record.iter().flat_map(|named| &named.columns) {
            if !columns.contains(column) {
                columns.push(column);
            }
        }
        columns.into()
    }
}

/// A share of the events on its way through a copy of the steps.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) pipeline: Pipeline,
    needs: Needs,
    streams: Streams,
    /// Rows that were taken, and the bytes of their messages.
    pub(super) n_events: u64,
    pub(super) message_bytes: u64,
    pub(super) failed: Option<Failed>,
}

impl Share {
    pub(super) fn new(pipeline: Pipeline, scope: Arc<dyn Scope>, needs: Needs) -> Self {
        Self {
            pipeline,
            needs,
            streams: Streams::new(scope),
            n_events: 0,
            message_bytes: 0,
            failed: None,
        }
    }
}

/// Which streams are of a scope, as far as they were met: what makes rows events.
#[derive(Debug)]
pub(super) struct Streams {
    scope: Arc<dyn Scope>,
    /// By group.
    known: HashMap<String, HashMap<String, Stream>>,
    nowhere: Arc<str>,
}

#[derive(Clone, Debug)]
struct Stream {
    group: Arc<str>,
    stream: Arc<str>,
    /// Whether its events are of the scope; `None` if that depends on the event.
    is_in: Option<bool>,
}

impl Streams {
    pub(super) fn new(scope: Arc<dyn Scope>) -> Self {
        Self {
            scope,
            known: HashMap::new(),
            nowhere: "".into(),
        }
    }

    /// Calls `take` with the events of the scope among the rows of a mask, until it gives `false`; whether it never did.
    pub(super) fn each_event(&mut self, needs: &Needs, batch: &RecordBatch, rows: &BooleanBuffer, take: &mut dyn FnMut(Event) -> Result<bool>) -> Result<bool> {
        let times = numbers::<Int64Type>(batch, "time_unix_nano")?;
        let observed = numbers::<TimestampMicrosecondType>(batch, "observed_time")?;
        let bodies = texts(batch, "body")?;
        let (groups, streams) = (texts(batch, "aws_log_group")?, texts(batch, "aws_log_stream")?);
        let ids = if needs.pointer {
            Some(numbers::<Int64Type>(batch, "ingest_id")?)
        } else {
            None
        };
        let traces = match needs.trace {
            true => Some((texts(batch, "trace_id")?, texts(batch, "span_id")?)),
            false => None,
        };
        let records = needs
            .record
            .as_deref()
            .map(|named| named.records(|name| batch.column_by_name(name)))
            .transpose()?;
        for row in rows.set_indices() {
            let (Some(group), Some(stream)) = (text_at(groups, row), text_at(streams, row)) else {
                continue;
            };
            let known = match self.known.get(group).and_then(|streams| streams.get(stream)) {
                Some(known) => known,
                None => {
                    let known = Stream {
                        group: group.into(),
                        stream: stream.into(),
                        is_in: self.scope.has(group, stream),
                    };
                    self.known.entry(group.to_string()).or_default().entry(stream.to_string()).or_insert(known)
                }
            };
            let timestamp_millis = times.value(row).div_euclid(1_000_000);
            let ingestion_millis = match observed.is_valid(row) {
                true => observed.value(row).div_euclid(1_000),
                false => timestamp_millis,
            };
            if !known.is_in.unwrap_or_else(|| self.scope.shows(group, stream, ingestion_millis)) {
                continue;
            }
            let event = Event {
                pointer: match ids {
                    Some(ids) => EventId::new(times.value(row), ids.value(row), group, stream).pointer().into(),
                    None => self.nowhere.clone(),
                },
                group: known.group.clone(),
                stream: known.stream.clone(),
                timestamp_millis,
                ingestion_millis,
                message: text_at(bodies, row).unwrap_or_default().into(),
                trace_id: traces.and_then(|(ids, _)| text_at(ids, row)).map(str::to_string),
                span_id: traces.and_then(|(_, ids)| text_at(ids, row)).map(str::to_string),
                fields: Vec::new(),
                record: records.as_ref().map(|records| Box::new(records.of_row(row))),
            };
            if !take(event)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Taker for Share {
    fn take(&mut self, batch: &RecordBatch, rows: &BooleanBuffer) -> Result<bool> {
        let Share {
            pipeline,
            needs,
            streams,
            n_events,
            message_bytes,
            failed,
        } = self;
        *n_events += rows.count_set_bits() as u64;
        streams.each_event(needs, batch, rows, &mut |event| {
            *message_bytes += event.message.len() as u64;
            Ok(match pipeline.push(event) {
                Ok(flow) => flow == Flow::More,
                Err(why) => {
                    *failed = Some(why);
                    false
                }
            })
        })
    }
}
