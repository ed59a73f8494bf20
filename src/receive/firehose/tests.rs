use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::super::awslogs::{Arns, Limits};
use super::super::testing::{self, Memory, gzip};
use super::*;
use crate::model::ManualClock;

const NOW: i64 = 1_795_323_600_000_000_000;

fn at_home(config: Config, aws: &str, tokens: &[&str]) -> (Arc<Memory>, Router) {
    let intake = Arc::new(Memory::default());
    let gate = testing::gate(aws, tokens, intake.clone(), NOW, testing::ample());
    let log_groups = log_groups(&intake);
    let receiver = Receiver::new(config, intake.clone(), Arc::new(ManualClock::new(NOW)), testing::ample(), gate, log_groups);
    (intake, router(receiver))
}

fn log_groups(intake: &Arc<Memory>) -> Arc<Registry> {
    let limits = Limits {
        max_log_groups: 10,
        max_log_streams: 10,
    };
    Arc::new(Registry::open(intake.clone(), Arns::new("us-east-1", "000000000000"), limits, Arc::default()))
}

fn delivery(id: &str, records: &[&[u8]]) -> String {
    let records: Vec<_> = records.iter().map(|data| json!({ "data": STANDARD.encode(data) })).collect();
    json!({ "requestId": id, "timestamp": NOW / 1_000_000, "records": records }).to_string()
}

fn request(id: &str, body: impl Into<Body>) -> http::request::Builder {
    let _ = body.into();
    Request::post("/firehose").header(REQUEST_ID, id).header("content-type", "application/json")
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, serde_json::Value) {
    let response = router.clone().oneshot(request).await.expect("routers do not fail");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("in memory").to_bytes();
    assert_eq!(parts.headers["content-type"], "application/json");
    assert!(!parts.headers.contains_key("content-encoding"));
    (parts.status, parts.headers, serde_json::from_slice(&body).expect("JSON"))
}

fn built(builder: http::request::Builder, body: impl Into<Body>) -> Request<Body> {
    builder.body(body.into()).expect("a request")
}

#[tokio::test]
async fn a_delivery_is_answered_in_the_one_form_of_success() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    let body = delivery("id-1", &[b"one\ntwo\n", b"{\"a\":1}"]);
    let (status, _, answer) = send(&router, built(request("id-1", ""), body)).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"requestId": "id-1", "timestamp": NOW / 1_000_000})));
    assert_eq!((intake.n_rows(), intake.outcomes().accepted), (3, 3));
}

#[tokio::test]
async fn a_gzip_delivery_and_its_headers_are_in_the_log_as_they_are_in_the_rows() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    let body = gzip(delivery("g", &[b"line"]).as_bytes());
    let request = request("g", "")
        .header("content-encoding", "gzip")
        .header(SOURCE_ARN, "arn:aws:firehose:us-east-1:123456789012:deliverystream/s")
        .header(COMMON_ATTRIBUTES, r#"{"commonAttributes":{"team":"shop"}}"#);
    let (status, ..) = send(&router, built(request, body)).await;
    assert_eq!(status, StatusCode::OK);
    let accepted = intake.accepted.lock();
    let (received, decoded) = &accepted[0];
    assert_eq!(received.encoding, crate::net::Encoding::Gzip);
    let inflated = crate::net::inflate::inflate(received.encoding, &received.body, 1 << 20).expect("as it came");
    let again = decode::decode(Kind::Firehose, &inflated, &received.context).expect("decodes");
    for decoded in [decoded, &again] {
        let context = decoded.batch.rows[0].context(0).expect("a context");
        assert_eq!((context.attribute("team"), context.service_name()), (Some("shop"), Some("s")));
    }
}

