//! The log groups of a query, and which rows are events of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Registry;
use crate::decode::awslogs::entity::kept_in;
use crate::model::EventId;
use crate::query::insights::{Event, Record, Scope};
use crate::query::{Hit, LogHit, Query};

/// More groups than this are not asked for by name: the rows of all are looked at, and verified.
const MAX_ASKED_BY_NAME: usize = 200;
/// What fields of the entity that events came with begin with.
const ENTITY: &str = "@entity.";

/// Groups, as they were when the query began, in streams that exist when a row is looked at.
#[derive(Debug)]
pub(super) struct OfGroups {
    registry: Arc<Registry>,
    groups: BTreeMap<String, Group>,
}

/// A log group as its events have it.
#[derive(Clone, Debug)]
pub(in super::super) struct Group {
    /// In the form that events carry.
    name: Arc<str>,
    has_entities: bool,
}

impl Group {
    pub(in super::super) fn of(registry: &Registry, name: &str) -> Self {
        Self {
            name: name.into(),
            has_entities: registry.has_entities(name),
        }
    }
}

impl OfGroups {
    pub(super) fn new(registry: Arc<Registry>, groups: &[String]) -> Self {
        let groups = groups.iter().map(|name| (name.clone(), Group::of(&registry, name))).collect();
        Self { registry, groups }
    }
}

impl Scope for OfGroups {
    fn query(&self) -> Query {
        if self.groups.len() > MAX_ASKED_BY_NAME {
            return Query::exists("@log_group");
        }
        Query::Or(self.groups.keys().map(|name| Query::equals("@log_group", name)).collect())
    }

    fn event(&self, hit: Hit) -> Option<Event> {
        let event = event(hit, |group| self.groups.get(group).cloned())?;
        self.registry.shows(&event.group, &event.stream, event.ingestion_millis).then_some(event)
    }

    fn has(&self, group: &str, stream: &str) -> Option<bool> {
        if !self.groups.contains_key(group) {
            return Some(false);
        }
        self.registry.shows_all(group, stream)
    }

    fn shows(&self, group: &str, stream: &str, ingestion_millis: i64) -> bool {
        self.groups.contains_key(group) && self.registry.shows(group, stream, ingestion_millis)
    }
}

/// The event that a row is, if it says of which group and stream; `group` gives what is known of that one, or no event.
pub(in super::super) fn event(hit: Hit, group: impl FnOnce(&str) -> Option<Group>) -> Option<Event> {
    let Hit::Log(log) = hit else { return None };
    let LogHit {
        ingest_id,
        time_unix_nano,
        observed_time_micros,
        trace_id,
        trace_id_source,
        span_id,
        severity_number,
        severity_text,
        event_name,
        body,
        pattern_id,
        attributes,
        resource_attributes,
        ..
    } = *log;
    let resource = |key: &str| resource_attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let Group { name: group, has_entities } = group(resource("aws.log.group.names")?)?;
    let stream = resource("aws.log.stream.names")?;
    let timestamp_millis = time_unix_nano.div_euclid(1_000_000);
    let ingestion_millis = observed_time_micros.map_or(timestamp_millis, |micros| micros.div_euclid(1_000));
    let entity = if has_entities { kept_in(&resource_attributes) } else { Vec::new() };
    let fields = entity
        .into_iter()
        .map(|(name, value)| (format!("{ENTITY}{name}").into(), value.into()))
        .collect();
    Some(Event {
        pointer: EventId::new(time_unix_nano, ingest_id, &group, stream).pointer().into(),
        stream: stream.into(),
        group,
        timestamp_millis,
        ingestion_millis,
        message: body.unwrap_or_default().into(),
        trace_id,
        span_id,
        fields,
        record: Some(Box::new(Record {
            attributes,
            resource_attributes,
            severity_number,
            severity_text,
            event_name,
            trace_id_source,
            pattern_id,
        })),
    })
}
