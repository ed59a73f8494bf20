use super::super::Record;
use super::*;
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, Rows, Value};
use crate::query::tests::{Lake, SECOND, T0};

mod records;

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
        self.shows(group, stream, log.time_unix_nano / 1_000_000).then(|| Event {
            pointer: crate::model::EventId::new(log.time_unix_nano, log.ingest_id, group, stream).pointer().into(),
            group: group.into(),
            stream: stream.into(),
            timestamp_millis: log.time_unix_nano / 1_000_000,
            message: log.body.clone().unwrap_or_default().into(),
            trace_id: log.trace_id.clone(),
            record: Some(Box::new(Record {
                attributes: log.attributes.clone(),
                resource_attributes: log.resource_attributes.clone(),
                severity_number: log.severity_number,
                severity_text: log.severity_text.clone(),
                event_name: log.event_name.clone(),
                trace_id_source: log.trace_id_source.clone(),
                pattern_id: log.pattern_id,
            })),
            ..Event::default()
        })
    }
    fn has(&self, group: &str, stream: &str) -> Option<bool> {
        if group != self.group {
            return Some(false);
        }
        self.streams.iter().find(|(name, _)| *name == stream).map_or(Some(false), |(_, has)| *has)
    }
    // as of every other row, in memory and in blocks alike
    fn shows(&self, group: &str, stream: &str, ingestion_millis: i64) -> bool {
        self.has(group, stream).unwrap_or(ingestion_millis / 1_000 % 2 == 0)
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
            region: "eu-west-1".into(),
            answers: vec![],
            memory: Arc::default(),
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
    let fed = read_rows(&lake.engine, plan, pipeline, walk, &progress, true).await.expect("events");
    (fed.finish().expect("an answer"), progress.scanned())
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
                // of lines the index reads no more than their rows would be, but for those that it tries
                let tried = lake.engine.extent(Table::Logs, TimeRange::ALL).bytes / 8;
                assert!(!is_counted || progress.scanned().bytes <= scanned.bytes + tried, "{text}");
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

async fn shared(lake: &Lake, plan: &Plan) -> (Answer, Scanned) {
    let progress = Progress::default();
    let pipeline = plan.script.pipeline(plan.context.clone(), plan.limits);
    assert!(pipeline.can_share(), "it has steps that cannot be shared");
    let needs = Needs::of(plan.script.wanted.as_deref()).expect("columns tell");
    let fed = share_rows(&lake.engine, plan, pipeline, needs, range_of(&plan.context), &progress, true)
        .await
        .expect("events");
    (fed.finish().expect("an answer"), progress.scanned())
}

#[tokio::test]
async fn what_workers_gather_of_shares_is_what_one_gathers_of_all_rows() {
    let lake = lake().await;
    // a block that must be scanned
    lake.block(&lines(1_800, 200), false).await;
    for text in [
        r#"parse @message "line * *" as n, word | filter n < 1500 | stats count(*) as c, sum(n) as s, avg(n) as a, min(n), max(n) by bin(5m) as t, word"#,
        r"parse @message /line (?<n>\d+)(?<rest>.*)/ | stats count_distinct(n) as d, pct(n, 90) as p, round(stddev(n), 6) as v by rest, @logStream",
        r#"filter @message like "retER" or @message like /aret.r/ | stats count(*), earliest(@message) as e, latest(@message) as l"#,
        r#"filter @message like "aret" | stats values(@logStream) as s, topk(2, @logStream) as k by bin(10m)"#,
        "filter @message not like /9/ | stats count(*) as n by @log, @logStream | sort n desc | limit 1",
        "stats count(@ptr) as n, count_distinct(@ptr) as p, rate(strlen(@message), 1s) as r, histogram(strlen(@message), 2) as h by bin(1h)",
        "stats count(*) as n by strlen(@message) as l | stats max(n) as m by l > 8 as long",
        "pattern @message",
        "countFrequent @logStream",
    ] {
        for streams in [BOTH, ONE, SOME] {
            let plan = plan(text, streams);
            let (answer, scanned) = shared(&lake, &plan).await;
            let (read, _) = by_rows(&lake, &plan).await;
            assert_eq!(shown(&answer), shown(&read), "{text} {streams:?}");
            assert_eq!(answer.n_matched, read.n_matched, "{text}");
            assert!(!answer.rows.is_empty() && scanned.events > 0 && scanned.bytes > 0, "{text} {scanned:?}");
            let whole = run(&lake.engine, &plan, &Progress::default()).await.expect("an answer");
            assert_eq!(shown(&whole), shown(&read), "{text} {streams:?}");
        }
    }
}

#[tokio::test]
async fn shares_together_have_no_more_memory_than_one() {
    let lake = lake().await;
    let mut plan = plan("stats count(*) by @message", BOTH);
    plan.limits.max_memory_bytes = 600 * 1_000;
    assert!(run(&lake.engine, &plan, &Progress::default()).await.is_ok());
    plan.limits.max_memory_bytes = 100 * 1_000;
    let error = run(&lake.engine, &plan, &Progress::default()).await.expect_err("1,200 groups take more");
    assert!(matches!(error, RunError::Failed(Failed::Memory { command: "stats", .. })), "{error}");
}

/// With the plans of its subqueries.
fn whole_plan(text: &str, limits: Limits) -> Plan {
    let outer = Plan { limits, ..plan(text, BOTH) };
    let inner = |subscript: &crate::query::insights::Subscript| Plan {
        script: subscript.script.clone(),
        limits: Limits {
            default_limit: subscript.max_rows,
            ..limits
        },
        ..outer.clone()
    };
    let first = outer.script.subscripts().iter().map(inner).collect();
    Plan { first, ..outer }
}

#[tokio::test]
async fn subqueries_and_what_is_held_of_them_have_no_more_memory_than_one() {
    let lake = lake().await;
    for (begin, each) in [
        ("fields @timestamp", " | appendcols (fields @message)"),
        (
            "fields @message",
            " | filter @message in (display concat(@message, @message, @message, @message, @message))",
        ),
    ] {
        let answer = async |n: usize, max_memory_bytes: usize| {
            let limits = Limits {
                max_memory_bytes,
                ..Limits::default()
            };
            let plan = whole_plan(&format!("{begin}{} | stats count(*) as n", each.repeat(n)), limits);
            run(&lake.engine, &plan, &Progress::default()).await
        };
        // the least that one needs, about
        let mut enough = 1 << 10;
        while answer(1, enough).await.is_err() {
            enough = enough * 3 / 2;
        }
        assert!(enough > 20 << 10, "{enough}");
        let error = answer(10, enough).await.expect_err("ten need more than one");
        assert!(matches!(error, RunError::Failed(Failed::Memory { .. })), "{error}");
        assert!(error.to_string().contains(&format!("needs more than {enough} bytes")), "{error}");
        assert!(answer(10, enough * 16).await.is_ok(), "what is not held any more counts no more");
        let eleven = format!("{begin}{}", each.repeat(11));
        let error = Script::parse(&eleven).expect_err("more than there may be");
        assert!(error.message.contains("more than 10 subqueries"), "{error}");
    }
}

#[tokio::test]
async fn a_run_whose_block_was_replaced_meanwhile_is_as_whole_as_any() {
    // the views that are asked for before the second try
    for (text, views) in [("stats count(*) as n by strlen(@message)", 3), ("fields @message | sort @message asc", 2)] {
        let plan = plan(text, BOTH);
        let mut before = None;
        for stale_views in 0..=views {
            let lake = Lake::far().await;
            let old = lake.block(&lines(0, 300), true).await;
            lake.replace(&old, &lines(0, 300), stale_views).await;
            let answer = run(&lake.engine, &plan, &Progress::default()).await;
            let answer = answer.unwrap_or_else(|error| panic!("{text} {stale_views}: {error}"));
            assert_eq!(shown(&answer), *before.get_or_insert_with(|| shown(&answer)), "{text} {stale_views}");
            assert!(!answer.rows.is_empty());
        }
    }
}

#[tokio::test]
async fn many_bins_are_counted_by_the_index_piece_by_piece() {
    let lake = lake().await;
    // far more bins than one count may have
    let mut plan = plan("stats count(*) as n by bin(1s) as t | stats count(*) as bins, sum(n) as n", BOTH);
    plan.context.start_millis = 0;
    let progress = Progress::default();
    let answer = run(&lake.engine, &plan, &progress).await.expect("an answer");
    assert_eq!(shown(&answer), [[("bins".into(), "1200".into()), ("n".into(), "1200".to_string())]]);
    let index = plan.script.index_count().expect("a count");
    let counted = count_by_index(&lake.engine, &plan, &index, range_of(&plan.context), &Progress::default()).await;
    assert_eq!(counted.expect("no error").expect("counted").len(), 1_200);
    for (start, end, bin) in [(5, 100, Some(10)), (0, 1, Some(10)), (-7, 95, Some(10)), (5, 100, None)] {
        let pieces = pieces_of(TimeRange::new(start, end), bin);
        assert_eq!((pieces[0].start_nanos, pieces[pieces.len() - 1].end_nanos), (start, end));
        assert!(
            pieces
                .windows(2)
                .all(|pair| pair[0].end_nanos == pair[1].start_nanos && pair[1].start_nanos % 30 == 0)
        );
    }
}

/// Lines of one stream of which few hold a word, and that as a part of a longer one.
fn many_lines(n: i64, is_rare: fn(i64) -> bool) -> Rows {
    let mut builder = LogsBuilder::with_capacity(n as usize);
    let mut resource = ContextBuilder::new();
    resource.attribute("aws.log.group.names", Value::Str("g"));
    resource.attribute("aws.log.stream.names", Value::Str("a"));
    let context = builder.context(resource.build());
    for i in 0..n {
        let rare = if is_rare(i) { " subneedless" } else { "" };
        let body = format!(
            "GET /cart/{} took {} ms for customer-{}{rare}",
            i * 7_919 % 10_007,
            i * 31 % 997,
            i * 104_729 % 5_003
        );
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + i * SECOND / 50,
                body: Some(&body),
                ..LogRecord::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(0)
}

#[tokio::test]
async fn a_piece_of_a_rare_word_costs_a_small_share_of_the_bytes() {
    let lake = Lake::new().await;
    lake.block(&many_lines(100_000, |i| i == 31_000 || i == 30_980), true).await;
    for text in [
        r#"filter @message like "needle" | stats count(*) as n by bin(5m)"#,
        r#"filter @message like /(?i)Needle/ | stats count(*) as n by bin(5m)"#,
        r#"filter @message like "subneed" and @message like /less$/ | stats count(*) as n by bin(5m)"#,
        r#"filter @message like "needle" or strcontains(@message, "thread") | parse @message "GET * " as path | stats count(*) as n by path"#,
    ] {
        let plan = plan(text, ONE);
        let progress = Progress::default();
        let answer = run(&lake.engine, &plan, &progress).await.expect("an answer");
        let scanned = progress.scanned();
        assert_eq!((answer.rows.is_empty(), answer.n_matched), (false, 2), "{text}");
        let share = scanned.bytes as f64 / (scanned.bytes + scanned.bytes_skipped) as f64;
        assert!(scanned.bytes > 0 && share < 0.05, "{text}: {share}, {scanned:?}");
    }
    // case counts, though the index knows none
    let answer = run(
        &lake.engine,
        &plan(r#"filter @message like "Needle" | stats count(*)"#, ONE),
        &Progress::default(),
    )
    .await;
    assert_eq!(answer.expect("an answer").n_matched, 0);
}

#[tokio::test]
async fn patterns_are_compared_with_those_of_an_earlier_time() {
    let lake = lake().await;
    let times = |script: &str, start: i64, end: i64| {
        let mut plan = plan(script, BOTH);
        (plan.context.start_millis, plan.context.end_millis) = (T0 / 1_000_000 + start * 1_000, T0 / 1_000_000 + end * 1_000 - 1);
        plan
    };
    let of_row = |row: &crate::query::insights::AnswerRow| -> Vec<String> { row.rendered().into_iter().map(|(_, value)| value).collect() };
    // 67 lines of 100 are of the group; of each hundred two of those have the term
    let plan = times("pattern @message | diff", 900, 1_500);
    let answer = run(&lake.engine, &plan, &Progress::default()).await.expect("an answer");
    let rows: Vec<Vec<String>> = answer.rows.iter().map(of_row).collect();
    assert_eq!(
        rows,
        [
            ["line <Number-1>", "0.97", "388", "NONE", "0", "same"],
            ["line <Number-1> rareterm", "0.03", "12", "NONE", "0", "same"],
        ]
    );
    let new = times("filter @message like /line 4$|line 9.. rare/ | pattern @message | diff", 600, 1_200);
    let answer = run(&lake.engine, &new, &Progress::default()).await.expect("an answer");
    let rows: Vec<Vec<String>> = answer.rows.iter().map(of_row).collect();
    assert_eq!(
        rows,
        [
            ["line <Number-1> rareterm", "1", "2", "NONE", "2", "new"],
            ["line <Number-1>", "0", "0", "NONE", "-1", "gone"],
        ]
    );
}

#[test]
fn a_time_in_two_ranges_is_read_once() {
    let range = TimeRange::new(10_000_000, 20_000_000);
    assert_eq!(ranges_of(range, None), [range]);
    assert_eq!(ranges_of(range, Some((0, 9))), [range, TimeRange::new(0, 10_000_000)]);
    assert_eq!(ranges_of(range, Some((7, 16))), [range, TimeRange::new(7_000_000, 10_000_000)]);
    assert_eq!(ranges_of(range, Some((1, 3))), [range, TimeRange::new(1_000_000, 4_000_000)]);
}

#[tokio::test]
async fn a_run_that_is_dropped_ends_its_joins() {
    let lake = lake().await;
    let plan = plan("stats count(*)", BOTH);
    let mut pipeline = plan.script.pipeline(plan.context.clone(), plan.limits);
    let share = pipeline.share();
    drop(StopsWhenDropped(pipeline.stopper()));
    assert_eq!(pipeline.push(Event::default()), Ok(Flow::Enough));
    assert_eq!(share.clone().push(Event::default()), Ok(Flow::Enough));
    drop(lake);
}

#[tokio::test]
async fn a_search_in_a_filter_keeps_what_it_finds_also_by_the_trace() {
    use crate::model::{SpanId, SpanRecord, SpansBuilder, TraceId};
    let trace = |n: u8| TraceId::from_bytes(&[n; 16]).expect("not zero");
    let mut spans = SpansBuilder::default();
    for n in 1..=6u8 {
        let context = spans.context(ContextBuilder::new().build());
        spans.push(
            context,
            &SpanRecord {
                start_time_unix_nano: T0 + i64::from(n) * SECOND,
                end_time_unix_nano: Some(T0 + i64::from(n) * SECOND + 1_000_000),
                trace_id: trace(n),
                span_id: SpanId::from_bytes(&[n; 8]).expect("not zero"),
                parent_span_id: None,
                trace_state: None,
                trace_flags: None,
                name: "SELECT",
                kind: "CLIENT",
                status_code: if n % 2 == 0 { "ERROR" } else { "UNSET" },
                status_message: None,
                in_progress: false,
                dropped_attributes_count: 0,
            },
        );
    }
    let spans = spans.finish().expect("rows").with_ingest_ids(1 << 30);
    let mut logs = LogsBuilder::with_capacity(12);
    let mut resource = ContextBuilder::new();
    resource.attribute("aws.log.group.names", Value::Str("g"));
    resource.attribute("aws.log.stream.names", Value::Str("a"));
    let context = logs.context(resource.build());
    for n in 1..=12u8 {
        let body = format!("line {n}{}", if n > 3 { " late" } else { "" });
        logs.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + i64::from(n) * SECOND,
                body: Some(&body),
                trace_id: (n <= 6).then(|| trace(n)),
                ..LogRecord::default()
            },
        );
    }
    let logs = logs.finish().expect("rows").with_ingest_ids(0);
    let (fresh, flushed) = (Lake::new().await, Lake::new().await);
    fresh.head(vec![spans.clone(), logs.clone()]);
    flushed.block(&spans, true).await;
    flushed.block(&logs, true).await;
    for lake in [&fresh, &flushed] {
        for (text, rows) in [
            (
                "fields @message | filter search('trace:(error:true)') | sort @timestamp",
                "line 2,line 4 late,line 6 late",
            ),
            (
                "fields @message | filter search('trace:(error:true)') and @message like 'late' | sort @timestamp",
                "line 4 late,line 6 late",
            ),
            // the index counts, events are gathered, and a second filter stands behind another command
            ("filter search('late -trace:(error:true)') | stats count(*) as n", "7"),
            ("filter search('trace:(error:true) OR \"line 9\"') | stats max(strlen(@message)) as n", "11"),
            (
                "parse @message 'line *' as what | filter search('trace:({name:SELECT} AND {error:true})') | filter what = '2' | fields what",
                "2",
            ),
        ] {
            let plan = Plan {
                script: Script::parse(text).unwrap_or_else(|malformed| panic!("{text}: {malformed:?}")),
                scope: Arc::new(Of {
                    group: "g",
                    streams: &[("a", Some(true))],
                }),
                context: Context {
                    start_millis: T0 / 1_000_000,
                    end_millis: T0 / 1_000_000 + 100_000,
                    now_millis: T0 / 1_000_000,
                    ..Context::default()
                },
                limits: Limits::default(),
                first: vec![],
            };
            let answer = run(&lake.engine, &plan, &Progress::default())
                .await
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            let values: Vec<String> = answer.rows.iter().filter_map(|row| Some(row.rendered().first()?.1.clone())).collect();
            assert_eq!(values.join(","), rows, "{text}");
        }
    }
}

#[test]
fn a_search_stands_where_every_event_is_asked_it() {
    for (text, told) in [
        ("filter search('a') or @message like 'b'", "stands by itself"),
        ("filter not search('a')", "stands by itself"),
        ("filter @message like 'b' and (search('a') or search('b'))", "stands by itself"),
        ("fields search('a') as a", "stands by itself"),
        ("stats count(*) by @logStream | filter search('a')", "stands by itself"),
        ("limit 5 | filter search('a')", "stands by itself"),
        ("filter search(@message)", "a query in quotes"),
        ("filter search('severity:nonsense')", "\"nonsense\" is not a severity"),
        ("filter search('a AND (b')", "at character"),
    ] {
        let malformed = Script::parse(text).expect_err(text);
        assert!(malformed.message.contains(told), "{text}: {}", malformed.message);
    }
    for text in [
        "filter search('a') and (search('b'))",
        "parse @message '* *' as a, b | filter search('c') | limit 3",
    ] {
        assert!(Script::parse(text).is_ok_and(|script| script.has_search()), "{text}");
    }
}
