//! All alerts and what has to happen to them: one evaluation of a rule, one delivery of a notification.
//!
//! The loops that call these at the right time are in [`super::service`]; nothing here waits for time to pass, so tests
//! drive it with a clock of their own.
//!
//! Who may change an alert: an evaluation and a delivery may meet on one. Each holds the alert's `writing` lock from
//! reading it to having kept it durably, so that puts of one key happen one after the other; readers (the API) look at the
//! last version that is durable.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parking_lot::RwLock;
use tokio::sync::{Mutex, Notify, broadcast, watch};
use tracing::{error, warn};

use super::Options;
use super::answer::{AlertAnswer, NotificationAnswer, RuleAnswer, urgency};
use super::evaluate::{self, Observation, State, Window, judge, nanos, step};
use super::message;
use super::metrics;
use super::notify::{Channel, SendError};
use super::observe::{MAX_GROUPS, Observed, Questions, group_query, observe};
use super::outbox;
use super::rows::{Evaluation, EvaluationSink, ROW_EVERY_NANOS, rows};
use super::rule::{Rule, Source};
use super::state::{Alert, Group, KEY_PREFIX, Notification, StateStore, Status, StoreError};
use crate::ingest::Duty;
use crate::model::{Clock, TimeRange};

/// Alerts of one rule whose state is kept at the same time; more would only queue up at the log's group commit.
const KEPT_AT_ONCE: usize = 16;
/// Before an alert is looked at again that another node is to tell: by then this one will have heard that it does not lead.
const NOT_OURS_PAUSE: Duration = Duration::from_secs(1);
/// Notifications that a slow subscriber may lag behind.
const TOLD_BUFFER: usize = 64;

/// What the book needs from the rest of the house.
pub struct Parts {
    /// Answers rules' questions.
    pub questions: Arc<dyn Questions>,
    /// Keeps states.
    pub store: Arc<dyn StateStore>,
    /// Takes evaluations.
    pub sink: Arc<dyn EvaluationSink>,
    /// Ways to tell; without one called `sns`, everything is told locally.
    pub channels: Vec<Arc<dyn Channel>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether it is this node that evaluates and tells.
    pub duty: watch::Receiver<Duty>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let channels: Vec<&str> = self.channels.iter().map(|channel| channel.name()).collect();
        f.debug_struct("Parts").field("channels", &channels).finish_non_exhaustive()
    }
}

/// One alert in memory.
#[derive(Debug)]
pub(super) struct Entry {
    /// Held while the alert is changed and kept.
    writing: Mutex<()>,
    /// The last kept version, with values of the last evaluation.
    alert: RwLock<Alert>,
}

impl Entry {
    fn new(alert: Alert) -> Arc<Self> {
        Arc::new(Self {
            writing: Mutex::new(()),
            alert: RwLock::new(alert),
        })
    }
}

/// How a rule's last evaluation went.
#[derive(Clone, Debug, Default)]
struct RuleStatus {
    last_evaluated_nanos: Option<i64>,
    error: Option<String>,
}

/// A rule and how it goes.
#[derive(Debug)]
struct RuleEntry {
    rule: Rule,
    status: RwLock<RuleStatus>,
}

/// All rules and alerts.
#[derive(Debug)]
pub(super) struct Book {
    options: Options,
    parts: Parts,
    rules: Vec<RuleEntry>,
    alerts: RwLock<BTreeMap<(String, Group), Arc<Entry>>>,
    /// Rung when something is to be delivered.
    pub(super) due: Notify,
    told: broadcast::Sender<Notification>,
}

impl Book {
    /// Reads back what was kept. A value that cannot be read is reported and left where it is.
    pub(super) fn new(options: Options, mut rules: Vec<Rule>, parts: Parts) -> Self {
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        let rules = rules.into_iter().map(|rule| RuleEntry {
            rule,
            status: RwLock::default(),
        });
        let book = Self {
            options,
            parts,
            rules: rules.collect(),
            alerts: RwLock::default(),
            due: Notify::new(),
            told: broadcast::channel(TOLD_BUFFER).0,
        };
        book.read_back();
        book
    }

