use http::Request;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-11-22T13:00:00Z
const NOW_NANOS: i64 = 1_795_352_400_000_000_000;
const MINUTE: i64 = 60_000_000_000;

fn verifier(more: &str, secret: &str, token: &str) -> Verifier {
    let text = format!("{more}\n[[keys]]\naccess_key_id = 'AKIDEXAMPLE'\nsecret_access_key = '{secret}'\nsession_token = '{token}'\nrights = ['read']\n");
    let config: Config = toml::from_str(&text).expect("valid");
    assert_eq!(config.problems(), Vec::<String>::new());
    let keys = config.open(&|_| None).expect("keys");
    Verifier::new(&config, keys)
}

fn verify(verifier: &Verifier, head: &Parts, body: &[u8], service: &str, now_nanos: i64) -> Result<Caller> {
    verifier.begin(head, &[service], now_nanos)?.finish(head, body)
}

/// A request of a fixture, if an HTTP library can hold it at all.
fn request_of(case: &Value) -> Option<(Parts, Vec<u8>)> {
    use base64::Engine as _;
    let mut request = Request::builder().method(case["method"].as_str()?).uri(case["target"].as_str()?);
    for header in case["headers"].as_array()? {
        request = request.header(header[0].as_str()?, header[1].as_str()?);
    }
    let body = match case["body_base64"].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).ok()?,
        None => case["body"].as_str()?.as_bytes().to_vec(),
    };
    Some((request.body(()).ok()?.into_parts().0, body))
}

fn nanos_of(text: &str) -> i64 {
    let time = chrono::NaiveDateTime::parse_from_str(text, TIME_FORMAT).expect("a time").and_utc();
    time.timestamp_nanos_opt().expect("in range")
}

/// Checks each case of a fixture; gives the names of those that no HTTP library can hold.
fn check_cases(fixture: &str) -> (usize, Vec<String>) {
    let cases: Vec<Value> = serde_json::from_str(fixture).expect("JSON");
    let (mut n_checked, mut unheld) = (0, Vec::new());
    for case in &cases {
        let text = |member: &str| case[member].as_str().unwrap_or_default();
        let name = text("name");
        let Some((head, body)) = request_of(case) else {
            unheld.push(name.to_string());
            // what can be told of it all the same
            let (path, query) = text("target").split_once('?').unwrap_or((text("target"), ""));
            let mut lines = text("canonical_request").lines().skip(1);
            assert_eq!(Some(canonical_path(path).as_str()), lines.next(), "{name}");
            assert_eq!(Some(canonical_query(query).as_str()), lines.next(), "{name}");
            continue;
        };
        let secret = if text("secret").is_empty() { SECRET } else { text("secret") };
        let verifier = verifier("allow_unsigned_payload = true", secret, text("session_token"));
        let now_nanos = nanos_of(text("time"));
        let verified = verify(&verifier, &head, &body, text("service"), now_nanos);
        if name.starts_with("post-sts-header-after") {
            // its token is added after it was signed: AWS wants that of S3 alone
            assert!(verified.is_err(), "{name}");
            continue;
        }
        let caller = verified.unwrap_or_else(|error| panic!("{name}: {error}\nexpected\n{}", text("canonical_request")));
        assert_eq!(caller.key().map(AccessKey::id), Some("AKIDEXAMPLE"));
        n_checked += 1;

        // and it is this that was signed, not anything else that is near
        let wrong = self::verifier("allow_unsigned_payload = true", &format!("{secret}x"), text("session_token"));
        let Err(Error::Mismatch { hint }) = verify(&wrong, &head, &body, text("service"), now_nanos) else {
            panic!("{name}: another secret is refused");
        };
        assert!(hint.contains(&format!("'{}'", text("canonical_request"))), "{name}: {hint}");
        assert!(hint.contains(&format!("'{}'", text("string_to_sign"))), "{name}: {hint}");
        if name != "unsigned-payload" {
            let more = [&body[..], b" "].concat();
            assert!(verify(&verifier, &head, &more, text("service"), now_nanos).is_err(), "{name}: another body");
        }
    }
    (n_checked, unheld)
}

#[test]
fn what_botocore_signs_is_verified() {
    let (n_checked, unheld) = check_cases(include_str!("../../../tests/fixtures/sigv4/botocore.json"));
    assert_eq!((n_checked, unheld), (25, vec![]));
}

