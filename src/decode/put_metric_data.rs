//! CloudWatch `PutMetricData` in its three wire forms: query, JSON and CBOR.
//!
//! In: the body of one call. [`Call::read`] reads it, whatever its form, and applies every rule; [`Call::decode`] builds the
//! rows ([`super::cloudwatch`] says how a datum looks). A call is taken whole or refused whole, as at AWS.
//!
//! | rule | fault |
//! |---|---|
//! | no namespace, no metric, a datum without a name | [`Fault::Missing`] |
//! | more than 1,000 datums, 150 values, 30 dimensions; a name, unit or number that cannot be; `Counts` that do not match `Values` | [`Fault::Value`] |
//! | two of `Value`, `Values` and `StatisticValues`, or none | [`Fault::Combination`] |
//! | older than 14 days, more than 2 h ahead (unless any time is taken: [`Context::retention_days`] 0) | [`Fault::Value`] |
//!
//! All forms become one tree ([`Node`]) of which the same reader makes the call, so that they mean the same: text that reads as
//! a number is one, since the query form knows only text.

mod cbor;
mod json;
mod query;

use std::collections::BTreeMap;

pub use query::action;

use super::cloudwatch::{MAX_AGE_NANOS, MAX_AHEAD_NANOS, MAX_DIMENSIONS, Measured, NAMESPACE, Sample, push, ucum};
use super::{Context, Decoded, Error, Kind};
use crate::model::{ContextBuilder, MetricsBuilder, Value, parse_time};

/// Datums of one call.
pub const MAX_DATUMS: usize = 1_000;
/// Values of one datum.
pub const MAX_VALUES: usize = 150;
/// Nodes of one call: each datum with all its values, counts and dimensions.
const MAX_NODES: usize = 500_000;
/// Memory of a node in its list or map.
const NODE_BYTES: usize = 128;
/// The same in the query form: its parameter, its branch and the node itself.
const QUERY_NODE_BYTES: usize = 320;
/// Levels of a body.
const MAX_DEPTH: usize = 16;
/// 2^360
const MAX_MAGNITUDE: f64 = 2.348_542_582_773_833_3e108;

/// A body, whatever its form.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not of its form at all.
    #[error("{0}")]
    Serialization(String),
    /// A required member is missing.
    #[error("The parameter {0} is required.")]
    Missing(String),
    /// A member's value cannot be.
    #[error("{0}")]
    Value(String),
    /// Members contradict each other.
    #[error("{0}")]
    Combination(String),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Invalid(fault.to_string())
    }
}

/// One call, read and valid, its times apart.
#[derive(Debug, PartialEq)]
pub struct Call {
    namespace: String,
    datums: Vec<Datum>,
    entities: Vec<Entity>,
}

#[derive(Debug, PartialEq)]
struct Datum {
    /// How the call names it: `MetricData.member.1`.
    at: String,
    /// Number of its entity.
    entity: usize,
    name: String,
    dimensions: Vec<(String, String)>,
    unit: &'static str,
    timestamp_nanos: Option<i64>,
    sample: Sample,
}

#[derive(Debug, Default, PartialEq)]
struct Entity {
    key_attributes: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
}

/// About how many bytes of memory decoding takes beside the body.
pub(super) fn weigh(kind: Kind, body: &[u8]) -> usize {
    let (n_nodes, node_bytes) = match kind {
        // a part of a name each; a dot may be escaped
        Kind::PutMetricDataQuery => (memchr::memchr3_iter(b'.', b'&', b'%', body).count(), QUERY_NODE_BYTES),
        // a byte at the least
        Kind::PutMetricDataCbor => (body.len(), NODE_BYTES),
        _ => (memchr::memchr3_iter(b',', b'[', b'{', body).count(), NODE_BYTES),
    };
    2 * body.len() + (1 + n_nodes).min(MAX_NODES) * node_bytes
}

/// Rows of a call.
pub(super) fn put_metric_data(kind: Kind, body: &[u8], context: &Context) -> Result<Decoded, Error> {
    Call::read(kind, body)?.decode(context)
}

impl Call {
    /// Reads a body of one of the three kinds.
    pub fn read(kind: Kind, body: &[u8]) -> Result<Call, Fault> {
        let root = match kind {
            Kind::PutMetricDataQuery => query::read(body),
            Kind::PutMetricDataCbor => cbor::read(body),
            _ => json::read(body),
        };
        Call::of(&root?)
    }

