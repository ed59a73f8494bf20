//! Frames of the log that a start could not read or decode: what was acknowledged in them is lost, and every answer that could have
//! had some of it says so, until a person says that this is known.
//!
//! Kept as one state document, so that it outlives the frames: it is stored by the flush that moves the log's position past
//! them, and found anew at each start before that. What a person has acknowledged stands in it too, for as long as a start
//! could find the same frames again.
//!
//! Other nodes on the store are told by the state that holds the document, and keep a copy of it, one for each node: their answers say so
//! too, also when that node is gone for good. A person says it to any of them. What was acknowledged stands in the copies, so it comes back
//! to the node whose frames they were; a copy in which they are still missing tells of them for longer than it need, never shorter.
//!
//! Which records they held nobody knows, and so neither how many: they are counted as frames, not in the ledger. Of their events it
//! is known when they came, from the frames around them, and therefore between which times they can lie ([`LostFrames::events`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;

use super::states::Documents;
use super::{Ingest, Inner, Refused};
use crate::catalog::NodeId;
use crate::model::TimeRange;
use crate::wal::{Hole, Lsn};

/// The state document.
const KEY: &str = "lost_frames";
/// The same of other nodes, by name: what was learnt of them.
const COPIES: &str = "lost_frames/";
/// Entries of it; what is lost beyond goes into the last one.
const MAX_ENTRIES: usize = 100;
/// Acknowledgements remembered of it; then the oldest are forgotten first.
const MAX_ACKNOWLEDGED: usize = 1_000;
/// The furthest that an event's time is behind its receipt, whatever the settings say: CloudWatch Logs has its own bound.
const MIN_AGE_DAYS: u16 = 14;
const DAY_NANOS: i64 = 24 * 3_600_000_000_000;
/// The furthest that it is ahead.
const AHEAD_NANOS: i64 = 2 * 3_600_000_000_000;
/// Where the collector keeps how far it came: it brings in events of any age.
const COLLECTED: &str = "collect/";

/// Frames next to each other, or, in the last of a long list, not next to each other.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LostFrames {
    /// Of whose log; `None`: that of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Log position of the first.
    pub first_lsn: Lsn,
    /// Log position of the last.
    pub last_lsn: Lsn,
    /// How many.
    pub frames: u64,
    /// They came at this time or later, nanoseconds since the epoch; `None` where nothing before them tells.
    pub received_from_nanos: Option<i64>,
    /// They came at this time or before.
    pub received_to_nanos: i64,
    /// Times that their events can have, first and last; `i64::MIN` and `i64::MAX` where there is no bound.
    pub events: (i64, i64),
    /// What is wrong with them.
    pub why: String,
    /// Where in the data directory a copy of their bytes lies; empty if there is none.
    pub copy: String,
}

impl LostFrames {
    /// Whether records of theirs could be in an answer over these times.
    pub fn may_lie_in(&self, range: &TimeRange) -> bool {
        range.overlaps(self.events.0, self.events.1)
    }

    /// What a person names to acknowledge just these.
    pub fn id(&self) -> String {
        let positions = format!("{}-{}", self.first_lsn, self.last_lsn);
        self.node.as_ref().map_or_else(|| positions.clone(), |node| format!("{node}:{positions}"))
    }

    fn has(&self, other: &LostFrames) -> bool {
        self.first_lsn <= other.first_lsn && other.last_lsn <= self.last_lsn
    }

    fn take_in(&mut self, other: LostFrames) {
        self.first_lsn = self.first_lsn.min(other.first_lsn);
        self.last_lsn = self.last_lsn.max(other.last_lsn);
        self.frames += other.frames;
        self.received_from_nanos = self.received_from_nanos.zip(other.received_from_nanos).map(|(a, b)| a.min(b));
        self.received_to_nanos = self.received_to_nanos.max(other.received_to_nanos);
        self.events = (self.events.0.min(other.events.0), self.events.1.max(other.events.1));
        if self.why != other.why {
            self.why = "for several reasons, which the log of the server told".into();
        }
        if self.copy.is_empty() {
            self.copy = other.copy;
        }
    }
}

