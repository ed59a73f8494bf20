//! Traces of which one span is all that is asked for.
//!
//! | parameter | a span |
//! |---|---|
//! | `service` | of this service; required |
//! | `operation` | of this name |
//! | `tag=key:value`, `tags={"key":"value"}` | with this attribute, its own, its resource's or one of its events' (`event`: an event's name); `error`, `span.kind` and `otel.status_code` as they are shown |
//! | `minDuration`, `maxDuration` | that takes so long |
//! | `start`, `end`, or `lookback` before now | that begins in this time; the last hour, if nothing is said |
//!
//! At most `limit` traces (20; no more than [`MAX_LIMIT`]), those with the newest such span first. What events say is in no index: where attributes
//! alone give fewer traces than that, the newest [`MAX_EVENT_SPANS`] spans that meet all else are read.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use super::{Error, Params, Result, Told, lacks, read};
use crate::model::{Table, TimeRange, TraceId};
use crate::query::{Attributes, Bound, Coverage, ErrorKind, Hit, Order, ProblemKind, Query, SearchRequest, SpanHit, Test};
use crate::serve::Server;

/// Traces of one answer.
pub(super) const MAX_LIMIT: usize = 1_500;
pub(super) const DEFAULT_LIMIT: usize = 20;
/// Spans looked at in one go, and how often.
const SPANS_AT_ONCE: usize = 2_000;
const MAX_ROUNDS: usize = 50;
/// Spans that are read for what their events say, in one go and in all.
const EVENT_SPANS_AT_ONCE: usize = 2_000;
const MAX_EVENT_SPANS: usize = 20_000;
const HOUR_NANOS: i64 = 3_600_000_000_000;

/// Go's duration, such as `1h30m`, `1.5s`, `100us`; `d` is a day.
fn duration_nanos(text: &str) -> Option<i64> {
    let units = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3_600e9),
        ("d", 86_400e9),
    ];
    let mut nanos = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let n_digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..n_digits].parse().ok()?;
        rest = &rest[n_digits..];
        let n_letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let written = &rest[..n_letters];
        let (_, unit) = units.iter().find(|(name, _)| *name == written)?;
        nanos += number * unit;
        rest = &rest[n_letters..];
    }
    Some(nanos as i64)
}

fn duration(asked: &Params, name: &str) -> Result<Option<i64>> {
    let read = |text: &str| duration_nanos(text).ok_or_else(|| Error::bad(format!("unable to parse param '{name}': {text:?} is no duration")));
    asked.get(name).map(read).transpose()
}

/// The attributes that are asked for.
fn tags(asked: &Params) -> Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for tag in asked.all("tag") {
        let (key, value) = tag
            .split_once(':')
            .ok_or_else(|| Error::bad(format!("malformed 'tag' parameter, expecting key:value, received: {tag}")))?;
        tags.insert(key.to_string(), value.to_string());
    }
    for text in asked.all("tags") {
        let listed: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|error| Error::bad(format!("malformed 'tags' parameter, cannot unmarshal JSON: {error}")))?;
        tags.extend(listed.into_iter().map(|(key, value)| match value {
            Value::String(text) => (key, text),
            other => (key, other.to_string()),
        }));
    }
    Ok(tags)
}

/// A span with an attribute.
fn with_tag(key: &str, value: &str) -> Query {
    if let Some(shown) = with_shown_tag(key, value) {
        return shown;
    }
    let attribute = Query::equals(format!("$.{key}"), value);
    // names of promoted attributes have a dot, and names of other columns have none
    match key.contains('.') {
        true => Query::Or(vec![attribute, Query::equals(key, value)]),
        false => attribute,
    }
}

/// A tag that is no attribute, but shown as one.
fn with_shown_tag(key: &str, value: &str) -> Option<Query> {
    match (key, value) {
        ("error", "true") => Some(Query::Or(vec![Query::equals("status", "ERROR"), Query::equals("$.error", "true")])),
        ("error", "false") => with_shown_tag("error", "true").map(|failed| !failed),
        ("span.kind", _) => Some(Query::equals("kind", value.to_uppercase())),
        ("otel.status_code", _) => Some(Query::equals("status", value.to_uppercase())),
        _ => None,
    }
}

