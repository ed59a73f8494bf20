//! Clients over real sockets: OTLP/HTTP, `PutLogEvents`, X-Ray datagrams; each counted, each as patient as real ones.
//!
//! A refusal that may pass (429, 503, another 5xx, no connection) is tried again after a wait that doubles from
//! [`FIRST_WAIT`] to [`LONGEST_WAIT`], or that the server names in `Retry-After`, until [`PATIENCE`] is over; then the
//! records count as given up. Any other 4xx rejects them at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use super::{Error, Result};
use crate::model::Signal;

/// Wait after the first refusal.
pub const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long one request is tried.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Where things are sent.
#[derive(Clone, Debug)]
pub struct Targets {
    /// For CloudWatch Logs, `http://127.0.0.1:7070`.
    pub http: String,
    /// For OTLP/HTTP, `http://127.0.0.1:4318`.
    pub otlp_http: String,
    /// For X-Ray datagrams, `127.0.0.1:2000`.
    pub xray: String,
    /// Bearer token, where the server asks for one.
    pub token: Option<String>,
}

/// What became of what was sent. Records, unless the name says otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Acknowledged by the server.
    pub acknowledged: AtomicU64,
    /// Refused for good, or rejected in a partial success.
    pub rejected: AtomicU64,
    /// Given up after [`PATIENCE`].
    pub given_up: AtomicU64,
    /// X-Ray documents sent as datagrams, which nobody acknowledges.
    pub datagrams: AtomicU64,
    /// Requests that were tried again.
    pub retries: AtomicU64,
    /// Bytes of acknowledged bodies, as sent.
    pub bytes: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// See [`Counters::acknowledged`].
    pub acknowledged: u64,
    /// See [`Counters::rejected`].
    pub rejected: u64,
    /// See [`Counters::given_up`].
    pub given_up: u64,
    /// See [`Counters::datagrams`].
    pub datagrams: u64,
    /// See [`Counters::retries`].
    pub retries: u64,
    /// See [`Counters::bytes`].
    pub bytes: u64,
}

impl Counters {
    /// The numbers now.
    pub fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            acknowledged: read(&self.acknowledged),
            rejected: read(&self.rejected),
            given_up: read(&self.given_up),
            datagrams: read(&self.datagrams),
            retries: read(&self.retries),
            bytes: read(&self.bytes),
        }
    }
}

/// Sends; shared by tasks behind an `Arc`.
#[derive(Debug)]
pub struct Sender {
    client: reqwest::Client,
    udp: UdpSocket,
    targets: Targets,
    patience: Duration,
    /// Log groups and streams that were created.
    streams: Mutex<HashSet<(String, String)>>,
    /// What became of it all.
    pub counters: Counters,
}

/// What a server said to one request.
enum Answer {
    Accepted(Bytes),
    Later(Option<Duration>, String),
    Never(String),
}

/// Why records were not acknowledged.
struct Lost {
    /// By the server's word, not for lack of patience.
    is_rejected: bool,
    message: String,
}

impl Sender {
    /// Clients for these targets. Resolves the X-Ray address; connects to nothing else yet.
    pub async fn open(targets: Targets) -> Result<Self> {
        Self::open_patient(targets, PATIENCE).await
    }

