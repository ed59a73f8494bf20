//! Where spans come from and rows go: the engine and the write path, as the assembler sees them.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use serde_json::Value;

use super::assembler::Checkpoint;
use super::calls::Calls;
use super::compare::WrittenRow;
use super::others::Others;
use super::reread::together;
use crate::catalog::NodeId;
use crate::ingest::{Ingest, Lost, Refused, last_ingest_id_of};
use crate::model::{Rows, Table, TimeRange, TraceId};
use crate::query::{self, Arrived, Engine, Logged, SqlRequest, SqlResponse, Trace};

/// The checkpoint's key among the state documents.
const CHECKPOINT_KEY: &str = "assemble/checkpoint";

/// What the assembler reads and writes. In tests, memory.
#[async_trait]
pub(super) trait Lake: Send + Sync + std::fmt::Debug {
    /// The greatest `ingest_id` such that every acknowledged row with it or a smaller one is seen by now, and none comes later;
    /// `before` is what it was when it was asked for last.
    async fn settled(&self, before: i64) -> i64;
    /// Of which traces rows came at these positions.
    async fn arrived(&self, table: Table, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String>;
    /// The spans of traces, in a time; `None` if they are too many to read together. One trace alone is cut at a bound, and says so.
    async fn traces(&self, ids: &[TraceId], range: TimeRange) -> Result<Option<Vec<Trace>>, String>;
    /// Log records of traces, in a time.
    async fn logged(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Logged>, String>;
    /// The newest rows of each node, and those without a node's name, of traces that start in a time.
    async fn written(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Vec<WrittenRow>>, String>;
    /// This node.
    fn node(&self) -> NodeId;
    /// The others.
    fn others(&self) -> Others;
    /// Of which traces another node wrote rows of `traces` at these positions of its log; there may be more in the answer.
    async fn arrived_elsewhere(&self, node: &NodeId, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String>;
    /// Writes rows of several tables: all of them, or none.
    async fn write(&self, tables: Vec<Rows>) -> Result<(), Refused>;
    /// Traces that have lost spans to a delete, by the key of the note that says so.
    fn lost(&self) -> Vec<(String, Lost)>;
    /// A note was dealt with.
    async fn forget_lost(&self, key: &str) -> Result<(), String>;
    /// An error, in words, while [`Self::delete_old`] takes nothing.
    fn may_delete_old(&self) -> Result<(), String>;
    /// Has rows of traces deleted that start in a time: of each those below a revision.
    async fn delete_old(&self, below: &[(TraceId, i32)], range: TimeRange) -> Result<(), String>;
    /// The last start of a trace that has a row; `i64::MIN` if none has.
    fn newest_start(&self) -> i64;
    /// Which traces have rows that start in a time, each with the first start and the last end that these tell; `None` if they are more than so many.
    async fn with_rows(&self, range: TimeRange, most: usize) -> Result<Option<HashMap<TraceId, Arrived>>, String>;
    /// What was kept.
    fn checkpoint(&self) -> Option<Checkpoint>;
    /// The last position before those that are assembled from the beginning, and whether nothing lies before it.
    fn beginning(&self) -> (i64, bool);
    /// Keeps a checkpoint; it survives a crash.
    async fn keep(&self, checkpoint: Checkpoint) -> Result<(), String>;
    /// Keeps one that may fall back in a crash.
    fn keep_relaxed(&self, checkpoint: Checkpoint);
}

/// The one outside tests.
#[derive(Clone, Debug)]
pub(super) struct EngineLake {
    pub(super) engine: Engine,
    pub(super) ingest: Ingest,
}

#[async_trait]
impl Lake for EngineLake {
    async fn settled(&self, before: i64) -> i64 {
        self.ingest.settled_ingest_id_since(before).await
    }
    async fn arrived(&self, table: Table, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String> {
        let node = self.ingest.catalog().node();
        self.engine.traces_that_arrived(node, table, positions).await.map_err(text)
    }
    async fn traces(&self, ids: &[TraceId], range: TimeRange) -> Result<Option<Vec<Trace>>, String> {
        together(&self.engine, ids, range).await.map_err(text)
    }
    async fn logged(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Logged>, String> {
        self.engine.logs_of_traces(ids, range).await.map_err(text)
    }
    async fn written(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Vec<WrittenRow>>, String> {
        written(&self.engine, ids, range).await
    }
    fn node(&self) -> NodeId {
        self.ingest.catalog().node().clone()
    }
    fn others(&self) -> Others {
        let catalog = self.ingest.catalog();
        let (snapshot, us) = (catalog.snapshot(), catalog.node());
        let others = snapshot.nodes().keys().filter(|node| *node != us);
        Others {
            alive: self.ingest.nodes_alive(),
            seen: others.map(|node| (node.clone(), last_ingest_id_of(snapshot.flushed_lsn(node)))).collect(),
            lag_nanos: i64::try_from(self.ingest.duty().borrow().lag.as_nanos()).unwrap_or(i64::MAX),
        }
    }
    async fn arrived_elsewhere(&self, node: &NodeId, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String> {
        self.engine.traces_that_arrived(node, Table::Traces, positions).await.map_err(text)
    }
    async fn write(&self, tables: Vec<Rows>) -> Result<(), Refused> {
        self.ingest.accept_derived(tables).await.map(|_| ())
    }
    fn lost(&self) -> Vec<(String, Lost)> {
        self.ingest.lost()
    }
    async fn forget_lost(&self, key: &str) -> Result<(), String> {
        self.ingest.forget_lost(key).await
    }
    fn may_delete_old(&self) -> Result<(), String> {
        self.ingest.has_room_for_old_traces()
    }
    async fn delete_old(&self, below: &[(TraceId, i32)], range: TimeRange) -> Result<(), String> {
        let ordered = self.ingest.delete_old_traces(below, range).await;
        ordered.map(|_| ()).map_err(|error| error.to_string())
    }
    fn newest_start(&self) -> i64 {
        self.engine.extent(Table::Traces, TimeRange::ALL).last_nanos
    }
    async fn with_rows(&self, range: TimeRange, most: usize) -> Result<Option<HashMap<TraceId, Arrived>>, String> {
        self.engine.traces_with_rows(range, most).await.map_err(text)
    }
    fn checkpoint(&self) -> Option<Checkpoint> {
        let kept = self.ingest.states(CHECKPOINT_KEY).into_iter().find(|(key, _)| key == CHECKPOINT_KEY)?;
        let read = serde_json::from_slice(&kept.1);
        let told = read.inspect_err(|error| {
            tracing::error!(%error, "how far traces were put together cannot be read: it goes on from what is not flushed; older ones stay as they are");
        });
        told.ok()
    }
    fn beginning(&self) -> (i64, bool) {
        let snapshot = self.ingest.catalog().snapshot();
        let flushed = snapshot.flushed_lsn(self.ingest.catalog().node());
        (last_ingest_id_of(flushed), snapshot.blocks(Table::Spans).is_empty())
    }
    async fn keep(&self, checkpoint: Checkpoint) -> Result<(), String> {
        let kept = self.ingest.put_state(CHECKPOINT_KEY, Some(bytes_of(&checkpoint))).await;
        kept.map_err(|refused| refused.to_string())
    }
    fn keep_relaxed(&self, checkpoint: Checkpoint) {
        self.ingest.put_state_relaxed(CHECKPOINT_KEY, bytes_of(&checkpoint));
    }
}

fn bytes_of(checkpoint: &Checkpoint) -> bytes::Bytes {
    serde_json::to_vec(checkpoint).expect("numbers have a JSON form").into()
}

fn text(error: query::Error) -> String {
    error.to_string()
}

/// A statement's rows, all of them; `None` if there are too many.
pub(super) async fn rows_of(engine: &Engine, query: String) -> query::Result<Option<SqlResponse>> {
    let limit = engine.config().max_sql_rows;
    let answer = engine.sql(&SqlRequest { query, limit }).await?;
    match answer.coverage.lacks_more_than_damage() {
        false => Ok((!answer.truncated).then_some(answer)),
        true => Err(query::Error::Unread {
            what: "rows of traces and service_edges".into(),
            coverage: Box::new(answer.coverage),
        }),
    }
}

pub(super) fn whole(value: &Value) -> Option<i64> {
    // 64 bits are given as text
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

async fn written(engine: &Engine, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Vec<WrittenRow>>, String> {
    let list: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
    // of a trace that is corrected again and again the newest rows alone: all together may be more than an answer holds
    let query = format!(
        "SELECT trace_id, time_unix_nano, revision, digest, calls, node FROM (\
         SELECT trace_id, time_unix_nano, revision, digest, calls, node, rank() OVER (PARTITION BY trace_id, node ORDER BY revision DESC) AS place \
         FROM traces WHERE time_unix_nano >= {} AND time_unix_nano < {} AND trace_id IN ({})) WHERE place = 1",
        range.start_nanos,
        range.end_nanos,
        list.join(", ")
    );
    let answer = rows_of(engine, query).await.map_err(text)?.ok_or("traces have too many revisions")?;
    let mut newest: HashMap<TraceId, Vec<WrittenRow>> = HashMap::new();
    for row in &answer.rows {
        let (id, written) = written_row(row).ok_or("a row of traces cannot be read")?;
        newest.entry(id).or_default().push(written);
    }
    Ok(newest)
}

fn written_row(row: &[Value]) -> Option<(TraceId, WrittenRow)> {
    let node = match row.get(5)? {
        Value::Null => None,
        name => Some(NodeId::parse(name.as_str()?)?),
    };
    let written = WrittenRow {
        node,
        start_nanos: whole(row.get(1)?)?,
        revision: i32::try_from(whole(row.get(2)?)?).ok()?,
        digest: whole(row.get(3)?)?,
        calls: Calls::from_json(row.get(4)?.as_str()?)?,
    };
    Some((TraceId::from_hex(row.first()?.as_str()?)?, written))
}
