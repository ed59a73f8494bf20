//! One document, read and checked before any row is begun.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::seconds::nanos_of_seconds;
use crate::decode::Reason;
use crate::decode::text::Text;
use crate::model::{SpanId, TraceId, Value};

/// Bytes of one document; X-Ray's own bound, and what one datagram can carry.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Levels of subsegments within a document, the segment included. Reading takes time in proportion to it.
pub const MAX_DEPTH: usize = 64;

/// Why a document is rejected; the message names the field.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// A segment, or a subsegment sent on its own, with its trace.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) trace_id: TraceId,
    pub(super) root: Node<'a>,
}

/// One segment or subsegment, its required fields checked; the others are still JSON text.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) name: String,
    pub(super) start_nanos: i64,
    /// `None` while in progress.
    pub(super) end_nanos: Option<i64>,
    pub(super) is_subsegment: bool,
    /// As sent.
    pub(super) text: &'a str,
    pub(super) fields: Object<'a>,
    pub(super) subsegments: Vec<Node<'a>>,
}

impl Node<'_> {
    /// Visits the IDs of the node and all below it.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(SpanId)) {
        visit(self.id);
        for node in &self.subsegments {
            node.for_each(visit);
        }
    }
}

/// Reads a document: one object or an array of them.
pub(super) fn read(text: &str) -> Result<Vec<Document<'_>>, Flaw> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(Flaw {
            reason: Reason::TooLarge,
            message: format!("the document has {} bytes, {MAX_DOCUMENT_BYTES} are allowed", text.len()),
        });
    }
    let not_json = |error: serde_json::Error| Flaw {
        reason: Reason::Malformed,
        message: format!("the document is not a JSON object: {error}"),
    };
    if text.trim_ascii_start().starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text).map_err(not_json)?;
        let mut documents = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            let fields = Object::parse(item.get()).map_err(not_json)?;
            documents.push(document(item.get(), fields, &format!("[{i}]."))?);
        }
        return Ok(documents);
    }
    let fields = Object::parse(text).map_err(not_json)?;
    Ok(vec![document(text, fields, "")?])
}

fn document<'a>(text: &'a str, fields: Object<'a>, path: &str) -> Result<Document<'a>, Flaw> {
    let invalid = |said: String| Flaw {
        reason: Reason::InvalidTraceId,
        message: format!("{path}trace_id: {said}"),
    };
    let trace_id = match fields.get("trace_id") {
        None => return Err(invalid("missing".into())),
        Some(_) => {
            let text = fields.text("trace_id").unwrap_or_default();
            TraceId::from_xray(&text).or_else(|| TraceId::from_hex(&text)).ok_or_else(|| {
                invalid(format!(
                    "{} is neither 1-<8 hex>-<24 hex> nor 32 hexadecimal digits",
                    shown(fields.get("trace_id"))
                ))
            })?
        }
    };
    Ok(Document {
        trace_id,
        root: node(text, fields, path, 1)?,
    })
}

