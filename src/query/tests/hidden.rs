//! Rows that the catalog hides are in no answer, whichever way it is found.

use super::*;
use crate::catalog::Hide;
use crate::query::{CountRequest, FacetsRequest, HistogramRequest, SqlRequest};

/// Every kind of answer, as text.
async fn answers(lake: &Lake, table: Table, queries: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for text in queries {
        let query = parse(text, table).expect("a query");
        out.push(format!("{text}: {:?}", lake.find(table, text).await));
        let counted = lake.engine.count(table, &query, TimeRange::ALL).await.expect("counted");
        out.push(format!("{text} count: {}", counted.count));
        for (by, bucket_nanos) in [
            (vec![], Some(10 * SECOND)),
            (vec!["service_name"], None),
            (vec!["service_name", "severity"], Some(SECOND)),
            (vec!["test.id"], None),
        ] {
            let request = CountRequest {
                table,
                query: query.clone(),
                range: TimeRange::ALL,
                by: by.iter().map(|name| name.to_string()).collect(),
                bucket_nanos,
                limit: 1_000,
            };
            let answer = lake.engine.count_groups(&request).await.expect("counted");
            let groups: Vec<_> = answer.groups.iter().map(|group| (group.start_unix_nano, &group.values, group.count)).collect();
            out.push(format!("{text} by {by:?}: {} {groups:?}", answer.count));
        }
        let request = HistogramRequest {
            table,
            query: query.clone(),
            range: TimeRange::new(T0, T0 + 600 * SECOND),
            buckets: 60,
        };
        let histogram = lake.engine.histogram(&request).await.expect("a histogram");
        out.push(format!(
            "{text} over time: {:?}",
            histogram.buckets.iter().map(|bucket| &bucket.counts).collect::<Vec<_>>()
        ));
        let request = FacetsRequest {
            table,
            query,
            range: TimeRange::ALL,
            fields: ["service_name", "severity", "test.id", "http.status_code"].map(str::to_string).to_vec(),
            limit: 1_000,
        };
        let facets = lake.engine.facets(&request).await.expect("facets");
        out.push(format!("{text} facets: {:?}", facets.facets));
    }
    let (name, time) = (table.name(), table.time_column());
    for statement in [
        format!("SELECT count(*) FROM {name}"),
        format!("SELECT ingest_id FROM {name} ORDER BY {time} DESC LIMIT 7"),
        format!("SELECT service_name, count(*) FROM {name} GROUP BY 1 ORDER BY 1"),
        format!("SELECT sum(ingest_id) FROM {name} WHERE service_name <> 'x'"),
    ] {
        let request = SqlRequest {
            query: statement.clone(),
            limit: 1_000,
        };
        out.push(format!("{statement}: {:?}", lake.engine.sql(&request).await.expect("rows").rows));
    }
    out
}

#[tokio::test]
async fn hidden_rows_are_in_no_answer_with_and_without_index() {
    for index in [true, false] {
        for (rows, queries) in [
            (
                fixture_logs(),
                &[
                    "",
                    "connection",
                    "-connection",
                    "service:checkout",
                    "severity>=WARN",
                    "conn*",
                    "http.status_code:*",
                ][..],
            ),
            (fixture_spans(), &["", "status:ERROR", "-status:ERROR", "duration>1ms"][..]),
        ] {
            let table = rows.table();
            let n_rows = rows.len() as u32;
            // newest first: row r of the block is row n - 1 - r of the fixture
            let hidden: Vec<u32> = (0..n_rows).filter(|row| row % 3 == 1).collect();
            let kept = arrow::array::UInt32Array::from_iter_values((0..n_rows).filter(|row| !hidden.contains(&(n_rows - 1 - row))));
            let (with, without) = (Lake::far().await, Lake::new().await);
            let meta = with.block(&rows, index).await;
            // opened before: it must not be remembered as it was
            assert_eq!(with.find(table, "").await.len(), n_rows as usize);
            let before = with.source.view.lock().clone();
            let mut commit = Commit::new(CommitKind::Flush, T0);
            commit.hides = vec![Hide {
                block: meta.id.clone(),
                rows: hidden.clone(),
            }];
            with.source.view.lock().snapshot = with.catalog.commit(commit).await.expect("hidden");
            without.block(&rows.take(&kept).expect("rows"), index).await;
            assert_eq!(answers(&with, table, queries).await, answers(&without, table, queries).await);
            // who has the older snapshot sees what it saw
            *with.source.view.lock() = before;
            assert_eq!(with.find(table, "").await.len(), n_rows as usize);
        }
    }
}
