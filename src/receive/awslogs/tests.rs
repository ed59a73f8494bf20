use axum::http::StatusCode;

use super::super::testing::{Answer, Memory, ample, gzip, open_gate, send};
use super::*;
use crate::model::ManualClock;

mod deletes;
mod groups;
mod subscription_filters;
mod metric_filters;
mod pages;

const NOW_MILLIS: i64 = 1_795_000_000_000;
const DAY: i64 = 86_400_000;

struct Server {
    router: Router,
    memory: Arc<Memory>,
    receiver: Arc<Receiver>,
}

impl Server {
    fn new() -> Self {
        Self::on(Memory::default(), Config::default())
    }
    fn on(memory: Memory, config: Config) -> Self {
        Self::within(memory, config, ample())
    }
    fn within(memory: Memory, config: Config, budget: Arc<Budget>) -> Self {
        let memory = Arc::new(memory);
        let receiver = Receiver::new(config, memory.clone(), Arc::new(ManualClock::new(NOW_MILLIS * 1_000_000)), budget);
        Self {
            router: router(receiver.clone(), open_gate()),
            memory,
            receiver,
        }
    }
    /// A server with group `g` and stream `s`.
    async fn with_stream() -> Self {
        let server = Self::new();
        server.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
        server.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
        server
    }
    async fn call(&self, operation: &str, members: Value) -> Answer {
        let request = Request::post("/")
            .header("x-amz-target", format!("Logs_20140328.{operation}"))
            .header("content-type", "application/x-amz-json-1.1")
            .body(Body::from(members.to_string()))
            .expect("a request");
        send(&self.router, request).await
    }
    #[track_caller]
    fn is_ok(answer: &Answer) {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.content_type, "application/x-amz-json-1.1");
    }
    async fn ok(&self, operation: &str, members: Value) -> Value {
        let answer = self.call(operation, members).await;
        Self::is_ok(&answer);
        answer.json
    }
    async fn fails(&self, operation: &str, members: Value, error: &str) -> String {
        let answer = self.call(operation, members.clone()).await;
        assert_eq!(answer.error_type.as_deref(), Some(error), "{operation} {members}: {answer:?}");
        assert!(answer.status.is_client_error(), "{answer:?}");
        answer.json["message"].as_str().expect("a message").to_string()
    }
    async fn group_names(&self, members: Value) -> Vec<String> {
        let answer = self.ok("DescribeLogGroups", members).await;
        names(&answer["logGroups"], "logGroupName")
    }
}

fn names(list: &Value, member: &str) -> Vec<String> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|item| item[member].as_str().expect("a name").to_string())
        .collect()
}

fn events(offsets: &[i64]) -> Value {
    let events: Vec<Value> = offsets.iter().map(|o| json!({"timestamp": NOW_MILLIS + o, "message": "hello"})).collect();
    json!({"logGroupName": "g", "logStreamName": "s", "logEvents": events})
}

#[tokio::test]
async fn a_group_a_stream_and_events_are_taken_as_docker_sends_them() {
    let server = Server::new();
    let stream = json!({"logGroupName": "g", "logStreamName": "s"});
    let said = server.fails("CreateLogStream", stream.clone(), "ResourceNotFoundException").await;
    assert_eq!(said, "The specified log group does not exist.");
    server.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    let said = server
        .fails("CreateLogGroup", json!({"logGroupName": "g"}), "ResourceAlreadyExistsException")
        .await;
    assert_eq!(said, "The specified log group already exists");
    let said = server.fails("PutLogEvents", events(&[0]), "ResourceNotFoundException").await;
    assert_eq!(said, "The specified log stream does not exist.");
    server.ok("CreateLogStream", stream.clone()).await;
    server.fails("CreateLogStream", stream, "ResourceAlreadyExistsException").await;

    let mut members = events(&[-5, 0]);
    let answer = server.ok("PutLogEvents", members.clone()).await;
    let token = answer["nextSequenceToken"].as_str().expect("a token");
    assert!(token.len() == 56 && !token.contains(' '));
    assert!(answer.get("rejectedLogEventsInfo").is_none(), "watchtower takes its presence for a failure");
    members["sequenceToken"] = token.into();
    server.ok("PutLogEvents", members).await;
    assert_eq!(server.memory.n_rows(), 4);
    let outcomes = server.memory.outcomes();
    assert_eq!((outcomes.accepted, outcomes.rejected, outcomes.reasons["not_found"]), (4, 1, 1));
}

