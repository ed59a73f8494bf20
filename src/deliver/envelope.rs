//! What a record holds: the envelope of CloudWatch Logs' subscriptions, or one line of JSON a row.
//!
//! A subscription's record is one gzip member (level 6) of one JSON object:
//!
//! | member | |
//! |---|---|
//! | `messageType` | `DATA_MESSAGE`; `CONTROL_MESSAGE` in the record that tries a destination when a filter is put |
//! | `owner` | the account |
//! | `logGroup`, `logStream` | of all events in it |
//! | `subscriptionFilters` | the filter's name |
//! | `logEvents` | `id` (the `eventId` of `FilterLogEvents`), `timestamp` in milliseconds, `message`; `extractedFields` with a pattern of delimited fields, and with system fields (`@aws.account`, `@aws.region`) if the filter asks for them |
//!
//! A record of rows is what `/api/v1/search` gives for one with `Accept: application/x-ndjson`, its body whole, and a newline.
//!
//! The gzip head of an envelope has a comment, [`firehose::mark`]: this lake knows by it what it sent itself. Rows that came by a delivery
//! stream (`aws.firehose.arn`) do not go into the same stream again: they would come back for ever.
//!
//! An envelope that compresses to more than [`MAX_RECORD_BYTES`] is parted in two until each fits; an event or a row that does not
//! fit alone comes back as too large.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::sink::{Destination, MAX_RECORD_BYTES, Record};
use super::{Subscription, Subscriptions};
use crate::decode::firehose;
use crate::model::EventId;
use crate::query::Hit;
use crate::query::filter_pattern::FilterPattern;

/// Bytes of events, before compression, at which an envelope is closed.
const ENVELOPE_BYTES: usize = 1 << 20;
/// What an event takes beside its text.
const EVENT_OVERHEAD_BYTES: usize = 120;

/// What was made of a page of rows.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) records: Vec<Record>,
    /// Larger than any destination takes.
    pub(super) too_large: Vec<Record>,
    /// Rows that came by the delivery stream that they would go to.
    pub(super) came_from_there: u64,
}

impl Encoded {
    fn add(&mut self, record: Record) {
        let fits = record.data.len() <= MAX_RECORD_BYTES;
        if fits { &mut self.records } else { &mut self.too_large }.push(record);
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    message_type: &'static str,
    owner: &'a str,
    log_group: &'a str,
    log_stream: &'a str,
    subscription_filters: &'a [&'a str],
    log_events: &'a [Event],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    id: String,
    timestamp: i64,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    extracted_fields: Option<BTreeMap<String, String>>,
    #[serde(skip)]
    arrived_nanos: i64,
}

/// The record that tries whether a destination takes any.
pub fn control_message(service: &str, now_millis: i64) -> Record {
    let events = [Event {
        id: String::new(),
        timestamp: now_millis,
        message: format!("CWL CONTROL MESSAGE: Checking health of destination {service}."),
        extracted_fields: None,
        arrived_nanos: 0,
    }];
    let envelope = Envelope {
        message_type: "CONTROL_MESSAGE",
        owner: "CloudwatchLogs",
        log_group: "",
        log_stream: "",
        subscription_filters: &[],
        log_events: &events,
    };
    Record {
        data: gzip(&envelope, ""),
        partition_key: partition_key("", true),
        rows: 0,
        newest_nanos: now_millis.saturating_mul(1_000_000),
    }
}

/// The events of a page that a subscription is for, one stream an envelope; `node` sends them.
pub(super) fn of_subscription(subscription: &Subscription, pattern: &FilterPattern, known: &dyn Subscriptions, node: &str, hits: Vec<Hit>) -> Encoded {
    let mut streams: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    let mut encoded = Encoded::default();
    if !subscription.is_for_us {
        return encoded;
    }
    for hit in hits {
        let came_from_there = came_from(&hit, &subscription.destination);
        if let Some((stream, event)) = event_of(subscription, pattern, known, hit) {
            match came_from_there {
                true => encoded.came_from_there += 1,
                false => streams.entry(stream).or_default().push(event),
            }
        }
    }
    let mark = firehose::mark(node);
    for (stream, events) in streams {
        let mut rest = &events[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let n = rest.iter().take_while(|event| {
                bytes += event.message.len() + EVENT_OVERHEAD_BYTES;
                bytes <= ENVELOPE_BYTES
            });
            let (now, later) = rest.split_at(n.count().max(1));
            enclose(subscription, &mark, known.account_id(), &stream, now, &mut encoded);
            rest = later;
        }
    }
    encoded
}

