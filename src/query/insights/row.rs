//! Rows on their way through a pipeline: an event, if they still are one, and the fields that commands gave them.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use super::syntax::FieldName;
use super::value::Value;
use super::{Event, discover, record};

/// An event with its fields, which are found when the first is asked for.
#[derive(Debug)]
pub(super) struct Origin {
    event: Event,
    account: Arc<str>,
    region: Arc<str>,
    /// The fields that a script names; without, all.
    wanted: Option<Arc<HashSet<Arc<str>>>>,
    discovered: OnceLock<Vec<(Arc<str>, Value)>>,
}

impl Origin {
    pub(super) fn new(event: Event, account: Arc<str>, region: Arc<str>, wanted: Option<Arc<HashSet<Arc<str>>>>) -> Self {
        Self {
            event,
            account,
            region,
            wanted,
            discovered: OnceLock::new(),
        }
    }

    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    pub(super) fn discovered(&self) -> &[(Arc<str>, Value)] {
        self.discovered.get_or_init(|| {
            let is_wanted = |name: &str| self.wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
            discover::fields(&self.event, &is_wanted)
        })
    }

    /// A system field, or one that was found.
    pub(super) fn get(&self, name: &str) -> Value {
        let event = &self.event;
        if name.starts_with('@') {
            match name {
                "@message" => return Value::Text(event.message.clone()),
                "@timestamp" => return Value::Time(event.timestamp_millis),
                "@ingestionTime" => return Value::Time(event.ingestion_millis),
                "@logStream" => return Value::Text(event.stream.clone()),
                "@log" => return Value::text(format!("{}:{}", self.account, event.group)),
                "@ptr" => return Value::Text(event.pointer.clone()),
                "@aws.account" => return Value::Text(self.account.clone()),
                "@aws.region" => return Value::Text(self.region.clone()),
                "@source.log" => return Value::Text(event.group.clone()),
                _ => {}
            }
        }
        let given = event.fields.iter().find(|(other, _)| **other == *name);
        if let Some((_, value)) = given {
            return Value::Text(value.clone());
        }
        let found = self.discovered().iter().find(|(other, _)| **other == *name);
        match found {
            Some((_, value)) => value.clone(),
            None => record::field(event, name),
        }
    }

    fn memory_bytes(&self) -> usize {
        let event = &self.event;
        let discovered = self
            .discovered
            .get()
            .map_or(0, |fields| fields.iter().map(|(name, value)| 56 + name.len() + value.memory_bytes()).sum());
        let given: usize = event.fields.iter().map(|(name, value)| 32 + name.len() + value.len()).sum();
        let record = event.record.as_ref().map_or(0, |record| record.memory_bytes());
        size_of::<Origin>() + record + event.message.len() + event.pointer.len() + 64 + given + discovered
    }
}

/// One row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) origin: Option<Arc<Origin>>,
    /// In the order given; no name twice.
    pub(super) fields: Vec<(Arc<str>, Value)>,
    /// The row that `join` found for it, and what it is called.
    pub(super) joined: Option<(Arc<str>, Arc<Row>)>,
}

impl Row {
    pub(super) fn of(origin: Origin) -> Self {
        Self {
            origin: Some(Arc::new(origin)),
            ..Row::default()
        }
    }

    /// Gives a field a value, maybe none; it hides what the event has under that name.
    pub(super) fn set(&mut self, name: &Arc<str>, value: Value) {
        match self.fields.iter_mut().find(|(other, _)| other == name) {
            Some((_, place)) => *place = value,
            None => self.fields.push((name.clone(), value)),
        }
    }

    fn given(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(other, _)| **other == *name).map(|(_, value)| value)
    }

    pub(super) fn get(&self, field: &FieldName) -> Value {
        if let Some(value) = self.given(&field.name) {
            return value.clone();
        }
        // a map or list may stand under the steps before
        if !self.fields.is_empty() {
            for end in field.ends.iter().rev() {
                if let Some(value @ (Value::Map(_) | Value::List(_))) = self.given(&field.name[..*end]) {
                    return walk(value, field, *end);
                }
            }
        }
        self.behind(&field.name)
    }

    /// What nobody gave: of the joined row, or the event.
    fn behind(&self, name: &str) -> Value {
        if let Some((alias, other)) = &self.joined
            && let Some(rest) = name.strip_prefix(&**alias).and_then(|rest| rest.strip_prefix('.'))
        {
            return other.get(&FieldName::plain(rest));
        }
        self.origin.as_ref().map(|origin| origin.get(name)).unwrap_or_default()
    }

    /// By its name as answers show it.
    pub(super) fn column(&self, name: &str) -> Value {
        match self.given(name) {
            Some(value) => value.clone(),
            None if name.contains('.') && !self.fields.is_empty() => self.get(&FieldName::plain(name)),
            None => self.behind(name),
        }
    }

    /// Memory that it holds, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(_, value)| size_of::<(Arc<str>, Value)>() + value.memory_bytes()).sum();
        size_of::<Row>() + fields + self.origin.as_ref().map_or(0, |origin| origin.memory_bytes())
    }
}

/// What a map or list has under a field's steps behind `from`.
fn walk(value: &Value, field: &FieldName, from: usize) -> Value {
    let mut value = value.clone();
    let mut start = from + 1;
    let ends = field.ends.iter().copied().chain([field.name.len()]).filter(|end| *end > from);
    for end in ends {
        // a key may itself have dots: then it is what is left
        let rest = value.member(&field.name[start..]);
        if !rest.is_null() {
            return rest;
        }
        value = value.member(&field.name[start..end]);
        start = end + 1;
    }
    value
}

/// What a value has under all of a field's steps.
pub(super) fn inside(value: &Value, field: &FieldName) -> Value {
    let whole = value.member(&field.name);
    if !whole.is_null() {
        return whole;
    }
    match field.ends.first() {
        Some(end) => walk(&value.member(&field.name[..*end]), field, *end),
        None => Value::Null,
    }
}
