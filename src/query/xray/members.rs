//! Members of a document that are made of a span's attributes and events: `http`, `sql`, `aws`, `cause`.

use serde_json::{Map, Value, json};

use super::facts::{self, names, of_resource, of_span};
use super::naming;
use crate::model::Typed;
use crate::query::{Attributes, SpanEventHit, SpanHit};

/// The statement of a call to a database.
pub(super) const DATABASE_QUERY: &[&str] = &["db.query.text", "db.statement", "db.query.summary"];

pub(super) fn insert_text(out: &mut Map<String, Value>, member: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.insert(member.into(), value.into());
    }
}

pub(super) fn insert_object(out: &mut Map<String, Value>, member: &str, value: Map<String, Value>) {
    if !value.is_empty() {
        out.insert(member.into(), value.into());
    }
}

/// What is known to be JSON: a part of a document, or metadata.
pub(super) fn read(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Null) | Err(_) => text.into(),
        Ok(value) => value,
    }
}

pub(super) fn object(attributes: &Attributes) -> Map<String, Value> {
    attributes.iter().map(|(key, value)| (key.clone(), Typed::json(key, value))).collect()
}

pub(super) fn http(span: &SpanHit) -> Map<String, Value> {
    let (mut request, mut response, mut out) = (Map::new(), Map::new(), Map::new());
    for (member, names) in [
        ("method", names::METHOD),
        ("url", names::URL),
        ("user_agent", names::USER_AGENT),
        ("client_ip", names::CLIENT_IP),
    ] {
        insert_text(&mut request, member, of_span(span, names));
    }
    if let Some(value) = of_span(span, &["aws.xray.x_forwarded_for"]) {
        request.insert("x_forwarded_for".into(), Typed::json("", value));
    }
    for (member, names) in [("status", names::STATUS), ("content_length", names::LENGTH)] {
        if let Some(value) = of_span(span, names) {
            response.insert(member.into(), Typed::json("", value));
        }
    }
    insert_object(&mut out, "request", request);
    insert_object(&mut out, "response", response);
    out
}

/// Databases that speak SQL, by their names in OpenTelemetry's conventions, the old ones and the new: calls of others have no `sql`.
const SQL_SYSTEMS: [&str; 15] = [
    "db2",
    "derby",
    "hive",
    "mariadb",
    "mssql",
    "mysql",
    "oracle",
    "postgresql",
    "sqlite",
    "teradata",
    "other_sql",
    "ibm.db2",
    "microsoft.sql_server",
    "oracle.db",
    "cockroachdb",
];

/// The system of a call that is told as `sql`.
pub(super) fn sql_system(span: &SpanHit) -> Option<&str> {
    of_span(span, names::DATABASE_SYSTEM).filter(|system| naming::is_of_xray(span) || SQL_SYSTEMS.contains(system))
}

pub(super) fn sql(span: &SpanHit) -> Map<String, Value> {
    let mut out = Map::new();
    let Some(system) = sql_system(span) else {
        return out;
    };
    insert_text(&mut out, "database_type", Some(system));
    insert_text(&mut out, "sanitized_query", of_span(span, DATABASE_QUERY));
    insert_text(&mut out, "user", of_span(span, &["db.user"]));
    let connection = of_span(span, &["db.connection_string"]);
    if !naming::is_of_xray(span) {
        // the exporter's words
        let (host, database) = (connection.unwrap_or("localhost"), of_span(span, names::DATABASE).unwrap_or_default());
        insert_text(&mut out, "url", Some(&span.name));
        insert_text(&mut out, "connection_string", Some(&format!("{host}/{database}")));
        return out;
    }
    let url = match (of_span(span, &["aws.xray.sql.url"]), connection, of_span(span, names::DATABASE)) {
        (Some(url), ..) => Some(url.to_string()),
        (None, Some(connection), Some(database)) => Some(format!("{connection}/{database}")),
        (None, connection, database) => connection.or(database).map(str::to_string),
    };
    insert_text(&mut out, "url", url.as_deref());
    for (key, value) in &span.attributes {
        if let Some(member) = key.strip_prefix("aws.xray.sql.").filter(|member| *member != "url") {
            insert_text(&mut out, member, Some(value));
        }
    }
    out
}

