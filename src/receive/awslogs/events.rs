//! `FilterLogEvents` and `GetLogEvents`: events of a group or stream, page by page.
//!
//! The query engine gives the rows that can be in the answer, in order, a helping at a time; here each is verified: it is of the
//! group and of one of the streams, which exists, and the filter pattern matches. A page ends at its limit, at 1 MB, or after
//! some work or time ([`pages`](super::pages)): then it may be empty, and its token goes on. An answer that may lack rows because the store is
//! away is none: 503 `ServiceUnavailableException`, which every SDK retries.
//!
//! # Tokens
//!
//! | of | holds | stays valid |
//! |---|---|---|
//! | `FilterLogEvents` | the order, the last event looked at, a digest of the request, how much of its range is asked for at once if that was too much | for the same group, streams, times and pattern |
//! | `GetLogEvents` | `f/` or `b/`, and a gap between two events of the stream: before the one whose name it holds ([`EventId`]); then, behind `/s/`, how often what is left was halved if it was too much | for the stream |
//!
//! They are places among the events, not in memory: they outlive restarts. At the end of a stream the caller's own token comes
//! back; what arrives later, at a later time, is behind it.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::describe::{check_group, one_group};
use super::error::{Error, Result};
use super::pages::{self, Place, Searched};
use super::{Receiver, Registry, wire};
use crate::decode::awslogs::Validation;
use crate::model::{EventId, TimeRange};
use crate::query::filter_pattern::{self, FilterPattern};
use crate::query::{Cursor, Hit, LogHit, Order, Query, Test, Wildcards};

/// Events of a page.
const MAX_EVENTS: i64 = 10_000;
/// Streams that a call may name.
const MAX_STREAM_NAMES: usize = 100;
/// `startFromHead = false` is not served before 2024, as the service has it.
const NEWEST_FIRST_SINCE_MILLIS: i64 = 1_704_067_200_000;

/// Which streams of a group.
#[derive(Debug)]
pub(super) enum Streams {
    All,
    Named(Vec<String>),
    /// With one of these beginnings.
    Beginning(Vec<String>),
}

impl Streams {
    pub(super) fn have(&self, name: &str) -> bool {
        match self {
            Streams::All => true,
            Streams::Named(names) => names.iter().any(|one| one == name),
            Streams::Beginning(prefixes) => prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())),
        }
    }

    /// The question that their rows pass.
    pub(super) fn query(&self) -> Query {
        match self {
            Streams::All => Query::All,
            Streams::Named(names) => Query::Or(names.iter().map(|name| Query::equals("@log_stream", name)).collect()),
            Streams::Beginning(prefixes) => Query::Or(prefixes.iter().map(|prefix| begins("@log_stream", prefix)).collect()),
        }
    }
}

fn begins(field: &str, prefix: &str) -> Query {
    let escaped: String = prefix
        .chars()
        .flat_map(|c| matches!(c, '*' | '?' | '\\').then_some('\\').into_iter().chain([c]))
        .collect();
    Query::Field {
        name: field.into(),
        test: Test::Matches(Wildcards::new(escaped + "*")),
    }
}

/// One event of an answer.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: EventId,
    pub(super) group: String,
    pub(super) stream: String,
    pub(super) ingestion_millis: i64,
    pub(super) message: String,
}

impl Event {
    /// A row that says of which group and stream it is.
    pub(super) fn of(hit: Hit) -> Option<Event> {
        let Hit::Log(log) = hit else { return None };
        let LogHit {
            ingest_id,
            time_unix_nano,
            observed_time_micros,
            body,
            resource_attributes,
            ..
        } = *log;
        let resource = |key: &str| resource_attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let (group, stream) = (resource("aws.log.group.names")?, resource("aws.log.stream.names")?);
        Some(Event {
            id: EventId::new(time_unix_nano, ingest_id, &group, &stream),
            group,
            stream,
            ingestion_millis: observed_time_micros.map_or(time_unix_nano.div_euclid(1_000_000), |micros| micros.div_euclid(1_000)),
            message: body.unwrap_or_default(),
        })
    }

    /// Its row's place.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor {
            time_unix_nano: self.id.time_unix_nano,
            ingest_id: self.id.ingest_id,
        }
    }

    pub(super) fn timestamp_millis(&self) -> i64 {
        self.id.time_unix_nano.div_euclid(1_000_000)
    }
}

/// What a page is asked of.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) group: &'a str,
    pub(super) streams: Streams,
    pub(super) range: TimeRange,
    pub(super) order: Order,
    pub(super) limit: usize,
    pub(super) pattern: Option<FilterPattern>,
}

