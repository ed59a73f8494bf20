use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::deliver::Subscriptions as _;
use crate::deliver::sink::{Destination, Fault, Record, Remedy, Sink, Taken};

/// Destinations that take all, or fail.
#[derive(Debug, Default)]
struct Streams {
    fails: Mutex<Option<Remedy>>,
    tried: Mutex<Vec<Destination>>,
}

#[derive(Debug)]
struct Reached(Arc<Streams>);

#[async_trait]
impl Sinks for Reached {
    async fn open(&self, destination: &Destination) -> Arc<dyn Sink> {
        self.0.tried.lock().push(destination.clone());
        Arc::new(Reached(self.0.clone()))
    }
}

#[async_trait]
impl Sink for Reached {
    async fn put(&self, records: &[Record]) -> std::result::Result<Taken, Fault> {
        let message = "the stream says so".to_string();
        match *self.0.fails.lock() {
            Some(remedy) => Err(Fault { message, remedy }),
            None => Ok(records.iter().map(|_| Ok(())).collect()),
        }
    }
}

async fn with_group() -> (Server, Arc<Streams>) {
    let (server, streams) = (Server::with_stream().await, Arc::<Streams>::default());
    server.receiver.deliver_through(Arc::new(Reached(streams.clone())));
    (server, streams)
}

const KINESIS: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/out";

fn filter(name: &str) -> Value {
    json!({ "logGroupName": "g", "filterName": name, "filterPattern": "ERROR", "destinationArn": KINESIS, "roleArn": "arn:aws:iam::1:role/r" })
}

fn with(mut members: Value, member: &str, value: Value) -> Value {
    members[member] = value;
    members
}

#[tokio::test]
async fn a_filter_is_put_shown_changed_and_deleted() {
    let (server, streams) = with_group().await;
    let members = with(with(filter("f"), "roleArn", json!("arn:aws:iam::1:role/r")), "distribution", json!("Random"));
    server.ok("PutSubscriptionFilter", members).await;
    assert_eq!(streams.tried.lock().len(), 1, "the destination was tried");
    let shown = server.ok("DescribeSubscriptionFilters", json!({ "logGroupName": "g" })).await;
    let expected = json!({
        "filterName": "f", "logGroupName": "g", "filterPattern": "ERROR", "destinationArn": KINESIS, "roleArn": "arn:aws:iam::1:role/r",
        "distribution": "Random", "applyOnTransformedLogs": false, "creationTime": NOW_MILLIS,
    });
    assert_eq!(shown, json!({ "subscriptionFilters": [expected] }));
    server.ok("PutSubscriptionFilter", with(filter("f"), "filterPattern", json!(""))).await;
    let subscriptions = server.receiver.registry().subscriptions();
    assert_eq!(
        (subscriptions.len(), subscriptions[0].pattern.as_str(), subscriptions[0].is_random),
        (1, "", false)
    );
    // it survives a restart, and goes with its group
    let later = Server::on(server.memory.surviving(), Config::default());
    assert_eq!(later.receiver.registry().subscriptions(), subscriptions);
    later.ok("DeleteLogGroup", json!({ "logGroupName": "g" })).await;
    later.ok("CreateLogGroup", json!({ "logGroupName": "g" })).await;
    assert_eq!(later.receiver.registry().subscriptions(), []);
    let names = json!({ "logGroupName": "g", "filterName": "f" });
    server.ok("DeleteSubscriptionFilter", names.clone()).await;
    assert_eq!(server.receiver.registry().subscriptions(), []);
    let said = server.fails("DeleteSubscriptionFilter", names, "ResourceNotFoundException").await;
    assert_eq!(said, "The specified subscription filter does not exist.");
}