/// Members of `aws` that are text, though some are digits alone.
const AWS_TEXTS: [&str; 17] = [
    "operation",
    "account_id",
    "region",
    "request_id",
    "queue_url",
    "table_name",
    "remote_region",
    "id_2",
    "bucket_name",
    "key",
    "version_id",
    "index_name",
    "function_name",
    "qualifier",
    "message_id",
    "topic_arn",
    "stream_name",
];
/// Those that are lists, as a document had them.
const AWS_LISTS: [&str; 3] = ["table_names", "resource_names", "cloudwatch_logs"];

/// What calls of AWS have of OpenTelemetry's instrumentations, where they do not have it as X-Ray does.
pub(super) const AWS_SPELLINGS: [(&str, &[&str]); 4] = [
    ("operation", &["rpc.method"]),
    ("request_id", &["aws.requestId"]),
    ("queue_url", &["aws.queue.url", "aws.sqs.queue.url"]),
    ("table_name", &["aws.table.name"]),
];

/// What a call of AWS has in one of these spellings.
pub(super) fn aws_spelled<'s>(span: &'s SpanHit, names: &[&str]) -> Option<&'s str> {
    of_span(span, names).filter(|_| facts::is_aws_call(span) && !naming::is_of_xray(span))
}

/// What of a call's attributes `aws.*` is not of X-Ray's own.
pub(super) fn aws_member(key: &str) -> Option<&str> {
    match key {
        "aws.service" => None,
        "aws.xray.retries" => Some("retries"),
        _ => key.strip_prefix("aws.").filter(|member| !member.starts_with("xray.") && !member.contains('.')),
    }
}

pub(super) fn aws(span: &SpanHit, is_segment: bool) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in &span.attributes {
        // told under X-Ray's name
        let is_spelled = key == "aws.requestId" && aws_spelled(span, &["aws.requestId"]).is_some();
        if let Some(member) = aws_member(key).filter(|_| !is_spelled) {
            let value = match member {
                text if AWS_TEXTS.contains(&text) => value.as_str().into(),
                list if AWS_LISTS.contains(&list) => read(value),
                _ => Typed::json(key, value),
            };
            out.insert(member.into(), value);
        }
    }
    for (member, names) in AWS_SPELLINGS {
        if let Some(value) = aws_spelled(span, names) {
            insert_once(&mut out, member, value.into());
        }
    }
    if let Some(told) = aws_spelled(span, &["aws.dynamodb.table_names"]) {
        match facts::table_of(span) {
            Some(table) => insert_once(&mut out, "table_name", table.as_ref().into()),
            None => insert_once(&mut out, "table_names", read(told)),
        }
    }
    if !is_segment {
        return out;
    }
    insert_text(&mut out, "account_id", of_resource(span, &["cloud.account.id"]));
    let platform = of_resource(span, &["aws.xray.origin", "cloud.platform"]).unwrap_or_default().to_lowercase();
    if platform.contains("ec2") {
        let mut ec2 = Map::new();
        for (member, name) in [
            ("instance_id", "host.id"),
            ("availability_zone", "cloud.availability_zone"),
            ("instance_size", "host.type"),
            ("ami_id", "host.image.id"),
        ] {
            insert_text(&mut ec2, member, of_resource(span, &[name]));
        }
        insert_object(&mut out, "ec2", ec2);
    }
    let mut ecs = Map::new();
    for (member, name) in [
        ("container_arn", "aws.ecs.container.arn"),
        ("task_arn", "aws.ecs.task.arn"),
        ("task_family", "aws.ecs.task.family"),
        ("cluster_arn", "aws.ecs.cluster.arn"),
        ("launch_type", "aws.ecs.launchtype"),
    ] {
        insert_text(&mut ecs, member, of_resource(span, &[name]));
    }
    if platform.contains("ecs") {
        insert_text(&mut ecs, "container", of_resource(span, &["container.name"]));
        insert_text(&mut ecs, "container_id", of_resource(span, &["container.id"]));
    }
    insert_object(&mut out, "ecs", ecs);
    let mut eks = Map::new();
    insert_text(&mut eks, "cluster_name", of_resource(span, &["k8s.cluster.name"]));
    insert_text(&mut eks, "pod", of_resource(span, &["k8s.pod.name"]));
    insert_object(&mut out, "eks", eks);
    let mut xray = Map::new();
    insert_text(&mut xray, "sdk", of_resource(span, &["telemetry.sdk.name"]));
    insert_text(&mut xray, "sdk_version", of_resource(span, &["telemetry.sdk.version"]));
    insert_text(&mut xray, "sampling_rule_name", of_span(span, &["aws.xray.sampling_rule_name"]));
    insert_object(&mut out, "xray", xray);
    out
}

