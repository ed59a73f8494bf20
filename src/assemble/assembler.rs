//! Follows what comes in, waits until a trace is quiet, reads it whole, and writes what has changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::compare::{Compared, Old, Written, compare};
use super::known::Known;
use super::lake::{EngineLake, Lake};
use super::reread::{REACH_NANOS, aside};
use super::{Config, metrics, rows};
use crate::catalog::NodeId;
use crate::ingest::{Ingest, Lost, Refused};
use crate::model::{Clock, Rows, Table, TimeRange, TraceId};
use crate::query::{Arrived, Engine, Trace};

/// Log positions that are followed in one go.
pub(super) const POSITIONS_AT_ONCE: i64 = 512;
/// Traces that are read and written together. (Few in tests.)
pub(super) const TRACES_AT_ONCE: usize = if cfg!(test) { 3 } else { 200 };
/// How long before and after a span that it has lost the rest of a trace, and its row, is looked for: a day.
const LONGEST_NANOS: i64 = 24 * REACH_NANOS;
/// Hours of traces of before the start that are remembered, and traces of them at most: an hour that has more is left out, with those before it. (Few in tests.)
const HOURS_OF_BEFORE: usize = 24;
const MAX_OF_BEFORE: usize = if cfg!(test) { 4 } else { 500_000 };
/// A graph is asked to be fresh no more often than this.
const FRESH_FOR_NANOS: i64 = 1_000_000_000;
/// A trace that gets something new all the time is written all the same after so long.
const LONGEST_OPEN_NANOS: i64 = 60_000_000_000;
/// A trace that could not be read or written (a damaged block, for one) is tried again after so long, the others go on; and given up
/// after so long, until something of it comes.
const RETRY_NANOS: i64 = 30_000_000_000;
const GIVE_UP_NANOS: i64 = 3_600_000_000_000;
/// Traces that may fail by themselves in one go: where more do, it is not the traces.
const MAX_FAILED: usize = 8;
/// Bits of an `ingest_id` below the log position.
pub(super) const POSITION_BITS: u32 = 20;

/// How far everything is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// Of every span with this `ingest_id` or a smaller one, the trace was written since.
    pub(super) done: i64,
    /// Since when traces are assembled, nanoseconds since the epoch; of earlier ones the tables may know nothing.
    pub(super) since_nanos: i64,
    /// Of each other node, up to which of its `ingest_id` its rows of `traces` were followed; `None` in checkpoints of before that was done.
    #[serde(default)]
    pub(super) others: Option<BTreeMap<NodeId, i64>>,
}

/// A trace that has got something new.
#[derive(Clone, Debug)]
pub(super) struct Open {
    arrived: Arrived,
    opened_at_nanos: i64,
    touched_at_nanos: i64,
    /// Since when it fails, and when that was tried last.
    failing: Option<(i64, i64)>,
    /// The node that has written it too, and how far that one's rows had been followed before.
    pub(super) told_by: Option<(NodeId, i64)>,
}

impl Open {
    pub(super) fn new(arrived: Arrived, now_nanos: i64) -> Open {
        Open {
            arrived,
            opened_at_nanos: now_nanos,
            touched_at_nanos: now_nanos,
            failing: None,
            told_by: None,
        }
    }

    fn is_due(&self, now_nanos: i64, quiet_nanos: i64) -> bool {
        let since = |nanos: i64| now_nanos.saturating_sub(nanos);
        // but not where somebody waits for all of them: who asks for a graph is told that it lacks some
        let rests = quiet_nanos > 0 && self.failing.is_some_and(|(_, tried)| since(tried) < RETRY_NANOS);
        !rests && (since(self.touched_at_nanos) >= quiet_nanos || since(self.opened_at_nanos) >= LONGEST_OPEN_NANOS)
    }
}

#[derive(Debug)]
pub(super) struct State {
    /// Spans up to this `ingest_id` have been seen.
    seen: i64,
    kept: Checkpoint,
    pub(super) open: HashMap<TraceId, Open>,
    pub(super) known: Known,
    /// Of each other node, how far its rows have been followed.
    pub(super) others: BTreeMap<NodeId, i64>,
    /// Whether rows of others may have come that `known` does not know of.
    may_be_told: bool,
    fresh_at_nanos: i64,
    /// Of notes of lost spans that could not be dealt with, when that was tried last, and why.
    failing_notes: HashMap<String, (i64, String)>,
}