/// The document.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Document {
    v: u32,
    lost: Vec<LostFrames>,
    /// First and last positions of what was acknowledged and may be found again.
    acknowledged: Vec<(Lsn, Lsn)>,
}

impl Document {
    fn read(bytes: Option<&Bytes>) -> Self {
        let Some(bytes) = bytes else { return Self::default() };
        serde_json::from_slice(bytes).unwrap_or_else(|error| {
            tracing::error!(key = KEY, %error, "the list of lost frames of the log cannot be read, and begins anew");
            Self::default()
        })
    }

    /// `None` for one that says nothing, unless it was there before: an empty one says that all was acknowledged, and one that is
    /// missing, as that of a node whose state was forgotten, says nothing at all.
    fn to_bytes(&self, was_there: bool) -> Option<Bytes> {
        if !was_there && self.lost.is_empty() && self.acknowledged.is_empty() {
            return None;
        }
        Some(serde_json::to_vec(self).expect("a list has a JSON form").into())
    }

    /// Adds what a start has found, unless it is known.
    fn add(&mut self, found: &LostFrames) {
        if !self.is_acknowledged((found.first_lsn, found.last_lsn)) {
            add(&mut self.lost, found.clone());
        }
    }

    fn is_acknowledged(&self, (from, to): (Lsn, Lsn)) -> bool {
        self.acknowledged.iter().any(|(first, last)| *first <= from && to <= *last)
    }

    /// A person knows of these positions.
    fn acknowledge(&mut self, positions: (Lsn, Lsn)) {
        if !self.is_acknowledged(positions) {
            self.acknowledged.push(positions);
            let n_over = self.acknowledged.len().saturating_sub(MAX_ACKNOWLEDGED);
            self.acknowledged.drain(..n_over);
        }
        let (first, last) = positions;
        self.lost.retain(|lost| lost.first_lsn < first || last < lost.last_lsn);
    }

    /// Makes a copy what the node itself says. What it says no more was acknowledged there.
    fn follow(&mut self, own: Document) {
        let known: Vec<(Lsn, Lsn)> = self
            .lost
            .iter()
            .filter(|lost| !own.lost.iter().any(|theirs| theirs.has(lost)))
            .map(|lost| (lost.first_lsn, lost.last_lsn))
            .collect();
        known.into_iter().chain(own.acknowledged).for_each(|positions| self.acknowledge(positions));
        self.lost = own.lost;
        let (lost, copy) = (std::mem::take(&mut self.lost), &*self);
        self.lost = lost.into_iter().filter(|lost| !copy.is_acknowledged((lost.first_lsn, lost.last_lsn))).collect();
    }

    /// Adds to a copy what another copy says; of what is lost only if the node itself says nothing any more.
    fn hear(&mut self, copy: Document, is_gone: bool) {
        copy.acknowledged.into_iter().for_each(|positions| self.acknowledge(positions));
        if is_gone {
            copy.lost.iter().for_each(|lost| self.add(lost));
        }
    }
}

/// Enters frames in a list, beside or into those that it has.
fn add(list: &mut Vec<LostFrames>, found: LostFrames) {
    if list.iter().any(|known| known.has(&found)) {
        return;
    }
    let is_full = list.len() >= MAX_ENTRIES;
    match list.last_mut() {
        Some(last) if is_full || (last.last_lsn + 1 == found.first_lsn && (&last.why, &last.copy) == (&found.why, &found.copy)) => last.take_in(found),
        _ => list.push(found),
    }
}

/// The same in whatever place the data directory is.
fn in_data_dir(copy: &Path) -> String {
    format!("wal/quarantine/{}", copy.file_name().unwrap_or_default().to_string_lossy())
}

/// The frames that one start finds to be lost.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<LostFrames>);