pub(super) fn cause(span: &SpanHit) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in &span.attributes {
        match key.strip_prefix("aws.xray.cause.") {
            Some("working_directory") => insert_text(&mut out, "working_directory", Some(value)),
            Some(member) => _ = out.insert(member.into(), read(value)),
            None => {}
        }
    }
    let is_of_xray = naming::is_of_xray(span);
    let exceptions = span.events.iter().filter(|event| is_exception(event)).enumerate().map(|(nth, event)| {
        let mut out = Map::new();
        if !is_of_xray {
            out.insert("id".into(), id_of_exception(span, nth).into());
        }
        for (key, value) in &event.attributes {
            match key.as_str() {
                "exception.type" => insert_text(&mut out, "type", Some(value)),
                "exception.message" => insert_text(&mut out, "message", Some(value)),
                "exception.stacktrace" => insert_object_list(&mut out, "stack", stack(value)),
                _ => match key.strip_prefix("aws.xray.exception.") {
                    // IDs, which may be of digits alone
                    Some(member @ ("id" | "cause")) => insert_text(&mut out, member, Some(value)),
                    Some(member) => _ = out.insert(member.into(), read(value)),
                    None => {}
                },
            }
        }
        Value::Object(out)
    });
    let mut exceptions: Vec<Value> = exceptions.collect();
    // a document's own exceptions are all that it has
    let message = span
        .status_message
        .as_deref()
        .filter(|message| !message.is_empty() && !is_of_xray && span.status_code == "ERROR");
    if let Some(message) = message.filter(|_| exceptions.is_empty()) {
        exceptions.push(json!({ "id": id_of_exception(span, 0), "message": message }));
    }
    insert_object_list(&mut out, "exceptions", exceptions);
    out
}

pub(super) fn is_exception(event: &SpanEventHit) -> bool {
    event.name.as_deref() == Some("exception")
}

/// The ID of a span's exception: the same each time that it is asked for.
fn id_of_exception(span: &SpanHit, nth: usize) -> String {
    let hash = xxhash_rust::xxh3::xxh3_64(format!("exception {} {} {nth}", span.trace_id, span.span_id).as_bytes());
    format!("{:016x}", hash.max(1))
}

fn insert_object_list(out: &mut Map<String, Value>, member: &str, values: Vec<Value>) {
    if !values.is_empty() {
        out.insert(member.into(), values.into());
    }
}

pub(super) fn insert_once(out: &mut Map<String, Value>, member: &str, value: Value) {
    out.entry(member).or_insert(value);
}

/// Frames of a stack as Java prints it: `at label(path: line)`. Of other stacks there are none.
pub(super) fn stack(text: &str) -> Vec<Value> {
    let frame = |line: &str| {
        let (label, place) = line.trim().strip_prefix("at ")?.strip_suffix(')')?.rsplit_once('(')?;
        let (path, number) = place.rsplit_once(':').unwrap_or((place, "0"));
        let number: i64 = number.trim().parse().unwrap_or_default();
        Some(json!({ "path": path, "line": number, "label": label }))
    };
    text.lines().filter_map(frame).collect()
}
