//! CloudWatch Logs `PutLogEvents`: JSON to rows of `logs`.
//!
//! In: the body of one call. [`Request::parse`] reads it and applies every rule that makes the whole call invalid;
//! [`Request::judge`] finds the events that are too old, expired or too new at the time the call arrived;
//! [`Request::decode`] builds the rows of the others. [`put_log_events`] is the three in a row, as replay does it.
//!
//! | rule | outcome |
//! |---|---|
//! | a member is missing, empty, of a wrong form; more than 10,000 events | the call fails |
//! | an event above 1,048,576 − 26 bytes; a batch above 1,048,576 bytes, each event counted with 26 bytes more | the call fails |
//! | events not in ascending order of time; those that are taken span more than 24 h (the API reference: "for valid events") | the call fails |
//! | older than 14 days, older than the group's retention, more than 2 h ahead | the event is rejected, the call succeeds |
//!
//! Rows: `time` from the event's milliseconds, observed when received, the message untouched as the body. The resource
//! holds the group, the stream, the [`entity`] if one is sent, and a service name: the entity's, else the group's last path segment.

pub mod entity;
mod validation;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Deserializer;

use entity::Entity;
pub use entity::EntityRejection;
pub use validation::{MAX_LOG_GROUP_NAME, MAX_LOG_STREAM_NAME, Validation};

use super::text::Text;
use super::{AtMost, Context, Decoded, Error, Identity, IdentityBuilder, Kind, Reason, Rejected, Sender};
use crate::model::{Batch, ContextBuilder, LogRecord, LogsBuilder, Value};

/// Bytes of one batch: the messages in UTF-8 and [`EVENT_OVERHEAD_BYTES`] for each.
pub const MAX_BATCH_BYTES: usize = 1_048_576;
/// What each event counts beside its message.
pub const EVENT_OVERHEAD_BYTES: usize = 26;
/// Bytes of one message.
pub const MAX_MESSAGE_BYTES: usize = MAX_BATCH_BYTES - EVENT_OVERHEAD_BYTES;
/// Events of one batch.
pub const MAX_EVENTS: usize = 10_000;

const DAY_NANOS: i128 = 86_400_000_000_000;
/// Older events are rejected.
const MAX_AGE_NANOS: i128 = 14 * DAY_NANOS;
/// Events further ahead are rejected.
const MAX_AHEAD_NANOS: i128 = 2 * 3_600_000_000_000;
/// Time from the first to the last valid event of a batch.
const MAX_SPAN_MILLIS: i64 = 86_400_000;

/// `PutLogEvents`, JSON.
pub fn put_log_events(body: &[u8], context: &Context) -> Result<Decoded, Error> {
    let request = Request::parse(body)?;
    let verdict = request.judge(context)?;
    request.decode(&verdict, context)
}

/// One call, read and valid as a whole.
#[derive(Debug)]
pub struct Request<'a> {
    /// `logGroupName`.
    pub log_group: String,
    /// `logStreamName`.
    pub log_stream: String,
    /// At least one, in ascending order of time.
    pub events: Vec<Event<'a>>,
    /// Why its entity is not taken.
    pub entity_rejection: Option<EntityRejection>,
    sequence_token: Option<Text<'a>>,
    entity: Option<Entity>,
}

/// One log event as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Milliseconds since the epoch, not negative.
    pub timestamp_millis: i64,
    /// Not empty.
    pub message: Cow<'a, str>,
}

/// Which events of a call are rejected, by position; `rejectedLogEventsInfo` of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// First event that is too new; it and all after it are rejected. `tooNewLogEventStartIndex`.
    pub too_new_start: Option<usize>,
    /// First event that is *not* too old; all before it are rejected. `tooOldLogEventEndIndex`.
    pub too_old_end: Option<usize>,
    /// First event that is *not* older than the group's retention; all before it are rejected.
    /// `expiredLogEventEndIndex`.
    pub expired_end: Option<usize>,
}

impl Verdict {
    /// Whether every event is taken.
    pub fn is_clean(&self) -> bool {
        *self == Verdict::default()
    }

    /// The events that are taken, of `n_events`.
    pub fn accepted(&self, n_events: usize) -> std::ops::Range<usize> {
        let start = self.too_old_end.max(self.expired_end).unwrap_or(0);
        let end = self.too_new_start.unwrap_or(n_events);
        start..end.max(start)
    }
}