    /// As [`Sender::open`], with another patience than [`PATIENCE`].
    pub async fn open_patient(targets: Targets, patience: Duration) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let socket_error = |source| Error::Socket {
            address: targets.xray.clone(),
            source,
        };
        let udp = UdpSocket::bind("0.0.0.0:0").await.map_err(socket_error)?;
        udp.connect(&targets.xray).await.map_err(socket_error)?;
        Ok(Self {
            client,
            udp,
            targets,
            patience,
            streams: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// Posts one export request of `n` records. Returns how long the acknowledgement took, tries included, or what the
    /// last answer said.
    pub async fn otlp(&self, signal: Signal, body: Bytes, n: u64, gzipped: bool) -> Result<Duration, String> {
        let url = format!("{}/v1/{}", self.targets.otlp_http.trim_end_matches('/'), signal.name());
        let began = Instant::now();
        let length = body.len() as u64;
        let answer = self
            .patiently(|| {
                let mut request = self.client.post(&url).header(CONTENT_TYPE, "application/x-protobuf").body(body.clone());
                if gzipped {
                    request = request.header(CONTENT_ENCODING, "gzip");
                }
                self.ask(request)
            })
            .await
            .map_err(|lost| self.lost(n, lost))?;
        let rejected = rejected_of(&answer).min(n);
        self.counters.rejected.fetch_add(rejected, Ordering::Relaxed);
        self.counters.acknowledged.fetch_add(n - rejected, Ordering::Relaxed);
        self.counters.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(began.elapsed())
    }

    /// Puts events (milliseconds, message), which must be in order of time. Group and stream are created before the first
    /// events of a stream, as the docker driver does.
    pub async fn put_log_events(&self, group: &str, stream: &str, events: &[(i64, String)]) -> Result<(), String> {
        let n = events.len() as u64;
        let name = (group.to_string(), stream.to_string());
        if !self.streams.lock().contains(&name) {
            for (operation, body) in [
                ("CreateLogGroup", json!({"logGroupName": group})),
                ("CreateLogStream", json!({"logGroupName": group, "logStreamName": stream})),
            ] {
                let body = Bytes::from(body.to_string());
                let made = self.patiently(|| self.ask(self.logs_call(operation, body.clone()))).await;
                if let Err(lost) = made
                    && !lost.message.contains("ResourceAlreadyExistsException")
                {
                    return Err(self.lost(n, lost));
                }
            }
            self.streams.lock().insert(name);
        }
        let log_events: Vec<Value> = events.iter().map(|(t, message)| json!({"timestamp": t, "message": message})).collect();
        let body = Bytes::from(json!({"logGroupName": group, "logStreamName": stream, "logEvents": log_events}).to_string());
        match self.patiently(|| self.ask(self.logs_call("PutLogEvents", body.clone()))).await {
            Ok(_) => {
                self.counters.acknowledged.fetch_add(n, Ordering::Relaxed);
                self.counters.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(lost) => Err(self.lost(n, lost)),
        }
    }

    /// Counts records that will not be acknowledged.
    fn lost(&self, n: u64, lost: Lost) -> String {
        let counter = if lost.is_rejected { &self.counters.rejected } else { &self.counters.given_up };
        counter.fetch_add(n, Ordering::Relaxed);
        lost.message
    }

    /// Sends one X-Ray segment document as the daemon's clients do; nobody answers.
    pub async fn segment(&self, document: &str) {
        let datagram = format!("{{\"format\": \"json\", \"version\": 1}}\n{document}");
        // with no one listening the system may tell of an earlier datagram's fate: the client does not care, as real ones
        let _ = self.udp.send(datagram.as_bytes()).await;
        self.counters.datagrams.fetch_add(1, Ordering::Relaxed);
    }

    fn logs_call(&self, operation: &str, body: Bytes) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}/", self.targets.http.trim_end_matches('/')))
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("Logs_20140328.{operation}"))
            .body(body)
    }

