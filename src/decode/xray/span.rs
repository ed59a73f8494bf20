//! One segment or subsegment to one span.
//!
//! | document | span |
//! |---|---|
//! | `name`, `id`, `parent_id`, `start_time`, `end_time` | the same; the parent of a nested subsegment is the one that holds it, unless it names another |
//! | kind | a segment, or `http.request.client_ip` present: `SERVER`; `namespace` aws or remote: `CLIENT`; else `INTERNAL` |
//! | `error`, `fault`, `throttle` | status `ERROR` if one is true; `aws.xray.error`, `.fault`, `.throttle` as sent |
//! | `http.request.*`, `http.response.*` | `http.method`, `http.url`, `http.user_agent`, `http.client_ip`, `aws.xray.x_forwarded_for`, `aws.xray.traced`; `http.status_code`, `http.response_content_length` |
//! | `aws.*` of the call | `aws.<key>`; `retries` as `aws.xray.retries`; with namespace aws, `aws.service` = name |
//! | `sql.*` | `db.connection_string` and `db.name` (split of `url`), `db.system`, `db.statement`, `db.user`; others `aws.xray.sql.<key>` |
//! | `cause.exceptions` | events `exception`; the first one's message is the status message |
//! | `cause` as an ID | `aws.xray.cause` |
//! | `annotations` | attributes of the same names, and their list as `aws.xray.annotations`; those that are text and read otherwise (`"007"`, `"true"`) as `aws.xray.annotations.text` |
//! | `metadata.<namespace>` | `aws.xray.metadata.<namespace>`, JSON |
//! | `links` | links |
//! | `user`, `namespace`, `precursor_ids`, `in_progress`, `traced`, `inferred` | `enduser.id`, `aws.xray.namespace`, `.precursor_ids`, `.inprogress`, `.traced`, `.inferred` |
//! | anything else | `aws.xray.<key>` |
//! | its text, as sent, but for embedded subsegments | the column `xray_document` ([`kept`]) |

use serde_json::value::RawValue;

use super::document::{Node, Object, text_of, with_value};
use super::kept;
use super::resource::AWS_RESOURCE_KEYS;
use crate::decode::{ANNOTATIONS, TEXT_ANNOTATIONS, reads_otherwise};
use crate::model::{SpanEvent, SpanId, SpanLink, SpanRecord, SpansBuilder, TraceId, Value};

/// Pushes a node and all below it.
pub(super) fn push(builder: &mut SpansBuilder, context: i32, trace_id: TraceId, node: &Node<'_>, parent: Option<SpanId>) {
    let status_message = attributes(builder, node);
    builder.xray_document(&kept::own_text(node));
    let flagged = ["error", "fault", "throttle"].iter().any(|flag| node.fields.get(flag) == Some("true"));
    builder.push(
        context,
        &SpanRecord {
            start_time_unix_nano: node.start_nanos,
            end_time_unix_nano: node.end_nanos,
            trace_id,
            span_id: node.id,
            parent_span_id: parent,
            trace_state: None,
            trace_flags: None,
            name: &node.name,
            kind: kind(node),
            status_code: if flagged { "ERROR" } else { "UNSET" },
            status_message: status_message.as_deref(),
            in_progress: node.end_nanos.is_none(),
            dropped_attributes_count: 0,
        },
    );
    for below in &node.subsegments {
        push(builder, context, trace_id, below, below.parent.or(Some(node.id)));
    }
}

