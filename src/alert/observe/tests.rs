use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;

use super::super::evaluate::{Outcome, judge, window};
use super::super::rule;
use super::super::testing::FakeEngine;
use super::*;
use crate::model::{ContextBuilder, MetricsBuilder, Point, PointKind, SeriesKey, Value as Attribute};

const SECOND: i64 = 1_000_000_000;

fn rule_of(text: &str) -> Rule {
    rule::parse("r.yaml", &format!("name: r\ntimeframe: 1m\n{text}"), &|_, _| Ok(())).expect("a rule")
}

fn group(service: &str) -> Group {
    vec![("service".into(), service.into())]
}

#[tokio::test]
async fn rows_are_counted_by_group_and_known_groups_count_zero() {
    let engine = FakeEngine::default();
    engine.rows("payment", &[100, 110, 119, 120]);
    engine.rows("cart", &[10, 100]);
    let rule = rule_of("type: frequency\nquery: x\nnum_events: 1\nquery_key: service\n");
    let known = [group("email"), vec![("host".into(), "h".into())]];
    let observed = observe(&engine, &rule, &window(&rule, 120 * SECOND, std::time::Duration::ZERO), &known)
        .await
        .expect("an answer");
    let counts: Vec<(&str, Option<f64>)> = observed.groups.iter().map(|(group, seen)| (group[0].1.as_str(), seen.current)).collect();
    assert_eq!(counts, [("cart", Some(1.0)), ("email", Some(0.0)), ("payment", Some(3.0))]);
}

#[tokio::test]
async fn a_pattern_is_one_alert_however_general_it_becomes() {
    let engine = FakeEngine::default();
    engine.rows("api", &[-7_200]);
    let rule = rule_of("type: pattern\nquery: x\nstates: [new, vanished]\ncompare_with: 1h\nnum_events: 2\n");
    let at = window(&rule, 120 * SECOND, std::time::Duration::ZERO);
    assert_eq!(
        (at.reference.end_nanos - at.reference.start_nanos, at.reference.end_nanos),
        (3_600 * SECOND, 60 * SECOND)
    );
    let found = |listed: &[(&[i64], &str, u64, u64)]| {
        let pattern = |(ids, template, count, before): &(&[i64], &str, u64, u64)| PatternCount {
            ids: ids.to_vec(),
            template: (*template).into(),
            count: *count,
            before: *before,
        };
        engine.patterns.lock().patterns = listed.iter().map(pattern).collect();
    };
    let outcomes = async |known: &[Group]| {
        let observed = observe(&engine, &rule, &at, known).await.expect("an answer");
        let one = |(group, seen): (&Group, &Observation)| (group.clone(), judge(&rule, seen));
        observed.groups.iter().map(one).collect::<Vec<_>>()
    };
    found(&[(&[5], "user alice logged in", 1, 0), (&[-6], "disk full", 2, 0), (&[7], "started", 0, 4)]);
    let first = outcomes(&[]).await;
    assert_eq!(first.len(), 2, "one row is too few: {first:?}");
    assert!(first.iter().all(|(_, verdict)| verdict.outcome == Outcome::Met));
    let (disk, verdict) = first.iter().find(|(group, _)| group[1].1 == "disk full").expect("a pattern");
    assert_eq!(verdict.text, "2 matching log records in 1m, 0 in the 1h before");
    assert_eq!(group_query("x", disk), "(x) AND pattern_id:\"-6\"");
    // more rows make it more general; what is gone is over
    found(&[(&[9, -6], "disk <*> full", 5, 0)]);
    let known: Vec<Group> = first.iter().map(|(group, _)| group.clone()).collect();
    let then = outcomes(&known).await;
    let outcome = |group: &Group| then.iter().find(|(known, _)| known == group).map(|(_, verdict)| verdict.outcome);
    assert_eq!((then.len(), outcome(disk)), (2, Some(Outcome::Met)));
    assert_eq!(outcome(known.iter().find(|group| *group != disk).expect("another")), Some(Outcome::NotMet));
    let general = &outcomes(&[]).await[0].0;
    assert_eq!(group_query("", general), "(pattern_id:\"9\" OR pattern_id:\"-6\")");
    // of a part of the rows nothing is certain, and of a table that begins too late everything would be new
    *engine.incomplete.lock() = true;
    assert!(outcomes(&known).await.iter().all(|(_, verdict)| verdict.outcome == Outcome::Unknown));
    *engine.incomplete.lock() = false;
    let young = FakeEngine::default();
    young.patterns.lock().patterns = engine.patterns.lock().patterns.clone();
    let observed = observe(&young, &rule, &at, &[]).await.expect("an answer");
    let verdict = judge(&rule, observed.groups.values().next().expect("a pattern"));
    assert!(
        verdict.outcome == Outcome::NotMet && verdict.text.contains("before the data does"),
        "{}",
        verdict.text
    );
}

#[tokio::test]
async fn spikes_see_both_windows_and_groups_that_fell_silent() {
    let engine = FakeEngine::default();
    engine.rows("payment", &[1, 10, 20, 30]);
    engine.rows("cart", &[70, 80]);
    let rule = rule_of("type: spike\nquery: x\nspike_height: 2\nspike_type: both\nquery_key: service\n");
    let observed = observe(&engine, &rule, &window(&rule, 120 * SECOND, std::time::Duration::ZERO), &[])
        .await
        .expect("an answer");
    let seen = |service: &str| observed.groups[&group(service)];
    assert_eq!((seen("payment").current, seen("payment").reference), (Some(0.0), Some(4.0)));
    assert_eq!((seen("cart").current, seen("cart").reference), (Some(2.0), Some(0.0)));
    assert!(!seen("cart").reference_filled, "no row is older than the earlier window");
    engine.rows("frontend", &[-50]);
    let observed = observe(&engine, &rule, &window(&rule, 120 * SECOND, std::time::Duration::ZERO), &[])
        .await
        .expect("an answer");
    assert!(observed.groups[&group("cart")].reference_filled);
}

