use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::AsArray;

use super::book::{Book, Parts};
use super::evaluate::State;
use super::notify::{Channel, LocalChannel, SendError};
use super::rule::{self, Rule};
use super::state::{MemoryStore, Status};
use super::testing::{FakeEngine, FakeSns, KeepRows};
use super::{Alerting, Options};
use crate::model::{Clock, ManualClock};

const SECOND: i64 = 1_000_000_000;

/// A house around the book, which may be torn down and built again over the same store.
struct House {
    engine: Arc<FakeEngine>,
    store: MemoryStore,
    sns: Arc<FakeSns>,
    clock: Arc<ManualClock>,
    written: Arc<KeepRows>,
    rules: Vec<Rule>,
    book: Arc<Book>,
}

fn rule_of(more: &str) -> Rule {
    let text = format!("query: x\ntimeframe: 1m\nnotify: {{sns: {{topic_arn: 'arn:aws:sns:us-east-1:1:oncall'}}}}\n{more}\n");
    rule::parse("r.yaml", &text, &|_, _| Ok(())).expect("a rule")
}

fn payment() -> Rule {
    rule_of("name: payment\ntype: frequency\nnum_events: 3\nquery_key: service\nrealert: 5m")
}

impl House {
    fn new(rules: Vec<Rule>) -> Self {
        Self::with(rules, true)
    }

    fn with(rules: Vec<Rule>, has_sns: bool) -> Self {
        let engine = Arc::new(FakeEngine::default());
        let store = MemoryStore::default();
        let sns = Arc::new(FakeSns::default());
        let clock = Arc::new(ManualClock::new(1_000 * SECOND));
        let written = Arc::new(KeepRows::default());
        let mut channels: Vec<Arc<dyn Channel>> = vec![Arc::new(LocalChannel)];
        if has_sns {
            channels.push(sns.clone());
        }
        let parts = Parts {
            questions: engine.clone(),
            store: Arc::new(store.clone()),
            sink: written.clone(),
            channels,
            clock: clock.clone(),
            duty: super::testing::on_duty(),
        };
        let book = Arc::new(Book::new(Options::default(), rules.clone(), parts));
        Self {
            engine,
            store,
            sns,
            clock,
            written,
            rules,
            book,
        }
    }

    fn parts(&self) -> Parts {
        Parts {
            questions: self.engine.clone(),
            store: Arc::new(self.store.clone()),
            sink: self.written.clone(),
            channels: vec![Arc::new(LocalChannel), self.sns.clone()],
            clock: self.clock.clone(),
            duty: super::testing::on_duty(),
        }
    }

    /// As after `kill -9`: all that is not in the store is gone.
    fn restart(&mut self) {
        self.book = Arc::new(Book::new(Options::default(), self.rules.clone(), self.parts()));
    }

    fn now(&self) -> i64 {
        self.clock.now_nanos() / SECOND
    }

    /// Events of a service in the last seconds.
    fn happen(&self, service: &str, count: i64) {
        let rows: Vec<i64> = (0..count).map(|_| self.now() - 1).collect();
        self.engine.rows(service, &rows);
    }

    async fn evaluate(&self) {
        for (number, _) in self.book.enabled_rules() {
            self.book.evaluate(number).await;
        }
    }

    /// One round of deliveries.
    async fn deliver(&self) {
        let (deliverable, _) = self.book.deliverable(&HashSet::new());
        for (entry, notification) in deliverable {
            self.book.deliver(&entry, &notification).await;
        }
    }

    async fn pass(&self, seconds: i64) {
        self.clock.advance(seconds * SECOND);
        self.evaluate().await;
        self.deliver().await;
    }

    fn state(&self, group: &str) -> Option<State> {
        self.book.alerts().iter().find(|alert| alert.group_key == group).map(|alert| alert.state)
    }
}

