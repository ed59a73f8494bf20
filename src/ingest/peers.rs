//! Other nodes on the same store: which of them live, what they know, and which node does what must be done once.
//!
//! In: heartbeats and the state documents that nodes commit. Out: facts of others handed to who keeps them ([`Facts`]), the
//! [`Duty`] of this node, earlier flushes while others live.
//!
//! | documents | rule |
//! |---|---|
//! | facts about the store (log groups and streams, lost frames of the log) | every node takes over those of all others, living or gone; who keeps them decides which of two is newer |
//! | what is done once (alerts with their outbox) | belongs to the leader; a node takes the lead, and these documents with it, in one commit, once the leader is silent for `lease_seconds`, has stopped in order, or is named by `--adopt` |
//! | the ledger | stays its node's; all are summed up |
//!
//! Promises:
//! - two nodes never both take the lead from one: the commit names the leader and the state that was taken over, and does not
//!   happen if either has changed. A leader that was only asleep finds out before it tells anybody anything
//!   ([`Ingest::may_tell`]); one that cannot reach the store goes on, since told twice is better than not told.
//! - while others live, rows and documents are flushed after `share_seconds`, and the catalog is read as often: what one node
//!   took, the others see soon.
//! - of what a node commits again and again only what is new is read ([`super::states`]);
//! - documents of nodes that are gone are read once: the leader commits their facts as its own and forgets them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::replay::WATERMARKS_KEY;
use super::{Ingest, Outcomes, states};
use crate::catalog::{Away, Commit, CommitKind, Forgotten, Lead, NodeId, NodeState, Peer, Snapshot};
use crate::storage::Key;

/// How long a notification waits for the store to say whether we may still tell it.
const TELL_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5_000 });
/// Silence after which the leader takes a heartbeat away.
const HEARTBEAT_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Settings; each with its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seconds of silence after which another node takes over what a node did for all, such as alerts (30). A heartbeat, one
    /// small write and one listing of the store, comes three times as often.
    pub lease_seconds: u64,
    /// While other nodes live on the same store, seconds after which rows are flushed for them (10); alerts then look at
    /// windows that end twice as long ago.
    pub share_seconds: u64,
    /// A node whose lead is taken over though it may still live: `--adopt`.
    #[serde(skip)]
    pub adopt: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_seconds: 30,
            share_seconds: 10,
            adopt: None,
        }
    }
}

impl Config {
    /// What is wrong with the settings, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.lease_seconds < 3 {
            problems.push(format!(
                "node.lease_seconds: {} is below 3, and heartbeats come at whole seconds",
                self.lease_seconds
            ));
        }
        if let Some(adopt) = &self.adopt
            && NodeId::parse(adopt).is_none()
        {
            problems.push(format!("--adopt: {adopt:?} is no node id; /api/v1/status names the nodes"));
        }
        problems
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }
    /// How often the heartbeat comes.
    pub fn beat_every(&self) -> Duration {
        self.lease() / 3
    }
    fn look_every(&self) -> Duration {
        Duration::from_millis(500 * self.share_seconds.max(1)).min(self.beat_every())
    }
    /// How long after its acknowledgement a record of another node may be seen here, in ordinary times.
    fn lag(&self) -> Duration {
        Duration::from_secs(2 * self.share_seconds.max(1))
    }
}

/// Whether this node does what is done once for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duty {
    /// Whether it is this node's.
    pub is_ours: bool,
    /// Who leads, as far as is known.
    pub leader: Option<NodeId>,
    /// How much later rows of other nodes may be seen here; zero while this node is alone.
    pub lag: Duration,
    /// Grows when the leader's documents have changed.
    pub version: u64,
}

/// Who keeps facts about the store that other nodes may know too.
#[async_trait]
pub trait Facts: Send + Sync + std::fmt::Debug {
    /// The prefixes of their keys.
    fn prefixes(&self) -> Vec<&'static str>;
    /// Takes over what another node knows, if it is news. Keys come in order.
    async fn learn(&self, key: &str, value: &Bytes);
}

