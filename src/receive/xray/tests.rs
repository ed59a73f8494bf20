use super::super::testing::{Answer, Memory, ample, gzip, open_gate, send};
use super::*;
use crate::model::ManualClock;

const NOW: i64 = 1_795_000_000_000_000_000;
const SEGMENT: &str =
    r#"{"name":"api","id":"70de5b6f19ff9a0a","trace_id":"1-6955b900-5759e988bd862e3fe1be46a9","start_time":1767225600.1,"end_time":1767225600.35}"#;

struct Server {
    router: Router,
    memory: Arc<Memory>,
}

impl Server {
    fn new(config: Config) -> Self {
        Self::within(config, ample())
    }
    fn within(config: Config, budget: Arc<Budget>) -> Self {
        let memory = Arc::new(Memory::default());
        let receiver = Receiver::new(config, ("us-east-1", "000000000000"), memory.clone(), Arc::new(ManualClock::new(NOW)), budget);
        Self {
            router: router(receiver, open_gate(), false),
            memory,
        }
    }
    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(body.into())
            .expect("a request");
        send(&self.router, request).await
    }
}

#[track_caller]
fn check(answer: &Answer, status: StatusCode, error: Option<&str>) {
    assert_eq!((answer.status, answer.error_type.as_deref()), (status, error), "{answer:?}");
    assert_eq!(answer.content_type, "application/json");
    assert_eq!(answer.json.get("Message").is_some(), error.is_some(), "X-Ray's member is Message");
}

#[tokio::test]
async fn good_documents_are_kept_and_bad_ones_are_told_one_by_one() {
    let server = Server::new(Config::default());
    let body = json!({"TraceSegmentDocuments": [SEGMENT, "{\"id\":\"70de5b6f19ff9a0b\",\"name\":\"x\"}", "no json"]});
    let answer = server.post("/TraceSegments", body.to_string()).await;
    check(&answer, StatusCode::OK, None);
    let unprocessed = answer.json["UnprocessedTraceSegments"].as_array().expect("a list");
    assert_eq!(unprocessed.len(), 2);
    assert_eq!(
        unprocessed[0],
        json!({"Id": "70de5b6f19ff9a0b", "ErrorCode": "InvalidTraceId", "Message": "trace_id: missing"})
    );
    assert_eq!(unprocessed[1]["ErrorCode"], "ParseError");
    let outcomes = server.memory.outcomes();
    assert_eq!((outcomes.accepted, outcomes.rejected, server.memory.n_rows()), (1, 2, 1));

    let raw = gzip(json!({"TraceSegmentDocuments": [SEGMENT]}).to_string().as_bytes());
    let request = Request::post("/TraceSegments")
        .header("content-encoding", "gzip")
        .body(Body::from(raw))
        .expect("a request");
    assert_eq!(send(&server.router, request).await.json, json!({"UnprocessedTraceSegments": []}));
    assert_eq!(server.memory.n_rows(), 2);
}

#[tokio::test]
async fn invalid_requests_and_overload_have_their_names() {
    let server = Server::new(Config {
        max_body_bytes: 500,
        ..Config::default()
    });
    for (path, body) in [
        ("/TraceSegments", ""),
        ("/TraceSegments", "{}"),
        ("/TraceSegments", "[]"),
        ("/TraceSegments", "{\"TraceSegmentDocuments\":[1]}"),
        ("/TelemetryRecords", "{}"),
        ("/TelemetryRecords", "{\"TelemetryRecords\":[{}]}"),
        ("/SamplingTargets", "{}"),
        ("/SamplingTargets", "{\"SamplingStatisticsDocuments\":[{}]}"),
        ("/SamplingTargets", "?"),
    ] {
        check(&server.post(path, body).await, StatusCode::BAD_REQUEST, Some("InvalidRequestException"));
    }
    check(
        &server.post("/TraceSegments", " ".repeat(501)).await,
        StatusCode::PAYLOAD_TOO_LARGE,
        Some("InvalidRequestException"),
    );
    server.memory.refuse(1);
    let body = json!({"TraceSegmentDocuments": [SEGMENT]}).to_string();
    check(
        &server.post("/TraceSegments", body).await,
        StatusCode::TOO_MANY_REQUESTS,
        Some("ThrottledException"),
    );
    let outcomes = server.memory.outcomes();
    assert_eq!((outcomes.refused, outcomes.rejected, outcomes.accepted), (1, 5, 0));
}

