//! Spans deleted by a query: what was made of them follows, from the head and from blocks, with a new life in between.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Assembler, Config};
use super::SECOND;
use crate::block;
use crate::catalog::{Catalog, NodeId};
use crate::decode::{self, Context, Kind};
use crate::ingest::{self, DeleteRequest, Ingest, LogGroups, MaintainConfig, MaintainParts, Maintainer, NoRules, Received};
use crate::model::{ManualClock, Table, TimeRange, TraceId};
use crate::query::{Engine, SearchLanguage, SqlRequest};
use crate::storage::dated::DatedStore;
use crate::storage::{BucketStore, Cache, Store};
use crate::wal;

pub(super) const START: i64 = 1_795_323_600_000_000_000;

#[derive(Debug)]
struct NoLogGroups;

impl LogGroups for NoLogGroups {
    fn retention_days(&self) -> Vec<(String, u32)> {
        vec![]
    }
}

/// One process over a store.
pub(super) struct Life {
    pub(super) ingest: Ingest,
    pub(super) engine: Engine,
    assembler: Assembler,
    maintainer: Maintainer,
}

pub(super) struct World {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
}

impl World {
    pub(super) fn new() -> World {
        let clock = Arc::new(ManualClock::new(START + 60 * SECOND));
        World {
            folder: tempfile::tempdir().expect("a folder"),
            store: DatedStore::new(Arc::new(BucketStore::in_memory("")), clock.clone()),
            clock,
        }
    }

    pub(super) async fn live(&self) -> Life {
        self.live_with(crate::query::Config::default()).await
    }

    pub(super) async fn live_with(&self, query: crate::query::Config) -> Life {
        let (folder, store) = (self.folder.path(), self.store.clone());
        let node = NodeId::load_or_create(folder).expect("a node");
        let cache = Cache::open(store.clone(), &folder.join("cache"), 64 << 20).expect("a cache");
        let catalog = Arc::new(Catalog::open(store.clone(), node).await.expect("a catalog"));
        let parts = ingest::Parts {
            config: ingest::Config::default(),
            wal: wal::Config::default(),
            block: block::Settings::default(),
            data_dir: folder.to_path_buf(),
            store: store.clone(),
            cache: cache.clone(),
            catalog: catalog.clone(),
            finder: Arc::new(SearchLanguage),
            rules: Arc::new(NoRules),
            clock: self.clock.clone(),
        };
        let ingest = Ingest::open(parts).await.expect("opens");
        let engine = Engine::new(Arc::new(ingest.clone()), cache.clone(), query, self.clock.clone());
        let maintainer = Maintainer::new(MaintainParts {
            config: MaintainConfig::default(),
            retention: ingest::RetentionConfig::default(),
            log_groups: Arc::new(NoLogGroups),
            lake_visible_at_once: false,
            query_timeout: std::time::Duration::from_secs(30),
            report_timeout: std::time::Duration::from_secs(30),
            block: block::Settings::default(),
            catalog,
            store,
            cache,
            quarantine: ingest.quarantine().clone(),
            finder: Arc::new(SearchLanguage),
            losses: Arc::new(ingest.clone()),
            clock: self.clock.clone(),
        });
        let assembler = Assembler::over(Config::default(), engine.clone(), ingest.clone(), self.clock.clone());
        Life {
            ingest,
            engine,
            assembler,
            maintainer,
        }
    }
}