impl Asked<'_> {
    pub(super) fn query(&self) -> Query {
        let prefilter = self.pattern.as_ref().map_or(Query::All, FilterPattern::prefilter);
        Query::equals("@log_group", self.group).and(self.streams.query()).and(prefilter)
    }

    pub(super) fn is_wanted(&self, event: &Event, registry: &Registry) -> bool {
        event.group == self.group
            && self.streams.have(&event.stream)
            && registry.shows(&event.group, &event.stream, event.ingestion_millis)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(&event.message))
    }
}

/// A pattern, or the service's complaint.
pub(super) fn pattern(validation: &mut Validation, text: &str, member: &str) -> Option<Result<FilterPattern, filter_pattern::Error>> {
    validation.length(text, member, 0, filter_pattern::MAX_CHARS);
    validation.is_ok().then(|| FilterPattern::parse(text))
}

/// The streams that one of two members tells.
pub(super) fn check_streams(validation: &mut Validation, names: &Option<Vec<String>>, member: &str) {
    let Some(names) = names else { return };
    if names.is_empty() {
        validation.violation("[]", member, "Member must have length greater than or equal to 1");
    }
    if names.len() > MAX_STREAM_NAMES {
        let shown = format!("[{} names]", names.len());
        validation.violation(shown, member, format_args!("Member must have length less than or equal to {MAX_STREAM_NAMES}"));
    }
    for name in names.iter().take(MAX_STREAM_NAMES) {
        validation.log_stream_name(name, member);
    }
}

fn check_times(validation: &mut Validation, start_time: Option<i64>, end_time: Option<i64>) {
    for (member, time) in [("startTime", start_time), ("endTime", end_time)] {
        if let Some(time) = time {
            validation.range(time, member, 0, i64::MAX);
        }
    }
}

fn check_limit(validation: &mut Validation, limit: Option<i64>) -> usize {
    let limit = limit.unwrap_or(MAX_EVENTS);
    validation.range(limit, "limit", 1, MAX_EVENTS);
    usize::try_from(limit.clamp(1, MAX_EVENTS)).unwrap_or(1)
}

fn nanos(millis: i64) -> i64 {
    millis.saturating_mul(1_000_000)
}

/// From the first millisecond on, up to, but without, the last.
fn range(start_millis: Option<i64>, end_millis: Option<i64>) -> TimeRange {
    TimeRange::new(start_millis.map_or(i64::MIN, nanos), end_millis.map_or(i64::MAX, nanos))
}

fn invalid_token() -> Error {
    Error::InvalidParameter("The specified nextToken is invalid.".into())
}

impl Receiver {
    pub(super) async fn filter_log_events(&self, call: &wire::FilterLogEvents) -> Result<Value> {
        let mut validation = Validation::new();
        check_group(&mut validation, &call.log_group_name, &call.log_group_identifier);
        check_streams(&mut validation, &call.log_stream_names, "logStreamNames");
        if let Some(prefix) = &call.log_stream_name_prefix {
            validation.log_stream_name(prefix, "logStreamNamePrefix");
        }
        check_times(&mut validation, call.start_time, call.end_time);
        let limit = check_limit(&mut validation, call.limit);
        let written = call.filter_pattern.as_deref().unwrap_or_default();
        let pattern = pattern(&mut validation, written, "filterPattern");
        validation.finish().map_err(Error::InvalidParameter)?;
        let pattern = pattern.transpose().map_err(|error| Error::InvalidParameter(error.to_string()))?;
        let group = one_group(&call.log_group_name, &call.log_group_identifier)?;
        let streams = match (&call.log_stream_names, &call.log_stream_name_prefix) {
            (Some(_), Some(_)) => {
                return Err(Error::InvalidParameter(
                    "logStreamNamePrefix and logStreamNames are mutually exclusive parameters.".into(),
                ));
            }
            (Some(names), None) => Streams::Named(names.clone()),
            (None, Some(prefix)) => Streams::Beginning(vec![prefix.clone()]),
            (None, None) => Streams::All,
        };
        let newest_first = call.start_from_head == Some(false);
        if newest_first && call.start_time.is_some_and(|start| start < NEWEST_FIRST_SINCE_MILLIS) {
            return Err(Error::InvalidParameter(
                "startFromHead can be false only when startTime is on or after January 1, 2024 00:00:00 UTC.".into(),
            ));
        }
        self.registry.check_streams_exist(group, &streams)?;
        let digest = xxh3_64(format!("{group}\0{streams:?}\0{:?}\0{:?}\0{written}", call.start_time, call.end_time).as_bytes());
        let (order, place) = match &call.next_token {
            Some(token) => read_filter_token(token, digest).ok_or_else(invalid_token)?,
            None if newest_first => (Order::NewestFirst, Place::default()),
            None => (Order::OldestFirst, Place::default()),
        };
        let asked = Asked {
            group,
            streams,
            range: range(call.start_time, call.end_time.map(|end| end.saturating_add(1))),
            order,
            limit,
            pattern,
        };
        let page = pages::gather(self.engine()?, &self.registry, &asked, place, Instant::now()).await?;
        let events: Vec<Value> = page
            .events
            .iter()
            .map(|event| {
                json!({
                    "logStreamName": event.stream,
                    "timestamp": event.timestamp_millis(),
                    "message": event.message,
                    "ingestionTime": event.ingestion_millis,
                    "eventId": event.id.to_string(),
                })
            })
            .collect();
        let mut answer = json!({ "events": events, "searchedLogStreams": [] });
        if let Some(token) = page.next.and_then(|next| write_filter_token(order, next, digest)) {
            answer["nextToken"] = token.into();
        }
        Ok(answer)
    }

