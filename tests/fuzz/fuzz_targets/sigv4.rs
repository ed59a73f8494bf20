//! Signatures: any request, first lines as method, target and headers, the rest as its body. None is let in: the fuzzer
//! has no secret.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tracelake::access::sigv4::{Verifier, canonical_path, canonical_query};
use tracelake::access::{Asked, Config, KeyConfig, Right, SecretSource};
use tracelake::storage::Secret;

/// 2026-11-22T13:00:00Z
const NOW_NANOS: i64 = 1_795_352_400_000_000_000;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let config = Config {
        allow_unsigned_payload: true,
        keys: vec![KeyConfig {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: SecretSource::Here(Secret::new("nobody has tried this one")),
            rights: vec![Right::Read],
            ..KeyConfig::default()
        }],
        ..Config::default()
    };
    let keys = config.open(&|_| None).expect("a key");
    Verifier::new(&config, keys)
});

fuzz_target!(|input: &[u8]| {
    let (head, body) = match input.windows(2).position(|window| window == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &b""[..]),
    };
    let mut lines = head.split(|b| *b == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = first.split_at(first.iter().position(|b| *b == b' ').unwrap_or(first.len()));
    let Ok(uri) = http::Uri::try_from(target.trim_ascii()) else {
        return;
    };
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::from_bytes(method).unwrap_or(http::Method::POST);
    for text in [uri.path(), uri.query().unwrap_or_default()] {
        let path = canonical_path(text);
        assert!(
            path.starts_with('/') && !path.split('/').any(|segment| segment == "." || segment == ".."),
            "{path}"
        );
        let query = canonical_query(text);
        assert_eq!(canonical_query(&query), query);
    }
    *request.uri_mut() = uri;
    for line in lines.take(64) {
        let (name, value) = line.split_at(line.iter().position(|b| *b == b':').unwrap_or(line.len()));
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::from_bytes(name),
            http::HeaderValue::from_bytes(value.get(1..).unwrap_or_default()),
        ) {
            request.headers_mut().append(name, value);
        }
    }
    let (head, ()) = request.into_parts();
    assert!(!Asked::of(&head).rights().is_empty());
    if let Ok(pending) = VERIFIER.begin(&head, &["logs"], NOW_NANOS) {
        let error = pending.finish(&head, body).expect_err("nobody has the secret");
        assert!(!error.to_string().contains("nobody has tried"), "an error shows the secret");
    }
});
