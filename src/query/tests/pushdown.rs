//! Conditions of SQL that are pushed down against the same conditions over rows that are all read: random rows of logs and spans,
//! random conditions, fresh rows and blocks. `TRACELAKE_SEED=n` takes others.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as ProptestConfig, RngSeed, TestRunner};

use super::differential::{NAMES, VALUES, WORDS, query, record, rows, span, span_rows};
use super::sql::{lake_step, metric};
use super::*;

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Texts, numbers and flags that a condition may be about.
struct Subjects {
    texts: &'static [&'static str],
    numbers: &'static [&'static str],
    flags: &'static [&'static str],
}

const OF_LOGS: Subjects = Subjects {
    texts: &[
        "attributes['k']",
        "attributes['n']",
        "attributes['a.b']",
        "attributes['host']",
        "attributes['none']",
        "resource_attributes['host']",
        "resource_attributes['service.name']",
        "resource_attributes['k']",
        "service_name",
        "severity_text",
        "trace_id",
        "body",
        "body",
    ],
    numbers: &["severity_number", "time_unix_nano", "ingest_id", "pattern_id", "body_type"],
    flags: &["true", "severity_number = 9"],
};
const OF_SPANS: Subjects = Subjects {
    texts: &[
        "attributes['k']",
        "attributes['n']",
        "attributes['http.route']",
        "attributes['http.method']",
        "attributes['http.response.status_code']",
        "attributes['exception.type']",
        "resource_attributes['service.name']",
        "resource_attributes['host']",
        "http_route",
        "http_request_method",
        "service_name",
        "name",
        "name",
        "kind",
        "status_message",
        "parent_span_id",
        "trace_id",
    ],
    numbers: &["duration_nano", "http_response_status_code", "start_time_unix_nano", "ingest_id"],
    flags: &["is_root", "in_progress"],
};