    /// How many datums there are.
    pub fn n_datums(&self) -> usize {
        self.datums.len()
    }

    fn of(root: &Node) -> Result<Call, Fault> {
        let namespace = root.text("Namespace").ok_or_else(|| Fault::Missing("Namespace".into()))?;
        check_length(namespace, "Namespace", 255)?;
        if namespace.starts_with(':') {
            return Err(invalid(namespace, "Namespace"));
        }
        let mut call = Call {
            namespace: namespace.to_string(),
            datums: Vec::new(),
            entities: vec![Entity::default()],
        };
        let data = root.list("MetricData", "MetricData")?;
        let of_entities = root.list("EntityMetricData", "EntityMetricData")?;
        let n_of_entities = of_entities.iter().map(|entity| entity.get("MetricData").map_or(0, Node::len)).sum::<usize>();
        if data.len() + n_of_entities > MAX_DATUMS {
            return Err(too_many("MetricData", MAX_DATUMS));
        }
        if data.len() + n_of_entities == 0 {
            return Err(Fault::Missing("MetricData".into()));
        }
        for (i, datum) in data.iter().enumerate() {
            call.datums.push(Datum::of(datum, format!("MetricData.member.{}", i + 1), 0)?);
        }
        for (i, member) in of_entities.iter().enumerate() {
            let at = format!("EntityMetricData.member.{}", i + 1);
            call.entities.push(member.get("Entity").map(Entity::of).unwrap_or_default());
            for (j, datum) in member.list("MetricData", &format!("{at}.MetricData"))?.iter().enumerate() {
                let at = format!("{at}.MetricData.member.{}", j + 1);
                call.datums.push(Datum::of(datum, at, call.entities.len() - 1)?);
            }
        }
        Ok(call)
    }

    /// The rows.
    pub fn decode(&self, context: &Context) -> Result<Decoded, Error> {
        let contexts: Vec<_> = self.entities.iter().map(|entity| self.resource(entity)).collect();
        let mut builder = MetricsBuilder::default();
        for datum in &self.datums {
            let time_unix_nano = datum.timestamp_nanos.unwrap_or(context.received_at_nanos);
            if context.retention_days > 0 {
                datum.check_time(time_unix_nano, context.received_at_nanos)?;
            }
            for (name, value) in &datum.dimensions {
                builder.attribute(name, Value::Str(value));
            }
            let measured = Measured {
                name: &datum.name,
                unit: datum.unit,
                time_unix_nano,
                start_time_unix_nano: None,
                sample: &datum.sample,
                trace: None,
            };
            push(&mut builder, &contexts[datum.entity], &measured);
        }
        let mut decoded = Decoded::default();
        decoded.batch.rows = builder.finish()?;
        Ok(decoded)
    }

    fn resource(&self, entity: &Entity) -> std::sync::Arc<crate::model::Context> {
        let mut resource = ContextBuilder::new();
        resource.attribute("cloud.provider", Value::Str("aws"));
        resource.attribute(NAMESPACE, Value::Str(&self.namespace));
        let key = |name: &str| entity.key_attributes.get(name).filter(|value| !value.is_empty());
        if let Some(service) = key("Name").filter(|_| key("Type").is_some_and(|kind| kind == "Service")) {
            resource.attribute("service.name", Value::Str(service));
        }
        if let Some(environment) = key("Environment") {
            resource.attribute("deployment.environment.name", Value::Str(environment));
        }
        for (name, value) in &entity.attributes {
            resource.attribute(&format!("aws.entity.{name}"), Value::Str(value));
        }
        resource.build()
    }
}

impl Entity {
    fn of(node: &Node) -> Entity {
        let texts = |member: &str| match node.get(member) {
            Some(Node::Map(members)) => members
                .iter()
                .filter_map(|(name, value)| match value {
                    Node::Text(text) => Some((name.clone(), text.clone())),
                    _ => None,
                })
                .collect(),
            _ => BTreeMap::new(),
        };
        Entity {
            key_attributes: texts("KeyAttributes"),
            attributes: texts("Attributes"),
        }
    }
}