    /// One try.
    async fn ask(&self, mut request: reqwest::RequestBuilder) -> Answer {
        if let Some(token) = &self.targets.token {
            request = request.bearer_auth(token);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Answer::Later(None, describe(&error)),
        };
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return Answer::Later(None, describe(&error)),
        };
        if status.is_success() {
            return Answer::Accepted(body);
        }
        let shown: String = String::from_utf8_lossy(&body).chars().take(300).collect();
        let message = format!("HTTP {status}: {shown}");
        // CloudWatch Logs throttles with a 400
        let throttled = shown.contains("ThrottlingException") || shown.contains("ServiceUnavailable");
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || throttled {
            return Answer::Later(retry_after.map(Duration::from_secs), message);
        }
        Answer::Never(message)
    }

    async fn patiently<F: Future<Output = Answer>>(&self, ask: impl Fn() -> F) -> Result<Bytes, Lost> {
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            match ask().await {
                Answer::Accepted(body) => return Ok(body),
                Answer::Never(message) => {
                    return Err(Lost { is_rejected: true, message });
                }
                Answer::Later(named, message) => {
                    let pause = named.unwrap_or(wait).min(LONGEST_WAIT);
                    if began.elapsed() + pause > self.patience {
                        let message = format!("given up after {} s: {message}", began.elapsed().as_secs());
                        return Err(Lost { is_rejected: false, message });
                    }
                    self.counters.retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

/// The number of rejected records in a partial success: field 1 of field 1 of any export response.
fn rejected_of(body: &[u8]) -> u64 {
    use prost::Message;
    opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse::decode(body)
        .ok()
        .and_then(|response| response.partial_success)
        .map_or(0, |partial| partial.rejected_log_records.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::post;
    use parking_lot::Mutex;

    use super::*;

    type Asked = Arc<Mutex<Vec<String>>>;

    /// A server that answers each path with what is left in its list, then 200, and keeps what it was asked.
    async fn server(answers: Vec<(u16, &'static str)>) -> (Targets, Asked) {
        let asked: Asked = Arc::default();
        let answers = Arc::new(Mutex::new(answers));
        let kept = asked.clone();
        let answer = move |headers: HeaderMap, body: Bytes| {
            let target = headers.get("x-amz-target").map(|v| String::from_utf8_lossy(v.as_bytes()).to_string());
            kept.lock().push(target.unwrap_or_else(|| format!("{} bytes", body.len())));
            let mut answers = answers.lock();
            let (status, text) = if answers.is_empty() { (200, "") } else { answers.remove(0) };
            std::future::ready((StatusCode::from_u16(status).expect("a status"), text))
        };
        let app = Router::new().route("/", post(answer.clone())).route("/v1/logs", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        let url = format!("http://{address}");
        let targets = Targets {
            http: url.clone(),
            otlp_http: url,
            xray: "127.0.0.1:9".into(),
            token: None,
        };
        (targets, asked)
    }

    #[tokio::test]
    async fn overload_is_waited_out_and_bad_requests_are_not_repeated() {
        let (targets, asked) = server(vec![(503, "busy"), (429, ""), (200, ""), (400, "malformed")]).await;
        let sender = Sender::open(targets).await.expect("open");
        sender.otlp(Signal::Logs, Bytes::from_static(b"x"), 10, false).await.expect("acknowledged");
        let refused = sender.otlp(Signal::Logs, Bytes::from_static(b"x"), 7, false).await.expect_err("rejected");
        assert!(refused.contains("malformed"), "{refused}");
        let counts = sender.counters.read();
        assert_eq!((counts.acknowledged, counts.rejected, counts.retries), (10, 7, 2));
        assert_eq!(asked.lock().len(), 4);
    }

    #[tokio::test]
    async fn groups_and_streams_are_created_before_the_first_events() {
        let (targets, asked) = server(vec![(400, "{\"__type\":\"ResourceAlreadyExistsException\"}")]).await;
        let sender = Sender::open(targets).await.expect("open");
        for number in 1..3 {
            sender.put_log_events("/g", "s", &[(number, "m".into())]).await.expect("acknowledged");
        }
        let operations: Vec<String> = asked.lock().iter().map(|target| target.replace("Logs_20140328.", "")).collect();
        assert_eq!(operations, ["CreateLogGroup", "CreateLogStream", "PutLogEvents", "PutLogEvents"]);
        assert_eq!(sender.counters.read().acknowledged, 2);
    }

    #[tokio::test]
    async fn partial_success_is_counted_apart() {
        use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
        use prost::Message;
        let response = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 3,
                error_message: "x".into(),
            }),
        };
        assert_eq!(rejected_of(&response.encode_to_vec()), 3);
        assert_eq!((rejected_of(b""), rejected_of(b"\xff")), (0, 0));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_given_up_when_patience_ends() {
        let targets = Targets {
            http: "http://127.0.0.1:1".into(),
            otlp_http: "http://127.0.0.1:1".into(),
            xray: "127.0.0.1:9".into(),
            token: None,
        };
        let sender = Sender::open_patient(targets, Duration::from_millis(150)).await.expect("open");
        let error = sender.otlp(Signal::Traces, Bytes::new(), 5, false).await.expect_err("nobody there");
        assert!(error.starts_with("given up"), "{error}");
        assert_eq!(sender.counters.read().given_up, 5);
    }
}
