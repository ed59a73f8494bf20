//! Two processes with copies of one data directory.

use super::*;
use crate::catalog::Life;

/// A process with a life of its own.
pub(super) async fn live(dir: &Path, store: Arc<dyn Store>, clock: Arc<ManualClock>) -> Result<Ingest, Error> {
    let node = NodeId::load_or_create(dir).expect("a node");
    let life = Life::new(dir, Duration::from_millis(20)).expect("a life");
    let catalog = Catalog::open(store.clone(), node).await.expect("a catalog").living(life);
    Ingest::open(parts(wal::Config::default(), Config::default(), dir, store, catalog, clock)).await
}

#[tokio::test]
async fn a_process_whose_place_another_has_taken_stops_with_all_that_it_acknowledged() {
    let (store, clock) = (memory(), clock());
    let (dir, copied) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let first = live(dir.path(), store.clone(), clock.clone()).await.expect("starts");
    for text in numbered(0..5) {
        send(&first, &text, START).await;
    }
    copy(dir.path(), copied.path());
    for text in numbered(5..10) {
        send(&first, &text, START).await;
    }
    // it sleeps; the other has five rows in common with it, takes more, and flushes as many positions
    let second = live(copied.path(), store.clone(), clock.clone()).await.expect("the first is silent");
    for text in numbered(10..20) {
        send(&second, &text, START).await;
    }
    second.flush().await;
    let rows = texts(&seen(&second, &*store, Table::Logs).await, "body");
    assert_eq!(rows, [numbered(0..5), numbered(10..20)].concat());

    // it wakes
    let told = tokio::spawn({
        let first = first.clone();
        async move { first.superseded().await }
    });
    first.flush().await;
    let told = told.await.expect("told");
    let wal = dir.path().join("wal");
    assert!(told.contains("log positions 1 to 10") && told.contains(wal.to_str().expect("a path")), "{told}");
    assert_eq!(first.status().problems.len(), 1);
    assert!(matches!(first.put_state("k", None).await, Err(Refused::Draining)));
    let rows: usize = first.view().head.iter().map(Rows::len).sum();
    assert_eq!(rows, 10, "a query still sees them");
    first.drain(Duration::from_secs(5)).await;
    drop(first);
    for _ in 0..2 {
        let refused = live(dir.path(), store.clone(), clock.clone()).await.expect_err("left behind");
        assert!(refused.to_string().contains("left behind"), "{refused}");
    }
    let (_, frames) = Wal::open(&wal, &wal::Config::default(), 0).expect("opens");
    assert_eq!(
        frames.map(|frame| frame.expect("whole").0).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>(),
        "nothing is lost"
    );
    let snapshot = second.catalog().refresh().await.expect("reads");
    assert_eq!(snapshot.flushed_lsn(second.catalog().node()), 15);
}
