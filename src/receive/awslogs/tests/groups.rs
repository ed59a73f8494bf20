//! What is told of log groups and streams.

use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::*;

#[tokio::test]
async fn groups_streams_tags_and_retention_survive_a_restart() {
    let server = Server::with_stream().await;
    server
        .ok(
            "CreateLogGroup",
            json!({"logGroupName": "/aws/lambda/f", "tags": {"team": "a"}, "logGroupClass": "INFREQUENT_ACCESS", "kmsKeyId": "k"}),
        )
        .await;
    server.ok("PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 7})).await;
    server.ok("PutLogEvents", events(&[-10, 0])).await;
    let later = Server::on(server.memory.surviving(), Config::default());
    for (operation, members) in [
        ("DescribeLogGroups", json!({})),
        ("DescribeLogStreams", json!({"logGroupName": "g"})),
        ("ListTagsLogGroup", json!({"logGroupName": "/aws/lambda/f"})),
    ] {
        assert_eq!(server.ok(operation, members.clone()).await, later.ok(operation, members).await);
    }
    let streams = later.ok("DescribeLogStreams", json!({"logGroupName": "g"})).await;
    let stream = &streams["logStreams"][0];
    assert_eq!(stream["firstEventTimestamp"], NOW_MILLIS - 10);
    assert_eq!(stream["lastEventTimestamp"], NOW_MILLIS);
    assert_eq!(stream["lastIngestionTime"], NOW_MILLIS);
    assert_eq!(stream["storedBytes"], 0);
    assert_eq!(stream["arn"], "arn:aws:logs:us-east-1:000000000000:log-group:g:log-stream:s");
    assert!(stream["uploadSequenceToken"].is_string());
    later
        .fails(
            "CreateLogStream",
            json!({"logGroupName": "g", "logStreamName": "s"}),
            "ResourceAlreadyExistsException",
        )
        .await;
    assert_eq!(later.receiver.registry().retention_of("g", "s"), Ok(7));
}

#[tokio::test]
async fn groups_are_shown_as_aws_shows_them() {
    let server = Server::with_stream().await;
    server.ok("PutLogEvents", events(&[0])).await;
    let answer = server.ok("DescribeLogGroups", json!({"logGroupNamePrefix": "g"})).await;
    assert_eq!(
        answer,
        json!({"logGroups": [{
            "logGroupName": "g", "creationTime": NOW_MILLIS, "metricFilterCount": 0, "storedBytes": 31, "logGroupClass": "STANDARD",
            "arn": "arn:aws:logs:us-east-1:000000000000:log-group:g:*", "logGroupArn": "arn:aws:logs:us-east-1:000000000000:log-group:g",
            "deletionProtectionEnabled": false,
            "bearerTokenAuthenticationEnabled": true,
        }]})
    );
}

#[tokio::test]
async fn groups_are_found_by_prefix_pattern_identifier_and_class_page_by_page() {
    let server = Server::new();
    for name in ["/a/one", "/a/two", "/b/one", "/b/Two", "z"] {
        server.ok("CreateLogGroup", json!({"logGroupName": name})).await;
    }
    server
        .ok("CreateLogGroup", json!({"logGroupName": "ia", "logGroupClass": "INFREQUENT_ACCESS"}))
        .await;
    assert_eq!(
        server.group_names(json!({})).await,
        ["/a/one", "/a/two", "/b/Two", "/b/one", "ia", "z"],
        "ASCII order"
    );
    assert_eq!(server.group_names(json!({"logGroupNamePrefix": "/b"})).await, ["/b/Two", "/b/one"]);
    assert_eq!(server.group_names(json!({"logGroupNamePattern": "wo"})).await, ["/a/two", "/b/Two"]);
    assert_eq!(server.group_names(json!({"logGroupNamePattern": "tw"})).await, ["/a/two"], "case matters");
    assert_eq!(server.group_names(json!({"logGroupClass": "ESSENTIALS"})).await, ["ia"]);
    let identifiers = json!([
        "z",
        "arn:aws:logs:eu-west-1:123456789012:log-group:/a/one",
        "arn:aws:logs:eu-west-1:1:log-group:/a/two:*",
        "gone"
    ]);
    assert_eq!(server.group_names(json!({"logGroupIdentifiers": identifiers})).await, ["/a/one", "/a/two", "z"]);
    let short = server.ok("DescribeLogGroups", json!({"logGroupNamePattern": "z"})).await;
    assert_eq!(short["logGroups"][0].as_object().expect("an object").len(), 3);

    let mut seen = vec![];
    let mut members = json!({"limit": 4});
    loop {
        let answer = server.ok("DescribeLogGroups", members.clone()).await;
        seen.extend(names(&answer["logGroups"], "logGroupName"));
        match answer.get("nextToken") {
            Some(token) => members["nextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 6);
    let whole = server.ok("DescribeLogGroups", json!({"limit": 6})).await;
    assert!(whole.get("nextToken").is_none(), "a full last page has no token");

    for members in [
        json!({"logGroupNamePrefix": "a", "logGroupNamePattern": "a"}),
        json!({"logGroupIdentifiers": ["z"], "logGroupNamePrefix": "z"}),
        json!({"logGroupIdentifiers": []}),
        json!({"logGroupIdentifiers": vec!["z"; 51]}),
        json!({"logGroupIdentifiers": ["arn:aws:s3:::b"]}),
        json!({"logGroupIdentifiers": ["a b"]}),
        json!({"limit": 0}),
        json!({"limit": 51}),
        json!({"nextToken": "???"}),
        json!({"nextToken": "bm90"}),
        json!({"logGroupClass": "GOLD"}),
        json!({"logGroupNamePrefix": "a b"}),
    ] {
        server.fails("DescribeLogGroups", members, "InvalidParameterException").await;
    }
}

#[tokio::test]
async fn streams_are_ordered_by_name_or_by_last_event_page_by_page() {
    let server = Server::with_stream().await;
    for (name, last) in [
        ("a", Some(30)),
        ("b", None),
        ("c", Some(10)),
        ("d", Some(30)),
        ("web-1", None),
        ("web-2", Some(20)),
    ] {
        server.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": name})).await;
        if let Some(last) = last {
            let mut members = events(&[last]);
            members["logStreamName"] = name.into();
            server.ok("PutLogEvents", members).await;
        }
    }
    for (members, expected) in [
        (json!({}), "a b c d s web-1 web-2"),
        (json!({"descending": true}), "web-2 web-1 s d c b a"),
        (json!({"logStreamNamePrefix": "web"}), "web-1 web-2"),
        (json!({"logStreamNamePrefix": "web", "descending": true}), "web-2 web-1"),
        (json!({"orderBy": "LogStreamName", "logStreamNamePrefix": "x"}), ""),
        (json!({"orderBy": "LastEventTime"}), "b s web-1 c web-2 a d"),
        (json!({"orderBy": "LastEventTime", "descending": true}), "d a web-2 c web-1 s b"),
    ] {
        for limit in [1, 2, 3, 7, 50] {
            let mut members = members.clone();
            members["logGroupIdentifier"] = "arn:aws:logs:us-east-1:000000000000:log-group:g".into();
            members["limit"] = limit.into();
            let mut seen = vec![];
            loop {
                let answer = server.ok("DescribeLogStreams", members.clone()).await;
                let page = names(&answer["logStreams"], "logStreamName");
                assert!(page.len() <= limit);
                seen.extend(page);
                match answer.get("nextToken") {
                    Some(token) => members["nextToken"] = token.clone(),
                    None => break,
                }
            }
            assert_eq!(seen.join(" "), expected, "{members}");
        }
    }
    for members in [
        json!({}),
        json!({"logGroupName": "g", "logGroupIdentifier": "g"}),
        json!({"logGroupName": "g", "orderBy": "LastEventTime", "logStreamNamePrefix": "w"}),
        json!({"logGroupName": "g", "orderBy": "Size"}),
        json!({"logGroupName": "g", "limit": 51}),
        json!({"logGroupName": "g", "nextToken": "dA"}),
        json!({"logGroupName": "g", "orderBy": "LastEventTime", "nextToken": "dHg"}),
        json!({"logGroupName": "g", "logStreamNamePrefix": "a:b"}),
    ] {
        server.fails("DescribeLogStreams", members, "InvalidParameterException").await;
    }
    server
        .fails("DescribeLogStreams", json!({"logGroupName": "gone"}), "ResourceNotFoundException")
        .await;
}

/// What is told of the one stream of this name.
fn stream_of(server: &Server, name: &str) -> Value {
    let call = DescribeLogStreams {
        log_group_name: Some("g".into()),
        log_stream_name_prefix: Some(name.into()),
        ..DescribeLogStreams::default()
    };
    let answer = server.receiver.registry().describe_log_streams(&call).expect("an answer");
    answer["logStreams"][0].clone()
}

/// Lets other tasks go on until it is so.
async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never came");
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_no_stream_without_its_times() {
    let server = Server::with_stream().await;
    server.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "t"})).await;
    let held = Arc::new(Semaphore::new(0));
    *server.memory.held.lock() = Some(held.clone());
    let put = Request::post("/")
        .header("x-amz-target", "Logs_20140328.PutLogEvents")
        .body(Body::from(events(&[-3, 0]).to_string()))
        .expect("a request");
    let collect = Request::post("/services/collector/event?logGroup=g&logStream=t")
        .body(Body::from(r#"{"event": "hello"}"#))
        .expect("a request");
    let http = http_router(server.receiver.clone(), open_gate());
    for (n_taken, stream, router, request) in [(1, "s", server.router.clone(), put), (2, "t", http, collect)] {
        assert!(stream_of(&server, stream).get("lastEventTimestamp").is_none());
        let call = tokio::spawn(router.oneshot(request));
        until(|| server.memory.accepted.lock().len() == n_taken).await;
        // as hyper does it
        call.abort();
        assert!(call.await.expect_err("it waited").is_cancelled());
        held.add_permits(1);
        until(|| stream_of(&server, stream)["lastEventTimestamp"] == NOW_MILLIS).await;
        assert_eq!(stream_of(&server, stream)["lastIngestionTime"], NOW_MILLIS);
    }
    assert_eq!(stream_of(&server, "s")["firstEventTimestamp"], NOW_MILLIS - 3);
    let groups = server.ok("DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0]["storedBytes"], 3 * 31);
}

#[tokio::test]
async fn a_request_that_comes_again_widens_times_and_adds_no_bytes() {
    let memory = Arc::new(Memory::default());
    let clock = Arc::new(ManualClock::new(NOW_MILLIS * 1_000_000));
    let receiver = Receiver::new(Config::default(), memory.clone(), clock.clone(), ample());
    let server = Server {
        router: router(receiver.clone(), open_gate()),
        memory,
        receiver,
    };
    server.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    for stream in ["s", "t"] {
        server.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": stream})).await;
    }
    server.ok("PutLogEvents", events(&[-5, -1])).await;
    clock.advance(60_000 * 1_000_000);
    server.memory.is_repeating.store(true, std::sync::atomic::Ordering::Relaxed);
    server.ok("PutLogEvents", events(&[-2, 0])).await;
    let stream = stream_of(&server, "s");
    assert_eq!(
        (&stream["firstEventTimestamp"], &stream["lastEventTimestamp"]),
        (&json!(NOW_MILLIS - 5), &json!(NOW_MILLIS))
    );
    assert_eq!(stream["lastIngestionTime"], NOW_MILLIS, "they were ingested when they came first");
    // of which it was not noted, as before a crash
    let mut other = events(&[0]);
    other["logStreamName"] = "t".into();
    server.ok("PutLogEvents", other).await;
    assert_eq!(stream_of(&server, "t")["lastIngestionTime"], NOW_MILLIS + 60_000);
    let groups = server.ok("DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0]["storedBytes"], 2 * 31);
}
