//! Patterns are counted alike in the head, in blocks and in blocks that are older than their column.

use super::*;
use crate::correlate::correlate;
use crate::pattern::{Miner, PatternId};
use crate::query::patterns::{Patterns, PatternsRequest, State};

const MINUTE: i64 = 60 * SECOND;

/// Logs with these texts, a second apart from a time on; with IDs as correlation gives them, or without.
fn logs(texts: &[&str], start: i64, first_id: i64, severity_number: i32, has_ids: bool) -> Rows {
    let mut builder = LogsBuilder::default();
    let mut context = ContextBuilder::new();
    context.attribute("service.name", Value::Str("shop"));
    let context = builder.context(context.build());
    for (number, text) in texts.iter().enumerate() {
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: start + number as i64 * SECOND,
                body: Some(text),
                severity_number,
                ..Default::default()
            },
        );
    }
    let rows = builder.finish().expect("rows").with_ingest_ids(first_id);
    if !has_ids {
        return rows;
    }
    correlate(Batch { rows: vec![rows] }).rows.remove(0)
}

fn request(query: &str) -> PatternsRequest {
    PatternsRequest {
        query: parse(query, Table::Logs).expect("a query"),
        range: TimeRange::new(T0, T0 + 60 * MINUTE),
        baseline: None,
        bins: 60,
        limit: 100,
        states: Vec::new(),
    }
}

async fn ask(lake: &Lake, request: &PatternsRequest) -> Patterns {
    let answer = lake.engine.patterns(request).await.expect("an answer");
    assert!(answer.coverage.complete, "{:?}", answer.coverage);
    answer
}

/// Templates and counts.
fn counts(answer: &Patterns) -> Vec<(&str, u64)> {
    answer.patterns.iter().map(|found| (found.template.as_str(), found.count)).collect()
}

#[tokio::test]
async fn head_blocks_and_blocks_without_ids_are_counted_together() {
    let lake = Lake::new().await;
    lake.block(&logs(&["took 1 ms", "took 2 ms", "gave up"], T0, 1, 9, true), true).await;
    lake.block(&logs(&["took 3 ms", " ", "gave up"], T0 + 10 * MINUTE, 100, 9, false), true).await;
    lake.block(&logs(&["took 4 ms"], T0 + 20 * MINUTE, 200, 13, true), false).await;
    lake.head(vec![
        logs(&["took 5 ms", "took 6 ms"], T0 + 30 * MINUTE, 300, 9, true),
        logs(&["took 7 ms"], T0 + 31 * MINUTE, 400, 9, false),
    ]);
    let answer = ask(&lake, &request("*")).await;
    assert_eq!(counts(&answer), [("took <num> ms", 7), ("gave up", 2)]);
    assert_eq!((answer.total, answer.without_pattern, answer.other, answer.truncated), (10, 1, 0, false));
    let took = &answer.patterns[0];
    assert_eq!(Some(took.id), Miner::default().id("took 99 ms").map(PatternId::get));
    assert_eq!(took.pattern_ids, [took.id]);
    assert_eq!((took.first_seen, took.last_seen), (T0, T0 + 31 * MINUTE));
    assert_eq!((took.severity, took.severities["INFO"], took.severities["WARN"]), ("WARN", 6, 1));
    assert_eq!(took.services, [("shop".to_string(), 7)]);
    assert_eq!((took.share, took.sample.body.as_str(), took.sample.id), (0.7, "took 7 ms", 400));
    assert_eq!(answer.bin_nanos, MINUTE);
    let bins: Vec<(usize, u64)> = took.sparkline.iter().copied().enumerate().filter(|(_, rows)| *rows > 0).collect();
    assert_eq!(bins, [(0, 2), (10, 1), (20, 1), (30, 2), (31, 1)]);
    // a filter, and a limit
    let few = ask(
        &lake,
        &PatternsRequest {
            limit: 1,
            ..request("NOT gave")
        },
    )
    .await;
    assert_eq!((counts(&few), few.n_patterns, few.other), (vec![("took <num> ms", 7)], 1, 0));
    let cut = ask(&lake, &PatternsRequest { limit: 1, ..request("*") }).await;
    assert_eq!((cut.patterns.len(), cut.n_patterns, cut.other, cut.truncated), (1, 2, 2, true));
}