impl Datum {
    fn of(node: &Node, at: String, entity: usize) -> Result<Datum, Fault> {
        let name = node.text("MetricName").ok_or_else(|| Fault::Missing(format!("{at}.MetricName")))?;
        check_length(name, &format!("{at}.MetricName"), 255)?;
        let unit = node.text("Unit").unwrap_or("None");
        let unit = ucum(unit).ok_or_else(|| invalid(unit, &format!("{at}.Unit")))?;
        if let Some(resolution) = node.number("StorageResolution", &at)?
            && resolution != 1.0
            && resolution != 60.0
        {
            return Err(invalid(resolution, &format!("{at}.StorageResolution")));
        }
        let timestamp_nanos = node
            .get("Timestamp")
            .map(|time| time.nanos().ok_or_else(|| invalid(time.shown(), &format!("{at}.Timestamp"))));
        Ok(Datum {
            entity,
            name: name.to_string(),
            dimensions: dimensions(node, &at)?,
            unit,
            timestamp_nanos: timestamp_nanos.transpose()?,
            sample: sample(node, &at)?,
            at,
        })
    }

    fn check_time(&self, time_unix_nano: i64, received_at_nanos: i64) -> Result<(), Fault> {
        let parameter = format!("{}.Timestamp", self.at);
        if time_unix_nano < received_at_nanos.saturating_sub(MAX_AGE_NANOS) {
            return Err(Fault::Value(format!(
                "The parameter {parameter} must specify a time within the past two weeks."
            )));
        }
        if time_unix_nano > received_at_nanos.saturating_add(MAX_AHEAD_NANOS) {
            let rule = "must specify a time no more than two hours in the future.";
            return Err(Fault::Value(format!("The parameter {parameter} {rule}")));
        }
        Ok(())
    }
}

fn dimensions(node: &Node, at: &str) -> Result<Vec<(String, String)>, Fault> {
    let at = format!("{at}.Dimensions");
    let list = node.list("Dimensions", &at)?;
    if list.len() > MAX_DIMENSIONS {
        return Err(too_many(&at, MAX_DIMENSIONS));
    }
    let one = |(i, dimension): (usize, &Node)| {
        let at = format!("{at}.member.{}", i + 1);
        let member = |member: &str, max: usize| {
            let parameter = format!("{at}.{member}");
            let text = dimension.text(member).ok_or_else(|| Fault::Missing(parameter.clone()))?;
            check_length(text, &parameter, max)?;
            Ok(text.to_string())
        };
        Ok((member("Name", 255)?, member("Value", 1_024)?))
    };
    list.iter().enumerate().map(one).collect()
}

