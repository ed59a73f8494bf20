//! Filter patterns and the questions that an index answers for them: no matching row is left out.

use std::collections::BTreeSet;

use super::*;
use crate::query::filter_pattern::{FilterPattern, tests::patterns_and_events};

/// One row for each event, a second apart; the fields that events share with columns are set otherwise there.
fn rows_of(events: &[String]) -> Rows {
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().attribute("service.name", Value::Str("other")).build());
    for (number, event) in events.iter().enumerate() {
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + number as i64 * SECOND,
                body: Some(event),
                severity_number: 1,
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(0)
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
