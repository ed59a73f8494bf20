//! Counts by groups are those of SQL over the same rows, and cost no reading of rows where the index knows.

use super::*;

/// Logs in the head, in a block with an index and in one without, each of another stretch of time.
async fn lake() -> Lake {
    let lake = Lake::new().await;
    let rows = fixture_logs();
    let n = rows.len();
    lake.block(&rows.slice(0, n / 3), true).await;
    lake.block(&rows.slice(n / 3, n / 3), false).await;
    lake.block(&rows, true).await;
    lake.head(vec![rows.slice(n / 2, n - n / 2), rows.slice(0, 5)]);
    lake
}

fn request(query: &str, by: &[&str], bucket_nanos: Option<i64>) -> CountRequest {
    CountRequest {
        table: Table::Logs,
        query: parse(query, Table::Logs).expect("a query"),
        range: TimeRange::ALL,
        by: by.iter().map(|name| name.to_string()).collect(),
        bucket_nanos,
        limit: 1_000,
    }
}

/// Groups as SQL writes them: bucket in seconds since 1970, values, rows; sorted.
fn lines(answer: &CountResponse) -> Vec<String> {
    let line = |group: &CountGroup| {
        let start = group.start_unix_nano.map(|nanos| (nanos / SECOND).to_string());
        let values = group.values.iter().map(|value| value.clone().unwrap_or_else(|| "null".into()));
        start.into_iter().chain(values).chain([group.count.to_string()]).collect::<Vec<_>>().join("|")
    };
    let mut lines: Vec<String> = answer.groups.iter().map(line).collect();
    lines.sort_unstable();
    lines
}

async fn sql_lines(lake: &Lake, query: &str) -> Vec<String> {
    let request = SqlRequest {
        query: query.into(),
        limit: 10_000,
    };
    let answer = lake.engine.sql(&request).await.expect("rows");
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let mut lines: Vec<String> = answer.rows.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>().join("|")).collect();
    lines.sort_unstable();
    lines
}

const CLASS: &str = "CASE WHEN severity_number BETWEEN 1 AND 4 THEN 'TRACE' WHEN severity_number BETWEEN 5 AND 8 THEN 'DEBUG' \
     WHEN severity_number BETWEEN 9 AND 12 THEN 'INFO' WHEN severity_number BETWEEN 13 AND 16 THEN 'WARN' \
     WHEN severity_number BETWEEN 17 AND 20 THEN 'ERROR' WHEN severity_number BETWEEN 21 AND 24 THEN 'FATAL' ELSE 'UNSET' END";

#[tokio::test]
async fn counts_by_time_and_fields_are_those_of_sql() {
    let lake = lake().await;
    let total = lake.engine.count(Table::Logs, &Query::All, TimeRange::ALL).await.expect("a count").count;
    assert!(total > 50);
    for (word, condition) in [("*", ""), ("connection", "WHERE match(body, 'connection')"), ("nosuchword", "WHERE false")] {
        for bucket in [None, Some(1), Some(7), Some(3_600)] {
            for (by, column) in [
                (&[][..], String::new()),
                (&["service_name"][..], "service_name, ".to_string()),
                (&["severity"][..], format!("{CLASS}, ")),
                (&["service_name", "severity"][..], format!("service_name, {CLASS}, ")),
                (&["severity_text", "service"][..], "severity_text, service_name, ".to_string()),
            ] {
                if by.is_empty() && bucket.is_none() {
                    continue;
                }
                let answer = lake
                    .engine
                    .count_groups(&request(word, by, bucket.map(|seconds| seconds * SECOND)))
                    .await
                    .expect("counts");
                let start = bucket.map_or(String::new(), |seconds| {
                    format!("CAST(extract(epoch FROM date_bin(interval '{seconds} seconds', time)) AS INT), ")
                });
                let n_keys = by.len() + usize::from(bucket.is_some());
                let keys: Vec<String> = (1..=n_keys).map(|number| number.to_string()).collect();
                let query = format!("SELECT {start}{column}CAST(count(*) AS INT) FROM logs {condition} GROUP BY {}", keys.join(", "));
                assert_eq!(lines(&answer), sql_lines(&lake, &query).await, "{word} by {by:?} and {bucket:?}");
                assert!(answer.coverage.complete);
                assert_eq!((answer.count, answer.other), (answer.groups.iter().map(|group| group.count).sum(), 0));
                if word == "*" {
                    assert_eq!(answer.count, total);
                }
            }
        }
    }
}

