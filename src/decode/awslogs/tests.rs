use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use serde_json::json;

use super::*;
use crate::model::Table;

const NOW_MILLIS: i64 = 1_795_000_000_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn context(retention_days: i32) -> Context {
    Context {
        received_at_nanos: NOW_MILLIS * 1_000_000,
        retention_days,
    }
}

/// A body with one event a timestamp offset from now.
fn body_at(offsets: &[i64]) -> Vec<u8> {
    let events: Vec<_> = offsets.iter().map(|o| json!({"timestamp": NOW_MILLIS + o, "message": "m"})).collect();
    body_of(json!(events))
}

fn body_of(events: serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(&json!({"logGroupName": "g", "logStreamName": "s", "logEvents": events})).expect("plain data")
}

fn invalid(body: &[u8]) -> String {
    match put_log_events(body, &context(0)) {
        Err(Error::Invalid(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_real_clients_batch_becomes_rows() {
    let body = include_bytes!("../../../tests/fixtures/awslogs/boto3_with_entity.json");
    let context = Context {
        received_at_nanos: 1_767_225_601_000_000_000,
        retention_days: 0,
    };
    let decoded = put_log_events(body, &context).expect("valid");
    assert!(decoded.rejected.is_empty());
    let [rows] = &decoded.batch.rows[..] else { panic!("one table") };
    assert_eq!((rows.table(), rows.len()), (Table::Logs, 2));
    let stored = rows.to_batch(None).expect("stored");
    let text = |name: &str, row: usize| stored.column_by_name(name).expect("column").as_string::<i32>().value(row).to_string();
    assert_eq!(text("body", 0), "naïve 😀");
    assert_eq!(text("body", 1), "{\"level\":\"ERROR\",\"msg\":\"card refused\"}");
    let times = stored.column_by_name("time_unix_nano").expect("column").as_primitive::<Int64Type>();
    assert_eq!(times.values(), &[1_767_225_600_000_000_000, 1_767_225_600_123_000_000]);
    assert_eq!(text("aws_log_group", 0), "/shop/checkout");
    assert_eq!(text("aws_log_stream", 0), "i-0abc");
    assert_eq!(text("service_name", 0), "checkout-api");
    assert_eq!(text("deployment_environment_name", 0), "prod");
    assert!(!stored.column_by_name("observed_time").expect("column").is_null(0));
    let resource = rows.context(0).expect("context");
    assert_eq!(resource.attribute("cloud.provider"), Some("aws"));
    assert_eq!(resource.attribute("aws.entity.PlatformType"), Some("AWS::EC2"));
}

#[test]
fn what_clients_send_is_taken() {
    for body in [
        &include_bytes!("../../../tests/fixtures/awslogs/watchtower.json")[..],
        include_bytes!("../../../tests/fixtures/awslogs/docker.json"),
        include_bytes!("../../../tests/fixtures/awslogs/fluent_bit.json"),
    ] {
        let request = Request::parse(body).expect("valid");
        let context = Context {
            received_at_nanos: request.events[0].timestamp_millis * 1_000_000,
            retention_days: 1,
        };
        let decoded = put_log_events(body, &context).expect("valid");
        assert_eq!((decoded.batch.n_rows(), decoded.rejected.len()), (request.events.len(), 0));
    }
}

#[test]
fn the_service_is_the_entity_or_the_groups_last_segment() {
    for (group, service) in [
        ("/aws/lambda/resize", Some("resize")),
        ("/ecs/shop/", Some("shop")),
        ("plain", Some("plain")),
        ("///", None),
    ] {
        assert_eq!(service_of_group(group), service);
    }
    let body = br#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1,"message":"m"}],
        "entity":{"keyAttributes":{"Type":"Resource","ResourceType":"AWS::EC2::Instance","Identifier":"i-1","Name":"other"}}}"#;
    assert_eq!(Request::parse(body).expect("valid").resource().service_name(), Some("g"));
}

fn with_entity(entity: &serde_json::Value) -> Vec<u8> {
    let events = json!([{"timestamp": NOW_MILLIS, "message": "m"}]);
    serde_json::to_vec(&json!({"logGroupName": "g", "logStreamName": "s", "logEvents": events, "entity": entity})).expect("plain data")
}

#[test]
fn all_that_an_entity_says_is_kept_once_and_told_back() {
    for (entity, expected, n_attributes) in [
        (
            json!({"keyAttributes": {"Type": "Service", "Name": "pay", "Environment": "eks:prod", "AwsAccountId": "1"},
                   "attributes": {"PlatformType": "AWS::EKS", "EKS.Cluster": "c"}}),
            "Attributes.EKS.Cluster=c Attributes.PlatformType=AWS::EKS KeyAttributes.AwsAccountId=1 KeyAttributes.Environment=eks:prod \
             KeyAttributes.Name=pay KeyAttributes.Type=Service",
            5,
        ),
        (
            json!({"keyAttributes": {"Type": "AWS::Resource", "ResourceType": "AWS::EC2::Instance", "Identifier": "i-1", "Name": "n"}}),
            "KeyAttributes.Identifier=i-1 KeyAttributes.Name=n KeyAttributes.ResourceType=AWS::EC2::Instance KeyAttributes.Type=AWS::Resource",
            5,
        ),
        (
            json!({"keyAttributes": {"Type": "RemoteService", "Name": "pay"}, "attributes": {}}),
            "KeyAttributes.Name=pay KeyAttributes.Type=RemoteService",
            3,
        ),
        // a name that looks like that of a key attribute is none
        (
            json!({"keyAttributes": {"Type": "Service", "Name": "pay"}, "attributes": {"KeyAttributes.Name": "x", "_key.Type": "y"}}),
            "Attributes.KeyAttributes.Name=x Attributes._key.Type=y KeyAttributes.Name=pay KeyAttributes.Type=Service",
            4,
        ),
    ] {
        let body = with_entity(&entity);
        let request = Request::parse(&body).expect("valid");
        assert_eq!(request.entity_rejection, None, "{entity}");
        let resource = request.resource();
        assert_eq!(resource.resource_attributes().len(), n_attributes, "nothing is kept twice: {resource:?}");
        let mut all = resource.resource_attributes().to_vec();
        for promoted in ["service.name", "deployment.environment.name"] {
            all.extend(resource.attribute(promoted).map(|value| (promoted.to_string(), value.to_string())));
        }
        let mut told: Vec<String> = entity::kept_in(&all).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        told.sort();
        assert_eq!(told.join(" "), expected);
    }
    let of_others = [
        ("service.name".to_string(), "api".to_string()),
        ("deployment.environment.name".to_string(), "prod".to_string()),
    ];
    assert!(entity::kept_in(&of_others).is_empty(), "a service that no entity named");
}

#[test]
fn an_entity_that_breaks_a_rule_is_left_out_and_its_events_are_not() {
    use EntityRejection::*;
    let many = |n: usize| (0..n).map(|i| (format!("a{i}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let service = |more: serde_json::Value| {
        let mut entity = json!({"keyAttributes": {"Type": "Service", "Name": "pay"}});
        for (name, value) in more.as_object().expect("members") {
            entity["keyAttributes"][name] = value.clone();
        }
        entity
    };
    let with = |attributes: serde_json::Value| json!({"keyAttributes": {"Type": "Service", "Name": "pay"}, "attributes": attributes});
    for (entity, expected) in [
        (json!({}), Some(InvalidEntity)),
        (json!({"keyAttributes": null, "attributes": null}), Some(InvalidEntity)),
        (json!({"attributes": {"a": "b"}}), Some(MissingRequiredFields)),
        (json!({"keyAttributes": {}}), Some(MissingRequiredFields)),
        (json!({"keyAttributes": {"Name": "pay", "Environment": "e"}}), Some(MissingRequiredFields)),
        (json!({"keyAttributes": {"Type": "Service"}}), Some(MissingRequiredFields)),
        (json!({"keyAttributes": {"Type": "Service", "Name": null}}), Some(MissingRequiredFields)),
        (json!({"keyAttributes": {"Type": "Service", "Environment": "e"}}), Some(MissingRequiredFields)),
        (json!({"keyAttributes": {"Type": "Resource", "Identifier": "i"}}), Some(MissingRequiredFields)),
        (json!({"keyAttributes": {"Type": "Robot", "Name": "pay"}}), Some(InvalidTypeValue)),
        (service(json!({"Colour": "red"})), Some(InvalidKeyAttributes)),
        (service(json!({"Environment": ""})), Some(InvalidKeyAttributes)),
        (service(json!({"": "x"})), Some(InvalidKeyAttributes)),
        (service(json!({"Environment": "e", "ResourceType": "r"})), None),
        (
            service(json!({"Environment": "e", "ResourceType": "r", "Identifier": "i"})),
            Some(EntitySizeTooLarge),
        ),
        (service(json!({"Environment": "é".repeat(512)})), None),
        (service(json!({"Environment": "é".repeat(513)})), Some(EntitySizeTooLarge)),
        (service(json!({"x".repeat(33): "v"})), Some(EntitySizeTooLarge)),
        (with(json!(many(10))), None),
        (with(json!(many(11))), Some(EntitySizeTooLarge)),
        (with(json!(many(100_000))), Some(EntitySizeTooLarge)),
        (with(json!({"é".repeat(256): "é".repeat(512)})), None),
        (with(json!({"n".repeat(257): "v"})), Some(EntitySizeTooLarge)),
        (with(json!({"n": "v".repeat(513)})), Some(EntitySizeTooLarge)),
        (with(json!({"n": ""})), Some(InvalidAttributes)),
        (with(json!({"": "v"})), Some(InvalidAttributes)),
    ] {
        let body = with_entity(&entity);
        let request = Request::parse(&body).expect("valid");
        assert_eq!(
            request.entity_rejection,
            expected,
            "{}",
            &entity.to_string()[..entity.to_string().len().min(200)]
        );
        let decoded = put_log_events(&body, &context(0)).expect("valid");
        assert_eq!(decoded.batch.n_rows(), 1);
        let resource = decoded.batch.rows[0].context(0).expect("a context");
        let service = if expected.is_some() { "g" } else { "pay" };
        assert_eq!(resource.service_name(), Some(service));
    }
    for entity in [json!("x"), json!({"keyAttributes": {"Type": 7}}), json!({"attributes": ["a"]})] {
        assert!(matches!(Request::parse(&with_entity(&entity)), Err(Error::Json(_))), "{entity}");
    }
}

#[test]
fn members_are_validated_in_the_words_of_aws() {
    for (body, said) in [
        (
            json!({}),
            "3 validation errors detected: Value null at 'logGroupName' failed to satisfy constraint: Member must not be null; Value null at 'logStreamName'",
        ),
        (
            json!({"logGroupName":"g","logStreamName":"s"}),
            "1 validation error detected: Value null at 'logEvents'",
        ),
        (
            json!({"logGroupName":"g","logStreamName":"s","logEvents":null}),
            "1 validation error detected: Value null at 'logEvents'",
        ),
        (
            json!({"logGroupName":"g","logStreamName":"s","logEvents":[]}),
            "1 validation error detected: Value '[]' at 'logEvents' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            json!({"logGroupName":"g","logStreamName":"a*b","logEvents":[{"timestamp":1,"message":"m"}]}),
            "1 validation error detected: Value 'a*b' at 'logStreamName'",
        ),
        (
            json!({"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1,"message":"m"},{"timestamp":1,"message":""}]}),
            "1 validation error detected: Value '' at 'logEvents.2.member.message'",
        ),
        (
            json!({"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":-1,"message":"m"}]}),
            "1 validation error detected: Value '-1' at 'logEvents.1.member.timestamp' failed to satisfy constraint: Member must have value greater than or equal to 0",
        ),
        (
            json!({"logGroupName":"g","logStreamName":"s","logEvents":[{"message":"m"}, {"timestamp":1}, null]}),
            "3 validation errors detected: Value null at 'logEvents.1.member.timestamp'",
        ),
    ] {
        let message = invalid(&serde_json::to_vec(&body).expect("plain data"));
        assert!(message.starts_with(said), "{message}");
    }
}

#[test]
fn what_is_not_json_of_this_shape_is_told_apart() {
    for body in [
        &b""[..],
        b"{",
        b"[]x",
        br#"{"logGroupName":1}"#,
        br#"{"logEvents":{}}"#,
        br#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":"1","message":"m"}]}"#,
        br#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1,"message":{}}]}"#,
    ] {
        assert!(
            matches!(put_log_events(body, &context(0)), Err(Error::Json(_))),
            "{}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn ten_thousand_events_are_the_most() {
    let events = |n: usize| body_of(vec![json!({"timestamp": NOW_MILLIS, "message": "m"}); n].into());
    assert_eq!(
        put_log_events(&events(MAX_EVENTS), &context(0)).expect("at the limit").batch.n_rows(),
        MAX_EVENTS
    );
    let message = invalid(&events(MAX_EVENTS + 1));
    assert!(message.ends_with("Member must have length less than or equal to 10000"), "{message}");
    let message = invalid(&body_of(vec![json!({}); 3 * MAX_EVENTS].into()));
    assert!(message.contains("[30000 log events]"), "{message}");
}

#[test]
fn bytes_are_counted_as_aws_does() {
    let one = |n: usize| body_of(json!([{"timestamp": NOW_MILLIS, "message": "x".repeat(n)}]));
    assert_eq!(put_log_events(&one(MAX_MESSAGE_BYTES), &context(0)).expect("at the limit").batch.n_rows(), 1);
    assert_eq!(
        invalid(&one(MAX_MESSAGE_BYTES + 1)),
        "Log event too large: 1048577 bytes exceeds limit of 1048576"
    );
    // UTF-8 bytes, not characters: 2 events of é
    let two = |n: usize| body_of(json!([{"timestamp": NOW_MILLIS, "message": "é".repeat(n)}, {"timestamp": NOW_MILLIS, "message": "é".repeat(n)}]));
    let most = (MAX_BATCH_BYTES / 2 - EVENT_OVERHEAD_BYTES) / 2;
    assert_eq!(put_log_events(&two(most), &context(0)).expect("at the limit").batch.n_rows(), 2);
    assert_eq!(invalid(&two(most + 1)), "Upload too large: 1048580 bytes exceeds limit of 1048576");
}

#[test]
fn events_must_be_in_order_and_within_a_day() {
    assert_eq!(
        put_log_events(&body_at(&[-5, -5, 0]), &context(0))
            .expect("equal times are in order")
            .batch
            .n_rows(),
        3
    );
    assert!(invalid(&body_at(&[0, -1])).contains("chronological order"));
    assert_eq!(put_log_events(&body_at(&[-DAY, 0]), &context(0)).expect("at the limit").batch.n_rows(), 2);
    assert!(invalid(&body_at(&[-DAY - 1, 0])).contains("span more than 24 hours"));
    // only events that are neither too old nor too new count for the span
    let decoded = put_log_events(&body_at(&[-30 * DAY, 0, 30 * DAY]), &context(0)).expect("the valid one stands alone");
    assert_eq!(decoded.batch.n_rows(), 1);
}

#[test]
fn indexes_of_rejected_events_are_exact() {
    type Case = (
        &'static [i64],
        i32,
        (Option<usize>, Option<usize>, Option<usize>),
        usize,
        &'static [(Reason, u64)],
    );
    let cases: [Case; 10] = [
        (&[-14 * DAY], 0, (None, None, None), 1, &[]),
        (&[-14 * DAY - 1], 0, (None, Some(1), None), 0, &[(Reason::TooOld, 1)]),
        (&[2 * HOUR], 0, (None, None, None), 1, &[]),
        (&[0, 2 * HOUR + 1], 0, (Some(1), None, None), 1, &[(Reason::TooNew, 1)]),
        (&[-DAY, 0], 1, (None, None, None), 2, &[]),
        (&[-DAY - 1, -DAY], 1, (None, None, Some(1)), 1, &[(Reason::Expired, 1)]),
        (
            &[-15 * DAY, -4 * DAY, -3 * DAY],
            3,
            (None, Some(1), Some(2)),
            1,
            &[(Reason::TooOld, 1), (Reason::Expired, 1)],
        ),
        (&[-40 * DAY, -20 * DAY, 0], 30, (None, Some(2), Some(1)), 1, &[(Reason::TooOld, 2)]),
        (
            &[-15 * DAY, 3 * HOUR],
            0,
            (Some(1), Some(1), None),
            0,
            &[(Reason::TooOld, 1), (Reason::TooNew, 1)],
        ),
        (&[3 * HOUR, i64::MAX - NOW_MILLIS], 0, (Some(0), None, None), 0, &[(Reason::TooNew, 2)]),
    ];
    for (offsets, retention, (too_new_start, too_old_end, expired_end), n_rows, rejected) in cases {
        let body = body_at(offsets);
        let request = Request::parse(&body).expect("valid");
        let verdict = request.judge(&context(retention)).expect("valid");
        let expected = Verdict {
            too_new_start,
            too_old_end,
            expired_end,
        };
        assert_eq!(verdict, expected, "{offsets:?}");
        let decoded = request.decode(&verdict, &context(retention)).expect("columns");
        assert_eq!(decoded.batch.n_rows(), n_rows, "{offsets:?}");
        let counted: Vec<_> = decoded.rejected.iter().map(|r| (r.reason, r.count)).collect();
        assert_eq!(counted, rejected, "{offsets:?}");
    }
}

#[test]
fn odd_numbers_and_half_characters_are_read() {
    let body = format!(
        r#"{{"logGroupName":"g","logStreamName":"s","sequenceToken":"x","unknown":[1],"logEvents":[{{"timestamp":{NOW_MILLIS}.0,"message":"a\ud83d","extra":1}},{{"timestamp":99999999999999999999,"message":"far"}}]}}"#
    );
    let request = Request::parse(body.as_bytes()).expect("valid");
    assert_eq!(request.events[0].timestamp_millis, NOW_MILLIS);
    assert_eq!(request.events[0].message, "a\u{fffd}");
    assert_eq!(request.judge(&context(0)).expect("valid").too_new_start, Some(1));
}

proptest::proptest! {
    #[test]
    fn no_input_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200), received in proptest::num::i64::ANY, retention in proptest::num::i32::ANY) {
        let _ = put_log_events(&body, &Context { received_at_nanos: received, retention_days: retention });
    }

    #[test]
    fn no_event_is_lost_or_counted_twice(mut offsets in proptest::collection::vec(-20 * DAY..DAY, 1..20), retention in 0..20, received in proptest::num::i64::ANY) {
        offsets.sort_unstable();
        let body = body_at(&offsets);
        for context in [context(retention), Context { received_at_nanos: received, retention_days: retention }] {
            if let Ok(decoded) = put_log_events(&body, &context) {
                let rejected: u64 = decoded.rejected.iter().map(|r| r.count).sum();
                proptest::prop_assert_eq!(decoded.batch.n_rows() + rejected as usize, offsets.len());
            }
        }
    }
}
