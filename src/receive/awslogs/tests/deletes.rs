use super::*;

#[tokio::test]
async fn a_deleted_group_is_gone_with_its_documents_and_its_rows_are_ordered_to_go() {
    let server = Server::with_stream().await;
    server.ok("CreateLogGroup", json!({"logGroupName": "h"})).await;
    server.ok("CreateLogStream", json!({"logGroupName": "h", "logStreamName": "s"})).await;
    server.ok("PutLogEvents", events(&[0])).await;
    server.ok("DeleteLogGroup", json!({"logGroupName": "g"})).await;
    assert_eq!(server.group_names(json!({})).await, ["h"]);
    for operation in ["DeleteLogGroup", "DeleteLogStream", "DescribeLogStreams", "GetLogEvents"] {
        let said = server
            .fails(operation, json!({"logGroupName": "g", "logStreamName": "s"}), "ResourceNotFoundException")
            .await;
        assert!(said.contains("log group"), "{said}");
    }
    server.fails("PutLogEvents", events(&[0]), "ResourceNotFoundException").await;
    server.ok("DeleteLogStream", json!({"logGroupName": "h", "logStreamName": "s"})).await;
    server
        .fails(
            "DeleteLogStream",
            json!({"logGroupName": "h", "logStreamName": "s"}),
            "ResourceNotFoundException",
        )
        .await;
    server.fails("DeleteLogStream", json!({"logGroupName": "h"}), "InvalidParameterException").await;
    let orders: Vec<String> = server.memory.deletes.lock().iter().map(|order| order.query.clone()).collect();
    assert_eq!(orders, ["@log_group:g", "@log_group:h @log_stream:s"]);
    let kept: Vec<String> = server.memory.states.lock().keys().cloned().collect();
    assert_eq!(kept, ["loggone/g", "loggone/h\0s", "loggroup/h"]);

    // the same after a restart; what came before is not shown, also under the same name
    let server = Server::on(server.memory.surviving(), Config::default());
    assert_eq!(server.group_names(json!({})).await, ["h"]);
    server.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    server.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    let registry = server.receiver.registry();
    assert!(!registry.shows("g", "s", NOW_MILLIS) && registry.shows("g", "s", NOW_MILLIS + 1));
    assert!(!registry.shows("g", "t", NOW_MILLIS + 1));
    server
        .ok("CreateLogGroup", json!({"logGroupName": "p", "deletionProtectionEnabled": true}))
        .await;
    server.fails("DeleteLogGroup", json!({"logGroupName": "p"}), "ValidationException").await;
    let protect = |on: bool| json!({"logGroupIdentifier": "p", "deletionProtectionEnabled": on});
    server.ok("PutLogGroupDeletionProtection", protect(false)).await;
    server.ok("PutLogGroupDeletionProtection", protect(true)).await;
    server.fails("DeleteLogGroup", json!({"logGroupName": "p"}), "ValidationException").await;
    server.ok("PutLogGroupDeletionProtection", protect(false)).await;
    server.ok("DeleteLogGroup", json!({"logGroupName": "p"})).await;
    server.fails("PutLogGroupDeletionProtection", protect(true), "ResourceNotFoundException").await;
    server
        .fails("PutLogGroupDeletionProtection", json!({"logGroupIdentifier": "p"}), "InvalidParameterException")
        .await;
}

#[tokio::test]
async fn a_delete_that_is_refused_leaves_the_group_as_it_was() {
    let server = Server::with_stream().await;
    server.memory.refuse(1);
    let answer = server.call("DeleteLogGroup", json!({"logGroupName": "g"})).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.group_names(json!({})).await, ["g"]);
    server.ok("PutLogEvents", events(&[0])).await;
    server.ok("DeleteLogGroup", json!({"logGroupName": "g"})).await;
}

#[tokio::test]
async fn what_another_node_deleted_is_gone_here_and_does_not_come_back() {
    use crate::ingest::Facts;
    let (one, other) = (Server::with_stream().await, Server::with_stream().await);
    let teach = async |from: &Server, to: &Server| {
        for prefix in to.receiver.registry().prefixes() {
            for (key, value) in from.memory.states(prefix) {
                to.receiver.registry().learn(&key, &value).await;
            }
        }
    };
    one.ok("DeleteLogGroup", json!({"logGroupName": "g"})).await;
    // the other still tells of it
    teach(&other, &one).await;
    assert!(one.group_names(json!({})).await.is_empty());
    teach(&one, &other).await;
    assert!(other.group_names(json!({})).await.is_empty());
    // one that is created again is newer
    other.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    other.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    teach(&other, &one).await;
    teach(&one, &other).await;
    assert_eq!(
        (one.group_names(json!({})).await, other.group_names(json!({})).await),
        (vec!["g".into()], vec!["g".into()])
    );
    other.ok("DeleteLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    teach(&other, &one).await;
    assert!(
        one.ok("DescribeLogStreams", json!({"logGroupName": "g"})).await["logStreams"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
}

#[tokio::test]
async fn what_is_acknowledged_by_a_clock_behind_that_of_the_deletion_is_shown() {
    use crate::ingest::Facts;
    let server = Server::with_stream().await;
    let registry = server.receiver.registry();
    // another node's clock is two seconds ahead
    let gone_millis = NOW_MILLIS + 2_000;
    registry.learn("loggone/g", &gone_millis.to_string().into()).await;
    assert!(server.group_names(json!({})).await.is_empty());
    server.ok("CreateLogGroup", json!({"logGroupName": "g"})).await;
    server.ok("CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    server.ok("PutLogEvents", events(&[0])).await;
    let collect = Request::post("/services/collector/event?logGroup=g&logStream=s")
        .body(Body::from(r#"{"event": "hello"}"#))
        .expect("a request");
    let http = http_router(server.receiver.clone(), open_gate());
    assert_eq!(send(&http, collect).await.status, StatusCode::OK);
    for (received, _) in server.memory.accepted.lock().iter() {
        let millis = received.context.received_at_nanos.div_euclid(1_000_000);
        assert!(registry.shows("g", "s", millis), "{millis}");
        assert!(!registry.shows("g", "s", gone_millis));
    }
    assert_eq!(server.memory.accepted.lock().len(), 2);
    let streams = server.ok("DescribeLogStreams", json!({"logGroupName": "g"})).await;
    assert_eq!(streams["logStreams"][0]["creationTime"], gone_millis + 1, "other nodes take it for a new one");

    // and a deletion here is news to the other node
    server.ok("DeleteLogStream", json!({"logGroupName": "g", "logStreamName": "s"})).await;
    server.ok("DeleteLogGroup", json!({"logGroupName": "g"})).await;
    for key in ["loggone/g", "loggone/g\0s"] {
        let told = server.memory.states.lock()[key].clone();
        assert_eq!(told, (gone_millis + 1).to_string(), "{key}");
    }
}
