//! Scripts of Insights QL and the questions that an index answers for them: no event that a filter keeps is left out, and what
//! the index counts is exact.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::query::insights::tests::{run, scripts_and_events};
use crate::query::insights::{Event, Limits, Script};

/// One row for each event, in the order of the table.
fn rows_of(events: &[Event]) -> Rows {
    let mut builder = LogsBuilder::default();
    for (number, event) in events.iter().enumerate() {
        let context = builder.context(
            ContextBuilder::new()
                .attribute("aws.log.group.names", Value::Str(&event.group))
                .attribute("aws.log.stream.names", Value::Str(&event.stream))
                .attribute("service.name", Value::Str("other"))
                .build(),
        );
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + number as i64 * SECOND,
                body: Some(&event.message),
                severity_number: 1,
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(0)
}

/// Numbers of the events that a script keeps.
fn kept(script: &Script, events: &[Event]) -> BTreeSet<String> {
    let is_kept = |event: &Event| run(script, std::slice::from_ref(event), Limits::default()).is_ok_and(|answer| answer.n_matched == 1);
    let kept = events.iter().enumerate().filter(|(_, event)| is_kept(event));
    kept.map(|(number, _)| number.to_string()).collect()
}

/// Values as JSON has them, and as a script may write most of them.
const VALUES: [&str; 24] = [
    "5",
    "-1.5",
    "0",
    "-0.0",
    "200.0",
    "1e3",
    "9007199254740993",
    "49590338271490256608559692538361571095921575989136588897",
    "true",
    "false",
    "\"5\"",
    "\"05\"",
    "\"-1\"",
    "\"200\"",
    "\"2026\"",
    "\"2026-11-22\"",
    "\"2026-12\"",
    "\"10.0.0.7\"",
    "\"v1.10\"",
    "\"1.10\"",
    "\"true\"",
    "\"x\"",
    "\"Warn\"",
    "\"a b\"",
];

/// Events with each value at the top, within, in a list, and as an event's whole message.
fn events_of_values() -> Vec<Event> {
    let messages = VALUES.iter().enumerate().flat_map(|(number, value)| {
        let other = VALUES[(number * 7 + 3) % VALUES.len()];
        [
            format!(r#"{{"a":{value},"b":{{"c":{other}}}}}"#),
            format!(r#"{{"a":[{value},{other}],"b":null}}"#),
            value.to_string(),
        ]
    });
    let event = |message: String| Event {
        message: message.into(),
        timestamp_millis: T0 / 1_000_000,
        group: "g".into(),
        stream: "s".into(),
        ..Event::default()
    };
    messages.map(event).collect()
}

fn condition() -> impl Strategy<Value = String> {
    let field = || proptest::sample::select(&["a", "b.c", "a.0", "b", "`a.1`", "@message"][..]);
    let value = || proptest::sample::select(&VALUES[..]);
    let compare = || proptest::sample::select(&["=", "!=", "<", "<=", ">", ">="][..]);
    let leaf = prop_oneof![
        6 => (field(), compare(), value()).prop_map(|(field, sign, value)| format!("{field} {sign} {value}")),
        2 => (field(), compare(), value()).prop_map(|(field, sign, value)| format!("{value} {sign} {field}")),
        1 => (field(), value(), value(), any::<bool>()).prop_map(|(field, a, b, not)| format!("{field} {}in [{a}, {b}]", if not { "not " } else { "" })),
        1 => (field(), proptest::sample::select(&["'5'", "/0/", "'W'", "/^2/", "'.'"][..]), any::<bool>())
            .prop_map(|(field, sought, not)| format!("{field} {}like {sought}", if not { "not " } else { "" })),
        1 => field().prop_map(|field| format!("ispresent({field})")),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

#[tokio::test]
async fn whatever_is_compared_with_whatever_passes_the_prefilter_where_it_is_kept() {
    let events = events_of_values();
    let rows = rows_of(&events);
    let (head, indexed) = (Lake::new().await, Lake::new().await);
    head.head(vec![rows.clone()]);
    indexed.block(&rows, true).await;
    let mut runner = TestRunner::default();
    for _ in 0..300 {
        let condition = condition().new_tree(&mut runner).expect("a condition").current();
        let text = format!("filter {condition}");
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let query = script.prefilter();
        let kept = kept(&script, &events);
        for lake in [&head, &indexed] {
            let found: BTreeSet<String> = lake.find_query(Table::Logs, query.clone()).await.into_iter().collect();
            assert!(kept.is_subset(&found), "{text}: {query} leaves out {:?}", kept.difference(&found));
        }
    }
}

#[tokio::test]
async fn every_event_that_a_script_keeps_passes_its_prefilter_in_head_and_index() {
    let (scripts, events) = scripts_and_events();
    let rows = rows_of(&events);
    let (head, indexed) = (Lake::new().await, Lake::new().await);
    head.head(vec![rows.clone()]);
    indexed.block(&rows, true).await;
    let mut n_narrowed = 0;
    for (text, script) in &scripts {
        // its sources are another matter, and so is what another script answers
        if !script.sources().is_empty() || !script.subscripts().is_empty() {
            continue;
        }
        let query = script.prefilter();
        let found: BTreeSet<String> = head.find_query(Table::Logs, query.clone()).await.into_iter().collect();
        let other: BTreeSet<String> = indexed.find_query(Table::Logs, query.clone()).await.into_iter().collect();
        assert_eq!(found, other, "{text}: {query}");
        n_narrowed += usize::from(found.len() < events.len());
        let kept = kept(script, &events);
        assert!(kept.is_subset(&found), "{text}: {query} leaves out {:?}", kept.difference(&found));
        if let Some(count) = script.index_count() {
            let counted: BTreeSet<String> = head.find_query(Table::Logs, count.query.clone()).await.into_iter().collect();
            assert_eq!(counted, kept, "{text}: {}", count.query);
        }
    }
    assert!(n_narrowed >= 50, "{n_narrowed} scripts ask for fewer than all");
}
