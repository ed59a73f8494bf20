//! Traces of which one span is all that is asked for.
//!
//! | parameter | a span |
//! |---|---|
//! | `service` | of this service; required |
//! | `operation` | of this name |
//! | `tag=key:value`, `tags={"key":"value"}` | with this attribute, its own or its resource's; `error`, `span.kind` and `otel.status_code` as they are shown |
//! | `minDuration`, `maxDuration` | that takes so long |
//! | `start`, `end`, or `lookback` before now | that begins in this time; the last hour, if nothing is said |
//!
//! At most `limit` traces (20; no more than [`MAX_LIMIT`]), those with the newest such span first.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::{Error, Params, Result, Told, lacks, read};
use crate::model::{TimeRange, TraceId};
use crate::query::{Bound, Query, Test};
use crate::serve::Server;

/// Traces of one answer.
const MAX_LIMIT: usize = 1_500;
const DEFAULT_LIMIT: usize = 20;
/// Spans looked at in one go, and how often.
const SPANS_AT_ONCE: usize = 2_000;
const MAX_ROUNDS: usize = 50;
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
    match (key, value) {
        ("error", "true") => {
            return Query::Or(vec![Query::equals("status", "ERROR"), Query::equals("$.error", "true")]);
        }
        ("error", "false") => return !with_tag("error", "true"),
        ("span.kind", _) => return Query::equals("kind", value.to_uppercase()),
        ("otel.status_code", _) => return Query::equals("status", value.to_uppercase()),
        _ => {}
    }
    let attribute = Query::equals(format!("$.{key}"), value);
    // names of promoted attributes have a dot, and names of other columns have none
    match key.contains('.') {
        true => Query::Or(vec![attribute, Query::equals(key, value)]),
        false => attribute,
    }
}

fn query(asked: &Params) -> Result<Query> {
    let service = asked.get("service").ok_or_else(|| Error::bad("parameter 'service' is required"))?;
    let mut query = super::of_service(service);
    if let Some(operation) = asked.get("operation").filter(|operation| *operation != "all") {
        query = query.and(Query::equals("name", operation));
    }
    for (key, value) in tags(asked)? {
        query = query.and(with_tag(&key, &value));
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
        query = query.and(Query::Field { name, test });
    }
    Ok(query)
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
    let query = query(asked)?;
    let range = range(asked, server.clock.now_nanos())?;
    let limit = match asked.number("limit")? {
        None => DEFAULT_LIMIT,
        Some(limit) => usize::try_from(limit).map_err(|_| Error::bad("'limit' should not be negative"))?.min(MAX_LIMIT),
    };
    let (mut ids, mut seen, mut cursor): (Vec<TraceId>, _, _) = (Vec::new(), HashSet::new(), None);
    let mut lack = Vec::new();
    for round in 1..=MAX_ROUNDS {
        let page = server.engine.traces_of_spans(&query, range, SPANS_AT_ONCE, cursor).await?;
        lack.extend(lacks(&page.coverage)?);
        ids.extend(page.spans.iter().map(|(_, id)| *id).filter(|id| seen.insert(*id)));
        cursor = page.next_cursor;
        if ids.len() >= limit || cursor.is_none() {
            break;
        }
        if round == MAX_ROUNDS {
            lack.push(format!("only the newest {} spans that match were looked at", MAX_ROUNDS * SPANS_AT_ONCE));
        }
    }
    ids.truncate(limit);
    let mut told = read(server, &ids).await?;
    told.lacks.extend(lack);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            query(&asked).expect("a query").to_string(),
            r#"service:api name:"GET /" (status:ERROR OR $.error:true) ($.http.method:GET OR http.method:GET) $.items:5 $.name:x duration_nano>=1000000"#
        );
        for (bad, said) in [
            (params(&[]), "'service' is required"),
            (params(&[("service", "a"), ("tag", "x")]), "key:value"),
            (params(&[("service", "a"), ("tags", "x")]), "cannot unmarshal"),
            (params(&[("service", "a"), ("minDuration", "5")]), "no duration"),
            (params(&[("service", "a"), ("minDuration", "5s"), ("maxDuration", "1s")]), "greater"),
        ] {
            assert!(query(&bad).expect_err(said).message.contains(said));
        }
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
