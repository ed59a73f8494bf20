//! `PutLogEvents`: from a body to an acknowledgement.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::answer::BodyFault;
use super::super::inflate_aside;
use super::describe::sequence_token;
use super::error::{Error, Result};
use super::{RECEIVER, Receiver, Registry, Written, allowed};
use crate::access::Caller;
use crate::decode::awslogs::{EVENT_OVERHEAD_BYTES, EntityRejection, Request, Verdict};
use crate::decode::{self, Context, Decoded, Kind, Reason};
use crate::ingest::Received;
use crate::model::Signal;
use crate::net::Share;
use crate::net::body::{self, Body};

/// A call that can be accepted.
struct Prepared {
    group: String,
    stream: String,
    /// When the stream was made: what came before was for another of its name.
    stream_since_nanos: i64,
    verdict: Verdict,
    entity_rejection: Option<EntityRejection>,
    context: Context,
    decoded: Decoded,
    /// What it brings to its stream; `None` when every event is rejected.
    written: Option<Written>,
}

/// A call that cannot.
enum Unfit {
    /// Its body could not be had.
    Body(body::Error),
    /// It breaks a rule: how many events it had as far as is known, and the ledger's reason.
    Call { error: Error, reason: Reason, n_events: u64 },
}

impl From<body::Error> for Unfit {
    fn from(error: body::Error) -> Self {
        Unfit::Body(error)
    }
}

impl Receiver {
    pub(super) async fn put_log_events(&self, body: Body, caller: Caller) -> Result<Value> {
        let received_at_nanos = self.clock.now_nanos();
        let registry = self.registry.clone();
        let (raw, encoding) = (body.raw.clone(), body.encoding);
        let prepared = inflate_aside(body, move |inflated, share| prepare(&registry, &caller, &inflated, received_at_nanos, share)).await;
        let (prepared, share) = prepared.map_err(|unfit| match unfit {
            Unfit::Body(error) => {
                let fault = BodyFault::from(error);
                fault.count(self.intake.ledger(), RECEIVER, Signal::Logs);
                fault.into()
            }
            Unfit::Call { error, reason, n_events } => {
                self.intake.ledger().rejected(RECEIVER, Signal::Logs, reason, n_events);
                error
            }
        })?;
        let received = Received {
            receiver: RECEIVER,
            signal: Signal::Logs,
            kind: Kind::PutLogEvents,
            context: prepared.context,
            body: raw,
            encoding,
            repeats_since_nanos: prepared.stream_since_nanos,
            share: Some(share),
        };
        let written = prepared.written.map(|written| ((prepared.group, prepared.stream), written));
        self.registry.accept(received, prepared.decoded, written.into_iter().collect()).await?;
        Ok(answer(&prepared.verdict, prepared.entity_rejection, received_at_nanos))
    }
}

fn prepare(registry: &Arc<Registry>, caller: &Caller, body: &[u8], now_nanos: i64, share: &mut Share) -> std::result::Result<Prepared, Unfit> {
    let malformed = |n_events: usize| {
        move |error: decode::Error| Unfit::Call {
            reason: error.reason(),
            error: error.into(),
            n_events: n_events as u64,
        }
    };
    let weighed = decode::weigh(Kind::PutLogEvents, body).map_err(malformed(1))?;
    share.hold_also(weighed.memory_bytes()).map_err(body::Error::from)?;
    let request = Request::parse(body).map_err(malformed(1))?;
    let n_events = request.events.len();
    allowed::check_groups(caller, "PutLogEvents", &[&request.log_group], registry.arns()).map_err(|error| Unfit::Call {
        error,
        reason: Reason::Unauthorized,
        n_events: n_events as u64,
    })?;
    let facts = registry.facts_of(&request.log_group, &request.log_stream).map_err(|error| Unfit::Call {
        error,
        reason: Reason::NotFound,
        n_events: n_events as u64,
    })?;
    let received_at_nanos = facts.received_at(now_nanos);
    let context = Context {
        received_at_nanos,
        retention_days: facts.retention_days,
    };
    let verdict = request.judge(&context).map_err(malformed(n_events))?;
    let decoded = request.decode(&verdict, &context).map_err(malformed(n_events))?;
    let accepted = &request.events[verdict.accepted(n_events)];
    let written = match accepted {
        [] => None,
        [first, ..] => Some(Written {
            first_event_millis: first.timestamp_millis,
            last_event_millis: accepted.last().unwrap_or(first).timestamp_millis,
            received_millis: received_at_nanos.div_euclid(1_000_000),
            bytes: accepted.iter().map(|event| (event.message.len() + EVENT_OVERHEAD_BYTES) as u64).sum(),
        }),
    };
    // what the entity says is kept with the events all the same, and not shown as their entity
    let of_class = (request.has_entity() && !facts.has_entities).then_some(EntityRejection::UnsupportedLogGroupType);
    Ok(Prepared {
        written,
        entity_rejection: request.entity_rejection.or(of_class),
        stream_since_nanos: facts.created_millis.saturating_mul(1_000_000),
        group: request.log_group,
        stream: request.log_stream,
        verdict,
        context,
        decoded,
    })
}

/// watchtower takes the mere presence of `rejectedLogEventsInfo` for a failure: it is there only when events were
/// rejected.
fn answer(verdict: &Verdict, entity_rejection: Option<EntityRejection>, received_at_nanos: i64) -> Value {
    let mut answer = json!({ "nextSequenceToken": sequence_token(received_at_nanos) });
    if let Some(rejection) = entity_rejection {
        answer["rejectedEntityInfo"] = json!({ "errorType": rejection.name() });
    }
    if !verdict.is_clean() {
        let mut info = json!({});
        for (member, index) in [
            ("tooNewLogEventStartIndex", verdict.too_new_start),
            ("tooOldLogEventEndIndex", verdict.too_old_end),
            ("expiredLogEventEndIndex", verdict.expired_end),
        ] {
            if let Some(index) = index {
                info[member] = index.into();
            }
        }
        answer["rejectedLogEventsInfo"] = info;
    }
    answer
}
