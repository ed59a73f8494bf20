//! Documents that are cut short, empty, flipped or gone.

use super::*;
use crate::catalog::document::{self, copy_of};
use crate::storage::Key;

/// A record with something of everything, as it is written.
fn record_bytes() -> (Key, Record, Vec<u8>) {
    let mut commit = adding(vec![block(Table::Logs, 10, 20)]);
    commit.wal = Some(WalRange { from: 3, to: 9 });
    commit.ledger = Some(serde_json::json!({ "otlp": { "logs": 7 } }));
    let record = Record {
        v: commit.version(),
        seq: 5,
        node: node(1),
        incarnation: None,
        commit,
    };
    let bytes = document::seal(&record).expect("JSON");
    (CatalogPath::Log(5).key(), record, bytes)
}

fn is_damaged<T>(result: &Result<T>, at: &Key) -> bool {
    matches!(result, Err(Error::Corrupt { key, .. }) if key == at)
}

#[test]
fn every_flipped_bit_and_every_missing_byte_of_a_record_is_told() {
    let (key, record, bytes) = record_bytes();
    assert_eq!(document::open::<Record>(&key, &bytes).expect("whole"), record);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let read = document::open::<Record>(&key, &flipped);
            assert!(is_damaged(&read, &key), "bit {bit} of byte {at}: {read:?}");
        }
        assert!(is_damaged(&document::open::<Record>(&key, &bytes[..at]), &key), "cut at {at}");
        let mut zeroed = bytes.clone();
        zeroed[at..].fill(0);
        assert!(is_damaged(&document::open::<Record>(&key, &zeroed), &key), "zeros from {at}");
    }
}