impl<'a> Request<'a> {
    /// Reads a body. [`Error::Json`] for what is not JSON of this shape, [`Error::Invalid`] for a broken rule.
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let wire: WireRequest<'a> = serde_json::from_slice(body)?;
        let mut validation = Validation::new();
        if let Some(name) = validation.required(&wire.log_group_name, "logGroupName") {
            validation.log_group_name(&name.0, "logGroupName");
        }
        if let Some(name) = validation.required(&wire.log_stream_name, "logStreamName") {
            validation.log_stream_name(&name.0, "logStreamName");
        }
        if let Some(events) = validation.required(&wire.log_events, "logEvents") {
            check_events(events, &mut validation);
        }
        validation.finish().map_err(Error::Invalid)?;
        let (Some(log_group), Some(log_stream), Some(events)) = (wire.log_group_name, wire.log_stream_name, wire.log_events) else {
            return Err(Error::Invalid("a required member is missing".into()));
        };
        let events: Vec<Event<'a>> = events
            .all()
            .unwrap_or_default()
            .into_iter()
            .filter_map(|event| {
                let event = event?;
                Some(Event {
                    timestamp_millis: event.timestamp?.0,
                    message: event.message?.0,
                })
            })
            .collect();
        check_sizes(&events)?;
        if events.windows(2).any(|pair| pair[0].timestamp_millis > pair[1].timestamp_millis) {
            return Err(Error::Invalid(
                "Log events in a single PutLogEvents request must be in chronological order.".into(),
            ));
        }
        Ok(Self {
            log_group: log_group.0.into_owned(),
            log_stream: log_stream.0.into_owned(),
            events,
            entity_rejection: wire.entity.as_ref().and_then(|entity| entity.check().err()),
            sequence_token: wire.sequence_token,
            entity: wire.entity,
        })
    }

    /// Whether the call names an entity.
    pub fn has_entity(&self) -> bool {
        self.entity.is_some()
    }

    /// Which events are taken at the time and retention of `context`. Fails when those that are taken span more than 24 h.
    pub fn judge(&self, context: &Context) -> Result<Verdict, Error> {
        let now = i128::from(context.received_at_nanos);
        let n_before = |limit: i128| self.events.partition_point(|event| nanos(event) < limit);
        let too_old_end = n_before(now - MAX_AGE_NANOS);
        let expired_end = match context.retention_days {
            days if days > 0 => n_before(now - i128::from(days) * DAY_NANOS),
            _ => 0,
        };
        let too_new_start = n_before(now + MAX_AHEAD_NANOS + 1);
        let verdict = Verdict {
            too_new_start: (too_new_start < self.events.len()).then_some(too_new_start),
            too_old_end: (too_old_end > 0).then_some(too_old_end),
            expired_end: (expired_end > 0).then_some(expired_end),
        };
        if let [first, .., last] = &self.events[verdict.accepted(self.events.len())]
            && last.timestamp_millis - first.timestamp_millis > MAX_SPAN_MILLIS
        {
            return Err(Error::Invalid(
                "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.".into(),
            ));
        }
        Ok(verdict)
    }

    /// The rows of the accepted events, and the others counted by reason.
    pub fn decode(&self, verdict: &Verdict, context: &Context) -> Result<Decoded, Error> {
        let accepted = verdict.accepted(self.events.len());
        let mut decoded = Decoded {
            batch: Batch::default(),
            rejected: self.rejected(verdict),
            identity: Some(self.identity(verdict, context)),
            ..Decoded::default()
        };
        if accepted.is_empty() {
            return Ok(decoded);
        }
        let mut builder = LogsBuilder::with_capacity(accepted.len());
        let resource = builder.context(self.resource());
        for event in &self.events[accepted] {
            builder.push(
                resource,
                &LogRecord {
                    // within 14 days and 2 h of a time in i64, or cut at its end
                    time_unix_nano: i64::try_from(nanos(event)).unwrap_or(i64::MAX),
                    observed_time_unix_nano: Some(context.received_at_nanos),
                    body: Some(&event.message),
                    ..LogRecord::default()
                },
            );
        }
        decoded.batch.rows.push(builder.finish()?);
        Ok(decoded)
    }

    /// Of all that the call says, however its body was written or compressed. Who goes on with the token of an answer has got
    /// that answer: the same events with another token are no repetition. Neither are those of which some were rejected that would
    /// be taken by now, since their time has come or the group's retention is another.
    fn identity(&self, verdict: &Verdict, context: &Context) -> Identity {
        let mut identity = IdentityBuilder::new(Kind::PutLogEvents);
        identity.part(self.log_group.as_bytes());
        identity.part(self.log_stream.as_bytes());
        identity.part(self.sequence_token.as_ref().map_or(&[][..], |token| token.0.as_bytes()));
        for event in &self.events {
            identity.part(&event.timestamp_millis.to_le_bytes());
            identity.part(event.message.as_bytes());
        }
        identity.part(&verdict.too_new_start.map_or([0xff; 8], |start| (start as u64).to_le_bytes()));
        identity.part(&context.retention_days.to_le_bytes());
        for (name, value) in self.entity.iter().flat_map(Entity::parts) {
            identity.part(name.as_bytes());
            identity.part(value.as_bytes());
        }
        identity.finish()
    }

    fn rejected(&self, verdict: &Verdict) -> Vec<Rejected> {
        let n_events = self.events.len();
        let too_old = verdict.too_old_end.unwrap_or(0);
        let expired = verdict.expired_end.unwrap_or(0).saturating_sub(too_old);
        let too_new = n_events - verdict.too_new_start.unwrap_or(n_events);
        let all = [
            (too_old, Reason::TooOld, "log events older than 14 days"),
            (expired, Reason::Expired, "log events older than the retention of their log group"),
            (too_new, Reason::TooNew, "log events more than 2 hours in the future"),
        ];
        if all.iter().all(|(count, ..)| *count == 0) {
            return Vec::new();
        }
        let sender = Sender::of(&self.resource());
        all.into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, reason, message)| Rejected {
                count: count as u64,
                reason,
                message: message.into(),
                index: None,
                sender: Some(sender.clone()),
            })
            .collect()
    }

    fn resource(&self) -> std::sync::Arc<crate::model::Context> {
        let mut resource = ContextBuilder::new();
        resource.attribute("cloud.provider", Value::Str("aws"));
        resource.attribute("aws.log.group.names", Value::Str(&self.log_group));
        resource.attribute("aws.log.stream.names", Value::Str(&self.log_stream));
        let entity = self.entity.as_ref().filter(|_| self.entity_rejection.is_none());
        if let Some(service) = entity.and_then(Entity::service).or_else(|| service_of_group(&self.log_group)) {
            resource.attribute("service.name", Value::Str(service));
        }
        if let Some(entity) = entity {
            entity.describe(&mut resource);
        }
        resource.build()
    }
}