fn sample(node: &Node, at: &str) -> Result<Sample, Fault> {
    let value = node.number("Value", at)?;
    let statistics = node.get("StatisticValues").filter(|node| **node != Node::Null);
    let values = node.numbers("Values", at)?;
    let given = [
        (value.is_some(), "Value"),
        (statistics.is_some(), "StatisticValues"),
        (!values.is_empty(), "Values"),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect();
    match given[..] {
        [_] => {}
        [] => {
            return Err(Fault::Combination(format!(
                "At least one of the parameters {at}.Value, {at}.Values or {at}.StatisticValues must be specified."
            )));
        }
        [one, other, ..] => {
            return Err(Fault::Combination(format!(
                "The parameters {at}.{one} and {at}.{other} are mutually exclusive and you have specified both."
            )));
        }
    }
    let counts = node.numbers("Counts", at)?;
    if let Some(value) = value {
        return Ok(Sample::One(value));
    }
    if let Some(statistics) = statistics {
        let at = format!("{at}.StatisticValues");
        let member = |name: &str| statistics.number(name, &at)?.ok_or_else(|| Fault::Missing(format!("{at}.{name}")));
        let (count, sum, least, greatest) = (member("SampleCount")?, member("Sum")?, member("Minimum")?, member("Maximum")?);
        if count < 0.0 {
            return Err(invalid(count, &format!("{at}.SampleCount")));
        }
        if least > greatest {
            return Err(Fault::Combination(format!(
                "The parameter {at}.Maximum must be greater than or equal to {at}.Minimum."
            )));
        }
        return Ok(Sample::Statistics {
            count,
            sum,
            quantiles: vec![(0.0, least), (1.0, greatest)],
        });
    }
    for (what, list) in [("Values", &values), ("Counts", &counts)] {
        if list.len() > MAX_VALUES {
            return Err(too_many(&format!("{at}.{what}"), MAX_VALUES));
        }
    }
    if !counts.is_empty() && counts.len() != values.len() {
        return Err(Fault::Value(format!("The parameters {at}.Values and {at}.Counts must be of the same size.")));
    }
    if let Some(count) = counts.iter().find(|count| **count < 0.0) {
        return Err(invalid(count, &format!("{at}.Counts")));
    }
    let times = counts.into_iter().chain(std::iter::repeat(1.0));
    let sample = Sample::of_many(values.into_iter().zip(times).collect());
    sample.ok_or_else(|| Fault::Value(format!("The parameter {at}.Counts must not be all zero.")))
}

impl Node {
    /// A member that is there and not null.
    fn get(&self, name: &str) -> Option<&Node> {
        let Node::Map(members) = self else { return None };
        // the last of several, as JSON readers do
        members
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, node)| node)
            .filter(|node| **node != Node::Null)
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Node::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Node::List(items) => items.len(),
            _ => 0,
        }
    }

    fn list(&self, name: &str, at: &str) -> Result<&[Node], Fault> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Node::List(items)) => Ok(items),
            // how the query form spells a list of nothing
            Some(Node::Text(text)) if text.is_empty() => Ok(&[]),
            Some(_) => Err(Fault::Serialization(format!("{at} is not a list"))),
        }
    }

    fn number(&self, name: &str, at: &str) -> Result<Option<f64>, Fault> {
        self.get(name).map(|node| node.as_number(&format!("{at}.{name}"))).transpose()
    }

    fn numbers(&self, name: &str, at: &str) -> Result<Vec<f64>, Fault> {
        let at = format!("{at}.{name}");
        let items = self.list(name, &at)?;
        // counted by who asked, after the first too many
        items.iter().take(MAX_VALUES + 1).map(|item| item.as_number(&at)).collect()
    }

    fn as_number(&self, at: &str) -> Result<f64, Fault> {
        let number = match self {
            Node::Number(number) => Some(*number),
            Node::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number: &f64| number.is_finite() && number.abs() <= MAX_MAGNITUDE)
            .ok_or_else(|| invalid(self.shown(), at))
    }

    /// A time: seconds since the epoch, or ISO 8601.
    fn nanos(&self) -> Option<i64> {
        let seconds = match self {
            Node::Number(seconds) => *seconds,
            Node::Text(text) => match text.trim().parse() {
                Ok(seconds) => seconds,
                // a date begins with its year; other spellings that people use are not AWS'
                Err(_) if text.trim().as_bytes().get(4) == Some(&b'-') => return parse_time(text, 0).ok(),
                Err(_) => return None,
            },
            _ => return None,
        };
        // 2^63 ns is the year 2262; whole microseconds are as exact as a double is there
        (0.0..9.2e9).contains(&seconds).then(|| ((seconds * 1e6).round() as i64).saturating_mul(1_000))
    }

    fn shown(&self) -> String {
        match self {
            Node::Null => "null".into(),
            Node::Bool(value) => value.to_string(),
            Node::Number(number) => number.to_string(),
            Node::Text(text) => text.chars().take(256).collect(),
            Node::List(_) => "a list".into(),
            Node::Map(_) => "a structure".into(),
        }
    }
}

/// Counts nodes as they are made.
#[derive(Debug, Default)]
struct Nodes(usize);

impl Nodes {
    fn one_more(&mut self) -> Result<(), Fault> {
        self.0 += 1;
        match self.0 > MAX_NODES {
            true => Err(Fault::Serialization(format!("the body has more than {MAX_NODES} values"))),
            false => Ok(()),
        }
    }
}

fn check_length(text: &str, parameter: &str, max_chars: usize) -> Result<(), Fault> {
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err(Fault::Value(format!(
            "The value for parameter {parameter} must not be longer than {max_chars} characters."
        )));
    }
    Ok(())
}

fn invalid(value: impl std::fmt::Display, parameter: &str) -> Fault {
    Fault::Value(format!("The value {value} for parameter {parameter} is invalid."))
}

fn too_many(collection: &str, max: usize) -> Fault {
    Fault::Value(format!("The collection {collection} must not have a size greater than {max}."))
}

#[cfg(test)]
mod tests;
