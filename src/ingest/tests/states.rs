//! State documents in the store: what changed is written, and what is read is all of it, whatever happens in between.

use super::*;
use crate::catalog::{Commit, CommitKind, Forgotten};
use crate::storage::paths::CatalogPath;

/// More than is written whole.
const MANY: usize = 200;

fn set(ingest: &Ingest, n: usize, value: &str) {
    ingest.put_state_relaxed(&format!("stream/{n:04}"), Bytes::copy_from_slice(value.as_bytes()));
}

/// The documents, of which the first so many have another value.
fn expected(n_changed: usize) -> Vec<(String, Bytes)> {
    let value = |n: usize| Bytes::copy_from_slice(if n < n_changed { b"new" } else { b"as it was" });
    (0..MANY).map(|n| (format!("stream/{n:04}"), value(n))).collect()
}

fn parts(ingest: &Ingest) -> Vec<Key> {
    ingest.view().snapshot.nodes()[ingest.catalog().node()].states().cloned().collect()
}

async fn with_many(dir: &Path, store: Arc<dyn Store>) -> Ingest {
    let ingest = open(dir, store, clock()).await;
    for n in 0..MANY {
        set(&ingest, n, "as it was");
    }
    send(&ingest, "a", START).await;
    ingest.flush().await;
    ingest
}