/// The service that writes a log group: its last path segment, which for `/aws/lambda/NAME` is the function.
pub(super) fn service_of_group(group: &str) -> Option<&str> {
    group.rsplit('/').find(|segment| !segment.is_empty())
}

fn nanos(event: &Event<'_>) -> i128 {
    i128::from(event.timestamp_millis) * 1_000_000
}

fn check_events(events: &WireEvents<'_>, validation: &mut Validation) {
    if events.count() == 0 {
        validation.violation("[]", "logEvents", "Member must have length greater than or equal to 1");
    }
    if events.count() > MAX_EVENTS {
        validation.violation(
            format_args!("[{} log events]", events.count()),
            "logEvents",
            format_args!("Member must have length less than or equal to {MAX_EVENTS}"),
        );
        return;
    }
    for (i, event) in events.kept().iter().enumerate() {
        let at = |member: &str| format!("logEvents.{}.member{member}", i + 1);
        let Some(event) = event else {
            validation.missing(at(""));
            continue;
        };
        match &event.timestamp {
            None => validation.missing(at(".timestamp")),
            Some(Millis(millis)) if *millis < 0 => {
                validation.violation(millis, at(".timestamp"), "Member must have value greater than or equal to 0");
            }
            Some(_) => {}
        }
        match &event.message {
            None => validation.missing(at(".message")),
            Some(Text(message)) if message.is_empty() => {
                validation.violation("", at(".message"), "Member must have length greater than or equal to 1");
            }
            Some(_) => {}
        }
    }
}

fn check_sizes(events: &[Event<'_>]) -> Result<(), Error> {
    if let Some(event) = events.iter().find(|event| event.message.len() > MAX_MESSAGE_BYTES) {
        return Err(Error::Invalid(format!(
            "Log event too large: {} bytes exceeds limit of {MAX_BATCH_BYTES}",
            event.message.len() + EVENT_OVERHEAD_BYTES
        )));
    }
    let batch_bytes: usize = events.iter().map(|event| event.message.len() + EVENT_OVERHEAD_BYTES).sum();
    if batch_bytes > MAX_BATCH_BYTES {
        return Err(Error::Invalid(format!(
            "Upload too large: {batch_bytes} bytes exceeds limit of {MAX_BATCH_BYTES}"
        )));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRequest<'a> {
    #[serde(borrow)]
    log_group_name: Option<Text<'a>>,
    #[serde(borrow)]
    log_stream_name: Option<Text<'a>>,
    #[serde(borrow)]
    log_events: Option<WireEvents<'a>>,
    #[serde(borrow)]
    sequence_token: Option<Text<'a>>,
    entity: Option<Entity>,
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    timestamp: Option<Millis>,
    #[serde(borrow)]
    message: Option<Text<'a>>,
}

/// A whole number of milliseconds; a client that writes `1767225600000.0` means the same.
struct Millis(i64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        // beyond i64, `as` cuts at its ends, which are as negative or as far ahead
        Ok(Millis(number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or(f64::MAX) as i64)))
    }
}

/// The events of a body.
type WireEvents<'a> = AtMost<Option<WireEvent<'a>>, MAX_EVENTS>;

#[cfg(test)]
mod tests;
