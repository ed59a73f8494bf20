use super::*;

#[test]
fn documents_are_kept_for_the_next_page_within_a_bound() {
    let retrievals = Retrievals::default();
    let of = |at: usize| ("token".to_string(), at, Format::Xray);
    let long = || Arc::new(vec![("id".to_string(), "x".repeat(MAX_RENDERED_BYTES / 3))]);
    for at in 0..5 {
        retrievals.keep(of(at), 1.5, long());
    }
    assert!(
        retrievals.take(&of(0)).is_none() && retrievals.take(&of(2)).is_none(),
        "no more than the bound is kept"
    );
    assert_eq!(retrievals.take(&of(4)).map(|(seconds, documents)| (seconds, documents.len())), Some((1.5, 1)));
    assert!(retrievals.take(&of(4)).is_none() && retrievals.take(&(of(3).0, 3, Format::Otel)).is_none());
    assert!(retrievals.take(&of(3)).is_some());
}

fn of(n_ids: u8, started_nanos: i64) -> Retrieval {
    Retrieval {
        ids: (1..=n_ids).map(|n| TraceId::from_bytes(&[n; 16]).expect("an ID")).collect(),
        range: TimeRange::new(-5, i64::MAX),
        started_nanos,
        is_cancelled: false,
    }
}

#[test]
fn retrievals_of_many_traces_are_bounded_and_expire() {
    let retrievals = Retrievals::default();
    let start = |at: i64| retrievals.start(of(46, at));
    let first = start(1);
    assert_eq!(retrievals.find(&first, KEPT_NANOS).expect("there").ids.len(), 46);
    assert!(retrievals.find(&first, KEPT_NANOS + 1).is_err());
    let second = start(2);
    for at in 3..=MAX_RETRIEVALS as i64 + 1 {
        start(at);
    }
    assert!(retrievals.find(&first, 10).is_err(), "the oldest is forgotten");
    retrievals.cancel(&second, 10).expect("there");
    assert!(retrievals.find(&second, 10).expect("there").is_cancelled);
    assert!(retrievals.cancel("what", 10).is_err());
    start(3 + KEPT_NANOS);
    assert!(retrievals.known.lock().by_name.len() < MAX_RETRIEVALS);
}

#[test]
fn a_token_says_what_was_asked_for_to_any_node() {
    let (one, other) = (Retrievals::default(), Retrievals::default());
    for n_ids in [0, 1, 5, MAX_IN_TOKEN as u8] {
        let token = one.start(of(n_ids, 7));
        assert!(token.len() <= 1_020, "{}", token.len());
        assert_eq!(other.find(&token, 8).expect("it says it"), of(n_ids, 7));
        assert!(other.find(&token, 7 + KEPT_NANOS).is_err(), "no longer");
        assert_ne!(token, one.start(of(n_ids, 7)), "one is cancelled without the other");
        assert!(other.find(&token[..token.len() - 3], 8).is_err());
    }
    assert!(one.known.lock().by_name.is_empty(), "nothing is kept");
    let token = one.start(of(2, 7));
    one.cancel(&token, 8).expect("known");
    assert!(one.find(&token, 9).expect("known").is_cancelled && !other.find(&token, 9).expect("known").is_cancelled);
    let too_many = format!("{TOLD}{}", URL_SAFE_NO_PAD.encode([1; 32 + 46 * 16]));
    for bad in ["", TOLD, "r1.AAAA", "r1.\u{fc}", &too_many, &token[1..]] {
        assert!(other.find(bad, 8).is_err(), "{bad}");
    }
    assert!(other.cancel(TOLD, 8).is_err());
}

#[test]
fn forged_tokens_expire_and_crowd_nobody_out() {
    let retrievals = Retrievals::default();
    let now = 1_000 * KEPT_NANOS;
    let real = retrievals.start(of(46, now));
    let told = retrievals.start(of(2, now));
    let forged = |started_nanos| of(1, started_nanos).token().expect("short");
    for hence in [i64::MAX, now + MAX_SKEW_NANOS + 1] {
        assert!(retrievals.find(&forged(hence), now).is_err() && retrievals.cancel(&forged(hence), now).is_err());
    }
    let skewed = forged(now + MAX_SKEW_NANOS);
    assert!(retrievals.find(&skewed, now).is_ok(), "another node's clock is ahead");
    assert!(retrievals.find(&skewed, now + MAX_SKEW_NANOS + KEPT_NANOS).is_err(), "and it expires");
    retrievals.cancel(&told, now).expect("known");
    for _ in 0..2 * MAX_RETRIEVALS {
        retrievals.cancel(&forged(now + MAX_SKEW_NANOS), now).expect("it says it");
    }
    assert!(!retrievals.find(&real, now).expect("still there").is_cancelled);
    assert!(retrievals.find(&told, now).expect("still there").is_cancelled);
    retrievals.cancel(&real, now).expect("there");
    assert!(retrievals.find(&real, now).expect("there").is_cancelled);
    // the list itself is bounded, and empties
    let mut list = LastStored::default();
    for name in [1, 2, 1, 3, 4] {
        list.store(name, now, 3, |_| true);
    }
    assert_eq!((list.by_name.len(), list.names.len(), list.by_name.contains_key(&1)), (3, 3, false));
    list.store(5, now + 1, 3, |started| *started > now);
    assert_eq!((list.by_name.len(), list.names), (1, VecDeque::from([5])));
}

#[test]
fn tokens_name_a_trace_and_a_document() {
    assert_eq!(read_token("3.100"), Some((3, 100)));
    for bad in ["", "3", "3.", "x.1", "-1.0"] {
        assert_eq!(read_token(bad), None, "{bad}");
    }
}

#[test]
fn values_of_the_otel_format_are_those_that_were_sent() {
    let listed = [
        ("release", "1.10"),
        ("card", "123456789012345678901234"),
        ("exp", "1e3"),
        ("items", "5"),
        ("tags", "[1,\"a\"]"),
        ("aws.request_id", "12345678"),
        ("aws.xray.annotations.text", "[\"items\"]"),
    ];
    let attributes = listed.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect();
    let told = otel_document(&SpanHit {
        attributes,
        ..SpanHit::default()
    });
    let expected = json!({
        "release": "1.10", "card": "123456789012345678901234", "exp": "1e3", "items": 5, "tags": [1, "a"], "aws.request_id": "12345678",
    });
    assert_eq!(told["attributes"], expected);
}
