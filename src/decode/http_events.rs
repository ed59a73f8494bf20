//! Bodies of CloudWatch Logs' HTTP ingestion endpoints: log events as JSON, without an SDK's envelope.
//!
//! In: the line of [`Head`] (the log group and stream, which the request names in its query or headers), then the body. Out: rows as
//! `PutLogEvents` makes them.
//!
//! | kind | endpoint | body | an event | its time |
//! |---|---|---|---|---|
//! | [`Kind::HttpCollector`] | `/services/collector/event` | objects one after another, or in an array | `event` of the object: text as it is, else its JSON; `host`, `source`, `sourcetype`, `index` and `fields` become attributes | `time`, seconds |
//! | [`Kind::HttpLines`] | `/ingest/bulk` | a JSON value a line | the line | `timestamp`, or `@timestamp` |
//! | [`Kind::HttpJson`] | `/ingest/json` | an object, or an array of them | the object's JSON | the same |
//!
//! `timestamp` is milliseconds since the epoch or RFC 3339; an event without one has the time at which it was received. (AWS' pages
//! do not tell all of this; what they tell is as they tell it.) Unlike `PutLogEvents`, events may stand in any order, and each is judged for
//! itself: older than 14 days, older than the group's retention, more than 2 hours ahead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::awslogs::{EVENT_OVERHEAD_BYTES, MAX_BATCH_BYTES, MAX_EVENTS, MAX_MESSAGE_BYTES, service_of_group};
use super::cloudwatch::{MAX_AGE_NANOS, MAX_AHEAD_NANOS};
use super::{Context, Decoded, Error, Kind, Reason, Rejected, Sender, envelope};
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Value, parse_time};

const DAY_NANOS: i64 = 86_400_000_000_000;

/// Where the events go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The log group.
    pub log_group: String,
    /// The log stream.
    pub log_stream: String,
}

/// What a decoded body brought to its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Times of the first and the last event taken, nanoseconds.
    pub times: Option<(i64, i64)>,
    /// Bytes of messages taken, each with its overhead.
    pub bytes: u64,
}

/// An event as read.
struct Event {
    time_unix_nano: Option<i64>,
    message: String,
    attributes: Vec<(String, String)>,
}

/// Rows, and what they bring.
pub fn http_events(kind: Kind, body: &[u8], context: &Context) -> Result<(Decoded, Brought), Error> {
    let (head, body) = envelope::open::<Head>(body)?;
    let events = match kind {
        Kind::HttpCollector => collector(body)?,
        Kind::HttpLines => lines(body)?,
        _ => documents(body)?,
    };
    check(&events)?;
    let mut builder = LogsBuilder::with_capacity(events.len());
    let mut resource = ContextBuilder::new();
    resource.attribute("cloud.provider", Value::Str("aws"));
    resource.attribute("aws.log.group.names", Value::Str(&head.log_group));
    resource.attribute("aws.log.stream.names", Value::Str(&head.log_stream));
    if let Some(service) = service_of_group(&head.log_group) {
        resource.attribute("service.name", Value::Str(service));
    }
    let resource = resource.build();
    let sender = Sender::of(&resource);
    let resource = builder.context(resource);
    let mut objections: BTreeMap<Reason, u64> = BTreeMap::new();
    let mut brought = Brought::default();
    for event in &events {
        let time = event.time_unix_nano.unwrap_or(context.received_at_nanos);
        if let Some(reason) = objection(time, context) {
            *objections.entry(reason).or_default() += 1;
            continue;
        }
        let (first, last) = brought.times.unwrap_or((time, time));
        brought.times = Some((first.min(time), last.max(time)));
        brought.bytes += (event.message.len() + EVENT_OVERHEAD_BYTES) as u64;
        for (name, value) in &event.attributes {
            builder.attribute(name, Value::Str(value));
        }
        let record = LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: Some(context.received_at_nanos),
            body: Some(&event.message),
            ..LogRecord::default()
        };
        builder.push(resource, &record);
    }
    let mut decoded = Decoded::default();
    if !builder.is_empty() {
        decoded.batch.rows.push(builder.finish()?);
    }
    decoded.rejected = objections
        .into_iter()
        .map(|(reason, count)| Rejected {
            count,
            reason,
            message: "log events outside the times that are taken".into(),
            index: None,
            sender: Some(sender.clone()),
        })
        .collect();
    Ok((decoded, brought))
}

