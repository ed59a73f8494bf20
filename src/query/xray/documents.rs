//! A trace as X-Ray's segment documents, whatever protocol its spans came by.
//!
//! | span | document |
//! |---|---|
//! | a segment (see [`super`]) | a segment; spans below it, down to the next segments, are its subsegments |
//! | `CLIENT`, `PRODUCER` | `namespace` `remote`, or `aws` for a call of an AWS service |
//! | the flags of [`super`] | `error`, `fault`, `throttle` |
//! | HTTP attributes, old names and new | `http.request`, `http.response` |
//! | `db.*` of a system that speaks SQL | `sql`: `url` is the span's name, as the exporter has it |
//! | `aws.*` of the call, `rpc.method` of a call of AWS, tables and queues in all spellings | `aws` |
//! | events `exception`; without one, the message of the status `ERROR` | `cause.exceptions`, each with an ID |
//! | other events | in `metadata.default`, as `otel.events` |
//! | annotations of a document, attributes that `aws.xray.annotations` lists | `annotations` |
//! | name, and that of whom it calls | `name` ([`naming`](mod@super::naming)); a span's own in `metadata.default`, `otel.span.name`, where that is another |
//! | the resource of spans of other protocols | in segments' `metadata.default`, as `otel.resource.<name>` |
//! | `aws.xray.metadata.<namespace>` | `metadata.<namespace>`; every other attribute stands in `metadata.default` |
//! | a call that is a segment itself ([`TraceFacts::is_split`]) | two, as OpenTelemetry's exporter splits it: a segment of who calls, with an ID of its own, and the call as its subsegment, with all that is said of it. Annotations, user, cause and flags stand in both |
//! | `enduser.id`, links, `aws.xray.origin` or the origin of `cloud.platform`, `aws.xray.resource_arn`, `service.version` | `user`, `links`, `origin`, `resource_arn`, `service.version` |
//!
//! What came as a document is answered byte for byte as it came, while all rows of it are there ([`super::kept`]); what stands in it
//! is not told again, and what hangs below it, but came on its own or by another protocol, is a document of its own. Other documents
//! are written from the rows: what came as a segment then comes out with the same members and values.
//! Subsegments nest at most [`MAX_DEPTH`] levels and a document holds at most [`MAX_NODES`] of them; beyond, they are documents
//! of their own (`type`, `parent_id`), as SDKs send those that come late.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::facts::{self, Annotation, TraceFacts, annotations, names, of_resource, of_span, seconds};
use super::kept::{Place, places};
use super::members::{
    AWS_SPELLINGS, DATABASE_QUERY, aws, aws_member, aws_spelled, cause, http, insert_object, insert_once, insert_text, is_exception, object, read, sql,
    sql_system, stack,
};
use super::naming;
use crate::model::{SpanId, TraceId, Typed};
use crate::query::{Attributes, SpanHit};

/// Levels of subsegments within a document.
pub const MAX_DEPTH: usize = 40;
/// Subsegments within a document.
pub const MAX_NODES: usize = 1_000;

/// A document and the ID of its segment or subsegment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// 16 hex digits.
    pub id: String,
    /// What it says: JSON.
    pub text: String,
}

#[derive(Default)]
struct Below {
    documents: Vec<Value>,
    depth: usize,
    nodes: usize,
}