/// What is asked of a span: by a query, and of all tags that events may have, by looking at it.
pub(super) struct Asked {
    by_attributes: Query,
    /// What else is asked; of these tags each, an attribute or an event has it.
    beside: Query,
    tags: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn of(asked: &Params) -> Result<Asked> {
        let service = asked.get("service").ok_or_else(|| Error::bad("parameter 'service' is required"))?;
        let mut beside = super::of_service(service);
        if let Some(operation) = asked.get("operation") {
            beside = beside.and(Query::equals("name", operation));
        }
        let (shown, tags): (Vec<_>, Vec<_>) = tags(asked)?.into_iter().partition(|(key, value)| with_shown_tag(key, value).is_some());
        for (key, value) in &shown {
            beside = beside.and(with_tag(key, value));
        }
        let (least, most) = (duration(asked, "minDuration")?, duration(asked, "maxDuration")?);
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            return Err(Error::bad("'maxDuration' should be greater than 'minDuration'"));
        }
        if least.is_some() || most.is_some() {
            let bound = |nanos: Option<i64>| nanos.map_or(Bound::Open, |nanos| Bound::Included(nanos.to_string()));
            let test = Test::Range {
                from: bound(least),
                to: bound(most),
            };
            let name = "duration_nano".into();
            beside = beside.and(Query::Field { name, test });
        }
        let with_tags = |query: Query, (key, value): &(String, String)| query.and(with_tag(key, value));
        Ok(Asked {
            by_attributes: tags.iter().fold(beside.clone(), with_tags),
            beside,
            tags,
        })
    }

    /// What is asked by a query.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.by_attributes.to_string()
    }

    /// Whether a span has all the tags, one of them at least by an event.
    fn is_met_by(&self, span: &SpanHit) -> bool {
        let has = |attributes: &Attributes, (key, value): &(String, String)| attributes.iter().any(|(own, its)| own == key && its == value);
        let by_event = |tag: &(String, String)| {
            let mut events = span.events.iter();
            events.any(|event| has(&event.attributes, tag) || (tag.0 == "event" && event.name.as_deref() == Some(tag.1.as_str())))
        };
        let by_attribute = |tag: &(String, String)| has(&span.attributes, tag) || has(&span.resource_attributes, tag);
        !span.events.is_empty() && self.tags.iter().all(|tag| by_attribute(tag) || by_event(tag)) && self.tags.iter().any(by_event)
    }

    /// Adds the traces of spans that meet it by their events, until there are enough.
    ///
    /// That there is no place or no time (until `deadline`) for it takes nothing from what was found before, but is said.
    async fn add_by_events(&self, server: &Server, range: TimeRange, limit: usize, deadline: Instant, found: &mut Found) -> Result<()> {
        let mut request = SearchRequest {
            table: Table::Spans,
            query: self.beside.clone(),
            range,
            limit: EVENT_SPANS_AT_ONCE,
            cursor: None,
            order: Order::NewestFirst,
        };
        let mut n_spans = 0;
        while found.newest.len() < limit {
            if n_spans >= MAX_EVENT_SPANS {
                found.lacks.push(format!(
                    "for what events say, only the newest {n_spans} spans that meet all else were looked at"
                ));
                break;
            }
            let asked = tokio::time::timeout_at(deadline, server.engine.search_for_report(&request)).await;
            let page = match asked {
                Ok(Ok(page)) => page,
                Ok(Err(error)) if found.newest.is_empty() || !matches!(error.kind(), ErrorKind::Busy | ErrorKind::Timeout) => return Err(error.into()),
                Err(_) if found.newest.is_empty() => {
                    let message = "time was up before the spans were looked at whose events may say it";
                    return Err(Error::new(StatusCode::GATEWAY_TIMEOUT, message));
                }
                Ok(Err(error)) => {
                    found.lacks.push(events_lack(n_spans, &error.to_string()));
                    break;
                }
                Err(_) => {
                    found.lacks.push(events_lack(n_spans, "time was up"));
                    break;
                }
            };
            n_spans += page.hits.len();
            for hit in &page.hits {
                if let (Hit::Span(span), Some(id)) = (hit, hit.trace_id().and_then(TraceId::from_hex))
                    && self.is_met_by(span)
                {
                    found.add((hit.time_unix_nano(), hit.ingest_id()), id);
                }
            }
            if has_no_time_left(&page.coverage) && !found.newest.is_empty() {
                found.lacks.push(events_lack(n_spans, "time was up"));
                break;
            }
            found.lacks.extend(lacks(&page.coverage)?);
            request.cursor = page.next_cursor;
            if request.cursor.is_none() {
                break;
            }
        }
        Ok(())
    }
}