#[tokio::test]
async fn one_alert_a_group_is_told_once_within_realert_and_once_when_it_ends() {
    let house = House::new(vec![payment()]);
    house.happen("payment", 5);
    house.happen("cart", 2);
    house.pass(0).await;
    assert_eq!(house.state("service=payment"), Some(State::Firing));
    assert_eq!(house.state("service=cart"), None, "a quiet group is no alert");
    for _ in 0..5 {
        house.happen("payment", 5);
        house.pass(20).await;
    }
    assert_eq!(house.sns.subjects(), ["[FIRING] payment (service=payment)"]);
    house.pass(61).await;
    assert_eq!(house.state("service=payment"), Some(State::Resolved));
    assert_eq!(house.sns.subjects().len(), 2);
    let taken = house.sns.taken.lock();
    assert!(taken[0].message.contains("payment declined") && taken[0].message.contains("/ui/trace?id=5759e988bd862e3fe1be46a994272793"));
    assert!(taken[1].subject.starts_with("[RESOLVED]"));
    assert_eq!(taken[0].target, "arn:aws:sns:us-east-1:1:oncall");
}

#[tokio::test]
async fn a_restart_at_any_point_neither_repeats_nor_forgets() {
    // restarts after each step in turn: evaluated, delivered, evaluated again, resolved
    for restart_at in 0..6 {
        let mut house = House::new(vec![payment()]);
        let mut step = 0;
        let mut maybe = |house: &mut House| {
            if step == restart_at {
                house.restart();
            }
            step += 1;
        };
        house.happen("payment", 5);
        house.evaluate().await;
        maybe(&mut house);
        house.deliver().await;
        maybe(&mut house);
        house.clock.advance(5 * SECOND);
        house.evaluate().await;
        maybe(&mut house);
        house.deliver().await;
        maybe(&mut house);
        house.clock.advance(120 * SECOND);
        house.evaluate().await;
        maybe(&mut house);
        house.deliver().await;
        maybe(&mut house);
        house.evaluate().await;
        house.deliver().await;
        assert_eq!(
            house.sns.subjects(),
            ["[FIRING] payment (service=payment)", "[RESOLVED] payment (service=payment)"],
            "restart after step {restart_at}"
        );
    }
}

