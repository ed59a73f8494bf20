//! Stand-ins for the rest of the house, for this module's tests.

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::evaluate::Window;
use super::notify::{Channel, SendError, SendFuture};
use super::observe::{Counts, PatternCounts, QuestionError, Questions, SqlRows};
use super::rows::{EvaluationSink, SinkFuture};
use super::state::Notification;
use crate::model::{Rows, Table, TimeRange, format_time};
use crate::query::patterns::State as PatternState;

/// This node leads, for ever.
pub(super) fn on_duty() -> tokio::sync::watch::Receiver<crate::ingest::Duty> {
    let duty = crate::ingest::Duty {
        is_ours: true,
        ..crate::ingest::Duty::default()
    };
    tokio::sync::watch::Sender::new(duty).subscribe()
}

/// An engine whose rows have a service and a time (given in seconds), and match every query.
#[derive(Debug, Default)]
pub(super) struct FakeEngine {
    rows: Mutex<Vec<(String, i64)>>,
    pub(super) metric: Mutex<Option<f64>>,
    pub(super) patterns: Mutex<PatternCounts>,
    pub(super) fails: Mutex<bool>,
    pub(super) incomplete: Mutex<bool>,
}

impl FakeEngine {
    pub(super) fn rows(&self, service: &str, seconds: &[i64]) {
        let rows = seconds.iter().map(|second| (service.to_string(), second * 1_000_000_000));
        self.rows.lock().extend(rows);
    }

    fn check(&self) -> Result<(), QuestionError> {
        if *self.fails.lock() {
            Err(QuestionError("the engine is away".into()))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Questions for FakeEngine {
    async fn count_by(&self, _: Table, _: &str, range: TimeRange, fields: &[String], limit: usize) -> Result<Counts, QuestionError> {
        self.check()?;
        let rows = self.rows.lock();
        let inside = rows.iter().filter(|(_, time)| range.contains(*time));
        let mut groups = std::collections::BTreeMap::new();
        for (service, _) in inside {
            let key: Vec<String> = fields.iter().map(|_| service.clone()).collect();
            *groups.entry(key).or_insert(0.0) += 1.0;
        }
        if fields.is_empty() {
            groups.entry(vec![]).or_insert(0.0);
        }
        Ok(Counts {
            truncated: groups.len() > limit,
            groups: groups.into_iter().take(limit).collect(),
            complete: !*self.incomplete.lock(),
        })
    }

    async fn patterns(&self, _: &str, _: &Window, _: &[PatternState], _: usize) -> Result<PatternCounts, QuestionError> {
        self.check()?;
        let mut counts = self.patterns.lock().clone();
        counts.complete = !*self.incomplete.lock();
        Ok(counts)
    }

    async fn samples(&self, _: Table, query: &str, range: TimeRange, limit: usize) -> Result<Vec<Value>, QuestionError> {
        self.check()?;
        let mut rows: Vec<(String, i64)> = self.rows.lock().iter().filter(|(_, time)| range.contains(*time)).cloned().collect();
        rows.retain(|(service, _)| !query.contains("service:\"") || query.contains(&format!("service:\"{service}\"")));
        rows.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        rows.truncate(limit);
        let hit = |(service, time): (String, i64)| {
            json!({"time": format_time(time), "service_name": service, "severity": "ERROR", "body": "payment declined",
                "trace_id": "5759e988bd862e3fe1be46a994272793"})
        };
        Ok(rows.into_iter().map(hit).collect())
    }

    async fn sql(&self, _: &str, _: usize) -> Result<SqlRows, QuestionError> {
        self.check()?;
        Ok(SqlRows {
            rows: vec![vec![self.metric.lock().map_or(Value::Null, Value::from)]],
            complete: !*self.incomplete.lock(),
        })
    }
}

/// Keeps the rows it is given.
#[derive(Debug, Default)]
pub(super) struct KeepRows(pub(super) Mutex<Vec<Rows>>);

impl EvaluationSink for KeepRows {
    fn write(&self, rows: Rows) -> SinkFuture<'_> {
        self.0.lock().push(rows);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An SNS that answers as it is told, and keeps what it took.
#[derive(Debug, Default)]
pub(super) struct FakeSns {
    pub(super) taken: Mutex<Vec<Notification>>,
    /// Answers of the next sends, first first; none left: yes.
    pub(super) errors: Mutex<Vec<SendError>>,
    /// A target that never answers.
    pub(super) hangs: Mutex<Option<String>>,
}

impl FakeSns {
    pub(super) fn subjects(&self) -> Vec<String> {
        self.taken
            .lock()
            .iter()
            .map(|n| n.subject.split(':').next().unwrap_or_default().to_string())
            .collect()
    }
}

impl Channel for FakeSns {
    fn name(&self) -> &'static str {
        "sns"
    }
    fn send<'a>(&'a self, notification: &'a Notification) -> SendFuture<'a> {
        Box::pin(async move {
            if self.hangs.lock().as_ref() == Some(&notification.target) {
                std::future::pending::<()>().await;
            }
            let mut errors = self.errors.lock();
            if !errors.is_empty() {
                return Err(errors.remove(0));
            }
            let mut taken = self.taken.lock();
            taken.push(notification.clone());
            Ok(Some(format!("message-{}", taken.len())))
        })
    }
}
