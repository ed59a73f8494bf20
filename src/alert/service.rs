//! The loops: each rule at its own pace, and the outbox.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::answer::{AlertAnswer, NotificationAnswer, RuleAnswer};
use super::book::{Book, Parts};
use super::outbox::MAX_IN_FLIGHT;
use super::rule::Rule;
use super::state::Notification;
use crate::supervise::caught;

/// How often the outbox looks without being rung; a bound on how late a retry can be after the machine slept.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Evaluates rules and delivers notifications until it is told to stop.
#[derive(Debug)]
pub struct Alerting {
    book: Arc<Book>,
    max_concurrent: usize,
}

/// Asks the service; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    book: Arc<Book>,
}

impl Alerting {
    /// The service with its rules and the states that were kept. Nothing is evaluated or sent before [`Alerting::run`].
    pub fn new(options: Options, rules: Vec<Rule>, parts: Parts) -> Self {
        let max_concurrent = options.max_concurrent_evaluations.max(1);
        Self {
            book: Arc::new(Book::new(options, rules, parts)),
            max_concurrent,
        }
    }

    /// See [`Handle`].
    pub fn handle(&self) -> Handle {
        Handle { book: self.book.clone() }
    }

    /// Runs until `stop`; then waits for deliveries under way, so that what was sent is known as sent. Each ends within
    /// twice [`crate::aws::ATTEMPT_TIMEOUT`]. While another node leads nothing is evaluated or told here, and the
    /// leader's alerts are shown.
    pub async fn run(&self, stop: CancellationToken) {
        let mut duty = self.book.duty();
        loop {
            while !duty.borrow_and_update().is_ours {
                self.book.read_back();
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = duty.changed() => if changed.is_err() { return },
                }
            }
            let term = stop.child_token();
            let lost = async {
                // an error: nobody can take it from us any more
                if duty.wait_for(|duty| !duty.is_ours).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let serving = self.serve(term.clone());
            tokio::pin!(serving);
            tokio::select! {
                () = &mut serving => {}
                () = lost => {
                    term.cancel();
                    serving.await;
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }

    async fn serve(&self, stop: CancellationToken) {
        self.book.read_back();
        self.book.forget_orphans().await;
        let places = Arc::new(Semaphore::new(self.max_concurrent));
        let mut loops = JoinSet::new();
        for (number, every) in self.book.enabled_rules() {
            loops.spawn(evaluate_for_ever(self.book.clone(), number, every, places.clone(), stop.clone()));
        }
        deliver_until(self.book.clone(), &stop).await;
        while loops.join_next().await.is_some() {}
    }
}

async fn evaluate_for_ever(book: Arc<Book>, number: usize, every: Duration, places: Arc<Semaphore>, stop: CancellationToken) {
    // rules of one pace spread over it instead of asking all at once
    let first = tokio::time::Instant::now() + every.mul_f64(rand::random_range(0.0..1.0));
    let mut ticks = tokio::time::interval_at(first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Ok(_place) = places.acquire().await else {
            return;
        };
        // not cut short by `stop`, lest a state be half kept; it is bounded by its own timeout
        if let Err(panic) = caught("alert_rule", book.evaluate(number)).await {
            book.note_panic(number, &panic);
        }
    }
}

async fn deliver_until(book: Arc<Book>, stop: &CancellationToken) {
    let mut under_way: JoinSet<String> = JoinSet::new();
    let mut busy: HashSet<String> = HashSet::new();
    loop {
        let (deliverable, next) = book.deliverable(&busy);
        for (entry, notification) in deliverable {
            if under_way.len() >= MAX_IN_FLIGHT {
                break;
            }
            busy.insert(notification.target.clone());
            let book = book.clone();
            under_way.spawn(async move {
                // after a panic it is due again, at once or as the outbox says
                let delivered = caught("notification", book.deliver(&entry, &notification)).await;
                if delivered.is_err() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                notification.target
            });
        }
        let until_next = next.map_or(LOOK_EVERY, |next| Duration::from_nanos(next.saturating_sub(book.now()).max(0).unsigned_abs()));
        tokio::select! {
            () = stop.cancelled() => break,
            () = book.due.notified() => {}
            Some(Ok(target)) = under_way.join_next() => {
                busy.remove(&target);
            }
            () = tokio::time::sleep(until_next.min(LOOK_EVERY)) => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

impl Handle {
    /// All alerts: firing ones first, then pending, resolved, inactive; within a state the newest first.
    pub fn alerts(&self) -> Vec<AlertAnswer> {
        self.book.alerts()
    }

    /// One alert by its ID.
    pub fn alert(&self, id: &str) -> Option<AlertAnswer> {
        self.book.alert(id)
    }

    /// All rules, by name.
    pub fn rules(&self) -> Vec<RuleAnswer> {
        self.book.rules()
    }

    /// The newest notifications, newest first, with their text.
    pub fn notifications(&self, limit: usize) -> Vec<NotificationAnswer> {
        self.book.notifications(limit)
    }

    /// Which node evaluates and tells; its name and whether it is this one.
    pub fn evaluated_by(&self) -> (Option<String>, bool) {
        let duty = self.book.duty();
        let duty = duty.borrow();
        (duty.leader.as_ref().map(ToString::to_string), duty.is_ours)
    }

    /// Every notification from now on, as soon as its target has it; `demo` prints them.
    pub fn subscribe(&self) -> broadcast::Receiver<Notification> {
        self.book.subscribe()
    }
}