/// Several keepers, each of its own prefixes.
#[async_trait]
impl Facts for Vec<Arc<dyn Facts>> {
    fn prefixes(&self) -> Vec<&'static str> {
        self.iter().flat_map(|keeper| keeper.prefixes()).collect()
    }
    async fn learn(&self, key: &str, value: &Bytes) {
        let keeps = |keeper: &&Arc<dyn Facts>| keeper.prefixes().iter().any(|prefix| key.starts_with(prefix));
        if let Some(keeper) = self.iter().find(keeps) {
            keeper.learn(key, value).await;
        }
    }
}

/// One node, for the status.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeId,
    /// Whether it is this one.
    pub is_this: bool,
    /// Whether its heartbeat is fresh.
    pub is_alive: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Why no delete waits for its log.
    pub away: Option<Away>,
    /// What it counted: this node now, others with their last flush.
    pub sums: Vec<(String, String, Outcomes)>,
}

/// What is known of the others; kept with the write path so that the status can ask.
#[derive(Debug, Default)]
pub(super) struct Known {
    alive: Vec<NodeId>,
    /// Silence after which a node is taken for gone.
    pub(super) lease: Duration,
    leader_documents: BTreeMap<String, Bytes>,
}

impl Ingest {
    /// See [`Duty`]; changes are seen.
    pub fn duty(&self) -> tokio::sync::watch::Receiver<Duty> {
        self.inner.duty.subscribe()
    }

    /// The documents whose key starts with `prefix` as the leader has them: this node's own if it leads.
    pub fn leader_states(&self, prefix: &str) -> Vec<(String, Bytes)> {
        if self.inner.duty.borrow().is_ours {
            return self.states(prefix);
        }
        let known = self.inner.known.lock();
        let documents = known.leader_documents.iter().filter(|(key, _)| key.starts_with(prefix));
        documents.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Brings the documents to the store, where another node that takes the lead finds them, and says whether this node
    /// still leads. If the store does not answer, it may: nobody else can take the lead from there either.
    pub async fn may_tell(&self) -> bool {
        let commit = Commit::new(CommitKind::State, self.inner.clock.now_nanos());
        let shared = async {
            self.inner.share(commit).await?;
            self.inner.catalog.refresh().await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(TELL_PATIENCE, shared).await {
            Ok(Ok(snapshot)) => snapshot.leader().is_none_or(|leader| leader == self.inner.catalog.node()),
            Ok(Err(error)) => {
                tracing::warn!(error, "whether this node still leads could not be found out: it tells");
                true
            }
            Err(_) => {
                tracing::warn!("the store does not say whether this node still leads: it tells");
                true
            }
        }
    }

    /// The other nodes whose heartbeats are fresh.
    pub fn nodes_alive(&self) -> Vec<NodeId> {
        self.inner.known.lock().alive.clone()
    }

    /// All nodes that ever wrote to the store, by name.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let snapshot = self.inner.catalog.snapshot();
        let us = self.inner.catalog.node();
        let mut nodes: Vec<&NodeId> = snapshot.nodes().keys().chain([us]).collect();
        nodes.sort();
        nodes.dedup();
        let known = self.inner.known.lock();
        let status = |node: &NodeId| NodeStatus {
            node: node.clone(),
            is_this: node == us,
            is_alive: node == us || known.alive.contains(node),
            leads: snapshot.leader() == Some(node),
            away: snapshot.nodes().get(node).and_then(|state| state.away),
            sums: match node == us {
                true => self.inner.ledger.sums(),
                false => snapshot
                    .nodes()
                    .get(node)
                    .and_then(|state| state.ledger.as_ref())
                    .map(super::Ledger::read)
                    .unwrap_or_default(),
            },
        };
        nodes.into_iter().map(status).collect()
    }

    pub(super) fn flush_age_seconds(&self) -> u64 {
        self.inner.config.flush_age_seconds.min(self.inner.early_flush_seconds.load(Ordering::Relaxed))
    }
}

/// Keeps in touch with the other nodes.
#[derive(Debug)]
pub struct Peers {
    config: Config,
    ingest: Ingest,
    facts: Arc<dyn Facts>,
    /// Prefix of the documents that go with the lead.
    led: &'static str,
    learned: Mutex<BTreeMap<NodeId, Learned>>,
    last_beat: Mutex<Option<Instant>>,
}

/// Documents by key.
type Documents = BTreeMap<String, Bytes>;

/// What was read of a node's state.
#[derive(Clone, Debug, Default)]
struct Learned {
    /// The parts, oldest first.
    parts: Vec<Key>,
    /// The documents in it that go with the lead.
    led: Documents,
}

/// What a part of a state, or several, say; `None` for what is no more.
type Changes = BTreeMap<String, Option<Bytes>>;

impl Peers {
    /// Nothing happens until it is run. Documents under the prefix `led` go with the lead.
    pub fn new(config: Config, ingest: Ingest, facts: Arc<dyn Facts>, led: &'static str) -> Self {
        let snapshot = ingest.inner.catalog.snapshot();
        let us = ingest.inner.catalog.node();
        ingest.inner.known.lock().lease = config.lease();
        if snapshot.leader() == Some(us) {
            // as it was before the restart; should that have changed, the first look or notification finds out
            ingest.inner.duty.send_modify(|duty| (duty.is_ours, duty.leader) = (true, Some(us.clone())));
        }
        Self {
            config,
            ingest,
            facts,
            led,
            learned: Mutex::default(),
            last_beat: Mutex::default(),
        }
    }

