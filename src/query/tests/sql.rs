//! SQL as text: `tests/fixtures/query/sql.txt` has statements, a line `----`, and the expected rows, values apart by `|`.

use super::*;
use crate::model::{MetricsBuilder, Point, PointKind, SeriesKey};

const FILE: &str = "sql.txt";

fn shown(answer: &SqlResponse) -> String {
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let lines: Vec<String> = answer.rows.iter().map(|row| row.iter().map(value).collect::<Vec<_>>().join("|")).collect();
    lines.join("\n")
}

async fn run(lake: &Lake, query: &str) -> String {
    match lake
        .engine
        .sql(&SqlRequest {
            query: query.into(),
            limit: 100,
        })
        .await
    {
        Ok(answer) => {
            assert!(answer.coverage.complete, "{:?}", answer.coverage);
            shown(&answer)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::BadQuery, "{query}: {error}");
            let message = error.to_string();
            format!("error: {}", message.lines().next().unwrap_or_default())
        }
    }
}

/// Blocks of statement and answer, apart by empty lines.
fn cases(text: &str) -> Vec<(String, String)> {
    text.split("\n\n")
        .filter(|case| !case.trim().is_empty())
        .map(|case| {
            let (query, expected) = case.split_once("\n----").expect("a statement, ----, rows");
            (query.trim().to_string(), expected.trim().to_string())
        })
        .collect()
}