#[test]
fn aws_own_test_suite_is_verified() {
    let (n_checked, unheld) = check_cases(include_str!("../../../tests/fixtures/sigv4/aws_suite.json"));
    // a space in a request line
    assert_eq!(unheld, ["get-space-normalized-header", "get-space-normalized-query"]);
    // the two of `post-sts-header-after` are refused
    assert_eq!(n_checked, 58);
}

/// A request as our own signer makes it: the canonical form is checked against others' above.
struct Draft {
    key_id: &'static str,
    secret: &'static str,
    time: &'static str,
    scope: &'static str,
    signed_headers: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static [u8],
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            key_id: "AKIDEXAMPLE",
            secret: SECRET,
            time: "20261122T130000Z",
            scope: "20261122/us-east-1/logs/aws4_request",
            signed_headers: "host;x-amz-date;x-amz-target",
            headers: vec![("x-amz-target", "Logs_20140328.PutLogEvents")],
            body: b"{}",
        }
    }
}

impl Draft {
    fn unsigned(&self) -> http::request::Builder {
        let mut request = Request::post("/").header("host", "127.0.0.1:7070").header("x-amz-date", self.time);
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        request
    }

    fn sign(&self) -> Parts {
        let mut head = self.unsigned().body(()).expect("a request").into_parts().0;
        let signer = testing::Signer {
            key_id: self.key_id,
            secret: self.secret,
            scope: self.scope,
            signed_headers: self.signed_headers,
        };
        signer.sign(&mut head, self.body);
        head
    }

    fn check(&self, verifier: &Verifier) -> Result<Caller> {
        verify(verifier, &self.sign(), self.body, "logs", NOW_NANOS)
    }
}

#[track_caller]
fn refused(result: Result<Caller>, name: &str, part: &str) {
    let error = result.expect_err("refused");
    assert_eq!(error.name(), name, "{error}");
    assert!(error.to_string().contains(part), "{part:?} in {error}");
}

const INVALID: &str = "InvalidSignatureException";
const INCOMPLETE: &str = "IncompleteSignatureException";
const UNRECOGNIZED: &str = "UnrecognizedClientException";

#[test]
fn a_good_signature_is_good_and_each_part_of_it_counts() {
    let plain = verifier("", SECRET, "");
    assert!(Draft::default().check(&plain).is_ok());
    let head = Draft::default().sign();
    let changed = |change: &dyn Fn(&mut Parts)| {
        let mut head = head.clone();
        change(&mut head);
        verify(&plain, &head, b"{}", "logs", NOW_NANOS)
    };
    assert!(changed(&|_| {}).is_ok());
    refused(changed(&|head| head.method = http::Method::PUT), INVALID, "does not match");
    refused(changed(&|head| head.uri = "/x".parse().expect("a path")), INVALID, "does not match");
    refused(changed(&|head| head.uri = "/?a=1".parse().expect("a path")), INVALID, "does not match");
    let set = |name: &'static str, value: &'static str| changed(&move |head| drop(head.headers.insert(name, value.parse().expect("a value"))));
    refused(set("host", "127.0.0.1:7071"), INVALID, "does not match");
    refused(set("x-amz-target", "Logs_20140328.DeleteLogGroup"), INVALID, "does not match");
    refused(set("x-amz-date", "20261122T130001Z"), INVALID, "does not match");
    let appended = changed(&|head| {
        head.headers.append("x-amz-target", "b".parse().expect("a value"));
    });
    refused(appended, INVALID, "does not match");
    refused(
        verify(&plain, &head, b"{ }", "logs", NOW_NANOS),
        INVALID,
        "The Canonical String for this request should have been",
    );
    // headers that proxies change are not signed, and do not count
    assert!(set("x-forwarded-for", "10.0.0.1").is_ok());
    assert!(set("x-amz-cf-id", "cloudfront").is_ok());
}

#[test]
fn a_request_without_a_signature_is_told_so() {
    let plain = verifier("", SECRET, "");
    let head = Draft::default().unsigned().body(()).expect("a request").into_parts().0;
    assert!(!is_signed(&head));
    refused(
        verify(&plain, &head, b"{}", "logs", NOW_NANOS),
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    );
}

