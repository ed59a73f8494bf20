//! What filter expressions ask of the index, over the traces that they are tried on.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::query::Trace;
use crate::query::xray::corpus::{self, SEGMENT, SUBSEGMENT, Span, corpus, spelled, table};
use crate::query::xray::facts::names;
use crate::query::xray::{Expression, TraceFacts, Walk};

/// The spans of the traces as rows, their values typed as receivers type them.
fn rows_of<'t>(traces: impl IntoIterator<Item = &'t Trace>) -> Rows {
    let mut builder = SpansBuilder::default();
    let with = |text: &str, use_it: &mut dyn FnMut(Value<'_>)| match (text, text.parse::<i64>()) {
        ("true" | "false", _) => use_it(Value::Bool(text == "true")),
        (_, Ok(whole)) => use_it(Value::Int(whole)),
        _ => use_it(Value::Str(text)),
    };
    for trace in traces {
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

fn rows() -> Rows {
    rows_of(&corpus())
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

/// The traces of which some span meets a need.
async fn meeting(lake: &Lake, need: &Query) -> BTreeSet<TraceId> {
    let found = lake.engine.traces_of_spans(need, TimeRange::ALL, 1_000, None).await.expect("an answer");
    assert!(found.coverage.complete && found.next_cursor.is_none());
    found.spans.iter().map(|(_, id)| *id).collect()
}

#[tokio::test]
async fn whoever_is_called_is_found_in_every_spelling() {
    let all = spelled();
    let of_callees: BTreeSet<&str> = names::CALLEES.concat().into_iter().collect();
    let spelled: BTreeSet<&str> = corpus::SPELLINGS
        .iter()
        .flat_map(|(_, attributes, _)| attributes.iter().map(|(key, _)| *key))
        .collect();
    assert_eq!(
        of_callees.difference(&spelled).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "each has a row in the corpus"
    );
    let lakes = [Lake::new().await, Lake::new().await, Lake::new().await];
    let rows = rows_of(all.iter().map(|(trace, _)| trace));
    lakes[0].head(vec![rows.clone()]);
    lakes[1].block(&rows, true).await;
    lakes[2].block(&rows, false).await;
    for (trace, called) in &all {
        let facts = TraceFacts::of(trace);
        let inferred = facts.segments.iter().find(|segment| segment.is_inferred).expect("who is called");
        assert_eq!(facts.service(inferred).name, *called);
        for text in [
            format!("service(\"{called}\")"),
            format!("edge(\"caller\", \"{called}\")"),
            format!("name = \"{called}\""),
        ] {
            let expression = Expression::parse(&text).expect("an expression");
            let expected: BTreeSet<TraceId> = all
                .iter()
                .filter(|(trace, _)| expression.holds(&TraceFacts::of(trace)))
                .map(|(trace, _)| trace.trace_id)
                .collect();
            assert!(expected.contains(&trace.trace_id) && expected.len() <= 3, "{text}: {}", expected.len());
            for lake in &lakes {
                for need in expression.needs() {
                    assert!(meeting(lake, &need).await.is_superset(&expected), "{text}: {need}");
                }
                // there are more spans than a page has: it is by a need that they are found
                let mut walk = Walk::begin(&lake.engine, &expression, &Query::All, TimeRange::ALL).await.expect("a walk");
                let mut told = BTreeSet::new();
                while !walk.is_over() {
                    let mut page = walk.page(&lake.engine, 10).await.expect("a page");
                    while let Some(traces) = walk.read(&lake.engine, &mut page).await.expect("traces") {
                        told.extend(
                            traces
                                .iter()
                                .filter(|trace| expression.holds(&TraceFacts::of(trace)))
                                .map(|trace| trace.trace_id),
                        );
                    }
                    walk.go_behind(&lake.engine, &page, None);
                }
                assert_eq!(told, expected, "{text}");
            }
        }
    }
}

const VALUES: [&str; 18] = [
    "a",
    "b",
    "a@b",
    "b@a@b",
    "x/a",
    "x/",
    "a*",
    "?",
    "dynamodb",
    "SQS",
    "aws-api",
    "aws",
    "404",
    "429",
    "503",
    "true",
    r#"["a"]"#,
    r#"["a","k-1"]"#,
];

/// What is drawn of a span: its kind, parent, service, marks of how it came, attributes, and whether it failed.
type Drawn = (
    &'static str,
    u64,
    &'static str,
    Option<(&'static str, &'static str)>,
    Vec<(&'static str, &'static str)>,
    bool,
);

/// A trace of random spans with any of the attributes that are looked at, of any of these values.
fn traces() -> impl Strategy<Value = Vec<Trace>> {
    let mut keys: Vec<&str> = names::CALLEES.concat();
    for names in [
        names::LOCAL,
        names::URL,
        names::METHOD,
        names::USER,
        names::STATUS,
        &[
            "aws.xray.error",
            "aws.xray.fault",
            "aws.xray.throttle",
            "rpc.system",
            "aws.xray.namespace",
            "k-1",
            "k_1",
            "k.1",
        ],
    ] {
        keys.extend(names);
    }
    let attribute = (proptest::sample::select(keys), proptest::sample::select(&VALUES[..]));
    let span = (
        proptest::sample::select(vec!["SERVER", "CLIENT", "INTERNAL", "PRODUCER", "CONSUMER"]),
        0..6u64,
        proptest::sample::select(vec!["a", "b", "c@d", "", "unknown_service:go"]),
        proptest::sample::select(vec![None, None, Some(SEGMENT), Some(SUBSEGMENT)]),
        proptest::collection::vec(attribute, 0..5),
        any::<bool>(),
    );
    let spans = proptest::collection::vec(span, 1..5);
    proptest::collection::vec(spans, 1..12).prop_map(|traces| {
        let span = |(id, (kind, parent, service, came_as, attributes, has_failed)): (u64, Drawn)| {
            let attributes: std::collections::BTreeMap<&str, &str> = attributes.into_iter().collect();
            let attributes: Vec<(&str, &str)> = attributes.into_iter().chain(came_as).collect();
            let listed = ("aws.xray.annotations", r#"["k-1","k_1","k.1"]"#);
            let span = Span::new(id, parent, VALUES[id as usize], kind, service, (id as i64, 5))
                .with(&attributes)
                .with(&[listed]);
            if has_failed { span.failed("no") } else { span }
        };
        let numbered = traces.into_iter().zip(1u8..);
        numbered
            .map(|(spans, number)| corpus::trace(number, (1u64..).zip(spans).map(span).collect()))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_need_excludes_no_trace_that_its_expression_lets_through(traces in traces()) {
        let facts: Vec<TraceFacts<'_>> = traces.iter().map(TraceFacts::of).collect();
        let mut asked: BTreeSet<String> = BTreeSet::new();
        for facts in &facts {
            for segment in &facts.segments {
                let name = &facts.service(segment).name;
                if name.contains('"') {
                    continue;
                }
                asked.extend([format!("service(\"{name}\")"), format!("name = \"{name}\""), format!("service(\"{name}\") {{ fault }}")]);
                if let Some(caller) = segment.caller {
                    asked.insert(format!("edge(\"{}\", \"{name}\")", facts.service(&facts.segments[caller]).name));
                }
            }
        }
        asked.retain(|text| Expression::parse(text).is_ok());
        let fixed = [
            "fault", "error", "throttle", "http.status = 404", "http.status >= 500", "user = \"a\"", "http.url CONTAINS \"a\"", "http.method BEGINSWITH \"a\"",
            "annotation.k_1 = \"a\"", "annotation[k-1] = \"a\"", "annotation.k.1 = \"a\"", "annotation.k_1 CONTAINS \"\"", "annotation.k_1 > 400", "rootcause.fault.service",
        ];
        asked.extend(fixed.map(str::to_string));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let wrong = runtime.block_on(async {
            let lake = Lake::new().await;
            lake.head(vec![rows_of(&traces)]);
            let mut wrong = Vec::new();
            for text in &asked {
                let expression = Expression::parse(text).expect("an expression");
                let let_through: BTreeSet<TraceId> = facts.iter().filter(|facts| expression.holds(facts)).map(|facts| facts.trace.trace_id).collect();
                if let_through.is_empty() {
                    continue;
                }
                for need in expression.needs() {
                    if !meeting(&lake, &need).await.is_superset(&let_through) {
                        wrong.push(format!("{text}: {need}"));
                    }
                }
            }
            wrong
        });
        prop_assert!(wrong.is_empty(), "{:#?}", wrong);
    }
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
