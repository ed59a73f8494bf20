//! Pages, histograms and counts agree with each other, over head and overlapping blocks alike.

use super::*;

/// `n` rows from a seed, within 300 s: times collide, severities and services vary.
fn rows(seed: u64, n: usize, first_id: i64) -> Rows {
    rows_within(300, seed, n, first_id)
}

fn rows_within(seconds: i64, seed: u64, n: usize, first_id: i64) -> Rows {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut builder = LogsBuilder::default();
    let contexts: Vec<i32> = ["api", "db", "web"]
        .map(|service| builder.context(ContextBuilder::new().attribute("service.name", Value::Str(service)).build()))
        .to_vec();
    for _ in 0..n {
        builder.attribute("shard", Value::Int(random.random_range(0..4)));
        let context = contexts[random.random_range(0..3)];
        let word = if random.random_bool(0.3) { "rare" } else { "common" };
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + random.random_range(0..seconds) * SECOND,
                body: Some(word),
                severity_number: random.random_range(0..25),
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(first_id)
}

async fn lake() -> Lake {
    let lake = Lake::new().await;
    lake.head(vec![rows(1, 150, 1), rows(2, 10, 1_000)]);
    lake.block(&rows(3, 400, 2_000), true).await;
    lake.block(&rows(4, 300, 3_000), false).await;
    lake.block(&rows(5, 50, 4_000), true).await;
    // many rows of one time
    lake.block(&rows_within(3, 6, 200, 5_000), true).await;
    lake
}

fn request(query: &str, range: TimeRange, limit: usize, cursor: Option<Cursor>) -> SearchRequest {
    SearchRequest {
        table: Table::Logs,
        query: parse(query, Table::Logs).expect("a query"),
        range,
        limit,
        cursor,
        order: Order::NewestFirst,
    }
}

#[tokio::test]
async fn pages_in_a_row_are_the_whole_answer() {
    let lake = lake().await;
    for (query, range) in [
        ("*", TimeRange::ALL),
        ("rare", TimeRange::ALL),
        ("service:api severity>=WARN", TimeRange::new(T0 + 50 * SECOND, T0 + 200 * SECOND)),
        ("body:~\"^r\" -shard:2", TimeRange::ALL),
        ("absent", TimeRange::ALL),
    ] {
        let whole = lake.engine.search(&request(query, range, 10_000, None)).await.expect("an answer");
        assert!(whole.next_cursor.is_none() && whole.coverage.complete);
        let keys = |hits: &[Hit]| hits.iter().map(|hit| (hit.time_unix_nano(), hit.ingest_id())).collect::<Vec<_>>();
        let expected = keys(&whole.hits);
        assert!(expected.windows(2).all(|pair| pair[0] > pair[1]), "newest first, each once");
        for limit in [1, 7, 100] {
            check_pages(&lake, request(query, range, limit, None), query, &expected).await;
        }
    }
}

/// Asks page by page, as a client that hands cursors back, for what is expected; one row a page is checked for its beginning
/// only.
async fn check_pages(lake: &Lake, mut asked: SearchRequest, query: &str, expected: &[(i64, i64)]) {
    let limit = asked.limit;
    let mut gathered = Vec::new();
    while gathered.len() < if limit == 1 { 25 } else { usize::MAX } {
        let page = lake.engine.search(&asked).await.expect("a page");
        assert!(page.coverage.complete);
        gathered.extend(page.hits.iter().map(|hit| (hit.time_unix_nano(), hit.ingest_id())));
        asked.cursor = page.next_cursor.map(|cursor| cursor.to_string().parse().expect("a cursor"));
        if asked.cursor.is_none() {
            break;
        }
        assert_eq!(page.hits.len(), limit);
    }
    assert_eq!(gathered, expected[..gathered.len()], "{query} by {limit}");
    assert!(limit == 1 || gathered.len() == expected.len());
}

/// Two nodes give IDs by themselves: rows of one time may have the same.
#[tokio::test]
async fn rows_of_one_time_and_id_come_together() {
    let lake = Lake::new().await;
    lake.block(&rows(3, 60, 1), true).await;
    lake.block(&rows(3, 60, 1), true).await;
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for limit in [2, 3, 7, 50] {
            let mut asked = SearchRequest {
                order,
                ..request("*", TimeRange::ALL, limit, None)
            };
            let mut gathered = Vec::new();
            loop {
                let page = lake.engine.search(&asked).await.expect("a page");
                assert!(!page.hits.is_empty() && page.hits.len() <= limit);
                gathered.extend(page.hits.iter().map(|hit| (hit.time_unix_nano(), hit.ingest_id())));
                asked.cursor = page.next_cursor;
                if asked.cursor.is_none() {
                    break;
                }
            }
            assert_eq!(gathered.len(), 120, "{order:?} {limit}");
            assert!(gathered.chunks(2).all(|pair| pair[0] == pair[1]), "{order:?} {limit}");
        }
    }
}

