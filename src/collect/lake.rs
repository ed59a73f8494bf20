//! Our side: the write path, the log groups, and the query engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::seen::key;
use super::{Home, Pulled, RECEIVER};
use crate::decode::awslogs::EVENT_OVERHEAD_BYTES;
use crate::decode::collected::{Collected, EVENT_ID, Event};
use crate::decode::{self, Context, Kind};
use crate::ingest::{Duty, Received};
use crate::model::{Clock, Signal, Table, TimeRange};
use crate::net::Encoding;
use crate::query::{Cursor, Engine, Order, Query, SearchRequest, Test};
use crate::receive::Intake;
use crate::receive::awslogs::{CreateLogGroup, CreateLogStream, Error as LogsError, Registry, Written};

/// Rows asked for at a time.
const HELPING: usize = 5_000;
const NANOS: i64 = 1_000_000;

/// Where events are kept.
#[derive(Debug)]
pub struct Lake {
    /// The write path.
    pub intake: Arc<dyn Intake>,
    /// Log groups and streams.
    pub registry: Arc<Registry>,
    /// Tells what is kept.
    pub engine: Engine,
    /// Tells which node leads.
    pub duty: tokio::sync::watch::Receiver<Duty>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Lake {
    /// Log group and streams of events: reads show those that exist.
    async fn make_streams(&self, group: &str, streams: impl Iterator<Item = &str>) -> Result<(), String> {
        let now = self.now_millis();
        for stream in streams {
            if self.registry.retention_of(group, stream).is_ok() {
                continue;
            }
            let made = async {
                let call = CreateLogGroup {
                    log_group_name: Some(group.to_string()),
                    ..CreateLogGroup::default()
                };
                or_there(self.registry.create_log_group(&call, now).await)?;
                let call = CreateLogStream {
                    log_group_name: Some(group.to_string()),
                    log_stream_name: Some(stream.to_string()),
                };
                or_there(self.registry.create_log_stream(&call, now).await)
            };
            match made.await {
                Ok(()) => {}
                // its events are found by search all the same
                Err(LogsError::LimitExceeded(error) | LogsError::InvalidParameter(error)) => {
                    tracing::warn!(group, stream, error, "a log stream that is collected cannot be made");
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    async fn keep_rows(&self, group: &str, region: &str, events: &[&Pulled]) -> Result<(), String> {
        let received_at_nanos = self.clock.now_nanos();
        let wire: Vec<Event<'_>> = events
            .iter()
            .map(|event| Event {
                id: event.id.as_str().into(),
                stream: event.stream.as_str().into(),
                millis: event.millis,
                message: event.message.as_str().into(),
            })
            .collect();
        let body = serde_json::to_vec(&Collected {
            log_group: group,
            region,
            events: &wire,
        })
        .map_err(|error| error.to_string())?;
        let context = Context {
            received_at_nanos,
            retention_days: 0,
        };
        let decoded = decode::decode(Kind::Collected, &body, &context).map_err(|error| error.to_string())?;
        let received = Received {
            receiver: RECEIVER,
            signal: Signal::Logs,
            kind: Kind::Collected,
            context,
            body: body.into(),
            encoding: Encoding::Identity,
            repeats_since_nanos: i64::MIN,
            share: None,
        };
        self.intake.accept(received, decoded).await.map_err(|refused| refused.to_string())?;
        let mut by_stream: BTreeMap<&str, Written> = BTreeMap::new();
        for event in events {
            let written = by_stream.entry(&event.stream).or_insert(Written {
                first_event_millis: event.millis,
                last_event_millis: event.millis,
                received_millis: received_at_nanos.div_euclid(NANOS),
                bytes: 0,
            });
            written.first_event_millis = written.first_event_millis.min(event.millis);
            written.last_event_millis = written.last_event_millis.max(event.millis);
            written.bytes += (event.message.len() + EVENT_OVERHEAD_BYTES) as u64;
        }
        for (stream, written) in by_stream {
            self.registry.written(group, stream, &written);
        }
        Ok(())
    }
}

fn or_there(made: Result<(), LogsError>) -> Result<(), LogsError> {
    match made {
        Err(LogsError::AlreadyExists(_)) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Home for Lake {
    async fn kept(&self, group: &str, from_millis: i64, to_millis: i64) -> Result<Vec<(u128, i64)>, String> {
        let has_id = Query::Field {
            name: EVENT_ID.into(),
            test: Test::Exists,
        };
        let mut request = SearchRequest {
            table: Table::Logs,
            query: Query::equals("@log_group", group).and(has_id),
            range: TimeRange::new(from_millis.saturating_mul(NANOS), to_millis.saturating_add(1).saturating_mul(NANOS)),
            limit: HELPING,
            cursor: None::<Cursor>,
            order: Order::OldestFirst,
        };
        let mut kept = Vec::new();
        loop {
            let answer = self.engine.search_for_report(&request).await.map_err(|error| error.to_string())?;
            if !answer.coverage.complete {
                return Err("what is kept already cannot be read in full now".into());
            }
            for hit in &answer.hits {
                let of = |attributes: &[(String, String)], name: &str| attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                let id = of(hit.attributes(), EVENT_ID);
                let stream = of(hit.resource_attributes(), "aws.log.stream.names");
                if let (Some(id), Some(stream)) = (id, stream) {
                    kept.push((key(&stream, &id), hit.time_unix_nano().div_euclid(NANOS)));
                }
            }
            match answer.next_cursor {
                None => return Ok(kept),
                next => request.cursor = next,
            }
        }
    }

    async fn keep(&self, group: &str, region: &str, events: &[&Pulled]) -> Result<(), String> {
        let streams: std::collections::BTreeSet<&str> = events.iter().map(|event| event.stream.as_str()).collect();
        self.make_streams(group, streams.into_iter()).await?;
        self.keep_rows(group, region, events).await
    }

    fn checkpoint(&self, key: &str) -> Option<Bytes> {
        self.intake.states(key).into_iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    async fn save(&self, key: &str, value: Bytes) -> Result<(), String> {
        self.intake.put_state(key, Some(value)).await.map_err(|refused| refused.to_string())
    }

    fn leads(&self) -> bool {
        self.duty.borrow().is_ours
    }
    fn now_millis(&self) -> i64 {
        self.clock.now_nanos().div_euclid(NANOS)
    }
}