/// The documents of a trace, in order of display.
pub fn documents(trace: &TraceFacts<'_>) -> Vec<Document> {
    let spans = &trace.trace.spans;
    let mut below: Vec<Below> = Vec::with_capacity(spans.len());
    below.resize_with(spans.len(), Below::default);
    // the call in the segment of who makes it counts too
    for at in (0..spans.len()).filter(|at| trace.is_split(*at)) {
        below[at].nodes = 1;
    }
    let mut places = places(trace.trace);
    let mut out = Vec::new();
    // children stand behind their parents: the last first, so that each is whole when its parent takes it
    for at in (0..spans.len()).rev() {
        let placed = &spans[at];
        match std::mem::take(&mut places[at]) {
            Place::Written => {}
            Place::Inside => continue,
            Place::Kept(text) => {
                let id = placed.span.span_id.clone();
                out.push(Document { id, text });
                continue;
            }
        }
        let is_segment = trace.segments[trace.segment_of[at]].span == at;
        let mut inner = std::mem::take(&mut below[at]);
        let is_split = trace.is_split(at);
        let mut body = document(&placed.span, is_segment && !is_split);
        if !inner.documents.is_empty() {
            inner.documents.reverse();
            body.insert("subsegments".into(), inner.documents.into());
        }
        // nothing is added to a document that is answered as it came
        let parent = placed.parent.filter(|parent| !is_segment && places[*parent] == Place::Written);
        if let Some(above) = parent.map(|parent| &mut below[parent])
            && inner.depth + 1 < MAX_DEPTH
            && above.nodes + inner.nodes < MAX_NODES
        {
            above.nodes += inner.nodes + 1;
            above.depth = above.depth.max(inner.depth + 1);
            above.documents.push(body.into());
            continue;
        }
        let mut id = placed.span.span_id.clone();
        if is_split {
            id = id_of_caller(trace.trace.trace_id, &id);
            let mut caller = caller(&placed.span, &id);
            caller.insert("subsegments".into(), vec![Value::Object(body)].into());
            body = caller;
        }
        body.insert("trace_id".into(), trace.trace.trace_id.to_xray().into());
        if !is_segment {
            body.insert("type".into(), "subsegment".into());
        }
        if let Some(parent) = &placed.span.parent_span_id {
            body.insert("parent_id".into(), parent.as_str().into());
        }
        out.push(Document {
            id,
            text: Value::Object(body).to_string(),
        });
    }
    out.reverse();
    out
}

/// The ID of the segment around a call that is in none: the same each time that it is asked for.
fn id_of_caller(trace: TraceId, call: &str) -> String {
    let hash = xxhash_rust::xxh3::xxh3_64(format!("caller {trace} {call}").as_bytes());
    format!("{:016x}", hash.max(1))
}

/// The segment around a call that is in none: what is of the service, not of the call.
fn caller(call: &SpanHit, id: &str) -> Map<String, Value> {
    let flags = facts::flags(call);
    let told = [
        ("aws.xray.error", flags.error),
        ("aws.xray.fault", flags.fault),
        ("aws.xray.throttle", flags.throttle),
    ];
    let mut attributes: Attributes = told.map(|(key, flag)| (key.to_string(), flag.to_string())).to_vec();
    let annotated: Vec<&str> = annotations(call)
        .iter()
        .map(|one| one.key)
        .filter(|key| !key.starts_with("aws.remote."))
        .collect();
    let is_of_service = |key: &str| key.starts_with("aws.xray.") || names::USER.contains(&key) || names::LOCAL.contains(&key) || annotated.contains(&key);
    attributes.extend(call.attributes.iter().filter(|(key, _)| is_of_service(key)).cloned());
    let span = SpanHit {
        span_id: id.to_string(),
        name: facts::own_service(call).to_string(),
        attributes,
        events: call.events.iter().filter(|event| is_exception(event)).cloned().collect(),
        links: Vec::new(),
        ..call.clone()
    };
    let mut out = document(&span, true);
    // an annotation of such a name tells of the call all the same
    out.remove("http");
    out.remove("sql");
    out
}

/// Attributes that stand in a member of their own.
const TOLD: [&[&str]; 10] = [
    names::URL,
    names::METHOD,
    names::USER_AGENT,
    names::CLIENT_IP,
    names::STATUS,
    names::LENGTH,
    names::USER,
    names::DATABASE_SYSTEM,
    DATABASE_QUERY,
    names::DATABASE,
];