fn objection(time: i64, context: &Context) -> Option<Reason> {
    let age = context.received_at_nanos.saturating_sub(time);
    if age > MAX_AGE_NANOS {
        return Some(Reason::TooOld);
    }
    if context.retention_days > 0 && age > i64::from(context.retention_days).saturating_mul(DAY_NANOS) {
        return Some(Reason::Expired);
    }
    (age < -MAX_AHEAD_NANOS).then_some(Reason::TooNew)
}

/// `PutLogEvents`' bounds.
fn check(events: &[Event]) -> Result<(), Error> {
    if events.is_empty() {
        return Err(Error::Invalid("the body holds no event".into()));
    }
    if events.len() > MAX_EVENTS {
        return Err(too_many());
    }
    if let Some(event) = events.iter().find(|event| event.message.len() > MAX_MESSAGE_BYTES) {
        let bytes = event.message.len() + EVENT_OVERHEAD_BYTES;
        return Err(Error::Invalid(format!("Log event too large: {bytes} bytes exceeds limit of {MAX_BATCH_BYTES}")));
    }
    Ok(())
}

fn too_many() -> Error {
    Error::TooMany {
        what: "log events",
        max: MAX_EVENTS,
    }
}

fn malformed(what: &str) -> Error {
    Error::Invalid(what.into())
}

#[derive(Deserialize)]
struct Collected<'a> {
    time: Option<serde_json::Value>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    host: Option<serde_json::Value>,
    source: Option<serde_json::Value>,
    sourcetype: Option<serde_json::Value>,
    index: Option<serde_json::Value>,
    fields: Option<serde_json::Map<String, serde_json::Value>>,
}

fn collector(body: &[u8]) -> Result<Vec<Event>, Error> {
    values(body)?.into_iter().map(collected).collect()
}

fn collected(text: &RawValue) -> Result<Event, Error> {
    let collected: Collected<'_> = serde_json::from_str(text.get())?;
    let event = collected.event.map(RawValue::get).filter(|event| *event != "null");
    let event = event.ok_or_else(|| malformed("event is required"))?;
    let message = match event.starts_with('"') {
        true => serde_json::from_str(event)?,
        false => event.to_string(),
    };
    if message.is_empty() {
        return Err(malformed("event must not be empty"));
    }
    let time_unix_nano = match &collected.time {
        None | Some(serde_json::Value::Null) => None,
        Some(time) => Some(seconds(time).ok_or_else(|| malformed("time must be seconds since the epoch"))?),
    };
    let named = [
        ("host", collected.host),
        ("source", collected.source),
        ("sourcetype", collected.sourcetype),
        ("index", collected.index),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    let attributes = named.chain(collected.fields.into_iter().flatten());
    Ok(Event {
        time_unix_nano,
        message,
        attributes: attributes
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, text_of(value)))
            .collect(),
    })
}

fn text_of(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn lines(body: &[u8]) -> Result<Vec<Event>, Error> {
    let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_EVENTS + 1);
    lines.map(document).collect()
}

fn documents(body: &[u8]) -> Result<Vec<Event>, Error> {
    values(body)?.into_iter().map(|value| document(value.get())).collect()
}

