use super::*;

#[test]
fn outcomes_add_up_and_survive_a_restart() {
    let ledger = Ledger::new(9);
    ledger.accepted("otlp", Signal::Logs, 10);
    ledger.rejected("otlp", Signal::Logs, Reason::TooOld, 2);
    ledger.dropped("xray", Signal::Traces, "queue_full", 3);
    ledger.refused("otlp", Signal::Logs, 1);
    ledger.repeated("otlp", Signal::Logs, 7);
    let later = Ledger::new(9);
    later.restore(ledger.to_json().to_string().as_bytes()).expect("our own JSON");
    later.accepted("otlp", Signal::Logs, 5);
    let sums = later.sums();
    assert_eq!((sums[0].2.accepted, sums[0].2.refused, sums[0].2.rejected, sums[0].2.repeated), (15, 1, 2, 7));
    // as earlier versions stored them
    let earlier = r#"[["otlp", "logs", {"accepted": 1, "refused": 2, "rejected": 0, "dropped": 0, "reasons": {}}]]"#;
    let later = Ledger::new(9);
    later.restore(earlier.as_bytes()).expect("read");
    assert_eq!((later.sums()[0].2.accepted, later.sums()[0].2.repeated), (1, 0));
    assert_eq!(sums[0].2.reasons["too_old"], 2);
    assert_eq!((sums[1].0.as_str(), sums[1].2.dropped), ("xray", 3));
}

fn sender(service: &str, log_group: &str) -> Sender {
    Sender {
        service: service.into(),
        log_group: log_group.into(),
    }
}

fn senders(of: &[(&'static str, &str, u64)]) -> Senders {
    Senders(of.iter().map(|(signal, service, n)| ((*signal, sender(service, "")), *n)).collect())
}

#[test]
fn sums_are_kept_by_sender_and_add_up_with_the_rest() {
    let ledger = Ledger::new(2);
    ledger.accepted("otlp", Signal::Logs, 10);
    ledger.accepted_of("otlp", &senders(&[("logs", "cart", 3), ("logs", "", 2)]));
    // a third source has no place of its own
    ledger.accepted_of("otlp", &senders(&[("logs", "late", 4)]));
    ledger.repeated("otlp", Signal::Logs, 3);
    ledger.repeated_of("otlp", &senders(&[("logs", "cart", 3)]));
    let rejected = |sender| Rejected {
        count: 5,
        reason: Reason::TooOld,
        message: String::new(),
        index: None,
        sender,
    };
    ledger.rejected_of("otlp", Signal::Logs, &rejected(Some(sender("cart", ""))), Told::Alone);
    ledger.rejected_of("otlp", Signal::Logs, &rejected(None), Told::Alone);
    let again = Ledger::new(2);
    again.restore(ledger.to_json().to_string().as_bytes()).expect("our own JSON");
    let entries = entries("n", &again.sums());
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.sender.as_ref().map(|sender| sender.service.as_str()),
                entry.outcome,
                entry.reason.as_deref(),
                entry.records,
            )
        })
        .collect();
    let expected = [
        (Some(""), "accepted", None, 2),
        (Some(OTHERS), "accepted", None, 4),
        (Some("cart"), "accepted", None, 3),
        (Some("cart"), "repeated", None, 3),
        (Some("cart"), "rejected", Some("too_old"), 5),
        (None, "accepted", None, 1),
        (None, "rejected", Some("too_old"), 5),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn what_was_delivered_is_added_up_by_signal() {
    let documents: [&[u8]; 4] = [
        br#"{"signal":"logs","delivered":5,"undelivered":{"too_old":2},"job":"a","done":7}"#,
        br#"{"signal":"logs","delivered":1}"#,
        br#"{"signal":"traces","delivered":0}"#,
        b"none",
    ];
    let entries = sent_entries("n", documents.into_iter());
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.signal.as_str(), entry.outcome, entry.reason.as_deref(), entry.records))
        .collect();
    assert_eq!(shown, [("logs", "delivered", None, 6), ("logs", "undelivered", Some("too_old"), 2)]);
}