#[tokio::test]
async fn what_is_no_filter_is_refused_in_the_services_words() {
    let (server, streams) = with_group().await;
    for (member, value, word) in [
        ("filterName", json!("a:b"), "filterName"),
        ("filterName", json!(""), "filterName"),
        ("filterName", json!("x".repeat(513)), "filterName"),
        ("filterPattern", Value::Null, "filterPattern"),
        ("filterPattern", json!("x".repeat(1_025)), "filterPattern"),
        ("filterPattern", json!("{ $.a = }"), "Invalid filter pattern"),
        ("destinationArn", Value::Null, "destinationArn"),
        ("destinationArn", json!(""), "destinationArn"),
        ("destinationArn", json!("arn:aws:lambda:us-east-1:1:function:f"), "AWS Lambda are not supported"),
        ("destinationArn", json!("arn:aws:logs:us-east-1:1:destination:d"), "PutDestination"),
        ("destinationArn", json!("arn:aws:s3:us-east-1:1:x"), "not that of a Kinesis stream"),
        ("roleArn", Value::Null, "destinationArn for vendor kinesis cannot be used without roleArn"),
        ("roleArn", json!(""), "roleArn"),
        ("distribution", json!("Even"), "enum value set: [Random, ByLogStream]"),
        ("applyOnTransformedLogs", json!(true), "applyOnTransformedLogs is not supported"),
        (
            "fieldSelectionCriteria",
            json!("@aws.zone = \"x\""),
            "Invalid fieldSelectionCriteria: expected @aws.account or @aws.region",
        ),
        ("fieldSelectionCriteria", json!("x".repeat(2_001)), "less than or equal to 2000"),
        ("emitSystemFields", json!(["@source.log"]), "expected @aws.account or @aws.region"),
        ("logGroupName", json!("a b"), "logGroupName"),
    ] {
        let said = server
            .fails("PutSubscriptionFilter", with(filter("f"), member, value), "InvalidParameterException")
            .await;
        assert!(said.contains(word), "{member}: {said}");
    }
    let absent = with(filter("f"), "logGroupName", json!("absent"));
    for operation in ["PutSubscriptionFilter", "DescribeSubscriptionFilters", "DeleteSubscriptionFilter"] {
        let said = server.fails(operation, absent.clone(), "ResourceNotFoundException").await;
        assert_eq!(said, "The specified log group does not exist.", "{operation}");
        server.fails(operation, json!({}), "InvalidParameterException").await;
    }
    server
        .ok("CreateLogGroup", json!({ "logGroupName": "rare", "logGroupClass": "INFREQUENT_ACCESS" }))
        .await;
    server
        .fails(
            "PutSubscriptionFilter",
            with(filter("f"), "logGroupName", json!("rare")),
            "InvalidOperationException",
        )
        .await;
    assert_eq!(streams.tried.lock().len(), 0, "nothing of this was worth a try");
}

#[tokio::test]
async fn a_group_has_two_filters_and_five_regular_expressions() {
    let (server, _) = with_group().await;
    server
        .ok("PutSubscriptionFilter", with(filter("a"), "filterPattern", json!("{ $.x = %a% && $.y = %b% }")))
        .await;
    server.ok("PutSubscriptionFilter", filter("b")).await;
    server.fails("PutSubscriptionFilter", filter("c"), "LimitExceededException").await;
    server
        .ok("PutSubscriptionFilter", with(filter("b"), "filterPattern", json!("{ $.x = %a% && $.y = %b% }")))
        .await;
    server.ok("PutSubscriptionFilter", filter("a")).await;
    server.ok("DeleteSubscriptionFilter", json!({ "logGroupName": "g", "filterName": "a" })).await;
    server.ok("PutSubscriptionFilter", filter("c")).await;
}

#[tokio::test]
async fn regular_expressions_of_both_kinds_of_filters_count_together() {
    let (server, _) = with_group().await;
    let metric = |name: &str, pattern: &str| {
        json!({
            "logGroupName": "g",
            "filterName": name,
            "filterPattern": pattern,
            "metricTransformations": [{ "metricName": "n", "metricNamespace": "s", "metricValue": "1" }],
        })
    };
    let two = "{ $.x = %a% && $.y = %b% }";
    server.ok("PutMetricFilter", metric("m", two)).await;
    server.ok("PutSubscriptionFilter", with(filter("a"), "filterPattern", json!(two))).await;
    server.ok("PutMetricFilter", metric("n", "%fifth%")).await;
    server.fails("PutMetricFilter", metric("o", "%sixth%"), "LimitExceededException").await;
    server
        .fails(
            "PutSubscriptionFilter",
            with(filter("b"), "filterPattern", json!("%sixth%")),
            "LimitExceededException",
        )
        .await;
    // one without is no matter, and one that is replaced does not count
    server.ok("PutSubscriptionFilter", filter("b")).await;
    server.ok("PutMetricFilter", metric("m", "%only%")).await;
    server.ok("PutSubscriptionFilter", with(filter("b"), "filterPattern", json!("%fifth%"))).await;
    server.fails("PutMetricFilter", metric("m", two), "LimitExceededException").await;
}

