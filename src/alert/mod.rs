//! Alerts: rules that ask the query engine every few seconds, the states of what they find, and who is told.
//!
//! ```text
//!  rules/*.yaml ─▶ rule ─▶ observe (asks the engine) ─▶ evaluate (pure) ─▶ state: one durable put ─▶ outbox ─▶ notify
//!                                                              │               (state + notification)          SNS, local
//!                                                              └─▶ rows of the `alerts` table
//! ```
//!
//! In: [`rule::Rule`]s and what [`Parts`] names: an engine that answers, a store that keeps small values, a sink for rows,
//! channels, a clock. Out: notifications, rows, and the API's answers ([`Handle`]).
//!
//! Promises:
//! - A change of state and the notification that tells it become durable in one put, before anything is sent. A crash
//!   at any point neither forgets a notification nor decides one twice. A crash between a target's yes and our keeping
//!   of it sends again, with the same ID (attribute [`notify::ID_ATTRIBUTE`], deduplication ID on FIFO topics).
//! - Of one alert "firing" is told at most once per `realert`, across restarts and flapping; "resolved" once for each
//!   "firing" that was told ([`evaluate`] has the table).
//! - What cannot be read resolves nothing and fires nothing that it does not prove.
//! - A target that hangs holds up neither evaluations nor other targets; a notification is tried for a day ([`outbox`]).
//!
//! Bounds: [`observe::MAX_GROUPS`] groups a rule, `max_concurrent_evaluations` questions at a time, one delivery a target
//! and [`outbox::MAX_IN_FLIGHT`] in all, [`message::MAX_MESSAGE_BYTES`] a text, [`state::MAX_NOTIFICATIONS`] finished
//! notifications an alert. If the state cannot be kept (disk full), the alert stays as it was, the rule shows the error
//! and the next evaluation tries again: nothing is sent that is not durable.
//!
//! Start at [`Alerting::run`]; the story of one evaluation is `Book::evaluate`.

pub mod rule;
pub mod evaluate;
pub mod observe;
pub mod engine;
pub mod state;
pub mod message;
pub mod notify;
pub mod outbox;
pub mod rows;
pub mod answer;
mod book;
mod metrics;
mod service;
#[cfg(test)]
mod testing;

use std::path::PathBuf;
use std::time::Duration;

pub use book::Parts;
pub use service::{Alerting, Handle};

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Folder of rule files; none: no rules.
    pub rules: Option<PathBuf>,
    /// Where people reach the pages, in front of the links of notifications: `[server] public_url`, set by the program,
    /// not by the file.
    #[serde(skip)]
    pub public_url: String,
    /// Evaluations at a time (4).
    pub max_concurrent_evaluations: usize,
    /// Seconds a rule's questions may take (30).
    pub evaluation_timeout_seconds: u64,
    /// Hours an alert is shown after its end (24).
    pub keep_resolved_hours: u64,
    /// Whether topics named by rules are told. If not, their notifications are kept and shown only, as `local` (true).
    pub sns_enabled: bool,
    /// How SNS is reached.
    pub sns: notify::SnsConfig,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: None,
            public_url: "http://127.0.0.1:7070".into(),
            max_concurrent_evaluations: 4,
            evaluation_timeout_seconds: 30,
            keep_resolved_hours: 24,
            sns_enabled: true,
            sns: notify::SnsConfig::default(),
        }
    }
}

impl Options {
    fn evaluation_timeout(&self) -> Duration {
        Duration::from_secs(self.evaluation_timeout_seconds.max(1))
    }

    fn keep_resolved(&self) -> Duration {
        Duration::from_secs(self.keep_resolved_hours.saturating_mul(3_600))
    }

    /// The channels these settings name.
    pub fn channels(&self) -> Vec<std::sync::Arc<dyn notify::Channel>> {
        let mut channels: Vec<std::sync::Arc<dyn notify::Channel>> = vec![std::sync::Arc::new(notify::LocalChannel)];
        if self.sns_enabled {
            channels.push(std::sync::Arc::new(notify::SnsChannel::new(self.sns.clone())));
        }
        channels
    }
}

#[cfg(test)]
mod tests;