fn condition(of: &'static Subjects) -> impl Strategy<Value = String> {
    let text = || proptest::sample::select(of.texts);
    let number = || proptest::sample::select(of.numbers);
    let value = || {
        prop_oneof![
            3 => proptest::sample::select(&VALUES[..]),
            2 => proptest::sample::select(&WORDS[..]),
            1 => proptest::sample::select(&NAMES[..]),
            1 => Just("SERVER"),
        ]
    };
    let compare = || proptest::sample::select(&["=", "<>", "<", "<=", ">", ">="][..]);
    let not = || proptest::sample::select(&["", "NOT "][..]);
    let figure = || {
        prop_oneof![
            (0..26i64).prop_map(|n| n.to_string()),
            Just("0".to_string()),
            Just("-0.0".to_string()),
            Just("17.5".to_string()),
            Just("-1".to_string()),
            Just("4.2".to_string()),
            Just("42".to_string()),
            Just("503".to_string()),
            (0..20i64).prop_map(|n| (T0 + n * SECOND).to_string()),
            (0..4i64).prop_map(|n| (n * SECOND).to_string()),
            Just("2.5e9".to_string()),
            Just("9.3e18".to_string()),
        ]
    };
    // a piece of a value between wildcards
    let pattern = || {
        (value(), 0..3usize, 0..3usize, 0..4usize, 0..4usize).prop_map(|(text, from, to, before, behind)| {
            let letters: Vec<char> = text.chars().take(40).collect();
            let (from, to) = (from.min(letters.len() / 2), to.min(letters.len() / 2));
            let mut piece: String = letters[from..letters.len() - to].iter().collect();
            if letters.len() % 5 == 4 {
                piece = piece.replace(['r', '0'], "_");
            }
            let sign = |n: usize| ["%", "", "_", "%"][n];
            format!("{}{piece}{}", sign(before), sign(behind))
        })
    };
    // what may be asked of tokens alone, and what may not
    let piece = || proptest::sample::select(&["err", "ERR", "rror", "reset", "503", "200", "42", "pay", "ist", "k", "x", "or re", "éa", "c0ff"][..]);
    let regex = || proptest::sample::select(&["^x", "err?or", "2$", "[Xé]", "", "^$", "reset", "E.ROR|pay", r"\d+\.\d", "k"][..]);
    let words = || proptest::sample::select(&["error", "error -reset", "NOT error", "err*", "reset OR x", "\"a b\"", "pay", "eror~1"][..]);
    let moment = || (0..20i64).prop_map(|n| format!("timestamp '2026-11-22T05:00:{n:02}Z'"));
    let leaf = prop_oneof![
        3 => (text(), compare(), value()).prop_map(|(text, op, value)| format!("{text} {op} {}", quoted(value))),
        1 => (text(), compare(), value()).prop_map(|(text, op, value)| format!("{} {op} {text}", quoted(value))),
        2 => (text(), not(), value(), value(), value(), value()).prop_map(|(text, not, a, b, c, d)| {
            format!("{text} {not}IN ({}, {}, {}, {})", quoted(a), quoted(b), quoted(c), quoted(d))
        }),
        1 => (text(), not(), value()).prop_map(|(text, not, a)| format!("{text} {not}IN ({}, NULL)", quoted(a))),
        3 => (text(), not(), pattern()).prop_map(|(text, not, pattern)| format!("{text} {not}LIKE {}", quoted(&pattern))),
        3 => (text(), not(), pattern()).prop_map(|(text, not, pattern)| format!("{text} {not}ILIKE {}", quoted(&pattern))),
        3 => (text(), proptest::sample::select(&["~", "~*", "!~", "!~*"][..]), regex()).prop_map(|(text, op, regex)| format!("{text} {op} {}", quoted(regex))),
        1 => (text(), regex()).prop_map(|(text, regex)| format!("regexp_like({text}, {}, 'i')", quoted(regex))),
        4 => (text(), not(), not()).prop_map(|(text, outer, not)| format!("{outer}({text} IS {not}NULL)")),
        2 => (text(), not(), not(), pattern()).prop_map(|(text, outer, not, pattern)| format!("{outer}({text} {not}LIKE {})", quoted(&pattern))),
        2 => (text(), not(), not(), piece(), proptest::sample::select(&["LIKE", "ILIKE"][..]))
            .prop_map(|(text, outer, not, piece, like)| format!("{outer}({text} {not}{like} '%{piece}%')")),
        1 => (text(), not(), compare(), value()).prop_map(|(text, not, op, value)| format!("{not}({text} {op} {})", quoted(value))),
        2 => (text(), compare(), figure()).prop_map(|(text, op, n)| format!("TRY_CAST({text} AS DOUBLE) {op} {n}")),
        1 => (text(), compare(), figure()).prop_map(|(text, op, n)| format!("TRY_CAST({text} AS BIGINT) {op} {n}")),
        1 => (text(), figure(), figure()).prop_map(|(text, a, b)| format!("TRY_CAST({text} AS DOUBLE) BETWEEN {a} AND {b}")),
        1 => (text(), 0..6i64).prop_map(|(text, n)| format!("length({text}) > {n}")),
        1 => (text(), value()).prop_map(|(text, value)| format!("coalesce({text}, 'x') = {}", quoted(value))),
        1 => (text(), value()).prop_map(|(text, value)| format!("upper({text}) <> {}", quoted(value))),
        1 => (text(), value()).prop_map(|(text, value)| format!("{text} IS DISTINCT FROM {}", quoted(value))),
        1 => (text(), value()).prop_map(|(text, value)| format!("CASE WHEN {text} = {} THEN true WHEN {text} IS NULL THEN NULL ELSE false END", quoted(value))),
        1 => (text(), text()).prop_map(|(a, b)| format!("{a} = {b}")),
        2 => (text(), words()).prop_map(|(text, words)| format!("match({text}, {})", quoted(words))),
        3 => (number(), compare(), figure()).prop_map(|(number, op, n)| format!("{number} {op} {n}")),
        1 => (number(), compare(), figure()).prop_map(|(number, op, n)| format!("{n} {op} {number}")),
        1 => (number(), not(), figure(), figure()).prop_map(|(number, not, a, b)| format!("{number} {not}BETWEEN {a} AND {b}")),
        1 => (number(), not(), 0..26i64, 0..600i64).prop_map(|(number, not, a, b)| format!("{number} {not}IN ({a}, {b}, 17, 200)")),
        1 => (number(), not()).prop_map(|(number, not)| format!("{number} IS {not}NULL")),
        1 => (number(), number(), compare()).prop_map(|(a, b, op)| format!("{a} {op} {b}")),
        1 => (compare(), moment()).prop_map(|(op, moment)| format!("date_bin(interval '1 second', TIME) {op} {moment}")),
        2 => (compare(), moment()).prop_map(|(op, moment)| format!("TIME {op} {moment}")),
        1 => (compare(), moment(), proptest::sample::select(&[0, 3, 9][..])).prop_map(|(op, moment, digits)| format!("TIME::timestamp({digits}) {op} {moment}")),
        1 => (not(),).prop_map(|(not,)| format!("OTHER_TIME IS {not}NULL")),
        1 => (compare(), moment()).prop_map(|(op, moment)| format!("OTHER_TIME {op} {moment}")),
        2 => proptest::sample::select(of.flags).prop_map(str::to_string),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) AND ({b}))")),
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) OR ({b}))")),
            3 => inner.clone().prop_map(|a| format!("NOT ({a})")),
            1 => (inner, proptest::sample::select(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN"][..]))
                .prop_map(|(a, what)| format!("({a}) IS {what}")),
        ]
    })
}