impl Life {
    /// Sends spans of a service each: trace, span, parent, kind, service, user.
    async fn send(&self, spans: &[(u8, u8, u8, u8, &str, &str)]) {
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let id = |n: u8, length: usize| format!("{n:0length$x}");
        let of_service = |(trace, span, parent, kind, service, user): &(u8, u8, u8, u8, &str, &str)| {
            let start = START + i64::from(*span) * SECOND;
            let mut record = json!({
                "traceId": id(*trace, 32), "spanId": id(*span, 16), "name": format!("op-{service}"), "kind": kind,
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + SECOND).to_string(),
                "attributes": [text("url.full", &format!("https://shop/{user}"))],
            });
            if *parent > 0 {
                record["parentSpanId"] = id(*parent, 16).into();
            }
            if !user.is_empty() {
                record["attributes"].as_array_mut().expect("a list").push(text("enduser.id", user));
            }
            json!({"resource": {"attributes": [text("service.name", service)]}, "scopeSpans": [{"spans": [record]}]})
        };
        self.send_json(&json!({"resourceSpans": spans.iter().map(of_service).collect::<Vec<_>>()}))
            .await;
    }

    /// Sends spans of OpenTelemetry.
    pub(super) async fn send_json(&self, body: &Value) {
        let body = body.to_string();
        let context = Context {
            received_at_nanos: self.ingest.clock().now_nanos(),
            retention_days: 0,
        };
        let decoded = decode::decode(Kind::OtlpTracesJson, body.as_bytes(), &context).expect("decodes");
        let accepted = self.ingest.accept(Received::plain(Kind::OtlpTracesJson, context, body), decoded).await;
        accepted.expect("taken");
    }

    async fn sql(&self, query: &str) -> Vec<Vec<Value>> {
        let request = SqlRequest {
            query: query.into(),
            limit: 1_000,
        };
        let answer = self.engine.sql(&request).await.expect("an answer");
        assert!(answer.coverage.complete, "{:?}", answer.coverage);
        answer.rows
    }

    /// Every row of `traces`: which, its revision, how many spans and users it tells of.
    async fn traces(&self) -> Vec<(String, i64, i64, String)> {
        let rows = self.sql("SELECT trace_id, revision, span_count, users FROM traces ORDER BY 1, 2").await;
        let short = |row: &Vec<Value>| {
            let id = row[0].as_str().expect("an ID").trim_start_matches('0').to_string();
            (id, row[1].as_i64().expect("a number"), row[2].as_i64().expect("a number"), row[3].to_string())
        };
        rows.iter().map(short).collect()
    }

    /// Requests by callee, without those that sum up to nothing.
    async fn edges(&self) -> Vec<String> {
        let rows = self
            .sql("SELECT coalesce(client_name, '-'), server_name, sum(requests) n FROM service_edges GROUP BY 1, 2 HAVING sum(requests) <> 0 ORDER BY 1, 2")
            .await;
        rows.iter()
            .map(|row| {
                format!(
                    "{}>{} {}",
                    row[0].as_str().unwrap_or_default(),
                    row[1].as_str().unwrap_or_default(),
                    row[2].as_str().unwrap_or_default()
                )
            })
            .collect()
    }

    async fn delete(&self, query: &str) {
        let request = DeleteRequest {
            table: Table::Spans,
            query: query.into(),
            range: TimeRange::ALL,
        };
        self.ingest.delete(&request).await.expect("taken");
    }
}

/// A trace of which a span is anna's, one that is all hers, and one of bob's.
const SPANS: [(u8, u8, u8, u8, &str, &str); 5] = [
    (1, 1, 0, 2, "web", "anna"),
    (1, 2, 1, 3, "web", ""),
    (1, 3, 2, 2, "pay", ""),
    (2, 4, 0, 2, "web", "anna"),
    (3, 5, 0, 2, "web", "bob"),
];

fn traces_of(rows: &[(String, i64, i64, String)]) -> Vec<(&str, i64, i64, &str)> {
    rows.iter()
        .map(|(id, revision, n, users)| (id.as_str(), *revision, *n, users.as_str()))
        .collect()
}

