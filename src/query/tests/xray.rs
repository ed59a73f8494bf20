//! What filter expressions ask of the index, over the traces that they are tried on.

use std::collections::BTreeSet;

use super::*;
use crate::query::xray::TraceFacts;
use crate::query::xray::corpus::{corpus, table};

/// The spans of the traces as rows, their values typed as receivers type them.
fn rows() -> Rows {
    let mut builder = SpansBuilder::default();
    let with = |text: &str, use_it: &mut dyn FnMut(Value<'_>)| match (text, text.parse::<i64>()) {
        ("true" | "false", _) => use_it(Value::Bool(text == "true")),
        (_, Ok(whole)) => use_it(Value::Int(whole)),
        _ => use_it(Value::Str(text)),
    };
    for trace in corpus() {
        for placed in &trace.spans {
            let span = &placed.span;
            let mut context = ContextBuilder::new();
            for (key, value) in &span.resource_attributes {
                context.attribute(key, Value::Str(value));
            }
            let context = builder.context(context.build());
            for (key, value) in &span.attributes {
                with(value, &mut |value| builder.attribute(key, value));
            }
            for event in &span.events {
                for (key, value) in &event.attributes {
                    builder.event_attribute(key, Value::Str(value));
                }
                let name = event.name.as_deref().expect("a name");
                builder.event(&crate::model::SpanEvent {
                    time_unix_nano: event.time_unix_nano,
                    name,
                });
            }
            let known = |list: &[&'static str], word: &str| list.iter().find(|known| **known == word).copied().expect("a known word");
            builder.push(
                context,
                &SpanRecord {
                    start_time_unix_nano: span.start_time_unix_nano,
                    end_time_unix_nano: (!span.in_progress).then(|| span.start_time_unix_nano + span.duration_nano),
                    trace_id: trace.trace_id,
                    span_id: SpanId::from_hex(&span.span_id).expect("an ID"),
                    parent_span_id: span.parent_span_id.as_deref().and_then(SpanId::from_hex),
                    trace_state: None,
                    trace_flags: None,
                    name: &span.name,
                    kind: known(&crate::model::SPAN_KINDS, &span.kind),
                    status_code: known(&crate::model::STATUS_CODES, &span.status_code),
                    status_message: span.status_message.as_deref(),
                    in_progress: span.in_progress,
                    dropped_attributes_count: 0,
                },
            );
        }
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

#[tokio::test]
async fn of_every_trace_that_an_expression_lets_through_some_span_meets_each_need() {
    let lakes = [Lake::new().await, Lake::new().await, Lake::new().await];
    lakes[0].head(vec![rows()]);
    lakes[1].block(&rows(), true).await;
    lakes[2].block(&rows(), false).await;
    let traces = corpus();
    let facts: Vec<TraceFacts<'_>> = traces.iter().map(TraceFacts::of).collect();
    let (mut n_needs, mut n_narrow, mut wrong) = (0, 0, Vec::new());
    for (_, text, expression) in table() {
        let let_through: BTreeSet<TraceId> = facts.iter().filter(|facts| expression.holds(facts)).map(|facts| facts.trace.trace_id).collect();
        for (number, need) in expression.needs().iter().enumerate() {
            n_needs += 1;
            for (which, lake) in lakes.iter().enumerate() {
                let found = lake.engine.traces_of_spans(need, TimeRange::ALL, 1_000, None).await.expect("an answer");
                assert!(found.coverage.complete);
                let found: BTreeSet<TraceId> = found.spans.iter().map(|(_, id)| *id).collect();
                n_narrow += usize::from(which == 0 && found.len() < traces.len());
                if !let_through.is_subset(&found) {
                    wrong.push(format!(
                        "{text}: need {number}, {need}, in lake {which}: {} of {}",
                        found.len(),
                        let_through.len()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(n_needs >= 120 && n_narrow > n_needs * 3 / 4, "{n_narrow} of {n_needs}");
}

#[tokio::test]
async fn traces_of_spans_come_newest_first_page_by_page_from_head_and_blocks() {
    let lake = Lake::new().await;
    let all = rows();
    let half = all.len() / 2;
    let part = |from: usize, to: usize| {
        let numbers = arrow::array::UInt32Array::from_iter_values((from..to).map(|row| row as u32));
        all.take(&numbers).expect("rows")
    };
    lake.block(&part(0, half), true).await;
    lake.head(vec![part(half, all.len())]);
    let whole = lake.engine.traces_of_spans(&Query::All, TimeRange::ALL, 1_000, None).await.expect("an answer");
    assert_eq!((whole.spans.len(), whole.next_cursor), (all.len(), None));
    let places: Vec<_> = whole.spans.iter().map(|(place, _)| (place.time_unix_nano, place.ingest_id)).collect();
    assert!(places.is_sorted_by(|a, b| a > b));
    let (mut cursor, mut paged) = (None, Vec::new());
    loop {
        let page = lake.engine.traces_of_spans(&Query::All, TimeRange::ALL, 3, cursor).await.expect("a page");
        assert!(page.spans.len() <= 3);
        paged.extend(page.spans.iter().map(|(place, id)| (place.time_unix_nano, place.ingest_id, *id)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let whole: Vec<_> = whole.spans.iter().map(|(place, id)| (place.time_unix_nano, place.ingest_id, *id)).collect();
    assert_eq!(paged, whole);
}