#[test]
fn unknown_keys_and_session_tokens_are_unrecognized() {
    let plain = verifier("", SECRET, "");
    let unknown = Draft {
        key_id: "AKIDOTHER",
        ..Draft::default()
    };
    refused(unknown.check(&plain), UNRECOGNIZED, "security token included in the request is invalid");
    let token = Draft {
        headers: vec![("x-amz-security-token", "of an STS")],
        signed_headers: "host;x-amz-date;x-amz-security-token",
        ..Draft::default()
    };
    refused(token.check(&plain), UNRECOGNIZED, "security token");
    assert!(token.check(&verifier("", SECRET, "of an STS")).is_ok());
    refused(token.check(&verifier("", SECRET, "of an ST")), UNRECOGNIZED, "security token");
    refused(Draft::default().check(&verifier("", SECRET, "of an STS")), UNRECOGNIZED, "security token");
    let mut head = Draft::default().sign();
    head.headers.insert("authorization", "Bearer not-one-of-ours".parse().expect("a value"));
    refused(verify(&plain, &head, b"{}", "logs", NOW_NANOS), UNRECOGNIZED, "security token");
}

#[test]
fn a_signature_is_good_for_five_minutes_on_either_side() {
    let plain = verifier("", SECRET, "");
    let head = Draft::default().sign();
    let at = |nanos: i64| verify(&plain, &head, b"{}", "logs", NOW_NANOS + nanos);
    assert!(at(5 * MINUTE).is_ok() && at(-5 * MINUTE).is_ok());
    refused(
        at(5 * MINUTE + MINUTE / 60),
        INVALID,
        "Signature expired: 20261122T130000Z is now earlier than 20261122T130001Z (20261122T130501Z - 5 min.)",
    );
    refused(
        at(-5 * MINUTE - MINUTE / 60),
        INVALID,
        "Signature not yet current: 20261122T130000Z is still later than 20261122T125959Z (20261122T125459Z + 5 min.)",
    );
    let strict = verifier("clock_skew_seconds = 10", SECRET, "");
    refused(verify(&strict, &head, b"{}", "logs", NOW_NANOS + MINUTE), INVALID, "- 10 s.)");
}

#[test]
fn a_presigned_request_lives_as_long_as_it_says() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../../../tests/fixtures/sigv4/botocore.json")).expect("JSON");
    let case = cases.iter().find(|case| case["name"] == "presigned-post").expect("there");
    let (head, body) = request_of(case).expect("a request");
    let plain = verifier("", SECRET, "");
    let at = |seconds: i64| verify(&plain, &head, &body, "logs", NOW_NANOS + seconds * 1_000_000_000);
    assert!(is_signed(&head));
    assert!(at(900).is_ok() && at(-300).is_ok());
    refused(
        at(901),
        INVALID,
        "Signature expired: 20261122T130000Z is now earlier than 20261122T130001Z (20261122T131501Z - 900 s.)",
    );
    refused(at(-301), INVALID, "Signature not yet current");

    let target = case["target"].as_str().expect("a target");
    let changed = |from: &str, to: &str| {
        assert!(target.contains(from), "{from}");
        let mut head = head.clone();
        head.uri = target.replace(from, to).parse().expect("a target");
        verify(&plain, &head, &body, "logs", NOW_NANOS)
    };
    for (expires, said) in [
        ("0", "less than or equal to 604800"),
        ("604801", "less than or equal to 604800"),
        ("+9", "number"),
        ("-1", "number"),
        ("", "must include 'X-Amz-Expires'"),
    ] {
        refused(changed("X-Amz-Expires=900", &format!("X-Amz-Expires={expires}")), INCOMPLETE, said);
    }
    refused(changed("X-Amz-Expires=900", "X-Amz-Expires=901"), INVALID, "does not match");
    refused(changed("X-Amz-Expires=900&", ""), INCOMPLETE, "must include 'X-Amz-Expires'");
    refused(changed("X-Amz-Expires=900", "X-Amz-Expires=900&X-Amz-Expires=900"), INCOMPLETE, "twice");
    refused(
        changed("HMAC-SHA256", "ECDSA-P256-SHA256"),
        INCOMPLETE,
        "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'",
    );
    refused(changed("X-Amz-Date=2026", "X-Amz-Date=x026"), INCOMPLETE, "ISO-8601");
    let mut both = head.clone();
    both.headers.insert("authorization", "AWS4-HMAC-SHA256 x".parse().expect("a value"));
    refused(verify(&plain, &both, &body, "logs", NOW_NANOS), INCOMPLETE, "more than one signature");
}