fn document(text: &str) -> Result<Event, Error> {
    #[derive(Deserialize)]
    struct Timed {
        timestamp: Option<serde_json::Value>,
        #[serde(rename = "@timestamp")]
        at_timestamp: Option<serde_json::Value>,
    }
    let time_unix_nano = match text.starts_with('{') {
        true => {
            let timed: Timed = serde_json::from_str(text)?;
            timed.timestamp.or(timed.at_timestamp).as_ref().and_then(millis)
        }
        false => {
            serde_json::from_str::<serde::de::IgnoredAny>(text)?;
            None
        }
    };
    Ok(Event {
        time_unix_nano,
        message: text.to_string(),
        attributes: vec![],
    })
}

/// The values of a body: one after another, or the items of arrays.
fn values(body: &[u8]) -> Result<Vec<&RawValue>, Error> {
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
        let value = value?;
        match value.get().starts_with('[') {
            true => values.extend(
                serde_json::from_str::<super::AtMost<&RawValue, MAX_EVENTS>>(value.get())?
                    .all()
                    .map_err(|_| too_many())?,
            ),
            false => values.push(value),
        }
        if values.len() > MAX_EVENTS {
            return Err(too_many());
        }
    }
    match values.iter().all(|value| value.get().starts_with('{')) {
        true => Ok(values),
        false => Err(malformed("each event must be a JSON object")),
    }
}