#[test]
fn what_was_written_without_a_checksum_is_read_and_never_panics() {
    let (key, record, bytes) = record_bytes();
    let plain = serde_json::to_vec(&record).expect("JSON");
    assert_eq!(document::open::<Record>(&key, &plain).expect("whole"), record);
    // the parser of before there were checksums overlooks them
    assert_eq!(serde_json::from_slice::<Record>(&bytes).expect("a record"), record);
    let states: BTreeMap<String, String> = serde_json::from_slice(b"{\"k\":\"dg==\"}").expect("as before");
    assert_eq!(states.len(), 1);
    for at in 0..plain.len() {
        assert!(document::open::<Record>(&key, &plain[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut flipped = plain.clone();
            flipped[at] ^= 1 << bit;
            let _ = document::open::<Record>(&key, &flipped);
        }
    }
    // a newer one is told from a damaged one, with a checksum or without
    for (newer, is_newer) in [
        (b"{\"v\":5,\"any\":[]}".to_vec(), true),
        (document::seal(&serde_json::json!({ "v": 5 })).expect("JSON"), true),
        (
            document::seal(&serde_json::json!({ "v": 1 }))
                .expect("JSON")
                .iter()
                .map(|b| if *b == b'1' { b'5' } else { *b })
                .collect(),
            false,
        ),
    ] {
        let read = document::open::<Record>(&key, &newer);
        assert_eq!(matches!(read, Err(Error::Newer { found: 5, .. })), is_newer, "{read:?}");
        assert!(read.is_err());
    }
}

async fn spoil(store: &dyn Store, key: &Key, how: &str) {
    let bytes = store.get(key).await.expect("reads");
    let spoilt = match how {
        "empty" => Bytes::new(),
        "torn" => bytes.slice(..bytes.len() / 2),
        "flipped" => {
            let mut bytes = bytes.to_vec();
            let at = bytes.len() * 2 / 3;
            bytes[at] ^= 4;
            bytes.into()
        }
        _ => return store.delete(key).await.expect("deleted"),
    };
    store.put(key, spoilt).await.expect("put");
}

const WAYS: [&str; 4] = ["empty", "torn", "flipped", "missing"];

#[tokio::test]
async fn a_damaged_record_gives_way_to_its_copy() {
    for how in WAYS {
        let store = memory();
        let (one, behind) = (open(&store, 1).await, open(&store, 2).await);
        for _ in 0..5 {
            one.commit(adding(vec![block(Table::Logs, 1, 2)])).await.expect("commits");
        }
        let key = CatalogPath::Log(3).key();
        spoil(&*store, &key, how).await;
        assert_eq!(open(&store, 3).await.snapshot(), one.snapshot(), "{how}");
        if how != "missing" {
            assert_eq!(behind.refresh().await.expect("reads"), one.snapshot(), "{how}");
        }
        let snapshot = open(&store, 3).await.commit(adding(vec![block(Table::Logs, 3, 4)])).await.expect("goes on");
        assert_eq!((snapshot.seq(), snapshot.all_blocks().count()), (6, 6));
        let flaws = Catalog::flaws(&*store, Some(&snapshot)).await.expect("looked at");
        assert!(
            flaws.len() == 1 && flaws[0].contains(key.as_str()) && flaws[0].contains("its copy"),
            "{flaws:?}"
        );
    }
}

#[tokio::test]
async fn a_record_damaged_in_both_places_stops_a_start_which_says_what_to_do() {
    for how in WAYS {
        let store = memory();
        let one = open(&store, 1).await;
        let behind = open(&store, 2).await;
        for _ in 0..5 {
            one.commit(adding(vec![block(Table::Logs, 1, 2)])).await.expect("commits");
        }
        let (key, copy) = (CatalogPath::Log(3).key(), CatalogPath::copy_of_record(3).key());
        let good = store.get(&key).await.expect("reads");
        spoil(&*store, &key, how).await;
        spoil(&*store, &copy, how).await;
        let failed = Catalog::open(Arc::clone(&store), node(3)).await.map(drop);
        assert!(is_damaged(&failed, &key), "{how}: {failed:?}");
        let text = failed.expect_err("damaged").to_string();
        for part in [key.as_str(), copy.as_str(), "Nothing was changed", "backup", "SIGTERM", "lake verify"] {
            assert!(text.contains(part), "{how}: {part} in {text}");
        }
        if how != "missing" {
            // one that runs commits nothing meanwhile, and loses nothing
            let commit = adding(vec![block(Table::Spans, 1, 2)]);
            assert!(is_damaged(&behind.commit(commit.clone()).await, &key), "{how}");
            assert_eq!(behind.snapshot().seq(), 2);
            store.put(&key, good.clone()).await.expect("put back");
            assert_eq!(behind.commit(commit).await.expect("goes on").seq(), 6, "{how}");
            spoil(&*store, &key, how).await;
        }
        let flaws = Catalog::flaws(&*store, None).await.expect("looked at");
        assert!(flaws.iter().any(|flaw| flaw.contains("no start gets past it")), "{flaws:?}");
        // one that has read it leaves a checkpoint, and the next start needs the record no more
        one.refresh().await.expect("reads");
        one.leave_checkpoint().await;
        assert_eq!(open(&store, 3).await.snapshot(), one.snapshot(), "{how}");
        let flaws = Catalog::flaws(&*store, None).await.expect("looked at");
        assert!(flaws.len() == 1 && flaws[0].contains("does not need it"), "{flaws:?}");
    }
}

#[tokio::test]
async fn every_flipped_byte_of_a_checkpoint_leads_to_the_same_snapshot() {
    let store = memory();
    let one = open(&store, 1).await;
    for _ in 0..CHECKPOINT_EVERY {
        one.commit(adding(vec![block(Table::Logs, 1, 2)])).await.expect("commits");
    }
    let key = CatalogPath::Checkpoint(CHECKPOINT_EVERY).key();
    let good = store.get(&key).await.expect("a checkpoint");
    for at in 0..good.len() {
        let mut flipped = good.to_vec();
        flipped[at] ^= 1 << (at % 8);
        let torn = (at % 16 == 0).then(|| good.slice(..at));
        for spoilt in [Some(Bytes::from(flipped)), torn].into_iter().flatten() {
            store.put(&key, spoilt).await.expect("put");
            assert_eq!(*Catalog::read(&*store).await.expect("reads"), *one.snapshot(), "byte {at}");
        }
    }
    // a start of a node that reads it writes none over it unless it has far to replay
    let flaws = Catalog::flaws(&*store, None).await.expect("looked at");
    assert!(flaws.len() == 1 && flaws[0].contains("an older checkpoint"), "{flaws:?}");
}

#[tokio::test]
async fn a_damaged_state_or_query_gives_way_to_its_copy_and_is_never_reset() {
    let document = Bytes::from_static(b"{\"alert/rule\":\"eyJhIjoxfQ==\"}");
    let store = memory();
    let one = open(&store, 1).await;
    let mut commit = Commit::new(CommitKind::State, 0);
    let key = one.put_state(document.clone()).await.expect("put");
    commit.state = Some(key.clone());
    let snapshot = one.commit(commit).await.expect("commits");
    let copy = copy_of(&key).expect("it has one");
    let good = store.get(&key).await.expect("reads");
    assert_eq!((&good, &store.get(&copy).await.expect("reads")), (&document, &document));
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut flipped = good.to_vec();
            flipped[at] ^= 1 << bit;
            store.put(&key, flipped.into()).await.expect("put");
            assert_eq!(one.read_state().await.expect("reads"), [(key.clone(), document.clone())]);
        }
    }
    for how in WAYS {
        for (damaged, other) in [(&key, &copy), (&copy, &key)] {
            store.put(&key, document.clone()).await.expect("put");
            store.put(&copy, document.clone()).await.expect("put");
            spoil(&*store, damaged, how).await;
            assert_eq!(one.read_state().await.expect("reads"), [(key.clone(), document.clone())], "{how}");
            let flaws = Catalog::flaws(&*store, Some(&snapshot)).await.expect("looked at");
            assert!(flaws.len() == 1 && flaws[0].contains(damaged.as_str()), "{how}: {flaws:?}");
            spoil(&*store, other, "torn").await;
            let failed = one.read_state().await;
            assert!(is_damaged(&failed, &key), "{how}: {failed:?}");
            let text = failed.expect_err("damaged").to_string();
            assert!(text.contains(copy.as_str()) && text.contains("backup"), "{text}");
        }
    }
    for key in [&key, &copy] {
        store.delete(key).await.expect("deleted");
    }
    let gone = one.read_state().await.expect_err("gone");
    assert!(matches!(&gone, Error::Store(error) if error.is_not_found()), "{gone}");
    // one that was written before there were checksums is taken at its word, and has no copy
    let old = CatalogPath::State("0".repeat(26)).key();
    store.put(&old, Bytes::from_static(b"any")).await.expect("put");
    assert_eq!(
        (one.read_state_at(&old).await.expect("reads"), copy_of(&old)),
        (Bytes::from_static(b"any"), None)
    );
}

#[tokio::test]
async fn what_is_damaged_on_the_way_is_read_again() {
    let faulty = FaultyStore::new(memory());
    let store: Arc<dyn Store> = faulty.clone();
    let one = open(&store, 1).await;
    for _ in 0..3 {
        one.commit(adding(vec![block(Table::Logs, 1, 2)])).await.expect("commits");
    }
    for fault in [ReadFault::Torn, ReadFault::Flipped, ReadFault::Slow] {
        let mut left = 1;
        faulty.choose_reads(move |key| {
            let is_meant = key.starts_with(CatalogPath::LOG_PREFIX) && key.ends_with(".json") && left > 0;
            is_meant.then(|| left -= 1).map(|()| fault)
        });
        assert_eq!(open(&store, 2).await.snapshot(), one.snapshot(), "{fault:?}");
    }
    faulty.choose_reads(|key| key.starts_with(CatalogPath::LOG_PREFIX).then_some(ReadFault::Fails));
    assert!(Catalog::open(store, node(2)).await.expect_err("down").retry_helps());
}
