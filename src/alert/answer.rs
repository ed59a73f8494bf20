//! Alerts, rules and notifications as the API shows them.

use serde::Serialize;
use serde_json::Value;

use super::evaluate::State;
use super::message;
use super::rule::{Rule, format_duration};
use super::state::{Alert, Notification, Status};
use crate::model::format_time;

/// One alert; `GET /api/v1/alerts/{id}`.
#[derive(Clone, Debug, Serialize)]
pub struct AlertAnswer {
    /// Stable over restarts.
    pub id: String,
    /// The rule's name.
    pub rule: String,
    /// `service=payment`; empty for a rule without groups.
    pub group_key: String,
    /// The same, by field.
    pub group: serde_json::Map<String, Value>,
    /// `inactive`, `pending`, `firing` or `resolved`.
    pub state: State,
    /// When it entered the state.
    pub since_unix_nano: String,
    /// The same, for people.
    pub since: String,
    /// What was compared last; null: there was nothing.
    pub value: Option<f64>,
    /// With what.
    pub threshold: Option<f64>,
    /// The last verdict in words.
    pub summary: String,
    /// Why it was or was not told.
    pub reason: String,
    /// The rule's query.
    pub query: String,
    /// When it fires, in words.
    pub condition: String,
    /// The rule's severity.
    pub severity: String,
    /// The rule's description.
    pub description: Option<String>,
    /// The rule's runbook.
    pub runbook: Option<String>,
    /// When it was last evaluated; null since the start: not yet.
    pub last_evaluated_unix_nano: Option<String>,
    /// When it last began to fire.
    pub fired_at_unix_nano: Option<String>,
    /// When it was last resolved.
    pub resolved_at_unix_nano: Option<String>,
    /// First nanosecond of the window that was counted.
    pub window_start_unix_nano: Option<String>,
    /// First nanosecond after it.
    pub window_end_unix_nano: Option<String>,
    /// Path of the page with the rows that were counted; for a metric, of the alert itself.
    pub link: String,
    /// Path of the first sample's trace.
    pub trace_link: Option<String>,
    /// Newest first, without their text.
    pub notifications: Vec<NotificationAnswer>,
    /// Rows that were counted, frozen when it fired.
    pub samples: Vec<Value>,
    /// Why the rule's last evaluation failed.
    pub error: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct RuleAnswer {
    /// Its name.
    pub name: String,
    /// `frequency`, `spike` or `threshold`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its query.
    pub query: String,
    /// When it fires, in words.
    pub condition: String,
    /// Length of the window, `1m`.
    pub interval: String,
    /// Time between evaluations, `5s`.
    pub every: String,
    /// Its severity.
    pub severity: String,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// `local` or the topic.
    pub target: String,
    /// When it was last evaluated.
    pub last_evaluated_unix_nano: Option<String>,
    /// Why its last evaluation failed or was cut.
    pub error: Option<String>,
}

/// One notification.
#[derive(Clone, Debug, Serialize)]
pub struct NotificationAnswer {
    /// Stable over retries and restarts.
    pub id: String,
    /// The alert it tells of.
    pub alert_id: String,
    /// Its rule.
    pub rule: String,
    /// `firing` or `resolved`.
    pub state: &'static str,
    /// When it was decided.
    pub time_unix_nano: String,
    /// The same, for people.
    pub time: String,
    /// `sns` or `local`.
    pub channel: String,
    /// The topic, or `local`.
    pub target: String,
    /// One line.
    pub subject: String,
    /// The text; only in the list of notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `pending`, `delivered` or `failed`.
    pub status: Status,
    /// Deliveries tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When the target took it.
    pub delivered_at_unix_nano: Option<String>,
    /// The target's own ID for it.
    pub message_id: Option<String>,
}

impl NotificationAnswer {
    /// What the API shows of a notification of `alert`.
    pub fn new(alert: &Alert, notification: &Notification, with_message: bool) -> Self {
        Self {
            id: notification.id.clone(),
            alert_id: alert.id(),
            rule: alert.rule.clone(),
            state: match notification.tell {
                super::evaluate::Tell::Firing => "firing",
                super::evaluate::Tell::Resolved => "resolved",
            },
            time_unix_nano: notification.created_at_nanos.to_string(),
            time: format_time(notification.created_at_nanos),
            channel: notification.channel.clone(),
            target: notification.target.clone(),
            subject: notification.subject.clone(),
            message: with_message.then(|| notification.message.clone()),
            status: notification.status,
            attempts: notification.attempts,
            error: notification.error.clone(),
            delivered_at_unix_nano: notification.delivered_at_nanos.map(|nanos| nanos.to_string()),
            message_id: notification.message_id.clone(),
        }
    }
}

impl AlertAnswer {
    /// What the API shows of an alert; `rule` is `None` for an alert whose rule is no longer loaded.
    pub fn new(alert: &Alert, rule: Option<&Rule>, error: Option<String>) -> Self {
        let text = |nanos: Option<i64>| nanos.map(|nanos| nanos.to_string());
        let link = rule.and_then(|rule| message::rows_path(rule, alert));
        let gone = rule.is_none().then(|| "the rule is no longer loaded".to_string());
        Self {
            id: alert.id(),
            rule: alert.rule.clone(),
            group_key: alert.group_key(),
            group: alert.group.iter().map(|(field, value)| (field.clone(), value.clone().into())).collect(),
            state: alert.standing.state,
            since_unix_nano: alert.standing.since_nanos.to_string(),
            since: format_time(alert.standing.since_nanos),
            value: alert.value,
            threshold: alert.threshold,
            summary: alert.summary.clone(),
            reason: alert.reason.clone(),
            query: rule.map(Rule::query_text).unwrap_or_default(),
            condition: rule.map(Rule::condition_text).unwrap_or_default(),
            severity: rule.map(|rule| rule.severity.clone()).unwrap_or_default(),
            description: rule.and_then(|rule| rule.description.clone()),
            runbook: rule.and_then(|rule| rule.runbook.clone()),
            last_evaluated_unix_nano: text(alert.last_evaluated_nanos),
            fired_at_unix_nano: text(alert.standing.fired_at_nanos),
            resolved_at_unix_nano: text(alert.standing.resolved_at_nanos),
            window_start_unix_nano: text(alert.window.map(|window| window.start_nanos)),
            window_end_unix_nano: text(alert.window.map(|window| window.end_nanos)),
            link: link.unwrap_or_else(|| message::alert_path(alert)),
            trace_link: message::trace_path(alert),
            notifications: alert.notifications.iter().rev().map(|n| NotificationAnswer::new(alert, n, false)).collect(),
            samples: alert.samples.clone(),
            error: error.or(gone),
        }
    }
}

impl RuleAnswer {
    /// What the API shows of a rule.
    pub fn new(rule: &Rule, last_evaluated_nanos: Option<i64>, error: Option<String>) -> Self {
        Self {
            name: rule.name.clone(),
            kind: rule.kind(),
            query: rule.query_text(),
            condition: rule.condition_text(),
            interval: format_duration(rule.timeframe),
            every: format_duration(rule.every),
            severity: rule.severity.clone(),
            enabled: rule.enabled,
            target: rule.sns.as_ref().map_or_else(|| "local".into(), |sns| sns.topic_arn.clone()),
            last_evaluated_unix_nano: last_evaluated_nanos.map(|nanos| nanos.to_string()),
            error,
        }
    }
}

/// The order in which people want to see alerts.
pub(super) fn urgency(state: State) -> u8 {
    match state {
        State::Firing => 0,
        State::Pending => 1,
        State::Resolved => 2,
        State::Inactive => 3,
    }
}
