//! What is known of each alert, and how it survives a restart.
//!
//! One alert is one rule and one group. Its [`Alert`] is kept durably as one value under `alert/<rule>\0<group key>`
//! (JSON, [`FORMAT_VERSION`]), written whole each time its state changes, something is to be told, or a delivery was
//! tried. The notifications that are still to be delivered, the outbox, live *inside* that value: the change of state and
//! the intent to tell it become durable in one step, so a crash can neither forget a notification nor make a second one.
//! Values and times that move with every evaluation stay in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::evaluate::{Standing, State, Tell};
use crate::model::TimeRange;

/// First part of the keys.
pub const KEY_PREFIX: &str = "alert/";
/// Version of the kept value.
pub const FORMAT_VERSION: u32 = 1;
/// Delivered notifications that are kept with an alert; those still pending are always kept.
pub const MAX_NOTIFICATIONS: usize = 10;

/// The fields of a group with their values, in the rule's order; empty for a rule without groups.
pub type Group = Vec<(String, String)>;

/// `service=payment, host=h1`; empty for a rule without groups.
pub fn group_key(group: &[(String, String)]) -> String {
    let parts: Vec<String> = group.iter().map(|(field, value)| format!("{field}={value}")).collect();
    parts.join(", ")
}

/// An alert's name in addresses: its rule, made plain, and a hash of rule and group.
pub fn alert_id(rule: &str, group: &[(String, String)]) -> String {
    let mut plain: String = rule
        .chars()
        .take(48)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    plain.truncate(plain.trim_end_matches('-').len());
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{rule}\0{}", group_key(group)).as_bytes());
    format!("{plain}-{hash:016x}")
}

/// One alert.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Alert {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// The rule's name.
    pub rule: String,
    /// The group.
    pub group: Group,
    /// Where it stands.
    pub standing: Standing,
    /// What was compared last.
    pub value: Option<f64>,
    /// With what.
    pub threshold: Option<f64>,
    /// The last verdict in words.
    pub summary: String,
    /// Why it was or was not told.
    pub reason: String,
    /// The window that was counted; of a firing alert, from the one in which it fired to the last; of a resolved one, as
    /// it was.
    pub window: Option<TimeRange>,
    /// Rows of that window, newest first, as the API shows hits; frozen when it fires.
    pub samples: Vec<serde_json::Value>,
    /// Oldest first.
    pub notifications: Vec<Notification>,
    /// When it was last evaluated.
    #[serde(skip)]
    pub last_evaluated_nanos: Option<i64>,
    /// When an evaluation was last written to the `alerts` table.
    #[serde(skip)]
    pub recorded_at_nanos: Option<i64>,
}

impl Alert {
    /// An alert that nothing is known of yet.
    pub fn new(rule: &str, group: Group) -> Self {
        Self {
            version: FORMAT_VERSION,
            rule: rule.to_string(),
            group,
            standing: Standing::default(),
            value: None,
            threshold: None,
            summary: String::new(),
            reason: String::new(),
            window: None,
            samples: Vec::new(),
            notifications: Vec::new(),
            last_evaluated_nanos: None,
            recorded_at_nanos: None,
        }
    }

    /// See [`alert_id`].
    pub fn id(&self) -> String {
        alert_id(&self.rule, &self.group)
    }

    /// See [`group_key`].
    pub fn group_key(&self) -> String {
        group_key(&self.group)
    }

    /// Where it is kept.
    pub fn key(&self) -> String {
        format!("{KEY_PREFIX}{}\0{}", self.rule, self.group_key())
    }

    /// What is kept.
    pub fn encode(&self) -> Bytes {
        // strings, numbers and lists: JSON has a form for all of them; a NaN becomes null and reads back as no value
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what was kept.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Whether something is still to be delivered.
    pub fn has_pending(&self) -> bool {
        self.notifications.iter().any(|notification| notification.status == Status::Pending)
    }

    /// Adds a notification; the oldest finished ones beyond [`MAX_NOTIFICATIONS`] go.
    pub fn tell(&mut self, notification: Notification) {
        self.notifications.push(notification);
        while self.notifications.len() > MAX_NOTIFICATIONS {
            let Some(oldest) = self.notifications.iter().position(|n| n.status != Status::Pending) else {
                break;
            };
            self.notifications.remove(oldest);
        }
    }

    /// Whether it must be kept for people or for a later evaluation.
    pub fn is_worth_keeping(&self, now_nanos: i64, keep_resolved_nanos: i64) -> bool {
        match self.standing.state {
            State::Pending | State::Firing => true,
            _ if self.has_pending() => true,
            // an alert that fired is shown for a while, and its `realert` must be known
            _ => self.standing.fired_at_nanos.is_some_and(|_| {
                let last = self.standing.resolved_at_nanos.max(self.standing.notified_at_nanos).unwrap_or(0);
                now_nanos.saturating_sub(last) < keep_resolved_nanos
            }),
        }
    }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// To be sent, or to be tried again.
    Pending,
    /// The target has it.
    Delivered,
    /// Given up; the error says why.
    Failed,
}

/// Something told to a target, or still to be told.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notification {
    /// Stable over retries and restarts; receivers may use it to drop a repeated delivery.
    pub id: String,
    /// What it says.
    pub tell: Tell,
    /// When it was decided.
    pub created_at_nanos: i64,
    /// `sns` or `local`.
    pub channel: String,
    /// The topic's ARN, or `local`.
    pub target: String,
    /// One line.
    pub subject: String,
    /// The text.
    pub message: String,
    /// Message attributes.
    pub attributes: Vec<(String, String)>,
    /// Where it stands.
    pub status: Status,
    /// Deliveries tried.
    pub attempts: u32,
    /// Not to be tried before.
    pub next_attempt_nanos: i64,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When the target took it.
    pub delivered_at_nanos: Option<i64>,
    /// The target's own ID for it.
    pub message_id: Option<String>,
}

