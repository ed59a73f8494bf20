//! The entity that a `PutLogEvents` names as the origin of its events.
//!
//! One that breaks a rule is left out, and the answer says why (`rejectedEntityInfo`); the events are taken all the same. Names and bounds
//! are those of the service's model and API reference, and the one name more that fluent-bit sends (`AwsAccountId`); which rule has which
//! word is told nowhere, and is ours:
//!
//! | rule | `errorType` |
//! |---|---|
//! | has neither key attributes nor attributes | `InvalidEntity` |
//! | more than 4 key attributes or 10 attributes; a name above 32 and 256, a value above 512 characters | `EntitySizeTooLarge` |
//! | a key attribute of another name than those; an empty value | `InvalidKeyAttributes` |
//! | an attribute with an empty name or value | `InvalidAttributes` |
//! | `Type` is none of [`TYPES`] | `InvalidTypeValue` |
//! | no `Type`; a service without `Name`; a resource without `ResourceType` or `Identifier` | `MissingRequiredFields` |
//! | its log group is not of the class STANDARD, which the receiver looks up | `UnsupportedLogGroupType` |
//!
//! As resource attributes: attributes behind [`ATTRIBUTE`], key attributes behind [`KEY_ATTRIBUTE`], except that the name of a `Service`
//! is `service.name` and the environment `deployment.environment.name`: each is kept once, and [`kept_in`] gives all of them back.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::model::{ContextBuilder, Value};

/// What attributes begin with, as resource attributes.
const ATTRIBUTE: &str = "aws.entity.";
/// What key attributes begin with. No attribute can: theirs ends in a dot earlier.
const KEY_ATTRIBUTE: &str = "aws.entity_key.";
/// What `Type` may be.
const TYPES: [&str; 5] = ["Service", "RemoteService", "AWS::Service", "Resource", "AWS::Resource"];
/// Names of key attributes.
const KEY_NAMES: [&str; 6] = ["Type", "ResourceType", "Identifier", "Name", "Environment", "AwsAccountId"];
/// The type whose name is the service's.
const SERVICE: &str = "Service";

const MAX_KEY_ATTRIBUTES: usize = 4;
const MAX_ATTRIBUTES: usize = 10;
/// Characters.
const MAX_KEY_NAME: usize = 32;
const MAX_NAME: usize = 256;
const MAX_VALUE: usize = 512;

/// Why an entity is not taken; `errorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityRejection {
    /// It says nothing.
    InvalidEntity,
    /// There is no such type.
    InvalidTypeValue,
    /// A key attribute has no such name, or no value.
    InvalidKeyAttributes,
    /// An attribute has no name or no value.
    InvalidAttributes,
    /// There are too many, or they are too long.
    EntitySizeTooLarge,
    /// Events of such a log group have none.
    UnsupportedLogGroupType,
    /// What its type is known by is missing.
    MissingRequiredFields,
}

impl EntityRejection {
    /// As the answer says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidEntity => "InvalidEntity",
            Self::InvalidTypeValue => "InvalidTypeValue",
            Self::InvalidKeyAttributes => "InvalidKeyAttributes",
            Self::InvalidAttributes => "InvalidAttributes",
            Self::EntitySizeTooLarge => "EntitySizeTooLarge",
            Self::UnsupportedLogGroupType => "UnsupportedLogGroupType",
            Self::MissingRequiredFields => "MissingRequiredFields",
        }
    }
}

/// An entity as sent.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entity {
    key_attributes: Option<Map<MAX_KEY_ATTRIBUTES>>,
    attributes: Option<Map<MAX_ATTRIBUTES>>,
}