#[test]
fn scopes_name_the_day_a_region_of_ours_and_the_service() {
    let plain = verifier("", SECRET, "");
    let scoped = |scope: &'static str, verifier: &Verifier| Draft { scope, ..Draft::default() }.check(verifier);
    assert!(scoped("20261122/eu-west-1/logs/aws4_request", &plain).is_ok(), "any region");
    let here = verifier("regions = ['us-east-1', 'us-west-2']", SECRET, "");
    assert!(scoped("20261122/us-east-1/logs/aws4_request", &here).is_ok());
    refused(
        scoped("20261122/eu-west-1/logs/aws4_request", &here),
        INVALID,
        "scoped to a valid region, not 'eu-west-1'",
    );
    refused(scoped("20261122//logs/aws4_request", &plain), INVALID, "scoped to a valid region");
    refused(
        scoped("20261122/us-east-1/s3/aws4_request", &plain),
        INVALID,
        "scoped to correct service: 'logs'",
    );
    refused(
        scoped("20261122/us-east-1/logs/aws5_request", &plain),
        INVALID,
        "valid terminator: 'aws4_request', not 'aws5_request'",
    );
    refused(
        scoped("20261121/us-east-1/logs/aws4_request", &plain),
        INVALID,
        "'20261121' != '20261122', from '20261122T130000Z'",
    );
}

#[test]
fn host_and_all_amz_headers_must_be_signed() {
    let plain = verifier("", SECRET, "");
    let with = |signed_headers: &'static str| {
        Draft {
            signed_headers,
            ..Draft::default()
        }
        .check(&plain)
    };
    refused(with("x-amz-date;x-amz-target"), INVALID, "'Host' or ':authority' must be a 'SignedHeader'");
    refused(with("host;x-amz-date"), INVALID, "'x-amz-target' must be a 'SignedHeader'");
    refused(with("host;x-amz-target"), INVALID, "'x-amz-date' must be a 'SignedHeader'");
    assert!(with("x-amz-target;x-amz-date;host").is_ok(), "their order does not count");
    // a signed header that is not there cannot be put in
    let absent = Draft {
        signed_headers: "host;x-absent;x-amz-date;x-amz-target",
        ..Draft::default()
    };
    let mut head = absent.sign();
    assert!(verify(&plain, &head, b"{}", "logs", NOW_NANOS).is_ok());
    head.headers.insert("x-absent", "now here".parse().expect("a value"));
    refused(verify(&plain, &head, b"{}", "logs", NOW_NANOS), INVALID, "does not match");
}

#[test]
fn the_body_is_hashed_by_us_and_left_out_only_where_that_is_allowed() {
    let with = |value: &'static str, config: &str| {
        let draft = Draft {
            headers: vec![("x-amz-content-sha256", value)],
            signed_headers: "host;x-amz-content-sha256;x-amz-date",
            ..Draft::default()
        };
        draft.check(&verifier(config, SECRET, ""))
    };
    assert!(with("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "").is_ok());
    refused(
        with("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", ""),
        INVALID,
        "does not match what was computed",
    );
    refused(with("UNSIGNED-PAYLOAD", ""), INVALID, "must be signed");
    assert!(with("UNSIGNED-PAYLOAD", "allow_unsigned_payload = true").is_ok());
    for value in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "", "abc"] {
        refused(with(value, "allow_unsigned_payload = true"), INVALID, "not supported");
    }
}

#[test]
fn what_is_malformed_is_incomplete() {
    let plain = verifier("", SECRET, "");
    let said = |authorization: &str| {
        let mut head = Draft::default().sign();
        head.headers.insert("authorization", authorization.parse().expect("a value"));
        verify(&plain, &head, b"{}", "logs", NOW_NANOS)
    };
    for (authorization, part) in [
        (
            "AWS4-HMAC-SHA256",
            "requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders'",
        ),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host", "requires 'Signature'"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Credential=a/b/c/d/e", "several 'Credential'"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=0", "exactly 5"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f, SignedHeaders=host, Signature=0", "exactly 5"),
        (
            "AWS4-ECDSA-P256-SHA256 Credential=a, SignedHeaders=host, Signature=0",
            "Unsupported AWS 'algorithm'",
        ),
        ("AWS AKID:signature", "must begin with 'AWS4-HMAC-SHA256'"),
        ("Negotiate", "must begin with"),
        ("", "must begin with"),
    ] {
        refused(said(authorization), INCOMPLETE, part);
    }
    for signature in ["0", &"0".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/logs/aws4_request,SignedHeaders=host;x-amz-date;x-amz-target,Signature={signature}"
        );
        let error = said(&authorization).expect_err("refused");
        assert!(matches!(error.name(), INVALID | INCOMPLETE), "{error}");
    }
    let dated = |name: &'static str, values: &[&'static str]| {
        let mut head = Draft::default().sign();
        head.headers.remove("x-amz-date");
        for value in values {
            head.headers.append(name, value.parse().expect("a value"));
        }
        verify(&plain, &head, b"{}", "logs", NOW_NANOS)
    };
    refused(dated("x-amz-date", &[]), INCOMPLETE, "either a 'X-Amz-Date' or a 'Date' header");
    refused(dated("x-amz-date", &["20261122T130000Z", "20261122T130000Z"]), INCOMPLETE, "several");
    for bad in [
        "2026-11-22T13:00:00Z",
        "20261122T130000",
        "+2026112T130000Z",
        "20261322T130000Z",
        "20261122T250000Z",
        "now",
    ] {
        refused(dated("x-amz-date", &[bad]), INCOMPLETE, "ISO-8601 'basic format'");
    }
    refused(dated("date", &["Sun, 22 Nov 2026 13:00:00 GMT"]), INVALID, "'Date' must be a 'SignedHeader'");
    refused(dated("date", &["someday"]), INCOMPLETE, "ISO-8601");
    let mut twice = Draft::default().sign();
    twice.headers.append("authorization", "Bearer x".parse().expect("a value"));
    refused(verify(&plain, &twice, b"{}", "logs", NOW_NANOS), INCOMPLETE, "more than one signature");
}

