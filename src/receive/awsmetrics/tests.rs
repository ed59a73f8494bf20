use http_body_util::BodyExt;

use super::super::awslogs;
use super::super::testing::{self, Memory, gzip};
use super::*;
use crate::model::ManualClock;

const NOW: i64 = 1_795_352_400_000_000_000;
const JSON_CALL: &str = r#"{"Namespace":"N","MetricData":[{"MetricName":"m","Value":1},{"MetricName":"n","Values":[1,2]}]}"#;
const QUERY_CALL: &str = "Action=PutMetricData&Version=2010-08-01&Namespace=N&MetricData.member.1.MetricName=m&MetricData.member.1.Value=1";

fn faces(aws: &str) -> (Arc<Memory>, Router) {
    let memory = Arc::new(Memory::default());
    let clock = Arc::new(ManualClock::new(NOW));
    let gate = testing::gate(aws, &[], memory.clone(), NOW, testing::ample());
    let logs = awslogs::Receiver::new(awslogs::Config::default(), memory.clone(), clock.clone(), testing::ample());
    let receiver = Receiver::new(memory.clone(), clock, testing::ample());
    (memory, router(receiver, awslogs::router(logs, gate.clone()), gate))
}

fn json_request(operation: &str) -> http::request::Builder {
    Request::post("/")
        .header("x-amz-target", format!("{TARGET_PREFIX}{operation}"))
        .header("content-type", "application/x-amz-json-1.0")
}

fn query_request() -> http::request::Builder {
    Request::post("/").header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
}

fn cbor_request(operation: &str) -> http::request::Builder {
    Request::post(CBOR_PATH.replace("{operation}", operation))
        .header("smithy-protocol", "rpc-v2-cbor")
        .header("content-type", "application/cbor")
}

fn cbor_call() -> Vec<u8> {
    let mut cbor = minicbor::Encoder::new(Vec::new());
    let written = (|| -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        cbor.map(2)?.str("Namespace")?.str("N")?.str("MetricData")?.array(1)?;
        cbor.map(2)?.str("MetricName")?.str("m")?.str("Value")?.f64(1.0)?;
        Ok(())
    })();
    written.expect("memory");
    cbor.into_writer()
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

async fn send(router: &Router, request: http::request::Builder, body: impl Into<Body>) -> Answered {
    let response = router
        .clone()
        .oneshot(request.body(body.into()).expect("a request"))
        .await
        .expect("routers do not fail");
    let (parts, body) = response.into_parts();
    assert!(parts.headers.contains_key("x-amzn-requestid"));
    Answered {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.expect("in memory").to_bytes(),
    }
}

fn text(answered: &Answered) -> String {
    String::from_utf8(answered.body.to_vec()).expect("text")
}

#[tokio::test]
async fn a_call_is_taken_in_each_form_and_answered_in_it() {
    let (memory, router) = faces("");
    let json = send(&router, json_request("PutMetricData"), JSON_CALL).await;
    assert_eq!((json.status, text(&json)), (200, "{}".into()));
    assert_eq!(json.headers["content-type"], "application/x-amz-json-1.0");
    let query = send(&router, query_request(), QUERY_CALL).await;
    assert_eq!((query.status, &query.headers["content-type"]), (200, &HeaderValue::from_static("text/xml")));
    let id = query.headers["x-amzn-requestid"].to_str().expect("text").to_string();
    assert!(text(&query).starts_with("<PutMetricDataResponse xmlns=") && text(&query).contains(&format!("<RequestId>{id}</RequestId>")));
    let cbor = send(&router, cbor_request("PutMetricData"), cbor_call()).await;
    assert_eq!(
        (cbor.status, &cbor.body[..], &cbor.headers["smithy-protocol"]),
        (200, &[0xa0][..], &HeaderValue::from_static("rpc-v2-cbor"))
    );
    let zipped = send(
        &router,
        json_request("PutMetricData").header("content-encoding", "gzip"),
        gzip(JSON_CALL.as_bytes()),
    )
    .await;
    assert_eq!(zipped.status, 200);
    let kinds: Vec<Kind> = memory.accepted.lock().iter().map(|(received, _)| received.kind).collect();
    let json = Kind::PutMetricDataJson;
    assert_eq!(kinds, [json, Kind::PutMetricDataQuery, Kind::PutMetricDataCbor, json]);
}

