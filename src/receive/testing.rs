//! The write path for tests: keeps everything in memory and refuses on request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::Intake;
use super::signed::Gate;
use crate::access;
use crate::decode::Decoded;
use crate::ingest::{Ack, DeleteError, DeleteRequest, Ledger, Outcomes, Received, Refused};
use crate::model::ManualClock;
use crate::net::{Budget, auth, inflate};

/// Remembers what was accepted; a restart is a new one with [`Memory::surviving`].
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) accepted: Mutex<Vec<(Received, Decoded)>>,
    pub(super) states: Mutex<BTreeMap<String, Bytes>>,
    /// Orders to delete rows.
    pub(super) deletes: Mutex<Vec<DeleteRequest>>,
    ledger: Ledger,
    /// So many calls are refused first.
    pub(super) refusals: Mutex<usize>,
    /// Requests have been taken before.
    pub(super) is_repeating: AtomicBool,
    /// What is taken is told only with a permit of this.
    pub(super) held: Mutex<Option<Arc<Semaphore>>>,
}

impl Memory {
    /// What a restart finds.
    pub(super) fn surviving(&self) -> Memory {
        Memory {
            states: Mutex::new(self.states.lock().clone()),
            ..Memory::default()
        }
    }
    pub(super) fn refuse(&self, n: usize) {
        *self.refusals.lock() = n;
    }
    pub(super) fn n_rows(&self) -> usize {
        self.accepted.lock().iter().map(|(_, decoded)| decoded.batch.n_rows()).sum()
    }
    /// The sums of the one receiver and signal that were used.
    pub(super) fn outcomes(&self) -> Outcomes {
        self.ledger.sums().first().map(|(_, _, outcomes)| outcomes.clone()).unwrap_or_default()
    }
    fn refusal(&self) -> Result<(), Refused> {
        let mut left = self.refusals.lock();
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(Refused::Overloaded {
            retry_after: Duration::from_millis(1),
            message: "a test says so".into(),
        })
    }
}

#[async_trait]
impl Intake for Memory {
    async fn accept(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        let (receiver, signal, n_rows) = (received.receiver, received.signal, decoded.batch.n_rows() as u64);
        self.offer(received, decoded)
            .await
            .inspect_err(|_| self.ledger.refused(receiver, signal, n_rows))
    }
    async fn offer(&self, mut received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        self.refusal()?;
        if self.is_repeating.load(Ordering::Relaxed) {
            return Ok(Ack { lsn: 0, is_repeat: true });
        }
        let n_rows = decoded.batch.n_rows() as u64;
        self.ledger.accepted(received.receiver, received.signal, n_rows);
        for rejected in decoded.rejected.iter().chain(&decoded.rejected_points) {
            self.ledger.rejected(received.receiver, received.signal, rejected.reason, rejected.count);
        }
        // replay must find the same rows
        let body = inflate::inflate(received.encoding, &received.body, usize::MAX / 2).expect("as it came");
        let again = crate::decode::decode(received.kind, &body, &received.context).expect("decoded once already");
        assert_eq!(again.batch.n_rows(), decoded.batch.n_rows(), "the bytes handed over give the same rows");
        // the write path gives it back too, once the rows are its own
        received.share = None;
        self.accepted.lock().push((received, decoded));
        let held = self.held.lock().clone();
        if let Some(held) = held {
            held.acquire().await.expect("never closed").forget();
        }
        Ok(Ack { lsn: 1, is_repeat: false })
    }
    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
    async fn put_state(&self, key: &str, value: Option<Bytes>) -> Result<(), Refused> {
        self.refusal()?;
        match value {
            Some(value) => self.states.lock().insert(key.into(), value),
            None => self.states.lock().remove(key),
        };
        Ok(())
    }
    fn put_state_relaxed(&self, key: &str, value: Bytes) {
        self.states.lock().insert(key.into(), value);
    }
    fn nodes(&self) -> Vec<String> {
        vec!["node".into()]
    }
    fn states(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let states = self.states.lock();
        states
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
    async fn delete(&self, request: &DeleteRequest) -> Result<(), DeleteError> {
        self.deletes.lock().push(request.clone());
        Ok(())
    }
}

/// A budget that is never spent.
pub(super) fn ample() -> Arc<Budget> {
    Budget::new(usize::MAX)
}

/// A gate that is open to all, as where nothing is configured.
pub(super) fn open_gate() -> Arc<Gate> {
    gate("", &[], Arc::new(Memory::default()), 0, ample())
}

/// A gate with the settings of `[aws]`, and tokens.
pub(super) fn gate(aws: &str, tokens: &[&str], intake: Arc<dyn Intake>, now_nanos: i64, budget: Arc<Budget>) -> Arc<Gate> {
    let config: access::Config = toml::from_str(aws).expect("settings");
    assert_eq!(config.problems(), Vec::<String>::new());
    let keys = config.open(&|_| None).expect("keys");
    Arc::new(Gate {
        verifier: access::sigv4::Verifier::new(&config, keys),
        tokens: Arc::new(auth::Config {
            bearer_tokens: tokens.iter().map(|token| (*token).to_string()).collect(),
        }),
        clock: Arc::new(ManualClock::new(now_nanos)),
        budget,
        intake,
        account_id: "000000000000".into(),
    })
}

/// An answer in memory.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) error_type: Option<String>,
    pub(super) content_type: String,
    pub(super) json: serde_json::Value,
}

/// Sends a request to a router; every answer must carry a request ID.
pub(super) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response: Response<Body> = router.clone().oneshot(request).await.expect("routers do not fail");
    let header = |name: &str| Some(response.headers().get(name)?.to_str().expect("text").to_string());
    assert!(header("x-amzn-requestid").is_some_and(|id| id.len() == 36), "no request ID");
    let (status, error_type) = (response.status(), header("x-amzn-errortype"));
    let content_type = header("content-type").expect("a content type");
    let body = response.into_body().collect().await.expect("in memory").to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        json.get("__type").and_then(|t| t.as_str()),
        error_type.as_deref(),
        "header and body name the same error"
    );
    Answer {
        status,
        error_type,
        content_type,
        json,
    }
}

/// RFC 1952.
pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}