/// What answers are told.
#[derive(Debug, Default)]
pub(super) struct Shown {
    lost: Mutex<Arc<[LostFrames]>>,
    /// One changes the document at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Shown {
    pub(super) fn get(&self) -> Arc<[LostFrames]> {
        self.lost.lock().clone()
    }
}

impl Inner {
    /// Frames that are missing or damaged, of which the next one that can be read came at a time.
    pub(super) fn found_holes(&self, found: &mut Found, holes: Vec<Hole>, next_nanos: i64) {
        for hole in holes {
            let copy = hole.copy.as_deref().map_or_else(String::new, in_data_dir);
            let received = (hole.after_nanos, next_nanos);
            self.found(found, (hole.from, hole.to - 1), received, "damaged or missing".into(), copy);
        }
    }

    /// A frame that cannot be decoded, and when it came.
    pub(super) fn found_undecodable(&self, found: &mut Found, lsn: Lsn, received_nanos: i64, error: &str, copy: &Path) {
        let received = (Some(received_nanos), received_nanos);
        self.found(found, (lsn, lsn), received, format!("cannot be decoded: {error}"), in_data_dir(copy));
    }

    fn found(&self, found: &mut Found, (first_lsn, last_lsn): (Lsn, Lsn), (from, to): (Option<i64>, i64), why: String, copy: String) {
        // clocks may be set back
        let (from, to) = (from.map(|from| from.min(to)), from.map_or(to, |from| from.max(to)));
        let lost = LostFrames {
            node: None,
            first_lsn,
            last_lsn,
            frames: last_lsn - first_lsn + 1,
            received_from_nanos: from,
            received_to_nanos: to,
            events: self.times_of_events(from, to),
            why,
            copy,
        };
        add(&mut found.0, lost);
    }

    /// The times that events can have which came between two times.
    fn times_of_events(&self, from: Option<i64>, to: i64) -> (i64, i64) {
        if self.config.max_age_days == 0 {
            return (i64::MIN, i64::MAX);
        }
        let is_collected = {
            let states = self.states.lock();
            states.under(COLLECTED).next().is_some()
        };
        let age_nanos = i64::from(self.config.max_age_days.max(MIN_AGE_DAYS)) * DAY_NANOS;
        let first = from.filter(|_| !is_collected).map_or(i64::MIN, |from| from.saturating_sub(age_nanos));
        (first, to.saturating_add(AHEAD_NANOS))
    }

    /// Brings what this start has found so far into the document, before a flush takes the log's position past it.
    pub(super) fn note_lost_frames(&self, found: &Found) {
        let mut states = self.states.lock();
        let before = states.get(KEY);
        let mut document = Document::read(before);
        document.v = 1;
        found.0.iter().for_each(|lost| document.add(lost));
        // positions that blocks cover are not replayed again
        let flushed = self.flushed_lsn.load(Ordering::Acquire);
        document.acknowledged.retain(|(_, last)| *last > flushed);
        let after = document.to_bytes(before.is_some());
        if before != after.as_ref() {
            states.set(KEY, after);
            self.note_state_waits();
        }
        self.show_lost_frames(&states);
    }

    /// Lets answers tell what the documents say.
    fn show_lost_frames(&self, states: &Documents) {
        let own = Document::read(states.get(KEY)).lost;
        let of_others = states.under(COPIES).flat_map(|(key, bytes)| {
            let node = key.strip_prefix(COPIES).and_then(NodeId::parse);
            let of_node = move |lost: LostFrames| LostFrames { node: node.clone(), ..lost };
            Document::read(Some(bytes)).lost.into_iter().map(of_node)
        });
        *self.lost_frames.lost.lock() = own.into_iter().chain(of_others).collect();
    }