impl Entity {
    /// The first rule that it breaks.
    pub(super) fn check(&self) -> Result<(), EntityRejection> {
        let (keys, attributes) = match (&self.key_attributes, &self.attributes) {
            (None, None) => return Err(EntityRejection::InvalidEntity),
            (keys, attributes) => (keys.as_ref(), attributes.as_ref()),
        };
        let is_long = |map: &BTreeMap<String, String>, max_name: usize| {
            let n_chars = |text: &str| text.chars().count();
            map.iter().any(|(name, value)| n_chars(name) > max_name || n_chars(value) > MAX_VALUE)
        };
        let has_empty = |map: &BTreeMap<String, String>| map.iter().any(|(name, value)| name.is_empty() || value.is_empty());
        if keys.is_some_and(|keys| keys.is_more || is_long(&keys.kept, MAX_KEY_NAME))
            || attributes.is_some_and(|attributes| attributes.is_more || is_long(&attributes.kept, MAX_NAME))
        {
            return Err(EntityRejection::EntitySizeTooLarge);
        }
        let is_unknown = |keys: &BTreeMap<String, String>| keys.keys().any(|name| !KEY_NAMES.contains(&name.as_str()));
        if keys.is_some_and(|keys| has_empty(&keys.kept) || is_unknown(&keys.kept)) {
            return Err(EntityRejection::InvalidKeyAttributes);
        }
        if attributes.is_some_and(|attributes| has_empty(&attributes.kept)) {
            return Err(EntityRejection::InvalidAttributes);
        }
        let kind = self.key("Type").ok_or(EntityRejection::MissingRequiredFields)?;
        if !TYPES.contains(&kind) {
            return Err(EntityRejection::InvalidTypeValue);
        }
        let required: &[&str] = if kind.ends_with("Service") {
            &["Name"]
        } else {
            &["ResourceType", "Identifier"]
        };
        match required.iter().all(|name| self.key(name).is_some()) {
            true => Ok(()),
            false => Err(EntityRejection::MissingRequiredFields),
        }
    }

    /// The service that it names as the sender.
    pub(super) fn service(&self) -> Option<&str> {
        self.key("Name").filter(|_| self.key("Type") == Some(SERVICE))
    }

    /// Adds it to a resource, whose service is named already.
    pub(super) fn describe(&self, resource: &mut ContextBuilder) {
        let is_service = self.key("Type") == Some(SERVICE);
        for (name, value) in self.pairs(&self.key_attributes) {
            match name {
                "Name" if is_service => {}
                "Environment" => {
                    resource.attribute("deployment.environment.name", Value::Str(value));
                }
                _ => {
                    resource.attribute(&format!("{KEY_ATTRIBUTE}{name}"), Value::Str(value));
                }
            }
        }
        for (name, value) in self.pairs(&self.attributes) {
            resource.attribute(&format!("{ATTRIBUTE}{name}"), Value::Str(value));
        }
    }

    /// All that it says, in one order.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs(&self.key_attributes).chain(self.pairs(&self.attributes))
    }

    fn pairs<'e, const MAX: usize>(&self, map: &'e Option<Map<MAX>>) -> impl Iterator<Item = (&'e str, &'e str)> {
        map.iter().flat_map(|map| &map.kept).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn key(&self, name: &str) -> Option<&str> {
        self.key_attributes.as_ref()?.kept.get(name).map(String::as_str)
    }
}

/// The entity that resource attributes hold: `KeyAttributes.NAME` and `Attributes.NAME`, each with its value.
pub fn kept_in(resource_attributes: &[(String, String)]) -> Vec<(String, &str)> {
    let value = |wanted: &str| resource_attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let mut fields = Vec::new();
    for (name, value) in resource_attributes {
        if let Some(key) = name.strip_prefix(KEY_ATTRIBUTE) {
            fields.push((format!("KeyAttributes.{key}"), value.as_str()));
        } else if let Some(attribute) = name.strip_prefix(ATTRIBUTE) {
            fields.push((format!("Attributes.{attribute}"), value.as_str()));
        }
    }
    // a resource has them of something else too
    if let Some(kind) = value(&format!("{KEY_ATTRIBUTE}Type")) {
        let elsewhere = [("Name", "service.name", kind == SERVICE), ("Environment", "deployment.environment.name", true)];
        for (key, attribute, _) in elsewhere.into_iter().filter(|(.., is_there)| *is_there) {
            fields.extend(value(attribute).map(|value| (format!("KeyAttributes.{key}"), value)));
        }
    }
    fields
}

/// Names and values, of which one more than may be are kept: `{"a":"","b":"",…}` would take many times its own bytes in memory.
#[derive(Debug, Default)]
struct Map<const MAX: usize> {
    kept: BTreeMap<String, String>,
    is_more: bool,
}

impl<'de, const MAX: usize> Deserialize<'de> for Map<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<const MAX: usize>;
        impl<'de, const MAX: usize> Visitor<'de> for Pairs<MAX> {
            type Value = Map<MAX>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("names with their texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
                let mut map = Map::default();
                while map.kept.len() <= MAX
                    && let Some((name, value)) = pairs.next_entry::<String, Option<String>>()?
                {
                    // null is no value, as in SDKs
                    map.kept.extend(value.map(|value| (name, value)));
                }
                map.is_more = map.kept.len() > MAX;
                while pairs.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(map)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