#[tokio::test]
async fn oldest_first_is_newest_first_turned_round_page_by_page() {
    let lake = lake().await;
    for (query, range) in [
        ("*", TimeRange::ALL),
        ("rare", TimeRange::ALL),
        ("service:api severity>=WARN", TimeRange::new(T0 + 50 * SECOND, T0 + 200 * SECOND)),
        ("body:~\"^r\" -shard:2", TimeRange::ALL),
        ("absent", TimeRange::ALL),
    ] {
        let whole = lake.engine.search(&request(query, range, 10_000, None)).await.expect("an answer");
        let keys = |hits: &[Hit]| hits.iter().map(|hit| (hit.time_unix_nano(), hit.ingest_id())).collect::<Vec<_>>();
        let mut expected = keys(&whole.hits);
        expected.reverse();
        for limit in [1, 7, 100, 10_000] {
            let asked = SearchRequest {
                order: Order::OldestFirst,
                ..request(query, range, limit, None)
            };
            check_pages(&lake, asked, query, &expected).await;
        }
    }
}

#[tokio::test]
async fn a_full_page_of_old_rows_leaves_new_blocks_unread() {
    let lake = Lake::new().await;
    lake.block(&rows(1, 50, 1), true).await;
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    let record = LogRecord {
        time_unix_nano: T0 + 7_200 * SECOND,
        body: Some("new"),
        ..Default::default()
    };
    builder.push(context, &record);
    lake.block(&builder.finish().expect("rows").with_ingest_ids(9_000), true).await;
    let asked = SearchRequest {
        order: Order::OldestFirst,
        ..request("*", TimeRange::ALL, 10, None)
    };
    let page = lake.engine.search(&asked).await.expect("a page");
    assert_eq!((page.coverage.blocks_total, page.coverage.blocks_read, page.coverage.blocks_pruned), (2, 1, 1));
}

#[tokio::test]
async fn a_full_page_of_new_rows_leaves_old_blocks_unread() {
    let lake = Lake::new().await;
    lake.head(vec![rows(1, 50, 1)]);
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    builder.push(
        context,
        &LogRecord {
            time_unix_nano: T0 - 7_200 * SECOND,
            body: Some("old"),
            ..Default::default()
        },
    );
    lake.block(&builder.finish().expect("rows").with_ingest_ids(9_000), true).await;
    let page = lake.engine.search(&request("*", TimeRange::ALL, 10, None)).await.expect("a page");
    assert_eq!((page.coverage.blocks_total, page.coverage.blocks_read, page.coverage.blocks_pruned), (1, 0, 1));
    assert!(page.coverage.complete);
}

