//! Events that were pulled out of CloudWatch Logs, as [`crate::collect`] keeps them: JSON of our own.
//!
//! In: a page of `FilterLogEvents` of one log group, each event with its `eventId`. Out: rows as `PutLogEvents` makes them, and the
//! attribute [`EVENT_ID`], by which the collector knows an event when it fetches it again. Any time is taken: history is what is pulled.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::awslogs::{MAX_EVENTS, service_of_group};
use super::{AtMost, Context, Decoded, Error};
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Value};

/// The attribute that holds CloudWatch's `eventId`.
pub const EVENT_ID: &str = "aws.log.event.id";

/// Events of one log group.
#[derive(Clone, Debug, Serialize)]
pub struct Collected<'a> {
    /// The log group.
    pub log_group: &'a str,
    /// The region that it was pulled from.
    pub region: &'a str,
    /// At most [`MAX_EVENTS`].
    pub events: &'a [Event<'a>],
}

/// One event as it was pulled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event<'a> {
    /// `eventId`.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Its log stream.
    #[serde(borrow)]
    pub stream: Cow<'a, str>,
    /// Milliseconds since the epoch.
    pub millis: i64,
    /// Its text.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    log_group: Cow<'a, str>,
    #[serde(borrow)]
    region: Cow<'a, str>,
    #[serde(borrow)]
    events: AtMost<Event<'a>, MAX_EVENTS>,
}

/// Rows.
pub fn collected(body: &[u8], context: &Context) -> Result<Decoded, Error> {
    let wire: Wire<'_> = serde_json::from_slice(body)?;
    let events = wire.events.all().map_err(|_| Error::TooMany {
        what: "log events",
        max: MAX_EVENTS,
    })?;
    let mut decoded = Decoded::default();
    if events.is_empty() {
        return Ok(decoded);
    }
    let mut builder = LogsBuilder::with_capacity(events.len());
    let mut streams: HashMap<&str, i32> = HashMap::new();
    for event in &events {
        let resource = match streams.get(&*event.stream) {
            Some(known) => *known,
            None => {
                let mut resource = ContextBuilder::new();
                resource.attribute("cloud.provider", Value::Str("aws"));
                if !wire.region.is_empty() {
                    resource.attribute("cloud.region", Value::Str(&wire.region));
                }
                resource.attribute("aws.log.group.names", Value::Str(&wire.log_group));
                resource.attribute("aws.log.stream.names", Value::Str(&event.stream));
                if let Some(service) = service_of_group(&wire.log_group) {
                    resource.attribute("service.name", Value::Str(service));
                }
                let made = builder.context(resource.build());
                streams.insert(&event.stream, made);
                made
            }
        };
        builder.attribute(EVENT_ID, Value::Str(&event.id));
        let record = LogRecord {
            time_unix_nano: event.millis.saturating_mul(1_000_000),
            observed_time_unix_nano: Some(context.received_at_nanos),
            body: Some(&event.message),
            ..LogRecord::default()
        };
        builder.push(resource, &record);
    }
    decoded.batch.rows.push(builder.finish()?);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    const CONTEXT: Context = Context {
        received_at_nanos: 1_795_323_600_000_000_000,
        retention_days: 0,
    };

    fn event(id: &str, stream: &str, millis: i64) -> Event<'static> {
        Event {
            id: id.to_string().into(),
            stream: stream.to_string().into(),
            millis,
            message: "a \"text\"\n".into(),
        }
    }

    #[test]
    fn events_of_any_time_keep_their_id_stream_and_text() {
        let events = [event("1", "a", 5), event("2", "b", 1_795_323_600_000), event("3", "a", 7)];
        let body = serde_json::to_vec(&Collected {
            log_group: "/aws/lambda/pay",
            region: "eu-west-1",
            events: &events,
        });
        let decoded = collected(&body.expect("JSON"), &CONTEXT).expect("decodes");
        let rows = &decoded.batch.rows[0];
        assert_eq!((rows.len(), rows.contexts().len()), (3, 2));
        assert_eq!(rows.times().values().to_vec(), [5_000_000, 1_795_323_600_000_000_000, 7_000_000]);
        let context = rows.context(1).expect("a context");
        assert_eq!(
            (context.column("aws_log_group"), context.column("aws_log_stream")),
            (Some("/aws/lambda/pay"), Some("b"))
        );
        assert_eq!((context.service_name(), context.column("cloud_region")), (Some("pay"), Some("eu-west-1")));
        let bodies = rows.batch().column_by_name("body").expect("a column").as_string::<i32>();
        assert_eq!(bodies.value(0), "a \"text\"\n");
        let attributes = format!("{:?}", rows.batch().column_by_name("attributes").expect("a column"));
        assert!(attributes.contains(EVENT_ID), "{attributes}");
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(parts in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"log_group\"", "\"region\"", "\"events\"", "\"id\"", "\"millis\"", "9223372036854775807", "\"\"", "\"a\"", "null",
        ]), 0..40)) {
            let _ = collected(parts.concat().as_bytes(), &CONTEXT);
        }
    }
}