    /// Takes over what changed in the state of another node says of lost frames: of its own, and of those of others.
    pub(super) async fn learn_of_lost_frames(&self, from: &NodeId, changes: &BTreeMap<String, Option<Bytes>>) {
        let copies = changes.range(COPIES.to_string()..).take_while(|(key, _)| key.starts_with(COPIES));
        let copies: Vec<(NodeId, &Bytes)> = copies
            .filter_map(|(key, value)| Some((NodeId::parse(key.strip_prefix(COPIES)?)?, value.as_ref()?)))
            .collect();
        let own = changes.get(KEY).and_then(Option::as_ref);
        if own.is_none() && copies.is_empty() {
            return;
        }
        let snapshot = self.catalog.snapshot();
        let _one_at_a_time = self.lost_frames.changing.lock().await;
        let mut states = self.states.lock();
        // also if others took our state over while we were silent
        let know_nothing = states.get(KEY).is_none();
        let mut has_changed = false;
        let mut change = |key: String, change: &mut dyn FnMut(&mut Document)| {
            let before = states.get(&key).cloned();
            let mut document = Document::read(before.as_ref());
            document.v = 1;
            change(&mut document);
            let after = document.to_bytes(before.is_some());
            has_changed |= before != after;
            states.set(key, after);
        };
        if own.is_some() {
            change(format!("{COPIES}{from}"), &mut |copy| copy.follow(Document::read(own)));
        }
        let flushed = self.flushed_lsn.load(Ordering::Acquire);
        for (node, bytes) in copies.into_iter().filter(|(node, _)| node != from) {
            let copy = Document::read(Some(bytes));
            if node == *self.catalog.node() {
                change(KEY.into(), &mut |own| {
                    if know_nothing {
                        copy.lost.iter().for_each(|lost| own.add(lost));
                    }
                    // what no start finds again need not be remembered
                    let of_us = |positions: &&(Lsn, Lsn)| {
                        let (first, last) = **positions;
                        last > flushed || own.lost.iter().any(|lost| first <= lost.first_lsn && lost.last_lsn <= last)
                    };
                    let known: Vec<(Lsn, Lsn)> = copy.acknowledged.iter().filter(of_us).copied().collect();
                    known.into_iter().for_each(|positions| own.acknowledge(positions));
                });
            } else {
                let is_gone = snapshot.state(&node).is_none();
                change(format!("{COPIES}{node}"), &mut |ours| ours.hear(Document::read(Some(bytes)), is_gone));
            }
        }
        self.show_lost_frames(&states);
        drop(states);
        if has_changed {
            self.note_state_waits();
        }
    }
}

impl Ingest {
    /// Frames of the log that were lost, and that no person has acknowledged; then those of other nodes, as far as is known here.
    pub fn lost_frames(&self) -> Arc<[LostFrames]> {
        self.inner.lost_frames.get()
    }