/// The rows that each condition leaves, of conditions put together in one statement: to plan one takes longer than to run it.
async fn ids(lake: &Lake, from: &str, conditions: &[String]) -> Vec<Vec<String>> {
    let parts: Vec<String> = (0..)
        .zip(conditions)
        .map(|(number, condition): (usize, _)| format!("SELECT {number} AS number, ingest_id FROM {from} WHERE {condition}"))
        .collect();
    let request = SqlRequest {
        query: parts.join(" UNION ALL "),
        limit: 10_000,
    };
    let answer = lake.engine.sql(&request).await.unwrap_or_else(|error| panic!("{}: {error}", request.query));
    assert!(answer.coverage.complete && !answer.truncated, "{:?}", answer.coverage);
    let mut ids = vec![Vec::new(); conditions.len()];
    for row in &answer.rows {
        let number: usize = row[0].as_str().and_then(|number| number.parse().ok()).expect("a number");
        ids[number].push(row[1].to_string());
    }
    ids.iter_mut().for_each(|ids| ids.sort());
    ids
}

/// A dozen statements in one take their time on a busy machine.
fn patience() -> Config {
    Config {
        timeout_seconds: 300,
        ..Config::default()
    }
}

async fn patient() -> Lake {
    Lake::with_config(patience()).await
}

