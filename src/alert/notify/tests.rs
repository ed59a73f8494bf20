use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use parking_lot::Mutex;

use super::super::evaluate::Tell;
use super::super::outbox;
use super::super::state::Status;
use super::*;

/// An endpoint that speaks SNS's query protocol: answers in turn, then yes; keeps the forms it was sent.
async fn sns_that_answers(answers: Vec<(u16, &'static str)>) -> (String, Arc<Mutex<Vec<HashMap<String, String>>>>) {
    let forms: Arc<Mutex<Vec<HashMap<String, String>>>> = Arc::default();
    let answers = Arc::new(Mutex::new(answers));
    let kept = forms.clone();
    let publish = move |body: Bytes| {
        let (kept, answers) = (kept.clone(), answers.clone());
        async move {
            kept.lock().push(url::form_urlencoded::parse(&body).into_owned().collect());
            let mut answers = answers.lock();
            let (status, code) = if answers.is_empty() { (200, "") } else { answers.remove(0) };
            let text = match status {
                200 => "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult><MessageId>m-1</MessageId>\
                        </PublishResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></PublishResponse>"
                    .to_string(),
                _ => format!(
                    "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type><Code>{code}</Code>\
                     <Message>said {code}</Message></Error><RequestId>r-1</RequestId></ErrorResponse>"
                ),
            };
            (StatusCode::from_u16(status).expect("a status"), text)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(publish))).await });
    (format!("http://{address}"), forms)
}

/// A channel with fixed keys, without the environment of whoever runs the tests.
async fn channel(url: &str) -> SnsChannel {
    SnsChannel {
        connection: Connection::for_tests(url).await,
        ..SnsChannel::new(SnsConfig::default())
    }
}

fn notification(topic: &str) -> Notification {
    Notification {
        id: "payment-0123456789abcdef-5d21dba00".into(),
        tell: Tell::Firing,
        created_at_nanos: 0,
        channel: "sns".into(),
        target: topic.into(),
        subject: "[FIRING] payment".into(),
        message: "größer als 10\nzweite Zeile".into(),
        attributes: vec![
            ("rule".into(), "payment".into()),
            ("empty".into(), String::new()),
            (ID_ATTRIBUTE.into(), "payment-0123456789abcdef-5d21dba00".into()),
        ],
        status: Status::Pending,
        attempts: 0,
        next_attempt_nanos: 0,
        error: None,
        delivered_at_nanos: None,
        message_id: None,
    }
}

#[tokio::test]
async fn a_message_arrives_after_throttling_and_a_fault() {
    let (url, forms) = sns_that_answers(vec![(429, "Throttling"), (500, "InternalError")]).await;
    let channel = channel(&url).await;
    let mut notification = notification("arn:aws:sns:eu-west-1:123456789012:oncall");
    for attempt in 1..=3 {
        let sent = channel.send(&notification).await;
        outbox::settle(&mut notification, sent, attempt, 0.0);
        match attempt {
            1 => assert_eq!(notification.error.as_deref(), Some("Throttling: said Throttling")),
            2 => assert_eq!(notification.error.as_deref(), Some("InternalError: said InternalError")),
            _ => {}
        }
    }
    assert_eq!((notification.status, notification.attempts), (Status::Delivered, 3));
    assert_eq!((notification.message_id.as_deref(), notification.error.as_deref()), (Some("m-1"), None));
    let forms = forms.lock();
    assert_eq!(forms.len(), 3, "the SDK does not try again by itself");
    let form = &forms[2];
    let field = |name: &str| form.get(name).map(String::as_str);
    assert_eq!(field("Action"), Some("Publish"));
    assert_eq!(field("TopicArn"), Some("arn:aws:sns:eu-west-1:123456789012:oncall"));
    assert_eq!(field("Subject"), Some("[FIRING] payment"));
    assert_eq!(field("Message"), Some("größer als 10\nzweite Zeile"));
    let names: Vec<&str> = form.iter().filter(|(key, _)| key.ends_with(".Name")).map(|(_, name)| name.as_str()).collect();
    assert!(names.contains(&"rule") && names.contains(&ID_ATTRIBUTE) && names.len() == 2, "{names:?}");
    assert_eq!((field("MessageGroupId"), field("MessageDeduplicationId")), (None, None));
}

#[tokio::test]
async fn a_fifo_topic_gets_a_group_and_the_notifications_id() {
    let (url, forms) = sns_that_answers(vec![]).await;
    let sent = channel(&url).await.send(&notification("arn:aws:sns:eu-west-1:1:oncall.fifo")).await;
    assert_eq!(sent, Ok(Some("m-1".into())));
    let forms = forms.lock();
    assert_eq!(forms[0].get("MessageGroupId").map(String::as_str), Some("payment-0123456789abcdef"));
    assert_eq!(
        forms[0].get("MessageDeduplicationId").map(String::as_str),
        Some("payment-0123456789abcdef-5d21dba00")
    );
}

#[tokio::test]
async fn whether_a_retry_may_help_follows_the_kind_of_failure() {
    for (answer, expected) in [
        ((404, "NotFound"), false),
        ((403, "AuthorizationError"), false),
        ((400, "InvalidParameter"), false),
        ((400, "Throttled"), true),
        ((503, "ServiceUnavailable"), true),
    ] {
        let (url, _) = sns_that_answers(vec![answer]).await;
        let error = channel(&url).await.send(&notification("arn:aws:sns:eu-west-1:1:t")).await.expect_err("refused");
        assert_eq!(error.retry_may_help, expected, "{answer:?}: {error}");
    }
    let nobody = channel("http://127.0.0.1:1").await.send(&notification("arn:aws:sns:eu-west-1:1:t")).await;
    assert!(nobody.expect_err("nobody listens").retry_may_help);
}