    /// A person knows of these lost frames ([`LostFrames::id`]): answers say nothing of them any more. Gives them; `None` if there are
    /// none of that name.
    pub async fn acknowledge_lost_frames(&self, id: &str) -> Result<Option<LostFrames>, Refused> {
        let _one_at_a_time = self.inner.lost_frames.changing.lock().await;
        let us = self.inner.catalog.node();
        let shown = self.inner.lost_frames.get();
        let is_meant = |lost: &&LostFrames| lost.id() == id || (lost.node.is_none() && id == format!("{us}:{}", lost.id()));
        let Some(lost) = shown.iter().find(is_meant).cloned() else {
            return Ok(None);
        };
        let key = lost.node.as_ref().map_or_else(|| KEY.to_string(), |node| format!("{COPIES}{node}"));
        let mut document = Document::read(self.inner.states.lock().get(&key));
        document.v = 1;
        document.acknowledge((lost.first_lsn, lost.last_lsn));
        self.put_state(&key, document.to_bytes(true)).await?;
        self.inner.show_lost_frames(&self.inner.states.lock());
        tracing::warn!(
            id,
            frames = lost.frames,
            copy = lost.copy,
            "lost frames of the log were acknowledged: answers tell of them no more"
        );
        Ok(Some(lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(first_lsn: Lsn, last_lsn: Lsn, why: &str) -> LostFrames {
        LostFrames {
            node: None,
            first_lsn,
            last_lsn,
            frames: last_lsn - first_lsn + 1,
            received_from_nanos: Some(first_lsn as i64),
            received_to_nanos: last_lsn as i64,
            events: (first_lsn as i64, last_lsn as i64),
            why: why.into(),
            copy: "c".into(),
        }
    }

    #[test]
    fn the_list_is_bounded_and_has_each_frame_once() {
        let mut document = Document::default();
        document.add(&lost(1, 1, "a"));
        document.add(&lost(2, 3, "a"));
        document.add(&lost(4, 4, "b"));
        // a start before the flush finds them again
        for _ in 0..2 {
            document.add(&lost(2, 3, "a"));
        }
        let ids: Vec<String> = document.lost.iter().map(LostFrames::id).collect();
        assert_eq!(ids, ["1-3", "4-4"]);
        for lsn in 0..1_000 {
            document.add(&lost(10 + 2 * lsn, 10 + 2 * lsn, "c"));
        }
        assert_eq!(document.lost.len(), MAX_ENTRIES);
        assert_eq!(document.lost.iter().map(|lost| lost.frames).sum::<u64>(), 1_004);
        let last = &document.lost[MAX_ENTRIES - 1];
        assert_eq!((last.last_lsn, last.events.1), (10 + 2 * 999, 10 + 2 * 999));
        document.acknowledged.push((5_000, 5_010));
        document.add(&lost(5_001, 5_002, "d"));
        assert_eq!(document.lost[MAX_ENTRIES - 1].last_lsn, 10 + 2 * 999, "acknowledged");
        let again = Document::read(document.to_bytes(false).as_ref());
        assert_eq!((again.lost, again.acknowledged), (document.lost, document.acknowledged));
        assert!(Document::read(Some(&Bytes::from_static(b"torn"))).lost.is_empty());
    }

    fn ids(document: &Document) -> Vec<String> {
        document.lost.iter().map(LostFrames::id).collect()
    }

    fn copy_of(document: &Document) -> Document {
        Document::read(document.to_bytes(false).as_ref())
    }

    #[test]
    fn copies_come_to_say_the_same_whoever_acknowledges() {
        let (mut own, mut one, mut two) = (Document::default(), Document::default(), Document::default());
        for lsn in [1, 5, 9] {
            own.add(&lost(lsn, lsn + 1, "a"));
        }
        one.follow(copy_of(&own));
        two.follow(copy_of(&own));
        assert_eq!((ids(&one), ids(&two)), (ids(&own), ids(&own)));
        // told to one copy, it reaches the other; and the node's own word, which does not know it yet, does not bring it back
        one.acknowledge((1, 2));
        two.hear(copy_of(&one), false);
        two.follow(copy_of(&own));
        assert_eq!(ids(&two), ["5-6", "9-10"]);
        // told to the node itself, which then forgets it
        own.acknowledge((5, 6));
        own.acknowledged.clear();
        one.follow(copy_of(&own));
        two.hear(copy_of(&one), false);
        assert_eq!((ids(&one), ids(&two)), (vec!["9-10".to_string()], vec!["9-10".to_string()]));
        // of a node that is gone a copy is all there is; of one that is not, a copy that is older says nothing
        let mut new = Document::default();
        new.hear(copy_of(&two), false);
        assert_eq!(ids(&new), Vec::<String>::new());
        new.hear(copy_of(&two), true);
        new.hear(copy_of(&two), true);
        assert_eq!(ids(&new), ["9-10"]);
        // what has grown since is told anew
        let mut grown = Document::default();
        grown.add(&lost(1, 4, "a"));
        one.follow(grown);
        assert_eq!(ids(&one), ["1-4"]);
        for lsn in 100..100 + 2 * MAX_ACKNOWLEDGED as u64 {
            one.acknowledge((2 * lsn, 2 * lsn));
        }
        assert_eq!(one.acknowledged.len(), MAX_ACKNOWLEDGED);
    }
}