#[tokio::test]
async fn rejected_events_are_told_by_index_and_the_rest_is_kept() {
    let server = Server::with_stream().await;
    server.ok("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 3})).await;
    let answer = server.ok("PutLogEvents", events(&[-20 * DAY, -4 * DAY, 0, 3 * 3_600_000])).await;
    assert_eq!(
        answer["rejectedLogEventsInfo"],
        json!({"tooNewLogEventStartIndex": 3, "tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2})
    );
    assert_eq!(server.memory.accepted.lock()[0].0.context.retention_days, 3);
    let answer = server.ok("PutLogEvents", events(&[-20 * DAY])).await;
    assert_eq!(answer["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"], 1);
    let outcomes = server.memory.outcomes();
    assert_eq!((outcomes.accepted, outcomes.rejected), (1, 4));
    server.ok("DeleteRetentionPolicy", json!({"logGroupName": "g"})).await;
    let answer = server.ok("PutLogEvents", events(&[-4 * DAY])).await;
    assert!(answer.get("rejectedLogEventsInfo").is_none());
}

#[tokio::test]
async fn a_gzip_body_is_inflated_and_handed_over_as_it_came() {
    let server = Server::with_stream().await;
    let raw = gzip(events(&[0]).to_string().as_bytes());
    let post = |body: Vec<u8>, encoding: &str| {
        Request::post("/")
            .header("x-amz-target", "Logs_20140328.PutLogEvents")
            .header("content-encoding", encoding)
            .body(Body::from(body))
            .expect("a request")
    };
    Server::is_ok(&send(&server.router, post(raw.clone(), "gzip")).await);
    let body = server.memory.accepted.lock()[0].0.body.clone();
    assert_eq!(body, raw);
    for (body, encoding) in [(raw[..raw.len() - 4].to_vec(), "gzip"), (raw, "br"), (b"{".to_vec(), "identity")] {
        let answer = send(&server.router, post(body, encoding)).await;
        assert_eq!(
            (answer.status, answer.error_type.as_deref()),
            (StatusCode::BAD_REQUEST, Some("SerializationException"))
        );
    }
    let outcomes = server.memory.outcomes();
    assert_eq!((outcomes.accepted, outcomes.reasons["malformed"]), (1, 3));
}

#[tokio::test]
async fn a_body_above_the_cap_is_an_invalid_parameter() {
    let config = Config {
        max_body_bytes: 300,
        ..Config::default()
    };
    let server = Server::on(Memory::default(), config);
    let answer = server.call("PutLogEvents", events(&[0; 20])).await;
    assert_eq!(
        (answer.status, answer.error_type.as_deref()),
        (StatusCode::PAYLOAD_TOO_LARGE, Some("InvalidParameterException"))
    );
    assert_eq!(server.memory.outcomes().reasons["too_large"], 1);
    // small on the wire, large inflated
    let request = Request::post("/")
        .header("x-amz-target", "Logs_20140328.PutLogEvents")
        .header("content-encoding", "gzip")
        .body(Body::from(gzip(&[b' '; 10_000])))
        .expect("a request");
    assert_eq!(send(&server.router, request).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn overload_is_a_503_that_sdks_retry_and_changes_nothing() {
    let server = Server::with_stream().await;
    for (operation, members) in [
        ("PutLogEvents", events(&[0])),
        ("CreateLogGroup", json!({"logGroupName": "h"})),
        ("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "t"})),
        ("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 1})),
    ] {
        server.memory.refuse(1);
        let answer = server.call(operation, members.clone()).await;
        assert_eq!(
            (answer.status, answer.error_type.as_deref()),
            (StatusCode::SERVICE_UNAVAILABLE, Some("ServiceUnavailableException")),
            "{operation}"
        );
        server.ok(operation, members).await;
    }
}

#[tokio::test]
async fn what_is_not_served_is_an_unknown_operation() {
    let server = Server::new();
    for target in [
        None,
        Some("Logs_20140328.PutQueryDefinition"),
        Some("Logs_20140328"),
        Some("Kinesis_20131202.PutRecords"),
        Some("PutLogEvents"),
    ] {
        let mut request = Request::post("/");
        if let Some(target) = target {
            request = request.header("x-amz-target", target);
        }
        let answer = send(&server.router, request.body(Body::from("{}")).expect("a request")).await;
        assert_eq!(
            (answer.status, answer.error_type.as_deref()),
            (StatusCode::BAD_REQUEST, Some("UnknownOperationException"))
        );
    }
}

#[tokio::test]
async fn names_and_values_are_validated() {
    let server = Server::with_stream().await;
    for (operation, members) in [
        ("CreateLogGroup", json!({})),
        ("CreateLogGroup", json!({"logGroupName": ""})),
        ("CreateLogGroup", json!({"logGroupName": "a b"})),
        ("CreateLogGroup", json!({"logGroupName": "a".repeat(513)})),
        ("CreateLogGroup", json!({"logGroupName": "aws/reserved"})),
        ("CreateLogGroup", json!({"logGroupName": "h", "logGroupClass": "GOLD"})),
        ("CreateLogGroup", json!({"logGroupName": "h", "tags": {"": "v"}})),
        ("CreateLogGroup", json!({"logGroupName": "h", "tags": {"aws:x": "v"}})),
        ("CreateLogGroup", json!({"logGroupName": "h", "tags": {"k": "v!"}})),
        ("CreateLogStream", json!({"logGroupName": "g"})),
        ("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "a:b"})),
        ("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "a*"})),
        ("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "a".repeat(513)})),
        ("PutRetentionPolicy", json!({"logGroupName": "g"})),
        ("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 2})),
        ("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 0})),
        ("DeleteRetentionPolicy", json!({})),
        ("TagResource", json!({"resourceArn": "g", "tags": {"a": "b"}})),
        ("TagResource", json!({"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:g"})),
        ("CreateLogGroup", json!({"logGroupName": "h", "tags": {}})),
        ("UntagLogGroup", json!({"logGroupName": "g", "tags": ["k".repeat(129)]})),
        (
            "ListTagsForResource",
            json!({"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:a b"}),
        ),
        (
            "PutLogGroupDeletionProtection",
            json!({"logGroupIdentifier": "a b", "deletionProtectionEnabled": true}),
        ),
        (
            "PutBearerTokenAuthentication",
            json!({"logGroupIdentifier": "a".repeat(2_049), "bearerTokenAuthenticationEnabled": true}),
        ),
        ("DescribeLogStreams", json!({"logGroupIdentifier": "a b"})),
        ("ListLogGroups", json!({"logGroupTags": [{"key": "k", "values": ["a*b"]}]})),
        ("ListLogGroups", json!({"dataSources": [{"type": "t"}]})),
        ("ListLogGroups", json!({"fieldIndexNames": vec!["f"; 21]})),
        ("PutLogEvents", json!({"logGroupName": "g", "logStreamName": "s", "logEvents": []})),
    ] {
        server.fails(operation, members, "InvalidParameterException").await;
    }
    for (operation, members) in [
        ("PutRetentionPolicy", json!({"logGroupName": "gone", "retentionInDays": 1})),
        ("DeleteRetentionPolicy", json!({"logGroupName": "gone"})),
        (
            "ListTagsForResource",
            json!({"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:gone"}),
        ),
        ("ListTagsLogGroup", json!({"logGroupName": "gone"})),
    ] {
        server.fails(operation, members, "ResourceNotFoundException").await;
    }
    server.fails("CreateLogGroup", json!({"logGroupName": 7}), "SerializationException").await;
    server.fails("CreateLogGroup", json!("g"), "SerializationException").await;
    for days in RETENTION_DAYS {
        server.ok("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": days})).await;
    }
    server.ok("CreateLogGroup", json!({"logGroupName": "a".repeat(512)})).await;
    server
        .ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "[$LATEST]é/1"}))
        .await;
}

#[tokio::test]
async fn tags_are_merged_removed_and_bounded() {
    let server = Server::with_stream().await;
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:g";
    let many = |range: std::ops::Range<usize>| range.map(|i| (format!("k{i}"), Value::from("v"))).collect::<serde_json::Map<_, _>>();
    server.ok("TagResource", json!({"resourceArn": arn, "tags": many(0..49)})).await;
    server.ok("TagLogGroup", json!({"logGroupName": "g", "tags": {"k0": "new", "last": ""}})).await;
    let answer = server.call("TagResource", json!({"resourceArn": arn, "tags": {"more": "v"}})).await;
    assert_eq!(
        (answer.error_type.as_deref(), &answer.json["resourceName"]),
        (Some("TooManyTagsException"), &json!(arn))
    );
    server
        .fails("TagResource", json!({"resourceArn": arn, "tags": many(0..51)}), "InvalidParameterException")
        .await;
    server
        .ok(
            "UntagResource",
            json!({"resourceArn": arn, "tagKeys": (1..48).map(|i| format!("k{i}")).collect::<Vec<_>>()}),
        )
        .await;
    server.ok("UntagLogGroup", json!({"logGroupName": "g", "tags": ["k48", "unknown"]})).await;
    let expected = json!({"tags": {"k0": "new", "last": ""}});
    assert_eq!(server.ok("ListTagsForResource", json!({"resourceArn": arn})).await, expected);
    assert_eq!(server.ok("ListTagsForResource", json!({"resourceArn": format!("{arn}:*")})).await, expected);
    assert_eq!(server.ok("ListTagsLogGroup", json!({"logGroupName": "g"})).await, expected);
}

#[tokio::test]
async fn groups_and_streams_are_bounded() {
    let config = Config {
        max_log_groups: 2,
        max_log_streams: 1,
        ..Config::default()
    };
    let server = Server::on(Memory::default(), config);
    server.ok("CreateLogGroup", json!({"logGroupName": "a"})).await;
    server.ok("CreateLogGroup", json!({"logGroupName": "b"})).await;
    server.fails("CreateLogGroup", json!({"logGroupName": "c"}), "LimitExceededException").await;
    server
        .fails("CreateLogGroup", json!({"logGroupName": "a"}), "ResourceAlreadyExistsException")
        .await;
    server.ok("CreateLogStream", json!({"logGroupName": "a", "logStreamName": "s"})).await;
    server
        .fails(
            "CreateLogStream",
            json!({"logGroupName": "b", "logStreamName": "s"}),
            "InvalidParameterException",
        )
        .await;
}

#[tokio::test]
async fn of_many_that_create_the_same_one_succeeds() {
    let server = Server::new();
    let calls = (0..20).map(|_| server.call("CreateLogGroup", json!({"logGroupName": "g"})));
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
}

#[test]
fn damaged_states_are_left_out() {
    let memory = Memory::default();
    memory.put_state_relaxed("loggroup/ok", Bytes::from_static(b"{}"));
    memory.put_state_relaxed("loggroup/bad", Bytes::from_static(b"?"));
    memory.put_state_relaxed("logstream/ok\0s", Bytes::from_static(b"{\"bytes\":5,\"later_field\":1}"));
    memory.put_state_relaxed("logstream/ok\0bad", Bytes::from_static(b"[1"));
    memory.put_state_relaxed("logstream/gone\0s", Bytes::from_static(b"{}"));
    memory.put_state_relaxed("logstream/noise", Bytes::from_static(b"{}"));
    let server = Server::on(memory, Config::default());
    assert_eq!(server.receiver.registry().retention_of("ok", "s"), Ok(0));
    assert_eq!(server.receiver.registry().retention_of("ok", "bad"), Err(Error::NotFound("stream")));
    assert_eq!(server.receiver.registry().retention_of("bad", "s"), Err(Error::NotFound("group")));
}

#[tokio::test]
async fn what_other_nodes_know_of_groups_and_streams_is_taken_over() {
    use crate::ingest::Facts;
    let (one, two) = (Server::new(), Server::new());
    let learn = async |to: &Server, from: &Server| {
        for prefix in to.receiver.registry().prefixes() {
            for (key, value) in from.memory.states(prefix) {
                to.receiver.registry().learn(&key, &value).await;
            }
        }
    };
    one.ok("CreateLogGroup", json!({"logGroupName": "g", "tags": {"team": "shop"}})).await;
    one.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    one.ok("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 7})).await;
    // the other made it too, and knows less of it
    two.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    two.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "t"})).await;
    for _ in 0..2 {
        learn(&two, &one).await;
        learn(&one, &two).await;
    }
    for server in [&one, &two] {
        assert_eq!(server.receiver.registry().retention_of("g", "s"), Ok(7));
        assert_eq!(server.receiver.registry().retention_of("g", "t"), Ok(7));
        let tags = server.ok("ListTagsLogGroup", json!({"logGroupName": "g"})).await;
        assert_eq!(tags["tags"], json!({"team": "shop"}));
        let streams = server.ok("DescribeLogStreams", json!({"logGroupName": "g"})).await;
        assert_eq!(streams["logStreams"].as_array().map(Vec::len), Some(2));
    }
    // what is newer wins, wherever it was said, and outlives a restart
    two.ok("DeleteRetentionPolicy", json!({"logGroupName": "g"})).await;
    learn(&two, &one).await;
    learn(&one, &two).await;
    let again = Server::on(one.memory.surviving(), Config::default());
    for server in [&one, &two, &again] {
        assert_eq!(server.receiver.registry().retention_of("g", "s"), Ok(0));
    }
    one.receiver.registry().learn("loggroup/bad", &Bytes::from_static(b"?")).await;
    assert_eq!(one.receiver.registry().retention_of("bad", "s"), Err(Error::NotFound("group")));
}

#[test]
fn settings_are_checked_together() {
    assert_eq!(Config::default().problems(), Vec::<String>::new());
    let bad = Config {
        region: "US East".into(),
        account_id: "1".into(),
        max_body_bytes: 1,
        ..Config::default()
    };
    assert_eq!(bad.problems().len(), 3);
}

/// The write path itself over a directory.
async fn write_path(dir: &std::path::Path, clock: Arc<ManualClock>) -> crate::ingest::Ingest {
    use crate::{block, catalog, ingest, storage, wal};
    let store = storage::open(&storage::Config::default(), dir).await.expect("a store");
    let cache = storage::Cache::open(store.clone(), &dir.join("cache"), 1 << 20).expect("a cache");
    let node = catalog::NodeId::load_or_create(dir).expect("a node");
    let catalog = Arc::new(catalog::Catalog::open(store.clone(), node).await.expect("a catalog"));
    let parts = ingest::Parts {
        config: ingest::Config::default(),
        wal: wal::Config::default(),
        block: block::Settings::default(),
        data_dir: dir.to_path_buf(),
        store,
        cache,
        catalog,
        finder: Arc::new(crate::query::SearchLanguage),
        rules: Arc::new(ingest::NoRules),
        clock,
    };
    ingest::Ingest::open(parts).await.expect("opens")
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("a new directory");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_of_the_write_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let clock = Arc::new(ManualClock::new(NOW_MILLIS * 1_000_000));
    let serve = |ingest: &crate::ingest::Ingest| router(Receiver::new(Config::default(), Arc::new(ingest.clone()), clock.clone(), ample()), open_gate());
    let post = |operation: &str, members: Value| {
        Request::post("/")
            .header("x-amz-target", format!("Logs_20140328.{operation}"))
            .header("content-encoding", "gzip")
            .body(Body::from(gzip(members.to_string().as_bytes())))
            .expect("a request")
    };
    let first = write_path(dir.path(), clock.clone()).await;
    let router = serve(&first);
    for (operation, members) in [
        ("CreateLogGroup", json!({"logGroupName": "g"})),
        ("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})),
        ("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 3})),
        ("PutLogEvents", events(&[-4 * DAY, -1, 0])),
    ] {
        Server::is_ok(&send(&router, post(operation, members)).await);
    }
    // what lies on the disk at this moment is what a crash leaves
    let image = tempfile::tempdir().expect("a directory");
    copy(dir.path(), image.path());

    let second = write_path(image.path(), clock.clone()).await;
    assert_eq!(second.status().head_rows, 2);
    let router = serve(&second);
    let answer = send(&router, post("DescribeLogGroups", json!({}))).await;
    assert_eq!(answer.json["logGroups"][0]["retentionInDays"], 3);
    Server::is_ok(&send(&router, post("PutLogEvents", events(&[1]))).await);
    assert_eq!(second.status().head_rows, 3);
}

#[tokio::test]
async fn a_spent_budget_is_a_503_and_counted_once() {
    let budget = Budget::new(4 << 20);
    let server = Server::within(Memory::default(), Config::default(), budget.clone());
    server.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    server.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    let put = events(&[0]);
    let mut other = budget.share();
    other.hold(4 << 20).expect("free");
    for (operation, members) in [("PutLogEvents", put.clone()), ("DescribeLogGroups", json!({}))] {
        let answer = server.call(operation, members).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert_eq!(answer.error_type.as_deref(), Some("ServiceUnavailableException"));
    }
    assert_eq!((server.memory.outcomes().refused, server.memory.n_rows()), (1, 0));
    drop(other);
    server.ok("PutLogEvents", put).await;
    assert_eq!(budget.held_bytes(), 0);
}

#[tokio::test]
async fn patterns_are_tested_and_groups_listed_without_any_row() {
    let server = Server::with_stream().await;
    let matches = server
        .ok(
            "TestMetricFilter",
            json!({"filterPattern": "[a, b = 4*]", "logEventMessages": ["x 404", "x 200"]}),
        )
        .await;
    assert_eq!(
        matches["matches"],
        json!([{"eventNumber": 1, "eventMessage": "x 404", "extractedValues": {"$a": "x", "$b": "404"}}])
    );
    server
        .fails("TestMetricFilter", json!({"filterPattern": "{"}), "InvalidParameterException")
        .await;
    let groups = server.ok("ListLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0]["logGroupArn"], "arn:aws:logs:us-east-1:000000000000:log-group:g");
    server
        .fails("ListLogGroups", json!({"logGroupNamePattern": "ab"}), "InvalidParameterException")
        .await;
}

#[tokio::test]
async fn an_entity_that_is_not_taken_is_told_and_the_events_are() {
    let server = Server::with_stream().await;
    let mut members = events(&[0]);
    members["entity"] = json!({"keyAttributes": {"Type": "Service", "Name": "pay"}});
    let answer = server.ok("PutLogEvents", members.clone()).await;
    assert!(answer.get("rejectedEntityInfo").is_none(), "{answer}");
    members["entity"]["keyAttributes"]["Type"] = "Robot".into();
    let answer = server.ok("PutLogEvents", members.clone()).await;
    assert_eq!(answer["rejectedEntityInfo"], json!({"errorType": "InvalidTypeValue"}));
    assert!(
        answer.get("rejectedLogEventsInfo").is_none() && answer["nextSequenceToken"].is_string(),
        "{answer}"
    );
    // of another class
    let rare = json!({"logGroupName": "rare", "logGroupClass": "INFREQUENT_ACCESS"});
    server.ok("CreateLogGroup", rare).await;
    server.ok("CreateLogStream", json!({"logGroupName": "rare", "logStreamName": "s"})).await;
    members["logGroupName"] = "rare".into();
    members["entity"]["keyAttributes"]["Type"] = "Service".into();
    let answer = server.ok("PutLogEvents", members).await;
    assert_eq!(answer["rejectedEntityInfo"], json!({"errorType": "UnsupportedLogGroupType"}));
    assert_eq!(server.memory.n_rows(), 3);
}
