use serde_json::{Value, json};

use super::super::testing::{Answer, Memory, ample, gate, gzip, send};
use super::super::{awslogs, xray};
use super::*;
use crate::access::sigv4::testing::Signer;
use crate::model::ManualClock;

/// 2026-11-22T13:00:00Z
const NOW_NANOS: i64 = 1_795_352_400_000_000_000;
const DATE: &str = "20261122T130000Z";
const KEYS: &str = "
[[keys]]
access_key_id = 'AKIDALL'
secret_access_key = 'secret of all'
rights = ['write', 'read', 'admin']
[[keys]]
access_key_id = 'AKIDREAD'
secret_access_key = 'secret of read'
rights = ['read']
[[keys]]
access_key_id = 'AKIDSHOP'
secret_access_key = 'secret of shop'
name = 'shop'
rights = ['write', 'read', 'admin']
log_groups = ['/shop/*']
";
const ALL: (&str, &str) = ("AKIDALL", "secret of all");
const READ: (&str, &str) = ("AKIDREAD", "secret of read");
const SHOP: (&str, &str) = ("AKIDSHOP", "secret of shop");

struct Faces {
    http: Router,
    daemon: Router,
    memory: Arc<Memory>,
    budget: Arc<Budget>,
}

impl Faces {
    fn new(aws: &str, tokens: &[&str]) -> Self {
        Self::within(aws, tokens, ample())
    }

    fn within(aws: &str, tokens: &[&str], budget: Arc<Budget>) -> Self {
        let memory = Arc::new(Memory::default());
        let clock = Arc::new(ManualClock::new(NOW_NANOS));
        let gate = gate(aws, tokens, memory.clone(), NOW_NANOS, budget.clone());
        let config = awslogs::Config {
            max_body_bytes: 2 << 20,
            ..awslogs::Config::default()
        };
        let logs = awslogs::Receiver::new(config, memory.clone(), clock.clone(), budget.clone());
        let arns = ("us-east-1", "000000000000");
        let xray = xray::Receiver::new(xray::Config::default(), arns, memory.clone(), clock, budget.clone());
        Self {
            http: awslogs::router(logs, gate.clone()).merge(xray::router(xray.clone(), gate.clone(), false)),
            daemon: xray::router(xray, gate, true),
            memory,
            budget,
        }
    }

    async fn logs(&self, key: Option<(&str, &str)>, operation: &str, members: Value) -> Answer {
        let request = logs(operation, members.to_string().as_bytes());
        send(&self.http, signed(request, key, "logs")).await
    }

    #[track_caller]
    fn is_refused(answer: &Answer, status: StatusCode, name: &str, part: &str) {
        assert_eq!((answer.status, answer.error_type.as_deref()), (status, Some(name)), "{answer:?}");
        let message = answer.json.get("message").or(answer.json.get("Message")).and_then(Value::as_str);
        assert!(message.is_some_and(|message| message.contains(part)), "{part:?} in {message:?}");
    }
}

fn logs(operation: &str, body: &[u8]) -> Request<Bytes> {
    Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("Logs_20140328.{operation}"))
        .body(Bytes::copy_from_slice(body))
        .expect("a request")
}

fn segments(path: &str) -> Request<Bytes> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(Bytes::from_static(b"{\"TraceSegmentDocuments\": [], \"SamplingStatisticsDocuments\": []}"))
        .expect("a request")
}

fn signed(request: Request<Bytes>, key: Option<(&str, &str)>, service: &str) -> Request<Body> {
    let (mut head, body) = request.into_parts();
    head.headers.insert("host", "127.0.0.1:7070".parse().expect("a header"));
    if let Some((key_id, secret)) = key {
        head.headers.insert("x-amz-date", DATE.parse().expect("a header"));
        let mut names: Vec<&str> = head.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        let signer = Signer {
            key_id,
            secret,
            scope: &format!("20261122/eu-west-1/{service}/aws4_request"),
            signed_headers: &names.join(";"),
        };
        signer.sign(&mut head, &body);
    }
    Request::from_parts(head, Body::from(body))
}

fn events(group: &str) -> Value {
    json!({"logGroupName": group, "logStreamName": "s", "logEvents": [{"timestamp": NOW_NANOS / 1_000_000, "message": "hello"}]})
}