#[tokio::test]
async fn filters_are_listed_by_prefix_and_page() {
    let (server, _) = with_group().await;
    for name in ["b-1", "a-1"] {
        server.ok("PutSubscriptionFilter", filter(name)).await;
    }
    let describe = json!({ "logGroupName": "g" });
    let page = server.ok("DescribeSubscriptionFilters", with(describe.clone(), "limit", json!(1))).await;
    assert_eq!(names(&page["subscriptionFilters"], "filterName"), ["a-1"]);
    let next = with(with(describe.clone(), "limit", json!(1)), "nextToken", page["nextToken"].clone());
    let page = server.ok("DescribeSubscriptionFilters", next).await;
    assert_eq!(
        (names(&page["subscriptionFilters"], "filterName"), page.get("nextToken")),
        (vec!["b-1".to_string()], None)
    );
    let page = server
        .ok("DescribeSubscriptionFilters", with(describe.clone(), "filterNamePrefix", json!("b")))
        .await;
    assert_eq!(names(&page["subscriptionFilters"], "filterName"), ["b-1"]);
    for (member, value) in [
        ("limit", json!(0)),
        ("limit", json!(51)),
        ("filterNamePrefix", json!("a*")),
        ("nextToken", json!("?")),
    ] {
        let members = with(describe.clone(), member, value);
        server.fails("DescribeSubscriptionFilters", members, "InvalidParameterException").await;
    }
}

#[tokio::test]
async fn a_destination_that_does_not_take_the_test_message_is_refused() {
    let (server, streams) = with_group().await;
    *streams.fails.lock() = Some(Remedy::Mend);
    let said = server.fails("PutSubscriptionFilter", filter("f"), "InvalidParameterException").await;
    assert!(
        said.starts_with("Could not deliver test message to specified Kinesis stream.") && said.contains("the stream says so"),
        "{said}"
    );
    *streams.fails.lock() = Some(Remedy::Retry);
    let answer = server.call("PutSubscriptionFilter", filter("f")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error_type.as_deref()),
        (503, Some("ServiceUnavailableException"))
    );
    assert_eq!(server.receiver.registry().subscriptions(), []);
}

#[tokio::test]
async fn system_fields_are_sent_and_choose_what_is_sent() {
    let (server, _) = with_group().await;
    let registry = server.receiver.registry();
    let fields = json!(["@aws.region", "@aws.account"]);
    let criteria = "@aws.region = \"us-east-1\"";
    let members = with(with(filter("f"), "emitSystemFields", fields.clone()), "fieldSelectionCriteria", json!(criteria));
    server.ok("PutSubscriptionFilter", members).await;
    let described = server.ok("DescribeSubscriptionFilters", json!({ "logGroupName": "g" })).await;
    let shown = &described["subscriptionFilters"][0];
    assert_eq!((&shown["emitSystemFields"], &shown["fieldSelectionCriteria"]), (&fields, &json!(criteria)));
    let subscriptions = registry.subscriptions();
    let sent: Vec<(&str, &str)> = subscriptions[0]
        .system_fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(sent, [("@aws.account", "000000000000"), ("@aws.region", "us-east-1")]);
    let later = Server::on(server.memory.surviving(), Config::default());
    assert_eq!(later.receiver.registry().subscriptions(), subscriptions);
    assert_eq!(later.ok("DescribeSubscriptionFilters", json!({ "logGroupName": "g" })).await, described);
    // of elsewhere nothing comes
    let elsewhere = with(filter("f"), "fieldSelectionCriteria", json!("@aws.region != \"us-east-1\""));
    server.ok("PutSubscriptionFilter", elsewhere).await;
    assert!(subscriptions[0].is_for_us && !registry.subscriptions()[0].is_for_us);
    server.ok("PutSubscriptionFilter", filter("f")).await;
    let subscriptions = registry.subscriptions();
    assert!(subscriptions[0].is_for_us && subscriptions[0].system_fields.is_empty());
    let described = server.ok("DescribeSubscriptionFilters", json!({ "logGroupName": "g" })).await;
    let shown = &described["subscriptionFilters"][0];
    assert!(
        shown.get("emitSystemFields").is_none() && shown.get("fieldSelectionCriteria").is_none(),
        "{shown}"
    );
}