    /// Reads what was kept: this node's own, or the leader's. Nothing may be evaluated or delivered meanwhile.
    pub(super) fn read_back(&self) {
        let now = self.now();
        let mut alerts = BTreeMap::new();
        for (key, value) in self.parts.store.list(KEY_PREFIX) {
            match Alert::decode(&value) {
                Ok(mut alert) => {
                    alert.standing = alert.standing.restored(now);
                    alerts.insert((alert.rule.clone(), alert.group.clone()), Entry::new(alert));
                }
                Err(error) => warn!(key, %error, "a kept alert cannot be read"),
            }
        }
        *self.alerts.write() = alerts;
    }

    /// Whether it is this node that evaluates and tells, and changes of that.
    pub(super) fn duty(&self) -> watch::Receiver<Duty> {
        self.parts.duty.clone()
    }

    /// Drops what was kept for rules that are gone or disabled, once it is old. Until then it is listed with that error:
    /// a rule file that was broken for an hour must not make its alerts fire anew.
    pub(super) async fn forget_orphans(&self) {
        let now = self.now();
        let keep_for = nanos(self.options.keep_resolved());
        let all: Vec<((String, Group), Arc<Entry>)> = self.alerts.read().iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        for (key, entry) in all {
            if self.rules.iter().any(|rule| rule.rule.enabled && rule.rule.name == key.0) {
                continue;
            }
            let _writing = entry.writing.lock().await;
            let (is_old, kept_as) = {
                let alert = entry.alert.read();
                let last = alert.standing.since_nanos.max(alert.standing.notified_at_nanos.unwrap_or(0));
                (!alert.has_pending() && now.saturating_sub(last) >= keep_for, alert.key())
            };
            if is_old && self.parts.store.put(kept_as, None).await.is_ok() {
                self.alerts.write().remove(&key);
            }
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.parts.clock.now_nanos()
    }

    /// The rules that are to be evaluated, by number.
    pub(super) fn enabled_rules(&self) -> Vec<(usize, Duration)> {
        let enabled = self.rules.iter().enumerate().filter(|(_, entry)| entry.rule.enabled);
        enabled.map(|(number, entry)| (number, entry.rule.every)).collect()
    }

    /// Every notification from now on, as soon as its target has it.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Notification> {
        self.told.subscribe()
    }

    // --- evaluation -------------------------------------------------------------------------------------------------

    /// Evaluates one rule now. Failures are kept on the rule, counted, and change no alert.
    pub(super) async fn evaluate(&self, number: usize) {
        let Some(entry) = self.rules.get(number) else {
            return;
        };
        let started = std::time::Instant::now();
        let now = self.now();
        let outcome = tokio::time::timeout(self.options.evaluation_timeout(), self.observe(&entry.rule, now)).await;
        let outcome = match outcome {
            Ok(Ok((window, observed))) => self.apply_all(&entry.rule, &window, &observed, now).await,
            Ok(Err(message)) => Err(message),
            Err(_) => Err(format!("no answer within {} s", self.options.evaluation_timeout_seconds)),
        };
        metrics::evaluated(outcome.is_ok(), started.elapsed().as_secs_f64());
        let mut status = entry.status.write();
        let failed_before = status.error.is_some();
        match outcome {
            Ok(note) => {
                status.last_evaluated_nanos = Some(now);
                status.error = note;
            }
            Err(message) => {
                if !failed_before {
                    // once when it begins, not every few seconds
                    warn!(rule = entry.rule.name, error = message, "a rule could not be evaluated");
                }
                status.error = Some(message);
            }
        }
    }

    /// An evaluation panicked: its rule says so until one succeeds.
    pub(super) fn note_panic(&self, number: usize, panic: &str) {
        if let Some(entry) = self.rules.get(number) {
            entry.status.write().error = Some(format!("the evaluation panicked: {panic}"));
        }
    }

    async fn observe(&self, rule: &Rule, now: i64) -> Result<(Window, Observed), String> {
        // rows that other nodes took are seen later
        let lag = self.parts.duty.borrow().lag;
        let window = evaluate::window(rule, now, lag);
        let known: Vec<Group> = self
            .entries_of(&rule.name)
            .into_iter()
            .filter(|(_, entry)| matches!(entry.alert.read().standing.state, State::Pending | State::Firing))
            .map(|(group, _)| group)
            .collect();
        let observed = observe(self.parts.questions.as_ref(), rule, &window, &known).await;
        observed.map(|observed| (window, observed)).map_err(|error| error.to_string())
    }