#[tokio::test]
async fn without_groups_there_is_always_one_observation() {
    let engine = FakeEngine::default();
    let rule = rule_of("type: threshold\nquery: x\nbelow: 1\n");
    let observed = observe(&engine, &rule, &window(&rule, 120 * SECOND, std::time::Duration::ZERO), &[])
        .await
        .expect("an answer");
    assert_eq!(observed.groups[&Group::new()].current, Some(0.0));
}

#[test]
fn a_group_narrows_the_query() {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Group>();
    assert_eq!(group_query("a OR b", &pairs(&[])), "a OR b");
    assert_eq!(group_query("a OR b", &pairs(&[("service", "p\"q\\")])), "(a OR b) AND service:\"p\\\"q\\\\\"");
    assert_eq!(group_query("*", &pairs(&[("service", ""), ("host", "h")])), "NOT service:* AND host:\"h\"");
    assert_eq!(group_query(" ", &[]), "*");
}

/// Three series of one gauge over ten minutes in a real DataFusion.
async fn metrics() -> SessionContext {
    let mut builder = MetricsBuilder::default();
    let key = |name: &'static str| SeriesKey {
        name,
        metric_type: "gauge",
        unit: "",
        description: "",
        temporality: None,
        is_monotonic: None,
    };
    for (service, queue, base) in [("payment", "it's", 100.0), ("payment", "b", 10.0), ("cart", "b", 1.0)] {
        let context = ContextBuilder::new()
            .attribute("service.name", Attribute::Str(service))
            .attribute("host.name", Attribute::Str("h1"))
            .build();
        for step in 0..10i64 {
            builder.attribute("queue", Attribute::Str(queue));
            builder.series(&context, &key("queue.depth"), step * 60 * SECOND);
            let kind = if queue == "b" {
                PointKind::Int(base as i64 + step)
            } else {
                PointKind::Double(base + step as f64)
            };
            builder.point(&Point {
                time_unix_nano: step * 60 * SECOND,
                start_time_unix_nano: None,
                flags: 0,
                kind,
            });
        }
    }
    let session = SessionContext::new();
    for rows in builder.finish().expect("rows") {
        let batch = rows.to_batch(None).expect("stored");
        // twice in parts, as blocks are
        let half = batch.num_rows() / 2;
        let parts = vec![vec![batch.slice(0, half)], vec![batch.slice(half, batch.num_rows() - half)]];
        let table = MemTable::try_new(batch.schema(), parts).expect("a table");
        session.register_table(rows.table().name(), Arc::new(table)).expect("registered");
    }
    session
}

async fn ask(session: &SessionContext, aggregation: Aggregation, filter: &[(&str, &str)], group_by: &[&str]) -> Vec<(String, Option<f64>)> {
    let filter: Vec<(String, String)> = filter.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let group_by: Vec<String> = group_by.iter().map(|field| field.to_string()).collect();
    let range = TimeRange::new(120 * SECOND, 300 * SECOND);
    let statement = metric_statement("queue.depth", aggregation, &filter, &group_by, range);
    let batches = session
        .sql(&statement)
        .await
        .unwrap_or_else(|e| panic!("{statement}: {e}"))
        .collect()
        .await
        .expect("rows");
    let mut out = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let keys: Vec<String> = (0..group_by.len())
                .map(|i| {
                    let column = arrow::compute::cast(batch.column(i), &arrow::datatypes::DataType::Utf8).expect("text");
                    column.as_string::<i32>().value(row).to_string()
                })
                .collect();
            let values = batch.column(group_by.len()).as_primitive::<Float64Type>();
            out.push((keys.join("/"), values.is_valid(row).then(|| values.value(row))));
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

#[tokio::test]
async fn metric_statements_aggregate_filter_and_group() {
    let session = metrics().await;
    let one = |value: f64| vec![(String::new(), Some(value))];
    let quoted = [("queue", "it's")];
    assert_eq!(ask(&session, Aggregation::Avg, &quoted, &[]).await, one(103.0));
    assert_eq!(ask(&session, Aggregation::Sum, &quoted, &[]).await, one(309.0));
    assert_eq!(ask(&session, Aggregation::Min, &quoted, &[]).await, one(102.0));
    assert_eq!(ask(&session, Aggregation::Last, &quoted, &[]).await, one(104.0));
    assert_eq!(ask(&session, Aggregation::Max, &[], &[]).await, one(104.0));
    assert_eq!(
        ask(&session, Aggregation::Count, &[("service", "payment"), ("host.name", "h1")], &[]).await,
        one(6.0)
    );
    assert_eq!(ask(&session, Aggregation::Count, &[("queue", "no such")], &[]).await, one(0.0));
    assert_eq!(ask(&session, Aggregation::Max, &[("queue", "no such")], &[]).await, vec![(String::new(), None)]);
    let by_both = ask(&session, Aggregation::Last, &[], &["service", "queue"]).await;
    assert_eq!(
        by_both,
        [
            ("cart/b".into(), Some(5.0)),
            ("payment/b".into(), Some(14.0)),
            ("payment/it's".into(), Some(104.0))
        ]
    );
    assert_eq!(
        ask(&session, Aggregation::Max, &[("queue", "x' OR '1'='1")], &[]).await,
        vec![(String::new(), None)]
    );
}
