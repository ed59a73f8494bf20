//! Conditions on the trace of a row, against what every row says.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

use super::*;

const SERVICES: [&str; 3] = ["cart", "checkout", "payment"];

/// A span of trace `trace`; `parent` is the number of another of its trace, 0 for none.
#[derive(Clone, Debug)]
struct Step {
    trace: u8,
    parent: usize,
    service: usize,
    has_failed: bool,
    seconds: i64,
}

#[derive(Clone, Debug)]
struct Line {
    trace: Option<u8>,
    word: &'static str,
    seconds: i64,
}

fn id_of_trace(trace: u8) -> TraceId {
    TraceId::from_bytes(&[trace; 16]).expect("not zero")
}

fn id_of_span(number: usize) -> SpanId {
    SpanId::from_bytes(&(number as u64).to_be_bytes()).expect("not zero")
}

/// Numbers of spans within their trace are their places among all, from 1 on: a parent may be of another trace, and then is missing.
fn span_rows(steps: &[Step]) -> Rows {
    let mut builder = SpansBuilder::default();
    for (number, step) in (1..).zip(steps) {
        let mut context = ContextBuilder::new();
        context.attribute("service.name", Value::Str(SERVICES[step.service]));
        let context = builder.context(context.build());
        builder.attribute("test.id", Value::Int(number as i64));
        let start = T0 + step.seconds * SECOND;
        builder.push(
            context,
            &SpanRecord {
                start_time_unix_nano: start,
                end_time_unix_nano: Some(start + 1_000_000 * number as i64),
                trace_id: id_of_trace(step.trace),
                span_id: id_of_span(number),
                parent_span_id: (step.parent > 0).then(|| id_of_span(step.parent)),
                trace_state: None,
                trace_flags: None,
                name: "SELECT",
                kind: "CLIENT",
                status_code: if step.has_failed { "ERROR" } else { "UNSET" },
                status_message: None,
                in_progress: false,
                dropped_attributes_count: 0,
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1_000)
}

fn log_rows(lines: &[Line]) -> Rows {
    let mut builder = LogsBuilder::default();
    for (number, line) in lines.iter().enumerate() {
        let context = builder.context(ContextBuilder::new().build());
        builder.attribute("test.id", Value::Int(number as i64));
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + line.seconds * SECOND,
                body: Some(line.word),
                trace_id: line.trace.map(id_of_trace),
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

/// Conditions on one span, as they are written, and as they are meant.
#[derive(Clone, Copy, Debug)]
enum One {
    Service(usize),
    Failed,
    Any,
}

impl One {
    fn written(self) -> String {
        match self {
            One::Service(service) => format!("service:{}", SERVICES[service]),
            One::Failed => "error:true".into(),
            One::Any => "*".into(),
        }
    }
    fn is(self, step: &Step) -> bool {
        match self {
            One::Service(service) => step.service == service,
            One::Failed => step.has_failed,
            One::Any => true,
        }
    }
}

fn is_below(steps: &[Step], above: usize, number: usize) -> bool {
    let trace = steps[number - 1].trace;
    let mut at = number;
    (0..steps.len()).any(|_| {
        let parent = match at {
            0 => 0,
            at if steps[at - 1].trace != trace => 0,
            at => steps[at - 1].parent,
        };
        at = parent;
        at == above
    })
}

/// A condition on traces, and whether a trace meets it.
fn meets(steps: &[Step], trace: u8, sign: &str, a: One, b: One) -> bool {
    let of = |one: One| {
        (1..)
            .zip(steps)
            .filter(move |(_, step)| step.trace == trace && one.is(step))
            .map(|(number, step): (usize, _)| (number, step))
            .collect::<Vec<_>>()
    };
    let (left, right) = (of(a), of(b));
    match sign {
        "AND" => !left.is_empty() && !right.is_empty(),
        "OR" => !left.is_empty() || !right.is_empty(),
        ">" => right.iter().any(|(_, step)| left.iter().any(|(number, _)| *number == step.parent)),
        "~" => right
            .iter()
            .any(|(number, step)| step.parent > 0 && left.iter().any(|(other, beside)| beside.parent == step.parent && other != number)),
        _ => right.iter().any(|(number, _)| left.iter().any(|(above, _)| is_below(steps, *above, *number))),
    }
}

fn one() -> impl Strategy<Value = One> {
    prop_oneof![(0..3usize).prop_map(One::Service), Just(One::Failed), Just(One::Any)]
}

async fn three_ways(spans: &Rows, logs: &Rows, config: &Config) -> [(Lake, &'static str); 4] {
    let lakes = [
        (Lake::with_config(config.clone()).await, "head"),
        (Lake::with_config(config.clone()).await, "index"),
        (Lake::with_config(config.clone()).await, "scan"),
        (Lake::far().await, "far"),
    ];
    lakes[0].0.head(vec![spans.clone(), logs.clone()]);
    for (lake, way) in &lakes[1..] {
        // two blocks of spans: a trace may lie in both
        let cut = spans.len() / 2;
        for part in [spans.slice(0, cut), spans.slice(cut, spans.len() - cut)] {
            if !part.is_empty() {
                lake.block(&part, *way != "scan").await;
            }
        }
        lake.block(logs, *way != "scan").await;
    }
    lakes
}

/// IDs of all rows that a statement finds, in some order.
async fn found_by_sql(lake: &Lake, table: Table, query: &str) -> Vec<String> {
    let request = SqlRequest {
        query: format!("SELECT attributes['test.id'] FROM {} WHERE search('{query}')", table.name()),
        limit: 10_000,
    };
    let answer = lake.engine.sql(&request).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    assert!(answer.coverage.complete, "{:?}", answer.coverage);
    let id = |row: &Vec<serde_json::Value>| row[0].as_str().expect("a text").to_string();
    answer.rows.iter().map(id).collect()
}

#[tokio::test]
async fn conditions_on_traces_find_what_every_span_and_record_says() {
    let mut runner = TestRunner::new(ProptestConfig {
        rng_seed: RngSeed::Fixed(11),
        ..ProptestConfig::default()
    });
    let step = || {
        (1..6u8, 0..12usize, 0..3usize, any::<bool>(), 0..3_000i64).prop_map(|(trace, parent, service, has_failed, seconds)| Step {
            trace,
            parent,
            service,
            has_failed,
            seconds,
        })
    };
    let line = || {
        (
            proptest::option::of(1..7u8),
            proptest::sample::select(&["reset", "timeout", "fine"][..]),
            0..3_000i64,
        )
            .prop_map(|(trace, word, seconds)| Line { trace, word, seconds })
    };
    for _ in 0..6 {
        let mut steps = proptest::collection::vec(step(), 1..12).new_tree(&mut runner).expect("steps").current();
        let n_steps = steps.len();
        steps.iter_mut().for_each(|step| step.parent %= n_steps + 1);
        let lines = proptest::collection::vec(line(), 1..12).new_tree(&mut runner).expect("lines").current();
        let (spans, logs) = (span_rows(&steps), log_rows(&lines));
        let lakes = three_ways(&spans, &logs, &Config::default()).await;
        for number in 0..25 {
            let sign = proptest::sample::select(&["", ">", ">>", "~", "AND", "OR", "log"][..]);
            let (sign, a, b) = (sign, one(), one()).new_tree(&mut runner).expect("a question").current();
            let is_negated = any::<bool>().new_tree(&mut runner).expect("a flag").current();
            let (condition, meets): (String, Box<dyn Fn(u8) -> bool>) = match sign {
                "" => (
                    format!("trace:({} {})", a.written(), b.written()),
                    Box::new(|trace| steps.iter().any(|step| step.trace == trace && a.is(step) && b.is(step))),
                ),
                "log" => (
                    "log:(reset OR timeout)".into(),
                    Box::new(|trace| lines.iter().any(|line| line.trace == Some(trace) && line.word != "fine")),
                ),
                sign => (
                    format!("trace:({{{}}} {sign} {{{}}})", a.written(), b.written()),
                    Box::new(|trace| meets(&steps, trace, sign, a, b)),
                ),
            };
            let query = if is_negated { format!("-{condition}") } else { condition };
            let mut of_logs: Vec<(i64, usize)> = (0..lines.len())
                .filter(|number| lines[*number].trace.is_some_and(&meets) != is_negated)
                .map(|number| (lines[number].seconds, number))
                .collect();
            let mut of_spans: Vec<(i64, usize)> = (1..=steps.len())
                .filter(|number| meets(steps[number - 1].trace) != is_negated)
                .map(|number| (steps[number - 1].seconds, number))
                .collect();
            of_logs.sort_by_key(|found| std::cmp::Reverse(*found));
            of_spans.sort_by_key(|found| std::cmp::Reverse(*found));
            for (lake, way) in &lakes {
                for (table, expected) in [(Table::Logs, &of_logs), (Table::Spans, &of_spans)] {
                    let expected: Vec<String> = expected.iter().map(|(_, number)| number.to_string()).collect();
                    assert_eq!(
                        lake.find(table, &query).await,
                        expected,
                        "{query} on {} by {way}\n{steps:#?}\n{lines:#?}",
                        table.name()
                    );
                    // a statement is planned anew each time
                    if number % 5 == 0 && (*way == "head" || *way == "index") {
                        let (mut by_sql, mut expected) = (found_by_sql(lake, table, &query).await, expected);
                        by_sql.sort_unstable();
                        expected.sort_unstable();
                        assert_eq!(by_sql, expected, "{query} on {} by SQL, {way}", table.name());
                    }
                }
            }
        }
    }
}

fn many_traces() -> (Rows, Rows) {
    let step = |number: usize| Step {
        trace: number as u8 + 1,
        parent: 0,
        service: number % 3,
        has_failed: number == 7,
        seconds: number as i64,
    };
    let line = |number: usize| Line {
        trace: Some(number as u8 + 1),
        word: if number < 3 { "reset" } else { "fine" },
        seconds: number as i64,
    };
    (
        span_rows(&(0..30).map(step).collect::<Vec<_>>()),
        log_rows(&(0..30).map(line).collect::<Vec<_>>()),
    )
}

#[tokio::test]
async fn a_broad_condition_is_asked_among_the_traces_that_the_others_leave() {
    let (spans, logs) = many_traces();
    let config = Config {
        max_anchor_traces: 5,
        ..Config::default()
    };
    for (lake, way) in three_ways(&spans, &logs, &config).await.iter().take(3) {
        // ten traces have a span of `cart`; three records say `reset`
        assert_eq!(lake.find(Table::Logs, "reset trace:(service:cart)").await, ["0"], "{way}");
        assert_eq!(lake.find(Table::Logs, "reset -trace:(service:cart)").await, ["2", "1"], "{way}");
        assert_eq!(lake.find(Table::Logs, "trace:(error:true)").await, ["7"], "{way}");
        for query in ["trace:(service:cart)", "fine trace:(service:cart)", "reset OR trace:(service:cart)"] {
            let request = CountRequest {
                table: Table::Logs,
                query: parse(query, Table::Logs).expect("a query"),
                range: TimeRange::ALL,
                by: vec![],
                bucket_nanos: None,
                limit: 1,
            };
            let refused = lake.engine.count_groups(&request).await.expect_err("too many");
            assert_eq!(refused.kind(), ErrorKind::BadQuery, "{way}: {query}");
            assert!(refused.to_string().contains("`trace:(service:cart)` means more than 5 traces"), "{refused}");
        }
        // SQL's other conditions leave few traces as well as those of the search do
        let sql = async |condition: &str| {
            let request = SqlRequest {
                query: format!("SELECT count(*) FROM logs WHERE {condition}"),
                limit: 1,
            };
            lake.engine
                .sql(&request)
                .await
                .map(|answer| (answer.rows[0][0].clone(), answer.coverage.complete))
        };
        for condition in [
            "search('trace:(service:cart)') AND body = 'reset'",
            "body LIKE 'rese%' AND search('trace:(service:cart)') AND search('*')",
            "search('reset trace:(service:cart)')",
        ] {
            assert_eq!(sql(condition).await.expect("an answer"), ("1".into(), true), "{way}: {condition}");
        }
        // under OR and NOT as in the search language
        for (condition, query) in [
            ("NOT search('trace:(error:true)')", "NOT trace:(error:true)"),
            ("search('trace:(error:true)') OR search('reset')", "trace:(error:true) OR reset"),
            (
                "NOT (search('trace:(error:true)') OR search('timeout')) AND body <> 'x'",
                "NOT (trace:(error:true) OR timeout)",
            ),
            (
                "NOT (search('reset') AND NOT search('trace:(service:cart)'))  AND search('reset')",
                "reset trace:(service:cart)",
            ),
        ] {
            let n = lake.find(Table::Logs, query).await.len();
            assert!(n > 0, "{query}");
            assert_eq!(sql(condition).await.expect("an answer"), (n.to_string().into(), true), "{way}: {condition}");
        }
        let refused = sql("search('trace:(error:true)') OR body = 'reset'").await.expect_err("it is not all searches");
        assert!(refused.to_string().contains("write OR and NOT into its query"), "{refused}");
        let refused = sql("search('trace:(service:cart)') AND trace_flags IS NULL").await.expect_err("too many");
        assert_eq!(refused.kind(), ErrorKind::BadQuery, "{way}: {refused}");
        assert!(
            refused.to_string().contains("means more than 5 traces") && refused.to_string().contains("max_anchor_traces"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_trace_reaches_beyond_the_range_that_is_asked_for() {
    let (spans, logs) = many_traces();
    let (lake, _) = &three_ways(&spans, &logs, &Config::default()).await[1];
    let query = parse("trace:(error:true)", Table::Logs).expect("a query");
    // the span began at second 7
    let range = |first: i64| TimeRange::new(T0 + first * SECOND, T0 + 7_200 * SECOND);
    let before = lake.engine.count(Table::Logs, &query, range(7)).await.expect("a count");
    assert_eq!(before.count, 1);
    assert_eq!(before.coverage.range, range(7));
    let behind = lake.engine.count(Table::Logs, &query, range(8)).await.expect("a count");
    assert_eq!((behind.count, behind.coverage.complete), (0, true));
}

#[tokio::test]
async fn a_live_tail_and_a_delete_refuse_conditions_on_traces() {
    let lake = Lake::new().await;
    let query = parse("reset trace:(error:true)", Table::Logs).expect("a query");
    let refused = lake.engine.tail(Table::Logs, query).expect_err("it knows rows one by one");
    assert_eq!(refused.kind(), ErrorKind::BadQuery);
    assert!(refused.to_string().contains("trace:(error:true)"), "{refused}");
    use crate::ingest::Finder;
    assert!(SearchLanguage.compile(Table::Logs, "log:(reset)", T0).is_err());
}
