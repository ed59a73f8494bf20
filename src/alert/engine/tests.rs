//! The example rules, over the simulated shop, on the real engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use tokio::sync::broadcast;

use super::super::book::{Book, Parts};
use super::super::notify::LocalChannel;
use super::super::rows::NoSink;
use super::super::rule;
use super::super::state::MemoryStore;
use super::super::{Options, evaluate, observe};
use super::*;
use crate::catalog::Snapshot;
use crate::decode::{Context, Kind, decode};
use crate::generate::shop::{self, Shop, Telemetry};
use crate::ingest::{Source, View};
use crate::model::{Batch, Clock, ManualClock, Rows};
use crate::storage::{Cache, LocalStore};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_795_000_000 * SECOND;

/// Rows that no block covers.
#[derive(Debug)]
struct Head(Arc<[Rows]>);

impl Source for Head {
    fn view(&self) -> View {
        View {
            head: self.0.clone(),
            snapshot: Arc::new(Snapshot::default()),
            lost: Arc::default(),
        }
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        broadcast::channel(1).1
    }
}

/// All rows of the shop's telemetry, as the write path makes them.
fn head_of(parts: &[Telemetry]) -> Arc<[Rows]> {
    let context = Context {
        received_at_nanos: START,
        retention_days: 0,
    };
    let mut bodies: Vec<(Kind, Vec<u8>)> = Vec::new();
    for part in parts {
        bodies.extend(part.logs.iter().map(|request| (Kind::OtlpLogs, request.encode_to_vec())));
        bodies.extend(part.traces.iter().map(|request| (Kind::OtlpTraces, request.encode_to_vec())));
        bodies.extend(part.metrics.iter().map(|request| (Kind::OtlpMetrics, request.encode_to_vec())));
        for ((group, stream), events) in &part.events {
            let events: Vec<_> = events.iter().map(|(t, m)| serde_json::json!({"timestamp": t, "message": m})).collect();
            let body = serde_json::json!({"logGroupName": group, "logStreamName": stream, "logEvents": events});
            bodies.push((Kind::PutLogEvents, body.to_string().into_bytes()));
        }
        bodies.push((Kind::XraySegments, serde_json::to_vec(&part.segments).expect("JSON")));
    }
    let mut by_table: BTreeMap<Table, Vec<Rows>> = BTreeMap::new();
    for (kind, body) in bodies {
        let batch = crate::correlate::correlate(decode(kind, &body, &context).expect("decodes").batch);
        for rows in batch.rows {
            by_table.entry(rows.table()).or_default().push(rows);
        }
    }
    let mut next = 1;
    let mut head = Vec::new();
    for (table, parts) in by_table {
        let rows = Rows::concat(table, &parts).expect("rows");
        head.push(rows.with_ingest_ids(next));
        next += rows.len() as i64;
    }
    head.into()
}

#[tokio::test]
async fn the_example_rules_fire_in_the_shops_incident_and_not_before() {
    let mut shop = Shop::new(shop::Options::default(), START);
    let parts: Vec<Telemetry> = (1..=150).step_by(5).map(|second| shop.advance(START + (second + 4) * SECOND)).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(LocalStore::open(&folder.path().join("store")).expect("a store"));
    let cache = Cache::open(store, &folder.path().join("cache"), 1 << 20).expect("a cache");
    let clock = Arc::new(ManualClock::new(START));
    let engine = Engine::new(Arc::new(Head(head_of(&parts))), cache, query::Config::default(), clock.clone());

    let rules_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules");
    let (rules, mistakes) = rule::load(&rules_folder, &check_query);
    assert_eq!(mistakes, []);
    let book = Book::new(
        Options::default(),
        rules.clone(),
        Parts {
            questions: Arc::new(engine.clone()),
            store: Arc::new(MemoryStore::default()),
            sink: Arc::new(NoSink),
            channels: vec![Arc::new(LocalChannel)],
            clock: clock.clone(),
            duty: crate::alert::testing::on_duty(),
        },
    );
    let firing = || -> Vec<String> {
        let firing = book.alerts().into_iter().filter(|alert| alert.state == evaluate::State::Firing);
        let mut names: Vec<String> = firing.map(|alert| format!("{} {}", alert.rule, alert.group_key)).collect();
        names.sort();
        names
    };
    let mut seen = Vec::new();
    for second in [30, 60, 75, 90, 125, 150] {
        clock.set(START + second * SECOND);
        for (number, _) in book.enabled_rules() {
            book.evaluate(number).await;
        }
        for rule in book.rules() {
            assert_eq!(rule.error, None, "{} at {second}", rule.name);
        }
        seen.push((second, firing()));
    }
    assert_eq!(seen[0].1, Vec::<String>::new(), "{seen:?}");
    assert_eq!(seen[1].1, Vec::<String>::new(), "{seen:?}");
    assert_eq!(seen[2].1, ["payment-errors service=payment"], "{seen:?}");
    let last = &seen[5].1;
    for name in ["checkout-latency ", "payment-errors service=payment", "queue-depth queue=orders"] {
        assert!(last.iter().any(|firing| firing == name), "{name:?} in {seen:?}");
    }
    let payment = book.alerts().into_iter().find(|alert| alert.rule == "payment-errors").expect("an alert");
    assert_eq!(payment.samples.len(), 5);
    assert!(payment.samples.iter().all(|row| row["service_name"] == "payment" && row["severity"] == "ERROR"));
    assert!(payment.trace_link.is_some());

    // the link shows what was counted
    let at_75 = evaluate::window(&rules[2], START + 75 * SECOND, std::time::Duration::ZERO);
    let counted = observe::observe(&engine, &rules[2], &at_75, &[]).await.expect("an answer");
    let (group, seen) = counted.groups.iter().next().expect("a group");
    let query = observe::group_query("severity>=ERROR service:payment", group);
    let linked = Questions::count_by(&engine, Table::Logs, &query, at_75.current, &[], 1)
        .await
        .expect("an answer");
    assert_eq!(Some(linked.groups[0].1), seen.current);
    assert_eq!(clock.now_nanos(), START + 150 * SECOND);
}