/// Seconds since the epoch, as a number or text.
fn seconds(value: &serde_json::Value) -> Option<i64> {
    let seconds: f64 = match value {
        serde_json::Value::Number(number) => number.as_f64()?,
        serde_json::Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // 2^63 ns is the year 2262; whole microseconds are as exact as a double is there
    (0.0..9.2e9).contains(&seconds).then(|| ((seconds * 1e6).round() as i64).saturating_mul(1_000))
}

/// Milliseconds since the epoch, or RFC 3339.
fn millis(value: &serde_json::Value) -> Option<i64> {
    let millis: f64 = match value {
        serde_json::Value::Number(number) => number.as_f64()?,
        serde_json::Value::String(text) => match text.trim().parse() {
            Ok(millis) => millis,
            Err(_) if text.as_bytes().get(4) == Some(&b'-') => return parse_time(text, 0).ok(),
            Err(_) => return None,
        },
        _ => return None,
    };
    (0.0..9.2e12).contains(&millis).then(|| (millis as i64).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use bytes::Bytes;

    use super::*;
    use crate::net::Encoding;

    const NOW: i64 = 1_795_323_600_000_000_000;
    const SECONDS: i64 = NOW / 1_000_000_000;

    fn read(kind: Kind, body: &str, retention_days: i32) -> Result<(Decoded, Brought), Error> {
        let head = Head {
            log_group: "/shop/web".into(),
            log_stream: "s".into(),
        };
        let body = Bytes::copy_from_slice(body.as_bytes());
        let sealed = envelope::seal(&head, &body, &body, Encoding::Identity).expect("sealed");
        let context = Context {
            received_at_nanos: NOW,
            retention_days,
        };
        http_events(kind, &sealed.plain, &context)
    }

    fn shown(kind: Kind, body: &str) -> Vec<(String, i64)> {
        let (decoded, _) = read(kind, body, 0).expect("decodes");
        let rows = &decoded.batch.rows[0];
        let bodies = rows.batch().column_by_name("body").expect("a column").as_string::<i32>();
        let seconds = rows.times().values().iter().map(|time| (time - NOW) / 1_000_000);
        bodies.iter().map(|body| body.expect("a body").to_string()).zip(seconds).collect()
    }

    #[test]
    fn each_endpoint_reads_its_own_form() {
        let event = |text: &str, millis: i64| (text.to_string(), millis);
        let one_after_another = format!(r#"{{"event":"a","time":{}.25}}{{"event":{{"b": 1}},"time":"{SECONDS}"}}"#, SECONDS - 1);
        let expected = [event("a", -750), event("{\"b\": 1}", 0)];
        assert_eq!(shown(Kind::HttpCollector, &one_after_another), expected);
        assert_eq!(
            shown(
                Kind::HttpCollector,
                &format!("[{}]", one_after_another.replace("}{\"event\":{", "},{\"event\":{"))
            ),
            expected
        );
        let millis = NOW / 1_000_000 - 5;
        let lines = format!("{{\"a\":1,\"timestamp\":{millis}}}\r\n\n\"text\"\n{{\"@timestamp\":\"2026-11-22T05:00:00Z\"}}");
        assert_eq!(shown(Kind::HttpLines, &lines).iter().map(|(_, millis)| *millis).collect::<Vec<_>>(), [-5, 0, 0]);
        assert_eq!(shown(Kind::HttpJson, r#"[{"a":1}, {"b":2}]"#), [event(r#"{"a":1}"#, 0), event(r#"{"b":2}"#, 0)]);
        assert_eq!(shown(Kind::HttpJson, r#"{"a": 1}"#), [event(r#"{"a": 1}"#, 0)]);
    }

    #[test]
    fn rows_have_their_stream_and_the_collectors_other_members() {
        let body = r#"{"event":"e","host":"h","sourcetype":"_json","fields":{"region":"eu","n":1}}"#;
        let (decoded, brought) = read(Kind::HttpCollector, body, 0).expect("decodes");
        let context = decoded.batch.rows[0].context(0).expect("a context");
        assert_eq!((context.column("aws_log_group"), context.service_name()), (Some("/shop/web"), Some("web")));
        let attributes = format!("{:?}", decoded.batch.rows[0].batch().column_by_name("attributes").expect("a column"));
        for part in ["host", "sourcetype", "_json", "region", "eu"] {
            assert!(attributes.contains(part), "{part}");
        }
        assert_eq!((brought.times, brought.bytes), (Some((NOW, NOW)), 1 + EVENT_OVERHEAD_BYTES as u64));
    }

    #[test]
    fn each_event_is_judged_for_itself() {
        let at = |days: i64| format!("{{\"event\":\"e\",\"time\":{}}}", SECONDS - days * 86_400);
        let body = [at(15), at(8), at(0), at(-1)].concat();
        let (decoded, _) = read(Kind::HttpCollector, &body, 7).expect("decodes");
        let rejected: Vec<_> = decoded.rejected.iter().map(|rejected| (rejected.reason, rejected.count)).collect();
        assert_eq!(rejected, [(Reason::TooOld, 1), (Reason::Expired, 1), (Reason::TooNew, 1)]);
        assert_eq!(decoded.batch.n_rows(), 1);
    }

    #[test]
    fn what_is_no_event_refuses_the_body() {
        for (kind, body) in [
            (Kind::HttpCollector, ""),
            (Kind::HttpCollector, "{}"),
            (Kind::HttpCollector, r#"{"event":null}"#),
            (Kind::HttpCollector, r#"{"event":""}"#),
            (Kind::HttpCollector, r#"{"event":"a","time":"noon"}"#),
            (Kind::HttpCollector, r#"["a"]"#),
            (Kind::HttpLines, "\n\n"),
            (Kind::HttpLines, "{\n}"),
            (Kind::HttpJson, "[]"),
            (Kind::HttpJson, "1"),
            (Kind::HttpJson, "{"),
        ] {
            assert!(read(kind, body, 0).is_err(), "{kind:?} {body}");
        }
        let many = "{}".repeat(MAX_EVENTS + 1);
        assert!(matches!(read(Kind::HttpJson, &many, 0), Err(Error::TooMany { .. })));
        assert!(read(Kind::HttpJson, &"{}".repeat(MAX_EVENTS), 0).is_ok());
        assert!(matches!(read(Kind::HttpLines, &"{}\n".repeat(MAX_EVENTS + 1), 0), Err(Error::TooMany { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(parts in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"event\"", "\"time\"", "\"timestamp\"", "1", "1e400", "\"\"", "null", "\n", "\"\\ud800\"",
        ]), 0..40)) {
            let body = parts.concat();
            for kind in [Kind::HttpCollector, Kind::HttpLines, Kind::HttpJson] {
                let _ = read(kind, &body, 0);
            }
        }
    }
}
