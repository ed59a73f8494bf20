//! What receivers hand over to.

use async_trait::async_trait;
use bytes::Bytes;

use crate::decode::Decoded;
use crate::deliver::Position;
use crate::ingest::{Ack, DeleteError, DeleteRequest, Ingest, Ledger, Received, Refused, StreamEvents};

/// The write path as receivers see it. [`Ingest`] is the one outside tests.
#[async_trait]
pub trait Intake: Send + Sync + std::fmt::Debug {
    /// See [`Ingest::accept`].
    async fn accept(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused>;
    /// See [`Ingest::offer`].
    async fn offer(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused>;
    /// See [`Ingest::ledger`].
    fn ledger(&self) -> &Ledger;
    /// See [`Ingest::max_age_days`]; 0 = records of any time are taken.
    fn max_age_days(&self) -> i32 {
        0
    }
    /// See [`Ingest::put_state`].
    async fn put_state(&self, key: &str, value: Option<Bytes>) -> Result<(), Refused>;
    /// See [`Ingest::put_state_relaxed`].
    fn put_state_relaxed(&self, key: &str, value: Bytes);
    /// See [`Ingest::states`].
    fn states(&self, prefix: &str) -> Vec<(String, Bytes)>;
    /// See [`Ingest::delete`].
    async fn delete(&self, request: &DeleteRequest) -> Result<(), DeleteError>;
    /// See [`Ingest::take_replayed_streams`].
    fn take_replayed_streams(&self) -> Vec<StreamEvents> {
        Vec::new()
    }
    /// Where the log is: what is acknowledged from here on has a later place.
    fn position(&self) -> Position {
        Position::default()
    }
    /// The names of all nodes that write to this lake.
    fn nodes(&self) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl Intake for Ingest {
    async fn accept(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        Ingest::accept(self, received, decoded).await
    }
    async fn offer(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        Ingest::offer(self, received, decoded).await
    }
    fn ledger(&self) -> &Ledger {
        Ingest::ledger(self)
    }
    fn max_age_days(&self) -> i32 {
        Ingest::max_age_days(self)
    }
    async fn put_state(&self, key: &str, value: Option<Bytes>) -> Result<(), Refused> {
        Ingest::put_state(self, key, value).await
    }
    fn put_state_relaxed(&self, key: &str, value: Bytes) {
        Ingest::put_state_relaxed(self, key, value);
    }
    fn states(&self, prefix: &str) -> Vec<(String, Bytes)> {
        Ingest::states(self, prefix)
    }
    async fn delete(&self, request: &DeleteRequest) -> Result<(), DeleteError> {
        Ingest::delete(self, request).await.map(|_| ())
    }
    fn take_replayed_streams(&self) -> Vec<StreamEvents> {
        Ingest::take_replayed_streams(self)
    }
    fn position(&self) -> Position {
        Position {
            node: self.catalog().node().to_string(),
            lsn: self.last_lsn(),
        }
    }
    fn nodes(&self) -> Vec<String> {
        let catalog = self.catalog();
        let snapshot = catalog.snapshot();
        let others = snapshot.nodes().keys().filter(|node| *node != catalog.node());
        std::iter::once(catalog.node()).chain(others).map(|node| node.to_string()).collect()
    }
}