#[tokio::test]
async fn a_missing_or_other_request_id_is_400_and_never_413() {
    let config = Config {
        max_body_bytes: 1_000,
        ..Config::default()
    };
    let (intake, router) = at_home(config, "", &[]);
    let missing = built(Request::post("/firehose"), delivery("a", &[b"x"]));
    let (status, _, answer) = send(&router, missing).await;
    assert_eq!((status, answer["requestId"].as_str()), (StatusCode::BAD_REQUEST, Some("")));
    for (case, body) in [
        ("another", delivery("b", &[b"x"])),
        ("none", r#"{"records":[]}"#.into()),
        ("malformed", "{".into()),
        ("no records", r#"{"requestId":"a"}"#.into()),
        ("too large", delivery("a", &[&[b'x'; 2_000]])),
        ("no list", r#"{"requestId":"a","records":{}}"#.into()),
    ] {
        let (status, _, answer) = send(&router, built(request("a", ""), body)).await;
        assert_eq!((status, answer["requestId"].as_str()), (StatusCode::BAD_REQUEST, Some("a")), "{case}");
        assert!(answer["errorMessage"].as_str().is_some_and(|message| !message.is_empty()), "{case}");
    }
    let bad_header = request("a", "").header(COMMON_ATTRIBUTES, "{");
    assert_eq!(send(&router, built(bad_header, delivery("a", &[b"x"]))).await.0, StatusCode::BAD_REQUEST);
    let unknown = request("a", "").header("content-encoding", "br");
    assert_eq!(send(&router, built(unknown, "x")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!((intake.n_rows(), intake.outcomes().rejected), (0, 9));
}

#[tokio::test]
async fn overload_is_503_and_counted_as_refused() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    intake.refuse(1);
    let body = delivery("a", &[b"x"]);
    let (status, headers, answer) = send(&router, built(request("a", ""), body.clone())).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("1"))
    );
    assert!(answer["errorMessage"].is_string());
    assert_eq!(send(&router, built(request("a", ""), body)).await.0, StatusCode::OK);
    assert_eq!((intake.outcomes().refused, intake.outcomes().accepted), (1, 1));
}

#[tokio::test]
async fn records_that_no_retry_mends_do_not_fail_the_delivery() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    let body = r#"{"requestId":"a","records":[{"data":"***"},{"data":"YQ=="}]}"#;
    assert_eq!(send(&router, built(request("a", ""), body)).await.0, StatusCode::OK);
    assert_eq!((intake.outcomes().rejected, intake.outcomes().accepted), (1, 1));
}

#[tokio::test]
async fn who_has_no_key_is_401_where_anything_is_configured() {
    let keys = |keys: &[&str]| Config {
        access_keys: keys.iter().map(|key| Secret::new(*key)).collect(),
        ..Config::default()
    };
    let aws = "[[keys]]\naccess_key_id = 'AKID'\nsecret_access_key = 'longenough'\nrights = ['write']\n";
    for (case, config, aws, tokens, given, status) in [
        ("the key", keys(&["firehose-1", "firehose-2"]), "", &[][..], Some("firehose-2"), 200),
        ("a wrong one", keys(&["firehose-1"]), "", &[], Some("firehose-2"), 401),
        ("none", keys(&["firehose-1"]), "", &[], None, 401),
        ("nothing configured", keys(&[]), "", &[], None, 200),
        ("any, and nothing configured", keys(&[]), "", &[], Some("x"), 200),
        ("tokens alone are configured", keys(&[]), "", &["tokentoken"], None, 401),
        ("a token", keys(&[]), "", &["tokentoken"], Some("tokentoken"), 200),
        ("keys of AWS faces alone are configured", keys(&[]), aws, &[], Some("AKID"), 401),
    ] {
        let (intake, router) = at_home(config, aws, tokens);
        let mut request = request("a", "");
        if let Some(key) = given {
            request = request.header(ACCESS_KEY, key);
        }
        let (answered, _, answer) = send(&router, built(request, delivery("a", &[b"x"]))).await;
        assert_eq!((answered.as_u16(), intake.n_rows()), (status, usize::from(status == 200)), "{case}: {answer}");
    }
}

#[test]
fn keys_that_cannot_be_are_told() {
    let config = Config {
        access_keys: vec![Secret::new("short")],
        ..Config::default()
    };
    assert_eq!((config.problems().len(), Config::default().problems().len()), (1, 0));
}

#[tokio::test]
async fn who_is_turned_away_is_heard_to_the_end_so_that_the_answer_is_read() {
    let config = Config {
        access_keys: vec![Secret::new("firehose-1")],
        ..Config::default()
    };
    let (_, router) = at_home(config, "", &[]);
    let frames = futures::stream::iter(vec![Ok::<_, std::convert::Infallible>(Bytes::from_static(b"frame")); 3]);
    let ended = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = ended.clone();
    let frames = futures::StreamExt::inspect(frames, move |_| _ = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let (status, ..) = send(&router, built(request("a", ""), Body::from_stream(frames))).await;
    assert_eq!((status, ended.load(std::sync::atomic::Ordering::Relaxed)), (StatusCode::UNAUTHORIZED, 3));
}

fn subscription(group: &str, stream: &str, messages: &[&str]) -> Vec<u8> {
    let events: Vec<_> = messages
        .iter()
        .map(|message| json!({"id": "3".repeat(56), "timestamp": NOW / 1_000_000 - 60_000, "message": message}))
        .collect();
    let record = json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": group, "logStream": stream, "logEvents": events});
    gzip(record.to_string().as_bytes())
}

#[tokio::test]
async fn log_streams_of_subscriptions_are_made_with_what_came_to_them() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    let records = [
        subscription("/g", "a", &["one", "three"]),
        subscription("/g", "b", &["two"]),
        subscription("/h", "a", &["x"]),
        subscription("no such name", "a", &["y"]),
        b"plain".to_vec(),
    ];
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let (status, ..) = send(&router, built(request("s", ""), delivery("s", &records))).await;
    assert_eq!((status, intake.n_rows()), (StatusCode::OK, 6));
    let states = intake.states("");
    let keys: Vec<&str> = states.iter().map(|(key, _)| key.as_str()).collect();
    let expected = ["loggroup//g", "loggroup//h", "logstream//g\0a", "logstream//g\0b", "logstream//h\0a"];
    assert_eq!(keys, expected, "a name that no call could make is left out");
    let stream: serde_json::Value = serde_json::from_slice(&states[2].1).expect("JSON");
    let event = NOW / 1_000_000 - 60_000;
    assert_eq!((&stream["first_event_millis"], &stream["last_event_millis"]), (&json!(event), &json!(event)));
    assert_eq!(
        (&stream["bytes"], &stream["last_ingestion_millis"]),
        (&json!(8 + 2 * 26), &json!(NOW / 1_000_000))
    );
    // after a restart they are there
    assert_eq!(log_groups(&intake).retention_of("/g", "b"), Ok(0));
}

#[tokio::test]
async fn a_delivery_whose_streams_cannot_be_made_now_comes_again() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    let record = subscription("/g", "a", &["one"]);
    intake.refuse(1);
    let (status, headers, _) = send(&router, built(request("s", ""), delivery("s", &[&record]))).await;
    assert_eq!((status, headers.contains_key("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert_eq!((intake.n_rows(), intake.outcomes().refused), (0, 1));
    let (status, ..) = send(&router, built(request("s", ""), delivery("s", &[&record]))).await;
    assert_eq!((status, intake.n_rows()), (StatusCode::OK, 1));
}

#[tokio::test]
async fn streams_beyond_the_bound_are_left_out_and_their_events_are_not() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    let records: Vec<Vec<u8>> = (0..40).map(|i| subscription("/g", &format!("s{i:02}"), &["m"])).collect();
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let (status, ..) = send(&router, built(request("s", ""), delivery("s", &records))).await;
    assert_eq!((status, intake.n_rows()), (StatusCode::OK, 40));
    assert_eq!(intake.states("logstream/").len(), 10);
}

#[tokio::test]
async fn what_the_lake_itself_sent_is_not_stored_again_and_is_counted() {
    let (intake, router) = at_home(Config::default(), "", &[]);
    let own = |stream: &str| crate::model::EventId::new(NOW, 7 << 20, "/g", stream).to_string();
    let sent = |node: &str, ids: &[String]| {
        let events: Vec<_> = ids.iter().map(|id| json!({"id": id, "timestamp": NOW / 1_000_000, "message": "m"})).collect();
        let envelope =
            json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/g", "logStream": "a", "subscriptionFilters": ["f"], "logEvents": events});
        let mark = firehose::mark(node);
        let mut encoder = flate2::GzBuilder::new().comment(mark).write(Vec::new(), flate2::Compression::new(6));
        std::io::Write::write_all(&mut encoder, envelope.to_string().as_bytes()).expect("memory");
        encoder.finish().expect("memory")
    };
    // its own; two that only say so; another lake's
    let records = [
        sent("node", &[own("a"), own("a")]),
        sent("node", &[own("b"), "3".repeat(56)]),
        sent("elsewhere", &[own("a")]),
    ];
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let (status, ..) = send(&router, built(request("loop", ""), delivery("loop", &records))).await;
    assert_eq!(status, StatusCode::OK);
    let outcomes = intake.outcomes();
    assert_eq!((intake.n_rows(), outcomes.accepted, outcomes.repeated), (3, 3, 2));
    // nothing but copies is a success too, and makes no stream
    let (intake, router) = at_home(Config::default(), "", &[]);
    let (status, ..) = send(&router, built(request("loop", ""), delivery("loop", &[&sent("node", &[own("a")])]))).await;
    assert_eq!((status, intake.n_rows(), intake.outcomes().repeated), (StatusCode::OK, 0, 1));
    assert_eq!(intake.states(""), []);
}
