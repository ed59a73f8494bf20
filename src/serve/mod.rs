//! HTTP for people and tools: the pages, our own API, health; and the AWS and OTLP faces that share the port.
//!
//! Reads settings from nobody and data only through [`crate::query`] and [`crate::alert`]. Every answer of the API
//! states its coverage; every error is `{"error":{"code","message","hint"}}`.

pub mod api;
mod auth;
mod health;
mod metrics;
mod ui;

use std::sync::Arc;

use crate::alert::Handle;
use crate::ingest::Ingest;
use crate::model::Clock;
use crate::query::Engine;
use crate::storage::Store;

pub use auth::{require_bearer, require_no_aws_credentials};

/// What the handlers work with.
#[derive(Debug)]
pub struct Server {
    /// Answers questions.
    pub engine: Engine,
    /// The write path: status and ledger.
    pub ingest: Ingest,
    /// Alert states.
    pub alerting: Handle,
    /// To say whether it is reachable.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When the server started, nanoseconds since the epoch.
    pub started_nanos: i64,
}

impl Server {
    /// What is wrong now, in words; empty means ready.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = self.ingest.status().problems;
        let checked = tokio::time::timeout(std::time::Duration::from_secs(3), self.store.list("_catalog/checkpoint/", None)).await;
        match checked {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => problems.push(format!("the store is not reachable: {error}")),
            Err(_) => problems.push("the store does not answer".into()),
        }
        problems
    }
}

/// Pages, API and health.
pub fn router(server: Arc<Server>) -> axum::Router {
    axum::Router::new()
        .merge(health::router(server.clone()))
        .nest("/api/v1", api::router(server))
        .merge(ui::router())
}
