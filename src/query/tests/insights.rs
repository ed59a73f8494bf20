//! Scripts of Insights QL and the questions that an index answers for them: no event that a filter keeps is left out, and what
//! the index counts is exact.

use std::collections::BTreeSet;

use super::*;
use crate::query::insights::tests::{run, scripts_and_events};
use crate::query::insights::{Event, Limits};

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
        let kept: BTreeSet<String> = events
            .iter()
            .enumerate()
            .filter(|(_, event)| run(script, std::slice::from_ref(*event), Limits::default()).is_ok_and(|answer| answer.n_matched == 1))
            .map(|(number, _)| number.to_string())
            .collect();
        assert!(kept.is_subset(&found), "{text}: {query} leaves out {:?}", kept.difference(&found));
        if let Some(count) = script.index_count() {
            let counted: BTreeSet<String> = head.find_query(Table::Logs, count.query.clone()).await.into_iter().collect();
            assert_eq!(counted, kept, "{text}: {}", count.query);
        }
    }
    assert!(n_narrowed >= 50, "{n_narrowed} scripts ask for fewer than all");
}
