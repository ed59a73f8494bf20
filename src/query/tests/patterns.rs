//! Filter patterns and the questions that an index answers for them: no matching row is left out.

use std::collections::BTreeSet;

use super::*;
use crate::query::filter_pattern::{FilterPattern, tests::patterns_and_events};

/// One row for each event, a second apart; the fields that events share with columns are set otherwise there.
fn rows_of(events: &[String]) -> Rows {
    rows_from(events, 0, SECOND)
}

/// One row for each event, numbered from `first` on, so many nanoseconds apart.
fn rows_from(events: &[String], first: i64, apart: i64) -> Rows {
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().attribute("service.name", Value::Str("other")).build());
    for (number, event) in (first..).zip(events) {
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + number * apart,
                body: Some(event),
                severity_number: 1,
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(first)
}

#[tokio::test]
async fn every_event_that_matches_a_pattern_passes_its_prefilter_in_head_index_and_scan() {
    let (patterns, events) = patterns_and_events();
    let rows = rows_of(&events);
    let (head, indexed, plain) = (Lake::new().await, Lake::new().await, Lake::new().await);
    head.head(vec![rows.clone()]);
    indexed.block(&rows, true).await;
    plain.block(&rows, false).await;
    let mut n_candidates = 0;
    for pattern in &patterns {
        let query = pattern.prefilter();
        let found: BTreeSet<String> = head.find_query(Table::Logs, query.clone()).await.into_iter().collect();
        for lake in [&indexed, &plain] {
            let other: BTreeSet<String> = lake.find_query(Table::Logs, query.clone()).await.into_iter().collect();
            assert_eq!(found, other, "{query}");
        }
        for (number, event) in events.iter().enumerate() {
            assert!(
                !pattern.matches(event) || found.contains(&number.to_string()),
                "{event} is not found by {query}"
            );
        }
        n_candidates += found.len();
    }
    let n_matching: usize = patterns
        .iter()
        .map(|pattern| events.iter().filter(|event| pattern.matches(event)).count())
        .sum();
    assert!(n_candidates < 3 * n_matching, "{n_candidates} candidates for {n_matching} rows");
}