fn document(span: &SpanHit, is_segment: bool) -> Map<String, Value> {
    let mut out = Map::new();
    let name = naming::name(span, is_segment);
    out.insert("id".into(), span.span_id.as_str().into());
    out.insert("name".into(), name.as_ref().into());
    out.insert("start_time".into(), seconds(span.start_time_unix_nano).into());
    match span.in_progress {
        true => out.insert("in_progress".into(), true.into()),
        false => out.insert(
            "end_time".into(),
            seconds(span.start_time_unix_nano.saturating_add(span.duration_nano.max(0))).into(),
        ),
    };
    let flags = facts::flags(span);
    // a document that says throttle alone is told so
    let is_told = |name: &str| of_span(span, &[name]) == Some("true");
    let is_sent_alone = naming::is_of_xray(span) && is_told("aws.xray.throttle") && !is_told("aws.xray.error");
    for (member, flag) in [("error", flags.error && !is_sent_alone), ("fault", flags.fault), ("throttle", flags.throttle)] {
        if flag {
            out.insert(member.into(), true.into());
        }
    }
    if !is_segment {
        let namespace = of_span(span, &["aws.xray.namespace"]).or_else(|| match span.kind.as_str() {
            "CLIENT" | "PRODUCER" if facts::is_aws_call(span) => Some("aws"),
            "CLIENT" | "PRODUCER" => Some("remote"),
            _ => None,
        });
        insert_text(&mut out, "namespace", namespace);
    }
    insert_text(&mut out, "user", of_span(span, names::USER));
    insert_object(&mut out, "http", http(span));
    insert_object(&mut out, "sql", sql(span));
    insert_object(&mut out, "aws", aws(span, is_segment));
    match of_span(span, &["aws.xray.cause"]).filter(|id| SpanId::from_hex(id).is_some()) {
        // of an exception that another segment tells
        Some(id) => insert_text(&mut out, "cause", Some(id)),
        None => insert_object(&mut out, "cause", cause(span)),
    }
    if is_segment {
        insert_text(&mut out, "origin", naming::origin(span));
        insert_text(&mut out, "resource_arn", of_resource(span, &["aws.xray.resource_arn"]));
        let mut service = Map::new();
        insert_text(&mut service, "version", of_resource(span, &["service.version"]));
        insert_object(&mut out, "service", service);
    }
    let listed = annotations(span);
    insert_object(&mut out, "annotations", annotated(&listed, naming::is_of_xray(span)));
    insert_object(&mut out, "metadata", metadata(span, is_segment, &name, &listed));
    if !span.links.is_empty() {
        let link = |link: &crate::query::SpanLinkHit| {
            let mut out = Map::new();
            let trace = link.trace_id.as_deref().and_then(facts::trace_id).map(|id| id.to_xray());
            insert_text(&mut out, "trace_id", trace.as_deref());
            insert_text(&mut out, "id", link.span_id.as_deref());
            insert_object(&mut out, "attributes", object(&link.attributes));
            Value::Object(out)
        };
        out.insert("links".into(), span.links.iter().map(link).collect());
    }
    for (name, member) in [
        ("aws.xray.inferred", "inferred"),
        ("aws.xray.precursor_ids", "precursor_ids"),
        ("aws.xray.traced", "traced"),
    ] {
        if let Some(value) = of_span(span, &[name]) {
            out.insert(member.into(), read(value));
        }
    }
    out
}