#[tokio::test]
async fn what_is_not_for_metrics_goes_to_cloudwatch_logs() {
    let (_, router) = faces("");
    let request = Request::post("/").header("x-amz-target", "Logs_20140328.DescribeLogGroups");
    let logs = send(&router, request, "{}").await;
    assert_eq!(
        (logs.status, &logs.headers["content-type"]),
        (200, &HeaderValue::from_static("application/x-amz-json-1.1"))
    );
    let none = send(&router, Request::post("/"), "").await;
    assert!(none.status == 400 && text(&none).contains("UnknownOperationException"));
}

#[tokio::test]
async fn an_error_is_named_as_each_form_names_it() {
    let (memory, router) = faces("");
    let json = send(&router, json_request("PutMetricData"), r#"{"MetricData":[]}"#).await;
    assert_eq!(
        (json.status, &json.headers["x-amzn-query-error"]),
        (400, &HeaderValue::from_static("MissingParameter;Sender"))
    );
    let body: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
    assert_eq!(
        body,
        serde_json::json!({"__type": "MissingRequiredParameterException", "message": "The parameter Namespace is required."})
    );
    let query = send(&router, query_request(), QUERY_CALL.replace("Value=1", "Value=<&>")).await;
    assert_eq!(query.status, 400);
    let xml = text(&query);
    assert!(
        xml.contains("<Type>Sender</Type><Code>InvalidParameterValue</Code><Message>The value &lt;"),
        "{xml}"
    );
    let cbor = send(&router, cbor_request("PutMetricData"), &b"\xa0"[..]).await;
    assert_eq!(
        (cbor.status, &cbor.headers["x-amzn-query-error"]),
        (400, &HeaderValue::from_static("MissingParameter;Sender"))
    );
    let mut decoder = minicbor::Decoder::new(&cbor.body);
    assert_eq!(decoder.map().expect("a map"), Some(2));
    assert_eq!(
        (decoder.str().expect("a key"), decoder.str().expect("a value")),
        ("__type", "MissingRequiredParameterException")
    );
    assert_eq!((memory.outcomes().rejected, memory.outcomes().accepted), (3, 0));

    let other = send(&router, json_request("ListMetrics"), "{}").await;
    assert!(other.status == 400 && text(&other).contains("UnknownOperationException"));
    let other = send(&router, query_request(), "Action=ListMetrics").await;
    assert!(text(&other).contains("<Code>InvalidAction</Code>"));
    assert_eq!(send(&router, cbor_request("ListMetrics"), "").await.status, 400);
    assert_eq!(memory.outcomes().rejected, 3, "nobody's records");
}

#[tokio::test]
async fn overload_and_size_are_told_so_that_sdks_do_right() {
    let (memory, router) = faces("");
    memory.refuse(1);
    let busy = send(&router, query_request(), QUERY_CALL).await;
    assert_eq!((busy.status, &busy.headers["retry-after"]), (503, &HeaderValue::from_static("1")));
    assert!(text(&busy).contains("<Type>Receiver</Type><Code>ServiceUnavailable</Code>"));
    let large = send(&router, json_request("PutMetricData"), " ".repeat(MAX_BODY_BYTES + 1)).await;
    assert!(large.status == 413 && text(&large).contains("RequestEntityTooLarge"));
    let bomb = gzip(&vec![b' '; MAX_INFLATED_BYTES + 1]);
    let bomb = send(&router, json_request("PutMetricData").header("content-encoding", "gzip"), bomb).await;
    assert_eq!(bomb.status, 413);
}

#[tokio::test]
async fn where_keys_are_configured_strangers_are_refused_in_each_form() {
    let keys = "[[keys]]\naccess_key_id = 'AKID'\nsecret_access_key = 'longenough'\nrights = ['write']\n";
    let (memory, router) = faces(keys);
    for (request, body, code) in [
        (
            json_request("PutMetricData"),
            JSON_CALL.as_bytes().to_vec(),
            "MissingAuthenticationTokenException",
        ),
        (query_request(), QUERY_CALL.into(), "<Code>MissingAuthenticationToken</Code>"),
        (cbor_request("PutMetricData"), cbor_call(), "MissingAuthenticationTokenException"),
    ] {
        let refused = send(&router, request, body).await;
        assert!(
            refused.status == 403 && String::from_utf8_lossy(&refused.body).contains(code),
            "{:?}",
            refused.body
        );
    }
    assert_eq!(memory.n_rows(), 0);
}
