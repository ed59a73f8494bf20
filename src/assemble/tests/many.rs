//! Graphs and series that SQL sums up are those that the rows say, also of more services and operations than an answer has rows.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::super::rows;
use super::super::table::{Entity, graph_of_table, series_of_table};
use super::erased::{Life, START, World};
use super::*;
use crate::query::xray::expression::Id;
use crate::query::xray::facts::Service;

fn service(name: &str, kind: &str) -> Service {
    Service {
        name: name.into(),
        kind: kind.into(),
        account_id: String::new(),
    }
}

async fn write(life: &Life, calls: &Calls) {
    let rows: Vec<_> = calls.rows().collect();
    for some in rows.chunks(20_000) {
        let mut part = Calls::default();
        some.iter().for_each(|(key, figures)| part.add_row((*key).clone(), **figures));
        life.ingest
            .accept_derived(vec![rows::service_edges(&part).expect("rows")])
            .await
            .expect("taken");
    }
}

fn figures(requests: i64, rng: &mut StdRng) -> Figures {
    let mut some = || rng.random_range(0..=requests);
    Figures {
        requests,
        errors: some(),
        faults: some(),
        throttles: some(),
        caller_errors: some(),
        caller_faults: some(),
        caller_throttles: some(),
        caller_nanos: some() * SECOND,
        callee_nanos: some() * SECOND,
    }
}

/// All that is told of a graph, times too.
fn told(graph: &ServiceGraph, with_operations: bool) -> Value {
    let mut out = graph.to_json(60.0);
    let times = |first: i64, end: i64| format!("{first} {end}");
    out["node_times"] = graph.nodes.iter().map(|node| times(node.first_nanos, node.end_nanos)).collect();
    out["edge_times"] = graph.edges.iter().map(|edge| times(edge.first_nanos, edge.end_nanos)).collect();
    if with_operations {
        out["services"] = graph.services_json(60.0);
    }
    out
}

#[tokio::test]
async fn what_sql_sums_up_is_what_the_rows_say() {
    let world = World::new();
    let life = world.live().await;
    let mut rng = StdRng::seed_from_u64(7);
    let minute = minute_of(START);
    let names = [
        service("web", ""),
        service("web", CLIENT),
        service("it's", "remote"),
        service("pay", ""),
        service("orders", "AWS::DynamoDB::Table"),
    ];
    let (mut calls, mut wrong) = (Calls::default(), Calls::default());
    for number in 0..400 {
        let class = |rng: &mut StdRng| rng.random_bool(0.7).then(|| rng.random_range(-3..4));
        let key = CallKey {
            minute_nanos: minute + rng.random_range(0..10) * MINUTE_NANOS,
            client: rng.random_bool(0.8).then(|| names.choose(&mut rng).expect("some").clone()),
            server: names.choose(&mut rng).expect("some").clone(),
            operation: format!("op-{}", rng.random_range(0..4)),
            caller_class: class(&mut rng),
            callee_class: class(&mut rng),
        };
        let sums = figures(rng.random_range(1..5), &mut rng);
        // every third is taken back later
        match number % 3 {
            0 => wrong.add_row(key, sums),
            _ => calls.add_row(key, sums),
        }
    }
    // a service and minutes of which nothing is left
    for at in [0, 11] {
        let key = CallKey {
            minute_nanos: minute + at * MINUTE_NANOS,
            server: service("gone", ""),
            ..CallKey::default()
        };
        wrong.add_row(key, figures(3, &mut rng));
    }
    let mut all = calls.clone();
    all.add(&wrong);
    write(&life, &all).await;
    write(&life, &calls.since(&all)).await;
    let range = TimeRange::new(minute, minute + 20 * MINUTE_NANOS);
    for flushed in [false, true] {
        if flushed {
            life.ingest.flush().await;
        }
        let (graph, coverage) = graph_of_table(&life.engine, range, true).await.expect("an answer").expect("a graph");
        assert!(coverage.complete);
        assert_eq!(told(&graph, true), told(&ServiceGraph::of(&calls), true), "flushed: {flushed}");
        let id = |name: &str, kind: Option<&str>| Id {
            name: Some(name.into()),
            kind: kind.map(str::to_string),
            account_id: None,
        };
        let edge = Entity::Edge(id("it's", None), id("pay", Some("")));
        for entity in [
            Entity::Entries,
            Entity::Service(id("web", None)),
            Entity::Service(id("web", Some(CLIENT))),
            edge,
        ] {
            for minutes in [1, 3, 60] {
                let period = minutes * MINUTE_NANOS;
                let (series, _) = series_of_table(&life.engine, range, period, &entity)
                    .await
                    .expect("an answer")
                    .expect("a series");
                let expected = entity.series_of(&calls, period);
                assert!(!expected.is_empty());
                assert_eq!(series, expected, "{entity:?} by {minutes}");
            }
        }
    }
}

#[tokio::test]
async fn two_hundred_services_with_fifty_operations_each_have_a_graph() {
    let world = World::new();
    let life = world.live().await;
    let minute = minute_of(START);
    let mut calls = Calls::default();
    for server in 0..200 {
        for operation in 0..50 {
            // 120,000 rows, more than an answer of SQL has
            for at in 0..12 {
                let key = CallKey {
                    minute_nanos: minute + at % 3 * MINUTE_NANOS,
                    client: Some(service(&format!("s{}", (server + 1) % 200), "")),
                    server: service(&format!("s{server}"), ""),
                    operation: format!("GET /orders/{server}/{operation}"),
                    caller_class: Some(at as i32 / 3),
                    callee_class: Some(at as i32 / 6),
                };
                let sums = Figures {
                    requests: 1 + operation,
                    ..Figures::default()
                };
                calls.add_row(key, sums);
            }
        }
    }
    assert!(calls.rows().len() > life.engine.config().max_sql_rows);
    write(&life, &calls).await;
    let range = TimeRange::new(minute, minute + 3 * MINUTE_NANOS);
    let (graph, _) = graph_of_table(&life.engine, range, true).await.expect("an answer").expect("a graph");
    assert_eq!((graph.nodes.len(), graph.edges.len()), (200, 200));
    assert_eq!(told(&graph, true), told(&ServiceGraph::of(&calls), true));
}

#[tokio::test]
async fn of_more_operations_than_there_is_room_for_the_smallest_are_one() {
    let config = crate::query::Config {
        max_sql_rows: 20,
        ..crate::query::Config::default()
    };
    let world = World::new();
    let life = world.live_with(config).await;
    let minute = minute_of(START);
    let mut calls = Calls::default();
    for number in 0..50 {
        let key = CallKey {
            minute_nanos: minute,
            server: service("web", ""),
            operation: format!("GET /orders/{number:02}"),
            callee_class: Some(number % 3),
            ..CallKey::default()
        };
        let sums = Figures {
            requests: 1 + i64::from(number),
            faults: 1,
            callee_nanos: SECOND,
            ..Figures::default()
        };
        calls.add_row(key, sums);
    }
    write(&life, &calls).await;
    let range = TimeRange::new(minute, minute + MINUTE_NANOS);
    let (graph, _) = graph_of_table(&life.engine, range, true).await.expect("an answer").expect("a graph");
    let node = &graph.nodes[0];
    let names: Vec<&str> = node.operations.keys().map(String::as_str).collect();
    assert_eq!(
        (names.len(), names[0], names[1], names[10]),
        (11, "(others)", "GET /orders/40", "GET /orders/49")
    );
    let mut sum = Statistics::default();
    node.operations.values().for_each(|one| sum.merge(one));
    assert_eq!((sum.requests, &sum), (1_275, &node.statistics));
}