    pub(super) async fn get_log_events(&self, call: &wire::GetLogEvents) -> Result<Value> {
        self.get_log_events_of(self.engine(), call).await
    }

    /// The same of any rows.
    pub(super) async fn get_log_events_of(&self, rows: Result<&impl Searched>, call: &wire::GetLogEvents) -> Result<Value> {
        let begun = Instant::now();
        let mut validation = Validation::new();
        check_group(&mut validation, &call.log_group_name, &call.log_group_identifier);
        if let Some(name) = validation.required(&call.log_stream_name, "logStreamName") {
            validation.log_stream_name(name, "logStreamName");
        }
        check_times(&mut validation, call.start_time, call.end_time);
        let limit = check_limit(&mut validation, call.limit);
        validation.finish().map_err(Error::InvalidParameter)?;
        let group = one_group(&call.log_group_name, &call.log_group_identifier)?;
        let stream = call.log_stream_name.as_deref().unwrap_or_default();
        let streams = Streams::Named(vec![stream.to_string()]);
        self.registry.check_streams_exist(group, &streams)?;
        let rows = rows?;
        let token = match &call.next_token {
            Some(token) => Some(Gap::read(token, group, stream).ok_or_else(invalid_token)?),
            None => None,
        };
        let order = match &token {
            Some((order, ..)) => *order,
            None if call.start_from_head == Some(true) => Order::OldestFirst,
            None => Order::NewestFirst,
        };
        let range = range(call.start_time, call.end_time);
        let asked = Asked {
            group,
            streams,
            range,
            order,
            limit,
            pattern: None,
        };
        let mut place = token.map_or(Place::default(), |(order, gap, halvings)| Place {
            cursor: Some(gap.cursor(order)),
            halvings,
        });
        // a helping may be of rows that are not shown: an empty page whose token stays is the end
        let (mut events, next) = loop {
            let page = pages::gather(rows, &self.registry, &asked, place, begun).await?;
            match page.next {
                Some(next) if page.events.is_empty() && !page.is_late => place = next,
                next => break (page.events, next),
            }
        };
        let reached = next
            .and_then(|next| next.cursor)
            .filter(|_| events.is_empty())
            .map(|cursor| Gap::reached(cursor, order));
        // the token that goes on keeps them, and so does the one that comes back at the end
        let halvings = match (next, token) {
            (Some(next), _) => next.halvings,
            (None, Some((_, _, halvings))) if events.is_empty() => halvings,
            (None, _) => 0,
        };
        if order == Order::NewestFirst {
            events.reverse();
        }
        let (before, behind) = match (&events[..], token) {
            ([first, .., last], _) => (Gap::before(first), Gap::behind(last)),
            ([only], _) => (Gap::before(only), Gap::behind(only)),
            ([], token) => {
                let start = Gap {
                    time_unix_nano: range.start_nanos.max(0),
                    ingest_id: 0,
                };
                let gap = reached.or(token.map(|(_, gap, _)| gap)).unwrap_or(start);
                (gap, gap)
            }
        };
        let events: Vec<Value> = events
            .iter()
            .map(|event| json!({ "timestamp": event.timestamp_millis(), "message": event.message, "ingestionTime": event.ingestion_millis }))
            .collect();
        let token = |gap: Gap, its: Order| gap.token(its, if its == order { halvings } else { 0 }, group, stream);
        Ok(json!({
            "events": events,
            "nextForwardToken": token(behind, Order::OldestFirst),
            "nextBackwardToken": token(before, Order::NewestFirst),
        }))
    }
}

/// A place between two events of a stream: before the one of this time and `ingest_id`, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    time_unix_nano: i64,
    ingest_id: i64,
}

impl Gap {
    fn before(event: &Event) -> Gap {
        Gap {
            time_unix_nano: event.id.time_unix_nano,
            ingest_id: event.id.ingest_id,
        }
    }

    fn behind(event: &Event) -> Gap {
        Gap {
            time_unix_nano: event.id.time_unix_nano,
            ingest_id: event.id.ingest_id.saturating_add(1),
        }
    }

