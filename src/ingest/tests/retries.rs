//! Flushes that fail for good, and are tried again all the same.

use super::*;
use crate::storage::paths::CatalogPath;

/// A damaged record in the way of the next commit, which no attempt gets past until somebody takes it away.
async fn obstruct(ingest: &Ingest, store: &dyn Store) -> Key {
    let key = CatalogPath::Log(ingest.catalog().snapshot().seq() + 1).key();
    store.put(&key, Bytes::from_static(b"no record")).await.expect("put");
    key
}

#[tokio::test]
async fn a_flush_that_was_refused_is_due_again_without_new_rows() {
    let (inner, clock) = (memory(), clock());
    let faulty = FaultyStore::new(inner.clone());
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), faulty.clone(), clock.clone()).await;
    send(&ingest, "a", START).await;
    let obstacle = obstruct(&ingest, &*inner).await;
    ingest.flush().await;
    assert_eq!(ingest.status().problems.len(), 1, "{:?}", ingest.status());
    assert_eq!(texts(&seen(&ingest, &*inner, Table::Logs).await, "body"), ["a"], "it stays visible");

    // by itself, though nothing new comes; less often each time it fails, whatever else asks for a flush
    for seconds in [1, 2, 4] {
        clock.advance(seconds * SECOND - 1);
        assert!(!ingest.is_flush_due(), "{seconds} s are not over");
        clock.advance(1);
        assert!(ingest.is_flush_due(), "{seconds} s are over");
        ingest.flush().await;
    }
    clock.advance(8 * SECOND);
    inner.delete(&obstacle).await.expect("deleted");
    assert!(ingest.is_flush_due());
    ingest.flush().await;
    assert_eq!((ingest.status().head_rows, ingest.status().problems), (0, vec![]));
    clock.advance(HOUR);
    assert!(!ingest.is_flush_due(), "there is nothing left to flush");
    assert_eq!(texts(&seen(&ingest, &*inner, Table::Logs).await, "body"), ["a"]);
}