#[tokio::test]
async fn rows_are_found_by_their_pattern() {
    let lake = Lake::new().await;
    lake.block(&logs(&["took 1 ms", "gave up"], T0, 1, 9, true), true).await;
    lake.head(vec![logs(&["took 2 ms"], T0 + MINUTE, 100, 9, true)]);
    let id = Miner::default().id("took 99 ms").expect("a text").get();
    assert_eq!(lake.find(Table::Logs, &format!("pattern_id:{id}")).await, ["100", "1"]);
    let by = lake
        .engine
        .count_by(Table::Logs, &Query::All, TimeRange::ALL, &["pattern_id".to_string()], 10)
        .await
        .expect("counts");
    assert_eq!(by.groups[0], (vec![Some(id.to_string())], 2));
}

#[tokio::test]
async fn names_become_one_pattern_whose_ids_are_listed() {
    let lake = Lake::new().await;
    let texts: Vec<String> = ["ann", "bob", "cid", "dee"].iter().map(|user| format!("user {user} logged in")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    lake.block(&logs(&texts, T0, 1, 9, true), true).await;
    lake.head(vec![logs(&texts[..2], T0 + MINUTE, 100, 9, true)]);
    let answer = ask(&lake, &request("*")).await;
    assert_eq!(counts(&answer), [("user <*> logged in", 6)]);
    let found = &answer.patterns[0];
    assert_eq!(found.id, PatternId::of_template("user <*> logged in").get());
    assert_eq!((found.n_pattern_ids, found.pattern_ids.len()), (4, 4));
    let query = format!("pattern_id:({})", found.pattern_ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" OR "));
    assert_eq!(lake.find(Table::Logs, &query).await.len(), 6);
}

#[tokio::test]
async fn what_is_new_surging_or_vanished_is_told_and_a_new_name_is_none_of_it() {
    let lake = Lake::new().await;
    let (before, now) = (T0, T0 + 30 * MINUTE);
    let users = |names: &[&str]| names.iter().map(|name| format!("user {name} logged in")).collect::<Vec<_>>();
    let all = |texts: &[String]| texts.iter().map(String::as_str).map(str::to_string).collect::<Vec<String>>();
    let mut old = users(&["ann", "bob", "cid"]);
    old.extend((0..5).map(|number| format!("retry {number}")));
    old.extend((0..4).map(|number| format!("warming up step {number}")));
    let mut new = users(&["ann", "bob", "eve"]);
    new.extend((0..40).map(|number| format!("retry {number}")));
    new.push("disk full on /dev/sda1".into());
    for (texts, start, first_id) in [(all(&old), before, 1), (all(&new), now, 1_000)] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        lake.block(&logs(&texts, start, first_id, 9, true), true).await;
    }
    let compared = PatternsRequest {
        range: TimeRange::new(now, now + 30 * MINUTE),
        baseline: Some(TimeRange::new(before, now)),
        ..request("*")
    };
    let answer = ask(&lake, &compared).await;
    let told: Vec<(&str, Option<State>, u64, Option<u64>)> = answer
        .patterns
        .iter()
        .map(|found| (found.template.as_str(), found.state, found.count, found.baseline_count))
        .collect();
    assert_eq!(
        told,
        [
            ("disk full on /dev/sda<num>", Some(State::New), 1, Some(0)),
            ("retry <num>", Some(State::Surging), 40, Some(5)),
            ("warming up step <num>", Some(State::Vanished), 0, Some(4)),
            ("user <*> logged in", Some(State::Steady), 3, Some(3)),
        ]
    );
    assert_eq!((answer.total, answer.baseline_total), (44, Some(12)));
    assert_eq!(answer.patterns[2].sample.body, "warming up step 3");
    let only = PatternsRequest {
        states: vec![State::Vanished, State::New],
        ..compared
    };
    assert_eq!(ask(&lake, &only).await.patterns.len(), 2);
}

#[tokio::test]
async fn more_templates_than_are_held_are_counted_together_and_told() {
    let lake = Lake::new().await;
    let word = |number: usize| format!("{}{}", char::from(b'g' + (number / 20) as u8 % 20), char::from(b'g' + (number % 20) as u8));
    let texts: Vec<String> = (0..600).map(|number| format!("{} {}", word(number), word(number / 7))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    lake.head(vec![logs(&texts, T0, 1, 9, true)]);
    let answer = lake.engine.patterns(&request("*")).await.expect("an answer");
    assert!(!answer.coverage.complete && answer.truncated);
    let listed: u64 = answer.patterns.iter().map(|found| found.count).sum();
    assert_eq!((answer.total, listed + answer.other), (600, 600));
}
