//! The work of one source: its log groups take turns.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::group::{Checkpoint, Group, Window};
use super::seen::key;
use super::{Config, FIRST_WAIT, Fault, FaultKind, Home, LONGEST_WAIT, Page, Pulled, Remote, SourceConfig, metrics};
use crate::decode::awslogs::MAX_EVENTS;

/// A group with an error that does not pass has its turn again after this.
const LASTING_WAIT_MILLIS: i64 = 60_000;
/// A followed group's checkpoint is saved when it is this much older than its position.
const SAVE_MILLIS: i64 = 60_000;
/// Between looks whether this node leads.
const LEAD_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });
/// Progress is logged so often.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Collects one source.
#[derive(Debug)]
pub struct Collector {
    config: Config,
    source: SourceConfig,
    remote: Arc<dyn Remote>,
    home: Arc<dyn Home>,
    board: Arc<Board>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<String, Group>,
    discovered: Option<Instant>,
    next_request: Option<Instant>,
    told: Option<Instant>,
}

/// Why a turn ended early.
#[derive(Debug)]
enum Halt {
    /// The server stops.
    Stopping,
    /// A fault that no retry helps against now.
    Fault(Fault),
}

impl Collector {
    /// Begins with [`Collector::run`].
    pub fn new(config: &Config, source: SourceConfig, remote: Arc<dyn Remote>, home: Arc<dyn Home>, board: Arc<Board>) -> Collector {
        board.source(&source.name, |_| ());
        Collector {
            config: config.clone(),
            source,
            remote,
            home,
            board,
            state: tokio::sync::Mutex::default(),
        }
    }