#[tokio::test]
async fn statements_answer_alike_over_head_and_blocks() {
    let (head, indexed, far, plain) = (Lake::new().await, Lake::new().await, Lake::far().await, Lake::new().await);
    let mut rows = vec![fixture_logs(), fixture_spans()];
    rows.extend(metrics());
    for rows in &rows {
        indexed.block(rows, true).await;
        plain.block(rows, false).await;
        far.block(rows, true).await;
    }
    head.head(rows);
    let text = fixture(FILE);
    if std::env::var_os("TRACELAKE_ACCEPT").is_some() {
        let mut out = String::new();
        for (query, _) in cases(&text) {
            out += &format!("{query}\n----\n{}\n\n", run(&head, &query).await);
        }
        let path = format!("{}/tests/fixtures/query/{FILE}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, out).expect("written");
        return;
    }
    for (query, expected) in cases(&text) {
        assert_eq!(run(&head, &query).await, expected, "head: {query}");
        assert_eq!(run(&indexed, &query).await, expected, "blocks: {query}");
        assert_eq!(run(&far, &query).await, expected, "blocks that are not here: {query}");
        assert_eq!(run(&plain, &query).await, expected, "blocks without index: {query}");
    }
}

/// Points of a gauge; the series is written twice, as two flushes do.
fn metrics() -> Vec<Rows> {
    let context = ContextBuilder::new().attribute("service.name", Value::Str("api")).build();
    let key = SeriesKey {
        name: "pool.size",
        metric_type: "gauge",
        unit: "1",
        description: "",
        temporality: None,
        is_monotonic: None,
    };
    let mut out = Vec::new();
    for flush in 0..2i64 {
        let mut builder = MetricsBuilder::default();
        for point in 0..3i64 {
            let time_unix_nano = T0 + (flush * 3 + point) * SECOND;
            builder.attribute("pool", Value::Str("main"));
            builder.series(&context, &key, time_unix_nano);
            builder.point(&Point {
                time_unix_nano,
                start_time_unix_nano: None,
                flags: 0,
                kind: PointKind::Double(point as f64 + 0.5),
            });
        }
        out.extend(
            builder
                .finish()
                .expect("rows")
                .into_iter()
                .map(|rows| rows.with_ingest_ids(10_000 + flush * 1_000)),
        );
    }
    out
}

#[tokio::test]
async fn rows_and_memory_are_bounded() {
    let lake = Lake::with_config(Config {
        sql_memory_bytes: 1 << 16,
        ..Config::default()
    })
    .await;
    lake.head(vec![fixture_logs()]);
    let answer = lake
        .engine
        .sql(&SqlRequest {
            query: "select body from logs".into(),
            limit: 7,
        })
        .await
        .expect("rows");
    assert_eq!((answer.n_rows, answer.truncated), (7, true));
    let greedy = "select a.body, b.body, c.body from logs a cross join logs b cross join logs c order by 1, 2, 3";
    let error = lake
        .engine
        .sql(&SqlRequest {
            query: greedy.into(),
            limit: 10,
        })
        .await
        .expect_err("too much");
    assert!(error.to_string().contains("memory"), "{error}");
}

#[tokio::test]
async fn time_is_up_in_the_middle_of_a_statement() {
    let lake = Lake::with_config(Config {
        timeout_seconds: 1,
        ..Config::default()
    })
    .await;
    lake.head(vec![fixture_logs()]);
    let request = SqlRequest {
        query: "select count(*) from generate_series(1, 100000000000) a(x) where reverse(cast(x as varchar)) = 'x'".into(),
        limit: 10,
    };
    let error = lake.engine.sql(&request).await.expect_err("never done");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn blocks_out_of_the_time_asked_for_are_not_read() {
    let lake = Lake::new().await;
    lake.block(&fixture_logs(), true).await;
    for (query, read) in [
        ("select count(*) from logs where time < '2026-11-22T04:00:00Z'", 0),
        ("select count(*) from logs where time >= timestamp '2026-11-22T05:00:00Z'", 1),
        ("select count(*) from logs where time_unix_nano > 1795327300000000000", 0),
        ("select count(*) from logs where time between '2026-11-20' and '2026-11-21'", 0),
        ("select count(*) from logs where time > now() - interval '1 minute'", 0),
    ] {
        let answer = lake
            .engine
            .sql(&SqlRequest {
                query: query.into(),
                limit: 10,
            })
            .await
            .expect("rows");
        assert_eq!((answer.coverage.blocks_read, answer.coverage.blocks_pruned), (read, 1 - read), "{query}");
    }
}

/// Twelve blocks, one after the other in time, and the newest rows in the head.
async fn lake_of_twelve() -> Lake {
    let lake = Lake::new().await;
    let rows = fixture_logs();
    let piece = rows.len() / 14;
    for number in 0..12 {
        lake.block(&rows.slice(number * piece, piece), number % 3 > 0).await;
    }
    lake.head(vec![rows.slice(13 * piece, piece), rows.slice(12 * piece, piece)]);
    lake
}

async fn answer(lake: &Lake, query: &str) -> SqlResponse {
    let request = SqlRequest {
        query: query.into(),
        limit: 1_000,
    };
    lake.engine.sql(&request).await.unwrap_or_else(|error| panic!("{query}: {error}"))
}

#[tokio::test]
async fn the_newest_rows_are_read_newest_block_first_and_no_further() {
    let lake = lake_of_twelve().await;
    for query in [
        "select time, body from logs order by time desc limit 2",
        "select body, severity_text, time_unix_nano from logs order by time_unix_nano desc limit 2",
        "select body from logs where body is not null order by time desc, time_unix_nano desc limit 2",
    ] {
        let plan = answer(&lake, &format!("explain {query}")).await;
        let plan = serde_json::to_string(&plan.rows).expect("JSON");
        assert!(!plan.contains("SortExec"), "{query}: {plan}");
        let newest = answer(&lake, query).await;
        assert_eq!(newest.n_rows, 2);
        let coverage = &newest.coverage;
        assert!(coverage.complete && coverage.blocks_read < 9, "{query}: {coverage:?}");
        assert_eq!(coverage.blocks_read + coverage.blocks_pruned, coverage.blocks_total);
    }
    let oldest = answer(&lake, "select time from logs order by time limit 2").await;
    assert_eq!(oldest.coverage.blocks_read, 12);
}

#[tokio::test]
async fn rows_read_in_order_are_the_rows_sorted() {
    let twelve = lake_of_twelve().await;
    // blocks that overlap, and rows of the head between them
    let overlapping = Lake::new().await;
    let rows = fixture_logs();
    let n = rows.len();
    overlapping.block(&rows.slice(0, n / 2), true).await;
    overlapping.block(&rows.slice(n / 4, n / 2).with_ingest_ids(5_000), false).await;
    overlapping.block(&rows.slice(n / 2, n - n / 2).with_ingest_ids(7_000), true).await;
    overlapping.head(vec![rows.slice(n / 3, 5).with_ingest_ids(9_000), rows.slice(0, 9).with_ingest_ids(9_500)]);
    for lake in [&twelve, &overlapping] {
        for condition in [
            "",
            "where match(body, 'connection')",
            "where service_name = 'api'",
            "where time >= '2026-11-22T05:00:09Z'",
        ] {
            // the sum of two columns has no order that the scan knows
            let sorted = answer(
                lake,
                &format!("select ingest_id, time_unix_nano from logs {condition} order by time_unix_nano + 0 desc, ingest_id desc"),
            )
            .await;
            let read = answer(
                lake,
                &format!("select ingest_id, time_unix_nano from logs {condition} order by time_unix_nano desc, ingest_id desc"),
            )
            .await;
            assert_eq!(read.rows, sorted.rows, "{condition}");
            let few = answer(
                lake,
                &format!("select ingest_id, time_unix_nano from logs {condition} order by time desc, time_unix_nano desc, ingest_id desc limit 7"),
            )
            .await;
            assert_eq!(few.rows, sorted.rows[..few.n_rows], "{condition}");
            assert_eq!(few.n_rows, sorted.n_rows.min(7));
        }
    }
}

/// The step of a plan that reads the lake, as `EXPLAIN` shows it.
pub(super) fn lake_step(plan: &SqlResponse) -> String {
    let text = serde_json::to_string(&plan.rows).expect("JSON");
    let start = text.find("LakeExec").unwrap_or_else(|| panic!("no LakeExec in {text}"));
    let end = text[start..].find("\\n").unwrap_or(text.len() - start);
    text[start..start + end].to_string()
}

/// A metric of the step.
pub(super) fn metric(step: &str, name: &str) -> u64 {
    let (_, rest) = step.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {step}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} in {step} is no number"))
}

#[tokio::test]
async fn explain_tells_what_is_pruned_and_explain_analyze_what_was_read() {
    let lake = lake_of_twelve().await;
    let rows = fixture_logs();
    let early = format!("time_unix_nano < {}", rows.slice(3 * (rows.len() / 14), 1).times().value(0));
    let plan = answer(&lake, &format!("explain select body from logs where {early}")).await;
    let step = lake_step(&plan);
    assert!(
        step.contains("table=logs, blocks=4 of 12 (pruned by time: 8)") || step.contains("blocks=3 of 12 (pruned by time: 9)"),
        "{step}"
    );
    assert!(step.contains("columns=[") && step.contains("body"), "{step}");
    assert_eq!(plan.coverage.blocks_read, 0);

    let counted = answer(&lake, "select count(*) from logs where match(body, 'connection')").await;
    let expected: u64 = counted.rows[0][0].as_str().expect("a number").parse().expect("a number");
    let plan = answer(&lake, "explain analyze select count(*) from logs where match(body, 'connection')").await;
    let step = lake_step(&plan);
    assert!(step.contains("narrowed by the index"), "{step}");
    // blocks without an index are scanned, so what is left there is what matches too
    assert_eq!(metric(&step, "rows_selected"), expected, "{step}");
    assert_eq!(metric(&step, "blocks_read") + metric(&step, "blocks_pruned"), 12, "{step}");
    assert!(metric(&step, "blocks_pruned") > 0 && metric(&step, "bytes_read") > 0, "{step}");

    let plan = answer(&lake, "explain analyze select body from logs order by time desc limit 1").await;
    let step = lake_step(&plan);
    assert!(step.contains("newest first"), "{step}");
    assert!(metric(&step, "blocks_pruned") >= 9, "{step}");
}

/// A log record for each value of the attribute `n`.
fn logs_of(values: &[&str]) -> Rows {
    let mut builder = LogsBuilder::default();
    for value in values {
        let context = builder.context(ContextBuilder::new().build());
        builder.attribute("n", Value::Str(value));
        builder.push(context, &LogRecord::default());
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

#[tokio::test]
async fn a_zero_below_zero_is_zero_wherever_the_condition_stands() {
    let (head, block) = (Lake::new().await, Lake::new().await);
    let rows = logs_of(&["-0", "0", "5", "-0.0"]);
    block.block(&rows, true).await;
    head.head(vec![rows]);
    for (condition, n) in [
        ("= 0", 3),
        ("IN (0)", 3),
        (">= 0", 4),
        ("< 0", 0),
        ("<> 0", 1),
        ("<= -0.0", 3),
        ("BETWEEN 0 AND 1", 3),
    ] {
        let condition = format!("TRY_CAST(attributes['n'] AS DOUBLE) {condition}");
        for lake in [&head, &block] {
            let asked = format!(
                "SELECT count(*), (SELECT count(*) FROM logs WHERE {condition}) AS n FROM logs WHERE CASE WHEN {condition} THEN length(body) IS NULL ELSE false END"
            );
            assert_eq!(run(lake, &asked).await, format!("{n}|{n}"), "{condition}");
        }
    }
}

#[tokio::test]
async fn functions_that_make_much_of_nothing_are_not_served() {
    let lake = Lake::new().await;
    for statement in [
        "SELECT length(repeat('x', 2147483647))",
        "SELECT length(lpad('x', 2147483647))",
        "SELECT length(rpad('x', 2147483647))",
        "SELECT array_length(range(0, 2000000000))",
        "SELECT array_length(generate_series(0, 2000000000))",
        "SELECT array_length(array_repeat('x', 2000000000))",
        "SELECT array_length(list_repeat('x', 2000000000))",
        "SELECT array_length(array_resize([1], 2000000000))",
    ] {
        let refused = run(&lake, statement).await;
        assert!(refused.starts_with("error: "), "{statement}: {refused}");
    }
    assert_eq!(run(&lake, "SELECT upper('x')").await, "X");
}

#[tokio::test]
async fn a_group_by_larger_than_its_memory_goes_on_on_disk() {
    let config = Config {
        sql_memory_bytes: 12 << 20,
        timeout_seconds: 300,
        ..Config::default()
    };
    let statement = "select count(*), sum(n) from (select value % 300000 as g, count(*) as n from generate_series(1, 600000) group by 1)";
    let lake = Lake::with_config(config.clone()).await;
    let request = SqlRequest {
        query: statement.into(),
        limit: 10,
    };
    let refused = lake.engine.sql(&request).await.expect_err("no disk");
    assert!(refused.to_string().contains("memory") && refused.kind() == ErrorKind::BadQuery, "{refused}");

    let folder = lake.folder.path().join("tmp");
    std::fs::create_dir_all(folder.join("datafusion-old")).expect("a folder");
    std::fs::write(folder.join("datafusion-old/left"), b"by a process that was killed").expect("a file");
    lake.engine.spill_to(&folder).expect("emptied");
    let entries = || std::fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(entries(), 0);
    let done = answer(&lake, statement).await;
    assert_eq!(done.rows, [["300000", "600000"]]);
    let plan = answer(&lake, &format!("explain analyze {statement}")).await;
    let text = serde_json::to_string(&plan.rows).expect("JSON");
    let spilled = text.match_indices("spill_count=").map(|(at, name)| &text[at + name.len()..]);
    assert!(spilled.into_iter().any(|count| !count.starts_with('0')), "{text}");
    // what a statement put there goes with it
    assert_eq!(entries(), 0);

    let small = Lake::with_config(Config {
        sql_spill_bytes: 1 << 16,
        ..config
    })
    .await;
    small.engine.spill_to(&small.folder.path().join("tmp")).expect("emptied");
    let refused = small.engine.sql(&request).await.expect_err("too little disk");
    assert_eq!(refused.kind(), ErrorKind::BadQuery, "{refused}");
}
