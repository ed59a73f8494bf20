use axum::Router;
use axum::body::Bytes as Body;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

/// An endpoint that speaks AWS JSON 1.1: gives its answers in turn, and keeps what it was sent.
async fn service(answers: Vec<(u16, Value)>) -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let calls: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let (kept, answers) = (calls.clone(), Arc::new(Mutex::new(answers)));
    let answer = move |headers: HeaderMap, body: Body| {
        let target = headers["x-amz-target"].to_str().expect("text").to_string();
        kept.lock().push((target, serde_json::from_slice(&body).expect("JSON")));
        let (status, body) = answers.lock().remove(0);
        async move {
            let headers = [("content-type", "application/x-amz-json-1.1")];
            (StatusCode::from_u16(status).expect("a status"), headers, body.to_string())
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
    (format!("http://{address}"), calls)
}

fn record(data: &[u8]) -> Record {
    Record {
        data: data.to_vec().into(),
        partition_key: "key".into(),
        rows: 1,
        newest_nanos: 0,
    }
}

async fn sink(url: &str, arn: &str) -> Arc<dyn Sink> {
    AwsSinks::for_tests(url).await.open(&Destination::of_arn(arn).expect("a stream")).await
}

const FIREHOSE: &str = "arn:aws:firehose:us-west-2:1:deliverystream/out";
const KINESIS: &str = "arn:aws:kinesis:us-west-2:1:stream/out";

#[tokio::test]
async fn firehose_says_what_became_of_each_record() {
    let partial = json!({
        "FailedPutCount": 1,
        "RequestResponses": [{ "RecordId": "a" }, { "ErrorCode": "ServiceUnavailableException", "ErrorMessage": "slow down" }],
    });
    let (url, calls) = service(vec![(200, partial)]).await;
    let taken = sink(&url, FIREHOSE).await.put(&[record(b"a"), record(&[0xff])]).await.expect("a call");
    let refused = Fault {
        message: "ServiceUnavailableException: slow down".into(),
        remedy: Remedy::Retry,
    };
    assert_eq!(taken, [Ok(()), Err(refused)]);
    let (target, body) = calls.lock().remove(0);
    assert_eq!(target, "Firehose_20150804.PutRecordBatch");
    let data = |bytes: &[u8]| json!({ "Data": STANDARD.encode(bytes) });
    assert_eq!(body, json!({ "DeliveryStreamName": "out", "Records": [data(b"a"), data(&[0xff])] }));
}

#[tokio::test]
async fn kinesis_says_what_became_of_each_record() {
    let partial = json!({
        "FailedRecordCount": 1,
        "Records": [
            { "ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "too much" },
            { "SequenceNumber": "1", "ShardId": "shardId-000000000000" },
        ],
    });
    let (url, calls) = service(vec![(200, partial)]).await;
    let taken = sink(&url, KINESIS).await.put(&[record(b"a"), record(b"b")]).await.expect("a call");
    assert!(taken[0].is_err() && taken[1].is_ok(), "{taken:?}");
    let (target, body) = calls.lock().remove(0);
    assert_eq!(target, "Kinesis_20131202.PutRecords");
    assert_eq!((&body["StreamName"], &body["Records"][1]["PartitionKey"]), (&json!("out"), &json!("key")));
}

#[tokio::test]
async fn an_answer_of_other_records_than_were_sent_is_not_trusted() {
    let (url, _) = service(vec![(200, json!({ "FailedPutCount": 0, "RequestResponses": [{ "RecordId": "a" }] }))]).await;
    let taken = sink(&url, FIREHOSE).await.put(&[record(b"a"), record(b"b")]).await.expect("a call");
    assert!(taken.len() == 2 && taken.iter().all(Result::is_err), "{taken:?}");
}

#[tokio::test]
async fn what_helps_follows_the_error() {
    let cases = [
        (500, "InternalFailure", Remedy::Retry),
        (400, "ThrottlingException", Remedy::Retry),
        (400, "ProvisionedThroughputExceededException", Remedy::Retry),
        (503, "ServiceUnavailableException", Remedy::Retry),
        (400, "ResourceNotFoundException", Remedy::Mend),
        (400, "AccessDeniedException", Remedy::Mend),
        (400, "InvalidArgumentException", Remedy::Nothing),
    ];
    for arn in [FIREHOSE, KINESIS] {
        for (status, code, remedy) in cases {
            let (url, _) = service(vec![(status, json!({ "__type": code, "message": "said so" }))]).await;
            let fault = sink(&url, arn).await.put(&[record(b"a")]).await.expect_err("refused");
            assert_eq!((fault.remedy, fault.message), (remedy, format!("{code}: said so")), "{arn}");
        }
        let nobody = sink("http://127.0.0.1:1", arn).await.put(&[record(b"a")]).await;
        assert_eq!(nobody.expect_err("nobody listens").remedy, Remedy::Retry);
    }
}

#[test]
fn calls_keep_their_bounds_and_lose_no_record() {
    assert_eq!(calls(vec![]), Vec::<Vec<Record>>::new());
    let many = calls((0..1_001).map(|_| record(b"a")).collect());
    assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 1]);
    let large = calls((0..9).map(|_| record(&[0; MAX_RECORD_BYTES])).collect());
    assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3]);
    for call in large {
        assert!(call.iter().map(Record::bytes).sum::<usize>() <= MAX_CALL_BYTES);
    }
}

#[test]
fn arns_of_streams_are_destinations_and_others_are_told_why_not() {
    let destination = Destination::of_arn("arn:aws-cn:kinesis:cn-north-1:123456789012:stream/a_b.c-1").expect("a stream");
    assert_eq!((destination.service, destination.stream.as_str()), (Service::Kinesis, "a_b.c-1"));
    assert_eq!(
        (destination.region.as_str(), destination.to_string().as_str()),
        ("cn-north-1", "kinesis:a_b.c-1")
    );
    assert_eq!(Destination::of_arn(FIREHOSE).expect("a stream").service, Service::Firehose);
    for (arn, word) in [
        ("arn:aws:lambda:us-east-1:1:function:f", "Lambda"),
        ("arn:aws:logs:us-east-1:1:destination:d", "PutDestination"),
        ("arn:aws:es:us-east-1:1:domain/d", "OpenSearch"),
        ("arn:aws:kinesis:us-east-1:1:deliverystream/d", "not that of"),
        ("arn:aws:kinesis:us-east-1:1:stream/", "not that of"),
        ("arn:aws:kinesis:us-east-1:1:stream/a/b", "not that of"),
        ("arn:aws:kinesis::1:stream/a", "not that of"),
        ("arn:aws:s3:us-east-1:1:bucket", "not that of"),
        ("stream/a", "not that of"),
        ("", "not that of"),
    ] {
        let error = Destination::of_arn(arn).expect_err(arn).to_string();
        assert!(error.contains(word), "{arn}: {error}");
    }
}