#[tokio::test]
async fn a_selector_does_not_take_a_column_for_a_field_of_the_same_name() {
    let lake = Lake::new().await;
    let events = [r#"{"level":"ERROR","time":"noon","service":"cart"}"#, r#"{"level":"INFO"}"#].map(String::from);
    lake.block(&rows_of(&events), true).await;
    for (pattern, expected) in [
        ("{ $.level = \"ERROR\" }", vec!["0"]),
        ("{ $.time = noon }", vec!["0"]),
        ("{ $.service = \"cart\" }", vec!["0"]),
        ("{ $.service = \"other\" }", vec![]),
        ("{ $.level = * }", vec!["1", "0"]),
    ] {
        let pattern = FilterPattern::parse(pattern).expect("parses");
        assert_eq!(lake.find_query(Table::Logs, pattern.prefilter()).await, expected, "{pattern:?}");
    }
}

/// Blocks whose words are nearly all different, as those of request numbers are, and too many to be kept side by side.
#[tokio::test]
async fn a_rare_word_among_many_numbers_is_found_in_both_orders_by_pages_without_looking_through_all() {
    let lake = Lake::with_config(Config {
        token_cache_bytes: 320 << 10,
        ..Config::default()
    })
    .await;
    for block in 0..3u64 {
        let events: Vec<String> = (block * 6_000..(block + 1) * 6_000)
            .map(|number| {
                let rare = match (number % 400 == 7, number % 3) {
                    (false, _) => "",
                    (true, 0) => " unheliotropic",
                    (true, 1) => " Heliotrope",
                    (true, _) => " heliotropes",
                };
                format!("request {:022o} completed{rare}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            })
            .collect();
        lake.block(&rows_from(&events, block as i64 * 6_000, SECOND / 10), true).await;
    }
    let search = |pattern: &str, order: Order, limit: usize| SearchRequest {
        table: Table::Logs,
        query: FilterPattern::parse(pattern).expect("parses").prefilter(),
        range: TimeRange::ALL,
        limit,
        cursor: None,
        order,
    };
    // the first question looks through all words; later ones look up what that left behind
    let n_looked_at = || lake.engine.blocks().n_tokens_looked_at();
    let mut before = 0;
    for pattern in ["violet", "heliotrop", "heliotrope", "completed unheliotropic"] {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let whole = lake.engine.search(&search(pattern, order, 10_000)).await.expect("an answer");
            let expected = match pattern {
                "violet" => 0,
                "heliotrop" => 30,
                _ => 15,
            };
            assert_eq!(whole.hits.len(), expected, "{pattern}");
            if before > 0 {
                let since = n_looked_at() - before;
                assert!(since * 20 < before, "{pattern}: {since} words after {before}");
            }
            let (mut paged, mut cursor) = (Vec::new(), None);
            loop {
                let request = SearchRequest {
                    cursor,
                    ..search(pattern, order, 4)
                };
                let page = lake.engine.search(&request).await.expect("a page");
                paged.extend(page.hits.iter().map(|hit| (hit.time_unix_nano(), hit.ingest_id())));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let whole: Vec<_> = whole.hits.iter().map(|hit| (hit.time_unix_nano(), hit.ingest_id())).collect();
            assert_eq!(paged, whole, "{pattern}");
            if before == 0 {
                before = n_looked_at();
                assert!((18_000..19_000).contains(&before), "the words of three blocks, once: {before}");
            }
        }
    }
}

#[tokio::test]
async fn rows_that_were_answered_are_verified_by_what_is_kept_of_them() {
    let (lake, plain) = (Lake::new().await, Lake::new().await);
    let events: Vec<String> = (0..2_000)
        .map(|number| match number % 200 {
            117 => format!("request {number} of a heliotrope"),
            118 => format!("request {number} of a Marigold"),
            119 => format!("request {number} of marigolds"),
            _ => format!("request {number} completed"),
        })
        .collect();
    let rows = rows_of(&events);
    lake.block(&rows, true).await;
    plain.block(&rows, false).await;
    let page = async |lake: &Lake, query: &Query, order: Order, limit: usize, cursor: Option<Cursor>| {
        let request = SearchRequest {
            table: Table::Logs,
            query: query.clone(),
            range: TimeRange::ALL,
            limit,
            cursor,
            order,
        };
        lake.engine.search(&request).await.expect("an answer")
    };
    let pattern = |text: &str| FilterPattern::parse(text).expect("parses").prefilter();
    // twice: first they are read, then they are known
    for round in 0..2 {
        for (text, expected) in [("heliotrope", 10), ("marigold", 10), ("-completed -Marigold -heliotrope", 10), ("absent", 0)] {
            for order in [Order::NewestFirst, Order::OldestFirst] {
                let query = pattern(text);
                let whole = page(&plain, &query, order, 1_000, None).await;
                assert_eq!(whole.hits.len(), expected, "{text}");
                assert_eq!(page(&lake, &query, order, 1_000, None).await.hits, whole.hits, "{text}, {order:?}, {round}");
                let (mut paged, mut cursor) = (Vec::new(), None);
                loop {
                    let next = page(&lake, &query, order, 3, cursor).await;
                    paged.extend(next.hits);
                    cursor = next.next_cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(paged, whole.hits, "{text}, {order:?}, {round}");
            }
        }
    }
    let bytes_read = async |query: &Query| page(&lake, query, Order::NewestFirst, 100, None).await.coverage.bytes_read;
    let (rare, mixed) = (bytes_read(&pattern("heliotrope")).await, bytes_read(&pattern("marigold")).await);
    assert_eq!(rare, bytes_read(&Query::phrase("heliotrope")).await, "no text is read for them");
    assert!(rare < mixed, "what did not pass was not answered: {mixed} bytes after {rare}");
}
