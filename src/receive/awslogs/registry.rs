//! Log groups and streams: which exist, their retention and tags, and when each stream was last written to.
//!
//! In memory, so that every `PutLogEvents` can ask; each change is durable before it is acknowledged or seen. Documents
//! lie under `loggroup/GROUP` and `logstream/GROUP\0STREAM` as JSON. When a stream was written to is stored with the next
//! flush only; after a crash the replayed log tells the rest ([`StreamEvents`]), and bytes may be counted a little too high or low.
//!
//! Groups and streams are facts about the store: what other nodes know is taken over ([`Facts`]).
//!
//! Changes to one group or stream are made one after another, to different ones side by side. Bounds: [`Limits`].

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};

use super::super::Intake;
use super::arn::Arns;
use super::delete::{GONE_KEY, Gone};
use super::error::{Error, Result};
use super::events::Streams;
use super::metric_filters::{MetricFilters, definitions};
use super::stream_table::StreamTable;
use super::subscription_filters::FilterRecord;
use crate::decode::awslogs::Validation;
use crate::ingest::{Facts, LogGroups, StreamEvents};
use crate::metric_filter::Filters;

/// What `logGroupClass` may be; the first is the default.
pub const CLASSES: [&str; 4] = ["STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"];

const GROUP_KEY: &str = "loggroup/";
const STREAM_KEY: &str = "logstream/";
/// Locks that changes are spread over, by name.
const STRIPES: usize = 64;

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Log groups.
    pub max_log_groups: usize,
    /// Log streams in all groups together.
    pub max_log_streams: usize,
}

/// A log group as stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct GroupRecord {
    pub(super) created_millis: i64,
    pub(super) retention_days: Option<i32>,
    pub(super) class: String,
    pub(super) kms_key_id: Option<String>,
    pub(super) deletion_protection: bool,
    /// Whether events may come in with a bearer token; `None`: nobody said, and they may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bearer_tokens: Option<bool>,
    pub(super) tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) subscription_filters: BTreeMap<String, FilterRecord>,
    pub(super) metric_filters: MetricFilters,
    /// Grows with each change: of what two nodes know of a group, the greater is newer.
    pub(super) version: u64,
}

/// A log stream as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StreamRecord {
    pub(super) created_millis: i64,
    pub(super) first_event_millis: Option<i64>,
    pub(super) last_event_millis: Option<i64>,
    pub(super) last_ingestion_millis: Option<i64>,
    /// Bytes of messages taken, each with its overhead.
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) record: GroupRecord,
    pub(super) streams: StreamTable,
    /// Sum over the streams.
    pub(super) bytes: u64,
}

impl Group {
    fn has_entities(&self) -> bool {
        self.record.class.is_empty() || self.record.class == CLASSES[0]
    }
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_name: BTreeMap<String, Group>,
    pub(super) n_streams: usize,
    pub(super) gone: Gone,
    /// Told of every change of a group's metric filters.
    pub(super) filters: Arc<Filters>,
    /// Of which account and region events are.
    arns: Arns,
}

/// The log groups and streams of this server.
#[derive(Debug)]
pub struct Registry {
    intake: Arc<dyn Intake>,
    limits: Limits,
    arns: Arns,
    groups: RwLock<Groups>,
    changing: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// What one request brought to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Time of the first event taken.
    pub first_event_millis: i64,
    /// Time of the last one.
    pub last_event_millis: i64,
    /// When the request arrived.
    pub received_millis: i64,
    /// Bytes of messages, each with its overhead.
    pub bytes: u64,
}

impl Written {
    /// Takes in what else it brought.
    pub(super) fn add(&mut self, other: &Written) {
        self.first_event_millis = self.first_event_millis.min(other.first_event_millis);
        self.last_event_millis = self.last_event_millis.max(other.last_event_millis);
        self.bytes += other.bytes;
    }
}

/// What taking events of a stream needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamFacts {
    /// Of its group; 0 = for ever.
    pub(super) retention_days: i32,
    /// When the stream was made.
    pub(super) created_millis: i64,
    /// What came up to this time is of an earlier stream of its name, and gone.
    pub(super) gone_millis: Option<i64>,
    /// Whether events of its group have entities.
    pub(super) has_entities: bool,
}