#[tokio::test]
async fn a_flush_stores_what_changed_and_a_start_finds_all() {
    let (inner, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let mut ingest = with_many(dir.path(), inner.clone()).await;
    let whole = inner.get(&parts(&ingest)[0]).await.expect("there").len();
    for n in 0..20 {
        set(&ingest, n, "new");
        ingest.put_state(&format!("gone/{n}"), Some(Bytes::from_static(b"soon"))).await.expect("taken");
        ingest.put_state(&format!("gone/{}", n - n % 2), None).await.expect("taken");
        send(&ingest, "a", START).await;
        ingest.flush().await;
        let parts = parts(&ingest);
        let newest = inner.get(parts.last().expect("a part")).await.expect("there").len();
        assert!(parts.len() > 1 && newest < whole / 2, "{newest} of {whole}");
        if n % 7 == 6 {
            let before = ingest.states("");
            drop(ingest);
            ingest = open(dir.path(), inner.clone(), clock()).await;
            assert_eq!(ingest.states(""), before);
        }
        assert_eq!(ingest.states("stream/"), expected(n + 1));
    }
    assert_eq!(ingest.states("gone/").len(), 10);
    ingest.drain(Duration::from_secs(60)).await;
    drop(ingest);
    // what the log held is with the blocks: a disk that was lost takes nothing of it along
    std::fs::remove_dir_all(dir.path().join("wal")).expect("removed");
    let again = open(dir.path(), inner, clock()).await;
    assert_eq!((again.states("stream/"), again.states("gone/").len()), (expected(20), 10));
}

#[tokio::test]
async fn documents_that_another_node_has_taken_over_are_stored_whole_again() {
    let (inner, dirs) = (memory(), [(); 2].map(|()| tempfile::tempdir().expect("a directory")));
    let ingest = with_many(dirs[0].path(), inner.clone()).await;
    let other = open(dirs[1].path(), inner.clone(), clock()).await;
    for knows in [true, false] {
        set(&ingest, 0, if knows { "1" } else { "2" });
        ingest.flush().await;
        let taken = parts(&ingest);
        other.catalog().refresh().await.expect("reads");
        let forgets = Forgotten {
            node: ingest.catalog().node().clone(),
            state: taken.last().expect("a state").clone(),
        };
        let commit = Commit {
            forgets: vec![forgets],
            ..Commit::new(CommitKind::State, START)
        };
        other.catalog().commit(commit).await.expect("forgotten");
        // as the sweep would, a day later
        for key in taken {
            inner.delete(&key).await.expect("deleted");
        }
        if knows {
            ingest.catalog().refresh().await.expect("reads");
        }
        send(&ingest, "a", START).await;
        set(&ingest, 0, "new");
        ingest.flush().await;
        assert_eq!((parts(&ingest).len(), ingest.status().problems), (1, vec![]), "{knows}");
    }
    drop(ingest);
    let again = open(dirs[0].path(), inner.clone(), clock()).await;
    assert_eq!(again.states("stream/"), expected(1));
    let flaws = Catalog::flaws(&*inner, Some(&again.catalog().snapshot())).await.expect("looked at");
    assert_eq!(flaws, Vec::<String>::new());
}

#[tokio::test]
async fn whatever_write_fails_or_loses_its_answer_the_documents_are_whole() {
    for fault in [Fault::Before, Fault::After] {
        for what in [CatalogPath::STATE_PREFIX, CatalogPath::LOG_PREFIX] {
            let (inner, dir) = (memory(), tempfile::tempdir().expect("a directory"));
            let faulty = FaultyStore::new(inner.clone());
            let ingest = with_many(dir.path(), faulty.clone()).await;
            for n in 0..6 {
                let mut left = 2;
                faulty.choose(move |key| {
                    let is_meant = key.as_str().starts_with(what) && left > 0;
                    is_meant.then(|| left -= 1).map(|()| fault)
                });
                set(&ingest, n, "new");
                send(&ingest, "a", START).await;
                ingest.flush().await;
                let snapshot = Catalog::read(&*inner).await.expect("reads");
                let mut documents = BTreeMap::new();
                for key in snapshot.nodes()[ingest.catalog().node()].states() {
                    documents.extend(crate::ingest::states::read(&inner.get(key).await.expect("there")).expect("whole"));
                }
                let stored: Vec<(String, Bytes)> = documents
                    .into_iter()
                    .filter(|(key, _)| key.starts_with("stream/"))
                    .filter_map(|(key, value)| Some((key, value?)))
                    .collect();
                assert_eq!(stored, expected(n + 1), "{what} {fault:?}");
            }
        }
    }
}

/// A state in parts as the first program that knew them wrote it, for ever; the first part as programs before it did.
#[tokio::test]
async fn a_state_in_parts_of_format_4_is_read_for_ever() {
    let (inner, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let node = "01m84czme5m5m11s32179x3bz6";
    let name = |n: u32| format!("_catalog/state/0000000000000000000000000{n}.json");
    let objects = [
        (name(1), r#"{"group/a":"b25l","group/b":"b25l","group/c":"b25l","ledger":"W10="}"#.to_string()),
        (name(2), r#"{"group/a":"dHdv","group/b":null}"#.to_string()),
        (name(3), r#"{"group/b":"dGhyZWU=","group/c":null,"group/d":"dGhyZWU="}"#.to_string()),
        (
            "_catalog/log/00000000000000000001.json".into(),
            format!(
                r#"{{"v":1,"seq":1,"node":"{node}","id":"1","kind":"state","at_nanos":1,"state":"{}"}}"#,
                name(1)
            ),
        ),
        (
            "_catalog/log/00000000000000000002.json".into(),
            format!(
                r#"{{"v":4,"seq":2,"node":"{node}","id":"2","kind":"state","at_nanos":2,"state":"{}","state_parts":["{}"]}}"#,
                name(2),
                name(1)
            ),
        ),
        (
            "_catalog/log/00000000000000000003.json".into(),
            format!(
                r#"{{"v":4,"seq":3,"node":"{node}","id":"3","kind":"state","at_nanos":3,"state":"{}","state_parts":["{}","{}"]}}"#,
                name(3),
                name(1),
                name(2)
            ),
        ),
    ];
    for (key, text) in &objects {
        inner.put(&Key::parse(key).expect("legal"), text.clone().into()).await.expect("put");
    }
    std::fs::write(dir.path().join("node_id"), node).expect("written");
    let ingest = open(dir.path(), inner.clone(), clock()).await;
    let text = |(key, value): (String, Bytes)| format!("{key}={}", String::from_utf8_lossy(&value));
    let texts = |ingest: &Ingest| {
        ingest
            .states("")
            .into_iter()
            .map(text)
            .filter(|text| text.starts_with("group"))
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&ingest), ["group/a=two", "group/b=three", "group/d=three"]);
    assert_eq!(ingest.states("ledger"), []);
    ingest.put_state("group/a", None).await.expect("taken");
    ingest.drain(Duration::from_secs(60)).await;
    drop(ingest);
    let again = open(dir.path(), inner, clock()).await;
    assert_eq!(texts(&again), ["group/b=three", "group/d=three"]);
}