#[tokio::test]
async fn sampling_answers_what_sdks_need() {
    let api = SamplingRule {
        name: "api".into(),
        priority: 10,
        reservoir_size: 5,
        ..SamplingRule::default()
    };
    let server = Server::new(Config {
        sampling_rules: vec![api],
        ..Config::default()
    });
    let answer = server.post("/GetSamplingRules", "{}").await;
    check(&answer, StatusCode::OK, None);
    let rule = &answer.json["SamplingRuleRecords"][0]["SamplingRule"];
    assert_eq!(
        (&rule["RuleName"], &rule["Version"], &rule["ResourceARN"], &rule["ServiceType"]),
        (&json!("api"), &json!(1), &json!("*"), &json!("*"))
    );
    assert_eq!(rule["RuleARN"], "arn:aws:xray:us-east-1:000000000000:sampling-rule/api");
    assert!(answer.json.get("NextToken").is_none());
    let statistics = json!({"RuleName": "api", "ClientID": "0".repeat(24), "Timestamp": 1767225600, "RequestCount": 1, "SampledCount": 1, "BorrowCount": 0});
    let answer = server
        .post("/SamplingTargets", json!({"SamplingStatisticsDocuments": [statistics]}).to_string())
        .await;
    check(&answer, StatusCode::OK, None);
    assert_eq!(
        answer.json,
        json!({
            "SamplingTargetDocuments": [{"RuleName": "api", "FixedRate": 0.05, "ReservoirQuota": 5, "ReservoirQuotaTTL": NOW / 1_000_000_000 + 10, "Interval": 10}],
            "LastRuleModification": 1_795_000_000.0,
            "UnprocessedStatistics": [],
            "UnprocessedBoostStatistics": [],
        })
    );
    let many = json!({"SamplingStatisticsDocuments": vec![statistics; 26]});
    check(
        &server.post("/SamplingTargets", many.to_string()).await,
        StatusCode::BAD_REQUEST,
        Some("InvalidRequestException"),
    );
}

#[tokio::test]
async fn telemetry_of_daemons_is_taken() {
    let server = Server::new(Config::default());
    let body = json!({"TelemetryRecords": [{"Timestamp": 1767225600, "SegmentsReceivedCount": 3, "SegmentsSpilloverCount": 1, "BackendConnectionErrors": {"OtherCount": 1}}], "Hostname": "h"});
    let answer = server.post("/TelemetryRecords", body.to_string()).await;
    check(&answer, StatusCode::OK, None);
    assert_eq!(answer.json, json!({}));
}

#[test]
fn settings_are_checked_together() {
    assert_eq!(Config::default().problems(), Vec::<String>::new());
    let bad = Config {
        max_body_bytes: 1,
        udp_queue_bytes: 1,
        sampling_rules: vec![SamplingRule {
            priority: 1,
            ..SamplingRule::default()
        }],
        ..Config::default()
    };
    assert_eq!(bad.problems().len(), 3);
}

#[tokio::test]
async fn lists_longer_than_any_client_sends_are_refused() {
    let server = Server::new(Config::default());
    let list = |item: &str, n: usize| vec![item; n].join(",");
    let documents = format!("{{\"TraceSegmentDocuments\":[{}]}}", list("\"\"", 1_000_000));
    let answer = server.post("/TraceSegments", documents).await;
    check(&answer, StatusCode::PAYLOAD_TOO_LARGE, Some("InvalidRequestException"));
    assert!(answer.json["Message"].as_str().is_some_and(|said| said.contains("10000")), "{answer:?}");
    assert_eq!(server.memory.outcomes().reasons, std::collections::BTreeMap::from([("too_large".into(), 1)]));
    for (path, body) in [
        (
            "/TelemetryRecords",
            format!("{{\"TelemetryRecords\":[{}]}}", list("{\"Timestamp\":1}", 100_000)),
        ),
        ("/SamplingTargets", format!("{{\"SamplingStatisticsDocuments\":[{}]}}", list("{}", 1_000_000))),
    ] {
        let answer = server.post(path, body).await;
        check(&answer, StatusCode::BAD_REQUEST, Some("InvalidRequestException"));
        assert!(answer.json["Message"].as_str().is_some_and(|said| said.contains("at most")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_spent_budget_throttles() {
    let budget = Budget::new(1 << 20);
    let server = Server::within(Config::default(), budget.clone());
    let mut other = budget.share();
    other.hold(1 << 20).expect("free");
    let body = json!({"TraceSegmentDocuments": [SEGMENT]}).to_string();
    for path in ["/TraceSegments", "/SamplingTargets"] {
        let answer = server.post(path, body.clone()).await;
        check(&answer, StatusCode::TOO_MANY_REQUESTS, Some("ThrottledException"));
    }
    assert_eq!(server.memory.outcomes().refused, 1, "a request for sampling targets brings no records");
    drop(other);
    check(&server.post("/TraceSegments", body).await, StatusCode::OK, None);
    assert_eq!(budget.held_bytes(), 0);
}