impl StreamFacts {
    /// When a request is received that comes now. Whoever said when an earlier stream was deleted, another node or ourselves before the
    /// clock was set, may have been ahead of our clock: what is acknowledged now came after it all the same, and is shown.
    pub(super) fn received_at(&self, now_nanos: i64) -> i64 {
        let first = self.gone_millis.map(|gone| gone.saturating_add(1).saturating_mul(1_000_000));
        first.map_or(now_nanos, |first| first.max(now_nanos))
    }
}

impl LogGroups for Registry {
    fn retention_days(&self) -> Vec<(String, u32)> {
        let groups = self.groups.read();
        let with_days = |(name, group): (&String, &Group)| {
            let days = group.record.retention_days.and_then(|days| u32::try_from(days).ok()).filter(|days| *days > 0)?;
            Some((name.clone(), days))
        };
        groups.by_name.iter().filter_map(with_days).collect()
    }
}

impl Groups {
    /// The metric filters of a group are these from now on.
    pub(super) fn tell_filters(&self, name: &str, record: &GroupRecord) {
        self.filters.set(name, &definitions(&record.metric_filters, &self.arns));
    }
}

impl Registry {
    /// Reads back what an earlier life stored.
    pub fn open(intake: Arc<dyn Intake>, arns: Arns, limits: Limits, filters: Arc<Filters>) -> Self {
        let mut groups = Groups {
            filters,
            arns: arns.clone(),
            ..Groups::default()
        };
        for (key, value) in intake.states(GROUP_KEY) {
            match serde_json::from_slice(&value) {
                Ok(record) => {
                    let name = key[GROUP_KEY.len()..].to_string();
                    groups.tell_filters(&name, &record);
                    groups.by_name.insert(name, Group { record, ..Group::default() });
                }
                Err(error) => tracing::error!(key, %error, "a stored log group is damaged and is left out"),
            }
        }
        for (key, value) in intake.states(STREAM_KEY) {
            let group = key[STREAM_KEY.len()..]
                .split_once('\0')
                .and_then(|(group, stream)| Some((groups.by_name.get_mut(group)?, stream)));
            match (group, serde_json::from_slice::<StreamRecord>(&value)) {
                (Some((group, stream)), Ok(record)) => {
                    group.bytes += record.bytes;
                    group.streams.insert(stream, record);
                    groups.n_streams += 1;
                }
                (None, _) => tracing::error!(key, "a stored log stream has no log group and is left out"),
                (_, Err(error)) => tracing::error!(key, %error, "a stored log stream is damaged and is left out"),
            }
        }
        for (key, value) in intake.states(GONE_KEY) {
            match std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok()) {
                Some(at) => groups.gone.insert(&key[GONE_KEY.len()..], at),
                None => tracing::error!(key, "a stored note of a deleted log group is damaged and is left out"),
            }
        }
        let registry = Self {
            intake,
            limits,
            arns,
            groups: RwLock::new(groups),
            changing: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
        };
        // what was written since the records of streams were stored
        for events in registry.intake.take_replayed_streams() {
            registry.written_before(&events);
        }
        registry
    }

    /// Notes what an earlier life took, unless the stream as it was stored has it, or was made after it.
    fn written_before(&self, events: &StreamEvents) {
        let received = |nanos: i64| nanos.div_euclid(1_000_000);
        let (is_older, is_counted) = {
            let groups = self.groups.read();
            let stream = groups.by_name.get(&events.log_group).and_then(|group| group.streams.get(&events.log_stream));
            let Some(stream) = stream else { return };
            (
                received(events.first_received_nanos) < stream.created_millis,
                stream.last_ingestion_millis.is_some_and(|last| received(events.last_received_nanos) <= last),
            )
        };
        if is_older || is_counted {
            return;
        }
        let written = Written {
            first_event_millis: received(events.first_nanos),
            last_event_millis: received(events.last_nanos),
            received_millis: received(events.last_received_nanos),
            bytes: events.bytes,
        };
        self.written(&events.log_group, &events.log_stream, &written);
    }

    pub(super) fn arns(&self) -> &Arns {
        &self.arns
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Groups> {
        self.groups.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Groups> {
        self.groups.write()
    }

    pub(super) fn intake(&self) -> &Arc<dyn Intake> {
        &self.intake
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// The retention of a stream's group in days, 0 = never expires, if both exist.
    pub fn retention_of(&self, group: &str, stream: &str) -> Result<i32> {
        Ok(self.facts_of(group, stream)?.retention_days)
    }

    /// What taking events of a stream needs to know, if it and its group exist.
    pub(super) fn facts_of(&self, group: &str, stream: &str) -> Result<StreamFacts> {
        let groups = self.groups.read();
        let gone_millis = groups.gone.of_stream(group, stream);
        let group = groups.by_name.get(group).ok_or(Error::NotFound("group"))?;
        let Some(stream) = group.streams.get(stream) else {
            return Err(Error::NotFound("stream"));
        };
        Ok(StreamFacts {
            retention_days: group.record.retention_days.unwrap_or(0),
            created_millis: stream.created_millis,
            gone_millis,
            has_entities: group.has_entities(),
        })
    }

    /// Whether events of a group have entities: those of the class STANDARD do.
    pub(super) fn has_entities(&self, group: &str) -> bool {
        self.groups.read().by_name.get(group).is_some_and(Group::has_entities)
    }

    /// Whether a group exists, and the streams that are named.
    pub(super) fn check_streams_exist(&self, group: &str, streams: &Streams) -> Result<()> {
        let groups = self.groups.read();
        let group = groups.by_name.get(group).ok_or(Error::NotFound("group"))?;
        match streams {
            Streams::Named(names) if !names.iter().all(|name| group.streams.contains(name)) => Err(Error::NotFound("stream")),
            _ => Ok(()),
        }
    }

    /// Notes that events were taken.
    pub fn written(&self, group_name: &str, stream_name: &str, written: &Written) {
        self.note(group_name, stream_name, written, false);
    }

    /// Notes that events were taken which came again: no bytes more, and ingested when they came first, if the stream has been told that.
    pub(super) fn repeated(&self, group_name: &str, stream_name: &str, written: &Written) {
        self.note(group_name, stream_name, &Written { bytes: 0, ..*written }, true);
    }

    fn note(&self, group_name: &str, stream_name: &str, written: &Written, is_repeat: bool) {
        let mut groups = self.groups.write();
        let Some(group) = groups.by_name.get_mut(group_name) else { return };
        let changed = group.streams.change(stream_name, |stream| {
            let earliest = stream
                .first_event_millis
                .map_or(written.first_event_millis, |first| first.min(written.first_event_millis));
            stream.first_event_millis = Some(earliest);
            stream.last_event_millis = stream.last_event_millis.max(Some(written.last_event_millis));
            if !is_repeat || stream.last_ingestion_millis.is_none() {
                stream.last_ingestion_millis = stream.last_ingestion_millis.max(Some(written.received_millis));
            }
            stream.bytes += written.bytes;
        });
        let Some(stream) = changed else { return };
        group.bytes += written.bytes;
        // under the lock, so that the last one stored is the last one noted
        self.intake.put_state_relaxed(&stream_key(group_name, stream_name), to_json(stream).into());
    }

    /// Changes a group's record: durable first, then seen.
    pub(super) async fn change_group(&self, name: &str, change: impl FnOnce(&mut GroupRecord) -> Result<()>) -> Result<()> {
        let _changing = self.changing(name).await;
        let before = {
            let groups = self.groups.read();
            groups.by_name.get(name).ok_or(Error::NotFound("group"))?.record.clone()
        };
        let mut record = before.clone();
        change(&mut record)?;
        if record == before {
            return Ok(());
        }
        record.version += 1;
        self.intake.put_state(&group_key(name), Some(to_json(&record).into())).await?;
        let mut groups = self.groups.write();
        if record.metric_filters != before.metric_filters && groups.by_name.contains_key(name) {
            groups.tell_filters(name, &record);
        }
        if let Some(group) = groups.by_name.get_mut(name) {
            group.record = record;
        }
        Ok(())
    }

    /// Takes over what another node knows of a group. Of two that were changed at the same time, one wins, the same on every node.
    async fn learn_group(&self, name: &str, value: &Bytes) {
        let Ok(record) = serde_json::from_slice::<GroupRecord>(value) else {
            return tracing::error!(name, "another node's log group is damaged and is left out");
        };
        let _changing = self.changing(name).await;
        let mut groups = self.groups.write();
        if groups.gone.at(name).is_some_and(|at| record.created_millis <= at) {
            return;
        }
        let n_groups = groups.by_name.len();
        let learnt = record.clone();
        match groups.by_name.get_mut(name) {
            Some(known) if (known.record.version, to_json(&known.record)) >= (record.version, to_json(&record)) => return,
            Some(known) => known.record = record,
            None if n_groups >= self.limits.max_log_groups => {
                return tracing::warn!(name, "another node's log group is beyond awslogs.max_log_groups and is left out");
            }
            None => {
                groups.by_name.insert(name.to_string(), Group { record, ..Group::default() });
            }
        }
        groups.tell_filters(name, &learnt);
        self.intake.put_state_relaxed(&group_key(name), value.clone());
    }

    /// Takes over what another node knows of a stream: the widest span of times, the larger number of bytes.
    async fn learn_stream(&self, group_name: &str, stream_name: &str, value: &Bytes) {
        let Ok(record) = serde_json::from_slice::<StreamRecord>(value) else {
            return tracing::error!(group_name, stream_name, "another node's log stream is damaged and is left out");
        };
        let key = stream_key(group_name, stream_name);
        let _changing = self.changing(&key).await;
        let mut groups = self.groups.write();
        let groups = &mut *groups;
        let gone = groups.gone.of_stream(group_name, stream_name);
        if gone.is_some_and(|at| record.created_millis <= at) {
            return;
        }
        let Some(group) = groups.by_name.get_mut(group_name) else { return };
        let merged = match group.streams.get(stream_name) {
            None if groups.n_streams >= self.limits.max_log_streams => {
                return tracing::warn!(
                    group_name,
                    stream_name,
                    "another node's log stream is beyond awslogs.max_log_streams and is left out"
                );
            }
            None => {
                groups.n_streams += 1;
                record
            }
            Some(known) => {
                group.bytes -= known.bytes;
                StreamRecord {
                    created_millis: known.created_millis.min(record.created_millis),
                    first_event_millis: [known.first_event_millis, record.first_event_millis].into_iter().flatten().min(),
                    last_event_millis: known.last_event_millis.max(record.last_event_millis),
                    last_ingestion_millis: known.last_ingestion_millis.max(record.last_ingestion_millis),
                    bytes: known.bytes.max(record.bytes),
                }
            }
        };
        group.bytes += merged.bytes;
        if group.streams.get(stream_name) != Some(&merged) {
            self.intake.put_state_relaxed(&key, to_json(&merged).into());
            group.streams.insert(stream_name, merged);
        }
    }

    pub(super) async fn changing(&self, name: &str) -> MutexGuard<'_, ()> {
        let stripe = self.hasher.hash_one(name) as usize % STRIPES;
        self.changing[stripe].lock().await
    }
}

#[async_trait]
impl Facts for Registry {
    fn prefixes(&self) -> Vec<&'static str> {
        // what is gone first: it does not come back; then groups: a stream without its group is left out
        vec![GONE_KEY, GROUP_KEY, STREAM_KEY]
    }
    async fn learn(&self, key: &str, value: &Bytes) {
        if let Some(name) = key.strip_prefix(GONE_KEY) {
            self.learn_gone(name, value).await;
        } else if let Some(group) = key.strip_prefix(GROUP_KEY) {
            self.learn_group(group, value).await;
        } else if let Some((group, stream)) = key.strip_prefix(STREAM_KEY).and_then(|rest| rest.split_once('\0')) {
            self.learn_stream(group, stream, value).await;
        }
    }
}

