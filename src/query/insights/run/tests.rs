use super::*;
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Rows, Value};
use crate::query::tests::{Lake, SECOND, T0};

fn extent(first: i64, last: i64) -> Extent {
    Extent {
        first_nanos: first,
        last_nanos: last,
        rows: 1,
        bytes: 1,
    }
}

/// The slices of a walk in which each page of more than `quick` takes too long; none is cut by a cursor.
fn slices(order: Order, range: TimeRange, there: Extent, quick: i64) -> Vec<TimeRange> {
    let mut walk = Walk::new(range, order);
    let mut read = Vec::new();
    while let Some(slice) = walk.slice() {
        let rows = slice.intersect(&TimeRange::new(there.first_nanos, there.last_nanos + 1));
        if rows.end_nanos - rows.start_nanos > quick {
            assert!(walk.narrow(slice, &there), "{slice:?}");
            continue;
        }
        read.push(slice);
        walk.has_read(slice, None);
    }
    read
}

#[test]
fn a_range_that_takes_too_long_is_read_in_slices_that_leave_nothing_out() {
    let range = TimeRange::new(0, 1_800_000_000 * SECOND);
    let there = extent(1_700_000_000 * SECOND, 1_700_003_600 * SECOND);
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let mut read = slices(order, range, there, 600 * SECOND);
        assert!(read.len() > 3 && read.len() < 40, "{}", read.len());
        if order == Order::NewestFirst {
            read.reverse();
        }
        assert!(read.windows(2).all(|pair| pair[0].end_nanos == pair[1].start_nanos), "{read:?}");
        assert!(
            read[0].start_nanos <= there.first_nanos && read[read.len() - 1].end_nanos > there.last_nanos,
            "{read:?}"
        );
    }
}

#[test]
fn what_was_read_of_a_slice_is_left_behind_and_trying_ends() {
    let there = extent(0, 100 * SECOND);
    let mut walk = Walk::new(TimeRange::new(0, 1_000 * SECOND), Order::NewestFirst);
    let slice = walk.slice().expect("all");
    walk.has_read(
        slice,
        Some(Cursor {
            time_unix_nano: 40 * SECOND,
            ingest_id: 7,
        }),
    );
    assert!(walk.narrow(slice, &there));
    // the row at the cursor's time with a smaller ID is still to come
    assert_eq!(walk.slice(), Some(TimeRange::new(40 * SECOND + 1 - (40 * SECOND + 1) / 2, 40 * SECOND + 1)));
    let mut tries = 0;
    while walk.narrow(walk.slice().expect("a slice"), &there) {
        tries += 1;
    }
    assert!((10..30).contains(&tries), "{tries}");
}

/// The events of some streams of a group, by resource attributes alone.
#[derive(Debug)]
struct Of {
    group: &'static str,
    /// Streams, and whether all of their rows are in scope.
    streams: &'static [(&'static str, Option<bool>)],
}

impl Scope for Of {
    fn query(&self) -> Query {
        Query::equals("@log_group", self.group)
    }
    fn event(&self, hit: Hit) -> Option<Event> {
        let Hit::Log(log) = hit else { return None };
        let resource = |key: &str| log.resource_attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let (group, stream) = (resource("aws.log.group.names")?, resource("aws.log.stream.names")?);
        let is_in = self.has(group, stream).unwrap_or(log.ingest_id % 2 == 0);
        is_in.then(|| Event {
            group: group.into(),
            stream: stream.into(),
            timestamp_millis: log.time_unix_nano / 1_000_000,
            message: log.body.clone().unwrap_or_default().into(),
            ..Event::default()
        })
    }
    fn has(&self, group: &str, stream: &str) -> Option<bool> {
        if group != self.group {
            return Some(false);
        }
        self.streams.iter().find(|(name, _)| *name == stream).map_or(Some(false), |(_, has)| *has)
    }
}