/// The same rows in memory, and in a block with an index, here and not here, and without one.
async fn everywhere(rows: &Rows) -> [(&'static str, Lake); 4] {
    let (head, indexed, plain) = (patient().await, patient().await, patient().await);
    let folder = tempfile::tempdir().expect("a folder");
    let far = Lake::over(Arc::new(BucketStore::in_memory("")), folder, patience()).await;
    let cut = rows.len() / 3;
    head.head(vec![rows.slice(0, cut), rows.slice(cut, rows.len() - cut)]);
    indexed.block(rows, true).await;
    plain.block(rows, false).await;
    far.block(rows, true).await;
    [("head", head), ("with index", indexed), ("not here", far), ("without index", plain)]
}

/// Compares conditions; gives how many left some rows and not all.
async fn check(lakes: &[(&'static str, Lake); 4], rows: &Rows, conditions: &[String]) -> usize {
    let table = rows.table().name();
    // nothing goes down through a limit
    let expected = ids(&lakes[0].1, &format!("(SELECT * FROM {table} LIMIT 100000) t"), conditions).await;
    for (name, lake) in lakes {
        let found = ids(lake, table, conditions).await;
        for (condition, (found, expected)) in conditions.iter().zip(found.iter().zip(&expected)) {
            assert_eq!(found, expected, "{name}: {condition}\n{rows:?}");
        }
    }
    expected.iter().filter(|ids| !ids.is_empty() && ids.len() < rows.len()).count()
}

/// Compares conditions by dozens; gives how many left some rows and not all.
async fn compare(runner: &mut TestRunner, rows: &Rows, of: &'static Subjects, n_dozens: usize) -> usize {
    let (time, other_time) = match rows.table() {
        Table::Spans => ("start_time", "end_time"),
        _ => ("time", "observed_time"),
    };
    let lakes = everywhere(rows).await;
    let mut n_some = 0;
    for _ in 0..n_dozens {
        let draw = |_| condition(of).new_tree(runner).expect("a condition").current();
        let conditions: Vec<String> = (0..12)
            .map(draw)
            .map(|one| one.replace("OTHER_TIME", other_time).replace("TIME", time))
            .collect();
        n_some += check(&lakes, rows, &conditions).await;
    }
    n_some
}

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig {
        rng_seed: RngSeed::Fixed(std::env::var("TRACELAKE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11)),
        ..ProptestConfig::default()
    })
}

#[tokio::test]
async fn random_conditions_leave_the_same_logs_pushed_down_or_not() {
    let mut runner = runner();
    let mut n_some = 0;
    for _ in 0..3 {
        let records = proptest::collection::vec(record(), 1..50).new_tree(&mut runner).expect("records").current();
        n_some += compare(&mut runner, &rows(&records), &OF_LOGS, 4).await;
    }
    assert!(n_some > 40, "{n_some} conditions told rows apart");
}

#[tokio::test]
async fn random_conditions_leave_the_same_spans_pushed_down_or_not() {
    let mut runner = runner();
    let mut n_some = 0;
    for _ in 0..3 {
        let spans = proptest::collection::vec(span(), 1..50).new_tree(&mut runner).expect("spans").current();
        n_some += compare(&mut runner, &span_rows(&spans), &OF_SPANS, 4).await;
    }
    assert!(n_some > 40, "{n_some} conditions told rows apart");
}

/// Rows and conditions of which the index must not say more than it knows: case, letters that are one only to it, names that stand elsewhere.
#[tokio::test]
async fn what_is_not_there_and_what_is_not_like_are_what_sql_says() {
    let mut builder = LogsBuilder::default();
    for (number, (body, k, team)) in [
        (Some("ERROR 503 reset"), Some("v"), None),
        (Some("error 5031"), Some(""), Some("a")),
        (Some("terror"), None, Some("a")),
        (Some("payl\u{130}st by \u{212a}im"), None, None),
        (Some("payList"), Some("Value"), None),
        (Some(r#"{"k":"v","team":"a"}"#), None, None),
        (Some(""), None, None),
        (None, None, None),
        (None, Some("v"), Some("")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut context = ContextBuilder::new();
        team.into_iter().for_each(|team| {
            context.attribute("team", Value::Str(team));
        });
        let context = builder.context(context.build());
        k.into_iter().for_each(|k| builder.attribute("k", Value::Str(k)));
        let record = LogRecord {
            time_unix_nano: T0 + number as i64 * SECOND,
            body,
            ..LogRecord::default()
        };
        builder.push(context, &record);
    }
    let logs = builder.finish().expect("rows").with_ingest_ids(1);
    let mut conditions: Vec<String> = Vec::new();
    for subject in ["attributes['k']", "resource_attributes['team']", "body", "attributes['team']"] {
        for form in ["X IS NULL", "NOT (X IS NOT NULL) AND body IS NOT NULL", "X IS NULL OR body LIKE '%err%'"] {
            conditions.push(form.replace('X', subject));
        }
        for pattern in ["%err%", "%503%", "%list%", "v%"] {
            for form in ["X NOT LIKE 'P'", "NOT (X ILIKE 'P')", "X NOT LIKE 'P' OR X IS NULL"] {
                conditions.push(form.replace('X', subject).replace('P', pattern));
            }
        }
    }
    let lakes = everywhere(&logs).await;
    let mut n_some = 0;
    for dozen in conditions.chunks(12) {
        n_some += check(&lakes, &logs, dozen).await;
    }
    assert!(n_some > 30, "{n_some} conditions told rows apart");

    let mut builder = SpansBuilder::default();
    let context = builder.context(ContextBuilder::new().attribute("service.name", Value::Str("cart")).build());
    for number in 0..4u8 {
        if number == 1 {
            builder.attribute("exception.type", Value::Str("Own"));
        }
        if number == 2 {
            builder.event_attribute("exception.type", Value::Str("Boom"));
            builder.event(&crate::model::SpanEvent {
                time_unix_nano: T0,
                name: "exception",
            });
        }
        if number == 3 {
            builder.attribute("http.route", Value::Str("/a"));
        }
        let record = SpanRecord {
            start_time_unix_nano: T0 + i64::from(number) * SECOND,
            end_time_unix_nano: None,
            trace_id: TraceId::from_bytes(&[5; 16]).expect("not zero"),
            span_id: SpanId::from_bytes(&[number + 1; 8]).expect("not zero"),
            parent_span_id: None,
            trace_state: None,
            trace_flags: None,
            name: "n",
            kind: "SERVER",
            status_code: "OK",
            status_message: None,
            in_progress: false,
            dropped_attributes_count: 0,
        };
        builder.push(context, &record);
    }
    let spans = builder.finish().expect("rows").with_ingest_ids(1);
    let mut conditions: Vec<String> = Vec::new();
    for name in ["exception.type", "http.route", "service.name"] {
        for form in ["X IS NULL", "coalesce(X, 'Boom') = 'Boom'"] {
            conditions.push(form.replace('X', &format!("attributes['{name}']")));
            conditions.push(form.replace('X', &format!("resource_attributes['{name}']")));
        }
    }
    let lakes = everywhere(&spans).await;
    assert!(check(&lakes, &spans, &conditions).await >= 3);
}

/// Casts of the time that move it, and some that do not: to coarser units, to other zones and back, to days; of numbers as if they were of
/// a unit. Times between the units, before 1970 too, where casts round up.
#[tokio::test]
async fn casts_of_the_time_leave_the_same_rows_pushed_down_or_not() {
    const CASTS: [&str; 17] = [
        "time::timestamp(0)",
        "time::timestamp(3)",
        "time::timestamp(6)",
        "time::timestamp(9)",
        "time::timestamp(0)::timestamp(9)",
        "time::timestamp(3)::timestamp(0)::timestamp(6)",
        "time::timestamptz",
        "arrow_cast(time, 'Timestamp(s, \"UTC\")')",
        "arrow_cast(time, 'Timestamp(ms, \"UTC\")')",
        "arrow_cast(time, 'Timestamp(s, \"+02:00\")')",
        "arrow_cast(time::timestamp, 'Timestamp(ns, \"+02:00\")')",
        "arrow_cast(arrow_cast(time, 'Timestamp(ns, \"+02:00\")'), 'Timestamp(us)')",
        "arrow_cast(time_unix_nano, 'Timestamp(ns)')",
        "arrow_cast(time_unix_nano / 1000000000, 'Timestamp(s)')",
        "time::date::timestamp",
        "date_trunc('second', time)",
        "date_bin(interval '700 milliseconds', time)",
    ];
    let mut runner = runner();
    for first in [T0, -2 * SECOND] {
        let mut builder = LogsBuilder::default();
        let context = builder.context(ContextBuilder::new().build());
        for number in 0..40i64 {
            let record = LogRecord {
                time_unix_nano: first + number * 133_333_333,
                body: Some("x"),
                ..LogRecord::default()
            };
            builder.push(context, &record);
        }
        let rows = builder.finish().expect("rows").with_ingest_ids(1);
        let lakes = everywhere(&rows).await;
        let cast = proptest::sample::select(&CASTS[..]);
        let compare = proptest::sample::select(&["=", "=", "<>", "<", "<=", ">", ">="][..]);
        let moment = || {
            (-1..7i64, proptest::sample::select(&[0, 0, 0, 133, 400, 533, 999][..])).prop_map(move |(seconds, millis)| {
                let time = chrono::DateTime::from_timestamp_nanos(first + seconds * SECOND + millis * 1_000_000);
                format!("timestamp '{}'", time.format("%Y-%m-%dT%H:%M:%S%.3f"))
            })
        };
        let not = proptest::sample::select(&["", "NOT "][..]);
        let mut n_some = 0;
        for _ in 0..16 {
            let draw = |_| {
                let drawn = (&cast, &compare, &not, moment(), moment(), 0..8usize).new_tree(&mut runner);
                let (cast, op, not, a, b, form) = drawn.expect("a condition").current();
                match form {
                    0 => format!("{cast} {not}BETWEEN {a} AND {b}"),
                    1 => format!("{cast} {not}IN ({a}, {b}, {a} + interval '1 second', {b} + interval '2 seconds')"),
                    2 => format!("{not}({a} {op} {cast})"),
                    3 => format!("{not}({cast} {op} {a} OR {cast} = {b})"),
                    _ => format!("{cast} {op} {a}"),
                }
            };
            let conditions: Vec<String> = (0..12).map(draw).collect();
            n_some += check(&lakes, &rows, &conditions).await;
        }
        assert!(n_some > 40, "{n_some} conditions told rows apart");
    }
}

#[tokio::test]
async fn search_in_sql_finds_what_a_search_finds() {
    let mut runner = runner();
    for _ in 0..3 {
        let records = proptest::collection::vec(record(), 1..50).new_tree(&mut runner).expect("records").current();
        let rows = rows(&records);
        let (head, indexed, plain) = (patient().await, patient().await, patient().await);
        head.head(vec![rows.clone()]);
        indexed.block(&rows, true).await;
        plain.block(&rows, false).await;
        for _ in 0..3 {
            let draw = |_| query().new_tree(&mut runner).expect("a query").current();
            let mut queries: Vec<Query> = (0..12).map(draw).filter(|query| fields::compile(query, Table::Logs, 0).is_ok()).collect();
            let mut conditions: Vec<String> = queries.iter().map(|query| format!("search({})", quoted(&query.to_string()))).collect();
            // searches that SQL joins
            for pair in 0..queries.len() / 2 {
                let (a, b) = (queries[2 * pair].clone(), queries[2 * pair + 1].clone());
                let (of_a, of_b) = (conditions[2 * pair].clone(), conditions[2 * pair + 1].clone());
                conditions.push(format!("NOT {of_a}"));
                queries.push(Query::Not(Box::new(a.clone())));
                conditions.push(format!("({of_a} OR {of_b}) AND ingest_id IS NOT NULL"));
                queries.push(Query::Or(vec![a.clone(), b.clone()]));
                conditions.push(format!("NOT ({of_a} AND NOT ({of_b} OR {of_a}))"));
                let inner = Query::Not(Box::new(Query::Or(vec![b, a.clone()])));
                queries.push(Query::Not(Box::new(Query::And(vec![a, inner]))));
            }
            let mut expected = Vec::new();
            for query in &queries {
                let request = SearchRequest {
                    table: Table::Logs,
                    query: query.clone(),
                    range: TimeRange::ALL,
                    limit: 1_000,
                    cursor: None,
                    order: Order::NewestFirst,
                };
                let answer = head.engine.search(&request).await.expect("an answer");
                // as 64 bits are in JSON
                let mut ids: Vec<String> = answer.hits.iter().map(|hit| format!("\"{}\"", hit.ingest_id())).collect();
                ids.sort();
                expected.push(ids);
            }
            for lake in [&head, &indexed, &plain] {
                let found = ids(lake, "logs", &conditions).await;
                for (condition, (found, expected)) in conditions.iter().zip(found.iter().zip(&expected)) {
                    assert_eq!(found, expected, "{condition}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_text_that_is_no_number_is_told_pushed_down_or_not() {
    let lake = Lake::new().await;
    lake.block(&fixture_logs(), true).await;
    for (condition, told) in [
        ("CAST(attributes['user.id'] AS DOUBLE) > 5", Some("Cannot cast")),
        ("NOT (CAST(attributes['user.id'] AS BIGINT) > 5)", Some("Cannot cast")),
        ("TRY_CAST(attributes['user.id'] AS DOUBLE) > 5", None),
        ("CAST(body AS DOUBLE) <> 5", Some("Cannot cast")),
        ("NOT (CAST(body AS BIGINT) = 5)", Some("Cannot cast")),
        ("body <> 5", Some("Cannot cast")),
        ("body NOT IN (5, 6)", Some("Cannot cast")),
    ] {
        let request = SqlRequest {
            query: format!("SELECT count(*) FROM logs WHERE {condition}"),
            limit: 1,
        };
        let error = lake.engine.sql(&request).await.err().map(|error| error.to_string());
        assert_eq!(error.is_some(), told.is_some(), "{condition}: {error:?}");
        assert!(error.unwrap_or_default().contains(told.unwrap_or_default()), "{condition}");
    }
}

#[tokio::test]
async fn search_goes_with_other_conditions_and_joins_and_tells_where_it_may_not_stand() {
    let lake = Lake::new().await;
    lake.block(&fixture_logs(), true).await;
    lake.block(&fixture_spans(), true).await;
    let run = async |statement: &str| {
        let request = SqlRequest {
            query: statement.into(),
            limit: 100,
        };
        match lake.engine.sql(&request).await {
            Ok(answer) => serde_json::to_string(&answer.rows).expect("JSON"),
            Err(error) => format!("{:?}: {error}", error.kind()),
        }
    };
    let n = async |condition: &str| run(&format!("SELECT count(*) FROM {condition}")).await;
    assert_eq!(n("logs WHERE search('connection')").await, n("logs WHERE match(body, 'connection')").await);
    assert_eq!(
        n("logs l WHERE search('connection') AND l.service_name = 'cart'").await,
        n("logs WHERE search('connection service:cart')").await
    );
    assert_eq!(
        n("(SELECT * FROM logs WHERE search('connection')) a JOIN spans s ON s.trace_id = a.trace_id WHERE search(s.name, 'kind:server')").await,
        n("logs a JOIN spans s ON s.trace_id = a.trace_id WHERE search(a.time, 'connection') AND search(s.start_time, 'kind:SERVER')").await
    );
    for (statement, told) in [
        ("SELECT 1 FROM logs WHERE search('severity:nonsense')", "\"nonsense\" is not a severity"),
        ("SELECT 1 FROM logs WHERE search('a AND (b')", "(at character"),
        (
            "SELECT 1 FROM logs WHERE search('a') OR service_name = 'cart'",
            "write OR and NOT into its query",
        ),
        (
            "SELECT 1 FROM logs WHERE NOT (search('a') AND service_name = 'cart')",
            "write OR and NOT into its query",
        ),
        ("SELECT 1 FROM logs WHERE NOT search('a AND (b')", "(at character"),
        ("SELECT 1 FROM logs WHERE search('a) OR (b') OR search('c')", "(at character"),
        ("SELECT 1 FROM alerts WHERE NOT search(time, 'a')", "asked of logs and spans"),
        ("SELECT search('a') FROM logs", "write OR and NOT into its query"),
        ("SELECT 1 FROM logs a, spans b WHERE search('a')", "name one by any of its columns"),
        ("SELECT 1 FROM alerts WHERE search('a')", "asked of logs and spans"),
        ("SELECT 1 FROM (SELECT body FROM logs) a WHERE search('a')", "neither stands in this FROM"),
        ("SELECT 1 FROM alerts WHERE search(time, 'a')", "asked of logs and spans"),
        ("SELECT 1 FROM logs WHERE search(body, service_name)", "takes a query in quotes"),
        (
            "SELECT 1 FROM logs WHERE search('a OR trace:(duration:nonsense)')",
            "\"nonsense\" is not a duration",
        ),
        (
            "SELECT 1 FROM logs WHERE search('trace:(name:x)') OR body = 'a'",
            "write OR and NOT into its query",
        ),
        ("SELECT 1 FROM alerts WHERE search(time, 'trace:(name:x)')", "asked of logs and spans"),
    ] {
        let answer = run(statement).await;
        assert!(answer.starts_with("BadQuery") && answer.contains(told), "{statement}: {answer}");
    }
}

/// Conditions of every kind that is told to be pushed down, each with rows that it leaves in an indexed block.
#[tokio::test]
async fn explain_shows_what_is_pushed_down_and_what_it_leaves() {
    let lake = Lake::new().await;
    lake.block(&fixture_logs(), true).await;
    lake.block(&fixture_spans(), true).await;
    for (table, condition) in [
        ("logs", "TRY_CAST(attributes['http.status_code'] AS BIGINT) >= 500"),
        ("logs", "CAST(attributes['http.status_code'] AS DOUBLE) > 499.5"),
        ("logs", "attributes['http.status_code'] LIKE '5%'"),
        ("logs", "attributes['http.status_code'] ~ '^50[02]$'"),
        ("logs", "attributes['http.status_code'] IS NOT NULL"),
        ("logs", "attributes['http.status_code'] IN ('500', '502', '503', '504')"),
        ("logs", "NOT (attributes['http.status_code'] NOT LIKE '5%' OR service_name = 'nobody')"),
        ("logs", "service_name ILIKE 'CAR_'"),
        ("logs", "service_name IS NULL"),
        ("logs", "attributes['http.status_code'] IS NULL"),
        ("logs", "NOT (attributes['http.status_code'] IS NOT NULL)"),
        ("logs", "resource_attributes['service.name'] IS NOT NULL"),
        ("spans", "coalesce(attributes['http.route'], 'x') = 'x'"),
        ("logs", "body NOT LIKE '%reset%'"),
        ("logs", "body NOT ILIKE '%RESET%'"),
        ("logs", "NOT (body LIKE 'connection%' OR body ILIKE '%PAYMENT%')"),
        ("logs", "body !~ 'reset by'"),
        ("logs", "attributes['http.status_code'] NOT LIKE '2%'"),
        ("logs", "attributes['http.status_code'] NOT ILIKE '2%'"),
        ("spans", "attributes['http.route'] IS NULL"),
        ("spans", "resource_attributes['service.name'] IS NOT NULL"),
        ("spans", "name NOT LIKE 'GET%'"),
        ("logs", "severity_number >= 17"),
        ("logs", "severity_number = 17 OR service_name = 'cart'"),
        ("logs", "body ILIKE '%RESET by%'"),
        ("logs", "body ~ 'reset by'"),
        ("logs", "search('reset (service:cart OR severity>=WARN)')"),
        ("spans", "match(name, 'GET')"),
        ("spans", "duration_nano > 100000000"),
        ("spans", "http_response_status_code >= 500"),
        ("spans", "is_root"),
        ("spans", "end_time IS NOT NULL"),
        ("spans", "upper(kind) = 'SERVER'"),
    ] {
        let request = SqlRequest {
            query: format!(
                "SELECT count(*) FROM (SELECT * FROM {table} LIMIT 100000) t WHERE {}",
                condition.replace("search(", "match(body, ").replace("(service:cart OR severity>=WARN)", "")
            ),
            limit: 1,
        };
        let counted = lake.engine.sql(&request).await.unwrap_or_else(|error| panic!("{condition}: {error}"));
        let n: u64 = counted.rows[0][0].as_str().and_then(|n| n.parse().ok()).expect("a number");
        assert!(n > 0, "{condition} leaves nothing");
        let request = SqlRequest {
            query: format!("EXPLAIN ANALYZE SELECT count(*) FROM {table} WHERE {condition}"),
            limit: 100,
        };
        let plan = lake.engine.sql(&request).await.unwrap_or_else(|error| panic!("{condition}: {error}"));
        let step = lake_step(&plan);
        assert!(step.contains("narrowed by the index: ["), "{condition}: {step}");
        let selected = metric(&step, "rows_selected");
        match condition.starts_with("search") {
            true => assert!(selected > 0 && selected <= n, "{condition}: {n} {step}"),
            false => assert_eq!(selected, n, "{condition}: {step}"),
        }
    }
    // and where there is nothing, no row is read
    for condition in [
        "attributes['http.status_code'] LIKE '7%'",
        "severity_number > 2000000",
        "search('nowhere')",
        "TRY_CAST(attributes['http.status_code'] AS DOUBLE) > 1000",
    ] {
        let plan = answer_to(&lake, format!("EXPLAIN ANALYZE SELECT body FROM logs WHERE {condition}")).await;
        let step = lake_step(&plan);
        let figures = ["rows_selected", "blocks_read", "blocks_pruned"].map(|name| metric(&step, name));
        assert_eq!(figures, [0, 0, 1], "{condition}: {step}");
    }
}

async fn answer_to(lake: &Lake, query: String) -> SqlResponse {
    let request = SqlRequest { query, limit: 100 };
    lake.engine.sql(&request).await.unwrap_or_else(|error| panic!("{}: {error}", request.query))
}