/// Why a value could not be kept.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the alert's state could not be kept: {0}")]
pub struct StoreError(pub String);

/// A boxed future, so that the store can be a trait object.
pub type StoreFuture<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// Small values that survive a crash; the write path has one, tests have [`MemoryStore`].
pub trait StateStore: Send + Sync + 'static {
    /// Keeps a value, or with `None` forgets it. When it returns `Ok`, a crash does not undo it. Puts to one key are
    /// made one after the other by the caller.
    fn put(&self, key: String, value: Option<Bytes>) -> StoreFuture<'_>;

    /// All kept values whose key begins with `prefix`; while another node leads, that node's.
    fn list(&self, prefix: &str) -> Vec<(String, Bytes)>;

    /// Brings what was put to where another node that takes over finds it, and says whether this node may still tell
    /// people. Bounded by a few seconds.
    fn may_tell(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(true))
    }
}

/// A store that survives as long as it is held; for tests. It can be told to refuse.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    values: Arc<Mutex<BTreeMap<String, Bytes>>>,
    refuses: Arc<RwLock<bool>>,
}

impl MemoryStore {
    /// Makes every later put fail, or work again.
    pub fn refuse(&self, refuses: bool) {
        *self.refuses.write() = refuses;
    }
}

impl StateStore for MemoryStore {
    fn put(&self, key: String, value: Option<Bytes>) -> StoreFuture<'_> {
        let result = if *self.refuses.read() {
            Err(StoreError("told to refuse".into()))
        } else {
            let mut values = self.values.lock();
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
            Ok(())
        };
        Box::pin(std::future::ready(result))
    }

    fn list(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let values = self.values.lock();
        let found = values.iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(id: usize, status: Status) -> Notification {
        Notification {
            id: id.to_string(),
            tell: Tell::Firing,
            created_at_nanos: 1,
            channel: "local".into(),
            target: "local".into(),
            subject: "s".into(),
            message: "m".into(),
            attributes: vec![],
            status,
            attempts: 0,
            next_attempt_nanos: 0,
            error: None,
            delivered_at_nanos: None,
            message_id: None,
        }
    }

    #[test]
    fn an_alert_reads_back_as_it_was_kept() {
        let mut alert = Alert::new("r", vec![("service".into(), "päy\"ment".into())]);
        alert.value = Some(1.5);
        alert.samples = vec![serde_json::json!({"body": "x"})];
        alert.tell(notification(1, Status::Pending));
        assert_eq!(Alert::decode(&alert.encode()).expect("reads back"), alert);
        alert.value = Some(f64::NAN);
        assert_eq!(Alert::decode(&alert.encode()).expect("reads back").value, None);
        assert!(Alert::decode(b"{}").is_err());
    }

    #[test]
    fn ids_differ_by_rule_and_group_and_are_plain() {
        let group = |value: &str| vec![("service".to_string(), value.to_string())];
        let id = alert_id("Payment errors / EU", &group("a"));
        assert!(id.starts_with("payment-errors---eu-"), "{id}");
        assert_ne!(id, alert_id("Payment errors / EU", &group("b")));
        assert_eq!(id, alert_id("Payment errors / EU", &group("a")));
        assert!(alert_id("äöü", &[]).bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    }

    #[test]
    fn pending_notifications_outlive_finished_ones() {
        let mut alert = Alert::new("r", vec![]);
        alert.tell(notification(0, Status::Pending));
        (1..30).for_each(|id| alert.tell(notification(id, Status::Delivered)));
        assert_eq!(alert.notifications.len(), MAX_NOTIFICATIONS);
        assert!(alert.has_pending());
        (30..60).for_each(|id| alert.tell(notification(id, Status::Pending)));
        assert_eq!(alert.notifications.iter().filter(|n| n.status == Status::Pending).count(), 31);
    }
}