    /// Looks again and again until `stop` resolves.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let round = async {
                self.look().await;
                tokio::time::sleep(self.config.look_every()).await;
            };
            tokio::select! {
                () = &mut stop => return,
                () = round => {}
            }
        }
    }

    /// Looks once: at the others' heartbeats if it is time, at what they committed if there are any.
    pub async fn look(&self) {
        if self.ingest.inner.is_superseded() {
            // the heartbeat is another's
            return;
        }
        let is_beat_due = self.last_beat.lock().is_none_or(|last| last.elapsed() >= self.config.beat_every());
        let is_alone = self.ingest.inner.known.lock().alive.is_empty();
        if is_alone && !is_beat_due {
            return;
        }
        if let Err(error) = self.try_look(is_beat_due).await {
            tracing::debug!(error, "what other nodes do could not be seen");
        }
    }

    async fn try_look(&self, is_beat_due: bool) -> Result<(), String> {
        let inner = &self.ingest.inner;
        let text = |error: crate::catalog::Error| error.to_string();
        let looked_nanos = inner.clock.now_nanos();
        if is_beat_due {
            let peers = inner.catalog.beat(inner.clock.now_nanos()).await.map_err(text)?;
            *self.last_beat.lock() = Some(Instant::now());
            // a listing that lags behind changes nothing
            if let Some(peers) = peers {
                self.note_alive(&peers);
                let snapshot = inner.catalog.refresh().await.map_err(text)?;
                inner.forget_positions(looked_nanos);
                if inner.find_superseded(&snapshot) {
                    return Ok(());
                }
                self.come_back(&snapshot).await?;
                self.learn(&snapshot).await;
                self.lead_or_follow(&snapshot, &peers).await?;
                return Ok(());
            }
        }
        let snapshot = inner.catalog.refresh().await.map_err(text)?;
        inner.forget_positions(looked_nanos);
        self.come_back(&snapshot).await?;
        self.learn(&snapshot).await;
        if snapshot.leader() != Some(inner.catalog.node()) {
            self.say_duty(&snapshot, false);
        }
        Ok(())
    }

    /// Says that this node lives, should it have been given up, while no delete has ended without it: from then on deletes wait for its
    /// log again. The next one to end would else cost it all that it has not flushed.
    async fn come_back(&self, snapshot: &Snapshot) -> Result<(), String> {
        let inner = &self.ingest.inner;
        let away = snapshot.nodes().get(inner.catalog.node()).and_then(|state| state.away);
        if !matches!(away, Some(Away::GivenUp { missed: 0, .. })) {
            return Ok(());
        }
        let commit = Commit::new(CommitKind::State, inner.clock.now_nanos());
        inner.catalog.commit(commit).await.map_err(|error| error.to_string())?;
        tracing::warn!("this node was given up (`tracelake node forget`) and lives: deletes wait for what its log holds again");
        Ok(())
    }

    fn note_alive(&self, peers: &[Peer]) {
        let inner = &self.ingest.inner;
        let alive: Vec<NodeId> = peers
            .iter()
            .filter(|peer| peer.silent < self.config.lease())
            .map(|peer| peer.node.clone())
            .collect();
        let early = if alive.is_empty() { u64::MAX } else { self.config.share_seconds.max(1) };
        inner.early_flush_seconds.store(early, Ordering::Relaxed);
        inner.known.lock().alive = alive;
    }

    /// Reads what other nodes committed since, and hands over the facts in it.
    async fn learn(&self, snapshot: &Snapshot) {
        let us = self.ingest.inner.catalog.node();
        for (node, state) in snapshot.nodes().iter().filter(|(node, _)| *node != us) {
            let parts: Vec<Key> = state.states().cloned().collect();
            let mut learned = self.learned.lock().get(node).cloned().unwrap_or_default();
            if parts.is_empty() || learned.parts == parts {
                continue;
            }
            // parts that were read say nothing new; one that took the place of several stands behind all that stay
            let n_known = learned.parts.iter().zip(&parts).take_while(|(known, part)| known == part).count();
            let changes = match self.changes(&parts[n_known..]).await {
                Ok(changes) => changes,
                Err(error) => {
                    tracing::warn!(%node, error, "what another node knows could not be read");
                    continue;
                }
            };
            for prefix in self.facts.prefixes() {
                for (key, value) in changes.range(prefix.to_string()..).take_while(|(key, _)| key.starts_with(prefix)) {
                    if let Some(value) = value {
                        self.facts.learn(key, value).await;
                    }
                }
            }
            if let Some(Some(json)) = changes.get(WATERMARKS_KEY)
                && let Err(error) = self.ingest.inner.watermarks.restore(json)
            {
                tracing::warn!(%node, %error, "another node's watermarks are damaged");
            }
            self.ingest.inner.learn_of_lost_frames(node, &changes).await;
            if n_known == 0 {
                learned.led.clear();
            }
            change(&mut learned.led, changes.into_iter().filter(|(key, _)| key.starts_with(self.led)));
            if snapshot.leader() == Some(node) {
                self.ingest.inner.known.lock().leader_documents = learned.led.clone();
                self.ingest.inner.duty.send_modify(|duty| duty.version += 1);
            }
            learned.parts = parts;
            self.learned.lock().insert(node.clone(), learned);
        }
    }

    /// What parts of a state say together, of which the later ones change what the earlier ones say.
    async fn changes(&self, parts: &[Key]) -> Result<Changes, String> {
        let mut changes = Changes::new();
        for key in parts {
            let bytes = self.ingest.inner.catalog.read_state_at(key).await.map_err(|error| error.to_string())?;
            changes.extend(states::read(&bytes).map_err(|error| format!("{key} is damaged: {error}"))?);
        }
        Ok(changes)
    }

    async fn lead_or_follow(&self, snapshot: &Snapshot, peers: &[Peer]) -> Result<(), String> {
        let us = self.ingest.inner.catalog.node();
        let is_alive = |node: &NodeId| {
            let is_given_up = self.config.adopt.as_deref() == Some(node.as_str());
            !is_given_up && self.ingest.inner.known.lock().alive.contains(node)
        };
        match snapshot.leader() {
            Some(leader) if leader == us => {}
            Some(leader) if is_alive(leader) => {
                self.say_duty(snapshot, false);
                return Ok(());
            }
            from => {
                self.take_lead(snapshot, from).await?;
                tracing::info!(from = from.map(NodeId::as_str), "this node leads: it evaluates alert rules");
            }
        }
        self.say_duty(snapshot, true);
        self.forget_gone(peers).await
    }

    fn say_duty(&self, snapshot: &Snapshot, is_ours: bool) {
        let inner = &self.ingest.inner;
        let lag = if inner.known.lock().alive.is_empty() {
            Duration::ZERO
        } else {
            self.config.lag()
        };
        let leader = if is_ours {
            Some(inner.catalog.node().clone())
        } else {
            snapshot.leader().cloned()
        };
        inner.duty.send_if_modified(|duty| {
            let changed = (duty.is_ours, duty.lag, &duty.leader) != (is_ours, lag, &leader);
            if duty.is_ours && !is_ours {
                tracing::warn!(leader = leader.as_ref().map(NodeId::as_str), "another node has taken the lead");
            }
            (duty.is_ours, duty.lag, duty.leader) = (is_ours, lag, leader.clone());
            changed
        });
    }

    /// Takes over the lead with its documents. They go through the log first, so that a restart finds them after older ones
    /// of this node's own; then one commit makes them, and the lead, this node's.
    async fn take_lead(&self, snapshot: &Snapshot, from: Option<&NodeId>) -> Result<(), String> {
        let inner = &self.ingest.inner;
        let own: Documents = self.ingest.states(self.led).into_iter().collect();
        let from_state = from.and_then(|from| snapshot.state(from)).cloned();
        let mut taken = Documents::new();
        match from {
            // none if it kept nothing
            Some(from) => {
                if let Some(state) = snapshot.nodes().get(from) {
                    taken = self.led_documents(state).await?;
                }
            }
            // as written before there was a lead: everybody's, our own first
            None => {
                for state in snapshot.nodes().values() {
                    taken.extend(self.led_documents(state).await?);
                }
                taken.extend(own.clone());
            }
        }
        for key in own.keys().filter(|key| !taken.contains_key(*key)) {
            self.ingest.put_state(key, None).await.map_err(|refused| refused.to_string())?;
        }
        for (key, value) in &taken {
            if own.get(key) != Some(value) {
                self.ingest.put_state(key, Some(value.clone())).await.map_err(|refused| refused.to_string())?;
            }
        }
        let mut commit = Commit::new(CommitKind::State, inner.clock.now_nanos());
        commit.lead = Some(Lead {
            from: from.cloned(),
            from_state,
        });
        inner.share(commit).await
    }

    /// The documents in a node's state that go with the lead; what is gone of it is told and left out.
    async fn led_documents(&self, state: &NodeState) -> Result<Documents, String> {
        let mut documents = Documents::new();
        for key in state.states() {
            let changes = match self.ingest.inner.catalog.read_state_at(key).await {
                Ok(bytes) => states::read(&bytes).map_err(|error| format!("{key} is damaged: {error}"))?,
                Err(crate::catalog::Error::Store(error)) if error.is_not_found() => {
                    tracing::error!(%key, "the state of the node that led is gone, or a part of it");
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            change(&mut documents, changes.into_iter().filter(|(key, _)| key.starts_with(self.led)));
        }
        Ok(documents)
    }

    /// The leader's tidying: facts of nodes that are gone become its own, and long silent heartbeats go.
    async fn forget_gone(&self, peers: &[Peer]) -> Result<(), String> {
        let inner = &self.ingest.inner;
        let snapshot = inner.catalog.snapshot();
        let us = inner.catalog.node();
        let is_gone = |node: &NodeId| node != us && !peers.iter().any(|peer| peer.node == *node && peer.silent < self.config.lease() * 3);
        let learned = self.learned.lock().clone();
        let gone = snapshot.nodes().iter().filter(|(node, _)| is_gone(node));
        let forgets: Vec<Forgotten> = gone
            .filter_map(|(node, state)| {
                let state = state.state.clone()?;
                let is_learned = learned.get(node).is_some_and(|learned| learned.parts.last() == Some(&state));
                is_learned.then(|| Forgotten { node: node.clone(), state })
            })
            .collect();
        if !forgets.is_empty() {
            let mut commit = Commit::new(CommitKind::State, inner.clock.now_nanos());
            commit.forgets = forgets;
            inner.share(commit).await?;
        }
        for peer in peers.iter().filter(|peer| peer.silent > HEARTBEAT_KEPT) {
            inner.catalog.end_heartbeat(&peer.node).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Makes changes to documents.
fn change(documents: &mut Documents, changes: impl Iterator<Item = (String, Option<Bytes>)>) {
    for (key, value) in changes {
        match value {
            Some(value) => documents.insert(key, value),
            None => documents.remove(&key),
        };
    }
}

#[cfg(test)]
mod tests;