/// Keeps `traces` and `service_edges`.
#[derive(Debug)]
pub struct Assembler {
    config: Config,
    us: NodeId,
    lake: Arc<dyn Lake>,
    clock: Arc<dyn Clock>,
    /// `None` until the first step.
    state: Mutex<Option<State>>,
    figures: SyncMutex<Report>,
}

/// How the assembler is, for `/api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Traces with something new that are not written yet.
    pub open_traces: usize,
    /// Every span with this `ingest_id` or a smaller one is in the tables.
    pub done_ingest_id: i64,
    /// Rows of `traces` written since the start.
    pub written: u64,
    /// Those of them that correct an earlier one.
    pub corrected: u64,
    /// What keeps it from going on, until something goes well.
    pub error: Option<String>,
}

impl Assembler {
    /// One over the engine and the write path; nothing is read yet.
    pub fn over(config: Config, engine: Engine, ingest: Ingest, clock: Arc<dyn Clock>) -> Assembler {
        ingest.note_losses();
        Assembler::new(config, Arc::new(EngineLake { engine, ingest }), clock)
    }

    pub(super) fn new(config: Config, lake: Arc<dyn Lake>, clock: Arc<dyn Clock>) -> Assembler {
        Assembler {
            config,
            us: lake.node(),
            lake,
            clock,
            state: Mutex::new(None),
            figures: SyncMutex::default(),
        }
    }

