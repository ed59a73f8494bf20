//! What the server is doing, and where every record ended.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde_json::{Map, Value, json};

use super::lost_frames;
use crate::block::Level;
use crate::catalog::{Away, Gone, Snapshot};
use crate::ingest::{self, NodeStatus, Outcomes, Source};
use crate::model::Table;
use crate::serve::{Health, Server};

pub(super) async fn status(State(server): State<Arc<Server>>) -> Json<Value> {
    let ingest = server.ingest.status();
    let Health { problems, is_store_reachable } = server.health().await;
    let snapshot = server.ingest.view().snapshot;
    let mut blocks = Map::new();
    for table in Table::ALL {
        let of_table = snapshot.blocks(table);
        if !of_table.is_empty() {
            let bytes: u64 = of_table.iter().map(|block| block.parquet_bytes + block.index_bytes).sum();
            let rows: u64 = of_table.iter().map(|block| block.n_visible_rows()).sum();
            let sealed = of_table.iter().filter(|block| block.level == Level::Sealed).count();
            blocks.insert(
                table.name().into(),
                json!({ "blocks": of_table.len(), "sealed_blocks": sealed, "rows": rows, "bytes": bytes }),
            );
        }
    }
    let nodes = server.ingest.nodes();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_unix_nano": server.started_nanos.to_string(),
        "ready": problems.is_empty(),
        "problems": problems,
        "wal": ingest.wal,
        "flushed_lsn": ingest.flushed_lsn,
        "replay": ingest.replay,
        "lost_frames": server.ingest.lost_frames().iter().map(|lost| lost_frames::one(lost, server.ingest.catalog().node())).collect::<Vec<Value>>(),
        "head": { "rows": ingest.head_rows, "bytes": ingest.head_bytes },
        "store": { "url": server.store.url(), "reachable": is_store_reachable, "blocks": blocks, "catalog_seq": snapshot.seq() },
        "lake": lake(&snapshot),
        "damaged_blocks": server.ingest.quarantine().blocks(),
        "counts_are_durable": ingest.counts_are_durable,
        "receivers": outcomes(server.ingest.ledger().sums()),
        "sources": server.ingest.progress(),
        "node": server.ingest.catalog().node(),
        "nodes": nodes.iter().map(node).collect::<Vec<Value>>(),
        "ledger": outcomes(ingest::add_up(nodes.into_iter().map(|node| node.sums))),
        "gone": gone(&snapshot),
        "assembled": server.graphs.report(),
        "deliveries": server.deliveries.reports(),
        "collect": server.collecting.sources(),
        "background": server.supervisor.works(),
    }))
}

fn outcomes(sums: Vec<(String, String, Outcomes)>) -> Vec<Value> {
    let entry = |(receiver, signal, outcomes): (String, String, Outcomes)| {
        let mut entry = json!({ "receiver": receiver, "signal": signal });
        if let (Value::Object(entry), Ok(Value::Object(outcomes))) = (&mut entry, serde_json::to_value(outcomes)) {
            entry.extend(outcomes);
        }
        entry
    };
    sums.into_iter().map(entry).collect()
}

fn node(node: &NodeStatus) -> Value {
    json!({
        "node": node.node,
        "is_this": node.is_this,
        "is_alive": node.is_alive,
        "leads": node.leads,
        "away": match node.away {
            None => Value::Null,
            Some(Away::Left { .. }) => "left".into(),
            Some(Away::GivenUp { .. }) => "forgotten".into(),
        },
        "receivers": outcomes(node.sums.clone()),
    })
}

/// Rows that were accepted and are no more, by table: with those in blocks and head they add up to what was accepted.
fn gone(snapshot: &Snapshot) -> Value {
    let of_table = |(table, gone): (&Table, &Gone)| (table.name().to_string(), json!(gone));
    Value::Object(snapshot.gone().iter().map(of_table).collect())
}

/// How fresh what foreign readers see is: blocks that wait to be sealed into the lake, and how far it reaches.
fn lake(snapshot: &Snapshot) -> Value {
    let (sealed, waiting): (Vec<_>, Vec<_>) = snapshot.all_blocks().partition(|block| block.level == Level::Sealed);
    let nanos = |time: Option<i64>| time.map(|time| time.to_string());
    json!({
        "waiting_blocks": waiting.len(),
        "oldest_waiting_unix_nano": nanos(waiting.iter().map(|block| block.min_time_nanos).min()),
        "newest_sealed_unix_nano": nanos(sealed.iter().map(|block| block.max_time_nanos).max()),
    })
}