fn kind(node: &Node<'_>) -> &'static str {
    if !node.is_subsegment {
        return "SERVER";
    }
    if matches!(node.fields.text("namespace").as_deref(), Some("aws" | "remote")) {
        return "CLIENT";
    }
    let request = node.fields.object("http").and_then(|http| http.object("request"));
    if request.is_some_and(|request| request.get("client_ip").is_some()) {
        return "SERVER";
    }
    "INTERNAL"
}

/// Adds all attributes, events and links; gives the status message.
fn attributes(builder: &mut SpansBuilder, node: &Node<'_>) -> Option<String> {
    let mut status_message = None;
    // first, so that an annotation cannot replace what the structure says
    if let Some(raw) = node.fields.get("annotations") {
        annotations(builder, raw);
    }
    builder.attribute("aws.xray.type", Value::Str(if node.is_subsegment { "subsegment" } else { "segment" }));
    for (key, raw) in node.fields.iter() {
        match key {
            "name" | "id" | "parent_id" | "trace_id" | "start_time" | "end_time" | "type" | "subsegments" | "annotations" => {}
            // false is what no word says too
            "in_progress" if raw == "true" => builder.attribute("aws.xray.inprogress", Value::Bool(true)),
            "in_progress" => {}
            "origin" | "resource_arn" | "service" if !node.is_subsegment => {}
            "http" => http(builder, raw),
            "aws" => aws(builder, raw, node.is_subsegment),
            "sql" => sql(builder, raw),
            "cause" => status_message = cause(builder, raw, node.end_nanos.unwrap_or(node.start_nanos)),
            "metadata" => metadata(builder, raw),
            "links" => links(builder, raw),
            "user" => add(builder, "enduser.id", raw),
            _ => add(builder, &format!("aws.xray.{key}"), raw),
        }
    }
    if node.fields.text("namespace").as_deref() == Some("aws") {
        builder.attribute("aws.service", Value::Str(&node.name));
    }
    status_message
}

fn add(builder: &mut SpansBuilder, name: &str, raw: &str) {
    with_value(raw, |value| builder.attribute(name, value));
}

/// Adds the members of an object by name; what is not named is `prefix` and its key. What is no object is kept whole.
fn members(builder: &mut SpansBuilder, raw: &str, prefix: &str, name_of: impl Fn(&str) -> Option<&'static str>) {
    let Ok(object) = Object::parse(raw) else {
        return add(builder, prefix, raw);
    };
    for (key, raw) in object.iter() {
        match name_of(key) {
            Some("") => {}
            Some(name) => add(builder, name, raw),
            None => add(builder, &format!("{prefix}.{key}"), raw),
        }
    }
}

fn http(builder: &mut SpansBuilder, raw: &str) {
    let Ok(http) = Object::parse(raw) else {
        return add(builder, "aws.xray.http", raw);
    };
    for (key, raw) in http.iter() {
        match key {
            "request" => members(builder, raw, "aws.xray.http.request", |key| match key {
                "method" => Some("http.method"),
                "url" => Some("http.url"),
                "user_agent" => Some("http.user_agent"),
                "client_ip" => Some("http.client_ip"),
                "x_forwarded_for" => Some("aws.xray.x_forwarded_for"),
                "traced" => Some("aws.xray.traced"),
                _ => None,
            }),
            "response" => response(builder, raw),
            _ => add(builder, &format!("aws.xray.http.{key}"), raw),
        }
    }
}

fn response(builder: &mut SpansBuilder, raw: &str) {
    // some clients write the status as text; the column wants a number
    let status = Object::parse(raw).ok().and_then(|response| {
        let raw = response.get("status")?;
        text_of(raw).map_or_else(|| raw.parse().ok(), |text| text.parse::<i64>().ok())
    });
    members(builder, raw, "aws.xray.http.response", |key| match key {
        "status" if status.is_some() => Some(""),
        "content_length" => Some("http.response_content_length"),
        _ => None,
    });
    if let Some(status) = status {
        builder.attribute("http.status_code", Value::Int(status));
    }
}

fn aws(builder: &mut SpansBuilder, raw: &str, is_subsegment: bool) {
    members(builder, raw, "aws", |key| match key {
        "retries" => Some("aws.xray.retries"),
        _ if !is_subsegment && AWS_RESOURCE_KEYS.contains(&key) => Some(""),
        _ => None,
    });
    let sampling_rule = Object::parse(raw).ok().and_then(|aws| {
        let xray = aws.object("xray")?;
        // so the SDK for Node.js calls it
        xray.text("sampling_rule_name").or_else(|| xray.text("rule_name"))
    });
    if let Some(rule) = sampling_rule {
        builder.attribute("aws.xray.sampling_rule_name", Value::Str(&rule));
    }
}

fn sql(builder: &mut SpansBuilder, raw: &str) {
    let url = Object::parse(raw).ok().and_then(|sql| sql.text("url"));
    members(builder, raw, "aws.xray.sql", |key| match key {
        "url" if url.is_some() => Some(""),
        "connection_string" if url.is_none() => Some("db.connection_string"),
        "database_type" => Some("db.system"),
        "sanitized_query" => Some("db.statement"),
        "user" => Some("db.user"),
        _ => None,
    });
    if let Some(url) = url {
        match split_database(&url) {
            Some((connection, database)) => {
                builder.attribute("db.connection_string", Value::Str(connection));
                builder.attribute("db.name", Value::Str(database));
                if connection.len() + 1 + database.len() < url.len() {
                    builder.attribute("aws.xray.sql.url", Value::Str(&url));
                }
            }
            None => builder.attribute("db.connection_string", Value::Str(&url)),
        }
    }
}

/// `scheme://host:port/database?options` to what is before the database, and the database.
fn split_database(url: &str) -> Option<(&str, &str)> {
    let start = url.find("//")? + 2;
    let end = url[start..].find('?').map_or(url.len(), |at| start + at);
    let slash = start + url[start..end].rfind('/')?;
    (slash > start && slash + 1 < end).then(|| (&url[..slash], &url[slash + 1..end]))
}

/// Adds the exceptions as events; gives the first one's message.
fn cause(builder: &mut SpansBuilder, raw: &str, time_unix_nano: i64) -> Option<String> {
    let exceptions = Object::parse(raw)
        .ok()
        .and_then(|cause| serde_json::from_str::<Vec<Object<'_>>>(cause.get("exceptions")?).ok());
    members(builder, raw, "aws.xray.cause", |key| match key {
        "exceptions" if exceptions.is_some() => Some(""),
        _ => None,
    });
    let exceptions = exceptions.unwrap_or_default();
    for exception in &exceptions {
        for (key, raw) in exception.iter() {
            match key {
                "type" => with_value(raw, |value| builder.event_attribute("exception.type", value)),
                "message" => with_value(raw, |value| builder.event_attribute("exception.message", value)),
                "stack" => match stack_trace(exception, raw) {
                    Some(text) => builder.event_attribute("exception.stacktrace", Value::Str(&text)),
                    None => with_value(raw, |value| builder.event_attribute("exception.stacktrace", value)),
                },
                _ => with_value(raw, |value| builder.event_attribute(&format!("aws.xray.exception.{key}"), value)),
            }
        }
        builder.event(&SpanEvent {
            time_unix_nano,
            name: "exception",
        });
    }
    exceptions.first()?.text("message")
}

/// The stack as Java prints one: the exception, then a line a frame.
fn stack_trace(exception: &Object<'_>, raw: &str) -> Option<String> {
    let frames: Vec<Object<'_>> = serde_json::from_str(raw).ok()?;
    let text = |object: &Object<'_>, key: &str| object.text(key).unwrap_or_default();
    let mut out = format!("{}: {}\n", text(exception, "type"), text(exception, "message"));
    for frame in &frames {
        let line = frame.get("line").unwrap_or("0");
        out.push_str(&format!("\tat {}({}: {line})\n", text(frame, "label"), text(frame, "path")));
    }
    Some(out)
}

fn annotations(builder: &mut SpansBuilder, raw: &str) {
    let Ok(annotations) = Object::parse(raw) else {
        return builder.attribute(ANNOTATIONS, Value::Json(raw));
    };
    let (mut keys, mut texts) = (Vec::new(), Vec::new());
    for (key, raw) in annotations.iter() {
        add(builder, key, raw);
        keys.push(key);
        if text_of(raw).is_some_and(|text| reads_otherwise(&text)) {
            texts.push(key);
        }
    }
    for (name, keys) in [(ANNOTATIONS, keys), (TEXT_ANNOTATIONS, texts)] {
        if !keys.is_empty() {
            let list = serde_json::Value::from(keys).to_string();
            builder.attribute(name, Value::Json(&list));
        }
    }
}

fn metadata(builder: &mut SpansBuilder, raw: &str) {
    let Ok(metadata) = Object::parse(raw) else {
        return builder.attribute("aws.xray.metadata", Value::Json(raw));
    };
    for (namespace, raw) in metadata.iter() {
        builder.attribute(&format!("aws.xray.metadata.{namespace}"), Value::Json(raw));
    }
}

fn links(builder: &mut SpansBuilder, raw: &str) {
    let Ok(links) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
        return builder.attribute("aws.xray.links", Value::Json(raw));
    };
    for raw in links {
        let link = Object::parse(raw.get()).unwrap_or_default();
        let trace = link.text("trace_id").unwrap_or_default();
        let trace_id = TraceId::from_xray(&trace).or_else(|| TraceId::from_hex(&trace));
        let span_id = link.text("id").and_then(|id| SpanId::from_hex(&id));
        if trace_id.is_none() || span_id.is_none() {
            builder.link_attribute("aws.xray.link", Value::Json(raw.get()));
        }
        for (key, raw) in link.object("attributes").unwrap_or_default().iter() {
            with_value(raw, |value| builder.link_attribute(key, value));
        }
        builder.link(&SpanLink {
            trace_id,
            span_id,
            trace_state: None,
        });
    }
}