async fn with_groups(faces: &Faces) {
    for group in ["/shop/api", "/bank"] {
        let made = faces.logs(Some(ALL), "CreateLogGroup", json!({"logGroupName": group})).await;
        assert_eq!(made.status, StatusCode::OK, "{made:?}");
        let made = faces
            .logs(Some(ALL), "CreateLogStream", json!({"logGroupName": group, "logStreamName": "s"}))
            .await;
        assert_eq!(made.status, StatusCode::OK, "{made:?}");
    }
}

#[tokio::test]
async fn each_refusal_is_in_the_words_of_its_face() {
    let faces = Faces::new(KEYS, &[]);
    let (bad, forbidden) = (StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN);
    for (key, name, part) in [
        (None, "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (Some(("AKIDNONE", "secret of all")), "UnrecognizedClientException", "security token"),
        (Some(("AKIDALL", "another secret")), "InvalidSignatureException", "The Canonical String"),
    ] {
        let answer = faces.logs(key, "PutLogEvents", events("/shop/api")).await;
        Faces::is_refused(&answer, bad, name, part);
        assert_eq!(answer.content_type, "application/x-amz-json-1.1");
        for router in [&faces.http, &faces.daemon] {
            let answer = send(router, signed(segments("/TraceSegments"), key, "xray")).await;
            Faces::is_refused(&answer, forbidden, name, part);
            assert_eq!(answer.content_type, "application/json");
        }
    }
    let answer = send(&faces.http, signed(segments("/TraceSegments"), Some(ALL), "logs")).await;
    Faces::is_refused(&answer, forbidden, "InvalidSignatureException", "correct service: 'xray'");
    let answer = send(&faces.http, signed(segments("/TraceSegments"), Some(READ), "xray")).await;
    Faces::is_refused(&answer, forbidden, "AccessDeniedException", "xray:PutTraceSegments");
    let answer = send(&faces.http, signed(segments("/TraceSegments"), Some(ALL), "xray")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!((faces.memory.n_rows(), faces.budget.held_bytes()), (0, 0));
}

#[tokio::test]
async fn rights_are_asked_before_anything_is_done() {
    let faces = Faces::new(KEYS, &[]);
    with_groups(&faces).await;
    let answer = faces.logs(Some(READ), "PutLogEvents", events("/shop/api")).await;
    let said = "User: arn:aws:iam::000000000000:user/AKIDREAD is not authorized to perform: logs:PutLogEvents on resource: * because its access key lacks the right write";
    Faces::is_refused(&answer, StatusCode::BAD_REQUEST, "AccessDeniedException", said);
    let answer = faces.logs(Some(READ), "TagResource", json!({})).await;
    Faces::is_refused(&answer, StatusCode::BAD_REQUEST, "AccessDeniedException", "lacks the right admin");
    assert_eq!(faces.memory.n_rows(), 0);
    assert_eq!(faces.logs(Some(READ), "DescribeLogGroups", json!({})).await.status, StatusCode::OK);
    assert_eq!(faces.logs(Some(ALL), "PutLogEvents", events("/shop/api")).await.status, StatusCode::OK);
    assert_eq!(faces.memory.n_rows(), 1);
    // what is not known needs the most, and is then told to be unknown
    let answer = faces.logs(Some(READ), "BrandNewOperation", json!({})).await;
    Faces::is_refused(&answer, StatusCode::BAD_REQUEST, "AccessDeniedException", "lacks the right admin");
    let answer = faces.logs(Some(ALL), "BrandNewOperation", json!({})).await;
    assert_eq!(answer.error_type.as_deref(), Some("UnknownOperationException"));
}

#[tokio::test]
async fn a_key_for_some_log_groups_reaches_no_other() {
    let faces = Faces::new(KEYS, &[]);
    with_groups(&faces).await;
    assert_eq!(faces.logs(Some(SHOP), "PutLogEvents", events("/shop/api")).await.status, StatusCode::OK);
    let answer = faces.logs(Some(SHOP), "PutLogEvents", events("/bank")).await;
    let said = "User: arn:aws:iam::000000000000:user/shop is not authorized to perform: logs:PutLogEvents on resource: \
                arn:aws:logs:us-east-1:000000000000:log-group:/bank because its access key is not for this log group";
    Faces::is_refused(&answer, StatusCode::BAD_REQUEST, "AccessDeniedException", said);
    let outcomes = faces.memory.outcomes();
    assert_eq!((outcomes.accepted, outcomes.reasons["unauthorized"]), (1, 1));

    let arn = |group: &str| format!("arn:aws:logs:us-east-1:000000000000:log-group:{group}");
    for (operation, members) in [
        ("CreateLogGroup", json!({"logGroupName": "/shop"})),
        ("CreateLogStream", json!({"logGroupName": "/bank", "logStreamName": "t"})),
        ("DescribeLogStreams", json!({"logGroupIdentifier": arn("/bank")})),
        ("DescribeLogStreams", json!({"logGroupName": "/shop/api", "logGroupIdentifier": "/bank"})),
        ("DescribeLogGroups", json!({"logGroupIdentifiers": [arn("/shop/api"), arn("/bank")]})),
        ("PutRetentionPolicy", json!({"logGroupName": "/bank", "retentionInDays": 1})),
        ("TagResource", json!({"resourceArn": arn("/bank"), "tags": {"a": "b"}})),
        ("TagResource", json!({"resourceArn": arn("/bank:*"), "tags": {"a": "b"}})),
        (
            "TagResource",
            json!({"resourceArn": "arn:aws:logs:us-east-1:000000000000:destination:/shop/x", "tags": {}}),
        ),
        ("ListTagsLogGroup", json!({})),
    ] {
        let answer = faces.logs(Some(SHOP), operation, members.clone()).await;
        assert_eq!(answer.error_type.as_deref(), Some("AccessDeniedException"), "{operation} {members}: {answer:?}");
    }
    for body in [&b"[\"/shop/api\"]"[..], b"{\"logGroupName\": \"/shop/api\", \"logGroupName\": \"/bank\"}", b"{"] {
        let answer = send(&faces.http, signed(logs("DescribeLogStreams", body), Some(SHOP), "logs")).await;
        assert_eq!(answer.error_type.as_deref(), Some("SerializationException"), "{answer:?}");
    }
    let tagged = faces
        .logs(Some(SHOP), "TagResource", json!({"resourceArn": arn("/shop/api"), "tags": {"a": "b"}}))
        .await;
    assert_eq!(tagged.status, StatusCode::OK, "{tagged:?}");
    let listed = faces.logs(Some(SHOP), "DescribeLogGroups", json!({})).await;
    assert_eq!(listed.json["logGroups"].as_array().map(Vec::len), Some(1), "{listed:?}");
    assert_eq!(listed.json["logGroups"][0]["logGroupName"], "/shop/api");
    let all = faces.logs(Some(ALL), "DescribeLogGroups", json!({})).await;
    assert_eq!(all.json["logGroups"].as_array().map(Vec::len), Some(2), "{all:?}");
    let answer = send(&faces.http, signed(segments("/TraceSegments"), Some(SHOP), "xray")).await;
    Faces::is_refused(&answer, StatusCode::FORBIDDEN, "AccessDeniedException", "not for the service xray");
}

#[tokio::test]
async fn the_bytes_that_came_are_signed_not_what_they_inflate_to() {
    let faces = Faces::new(KEYS, &[]);
    with_groups(&faces).await;
    let mut request = logs("PutLogEvents", &gzip(events("/shop/api").to_string().as_bytes()));
    request.headers_mut().insert("content-encoding", "gzip".parse().expect("a header"));
    let answer = send(&faces.http, signed(request.clone(), Some(ALL), "logs")).await;
    assert_eq!((answer.status, faces.memory.n_rows()), (StatusCode::OK, 1), "{answer:?}");
    let mut changed = signed(request, Some(ALL), "logs");
    *changed.body_mut() = Body::from(gzip(events("/bank").to_string().as_bytes()));
    let answer = send(&faces.http, changed).await;
    Faces::is_refused(&answer, StatusCode::BAD_REQUEST, "InvalidSignatureException", "does not match");
}

#[tokio::test]
async fn a_large_body_is_held_once_and_one_above_the_cap_not_at_all() {
    // as much as the same call takes that is not signed
    let body = format!("{{\"logGroupName\": \"/shop/api\", \"x\": \"{}\"}}", "x".repeat(500_000));
    let faces = Faces::within(KEYS, &[], Budget::new(body.len() * 19 / 2));
    let answer = send(&faces.http, signed(logs("CreateLogGroup", body.as_bytes()), Some(ALL), "logs")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let answer = send(&faces.http, signed(logs("PutLogEvents", &vec![b' '; (2 << 20) + 1]), Some(ALL), "logs")).await;
    Faces::is_refused(&answer, StatusCode::PAYLOAD_TOO_LARGE, "InvalidParameterException", "larger than");
    assert_eq!(faces.memory.outcomes().reasons["too_large"], 1);
    let tight = Faces::within(KEYS, &[], Budget::new(100_000));
    let answer = send(&tight.http, signed(logs("PutLogEvents", &vec![b' '; 50_000]), Some(ALL), "logs")).await;
    assert_ne!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    let mut held = tight.budget.share();
    held.hold(90_000).expect("free");
    let answer = send(&tight.http, signed(logs("PutLogEvents", &vec![b' '; 50_000]), Some(ALL), "logs")).await;
    Faces::is_refused(&answer, StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", "memory");
    drop(held);
    assert_eq!((tight.budget.held_bytes(), faces.budget.held_bytes()), (0, 0));
}

#[tokio::test]
async fn a_token_stands_for_a_signature_where_tokens_are_configured() {
    let with_token = |token: &str| {
        let mut request = logs("DescribeLogGroups", b"{}");
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        request.map(Body::from)
    };
    let both = Faces::new(KEYS, &["longenough"]);
    assert_eq!(send(&both.http, with_token("longenough")).await.status, StatusCode::OK);
    Faces::is_refused(
        &send(&both.http, with_token("wrong")).await,
        StatusCode::BAD_REQUEST,
        "UnrecognizedClientException",
        "security token",
    );
    assert_eq!(both.logs(Some(READ), "DescribeLogGroups", json!({})).await.status, StatusCode::OK);
    let tokens = Faces::new("", &["longenough"]);
    assert_eq!(send(&tokens.http, with_token("longenough")).await.status, StatusCode::OK);
    for key in [None, Some(ALL)] {
        let answer = tokens.logs(key, "DescribeLogGroups", json!({})).await;
        Faces::is_refused(&answer, StatusCode::BAD_REQUEST, "UnrecognizedClientException", "aws.keys");
    }
    let keys = Faces::new(KEYS, &[]);
    Faces::is_refused(
        &send(&keys.http, with_token("")).await,
        StatusCode::BAD_REQUEST,
        "UnrecognizedClientException",
        "security token",
    );
    // nothing configured: signatures are not looked at
    let open = Faces::new("", &[]);
    for key in [None, Some(("any", "any secret"))] {
        assert_eq!(open.logs(key, "DescribeLogGroups", json!({})).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn sampling_is_answered_unsigned_on_the_daemons_port_alone() {
    let faces = Faces::new(KEYS, &[]);
    for path in ["/GetSamplingRules", "/SamplingTargets"] {
        assert_eq!(send(&faces.daemon, signed(segments(path), None, "xray")).await.status, StatusCode::OK, "{path}");
        let answer = send(&faces.http, signed(segments(path), None, "xray")).await;
        Faces::is_refused(&answer, StatusCode::FORBIDDEN, "MissingAuthenticationTokenException", "Missing");
        // one that is signed must be signed well
        assert_eq!(send(&faces.daemon, signed(segments(path), Some(READ), "xray")).await.status, StatusCode::OK);
        let answer = send(&faces.daemon, signed(segments(path), Some(("AKIDALL", "another secret")), "xray")).await;
        Faces::is_refused(&answer, StatusCode::FORBIDDEN, "InvalidSignatureException", "does not match");
    }
    for path in ["/TraceSegments", "/TelemetryRecords"] {
        let answer = send(&faces.daemon, signed(segments(path), None, "xray")).await;
        Faces::is_refused(&answer, StatusCode::FORBIDDEN, "MissingAuthenticationTokenException", "Missing");
    }
}

#[tokio::test]
async fn no_other_target_opens_a_path() {
    let faces = Faces::new(KEYS, &[]);
    let mut request = segments("/TraceSegments");
    request
        .headers_mut()
        .insert("x-amz-target", "Logs_20140328.FilterLogEvents".parse().expect("a header"));
    for service in ["logs", "xray"] {
        let answer = send(&faces.http, signed(request.clone(), Some(READ), service)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{service}: {answer:?}");
    }
}