#[tokio::test]
async fn a_crash_between_the_targets_yes_and_keeping_it_sends_the_same_id_again() {
    let mut house = House::new(vec![payment()]);
    house.happen("payment", 5);
    house.evaluate().await;
    house.store.refuse(true);
    house.deliver().await;
    house.deliver().await;
    assert_eq!(house.sns.taken.lock().len(), 1, "this process knows that it was sent");
    house.store.refuse(false);
    house.restart();
    house.deliver().await;
    let taken = house.sns.taken.lock();
    assert_eq!((taken.len(), &taken[0].id), (2, &taken[1].id));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_told_until_it_can() {
    let house = House::new(vec![payment()]);
    house.happen("payment", 5);
    house.store.refuse(true);
    house.pass(0).await;
    assert!(house.sns.taken.lock().is_empty());
    assert!(house.book.rules()[0].error.as_deref().is_some_and(|error| error.contains("could not be kept")));
    house.store.refuse(false);
    house.pass(5).await;
    assert_eq!(house.sns.taken.lock().len(), 1);
    assert_eq!(house.book.rules()[0].error, None);
}

#[tokio::test]
async fn for_keeps_an_alert_pending_over_a_restart() {
    let mut house = House::new(vec![rule_of("name: r\ntype: frequency\nnum_events: 1\nfor: 30s")]);
    house.happen("a", 1);
    house.pass(0).await;
    assert_eq!(house.state(""), Some(State::Pending));
    house.restart();
    assert_eq!(house.state(""), Some(State::Pending));
    house.pass(29).await;
    assert!(house.sns.taken.lock().is_empty());
    house.pass(1).await;
    assert_eq!(house.state(""), Some(State::Firing));
    assert_eq!(house.sns.taken.lock().len(), 1);
}

#[tokio::test]
async fn an_engine_that_fails_or_cannot_read_all_resolves_nothing() {
    let house = House::new(vec![payment()]);
    house.happen("payment", 5);
    house.pass(0).await;
    *house.engine.fails.lock() = true;
    house.pass(120).await;
    assert_eq!(house.state("service=payment"), Some(State::Firing));
    assert_eq!(house.book.alerts()[0].error.as_deref(), Some("the engine is away"));
    *house.engine.fails.lock() = false;
    *house.engine.incomplete.lock() = true;
    house.pass(5).await;
    assert_eq!(house.state("service=payment"), Some(State::Firing));
    *house.engine.incomplete.lock() = false;
    house.pass(5).await;
    assert_eq!(house.state("service=payment"), Some(State::Resolved));
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_and_order_is_kept() {
    let house = House::new(vec![payment()]);
    let busy = SendError {
        message: "Throttling: slow down".into(),
        retry_may_help: true,
    };
    *house.sns.errors.lock() = vec![busy.clone(), busy];
    house.happen("payment", 5);
    house.pass(0).await;
    house.clock.advance(120 * SECOND);
    // resolved by now, but "firing" is still to be told and comes first; its second try fails too
    house.evaluate().await;
    house.deliver().await;
    let alert = house.book.alerts().remove(0);
    let newest_first: Vec<(&str, Status, u32)> = alert.notifications.iter().map(|n| (n.state, n.status, n.attempts)).collect();
    assert_eq!(newest_first, [("resolved", Status::Pending, 0), ("firing", Status::Pending, 2)]);
    assert_eq!(alert.notifications[1].error.as_deref(), Some("Throttling: slow down"));
    house.deliver().await;
    assert!(house.sns.taken.lock().is_empty(), "its time has not come");
    house.pass(3).await;
    house.pass(0).await;
    assert_eq!(
        house.sns.subjects(),
        ["[FIRING] payment (service=payment)", "[RESOLVED] payment (service=payment)"]
    );
}

#[tokio::test]
async fn without_sns_notifications_are_local_and_handed_to_subscribers() {
    let house = House::with(vec![payment()], false);
    let mut told = house.book.subscribe();
    house.happen("payment", 5);
    house.pass(0).await;
    let notification = told.try_recv().expect("told");
    assert_eq!((notification.channel.as_str(), notification.target.as_str()), ("local", "local"));
    let listed = house.book.notifications(10);
    assert_eq!((listed.len(), listed[0].status), (1, Status::Delivered));
    assert!(listed[0].message.as_deref().is_some_and(|text| text.contains("FIRING: payment")));
}

#[tokio::test]
async fn metric_thresholds_fire_and_resolve() {
    let text = "name: q\ntype: threshold\ntimeframe: 1m\nmetric: {name: depth, aggregation: max}\nabove: 100\nfor: 10s\n";
    let house = House::new(vec![rule::parse("r.yaml", text, &|_, _| Ok(())).expect("a rule")]);
    let mut states = Vec::new();
    for value in [None, Some(50.0), Some(101.0), Some(102.0), Some(103.0), None] {
        *house.engine.metric.lock() = value;
        house.pass(5).await;
        states.push(house.state("").expect("an alert"));
    }
    use State::{Firing, Inactive, Pending, Resolved};
    assert_eq!(states, [Inactive, Inactive, Pending, Pending, Firing, Resolved]);
    assert_eq!(house.book.notifications(10).len(), 2);
}

#[tokio::test]
async fn evaluations_are_written_at_changes_and_once_a_minute() {
    let house = House::new(vec![payment()]);
    for _ in 0..30 {
        house.happen("payment", 3);
        house.pass(5).await;
    }
    let states: Vec<String> = {
        let written = house.written.0.lock();
        let text = |rows: &crate::model::Rows| rows.batch().column_by_name("state").expect("a column").as_string::<i32>().value(0).to_string();
        written.iter().map(text).collect()
    };
    assert_eq!(states, ["firing", "firing", "firing"], "fired, and after one and two minutes");
}

#[tokio::test]
async fn old_resolved_alerts_are_forgotten_everywhere() {
    let house = House::new(vec![payment()]);
    house.happen("payment", 5);
    house.pass(0).await;
    house.pass(120).await;
    house.pass(3_600).await;
    assert_eq!(house.state("service=payment"), Some(State::Resolved));
    house.pass(86_400).await;
    assert_eq!(house.state("service=payment"), None);
    assert!(super::state::StateStore::list(&house.store, "").is_empty());
}

#[tokio::test]
async fn alerts_of_rules_that_are_gone_stay_for_a_day() {
    let mut house = House::new(vec![payment()]);
    house.happen("payment", 5);
    house.pass(0).await;
    house.rules.clear();
    house.restart();
    house.book.forget_orphans().await;
    assert!(house.book.alerts()[0].error.as_deref().is_some_and(|error| error.contains("no longer loaded")));
    house.clock.advance(90_000 * SECOND);
    house.book.forget_orphans().await;
    assert!(house.book.alerts().is_empty());
}

#[tokio::test]
async fn the_answers_have_the_documented_shape() {
    let house = House::new(vec![payment()]);
    house.happen("payment", 5);
    house.pass(0).await;
    let answer = serde_json::json!({"alerts": house.book.alerts(), "rules": house.book.rules()});
    let alert = &answer["alerts"][0];
    for field in [
        "id",
        "rule",
        "group_key",
        "state",
        "since_unix_nano",
        "value",
        "threshold",
        "summary",
        "query",
        "severity",
        "last_evaluated_unix_nano",
        "fired_at_unix_nano",
        "resolved_at_unix_nano",
        "link",
        "notifications",
        "samples",
        "error",
    ] {
        assert!(alert.get(field).is_some(), "{field}");
    }
    assert_eq!(
        (alert["state"].as_str(), alert["since_unix_nano"].as_str()),
        (Some("firing"), Some("1000000000000"))
    );
    for field in ["time_unix_nano", "channel", "target", "subject", "status", "attempts", "error"] {
        assert!(alert["notifications"][0].get(field).is_some(), "{field}");
    }
    for field in ["name", "type", "query", "interval", "every", "error"] {
        assert!(answer["rules"][0].get(field).is_some(), "{field}");
    }
    let id = alert["id"].as_str().expect("an ID");
    assert_eq!(house.book.alert(id).map(|alert| alert.rule), Some("payment".into()));
    assert!(house.book.alert("nonsense").is_none());
}

/// The whole service with its loops, in real time: a target that hangs holds up nobody.
#[tokio::test]
async fn a_target_that_hangs_holds_up_neither_rules_nor_other_targets() {
    let hanging = "name: a\ntype: frequency\nquery: x\ntimeframe: 1m\nevery: 1s\nnum_events: 1\nnotify: {sns: {topic_arn: 'arn:aws:sns:r:1:hangs'}}";
    let rules = vec![
        rule::parse("a.yaml", hanging, &|_, _| Ok(())).expect("a rule"),
        rule_of("name: payment\ntype: frequency\nnum_events: 3\nquery_key: service\nevery: 1s"),
    ];
    let house = House::new(rules.clone());
    *house.sns.hangs.lock() = Some("arn:aws:sns:r:1:hangs".into());
    house.happen("payment", 5);
    let service = Alerting::new(Options::default(), rules, house.parts());
    let handle = service.handle();
    let running = tokio::spawn(async move { service.run(tokio_util::sync::CancellationToken::new()).await });
    let is_told = |rule: &str, status: Status| handle.notifications(10).iter().any(|n| n.rule == rule && n.status == status);
    let arrived = async {
        while !is_told("payment", Status::Delivered) || !is_told("a", Status::Pending) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), arrived)
        .await
        .expect("the other target is told");
    assert_eq!(handle.rules().iter().filter(|rule| rule.last_evaluated_unix_nano.is_some()).count(), 2);
    running.abort();
}

/// Stopping ends the loops; what is under way is waited for.
#[tokio::test]
async fn the_service_stops_when_told() {
    let house = House::new(vec![payment()]);
    let service = Alerting::new(Options::default(), house.rules.clone(), house.parts());
    let stop = tokio_util::sync::CancellationToken::new();
    let until = stop.clone();
    let running = tokio::spawn(async move { service.run(until).await });
    stop.cancel();
    running.await.expect("ends");
}
