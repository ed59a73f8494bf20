//! What a resource and an instrumentation scope say once for all their records.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::Value;
use super::schema::RESOURCE_COLUMNS;

/// A resource and scope: shared by every row that was sent under them, equal when [`Context::hash`] is equal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Context {
    /// Values of [`RESOURCE_COLUMNS`], in that order.
    columns: Vec<Option<String>>,
    scope_name: Option<String>,
    scope_version: Option<String>,
    /// What is not promoted, sorted by key, each key once.
    resource_attributes: Vec<(String, String)>,
    #[serde(skip)]
    hash: u128,
}

impl Context {
    /// The value of a context column ([`super::schema::is_context_column`]) other than `resource_attributes`.
    pub fn column(&self, name: &str) -> Option<&str> {
        match name {
            "scope_name" => self.scope_name.as_deref(),
            "scope_version" => self.scope_version.as_deref(),
            _ => {
                let index = RESOURCE_COLUMNS.iter().position(|(_, column)| *column == name)?;
                self.columns[index].as_deref()
            }
        }
    }

    /// `service.name`.
    pub fn service_name(&self) -> Option<&str> {
        self.columns[0].as_deref()
    }

    /// Resource attributes without a column of their own, sorted by key.
    pub fn resource_attributes(&self) -> &[(String, String)] {
        &self.resource_attributes
    }

    /// A resource attribute by the name the client sent, promoted or not.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let promoted = RESOURCE_COLUMNS.iter().position(|(attribute, _)| *attribute == key);
        if let Some(value) = promoted.and_then(|index| self.columns[index].as_deref()) {
            return Some(value);
        }
        let found = self.resource_attributes.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok()?;
        Some(&self.resource_attributes[found].1)
    }

    /// The same, with another value of a promoted resource attribute.
    pub fn with(&self, key: &str, value: &str) -> Context {
        let mut context = self.clone();
        match RESOURCE_COLUMNS.iter().position(|(attribute, _)| *attribute == key) {
            Some(index) => context.columns[index] = Some(value.to_string()),
            None => debug_assert!(false, "{key} has no column"),
        }
        // as it came, where it was no text
        context.resource_attributes.retain(|(other, _)| other != key);
        context.rehashed()
    }

    /// Identity: xxh3-128 over all of it.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// Approximate bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let columns: usize = self.columns.iter().flatten().map(|value| value.len()).sum();
        let attributes: usize = self.resource_attributes.iter().map(|(k, v)| k.len() + v.len() + 48).sum();
        columns + attributes + self.columns.len() * 24 + 128
    }

    /// Restores [`Context::hash`] after deserialising.
    pub fn rehashed(mut self) -> Self {
        let mut bytes = Vec::with_capacity(256);
        let mut put = |value: Option<&str>| {
            match value {
                Some(text) => {
                    bytes.extend_from_slice(&(text.len() as u64 + 1).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                None => bytes.extend_from_slice(&0u64.to_le_bytes()),
            };
        };
        for value in &self.columns {
            put(value.as_deref());
        }
        put(self.scope_name.as_deref());
        put(self.scope_version.as_deref());
        for (key, value) in &self.resource_attributes {
            put(Some(key));
            put(Some(value));
        }
        self.hash = xxh3_128(&bytes);
        self
    }
}

/// Gathers one [`Context`] from a resource's attributes and a scope.
#[derive(Clone, Debug, Default)]
pub struct ContextBuilder {
    columns: Vec<Option<String>>,
    attributes: Vec<(String, String)>,
    scope_name: Option<String>,
    scope_version: Option<String>,
}

impl ContextBuilder {
    /// An empty resource.
    pub fn new() -> Self {
        Self {
            columns: vec![None; RESOURCE_COLUMNS.len()],
            ..Self::default()
        }
    }

    /// Adds a resource attribute; the last value of a key wins. A promoted key with a non-text value stays in the map
    /// (drift never rejects), except that a one-item JSON array of text, OpenTelemetry's form of `aws.log.group.names`,
    /// counts as its item.
    pub fn attribute(&mut self, key: &str, value: Value<'_>) -> &mut Self {
        if let Some(index) = RESOURCE_COLUMNS.iter().position(|(attribute, _)| *attribute == key) {
            let text = match value {
                Value::Str(text) => Some(text.to_string()),
                Value::Json(json) => serde_json::from_str::<[String; 1]>(json).ok().map(|[item]| item),
                _ => None,
            };
            if text.is_some() {
                self.columns[index] = text;
                return self;
            }
        }
        self.attributes.push((key.to_string(), value.text(&mut String::new()).to_string()));
        self
    }

    /// Whether a promoted attribute has a value already.
    pub fn has(&self, key: &str) -> bool {
        RESOURCE_COLUMNS
            .iter()
            .position(|(attribute, _)| *attribute == key)
            .is_some_and(|index| self.columns[index].is_some())
    }

    /// Sets the instrumentation scope; empty text is no value.
    pub fn scope(&mut self, name: &str, version: &str) -> &mut Self {
        self.scope_name = (!name.is_empty()).then(|| name.to_string());
        self.scope_version = (!version.is_empty()).then(|| version.to_string());
        self
    }

    /// The context gathered so far; the builder keeps its resource, so that the next scope can follow.
    pub fn build(&self) -> Arc<Context> {
        let mut attributes = self.attributes.clone();
        // stable sort, then keep the last of each key
        attributes.sort_by(|a, b| a.0.cmp(&b.0));
        attributes.reverse();
        attributes.dedup_by(|a, b| a.0 == b.0);
        attributes.reverse();
        let context = Context {
            columns: self.columns.clone(),
            scope_name: self.scope_name.clone(),
            scope_version: self.scope_version.clone(),
            resource_attributes: attributes,
            hash: 0,
        };
        Arc::new(context.rehashed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promoted_attributes_have_columns_and_the_last_value_wins() {
        let mut builder = ContextBuilder::new();
        builder
            .attribute("service.name", Value::Str("old"))
            .attribute("service.name", Value::Str("checkout"));
        builder
            .attribute("z", Value::Int(1))
            .attribute("a", Value::Bool(true))
            .attribute("z", Value::Int(2));
        builder
            .attribute("host.name", Value::Int(7))
            .attribute("aws.log.group.names", Value::Json("[\"/ecs/a\"]"));
        builder.scope("lib", "");
        let context = builder.build();
        assert_eq!(context.service_name(), Some("checkout"));
        assert_eq!(context.column("aws_log_group"), Some("/ecs/a"));
        assert_eq!((context.column("scope_name"), context.column("scope_version")), (Some("lib"), None));
        assert_eq!(context.attribute("z"), Some("2"));
        assert_eq!((context.attribute("host.name"), context.column("host_name")), (Some("7"), None));
        assert_eq!(context.resource_attributes().len(), 3);
    }

    #[test]
    fn identity_is_by_content() {
        let one = ContextBuilder::new().attribute("a", Value::Str("b")).build();
        let same = ContextBuilder::new().attribute("a", Value::Str("x")).attribute("a", Value::Str("b")).build();
        let other = ContextBuilder::new().attribute("ab", Value::Str("")).build();
        assert_eq!(one.hash(), same.hash());
        assert_ne!(one.hash(), other.hash());
        let json = serde_json::to_string(&*one).expect("a context is plain data");
        let back: Context = serde_json::from_str(&json).expect("and reads back");
        assert_eq!(back.rehashed(), *one);
    }
}