#[test]
fn the_authority_of_http_2_stands_for_host() {
    let mut head = Draft::default().sign();
    head.headers.remove("host");
    head.uri = "http://127.0.0.1:7070/".parse().expect("an address");
    assert!(verify(&verifier("", SECRET, ""), &head, b"{}", "logs", NOW_NANOS).is_ok());
}

#[test]
fn a_wrong_signature_leaves_no_signing_key_behind() {
    let plain = verifier("", SECRET, "");
    let wrong = Draft {
        secret: "another secret",
        ..Draft::default()
    };
    assert!(wrong.check(&plain).is_err());
    let kept = |verifier: &Verifier| verifier.keys["AKIDEXAMPLE"].signing_keys.lock().len();
    assert_eq!(kept(&plain), 0);
    assert!(Draft::default().check(&plain).is_ok() && Draft::default().check(&plain).is_ok());
    assert_eq!(kept(&plain), 1);
}

fn any_text() -> impl Strategy<Value = String> {
    let parts = proptest::sample::select(vec![
        "AWS4-HMAC-SHA256 ",
        "Credential=AKIDEXAMPLE/20261122/us-east-1/logs/aws4_request",
        "SignedHeaders=host;x-amz-date",
        "Signature=",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Credential=AKIDEXAMPLE%2F20261122%2Fus-east-1%2Flogs%2Faws4_request",
        "X-Amz-Date=20261122T130000Z",
        "X-Amz-Expires=60",
        "X-Amz-SignedHeaders=host",
        "X-Amz-Signature=0",
        "20261122T130000Z",
        "Sun, 22 Nov 2026 13:00:00 GMT",
        ", ",
        "&",
        "%",
        "%ff",
        "/../",
        "//",
        "\u{e9}",
    ]);
    let piece = prop_oneof![3 => parts.prop_map(str::to_string), 1 => "[ -~]{0,12}", 1 => "\\PC{0,4}"];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_request_panics_or_passes(
        target in any_text(),
        headers in proptest::collection::vec((proptest::sample::select(vec!["authorization", "x-amz-date", "date", "host", "x-amz-content-sha256", "x-amz-security-token"]), any_text()), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let verifier = verifier("", SECRET, "");
        let uri = http::Uri::try_from(format!("/{target}")).unwrap_or_default();
        let mut head = Request::post(uri).body(()).expect("a request").into_parts().0;
        for (name, value) in headers {
            if let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) {
                head.headers.append(name, value);
            }
        }
        prop_assert!(verify(&verifier, &head, &body, "logs", NOW_NANOS).is_err());
        prop_assert!(verify(&verifier, &head, &body, "logs", i64::MAX).is_err());
        prop_assert!(verify(&verifier, &head, &body, "logs", i64::MIN).is_err());
    }

    #[test]
    fn the_canonical_form_of_a_path_has_no_dots_and_of_a_query_is_its_own(text in any_text()) {
        let path = canonical_path(&text);
        prop_assert!(path.starts_with('/') && !path.contains("//") && !path.split('/').any(|segment| segment == "." || segment == ".."));
        let query = canonical_query(&text);
        prop_assert_eq!(canonical_query(&query), query.clone());
    }
}