pub(super) fn group_key(group: &str) -> String {
    format!("{GROUP_KEY}{group}")
}

pub(super) fn stream_key(group: &str, stream: &str) -> String {
    format!("{STREAM_KEY}{group}\0{stream}")
}

pub(super) fn to_json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("a record has text keys and plain values")
}

/// A required log group name, checked.
pub(super) fn group_name(name: &Option<String>) -> Result<&str> {
    let mut validation = Validation::new();
    if let Some(name) = validation.required(name, "logGroupName") {
        validation.log_group_name(name, "logGroupName");
    }
    validation.finish().map_err(Error::InvalidParameter)?;
    Ok(name.as_deref().unwrap_or_default())
}

/// A group and a stream that a call must name.
pub(super) fn check_stream(validation: &mut Validation, group: &Option<String>, stream: &Option<String>) {
    if let Some(name) = validation.required(group, "logGroupName") {
        validation.log_group_name(name, "logGroupName");
    }
    if let Some(name) = validation.required(stream, "logStreamName") {
        validation.log_stream_name(name, "logStreamName");
    }
}

pub(super) fn check_class(validation: &mut Validation, class: &str) {
    if !CLASSES.contains(&class) {
        let classes = CLASSES.join(", ");
        validation.violation(class, "logGroupClass", format_args!("Member must satisfy enum value set: [{classes}]"));
    }
}