    /// Collects until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut state = self.state.lock().await;
        tracing::info!(source = self.source.name, log_groups = ?self.source.log_groups, "collecting begins");
        while !stop.is_cancelled() {
            if !self.home.leads() {
                // where it was is where it goes on, if it leads again
                for group in state.groups.values_mut() {
                    let _ = self.save(group, true).await;
                }
                *state = State::default();
                let _ = tokio::time::timeout(LEAD_PAUSE, stop.cancelled()).await;
                continue;
            }
            if self.round(&mut state, &stop).await.is_err() {
                break;
            }
            let wait = self.wait(&state);
            let _ = tokio::time::timeout(wait, stop.cancelled()).await;
        }
        // what is not saved is fetched again and known
        for group in state.groups.values_mut() {
            let _ = self.save(group, true).await;
        }
    }

    /// One turn for each group that is due.
    async fn round(&self, state: &mut State, stop: &CancellationToken) -> Result<(), Halt> {
        let every = Duration::from_secs(self.config.discover_seconds);
        if state.discovered.is_none_or(|at| at.elapsed() >= every) {
            match self.discover(state, stop).await {
                Ok(()) => self.board.source(&self.source.name, |source| source.error = None),
                Err(Halt::Stopping) => return Err(Halt::Stopping),
                Err(Halt::Fault(fault)) => {
                    tracing::error!(source = self.source.name, error = %fault, "the log groups to collect cannot be listed");
                    self.board.source(&self.source.name, |source| source.error = Some(fault.message));
                }
            }
            state.discovered = Some(Instant::now());
        }
        let names: Vec<String> = state.groups.keys().cloned().collect();
        for name in names {
            let now = self.home.now_millis();
            let Some(mut group) = state.groups.remove(&name) else { continue };
            if group.due_millis > now || group.checkpoint.is_done {
                state.groups.insert(name, group);
                continue;
            }
            let ended = self.turn(state, &mut group, stop).await;
            let now = self.home.now_millis();
            match ended {
                Ok(()) => group.error = None,
                Err(Halt::Stopping) => {
                    state.groups.insert(name, group);
                    return Err(Halt::Stopping);
                }
                Err(Halt::Fault(fault)) if fault.kind == FaultKind::Gone => {
                    tracing::info!(source = self.source.name, log_group = name, "a log group that was collected is gone");
                    self.board.forget_group(&self.source.name, &name);
                    let _ = self.save(&mut group, true).await;
                    continue;
                }
                Err(Halt::Fault(fault)) => {
                    tracing::error!(source = self.source.name, log_group = name, error = %fault, "a log group cannot be collected; it is tried again in a minute");
                    group.error = Some(fault.message);
                    group.due_millis = now + LASTING_WAIT_MILLIS;
                }
            }
            self.board.group(&self.source.name, group.status(now));
            state.groups.insert(name, group);
            self.tell(state);
        }
        Ok(())
    }

    /// How long nothing is to be done.
    fn wait(&self, state: &State) -> Duration {
        let now = self.home.now_millis();
        let open = state.groups.values().filter(|group| !group.checkpoint.is_done);
        let soonest = open.map(|group| group.due_millis.saturating_sub(now)).min();
        let longest = i64::try_from(self.config.poll_seconds.min(self.config.discover_seconds).saturating_mul(1_000)).unwrap_or(i64::MAX);
        Duration::from_millis(soonest.unwrap_or(longest).clamp(0, longest).unsigned_abs())
    }

    /// Log progress, now and then, while there is a backfill.
    fn tell(&self, state: &mut State) {
        if state.told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        let sources = self.board.sources();
        let Some(source) = sources.iter().find(|source| source.name == self.source.name) else {
            return;
        };
        if source.n_backfill == 0 && state.told.is_none() {
            return;
        }
        state.told = (source.n_backfill > 0).then(Instant::now);
        tracing::info!(
            source = source.name,
            percent = source.percent,
            backfill = source.n_backfill,
            follow = source.n_follow,
            failing = source.n_failing,
            kept = source.kept,
            throttled = source.throttled,
            "collecting"
        );
    }

    async fn discover(&self, state: &mut State, stop: &CancellationToken) -> Result<(), Halt> {
        for prefix in self.source.prefixes() {
            let mut token: Option<String> = None;
            loop {
                let (names, next) = self.asked(state, stop, || self.remote.groups(&prefix, token.as_deref())).await?;
                for name in names.into_iter().filter(|name| self.source.has_group(name)) {
                    if let Entry::Vacant(place) = state.groups.entry(name) {
                        let group = self.open(place.key());
                        self.board.group(&self.source.name, group.status(self.home.now_millis()));
                        place.insert(group);
                    }
                }
                match next {
                    Some(next) => token = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn key_of(&self, group: &str) -> String {
        format!("collect/{}/{group}", self.source.name)
    }

    /// A group where its checkpoint says, or at its beginning.
    fn open(&self, name: &str) -> Group {
        let now = self.home.now_millis();
        let saved = self.home.checkpoint(&self.key_of(name));
        let saved = saved.and_then(|bytes| match serde_json::from_slice::<Checkpoint>(&bytes) {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                tracing::error!(log_group = name, %error, "a checkpoint is damaged: the log group is collected from the beginning, and what is kept is known");
                None
            }
        });
        let checkpoint = saved.unwrap_or_else(|| {
            let since = SourceConfig::millis(&self.source.since, now).unwrap_or(now).clamp(0, now);
            Checkpoint {
                position_millis: since,
                since_millis: since,
                ..Checkpoint::default()
            }
        });
        let millis = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        let lateness = (millis(self.config.overlap_seconds), millis(self.config.late_seconds));
        let until = SourceConfig::millis(&self.source.until, now);
        // what was done may have a later end by now, or none
        let is_done = checkpoint.is_done && until.is_some_and(|until| checkpoint.position_millis >= until);
        let mut group = Group::new(name, Checkpoint { is_done, ..checkpoint }, lateness, until);
        group.saved = saved;
        group
    }

    /// Reads one window of a group, and one of what looks for late events of it.
    async fn turn(&self, state: &mut State, group: &mut Group, stop: &CancellationToken) -> Result<(), Halt> {
        // a beginning that is nowhere but here would be another one after a restart
        if group.saved.is_none() {
            self.saved(group, stop).await?;
        }
        let window = group.window(self.home.now_millis());
        if self.read(state, group, &window, stop).await? {
            if window.is_last {
                let poll_millis = i64::try_from(self.config.poll_seconds.saturating_mul(1_000)).unwrap_or(i64::MAX / 4);
                group.due_millis = self.home.now_millis() + poll_millis;
            }
            let _ = self.save(group, !window.is_last || group.checkpoint.is_done).await;
        }
        let Some(mut back) = group.back.take() else { return Ok(()) };
        match back.window_back() {
            Some(window) => {
                let read = self.read(state, &mut back, &window, stop).await;
                group.back = Some(back);
                read.map(|_| ())
            }
            None => {
                group.is_back(back.checkpoint.events, self.home.now_millis());
                self.save(group, true).await.or(Ok(()))
            }
        }
    }

    /// Reads a window, and keeps what is new in it. False: there is too much in it, and the next one is shorter.
    async fn read(&self, state: &mut State, group: &mut Group, window: &Window, stop: &CancellationToken) -> Result<bool, Halt> {
        self.learn(group, window, stop).await?;
        let region = self.remote.region().await;
        let (mut token, mut n_events) = (None::<String>, 0);
        loop {
            let page: Page = self
                .asked(state, stop, || self.remote.page(&group.name, window.from, window.to, token.as_deref()))
                .await?;
            n_events += page.events.len();
            self.keep_new(group, window, &region, &page.events, stop).await?;
            // the same token again would be the same page again
            match page.next.filter(|next| token.as_ref() != Some(next)) {
                None => break,
                Some(next) => token = Some(next),
            }
            if group.is_too_much(window, n_events) {
                tracing::info!(
                    log_group = group.name,
                    n_events,
                    "there is more in a window than is kept in mind: it is cut shorter"
                );
                return Ok(false);
            }
        }
        group.is_read(window, n_events, self.home.now_millis());
        Ok(true)
    }

    /// What of a window is kept already is known afterwards.
    async fn learn(&self, group: &mut Group, window: &Window, stop: &CancellationToken) -> Result<(), Halt> {
        // nobody else collects this group: behind a window that reaches now, all that comes to be kept passes here
        let to = if window.is_last { i64::MAX } else { window.to };
        let Some((from, to)) = group.seen.lacks(window.from, to) else {
            return Ok(());
        };
        let mut wait = FIRST_WAIT;
        loop {
            match self.home.kept(&group.name, from, to).await {
                Ok(kept) => {
                    group.seen.learn((from, to), kept);
                    if !window.is_last {
                        group.seen.forget_before(window.from);
                    }
                    tracing::debug!(log_group = group.name, known = group.seen.len(), "what is kept already is known");
                    return Ok(());
                }
                Err(error) => self.pause(&mut wait, &error, "what is kept already cannot be told", stop).await?,
            }
        }
    }

    /// Keeps what is new of a page. Returns once it is durable.
    async fn keep_new(&self, group: &mut Group, window: &Window, region: &str, events: &[Pulled], stop: &CancellationToken) -> Result<(), Halt> {
        let wanted: Vec<(u128, &Pulled)> = events
            .iter()
            // what was not asked for has a window of its own, in which it is known whether it is kept
            .filter(|event| (window.from..=window.to).contains(&event.millis) && self.source.has_stream(&event.stream))
            .map(|event| (key(&event.stream, &event.id), event))
            .collect();
        metrics::events("left_out", events.len() - wanted.len());
        let mut keys = std::collections::HashSet::new();
        let new: Vec<(u128, &Pulled)> = wanted.iter().filter(|(key, _)| !group.seen.has(*key) && keys.insert(*key)).copied().collect();
        let n_known = wanted.len() - new.len();
        metrics::events("known", n_known);
        for some in new.chunks(MAX_EVENTS) {
            let events: Vec<&Pulled> = some.iter().map(|(_, event)| *event).collect();
            let mut wait = FIRST_WAIT;
            while let Err(error) = self.home.keep(&group.name, region, &events).await {
                self.pause(&mut wait, &error, "collected events cannot be kept", stop).await?;
            }
            for (key, event) in some {
                group.seen.insert(*key, event.millis);
            }
            group.checkpoint.events += some.len() as u64;
            metrics::events("kept", some.len());
        }
        self.board.source(&self.source.name, |source| {
            source.kept += new.len() as u64;
            source.known += n_known as u64;
        });
        Ok(())
    }

    /// Saves a checkpoint, tried until it is.
    async fn saved(&self, group: &mut Group, stop: &CancellationToken) -> Result<(), Halt> {
        let mut wait = FIRST_WAIT;
        while let Err(error) = self.save(group, true).await {
            self.pause(&mut wait, &error, "a checkpoint cannot be saved", stop).await?;
        }
        Ok(())
    }

    /// Saves a checkpoint, if it is time to.
    async fn save(&self, group: &mut Group, at_once: bool) -> Result<(), String> {
        let is_old = group
            .saved
            .is_none_or(|saved| group.checkpoint.position_millis - saved.position_millis >= SAVE_MILLIS || saved.is_done != group.checkpoint.is_done);
        if group.saved == Some(group.checkpoint) || !(is_old || at_once) {
            return Ok(());
        }
        let value = serde_json::to_vec(&group.checkpoint).map_err(|error| error.to_string())?;
        self.home.save(&self.key_of(&group.name), value.into()).await?;
        group.saved = Some(group.checkpoint);
        Ok(())
    }

    /// Asks the other side, at the pace that is allowed, until it answers or the fault is one that stays.
    async fn asked<T, F: Future<Output = Result<T, Fault>>>(&self, state: &mut State, stop: &CancellationToken, ask: impl Fn() -> F) -> Result<T, Halt> {
        let mut wait = FIRST_WAIT;
        loop {
            if let Some(at) = state.next_request {
                let _ = tokio::time::timeout_at(at, stop.cancelled()).await;
            }
            state.next_request = Some(Instant::now() + Duration::from_secs(1) / self.config.max_requests_per_second.max(1));
            let answer = tokio::select! {
                answer = ask() => answer,
                () = stop.cancelled() => return Err(Halt::Stopping),
            };
            let outcome = match &answer {
                Ok(_) => "ok",
                Err(fault) if fault.kind == FaultKind::Throttled => "throttled",
                Err(_) => "failed",
            };
            metrics::request(outcome);
            self.board.source(&self.source.name, |source| {
                source.requests += 1;
                source.throttled += u64::from(outcome == "throttled");
                source.failed += u64::from(outcome == "failed");
            });
            match answer {
                Ok(answer) => return Ok(answer),
                Err(fault) if matches!(fault.kind, FaultKind::Throttled | FaultKind::Passing) => {
                    self.pause(&mut wait, &fault.message, "CloudWatch Logs did not answer", stop).await?;
                }
                Err(fault) => return Err(Halt::Fault(fault)),
            }
        }
    }

    /// Waits, twice as long each time.
    async fn pause(&self, wait: &mut Duration, error: &str, what: &str, stop: &CancellationToken) -> Result<(), Halt> {
        // so that sources that were turned away together do not come back together
        let jittered = wait.mul_f64(0.75 + rand::random::<f64>() / 2.0);
        tracing::warn!(
            source = self.source.name,
            error,
            retry_in_ms = jittered.as_millis() as u64,
            what,
            "collecting waits"
        );
        *wait = (*wait * 2).min(LONGEST_WAIT);
        match tokio::time::timeout(jittered, stop.cancelled()).await {
            Ok(()) => Err(Halt::Stopping),
            Err(_) => Ok(()),
        }
    }

    /// Whether every group is followed or done.
    #[cfg(test)]
    pub(super) async fn is_caught_up(&self) -> bool {
        let state = self.state.lock().await;
        !state.groups.is_empty()
            && state
                .groups
                .values()
                .all(|group| matches!(group.stage(), super::Stage::Follow | super::Stage::Done))
    }

    /// One round, for tests.
    #[cfg(test)]
    pub(super) async fn one_round(&self) {
        let mut state = self.state.lock().await;
        for group in state.groups.values_mut() {
            group.due_millis = i64::MIN;
        }
        state.discovered = None;
        self.round(&mut state, &CancellationToken::new()).await.expect("not stopped");
    }
}
