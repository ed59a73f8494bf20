//! HTTP for people and tools: the pages, our own API, Jaeger's, health; and the AWS and OTLP faces that share the port.
//!
//! Reads settings from nobody and data only through [`crate::query`] and [`crate::alert`]. Every answer of the API
//! states its coverage; every error is `{"error":{"code","message","hint"}}`.

pub mod api;
mod auth;
mod health;
mod jaeger;
mod metrics;
mod ui;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::alert::Handle;
use crate::assemble::Graphs;
use crate::collect::Board;
use crate::deliver::Deliveries;
use crate::ingest::{self, Ingest};
use crate::model::Clock;
use crate::query::Engine;
use crate::storage::Store;
use crate::supervise::Supervisor;

pub use auth::require_bearer;

/// What the handlers work with.
#[derive(Debug)]
pub struct Server {
    /// Answers questions.
    pub engine: Engine,
    /// Who called whom.
    pub graphs: Graphs,
    /// The write path: status and ledger.
    pub ingest: Ingest,
    /// What goes on to other systems.
    pub deliveries: Arc<Deliveries>,
    /// Alert states.
    pub alerting: Handle,
    /// To say whether it is reachable.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When the server started, nanoseconds since the epoch.
    pub started_nanos: i64,
    /// What the write path may hold.
    pub bounds: Bounds,
    /// Cancelled once the server is stopping.
    pub stopping: CancellationToken,
    /// How far the collectors are.
    pub collecting: Arc<Board>,
    /// Background work.
    pub supervisor: Arc<Supervisor>,
}

/// Bounds at which the write path refuses records.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of the log: `[wal] max_bytes`.
    pub log_bytes: u64,
    /// Of unflushed rows: `[ingest] max_head_bytes`.
    pub head_bytes: usize,
}

/// What is wrong now.
#[derive(Clone, Debug)]
pub struct Health {
    /// In words; empty means ready.
    pub problems: Vec<String>,
    /// Whether the store answers.
    pub is_store_reachable: bool,
}

/// The name of the work without which records cannot be taken for long.
pub const FLUSH: &str = "flush";

/// How long the store may take to answer.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

impl Server {
    /// What is wrong now.
    pub async fn health(&self) -> Health {
        let mut problems = write_problems(&self.ingest.status(), &self.bounds, self.stopping.is_cancelled());
        let checked = tokio::time::timeout(STORE_PATIENCE, self.store.list("_catalog/checkpoint/", None)).await;
        let store_problem = match checked {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("the store is not reachable: {error}")),
            Err(_) => Some("the store does not answer".into()),
        };
        let is_store_reachable = store_problem.is_none();
        problems.extend(store_problem);
        // without flushes memory and log fill up; other work can wait for days
        let flush = self.supervisor.works().into_iter().find(|work| work.name == FLUSH);
        problems.extend(flush.and_then(|flush| flush.problem()));
        Health { problems, is_store_reachable }
    }
}

/// What keeps records from being taken, or will.
fn write_problems(status: &ingest::Status, bounds: &Bounds, is_stopping: bool) -> Vec<String> {
    let mut problems = status.problems.clone();
    if is_stopping {
        problems.push("the server is draining".into());
    }
    if status.wal.failing {
        problems.push("the log cannot be written: its disk is full or fails, and records are refused".into());
    }
    if status.wal.writer_is_gone {
        problems.push("the log's writer has panicked, and records are refused: restart the server, nothing acknowledged is lost; please report it".into());
    }
    // the last hundredth is rarely filled: a frame that does not fit in it is refused
    let (waiting, log_bytes) = (status.wal.waiting_bytes, bounds.log_bytes);
    if waiting > log_bytes - log_bytes / 100 {
        problems.push(format!(
            "the log is full: {waiting} bytes wait for blocks, wal.max_bytes is {log_bytes}, and records are refused"
        ));
    }
    if status.head_bytes >= bounds.head_bytes {
        problems.push(format!(
            "{} bytes of rows wait for blocks, ingest.max_head_bytes is {}, and records are refused",
            status.head_bytes, bounds.head_bytes
        ));
    }
    problems
}

/// Pages, API and health.
pub fn router(server: Arc<Server>) -> axum::Router {
    axum::Router::new()
        .merge(health::router(server.clone()))
        .nest("/api/v1", api::router(server.clone()))
        .nest("/jaeger/api", jaeger::router(server))
        .merge(ui::router())
}

/// What is asked by gRPC: Jaeger's query service.
pub fn grpc_router(server: Arc<Server>) -> axum::Router {
    jaeger::grpc_router(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal;

    #[test]
    fn a_write_path_that_refuses_is_not_ready() {
        let bounds = Bounds {
            log_bytes: 1_000,
            head_bytes: 500,
        };
        let status = |wal: wal::Stats, head_bytes: usize| ingest::Status {
            wal,
            flushed_lsn: 0,
            head_rows: 0,
            head_bytes,
            counts_are_durable: true,
            problems: vec![],
            replay: Default::default(),
        };
        let waiting = |waiting_bytes: u64| wal::Stats {
            waiting_bytes,
            ..wal::Stats::default()
        };
        assert_eq!(write_problems(&status(waiting(900), 499), &bounds, false), Vec::<String>::new());
        let failing = wal::Stats {
            failing: true,
            ..wal::Stats::default()
        };
        let gone = wal::Stats {
            writer_is_gone: true,
            ..wal::Stats::default()
        };
        for (status, is_stopping, word) in [
            (status(failing, 0), false, "disk"),
            (status(gone, 0), false, "restart"),
            (status(waiting(995), 0), false, "wal.max_bytes"),
            (status(waiting(0), 500), false, "max_head_bytes"),
            (status(waiting(0), 0), true, "draining"),
        ] {
            let problems = write_problems(&status, &bounds, is_stopping);
            assert!(problems.len() == 1 && problems[0].contains(word), "{word}: {problems:?}");
        }
    }
}
