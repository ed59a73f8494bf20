//! Where rows and checkpoints lie: the engine and the write path, as followers see them.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;

use crate::ingest::Ingest;
use crate::model::Table;
use crate::query::{Cursor, Engine, Hit, Query};

/// Rows of a window, in order of time.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) hits: Vec<Hit>,
    /// The last row looked at, if there may be more behind it.
    pub(super) next: Option<Cursor>,
}

/// What a follower reads and keeps. In tests, memory.
#[async_trait]
pub(super) trait Lake: Send + Sync + std::fmt::Debug {
    /// The greatest `ingest_id` such that every acknowledged row with it or a smaller one is seen by now, and none comes later;
    /// `before` is what it was when it was asked for last.
    async fn settled(&self, before: i64) -> i64;
    /// Rows of these positions that match; all of them can be read, or it is an error.
    async fn page(&self, table: Table, query: &Query, positions: RangeInclusive<i64>, after: Option<Cursor>) -> Result<Page, String>;
    /// Sets a state document; it survives a crash.
    async fn put(&self, key: &str, value: Option<Bytes>) -> Result<(), String>;
    /// Sets one that may fall back a little in a crash.
    fn put_relaxed(&self, key: &str, value: Bytes);
    /// The documents under a prefix.
    fn states(&self, prefix: &str) -> Vec<(String, Bytes)>;
    /// This node's name.
    fn node(&self) -> String;
}

/// The one outside tests.
#[derive(Clone, Debug)]
pub struct EngineLake {
    /// Finds the rows.
    pub engine: Engine,
    /// Knows what is settled, keeps the checkpoints.
    pub ingest: Ingest,
}

#[async_trait]
impl Lake for EngineLake {
    async fn settled(&self, before: i64) -> i64 {
        self.ingest.settled_ingest_id_since(before).await
    }
    async fn page(&self, table: Table, query: &Query, positions: RangeInclusive<i64>, after: Option<Cursor>) -> Result<Page, String> {
        let answer = self
            .engine
            .arrived(self.ingest.catalog().node(), table, query, positions, after, super::PAGE_ROWS)
            .await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.coverage.complete {
            let why = answer.coverage.problems.first().map(|problem| problem.message.clone());
            return Err(why.unwrap_or_else(|| "not everything could be read".into()));
        }
        Ok(Page {
            hits: answer.hits,
            next: answer.next_cursor,
        })
    }
    async fn put(&self, key: &str, value: Option<Bytes>) -> Result<(), String> {
        self.ingest.put_state(key, value).await.map_err(|refused| refused.to_string())
    }
    fn put_relaxed(&self, key: &str, value: Bytes) {
        self.ingest.put_state_relaxed(key, value);
    }
    fn states(&self, prefix: &str) -> Vec<(String, Bytes)> {
        self.ingest.states(prefix)
    }
    fn node(&self) -> String {
        self.ingest.catalog().node().to_string()
    }
}