#[tokio::test]
async fn the_index_alone_counts_by_service_severity_and_time() {
    let lake = Lake::new().await;
    lake.block(&fixture_logs(), true).await;
    for word in ["*", "connection"] {
        let answer = lake
            .engine
            .count_groups(&request(word, &["service_name", "severity"], Some(10 * SECOND)))
            .await
            .expect("counts");
        assert!(answer.groups.len() > 1);
        assert_eq!(answer.coverage.bytes_read, 0, "{word}");
    }
    let facets = FacetsRequest {
        table: Table::Logs,
        query: Query::All,
        range: TimeRange::ALL,
        fields: vec!["service_name".into(), "severity".into()],
        limit: 10,
    };
    assert_eq!(lake.engine.facets(&facets).await.expect("facets").coverage.bytes_read, 0);
    let read = lake.engine.count_groups(&request("*", &["severity_text"], None)).await.expect("counts");
    assert!(read.coverage.bytes_read > 0);
}

#[tokio::test]
async fn counts_by_part_of_an_hour_keep_to_the_range_and_the_limit() {
    let lake = lake().await;
    let range = TimeRange::new(T0 + 3 * SECOND + 1, T0 + 11 * SECOND);
    let whole = CountRequest {
        range,
        ..request("*", &["service_name"], Some(4 * SECOND))
    };
    let answer = lake.engine.count_groups(&whole).await.expect("counts");
    let counted = lake.engine.count(Table::Logs, &Query::All, range).await.expect("a count").count;
    assert_eq!(answer.count, counted);
    let starts: Vec<i64> = answer.groups.iter().filter_map(|group| group.start_unix_nano).collect();
    assert!(starts.is_sorted() && starts.iter().all(|start| start % (4 * SECOND) == 0));
    let limited = lake.engine.count_groups(&CountRequest { limit: 1, ..whole.clone() }).await.expect("counts");
    assert_eq!((limited.groups.len(), limited.count), (1, counted));
    assert_eq!(limited.groups[0].count + limited.other, counted);
    let narrow = CountRequest {
        bucket_nanos: Some(1),
        ..whole
    };
    let refused = lake.engine.count_groups(&narrow).await.expect_err("too many buckets");
    assert_eq!(refused.kind(), ErrorKind::BadQuery);
    let all = lake.engine.count_groups(&request("*", &[], None)).await.expect("a count");
    assert_eq!(
        (all.count, all.groups),
        (
            lake.engine.count(Table::Logs, &Query::All, TimeRange::ALL).await.expect("a count").count,
            vec![]
        )
    );
}

#[tokio::test]
async fn an_answer_that_lost_frames_of_the_log_may_concern_is_not_complete() {
    let lake = lake().await;
    lake.lose_frames();
    let query = parse("*", Table::Logs).expect("a query");
    for (start, end, is_complete) in [
        (i64::MIN, i64::MAX, false),
        (T0 + SECOND, T0 + 2 * SECOND, false),
        (T0 + SECOND + 1, i64::MAX, true),
        (i64::MIN, T0, true),
    ] {
        let coverage = lake
            .engine
            .count(Table::Logs, &query, TimeRange::new(start, end))
            .await
            .expect("counts")
            .coverage;
        assert_eq!(coverage.complete, is_complete, "{start} to {end}");
        let told: Vec<&str> = coverage.problems.iter().map(|problem| problem.what.as_str()).collect();
        assert_eq!(told, if is_complete { vec![] } else { vec!["log positions 5-6"] });
        assert!(!coverage.lacks_more_than_damage(), "asking again does not help");
    }
}