async fn summaries_follow(from_blocks: bool, in_new_lives: bool) {
    let world = World::new();
    let mut life = world.live().await;
    life.assembler.step(0).await.expect("begins");
    life.send(&SPANS).await;
    life.assembler.step(0).await.expect("assembles");
    let before = life.traces().await;
    assert_eq!(
        traces_of(&before),
        [("1", 1, 3, "[\"anna\"]"), ("2", 1, 1, "[\"anna\"]"), ("3", 1, 1, "[\"bob\"]")]
    );
    let edges_before = life.edges().await;
    if from_blocks {
        life.ingest.flush().await;
    }
    life.delete("enduser.id:anna").await;
    let renew = async |life: Life| {
        if !in_new_lives {
            return life;
        }
        drop(life);
        world.live().await
    };
    life = renew(life).await;
    life.ingest.flush().await;
    let report = life.maintainer.run_once().await;
    assert_eq!((report.problems, report.rows_erased > 0), (vec![], from_blocks));
    life = renew(life).await;
    // the spans are gone; what was made of them is corrected in the next step, and what told of them is deleted
    assert_eq!(
        life.sql("SELECT count(*) FROM spans WHERE attributes['enduser.id'] = 'anna'").await,
        [[json!("0")]]
    );
    let notes = life.ingest.states("erased/");
    assert_eq!((notes.len(), life.ingest.lost().len()), (1, 1));
    life.assembler.step(i64::MAX).await.expect("corrects");
    assert_eq!(life.ingest.lost(), []);
    life = renew(life).await;
    assert_eq!(life.ingest.lost(), []);
    // as if the process had died before it noted that it was done
    for (key, note) in notes {
        life.ingest.put_state(&key, Some(note)).await.expect("kept");
    }
    life.assembler.step(i64::MAX).await.expect("is done");
    life.ingest.flush().await;
    let report = life.maintainer.run_once().await;
    assert_eq!(report.problems, Vec::<String>::new());
    let after = life.traces().await;
    assert_eq!(traces_of(&after), [("1", 2, 2, "[]"), ("3", 1, 1, "[\"bob\"]")], "blocks: {from_blocks}");
    let texts = life.sql("SELECT http_url, users, annotations FROM traces").await;
    assert!(!format!("{texts:?}").contains("anna"), "{texts:?}");
    assert_eq!(life.ingest.lost(), []);
    // the edges are what the spans say that are left
    let edges = life.edges().await;
    assert_ne!(edges, edges_before);
    let afresh = World::new();
    let other = afresh.live().await;
    other.assembler.step(0).await.expect("begins");
    other.send(&[SPANS[1], SPANS[2], SPANS[4]]).await;
    other.assembler.step(0).await.expect("assembles");
    assert_eq!(edges, other.edges().await);
    // and a trace that goes on is one like any
    life.send(&[(2, 9, 0, 2, "web", "carl")]).await;
    life.assembler.step(0).await.expect("assembles");
    let now = life.traces().await;
    assert_eq!(traces_of(&now)[1], ("2", 1, 1, "[\"carl\"]"));
}

#[tokio::test]
async fn summaries_of_traces_follow_a_delete_of_spans_in_the_head() {
    summaries_follow(false, false).await;
}

#[tokio::test]
async fn summaries_of_traces_follow_a_delete_of_spans_in_blocks() {
    summaries_follow(true, false).await;
}

/// While so many deletes of summaries are under way that none is taken, nothing is read or written for those that follow.
#[tokio::test]
async fn summaries_wait_for_room_before_anything_is_read_for_them() {
    let world = World::new();
    let life = world.live().await;
    life.assembler.step(0).await.expect("begins");
    life.send(&SPANS).await;
    life.assembler.step(0).await.expect("assembles");
    life.ingest.flush().await;
    life.delete("enduser.id:anna").await;
    let report = life.maintainer.run_once().await;
    assert_eq!((report.problems, report.rows_erased > 0), (vec![], true));
    // no maintainer comes to them
    let mut n_ordered = 0;
    let another = TraceId::from_bytes(&[9; 16]).expect("an ID");
    while life.ingest.delete_old_traces(&[(another, 1)], TimeRange::ALL).await.is_ok() {
        n_ordered += 1;
    }
    assert!(n_ordered > 0);
    let before = life.traces().await;
    for _ in 0..2 {
        let waits = life.assembler.step(i64::MAX).await.expect_err("there is no room");
        assert!(waits.contains("deletes are under way"), "{waits}");
        assert_eq!((life.traces().await, life.ingest.lost().len()), (before.clone(), 1));
    }
    life.ingest.flush().await;
    assert_eq!(life.maintainer.run_once().await.problems, Vec::<String>::new());
    life.assembler.step(i64::MAX).await.expect("corrects");
    life.ingest.flush().await;
    life.maintainer.run_once().await;
    assert_eq!(traces_of(&life.traces().await), [("1", 2, 2, "[]"), ("3", 1, 1, "[\"bob\"]")]);
    assert_eq!(life.ingest.lost(), []);
}

#[tokio::test]
async fn summaries_of_traces_follow_a_delete_over_new_lives() {
    summaries_follow(false, true).await;
    summaries_follow(true, true).await;
}
