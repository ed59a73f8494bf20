//! Our side: the write path, the log groups, and the query engine.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::seen::key;
use super::{Home, Pulled, RECEIVER};
use crate::decode::collected::{Collected, EVENT_ID, Event};
use crate::decode::{self, Context, Kind};
use crate::ingest::{Duty, Received};
use crate::model::{Clock, Signal, Table, TimeRange};
use crate::net::Encoding;
use crate::query::{Cursor, Engine, Order, Query, SearchRequest, Test};
use crate::receive::Intake;
use crate::receive::awslogs::{Registry, arrived};

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
        let written = arrived(&decoded.batch, received_at_nanos.div_euclid(NANOS));
        let accepted = self.registry.accept(received, decoded, written).await;
        accepted.map(|_| ()).map_err(|refused| refused.to_string())
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
        let made = self.registry.make_streams(group, streams, self.now_millis()).await;
        made.map_err(|error| error.to_string())?;
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