/// Annotations under keys that X-Ray allows. Of several that become the same, the one that was so keeps it; the others, in order of their own
/// keys, end in `_2`, `_3`, ….
fn annotated(listed: &[Annotation<'_>], is_of_xray: bool) -> Map<String, Value> {
    let mut out = Map::new();
    let value = |one: &Annotation<'_>| match Typed::of("", one.value) {
        _ if one.is_text => one.value.into(),
        // of those it is known that they are no text
        Typed::Int(number) => number.into(),
        _ => Typed::json("", one.value),
    };
    let is_changed = |key: &str| !is_of_xray && naming::annotation_key(key) != key;
    let (mut changed, unchanged): (Vec<&Annotation<'_>>, Vec<&Annotation<'_>>) = listed.iter().partition(|one| is_changed(one.key));
    out.extend(unchanged.into_iter().map(|one| (one.key.to_string(), value(one))));
    changed.sort_by_key(|one| one.key);
    // a list may name one twice
    changed.dedup_by_key(|one| one.key);
    // of each, the next ending that nobody was given
    let mut endings: HashMap<String, usize> = HashMap::new();
    for one in changed {
        let allowed = naming::annotation_key(one.key);
        let mut key = allowed.clone();
        while out.contains_key(&key) {
            let ending = endings.entry(allowed.clone()).or_insert(2);
            key = format!("{allowed}_{ending}");
            *ending += 1;
        }
        out.insert(key, value(one));
    }
    out
}

fn metadata(span: &SpanHit, is_segment: bool, name: &str, annotations: &[Annotation<'_>]) -> Map<String, Value> {
    let (mut out, mut rest) = (Map::new(), Map::new());
    let has_database = sql_system(span).is_some();
    for (key, value) in &span.attributes {
        // of several names of one thing the first is told, the others say something else or the same
        let told_as = TOLD.iter().find(|names| names.contains(&key.as_str())).and_then(|names| of_span(span, names));
        let is_of_database = key.starts_with("db.");
        let is_told = (told_as == Some(value.as_str()) && (has_database || !is_of_database))
            || (has_database && matches!(key.as_str(), "db.user" | "db.connection_string"))
            || aws_member(key).is_some()
            || AWS_SPELLINGS
                .iter()
                .any(|(_, names)| names.contains(&key.as_str()) && aws_spelled(span, names) == Some(value.as_str()))
            || annotations.iter().any(|annotated| annotated.key == key);
        match key.strip_prefix("aws.xray.") {
            Some(own) => {
                if let Some(namespace) = own.strip_prefix("metadata.") {
                    out.insert(namespace.into(), read(value));
                }
            }
            None if is_told || key == "aws.service" => {}
            None => {
                rest.insert(key.clone(), Typed::json(key, value));
            }
        }
    }
    if !naming::is_of_xray(span) {
        // as the exporter has it: what the spans of a segment share stands in the segment
        let of_resource = span.resource_attributes.iter().filter(|_| is_segment);
        rest.extend(of_resource.map(|(key, value)| (format!("otel.resource.{key}"), Typed::json(key, value))));
        if name != span.name {
            insert_once(&mut rest, "otel.span.name", span.name.as_str().into());
        }
    }
    let events = span.events.iter().filter(|event| !is_exception(event)).map(|event| {
        let mut out = Map::new();
        insert_text(&mut out, "name", event.name.as_deref());
        out.insert("time".into(), seconds(event.time_unix_nano).into());
        insert_object(&mut out, "attributes", object(&event.attributes));
        Value::Object(out)
    });
    let events: Vec<Value> = events.collect();
    if !events.is_empty() {
        insert_once(&mut rest, "otel.events", events.into());
    }
    // stacks of other languages than Java are text
    let stacks = span
        .events
        .iter()
        .filter_map(|event| facts::attribute(&event.attributes, &["exception.stacktrace"]));
    let mut stacks: Vec<Value> = stacks.filter(|text| stack(text).is_empty()).map(Value::from).collect();
    match stacks.len() {
        0 => {}
        1 => insert_once(&mut rest, "exception.stacktrace", stacks.swap_remove(0)),
        _ => insert_once(&mut rest, "exception.stacktrace", stacks.into()),
    }
    match out.get_mut("default") {
        Some(Value::Object(own)) => own.extend(rest),
        // what was sent stays as it is
        Some(_) => insert_object(&mut out, "attributes", rest),
        None => insert_object(&mut out, "default", rest),
    }
    out
}