fn events_lack(n_spans: usize, why: &str) -> String {
    format!("of what events say only {n_spans} spans that meet all else were looked at: {why}")
}

/// Whether an answer lacks something because time was up, and for no other reason.
fn has_no_time_left(coverage: &Coverage) -> bool {
    let mut kinds = coverage.problems.iter().map(|problem| problem.kind);
    let is_of_time = coverage.problems.iter().any(|problem| problem.kind == ProblemKind::Timeout);
    !coverage.complete && coverage.further_problems == 0 && is_of_time && kinds.all(|kind| matches!(kind, ProblemKind::Timeout | ProblemKind::Limit))
}

/// Traces, each with the place of its newest span that is asked for.
#[derive(Default)]
struct Found {
    newest: HashMap<TraceId, (i64, i64)>,
    lacks: Vec<String>,
}

impl Found {
    fn add(&mut self, place: (i64, i64), id: TraceId) {
        self.newest.entry(id).and_modify(|newest| *newest = place.max(*newest)).or_insert(place);
    }
}

fn range(asked: &Params, now_nanos: i64) -> Result<TimeRange> {
    let nanos = |micros: Option<i64>| micros.map(|micros| micros.saturating_mul(1_000));
    // the very microsecond counts
    let end = nanos(asked.number("end")?).map_or(now_nanos, |end| end.saturating_add(1_000));
    // `custom` says that start and end are given
    let lookback = asked.get("lookback").and_then(duration_nanos).unwrap_or(HOUR_NANOS);
    let start = nanos(asked.number("start")?).unwrap_or_else(|| end.saturating_sub(lookback));
    match start < end {
        true => Ok(TimeRange::new(start, end)),
        false => Err(Error::bad("'end' should be after 'start'")),
    }
}

/// The traces that are asked for.
pub(super) async fn search(server: &Server, asked: &Params) -> Result<Told<String>> {
    // Jaeger UI's word for any operation
    let is_any = |(key, value): &&(String, String)| key == "operation" && value == "all";
    let asked = &Params(asked.0.iter().filter(|pair| !is_any(pair)).cloned().collect());
    let sought = Asked::of(asked)?;
    let range = range(asked, server.clock.now_nanos())?;
    let limit = match asked.number("limit")? {
        None => DEFAULT_LIMIT,
        Some(limit) => usize::try_from(limit).map_err(|_| Error::bad("'limit' should not be negative"))?.min(MAX_LIMIT),
    };
    let (ids, lacks) = find(server, &sought, range, limit).await?;
    let mut told = read(server, &ids).await?;
    told.lacks.extend(lacks);
    Ok(told)
}