fn event_of(subscription: &Subscription, pattern: &FilterPattern, known: &dyn Subscriptions, hit: Hit) -> Option<(String, Event)> {
    let resource = |key: &str| hit.resource_attributes().iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let (group, stream) = (resource("aws.log.group.names")?, resource("aws.log.stream.names")?);
    if group != subscription.log_group {
        return None;
    }
    let arrived_nanos = arrived_nanos(&hit);
    let id = EventId::new(hit.time_unix_nano(), hit.ingest_id(), &group, &stream).to_string();
    let timestamp = hit.time_unix_nano().div_euclid(1_000_000);
    let Hit::Log(log) = hit else { return None };
    let message = log.body.unwrap_or_default();
    if !known.shows(&group, &stream, arrived_nanos.div_euclid(1_000_000)) || !pattern.matches(&message) {
        return None;
    }
    let is_delimited = subscription.pattern.trim_start().starts_with('[');
    let fields = is_delimited.then(|| pattern.extract(&message)).flatten();
    let without_sign = |(name, value): (String, String)| (name.strip_prefix('$').map_or(name.clone(), str::to_string), value);
    let mut named: Option<BTreeMap<String, String>> = fields.map(|fields| fields.into_iter().map(without_sign).collect());
    if !subscription.system_fields.is_empty() {
        named.get_or_insert_default().extend(subscription.system_fields.clone());
    }
    Some((
        stream,
        Event {
            id,
            timestamp,
            message,
            extracted_fields: named,
            arrived_nanos,
        },
    ))
}

/// Whether a row came by the delivery stream that it is to go to.
fn came_from(hit: &Hit, destination: &Destination) -> bool {
    let arn = hit.resource_attributes().iter().find(|(name, _)| name == "aws.firehose.arn");
    arn.is_some_and(|(_, arn)| destination.is_stream(arn))
}

fn enclose(subscription: &Subscription, mark: &str, owner: &str, stream: &str, events: &[Event], encoded: &mut Encoded) {
    let envelope = Envelope {
        message_type: "DATA_MESSAGE",
        owner,
        log_group: &subscription.log_group,
        log_stream: stream,
        subscription_filters: &[&subscription.name],
        log_events: events,
    };
    let data = gzip(&envelope, mark);
    if data.len() > MAX_RECORD_BYTES && events.len() > 1 {
        let (first, second) = events.split_at(events.len() / 2);
        enclose(subscription, mark, owner, stream, first, encoded);
        return enclose(subscription, mark, owner, stream, second, encoded);
    }
    encoded.add(Record {
        data,
        partition_key: partition_key(stream, subscription.is_random),
        rows: events.len() as u64,
        newest_nanos: events.iter().map(|event| event.arrived_nanos).max().unwrap_or_default(),
    });
}

/// Each row as a line of JSON.
pub(super) fn of_rows(destination: &Destination, hits: &[Hit]) -> Encoded {
    let mut encoded = Encoded::default();
    for hit in hits {
        if came_from(hit, destination) {
            encoded.came_from_there += 1;
            continue;
        }
        let mut line = serde_json::to_vec(&hit.with_max_body(0)).expect("a row has text keys and plain values");
        line.push(b'\n');
        encoded.add(Record {
            data: line.into(),
            partition_key: partition_key("", true),
            rows: 1,
            newest_nanos: arrived_nanos(hit),
        });
    }
    encoded
}

/// When a row came, as far as it says.
fn arrived_nanos(hit: &Hit) -> i64 {
    match hit {
        Hit::Log(log) => log.observed_time_micros.map_or(log.time_unix_nano, |micros| micros.saturating_mul(1_000)),
        Hit::Span(span) => span.start_time_unix_nano.saturating_add(span.duration_nano),
    }
}

/// A stream's shard, or any.
pub(super) fn partition_key(stream: &str, is_random: bool) -> String {
    let number: u128 = if is_random { rand::random() } else { xxh3_128(stream.as_bytes()) };
    format!("{number:032x}")
}

/// One member, with a comment in its head unless that is empty.
fn gzip(envelope: &Envelope<'_>, comment: &str) -> Bytes {
    let json = serde_json::to_vec(envelope).expect("an envelope has text keys and plain values");
    let head = match comment {
        "" => flate2::GzBuilder::new(),
        comment => flate2::GzBuilder::new().comment(comment),
    };
    let mut encoder = head.write(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(&json).expect("memory takes all");
    encoder.finish().expect("memory takes all").into()
}