#[test]
fn entries_add_up_to_the_sums() {
    let ledger = Ledger::new(9);
    ledger.accepted("otlp", Signal::Logs, 10);
    ledger.repeated("otlp", Signal::Logs, 6);
    ledger.rejected("otlp", Signal::Logs, Reason::TooOld, 2);
    ledger.rejected("otlp", Signal::Logs, Reason::TooNew, 1);
    ledger.dropped("otlp", Signal::Logs, "queue_full", 3);
    let mut sums = ledger.sums();
    // counted before reasons were kept
    sums[0].2.rejected += 4;
    let entries = entries("n", &sums);
    let shown: Vec<_> = entries.iter().map(|entry| (entry.outcome, entry.reason.as_deref(), entry.records)).collect();
    let expected = [
        ("accepted", None, 10),
        ("repeated", None, 6),
        ("rejected", Some("too_new"), 1),
        ("rejected", Some("too_old"), 2),
        ("rejected", None, 4),
        ("dropped", Some("queue_full"), 3),
    ];
    assert_eq!(shown, expected);
    let gone = [
        (Table::Spans, Gone { deleted: 1, expired: 2 }),
        (Table::MetricPoints, Gone { deleted: 0, expired: 3 }),
        (Table::MetricHistograms, Gone { deleted: 0, expired: 4 }),
        // made beside records
        (Table::MetricSeries, Gone { deleted: 0, expired: 9 }),
    ];
    let gone = gone_entries(&gone.into());
    let shown: Vec<_> = gone.iter().map(|entry| (entry.signal.as_str(), entry.outcome, entry.records)).collect();
    assert_eq!(shown, [("metrics", "expired", 7), ("traces", "deleted", 1), ("traces", "expired", 2)]);
}

#[test]
fn what_the_log_is_yet_to_say_is_left_out_of_a_flush_and_counted_again_once() {
    let ledger = Ledger::new(9);
    ledger.accepted("otlp", Signal::Logs, 10);
    ledger.accepted_of("otlp", &senders(&[("logs", "cart", 3)]));
    let rejected = Rejected {
        count: 5,
        reason: Reason::TooOld,
        message: String::new(),
        index: None,
        sender: Some(sender("cart", "")),
    };
    ledger.rejected_of("otlp", Signal::Logs, &rejected, Told::InFrame);
    assert!(!ledger.has_alone());
    let of_frames = ledger.sums();
    ledger.rejected_of("otlp", Signal::Logs, &rejected, Told::Alone);
    ledger.repeated("otlp", Signal::Logs, 3);
    ledger.repeated_of("otlp", &senders(&[("logs", "pay", 3)]));
    ledger.refused("otlp", Signal::Logs, 1);
    ledger.dropped("xray", Signal::Traces, "queue_full", 2);
    let all = ledger.sums();
    let restored = |json: &serde_json::Value| {
        let later = Ledger::new(9);
        later.restore(json.to_string().as_bytes()).expect("our own JSON");
        later
    };
    // a flush, and then the frame
    let flushed = restored(&ledger.logged_to_json());
    assert_eq!(entries("n", &flushed.sums()), entries("n", &of_frames));
    assert!(!ledger.is_durable());
    let taken = ledger.take_alone();
    assert!(!ledger.has_alone() && !ledger.is_durable());
    // another one who looks meanwhile finds nothing, and says nothing about the first
    ledger.take_alone().are_logged();
    assert!(!ledger.is_durable(), "some are on their way");
    let frame = taken.sums().to_vec();
    flushed.replay(&frame);
    assert_eq!(flushed.sums(), all);
    // the frame, and then a flush
    assert_eq!(restored(&ledger.logged_to_json()).sums(), all);
    // a log that is full
    drop(taken);
    assert!(ledger.has_alone() && !ledger.is_durable());
    assert_eq!(entries("n", &restored(&ledger.logged_to_json()).sums()), entries("n", &of_frames));
    let taken = ledger.take_alone();
    assert_eq!(taken.sums(), frame);
    taken.are_logged();
    assert!(ledger.is_durable() && !ledger.has_alone());
}
