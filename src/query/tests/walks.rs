//! Walks through traces whose spans go on coming between two pages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::query::xray::walk::LookedAt;
use crate::query::xray::{Expression, Walk};

/// A span as it comes.
#[derive(Clone, Debug)]
struct Come {
    trace: u8,
    /// Begins so many ten minutes after the first.
    time: i64,
    /// Before this page is asked for; 0 = before the walk.
    page: usize,
    /// The condition on its trace holds by it.
    is_marked: bool,
    /// A row in progress, which is replaced by a completed one before this page.
    replaced: Option<usize>,
    /// What another node may have numbered it.
    foreign_id: Option<u16>,
}

fn comes(replaced: bool, foreign: bool) -> impl Strategy<Value = Vec<Come>> {
    let come = (
        0..7u8,
        0..40i64,
        prop_oneof![3 => Just(0usize), 2 => 1..6usize],
        any::<bool>(),
        proptest::option::weighted(0.3, 1..6usize),
        proptest::option::weighted(0.5, 0..2_000u16),
    );
    let come = come.prop_map(move |(trace, time, page, is_marked, replaced_at, foreign_id)| Come {
        trace: trace + 1,
        time,
        page,
        is_marked,
        replaced: replaced_at.filter(|at| replaced && *at > page),
        foreign_id: foreign_id.filter(|_| foreign),
    });
    proptest::collection::vec(come, 1..40)
}

/// One row, as it stands when a page is asked for; `None` if it has not come.
fn row_of(number: usize, come: &Come, page: usize) -> Option<Rows> {
    if come.page > page {
        return None;
    }
    let is_replaced = come.replaced.is_some_and(|at| at <= page);
    let mut builder = SpansBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    let start = T0 + come.time * 600 * SECOND;
    builder.push(
        context,
        &SpanRecord {
            start_time_unix_nano: start,
            end_time_unix_nano: (come.replaced.is_none() || is_replaced).then_some(start + SECOND),
            trace_id: TraceId::from_bytes(&[come.trace; 16]).expect("not zero"),
            span_id: SpanId::from_bytes(&(number as u64 + 1).to_be_bytes()).expect("not zero"),
            parent_span_id: None,
            trace_state: None,
            trace_flags: None,
            name: if come.is_marked { "marked" } else { "plain" },
            kind: "INTERNAL",
            status_code: "UNSET",
            status_message: None,
            in_progress: come.replaced.is_some() && !is_replaced,
            dropped_attributes_count: 0,
        },
    );
    // our own are numbered as they come
    let since = if is_replaced { come.replaced.unwrap_or_default() } else { come.page };
    let own = ((since * 100 + number) * 10) as i64;
    let id = come.foreign_id.map_or(own, |id| i64::from(id) * 10 + 1 + number as i64 % 7);
    Some(builder.finish().expect("rows").with_ingest_ids(id))
}

/// Walks, each page from the token of the one before; returns how often each trace was told. Every third page ends early. What was told is forgotten
/// behind the page of this number, and all that follow.
async fn walk(comes: &[Come], asked: &Query, forgotten: Option<usize>) -> BTreeMap<TraceId, usize> {
    let lake = Lake::new().await;
    let in_block = |number: usize, come: &Come| number.is_multiple_of(2) && come.page == 0 && come.replaced.is_none();
    let numbered = || comes.iter().enumerate();
    let flushed: Vec<Rows> = numbered()
        .filter(|(number, come)| in_block(*number, come))
        .filter_map(|(number, come)| row_of(number, come, 0))
        .collect();
    if !flushed.is_empty() {
        lake.block_of(&flushed).await;
    }
    let filter = Expression::parse("").expect("an expression");
    let (mut told, mut token): (BTreeMap<TraceId, usize>, Option<String>) = (BTreeMap::new(), None);
    for number in 0..200 {
        let head = numbered().filter(|(row, come)| !in_block(*row, come));
        lake.head(head.filter_map(|(row, come)| row_of(row, come, number)).collect());
        let mut walk = match &token {
            None => Walk::begin(&lake.engine, &filter, asked, TimeRange::ALL).await.expect("a walk"),
            Some(token) => Walk::resume(&filter, asked, TimeRange::ALL, token).expect("a token of ours"),
        };
        let mut page = walk.page(&lake.engine, 2).await.expect("a page");
        let mut ids = Vec::new();
        while let Some(traces) = walk.read(&lake.engine, &mut page).await.expect("traces") {
            ids.extend(traces.iter().map(|trace| trace.trace_id));
        }
        let last = if number % 3 == 1 { ids.first().copied() } else { None };
        if last.is_some() {
            ids.truncate(1);
        }
        ids.into_iter().for_each(|id| *told.entry(id).or_insert(0) += 1);
        walk.go_behind(&lake.engine, &page, last);
        if forgotten.is_some_and(|from| number >= from) {
            lake.engine.told().forget_all();
        }
        token = walk.token();
        if token.is_none() {
            return told;
        }
    }
    panic!("the walk does not end");
}