    /// Behind what is passed.
    fn reached(cursor: Cursor, order: Order) -> Gap {
        Gap {
            time_unix_nano: cursor.time_unix_nano,
            ingest_id: match order {
                Order::NewestFirst => cursor.ingest_id,
                Order::OldestFirst => cursor.ingest_id.saturating_add(1),
            },
        }
    }

    /// The engine's cursor is an event that is passed.
    fn cursor(self, order: Order) -> Cursor {
        Cursor {
            time_unix_nano: self.time_unix_nano,
            ingest_id: match order {
                Order::NewestFirst => self.ingest_id,
                Order::OldestFirst => self.ingest_id.saturating_sub(1),
            },
        }
    }

    /// `f/…/s`, or `f/…/s/2` where what is left was halved so often.
    fn token(self, order: Order, halvings: u8, group: &str, stream: &str) -> String {
        let direction = match order {
            Order::OldestFirst => 'f',
            Order::NewestFirst => 'b',
        };
        let token = format!("{direction}/{}/s", EventId::new(self.time_unix_nano, self.ingest_id, group, stream));
        match halvings {
            0 => token,
            _ => format!("{token}/{halvings}"),
        }
    }

    fn read(token: &str, group: &str, stream: &str) -> Option<(Order, Gap, u8)> {
        let (direction, rest) = token.split_once('/')?;
        let order = match direction {
            "f" => Order::OldestFirst,
            "b" => Order::NewestFirst,
            _ => return None,
        };
        let (id, rest) = rest.split_once('/')?;
        let halvings = match rest.strip_prefix('s')? {
            "" => 0,
            rest => rest
                .strip_prefix('/')?
                .parse()
                .ok()
                .filter(|halvings| (1..=pages::MAX_HALVINGS).contains(halvings))?,
        };
        let id = EventId::parse(id)?;
        let gap = Gap {
            time_unix_nano: id.time_unix_nano,
            ingest_id: id.ingest_id,
        };
        (EventId::new(gap.time_unix_nano, gap.ingest_id, group, stream) == id).then_some((order, gap, halvings))
    }
}

/// `None` of the beginning, which needs none.
fn write_filter_token(order: Order, place: Place, digest: u64) -> Option<String> {
    let cursor = place.cursor?;
    let mut bytes = Vec::with_capacity(26);
    bytes.push(match order {
        Order::OldestFirst => b'o',
        Order::NewestFirst => b'n',
    });
    bytes.extend(cursor.time_unix_nano.to_be_bytes());
    bytes.extend(cursor.ingest_id.to_be_bytes());
    bytes.extend(digest.to_be_bytes());
    if place.halvings > 0 {
        bytes.push(place.halvings);
    }
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

fn read_filter_token(token: &str, digest: u64) -> Option<(Order, Place)> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let part = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let order = match bytes.first()? {
        b'o' => Order::OldestFirst,
        b'n' => Order::NewestFirst,
        _ => return None,
    };
    let cursor = Cursor {
        time_unix_nano: part(1)?,
        ingest_id: part(9)?,
    };
    let halvings = match *bytes.get(25..)? {
        [] => 0,
        [halvings] if (1..=pages::MAX_HALVINGS).contains(&halvings) => halvings,
        _ => return None,
    };
    let place = Place {
        cursor: Some(cursor),
        halvings,
    };
    (part(17)?.cast_unsigned() == digest).then_some((order, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_for_what_they_were_given_for_and_nothing_else() {
        let gap = Gap {
            time_unix_nano: 1_795_323_600_000_000_000,
            ingest_id: 7 << 20,
        };
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for halvings in [0, pages::MAX_HALVINGS] {
                let token = gap.token(order, halvings, "g", "s");
                assert_eq!(Gap::read(&token, "g", "s"), Some((order, gap, halvings)));
                assert_eq!(Gap::read(&token, "g", "t"), None);
                let cursor = Some(gap.cursor(order));
                let place = Place { cursor, halvings };
                let token = write_filter_token(order, place, 5).expect("a token");
                assert_eq!(read_filter_token(&token, 5), Some((order, place)));
                assert_eq!(read_filter_token(&token, 6), None);
            }
            assert_eq!(Gap::reached(gap.cursor(order), order), gap);
            // as it was before there were halvings
            let plain = gap.token(order, 0, "g", "s");
            assert!(plain.len() == 60 && plain.ends_with("/s"), "{plain}");
            for more in ["/", "/0", "/13", "/2/", "/-1", "/x", "s"] {
                assert_eq!(Gap::read(&format!("{plain}{more}"), "g", "s"), None, "{more}");
            }
        }
        for bad in ["", "f", "f/", "f/1/s", "x/1/s", "b/é/s", "AAAA", "!"] {
            assert_eq!(Gap::read(bad, "g", "s"), None, "{bad}");
            assert_eq!(read_filter_token(bad, 5), None, "{bad}");
        }
    }
}