/// Which these are, and what of them could not be told.
pub(super) async fn find(server: &Server, sought: &Asked, range: TimeRange, limit: usize) -> Result<(Vec<TraceId>, Vec<String>)> {
    let deadline = Instant::now() + Duration::from_secs(server.engine.config().timeout_seconds);
    let (mut found, mut cursor) = (Found::default(), None);
    for round in 1..=MAX_ROUNDS {
        let page = server.engine.traces_of_spans(&sought.by_attributes, range, SPANS_AT_ONCE, cursor).await?;
        found.lacks.extend(lacks(&page.coverage)?);
        page.spans
            .iter()
            .for_each(|(place, id)| found.add((place.time_unix_nano, place.ingest_id), *id));
        cursor = page.next_cursor;
        if found.newest.len() >= limit || cursor.is_none() {
            break;
        }
        if round == MAX_ROUNDS {
            let message = format!("only the newest {} spans that match were looked at", MAX_ROUNDS * SPANS_AT_ONCE);
            found.lacks.push(message);
        }
    }
    if !sought.tags.is_empty() {
        sought.add_by_events(server, range, limit, deadline, &mut found).await?;
    }
    let mut ids: Vec<(TraceId, (i64, i64))> = found.newest.into_iter().collect();
    ids.sort_unstable_by_key(|(_, place)| std::cmp::Reverse(*place));
    ids.truncate(limit);
    Ok((ids.into_iter().map(|(id, _)| id).collect(), found.lacks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::SpanEventHit;

    fn params(listed: &[(&str, &str)]) -> Params {
        Params(listed.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect())
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("1.5s", 1_500_000_000),
            ("100ms", 100_000_000),
            ("1h30m", 5_400_000_000_000),
            ("7µs", 7_000),
            ("2d", 172_800_000_000_000),
        ] {
            assert_eq!(duration_nanos(text), Some(nanos), "{text}");
        }
        for bad in ["", "5", "s", "1x", "-1s", "1.2.3s", "custom"] {
            assert_eq!(duration_nanos(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_search_is_one_question_of_spans() {
        let asked = params(&[
            ("service", "api"),
            ("operation", "GET /"),
            ("tag", "http.method:GET"),
            ("tags", r#"{"error":"true","items":5,"name":"x"}"#),
            ("minDuration", "1ms"),
        ]);
        assert_eq!(
            Asked::of(&asked).expect("a query").by_attributes.to_string(),
            r#"service:api name:"GET /" (status:ERROR OR $.error:true) duration_nano>=1000000 ($.http.method:GET OR http.method:GET) $.items:5 $.name:x"#
        );
        for (bad, said) in [
            (params(&[]), "'service' is required"),
            (params(&[("service", "a"), ("tag", "x")]), "key:value"),
            (params(&[("service", "a"), ("tags", "x")]), "cannot unmarshal"),
            (params(&[("service", "a"), ("minDuration", "5")]), "no duration"),
            (params(&[("service", "a"), ("minDuration", "5s"), ("maxDuration", "1s")]), "greater"),
        ] {
            assert!(Asked::of(&bad).err().expect(said).message.contains(said));
        }
    }

    #[test]
    fn what_a_tag_asks_for_may_be_said_by_an_event() {
        let attributes = |listed: &[(&str, &str)]| -> Attributes { listed.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect() };
        let span = SpanHit {
            attributes: attributes(&[("a", "1")]),
            resource_attributes: attributes(&[("r", "1")]),
            events: vec![SpanEventHit {
                time_unix_nano: 0,
                name: Some("queued".into()),
                attributes: attributes(&[("e", "1"), ("f", "2")]),
            }],
            ..SpanHit::default()
        };
        for (tags, is_met) in [
            (&[("e", "1")][..], true),
            (&[("e", "1"), ("a", "1"), ("r", "1")], true),
            (&[("event", "queued")], true),
            (&[("e", "2")], false),
            (&[("e", "1"), ("a", "2")], false),
            // found by attributes already
            (&[("a", "1")], false),
        ] {
            let mut asked = vec![("service", "api".to_string())];
            asked.extend(tags.iter().map(|(key, value)| ("tag", format!("{key}:{value}"))));
            let asked: Vec<(&str, &str)> = asked.iter().map(|(key, value)| (*key, value.as_str())).collect();
            assert_eq!(Asked::of(&params(&asked)).expect("a query").is_met_by(&span), is_met, "{tags:?}");
        }
    }

    #[test]
    fn an_answer_that_lacks_time_alone_is_told_apart() {
        let of = |kinds: &[ProblemKind]| {
            let mut coverage = Coverage::new(TimeRange::ALL);
            kinds.iter().for_each(|kind| coverage.incomplete(*kind, "a block", "what went wrong"));
            has_no_time_left(&coverage)
        };
        assert!(of(&[ProblemKind::Timeout]) && of(&[ProblemKind::Limit, ProblemKind::Timeout]));
        assert!(!of(&[]) && !of(&[ProblemKind::Limit]) && !of(&[ProblemKind::Timeout, ProblemKind::Unreachable]));
    }

    #[test]
    fn times_are_microseconds_and_a_lookback_ends_now() {
        let now = 1_795_000_000_000_000_000;
        let of = |listed: &[(&str, &str)]| range(&params(listed), now).map(|range| (range.start_nanos - now, range.end_nanos - now)).ok();
        assert_eq!(of(&[]), Some((-HOUR_NANOS, 0)));
        assert_eq!(of(&[("lookback", "2h")]), Some((-2 * HOUR_NANOS, 0)));
        assert_eq!(
            of(&[("start", "1795000000000000"), ("end", "1795000000000005"), ("lookback", "custom")]),
            Some((0, 6_000))
        );
        assert_eq!(of(&[("start", "1795000000000010"), ("end", "1795000000000005")]), None);
    }
}