#[tokio::test]
async fn histogram_counts_and_groups_add_up() {
    let lake = lake().await;
    for (text, range) in [
        ("*", TimeRange::ALL),
        ("rare", TimeRange::new(T0 + 13 * SECOND, T0 + 222 * SECOND)),
        ("service:db OR severity:ERROR", TimeRange::ALL),
    ] {
        let query = parse(text, Table::Logs).expect("a query");
        let count = lake.engine.count(Table::Logs, &query, range).await.expect("a count").count;
        let found = lake.engine.search(&request(text, range, 10_000, None)).await.expect("an answer").hits;
        assert_eq!(count as usize, found.len());
        let asked = HistogramRequest {
            table: Table::Logs,
            query: query.clone(),
            range,
            buckets: 40,
        };
        let histogram = lake.engine.histogram(&asked).await.expect("a histogram");
        assert_eq!(histogram.total, count, "{text}");
        assert!(histogram.buckets.len() <= 40);
        for bucket in &histogram.buckets {
            let range = TimeRange::new(bucket.start_unix_nano, bucket.start_unix_nano + histogram.bucket_nanos);
            let inside = found.iter().filter(|hit| range.contains(hit.time_unix_nano())).count();
            assert_eq!(bucket.counts.iter().sum::<u64>() as usize, inside, "{text}");
        }
        let fields = ["service".to_string(), "severity".to_string(), "shard".to_string()];
        let groups = lake.engine.count_by(Table::Logs, &query, range, &fields, 5).await.expect("groups");
        assert_eq!(groups.groups.iter().map(|(_, n)| n).sum::<u64>() + groups.other, count);
        assert!(groups.groups.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        let asked = FacetsRequest {
            table: Table::Logs,
            query,
            range,
            fields: vec!["severity".into(), "nothing".into()],
            limit: 10,
        };
        let facets = lake.engine.facets(&asked).await.expect("facets").facets;
        assert_eq!(facets[0].values.iter().map(|value| value.count).sum::<u64>() + facets[0].missing, count);
        assert_eq!((facets[1].values.len(), facets[1].missing, facets[1].truncated), (0, count, false));
    }
}

#[tokio::test]
async fn one_record_is_found_by_id_and_time() {
    let lake = lake().await;
    let all = lake.engine.search(&request("*", TimeRange::ALL, 10_000, None)).await.expect("an answer").hits;
    for hit in [&all[0], &all[all.len() / 2], &all[all.len() - 1]] {
        let found = lake.engine.record(Table::Logs, hit.ingest_id(), hit.time_unix_nano()).await.expect("an answer");
        assert_eq!(found.map(|record| record.hit).as_ref(), Some(hit));
    }
    assert!(lake.engine.record(Table::Logs, 77_777, T0).await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_block_that_is_gone_is_told_and_a_bad_index_is_scanned() {
    let lake = Lake::new().await;
    let gone = lake.block(&rows(3, 40, 2_000), true).await;
    let damaged = lake.block(&rows(4, 30, 3_000), true).await;
    let store = lake.folder.path().join("store");
    std::fs::remove_file(store.join(block_path(&gone).data().as_str())).expect("removed");
    std::fs::write(store.join(block_path(&damaged).index().as_str()), b"not an index").expect("written");
    let answer = lake.engine.search(&request("*", TimeRange::ALL, 100, None)).await.expect("an answer");
    assert_eq!(answer.hits.len(), 30);
    assert!(!answer.coverage.complete);
    let whats: Vec<&str> = answer.coverage.problems.iter().map(|problem| problem.what.as_str()).collect();
    assert!(whats.contains(&gone.id.as_str()) && whats.contains(&damaged.id.as_str()), "{whats:?}");
}

#[tokio::test]
async fn a_tail_shows_what_matches_and_counts_what_it_drops() {
    let lake = Lake::with_config(Config {
        tail_rows_per_second: 40,
        ..Config::default()
    })
    .await;
    let mut tail = lake.engine.tail(Table::Logs, parse("common", Table::Logs).expect("a query")).expect("a tail");
    let sent = rows(1, 100, 1);
    lake.publish(sent);
    let event = tail.next_event().await.expect("an event");
    assert_eq!(event.hits.len(), 10);
    assert!(event.hits.windows(2).all(|pair| pair[0].time_unix_nano() <= pair[1].time_unix_nano()));
    assert!(event.dropped > 30 && event.reason == Some("rate cap"));
    assert!(lake.engine.tail(Table::Alerts, Query::All).is_err());
}

#[tokio::test]
async fn what_a_tail_cannot_look_at_is_counted_in_rows() {
    let lake = Lake::with_config(Config {
        tail_rows_per_second: 1_000_000,
        ..Config::default()
    })
    .await;
    let mut tail = lake.engine.tail(Table::Logs, Query::All).expect("a tail");
    // more than wait to be matched, then more than the source keeps: 4 of these are missed as batches
    for number in 0..20 {
        lake.publish(rows(number, 100, 1 + 100 * number as i64));
    }
    let (mut seen, mut missed_batches) = (0, 0);
    while seen < 1_600 {
        let event = tail.next_event().await.expect("an event");
        assert!(event.dropped == 0 || event.reason == Some("slow reader"));
        seen += event.hits.len() as u64 + event.dropped;
        missed_batches += event.missed_batches;
    }
    assert_eq!((seen, missed_batches), (1_600, 4));
}

#[tokio::test]
async fn tails_have_a_bound_and_give_their_place_back() {
    let lake = Lake::with_config(Config {
        max_tails: 1,
        ..Config::default()
    })
    .await;
    let first = lake.engine.tail(Table::Logs, Query::All).expect("a tail");
    let refused = lake.engine.tail(Table::Logs, Query::All).expect_err("one is open");
    assert_eq!(
        (refused.kind(), refused.to_string().as_str()),
        (ErrorKind::Busy, "there are 1 live tails already")
    );
    drop(first);
    let mut tries = 0;
    while lake.engine.tail(Table::Logs, Query::All).is_err() {
        tries += 1;
        assert!(tries < 1_000, "the place is not given back");
        tokio::task::yield_now().await;
    }
}

/// Rows a second apart whose bodies are of these lengths, oldest first.
fn rows_of_bytes(lengths: &[usize], first_id: i64) -> Rows {
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    for (number, length) in lengths.iter().enumerate() {
        let body = "x".repeat(*length);
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + (first_id + number as i64) * SECOND,
                body: Some(&body),
                trace_id: TraceId::from_bytes(&[9; 16]),
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(first_id)
}

async fn large_rows() -> Lake {
    let lake = Lake::with_config(Config {
        max_answer_bytes: 100_000,
        ..Config::default()
    })
    .await;
    lake.block(&rows_of_bytes(&[20_000; 20], 1), true).await;
    lake.block(&rows_of_bytes(&[10, 300_000, 10, 10, 10], 101), false).await;
    lake.head(vec![rows_of_bytes(&[30_000; 10], 201)]);
    lake
}

#[tokio::test]
async fn a_page_ends_at_its_bytes_and_the_next_goes_on() {
    let lake = large_rows().await;
    let (mut ids, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = lake.engine.search(&request("*", TimeRange::ALL, 1_000, cursor)).await.expect("a page");
        pages += 1;
        assert!(page.coverage.complete);
        let bytes: usize = page.hits.iter().map(Hit::memory_bytes).sum();
        assert!(bytes <= 100_000 || page.hits.len() == 1, "{bytes} bytes in {} rows", page.hits.len());
        let says_so = page.coverage.problems.iter().any(|problem| problem.kind == ProblemKind::Limit);
        assert_eq!(says_so, page.next_cursor.is_some(), "{:?}", page.coverage);
        ids.extend(page.hits.iter().map(Hit::ingest_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<i64> = (201..211).rev().chain((101..106).rev()).chain((1..21).rev()).collect();
    assert_eq!(ids, expected);
    assert!(pages >= 8, "{pages}");
}

#[tokio::test]
async fn a_trace_and_a_sql_answer_end_at_their_bytes_and_say_so() {
    let lake = large_rows().await;
    let id = TraceId::from_bytes(&[9; 16]).expect("an ID");
    let trace = lake.engine.trace(id).await.expect("an answer").expect("a trace");
    assert_eq!(trace.logs.len(), 3);
    assert!(!trace.coverage.complete);
    assert_eq!(trace.coverage.problems[0].kind, ProblemKind::Limit);
    let request = SqlRequest {
        query: "SELECT body FROM logs ORDER BY time_unix_nano DESC".into(),
        limit: 1_000,
    };
    let answer = lake.engine.sql(&request).await.expect("an answer");
    assert_eq!((answer.n_rows, answer.truncated, answer.coverage.complete), (3, true, false));
    assert_eq!(answer.coverage.problems[0].kind, ProblemKind::Limit);
    let request = SqlRequest {
        query: "SELECT count(*) FROM logs".into(),
        ..request
    };
    assert!(!lake.engine.sql(&request).await.expect("an answer").truncated);
}

#[tokio::test]
async fn what_cannot_be_found_in_what_can_be_read_is_not_said_to_be_missing() {
    let lake = Lake::new().await;
    let gone = lake.block(&rows_of_bytes(&[5; 5], 1), true).await;
    lake.head(vec![rows_of_bytes(&[5; 5], 101)]);
    let store = lake.folder.path().join("store");
    std::fs::remove_file(store.join(block_path(&gone).data().as_str())).expect("removed");
    let id = TraceId::from_bytes(&[8; 16]).expect("an ID");
    for error in [
        lake.engine.trace(id).await.expect_err("unread"),
        lake.engine.record(Table::Logs, 1, T0 + SECOND).await.expect_err("unread"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let coverage = error.coverage().expect("coverage");
        assert!(!coverage.complete && coverage.problems[0].what == gone.id.as_str(), "{coverage:?}");
    }
    // what was found is an answer, and says what was not read
    let trace = lake
        .engine
        .trace(TraceId::from_bytes(&[9; 16]).expect("an ID"))
        .await
        .expect("an answer")
        .expect("a trace");
    assert_eq!((trace.logs.len(), trace.coverage.complete), (5, false));
    let record = lake
        .engine
        .record(Table::Logs, 103, T0 + 103 * SECOND)
        .await
        .expect("an answer")
        .expect("a record");
    assert_eq!((record.hit.ingest_id(), record.coverage.complete), (103, true));
}

#[tokio::test]
async fn values_are_counted_alike_in_rows_and_by_an_index() {
    let (head, indexed, far, plain) = (Lake::new().await, Lake::new().await, Lake::far().await, Lake::new().await);
    let all = [fixture_logs(), fixture_spans(), rows(7, 300, 5_000)];
    for rows in &all {
        indexed.block(rows, true).await;
        plain.block(rows, false).await;
        far.block(rows, true).await;
    }
    head.head(all.to_vec());
    let mut names: Vec<String> = Vec::new();
    for table in [Table::Logs, Table::Spans] {
        let everything = SearchRequest {
            table,
            ..request("*", TimeRange::ALL, 10_000, None)
        };
        for hit in head.engine.search(&everything).await.expect("an answer").hits {
            names.extend(hit.attributes().iter().chain(hit.resource_attributes()).map(|(key, _)| key.clone()));
            if let Hit::Log(log) = &hit {
                let leaves = log.body.as_deref().and_then(crate::model::json::leaves);
                names.extend(leaves.unwrap_or_default().into_iter().map(|(key, _)| key));
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 20 && names.iter().any(|name| name == "shard"), "{names:?}");
    for (table, query) in [
        (Table::Logs, "*"),
        (Table::Logs, "rare OR time>2026-11-22T05:00:03Z"),
        (Table::Spans, "*"),
        (Table::Logs, "absent"),
    ] {
        for fields in names.chunks(7) {
            let asked = FacetsRequest {
                table,
                query: parse(query, table).expect("a query"),
                range: TimeRange::ALL,
                fields: fields.to_vec(),
                limit: 1_000,
            };
            let expected = head.engine.facets(&asked).await.expect("facets").facets;
            for lake in [&indexed, &far, &plain] {
                assert_eq!(lake.engine.facets(&asked).await.expect("facets").facets, expected, "{query}");
            }
        }
    }
}

#[tokio::test]
async fn an_index_counts_what_it_knows_whole() {
    let lake = Lake::new().await;
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().attribute("zone", Value::Str("a")).build());
    for number in 0..8 {
        builder.attribute("shard", Value::Int(number % 2));
        builder.attribute("long", Value::Str(&"x".repeat(300)));
        let body = format!("{{\"shard\":{}}}", number % 3);
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + number * SECOND,
                body: Some(&body),
                ..Default::default()
            },
        );
    }
    let meta = lake.block(&builder.finish().expect("rows").with_ingest_ids(1), true).await;
    let path = block_path(&meta);
    let store = lake.folder.path().join("store");
    let read = |path: &str| bytes::Bytes::from(std::fs::read(store.join(path)).expect("an object"));
    let block = block::Block::open(Arc::new(meta.clone()), read(path.data().as_str()), Some(read(path.index().as_str()))).expect("a block");
    // the newest six rows: 7 to 2
    let found = arrow::buffer::BooleanBuffer::collect_bool(8, |row| row < 6);
    let (stop, _guard) = limits::Stop::after(std::time::Duration::from_secs(60));
    let counts = |key: &str| terms::counts(&block, key, &found, &(0..8), &stop);
    let pairs = |values: &[(&str, u64)]| values.iter().map(|(value, n)| (value.to_string(), *n)).collect::<Vec<_>>();
    let shard = counts("shard").expect("few values");
    // 0: rows 2, 3, 4, 6; 1: rows 3, 4, 5, 7; 2: rows 2, 5
    assert_eq!((shard.values, shard.missing), (pairs(&[("0", 4), ("1", 4), ("2", 2)]), 0));
    let zone = counts("zone").expect("one value");
    assert_eq!((zone.values, zone.missing), (pairs(&[("a", 6)]), 0));
    let nothing = counts("nothing").expect("no value");
    assert_eq!((nothing.values, nothing.missing), (vec![], 6));
    assert_eq!(counts("long"), None);
}

#[tokio::test]
async fn what_arrived_is_found_by_its_positions_page_by_page() {
    let lake = lake().await;
    let node = NodeId::load_or_create(lake.folder.path()).expect("a node");
    let arrived = async |query: &str, positions: std::ops::RangeInclusive<i64>| {
        let (query, mut found, mut after) = (parse(query, Table::Logs).expect("a query"), Vec::new(), None);
        loop {
            let page = lake
                .engine
                .arrived(&node, Table::Logs, &query, positions.clone(), after, 37)
                .await
                .expect("a page");
            assert!(page.coverage.complete);
            found.extend(page.hits.iter().map(|hit| (hit.time_unix_nano(), hit.ingest_id())));
            after = page.next_cursor;
            if after.is_none() {
                return found;
            }
        }
    };
    // two parts of the head, a block with an index, one without
    let found = arrived("*", 100..=3_099).await;
    assert!(found.is_sorted());
    let mut ids: Vec<i64> = found.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    let expected: Vec<i64> = (100..=150).chain(1_000..=1_009).chain(2_000..=2_399).chain(3_000..=3_099).collect();
    assert_eq!(ids, expected);
    let rare = arrived("rare", 2_000..=3_099).await;
    assert!(!rare.is_empty() && rare.len() < 300, "{}", rare.len());
    assert_eq!(arrived("*", 160..=900).await, []);
    // of a node whose own rows of these positions are in the head, no block is looked at
    let later = 1 << 20;
    lake.block(&rows(7, 20, later), true).await;
    lake.head(vec![rows(8, 5, later + 10)]);
    let ids: Vec<i64> = arrived("*", later..=later + 100).await.into_iter().map(|(_, id)| id - later).collect();
    assert!(ids.iter().all(|id| (10..15).contains(id)) && ids.len() == 5, "{ids:?}");
}