    pub(super) fn us(&self) -> &NodeId {
        &self.us
    }
    pub(super) fn lake(&self) -> &dyn Lake {
        &*self.lake
    }
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Assembles until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_millis(self.config.every_millis));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let quiet_nanos = i64::try_from(self.config.quiet_seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
            // never cut short: what is written must be noted
            if let Err(error) = self.step(quiet_nanos).await {
                tracing::warn!(error, "traces could not be assembled; trying again");
            }
        }
    }

    /// How it is.
    pub fn report(&self) -> Report {
        self.figures.lock().clone()
    }

    /// Writes what there is of every trace, quiet or not: what has been acknowledged is then in the tables. Gives the time since which
    /// they have all traces.
    pub async fn freshen(self: &Arc<Self>) -> Result<i64, String> {
        let asked_nanos = self.clock.now_nanos();
        let assembler = self.clone();
        // whoever asked may hang up: what is written must be noted all the same
        let task = tokio::spawn(async move { assembler.freshen_since(asked_nanos).await }.in_current_span());
        task.await.unwrap_or_else(|ended| Err(format!("the work on traces ended: {ended}")))
    }

    async fn freshen_since(&self, asked_nanos: i64) -> Result<i64, String> {
        let mut state = self.state.lock().await;
        // many may have waited here: one step serves all who asked before it began
        if let Some(state) = state
            .as_ref()
            .filter(|state| asked_nanos.saturating_sub(state.fresh_at_nanos) < FRESH_FOR_NANOS)
        {
            return Ok(state.kept.since_nanos);
        }
        let begun_nanos = self.clock.now_nanos();
        self.step_locked(&mut state, 0).await?;
        let state = state.as_mut().ok_or("nothing was assembled")?;
        state.fresh_at_nanos = begun_nanos;
        Ok(state.kept.since_nanos)
    }

    /// The time since which the tables have all traces; `None` before the first step.
    pub(super) async fn since_nanos(&self) -> Option<i64> {
        self.state.lock().await.as_ref().map(|state| state.kept.since_nanos)
    }

    /// Follows to the end, then writes the traces that have been quiet for so long.
    pub(super) async fn step(&self, quiet_nanos: i64) -> Result<(), String> {
        let mut state = self.state.lock().await;
        self.step_locked(&mut state, quiet_nanos).await
    }

    async fn step_locked(&self, state: &mut Option<State>, quiet_nanos: i64) -> Result<(), String> {
        let state = match state {
            Some(state) => state,
            none => none.insert(self.begin().await?),
        };
        let done = self.step_with(state, quiet_nanos).await;
        let mut figures = self.figures.lock();
        figures.open_traces = state.open.len();
        figures.done_ingest_id = state.kept.done;
        figures.error = done.as_ref().err().cloned();
        metrics::open(state.open.len());
        done
    }

    async fn begin(&self) -> Result<State, String> {
        let before = self.lake.checkpoint();
        let mut kept = before.clone().unwrap_or_else(|| {
            let (done, is_empty) = self.lake.beginning();
            let since_nanos = if is_empty { i64::MIN } else { self.clock.now_nanos() };
            Checkpoint {
                done,
                since_nanos,
                others: None,
            }
        });
        // what they wrote before we began is no news
        let others = kept.others.get_or_insert_with(|| self.lake.others().seen).clone();
        if before.as_ref() != Some(&kept) {
            self.lake.keep(kept.clone()).await?;
        }
        Ok(State {
            seen: kept.done,
            others,
            kept,
            open: HashMap::new(),
            known: self.remember().await,
            may_be_told: false,
            fresh_at_nanos: i64::MIN,
            failing_notes: HashMap::new(),
        })
    }

    /// The traces that have rows, those of the last hours: what comes late of one is put to its other parts, however far apart they lie.
    async fn remember(&self) -> Known {
        let newest_nanos = self.lake.newest_start();
        let mut known = Known::covering_from(newest_nanos.saturating_add(1));
        if newest_nanos == i64::MIN {
            return known;
        }
        let last_hour = newest_nanos.min(self.clock.now_nanos()).div_euclid(REACH_NANOS).saturating_mul(REACH_NANOS);
        let mut range = TimeRange::new(last_hour, i64::MAX);
        let mut room = MAX_OF_BEFORE;
        let is_full = || {
            tracing::info!(
                most = MAX_OF_BEFORE,
                "there are more traces of the day before the start than are remembered: what comes more than an hour after one of them makes another of it"
            );
        };
        for _ in 0..HOURS_OF_BEFORE {
            match self.lake.with_rows(range, MAX_OF_BEFORE).await {
                Ok(Some(found)) => {
                    // one that has rows in several hours is one
                    let n_new = found.keys().filter(|id| !known.has(id)).count();
                    if n_new > room {
                        is_full();
                        break;
                    }
                    room -= n_new;
                    found.iter().for_each(|(id, arrived)| known.note_earlier(id, arrived));
                    known.covers_from(range.start_nanos);
                }
                Ok(None) => {
                    is_full();
                    break;
                }
                Err(error) => {
                    tracing::warn!(
                        error,
                        "rows of traces of before the start could not be read: what comes more than an hour after such a trace makes another of it"
                    );
                    break;
                }
            }
            range = TimeRange::new(range.start_nanos.saturating_sub(REACH_NANOS), range.start_nanos);
        }
        known
    }

    async fn step_with(&self, state: &mut State, quiet_nanos: i64) -> Result<(), String> {
        let others = self.lake.others();
        state.may_be_told |= !others.alive.is_empty() || others.seen != state.others;
        let settled = self.lake.settled(state.seen).await;
        while state.seen < settled {
            let up_to = settled.min(state.seen.saturating_add(POSITIONS_AT_ONCE << POSITION_BITS));
            let positions = state.seen.saturating_add(1)..=up_to;
            let (spans, logs) = (
                self.lake.arrived(Table::Spans, positions.clone()).await?,
                self.lake.arrived(Table::Logs, positions).await?,
            );
            let touched_at_nanos = self.clock.now_nanos();
            // a trace's record alone is none: it has a row if it has a span
            let logs = logs.into_iter().filter(|(id, _)| !spans.contains_key(id));
            let logs: Vec<(TraceId, Arrived)> = logs.filter(|(id, _)| !state.open.contains_key(id) && state.known.has_written(id)).collect();
            for (id, arrived) in spans.into_iter().chain(logs) {
                let open = state.open.entry(id).or_insert_with(|| Open::new(arrived, touched_at_nanos));
                open.arrived.merge(arrived);
                open.touched_at_nanos = touched_at_nanos;
            }
            state.seen = up_to;
            self.write_early(state).await?;
        }
        let followed = self.follow_others(state, &others).await;
        let now_nanos = self.clock.now_nanos();
        let quiet_nanos = match quiet_nanos {
            0 => 0,
            _ => quiet_nanos.saturating_add(others.wait_nanos(&self.us)),
        };
        let due = state
            .open
            .iter()
            .filter(|(_, open)| open.is_due(now_nanos, quiet_nanos))
            .map(|(id, open)| (*id, open.arrived))
            .collect();
        let written = self.write(state, due).await;
        self.keep(state);
        // none keeps the others back
        let corrected = self.correct_lost(state).await;
        written.and(corrected).and(followed)
    }

    /// At the bound, the traces that have been quiet longest do not wait any longer: what comes of them later corrects them.
    async fn write_early(&self, state: &mut State) -> Result<(), String> {
        let n_early = match state.open.len() {
            n if n > self.config.max_open_traces => n - self.config.max_open_traces / 4 * 3,
            _ => return Ok(()),
        };
        let mut by_age: Vec<(i64, TraceId, Arrived)> = state.open.iter().map(|(id, open)| (open.touched_at_nanos, *id, open.arrived)).collect();
        by_age.sort_unstable_by_key(|(touched, id, _)| (*touched, *id.as_bytes()));
        let early = by_age.into_iter().take(n_early).map(|(_, id, arrived)| (id, arrived)).collect();
        metrics::early(n_early);
        self.write(state, early).await
    }

    async fn write(&self, state: &mut State, mut due: Vec<(TraceId, Arrived)>) -> Result<(), String> {
        due.sort_unstable_by_key(|(id, arrived)| (arrived.first_nanos, *id.as_bytes()));
        let mut failed: Option<String> = None;
        let (mut n_failed, mut n_done) = (0, 0);
        let mut waiting = &due[..];
        while let Some((_, first)) = waiting.first() {
            // what lies together is read together
            let end_nanos = first.first_nanos.saturating_add(REACH_NANOS);
            let n = waiting
                .iter()
                .take(TRACES_AT_ONCE)
                .take_while(|(_, arrived)| arrived.first_nanos <= end_nanos)
                .count();
            let (some, others) = waiting.split_at(n);
            let mut parts = vec![some];
            while let Some(part) = parts.pop() {
                match self.write_some(state, part).await {
                    Ok(()) => n_done += 1,
                    // not the traces: where nothing goes well, two are enough to know it
                    Err(Failed::Again(message)) if n_failed >= MAX_FAILED || (n_failed > 1 && n_done == 0) => return Err(message),
                    Err(_) if part.len() > 1 => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                    Err(Failed::TooLarge(message)) => {
                        for (id, _) in part {
                            tracing::error!(trace_id = %id, message, "the summary of a trace is more than the log takes: it is left out");
                            state.open.remove(id);
                        }
                        metrics::too_large();
                    }
                    Err(Failed::Again(message)) => {
                        n_failed += 1;
                        part.iter().for_each(|(id, _)| self.put_aside(state, id, &message));
                        failed = Some(message);
                    }
                }
            }
            waiting = others;
        }
        failed.map_or(Ok(()), Err)
    }

    /// A trace that fails by itself waits, so that the others go on.
    fn put_aside(&self, state: &mut State, id: &TraceId, message: &str) {
        let now_nanos = self.clock.now_nanos();
        let Some(open) = state.open.get_mut(id) else { return };
        let (since, _) = open.failing.unwrap_or((now_nanos, now_nanos));
        open.failing = Some((since, now_nanos));
        if now_nanos.saturating_sub(since) >= GIVE_UP_NANOS {
            tracing::error!(trace_id = %id, message, "a trace could not be assembled for an hour: it is left out until something of it comes");
            state.open.remove(id);
            metrics::given_up();
        }
    }

    async fn write_some(&self, state: &mut State, due: &[(TraceId, Arrived)]) -> Result<(), Failed> {
        // of a trace that takes hours the parts come hours apart
        let (first, last) = state.known.extent_of_all(due);
        let ids: Vec<TraceId> = due.iter().map(|(id, _)| *id).collect();
        let maybe_written: Vec<TraceId> = due
            .iter()
            .filter(|(id, arrived)| state.may_be_told || !state.known.is_surely_new(id, arrived.first_nanos))
            .map(|(id, _)| *id)
            .collect();
        let around = Around::of(first, last, REACH_NANOS);
        self.write_these(state, &ids, &maybe_written, around).await?;
        for id in &ids {
            state.open.remove(id);
        }
        Ok(())
    }

    /// Reads traces, compares them with their rows, and writes what differs.
    async fn write_these(&self, state: &mut State, ids: &[TraceId], maybe_written: &[TraceId], around: Around) -> Result<Old, Failed> {
        let mut traces = self.read(ids, around.read).await?;
        let logged = self.lake.logged(ids, around.read).await?;
        let written = match maybe_written.is_empty() {
            true => HashMap::new(),
            false => {
                let starts = traces.iter().map(|trace| trace.start_unix_nano);
                let from = starts
                    .min()
                    .map_or(around.rows_from, |start| around.rows_from.min(start.saturating_sub(REACH_NANOS)));
                self.written(maybe_written, TimeRange::new(from, around.read.end_nanos)).await?
            }
        };
        self.reread_longer(&mut traces, &written, around.read).await?;
        let us = self.us.clone();
        let compared = aside(move || compare(&us, &traces, &logged, &written, around.have_lost)).await;
        let Compared { rows, change, extents, old } = compared.map_err(again)?;
        let n_corrected = rows.iter().filter(|row| row.revision > 1).count() as u64;
        let n_written = rows.len() as u64;
        // before the write: should nobody be left when it is done, or should it fail and be there all the same, the next look asks
        for (id, start_nanos, end_nanos) in &extents {
            state.known.note(id, *start_nanos, *end_nanos);
        }
        if !rows.is_empty() {
            let mut tables: Vec<Rows> = vec![rows::traces(&rows).map_err(again)?];
            if !change.is_empty() {
                tables.push(rows::service_edges(&change).map_err(again)?);
            }
            self.lake.write(tables).await.map_err(|refused| match refused {
                Refused::TooLarge(message) => Failed::TooLarge(message),
                other => again(other),
            })?;
        }
        metrics::wrote(n_written, n_corrected);
        let mut figures = self.figures.lock();
        figures.written += n_written;
        figures.corrected += n_corrected;
        Ok(old)
    }

    /// Corrects the rows of traces that have lost spans to a delete, and has the rows deleted that tell of these spans. Each step may
    /// be done again: the next look finds the same note, and what of it is left to do. A note that fails rests, and the others go on.
    async fn correct_lost(&self, state: &mut State) -> Result<(), String> {
        let notes = self.lake.lost();
        state.failing_notes.retain(|key, _| notes.iter().any(|(known, _)| known == key));
        let mut failed = None;
        for (key, lost) in notes {
            let now_nanos = self.clock.now_nanos();
            if let Some((tried, message)) = state.failing_notes.get(&key)
                && now_nanos.saturating_sub(*tried) < RETRY_NANOS
            {
                failed.get_or_insert_with(|| message.clone());
                continue;
            }
            // before a day of spans is read for nothing; nor is there room for the notes behind it
            self.lake.may_delete_old()?;
            if let Err(message) = self.correct_lost_of(state, &key, &lost).await {
                tracing::debug!(
                    key,
                    message,
                    "summaries of traces that have lost spans to a delete could not be corrected; trying again"
                );
                state.failing_notes.insert(key, (now_nanos, message.clone()));
                failed.get_or_insert(message);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The traces of one note.
    async fn correct_lost_of(&self, state: &mut State, key: &str, lost: &Lost) -> Result<(), String> {
        let mut around = Around::of(lost.first_nanos, lost.last_nanos, LONGEST_NANOS);
        around.read.end_nanos = lost.last_nanos.saturating_add(LONGEST_NANOS);
        around.have_lost = true;
        let ids: Vec<TraceId> = lost.traces.iter().copied().collect();
        let mut old = Old::new();
        let mut parts: Vec<&[TraceId]> = ids.chunks(TRACES_AT_ONCE).collect();
        while let Some(part) = parts.pop() {
            match self.write_these(state, part, part, around).await {
                Ok(rows) => old.extend(rows),
                Err(Failed::TooLarge(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(Failed::TooLarge(message)) => {
                    tracing::error!(trace_id = %part[0], message, "the summary of a trace that has lost spans is more than the log takes: it is deleted");
                    metrics::too_large();
                    old.push((part[0], i32::MAX));
                }
                Err(Failed::Again(message)) => return Err(message),
            }
        }
        if !old.is_empty() {
            let range = TimeRange::new(around.rows_from, around.read.end_nanos);
            self.lake.delete_old(&old, range).await?;
        }
        self.lake.forget_lost(key).await?;
        tracing::info!(
            traces = ids.len(),
            outdated = old.len(),
            "summaries of traces that have lost spans to a delete are corrected"
        );
        Ok(())
    }

    /// What the newest rows of traces say that start in a time.
    pub(super) async fn written(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Written>, String> {
        let rows = self.lake.written(ids, range).await?;
        let together = rows.into_iter().filter_map(|(id, rows)| Some((id, Written::of(&rows, &self.us)?)));
        Ok(together.collect())
    }

    async fn read(&self, ids: &[TraceId], range: TimeRange) -> Result<Vec<Trace>, String> {
        let mut traces = Vec::with_capacity(ids.len());
        let mut waiting = ids;
        let mut at_once = ids.len();
        while !waiting.is_empty() {
            let (some, others) = waiting.split_at(at_once.min(waiting.len()));
            match self.lake.traces(some, range).await? {
                Some(read) => {
                    traces.extend(read);
                    waiting = others;
                }
                None => at_once = (some.len() / 8).max(1),
            }
        }
        Ok(traces)
    }

    /// A trace that was written from an earlier part on is read from there.
    async fn reread_longer(&self, traces: &mut [Trace], written: &HashMap<TraceId, Written>, read: TimeRange) -> Result<(), String> {
        for trace in traces {
            let earlier = written
                .get(&trace.trace_id)
                .map(|written| written.start_nanos)
                .filter(|start| *start < read.start_nanos);
            let Some(start_nanos) = earlier else { continue };
            let whole = self.read(&[trace.trace_id], TimeRange::new(start_nanos, read.end_nanos)).await?;
            if let Some(whole) = whole.into_iter().next() {
                *trace = whole;
            }
        }
        Ok(())
    }

    /// What is not written yet begins with the first span of a trace that is open, or the first row of another node that opened one.
    fn keep(&self, state: &mut State) {
        let first_open = state.open.values().map(|open| open.arrived.first_ingest_id.saturating_sub(1)).min();
        let done = first_open.unwrap_or(state.seen).min(state.seen).max(state.kept.done);
        let mut others = state.others.clone();
        for (node, before) in state.open.values().filter_map(|open| open.told_by.as_ref()) {
            if let Some(seen) = others.get_mut(node) {
                *seen = (*seen).min(*before);
            }
        }
        if done > state.kept.done || state.kept.others.as_ref() != Some(&others) {
            (state.kept.done, state.kept.others) = (done, Some(others));
            self.lake.keep_relaxed(state.kept.clone());
        }
    }
}

/// Why traces were not written.
#[derive(Debug)]
enum Failed {
    /// They are more than the log takes at once.
    TooLarge(String),
    /// Another try may help.
    Again(String),
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Failed::Again(message)
    }
}

fn again(error: impl std::fmt::Display) -> Failed {
    Failed::Again(error.to_string())
}

/// Where traces are looked for.
#[derive(Clone, Copy, Debug)]
struct Around {
    /// Spans and records.
    read: TimeRange,
    /// Rows start from here on.
    rows_from: i64,
    /// Whether the traces have lost spans, all of them perhaps.
    have_lost: bool,
}

impl Around {
    /// Around spans of a time; of a trace that may have begun so long before.
    fn of(first_nanos: i64, last_nanos: i64, longest_nanos: i64) -> Around {
        Around {
            read: TimeRange::new(first_nanos.saturating_sub(REACH_NANOS), last_nanos.saturating_add(REACH_NANOS)),
            rows_from: first_nanos.saturating_sub(longest_nanos),
            have_lost: false,
        }
    }
}