    /// Takes every group one step further; gives a note for people if not all could be looked at.
    async fn apply_all(&self, rule: &Rule, window: &Window, observed: &Observed, now: i64) -> Result<Option<String>, String> {
        let highest = observed
            .groups
            .iter()
            .max_by(|a, b| a.1.current.unwrap_or(f64::MIN).total_cmp(&b.1.current.unwrap_or(f64::MIN)));
        let highest = highest.map(|(group, _)| group);
        let steps: Vec<BoxFuture<'_, Result<Option<Evaluation>, StoreError>>> = observed
            .groups
            .iter()
            .map(|(group, seen)| self.apply(rule, window, group, seen, now, highest == Some(group)).boxed())
            .collect();
        let results: Vec<_> = futures::stream::iter(steps).buffer_unordered(KEPT_AT_ONCE).collect().await;
        self.forget_old(rule, now).await;
        let mut evaluations = Vec::new();
        let mut failure = None;
        for result in results {
            match result {
                Ok(evaluation) => evaluations.extend(evaluation),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        self.record(&evaluations).await;
        match failure {
            Some(message) => Err(message),
            None if observed.truncated => Ok(Some(format!("more than {MAX_GROUPS} groups: the rest is not evaluated"))),
            None if observed.groups.values().any(|seen| !seen.complete) => Ok(Some("not all data could be read".into())),
            None => Ok(None),
        }
    }

    async fn apply(
        &self,
        rule: &Rule,
        window: &Window,
        group: &Group,
        seen: &Observation,
        now: i64,
        is_highest: bool,
    ) -> Result<Option<Evaluation>, StoreError> {
        let verdict = judge(rule, seen);
        let key = (rule.name.clone(), group.clone());
        let known = self.alerts.read().get(&key).cloned();
        let entry = match known {
            Some(entry) => entry,
            // quiet groups need no alert, only perhaps a row of the table
            None if verdict.outcome != evaluate::Outcome::Met && !group.is_empty() && !is_highest => return Ok(None),
            None => {
                let mut alert = Alert::new(&rule.name, group.clone());
                alert.standing.since_nanos = now;
                self.alerts.write().entry(key).or_insert_with(|| Entry::new(alert)).clone()
            }
        };
        let _writing = entry.writing.lock().await;
        let mut alert = entry.alert.read().clone();
        let step = step(rule, &alert.standing, verdict.outcome, now);
        alert.value = verdict.value;
        alert.threshold = verdict.threshold;
        alert.summary = verdict.text;
        alert.reason = step.reason;
        alert.last_evaluated_nanos = Some(now);
        let fires = step.changed && step.standing.state == State::Firing;
        alert.window = match (step.standing.state, alert.window) {
            // the page of a long alert shows its rows from the first that counted
            (State::Firing, Some(first)) if !fires => Some(TimeRange::new(first.start_nanos, window.current.end_nanos)),
            (State::Resolved, first) => first,
            _ => Some(window.current),
        };
        alert.standing = step.standing;
        if fires || step.tell == Some(evaluate::Tell::Firing) {
            alert.samples = self.samples(rule, window, group).await;
        }
        if let Some(tell) = step.tell {
            let mut notification = message::notification(rule, &alert, tell, now, &self.options.public_url);
            if self.channel(&notification.channel).is_none() {
                (notification.channel, notification.target) = ("local".into(), "local".into());
            }
            alert.tell(notification);
        }
        let due_row = alert.recorded_at_nanos.is_none_or(|last| now.saturating_sub(last) >= ROW_EVERY_NANOS);
        let is_active = matches!(alert.standing.state, State::Pending | State::Firing);
        let evaluation = (step.changed || step.tell.is_some() || (due_row && (is_active || is_highest))).then(|| Evaluation {
            time_unix_nano: now,
            rule: rule.name.clone(),
            group_key: alert.group_key(),
            state: alert.standing.state,
            value: alert.value,
            threshold: alert.threshold,
            window: window.current,
            notified: step.tell.is_some(),
            reason: format!("{}: {}", alert.summary, alert.reason),
            link: message::rows_path(rule, &alert),
        });
        if evaluation.is_some() {
            alert.recorded_at_nanos = Some(now);
        }
        if step.changed || step.tell.is_some() {
            // not kept: nothing has happened, and the next evaluation tries again
            self.keep(&alert, now).await?;
        }
        *entry.alert.write() = alert;
        if step.tell.is_some() {
            self.due.notify_one();
        }
        Ok(evaluation)
    }

    async fn samples(&self, rule: &Rule, window: &Window, group: &Group) -> Vec<serde_json::Value> {
        let Source::Rows { table, query } = &rule.source else {
            return Vec::new();
        };
        let query = group_query(query, group);
        match self.parts.questions.samples(*table, &query, window.current, message::MAX_SAMPLES).await {
            Ok(samples) => samples,
            Err(error) => {
                // better told without evidence than not told
                warn!(rule = rule.name, %error, "an alert has no sample rows");
                Vec::new()
            }
        }
    }

    async fn keep(&self, alert: &Alert, now: i64) -> Result<(), StoreError> {
        let worth_keeping = alert.is_worth_keeping(now, nanos(self.options.keep_resolved()).max(0));
        let value = worth_keeping.then(|| alert.encode());
        self.parts.store.put(alert.key(), value).await
    }

    /// Drops alerts of the rule that nobody needs any more; the one of a rule without groups stays for the list.
    async fn forget_old(&self, rule: &Rule, now: i64) {
        let keep_for = nanos(self.options.keep_resolved());
        for (group, entry) in self.entries_of(&rule.name) {
            let _writing = entry.writing.lock().await;
            let (is_old, was_kept, key) = {
                let alert = entry.alert.read();
                let evaluated_now = alert.last_evaluated_nanos == Some(now) && alert.standing.fired_at_nanos.is_none();
                let stays = alert.is_worth_keeping(now, keep_for) || (group.is_empty() && rule.group_by.is_empty()) || evaluated_now;
                (!stays, alert.standing.fired_at_nanos.is_some(), alert.key())
            };
            if !is_old {
                continue;
            }
            if was_kept && self.parts.store.put(key, None).await.is_err() {
                continue;
            }
            self.alerts.write().remove(&(rule.name.clone(), group));
        }
    }

    async fn record(&self, evaluations: &[Evaluation]) {
        if evaluations.is_empty() {
            return;
        }
        let written = match rows(evaluations) {
            Ok(rows) => self.parts.sink.write(rows).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(message) = written {
            metrics::rows_dropped(evaluations.len());
            warn!(error = message, rows = evaluations.len(), "evaluations were not written");
        }
    }

    fn entries_of(&self, rule: &str) -> Vec<(Group, Arc<Entry>)> {
        let alerts = self.alerts.read();
        let of_rule = alerts.range((rule.to_string(), Group::new())..).take_while(|((name, _), _)| name == rule);
        of_rule.map(|((_, group), entry)| (group.clone(), entry.clone())).collect()
    }

    // --- delivery ---------------------------------------------------------------------------------------------------

    fn channel(&self, name: &str) -> Option<&Arc<dyn Channel>> {
        self.parts.channels.iter().find(|channel| channel.name() == name)
    }

    /// What may be sent now: per alert its oldest pending notification, per target one, none to targets in `busy`. Also
    /// says when to look again.
    pub(super) fn deliverable(&self, busy: &HashSet<String>) -> (Vec<(Arc<Entry>, Notification)>, Option<i64>) {
        let now = self.now();
        let mut waiting: Vec<(Arc<Entry>, Notification)> = Vec::new();
        for entry in self.alerts.read().values() {
            let alert = entry.alert.read();
            if let Some(oldest) = alert.notifications.iter().find(|n| n.status == Status::Pending) {
                waiting.push((entry.clone(), oldest.clone()));
            }
        }
        waiting.sort_by_key(|(_, notification)| notification.created_at_nanos);
        let next = waiting.iter().map(|(_, n)| n.next_attempt_nanos).filter(|next| *next > now).min();
        let mut taken = busy.clone();
        waiting.retain(|(_, notification)| notification.next_attempt_nanos <= now && taken.insert(notification.target.clone()));
        (waiting, next)
    }

    /// Tries one delivery and keeps what came of it.
    pub(super) async fn deliver(&self, entry: &Entry, notification: &Notification) {
        // that it is to be told is known to whoever takes over; and nobody has
        if !self.parts.store.may_tell().await {
            warn!(notification = notification.id, "not told from here: another node leads");
            return tokio::time::sleep(NOT_OURS_PAUSE).await;
        }
        let sent = match self.channel(&notification.channel) {
            // twice the channel's own limit: it should end by itself, with a better message
            Some(channel) => match tokio::time::timeout(crate::aws::ATTEMPT_TIMEOUT * 2, channel.send(notification)).await {
                Ok(sent) => sent,
                Err(_) => Err(SendError {
                    message: "no answer".into(),
                    retry_may_help: true,
                }),
            },
            None => Err(SendError {
                message: format!("no channel {} is set up", notification.channel),
                retry_may_help: false,
            }),
        };
        let now = self.now();
        let writing = entry.writing.lock().await;
        let mut alert = entry.alert.read().clone();
        let Some(kept) = alert.notifications.iter_mut().find(|n| n.id == notification.id) else {
            return;
        };
        outbox::settle(kept, sent, now, rand::random_range(-1.0..=1.0));
        metrics::delivery(kept.status);
        match kept.status {
            Status::Delivered => {
                // without subscribers nobody is missed
                let _ = self.told.send(kept.clone());
            }
            Status::Failed => error!(alert = alert.rule, target = kept.target, error = kept.error, "a notification was given up"),
            Status::Pending => warn!(
                alert = alert.rule,
                target = kept.target,
                error = kept.error,
                "a notification was not delivered yet"
            ),
        }
        if let Err(error) = self.keep(&alert, now).await {
            // this process will not send it again; only a crash before the next change of this alert could
            warn!(alert = alert.rule, %error, "a delivery is not kept");
        }
        *entry.alert.write() = alert;
        drop(writing);
        // whoever takes over must not tell it again
        self.parts.store.may_tell().await;
    }

    // --- answers ----------------------------------------------------------------------------------------------------

    pub(super) fn alerts(&self) -> Vec<AlertAnswer> {
        let mut all: Vec<(Alert, AlertAnswer)> = self.snapshot().into_iter().map(|alert| (alert.clone(), self.answer(&alert))).collect();
        all.sort_by_key(|(alert, _)| (urgency(alert.standing.state), std::cmp::Reverse(alert.standing.since_nanos)));
        all.into_iter().map(|(_, answer)| answer).collect()
    }

    pub(super) fn alert(&self, id: &str) -> Option<AlertAnswer> {
        let found = self.snapshot().into_iter().find(|alert| alert.id() == id)?;
        Some(self.answer(&found))
    }

    pub(super) fn rules(&self) -> Vec<RuleAnswer> {
        let answer = |entry: &RuleEntry| {
            let status = entry.status.read().clone();
            RuleAnswer::new(&entry.rule, status.last_evaluated_nanos, status.error)
        };
        self.rules.iter().map(answer).collect()
    }

    pub(super) fn notifications(&self, limit: usize) -> Vec<NotificationAnswer> {
        let alerts = self.snapshot();
        let mut all: Vec<(&Alert, &Notification)> = alerts.iter().flat_map(|alert| alert.notifications.iter().map(move |n| (alert, n))).collect();
        all.sort_by_key(|(_, notification)| std::cmp::Reverse(notification.created_at_nanos));
        all.truncate(limit);
        all.into_iter().map(|(alert, n)| NotificationAnswer::new(alert, n, true)).collect()
    }

    /// All alerts; of grouped rules, only groups that are or were more than inactive.
    fn snapshot(&self) -> Vec<Alert> {
        let alerts = self.alerts.read();
        let shown = alerts.values().map(|entry| entry.alert.read().clone());
        shown
            .filter(|alert| alert.group.is_empty() || alert.standing.state != State::Inactive || alert.standing.fired_at_nanos.is_some())
            .collect()
    }

    fn answer(&self, alert: &Alert) -> AlertAnswer {
        let entry = self.rules.iter().find(|entry| entry.rule.name == alert.rule);
        let error = entry.and_then(|entry| entry.status.read().error.clone());
        AlertAnswer::new(alert, entry.map(|entry| &entry.rule), error)
    }
}