fn node<'a>(text: &'a str, fields: Object<'a>, path: &str, depth: usize) -> Result<Node<'a>, Flaw> {
    let flaw = |reason: Reason, field: &str, said: String| Flaw {
        reason,
        message: format!("{path}{field}: {said}"),
    };
    let span_id = |field: &str| -> Result<Option<SpanId>, Flaw> {
        let Some(raw) = fields.get(field) else { return Ok(None) };
        let text = fields.text(field).unwrap_or_default();
        match SpanId::from_hex(&text) {
            Some(id) => Ok(Some(id)),
            // an empty parent is how some clients say "none"
            None if field == "parent_id" && raw == "\"\"" => Ok(None),
            None => Err(flaw(
                Reason::InvalidSpanId,
                field,
                format!("{} is not 16 hexadecimal digits, or is zero", shown(Some(raw))),
            )),
        }
    };
    let time = |field: &str| -> Result<Option<i64>, Flaw> {
        let Some(raw) = fields.get(field) else { return Ok(None) };
        match nanos_of_seconds(raw) {
            Some(nanos) if nanos >= 0 => Ok(Some(nanos)),
            _ => Err(flaw(
                Reason::InvalidTime,
                field,
                format!("{} is not a number of seconds since 1970 up to 2262", shown(Some(raw))),
            )),
        }
    };
    if depth > MAX_DEPTH {
        return Err(Flaw {
            reason: Reason::InvalidField,
            message: format!("{path} subsegments are nested more than {MAX_DEPTH} deep"),
        });
    }
    let name = match fields.get("name") {
        None => return Err(flaw(Reason::InvalidField, "name", "missing".into())),
        raw => fields
            .text("name")
            .filter(|name| !name.is_empty())
            .ok_or_else(|| flaw(Reason::InvalidField, "name", format!("{} is not a name", shown(raw))))?,
    };
    let id = span_id("id")?.ok_or_else(|| flaw(Reason::InvalidSpanId, "id", "missing".into()))?;
    let parent = span_id("parent_id")?;
    let start_nanos = time("start_time")?.ok_or_else(|| flaw(Reason::InvalidTime, "start_time", "missing".into()))?;
    let end_nanos = time("end_time")?;
    let in_progress = fields.get("in_progress") == Some("true");
    if end_nanos.is_none() && !in_progress {
        return Err(flaw(Reason::InvalidTime, "end_time", "missing, and in_progress is not true".into()));
    }
    let is_subsegment = depth > 1 || fields.text("type").as_deref() == Some("subsegment");
    let mut subsegments = Vec::new();
    if let Some(raw) = fields.get("subsegments") {
        let items: Vec<&'a RawValue> = serde_json::from_str(raw).map_err(|_| flaw(Reason::InvalidField, "subsegments", "not an array".into()))?;
        for (i, item) in items.into_iter().enumerate() {
            let fields = Object::parse(item.get()).map_err(|_| flaw(Reason::InvalidField, &format!("subsegments[{i}]"), "not an object".into()))?;
            // the path is built level by level; it is bounded by the depth
            subsegments.push(node(item.get(), fields, &format!("{path}subsegments[{i}]."), depth + 1)?);
        }
    }
    Ok(Node {
        id,
        parent,
        name,
        start_nanos,
        // a document that says both has ended: `in_progress` is only asked when there is no end
        end_nanos,
        is_subsegment,
        text,
        subsegments,
        fields,
    })
}

/// A value for a message: as sent, cut.
fn shown(raw: Option<&str>) -> String {
    let raw = raw.unwrap_or("null");
    let mut short: String = raw.chars().take(80).collect();
    if short.len() < raw.len() {
        short.push('…');
    }
    short
}

/// A JSON object as its keys and the text of their values, in order. Nothing in it is thrown away or converted.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// Reads an object; the values stay text.
    pub(super) fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The text of a value; `null` is no value. The last of equal keys counts.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().rev().find(|(k, _)| k == key)?;
        (*value != "null").then_some(*value)
    }

    /// A value that is a string.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        text_of(self.get(key)?)
    }

    /// A value that is an object.
    pub(super) fn object(&self, key: &str) -> Option<Object<'a>> {
        Object::parse(self.get(key)?).ok()
    }

    /// The values that are not `null`, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().filter(|(_, raw)| *raw != "null").map(|(key, raw)| (key.as_ref(), *raw))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::default();
                while let Some((key, value)) = entries.next_entry::<Text<'de>, &'de RawValue>()? {
                    object.0.push((key.0, value.get()));
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// The string that a JSON text is, if it is one.
pub(super) fn text_of(raw: &str) -> Option<String> {
    raw.starts_with('"')
        .then(|| serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0.into_owned()))
        .flatten()
}

/// Hands a JSON text on as an attribute value: text, number or bool; arrays and objects stay JSON.
pub(super) fn with_value<R>(raw: &str, hand: impl FnOnce(Value<'_>) -> R) -> R {
    match raw.as_bytes().first() {
        Some(b'"') => match text_of(raw) {
            Some(text) => hand(Value::Str(&text)),
            None => hand(Value::Json(raw)),
        },
        Some(b't') => hand(Value::Bool(true)),
        Some(b'f') => hand(Value::Bool(false)),
        Some(b'-' | b'0'..=b'9') => match (raw.parse::<i64>(), raw.parse::<f64>()) {
            (Ok(number), _) => hand(Value::Int(number)),
            // a whole number beyond i64 keeps its digits
            (Err(_), _) if raw.bytes().all(|b| b.is_ascii_digit()) => hand(Value::Str(raw)),
            (Err(_), Ok(number)) if number.is_finite() => hand(Value::Double(number)),
            _ => hand(Value::Str(raw)),
        },
        _ => hand(Value::Json(raw)),
    }
}