/// Each trace that was there at first is told once, and no other twice.
fn check(comes: &[Come], forgotten: Option<usize>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let id = |come: &Come| TraceId::from_bytes(&[come.trace; 16]).expect("not zero");
    let there = |marked: bool| -> BTreeSet<TraceId> { comes.iter().filter(|come| come.page == 0 && (come.is_marked || !marked)).map(id).collect() };
    let by_condition = parse("trace:(name:marked)", Table::Spans).expect("a query");
    for (asked, marked) in [(Query::All, false), (by_condition, true)] {
        let told = runtime.block_on(walk(comes, &asked, forgotten));
        for id in there(marked) {
            prop_assert_eq!(told.get(&id), Some(&1), "trace {} of {}", id, asked);
        }
        prop_assert!(told.values().all(|times| *times == 1), "{}: {:?}", asked, told);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn each_trace_stands_on_one_page_whatever_comes_between_pages_and_from_whom(comes in comes(true, true)) {
        check(&comes, None)?;
    }

    #[test]
    fn what_is_forgotten_is_told_by_the_rows_of_one_node(comes in comes(false, false)) {
        check(&comes, Some(0))?;
    }

    #[test]
    fn a_walk_that_is_forgotten_on_its_way_tells_each_trace_once(comes in comes(false, false), page in 0..6usize) {
        check(&comes, Some(page))?;
    }
}

/// Of a day and more only those spans are gone through that begin or end in the time, or ended since: the others' traces are not read.
#[tokio::test]
async fn of_spans_that_began_before_a_time_only_those_are_gone_through_that_ended_since() {
    const HOUR: i64 = 3_600 * SECOND;
    // trace, start, duration (none: it goes on)
    let spans: Vec<(u8, i64, Option<i64>)> = (0..60)
        .map(|n| (1 + n, T0 - 20 * HOUR + i64::from(n) * SECOND, Some(SECOND)))
        .chain([
            (101, T0 - 20 * HOUR, Some(20 * HOUR)),
            (102, T0 - HOUR, Some(HOUR + 1)),
            (103, T0 - HOUR, Some(HOUR - 1_000)),
            (104, T0 + HOUR - 1, None),
            (105, T0 + 5, Some(9 * HOUR)),
            (106, T0 - HOUR, Some(9 * HOUR)),
            (107, T0 - HOUR, None),
            (108, T0 + HOUR, Some(1)),
        ])
        .collect();
    let mut builder = SpansBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    for (number, (trace, start, took)) in spans.iter().enumerate() {
        builder.push(
            context,
            &SpanRecord {
                start_time_unix_nano: *start,
                end_time_unix_nano: took.map(|took| start + took),
                trace_id: TraceId::from_bytes(&[*trace; 16]).expect("not zero"),
                span_id: SpanId::from_bytes(&(number as u64 + 1).to_be_bytes()).expect("not zero"),
                parent_span_id: None,
                trace_state: None,
                trace_flags: None,
                name: "work",
                kind: "SERVER",
                status_code: "UNSET",
                status_message: None,
                in_progress: took.is_none(),
                dropped_attributes_count: 0,
            },
        );
    }
    let rows = builder.finish().expect("rows").with_ingest_ids(1);
    let range = TimeRange::new(T0, T0 + HOUR);
    let filter = Expression::parse("").expect("an expression");
    for in_block in [false, true] {
        let lake = Lake::new().await;
        match in_block {
            true => drop(lake.block(&rows, true).await),
            false => lake.head(vec![rows.clone()]),
        }
        let all = TimeRange::new(T0 - 24 * HOUR, range.end_nanos);
        let mut told: Vec<BTreeSet<u8>> = Vec::new();
        let mut gone_through = Vec::new();
        for looked_at in [LookedAt::from(all), LookedAt::events(range)] {
            assert_eq!(looked_at.range, all);
            let mut walk = Walk::begin(&lake.engine, &filter, &Query::All, looked_at.clone()).await.expect("a walk");
            let (mut of_events, mut n_spans) = (BTreeSet::new(), 0);
            loop {
                let mut page = walk.page(&lake.engine, 10).await.expect("a page");
                n_spans += page.n_spans;
                while let Some(traces) = walk.read(&lake.engine, &mut page).await.expect("traces") {
                    let is_event = |span: &SpanHit| {
                        let start = span.start_time_unix_nano;
                        range.contains(start) || range.contains(start + span.duration_nano)
                    };
                    let has_event = |trace: &&Trace| trace.spans.iter().any(|placed| is_event(&placed.span));
                    of_events.extend(traces.iter().filter(has_event).map(|trace| trace.trace_id.as_bytes()[0]));
                }
                walk.go_behind(&lake.engine, &page, None);
                let Some(token) = walk.token() else { break };
                walk = Walk::resume(&filter, &Query::All, looked_at.clone(), &token).expect("a token of ours");
            }
            told.push(of_events);
            gone_through.push(n_spans);
        }
        assert_eq!(told[1], BTreeSet::from([101, 102, 104, 105]), "in a block: {in_block}");
        assert_eq!(told[0], told[1], "the same answers");
        assert_eq!(gone_through, [67, 5], "in a block: {in_block}");
    }
}