/// Lines of two groups and three streams, one a second from `first` on; each hundredth has the rare term.
fn lines(first: i64, n: i64) -> Rows {
    let mut builder = LogsBuilder::with_capacity(n as usize);
    let contexts: Vec<_> = [("g", "a"), ("g", "b"), ("other", "a")]
        .into_iter()
        .map(|(group, stream)| {
            let mut resource = ContextBuilder::new();
            resource.attribute("aws.log.group.names", Value::Str(group));
            resource.attribute("aws.log.stream.names", Value::Str(stream));
            builder.context(resource.build())
        })
        .collect();
    for i in first..first + n {
        let rare = if i % 100 < 3 { " rareterm" } else { "" };
        let body = format!("line {i}{rare}");
        builder.push(
            contexts[(i % 3) as usize],
            &LogRecord {
                time_unix_nano: T0 + i * SECOND,
                body: Some(&body),
                ..LogRecord::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(first << 20)
}

/// Two blocks and a head.
async fn lake() -> Lake {
    let lake = Lake::new().await;
    lake.block(&lines(0, 900), true).await;
    lake.block(&lines(900, 600), true).await;
    lake.head(vec![lines(1_500, 300)]);
    lake
}

fn plan(text: &str, streams: &'static [(&'static str, Option<bool>)]) -> Plan {
    Plan {
        script: Script::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")),
        scope: Arc::new(Of { group: "g", streams }),
        context: Context {
            start_millis: T0 / 1_000_000,
            end_millis: T0 / 1_000_000 + 3_600_000,
            now_millis: T0 / 1_000_000 + 3_600_000,
            account_id: "000000000000".into(),
            answers: vec![],
        },
        limits: Limits::default(),
        first: vec![],
    }
}

fn shown(answer: &Answer) -> Vec<Vec<(Arc<str>, String)>> {
    answer.rows.iter().map(|row| row.rendered()).collect()
}

async fn by_rows(lake: &Lake, plan: &Plan) -> (Answer, Scanned) {
    let progress = Progress::default();
    let pipeline = plan.script.pipeline(plan.context.clone(), plan.limits);
    let walk = Walk::new(range_of(&plan.context), pipeline.wants().order);
    let answer = read_rows(&lake.engine, plan, pipeline, walk, &progress, true).await.expect("an answer");
    (answer, progress.scanned())
}

const BOTH: &[(&str, Option<bool>)] = &[("a", Some(true)), ("b", Some(true))];
const ONE: &[(&str, Option<bool>)] = &[("a", Some(true))];
const SOME: &[(&str, Option<bool>)] = &[("a", Some(true)), ("b", None)];

#[tokio::test]
async fn a_count_by_the_index_is_the_count_of_the_rows() {
    let lake = lake().await;
    let mut n_by_index = 0;
    for text in [
        r#"filter @message like "rareterm" | stats count(*) as n by bin(5m) as t | sort t asc"#,
        "stats count(*) as n by bin(10m) as t | sort t desc",
        "stats count(*) as n",
        "stats count(*) as n by @logStream as s | sort s asc",
        r#"filter @logStream = "a" | stats count(*) as n by bin(1m) as t | sort n desc, t asc | limit 3"#,
        r#"filter @message like "nowhere" | stats count(*) as n by bin(5m)"#,
    ] {
        for streams in [BOTH, ONE, SOME] {
            let plan = plan(text, streams);
            let progress = Progress::default();
            let answer = run(&lake.engine, &plan, &progress).await.expect("an answer");
            let (read, scanned) = by_rows(&lake, &plan).await;
            assert_eq!(shown(&answer), shown(&read), "{text} {streams:?}");
            assert_eq!(answer.n_matched, read.n_matched, "{text}");
            if let Some(count) = plan.script.index_count() {
                let progress = Progress::default();
                let counted = count_by_index(&lake.engine, &plan, &count, range_of(&plan.context), &progress).await;
                let is_counted = counted.expect("no error").is_some();
                // of a stream whose rows are in scope in part there is no counting, unless there are none of it
                let may_be = streams != SOME || text.contains("= \"a\"") || text.contains("nowhere");
                assert_eq!(is_counted, may_be, "{text} {streams:?}");
                n_by_index += usize::from(is_counted);
                // of lines the index reads no more than their rows would be
                assert!(!is_counted || progress.scanned().bytes <= scanned.bytes, "{text}");
            }
        }
    }
    assert!(n_by_index >= 6, "{n_by_index}");
}

#[tokio::test]
async fn rows_of_head_and_blocks_come_in_order_and_no_more_are_read_than_are_wanted() {
    let lake = lake().await;
    let whole = plan("fields @message | sort @timestamp desc | limit 10000", BOTH);
    let progress = Progress::default();
    let answer = run(&lake.engine, &whole, &progress).await.expect("an answer");
    let expected: Vec<i64> = (0..1_800).rev().filter(|i| i % 3 != 2).collect();
    let messages = |answer: &Answer| -> Vec<i64> {
        let number = |row: Vec<(Arc<str>, String)>| {
            let (_, message) = row.into_iter().find(|(name, _)| &**name == "@message").expect("a message");
            message.split(' ').nth(1).expect("a number").parse().expect("a number")
        };
        answer.rows.iter().map(|row| number(row.rendered())).collect()
    };
    assert_eq!(messages(&answer), expected);
    assert_eq!(progress.scanned().events, 1_200);
    let few = plan("fields @message | limit 7", BOTH);
    let progress = Progress::default();
    let answer = run(&lake.engine, &few, &progress).await.expect("an answer");
    assert_eq!(messages(&answer), expected[..7]);
    let scanned = progress.scanned();
    assert!(scanned.events < 100 && scanned.events_skipped > 1_000, "{scanned:?}");
    // the range ends with the last millisecond
    let mut narrow = plan("fields @message", BOTH);
    (narrow.context.start_millis, narrow.context.end_millis) = (T0 / 1_000_000 + 3_000, T0 / 1_000_000 + 6_000);
    assert_eq!(messages(&run(&lake.engine, &narrow, &Progress::default()).await.expect("an answer")), [6, 4, 3]);
}
